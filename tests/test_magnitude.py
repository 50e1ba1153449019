import mpmath
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from reference import dense, mp_weighting, normal, relative_error, with_copies
from scipy.spatial.distance import cdist
from sklearn import config_context

from skmag import (
    magnitude,
    magnitude_dimension,
    magnitude_function,
    magnitude_potential,
    magnitude_potential_ratio,
    magnitude_weights,
    scale_grid,
    spread,
)

quickly = settings(deadline=None, max_examples=20)
TS = [0.1, 1.0, 7.0]
Z = np.random.default_rng(9).normal(size=(5, 3))
Y = ["cat", "dog", "dog", "ant", "cat", "dog", "ant"]

# Every public function; those that take t, by the name they are called, are scaled with the data.
FUNCTIONS = {
    "magnitude": lambda X, t=1.3, **kw: magnitude(X, t=t, **kw),
    "weights": lambda X, t=1.3, **kw: magnitude_weights(X, t=t, **kw),
    "function": lambda X, t=1.3, **kw: magnitude_function(X, [t, 2 * t], **kw),
    "dimension": lambda X, t=1.3, **kw: magnitude_dimension(X, [t, 2 * t], **kw),
    "potential": lambda X, t=1.3, **kw: magnitude_potential(X, t=t, **kw),
    "ratio": lambda X, t=1.3, **kw: magnitude_potential_ratio(X, Y, t=t, **kw),
    "spread": lambda X, t=1.3, **kw: spread(X, t=t, **kw),
    "grid": lambda X, **kw: scale_grid(X, 4, **kw),
}
PER_POINT = {"weights", "potential"}
SCALED = sorted(set(FUNCTIONS) - {"grid"})


def grid(n, d):
    return np.stack(np.meshgrid(*[np.linspace(0, 1, n)] * d), -1).reshape(-1, d)


@pytest.mark.parametrize("t", [1e-12, 1e-6, 1e-2, 1.0, 30.0, 1e3, 1e12])
@pytest.mark.parametrize("d", [1, 2, 5, 40])
def test_against_fifty_digits(d, t):
    X = normal(9, d, seed=d)
    X[7] = X[2]
    weights, exact = mp_weighting(X, t)
    assert relative_error([magnitude(X, t=t)], [exact]) < 1e-12
    assert relative_error(magnitude_weights(X, t=t), weights) < 1e-11


@pytest.mark.parametrize("t", [1e-6, 1e-2, 1.0])
def test_digits_beyond_one(t):
    X = normal(9, 5)
    exact = mp_weighting(X, t)[1] - 1
    # What a float next to 1 can hold.
    assert abs(mpmath.mpf(magnitude(X, t=t) - 1) - exact) < 3e-16


def test_blobs_far_apart_in_small_units():
    # exp(-900) is zero in floating point: exp(-d)**t would count two blobs of magnitude 1.003.
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(12, 2)), rng.normal(size=(12, 2)) + [900.0, 0.0]])
    exact = float(mp_weighting(X, 1e-3)[1])
    assert magnitude(X, t=1e-3) == pytest.approx(exact, rel=1e-12)
    assert exact == pytest.approx(1.425, abs=2e-3)
    with np.errstate(under="ignore"):
        blobs = [magnitude(X[:12], t=1e-3), magnitude(X[12:], t=1e-3)]
        wrong = np.linalg.inv(np.exp(-cdist(X, X)) ** 1e-3).sum()
    assert wrong == pytest.approx(sum(blobs), rel=1e-6)
    assert wrong > 2


