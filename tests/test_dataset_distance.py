"""Properties that the paper on magnitude distance proves, and what its functions promise."""

import itertools
import warnings

import array_api_strict
import mpmath
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from reference import DIGITS, dense, host, mp_weighting, normal, relative_error
from scipy.optimize import brentq
from scipy.spatial.distance import cdist, pdist
from sklearn import config_context
from sklearn.cluster import DBSCAN
from sklearn.neighbors import KNeighborsClassifier

from skmag import (
    NotPositiveDefiniteWarning,
    magnitude,
    magnitude_distance,
    magnitude_equivalent,
    magnitude_weights,
    pairwise_magnitude_distances,
)

METRICS = [
    "euclidean",
    "cityblock",
    "chebyshev",
    "cosine",
    "seuclidean",
    "mahalanobis",
    "canberra",
    "braycurtis",
    lambda a, b: np.abs(a - b).max() ** 0.5,
]
SQUARE = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
CENTRE = np.zeros((1, 2))


def pair(d=3, n=7, m=5):
    """Two sets with a common point and a copy."""
    X, Y = normal(n, d, seed=1), normal(m, d, seed=2) + 0.3
    Y[1], X[4] = X[0], X[2]
    return X, Y


def naive(X, Y, t, metric="euclidean", **params):
    whole, first, second = (
        np.linalg.inv(dense(np.unique(own, axis=0), t, metric, **params)).sum()
        for own in (np.vstack([X, Y]), X, Y)
    )
    return 2 * whole - first - second


def with_many_digits(X, Y, t):
    with mpmath.workdps(DIGITS):
        whole, first, second = (mp_weighting(own, t)[1] for own in (np.vstack([X, Y]), X, Y))
        return 2 * whole - first - second


def scale_without_centre():
    """Scale at which the centre of SQUARE is represented by its corners, and gets no weight."""

    def deficit(t):
        return 1 - 4 * np.exp(-t) / (1 + np.exp(-2 * t) + 2 * np.exp(-np.sqrt(2) * t))

    return brentq(deficit, 0.1, 3.0, xtol=1e-15)


# Numbers with many digits


