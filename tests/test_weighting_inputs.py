import pickle

import array_api_strict
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from reference import (
    QUESTIONS,
    answers,
    assert_same,
    normal,
)
from scipy.spatial.distance import cdist
from sklearn import config_context

from skmag import Weighting, weighting

SOLVERS = ["cholesky", "mixed", "indefinite"]


@pytest.mark.parametrize(
    "make",
    [
        np.ndarray.tolist,
        np.asfortranarray,
        lambda X: X[::-1][::-1],
        lambda X: np.repeat(X, 2, axis=1)[:, ::2],
        lambda X: pd.DataFrame(X, columns=["a", "b", "c"]),
        lambda X: pl.DataFrame(X, schema=["a", "b", "c"]),
        torch.from_numpy,
        array_api_strict.asarray,
    ],
    ids=["list", "fortran", "reversed", "strided", "pandas", "polars", "torch", "strict"],
)
def test_without_dispatch_every_kind_is_answered_in_numpy(make):
    X, Z = normal(8), normal(3, seed=1)
    expected = answers(weighting(X), Z)
    space = weighting(make(X.copy()))
    assert isinstance(space.weights, np.ndarray)
    assert isinstance(space.potential(make(Z)), np.ndarray)
    assert_same(answers(space, make(Z)), expected, 1e-13)


@pytest.mark.parametrize("dtype", [int, bool, np.int8, np.uint8, np.float16])
def test_numbers_of_every_type_are_points(dtype):
    X = np.array([[0, 1], [1, 1], [0, 0]], dtype=dtype)
    assert weighting(X).magnitude == pytest.approx(weighting(X.astype(float)).magnitude)
    assert weighting(X).potential(X).tolist() == [1.0] * 3


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("xp", [torch, array_api_strict])
def test_with_dispatch_answers_come_in_the_callers_kind(xp, dtype, solver):
    X, Z = normal(8).astype(dtype), normal(3, seed=1).astype(dtype)
    expected = answers(weighting(X), Z)
    with config_context(array_api_dispatch=True):
        theirs, asked = xp.asarray(X), xp.asarray(Z)
        space = weighting(theirs, solver=solver)
        arrays = [space.weights, space.loss(), *space.leave_one_out()]
        arrays += [getattr(space, name)(asked) for name in QUESTIONS]
        assert {type(a) for a in arrays} == {type(theirs)}
        assert {a.dtype for a in arrays} == {xp.float64}
        found = {name: np.asarray(getattr(space, name)(asked)) for name in QUESTIONS}
        found["weights"] = np.asarray(space.weights)
        changed = space.extend(asked).drop([0, 1])
        assert isinstance(changed.weights, type(theirs))
    assert_same(found, {name: expected[name] for name in found}, 1e-12)
    assert isinstance(space.magnitude, float)


@pytest.mark.parametrize("xp", [torch, array_api_strict])
def test_with_dispatch_precomputed_distances_and_host_metrics_work(xp):
    X = np.abs(normal(6)) + 0.1
    with config_context(array_api_dispatch=True):
        theirs = xp.asarray(cdist(X, X))
        space = weighting(theirs, metric="precomputed")
        assert isinstance(space.gain(theirs), type(theirs))
        np.testing.assert_allclose(np.asarray(space.weights), weighting(X).weights, rtol=1e-11)
        for metric in ("canberra", "seuclidean", "mahalanobis"):
            theirs = weighting(xp.asarray(X), metric=metric)
            ours = weighting(X, metric=metric)
            np.testing.assert_allclose(np.asarray(theirs.weights), ours.weights, rtol=1e-11)


def test_answers_come_back_where_the_question_was():
    X, Z = normal(6), normal(2, seed=1)
    with config_context(array_api_dispatch=True):
        space = weighting(X)
        assert isinstance(space.potential(torch.from_numpy(Z)), torch.Tensor)
        assert isinstance(space.potential(Z), np.ndarray)
        assert isinstance(space.weights, np.ndarray)
        other = weighting(torch.from_numpy(X))
        assert isinstance(other.potential(Z), np.ndarray)


