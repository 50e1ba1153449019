import pickle
import warnings

import array_api_strict
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import (
    dense,
    dense_inverse,
    dense_questions,
    mp_questions,
    mp_weighting,
    relative_error,
)
from scipy.spatial.distance import cdist
from sklearn import config_context

from skmag import LeaveOneOut, NotPositiveDefiniteWarning, Weighting, weighting

QUESTIONS = ("potential", "residual", "joining_weight", "gain")
SCALES = [1e-12, 1e-8, 1e-4, 1e-2, 1.0, 1e2, 1e4, 1e12]
SOLVERS = ["cholesky", "mixed", "indefinite"]


def normal(n, d=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def answers(space, Z):
    out = {name: np.asarray(getattr(space, name)(Z)) for name in QUESTIONS}
    own = space.leave_one_out()
    out |= {f"own {name}": np.asarray(value) for name, value in own._asdict().items()}
    return out | {"loss": np.asarray(space.loss()), "weights": np.asarray(space.weights)}


def assert_same(found, expected, rtol):
    for name, value in expected.items():
        scale = max(1e-300, np.abs(value).max())
        np.testing.assert_allclose(found[name], value, rtol=rtol, atol=rtol * scale, err_msg=name)


def error_in_norm(found, exact):
    greatest = max(abs(x) for x in exact)
    return max(abs(float(x) - y) / greatest for x, y in zip(found, exact, strict=True))


# --- accuracy against 50 digits ---------------------------------------------------------------


@pytest.mark.parametrize("t", SCALES)
@pytest.mark.parametrize("d", [1, 2, 5, 40])
def test_weights_and_magnitude_against_many_digits(d, t):
    X = normal(9, d, seed=d)
    w, magnitude = mp_weighting(X, t)
    space = weighting(X, t=t)
    assert error_in_norm(space.weights, w) < 1e-12
    assert relative_error([space.magnitude], [magnitude]) < 1e-14


@pytest.mark.parametrize("t", SCALES)
@pytest.mark.parametrize("d", [1, 2, 5, 40])
def test_questions_against_many_digits(d, t):
    X, Z = normal(7, d, seed=d), normal(3, d, seed=100 + d)
    space = weighting(X, t=t)
    for name, exact in mp_questions(X, t, Z).items():
        found = getattr(space, name)(Z)
        if name == "potential":
            assert max(abs(float(a) - b) for a, b in zip(found, exact, strict=True)) < 1e-14
        else:
            assert relative_error(found, exact) < 1e-11, name


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("t", [1e-12, 1e-4, 1.0])
@pytest.mark.parametrize("d", [2, 30])
def test_every_solver_against_many_digits(d, t, solver):
    X, Z = normal(8, d, seed=d), normal(3, d, seed=100 + d)
    w, magnitude = mp_weighting(X, t)
    space = weighting(X, t=t, solver=solver)
    assert error_in_norm(space.weights, w) < 1e-12
    assert relative_error([space.magnitude], [magnitude]) < 1e-14
    exact = mp_questions(X, t, Z)
    assert relative_error(space.residual(Z), exact["residual"]) < 1e-12
    assert relative_error(space.gain(Z), exact["gain"]) < 1e-11


@pytest.mark.parametrize("c", [1e-9, 1e9])
@pytest.mark.parametrize("t", [1.0, "matched"])
@pytest.mark.parametrize("d", [1, 2, 40])
def test_scaled_data_against_many_digits(d, t, c):
    X = c * normal(8, d, seed=d)
    t = 1 / c if t == "matched" else t
    w, magnitude = mp_weighting(X, t)
    space = weighting(X, t=t)
    assert error_in_norm(space.weights, w) < 1e-12
    assert relative_error([space.magnitude], [magnitude]) < 1e-14


@pytest.mark.parametrize("d", [2, 40])
def test_data_far_from_the_origin_against_many_digits(d):
    X = normal(8, d, seed=d) + 1e6
    w, magnitude = mp_weighting(X, 0.5)
    space = weighting(X, t=0.5)
    assert error_in_norm(space.weights, w) < 1e-12
    assert relative_error([space.magnitude], [magnitude]) < 1e-13


@pytest.mark.parametrize("d", [1, 2, 40])
def test_near_duplicates_against_many_digits(d):
    X = normal(6, d, seed=d)
    X[4] = X[1] + 1e-9
    _, magnitude = mp_weighting(X, 1.0)
    space = weighting(X)
    assert space.n_points == 6
    assert relative_error([space.magnitude], [magnitude]) < 1e-13
    assert sum(space.weights) == pytest.approx(space.magnitude, rel=1e-9)


def test_float32_data_are_taken_as_they_are_and_answered_in_float64():
    X = normal(8).astype(np.float32)
    w, _ = mp_weighting(X, 0.3)
    space = weighting(X, t=0.3)
    assert space.weights.dtype == np.float64
    assert error_in_norm(space.weights, w) < 1e-12
    assert space.potential(X[:2]).tolist() == [1.0, 1.0]


# --- small and degenerate spaces --------------------------------------------------------------


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
@pytest.mark.parametrize("d", [1, 3])
def test_one_point(d, solver):
    x = normal(1, d)
    space = weighting(x, t=2.0, solver=solver)
    assert space.magnitude == 1.0
    assert space.weights.tolist() == [1.0]
    assert space.loss().tolist() == [1.0]
    assert [float(v[0]) for v in space.leave_one_out()] == [1.0, 1.0, 0.0, 1.0]
    z = x + 0.5
    u = np.exp(-2 * np.linalg.norm(z - x))
    expected = {
        "potential": u,
        "residual": 1 - u**2,
        "joining_weight": 1 / (1 + u),
        "gain": (1 - u) / (1 + u),
    }
    for name, value in expected.items():
        assert getattr(space, name)(z)[0] == pytest.approx(value, rel=1e-14)
    assert [getattr(space, name)(x)[0] for name in QUESTIONS] == [1.0, 0.0, 0.5, 0.0]


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
@pytest.mark.parametrize("t", SCALES)
@pytest.mark.parametrize("d", [1, 3])
def test_two_points(d, t, solver):
    X = np.zeros((2, d))
    X[1, 0] = 3.0
    space = weighting(X, t=t, solver=solver)
    u = np.exp(-3 * t)
    np.testing.assert_allclose(space.weights, 1 / (1 + u), rtol=1e-14)
    np.testing.assert_allclose(space.magnitude, 2 / (1 + u), rtol=1e-14)
    np.testing.assert_allclose(space.loss(), -np.expm1(-3 * t) / (1 + u), rtol=1e-14)


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
@pytest.mark.parametrize("d", [1, 2, 30])
def test_copies_are_merged_and_share_a_weight(d, solver):
    X = normal(7, d)
    rows = [0, 1, 2, 0, 3, 4, 0, 5, 6, 4]
    space, once = weighting(X[rows], solver=solver), weighting(X, solver=solver)
    assert (space.n_samples, space.n_points) == (10, 7)
    assert space.magnitude == once.magnitude
    counts = np.bincount(rows)
    np.testing.assert_allclose(space.weights, (once.weights / counts)[rows], rtol=1e-14)
    np.testing.assert_allclose(space.loss(), once.loss()[rows], rtol=1e-14)
    for found, expected in zip(space.leave_one_out(), once.leave_one_out(), strict=True):
        np.testing.assert_allclose(found, expected[rows], rtol=1e-14)
    Z = normal(4, d, seed=9)
    for name in QUESTIONS:
        assert getattr(space, name)(Z).tolist() == getattr(once, name)(Z).tolist()


def test_a_set_of_copies_is_one_point():
    space = weighting(np.ones((5, 3)))
    assert space.magnitude == 1.0
    assert space.weights.tolist() == [0.2] * 5


def test_rows_may_come_in_any_order():
    X, Z = normal(40), normal(5, seed=1)
    X[11] = X[30]
    order = np.random.default_rng(2).permutation(40)
    here, there = weighting(X, t=0.5), weighting(X[order], t=0.5)
    expected = answers(here, Z)
    for name, value in expected.items():
        if name not in QUESTIONS:
            expected[name] = value[order]
    assert_same(answers(there, Z), expected, 1e-11)
    assert there.magnitude == pytest.approx(here.magnitude, rel=1e-14)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(
        st.tuples(*[st.integers(-4, 4).map(float)] * 2), min_size=1, max_size=12, unique=True
    ),
    t=st.sampled_from([1e-10, 1e-3, 0.3, 1.0, 30.0]),
)
def test_bounds_of_theory_hold(rows, t):
    space = weighting(rows, t=t)
    assert 1 <= space.magnitude <= len(rows) * (1 + 1e-15)
    Z = np.array(rows) + [0.25, 0.5]
    residual, gain, own = space.residual(Z), space.gain(Z), space.leave_one_out()
    assert ((residual > 0) & (residual <= 1)).all()
    assert (gain >= 0).all()
    assert ((own.residual > 0) & (own.residual <= 1)).all()
    assert (space.loss() >= 0).all()


