"""One set at many scales: every solve as good as one of its own, and cheaper."""

import math

import numpy as np
import pytest
import torch
from reference import normal
from scipy.spatial.distance import cdist

from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers._cg import solve_cg
from skmag._solvers._many_scales import _extrapolated, solve_scales

TOL = 1e-6


def similarity(X, metric="euclidean", **params):
    points = torch.from_numpy(np.ascontiguousarray(X, dtype=float))
    return Similarity.of(points, resolve_metric(metric, params))


def exact(X, t, metric="euclidean"):
    return np.linalg.solve(np.exp(-t * cdist(X, X, metric)), np.ones(len(X))).sum()


@pytest.mark.parametrize("d", [2, 10])
@pytest.mark.parametrize("table", [False, True])
def test_every_scale_is_certified(d, table):
    X, ts = normal(250, d), np.geomspace(1e-3, 1e2, 17)
    space = similarity(X)
    solutions = solve_scales(space.with_table() if table else space, ts, tol=TOL)
    for t, solution in zip(ts, solutions, strict=True):
        found = solution.certificate
        assert solution.similarity.t == t
        assert found.converged
        value = exact(X, t)
        assert found.lower <= value * (1 + 1e-10)
        assert value <= found.upper * (1 + 1e-10)
        assert found.upper - found.lower <= TOL * found.lower


def test_neighbours_save_steps():
    X, ts = normal(300, 6), np.geomspace(0.05, 2, 15)
    space = similarity(X)
    together = sum(each.certificate.n_iter for each in solve_scales(space, ts, tol=TOL))
    alone = sum(solve_cg(space.at(t), tol=TOL).certificate.n_iter for t in ts)
    assert together < 0.8 * alone


def test_any_order_and_repeated_scales():
    X = normal(120, 3)
    ts = [0.1, 5.0, 0.1, 1.0]
    values = [each.certificate.magnitude for each in solve_scales(similarity(X), ts, tol=TOL)]
    np.testing.assert_allclose(values, [exact(X, t) for t in ts], rtol=TOL)


@pytest.mark.parametrize("metric", ["cityblock", "cosine"])
def test_other_metrics(metric):
    X, ts = normal(100, 5), np.geomspace(0.1, 10, 5)
    solutions = solve_scales(similarity(X, metric), ts, tol=TOL)
    assert metric == "cosine" or all(each.certificate.converged for each in solutions)
    values = [each.certificate.magnitude for each in solutions]
    np.testing.assert_allclose(values, [exact(X, t, metric) for t in ts], rtol=2 * TOL)


def test_scales_are_reported_as_they_are_done():
    X, ts = normal(60, 2), [0.5, 2.0, 1.0]
    seen = []
    solutions = solve_scales(similarity(X), ts, tol=TOL, done=lambda *told: seen.append(told))
    assert [index for index, _ in seen] == [1, 2, 0]
    assert all(solutions[index] is solution for index, solution in seen)


def test_too_few_steps_are_told_at_each_scale():
    solutions = solve_scales(similarity(normal(300, 6)), [0.05, 0.2], tol=1e-10, max_iter=1)
    assert not any(each.certificate.converged for each in solutions)


def test_a_cubic_in_the_logarithm_is_continued_exactly():
    def weights(x):
        return torch.tensor([1.0, x, x**3 - 2 * x**2], dtype=torch.float64)

    nodes = [3.0, 2.5, 2.2, 1.8]
    past = [(x, weights(x)) for x in nodes]
    np.testing.assert_allclose(_extrapolated(past, 1.5), weights(1.5), rtol=1e-12)
    np.testing.assert_allclose(_extrapolated(past[:2], 1.5)[:2], weights(1.5)[:2], rtol=1e-12)


def test_nothing_is_continued_too_far():
    past = [(x, torch.tensor([x])) for x in (3.0, 2.9)]
    assert _extrapolated([], 1.0) is None
    assert _extrapolated(past[:1], 1.0) is past[0][1]
    assert _extrapolated(past, math.log(1e-3)) is past[1][1]
    # The same scale again has no direction.
    assert _extrapolated([*past, past[1]], 2.0) is past[1][1]


@pytest.mark.parametrize("name", ["none", "partial_cholesky", "sparse"])
def test_one_kind_of_preconditioner_for_all_scales(name):
    X, ts = normal(80, 3), [1e-4, 0.1, 0.3, 50.0]
    solutions = solve_scales(similarity(X), ts, tol=TOL, preconditioner=name)
    assert {each.details["preconditioner"] for each in solutions} == {name}
    values = [each.certificate.magnitude for each in solutions]
    np.testing.assert_allclose(values, [exact(X, t) for t in ts], rtol=TOL)


def test_an_unknown_preconditioner():
    with pytest.raises(ValueError, match="preconditioner='lu'"):
        solve_scales(similarity(normal(9)), [1.0], tol=TOL, preconditioner="lu")
