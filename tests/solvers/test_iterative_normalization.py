import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from reference import dense, normal
from scipy.optimize import nnls

from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers._iterative_normalization import (
    diversity_interval,
    solve_iterative_normalization,
)

seeds = st.integers(0, 10_000)
quickly = settings(deadline=None, max_examples=25)


def similarity(X, t=1.0, metric="euclidean"):
    return Similarity.of(torch.from_numpy(np.array(X)), resolve_metric(metric, None), t)


def algorithm_1(zeta, steps):
    """The paper's loop, word for word."""
    w = np.ones(len(zeta))
    for _ in range(steps):
        w = w / (zeta @ w)
    return w


def value(zeta, w):
    return 2 * w.sum() - w @ zeta @ w


def maximum_diversity(zeta):
    """Maximum of 2 1'w - w' zeta w over w >= 0 by non-negative least squares."""
    L = np.linalg.cholesky(zeta)
    return nnls(L.T, np.linalg.solve(L, np.ones(len(zeta))), maxiter=100 * len(zeta))[0].sum()


@pytest.mark.parametrize("steps", [1, 3, 10])
@pytest.mark.parametrize("t", [0.1, 2.0])
def test_steps_are_those_of_the_paper(steps, t):
    X = normal(300, 3)
    solution = solve_iterative_normalization(similarity(X, t), tol=1e-12, max_iter=steps)
    expected = algorithm_1(dense(X, t), steps)
    assert_allclose(solution.weights.numpy(), expected, rtol=1e-11)
    assert solution.certificate.n_iter == steps
    assert_allclose(solution.details["sum_of_weights"], expected.sum(), rtol=1e-12)


@quickly
@given(seed=seeds, n=st.integers(1, 40), d=st.integers(1, 6), log_t=st.floats(-3, 2))
def test_no_step_lowers_the_diversity(seed, n, d, log_t):
    zeta = dense(normal(n, d, seed), 10**log_t)
    values = [value(zeta, algorithm_1(zeta, steps)) for steps in range(8)]
    assert np.all(np.diff(values) >= -1e-12 * np.abs(values[1:]))


@quickly
@given(seed=seeds, n=st.integers(1, 40), d=st.integers(1, 6), log_t=st.floats(-2, 2))
def test_any_weights_enclose_the_maximum_diversity(seed, n, d, log_t):
    zeta = dense(normal(n, d, seed), 10**log_t)
    w = np.random.default_rng(seed).uniform(size=n) ** 3
    lower, upper = diversity_interval(torch.from_numpy(w), torch.from_numpy(zeta @ w))
    exact = maximum_diversity(zeta)
    assert lower <= exact * (1 + 1e-10)
    assert upper >= exact * (1 - 1e-10)


@pytest.mark.parametrize(("n", "d", "t"), [(50, 1, 1.0), (80, 2, 50.0), (200, 100, 1.0)])
def test_it_finds_the_magnitude_where_all_weights_are_positive(n, d, t):
    X = normal(n, d)
    zeta = dense(X, t)
    exact = np.linalg.solve(zeta, np.ones(n))
    assert exact.min() > 0
    solution = solve_iterative_normalization(similarity(X, t), tol=1e-3, max_iter=5000)
    assert solution.certificate.converged
    assert np.abs(zeta @ solution.weights.numpy() - 1).max() <= 1.001e-3
    # w_exact' (1 - zeta w) is what the sum of the weights misses.
    assert abs(solution.details["sum_of_weights"] - exact.sum()) <= 1e-3 * exact.sum()
    assert solution.certificate.lower <= exact.sum() <= solution.certificate.upper


def test_with_negative_weights_it_goes_to_the_maximum_diversity_and_says_so():
    X = normal(300, 10)
    zeta = dense(X, 0.5)
    exact = np.linalg.solve(zeta, np.ones(300)).sum()
    solution = solve_iterative_normalization(similarity(X, 0.5), tol=1e-4, max_iter=2000)
    certificate, details = solution.certificate, solution.details
    diversity = maximum_diversity(zeta)
    assert not certificate.converged
    assert details["maximum_excess"] > 0.5
    assert details["maximum_deficit"] < 1e-3
    assert details["diversity_lower"] <= diversity <= details["diversity_upper"]
    assert details["diversity_upper"] <= 1.0005 * details["diversity_lower"]
    assert_allclose(details["sum_of_weights"], diversity, rtol=1e-4)
    assert diversity < 0.9 * exact
    assert certificate.lower <= exact <= certificate.upper


