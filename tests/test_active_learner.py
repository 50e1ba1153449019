import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from left_out import blobs, queries
from reference import host
from scipy.spatial.distance import cdist
from sklearn import clone, config_context
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils._array_api import get_namespace, move_estimator_to
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmag import MagnitudeActiveLearner, MagnitudeClassifier, magnitude_query
from skmag._query_strategies import STRATEGIES

METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function")


def partly_labelled(n_labelled=12, **params):
    """A pool, the labels of its first rows (-1 elsewhere), and all of them."""
    X, answers = blobs(**params)
    y = answers.copy()
    y[n_labelled:] = -1
    return X, y, answers


def same_choice(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(host(ours), theirs, rtol=1e-9)


@parametrize_with_checks([MagnitudeActiveLearner(KNeighborsClassifier())])
def test_estimator_checks_around_a_classifier_without_array_api(estimator, check):
    check(estimator)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_a_loop_learns_iris(strategy):
    X, answers = load_iris(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    y = np.full(150, np.nan)
    y[[0, 50, 100]] = [0, 1, 2]
    learner = MagnitudeActiveLearner(
        LogisticRegression(), strategy=strategy, batch_size=6, random_state=0
    )
    for done in range(8):
        assert np.isfinite(y).sum() == 3 + 6 * done
        chosen = learner.fit(X, y).query(X)
        assert np.isnan(y[chosen]).all()
        y[chosen] = answers[chosen]
    assert learner.fit(X, y).score(X, answers) > 0.93


def test_fit_is_that_of_a_clone_on_the_labelled_rows():
    X, y, answers = partly_labelled()
    inner = LogisticRegression(C=3.0)
    learner = MagnitudeActiveLearner(inner).fit(X, y)
    expected = LogisticRegression(C=3.0).fit(X[:12], answers[:12])
    assert not hasattr(inner, "classes_")
    assert learner.labelled_.tolist() == [True] * 12 + [False] * 78
    assert learner.classes_.tolist() == [0, 1, 2]
    for method in METHODS:
        np.testing.assert_array_equal(
            getattr(learner, method)(queries()), getattr(expected, method)(queries())
        )
    assert learner.score(X, answers) == expected.score(X, answers)
    weights = np.arange(90.0)
    assert learner.score(X, answers, weights) == expected.score(X, answers, weights)


@pytest.mark.parametrize("names", [False, True])
def test_unlabelled_rows_are_marked_in_many_ways(names):
    X, y, answers = partly_labelled()
    letters = np.array(["a", "b", "c"])
    some = [None if code < 0 else str(letters[code]) if names else code for code in y]
    forms = [np.array(some, dtype=object), some, pd.Series(some), pl.Series(some)]
    if not names:
        forms += [y, y.tolist(), np.where(y < 0, np.nan, y), torch.from_numpy(y)]
    expected = KNeighborsClassifier(3).fit(X[:12], answers[:12]).predict(X)
    for form in forms:
        learner = MagnitudeActiveLearner(KNeighborsClassifier(3)).fit(X, form)
        assert learner.labelled_.tolist() == (y >= 0).tolist()
        assert learner.predict(X).tolist() == (letters[expected] if names else expected).tolist()


def test_minus_one_may_be_a_class():
    X, y, answers = partly_labelled(n_classes=2)
    sign = 2 * answers - 1
    whole = MagnitudeActiveLearner(LogisticRegression()).fit(X, sign)
    assert whole.classes_.tolist() == [-1, 1]
    with pytest.raises(ValueError, match=r"all 90 rows are labelled.*unlabelled=-1"):
        whole.query(X)
    part = MagnitudeActiveLearner(LogisticRegression()).fit(X, np.where(y < 0, np.nan, sign))
    assert part.classes_.tolist() == [-1, 1]
    assert part.query(X).min() >= 12
    # A third value tells that -1 is none.
    marked = MagnitudeActiveLearner(LogisticRegression()).fit(X, np.where(y < 0, -1, answers + 1))
    assert marked.classes_.tolist() == [1, 2]
    one = MagnitudeActiveLearner(KNeighborsClassifier(1), unlabelled=-1)
    assert one.fit(X, np.where(y == 0, 1, -1)).classes_.tolist() == [1]
    assert len(one.query(X)) == 4


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@pytest.mark.parametrize(
    "inner", [LogisticRegression(), KNeighborsClassifier(3), SVC(), RidgeClassifier()]
)
def test_query_asks_the_function(inner, strategy):
    X, y, _ = partly_labelled()
    learner = MagnitudeActiveLearner(
        inner, strategy=strategy, metric="minkowski", metric_params={"p": 1.5}, t=0.3
    ).fit(X, y)
    model = clone(inner).fit(X[:12], y[:12])
    if hasattr(model, "predict_proba"):
        top = np.sort(model.predict_proba(X), axis=1)
    else:
        top = np.sort(model.decision_function(X), axis=1)
    asked = {
        "labelled": y >= 0,
        "uncertainty": top[:, -2] - top[:, -1],
        "strategy": strategy,
        "metric": "minkowski",
        "metric_params": {"p": 1.5},
        "t": 0.3,
        "random_state": 0,
        "return_utilities": True,
    }
    learner.set_params(random_state=0)
    expected = magnitude_query(X, model.predict(X), **asked)
    same_choice(learner.query(X, return_utilities=True), expected)
    same_choice(learner.query(X, return_utilities=True), expected)  # asking changes nothing
    expected = magnitude_query(X, model.predict(X), batch_size=7, **asked)
    same_choice(learner.query(X, batch_size=7, return_utilities=True), expected)


def test_candidates_and_labels_of_a_query():
    X, y, answers = partly_labelled()
    learner = MagnitudeActiveLearner(LogisticRegression(), random_state=0).fit(X, y)
    allowed = np.arange(30, 50)
    found = learner.query(X, candidates=allowed, batch_size=20)
    assert sorted(found) == allowed.tolist()
    mask = np.isin(np.arange(90), allowed)
    assert learner.query(X, candidates=mask, batch_size=20).tolist() == found.tolist()
    # Labels that came in after the fit.
    later = y.copy()
    later[:80] = answers[:80]
    assert set(learner.query(X, later, batch_size=10)) == set(range(80, 90))
    # Another pool.
    Z = queries()
    assert len(learner.query(Z, candidates=np.arange(40))) == 4
    assert len(learner.query(Z, y=np.full(40, -1))) == 4
    with pytest.raises(ValueError, match=r"X has 40 rows and fit had 90.*pass y or candidates"):
        learner.query(Z)
    with pytest.raises(ValueError, match="y has 90 rows, but X has 40"):
        learner.query(Z, y)
    with pytest.raises(ValueError, match="candidates goes from 95 to 95"):
        learner.query(X, candidates=[95])
    # Labelled candidates are taken last.
    both = learner.query(X, candidates=[3, 40, 50], batch_size=3)
    assert both[-1] == 3


class Plain(ClassifierMixin, BaseEstimator):
    """A classifier that tells no more than a class."""

    def fit(self, X, y):
        self.model_ = KNeighborsClassifier(1).fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X):
        return self.model_.predict(X)


def test_classifiers_without_uncertainty():
    X, y, _ = partly_labelled()
    learner = MagnitudeActiveLearner(Plain()).fit(X, y)
    with pytest.raises(ValueError, match=r"needs predict_proba or.*\['max', 'min_max'\] do"):
        learner.query(X)
    for strategy in ("max", "min_max"):
        assert len(learner.set_params(strategy=strategy).query(X)) == 4
    for method in METHODS[1:]:
        assert not hasattr(learner, method)
    with pytest.raises(AttributeError, match="predict_proba"):
        learner.predict_proba(X)


def test_decision_functions_of_pairs_of_classes_are_refused():
    X, y, _ = partly_labelled(n_classes=4)
    learner = MagnitudeActiveLearner(SVC(decision_function_shape="ovo")).fit(X, y)
    with pytest.raises(ValueError, match="decision_function of 6 columns for 4 classes"):
        learner.query(X)


@pytest.mark.parametrize(
    ("inner", "params", "message"),
    [
        (Ridge(), {}, "must be an instance of a classifier"),
        (LogisticRegression, {}, "must be an instance of a classifier"),
        (None, {}, "must be an instance of a classifier"),
        (KNeighborsClassifier(metric="precomputed"), {}, "use metric='precomputed'"),
        (LogisticRegression(), {"strategy": "best"}, "'strategy' parameter"),
        (LogisticRegression(), {"batch_size": 0}, "'batch_size' parameter"),
        (LogisticRegression(), {"t": 0.0}, "'t' parameter"),
    ],
)
def test_errors_of_fit(inner, params, message):
    X, y, _ = partly_labelled()
    with pytest.raises(ValueError, match=message):
        MagnitudeActiveLearner(inner, **params).fit(X, y)


def test_errors_of_labels():
    X, y, _ = partly_labelled()
    learner = MagnitudeActiveLearner(LogisticRegression())
    with pytest.raises(ValueError, match="no labelled row among 90"):
        learner.fit(X, np.full(90, -1))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        learner.fit(X, y[:50])
    with pytest.raises(ValueError, match="requires y to be passed"):
        learner.fit(X, None)
    with pytest.warns(DataConversionWarning):
        learner.fit(X, y[:, None])
    with pytest.raises(NotFittedError):
        clone(learner).query(X)


def test_distances_are_those_of_the_given_points():
    X, y, answers = partly_labelled()
    X = X * [1.0, 10.0, 100.0]
    inner = make_pipeline(StandardScaler(), LogisticRegression())
    learner = MagnitudeActiveLearner(inner, strategy="min_max").fit(X, y)
    predicted = clone(inner).fit(X[:12], answers[:12]).predict(X)
    expected = magnitude_query(X, predicted, labelled=y >= 0, strategy="min_max")
    assert learner.query(X).tolist() == expected.tolist()


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_inner_estimators_see_the_columns_of_frames(frame):
    X, y, answers = partly_labelled()
    table = frame({name: X[:, i] for i, name in enumerate("abc")})
    inner = make_pipeline(
        make_column_transformer((StandardScaler(), ["c", "a"])), LogisticRegression()
    )
    learner = MagnitudeActiveLearner(inner, strategy="min_max").fit(table, y)
    assert learner.feature_names_in_.tolist() == ["a", "b", "c"]
    plain = make_pipeline(StandardScaler(), LogisticRegression())
    plain.fit(X[:12][:, [2, 0]], answers[:12])
    assert (learner.predict(table) == plain.predict(X[:, [2, 0]])).all()
    expected = magnitude_query(X, plain.predict(X[:, [2, 0]]), labelled=y >= 0, strategy="min_max")
    assert learner.query(table).tolist() == expected.tolist()


def test_precomputed_distances():
    X, y, answers = partly_labelled()
    y = y[np.random.default_rng(0).permutation(90)]
    y[y >= 0] = answers[y >= 0]
    table, Z = cdist(X, X), queries()
    points = MagnitudeActiveLearner(KNeighborsClassifier(3), random_state=0).fit(X, y)
    both = MagnitudeActiveLearner(
        KNeighborsClassifier(3, metric="precomputed"), metric="precomputed", random_state=0
    ).fit(table, y)
    assert both.n_features_in_ == 90
    assert both.predict(cdist(Z, X)).tolist() == points.predict(Z).tolist()
    same_choice(both.query(table, return_utilities=True), points.query(X, return_utilities=True))
    whole = np.array(answers)
    scores = cross_val_score(both, table, whole, cv=3)
    np.testing.assert_allclose(scores, cross_val_score(points, X, whole, cv=3))
    # To a classifier that is not pairwise, distances are features.
    features = MagnitudeActiveLearner(LogisticRegression(max_iter=10_000), metric="precomputed")
    expected = LogisticRegression(max_iter=10_000).fit(table[y >= 0], y[y >= 0])
    np.testing.assert_array_equal(features.fit(table, y).predict(table), expected.predict(table))
    with pytest.raises(ValueError, match="square matrix"):
        features.query(table[:50], candidates=[1, 2])


def test_sample_weights_are_routed_to_the_labelled_rows():
    X, y, answers = partly_labelled()
    weights = np.random.default_rng(0).uniform(size=90)
    learner = MagnitudeActiveLearner(LogisticRegression())
    with pytest.raises(ValueError, match="enable_metadata_routing=True"):
        learner.fit(X, y, sample_weight=weights)
    with config_context(enable_metadata_routing=True):
        inner = LogisticRegression().set_fit_request(sample_weight=True)
        expected = LogisticRegression().fit(X[:12], answers[:12], weights[:12]).predict_proba(X)
        for form in (weights, weights.tolist(), pd.Series(weights)):
            learner = MagnitudeActiveLearner(inner).fit(X, y, sample_weight=form)
            np.testing.assert_array_equal(learner.predict_proba(X), expected)
        assert "sample_weight" in str(learner.get_metadata_routing())


def test_search_clone_and_pickle():
    X, _, answers = partly_labelled()
    search = GridSearchCV(
        MagnitudeActiveLearner(LogisticRegression()), {"estimator__C": [1e-6, 1.0]}, cv=3
    ).fit(X, answers)
    assert search.best_params_ == {"estimator__C": 1.0}
    X, y, _ = partly_labelled()
    learner = MagnitudeActiveLearner(LogisticRegression(C=2.0), t=0.5, random_state=0).fit(X, y)
    twin = clone(learner)
    assert not hasattr(twin, "estimator_")
    assert twin.get_params()["estimator__C"] == 2.0
    loaded = pickle.loads(pickle.dumps(learner))
    same_choice(loaded.query(X, return_utilities=True), learner.query(X, return_utilities=True))


def test_in_a_pipeline():
    X, y, answers = partly_labelled()
    pipe = make_pipeline(StandardScaler(), MagnitudeActiveLearner(SVC())).fit(X, y)
    Z = StandardScaler().fit_transform(X)
    alone = MagnitudeActiveLearner(SVC()).fit(Z, y)
    assert pipe.score(X, answers) == alone.score(Z, answers)
    assert pipe[-1].query(pipe[:-1].transform(X)).tolist() == alone.query(Z).tolist()


def test_tensors_stay_tensors():
    X, y, _ = partly_labelled()
    learner = MagnitudeActiveLearner(MagnitudeClassifier(), random_state=0)
    expected = clone(learner).fit(X, y)
    choice = expected.query(X, return_utilities=True)
    with config_context(array_api_dispatch=True):
        data = torch.from_numpy(X)
        learner.fit(data, torch.from_numpy(y))
        assert isinstance(learner.labelled_, torch.Tensor)
        found = learner.query(data, return_utilities=True)
        assert all(isinstance(part, torch.Tensor) for part in found)
        same_choice(found, choice)
        np.testing.assert_allclose(learner.predict_proba(data), expected.predict_proba(X))
        moved = move_estimator_to(expected, get_namespace(data)[0], "cpu")
        assert torch.equal(moved.query(data), found[0])
        with pytest.raises(ValueError, match="query"):
            learner.query(X)
