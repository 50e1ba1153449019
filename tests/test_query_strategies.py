import array_api_strict
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import dense_inverse, host, normal
from scipy.spatial.distance import cdist
from sklearn import config_context

from skmag import NotPositiveDefiniteWarning, magnitude_query
from skmag._query_strategies import (
    STRATEGIES,
    labelled_rows,
    margin_uncertainty,
    row_mask,
    split_labels,
)


def pool(n=40, n_classes=2, n_labelled=6, seed=0, d=3):
    """Points, predictions, a mask of labelled rows, uncertainties."""
    rng = np.random.default_rng(seed)
    X, predicted = rng.normal(size=(n, d)), rng.integers(n_classes, size=n)
    predicted[:n_classes] = np.arange(n_classes)
    labelled = np.zeros(n, dtype=bool)
    labelled[rng.choice(n, n_labelled, replace=False)] = True
    return X, predicted, labelled, rng.uniform(size=n)


def naive_weights(X, predicted, t, metric="euclidean"):
    """Absolute weight of each row's point in its class, by dense inversion."""
    out = np.empty(len(X))
    for c in np.unique(predicted):
        own = np.flatnonzero(predicted == c)
        points, where = np.unique(X[own], axis=0, return_inverse=True)
        out[own] = np.abs(dense_inverse(points, t, metric).sum(1))[where]
    return out


@pytest.mark.parametrize("seed", range(5))
def test_algorithm_2_of_the_paper(seed):
    X, predicted, labelled, _ = pool(seed=seed, n_labelled=8)
    weights, expected = naive_weights(X, predicted, 0.1, "cityblock"), []
    for c in (0, 1):
        rows = np.flatnonzero((predicted == c) & ~labelled)
        expected += [rows[weights[rows].argmin()], rows[weights[rows].argmax()]]
    found = magnitude_query(
        X, predicted, labelled=labelled, strategy="min_max", t=0.1, metric="cityblock"
    )
    assert found.tolist() == expected


def test_the_mixture_takes_half_of_the_batch_from_each_of_its_parts():
    X, predicted, labelled, unsure = pool(n_labelled=8)
    weights = naive_weights(X, predicted, 1.0)
    found = magnitude_query(X, predicted, labelled=labelled, uncertainty=unsure, t=1.0)
    left, expected = ~labelled, []
    for c in (0, 1):
        for value, rows in ((unsure, left), (weights, left & (predicted == c))):
            rows = np.flatnonzero(rows)
            expected.append(rows[value[rows].argmax()])
            left[expected[-1]] = False
            rows = np.flatnonzero(left)
    assert found.tolist() == expected


def test_labelled_points_take_part_in_the_weights():
    # 0 and 10 hold the ends; without them 4 and 6 would, and 5 would be least.
    X, predicted = [[0.0], [4.0], [4.5], [6.0], [10.0]], [0] * 5
    found = magnitude_query(X, predicted, labelled=[0, 4], strategy="max", batch_size=1, t=1.0)
    w = naive_weights(np.array(X), np.zeros(5), 1.0)
    assert found.tolist() == [1 + int(w[1:4].argmax())]
    assert found.tolist() == [3]
    alone = magnitude_query(X[1:4], [0] * 3, strategy="max", batch_size=3, t=1.0)
    assert alone.tolist() == [2, 0, 1]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 25),
    n_classes=st.integers(1, 5),
    copies=st.booleans(),
    strategy=st.sampled_from(sorted(STRATEGIES)),
    batch_size=st.integers(1, 30),
    by_mask=st.booleans(),
)
def test_every_choice_is_the_best_of_its_step(
    seed, n, n_classes, copies, strategy, batch_size, by_mask
):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    if copies:
        X = X[rng.integers(n, size=n)]
    # Copies have one prediction, as under any classifier.
    predicted = np.floor(n_classes * (np.sin(97 * X[:, 0]) / 2 + 0.5)).astype(int)
    unsure = rng.uniform(size=n)
    labelled = rng.uniform(size=n) < 0.4
    labelled[rng.integers(n)] = False
    asked = labelled if by_mask else np.flatnonzero(labelled)
    chosen, utilities = magnitude_query(
        X,
        predicted,
        labelled=asked,
        uncertainty=unsure,
        strategy=strategy,
        batch_size=batch_size,
        t=1.0,
        return_utilities=True,
    )
    assert len(chosen) == min(batch_size, int((~labelled).sum()))
    assert len(set(chosen.tolist())) == len(chosen)
    assert utilities.shape == (len(chosen), n)
    weights = naive_weights(X, predicted, 1.0)
    values = {"uncertain": unsure, "max": weights, "min": -weights}
    left, known = ~labelled, {tuple(x) for x in X[labelled]}
    seen = set()
    for row, utility in zip(chosen, utilities, strict=True):
        assert np.isnan(utility).tolist() == (~left).tolist()
        considered = utility > -np.inf
        assert considered[row]
        assert utility[row] == pytest.approx(utility[considered].max(), rel=1e-9)
        roles = [
            role
            for role in STRATEGIES[strategy]
            if np.allclose(values[role][considered], utility[considered], rtol=1e-6)
        ]
        assert roles
        seen.update(roles)
        # Points that are known already come last.
        fresh = np.array([tuple(x) not in known for x in X]) & left
        assert fresh[row] or not fresh.any()
        among = fresh if fresh.any() else left
        if roles != ["uncertain"] and not (considered == among).all():
            assert (considered == (among & (predicted == predicted[row]))).all()
        left[row] = False
        known.add(tuple(X[row]))
    if len(chosen) >= 2 * n_classes * len(STRATEGIES[strategy]):
        assert seen == set(STRATEGIES[strategy])


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@pytest.mark.parametrize("n_classes", [1, 2, 3])
def test_small_batches_go_on_where_the_last_one_stopped(strategy, n_classes):
    X, predicted, labelled, unsure = pool(n_classes=n_classes)
    asked = {"uncertainty": unsure, "strategy": strategy}
    at_once = magnitude_query(X, predicted, labelled=labelled, batch_size=12, **asked)
    one_by_one = []
    for _ in range(12):
        known = labelled.copy()
        known[one_by_one] = True
        one_by_one += magnitude_query(X, predicted, labelled=known, batch_size=1, **asked).tolist()
    assert at_once.tolist() == one_by_one


