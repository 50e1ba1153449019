import numpy as np
import pytest
import torch
from reference import dense, normal, peak_memory

from skmag import weighting
from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers._base import IndefiniteError
from skmag._solvers._cholesky import CholeskyFactor, factor_in_place


def similarity(X, t):
    return Similarity.of(torch.from_numpy(np.array(X)), resolve_metric("euclidean", None), t)


def schur(X, t):
    zeta = dense(X, t)
    return zeta[1:, 1:] - np.outer(zeta[1:, 0], zeta[0, 1:])


def lower_of(prepared):
    return prepared.lower.numpy()[1:, 1:]


@pytest.mark.parametrize("t", [1e-10, 0.5, 20.0])
@pytest.mark.parametrize("n", [2, 30, 300])
def test_the_factor_multiplies_to_the_schur_complement(n, t):
    X = normal(n)
    prepared = CholeskyFactor.prepare(similarity(X, t))
    L = np.tril(lower_of(prepared))
    S = schur(X, t)
    np.testing.assert_allclose(L @ L.T, S, rtol=1e-12 if t > 1e-3 else 1e-4, atol=1e-15)


@pytest.mark.parametrize("t", [1e-10, 0.5])
def test_solve_and_quadratic_agree_with_the_dense_inverse(t):
    X = normal(20)
    similar = similarity(X, t)
    prepared = CholeskyFactor.prepare(similar)
    B = torch.from_numpy(normal(20, 4, seed=1))
    B[0] = 0.0
    x = prepared.solve(B)
    x[0] = 0.0
    np.testing.assert_allclose(similar.anchored_product(x).numpy(), B.numpy(), atol=1e-12)
    quadratic = prepared.quadratic(B).numpy()
    np.testing.assert_allclose(quadratic, (B * x).sum(0).numpy(), rtol=1e-10)


def test_factoring_in_place():
    matrix = torch.from_numpy(dense(normal(10), 1.0))
    lower, share = factor_in_place(matrix)
    L = np.tril(lower.numpy())
    np.testing.assert_allclose(L @ L.T, dense(normal(10), 1.0), rtol=1e-13)
    assert share == pytest.approx((np.diag(L) ** 2).min(), rel=1e-13)


def test_factoring_takes_no_second_matrix():
    n = 3000
    setup = f"""
import torch
from skmag._solvers._cholesky import factor_in_place
factor_in_place(torch.eye(300, dtype=torch.float64))
X = torch.arange({n}, dtype=torch.float64)[:, None] / 100
matrix = torch.cdist(X, X).neg_().exp_()
"""
    # That a second matrix would be seen, and that there is none.
    assert peak_memory(setup, "other = matrix.clone()") > 0.9 * 8 * n**2
    assert peak_memory(setup, "factor_in_place(matrix)") < 0.5 * 8 * n**2


def test_an_indefinite_matrix_is_refused_with_its_pivot():
    matrix = torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    with pytest.raises(IndefiniteError, match="pivot 2 of 2 is not positive"):
        factor_in_place(matrix)


@pytest.mark.parametrize("t", [1e-6, 0.5])
def test_extending_is_factoring_anew(t):
    X = normal(150)
    small, large = similarity(X[:90], t), similarity(X, t)
    grown = CholeskyFactor.prepare(small).extended(large)
    fresh = CholeskyFactor.prepare(large)
    np.testing.assert_allclose(np.tril(lower_of(grown)), np.tril(lower_of(fresh)), atol=1e-12)
    assert float(grown.lower.triu(1).abs().max()) == 0.0


@pytest.mark.parametrize("leaving", [[5], [1, 2, 140], list(range(10, 100)), [149]])
@pytest.mark.parametrize("t", [1e-6, 0.5])
def test_dropping_is_factoring_anew(t, leaving):
    X = normal(150)
    large = similarity(X, t)
    smaller, kept = large.dropped(np.array(leaving))
    shrunk = CholeskyFactor.prepare(large).dropped(smaller, kept)
    fresh = CholeskyFactor.prepare(smaller)
    np.testing.assert_allclose(np.tril(lower_of(shrunk)), np.tril(lower_of(fresh)), atol=1e-12)


@pytest.mark.parametrize("leaving", [[0], [0, 1, 2], list(range(100)), list(range(0, 149))])
def test_dropping_the_anchor_is_factoring_anew(leaving):
    X = normal(150)
    large = similarity(X, 0.5)
    smaller, kept = large.dropped(np.array(leaving))
    shrunk = CholeskyFactor.prepare(large).dropped(smaller, kept)
    w, magnitude = shrunk.weighting()
    expected = weighting(np.delete(X, leaving, axis=0), t=0.5)
    np.testing.assert_allclose(w.numpy(), expected.weights, rtol=1e-10, atol=1e-12)
    assert magnitude == pytest.approx(expected.magnitude, rel=1e-13)
    assert shrunk.magnitude() == pytest.approx(expected.magnitude, rel=1e-13)


def test_a_lattice_whose_points_are_many_is_solved():
    side = np.arange(20.0)
    X = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    # Under the 1-norm the magnitude of a product is the product of magnitudes.
    line = 1 + 19 * np.tanh(0.5 * 0.3)
    assert weighting(X, t=0.3, metric="cityblock").magnitude == pytest.approx(line**2, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_both_lapacks_give_one_factor(dtype, monkeypatch):
    matrix = torch.from_numpy(dense(normal(40), 1.0)).to(dtype).triu()
    expected, _ = factor_in_place(matrix.clone())
    monkeypatch.setattr("skmag._solvers._cholesky._SCIPY_POINTS", 1)
    found, _ = factor_in_place(matrix.clone())
    torch.testing.assert_close(found, expected)
    with pytest.raises(IndefiniteError, match="pivot 2 of 2 is not positive"):
        factor_in_place(torch.tensor([[1.0, 2.0], [0.0, 1.0]], dtype=dtype))


def test_the_memory_of_a_spent_factor_is_used_again():
    operator = similarity(normal(30), 1.0)
    spent = CholeskyFactor.prepare(operator)
    again = CholeskyFactor.prepare(operator.at(2.0), spent)
    assert again.lower.data_ptr() == spent.lower.data_ptr()
    fresh = CholeskyFactor.prepare(operator.at(2.0))
    assert again.magnitude() == fresh.magnitude()
    np.testing.assert_array_equal(again.lower, fresh.lower)


@pytest.mark.parametrize("t", [1e-12, 0.5, 20.0])
def test_ones_are_explained_point_by_point(t):
    X = normal(20)
    found = CholeskyFactor.prepare(similarity(X, t)).explained_ones().numpy()
    expected = [weighting(X[:n], t=t).magnitude - 1 for n in range(1, 21)]
    assert found[0] == 0.0
    assert found[1:].min() > 0.0
    # A magnitude holds its excess over one to a few eps.
    np.testing.assert_allclose(np.cumsum(found), expected, rtol=1e-12, atol=1e-15)
