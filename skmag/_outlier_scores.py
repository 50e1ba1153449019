"""How anomalous points are, by what a weighting of the others says of them.

Scores are low for anomalies. Each scorer is made together with the scores of the training rows,
which are those that the rows would have had if they had not been there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from sklearn.utils.parallel import Parallel, delayed

from skmag._answers import Answers
from skmag._arrays import Portable, as_numpy, converted
from skmag._metrics import Metric
from skmag._progress import Steps
from skmag._similarity import Similarity
from skmag._solvers import Probe

CRITERIA = ("residual", "paper", "gain", "potential")

_ROUNDING = 1e-10


class Scorer(Protocol):
    """Scores queries; low scores are anomalous."""

    @property
    def device(self) -> torch.device:
        """Where queries are taken."""

    def score(self, Z: torch.Tensor) -> torch.Tensor:
        """Score of each prepared query."""

    def __sklearn_array_api_convert__(self, converter: Callable[[Any], Any]) -> Scorer:
        """Return the same scorer where scikit-learn's `converter` moves arrays."""


@dataclass
class Part(Portable):
    """The weighting of some rows of a set, which takes queries as the whole set does.

    Parameters
    ----------
    rows : int64 tensor of shape (n_rows,)
        Rows of the whole set.
    answers : Answers
        Their weighting.
    """

    rows: torch.Tensor
    answers: Answers

    @property
    def device(self) -> torch.device:
        """Where queries are taken."""
        return self.answers.similarity.device

    def probe(self, Z: torch.Tensor) -> Probe:
        """Answer prepared queries; of distances to the whole set, those to the rows are taken."""
        precomputed = self.answers.similarity.metric.precomputed
        return self.answers.probe(Z[:, self.rows] if precomputed else Z)


@dataclass
class Subsample(Part):
    """A small random part, and how often its points occur in the whole set.

    Parameters
    ----------
    copies : tensor of shape (n_points,)
        Number of rows of the whole set that lie on each distinct point of the part.
    """

    copies: torch.Tensor

    @classmethod
    def of(
        cls,
        data: torch.Tensor,
        queries: torch.Tensor,
        rows: np.ndarray,
        metric: Metric,
        t: float,
        solver: str,
        **asked: Any,
    ) -> tuple[Subsample, torch.Tensor]:
        """Weigh some rows of unprepared `data`; also return the residual of all as `queries`."""
        index = torch.from_numpy(rows).to(data.device)
        own = data[index][:, index] if metric.precomputed else data[index]
        similarity = Similarity.of(own, metric, t)
        answers = Answers.of(similarity, solver, data.device, residuals_only=True, **asked)
        refuse_indefinite(answers, "residual")
        part = cls(index, answers, answers.similarity.counts)
        probe = part.probe(queries)
        on = probe.nearest[probe.on_point]
        part.copies = torch.bincount(on, minlength=len(part.copies)).to(torch.float64)
        return part, part.left_out(probe)

    def joined(
        self, Z: torch.Tensor, leaving: np.ndarray, joining: np.ndarray, first: int
    ) -> tuple[Subsample, torch.Tensor]:
        """Exchange some rows for others; also return the residuals of all new rows.

        Parameters
        ----------
        Z : tensor of shape (n_new, n_features)
            Prepared new rows of the whole set.
        leaving : int64 ndarray
            Which rows of the part leave.
        joining : int64 ndarray
            Which rows of `Z` join.
        first : int
            Number of the first new row in the whole set.
        """
        new = torch.from_numpy(joining).to(self.device)
        answers = self.answers.extended(Z[new]) if len(joining) else self.answers
        copies = torch.zeros_like(answers.similarity.counts)
        copies[: len(self.copies)] = self.copies
        rows = torch.cat([self.rows, first + new])
        if len(leaving):
            stays = torch.ones(len(rows), dtype=torch.bool, device=self.device)
            stays[torch.from_numpy(leaving).to(self.device)] = False
            copies = copies[answers.similarity.group[stays].unique()]
            answers, rows = answers.dropped(leaving), rows[stays]
        part = Subsample(rows, answers, copies)
        probe = part.probe(Z)
        part.copies += torch.bincount(probe.nearest[probe.on_point], minlength=len(copies))
        return part, part.left_out(probe)

    def residual(self, Z: torch.Tensor) -> torch.Tensor:
        """Residual of each prepared query, one on a training row being left out."""
        return self.left_out(self.probe(Z))

    def left_out(self, probe: Probe) -> torch.Tensor:
        """Residuals of a probe, where a query on a training row is taken for that row.

        Of the c copies of a point in the training set m are here. With probability m / c the query
        is one of these m, and leaving it out makes room only if m is 1; otherwise a copy stays,
        and there is none. So copies speak for a point, but no point speaks for itself.
        """
        room = self.answers.left_out().residual / self.copies
        alone = self.answers.similarity.counts == 1
        on_point = torch.where(alone, room, 0.0)[probe.nearest]
        return torch.where(probe.on_point, on_point, probe.residual)


