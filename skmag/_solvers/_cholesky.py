"""The exact solver: a float64 Cholesky factor of zeta, in place."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy.linalg import LinAlgWarning
from scipy.linalg.blas import dtrsv
from scipy.linalg.lapack import get_lapack_funcs

from skmag._arrays import on_host
from skmag._metrics import EPS
from skmag._similarity import Similarity
from skmag._solvers._base import (
    AnchoredFactor,
    Factor,
    IndefiniteError,
    singular_share,
    stack_level,
)
from skmag._solvers._memory import check_memory, exact_bytes

# From this many points on scipy's LAPACK beats torch's, by a sixth at n = 8,000. Below, a second
# library's threads, which compete with torch's for a moment, cost more than that.
_SCIPY_POINTS = 3000
# Columns updated together when points leave: wide enough for matrix products.
_UPDATE_COLUMNS = 64
# From this many points on that leave together, a new factor is cheaper than an update.
_UPDATED_POINTS = 64
# Relative accuracy of the weights beyond which the user is told.
_POOR = 1e-6


class CholeskyFactor(AnchoredFactor):
    """Lower factor L with L L' = S on all points but the anchor.

    The anchor's row and column of L are never used: right sides are zero there. L may come from
    zeta itself, whose first elimination step is the anchoring, or from S, which is worth its
    second exponential only where zeta is nearly constant.

    Parameters
    ----------
    similarity : Similarity
        What was factored.
    lower : tensor of shape (n_points, n_points)
        The factor, in column-major order.
    """

    name = "cholesky"

    def __init__(self, similarity: Similarity, lower: torch.Tensor) -> None:
        self.similarity = similarity
        self.lower = lower

    @classmethod
    def prepare(cls, similarity: Similarity, spent: Factor | None = None) -> CholeskyFactor:
        n = len(similarity)
        if isinstance(spent, CholeskyFactor) and len(spent.lower) == n:
            matrix = spent.lower.mT
        else:
            check_memory(n, exact_bytes(n, 8), similarity.device, cls.name)
            matrix = zeros(n, similarity.device)
        if similarity.nearly_constant:
            similarity.fill_upper_anchored(matrix)
        else:
            similarity.fill_upper(matrix)
        lower, share = factor_in_place(matrix)
        # A bound in theory grows with n; ten is what errors against many digits stay under.
        accuracy = 10 * EPS / share
        if accuracy > _POOR:
            warnings.warn(
                f"The similarity matrix of n={n} points under metric={similarity.metric.name!r} at "
                f"t={similarity.t!r} is close to singular (points that nearly coincide, or a "
                "smooth metric): weights of neighbours are accurate to a relative "
                f"{accuracy:.0e} only; the magnitude and potentials are not concerned. Make "
                "points equal that are meant to be equal, or use a larger t.",
                LinAlgWarning,
                stacklevel=stack_level(),
            )
        return cls(similarity, lower)

    def solve(self, B: torch.Tensor) -> torch.Tensor:
        return self._triangular(self._triangular(B), transposed=True)

    def quadratic(self, B: torch.Tensor) -> torch.Tensor:
        return self._triangular(B).square_().sum(0)

    def explained_ones(self) -> torch.Tensor:
        """What each point adds to the magnitude of the points before it; zero for the anchor."""
        return self._triangular(self.anchored_ones())[:, 0].square_()

    def _triangular(self, B: torch.Tensor, *, transposed: bool = False) -> torch.Tensor:
        """Solve with L, or with its transpose."""
        if B.shape[1] == 1 and uses_scipy(self.lower):
            right = B[:, 0].contiguous().numpy()
            x = dtrsv(self.lower.numpy(), right, lower=1, trans=int(transposed))
            return torch.from_numpy(x)[:, None]
        factor = self.lower.mT if transposed else self.lower
        return torch.linalg.solve_triangular(factor, B, upper=transposed)

    def extended(self, similarity: Similarity) -> CholeskyFactor:
        """Append the Schur complement of the old points (weighting-vector-applications, 2.1)."""
        old, n = len(self.lower), len(similarity)
        if n == old:
            return CholeskyFactor(similarity, self.lower)
        check_memory(n, exact_bytes(n, 8), similarity.device, self.name)
        joined = torch.arange(old, n, device=similarity.device)
        anchored = similarity.anchored_rows(joined)
        cross = torch.linalg.solve_triangular(self.lower, anchored[:, :old].mT, upper=False)
        corner = anchored[:, old:].addmm_(cross.mT, cross, alpha=-1)
        lower = torch.zeros(n, n, dtype=torch.float64, device=similarity.device).mT
        lower[:old, :old] = self.lower
        lower[old:, :old] = cross.mT
        lower[old:, old:] = factor_in_place(corner.triu().contiguous())[0]
        return CholeskyFactor(similarity, lower)

    def dropped(self, similarity: Similarity, kept: torch.Tensor) -> CholeskyFactor:
        """Fold the columns of the points that leave into those that stay.

        S over the points that stay is K K' + V V', K and V the kept rows of L in the columns of
        the points that stay and that leave. If the anchor leaves, zeta = S + a a' is refactored
        the same way: its first elimination step makes the first point that stays the anchor.
        """
        old = len(self.lower)
        if len(kept) == old:
            return CholeskyFactor(similarity, self.lower)
        check_memory(len(kept), exact_bytes(len(kept), 8), similarity.device, self.name)
        leaving = torch.ones(old, dtype=torch.bool, device=kept.device)
        leaving[kept] = False
        anchor_leaves = bool(leaving[0])
        # A factor of a nearly constant zeta is not to be had from one with larger entries.
        lost = similarity.nearly_constant and (anchor_leaves or not self.similarity.nearly_constant)
        if lost or old - len(kept) > _UPDATED_POINTS:
            return self.prepare(similarity)
        leaving[0] = False
        rows = self.lower[kept]
        update = rows[:, leaving]
        lower = rows[:, kept].mT.contiguous().mT
        if anchor_leaves:
            column = torch.exp(-self.similarity.t * self.similarity.anchor)[kept, None]
            update = torch.cat([update, column], 1)
        else:
            lower[:, 0] = 0.0
            lower[0, 0] = 1.0
            update[0] = 0.0
        return CholeskyFactor(similarity, _updated(lower, update))


def zeros(n: int, device: torch.device, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """An n by n matrix of zeros; on the CPU, no time is spent on what is never written to."""
    if not on_host(device):
        return torch.zeros(n, n, dtype=dtype, device=device)
    # torch writes its zeros, numpy leaves them to the operating system.
    return torch.from_numpy(np.zeros((n, n), np.float32 if dtype == torch.float32 else np.float64))


def uses_scipy(matrix: torch.Tensor) -> bool:
    """Whether scipy's LAPACK is to factor, and to solve with, this matrix."""
    return on_host(matrix) and len(matrix) >= _SCIPY_POINTS


