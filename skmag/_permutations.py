"""Statistics of two samples, for every way in which their pooled rows are dealt out to the two.

The pooled points stay what they are, so that only parts of them are asked anew, in batches, and of
the two parts only the smaller one. With w and P = zeta^-1 of the pooled points and L the points
that only the smaller part X has, block inversion gives what the other part Y lacks,

    Mag(X u Y) - Mag(Y) = w_L' (P_LL)^-1 w_L,

and Mag(X u Y) - Mag(X) needs zeta over X: two factors of the size of X.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import torch

from skmag._arrays import as_numpy, block_slices, on_host, rows_per_block
from skmag._metrics import Metric
from skmag._similarity import Similarity
from skmag._solvers import (
    CholeskyFactor,
    IndefiniteError,
    available_memory,
    exact_bytes,
    is_on_a_line,
)

# Points closer than this share of the lesser of the median distance and 1 / t count as one: their
# difference is lost on the statistic, while the inverse of zeta would lose its digits.
_RESOLVED = 1e-8
# Spread of a statistic, as a share of its size, that counts as rounding.
_SPREAD = 1e-12
# Standard scores that differ by less are ties. Sums in another order differ by less than that.
_TIE = 1e-8
# Entries of the blocks of one batch on the CPU: beyond it, caches overflow without any gain.
_ENTRIES = 2**19
# Matrices of the pool's order that each statistic holds at once: zeta, its factor and its inverse,
# with room for one more.
_MATRICES = 4


@dataclass(frozen=True)
class Pool:
    """The rows of two samples in an order of their own.

    Parameters
    ----------
    points : Similarity
        The distinct points, in an order that only the points decide.
    group : int64 tensor of shape (n_rows,)
        Distinct point of each row, ascending.
    smaller : ndarray of shape (n_smaller,)
        Rows of the smaller sample, ascending; of the first one, if both are as large.
    """

    points: Similarity
    group: torch.Tensor
    smaller: np.ndarray

    @classmethod
    def of(cls, X: torch.Tensor, Y: torch.Tensor, metric: Metric) -> Pool:
        """Pool two samples of unprepared points."""
        every = as_numpy(torch.cat([X, Y])) + 0.0
        distinct, label = np.unique(every, axis=0, return_inverse=True)
        if metric.on_host:
            # Such a metric is asked for all distances at once.
            check_room(len(distinct), 1, X.device)
        points = Similarity.of(torch.from_numpy(distinct).to(X.device), metric, name="X and Y")
        group = as_numpy(points.group)[label.reshape(-1)]
        order = np.argsort(group, kind="stable")
        is_smaller = (np.arange(len(every)) < len(X)) == (len(X) <= len(Y))
        smaller = np.flatnonzero(is_smaller[order])
        return cls(points, torch.from_numpy(group[order]).to(X.device), smaller)

    @property
    def counts(self) -> torch.Tensor:
        """Number of rows of each distinct point."""
        return torch.bincount(self.group, minlength=len(self.points)).to(torch.float64)

    def with_table(self, n_at_once: int = 1) -> Pool:
        """Return the same pool with its distances stored, or refuse where they do not fit.

        Parameters
        ----------
        n_at_once : int, default=1
            Statistics that will be worked on together, each with matrices of its own.

        Returns
        -------
        Pool
            The same rows.
        """
        check_room(len(self.points), n_at_once, self.points.device)
        return Pool(self.points.with_table(), self.group, self.smaller)

    def resolved(self, t: float) -> Pool:
        """Return the pool at a scale, without what float64 could not tell apart there."""
        points = self.points.at(t)
        radius = _RESOLVED * min(points.median_distance(), 1 / t)
        merged = points.coalesced(radius)
        if len(merged) == len(points):
            return Pool(points, self.group, self.smaller)
        return Pool(merged, merged.group[points.first_row][self.group], self.smaller)


@dataclass(frozen=True)
class Labellings:
    """Ways to deal the rows of a pool out.

    Parameters
    ----------
    smaller : int64 tensor of shape (n_labellings, n_smaller)
        Rows of the smaller sample in each, ascending.
    observed : int
        Which one was observed.
    complete : bool
        Whether there are no others.
    """

    smaller: torch.Tensor
    observed: int
    complete: bool

    @classmethod
    def of(cls, pool: Pool, n_resamples: int, rng: np.random.Generator) -> Labellings:
        """All there are, if these are no more than `n_resamples`; else the observed and draws.

        Draws do not look at who has which rows.
        """
        n, k = len(pool.group), len(pool.smaller)
        if comb(n, k) > n_resamples:
            return cls.drawn(pool, n_resamples, rng)
        every = np.array(list(combinations(range(n), k)), dtype=np.int64)
        observed = int(np.flatnonzero((every == pool.smaller).all(1))[0])
        return cls(torch.from_numpy(every).to(pool.group.device), observed, True)

    @classmethod
    def drawn(cls, pool: Pool, n_resamples: int, rng: np.random.Generator) -> Labellings:
        """The observed one, and `n_resamples` random ones, however few there are."""
        n, k = len(pool.group), len(pool.smaller)
        drawn = [rng.permutation(n)[:k] for _ in range(n_resamples)]
        every = np.sort(np.vstack([pool.smaller, *drawn]), axis=1)
        return cls(torch.from_numpy(every).to(pool.group.device), 0, False)


def check_room(n: int, n_at_once: int, device: torch.device) -> None:
    """Raise MemoryError where the matrices of a pool do not fit.

    Parameters
    ----------
    n : int
        Distinct points of the pool.
    n_at_once : int
        Statistics that are worked on together; the distances serve all.
    device : torch.device
        Where the matrices are to live.

    Raises
    ------
    MemoryError
        The message names n, the bytes and what needs less.
    """
    needed, free = (1 + _MATRICES * n_at_once) * exact_bytes(n, 8), available_memory(device)
    if needed > free:
        jobs = f" worked on by {n_at_once} jobs" if n_at_once > 1 else ""
        raise MemoryError(
            f"the permutation test needs {needed:,} bytes for n={n:,} distinct points of both "
            f"samples{jobs}, but {free:,.0f} are free on {device}; a smaller block_size, such as "
            "block_size=100, has the samples compared in blocks"
        )


def magnitude_distances(
    pool: Pool, chosen: torch.Tensor, t: float, batch: int | None = None
) -> torch.Tensor:
    """Magnitude distance at scale t for each of some ways to deal the rows out.

    Parameters
    ----------
    pool : Pool
        The rows, with a table of their distances.
    chosen : int64 tensor of shape (n_labellings, n_smaller)
        Rows of the smaller sample, ascending.
    t : float
        Scale.
    batch : int, default=None
        Labellings that are worked on together; None fits the working memory.

    Returns
    -------
    tensor of shape (n_labellings,)
        The distances; copies of a point count once.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the similarity matrix of the points is not positive definite.
    """
    if is_on_a_line(pool.points):
        return _line_distances(pool, chosen, t, batch)
    pool = pool.resolved(t)
    whole = _Whole.of(pool.points)
    counts, has_copies = pool.counts, len(pool.points) < len(pool.group)
    k = chosen.shape[1]
    most = max(1, _ENTRIES // k**2) if on_host(chosen) else len(chosen)
    size = min(batch or rows_per_block(32 * k * k, most, chosen.device), len(chosen))
    work = torch.empty(size, k, k, dtype=torch.float64, device=chosen.device)
    place = torch.empty(size, k, k, dtype=torch.int64, device=chosen.device)
    out = torch.empty(len(chosen), dtype=torch.float64, device=chosen.device)
    for rows in block_slices(len(chosen), size):
        part = pool.group[chosen[rows]]
        repeated = lacked = None
        if has_copies:
            part = part.sort(dim=1).values
            repeated = torch.zeros_like(part, dtype=torch.bool)
            repeated[:, 1:] = part[:, 1:] == part[:, :-1]
            shared = _dealt(part, len(counts)).gather(1, part) < counts[part]
            lacked = repeated | shared
        blocks = work[: len(part)], place[: len(part)]
        torch.add(part[:, :, None] * len(counts), part[:, None, :], out=blocks[1])
        out[rows] = whole.beyond(part, repeated, *blocks) + whole.lost(part, lacked, *blocks)
    whole.check(out.isnan())
    return out


def mean_discrepancies(
    pool: Pool, chosen: torch.Tensor, t: float, batch: int | None = None
) -> torch.Tensor:
    """Squared MMD under exp(-t d), the V-statistic, for each of some ways to deal the rows out.

    Parameters
    ----------
    pool : Pool
        The rows, with a table of their distances.
    chosen : int64 tensor of shape (n_labellings, n_smaller)
        Rows of the smaller sample.
    t : float
        Scale.
    batch : int, default=None
        Labellings that are worked on together; None fits the working memory.

    Returns
    -------
    tensor of shape (n_labellings,)
        v' zeta v, v the difference of the two empirical distributions; copies count.
    """
    assert pool.points.table is not None
    counts = pool.counts
    # The entries of v add up to zero, so that zeta - 1 does as well and keeps its digits.
    less_one = torch.expm1(pool.points.table * -t)
    k, n = chosen.shape[1], len(pool.group)
    size = batch or rows_per_block(32 * len(counts), len(chosen), chosen.device)
    out = torch.empty(len(chosen), dtype=torch.float64, device=chosen.device)
    for rows in block_slices(len(chosen), size):
        dealt = _dealt(pool.group[chosen[rows]], len(counts))
        v = dealt / k - (counts - dealt) / (n - k)
        out[rows] = (v @ less_one).mul_(v).sum(1)
    return out.clamp_(min=0.0) if pool.points.metric.positive_definite else out


def standard_scores(values: torch.Tensor) -> torch.Tensor:
    """Values of each column less their mean over their standard deviation, zero without spread."""
    greatest = values.abs().amax(0)
    # Squares of tiny values would underflow; scores do not depend on the unit.
    values = values / torch.where(greatest > 0, greatest, 1.0)
    spread, mean = torch.std_mean(values, dim=0, correction=0)
    return ((values - mean) / spread).masked_fill_(spread <= _SPREAD, 0.0)


def p_values(scores: torch.Tensor, observed: int) -> torch.Tensor:
    """Share of the rows whose scores are no less than those observed, ties included."""
    return (scores >= scores[observed] - _TIE).to(torch.float64).mean(0)


def _dealt(part: torch.Tensor, n_points: int) -> torch.Tensor:
    """How many copies of each point each part has."""
    dealt = torch.zeros(len(part), n_points, dtype=torch.float64, device=part.device)
    return dealt.scatter_add_(1, part, torch.ones_like(part, dtype=torch.float64))


@dataclass(frozen=True)
class _Whole:
    """What the pooled points know, from which every part is answered.

    Parameters
    ----------
    anchored : tensor of shape (n_points, n_points)
        S, the similarities relative to the first point, with a 1 for that point.
    right : tensor of shape (n_points, 2)
        1 - a and a, with a the similarities to the first point; zero there.
    inverse : tensor of shape (n_points, n_points)
        Inverse of zeta.
    weights : tensor of shape (n_points,)
        Weighting.
    excess : float
        Magnitude less one.
    t : float
        Scale, for messages.
    """

    anchored: torch.Tensor
    right: torch.Tensor
    inverse: torch.Tensor
    weights: torch.Tensor
    excess: float
    t: float

    @classmethod
    def of(cls, points: Similarity) -> _Whole:
        n = len(points)
        try:
            factor = CholeskyFactor.prepare(points)
        except IndefiniteError as error:
            raise np.linalg.LinAlgError(
                f"the similarity matrix of the n={n} pooled points under "
                f"metric={points.metric.name!r} at t={points.t!r} is not positive definite "
                f"({error}), and magnitudes of its parts mean nothing; use a larger t, a metric "
                "of negative type such as 'euclidean', or statistics='mmd'"
            ) from error
        ones = factor.anchored_ones()
        weights, _ = factor.weighting()
        anchored = torch.zeros(n, n, dtype=torch.float64, device=points.device)
        points.fill_upper_anchored(anchored)
        anchored += anchored.triu(1).mT
        return cls(
            anchored,
            torch.cat([ones, factor.anchor_column()], 1),
            factor.inverse_columns(torch.arange(n, device=points.device)),
            weights,
            float(factor.quadratic(ones)[0]),
            points.t,
        )

    def lost(
        self,
        part: torch.Tensor,
        skipped: torch.Tensor | None,
        work: torch.Tensor,
        place: torch.Tensor,
    ) -> torch.Tensor:
        """By how much the magnitude falls when a part, but for what is skipped, is taken away."""
        _take(self.inverse, place, work)
        return self._gram(work, self.weights[part][..., None], skipped)[:, 0, 0]

    def beyond(
        self,
        part: torch.Tensor,
        skipped: torch.Tensor | None,
        work: torch.Tensor,
        place: torch.Tensor,
    ) -> torch.Tensor:
        """By how much the magnitude of the whole exceeds that of a part.

        With S, u = 1 - a and a over a part without the anchor, zeta = S + a a' gives

            Mag - 1 = u' S^-1 u - (1 - a' S^-1 u)^2 / (1 + a' S^-1 a),

        which keeps its digits at small t, where S is of order t and a is nearly 1. With the
        anchor it is the first term alone.
        """
        _take(self.anchored, place, work)
        gram = self._gram(work, self.right[part], skipped)
        without = (1 - gram[:, 0, 1]).square() / (1 + gram[:, 1, 1])
        excess = gram[:, 0, 0] - without.masked_fill((part == 0).any(1), 0.0)
        beyond = (self.excess - excess).clamp_(min=0.0)
        if skipped is not None:
            beyond.masked_fill_((~skipped).sum(1) == len(self.weights), 0.0)
        return beyond

    def _gram(
        self, blocks: torch.Tensor, right: torch.Tensor, skipped: torch.Tensor | None
    ) -> torch.Tensor:
        """B' A^-1 B for blocks A, which are overwritten, but for the rows that are skipped."""
        if skipped is not None:
            # Rows of the identity and right sides of zero leave the others as they are.
            blocks.masked_fill_(skipped[:, :, None] | skipped[:, None, :], 0.0)
            blocks.diagonal(dim1=1, dim2=2).masked_fill_(skipped, 1.0)
            right = right.masked_fill(skipped[..., None], 0.0)
        status = torch.empty(len(blocks), dtype=torch.int32, device=blocks.device)
        torch.linalg.cholesky_ex(blocks.mT, out=(blocks.mT, status))
        if on_host(status):
            self.check(status != 0)
        half = torch.linalg.solve_triangular(blocks.mT, right, upper=False)
        # A device is asked once for all batches, see :func:`magnitude_distances`.
        return (half.mT @ half).masked_fill_((status != 0)[:, None, None], torch.nan)

    def check(self, failed: torch.Tensor) -> None:
        """Raise LinAlgError where parts could not be factored."""
        if bool(failed.any()):
            raise np.linalg.LinAlgError(
                f"the similarity matrix at t={self.t!r} is positive definite by less than "
                f"rounding: {int(failed.sum())} of {len(failed)} parts could not be "
                "factored; use a larger t, or statistics='mmd'"
            )


def _take(matrix: torch.Tensor, place: torch.Tensor, out: torch.Tensor) -> None:
    """Write the entries of a matrix at some places of its flat form into `out`."""
    if on_host(out):
        # numpy does it in half of torch's time, if it need not be ready to raise.
        np.take(matrix.numpy(), place.numpy(), out=out.numpy(), mode="clip")
    else:
        torch.take(matrix, place, out=out)


def _line_distances(pool: Pool, chosen: torch.Tensor, t: float, batch: int | None) -> torch.Tensor:
    """Magnitude distances on the real line, where Mag(tX) = 1 + sum tanh(t gap / 2)."""
    assert pool.points.points is not None
    position = pool.points.points[:, 0][pool.group]
    n, k = len(position), chosen.shape[1]
    whole = _line_excess(position, t)
    size = batch or rows_per_block(64 * n, len(chosen), chosen.device)
    out = torch.empty(len(chosen), dtype=torch.float64, device=chosen.device)
    for rows in block_slices(len(chosen), size):
        own = chosen[rows]
        other = torch.ones(len(own), n, dtype=torch.bool, device=own.device)
        rest = torch.nonzero(other.scatter_(1, own, False))[:, 1].reshape(len(own), n - k)
        parts = _line_excess(position[own], t) + _line_excess(position[rest], t)
        out[rows] = (2 * whole - parts).clamp_(min=0.0)
    return out


def _line_excess(position: torch.Tensor, t: float) -> torch.Tensor:
    """Magnitude less one of ascending points in the last dimension; copies add nothing."""
    return position.diff(dim=-1).mul_(t / 2).tanh_().sum(-1)
