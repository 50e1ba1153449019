import array_api_strict
import numpy as np
import pytest
import torch
from joblib import parallel_config
from reference import dense, normal
from scipy.spatial.distance import cdist, pdist
from scipy.stats import binom
from sklearn import config_context

from skmag import _sample_blocks as sample_blocks
from skmag import magnitude_two_sample_test


def cut(k, n, block_size, max_blocks=None, seed=0):
    rng = np.random.default_rng(seed)
    return sample_blocks._cut(k, n, block_size, max_blocks, rng)


def magnitude(X, t):
    return np.linalg.inv(dense(np.unique(X, axis=0), t)).sum()


def naive_values(X, Y, t):
    """Magnitude distance and squared MMD of two blocks."""
    distance = 2 * magnitude(np.vstack([X, Y]), t) - magnitude(X, t) - magnitude(Y, t)
    within = sum(np.exp(-t * cdist(own, own)).mean() for own in (X, Y))
    return distance, within - 2 * np.exp(-t * cdist(X, Y)).mean()


@pytest.mark.parametrize(("n", "m"), [(23, 23), (31, 20), (20, 60), (20, 500)])
def test_observed_values_are_means_over_the_blocks(n, m):
    X, Y = normal(n, 2, 0), normal(m, 2, 1)
    result = magnitude_two_sample_test(X, Y, t=[0.3, 2.0], block_size=6, n_resamples=5, rng=3)
    # The blocks are cut by the first draws, of samples in an order of their own.
    first, second = sample_blocks._in_order(X, Y)
    rng = np.random.default_rng(3)
    blocks = sample_blocks._cut(len(first), len(second), 6, None, rng)
    for column, t in enumerate([0.3, 2.0]):
        values = [naive_values(first[i], second[j], t) for i, j in blocks]
        np.testing.assert_allclose(result.observed[:, column], np.mean(values, 0), rtol=1e-9)


def test_null_values_deal_out_the_rows_of_each_block():
    # Two blocks of one row a side: every labelling is one of two in either block.
    X, Y = np.array([[0.0], [10.0]]), np.array([[1.0], [14.0]])
    result = magnitude_two_sample_test(X, Y, t=1.0, block_size=1, n_resamples=39, rng=0)
    assert len(result.null_distribution) == 39
    # Neither statistic changes when single rows change places.
    assert result.pvalue == 1.0
    assert not result.null_distribution.any()


