from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference import dense, normal
from scipy.spatial.distance import cdist

from skmag import magnitude
from skmag._metrics import resolve_metric
from skmag._representatives import STRATEGIES, represent
from skmag._similarity import Similarity

quickly = settings(deadline=None, max_examples=30)
each = pytest.mark.parametrize("strategy", STRATEGIES)


def chosen(X, strategy, n_points=10**6, t=1.0, metric="euclidean", seed=0, **params):
    data = torch.as_tensor(np.asarray(X, dtype=float))
    similarity = Similarity.of(data, resolve_metric(metric, None)).at(t)
    return represent(similarity, strategy, n_points, np.random.RandomState(seed), **params)


def dense_magnitude(zeta, members):
    part = zeta[np.ix_(members, members)]
    return np.linalg.solve(part, np.ones(len(members))).sum()


def naive_greedy(zeta, first, m):
    """Algorithm 2 of the paper, every candidate's magnitude from scratch."""
    members = [first]
    while len(members) < m:
        rest = [i for i in range(len(zeta)) if i not in members]
        members.append(max(rest, key=lambda i: dense_magnitude(zeta, [*members, i])))
    return members


@each
@pytest.mark.parametrize("metric", ["euclidean", "canberra", "precomputed"])
def test_magnitudes_along_the_order(strategy, metric):
    X = normal(25, 3)
    X = cdist(X, X) if metric == "precomputed" else X
    found, zeta = chosen(X, strategy, 12, metric=metric), dense(X, 1.0, metric)
    order = found.points.tolist()
    assert len(set(order)) == 12
    expected = [dense_magnitude(zeta, order[: k + 1]) for k in range(12)]
    np.testing.assert_allclose(found.magnitudes, expected, rtol=1e-10)
    np.testing.assert_allclose(found.gains, np.diff(expected, prepend=0), rtol=1e-8)
    assert found.whole is None


@each
def test_all_points_have_the_magnitude_of_the_whole(strategy):
    X = normal(40, 2)
    found = chosen(np.vstack([X, X[:9]]), strategy)
    assert sorted(found.points.tolist()) == list(range(40))
    assert found.magnitudes[-1] == pytest.approx(magnitude(X), rel=1e-10)
    assert (np.diff(found.magnitudes) >= 0).all()


@pytest.mark.parametrize("t", [0.1, 1.0, 5.0])
def test_greedy_is_the_papers_algorithm(t):
    X = normal(15, 3)
    for seed in range(3):
        found = chosen(X, "greedy", 8, t, seed=seed).points.tolist()
        assert found == naive_greedy(dense(X, t), found[0], 8)


def test_greedy_ties_go_to_the_point_that_appears_first():
    # The corners of a square: the one across gains most, then the other two tie.
    square = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    for seed in range(8):
        first, *rest = chosen(square, "greedy", seed=seed).points.tolist()
        assert rest == [3 - first, *sorted({0, 1, 2, 3} - {first, 3 - first})]


def test_centers_are_the_farthest_first_order():
    X = normal(60, 2)
    found, D = chosen(X, "centers", 20).points.tolist(), cdist(X, X)
    for k in range(1, 20):
        assert found[k] == D[found[:k]].min(axis=0).argmax()


def test_random_points_are_uniform_and_distinct():
    X = np.repeat(np.arange(5.0), [1, 1, 1, 1, 40])[:, None]
    counts = np.zeros(5)
    for seed in range(400):
        points = chosen(X, "random", 2, seed=seed).points
        assert points[0] != points[1]
        counts[points] += 1
    # Each is in a pair with probability 2/5: 160 of 400, five standard deviations are 49.
    assert (np.abs(counts - 160) < 49).all()


@each
def test_the_first_point_is_random(strategy):
    firsts = {int(chosen(normal(20, 2), strategy, 1, seed=seed).points[0]) for seed in range(30)}
    assert len(firsts) > 8


@each
@pytest.mark.parametrize("tol", [0.5, 0.1, 0.01])
def test_stops_when_near_the_whole(strategy, tol):
    X = normal(60, 2)
    whole = magnitude(X)
    found = chosen(X, strategy, tol=tol)
    assert found.whole == pytest.approx(whole, rel=1e-12)
    assert found.magnitudes[-1] >= (1 - tol) * whole > found.magnitudes[-2]
    # Both limits hold.
    assert len(chosen(X, strategy, 3, tol=tol).points) == min(3, len(found.points))


def test_greedy_and_centers_beat_random():
    X = np.random.default_rng(0).normal(size=(400, 2))
    ends = {
        strategy: np.mean([chosen(X, strategy, 20, seed=s).magnitudes[-1] for s in range(10)])
        for strategy in STRATEGIES
    }
    assert ends["greedy"] > 1.02 * ends["centers"] > 1.1 * ends["random"]


def test_steps_may_be_cut_short():
    def four(items):
        for number, item in enumerate(items):
            yield item
            if number == 3:
                return

    found = chosen(normal(20, 2), "greedy", 10, steps=four)
    assert len(found.points) == len(found.gains) == len(found.magnitudes) == 5


def test_one_point():
    for strategy in STRATEGIES:
        found = chosen([[1.0, 2.0]] * 3, strategy, tol=0.1)
        assert found.points.tolist() == [0]
        assert found.magnitudes.tolist() == found.gains.tolist() == [1.0]


def test_more_than_fits_the_memory(monkeypatch):
    monkeypatch.setattr("skmag._representatives.available_memory", lambda device: 1e4)
    X = normal(100, 2)
    with pytest.raises(MemoryError, match="strategy='greedy' needs 16,000 bytes for 20 chosen"):
        chosen(X, "greedy", 20)
    assert len(chosen(X, "centers", 20).points) == 20


def test_a_similarity_that_is_not_definite_is_refused():
    table = np.ones((6, 6))
    table[:3, :3] = table[3:, 3:] = 2
    np.fill_diagonal(table, 0)
    with pytest.raises(ValueError, match="not positive definite"):
        chosen(table, "centers", t=0.3, metric="precomputed")


@quickly
@given(
    st.lists(st.integers(0, 60), min_size=3, max_size=9, unique=True),
    st.integers(1, 5),
    st.sampled_from([0.02, 0.1, 1.0]),
)
def test_greedy_on_the_line_has_its_share_of_the_optimum(line, m, t):  # AWSGS, Theorem 3
    assume(m <= len(line))
    X = np.array(line, dtype=float)[:, None]
    zeta = dense(X, t)
    best = max(dense_magnitude(zeta, list(rows)) for rows in combinations(range(len(X)), m))
    for seed in range(3):
        # Every first point is as good as any: each has magnitude 1.
        assert chosen(X, "greedy", m, t, seed=seed).magnitudes[-1] >= (1 - 1 / np.e) * best


@quickly
@given(
    st.lists(st.integers(0, 200), min_size=4, max_size=10, unique=True),
    st.sampled_from([0.01, 0.1, 1.0]),
    st.data(),
)
def test_gains_on_the_line_fall_as_the_set_grows(line, t, data):  # AWSGS, Theorem 3
    zeta = dense(np.array(line, dtype=float)[:, None], t)
    order = data.draw(st.permutations(range(len(line))))
    small = data.draw(st.integers(1, len(line) - 2))
    large = data.draw(st.integers(small + 1, len(line) - 1))
    point = order[-1]

    def gain(members):
        return dense_magnitude(zeta, [*members, point]) - dense_magnitude(zeta, list(members))

    assert gain(order[:small]) >= gain(order[:large]) - 1e-9
