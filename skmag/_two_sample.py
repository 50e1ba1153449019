"""Whether two samples come from one distribution, by their magnitude distance and their MMD."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import torch

from skmag._arrays import as_tensor
from skmag._input import MetricLike
from skmag._out_of_memory import named_memory_errors
from skmag._permutations import p_values, standard_scores
from skmag._sample_blocks import STATISTICS, Plan, relabelled
from skmag._scale import TEST_GRID, check_scales, per_distance, resolve_scale
from skmag._union import checked_sets, shared_metric


@dataclass(frozen=True)
class TwoSampleTestResult:
    """What :func:`magnitude_two_sample_test` found.

    Arrays are of the caller's kind. Tables have a row for each of `statistics` and a column for
    each of `scales`; their p-values are those of single tests, not corrected for there being many.

    Parameters
    ----------
    statistic : float
        The greatest of the standard scores.
    pvalue : float
        Share of the labellings whose statistic is no less than the observed one, which is among
        them: never zero.
    null_distribution : array of shape (n_labellings,)
        The statistic under the labellings drawn, without the observed one; under all labellings
        if all were taken.
    statistics : tuple of str
        Names of the statistics.
    scales : array of shape (n_scales,)
        The scales.
    deciding_statistic : str
        Name of the statistic with the greatest standard score.
    deciding_scale : float
        Scale at which it has it.
    observed : array of shape (n_statistics, n_scales)
        Magnitude distances, and squared MMD; their means over the blocks, where there are any.
    scores : array of shape (n_statistics, n_scales)
        The same less their mean over their standard deviation under relabelling; zero for
        statistics that no labelling changes.
    pvalues : array of shape (n_statistics, n_scales)
        P-value of each statistic at each scale alone.

    See Also
    --------
    magnitude_two_sample_test : Returns it.

    Examples
    --------
    >>> import numpy as np
    >>> from skmag import magnitude_two_sample_test
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(40, 2)), rng.normal(size=(50, 2)) + 0.8
    >>> result = magnitude_two_sample_test(X, Y, rng=0, n_resamples=199)
    >>> result.pvalue, result.deciding_statistic
    (0.005, 'mmd')
    >>> for name, row in zip(result.statistics, result.pvalues):
    ...     print(name, row)
    magnitude [0.065 0.05  0.135 0.38 ]
    mmd [0.005 0.005 0.015 0.345]
    """

    statistic: float
    pvalue: float
    null_distribution: Any = field(repr=False)
    statistics: tuple[str, ...]
    scales: Any
    deciding_statistic: str
    deciding_scale: float
    observed: Any = field(repr=False)
    scores: Any = field(repr=False)
    pvalues: Any = field(repr=False)


def magnitude_two_sample_test(
    X: Any,
    Y: Any,
    *,
    t: Any = None,
    statistics: str | Sequence[str] = ("magnitude", "mmd"),
    n_resamples: int = 999,
    rng: Any = None,
    batch: int | None = None,
    block_size: int | None = None,
    max_blocks: int | None = None,
    n_jobs: int | None = None,
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
) -> TwoSampleTestResult:
    """Test whether two samples come from one distribution.

    A permutation test, whose level is exact in samples of any size. The statistic is the greatest
    standard score, over scales t, of the magnitude distance and of the MMD with the same kernel
    ``exp(-t d)``; mean and standard deviation are those over the labellings.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        A sample.
    Y : array-like of shape (m_samples, n_features)
        Another sample, of the same features.
    t : float, "scale" or sequence of these, default=None
        Positive scales that multiply the distances. None takes 0.1, 1, 4 and 16 over the median
        distance between distinct points of both samples; "scale" is one over it.
    statistics : {"magnitude", "mmd"} or sequence of these, default=("magnitude", "mmd")
        What to compare. The magnitude distance sees differences in scale, in correlation and
        small clumps, where the MMD sees little, and the MMD sees shifts of the mean.
    n_resamples : int, default=999
        Number of random labellings, 1 or more. If there are no more than that, all are taken.
    rng : int, numpy.random.Generator or None, default=None
        Draws the labellings, in a way that neither the order of rows nor that of the samples
        changes.
    batch : int, default=None
        Number of labellings that are worked on together; None takes as many as fit
        scikit-learn's ``working_memory``. It changes the time, not the result.
    block_size : int, default=None
        None compares all rows at once. Otherwise both samples are cut at random into as many
        blocks as the smaller one needs with at most `block_size` of its rows in each, see Notes;
        samples that are one block are compared as with None. 100 is a good size.
    max_blocks : int, default=None
        Most blocks, with which the time grows. Rows beyond them are not looked at. None looks at
        all rows of the smaller sample.
    n_jobs : int, default=None
        Jobs that share the blocks or, without blocks, the statistics and scales. None is one,
        unless a :obj:`joblib.parallel_backend` says otherwise. It changes the time, not the
        result.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`, but not "precomputed".
    metric_params : mapping, default=None
        Further arguments of the metric.
    device : str, torch.device or None, default=None
        As for :func:`weighting`; None follows `X`.

    Returns
    -------
    TwoSampleTestResult
        The p-value, the statistic with its null distribution, and what decided.

    Raises
    ------
    ValueError
        If an argument is not usable; the message names it.
    MemoryError
        If the matrices of all rows, or of the blocks that are worked on together, do not fit.
    numpy.linalg.LinAlgError
        If it is not positive definite and `statistics` has "magnitude": under metrics that are
        not of negative type, such as "chebyshev", and for rounding under smooth ones, such as
        "cosine", if there are many points of few features.

    See Also
    --------
    magnitude_distance : The distance itself, without a judgement.
    scipy.stats.permutation_test : Permutation tests of any statistic.

    Notes
    -----
    The p-value is ``(1 + b) / (1 + n_resamples)``, b of the labellings drawn having a statistic
    no less than the one observed; if all labellings are taken, their share. Ties count against
    the difference. Scores are standardized over all labellings, the observed one included, which
    is what makes the greatest of them exchangeable and the level exact; the scores are functions
    of the labellings that were drawn, and are to be compared with their null distribution only.

    The magnitude of the union is the same under every labelling. The distance under a labelling
    takes two Cholesky factors of the size of the smaller sample, and on the real line only the
    gaps between points, so that a small sample is compared with a large one at little cost.

    With a `block_size`, the two samples are cut at random into the same number of disjoint blocks,
    each with up to `block_size` rows of the smaller sample and, with those, up to four times as
    many rows in all: of a sample that is more than three times as large the rest is left out, but
    takes part in the median distance. A labelling deals the rows of every block out anew, and its
    statistics are means over the blocks. Rows are exchangeable within every block, so that the
    level is exact as before. Small blocks see less: a squared MMD has a standard error that grows
    with the square root of their number, and the magnitude distance sees clumps and gaps that
    blocks are large enough to show.

    A test of n + m rows takes O((n + m)^3) operations, O(min(n, m)^3) more for each labelling and
    scale, and ``8 (1 + 4 n_jobs) (n + m)^2`` bytes. By blocks of b rows it takes O(min(n, m) b^2)
    for each labelling and scale, and besides copies of the samples at most
    ``128 (1 + 4 n_jobs) b^2`` bytes and what `batch` asks for.

    Copies of a point count once for the magnitude and as often as they are there for the MMD, of
    which the V-statistic is taken. Points closer than 1e-8 of the median distance, or of 1 / t,
    count as one for the magnitude.

    References
    ----------
    S. Torkamani, H. Gouk, R. Sarkar, "Magnitude distance: a geometric measure of dataset
    similarity", sections 5.3 and 6.

    J. Hemerik, J. Goeman, "Exact testing with random permutations", TEST 27 (2018), Theorem 2.

    Examples
    --------
    Two samples of the same mean and variances, one of them correlated:

    >>> import numpy as np
    >>> from skmag import magnitude_two_sample_test
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 2))
    >>> Y = rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], size=100)
    >>> result = magnitude_two_sample_test(X, Y, rng=0)
    >>> result.pvalue
    0.002
    """
    names = checked_statistics(statistics)
    _check_count(n_resamples, "n_resamples")
    for value, name in ((batch, "batch"), (block_size, "block_size"), (max_blocks, "max_blocks")):
        if value is not None:
            _check_count(value, name)
    if max_blocks is not None and block_size is None:
        raise ValueError(
            f"max_blocks={max_blocks!r} needs a block_size; with block_size=None all rows are "
            "compared at once"
        )
    scales = None if t is None else check_scales(t, "t")
    generator = _checked_rng(rng)
    (first, second), kind, place = checked_sets([X, Y], ["X", "Y"], device)
    way_out = "a smaller block_size, fewer n_jobs or a smaller batch need less"
    with named_memory_errors(first.shape[0] + second.shape[0], way_out):
        found = relabelled(
            as_tensor(first, place),
            as_tensor(second, place),
            shared_metric([first, second], metric, metric_params),
            partial(_resolved_grid, scales),
            Plan(names, n_resamples, batch, block_size, max_blocks, n_jobs),
            generator,
        )

    own, grid = found.observed, found.scales
    scores = standard_scores(found.values)
    greatest = scores.amax(1)
    decided = int(scores[own].argmax())
    shape = (len(names), len(grid))
    return TwoSampleTestResult(
        statistic=float(greatest[own]),
        pvalue=float(p_values(greatest, own)),
        null_distribution=kind.wrap(greatest if found.complete else greatest[1:]),
        statistics=names,
        scales=kind.wrap(np.array(grid)),
        deciding_statistic=names[decided // len(grid)],
        deciding_scale=grid[decided % len(grid)],
        observed=kind.wrap(found.values[own].reshape(shape)),
        scores=kind.wrap(scores[own].reshape(shape)),
        pvalues=kind.wrap(p_values(scores, own).reshape(shape)),
    )


def checked_statistics(statistics: str | Sequence[str]) -> tuple[str, ...]:
    names: tuple[Any, ...] = (statistics,)
    if isinstance(statistics, Iterable) and not isinstance(statistics, str):
        names = tuple(statistics)
    known = all(isinstance(name, str) and name in STATISTICS for name in names)
    if not names or not known or len(set(names)) < len(names):
        raise ValueError(
            f"statistics={statistics!r} must be one or both of {list(STATISTICS)}, each once"
        )
    return names


def _check_count(value: Any, name: str) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r} must be an integer of at least 1")


def _checked_rng(rng: Any) -> np.random.Generator:
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"rng={rng!r} must be None, a seed of at least 0 or a numpy.random.Generator"
        ) from error


def _resolved_grid(scales: list[float | None] | None, median: float) -> list[float]:
    if scales is None:
        return [per_distance(number, median) for number in TEST_GRID]
    return [resolve_scale(scale, "distance", median) for scale in scales]
