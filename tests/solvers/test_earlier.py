import numpy as np
import pytest
import torch
from reference import normal
from scipy.spatial import cKDTree

from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers._earlier import (
    NONE,
    earlier_neighbors,
    settled_earlier_neighbors,
    settled_nearest,
)
from skmag._solvers._sparse import solve_sparse
from skmag._solvers._sparse_inverse import SparseInverse

GRID = np.stack(np.meshgrid(np.arange(18) * 0.1, np.arange(18) * 0.1), axis=-1).reshape(-1, 2)


def earlier_by_sorting(points, order, n_first, k):
    """Each point and its nearest earlier ones, of ties the earliest, rows in input order."""
    out = {}
    for place in range(n_first, len(order)):
        before = order[:place]
        distance = np.sqrt(((points[before] - points[order[place]]) ** 2).sum(1))
        found = before[np.lexsort((np.arange(place), distance))[:k]]
        out[order[place]] = [order[place], *found, *[order[place]] * (k - len(found))]
    return np.array([out[point] for point in sorted(out)])


@pytest.mark.parametrize("X", [GRID, normal(300, 3)], ids=["grid", "normal"])
@pytest.mark.parametrize(("n_first", "k"), [(1, 4), (20, 1), (30, 9)])
def test_settled_neighbours_against_sorting(X, n_first, k):
    order = np.random.default_rng(0).permutation(len(X))
    found = settled_earlier_neighbors(X, order, n_first, k, 2.0)
    np.testing.assert_array_equal(found, earlier_by_sorting(X, order, n_first, k))


def test_without_ties_both_find_the_same():
    X, order = normal(500, 2), np.random.default_rng(0).permutation(500)
    found = earlier_neighbors(X, order, 20, 7, 1.0)
    settled = settled_earlier_neighbors(X, order, 20, 7, 1.0)
    np.testing.assert_array_equal(found[found[:, 0].argsort()], settled)


@pytest.mark.parametrize("k", [1, 6])
def test_settled_nearest_counts_low_numbers_only(k):
    limit = np.arange(len(GRID)) // 2
    distance, number = settled_nearest(cKDTree(GRID), GRID, limit, k, 2.0)
    for i, most in enumerate(limit):
        expected = np.sqrt(((GRID[:most] - GRID[i]) ** 2).sum(1))
        order = np.lexsort((np.arange(most), expected))[:k]
        assert number[i].tolist() == order.tolist() + [NONE] * (k - len(order))
        np.testing.assert_allclose(distance[i, : len(order)], expected[order])
        assert np.isinf(distance[i, len(order) :]).all()


def test_canonical_columns_are_the_others_in_input_order():
    base = Similarity.of(torch.from_numpy(normal(400, 2)), resolve_metric("euclidean", {}), 1.0)
    by_tree, canonical = (
        SparseInverse.of(base, 30, 8, canonical=settled) for settled in (False, True)
    )
    order = by_tree.points.argsort()
    torch.testing.assert_close(canonical.indices, by_tree.indices[order], rtol=0, atol=0)
    torch.testing.assert_close(canonical.values, by_tree.values[order], rtol=1e-12, atol=0)
    ties = torch.tensor([1.0, 3.0, 0.0, 3.0, 1.0])
    assert canonical.greatest(ties, 4).tolist() == [1, 3, 0, 4]


def test_canonical_solve_is_as_good():
    base = Similarity.of(torch.from_numpy(GRID), resolve_metric("euclidean", {}), 3.0)
    exact = solve_sparse(base, tol=1e-6, n_centers=len(GRID)).certificate.magnitude
    found = solve_sparse(base, tol=1e-4, n_centers=60, canonical=True).certificate
    assert abs(found.magnitude - exact) <= 3 * found.standard_error + 1e-12 * exact
