"""What a solved weighting says, in tensors: the formulas of its questions and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from skmag._arrays import Portable, block_slices, rows_per_block
from skmag._similarity import Similarity
from skmag._solvers import Factor, IndefiniteError, Probe, factor


class Answers(Portable):
    """The weights of a set's distinct points, and answers for queries, blocks at a time.

    Parameters
    ----------
    prepared : Factor
        The solver's state.
    reason : str
        Why this solver.

    Attributes
    ----------
    weights : tensor of shape (n_points,)
        Weights of the distinct points.
    magnitude : float
        Their sum.
    """

    def __init__(self, prepared: Factor, reason: str) -> None:
        self.factor = prepared
        self.reason = reason
        self.weights, self.magnitude = prepared.weighting()

    @classmethod
    def of(cls, similarity: Similarity, solver: str, device: torch.device) -> Answers:
        """Solve `similarity` with a named solver."""
        return cls(*factor(similarity, solver, device))

    @property
    def similarity(self) -> Similarity:
        """The operator zeta."""
        return self.factor.similarity

    def probe(self, Z: torch.Tensor) -> Probe:
        """Answer for validated query tensors, in blocks that fit the working memory."""
        size = rows_per_block(self.factor.probe_bytes(), max(1, len(Z)))
        probes = [self.factor.probe(Z[rows], self.weights) for rows in block_slices(len(Z), size)]
        if len(probes) == 1:
            return probes[0]
        fields = zip(*(vars(probe).values() for probe in probes), strict=True)
        return Probe(*(torch.cat(parts) for parts in fields))

    def left_out(self, points: torch.Tensor | None = None) -> Probe:
        """What the set without a point says of that point, for some distinct points or all."""
        every = torch.arange(len(self.weights), device=self.weights.device)
        return self.factor.left_out(self.weights, every if points is None else points)

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
        try:
            return Answers(self.factor.extended(similarity), self.reason)
        except IndefiniteError:
            return self._anew(similarity)

    def dropped(self, rows: Any) -> Answers:
        """Answers after some input rows left, by the factor's update."""
        similarity, kept = self.similarity.dropped(rows)
        try:
            return Answers(self.factor.dropped(similarity, kept), self.reason)
        except IndefiniteError:
            return self._anew(similarity)

    def _anew(self, similarity: Similarity) -> Answers:
        prepared, reason = factor(similarity, self.factor.name, similarity.device)
        return Answers(prepared, self.reason if prepared.name == self.factor.name else reason)


Question = Callable[[Probe], torch.Tensor]
