import pickle

import numpy as np
import pytest
import torch
from reference import dense, dense_inverse, mp_weighting, normal
from scipy.spatial.distance import cdist

from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers._sparse_inverse import (
    SparseInverse,
    _last_inverse_column,
    columns,
    earlier_neighbors,
)

EUCLIDEAN = resolve_metric("euclidean", None)


def similarity(X, t, metric="euclidean", **params):
    return Similarity.of(torch.from_numpy(np.asarray(X)), resolve_metric(metric, params), t)


def assembled(inverse):
    """The matrix U U', a column at a time."""
    return inverse.apply(torch.eye(len(inverse.similarity), dtype=torch.float64)).numpy()


# Under the cosine zeta is a Gaussian kernel on the sphere, singular in float64 unless t is large.
@pytest.mark.parametrize(
    ("metric", "params", "t"),
    [
        *(("euclidean", {}, t) for t in (1e-2, 1.0, 30.0)),
        ("cityblock", {}, 1.0),
        ("minkowski", {"p": 1.5}, 1.0),
        ("cosine", {}, 300.0),
    ],
)
def test_all_earlier_points_as_neighbours_give_the_inverse(metric, params, t):
    X = normal(40, 3)
    inverse = SparseInverse.of(similarity(X, t, metric, **params), 7, 40)
    exact = dense_inverse(X, t, metric, **params)
    assert inverse.indices.shape == (33, 41)
    np.testing.assert_allclose(assembled(inverse), exact, rtol=1e-7, atol=1e-7 * exact.max())


def test_columns_are_those_of_the_small_inverses():
    X, t = normal(60, 2), 0.7
    inverse = SparseInverse.of(similarity(X, t), 10, 5)
    Z = dense(X, t)
    for index, value in zip(inverse.indices.numpy(), inverse.values.numpy(), strict=True):
        column = np.linalg.inv(Z[np.ix_(index, index)])[:, 0]
        np.testing.assert_allclose(value, column / np.sqrt(column[0]), rtol=1e-9)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, np.inf])
def test_neighbours_are_the_nearest_earlier_points(p):
    X = normal(150, 3)
    order = np.random.default_rng(1).permutation(150)
    place = np.argsort(order)
    found = earlier_neighbors(X, order, 20, 6, p)
    D = np.array([[np.linalg.norm(x - y, p) for y in X] for x in X])
    assert sorted(found[:, 0]) == sorted(order[20:])
    for row in found:
        own = row[0]
        before = np.flatnonzero(place < place[own])
        nearest = before[np.argsort(D[own, before])[:6]]
        assert row[1:].tolist() == nearest.tolist()


def test_rows_with_few_earlier_points_are_filled_with_their_own():
    X = normal(6, 2)
    inverse = SparseInverse.of(similarity(X, 1.0), 1, 3)
    second = inverse.indices[0]
    assert second.tolist() == [second[0], 0, second[0], second[0]]
    assert (inverse.values[0, 2:] == 0).all()
    r = np.exp(-np.linalg.norm(X[second[0]] - X[0]))
    np.testing.assert_allclose(inverse.values[0, :2], [1, -r] / np.sqrt(1 - r**2))


def test_promoted_points_are_exact_and_other_columns_stay():
    X = normal(80, 2)
    inverse = SparseInverse.of(similarity(X, 1.0), 10, 8)
    larger = inverse.promoted(torch.tensor([3, 40]))
    chosen = larger.centers
    assert chosen[:10].tolist() == inverse.centers.tolist()
    assert chosen[10:].tolist() == inverse.indices[[3, 40], 0].tolist()
    stay = np.delete(np.arange(70), [3, 40])
    torch.testing.assert_close(larger.values, inverse.values[stay], rtol=0, atol=0)
    B = torch.from_numpy(normal(12, 3, seed=1))
    solved = np.linalg.solve(dense(X[chosen], 1.0), B)
    np.testing.assert_allclose(larger.solve_centers(B), solved, rtol=1e-9, atol=1e-9)


def test_apply_is_symmetric_positive_and_close_to_the_inverse():
    X = np.random.default_rng(0).uniform(size=(250, 2))
    M = assembled(SparseInverse.of(similarity(X, 3.0), 30, 20))
    np.testing.assert_allclose(M, M.T, atol=1e-9 * M.max())
    eigenvalues = np.linalg.eigvals(M @ dense(X, 3.0)).real
    assert eigenvalues.min() > 0.5
    assert eigenvalues.max() < 2


def test_tail_and_spread_are_each_others_transpose():
    inverse = SparseInverse.of(similarity(normal(90, 3), 1.0), 12, 7)
    rho = torch.from_numpy(normal(90, 1)[:, 0])
    y = torch.from_numpy(normal(78, 1, seed=1)[:, 0])
    assert float(inverse.tail(rho) @ y) == pytest.approx(float(rho @ inverse.spread(y)))


def test_refreshed_has_the_values_of_its_own_scale():
    base = similarity(normal(100, 2), 1.0)
    inverse = SparseInverse.of(base, 10, 6)
    other = inverse.refreshed(base.at(5.0))
    anew = SparseInverse.of(base.at(5.0), 10, 6)
    torch.testing.assert_close(other.indices, inverse.indices, rtol=0, atol=0)
    torch.testing.assert_close(other.values, anew.values)
    torch.testing.assert_close(other.exact.lower, anew.exact.lower)


