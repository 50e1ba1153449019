import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.linalg import LinAlgError
from numpy.testing import assert_allclose
from reference import dense_inverse, mp_weighting, normal, relative_error, with_copies
from scipy.linalg import LinAlgWarning
from scipy.spatial.distance import cdist
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning

from skmag import NotPositiveDefiniteWarning, magnitude, positive_magnitude, weighting

CROSS = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], dtype=float)


def walk(n=40, r=6, seed=0):
    """Losses of r images along a walk that stands still at some steps and comes back at others."""
    losses = np.abs(np.cumsum(np.random.default_rng(seed).normal(size=(n, r)), axis=0))
    losses[5] = losses[6] = losses[4]
    losses[30:33] = losses[[2, 4, 2]]
    return losses


def pseudo_metric(losses):
    return cdist(losses, losses, "cityblock") / losses.shape[1]


def positive_sum(weights):
    return weights[weights > 0].sum()


@pytest.mark.parametrize("t", [1e-2, 1.0, 5.0])
@pytest.mark.parametrize("metric", ["euclidean", "cityblock", "cosine"])
def test_against_the_inverse(metric, t):
    X = normal(30, 6)
    expected = positive_sum(dense_inverse(X, t, metric).sum(1))
    assert positive_magnitude(X, t=t, metric=metric) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("t", [1e-9, 1e-3, 1.0])
def test_against_fifty_digits(t):
    X = normal(9, 5)
    weights, _ = mp_weighting(X, t)
    exact = sum(w for w in weights if w > 0)
    assert relative_error([positive_magnitude(X, t=t)], [exact]) < 1e-11


def test_a_point_amid_others_counts_less_than_nothing():
    weights = np.linalg.inv(np.exp(-0.1 * cdist(CROSS, CROSS))).sum(1)
    assert weights[0] < 0 < weights[1:].min()
    assert positive_magnitude(CROSS, t=0.1) == pytest.approx(weights[1:].sum(), rel=1e-10)
    assert positive_magnitude(CROSS, t=0.1) == pytest.approx(
        magnitude(CROSS, t=0.1) - weights[0], rel=1e-10
    )


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), t=st.sampled_from([1e-8, 0.1, 1.0, 30.0]))
def test_on_the_line_it_is_the_magnitude(seed, t):
    X = normal(12, 1, seed=seed)
    assert positive_magnitude(X, t=t) == magnitude(X, t=t)


def test_a_point_that_joins_may_take_from_it():
    X = np.array([[0.7, 0.3], [1.2, 0.0], [0.8, 0.6], [0.5, 0.4], [0.5, 0.8]])
    before, after = (
        positive_sum(np.linalg.inv(np.exp(-0.05 * cdist(part, part))).sum(1)) for part in (X[:4], X)
    )
    assert after < before - 0.04
    assert positive_magnitude(X[:4], t=0.05) == pytest.approx(before, rel=1e-9)
    assert positive_magnitude(X, t=0.05) == pytest.approx(after, rel=1e-9)


def test_copies_change_nothing():
    X = with_copies()
    alone = positive_magnitude(np.unique(X, axis=0), t=0.3)
    assert positive_magnitude(X, t=0.3) == pytest.approx(alone, rel=1e-11)
    # A negative weight is shared by copies too.
    copied = np.concatenate([CROSS, CROSS[:1], CROSS[:1]])
    assert positive_magnitude(copied, t=0.1) == pytest.approx(
        positive_magnitude(CROSS, t=0.1), rel=1e-11
    )


def test_pseudo_metric_of_a_trajectory_with_steps_that_change_no_loss():
    losses = walk()
    table = pseudo_metric(losses)
    assert (table[np.triu_indices(len(table), 1)] == 0).sum() > 3
    t = 0.6
    apart = np.unique(losses, axis=0)
    weights = np.linalg.inv(np.exp(-t * pseudo_metric(apart))).sum(1)
    assert weights.min() < 0
    found = positive_magnitude(table, t=t, metric="precomputed")
    assert found == pytest.approx(positive_sum(weights), rel=1e-9)
    # The same distances as those of a norm, which is known to give positive definite similarities.
    scaled = losses / losses.shape[1]
    assert positive_magnitude(scaled, t=t, metric="cityblock") == pytest.approx(found, rel=1e-9)


def test_float32_table():
    table = pseudo_metric(walk(seed=1))
    found = positive_magnitude(table.astype(np.float32), t=2.0, metric="precomputed")
    exact = positive_magnitude(table, t=2.0, metric="precomputed")
    assert found == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("solver", ["cholesky", "mixed", "indefinite"])
@pytest.mark.parametrize("to_float32", [lambda a: a.astype(np.float32), torch.tensor])
def test_float32_table_of_close_points(solver, to_float32):
    rng = np.random.default_rng(0)
    falling = np.exp(-np.linspace(0, 3, 300))[:, None] * rng.random(100)
    table = pseudo_metric(falling + 1e-6 * rng.random((300, 100)))
    space = {"t": 1e-3, "metric": "precomputed", "solver": solver}
    exact = positive_magnitude(table, **space)
    rounded = to_float32(table.astype(np.float32))
    with (
        config_context(array_api_dispatch=True),
        pytest.warns(LinAlgWarning, match=r"X holds distances in .*float32.*float64"),
    ):
        found = positive_magnitude(rounded, **space)
    assert found - 1 > 2 * (exact - 1)


