"""Two sets as parts of their union: which points belong to whom, and what each set lacks of it.

The union is put into an order of its own, so that nothing depends on which set came first, on the
order of rows or on their copies, to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from skmag._arrays import ArrayKind, as_numpy, resolve_device
from skmag._compat import get_namespace_and_device
from skmag._input import MetricLike, check_2d
from skmag._metrics import Metric, resolve_metric
from skmag._similarity import Similarity
from skmag._solvers import (
    CholeskyFactor,
    Factor,
    available_memory,
    exact_bytes,
    factor,
    is_on_a_line,
)

# Below this share of what the union has above one, a difference of magnitudes keeps too few digits
# (some eps over the share), and a second factorization of the union is worth its time.
_CANCELLED = 1e-3
# Metrics that learn from points what they are not told.
_LEARNING = ("seuclidean", "mahalanobis")
# Matrices of this order that are held at once: distances, the same in another order, and a factor.
_MATRICES = 3


@dataclass(frozen=True)
class Union:
    """The distinct points of two sets, those of the larger set before all others.

    Parameters
    ----------
    similarity : Similarity
        The operator zeta of the union.
    first : int64 tensor of shape (n_first,)
        Points of the larger set: 0 to n_first - 1.
    second : int64 tensor of shape (n_second,)
        Points of the other one, ascending.
    """

    similarity: Similarity
    first: torch.Tensor
    second: torch.Tensor

    @classmethod
    def of(cls, X: torch.Tensor, Y: torch.Tensor, metric: Metric) -> Union:
        """Union of two sets of unprepared points, in an order that only the points decide."""
        # -0.0 and 0.0 are one point.
        rows = as_numpy(torch.cat([X, Y])) + 0.0
        distinct, label = np.unique(rows, axis=0, return_inverse=True)
        similarity = Similarity.of(torch.from_numpy(distinct).to(X.device), metric, name="X and Y")
        group = as_numpy(similarity.group)[label.reshape(-1)]
        members = np.zeros((2, len(similarity)), dtype=bool)
        members[0, group[: len(X)]] = True
        members[1, group[len(X) :]] = True
        larger, other = sorted(members, key=_precedence, reverse=True)
        place = np.concatenate([np.flatnonzero(larger), np.flatnonzero(~larger)])
        order, first, second = (
            torch.from_numpy(index).to(X.device)
            for index in (place, np.arange(larger.sum()), np.flatnonzero(other[place]))
        )
        return cls(similarity.taken(order), first, second)

    @property
    def equal(self) -> bool:
        """Whether both sets have the same points."""
        return len(self.first) == len(self.second) == len(self.similarity)

    def at(self, t: float) -> Union:
        """Return the same points at another scale."""
        return replace(self, similarity=self.similarity.at(t))

    def with_table(self) -> Union:
        """Return the same union with its distances stored, where they fit the memory."""
        needed = _MATRICES * exact_bytes(len(self.similarity), 8)
        if is_on_a_line(self.similarity) or needed > available_memory(self.similarity.device):
            return self
        return replace(self, similarity=self.similarity.with_table())

    def growths(self, solver: str, device: torch.device) -> tuple[float, float, float]:
        """Magnitude of the union, and by how much it exceeds that of each set.

        Parameters
        ----------
        solver : str
            Name of a solver, or "auto".
        device : torch.device
            Where factors are to live.

        Returns
        -------
        whole, beyond_first, beyond_second : float
            Growths are not negative where zeta is positive definite. They keep their digits,
            however small they are, with the solvers "line" and "cholesky"; with others they are
            differences of magnitudes.
        """
        points = self.similarity
        prepared, _ = factor(points, solver, device)
        if prepared.name == "line":
            first, second = (_line_growth(points, base) for base in (self.first, self.second))
            return prepared.magnitude(), first, second
        excess = _excess(prepared)
        whole = 1.0 + excess
        beyond_first = _growth(prepared, points, self.first, solver, device)
        # Its factor is released before others are made.
        del prepared
        beyond_second = excess - _excess(factor(points.taken(self.second), solver, device)[0])
        if beyond_second < _CANCELLED * excess:
            turned, base = self._second_first()
            prepared, _ = factor(turned, solver, device)
            beyond_second = _growth(prepared, turned, base, solver, device)
        return whole, beyond_first, beyond_second

    def _second_first(self) -> tuple[Similarity, torch.Tensor]:
        """The union with the points of the second set before all others, and these points."""
        others = torch.ones(len(self.similarity), dtype=torch.bool, device=self.second.device)
        others[self.second] = False
        order = torch.cat([self.second, torch.nonzero(others)[:, 0]])
        return self.similarity.taken(order), torch.arange(len(self.second), device=order.device)


def checked_sets(
    sets: list[Any], names: list[str], device: str | torch.device | None
) -> tuple[list[Any], ArrayKind, torch.device]:
    """Validated sets of the same features and of one kind, that kind, and where to work."""
    checked = [_checked_set(own, name) for own, name in zip(sets, names, strict=True)]
    columns = checked[0].shape[1]
    for own, name in zip(checked, names, strict=True):
        if own.shape[1] != columns:
            raise ValueError(
                f"{name} has {own.shape[1]} features but {names[0]} has {columns}; sets of "
                "different features have no union"
            )
    try:
        get_namespace_and_device(*checked)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{names[0]} and the other sets must be arrays of one library, on one device: {error}"
        ) from error
    return checked, ArrayKind.of(checked[0]), resolve_device(device, checked[0])


def _checked_set(values: Any, name: str) -> Any:
    """Validate a set, whose name scikit-learn does not tell where there are no columns."""
    ndim = np.ndim(values) if isinstance(values, (list, tuple)) else getattr(values, "ndim", 2)
    if ndim == 1 and len(values):
        raise ValueError(
            f"{name} has one dimension but a set has two, of rows and features; for points of "
            f"one feature pass np.reshape({name}, (-1, 1))"
        )
    return check_2d(values, name)


def shared_metric(
    sets: list[Any], metric: MetricLike, metric_params: Mapping[str, Any] | None
) -> Metric:
    """The metric; one that learns from data learns from the distinct points of all sets."""
    if metric == "precomputed":
        raise ValueError(
            "metric='precomputed' is not supported here, since distances between the sets are "
            "needed as well; pass points and a function of two points as metric"
        )
    every = distinct_rows(sets) if sets and metric in _LEARNING else None
    return resolve_metric(metric, metric_params, every)


def distinct_rows(sets: Sequence[Any]) -> np.ndarray:
    """Distinct rows of all sets, in an order that only the rows decide."""
    return np.unique(np.concatenate([as_numpy(own) for own in sets]), axis=0)


def _precedence(members: np.ndarray) -> tuple[int, bytes]:
    """Key by which one of two sets goes first: the larger one, then a fixed order of subsets."""
    return int(members.sum()), members.tobytes()


def _excess(prepared: Factor) -> float:
    """Magnitude less one, with its own digits where the factor has them."""
    if isinstance(prepared, CholeskyFactor):
        return float(prepared.explained_ones().sum())
    return prepared.magnitude() - 1.0


def _growth(
    prepared: Factor, points: Similarity, base: torch.Tensor, solver: str, device: torch.device
) -> float:
    """By how much the magnitude of all points exceeds that of the first ones, `base`."""
    n = len(points)
    if len(base) == n:
        return 0.0
    # A factor that had to merge points has another order of points.
    if isinstance(prepared, CholeskyFactor) and len(prepared.similarity) == n:
        return float(prepared.explained_ones()[len(base) :].sum())
    part, _ = factor(points.taken(base), solver, device)
    growth = _excess(prepared) - _excess(part)
    # Rounding must not make a growth negative that cannot be so.
    definite = points.metric.positive_definite or (prepared.definite and part.definite)
    return max(0.0, growth) if definite else growth


def _line_growth(points: Similarity, base: torch.Tensor) -> float:
    """Growth from some points to all on the real line, where Mag(tX) = 1 + sum tanh(t gap / 2).

    A point that splits a gap into 2 x / t and 2 y / t adds tanh x + tanh y - tanh(x + y), which is
    tanh x tanh y tanh(x + y). Beyond an end one of the two is infinite, and its tanh is 1.
    """
    assert points.points is not None
    position = as_numpy(points.points)[:, 0]
    joins = np.ones(len(position), dtype=bool)
    joins[as_numpy(base)] = False
    order = np.argsort(position)
    position, joins = position[order], joins[order]
    # The others join from left to right: each has every point to its left, the base to its right.
    half = points.t / 2
    left = np.diff(position, prepend=-np.inf)[joins] * half
    base_only = np.where(joins, np.inf, position)
    right = (np.minimum.accumulate(base_only[::-1])[::-1] - position)[joins] * half
    return float((np.tanh(left) * np.tanh(right) * np.tanh(left + right)).sum())
