"""Two levels for many points of low dimension: centers are exact, a sparse factor does the rest.

With w_S the weighting of the centers S and rho = 1 - zeta w_S, which is zero on S,

    magnitude = Mag(S) + rho' zeta^-1 rho,

and a sparse factor U U' of zeta^-1 takes the place of zeta^-1 in the second term, which is small.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from skmag._arrays import as_numpy, block_slices, scaled_exp
from skmag._metrics import Metric
from skmag._similarity import Similarity
from skmag._solvers._base import IndefiniteError
from skmag._solvers._bounds import magnitude_upper_bound
from skmag._solvers._certificate import certify, with_anchor
from skmag._solvers._dimension import has_coordinates, neighborhood
from skmag._solvers._parameters import check_positive_integer
from skmag._solvers._products import tile_shape
from skmag._solvers._solution import Certificate, Solution
from skmag._solvers._sparse_inverse import SparseInverse

# Centers of the first round, and conditioning points.
_CENTERS = 1000
_NEIGHBORS, _MANY_NEIGHBORS = 20, 30
# Intrinsic dimension from which more neighbours are needed to surround a point, and up to which
# so few columns of U carry the error that a sample may miss them all.
_SPACE, _CURVE = 2.5, 1.5
# Standard errors within the tolerance. In 54 runs with 4,000 points (six sets of dimension two and
# three, three scales, three orders each) the error was at most 3.4 of them: no bound.
_SAFETY = 3
# Most centers, in terms of the first ones.
_GROWTH = 4
# Residual rows that are sampled: at least so many, or one for each center; fewer of them tell
# whether more centers are needed.
_SAMPLED_ROWS = 2000
_PILOT_SHARE = 0.25
# Error in units of the tolerance beyond which more centers are taken without a full sample, and
# beyond which these are doubled twice.
_HOPELESS, _FAR = 2, 8


def solve_sparse(
    similarity: Similarity,
    *,
    tol: float,
    start: torch.Tensor | None = None,
    n_centers: int | None = None,
    n_neighbors: int | None = None,
    random_state: int = 0,
    canonical: bool = False,
) -> Solution:
    """Solve on centers exactly, with a sparse factor beyond them, and estimate what is left.

    Half of the first centers cover the set evenly, the others are the points that add most to the
    magnitude of these. Further points of that kind become centers, in rounds, until the estimated
    error is within `tol` or there are four times the first ones; the neighbours that a point is
    conditioned on are never more than `n_neighbors`.

    Parameters
    ----------
    similarity : Similarity
        What is solved.
    tol : float
        Error, as a share of the magnitude, that three standard errors must not exceed.
    start : tensor of shape (n_points,), default=None
        Not used: nothing is iterated.
    n_centers : int, default=None
        Centers of the first round, a quarter of the most that are taken; None is 1000.
    n_neighbors : int, default=None
        Points that each other point is conditioned on; None is 20, or 30 where the intrinsic
        dimension is above 2.5. All other points, where there are no more.
    random_state : int, default=0
        Draws the order of the points and the sampled rows.
    canonical : bool, default=False
        Whether which of several neighbours at one distance counts, and which columns are sampled,
        follows from the order of the points alone, not from the search tree that holds them all.
        Another draw of the same accuracy, somewhat slower; :mod:`skmag.dask`, which has no such
        tree, gives these results.

    Returns
    -------
    Solution
        The magnitude is corrected by an unbiased estimate of the first-order term that is left,
        and of the second-order one with U U' for zeta^-1. The standard error is that of the
        sampling together with the second-order term and, for points on curves, with what another
        order of the points changes. The lower bound is proven, the upper one is the a priori
        bound.

    Raises
    ------
    ValueError
        If `n_centers` or `n_neighbors` is not a positive integer, or if the points have no
        coordinates that a KD-tree takes; public functions refuse such metrics before, as they are
        not known to be of negative type.
    """
    check_coordinates(similarity.metric)
    first = first_centers(n_centers)
    if n_neighbors is not None:
        check_positive_integer(n_neighbors, "n_neighbors")
    dimension = neighborhood(similarity).dimension
    width = neighbors_for(dimension, n_neighbors, len(similarity))

    def level(rng: np.random.Generator) -> _Level:
        n_even = evenly_spread(first)
        return _Level.of(SparseInverse.of(similarity, n_even, width, rng, canonical=canonical))

    return _solution(in_rounds(level, tol, first, dimension, random_state), tol)


def check_coordinates(metric: Metric) -> None:
    """Raise ValueError unless a KD-tree takes the points of a metric."""
    if not has_coordinates(metric):
        raise ValueError(
            f"solver='sparse' needs points under a norm or the cosine distance, not "
            f"metric={metric.name!r}; use solver='cholesky'"
        )


def first_centers(n_centers: int | None) -> int:
    """Centers of the first round."""
    return _CENTERS if n_centers is None else check_positive_integer(n_centers, "n_centers")


def evenly_spread(first: int) -> int:
    """How many of the first centers cover the set."""
    return max(1, (first + 1) // 2)


def neighbors_for(dimension: float, n_neighbors: int | None, n: int) -> int:
    """Points that each other one is conditioned on, of `n` points of an intrinsic dimension."""
    if n_neighbors is None:
        n_neighbors = _NEIGHBORS if dimension < _SPACE else _MANY_NEIGHBORS
    return min(n_neighbors, max(1, n - 1))


def in_rounds(
    level: Callable[[np.random.Generator], _Level],
    tol: float,
    first: int,
    dimension: float,
    random_state: int,
) -> _Found:
    """Solve from the first level, which `level` makes; on curves a second time to compare."""
    rng = np.random.default_rng(random_state)
    found = _solved(level(rng), tol, first, rng)
    if dimension < _CURVE:
        found = found.doubted(_solved(level(rng), tol, first, rng).estimate)
    return found


@dataclass(frozen=True)
class _Found:
    """A level, its weights and their estimate after some rounds."""

    level: _Level
    weights: torch.Tensor
    estimate: _Estimate
    n_rounds: int

    @property
    def details(self) -> dict[str, float]:
        """What is reported beside the magnitude."""
        return {
            "tail": float(self.level.y @ self.level.y),
            "n_centers": float(len(self.level.inverse.centers)),
            "n_neighbors": float(self.level.inverse.n_neighbors),
            "sampled_rows": float(self.estimate.n_rows),
        }

    def doubted(self, other: _Estimate) -> _Found:
        """Add the difference to an estimate from another order of the points to the error."""
        change = other.magnitude - self.estimate.magnitude
        error = math.hypot(self.estimate.standard_error, change)
        return replace(self, estimate=replace(self.estimate, standard_error=error))


def _solved(level: _Level, tol: float, first: int, rng: np.random.Generator) -> _Found:
    """Rounds with more and more centers, until the estimated error is within `tol`."""
    wanted, n_rounds = first, 0
    while True:
        level, n_rounds = level.enlarged(wanted), n_rounds + 1
        weights = level.weights()
        more = wanted < _GROWTH * first and len(level.inverse.centers) == wanted
        if more:
            error = _Estimate.of(level, weights, rng, _PILOT_SHARE).error / tol
            if error > _HOPELESS:
                wanted = min(_GROWTH * first, wanted * (4 if error > _FAR else 2))
                continue
        estimate = _Estimate.of(level, weights, rng)
        if not more or estimate.error <= tol:
            return _Found(level, weights, estimate, n_rounds)
        wanted = min(_GROWTH * first, 2 * wanted)


@dataclass(frozen=True)
class _Level:
    """The centers' weights and what they leave to the other points.

    What touches the points is in :meth:`beyond`, :meth:`residual` and :meth:`columns`; a level
    whose points are elsewhere has its own.

    Parameters
    ----------
    inverse : SparseInverse
        Centers and factor.
    centers : tensor of shape (n_points,)
        Weights w_S, zero elsewhere.
    y : tensor of shape (n_points - n_centers,)
        U' rho; its square is what each point adds to the magnitude.
    """

    inverse: SparseInverse
    centers: torch.Tensor
    y: torch.Tensor

    @classmethod
    def of(cls, inverse: SparseInverse) -> Self:
        chosen = inverse.centers
        ones = torch.ones(len(chosen), 1, dtype=torch.float64, device=chosen.device)
        w = torch.zeros(inverse.n_points, dtype=torch.float64, device=chosen.device)
        w[chosen] = inverse.solve_centers(ones)[:, 0]
        return cls(inverse, w, cls.beyond(inverse, w))

    @classmethod
    def beyond(cls, inverse: SparseInverse, w: torch.Tensor) -> torch.Tensor:
        """Return U' (1 - zeta w) for weights w that solve the rows of the centers."""
        others = inverse.points
        rho = torch.zeros_like(w)
        rho[others] = residual_rows(inverse.similarity, w, others, inverse.centers)
        return inverse.tail(rho)

    def residual(self, v: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Entries of 1 - zeta v for some points."""
        every = torch.arange(len(v), device=v.device)
        return residual_rows(self.inverse.similarity, v, points, every)

    def columns(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Points and values of some columns of U."""
        return self.inverse.indices[rows].to(torch.int64), self.inverse.values[rows]

    @property
    def magnitude(self) -> float:
        """Mag(S) and the tail."""
        return self.inverse.exact.magnitude() + float(self.y @ self.y)

    def enlarged(self, n_centers: int) -> Self:
        """Level with the points that add most as further centers, as far as float64 allows.

        At most as many as there are join at once: what adds most depends on who is in.
        """
        here = len(self.inverse.centers)
        joining = min(n_centers - here, here, len(self.y))
        if joining <= 0:
            return self
        try:
            inverse = self.inverse.promoted(self.inverse.greatest(self.y.abs(), joining))
        except IndefiniteError:
            return self
        return self.of(inverse).enlarged(n_centers)

    def weights(self) -> torch.Tensor:
        """All weights, after one correction that makes the residual zero on the centers."""
        chosen = self.inverse.centers
        v = self.centers + self.inverse.spread(self.y)
        left = self.residual(v, chosen)
        v[chosen] += self.inverse.solve_centers(left[:, None])[:, 0]
        return v


@dataclass(frozen=True)
class _Estimate:
    """The magnitude by sampled columns of U, and how far it may be off.

    For weights v whose residual r = 1 - zeta v is zero on the centers, and g = U' r,

        Mag = Mag(S) + y'y + sum over columns of (y_i g_i + g_i^2),

    the last term with U U' for zeta^-1; everything else is exact. A column costs the rows of zeta
    that belong to its points. With U U' in place of zeta^-1 the last term was seen to be off by up
    to 1.4 times itself, so that it is counted into the standard error.
    """

    magnitude: float
    standard_error: float
    n_rows: int

    @classmethod
    def of(
        cls, level: _Level, weights: torch.Tensor, rng: np.random.Generator, share: float = 1.0
    ) -> _Estimate:
        inverse = level.inverse
        if len(level.y) == 0:
            return cls(level.magnitude, 0.0, 0)
        rows = share * max(_SAMPLED_ROWS, len(inverse.centers))
        size = max(2, math.ceil(rows / (inverse.n_neighbors + 1)))
        columns, probability = _draw(level.y, size, rng)
        indices, values = level.columns(columns)
        points, place = torch.unique(indices, return_inverse=True)
        residual = level.residual(weights, points)
        g = (residual[place] * values).sum(1)
        first, second = level.y[columns] * g / probability, g * g / probability
        total = first + second
        sampling = float(total.std()) / math.sqrt(size)
        return cls(
            level.magnitude + float(total.mean()),
            math.hypot(sampling, float(second.mean())),
            len(points),
        )

    @property
    def error(self) -> float:
        """What the error is promised to be below, as a share of the magnitude."""
        return _SAFETY * self.standard_error / max(1.0, self.magnitude)


def _draw(
    y: torch.Tensor, size: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw columns, half by abs(y) and half evenly, one from each stratum of equal probability."""
    share = as_numpy(y.abs())
    total = share.sum()
    even = np.full(len(share), 1 / len(share))
    share = (share / total + even) / 2 if total > 0 else even
    cumulated = share.cumsum()
    place = (np.arange(size) + rng.random(size)) / size * cumulated[-1]
    drawn = np.minimum(cumulated.searchsorted(place, side="right"), len(share) - 1)
    return (
        torch.from_numpy(drawn).to(y.device),
        torch.from_numpy(share[drawn]).to(y.device),
    )


def residual_rows(
    similarity: Similarity, v: torch.Tensor, rows: torch.Tensor, support: torch.Tensor
) -> torch.Tensor:
    """Entries of 1 - zeta v for some points, where v is zero outside some others.

    Where zeta is nearly constant the anchored form keeps the digits (see
    :mod:`skmag._similarity`); the anchor's weight is then taken to be the one that solves the
    anchor's own row.

    Parameters
    ----------
    similarity : Similarity
        The operator; it holds points.
    v : tensor of shape (n_points,)
        Weights.
    rows, support : int64 tensors
        Points.

    Returns
    -------
    tensor of shape (n_rows,)
        The residual.
    """
    assert similarity.points is not None
    t, metric, anchored = similarity.t, similarity.metric, similarity.nearly_constant
    height, width = tile_shape(similarity.device)
    columns = [
        (similarity.points[part], t * similarity.anchor[part], v[part])
        for part in support.split(width)
    ]
    out = torch.empty(len(rows), dtype=v.dtype, device=v.device)
    for part in block_slices(len(rows), height):
        own = rows[part]
        points, a = similarity.points[own], t * similarity.anchor[own]
        left = torch.expm1(-a).neg_() if anchored else torch.ones_like(a)
        for others, b, weights in columns:
            entries = entries_between(metric, t, points, others, (a, b) if anchored else None)
            left.sub_(entries @ weights)
        out[part] = left
    return out


def entries_between(
    metric: Metric,
    t: float,
    points: torch.Tensor,
    others: torch.Tensor,
    anchors: tuple[torch.Tensor, torch.Tensor] | None,
) -> torch.Tensor:
    """Entries of zeta, or of S where t times both sides' distances to the anchor are given."""
    block = metric.block(points, others)
    if anchors is None:
        scaled_exp(block, -t, block)
        return block
    a, b = anchors
    block.mul_(t)
    room = (a[:, None] + b).sub_(block)
    return block.neg_().exp_().mul_(room.neg_().expm1_().neg_())


def _solution(found: _Found, tol: float) -> Solution:
    level, weights, estimate = found.level, found.weights, found.estimate
    inverse, similarity = level.inverse, level.inverse.similarity
    lower = certify(similarity.taken(inverse.centers), level.centers[inverse.centers]).lower
    upper = magnitude_upper_bound(similarity)
    if similarity.nearly_constant:
        weights = with_anchor(similarity, weights)
    certificate = Certificate(
        magnitude=min(max(estimate.magnitude, lower), upper),
        lower=lower,
        upper=upper,
        standard_error=estimate.standard_error,
        n_iter=found.n_rounds,
        converged=estimate.error <= tol,
    )
    return Solution(similarity, weights, certificate, "sparse", found.details, level.centers)
