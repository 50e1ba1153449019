"""Which rows of two samples stand where the other one has too little."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from skmag._answers import Answers
from skmag._metrics import Metric
from skmag._permutations import Pool
from skmag._similarity import Similarity

# Beyond this many points, pairs that float64 can hardly tell apart are not looked for, which takes
# all distances: a solver for so many points asks near points only, and survives them.
_MERGED_POINTS = 10_000
# Beyond this many points of the union its weights would take longer than all the rest.
_WEIGHTED_POINTS = 20_000


@dataclass(frozen=True)
class MovedRows:
    """Two samples at one scale, for questions about their rows.

    Parameters
    ----------
    points : Similarity
        Distinct points of both samples.
    first, second : int64 tensor of shape (n_rows,)
        Point of each row of either sample.
    """

    points: Similarity
    first: torch.Tensor
    second: torch.Tensor

    @classmethod
    def of(cls, first: torch.Tensor, second: torch.Tensor, metric: Metric, t: float) -> MovedRows:
        """Put two samples of unprepared points together, as the test tells points apart."""
        points, n = Similarity.of(torch.cat([first, second]), metric, t, name="X"), len(first)
        pool = Pool(points, points.group, np.arange(n))
        if len(points) <= _MERGED_POINTS:
            pool = pool.resolved(t)
        return cls(pool.points, pool.group[:n], pool.group[n:])

    def ranked(
        self, statistic: str, solver: str = "auto", tol: float = 1e-6
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """How much each row of either sample stands where the other one has too little.

        Parameters
        ----------
        statistic : {"magnitude", "mmd"}
            The residual beside the other sample, or the witness.
        solver : str, default="auto"
            Solver of a sample's weighting; residuals only.
        tol : float, default=1e-6
            Relative tolerance of an iterative solver.

        Returns
        -------
        tuple of two tensors of shape (n_rows,)
            Values of the rows of either sample.
        """
        return self.residuals(solver, tol) if statistic == "magnitude" else self.witnesses()

    def residuals(
        self, solver: str = "auto", tol: float = 1e-6
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Residual of each row beside the other sample, zero for rows that it has too."""
        points, out = self.points, []
        for own, other in ((self.first, self.second), (self.second, self.first)):
            known = other.unique()
            asked, where = own.unique(return_inverse=True)
            part = points.taken(known)
            answers = Answers.of(part, solver, part.device, tol=tol, residuals_only=True)
            out.append(answers.probe(_as_queries(points, known, asked)).residual[where])
        return out[0], out[1]

    def witnesses(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean similarity of each row to its own sample less that to the other one."""
        points = self.points
        v = torch.zeros(len(points), dtype=torch.float64, device=points.device)
        for own, sign in ((self.first, 1.0), (self.second, -1.0)):
            v += sign / len(own) * torch.bincount(own, minlength=len(v)).to(v)
        # The entries of v add up to zero, so that zeta - 1 serves as well and keeps its digits.
        witness = torch.zeros_like(v)
        for rows in points.row_blocks():
            block = torch.expm1(points.distances(rows, slice(rows.start, None)) * -points.t)
            block.diagonal().zero_()
            witness[rows] += block @ v[rows.start :]
            witness[rows.stop :] += block[:, len(block) :].mT @ v[rows]
        return witness[self.first], -witness[self.second]

    def weights(self, solver: str = "auto", tol: float = 1e-6) -> torch.Tensor | None:
        """Weight of each row of the second sample in the union, of whose points copies share one.

        None where the union has more than 20,000 points.
        """
        n = len(self.points)
        if n > _WEIGHTED_POINTS:
            return None
        every = torch.arange(n, device=self.points.device)
        union = self.points.taken(every)
        weights = Answers.by(union, solver, union.device, tol).weights
        copies = torch.bincount(torch.cat([self.first, self.second]), minlength=n)
        return (weights / copies)[self.second]


def _as_queries(points: Similarity, known: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """Some points as queries to the set of others, which was taken from the same points."""
    if points.points is not None:
        return points.points[asked]
    assert points.table is not None
    return points.table[asked][:, known]
