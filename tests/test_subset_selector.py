import pickle

import array_api_strict
import numpy as np
import pandas as pd
import polars as pl
import pytest
import skops.io
import torch
from reference import StopAfter, normal, peak_memory, within_limits
from scipy.spatial.distance import cdist
from sklearn import clone, config_context
from sklearn.callback import ProgressBar
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._array_api import get_namespace, move_estimator_to

from skmag import MagnitudeSubsetSelector, magnitude
from skmag._representatives import STRATEGIES
from skmag._scale import SCALES

each = pytest.mark.parametrize("strategy", STRATEGIES)


def fitted(X=None, **params):
    return MagnitudeSubsetSelector(**{"random_state": 0, **params}).fit(
        normal(50, 3) if X is None else X
    )


@each
def test_what_fit_learns(strategy):
    X = normal(50, 3)
    model = fitted(X, n_samples=12, strategy=strategy, t=0.7)
    rows = model.sample_indices_
    assert len(set(rows.tolist())) == 12
    assert model.t_ == 0.7
    np.testing.assert_array_equal(model.components_, X[rows])
    expected = [magnitude(X[rows[: k + 1]], t=0.7) for k in range(12)]
    np.testing.assert_allclose(model.magnitudes_, expected, rtol=1e-10)
    np.testing.assert_allclose(model.gains_, np.diff(expected, prepend=0), rtol=1e-8)
    assert model.magnitude_ is None


@each
def test_transform_gives_similarities(strategy):
    X, Z = normal(50, 3), normal(20, 3, seed=1)
    model = fitted(X, n_samples=12, strategy=strategy)
    expected = np.exp(-model.t_ * cdist(Z, X[model.sample_indices_]))
    np.testing.assert_allclose(model.transform(Z), expected, rtol=1e-12)
    with config_context(working_memory=1e-4):
        np.testing.assert_allclose(model.transform(Z), expected, rtol=1e-12)
    own = clone(model).fit_transform(X)
    assert (own[model.sample_indices_, range(12)] == 1).all()


def test_scale_is_the_number_over_the_median_distance():
    X = normal(31, 2)
    median = np.median(cdist(X, X)[np.triu_indices(31, 1)])
    assert fitted(X).t_ == pytest.approx(SCALES["representatives"] / median)
    # Other units, same choice.
    assert fitted(7 * X).sample_indices_.tolist() == fitted(X).sample_indices_.tolist()


@pytest.mark.parametrize(
    ("n_samples", "expected"),
    [(1, 1), (7, 7), (0.1, 6), (0.001, 1), (1.0, 50), (None, 50), (99, 50)],
)
def test_numbers_of_points(n_samples, expected):
    X = normal(50, 2)
    assert len(fitted(np.vstack([X, X[:10]]), n_samples=n_samples).sample_indices_) == expected


@each
def test_tolerance(strategy):
    X = normal(80, 2)
    model = fitted(X, n_samples=None, strategy=strategy, tol=0.1)
    assert model.magnitude_ == pytest.approx(magnitude(X, t=model.t_))
    assert model.magnitudes_[-1] >= 0.9 * model.magnitude_ > model.magnitudes_[-2]
    assert len(fitted(X, n_samples=2, strategy=strategy, tol=0.1).gains_) == 2


def test_tolerance_that_does_not_fit_the_memory(monkeypatch):
    monkeypatch.setattr("skmag._solvers._memory.available_memory", lambda device: 100.0)
    with pytest.raises(MemoryError, match="solver='cholesky' needs"):
        fitted(tol=0.1, solver="cholesky")
    assert len(fitted().gains_) == 50


def test_copies_count_once():
    X = normal(20, 2)
    many = np.vstack([X[[3, 3]], X])
    model = fitted(many, n_samples=None)
    assert len(model.sample_indices_) == 20
    # Rows 0, 1 and 5 are one point, of which the first row speaks.
    assert {0, 1, 5} & set(model.sample_indices_.tolist()) == {0}


def test_precomputed_distances_give_the_same_choice():
    X, Z = normal(40, 3), normal(7, 3, seed=1)
    for strategy in STRATEGIES:
        expected = fitted(X, n_samples=9, strategy=strategy)
        found = fitted(cdist(X, X), n_samples=9, strategy=strategy, metric="precomputed")
        assert found.sample_indices_.tolist() == expected.sample_indices_.tolist()
        np.testing.assert_allclose(found.transform(cdist(Z, X)), expected.transform(Z), rtol=1e-9)
        assert not hasattr(found, "components_")
    with pytest.raises(ValueError, match="negative distance"):
        found.transform(-cdist(Z, X))


