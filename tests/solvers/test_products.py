"""zeta and S as operators, tile by tile."""

import numpy as np
import pytest
import torch
from reference import normal
from scipy.spatial.distance import cdist
from sklearn import config_context

from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers import _products
from skmag._solvers._products import Products, Workspace, kept_bytes, operators


def similarity(X, t=1.0, metric="euclidean", **params):
    return Similarity.of(
        torch.from_numpy(np.ascontiguousarray(X)), resolve_metric(metric, params), t
    )


def dense(X, t, anchored, metric="euclidean", **params):
    """zeta, or its Schur complement after the first point with an identity row in its place."""
    d = cdist(X, X, metric, **params)
    if not anchored:
        return np.exp(-t * d)
    a = d[0]
    S = np.exp(-t * d) * -np.expm1(-t * (a[:, None] + a - d))
    S[0], S[:, 0] = 0.0, 0.0
    S[0, 0] = 1.0
    return S


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(_products, "TILE_ROWS", 16)
    monkeypatch.setattr(_products, "TILE_COLUMNS", 40)
    monkeypatch.setattr(_products, "_SUMMED_COLUMNS", 16)


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 40, 101])
@pytest.mark.parametrize("columns", [1, 3, 5])
@pytest.mark.parametrize("anchored", [False, True])
def test_product_is_that_of_the_dense_matrix(small_tiles, n, columns, anchored):
    X, V = normal(n, 3), normal(n, columns, seed=1)
    product = Products(similarity(X, 0.7), anchored=anchored).product(torch.from_numpy(V))
    np.testing.assert_allclose(product, dense(X, 0.7, anchored) @ V, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("metric", "params"),
    [("cityblock", {}), ("minkowski", {"p": 1.5}), ("cosine", {}), ("euclidean", {})],
)
@pytest.mark.parametrize("d", [3, 30])
def test_float32_is_off_by_its_rounding(small_tiles, metric, params, d):
    X, V = normal(70, d), normal(70, 2, seed=1)
    product = Products(similarity(X, 0.3, metric, **params), torch.float32).product(
        torch.from_numpy(V)
    )
    exact = dense(X, 0.3, False, metric, **params) @ V
    assert product.dtype == torch.float64
    error = np.abs(product.numpy() - exact).max()
    assert 1e-13 < error < 1e-5 * np.abs(V).sum()


@pytest.mark.parametrize("t", [1e-9, 1e-3, 1.0, 1e3])
@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_float32_does_not_depend_on_the_unit(unit, t):
    X, V = normal(50, 2) + 5, torch.from_numpy(normal(50, 1, seed=1))
    V[0] = 0.0
    product = Products(similarity(X * unit, t / unit), torch.float32).product(V)
    exact = Products(similarity(X, t)).product(V)
    np.testing.assert_allclose(product, exact, atol=1e-4 * float(exact.abs().max()))


@pytest.mark.parametrize("t", [1e300, 1e-300])
def test_float32_bears_every_scale(t):
    product = Products(similarity(normal(20), t), torch.float32).product(
        torch.ones(20, 1, dtype=torch.float64)
    )
    assert torch.isfinite(product).all()


def test_distances_in_a_table_give_the_same(small_tiles):
    X, V = normal(60, 30), torch.from_numpy(normal(60, 2, seed=1))
    plain = similarity(X, 0.2)
    table = plain.with_table()
    kept = table.table.clone()
    np.testing.assert_allclose(Products(table).product(V), Products(plain).product(V), rtol=1e-13)
    assert torch.equal(table.table, kept)


def test_what_rounding_leaves_on_the_diagonal_of_a_table_is_no_distance():
    d = cdist(normal(9), normal(9))
    d = (d + d.T) / 2
    np.fill_diagonal(d, 1e-12)
    table = similarity(d, 1.0, "precomputed")
    products = Products(table)
    ones = torch.ones(9, 1, dtype=torch.float64)
    exact = np.exp(-d)
    np.fill_diagonal(exact, 1.0)
    np.testing.assert_allclose(products.product(ones)[:, 0], exact.sum(1), rtol=1e-15)
    assert float(table.table[0, 0]) == 1e-12


