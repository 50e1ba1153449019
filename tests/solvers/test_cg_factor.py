"""Every question answered by conjugate gradients, beside a Cholesky factor and dense solves."""

import pickle

import numpy as np
import pytest
import torch
from reference import normal
from scipy.spatial.distance import cdist
from sklearn import config_context

from skmag._arrays import rows_per_block
from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers._cg_factor import ConjugateGradientFactor, conjugate_gradients
from skmag._solvers._cholesky import CholeskyFactor
from skmag._solvers._preconditioners import Diagonal
from skmag._solvers._products import Products

CASES = [(120, 2, 1.0), (120, 10, 0.3), (120, 2, 1e-6), (120, 3, 50.0), (2, 3, 1.0), (1, 2, 1.0)]


def similarity(X, t=1.0, metric="euclidean", **params):
    points = torch.from_numpy(np.ascontiguousarray(X, dtype=float))
    return Similarity.of(points, resolve_metric(metric, params), t)


def assert_close(found, expected, tolerance=1e-8):
    scale = max(1e-300, float(expected.abs().max()))
    np.testing.assert_allclose(found / scale, expected / scale, atol=tolerance, rtol=tolerance)


@pytest.fixture(params=CASES, ids=str)
def factors(request):
    n, d, t = request.param
    space = similarity(normal(n, d), t)
    return ConjugateGradientFactor.prepare(space), CholeskyFactor.prepare(space)


def test_weights(factors):
    (w, magnitude), (expected, exact) = (factor.weighting() for factor in factors)
    assert_close(w, expected)
    assert magnitude == pytest.approx(exact, rel=1e-12)
    assert factors[0].magnitude() == pytest.approx(exact, rel=1e-12)


def test_queries(factors):
    d = factors[0].similarity.points.shape[1]
    Z = torch.cat([torch.from_numpy(normal(9, d, seed=1)), factors[0].similarity.points[:2]])
    found, expected = (factor.probe(Z, factor.weighting()[0]) for factor in factors)
    for name in ("potential", "deficit", "residual", "explained"):
        assert_close(getattr(found, name), getattr(expected, name))
    assert torch.equal(found.on_point, expected.on_point)


def test_points_left_out(factors):
    if len(factors[0].similarity) == 1:
        pytest.skip("nothing is left without the only point")
    every = torch.arange(len(factors[0].similarity))
    found, expected = (factor.left_out(factor.weighting()[0], every) for factor in factors)
    for name in ("potential", "deficit", "residual", "explained", "nearest_distance"):
        assert_close(getattr(found, name), getattr(expected, name))


def test_the_inverse(factors):
    points = torch.arange(min(3, len(factors[0].similarity)))
    assert_close(factors[0].inverse_columns(points), factors[1].inverse_columns(points))
    assert_close(factors[0].inverse_diagonal(), factors[1].inverse_diagonal())


def test_growing_and_shrinking_prepare_anew():
    X = normal(60, 3)
    factor = ConjugateGradientFactor.prepare(similarity(X[:50]))
    grown = factor.extended(similarity(X))
    assert grown.magnitude() == pytest.approx(CholeskyFactor.prepare(similarity(X)).magnitude())


def test_blocks_of_right_sides_fit_the_working_memory():
    factor = ConjugateGradientFactor.prepare(similarity(normal(1000, 2)))
    with config_context(working_memory=1):
        columns = rows_per_block(factor.probe_bytes(), 10**6)
    # Right side, solution, residual, direction, its image and the preconditioned residual.
    assert columns >= 1
    assert 6 * 8 * 1000 * columns <= 2**20


@pytest.mark.parametrize("n_columns", [1, 2, 7])
def test_columns_do_not_disturb_each_other(n_columns):
    X = normal(80, 2)
    zeta = np.exp(-cdist(X, X))
    B = normal(80, n_columns, seed=1) * 10.0 ** np.arange(0, 3 * n_columns, 3)
    B[:, -1] = zeta[:, 0]
    space = similarity(X)
    x = conjugate_gradients(Products(space), Diagonal(space), torch.from_numpy(B)).numpy()
    exact = np.linalg.solve(zeta, B)
    np.testing.assert_allclose(x / np.abs(exact).max(0), exact / np.abs(exact).max(0), atol=1e-8)


def test_a_column_of_zeros_has_the_solution_zero():
    space = similarity(normal(20, 2))
    B = torch.zeros(20, 2, dtype=torch.float64)
    B[3, 1] = 1.0
    x = conjugate_gradients(Products(space), Diagonal(space), B)
    assert bool((x[:, 0] == 0).all())
    assert torch.isfinite(x).all()


def test_what_cannot_be_solved_is_refused():
    half = normal(30, 2)
    X = np.vstack([half, half + 1e-15])
    space = similarity(X)
    B = torch.from_numpy(normal(len(space), 1, seed=1))
    with pytest.raises(np.linalg.LinAlgError, match="too ill-conditioned"):
        conjugate_gradients(Products(space), Diagonal(space), B)


def test_kept_tiles_stay_behind():
    space = similarity(normal(600, 6))
    factor = ConjugateGradientFactor.prepare(space)
    bare = len(pickle.dumps(factor))
    b = torch.zeros(600, 1, dtype=torch.float64)
    b[3] = 1.0
    x = factor.solve(b)
    assert len(pickle.dumps(factor)) == bare
    copy, moved = pickle.loads(pickle.dumps(factor)), factor.to(torch.device("cpu"))
    for other in (copy, moved):
        assert other.products is not factor.products
        assert other.products.similarity is other.similarity
        assert_close(other.solve(b), x, 1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_operator_follows_to_another_device():
    factor = ConjugateGradientFactor.prepare(similarity(normal(300, 6)))
    b = torch.zeros(300, 1, dtype=torch.float64)
    b[3] = 1.0
    x = factor.solve(b)
    moved = factor.to(torch.device("cuda", 0))
    assert_close(moved.solve(b.to("cuda")).cpu(), x, 1e-10)
