"""Which solver runs, and what the user is told of it."""

import math
import warnings

import numpy as np
import pytest
import torch
from reference import normal
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning

from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers import _portfolio as portfolio
from skmag._solvers import magnitudes_at, solve
from skmag._solvers._iterative import IterativeFactor

CPU = torch.device("cpu")


def similarity(X, t=1.0, metric="euclidean", **params):
    points = torch.from_numpy(np.ascontiguousarray(X, dtype=float))
    return Similarity.of(points, resolve_metric(metric, params), t)


def exact(X, t=1.0, metric="euclidean"):
    return np.linalg.solve(np.exp(-t * cdist(X, X, metric)), np.ones(len(X))).sum()


@pytest.fixture
def factors_for_few(monkeypatch):
    """Pretend that factors are for 50 points."""
    monkeypatch.setattr(portfolio, "_FACTORED_POINTS", {False: 50, True: 20})
    monkeypatch.setattr(portfolio, "_CERTIFIED_POINTS", 150)
    monkeypatch.setattr(portfolio, "_CPU_ENTRIES", 30 * 250**2 / 2)


@pytest.mark.parametrize(
    ("n", "d", "tol", "only_magnitude", "name"),
    [
        (200, 1, 1e-6, False, "line"),
        (40, 3, 1e-6, False, "cholesky"),
        (40, 3, 1e-6, True, "cg"),
        (100, 3, 1e-6, False, "cg"),
        (100, 3, 1e-12, False, "cholesky"),
        (200, 2, 1e-4, False, "sparse"),
        (200, 2, 1e-6, False, "cg"),
        (300, 2, 1e-6, False, "sparse"),
        (200, 30, 1e-6, False, "cg"),
        (300, 30, 1e-6, False, "centers"),
    ],
)
def test_the_table_of_auto(factors_for_few, n, d, tol, only_magnitude, name):
    found, reason = portfolio.choose(
        similarity(normal(n, d)), CPU, tol, only_magnitude=only_magnitude
    )
    assert found == name
    assert reason


def test_hours_are_not_spent_unasked(factors_for_few, monkeypatch):
    monkeypatch.setattr(portfolio, "_CPU_ENTRIES", 1e5)
    name, reason = portfolio.choose(similarity(normal(200, 30)), CPU, 1e-6)
    assert name == "centers"
    assert "solver='cg'" in reason


@pytest.mark.parametrize(("n", "d", "name"), [(300, 2, "sparse"), (300, 30, "centers")])
def test_many_scales_follow_the_table(factors_for_few, monkeypatch, n, d, name):
    asked = []

    def noting(*args, **kwargs):
        asked.append(name)
        return solved(*args, **kwargs)

    solved = portfolio.ITERATIVE[name]
    monkeypatch.setitem(portfolio.ITERATIVE, name, noting)
    X = normal(n, d)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = magnitudes_at(similarity(X), [0.5, 1.0, 2.0], "auto", CPU, tol=1e-4)
    assert asked == [name] * 3
    np.testing.assert_allclose(found, [exact(X, t) for t in (0.5, 1.0, 2.0)], rtol=1e-3)


@pytest.mark.parametrize("solver", ["auto", "cholesky"])
def test_parameters_are_not_dropped_where_a_factor_runs(solver):
    params = {"max_iter": 3}
    with pytest.raises(ValueError, match="which takes none") as one:
        solve(similarity(normal(9, 2)), solver, CPU, solver_params=params)
    with pytest.raises(ValueError, match="which takes none") as many:
        magnitudes_at(
            similarity(normal(9, 2)), [1.0, 2.0], solver, CPU, tol=1e-6, solver_params=params
        )
    for error in (one, many):
        assert ("name the solver" in str(error.value)) == (solver == "auto")


def test_a_callback_sees_every_scale():
    seen = []
    magnitudes_at(
        similarity(normal(90, 2)),
        [1.0, 2.0],
        "cg",
        CPU,
        tol=1e-6,
        solver_params={"callback": seen.append},
    )
    assert len(seen) >= 2
    assert all(found.lower <= found.magnitude <= found.upper for found in seen)


