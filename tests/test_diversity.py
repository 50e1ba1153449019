import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from reference import DIGITS, dense, mp_similarity, normal, with_copies
from scipy.optimize import nnls
from scipy.spatial.distance import cdist
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning

from skmag import _diversity, magnitude, magnitude_weights
from skmag._diversity import _solved, maximum_diversity
from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers import CholeskyFactor, _memory
from skmag._solvers._iterative_normalization import solve_iterative_normalization

seeds = st.integers(0, 10_000)
quickly = settings(deadline=None, max_examples=40)


def non_negative_least_squares(zeta):
    """Weights w >= 0 that maximize 2 1'w - w' zeta w = |L^-1 1|^2 - |L' w - L^-1 1|^2."""
    L = np.linalg.cholesky(zeta)
    return nnls(L.T, np.linalg.solve(L, np.ones(len(zeta))), maxiter=100 * len(zeta))[0]


def similarity(X, t=1.0):
    return Similarity.of(torch.from_numpy(np.array(X)), resolve_metric("euclidean", None), t)


@quickly
@given(seed=seeds, n=st.integers(1, 120), d=st.integers(1, 12), log_t=st.floats(-2, 1.5))
def test_non_negative_least_squares_agrees(seed, n, d, log_t):
    X = normal(n, d, seed)
    result = maximum_diversity(X, t=10**log_t)
    weights = non_negative_least_squares(dense(X, 10**log_t))
    assert_allclose(result.value, weights.sum(), rtol=1e-9)
    assert result.lower <= weights.sum() * (1 + 1e-12)
    assert result.upper >= weights.sum() * (1 - 1e-12)
    assert result.upper <= result.lower * (1 + 3e-9)


@pytest.mark.parametrize(("d", "t"), [(2, 1.0), (3, 0.3), (10, 1.0), (100, 0.05)])
def test_the_weights_are_those_of_non_negative_least_squares(d, t):
    X = normal(400, d)
    result = maximum_diversity(X, t=t, tol=1e-12)
    expected = non_negative_least_squares(dense(X, t))
    assert_allclose(result.weights, expected, atol=1e-9 * expected.max())
    assert_array_equal(result.support, np.flatnonzero(expected > 0))


@quickly
@given(seed=seeds, gap=st.floats(-9, -1), d=st.integers(1, 5))
def test_clumps_and_near_duplicates(seed, gap, d):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(8, d))[rng.integers(0, 8, 60)] + 10**gap * rng.normal(size=(60, d))
    result = maximum_diversity(X)
    # Representatives of the clumps are nearly all there is.
    some = maximum_diversity(X[:30])
    assert some.lower <= result.upper
    assert result.lower <= result.value <= result.upper <= result.lower * (1 + 3e-9)


@quickly
@given(seed=seeds, n=st.integers(2, 6), d=st.integers(1, 3), log_t=st.floats(-6, 2))
def test_the_bounds_contain_fifty_digits(seed, n, d, log_t):
    X = normal(n, d, seed)
    result = maximum_diversity(X, t=10**log_t)
    with mpmath.workdps(DIGITS):
        zeta = mp_similarity(X, X, 10**log_t)
        exact = mpmath.mpf(1)
        # The greatest magnitude of a subset with non-negative weights.
        for subset in range(1, 2**n):
            rows = [i for i in range(n) if subset >> i & 1]
            own = mpmath.matrix([[zeta[i, j] for j in rows] for i in rows])
            w = mpmath.lu_solve(own, mpmath.ones(len(rows), 1))
            if min(w) >= 0:
                exact = max(exact, mpmath.fsum(w))
        assert result.lower <= exact <= result.upper
        assert abs(result.value - exact) <= 1e-9 * exact


@pytest.mark.parametrize(("n", "d", "t"), [(300, 1, 1.0), (200, 2, 30.0), (100, 50, 2.0)])
def test_it_is_the_magnitude_where_all_weights_are_positive(n, d, t):
    X = normal(n, d)
    assert magnitude_weights(X, t=t).min() > 0
    result = maximum_diversity(X, t=t)
    assert_allclose(result.value, magnitude(X, t=t), rtol=1e-9)
    assert_allclose(result.weights, magnitude_weights(X, t=t), rtol=1e-6)
    assert_array_equal(result.support, np.arange(n))


