import pickle
import warnings

import array_api_strict
import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import skops.io
import torch
from left_out import (
    METHODS,
    assert_same_answers,
    blobs,
    queries,
)
from scipy.spatial.distance import cdist
from sklearn import clone, config_context
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedShuffleSplit,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._array_api import get_namespace, move_estimator_to

from skmag import MagnitudeClassifier, MagnitudeClassifierCV
from skmag._criteria import CRITERIA


@pytest.mark.parametrize("criterion", CRITERIA)
def test_float32(criterion):
    X, y = blobs()
    X, Z = X.astype(np.float32), queries(100).astype(np.float32)
    found = MagnitudeClassifier(criterion=criterion).fit(X, y)
    expected = MagnitudeClassifier(criterion=criterion).fit(X.astype(float), y)
    assert_same_answers(found, expected, Z.astype(float), Z)


def test_one_feature():
    X, y = blobs(d=1)
    Z = queries(30, 1)
    line = MagnitudeClassifier(1.0).fit(X, y)
    assert line.weightings_[0].solver == "line"
    assert_same_answers(line, MagnitudeClassifier(1.0, solver="cholesky").fit(X, y), Z, rtol=1e-8)


def test_integers_and_lists():
    X = [[0, 0], [1, 0], [7, 7], [8, 7]]
    model = MagnitudeClassifier().fit(X, [0, 0, 1, 1])
    assert model.predict([[0, 1], [8, 8]]).tolist() == [0, 1]


def test_order_of_queries_and_training_points(fitted):
    model, X, y = fitted
    Z, rng = np.vstack([queries(100), X[:10]]), np.random.default_rng(0)
    score, order = model.decision_function(Z), rng.permutation(110)
    np.testing.assert_allclose(model.decision_function(Z[order]), score[order], rtol=1e-12)
    assert (model.predict(Z[order]) == model.predict(Z)[order]).all()
    one = np.concatenate([model.predict(Z[i : i + 1]) for i in range(30)])
    assert (one == model.predict(Z)[:30]).all()
    shuffled = rng.permutation(len(X))
    again = clone(model).fit(X[shuffled], y[shuffled])
    np.testing.assert_allclose(again.decision_function(Z), score, rtol=1e-8)


def test_little_working_memory(fitted):
    model, X, y = fitted
    Z = queries(100)
    with config_context(working_memory=0.002):
        small = clone(model).fit(X, y)
        assert_same_answers(small, model, Z)
        found = small.decision_function(Z)
    np.testing.assert_allclose(found, model.decision_function(Z), rtol=1e-10)


@pytest.mark.parametrize("criterion", ["residual", "percentile"])
def test_parallel_classes_give_the_same_answers(criterion):
    X, y = blobs()
    model = MagnitudeClassifier(1.0, criterion=criterion, null_label=-1, null_alpha=0.2)
    found, expected = clone(model).set_params(n_jobs=2).fit(X, y), clone(model).fit(X, y)
    for method in METHODS:
        np.testing.assert_array_equal(
            getattr(found, method)(queries()), getattr(expected, method)(queries())
        )


def test_writing_into_the_data_afterwards_changes_nothing():
    X, y = blobs()
    A, b = X.copy(), y.copy()
    model = MagnitudeClassifier().fit(A, b)
    A[:], b[:] = 0, 0
    assert_same_answers(model, MagnitudeClassifier().fit(X, y), queries(), rtol=1e-15)


def test_grid_search_over_scales_and_criteria():
    X, y = blobs(120)
    grid = {"t": [0.01, 1.0, "scale"], "criterion": ["residual", "percentile"]}
    search = GridSearchCV(MagnitudeClassifier(), grid, cv=3).fit(X, y)
    assert len(search.cv_results_["params"]) == 6
    best = MagnitudeClassifier(**search.best_params_)
    assert search.best_score_ == pytest.approx(cross_val_score(best, X, y, cv=3).mean())
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()
    # Folds that leave a class for each split also serve mappings.
    mapped = GridSearchCV(MagnitudeClassifier(), {"t": [{0: 1.0, 1: 2.0, 2: 0.5}]}, cv=3).fit(X, y)
    assert mapped.best_estimator_.t_.tolist() == [1.0, 2.0, 0.5]


