"""The pretended device, and that nothing makes the host wait for it inside a loop."""

from collections import Counter

import numpy as np
import pytest
import torch
from device_mode import Device
from reference import normal
from sklearn import config_context

from skmag import _metrics
from skmag._duplicates import equal_row_groups
from skmag._metrics import resolve_metric
from skmag._permutations import Labellings, Pool, magnitude_distances
from skmag._similarity import Similarity
from skmag._solvers import _products, _repeated, _sparse, _sparse_inverse
from skmag._solvers._cg_factor import ConjugateGradientFactor
from skmag._solvers._cg_steps import LOOK, descend
from skmag._solvers._dimension import neighborhood
from skmag._solvers._gradient_descent import solve_gradient_descent
from skmag._solvers._iterative_normalization import solve_iterative_normalization
from skmag._solvers._preconditioners import Diagonal, PartialCholesky
from skmag._solvers._products import Products
from skmag._solvers._sparse_inverse import SparseInverse, columns

CPU = torch.device("cpu")
METRICS = [
    ("euclidean", None),
    ("cosine", None),
    ("cityblock", None),
    ("chebyshev", None),
    ("minkowski", {"p": 2}),
    ("minkowski", {"p": 3}),
]


@pytest.fixture
def device(monkeypatch):
    with Device(monkeypatch) as mode:
        yield mode


def on_device(values):
    return torch.from_numpy(np.array(values)).to(CPU)


def similarity(points, metric="euclidean", params=None, t=0.5):
    return Similarity.of(points, resolve_metric(metric, params), t)


class TestDevice:
    def test_numpy_cannot_read_it(self, device):
        values = on_device([1.0, 2.0])
        for read in (values.numpy, (values + 1).numpy, lambda: np.asarray(values)):
            with pytest.raises(TypeError, match="numpy cannot read"):
                read()
        assert values.cpu().numpy().tolist() == [1.0, 2.0]

    def test_it_does_not_mix_with_the_host(self, device):
        values, here = on_device([1.0, 2.0]), torch.arange(2)
        for mix in (lambda: values + here, lambda: here[values.long()]):
            with pytest.raises(RuntimeError, match="host"):
                mix()
        assert (values[here] * torch.tensor(2.0)).cpu().tolist() == [2.0, 4.0]
        assert (values + torch.arange(2, device=CPU)).cpu().tolist() == [1.0, 3.0]

    def test_it_counts_what_makes_the_host_wait(self, device):
        values = on_device([1.0, 2.0])
        float(values.sum()), bool((values > 1).any()), torch.nonzero(values), values[values > 1]
        values.max().item(), values.tolist()
        assert sum(device.waits.values()) == 6
        device.waits.clear()
        torch.linalg.cholesky(torch.eye(2, device=CPU)), torch.linalg.inv(torch.eye(2, device=CPU))
        torch.linalg.solve(torch.eye(2, device=CPU), torch.eye(2, device=CPU)), values.to("cpu")
        assert sum(device.waits.values()) == 4
        device.waits.clear()
        torch.linalg.cholesky_ex(torch.eye(2, device=CPU)), torch.zeros(2).to("cpu")
        _ = (values * 2).sum() + values[torch.tensor([0])].max()
        assert not device.waits
        float(torch.ones(1))
        assert not device.waits

    def test_what_is_moved_to_the_host_is_there(self, device):
        values = on_device([1.0, 2.0])
        there = torch.ones(2, device="cpu", dtype=torch.float64)
        assert values.to("cpu", torch.float32).numpy().tolist() == [1.0, 2.0]
        assert (values.to(device="cpu") + there.to(torch.float64)).numpy().tolist() == [2.0, 3.0]
        assert values.to(there).numpy().tolist() == [1.0, 2.0]
        for away in (values.to(torch.float32), there.to(values), there.to(CPU)):
            with pytest.raises(TypeError, match="numpy cannot read"):
                away.numpy()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [2, 7, 40])