# --- the questions ----------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
@pytest.mark.parametrize(("d", "t"), [(1, 0.8), (3, 0.1), (3, 2.0), (50, 0.1)])
def test_questions_against_the_dense_inverse(d, t, solver):
    X, Z = normal(25, d), normal(10, d, seed=1)
    inverse = dense_inverse(X, t)
    space = weighting(X, t=t, solver=solver)
    w, diagonal = inverse.sum(1), np.diag(inverse)
    expected = dense_questions(inverse, np.exp(-t * cdist(Z, X)))
    expected |= {
        "weights": w,
        "loss": w**2 / diagonal,
        "own weight": w,
        "own residual": 1 / diagonal,
        "own potential": 1 - w / diagonal,
        "own gain": w**2 / diagonal,
    }
    assert_same(answers(space, Z), expected, 1e-9)
    assert space.magnitude == pytest.approx(inverse.sum(), rel=1e-11)


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
@pytest.mark.parametrize(("d", "t"), [(1, 0.8), (3, 0.5), (40, 0.1), (3, 1e-9)])
def test_leaving_one_out_is_refitting_without_it(d, t, solver):
    X = normal(9, d)[[0, 1, 2, 3, 0, 4, 5, 6, 7, 8, 5]]
    space = weighting(X, t=t, solver=solver)
    own, loss = space.leave_one_out(), space.loss()
    assert isinstance(own, LeaveOneOut)
    for i, x in enumerate(X):
        rest = weighting(X[(x != X).any(1)], t=t, solver=solver)
        assert own.weight[i] == pytest.approx(rest.joining_weight([x])[0], rel=1e-8, abs=1e-9)
        assert own.residual[i] == pytest.approx(rest.residual([x])[0], rel=1e-9)
        assert own.potential[i] == pytest.approx(rest.potential([x])[0], rel=1e-10, abs=1e-12)
        assert own.gain[i] == pytest.approx(rest.gain([x])[0], rel=1e-8, abs=1e-9 * max(loss))
        assert loss[i] == own.gain[i]
        fall = space.magnitude - rest.magnitude
        assert loss[i] == pytest.approx(fall, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
@pytest.mark.parametrize("t", [1e-9, 0.5, 1e9])
def test_queries_on_points_are_exact(t, solver):
    X = normal(8)[[0, 1, 2, 0, 3, 4, 5, 6, 7, 0, 4]]
    space = weighting(X, t=t, solver=solver)
    assert space.residual(X).tolist() == [0.0] * 11
    assert space.gain(X).tolist() == [0.0] * 11
    assert space.potential(X).tolist() == [1.0] * 11
    counts = (X[:, None] == X).all(2).sum(1)
    share = space.weights * counts / (counts + 1)
    np.testing.assert_allclose(space.joining_weight(X), share, rtol=1e-14)


@pytest.mark.parametrize("d", [1, 40])
def test_queries_on_points_are_exact_among_others(d):
    X = normal(30, d)
    Z = normal(12, d, seed=4)
    Z[[2, 7]] = X[[5, 0]]
    space = weighting(X)
    assert np.flatnonzero(space.residual(Z) == 0).tolist() == [2, 7]
    assert np.flatnonzero(space.gain(Z) == 0).tolist() == [2, 7]
    assert np.flatnonzero(space.potential(Z) == 1).tolist() == [2, 7]


@pytest.mark.parametrize("metric", ["cityblock", "chebyshev", "cosine", "canberra", "braycurtis"])
def test_queries_on_points_are_exact_under_every_kind_of_metric(metric):
    X = np.abs(normal(6)) + 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotPositiveDefiniteWarning)
        space = weighting(X, metric=metric)
    assert space.residual(X).tolist() == [0.0] * 6
    assert space.potential(X).tolist() == [1.0] * 6
    np.testing.assert_allclose(space.joining_weight(X), space.weights / 2, rtol=1e-14)


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
@pytest.mark.parametrize("far", [1e6, 1e150, 1e300])
@pytest.mark.parametrize("d", [1, 3, 30])
def test_queries_far_away_know_nothing_of_the_points(d, far, solver):
    space = weighting(normal(9, d), solver=solver)
    Z = np.full((3, d), far) * np.array([[1], [-1], [0.5]])
    assert space.potential(Z).tolist() == [0.0] * 3
    assert space.residual(Z).tolist() == [1.0] * 3
    assert space.joining_weight(Z).tolist() == [1.0] * 3
    assert space.gain(Z).tolist() == [1.0] * 3


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 1e-12])
def test_queries_next_to_points_keep_their_signs_and_bounds(gap):
    X = normal(30)
    space = weighting(X, t=0.5)
    Z = X + gap
    most = -np.expm1(-2 * 0.5 * np.linalg.norm(Z - X, axis=1))
    residual = space.residual(Z)
    assert (residual > 0).all()
    assert (residual <= most * (1 + 1e-9)).all()
    for name in QUESTIONS:
        assert np.isfinite(getattr(space, name)(Z)).all()


