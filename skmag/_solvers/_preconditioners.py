"""Approximate inverses of zeta that are cheap to apply, for conjugate gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Protocol

import torch

from skmag._arrays import Portable
from skmag._hierarchy import Space, farthest_first
from skmag._similarity import Similarity
from skmag._solvers._dimension import Neighborhood, has_coordinates, neighborhood
from skmag._solvers._products import kept_bytes
from skmag._solvers._sparse_inverse import SparseInverse

PRECONDITIONERS = ("auto", "none", "partial_cholesky", "sparse")

# Up to this intrinsic dimension neighbours say most of what there is to say of a point.
_SPARSE_DIMENSION = 5.5
# Neighbours of a point in the sparse factor; more of them where a product is dear.
_NEIGHBORS, _MANY_NEIGHBORS = 24, 60
_CENTERS = 300
# Columns of a partial Cholesky factor, likewise.
_RANK, _HIGH_RANK = 200, 1000
# Beyond this product of t and the distance to the nearest point, zeta is nearly the identity.
_SCATTERED = 4.0
# Share of a diagonal entry below which the pivot left of it may be rounding.
_LEAST_PIVOT = 1e-10
# Share of the mean room below which a point's own room is not let to fall.
_LEAST_ROOM = 0.1
# Ratio of the greatest to the least scale that one preconditioner serves.
_GROUP = 1.8
# Share of the operator's trace below which room needs float64.
_SINGLE_ROOM = 1e-6


class Preconditioner(Protocol):
    """An approximate inverse of the operator of :class:`Products`."""

    name: ClassVar[str]

    def apply(self, R: torch.Tensor) -> torch.Tensor:
        """Return the approximate inverse times columns, of shape (n_points, n_columns)."""

    def refreshed(self, similarity: Similarity) -> Preconditioner:
        """Return the same kind for the same points at another scale, cheaper than anew."""


class Diagonal(Portable):
    """The inverse of the operator's diagonal: nothing for zeta, the units of S for S."""

    name: ClassVar[str] = "none"

    def __init__(self, similarity: Similarity) -> None:
        self.inverse = _diagonal(similarity).reciprocal_()[:, None]

    def apply(self, R: torch.Tensor) -> torch.Tensor:
        return R * self.inverse

    def refreshed(self, similarity: Similarity) -> Diagonal:
        return Diagonal(similarity)


class PartialCholesky(Portable):
    """Some columns of a Cholesky factor, and the room that they leave on the diagonal.

    With W the columns of the first points of the farthest-point order, whose room is greatest, the
    operator is W W' and a remainder, of which the diagonal E is kept (Bach & Jordan 2005; the
    "fully independent conditional" of Gaussian processes). By Woodbury's identity

        (E + W W')^-1 = E^-1 - E^-1 W (I + W' E^-1 W)^-1 W' E^-1.

    Parameters
    ----------
    similarity : Similarity
        What is solved.
    order : int64 tensor of shape (rank,)
        The first points of the farthest-point order, whose columns it has.
    """

    name: ClassVar[str] = "partial_cholesky"

    def __init__(self, similarity: Similarity, order: torch.Tensor) -> None:
        self.order = order
        columns = _columns(similarity, order)
        corner = columns[order]
        lower, info = torch.linalg.cholesky_ex(corner)
        rank = len(order) if int(info) == 0 else max(1, int(info) - 1)
        # Columns from the first pivot on that may be rounding have nothing to say.
        small = lower.diagonal()[:rank].square() < _LEAST_PIVOT * corner.diagonal()[:rank]
        rank = max(1, int(small.to(torch.int64).argmax())) if bool(small.any()) else rank
        factor = torch.linalg.solve_triangular(
            lower[:rank, :rank].mT, columns[:, :rank], upper=True, left=False
        )
        room = _diagonal(similarity) - factor.square().sum(1)
        least = max(_LEAST_ROOM * float(room.mean()), _LEAST_PIVOT)
        room.clamp_(min=least)
        self.inverse = room.reciprocal_()[:, None]
        # Any symmetric positive definite approximation serves, and halved memory makes it fast,
        # if rounding leaves it definite: the difference in `apply` falls to room / (room + W W').
        if least > _SINGLE_ROOM * float(factor.square().sum()):
            factor = factor.to(torch.float32)
        self.factor = factor
        factor = factor.to(torch.float64)
        capacitance = factor.mT @ (factor * self.inverse)
        capacitance.diagonal().add_(1.0)
        self.capacitance = torch.linalg.cholesky(capacitance)

    @classmethod
    def of(cls, similarity: Similarity, rank: int) -> PartialCholesky:
        """Choose the columns."""
        space = Space(similarity.metric, similarity.points, similarity.table)
        order = torch.from_numpy(farthest_first(space, rank).order)
        return cls(similarity, order.to(similarity.device))

    def refreshed(self, similarity: Similarity) -> PartialCholesky:
        return PartialCholesky(similarity, self.order)

    def apply(self, R: torch.Tensor) -> torch.Tensor:
        scaled = R * self.inverse
        dtype = self.factor.dtype
        inner = (self.factor.mT @ scaled.to(dtype)).to(R.dtype)
        inner = torch.cholesky_solve(inner, self.capacitance)
        return scaled - self.inverse * (self.factor @ inner.to(dtype)).to(R.dtype)


