"""Nested covering sets at radii that double, and their repair after points joined or left.

Level i is the set S_i of points with a level of at least i. Its radius is r_i = 2^(i - 1) unit, and

    covering    every point lies within r_i of a point of S_i,
    separation  two points of S_i are more than r_i apart.

These are stricter than the sets of AWSGS, Algorithm 3, each of which covers only the level below.
"""

from __future__ import annotations

import numpy as np
import torch

from skmag._arrays import as_numpy, block_slices, rows_per_block
from skmag._hierarchy._farthest import Space

ROOT = np.iinfo(np.int64).max
"""Level of the point that is a center at every radius."""

_UNSET = np.iinfo(np.int64).min


def level_radius(level: int, unit: float) -> float:
    """Radius of a level."""
    return float(np.ldexp(unit, level - 1))


def levels_of(radii: np.ndarray, unit: float) -> np.ndarray:
    """Highest level whose radius is below each of some positive radii."""
    finite = np.isfinite(radii)
    mantissa, exponent = np.frexp(np.where(finite, radii, 1.0) / unit)
    level = exponent.astype(np.int64) - (mantissa == 0.5)
    # The quotient is rounded, so it may be one too low or too high.
    level -= np.ldexp(unit, level - 1) >= radii
    level += np.ldexp(unit, level) < radii
    return np.where(finite, level, ROOT)


def repaired_levels(
    space: Space, level: np.ndarray, fresh: np.ndarray, alive: np.ndarray, unit: float
) -> np.ndarray:
    """Levels after points have joined or left.

    From the top down, each set keeps the old members that stay separated from new ones, and what
    lost its center is covered anew. Points far from those that joined, left or moved are not
    looked at, and levels above the first that may change are kept.

    Parameters
    ----------
    space : Space
        All points, those that leave included.
    level : int64 ndarray of shape (n_points,)
        Levels before; anything for points that join.
    fresh : bool ndarray of shape (n_points,)
        Points that join.
    alive : bool ndarray of shape (n_points,)
        Points that do not leave.
    unit : float
        Twice the radius of level 0.

    Returns
    -------
    int64 ndarray of shape (n_points,)
        Levels after; meaningless for points that leave.
    """
    return _Repair(space, np.where(fresh, _UNSET, level), fresh, alive, unit).run()


class _Repair:
    """One pass over the levels from the top down.

    `near` is the distance of each point to the nearest one that has been promoted by this pass.
    """

    def __init__(
        self, space: Space, old: np.ndarray, fresh: np.ndarray, alive: np.ndarray, unit: float
    ) -> None:
        self.space, self.old, self.unit = space, old, unit
        self.fresh, self.alive = fresh, alive
        self.new = np.full(len(old), _UNSET)
        self.near = np.full(len(old), np.inf)

    def run(self) -> np.ndarray:
        level = self._begin()
        while (self.new[self.alive] == _UNSET).any():
            self._settle(level)
            level -= 1
        return self.new

    def _begin(self) -> int:
        """Settle the root and the levels that cannot change; return the first that may."""
        root = int(np.argmax(np.where(self.alive, self.old, _UNSET)))
        if self.old[root] != ROOT:
            self._promote(root, ROOT)
            return int(levels_of(self.near[self.alive].max(keepdims=True), self.unit)[0])
        self.new[root] = ROOT
        gone = self.old[~self.alive]
        highest = [int(gone.max())] if len(gone) else []
        if self.fresh.any():
            reach = as_numpy(self.space.row(root))[self.fresh].max(keepdims=True)
            highest.append(int(levels_of(reach, self.unit)[0]))
        first = max(highest)
        above = self.alive & (self.old > first)
        self.new[above] = self.old[above]
        return first

    def _settle(self, level: int) -> None:
        """Find the members of one level, those of the levels above being known."""
        radius = level_radius(level, self.unit)
        member = self.old >= level
        unset = self.alive & (self.new == _UNSET)
        lost = np.flatnonzero(member & (~self.alive | unset & (self.near <= radius)))
        kept = member & unset & (self.near > radius)
        self.new[kept] = level
        candidates = np.flatnonzero(unset & ~kept & (self.near > radius))
        orphaned = self.fresh[candidates]
        orphaned[~orphaned] = self._within(candidates[~orphaned], lost, radius)
        candidates = candidates[orphaned]
        centers = np.flatnonzero(self.alive & member & (self.new != _UNSET))
        candidates = candidates[~self._within(candidates, centers, radius)]
        # The lower its old level, the fewer sets a point joins that it was not in before.
        candidates = candidates[np.argsort(-self.old[candidates], kind="stable")]
        while len(candidates):
            self._promote(int(candidates[0]), level)
            candidates = candidates[self.near[candidates] > radius]

    def _promote(self, point: int, level: int) -> None:
        self.new[point] = level
        np.minimum(self.near, as_numpy(self.space.row(point)), out=self.near)

    def _within(self, points: np.ndarray, centers: np.ndarray, radius: float) -> np.ndarray:
        """Whether each of some points lies within `radius` of any of some centers."""
        out = np.zeros(len(points), dtype=bool)
        if len(centers):
            device = self.space.held.device
            columns = torch.from_numpy(centers).to(device)
            size = rows_per_block(16 * len(centers), len(points), device)
            for rows in block_slices(len(points), size):
                block = self.space.block(torch.from_numpy(points[rows]).to(device), columns)
                out[rows] = as_numpy(block.amin(dim=1) <= radius)
        return out