def test_a_query_that_joins_gets_what_was_foretold():
    X, z = normal(20), normal(1, seed=5)
    space = weighting(X, t=0.7)
    grown = weighting(np.vstack([X, z]), t=0.7)
    assert grown.weights[-1] == pytest.approx(space.joining_weight(z)[0], rel=1e-11)
    assert grown.magnitude - space.magnitude == pytest.approx(space.gain(z)[0], rel=1e-10)
    again = weighting(np.vstack([X, X[:1]]), t=0.7)
    assert again.weights[-1] == pytest.approx(space.joining_weight(X[:1])[0], rel=1e-12)


def test_one_query_is_answered_like_many():
    X, Z = normal(20, 30), normal(6, 30, seed=1)
    space = weighting(X)
    for name in QUESTIONS:
        ask = getattr(space, name)
        np.testing.assert_allclose([ask(z[None])[0] for z in Z], ask(Z), rtol=1e-11)


# --- points that join and leave ---------------------------------------------------------------

POOL = np.abs(normal(8, 5, seed=42)) + 0.5
ASKED = np.abs(normal(3, 5, seed=43)) + 0.5


def slanted(a, b):
    return float(abs(a - b).sum() + abs(a[1] - b[1]))


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("extend"), st.lists(st.integers(0, 7), min_size=1, max_size=4)),
        st.tuples(st.just("drop"), st.lists(st.integers(0, 99), min_size=0, max_size=4)),
        st.just(("drop", [0])),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.filterwarnings("ignore::skmag.NotPositiveDefiniteWarning")
