"""Cuts of space into cells that hold like shares of a sample, whatever its columns look like."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Share of the points that the smaller side of a cut holds for its axis to be good enough.
_FAIR = 0.25
# Pieces are packed into one cell up to so many shares; a piece with less is not cut again.
_ROOM = 1.5


class Cuts(NamedTuple):
    """Points with a coordinate below a threshold are on the one side, the others on the other.

    Parameters
    ----------
    axes : int64 ndarray of shape (n_cuts,)
        Coordinate of each cut; the first cut parts all points.
    thresholds : ndarray of shape (n_cuts,)
        Its threshold.
    sides : int64 ndarray of shape (n_cuts, 2)
        What is below and what is not: another cut, or a cell c as ~c.
    n_cells : int
        Number of cells.
    """

    axes: np.ndarray
    thresholds: np.ndarray
    sides: np.ndarray
    n_cells: int


def cuts(sample: np.ndarray, n_cells: int) -> Cuts:
    """Cut space until no cell holds much more than its share of a sample.

    Across the longest side, unless nearly all points have one value there, as in a column of zeros
    or a flag: then across another. Points that no cut tells apart stay together, and small pieces
    are packed into one cell.
    """
    share = len(sample) / n_cells
    axes: list[int] = []
    thresholds: list[float] = []
    sides: list[list[int]] = []
    cell, held = 0, 0
    # Pieces and where to note what becomes of them. No recursion, as cuts may be nested deeply.
    pieces = [(sample, [0], 0)]
    while pieces:
        points, place, side = pieces.pop()
        found = _cut(points, round(len(points) / share))
        if found is None:
            if held and held + len(points) > _ROOM * share:
                cell, held = cell + 1, 0
            held += len(points)
            place[side] = ~cell
            continue
        axis, threshold = found
        place[side] = len(axes)
        axes.append(axis)
        thresholds.append(threshold)
        sides.append([0, 0])
        below = points[:, axis] < threshold
        pieces += [(points[~below], sides[-1], 1), (points[below], sides[-1], 0)]
    return Cuts(
        np.array(axes, dtype=np.int64),
        np.array(thresholds),
        np.array(sides, dtype=np.int64).reshape(-1, 2),
        cell + 1,
    )


def _cut(points: np.ndarray, n_pieces: int) -> tuple[int, float] | None:
    """Axis and threshold that part points into halves of like numbers of pieces, if any do."""
    if n_pieces < 2:
        return None
    wanted = round(len(points) * (n_pieces // 2) / n_pieces)
    best, most = None, 0
    with np.errstate(over="ignore"):
        extents = np.ptp(points, axis=0)
    for axis in np.argsort(-extents, kind="stable"):
        along = np.sort(points[:, axis])
        # Equal values stay together: the cut is at an end of the run of those in the place wanted.
        for side in ("left", "right"):
            at = int(along.searchsorted(along[wanted], side))
            smaller = min(at, len(along) - at)
            if smaller > most:
                best, most = (int(axis), float(along[at])), smaller
        if most >= _FAIR * len(points):
            break
    return best


def cells_of(points: np.ndarray, cut: Cuts) -> np.ndarray:
    """Number of the cell of each point."""
    out = np.zeros(len(points), dtype=np.int64)
    parts = [(0, np.arange(len(points)))] if len(cut.axes) else []
    while parts:
        number, rows = parts.pop()
        if number < 0:
            out[rows] = ~number
            continue
        below = points[rows, cut.axes[number]] < cut.thresholds[number]
        parts += [(cut.sides[number, 0], rows[below]), (cut.sides[number, 1], rows[~below])]
    return out
