import pickle

import array_api_strict
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import normal
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist
from sklearn import config_context

from skmag import DiscreteCenterHierarchy
from skmag._hierarchy._levels import levels_of

quickly = settings(deadline=None, max_examples=60)
NORMS = [("euclidean", {}), ("cityblock", {}), ("chebyshev", {}), ("minkowski", {"p": 3})]


def naive(D, n_centers=None, start=0):
    """Farthest-first traversal of a table of distances, one step at a time."""
    order, radii, distance = [start], [np.inf], D[start].copy()
    while len(order) < (n_centers or len(D)) and distance.max() > 0:
        order.append(int(distance.argmax()))
        radii.append(distance.max())
        distance = np.minimum(distance, D[order[-1]])
    return np.array(order), np.array(radii)


def lattice(seed, n, d, side):
    rows = np.random.default_rng(seed).integers(0, side, size=(n, d))
    return rows / 4


def assert_covering(D, chosen, radius, apart=None):
    """Every point is near a chosen one, and no two chosen are."""
    assert (D[:, chosen].min(axis=1) <= radius).all()
    between = D[np.ix_(chosen, chosen)][np.triu_indices(len(chosen), 1)]
    assert (between > (radius if apart is None else apart)).all()


def assert_levels(hierarchy, D, unit=1.0):
    """Covering, separation and nesting at every level, by brute force."""
    levels, above = hierarchy.levels_, set()
    assert (np.diff(levels) <= 0).all()
    for level in range(levels.max() + 1, levels.min() - 2, -1):
        own = hierarchy.level(level)
        assert_covering(D, own, 2.0 ** (level - 1) * unit)
        assert above <= set(own.tolist())
        above = set(own.tolist())
    order, radii = hierarchy.order_, hierarchy.radii_
    assert above == set(order.tolist())
    # One row of each group of copies, the first.
    assert order.tolist() == list(dict.fromkeys((D[:, order] == 0).argmax(axis=0).tolist()))
    assert (D[:, order].min(axis=1) == 0).all()
    assert radii[0] == np.inf
    assert (np.diff(radii) <= 0).all()
    for k in range(1, len(order)):
        assert D[:, order[:k]].min(axis=1).max() <= radii[k]
        assert D[order[k], order[:k]].min() > radii[k] / 2


@pytest.mark.parametrize(("metric", "params"), NORMS)
@pytest.mark.parametrize("d", [1, 2, 3, 6])
def test_order_and_radii_of_the_plain_traversal(metric, params, d):
    X = normal(700, d)
    order, radii = naive(cdist(X, X, metric, **params))
    found = DiscreteCenterHierarchy(X, metric=metric, metric_params=params)
    assert found.order_.tolist() == order.tolist()
    np.testing.assert_allclose(found.radii_, radii, rtol=1e-12)
    assert found.covering_radius_ == 0


@quickly
@given(
    st.integers(0, 10**6),
    st.integers(1, 900),
    st.sampled_from([(1, 400), (2, 25), (3, 9)]),
    st.integers(1, 900),
)
def test_order_among_ties_and_copies(seed, n, shape, n_centers):
    # All coordinates are multiples of 1/4, so that distances tie exactly.
    X = lattice(seed, n, *shape)
    D = cdist(X, X, "cityblock")
    order, radii = naive(D)
    found = DiscreteCenterHierarchy(X, metric="cityblock")
    assert found.order_.tolist() == order.tolist()
    assert found.radii_.tolist() == radii.tolist()
    some = DiscreteCenterHierarchy(X, n_centers, metric="cityblock")
    assert some.order_.tolist() == order[:n_centers].tolist()
    assert some.radii_.tolist() == radii[:n_centers].tolist()
    assert some.covering_radius_ == D[:, order[:n_centers]].min(axis=1).max()


def test_a_surface_in_many_dimensions():
    rng = np.random.default_rng(0)
    X = np.sin(2 * rng.uniform(size=(3000, 2)) @ rng.normal(size=(2, 20)) + rng.uniform(0, 6, 20))
    order, radii = naive(cdist(X, X))
    found = DiscreteCenterHierarchy(X)
    assert found.order_.tolist() == order.tolist()
    np.testing.assert_allclose(found.radii_, radii, rtol=1e-12)


