import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from skmag._answers import Answers
from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers import CholeskyFactor, NearFactor, answering, choose_answering
from skmag._solvers import _portfolio as portfolio

CPU = torch.device("cpu")
METRICS = [("euclidean", None), ("cityblock", None), ("minkowski", {"p": 1.5}), ("cosine", None)]


def normal(n, n_features, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, n_features)))


def space(n, n_features, t=1.0, metric="euclidean", params=None, seed=0):
    return Similarity.of(normal(n, n_features, seed), resolve_metric(metric, params), t)


def close(found, expected, tol):
    torch.testing.assert_close(found, expected, rtol=tol, atol=tol)


# Under the cosine zeta is a Gaussian kernel on the sphere, singular in float64 unless t is large.
@pytest.mark.parametrize(
    ("metric", "params", "t"),
    [*((*metric, t) for metric in METRICS[:-1] for t in (1e-6, 0.3, 20.0)), ("cosine", None, 20.0)],
)
def test_with_all_points_near_every_answer_is_exact(metric, params, t):
    points = space(25, 4, t, metric, params)
    exact = CholeskyFactor.prepare(points)
    near = NearFactor(points, 100, residuals_only=True)
    Z = points.metric.points(normal(9, 4, seed=1), "Z")
    weights = exact.weighting()[0]
    for found, expected in (
        (near.probe(Z, weights), exact.probe(Z, weights)),
        (near.left_out(weights, torch.arange(25)), exact.left_out(weights, torch.arange(25))),
    ):
        close(found.residual / expected.residual, torch.ones_like(found.residual), 1e-7)
        close(found.potential, expected.potential, 1e-9)
        close(found.explained, expected.explained, 1e-9)
        assert torch.equal(found.nearest, expected.nearest)
        close(found.nearest_distance, expected.nearest_distance, 1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(2, 40), st.floats(0.01, 50.0))
@settings(max_examples=40, deadline=None)
def test_fewer_near_points_leave_more_room(seed, n_features, n, t):
    points = space(n, n_features, t, seed=seed)
    Z = normal(5, n_features, seed=seed ^ 1)
    exact = CholeskyFactor.prepare(points)
    room = exact.probe(Z, exact.weighting()[0]).residual
    for k in (12, 5, 2, 1):
        less = NearFactor(points, k, residuals_only=True).probe(Z, torch.empty(0)).residual
        assert bool((less >= room * (1 - 1e-8)).all())
        assert bool((less <= 1).all())
        room = less


@pytest.mark.parametrize("t", [0.5, 10.0])
def test_by_two_levels_weights_and_gains_are_those_of_the_whole_set(t):
    points = space(3000, 2, t)
    exact = Answers.of(points, "cholesky", CPU)
    near = Answers.of(points, "sparse", CPU, tol=1e-3)
    Z = normal(200, 2, seed=1)
    found, expected = near.probe(Z), exact.probe(Z)
    close(found.potential, expected.potential, 1e-2)
    for ask in ("joining_weights", "gains"):
        a, b = getattr(near, ask)(found), getattr(exact, ask)(expected)
        assert float((a / b - 1).abs().median()) < 0.1
    own, others = near.left_out(), exact.left_out()
    # A weight is that of the solver, whatever room near points leave.
    close(own.deficit / own.residual, near.weights, 1e-12)
    assert float((own.residual / others.residual - 1).median()) < 2e-3
    near_alone = NearFactor.of(points, residuals_only=True).probe(Z, torch.empty(0))
    # One level takes each query for the rim of a small set.
    assert float((near_alone.deficit / expected.deficit - 1).abs().median()) > 0.2


def test_a_query_on_a_point_is_that_point():
    points = space(400, 3, 2.0)
    near = Answers.of(points, "sparse", CPU, residuals_only=True)
    probe = near.probe(points.points[[7, 300]])
    assert probe.residual.tolist() == probe.deficit.tolist() == [0.0, 0.0]
    assert probe.potential.tolist() == probe.explained.tolist() == [1.0, 1.0]
    assert probe.nearest.tolist() == [7, 300]
    assert bool(probe.on_point.all())