@pytest.mark.parametrize("dispatch", [True, False])
def test_tensors_that_require_grad_are_taken_as_data(dispatch):
    X = normal(6)
    with config_context(array_api_dispatch=dispatch):
        space = weighting(torch.tensor(X, requires_grad=True))
        assert np.asarray(space.weights).tolist() == weighting(X).weights.tolist()


def test_devices_are_taken_by_name():
    X = normal(6)
    assert weighting(X, device="cpu").magnitude == weighting(X).magnitude
    with pytest.raises(ValueError, match="device='abacus'"):
        weighting(X, device="abacus")


def test_a_weighting_moves_between_namespaces():
    X, Z = normal(6), normal(2, seed=1)
    space = weighting(X)
    with config_context(array_api_dispatch=True):
        moved = space.__sklearn_array_api_convert__(torch.asarray)
        assert isinstance(moved.weights, torch.Tensor)
        assert moved.weights.tolist() == space.weights.tolist()
        assert moved.gain(torch.from_numpy(Z)).tolist() == space.gain(Z).tolist()
        assert isinstance(space.weights, np.ndarray)


@pytest.mark.parametrize(
    "t", [0, 0.0, -1, np.nan, np.inf, "auto", "1", True, np.True_, None, [1.0], 1j], ids=repr
)
def test_scales_that_are_none_are_named(t):
    with pytest.raises(ValueError, match=r"^t="):
        weighting(normal(3), t=t)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (sp.csr_array(np.eye(3)), r"X is sparse \(csr_array\)"),
        (sp.coo_matrix(np.eye(3)), r"X is sparse \(coo_matrix\)"),
        (np.empty((0, 2)), r"X is empty, its shape is \(0, 2\)"),
        (np.empty((2, 0)), r"X is empty, its shape is \(2, 0\)"),
        ([], "X is empty"),
        (pd.DataFrame({"a": []}), r"X is empty, its shape is \(0, 1\)"),
        ([[]], "0 feature"),
        (np.ones(3), "Expected 2D array, got 1D array"),
        ([1.0, 2.0], "Expected 2D array, got 1D array"),
        (3.0, "Expected 2D array, got scalar"),
        (np.ones((2, 2, 2)), "dim 3"),
        ([[1.0, np.nan]], "Input X contains NaN"),
        ([[1.0, np.inf]], "Input X contains infinity"),
        ([[1.0, 1j]], "Complex data not supported"),
    ],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
def test_unusable_points_are_named(X, message):
    with pytest.raises(ValueError, match=message):
        weighting(X)


@pytest.mark.parametrize("question", [*QUESTIONS, "extend"])
def test_unusable_queries_are_named(question):
    ask = getattr(weighting(normal(5)), question)
    name = "points" if question == "extend" else "Z"
    with pytest.raises(ValueError, match=f"{name} has 2 columns, expected 3: as many features"):
        ask(normal(2, 2))
    with pytest.raises(ValueError, match=f"{name} is sparse"):
        ask(sp.csr_array(np.eye(3)))
    with pytest.raises(ValueError, match=f"{name} is empty"):
        ask(np.empty((0, 3)))
    with pytest.raises(ValueError, match=f"Input {name} contains NaN"):
        ask([[np.nan, 0, 0]])
    with pytest.raises(ValueError, match="Expected 2D array"):
        ask([0.0, 1.0, 2.0])


def test_precomputed_queries_have_a_column_for_each_row():
    table = weighting(cdist(normal(8), normal(8)), metric="precomputed")
    with pytest.raises(ValueError, match="Z has 7 columns, expected 8: one distance for each row"):
        table.potential(np.ones((2, 7)))


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
@pytest.mark.parametrize("d", [1, 3, 30])
def test_scale_knows_no_units(d, solver):
    X = normal(20, d)
    X[3] = X[9]
    here = weighting(X, t="scale", solver=solver)
    for c in (1e-9, 1e9):
        there = weighting(c * X, t="scale", solver=solver)
        assert there.t == pytest.approx(here.t / c, rel=1e-13)
        np.testing.assert_allclose(there.weights, here.weights, rtol=1e-11)
        assert there.magnitude == pytest.approx(here.magnitude, rel=1e-13)


