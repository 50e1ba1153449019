"""Active learning around any classifier: scikit-learn glue about the choice of points to label."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone, is_classifier
from sklearn.utils import check_consistent_length, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from skmag._arrays import ArrayKind, PortableEstimator, as_numpy, detached
from skmag._compat import Interval, StrOptions, check_same_namespace, fit_context
from skmag._query_strategies import (
    STRATEGIES,
    labelled_rows,
    magnitude_query,
    margin_uncertainty,
    split_labels,
)
from skmag._solvers import SOLVERS


def _estimator_has(method: str) -> Callable[[Any], bool]:
    """Check that the inner estimator has a method; its own error tells why not."""

    def check(learner: Any) -> bool:
        getattr(getattr(learner, "estimator_", learner.estimator), method)
        return True

    return check


class MagnitudeActiveLearner(MetaEstimatorMixin, ClassifierMixin, PortableEstimator, BaseEstimator):
    """Classifier of partly labelled data that tells which rows to label next.

    A clone of `estimator` is fitted on the labelled rows. :meth:`query` gives each class that it
    predicts a weighting over all points of the pool predicted to be in it, and chooses the points
    on the border of the predicted classes (of great absolute weight), beside those of which the
    classifier is least sure.

    Parameters
    ----------
    estimator : estimator
        Classifier that is fitted on the labelled rows. Behind a Pipeline with transformers it
        sees transformed features; distances are always those between rows of the X that is given
        to the learner, so scale X first.
    strategy : {"mixture", "min_max", "max"}, default="mixture"
        What is chosen from each predicted class in turn. "mixture": the most uncertain row of
        all, then the greatest absolute weight of the class. "min_max": the least absolute weight,
        then the greatest, the paper's rule. "max": the greatest.
    batch_size : int, default=4
        Number of rows that :meth:`query` chooses; 4 is the paper's number for two classes.
    unlabelled : "auto", None, or a value in y, default="auto"
        What marks unlabelled rows in `y`. "auto": missing values (NaN, None, NA) if there are
        any, and then -1 is a class like any other; else -1, unless `y` holds nothing but -1 and
        1, which are then two classes. None or NaN: missing values only. Anything else: rows that
        equal it.
    t : float or "scale", default="scale"
        Positive scale that multiplies the distances; "scale" is 1 over the median distance
        between points of the pool.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`; "precomputed" takes distances, on which an `estimator` that is
        pairwise too works likewise, and which are features to any other.
    metric_params : dict, default=None
        Further arguments of the metric.
    solver : {"auto", "line", "cholesky", "mixed", "indefinite", "cg", "sparse"}, default="auto"
        As for :func:`weighting`.
    tol : float, default=1e-6
        Relative tolerance of the magnitude, for solvers that iterate; between 0 and 1.
    device : {"auto", "cpu", "cuda", "mps"}, torch.device or None, default=None
        Where to compute weights; None follows `X`.
    random_state : int, RandomState or None, default=None
        Chooses among rows that tie.

    Attributes
    ----------
    estimator_ : estimator
        The classifier, fitted on the labelled rows.
    classes_ : array of shape (n_classes,)
        Class labels.
    labelled_ : bool array of shape (n_samples,)
        Which rows had a label in `fit`.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where X has names.

    See Also
    --------
    magnitude_query : The choice as a function of predictions.

    Notes
    -----
    A query solves one weighting for each predicted class, one after the other: by a factor of
    8 n_c^2 bytes up to n_c = 10,000 points, beyond that as :func:`weighting` chooses, in memory
    that grows with n_c.

    The paper's rule is ``strategy="min_max", metric="cityblock", t=0.1`` on standardized data. It
    is not the default: the mixture did better on five of the six sets that we measured.

    References
    ----------
    E. Bunch, D. Dickinson, J. Kline, G. Fung, "Practical applications of metric space magnitude
    and weighting vectors", Algorithm 2 and section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skmag import MagnitudeActiveLearner
    >>> X, answers = load_iris(return_X_y=True)
    >>> X = StandardScaler().fit_transform(X)
    >>> y = np.full(150, -1)
    >>> y[[0, 75, 149]] = answers[[0, 75, 149]]
    >>> learner = MagnitudeActiveLearner(LogisticRegression(), random_state=0)
    >>> for _ in range(5):
    ...     chosen = learner.fit(X, y).query(X)
    ...     y[chosen] = answers[chosen]
    >>> int((y != -1).sum()), bool(learner.fit(X, y).score(X, answers) > 0.95)
    (23, True)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "estimator": "no_validation",  # fit says what is wrong with it
        "strategy": [StrOptions(set(STRATEGIES))],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "unlabelled": "no_validation",
        "t": [Interval(Real, 0, None, closed="neither"), StrOptions({"scale"})],
        "metric": [str, callable],
        "metric_params": [dict, None],
        "solver": [StrOptions({"auto", *SOLVERS})],
        "tol": [Interval(Real, 0, 1, closed="neither")],
        "device": [str, torch.device, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any,
        *,
        strategy: str = "mixture",
        batch_size: int = 4,
        unlabelled: Any = "auto",
        t: Any = "scale",
        metric: Any = "euclidean",
        metric_params: dict[str, Any] | None = None,
        solver: str = "auto",
        tol: float = 1e-6,
        device: Any = None,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.strategy = strategy
        self.batch_size = batch_size
        self.unlabelled = unlabelled
        self.t = t
        self.metric = metric
        self.metric_params = metric_params
        self.solver = solver
        self.tol = tol
        self.device = device
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)  # the inner estimator validates its own
    def fit(self, X: Any, y: Any, **params: Any) -> MagnitudeActiveLearner:
        """Fit the classifier on the labelled rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
            The pool, labelled and unlabelled rows; their distances if ``metric="precomputed"``.
        y : array-like of shape (n_samples,)
            Class of each labelled row; `unlabelled` tells what marks the others. All may be
            labelled.
        **params : dict
            Metadata for the `fit` of the inner estimator, such as sample weights, if metadata
            routing is enabled. Those with one entry for each row are cut down to the labelled
            rows.

        Returns
        -------
        MagnitudeActiveLearner
            The fitted learner.

        Raises
        ------
        ValueError
            If an argument is not usable or no row is labelled.
        """
        if params and not get_config()["enable_metadata_routing"]:
            raise ValueError(
                f"{sorted(params)} are metadata for the fit of estimator={self.estimator!r}; "
                "enable sklearn.set_config(enable_metadata_routing=True) to route them"
            )
        self._check_estimator()
        array = validate_data(self, detached(X), None if y is None else "no_validation")
        labelled, labels = split_labels(y, self.unlabelled)
        check_consistent_length(array, labelled)
        kind, rows = ArrayKind.of(array), np.flatnonzero(labelled)
        self.labelled_ = kind.wrap(labelled)
        routed = process_routing(self, "fit", **params)["estimator"]["fit"]
        own = {name: _cut(value, rows, len(labelled)) for name, value in routed.items()}
        if labels.dtype.kind in "biuf":
            labels = kind.wrap(labels)
        data = _rows(self._given(X, array), rows)
        self.estimator_ = clone(self.estimator).fit(data, labels, **own)
        self.classes_ = self.estimator_.classes_
        return self

    def query(
        self,
        X: Any,
        y: Any = None,
        candidates: Any = None,
        batch_size: int | None = None,
        return_utilities: bool = False,
    ) -> Any:
        """Choose the rows of the pool to label next.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
            The pool, labelled and unlabelled rows; their distances if ``metric="precomputed"``.
        y : array-like of shape (n_samples,), default=None
            Labels, of which only matters which rows have one. None takes those of `fit`, where X
            has as many rows as there: it must then be the same pool.
        candidates : array-like of int or bool, default=None
            Rows that may be chosen, as indices or as a mask of shape (n_samples,); None takes
            all unlabelled rows. Labelled ones among them are chosen last. In a pool of another
            size than that of `fit`, without `y`, all other rows count as labelled.
        batch_size : int, default=None
            Number of rows to choose; None takes the parameter of this name. Fewer are chosen
            where there are fewer candidates.
        return_utilities : bool, default=False
            Whether to return the utilities, too.

        Returns
        -------
        indices : int array of shape (n_chosen,)
            Chosen rows in order of choice, in the caller's kind of array.
        utilities : array of shape (n_chosen, n_samples)
            Where asked for: by what each row was chosen, see :func:`magnitude_query`.

        Raises
        ------
        ValueError
            If an argument is not usable, there is no candidate, or the strategy needs
            an uncertainty and the classifier has neither `predict_proba` nor
            `decision_function`.
        MemoryError
            If the factor of a class does not fit.
        numpy.linalg.LinAlgError
            If the similarity matrix of a class has no inverse.
        """
        array, given = self._validated(X, "query")
        labelled = self._labelled(array.shape[0], y, candidates)
        return magnitude_query(
            array,
            self.estimator_.predict(given),
            candidates=candidates,
            labelled=labelled,
            uncertainty=self._uncertainty(given),
            batch_size=self.batch_size if batch_size is None else batch_size,
            strategy=self.strategy,
            t=self.t,
            metric=self.metric,
            metric_params=self.metric_params,
            solver=self.solver,
            tol=self.tol,
            device=self.device,
            random_state=self.random_state,
            return_utilities=return_utilities,
        )

    @available_if(_estimator_has("predict"))
    def predict(self, X: Any) -> Any:
        """Predict the class of each row, by the fitted classifier.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features) or (n_queries, n_samples)
            Queries; distances to all rows of `fit` if ``metric="precomputed"``.

        Returns
        -------
        array of shape (n_queries,)
            Classes.
        """
        return self._asked("predict", X)

    @available_if(_estimator_has("predict_proba"))
    def predict_proba(self, X: Any) -> Any:
        """Compute class probabilities, by the fitted classifier.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features) or (n_queries, n_samples)
            Queries; distances to all rows of `fit` if ``metric="precomputed"``.

        Returns
        -------
        array of shape (n_queries, n_classes)
            Probabilities.
        """
        return self._asked("predict_proba", X)

    @available_if(_estimator_has("predict_log_proba"))
    def predict_log_proba(self, X: Any) -> Any:
        """Compute logarithms of class probabilities, by the fitted classifier.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features) or (n_queries, n_samples)
            Queries; distances to all rows of `fit` if ``metric="precomputed"``.

        Returns
        -------
        array of shape (n_queries, n_classes)
            Logarithms of the probabilities.
        """
        return self._asked("predict_log_proba", X)

    @available_if(_estimator_has("decision_function"))
    def decision_function(self, X: Any) -> Any:
        """Compute the decision function of the fitted classifier.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features) or (n_queries, n_samples)
            Queries; distances to all rows of `fit` if ``metric="precomputed"``.

        Returns
        -------
        array of shape (n_queries,) or (n_queries, n_classes)
            Scores.
        """
        return self._asked("decision_function", X)

    @available_if(_estimator_has("score"))
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Compute the score of the fitted classifier, as a rule its accuracy.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features) or (n_queries, n_samples)
            Queries; distances to all rows of `fit` if ``metric="precomputed"``.
        y : array-like of shape (n_queries,)
            True classes, of all rows.
        sample_weight : array-like of shape (n_queries,), default=None
            Weights of the rows.

        Returns
        -------
        float
            The score.
        """
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        return self._asked("score", X, y, **weights)

    def get_metadata_routing(self) -> MetadataRouter:
        """Tell scikit-learn which metadata go where.

        Returns
        -------
        MetadataRouter
            The routing: that of `fit` is handed to the inner estimator.
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=self).add_self_request(self)
        return router.add(estimator=self.estimator, method_mapping=mapping)

    def _check_estimator(self) -> None:
        instance = hasattr(self.estimator, "fit") and not isinstance(self.estimator, type)
        if not (instance and is_classifier(self.estimator)):
            raise ValueError(f"estimator={self.estimator!r} must be an instance of a classifier")
        if get_tags(self.estimator).input_tags.pairwise and self.metric != "precomputed":
            raise ValueError(
                f"estimator={self.estimator!r} takes a square table, which metric={self.metric!r} "
                "would take for points; use metric='precomputed', or an estimator of points"
            )

    def _validated(self, X: Any, method: str) -> tuple[Any, Any]:
        """Validated X, and what the inner estimator is given of it."""
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="labelled_", method=method)
        array = validate_data(self, detached(X), reset=False)
        return array, self._given(X, array)

    def _asked(self, method: str, X: Any, *args: Any, **kwargs: Any) -> Any:
        """What the inner estimator answers to a method."""
        given = self._validated(X, method)[1]
        return getattr(self.estimator_, method)(given, *args, **kwargs)

    def _given(self, X: Any, array: Any) -> Any:
        """What the inner estimator sees: a frame whose columns have names, or the array."""
        if get_tags(self.estimator).input_tags.pairwise:
            # Distances to rows that it was fitted on.
            return _columns(array, np.flatnonzero(as_numpy(self.labelled_)))
        return X if hasattr(self, "feature_names_in_") and hasattr(X, "columns") else array

    def _labelled(self, n: int, y: Any, candidates: Any) -> np.ndarray | None:
        """Which rows of the pool are labelled; None if only the candidates can tell."""
        if y is not None:
            labelled = labelled_rows(y, self.unlabelled)[0]
            if len(labelled) != n:
                raise ValueError(f"y has {len(labelled)} rows, but X has {n}")
        elif n == len(self.labelled_):
            labelled = as_numpy(self.labelled_)
        elif candidates is not None:
            return None
        else:
            raise ValueError(
                f"X has {n} rows and fit had {len(self.labelled_)}, so nothing tells which are "
                "labelled; pass y or candidates"
            )
        if candidates is None and labelled.all():
            raise ValueError(
                f"all {n} rows are labelled with unlabelled={self.unlabelled!r}, so there is no "
                "candidate left. If -1 marks unlabelled rows beside class 1 alone, pass "
                "unlabelled=-1"
            )
        return labelled

    def _uncertainty(self, given: Any) -> np.ndarray | None:
        """How little the classifier is sure of each row, where the strategy asks for it."""
        if "uncertain" not in STRATEGIES[self.strategy]:
            return None
        for method in ("predict_proba", "decision_function"):
            if not hasattr(self.estimator_, method):
                continue
            score = as_numpy(getattr(self.estimator_, method)(given))
            if score.ndim == 2 and score.shape[1] != len(self.classes_):
                raise ValueError(
                    f"estimator={self.estimator!r} has a {method} of {score.shape[1]} columns for "
                    f"{len(self.classes_)} classes; it must have one for each class"
                )
            return margin_uncertainty(score)
        free = sorted(name for name, roles in STRATEGIES.items() if "uncertain" not in roles)
        raise ValueError(
            f"strategy={self.strategy!r} needs predict_proba or decision_function, and "
            f"estimator={self.estimator!r} has neither; {free} do without"
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.input_tags.pairwise = self.metric == "precomputed"
        tags.input_tags.positive_only = (
            self.metric == "precomputed" or inner.input_tags.positive_only
        )
        tags.classifier_tags.multi_class = inner.classifier_tags.multi_class
        tags.classifier_tags.poor_score = inner.classifier_tags.poor_score
        tags.array_api_support = inner.array_api_support
        return tags


def _rows(X: Any, rows: np.ndarray) -> Any:
    """Some rows of an array or a frame."""
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    return X[rows] if hasattr(X, "columns") else _taken(X, rows, 0)


def _columns(X: Any, columns: np.ndarray) -> Any:
    return _taken(X, columns, 1)


def _taken(array: Any, index: np.ndarray, axis: int) -> Any:
    kind = ArrayKind.of(array)
    return kind.xp.take(array, kind.wrap(index), axis=axis)


def _cut(value: Any, rows: np.ndarray, n: int) -> Any:
    """Metadata with one entry for each row, cut down to some rows; other metadata as they are."""
    if not hasattr(value, "shape") and not isinstance(value, (list, tuple)):
        return value
    return np.asarray(as_numpy(value))[rows] if len(value) == n else value
