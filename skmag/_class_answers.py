"""One weighting for each class of a labelled set, asked together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.utils.parallel import Parallel, delayed

from skmag._answers import Answers
from skmag._arrays import converted, rows_per_block
from skmag._duplicates import equal_row_groups
from skmag._metrics import Metric
from skmag._scale import MEDIAN_SAMPLE
from skmag._similarity import Similarity
from skmag._solvers import Probe

# From this many features on, distances are dear beside the solves that they serve: with 784 a
# search over scales gains a fifth, with 200 it loses a tenth.
_DEAR_FEATURES = 500


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
            delayed(_solved)(c, similarity.at(t), solver, device)
            for c, (similarity, t) in enumerate(zip(similarities, ts, strict=True))
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
        where, points = self.own_points(c, rows)
        own = part.left_out(points)
        for name, values in vars(probe).items():
            values[where] = getattr(own, name)
        return probe

    def own_points(self, c: int, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Which of some training rows are of class `c`, and their distinct points there."""
        mine, where, _ = np.intersect1d(rows, self.rows[c], return_indices=True)
        group = self.parts[c].similarity.group
        at = torch.from_numpy(np.searchsorted(self.rows[c], mine)).to(group.device)
        return torch.from_numpy(where).to(group.device), group[at]

    def __sklearn_array_api_convert__(self, converter: Callable[[Any], Any]) -> ClassAnswers:
        parts = [converted(part, converter)[0] for part in self.parts]
        return ClassAnswers(self.rows, parts, self.precomputed)


def _solved(c: int, similarity: Similarity, solver: str, device: torch.device) -> Answers:
    try:
        return Answers.of(similarity, solver, device)
    except np.linalg.LinAlgError as error:
        raise np.linalg.LinAlgError(
            f"in class number {c}, whose rows are counted by themselves: {error}"
        ) from error


def class_rows(codes: np.ndarray) -> list[np.ndarray]:
    """Training rows of each class."""
    return [np.flatnonzero(codes == c) for c in range(int(codes.max()) + 1)]


def sample_median(data: torch.Tensor, metric: Metric) -> float:
    """Median distance between the distinct points of unprepared `data`, at most 1,000 of them."""
    if not metric.precomputed:
        data = data[equal_row_groups(data)[1].to(data.device)]
        if len(data) > MEDIAN_SAMPLE:
            chosen = np.random.default_rng(0).choice(len(data), MEDIAN_SAMPLE, replace=False)
            data = data[torch.from_numpy(np.sort(chosen))]
    return Similarity.of(data, metric).median_distance()


def class_similarities(
    data: torch.Tensor, rows: list[np.ndarray], metric: Metric
) -> list[Similarity]:
    """Operator of each class of unprepared `data`, at t = 1."""
    out = []
    for own in rows:
        index = torch.from_numpy(own)
        out.append(
            Similarity.of(data[index][:, index] if metric.precomputed else data[index], metric)
        )
    return out


def shared_distances(data: torch.Tensor, metric: Metric) -> tuple[torch.Tensor, Metric] | None:
    """Distances between all rows of unprepared `data`, for use at many scales.

    Parameters
    ----------
    data : tensor of shape (n_samples, n_features)
        Points.
    metric : Metric
        Their distance.

    Returns
    -------
    table : tensor of shape (n_samples, n_samples)
        Distances between rows.
    metric : Metric
        The same metric for precomputed distances. None instead of both where `data` holds
        distances already, where three such tables do not fit the working memory, or where
        distances cost less than looking them up does.
    """
    n = len(data)
    dear = metric.on_host or data.shape[1] >= _DEAR_FEATURES
    if metric.precomputed or not dear or rows_per_block(3 * 8 * n, n) < n:
        return None
    whole = Similarity.of(data, metric).with_table()
    assert whole.table is not None
    table = whole.table[whole.group][:, whole.group]
    return table, replace(metric, compute=None, prepare=None, separates=False)
