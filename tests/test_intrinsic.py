import pickle
from dataclasses import replace

import array_api_strict
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal
from reference import normal
from scipy.spatial.distance import cdist
from scipy.stats import binom, ortho_group
from sklearn import config_context
from sklearn.neighbors import KNeighborsTransformer, kneighbors_graph

from skmag import heat_trace_signature, intrinsic_multiscale_distance
from skmag._heat_trace import random_probes

X = normal(60, 3)
Y = np.random.default_rng(1).uniform(size=(60, 2))
BOTH = pytest.mark.parametrize("function", ["signature", "distance"])


def ask(function, data, **options):
    if function == "signature":
        return heat_trace_signature(data, **options)
    return intrinsic_multiscale_distance(data, X, **options)


def curve(n, seed=0):
    return np.random.default_rng(seed).uniform(size=(n, 1))


def parts(signature, n):
    """Independent signatures of the same set, made of parts of the probes of one."""
    values = np.split(signature.probe_values, n)
    seeds = range(signature.seed, signature.seed + n)
    return [
        replace(signature, probe_values=own, seed=seed)
        for own, seed in zip(values, seeds, strict=True)
    ]


def authors_signature(data, probes, k=5, m=10):
    """Algorithm 1 with equation 15 and the empty graph, one probe after the other."""
    n, ts = len(data), np.logspace(-1, 1, 256)
    A = kneighbors_graph(data, k).toarray()
    A = ((A + A.T) > 0).astype(float)
    degree = A.sum(1)
    L = np.eye(n) - A / np.sqrt(degree[:, None] * degree[None, :])
    alpha, total = np.exp(-ts), np.zeros(256)
    for probe in probes:
        q = [probe / np.linalg.norm(probe)]
        T = np.zeros((m, m))
        for j in range(m):
            w = L @ q[j]
            T[j, j] = w @ q[j]
            w = w - T[j, j] * q[j] - (T[j, j - 1] * q[j - 1] if j else 0)
            if j + 1 < m:
                T[j, j + 1] = T[j + 1, j] = np.linalg.norm(w)
                q.append(w / T[j, j + 1])
        nodes, vectors = np.linalg.eigh(T)
        for node, tau in zip(nodes, vectors[0], strict=True):
            total += n * tau**2 * (np.exp(-ts * node) - (1 - alpha * ts * node))
    return ts, (total / len(probes) + n * (1 - alpha * ts)) / n


@pytest.mark.parametrize("probes", ["rademacher", "normal"])
def test_the_authors_definition_on_the_same_graph_and_probes(probes):
    options = {"variance_reduction": "linear", "probes": probes}
    sets = normal(300, 5), normal(250, 3, 1)
    found = [heat_trace_signature(own, random_state=7, **options) for own in sets]
    expected = []
    for own, signature in zip(sets, found, strict=True):
        drawn = list(random_probes(len(own), 100, probes, signature.seed))
        ts, values = authors_signature(own, drawn)
        assert_allclose(signature.ts, ts, rtol=1e-14)
        assert_allclose(signature.values, values, rtol=1e-6)
        expected.append(values)
    distance = (np.exp(-2 * (ts + 1 / ts)) * np.abs(expected[0] - expected[1])).max()
    assert_allclose(found[0].distance_to(found[1]).distance, distance, rtol=1e-6)


@pytest.mark.parametrize("variance_reduction", ["chebyshev", "linear", "taylor", None])
def test_the_exact_heat_trace_within_the_standard_error(variance_reduction):
    data, ts = normal(150, 2), np.array([0.3, 1.0, 3.0])
    A = kneighbors_graph(data, 5).toarray()
    A = np.maximum(A, A.T)
    L = np.eye(150) - A / np.sqrt(np.outer(A.sum(1), A.sum(1)))
    exact = np.exp(-np.outer(ts, np.linalg.eigvalsh(L))).mean(1)
    many = heat_trace_signature(
        data, ts=ts, n_probes=5000, random_state=0, variance_reduction=variance_reduction
    )
    outside = sum(
        np.abs(own.values - exact) > 1.96 * own.standard_errors for own in parts(many, 100)
    )
    low, high = binom.interval(0.9999, 100, 0.05)
    assert ((outside >= low) & (outside <= high)).all()


