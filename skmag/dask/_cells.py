"""The distinct points of a chunked array, shared out into cells of space.

Rows of a chunk may lie anywhere; points of a cell lie together, so that copies of a point meet in
one cell and near points mostly do. What is known of single rows is numbers: which point they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_array, issparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from skmag._arrays import as_numpy
from skmag._duplicates import equal_row_groups
from skmag._metrics import EPS, Metric
from skmag.dask._cuts import Cuts, cells_of, cuts
from skmag.dask._graph import compute, persist, task

# Points for each cell that are looked at to tell where to cut.
_SAMPLE = 200
# Unit vectors up to this far apart are one direction, as the cosine distance has it.
_SAME_DIRECTION = 8 * EPS


class Chunk(NamedTuple):
    """The distinct points of a chunk of rows.

    Parameters
    ----------
    points : ndarray of shape (n_distinct, n_features)
        Prepared points.
    rows : int64 ndarray of shape (n_distinct,)
        First row of each.
    leaders : int64 ndarray of shape (n_rows,)
        For each row the first row of the chunk that is the same point.
    """

    points: np.ndarray
    rows: np.ndarray
    leaders: np.ndarray


class Share(NamedTuple):
    """Points on their way to a cell, and the first row of each."""

    points: np.ndarray
    rows: np.ndarray


class Gathered(NamedTuple):
    """Distinct points of a cell, the first row of each, and pairs of a row and its leader."""

    points: np.ndarray
    rows: np.ndarray
    copies: np.ndarray


class Cell(NamedTuple):
    """Distinct points of a cell in the order of their numbers."""

    points: np.ndarray
    numbers: np.ndarray


def read_chunk(
    metric: Metric, number: int, start: int, shape: tuple[int, int], block: Any
) -> Chunk:
    """Check the rows of a chunk, prepare them and merge its copies."""
    last = f" (rows {start} to {start + shape[0] - 1})" if shape[0] else ""
    where = f"X in partition {number}{last}"
    values = _dense(block, where, start, shape)
    if not len(values):
        none = np.empty(0, dtype=np.int64)
        return Chunk(values, none, none)
    wrong = ~np.isfinite(values).all(axis=1)
    if wrong.any():
        row = start + int(wrong.argmax())
        raise ValueError(
            f"{where} contains NaN, infinity or a value too large for float64, first in row {row}; "
            "drop or impute such rows"
        )
    points = metric.points(torch.from_numpy(values), where)
    group, first = (as_numpy(part) for part in equal_row_groups(points))
    return Chunk(as_numpy(points)[first], start + first, start + first[group])


def _dense(block: Any, where: str, start: int, shape: tuple[int, int]) -> np.ndarray:
    """Entries of a block of an array that declares its shape, if it keeps to its word."""
    if issparse(block) or hasattr(block, "todense"):
        raise TypeError(
            f"{where} is a sparse {type(block).__name__}, but points must be dense; use "
            "X.map_blocks(lambda block: block.toarray()), or todense() where that is its name"
        )
    if np.ma.is_masked(block):
        row = start + int(np.ma.getmaskarray(block).any(axis=1).argmax())
        raise ValueError(
            f"{where} has masked entries, first in row {row}; drop or impute such rows, "
            "dask.array.ma.filled(X, value) fills them"
        )
    values = np.array(block, dtype=np.float64)
    if values.shape != shape:
        raise ValueError(
            f"{where} has shape {values.shape}, but X declares {shape}; "
            "give the shape that it has where X is made"
        )
    return values


def outline(step: int, chunk: Chunk) -> np.ndarray:
    """Return a share of a chunk's points."""
    return chunk.points[::step]


def shared_out(cut: Cuts, chunk: Chunk) -> tuple[Share, ...]:
    """Part a chunk's points by their cells."""
    cell = cells_of(chunk.points, cut)
    order = cell.argsort(kind="stable")
    bounds = cell[order].searchsorted(np.arange(cut.n_cells + 1))
    parts = [order[start:stop] for start, stop in pairwise(bounds)]
    return tuple(Share(chunk.points[part], chunk.rows[part]) for part in parts)


