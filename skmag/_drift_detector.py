"""Whether new batches still come from where a reference came from, and which rows say so."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil, comb
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from skmag._answers import Answers
from skmag._arrays import ArrayKind, as_tensor, detached, resolve_device
from skmag._compat import Interval, StrOptions, check_same_namespace, fit_context
from skmag._metrics import Metric
from skmag._permutations import Pool
from skmag._scale import check_scales
from skmag._similarity import Similarity
from skmag._solvers import stack_level
from skmag._two_sample import (
    TwoSampleTestResult,
    checked_statistics,
    magnitude_two_sample_test,
)
from skmag._union import shared_metric


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
        magnitude is not among the statistics.
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


class MagnitudeDriftDetector(BaseEstimator):
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

    A test takes O((n + m)^3) time once and O(min(n, m)^3) for each labelling and scale.

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
        metric: Any = "euclidean",
        metric_params: dict[str, Any] | None = None,
        device: Any = None,
        random_state: Any = None,
    ) -> None:
        self.t = t
        self.statistics = statistics
        self.alpha = alpha
        self.n_resamples = n_resamples
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
        sets = as_tensor(self.reference_, place), as_tensor(X, place)
        points, first, second = _pooled(*sets, metric, t)
        lost, moved = _RANKINGS[name](points, first, second)
        # Without the magnitude any metric will do, also one whose similarities have no inverse.
        asked = "magnitude" in result.statistics
        weights = union_weights(points, first, second) if asked else None
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
            metric=self.metric,
            metric_params=self.metric_params,
            device=self.device,
        )

    def _warn_of_small_batches(self, n: int, m: int) -> None:
        """Warn where there are so few labellings that no p-value can reach alpha."""
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


def _pooled(
    first: torch.Tensor, second: torch.Tensor, metric: Metric, t: float
) -> tuple[Similarity, torch.Tensor, torch.Tensor]:
    """The distinct points of two sets, as the test tells them apart, and those of their rows."""
    points = Similarity.of(torch.cat([first, second]), metric, t, name="X")
    pool = Pool(points, points.group, np.arange(len(first))).resolved(t)
    return pool.points, pool.group[: len(first)], pool.group[len(first) :]


def residuals(
    points: Similarity, first: torch.Tensor, second: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Residual of each row beside the other set.

    Parameters
    ----------
    points : Similarity
        Distinct points of both sets.
    first, second : int64 tensor of shape (n_rows,)
        Point of each row of either set.

    Returns
    -------
    tuple of two tensors of shape (n_rows,)
        Residuals of the rows of either set; zero for rows that the other set has too.
    """
    out = []
    for own, other in ((first, second), (second, first)):
        known = other.unique()
        asked, where = own.unique(return_inverse=True)
        answers = Answers.of(points.taken(known), "auto", points.device)
        out.append(answers.probe(_as_queries(points, known, asked)).residual[where])
    return out[0], out[1]


def witnesses(
    points: Similarity, first: torch.Tensor, second: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean similarity of each row to its own set less that to the other, as :func:`residuals`."""
    v = torch.zeros(len(points), dtype=torch.float64, device=points.device)
    for own, sign in ((first, 1.0), (second, -1.0)):
        v += sign / len(own) * torch.bincount(own, minlength=len(v)).to(v)
    # The entries of v add up to zero, so that zeta - 1 serves as well and keeps its digits.
    witness = torch.zeros_like(v)
    for rows in points.row_blocks():
        block = torch.expm1(points.distances(rows, slice(rows.start, None)) * -points.t)
        block.diagonal().zero_()
        witness[rows] += block @ v[rows.start :]
        witness[rows.stop :] += block[:, len(block) :].mT @ v[rows]
    return witness[first], -witness[second]


def union_weights(points: Similarity, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Weight of each row of the second set in the union; copies share a point's weight."""
    every = torch.arange(len(points), device=points.device)
    weights = Answers.of(points.taken(every), "auto", points.device).weights
    copies = torch.bincount(torch.cat([first, second]), minlength=len(points))
    return (weights / copies)[second]


def _as_queries(points: Similarity, known: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """Some points as queries to the set of others, which was taken from the same points."""
    if points.points is not None:
        return points.points[asked]
    assert points.table is not None
    return points.table[asked][:, known]


_Ranking = Callable[[Similarity, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
_RANKINGS: dict[str, _Ranking] = {"magnitude": residuals, "mmd": witnesses}