def test_a_signature_is_reusable():
    first, second = (heat_trace_signature(own, random_state=3) for own in (X, Y))
    result = first.distance_to(second)
    assert result == intrinsic_multiscale_distance(X, Y, random_state=3)
    assert result == intrinsic_multiscale_distance(first, Y, random_state=3)
    assert result == pickle.loads(pickle.dumps(first)).distance_to(second)
    back = second.distance_to(first)
    assert (back.distance, back.standard_error) == (result.distance, result.standard_error)
    assert_allclose(back.noise_level, result.noise_level, rtol=0.2)
    assert first.values.shape == first.standard_errors.shape == first.ts.shape == (256,)
    assert first.probe_values.shape == (100, 256)
    assert "probe_values" not in repr(first)


def test_result_holds_what_the_formula_says():
    first, second = (heat_trace_signature(own, random_state=3) for own in (X, Y[:50]))
    ts = first.ts
    apart = np.exp(-2 * (ts + 1 / ts)) * np.abs(first.values - second.values)
    result = first.distance_to(second)
    assert_allclose(result.distance, apart.max(), rtol=1e-12)
    at = apart.argmax()
    assert result.t == ts[at]
    error = np.hypot(first.standard_errors[at], second.standard_errors[at])
    assert_allclose(result.standard_error, np.exp(-2 * (ts + 1 / ts))[at] * error, rtol=1e-12)


def test_identical_data_show_the_noise_of_the_probes():
    shared = intrinsic_multiscale_distance(X, X.copy(), random_state=0)
    assert shared.distance == shared.standard_error == 0
    assert shared.noise_level > 0
    # Other probes, or the same in another order, bring the noise back.
    signatures = parts(heat_trace_signature(X, n_probes=4000, random_state=0), 80)
    results = [a.distance_to(b) for a, b in zip(signatures[::2], signatures[1::2], strict=True)]
    found = np.array([result.distance for result in results])
    predicted = np.mean([result.noise_level for result in results])
    assert abs(found.mean() - predicted) < 4 * found.std() / np.sqrt(40)
    turned = intrinsic_multiscale_distance(X, X[::-1], random_state=0)
    assert 0 < turned.distance < 5 * predicted


@pytest.mark.parametrize("shared", [True, False])
def test_the_standard_error_covers(shared):
    # One is the other with a tenth of the points moved.
    first, second = curve(200), curve(200)
    second[:20] += 3.0
    ts = np.geomspace(0.3, 3, 20)
    exact = intrinsic_multiscale_distance(first, second, ts=ts, n_probes=1000, random_state=0)
    options = {"ts": ts, "variance_reduction": "linear", "n_probes": 8000}
    many = heat_trace_signature(first, random_state=0, **options)
    others = heat_trace_signature(second, random_state=0 if shared else 1, **options)
    covered, errors = 0, []
    for a, b in zip(parts(many, 200), parts(others, 200), strict=True):
        result = a.distance_to(b)
        errors.append(result.standard_error)
        covered += abs(result.distance - exact.distance) < 1.96 * result.standard_error
    assert exact.standard_error < 0.02 * np.mean(errors)
    low, high = binom.interval(0.999, 200, 0.95)
    assert low <= covered <= high


def test_only_the_shape_counts():
    turn = ortho_group.rvs(3, random_state=0)
    options = {"random_state": 0, "n_steps": 20}
    moved = intrinsic_multiscale_distance(X, 7.0 * X @ turn + [1.0, -9.0, 4.0], **options)
    padded = intrinsic_multiscale_distance(X, np.hstack([X, np.zeros((60, 4))]), **options)
    assert moved.distance == padded.distance == 0


