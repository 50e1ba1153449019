"""A weighting by an iterative solver, beside the same one by a Cholesky factor."""

import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from reference import QUESTIONS, host, normal, with_copies
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning

from skmag import magnitude, magnitude_function, magnitude_weights, weighting
from skmag._solvers import _iterative

X, Z = normal(150, 4), normal(12, 4, seed=1)


def cg(points=X, t=0.7, tol=1e-9, **more):
    return weighting(points, t=t, solver="cg", tol=tol, **more)


@pytest.fixture(params=["cholesky", "cg"])
def questions_by(request, monkeypatch):
    """What answers the questions that weights alone do not."""
    if request.param == "cg":
        monkeypatch.setattr(_iterative, "_FACTORED_POINTS", 0)
    return request.param


def test_what_it_says_of_itself():
    found, exact = cg(), weighting(X, t=0.7, solver="cholesky")
    assert found.solver == "cg"
    assert found.reason == "asked for"
    assert found.converged
    assert found.n_iter >= 1
    assert found.standard_error == 0.0
    assert 0 < found.residual_norm < 1e-3
    assert found.lower <= found.magnitude <= found.upper
    assert found.upper - found.lower <= 1e-9 * found.lower
    assert found.lower <= exact.upper
    assert exact.lower <= found.upper
    assert exact.converged
    assert exact.n_iter == 0


def test_the_residual_norm_bounds_that_of_the_weights():
    found = cg(tol=1e-6)
    zeta = np.exp(-0.7 * np.linalg.norm(X[:, None] - X, axis=2))
    residual = np.linalg.norm(1 - zeta @ found.weights)
    assert residual <= found.residual_norm * (1 + 1e-6)
    assert found.residual_norm <= residual * (1 + 1e-3)


def test_an_estimate_has_a_standard_error():
    points = normal(150, 20)
    with pytest.warns(ConvergenceWarning, match="nothing proves it under this metric"):
        found = weighting(points, solver="cg", metric="cosine")
    exact = weighting(points, solver="cholesky", metric="cosine")
    assert not found.converged
    assert found.upper == math.inf
    assert abs(found.magnitude - exact.magnitude) <= found.standard_error <= 1e-6 * found.magnitude


@pytest.mark.parametrize("t", [1e-6, 0.7, 20.0])
def test_questions(questions_by, t):
    found, exact = cg(t=t), weighting(X, t=t, solver="cholesky")
    # Weights are as good as the tolerance of the magnitude's second order.
    np.testing.assert_allclose(found.residual(Z), exact.residual(Z), rtol=1e-8)
    for name in QUESTIONS:
        expected = getattr(exact, name)(Z)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(getattr(found, name)(Z), expected, atol=2e-3 * scale)
    np.testing.assert_allclose(found.potential(X), 1.0)
    np.testing.assert_allclose(found.residual(X[:3]), 0.0)


def test_points_left_out(questions_by):
    found, exact = cg().leave_one_out(), weighting(X, t=0.7, solver="cholesky").leave_one_out()
    np.testing.assert_allclose(found.residual, exact.residual, rtol=1e-8)
    for name in ("weight", "potential", "gain"):
        expected = getattr(exact, name)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(getattr(found, name), expected, atol=1e-4 * scale)


def test_answers_agree_between_factor_and_conjugate_gradients(monkeypatch):
    space, other = cg(), cg()
    one = space.residual(Z), space.gain(Z), space.leave_one_out().residual
    monkeypatch.setattr(_iterative, "_FACTORED_POINTS", 0)
    for a, b in zip(
        one, (other.residual(Z), other.gain(Z), other.leave_one_out().residual), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-8)


