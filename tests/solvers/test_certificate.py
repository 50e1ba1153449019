"""Intervals from weights: what they must contain, whatever the weights and the rounding."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import DIGITS, mp_distance, mp_weighting, normal
from scipy.spatial.distance import cdist

from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers import _products
from skmag._solvers._certificate import (
    certify,
    interval,
    is_sharp,
    norm_of,
    residual_of,
    with_anchor,
)
from skmag._solvers._products import Products


def similarity(X, t=1.0, metric="euclidean", **params):
    points = torch.from_numpy(np.ascontiguousarray(X, dtype=float))
    return Similarity.of(points, resolve_metric(metric, params), t)


def exact_residual(X, v, t):
    """1 - zeta v for weights of many digits."""
    t = mpmath.mpf(t)
    return [
        1 - mpmath.fsum(mpmath.exp(-t * mp_distance(x, y)) * w for y, w in zip(X, v, strict=True))
        for x in X
    ]


def exact_weights(X, v, t):
    """The weights v with the first one replaced by that which solves its own equation."""
    rest = [mpmath.mpf(float(w)) for w in v[1:]]
    pairs = zip(X[1:], rest, strict=True)
    t = mpmath.mpf(t)
    return [1 - mpmath.fsum(mpmath.exp(-t * mp_distance(x, X[0])) * w for x, w in pairs), *rest]


@pytest.mark.parametrize("t", [1e-12, 1e-6, 1e-2, 0.5, 20.0])
@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_rounding_of_the_residual_is_bounded(t, anchored, size):
    X, v = normal(10, 3), size * normal(10, 1, seed=1)[:, 0]
    space = similarity(X, t)
    found = residual_of(space, torch.from_numpy(v), Products(space, anchored=anchored))
    with mpmath.workdps(DIGITS):
        w = exact_weights(X, v, t) if anchored else [mpmath.mpf(float(x)) for x in v]
        exact = exact_residual(X, w, t)
        norm = mpmath.sqrt(mpmath.fsum(r * r for r in exact))
        gaps = [r - mpmath.mpf(float(x)) for r, x in zip(exact, found.values, strict=True)]
        error = mpmath.sqrt(mpmath.fsum(g * g for g in gaps))
        energy = mpmath.fsum((1 + r) * x for r, x in zip(exact, w, strict=True))
        assert abs(energy - mpmath.mpf(found.energy)) <= found.slack
        assert error <= found.noise
        assert norm <= found.norm <= norm * (1 + 1e-12) + 2 * found.noise
    # Where nothing is large, the bounds are of the size of rounding.
    assert found.noise < 1e-11 * max(1, size)


@pytest.mark.parametrize("metric", ["euclidean", "cityblock", "cosine"])
def test_the_least_distance_is_that_of_the_points(metric):
    X = normal(40, 4)
    space = similarity(X, 1.0, metric)
    products = Products(space)
    residual_of(space, torch.ones(40, dtype=torch.float64), products)
    least = (cdist(X, X, metric) + np.diag(np.full(40, np.inf))).min()
    assert products.closest == pytest.approx(least, rel=1e-12)


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(2, 9),
    d=st.integers(1, 4),
    decade=st.floats(-9, 3),
    error=st.floats(-12, 1),
    seed=st.integers(0, 1000),
)
def test_any_weights_give_an_interval_around_the_magnitude(n, d, decade, error, seed):
    X, t = normal(n, d, seed), 10**decade
    weights, magnitude = mp_weighting(X, t)
    v = torch.tensor([float(w) for w in weights], dtype=torch.float64)
    v = v + 10**error * torch.from_numpy(normal(n, 1, seed + 1)[:, 0])
    found = certify(similarity(X, t), v)
    assert mpmath.mpf(found.lower) <= magnitude <= mpmath.mpf(found.upper)
    assert found.lower >= 1.0
    assert found.upper <= n


@pytest.mark.parametrize(
    ("metric", "params"), [("cityblock", {}), ("minkowski", {"p": 1.5}), ("cosine", {})]
)
@pytest.mark.parametrize("t", [1e-2, 1.0, 100.0])
def test_other_metrics_are_contained_too(metric, params, t):
    X = normal(30, 5)
    zeta = np.exp(-t * cdist(X, X, metric, **params))
    w = np.linalg.solve(zeta, np.ones(30))
    found = certify(similarity(X, t, metric, **params), torch.from_numpy(w + 1e-3))
    assert found.lower <= w.sum() <= found.upper
    assert found.lower == pytest.approx(w.sum(), rel=1e-2)


@pytest.mark.parametrize("gap", [1e-3, 1e-8, 1e-13, 1e-17, 1e-40])
def test_near_duplicates(gap):
    X = np.vstack([normal(5, 2), [[0.0, 0.0], [0.0, gap]]])
    weights, magnitude = mp_weighting(X, 1.0)
    found = certify(similarity(X), torch.tensor([float(w) for w in weights], dtype=torch.float64))
    assert found.lower <= magnitude <= found.upper


def test_exact_weights_leave_nothing_but_rounding():
    X = normal(200, 3)
    w = np.linalg.solve(np.exp(-cdist(X, X)), np.ones(200))
    found = certify(similarity(X), torch.from_numpy(w))
    assert found.upper - found.lower < 1e-10 * found.lower
    assert found.residual_norm < 1e-10


def test_scattered_points_have_sums_of_rows():
    """Where no norm has an eigenvalue bound, Gershgorin's theorem still has one."""
    X = np.arange(30.0)[:, None] * np.array([1.0, 2.0, 1.0])
    space = similarity(X, 2.0, "minkowski", p=1.5)
    products = Products(space)
    found = residual_of(space, torch.ones(30, dtype=torch.float64), products)
    zeta = np.exp(-2 * cdist(X, X, "minkowski", p=1.5))
    assert products.greatest_row_sum == pytest.approx(zeta.sum(1).max(), rel=1e-14)
    assert 0.5 < found.eigenvalue <= np.linalg.eigvalsh(zeta)[0]
    assert math.isfinite(interval(space, found)[1])