@pytest.mark.parametrize(
    ("metric", "params"),
    [
        ("euclidean", None),
        ("cityblock", None),
        ("chebyshev", None),
        ("minkowski", {"p": 1.5}),
        ("cosine", None),
        ("canberra", None),
        ("braycurtis", None),
        (slanted, None),
        ("precomputed", None),
    ],
    ids=str,
)
@settings(deadline=None, max_examples=12)
@given(
    start=st.lists(st.integers(0, 7), min_size=1, max_size=6),
    changes=CHANGES,
    t=st.sampled_from([1e-3, 1.0, 60.0]),
)
def test_changes_end_where_fresh_weightings_begin(metric, params, start, changes, t):
    table = cdist(POOL, POOL)

    def fresh(rows):
        data = table[rows][:, rows] if metric == "precomputed" else POOL[rows]
        return weighting(data, t=t, metric=metric, metric_params=params)

    rows, space = list(start), fresh(start)
    for kind, which in changes:
        if kind == "extend":
            data = table[which][:, rows + which] if metric == "precomputed" else POOL[which]
            rows, space = rows + which, space.extend(data)
        else:
            leaving = sorted({i % len(rows) for i in which})
            if len(leaving) == len(rows):
                continue
            rows = [row for i, row in enumerate(rows) if i not in leaving]
            space = space.drop(leaving)
    expected = fresh(rows)
    assert (space.n_samples, space.n_points) == (expected.n_samples, expected.n_points)
    Z = cdist(ASKED, POOL[rows]) if metric == "precomputed" else ASKED
    assert space.magnitude == pytest.approx(expected.magnitude, rel=1e-11)
    assert_same(answers(space, Z), answers(expected, Z), 1e-7)


@settings(deadline=None, max_examples=12)
@given(
    start=st.lists(st.integers(0, 7), min_size=1, max_size=6),
    changes=CHANGES,
    solver=st.sampled_from(["cholesky", "mixed", "indefinite", "line"]),
    t=st.sampled_from([1e-2, 1.0]),
)
def test_changes_work_with_every_solver(start, changes, solver, t):
    pool = POOL[:, :1] if solver == "line" else POOL
    asked = ASKED[:, :1] if solver == "line" else ASKED
    rows, space = list(start), weighting(pool[start], t=t, solver=solver)
    for kind, which in changes:
        if kind == "extend":
            rows, space = rows + which, space.extend(pool[which])
        else:
            leaving = sorted({i % len(rows) for i in which})
            if len(leaving) < len(rows):
                rows = [row for i, row in enumerate(rows) if i not in leaving]
                space = space.drop(leaving)
    assert space.solver == solver
    expected = weighting(pool[rows], t=t)
    assert_same(answers(space, asked), answers(expected, asked), 1e-9)


