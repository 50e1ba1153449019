import math

import numpy as np
import pytest
import torch
from reference import dense, normal

from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers._cholesky import CholeskyFactor
from skmag._solvers._sparse import _draw, _Level, residual_rows, solve_sparse
from skmag._solvers._sparse_inverse import SparseInverse


def similarity(X, t, metric="euclidean", **params):
    return Similarity.of(torch.from_numpy(np.asarray(X)), resolve_metric(metric, params), t)


def uniform(n, d, seed=0):
    return np.random.default_rng(seed).uniform(size=(n, d))


def surface(n):
    """A curved surface in twenty dimensions."""
    rng = np.random.default_rng(0)
    return np.sin(3 * rng.uniform(size=(n, 2)) @ rng.normal(size=(2, 20)))


def blobs(n):
    """Clusters whose sizes differ by a factor of a million."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(20, 2))[rng.integers(20, size=n)] + rng.normal(
        size=(n, 2)
    ) * 10 ** rng.uniform(-6, 0, size=(n, 1))


def exact_magnitude(base):
    return CholeskyFactor.prepare(base).magnitude()


@pytest.mark.parametrize("t", [1e-3, 1.0, 10.0, 300.0])
@pytest.mark.parametrize(
    "X",
    [normal(800, 2), uniform(800, 2), uniform(800, 3), surface(800), blobs(800)],
    ids=["normal", "uniform", "cube", "surface", "blobs"],
)
def test_error_lies_within_three_standard_errors_and_bounds_hold(X, t):
    base = similarity(X, t)
    found = solve_sparse(base, tol=1e-4, n_centers=60).certificate
    exact = exact_magnitude(base)
    assert found.lower <= exact <= found.upper
    assert abs(found.magnitude - exact) <= 3 * found.standard_error + 1e-12 * exact
    assert found.converged == (3 * found.standard_error <= 1e-4 * found.magnitude)


@pytest.mark.parametrize("X", [normal(2000, 2), uniform(2000, 2), surface(2000)])
def test_low_dimension_converges(X):
    base = similarity(X, 1.0)
    found = solve_sparse(base, tol=1e-4, n_centers=200)
    assert found.certificate.converged
    assert found.certificate.magnitude == pytest.approx(exact_magnitude(base), rel=1e-4)
    assert found.details["n_centers"] <= 800


def test_high_dimension_says_that_it_did_not_converge():
    found = solve_sparse(similarity(normal(1000, 10), 0.2), tol=1e-4, n_centers=50)
    assert not found.certificate.converged
    assert found.details["n_centers"] == 200


def test_all_points_as_centers_are_exact():
    base = similarity(normal(60, 3), 1.0)
    found = solve_sparse(base, tol=1e-6, n_centers=60)
    assert found.certificate.converged
    assert found.certificate.magnitude == pytest.approx(exact_magnitude(base), rel=1e-13)
    w = np.linalg.solve(dense(base.points, 1.0), np.ones(60))
    np.testing.assert_allclose(found.weights, w, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_points(n):
    base = similarity(normal(n, 2), 1.0)
    found = solve_sparse(base, tol=1e-6).certificate
    assert found.magnitude == pytest.approx(exact_magnitude(base), rel=1e-13)


@pytest.mark.parametrize("t", [1e-3, 2.0])
def test_first_order_terms_make_the_energy_of_the_weights(t):
    # 2 1'v - v' zeta v = Mag(S) + y'y + y' U' (1 - zeta v), whatever U is.
    X = normal(200, 2)
    base = similarity(X, t)
    level = _Level.of(SparseInverse.of(base, 20, 4)).enlarged(30)
    v, every = level.weights(), torch.arange(200)
    r = residual_rows(base, v, every, every)
    assert float(r[level.inverse.centers].abs().max()) < 1e-12
    if base.nearly_constant:
        v[0] = 0.0
        v[0] = 1 - float(torch.exp(-t * base.anchor) @ v)
    w = v.numpy()
    energy = 2 * w.sum() - w @ dense(X, t) @ w
    first = float(level.y @ level.inverse.tail(r))
    assert level.magnitude + first == pytest.approx(energy, rel=1e-11)


def test_promotion_keeps_what_covers_and_adds_what_adds_most():
    base = similarity(uniform(500, 2), 1.0)
    first = _Level.of(SparseInverse.of(base, 20, 10))
    second = first.enlarged(40)
    assert second.inverse.centers[:20].tolist() == first.inverse.centers.tolist()
    most = first.inverse.points[first.y.abs().topk(20).indices]
    assert second.inverse.centers[20:].tolist() == most.tolist()
    assert second.inverse.exact.magnitude() > first.inverse.exact.magnitude()
    assert len(first.enlarged(100).inverse.centers) == 100


def test_residual_rows_against_dense():
    X, v = normal(70, 3), normal(70, 1)[:, 0]
    base = similarity(X, 1.5)
    rows, support = torch.tensor([5, 0, 33]), torch.arange(10, 60)
    w = np.zeros(70)
    w[10:60] = v[10:60]
    expected = 1 - dense(X, 1.5)[[5, 0, 33]] @ w
    found = residual_rows(base, torch.from_numpy(v), rows, support)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_draws_have_the_probabilities_that_they_report():
    y = torch.tensor([0.0, 1.0, -3.0, 0.5])
    drawn, share = _draw(y, 4000, np.random.default_rng(0))
    expected = (y.abs().numpy() / 4.5 + 0.25) / 2
    np.testing.assert_allclose(share, expected[drawn])
    np.testing.assert_allclose(np.bincount(drawn) / 4000, expected, atol=1e-3)
    assert _draw(torch.zeros(3), 3, np.random.default_rng(0))[0].tolist() == [0, 1, 2]


def test_tiny_scales_keep_what_exceeds_one():
    X = normal(400, 2)
    excess = [
        solve_sparse(similarity(X, t), tol=1e-9, n_centers=50).certificate.magnitude - 1
        for t in (1e-6, 1e-8)
    ]
    assert excess[0] / excess[1] == pytest.approx(100, rel=1e-5)
    assert excess[0] == pytest.approx(exact_magnitude(similarity(X, 1e-6)) - 1, rel=1e-4)


@pytest.mark.parametrize(
    ("metric", "params"), [("cityblock", {}), ("minkowski", {"p": 1.5}), ("cosine", {})]
)
def test_other_metrics(metric, params):
    X = normal(600, 2)
    base = similarity(X, 2.0, metric, **params)
    found = solve_sparse(base, tol=1e-3, n_centers=150).certificate
    w = np.linalg.lstsq(dense(X, 2.0, metric, **params), np.ones(600), rcond=1e-14)[0]
    assert found.magnitude == pytest.approx(w.sum(), rel=1e-3)
    assert found.converged


def test_metric_without_coordinates_is_refused():
    X = normal(20, 2)
    for base in (
        similarity(np.abs(X[:, :1] - X[:, 0]), 1.0, "precomputed"),
        similarity(X, 1.0, "canberra"),
    ):
        with pytest.raises(ValueError, match=f"{base.metric.name}.*solver='cholesky'"):
            solve_sparse(base, tol=1e-3)


def test_the_seed_decides():
    base = similarity(uniform(500, 3), 1.0)
    runs = [
        solve_sparse(base, tol=1e-9, n_centers=50, random_state=seed).certificate.magnitude
        for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_nothing_is_certified_where_the_metric_is_not_of_negative_type():
    base = similarity(normal(300, 3), 1.0, "chebyshev")
    found = solve_sparse(base, tol=1e-3, n_centers=50).certificate
    assert found.lower == -math.inf


@pytest.mark.parametrize("name", ["n_centers", "n_neighbors"])
@pytest.mark.parametrize("value", [0, -3, 2.5, True])
def test_numbers_are_positive_integers(name, value):
    with pytest.raises(ValueError, match=f"{name}={value!r} must be a positive integer"):
        solve_sparse(similarity(normal(5, 2), 1.0), tol=1e-6, **{name: value})


def test_there_are_no_more_neighbours_than_other_points():
    base = similarity(normal(60, 2), 1.0)
    found = solve_sparse(base, tol=1e-6, n_centers=np.int64(5), n_neighbors=10**9)
    assert found.details["n_neighbors"] == 59
    assert found.certificate.magnitude == pytest.approx(exact_magnitude(base), rel=1e-9)


def test_far_points_under_the_cosine():
    base = similarity(normal(150, 3), 1e4, "cosine")
    found = solve_sparse(base, tol=1e-6, n_centers=20).certificate
    assert found.magnitude == pytest.approx(exact_magnitude(base), rel=1e-6)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_units_of_any_size_change_nothing(size):
    X = normal(150, 2)
    # A power of two, so that no digit changes.
    unit = 2.0 ** round(math.log2(size))
    one = solve_sparse(similarity(X, 1.0), tol=1e-6, n_centers=20)
    other = solve_sparse(similarity(X * unit, 1 / unit), tol=1e-6, n_centers=20)
    assert other.certificate.magnitude == pytest.approx(one.certificate.magnitude, rel=1e-9)


def test_points_beyond_all_scales_are_apart():
    found = solve_sparse(similarity(normal(150, 2) * 1e200, 1.0), tol=1e-6, n_centers=20)
    assert found.certificate.magnitude == 150


@pytest.mark.parametrize("metric", ["cityblock", "euclidean", "cosine"])
@pytest.mark.parametrize("t", [1e20, 1e150])
def test_points_that_are_far_apart_count_one_each(metric, t):
    base = similarity(normal(700, 3), t, metric)
    found = solve_sparse(base, tol=1e-6, n_centers=1, n_neighbors=4, random_state=1).certificate
    assert found.magnitude == 700
    assert found.standard_error == 0
