import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import QUESTIONS, mp_questions, mp_weighting, peak_memory, relative_error

from skmag import weighting


def column(values):
    return np.asarray(values, dtype=float)[:, None]


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.integers(-20, 20), min_size=1, max_size=8),
    asked=st.lists(st.integers(-30, 30), min_size=1, max_size=4),
    t=st.sampled_from([1e-12, 1e-5, 0.3, 1.0, 15.0]),
)
def test_every_answer_has_all_its_digits(rows, asked, t):
    space = weighting(column(rows), t=t)
    assert space.solver == "line"
    w, magnitude = mp_weighting(column(rows), t)
    assert relative_error(space.weights, w) < 1e-14
    assert relative_error([space.magnitude], [magnitude]) < 1e-15
    Z = column(asked) / 7 + 0.05  # on no integer
    for name, exact in mp_questions(column(list(dict.fromkeys(rows))), t, Z).items():
        assert relative_error(getattr(space, name)(Z), exact) < 1e-13, name


@pytest.mark.parametrize("t", [0.2, 3.0])
def test_agrees_with_the_general_solver(t):
    rng = np.random.default_rng(0)
    X, Z = column(rng.integers(0, 40, 30) / 4), column(rng.uniform(-5, 15, 40))
    Z[3], Z[8] = X[3], X[0]
    line, general = weighting(X, t=t), weighting(X, t=t, solver="cholesky")
    for name in QUESTIONS:
        found, expected = getattr(line, name)(Z), getattr(general, name)(Z)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(line.loss(), general.loss(), rtol=1e-9)
    for found, expected in zip(line.leave_one_out(), general.leave_one_out(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_magnitude_is_one_plus_a_sum_of_hyperbolic_tangents():
    x = np.sort(np.random.default_rng(1).normal(size=1000))
    expected = 1 + np.tanh(np.diff(x) / 2).sum()
    shuffled = np.random.default_rng(2).permutation(x)
    assert weighting(column(shuffled)).magnitude == pytest.approx(expected, rel=1e-14)


def test_an_interval_has_magnitude_one_plus_half_its_length():
    space = weighting(column(np.linspace(0, 3, 100_001)))
    assert space.magnitude == pytest.approx(1 + 3 / 2, rel=1e-9)


def test_many_points_take_memory_for_some_vectors():
    n = 1_000_000
    setup = f"""
import numpy as np
from skmag import weighting
weighting(np.arange(9.0)[:, None]).leave_one_out()
X = np.random.default_rng(3).uniform(size=({n}, 1))
"""
    work = "own = weighting(X, t=1e6).leave_one_out()"
    assert peak_memory(setup, work) < 60 * 8 * n


def test_many_points_keep_their_digits():
    x = np.random.default_rng(3).uniform(size=1_000_000)
    space = weighting(column(x), t=1e6)
    own = space.leave_one_out()
    assert float(own.residual.min()) > 0
    assert space.weights.sum() == pytest.approx(space.magnitude, rel=1e-12)


@pytest.mark.parametrize("metric", ["cityblock", "chebyshev", "minkowski"])
def test_all_norms_agree_on_a_line(metric):
    X = column([0.0, 3.0, 1.0, 1.5])
    space = weighting(X, metric=metric)
    assert space.solver == "line"
    assert space.weights.tolist() == weighting(X).weights.tolist()


@pytest.mark.parametrize("c", [1e-300, 1e-150, 1e150, 1e300])
def test_extreme_coordinates_are_points_too(c):
    X, Z = column([0.0, 3.0, 1.0, 1.5]), column([-1.0, 0.3, 2.0, 3.0, 7.0])
    here, there = weighting(X, t="scale"), weighting(c * X, t="scale")
    np.testing.assert_allclose(there.weights, here.weights, rtol=1e-13)
    for name in QUESTIONS:
        found, expected = getattr(there, name)(c * Z), getattr(here, name)(Z)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_points_join_and_leave():
    X = column([0.0, 3.0, 1.0, 1.0, 1.5])
    space = weighting(X).extend(column([2.0, 3.0])).drop([0, 2])
    assert space.solver == "line"
    expected = weighting(column([3.0, 1.0, 1.5, 2.0, 3.0]))
    assert space.weights.tolist() == expected.weights.tolist()