def test_clone_copies_parameters_only():
    model = MagnitudeClassifier({0: 1.0, 1: 2.0, 2: 3.0}, criterion="gain", n_jobs=2)
    twin = clone(model.fit(*blobs()))
    assert twin.get_params() == model.get_params()
    assert not hasattr(twin, "classes_")


@pytest.mark.parametrize("how", ["pickle", "joblib", "skops"])
@pytest.mark.parametrize(
    "params",
    [
        {"null_label": -1, "null_alpha": 0.1},
        {"criterion": "percentile", "solver": "mixed"},
        {"metric": "cosine", "t": 20.0},
        {"metric": "minkowski", "metric_params": {"p": 3}, "solver": "indefinite"},
        {"metric": "precomputed"},
        {"metric": "canberra"},
    ],
    ids=str,
)
def test_fitted_models_are_saved_and_loaded(params, how, tmp_path):
    X, y = blobs()
    Z = queries()
    if params.get("metric") == "precomputed":
        X, Z = cdist(X, X), cdist(Z, X)
    model = MagnitudeClassifier(**{"t": 0.5, **params}).fit(X, y)
    if how == "pickle":
        loaded = pickle.loads(pickle.dumps(model))
    elif how == "joblib":
        joblib.dump(model, tmp_path / "model.joblib")
        loaded = joblib.load(tmp_path / "model.joblib")
    else:
        skops.io.dump(model, tmp_path / "model.skops")
        trusted = skops.io.get_untrusted_types(file=tmp_path / "model.skops")
        assert not any("Tensor" in name for name in trusted)
        loaded = skops.io.load(tmp_path / "model.skops", trusted=trusted)
    for method in METHODS:
        np.testing.assert_array_equal(getattr(loaded, method)(Z), getattr(model, method)(Z))
    np.testing.assert_array_equal(loaded.weightings_[0].weights, model.weightings_[0].weights)


@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
def test_in_a_pipeline(output):
    X, y = blobs()
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    pipe = make_pipeline(StandardScaler(), MagnitudeClassifier()).set_output(transform=output)
    predicted = pipe.fit(frame, y).predict(frame + 0.1)
    scaler = StandardScaler().fit(X)
    model = MagnitudeClassifier().fit(scaler.transform(X), y)
    assert predicted.tolist() == model.predict(scaler.transform(X + 0.1)).tolist()
    last = pipe[-1]
    assert hasattr(last, "feature_names_in_") == (output != "default")


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames_and_their_names(frame):
    X, y = blobs()
    columns = [f"f{i}" for i in range(3)]
    make = (
        (lambda A: pd.DataFrame(A, columns=columns))
        if frame is pd.DataFrame
        else (lambda A: pl.DataFrame(A, schema=columns))
    )
    model = MagnitudeClassifier().fit(make(X), y)
    assert model.feature_names_in_.tolist() == columns
    assert model.predict(make(queries())).tolist() == (
        MagnitudeClassifier().fit(X, y).predict(queries()).tolist()
    )
    other = make(queries())
    other.columns = ["f0", "f2", "f1"]
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(other)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(queries())


def test_wrong_numbers_of_features():
    model = MagnitudeClassifier().fit(*blobs())
    with pytest.raises(ValueError, match="2 features, but MagnitudeClassifier is expecting 3"):
        model.predict(queries(5, 2))


@pytest.mark.parametrize("metric", ["euclidean", "cityblock"])
def test_precomputed_distances_give_the_same_scores(metric):
    X, y = blobs()
    X = np.vstack([X, X[:4]])
    y = np.concatenate([y, y[:4]])
    D = cdist(X, X, metric)
    splits = list(StratifiedShuffleSplit(4, test_size=0.3, random_state=0).split(X, y))
    found = cross_val_score(MagnitudeClassifier(metric="precomputed"), D, y, cv=splits)
    expected = cross_val_score(MagnitudeClassifier(metric=metric), X, y, cv=splits)
    assert found.tolist() == expected.tolist()
    model = MagnitudeClassifier(metric="precomputed").fit(D, y)
    Z = queries()
    direct = MagnitudeClassifier(metric=metric).fit(X, y)
    assert_same_answers(model, direct, Z, cdist(Z, X, metric), rtol=1e-7)


