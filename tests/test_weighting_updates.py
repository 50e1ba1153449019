import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import (
    answers,
    assert_same,
    error_in_norm,
    mp_questions,
    mp_weighting,
    normal,
    relative_error,
)
from scipy.linalg import LinAlgWarning
from scipy.sparse.csgraph import shortest_path
from scipy.spatial.distance import cdist

from skmag import NotPositiveDefiniteWarning, weighting

POOL = np.abs(normal(8, 5, seed=42)) + 0.5
ASKED = np.abs(normal(3, 5, seed=43)) + 0.5


def slanted(a, b):
    return float(abs(a - b).sum() + abs(a[1] - b[1]))


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("extend"), st.lists(st.integers(0, 7), min_size=1, max_size=4)),
        st.tuples(st.just("drop"), st.lists(st.integers(0, 99), min_size=0, max_size=4)),
        st.just(("drop", [0])),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.filterwarnings("ignore::skmag.NotPositiveDefiniteWarning")
@pytest.mark.parametrize(
    ("metric", "params"),
    [
        ("euclidean", None),
        ("cityblock", None),
        ("chebyshev", None),
        ("minkowski", {"p": 1.5}),
        ("cosine", None),
        ("canberra", None),
        ("braycurtis", None),
        (slanted, None),
        ("precomputed", None),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
@settings(deadline=None, max_examples=12)
@given(
    start=st.lists(st.integers(0, 7), min_size=1, max_size=6),
    changes=CHANGES,
    t=st.sampled_from([1e-3, 1.0, 60.0]),
)
def test_changes_end_where_fresh_weightings_begin(metric, params, start, changes, t):
    table = cdist(POOL, POOL)

    def fresh(rows):
        data = table[rows][:, rows] if metric == "precomputed" else POOL[rows]
        return weighting(data, t=t, metric=metric, metric_params=params)

    rows, space = list(start), fresh(start)
    for kind, which in changes:
        if kind == "extend":
            data = table[which][:, rows + which] if metric == "precomputed" else POOL[which]
            rows, space = rows + which, space.extend(data)
        else:
            leaving = sorted({i % len(rows) for i in which})
            if len(leaving) == len(rows):
                continue
            rows = [row for i, row in enumerate(rows) if i not in leaving]
            space = space.drop(leaving)
    expected = fresh(rows)
    assert (space.n_samples, space.n_points) == (expected.n_samples, expected.n_points)
    Z = cdist(ASKED, POOL[rows]) if metric == "precomputed" else ASKED
    assert space.magnitude == pytest.approx(expected.magnitude, rel=1e-11)
    assert_same(answers(space, Z), answers(expected, Z), 1e-7)


@settings(deadline=None, max_examples=12)
@given(
    start=st.lists(st.integers(0, 7), min_size=1, max_size=6),
    changes=CHANGES,
    solver=st.sampled_from(["cholesky", "mixed", "indefinite", "line"]),
    t=st.sampled_from([1e-2, 1.0]),
)
def test_changes_work_with_every_solver(start, changes, solver, t):
    pool = POOL[:, :1] if solver == "line" else POOL
    asked = ASKED[:, :1] if solver == "line" else ASKED
    rows, space = list(start), weighting(pool[start], t=t, solver=solver)
    for kind, which in changes:
        if kind == "extend":
            rows, space = rows + which, space.extend(pool[which])
        else:
            leaving = sorted({i % len(rows) for i in which})
            if len(leaving) < len(rows):
                rows = [row for i, row in enumerate(rows) if i not in leaving]
                space = space.drop(leaving)
    assert space.solver == solver
    expected = weighting(pool[rows], t=t)
    assert_same(answers(space, asked), answers(expected, asked), 1e-9)


@pytest.mark.parametrize("t", [1e-12, 1e-9, 1e-6, 1e-3])
@pytest.mark.parametrize("leaving", [[0], [5], [0, 3, 7], [-1]])
def test_points_leave_at_tiny_scales_without_loss_of_digits(t, leaving):
    X, Z = normal(12), normal(4, seed=1)
    rest = np.delete(X, leaving, axis=0)
    space = weighting(X, t=t).drop(leaving)
    w, magnitude = mp_weighting(rest, t)
    assert relative_error([space.magnitude], [magnitude]) < 1e-14
    assert error_in_norm(space.weights, w) < 1e-11
    assert relative_error(space.residual(Z), mp_questions(rest, t, Z)["residual"]) < 1e-12


def test_a_cluster_left_alone_by_far_points_keeps_its_digits():
    cluster = 1e-9 * normal(8)
    w, _ = mp_weighting(cluster, 1.0)
    with pytest.warns(LinAlgWarning, match="accurate to a relative"):
        space = weighting(np.vstack([cluster, normal(4, seed=1) + 9]))
    assert error_in_norm(space.drop([8, 9, 10, 11]).weights, w) < 1e-11


@pytest.mark.parametrize("t", [1e-12, 1e-6])
def test_points_join_at_tiny_scales_without_loss_of_digits(t):
    X, Z = normal(12), normal(4, seed=1)
    space = weighting(X[:5], t=t).extend(X[5:9]).extend(X[9:])
    w, magnitude = mp_weighting(X, t)
    assert relative_error([space.magnitude], [magnitude]) < 1e-14
    assert error_in_norm(space.weights, w) < 1e-11
    assert relative_error(space.residual(Z), mp_questions(X, t, Z)["residual"]) < 1e-12


@pytest.mark.parametrize("d", [2, 40])
def test_many_points_join_and_leave(d):
    X, Z = normal(260, d), normal(6, d, seed=1)
    space = weighting(X[:150], t=0.4).extend(X[150:]).drop(np.arange(0, 260, 3))
    keep = np.setdiff1d(np.arange(260), np.arange(0, 260, 3))
    assert_same(answers(space, Z), answers(weighting(X[keep], t=0.4), Z), 1e-10)


def test_a_point_leaves_only_with_its_last_copy():
    X = normal(5)
    space = weighting(X[[0, 1, 0, 2, 3, 4]])
    assert space.drop(0).n_points == 5
    assert space.drop([0, 2]).n_points == 4
    np.testing.assert_allclose(space.drop(0).weights, weighting(X[[1, 0, 2, 3, 4]]).weights)
    assert space.drop([]).weights.tolist() == space.weights.tolist()


@pytest.mark.parametrize("metric", ["euclidean", "canberra", "precomputed"])
@pytest.mark.parametrize("solver", ["cholesky", "mixed", "indefinite"])
def test_a_weighting_is_not_changed_by_its_methods(metric, solver):
    X, new = POOL[[0, 1, 2, 0, 3]], POOL[[4, 1, 5]]
    Z, data = ASKED, X
    if metric == "precomputed":
        Z, data, new = cdist(Z, X), cdist(X, X), cdist(new, np.vstack([X, new]))
    space = weighting(data, metric=metric, solver=solver)
    before = pickle.dumps(space)
    answers(space, Z)
    first = space.extend(new)
    middle = pickle.dumps(first)
    space.drop([0, 1])
    first.drop([0, 2, 4])
    first.extend(np.hstack([new, new[:, 5:]]) if metric == "precomputed" else ASKED)
    assert pickle.dumps(space) == before
    assert pickle.dumps(first) == middle


@pytest.mark.parametrize("solver", ["cholesky", "mixed", "indefinite"])
@pytest.mark.parametrize("metric", ["euclidean", "precomputed"])
def test_the_callers_arrays_are_neither_changed_nor_kept(metric, solver):
    X, new = normal(7), normal(2, seed=1)
    Z = normal(3, seed=2)
    if metric == "precomputed":
        new, Z, X = cdist(new, np.vstack([X, new])), cdist(Z, X), cdist(X, X)
    copies = X.copy(), new.copy(), Z.copy()
    space = weighting(X, metric=metric, solver=solver)
    grown = space.extend(new)
    expected = answers(space, Z), space.drop([0, 1]).weights, grown.drop([0, 1]).weights
    for array, copy in zip((X, new, Z), copies, strict=True):
        assert array.tolist() == copy.tolist()
    X[:], new[:] = 7.0, 9.0
    assert_same(answers(space, Z), expected[0], 1e-13)
    np.testing.assert_allclose(space.drop([0, 1]).weights, expected[1], rtol=1e-13)
    np.testing.assert_allclose(grown.drop([0, 1]).weights, expected[2], rtol=1e-13)


def test_answers_may_be_written_into():
    space, X = weighting(normal(5)), normal(5)
    for ask in (lambda: space.weights, space.loss, lambda: space.leave_one_out().weight):
        answer = ask()
        kept = answer.tolist()
        answer[:] = -1
        assert ask().tolist() == kept
    potential = space.potential(X)
    potential[:] = -1
    assert space.potential(X).tolist() == [1.0] * 5


def test_joining_points_must_fit():
    space = weighting(normal(5))
    with pytest.raises(ValueError, match="points has 2 columns, expected 3: as many features"):
        space.extend(normal(2, 2))
    table = weighting(cdist(POOL, POOL), metric="precomputed")
    with pytest.raises(ValueError, match="points has 8 columns, expected 9: one distance"):
        table.extend(cdist(ASKED[:1], POOL))
    both = np.vstack([POOL, ASKED])
    bad = cdist(ASKED, both)
    bad[0, 9] += 0.1
    with pytest.raises(ValueError, match="points is not symmetric"):
        table.extend(bad)
    bad = cdist(ASKED, both)
    bad[1, 2] = -0.5
    with pytest.raises(ValueError, match=r"points holds the negative distance -0\.5"):
        table.extend(bad)
    bad = cdist(ASKED, both)
    bad[1, 9] = 0.5
    with pytest.raises(ValueError, match=r"points has 0\.5 on its diagonal"):
        table.extend(bad)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        (5, r"indices=\[5\] are not among the 5 rows"),
        ([0, -6], r"indices=\[-6\] are not among"),
        ([0.5], r"indices=\[0\.5\] must be"),
        ([True, False, True, True, False], "must be one or several integers"),
        ("first", "indices='first' must be"),
        ([[0, 1]], r"indices=\[\[0, 1\]\] must be"),
        (range(5), "indices name all 5 rows"),
        ([0, 1, 2, 3, -1], "indices name all 5 rows"),
    ],
    ids=repr,
)
def test_leaving_rows_must_exist(indices, message):
    with pytest.raises(ValueError, match=message):
        weighting(normal(5)).drop(indices)


