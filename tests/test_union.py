import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from reference import dense, normal
from scipy.linalg import LinAlgWarning
from sklearn import config_context

from skmag import magnitude
from skmag._metrics import resolve_metric
from skmag._union import Union, checked_sets, distinct_rows, shared_metric

CPU = torch.device("cpu")


def union(X, Y, t=1.0, metric="euclidean"):
    X, Y = (torch.from_numpy(np.array(own, dtype=float)) for own in (X, Y))
    return Union.of(X, Y, resolve_metric(metric, None)).at(t)


def overlapping(d=2):
    """Sets of five and four points, two of them common, with copies."""
    X, Y = normal(5, d, seed=1), normal(2, d, seed=2)
    return X[[0, 1, 2, 3, 4, 1]], np.vstack([Y, X[:2], X[1:2]])


def points_of(found, index):
    return {tuple(row) for row in found.similarity.points[index].tolist()}


def naive_growths(X, Y, t):
    whole, *parts = (
        np.linalg.inv(dense(np.unique(own, axis=0), t)).sum() for own in (np.vstack([X, Y]), X, Y)
    )
    return whole, whole - parts[0], whole - parts[1]


def test_points_know_their_sets_and_the_larger_one_comes_first():
    X, Y = overlapping()
    for found in (union(X, Y), union(Y, X)):
        assert len(found.similarity) == 7
        assert found.first.tolist() == [0, 1, 2, 3, 4]
        assert points_of(found, found.first) == {tuple(row) for row in X.tolist()}
        assert points_of(found, found.second) == {tuple(row) for row in Y.tolist()}
        assert found.second.tolist() == sorted(found.second.tolist())


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(*[st.sampled_from([0.0, -0.0, 1.0, 2.5])] * 2), min_size=2, max_size=9),
    cut=st.integers(1, 8),
    seed=st.integers(0, 9),
)
def test_only_the_points_decide_the_order(rows, cut, seed):
    rng = np.random.default_rng(seed)
    X, Y = np.array(rows[: min(cut, len(rows) - 1)]), np.array(rows[min(cut, len(rows) - 1) :])
    found = union(X, Y)
    more = union(rng.permutation(np.vstack([Y, Y[:1]])), rng.permutation(X))
    assert_array_equal(found.similarity.points, more.similarity.points)
    assert_array_equal(found.first, more.first)
    assert_array_equal(found.second, more.second)
    assert found.equal == ({tuple(x) for x in X + 0.0} == {tuple(y) for y in Y + 0.0})


def test_rows_of_one_direction_are_one_point_for_the_cosine():
    X = normal(4)
    found = union(X, 3 * X[::-1], metric="cosine")
    assert found.equal
    assert len(found.similarity) == 4


@pytest.mark.parametrize("solver", ["cholesky", "mixed", "indefinite"])
@pytest.mark.parametrize("t", [0.1, 1.0, 9.0])
def test_growths_are_differences_of_magnitudes(t, solver):
    X, Y = overlapping()
    found = union(X, Y, t).growths(solver, CPU)
    assert_allclose(found, naive_growths(X, Y, t), rtol=1e-10)


@pytest.mark.parametrize("solver", ["auto", "cholesky"])
def test_a_growth_too_small_for_a_difference_keeps_its_digits(solver):
    # 1e-6 of a unit beside each other, so that each set adds 1e-8 or so.
    X = normal(6, 1, seed=1)
    found = union(X, X + 1e-6, 1.0).growths(solver, CPU)
    # tanh x tanh y tanh(x + y) for x near zero is x tanh(y)^2, with y half of the gap; each set
    # reaches past the other at one end, by tanh x.
    half = np.diff(np.sort(X[:, 0])) / 2
    expected = 0.5e-6 * (1 + np.tanh(half) @ np.tanh(half))
    assert_allclose(found[1:], [expected, expected], rtol=1e-5)
    assert found[0] == pytest.approx(1 + np.tanh(half).sum(), rel=1e-5)


@settings(deadline=None, max_examples=100)
@given(
    X=st.lists(st.floats(-4, 4, width=16), min_size=1, max_size=6),
    Y=st.lists(st.floats(-4, 4, width=16), min_size=1, max_size=6),
    t=st.sampled_from([0.1, 1.0, 30.0]),
)
def test_growths_on_the_line_are_differences_of_magnitudes(X, Y, t):
    def on_the_line(points):
        return 1 + np.tanh(t / 2 * np.diff(np.unique(points))).sum()

    found = union(np.c_[X], np.c_[Y], t)
    whole, first, second = found.growths("line", CPU)
    assert whole == pytest.approx(on_the_line(X + Y), rel=1e-13)
    assert min(first, second) >= 0.0
    parts = sorted([whole - on_the_line(X), whole - on_the_line(Y)])
    assert_allclose(sorted([first, second]), parts, rtol=1e-12, atol=1e-13)


def test_growths_stay_growths_where_points_had_to_be_merged():
    X = normal(30)
    Y = X + 1e-16
    pair = union(X, Y)
    assert len(pair.similarity) > 30
    with pytest.warns(LinAlgWarning, match="were merged with it"):
        whole, *beyond = pair.growths("cholesky", CPU)
    assert whole == pytest.approx(magnitude(X), rel=1e-12)
    assert min(beyond) >= 0.0
    assert max(beyond) < 1e-12


def test_a_table_of_distances_changes_nothing_and_is_not_made_where_it_does_not_fit(monkeypatch):
    X, Y = overlapping()
    plain = union(X, Y)
    stored = plain.with_table()
    assert stored.similarity.table is not None
    assert_allclose(stored.growths("auto", CPU), plain.growths("auto", CPU), rtol=1e-14)
    assert union(X[:, :1], Y[:, :1]).with_table().similarity.table is None
    monkeypatch.setattr("skmag._union.available_memory", lambda device: 3 * 7**2 * 8 - 1)
    assert plain.with_table().similarity.table is None
    monkeypatch.setattr("skmag._union.available_memory", lambda device: 3 * 7**2 * 8)
    assert plain.with_table().similarity.table is not None


@pytest.mark.parametrize("metric", ["seuclidean", "mahalanobis"])
def test_a_metric_learns_from_the_distinct_points_of_all_sets(metric):
    X, Y = overlapping()
    every = np.unique(np.vstack([X, Y]), axis=0)
    assert_array_equal(distinct_rows([X, Y]), every)
    expected = {"seuclidean": every.var(0, ddof=1), "mahalanobis": np.linalg.inv(np.cov(every.T))}
    for sets in ([X, Y], [Y[::-1], X]):
        found = shared_metric(sets, metric, None).params
        assert_array_equal(next(iter(found.values())), expected[metric])


def test_sets_of_two_libraries_are_refused_where_they_would_be_kept_apart():
    X = normal(3)
    with config_context(array_api_dispatch=True), pytest.raises(ValueError, match="one library"):
        checked_sets([torch.from_numpy(X), array_api_strict.asarray(X)], ["X", "Y"], None)
    sets, kind, place = checked_sets([torch.from_numpy(X), X.tolist()], ["X", "Y"], None)
    assert (kind.xp, place) == (np, CPU)
    assert_array_equal(sets[0], sets[1])
