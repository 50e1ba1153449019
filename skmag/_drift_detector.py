"""Whether new batches still come from where a reference came from, and which rows say so."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from math import ceil, comb
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from skmag._arrays import ArrayKind, PortableEstimator, as_tensor, detached, resolve_device
from skmag._compat import Interval, StrOptions, check_same_namespace, fit_context
from skmag._moved_rows import MovedRows
from skmag._out_of_memory import named_memory_errors
from skmag._scale import check_scales
from skmag._solvers import SOLVERS, stack_level
from skmag._two_sample import (
    TwoSampleTestResult,
    checked_statistics,
    magnitude_two_sample_test,
)
from skmag._union import shared_metric

# Up to this many rows of either sample block_size="auto" compares all rows at once.
_COMPARED_AT_ONCE = 1000
# Beyond it, the size of blocks: those of 250 rows take three times the time.
_BLOCK_SIZE = 100


@dataclass(frozen=True)
class DriftReport:
    """What :meth:`MagnitudeDriftDetector.report` found in a batch.

    Rows are ranked by the statistic that decided, at the scale at which it did. "magnitude": the
    residual of a row beside the other sample, from 0 for rows that are there too to 1 for rows far
    from all that is there. "mmd": the witness, which is the mean similarity of a row to its own
    sample less that to the other one; the means of `moved` and `lost` add up to the squared MMD.

    Parameters
    ----------
    drift : bool
        Whether the p-value is at most the detector's `alpha`.
    pvalue : float
        P-value of the test.
    statistic : float
        Its statistic, the greatest standard score.
    deciding_statistic : {"magnitude", "mmd"}
        Name of the statistic that has it.
    deciding_scale : float
        Scale at which it has it.
    moved : array of shape (n_batch,)
        How much each row of the batch stands where the reference has too little.
    lost : array of shape (n_reference,)
        How much each row of the reference stands where the batch has too little.
    weights : array of shape (n_batch,)
        Weight of each row of the batch in the union of batch and reference, at the same scale:
        large for rows at the rim of all that is there, whether or not they moved. None where the
        magnitude is not among the statistics, and for unions of more than 20,000 points.
    test : TwoSampleTestResult
        The whole test, with all statistics at all scales.

    See Also
    --------
    MagnitudeDriftDetector : Makes the report.
    MovedPointsDisplay : Draws the rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skmag import MagnitudeDriftDetector
    >>> rng = np.random.default_rng(0)
    >>> detector = MagnitudeDriftDetector(random_state=0).fit(rng.normal(size=(200, 2)))
    >>> batch = rng.normal(size=(50, 2))
    >>> batch[:10] += 4
    >>> report = detector.report(batch)
    >>> report.drift
    True
    >>> sorted(report.moved.argsort()[-10:].tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """

    drift: bool
    pvalue: float
    statistic: float
    deciding_statistic: str
    deciding_scale: float
    moved: Any = field(repr=False)
    lost: Any = field(repr=False)
    weights: Any = field(repr=False)
    test: TwoSampleTestResult = field(repr=False)


class MagnitudeDriftDetector(PortableEstimator, BaseEstimator):
    """Detector of drift: tests each new batch against a reference, and says which rows moved.

    Parameters
    ----------
    t : float, "scale" or sequence of these, default=None
        Positive scales that multiply the distances, as for :func:`magnitude_two_sample_test`.
        None takes 0.1, 1, 4 and 16 over the median distance.
    statistics : {"magnitude", "mmd"} or sequence of these, default=("magnitude", "mmd")
        What to compare.
    alpha : float, default=0.05
        Share of false alarms among batches that come from where the reference came from.
    n_resamples : int, default=199
        Number of random labellings of each test. The least p-value is ``1 / (1 + n_resamples)``,
        and more where a batch and the reference are so small that there are fewer labellings.
    block_size : int, "auto" or None, default="auto"
        Most rows of the smaller sample in a block, as for :func:`magnitude_two_sample_test`; None
        compares all rows at once. "auto" does so up to 1,000 rows of either, and takes 100 beyond.
    max_blocks : int, default=None
        Most blocks, with which the time of an answer grows; None takes every row of a batch.
    solver : {"auto", "line", "cholesky", "mixed", "indefinite", "cg", "sparse"}, default="auto"
        As for :func:`weighting`; takes part in :meth:`report` only.
    tol : float, default=1e-6
        Relative tolerance of an iterative solver.
    n_jobs : int, default=None
        Jobs that share the work of a test. None is one, unless a
        :obj:`joblib.parallel_backend` says otherwise.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`, but not "precomputed".
    metric_params : dict, default=None
        Further arguments of the metric.
    device : {"auto", "cpu", "cuda", "mps"}, torch.device or None, default=None
        Where to compute; None follows `X`.
    random_state : int, RandomState instance or None, default=None
        Draws the labellings, once in `fit`: the same batch always gets the same answer.

    Attributes
    ----------
    reference_ : array of shape (n_reference, n_features)
        The reference.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where X has names.

    See Also
    --------
    magnitude_two_sample_test : The test behind every answer.
    MagnitudeOutlierDetector : Judges rows one by one; drift can be a change without outliers.

    Notes
    -----
    Each answer is that of a batch, not of its rows. A batch has a false alarm with probability at
    most `alpha`, whatever the distribution and the sizes: the permutation test is exact. That is
    so on average over references. Given one reference, the rate differs from reference to
    reference, and alarms of several batches are not independent, since they share it: a small
    reference that happens to be unusual makes many batches look unusual. Among B batches without
    drift expect ``alpha * B`` false alarms; for at most a share `alpha` of streams of B batches
    with any false alarm, use ``alpha / B`` and `n_resamples` of at least ``B / alpha - 1``.

    Rows are ranked by residuals where the magnitude distance decides: on images, gains rank them
    worse. A row that the other sample has too never counts as moved there, while the witness of the
    MMD sees that a place has become more or less dense.

    At once, a test of a batch of m rows beside n takes O((n + m)^3) operations,
    O(min(n, m)^3) more for each labelling and scale, and ``8 (1 + 4 n_jobs) (n + m)^2`` bytes
    beside the samples. By blocks of b rows it takes O(min(n, m) b^2) for each labelling and scale,
    and ``128 (1 + 4 n_jobs) b^2`` bytes (6.4 million for 100 rows and one job) beside three
    copies of the samples and what scikit-learn's ``working_memory`` allows. A batch beside a
    reference that is more than three times as large is compared with so many of its rows, drawn
    anew for each batch size but the same for batches that are as large.

    A report takes all (n + m)^2 / 2 distances where the MMD decides, without storing them. Where
    the magnitude distance decides it takes the weightings of both samples, of which those of more
    than about 10,000 points answer from near points only, and `weights` that of the union, which
    is left out beyond 20,000 points.

    References
    ----------
    S. Torkamani, H. Gouk, R. Sarkar, "Magnitude distance: a geometric measure of dataset
    similarity", sections 4 and 5.3.

    Examples
    --------
    A monitoring loop:

    >>> import numpy as np
    >>> from skmag import MagnitudeDriftDetector
    >>> rng = np.random.default_rng(0)
    >>> detector = MagnitudeDriftDetector(alpha=0.01, random_state=0)
    >>> detector = detector.fit(rng.normal(size=(200, 3)))
    >>> for scale in [1.0, 1.0, 1.6]:
    ...     batch = rng.normal(scale=scale, size=(60, 3))
    ...     if detector.predict(batch):
    ...         report = detector.report(batch)
    ...         print(f"scale {scale}: p = {report.pvalue}")
    scale 1.6: p = 0.005
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "t": [
            Interval(Real, 0, None, closed="neither"),
            StrOptions({"scale"}),
            "array-like",
            None,
        ],
        "statistics": [StrOptions({"magnitude", "mmd"}), "array-like"],
        "alpha": [Interval(Real, 0, 1, closed="neither")],
        "n_resamples": [Interval(Integral, 1, None, closed="left")],
        "block_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"}), None],
        "max_blocks": [Interval(Integral, 1, None, closed="left"), None],
        "solver": [StrOptions({"auto", *SOLVERS})],
        "tol": [Interval(Real, 0, 1, closed="neither")],
        "n_jobs": [Integral, None],
        "metric": [str, callable],
        "metric_params": [dict, None],
        "device": [str, torch.device, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        t: Any = None,
        *,
        statistics: Any = ("magnitude", "mmd"),
        alpha: float = 0.05,
        n_resamples: int = 199,
        block_size: Any = "auto",
        max_blocks: int | None = None,
        solver: str = "auto",
        tol: float = 1e-6,
        n_jobs: int | None = None,
        metric: Any = "euclidean",
        metric_params: dict[str, Any] | None = None,
        device: Any = None,
        random_state: Any = None,
    ) -> None:
        self.t = t
        self.statistics = statistics
        self.alpha = alpha
        self.n_resamples = n_resamples
        self.block_size = block_size
        self.max_blocks = max_blocks
        self.solver = solver
        self.tol = tol
        self.n_jobs = n_jobs
        self.metric = metric
        self.metric_params = metric_params
        self.device = device
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> MagnitudeDriftDetector:
        """Remember the reference.

        Parameters
        ----------
        X : array-like of shape (n_reference, n_features)
            Rows from before any drift.
        y : None
            Ignored.

        Returns
        -------
        MagnitudeDriftDetector
            The fitted detector.

        Raises
        ------
        ValueError
            If an argument is not usable; the message names it.
        """
        X = validate_data(self, detached(X))
        place = resolve_device(self.device, X)
        checked_statistics(self.statistics)
        if self.t is not None:
            check_scales(self.t, "t")
        if self.max_blocks is not None and self.block_size is None:
            raise ValueError(
                f"max_blocks={self.max_blocks!r} needs a block_size; with block_size=None all rows "
                "are compared at once"
            )
        # Each test learns its metric anew, from batch and reference.
        shared_metric([], self.metric, self.metric_params)
        if self.alpha < 1 / (1 + self.n_resamples):
            raise ValueError(
                f"alpha={self.alpha!r} is below the least p-value of "
                f"n_resamples={self.n_resamples!r}, which is {1 / (1 + self.n_resamples):.3g}: "
                f"there could be no alarm; use n_resamples={ceil(1 / self.alpha) - 1} or more"
            )
        self.reference_ = ArrayKind.of(X).wrap(as_tensor(X, place))
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None) -> MagnitudeDriftDetector:
        """Add rows to the reference; the first call is :meth:`fit`.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Further rows from before any drift.
        y : None
            Ignored.

        Returns
        -------
        MagnitudeDriftDetector
            The detector, fitted on all rows so far.

        Raises
        ------
        ValueError
            If an argument is not usable; the message names it.
        """
        if not hasattr(self, "reference_"):
            return self.fit(X)
        check_same_namespace(X, self, attribute="reference_", method="partial_fit")
        X = validate_data(self, detached(X), reset=False)
        place = resolve_device(self.device, X)
        rows = torch.cat([as_tensor(own, place, copy=False) for own in (self.reference_, X)])
        self.reference_ = ArrayKind.of(X).wrap(rows)
        return self

    def predict(self, X: Any) -> Any:
        """Tell whether a batch has drifted.

        Parameters
        ----------
        X : array-like of shape (n_batch, n_features)
            The batch.

        Returns
        -------
        array of shape ()
            Whether the p-value is at most `alpha`: one answer for the whole batch.
        """
        X, result = self._tested(X, "predict")
        return ArrayKind.of(X).wrap(torch.tensor(result.pvalue <= self.alpha))

    def score(self, X: Any, y: Any = None) -> float:
        """Measure how far a batch has drifted.

        Parameters
        ----------
        X : array-like of shape (n_batch, n_features)
            The batch.
        y : None
            Ignored.

        Returns
        -------
        float
            Statistic of the test: the greatest distance from the reference in units of the
            standard deviations that it has by chance. More is more drift. It goes on growing
            where the p-value cannot fall any more.
        """
        return self._tested(X, "score")[1].statistic

    def report(self, X: Any) -> DriftReport:
        """Tell whether a batch has drifted, how, and which rows moved.

        Parameters
        ----------
        X : array-like of shape (n_batch, n_features)
            The batch.

        Returns
        -------
        DriftReport
            The answer, with a score for each row of batch and reference.
        """
        X, result = self._tested(X, "report")
        kind, place = ArrayKind.of(X), resolve_device(self.device, X)
        metric = shared_metric([self.reference_, X], self.metric, self.metric_params)
        name, t = result.deciding_statistic, result.deciding_scale
        way_out = "statistics='mmd' and a smaller working_memory of scikit-learn need less"
        with named_memory_errors(self.reference_.shape[0] + X.shape[0], way_out):
            rows = MovedRows.of(as_tensor(self.reference_, place), as_tensor(X, place), metric, t)
            lost, moved = rows.ranked(name, self.solver, self.tol)
            # Without the magnitude any metric will do, also one without an inverse.
            asked = "magnitude" in result.statistics
            weights = rows.weights(self.solver, self.tol) if asked else None
        return DriftReport(
            drift=result.pvalue <= self.alpha,
            pvalue=result.pvalue,
            statistic=result.statistic,
            deciding_statistic=name,
            deciding_scale=t,
            moved=kind.wrap(moved),
            lost=kind.wrap(lost),
            weights=kind.wrap(weights) if weights is not None else None,
            test=result,
        )

    def _tested(self, X: Any, method: str) -> tuple[Any, TwoSampleTestResult]:
        """The validated batch, and its test."""
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="reference_", method=method)
        X = validate_data(self, detached(X), reset=False)
        self._warn_of_small_batches(self.reference_.shape[0], X.shape[0])
        return X, magnitude_two_sample_test(
            self.reference_,
            X,
            t=self.t,
            statistics=self.statistics,
            n_resamples=self.n_resamples,
            rng=self._seed,
            block_size=self._block_size(X.shape[0]),
            max_blocks=self.max_blocks,
            n_jobs=self.n_jobs,
            metric=self.metric,
            metric_params=self.metric_params,
            device=self.device,
        )

    def _block_size(self, n_batch: int) -> int | None:
        """Block size of the test of a batch."""
        if self.block_size != "auto":
            return None if self.block_size is None else int(self.block_size)
        most = max(self.reference_.shape[0], n_batch)
        return None if most <= _COMPARED_AT_ONCE else _BLOCK_SIZE

    def _warn_of_small_batches(self, n: int, m: int) -> None:
        """Warn where there are so few labellings that no p-value can reach alpha."""
        if n + m > self.n_resamples:
            return  # there are as many labellings at least
        labellings = comb(n + m, m)
        # Samples of equal size may change places: every statistic occurs twice.
        least = (2 if n == m else 1) / labellings
        if labellings <= self.n_resamples and least > self.alpha:
            warnings.warn(
                f"a batch of {m} rows beside a reference of {n} can be dealt out in {labellings} "
                f"ways only, so that its p-value is at least {least:.3g}, above "
                f"alpha={self.alpha!r}: there can be no alarm; use larger batches or a larger "
                "alpha",
                UserWarning,
                stacklevel=stack_level(),
            )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        # A batch has one answer, which is neither permuted with its rows nor made of answers for
        # them. No tag says so; this one has scikit-learn not ask for it.
        tags.non_deterministic = True
        return tags
