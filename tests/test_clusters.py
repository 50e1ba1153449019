import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference import dense, normal
from scipy.spatial.distance import cdist
from sklearn.datasets import make_blobs

from skmag._clusters import Run, numbered
from skmag._metrics import resolve_metric
from skmag._similarity import Similarity

THRESHOLDS = (1e-3, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.97, math.inf)


def similarity_of(X, t, metric="euclidean"):
    return Similarity.of(torch.from_numpy(X), resolve_metric(metric, None), t)


def naive(Z, threshold, first):
    """Algorithm 4 as printed, every magnitude anew; also each step's gain and whether it joined."""

    def magnitude(points):
        return np.linalg.inv(Z[np.ix_(points, points)]).sum()

    clusters, outside, steps = [[first]], [b for b in range(len(Z)) if b != first], []
    while outside:
        least = math.inf
        for b in outside:
            for c, members in enumerate(clusters):
                increase = magnitude([*members, b]) - magnitude(members)
                if increase < least:
                    least, point, cluster = increase, b, c
        if least < threshold:
            clusters[cluster].append(point)
        else:
            clusters.append([point])
        outside.remove(point)
        steps.append((least, least < threshold))
    labels = np.empty(len(Z), dtype=int)
    for c, members in enumerate(clusters):
        labels[members] = c
    return labels, steps


def finished(run, threshold):
    for _ in run.grow(threshold):
        pass
    return run


@pytest.mark.parametrize("revisable", [False, True])
@pytest.mark.parametrize(("n", "d", "seed"), [(25, 2, 0), (20, 5, 1), (18, 1, 2)])
def test_a_run_is_the_naive_algorithm(n, d, seed, revisable):
    X = normal(n, d, seed)
    t = 10 / np.median(cdist(X, X))
    for threshold in THRESHOLDS:
        run = finished(Run(similarity_of(X, t), 3, revisable=revisable), threshold)
        labels, steps = naive(dense(X, t), threshold, 3)
        assert run.clusters().tolist() == labels.tolist()
        assert [choice.joined for choice in run.choices[1:]] == [joined for _, joined in steps]
        gains = [choice.gain for choice in run.choices[1:]]
        np.testing.assert_allclose(gains, [gain for gain, _ in steps], rtol=1e-7)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 14),
    d=st.integers(1, 4),
    threshold=st.floats(1e-3, 1.2),
    # Beyond, gains differ from one by less than the naive magnitudes have digits.
    scale=st.floats(0.5, 6.0),
)
def test_a_run_is_the_naive_algorithm_on_any_data(seed, n, d, threshold, scale):
    X = np.random.default_rng(seed).normal(size=(n, d))
    t, first = scale / max(1e-3, np.median(cdist(X, X))), seed % n
    labels, steps = naive(dense(X, t), threshold, first)
    assume(all(abs(gain / threshold - 1) > 1e-9 for gain, _ in steps))
    run = finished(Run(similarity_of(X, t), first), threshold)
    assert run.clusters().tolist() == labels.tolist()


def test_a_pool_that_shrinks_changes_nothing():
    X, _ = make_blobs(400, centers=4, random_state=0)
    similarity = similarity_of(X, 1.0)
    for threshold in (0.02, 0.2, 2.0):
        lean = finished(Run(similarity, 7, revisable=False), threshold)
        assert len(lean._clusters[-1].pool) < 100
        kept = finished(Run(similarity, 7), threshold)
        assert lean.clusters().tolist() == kept.clusters().tolist()


def test_a_revised_run_is_a_fresh_one():
    X = normal(80, 2)
    similarity = similarity_of(X, 4.0)
    run = finished(Run(similarity, 5), math.inf)
    # Up and down, near and far: rows of clusters from before are used again, or not.
    for threshold in (0.3, 0.25, 0.1, 0.4, 0.05, 0.31, 2.0, 0.2, 1e-6, 0.5):
        run.revise(threshold)
        finished(run, threshold)
        fresh = finished(Run(similarity, 5, revisable=False), threshold)
        assert [(c.point, c.cluster, c.joined) for c in run.choices] == [
            (c.point, c.cluster, c.joined) for c in fresh.choices
        ]
        gains = [[choice.gain for choice in one.choices[1:]] for one in (run, fresh)]
        np.testing.assert_allclose(*gains, rtol=1e-8)


def test_every_threshold_of_the_interval_makes_the_run():
    similarity = similarity_of(normal(40, 2), 4.0)
    run = finished(Run(similarity, 0), 0.2)
    lower, upper = run.interval()
    assert 0 < lower < 0.2 <= upper < math.inf
    for threshold in (lower * (1 + 1e-9), math.sqrt(lower * upper), upper * (1 - 1e-9)):
        assert (finished(Run(similarity, 0), threshold).clusters() == run.clusters()).all()
    for threshold in (lower * (1 - 1e-9), upper * (1 + 1e-9)):
        assert (finished(Run(similarity, 0), threshold).clusters() != run.clusters()).any()


def test_ties_go_to_the_first_point():
    # A square of side 1 around the first point, in a table without any rounding.
    table = np.full((5, 5), 2.0) - np.eye(5) * 2
    table[0, 1:] = table[1:, 0] = 1.0
    for threshold in (1e-3, math.inf):
        run = finished(Run(similarity_of(table, 1.0, "precomputed"), 0), threshold)
        assert [choice.point for choice in run.choices] == [0, 1, 2, 3, 4]


def test_only_the_youngest_cluster_grows():
    run = finished(Run(similarity_of(normal(60, 2), 4.0), 0), 0.2)
    clusters = [choice.cluster for choice in run.choices]
    assert clusters == sorted(clusters)
    assert clusters[-1] > 3


def test_numbers_of_clusters():
    clusters = np.array([4, 0, 0, 4, 2, -1, 1, 1, 4, -1])
    assert numbered(clusters, 1).tolist() == [0, 1, 1, 0, 2, -1, 3, 3, 0, -1]
    assert numbered(clusters, 2).tolist() == [0, 1, 1, 0, -1, -1, 2, 2, 0, -1]
    assert numbered(clusters, 3).tolist() == [0, -1, -1, 0, -1, -1, -1, -1, 0, -1]
    assert numbered(clusters, 4).tolist() == [-1] * 10


def test_gains_have_no_meaning_without_definiteness():
    # The five-cycle with a centre, a graph whose similarities are indefinite at this scale.
    D = np.array(
        [[0.0, 2, 2, 1, 1], [2, 0, 2, 1, 1], [2, 2, 0, 1, 1], [1, 1, 1, 0, 2], [1, 1, 1, 2, 0]]
    )
    assert np.linalg.eigvalsh(np.exp(-0.1 * D))[0] < -1e-3
    with pytest.raises(ValueError, match="not positive definite"):
        finished(Run(similarity_of(D, 0.1, "precomputed"), 0), 0.5)


def test_gains_keep_their_digits_at_a_tiny_scale():
    # At the limit the gains are proportional to t, so that the run is that of a larger t.
    X = normal(20, 2)
    runs = [finished(Run(similarity_of(X, t), 0), 0.2 * t) for t in (1e-6, 1e-11)]
    assert 1 < runs[0].clusters().max() < 19
    assert (runs[0].clusters() == runs[1].clusters()).all()
    gains = [[choice.gain for choice in run.choices[1:]] for run in runs]
    np.testing.assert_allclose(np.array(gains[1]) * 1e5, gains[0], rtol=1e-5)
