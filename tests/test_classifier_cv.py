import pickle

import array_api_strict
import numpy as np
import pytest
import torch
from left_out import left_out_scores
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import cdist, pdist
from scipy.special import log_softmax
from sklearn import clone, config_context
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.metrics import accuracy_score, balanced_accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmag import MagnitudeClassifier, MagnitudeClassifierCV
from skmag._criteria import CRITERIA

TS = (0.05, 0.7, 4.0)


def blobs(n=36, d=3, seed=0):
    """Three classes of unequal size that overlap."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(3), [n // 6, n // 3, n - n // 6 - n // 3])
    return 1.2 * rng.normal(size=(3, d))[y] + rng.normal(size=(n, d)), y


def with_copies():
    """Copies within a class, and a point that two classes share."""
    X, y = blobs()
    return np.vstack([X, X[:2], X[20:21], X[30:31]]), np.concatenate([y, y[:2], y[20:21], [0]])


@pytest.fixture(scope="module")
def searched():
    X, y = blobs()
    model = MagnitudeClassifierCV(TS, criteria=CRITERIA, store_cv_results=True).fit(X, y)
    return model, X, y


@pytest.mark.parametrize("criterion", CRITERIA)
def test_scores_equal_dense_leave_one_out(searched, criterion):
    model, X, y = searched
    for i, t in enumerate(TS):
        found = model.cv_results_[:, :, i, CRITERIA.index(criterion)]
        expected = left_out_scores(X, y, t)[criterion]
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_scores_equal_fitting_again_without_the_row(searched, criterion):
    model, X, y = searched
    rows = np.arange(0, len(X), 2)
    for i in rows:
        keep = np.arange(len(X)) != i
        refit = MagnitudeClassifier(TS[1], criterion=criterion).fit(X[keep], y[keep])
        found = model.cv_results_[i, :, 1, CRITERIA.index(criterion)]
        np.testing.assert_allclose(
            found, refit.decision_function(X[i : i + 1])[0], rtol=1e-8, atol=1e-8
        )
        assert found.argmax() == refit.predict(X[i : i + 1])[0]


@pytest.mark.parametrize("solver", ["mixed", "indefinite"])
def test_every_solver_leaves_out_the_same(searched, solver):
    model, X, y = searched
    other = MagnitudeClassifierCV(TS, criteria=CRITERIA, store_cv_results=True, solver=solver).fit(
        X, y
    )
    np.testing.assert_allclose(other.cv_results_, model.cv_results_, rtol=1e-8, atol=1e-8)


def test_on_the_line():
    X, y = blobs(d=1)
    model = MagnitudeClassifierCV([1.0], criteria=CRITERIA, store_cv_results=True).fit(X, y)
    assert model.weightings_[0].solver == "line"
    expected = left_out_scores(X, y, 1.0)
    for j, criterion in enumerate(CRITERIA):
        np.testing.assert_allclose(
            model.cv_results_[:, :, 0, j], expected[criterion], rtol=1e-8, atol=1e-8
        )


def test_precomputed_distances():
    X, y = blobs()
    params = {"criteria": CRITERIA, "store_cv_results": True}
    found = MagnitudeClassifierCV(metric="precomputed", **params).fit(cdist(X, X), y)
    expected = MagnitudeClassifierCV(**params).fit(X, y)
    np.testing.assert_allclose(found.cv_results_, expected.cv_results_, rtol=1e-8, atol=1e-8)
    np.testing.assert_array_equal(found.scores_, expected.scores_)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_point_leaves_with_its_copies(criterion):
    X, y = with_copies()
    model = MagnitudeClassifierCV([0.7], criteria=[criterion], store_cv_results=True).fit(X, y)
    for i in range(len(X)):
        gone = (X[i] == X).all(1) & (y == y[i])
        refit = MagnitudeClassifier(0.7, criterion=criterion).fit(X[~gone], y[~gone])
        np.testing.assert_allclose(
            model.cv_results_[i, :, 0, 0],
            refit.decision_function(X[i : i + 1])[0],
            rtol=1e-8,
            atol=1e-8,
        )


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_class_loses_its_only_point(criterion):
    # What is left of the class represents nothing: the point cannot be told to belong to it.
    X, y = blobs()
    X, y = np.vstack([X, X[10] + 0.01]), np.append(y, 3)
    model = MagnitudeClassifierCV([0.7], criteria=[criterion], store_cv_results=True).fit(X, y)
    assert model.cv_results_[-1, :, 0, 0].argmax() != 3
    assert np.isfinite(model.cv_results_).all()


@pytest.mark.parametrize("criterion", ["residual", "weight", "gain", "potential"])
@pytest.mark.parametrize("t", [1e3, 1e6, 1e12])
def test_where_scores_saturate_the_nearest_other_point_decides(criterion, t):
    X, y = blobs(60)
    X = X + 8 * np.eye(3)[y]
    model = MagnitudeClassifierCV([t], criteria=[criterion]).fit(X, y)
    distance = cdist(X, X)
    np.fill_diagonal(distance, np.inf)
    assert model.best_score_ == np.mean(y[distance.argmin(1)] == y) > 0.9


def test_little_working_memory(searched):
    model, X, y = searched
    with config_context(working_memory=0.002):
        small = clone(model).fit(X, y)
    np.testing.assert_allclose(small.cv_results_, model.cv_results_, rtol=1e-9, atol=1e-12)


def test_the_best_candidate_wins(searched):
    model, _, y = searched
    assert model.scores_.shape == (3, 5)
    hit = model.cv_results_.argmax(1) == y[:, None, None]
    np.testing.assert_allclose(model.scores_, hit.mean(0))
    assert len(np.unique(model.scores_)) > 3
    i, j = np.unravel_index(model.scores_.argmax(), model.scores_.shape)
    assert (model.best_t_, model.best_criterion_) == (TS[i], CRITERIA[j])
    assert model.best_score_ == model.scores_.max()
    np.testing.assert_array_equal(model.ts_, np.repeat(np.array(TS)[:, None], 5, axis=1))


def test_the_winner_is_kept_as_if_fitted_alone(searched):
    model, X, y = searched
    alone = MagnitudeClassifier(model.best_t_, criterion=model.best_criterion_).fit(X, y)
    Z = np.random.default_rng(1).normal(size=(40, 3))
    for method in ("decision_function", "predict_proba", "predict"):
        np.testing.assert_allclose(
            getattr(model, method)(Z), getattr(alone, method)(Z), rtol=1e-10, err_msg=method
        )
    for name in ("classes_", "t_", "magnitudes_", "weights_", "slope_"):
        np.testing.assert_allclose(getattr(model, name), getattr(alone, name), rtol=1e-12)


def test_of_equal_candidates_the_first_wins():
    X, y = blobs()
    apart = X + 100 * np.eye(3)[y]
    for ts in [(0.02, 0.1), (0.1, 0.02)]:
        model = MagnitudeClassifierCV(ts, criteria=("gain", "residual")).fit(apart, y)
        assert (model.scores_ == 1).all()
        assert (model.best_t_, model.best_criterion_) == (ts[0], "gain")


def test_default_grid():
    X, y = blobs(42)
    model = MagnitudeClassifierCV().fit(X, y)
    expected = np.array([0.03, 0.1, 0.3, 1, 3, 10, 30]) / np.median(pdist(X))
    np.testing.assert_allclose(model.ts_[:, 0], expected, rtol=1e-12)
    assert model.scores_.shape == (7, 1)
    assert model.best_criterion_ == "residual"
    assert not hasattr(model, "cv_results_")


def test_scale_is_one_of_the_candidates_and_its_own_for_each_criterion():
    X, y = blobs(42)
    model = MagnitudeClassifierCV(
        ["scale", 0.5], criteria=("residual", "weight"), store_cv_results=True
    ).fit(X, y)
    median = np.median(pdist(X))
    np.testing.assert_allclose(model.ts_, [[0.1 / median, 10 / median], [0.5, 0.5]], rtol=1e-12)
    for i in range(2):
        for j, criterion in enumerate(("residual", "weight")):
            expected = left_out_scores(X, y, model.ts_[i, j])[criterion]
            np.testing.assert_allclose(
                model.cv_results_[:, :, i, j], expected, rtol=1e-8, atol=1e-8
            )


def test_a_better_scale_is_found_on_digits():
    X, y = load_digits(return_X_y=True)
    A, B, a, b = X[:700], X[700:1200], y[:700], y[700:1200]
    model = MagnitudeClassifierCV([100.0, 0.005], criteria=("weight", "residual")).fit(A, a)
    assert (model.best_t_, model.best_criterion_) == (0.005, "residual")
    assert model.best_score_ == pytest.approx(model.score(B, b), abs=0.04)
    assert model.best_score_ > 0.95


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"ts": []}, "ts is empty"),
        ({"ts": [0.1, 0.0]}, r"ts\[1\]=0.0"),
        ({"ts": [-1.0]}, r"ts\[0\]=-1.0"),
        ({"ts": [0.1, np.inf]}, r"ts\[1\]=inf"),
        ({"ts": [np.nan]}, r"ts\[0\]=nan"),
        ({"ts": [0.1, "median"]}, r"ts\[1\]='median'"),
        ({"ts": 0.1}, "'ts' parameter"),
        ({"ts": "scale"}, "'ts' parameter"),
        ({"criteria": ()}, r"criteria=\(\)"),
        ({"criteria": ("residual", "distance")}, r"criteria=\('residual', 'distance'\)"),
        ({"criteria": ("residual", "residual")}, "criteria="),
        ({"criteria": None}, "'criteria' parameter"),
        ({"scoring": "acuracy"}, "'scoring' parameter"),
        ({"null_alpha": 0.1}, "null_label"),
        ({"null_alpha": 0.1, "null_label": 2}, "null_label=2 is a class"),
    ],
)
def test_unusable_parameters_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        MagnitudeClassifierCV(**params).fit(*blobs())


def test_balanced_accuracy(searched):
    _, X, y = searched
    model = MagnitudeClassifierCV(
        TS, criteria=CRITERIA, scoring="balanced_accuracy", store_cv_results=True
    ).fit(X, y)
    predicted = model.cv_results_.argmax(1)
    expected = [
        [balanced_accuracy_score(y, predicted[:, i, j]) for j in range(5)] for i in range(3)
    ]
    np.testing.assert_allclose(model.scores_, expected)
    assert not np.allclose(model.scores_, searched[0].scores_)
    assert model.best_score_ == model.scores_.max()


def test_log_loss_is_that_of_the_most_likely_slope(searched):
    _, X, y = searched
    model = MagnitudeClassifierCV(
        TS, criteria=CRITERIA, scoring="neg_log_loss", store_cv_results=True
    ).fit(X, y)
    for i in range(3):
        for j in range(5):
            score = model.cv_results_[:, :, i, j]

            def loss(log_slope, score=score):
                return -log_softmax(np.exp(log_slope) * score, axis=1)[range(len(y)), y].mean()

            least = minimize_scalar(loss, bounds=(-6.9, 6), method="bounded").fun
            assert model.scores_[i, j] == pytest.approx(-least, abs=1e-4)
    assert model.best_score_ == model.scores_.max()


@pytest.mark.parametrize("labels", [[False, True], [-1, 1], [0, 1]])
def test_scorers_of_two_classes_see_one_column(labels):
    X, y = blobs()
    names = np.array(labels)[(y > 1).astype(int)]
    model = MagnitudeClassifierCV([0.7], scoring="roc_auc", store_cv_results=True).fit(X, names)
    score = np.diff(model.cv_results_[:, :, 0, 0])[:, 0]
    positive, negative = score[names == labels[1]], score[names == labels[0]]
    assert model.best_score_ == pytest.approx((positive[:, None] > negative).mean())


def test_a_callable_scorer_is_handed_left_out_predictions():
    X, y = blobs()
    names = np.array(["a", "b", "c"])[y]
    seen = []

    def scorer(estimator, data, target):
        seen.append((estimator.predict(data), estimator.predict_proba(data), target))
        assert estimator.classes_.tolist() == ["a", "b", "c"]
        np.testing.assert_array_equal(estimator.decision_function(data).argmax(1), data.argmax(1))
        return -len(seen)

    model = MagnitudeClassifierCV(TS, scoring=scorer, store_cv_results=True).fit(X, names)
    assert model.scores_[:, 0].tolist() == [-1, -2, -3]
    assert model.best_t_ == TS[0]
    for i, (predicted, proba, target) in enumerate(seen):
        assert target.tolist() == names.tolist()
        expected = model.cv_results_[:, :, i, 0].argmax(1)
        assert predicted.tolist() == np.array(["a", "b", "c"])[expected].tolist()
        np.testing.assert_allclose(proba.sum(1), 1)


@pytest.mark.parametrize("nan", [0, 1, 2])
def test_candidates_without_a_score_do_not_win(nan):
    values = [0.25, 0.75, 0.5]
    values[nan] = np.nan
    scores = iter(values)
    model = MagnitudeClassifierCV(TS, scoring=lambda *args: next(scores)).fit(*blobs())
    np.testing.assert_array_equal(model.scores_[:, 0], values)
    assert model.best_t_ == TS[np.nanargmax(values)]
    assert model.best_score_ == np.nanmax(values)


def test_sample_weight_is_routed_to_the_scorer():
    X, y = blobs()
    weight = np.random.default_rng(0).uniform(size=len(y))
    with config_context(enable_metadata_routing=True):
        scorer = make_scorer(accuracy_score).set_score_request(sample_weight=True)
        model = MagnitudeClassifierCV(TS, scoring=scorer, store_cv_results=True)
        model.fit(X, y, sample_weight=weight)
        hit = model.cv_results_[:, :, :, 0].argmax(1) == y[:, None]
        np.testing.assert_allclose(model.scores_[:, 0], np.average(hit, axis=0, weights=weight))
        assert not np.allclose(model.scores_[:, 0], hit.mean(0))
        # Through a meta-estimator that routes to `fit` in turn.
        search = GridSearchCV(model, {"solver": ["cholesky"]}, cv=2, scoring=scorer)
        search.fit(X, y, sample_weight=weight)
        assert np.isfinite(search.best_score_)
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            MagnitudeClassifierCV(TS).fit(X, y, sample_weight=weight)
        with pytest.raises(TypeError, match="groups"):
            model.fit(X, y, groups=y)


def test_metadata_without_routing_is_refused():
    X, y = blobs()
    with pytest.raises(ValueError, match="sample_weight"):
        MagnitudeClassifierCV(TS).fit(X, y, sample_weight=np.ones(len(y)))
    with config_context(enable_metadata_routing=True):
        scorer = make_scorer(accuracy_score).set_score_request(sample_weight=True)
    with pytest.raises(ValueError, match="enable_metadata_routing"):
        MagnitudeClassifierCV(TS, scoring=scorer).fit(X, y, sample_weight=np.ones(len(y)))


def test_in_a_pipeline_and_a_cross_validation():
    X, y = load_digits(return_X_y=True)
    X, y = X[:400], y[:400]
    model = make_pipeline(StandardScaler(), MagnitudeClassifierCV(["scale", 1.0]))
    assert cross_val_score(model, X, y, cv=3).mean() > 0.9


def test_clone_pickle_and_threads(searched):
    model, X, y = searched
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    twin = clone(model)
    assert twin.get_params() == model.get_params()
    assert not hasattr(twin, "best_t_")
    parallel = twin.set_params(n_jobs=2).fit(X, y)
    np.testing.assert_array_equal(parallel.cv_results_, model.cv_results_)
    np.testing.assert_array_equal(parallel.scores_, model.scores_)


def test_null_class():
    X, y = blobs()
    params = {"null_label": -1, "null_alpha": 0.2}
    model = MagnitudeClassifierCV(TS, **params).fit(X, y)
    alone = MagnitudeClassifier(model.best_t_, **params).fit(X, y)
    Z = 3 * np.random.default_rng(1).normal(size=(60, 3))
    assert model.predict(Z).tolist() == alone.predict(Z).tolist()
    assert 0 < (model.predict(Z) == -1).sum() < 60
    # Leave-one-out judges the classes: a NULL answer is no candidate's hit or miss.
    np.testing.assert_array_equal(model.scores_, MagnitudeClassifierCV(TS).fit(X, y).scores_)


@pytest.mark.parametrize("xp", [torch, array_api_strict])
def test_other_arrays(searched, xp):
    expected, X, y = searched
    with config_context(array_api_dispatch=True):
        model = clone(expected).fit(xp.asarray(X), xp.asarray(y))
        for name in ("ts_", "scores_", "cv_results_", "t_", "classes_"):
            found = getattr(model, name)
            assert type(found).__module__.startswith(xp.__name__)
            np.testing.assert_array_equal(np.asarray(found), getattr(expected, name))
        found = model.predict_proba(xp.asarray(X))
    np.testing.assert_array_equal(np.asarray(found), expected.predict_proba(X))
    assert (model.best_t_, model.best_criterion_) == (expected.best_t_, expected.best_criterion_)


def test_distances_that_are_dear_are_computed_once_for_all_scales():
    calls = 0

    def dear(a, b):
        nonlocal calls
        calls += 1
        return np.abs(a - b).sum()

    X, y = load_iris(return_X_y=True)
    X, y = X[::5], y[::5]
    few = MagnitudeClassifierCV(ts=[1.0], metric=dear).fit(X, y)
    once, calls = calls, 0
    many = MagnitudeClassifierCV(ts=[0.5, 1.0, 2.0, 4.0], metric=dear).fit(X, y)
    assert calls <= 1.1 * once
    named = MagnitudeClassifierCV(ts=[0.5, 1.0, 2.0, 4.0], metric="cityblock").fit(X, y)
    np.testing.assert_allclose(many.scores_, named.scores_)
    assert many.best_t_ == named.best_t_
    np.testing.assert_allclose(many.predict_proba(X), named.predict_proba(X), rtol=1e-9, atol=1e-12)
    assert few.predict(X[:3]).shape == (3,)


def test_many_features_share_distances_too():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 600)), np.arange(60) % 3
    X[30] = X[3]
    by_points = MagnitudeClassifierCV(ts=[0.01, 0.1], store_cv_results=True).fit(X, y)
    table = cdist(X, X)
    by_table = MagnitudeClassifierCV(ts=[0.01, 0.1], metric="precomputed", store_cv_results=True)
    by_table.fit(table, y)
    np.testing.assert_allclose(by_points.cv_results_, by_table.cv_results_, rtol=1e-8)
