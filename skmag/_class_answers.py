"""One weighting for each class of a labelled set, asked together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils.parallel import Parallel, delayed

from skmag._answers import Answers
from skmag._metrics import Metric
from skmag._similarity import Similarity
from skmag._solvers import Probe


@dataclass(frozen=True)
class ClassAnswers:
    """The answers of every class's weighting.

    Parameters
    ----------
    rows : list of int64 ndarrays
        Training rows of each class.
    parts : list of Answers
        Weighting of each class.
    precomputed : bool
        Whether queries hold distances to all training rows.
    """

    rows: list[np.ndarray]
    parts: list[Answers]
    precomputed: bool

    @classmethod
    def of(
        cls,
        similarities: Sequence[Similarity],
        rows: list[np.ndarray],
        ts: Sequence[float],
        solver: str,
        device: torch.device,
        n_jobs: int | None = None,
    ) -> ClassAnswers:
        """Solve the similarity of each class at its scale, classes in parallel."""
        parts = Parallel(n_jobs=n_jobs, prefer="threads")(
            delayed(Answers.of)(similarity.at(t), solver, device)
            for similarity, t in zip(similarities, ts, strict=True)
        )
        return cls(rows, parts, similarities[0].metric.precomputed)

    def map(self, function: Callable[..., Any], *args: Any, n_jobs: int | None = None) -> list[Any]:
        """Call ``function(c, answers, *args)`` for each class c, classes in parallel."""
        return Parallel(n_jobs=n_jobs, prefer="threads")(
            delayed(function)(c, part, *args) for c, part in enumerate(self.parts)
        )

    def queries(self, c: int, Z: torch.Tensor) -> torch.Tensor:
        """Queries as class `c` takes them: for precomputed distances, its own columns."""
        return Z[:, torch.from_numpy(self.rows[c])] if self.precomputed else Z

    def training_probe(self, c: int, data: torch.Tensor, rows: np.ndarray) -> Probe:
        """What class `c` says of training rows, its own ones left out with their copies.

        Parameters
        ----------
        c : int
            The class.
        data : tensor
            All prepared training points, or their table of distances.
        rows : int64 ndarray
            Rows to ask about.

        Returns
        -------
        Probe
            One entry for each of `rows`.
        """
        part = self.parts[c]
        probe = part.probe(self.queries(c, data[torch.from_numpy(rows)]))
        mine, where, _ = np.intersect1d(rows, self.rows[c], return_indices=True)
        own = part.left_out()
        at = torch.from_numpy(np.searchsorted(self.rows[c], mine)).to(data.device)
        group, target = part.similarity.group[at], torch.from_numpy(where).to(data.device)
        for name, values in vars(probe).items():
            values[target] = getattr(own, name)[group]
        return probe


def class_similarities(
    data: torch.Tensor, rows: list[np.ndarray], metric: Metric
) -> list[Similarity]:
    """Operator of each class of prepared `data`, at t = 1."""
    out = []
    for own in rows:
        index = torch.from_numpy(own)
        out.append(Similarity.of(data[index][:, index] if metric.precomputed else data[index], metric))
    return out
