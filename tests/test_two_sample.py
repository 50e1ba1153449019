from itertools import combinations
from math import comb

import array_api_strict
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.stats
import sklearn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import dense, normal
from scipy.spatial.distance import cdist, pdist

from skmag import magnitude_distance, magnitude_two_sample_test

GRID = np.array([0.1, 1.0, 4.0, 16.0])


def samples(n=12, m=15, d=3, shift=0.0):
    return normal(n, d, 0), normal(m, d, 1) + shift


def magnitude(X, t):
    return np.linalg.inv(dense(np.unique(X, axis=0), t)).sum()


def discrepancy(X, Y, t):
    within = [np.exp(-t * cdist(own, own)).mean() for own in (X, Y)]
    return sum(within) - 2 * np.exp(-t * cdist(X, Y)).mean()


def naive_values(Z, own, ts):
    """Both statistics at each scale for one way to deal the rows of Z out."""
    X, Y = Z[list(own)], np.delete(Z, list(own), axis=0)
    distances = [2 * magnitude(Z, t) - magnitude(X, t) - magnitude(Y, t) for t in ts]
    return np.array([*distances, *[discrepancy(X, Y, t) for t in ts]])


@pytest.mark.parametrize(("n", "m"), [(3, 4), (4, 4), (5, 2), (1, 6)])
def test_all_labellings_by_brute_force(n, m):
    X, Y = samples(n, m, 2)
    Z = np.vstack([X, Y])
    ts = GRID / np.median(pdist(Z))
    values = np.array([naive_values(Z, own, ts) for own in combinations(range(n + m), n)])
    scores = (values - values.mean(0)) / values.std(0)
    greatest = scores.max(1)

    result = magnitude_two_sample_test(X, Y)
    np.testing.assert_allclose(result.scales, ts)
    np.testing.assert_allclose(result.observed.ravel(), values[0], rtol=1e-9)
    np.testing.assert_allclose(result.scores.ravel(), scores[0], atol=1e-8)
    np.testing.assert_allclose(
        result.pvalues.ravel(), (values >= values[0] - 1e-12).mean(0), rtol=1e-12
    )
    np.testing.assert_allclose(np.sort(result.null_distribution), np.sort(greatest), atol=1e-8)
    assert result.statistic == pytest.approx(greatest[0])
    assert result.pvalue == pytest.approx((greatest >= greatest[0] - 1e-9).mean())
    best = int(scores[0].argmax())
    assert result.deciding_statistic == ("magnitude" if best < 4 else "mmd")
    assert result.deciding_scale == pytest.approx(ts[best % 4])


@pytest.mark.parametrize("statistics", ["magnitude", "mmd", ("magnitude", "mmd")])
def test_the_level_is_exact_on_tiny_sets(statistics):
    # Under the null each labelling is as likely to be the observed one. However the labellings
    # are drawn, no more than a share p of them may have a p-value of p or less.
    Z = normal(7, 2)
    found = []
    for own in combinations(range(7), 3):
        X, Y = Z[list(own)], np.delete(Z, list(own), axis=0)
        found.append(magnitude_two_sample_test(X, Y, statistics=statistics).pvalue)
    found = np.array(found)
    shares = np.array([(found <= p).mean() for p in found])
    np.testing.assert_allclose(shares, found)


def test_the_level_of_random_labellings():
    # 300 draws at level 0.2: rejections within five standard deviations of 60.
    rng = np.random.default_rng(0)
    rejected = sum(
        magnitude_two_sample_test(
            rng.normal(size=(8, 1)), rng.normal(size=(10, 1)), n_resamples=19, rng=rng
        ).pvalue
        < 0.2 + 1e-9
        for _ in range(300)
    )
    assert abs(rejected - 60) < 5 * np.sqrt(300 * 0.2 * 0.8)


def test_exact_p_values_are_scipys():
    X, Y = samples(4, 5, 2)
    Z = np.vstack([X, Y])

    def distance(i, j):
        return magnitude_distance(Z[i], Z[j], t=1.0)

    # scipy permutes along one axis; points of two features go by their rows.
    rows = np.arange(4), np.arange(4, 9)
    peer = scipy.stats.permutation_test(
        rows, distance, alternative="greater", vectorized=False, n_resamples=np.inf
    )
    ours = magnitude_two_sample_test(X, Y, t=1.0, statistics="magnitude")
    assert ours.pvalue == pytest.approx(peer.pvalue)
    assert float(ours.observed[0, 0]) == pytest.approx(peer.statistic)
    assert len(ours.null_distribution) == len(peer.null_distribution) == comb(9, 4)


