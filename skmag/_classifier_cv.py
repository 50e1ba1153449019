"""The classifier that chooses its scale by leave-one-out without refitting."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.parallel import Parallel, delayed

from skmag._arrays import as_numpy
from skmag._base_classifier import BaseMagnitudeClassifier
from skmag._class_answers import (
    ClassAnswers,
    class_rows,
    class_similarities,
    near_points_answer,
    sample_median,
    shared_distances,
    solved_class,
)
from skmag._class_scores import Columns, settled, training_columns
from skmag._compat import StrOptions, fit_context
from skmag._criteria import CRITERIA, fit_slope, probabilities
from skmag._scale import check_scales, per_distance, resolve_scale
from skmag._similarity import Similarity

# Default scales, in units of one over the median distance.
_DEFAULT_GRID = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


class MagnitudeClassifierCV(BaseMagnitudeClassifier):
    """Magnitude classifier with built-in choice of the scale, and of the criterion if asked.

    What :class:`sklearn.linear_model.RidgeCV` is to Ridge: every candidate is judged by
    leave-one-out predictions in closed form, from one factorization for each scale and class.

    Parameters
    ----------
    ts : array-like of shape (n_scales,), default=None
        Scales to try, each positive or "scale". None tries 0.03 to 30 over the median distance
        between training points.
    criteria : tuple of str, default=("residual",)
        Criteria to try, see :class:`MagnitudeClassifier`.
    scoring : str or callable, default=None
        A scorer's name, or ``scorer(estimator, X, y)``, called with leave-one-out predictions;
        None takes the accuracy.
    store_cv_results : bool, default=False
        Whether to keep the leave-one-out scores in `cv_results_`.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`; "precomputed" takes distances.
    metric_params : dict, default=None
        Further arguments of the metric.
    null_label : int, float or str, default=None
        As for :class:`MagnitudeClassifier`.
    null_alpha : float, default=None
        As for :class:`MagnitudeClassifier`.
    null_threshold : float, default=None
        As for :class:`MagnitudeClassifier`.
    solver : {"auto", "line", "cholesky", "mixed", "indefinite", "cg", "sparse"}, default="auto"
        As for :class:`MagnitudeClassifier`.
    tol : float, default=1e-6
        As for :class:`MagnitudeClassifier`.
    solver_params : dict, default=None
        As for :class:`MagnitudeClassifier`.
    device : {"auto", "cpu", "cuda", "mps"}, torch.device or None, default=None
        Where to compute; None follows `X`.
    n_jobs : int, default=None
        Number of scales and classes that are worked on in parallel; threads do it unless
        :func:`joblib.parallel_config` names another backend.

    Attributes
    ----------
    best_t_ : float
        The scale that won; of several, the first.
    best_criterion_ : str
        The criterion that won.
    best_score_ : float
        Its leave-one-out score.
    ts_ : ndarray of shape (n_scales, n_criteria)
        Scales that were tried.
    scores_ : ndarray of shape (n_scales, n_criteria)
        Leave-one-out score of each candidate.
    cv_results_ : ndarray of shape (n_samples, n_classes, n_scales, n_criteria)
        Leave-one-out scores of each row under each class, if `store_cv_results`.
    classes_ : array of shape (n_classes,)
        Class labels.
    t_ : array of shape (n_classes,)
        Scale of each class, `best_t_` for all.
    magnitudes_ : array of shape (n_classes,)
        Magnitude of each class.
    weights_ : array of shape (n_samples,)
        Weight of each training row in its class.
    solver_ : list of str
        Name of the solver that answers for each class.
    residual_error_ : float
        As for :class:`MagnitudeClassifier`.
    slope_ : float
        Slope of the probabilities.
    weightings_ : list of Weighting
        Weighting of each class, in the order of `classes_`.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where X has names.

    See Also
    --------
    MagnitudeClassifier : The classifier at one scale.

    Notes
    -----
    A point and its copies are left out together: a copy that stays would answer for the point.

    While scales are tried, one class at one scale is held in each of `n_jobs` threads, 8 n_c^2
    bytes for n_c points that a factor answers for; the winner is then fitted as
    :class:`MagnitudeClassifier` is, in the memory that it takes.

    References
    ----------
    E. Bunch, D. Dickinson, J. Kline, G. Fung, "Practical applications of metric space magnitude
    and weighting vectors", sections 2.2 and 3.1.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.preprocessing import scale
    >>> from skmag import MagnitudeClassifierCV
    >>> X, y = load_wine(return_X_y=True)
    >>> model = MagnitudeClassifierCV(criteria=("residual", "weight")).fit(scale(X), y)
    >>> model.best_criterion_, bool(model.best_score_ > 0.97)
    ('residual', True)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMagnitudeClassifier._parameter_constraints,
        "ts": ["array-like", None],
        "criteria": ["array-like"],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "store_cv_results": ["boolean"],
    }

    def __init__(
        self,
        ts: Any = None,
        *,
        criteria: Any = ("residual",),
        scoring: Any = None,
        store_cv_results: bool = False,
        metric: Any = "euclidean",
        metric_params: dict[str, Any] | None = None,
        null_label: Any = None,
        null_alpha: float | None = None,
        null_threshold: float | None = None,
        solver: str = "auto",
        tol: float = 1e-6,
        solver_params: dict[str, Any] | None = None,
        device: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.ts = ts
        self.criteria = criteria
        self.scoring = scoring
        self.store_cv_results = store_cv_results
        self.metric = metric
        self.metric_params = metric_params
        self.null_label = null_label
        self.null_alpha = null_alpha
        self.null_threshold = null_threshold
        self.solver = solver
        self.tol = tol
        self.solver_params = solver_params
        self.device = device
        self.n_jobs = n_jobs

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, **params: Any) -> MagnitudeClassifierCV:
        """Choose among the candidates, and keep the weightings of the best.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
            Training points; their distances if ``metric="precomputed"``.
        y : array-like of shape (n_samples,)
            Class of each row.
        **params : dict
            Metadata for the scorer, such as ``sample_weight``, under scikit-learn's metadata
            routing.

        Returns
        -------
        MagnitudeClassifierCV
            The fitted classifier.

        Raises
        ------
        ValueError
            If an argument is not usable, or no candidate has a score.
        MemoryError
            If the factor of a class does not fit.
        numpy.linalg.LinAlgError
            If the similarity matrix of a class has no inverse.
        """
        criteria = self._checked_criteria()
        X, kind, data, codes = self._validate(X, y)
        if params and not get_config()["enable_metadata_routing"]:
            raise ValueError(
                f"{sorted(params)} can only be passed to fit with "
                "sklearn.set_config(enable_metadata_routing=True)"
            )
        routed = process_routing(self, "fit", **params).scorer.score if params else {}
        ts, points = self._grid(data, criteria), self._metric.points(data, "X")
        found = self._search(data, points, codes, ts, criteria, routed)
        i, j = found.best
        self.best_t_, self.best_criterion_ = float(ts[i, j]), criteria[j]
        self.best_score_ = float(found.scores[i, j])
        self.ts_, self.scores_ = kind.wrap(ts), kind.wrap(found.scores)
        if found.left_out is not None:
            self.cv_results_ = kind.wrap(found.left_out)
        self._finish(found.answers, points, codes, self.best_criterion_, kind)
        return self

    def _search(
        self,
        data: torch.Tensor,
        points: torch.Tensor,
        codes: np.ndarray,
        ts: np.ndarray,
        criteria: list[str],
        routed: dict[str, Any],
    ) -> _Found:
        """Judge every candidate by its leave-one-out predictions."""
        rows = class_rows(codes)
        similarities = class_similarities(data, rows, self._metric)
        near = near_points_answer(
            similarities, self.solver, self._device, residuals_only="residual" in criteria
        )
        shared = None if near else shared_distances(data, self._metric)
        judged, asked = similarities, points
        if shared is not None:
            asked, metric = shared
            judged = class_similarities(asked, rows, metric)
        candidates = _candidates(ts, criteria)
        columns = Parallel(n_jobs=self.n_jobs, prefer="threads", return_as="generator")(
            delayed(_left_out_class)(c, similarity.at(t), own, asked, group, *solving)
            for _, t, group in candidates
            for solving in [(self._solver_at(judged, t, group), self._device, self._solving(group))]
            for c, (similarity, own) in enumerate(zip(judged, rows, strict=True))
        )
        results = np.full(ts.shape, np.nan)
        kept = (
            np.full((len(codes), len(rows), *ts.shape), np.nan) if self.store_cv_results else None
        )
        best: tuple[int, int] | None = None
        judged_with: list[str] = []
        for i, _, group in candidates:
            of_classes = [next(columns) for _ in rows]
            for criterion in of_classes[0]:
                if not all(criterion in own for own in of_classes):
                    continue
                score = settled([own[criterion] for own in of_classes])
                at = (i, criteria.index(criterion))
                results[at] = value = self._judge(score, codes, routed)
                if kept is not None:
                    kept[:, :, *at] = score
                if not np.isnan(value) and (best is None or value > results[best]):
                    best, judged_with = at, group
        if best is None:
            raise ValueError(
                f"no candidate of ts={self.ts!r} and criteria={criteria!r} has a score: either the "
                f"scorer returned NaN, or similarities under metric={self.metric!r} are not "
                "positive definite, which only criterion 'potential' allows"
            )
        # The answers of the candidates were not kept: beside each other they would fill the memory,
        # and other processes would have to send them.
        answers = ClassAnswers.of(
            similarities,
            rows,
            [float(ts[best])] * len(rows),
            self.solver,
            self._device,
            self.n_jobs,
            **self._solving(judged_with),
        )
        return _Found(best, answers, results, kept)

    def get_metadata_routing(self) -> MetadataRouter:
        """Return how metadata travels: from ``fit`` to the scorer's ``score``.

        Returns
        -------
        MetadataRouter
            The routing.
        """
        mapping = MethodMapping().add(caller="fit", callee="score")
        return (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(scorer=get_scorer(self.scoring or "accuracy"), method_mapping=mapping)
        )

    def _solver_at(self, similarities: list[Similarity], t: float, criteria: list[str]) -> str:
        """The solver for a candidate, which has to be the same for all classes."""
        scaled = [similarity.at(t) for similarity in similarities]
        alone = set(criteria) == {"residual"}
        near = near_points_answer(scaled, self.solver, self._device, residuals_only=alone)
        return "sparse" if near else self.solver

    def _solving(self, criteria: list[str]) -> dict[str, Any]:
        """What solvers are told."""
        return {
            "tol": self.tol,
            "solver_params": self.solver_params,
            "residuals_only": set(criteria) == {"residual"},
        }

    def _checked_criteria(self) -> list[str]:
        criteria = list(self.criteria)
        if not criteria or not set(criteria) <= set(CRITERIA) or len(set(criteria)) < len(criteria):
            raise ValueError(
                f"criteria={self.criteria!r} must be different names among {list(CRITERIA)}"
            )
        return criteria

    def _grid(self, data: torch.Tensor, criteria: list[str]) -> np.ndarray:
        if self.ts is None:
            median = sample_median(data, self._metric)
            grid = np.array([per_distance(number, median) for number in _DEFAULT_GRID])
            return np.repeat(grid[:, None], len(criteria), axis=1)
        scales = check_scales(self.ts)
        median = sample_median(data, self._metric) if None in scales else 1.0
        return np.array([[resolve_scale(t, name, median) for name in criteria] for t in scales])

    def _judge(self, score: np.ndarray, codes: np.ndarray, routed: dict[str, Any]) -> float:
        """Score of leave-one-out predictions."""
        if self.scoring is None and not routed:
            return float((score.argmax(axis=1) == codes).mean())
        labels = as_numpy(self.classes_)
        return float(
            get_scorer(self.scoring or "accuracy")(
                _LeftOutPredictions(labels, fit_slope(score, codes)), score, labels[codes], **routed
            )
        )


class _Found(NamedTuple):
    """Place and solved classes of the best candidate, scores of all, left-out scores if kept."""

    best: tuple[int, int]
    answers: ClassAnswers
    scores: np.ndarray
    left_out: np.ndarray | None


class _LeftOutPredictions(ClassifierMixin, BaseEstimator):
    """Hands leave-one-out scores to a scorer as a fitted classifier's predictions."""

    def __init__(self, classes: np.ndarray, slope: float) -> None:
        self.classes = classes
        self.slope = slope
        self.classes_ = classes

    def fit(self, X: Any, y: Any) -> _LeftOutPredictions:
        return self

    def predict(self, X: np.ndarray) -> Any:
        return self.classes_[X.argmax(axis=1)]

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        return X[:, 1] - X[:, 0] if X.shape[1] == 2 else X

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return probabilities(X, self.slope)


def _left_out_class(
    c: int,
    similarity: Similarity,
    rows: np.ndarray,
    data: torch.Tensor,
    criteria: list[str],
    solver: str,
    device: torch.device,
    solving: dict[str, Any],
) -> dict[str, Columns]:
    """What class `c` at one scale says of all training rows, by the criteria that it allows."""
    part = solved_class(c, similarity, solver, device, solving)
    answers = ClassAnswers([rows], [part], similarity.metric.precomputed)
    usable = [name for name in criteria if part.factor.definite or name == "potential"]
    return training_columns(answers, 0, data, np.arange(len(data)), usable)


def _candidates(ts: np.ndarray, criteria: list[str]) -> list[tuple[int, float, list[str]]]:
    """Index of a row of the grid, one of its scales, and the criteria that try this scale."""
    out = []
    for i, row in enumerate(ts):
        for t in dict.fromkeys(row.tolist()):
            group = [name for name, own in zip(criteria, row, strict=True) if own == t]
            out.append((i, t, group))
    return out