@pytest.mark.parametrize("t", [1e-12, 1e-9, 1e-6, 1e-3])
@pytest.mark.parametrize("leaving", [[0], [5], [0, 3, 7], [-1]])
def test_points_leave_at_tiny_scales_without_loss_of_digits(t, leaving):
    X, Z = normal(12), normal(4, seed=1)
    rest = np.delete(X, leaving, axis=0)
    space = weighting(X, t=t).drop(leaving)
    w, magnitude = mp_weighting(rest, t)
    assert relative_error([space.magnitude], [magnitude]) < 1e-14
    assert error_in_norm(space.weights, w) < 1e-11
    assert relative_error(space.residual(Z), mp_questions(rest, t, Z)["residual"]) < 1e-12


def test_a_cluster_left_alone_by_far_points_keeps_its_digits():
    cluster = 1e-9 * normal(8)
    w, _ = mp_weighting(cluster, 1.0)
    space = weighting(np.vstack([cluster, normal(4, seed=1) + 9]))
    assert error_in_norm(space.drop([8, 9, 10, 11]).weights, w) < 1e-11


@pytest.mark.parametrize("t", [1e-12, 1e-6])
def test_points_join_at_tiny_scales_without_loss_of_digits(t):
    X, Z = normal(12), normal(4, seed=1)
    space = weighting(X[:5], t=t).extend(X[5:9]).extend(X[9:])
    w, magnitude = mp_weighting(X, t)
    assert relative_error([space.magnitude], [magnitude]) < 1e-14
    assert error_in_norm(space.weights, w) < 1e-11
    assert relative_error(space.residual(Z), mp_questions(X, t, Z)["residual"]) < 1e-12


@pytest.mark.parametrize("d", [2, 40])
def test_many_points_join_and_leave(d):
    X, Z = normal(260, d), normal(6, d, seed=1)
    space = weighting(X[:150], t=0.4).extend(X[150:]).drop(np.arange(0, 260, 3))
    keep = np.setdiff1d(np.arange(260), np.arange(0, 260, 3))
    assert_same(answers(space, Z), answers(weighting(X[keep], t=0.4), Z), 1e-10)


def test_a_point_leaves_only_with_its_last_copy():
    X = normal(5)
    space = weighting(X[[0, 1, 0, 2, 3, 4]])
    assert space.drop(0).n_points == 5
    assert space.drop([0, 2]).n_points == 4
    np.testing.assert_allclose(space.drop(0).weights, weighting(X[[1, 0, 2, 3, 4]]).weights)
    assert space.drop([]).weights.tolist() == space.weights.tolist()


@pytest.mark.parametrize("metric", ["euclidean", "canberra", "precomputed"])
@pytest.mark.parametrize("solver", ["cholesky", "mixed", "indefinite"])
def test_a_weighting_is_not_changed_by_its_methods(metric, solver):
    X, new = POOL[[0, 1, 2, 0, 3]], POOL[[4, 1, 5]]
    Z, data = ASKED, X
    if metric == "precomputed":
        Z, data, new = cdist(Z, X), cdist(X, X), cdist(new, np.vstack([X, new]))
    space = weighting(data, metric=metric, solver=solver)
    before = pickle.dumps(space)
    answers(space, Z)
    first = space.extend(new)
    middle = pickle.dumps(first)
    space.drop([0, 1])
    first.drop([0, 2, 4])
    first.extend(np.hstack([new, new[:, 5:]]) if metric == "precomputed" else ASKED)
    assert pickle.dumps(space) == before
    assert pickle.dumps(first) == middle


@pytest.mark.parametrize("solver", ["cholesky", "mixed", "indefinite"])
@pytest.mark.parametrize("metric", ["euclidean", "precomputed"])
def test_the_callers_arrays_are_neither_changed_nor_kept(metric, solver):
    X, new = normal(7), normal(2, seed=1)
    Z = normal(3, seed=2)
    if metric == "precomputed":
        new, Z, X = cdist(new, np.vstack([X, new])), cdist(Z, X), cdist(X, X)
    copies = X.copy(), new.copy(), Z.copy()
    space = weighting(X, metric=metric, solver=solver)
    grown = space.extend(new)
    expected = answers(space, Z), space.drop([0, 1]).weights, grown.drop([0, 1]).weights
    for array, copy in zip((X, new, Z), copies, strict=True):
        assert array.tolist() == copy.tolist()
    X[:], new[:] = 7.0, 9.0
    assert_same(answers(space, Z), expected[0], 1e-13)
    np.testing.assert_allclose(space.drop([0, 1]).weights, expected[1], rtol=1e-13)
    np.testing.assert_allclose(grown.drop([0, 1]).weights, expected[2], rtol=1e-13)


