"""The real line, where zeta^-1 is tridiagonal and every answer has a closed form."""

from __future__ import annotations

import torch

from skmag._similarity import Similarity
from skmag._solvers._base import Factor, Probe


class LineFactor(Factor):
    """Sorted points and their gaps: O(n log n) to prepare, O(log n) for a query.

    Conditioned on its two neighbours a point is independent of all others (Leinster 2013,
    Theorem 2.4.14 and the Markov property of exp(-|x - y|)), so that

        Mag(tX) = 1 + sum tanh(t gap / 2).

    Parameters
    ----------
    similarity : Similarity
        Points with one feature under any norm.
    """

    name = "line"

    def __init__(self, similarity: Similarity) -> None:
        assert similarity.points is not None
        self.similarity = similarity
        self.position, self.order = torch.sort(similarity.points[:, 0])
        self.half_gap = (similarity.t / 2) * self.position.diff()

    @classmethod
    def prepare(cls, similarity: Similarity) -> LineFactor:
        return cls(similarity)

    def weighting(self) -> tuple[torch.Tensor, float]:
        share = torch.tanh(self.half_gap) / 2
        end = share.new_full((1,), 0.5)
        w = self._unsorted(torch.cat([end, share]) + torch.cat([share, end]))
        return w, self.magnitude()

    def magnitude(self) -> float:
        return 1.0 + float(torch.tanh(self.half_gap).sum())

    def inverse_diagonal(self, points: torch.Tensor | None = None) -> torch.Tensor:
        # 1 / (1 - u^2) from each side, u = exp(-t gap); the point itself is counted once.
        side = torch.expm1(-4 * self.half_gap).neg_().reciprocal_()
        end = side.new_ones(1)
        diagonal = self._unsorted(torch.cat([end, side]) + torch.cat([side, end]) - 1)
        return diagonal if points is None else diagonal[points]

    def inverse_columns(self, points: slice) -> torch.Tensor:
        n = len(self.position)
        beside = -torch.exp(-2 * self.half_gap) / torch.expm1(-4 * self.half_gap).neg_()
        wanted = torch.arange(n, device=self.order.device)[points]
        rank = torch.empty_like(self.order)
        rank[self.order] = torch.arange(n, device=self.order.device)
        at, column = rank[wanted], torch.arange(len(wanted), device=self.order.device)
        out = beside.new_zeros(n, len(wanted))
        out[wanted, column] = self.inverse_diagonal()[wanted]
        lower, upper = at > 0, at < n - 1
        out[self.order[at[lower] - 1], column[lower]] = beside[at[lower] - 1]
        out[self.order[at[upper] + 1], column[upper]] = beside[at[upper]]
        return out

    def probe(self, Z: torch.Tensor) -> Probe:
        z, n, t = Z[:, 0].contiguous(), len(self.position), self.similarity.t
        right = torch.searchsorted(self.position, z).clamp_(max=n - 1)
        left = (right - 1).clamp_(min=0)
        to_left, to_right = (z - self.position[left]).abs(), (z - self.position[right]).abs()
        nearer = to_left <= to_right
        distance = torch.where(nearer, to_left, to_right) * t
        # Beyond an end there is one neighbour: the other is infinitely far.
        outside = (z <= self.position[0]) | (z >= self.position[-1])
        a = torch.where(outside, distance, to_left * t)
        b = torch.where(outside, torch.full_like(a, torch.inf), to_right * t)
        u, v = torch.exp(-a), torch.exp(-b)
        both = torch.expm1(-2 * (a + b)).neg_()
        residual = torch.expm1(-2 * a).neg_() * torch.expm1(-2 * b).neg_() / both
        # 1 - r = (u^2 + v^2 - 2 u^2 v^2) / (1 - u^2 v^2), which has no cancellation as u, v -> 0.
        explained = u.square() * torch.expm1(-2 * b).neg() + v.square() * torch.expm1(-2 * a).neg()
        return Probe(
            potential=(u + v) / (1 + u * v),
            deficit=torch.expm1(-a) * torch.expm1(-b) / (1 + u * v),
            residual=residual,
            explained=explained / both,
            nearest_distance=distance,
            nearest=self.order[torch.where(nearer, left, right)],
        )

    def probe_bytes(self) -> int:
        return 16 * 8

    def _unsorted(self, values: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(values)
        out[self.order] = values
        return out