@pytest.mark.parametrize("size", [1e-180, 1e180])
def test_coordinates_whose_squares_leave_the_range_of_floats(size):
    X = normal(800, 2)
    expected = DiscreteCenterHierarchy(X)
    found = DiscreteCenterHierarchy(size * X)
    assert found.order_.tolist() == expected.order_.tolist()
    np.testing.assert_allclose(found.radii_, size * expected.radii_, rtol=1e-12)


@pytest.mark.parametrize("metric", ["cosine", "canberra", "correlation", "precomputed", "callable"])
def test_metrics_that_are_no_norms(metric):
    X = np.abs(normal(60, 4))
    D = cdist(X, X, "cityblock" if metric in ("precomputed", "callable") else metric)
    given_metric = (lambda a, b: np.abs(a - b).sum()) if metric == "callable" else metric
    found = DiscreteCenterHierarchy(D if metric == "precomputed" else X, metric=given_metric)
    order, radii = naive(D)
    assert found.order_.tolist() == order.tolist()
    np.testing.assert_allclose(found.radii_, radii, rtol=1e-9)


@quickly
@given(st.integers(0, 10**6), st.integers(1, 60), st.floats(0, 8), st.sampled_from([0.1, 1.0, 3.0]))
def test_a_covering_set_of_any_radius(seed, n, radius, unit):
    X = lattice(seed, n, 2, 16)
    D, hierarchy = cdist(X, X), DiscreteCenterHierarchy(X, unit=unit)
    assert_covering(D, hierarchy.centers(radius), radius)
    assert_levels(hierarchy, D, unit)


@given(st.floats(1e-300, 1e300), st.floats(1e-3, 1e3))
def test_level_of_a_radius(radius, unit):
    (level,) = levels_of(np.array([radius]), unit)
    assert np.ldexp(unit, level - 1) < radius <= np.ldexp(unit, level)


def test_levels_of_the_first_point_and_of_one_alone():
    assert DiscreteCenterHierarchy([[3.0]]).levels_.tolist() == [0]
    # Of radius 4 is level 3, of radius 1/4 level -1.
    hierarchy = DiscreteCenterHierarchy([[0.0], [5.0], [5.5]])
    assert hierarchy.radii_.tolist() == [np.inf, 5.5, 0.5]
    assert hierarchy.levels_.tolist() == [4, 3, -1]
    assert hierarchy.level(4).tolist() == [0]
    assert hierarchy.level(0).tolist() == [0, 2]
    assert hierarchy.centers(0.5).tolist() == [0, 2]
    assert hierarchy.centers(0.49).tolist() == [0, 2, 1]


changes = st.lists(
    st.tuples(st.booleans(), st.integers(1, 6), st.integers(0, 10**6)), min_size=1, max_size=8
)


@settings(deadline=None, max_examples=120)
@given(
    st.integers(0, 10**6),
    st.integers(1, 25),
    st.integers(1, 3),
    st.integers(2, 14),
    st.sampled_from(["euclidean", "cityblock"]),
    st.sampled_from([0.3, 1.0]),
    changes,
)
def test_levels_hold_while_points_join_and_leave(seed, n, d, side, metric, unit, sequence):
    X = lattice(seed, n, d, side)
    hierarchy = DiscreteCenterHierarchy(X, metric=metric, unit=unit)
    for joins, count, draw in sequence:
        rng = np.random.default_rng(draw)
        if joins:
            Z = rng.integers(-4, side + 5, size=(count, d)) / 4
            assert hierarchy.insert(Z) is hierarchy
            X = np.vstack([X, Z])
        elif len(X) > 1:
            rows = rng.choice(len(X), min(count, len(X) - 1), replace=False)
            assert hierarchy.remove(rows) is hierarchy
            X = np.delete(X, rows, axis=0)
        assert hierarchy.n_samples_ == len(X)
        D = cdist(X, X, metric)
        assert_levels(hierarchy, D, unit)
        for radius in (0.0, 0.3, 0.6, 1.2, 2.5):
            own = hierarchy.centers(radius)
            assert_covering(D, own, radius, apart=radius / 2)