def test_classes_without_candidates_are_passed_over():
    X, predicted, _, unsure = pool(n_classes=3)
    candidates = np.flatnonzero(predicted == 1)[:5]
    for strategy in STRATEGIES:
        found = magnitude_query(
            X, predicted, candidates=candidates, uncertainty=unsure, strategy=strategy
        )
        assert len(found) == 4
        assert set(found) <= set(candidates)


def test_all_that_is_left_is_chosen():
    X, predicted, labelled, unsure = pool()
    for strategy in STRATEGIES:
        found = magnitude_query(
            X,
            predicted,
            labelled=labelled,
            uncertainty=unsure,
            strategy=strategy,
            batch_size=1000,
        )
        assert sorted(found) == np.flatnonzero(~labelled).tolist()


def test_copies_have_the_weight_of_their_point_and_come_last():
    X = np.array([[0.0], [0.0], [5.0], [1.0], [1.0], [2.0]])
    chosen, utilities = magnitude_query(
        X, [0] * 6, labelled=[2], strategy="max", batch_size=5, t=1.0, return_utilities=True
    )
    weights = naive_weights(X, np.zeros(6), 1.0)
    np.testing.assert_allclose(utilities[0][[0, 1, 3, 4, 5]], weights[[0, 1, 3, 4, 5]])
    assert X[chosen[:3], 0].tolist() == [0.0, 2.0, 1.0]
    assert X[chosen[3:], 0].tolist() == [0.0, 1.0]
    # A copy of a labelled point has the greatest weight, yet tells nothing new.
    known = magnitude_query(X, [0] * 6, labelled=[0], strategy="max", batch_size=5, t=1.0)
    assert X[known, 0].tolist()[:3] == [5.0, 2.0, 1.0]
    assert X[known[3:], 0].tolist() == [0.0, 1.0]
    # Candidates that are labelled come last likewise.
    again = magnitude_query(
        X, [0] * 6, candidates=[2, 5], labelled=[2], strategy="max", batch_size=2, t=1.0
    )
    assert again.tolist() == [5, 2]


def test_ties_follow_the_random_state():
    angle = np.arange(12) * np.pi / 6
    X = np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def choose(seed):
        return magnitude_query(
            X, np.zeros(12), strategy="max", batch_size=1, random_state=seed
        ).item()

    # On a regular polygon all weights are equal, up to rounding.
    assert {choose(seed) for seed in range(200)} == set(range(12))
    assert choose(3) == choose(3) == choose(np.random.RandomState(3))


def test_the_order_of_rows_changes_nothing():
    X, predicted, labelled, unsure = pool(n_classes=3)
    order = np.random.default_rng(1).permutation(len(X))
    for strategy in STRATEGIES:
        found, moved = (
            magnitude_query(
                X[rows],
                predicted[rows],
                labelled=labelled[rows],
                uncertainty=unsure[rows],
                strategy=strategy,
                batch_size=9,
            )
            for rows in (slice(None), order)
        )
        assert order[moved].tolist() == found.tolist()


