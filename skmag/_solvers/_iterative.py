"""Weights found by a solver that holds no factor, which is made when a question needs one."""

from __future__ import annotations

from contextlib import suppress

import torch

from skmag._similarity import Similarity
from skmag._solvers._base import Factor, IndefiniteError, Probe
from skmag._solvers._cg_factor import ConjugateGradientFactor
from skmag._solvers._cholesky import CholeskyFactor
from skmag._solvers._memory import available_memory, exact_bytes
from skmag._solvers._near import NearFactor
from skmag._solvers._solution import Certificate, Solution

# Beyond this many points, a Cholesky factor takes minutes and conjugate gradients answer.
_FACTORED_POINTS = 20_000


class IterativeFactor(Factor):
    """A solution, and a factor made on demand.

    Potentials need the weights only. Residuals, gains and what is left out need solves: a Cholesky
    factor gives them where it fits; where not, the points near each query after the sparse solver,
    and conjugate gradients for each query after the others. Near a point both
    1 - h and r vanish, so that their ratio wants the factor's own weights.

    Parameters
    ----------
    solution : Solution
        What the solver returned.
    """

    def __init__(self, solution: Solution) -> None:
        self.solution = solution
        self.similarity = solution.similarity
        self.name = solution.solver
        self._made: Factor | None = None
        self._made_weights: torch.Tensor | None = None

    @classmethod
    def prepare(cls, similarity: Similarity, spent: Factor | None = None) -> IterativeFactor:
        raise TypeError("an iterative factor is made from a solution")

    @property
    def made(self) -> Factor:
        """The factor that answers what weights alone do not."""
        if self._made is None:
            n, free = len(self.similarity), available_memory(self.similarity.device)
            fits = n <= _FACTORED_POINTS and exact_bytes(n, 8) <= free
            if fits:
                # Points that a factor cannot tell apart may still have answers.
                with suppress(IndefiniteError):
                    self._made = CholeskyFactor.prepare(self.similarity)
            if self._made is None and self.solution.center_weights is not None:
                near = NearFactor.of(self.similarity)
                near.solution = self.solution
                self._made = near
            if self._made is None:
                self._made = ConjugateGradientFactor.prepare(self.similarity)
        return self._made

    @property
    def made_weights(self) -> torch.Tensor:
        """The weights by that factor."""
        if self._made_weights is None:
            self._made_weights = self.made.weighting()[0]
        return self._made_weights

    def magnitude(self) -> float:
        return self.solution.certificate.magnitude

    def weighting(self) -> tuple[torch.Tensor, float]:
        return self.solution.weights, self.magnitude()

    def certificate(self, weights: torch.Tensor, magnitude: float) -> Certificate:
        return self.solution.certificate

    def potentials(self, Z: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        distance = self.similarity.query_distances(Z)
        out = torch.exp(distance * -self.similarity.t) @ weights
        out[(distance == 0).any(dim=1)] = 1.0
        return out

    def inverse_diagonal(self, points: torch.Tensor | None = None) -> torch.Tensor:
        return self.made.inverse_diagonal(points)

    def inverse_columns(self, points: torch.Tensor) -> torch.Tensor:
        return self.made.inverse_columns(points)

    def left_out(self, weights: torch.Tensor, points: torch.Tensor) -> Probe:
        return self.made.left_out(self.made_weights, points)

    def derivative(self, weights: torch.Tensor) -> float:
        return self.similarity.derivative_form(weights)

    def probe(self, Z: torch.Tensor, weights: torch.Tensor) -> Probe:
        return self.made.probe(Z, self.made_weights)

    def probe_bytes(self) -> int:
        return self.made.probe_bytes()
