"""Classification by the weighting of each class: scikit-learn glue around the questions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from skmag._arrays import ArrayKind, as_numpy, detached, resolve_device
from skmag._class_answers import ClassAnswers, class_rows, class_similarities, sample_median
from skmag._class_scores import (
    calibration_rows,
    query_scores,
    refuse_indefinite,
    training_scores,
)
from skmag._compat import Interval, StrOptions, check_same_namespace, fit_context
from skmag._criteria import (
    CRITERIA,
    conformity,
    fit_slope,
    left_out_scores,
    log_probabilities,
    probabilities,
    values,
)
from skmag._input import query_tensor, validated_tensor
from skmag._metrics import resolve_metric
from skmag._scale import check_scale, resolve_scale
from skmag._solvers import SOLVERS
from skmag._weighting import Weighting


class BaseMagnitudeClassifier(ClassifierMixin, BaseEstimator):
    """What the classifiers share: validation, prediction, probabilities and the NULL class."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "metric": [str, callable],
        "metric_params": [dict, None],
        "null_label": [str, Real, None],
        "null_alpha": [Interval(Real, 0, 1, closed="neither"), None],
        "null_threshold": [Interval(Real, None, None, closed="neither"), None],
        "solver": [StrOptions({"auto", *SOLVERS})],
        "device": [str, torch.device, None],
        "n_jobs": [Integral, None],
    }

    def predict(self, X: Any) -> Any:
        """Predict the class of each query.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features) or (n_queries, n_samples)
            Queries; distances to all training rows if ``metric="precomputed"``.

        Returns
        -------
        array of shape (n_queries,)
            The class that wins, or `null_label` where no class is near enough.
        """
        score, kind = self._asked(X, "predict")
        labels = as_numpy(self.classes_)[score.argmax(axis=1)]
        null = self._is_null(score)
        if null is not None:
            labels = np.where(null, np.asarray(self.null_label), labels)
        return kind.wrap(labels) if labels.dtype.kind in "biuf" else labels

    def decision_function(self, X: Any) -> Any:
        """Score each query under each class; the greatest score decides.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features) or (n_queries, n_samples)
            Queries; distances to all training rows if ``metric="precomputed"``.

        Returns
        -------
        array of shape (n_queries,) or (n_queries, n_classes)
            Scores, for two classes the second minus the first: minus the logarithm of the
            residual, of the absolute joining weight or of the gain, minus the rank of the
            joining weight, or the potential. Ties are settled by one rounding unit.
        """
        score, kind = self._asked(X, "decision_function")
        return kind.wrap(score[:, 1] - score[:, 0] if score.shape[1] == 2 else score)

    def predict_log_proba(self, X: Any) -> Any:
        """Compute the logarithm of the class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features) or (n_queries, n_samples)
            Queries; distances to all training rows if ``metric="precomputed"``.

        Returns
        -------
        array of shape (n_queries, n_classes)
            Logarithms of :meth:`predict_proba`.
        """
        score, kind = self._asked(X, "predict_log_proba")
        return kind.wrap(log_probabilities(score, self.slope_))

    def predict_proba(self, X: Any) -> Any:
        """Compute class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features) or (n_queries, n_samples)
            Queries; distances to all training rows if ``metric="precomputed"``.

        Returns
        -------
        array of shape (n_queries, n_classes)
            Softmax of ``slope_`` times the scores, where the slope is the one under which
            training points, each left out of its class, are most likely.
        """
        score, kind = self._asked(X, "predict_proba")
        return kind.wrap(probabilities(score, self.slope_))

    @property
    def weightings_(self) -> list[Weighting]:
        """Weighting of each class, in the order of `classes_`."""
        kind = ArrayKind.of(self.magnitudes_)
        return [Weighting(part, kind) for part in self._class_answers.parts]

    def _validate(self, X: Any, y: Any) -> tuple[Any, ArrayKind, torch.Tensor, np.ndarray]:
        """Validated X, its kind, its tensor and the code of each row's class."""
        X, y = validate_data(self, detached(X), y)
        check_classification_targets(y)
        labels = as_numpy(column_or_1d(y))
        classes, codes = np.unique(labels, return_inverse=True)
        kind = ArrayKind.of(X)
        self.classes_ = kind.wrap(classes) if classes.dtype.kind in "biuf" else classes
        self._metric = resolve_metric(self.metric, self.metric_params, X)
        self._device = resolve_device(self.device, X)
        self._check_null(classes)
        return X, kind, validated_tensor(X, self._metric, self._device), codes

    def _check_null(self, classes: np.ndarray) -> None:
        asked = self.null_alpha is not None or self.null_threshold is not None
        if asked and self.null_label is None:
            raise ValueError(
                f"null_alpha={self.null_alpha!r} and null_threshold={self.null_threshold!r} need "
                "null_label, the label of queries that belong to no class"
            )
        if not asked:
            return
        if self.null_label in classes.tolist():
            raise ValueError(f"null_label={self.null_label!r} is a class of y; choose another")
        number = not isinstance(self.null_label, str)
        if classes.dtype.kind == "b" or number != (classes.dtype.kind in "iuf"):
            raise ValueError(
                f"null_label={self.null_label!r} must be of the kind of y, whose classes are "
                f"{classes.dtype}"
            )

    def _finish(
        self,
        answers: ClassAnswers,
        data: torch.Tensor,
        codes: np.ndarray,
        criterion: str,
        kind: ArrayKind,
    ) -> None:
        """Learn what prediction needs from solved classes."""
        self._class_answers = answers
        self._criterion = criterion
        self.t_ = kind.wrap(np.array([part.similarity.t for part in answers.parts]))
        self.magnitudes_ = kind.wrap(np.array([part.magnitude for part in answers.parts]))
        weights = np.empty(len(codes))
        for rows, part in zip(answers.rows, answers.parts, strict=True):
            share = part.weights / part.similarity.counts
            weights[rows] = as_numpy(part.similarity.to_rows(share))
        self.weights_ = kind.wrap(weights)
        self._left_out = self._conformal_scores() if self.null_alpha is not None else None
        rows = calibration_rows(answers.rows)
        score = training_scores(answers, data, rows, [criterion], self.n_jobs)[criterion]
        self.slope_ = fit_slope(score, codes[rows])

    def _conformal_scores(self) -> list[np.ndarray]:
        """Sorted left-out scores of each class; warn of classes too small to refuse anything."""
        left_out = self._class_answers.map(
            lambda c, part: left_out_scores(self._criterion, part), n_jobs=self.n_jobs
        )
        for label, own in zip(as_numpy(self.classes_).tolist(), left_out, strict=True):
            if 1 / (len(own) + 1) >= self.null_alpha:
                warnings.warn(
                    f"class {label!r} has {len(own)} distinct points, too few for "
                    f"null_alpha={self.null_alpha!r}: its p-values are at least "
                    f"{1 / (len(own) + 1):.3g}, so no query is ever refused. Use a greater "
                    "null_alpha or null_threshold.",
                    UserWarning,
                    stacklevel=4,
                )
        return [np.sort(as_numpy(own)) for own in left_out]

    def _asked(self, X: Any, method: str) -> tuple[np.ndarray, ArrayKind]:
        """Settled scores of queries, and the kind of array they came in."""
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="magnitudes_", method=method)
        X = validate_data(self, detached(X), reset=False)
        answers = self._class_answers
        device = answers.parts[0].similarity.device
        data = query_tensor(X, "X", self._metric, X.shape[1], device)
        score = query_scores(answers, data, self._criterion, self.n_jobs)
        return score, ArrayKind.of(X)

    def _is_null(self, score: np.ndarray) -> np.ndarray | None:
        """Which queries belong to no class, or None if that was not asked for."""
        refusals = []
        if self.null_threshold is not None:
            best = values(self._criterion, score.max(axis=1))
            sign = -1 if self._criterion == "potential" else 1
            refusals.append(sign * best > sign * self.null_threshold)
        if self.null_alpha is not None:
            assert self._left_out is not None
            p = [conformity(as_numpy(own), score[:, c]) for c, own in enumerate(self._left_out)]
            refusals.append(np.max(p, axis=0) < self.null_alpha)
        return np.any(refusals, axis=0) if refusals else None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # A table of distances is indexed on both axes, and holds nothing negative.
        tags.input_tags.pairwise = self.metric == "precomputed"
        tags.input_tags.positive_only = self.metric == "precomputed"
        tags.array_api_support = True
        return tags