@pytest.mark.parametrize("metric", ["chebyshev", "canberra"])
def test_what_may_be_indefinite_gets_a_factor(factors_for_few, metric):
    name, reason = portfolio.choose(similarity(normal(100, 3), 1.0, metric), CPU, 1e-6)
    assert name == "cholesky"
    assert "may be indefinite" in reason
    with pytest.raises(ValueError, match="known to be positive definite"):
        solve(similarity(normal(100, 3), 1.0, metric), "cg", CPU)


def test_solve_hands_over_what_it_is_given():
    space = similarity(normal(60, 2))
    made, reason = solve(space, "cg", CPU, tol=1e-8, solver_params={"preconditioner": "none"})
    assert isinstance(made, IterativeFactor)
    assert (made.name, reason) == ("cg", "asked for")
    assert made.solution.details["preconditioner"] == "none"
    again, _ = solve(space, "cg", CPU, start=made.solution.weights)
    assert again.solution.certificate.n_iter == 0


@pytest.mark.parametrize(
    ("solver", "params", "message"),
    [
        ("newton", None, "solver='newton' is unknown"),
        ("cholesky", {"max_iter": 3}, "takes none"),
        ("cg", {"steps": 3}, "steps"),
        ("cg", {"max_iter": 0}, "max_iter=0"),
        ("cg", {"preconditioner": "ilu"}, "preconditioner='ilu'"),
    ],
)
def test_errors_name_what_is_wrong(solver, params, message):
    with pytest.raises(ValueError, match=message):
        solve(similarity(normal(9, 2)), solver, CPU, solver_params=params)


def test_an_unmet_tolerance_is_told_with_its_interval():
    space = similarity(normal(300, 8), 0.1)
    with pytest.warns(ConvergenceWarning, match="did not reach tol=1e-09") as caught:
        made, _ = solve(
            space, "cg", CPU, tol=1e-9, solver_params={"max_iter": 2, "preconditioner": "none"}
        )
    found = made.solution.certificate
    message = str(caught[0].message)
    assert f"[{found.lower!r}, {found.upper!r}]" in message
    assert "after 2 iterations" in message
    assert "max_iter" in message
    assert found.lower <= exact(normal(300, 8), 0.1) <= found.upper


@pytest.mark.parametrize("solver", ["auto", "cg", "cholesky"])
def test_magnitudes_at_several_scales(solver, monkeypatch):
    monkeypatch.setattr(portfolio, "_SHARED_POINTS", 100)
    X, ts, told = normal(120, 3), [0.5, 3.0, 0.1], []
    values = magnitudes_at(
        similarity(X), ts, solver, CPU, tol=1e-6, callback=lambda *done: told.append(done)
    )
    np.testing.assert_allclose(values, [exact(X, t) for t in ts], rtol=1e-6)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_scales_share_where_that_pays(monkeypatch):
    used = []
    original = portfolio.solve_scales
    monkeypatch.setattr(portfolio, "_SHARED_POINTS", 100)
    monkeypatch.setattr(
        portfolio, "solve_scales", lambda *a, **k: used.append(a) or original(*a, **k)
    )
    magnitudes_at(similarity(normal(120, 3)), [1.0, 2.0, 3.0], "auto", CPU, tol=1e-6)
    assert len(used) == 1
    for few, n, tol, metric in [
        ([1.0, 2.0], 120, 1e-6, "euclidean"),
        ([1.0, 2.0, 3.0], 90, 1e-6, "euclidean"),
        ([1.0, 2.0, 3.0], 120, 1e-12, "euclidean"),
    ]:
        magnitudes_at(similarity(normal(n, 3), 1.0, metric), few, "auto", CPU, tol=tol)
    assert len(used) == 1


def test_every_unmet_scale_is_told():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        magnitudes_at(
            similarity(normal(300, 8)),
            [0.05, 0.1],
            "cg",
            CPU,
            tol=1e-10,
            solver_params={"max_iter": 1},
        )
    assert [each.category for each in caught] == [ConvergenceWarning] * 2


def test_cosine_says_that_its_error_is_estimated():
    with pytest.warns(ConvergenceWarning, match="estimated error .* nothing proves it"):
        made, _ = solve(similarity(normal(100, 20), 1.0, "cosine"), "cg", CPU)
    found = made.solution.certificate
    assert not found.converged
    assert 0 < found.standard_error < 1e-6 * found.magnitude
    assert found.upper == math.inf