def test_answers_may_be_written_into():
    space, X = weighting(normal(5)), normal(5)
    for ask in (lambda: space.weights, space.loss, lambda: space.leave_one_out().weight):
        answer = ask()
        kept = answer.tolist()
        answer[:] = -1
        assert ask().tolist() == kept
    potential = space.potential(X)
    potential[:] = -1
    assert space.potential(X).tolist() == [1.0] * 5


def test_joining_points_must_fit():
    space = weighting(normal(5))
    with pytest.raises(ValueError, match="points has 2 columns, expected 3: as many features"):
        space.extend(normal(2, 2))
    table = weighting(cdist(POOL, POOL), metric="precomputed")
    with pytest.raises(ValueError, match="points has 8 columns, expected 9: one distance"):
        table.extend(cdist(ASKED[:1], POOL))
    both = np.vstack([POOL, ASKED])
    bad = cdist(ASKED, both)
    bad[0, 9] += 0.1
    with pytest.raises(ValueError, match="points is not symmetric"):
        table.extend(bad)
    bad = cdist(ASKED, both)
    bad[1, 2] = -0.5
    with pytest.raises(ValueError, match=r"points holds the negative distance -0\.5"):
        table.extend(bad)
    bad = cdist(ASKED, both)
    bad[1, 9] = 0.5
    with pytest.raises(ValueError, match=r"points has 0\.5 on its diagonal"):
        table.extend(bad)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        (5, r"indices=\[5\] are not among the 5 rows"),
        ([0, -6], r"indices=\[-6\] are not among"),
        ([0.5], r"indices=\[0\.5\] must be"),
        ([True, False, True, True, False], "must be one or several integers"),
        ("first", "indices='first' must be"),
        ([[0, 1]], r"indices=\[\[0, 1\]\] must be"),
        (range(5), "indices name all 5 rows"),
        ([0, 1, 2, 3, -1], "indices name all 5 rows"),
    ],
    ids=repr,
)
def test_leaving_rows_must_exist(indices, message):
    with pytest.raises(ValueError, match=message):
        weighting(normal(5)).drop(indices)


# --- kinds of input ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        np.ndarray.tolist,
        np.asfortranarray,
        lambda X: X[::-1][::-1],
        lambda X: np.repeat(X, 2, axis=1)[:, ::2],
        lambda X: pd.DataFrame(X, columns=["a", "b", "c"]),
        lambda X: pl.DataFrame(X, schema=["a", "b", "c"]),
        torch.from_numpy,
        array_api_strict.asarray,
    ],
    ids=["list", "fortran", "reversed", "strided", "pandas", "polars", "torch", "strict"],
)
def test_without_dispatch_every_kind_is_answered_in_numpy(make):
    X, Z = normal(8), normal(3, seed=1)
    expected = answers(weighting(X), Z)
    space = weighting(make(X.copy()))
    assert isinstance(space.weights, np.ndarray)
    assert isinstance(space.potential(make(Z)), np.ndarray)
    assert_same(answers(space, make(Z)), expected, 1e-13)


@pytest.mark.parametrize("dtype", [int, bool, np.int8, np.uint8, np.float16])
def test_numbers_of_every_type_are_points(dtype):
    X = np.array([[0, 1], [1, 1], [0, 0]], dtype=dtype)
    assert weighting(X).magnitude == pytest.approx(weighting(X.astype(float)).magnitude)
    assert weighting(X).potential(X).tolist() == [1.0] * 3


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("xp", [torch, array_api_strict])
def test_with_dispatch_answers_come_in_the_callers_kind(xp, dtype, solver):
    X, Z = normal(8).astype(dtype), normal(3, seed=1).astype(dtype)
    expected = answers(weighting(X), Z)
    with config_context(array_api_dispatch=True):
        theirs, asked = xp.asarray(X), xp.asarray(Z)
        space = weighting(theirs, solver=solver)
        arrays = [space.weights, space.loss(), *space.leave_one_out()]
        arrays += [getattr(space, name)(asked) for name in QUESTIONS]
        assert {type(a) for a in arrays} == {type(theirs)}
        assert {a.dtype for a in arrays} == {xp.float64}
        found = {name: np.asarray(getattr(space, name)(asked)) for name in QUESTIONS}
        found["weights"] = np.asarray(space.weights)
        changed = space.extend(asked).drop([0, 1])
        assert isinstance(changed.weights, type(theirs))
    assert_same(found, {name: expected[name] for name in found}, 1e-12)
    assert isinstance(space.magnitude, float)


