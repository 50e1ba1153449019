"""A set that grows by one point at a time, and what joining it would mean to every other point.

One row of a partial Cholesky factor is added for each point that joins, so that all candidates'
deficits and residuals are brought up to date in one pass, without any new factorization. As in
:mod:`skmag._similarity` everything is relative to an anchor, here the first point of the growing
set, so that gains keep their digits where t is so small that zeta is a matrix of ones.
"""

from __future__ import annotations

import torch

from skmag._arrays import block_slices, rows_per_block
from skmag._similarity import Similarity
from skmag._solvers import available_memory, singular_share

EPS = torch.finfo(torch.float64).eps
# Vectors over the pool that are held, and that come and go while a point joins.
VECTORS = 14
# Share of the free memory that is taken before it is asked for again.
_UNASKED = 1 / 16


class Room:
    """Memory for a growth that goes on, which is refused before it runs out.

    Parameters
    ----------
    similarity : Similarity
        The operator zeta of the whole set.
    """

    def __init__(self, similarity: Similarity) -> None:
        self._n, self._device = len(similarity), similarity.device
        self._unasked = 0.0

    def take(self, needed: int) -> None:
        """Raise MemoryError where so many further bytes are not to be had."""
        self._unasked -= needed
        if self._unasked >= 0:
            return
        free = available_memory(self._device)
        if needed > free:
            raise MemoryError(
                f"a run of the clusterer over n={self._n:,} distinct points needs {needed:,} bytes "
                f"more, but {free:,.0f} are free on {self._device}; with max_samples it finds the "
                "clusters among so many of the rows, and labels the others by them"
            )
        self._unasked = _UNASKED * (free - needed)


class Growth:
    """A growing set of distinct points and the gain of each candidate.

    Parameters
    ----------
    similarity : Similarity
        The operator zeta of the whole set.
    first : int
        Distinct point that the set begins with.
    pool : int64 tensor of shape (n_pool,), default=None
        Distinct points that may join, in increasing order; None for all.
    room : int, default=0
        Points beyond the first to make room for at once, ``8 n_pool`` bytes each. Beyond them room
        is made as it is needed, for a quarter more each time.

    Attributes
    ----------
    pool : int64 tensor of shape (n_pool,)
        Candidates; those that have joined stay among them, with gain zero.
    members : list of int
        Distinct points of the set in order of joining.
    magnitude : float
        Magnitude of the set.
    deficit : tensor of shape (n_pool,)
        1 - h at each candidate, h the potential.
    residual : tensor of shape (n_pool,)
        Kriging variance at each candidate.
    nearest_distance : tensor of shape (n_pool,)
        Distance of each candidate to the set.
    """

    def __init__(
        self,
        similarity: Similarity,
        first: int,
        pool: torch.Tensor | None = None,
        room: int = 0,
    ) -> None:
        self.similarity = similarity
        every = torch.arange(len(similarity), device=similarity.device)
        self.pool = every if pool is None else pool
        points = similarity.points
        self._points = points if points is None or pool is None else points[pool]
        self.members = [first]
        self.magnitude = 1.0
        self._anchor = self._distances_to(first)
        self.nearest_distance = self._anchor.clone()
        self.deficit = torch.expm1(-similarity.t * self._anchor).neg_()
        self.residual = torch.expm1(-2 * similarity.t * self._anchor).neg_()
        self._rows = self.deficit.new_empty(room, len(self.pool))

    @property
    def missing_rows(self) -> int:
        """Rows that have to be made room for before the next point can join; mostly none."""
        done = len(self.members) - 1
        return 0 if done < len(self._rows) else done + max(16, done // 4)

    def gains(self) -> torch.Tensor:
        """Growth of the magnitude with each candidate, (1 - h)^2 / r, zero for members."""
        outside = self.residual > 0
        # Divided first: squares of tiny deficits underflow.
        gain = self.deficit * (self.deficit / torch.where(outside, self.residual, 1.0))
        return torch.where(outside, gain, 0.0)

    def join(self, point: int) -> float:
        """Let a distinct point of the pool join.

        Parameters
        ----------
        point : int
            The point, of the pool and not yet a member.

        Returns
        -------
        float
            By how much the magnitude grew.

        Raises
        ------
        ValueError
            If the point is not a candidate, or the similarity turns out not to be positive
            definite.
        """
        at = int(torch.searchsorted(self.pool, point))
        known = at < len(self.pool) and int(self.pool[at]) == point
        pivot = float(self.residual[at]) if known else 0.0
        if not pivot > 0:
            raise ValueError(f"point={point!r} is no candidate: a member, or not of the pool")
        distance, done, t = self._distances_to(point), len(self.members) - 1, self.similarity.t
        room = (self._anchor + self._anchor[at]).sub_(distance)
        row = room.mul_(-t).expm1_().neg_().mul_(torch.exp(distance * -t))
        if done:
            row -= self._rows[:done, at] @ self._rows[:done]
        row /= pivot**0.5
        step = float(self.deficit[at]) / pivot**0.5
        self.deficit -= step * row
        self.residual -= row.square()
        self.nearest_distance = self.nearest_distance.minimum(distance)
        self._settle()
        self._keep_row(done, row)
        self.members.append(point)
        self.magnitude += step * step
        return step * step

    def restrict(self, kept: torch.Tensor) -> None:
        """Forget the candidates outside a boolean mask of the pool, to save time and memory."""
        self.pool, self._anchor = self.pool[kept], self._anchor[kept]
        self._points = None if self._points is None else self._points[kept]
        self.nearest_distance = self.nearest_distance[kept]
        self.deficit, self.residual = self.deficit[kept], self.residual[kept]
        self._rows = self._rows[:, kept]

    def _distances_to(self, point: int) -> torch.Tensor:
        """Distances of the pool to a distinct point."""
        similarity = self.similarity
        if similarity.table is not None:
            return similarity.table[point][self.pool]
        assert similarity.points is not None
        assert self._points is not None
        own, others = similarity.points[point : point + 1], self._points
        # A block may hold the differences of all pairs.
        size = rows_per_block(24 * (others.shape[1] + 2), len(others))
        parts = [
            similarity.metric.block(own, others[rows])[0]
            for rows in block_slices(len(others), size)
        ]
        distance = parts[0] if len(parts) == 1 else torch.cat(parts)
        return distance.masked_fill_(self.pool == point, 0.0)

    def _settle(self) -> None:
        """Keep residuals within their bounds; members have none left."""
        most = torch.expm1(-2 * self.similarity.t * self.nearest_distance).neg_()
        if not self.similarity.metric.positive_definite:
            self._refuse_indefinite()
        self.residual = self.residual.maximum(EPS * most).minimum(most)
        self.deficit.masked_fill_(self.nearest_distance == 0, 0.0)

    def _refuse_indefinite(self) -> None:
        lowest = float(self.residual.min())
        if lowest < -singular_share(len(self.similarity)):
            similarity = self.similarity
            raise ValueError(
                f"the similarity matrix under metric={similarity.metric.name!r} at "
                f"t={similarity.t!r} is not positive definite (a residual of {lowest:.3g}), so "
                "gains have no meaning; choose a larger t, or a metric of negative type such as "
                "'euclidean' or 'cityblock'"
            )

    def _keep_row(self, done: int, row: torch.Tensor) -> None:
        if missing := self.missing_rows:
            grown = row.new_empty(missing, len(row))
            grown[:done] = self._rows
            self._rows = grown
        self._rows[done] = row