@quickly
@given(st.integers(0, 10**6), st.integers(2, 12), changes)
def test_levels_hold_for_tables_of_distances(seed, n, sequence):
    # Any symmetric table will do, no triangle inequality is needed.
    X = lattice(seed, n, 2, 8)
    hierarchy = DiscreteCenterHierarchy(cdist(X, X) ** 2, metric="precomputed")
    for joins, count, draw in sequence:
        rng = np.random.default_rng(draw)
        if joins:
            Z = rng.integers(0, 8, size=(count, 2)) / 4
            X = np.vstack([X, Z])
            hierarchy.insert(cdist(Z, X) ** 2)
        elif len(X) > 1:
            rows = rng.choice(len(X), min(count, len(X) - 1), replace=False)
            hierarchy.remove(rows)
            X = np.delete(X, rows, axis=0)
        assert_levels(hierarchy, cdist(X, X) ** 2)


def test_many_changes_at_once_are_ordered_anew():
    X, Z = normal(100, 2), normal(60, 2, seed=1)
    hierarchy = DiscreteCenterHierarchy(X).insert(Z)
    expected = DiscreteCenterHierarchy(np.vstack([X, Z]))
    assert hierarchy.order_.tolist() == expected.order_.tolist()
    np.testing.assert_array_equal(hierarchy.radii_, expected.radii_)
    hierarchy.insert(X[:3] + 0.1).remove(np.arange(1, 100))
    rest = np.vstack([X[:1], Z, X[:3] + 0.1])
    assert hierarchy.order_.tolist() == DiscreteCenterHierarchy(rest).order_.tolist()
    # The first point left too.
    hierarchy.remove(np.arange(40))
    assert_levels(hierarchy, cdist(rest[40:], rest[40:]))
    assert len(hierarchy) == 24


def test_copies_join_and_leave():
    X = normal(6, 2)
    hierarchy = DiscreteCenterHierarchy(X)
    before = hierarchy.order_.tolist()
    hierarchy.insert(X[[2, 2, 4]])
    assert hierarchy.order_.tolist() == before
    assert hierarchy.n_samples_ == 9
    # Row 2 leaves, its copies 6 and 7 become rows 5 and 6.
    hierarchy.remove(2)
    renamed = [5 if row == 2 else row - (row > 2) for row in before]
    assert hierarchy.order_.tolist() == renamed
    np.testing.assert_array_equal(hierarchy.radii_, DiscreteCenterHierarchy(X).radii_)


def test_a_start_drawn_at_random():
    X = normal(50, 2)
    starts = {int(DiscreteCenterHierarchy(X, random_state=seed).order_[0]) for seed in range(20)}
    assert len(starts) > 5
    found = DiscreteCenterHierarchy(X, random_state=3)
    order, radii = naive(cdist(X, X), start=int(found.order_[0]))
    assert found.order_.tolist() == order.tolist()
    np.testing.assert_allclose(found.radii_, radii, rtol=1e-12)
    assert int(DiscreteCenterHierarchy(X).order_[0]) == 0


@pytest.mark.parametrize("xp", [torch, array_api_strict])
def test_other_arrays(xp):
    X, Z = normal(40, 3), normal(3, 3, seed=1)
    expected = DiscreteCenterHierarchy(X).insert(Z)
    with config_context(array_api_dispatch=True):
        found = DiscreteCenterHierarchy(xp.asarray(X)).insert(xp.asarray(Z))
        for name in ("order_", "radii_", "levels_"):
            value = getattr(found, name)
            assert type(value).__module__.startswith(xp.__name__)
            np.testing.assert_array_equal(np.asarray(value), getattr(expected, name))
        assert type(found.level(0)).__module__.startswith(xp.__name__)


def test_frames_lists_and_float32():
    X = normal(30, 2).astype(np.float32)
    expected = DiscreteCenterHierarchy(X.astype(float)).order_.tolist()
    for other in (X, X.tolist(), pd.DataFrame(X), torch.from_numpy(X)):
        assert DiscreteCenterHierarchy(other).order_.tolist() == expected
    D = cdist(X, X).astype(np.float32)
    assert len(DiscreteCenterHierarchy(D, metric="precomputed")) == 30


