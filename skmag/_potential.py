"""How well points are represented by a set, and by each class relative to the whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from skmag._arrays import ArrayKind, as_numpy, resolve_device
from skmag._class_answers import ClassAnswers, class_similarities
from skmag._input import MetricLike, check_2d, check_tol, query_tensor, validated_tensor
from skmag._metrics import resolve_metric
from skmag._scale import check_scale, resolve_scale
from skmag._similarity import Similarity
from skmag._solvers import Probe
from skmag._weighting import weighting


def magnitude_potential(
    X: Any,
    Z: Any = None,
    *,
    t: float | str = 1.0,
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    solver: str = "auto",
    tol: float = 1e-6,
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
    tol : float, default=1e-6
        Relative tolerance of the magnitude, for solvers that iterate; between 0 and 1.
    device : str, torch.device or None, default=None
        As for :func:`weighting`.

    Returns
    -------
    array of shape (n_queries,) or (n_samples,)
        Potentials ``zeta(z, X) w``.

    Raises
    ------
    ValueError
        If an argument is not usable; the message names it.
    MemoryError
        If the factor does not fit.
    numpy.linalg.LinAlgError
        If the similarity matrix has no inverse.

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
        X, t=t, metric=metric, metric_params=metric_params, solver=solver, tol=tol, device=device
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
    tol: float = 1e-6,
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
        As for :class:`MagnitudeClassifier`: beyond 5,000 points near points may answer.
    tol : float, default=1e-6
        Relative tolerance of the magnitude, for solvers that iterate; between 0 and 1.
    device : str, torch.device or None, default=None
        As for :func:`weighting`.

    Returns
    -------
    array of shape (n_queries, n_classes) or (n_samples, n_classes)
        Potential under each class divided by the potential under all of `X`; columns follow the
        sorted classes of `y`. NaN where both potentials underflow to zero.

    Raises
    ------
    ValueError
        If an argument is not usable; the message names it.
    MemoryError
        If the factor does not fit.
    numpy.linalg.LinAlgError
        If the similarity matrix has no inverse.

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
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise ValueError("y holds NaN, which is no class")
    resolved = resolve_metric(metric, metric_params, array)
    data = validated_tensor(array, resolved, place)
    every, whole = np.arange(len(data)), Similarity.of(data, resolved)
    scale = check_scale(t)
    median = whole.median_distance() if scale is None else 1.0
    scale = resolve_scale(scale, "weighting", median)
    total = ClassAnswers.of([whole], [every], [scale], solver, place, tol=check_tol(tol))
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    parts = class_similarities(data, rows, resolved)
    classes = ClassAnswers.of(parts, rows, [scale] * len(rows), solver, place, tol=tol)
    if Z is None:
        points = data if resolved.precomputed else resolved.points(data, "X")
        return kind.wrap(_ratios(classes, total, lambda of, c: of.training_probe(c, points, every)))
    queries = check_2d(Z, "Z")
    asked = query_tensor(queries, "Z", resolved, data.shape[1], data.device)
    return ArrayKind.of(queries).wrap(
        _ratios(classes, total, lambda of, c: of.parts[c].probe(of.queries(c, asked)))
    )


def _ratios(
    classes: ClassAnswers, total: ClassAnswers, ask: Callable[[ClassAnswers, int], Probe]
) -> torch.Tensor:
    """Potential under each class over the potential under the whole, one column a class."""
    columns = [ask(classes, c).potential for c in range(len(classes.parts))]
    return torch.stack(columns, 1) / ask(total, 0).potential[:, None]
