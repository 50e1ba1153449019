"""How well points are represented by a set, and by each class relative to the whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from skmag._answers import Answers
from skmag._arrays import ArrayKind, as_numpy, resolve_device
from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._weighting import (
    MetricLike,
    Weighting,
    build_similarity,
    check_2d,
    validated_tensor,
    weighting,
)


def magnitude_potential(
    X: Any,
    Z: Any = None,
    *,
    t: float | str = 1.0,
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    solver: str = "auto",
    device: str | torch.device | None = None,
) -> Any:
    """Compute how well points are represented by a set.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
        The set, or its distances if ``metric="precomputed"``.
    Z : array-like of shape (n_queries, n_features) or (n_queries, n_samples), default=None
        Points to ask about. None asks about the points of `X`, each left out (with its copies)
        of the set that answers: of itself, a set represents every point with potential 1.
    t : float or "scale", default=1.0
        Positive scale that multiplies the distances; "scale" is one over the median distance.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`.
    metric_params : mapping, default=None
        Further arguments of the metric.
    solver : str, default="auto"
        As for :func:`weighting`.
    device : str, torch.device or None, default=None
        As for :func:`weighting`.

    Returns
    -------
    array of shape (n_queries,) or (n_samples,)
        Potentials ``zeta(z, X) w``.

    References
    ----------
    S. Torkamani, H. Gouk, R. Sarkar, "Generalization in neural networks through the lens of
    magnitude potential".

    Examples
    --------
    >>> from skmag import magnitude_potential
    >>> magnitude_potential([[0.0], [1.0]], [[0.0], [0.5], [3.0]]).round(4)
    array([1.    , 0.8868, 0.1353])
    """
    space = weighting(
        X, t=t, metric=metric, metric_params=metric_params, solver=solver, device=device
    )
    return space.leave_one_out().potential if Z is None else space.potential(Z)


def magnitude_potential_ratio(
    X: Any,
    y: Any,
    Z: Any = None,
    *,
    t: float | str = 1.0,
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    solver: str = "auto",
    device: str | torch.device | None = None,
) -> Any:
    """Compute how well points are represented by each class, relative to all the data.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
        All the data, or its distances if ``metric="precomputed"``.
    y : array-like of shape (n_samples,)
        Class of each row.
    Z : array-like of shape (n_queries, n_features) or (n_queries, n_samples), default=None
        Points to ask about. None asks about the rows of `X`, each left out (with its copies) of
        its own class and of the whole.
    t : float or "scale", default=1.0
        Positive scale, one for all classes; "scale" is one over the median distance in `X`.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`.
    metric_params : mapping, default=None
        Further arguments of the metric.
    solver : str, default="auto"
        As for :func:`weighting`.
    device : str, torch.device or None, default=None
        As for :func:`weighting`.

    Returns
    -------
    array of shape (n_queries, n_classes) or (n_samples, n_classes)
        Potential under each class divided by the potential under all of `X`; columns follow the
        sorted classes of `y`.

    References
    ----------
    S. Torkamani, H. Gouk, R. Sarkar, "Generalization in neural networks through the lens of
    magnitude potential".

    Examples
    --------
    >>> from skmag import magnitude_potential_ratio
    >>> X, y = [[0.0], [1.0], [8.0], [9.0]], [0, 0, 1, 1]
    >>> magnitude_potential_ratio(X, y).round(3)
    array([[1.   , 0.001],
           [0.998, 0.002],
           [0.002, 0.998],
           [0.001, 1.   ]])
    """
    array = check_2d(X, "X")
    kind, place = ArrayKind.of(array), resolve_device(device, array)
    labels = as_numpy(y)
    if labels.shape != (len(array),):
        raise ValueError(f"y has shape {labels.shape}, expected ({len(array)},): one class a row")
    similarity = build_similarity(array, t, metric, metric_params, place)
    whole = Weighting(Answers.of(similarity, solver, place), kind)
    parts = _class_weightings(array, labels, whole, metric, metric_params, solver, place)
    if Z is not None:
        queries = check_2d(Z, "Z")
        answers = [_class_potential(part, rows, queries, metric) for rows, part in parts]
        total = torch.as_tensor(as_numpy(whole.potential(queries)))
        return ArrayKind.of(queries).wrap(torch.stack(answers, 1) / total[:, None])
    columns = []
    for rows, part in parts:
        column = _class_potential(part, rows, array, metric)
        column[torch.from_numpy(rows)] = torch.as_tensor(as_numpy(part.leave_one_out().potential))
        columns.append(column)
    total = torch.as_tensor(as_numpy(whole.leave_one_out().potential))
    return kind.wrap(torch.stack(columns, 1) / total[:, None])


def _class_weightings(
    array: Any,
    labels: np.ndarray,
    whole: Weighting,
    metric: MetricLike,
    metric_params: Mapping[str, Any] | None,
    solver: str,
    device: torch.device,
) -> list[tuple[np.ndarray, Weighting]]:
    """Rows and weighting of each class, at the scale of the whole."""
    resolved = resolve_metric(metric, metric_params, array)
    data = validated_tensor(array, resolved, device)
    parts = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        own = data[rows][:, rows] if resolved.precomputed else data[rows]
        part = Similarity.of(own, resolved, whole.t)
        parts.append((rows, Weighting(Answers.of(part, solver, device), ArrayKind())))
    return parts


def _class_potential(
    part: Weighting, rows: np.ndarray, queries: Any, metric: MetricLike
) -> torch.Tensor:
    data = queries[:, rows] if metric == "precomputed" else queries
    return part.probe(part.query_tensor(data)).potential.cpu()
