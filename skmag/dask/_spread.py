"""The farthest-point order of points in cells, the same as where they lie together."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.metrics import DistanceMetric

from skmag._arrays import as_numpy, block_slices
from skmag._hierarchy._farthest import _FEW
from skmag._metrics import Metric
from skmag._solvers._dimension import exponent
from skmag.dask._cells import Cell, Cells
from skmag.dask._graph import compute, constant, persist, task

# Points far from all centers that are looked at together.
_CANDIDATES = 2**14
# Centers whose distances are computed together.
_TOGETHER = 16


class Reached(NamedTuple):
    """Distances of a cell's points to the centers, and how many each new center was near to."""

    distance: np.ndarray
    counts: np.ndarray


class Candidates(NamedTuple):
    """The points of a cell farthest from all centers, lower numbers first where they tie.

    Parameters
    ----------
    points : ndarray of shape (n_candidates, n_features)
        The points.
    numbers : int64 ndarray of shape (n_candidates,)
        Their numbers.
    distance : ndarray of shape (n_candidates,)
        Their distances.
    complete : bool
        Whether these are all of the cell's points.
    """

    points: np.ndarray
    numbers: np.ndarray
    distance: np.ndarray
    complete: bool


class Gaps(NamedTuple):
    """Distances from centers, computed as where all points lie together.

    There a tree takes over from blocks of distances after a while, and rounds differently; which of
    two points is the farther one may hang on that.
    """

    metric: Metric
    by_tree: bool
    unit: float

    def of(self, centers: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Distances from some centers to some points."""
        if not self.by_tree:
            rows, columns = torch.from_numpy(centers), torch.from_numpy(points)
            return as_numpy(self.metric.block(rows, columns))
        measure = DistanceMetric.get_metric("minkowski", p=exponent(self.metric))
        return np.asarray(measure.pairwise(centers / self.unit, points / self.unit) * self.unit)


class Chosen(NamedTuple):
    """Centers in order of choice, their radii, and the greatest distance to the first point."""

    order: np.ndarray
    radii: np.ndarray
    reach: float


def reached(
    gaps: Gaps,
    cell: Cell,
    before: Reached | None,
    centers: np.ndarray,
    numbers: np.ndarray,
    radii: np.ndarray,
) -> Reached:
    """Distances after some more centers, of known radii."""
    distance = np.full(len(cell.points), np.inf) if before is None else before.distance.copy()
    counts = np.zeros(len(numbers), dtype=np.int64)
    place = np.minimum(cell.numbers.searchsorted(numbers), len(cell.numbers) - 1)
    own = cell.numbers[place] == numbers
    for part in block_slices(len(numbers), _TOGETHER):
        rows = gaps.of(centers[part], cell.points)
        # Rounding may part a center from itself.
        rows[own[part], place[part][own[part]]] = 0.0
        counts[part] = (rows < radii[part, None]).sum(axis=1)
        np.minimum(distance, rows.min(axis=0), out=distance)
    return Reached(distance, counts)


def candidates(most: int, cell: Cell, state: Reached) -> tuple[np.ndarray, Candidates]:
    """Return the counts of the last centers and the cell's farthest points."""
    place = np.argsort(-state.distance, kind="stable")[:most]
    found = Candidates(
        cell.points[place],
        cell.numbers[place],
        state.distance[place],
        len(place) == len(cell.points),
    )
    return state.counts, found


def spread(cells: Cells, n_centers: int, unit: float) -> Chosen:
    """Choose again and again the point that is farthest from those chosen.

    A round asks every cell for the points that are farthest now. As distances only fall, these
    decide alone for as long as the farthest of them is farther than any other point of its cell:
    some twenty rounds make hundreds of centers.
    """
    wanted = min(n_centers, len(cells))
    most = max(64, _CANDIDATES // len(cells.parts))
    gaps, within = Gaps(cells.metric, False, unit), 1.0
    order: list[int] = []
    radii: list[float] = []
    reach = None
    state: list[Any] = [None] * len(cells.parts)
    batch = _Batch(cells.take(np.array([0])), np.array([0]), np.array([np.inf]))
    while len(batch.numbers):
        after, counts, found = _advanced(cells, gaps, state, batch, most)
        if cells.metric.is_norm and not gaps.by_tree:
            kept, within = _until_few(counts, len(cells), within)
            if kept < len(batch.numbers):
                batch = _Batch(*(part[:kept] for part in batch))
                after, _, found = _advanced(cells, gaps, state, batch, most)
            # From here on the tree measures; what blocks chose ahead is chosen again.
            gaps = gaps._replace(by_tree=within < _FEW)
        if reach is None:
            reach = max(float(part.distance[0]) for part in found)
        state = after
        order += batch.numbers.tolist()
        radii += batch.radii.tolist()
        batch = _next_batch(gaps, found, wanted - len(order))
    chosen, radius = np.array(order), np.array(radii)
    by_number = np.argsort(chosen)
    sorted_again = by_number[np.argsort(-radius[by_number], kind="stable")]
    return Chosen(chosen[sorted_again], radius[sorted_again], reach or 0.0)


class _Batch(NamedTuple):
    """Centers that are chosen together."""

    points: np.ndarray
    numbers: np.ndarray
    radii: np.ndarray


def _advanced(
    cells: Cells, gaps: Gaps, state: list[Any], batch: _Batch, most: int
) -> tuple[list[Any], np.ndarray, list[Candidates]]:
    """State after a batch, the points near each of its centers, and what is farthest then."""
    points, numbers, radii = (constant(part) for part in batch)
    after = persist(
        [
            task(reached, gaps)(cell, before, points, numbers, radii)
            for cell, before in zip(cells.parts, state, strict=True)
        ]
    )
    found = compute(
        [task(candidates, most)(cell, own) for cell, own in zip(cells.parts, after, strict=True)]
    )
    return after, np.sum([counts for counts, _ in found], axis=0), [own for _, own in found]


def _until_few(counts: np.ndarray, n: int, within: float) -> tuple[int, float]:
    """How many centers of a batch come before a tree is worth its while, and the share then."""
    for i, count in enumerate(counts):
        within += (float(np.float32(count) / np.float32(n)) - within) / 10
        if within < _FEW:
            return i + 1, within
    return len(counts), within


def _next_batch(gaps: Gaps, found: list[Candidates], most: int) -> _Batch:
    """The next centers, as far as the candidates decide."""
    points = np.concatenate([part.points for part in found])
    numbers = np.concatenate([part.numbers for part in found])
    distance = np.concatenate([part.distance for part in found])
    by_number = np.argsort(numbers)
    points, numbers, distance = points[by_number], numbers[by_number], distance[by_number].copy()
    # What was not handed over comes after the last that was.
    last = [(part.distance[-1], part.numbers[-1]) for part in found if not part.complete]
    chosen: list[int] = []
    radii: list[float] = []
    while len(chosen) < most:
        at = int(distance.argmax())
        radius, number = distance[at], numbers[at]
        if radius == 0 or any(radius < d or (radius == d and number > m) for d, m in last):
            break
        row = gaps.of(points[at : at + 1], points)[0]
        row[at] = 0.0
        np.minimum(distance, row, out=distance)
        chosen.append(at)
        radii.append(radius)
    return _Batch(points[chosen], numbers[chosen], np.array(radii))
