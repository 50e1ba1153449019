"""How well the label of each row agrees with the rows around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from sklearn.utils.multiclass import check_classification_targets

from skmag._answers import Answers
from skmag._arrays import ArrayKind, as_numpy, resolve_device
from skmag._class_answers import ClassAnswers, class_rows, class_similarities
from skmag._class_scores import refuse_indefinite
from skmag._criteria import scores
from skmag._input import MetricLike, check_2d, check_tol, validated_tensor
from skmag._metrics import resolve_metric
from skmag._scale import check_scale, resolve_scale
from skmag._similarity import Similarity

_CRITERIA = ("residual", "potential")


def label_quality_scores(
    X: Any,
    y: Any,
    *,
    t: float | str = "scale",
    criterion: str = "residual",
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    solver: str = "auto",
    tol: float = 1e-6,
    device: str | torch.device | None = None,
    n_jobs: int | None = None,
) -> Any:
    """Score how well each row's label agrees with the other rows; low is probably mislabelled.

    Each row is left out of its class and asked about beside all the others: a row with a wrong
    label is badly represented by the class that it is said to be of, and well by another.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
        The rows, or their distances if ``metric="precomputed"``. The activations or logits of a
        network will do as well as raw features.
    y : array-like of shape (n_samples,)
        Label of each row, of two classes or more.
    t : float or "scale", default="scale"
        Positive scale that multiplies the distances, one for all classes. "scale" is a number
        over the median distance between distinct rows: 0.1 for "residual", 10 for "potential".
    criterion : {"residual", "potential"}, default="residual"
        What is compared. "residual": ``r_other / (r_own + r_other)`` with the residual r under
        the row's own class, without the row, and the least residual under another class; below
        0.5 another class fits better. "potential": the potential under the row's own class over
        that under all rows, without the row, cut off at 0 and 1.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`.
    metric_params : mapping, default=None
        Further arguments of the metric.
    solver : {"auto", "line", "cholesky", "mixed", "indefinite", "cg", "sparse"}, default="auto"
        As for :class:`MagnitudeClassifier`.
    tol : float, default=1e-6
        Relative tolerance of the magnitude, for solvers that iterate; between 0 and 1.
    device : {"auto", "cpu", "cuda", "mps"}, torch.device or None, default=None
        Where to compute; None follows `X`.
    n_jobs : int, default=None
        Number of classes that are solved and asked in parallel threads.

    Returns
    -------
    array of shape (n_samples,)
        Scores in [0, 1]; low is probably mislabelled.

    Raises
    ------
    ValueError
        If an argument is not usable, or the residual has no meaning for an indefinite similarity;
        the message names it.
    MemoryError
        If a factor does not fit.
    numpy.linalg.LinAlgError
        If a similarity matrix has no inverse.

    See Also
    --------
    magnitude_potential_ratio : The ratio under every class, also for new points.
    MagnitudeClassifier : Predicts labels by the same quantities.

    Notes
    -----
    A row leaves with its copies, which say nothing new of it, and so copies of a mislabelled row
    do not vouch for each other: ten equal rows that agree, in the midst of another class, score as
    one would. Where copies have different labels, these contradict each other
    more clearly than any neighbour could: the score is the share of the other copies there that
    agree with the row.

    The only row of a class has nothing that speaks for its label, and scores accordingly. A row
    so far from all others that its potential under all of them is not positive has the ratio of
    no evidence, ``1 / n_classes``.

    "residual" factors one matrix a class (8 n_c^2 bytes for n_c rows), "potential" also one for
    all rows (8 n^2 bytes). Beyond 5,000 rows in a class "auto" asks the points near each row
    instead, in memory that grows with n, see :class:`MagnitudeClassifier`.

    References
    ----------
    S. Torkamani, H. Gouk, R. Sarkar, "Generalization in neural networks through the lens of
    magnitude potential".

    C. Northcutt, L. Jiang, I. Chuang, "Confident learning: estimating uncertainty in dataset
    labels", Journal of Artificial Intelligence Research 70 (2021): the convention for scores.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmag import label_quality_scores
    >>> X, y = load_iris(return_X_y=True)
    >>> y[[3, 60, 140]] = [1, 0, 0]
    >>> sorted(label_quality_scores(X, y).argsort()[:3].tolist())
    [3, 60, 140]
    """
    if criterion not in _CRITERIA:
        raise ValueError(f"criterion={criterion!r} is unknown; use one of {list(_CRITERIA)}")
    array = check_2d(X, "X")
    classes, codes = _checked_labels(y, array.shape[0])
    kind, place = ArrayKind.of(array), resolve_device(device, array)
    resolved = resolve_metric(metric, metric_params, array)
    data = validated_tensor(array, resolved, place)
    whole, rows = Similarity.of(data, resolved), class_rows(codes)
    scale = check_scale(t)
    median = whole.median_distance() if scale is None else 1.0
    scale = resolve_scale(scale, criterion, median)
    parts = class_similarities(data, rows, resolved)
    asked: dict[str, Any] = {"tol": check_tol(tol), "residuals_only": criterion == "residual"}
    answers = ClassAnswers.of(parts, rows, [scale] * len(rows), solver, place, n_jobs, **asked)
    refuse_indefinite(answers, criterion, classes)
    if criterion == "residual":
        points = resolved.points(data, "X")
        score = _residual_shares(answers, points, codes, n_jobs)
    else:
        score = _potential_ratios(answers, Answers.of(whole.at(scale), solver, place, **asked))
    return kind.wrap(_judged_by_copies(score, as_numpy(whole.group), codes))


def _checked_labels(y: Any, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes of one label a row, and the code of each row's class."""
    labels = as_numpy(y)
    if labels.shape != (n_rows,):
        raise ValueError(f"y has shape {labels.shape}, expected ({n_rows},): one label a row")
    if any(label is None or label != label for label in labels.tolist()):
        raise ValueError("y holds missing values (NaN or None), which are no labels")
    check_classification_targets(labels)
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"y has one class only, {classes[0]!r}; labels are judged beside those of other classes"
        )
    return classes, codes


def _residual_shares(
    answers: ClassAnswers, points: torch.Tensor, codes: np.ndarray, n_jobs: int | None
) -> np.ndarray:
    """r_other / (r_own + r_other) of each row, left out of its class."""
    every = np.arange(len(codes))

    def ask(c: int, part: Any) -> np.ndarray:
        return as_numpy(scores("residual", part, answers.training_probe(c, points, every)))

    score = np.stack(answers.map(ask, n_jobs=n_jobs), 1)
    own = score[every, codes]
    score[every, codes] = -np.inf
    # The scores are -log r.
    return expit(own - score.max(axis=1))


def _potential_ratios(answers: ClassAnswers, whole: Answers) -> np.ndarray:
    """Potential of each row under its class over that under all rows, without it, in [0, 1]."""
    every = as_numpy(whole.similarity.to_rows(whole.left_out().potential))
    own = np.empty(len(every))
    for rows, part in zip(answers.rows, answers.parts, strict=True):
        own[rows] = as_numpy(part.similarity.to_rows(part.left_out().potential))
    ratio = np.full(len(every), 1 / len(answers.parts))
    np.divide(own, every, out=ratio, where=every > 0)
    return ratio.clip(0.0, 1.0)


def _judged_by_copies(score: np.ndarray, group: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Scores, but where copies of a row have other labels the share of the others that agree."""
    votes = np.zeros((group.max() + 1, codes.max() + 1))
    np.add.at(votes, (group, codes), 1)
    total = votes.sum(axis=1)[group]
    agreeing = votes[group, codes]
    contradicted = agreeing < total
    return np.where(contradicted, (agreeing - 1) / np.maximum(total - 1, 1), score)
