import numpy as np
import pytest
import torch

from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers import _neighbors as neighbors
from skmag._solvers._neighbors import NearPoints

METRICS = [
    ("euclidean", None),
    ("cityblock", None),
    ("chebyshev", None),
    ("minkowski", {"p": 3}),
    ("cosine", None),
]


def normal(n, n_features, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, n_features)))


def space(points, metric="euclidean", params=None):
    return Similarity.of(points, resolve_metric(metric, params))


def is_nearest(points, Z, found):
    """Whether no point that was left out is nearer than one that was found."""
    distance = points.metric.block(Z, points.points)
    near = distance.gather(1, found)
    k = found.shape[1]
    expected = distance.sort(dim=1).values[:, :k]
    assert all(len(set(row)) == k for row in found.tolist())
    torch.testing.assert_close(near.sort(dim=1).values, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("metric", "params"), METRICS)
@pytest.mark.parametrize("n_features", [3, 30])
@pytest.mark.parametrize("k", [1, 7])
def test_nearest_points_by_tree_and_by_distances(metric, params, n_features, k):
    points = space(normal(200, n_features), metric, params)
    Z = points.metric.points(normal(50, n_features, seed=1), "Z")
    index = NearPoints(points)
    is_nearest(points, Z, index.query(Z, k))
    is_nearest(points, Z, index._blockwise(Z, k))


def test_blocks_of_columns_are_merged(monkeypatch):
    monkeypatch.setattr(neighbors, "_ACCELERATOR_COLUMNS", 16)
    points, Z = space(normal(100, 4)), normal(20, 4, seed=1)
    is_nearest(points, Z, NearPoints(points)._blockwise(Z, 9))
    is_nearest(points, Z, NearPoints(points)._blockwise(Z, 100))


def test_points_of_few_dimensions_among_many_features_have_a_tree():
    flat = normal(500, 2) @ normal(2, 40, seed=1)
    assert neighbors._wants_tree(space(flat))
    assert not neighbors._wants_tree(space(normal(500, 40)))


@pytest.mark.parametrize("size", [1e-150, 1e150])
def test_powers_of_coordinates_stay_in_range(size):
    points, Z = normal(50, 3) * size, normal(5, 3, seed=1) * size
    found = NearPoints(space(points)).query(Z, 4)
    is_nearest(space(points / size), Z / size, found)


@pytest.mark.parametrize("offset", [1e8, 1e12])
def test_products_do_not_lose_what_is_near_beside_its_size(offset):
    X = normal(300, 30)
    X[::2] += offset
    points = space(X)
    index = NearPoints(points)
    assert not hasattr(index._index, "query")
    is_nearest(points, X[:50], index.query(X[:50], 5))