def test_left_out_is_what_a_set_without_the_point_says():
    points = space(300, 3)
    near = Answers.of(points, "sparse", CPU, residuals_only=True)
    others = near.dropped([42])
    alone = others.probe(points.points[[42]])
    own = near.left_out(torch.tensor([42]))
    assert float(own.residual) == pytest.approx(float(alone.residual), rel=1e-12)
    assert float(own.potential) == pytest.approx(float(alone.potential), rel=1e-12)


def test_a_set_of_one_point():
    near = Answers.of(space(1, 3), "sparse", CPU, residuals_only=True)
    own = near.left_out()
    assert own.residual.tolist() == [1.0]
    assert own.potential.tolist() == [0.0]
    Z = normal(4, 3, seed=5)
    distance = torch.linalg.vector_norm(Z - near.similarity.points, dim=1)
    close(near.probe(Z).residual, -torch.expm1(-2 * distance), 1e-12)


@pytest.mark.parametrize("n", [1, 20])
def test_columns_of_the_inverse(n):
    points = space(n, 3)
    near = NearFactor(points, 100, residuals_only=True)
    some = torch.tensor([0, n - 1])
    close(near.inverse_columns(some), CholeskyFactor.prepare(points).inverse_columns(some), 1e-9)
    close(near.inverse_diagonal(some), near.inverse_columns(some)[some, [0, 1]], 1e-12)


@pytest.mark.parametrize(
    ("n_features", "t", "metric"),
    [(2, 1.0, "euclidean"), (5, 0.05, "euclidean"), (10, 1.0, "euclidean"), (3, 1.0, "cityblock")],
)
def test_the_estimate_of_the_residuals_error_is_of_its_size(n_features, t, metric):
    points = space(2000, n_features, t, metric)
    exact = CholeskyFactor.prepare(points)
    every = torch.arange(len(points))
    near = NearFactor.of(points, residuals_only=True)
    expected = exact.left_out(exact.weighting()[0], every).residual
    true = float((near.left_out(torch.empty(0), every).residual / expected).log().mean().expm1())
    assert 0.5 * true < near.residual_error() < 4 * true


def test_the_estimate_counts_what_there_is():
    # Of 50 points, 30 are near; the others explain the rest.
    points = space(50, 3)
    every = torch.arange(50)
    near, whole = NearFactor(points, 30, residuals_only=True), NearFactor(points, 60)
    few, all_others = (of._near_left_out(every).residual.log().mean() for of in (near, whole))
    assert near.residual_error() == pytest.approx(float((few - all_others).expm1()), rel=1e-9)
    assert near.residual_error() > 1e-5
    assert whole.residual_error() == 0.0


def test_the_estimate_of_many_near_points_looks_at_fewer():
    points = space(1500, 3)
    few, many = (NearFactor(points, k, residuals_only=True).residual_error() for k in (30, 120))
    assert 0 < many < few


@pytest.mark.parametrize("size", [1e-200, 1e-150, 1e150, 1e200])
@pytest.mark.parametrize(("metric", "params"), METRICS[:-1])
def test_coordinates_of_any_size(size, metric, params):
    X, Z = normal(60, 3), normal(9, 3, seed=1)
    expected = NearFactor(
        Similarity.of(X, resolve_metric(metric, params), 1.0), 20, residuals_only=True
    ).probe(Z, torch.empty(0))
    scaled = Similarity.of(X * size, resolve_metric(metric, params), 1 / size)
    found = NearFactor(scaled, 20, residuals_only=True).probe(Z * size, torch.empty(0))
    close(found.residual, expected.residual, 1e-9)


def test_a_query_beyond_all_powers():
    points = space(60, 3)
    found = NearFactor(points, 20, residuals_only=True).probe(normal(4, 3) * 1e160, torch.empty(0))
    assert found.residual.tolist() == [1.0] * 4
    assert bool((found.nearest_distance > 1e159).all())


