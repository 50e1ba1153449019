"""The columns of the sparse inverse of the similarities between points in cells, and products.

A column belongs to the cell of its point. What it needs of other cells is the coordinates of the
neighbours that lie there, which are few beside the cell's own points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree

from skmag._arrays import as_numpy, block_slices
from skmag._metrics import Metric
from skmag._similarity import Similarity
from skmag._solvers._earlier import NONE
from skmag._solvers._magnitude_bounds import greatest_reach
from skmag._solvers._products import tile_shape
from skmag._solvers._sparse import entries_between
from skmag._solvers._sparse_inverse import columns
from skmag.dask._cells import Cell
from skmag.dask._neighbors import Beyond, Head, Nearest, Ordered


class Kernel(NamedTuple):
    """How similarities are computed.

    Parameters
    ----------
    metric : Metric
        Distance between points.
    t : float
        Scale.
    unit : float
        Unit of coordinates in which their powers stay in range.
    first : ndarray of shape (1, n_features)
        The point that is the anchor.
    anchored : bool
        Whether zeta is nearly constant, so that S takes its place.
    """

    metric: Metric
    t: float
    unit: float
    first: np.ndarray
    anchored: bool

    def similarity(self, points: np.ndarray) -> Similarity:
        """Return the operator over some points, the first of which is its anchor."""
        held = torch.from_numpy(points)
        every = torch.arange(len(held))
        anchor = self.metric.block(held[:1], held)[0]
        anchor[0] = 0.0
        counts = torch.ones(len(held), dtype=torch.float64)
        return Similarity(self.metric, self.t, held, None, every, every, counts, anchor)

    def anchor(self, points: np.ndarray) -> torch.Tensor:
        """Scaled distances to the anchor."""
        return self.metric.block(torch.from_numpy(self.first), torch.from_numpy(points))[0] * self.t

    def start(self, points: np.ndarray) -> np.ndarray:
        """Return what a residual is without any weights."""
        return (
            as_numpy(torch.expm1(-self.anchor(points)).neg_())
            if self.anchored
            else np.ones(len(points))
        )

    def product(self, points: np.ndarray, others: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Rows of zeta, or of S, times weights of some others."""
        height, width = tile_shape(torch.device("cpu"))
        out = np.zeros(len(points))
        rows, v = torch.from_numpy(points), torch.from_numpy(weights)
        across = torch.from_numpy(others)
        if self.anchored:
            a, b = self.anchor(points), self.anchor(others)
        for i in block_slices(len(points), height):
            for j in block_slices(len(others), width):
                anchors = (a[i], b[j]) if self.anchored else None
                entries = entries_between(self.metric, self.t, rows[i], across[j], anchors)
                out[i] += as_numpy(entries @ v[j])
        return out


class Columns(NamedTuple):
    """The columns of U that belong to a cell's points.

    Parameters
    ----------
    points : ndarray of shape (n_halo, n_features)
        The points that the columns hold.
    numbers : int64 ndarray of shape (n_halo,)
        Their numbers.
    indices : int32 ndarray of shape (n_columns, n_neighbors + 1)
        Each point and its neighbours, as places in `points`.
    values : ndarray of shape (n_columns, n_neighbors + 1)
        The columns at these.
    """

    points: np.ndarray
    numbers: np.ndarray
    indices: np.ndarray
    values: np.ndarray

    @property
    def own(self) -> np.ndarray:
        """Numbers of the points that the columns belong to."""
        return self.numbers[self.indices[:, 0]]


def columns_of(
    kernel: Kernel,
    n_first: int,
    cell: Ordered,
    head: Head,
    own: Nearest,
    others: Sequence[Beyond],
) -> Columns:
    """Settle the neighbours of a cell's points and solve the small systems."""
    distance, positions = own.distance.copy(), own.positions.copy()
    for other in others:
        rows = other.rows
        d = np.concatenate([distance[rows], other.nearest.distance], axis=1)
        found = np.concatenate([positions[rows], other.nearest.positions], axis=1)
        place = np.lexsort((found, d), axis=1)[:, : distance.shape[1]]
        distance[rows] = np.take_along_axis(d, place, axis=1)
        positions[rows] = np.take_along_axis(found, place, axis=1)
    mine = cell.positions[cell.positions >= n_first]
    pattern = np.concatenate([mine[:, None], positions], axis=1)
    pattern = np.where(pattern == NONE, pattern[:, :1], pattern)
    tables = [cell, head.first, *(other.table for other in others)]
    points, numbers, places = (np.concatenate(part) for part in zip(*tables, strict=True))
    used, at = np.unique(pattern, return_inverse=True)
    known, first = np.unique(places, return_index=True)
    chosen = first[known.searchsorted(used)]
    indices = at.reshape(pattern.shape).astype(np.int32)
    halo, values = points[chosen] * kernel.unit, np.empty(indices.shape)
    if len(indices):
        values = columns(kernel.similarity(halo), torch.from_numpy(indices)).numpy()
    return Columns(halo, numbers[chosen], indices, values)


def names(held: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the points that columns belong to, and of all that they hold."""
    return held.own, held.numbers


def residuals_of_own(
    kernel: Kernel, cell: Cell, centers: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Entries of 1 - zeta w of a cell's points, for weights of the centers."""
    return kernel.start(cell.points) - kernel.product(cell.points, centers, weights)


def products_with_own(
    kernel: Kernel, cell: Cell, points: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """What the weights of a cell's points contribute to the rows of other points."""
    return kernel.product(points, cell.points, weights)


def tails(held: Columns, rho: np.ndarray) -> np.ndarray:
    """Rows of U' rho, for rho at the points that the columns hold."""
    return np.asarray((rho[held.indices] * held.values).sum(axis=1))


def spreads(held: Columns, y: np.ndarray) -> np.ndarray:
    """Products of the columns with y, at the points that the columns hold."""
    weights = (held.values * y[:, None]).ravel()
    return np.bincount(held.indices.ravel(), weights=weights, minlength=len(held.numbers))


def some_columns(held: Columns, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points and values of some columns."""
    return held.numbers[held.indices[places]], held.values[places]


def least_distances(k: int, p: float, unit: float, cell: Cell, queries: np.ndarray) -> np.ndarray:
    """Distances from queries, in the unit, to the nearest points of a cell."""
    tree = cKDTree(cell.points / unit, balanced_tree=False, compact_nodes=False)
    found = tree.query(queries, min(k, tree.n), p=p)[0].reshape(len(queries), -1)
    missing = np.full((len(queries), k - found.shape[1]), np.inf)
    return np.concatenate([found, missing], axis=1)


def reaches(centres: Sequence[np.ndarray], unit: float, cell: Cell) -> list[float]:
    """Greatest distance of a cell's points from each of some centres."""
    points = torch.from_numpy(cell.points)
    return [greatest_reach(points, torch.from_numpy(centre), unit) for centre in centres]


def total(cell: Cell) -> np.ndarray:
    """Sum of a cell's points."""
    return np.asarray(cell.points.sum(axis=0))
