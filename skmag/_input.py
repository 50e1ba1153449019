"""From a caller's arguments to validated tensors and the operator zeta."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import joblib
import numpy as np
import scipy.sparse as sp
import torch

from skmag._arrays import as_tensor, check_points
from skmag._metrics import Metric, check_distances, check_non_negative, resolve_metric
from skmag._scale import check_scale, resolve_scale
from skmag._similarity import Similarity

MetricLike = str | Callable[..., float]


def build_similarity(
    array: Any,
    t: Any,
    metric: MetricLike,
    metric_params: Mapping[str, Any] | None,
    device: torch.device,
    *,
    purpose: str = "weighting",
    name: str = "X",
) -> Similarity:
    """Return the operator zeta of a validated `array`, with "scale" resolved for `purpose`."""
    scale = check_scale(t)
    resolved = resolve_metric(metric, metric_params, array)
    similarity = Similarity.of(validated_tensor(array, resolved, device, name), resolved, name=name)
    median = similarity.median_distance() if scale is None else 1.0
    return similarity.at(resolve_scale(scale, purpose, median))


def validated_tensor(
    array: Any, metric: Metric, device: torch.device, name: str = "X"
) -> torch.Tensor:
    """Return a validated array as a tensor that belongs to us; check precomputed distances."""
    data = as_tensor(array, device)
    if metric.precomputed:
        check_distances(data, name, rounding_of(array))
    return data


def query_tensor(
    queries: Any, name: str, metric: Metric, columns: int, device: torch.device
) -> torch.Tensor:
    """Return validated queries as a factor takes them; refuse a wrong number of columns.

    Parameters
    ----------
    queries : array of shape (n_queries, columns)
        Points, or their distances to the rows of X.
    name : str
        Argument to blame.
    metric : Metric
        Distance between points.
    columns : int
        Features of X, or rows of X for precomputed distances.
    device : torch.device
        Where the factor lives.

    Returns
    -------
    tensor of shape (n_queries, columns)
        Prepared queries.
    """
    if queries.shape[1] != columns:
        what = "one distance for each row" if metric.precomputed else "as many features as X"
        raise ValueError(f"{name} has {queries.shape[1]} columns, expected {columns}: {what}")
    data = as_tensor(queries, device)
    if metric.precomputed:
        check_non_negative(data, name)
        return data
    return metric.points(data, name)


def check_2d(values: Any, name: str) -> Any:
    """Validate points or distances; refuse sparse and empty input by name."""
    if sp.issparse(values):
        raise ValueError(
            f"{name} is sparse ({type(values).__name__}); distances need dense points, pass "
            f"{name}.toarray()"
        )
    shape: Sequence[int] | None = getattr(values, "shape", None)
    if (shape is not None and 0 in tuple(shape)) or (isinstance(values, list) and not values):
        found = tuple(shape) if shape is not None else (0,)
        raise ValueError(f"{name} is empty, its shape is {found}; at least one point is needed")
    return check_points(values, name)


def check_tol(tol: Any) -> float:
    """Return a relative tolerance as a float; refuse what is not between 0 and 1."""
    real = isinstance(tol, (Real, np.number)) and not isinstance(tol, (bool, np.bool_))
    if not real or not 0 < float(tol) < 1:
        raise ValueError(f"tol={tol!r} must be a number between 0 and 1, both excluded")
    return float(tol)


def rounding_of(array: Any) -> float:
    """Asymmetry that counts as rounding in a table of this precision."""
    return 1e-5 if "float32" in str(getattr(array, "dtype", "")) else 1e-10


def fitted_with(estimator: Any, names: Sequence[str]) -> dict[str, Any]:
    """Parameters of an estimator as they are now, to compare later."""
    return {name: getattr(estimator, name) for name in names}


def check_continued(estimator: Any, before: Mapping[str, Any]) -> None:
    """Raise ValueError if a parameter has changed since `before`, from :func:`fitted_with`."""
    for name, value in before.items():
        now = getattr(estimator, name)
        if now is not value and joblib.hash(now) != joblib.hash(value):
            raise ValueError(
                f"partial_fit goes on with {name}={value!r}, but it has been set to {now!r}; call "
                "fit to begin anew"
            )


def holds_points(estimator: Any) -> bool:
    """Whether more points may join an estimator; raise AttributeError where it holds distances."""
    if estimator.metric == "precomputed":
        raise AttributeError(
            "partial_fit needs points, which metric='precomputed' does not hold; use fit with the "
            "distances between all rows"
        )
    return True
