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
from scipy.spatial import cKDTree

from skmag._arrays import Portable, as_numpy, block_slices, rows_per_block
from skmag._metrics import EPS, Metric
from skmag._similarity import Similarity
from skmag._solvers._centers import exact_factor, spread_centers
from skmag._solvers._cholesky import CholeskyFactor
from skmag._solvers._dimension import coordinate_unit, exponent

# Entries of the small systems that are solved together on the CPU; four such arrays fit a cache.
_CACHED_ENTRIES = 2**18
# Exponents beyond this are no different from it, and sums of two stay finite.
_FAR = 1e300
# Points whose neighbours are asked for together.
_QUERIES = 2**16


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
    """

    def __init__(
        self,
        similarity: Similarity,
        centers: torch.Tensor,
        exact: CholeskyFactor,
        indices: torch.Tensor,
        values: torch.Tensor,
    ) -> None:
        self.similarity = similarity
        self.centers = centers
        self.exact = exact
        self.indices = indices
        self.values = values

    @classmethod
    def of(
        cls,
        similarity: Similarity,
        n_centers: int,
        n_neighbors: int,
        random_state: int | np.random.Generator = 0,
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
        indices = torch.from_numpy(
            earlier_neighbors(points, order, len(centers), n_neighbors, p)
        ).to(similarity.device)
        chosen = torch.from_numpy(centers).to(similarity.device)
        return cls(similarity, chosen, exact, indices, columns(similarity, indices))

    def refreshed(self, similarity: Similarity) -> SparseInverse:
        """Factor of the same points at another scale, with the same order and pattern."""
        centers, exact = exact_factor(similarity, as_numpy(self.centers), "sparse")
        if len(centers) < len(self.centers):
            k = self.indices.shape[1] - 1
            return self.of(similarity, len(centers), k)
        return SparseInverse(
            similarity, self.centers, exact, self.indices, columns(similarity, self.indices)
        )

    @property
    def points(self) -> torch.Tensor:
        """The points outside S, in the order of their columns."""
        return self.indices[:, 0].to(torch.int64)

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
        return block_slices(n, rows_per_block(32 * width, _QUERIES))


def earlier_neighbors(
    points: np.ndarray, order: np.ndarray, n_first: int, k: int, p: float
) -> np.ndarray:
    """The nearest points that come earlier in an order, for all points but the first.

    The order is cut into levels that double in size, and one tree holds a level with all before
    it, so that near points of the own level are found too; at large t they are decisive.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_features)
        Coordinates.
    order : int64 ndarray of shape (n_points,)
        The order.
    n_first : int
        How many of the first points to leave out.
    k : int
        Number of neighbours.
    p : float
        Exponent of the norm.

    Returns
    -------
    int32 ndarray of shape (n_points - n_first, k + 1)
        Each point and its neighbours, nearest first, as indices of `points`; a row that has too
        few is filled with its own point. Rows of one level are near each other in space.
    """
    n = len(order)
    ordered = points[order]
    out = np.empty((n - n_first, k + 1), dtype=np.int32)
    done, stop = 0, n_first
    while stop < n:
        start, stop = stop, min(2 * stop, n)
        tree = cKDTree(ordered[:stop], balanced_tree=False, compact_nodes=False)
        # In the order of the tree's leaves, one query after the other finds its points in cache.
        level = tree.indices[tree.indices >= start]
        for rows in block_slices(len(level), _QUERIES):
            own = level[rows]
            out[done : done + len(own)] = _earlier(tree, ordered, own, k, p)
            done += len(own)
    return order.astype(np.int32)[out]


def _earlier(tree: cKDTree, ordered: np.ndarray, own: np.ndarray, k: int, p: float) -> np.ndarray:
    """Each of some points and its nearest points of lower number, in rows filled with its own."""
    out = np.repeat(own[:, None].astype(np.int32), k + 1, axis=1)
    n = len(ordered)
    asked = k + 1 + k // 2
    left = np.arange(len(own))
    while len(left):
        asked = min(asked, n)
        found = tree.query(ordered[own[left]], asked, p=p)[1].reshape(len(left), asked)
        earlier = found < own[left, None]
        rank = earlier.cumsum(axis=1)
        row, column = np.nonzero(earlier & (rank <= k))
        out[left[row], rank[row, column]] = found[row, column]
        left = left[rank[:, -1] < k] if asked < n else left[:0]
        asked *= 2
    return out


def columns(similarity: Similarity, indices: torch.Tensor) -> torch.Tensor:
    """Values of the columns of U for a pattern, as :class:`SparseInverse` holds them."""
    n, width = indices.shape
    values = torch.empty(n, width, dtype=torch.float64, device=indices.device)
    unit = coordinate_unit(similarity)
    cached = n if indices.device.type != "cpu" else max(1, _CACHED_ENTRIES // width**2)
    for rows in block_slices(n, min(cached, rows_per_block(48 * width**2, max(1, n)))):
        values[rows] = _small_columns(similarity, indices[rows], unit)
    return values


def _small_columns(similarity: Similarity, indices: torch.Tensor, unit: float) -> torch.Tensor:
    """Columns of U for one block of points: the last axis of every array runs over the points.

    Distances are computed in a `unit` of coordinates in which their powers stay in range.
    """
    assert similarity.points is not None
    t, width = similarity.t, indices.shape[1]
    # The anchor, which is the nearest neighbour, then the other neighbours, then the point itself.
    group = indices.mT[[*range(1, width), 0]]
    distance = _distances_within(similarity.metric, similarity.points[group].div_(unit))
    distance.mul_(unit).mul_(t).clamp_max_(_FAR)
    a = distance[0, 1:]
    way = a[:, None] + a
    room = way - distance[1:, 1:]
    if similarity.metric.is_norm:
        S = torch.exp(-distance[1:, 1:]).mul_(room.neg_().expm1_().neg_())
    else:
        # Without the triangle inequality the way over the anchor may be the shorter one, by any
        # number: the difference of the two exponentials is a share of the greater of them.
        S = torch.exp(-torch.minimum(distance[1:, 1:], way)).mul_(room.sign())
        S.mul_(room.abs_().neg_().expm1_().neg_())
    diagonal = torch.expm1(-2 * a).neg_()
    scale = diagonal.rsqrt()
    scale[:-1].masked_fill_(group[1:-1] == group[-1], 0.0)
    S.mul_(scale).mul_(scale[:, None])
    x = _last_inverse_column(S)
    # Where even the anchor is the point itself, nothing is conditioned on.
    x.mul_(scale)
    out = torch.empty(width, indices.shape[0], dtype=torch.float64, device=indices.device)
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


def _distances_within(metric: Metric, group: torch.Tensor) -> torch.Tensor:
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