def warned_error(table, **space):
    with pytest.warns(LinAlgWarning) as caught:
        positive_magnitude(table.astype(np.float32), metric="precomputed", **space)
    return float(re.search(r"off by (\S+)", str(caught[0].message))[1])


@pytest.mark.parametrize("first", range(5))
def test_warned_error_by_dense_matrices(first, monkeypatch):
    monkeypatch.setattr("skmag._positive_magnitude._ROUNDED_SHARE", 0.0)
    X = np.roll(CROSS, first, axis=0)
    table, t = cdist(X, X), 0.1
    inverse = np.linalg.inv(np.exp(-t * table))
    w = inverse.sum(1)
    v = inverse @ (w > 0)
    slope = t * table * np.exp(-t * table)
    expected = 0.2 * np.finfo(np.float32).eps * np.sqrt(v**2 @ slope**2 @ w**2)
    assert warned_error(table, t=t) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("t", [1e-5, 1.0])
def test_warned_error_is_that_of_rounding(t, monkeypatch):
    monkeypatch.setattr("skmag._positive_magnitude._ROUNDED_SHARE", 0.0)
    space = {"t": t, "metric": "precomputed"}
    named, actual = [], []
    for seed in range(20):
        table = pseudo_metric(walk(seed=seed))
        named.append(warned_error(table, t=t))
        with pytest.warns(LinAlgWarning):
            found = positive_magnitude(table.astype(np.float32), **space)
        actual.append(found - positive_magnitude(table, **space))
    assert 1 / 2 < np.linalg.norm(named) / np.linalg.norm(actual) < 2


@pytest.mark.parametrize("solver", ["cholesky", "mixed", "indefinite"])
def test_every_factor(solver):
    X = normal(50, 6)
    assert positive_magnitude(X, t=0.2, solver=solver) == pytest.approx(
        positive_magnitude(X, t=0.2), rel=1e-8
    )


@pytest.mark.parametrize("solver", ["cg", "sparse"])
def test_solvers_without_a_factor(solver):
    X = normal(400, 2)
    exact = positive_magnitude(X, t=0.5)
    assert exact > 1.01 * magnitude(X, t=0.5)
    found = positive_magnitude(X, t=0.5, solver=solver, tol=1e-8)
    assert found == pytest.approx(exact, rel=1e-4)


def test_agrees_with_the_weighting_that_gives_both():
    X = walk()
    space = weighting(X, t=0.1, metric="cityblock")
    found = positive_magnitude(X, t=0.1, metric="cityblock")
    assert found == pytest.approx(positive_sum(space.weights), rel=1e-12)
    assert found > 1.01 * space.magnitude


def test_units_and_scale_by_name():
    X = normal(30, 5)
    by_name = positive_magnitude(X, t="scale")
    assert by_name == pytest.approx(
        positive_magnitude(X, t=1 / np.median(cdist(X, X)[np.triu_indices(30, 1)])), rel=1e-10
    )
    assert positive_magnitude(1e6 * X, t="scale") == pytest.approx(by_name, rel=1e-9)


def test_torch():
    X = normal(20, 5)
    with config_context(array_api_dispatch=True):
        found = positive_magnitude(torch.from_numpy(X), t=0.1)
    assert isinstance(found, float)
    assert_allclose(found, positive_magnitude(X, t=0.1), rtol=1e-12)


def test_one_point():
    assert positive_magnitude([[3.0, 4.0]]) == 1.0
    assert positive_magnitude(np.zeros((4, 4)), metric="precomputed") == 1.0


def test_tolerance_that_is_not_met():
    with pytest.warns(ConvergenceWarning, match="tol"):
        positive_magnitude(normal(400, 2), solver="cg", tol=1e-9, solver_params={"max_iter": 2})


def test_indefinite_table():
    table = 1.0 - np.eye(5)
    table[0, 1:] = table[1:, 0] = 0.2
    with pytest.warns(NotPositiveDefiniteWarning):
        found = positive_magnitude(table, metric="precomputed")
    assert found == pytest.approx(positive_sum(np.linalg.inv(np.exp(-table)).sum(1)), rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X": [[np.nan]]}, "X contains NaN"),
        ({"X": np.empty((0, 2))}, "X is empty"),
        ({"X": [[0.0]], "t": -1.0}, "t=-1.0"),
        ({"X": [[0.0]], "tol": 0.0}, "tol=0.0"),
        ({"X": [[0.0, 1.0]], "metric": "precomputed"}, "square"),
        ({"X": [[0.0, 1.0], [2.0, 0.0]], "metric": "precomputed"}, "not symmetric"),
        ({"X": [[0.0, -1.0], [-1.0, 0.0]], "metric": "precomputed"}, "negative distance"),
        ({"X": normal(), "solver": "guess"}, "solver='guess'"),
        ({"X": normal(), "solver_params": {"max_iter": 3}}, "solver_params"),
        ({"X": np.ones((3, 3)) - np.eye(3), "metric": "precomputed", "solver": "cg"}, "cholesky"),
    ],
)
def test_arguments_that_are_not_usable(arguments, message):
    with pytest.raises(ValueError, match=message):
        positive_magnitude(**arguments)


def test_no_inverse():
    # The complete bipartite graph of 3 and 2 vertices, exp(-t) = 1 / sqrt(2).
    side = np.array([0, 0, 0, 1, 1])
    table = np.where(side[:, None] == side, 2.0, 1.0)
    np.fill_diagonal(table, 0)
    with pytest.raises(LinAlgError, match="singular"):
        positive_magnitude(table, t=np.log(2) / 2, metric="precomputed")
