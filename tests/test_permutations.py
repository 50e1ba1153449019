from dataclasses import replace
from itertools import combinations

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import dense, mp_weighting, normal
from scipy.spatial.distance import cdist

from skmag import _permutations as permutations
from skmag._metrics import resolve_metric
from skmag._permutations import (
    Labellings,
    Pool,
    magnitude_distances,
    mean_discrepancies,
    p_values,
    standard_scores,
)

T = 0.7


def pooled(X, Y, metric="euclidean"):
    tensors = (torch.from_numpy(np.array(own, dtype=float, order="C")) for own in (X, Y))
    return Pool.of(*tensors, resolve_metric(metric, None)).with_table()


def rows_of(pool):
    """Points of the pool's rows, in its order."""
    return pool.points.points[pool.group].numpy()


def every_labelling(pool):
    n, k = len(pool.group), len(pool.smaller)
    return torch.tensor(list(combinations(range(n), k)))


def parts(pool, chosen):
    rows = rows_of(pool)
    for own in chosen.tolist():
        yield rows[own], np.delete(rows, own, axis=0)


def magnitude(X, t, metric="euclidean"):
    return np.linalg.inv(dense(np.unique(X, axis=0), t, metric)).sum()


def naive_distance(X, Y, t, metric="euclidean"):
    whole = magnitude(np.vstack([X, Y]), t, metric)
    return 2 * whole - magnitude(X, t, metric) - magnitude(Y, t, metric)


def naive_discrepancy(X, Y, t):
    """The double sums of section 5.3."""
    return (
        np.exp(-t * cdist(X, X)).mean()
        + np.exp(-t * cdist(Y, Y)).mean()
        - 2 * np.exp(-t * cdist(X, Y)).mean()
    )


SAMPLES = {
    "distinct": (normal(4, 2, 0), normal(5, 2, 1)),
    "as large": (normal(4, 2, 0), normal(4, 2, 1)),
    "larger first": (normal(6, 3, 0), normal(3, 3, 1)),
    "copies within": (normal(5, 2, 0)[[0, 1, 1, 2]], normal(5, 2, 1)[[0, 0, 0, 1, 2]]),
    "copies across": (normal(4, 2, 0), np.vstack([normal(4, 2, 0)[1:], normal(2, 2, 1)])),
    "line": (normal(4, 1, 0), normal(5, 1, 1)),
    "line with copies": (np.array([[0.0], [1], [1]]), np.array([[1.0], [2], [2], [5], [0]])),
}


@pytest.mark.parametrize("t", [0.05, T, 20.0])
@pytest.mark.parametrize("name", SAMPLES)
def test_distances_of_every_labelling_are_those_of_dense_inverses(name, t):
    pool = pooled(*SAMPLES[name])
    chosen = every_labelling(pool)
    found = magnitude_distances(pool, chosen, t)
    expected = [naive_distance(*own, t) for own in parts(pool, chosen)]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("metric", ["cityblock", "cosine", "canberra"])
def test_distances_under_other_metrics(metric):
    # Cosine takes prepared points, Canberra leaves torch.
    pool = pooled(normal(4, 3, 0), normal(5, 3, 1), metric)
    chosen = every_labelling(pool)
    found = magnitude_distances(pool, chosen, T)
    expected = [naive_distance(*own, T, metric) for own in parts(pool, chosen)]
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", SAMPLES)
def test_discrepancies_of_every_labelling_are_the_papers_sums(name):
    pool = pooled(*SAMPLES[name])
    chosen = every_labelling(pool)
    expected = [naive_discrepancy(*own, T) for own in parts(pool, chosen)]
    np.testing.assert_allclose(mean_discrepancies(pool, chosen, T), expected, atol=1e-14)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 6), st.integers(1, 3))
def test_copies_on_either_side_count_once(seed, n, m, side):
    # Points of a small grid: copies within the samples and across them, all points equal at most.
    rng = np.random.default_rng(seed)
    X, Y = rng.integers(side, size=(n, 2)), rng.integers(side, size=(m, 2))
    pool = pooled(X, Y)
    dealt = Labellings.of(pool, 15, rng)
    found = magnitude_distances(pool, dealt.smaller, T)
    expected = [naive_distance(*own, T) for own in parts(pool, dealt.smaller)]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found[dealt.observed], naive_distance(X, Y, T), atol=1e-12)


def test_parts_with_the_same_points_are_at_distance_zero():
    X = normal(30, 4)
    pool = pooled(X, X[::-1])
    observed = torch.from_numpy(pool.smaller)[None]
    for t in (1e-9, T, 1e3):
        assert float(magnitude_distances(pool, observed, t)) == 0.0
        assert float(mean_discrepancies(pool, observed, t)) == 0.0