def test_dimension_is_seen_and_rolling_is_not():
    rng = np.random.default_rng(0)
    sheet = rng.uniform(0, 3, size=(500, 2))
    rolled = np.stack([np.cos(sheet[:, 0]), np.sin(sheet[:, 0]), sheet[:, 1]], 1)
    cloud, line = rng.uniform(size=(500, 3)), rng.uniform(size=(500, 1))
    near = intrinsic_multiscale_distance(sheet, rolled, random_state=0).distance
    for other in (cloud, line):
        assert intrinsic_multiscale_distance(sheet, other, random_state=0).distance > 10 * near


def torus(n, rng):
    u, v = rng.uniform(0, 2 * np.pi, (2, 3 * n))
    kept = np.flatnonzero(rng.uniform(size=3 * n) < (1 + 0.4 * np.cos(v)) / 1.4)[:n]
    u, reach = u[kept], 1 + 0.4 * np.cos(v[kept])
    return np.stack([reach * np.cos(u), reach * np.sin(u), 0.4 * np.sin(v[kept])], 1)


def test_a_generator_that_fills_the_hole_of_a_torus_is_farther_away():
    # Appendix C.3; the second moments are the torus's, so that the hole alone tells.
    good, bad = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        data, noisy, filled = (torus(2000, rng) for _ in range(3))
        noisy += 0.01 * rng.normal(size=noisy.shape)
        angle, radius = rng.uniform(0, 2 * np.pi, 200), 0.6 * np.sqrt(rng.uniform(size=200))
        inside = radius * np.cos(angle), radius * np.sin(angle), rng.uniform(-0.3, 0.3, 200)
        filled[:200] = np.stack(inside, 1)
        filled *= [1.0457, 1.0457, 1.0328]
        own, *others = (
            heat_trace_signature(points, n_probes=20, random_state=0)
            for points in (data, noisy, filled)
        )
        for distances, other in zip((good, bad), others, strict=True):
            distances.append(own.distance_to(other).distance)
    assert np.mean(bad) > 1.5 * np.mean(good)
    assert np.mean(np.array(bad) > np.array(good)) >= 0.75


def test_copies_and_constant_data_have_a_value():
    constant = np.ones((30, 2))
    alone = heat_trace_signature(constant, random_state=0)
    assert np.isfinite(alone.values).all()
    repeated = heat_trace_signature(np.repeat(X, 6, axis=0), random_state=0)
    # Each point and its five copies are a complete graph of six, whose heat is known.
    exact = (1 + 5 * np.exp(-alone.ts * 6 / 5)) / 6
    assert_allclose(repeated.values, exact, rtol=0.05)
    assert intrinsic_multiscale_distance(constant, constant, random_state=1).distance == 0


def test_the_smallest_sets():
    two = heat_trace_signature([[0.0], [1.0]], n_neighbors=1, random_state=0)
    assert_allclose(two.values, (1 + np.exp(-2 * two.ts)) / 2, rtol=0.2)
    node = heat_trace_signature([[0.0]], neighbors="precomputed", random_state=0)
    assert_allclose(node.values, 1.0, rtol=1e-12)
    assert_allclose(node.standard_errors, 0.0, atol=1e-12)


def test_normalizations():
    ts = np.array([0.5, 2.0])
    values = {
        name: heat_trace_signature(X, ts=ts, normalization=name, random_state=0).values
        for name in ("none", "empty", "erdos_renyi", "complete")
    }
    spectrum = np.linspace(1 - 2 / np.sqrt(5), 1 + 2 / np.sqrt(5), 60)
    null = {
        "empty": 60,
        "erdos_renyi": np.exp(-np.outer(ts, spectrum)).sum(1),
        "complete": 1 + 59 * np.exp(-ts * 60 / 59),
    }
    for name, divisor in null.items():
        assert_allclose(values[name] * divisor, values["none"], rtol=1e-12)
    graph = sp.csr_array(kneighbors_graph(X, 8).maximum(kneighbors_graph(X, 8).T))
    own = {"ts": ts, "neighbors": "precomputed", "random_state": 0}
    degree = graph.nnz / 60
    spectrum = np.linspace(1 - 2 / np.sqrt(degree), 1 + 2 / np.sqrt(degree), 60)
    found = heat_trace_signature(graph, normalization="erdos_renyi", **own).values
    plain = heat_trace_signature(graph, normalization="none", **own).values
    assert_allclose(found * np.exp(-np.outer(ts, spectrum)).sum(1), plain, rtol=1e-12)


