import math

import numpy as np
import pytest
import torch
from reference import dense, normal

from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers._accuracy import Accuracy
from skmag._solvers._products import Products


def similarity(X, t, metric="euclidean"):
    return Similarity.of(torch.from_numpy(X), resolve_metric(metric, None), t)


def accuracy(space, tol=1e-3):
    return Accuracy(space, tol, Products(space, anchored=False))


@pytest.mark.parametrize("error", [1e-6, 1e-3, 0.03, 1.0])
def test_an_interval_decides_where_the_bound_is_sharp(error):
    X, t = normal(60, 2), 3.0
    exact = np.linalg.solve(dense(X, t), np.ones(60))
    weights = torch.from_numpy(exact + error * np.random.default_rng(0).normal(size=60))
    found = accuracy(similarity(X, t)).certificate(weights, 7)
    assert found.lower <= exact.sum() <= found.upper
    assert found.lower <= found.magnitude <= found.upper
    assert found.converged == (found.upper - found.lower <= 1e-3 * found.lower)
    assert found.standard_error == 0
    assert found.n_iter == 7


@pytest.mark.parametrize("t", [0.1, 0.5])
def test_the_estimated_eigenvalue(t):
    X = normal(100, 10)
    found = accuracy(similarity(X, t, "cityblock"))._smallest_eigenvalue
    exact = np.linalg.eigvalsh(dense(X, t, metric="cityblock"))[0]
    assert exact * (1 - 1e-9) <= found <= 1.2 * exact


def test_the_estimate_is_of_the_error():
    X, t = normal(100, 10), 0.3
    zeta = dense(X, t, metric="cityblock")
    exact = np.linalg.solve(zeta, np.ones(100))
    weights = exact + 0.01 * np.random.default_rng(0).normal(size=100)
    space = similarity(X, t, "cityblock")
    found = accuracy(space, 0.1).certificate(torch.from_numpy(weights), 0)
    assert exact.sum() - found.magnitude <= found.standard_error <= 0.1 * exact.sum()
    assert found.converged
    # Far from the solution no eigenvalue can help.
    far = accuracy(space, 0.1).certificate(torch.zeros(100, dtype=torch.float64), 0)
    assert math.isnan(far.standard_error)
    assert not far.converged


def test_nothing_is_estimated_where_zeta_is_indefinite():
    # Distances of a bipartite graph, whose similarities have a negative eigenvalue.
    side = np.arange(8) % 2
    D = np.where(side[:, None] == side, 2.0, 1.0) - 2 * np.eye(8)
    zeta = np.exp(-0.2 * D)
    assert np.linalg.eigvalsh(zeta)[0] < 0
    weights = torch.from_numpy(np.linalg.solve(zeta, np.ones(8)))
    found = accuracy(similarity(D, 0.2, "precomputed")).certificate(weights, 0)
    assert (found.lower, found.upper) == (-math.inf, math.inf)
    assert not found.converged


def test_looks_are_farther_and_farther_apart():
    space = similarity(normal(20, 2), 1.0)
    looker, looks = accuracy(space), []
    for step in range(200):
        if looker.is_due(step):
            looker.certificate(torch.zeros(20, dtype=torch.float64), step)
            looks.append(step)
    assert looks[:3] == [0, 4, 8]
    assert np.all(np.diff(looks, 2) >= 0)
    assert len(looks) < 25
