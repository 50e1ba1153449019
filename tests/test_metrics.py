import pickle
import warnings

import mpmath
import numpy as np
import pytest
import torch
from reference import mp_distance
from scipy.spatial.distance import cdist
from sklearn.metrics import pairwise_distances
from sklearn.metrics.pairwise import PAIRWISE_BOOLEAN_FUNCTIONS
from sklearn.neighbors import VALID_METRICS

from skmag import NotPositiveDefiniteWarning, weighting
from skmag._metrics import resolve_metric

TORCH_METRICS = [
    ("euclidean", {}),
    ("cityblock", {}),
    ("chebyshev", {}),
    ("minkowski", {"p": 1.0}),
    ("minkowski", {"p": 1.5}),
    ("minkowski", {"p": 2.0}),
    ("minkowski", {"p": 3.0}),
    ("minkowski", {"p": np.inf}),
    ("cosine", {}),
]
FEATURES = [1, 3, 23, 24, 64]

# Not defined on complete dense points, on themselves not zero, or in need of two features.
SPECIAL = {"precomputed", "nan_euclidean", "russellrao", "haversine"}
USABLE = {*VALID_METRICS["brute"]} - SPECIAL
BINARY = sorted({*PAIRWISE_BOOLEAN_FUNCTIONS, "hamming", "matching"} & USABLE)
REAL = sorted(USABLE - {*BINARY})


def block(A, B, metric="euclidean", **params):
    resolved = resolve_metric(metric, params)
    A, B = (torch.from_numpy(np.array(M, dtype=float)) for M in (A, B))
    return resolved.block(resolved.points(A, "A"), resolved.points(B, "B")).numpy()


def exact_distances(A, B):
    with mpmath.workdps(50):
        return np.array([[float(mp_distance(a, b)) for b in B] for a in A])


@pytest.mark.parametrize(("metric", "params"), TORCH_METRICS, ids=str)
@pytest.mark.parametrize("n_features", FEATURES)
def test_torch_metrics_agree_with_scipy(metric, params, n_features):
    rng = np.random.default_rng(n_features)
    A, B = rng.normal(size=(13, n_features)), rng.normal(size=(17, n_features))
    found = block(A, B, metric, **params)
    if np.isinf(params.get("p", 1)):
        metric, params = "chebyshev", {}
    expected = cdist(A, B, metric, **params)
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("alias", ["l1", "l2", "manhattan"])
def test_aliases(alias):
    X = np.random.default_rng(0).normal(size=(5, 3))
    expected = cdist(X, X, "euclidean" if alias == "l2" else "cityblock")
    np.testing.assert_allclose(block(X, X, alias), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("n_features", [5, 24, 100])
@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("n", [6, 120])
def test_euclidean_distances_keep_their_digits(n_features, offset, n):
    # n = 6 leaves more than a fifth of the pairs close: differences; n = 120 goes by the product.
    rng = np.random.default_rng(n_features)
    X = rng.normal(size=(n, n_features)) + offset
    X[1] = X[0] + 1e-9 * rng.normal(size=n_features)
    X[3, 0] = np.nextafter(X[2, 0], np.inf)
    X[3, 1:] = X[2, 1:]
    found = block(X[:6], X)
    np.testing.assert_allclose(found, exact_distances(X[:6], X), rtol=1e-12, atol=0)


def test_euclidean_distances_between_far_clusters_keep_their_digits():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(40, 30)) * 1e-3
    X[::2] += 1e5
    np.testing.assert_allclose(block(X[:4], X), exact_distances(X[:4], X), rtol=1e-12, atol=0)


def test_queries_far_from_the_points_keep_their_digits():
    rng = np.random.default_rng(6)
    X, Z = rng.normal(size=(50, 30)), rng.normal(size=(5, 30)) + 1e7
    np.testing.assert_allclose(block(Z, X), exact_distances(Z, X), rtol=1e-12)


@pytest.mark.parametrize("c", [1e-300, 1e-200, 1e-150, 1e150, 1e200, 1e300])
@pytest.mark.parametrize("n_features", [3, 30])
@pytest.mark.parametrize(("metric", "params"), TORCH_METRICS, ids=str)
def test_coordinates_near_the_ends_of_the_range(metric, params, n_features, c):
    X = np.random.default_rng(7).normal(size=(9, n_features))
    expected = block(X, X, metric, **params) * (1.0 if metric == "cosine" else c)
    np.testing.assert_allclose(block(c * X, c * X, metric, **params), expected, rtol=1e-12)