@pytest.mark.parametrize(("metric", "params"), METRICS, ids=str)
def test_the_second_product_asks_the_host_nothing(d, metric, params, dtype, device, monkeypatch):
    points = normal(700, d)
    points[5] = points[3] * (1 + 1e-9)
    expected = _product(torch.from_numpy(points), metric, params, dtype)
    space = similarity(on_device(points), metric, params)
    products = Products(space, dtype)
    v = torch.ones(len(space), 1, dtype=torch.float64, device=CPU)
    first = products.product(v)
    device.waits.clear()
    second = products.product(v)
    assert not device.waits
    assert torch.equal(first.cpu(), second.cpu())
    # Under the cosine, float32 products are made of float64 distances.
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert torch.allclose(second.cpu(), expected.cpu(), rtol=tolerance)


def _product(points, metric, params, dtype):
    dense = torch.exp(-0.5 * similarity(points.to(CPU), metric, params).with_table().table)
    return dense.sum(1, keepdim=True)


def test_close_pairs_beyond_the_memory_for_them_are_found_again(device, monkeypatch):
    monkeypatch.setattr(_repeated, "_REMEMBERED", 0.0)
    points = normal(300, 40)
    points[1] = points[0] + 1e-12
    products = Products(similarity(on_device(points)))
    v = torch.ones(300, 1, dtype=torch.float64, device=CPU)
    first = products.product(v)
    assert torch.equal(products.product(v).cpu(), first.cpu())
    assert products.closest == pytest.approx(np.linalg.norm(points[1] - points[0]), rel=1e-9)


