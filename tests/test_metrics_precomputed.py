import numpy as np
import pytest
import torch
from reference import QUESTIONS
from scipy.spatial.distance import cdist

from skmag import weighting
from skmag._metrics import check_distances


def square(n=6, seed=0):
    X = np.random.default_rng(seed).normal(size=(n, 2))
    return cdist(X, X)


@pytest.mark.parametrize("n_features", [2, 40])
def test_precomputed_distances_equal_the_metric_they_came_from(n_features):
    rng = np.random.default_rng(17)
    X, Z = rng.normal(size=(15, n_features)), rng.normal(size=(4, n_features))
    X[7] = X[2]
    Z[0] = X[2]
    here, there = weighting(X, t=0.4), weighting(cdist(X, X), t=0.4, metric="precomputed")
    assert there.n_points == 14
    np.testing.assert_allclose(there.weights, here.weights, rtol=1e-11)
    for question in QUESTIONS:
        found = getattr(there, question)(cdist(Z, X))
        np.testing.assert_allclose(found, getattr(here, question)(Z), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(there.loss(), here.loss(), rtol=1e-11)


def test_many_precomputed_rows_with_copies_are_merged():
    X = np.random.default_rng(18).normal(size=(400, 2))
    X[200:] = X[:200]
    space = weighting(cdist(X, X), metric="precomputed")
    assert space.n_points == 200
    np.testing.assert_allclose(space.magnitude, weighting(X[:200]).magnitude, rtol=1e-11)


def test_precomputed_distances_with_the_rounding_of_float32_are_taken():
    D = square().astype(np.float32)
    D[0, 1] = np.nextafter(D[0, 1], np.float32(9))
    space = weighting(D, metric="precomputed")
    reference = weighting(square(), metric="precomputed")
    np.testing.assert_allclose(space.weights, reference.weights, rtol=1e-4)


def test_precomputed_distances_that_are_not_symmetric_are_named():
    D = square()
    D[1, 4] += 0.5
    with pytest.raises(ValueError, match=r"X is not symmetric: X\[\d, \d\]=.* but X\[\d, \d\]="):
        weighting(D, metric="precomputed")


def test_asymmetry_is_found_in_any_block_of_rows():
    D = torch.ones(2500, 2500, dtype=torch.float64).fill_diagonal_(0)
    D[2400, 3] = 2.0
    with pytest.raises(ValueError, match=r"table\[(3, 2400|2400, 3)\]"):
        check_distances(D, "table", 1e-10)


def test_precomputed_distances_that_are_negative_are_named():
    D = square()
    D[1, 4] = D[4, 1] = -0.25
    with pytest.raises(ValueError, match=r"X holds the negative distance -0\.25"):
        weighting(D, metric="precomputed")
    space = weighting(square(), metric="precomputed")
    with pytest.raises(ValueError, match=r"Z holds the negative distance -1\.0"):
        space.potential([[1.0, 1, 1, 1, 1, -1]])


def test_precomputed_distances_with_a_diagonal_are_named():
    D = square()
    D[2, 2] = 0.125
    with pytest.raises(ValueError, match=r"X has 0\.125 on its diagonal"):
        weighting(D, metric="precomputed")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_precomputed_distances_that_are_not_finite_are_named(bad):
    D = square()
    D[1, 4] = D[4, 1] = bad
    with pytest.raises(ValueError, match="Input X contains"):
        weighting(D, metric="precomputed")


def test_precomputed_distances_that_are_not_square_are_named():
    with pytest.raises(ValueError, match=r"X must be a square matrix.*\(5, 6\)"):
        weighting(square()[:5], metric="precomputed")


@pytest.mark.parametrize(("i", "j"), [(0, 1), (2, 5)])
def test_precomputed_zeros_count_as_duplicates_and_the_first_row_answers(i, j):
    D = square()
    D[i, j] = D[j, i] = 0.0
    space = weighting(D, metric="precomputed")
    assert space.n_points == 5
    assert space.weights[i] == space.weights[j]
    kept = np.delete(np.arange(6), j)
    expected = weighting(D[kept][:, kept], metric="precomputed").magnitude
    assert space.magnitude == pytest.approx(expected, rel=1e-14)


def test_precomputed_diagonals_that_are_rounding_change_nothing():
    D, Z = square(), square()[:2] + 0.1
    expected = weighting(D, metric="precomputed")
    rounding = 1e-12 * np.random.default_rng(0).uniform(size=6)
    for solver in ("auto", "mixed", "indefinite"):
        found = weighting(D + np.diag(rounding), metric="precomputed", solver=solver)
        assert found.magnitude == pytest.approx(expected.magnitude, rel=1e-14)
        np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-12)
        np.testing.assert_allclose(found.gain(Z), expected.gain(Z), rtol=1e-10)
    found = weighting(D + np.diag(rounding), t=1e-9, metric="precomputed")
    expected = weighting(D, t=1e-9, metric="precomputed")
    np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-8)