def test_extend_and_drop_begin_where_the_weights_are():
    grown = cg().extend(Z)
    both = np.vstack([X, Z])
    expected = weighting(both, t=0.7, solver="cholesky")
    assert grown.solver == "cg"
    assert grown.converged
    assert grown.magnitude == pytest.approx(expected.magnitude, rel=1e-8)
    np.testing.assert_allclose(grown.weights, expected.weights, atol=1e-4)
    assert cg(tol=1e-4).extend(Z[:1]).n_iter <= cg(np.vstack([X, Z[:1]]), tol=1e-4).n_iter
    again = grown.drop(np.arange(150, 162))
    assert again.magnitude == pytest.approx(cg().magnitude, rel=1e-8)
    smaller = cg().drop([0, 5])
    expected = weighting(np.delete(X, [0, 5], axis=0), t=0.7, solver="cholesky")
    assert smaller.magnitude == pytest.approx(expected.magnitude, rel=1e-8)


def test_copies_share_their_weight():
    points = with_copies()
    found, exact = cg(points), weighting(points, t=0.7, solver="cholesky")
    assert found.n_points == exact.n_points < found.n_samples
    np.testing.assert_allclose(found.weights, exact.weights, atol=1e-6)
    assert found.magnitude == pytest.approx(exact.magnitude, rel=1e-9)


def test_pickling(questions_by):
    space = cg()
    copies = [pickle.loads(pickle.dumps(space))]
    space.residual(Z)
    copies.append(pickle.loads(pickle.dumps(space)))
    for copy in copies:
        assert (copy.lower, copy.upper, copy.n_iter) == (space.lower, space.upper, space.n_iter)
        np.testing.assert_array_equal(copy.weights, space.weights)
        np.testing.assert_allclose(copy.gain(Z), space.gain(Z), rtol=1e-12)
        assert copy.extend(Z).solver == "cg"


def test_torch_in_and_out():
    with config_context(array_api_dispatch=True):
        points = torch.from_numpy(X)
        found = cg(points)
        assert isinstance(found.weights, torch.Tensor)
        assert isinstance(found.gain(torch.from_numpy(Z)), torch.Tensor)
        np.testing.assert_allclose(host(found.weights), cg().weights)
        assert isinstance(found.upper, float)


