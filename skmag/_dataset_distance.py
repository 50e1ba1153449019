"""How far two sets are apart, by what each would add to the magnitude of the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from numbers import Real
from typing import Any

import numpy as np
import torch
from sklearn.utils.parallel import Parallel, delayed

from skmag._answers import Answers
from skmag._arrays import as_tensor
from skmag._input import MetricLike
from skmag._scale import check_scale, check_scales, resolve_scale
from skmag._similarity import Similarity
from skmag._solvers import factor
from skmag._union import Union, checked_sets, distinct_rows, shared_metric

_AGGREGATES = (None, "sum", "mean")


def magnitude_distance(
    X: Any,
    Y: Any,
    *,
    t: Any = "scale",
    normalized: bool = False,
    aggregate: str | None = None,
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    solver: str = "auto",
    device: str | torch.device | None = None,
) -> Any:
    """Compute the magnitude distance between two sets of points.

    It is ``2 Mag(X u Y) - Mag(X) - Mag(Y)`` at scale t: what each set would add to the magnitude
    of the other. It is zero if and only if the sets are :func:`magnitude_equivalent`, and it is
    not a metric: the triangle inequality holds on the real line only.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Points. Copies and the order of rows change nothing.
    Y : array-like of shape (m_samples, n_features)
        Other points, of the same features.
    t : float, "scale" or sequence of these, default="scale"
        Positive scale that multiplies the distances, or a grid of scales. "scale" is one over the
        median distance between distinct points of the union.
    normalized : bool, default=False
        Whether to divide by the magnitude of the union. The distance of sets that are far apart
        then tends to 1.
    aggregate : {"sum", "mean"} or None, default=None
        What to make of a grid of scales; None gives one distance for each scale.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`, but not "precomputed". "seuclidean" and "mahalanobis" learn from
        the distinct points of both sets. Under a metric that is not of negative type the distance
        can be negative; a :class:`NotPositiveDefiniteWarning` tells.
    metric_params : mapping, default=None
        Further arguments of the metric.
    solver : str, default="auto"
        As for :func:`weighting`.
    device : str, torch.device or None, default=None
        As for :func:`weighting`; None follows `X`.

    Returns
    -------
    float or array of shape (n_scales,)
        The distance, zero for equal sets and symmetric to the last bit; for a grid that is not
        aggregated, one for each scale, in the caller's kind of array.

    Raises
    ------
    ValueError
        If an argument is not usable; the message names it.
    MemoryError
        If the factor of the union does not fit.
    numpy.linalg.LinAlgError
        If a similarity matrix has no inverse.

    See Also
    --------
    pairwise_magnitude_distances : Distances between many sets.
    magnitude_equivalent : Whether the distance of two sets is zero.

    Notes
    -----
    A value says nothing about whether two samples come from one distribution: two samples of the
    same one are at a distance, too. :func:`magnitude_two_sample_test` tells.

    The factor of the union gives two of the three magnitudes, and their difference as a sum of
    squares, so that small distances keep their digits. The third comes from a factor of its own,
    or, where the difference would lose more than three digits, from a second order of the union.
    The relative error is about 1e-15, times the ratio of the sets' extent to the smallest distance
    in the union, at every t. Solvers "mixed" and "indefinite" only subtract magnitudes.

    References
    ----------
    S. Torkamani, H. Gouk, R. Sarkar, "Magnitude distance: a geometric measure of dataset
    similarity", Definition 4.2 and section 6 (sums over scales).

    Examples
    --------
    >>> from skmag import magnitude_distance
    >>> X, Y = [[0.0], [1.0]], [[0.0], [3.0]]
    >>> round(magnitude_distance(X, Y, t=1.0), 6)
    1.080157
    >>> magnitude_distance(X, X[::-1], t=1.0)
    0.0
    >>> magnitude_distance(X, Y, t=[0.1, 1.0, 10.0]).round(3)
    array([0.1 , 1.08, 2.  ])
    """
    if aggregate not in _AGGREGATES:
        raise ValueError(f"aggregate={aggregate!r} is unknown; use one of {list(_AGGREGATES)}")
    one = _is_one_scale(t)
    scales = [check_scale(t)] if one else check_scales(t, "t")
    (first, second), kind, place = checked_sets([X, Y], ["X", "Y"], device)
    resolved = shared_metric([first, second], metric, metric_params)
    union = Union.of(as_tensor(first, place), as_tensor(second, place), resolved)
    found = _distances(union, scales, normalized, solver, place)
    if one:
        return float(found[0])
    if aggregate is not None:
        return float(found.sum() if aggregate == "sum" else found.mean())
    return kind.wrap(found)


def pairwise_magnitude_distances(
    datasets: Sequence[Any],
    *,
    t: float | str = "scale",
    normalized: bool = False,
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    solver: str = "auto",
    device: str | torch.device | None = None,
    n_jobs: int | None = None,
) -> Any:
    """Compute the magnitude distances between all pairs of some sets.

    Parameters
    ----------
    datasets : sequence of array-likes of shape (n_samples_i, n_features)
        The sets, of the same features.
    t : float or "scale", default="scale"
        Positive scale that multiplies the distances; "scale" is one over the median distance
        between distinct points of all sets.
    normalized : bool, default=False
        Whether to divide by the magnitudes of the unions.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`, but not "precomputed".
    metric_params : mapping, default=None
        Further arguments of the metric.
    solver : str, default="auto"
        As for :func:`weighting`.
    device : str, torch.device or None, default=None
        As for :func:`weighting`; None follows the first set.
    n_jobs : int, default=None
        Number of pairs that are worked on in parallel threads.

    Returns
    -------
    array of shape (n_datasets, n_datasets)
        Symmetric, with zeros on the diagonal, for estimators with ``metric="precomputed"``; in
        the kind of array that the sets are.

    Raises
    ------
    ValueError
        If an argument is not usable; the message names it.
    MemoryError
        If the factor of a union does not fit.
    numpy.linalg.LinAlgError
        If a similarity matrix has no inverse.

    References
    ----------
    S. Torkamani, H. Gouk, R. Sarkar, "Magnitude distance: a geometric measure of dataset
    similarity", Definition 4.2.

    Examples
    --------
    Months of a year, clustered by how their days were:

    >>> import numpy as np
    >>> from sklearn.cluster import AgglomerativeClustering
    >>> from skmag import pairwise_magnitude_distances
    >>> rng = np.random.default_rng(0)
    >>> months = [rng.normal(3 * (5 <= month < 9), 1, size=(30, 2)) for month in range(1, 13)]
    >>> D = pairwise_magnitude_distances(months)
    >>> model = AgglomerativeClustering(2, metric="precomputed", linkage="average").fit(D)
    >>> summer = model.labels_[5]
    >>> (np.flatnonzero(model.labels_ == summer) + 1).tolist()
    [5, 6, 7, 8]
    """
    given = list(datasets)
    if not given:
        raise ValueError("datasets is empty; give at least one set")
    scale = check_scale(t)
    names = [f"datasets[{i}]" for i in range(len(given))]
    sets, kind, place = checked_sets(given, names, device)
    resolved = shared_metric(sets, metric, metric_params)
    tensors = [as_tensor(own, place) for own in sets]
    if scale is None:
        every = as_tensor(distinct_rows(sets), place)
        median = Similarity.of(every, resolved, name="datasets").median_distance()
        scale = resolve_scale(None, "distance", median)

    def distance(i: int, j: int) -> float:
        union = Union.of(tensors[i], tensors[j], resolved)
        return float(_distances(union, [scale], normalized, solver, place)[0])

    pairs = list(combinations(range(len(sets)), 2))
    found = Parallel(n_jobs=n_jobs, prefer="threads")(delayed(distance)(*pair) for pair in pairs)
    out = np.zeros((len(sets), len(sets)))
    for (i, j), value in zip(pairs, found, strict=True):
        out[i, j] = out[j, i] = value
    return kind.wrap(out)


def magnitude_equivalent(
    X: Any,
    Y: Any,
    *,
    t: float | str = "scale",
    tol: float = 1e-9,
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    solver: str = "auto",
    device: str | torch.device | None = None,
) -> bool:
    """Tell whether two sets have the same points of non-zero weight.

    This is what makes their magnitude distance zero.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Points.
    Y : array-like of shape (m_samples, n_features)
        Other points, of the same features.
    t : float or "scale", default="scale"
        Positive scale that multiplies the distances; "scale" is one over the median distance
        between distinct points of the union.
    tol : float, default=1e-9
        Absolute weight up to which a weight counts as zero.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`, but not "precomputed".
    metric_params : mapping, default=None
        Further arguments of the metric.
    solver : str, default="auto"
        As for :func:`weighting`.
    device : str, torch.device or None, default=None
        As for :func:`weighting`; None follows `X`.

    Returns
    -------
    bool
        Whether the sets are magnitude-equivalent at scale t.

    Raises
    ------
    ValueError
        If an argument is not usable; the message names it.
    MemoryError
        If a factor does not fit.
    numpy.linalg.LinAlgError
        If a similarity matrix has no inverse.

    References
    ----------
    S. Torkamani, H. Gouk, R. Sarkar, "Magnitude distance: a geometric measure of dataset
    similarity", Definition 5.1 and Theorem 5.2.

    Examples
    --------
    >>> from skmag import magnitude_equivalent
    >>> magnitude_equivalent([[0.0], [1.0]], [[1.0], [0.0], [0.0]])
    True
    >>> magnitude_equivalent([[0.0], [1.0]], [[0.0], [1.0], [0.5]])
    False
    """
    if not isinstance(tol, Real) or isinstance(tol, bool) or not tol >= 0:
        raise ValueError(f"tol={tol!r} must be a number of at least zero")
    scale = check_scale(t)
    (first, second), _, place = checked_sets([X, Y], ["X", "Y"], device)
    resolved = shared_metric([first, second], metric, metric_params)
    union = Union.of(as_tensor(first, place), as_tensor(second, place), resolved)
    if _nothing_between(union, solver, place):
        return True
    points = union.at(_resolved_scale(scale, union)).similarity
    heavy = [_heavy(points, part, solver, place, tol) for part in (union.first, union.second)]
    return heavy[0] == heavy[1]


def _is_one_scale(t: Any) -> bool:
    return isinstance(t, (str, Real)) or getattr(t, "ndim", None) == 0


def _resolved_scale(scale: float | None, union: Union) -> float:
    median = union.similarity.median_distance() if scale is None else 1.0
    return resolve_scale(scale, "distance", median)


def _distances(
    union: Union,
    scales: Sequence[float | None],
    normalized: bool,
    solver: str,
    device: torch.device,
) -> np.ndarray:
    """Magnitude distance of the two sets of a union at each scale."""
    out = np.zeros(len(scales))
    if _nothing_between(union, solver, device):
        return out
    union = union if len(scales) == 1 else union.with_table()
    for i, scale in enumerate(scales):
        at = union.at(_resolved_scale(scale, union))
        whole, beyond_first, beyond_second = at.growths(solver, device)
        out[i] = (beyond_first + beyond_second) / (whole if normalized else 1.0)
    return out


def _heavy(
    points: Similarity, part: torch.Tensor, solver: str, device: torch.device, tol: float
) -> set[int]:
    """Points of a part of the union whose weight in that part is not zero."""
    answers = Answers.of(points.taken(part), solver, device)
    # Points that a solver had to merge share a weight.
    weights = answers.similarity.to_rows(answers.weights / answers.similarity.counts)
    return set(part[weights.abs() > tol].tolist())


def _nothing_between(union: Union, solver: str, device: torch.device) -> bool:
    """Whether the sets are equal; a solver that does not fit them is refused all the same."""
    if union.equal:
        factor(union.similarity.taken(union.first[:1]), solver, device)
    return union.equal
