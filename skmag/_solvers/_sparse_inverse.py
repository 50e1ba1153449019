"""A sparse factor U with zeta^-1 ~ U U': exact on centers, a few neighbours for all other points.

With the points in an order, the column of U that belongs to point i holds, for a conditioning set
N of points before it, A^-1 e_i / sqrt((A^-1)_ii), where A is zeta over N and i. With all points
before i as N this is the inverse Cholesky factor; with the k nearest of them it is the factor with
that pattern that is closest to it in Kullback-Leibler divergence (Schaefer, Katzfuss, Owhadi,
"Sparse Cholesky factorization by Kullback-Leibler minimization", Theorem 2.1).

Each small system is solved relative to the nearest neighbour p of its point, in the anchored form
of :mod:`skmag._similarity`: what is large there is eliminated in closed form, and the ratio of
distances within a neighbourhood decides the accuracy instead of t times the distance.
"""

from __future__ import annotations

import numpy as np
import torch

from skmag._arrays import Portable, as_numpy, block_slices, on_host, rows_per_block
from skmag._metrics import EPS, Metric
from skmag._similarity import Similarity
from skmag._solvers._centers import exact_factor, spread_centers
from skmag._solvers._cholesky import CholeskyFactor
from skmag._solvers._dimension import coordinate_unit, exponent
from skmag._solvers._earlier import earlier_neighbors, settled_earlier_neighbors

# Entries of the small systems that are solved together on the CPU; four such arrays fit a cache.
_CACHED_ENTRIES = 2**18
# Greatest systems that are eliminated together, a step at a time, and not one after the other.
_STEPPED_SIZE = 64
# Exponents beyond this are no different from it, and sums of two stay finite.
_FAR = 1e300
# Columns that are worked on together.
_BLOCK = 2**16


class SparseInverse(Portable):
    """Factor of zeta^-1 over centers S, which are exact, and all other points.

    Parameters
    ----------
    similarity : Similarity
        What was factored.
    centers : int64 tensor of shape (n_centers,)
        The points of S.
    exact : CholeskyFactor
        Factor of zeta over S.
    indices : int32 tensor of shape (n_points - n_centers, n_neighbors + 1)
        Each other point followed by its conditioning points, nearest first; where there are fewer,
        the point itself fills the row.
    values : tensor of shape (n_points - n_centers, n_neighbors + 1)
        The column of U that belongs to the point, at those points.
    canonical : bool, default=False
        Whether everything follows from the order of the points alone, see :meth:`of`.
    """

    def __init__(
        self,
        similarity: Similarity,
        centers: torch.Tensor,
        exact: CholeskyFactor,
        indices: torch.Tensor,
        values: torch.Tensor,
        *,
        canonical: bool = False,
    ) -> None:
        self.similarity = similarity
        self.centers = centers
        self.exact = exact
        self.indices = indices
        self.values = values
        self.canonical = canonical

    @classmethod
    def of(
        cls,
        similarity: Similarity,
        n_centers: int,
        n_neighbors: int,
        random_state: int | np.random.Generator = 0,
        *,
        canonical: bool = False,
    ) -> SparseInverse:
        """Order the points, find their neighbours and solve the small systems.

        Parameters
        ----------
        similarity : Similarity
            Points with coordinates that a KD-tree takes.
        n_centers : int
            Most points of S, the first ones of the farthest-point order.
        n_neighbors : int
            Points that every other point is conditioned on.
        random_state : int or numpy Generator, default=0
            Draws the order of the other points.
        canonical : bool, default=False
            Whether the pattern and the order of its rows depend on the order of the points alone:
            of neighbours at one distance the earlier ones count, and rows are in input order.

        Returns
        -------
        SparseInverse
            The factor.
        """
        centers = spread_centers(similarity, n_centers)
        centers, exact = exact_factor(similarity, centers, "sparse")
        points = as_numpy(similarity.points) / coordinate_unit(similarity)
        rest = np.ones(len(points), dtype=bool)
        rest[centers] = False
        order = np.random.default_rng(random_state).permutation(np.flatnonzero(rest))
        order = np.concatenate([centers, order])
        p = exponent(similarity.metric)
        search = settled_earlier_neighbors if canonical else earlier_neighbors
        indices = torch.from_numpy(search(points, order, len(centers), n_neighbors, p))
        indices = indices.to(similarity.device)
        chosen = torch.from_numpy(centers).to(similarity.device)
        values = columns(similarity, indices)
        return cls(similarity, chosen, exact, indices, values, canonical=canonical)

    def refreshed(self, similarity: Similarity) -> SparseInverse:
        """Factor of the same points at another scale, with the same order and pattern."""
        centers, exact = exact_factor(similarity, as_numpy(self.centers), "sparse")
        if len(centers) < len(self.centers):
            k = self.indices.shape[1] - 1
            return self.of(similarity, len(centers), k, canonical=self.canonical)
        return SparseInverse(
            similarity,
            self.centers,
            exact,
            self.indices,
            columns(similarity, self.indices),
            canonical=self.canonical,
        )

    @property
    def n_points(self) -> int:
        """Number of points, centers included."""
        return len(self.similarity)

    @property
    def n_neighbors(self) -> int:
        """Number of points that every point outside S is conditioned on."""
        return self.indices.shape[1] - 1

    @property
    def points(self) -> torch.Tensor:
        """The points outside S, in the order of their columns."""
        return self.indices[:, 0].to(torch.int64)

    def greatest(self, values: torch.Tensor, count: int) -> torch.Tensor:
        """Rows of the greatest of some values, one for each column, in falling order."""
        if self.canonical:
            return values.sort(descending=True, stable=True).indices[:count]
        return values.topk(count).indices

    def promoted(self, rows: torch.Tensor) -> SparseInverse:
        """Factor with the points of some columns moved to the centers; the other columns stay.

        To choose their neighbours anew would be worse: new centers lie close together where the
        weights are large, and would take the places of neighbours all around.

        Parameters
        ----------
        rows : int64 tensor
            Rows of :attr:`indices`.

        Raises
        ------
        IndefiniteError
            If float64 cannot tell the centers apart.
        """
        staying = torch.ones(len(self.indices), dtype=torch.bool, device=rows.device)
        staying[rows] = False
        centers = torch.cat([self.centers, self.indices[rows, 0].to(torch.int64)])
        return SparseInverse(
            self.similarity,
            centers,
            self.exact.extended(self.similarity.taken(centers)),
            self.indices[staying],
            self.values[staying],
            canonical=self.canonical,
        )

    def tail(self, rho: torch.Tensor) -> torch.Tensor:
        """Return the rows of U' rho that belong to the points outside S."""
        out = torch.empty(len(self.indices), dtype=rho.dtype, device=rho.device)
        for rows in self._blocks():
            out[rows] = (rho[self.indices[rows]] * self.values[rows]).sum(1)
        return out

    def spread(self, y: torch.Tensor) -> torch.Tensor:
        """Return U y for y over the columns of the points outside S."""
        out = torch.zeros(len(self.similarity), dtype=y.dtype, device=y.device)
        for rows in self._blocks():
            part = self.values[rows] * y[rows, None]
            out.index_add_(0, self.indices[rows].flatten(), part.flatten())
        return out

    def apply(self, R: torch.Tensor) -> torch.Tensor:
        """Return U U' R for columns R, of shape (n_points, n_columns)."""
        out = torch.stack([self.spread(self.tail(column)) for column in R.mT], dim=1)
        out[self.centers] += self.solve_centers(R[self.centers])
        return out

    def solve_centers(self, B: torch.Tensor) -> torch.Tensor:
        """Solve with zeta over S: zeta = a a' + S, a its first column (one step of elimination)."""
        a = self.exact.anchor_column()
        anchored = B - a * B[:1]
        anchored[0] = 0.0
        x = self.exact.solve(anchored)
        x[0] = B[0] - a[:, 0] @ x
        return x

    def _blocks(self) -> list[slice]:
        n, width = self.indices.shape
        return block_slices(n, rows_per_block(32 * width, _BLOCK, self.indices.device))