def test_functions_take_it_too():
    exact = weighting(X, t=0.7, solver="cholesky")
    assert magnitude(X, t=0.7, solver="cg") == pytest.approx(exact.magnitude, rel=1e-6)
    weights = magnitude_weights(X, t=0.7, solver="cg", tol=1e-10)
    np.testing.assert_allclose(weights, exact.weights, atol=1e-4)
    ts = [0.1, 0.7, 5.0]
    expected = magnitude_function(X, ts, solver="cholesky")
    np.testing.assert_allclose(magnitude_function(X, ts, solver="cg"), expected, rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("t", [1e-9, 1.0, 1e9])
def test_few_points(n, t):
    found, exact = cg(X[:n], t=t), weighting(X[:n], t=t, solver="cholesky")
    assert found.converged
    assert found.magnitude == pytest.approx(exact.magnitude, rel=1e-9)
    np.testing.assert_allclose(found.weights, exact.weights, atol=1e-6)
    np.testing.assert_allclose(found.residual(Z), exact.residual(Z), rtol=1e-8)


def test_too_few_steps_warn_with_the_interval():
    with pytest.warns(ConvergenceWarning, match="did not reach tol") as caught:
        found = cg(tol=1e-10, solver_params={"max_iter": 1, "preconditioner": "none"})
    assert not found.converged
    assert found.n_iter == 1
    exact = weighting(X, t=0.7, solver="cholesky").magnitude
    assert found.lower <= exact <= found.upper
    assert f"[{found.lower!r}, {found.upper!r}]" in str(caught[0].message)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": "cg", "tol": 0.0}, "tol=0.0"),
        ({"solver": "cg", "tol": 1}, "tol=1"),
        ({"solver": "cg", "tol": "tight"}, "tol='tight'"),
        ({"solver": "cg", "metric": "chebyshev"}, "known to be positive definite"),
        ({"solver": "cg", "solver_params": {"max_iter": -3}}, "max_iter=-3"),
        ({"solver": "cg", "solver_params": {"preconditioner": "lu"}}, "preconditioner='lu'"),
        ({"solver": "cg", "solver_params": {"depth": 1}}, "depth"),
        ({"solver": "cholesky", "solver_params": {"max_iter": 1}}, "takes none"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        weighting(X, **arguments)


def test_points_that_a_factor_cannot_tell_apart_have_an_interval():
    """Cholesky merges them; conjugate gradients say what is known of all of them."""
    points = np.vstack([normal(40, 2), [[0.0, 0.0], [1e-22, 0.0]]])
    with pytest.warns(ConvergenceWarning, match="did not reach tol"):
        found = cg(points, tol=1e-6)
    alone = weighting(points[:-1], t=0.7, solver="cholesky")
    assert found.n_points == 42
    assert found.lower <= alone.upper
    assert alone.lower <= found.upper < 42


@pytest.mark.parametrize("solver", ["centers", "iterative_normalization", "cg"])
def test_questions_near_points_are_answered_by_the_factor(solver):
    X = normal(120, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = weighting(X, solver=solver, tol=1e-3)
    exact, near = weighting(X, solver="cholesky"), X[:5] + 1e-7
    np.testing.assert_allclose(found.gain(near), exact.gain(near), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(found.joining_weight(near), exact.joining_weight(near), rtol=1e-6)
    np.testing.assert_allclose(found.loss(), exact.loss(), rtol=1e-6)


def test_new_points_count_after_iterative_normalization():
    space = weighting([[0.0, 0.0], [1.0, 0.0]], solver="iterative_normalization")
    grown = space.extend([[10.0, 0.0]])
    assert grown.magnitude == pytest.approx(weighting([[0.0, 0], [1, 0], [10, 0]]).magnitude)
    assert grown.drop(2).magnitude == pytest.approx(space.magnitude)


def test_a_weighting_forgets_the_callback_and_the_dictionary_of_its_caller():
    params = {"callback": lambda found: None, "max_iter": 100}
    space = weighting(normal(60, 2), solver="cg", solver_params=params)
    params["max_iter"] = "many"
    assert pickle.loads(pickle.dumps(space)).magnitude == space.magnitude
    assert space.drop(0).n_samples == 59


@pytest.mark.parametrize("solver", ["cg", "cholesky", "mixed", "indefinite"])
@pytest.mark.parametrize("t", [3e3, 1e4, 1e8])
def test_cosine_at_scales_that_tell_all_points_apart(solver, t):
    """The detour over another point may be shorter there, which is no similarity of infinity."""
    space = weighting(X, t=t, metric="cosine", solver=solver)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    exact = np.exp(-t * np.square(unit[:, None] - unit).sum(-1) / 2)
    assert space.magnitude == pytest.approx(np.linalg.solve(exact, np.ones(150)).sum(), rel=1e-9)
    queries = 1.1 * X[:4] + 0.1
    unit_queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    k = np.exp(-t * np.square(unit_queries[:, None] - unit).sum(-1) / 2)
    expected = 1 - (k * np.linalg.solve(exact, k.T).T).sum(1)
    np.testing.assert_allclose(space.residual(queries), expected, rtol=1e-6)
    assert np.isfinite(space.gain(queries)).all()
    assert np.isfinite(space.leave_one_out().gain).all()


def test_residuals_within_the_tolerance_are_not_its_accuracy():
    points = np.random.default_rng(0).normal(size=(500, 3))
    exact = weighting(points, t=0.05, solver="cholesky").magnitude
    with pytest.warns(ConvergenceWarning, match="did not reach tol=0.1"):
        found = weighting(
            points,
            t=0.05,
            solver="iterative_normalization",
            tol=0.1,
            solver_params={"max_iter": 20},
        )
    assert abs(found.magnitude - exact) > 0.1 * exact
    assert not found.converged
