"""The choice of points to label as a query strategy of scikit-activeml."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone

try:
    from skactiveml.base import SingleAnnotatorPoolQueryStrategy, SkactivemlClassifier
    from skactiveml.utils import (
        MISSING_LABEL,
        check_equal_missing_label,
        check_type,
        is_labeled,
    )
except ImportError as error:
    raise ImportError(
        "skmag.skactiveml needs scikit-activeml, which is not installed: "
        "pip install 'skmag[activeml]'"
    ) from error

from skmag._query_strategies import STRATEGIES, magnitude_query, margin_uncertainty

__all__ = ["MagnitudeQuery"]


class MagnitudeQuery(SingleAnnotatorPoolQueryStrategy):
    """Query strategy by the weights of the points within each predicted class.

    Parameters
    ----------
    strategy : {"mixture", "min_max", "max"}, default="mixture"
        What is chosen from each predicted class in turn. "mixture": the most uncertain sample of
        all, then the greatest absolute weight of the class. "min_max": the least absolute weight,
        then the greatest, the paper's rule. "max": the greatest.
    t : float or "scale", default="scale"
        Positive scale that multiplies the distances; "scale" is 1 over the median distance.
    metric : str or callable, default="euclidean"
        As for :func:`skmag.weighting`, except for "precomputed".
    metric_params : dict, default=None
        Further arguments of the metric.
    missing_label : scalar, str, np.nan or None, default=np.nan
        What marks samples without a label.
    random_state : int, RandomState or None, default=None
        Chooses among samples that tie.

    See Also
    --------
    skmag.magnitude_query : The same as a function of predictions.

    References
    ----------
    E. Bunch, D. Dickinson, J. Kline, G. Fung, "Practical applications of metric space magnitude
    and weighting vectors", Algorithm 2 and section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from skactiveml.classifier import SklearnClassifier
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skmag.skactiveml import MagnitudeQuery
    >>> X, answers = load_iris(return_X_y=True)
    >>> y = np.full(150, np.nan)
    >>> y[[0, 75, 149]] = answers[[0, 75, 149]]
    >>> clf = SklearnClassifier(LogisticRegression(max_iter=1000), classes=[0, 1, 2])
    >>> strategy = MagnitudeQuery(random_state=0)
    >>> for _ in range(5):
    ...     chosen = strategy.query(X, y, clf, batch_size=4)
    ...     y[chosen] = answers[chosen]
    >>> bool(clf.fit(X, y).score(X, answers) > 0.95)
    True
    """

    def __init__(
        self,
        strategy: str = "mixture",
        t: Any = "scale",
        metric: Any = "euclidean",
        metric_params: dict[str, Any] | None = None,
        missing_label: Any = MISSING_LABEL,
        random_state: Any = None,
    ) -> None:
        super().__init__(missing_label=missing_label, random_state=random_state)
        self.strategy = strategy
        self.t = t
        self.metric = metric
        self.metric_params = metric_params

    def query(
        self,
        X: Any,
        y: Any,
        clf: Any,
        fit_clf: bool = True,
        sample_weight: Any = None,
        candidates: Any = None,
        batch_size: int = 1,
        return_utilities: bool = False,
    ) -> Any:
        """Choose the candidates to label next.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The pool, labelled and unlabelled samples.
        y : array-like of shape (n_samples,)
            Labels; `missing_label` marks the unlabelled samples.
        clf : skactiveml.base.SkactivemlClassifier
            The classifier, with `predict_proba` if the strategy is "mixture".
        fit_clf : bool, default=True
            Whether a clone of `clf` is to be fitted first.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in that fit.
        candidates : array-like of shape (n_candidates,) or (n_candidates, n_features), default=None
            Samples that may be chosen: as indices into `X`, or as points, which then join the
            pool. None takes the unlabelled samples.
        batch_size : int, default=1
            Number of samples to choose.
        return_utilities : bool, default=False
            Whether to return the utilities, too.

        Returns
        -------
        query_indices : ndarray of shape (batch_size,)
            Chosen samples in order of choice: indices into `X`, or into `candidates` if these are
            points.
        utilities : ndarray of shape (batch_size, n_samples) or (batch_size, n_candidates)
            Where asked for: by what each was chosen. Minus infinity stands for candidates that
            were not considered in that step, NaN for samples that are no candidates or were
            chosen before.
        """
        X, y, candidates, batch_size, return_utilities = self._validate_data(
            X, y, candidates, batch_size, return_utilities, reset=True
        )
        points, mapping = self._transform_candidates(candidates, X, y)
        check_type(clf, "clf", SkactivemlClassifier)
        check_equal_missing_label(clf.missing_label, self.missing_label_)
        check_type(fit_clf, "fit_clf", bool)
        if fit_clf:
            weights = () if sample_weight is None else (sample_weight,)
            clf = clone(clf).fit(X, y, *weights)
        labelled, n = is_labeled(y, self.missing_label_), len(X)
        if mapping is None:
            X = np.concatenate([X, points])
            labelled = np.concatenate([labelled, np.zeros(len(points), dtype=bool)])
            mapping = np.arange(n, len(X))
        else:
            n = 0
        unsure = "uncertain" in STRATEGIES.get(self.strategy, ())
        chosen, utilities = magnitude_query(
            X,
            clf.predict(X),
            candidates=mapping,
            labelled=labelled,
            uncertainty=margin_uncertainty(clf.predict_proba(X)) if unsure else None,
            batch_size=batch_size,
            strategy=self.strategy,
            t=self.t,
            metric=self.metric,
            metric_params=self.metric_params,
            random_state=self.random_state_,
            return_utilities=True,
        )
        chosen, utilities = chosen - n, utilities[:, n:]
        return (chosen, utilities) if return_utilities else chosen