def test_sets_of_different_size_are_compared_by_their_averages():
    large, small = (np.random.default_rng(n).uniform(size=(n, 2)) for n in (800, 400))
    near = intrinsic_multiscale_distance(large, small, random_state=0)
    with pytest.warns(UserWarning, match="heat of 800 points with that of 400"):
        plain = intrinsic_multiscale_distance(large, small, normalization="none", random_state=0)
    assert plain.distance > 100 * 400 * near.distance


class Rough:
    """Neighbours as a library for approximate search returns them, each point itself among them."""

    def __init__(self, n_neighbors=6, missed=0):
        self.n_neighbors = n_neighbors
        self.missed = missed

    def get_params(self, deep=True):
        return {"n_neighbors": self.n_neighbors, "missed": self.missed}

    def fit_transform(self, points):
        distance = cdist(points, points)
        order = np.argsort(distance)[:, np.r_[0, 1 + self.missed : self.n_neighbors + self.missed]]
        rows = np.repeat(np.arange(len(points)), self.n_neighbors)
        return sp.coo_array((distance[rows, order.ravel()], (rows, order.ravel())))


def test_every_way_to_the_same_graph():
    options = {"random_state": 0}
    expected = heat_trace_signature(X, **options)
    distance = cdist(X, X)
    sparse = KNeighborsTransformer(n_neighbors=7).fit_transform(X)
    graph = kneighbors_graph(X, 5)
    found = {
        "transformer": heat_trace_signature(X, neighbors=KNeighborsTransformer(), **options),
        "approximate": heat_trace_signature(X, neighbors=Rough(), **options),
        "dense": heat_trace_signature(distance, metric="precomputed", **options),
        "sparse": heat_trace_signature(sparse, metric="precomputed", **options),
        "callable": heat_trace_signature(X, metric=lambda a, b: abs(a - b).max(), **options),
        "parallel": heat_trace_signature(X, n_jobs=2, **options),
    }
    chebyshev = heat_trace_signature(X, metric="chebyshev", **options)
    assert_allclose(found.pop("callable").values, chebyshev.values, rtol=1e-12)
    own = heat_trace_signature(graph, neighbors="precomputed", **options)
    dense = heat_trace_signature(graph.toarray(), neighbors="precomputed", **options)
    for signature in (own, dense, *found.values()):
        assert_allclose(signature.values, expected.values, rtol=1e-12)
    assert own.n_neighbors is None
    assert own.distance_to(expected).distance < 1e-15
    rough = heat_trace_signature(X, neighbors=Rough(missed=1), **options)
    assert (rough.values != expected.values).any()


def test_metric_params():
    options = {"random_state": 0}
    found = heat_trace_signature(X, metric="minkowski", metric_params={"p": 1}, **options)
    expected = heat_trace_signature(X, metric="cityblock", **options)
    assert_array_equal(found.values, expected.values)
    assert (found.values != heat_trace_signature(X, **options).values).any()


@pytest.mark.parametrize(
    "convert",
    [
        np.asfortranarray,
        np.ndarray.tolist,
        pd.DataFrame,
        pl.DataFrame,
        torch.tensor,
        lambda data: torch.tensor(data, requires_grad=True),
        array_api_strict.asarray,
    ],
    ids=["fortran", "list", "pandas", "polars", "torch", "gradient", "strict"],
)
@pytest.mark.parametrize("dispatch", [True, False])
def test_kinds_of_input(convert, dispatch):
    before = X.copy()
    expected = heat_trace_signature(X, random_state=0)
    with config_context(array_api_dispatch=dispatch):
        found = heat_trace_signature(convert(X), random_state=0)
        distance = intrinsic_multiscale_distance(convert(X), convert(Y), random_state=0)
    assert isinstance(found.values, np.ndarray)
    assert_array_equal(found.values, expected.values)
    assert distance == intrinsic_multiscale_distance(X, Y, random_state=0)
    assert_array_equal(X, before)


