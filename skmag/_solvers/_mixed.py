"""The exact solver in half the memory: a float32 Cholesky factor, refined in float64."""

from __future__ import annotations

import numpy as np
import torch

from skmag._similarity import Similarity
from skmag._solvers._base import AnchoredFactor, Factor, IndefiniteError
from skmag._solvers._cholesky import factor_in_place, zeros
from skmag._solvers._memory import check_memory, exact_bytes

_MAX_REFINEMENTS = 40
# Relative size of the last correction at which an answer has float64's digits.
_CONVERGED = 1e-15
# Where rounding stops the refinement earlier, this is still an answer.
_ACCEPTED = 1e-10


class MixedFactor(AnchoredFactor):
    """float32 factor of S with unit diagonal; every answer is refined against float64 blocks.

    Parameters
    ----------
    similarity : Similarity
        What was factored; its blocks are recomputed for every refinement.
    lower : float32 tensor of shape (n_points, n_points)
        Factor of ``D S D``, column-major.
    unit : tensor of shape (n_points, 1)
        D, which brings S to a unit diagonal and so into float32's range at every t.
    """

    name = "mixed"

    def __init__(self, similarity: Similarity, lower: torch.Tensor, unit: torch.Tensor) -> None:
        self.similarity = similarity
        self.lower = lower
        self.unit = unit

    @classmethod
    def prepare(
        cls,
        similarity: Similarity,
        spent: Factor | None = None,
        factor_device: torch.device | None = None,
    ) -> MixedFactor:
        n = len(similarity)
        device = factor_device or similarity.device
        check_memory(n, exact_bytes(n, 4), device, cls.name)
        diagonal = similarity.anchored_diagonal()
        diagonal[0] = 1.0
        unit = diagonal.rsqrt()
        matrix = zeros(n, device, torch.float32)
        for rows, block in similarity.anchored_blocks():
            block.mul_(unit[rows, None]).mul_(unit[rows.start :])
            block[:, : len(block)].triu_()
            matrix[rows, rows.start :] = block.to(device=device, dtype=torch.float32)
        try:
            lower, _ = factor_in_place(matrix)
        except IndefiniteError as error:
            raise np.linalg.LinAlgError(
                f"the similarity matrix of n={n} points at t={similarity.t!r} is too "
                f"ill-conditioned for a float32 factor ({error}); use solver='cholesky'"
            ) from error
        return cls(similarity, lower, unit[:, None])

    def extended(self, similarity: Similarity) -> MixedFactor:
        return self.prepare(similarity, factor_device=self.lower.device)

    def dropped(self, similarity: Similarity, kept: torch.Tensor) -> MixedFactor:
        return self.prepare(similarity, factor_device=self.lower.device)

    def solve(self, B: torch.Tensor) -> torch.Tensor:
        x = self._rough(B)
        change = torch.full((B.shape[1],), float("inf"), dtype=B.dtype, device=B.device)
        for _ in range(_MAX_REFINEMENTS):
            step = self._rough(B - self.similarity.anchored_product(x))
            x += step
            last, size = change, torch.linalg.vector_norm(x, dim=0)
            change = torch.linalg.vector_norm(step, dim=0) / size.clamp_min(1e-300)
            if bool(((change <= _CONVERGED) | (change >= 0.5 * last)).all()):
                break
        if bool((change > _ACCEPTED).any()):
            raise np.linalg.LinAlgError(
                f"float32 refinement stopped at a relative change of {float(change.max()):.2g} "
                f"for n={len(x)}, t={self.similarity.t!r}: the similarity matrix is too "
                "ill-conditioned; use solver='cholesky'"
            )
        return x

    def quadratic(self, B: torch.Tensor) -> torch.Tensor:
        return (B * self.solve(B)).sum(0)

    def _rough(self, B: torch.Tensor) -> torch.Tensor:
        scaled = B * self.unit
        # Columns differ in size by more than float32's range can hold.
        size = scaled.abs().amax(0).clamp_min(torch.finfo(torch.float64).tiny)
        right = (scaled / size).to(self.lower.device, torch.float32)
        half = torch.linalg.solve_triangular(self.lower, right, upper=False)
        rough = torch.linalg.solve_triangular(self.lower.mT, half, upper=True)
        return rough.to(B.device, torch.float64).mul_(size).mul_(self.unit)
