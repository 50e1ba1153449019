import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from reference import dense, normal
from sklearn.utils import check_random_state

from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers._gradient_descent import _largest_eigenvalue_bound, solve_gradient_descent
from skmag._solvers._products import Products


def similarity(X, t=1.0, metric="euclidean"):
    return Similarity.of(torch.from_numpy(np.array(X)), resolve_metric(metric, None), t)


def heavy_ball(zeta, batches, rate, momentum):
    """Steps along the gradients of mean squares over batches of rows."""
    w, velocity = np.zeros(len(zeta)), np.zeros(len(zeta))
    for rows in batches:
        velocity = momentum * velocity + 2 / len(rows) * zeta[rows].T @ (zeta[rows] @ w - 1)
        w = w - rate * velocity
    return w


def test_all_equations_at_once():
    X = normal(60, 2)
    solution = solve_gradient_descent(
        similarity(X), tol=1e-12, learning_rate=0.01, momentum=0.9, max_iter=30
    )
    expected = heavy_ball(dense(X, 1.0), [np.arange(60)] * 30, 0.01, 0.9)
    assert_allclose(solution.weights, expected, rtol=1e-10)
    assert solution.certificate.n_iter == 30
    assert not solution.certificate.converged


def test_mini_batches_cover_the_equations_in_each_epoch():
    X = normal(50, 2)
    solution = solve_gradient_descent(
        similarity(X), tol=1e-12, learning_rate=0.01, batch_size=8, max_iter=10, random_state=3
    )
    random = check_random_state(3)
    epochs = [np.split(random.permutation(50), range(8, 50, 8)) for _ in range(2)]
    expected = heavy_ball(dense(X, 1.0), [rows for e in epochs for rows in e][:10], 0.01, 0.9)
    assert_allclose(solution.weights, expected, rtol=1e-10)


@pytest.mark.parametrize("batch_size", [None, 8, 64, 1000])
def test_it_finds_the_weighting_negative_weights_included(batch_size):
    X = normal(150, 10)
    exact = np.linalg.solve(dense(X, 1.0), np.ones(150))
    assert exact.min() < 0
    solution = solve_gradient_descent(
        similarity(X), tol=1e-7, batch_size=batch_size, max_iter=20_000
    )
    assert solution.certificate.converged
    assert solution.details["maximum_residual"] <= 1e-7
    assert_allclose(solution.weights, exact, atol=1e-5)
    assert_allclose(solution.certificate.magnitude, exact.sum(), rtol=1e-10)
    assert solution.certificate.lower <= exact.sum() <= solution.certificate.upper


@pytest.mark.parametrize("batch_size", [None, 1, 16])
@pytest.mark.parametrize(("d", "t"), [(2, 1e-9), (2, 0.1), (2, 30.0), (10, 1.0), (3, 1e4)])
def test_the_automatic_rate_does_not_diverge(d, t, batch_size):
    X = normal(120, d)
    space = similarity(X, t)
    start = torch.from_numpy(np.random.default_rng(0).normal(size=120))
    before = float((torch.from_numpy(dense(X, t)) @ start - 1).square().mean())
    solution = solve_gradient_descent(
        space, tol=0.0, start=start, batch_size=batch_size, max_iter=1500
    )
    after = float((torch.from_numpy(dense(X, t)) @ solution.weights - 1).square().mean())
    assert after < 0.5 * before


def test_the_automatic_rate_is_half_of_what_is_stable():
    X = normal(100, 2)
    greatest = np.linalg.eigvalsh(dense(X, 1.0))[-1]
    stable = 2 * (1 + 0.9) / (2 * greatest**2 / 100)
    found = solve_gradient_descent(similarity(X), tol=1e-3, max_iter=1).details["learning_rate"]
    assert 0.45 * stable < found <= 0.5 * stable
    start = torch.from_numpy(np.random.default_rng(0).normal(size=100))
    with pytest.raises(ValueError, match="diverged"):
        solve_gradient_descent(
            similarity(X), tol=1e-9, start=start, learning_rate=1.1 * stable, max_iter=10_000
        )


