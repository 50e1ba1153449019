"""Classification by the weighting of each class: scikit-learn glue around the questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from skmag._arrays import ArrayKind, as_numpy, detached
from skmag._base_classifier import BaseMagnitudeClassifier
from skmag._class_answers import ClassAnswers, class_rows, class_similarities, sample_median
from skmag._class_scores import refuse_indefinite
from skmag._compat import Interval, StrOptions, check_same_namespace, fit_context
from skmag._criteria import CRITERIA
from skmag._input import check_continued, fitted_with, holds_points, query_tensor
from skmag._scale import check_scale, resolve_scale
from skmag._similarity import Similarity

# What a fit cannot be continued without.
_LEARNT_FROM = ("criterion", "metric", "metric_params", "solver", "solver_params", "tol", "device")


def _check_same_kind(labels: np.ndarray, known: np.ndarray) -> None:
    """Refuse labels that would be turned into another kind, or turn the known ones."""
    kinds = {"i": "number", "u": "number", "f": "number", "U": "string", "S": "string"}
    own, other = (kinds.get(part.dtype.kind, part.dtype.kind) for part in (labels, known))
    if own != other:
        raise ValueError(
            f"y holds labels of type {labels.dtype}, and classes_ of type {known.dtype}; labels of "
            "all batches must be of one kind"
        )


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
    solver : {"auto", "line", "cholesky", "mixed", "indefinite", "cg", "sparse"}, default="auto"
        How each class answers. "sparse" asks the points near each query, in any number of
        features; "cg" holds no matrix and takes its time with every query; the others factor the
        class, see :func:`weighting`. "auto" factors classes of up to 5,000 points (up to 20,000
        under metrics other than "euclidean" and "cosine", and where the criterion takes weights in
        more than three intrinsic dimensions: near points do not suffice there), and takes "sparse"
        for all classes as soon as one is larger.
    tol : float, default=1e-6
        Relative tolerance of the magnitudes, for "cg" and "sparse"; between 0 and 1. Residuals
        do not depend on it.
    solver_params : dict, default=None
        Further arguments of "cg" or "sparse", such as ``{"n_neighbors": 50}`` for the number of
        points near each query (default: 30, or 20 in the plane).
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
    solver_ : list of str
        Name of the solver that answers for each class.
    residual_error_ : float
        Estimate by how much residuals are too large, as a share of the true ones: 0.0 where
        factors answer, see the notes where near points do.
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
    queries costs one triangular solve a class, and takes no more than scikit-learn's
    ``working_memory`` in each of `n_jobs` threads.

    With "sparse" there is no matrix: fit and predict take at most eight times the memory of the
    training data and twice the working memory, and a query costs a search for near points and a
    small solve in each class. Fewer points leave more room, so that residuals are bounds from
    above; `residual_error_` estimates by how much they are too large, from what twice, four and
    eight times as many near points leave (1% in space, as much as the residual itself in 50
    features, several times as much under "cityblock"). What decides is their order, which near
    points keep: on MNIST they are right more often than exact residuals. `weights_` and
    `magnitudes_` are then solved for when they are asked for, by the sparse solver, which warns
    where it misses `tol`.

    Queries that tie are settled by the number of
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
        tol: float = 1e-6,
        solver_params: dict[str, Any] | None = None,
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
        self.tol = tol
        self.solver_params = solver_params
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
        answers = ClassAnswers.of(
            similarities, rows, ts, self.solver, self._device, self.n_jobs, **self._solving()
        )
        refuse_indefinite(answers, self.criterion, as_numpy(self.classes_))
        self._finish(answers, self._metric.points(data, "X"), codes, self.criterion, kind)
        own = () if isinstance(self.t, Mapping) else ("t",)
        self._fitted_with = fitted_with(self, (*_LEARNT_FROM, *own))
        return self

    @available_if(holds_points)
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> MagnitudeClassifier:
        """Let more training points join.

        Parameters
        ----------
        X : array-like of shape (n_new, n_features)
            Training points, which may repeat known ones.
        y : array-like of shape (n_new,)
            Class of each row. New classes may join at any time.
        classes : array-like, default=None
            Classes that are to be expected, as scikit-learn's convention has it: a label of `y`
            outside them is refused. `classes_` holds those seen so far.

        Returns
        -------
        MagnitudeClassifier
            The classifier fitted to all points so far. Factors grow by Schur complements
            (weighting-vector-applications, section 2.1); near points are only searched among more,
            and weights from "sparse" and "cg" are solved for again where the criterion takes them.
            Probabilities, and the scores behind `null_alpha`, are learnt anew from all points. The
            scale is that of the first call: ``t="scale"`` looks at its points only. There is no
            such method where ``metric="precomputed"``, which holds no points.

        Raises
        ------
        ValueError
            If an argument is not usable, labels are of another kind than before, or a parameter
            has been set to something else since the first call.
        MemoryError
            If the factor of a class does not fit any more.
        """
        if classes is not None:
            unknown = np.setdiff1d(as_numpy(y), np.asarray(classes))
            if len(unknown):
                raise ValueError(f"y holds {unknown.tolist()}, which classes={classes!r} lacks")
        if not hasattr(self, "_class_answers"):
            return self.fit(X, y)
        check_continued(self, self._fitted_with)
        return self._join(X, y)

    def _join(self, X: Any, y: Any) -> MagnitudeClassifier:
        check_same_namespace(X, self, attribute="t_", method="partial_fit")
        X, y = validate_data(self, detached(X), y, reset=False)
        check_classification_targets(y)
        labels, known = as_numpy(column_or_1d(y)), as_numpy(self.classes_)
        _check_same_kind(labels, known)
        every = [*known, *np.setdiff1d(labels, known)]
        self._check_known_scales(known)
        answers = self._class_answers
        device = answers.parts[0].similarity.device
        Z = query_tensor(X, "X", self._metric, X.shape[1], device)
        rows = [np.flatnonzero(labels == label) for label in every]

        def fresh(c: int, points: torch.Tensor) -> Similarity:
            # The points are prepared already.
            metric, t = replace(self._metric, prepare=None), self._scale_of(every[c])
            return replace(Similarity.of(points, metric, t), metric=self._metric)

        answers = answers.extended(Z, rows, fresh, self.solver, **self._solving())
        labels = np.array(every, dtype=known.dtype if known.dtype.kind == "O" else None)
        order = np.argsort(labels, kind="stable")
        answers, classes = answers.reordered(order.tolist()), labels[order]
        kind = ArrayKind.of(X)
        refuse_indefinite(answers, self.criterion, classes)
        self._check_null(classes)
        self.classes_ = kind.wrap(classes) if classes.dtype.kind in "biuf" else classes
        self._finish(answers, answers.points(), answers.codes(), self.criterion, kind)
        return self

    def _solving(self) -> dict[str, Any]:
        """What solvers are told."""
        return {
            "tol": self.tol,
            "solver_params": self.solver_params,
            "residuals_only": self.criterion == "residual",
        }

    def _check_known_scales(self, known: np.ndarray) -> None:
        """Refuse a mapping of scales that contradicts those of the first call."""
        if not isinstance(self.t, Mapping):
            return
        for label, t in zip(known.tolist(), as_numpy(self.t_).tolist(), strict=True):
            now = self.t.get(label, "scale")
            if now != "scale" and now != t:
                raise ValueError(
                    f"partial_fit goes on with scale {t!r} for class {label!r}, but t has been set "
                    f"to {now!r} for it; call fit to begin anew"
                )

    def _scale_of(self, label: Any) -> float:
        """Scale of a class that joins: its own, or the one that is everybody's."""
        if not isinstance(self.t, Mapping):
            # The scale of the first batch, also where it was "scale".
            return float(self.t_[0])
        if label not in self.t:
            raise ValueError(f"t={dict(self.t)!r} must name class {label!r}, which joins")
        t = check_scale(self.t[label], f"t[{label!r}]")
        if t is None:
            raise ValueError(f"t[{label!r}]='scale' has no meaning for a class that joins later")
        return t

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
