"""The operator zeta = exp(-t d) over the distinct points of a set: its blocks, rows and products.

Everything is offered relative to an *anchor*, the first distinct point x_0. One step of Gaussian
elimination with pivot zeta_00 = 1 leaves the Schur complement

    S_ij = exp(-t d_ij) - exp(-t (d_i0 + d_j0)) = exp(-t d_ij) (-expm1(-t (d_i0 + d_j0 - d_ij))),

in which the common constant that drowns zeta at small t is gone: S keeps its digits, relative to
its diagonal, at every t, so that 1 - magnitude, residuals of order t and weights keep theirs at
t = 1e-12, where zeta itself is a matrix of ones in floating point. What remains hard is a pair of
points that is close beside its distance to the anchor: eps times that ratio is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from skmag._arrays import Portable, as_numpy, block_slices, on_host, rows_per_block, scaled_exp
from skmag._duplicates import Block, equal_row_groups, groups_within
from skmag._metrics import Metric, check_distances
from skmag._out_of_memory import named_memory_errors
from skmag._scale import median_distance, nearest_distance

# Rows of a block of zeta: beyond it, caches overflow without any gain. On an accelerator a block is
# to be worth the time that it takes to launch.
_BLOCK_ROWS, _ACCELERATOR_ROWS = 256, 2048
# Queries from which on points that are known already are found by sorting.
_SORTED_QUERIES = 100
# Below this diameter in units of 1/t, the anchored form is worth a second exponential.
_CONSTANT_DIAMETER = 0.25
# Asymmetry of a computed metric, as a share of the largest distance, that counts as rounding.
_ASYMMETRY = 1e-8


@dataclass(frozen=True)
class Query:
    """Similarities of query points to the set, relative to the anchor.

    Parameters
    ----------
    anchored : tensor of shape (n_queries, n_points)
        Rows of S: ``exp(-t d_zi) - exp(-t (d_z0 + d_i0))``; the anchor's column is zero.
    anchor_distance : tensor of shape (n_queries,)
        t times the distance to the anchor.
    nearest_distance : tensor of shape (n_queries,)
        Distance to the nearest point.
    nearest : tensor of shape (n_queries,)
        Index of that point among the distinct ones.
    """

    anchored: torch.Tensor
    anchor_distance: torch.Tensor
    nearest_distance: torch.Tensor
    nearest: torch.Tensor


@dataclass(frozen=True)
class Similarity(Portable):
    """The similarity matrix of the distinct points of a set, never stored as a whole.

    Parameters
    ----------
    metric : Metric
        Distance between points.
    t : float
        Scale.
    points : tensor of shape (n_points, n_features) or None
        Distinct points in order of first appearance; None for precomputed distances.
    table : tensor of shape (n_points, n_points) or None
        Their distances, where these were given, are dear or serve many scales.
    group : int64 tensor of shape (n_rows,)
        Distinct point of each input row.
    first_row : int64 tensor of shape (n_points,)
        First input row of each distinct point.
    counts : tensor of shape (n_points,)
        Number of input rows of each distinct point.
    anchor : tensor of shape (n_points,)
        Distances to the first distinct point.
    """

    metric: Metric
    t: float
    points: torch.Tensor | None
    table: torch.Tensor | None
    group: torch.Tensor
    first_row: torch.Tensor
    counts: torch.Tensor
    anchor: torch.Tensor

    @classmethod
    def of(cls, data: torch.Tensor, metric: Metric, t: float = 1.0, name: str = "X") -> Similarity:
        """Merge the duplicates of `data` (points, or a checked table of distances)."""
        if metric.precomputed:
            group, first = groups_within(0.0, len(data), _block_of(metric, None, data))
            distinct = data if len(first) == len(data) else data[first][:, first]
            return cls._with_anchor(metric, t, None, distinct, group, first)
        points = metric.points(data, name)
        group, first = equal_row_groups(points)
        points = points[first]
        table = None
        if metric.on_host:
            with named_memory_errors(len(points), "use fewer points, or a metric of torch's"):
                table = _symmetric_table(metric, points)
        if not metric.separates:
            merged, kept = groups_within(0.0, len(first), _block_of(metric, points, table))
            group, first, points = merged[group], first[kept], points[kept]
            table = None if table is None else table[kept][:, kept]
        return cls._with_anchor(metric, t, points, table, group, first)

    @classmethod
    def _with_anchor(
        cls,
        metric: Metric,
        t: float,
        points: torch.Tensor | None,
        table: torch.Tensor | None,
        group: torch.Tensor,
        first: torch.Tensor,
    ) -> Similarity:
        held = points if points is not None else table
        assert held is not None
        group, first = group.to(held.device), first.to(held.device)
        counts = torch.bincount(group, minlength=len(first)).to(torch.float64)
        bare = cls(metric, t, points, table, group, first, counts, counts)
        return replace(bare, anchor=bare._distances_to_first())

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def device(self) -> torch.device:
        """Device of the points and of every block."""
        return self.counts.device

    @property
    def nearly_constant(self) -> bool:
        """Whether t is so small that zeta is nearly a matrix of ones."""
        return 2 * self.t * self._reach < _CONSTANT_DIAMETER

    @cached_property
    def _reach(self) -> float:
        """Greatest distance to the anchor, for which a device is asked once only."""
        return float(self.anchor.max())

    def at(self, t: float) -> Similarity:
        """Return the same points at another scale."""
        return replace(self, t=t)

    def median_distance(self) -> float:
        """Median distance between distinct points, see :func:`skmag._scale.median_distance`."""
        return median_distance(len(self), _block_of(self.metric, self.points, self.table))

    def nearest_distance(self) -> float:
        """Median distance to the nearest other, see :func:`skmag._scale.nearest_distance`."""
        return nearest_distance(len(self), _block_of(self.metric, self.points, self.table))

    def with_table(self) -> Similarity:
        """Return the same operator with its distances stored, for use at many scales."""
        if self.table is not None or self.points is None:
            return self
        n = len(self)
        table = torch.zeros(n, n, dtype=torch.float64, device=self.device)
        for rows in self.row_blocks():
            block = self.distances(rows, slice(rows.start, None))
            table[rows, rows.start :] = block
            table[rows.start :, rows] = block.mT
        return replace(self, table=table)

    def row_blocks(self) -> list[slice]:
        """Slices of rows whose blocks fit the working memory four times."""
        n = len(self)
        most = _BLOCK_ROWS if on_host(self.device) else _ACCELERATOR_ROWS
        return block_slices(n, rows_per_block(32 * n, min(n, most), self.device))

    def distances(self, rows: slice, columns: slice) -> torch.Tensor:
        """Distances between two slices of the distinct points; `columns` starts in `rows`."""
        if self.table is not None:
            return self.table[rows, columns]
        assert self.points is not None
        return self.metric.block(self.points[rows], self.points[columns])

    def similarity_blocks(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Row blocks of zeta from the diagonal on: columns ``rows.start`` to the end."""
        for rows in self.row_blocks():
            distance = self.distances(rows, slice(rows.start, None))
            block = torch.empty_like(distance)
            scaled_exp(distance, -self.t, block)
            block.diagonal().fill_(1.0)
            yield rows, block

    def fill_upper(self, matrix: torch.Tensor) -> None:
        """Write zeta into the upper triangle of a matrix that is zero below its diagonal."""
        for rows in self.row_blocks():
            target = matrix[rows, rows.start :]
            scaled_exp(self.distances(rows, slice(rows.start, None)), -self.t, target)
            target.diagonal().fill_(1.0)
            target[:, : len(target)].triu_()

    def fill_upper_anchored(self, matrix: torch.Tensor) -> None:
        """Write S, with a 1 for the anchor, as :meth:`fill_upper` does zeta."""
        for rows, block in self.anchored_blocks():
            block[:, : len(block)].triu_()
            matrix[rows, rows.start :] = block

    def anchored_blocks(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Row blocks of S from the diagonal on, with a 1 for the eliminated anchor.

        The anchor's row and column are those of the identity, so that S with it has the order of
        zeta and every vector that is zero there stays so.
        """
        for rows in self.row_blocks():
            distance = self.distances(rows, slice(rows.start, None))
            block = self._anchored(distance, self.anchor[rows], self.anchor[rows.start :])
            block.diagonal().copy_(self.anchored_diagonal()[rows])
            if rows.start == 0:
                block[0] = 0.0
                block[0, 0] = 1.0
            yield rows, block

    def anchored_rows(self, points: torch.Tensor) -> torch.Tensor:
        """Rows of S that belong to some distinct points."""
        out = self._anchored(self.distances_of(points), self.anchor[points], self.anchor)
        out[torch.arange(len(points), device=self.device), points] = self.anchored_diagonal()[
            points
        ]
        return out

    def anchored_diagonal(self) -> torch.Tensor:
        """Diagonal of S, which is 1 - zeta(., x_0)^2; zero at the anchor."""
        return torch.expm1(-2 * self.t * self.anchor).neg_()

    def _anchored(
        self, distance: torch.Tensor, row_anchor: torch.Tensor, column_anchor: torch.Tensor
    ) -> torch.Tensor:
        """Entries of S for a block of distances between points of known distance to the anchor."""
        detour = row_anchor[:, None] + column_anchor
        room = detour - distance
        if self.metric.is_norm:
            # A detour is shorter by rounding only, which a large t would blow up to infinity.
            room.clamp_(min=0.0)
            return room.mul_(-self.t).expm1_().neg_().mul_(torch.exp(distance * -self.t))
        # Where the triangle inequality does not hold, the greater exponential is the other one.
        nearer = torch.minimum(distance, detour, out=detour).mul_(-self.t).exp_()
        return room.abs().mul_(-self.t).expm1_().copysign_(room).mul_(nearer)

    def anchored_product(self, V: torch.Tensor) -> torch.Tensor:
        """Product S V by blocks, each of which serves both triangles."""
        out = torch.zeros_like(V)
        for rows, block in self.anchored_blocks():
            out[rows] += block @ V[rows.start :]
            out[rows.stop :] += block[:, len(block) :].mT @ V[rows]
        return out

    def query_distances(self, Z: torch.Tensor) -> torch.Tensor:
        """Distances from prepared query points to the distinct points.

        For precomputed distances `Z` holds those to every input row.
        """
        if self.points is None:
            return Z[:, self.first_row]
        return self.metric.block(Z, self.points)

    def query(self, Z: torch.Tensor) -> Query:
        """Similarities of query points, with the accuracy of :meth:`anchored_blocks`."""
        distance = self.query_distances(Z)
        nearest_distance, nearest = distance.min(dim=1)
        anchored = self._anchored(distance, distance[:, 0], self.anchor)
        return Query(anchored, distance[:, 0] * self.t, nearest_distance, nearest)

    def row_sums(self) -> torch.Tensor:
        """Sums of the rows of zeta."""
        out = torch.zeros(len(self), dtype=torch.float64, device=self.device)
        for rows, block in self.similarity_blocks():
            out[rows] += block.sum(1)
            out[rows.stop :] += block[:, len(block) :].sum(0)
        return out

    def distances_of(self, points: torch.Tensor) -> torch.Tensor:
        """Distances from some distinct points to all."""
        every = torch.arange(len(self), device=self.device)
        distance = _block_of(self.metric, self.points, self.table)(points, every)
        distance[torch.arange(len(points), device=self.device), points] = 0.0
        return distance

    def derivative_form(self, w: torch.Tensor) -> float:
        """Return w' (d * zeta) w, which is the derivative of the magnitude in t."""
        total = w.new_zeros(())
        for rows in self.row_blocks():
            distance = self.distances(rows, slice(rows.start, None))
            block = torch.exp(distance * -self.t).mul_(distance)
            block.diagonal().zero_()
            own = block[:, : len(block)]
            total += (w[rows] @ own.triu() @ w[rows]) * 2
            total += (w[rows] @ block[:, len(block) :] @ w[rows.stop :]) * 2
        return float(total)

    def to_rows(self, values: torch.Tensor) -> torch.Tensor:
        """Values of the distinct points, repeated for every input row in input order."""
        return values[self.group]

    def extended(self, Z: torch.Tensor) -> Similarity:
        """Return the operator with the rows of `Z` added; known points only count once more.

        `Z` holds prepared points or, for precomputed distances, those from every new row to all
        old rows followed by all new rows.
        """
        n = len(self)
        known, group = self._known(Z)
        fresh = torch.nonzero(~known)[:, 0]
        if not len(fresh):
            return self._with_rows(group)
        # The points are prepared already.
        metric = replace(self.metric, prepare=None)
        square = slice(len(self.group), None)
        data = Z[fresh] if self.points is not None else Z[fresh, square][:, fresh]
        new = Similarity.of(data, metric, self.t)
        group[fresh] = n + new.group
        joined = fresh[new.first_row]
        points, table = None, None
        if self.points is not None and new.points is not None:
            points = torch.cat([self.points, new.points])
        if self.table is not None and new.table is not None:
            cross = self.query_distances(Z[joined])
            upper, lower = torch.cat([self.table, cross.mT], 1), torch.cat([cross, new.table], 1)
            table = torch.cat([upper, lower])
        grown = replace(
            self,
            points=points,
            table=table,
            first_row=torch.cat([self.first_row, len(self.group) + joined]),
            counts=torch.cat([self.counts, torch.zeros_like(new.counts)]),
            anchor=torch.cat([self.anchor, self._to_anchor(Z[joined])]),
        )
        return grown._with_rows(group)

    def coalesced(self, radius: float) -> Similarity:
        """Return the operator with points linked by distances up to `radius` taken for one."""
        block = _block_of(self.metric, self.points, self.table)
        merged, kept = groups_within(radius, len(self), block)
        merged, kept = merged.to(self.device), kept.to(self.device)
        group = merged[self.group]
        smaller = replace(
            self,
            points=None if self.points is None else self.points[kept],
            table=None if self.table is None else self.table[kept][:, kept],
            group=group,
            first_row=self.first_row[kept],
            counts=torch.bincount(group, minlength=len(kept)).to(torch.float64),
            anchor=self.anchor[kept],
        )
        return replace(smaller, anchor=smaller._distances_to_first())

    def taken(self, points: torch.Tensor) -> Similarity:
        """Return the operator over some distinct points, each once, in the order given."""
        every = torch.arange(len(points), device=self.device)
        chosen = replace(
            self,
            points=None if self.points is None else self.points[points],
            table=None if self.table is None else self.table[points][:, points],
            group=every,
            first_row=every,
            counts=torch.ones(len(points), dtype=torch.float64, device=self.device),
            anchor=self.anchor[points],
        )
        return replace(chosen, anchor=chosen._distances_to_first())

    def dropped(self, rows: np.ndarray) -> tuple[Similarity, torch.Tensor]:
        """Return the operator without some input rows, and the distinct points that stay."""
        keep = np.ones(len(self.group), dtype=bool)
        keep[rows] = False
        labels = as_numpy(self.group)[keep]
        kept, first_row, group = (
            torch.from_numpy(part).to(self.device)
            for part in np.unique(labels, return_index=True, return_inverse=True)
        )
        counts = torch.bincount(group, minlength=len(kept)).to(torch.float64)
        smaller = replace(
            self,
            points=None if self.points is None else self.points[kept],
            table=None if self.table is None else self.table[kept][:, kept],
            group=group,
            first_row=first_row,
            counts=counts,
            anchor=self.anchor[kept],
        )
        return replace(smaller, anchor=smaller._distances_to_first()), kept

    def closest_pair(self) -> tuple[int, int, float]:
        """Input rows of the two closest distinct points, and their distance."""
        best = (0, 0, float("inf"))
        for rows in self.row_blocks():
            distance = self.distances(rows, slice(rows.start, None)).clone()
            own = distance[:, : len(distance)]
            own.masked_fill_(torch.ones_like(own, dtype=torch.bool).tril(), float("inf"))
            value, flat = distance.flatten().min(dim=0)
            if float(value) < best[2]:
                i, j = divmod(int(flat), distance.shape[1])
                best = (i + rows.start, j + rows.start, float(value))
        i, j = int(self.first_row[best[0]]), int(self.first_row[best[1]])
        return min(i, j), max(i, j), best[2]

    def _with_rows(self, group: torch.Tensor) -> Similarity:
        counts = self.counts + torch.bincount(group, minlength=len(self.counts))
        return replace(self, group=torch.cat([self.group, group]), counts=counts)

    def _distances_to_first(self) -> torch.Tensor:
        distance = self.distances(slice(0, 1), slice(0, None))[0].clone()
        distance[0] = 0.0
        return distance

    def _known(self, Z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Whether each prepared query is one of the distinct points, and which."""
        if self.points is None or not self.metric.separates or len(Z) < _SORTED_QUERIES:
            nearest_distance, group = self._nearest(Z)
            return nearest_distance == 0, group
        # To sort all rows takes less than all distances to the queries do.
        group = equal_row_groups(torch.cat([self.points, Z]))[0][len(self) :].to(self.device)
        return group < len(self), group

    def _nearest(self, Z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Distance to, and index of, the distinct point nearest to each prepared query."""
        size = rows_per_block(16 * len(self), max(1, len(Z)), self.device)
        found = [self.query_distances(part).min(dim=1) for part in Z.split(size)]
        return torch.cat([own.values for own in found]), torch.cat([own.indices for own in found])

    def _to_anchor(self, Z: torch.Tensor) -> torch.Tensor:
        """Distances from prepared queries to the anchor."""
        if self.points is None:
            return Z[:, self.first_row[0]]
        return self.metric.block(Z, self.points[:1])[:, 0]


def _block_of(metric: Metric, points: torch.Tensor | None, table: torch.Tensor | None) -> Block:
    """Return ``block(i, j)``, the distances between two sets of indices."""
    if table is not None:
        return lambda i, j: table[i][:, j]
    assert points is not None
    return lambda i, j: metric.block(points[i], points[j])


def _symmetric_table(metric: Metric, points: torch.Tensor) -> torch.Tensor:
    """All distances under a metric that is dear or may not be symmetric, checked."""
    table = metric.block(points, points)
    check_distances(table, f"metric={metric.name!r}", _ASYMMETRY)
    table.fill_diagonal_(0.0)
    for rows in block_slices(len(table), _BLOCK_ROWS):
        # d(a, b) and d(b, a) may round differently; the upper triangle decides.
        table[rows.stop :, rows] = table[rows, rows.stop :].mT
        own = table[rows, rows].triu()
        table[rows, rows] = own + own.mT
    return table