def gathered(shares: Sequence[Share]) -> Gathered:
    """Merge the copies among what the chunks hold of a cell."""
    points = np.concatenate([share.points for share in shares])
    rows = np.concatenate([share.rows for share in shares])
    group, first = (as_numpy(part) for part in equal_row_groups(torch.from_numpy(points)))
    leaders = rows[first][group]
    again = leaders != rows
    return Gathered(points[first], rows[first], np.stack([rows[again], leaders[again]], axis=1))


def extent(cell: Gathered | Cell) -> np.ndarray:
    """Return the two corners of a cell's box."""
    if not len(cell.points):
        return np.array([[np.inf], [-np.inf]]) * np.ones(cell.points.shape[1])
    return np.stack([cell.points.min(axis=0), cell.points.max(axis=0)])


def same_directions(box: np.ndarray, one: Gathered, other: Gathered) -> np.ndarray:
    """Rows of unit vectors of one cell and of another, whose box is given, that are the same."""
    near = (one.points >= box[0] - _SAME_DIRECTION) & (one.points <= box[1] + _SAME_DIRECTION)
    mine = np.flatnonzero(near.all(axis=1))
    if not len(mine):
        return np.empty((0, 2), dtype=np.int64)
    tree = cKDTree(other.points, balanced_tree=False, compact_nodes=False)
    found = tree.query_ball_point(one.points[mine], _SAME_DIRECTION)
    own = np.repeat(mine, [len(theirs) for theirs in found])
    theirs = np.concatenate([np.asarray(part, dtype=np.int64) for part in found])
    pairs = np.stack([one.rows[own], other.rows[theirs]], axis=1)
    return np.asarray(pairs[pairs[:, 0] != pairs[:, 1]])


def numbered(cell: Gathered, numbers: np.ndarray) -> Cell:
    """Keep the points that have a number, in its order; -1 is none."""
    order = numbers.argsort(kind="stable")
    order = order[numbers[order] >= 0]
    return Cell(cell.points[order], numbers[order])


def taken(cell: Cell, places: np.ndarray) -> np.ndarray:
    """Return some of a cell's points."""
    return cell.points[places]


