"""The estimated intrinsic dimension, on sets whose dimension is known."""

import numpy as np
import pytest
import torch
from reference import normal
from scipy.spatial.distance import cdist

from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers._dimension import exponent, has_coordinates, neighborhood


def similarity(X, metric="euclidean", **params):
    points = torch.from_numpy(np.ascontiguousarray(X, dtype=float))
    return Similarity.of(points, resolve_metric(metric, params))


def surface(n):
    a = np.random.default_rng(0).uniform(-1, 1, size=(n, 2))
    return np.sin(a @ normal(2, 20))


@pytest.mark.parametrize("d", [1, 2, 3, 5])
@pytest.mark.parametrize("extra", [0, 10])
def test_a_cube_has_its_dimension(d, extra):
    X = np.random.default_rng(0).uniform(size=(3000, d))
    X = np.hstack([X, np.zeros((3000, extra))])
    assert neighborhood(similarity(X)).dimension == pytest.approx(d, rel=0.15)


def test_a_surface_has_two():
    assert neighborhood(similarity(surface(3000))).dimension == pytest.approx(2, abs=0.4)


@pytest.mark.parametrize(
    ("metric", "params", "p"),
    [
        ("euclidean", {}, 2),
        ("cityblock", {}, 1),
        ("chebyshev", {}, np.inf),
        ("minkowski", {"p": 3.0}, 3),
    ],
)
def test_the_nearest_distance_is_the_metric_s(metric, params, p):
    X = normal(200, 3)
    d = cdist(X, X, metric, **params) + np.diag(np.full(200, np.inf))
    found = neighborhood(similarity(X, metric, **params))
    assert found.nearest == pytest.approx(np.median(d.min(1)))
    assert exponent(resolve_metric(metric, params)) == p


def test_equivariance():
    X = normal(500, 3)
    one, other = neighborhood(similarity(X)), neighborhood(similarity(1e3 * X))
    assert other.dimension == pytest.approx(one.dimension)
    assert other.nearest == pytest.approx(1e3 * one.nearest)


def test_never_more_than_the_features_nor_from_few_points():
    lattice = np.stack(np.meshgrid(*[np.arange(12.0)] * 2), -1).reshape(-1, 2)
    assert neighborhood(similarity(lattice)).dimension <= 2
    assert neighborhood(similarity(normal(5, 3))).dimension == 0.0


@pytest.mark.parametrize(
    ("metric", "known"), [("euclidean", True), ("cosine", True), ("canberra", False)]
)
def test_where_a_tree_finds_neighbours(metric, known):
    assert has_coordinates(resolve_metric(metric, {})) == known
    assert not has_coordinates(resolve_metric("precomputed", {}))


@pytest.mark.parametrize("size", [2.0**-660, 2.0**660])
def test_squares_beyond_the_range_of_floats(size):
    one, other = (
        neighborhood(similarity(normal(500, 3))),
        neighborhood(similarity(size * normal(500, 3))),
    )
    assert other.dimension == one.dimension
    assert other.nearest == size * one.nearest
