"""Scores of queries, and of training points left out, under every class of a labelled set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from skmag._arrays import as_numpy
from skmag._class_answers import ClassAnswers
from skmag._criteria import left_out_scores, scores, settle_ties
from skmag._solvers import Probe

# One parameter needs no more left-out scores than these.
_CALIBRATION_ROWS = 1000

# One class's scores, and what settles ties.
Columns = tuple[np.ndarray, ...]


def refuse_indefinite(answers: ClassAnswers, criterion: str, classes: np.ndarray) -> None:
    """Raise ValueError if a criterion has no meaning for a class's similarity."""
    for label, part in zip(classes.tolist(), answers.parts, strict=True):
        if criterion != "potential" and not part.factor.definite:
            raise ValueError(
                f"criterion={criterion!r} needs positive definite similarities, and those of class "
                f"{label!r} under metric={part.similarity.metric.name!r} at "
                f"t={part.similarity.t!r} are not: negative residuals do not rank. Use "
                "criterion='potential', a larger t, or a metric of negative type such as "
                "'euclidean' or 'cityblock'"
            )


def query_scores(
    answers: ClassAnswers, data: torch.Tensor, criterion: str, n_jobs: int | None
) -> np.ndarray:
    """Settled scores of prepared queries under each class, of shape (n_queries, n_classes)."""

    def ask(c: int, part: Any) -> Columns:
        probe = part.probe(answers.queries(c, data))
        return _columns(scores(criterion, part, probe), part, probe)

    return settled(answers.map(ask, n_jobs=n_jobs))


def training_scores(
    answers: ClassAnswers,
    data: torch.Tensor,
    rows: np.ndarray,
    criteria: list[str],
    n_jobs: int | None,
) -> dict[str, np.ndarray]:
    """Settled scores of training rows under each criterion, each left out of its own class.

    Parameters
    ----------
    answers : ClassAnswers
        The solved classes.
    data : tensor
        Prepared training points, or their distances.
    rows : int64 ndarray
        Rows to ask about.
    criteria : list of str
        What decides.
    n_jobs : int or None
        Classes asked in parallel.

    Returns
    -------
    dict of ndarray of shape (len(rows), n_classes)
        Scores of each criterion.
    """

    def ask(c: int, part: Any) -> dict[str, Columns]:
        return training_columns(answers, c, data, rows, criteria)

    columns = answers.map(ask, n_jobs=n_jobs)
    return {criterion: settled([of[criterion] for of in columns]) for criterion in criteria}


def training_columns(
    answers: ClassAnswers, c: int, data: torch.Tensor, rows: np.ndarray, criteria: list[str]
) -> dict[str, Columns]:
    """What class `c` contributes to :func:`training_scores`, for :func:`settled`."""
    part, probe = answers.parts[c], answers.training_probe(c, data, rows)
    out = {}
    for criterion in criteria:
        score = scores(criterion, part, probe)
        if criterion == "percentile":
            where, points = answers.own_points(c, rows)
            score[where] = left_out_scores(criterion, part, points)
        out[criterion] = _columns(score, part, probe)
    return out


def _columns(score: torch.Tensor, part: Any, probe: Probe) -> Columns:
    """One class's column of scores and of what settles ties."""
    parts = (score, probe.potential, part.copies(probe), probe.nearest_distance)
    return tuple(as_numpy(values) for values in parts)


def settled(columns: Sequence[Columns]) -> np.ndarray:
    """Scores under each class from the columns of all, ties settled."""
    score, potential, copies, distance = (np.stack(part, 1) for part in zip(*columns, strict=True))
    return settle_ties(score, potential, copies, distance)


def calibration_rows(rows: list[np.ndarray]) -> np.ndarray:
    """An evenly spaced share of each class's rows, in order."""
    total = sum(map(len, rows))
    step = max(1, -(-total // _CALIBRATION_ROWS))
    return np.sort(np.concatenate([own[::step] for own in rows]))