def test_scale_is_one_over_the_median_and_follows_the_units():
    X, predicted, labelled, _ = pool()
    asked = {"labelled": labelled, "strategy": "min_max", "return_utilities": True}
    distances = cdist(X, X)[np.triu_indices(len(X), 1)]
    chosen, utilities = magnitude_query(X, predicted, **asked)
    fixed, same = magnitude_query(X, predicted, t=1 / np.median(distances), **asked)
    far, scaled = magnitude_query(1000 * X, predicted, **asked)
    assert chosen.tolist() == fixed.tolist() == far.tolist()
    np.testing.assert_allclose(same, utilities, rtol=1e-9)
    np.testing.assert_allclose(scaled, utilities, rtol=1e-9)


@pytest.mark.parametrize(
    ("metric", "params"), [("cityblock", {}), ("minkowski", {"p": 1.5}), ("canberra", {})]
)
def test_metrics_and_precomputed_distances(metric, params):
    X, predicted, labelled, _ = pool(n_classes=3)
    asked = {"labelled": labelled, "strategy": "min_max", "t": 0.7, "batch_size": 7}
    table = cdist(X, X, metric, **params)
    found = magnitude_query(X, predicted, metric=metric, metric_params=params, **asked)
    given = magnitude_query(table, predicted, metric="precomputed", **asked)
    assert found.tolist() == given.tolist()


def test_spaces_that_are_not_of_negative_type_are_told_of():
    # The complete bipartite graph of 3 + 2 vertices.
    side = np.array([0, 0, 0, 1, 1])
    table = np.where(side[:, None] == side, 2.0, 1.0)
    np.fill_diagonal(table, 0.0)
    with pytest.warns(NotPositiveDefiniteWarning):
        found = magnitude_query(
            table, np.zeros(5), metric="precomputed", t=0.1, strategy="max", batch_size=2
        )
    w = np.abs(np.linalg.solve(np.exp(-0.1 * table), np.ones(5)))
    assert w[found[0]] == pytest.approx(w.max())


KINDS = [
    (lambda values: np.asarray(values).tolist(), np.ndarray, False),
    (pd.DataFrame, np.ndarray, False),
    (pl.DataFrame, np.ndarray, False),
    (torch.as_tensor, np.ndarray, False),
    (torch.as_tensor, torch.Tensor, True),
    (array_api_strict.asarray, type(array_api_strict.asarray([1.0])), True),
]


@pytest.mark.parametrize(("make", "back", "dispatch"), KINDS)
def test_kinds_of_arrays(make, back, dispatch):
    X, predicted, labelled, unsure = pool()
    expected = magnitude_query(
        X, predicted, labelled=labelled, uncertainty=unsure, return_utilities=True
    )
    vector = make if dispatch or make is torch.as_tensor else np.asarray
    with config_context(array_api_dispatch=dispatch):
        found = magnitude_query(
            make(X),
            vector(predicted),
            labelled=vector(labelled),
            uncertainty=vector(unsure),
            return_utilities=True,
        )
    for ours, theirs in zip(found, expected, strict=True):
        assert isinstance(ours, back)
        np.testing.assert_allclose(host(ours), theirs)


@pytest.mark.parametrize("predicted", [["b"] * 3 + ["a"] * 3, [2.5] * 3 + [-1.0] * 3])
def test_any_labels(predicted):
    X = normal(6)
    found = magnitude_query(X, predicted, strategy="max", batch_size=2, t=1.0)
    w = naive_weights(X, np.repeat([1, 0], 3), 1.0)
    assert found.tolist() == [3 + w[3:].argmax(), w[:3].argmax()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": "best"}, "strategy='best' is unknown"),
        ({"uncertainty": None}, "needs uncertainty.*'max', 'min_max'"),
        ({"uncertainty": [0.1] * 3}, "uncertainty must hold"),
        ({"uncertainty": [np.nan] * 40}, "of which 0 are finite"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": True}, "batch_size=True"),
        ({"batch_size": 2.0}, "batch_size=2.0"),
        ({"labelled": np.ones(40, dtype=bool)}, "no candidate is left.*40 rows are labelled"),
        ({"candidates": []}, "no candidate is left"),
        ({"candidates": [40]}, "candidates goes from 40 to 40"),
        ({"candidates": [0.5]}, "candidates must hold indices"),
        ({"labelled": [True] * 3}, "labelled is a mask of 3 rows"),
        ({"t": -1.0}, "t=-1.0"),
        ({"predicted": [0, 1]}, "inconsistent numbers of samples"),
        ({"random_state": "x"}, "cannot be used to seed"),
        ({"metric": "precomputed"}, "square matrix"),
    ],
)
def test_errors_name_the_argument(change, message):
    X, predicted, labelled, unsure = pool()
    given = {"predicted": predicted, "labelled": labelled, "uncertainty": unsure, **change}
    with pytest.raises(ValueError, match=message):
        magnitude_query(X, **given)