@pytest.mark.parametrize("p", [4.0, 10.0, 60.0, 1000.0])
@pytest.mark.parametrize("c", [1e-40, 1e-9, 1.0, 1e9, 1e40])
def test_minkowski_of_high_order_neither_overflows_nor_vanishes(p, c):
    X = np.array([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0], [1e-4, 0.0, 1e-4], [0.5, 0.5, 0.5]])
    gap = np.abs(X[:, None] - X)
    with mpmath.workdps(50):
        expected = [
            [
                float(mpmath.fsum(mpmath.mpf(x) ** p for x in row) ** (1 / mpmath.mpf(p)))
                for row in g
            ]
            for g in gap
        ]
    found = block(c * X, c * X, "minkowski", p=p)
    np.testing.assert_allclose(found, c * np.array(expected), rtol=1e-12)


@pytest.mark.parametrize("p", [0.5, 0.0, -1.0, np.nan])
def test_minkowski_below_one_is_no_metric(p):
    with pytest.raises(ValueError, match=r"metric_params\['p'\]=.* must be at least 1"):
        resolve_metric("minkowski", {"p": p})


def test_unknown_metrics_and_parameters_are_named():
    with pytest.raises(ValueError, match="metric='nearness' is unknown"):
        weighting([[0.0]], metric="nearness")
    with pytest.raises(ValueError, match=r"metric_params=\{'p': 3\} do not fit metric='euclidean'"):
        weighting([[0.0]], metric="euclidean", metric_params={"p": 3})
    with pytest.raises(ValueError, match=r"metric_params has keys \['q'\]"):
        weighting([[0.0]], metric="minkowski", metric_params={"q": 3})


@pytest.mark.parametrize("metric", ["euclidean", "cityblock", "chebyshev", "minkowski"])
def test_weights_of_features_are_used_or_refused(metric):
    X = np.random.default_rng(3).normal(size=(6, 3))
    w = np.array([1.0, 2.0, 0.5])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotPositiveDefiniteWarning)
            found = weighting(X, metric=metric, metric_params={"w": w}).weights
    except ValueError as error:
        assert "metric_params" in str(error)  # noqa: PT017
    else:
        zeta = np.exp(-cdist(X, X, metric, w=w))
        np.testing.assert_allclose(found, np.linalg.solve(zeta, np.ones(6)), rtol=1e-12)


@pytest.mark.parametrize("n_features", [3, 30, 500])
def test_scaled_copies_are_duplicates_under_cosine(n_features):
    rng = np.random.default_rng(n_features)
    X = rng.normal(size=(10, n_features))
    space = weighting(np.vstack([X, X * rng.uniform(0.1, 9, size=(10, 1))]), metric="cosine")
    assert space.n_points == 10
    np.testing.assert_allclose(space.weights[:10], space.weights[10:], rtol=0)
    np.testing.assert_allclose(space.magnitude, weighting(X, metric="cosine").magnitude, rtol=1e-10)
    assert space.residual(7 * X).tolist() == [0.0] * 10


def test_cosine_keeps_the_digits_of_small_angles():
    angle = 1e-6
    found = block([[1.0, 0.0]], [[np.cos(angle), np.sin(angle)]], "cosine")
    assert found[0, 0] == pytest.approx(angle**2 / 2, rel=1e-8)


def test_cosine_refuses_rows_of_zeros_by_name():
    with pytest.raises(ValueError, match="X has 2 rows of zeros"):
        weighting([[0.0, 0.0], [1.0, 0.0], [-0.0, 0.0]], metric="cosine")
    with pytest.raises(ValueError, match="Z has 1 rows of zeros"):
        weighting([[1.0, 0.0]], metric="cosine").potential([[0.0, 0.0]])


