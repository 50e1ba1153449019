"""Approximate inverses: symmetric, positive definite, and near enough to be worth their price."""

import pickle

import numpy as np
import pytest
import torch
from reference import normal
from scipy.spatial.distance import cdist
from sklearn import config_context

from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers._preconditioners import (
    PRECONDITIONERS,
    Diagonal,
    PartialCholesky,
    Preconditioners,
    choose_preconditioner,
)
from skmag._solvers._products import Products

NAMES = [name for name in PRECONDITIONERS if name != "auto"]


def similarity(X, t=1.0, metric="euclidean", **params):
    points = torch.from_numpy(np.ascontiguousarray(X, dtype=float))
    return Similarity.of(points, resolve_metric(metric, params), t)


def matrices(space, preconditioner):
    """The operator and the approximate inverse, both dense."""
    unit = torch.eye(len(space), dtype=torch.float64)
    return Products(space).product(unit).numpy(), preconditioner.apply(unit).numpy()


def condition(A, M):
    """Condition number of M A."""
    values = np.linalg.eigvals(M @ A).real
    return values.max() / values.min()


CASES = [(80, 2, 1.0), (80, 2, 1e-6), (80, 10, 0.2), (80, 3, 20.0), (3, 2, 1.0), (1, 2, 1.0)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("n", "d", "t"), CASES)
def test_symmetric_and_positive_definite(name, n, d, t):
    space = similarity(normal(n, d), t)
    _, M = matrices(space, choose_preconditioner(space, name))
    np.testing.assert_allclose(M, M.T, atol=2e-5 * np.abs(M).max())
    assert np.linalg.eigvalsh((M + M.T) / 2)[0] > 0


@pytest.mark.parametrize("name", ["partial_cholesky", "sparse"])
@pytest.mark.parametrize(("n", "d", "t"), [(200, 2, 1.0), (200, 2, 1e-3), (200, 10, 0.1)])
def test_better_than_nothing(name, n, d, t, monkeypatch):
    monkeypatch.setattr("skmag._solvers._preconditioners._CENTERS", 40)
    monkeypatch.setattr("skmag._solvers._preconditioners._RANK", 60)
    space = similarity(normal(n, d), t)
    A, M = matrices(space, choose_preconditioner(space, name))
    alone = condition(*matrices(space, Diagonal(space)))
    assert condition(A, M) < 0.3 * alone


@pytest.mark.parametrize("t", [0.05, 1e-7])
def test_all_columns_are_the_whole_factor(t):
    """With every column, only the least room and float32 are left of the difference."""
    space = similarity(normal(40, 2), t)
    A, M = matrices(space, PartialCholesky(space, torch.arange(40)))
    assert condition(A, M) < 10


def test_columns_that_are_rounding_are_left_out():
    """A smooth kernel has a numerical rank far below the number of its columns."""
    space = similarity(np.random.default_rng(0).uniform(size=(90, 4)) + 3, 0.5, "cosine")
    made = PartialCholesky.of(space, 90)
    assert made.factor.shape[1] < 60
    assert made.factor.dtype == torch.float64
    _, M = matrices(space, made)
    assert np.linalg.eigvalsh((M + M.T) / 2)[0] > 0


@pytest.mark.parametrize("gap", [1e-9, 1e-14])
@pytest.mark.parametrize("name", NAMES)
def test_points_that_nearly_coincide(name, gap):
    half = normal(30, 2)
    space = similarity(np.vstack([half, half + gap * normal(30, 2, seed=1)]))
    R = torch.from_numpy(normal(len(space), 3, seed=2))
    applied = choose_preconditioner(space, name).apply(R)
    assert torch.isfinite(applied).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("t", [3.0, 1e-5])
def test_refreshed_is_as_good_as_new(name, t):
    X = normal(100, 2)
    old = choose_preconditioner(similarity(X, 0.5), name)
    space = similarity(X, t)
    R = torch.from_numpy(normal(100, 2, seed=1))
    R[0] = 0.0
    again, new = old.refreshed(space), choose_preconditioner(space, name)
    np.testing.assert_allclose(
        again.apply(R), new.apply(R), atol=1e-5 * float(new.apply(R).abs().max())
    )


@pytest.mark.parametrize("name", NAMES)
def test_pickling(name):
    space = similarity(normal(50, 3))
    made = choose_preconditioner(space, name)
    R = torch.from_numpy(normal(50, 1, seed=1))
    assert torch.equal(pickle.loads(pickle.dumps(made)).apply(R), made.apply(R))


@pytest.mark.parametrize(
    ("n", "d", "t", "metric", "name"),
    [
        (400, 2, 1.0, "euclidean", "sparse"),
        (400, 2, 1.0, "cityblock", "sparse"),
        (400, 2, 1e4, "euclidean", "none"),
        (400, 12, 0.1, "euclidean", "partial_cholesky"),
        (400, 3, 1.0, "cosine", "partial_cholesky"),
    ],
)
def test_the_choice(n, d, t, metric, name):
    assert choose_preconditioner(similarity(normal(n, d), t, metric)).name == name


def test_a_table_without_coordinates_takes_columns():
    table = similarity(cdist(normal(30), normal(30)).round(8), 1.0, "precomputed")
    assert choose_preconditioner(table).name == "partial_cholesky"


def test_an_unknown_name():
    with pytest.raises(ValueError, match="preconditioner='ilu' is unknown"):
        choose_preconditioner(similarity(normal(5)), "ilu")


def test_columns_fit_the_working_memory():
    space = similarity(normal(200, 10), 0.1)
    with config_context(working_memory=0.1):
        made = choose_preconditioner(space, "partial_cholesky")
    assert made.factor.numel() * 8 <= 0.1 * 2**20


def test_one_serves_a_group_of_scales():
    space = similarity(normal(100, 8), 1.0)
    scales = np.geomspace(0.05, 50, 60)
    made = Preconditioners(space, scales)
    served, R = {}, torch.from_numpy(normal(100, 1, seed=1))
    R[0] = 0.0
    for t in sorted(scales, reverse=True):
        at = space.at(t)
        found = made.at(at)
        served.setdefault(id(found), (found, []))[1].append(t)
        assert float((R * found.apply(R)).sum()) > 0
    assert len(served) < 30
    for found, group in served.values():
        assert max(group) <= 2 * min(group)
        # No group has scales with another operator in it.
        assert len({space.at(t).nearly_constant for t in group}) == 1
        assert len({choose_preconditioner(space.at(t)).name for t in group} | {found.name}) == 1
