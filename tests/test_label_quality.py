import array_api_strict
import numpy as np
import pandas as pd
import pytest
import torch
from left_out import without
from numpy.testing import assert_allclose, assert_array_equal
from reference import dense_inverse, normal, with_copies
from scipy.spatial.distance import cdist
from sklearn import config_context
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from skmag import label_quality_scores

CRITERIA = ["residual", "potential"]


def questions(x, points, t):
    """Residual and potential of a point beside distinct others, by an explicit inverse."""
    if not len(points):
        return 1.0, 0.0
    k, inverse = np.exp(-t * cdist(x[None], points))[0], dense_inverse(points, t)
    return 1 - k @ inverse @ k, k @ inverse.sum(1)


@pytest.mark.parametrize("t", [0.1, 1.0, 7.0])
@pytest.mark.parametrize("d", [1, 2])
def test_scores_by_brute_force(d, t):
    X, y = normal(20, d), np.arange(20) % 3
    y[y == 2] = np.r_[2, np.zeros((y == 2).sum() - 1)]  # a class of one row
    expected = {name: [] for name in CRITERIA}
    for x, label in zip(X, y, strict=True):
        asked = [questions(x, without(X[y == c], x), t) for c in range(3)]
        own = asked.pop(label)
        other = min(residual for residual, _ in asked)
        expected["residual"].append(other / (own[0] + other))
        ratio = own[1] / questions(x, without(X, x), t)[1]
        expected["potential"].append(np.clip(ratio, 0, 1))
    for name, values in expected.items():
        assert_allclose(label_quality_scores(X, y, t=t, criterion=name), values, rtol=1e-7)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_copies_do_not_vouch_for_each_other(criterion):
    X, y = normal(20, 2), np.arange(20) // 10
    X[10:] += 4
    y[3] = 1
    alone = label_quality_scores(X, y, t=1.0, criterion=criterion)
    assert alone.argmin() == 3
    more, labels = np.vstack([X, X[[3, 3, 8]]]), [*y, 1, 1, 0]
    copied = label_quality_scores(more, labels, t=1.0, criterion=criterion)
    assert_allclose(copied, alone[[*range(20), 3, 3, 8]], rtol=1e-9)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_copies_of_other_labels_decide(criterion):
    X, y = with_copies(), np.array(list("aabbacaaabca"))  # copies 1, 3, 7, 8 are a, b, a, a
    scores = label_quality_scores(X, y, t=1.0, criterion=criterion)
    assert_allclose(scores[[1, 3, 7, 8]], [2 / 3, 0, 2 / 3, 2 / 3])
    one_each = label_quality_scores([[0.0], [0.0], [1.0]], [0, 1, 0], criterion=criterion)
    assert_array_equal(one_each[:2], 0.0)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_class_of_one_row_has_nothing_for_it(criterion):
    X = np.vstack([normal(15, 2), [[9.0, 9.0]]])
    y = np.r_[np.arange(15) % 2, 2]
    score = label_quality_scores(X, y, criterion=criterion)[-1]
    assert score < 0.5
    # In the middle of another class it is the worst of all.
    X[-1] = X[:-1].mean(0)
    assert label_quality_scores(X, y, criterion=criterion).argmin() == 15


def test_scores_between_zero_and_one_at_any_scale():
    X, y = normal(30, 3), np.arange(30) % 3
    for criterion in CRITERIA:
        for t in (1e-9, 1e-3, 1.0, 1e3, 1e9):
            scores = label_quality_scores(X, y, t=t, criterion=criterion)
            assert ((scores >= 0) & (scores <= 1)).all()
    # Nothing represents anything: there is no evidence for any class.
    assert_array_equal(label_quality_scores(X, y, t=1e9, criterion="potential"), 1 / 3)
    assert_array_equal(label_quality_scores(X, y, t=1e9), 0.5)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_scale_is_equivariant(criterion):
    X, y = normal(30, 3), np.arange(30) % 3
    expected = label_quality_scores(X, y, criterion=criterion)
    found = label_quality_scores(1e5 * X, y, criterion=criterion)
    assert_allclose(found, expected, rtol=1e-7)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_precomputed_distances_and_other_metrics(criterion):
    X, y = with_copies(), np.arange(12) % 3
    for metric in ("euclidean", "cityblock"):
        expected = label_quality_scores(X, y, criterion=criterion, metric=metric)
        table = cdist(X, X, metric)
        found = label_quality_scores(table, y, criterion=criterion, metric="precomputed")
        assert_allclose(found, expected, rtol=1e-8)


