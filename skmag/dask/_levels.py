"""The two-level solve over cells: what :mod:`skmag._solvers._sparse` does with points at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from skmag._arrays import as_numpy
from skmag._similarity import Similarity
from skmag._solvers._centers import exact_factor, well_apart
from skmag._solvers._cholesky import CholeskyFactor
from skmag._solvers._dimension import NEIGHBORS, exponent, neighborhood_of, sampled_points
from skmag._solvers._magnitude_bounds import bound_within
from skmag._solvers._sparse import _Level
from skmag._solvers._sparse_inverse import SparseInverse
from skmag.dask._cells import Cells
from skmag.dask._factor import (
    Kernel,
    columns_of,
    least_distances,
    names,
    products_with_own,
    reaches,
    residuals_of_own,
    some_columns,
    spreads,
    tails,
    total,
)
from skmag.dask._graph import compute, constant, persist, task
from skmag.dask._neighbors import (
    Ordered,
    asked_cells,
    head_of,
    nearest_beyond,
    nearest_within,
    ordered,
)
from skmag.dask._spread import Chosen

# Points at the beginning of the order that every cell is given, centers or not. Their neighbours
# are far away; the more of them, the fewer other cells have to be asked.
_HEAD = 2**12


class CellsInverse(SparseInverse):
    """A sparse inverse whose centers are here and whose other points and columns are in cells.

    Parameters
    ----------
    cells : Cells
        All points.
    kernel : Kernel
        Their similarities.
    similarity : Similarity
        The operator over the centers.
    centers : int64 tensor of shape (n_centers,)
        Numbers of the centers.
    exact : CholeskyFactor
        Factor of zeta over the centers.
    n_neighbors : int
        Points that each other one is conditioned on.
    columns : list of tasks
        Columns of U in each cell, those of later centers among them.
    held : list of pairs of int64 ndarrays
        Numbers of the points that each cell's columns belong to, and of all that they hold.
    """

    def __init__(
        self,
        cells: Cells,
        kernel: Kernel,
        similarity: Similarity,
        centers: torch.Tensor,
        exact: CholeskyFactor,
        n_neighbors: int,
        columns: list[Any],
        held: list[tuple[np.ndarray, np.ndarray]],
    ) -> None:
        self.cells = cells
        self.kernel = kernel
        self.similarity = similarity
        self.centers = centers
        self.exact = exact
        self.columns = columns
        self.held = held
        self.canonical = True
        self._n_neighbors = n_neighbors
        outside = np.ones(len(cells), dtype=bool)
        outside[as_numpy(centers)] = False
        # Arrays take arrays as indices: a tensor of one entry would be a plain number to them.
        self._outside = np.flatnonzero(outside)

    @classmethod
    def over(
        cls,
        cells: Cells,
        kernel: Kernel,
        chosen: Chosen,
        n_neighbors: int,
        rng: np.random.Generator,
    ) -> CellsInverse:
        """Order the points, find their neighbours and solve the small systems, cell by cell."""
        spread = well_apart(chosen.order, chosen.radii, chosen.reach)
        whole = kernel.similarity(cells.take(spread))
        places, exact = exact_factor(whole, np.arange(len(spread)), "sparse")
        centers = spread[: len(places)]
        rest = np.ones(len(cells), dtype=bool)
        rest[centers] = False
        order = np.concatenate([centers, rng.permutation(np.flatnonzero(rest))])
        columns = _columns(cells, kernel, order, len(centers), n_neighbors)
        held = compute([task(names)(part) for part in columns])
        taken = torch.from_numpy(centers)
        return cls(cells, kernel, exact.similarity, taken, exact, n_neighbors, columns, held)

    @property
    def n_points(self) -> int:
        return len(self.cells)

    @property
    def n_neighbors(self) -> int:
        return self._n_neighbors

    @property
    def points(self) -> torch.Tensor:
        return torch.from_numpy(self._outside)

    def promoted(self, rows: torch.Tensor) -> CellsInverse:
        joining = self.points[rows]
        known = self.similarity.points
        assert known is not None
        held = np.concatenate([as_numpy(known), self.cells.take(joining.numpy())])
        similarity = self.kernel.similarity(held)
        return CellsInverse(
            self.cells,
            self.kernel,
            similarity,
            torch.cat([self.centers, joining]),
            self.exact.extended(similarity),
            self.n_neighbors,
            self.columns,
            self.held,
        )

    def tail(self, rho: torch.Tensor) -> torch.Tensor:
        values = rho.numpy()
        found = compute(
            [
                task(tails)(part, values[numbers])
                for part, (_, numbers) in zip(self.columns, self.held, strict=True)
            ]
        )
        out = np.zeros(self.n_points)
        for (own, _), y in zip(self.held, found, strict=True):
            out[own] = y
        return torch.from_numpy(out[self._outside])

    def spread(self, y: torch.Tensor) -> torch.Tensor:
        values = np.zeros(self.n_points)
        values[self._outside] = y.numpy()
        found = compute(
            [
                task(spreads)(part, values[own])
                for part, (own, _) in zip(self.columns, self.held, strict=True)
            ]
        )
        out = np.zeros(self.n_points)
        for (_, numbers), part in zip(self.held, found, strict=True):
            out[numbers] += part
        return torch.from_numpy(out)

    def refreshed(self, similarity: Similarity) -> SparseInverse:
        raise TypeError("cells are factored at one scale")


class CellsLevel(_Level):
    """A level of points in cells."""

    inverse: CellsInverse

    @classmethod
    def beyond(cls, inverse: SparseInverse, w: torch.Tensor) -> torch.Tensor:
        assert isinstance(inverse, CellsInverse)
        assert inverse.similarity.points is not None
        centers = constant(as_numpy(inverse.similarity.points))
        weights = constant(w[inverse.centers].numpy())
        found = compute(
            [
                task(residuals_of_own, inverse.kernel)(part, centers, weights)
                for part in inverse.cells.parts
            ]
        )
        rho = inverse.cells.collected(found)
        rho[as_numpy(inverse.centers)] = 0.0
        return inverse.tail(torch.from_numpy(rho))

    def residual(self, v: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        inverse = self.inverse
        if points is inverse.centers:
            assert inverse.similarity.points is not None
            rows = as_numpy(inverse.similarity.points)
        else:
            rows = inverse.cells.take(points.numpy())
        found = product(inverse.cells, inverse.kernel, rows, v)
        return torch.from_numpy(inverse.kernel.start(rows) - found)

    def columns(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inverse = self.inverse
        wanted = inverse.points[rows].numpy()
        indices = np.empty((len(wanted), inverse.n_neighbors + 1), dtype=np.int64)
        values = np.empty(indices.shape)
        tasks, here = [], []
        for part, (own, _) in zip(inverse.columns, inverse.held, strict=True):
            place = own.argsort()
            at = np.minimum(own.searchsorted(wanted, sorter=place), len(own) - 1)
            mine = np.flatnonzero(own[place[at]] == wanted) if len(own) else np.empty(0, np.int64)
            if len(mine):
                tasks.append(task(some_columns)(part, place[at[mine]]))
                here.append(mine)
        for mine, found in zip(here, compute(tasks), strict=True):
            indices[mine], values[mine] = found
        return torch.from_numpy(indices), torch.from_numpy(values)


def product(cells: Cells, kernel: Kernel, points: np.ndarray, v: torch.Tensor) -> np.ndarray:
    """Rows of zeta, or of S, that belong to some points, times weights of all."""
    rows = constant(points)
    found = compute(
        [
            task(products_with_own, kernel)(part, rows, own)
            for part, own in zip(cells.parts, cells.parted(v.numpy()), strict=True)
        ]
    )
    return np.asarray(np.sum(found, axis=0))


def _columns(cells: Cells, kernel: Kernel, order: np.ndarray, n_first: int, k: int) -> list[Any]:
    """Columns of U in each cell: neighbours in the own cell, then in others, then small solves."""
    n, p = len(cells), exponent(kernel.metric)
    positions = np.empty(n, dtype=np.int64)
    positions[order] = np.arange(n)
    first = order[: max(n_first, _HEAD)]
    known = Ordered(cells.take(first) / kernel.unit, first, np.arange(len(first)))
    head = constant(head_of(known, k, p))
    places = cells.parted(positions)
    parts = persist(
        [
            task(ordered, kernel.unit)(part, own)
            for part, own in zip(cells.parts, places, strict=True)
        ]
    )
    boxes = cells.boxes / kernel.unit
    # What is in the head is known to all; NaN is within the reach of none.
    boxes[[own.max() < len(first) for own in places]] = np.nan
    asked = compute(
        [task(asked_cells, p, boxes, number)(part, head) for number, part in enumerate(parts)]
    )
    # Not to be kept: they take more memory than the columns that come of them.
    within = [task(nearest_within, n_first, n, k, p)(part, head) for part in parts]
    return persist(
        [
            task(columns_of, kernel, n_first)(
                part,
                head,
                near,
                [
                    task(nearest_beyond, n_first, n, p)(part, head, near, parts[other])
                    for other in others
                ],
            )
            for part, near, others in zip(parts, within, asked, strict=True)
        ]
    )


def unit_of(cells: Cells) -> float:
    """Unit of coordinates, as :func:`skmag._solvers._dimension.coordinate_unit` has it."""
    if not cells.metric.is_norm:
        return 1.0
    largest = float(np.abs(cells.corners).max())
    return 2.0 ** (int(np.frexp(largest)[1]) - 1) if largest > 0 else 1.0


def dimension_of(cells: Cells, unit: float) -> float:
    """Intrinsic dimension, as :func:`skmag._solvers._dimension.neighborhood` estimates it."""
    if len(cells) <= NEIGHBORS:
        return 0.0
    k, p = NEIGHBORS + 1, exponent(cells.metric)
    sample = constant(cells.take(sampled_points(len(cells))) / unit)
    found = compute([task(least_distances, k, p, unit)(part, sample) for part in cells.parts])
    least = np.sort(np.concatenate(found, axis=1), axis=1)[:, :k]
    return neighborhood_of(least, cells.n_features, unit).dimension


def upper_bound(cells: Cells, t: float) -> float:
    """A priori upper bound, as :func:`skmag._solvers._bounds.magnitude_upper_bound` has it."""
    if len(cells) == 1:
        return 1.0
    low, high = cells.corners

    def reach(unit: float) -> float:
        mean = np.sum(compute([task(total)(part) for part in cells.parts]), axis=0) / len(cells)
        centres = (low + (high - low) / 2, mean)
        found = np.array(compute([task(reaches, centres, unit)(part) for part in cells.parts]))
        greatest: Sequence[float] = found.max(axis=0).tolist()
        return min((value for value in greatest if value < np.inf), default=np.inf)

    corners = torch.from_numpy(low), torch.from_numpy(high)
    return bound_within(cells.metric, t, len(cells), *corners, reach)