@pytest.mark.filterwarnings("ignore::skmag.NotPositiveDefiniteWarning")
@pytest.mark.parametrize("metric", REAL)
def test_every_metric_of_sklearn_works_on_real_data(metric):
    X = np.random.default_rng(11).uniform(0.5, 2.0, size=(9, 4))
    Z = np.random.default_rng(12).uniform(0.5, 2.0, size=(3, 4))
    params = {}
    if metric == "seuclidean":
        params = {"V": X.var(0, ddof=1)}
    if metric == "mahalanobis":
        params = {"VI": np.linalg.inv(np.cov(X.T))}
    if metric == "wminkowski":
        params = {"w": np.ones(4)}
    table = pairwise_distances(X, metric=metric, **params)
    zeta = np.exp(-2 * (table + table.T) / 2)
    np.fill_diagonal(zeta, 1)
    space = weighting(X, t=2, metric=metric)
    w = np.linalg.solve(zeta, np.ones(9))
    np.testing.assert_allclose(space.weights, w, rtol=1e-9, atol=1e-10 * abs(w).max())
    k = np.exp(-2 * pairwise_distances(Z, X, metric=metric, **params))
    np.testing.assert_allclose(space.potential(Z), k @ w, rtol=1e-8, atol=1e-9)


@pytest.mark.filterwarnings("ignore::skmag.NotPositiveDefiniteWarning")
@pytest.mark.parametrize("metric", BINARY)
def test_every_metric_of_sklearn_works_on_binary_data(metric):
    X = np.random.default_rng(18).integers(0, 2, size=(8, 12)).astype(float)
    X[:, 0], X[:, 1] = 1.0, 0.0
    converted = X.astype(bool) if metric in PAIRWISE_BOOLEAN_FUNCTIONS else X
    table = pairwise_distances(converted, metric=metric)
    space = weighting(X, t=1.7, metric=metric)
    assert space.n_points == 8
    w = np.linalg.solve(np.exp(-1.7 * table), np.ones(8))
    np.testing.assert_allclose(space.weights, w, rtol=1e-9, atol=1e-10 * abs(w).max())


def test_haversine_works_on_angles():
    X = np.random.default_rng(14).uniform(-1, 1, size=(6, 2))
    w = np.linalg.solve(np.exp(-pairwise_distances(X, metric="haversine")), np.ones(6))
    np.testing.assert_allclose(weighting(X, metric="haversine").weights, w, rtol=1e-10)


@pytest.mark.skipif("russellrao" not in VALID_METRICS["brute"], reason="scikit-learn lost it")
def test_a_dissimilarity_that_is_not_zero_on_itself_is_refused():
    X = np.eye(4) + np.eye(4)[::-1]
    with pytest.raises(ValueError, match=r"metric='russellrao' has 0\.5 on its diagonal"):
        weighting(X, metric="russellrao")


@pytest.mark.parametrize("metric", ["seuclidean", "mahalanobis"])
@pytest.mark.parametrize("n_features", [1, 4])
def test_learned_parameters_come_from_the_training_points(metric, n_features):
    rng = np.random.default_rng(15)
    X, Z = rng.normal(size=(20, n_features)), rng.normal(size=(5, n_features))
    if metric == "seuclidean":
        params = {"V": X.var(0, ddof=1)}
    else:
        params = {"VI": np.linalg.inv(np.atleast_2d(np.cov(X.T)))}
    w = np.linalg.solve(np.exp(-cdist(X, X, metric, **params)), np.ones(20))
    expected = np.exp(-cdist(Z, X, metric, **params)) @ w
    space = weighting(X, metric=metric)
    np.testing.assert_allclose(space.potential(Z), expected, rtol=1e-9)
    np.testing.assert_allclose(space.potential(Z[:1]), expected[:1], rtol=1e-9)


@pytest.mark.parametrize("metric", ["seuclidean", "mahalanobis"])
def test_metrics_that_cannot_be_learned_are_named(metric):
    X = np.array([[1.0, 2.0, 0.0], [2.0, 2.0, 1.0], [3.0, 2.0, 5.0], [4.0, 2.0, 1.0]])
    with pytest.raises(ValueError, match=f"metric='{metric}'"):
        weighting(X, metric=metric)


def taxicab(a, b):
    return float(np.abs(a - b).sum())