def test_it_stops_where_nothing_but_hopeless_rows_is_left():
    X = normal(300, 10)
    found = solve_iterative_normalization(similarity(X), tol=1e-2)
    n_iter = found.certificate.n_iter
    excessive = []
    for steps in (n_iter - 1, n_iter):
        w = algorithm_1(dense(X, 1.0), steps)
        sums = dense(X, 1.0) @ w
        excessive.append(sums.min() < 0.99 or w[sums > 1.01].sum() > 1e-2 * w.sum())
    assert excessive == [True, False]


def test_a_start_saves_the_steps_already_made():
    near = similarity(normal(100, 10))
    first = solve_iterative_normalization(near, tol=1e-6, max_iter=20)
    second = solve_iterative_normalization(near, tol=1e-6, start=first.weights, max_iter=20)
    straight = solve_iterative_normalization(near, tol=1e-6, max_iter=40)
    assert_allclose(second.weights, straight.weights, rtol=1e-10)


def test_a_weight_of_zero_far_from_all_others_stays_zero():
    start = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    solution = solve_iterative_normalization(
        similarity([[0.0, 0.0], [1.0, 0.0], [1e5, 0.0]]), tol=1e-9, start=start
    )
    assert_allclose(solution.weights, [1 / (1 + np.exp(-1))] * 2 + [0.0], rtol=1e-12)


@pytest.mark.parametrize("start", [[1.0, -1e-9], [0.0, 0.0]])
def test_it_refuses_a_start_that_it_cannot_leave(start):
    with pytest.raises(ValueError, match="non-negative weights, not all zero"):
        solve_iterative_normalization(
            similarity([[0.0, 0.0], [1.0, 0.0]]),
            tol=1e-6,
            start=torch.tensor(start, dtype=torch.float64),
        )


@pytest.mark.parametrize("t", [1e-9, 1e-3])
def test_bounds_hold_where_zeta_is_nearly_constant(t):
    X = normal(40, 3)
    solution = solve_iterative_normalization(similarity(X, t), tol=1e-6)
    assert solution.certificate.lower >= 1.0
    assert solution.certificate.lower <= solution.certificate.upper
    assert_allclose(solution.certificate.magnitude, 1.0, atol=20 * t)


def test_one_point_has_weight_one():
    solution = solve_iterative_normalization(similarity([[2.0, 3.0]]), tol=1e-12)
    assert solution.weights.tolist() == [1.0]
    assert solution.certificate.converged
    assert solution.certificate.n_iter == 0


def test_converged_promises_the_accuracy_of_the_magnitude():
    # After few steps all rows are one within the tolerance, which says little of the magnitude.
    X = normal(400, 3)
    exact = np.linalg.solve(dense(X, 0.05), np.ones(400)).sum()
    found = solve_iterative_normalization(similarity(X, 0.05), tol=0.1, max_iter=5)
    certificate = found.certificate
    assert found.details["maximum_excess"] <= 0.1
    assert found.details["maximum_deficit"] <= 0.1
    assert abs(certificate.magnitude - exact) > 0.1 * exact
    assert not certificate.converged


def test_where_no_bound_is_sharp_an_estimate_decides():
    X = normal(120, 20)
    space = similarity(X, 0.2, "cityblock")
    exact = np.linalg.solve(dense(X, 0.2, metric="cityblock"), np.ones(120)).sum()
    few, many = (
        solve_iterative_normalization(space, tol=0.01, max_iter=steps).certificate
        for steps in (1, 1000)
    )
    assert not few.converged
    assert many.converged
    assert many.upper - many.lower > 0.01 * many.lower
    assert abs(many.magnitude - exact) <= many.standard_error <= 0.01 * exact


@pytest.mark.parametrize("max_iter", [0, -1, 2.5, True, None])
def test_steps_are_a_positive_integer(max_iter):
    with pytest.raises(ValueError, match=f"max_iter={max_iter!r} must be a positive integer"):
        solve_iterative_normalization(similarity(normal(5, 2)), tol=1e-6, max_iter=max_iter)
