import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from left_out import without
from numpy.testing import assert_allclose, assert_array_equal
from reference import dense_inverse, normal, with_copies
from scipy.spatial.distance import cdist

from skmag import magnitude_potential, magnitude_potential_ratio

TS = [0.1, 1.0, 7.0]
Z = np.random.default_rng(9).normal(size=(5, 3))


def class_potential(z, points, t):
    return (np.exp(-t * cdist(z[None], points)) @ dense_inverse(points, t).sum(1))[0]


@pytest.mark.parametrize("t", TS)
@pytest.mark.parametrize("d", [1, 2])
def test_potential_by_brute_force(d, t):
    X = with_copies()[:, :d]
    queries = np.concatenate([Z[:, :d], X[:3]])
    points = np.unique(X, axis=0)
    expected = [class_potential(z, points, t) for z in queries]
    assert_allclose(magnitude_potential(X, queries, t=t), expected, rtol=1e-9)
    assert_array_equal(magnitude_potential(X, X, t=t), 1.0)
    left_out = [class_potential(x, without(points, x), t) for x in X]
    assert_allclose(magnitude_potential(X, t=t), left_out, rtol=1e-9)


@pytest.mark.parametrize("t", TS)
@pytest.mark.parametrize("d", [1, 2])
def test_potential_ratio_by_brute_force(d, t):
    X = with_copies()[:, :d]
    y = np.array(list("bbaabbbabaca"))  # copies 1, 3, 7, 8 in two classes; "c" has one member
    parts = [X[y == label] for label in "abc"]
    queries = np.concatenate([Z[:, :d], X[:3]])
    found = magnitude_potential_ratio(X, y, queries, t=t)
    whole = np.unique(X, axis=0)
    expected = [
        [class_potential(z, np.unique(p, axis=0), t) / class_potential(z, whole, t) for p in parts]
        for z in queries
    ]
    assert_allclose(found, expected, rtol=1e-8)
    expected = []
    for x, label in zip(X, y, strict=True):
        row = []
        for name, part in zip("abc", parts, strict=True):
            points = np.unique(part, axis=0)
            points = without(points, x) if name == label else points
            row.append(class_potential(x, points, t) if len(points) else 0.0)
        expected.append(np.array(row) / class_potential(x, without(whole, x), t))
    assert_allclose(magnitude_potential_ratio(X, y, t=t), expected, rtol=1e-8, atol=1e-12)


def test_potential_ratio_of_one_class_is_one():
    assert_allclose(magnitude_potential_ratio(Z, [3] * 5), 1.0, rtol=1e-12)
    assert_allclose(magnitude_potential_ratio(Z, [3] * 5, normal()), 1.0, rtol=1e-12)


@pytest.mark.parametrize("labels", [list, np.array, pd.Series, torch.tensor, tuple])
def test_kinds_of_labels(labels):
    numbers = [2, 0, 0, 1, 2, 0, 1]
    expected = magnitude_potential_ratio(normal(), np.array(numbers))
    assert_array_equal(magnitude_potential_ratio(normal(), labels(numbers)), expected)


def test_precomputed_queries():
    X = with_copies()
    y = np.arange(12) % 3
    tables = cdist(X, X), cdist(Z[:, :2], X)
    found = magnitude_potential(*tables, metric="precomputed")
    assert_allclose(found, magnitude_potential(X, Z[:, :2]), rtol=1e-9)
    found = magnitude_potential_ratio(tables[0], y, tables[1], metric="precomputed")
    assert_allclose(found, magnitude_potential_ratio(X, y, Z[:, :2]), rtol=1e-9)


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("t", [10.0, 60.0])
def test_small_potentials_keep_their_digits(d, t):
    # Far from the rest a potential is exp(-t d): small, yet it is what a ratio compares.
    X = np.arange(4.0)[:, None] * np.eye(1, d) + 1
    y = [0, 0, 1, 1]
    ends = [class_potential(x, without(X, x), t) for x in X]
    queries = X + 0.25
    expected = [class_potential(z, X, t) for z in queries]
    assert_allclose(magnitude_potential(X, queries, t=t), expected, rtol=1e-9)
    assert_allclose(magnitude_potential(X, t=t), ends, rtol=1e-6)
    ratio = magnitude_potential_ratio(X, y, t=t)
    assert_allclose(ratio[[0, 3], [0, 1]], 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    "y", [[0, 1], [], 3, None, np.zeros((7, 1)), np.zeros((7, 2)), [0, 1, np.nan, 1, 0, 1, 0]]
)
def test_bad_labels(y):
    with pytest.raises(ValueError, match=r"\by\b"):
        magnitude_potential_ratio(normal(), y)


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (Z[:, :2], "Z has 2"),
        (np.empty((0, 3)), "Z is empty"),
        (np.full((1, 3), np.nan), "Z contains NaN"),
        (sp.csr_array(Z), "Z is sparse"),
        (Z[0], "2D array"),
    ],
)
def test_bad_queries(queries, message):
    for call in (
        lambda: magnitude_potential(normal(), queries),
        lambda: magnitude_potential_ratio(normal(), np.arange(7) % 3, queries),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_negative_distances_of_queries_are_named():
    tables = cdist(normal(), normal()), cdist(Z, normal())
    tables[1][2, 3] *= -1
    for call in (
        lambda X, queries: magnitude_potential(X, queries, metric="precomputed"),
        lambda X, queries: magnitude_potential_ratio(
            X, np.arange(7) % 3, queries, metric="precomputed"
        ),
    ):
        with pytest.raises(ValueError, match="Z holds the negative distance -"):
            call(*tables)