def test_parallel_classes():
    X, y = normal(40, 3), np.arange(40) % 4
    assert_array_equal(label_quality_scores(X, y, n_jobs=2), label_quality_scores(X, y))


def test_little_working_memory():
    X, y = normal(60, 3), np.arange(60) % 4
    expected = label_quality_scores(X, y)
    with config_context(working_memory=0.001):
        assert_allclose(label_quality_scores(X, y), expected, rtol=1e-9)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_kinds_of_data_and_labels(criterion):
    X, y = normal(20, 3), np.arange(20) % 3
    expected = label_quality_scores(X, y, criterion=criterion)
    for labels in (y.tolist(), pd.Series(y), torch.tensor(y), np.array(list("abc"))[y]):
        scores = label_quality_scores(X, labels, criterion=criterion)
        assert_array_equal(scores, expected)
    assert_array_equal(label_quality_scores(pd.DataFrame(X), y, criterion=criterion), expected)
    assert_array_equal(label_quality_scores(X.tolist(), y, criterion=criterion), expected)
    with config_context(array_api_dispatch=True):
        tensor = label_quality_scores(torch.from_numpy(X), torch.tensor(y), criterion=criterion)
        strict = label_quality_scores(array_api_strict.asarray(X), y, criterion=criterion)
    assert isinstance(tensor, torch.Tensor)
    assert_array_equal(tensor.numpy(), expected)
    assert strict.__array_namespace__() is array_api_strict
    assert_array_equal(np.asarray(strict), expected)


@pytest.mark.parametrize(("criterion", "floor"), [("residual", 0.995), ("potential", 0.99)])
def test_flipped_digits_are_found(criterion, floor):
    X, y = load_digits(return_X_y=True)
    for seed in range(2):
        rng = np.random.default_rng(seed)
        wrong = np.zeros(len(X), dtype=bool)
        wrong[rng.choice(len(X), len(X) // 20, replace=False)] = True
        given = np.where(wrong, (y + rng.integers(1, 10, len(X))) % 10, y)
        scores = label_quality_scores(X, given, criterion=criterion)
        assert roc_auc_score(~wrong, scores) > floor


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1], r"y has shape \(2,\), expected \(7,\)"),
        (np.zeros((7, 1)), r"y has shape \(7, 1\)"),
        ([0, 1, np.nan, 1, 0, 1, 0], "y holds missing values"),
        ([1] * 7, "y has one class only"),
        (None, "y has shape"),
    ],
)
def test_bad_labels(y, message):
    with pytest.raises(ValueError, match=message):
        label_quality_scores(normal(), y)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.full((2, 2), np.nan), "X contains NaN"),
        (np.empty((0, 2)), "X is empty"),
        (np.zeros(2), "2D array"),
    ],
)
def test_bad_data(X, message):
    with pytest.raises(ValueError, match=message):
        label_quality_scores(X, [0, 1])


def test_one_row_has_one_class():
    with pytest.raises(ValueError, match="one class only"):
        label_quality_scores([[1.0]], [0])


def test_bad_arguments():
    y = np.arange(7) % 2
    with pytest.raises(ValueError, match="criterion='gain' is unknown"):
        label_quality_scores(normal(), y, criterion="gain")
    with pytest.raises(ValueError, match="t=-1"):
        label_quality_scores(normal(), y, t=-1)


def test_indefinite_similarities_have_no_residuals():
    rng = np.random.default_rng(0)
    table = rng.uniform(0.1, 10, (30, 30))
    table = np.triu(table, 1) + np.triu(table, 1).T
    y = np.arange(30) % 2
    arguments = {"t": 0.2, "metric": "precomputed", "solver": "indefinite"}
    with pytest.raises(ValueError, match="criterion='residual' needs positive definite"):
        label_quality_scores(table, y, **arguments)
    scores = label_quality_scores(table, y, criterion="potential", **arguments)
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_missing_labels_are_refused(missing):
    y = np.array(["a", "b", missing, "a"], dtype=object)
    with pytest.raises(ValueError, match="y holds missing values"):
        label_quality_scores(np.arange(8.0).reshape(4, 2), y)


def test_numbers_that_are_no_classes_are_refused():
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        label_quality_scores(np.arange(8.0).reshape(4, 2), [0.1, 0.2, 0.3, 0.4])