@pytest.mark.parametrize("t", [1e-12, 1e-9, 1e-6, 1e-3, 0.1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("d", [1, 2, 5, 30])
@pytest.mark.parametrize(("n", "m", "common"), [(6, 6, 0), (7, 3, 1), (8, 8, 6), (2, 9, 2)])
def test_against_fifty_digits(n, m, common, d, t):
    X = normal(n, d, seed=1)
    Y = np.vstack([X[:common], normal(m - common, d, seed=2)])
    assert relative_error([magnitude_distance(X, Y, t=t)], [with_many_digits(X, Y, t)]) < 1e-12


@pytest.mark.parametrize("t", [1e-9, 1e-3, 1.0, 30.0])
@pytest.mark.parametrize(("gap", "error"), [(1e-3, 1e-11), (1e-6, 1e-8)])
def test_sets_beside_each_other_keep_what_their_gap_leaves(gap, error, t):
    X = normal(6, 2)
    Y = X + gap * normal(6, 2, seed=5)
    assert relative_error([magnitude_distance(X, Y, t=t)], [with_many_digits(X, Y, t)]) < error


@pytest.mark.parametrize("metric", [m for m in METRICS if m not in ("seuclidean", "mahalanobis")])
def test_any_metric(metric):
    X, Y = pair()
    assert_allclose(magnitude_distance(X, Y, t=2.0, metric=metric), naive(X, Y, 2.0, metric))


def test_metrics_that_learn_do_so_from_the_union():
    X, Y = pair()
    every = np.unique(np.vstack([X, Y]), axis=0)
    V, VI = every.var(0, ddof=1), np.linalg.inv(np.cov(every.T))
    for metric, params in (("seuclidean", {"V": V}), ("mahalanobis", {"VI": VI})):
        expected = naive(X, Y, 1.0, metric, **params)
        assert_allclose(magnitude_distance(X, Y, t=1.0, metric=metric), expected)
        told = magnitude_distance(X, Y, t=1.0, metric=metric, metric_params=params)
        assert_allclose(told, expected)


@pytest.mark.parametrize("solver", ["auto", "cholesky", "mixed", "indefinite"])
def test_solvers_agree(solver):
    X, Y = pair()
    assert_allclose(magnitude_distance(X, Y, t=1.0, solver=solver), naive(X, Y, 1.0), rtol=1e-10)
    X, Y = X[:, :1], Y[:, :1]
    assert_allclose(magnitude_distance(X, Y, t=1.0, solver=solver), naive(X, Y, 1.0), rtol=1e-10)


# Theorem 5.2: metric axioms


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("t", ["scale", 2.0, 5.0])
@pytest.mark.parametrize("m", [3, 7, 12])
def test_symmetry_to_the_last_bit(m, t, metric):
    X, Y = pair(m=m)
    found = magnitude_distance(X, Y, t=t, metric=metric)
    assert magnitude_distance(Y, X, t=t, metric=metric) == found
    order = np.random.default_rng(0).permutation
    copied = np.vstack([X, X[:2], -0.0 * X[:0]])
    assert magnitude_distance(order(Y), order(copied), t=t, metric=metric) == found


def test_symmetry_holds_beyond_the_sample_of_the_median():
    X, Y = normal(700, 2, seed=1), normal(600, 2, seed=2) + 0.1
    assert magnitude_distance(X, Y) == magnitude_distance(Y[::-1], X)


@settings(deadline=None, max_examples=100)
@given(
    rows=st.lists(st.tuples(*[st.floats(-2, 2, width=16)] * 2), min_size=1, max_size=8),
    gap=st.sampled_from([0.0, 1e-300, 1e-17, 1e-15, 1e-12, 1e-8, 1e-3, 1.0]),
    seed=st.integers(0, 20),
    t=st.sampled_from([1e-12, 1e-3, 1.0, 50.0, "scale"]),
    normalized=st.booleans(),
)
def test_no_distance_is_negative(rows, gap, seed, t, normalized):
    X = np.array(rows)
    rng = np.random.default_rng(seed)
    Y = X + gap * rng.integers(-1, 2, size=X.shape)
    with warnings.catch_warnings():
        # Points that float64 cannot tell apart are merged, with a warning.
        warnings.simplefilter("ignore")
        found = magnitude_distance(X, Y, t=t, normalized=normalized)
        assert magnitude_distance(rng.permutation(Y), X, t=t, normalized=normalized) == found
    assert found >= 0.0
    if (X == Y).all():
        assert found == 0.0


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(*[st.floats(-9, 9, width=16)] * 2), min_size=1, max_size=8),
    seed=st.integers(0, 20),
    t=st.sampled_from([1e-12, 0.7, 1e3]),
)
def test_equal_sets_are_at_no_distance_in_any_order_with_any_repeats(rows, seed, t):
    X = np.array(rows)
    rng = np.random.default_rng(seed)
    Y = X[np.append(rng.permutation(len(X)), rng.integers(len(X), size=5))]
    assert magnitude_distance(X, Y, t=t) == 0.0
    assert magnitude_equivalent(X, Y, t=t)


@pytest.mark.parametrize("t", [0.01, 1.0, 20.0])
def test_identity_of_indiscernibles(t):
    X, Y = pair(d=2)
    for own, other in [(X, Y), (X, X[1:]), (X[:3], np.vstack([X[:3], [[0.1, 0.2]]]))]:
        assert magnitude_distance(own, other, t=t) > 1e-9
        assert not magnitude_equivalent(own, other, t=t)


def test_a_point_without_weight_is_not_seen():
    t, starred = scale_without_centre(), np.vstack([SQUARE, CENTRE])
    assert abs(magnitude_weights(starred, t=t)[-1]) < 1e-13
    assert magnitude_equivalent(SQUARE, starred, t=t)
    assert magnitude_equivalent(starred, SQUARE, t=t)
    assert 0.0 <= magnitude_distance(SQUARE, starred, t=t) < 1e-25
    for other in (0.9 * t, 1.1 * t):
        assert not magnitude_equivalent(SQUARE, starred, t=other)
        assert magnitude_distance(SQUARE, starred, t=other) > 1e-5
    # A weight within the tolerance counts as none.
    assert magnitude_equivalent(SQUARE, starred, t=1.1 * t, tol=1.0)