class Sparse(Portable):
    """The product U U' with a sparse factor of zeta^-1; for S its rows beside the anchor's.

    S^-1 is what zeta^-1 is without the anchor, and so is its approximation.
    """

    name: ClassVar[str] = "sparse"

    def __init__(self, inverse: SparseInverse) -> None:
        self.inverse = inverse

    def apply(self, R: torch.Tensor) -> torch.Tensor:
        if not self.inverse.similarity.nearly_constant:
            return self.inverse.apply(R)
        # The anchor's row and column are the identity's.
        anchored = R.clone()
        anchored[0] = 0.0
        out = self.inverse.apply(anchored)
        out[0] = R[0]
        return out

    def refreshed(self, similarity: Similarity) -> Sparse:
        return Sparse(self.inverse.refreshed(similarity))


def choose_preconditioner(similarity: Similarity, name: str = "auto") -> Preconditioner:
    """Make a preconditioner by name, or the one that suits the points.

    ====================  =================================================================
    preconditioner        when
    ====================  =================================================================
    ``none``              most points lie more than 4 / t from the nearest other one
    ``sparse``            coordinates of intrinsic dimension up to five
    ``partial_cholesky``  otherwise
    ====================  =================================================================

    Parameters
    ----------
    similarity : Similarity
        What is solved.
    name : {"auto", "none", "partial_cholesky", "sparse"}, default="auto"
        Which one.

    Returns
    -------
    Preconditioner
        Ready to be applied.

    Raises
    ------
    ValueError
        If the name is unknown, or the points have no coordinates for "sparse".
    """
    _check_name(name)
    n = len(similarity)
    room = kept_bytes(similarity.device)
    kept = 2 * n * n <= room
    if name == "auto":
        known = has_coordinates(similarity.metric)
        name = _suitable(similarity, neighborhood(similarity) if known else None)
    if name == "sparse":
        neighbors = _NEIGHBORS if kept else _MANY_NEIGHBORS
        return Sparse(SparseInverse.of(similarity, min(n, _CENTERS), neighbors))
    if name == "partial_cholesky":
        rank = min(n, _RANK if kept else _HIGH_RANK, max(1, room // (32 * n)))
        return PartialCholesky.of(similarity, rank)
    return Diagonal(similarity)


class Preconditioners:
    """Preconditioners of the same points at many scales: what does not depend on t is kept.

    One serves all scales of a group, for which it is made in the middle: a step more or less is
    cheaper than a new one.

    Parameters
    ----------
    similarity : Similarity
        The points.
    scales : sequence of float
        All scales that will be asked for.
    name : {"auto", "none", "partial_cholesky", "sparse"}, default="auto"
        Which kind, as for :func:`choose_preconditioner`.
    """

    def __init__(self, similarity: Similarity, scales: Sequence[float], name: str = "auto") -> None:
        _check_name(name)
        self._name = name
        known = has_coordinates(similarity.metric)
        self._near = neighborhood(similarity) if known else None
        self._last: dict[str, Preconditioner] = {}
        self._group_of: dict[float, list[float]] = {}
        self._current: tuple[list[float], Preconditioner] | None = None
        group: list[float] = []
        for t in sorted(scales, reverse=True):
            if not group or group[0] > _GROUP * t or self._differ(similarity, group[0], t):
                group = []
            group.append(t)
            self._group_of[t] = group

    def at(self, similarity: Similarity) -> Preconditioner:
        """Return the preconditioner that suits the points at the scale of `similarity`."""
        group = self._group_of[similarity.t]
        if self._current is None or self._current[0] is not group:
            middle = similarity.at(math.sqrt(group[0]) * math.sqrt(group[-1]))
            name = self._kind(middle)
            last = self._last.get(name)
            made = choose_preconditioner(middle, name) if last is None else last.refreshed(middle)
            self._last[name] = made
            self._current = group, made
        return self._current[1]

    def _kind(self, similarity: Similarity) -> str:
        return _suitable(similarity, self._near) if self._name == "auto" else self._name

    def _differ(self, similarity: Similarity, a: float, b: float) -> bool:
        """Whether two scales want different kinds of preconditioners, or of operators."""
        one, other = similarity.at(a), similarity.at(b)
        return self._kind(one) != self._kind(other) or one.nearly_constant != other.nearly_constant


def _check_name(name: str) -> None:
    if name not in PRECONDITIONERS:
        raise ValueError(f"preconditioner={name!r} is unknown; use one of {PRECONDITIONERS}")


def _suitable(similarity: Similarity, near: Neighborhood | None) -> str:
    if near is None:
        return "partial_cholesky"
    if similarity.t * near.nearest > _SCATTERED:
        return "none"
    # Squares of a metric vanish so smoothly that neighbours of neighbours matter.
    low = similarity.metric.is_norm and near.dimension <= _SPARSE_DIMENSION
    return "sparse" if low else "partial_cholesky"


def _diagonal(similarity: Similarity) -> torch.Tensor:
    """Diagonal of the operator, with the identity's 1 for the anchor of S."""
    if not similarity.nearly_constant:
        return torch.ones_like(similarity.counts)
    diagonal = similarity.anchored_diagonal()
    diagonal[0] = 1.0
    return diagonal


def _columns(similarity: Similarity, points: torch.Tensor) -> torch.Tensor:
    """Columns of the operator."""
    if not similarity.nearly_constant:
        return torch.exp(similarity.distances_of(points) * -similarity.t).mT.contiguous()
    rows = similarity.anchored_rows(points)
    rows[:, 0] = 0.0
    rows[points == 0] = 0.0
    rows[points == 0, 0] = 1.0
    return rows.mT.contiguous()
