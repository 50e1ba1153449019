import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import dense, normal
from scipy.spatial.distance import cdist, pdist
from sklearn import config_context

from skmag._metrics import resolve_metric
from skmag._similarity import Similarity


def similarity(X, t=1.0, metric="euclidean"):
    data = torch.from_numpy(np.array(X, dtype=float))
    return Similarity.of(data, resolve_metric(metric, None), t)


def anchored(X, t):
    # The Schur complement of the first point, with a one in its place.
    zeta = dense(X, t)
    S = zeta - np.outer(zeta[0], zeta[0])
    S[0, 0] = 1.0
    return S


def whole(blocks, n):
    out = np.full((n, n), np.nan)
    for rows, block in blocks:
        out[rows, rows.start :] = block.numpy()
    upper = np.triu(out)
    return upper + np.triu(out, 1).T


def test_equal_rows_are_merged_in_order_of_appearance():
    X = [[2.0, 0.0], [1.0, 5.0], [2.0, -0.0], [0.0, 0.0], [1.0, 5.0], [2.0, 0.0]]
    found = similarity(X)
    assert found.points.tolist() == [[2.0, 0.0], [1.0, 5.0], [0.0, 0.0]]
    assert found.group.tolist() == [0, 1, 0, 2, 1, 0]
    assert found.first_row.tolist() == [0, 1, 3]
    assert found.counts.tolist() == [3.0, 2.0, 1.0]
    assert len(found) == 3
    values = torch.tensor([10.0, 20.0, 30.0])
    assert found.to_rows(values).tolist() == [10.0, 20.0, 10.0, 30.0, 20.0, 10.0]


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(*[st.sampled_from([0.0, -0.0, 1.0, -1.0])] * 2), min_size=1, max_size=9)
)
def test_merging_finds_exactly_the_equal_rows(rows):
    distinct = list(dict.fromkeys((a + 0.0, b + 0.0) for a, b in rows))
    for found in (similarity(rows), similarity(cdist(rows, rows), metric="precomputed")):
        assert [distinct.index((a + 0.0, b + 0.0)) for a, b in rows] == found.group.tolist()
        assert [rows.index(p) for p in distinct] == found.first_row.tolist()
        assert float(found.counts.sum()) == len(rows)


def test_one_feature_is_merged_too():
    found = similarity([[3.0], [0.0], [-0.0], [3.0]])
    assert found.group.tolist() == [0, 1, 1, 0]


def test_neighbouring_floats_are_not_merged():
    assert len(similarity([[1.0, 0.0], [np.nextafter(1.0, 2), 0.0]])) == 2