@pytest.mark.parametrize("t", [1e-6, 0.4, 5.0])
@pytest.mark.parametrize("d", [1, 2, 40])
@pytest.mark.parametrize("staying", [1, 7, 100])
def test_few_points_stay(staying, d, t):
    X, Z = normal(300, d), normal(5, d, seed=1)
    keep = np.sort(np.random.default_rng(2).choice(300, staying, replace=False))
    space = weighting(X, t=t).drop(np.setdiff1d(np.arange(300), keep))
    assert_same(answers(space, Z), answers(weighting(X[keep], t=t), Z), 1e-8)


def test_points_that_float64_tells_apart_only_beside_one_that_leaves():
    # From the first point the third and fourth are seen clearly, from the second they are one.
    X = np.array([[0.0, 0.0], [10.0, 0.0], [1e-14, 0.0], [0.0, 1e-14], [0.0, 10.0]])
    space, table = weighting(X, t=1e-3), weighting(cdist(X, X), t=1e-3, metric="precomputed")
    assert space.n_points == table.n_points == 5
    with pytest.warns(LinAlgWarning, match="merged"):
        rest = space.drop(0)
    assert (rest.solver, rest.reason) == (space.solver, space.reason)
    # Of a table nobody knows whether its matrix should be positive definite.
    with pytest.raises(np.linalg.LinAlgError, match="singular in floating point"):
        table.drop(0)
    expected = weighting(X[[1, 2, 4]], t=1e-3)
    assert rest.magnitude == pytest.approx(expected.magnitude, rel=1e-12)
    assert rest.weights.sum() == pytest.approx(expected.magnitude, rel=1e-8)


def test_an_indefinite_space_stays_with_its_solver():
    side = np.arange(6) < 3
    D = shortest_path(side[:, None] != side, unweighted=True)
    with pytest.warns(NotPositiveDefiniteWarning):
        space = weighting(D, t=0.3, metric="precomputed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotPositiveDefiniteWarning)
        rest = space.drop([0, 3])
    assert (rest.solver == "indefinite") == ("not positive definite" in rest.reason)
    expected = np.linalg.inv(np.exp(-0.3 * D[[1, 2, 4, 5]][:, [1, 2, 4, 5]]))
    assert rest.magnitude == pytest.approx(expected.sum(), rel=1e-12)
