"""Which points of a pool have labels, and which to label next, by weights of predicted classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils import (
    assert_all_finite,
    check_consistent_length,
    check_random_state,
    column_or_1d,
)
from sklearn.utils.multiclass import check_classification_targets

from skmag._answers import Answers
from skmag._arrays import ArrayKind, as_numpy, detached, resolve_device
from skmag._class_answers import class_rows, class_similarities, sample_median
from skmag._input import MetricLike, check_2d, check_tol, validated_tensor
from skmag._metrics import resolve_metric
from skmag._scale import check_scale, resolve_scale

STRATEGIES: dict[str, tuple[str, ...]] = {
    "mixture": ("uncertain", "max"),
    "min_max": ("min", "max"),
    "max": ("max",),
}
"""What each strategy chooses, in turn, for every predicted class."""

# Utilities closer than this share of the greatest are equal: so far rounding reaches, and a
# choice must not depend on the number of threads.
_TIE = 1e-10


@dataclass(frozen=True)
class Pool:
    """What is known of each row of a pool before any is chosen.

    Parameters
    ----------
    codes : int64 ndarray of shape (n_samples,)
        Predicted class.
    weights : ndarray of shape (n_samples,)
        Absolute weight of the row's point within its predicted class.
    points : int64 ndarray of shape (n_samples,)
        Number of that point, the same for copies.
    uncertainty : ndarray of shape (n_samples,) or None
        How little the classifier is sure of the row.
    candidates : bool ndarray of shape (n_samples,)
        Which rows may be chosen.
    labelled : bool ndarray of shape (n_samples,)
        Whose labels are known.
    """

    codes: np.ndarray
    weights: np.ndarray
    points: np.ndarray
    uncertainty: np.ndarray | None
    candidates: np.ndarray
    labelled: np.ndarray


def magnitude_query(
    X: Any,
    predicted: Any,
    *,
    candidates: Any = None,
    labelled: Any = None,
    uncertainty: Any = None,
    batch_size: int = 4,
    strategy: str = "mixture",
    t: float | str = "scale",
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    solver: str = "auto",
    tol: float = 1e-6,
    device: str | torch.device | None = None,
    random_state: int | np.random.RandomState | None = None,
    return_utilities: bool = False,
) -> Any:
    """Choose the points of a pool that are worth a label.

    Every predicted class has its weighting, over all points of the pool that are predicted to be
    in it, labelled or not. A great absolute weight tells of the border of the class, a small one
    of its inside.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
        The pool: labelled and unlabelled points, or their distances if
        ``metric="precomputed"``.
    predicted : array-like of shape (n_samples,)
        Class that the current classifier predicts for each row.
    candidates : array-like of int or bool, default=None
        Rows that may be chosen, as indices or as a mask of shape (n_samples,); None takes those
        that are not `labelled`.
    labelled : array-like of int or bool, default=None
        Rows whose labels are known, as indices or as a mask; None takes those that are no
        `candidates`.
    uncertainty : array-like of shape (n_samples,), default=None
        How little the classifier is sure of each row, the greatest first to be asked for;
        needed by "mixture".
    batch_size : int, default=4
        Number of rows to choose, at least 1; fewer are chosen where there are fewer candidates.
    strategy : {"mixture", "min_max", "max"}, default="mixture"
        What is chosen from each predicted class in turn. "mixture": the most uncertain row of
        all, then the greatest absolute weight of the class. "min_max": the least absolute weight,
        then the greatest, the paper's rule. "max": the greatest.
    t : float or "scale", default="scale"
        Positive scale that multiplies the distances; "scale" is 1 over the median distance
        between points of the pool.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`.
    metric_params : mapping, default=None
        Further arguments of the metric.
    solver : str, default="auto"
        As for :func:`weighting`.
    tol : float, default=1e-6
        Relative tolerance of the magnitude, for solvers that iterate; between 0 and 1.
    device : str, torch.device or None, default=None
        As for :func:`weighting`.
    random_state : int, RandomState or None, default=None
        Chooses among candidates that tie.
    return_utilities : bool, default=False
        Whether to return the utilities, too.

    Returns
    -------
    indices : int array of shape (n_chosen,)
        Chosen rows in order of choice, in the caller's kind of array.
    utilities : array of shape (n_chosen, n_samples)
        Where asked for: by what each row was chosen. Row k holds the uncertainty, the absolute
        weight or minus the absolute weight, minus infinity for candidates that were not
        considered in step k, and NaN for rows that are no candidates or were chosen before.

    Raises
    ------
    ValueError
        If an argument is not usable or there is no candidate; the message names the argument.
    MemoryError
        If the factor of a class does not fit.
    numpy.linalg.LinAlgError
        If the similarity matrix of a class has no inverse.

    Notes
    -----
    Classes and what is chosen from them form one cycle, which is repeated until the batch is
    full. It starts at the step whose number is that of the labelled rows, so that small batches
    walk through the whole cycle from round to round. A predicted class without candidates is
    passed over.

    All copies of a point have the weight of that point. Copies of a labelled or a chosen point
    are chosen only when nothing else is left.

    References
    ----------
    E. Bunch, D. Dickinson, J. Kline, G. Fung, "Practical applications of metric space magnitude
    and weighting vectors", Algorithm 2 and section 3.2.

    Examples
    --------
    >>> from skmag import magnitude_query
    >>> X = [[0.0], [1.0], [2.5], [7.0], [8.0], [8.5]]
    >>> predicted = ["a", "a", "a", "b", "b", "b"]
    >>> magnitude_query(X, predicted, strategy="min_max", t=1.0)
    array([1, 2, 4, 3])
    """
    array = check_2d(X, "X")
    kind, place = ArrayKind.of(array), resolve_device(device, array)
    n = array.shape[0]
    labels = as_numpy(column_or_1d(detached(predicted)))
    check_consistent_length(array, labels)
    candidate, known = _candidates(candidates, labelled, n)
    unsure = _uncertainty(uncertainty, n, strategy)
    codes = np.unique(labels, return_inverse=True)[1]
    tol, scale = check_tol(tol), check_scale(t)
    resolved = resolve_metric(metric, metric_params, array)
    data = validated_tensor(array, resolved, place)
    median = sample_median(data, resolved) if scale is None else 1.0
    scale = resolve_scale(scale, "query", median)
    weights, points = np.empty(n), np.empty(n, dtype=np.int64)
    rows, seen = class_rows(codes), 0
    for own, similarity in zip(rows, class_similarities(data, rows, resolved), strict=True):
        solved = Answers.by(similarity.at(scale), solver, place, tol).weights
        weights[own] = as_numpy(similarity.to_rows(solved.abs()))
        points[own] = seen + as_numpy(similarity.group)
        seen += len(similarity)
    pool = Pool(codes, weights, points, unsure, candidate, known)
    chosen, utilities = choose(
        pool, strategy, _batch_size(batch_size), check_random_state(random_state)
    )
    if return_utilities:
        return kind.wrap(chosen), kind.wrap(utilities)
    return kind.wrap(chosen)


def choose(
    pool: Pool, strategy: str, batch_size: int, random_state: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Fill a batch step by step.

    Parameters
    ----------
    pool : Pool
        What is known of the rows.
    strategy : str
        A key of :data:`STRATEGIES`.
    batch_size : int
        Number of rows to choose, if there are so many candidates.
    random_state : RandomState
        Chooses among candidates that tie.

    Returns
    -------
    chosen : int64 ndarray of shape (n_chosen,)
        Rows in order of choice.
    utilities : ndarray of shape (n_chosen, n_samples)
        By what each was chosen.
    """
    cycle = [(role, c) for c in range(pool.codes.max() + 1) for role in STRATEGIES[strategy]]
    position = int(pool.labelled.sum())
    left = pool.candidates.copy()
    repeated = np.isin(pool.points, pool.points[pool.labelled])
    chosen = np.empty(min(batch_size, int(left.sum())), dtype=np.int64)
    utilities = np.full((len(chosen), len(left)), np.nan)
    for k in range(len(chosen)):
        fresh = left & ~repeated
        considered = fresh if fresh.any() else left
        role, c = cycle[position % len(cycle)]
        while not considered[pool.codes == c].any():
            position += 1
            role, c = cycle[position % len(cycle)]
        position += 1
        value, considered = _utility(pool, role, c, considered)
        utilities[k, left] = np.where(considered, value, -np.inf)[left]
        chosen[k] = _greatest(value, np.flatnonzero(considered), random_state)
        left[chosen[k]] = False
        repeated |= pool.points == pool.points[chosen[k]]
    return chosen, utilities


def _utility(
    pool: Pool, role: str, c: int, considered: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Utility of each row in a step of the cycle, and the rows that the step considers."""
    if role == "uncertain":
        assert pool.uncertainty is not None
        return pool.uncertainty, considered
    value = pool.weights if role == "max" else -pool.weights
    return value, considered & (pool.codes == c)


def _greatest(value: np.ndarray, rows: np.ndarray, random_state: np.random.RandomState) -> int:
    """One of `rows` with the greatest value."""
    own = value[rows]
    return int(random_state.choice(rows[own >= own.max() - _TIE * np.abs(own).max()]))


def margin_uncertainty(score: np.ndarray) -> np.ndarray:
    """Minus the margin between the two leading classes, the greatest where they are level.

    Parameters
    ----------
    score : ndarray of shape (n_samples,) or (n_samples, n_classes)
        Probabilities or decision function; of one dimension, the difference of two classes.

    Returns
    -------
    ndarray of shape (n_samples,)
        Uncertainty, at most zero; zero for all rows where there is one class.
    """
    if score.ndim == 1:
        return -np.abs(score)
    if score.shape[1] == 1:
        return np.zeros(len(score))
    second, first = np.partition(score, -2, axis=1)[:, -2:].T
    return second - first


def row_mask(rows: Any, n: int, name: str) -> np.ndarray:
    """Return rows that are given as indices or as a mask as a mask of shape (n,)."""
    given = as_numpy(column_or_1d(detached(rows)))
    if given.dtype.kind == "b":
        if len(given) != n:
            raise ValueError(f"{name} is a mask of {len(given)} rows, but X has {n}")
        return given
    if not len(given):
        return np.zeros(n, dtype=bool)
    if given.dtype.kind not in "iu":
        raise ValueError(f"{name} must hold indices or booleans, got {given.dtype}")
    if given.min() < -n or given.max() >= n:
        raise ValueError(f"{name} goes from {given.min()} to {given.max()}, but X has {n} rows")
    mask = np.zeros(n, dtype=bool)
    mask[given] = True
    return mask


def _candidates(candidates: Any, labelled: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the rows that may be chosen, and of those whose labels are known."""
    known = None if labelled is None else row_mask(labelled, n, "labelled")
    if candidates is None:
        candidate = np.ones(n, dtype=bool) if known is None else ~known
    else:
        candidate = row_mask(candidates, n, "candidates")
    if not candidate.any():
        raise ValueError(
            f"no candidate is left among the {n} rows of X: candidates={candidates!r}, and "
            f"{0 if known is None else int(known.sum())} rows are labelled"
        )
    return candidate, ~candidate if known is None else known


def _uncertainty(uncertainty: Any, n: int, strategy: str) -> np.ndarray | None:
    """Validated uncertainty of each row, None where the strategy asks for none."""
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy={strategy!r} is unknown; use one of {sorted(STRATEGIES)}")
    if "uncertain" not in STRATEGIES[strategy]:
        return None
    if uncertainty is None:
        free = sorted(name for name, roles in STRATEGIES.items() if "uncertain" not in roles)
        raise ValueError(f"strategy={strategy!r} needs uncertainty; {free} do without")
    out = np.asarray(as_numpy(column_or_1d(detached(uncertainty))), dtype=float)
    if len(out) != n or not np.isfinite(out).all():
        raise ValueError(
            f"uncertainty must hold a finite number for each of the {n} rows of X, got "
            f"{len(out)} numbers of which {int(np.isfinite(out).sum())} are finite"
        )
    return out


def _batch_size(batch_size: Any) -> int:
    if isinstance(batch_size, bool) or not isinstance(batch_size, Integral) or batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r} must be a positive integer")
    return int(batch_size)


def split_labels(y: Any, unlabelled: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the mask of labelled rows, and their validated labels.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels.
    unlabelled : object
        What marks the others: "auto", None or a value, see :class:`MagnitudeActiveLearner`.

    Returns
    -------
    labelled : bool ndarray of shape (n_samples,)
        Which rows have a label.
    labels : ndarray of shape (n_labelled,)
        The labels of these, as numbers or strings.
    """
    labelled, values = labelled_rows(y, unlabelled)
    if not labelled.any():
        raise ValueError(
            f"y has no labelled row among {len(values)} with unlabelled={unlabelled!r}; label at "
            "least one row of each class"
        )
    labels = values[labelled]
    if labels.dtype.kind == "O":
        if len({isinstance(label, str) for label in labels}) > 1:
            raise ValueError(f"y mixes strings with other labels: {list(set(labels))[:5]}")
        labels = np.array(labels.tolist())
    if labels.dtype.kind == "f":
        assert_all_finite(labels, input_name="y")
    check_classification_targets(labels)
    return labelled, labels


def labelled_rows(y: Any, unlabelled: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mask of the rows that have a label, and `y` as an array; see :func:`split_labels`."""
    if isinstance(y, (list, tuple)) and any(isinstance(label, str) for label in y):
        # numpy would turn a missing value beside strings into the string "nan".
        y = np.array(y, dtype=object)
    values = as_numpy(column_or_1d(detached(y), warn=True))
    missing = _missing(values)
    if bool(_missing(np.array([unlabelled], dtype=object))[0]):
        return ~missing, values
    if isinstance(unlabelled, str) and unlabelled == "auto":
        if missing.any() or values.dtype.kind not in "iufO":
            return ~missing, values
        minus = values == -1
        two_classes = set(values[~minus].tolist()) == {1}
        return np.ones(len(values), dtype=bool) if two_classes else ~minus, values
    if missing.any():
        raise ValueError(
            f"y has {int(missing.sum())} missing values, and unlabelled={unlabelled!r}; "
            "pass unlabelled=None if these mark the unlabelled rows"
        )
    return np.array([value != unlabelled for value in values.tolist()], dtype=bool), values


def _missing(values: np.ndarray) -> np.ndarray:
    """Which entries are None, NaN or pandas' NA."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind != "O":
        return np.zeros(len(values), dtype=bool)
    return np.array([_is_missing(value) for value in values], dtype=bool)


def _is_missing(value: Any) -> bool:
    # NA compares as NA, which is neither true nor false.
    return value is None or type(value).__name__ == "NAType" or bool(value != value)