@pytest.mark.parametrize("t", [1e-3, 1e-6, 1e-12])
@pytest.mark.parametrize("d", [1, 3])
def test_digits_are_kept_at_tiny_scales(t, d):
    # In zeta itself, which is 1 - O(t), the digits of these distances would be gone.
    pool = pooled(normal(6, d, 0), normal(9, d, 1))
    chosen = Labellings.of(pool, 8, np.random.default_rng(0)).smaller
    found = magnitude_distances(pool, chosen, t)
    whole = mp_weighting(rows_of(pool), t)[1]
    for value, (X, Y) in zip(found.tolist(), parts(pool, chosen), strict=True):
        with mpmath.workdps(50):
            exact = float(2 * whole - mp_weighting(X, t)[1] - mp_weighting(Y, t)[1])
        assert value == pytest.approx(exact, rel=1e-10)
    discrepancy = mean_discrepancies(pool, chosen, t)
    # Up to terms of order t^2, the energy distance.
    energy = [
        2 * cdist(X, Y).mean() - cdist(X, X).mean() - cdist(Y, Y).mean()
        for X, Y in parts(pool, chosen)
    ]
    np.testing.assert_allclose(discrepancy / t, energy, rtol=10 * t)


def test_points_that_float64_cannot_tell_apart_count_as_one():
    X, Y = normal(8, 3, 0), normal(8, 3, 1)
    twins = X[:4] + 1e-13 * normal(4, 3, 2)
    split, merged = pooled(np.vstack([X, twins]), Y), pooled(np.vstack([X, X[:4]]), Y)
    assert len(split.points) == len(merged.points) + 4
    chosen = Labellings.of(split, 50, np.random.default_rng(0)).smaller
    found = [magnitude_distances(pool, chosen, T) for pool in (split, merged)]
    np.testing.assert_allclose(*found, rtol=1e-10)


def test_batches_change_nothing():
    pool = pooled(*SAMPLES["copies across"])
    chosen = every_labelling(pool)
    for function in (magnitude_distances, mean_discrepancies):
        whole = function(pool, chosen, T)
        for batch in (1, 7, 10_000):
            np.testing.assert_allclose(function(pool, chosen, T, batch), whole, rtol=1e-12)
    line = pooled(*SAMPLES["line"])
    chosen = every_labelling(line)
    whole = magnitude_distances(line, chosen, T)
    np.testing.assert_array_equal(magnitude_distances(line, chosen, T, 5), whole)


def test_the_line_agrees_with_the_plane_around_it():
    X, Y = SAMPLES["line with copies"]
    line, plane = pooled(X, Y), pooled(*(np.hstack([own, 0 * own]) for own in (X, Y)))
    chosen = every_labelling(line)
    found = [magnitude_distances(pool, chosen, T) for pool in (line, plane)]
    np.testing.assert_allclose(*found, rtol=1e-12)


def test_the_order_of_rows_and_of_samples_is_forgotten():
    X, Y = normal(5, 2, 0), normal(7, 2, 1)
    pool = pooled(X, Y)
    for first, second in ((X[::-1], Y), (Y, X), (Y[::-1], X)):
        other = pooled(first, second)
        np.testing.assert_array_equal(rows_of(other), rows_of(pool))
        np.testing.assert_array_equal(other.smaller, pool.smaller)
    np.testing.assert_array_equal(rows_of(pool)[pool.smaller], X[np.lexsort(X.T[::-1])])


def test_negative_zero_is_zero():
    pool = pooled([[0.0, 1.0], [2.0, 0.0]], [[-0.0, 1.0]])
    assert len(pool.points) == 2


def test_all_labellings_are_taken_where_there_are_no_more():
    pool = pooled(normal(2, 2, 0), normal(3, 2, 1))
    dealt = Labellings.of(pool, 10, np.random.default_rng(0))
    assert dealt.complete
    assert sorted(map(tuple, dealt.smaller.tolist())) == list(combinations(range(5), 2))
    np.testing.assert_array_equal(dealt.smaller[dealt.observed], pool.smaller)
    drawn = Labellings.of(pool, 9, np.random.default_rng(0))
    assert not drawn.complete
    assert drawn.smaller.shape == (10, 2)
    np.testing.assert_array_equal(drawn.smaller[drawn.observed], pool.smaller)