@pytest.mark.parametrize("metric", ["cityblock", "chebyshev", "cosine", "canberra"])
def test_other_metrics_and_precomputed_distances(metric):
    X = np.abs(normal(8)) + 0.1
    table = cdist(X, X, metric)
    expected = np.linalg.inv(np.exp(-2 * table))
    for data, name in ((X, metric), (table, "precomputed")):
        assert magnitude(data, t=2.0, metric=name) == pytest.approx(expected.sum(), rel=1e-9)
        assert_allclose(magnitude_weights(data, t=2.0, metric=name), expected.sum(1), rtol=1e-7)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_precomputed_distances_and_parameters_of_a_metric(name):
    X, f = normal(), FUNCTIONS[name]
    assert_allclose(f(cdist(X, X), metric="precomputed"), f(X), rtol=1e-9)
    p_norm = cdist(X, X, "minkowski", p=1.5)
    found = f(X, metric="minkowski", metric_params={"p": 1.5})
    assert_allclose(found, f(p_norm, metric="precomputed"), rtol=1e-9)
    assert not np.allclose(found, f(X), rtol=1e-3)


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"spread", "grid"}))
@pytest.mark.parametrize("solver", ["cholesky", "mixed", "indefinite"])
def test_every_solver(name, solver):
    X, f = normal(), FUNCTIONS[name]
    assert_allclose(f(X, solver=solver), f(X), rtol=1e-8)
    assert_allclose(f(X[:, :1], solver=solver), f(X[:, :1], solver="line"), rtol=1e-8)


KINDS = {
    "list": np.ndarray.tolist,
    "fortran": np.asfortranarray,
    "backwards": lambda X: X[::-1].copy()[::-1],
    "read-only": lambda X: np.frombuffer(X.tobytes()).reshape(X.shape),
    "pandas": lambda X: pd.DataFrame(X, columns=["a", "b", "c"]),
    "polars": lambda X: pl.DataFrame(X, schema=["a", "b", "c"]),
    "torch": torch.from_numpy,
}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_kind_of_input(name, kind):
    X = normal()
    before = X.copy()
    found = FUNCTIONS[name](KINDS[kind](X))
    assert not isinstance(found, torch.Tensor)
    assert_array_equal(found, FUNCTIONS[name](X))
    assert_array_equal(X, before)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_float32_and_integers_are_computed_in_float64(name):
    f = FUNCTIONS[name]
    for X in (normal().astype(np.float32), np.round(9 * normal()).astype(int)):
        found = f(X)
        assert_array_equal(found, f(X.astype(float)))
        assert np.asarray(found).dtype == np.float64


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_torch_in_torch_out(name, dtype):
    X = torch.tensor(normal()).to(dtype)
    expected = FUNCTIONS[name](X.double().numpy())
    with config_context(array_api_dispatch=True):
        found = FUNCTIONS[name](X)
    if name in PER_POINT | {"function", "ratio"}:
        assert isinstance(found, torch.Tensor)
        assert found.dtype == torch.float64
    else:
        assert isinstance(found, np.ndarray if name == "grid" else float)
    assert_allclose(np.asarray(found), expected, rtol=1e-12)