@pytest.mark.parametrize("max_blocks", [None, 3])
@pytest.mark.parametrize(("k", "n"), [(7, 7), (20, 21), (50, 55), (40, 1000), (199, 200)])
def test_blocks_are_disjoint_and_as_large_as_allowed(k, n, max_blocks):
    blocks = cut(k, n, 10, max_blocks)
    own, other = (np.concatenate(rows) for rows in zip(*blocks, strict=True))
    for rows, size in ((own, k), (other, n)):
        assert len(np.unique(rows)) == len(rows)
        assert 0 <= rows.min() <= rows.max() < size
    assert len(blocks) == min(-(-k // 10), max_blocks or k)
    assert len(own) == min(k, 10 * len(blocks))
    for i, j in blocks:
        assert len(i) <= 10
        assert len(i) <= len(j)
        assert len(i) + len(j) <= 40


def test_cuts_are_uniform():
    # Each pair of rows of the smaller sample shares a block as often as any other.
    together = np.zeros((6, 6))
    for seed in range(600):
        for i, _ in cut(6, 9, 3, seed=seed):
            together[np.ix_(i, i)] += 1
    counts = together[np.triu_indices(6, 1)]
    # 2 of 5 others are in the block of a row: 240 of 600, with a standard deviation of 12.
    assert np.abs(counts - 240).max() < 5 * 12


def test_neither_the_order_of_rows_nor_of_samples_matters():
    X, Y = normal(40, 2, 0), normal(40, 2, 1)
    X[3] = X[9]
    for own, other in ((X, Y), (X[:25], Y)):
        plain = magnitude_two_sample_test(own, other, block_size=10, n_resamples=29, rng=0)
        for first, second in ((own[::-1], other), (other, own), (other[::-1], own[::-1])):
            found = magnitude_two_sample_test(first, second, block_size=10, n_resamples=29, rng=0)
            assert found.pvalue == plain.pvalue
            np.testing.assert_allclose(found.scores, plain.scores, atol=1e-7)
            np.testing.assert_allclose(found.observed, plain.observed, rtol=1e-9)


def test_negative_zero_is_zero():
    X, Y = np.array([[0.0], [1.0], [2.0], [0.5]]), np.array([[3.0], [4.0], [5.0], [0.1]])
    found = [
        magnitude_two_sample_test(own, Y, block_size=2, n_resamples=9, rng=0).scores
        for own in (X, X * [[-1.0], [1.0], [1.0], [1.0]])
    ]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(("n", "m", "block_size"), [(12, 15, 12), (9, 27, 9), (12, 15, 10**9)])
def test_one_block_is_the_whole(n, m, block_size):
    X, Y = normal(n, 3, 0), normal(m, 3, 1)
    whole = magnitude_two_sample_test(X, Y, n_resamples=19, rng=0)
    found = magnitude_two_sample_test(X, Y, n_resamples=19, rng=0, block_size=block_size)
    np.testing.assert_array_equal(found.null_distribution, whole.null_distribution)
    assert found.pvalue == whole.pvalue


def test_a_small_sample_beside_a_large_one():
    X, Y = normal(8, 2, 0) + 3, normal(4000, 2, 1)
    result = magnitude_two_sample_test(X, Y, block_size=10, n_resamples=99, rng=0)
    assert result.pvalue == 0.01


def test_scales_are_those_of_all_rows():
    X, Y = normal(300, 2, 0), normal(40, 2, 1)
    result = magnitude_two_sample_test(X, Y, block_size=5, n_resamples=3)
    median = np.median(pdist(np.vstack([X, Y])))
    np.testing.assert_allclose(result.scales, np.array([0.1, 1, 4, 16]) / median)


def test_the_level_of_blocks():
    # 200 draws at level 0.2, of unequal samples and with rows that are not looked at.
    rng = np.random.default_rng(0)
    rejected = sum(
        magnitude_two_sample_test(
            rng.normal(size=(9, 2)),
            rng.normal(size=(40, 2)),
            t=1.0,
            n_resamples=9,
            rng=rng,
            block_size=3,
            max_blocks=2,
        ).pvalue
        < 0.2 + 1e-9
        for _ in range(200)
    )
    low, high = binom.interval(0.999, 200, 0.2)
    assert low <= rejected <= high


@pytest.mark.parametrize("change", ["mean", "clump"])
def test_drift_is_seen_through_blocks(change):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(600, 3)), rng.normal(size=(300, 3))
    if change == "mean":
        Y[:, 0] += 0.5
    else:
        Y[:20] = 0.05 * Y[:20] + 1
    result = magnitude_two_sample_test(X, Y, block_size=50, n_resamples=49, rng=0)
    assert result.pvalue == 0.02


@pytest.mark.parametrize("block_size", [None, 8])
def test_jobs_change_nothing(block_size):
    X, Y = normal(30, 2, 0), normal(25, 2, 1)
    arguments = {"n_resamples": 19, "rng": 0, "block_size": block_size}
    plain = magnitude_two_sample_test(X, Y, **arguments)
    shared = magnitude_two_sample_test(X, Y, n_jobs=2, **arguments)
    with parallel_config(backend="loky", n_jobs=2):
        spread = magnitude_two_sample_test(X, Y, **arguments)
    for other in (shared, spread):
        np.testing.assert_array_equal(other.null_distribution, plain.null_distribution)
        np.testing.assert_array_equal(other.observed, plain.observed)


@pytest.mark.parametrize("xp", [torch, array_api_strict])
def test_other_arrays(xp):
    X, Y = normal(30, 2, 0), normal(25, 2, 1)
    plain = magnitude_two_sample_test(X, Y, block_size=6, n_resamples=9, rng=0)
    with config_context(array_api_dispatch=True):
        found = magnitude_two_sample_test(
            xp.asarray(X), xp.asarray(Y), block_size=6, n_resamples=9, rng=0
        )
    assert type(found.observed).__module__.startswith(xp.__name__)
    np.testing.assert_allclose(np.asarray(found.scores), plain.scores, rtol=1e-12)


@pytest.mark.parametrize("metric", ["cosine", "cityblock", "canberra", "seuclidean"])
def test_metrics(metric):
    X, Y = normal(30, 3, 0), normal(25, 3, 1)
    result = magnitude_two_sample_test(X, Y, metric=metric, block_size=6, n_resamples=9, rng=0)
    assert np.isfinite(result.scores).all()


def test_memory_for_the_blocks_is_asked_for_before_work_begins(monkeypatch):
    monkeypatch.setattr("skmag._permutations.available_memory", lambda device: 1e4)
    monkeypatch.setattr(sample_blocks, "_block_values", lambda *args: pytest.fail("began"))
    with pytest.raises(MemoryError, match=r"needs 64,000 bytes for n=40 .*block_size"):
        magnitude_two_sample_test(normal(40, 2), normal(200, 2), block_size=10, n_resamples=9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"block_size": 0}, "block_size=0 must be an integer"),
        ({"block_size": 9.0}, r"block_size=9\.0"),
        ({"block_size": 9, "max_blocks": 0}, "max_blocks=0"),
        ({"max_blocks": 3}, "max_blocks=3 needs a block_size"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        magnitude_two_sample_test(normal(5, 2), normal(5, 2), **arguments)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda():
    X, Y = normal(200, 3, 0), normal(150, 3, 1)
    plain, other = (
        magnitude_two_sample_test(X, Y, n_resamples=29, rng=0, block_size=30, device=device)
        for device in (None, "cuda")
    )
    assert other.pvalue == plain.pvalue
    np.testing.assert_allclose(other.null_distribution, plain.null_distribution, atol=1e-8)