def test_every_labelling_is_as_likely():
    pool = pooled(normal(2, 2, 0), normal(3, 2, 1))
    many = [Labellings.of(pool, 9, np.random.default_rng(seed)).smaller[1:] for seed in range(400)]
    _, counts = torch.cat(many).unique(dim=0, return_counts=True)
    assert len(counts) == 10
    # 3,600 draws, 360 of each with a standard deviation of 18.
    assert (counts - 360).abs().max() < 5 * 18
    # Who has which rows does not matter to the draws.
    other = replace(pool, smaller=np.array([3, 4]))
    drawn = [Labellings.of(own, 9, np.random.default_rng(0)).smaller[1:] for own in (pool, other)]
    np.testing.assert_array_equal(*drawn)


def test_standard_scores_are_zero_without_spread():
    values = torch.tensor([[1.0, 5.0, 0.0, 1e9], [3.0, 5.0, 0.0, 1e9 * (1 + 1e-15)]])
    scores = standard_scores(values.double())
    np.testing.assert_allclose(scores[:, 0], [-1, 1])
    np.testing.assert_array_equal(scores[:, 1:], 0)


def test_p_values_count_ties():
    scores = torch.tensor([[1.0], [1.0 + 1e-12], [1.0 - 1e-12], [0.0], [3.0]], dtype=torch.float64)
    assert [float(p_values(scores, row)) for row in range(5)] == [0.8, 0.8, 0.8, 1.0, 0.2]


def bipartite(a, b):
    """Distances of the graph K_{3,3}, whose similarity is indefinite where exp(-t) > 1/2."""
    return 0.0 if a[0] == b[0] else 2.0 if a[0] % 2 == b[0] % 2 else 1.0


def test_an_indefinite_similarity_has_no_magnitudes_of_parts():
    points = np.arange(6.0)[:, None] * [[1.0, 0.0]]
    pool = pooled(points[:3], points[3:], bipartite)
    chosen = every_labelling(pool)
    with pytest.raises(np.linalg.LinAlgError, match=r"t=0\.5 is not positive definite.*'mmd'"):
        magnitude_distances(pool, chosen, 0.5)
    # At a larger scale it is definite. The discrepancy is a number at any.
    expected = [naive_distance(*own, 1.0, bipartite) for own in parts(pool, chosen)]
    np.testing.assert_allclose(magnitude_distances(pool, chosen, 1.0), expected, rtol=1e-10)
    assert float(mean_discrepancies(pool, chosen, 0.5).min()) < 0


def test_a_part_that_cannot_be_factored_is_an_error():
    pool = pooled(*SAMPLES["distinct"])
    whole = permutations._Whole.of(pool.points)
    blocks = torch.stack([torch.eye(3), -torch.eye(3)]).double()
    with pytest.raises(np.linalg.LinAlgError, match="1 of 2 parts"):
        whole._gram(blocks, torch.ones(2, 3, 1, dtype=torch.float64), None)


def test_what_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(permutations, "available_memory", lambda device: 1000.0)
    with pytest.raises(MemoryError, match="3,240 bytes for n=9 distinct points"):
        pooled(*SAMPLES["distinct"])


def test_scores_do_not_depend_on_the_unit():
    values = torch.tensor([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]], dtype=torch.float64)
    expected = standard_scores(values)
    assert expected[:, 1].tolist() == [0.0, 0.0, 0.0]
    for unit in (2.0**-900, 2.0**900):
        assert torch.equal(standard_scores(values * unit), expected)


def test_draws_may_outnumber_the_labellings():
    pool = pooled(normal(1, 2, 0), normal(2, 2, 1))
    drawn = Labellings.drawn(pool, 9, np.random.default_rng(0))
    assert drawn.smaller.shape == (10, 1)
    assert not drawn.complete
    assert set(drawn.smaller.flatten().tolist()) == {0, 1, 2}


def test_every_job_needs_memory_of_its_own(monkeypatch):
    pool = pooled(*SAMPLES["distinct"])
    monkeypatch.setattr(permutations, "available_memory", lambda device: 10_000.0)
    assert pool.with_table(3).points.table.shape == (9, 9)
    with pytest.raises(MemoryError, match=r"11,016 bytes .* worked on by 4 jobs.*block_size"):
        pool.with_table(4)


def test_a_metric_that_takes_all_distances_is_not_asked_for_too_many(monkeypatch):
    monkeypatch.setattr(permutations, "available_memory", lambda device: 1000.0)

    def never(a, b):
        pytest.fail("the metric was called")

    X, Y = (torch.from_numpy(own) for own in SAMPLES["distinct"])
    with pytest.raises(MemoryError, match="n=9 distinct points"):
        Pool.of(X, Y, resolve_metric(never, None))
