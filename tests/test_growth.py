from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import DIGITS, dense, mp_weighting, normal, relative_error
from scipy.spatial.distance import cdist

from skmag._growth import Growth
from skmag._metrics import resolve_metric
from skmag._similarity import Similarity

quickly = settings(deadline=None, max_examples=30)


def growth(X, t=1.0, metric="euclidean", first=0, pool=None, **params):
    similarity = Similarity.of(
        torch.as_tensor(np.asarray(X, float)), resolve_metric(metric, params)
    )
    return Growth(similarity.at(t), first, None if pool is None else torch.tensor(pool))


def dense_magnitude(zeta, members):
    part = zeta[np.ix_(members, members)]
    return np.linalg.solve(part, np.ones(len(members))).sum()


def dense_state(zeta, members):
    """Deficit and residual of every point, from an explicit inverse."""
    inverse = np.linalg.inv(zeta[np.ix_(members, members)])
    k = zeta[:, members]
    return 1 - k @ inverse.sum(1), 1 - ((k @ inverse) * k).sum(1)


@quickly
@given(
    st.integers(0, 10**6),
    st.integers(2, 12),
    st.sampled_from([1, 2, 5, 30]),
    st.sampled_from([0.3, 1.0, 5.0]),
    st.sampled_from(["euclidean", "cityblock", "canberra", "precomputed"]),
)
def test_every_step_is_what_an_explicit_inverse_says(seed, n, d, t, metric):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    if metric == "precomputed":
        X = cdist(X, X)
    zeta, order = dense(X, t, metric), rng.permutation(n).tolist()
    grown = growth(X, t, metric, order[0])
    for done in range(1, n + 1):
        members = order[:done]
        deficit, residual = dense_state(zeta, members)
        outside = np.setdiff1d(np.arange(n), members)
        np.testing.assert_allclose(grown.deficit[outside], deficit[outside], rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(grown.residual[outside], residual[outside], rtol=1e-6)
        assert grown.magnitude == pytest.approx(dense_magnitude(zeta, members), rel=1e-9)
        gains = grown.gains()
        assert (gains[members] == 0).all()
        assert (grown.residual[members] == 0).all()
        assert (grown.deficit[members] == 0).all()
        for point in outside:
            more = dense_magnitude(zeta, [*members, point]) - grown.magnitude
            assert float(gains[point]) == pytest.approx(more, rel=1e-5, abs=1e-8)
        if done < n:
            before = grown.magnitude
            step = grown.join(order[done])
            assert step == pytest.approx(float(gains[order[done]]), rel=1e-9, abs=1e-15)
            assert grown.magnitude == before + step
    assert grown.members == order


def test_distance_to_the_set():
    X = normal(9, 2)
    grown = growth(X)
    for point in (4, 7):
        grown.join(point)
    np.testing.assert_allclose(grown.nearest_distance, cdist(X, X[[0, 4, 7]]).min(1), rtol=1e-12)


@pytest.mark.parametrize("t", [1e-12, 1e-6])
def test_digits_survive_a_tiny_scale(t):
    X = normal(8, 3)
    grown, magnitudes = growth(X, t), []
    gains = [grown.join(point) for point in range(1, 8)]
    with mpmath.workdps(DIGITS):
        exact = [mp_weighting(X[: k + 1], t)[1] for k in range(8)]
        steps = [b - a for a, b in pairwise(exact)]
        assert relative_error(gains, steps) < 1e-9
        magnitudes = [grown.magnitude - 1]
        assert relative_error(magnitudes, [exact[-1] - 1]) < 1e-3 * (1e-12 / t) + 1e-9


def test_points_that_are_nearly_copies():
    X = normal(6, 2)
    X = np.vstack([X, X[1] + 1e-9])
    grown = growth(X)
    gains = [grown.join(point) for point in range(1, 7)]
    assert all(gain >= 0 for gain in gains)
    assert gains[-1] < 1e-8
    assert grown.magnitude == pytest.approx(float(mp_weighting(X, 1.0)[1]), rel=1e-9)


def test_copies_are_one_point():
    X = normal(5, 2)
    grown = growth(np.vstack([X, X[2:4]]))
    assert len(grown.pool) == 5
    for point in range(1, 5):
        grown.join(point)
    assert grown.magnitude == pytest.approx(float(mp_weighting(X, 1.0)[1]), rel=1e-12)


def test_a_pool_of_some_points():
    X = normal(10, 3)
    pool = [0, 2, 3, 7, 9]
    some, every = growth(X, pool=pool), growth(X)
    for point in (7, 2):
        assert some.join(point) == pytest.approx(every.join(point), rel=1e-12)
    np.testing.assert_allclose(some.gains(), every.gains()[pool], rtol=1e-9)


@pytest.mark.parametrize("metric", ["euclidean", "precomputed"])
def test_candidates_may_be_forgotten(metric):
    X = normal(10, 3)
    X = cdist(X, X) if metric == "precomputed" else X
    small, every = growth(X, metric=metric), growth(X, metric=metric)
    small.join(4), every.join(4)
    kept = torch.tensor([True, False] * 5)
    small.restrict(kept)
    for point in (2, 8):
        assert small.join(point) == pytest.approx(every.join(point), rel=1e-12)
    np.testing.assert_allclose(small.gains(), every.gains()[kept], rtol=1e-9)
    assert small.pool.tolist() == [0, 2, 4, 6, 8]


def test_who_cannot_join():
    grown = growth(normal(5, 2), pool=[0, 1, 3])
    grown.join(3)
    for point in (3, 0, 2, 4):
        with pytest.raises(ValueError, match=f"point={point} is no candidate"):
            grown.join(point)


def test_a_similarity_that_is_not_definite_is_refused():
    # Two groups of three points, all at distance one, but two within a group (a complete
    # bipartite graph): the smallest eigenvalue is 1 + 2 exp(-2 t) - 3 exp(-t).
    table = np.ones((6, 6))
    table[:3, :3] = table[3:, 3:] = 2
    np.fill_diagonal(table, 0)
    grown = growth(table, 0.3, "precomputed")
    with pytest.raises(
        ValueError, match=r"metric='precomputed' at t=0\.3 is not positive definite"
    ):
        [grown.join(point) for point in range(1, 6)]
    definite = growth(table, 1.0, "precomputed")
    [definite.join(point) for point in range(1, 6)]
    assert definite.magnitude == pytest.approx(dense_magnitude(np.exp(-table), range(6)), rel=1e-9)


def test_gains_of_the_smallest_scales_do_not_underflow():
    similarity = Similarity.of(torch.from_numpy(normal(6, 2)), resolve_metric("euclidean", None))
    gains = Growth(similarity.at(1e-170), 0).gains()
    expected = Growth(similarity.at(1e-100), 0).gains() * 1e-70
    np.testing.assert_allclose(gains, expected, rtol=1e-10)
    assert (gains[1:] > 0).all()
