"""Choosing representatives of each class, in imbalanced-learn's protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, OneToOneFeatureMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from skmag._arrays import PortableEstimator, as_numpy, detached, resolve_device
from skmag._class_answers import class_similarities, sample_median
from skmag._compat import Interval, StrOptions, fit_context, safe_indexing
from skmag._input import validated_tensor
from skmag._metrics import resolve_metric
from skmag._representatives import STRATEGIES, represent
from skmag._scale import check_scale, resolve_scale
from skmag._similarity import Similarity


class MagnitudeUnderSampler(OneToOneFeatureMixin, PortableEstimator, BaseEstimator):
    """Reduce classes to points that have nearly the magnitude of the whole class.

    Works in imbalanced-learn's Pipeline and needs that library, which
    ``pip install skmag[imbalanced]`` brings. In each class that has too many rows the points are
    chosen as :class:`MagnitudeSubsetSelector` does. They cover the class, its rim first; they do
    not follow its density.

    Parameters
    ----------
    sampling_strategy : float, str, dict or callable, default="auto"
        How many rows of which classes to keep, with imbalanced-learn's meaning: "auto" reduces all
        classes but the smallest to its size; a dict maps classes to numbers of rows; a float is
        the wanted ratio of the smaller of two classes to the larger one.
    strategy : {"greedy", "centers", "random"}, default="greedy"
        How to choose, as for :class:`MagnitudeSubsetSelector`.
    t : float or "scale", default="scale"
        Positive scale that multiplies the distances, one for all classes; "scale" is one over the
        median distance.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`; with "precomputed" rows of the table are chosen, and its columns
        stay.
    metric_params : dict, default=None
        Further arguments of the metric.
    random_state : int, RandomState or None, default=None
        Draws the first point of each class, and all points for "random".
    device : {"auto", "cpu", "cuda", "mps"}, torch.device or None, default=None
        Where to compute; None follows `X`.

    Attributes
    ----------
    sample_indices_ : ndarray of shape (n_chosen,)
        Rows that were kept, class by class, in order of choice where a class was reduced.
    sampling_strategy_ : dict
        Number of rows of each class that is reduced.
    t_ : float
        Scale.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where X has names.

    See Also
    --------
    MagnitudeSubsetSelector : The same choice, without classes.

    Notes
    -----
    Copies of a point count once. Only a class with fewer distinct points than rows to keep keeps
    copies, in the order of the data. Classes are thinned out one after the other, in the memory
    that :class:`MagnitudeSubsetSelector` takes for the largest of them.

    References
    ----------
    R. Andreeva, J. Ward, P. Skraba, J. Gao, R. Sarkar, "Approximating metric magnitude of point
    sets", sections 3.3 and 3.4.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_classification
    >>> from skmag import MagnitudeUnderSampler
    >>> X, y = make_classification(1000, weights=[0.9], random_state=0)
    >>> X_few, y_few = MagnitudeUnderSampler(random_state=0).fit_resample(X, y)
    >>> np.bincount(y), np.bincount(y_few)
    (array([898, 102]), array([102, 102]))
    """

    _estimator_type = "sampler"
    _sampling_type = "under-sampling"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "sampling_strategy": [
            Interval(Real, 0, 1, closed="right"),
            StrOptions({"auto", "majority", "not minority", "not majority", "all"}),
            Mapping,
            callable,
        ],
        "strategy": [StrOptions(set(STRATEGIES))],
        "t": [Interval(Real, 0, None, closed="neither"), StrOptions({"scale"})],
        "metric": [str, callable],
        "metric_params": [dict, None],
        "random_state": ["random_state"],
        "device": [str, torch.device, None],
    }

    def __init__(
        self,
        *,
        sampling_strategy: float | str | Mapping[Any, int] | Callable[..., Any] = "auto",
        strategy: str = "greedy",
        t: float | str = "scale",
        metric: Any = "euclidean",
        metric_params: dict[str, Any] | None = None,
        random_state: Any = None,
        device: Any = None,
    ) -> None:
        self.sampling_strategy = sampling_strategy
        self.strategy = strategy
        self.t = t
        self.metric = metric
        self.metric_params = metric_params
        self.random_state = random_state
        self.device = device

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any) -> MagnitudeUnderSampler:
        """Check the arguments and learn how many rows of each class are to be kept.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
            Points; their distances if ``metric="precomputed"``.
        y : array-like of shape (n_samples,)
            Class of each row.

        Returns
        -------
        MagnitudeUnderSampler
            The sampler, which :meth:`fit_resample` does not need.

        Raises
        ------
        ImportError
            If imbalanced-learn is not installed.
        ValueError
            If an argument is not usable.
        """
        self._validate(X, y)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def fit_resample(self, X: Any, y: Any) -> tuple[Any, Any]:
        """Choose rows of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
            Points; their distances if ``metric="precomputed"``.
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Class of each row, or one column of zeros and ones for each class.

        Returns
        -------
        X_resampled : array-like of shape (n_chosen, n_features) or (n_chosen, n_samples)
            The chosen rows, in the kind of container that `X` came in.
        y_resampled : array-like of shape (n_chosen,) or (n_chosen, n_classes)
            Their classes, in the kind of container that `y` came in.

        Raises
        ------
        ImportError
            If imbalanced-learn is not installed.
        ValueError
            If an argument is not usable, or the similarity is found not to be positive definite.
        MemoryError
            If greedy choice needs more memory than there is.
        """
        checked, labels = self._validate(X, y)
        metric = resolve_metric(self.metric, self.metric_params, checked)
        data = validated_tensor(checked, metric, resolve_device(self.device, checked))
        scale = check_scale(self.t)
        median = sample_median(data, metric) if scale is None else 1.0
        self.t_ = resolve_scale(scale, "representatives", median)
        random_state = check_random_state(self.random_state)
        kept = []
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            wanted = self.sampling_strategy_.get(label, len(rows))
            if wanted < len(rows):
                (own,) = class_similarities(data, [rows], metric)
                rows = rows[self._chosen(own.at(self.t_), wanted, random_state)]
            kept.append(rows)
        self.sample_indices_ = np.concatenate(kept)
        return safe_indexing(X, self.sample_indices_), safe_indexing(y, self.sample_indices_)

    def _chosen(
        self, similarity: Similarity, wanted: int, random_state: np.random.RandomState
    ) -> np.ndarray:
        """Rows of one class to keep, counted by themselves: points first, then their copies."""
        if not wanted:
            return np.empty(0, dtype=np.int64)
        points = represent(similarity, self.strategy, wanted, random_state).points
        rows = as_numpy(similarity.first_row)[points]
        copies = np.setdiff1d(np.arange(len(similarity.group)), rows)
        return np.append(rows, copies[: wanted - len(rows)])

    def _validate(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        """Validated X, the classes of its rows, and how many rows of them to keep."""
        try:
            from imblearn.utils import check_sampling_strategy, check_target_type
        except ImportError as error:
            raise ImportError(
                "MagnitudeUnderSampler needs imbalanced-learn: pip install 'skmag[imbalanced]'"
            ) from error
        # imbalanced-learn reads labels with numpy, which cannot see a device.
        given = as_numpy(y) if isinstance(y, torch.Tensor) else y
        check_classification_targets(given)
        labels, _ = check_target_type(given, indicate_one_vs_all=True)
        X, labels = validate_data(self, detached(X), labels)
        self.sampling_strategy_ = check_sampling_strategy(
            self.sampling_strategy, labels, self._sampling_type
        )
        return X, labels

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "sampler"
        tags.target_tags.required = True
        tags.input_tags.positive_only = self.metric == "precomputed"
        tags.input_tags.pairwise = self.metric == "precomputed"
        return tags