@pytest.mark.parametrize("t", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("gap", [1e-4, 1e-8, 1e-12])
def test_near_duplicates_at_any_scale(gap, t):
    X = np.random.default_rng(0).uniform(1, 2, size=(60, 2))
    X = np.concatenate([X, X[:40] + gap * normal(40, 2)])
    inverse = SparseInverse.of(similarity(X, t), 10, 8)
    values = inverse.values
    assert bool(torch.isfinite(values).all())
    assert bool((values[:, 0] > 0).all())
    # Each column has norm one under zeta: differences of near points weigh gap^-1/2.
    D = cdist(X, X)
    for index, value in zip(inverse.indices.numpy(), values.numpy(), strict=True):
        S = np.expm1(-t * D[np.ix_(index, index)])
        norm = value @ S @ value + value.sum() ** 2
        assert norm == pytest.approx(1, rel=1e-3 + 1e-15 / gap)


def test_many_copies_but_for_rounding_do_not_fail():
    X = 1 + 1e-15 * np.random.default_rng(0).integers(0, 40, size=(200, 2))
    inverse = SparseInverse.of(similarity(np.concatenate([X, normal(50, 2)]), 1.0), 60, 10)
    assert bool(torch.isfinite(inverse.values).all())
    assert len(inverse.centers) <= 60


def test_tiny_scales_keep_digits():
    # At t = 1e-9 entries of zeta differ in their last digits only.
    X, t = [[0.0, 0.0], [1.0, 0.0], [0.5, 0.7]], 1e-9
    inverse = SparseInverse.of(similarity(X, t), 1, 2)
    magnitude = mp_weighting(X, t)[1]
    rho = -torch.expm1(-t * inverse.similarity.anchor)
    assert float(inverse.tail(rho).square().sum()) == pytest.approx(float(magnitude - 1), rel=1e-6)


def test_pickle_and_device_round_trip():
    inverse = SparseInverse.of(similarity(normal(50, 2), 1.0), 10, 5)
    R = torch.from_numpy(normal(50, 2, seed=3))
    copy = pickle.loads(pickle.dumps(inverse)).to(torch.device("cpu"))
    torch.testing.assert_close(copy.apply(R), inverse.apply(R))


def test_empty_pattern():
    base = similarity(normal(5, 2), 1.0)
    assert columns(base, torch.empty(0, 4, dtype=torch.int32)).shape == (0, 4)
    assert SparseInverse.of(base, 5, 3).indices.shape == (0, 4)


def test_columns_are_finite_where_a_way_over_the_anchor_is_shorter():
    # Squares of distances: from one end of an arc to the other it is longer than in two steps.
    angle = np.linspace(0, 0.8 * np.pi, 9)
    X = np.stack([np.cos(angle), np.sin(angle)], 1)
    inverse = SparseInverse.of(similarity(X, 1e4, "cosine"), 2, 8)
    assert torch.isfinite(inverse.values).all()
    np.testing.assert_allclose(assembled(inverse), np.eye(9), atol=1e-12)


@pytest.mark.parametrize("size", [5, 65, 90])
def test_systems_of_any_size_are_solved_alike(size):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(7, size, size + 3))
    S = np.einsum("nik,njk->nij", A, A)
    scale = np.sqrt(S.diagonal(axis1=1, axis2=2))
    S /= scale[:, :, None] * scale[:, None]
    # A row that does not count, a row that is a copy, and a system whose last row is one.
    S[0, 2], S[0, :, 2] = 0.0, 0.0
    S[1, 3], S[1, :, 3], S[1, 3, 3] = S[1, 1], S[1, :, 1], 1.0
    S[1, 3, 1] = S[1, 1, 3] = 1.0
    S[2, -1], S[2, :, -1], S[2, -1, -1] = S[2, 1], S[2, :, 1], 1.0
    S[2, -1, 1] = S[2, 1, -1] = 1.0
    systems = torch.from_numpy(np.moveaxis(S, 0, -1).copy())
    x = _last_inverse_column(systems.clone()).numpy()
    for i, own in enumerate(S):
        kept = [j for j in range(size) if not (i == 0 and j == 2) and not (i == 1 and j == 3)]
        inverse = np.linalg.pinv(own[np.ix_(kept, kept)])
        if i == 2:
            expected = np.eye(size)[-1]
        else:
            expected = np.zeros(size)
            expected[kept] = inverse[:, -1] / np.sqrt(inverse[-1, -1])
        np.testing.assert_allclose(x[:, i], expected, atol=1e-8)


@pytest.mark.parametrize("metric", ["cityblock", "euclidean"])
def test_columns_are_finite_where_rounding_makes_a_way_shorter(metric):
    X = normal(400, 3) * 1e150
    X[200:, 1:] = X[:200, 1:]
    inverse = SparseInverse.of(similarity(X, 1.0, metric), 1, 6)
    np.testing.assert_array_equal(inverse.values[:, 0], np.ones(399))
    np.testing.assert_array_equal(inverse.values[:, 1:], np.zeros((399, 6)))