def test_random_p_values_are_scipys():
    # Its (b + 1) / (n + 1), and a null distribution without the observed labelling.
    result = magnitude_two_sample_test(*samples(), n_resamples=99, rng=0)
    assert len(result.null_distribution) == 99
    beyond = (result.null_distribution >= result.statistic).sum()
    assert result.pvalue == pytest.approx((beyond + 1) / 100)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1e-6, 0.5, 1e8]))
def test_invariance(seed, unit):
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(11, 2)), rng.normal(size=(14, 2))
    plain = magnitude_two_sample_test(X, Y, n_resamples=49, rng=seed)
    shuffled = rng.permutation(X), rng.permutation(Y)
    for first, second in (shuffled, (Y, X), (unit * X, unit * Y)):
        other = magnitude_two_sample_test(first, second, n_resamples=49, rng=seed)
        assert other.pvalue == plain.pvalue
        np.testing.assert_allclose(other.statistic, plain.statistic, rtol=1e-8)
        np.testing.assert_allclose(other.scores, plain.scores, atol=1e-7)
    # The test has scales in units of the data.
    np.testing.assert_allclose(unit * np.asarray(other.scales), plain.scales, rtol=1e-12)


def test_swapping_samples_of_one_size():
    X, Y = samples(12, 12)
    one, other = (
        magnitude_two_sample_test(*own, n_resamples=49, rng=0) for own in [(X, Y), (Y, X)]
    )
    assert one.pvalue == other.pvalue
    np.testing.assert_allclose(one.null_distribution, other.null_distribution, atol=1e-9)
    np.testing.assert_allclose(one.statistic, other.statistic, rtol=1e-9)


def test_observed_values_are_magnitude_distances():
    X, Y = samples(20, 30)
    X[3] = Y[4] = X[0]
    ts = [1e-3, 0.3, "scale", 40.0]
    result = magnitude_two_sample_test(X, Y, t=ts, n_resamples=9)
    expected = magnitude_distance(X, Y, t=ts)
    np.testing.assert_allclose(result.observed[0], expected, rtol=1e-9)
    expected = [discrepancy(X, Y, t) for t in result.scales]
    np.testing.assert_allclose(result.observed[1], expected, rtol=1e-9)
    assert result.scales[2] == pytest.approx(1 / np.median(pdist(np.unique([*X, *Y], axis=0))))


def test_one_statistic_at_one_scale():
    X, Y = samples()
    for name in ("magnitude", "mmd"):
        alone = magnitude_two_sample_test(X, Y, t=0.5, statistics=name, n_resamples=99, rng=0)
        assert alone.statistics == (name,)
        assert alone.deciding_statistic == name
        assert alone.deciding_scale == 0.5
        assert alone.observed.shape == alone.scores.shape == alone.pvalues.shape == (1, 1)
        assert alone.statistic == alone.scores[0, 0]
        assert alone.pvalue == alone.pvalues[0, 0]
    both = magnitude_two_sample_test(X, Y, t=0.5, n_resamples=99, rng=0)
    assert both.statistic == both.scores.max()


def correlated(rng):
    return rng.normal(size=(60, 2)), rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], size=60)


def shifted(rng):
    return rng.normal(size=(60, 2)), rng.normal(size=(60, 2)) + 0.8


@pytest.mark.parametrize(("draw", "statistic"), [(correlated, "magnitude"), (shifted, "mmd")])
def test_differences_are_seen_by_the_statistic_that_is_good_at_them(draw, statistic):
    decided = []
    for seed in range(5):
        result = magnitude_two_sample_test(
            *draw(np.random.default_rng(seed)), n_resamples=99, rng=0
        )
        assert result.pvalue <= 0.02
        decided.append(result.deciding_statistic)
    assert decided.count(statistic) >= 4


