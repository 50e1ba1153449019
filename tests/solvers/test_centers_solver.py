import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import dense, mp_weighting, normal

from skmag import DiscreteCenterHierarchy
from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers._centers import solve_centers


def similarity(X, t, metric="euclidean"):
    return Similarity.of(torch.from_numpy(np.asarray(X)), resolve_metric(metric, None), t)


def test_weights_are_those_of_the_centers():
    X = normal(200, 2)
    found = solve_centers(similarity(X, 1.0), tol=1e-6, n_centers=30)
    chosen = DiscreteCenterHierarchy(X, n_centers=30).order_
    w = np.linalg.solve(dense(X[chosen], 1.0), np.ones(30))
    np.testing.assert_allclose(found.weights[chosen], w, rtol=1e-9)
    assert np.count_nonzero(found.weights) == 30
    assert found.certificate.magnitude == pytest.approx(w.sum(), rel=1e-12)
    assert found.details == {"n_centers": 30}


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 3), st.floats(-9, 3), st.integers(1, 12))
def test_bounds_hold_with_many_digits(seed, d, log_t, n_centers):
    X, t = normal(12, d, seed=seed), 10.0**log_t
    found = solve_centers(similarity(X, t), tol=1e-6, n_centers=n_centers).certificate
    exact = mp_weighting(X, t)[1]
    assert found.lower <= exact <= found.upper
    if n_centers == 12:
        assert found.converged
        assert found.magnitude == pytest.approx(float(exact), rel=1e-12)


def test_more_centers_raise_the_bound():
    base = similarity(normal(300, 3), 2.0)
    bounds = [solve_centers(base, tol=0.0, n_centers=m).certificate.lower for m in (1, 5, 40, 300)]
    assert (np.diff(bounds) > 0).all()
    assert bounds[0] == 1.0


def test_convergence_is_that_of_the_interval():
    base = similarity(normal(300, 2), 1e-4)
    found = solve_centers(base, tol=1e-2, n_centers=20).certificate
    assert found.converged
    assert not solve_centers(base, tol=1e-9, n_centers=20).certificate.converged


def test_near_duplicates_are_left_out():
    X = np.concatenate([normal(20, 2), normal(20, 2) + 1e-13])
    found = solve_centers(similarity(X, 1.0), tol=1e-6, n_centers=40)
    assert found.details["n_centers"] == 20
    assert found.certificate.lower <= found.certificate.magnitude <= found.certificate.upper


def test_nothing_is_certified_where_the_metric_is_not_of_negative_type():
    found = solve_centers(similarity(normal(50, 3), 1.0, "chebyshev"), tol=1e-6, n_centers=10)
    assert found.certificate.lower == -math.inf
    assert not found.certificate.converged


def test_precomputed_distances():
    X = normal(40, 2)
    D = np.linalg.norm(X[:, None] - X, axis=-1)
    found = solve_centers(similarity(D, 1.0, "precomputed"), tol=1e-6, n_centers=15)
    same = solve_centers(similarity(X, 1.0), tol=1e-6, n_centers=15)
    assert found.certificate.magnitude == pytest.approx(same.certificate.magnitude)


@pytest.mark.parametrize("n_centers", [0, -3, 2.5, True])
def test_the_number_of_centers_is_a_positive_integer(n_centers):
    with pytest.raises(ValueError, match=f"n_centers={n_centers!r} must be a positive integer"):
        solve_centers(similarity(normal(5, 2), 1.0), tol=1e-6, n_centers=n_centers)
