"""One weighting for each class of a labelled set, asked together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from skmag._solvers import Probe, choose_answering

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
        *,
        tol: float = 1e-6,
        solver_params: Mapping[str, Any] | None = None,
        residuals_only: bool = False,
    ) -> ClassAnswers:
        """Solve the similarity of each class at its scale, classes in parallel.

        With `residuals_only`, other answers may be rough where no factor gives them.
        """
        scaled = [similarity.at(t) for similarity, t in zip(similarities, ts, strict=True)]
        if near_points_answer(scaled, solver, device, residuals_only=residuals_only):
            solver = "sparse"
        asked = {"tol": tol, "solver_params": solver_params, "residuals_only": residuals_only}
        parts = Parallel(n_jobs=n_jobs, prefer="threads")(
            delayed(solved_class)(c, similarity, solver, device, asked)
            for c, similarity in enumerate(scaled)
        )
        return cls(rows, parts, similarities[0].metric.precomputed)

    def extended(
        self,
        Z: torch.Tensor,
        rows: list[np.ndarray],
        fresh: Callable[[int, torch.Tensor], Similarity],
        solver: str,
        **asked: Any,
    ) -> ClassAnswers:
        """Answers after more points joined; classes without points so far may be among theirs.

        Parameters
        ----------
        Z : tensor of shape (n_new, n_features)
            Prepared points.
        rows : list of int64 ndarrays
            Rows of `Z` that belong to each class, the known classes first.
        fresh : callable
            ``fresh(c, points)`` is the operator of the prepared points of a class c that is new.
        solver : str
            As for :meth:`of`; where "auto" turns to near points because a class has become too
            large for a factor, it does so for all.
        **asked : dict
            As for :meth:`of`.

        Returns
        -------
        ClassAnswers
            The new points are counted after all known ones.
        """
        joining = [Z[torch.from_numpy(own).to(Z.device)] for own in rows]
        grown = [
            part.similarity.extended(points) if len(points) else part.similarity
            for part, points in zip(self.parts, joining, strict=False)
        ]
        n_known, device = len(self.parts), self.parts[0].similarity.device
        grown += [fresh(c, joining[c]) for c in range(n_known, len(rows))]
        only = asked.get("residuals_only", False)
        near = near_points_answer(grown, solver, device, residuals_only=only)
        near = near or any(part.factor.name == "sparse" for part in self.parts)
        n, parts, every = sum(map(len, self.rows)), [], []
        for c, own in enumerate(rows):
            known = self.parts[c] if c < n_known else None
            if known is None or (near and known.factor.name != "sparse"):
                parts.append(solved_class(c, grown[c], "sparse" if near else solver, device, asked))
            else:
                parts.append(known.extended(joining[c]) if len(own) else known)
            every.append(n + own if known is None else np.concatenate([self.rows[c], n + own]))
        return ClassAnswers(every, parts, self.precomputed)

    def reordered(self, order: Sequence[int]) -> ClassAnswers:
        """The same classes in another order."""
        rows, parts = [self.rows[c] for c in order], [self.parts[c] for c in order]
        return ClassAnswers(rows, parts, self.precomputed)

    def points(self) -> torch.Tensor:
        """The prepared training points, in the order of the rows."""
        first = self.parts[0].similarity.points
        assert first is not None
        out = first.new_empty(sum(map(len, self.rows)), first.shape[1])
        for rows, part in zip(self.rows, self.parts, strict=True):
            points = part.similarity.points
            assert points is not None
            out[torch.from_numpy(rows).to(out.device)] = part.similarity.to_rows(points)
        return out

    def codes(self) -> np.ndarray:
        """Class of each training row."""
        out = np.empty(sum(map(len, self.rows)), dtype=np.int64)
        for c, rows in enumerate(self.rows):
            out[rows] = c
        return out

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


def near_points_answer(
    similarities: Sequence[Similarity],
    solver: str,
    device: torch.device,
    *,
    residuals_only: bool = False,
) -> bool:
    """Whether near points are to answer for every class, because one is too large for a factor.

    Near points leave more room than all points do: classes are compared on equal terms only if
    the same solver answers for all of them.
    """
    if solver != "auto":
        return solver == "sparse"
    return any(
        choose_answering(similarity, device, residuals_only=residuals_only)[0] == "sparse"
        for similarity in similarities
    )


def solved_class(
    c: int, similarity: Similarity, solver: str, device: torch.device, asked: dict[str, Any]
) -> Answers:
    """Answers of class `c` by a solver, which is asked for what :meth:`ClassAnswers.of` names."""
    try:
        return Answers.of(similarity, solver, device, **asked)
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
