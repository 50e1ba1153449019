"""Farthest-first traversal: an order of points in which every prefix spreads over the whole set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.neighbors import BallTree

from skmag._arrays import Portable, as_numpy
from skmag._metrics import Metric

# Share of the points within the radius of a new center below which balls are cheaper to ask for
# than all distances are to compute.
_FEW = 1 / 64
# Points that the balls of one question may hold together: 16 MB for each array over them.
_BALL_ENTRIES = 2**21
# Neighbours among the candidates that are looked at before a candidate's ball is asked for.
_RIVALS = 8
# Candidates of a round, as a share of the greatest distance, where only a prefix is wanted.
_REACH = 0.5


@dataclass(frozen=True)
class Space(Portable):
    """Points with a metric, or a table of their distances.

    Parameters
    ----------
    metric : Metric
        Distance between points.
    points : tensor of shape (n_points, n_features) or None
        Prepared points; None for a table.
    table : tensor of shape (n_points, n_points) or None
        Distances.
    """

    metric: Metric
    points: torch.Tensor | None
    table: torch.Tensor | None = None

    @property
    def held(self) -> torch.Tensor:
        """Points or table, whichever there is."""
        held = self.points if self.table is None else self.table
        assert held is not None
        return held

    def __len__(self) -> int:
        return len(self.held)

    def block(self, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Distances between two sets of indices."""
        if self.table is not None:
            return self.table[rows][:, columns]
        assert self.points is not None
        return self.metric.block(self.points[rows], self.points[columns])

    def row(self, point: int) -> torch.Tensor:
        """Distances from one point to all, zero to itself."""
        if self.table is not None:
            row = self.table[point].clone()
        else:
            assert self.points is not None
            row = self.metric.block(self.points[point : point + 1], self.points)[0]
        row[point] = 0.0
        return row

    def of(self, chosen: torch.Tensor) -> Space:
        """Return the space of some of the points."""
        if self.table is not None:
            return Space(self.metric, None, self.table[chosen][:, chosen])
        assert self.points is not None
        return Space(self.metric, self.points[chosen])


@dataclass(frozen=True)
class Traversal:
    """Centers in order of choice.

    Parameters
    ----------
    order : int64 ndarray of shape (n_centers,)
        Points in order of choice.
    radii : ndarray of shape (n_centers,)
        Distance of each to those before it; infinite for the first.
    nearest : int64 ndarray of shape (n_points,)
        A center of each point whose distance is zero; anything for other points.
    covering_radius : float
        Greatest distance of a point to the centers.
    """

    order: np.ndarray
    radii: np.ndarray
    nearest: np.ndarray
    covering_radius: float


def farthest_first(space: Space, n_centers: int | None = None, start: int = 0) -> Traversal:
    """Choose again and again the point that is farthest from those chosen.

    Ties go to the lower index. Points at distance zero from a center are never chosen.

    Parameters
    ----------
    space : Space
        The points.
    n_centers : int, default=None
        How many to choose at most; None for all.
    start : int, default=0
        Point to begin with.

    Returns
    -------
    Traversal
        The order.
    """
    wanted = len(space) if n_centers is None else min(n_centers, len(space))
    distance = space.row(start)
    nearest = torch.full_like(distance, start, dtype=torch.int64)
    order, radii = [start], [float("inf")]
    within = 1.0
    while len(order) < wanted and not (space.metric.is_norm and within < _FEW):
        # A device is asked for both at once.
        radius, at = torch.stack([value.to(distance) for value in distance.max(dim=0)]).tolist()
        if radius == 0:
            break
        row = space.row(int(at))
        nearest.masked_fill_(row < distance, int(at))
        torch.minimum(distance, row, out=distance)
        within += (float((row < radius).to(torch.float32).mean()) - within) / 10
        order.append(int(at))
        radii.append(radius)
    state = _Chosen.after(order, radii, as_numpy(distance), as_numpy(nearest))
    if len(order) < wanted and float(distance.max()) > 0:
        assert space.points is not None
        state.choose_by_balls(as_numpy(space.points), _exponent(space.metric), wanted)
    return state.traversal(wanted)