@pytest.mark.parametrize("t", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("metric", ["euclidean", "cityblock", "chebyshev"])
def test_no_eigenvalue_is_below_the_bound(t, metric):
    X = normal(60, 3)
    space = similarity(X, t, metric)
    found = residual_of(space, torch.ones(60, dtype=torch.float64), Products(space))
    least = np.linalg.eigvalsh(np.exp(-t * cdist(X, X, metric)))[0]
    assert found.eigenvalue <= max(0.0, least * (1 + 1e-9))
    # Far points prove even what is not of negative type to be positive definite.
    assert found.definite or metric == "chebyshev"


def test_nothing_is_proven_of_distances_of_unknown_kind():
    d = cdist(normal(6), normal(6))
    table = (d + d.T) / 2
    found = certify(similarity(table, 1e-2, "precomputed"), torch.ones(6, dtype=torch.float64))
    assert (found.lower, found.upper) == (-math.inf, math.inf)
    host = certify(similarity(normal(6), 1.0, "canberra"), torch.ones(6, dtype=torch.float64))
    assert (host.lower, host.upper) == (-math.inf, math.inf)


def test_a_table_of_far_points_is_proven_by_its_sums():
    d = 5 * (1 - np.eye(4))
    found = certify(similarity(d, 1.0, "precomputed"), torch.ones(4, dtype=torch.float64))
    exact = 4 / (1 + 3 * math.exp(-5))
    assert found.lower <= exact <= found.upper < math.inf


@pytest.mark.parametrize("metric", ["euclidean", "canberra"])
def test_one_point_has_magnitude_one(metric):
    found = certify(similarity([[3.0, 1.0]], 1.0, metric), torch.tensor([7.0], dtype=torch.float64))
    assert (found.lower, found.upper) == (1.0, 1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e300])
def test_weights_that_overflow_leave_what_is_known_before(bad):
    v = torch.ones(5, dtype=torch.float64)
    v[2] = bad
    found = certify(similarity(normal(5)), v)
    assert found.lower == 1.0
    assert 1.0 < found.upper <= 5.0


def test_kept_tiles_and_tile_shapes_change_nothing(monkeypatch):
    X, v = normal(90, 2), torch.from_numpy(normal(90, 1, seed=1)[:, 0])
    space = similarity(X)
    once = certify(space, v)
    products = Products(space, keep_bytes=10**9)
    products.product(v[:, None])
    again = certify(space, v, products=products)
    monkeypatch.setattr(_products, "TILE_ROWS", 8)
    monkeypatch.setattr(_products, "TILE_COLUMNS", 24)
    other = certify(space, v)
    for found in (again, other):
        assert found.lower == pytest.approx(once.lower, rel=1e-12)
        assert found.upper == pytest.approx(once.upper, rel=1e-12)


def test_a_certificate_reports_what_it_is_told():
    found = certify(
        similarity(normal(5)),
        torch.zeros(5, dtype=torch.float64),
        magnitude=2.0,
        n_iter=3,
        converged=False,
    )
    assert (found.magnitude, found.n_iter, found.converged) == (2.0, 3, False)
    assert found.residual_norm == pytest.approx(math.sqrt(5))


def test_the_anchor_solves_its_own_equation():
    X = normal(8, 2)
    v = with_anchor(similarity(X, 0.3), torch.ones(8, dtype=torch.float64))
    assert float(np.exp(-0.3 * cdist(X[:1], X))[0] @ v.numpy()) == pytest.approx(1.0)
    assert bool((v[1:] == 1).all())


@pytest.mark.parametrize("unit", [1e-200, 1.0, 1e200])
def test_norms_of_any_size(unit):
    values = unit * torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert norm_of(values) == pytest.approx(5 * unit)
    assert norm_of(torch.zeros(3, dtype=torch.float64)) == 0.0


def test_which_bounds_are_sharp():
    assert is_sharp(similarity(normal(4, 3)))
    assert is_sharp(similarity(normal(4, 1), metric="cityblock"))
    assert not is_sharp(similarity(normal(4, 2), metric="cityblock"))
    assert not is_sharp(similarity(normal(4, 3), metric="cosine"))


def test_a_value_is_reported_within_the_interval():
    space = similarity(normal(50, 3))
    w = np.linalg.solve(np.exp(-cdist(normal(50, 3), normal(50, 3))), np.ones(50))
    weights = torch.from_numpy(w)
    interval = certify(space, weights)
    assert certify(space, weights, magnitude=w.sum() + 1).magnitude == interval.upper
    assert certify(space, weights, magnitude=w.sum() - 1).magnitude == interval.lower
    inside = (interval.lower + interval.upper) / 2
    assert certify(space, weights, magnitude=inside).magnitude == inside