@pytest.mark.parametrize(("d", "t"), [(1, 1.0), (2, 0.01), (2, 5.0), (8, 1.0), (3, 1e5)])
def test_the_bound_of_the_greatest_eigenvalue(d, t):
    zeta = dense(normal(90, d), t)
    bound, row_sum = _largest_eigenvalue_bound(
        Products(similarity(normal(90, d), t), anchored=False)
    )
    greatest = np.linalg.eigvalsh(zeta)[-1]
    assert greatest * (1 - 1e-12) <= bound <= 1.15 * greatest
    assert_allclose(row_sum, zeta.sum(1).max())


def test_the_rate_of_the_paper_diverges_on_many_points():
    with pytest.raises(ValueError, match=r"diverged at step \d+ with learning_rate=0.01"):
        solve_gradient_descent(similarity(normal(600, 2), 0.1), tol=1e-6, learning_rate=0.01)


@pytest.mark.parametrize("rate", [1e300, float("inf")])
def test_overflow_is_an_error_too(rate):
    with pytest.raises(ValueError, match="diverged"):
        solve_gradient_descent(similarity(normal(20, 2)), tol=1e-6, learning_rate=rate)


def test_one_seed_gives_one_result():
    near = similarity(normal(60, 3))
    a, b, c = (
        solve_gradient_descent(near, tol=1e-9, batch_size=8, max_iter=50, random_state=seed)
        for seed in (0, 0, 1)
    )
    assert torch.equal(a.weights, b.weights)
    assert not torch.equal(a.weights, c.weights)


def test_the_start_is_left_as_it_is():
    start = torch.ones(60, dtype=torch.float64)
    solve_gradient_descent(similarity(normal(60, 3)), tol=1e-9, start=start, max_iter=5)
    assert torch.equal(start, torch.ones(60, dtype=torch.float64))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate=0.0 must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate=nan must be positive"),
        ({"learning_rate": "adaptive"}, "neither a number nor 'auto'"),
        ({"momentum": 1.0}, r"momentum=1.0 must be a number in \[0, 1\)"),
        ({"momentum": "a"}, r"momentum='a' must be a number in \[0, 1\)"),
        ({"learning_rate": None}, "learning_rate=None is neither a number nor 'auto'"),
        *(
            ({name: value}, f"{name}={value!r} must be a positive integer")
            for name in ("batch_size", "max_iter")
            for value in (0, -1, 2.5, True)
        ),
    ],
)
def test_parameters_out_of_range(params, message):
    with pytest.raises(ValueError, match=message):
        solve_gradient_descent(similarity(normal(5, 2)), tol=1e-6, **params)


@pytest.mark.parametrize("t", [0.05, 1.0])
def test_converged_promises_the_accuracy_of_the_magnitude(t):
    X = normal(400, 3)
    exact = np.linalg.solve(dense(X, t), np.ones(400)).sum()
    for steps in (10, 100, 300, 1000):
        found = solve_gradient_descent(similarity(X, t), tol=0.1, max_iter=steps)
        certificate = found.certificate
        within = certificate.upper - certificate.lower <= 0.1 * certificate.lower
        assert certificate.converged == within
        assert not certificate.converged or abs(certificate.magnitude - exact) <= 0.1 * exact
    # Every row is soon one within the tolerance, which says little of the magnitude.
    assert found.details["maximum_residual"] <= 0.1


def test_where_no_bound_is_sharp_an_estimate_decides():
    X = normal(120, 20)
    space = similarity(X, 0.2, "cityblock")
    exact = np.linalg.solve(dense(X, 0.2, metric="cityblock"), np.ones(120)).sum()
    few, many = (
        solve_gradient_descent(space, tol=1e-4, max_iter=steps).certificate for steps in (25, 1000)
    )
    assert not few.converged
    assert many.converged
    assert many.upper - many.lower > 1e-4 * many.lower
    assert abs(many.magnitude - exact) <= many.standard_error <= 1e-4 * exact


@pytest.mark.parametrize("t", [0.01, 1.0])
def test_the_magnitude_lies_in_its_interval_from_any_start(t):
    X = normal(60, 2)
    start = torch.from_numpy(100 * np.random.default_rng(0).normal(size=60))
    found = solve_gradient_descent(similarity(X, t), tol=1e-6, start=start, max_iter=1).certificate
    assert found.lower <= found.magnitude <= found.upper


def test_a_batch_of_more_than_all_equations_is_all_of_them():
    space = similarity(normal(40, 2))
    one, other = (
        solve_gradient_descent(space, tol=1e-6, batch_size=size, max_iter=20).weights
        for size in (None, np.int64(1000))
    )
    assert torch.equal(one, other)