@dataclass
class BaggedResidual:
    """Mean residual over random subsamples so small that anomalies rarely hide one another.

    Parameters
    ----------
    parts : list of Subsample
        The subsamples.
    n_jobs : int or None
        Number of subsamples that are asked in parallel threads.
    """

    parts: list[Subsample]
    n_jobs: int | None

    @classmethod
    def of(
        cls,
        data: torch.Tensor,
        metric: Metric,
        t: float,
        samples: list[np.ndarray],
        solver: str = "auto",
        n_jobs: int | None = None,
        steps: Steps = iter,
        **asked: Any,
    ) -> tuple[BaggedResidual, torch.Tensor]:
        """Weigh subsamples of unprepared `data` given by their rows; also score every row."""
        parts, total, queries = [], data.new_zeros(len(data)), metric.points(data, "X")
        run = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")
        # A step ends when the next is handed out: workers are not interrupted.
        for part, residual in run(
            delayed(Subsample.of)(data, queries, rows, metric, t, solver, **asked)
            for rows in steps(samples)
        ):
            parts.append(part)
            total += residual
        return cls(parts, n_jobs), -total / len(parts)

    def joined(
        self, Z: torch.Tensor, first: int, rng: np.random.Generator, most: int
    ) -> tuple[BaggedResidual, torch.Tensor]:
        """Let new rows join, so that every row so far is as likely to be in each subsample.

        Parameters
        ----------
        Z : tensor of shape (n_new, n_features)
            Prepared new rows.
        first : int
            Number of rows so far.
        rng : numpy Generator
            Draws who leaves and who joins.
        most : int
            Rows that a subsample is to have, if there are so many.

        Returns
        -------
        scorer : BaggedResidual
            The new subsamples.
        scores : tensor of shape (n_new,)
            Scores of the new rows, left out.
        """
        exchanged = [_exchange(len(part.rows), first, len(Z), most, rng) for part in self.parts]
        run = Parallel(n_jobs=self.n_jobs, prefer="threads", return_as="generator")
        parts, total = [], Z.new_zeros(len(Z))
        for part, residual in run(
            delayed(part.joined)(Z, *rows, first)
            for part, rows in zip(self.parts, exchanged, strict=True)
        ):
            parts.append(part)
            total += residual
        return BaggedResidual(parts, self.n_jobs), -total / len(parts)

    @property
    def device(self) -> torch.device:
        """Where queries are taken."""
        return self.parts[0].device

    def score(self, Z: torch.Tensor) -> torch.Tensor:
        """Minus the mean residual of each prepared query."""
        total = Z.new_zeros(len(Z))
        run = Parallel(n_jobs=self.n_jobs, prefer="threads", return_as="generator")
        for residual in run(delayed(part.residual)(Z) for part in self.parts):
            total += residual
        return -total / len(self.parts)

    def __sklearn_array_api_convert__(self, converter: Callable[[Any], Any]) -> BaggedResidual:
        return BaggedResidual([converted(part, converter)[0] for part in self.parts], self.n_jobs)