@pytest.mark.parametrize("metric", ["cosine", "cityblock", "canberra", "callable"])
def test_other_metrics(metric):
    X, Z = np.abs(normal(30, 3)), np.abs(normal(5, 3, seed=1))
    own = "cityblock" if metric == "callable" else metric
    asked = (lambda a, b: np.abs(a - b).sum()) if metric == "callable" else metric
    model = fitted(X, n_samples=6, metric=asked)
    expected = np.exp(-model.t_ * cdist(Z, X[model.sample_indices_], own))
    np.testing.assert_allclose(model.transform(Z), expected, rtol=1e-9)


def test_a_progress_bar_of_every_step(capsys):
    model = MagnitudeSubsetSelector(10, random_state=0).set_callbacks(ProgressBar())
    plain = fitted(n_samples=10)
    assert model.fit(normal(50, 3)).sample_indices_.tolist() == plain.sample_indices_.tolist()
    assert "MagnitudeSubsetSelector" in capsys.readouterr().out


@each
def test_a_callback_ends_the_fit(strategy):
    whole = fitted(n_samples=20, strategy=strategy)
    model = MagnitudeSubsetSelector(20, strategy=strategy, random_state=0)
    model.set_callbacks(StopAfter(4)).fit(normal(50, 3))
    assert model.sample_indices_.tolist() == whole.sample_indices_[:5].tolist()
    assert model.transform(normal(3, 3)).shape == (3, 5)
    assert len(model.get_feature_names_out()) == 5


def test_as_features_of_a_pipeline():
    X, y = load_iris(return_X_y=True)
    pipe = make_pipeline(
        StandardScaler(),
        MagnitudeSubsetSelector(30, random_state=0),
        LogisticRegression(C=100, max_iter=5000),
    )
    assert cross_val_score(pipe, X, y).mean() > 0.93
    grid = {
        "magnitudesubsetselector__n_samples": [3, 20],
        "magnitudesubsetselector__strategy": list(STRATEGIES),
    }
    search = GridSearchCV(pipe, grid, cv=3).fit(X, y)
    assert search.best_params_["magnitudesubsetselector__n_samples"] == 20


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_output_with_names(output):
    X, frame = normal(30, 2), {"pandas": pd.DataFrame, "polars": pl.DataFrame}[output]
    model = MagnitudeSubsetSelector(4, random_state=0).set_output(transform=output)
    found = model.fit_transform(frame(X, columns=["a", "b"]) if output == "pandas" else X)
    assert isinstance(found, frame)
    names = [f"magnitudesubsetselector{i}" for i in range(4)]
    assert list(found.columns) == names == model.get_feature_names_out().tolist()
    np.testing.assert_array_equal(found.to_numpy(), fitted(X, n_samples=4).transform(X))


@each
@pytest.mark.parametrize("xp", [torch, array_api_strict])
def test_other_arrays_give_what_numpy_gives(xp, strategy):
    X, Z = normal(40, 3), normal(5, 3, seed=1)
    expected = fitted(X, n_samples=8, strategy=strategy)
    with config_context(array_api_dispatch=True):
        model = fitted(xp.asarray(X), n_samples=8, strategy=strategy)
        for name in ("sample_indices_", "gains_", "magnitudes_", "components_"):
            value = getattr(model, name)
            assert type(value).__module__.startswith(xp.__name__)
            np.testing.assert_array_equal(np.asarray(value), getattr(expected, name))
        found = model.transform(xp.asarray(Z))
        assert type(found).__module__.startswith(xp.__name__)
        np.testing.assert_array_equal(np.asarray(found), expected.transform(Z))
        with pytest.raises(ValueError, match="namespace"):
            model.transform(Z)


def test_a_fitted_model_moves_between_libraries():
    model, Z = fitted(n_samples=8), normal(5, 3, seed=1)
    expected = model.transform(Z)
    with config_context(array_api_dispatch=True):
        moved = move_estimator_to(model, get_namespace(torch.zeros(1))[0], "cpu")
        assert isinstance(moved.magnitudes_, torch.Tensor)
        np.testing.assert_array_equal(moved.transform(torch.from_numpy(Z)).numpy(), expected)