def test_other_precisions():
    single = X.astype(np.float32)
    found = heat_trace_signature(single, random_state=0)
    expected = heat_trace_signature(single.astype(float), random_state=0)
    assert found.values.dtype == np.float64
    assert_array_equal(found.values, expected.values)
    whole = np.random.default_rng(0).integers(0, 100, size=(40, 3))
    found = heat_trace_signature(whole, random_state=0)
    assert_array_equal(found.values, heat_trace_signature(1.0 * whole, random_state=0).values)


@pytest.mark.parametrize("ts", [(0.5, 2.0), np.array([0.5, 2.0]), torch.tensor([0.5, 2.0])])
def test_scales_of_the_callers(ts):
    signature = heat_trace_signature(X, ts=ts, random_state=0)
    assert_array_equal(signature.ts, [0.5, 2.0])
    assert signature.values.shape == (2,)
    # Far out the factor of equation 2 is zero, and so is the distance.
    far = intrinsic_multiscale_distance(X, Y, ts=[1e-320, 1e12, 1e300], random_state=0)
    assert far.distance == far.standard_error == far.noise_level == 0


def test_random_state():
    state = np.random.RandomState(0)
    first, second = (heat_trace_signature(X, random_state=state) for _ in range(2))
    assert first.seed != second.seed
    assert heat_trace_signature(X, random_state=np.random.RandomState(0)).seed == first.seed
    assert heat_trace_signature(X, random_state=0).seed == first.seed
    assert heat_trace_signature(X).seed != heat_trace_signature(X).seed
    assert intrinsic_multiscale_distance(X, X).distance == 0
    assert intrinsic_multiscale_distance(X, X, random_state=np.random.RandomState(0)).distance == 0


@BOTH
@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (np.empty((0, 3)), {}, "is empty"),
        ([], {}, "is empty"),
        (np.empty((3, 0)), {}, "is empty"),
        ([[np.nan], [1.0]], {"n_neighbors": 1}, "contains NaN"),
        ([[np.inf], [1.0]], {"n_neighbors": 1}, "contains infinity"),
        ([1.0, 2.0], {}, "Expected 2D array"),
        (sp.csr_array(X), {}, "is sparse"),
        ([[1.0, 2.0]], {}, "1 points, and each needs n_neighbors=5 others"),
        (X[:5], {}, "5 points, and each needs n_neighbors=5 others"),
        (X, {"n_neighbors": 60}, "60 points, and each needs n_neighbors=60 others"),
        (X, {"n_neighbors": 0}, "n_neighbors=0 must be an integer of at least 1"),
        (X, {"n_neighbors": 5.0}, "n_neighbors=5.0 must be an integer"),
        (X, {"n_neighbors": True}, "n_neighbors=True must be an integer"),
        (X, {"n_steps": 0}, "n_steps=0 must be an integer of at least 1"),
        (X, {"n_probes": 1}, "n_probes=1 must be an integer of at least 2"),
        (X, {"normalization": "er"}, "normalization='er' is unknown"),
        (X, {"normalization": ["empty"]}, "is unknown"),
        (X, {"variance_reduction": True}, "variance_reduction=True is unknown"),
        (X, {"probes": "uniform"}, "probes='uniform' is unknown"),
        (X, {"ts": []}, "ts is empty"),
        (X, {"ts": [1.0, -1.0]}, r"ts\[1\]=-1.0 must be positive"),
        (X, {"ts": [np.nan]}, r"ts\[0\]=nan must be positive"),
        (X, {"ts": ["scale"]}, "'scale' has no meaning"),
        (X, {"ts": 7 + 1j}, "ts=.* must be"),
        (X, {"random_state": "seed"}, "cannot be used to seed"),
        (X, {"metric": "nearest"}, "metric='nearest' is unknown"),
        (X, {"metric": "precomputed"}, "with metric='precomputed' it must be square"),
        (sp.csr_array(X), {"metric": "precomputed"}, "with metric='precomputed' it must be square"),
        (sp.csr_array((60, 60)), {"metric": "precomputed"}, "row 0 only 0 neighbours"),
        (X, {"neighbors": "exact"}, "neighbors='exact' must be 'precomputed'"),
        (X, {"neighbors": 5}, "neighbors=5 has no fit_transform"),
        (X, {"neighbors": Rough(5)}, "row 0 only 4 neighbours besides itself"),
        (X, {"neighbors": Rough(), "metric": "cosine"}, "metric='cosine' .* has no effect"),
        (
            sp.csr_array((60, 60)),
            {"neighbors": Rough(), "metric": "precomputed"},
            "metric='precomputed' .* has no effect",
        ),
        (
            np.eye(3),
            {"neighbors": "precomputed", "metric_params": {"p": 1}},
            "metric_params={'p': 1} has no effect on neighbors='precomputed'",
        ),
        (X, {"neighbors": "precomputed"}, "with neighbors='precomputed' it must be square"),
        (-np.ones((3, 3)), {"neighbors": "precomputed"}, "negative weight, -1"),
        ([[np.nan]], {"neighbors": "precomputed"}, "contains NaN"),
        (X, {"normalization": "erdos_renyi", "n_neighbors": 3}, "at least 4, got 3"),
    ],
)
def test_bad_input(function, data, options, message):
    with pytest.raises(ValueError, match=message):
        ask(function, data, **options)