class _Chosen:
    """Radii of the points chosen so far, which need not be a prefix of the order.

    A point p may be chosen ahead of its turn, and many at once, if no point q of the open ball
    around p with radius distance[p] precedes it (has a greater distance, or the same and a lower
    index): only such a q could come nearer to p before p's turn, and distances only fall. What p's
    choice changes are points of that ball only, since at p's turn no distance is greater than
    p's. So the order, sorted by radius in the end, is the very one that single steps find.
    """

    def __init__(self, radius: np.ndarray, distance: np.ndarray, nearest: np.ndarray) -> None:
        self.radius, self.distance, self.nearest = radius, distance, nearest

    @classmethod
    def after(
        cls, order: list[int], radii: list[float], distance: np.ndarray, nearest: np.ndarray
    ) -> _Chosen:
        """State after a prefix of the order."""
        radius = np.zeros(len(distance))
        radius[order] = radii
        return cls(radius, distance, nearest)

    def traversal(self, wanted: int) -> Traversal:
        """The `wanted` first centers in their order; they must be a prefix."""
        chosen = np.flatnonzero(self.radius)
        order = chosen[np.argsort(-self.radius[chosen], kind="stable")]
        left_over = self.radius[order[wanted:]].max(initial=0.0)
        covering = max(float(self.distance.max()), float(left_over))
        return Traversal(order[:wanted], self.radius[order[:wanted]], self.nearest, covering)

    def choose_by_balls(self, points: np.ndarray, p: float, wanted: int) -> None:
        """Choose until a prefix of the order holds `wanted` points."""
        # Powers of differences must stay within the range of floats; a power of two rounds nothing.
        unit = 2.0 ** np.frexp(np.abs(points).max())[1]
        points = points / unit
        tree = BallTree(points, metric="minkowski", p=p)
        place = np.argsort(tree.get_arrays()[1])
        size = _FEW * len(points)
        while (greatest := float(self.distance.max())) > 0:
            if wanted < len(points) and np.count_nonzero(self.radius > greatest) >= wanted:
                return
            least = _REACH * greatest if wanted < len(points) else 0.0
            candidates = self._unrivalled(self._champions(least), points, p, unit)
            # Neighbours one after the other find each other's points in the cache.
            candidates = candidates[np.argsort(place[candidates])]
            parts = np.array_split(
                candidates, min(len(candidates), 1 + int(len(candidates) * size / _BALL_ENTRIES))
            )
            held = sum(self._choose_among(part, tree, points, unit) for part in parts)
            size = held / len(candidates)

    def _champions(self, least: float) -> np.ndarray:
        """The first point of each center's cell, if its distance is above `least`."""
        n = len(self.distance)
        greatest = np.zeros(n)
        np.maximum.at(greatest, self.nearest, self.distance)
        far = (self.distance == greatest[self.nearest]) & (self.distance > least)
        rows = np.flatnonzero(far)
        first = np.full(n, n)
        np.minimum.at(first, self.nearest[rows], rows)
        return np.asarray(first[first < n])

    def _unrivalled(
        self, candidates: np.ndarray, points: np.ndarray, p: float, unit: float
    ) -> np.ndarray:
        """Candidates in whose ball none of their nearest fellows precedes them."""
        tree = BallTree(points[candidates], metric="minkowski", p=p)
        gap, rival = tree.query(points[candidates], min(_RIVALS, len(candidates)))
        rival, own = candidates[rival], candidates[:, None]
        beaten = self._precedes(rival, own) & (gap * unit < self.distance[own])
        return np.asarray(candidates[~beaten.any(axis=1)])

    def _precedes(self, q: np.ndarray, p: np.ndarray) -> np.ndarray:
        tied = (self.distance[q] == self.distance[p]) & (q < p)
        return np.asarray((self.distance[q] > self.distance[p]) | tied)

    def _choose_among(
        self, part: np.ndarray, tree: BallTree, points: np.ndarray, unit: float
    ) -> int:
        """Choose the candidates that no point of their ball precedes; return the balls' size."""
        # Distances are compared below; a ball may hold more than it needs to.
        reach = self.distance[part] / unit * (1 + 1e-9)
        found, gaps = tree.query_radius(points[part], reach, return_distance=True)
        owner = np.repeat(np.arange(len(part)), [len(ball) for ball in found])
        q, gap, p = np.concatenate(found), np.concatenate(gaps) * unit, part[owner]
        inside = gap < self.distance[p]
        stopped = np.zeros(len(part), dtype=bool)
        stopped[owner[inside & self._precedes(q, p)]] = True
        chosen = part[~stopped]
        self.radius[chosen] = self.distance[chosen]
        nearer = inside & ~stopped[owner] & (gap < self.distance[q])
        # Of several new centers the nearest one writes last.
        last = np.flatnonzero(nearer)[np.argsort(-gap[nearer], kind="stable")]
        self.distance[q[last]], self.nearest[q[last]] = gap[last], p[last]
        self.distance[chosen], self.nearest[chosen] = 0.0, chosen
        return len(q)


def _exponent(metric: Metric) -> float:
    """The p of a norm."""
    fixed = {"euclidean": 2.0, "cityblock": 1.0, "chebyshev": float("inf")}
    return fixed[metric.name] if metric.name in fixed else float(metric.params["p"])