def _exchange(
    size: int, n_old: int, n_new: int, most: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a random subsample that leave, and new rows that join, when `n_new` rows come.

    A subsample of all rows has a hypergeometric number of new ones; who they are, and which old
    ones stay, is drawn evenly.
    """
    wanted = min(most, n_old + n_new)
    joining = rng.hypergeometric(n_new, n_old, wanted)
    leaving = rng.choice(size, size - (wanted - joining), replace=False)
    return np.sort(leaving), np.sort(rng.choice(n_new, joining, replace=False))


@dataclass
class WholeSet(Portable):
    """The residual, gain or potential of queries beside the whole training set.

    Parameters
    ----------
    answers : Answers
        Weighting of the training set.
    criterion : {"residual", "gain", "potential"}
        What is asked.
    novelty : bool
        Whether a query on a training row is a new point; else it is that row, left out.
    """

    answers: Answers
    criterion: str
    novelty: bool

    @classmethod
    def of(cls, answers: Answers, criterion: str, novelty: bool) -> tuple[WholeSet, torch.Tensor]:
        """Make the scorer; also score every training row, left out with its copies."""
        refuse_indefinite(answers, criterion)
        scorer = cls(answers, criterion, novelty)
        own = scorer._value(answers.left_out())
        return scorer, answers.similarity.to_rows(own)

    @property
    def device(self) -> torch.device:
        """Where queries are taken."""
        return self.answers.similarity.device

    def joined(self, Z: torch.Tensor) -> tuple[WholeSet, torch.Tensor]:
        """Let prepared points join; also score every row so far, as :meth:`of` does."""
        return self.of(self.answers.extended(Z), self.criterion, self.novelty)

    def score(self, Z: torch.Tensor) -> torch.Tensor:
        """Minus the residual, minus the gain, or the potential of each prepared query."""
        probe = self.answers.probe(Z)
        score = self._value(probe)
        if not self.novelty and bool(probe.on_point.any()):
            points, where = probe.nearest[probe.on_point].unique(return_inverse=True)
            score[probe.on_point] = self._value(self.answers.left_out(points))[where]
        return score

    def _value(self, probe: Probe) -> torch.Tensor:
        if self.criterion == "potential":
            return probe.potential.clone()
        return -(probe.residual if self.criterion == "residual" else self.answers.gains(probe))

    def __sklearn_array_api_convert__(self, converter: Callable[[Any], Any]) -> WholeSet:
        return converted(self, converter)[0]


@dataclass
class InlierGain(Part):
    """The gain over the inliers, as weighting-vector-applications, Algorithm 3, has it.

    Inliers are the points of small absolute weight; whatever else is there, and every query, is
    judged by how much it would enlarge their magnitude.
    """

    @classmethod
    def of(cls, answers: Answers, solver: str, **asked: Any) -> tuple[InlierGain, torch.Tensor]:
        """Make the scorer; also return which distinct points are candidates."""
        refuse_indefinite(answers, "paper")
        candidates = outlier_candidates(answers.weights)
        similarity = answers.similarity
        is_candidate = candidates[similarity.group]
        rows = torch.nonzero(~is_candidate)[:, 0]
        left = torch.nonzero(is_candidate)[:, 0]
        if not len(left):
            return cls(rows, answers), candidates
        if not len(rows):
            raise ValueError(
                f"criterion='paper' finds no inliers at t={similarity.t!r}: every weight is, in "
                "absolute value, above the median plus 1.5 standard deviations, because most "
                "weights are negative; use a larger t or another criterion"
            )
        inliers, _ = similarity.dropped(as_numpy(left))
        return cls(rows, Answers.of(inliers, solver, similarity.device, **asked)), candidates

    def score(self, Z: torch.Tensor) -> torch.Tensor:
        """Minus the gain of each prepared query."""
        return -self.answers.gains(self.probe(Z))

    def __sklearn_array_api_convert__(self, converter: Callable[[Any], Any]) -> InlierGain:
        return converted(self, converter)[0]


def outlier_candidates(weights: torch.Tensor) -> torch.Tensor:
    """Which weights are, in absolute value, above their median plus 1.5 standard deviations.

    Source: weighting-vector-applications, section 3.3 and Algorithm 3. Equal weights, as those of
    a single point, are none.
    """
    middle = float(np.median(as_numpy(weights)))
    limit = middle + 1.5 * float(weights.std(correction=0))
    return weights.abs() > limit + _ROUNDING * abs(middle)


def lower_fence(scores: np.ndarray) -> float:
    """Score below which a point stands out: the first quartile less 1.5 quartile distances."""
    low, high = np.quantile(scores, [0.25, 0.75])
    return float(low - 1.5 * (high - low)) - rounding_of_scores(scores)


def rounding_of_scores(scores: np.ndarray) -> float:
    """Difference between scores that counts as rounding, so that equal points score alike."""
    return _ROUNDING * float(np.abs(scores).max())


def refuse_indefinite(answers: Answers, criterion: str) -> None:
    """Raise ValueError where the criterion has no meaning for an indefinite similarity."""
    if answers.factor.definite or criterion == "potential":
        return
    similarity = answers.similarity
    raise ValueError(
        f"criterion={criterion!r} needs a positive definite similarity, which "
        f"metric={similarity.metric.name!r} at t={similarity.t!r} does not give for these points; "
        "use criterion='potential', a larger t or another metric"
    )