@pytest.mark.parametrize("memory", [0.001, 1024])
@pytest.mark.parametrize("n", [1, 2, 50, 300])
@pytest.mark.parametrize("d", [3, 30])
def test_blocks_make_up_the_dense_matrices(n, d, memory):
    X, t = normal(n, d), 0.3
    with config_context(working_memory=memory):
        operator = similarity(X, t)
        zeta = whole(operator.similarity_blocks(), n)
        S = whole(operator.anchored_blocks(), n)
        sums = operator.row_sums().numpy()
        sizes = [rows.stop - rows.start for rows in operator.row_blocks()]
    # A kilobyte holds no row of fifty points four times, a gigabyte as many rows as are wanted.
    assert max(sizes) == (1 if memory < 1 and n >= 50 else min(n, 256))
    assert sum(sizes) == n
    np.testing.assert_allclose(zeta, dense(X, t), rtol=1e-13)
    np.testing.assert_allclose(S, anchored(X, t), rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(sums, dense(X, t).sum(1), rtol=1e-13)
    assert np.diag(zeta).tolist() == [1.0] * n


def test_anchored_blocks_keep_their_digits_at_tiny_scales():
    X, t = normal(20), 1e-13
    D = cdist(X, X)
    # To first order in t, S is t times the Gromov product with the anchor.
    expected = t * (D[0][:, None] + D[0] - D)
    S = whole(similarity(X, t).anchored_blocks(), 20)
    np.testing.assert_allclose(S[1:, 1:], expected[1:, 1:], rtol=1e-11)
    assert S[0].tolist() == [1.0] + [0.0] * 19


@pytest.mark.parametrize("memory", [0.001, 1024])
@pytest.mark.parametrize("n", [1, 7, 400])
def test_anchored_product_is_the_dense_product(n, memory):
    X, t = normal(n), 0.7
    V = normal(n, 4, seed=1)
    with config_context(working_memory=memory):
        found = similarity(X, t).anchored_product(torch.from_numpy(V))
    np.testing.assert_allclose(found.numpy(), anchored(X, t) @ V, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("n", [1, 30, 300])
def test_derivative_form_is_the_dense_one(n):
    X, t = normal(n), 0.7
    w = normal(n, 1, seed=2)[:, 0]
    expected = w @ (cdist(X, X) * dense(X, t)) @ w
    found = similarity(X, t).derivative_form(torch.from_numpy(w))
    assert found == pytest.approx(expected, rel=1e-11, abs=1e-14)


def test_queries_are_rows_of_the_anchored_matrix():
    X, Z, t = normal(8), normal(5, seed=3), 0.9
    Z[2] = X[4]
    query = similarity(X, t).query(torch.from_numpy(Z))
    D, k0 = cdist(Z, X), np.exp(-t * cdist(Z, X[:1]))
    expected = np.exp(-t * D) - k0 * dense(X, t)[0]
    np.testing.assert_allclose(query.anchored.numpy(), expected, rtol=1e-12, atol=1e-15)
    assert query.anchored[:, 0].tolist() == [0.0] * 5
    np.testing.assert_allclose(query.anchor_distance.numpy(), t * D[:, 0], rtol=1e-14)
    np.testing.assert_allclose(query.nearest_distance.numpy(), D.min(1), rtol=1e-14)
    assert query.nearest.tolist() == D.argmin(1).tolist()
    assert query.nearest_distance[2] == 0


def test_precomputed_queries_name_input_rows_and_answer_for_points():
    X, Z = normal(6)[[0, 1, 0, 2, 1, 3]], normal(4, seed=4)
    operator = similarity(cdist(X, X), metric="precomputed")
    found = operator.query_distances(torch.from_numpy(cdist(Z, X)))
    np.testing.assert_allclose(found.numpy(), cdist(Z, X)[:, [0, 1, 3, 5]], rtol=0)


@pytest.mark.parametrize("metric", ["euclidean", "precomputed", "canberra"])
def test_closest_pair_names_input_rows(metric):
    X = np.abs(normal(300)) + 1
    X[250] = X[40] * (1 + 1e-7)
    X[10] = X[251] = X[3]
    given = cdist(X, X) if metric == "precomputed" else X
    operator = similarity(given, metric=metric)
    i, j, distance = operator.closest_pair()
    assert (i, j) == (40, 250)
    name = "canberra" if metric == "canberra" else "euclidean"
    assert distance == pytest.approx(cdist(X[[40]], X[[250]], name)[0, 0], rel=1e-8)


def test_nearly_constant_tells_small_spaces_from_large_ones():
    X = normal(20)
    assert similarity(X, 1e-3).nearly_constant
    assert not similarity(X, 10.0).nearly_constant
    assert similarity(X[:1], 10.0).nearly_constant
    assert similarity(X * 1e9, 1e-12).nearly_constant


def test_the_same_points_at_another_scale():
    X = normal(9)
    operator = similarity(X, 1.0).at(2.5)
    assert operator.t == 2.5
    np.testing.assert_allclose(whole(operator.similarity_blocks(), 9), dense(X, 2.5), rtol=1e-13)


@pytest.mark.parametrize("d", [2, 40])
def test_with_table_is_the_same_operator(d):
    X = normal(30, d)
    plain, stored = similarity(X), similarity(X).with_table()
    assert stored.table is not None
    for a, b in zip(plain.anchored_blocks(), stored.anchored_blocks(), strict=True):
        np.testing.assert_allclose(b[1].triu().numpy(), a[1].triu().numpy(), rtol=1e-14)
    assert stored.median_distance() == pytest.approx(plain.median_distance(), rel=1e-14)
    assert stored.with_table() is stored
    given = similarity(cdist(X, X), metric="precomputed")
    assert given.with_table() is given


def test_median_distance_is_over_distinct_points():
    X = normal(7)
    assert similarity(np.vstack([X, X, X])).median_distance() == similarity(X).median_distance()
    assert similarity(X).median_distance() == pytest.approx(np.median(pdist(X)), rel=1e-14)
    table = similarity(cdist(X, X), metric="precomputed")
    assert table.median_distance() == pytest.approx(np.median(pdist(X)), rel=1e-14)


def test_extended_and_dropped_keep_the_books():
    X = normal(4)
    operator = similarity(X[[0, 1, 1, 2]])
    grown = operator.extended(torch.from_numpy(X[[3, 1, 3, 0]]))
    assert grown.group.tolist() == [0, 1, 1, 2, 3, 1, 3, 0]
    assert grown.counts.tolist() == [2.0, 3.0, 1.0, 2.0]
    assert grown.first_row.tolist() == [0, 1, 3, 4]
    np.testing.assert_allclose(grown.anchor.numpy(), cdist(X, X)[0], rtol=1e-15)
    smaller, kept = grown.dropped(np.array([0, 3, 7, 1]))
    assert kept.tolist() == [1, 3]
    assert smaller.group.tolist() == [0, 1, 0, 1]
    assert smaller.first_row.tolist() == [0, 1]
    assert smaller.counts.tolist() == [2.0, 2.0]
    assert smaller.anchor.tolist() == [0.0, cdist(X[[1]], X[[3]])[0, 0]]
    assert operator.counts.tolist() == [1.0, 2.0, 1.0]


@pytest.mark.parametrize("metric", ["euclidean", "precomputed", "canberra"])
def test_pickling_keeps_every_block(metric):
    X = np.abs(normal(9)) + 1
    X[5] = X[1]
    operator = similarity(cdist(X, X) if metric == "precomputed" else X, 0.8, metric)
    twin = pickle.loads(pickle.dumps(operator))
    assert (twin.t, len(twin), twin.metric.name) == (0.8, 8, metric)
    assert torch.equal(twin.group, operator.group)
    V = torch.from_numpy(normal(8, 2))
    assert torch.equal(twin.anchored_product(V), operator.anchored_product(V))


def test_moving_to_a_device_keeps_every_block():
    operator = similarity(normal(5))
    moved = operator.to(torch.device("cpu"))
    V = torch.from_numpy(normal(5, 2))
    assert torch.equal(moved.anchored_product(V), operator.anchored_product(V))


@pytest.mark.parametrize("metric", ["euclidean", "braycurtis", "precomputed"])
def test_points_are_taken_in_the_order_given(metric):
    X = np.abs(normal(8))
    X[5] = X[2]
    data = cdist(X, X) if metric == "precomputed" else X
    operator, order = similarity(data, 0.7, metric), [4, 0, 2]
    taken = operator.taken(torch.tensor(order))
    rows = operator.first_row[order].numpy()
    fresh = similarity(
        data[np.ix_(rows, rows)] if metric == "precomputed" else X[rows], 0.7, metric
    )
    assert (taken.t, len(taken)) == (0.7, 3)
    np.testing.assert_array_equal(taken.anchor, fresh.anchor)
    np.testing.assert_array_equal(
        whole(taken.similarity_blocks(), 3), whole(fresh.similarity_blocks(), 3)
    )
    values = torch.tensor([1.0, 2.0, 3.0])
    assert taken.to_rows(values).tolist() == [1.0, 2.0, 3.0]
    assert taken.counts.tolist() == [1.0] * 3


@pytest.mark.parametrize("t", [1e-6, 1.0, 3e3, 1e4, 1e8])
def test_the_anchored_form_where_the_triangle_inequality_does_not_hold(t):
    """Squares of a metric, whose detours over the anchor may be shorter."""
    space = similarity(normal(30, 4), t, "cosine")
    points = space.points.numpy()
    d = np.square(points[:, None] - points).sum(-1) / 2
    detour = d[:, :1] + d[0]
    assert (detour < d - 0.1).any()
    # Both exponentials, as a difference that is rounded like one of small numbers at small t.
    expected = np.exp(-t * d) - np.exp(-t * detour)
    expected[0], expected[:, 0], expected[0, 0] = 0.0, 0.0, 1.0
    found = whole(space.anchored_blocks(), 30)
    np.testing.assert_allclose(found, expected, atol=1e-15, rtol=1e-9 * max(1.0, t))
    # The same points as queries, and the anchored rows.
    rows = np.vstack([np.zeros(30), expected[1:]])
    np.testing.assert_allclose(space.query(space.points).anchored, rows, atol=1e-15, rtol=1e-5)
    every = torch.arange(30)
    np.testing.assert_allclose(space.anchored_rows(every)[1:], rows[1:], atol=1e-15, rtol=1e-5)


@pytest.mark.parametrize("t", [1e17, 1e20, 1e200])
def test_rounding_of_a_detour_on_a_line_is_no_infinity(t):
    line = np.array([1.0, 0.1, 0.3, 0.7, 2.3])[:, None] * [1.0, np.pi]
    space = similarity(line, t)
    np.testing.assert_array_equal(whole(space.anchored_blocks(), 5), np.eye(5))
    queries = torch.from_numpy(1.7 * line)
    np.testing.assert_array_equal(space.query(queries).anchored, np.zeros((5, 5)))