@pytest.mark.parametrize(("d", "t"), [(2, 0.1), (3, 1.0), (20, 0.1)])
def test_it_is_the_magnitude_of_its_support_and_less_than_that_of_all(d, t):
    X = normal(300, d)
    result = maximum_diversity(X, t=t)
    assert len(result.support) < 300
    assert_allclose(result.value, magnitude(X[result.support], t=t), rtol=1e-12)
    assert result.upper < magnitude(X, t=t)
    assert_allclose(result.weights.sum(), result.value, rtol=1e-12)


@pytest.mark.parametrize(("d", "t"), [(3, 0.5), (10, 1.0)])
def test_one_distribution_maximizes_the_diversity_of_every_order(d, t):
    X = normal(200, d)
    result = maximum_diversity(X, t=t)
    p = result.weights / result.value
    typical = dense(X, t) @ p
    for q in (0.0, 0.5, 2.0, 7.0):
        own = p > 0
        diversity = (p[own] @ typical[own] ** (q - 1)) ** (1 / (1 - q))
        assert_allclose(diversity, result.value, rtol=1e-9)
        # No distribution exceeds it.
        other = np.random.default_rng(0).dirichlet(np.ones(200), 20)
        many = ((other * (other @ dense(X, t)) ** (q - 1)).sum(1)) ** (1 / (1 - q))
        assert many.max() < result.value


def test_two_points():
    result = maximum_diversity([[0.0, 0.0], [3.0, 4.0]], t=0.1)
    assert_allclose(result.value, 2 / (1 + np.exp(-0.5)), rtol=1e-14)
    assert float(result) == result.value


def test_one_point():
    result = maximum_diversity([[1.0, 2.0]])
    assert (result.value, result.support.tolist()) == (1.0, [0])


@pytest.mark.parametrize(("d", "t"), [(2, 1.0), (10, 0.5)])
def test_iterative_normalization_converges_to_it(d, t):
    X = normal(200, d)
    slow = solve_iterative_normalization(similarity(X, t), tol=1e-3, max_iter=3000).details
    result = maximum_diversity(X, t=t)
    assert slow["diversity_lower"] <= result.value <= slow["diversity_upper"]
    assert_allclose(slow["sum_of_weights"], result.value, rtol=1e-3)


def test_copies_share_a_weight():
    X = with_copies()
    result = maximum_diversity(X)
    alone = maximum_diversity(np.unique(X, axis=0))
    assert_allclose(result.value, alone.value, rtol=1e-12)
    assert_allclose(result.weights[[1, 3, 7, 8]], result.weights[1])
    assert_allclose(result.weights.sum(), result.value)
    assert_array_equal(result.support, np.flatnonzero(result.weights > 0))


def test_the_order_of_the_rows_does_not_matter():
    X = normal(150, 3)
    order = np.random.default_rng(1).permutation(150)
    result, shuffled = maximum_diversity(X), maximum_diversity(X[order])
    assert_allclose(shuffled.value, result.value, rtol=1e-9)
    assert_allclose(shuffled.weights, result.weights[order], atol=1e-7)


@pytest.mark.parametrize("tol", [1e-1, 1e-3])
def test_a_great_tolerance_stops_early_with_bounds_that_hold(tol):
    X = normal(500, 3)
    rough, exact = maximum_diversity(X, tol=tol), maximum_diversity(X)
    assert len(rough.support) < len(exact.support)
    assert rough.lower <= exact.value <= rough.upper
    assert rough.upper <= rough.lower * (1 + tol) * (1 + 1e-9)


