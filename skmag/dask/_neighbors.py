"""The nearest earlier points of points in cells.

The first points of the order, few enough that every cell is given them, tell how far away these can
be: at most as far as the nearest of the first ones and from there to its own neighbours among them.
A cell whose box is farther than that from all points of another one has nothing to tell it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from skmag._solvers._earlier import NONE, settled_nearest
from skmag.dask._cells import Cell

# A box or a distance may be this much off by rounding.
_ROUNDING = 1 + 1e-9


class Ordered(NamedTuple):
    """Points of a cell in the order of elimination.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_features)
        In units in which powers stay in range.
    numbers : int64 ndarray of shape (n_points,)
        Numbers.
    positions : int64 ndarray of shape (n_points,)
        Places in the order of all points, ascending.
    """

    points: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray

    def since(self, position: int) -> Ordered:
        """Return the points from a place in the order on."""
        start = int(self.positions.searchsorted(position))
        return Ordered(*(part[start:] for part in self))


class Head(NamedTuple):
    """The first points of the order, and how far each of them is from its k-th nearest fellow.

    Parameters
    ----------
    first : Ordered
        The points.
    spacing : ndarray of shape (n_first,)
        Radius of the ball around each that holds k of them, itself included; infinite where there
        are fewer.
    """

    first: Ordered
    spacing: np.ndarray


class Nearest(NamedTuple):
    """Distances to, and positions of, the nearest earlier points; infinite and NONE for none."""

    distance: np.ndarray
    positions: np.ndarray


class Beyond(NamedTuple):
    """What another cell adds to the nearest earlier points of some rows.

    Parameters
    ----------
    rows : int64 ndarray of shape (n_rows,)
        Points that have a neighbour there.
    nearest : Nearest
        The nearest ones there.
    table : Ordered
        All that are named.
    """

    rows: np.ndarray
    nearest: Nearest
    table: Ordered


def ordered(unit: float, cell: Cell, positions: np.ndarray) -> Ordered:
    """Put a cell's points into the order of their positions."""
    by_position = positions.argsort()
    return Ordered(
        cell.points[by_position] / unit, cell.numbers[by_position], positions[by_position]
    )


def head_of(first: Ordered, k: int, p: float) -> Head:
    """Measure how the first points of the order are spaced."""
    if k > len(first.points):
        return Head(first, np.full(len(first.points), np.inf))
    tree = cKDTree(first.points, balanced_tree=False, compact_nodes=False)
    return Head(first, tree.query(first.points, [k], p=p)[0][:, 0])


def asked_cells(p: float, boxes: np.ndarray, number: int, cell: Ordered, head: Head) -> list[int]:
    """Which other cells, whose boxes are given, may hold neighbours of a cell's points."""
    points = cell.since(len(head.spacing)).points
    if not len(points):
        return []
    tree = cKDTree(head.first.points, balanced_tree=False, compact_nodes=False)
    distance, nearest = tree.query(points, p=p)
    # The k nearest fellows of the nearest first point are at most so far away.
    reach = (distance + head.spacing[nearest]) * _ROUNDING
    span = np.stack([points.min(axis=0), points.max(axis=0)])
    apart = np.linalg.norm(_outside(boxes[:, 1], boxes[:, 0], span), ord=p, axis=1)
    near = np.flatnonzero(apart <= reach.max()).tolist()
    return [other for other in near if other != number and _within(p, points, reach, boxes[other])]


def _within(p: float, points: np.ndarray, reach: np.ndarray, box: np.ndarray) -> bool:
    """Whether a box is within the reach of any of some points."""
    gap = np.linalg.norm(_outside(points, points, box), ord=p, axis=1)
    return bool((gap <= reach).any())


def _outside(high: np.ndarray, low: np.ndarray, box: np.ndarray) -> np.ndarray:
    """How far boxes, or points, are outside a box along each axis."""
    return np.maximum(np.maximum(box[0] - high, low - box[1]), 0.0)


def nearest_within(n_first: int, n: int, k: int, p: float, cell: Ordered, head: Head) -> Nearest:
    """Find the nearest earlier points in the own cell and the head, for all but the first ones."""
    later = np.flatnonzero(cell.positions >= n_first)
    out = Nearest(np.full((len(later), k), np.inf), np.full((len(later), k), NONE))
    rest = cell.since(len(head.spacing))
    known = Ordered(*(np.concatenate(part) for part in zip(head.first, rest, strict=True)))
    _search(n_first, n, p, cell, later, known, out)
    return out


def nearest_beyond(
    n_first: int, n: int, p: float, cell: Ordered, head: Head, own: Nearest, other: Ordered
) -> Beyond:
    """Find nearer or missing neighbours in another cell, beyond those in the head."""
    n_head = len(head.spacing)
    later, there = np.flatnonzero(cell.positions >= n_first), other.since(n_head)
    points = cell.points[later]
    box = np.stack([there.points.min(axis=0), there.points.max(axis=0)])
    gap = np.linalg.norm(_outside(points, points, box), ord=p, axis=1)
    # The head holds all that comes before a point of its own.
    asking = (cell.positions[later] >= n_head) & (gap <= own.distance[:, -1] * _ROUNDING)
    rows = np.flatnonzero(asking)
    k = own.distance.shape[1]
    found = Nearest(np.full((len(rows), k), np.inf), np.full((len(rows), k), NONE))
    _search(n_first, n, p, cell, later[rows], there, found)
    # What is farther than all that is known already is of no use.
    useful = (found.distance <= own.distance[rows, -1:]) & (found.positions != NONE)
    some = useful.any(axis=1)
    found = Nearest(
        np.where(useful, found.distance, np.inf)[some],
        np.where(useful, found.positions, NONE)[some],
    )
    used = np.unique(found.positions[found.positions != NONE])
    table = Ordered(*(part[there.positions.searchsorted(used)] for part in there))
    return Beyond(rows[some], found, table)


def _search(
    n_first: int,
    n: int,
    p: float,
    cell: Ordered,
    asking: np.ndarray,
    other: Ordered,
    out: Nearest,
) -> None:
    """Write the nearest earlier ones of other points for some of a cell's, level by level."""
    k = out.distance.shape[1]
    start, stop = n_first, n_first
    while stop < n:
        start, stop = stop, min(2 * stop, n)
        here = slice(*cell.positions[asking].searchsorted([start, stop]))
        held = int(other.positions.searchsorted(stop))
        if here.start == here.stop or not held:
            continue
        tree = cKDTree(other.points[:held], balanced_tree=False, compact_nodes=False)
        queries = asking[here]
        limit = other.positions.searchsorted(cell.positions[queries])
        distance, place = settled_nearest(tree, cell.points[queries], limit, k, p)
        none = place == NONE
        out.distance[here] = distance
        out.positions[here] = np.where(none, NONE, other.positions[np.where(none, 0, place)])