def test_a_metric_of_ones_own():
    X, y = blobs(30)
    found = MagnitudeClassifier(metric=lambda a, b: float(np.abs(a - b).sum())).fit(X, y)
    assert_same_answers(found, MagnitudeClassifier(metric="cityblock").fit(X, y), queries(10))


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("xp", [torch, array_api_strict])
def test_other_arrays_predict_what_numpy_predicts(xp, criterion):
    X, y = blobs()
    Z = np.vstack([queries(), X[:4]])
    params = {"criterion": criterion, "null_label": -1, "null_alpha": 0.1}
    expected = MagnitudeClassifier(1.0, **params).fit(X, y)
    with config_context(array_api_dispatch=True):
        model = MagnitudeClassifier(1.0, **params).fit(xp.asarray(X), xp.asarray(y))
        for method in METHODS:
            found = getattr(model, method)(xp.asarray(Z))
            assert type(found).__module__.startswith(xp.__name__)
            np.testing.assert_array_equal(np.asarray(found), getattr(expected, method)(Z))
        for name in ("classes_", "t_", "magnitudes_", "weights_"):
            found = getattr(model, name)
            assert type(found).__module__.startswith(xp.__name__)
            np.testing.assert_array_equal(np.asarray(found), getattr(expected, name))
        with pytest.raises(ValueError, match="namespace"):
            model.predict(Z)


def test_names_of_classes_stay_numpy_beside_torch():
    X, y = blobs()
    names = np.array(["a", "b", "c"])[y]
    with config_context(array_api_dispatch=True):
        model = MagnitudeClassifier().fit(torch.from_numpy(X), names)
        found = model.predict(torch.from_numpy(queries()))
    assert isinstance(found, np.ndarray)
    assert found.tolist() == MagnitudeClassifier().fit(X, names).predict(queries()).tolist()


def test_a_fitted_model_moves_between_libraries():
    X, y = blobs()
    Z = queries()
    model = MagnitudeClassifier(1.0, null_label=-1, null_alpha=0.1).fit(X, y)
    expected = {method: getattr(model, method)(Z) for method in METHODS}
    with config_context(array_api_dispatch=True):
        moved = move_estimator_to(model, get_namespace(torch.zeros(1))[0], "cpu")
        assert isinstance(moved.magnitudes_, torch.Tensor)
        for method, value in expected.items():
            found = getattr(moved, method)(torch.from_numpy(Z))
            assert isinstance(found, torch.Tensor)
            np.testing.assert_array_equal(found.numpy(), value)
        assert isinstance(moved.weightings_[0].weights, torch.Tensor)
        back = move_estimator_to(moved, np, "cpu")
    for method, value in expected.items():
        found = getattr(back, method)(Z)
        assert isinstance(found, np.ndarray)
        np.testing.assert_array_equal(found, value)


def test_a_model_fitted_on_tensors_is_pickled():
    X, y = (torch.from_numpy(part) for part in blobs())
    with config_context(array_api_dispatch=True):
        model = MagnitudeClassifier().fit(X, y)
        loaded = pickle.loads(pickle.dumps(model))
        assert torch.equal(loaded.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("dispatch", [True, False])
@pytest.mark.parametrize("make", [MagnitudeClassifier, MagnitudeClassifierCV])
def test_tensors_that_require_grad_are_taken_as_data(make, dispatch):
    X, y = blobs()
    Z, expected = queries(), make().fit(X, y)
    with config_context(array_api_dispatch=dispatch):
        data, asked = (torch.tensor(part, requires_grad=True) for part in (X, Z))
        model = make().fit(data, torch.from_numpy(y) if dispatch else y)
        for method in METHODS:
            found = getattr(model, method)(asked)
            assert isinstance(found, torch.Tensor) == dispatch
            assert not getattr(found, "requires_grad", False)
            np.testing.assert_array_equal(np.asarray(found), getattr(expected, method)(Z))
    assert data.requires_grad


@pytest.mark.parametrize("params", [{}, {"solver": "mixed"}, {"metric": "canberra"}], ids=str)
def test_models_are_mapped_from_a_file(params, tmp_path):
    X, y = blobs()
    model = MagnitudeClassifier(0.5, null_label=-1, null_alpha=0.1, **params).fit(X, y)
    joblib.dump(model, tmp_path / "model.joblib")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
        for method in METHODS:
            found = getattr(loaded, method)(queries())
            np.testing.assert_array_equal(found, getattr(model, method)(queries()))
        found, expected = (m.weightings_[0].extend(X[:2]).drop(0) for m in (loaded, model))
    np.testing.assert_array_equal(found.weights, expected.weights)