def test_a_transformer_that_returns_something_else():
    class Dense(Rough):
        def fit_transform(self, points):
            return points

    with pytest.raises(ValueError, match=r"did not return a sparse matrix of shape \(60, 60\)"):
        heat_trace_signature(X, neighbors=Dense())


def test_signatures_that_cannot_be_compared():
    first = heat_trace_signature(X, random_state=0)
    for options, message in (
        ({"ts": [1.0]}, "different scales"),
        ({"normalization": "complete"}, "normalization='empty' and normalization='complete'"),
        ({"n_neighbors": 7}, "n_neighbors=5 and n_neighbors=7"),
    ):
        with pytest.raises(ValueError, match=message):
            first.distance_to(heat_trace_signature(Y, random_state=0, **options))
    with pytest.raises(ValueError, match="is no HeatTraceSignature"):
        first.distance_to(X)


@pytest.mark.parametrize("features", [2, 30])
def test_moved_and_rescaled_clouds_are_at_distance_zero(features):
    X = np.random.default_rng(0).normal(size=(200, features))
    late = X.copy()
    late[:, 0] += 2.0**20
    for other in (X * 2.0**-500, X * 2.0**500, late):
        found = intrinsic_multiscale_distance(X, other, random_state=0)
        assert found.distance <= found.noise_level / 2


@pytest.mark.parametrize("metric", ["seuclidean", "mahalanobis"])
def test_metrics_that_learn_from_the_points(metric):
    X = np.random.default_rng(0).normal(size=(100, 2))
    spread = np.var(X, axis=0, ddof=1)
    params = {"V": spread} if metric == "seuclidean" else {"VI": np.linalg.inv(np.cov(X.T))}
    plain = heat_trace_signature(X, metric=metric, random_state=0)
    told = heat_trace_signature(X, metric=metric, metric_params=params, random_state=0)
    np.testing.assert_allclose(plain.values, told.values)


def test_wrong_metric_parameters_are_named():
    with pytest.raises(ValueError, match=r"metric_params=\{'foo': 3\} do not fit"):
        heat_trace_signature(np.eye(9), metric_params={"foo": 3})


def test_a_random_graph_whose_trace_underflows_is_refused():
    X = np.random.default_rng(0).normal(size=(50, 2))
    with pytest.raises(ValueError, match=r"ts=10000\.0 is so large"):
        heat_trace_signature(X, ts=[1.0, 1e4], normalization="erdos_renyi", random_state=0)