def test_a_function_of_two_vectors_is_a_metric():
    rng = np.random.default_rng(16)
    X, Z = rng.normal(size=(8, 3)), rng.normal(size=(3, 3))
    own, known = weighting(X, metric=taxicab), weighting(X, metric="cityblock")
    np.testing.assert_allclose(own.weights, known.weights, rtol=1e-12)
    np.testing.assert_allclose(own.gain(Z), known.gain(Z), rtol=1e-12)
    twin = pickle.loads(pickle.dumps(own))
    assert twin.gain(Z).tolist() == own.gain(Z).tolist()


def test_a_pseudometric_merges_what_it_does_not_separate():
    X = np.array([[0.0, 1.0], [0.0, 2.0], [3.0, 0.0]])
    space = weighting(X, metric=lambda a, b: abs(a[0] - b[0]))
    assert space.n_points == 2
    line = weighting([[0.0], [0.0], [3.0]])
    np.testing.assert_allclose(space.weights, line.weights, rtol=1e-14)
    assert space.residual([[0.0, 77.0]]) == [0.0]


def test_functions_that_are_asymmetric_among_later_rows_only_are_refused():
    X = np.arange(50.0)[:, None]

    def uphill(a, b):
        return float(abs(a[0] - b[0]) * (2 if a[0] > b[0] > 35 else 1))

    assert weighting(X[:32], metric=uphill).n_points == 32
    with pytest.raises(ValueError, match="is not symmetric"):
        weighting(X, metric=uphill)


def test_functions_that_are_no_distance_are_refused():
    X = [[0.0], [1.0], [3.0]]
    with pytest.raises(ValueError, match="is not symmetric"):
        weighting(X, metric=lambda a, b: max(0.0, float(a[0] - b[0])))
    with pytest.raises(ValueError, match=r"has 1\.0 on its diagonal"):
        weighting(X, metric=lambda a, b: 1.0)
    with pytest.raises(ValueError, match=r"negative distance -"):
        weighting(X, metric=lambda a, b: -float(abs(a[0] - b[0])))
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="NaN or infinite"):
            weighting(X, metric=lambda a, b, bad=bad: bad)


@pytest.mark.parametrize(("metric", "params"), TORCH_METRICS, ids=str)
def test_metrics_survive_pickling(metric, params):
    A = torch.from_numpy(np.random.default_rng(19).normal(size=(5, 3)))
    resolved = resolve_metric(metric, params)
    twin = pickle.loads(pickle.dumps(resolved))
    assert torch.equal(twin.block(A, A), resolved.block(A, A))
    assert (twin.name, twin.on_host, twin.separates) == (
        resolved.name,
        resolved.on_host,
        resolved.separates,
    )


def test_a_precomputed_metric_has_no_blocks():
    metric = pickle.loads(pickle.dumps(resolve_metric("precomputed", None)))
    assert metric.precomputed
    with pytest.raises(TypeError, match="precomputed"):
        metric.block(torch.zeros(1, 1), torch.zeros(1, 1))


@pytest.mark.parametrize("metric", ["euclidean", "cityblock", "minkowski", "cosine"])
@pytest.mark.parametrize("t", [1e-3, 1.0])
def test_metrics_said_to_be_of_negative_type_are(metric, t):
    X = np.random.default_rng(20).normal(size=(30, 3))
    resolved = resolve_metric(metric, {"p": 1.3} if metric == "minkowski" else None)
    assert resolved.positive_definite
    points = resolved.points(torch.from_numpy(X), "X")
    zeta = torch.exp(-t * resolved.block(points, points))
    assert float(torch.linalg.eigvalsh(zeta)[0]) > -1e-14
    for other, params in (("chebyshev", None), ("minkowski", {"p": 3}), ("canberra", None)):
        assert not resolve_metric(other, params).positive_definite


@pytest.mark.parametrize("share", [[0.3, 0.7], [1.0, 1.0], [0.1, -0.9], [2.0, 0.5]])
def test_mahalanobis_refuses_features_that_depend_on_others(share):
    # Whether the rounded covariance can be inverted is a matter of chance.
    X = np.random.default_rng(1).normal(size=(30, 2))
    for points in (np.c_[X, X @ share], X[:2], np.c_[X, np.ones(30)]):
        with pytest.raises(ValueError, match="covariance is singular"):
            resolve_metric("mahalanobis", None, points)
    resolve_metric("mahalanobis", None, X * [1e-9, 1e9])