@pytest.mark.parametrize("metric", ["cityblock", "cosine", "precomputed"])
def test_metrics(metric):
    X = normal(100, 4)
    data = cdist(X, X) if metric == "precomputed" else X
    zeta = dense(X, 1.0, {"precomputed": "euclidean"}.get(metric, metric))
    result = maximum_diversity(data, metric=metric)
    assert_allclose(result.value, non_negative_least_squares(zeta).sum(), rtol=1e-9)
    definite = resolve_metric(metric, None).positive_definite
    # Without positive definiteness nothing but the number of points is proven to be enough.
    assert result.upper <= result.value * (1 + 1e-8) if definite else result.upper == 100.0


def test_a_space_that_is_not_positive_definite_is_refused():
    D = np.full((5, 5), 2.0)
    D[:2, 2:] = D[2:, :2] = 1.0
    np.fill_diagonal(D, 0.0)
    assert np.linalg.eigvalsh(np.exp(-0.1 * D))[0] < 0
    with pytest.raises(np.linalg.LinAlgError, match="is not positive definite"):
        maximum_diversity(D, t=0.1, metric="precomputed")


def test_torch_in_torch_out():
    X = normal(80, 3)
    with config_context(array_api_dispatch=True):
        result = maximum_diversity(torch.from_numpy(X))
    assert isinstance(result.weights, torch.Tensor)
    assert_allclose(result.weights, maximum_diversity(X).weights)


def test_a_support_beyond_the_memory_is_reported_with_bounds(monkeypatch):
    X = normal(400, 2)
    exact = maximum_diversity(X).value
    monkeypatch.setattr(_memory, "available_memory", lambda device: 8 * 150**2)
    with pytest.warns(ConvergenceWarning, match="more than 1[0-9][0-9] points, cannot be solved"):
        result = maximum_diversity(X)
    assert result.lower <= exact <= result.upper <= 1.1 * result.lower


@pytest.mark.parametrize("d", [3, 10])
def test_careful_steps_never_lower_the_diversity(d):
    space = similarity(normal(120, d), 0.5)
    support = torch.arange(120)
    few = torch.arange(30)
    first = _solved(space, few, CholeskyFactor.prepare(space.taken(few)))
    careful = _solved(
        space, support, CholeskyFactor.prepare(space.taken(support)), first.weights.clone()
    )
    w = careful.weights.numpy()
    assert w.min() >= 0
    assert careful.value >= first.value
    assert_allclose(careful.sums[careful.support], 1.0, rtol=1e-10)


def test_a_pass_that_raises_nothing_is_repeated_with_care(monkeypatch):
    X = normal(200, 3)
    exact = maximum_diversity(X).value
    careful = []

    def useless(similarity, support, prepared, before=None):
        careful.append(before is not None)
        if len(careful) in (3, 5):
            support = support[:2]
            prepared = CholeskyFactor.prepare(similarity.taken(support))
        return _solved(similarity, support, prepared, before)

    monkeypatch.setattr(_diversity, "_solved", useless)
    assert_allclose(maximum_diversity(X).value, exact, rtol=1e-9)
    assert [number for number, was in enumerate(careful, start=1) if was] == [4, 6]


@pytest.mark.parametrize("tol", [0.0, -1e-3, 1.0, 2, float("nan"), float("inf"), True, "small"])
def test_a_tolerance_is_between_zero_and_one(tol):
    with pytest.raises(ValueError, match=f"tol={tol!r} must be a number between 0 and 1"):
        maximum_diversity(normal(5, 2), tol=tol)


@pytest.mark.parametrize("t", ["scale", 2.0])
def test_t_is_understood_as_elsewhere(t):
    X = normal(60, 3)
    result = maximum_diversity(X, t=t)
    median = np.median(cdist(X, X)[np.triu_indices(60, 1)])
    scale = 1 / median if t == "scale" else t
    assert_allclose(result.value, maximum_diversity(X, t=scale).value, rtol=1e-9)


def test_sums_that_underflow_leave_the_number_of_points_as_the_bound():
    X = np.random.default_rng(0).normal(size=(80, 4))
    found = maximum_diversity(X, metric="cosine", t=1e4)
    assert found.lower <= found.value <= found.upper <= 80
