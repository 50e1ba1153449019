"""The exact solver for similarities that are not positive definite: symmetric L D L'."""

from __future__ import annotations

import torch

from skmag._similarity import Similarity
from skmag._solvers._base import AnchoredFactor, Factor, refuse_singular, singular_share
from skmag._solvers._memory import check_memory, exact_bytes


class IndefiniteFactor(AnchoredFactor):
    """Bunch-Kaufman factor of S, whose pivots may have any sign but zero.

    Parameters
    ----------
    similarity : Similarity
        What was factored.
    compact : tensor of shape (n_points, n_points)
        L and D as LAPACK packs them.
    pivots : tensor of shape (n_points,)
        Interchanges; negative pairs mark blocks of two.
    definite : bool
        Whether all of D is positive after all.
    """

    name = "indefinite"
    definite = False

    def __init__(
        self, similarity: Similarity, compact: torch.Tensor, pivots: torch.Tensor, definite: bool
    ) -> None:
        self.similarity = similarity
        self.definite = definite
        self.compact = compact
        self.pivots = pivots

    @classmethod
    def prepare(cls, similarity: Similarity, spent: Factor | None = None) -> IndefiniteFactor:
        n = len(similarity)
        check_memory(n, 3 * exact_bytes(n, 8), similarity.device, cls.name)
        matrix = torch.empty(n, n, dtype=torch.float64, device=similarity.device)
        for rows, block in similarity.anchored_blocks():
            matrix[rows, rows.start :] = block
            matrix[rows.start :, rows] = block.mT
        compact, pivots, _ = torch.linalg.ldl_factor_ex(matrix)
        values = _pivot_values(compact, pivots)
        smallest, greatest = float(values.abs().min()), float(values.abs().max())
        if not smallest > singular_share(n) * greatest:
            raise refuse_singular(similarity, f"pivots between {smallest:.3g} and {greatest:.3g}")
        return cls(similarity, compact, pivots, definite=bool(values.min() > 0))

    def solve(self, B: torch.Tensor) -> torch.Tensor:
        return torch.linalg.ldl_solve(self.compact, self.pivots, B.contiguous())

    def quadratic(self, B: torch.Tensor) -> torch.Tensor:
        return (B * self.solve(B)).sum(0)


def _pivot_values(compact: torch.Tensor, pivots: torch.Tensor) -> torch.Tensor:
    """Eigenvalues of the block-diagonal D, without the 1 of the eliminated anchor."""
    diagonal, below = compact.diagonal().cpu(), compact.diagonal(-1).cpu()
    marks, values, i = pivots.cpu(), [], 1
    while i < len(marks):
        if marks[i] > 0 or i + 1 == len(marks):
            values.append(diagonal[i : i + 1])
            i += 1
            continue
        block = torch.stack([diagonal[i], below[i], below[i], diagonal[i + 1]]).reshape(2, 2)
        values.append(torch.linalg.eigvalsh(block))
        i += 2
    return torch.cat(values) if values else torch.ones(1, dtype=torch.float64)
