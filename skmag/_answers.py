"""What a solved weighting says, in tensors: the formulas of its questions and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from skmag._arrays import Portable, block_slices, rows_per_block
from skmag._out_of_memory import names_memory
from skmag._similarity import Similarity
from skmag._solvers import (
    Certificate,
    Factor,
    IndefiniteError,
    IterativeFactor,
    NearFactor,
    Probe,
    answering,
    factor,
    solve,
)


class Answers(Portable):
    """The weights of a set's distinct points, and answers for queries, blocks at a time.

    Parameters
    ----------
    prepared : Factor
        The solver's state.
    reason : str
        Why this solver.
    tol : float, default=1e-6
        Relative tolerance of an iterative solver.
    solver_params : mapping, default=None
        Its further arguments.

    Notes
    -----
    Weights are solved for at once where answers take them, else when they are asked for.
    """

    def __init__(
        self,
        prepared: Factor,
        reason: str,
        tol: float = 1e-6,
        solver_params: Mapping[str, Any] | None = None,
    ) -> None:
        self.factor = prepared
        self.reason = reason
        self.tol = tol
        # A callback is for the solve that it was given to, and would not pickle.
        self.solver_params = {k: v for k, v in (solver_params or {}).items() if k != "callback"}
        self._weights: torch.Tensor | None = None
        self._magnitude = 0.0
        self._certificate: Certificate | None = None
        if prepared.needs_weights:
            self._weigh()

    @classmethod
    def of(
        cls,
        similarity: Similarity,
        solver: str,
        device: torch.device,
        *,
        tol: float = 1e-6,
        solver_params: Mapping[str, Any] | None = None,
        residuals_only: bool = False,
    ) -> Answers:
        """Solve `similarity` with a named solver that answers questions.

        With `residuals_only`, other answers may be rough where no factor gives them.
        """
        made, reason = answering(
            similarity,
            solver,
            device,
            tol=tol,
            solver_params=solver_params,
            residuals_only=residuals_only,
        )
        return cls(made, reason, tol, solver_params)

    @classmethod
    def by(
        cls,
        similarity: Similarity,
        solver: str,
        device: torch.device,
        tol: float,
        solver_params: Mapping[str, Any] | None = None,
    ) -> Answers:
        """Solve `similarity` with any solver of the portfolio."""
        made, reason = solve(similarity, solver, device, tol=tol, solver_params=solver_params)
        return cls(made, reason, tol, solver_params)

    @property
    def weights(self) -> torch.Tensor:
        """Weights of the distinct points."""
        if self._weights is None:
            self._weigh()
        assert self._weights is not None
        return self._weights

    @property
    def magnitude(self) -> float:
        """Sum of the weights."""
        if self._weights is None:
            self._weigh()
        return self._magnitude

    def complete(self) -> Answers:
        """The same answers, also to what needs weights."""
        if not isinstance(self.factor, NearFactor) or self.factor.needs_weights:
            return self
        return Answers(self.factor.complete(), self.reason, self.tol, self.solver_params)

    def _weigh(self) -> None:
        # The magnitude first: whoever sees weights takes it for known.
        weights, self._magnitude = self.factor.weighting()
        self._weights = weights

    @property
    def certificate(self) -> Certificate:
        """What is proven of the magnitude; a factor's is computed when it is asked for."""
        if self._certificate is None:
            self._certificate = self.factor.certificate(self.weights, self.magnitude)
        return self._certificate

    @property
    def similarity(self) -> Similarity:
        """The operator zeta."""
        return self.factor.similarity

    @names_memory
    def probe(self, Z: torch.Tensor) -> Probe:
        """Answer for validated query tensors, in blocks that fit the working memory."""
        size = rows_per_block(self.factor.probe_bytes(), max(1, len(Z)), Z.device)
        weights = self._asked_weights()
        probes = [self.factor.probe(Z[rows], weights) for rows in block_slices(len(Z), size)]
        if len(probes) == 1:
            return probes[0]
        fields = zip(*(vars(probe).values() for probe in probes), strict=True)
        return Probe(*(torch.cat(parts) for parts in fields))

    @property
    def details(self) -> dict[str, Any]:
        """What else an iterative solver reports."""
        solution = getattr(self.factor, "solution", None)
        return {} if solution is None else solution.details

    @names_memory
    def potentials(self, Z: torch.Tensor) -> torch.Tensor:
        """Potentials of validated query tensors, which need no factor."""
        size = rows_per_block(32 * len(self.similarity), max(1, len(Z)), Z.device)
        parts = [self.factor.potentials(part, self.weights) for part in Z.split(size)]
        return torch.cat(parts)

    @names_memory
    def left_out(self, points: torch.Tensor | None = None) -> Probe:
        """What the set without a point says of that point, for some distinct points or all."""
        every = torch.arange(len(self.similarity), device=self.similarity.device)
        weights = self._asked_weights()
        return self.factor.left_out(weights, every if points is None else points)

    def _asked_weights(self) -> torch.Tensor:
        """The weights if the factor's answers take them, which may be dear to solve for."""
        if self.factor.needs_weights:
            return self.weights
        return torch.empty(0, dtype=torch.float64, device=self.similarity.device)

    @names_memory
    def inverse_columns(self, points: torch.Tensor) -> torch.Tensor:
        """Columns of zeta^-1 that belong to some distinct points."""
        return self.factor.inverse_columns(points)

    def joining_weights(self, probe: Probe) -> torch.Tensor:
        """Weight that each query would get: (1 - h) / r, a share of the weight on a point."""
        weight = probe.deficit / torch.where(probe.on_point, 1.0, probe.residual)
        share = self.weights / (self.similarity.counts + 1)
        return torch.where(probe.on_point, share[probe.nearest], weight)

    def gains(self, probe: Probe) -> torch.Tensor:
        """Growth of the magnitude with each query: (1 - h)^2 / r, zero on a point."""
        # Divided first: squares of tiny deficits underflow.
        gain = probe.deficit * (probe.deficit / torch.where(probe.on_point, 1.0, probe.residual))
        return torch.where(probe.on_point, 0.0, gain)

    def copies(self, probe: Probe) -> torch.Tensor:
        """Number of input rows that coincide with each query."""
        return torch.where(probe.on_point, self.similarity.counts[probe.nearest], 0.0)

    def extended(self, Z: torch.Tensor) -> Answers:
        """Answers after the rows of `Z` joined, by the factor's Schur complement."""
        similarity = self.similarity.extended(Z)
        if isinstance(self.factor, IterativeFactor):
            start = torch.zeros_like(similarity.counts)
            start[: len(self.weights)] = self.weights
            return self._again(similarity, start)
        try:
            return Answers(
                self.factor.extended(similarity), self.reason, self.tol, self.solver_params
            )
        except IndefiniteError:
            return self._anew(similarity)

    def dropped(self, rows: Any) -> Answers:
        """Answers after some input rows left, by the factor's update."""
        similarity, kept = self.similarity.dropped(rows)
        if isinstance(self.factor, IterativeFactor):
            return self._again(similarity, self.weights[kept])
        try:
            return Answers(
                self.factor.dropped(similarity, kept), self.reason, self.tol, self.solver_params
            )
        except IndefiniteError:
            return self._anew(similarity)

    def _again(self, similarity: Similarity, weights: torch.Tensor) -> Answers:
        """Answers of the same iterative solver, which may begin with weights that nearly solve."""
        name, tol, params = self.factor.name, self.tol, self.solver_params
        # To a multiplicative solver a weight of zero is lost.
        start = None if name == "iterative_normalization" else weights
        made, _ = solve(
            similarity, name, similarity.device, tol=tol, solver_params=params, start=start
        )
        return Answers(made, self.reason, tol, params)

    def _anew(self, similarity: Similarity) -> Answers:
        prepared, reason = factor(similarity, self.factor.name, similarity.device)
        return Answers(prepared, self.reason if prepared.name == self.factor.name else reason)


Question = Callable[[Probe], torch.Tensor]
