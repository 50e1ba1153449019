"""Clustering by the growth of magnitude: scikit-learn glue around the runs of the clusterer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from skmag._arrays import (
    ArrayKind,
    PortableEstimator,
    as_numpy,
    block_slices,
    detached,
    resolve_device,
    rows_per_block,
)
from skmag._cluster_sweep import Sweep
from skmag._clusters import Choice, ClusterAnswers, Run, numbered
from skmag._compat import Interval, RealNotInt, StrOptions, check_same_namespace, fit_context
from skmag._input import query_tensor, validated_tensor
from skmag._metrics import resolve_metric
from skmag._out_of_memory import named_memory_errors
from skmag._progress import Steps, fit_task
from skmag._scale import check_scale, resolve_scale
from skmag._similarity import Similarity
from skmag._solvers import SOLVERS

# Steps of a run that make one step of a progress bar.
_BATCH = 100


class MagnitudeClustering(CallbackSupportMixin, ClusterMixin, PortableEstimator, BaseEstimator):
    """Clustering that lets a point join where the magnitude grows least.

    A point that belongs to a cluster adds little to its magnitude. Beginning with one point, each
    step takes the point outside and the cluster for which the magnitude would grow least. If that
    gain is below a threshold the point joins; otherwise it founds a cluster.

    Parameters
    ----------
    t : float or "scale", default="scale"
        Positive scale that multiplies the distances. "scale" is 10 over the median distance
        between training points.
    threshold : float or "persistent", default="persistent"
        Positive gain from which on a point does not join. "persistent" tries every threshold and
        takes the number of clusters that lasts longest, see Notes.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`; "precomputed" takes distances.
    metric_params : dict, default=None
        Further arguments of the metric.
    min_cluster_size : int, float or "auto", default="auto"
        Number, or share below 1, of the rows that a cluster needs; smaller ones are noise. "auto"
        is the larger of 5 and 5% of the rows. With `max_samples`, of the rows drawn.
    max_samples : int, float or None, default=None
        Number, or share, of the rows among which clusters are found, drawn at random. The other
        rows get the labels that :meth:`predict` gives them. None takes all rows.
    solver : {"auto", "line", "cholesky", "mixed", "indefinite", "cg", "sparse"}, default="auto"
        As for :func:`weighting`; used for the weightings of the finished clusters.
    tol : float, default=1e-6
        Relative tolerance of an iterative solver.
    random_state : int, RandomState instance or None, default=None
        Draws the rows, where there is a `max_samples`, and the point to begin with.
    device : {"auto", "cpu", "cuda", "mps"}, torch.device or None, default=None
        Where to compute; None follows `X`.

    Attributes
    ----------
    labels_ : array of shape (n_samples,)
        Cluster of each row, numbered in order of their first rows; -1 for noise.
    n_clusters_ : int
        Number of clusters.
    cluster_magnitudes_ : array of shape (n_clusters,)
        Magnitude of each cluster.
    threshold_ : float
        The threshold: the one given or, for "persistent", the geometric mean of the ends of the
        chosen run's interval; infinite if there is only one cluster.
    t_ : float
        The scale.
    intervals_ : array of shape (n_runs, 2)
        Largest accepted and smallest refused gain of each run, from the largest thresholds down:
        any threshold above the first and up to the second makes this run. Only with
        ``threshold="persistent"``.
    counts_ : array of shape (n_runs,)
        Number of clusters that are large enough in each run. Only with
        ``threshold="persistent"``.
    sample_indices_ : array of shape (n_drawn,)
        Rows among which the clusters were found, ascending. Only with `max_samples`.
    persistent_interval_ : array of shape (2,)
        Ends of the chosen stretch of thresholds, as far down as it had to be followed. Only with
        ``threshold="persistent"``.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where X has names.

    See Also
    --------
    ClusterPersistenceDisplay : Number of clusters against the threshold.
    MagnitudeOutlierDetector : Says how far a point is from the others.

    Notes
    -----
    A run is the same for every threshold above its largest accepted gain and up to its smallest
    refused one. So the sweep over thresholds needs no grid: each next threshold is the largest
    gain that the run before accepted. Counted are the clusters of at least `min_cluster_size` rows
    (and of two rows at least). The longest stretch of thresholds with the same count, two or
    more, on a logarithmic axis is chosen, and of its runs the one with the largest thresholds,
    which leaves the fewest points out. Where no threshold gives two clusters all rows are in one.
    The sweep ends when the thresholds that are left, down to a proven bound below which there
    cannot be two clusters, are no longer than the longest stretch so far.

    Which points are neighbours is decided by distances that are short beside 1 / t, so clusters may
    have any shape but must be separated. They depend, usually little, on the first point.

    For n distinct points a run takes up to n^3 / 3 operations and at most about 5 n^2 bytes (n =
    5,000: under twenty seconds). The sweep keeps what its runs share, which takes up to about
    60 n^2 bytes, and costs as much as a few runs (n = 5,000: a good minute). Besides there is a
    copy of the rows, and the median distance of ``t="scale"`` takes 40 million bytes. A fit that
    would need more than is free stops with a MemoryError. With `max_samples` n is their number; the
    other rows are labelled in blocks that fit scikit-learn's ``working_memory``, as the queries of
    :meth:`predict` are. Copies of a point are one point, with one label, but count as rows for
    `min_cluster_size`.

    A callback that stops the fit early leaves the points that were not yet reached as noise or,
    for "persistent", the choice among the runs so far.

    References
    ----------
    R. Andreeva, J. Ward, P. Skraba, J. Gao, R. Sarkar, "Approximating metric magnitude of point
    sets", Algorithm 4 and section 4.2.

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from sklearn.metrics import adjusted_rand_score
    >>> from skmag import MagnitudeClustering
    >>> X, y = make_moons(200, noise=0.05, random_state=0)
    >>> model = MagnitudeClustering(random_state=0).fit(X)
    >>> model.n_clusters_
    2
    >>> bool(adjusted_rand_score(y, model.labels_) > 0.95)
    True
    >>> model.predict([[0.0, 1.0], [1.0, -0.5], [5.0, 5.0]])
    array([ 0,  1, -1])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "t": [Interval(Real, 0, None, closed="neither"), StrOptions({"scale"})],
        "threshold": [Interval(Real, 0, None, closed="neither"), StrOptions({"persistent"})],
        "metric": [str, callable],
        "metric_params": [dict, None],
        "min_cluster_size": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            StrOptions({"auto"}),
        ],
        "max_samples": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="right"),
            None,
        ],
        "solver": [StrOptions({"auto", *SOLVERS})],
        "tol": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
        "device": [str, torch.device, None],
    }

    def __init__(
        self,
        t: Any = "scale",
        threshold: Any = "persistent",
        *,
        metric: Any = "euclidean",
        metric_params: dict[str, Any] | None = None,
        min_cluster_size: Any = "auto",
        max_samples: int | float | None = None,
        solver: str = "auto",
        tol: float = 1e-6,
        random_state: Any = None,
        device: Any = None,
    ) -> None:
        self.t = t
        self.threshold = threshold
        self.metric = metric
        self.metric_params = metric_params
        self.min_cluster_size = min_cluster_size
        self.max_samples = max_samples
        self.solver = solver
        self.tol = tol
        self.random_state = random_state
        self.device = device

    @fit_context(prefer_skip_nested_validation=True)
    @with_callbacks
    def fit(self, X: Any, y: Any = None) -> MagnitudeClustering:
        """Find the clusters of a set.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
            Points; their distances if ``metric="precomputed"``.
        y : None
            Ignored.

        Returns
        -------
        MagnitudeClustering
            The fitted clusterer.

        Raises
        ------
        ValueError
            If an argument is not usable, or the similarity is not positive definite, so that
            gains have no meaning.
        MemoryError
            If a run, or what the sweep keeps of several, does not fit; `max_samples` does.
        numpy.linalg.LinAlgError
            If the similarity matrix of a cluster has no inverse.
        """
        X = validate_data(self, detached(X))
        kind = ArrayKind.of(X)
        self._metric = resolve_metric(self.metric, self.metric_params, X)
        with named_memory_errors(X.shape[0], "a smaller max_samples needs less"):
            every = validated_tensor(X, self._metric, resolve_device(self.device, X))
            random_state = check_random_state(self.random_state)
            self._drawn = self._draw(len(every), random_state)
            data = self._columns(every)
            if self._drawn is not None:
                data = data[torch.from_numpy(self._drawn)]
                self.sample_indices_ = kind.wrap(self._drawn)
            labels = self._clustered(data, X, random_state)
            self._answers = ClusterAnswers.of(
                data, labels, self._metric, self.t_, self.solver, self.tol
            )
            if self._drawn is not None:
                found, labels = labels, self._joined(every)
                labels[self._drawn] = found
        self.labels_ = kind.wrap(labels)
        magnitudes = [part.magnitude for part in self._answers.members.parts]
        self.cluster_magnitudes_ = kind.wrap(np.array(magnitudes, dtype=np.float64))
        return self

    def _clustered(
        self, data: torch.Tensor, X: Any, random_state: np.random.RandomState
    ) -> np.ndarray:
        """Labels of the rows among which clusters are found."""
        similarity, scale = Similarity.of(data, self._metric), check_scale(self.t)
        median = similarity.median_distance() if scale is None else 1.0
        similarity = similarity.at(resolve_scale(scale, "clustering", median))
        first = int(random_state.randint(len(similarity)))
        min_rows = self._min_rows(len(data))
        persistent = self.threshold == "persistent"
        with fit_task(self, None if persistent else self._n_batches(similarity), X) as steps:
            if persistent:
                kind = ArrayKind.of(X)
                clusters, min_rows = self._sweep(similarity, first, min_rows, steps, kind)
            else:
                clusters = self._run(similarity, first, steps)
        labels = numbered(clusters[as_numpy(similarity.group)], min_rows)
        self.t_ = similarity.t
        self.n_clusters_ = int(labels.max(initial=-1)) + 1
        return labels

    def predict(self, X: Any) -> Any:
        """Find the cluster that each point would join.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features) or (n_queries, n_samples)
            Queries; distances to all training rows if ``metric="precomputed"``.

        Returns
        -------
        array of shape (n_queries,)
            Cluster whose magnitude would grow least, or -1 where that gain is not below
            `threshold_`. A query on top of a training row has its label.
        """
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="cluster_magnitudes_", method="predict")
        X = validate_data(self, detached(X), reset=False)
        return ArrayKind.of(X).wrap(self._joined(X))

    def _draw(self, n_rows: int, random_state: np.random.RandomState) -> np.ndarray | None:
        """Rows among which clusters are found; None for all, without a draw."""
        wanted = self.max_samples
        if wanted is None:
            return None
        if not isinstance(wanted, Integral):
            wanted = max(1, math.floor(wanted * n_rows))
        if wanted >= n_rows:
            return np.arange(n_rows)
        return np.sort(random_state.choice(n_rows, int(wanted), replace=False))

    def _columns(self, data: torch.Tensor) -> torch.Tensor:
        """Points as they are; of precomputed distances, those to the rows that were drawn."""
        if self._drawn is None or not self._metric.precomputed:
            return data
        return data[:, torch.from_numpy(self._drawn)]

    def _joined(self, X: Any) -> np.ndarray:
        """Cluster that each validated query would join, in blocks that fit the working memory."""
        answers, labels = self._answers, np.empty(X.shape[0], dtype=np.int64)
        # Copies of a query, and what each cluster says of it.
        bytes_per_row = 8 * (4 * X.shape[1] + 4 * self.n_clusters_ + 16)
        for rows in block_slices(len(labels), rows_per_block(bytes_per_row, len(labels))):
            part = query_tensor(X[rows, :], "X", self._metric, X.shape[1], answers.device)
            labels[rows] = answers.labels(self._columns(part), self.threshold_)
        return labels

    def _min_rows(self, n_rows: int) -> int:
        """Rows that a cluster needs."""
        size = self.min_cluster_size
        if size == "auto":
            return max(5, math.ceil(0.05 * n_rows))
        return int(size) if isinstance(size, Integral) else max(1, math.ceil(size * n_rows))

    def _n_batches(self, similarity: Similarity) -> int:
        return math.ceil((len(similarity) - 1) / _BATCH)

    def _run(self, similarity: Similarity, first: int, steps: Steps) -> np.ndarray:
        """Cluster of each distinct point at the given threshold."""
        self.threshold_ = float(self.threshold)
        run = Run(similarity, first, revisable=False)
        for _ in steps(_batches(run.grow(self.threshold_))):
            pass
        return run.clusters()

    def _sweep(
        self, similarity: Similarity, first: int, min_rows: int, steps: Steps, kind: ArrayKind
    ) -> tuple[np.ndarray, int]:
        """Cluster of each distinct point at the persistent threshold, and the rows it takes."""
        sweep = Sweep(similarity, first, max(2, min_rows))
        for _ in steps(sweep.runs()):
            pass
        intervals, counts = np.array(sweep.intervals), np.array(sweep.counts)
        begin, end = sweep.chosen
        lower, upper = sweep.intervals[begin]
        self.threshold_ = math.sqrt(lower) * math.sqrt(upper) if lower > 0 else upper
        self.intervals_, self.counts_ = kind.wrap(intervals), kind.wrap(counts)
        self.persistent_interval_ = kind.wrap(np.array([intervals[end - 1, 0], upper]))
        # All in one cluster, however few they are.
        return sweep.clusters, max(2, min_rows) if counts[begin] >= 2 else 1

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # A table of distances is indexed on both axes, and holds nothing negative.
        tags.input_tags.pairwise = self.metric == "precomputed"
        tags.input_tags.positive_only = self.metric == "precomputed"
        tags.array_api_support = True
        return tags


def _batches(choices: Iterator[Choice]) -> Iterator[int]:
    """Take steps, and yield after each hundred of them and after the last."""
    taken = 0
    for taken, _ in enumerate(choices, 1):
        if taken % _BATCH == 0:
            yield taken
    if taken % _BATCH:
        yield taken