def test_no_triangle_inequality_in_the_plane():
    # Nobody sees the centre beside the square alone; beside the square and another point it has
    # weight. So two sets at no distance are at different distances from a third one.
    t, starred = scale_without_centre(), np.vstack([SQUARE, CENTRE])
    other = np.vstack([SQUARE, [[0.3, 0.1]]])
    direct = magnitude_distance(other, starred, t=t)
    assert direct > 1.2 * (
        magnitude_distance(other, SQUARE, t=t) + magnitude_distance(SQUARE, starred, t=t)
    )


def test_the_papers_example_against_submodularity():
    # Lemma B.6: in 500 dimensions the origin adds 7.18 to 1,000 points at distance 5 from it.
    cross = 5.0 * np.vstack([np.eye(500), -np.eye(500)])
    origin = np.zeros((1, 500))
    growth = magnitude_distance(cross, np.vstack([cross, origin]), t=1.0)
    assert round(growth, 2) == 7.18
    assert growth > magnitude(origin)


def test_equivalence_looks_at_weights_in_each_set():
    # 0.5 lies between the others: it has weight beside them, and they have others without it.
    assert not magnitude_equivalent([[0.0], [1.0]], [[0.0], [0.5], [1.0]], t=1.0)
    assert magnitude_equivalent([[0.0], [1.0]], [[1.0], [-0.0], [1.0]])


def test_equivalence_of_sets_that_a_solver_had_to_merge():
    X = normal(30)
    Y = np.vstack([X, X + 1e-16])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not magnitude_equivalent(X, Y, t=1.0)


# Theorem 5.3 and Proposition 5.4: what the scale does


@pytest.mark.parametrize("d", [1, 2, 10])
def test_limits_in_the_scale(d):
    X, Y = pair(d)
    different = len({tuple(x) for x in X.tolist()} ^ {tuple(y) for y in Y.tolist()})
    assert magnitude_distance(X, Y, t=1e-9) < 1e-7
    assert magnitude_distance(X, Y, t=1e9) == different
    assert magnitude_distance(X, Y, t=1e9, normalized=True) == pytest.approx(different / 10)


@pytest.mark.parametrize("d", [1, 2, 10])
def test_it_grows_at_large_scales(d):
    X, Y = pair(d)
    closest = pdist(np.unique(np.vstack([X, Y]), axis=0)).min()
    found = magnitude_distance(X, Y, t=np.linspace(3, 25, 30) / closest)
    assert (np.diff(found) > 0).all()


def test_it_need_not_grow_at_small_scales():
    # A square with its centre: nothing at the scale where the centre has no weight.
    t, starred = scale_without_centre(), np.vstack([SQUARE, CENTRE])
    before, there = magnitude_distance(SQUARE, starred, t=[0.9 * t, t])
    assert before > 1e-5 > there


