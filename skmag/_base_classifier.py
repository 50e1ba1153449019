"""What the classifiers share: validation, prediction, probabilities and the NULL class."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from skmag._arrays import ArrayKind, PortableEstimator, as_numpy, detached, resolve_device
from skmag._class_answers import ClassAnswers
from skmag._class_scores import (
    calibration_rows,
    query_scores,
    training_scores,
)
from skmag._compat import Interval, StrOptions, check_same_namespace
from skmag._criteria import (
    conformity,
    fit_slope,
    left_out_scores,
    log_probabilities,
    probabilities,
    values,
)
from skmag._input import query_tensor, validated_tensor
from skmag._metrics import resolve_metric
from skmag._solvers import SOLVERS, NearFactor
from skmag._weighting import Weighting


class BaseMagnitudeClassifier(ClassifierMixin, PortableEstimator, BaseEstimator):
    """What the classifiers share."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "metric": [str, callable],
        "metric_params": [dict, None],
        "null_label": [str, Real, None],
        "null_alpha": [Interval(Real, 0, 1, closed="neither"), None],
        "null_threshold": [Interval(Real, None, None, closed="neither"), None],
        "solver": [StrOptions({"auto", *SOLVERS})],
        "tol": [Interval(Real, 0, 1, closed="neither")],
        "solver_params": [dict, None],
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
        kind = ArrayKind.of(self.t_)
        return [Weighting(part.complete(), kind) for part in self._class_answers.parts]

    @property
    def magnitudes_(self) -> Any:
        """Magnitude of each class, in the order of `classes_`."""
        values = np.array([part.magnitude for part in self._class_answers.parts])
        return ArrayKind.of(self.t_).wrap(values)

    @property
    def weights_(self) -> Any:
        """Weight of each training row in its class; copies of a point share its weight equally."""
        answers = self._class_answers
        weights = np.empty(sum(map(len, answers.rows)))
        for rows, part in zip(answers.rows, answers.parts, strict=True):
            share = part.weights / part.similarity.counts
            weights[rows] = as_numpy(part.similarity.to_rows(share))
        return ArrayKind.of(self.t_).wrap(weights)

    @property
    def residual_error_(self) -> float:
        """Estimate by how much residuals are too large, as a share of the true ones.

        It is 0.0 where exact factors answer. Where near points do, it is the greatest of the
        classes' estimates, for typical points of each.
        """
        factors = [part.factor for part in self._class_answers.parts]
        near = [factor.residual_error() for factor in factors if isinstance(factor, NearFactor)]
        return max(near, default=0.0)

    @property
    def solver_(self) -> list[str]:
        """Name of the solver that answers for each class, in the order of `classes_`."""
        return [part.factor.name for part in self._class_answers.parts]

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
        check_same_namespace(X, self, attribute="t_", method=method)
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