@pytest.mark.parametrize("xp", [torch, array_api_strict])
def test_with_dispatch_precomputed_distances_and_host_metrics_work(xp):
    X = np.abs(normal(6)) + 0.1
    with config_context(array_api_dispatch=True):
        theirs = xp.asarray(cdist(X, X))
        space = weighting(theirs, metric="precomputed")
        assert isinstance(space.gain(theirs), type(theirs))
        np.testing.assert_allclose(np.asarray(space.weights), weighting(X).weights, rtol=1e-11)
        for metric in ("canberra", "seuclidean", "mahalanobis"):
            theirs = weighting(xp.asarray(X), metric=metric)
            ours = weighting(X, metric=metric)
            np.testing.assert_allclose(np.asarray(theirs.weights), ours.weights, rtol=1e-11)


def test_answers_come_back_where_the_question_was():
    X, Z = normal(6), normal(2, seed=1)
    with config_context(array_api_dispatch=True):
        space = weighting(X)
        assert isinstance(space.potential(torch.from_numpy(Z)), torch.Tensor)
        assert isinstance(space.potential(Z), np.ndarray)
        assert isinstance(space.weights, np.ndarray)
        other = weighting(torch.from_numpy(X))
        assert isinstance(other.potential(Z), np.ndarray)


@pytest.mark.parametrize("dispatch", [True, False])
def test_tensors_that_require_grad_are_taken_as_data(dispatch):
    X = normal(6)
    with config_context(array_api_dispatch=dispatch):
        space = weighting(torch.tensor(X, requires_grad=True))
        assert np.asarray(space.weights).tolist() == weighting(X).weights.tolist()


def test_devices_are_taken_by_name():
    X = normal(6)
    assert weighting(X, device="cpu").magnitude == weighting(X).magnitude
    with pytest.raises(ValueError, match="device='abacus'"):
        weighting(X, device="abacus")


def test_a_weighting_moves_between_namespaces():
    X, Z = normal(6), normal(2, seed=1)
    space = weighting(X)
    with config_context(array_api_dispatch=True):
        moved = space.__sklearn_array_api_convert__(torch.asarray)
        assert isinstance(moved.weights, torch.Tensor)
        assert moved.weights.tolist() == space.weights.tolist()
        assert moved.gain(torch.from_numpy(Z)).tolist() == space.gain(Z).tolist()
        assert isinstance(space.weights, np.ndarray)


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "t", [0, 0.0, -1, np.nan, np.inf, "auto", "1", True, np.True_, None, [1.0], 1j], ids=repr
)
def test_scales_that_are_none_are_named(t):
    with pytest.raises(ValueError, match=r"^t="):
        weighting(normal(3), t=t)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (sp.csr_array(np.eye(3)), r"X is sparse \(csr_array\)"),
        (sp.coo_matrix(np.eye(3)), r"X is sparse \(coo_matrix\)"),
        (np.empty((0, 2)), r"X is empty, its shape is \(0, 2\)"),
        (np.empty((2, 0)), r"X is empty, its shape is \(2, 0\)"),
        ([], "X is empty"),
        (pd.DataFrame({"a": []}), r"X is empty, its shape is \(0, 1\)"),
        ([[]], "0 feature"),
        (np.ones(3), "Expected 2D array, got 1D array"),
        ([1.0, 2.0], "Expected 2D array, got 1D array"),
        (3.0, "Expected 2D array, got scalar"),
        (np.ones((2, 2, 2)), "dim 3"),
        ([[1.0, np.nan]], "Input X contains NaN"),
        ([[1.0, np.inf]], "Input X contains infinity"),
        ([[1.0, 1j]], "Complex data not supported"),
    ],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
def test_unusable_points_are_named(X, message):
    with pytest.raises(ValueError, match=message):
        weighting(X)


@pytest.mark.parametrize("question", [*QUESTIONS, "extend"])
def test_unusable_queries_are_named(question):
    ask = getattr(weighting(normal(5)), question)
    name = "points" if question == "extend" else "Z"
    with pytest.raises(ValueError, match=f"{name} has 2 columns, expected 3: as many features"):
        ask(normal(2, 2))
    with pytest.raises(ValueError, match=f"{name} is sparse"):
        ask(sp.csr_array(np.eye(3)))
    with pytest.raises(ValueError, match=f"{name} is empty"):
        ask(np.empty((0, 3)))
    with pytest.raises(ValueError, match=f"Input {name} contains NaN"):
        ask([[np.nan, 0, 0]])
    with pytest.raises(ValueError, match="Expected 2D array"):
        ask([0.0, 1.0, 2.0])


def test_precomputed_queries_have_a_column_for_each_row():
    table = weighting(cdist(POOL, POOL), metric="precomputed")
    with pytest.raises(ValueError, match="Z has 7 columns, expected 8: one distance for each row"):
        table.potential(np.ones((2, 7)))