@pytest.mark.parametrize("share", [1e-6, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("d", [1, 20])
def test_every_value_is_attained(d, share):
    X, Y = pair(d)
    value = share * magnitude_distance(X, Y, t=1e9)
    t = np.exp(brentq(lambda u: magnitude_distance(X, Y, t=np.exp(u)) - value, -30, 20))
    assert magnitude_distance(X, Y, t=t) == pytest.approx(value, rel=1e-8)


# Theorem 5.5, Lemma B.4, Proposition B.7


@settings(deadline=None, max_examples=100)
@given(
    X=st.lists(st.floats(-9, 9, width=16), min_size=1, max_size=6),
    Y=st.lists(st.floats(-9, 9, width=16), min_size=1, max_size=6),
    t=st.sampled_from([0.01, 1.0, 100.0]),
)
@example(X=[0.0], Y=[0.0], t=1.0)
def test_the_bound_where_no_weight_is_negative(X, Y, t):
    # On the line none is, at any scale.
    found = magnitude_distance(np.c_[X], np.c_[Y], t=t)
    assert 0.0 <= found <= 2 * len(set(X + Y))
    # The proof of Theorem 5.5 has Mag(X u Y) < #(X u Y), which one point alone contradicts.
    whole = magnitude(np.c_[X + Y], t=t)
    assert whole <= len(set(X + Y)) * (1 + 1e-15)
    assert len(set(X + Y)) > 1 or whole == 1.0


def test_the_bound_at_large_scales_in_the_plane():
    X, Y = pair(2)
    every = np.unique(np.vstack([X, Y]), axis=0)
    t = 5 / pdist(every).min()
    assert min(magnitude_weights(own, t=t).min() for own in (X, Y, every)) >= 0
    assert magnitude_distance(X, Y, t=t) <= 2 * len(every)


@pytest.mark.parametrize("t", [0.2, 1.0, 8.0])
def test_a_subset_has_the_same_magnitude_where_it_is_equivalent(t):
    # Lemma B.4, both ways; the distance to a subset is the growth of the magnitude.
    critical = scale_without_centre()
    starred = np.vstack([SQUARE, CENTRE])
    assert magnitude(SQUARE, t=critical) == pytest.approx(magnitude(starred, t=critical), rel=1e-14)
    X = normal(6, 2)
    growth = magnitude(X, t=t) - magnitude(X[:4], t=t)
    assert magnitude_distance(X[:4], X, t=t) == pytest.approx(growth, rel=1e-10)
    assert growth > 0
    assert not magnitude_equivalent(X[:4], X, t=t)


real_line = st.lists(st.floats(-6, 6, width=16), min_size=1, max_size=6)


@settings(deadline=None, max_examples=150)
@given(X=real_line, Y=real_line, Z=real_line, t=st.sampled_from([1e-3, 0.3, 1.0, 20.0]))
def test_the_triangle_inequality_on_the_line(X, Y, Z, t):
    X, Y, Z = (np.c_[own] for own in (X, Y, Z))
    direct = magnitude_distance(X, Z, t=t)
    around = magnitude_distance(X, Y, t=t) + magnitude_distance(Y, Z, t=t)
    assert direct <= around * (1 + 1e-13)


# Grids, units, kinds of arrays


def test_a_grid_of_scales():
    X, Y = pair()
    grid = [0.1, "scale", 3.0]
    single = [magnitude_distance(X, Y, t=t) for t in grid]
    found = magnitude_distance(X, Y, t=grid)
    assert isinstance(found, np.ndarray)
    assert_allclose(found, single, rtol=1e-13)
    assert magnitude_distance(X, Y, t=grid, aggregate="sum") == pytest.approx(sum(single))
    assert magnitude_distance(X, Y, t=grid, aggregate="mean") == pytest.approx(sum(single) / 3)
    # The mean of normalized distances is the paper's normalized loss (section 6).
    normalized = magnitude_distance(X, Y, t=grid, aggregate="mean", normalized=True)
    wholes = [magnitude(np.vstack([X, Y]), t=t) for t in grid]
    assert normalized == pytest.approx(np.mean(np.divide(single, wholes)))
    assert magnitude_distance(X, Y, t=2.0, aggregate="mean") == magnitude_distance(X, Y, t=2.0)
    assert magnitude_distance(X, Y, t=[2.0]).shape == (1,)


def test_a_grid_is_symmetric_to_the_last_bit():
    X, Y = pair()
    grid = np.geomspace(1e-6, 1e3, 12)
    there, back = magnitude_distance(X, Y, t=grid), magnitude_distance(Y, X[::-1], t=grid)
    assert_array_equal(there, back)


@pytest.mark.parametrize("unit", [1e-9, 1e6])
def test_the_default_scale_follows_the_units(unit):
    X, Y = pair()
    t = 1 / np.median(pdist(np.unique(np.vstack([X, Y]), axis=0)))
    expected = magnitude_distance(X, Y, t=t)
    assert magnitude_distance(unit * X, unit * Y) == pytest.approx(expected, rel=1e-12)


def test_one_point_a_side():
    expected = 2 * np.tanh(0.75)
    assert magnitude_distance([[0.0, 0.0]], [[1.5, 0.0]], t=1.0) == pytest.approx(expected)
    assert magnitude_distance([[2.0]], [[2.0]], normalized=True) == 0.0


@pytest.mark.parametrize(
    "make", [np.ndarray.tolist, pd.DataFrame, pl.DataFrame, torch.from_numpy, np.asfortranarray]
)
def test_every_kind_of_array_is_read(make):
    X, Y = pair()
    X, Y = X.copy(), Y.copy()
    expected = magnitude_distance(X, Y, t=1.0)
    assert magnitude_distance(make(X), make(Y), t=1.0) == expected
    assert magnitude_distance(make(X), Y, t=1.0) == expected
    assert isinstance(magnitude_distance(make(X), make(Y), t=[1.0]), np.ndarray)


@pytest.mark.parametrize("xp", [torch, array_api_strict])
def test_with_dispatch_arrays_come_in_the_callers_kind(xp):
    X, Y = pair()
    with config_context(array_api_dispatch=True):
        first, second = xp.asarray(X), xp.asarray(Y)
        found = magnitude_distance(first, second, t=[0.5, 2.0])
        assert type(found) is type(first)
        assert found.dtype == xp.float64
        table = pairwise_magnitude_distances([first, second], t=0.5)
        assert type(table) is type(first)
        assert isinstance(magnitude_distance(first, second, t=0.5), float)
        assert magnitude_equivalent(first, second) is False
    expected = magnitude_distance(X, Y, t=[0.5, 2.0])
    assert_allclose(host(found), expected)
    assert_allclose(host(table)[0, 1], expected[0])


def test_nothing_is_written_to():
    X, Y = pair()
    kept = X.copy(), Y.copy()
    X.flags.writeable = Y.flags.writeable = False
    magnitude_distance(X, Y, metric="cosine")
    magnitude_distance(torch.from_numpy(kept[0]), Y)
    assert_array_equal(kept[0], X)
    assert_array_equal(kept[1], Y)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_as_on_the_cpu():
    X, Y = pair()
    expected = magnitude_distance(X, Y, t=[1e-9, 1.0])
    assert_allclose(magnitude_distance(X, Y, t=[1e-9, 1.0], device="cuda"), expected, rtol=1e-9)
    with config_context(array_api_dispatch=True):
        first, second = torch.from_numpy(X).cuda(), torch.from_numpy(Y).cuda()
        found = magnitude_distance(first, second, t=[1e-9, 1.0])
        assert found.device == first.device
        assert_allclose(found.cpu(), expected, rtol=1e-9)
        table = pairwise_magnitude_distances([first, second], t=1.0)
        assert table.cpu()[1, 0] == pytest.approx(expected[1], rel=1e-9)
        with pytest.raises(ValueError, match="on one device"):
            magnitude_distance(first, torch.from_numpy(Y))


# Many sets


def many_sets():
    rng = np.random.default_rng(0)
    return [rng.normal(5 * (i % 2), 1, size=(8 + i, 2)) for i in range(6)]


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("normalized", [False, True])
def test_pairs_of_many_sets(normalized, n_jobs):
    sets = many_sets()
    D = pairwise_magnitude_distances(sets, t=0.7, normalized=normalized, n_jobs=n_jobs)
    assert_array_equal(D, D.T)
    assert_array_equal(np.diag(D), np.zeros(6))
    for i, j in itertools.combinations(range(6), 2):
        assert D[i, j] == magnitude_distance(sets[i], sets[j], t=0.7, normalized=normalized)
    assert_array_equal(pairwise_magnitude_distances(sets[:1]), [[0.0]])


@pytest.mark.parametrize("metric", ["euclidean", "seuclidean"])
def test_pairs_of_many_sets_share_a_scale_and_a_metric(metric):
    sets = many_sets()
    every = np.vstack(sets)
    params = {"V": every.var(0, ddof=1)} if metric == "seuclidean" else {}
    t = 1 / np.median(cdist(every, every, metric, **params)[np.triu_indices(len(every), 1)])
    D = pairwise_magnitude_distances(sets, metric=metric)
    assert_allclose(D[0, 3], naive(sets[0], sets[3], t, metric, **params))
    order = [3, 5, 0, 1, 4, 2]
    again = pairwise_magnitude_distances([np.vstack([sets[i]] * 2) for i in order], metric=metric)
    assert_array_equal(again, D[np.ix_(order, order)])


def test_distances_between_sets_serve_estimators():
    D = pairwise_magnitude_distances(many_sets())
    kinds = [0, 1] * 3
    labels = DBSCAN(eps=np.median(D), min_samples=2, metric="precomputed").fit_predict(D)
    assert labels.tolist() == kinds
    train = [0, 1, 2, 3]
    model = KNeighborsClassifier(1, metric="precomputed").fit(D[np.ix_(train, train)], kinds[:4])
    assert model.predict(D[np.ix_([4, 5], train)]).tolist() == kinds[4:]


# What is refused


BAD = [
    ({"Y": [[0.0]]}, "Y has 1 features but X has 3"),
    ({"Y": np.zeros((0, 3))}, "Y is empty"),
    ({"X": []}, "X is empty"),
    ({"Y": [[np.nan, 0.0, 0.0]]}, "Input Y contains NaN"),
    ({"X": [[np.inf, 0.0, 0.0]]}, "Input X contains infinity"),
    ({"Y": [0.0, 1.0, 2.0]}, "Y has one dimension"),
    ({"X": np.zeros(3)}, "X has one dimension"),
    ({"X": sp.csr_array(np.eye(3))}, "X is sparse"),
    ({"metric": "precomputed"}, "metric='precomputed' is not supported"),
    ({"metric": "nonsense"}, "metric='nonsense' is unknown"),
    ({"t": -1.0}, "t=-1.0 must be positive"),
    ({"t": 0.0}, "t=0.0 must be positive"),
    ({"t": np.nan}, "t=nan must be positive"),
    ({"t": "median"}, "t='median' is not a scale"),
    ({"t": None}, "t=None"),
    ({"solver": "nonsense"}, "solver='nonsense' is unknown"),
    ({"solver": "line"}, "solver='line' needs points with one feature"),
    ({"device": "nowhere"}, "device='nowhere' is not a device"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
@pytest.mark.parametrize("function", [magnitude_distance, magnitude_equivalent])
def test_bad_input_is_refused_by_name(function, change, message):
    X, Y = pair()
    with pytest.raises(ValueError, match=message):
        function(**({"X": X, "Y": Y} | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"aggregate": "max"}, "aggregate='max' is unknown; use one of"),
        ({"t": [1.0, -2.0]}, r"t\[1\]=-2.0 must be positive"),
        ({"t": []}, "t is empty"),
    ],
)
def test_bad_grids_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        magnitude_distance(*pair(), **change)


@pytest.mark.parametrize("tol", [-1e-9, np.nan, "small", True])
def test_a_bad_tolerance_is_refused(tol):
    with pytest.raises(ValueError, match="tol="):
        magnitude_equivalent(*pair(), tol=tol)


def test_equal_sets_excuse_no_bad_solver():
    X, _ = pair()
    for function in (magnitude_distance, magnitude_equivalent):
        with pytest.raises(ValueError, match="solver='nonsense'"):
            function(X, X, solver="nonsense")


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ([], "datasets is empty"),
        ([np.zeros((2, 3)), np.zeros((2, 2))], r"datasets\[1\] has 2 features"),
        (np.zeros((4, 3)), r"datasets\[0\] has one dimension"),
        ([np.zeros((2, 3)), [[np.nan] * 3]], r"Input datasets\[1\] contains NaN"),
    ],
)
def test_bad_lists_of_sets_are_refused(datasets, message):
    with pytest.raises(ValueError, match=message):
        pairwise_magnitude_distances(datasets)
    with pytest.raises(ValueError, match="t="):
        pairwise_magnitude_distances([[[0.0]]], t=[1.0, 2.0])