def test_row_masks():
    assert row_mask([2, -3], 3, "rows").tolist() == [True, False, True]
    assert row_mask(np.array([1], dtype=np.uint8), 2, "rows").tolist() == [False, True]
    assert not row_mask([], 2, "rows").any()


def test_margins():
    assert margin_uncertainty(np.array([-2.0, 0.5])).tolist() == [-2.0, -0.5]
    assert margin_uncertainty(np.ones((2, 1))).tolist() == [0.0, 0.0]
    found = margin_uncertainty(np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]]))
    np.testing.assert_allclose(found, [-0.2, 0.0])


NAN, NA = float("nan"), pd.NA


@pytest.mark.parametrize(
    ("y", "unlabelled", "labels"),
    [
        ([0, -1, 1, 2], "auto", [0, None, 1, 2]),
        ([0.0, NAN, 1.0], "auto", [0.0, None, 1.0]),
        (["a", None, "b"], "auto", ["a", None, "b"]),
        (np.array(["a", -1, "b"], dtype=object), "auto", ["a", None, "b"]),
        (np.array([0, None, 1], dtype=object), "auto", [0, None, 1]),
        (pd.Series([0, NA, 1], dtype="Int64"), "auto", [0, None, 1]),
        (pd.Series(["a", None, "b"]), "auto", ["a", None, "b"]),
        (pd.Series(["a", None, "b"], dtype="category"), "auto", ["a", None, "b"]),
        (pl.Series([0, None, 1]), "auto", [0, None, 1]),
        (pl.Series(["a", None, "b"]), "auto", ["a", None, "b"]),
        (torch.tensor([0, -1, 1]), "auto", [0, None, 1]),
        # With missing values, -1 is a class; so it is beside 1 alone.
        ([-1.0, NAN, 1.0, -1.0], "auto", [-1, None, 1, -1]),
        (np.array([-1, None, 0, 1], dtype=object), "auto", [-1, None, 0, 1]),
        ([-1, 1, 1], "auto", [-1, 1, 1]),
        ([-1.0, 1.0], "auto", [-1, 1]),
        # What is asked for counts.
        ([-1, 1, 1], -1, [None, 1, 1]),
        ([-1, 0, 1], None, [-1, 0, 1]),
        ([-1, 0, 1], NAN, [-1, 0, 1]),
        ([-1.0, NAN, 0.0], NAN, [-1, None, 0]),
        (["a", "?", "b"], "?", ["a", None, "b"]),
        ([True, False], "auto", [True, False]),
        (["auto", "b"], "auto", ["auto", "b"]),
        ([0, 1, 2], -1, [0, 1, 2]),
        (np.array([0, 255, 1], dtype=np.uint8), 255, [0, None, 1]),
    ],
)
def test_which_rows_are_labelled(y, unlabelled, labels):
    mask = [label is not None for label in labels]
    assert labelled_rows(y, unlabelled)[0].tolist() == mask
    found, own = split_labels(y, unlabelled)
    assert found.tolist() == mask
    assert own.dtype.kind in "biufU"
    assert own.tolist() == [label for label in labels if label is not None]


@pytest.mark.parametrize(
    ("y", "unlabelled", "message"),
    [
        ([-1, -1], "auto", "no labelled row among 2"),
        ([NAN, NAN], "auto", "no labelled row"),
        ([NAN, 0.0, -1.0], -1, "1 missing values"),
        ([0.5, 1.5, NAN], "auto", "continuous"),
        ([np.inf, 0.0, NAN], "auto", "infinity"),
        (np.array(["a", 1, None], dtype=object), "auto", "mixes strings"),
    ],
)
def test_labels_that_are_none(y, unlabelled, message):
    with pytest.raises(ValueError, match=message):
        split_labels(y, unlabelled)


@pytest.mark.parametrize("missing", [float("nan"), None])
def test_missing_values_beside_strings_are_no_class(missing):
    labelled, values = labelled_rows(["a", "b", missing, missing], "auto")
    assert labelled.tolist() == [True, True, False, False]
    assert values[:2].tolist() == ["a", "b"]