# --- scale, memory, pickles -------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
@pytest.mark.parametrize("d", [1, 3, 30])
def test_scale_knows_no_units(d, solver):
    X = normal(20, d)
    X[3] = X[9]
    here = weighting(X, t="scale", solver=solver)
    for c in (1e-9, 1e9):
        there = weighting(c * X, t="scale", solver=solver)
        assert there.t == pytest.approx(here.t / c, rel=1e-13)
        np.testing.assert_allclose(there.weights, here.weights, rtol=1e-11)
        assert there.magnitude == pytest.approx(here.magnitude, rel=1e-13)


@pytest.mark.parametrize("metric", ["precomputed", "cityblock", "canberra"])
def test_scale_is_one_over_the_median_distance(metric):
    X = np.abs(normal(6)) + 0.5  # 15 pairs
    name = "euclidean" if metric == "precomputed" else metric
    D = cdist(X, X, name)
    space = weighting(D if metric == "precomputed" else X, t="scale", metric=metric)
    assert space.t == pytest.approx(1 / np.median(D[np.triu_indices(6, 1)]), rel=1e-13)
    assert weighting(X[:1], t="scale").t == 1.0


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
@pytest.mark.parametrize(("d", "t"), [(3, 1.0), (3, 1e-9), (30, 0.2)])
def test_working_memory_changes_no_answer(d, t, solver):
    X, Z = normal(24, d), normal(5, d, seed=1)
    X[20] = X[2]
    expected = weighting(X, t=t, solver=solver)
    with config_context(working_memory=0.001):
        found = weighting(X, t=t, solver=solver)
        small = answers(found, Z)
        changed = answers(found.extend(Z).drop([0, 1, 2]), Z)
    assert_same(small, answers(expected, Z), 1e-11 if t < 1e-3 else 1e-12)
    assert found.magnitude == pytest.approx(expected.magnitude, rel=1e-13)
    assert_same(changed, answers(expected.extend(Z).drop([0, 1, 2]), Z), 1e-9)


@pytest.mark.parametrize("metric", ["cityblock", "canberra", "precomputed"])
def test_working_memory_changes_no_answer_of_other_metrics(metric):
    X, Z = np.abs(normal(30)) + 0.5, np.abs(normal(5, seed=1)) + 0.5
    if metric == "precomputed":
        X, Z = cdist(X, X), cdist(Z, X)
    expected = answers(weighting(X, t=2.0, metric=metric), Z)
    with config_context(working_memory=0.001):
        found = answers(weighting(X, t=2.0, metric=metric), Z)
    assert_same(found, expected, 1e-12)


@pytest.mark.parametrize("metric", ["euclidean", "minkowski", "cosine", "canberra", "precomputed"])
@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
def test_pickles_answer_alike(metric, solver):
    X, Z, new = POOL[[0, 1, 2, 1, 3]], ASKED, POOL[[4, 0]]
    data = X
    if metric == "precomputed":
        data, Z, new = cdist(X, X), cdist(Z, X), cdist(new, np.vstack([X, new]))
    params = {"p": 1.5} if metric == "minkowski" else None
    space = weighting(data, t=0.9, metric=metric, metric_params=params, solver=solver)
    twin = pickle.loads(pickle.dumps(space))
    assert isinstance(twin, Weighting)
    assert repr(twin) == repr(space)
    assert_same(answers(twin, Z), answers(space, Z), 1e-15)
    assert twin.extend(new).drop(0).magnitude == space.extend(new).drop(0).magnitude
    assert pickle.dumps(twin) == pickle.dumps(space)


def test_pickles_keep_the_kind_of_array():
    with config_context(array_api_dispatch=True):
        space = weighting(torch.from_numpy(normal(5)))
        twin = pickle.loads(pickle.dumps(space))
        assert isinstance(twin.weights, torch.Tensor)
        assert twin.weights.tolist() == space.weights.tolist()


def test_line_pickles_answer_alike():
    X, Z = normal(9, 1), normal(4, 1, seed=1)
    space = weighting(X)
    twin = pickle.loads(pickle.dumps(space))
    assert twin.solver == "line"
    assert_same(answers(twin, Z), answers(space, Z), 1e-15)


def test_the_repr_says_what_matters():
    text = repr(weighting([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]], t=2))
    for part in ("n_samples=3", "n_points=2", "t=2", "solver='cholesky'", "magnitude=1.76159"):
        assert part in text


def test_dense_weights_solve_the_defining_equation():
    X = normal(50, 4)
    space = weighting(X, t=1.5)
    np.testing.assert_allclose(dense(X, 1.5) @ space.weights, 1.0, rtol=1e-12)
    assert space.magnitude == pytest.approx(float(sum(space.weights)), rel=1e-13)