@pytest.mark.parametrize("keep", [0, 3000, 20_000, 10**9])
def test_kept_tiles_are_not_computed_again(small_tiles, monkeypatch, keep):
    computed = []
    original = Products._values

    def values(self, rows, columns):
        computed.append((rows, columns))
        return original(self, rows, columns)

    monkeypatch.setattr(Products, "_values", values)
    X, V = normal(90, 2), torch.from_numpy(normal(90, 1, seed=1))
    products = Products(similarity(X), keep_bytes=keep)
    first = products.product(V)
    every, seen = len(computed), set(map(str, computed))
    assert len(seen) == every
    second = products.product(V)
    np.testing.assert_allclose(first, second, rtol=1e-13)
    again = computed[every:]
    held = sum(tile.values.numel() * 8 for tile in products._kept)
    assert held <= keep
    assert len(again) == every - len(products._kept)
    assert len(products._kept) == {0: 0, 10**9: every}.get(keep, len(products._kept))


def test_a_product_that_is_left_early_goes_on_later(small_tiles):
    X, V = normal(90, 2), torch.from_numpy(normal(90, 1, seed=1))
    products = Products(similarity(X), keep_bytes=6000)
    for _ in products.tiles():
        break
    np.testing.assert_allclose(products.product(V), dense(X, 1.0, False) @ V.numpy(), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_least_distance_is_noted(small_tiles, dtype):
    X = normal(70, 3)
    products = Products(similarity(X * 1e6), dtype)
    assert products.closest == float("inf")
    products.product(torch.ones(70, 1, dtype=torch.float64))
    d = cdist(X, X) + np.diag(np.full(70, np.inf))
    assert products.closest == pytest.approx(1e6 * d.min(), rel=1e-3)


def test_the_next_scale_takes_over_the_least_distance_and_the_memory(small_tiles):
    X, workspace = normal(70), Workspace()
    spent = operators(similarity(X), workspace)
    memory = {tile.values.data_ptr() for products in spent for tile in products.tiles()}
    workspace.take(*spent)
    assert workspace.closest == spent[0].closest
    next_scale = operators(similarity(X, 3.0), workspace)
    assert {tile.values.data_ptr() for part in next_scale for tile in part.tiles()} == memory
    ones = torch.ones(70, 1, dtype=torch.float64)
    for products in next_scale:
        assert products.closest == workspace.closest
        sums = np.exp(-3.0 * cdist(X, X)).sum(1)
        np.testing.assert_allclose(products.product(ones)[:, 0], sums, rtol=1e-5)


def test_least_distance_of_a_workspace_is_not_measured_again():
    workspace = Workspace()
    workspace.closest = 0.125
    products = Products(similarity(normal(10)), workspace=workspace)
    products.product(torch.ones(10, 1, dtype=torch.float64))
    assert products.closest == 0.125


@pytest.mark.parametrize("n", [1, 16, 17, 100, 333])
def test_no_term_is_rounded_more_often_than_promised(small_tiles, n):
    """A term is in one sum of a part of its row, or of a tile's height, and then in one total."""
    products = Products(similarity(normal(n)))
    longest = 0
    totals = np.zeros(n, dtype=int)
    for tile in products.tiles():
        parts = [min(16, tile.values.shape[1])] * -(-tile.values.shape[1] // 16)
        totals[tile.rows] += len(parts)
        longest = max(longest, *parts)
        beyond = slice(tile.columns.start + tile.own, tile.columns.stop)
        totals[beyond] += 1
        if beyond.stop > beyond.start:
            longest = max(longest, len(tile.values))
    assert longest + totals.max() <= products.roundings


@pytest.mark.parametrize("megabytes", [0, 0.01, 64])
def test_both_operators_agree_within_any_memory(megabytes):
    X, V = normal(80, 4), torch.from_numpy(normal(80, 1, seed=1))
    with config_context(working_memory=megabytes):
        exact, single = operators(similarity(X))
        assert kept_bytes() == int(megabytes * 2**20)
    assert (exact.dtype, single.dtype) == (torch.float64, torch.float32)
    np.testing.assert_allclose(exact.product(V), dense(X, 1.0, False) @ V.numpy(), rtol=1e-12)
    np.testing.assert_allclose(single.product(V), exact.product(V), atol=1e-5)