def columns(similarity: Similarity, indices: torch.Tensor) -> torch.Tensor:
    """Values of the columns of U for a pattern, as :class:`SparseInverse` holds them."""
    n, width = indices.shape
    values = torch.empty(n, width, dtype=torch.float64, device=indices.device)
    unit = coordinate_unit(similarity)
    cached = max(1, _CACHED_ENTRIES // width**2) if on_host(indices) else max(1, n)
    for rows in block_slices(n, _systems_per_block(similarity, width, cached)):
        values[rows] = _small_columns(similarity, indices[rows], unit)
    return values


def _systems_per_block(similarity: Similarity, width: int, at_most: int) -> int:
    """How many small systems are solved together."""
    assert similarity.points is not None
    system = 48 * width**2
    if not on_host(similarity.points):
        # The points of a group and a contiguous copy of them; those of a block on the CPU are few.
        system += 16 * width * similarity.points.shape[1]
    return rows_per_block(system, at_most, similarity.device)


def _small_columns(similarity: Similarity, indices: torch.Tensor, unit: float) -> torch.Tensor:
    """Columns of U for one block of points: the last axis of every array runs over the points.

    Distances are computed in a `unit` of coordinates in which their powers stay in range.
    """
    assert similarity.points is not None
    t, width = similarity.t, indices.shape[1]
    # The anchor, which is the nearest neighbour, then the other neighbours, then the point itself.
    group = indices.mT[[*range(1, width), 0]]
    distance = distances_within(similarity.metric, similarity.points[group].div_(unit))
    distance.mul_(unit).mul_(t).clamp_max_(_FAR)
    return columns_within(distance, group[1:-1] == group[-1], is_norm=similarity.metric.is_norm)


def columns_within(
    distance: torch.Tensor, filler: torch.Tensor | None, *, is_norm: bool
) -> torch.Tensor:
    """Columns of U for groups of points, given t times the distances within each group.

    Parameters
    ----------
    distance : tensor of shape (width, width, n_groups)
        The anchor comes first, which must not be the point itself unless every neighbour is; then
        the other neighbours; then the point.
    filler : bool tensor of shape (width - 2, n_groups) or None
        Which of the other neighbours do not count.
    is_norm : bool
        Whether the triangle inequality holds.

    Returns
    -------
    tensor of shape (n_groups, width)
        Values at the point, at the anchor and at the other neighbours.
    """
    a = distance[0, 1:]
    way = a[:, None] + a
    room = way - distance[1:, 1:]
    if is_norm:
        # A way is shorter by rounding only, which is no small number where distances are great.
        room.clamp_(min=0.0)
        S = torch.exp(-distance[1:, 1:]).mul_(room.neg_().expm1_().neg_())
    else:
        # Without the triangle inequality the way over the anchor may be the shorter one, by any
        # number: the difference of the two exponentials is a share of the greater of them.
        S = torch.exp(-torch.minimum(distance[1:, 1:], way)).mul_(room.sign())
        S.mul_(room.abs_().neg_().expm1_().neg_())
    diagonal = torch.expm1(-2 * a).neg_()
    scale = diagonal.rsqrt()
    if filler is not None:
        scale[:-1].masked_fill_(filler, 0.0)
    S.mul_(scale).mul_(scale[:, None])
    x = _last_inverse_column(S)
    # Where even the anchor is the point itself, nothing is conditioned on.
    x.mul_(scale)
    out = torch.empty(len(distance), distance.shape[2], dtype=S.dtype, device=S.device)
    out[0] = x[-1]
    out[1] = (x * torch.exp(-a)).sum(0).neg_()
    out[2:] = x[:-1]
    return out.mT


def _last_inverse_column(S: torch.Tensor) -> torch.Tensor:
    """Solve L' x = e for S = L L' and e the last unit vector; overwrites S.

    The diagonal of S is 1, or 0 in rows that do not count. A row whose pivot is rounding adds
    nothing to those before it and is left out; where the last pivot is, all others are.

    Parameters
    ----------
    S : tensor of shape (size, size, n_systems)
        Symmetric matrices.

    Returns
    -------
    tensor of shape (size, n_systems)
        The solutions.
    """
    if len(S) <= _STEPPED_SIZE:
        return _by_steps(S)
    # Of greater systems fewer fit a cache together than make steps worth their while.
    A = S.permute(2, 0, 1).contiguous()
    A.diagonal(dim1=1, dim2=2).masked_fill_(A.diagonal(dim1=1, dim2=2) == 0, 1.0)
    L, status = torch.linalg.cholesky_ex(A)
    pivots = L.diagonal(dim1=1, dim2=2).square()
    rounded = (status != 0) | (pivots <= 64 * len(S) * EPS).any(1)
    last = torch.zeros(len(A), len(S), 1, dtype=S.dtype, device=S.device)
    last[:, -1] = 1.0
    x = torch.linalg.solve_triangular(L.mT, last, upper=True)[..., 0].mT.contiguous()
    if bool(rounded.any()):
        x[:, rounded] = _by_steps(S[..., rounded])
    return x


def _by_steps(S: torch.Tensor) -> torch.Tensor:
    """Solve as :func:`_last_inverse_column` does, one step of all systems at a time."""
    size = len(S)
    rounding = 64 * size * EPS
    inverse_pivot = torch.zeros_like(S[0])
    for j in range(size - 1):
        pivot = S[j, j]
        inverse_pivot[j] = torch.where(pivot > rounding, pivot, torch.inf).rsqrt()
        below = S[j + 1 :, j].mul_(inverse_pivot[j])
        S[j + 1 :, j + 1 :].addcmul_(below[:, None], below[None], value=-1)
    last = S[-1, -1]
    kept = last > rounding
    x = torch.zeros_like(inverse_pivot)
    x[-1] = torch.where(kept, last, 1.0).rsqrt()
    for j in range(size - 2, -1, -1):
        x[j] = (S[j + 1 :, j] * x[j + 1 :]).sum(0).mul_(-inverse_pivot[j])
    x[:-1] *= kept
    return x


def distances_within(metric: Metric, group: torch.Tensor) -> torch.Tensor:
    """Distances within groups of points: ``group`` has shape (size, n_groups, n_features)."""
    coordinates = group.permute(2, 0, 1).contiguous()
    p = exponent(metric)
    out = torch.zeros(len(group), *coordinates.shape[1:], dtype=group.dtype, device=group.device)
    for c in coordinates:
        gap = c[:, None] - c
        if p == 2:
            out.addcmul_(gap, gap)
        elif p == 1:
            out.add_(gap.abs_())
        elif p == float("inf"):
            torch.maximum(out, gap.abs_(), out=out)
        else:
            out.add_(gap.abs_().pow_(p))
    if metric.name == "cosine":
        return out.div_(2)
    return out.sqrt_() if p == 2 else out if p in (1, float("inf")) else out.pow_(1 / p)