ONES = np.ones((4, 2))
DEGENERATE = {
    "one point a side": ([[0.0, 0.0]], [[1.0, 3.0]], 1.0),
    "one and the same point": ([[1.0, 2.0]], [[1.0, 2.0]], 1.0),
    "constant": (ONES, ONES[:3], 1.0),
    "constant line": (ONES[:, :1], ONES[:3, :1], 1.0),
    "one against two, extreme": ([[9.0]], [[0.0], [1.0]], 1 / 3),
    "two values apart": ([[0.0]] * 3, [[1.0]] * 3, 0.1),
    "two values, equal shares": ([[0.0], [1.0]] * 3, [[1.0], [0.0]] * 3, 1.0),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_samples_have_a_valid_p_value(name):
    X, Y, expected = DEGENERATE[name]
    result = magnitude_two_sample_test(X, Y)
    assert result.pvalue == pytest.approx(expected)
    for table in (result.observed, result.scores, result.pvalues, result.null_distribution):
        assert np.isfinite(table).all()
    assert (np.asarray(result.pvalues) > 0).all()


def test_identical_samples():
    X = normal(40, 3)
    result = magnitude_two_sample_test(X, X[::-1], n_resamples=99, rng=0)
    assert result.pvalue == 1.0
    assert not result.observed.any()


@pytest.mark.parametrize("t", [1e-12, 1e12])
def test_extreme_scales(t):
    result = magnitude_two_sample_test(*samples(), t=t, n_resamples=49, rng=0)
    assert np.isfinite(result.scores).all()
    assert 0 < result.pvalue <= 1
    if t == 1e12:
        # All points are apart whoever has them: nothing to be seen, and not its rounding.
        assert not result.scores.any()
        assert result.pvalue == 1.0


def test_scores_do_not_mistake_rounding_for_spread():
    # One point a side: both labellings have the same distance, by different sums.
    X, Y = normal(1, 5, 0), normal(1, 5, 1)
    result = magnitude_two_sample_test(X, Y, t=[1e-6, 0.1, 1.0, 7.0])
    assert not result.scores.any()


def test_rng():
    X, Y = samples()
    whole = [
        magnitude_two_sample_test(X, Y, n_resamples=29, rng=rng).null_distribution
        for rng in (3, np.random.default_rng(3), 4)
    ]
    np.testing.assert_array_equal(whole[0], whole[1])
    assert (whole[0] != whole[2]).any()
    assert 0 < magnitude_two_sample_test(X, Y, n_resamples=9).pvalue <= 1


def test_batches_and_working_memory_change_nothing():
    X, Y = samples()
    whole = magnitude_two_sample_test(X, Y, n_resamples=49, rng=0)
    with sklearn.config_context(working_memory=0.01):
        small = magnitude_two_sample_test(X, Y, n_resamples=49, rng=0)
    batched = magnitude_two_sample_test(X, Y, n_resamples=49, rng=0, batch=7)
    for other in (small, batched):
        assert other.pvalue == whole.pvalue
        np.testing.assert_allclose(other.null_distribution, whole.null_distribution, atol=1e-9)


@pytest.mark.parametrize("metric", ["cityblock", "cosine", "canberra", "mahalanobis"])
def test_metrics(metric):
    X, Y = samples(10, 12, 3, shift=3.0)
    result = magnitude_two_sample_test(X, Y, t=[1.0, 9.0], metric=metric, n_resamples=49, rng=0)
    expected = magnitude_distance(X, Y, metric=metric, t=result.scales)
    # The cosine distance is smooth, which costs digits.
    np.testing.assert_allclose(result.observed[0], expected, rtol=1e-6)
    swapped = magnitude_two_sample_test(Y, X, t=[1.0, 9.0], metric=metric, n_resamples=49, rng=0)
    assert swapped.pvalue == result.pvalue


def test_metric_params():
    X, Y = samples()
    params = {"metric": "minkowski", "metric_params": {"p": 1}, "n_resamples": 19, "rng": 0}
    assert (
        magnitude_two_sample_test(X, Y, **params).statistic
        == magnitude_two_sample_test(X, Y, metric="cityblock", n_resamples=19, rng=0).statistic
    )


KINDS = {
    "list": lambda X: X.tolist(),
    "float32": lambda X: X.astype(np.float32),
    "fortran": np.asfortranarray,
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_input(kind):
    X, Y = (np.round(own, 2) for own in samples())
    plain = magnitude_two_sample_test(X, Y, n_resamples=19, rng=0)
    other = magnitude_two_sample_test(KINDS[kind](X), KINDS[kind](Y), n_resamples=19, rng=0)
    assert other.pvalue == plain.pvalue
    np.testing.assert_allclose(other.scores, plain.scores, rtol=1e-4)
    assert type(other.null_distribution) is np.ndarray


@pytest.mark.parametrize("xp", [torch, array_api_strict])
def test_other_namespaces(xp):
    X, Y = samples()
    plain = magnitude_two_sample_test(X, Y, n_resamples=19, rng=0)
    with sklearn.config_context(array_api_dispatch=True):
        other = magnitude_two_sample_test(xp.asarray(X), xp.asarray(Y), n_resamples=19, rng=0)
    assert type(other.pvalue) is type(other.statistic) is type(other.deciding_scale) is float
    assert other.pvalue == plain.pvalue
    for name in ("null_distribution", "scales", "observed", "scores", "pvalues"):
        own = getattr(other, name)
        assert type(own) is type(xp.asarray(X))
        np.testing.assert_allclose(np.asarray(own), getattr(plain, name), rtol=1e-12)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda():
    X, Y = samples(50, 60)
    plain = magnitude_two_sample_test(X, Y, n_resamples=99, rng=0)
    other = magnitude_two_sample_test(X, Y, n_resamples=99, rng=0, device="cuda")
    assert other.pvalue == plain.pvalue
    np.testing.assert_allclose(other.null_distribution, plain.null_distribution, atol=1e-8)


def test_inputs_are_left_alone():
    X, Y = samples()
    before = X.copy(), Y.copy()
    magnitude_two_sample_test(X, Y, n_resamples=9)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(Y, before[1])


def test_the_result_is_frozen_and_prints_what_matters():
    result = magnitude_two_sample_test(*samples(), n_resamples=9, rng=0)
    with pytest.raises(AttributeError):
        result.pvalue = 0.0
    assert "pvalue=" in repr(result)
    assert "null_distribution" not in repr(result)


BAD = {
    "features": ({"Y": np.ones((3, 2))}, "Y has 2 features but X has 3"),
    "empty": ({"X": np.empty((0, 3))}, "X is empty"),
    "empty list": ({"Y": []}, "Y is empty"),
    "nan": ({"Y": np.full((3, 3), np.nan)}, "Y contains NaN"),
    "one-dimensional": ({"X": np.ones(3)}, "X has one dimension"),
    "t": ({"t": -1.0}, r"t\[0\]=-1.0 must be positive"),
    "t name": ({"t": "median"}, "'median' is not a scale"),
    "no t": ({"t": []}, "t is empty"),
    "statistic": ({"statistics": "energy"}, "statistics='energy' must be one or both"),
    "no statistic": ({"statistics": ()}, "statistics="),
    "twice": ({"statistics": ("mmd", "mmd")}, "each once"),
    "resamples": ({"n_resamples": 0}, "n_resamples=0 must be an integer"),
    "resamples float": ({"n_resamples": 9.5}, "n_resamples=9.5"),
    "resamples bool": ({"n_resamples": True}, "n_resamples=True"),
    "batch": ({"batch": 0}, "batch=0 must be"),
    "rng": ({"rng": -1}, "rng=-1"),
    "rng name": ({"rng": "seed"}, "rng='seed'"),
    "metric": ({"metric": "unknown"}, "metric='unknown'"),
    "precomputed": ({"metric": "precomputed"}, "metric='precomputed' is not supported"),
    "device": ({"device": "abacus"}, "device='abacus'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    change, message = BAD[name]
    X, Y = samples()
    arguments = {"X": X, "Y": Y, "n_resamples": 9} | change
    with pytest.raises(ValueError, match=message):
        magnitude_two_sample_test(**arguments)


def test_metrics_without_magnitudes_still_have_an_mmd():
    def graph(a, b):
        return 0.0 if a[0] == b[0] else 2.0 if a[0] % 2 == b[0] % 2 else 1.0

    points = np.arange(6.0)[:, None] * [[1.0, 0.0]]
    with pytest.raises(ValueError, match="statistics='mmd'"):
        magnitude_two_sample_test(points[::2], points[1::2], metric=graph, t=0.5)
    result = magnitude_two_sample_test(
        points[::2], points[1::2], metric=graph, t=0.5, statistics="mmd"
    )
    assert 0 < result.pvalue <= 1


@pytest.mark.parametrize("statistics", [None, 3, [["mmd"]], ["mmd", 1]])
def test_statistics_of_no_kind_are_named(statistics):
    with pytest.raises(ValueError, match="statistics="):
        magnitude_two_sample_test(np.eye(3), np.eye(3) + 1, statistics=statistics)
