import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import normal
from scipy.spatial.distance import cdist
from sklearn.datasets import make_blobs

from skmag._cluster_sweep import Sweep, least_threshold
from skmag._clusters import Run
from skmag._metrics import resolve_metric
from skmag._similarity import Similarity


def similarity_of(X, t, metric="euclidean"):
    return Similarity.of(torch.from_numpy(X), resolve_metric(metric, None), t)


def finished(run, threshold):
    for _ in run.grow(threshold):
        pass
    return run


def swept(similarity, first, min_rows):
    sweep = Sweep(similarity, first, min_rows)
    for _ in sweep.runs():
        pass
    return sweep


def full_sweep(similarity, first, min_rows):
    """Interval, count and clusters of every run there is, each from the beginning."""
    threshold, runs = math.inf, []
    while threshold > 0:
        run = finished(Run(similarity, first, revisable=False), threshold)
        sizes = np.bincount(run.clusters(), similarity.counts.numpy())
        runs.append((*run.interval(), int((sizes >= min_rows).sum()), run.clusters()))
        threshold = run.interval()[0] * (1 - 1e-9)
    return runs


def longest(runs):
    """First run, count and length of the longest stretch with the same count, two or more."""
    best, begin = (None, 0, 0.0), 0
    for i, (lower, _, count, _) in enumerate(runs):
        if count != runs[begin][2]:
            begin = i
        length = math.log(runs[begin][1] / lower) if lower > 0 else math.inf
        if count >= 2 and length > best[2]:
            best = (begin, count, length)
    return best


@pytest.mark.parametrize("first", [0, 7])
@pytest.mark.parametrize("kind", ["blobs", "cloud", "line", "copies"])
def test_the_sweep_ends_with_the_longest_stretch_of_all_thresholds(kind, first):
    X = {
        "blobs": make_blobs(45, centers=3, random_state=2)[0],
        "cloud": normal(40, 3),
        "line": normal(40, 1),
        "copies": np.repeat(normal(30, 2), np.arange(30) % 3 + 1, axis=0),
    }[kind]
    similarity = similarity_of(X, 10 / np.median(cdist(X, X)))
    for min_rows in (2, 5):
        sweep, runs = swept(similarity, first, min_rows), full_sweep(similarity, first, min_rows)
        begin, count, length = longest(runs)
        assert begin is not None
        assert sweep.chosen[0] == begin
        assert sweep.counts[begin] == count
        assert (sweep.clusters == runs[begin][3]).all()
        # It stopped somewhere, and had seen what there is up to there.
        seen = len(sweep.counts)
        assert sweep.counts == [run[2] for run in runs[:seen]]
        np.testing.assert_allclose(sweep.intervals, [run[:2] for run in runs[:seen]], rtol=1e-8)
        lower = sweep.intervals[sweep.chosen[1] - 1][0]
        if lower > 0:
            assert math.log(sweep.intervals[begin][1] / lower) <= length * (1 + 1e-9)


def test_the_sweep_stops_early():
    X, _ = make_blobs(90, centers=[[0, 0], [10, 0], [0, 10]], random_state=0)
    similarity = similarity_of(X, 1.0)
    sweep, runs = swept(similarity, 0, 8), full_sweep(similarity, 0, 8)
    assert len(sweep.counts) < len(runs) / 2
    assert sweep.counts[sweep.chosen[0]] == 3


def test_heavy_copies_are_clusters_down_to_every_threshold():
    X = np.repeat([[0.0, 0.0], [1.0, 0.0], [0.0, 7.0]], 6, axis=0)
    sweep = swept(similarity_of(X, 1.0), 0, 5)
    assert sweep.counts[-1] == 3
    assert sweep.intervals[-1][0] == 0
    assert sorted(sweep.clusters.tolist()) == [0, 1, 2]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_sweep_of_few_points_has_one_cluster(n):
    sweep = swept(similarity_of(normal(n, 2), 1.0), 0, 3)
    assert sweep.clusters.tolist() == [0] * n
    assert sweep.chosen == (0, 1)
    assert len(sweep.counts) == 1


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(8, 20),
    d=st.integers(1, 3),
    min_rows=st.integers(2, 4),
    scale=st.floats(0.1, 30.0),
)
def test_no_two_clusters_below_the_least_threshold(seed, n, d, min_rows, scale):
    X = np.random.default_rng(seed).normal(size=(n, d))
    X = np.vstack([X, X[: seed % 3]])
    similarity = similarity_of(X, scale / max(1e-3, np.median(cdist(X, X))))
    floor = least_threshold(similarity, min_rows)
    assert floor >= 0
    runs = full_sweep(similarity, seed % n, min_rows)
    assert all(lower >= floor * (1 - 1e-9) for lower, _, count, _ in runs if count >= 2)


def test_the_least_threshold_in_its_limits():
    X = normal(30, 2)
    # Scattered points: every gain is 1. Points in a row at a small scale: gains of order t.
    assert least_threshold(similarity_of(X, 1e4), 5) == pytest.approx(1.0)
    small, tiny = (least_threshold(similarity_of(X, t), 5) for t in (1e-9, 1e-12))
    assert small == pytest.approx(1e3 * tiny, rel=1e-6)
    assert tiny > 0
    assert least_threshold(similarity_of(X, 1.0), 16) == math.inf
    assert least_threshold(similarity_of(np.repeat(X, 5, axis=0), 1.0), 5) == 0
