"""Conjugate gradients: what they promise, and that they end."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import mp_weighting, normal
from scipy.spatial.distance import cdist
from sklearn import config_context

from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers import _cg
from skmag._solvers._cg import solve_cg
from skmag._solvers._cg_steps import descend
from skmag._solvers._preconditioners import Diagonal
from skmag._solvers._products import Products

TOL = 1e-6


def similarity(X, t=1.0, metric="euclidean", **params):
    points = torch.from_numpy(np.ascontiguousarray(X, dtype=float))
    return Similarity.of(points, resolve_metric(metric, params), t)


def dense_weights(X, t, metric="euclidean", **params):
    return np.linalg.solve(np.exp(-t * cdist(X, X, metric, **params)), np.ones(len(X)))


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 10),
    d=st.integers(1, 4),
    decade=st.floats(-12, 4),
    seed=st.integers(0, 1000),
    gap=st.sampled_from([1.0, 1e-3, 1e-6]),
)
def test_the_magnitude_is_certified(n, d, decade, seed, gap):
    X, t = normal(n, d, seed), 10**decade
    X[n // 2] = X[0] + gap * (X[n // 2] - X[0])
    _, exact = mp_weighting(X, t)
    found = solve_cg(similarity(X, t), tol=TOL).certificate
    assert found.converged
    assert found.lower <= exact <= found.upper
    assert found.upper - found.lower <= TOL * found.lower
    assert found.lower <= found.magnitude <= found.upper
    assert found.standard_error == 0.0


@pytest.mark.parametrize("preconditioner", ["none", "partial_cholesky", "sparse", "auto"])
@pytest.mark.parametrize(("n", "d", "t"), [(300, 2, 1.0), (300, 10, 0.3), (200, 3, 1e-5)])
def test_every_preconditioner_finds_the_same(preconditioner, n, d, t):
    X = normal(n, d)
    solution = solve_cg(similarity(X, t), tol=1e-9, preconditioner=preconditioner)
    assert solution.certificate.converged
    assert preconditioner in ("auto", solution.details["preconditioner"])
    w = dense_weights(X, t)
    assert solution.certificate.magnitude == pytest.approx(w.sum(), rel=1e-9)
    np.testing.assert_allclose(solution.weights, w, atol=2e-2 * np.abs(w).max())


@pytest.mark.parametrize("megabytes", [0, 0.2, 64])
def test_memory_changes_nothing(megabytes):
    X = normal(300, 3)
    with config_context(working_memory=megabytes):
        found = solve_cg(similarity(X), tol=TOL).certificate
    assert found.converged
    assert found.lower <= dense_weights(X, 1.0).sum() <= found.upper


@pytest.mark.parametrize(
    ("metric", "params"), [("cityblock", {}), ("minkowski", {"p": 1.5}), ("cosine", {})]
)
@pytest.mark.parametrize("t", [1e-2, 1.0, 30.0])
def test_metrics_without_a_sharp_bound_go_by_an_honest_estimate(metric, params, t):
    X = normal(200, 12)
    found = solve_cg(similarity(X, t, metric, **params), tol=TOL).certificate
    exact = dense_weights(X, t, metric, **params).sum()
    proven = found.upper - found.lower <= TOL * found.lower
    assert found.converged == (proven or metric != "cosine")
    error = abs(found.magnitude - exact)
    if proven:
        assert found.standard_error == 0.0
    else:
        assert error <= found.standard_error + 1e-12 * exact
        assert found.standard_error <= TOL * exact
    assert found.lower <= exact * (1 + 1e-12)


def test_a_smooth_kernel_is_not_called_converged_too_early():
    """Eigenvalues far below the rounding of float32 hold a visible part of the magnitude."""
    X = np.random.default_rng(3).uniform(size=(40, 4)) + 1
    space = similarity(X, 2.0, "cosine")
    found = solve_cg(space, tol=TOL).certificate
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    d = np.square(unit[:, None] - unit).sum(-1).astype(np.longdouble) / 2
    w = np.linalg.solve(np.exp(-2 * d).astype(float), np.ones(40))
    assert not found.converged or abs(found.magnitude - w.sum()) <= 2 * TOL * w.sum()


def test_the_estimate_knows_the_smallest_eigenvalue_that_steps_have_met():
    zeta = np.exp(-cdist(normal(60, 3), normal(60, 3)))
    products = Products(similarity(normal(60, 3)))
    right = torch.ones(60, dtype=torch.float64)
    run = descend(products, right, Diagonal(products.similarity), lambda *_: False, 1e-13, 500)
    assert run.smallest_ritz_value == pytest.approx(np.linalg.eigvalsh(zeta)[0], rel=1e-3)
    assert run.gained == pytest.approx(dense_weights(normal(60, 3), 1.0).sum(), rel=1e-9)


@pytest.mark.parametrize("gap", [1e-6, 1e-9, 1e-11])
def test_near_duplicates_are_certified(gap):
    half = normal(150, 2)
    X = np.vstack([half, half + gap * normal(150, 2, seed=1)])
    found = solve_cg(similarity(X), tol=TOL).certificate
    assert found.converged
    alone = dense_weights(half, 1.0).sum()
    assert found.upper >= alone
    assert found.magnitude == pytest.approx(alone, rel=max(1e-6, 10 * gap))


@pytest.mark.parametrize("gap", [1e-13, 1e-15])
@pytest.mark.parametrize("d", [2, 10])
def test_what_rounding_hides_ends_soon_and_says_so(gap, d):
    half = normal(150, d)
    X = np.vstack([half, half + gap * normal(150, d, seed=1)])
    found = solve_cg(similarity(X), tol=TOL).certificate
    assert found.lower <= dense_weights(half, 1.0).sum() * (1 + 1e-9) <= found.upper * (1 + 1e-8)
    assert found.converged == (found.upper - found.lower <= TOL * found.lower)
    assert found.n_iter < 700


def test_steps_without_progress_end(monkeypatch):
    """A preconditioner that sees nothing of the residual leads nowhere."""

    class Blind:
        name = "blind"

        def apply(self, R):
            out = 1e-9 * R
            out[:2] = R[:2]
            return out

    monkeypatch.setattr(_cg, "_PATIENCE", 20)
    found = solve_cg(similarity(normal(400, 2), 0.01), tol=1e-9, preconditioner=Blind())
    assert found.details["preconditioner"] in ("none", "blind")
    assert found.certificate.n_iter < 1500


def test_an_indefinite_preconditioner_is_replaced():
    class Indefinite:
        name = "indefinite"

        def apply(self, R):
            return -R

    solution = solve_cg(similarity(normal(50, 2)), tol=TOL, preconditioner=Indefinite())
    assert solution.certificate.converged
    assert solution.details["preconditioner"] == "none"


@pytest.mark.parametrize("t", [1e-9, 0.5])
def test_an_exact_start_needs_no_step(t):
    X = normal(80, 2)
    space = similarity(X, t)
    first = solve_cg(space, tol=1e-10)
    again = solve_cg(space, tol=TOL, start=first.weights)
    assert again.certificate.n_iter == 0
    assert again.certificate.converged
    assert again.certificate.magnitude == pytest.approx(first.certificate.magnitude, rel=1e-9)


@pytest.mark.parametrize("t", [1e-9, 0.5])
@pytest.mark.parametrize("start", [0.0, 1.0, -1e6])
def test_any_start_will_do(t, start):
    X = normal(80, 2)
    begin = torch.full((80,), start, dtype=torch.float64)
    solution = solve_cg(similarity(X, t), tol=TOL, start=begin)
    assert solution.certificate.converged
    assert solution.certificate.magnitude == pytest.approx(
        solve_cg(similarity(X, t), tol=TOL).certificate.magnitude, rel=2 * TOL
    )
    assert bool((begin == start).all())


@pytest.mark.parametrize("max_iter", [1, 2, 7, 20])
def test_steps_are_never_more_than_allowed(max_iter):
    solution = solve_cg(
        similarity(normal(400, 8), 0.1), tol=1e-10, preconditioner="none", max_iter=max_iter
    )
    assert solution.certificate.n_iter <= max_iter
    assert not solution.certificate.converged
    exact = dense_weights(normal(400, 8), 0.1).sum()
    assert solution.certificate.lower <= exact <= solution.certificate.upper


@pytest.mark.parametrize("max_iter", [0, -1, 2.5, True, "many"])
def test_max_iter_is_a_positive_integer(max_iter):
    with pytest.raises(ValueError, match="max_iter"):
        solve_cg(similarity(normal(5)), tol=TOL, max_iter=max_iter)


def test_a_true_answer_of_the_callback_stops():
    seen = []

    def stop(certificate):
        seen.append(certificate)
        return True

    solution = solve_cg(similarity(normal(300, 6), 0.1), tol=1e-13, callback=stop)
    assert len(seen) == 1
    assert solution.certificate == seen[0]
    assert not solution.certificate.converged


def test_the_callback_sees_the_interval_shrink():
    seen = []
    solve_cg(similarity(normal(300, 6), 0.1), tol=1e-11, callback=seen.append)
    widths = [each.upper - each.lower for each in seen]
    assert len(widths) > 1
    assert widths == sorted(widths, reverse=True)
    assert seen[-1].converged


def test_a_target_asks_for_a_smaller_residual():
    space = similarity(normal(200, 5), 0.2)
    found = solve_cg(space, tol=1e-2, target=1e-9).certificate
    assert found.converged
    assert found.residual_norm <= 1e-9


def test_a_table_of_distances_serves():
    X = normal(150, 4)
    table = similarity(X, 0.5).with_table()
    found = solve_cg(table, tol=TOL).certificate
    assert found.converged
    assert found.lower <= dense_weights(X, 0.5).sum() <= found.upper


@pytest.mark.parametrize("unit", [1e-100, 1e100])
def test_the_unit_of_the_data_does_not_matter(unit):
    X = normal(100, 3)
    found = solve_cg(similarity(unit * X, 1 / unit), tol=TOL).certificate
    expected = solve_cg(similarity(X), tol=TOL).certificate
    assert found.converged
    assert found.magnitude == pytest.approx(expected.magnitude, rel=2 * TOL)


@pytest.mark.parametrize("t", [1e-200, 1e200])
def test_extreme_scales(t):
    found = solve_cg(similarity(normal(20, 3), t), tol=TOL).certificate
    assert found.converged
    assert found.magnitude == pytest.approx(1.0 if t < 1 else 20.0)


def test_points_far_from_the_origin():
    X = normal(200, 3)
    found = solve_cg(similarity(X + 1e6), tol=TOL).certificate
    assert found.converged
    assert found.magnitude == pytest.approx(dense_weights(X, 1.0).sum(), rel=1e-6)
    assert math.isfinite(found.upper)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"callback": 3}, "callback=3 must be callable"),
        ({"callback": "print"}, "callback='print' must be callable"),
        ({"preconditioner": None}, "preconditioner=None must be one of"),
        ({"preconditioner": 7}, "preconditioner=7 must be one of"),
        ({"preconditioner": ["auto"]}, r"preconditioner=\['auto'\] must be one of"),
        ({"preconditioner": "ilu"}, "preconditioner='ilu' must be one of"),
    ],
)
def test_arguments_are_refused_before_any_work(monkeypatch, argument, message):
    monkeypatch.setattr(_cg, "operators", None)
    with pytest.raises(ValueError, match=message):
        solve_cg(similarity(normal(20, 3)), tol=TOL, **argument)


def test_the_details_say_what_stopped_it():
    space = similarity(normal(300, 6), 0.1)
    assert "stopped" not in solve_cg(space, tol=TOL).details
    assert solve_cg(space, tol=TOL, max_iter=1, preconditioner="none").details["stopped"] == (
        "max_iter"
    )
    stopped = solve_cg(space, tol=1e-13, callback=lambda certificate: True)
    assert stopped.details["stopped"] == "callback"
    # A callback that only agrees with the end does not stop anything.
    agreed = solve_cg(space, tol=TOL, callback=lambda certificate: certificate.converged)
    assert agreed.certificate.converged
    assert "stopped" not in agreed.details


def test_rounding_and_a_stall_are_told_apart(monkeypatch):
    half = normal(60, 2)
    X = np.vstack([half, half + 1e-15 * normal(60, 2, seed=1)])
    found = solve_cg(similarity(X), tol=1e-9)
    assert not found.certificate.converged
    assert found.details["stopped"] == "rounding"
    # Steps that end at once, each time, lead nowhere though rounding allows for more.
    monkeypatch.setattr(_cg, "_PATIENCE", 0)
    found = solve_cg(similarity(half, 1.0), tol=TOL, preconditioner="none")
    assert not found.certificate.converged
    assert found.details["stopped"] == "stalled"


@pytest.mark.parametrize("tol", [1e-1, 1e-2, 1e-3])
def test_the_estimate_covers_ritz_values_above_the_smallest_eigenvalue(tol):
    """Few steps on a smooth kernel without a preconditioner have not met it."""
    X = normal(40, 5, seed=45)
    found = solve_cg(similarity(X, 1.0, "cosine"), tol=tol, preconditioner="none").certificate
    exact = dense_weights(X, 1.0, "cosine").sum()
    assert not found.converged
    assert found.upper == math.inf
    assert abs(found.magnitude - exact) <= found.standard_error <= tol * found.magnitude