def test_torch_arguments_beside_the_data():
    X, y = torch.tensor(normal()), torch.tensor([0, 1, 1, 2, 0, 1, 2])
    with config_context(array_api_dispatch=True):
        values = magnitude_function(X, torch.tensor(TS))
        potential = magnitude_potential(X, torch.tensor(Z))
        ratio = magnitude_potential_ratio(X, y, torch.tensor(Z))
    ts = torch.tensor(TS).numpy()
    assert_allclose(values.numpy(), magnitude_function(X.numpy(), ts), rtol=1e-12)
    assert_allclose(potential.numpy(), magnitude_potential(X.numpy(), Z), rtol=1e-12)
    expected = magnitude_potential_ratio(X.numpy(), y.numpy(), Z)
    assert_allclose(ratio.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_order_of_the_points(name):
    order, X = np.random.default_rng(1).permutation(7), normal()
    if name == "ratio":
        found = magnitude_potential_ratio(X[order], np.array(Y)[order], t=1.3)
    else:
        found = FUNCTIONS[name](X[order])
    expected = FUNCTIONS[name](X)
    follows = name in PER_POINT | {"ratio"}
    assert_allclose(found, expected[order] if follows else expected, rtol=1e-10)


@pytest.mark.parametrize("name", ["magnitude", "function", "dimension", "spread", "grid"])
def test_copies_change_nothing(name):
    X = with_copies()
    assert_allclose(FUNCTIONS[name](X), FUNCTIONS[name](np.unique(X, axis=0)), rtol=1e-11)


@pytest.mark.parametrize("c", [1e-9, 2.0, 1e9])
@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("d", [1, 3, 40])
def test_units_of_the_data(name, c, d):
    X, f = normal(d=d), FUNCTIONS[name]
    assert_allclose(f(c * X, t=1.3 / c), f(X), rtol=1e-9)


@pytest.mark.parametrize("c", [1e-9, 1e9])
def test_units_of_the_data_with_t_by_name(c):
    X, s = normal(), {"t": "scale"}
    for f in (magnitude, magnitude_weights, magnitude_potential, spread):
        assert_allclose(f(c * X, **s), f(X, **s), rtol=1e-9)
        assert_allclose(f(X, **s), f(X, t=1 / np.median(cdist(X, X)[np.triu_indices(7, 1)])))
    assert_allclose(
        magnitude_potential_ratio(c * X, Y, **s), magnitude_potential_ratio(X, Y, **s), rtol=1e-9
    )
    assert_allclose(magnitude_function(c * X, "scale"), [magnitude(X, **s)], rtol=1e-9)
    assert magnitude_dimension(c * X) == pytest.approx(magnitude_dimension(X), rel=1e-9)


@pytest.mark.parametrize("t", [1e-12, 1.0, 1e12, "scale"])
@pytest.mark.parametrize("d", [1, 3])
def test_one_point(d, t):
    for X in (normal(1, d), np.repeat(normal(1, d), 4, axis=0)):
        assert magnitude(X, t=t) == 1.0
        assert spread(X, t=t) == 1.0
        assert_allclose(magnitude_weights(X, t=t), 1 / len(X))
        assert_array_equal(magnitude_function(X, [t, 2.0]), [1.0, 1.0])
        assert magnitude_dimension(X, t) == 0.0
        assert magnitude_dimension(X) == 0.0
        assert_array_equal(magnitude_potential(X, X, t=t), 1.0)
        assert_array_equal(magnitude_potential(X, t=t), 0.0)
        assert_array_equal(magnitude_potential_ratio(X, ["a"] * len(X), X, t=t), 1.0)
        assert_allclose(scale_grid(X, 3), [1e-2, 10**-0.5, 1e1])


@pytest.mark.parametrize("t", [1e-12, 1.0, 50.0])
@pytest.mark.parametrize("d", [1, 3])
def test_two_points(d, t):
    X = normal(2, d)
    x = t * np.linalg.norm(X[1] - X[0])
    assert_allclose(magnitude_weights(X, t=t), 1 / (1 + np.exp(-x)), rtol=1e-12)
    assert spread(X, t=t) == pytest.approx(magnitude(X, t=t), rel=1e-14)
    assert magnitude_dimension(X, t) == pytest.approx(x / (1 + np.exp(x)), rel=1e-9)
    assert_allclose(magnitude_potential(X, t=t), np.exp(-x), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("d", [1, 3])
def test_two_points_of_two_classes(d):
    # Left out of the whole, each is represented by the other alone.
    X = normal(2, d)
    assert_allclose(magnitude_potential_ratio(X, [0, 1]), [[0, 1], [1, 0]], atol=1e-12)


@quickly
@given(st.integers(0, 10**6), st.integers(2, 12), st.sampled_from([1, 2, 5]))
def test_function_is_magnitude_at_each_scale(seed, n, d):
    X, ts = normal(n, d, seed), [3.0, "scale", 1e-3, 1e3, 3.0]
    expected = [magnitude(X, t=t) for t in ts]
    assert_allclose(magnitude_function(X, ts), expected, rtol=1e-12)
    assert_allclose(magnitude_function(X, 3.0), expected[:1], rtol=1e-12)
    assert_allclose(magnitude_function(X, tuple(ts)), expected, rtol=1e-12)
    assert magnitude_function(X, ts).shape == (5,)


@pytest.mark.parametrize("t", [1e-9, 0.05, 1.0, 20.0])
@pytest.mark.parametrize("d", [1, 2, 30])
def test_instantaneous_dimension_is_a_logarithmic_derivative(d, t):
    X = normal(7, d, seed=d)
    h = mpmath.mpf(10) ** -15
    with mpmath.workdps(50):
        up, down = (mp_weighting(X, mpmath.mpf(t) * mpmath.exp(s * h))[1] for s in (1, -1))
        slope = float((mpmath.log(up) - mpmath.log(down)) / (2 * h))
    assert magnitude_dimension(X, t) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("metric", ["euclidean", "cityblock", "canberra"])
@pytest.mark.parametrize("d", [1, 2])
def test_dimension_is_the_greatest_slope(d, metric):
    X = with_copies()[:, :d]
    slopes = [magnitude_dimension(X, t, metric=metric) for t in scale_grid(X, metric=metric)]
    assert magnitude_dimension(X, metric=metric) == pytest.approx(max(slopes), rel=1e-12)
    few = slopes[:2], scale_grid(X, metric=metric)[:2]
    assert magnitude_dimension(X, few[1], metric=metric) == pytest.approx(max(few[0]), rel=1e-12)
    for t in TS:
        up, down = (magnitude(X, t=t * np.exp(s), metric=metric) for s in (1e-5, -1e-5))
        numeric = np.log(up / down) / 2e-5
        assert magnitude_dimension(X, t, metric=metric) == pytest.approx(numeric, rel=1e-5)


def test_dimension_of_a_curve_and_of_a_square():
    line = np.linspace(0, 1, 500)[:, None]
    curve = np.concatenate([np.cos(3 * line), np.sin(3 * line)], 1)
    assert magnitude_dimension(line) == pytest.approx(1, abs=0.05)
    assert magnitude_dimension(curve) == pytest.approx(1, abs=0.05)
    long_line = np.linspace(0, 1, 3000)[:, None]
    assert magnitude_dimension(long_line, 200.0) == pytest.approx(1, abs=0.015)
    coarse, fine = magnitude_dimension(grid(12, 2), 10.0), magnitude_dimension(grid(45, 2), 30.0)
    assert 1.3 < coarse < fine < 2
    assert fine > 1.75


@quickly
@given(st.integers(0, 10**6), st.integers(2, 12), st.sampled_from([1, 2, 9]), st.sampled_from(TS))
def test_spread_is_its_definition_and_below_magnitude(seed, n, d, t):
    X = normal(n, d, seed)
    assert spread(X, t=t) == pytest.approx((1 / dense(X, t).sum(1)).sum(), rel=1e-12)
    assert 1 <= spread(X, t=t) <= magnitude(X, t=t) * (1 + 1e-12)
    assert spread(X, t=t) <= n


def test_limits_of_spread():
    X = with_copies()
    assert spread(X, t=1e-12) == pytest.approx(1, abs=1e-11)
    assert spread(X, t=1e6) == 9
    assert spread(np.eye(6), t=0.7) == pytest.approx(magnitude(np.eye(6), t=0.7), rel=1e-13)


@pytest.mark.parametrize("c", [1e-9, 1e9])
@pytest.mark.parametrize("d", [1, 3, 40])
def test_grid_of_scales_follows_the_units(d, c):
    X = normal(3, d)  # three distances, so that their median is one of them
    found = scale_grid(X, 5)
    distance = cdist(X, X)
    nearest = np.median(np.sort(distance)[:, 1])
    ends = 1e-2 / np.median(distance[np.triu_indices(3, 1)]), 10 / nearest
    assert_allclose(found, np.geomspace(*ends, 5), rtol=1e-12)
    assert_allclose(scale_grid(c * X, 5), found / c, rtol=1e-12)
    assert scale_grid(X).shape == (20,)
    assert scale_grid(X, 1).shape == (1,)
    assert_allclose(scale_grid(X, np.int64(5)), found)


def test_grid_of_scales_leads_from_merged_to_scattered_points():
    for X in (normal(300, 2), normal(300, 40), np.r_[normal(150, 2), 1e4 + normal(150, 2)]):
        first, last = magnitude_function(X, scale_grid(X, 2))
        assert 1 < first < 1.2
        assert 0.95 * len(X) < last < len(X)


NAMES = sorted(FUNCTIONS)
BAD_X = {
    "empty list": ([], "X is empty"),
    "no rows": (np.empty((0, 3)), "X is empty"),
    "no columns": (np.empty((7, 0)), "X is empty"),
    "one dimension": (np.arange(7.0), "2D array"),
    "scalar": (5.0, "2D array"),
    "three dimensions": (np.zeros((7, 2, 2)), "dim"),
    "nan": (np.full((7, 2), np.nan), "X contains NaN"),
    "infinity": (np.full((7, 2), np.inf), "X contains infinity"),
    "complex": (normal() + 1j, "[Cc]omplex"),
    "sparse": (sp.csr_array(np.eye(7)), "X is sparse"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", sorted(BAD_X))
def test_bad_points(name, case):
    X, message = BAD_X[case]
    with pytest.raises(ValueError, match=message):
        FUNCTIONS[name](X)


BAD_TABLES = {
    "oblong": np.zeros((7, 3)),
    "negative": -cdist(normal(), normal()),
    "asymmetric": np.triu(cdist(normal(), normal())),
    "diagonal": cdist(normal(), normal()) + np.eye(7),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", sorted(BAD_TABLES))
def test_bad_distances(name, case):
    with pytest.raises(ValueError, match="X"):
        FUNCTIONS[name](BAD_TABLES[case], metric="precomputed")


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("t", [0, -1.0, np.nan, np.inf, True, None, "auto", [1.0], 1j])
def test_bad_scale(name, t):
    if name in ("function", "dimension"):
        call = {"function": magnitude_function, "dimension": magnitude_dimension}[name]
        with pytest.raises(ValueError, match=r"ts\[1\]="):
            call(normal(), [1.0, t])
    else:
        with pytest.raises(ValueError, match=r"^t="):
            FUNCTIONS[name](normal(), t)


@pytest.mark.parametrize("function", [magnitude_function, magnitude_dimension])
@pytest.mark.parametrize("ts", [[], (), np.empty(0), [-1.0], 0.0, "auto", [[1.0, 2.0]]])
def test_bad_scales(function, ts):
    with pytest.raises(ValueError, match=r"^ts"):
        function(normal(), ts)


@pytest.mark.parametrize("n_scales", [0, -3, 2.5, True, np.nan, np.inf, None, "many", [3]])
def test_bad_number_of_scales(n_scales):
    with pytest.raises(ValueError, match="n_scales"):
        scale_grid(normal(), n_scales)


@pytest.mark.parametrize("name", NAMES)
def test_bad_metric(name):
    with pytest.raises(ValueError, match="metric='nearness'"):
        FUNCTIONS[name](normal(), metric="nearness")
    with pytest.raises(ValueError, match="metric_params"):
        FUNCTIONS[name](normal(), metric_params={"p": 3})
    with pytest.raises(ValueError, match="metric_params"):
        FUNCTIONS[name](normal(), metric="minkowski", metric_params={"p": 0.5})


@pytest.mark.parametrize("name", sorted(set(SCALED) - {"spread"}))
def test_bad_solver(name):
    with pytest.raises(ValueError, match="solver='guess'"):
        FUNCTIONS[name](normal(), solver="guess")
    with pytest.raises(ValueError, match="solver='line'"):
        FUNCTIONS[name](normal(), solver="line")


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("device", ["abacus", "meta", 3.5])
def test_bad_device(name, device):
    with pytest.raises(ValueError, match="device="):
        FUNCTIONS[name](normal(), device=device)
