"""Choosing points that represent a set: scikit-learn glue around the strategies."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from skmag._arrays import (
    ArrayKind,
    PortableEstimator,
    as_numpy,
    as_tensor,
    block_slices,
    detached,
    resolve_device,
    rows_per_block,
)
from skmag._compat import (
    Interval,
    RealNotInt,
    StrOptions,
    check_same_namespace,
    fit_context,
    safe_indexing,
)
from skmag._input import build_similarity, query_tensor
from skmag._out_of_memory import named_memory_errors
from skmag._progress import fit_task
from skmag._representatives import STRATEGIES, represent
from skmag._solvers import SOLVERS

_BLOCK_ROWS = 1024


class MagnitudeSubsetSelector(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    PortableEstimator,
    BaseEstimator,
):
    """Choose points whose magnitude is nearly that of all, and describe others by them.

    Magnitude grows with every point that joins, most with those that are unlike the ones already
    there. Points chosen for it cover the set, its rim first, and a few of them have nearly the
    magnitude of all. ``transform`` gives the similarities to them, as features.

    Parameters
    ----------
    n_samples : int, float or None, default=100
        How many points to choose at most: a number, a share of the rows, or None for no limit.
        There are never more than distinct points.
    strategy : {"greedy", "centers", "random"}, default="greedy"
        How to choose. "greedy": always the point by which the magnitude grows most. "centers":
        always the point farthest from the ones chosen, which is faster, needs little memory and
        does not depend on t. "random": drawn uniformly from the distinct points.
    tol : float, default=None
        Stop as soon as the magnitude of the chosen points is within this share of the magnitude of
        all, which then has to be computed. None chooses `n_samples`.
    t : float or "scale", default="scale"
        Positive scale that multiplies the distances; "scale" is one over the median distance.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`; "precomputed" takes distances.
    metric_params : dict, default=None
        Further arguments of the metric.
    solver : {"auto", "line", "cholesky", "mixed", "indefinite", "cg", "sparse"}, default="auto"
        How the magnitude of all points is computed, by an iterative solver to a hundredth of
        `tol`; takes part only with `tol`.
    random_state : int, RandomState or None, default=None
        Draws the first point, and all points for "random".
    device : {"auto", "cpu", "cuda", "mps"}, torch.device or None, default=None
        Where to compute; None follows `X`.

    Attributes
    ----------
    sample_indices_ : array of shape (n_chosen,)
        Rows of the chosen points in order of choice, the first one of each group of copies.
    gains_ : array of shape (n_chosen,)
        By how much the magnitude grew with each; 1 for the first.
    magnitudes_ : array of shape (n_chosen,)
        Magnitude of each chosen point and those before it.
    magnitude_ : float or None
        Magnitude of all points, where `tol` asked for it.
    components_ : array of shape (n_chosen, n_features)
        The chosen points; not there if ``metric="precomputed"``.
    t_ : float
        Scale.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where X has names.

    See Also
    --------
    DiscreteCenterHierarchy : The centers of all scales at once, for sets that change.
    MagnitudeUnderSampler : Chooses in each class, in imbalanced-learn's protocol.
    sklearn.kernel_approximation.Nystroem : Similarities to random points, made orthonormal.

    Notes
    -----
    Greedy choice of m among n points takes n m distances, n m^2 operations and ``8 n (m + 14)``
    bytes; a fit that would need more than is free is refused before it begins. Centers take at most
    n m distances, and for the magnitudes m^3 operations and ``8 m (m + 14)`` bytes. Besides, either
    takes up to five copies of the data while it merges equal rows, 40 million bytes for the median
    distance of ``t="scale"``, and scikit-learn's ``working_memory``. ``transform`` takes the
    ``8 n m`` bytes that it returns and one copy of the data.

    On the real line magnitude is submodular, so that m greedy points have at least 1 - 1/e of the
    greatest magnitude of m points. Elsewhere there is no such bound.

    A callback that asks for the end of the fit ends it with the points chosen so far.

    References
    ----------
    R. Andreeva, J. Ward, P. Skraba, J. Gao, R. Sarkar, "Approximating metric magnitude of point
    sets", sections 3.3 and 3.4, Algorithms 2 and 3, Theorem 3.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.pipeline import make_pipeline
    >>> from skmag import MagnitudeSubsetSelector
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> selector = MagnitudeSubsetSelector(300, random_state=0)
    >>> model = make_pipeline(selector, LogisticRegression(C=1e4, max_iter=2000))
    >>> bool(model.fit(X_train, y_train).score(X_test, y_test) > 0.95)
    True

    Half of the chosen points already have most of the magnitude of all chosen.

    >>> magnitudes = model[0].magnitudes_
    >>> bool(magnitudes[149] > 0.85 * magnitudes[299])
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_samples": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="right"),
            None,
        ],
        "strategy": [StrOptions(set(STRATEGIES))],
        "tol": [Interval(Real, 0, 1, closed="neither"), None],
        "t": [Interval(Real, 0, None, closed="neither"), StrOptions({"scale"})],
        "metric": [str, callable],
        "metric_params": [dict, None],
        "solver": [StrOptions({"auto", *SOLVERS})],
        "random_state": ["random_state"],
        "device": [str, torch.device, None],
    }

    def __init__(
        self,
        n_samples: int | float | None = 100,
        *,
        strategy: str = "greedy",
        tol: float | None = None,
        t: float | str = "scale",
        metric: Any = "euclidean",
        metric_params: dict[str, Any] | None = None,
        solver: str = "auto",
        random_state: Any = None,
        device: Any = None,
    ) -> None:
        self.n_samples = n_samples
        self.strategy = strategy
        self.tol = tol
        self.t = t
        self.metric = metric
        self.metric_params = metric_params
        self.solver = solver
        self.random_state = random_state
        self.device = device

    @fit_context(prefer_skip_nested_validation=True)
    @with_callbacks
    def fit(self, X: Any, y: Any = None) -> MagnitudeSubsetSelector:
        """Choose the points.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
            Points; their distances if ``metric="precomputed"``.
        y : object, default=None
            Ignored, here for consistency.

        Returns
        -------
        MagnitudeSubsetSelector
            The fitted selector.

        Raises
        ------
        ValueError
            If an argument is not usable, or the similarity is found not to be positive definite.
        MemoryError
            If `tol` asks for the magnitude of more points than fit, or greedy choice for more rows.
        """
        X = validate_data(self, detached(X))
        kind, device = ArrayKind.of(X), resolve_device(self.device, X)
        way_out = "a smaller n_samples, or strategy='centers', needs less"
        with named_memory_errors(X.shape[0], way_out):
            similarity = build_similarity(
                X, self.t, self.metric, self.metric_params, device, purpose="representatives"
            )
            n_points = min(self._limit(X.shape[0]), len(similarity))
            with fit_task(self, n_points - 1, X) as steps:
                chosen = represent(
                    similarity,
                    self.strategy,
                    n_points,
                    check_random_state(self.random_state),
                    tol=self.tol,
                    solver=self.solver,
                    steps=steps,
                )
        points = torch.from_numpy(chosen.points).to(similarity.device)
        rows = similarity.first_row[points]
        self.t_ = similarity.t
        self.sample_indices_ = kind.wrap(rows)
        self.gains_ = kind.wrap(chosen.gains)
        self.magnitudes_ = kind.wrap(chosen.magnitudes)
        self.magnitude_ = chosen.whole
        self._metric = similarity.metric
        if similarity.points is not None:
            self.components_ = safe_indexing(X, self.sample_indices_)
        self._n_features_out = len(rows)
        return self

    def transform(self, X: Any) -> Any:
        """Compute the similarities ``exp(-t d)`` to the chosen points.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features) or (n_queries, n_samples)
            Queries; their distances to all training rows if ``metric="precomputed"``.

        Returns
        -------
        array of shape (n_queries, n_chosen)
            Similarities between 0 and 1, columns in order of choice.
        """
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="magnitudes_", method="transform")
        X = validate_data(self, detached(X), reset=False)
        device = resolve_device(self.device, X)
        data = query_tensor(X, "X", self._metric, X.shape[1], device)
        if self._metric.precomputed:
            distance = data[:, torch.from_numpy(as_numpy(self.sample_indices_)).to(data.device)]
        else:
            chosen = self._metric.points(as_tensor(self.components_, device), "components_")
            distance = data.new_empty(len(data), len(chosen))
            size = rows_per_block(24 * len(chosen), _BLOCK_ROWS, device)
            for rows in block_slices(len(data), size):
                distance[rows] = self._metric.block(data[rows], chosen)
        return ArrayKind.of(X).wrap(distance.mul_(-self.t_).exp_())

    def _limit(self, n: int) -> int:
        """Number of points to choose at most from `n` rows."""
        if self.n_samples is None:
            return n
        if isinstance(self.n_samples, Integral):
            return int(self.n_samples)
        return max(1, math.floor(self.n_samples * n))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # A table of distances is indexed on both axes, and holds nothing negative.
        tags.input_tags.pairwise = self.metric == "precomputed"
        tags.input_tags.positive_only = self.metric == "precomputed"
        tags.array_api_support = True
        return tags