def test_it_goes_through_pickles_and_devices():
    near = Answers.of(space(200, 3), "sparse", CPU, residuals_only=True)
    Z = normal(5, 3, seed=1)
    expected = near.probe(Z).residual
    for other in (pickle.loads(pickle.dumps(near)), near.to(CPU)):
        assert torch.equal(other.probe(Z).residual, expected)


def test_weights_are_solved_for_when_they_are_asked_for():
    near = Answers.of(space(500, 2), "sparse", CPU, tol=1e-3, residuals_only=True)
    near.probe(normal(5, 2, seed=1))
    assert near.factor.solution is None
    exact = Answers.of(space(500, 2), "cholesky", CPU)
    assert near.magnitude == pytest.approx(exact.magnitude, rel=1e-5)
    close(near.weights, exact.weights, 1e-3)
    assert near.details["n_centers"] > 0
    complete = near.complete()
    Z = normal(5, 2, seed=1)
    close(complete.probe(Z).potential, exact.probe(Z).potential, 1e-5)


def test_a_missed_tolerance_is_told():
    few = {"n_centers": 20}
    points = space(500, 10, 0.1)
    near = Answers.of(points, "sparse", CPU, tol=1e-9, solver_params=few, residuals_only=True)
    with pytest.warns(ConvergenceWarning, match="solver='sparse' did not reach tol=1e-09"):
        assert near.magnitude > 1


@pytest.mark.parametrize("n_neighbors", [0, 2.5, "many", True])
def test_neighbours_are_counted(n_neighbors):
    with pytest.raises(ValueError, match="n_neighbors="):
        Answers.of(space(5, 2), "sparse", CPU, solver_params={"n_neighbors": n_neighbors})


def test_more_neighbours_than_by_default_may_be_asked_for():
    points = space(300, 3)
    near, _ = answering(points, "sparse", CPU, solver_params={"n_neighbors": 77})
    assert near.n_neighbors == 77


def test_points_without_coordinates_have_no_near_points():
    points = space(30, 3, metric="canberra")
    with pytest.raises(ValueError, match=r"solver='sparse' needs similarities that are known"):
        Answers.of(points, "sparse", CPU)
    with pytest.raises(ValueError, match="metric='canberra'; use solver='cholesky'"):
        NearFactor.of(points)


def test_parameters_are_for_a_solver_that_takes_them():
    points = space(30, 3)
    with pytest.raises(ValueError, match=r"'max_iter'.*solver='sparse'"):
        Answers.of(points, "sparse", CPU, solver_params={"max_iter": 5})
    with pytest.raises(ValueError, match="which takes none; solver='auto' chose it"):
        Answers.of(points, "auto", CPU, solver_params={"n_neighbors": 5})


def test_the_rule_for_questions(monkeypatch):
    monkeypatch.setattr(portfolio, "_ANSWERED_POINTS", 50)
    monkeypatch.setattr(portfolio, "_WEIGHED_POINTS", 100)
    name = lambda points, **asked: choose_answering(points, CPU, **asked)[0]  # noqa: E731
    assert name(space(50, 10)) == "cholesky"
    assert name(space(60, 10), residuals_only=True) == "sparse"
    # Weights are wanted, and near points give none in ten dimensions.
    assert name(space(60, 10)) == "cholesky"
    assert name(space(60, 2)) == "sparse"
    assert name(space(200, 10)) == "sparse"
    # Far points matter under other norms.
    assert name(space(60, 3, metric="cityblock"), residuals_only=True) == "cholesky"
    assert name(space(200, 3, metric="cityblock"), residuals_only=True) == "sparse"
    assert name(space(60, 1)) == "line"
    assert name(space(60, 3, metric="chebyshev"), residuals_only=True) == "cholesky"
    assert name(space(60, 3, metric="canberra"), residuals_only=True) == "cholesky"
