"""The exact solver for similarities that are not positive definite: symmetric L D L'."""

from __future__ import annotations

import torch

from skmag._similarity import Similarity
from skmag._solvers._base import AnchoredFactor, refuse_singular, singular_share
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
    """

    name = "indefinite"
    definite = False

    def __init__(self, similarity: Similarity, compact: torch.Tensor, pivots: torch.Tensor) -> None:
        self.similarity = similarity
        self.compact = compact
        self.pivots = pivots

    @classmethod
    def prepare(cls, similarity: Similarity) -> IndefiniteFactor:
        n = len(similarity)
        check_memory(n, 3 * exact_bytes(n, 8), similarity.device, cls.name)
        matrix = torch.empty(n, n, dtype=torch.float64, device=similarity.device)
        for rows, block in similarity.anchored_blocks():
            matrix[rows, rows.start :] = block
            matrix[rows.start :, rows] = block.mT
        compact, pivots, _ = torch.linalg.ldl_factor_ex(matrix)
        smallest, greatest = _pivot_range(compact[1:, 1:], pivots[1:])
        if not smallest > singular_share(n) * greatest:
            raise refuse_singular(similarity, f"pivots between {smallest:.3g} and {greatest:.3g}")
        return cls(similarity, compact, pivots)

    def solve(self, B: torch.Tensor) -> torch.Tensor:
        return torch.linalg.ldl_solve(self.compact, self.pivots, B.contiguous())

    def quadratic(self, B: torch.Tensor) -> torch.Tensor:
        return (B * self.solve(B)).sum(0)


def _pivot_range(compact: torch.Tensor, pivots: torch.Tensor) -> tuple[float, float]:
    """Least and greatest absolute eigenvalue of the block-diagonal D."""
    if not len(pivots):
        return 1.0, 1.0
    values, i = [], 0
    diagonal, below = compact.diagonal().cpu(), compact.diagonal(-1).cpu()
    marks = pivots.cpu()
    while i < len(marks):
        if marks[i] > 0 or i + 1 == len(marks):
            values.append(diagonal[i].abs())
            i += 1
            continue
        block = torch.stack(
            [torch.stack([diagonal[i], below[i]]), torch.stack([below[i], diagonal[i + 1]])]
        )
        values.extend(torch.linalg.eigvalsh(block).abs())
        i += 2
    stacked = torch.stack(values)
    return float(stacked.min()), float(stacked.max())