def factor_in_place(matrix: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Cholesky factor of a matrix whose upper triangle is filled, in the matrix's own memory.

    Below the diagonal the matrix is zero and stays so.

    Parameters
    ----------
    matrix : tensor of shape (n, n)
        Row-major; overwritten.

    Returns
    -------
    lower : tensor of shape (n, n)
        Lower factor, column-major.
    share : float
        Least share of a diagonal entry that its elimination left.

    Raises
    ------
    IndefiniteError
        If a pivot is not positive beyond the rounding of its own elimination.
    """
    # The transpose of a row-major tensor is what LAPACK calls in place: no second n by n array.
    lower, diagonal = matrix.mT, matrix.diagonal().clone()
    if uses_scipy(matrix):
        (potrf,) = get_lapack_funcs(("potrf",), dtype=matrix.numpy().dtype)
        _, info = potrf(lower.numpy(), lower=1, clean=0, overwrite_a=1)
    else:
        status = torch.empty((), dtype=torch.int32, device=matrix.device)
        torch.linalg.cholesky_ex(lower, out=(lower, status))
        info = int(status)
    if info != 0:
        raise IndefiniteError(f"pivot {info} of {len(matrix)} is not positive")
    left = lower.diagonal().square() / diagonal
    share, pivot = float(left.min()), int(left.argmin()) + 1
    if share <= singular_share(len(matrix)):
        raise IndefiniteError(f"pivot {pivot} of {len(matrix)} is mere rounding")
    return lower, share


def _updated(lower: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
    """Factor of L L' + V V' by orthogonal transformations, in blocks of columns."""
    for start in range(0, len(lower), _UPDATE_COLUMNS):
        stop = min(start + _UPDATE_COLUMNS, len(lower))
        if not bool(update[start:stop].any()):
            continue  # columns before the first point that leaves are as they were
        panel = torch.cat([lower[start:, start:stop], update[start:]], 1)
        # [L11 V1] Q = [R' 0] with Q orthogonal; the rows below turn with it.
        Q, R = torch.linalg.qr(panel[: stop - start].mT, mode="complete")
        turned = panel @ Q
        sign = torch.sign(R.diagonal())
        sign[sign == 0] = 1.0
        lower[start:, start:stop] = turned[:, : stop - start] * sign
        update[start:] = turned[:, stop - start :]
    return lower