@dataclass(frozen=True)
class Cells:
    """Distinct points in cells, and what is known here of each row and each point.

    Parameters
    ----------
    metric : Metric
        Distance between points.
    parts : list of tasks
        Their results are the :class:`Cell` objects, none of them empty.
    numbers : list of int64 ndarray
        Numbers of each cell's points, ascending; points are numbered by their first row.
    boxes : ndarray of shape (n_cells, 2, n_features)
        Corners of each cell's box.
    group : int64 ndarray of shape (n_samples,)
        Number of each row's point.
    counts : int64 ndarray of shape (n_points,)
        Number of rows that each point has.
    """

    metric: Metric
    parts: list[Any]
    numbers: list[np.ndarray]
    boxes: np.ndarray
    group: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(
        cls, blocks: Sequence[Any], sizes: Sequence[int], n_features: int, metric: Metric
    ) -> Cells:
        """Read the blocks of an array, given as tasks with their numbers of rows."""
        starts = np.cumsum([0, *sizes])
        # About as many points in a cell as rows in the largest chunk.
        n_cells = max(1, -(-int(starts[-1]) // max(sizes)))
        chunks = persist(
            [
                task(read_chunk, metric, number, int(start), (size, n_features))(block)
                for number, (block, start, size) in enumerate(
                    zip(blocks, starts[:-1], sizes, strict=True)
                )
            ]
        )
        step = max(1, int(starts[-1]) // (_SAMPLE * n_cells))
        sample = np.concatenate(compute([task(outline, step)(chunk) for chunk in chunks]))
        cut = cuts(sample, n_cells)
        shares = [task(shared_out, cut, nout=cut.n_cells)(chunk) for chunk in chunks]
        parts = persist(
            [task(gathered)([share[c] for share in shares]) for c in range(cut.n_cells)]
        )
        leaders = np.concatenate(compute([task(_leaders)(chunk) for chunk in chunks]))
        merged = compute([task(_rows)(part) for part in parts])
        filled = [c for c, (rows, _) in enumerate(merged) if len(rows)]
        parts, merged = [parts[c] for c in filled], [merged[c] for c in filled]
        leaders = _followed(leaders, np.concatenate([copies for _, copies in merged]))
        if not metric.separates:
            leaders = _merged_directions(parts, leaders)
        first, group, counts = np.unique(leaders, return_inverse=True, return_counts=True)
        numbers = [
            np.where(leaders[rows] == rows, first.searchsorted(rows), -1) for rows, _ in merged
        ]
        kept = [np.sort(own[own >= 0]) for own in numbers]
        cells = persist(
            [
                task(numbered)(part, own)
                for part, own in zip(parts, numbers, strict=True)
                if (own >= 0).any()
            ]
        )
        boxes = np.stack(compute([task(extent)(cell) for cell in cells]))
        return cls(metric, cells, [own for own in kept if len(own)], boxes, group, counts)

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def n_features(self) -> int:
        """Number of coordinates."""
        return self.boxes.shape[2]

    @property
    def corners(self) -> np.ndarray:
        """Corners of the box of all points."""
        return np.stack([self.boxes[:, 0].min(axis=0), self.boxes[:, 1].max(axis=0)])

    def take(self, wanted: np.ndarray) -> np.ndarray:
        """Return points by their numbers, few enough to be held here."""
        out = np.empty((len(wanted), self.n_features))
        tasks, places = [], []
        for part, own in zip(self.parts, self.numbers, strict=True):
            place = np.minimum(own.searchsorted(wanted), len(own) - 1)
            here = np.flatnonzero(own[place] == wanted)
            if len(here):
                tasks.append(task(taken)(part, place[here]))
                places.append(here)
        for here, points in zip(places, compute(tasks), strict=True):
            out[here] = points
        return out

    def collected(self, found: Sequence[np.ndarray]) -> np.ndarray:
        """Return values of all points from those of the cells' points."""
        out = np.empty(len(self))
        for own, values in zip(self.numbers, found, strict=True):
            out[own] = values
        return out

    def parted(self, values: np.ndarray) -> list[np.ndarray]:
        """Return for each cell the values of its points."""
        return [values[own] for own in self.numbers]


def _leaders(chunk: Chunk) -> np.ndarray:
    return chunk.leaders


def _rows(cell: Gathered) -> tuple[np.ndarray, np.ndarray]:
    return cell.rows, cell.copies


def _followed(leaders: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Leaders after those that turned out to be copies follow theirs."""
    further = np.arange(len(leaders))
    further[copies[:, 0]] = copies[:, 1]
    return further[leaders]


def _merged_directions(parts: Sequence[Any], leaders: np.ndarray) -> np.ndarray:
    """Leaders after points at distance zero from each other are taken for one."""
    boxes = compute([task(extent)(part) for part in parts])
    apart = 2 * _SAME_DIRECTION
    pairs = [
        (a, b)
        for a in range(len(parts))
        for b in range(a, len(parts))
        if (boxes[a][0] <= boxes[b][1] + apart).all() and (boxes[b][0] <= boxes[a][1] + apart).all()
    ]
    edges = np.concatenate(
        compute([task(same_directions, boxes[b])(parts[a], parts[b]) for a, b in pairs])
    )
    if not len(edges):
        return leaders
    rows, ends = np.unique(edges, return_inverse=True)
    i, j = ends.reshape(edges.shape).T
    graph = coo_array((np.ones(len(i), dtype=np.int8), (i, j)), shape=(len(rows), len(rows)))
    label = connected_components(graph, directed=False)[1]
    # Rows ascend, so that the first one of a component is its leader.
    first = np.unique(label, return_index=True)[1]
    return _followed(leaders, np.stack([rows, rows[first][label]], axis=1))