class MagnitudeClassifier(BaseMagnitudeClassifier):
    """Classifier that asks the weighting of each class how much room is left at a query.

    Each class has its weighting. A query belongs to the class in which it is most interior: by
    default the one whose residual, the kriging variance under the similarity ``exp(-t d)``, is
    least.

    Parameters
    ----------
    t : float, "scale" or mapping, default="scale"
        Positive scale that multiplies the distances, for all classes or as a mapping from each
        class to its own. "scale" is a number over the median distance between training points:
        0.1 for "residual", 10 for the other criteria.
    criterion : {"residual", "weight", "percentile", "gain", "potential"}, default="residual"
        What decides. "residual": least residual. "weight": least absolute joining weight, the
        paper's rule. "percentile": least rank of the joining weight among the class's own, the
        paper's other rule. "gain": least growth of the magnitude. "potential": greatest
        potential.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`; "precomputed" takes distances.
    metric_params : dict, default=None
        Further arguments of the metric.
    null_label : int, float or str, default=None
        Label for queries that belong to no class. Takes part only with `null_alpha` or
        `null_threshold`.
    null_alpha : float, default=None
        A query is NULL if its conformal p-value under every class is below `null_alpha`: about
        this share of queries from known classes is refused.
    null_threshold : float, default=None
        A query is NULL if the least value of the criterion over the classes is above this (for
        "potential": the greatest value is below), the paper's rule.
    solver : {"auto", "line", "cholesky", "mixed", "indefinite"}, default="auto"
        As for :func:`weighting`.
    device : {"auto", "cpu", "cuda", "mps"}, torch.device or None, default=None
        Where to compute; None follows `X`.
    n_jobs : int, default=None
        Number of classes that are fitted and asked in parallel threads.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        Class labels.
    t_ : array of shape (n_classes,)
        Scale of each class.
    magnitudes_ : array of shape (n_classes,)
        Magnitude of each class at its scale.
    weights_ : array of shape (n_samples,)
        Weight of each training row in its class.
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
    MagnitudeClassifierCV : Chooses t by leave-one-out without refitting.

    Notes
    -----
    Fitting factors one similarity matrix a class (8 n_c^2 bytes for n_c points); a block of
    queries costs one triangular solve a class. Queries that tie are settled by the number of
    copies in the training data, then by the potential, then by the nearest point. Copies of a
    training point count once.

    The paper prints ARGMAX for the decision; its text and its results call for the least value.

    References
    ----------
    E. Bunch, D. Dickinson, J. Kline, G. Fung, "Practical applications of metric space magnitude
    and weighting vectors", Algorithm 1 and section 3.1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skmag import MagnitudeClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), MagnitudeClassifier())
    >>> bool(cross_val_score(model, X, y).mean() > 0.93)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMagnitudeClassifier._parameter_constraints,
        "t": [Interval(Real, 0, None, closed="neither"), StrOptions({"scale"}), Mapping],
        "criterion": [StrOptions(set(CRITERIA))],
    }

    def __init__(
        self,
        t: Any = "scale",
        *,
        criterion: str = "residual",
        metric: Any = "euclidean",
        metric_params: dict[str, Any] | None = None,
        null_label: Any = None,
        null_alpha: float | None = None,
        null_threshold: float | None = None,
        solver: str = "auto",
        device: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        self.t = t
        self.criterion = criterion
        self.metric = metric
        self.metric_params = metric_params
        self.null_label = null_label
        self.null_alpha = null_alpha
        self.null_threshold = null_threshold
        self.solver = solver
        self.device = device
        self.n_jobs = n_jobs

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any) -> MagnitudeClassifier:
        """Compute the weighting of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
            Training points; their distances if ``metric="precomputed"``.
        y : array-like of shape (n_samples,)
            Class of each row.

        Returns
        -------
        MagnitudeClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            If an argument is not usable, or the criterion has no meaning for an indefinite
            similarity.
        MemoryError
            If the factor of a class does not fit.
        numpy.linalg.LinAlgError
            If the similarity matrix of a class has no inverse.
        """
        X, kind, data, codes = self._validate(X, y)
        rows = class_rows(codes)
        ts = self._scales(data)
        similarities = class_similarities(data, rows, self._metric)
        answers = ClassAnswers.of(similarities, rows, ts, self.solver, self._device, self.n_jobs)
        refuse_indefinite(answers, self.criterion, as_numpy(self.classes_))
        self._finish(answers, self._metric.points(data, "X"), codes, self.criterion, kind)
        return self

    def _scales(self, data: torch.Tensor) -> list[float]:
        """Scale of each class, in the order of the classes."""
        classes = as_numpy(self.classes_).tolist()
        if isinstance(self.t, Mapping):
            unknown, missing = set(self.t) - set(classes), set(classes) - set(self.t)
            if unknown or missing:
                raise ValueError(
                    f"t={dict(self.t)!r} must name every class of y once: missing "
                    f"{sorted(missing, key=str)}, unknown {sorted(unknown, key=str)}"
                )
            scales = [check_scale(self.t[label], f"t[{label!r}]") for label in classes]
        else:
            scales = [check_scale(self.t)] * len(classes)
        median = sample_median(data, self._metric) if None in scales else 1.0
        return [resolve_scale(t, self.criterion, median) for t in scales]