def test_one_repeated_point_has_a_scale_and_far_points_need_none():
    same = np.ones((4, 2))
    assert magnitude_distance(same, same[:1]) == 0.0
    assert_array_equal(pairwise_magnitude_distances([same, same]), np.zeros((2, 2)))


def test_a_metric_that_is_not_of_negative_type_is_answered_with_a_warning():
    # Two hubs at distance 2, both 1 away from five others (Leinster 2013, Example 2.2.8).
    hub = np.array([0, 0, 1, 1, 1, 1, 1])

    def steps(a, b):
        i, j = int(a[0]), int(b[0])
        return 0.0 if i == j else 1.0 if hub[i] != hub[j] else 2.0

    X, Y = np.c_[:7.0], np.c_[1.0:7.0]
    with pytest.warns(NotPositiveDefiniteWarning):
        found = magnitude_distance(X, Y, t=0.3, metric=steps)
    table = cdist(X, X, steps)
    expected = magnitude(table, t=0.3, metric="precomputed", solver="indefinite") - magnitude(
        table[1:, 1:], t=0.3, metric="precomputed", solver="indefinite"
    )
    assert found == pytest.approx(expected, rel=1e-10)


def test_the_normalized_distance_may_exceed_one():
    # In many dimensions a centre adds more than one to the points around it (Lemma B.6).
    sphere = np.random.default_rng(0).normal(size=(100, 50))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    found = magnitude_distance(sphere, np.zeros((1, 50)), t=2.0, normalized=True)
    assert found == pytest.approx(1.01, abs=0.02)
    assert found > 1
