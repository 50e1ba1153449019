"""Discrete centers: a farthest-point order whose prefixes cover a set at every scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

from skmag._arrays import (
    ArrayKind,
    as_numpy,
    as_tensor,
    block_slices,
    check_points,
    resolve_device,
    rows_per_block,
)
from skmag._duplicates import groups_within
from skmag._hierarchy._farthest import Space, farthest_first
from skmag._hierarchy._levels import ROOT, level_radius, levels_of, repaired_levels
from skmag._metrics import check_distances, check_non_negative, resolve_metric

__all__ = ["DiscreteCenterHierarchy", "Space", "farthest_first"]

# More points than this, and than a share of all, are ordered anew: that is faster.
_FEW_CHANGES = 32


class DiscreteCenterHierarchy:
    """Covering sets of a finite metric space at every radius, in one order.

    The order is a farthest-point traversal: each point is the one farthest from those before it.
    So the points whose radius exceeds r are more than r apart, and every point lies within r of
    one of them. Spread out as they are, the first points already have most of the magnitude, at
    every scale.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
        Points, or their distances if ``metric="precomputed"``.
    n_centers : int, default=None
        How many points to order at most. None orders all, and only then can points join or leave.
    unit : float, default=1.0
        Radius of level 1; level i has radius ``2 ** (i - 1) * unit``.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`.
    metric_params : mapping, default=None
        Further arguments of the metric.
    random_state : int, RandomState or None, default=None
        Draws the point to begin with; None begins with the first row.
    device : {"auto", "cpu", "cuda", "mps"}, torch.device or None, default=None
        Where to compute; None follows `X`.

    Attributes
    ----------
    order_ : array of shape (n_points,)
        Rows of X in order, the first one of each group of copies.
    radii_ : array of shape (n_points,)
        Distance of each to the ones before it, infinite for the first; they never increase.
        After :meth:`insert` or :meth:`remove` the order is that of the levels, and a radius is
        twice that of the point's level: every point lies within it of the points before, and the
        point itself lies more than half of it from them.
    levels_ : array of shape (n_points,)
        Highest level of each point; the first one's is the lowest where it stands alone.
    covering_radius_ : float
        Every point lies within it of an ordered one; zero unless `n_centers` left some out.
    n_samples_ : int
        Number of rows.

    Raises
    ------
    ValueError
        If an argument is not usable; the message names it.

    Notes
    -----
    Under a norm and in low intrinsic dimension, also where the points lie in a space of many
    features, the order takes about O(n log n) distances; otherwise, and for metrics that are not
    norms, it takes n for each center. Rows at distance zero from another are its copies.

    A level is a covering set of the whole, before and after updates: two of its points are more
    than its radius apart, and every point lies within the radius of one of them. This is stricter
    than the paper's hierarchy, whose levels cover the one below. It needs distances only, no
    triangle inequality.

    References
    ----------
    R. Andreeva, J. Ward, P. Skraba, J. Gao, R. Sarkar, "Approximating metric magnitude of point
    sets", section 3.4 and Algorithm 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skmag import DiscreteCenterHierarchy, magnitude
    >>> X = np.random.default_rng(0).uniform(size=(2000, 2))
    >>> hierarchy = DiscreteCenterHierarchy(X)
    >>> few = X[hierarchy.order_[:200]]
    >>> bool(magnitude(few) > 0.99 * magnitude(X))
    True
    >>> len(hierarchy.centers(0.25)), len(hierarchy.level(-1))
    (16, 16)
    """

    def __init__(
        self,
        X: Any,
        n_centers: int | None = None,
        *,
        unit: float = 1.0,
        metric: str | Callable[..., float] = "euclidean",
        metric_params: Mapping[str, Any] | None = None,
        random_state: Any = None,
        device: Any = None,
    ) -> None:
        self._unit = _positive(unit, "unit")
        whole = isinstance(n_centers, Integral) and not isinstance(n_centers, bool)
        if n_centers is not None and not (whole and n_centers >= 1):
            raise ValueError(f"n_centers={n_centers!r} must be a positive integer or None")
        array = check_points(X, "X")
        self._kind = ArrayKind.of(array)
        resolved = resolve_metric(metric, metric_params, array)
        data = as_tensor(array, resolve_device(device, array))
        n = self.n_samples_ = len(data)
        self._tolerance = 1e-5 if "float32" in str(array.dtype) else 1e-10
        if resolved.precomputed:
            check_distances(data, "X", self._tolerance)
            space = Space(resolved, None, data)
        else:
            space = Space(resolved, resolved.points(data, "X"))
        start = 0 if random_state is None else int(check_random_state(random_state).randint(n))
        found = farthest_first(space, n_centers, start)
        self.covering_radius_ = found.covering_radius
        self._exact = True
        self._rows, self._radii = found.order, found.radii
        self._levels = levels_of(found.radii, self._unit)
        self._order = np.arange(len(found.order))
        if found.covering_radius == 0:
            place = np.full(n, -1)
            place[found.order] = self._order
            copies = np.flatnonzero(place < 0)
            place[copies] = place[found.nearest[copies]]
            self._group = place
            self._rows = _first_rows(place)
            self._space = space.of(torch.from_numpy(self._rows).to(data.device))

    def __len__(self) -> int:
        return len(self._order)

    @property
    def order_(self) -> Any:
        """Rows of X in order."""
        return self._kind.wrap(self._rows[self._order])

    @property
    def radii_(self) -> Any:
        """Distance of each ordered point to the ones before it, or a bound."""
        return self._kind.wrap(self._radii)

    @property
    def levels_(self) -> Any:
        """Highest level of each ordered point."""
        ordered = self._levels[self._order].copy()
        ordered[0] = ordered[1] + 1 if len(ordered) > 1 else 0
        return self._kind.wrap(ordered)

    def centers(self, radius: float) -> Any:
        """Return a covering set.

        Parameters
        ----------
        radius : float
            Distance, at least `covering_radius_`, within which every point has a center.

        Returns
        -------
        array of shape (n_centers,)
            Rows of the centers in order. They are more than `radius` apart; after points have
            joined or left, more than the greatest radius of a level that is not above `radius`,
            hence more than half of it.

        Raises
        ------
        ValueError
            If the radius is negative or NaN, or needs more centers than were ordered.
        """
        if not 0 <= radius < float("inf"):
            raise ValueError(f"radius={radius!r} must be finite and not negative")
        if radius < self.covering_radius_:
            raise ValueError(
                f"radius={radius!r} is below covering_radius_={self.covering_radius_!r}: "
                f"{len(self)} centers do not cover X so closely; give a greater n_centers"
            )
        if self._exact:
            return self._kind.wrap(self._rows[self._order[self._radii > radius]])
        if radius == 0:
            return self.order_
        highest = int(levels_of(np.array([radius]), self._unit)[0])
        if level_radius(highest + 1, self._unit) <= radius:
            highest += 1
        return self.level(highest)

    def level(self, level: int) -> Any:
        """Return the covering set of a level.

        Parameters
        ----------
        level : int
            Number of the level, of radius ``2 ** (level - 1) * unit``; it may be negative.

        Returns
        -------
        array of shape (n_centers,)
            Rows of the centers in order. Each level contains those above it.

        Raises
        ------
        ValueError
            If the level needs more centers than were ordered.
        """
        radius = level_radius(int(level), self._unit)
        if radius < self.covering_radius_:
            raise ValueError(
                f"level={level!r} has radius {radius!r}, below covering_radius_="
                f"{self.covering_radius_!r}; give a greater n_centers"
            )
        chosen = self._levels[self._order] >= level
        return self._kind.wrap(self._rows[self._order[chosen]])

    def insert(self, Z: Any) -> DiscreteCenterHierarchy:
        """Let points join, in place; their rows come after the others.

        Parameters
        ----------
        Z : array-like of shape (n_new, n_features) or (n_new, n_samples + n_new)
            Points; if ``metric="precomputed"`` their distances to all rows, then to each other.

        Returns
        -------
        DiscreteCenterHierarchy
            The hierarchy itself.

        Raises
        ------
        ValueError
            If the hierarchy was built with fewer centers than points, or `Z` does not fit X.

        Notes
        -----
        A new point costs a few passes over the points. More than 32 that are also more than a
        64th of all are ordered anew with the rest, from the same first point.
        """
        self._check_updatable("insert")
        array = check_points(Z, "Z")
        data = self._prepared(array)
        n, space = len(self._space), self._space
        distance, group = self._nearest(data)
        joining = np.flatnonzero(distance > 0)
        if len(joining):
            rows = torch.from_numpy(joining).to(data.device)
            own = space.metric.precomputed
            square = data[:, n:] if own else None
            among = Space(space.metric, None if own else data, square).of(rows)
            copies, first = (as_numpy(part) for part in groups_within(0.0, len(rows), among.block))
            group[joining] = n + copies
            self._space = self._joined(data, torch.from_numpy(joining[first]).to(data.device))
            fresh = np.arange(len(self._space)) >= n
            level = np.append(self._levels, np.zeros(len(first), dtype=np.int64))
            self._update(level, fresh, np.ones_like(fresh))
        self._group = np.append(self._group, group)
        self._rows = _first_rows(self._group)
        self.n_samples_ += len(data)
        return self

    def remove(self, rows: Any) -> DiscreteCenterHierarchy:
        """Let rows leave, in place; the others are numbered anew, as by ``numpy.delete``.

        Parameters
        ----------
        rows : int or array-like of shape (n_leaving,)
            Rows of X, each once or several times, but not all of them.

        Returns
        -------
        DiscreteCenterHierarchy
            The hierarchy itself.

        Raises
        ------
        ValueError
            If the hierarchy was built with fewer centers than points, or a row does not exist, or
            none would be left.
        """
        self._check_updatable("remove")
        leaving = np.atleast_1d(as_numpy(rows))
        if leaving.size and leaving.dtype.kind not in "iu":
            raise ValueError(f"rows={rows!r} must be one or several integers")
        n = self.n_samples_
        outside = leaving[(leaving < -n) | (leaving >= n)]
        if outside.size:
            raise ValueError(f"rows={outside.tolist()!r} are not among the {n} rows")
        stay = np.ones(n, dtype=bool)
        stay[leaving.astype(np.int64)] = False
        if not stay.any():
            raise ValueError(f"rows name all {n} rows; a hierarchy holds one point at least")
        alive = np.zeros(len(self._space), dtype=bool)
        alive[self._group[stay]] = True
        group = (np.cumsum(alive) - 1)[self._group[stay]]
        if not alive.all():
            self._update(self._levels, np.zeros_like(alive), alive)
        self._group, self._rows = group, _first_rows(group)
        self.n_samples_ = len(group)
        return self

    def _update(self, level: np.ndarray, fresh: np.ndarray, alive: np.ndarray) -> None:
        """Bring the order up to date after some points joined or before some leave."""
        changes = int(fresh.sum() + (~alive).sum())
        anew = changes > max(_FEW_CHANGES, len(level) // 64)
        if not anew:
            level = repaired_levels(self._space, level, fresh, alive, self._unit)[alive]
        if not alive.all():
            kept = torch.from_numpy(np.flatnonzero(alive)).to(self._space.held.device)
            self._space = self._space.of(kept)
        if anew:
            root = int(np.argmax(alive & (level == ROOT)))
            found = farthest_first(self._space, None, int(alive[:root].sum()))
            level = np.empty(len(found.order), dtype=np.int64)
            level[found.order] = levels_of(found.radii, self._unit)
            self._order, self._radii = found.order, found.radii
        else:
            self._order = np.argsort(-level, kind="stable")
            self._radii = np.full(len(level), np.inf)
            self._radii[1:] = np.ldexp(self._unit, level[self._order[1:]])
        self._exact, self._levels = anew, level

    def _check_updatable(self, method: str) -> None:
        if self.covering_radius_ > 0:
            raise ValueError(
                f"{method} needs to know every point, but n_centers={len(self)} left some out; "
                "build the hierarchy with n_centers=None"
            )

    def _prepared(self, array: Any) -> torch.Tensor:
        """Validated new points, or their distances to the distinct points and to each other."""
        metric, held = self._space.metric, self._space.held
        columns = self.n_samples_ + array.shape[0] if metric.precomputed else held.shape[1]
        if array.shape[1] != columns:
            what = (
                "a distance for each row of X and of Z"
                if metric.precomputed
                else "as many features as X"
            )
            raise ValueError(f"Z has {array.shape[1]} columns, expected {columns}: {what}")
        data = as_tensor(array, held.device)
        if not metric.precomputed:
            return metric.points(data, "Z")
        check_non_negative(data, "Z")
        old, square = data[:, : self.n_samples_], data[:, self.n_samples_ :]
        check_distances(square, "the last columns of Z", self._tolerance)
        return torch.cat([old[:, torch.from_numpy(self._rows).to(data.device)], square], dim=1)

    def _nearest(self, data: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Distance to, and number of, the distinct point nearest to each new one."""
        space, n = self._space, len(self._space)
        found = []
        for rows in block_slices(len(data), rows_per_block(16 * n, len(data), data.device)):
            if space.points is None:
                block = data[rows, :n]
            else:
                block = space.metric.block(data[rows], space.points)
            found.append([as_numpy(part) for part in block.min(dim=1)])
        distance, group = (np.concatenate(part) for part in zip(*found, strict=True))
        return distance, group

    def _joined(self, data: torch.Tensor, fresh: torch.Tensor) -> Space:
        """Space of the distinct points and of some new ones."""
        space, n = self._space, len(self._space)
        if space.points is not None:
            return Space(space.metric, torch.cat([space.points, data[fresh]]))
        assert space.table is not None
        cross, square = data[fresh, :n], data[fresh][:, n + fresh]
        lower = torch.cat([cross, square], dim=1)
        return Space(
            space.metric, None, torch.cat([torch.cat([space.table, cross.mT], dim=1), lower])
        )


def _first_rows(group: np.ndarray) -> np.ndarray:
    """First row of each distinct point."""
    return np.unique(group, return_index=True)[1]


def _positive(value: Any, name: str) -> float:
    number = float(value)
    if not (np.isfinite(number) and number > 0):
        raise ValueError(f"{name}={value!r} must be positive and finite")
    return number