@pytest.mark.parametrize("how", ["pickle", "skops"])
@pytest.mark.parametrize("metric", ["euclidean", "canberra"])
def test_fitted_models_are_saved_and_loaded(how, metric, tmp_path):
    model, Z = fitted(n_samples=8, metric=metric), normal(5, 3, seed=1)
    if how == "pickle":
        loaded = pickle.loads(pickle.dumps(model))
    else:
        skops.io.dump(model, tmp_path / "model")
        trusted = skops.io.get_untrusted_types(file=tmp_path / "model")
        assert not any("Tensor" in name for name in trusted)
        loaded = skops.io.load(tmp_path / "model", trusted=trusted)
    np.testing.assert_array_equal(loaded.transform(Z), model.transform(Z))


def test_writing_into_the_data_afterwards_changes_nothing():
    X, Z = normal(50, 3), normal(5, 3, seed=1)
    A = X.copy()
    model = fitted(A)
    A[:] = 0
    np.testing.assert_array_equal(model.transform(Z), fitted(X).transform(Z))


def test_float32_and_frames():
    X = normal(40, 3).astype(np.float32)
    expected = fitted(X.astype(float), n_samples=8)
    for other in (X, pd.DataFrame(X).astype(float), torch.from_numpy(X), X.tolist()):
        model = fitted(other, n_samples=8)
        assert model.sample_indices_.tolist() == expected.sample_indices_.tolist()
        found = model.set_output(transform="default").transform(other)
        np.testing.assert_allclose(found, expected.transform(X.astype(float)), rtol=1e-9)


def test_a_metric_without_positive_definite_similarities_is_refused():
    table = np.ones((6, 6))
    table[:3, :3] = table[3:, 3:] = 2
    np.fill_diagonal(table, 0)
    with pytest.raises(ValueError, match=r"at t=0\.3 is not positive definite"):
        fitted(table, t=0.3, metric="precomputed")


@each
def test_small_blocks_change_nothing(strategy):
    X = normal(300, 20)
    expected = fitted(X, n_samples=12, strategy=strategy)
    with config_context(working_memory=0.01):
        found = fitted(X, n_samples=12, strategy=strategy)
    assert found.sample_indices_.tolist() == expected.sample_indices_.tolist()
    np.testing.assert_allclose(found.magnitudes_, expected.magnitudes_, rtol=1e-10)


def test_the_whole_by_an_iterative_solver():
    X = normal(120, 3)
    expected = fitted(X, n_samples=None, tol=0.05)
    found = fitted(X, n_samples=None, tol=0.05, solver="cg")
    assert found.magnitude_ == pytest.approx(expected.magnitude_, rel=5e-4)
    assert abs(len(found.gains_) - len(expected.gains_)) <= 2


def test_the_peak_of_a_choice():
    setup = """
import numpy as np, sklearn
from skmag import MagnitudeSubsetSelector
sklearn.set_config(working_memory=4)
X = np.random.default_rng(0).normal(size=(60_000, 4))
for strategy in ("greedy", "centers"):
    MagnitudeSubsetSelector(40, strategy=strategy, random_state=0).fit(X[:2000])"""
    n, m, data = 60_000, 40, 8 * 4 * 60_000
    taken = peak_memory(setup, f"MagnitudeSubsetSelector({m}, random_state=0).fit(X)")
    assert taken < 8 * n * (m + 14) + 5 * data + 12 * 2**20
    centers = f"MagnitudeSubsetSelector({m}, strategy='centers', random_state=0).fit(X)"
    # The median distance takes forty million bytes, whatever there is besides.
    assert peak_memory(setup, centers) < 8 * m * (m + 14) + 5 * data + 40e6


def test_too_little_memory_is_told():
    setup = """
import numpy as np
from skmag import MagnitudeSubsetSelector
X = np.random.default_rng(0).normal(size=(50_000, 3))
def chosen(m):
    return MagnitudeSubsetSelector(m, random_state=0).fit(X).sample_indices_.tolist()
expected = chosen(60)"""
    rooms = [2**20, 2**24, 2**25, 2**27]
    *told, enough = within_limits(setup, "chosen(60) == expected", rooms)
    assert enough == "True"
    for message in told:
        assert message.startswith("MemoryError")
        assert "n=50,000" in message
        assert "strategy='centers'" in message
