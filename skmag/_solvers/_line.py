"""The real line, where zeta^-1 is tridiagonal and every answer has a closed form."""

from __future__ import annotations

import torch

from skmag._metrics import EPS
from skmag._similarity import Similarity
from skmag._solvers._base import Factor, Probe
from skmag._solvers._solution import Certificate


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
    def prepare(cls, similarity: Similarity, spent: Factor | None = None) -> LineFactor:
        return cls(similarity)

    def weighting(self) -> tuple[torch.Tensor, float]:
        share = torch.tanh(self.half_gap) / 2
        end = share.new_full((1,), 0.5)
        w = self._unsorted(torch.cat([end, share]) + torch.cat([share, end]))
        return w, self.magnitude()

    def magnitude(self) -> float:
        return 1.0 + float(torch.tanh(self.half_gap).sum())

    def certificate(self, weights: torch.Tensor, magnitude: float) -> Certificate:
        # A gap, its half, a hyperbolic tangent and their sum round n + 8 times at most.
        error = (len(self.position) + 8) * EPS * magnitude
        return Certificate(magnitude, max(magnitude - error, 1.0), magnitude + error)

    def left_out(self, weights: torch.Tensor, points: torch.Tensor) -> Probe:
        beyond = torch.full((1,), torch.inf, dtype=torch.float64, device=points.device)
        gap = torch.cat([beyond, self.position.diff(), beyond])
        rank = self._rank()[points]
        a, b, t = gap[rank], gap[rank + 1], self.similarity.t
        on_point = torch.zeros_like(points, dtype=torch.bool)
        return _between(a * t, b * t, on_point, a.minimum(b), points)

    def derivative(self, weights: torch.Tensor) -> float:
        half = self.half_gap / self.similarity.t
        return float((half / torch.cosh(self.half_gap).square()).sum())

    def inverse_diagonal(self, points: torch.Tensor | None = None) -> torch.Tensor:
        # 1 / (1 - u^2) from each side, u = exp(-t gap); the point itself is counted once.
        side = torch.expm1(-4 * self.half_gap).neg_().reciprocal_()
        end = side.new_ones(1)
        diagonal = self._unsorted(torch.cat([end, side]) + torch.cat([side, end]) - 1)
        return diagonal if points is None else diagonal[points]

    def inverse_columns(self, points: torch.Tensor) -> torch.Tensor:
        n = len(self.position)
        beside = -torch.exp(-2 * self.half_gap) / torch.expm1(-4 * self.half_gap).neg_()
        at, column = self._rank()[points], torch.arange(len(points), device=points.device)
        out = beside.new_zeros(n, len(points))
        out[points, column] = self.inverse_diagonal(points)
        lower, upper = at > 0, at < n - 1
        out[self.order[at[lower] - 1], column[lower]] = beside[at[lower] - 1]
        out[self.order[at[upper] + 1], column[upper]] = beside[at[upper]]
        return out

    def probe(self, Z: torch.Tensor, weights: torch.Tensor) -> Probe:
        z, n, t = Z[:, 0].contiguous(), len(self.position), self.similarity.t
        right = torch.searchsorted(self.position, z).clamp_(max=n - 1)
        left = (right - 1).clamp_(min=0)
        to_left, to_right = (z - self.position[left]).abs(), (z - self.position[right]).abs()
        nearer = to_left <= to_right
        distance = torch.where(nearer, to_left, to_right)
        # Beyond an end there is one neighbour: the other is infinitely far.
        outside = (z <= self.position[0]) | (z >= self.position[-1])
        a = torch.where(outside, distance, to_left) * t
        b = torch.where(outside, torch.full_like(a, torch.inf), to_right * t)
        nearest = self.order[torch.where(nearer, left, right)]
        return _between(a, b, distance == 0, distance, nearest)

    def probe_bytes(self) -> int:
        return 16 * 8

    def _rank(self) -> torch.Tensor:
        """Place of each point in the order."""
        rank = torch.empty_like(self.order)
        rank[self.order] = torch.arange(len(rank), device=rank.device)
        return rank

    def _unsorted(self, values: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(values)
        out[self.order] = values
        return out


def _between(
    a: torch.Tensor,
    b: torch.Tensor,
    on_point: torch.Tensor,
    distance: torch.Tensor,
    nearest: torch.Tensor,
) -> Probe:
    """Answers for queries at t times the distances a and b from their two neighbours.

    With u = exp(-a) and v = exp(-b): 1 - h = (1 - u)(1 - v) / (1 + u v), and
    r = (1 - u^2)(1 - v^2) / (1 - u^2 v^2), both without cancellation. No neighbour is at infinity.
    """
    u, v = torch.exp(-a), torch.exp(-b)
    left, right = torch.expm1(-2 * a).neg_(), torch.expm1(-2 * b).neg_()
    both = torch.expm1(-2 * (a + b)).neg_()
    return Probe(
        potential=(u + v) / (1 + u * v),
        deficit=torch.expm1(-a) * torch.expm1(-b) / (1 + u * v),
        residual=left * right / both,
        explained=(u.square() * right + v.square() * left) / both,
        on_point=on_point,
        nearest_distance=distance,
        nearest=nearest,
    )
