import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import (
    QUESTIONS,
    answers,
    assert_same,
    dense,
    dense_inverse,
    dense_questions,
    error_in_norm,
    mp_questions,
    mp_weighting,
    normal,
    relative_error,
)
from scipy.spatial.distance import cdist

from skmag import LeaveOneOut, NotPositiveDefiniteWarning, weighting

SCALES = [1e-12, 1e-8, 1e-4, 1e-2, 1.0, 1e2, 1e4, 1e12]
SOLVERS = ["cholesky", "mixed", "indefinite"]


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
    w, magnitude = mp_weighting(X, 1.0)
    space = weighting(X)
    assert space.n_points == 6
    # The pair shares what it stands for, each with the digits that its distance has.
    assert error_in_norm(space.weights, w) < 1e-6
    assert relative_error([space.weights[1] + space.weights[4]], [w[1] + w[4]]) < 1e-12
    assert relative_error([space.magnitude], [magnitude]) < 1e-13
    assert sum(space.weights) == pytest.approx(space.magnitude, rel=1e-9)


def test_float32_data_are_taken_as_they_are_and_answered_in_float64():
    X = normal(8).astype(np.float32)
    w, _ = mp_weighting(X, 0.3)
    space = weighting(X, t=0.3)
    assert space.weights.dtype == np.float64
    assert error_in_norm(space.weights, w) < 1e-12
    assert space.potential(X[:2]).tolist() == [1.0, 1.0]


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


def test_the_repr_says_what_matters():
    text = repr(weighting([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]], t=2))
    for part in ("n_samples=3", "n_points=2", "t=2", "solver='cholesky'", "magnitude=1.76159"):
        assert part in text


def test_dense_weights_solve_the_defining_equation():
    X = normal(50, 4)
    space = weighting(X, t=1.5)
    np.testing.assert_allclose(dense(X, 1.5) @ space.weights, 1.0, rtol=1e-12)
    assert space.magnitude == pytest.approx(float(sum(space.weights)), rel=1e-13)