def test_pickles_go_on_changing():
    X = normal(30, 2)
    hierarchy = DiscreteCenterHierarchy(X).insert([[9.0, 9.0]])
    loaded = pickle.loads(pickle.dumps(hierarchy))
    np.testing.assert_array_equal(
        loaded.insert(X[:2] + 0.3).order_, hierarchy.insert(X[:2] + 0.3).order_
    )


def test_writing_into_the_data_afterwards_changes_nothing():
    X = normal(30, 2)
    A = X.copy()
    hierarchy = DiscreteCenterHierarchy(A)
    A[:] = 0
    expected = DiscreteCenterHierarchy(X).insert([[9.0, 9.0]])
    assert hierarchy.insert([[9.0, 9.0]]).order_.tolist() == expected.order_.tolist()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_centers": 0}, "n_centers=0 must be a positive integer"),
        ({"n_centers": 2.5}, r"n_centers=2\.5 must be a positive integer"),
        ({"unit": 0.0}, r"unit=0\.0 must be positive"),
        ({"unit": np.inf}, "unit=inf must be positive"),
        ({"metric": "no"}, "metric='no' is unknown"),
        ({"device": "no"}, "device='no' is not"),
    ],
)
def test_arguments_are_refused_by_name(params, message):
    with pytest.raises(ValueError, match=message):
        DiscreteCenterHierarchy(normal(), **params)


def test_data_are_refused_by_name():
    with pytest.raises(ValueError, match="Input X contains NaN"):
        DiscreteCenterHierarchy([[np.nan]])
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        DiscreteCenterHierarchy(csr_array(np.eye(3)))
    with pytest.raises(ValueError, match="X is not symmetric"):
        DiscreteCenterHierarchy([[0.0, 1.0], [2.0, 0.0]], metric="precomputed")


def test_changes_are_refused_by_name():
    hierarchy = DiscreteCenterHierarchy(normal(5, 2))
    with pytest.raises(ValueError, match="Z has 3 columns, expected 2: as many features as X"):
        hierarchy.insert(normal(2, 3))
    with pytest.raises(ValueError, match=r"rows=\[5\] are not among the 5 rows"):
        hierarchy.remove([1, 5])
    with pytest.raises(ValueError, match=r"rows=0\.5 must be one or several integers"):
        hierarchy.remove(0.5)
    with pytest.raises(ValueError, match="all 5 rows"):
        hierarchy.remove([0, 1, 2, 3, 4])
    table = DiscreteCenterHierarchy([[0.0, 1.0], [1.0, 0.0]], metric="precomputed")
    with pytest.raises(ValueError, match="Z has 2 columns, expected 3: a distance for each row"):
        table.insert([[0.0, 1.0]])
    with pytest.raises(ValueError, match="negative distance"):
        table.insert([[-1.0, 1.0, 0.0]])


def test_a_prefix_answers_only_what_it_knows():
    X = normal(50, 2)
    few = DiscreteCenterHierarchy(X, 5)
    radius = few.covering_radius_
    assert few.centers(radius).tolist() == DiscreteCenterHierarchy(X).centers(radius).tolist()
    with pytest.raises(ValueError, match=r"radius=0\.1 is below covering_radius_"):
        few.centers(0.1)
    with pytest.raises(ValueError, match="level=-5 has radius"):
        few.level(-5)
    for change in (few.insert, few.remove):
        with pytest.raises(ValueError, match="n_centers=5 left some out"):
            change([[0, 0]])
    for radius in (-1.0, np.nan):
        with pytest.raises(ValueError, match="radius="):
            few.centers(radius)


@pytest.mark.parametrize("n_centers", [2.0, float("nan"), float("inf"), True, 0])
def test_numbers_of_centers_are_positive_integers(n_centers):
    with pytest.raises(ValueError, match="n_centers="):
        DiscreteCenterHierarchy(np.eye(4), n_centers)


def test_an_infinite_radius_is_refused():
    with pytest.raises(ValueError, match="radius=inf must be finite"):
        DiscreteCenterHierarchy(np.eye(4)).centers(float("inf"))