@pytest.mark.parametrize("metric", ["precomputed", "cityblock", "canberra"])
def test_scale_is_one_over_the_median_distance(metric):
    X = np.abs(normal(6)) + 0.5  # 15 pairs
    name = "euclidean" if metric == "precomputed" else metric
    D = cdist(X, X, name)
    space = weighting(D if metric == "precomputed" else X, t="scale", metric=metric)
    assert space.t == pytest.approx(1 / np.median(D[np.triu_indices(6, 1)]), rel=1e-13)
    assert weighting(X[:1], t="scale").t == 1.0


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
@pytest.mark.parametrize(("d", "t"), [(3, 1.0), (3, 1e-9), (30, 0.2)])
def test_working_memory_changes_no_answer(d, t, solver):
    X, Z = normal(24, d), normal(5, d, seed=1)
    X[20] = X[2]
    expected = weighting(X, t=t, solver=solver)
    with config_context(working_memory=0.001):
        found = weighting(X, t=t, solver=solver)
        small = answers(found, Z)
        changed = answers(found.extend(Z).drop([0, 1, 2]), Z)
    assert_same(small, answers(expected, Z), 1e-11 if t < 1e-3 else 1e-12)
    assert found.magnitude == pytest.approx(expected.magnitude, rel=1e-13)
    assert_same(changed, answers(expected.extend(Z).drop([0, 1, 2]), Z), 1e-9)


@pytest.mark.parametrize("metric", ["cityblock", "canberra", "precomputed"])
def test_working_memory_changes_no_answer_of_other_metrics(metric):
    X, Z = np.abs(normal(30)) + 0.5, np.abs(normal(5, seed=1)) + 0.5
    if metric == "precomputed":
        X, Z = cdist(X, X), cdist(Z, X)
    expected = answers(weighting(X, t=2.0, metric=metric), Z)
    with config_context(working_memory=0.001):
        found = answers(weighting(X, t=2.0, metric=metric), Z)
    assert_same(found, expected, 1e-12)


@pytest.mark.parametrize("metric", ["euclidean", "minkowski", "cosine", "canberra", "precomputed"])
@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
def test_pickles_answer_alike(metric, solver):
    pool, Z = np.abs(normal(5, 5, seed=42)) + 0.5, np.abs(normal(3, 5, seed=43)) + 0.5
    X, new = pool[[0, 1, 2, 1, 3]], pool[[4, 0]]
    data = X
    if metric == "precomputed":
        data, Z, new = cdist(X, X), cdist(Z, X), cdist(new, np.vstack([X, new]))
    params = {"p": 1.5} if metric == "minkowski" else None
    space = weighting(data, t=0.9, metric=metric, metric_params=params, solver=solver)
    twin = pickle.loads(pickle.dumps(space))
    assert isinstance(twin, Weighting)
    assert repr(twin) == repr(space)
    assert_same(answers(twin, Z), answers(space, Z), 1e-15)
    assert twin.extend(new).drop(0).magnitude == space.extend(new).drop(0).magnitude
    assert pickle.dumps(twin) == pickle.dumps(space)


def test_pickles_keep_the_kind_of_array():
    with config_context(array_api_dispatch=True):
        space = weighting(torch.from_numpy(normal(5)))
        twin = pickle.loads(pickle.dumps(space))
        assert isinstance(twin.weights, torch.Tensor)
        assert twin.weights.tolist() == space.weights.tolist()


def test_line_pickles_answer_alike():
    X, Z = normal(9, 1), normal(4, 1, seed=1)
    space = weighting(X)
    twin = pickle.loads(pickle.dumps(space))
    assert twin.solver == "line"
    assert_same(answers(twin, Z), answers(space, Z), 1e-15)
