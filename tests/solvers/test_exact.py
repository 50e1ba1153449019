import numpy as np
import pytest
import torch

from skmag import magnitude, weighting
from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers import SOLVERS, _exact, factor
from skmag._solvers._exact import WITHOUT_FACTOR, choose_exact
from skmag._solvers._portfolio import ITERATIVE

CPU = torch.device("cpu")


def similarity(n=100, d=3, metric="euclidean", params=None):
    points = torch.from_numpy(np.random.default_rng(0).normal(size=(n, d)))
    if metric == "precomputed":
        points = torch.cdist(points, points)
        points = (points + points.mT).fill_diagonal_(0)
    return Similarity.of(points, resolve_metric(metric, params))


@pytest.mark.parametrize(
    ("metric", "params"),
    [("euclidean", None), ("cityblock", None), ("chebyshev", None), ("minkowski", {"p": 3})],
)
def test_one_feature_under_a_norm_is_a_line(metric, params):
    name, reason = choose_exact(similarity(d=1, metric=metric, params=params), CPU)
    assert name == "line"
    assert "one feature" in reason


@pytest.mark.parametrize("metric", ["canberra", "sqeuclidean", "precomputed"])
def test_one_feature_under_another_metric_is_no_line(metric):
    assert choose_exact(similarity(d=1, metric=metric), CPU)[0] == "cholesky"
    with pytest.raises(ValueError, match="solver='line' needs points with one feature"):
        factor(similarity(d=1, metric=metric), "line", CPU)


@pytest.mark.parametrize(
    ("free", "name", "reason"),
    [
        (float("inf"), "cholesky", "the float64 factor of n=100 points fits"),
        (80_000, "cholesky", "the float64 factor of n=100 points fits"),
        (79_999, "mixed", "only a float32 factor of n=100 points fits"),
        (40_000, "mixed", "only a float32 factor of n=100 points fits"),
        (39_999, "cholesky", "no exact factor fits"),
    ],
)
def test_memory_decides(monkeypatch, free, name, reason):
    monkeypatch.setattr(_exact, "available_memory", lambda device: free)
    found = choose_exact(similarity(), CPU)
    assert found[0] == name
    assert reason in found[1]


def test_a_device_without_float64_gets_a_float32_factor():
    name, reason = choose_exact(similarity(), torch.device("mps"))
    assert name == "mixed"
    assert "no float64" in reason


def test_a_line_needs_no_memory(monkeypatch):
    monkeypatch.setattr(_exact, "available_memory", lambda device: 0)
    assert choose_exact(similarity(d=1), CPU)[0] == "line"


@pytest.mark.parametrize("solver", ["LU", "", "Cholesky", "conjugate gradients"])
def test_unknown_solvers_are_named(solver):
    with pytest.raises(ValueError, match=f"solver={solver!r} is unknown; use one of .*'auto'"):
        weighting([[0.0, 1.0]], solver=solver)


def test_a_line_needs_one_feature():
    with pytest.raises(ValueError, match="solver='line' needs points with one feature and a norm"):
        weighting([[0.0, 1.0]], solver="line")


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
def test_the_weighting_says_which_solver_ran_and_why(solver):
    space = weighting([[0.0], [1.0], [3.0]], solver=solver)
    assert space.solver == ("line" if solver == "auto" else solver)
    assert space.reason == (
        "one feature: closed form on the real line" if solver == "auto" else "asked for"
    )
    assert space.magnitude == pytest.approx(1 + np.tanh(0.5) + np.tanh(1.0), rel=1e-14)


def test_a_weighted_norm_of_one_feature_is_no_line():
    X, params = [[0.0], [1.0]], {"p": 2, "w": [4.0]}
    found = magnitude(X, metric="minkowski", metric_params=params)
    assert found == pytest.approx(2 / (1 + np.exp(-2)), rel=1e-14)
    with pytest.raises(ValueError, match="solver='line'"):
        magnitude(X, metric="minkowski", metric_params=params, solver="line")


@pytest.mark.parametrize("solver", list(ITERATIVE))
def test_solvers_without_a_factor_are_not_called_unknown(solver):
    assert set(WITHOUT_FACTOR) == set(ITERATIVE)
    with pytest.raises(ValueError, match="makes no factor, which is needed here") as caught:
        factor(similarity(), solver, CPU)
    assert "'cholesky'" in str(caught.value)
    assert "unknown" not in str(caught.value)
