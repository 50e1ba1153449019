"""Maximum diversity: the greatest value of ``2 1'w - w' zeta w`` that weights w >= 0 reach.

The maximum is found by growing a support. Given one, its weighting is solved exactly and points
of negative weight leave. Then the sums G = zeta w say what is missing: points with G < 1 would
raise the value, and the most lacking one around each point of the support joins. Every pass ends
with a lower and an upper bound, so that the search may stop early, and does not depend on n x n.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.linalg import LinAlgWarning
from sklearn.exceptions import ConvergenceWarning

from skmag._arrays import ArrayKind, as_numpy, resolve_device, rows_per_block
from skmag._hierarchy import Space, farthest_first
from skmag._input import MetricLike, build_similarity, check_2d, check_tol
from skmag._metrics import EPS
from skmag._similarity import Similarity
from skmag._solvers import CholeskyFactor, Factor, IndefiniteError, factor, is_on_a_line
from skmag._solvers._bounds import distance_error
from skmag._solvers._iterative_normalization import diversity_interval

# Points that the search begins with, spread over the set: what they cost is never felt.
_FIRST = 64
# Roundings of an entry of zeta beside that of its distance: two products and an exponential.
_ENTRY = 8
_TINY = torch.finfo(torch.float64).tiny
# Relative difference of two values that may be rounding.
_EVEN = 1e-13


@dataclass(frozen=True, eq=False)
class MaximumDiversity:
    """Maximum diversity of a finite metric space, and where it is reached.

    Made by :func:`maximum_diversity`; ``float(result)`` is its `value`.

    Parameters
    ----------
    value : float
        Maximum diversity, as computed.
    lower : float
        Proven lower bound, rounding included: the diversity of these weights.
    upper : float
        Proven upper bound, rounding included. Where the similarity matrix is not known to be
        positive definite, it is the number of distinct points, and `value` a local maximum.
    weights : array of shape (n_samples,)
        Non-negative weights with sum `value`, in input order and in the caller's kind of array;
        copies of a point share equally. Divided by `value` they are the distribution of greatest
        diversity. On the points that have any, they are the weighting of these points alone.
    support : ndarray of shape (n_support,)
        Rows of positive weight.

    References
    ----------
    T. Leinster, M. W. Meckes, "Maximizing diversity in biology and beyond" (2016), theorem 2.

    Examples
    --------
    >>> from skmag import maximum_diversity
    >>> result = maximum_diversity([[0.0, 0.0], [0.0, 0.1], [3.0, 0.0]])
    >>> float(result) == result.value
    True
    """

    value: float
    lower: float
    upper: float
    weights: Any = field(repr=False)
    support: np.ndarray = field(repr=False)

    def __float__(self) -> float:
        return self.value


def maximum_diversity(
    X: Any,
    *,
    t: float | str = 1.0,
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
    tol: float = 1e-9,
) -> MaximumDiversity:
    """Compute the maximum diversity, the effective number of points by non-negative weights.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
        Points, or their distances if ``metric="precomputed"``. Duplicates change nothing.
    t : float or "scale", default=1.0
        Positive scale that multiplies the distances; "scale" is one over the median distance.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`.
    metric_params : mapping, default=None
        Further arguments of the metric.
    device : str, torch.device or None, default=None
        As for :func:`weighting`.
    tol : float, default=1e-9
        Stop when no diversity can be greater by this share, rounding aside; between 0 and 1.

    Returns
    -------
    MaximumDiversity
        The value between its bounds, with the weights and the rows that have any.

    Raises
    ------
    ValueError
        If an argument is not usable; the message names it.
    numpy.linalg.LinAlgError
        If the similarity matrix is not positive definite on points that would be the support.

    Warns
    -----
    ConvergenceWarning
        If the support outgrows the memory before `tol` is met; the bounds hold all the same.

    Notes
    -----
    It is the greatest value over all distributions p of every diversity of order q at once,
    for q = 2 that of ``1 / (p' zeta p)``. It is at most the magnitude of a positive definite
    space, equals it where no weight is negative, as on the real line, and is in any case the
    magnitude of the points that the support consists of. The iterative normalization of
    "Approximating metric magnitude of point sets" converges to it, not to the magnitude.

    The time goes into exact solves on the support, which is a few points where t is small and
    nearly all of them where they are well separated.

    References
    ----------
    T. Leinster, M. W. Meckes, "Maximizing diversity in biology and beyond", Entropy 18 (2016),
    theorems 1 and 2. T. Leinster, E. Roff, "The maximum entropy of a metric space", Quarterly
    Journal of Mathematics 72 (2021).

    Examples
    --------
    Most points inside a cube of five dimensions are too close to others to get any weight:

    >>> import numpy as np
    >>> from skmag import magnitude, maximum_diversity
    >>> X = np.random.default_rng(0).uniform(size=(100, 5))
    >>> result = maximum_diversity(X)
    >>> f"{float(result):.3f} of {magnitude(X):.3f} on {len(result.support)} of 100 points"
    '2.805 of 3.069 on 26 of 100 points'
    """
    accuracy = check_tol(tol)
    array = check_2d(X, "X")
    similarity = build_similarity(array, t, metric, metric_params, resolve_device(device, array))
    with warnings.catch_warnings():
        # What close points do to each other's weights, the bounds take into account.
        warnings.simplefilter("ignore", LinAlgWarning)
        found = maximize(similarity, accuracy)
    if not found.converged:
        warnings.warn(
            f"The maximum diversity was not found to the relative tol={tol!r}: it lies between "
            f"{found.lower!r} and {found.upper!r}. The next support, of more than "
            f"{len(found.support)} points, cannot be solved in the memory that is free, or "
            "rounding leaves no more digits.",
            ConvergenceWarning,
            stacklevel=2,
        )
    rows = similarity.to_rows(found.weights / similarity.counts)
    support = np.flatnonzero(as_numpy(rows) > 0)
    weights = ArrayKind.of(array).wrap(rows)
    return MaximumDiversity(found.value, found.lower, found.upper, weights, support)


@dataclass(frozen=True)
class Maximum:
    """Weights of greatest diversity over the distinct points.

    Parameters
    ----------
    value, lower, upper : float
        As for :class:`MaximumDiversity`.
    weights : tensor of shape (n_points,)
        Non-negative weights.
    support : int64 tensor of shape (n_support,)
        Points of positive weight, in the order in which they joined.
    converged : bool
        Whether the bounds met the tolerance, but for rounding.
    """

    value: float
    lower: float
    upper: float
    weights: torch.Tensor
    support: torch.Tensor
    converged: bool


@dataclass(frozen=True)
class _Pass:
    """A support with the factor of its similarity, and what its weights miss."""

    support: torch.Tensor
    factor: Factor
    value: float
    weights: torch.Tensor
    sums: torch.Tensor
    nearest: torch.Tensor

    @property
    def least(self) -> float:
        """Least sum of a row; one at the maximum."""
        return float(self.sums.min())


def maximize(similarity: Similarity, tol: float) -> Maximum:
    """Maximize the diversity by a growing support, see the module's docstring.

    Parameters
    ----------
    similarity : Similarity
        The operator zeta.
    tol : float
        Relative distance of the bounds at which to stop.

    Returns
    -------
    Maximum
        Weights and bounds.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the similarity matrix of a support is not positive definite.
    """
    if is_on_a_line(similarity):
        return _on_the_line(similarity)
    first = _spread_points(similarity, tol)
    try:
        best = _solved(similarity, first, CholeskyFactor.prepare(similarity.taken(first)))
        converged, cautious = _is_best(best, tol), False
        value, least = best.value, best.least
        while not converged:
            joining = _lacking(best, tol)[: 1 if cautious else None]
            grown = torch.cat([best.support, joining])
            if not len(joining):
                break
            try:
                larger = best.factor.extended(similarity.taken(grown))
            except MemoryError:
                break
            before = torch.cat([best.weights[best.support], torch.zeros_like(best.sums[joining])])
            passed = _solved(similarity, grown, larger, before if cautious else None)
            # Where the last digit of the value is reached, its upper bound still falls.
            even = passed.value >= (1 - _EVEN) * value and passed.least > least
            if passed.value > value or even:
                best, cautious, converged = passed, False, _is_best(passed, tol)
                value, least = max(value, best.value), max(least, best.least)
            elif cautious:
                break  # rounding is all that is left
            else:
                cautious = True
    except IndefiniteError as error:
        raise np.linalg.LinAlgError(
            f"The similarity matrix under metric={similarity.metric.name!r} at "
            f"t={similarity.t!r} is not positive definite ({error}); the diversity of such a "
            "space has many local maxima, and the greatest is not computed. Choose a larger t."
        ) from error
    lower, upper = _proven(similarity, best)
    return Maximum(
        min(max(best.value, lower), upper), lower, upper, best.weights, best.support, converged
    )


def _on_the_line(similarity: Similarity) -> Maximum:
    """All weights are positive on the real line, where their sum has a closed form."""
    weights, value = factor(similarity, "line", similarity.device)[0].weighting()
    slack = (len(similarity) + _ENTRY) * EPS * value
    every = torch.arange(len(similarity), device=similarity.device)
    return Maximum(value, value - slack, value + slack, weights, every, True)


def _spread_points(similarity: Similarity, tol: float) -> torch.Tensor:
    """Points to begin with, far from each other."""
    space = Space(similarity.metric, similarity.points, similarity.table)
    traversal = farthest_first(space, _FIRST)
    # Closer points than this would bring nothing that `tol` can tell.
    apart = traversal.radii * similarity.t > tol
    return torch.from_numpy(traversal.order[apart]).to(similarity.device)


def _solved(
    similarity: Similarity,
    support: torch.Tensor,
    prepared: Factor,
    before: torch.Tensor | None = None,
) -> _Pass:
    """Solve on a support, without the points that get no positive weight.

    All of them leave at once, which nearly always raises the diversity. If `before` gives
    non-negative weights to start from, only those leave that stop the way from there to the
    solution, as in Lawson and Hanson's algorithm: then it rises in any case.
    """
    own, value = prepared.weighting()
    while not bool((own > 0).all()):
        stay = own > 0
        if before is not None:
            step = torch.where(stay, torch.inf, before / (before - own).clamp_min(_TINY))
            way = float(step.min())
            stay |= step > way
            before = torch.where(stay, before + way * (own - before), 0.0)[stay]
        kept = torch.nonzero(stay)[:, 0]
        support = support[kept]
        prepared = prepared.dropped(similarity.taken(support), kept)
        own, value = prepared.weighting()
    weights = torch.zeros_like(similarity.counts)
    weights[support] = own
    return _Pass(support, prepared, value, weights, *_sums(similarity, support, own))


def _sums(
    similarity: Similarity, support: torch.Tensor, own: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums zeta w of weights on a support, and its member nearest to each point."""
    n = len(similarity)
    sums = torch.zeros_like(similarity.counts)
    least = torch.full_like(sums, torch.inf)
    nearest = torch.zeros(n, dtype=torch.int64, device=similarity.device)
    start = 0
    for part in support.split(rows_per_block(32 * n, 256, similarity.device)):
        distance = similarity.distances_of(part)
        value, place = distance.min(0)
        closer = value < least
        nearest[closer] = place[closer] + start
        least = torch.minimum(least, value)
        sums += own[start : start + len(part)] @ torch.exp(distance * -similarity.t)
        start += len(part)
    return sums, nearest


def _lacking(found: _Pass, tol: float) -> torch.Tensor:
    """Points whose sums are too small by what `tol` can tell, one around each of the support."""
    sums = found.sums.clone()
    sums[found.support] = 1.0
    lacking = torch.nonzero(sums < 1 - tol / 4)[:, 0]
    lacking = lacking[sums[lacking].argsort(stable=True)]
    first = np.unique(as_numpy(found.nearest[lacking]), return_index=True)[1]
    return lacking[torch.from_numpy(np.sort(first)).to(lacking.device)]


def _is_best(found: _Pass, tol: float) -> bool:
    lower, upper = diversity_interval(found.weights, found.sums)
    return upper <= (1 + tol) * lower


def _proven(similarity: Similarity, found: _Pass) -> tuple[float, float]:
    """Bounds of :func:`diversity_interval` with rounding, and those that always hold."""
    n = len(similarity)
    n_features = 0 if similarity.points is None else similarity.points.shape[1]
    # x exp(-x) <= 1/e turns the relative error of a distance into one of zeta; all terms of the
    # sums are positive, so that their rounding is relative.
    entry = (distance_error(similarity.metric, n_features) + 2 * EPS) / math.e + _ENTRY * EPS
    slack = entry * float(found.weights.sum()) * (1 + n * EPS)
    rounding = (2 * n + _ENTRY) * EPS
    total = float(found.weights.sum())
    form = float(found.weights @ (found.sums + slack)) * (1 + rounding)
    lower = max(1.0, total * (total / form) * (1 - rounding))
    least = float(found.sums.min()) * (1 - rounding) - slack
    if not similarity.metric.positive_definite or least <= 0:
        return lower, float(n)
    return lower, max(lower, min(float(n), form / least / least * (1 + rounding)))