def test_points_in_two_heaps_are_told_apart_by_differences(device):
    points = 1e-6 * normal(200, 40)
    points[100:] += 10
    found = Products(similarity(on_device(points), t=1e6))
    v = torch.ones(200, 1, dtype=torch.float64, device=CPU)
    twice = [found.product(v).cpu() for _ in range(2)]
    expected = np.exp(-1e6 * np.linalg.norm(points[:, None] - points, axis=2)).sum(1)
    for image in twice:
        np.testing.assert_allclose(image[:, 0].numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("keep", [0, 10**8])
def test_steps_of_conjugate_gradients_are_looked_at_together(keep, monkeypatch):
    here, _ = _descended(torch.from_numpy(normal(400, 3)), keep)
    with Device(monkeypatch) as device:
        there, waits = _descended(on_device(normal(400, 3)), keep, device.waits)
        x = there.x.cpu().numpy()
    n_looks = -(-len(there) // LOOK) if keep else len(there)
    # Beside the looks there are the norm of the right side and its product with the first step.
    assert waits["tolist"] == n_looks
    assert sum(waits.values()) <= n_looks + 3
    np.testing.assert_allclose(x, here.x.numpy(), rtol=1e-8, atol=1e-9)
    assert len(here) <= len(there) < len(here) + LOOK
    assert there.lengths[:9] == pytest.approx(here.lengths[:9], rel=1e-9)
    assert there.turns[:9] == pytest.approx(here.turns[:9], rel=1e-9)
    assert there.smallest_ritz_value == pytest.approx(here.smallest_ritz_value, rel=1e-6)
    assert there.gained == pytest.approx(here.gained, rel=1e-12)


def _descended(points, keep, waits=None, max_iter=100):
    space = similarity(points, t=3.0)
    products = Products(space, keep_bytes=keep)
    right = torch.ones_like(space.counts)
    products.product(right[:, None])
    preconditioner = PartialCholesky.of(space, 20)
    if waits is not None:
        waits.clear()
    found = descend(products, right, preconditioner, lambda *_: False, 1e-12, max_iter)
    return found, Counter(waits or {})


def test_steps_on_a_device_end_in_time(device):
    assert len(_descended(on_device(normal(400, 3)), 10**8, max_iter=7)[0]) == 7
    # Where nothing is left to do, nothing moves.
    products = Products(similarity(on_device(normal(30, 3))), keep_bytes=10**8)
    products.product(torch.ones(30, 1, dtype=torch.float64, device=CPU))
    preconditioner = PartialCholesky.of(products.similarity, 5)
    nothing = torch.zeros(30, dtype=torch.float64, device=CPU)
    found = descend(products, nothing, preconditioner, lambda *_: False, 1e-12, 50)
    assert len(found) == 0
    assert not found.x.any()


def test_columns_of_a_block_are_looked_at_together(device, monkeypatch):
    space = similarity(on_device(normal(300, 3)))
    factor = ConjugateGradientFactor(space, Diagonal(space))
    right = torch.zeros(300, 8, dtype=torch.float64, device=CPU)
    right[torch.arange(1, 9), torch.arange(8)] = 1.0
    factor.products.product(right)
    product, steps = factor.products.product, Counter()

    def counted(V):
        steps["taken"] += 1
        return product(V)

    monkeypatch.setattr(factor.products, "product", counted)
    device.waits.clear()
    x = factor.solve(right)
    # Beside the looks, each round asks once how far it came, and the end whether that is enough.
    assert steps["taken"] > 4 * LOOK
    assert sum(device.waits.values()) <= steps["taken"] / LOOK + 8
    assert float((right - space.anchored_product(x)).abs().max()) < 1e-9


@pytest.mark.parametrize(
    ("solve", "params"),
    [
        (solve_iterative_normalization, {}),
        (solve_gradient_descent, {}),
        (solve_gradient_descent, {"batch_size": 40}),
    ],
)
def test_steps_of_the_papers_are_looked_at_together(solve, params, monkeypatch):
    def run(points, n):
        return solve(similarity(points), tol=1e-12, max_iter=n, **params)

    here = run(torch.from_numpy(normal(200, 3)), 60)
    with Device(monkeypatch) as device:
        points = on_device(normal(200, 3))
        counts = []
        for n in (20, 60):
            device.waits.clear()
            there = run(points, n)
            counts.append(sum(device.waits.values()))
        weights = there.weights.cpu().numpy()
    # Forty more steps, and at most as many waits as so many looks cost before them.
    assert (counts[1] - counts[0]) / 40 <= 2.0
    np.testing.assert_allclose(weights, here.weights.numpy(), rtol=1e-9, atol=1e-12)
    assert there.certificate.n_iter == here.certificate.n_iter


def test_batches_of_permutations_are_looked_at_once(device):
    pool = Pool.of(
        on_device(normal(12, 2)), on_device(normal(15, 2, seed=1)), resolve_metric("euclidean", {})
    ).with_table()
    chosen = Labellings.of(pool, 64, np.random.default_rng(0)).smaller
    device.waits.clear()
    few = magnitude_distances(pool, chosen, 1.0, batch=32)
    first = sum(device.waits.values())
    device.waits.clear()
    many = magnitude_distances(pool, chosen, 1.0, batch=2)
    assert sum(device.waits.values()) == first
    assert torch.allclose(few, many, rtol=1e-12)


def test_small_systems_are_not_waited_for(device):
    space = similarity(on_device(normal(600, 2)))
    inverse = SparseInverse.of(space, 100, 10)
    device.waits.clear()
    columns(space, inverse.indices)
    # The unit of the coordinates.
    assert sum(device.waits.values()) <= 1
    device.waits.clear()
    inverse.apply(torch.ones(600, 2, dtype=torch.float64, device=CPU))
    assert not device.waits


def test_rows_that_differ_are_seen_to_do_so_on_the_device(device):
    points = normal(50, 3)
    group, first = equal_row_groups(on_device(points))
    assert device.waits["cpu"] == 0
    assert group.cpu().tolist() == first.cpu().tolist() == list(range(50))
    points[7], points[9] = points[3], -0.0
    points[11] = 0.0
    device.waits.clear()
    found = equal_row_groups(on_device(points))
    assert device.waits["cpu"] == 1
    expected = equal_row_groups(torch.from_numpy(points).cpu())
    for values, other in zip(found, expected, strict=True):
        assert values.cpu().tolist() == other.cpu().tolist()


@pytest.mark.parametrize("high", [2, 4, 256])
def test_rows_of_integers_are_seen_to_differ_on_the_device(high, device):
    n_features = {2: 14, 4: 7, 256: 2}[high]
    grid = np.indices(n_features * (high,)).reshape(n_features, -1).T[:30_000]
    for points in (grid.astype(float), -grid.astype(float), 1e6 + grid):
        group, _ = equal_row_groups(on_device(points))
        assert device.waits["cpu"] == 0
        assert torch.equal(group, torch.arange(len(grid), device=CPU))


def test_small_systems_of_many_features_fit_the_budget(device, monkeypatch):
    space, sizes = similarity(on_device(normal(300, 500))), []
    inverse = SparseInverse.of(space, 10, 4)
    within = _sparse_inverse.distances_within

    def seen(metric, group):
        sizes.append(group.numel() * 8)
        return within(metric, group)

    monkeypatch.setattr(_sparse_inverse, "distances_within", seen)
    with config_context(working_memory=8):
        values = columns(space, inverse.indices)
    # A group of points and a contiguous copy of it, of what an eighth of the memory holds.
    assert 1 < len(sizes) < 20
    assert 2 * max(sizes) <= 2**20
    assert torch.equal(values, inverse.values)


def test_blocks_of_residuals_are_tiles_of_the_device(device, monkeypatch):
    space, shapes = similarity(on_device(normal(600, 2))), []
    between, every = _sparse.entries_between, torch.arange(600, device=CPU)

    def seen(*args):
        shapes.append(tuple(between(*args).shape))
        return between(*args)

    monkeypatch.setattr(_sparse, "entries_between", seen)
    v = torch.ones(600, dtype=torch.float64, device=CPU)
    whole = _sparse.residual_rows(space, v, every, every)
    assert shapes == [(600, 600)]
    shapes.clear()
    with config_context(working_memory=16):
        parts = _sparse.residual_rows(space, v, every, every)
    assert len(shapes) == 9
    assert max(shapes) == (256, 256)
    assert torch.allclose(parts, whole, rtol=1e-12)


def test_differences_of_a_power_norm_fit_the_memory_of_the_device(device, monkeypatch):
    A, sizes = on_device(normal(400, 5)), []
    metric = resolve_metric("minkowski", {"p": 3})
    whole, slices = metric.block(A, A), _metrics.block_slices

    def seen(n, size):
        sizes.append(size)
        return slices(n, size)

    monkeypatch.setattr(_metrics, "block_slices", seen)
    with config_context(working_memory=8):
        parts = metric.block(A, A)
    assert 2**18 < sizes[0] * A.numel() * 8 <= 2**20
    assert torch.equal(parts, whole)


@pytest.mark.parametrize(("budget", "both"), [(80_000, False), (98_400, True)])
def test_both_operators_keep_no_more_than_the_device_has_for_them(budget, both, monkeypatch):
    monkeypatch.setattr(_products, "TILE_ROWS", 8)
    monkeypatch.setattr(_products, "TILE_COLUMNS", 8)
    monkeypatch.setattr(_products, "_ACCELERATOR_TILE", 64)
    monkeypatch.setattr(_products, "kept_bytes", lambda _: budget)
    with Device(monkeypatch):
        found = _products.operators(similarity(on_device(normal(100, 2))))
        v = torch.ones(100, 1, dtype=torch.float64, device=CPU)
        for products in found:
            products.product(v)
        assert found[0].is_kept == both
        kept = [values for products in found for values in products.spend()]
    assert sum(values.numel() * values.element_size() for values in kept) <= budget


@pytest.mark.parametrize("metric", ["euclidean", "cityblock", "chebyshev", "cosine"])
@pytest.mark.parametrize("d", [2, 30])
def test_neighbourhoods_are_those_that_a_tree_finds(metric, d, monkeypatch):
    points = normal(900, d)
    here = neighborhood(similarity(torch.from_numpy(points), metric))
    with Device(monkeypatch):
        there = neighborhood(similarity(on_device(points), metric))
    assert there.dimension == pytest.approx(here.dimension, rel=1e-9)
    assert there.nearest == pytest.approx(here.nearest, rel=1e-9)


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_coordinates_at_the_ends_of_the_range(size, device):
    points = normal(60, 30)
    v = torch.ones(60, 1, dtype=torch.float64, device=CPU)
    found = Products(similarity(on_device(points * size), t=0.5 / size)).product(v)
    expected = Products(similarity(on_device(points))).product(v)
    assert torch.allclose(found, expected, rtol=1e-12)
