import importlib
import sys

import numpy as np
import pytest
from left_out import blobs, queries
from skactiveml.base import SingleAnnotatorPoolQueryStrategy
from skactiveml.classifier import ParzenWindowClassifier, SklearnClassifier
from skactiveml.pool import SubSamplingWrapper
from sklearn import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from skmag import magnitude_query
from skmag._query_strategies import STRATEGIES
from skmag.skactiveml import MagnitudeQuery


def partly_labelled(n_labelled=12):
    X, answers = blobs()
    y = answers.astype(float)
    y[n_labelled:] = np.nan
    return X, y, answers


def logistic(**params):
    return SklearnClassifier(LogisticRegression(), classes=[0, 1, 2], **params)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_a_loop_learns_iris(strategy):
    X, answers = load_iris(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    y = np.full(150, np.nan)
    y[[0, 50, 100]] = [0, 1, 2]
    clf, chooser = logistic(), MagnitudeQuery(strategy, random_state=0)
    assert isinstance(chooser, SingleAnnotatorPoolQueryStrategy)
    for _ in range(16):
        chosen = chooser.query(X, y, clf, batch_size=3)
        assert np.isnan(y[chosen]).all()
        y[chosen] = answers[chosen]
    assert np.isfinite(y).sum() == 51
    assert clf.fit(X, y).score(X, answers) > 0.93


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_it_asks_the_function(strategy):
    X, y, answers = partly_labelled()
    model = LogisticRegression().fit(X[:12], answers[:12])
    top = np.sort(model.predict_proba(X), axis=1)
    expected = magnitude_query(
        X,
        model.predict(X),
        labelled=np.arange(12),
        uncertainty=top[:, -2] - top[:, -1],
        strategy=strategy,
        t=0.2,
        metric="cityblock",
        batch_size=5,
        return_utilities=True,
    )
    chooser = MagnitudeQuery(strategy, t=0.2, metric="cityblock", random_state=0)
    fitted = logistic().fit(X, y)
    for clf, fit_clf in ((logistic(), True), (fitted, False)):
        found = chooser.query(X, y, clf, fit_clf, batch_size=5, return_utilities=True)
        assert found[0].tolist() == expected[0].tolist()
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-9)
        alone = chooser.query(X, y, clf, fit_clf, batch_size=5)
        assert alone.tolist() == expected[0].tolist()


def test_candidates_as_indices():
    X, y, _ = partly_labelled()
    chosen, utilities = MagnitudeQuery(random_state=0).query(
        X, y, logistic(), candidates=[20, 30, 40], batch_size=2, return_utilities=True
    )
    assert set(chosen) < {20, 30, 40}
    assert utilities.shape == (2, 90)
    assert np.flatnonzero(~np.isnan(utilities[0])).tolist() == [20, 30, 40]
    assert np.isnan(utilities[1]).sum() == 88


def test_candidates_as_points_join_the_pool():
    X, y, _ = partly_labelled()
    Z, clf = queries(), logistic().fit(X, y)
    chosen, utilities = MagnitudeQuery("min_max", random_state=0).query(
        X, y, clf, False, candidates=Z, batch_size=6, return_utilities=True
    )
    both = np.concatenate([X, Z])
    expected = magnitude_query(
        both,
        clf.predict(both),
        candidates=np.arange(90, 130),
        labelled=np.arange(12),
        strategy="min_max",
        batch_size=6,
    )
    assert (chosen + 90).tolist() == expected.tolist()
    assert utilities.shape == (6, 40)


def test_sample_weights_reach_the_classifier():
    X, y, answers = partly_labelled()
    weights = np.random.default_rng(0).uniform(0.01, 1, size=90)
    model = LogisticRegression().fit(X[:12], answers[:12], weights[:12])
    expected = magnitude_query(
        X, model.predict(X), labelled=np.arange(12), strategy="min_max", batch_size=6
    )
    found = MagnitudeQuery("min_max").query(X, y, logistic(), sample_weight=weights, batch_size=6)
    assert found.tolist() == expected.tolist()


def test_other_missing_labels_and_labels():
    X, y, answers = partly_labelled()
    letters = np.array(["a", "b", "c"])[answers]
    named = np.where(np.isnan(y), "?", letters)
    clf = SklearnClassifier(LogisticRegression(), classes=list("abc"), missing_label="?")
    found = MagnitudeQuery(missing_label="?", random_state=0).query(X, named, clf, batch_size=4)
    expected = MagnitudeQuery(random_state=0).query(X, y, logistic(), batch_size=4)
    assert found.tolist() == expected.tolist()


def test_without_any_label():
    X, y, _ = partly_labelled(0)
    clf = ParzenWindowClassifier(classes=[0, 1, 2])
    found = MagnitudeQuery(random_state=0).query(X, y, clf, batch_size=4)
    assert len(set(found)) == 4


def test_inside_a_wrapper_and_with_another_classifier():
    X, y, _ = partly_labelled()
    wrapper = SubSamplingWrapper(MagnitudeQuery(random_state=0), max_candidates=20, random_state=0)
    found, utilities = wrapper.query(
        X,
        y,
        clf=ParzenWindowClassifier(classes=[0, 1, 2]),
        batch_size=3,
        return_utilities=True,
    )
    assert np.isnan(y[found]).all()
    # The wrapper too writes minus infinity where nothing was considered.
    assert 3 <= np.isfinite(utilities[0]).sum() <= 20


def test_parameters():
    chooser = MagnitudeQuery("max", t=2.0, metric="minkowski", metric_params={"p": 1.5})
    assert clone(chooser).get_params() == chooser.get_params()
    X, y, _ = partly_labelled()
    with pytest.raises(ValueError, match="strategy='best'"):
        MagnitudeQuery("best").query(X, y, logistic())
    with pytest.raises(TypeError, match="clf"):
        MagnitudeQuery().query(X, y, LogisticRegression())
    with pytest.raises(TypeError, match="fit_clf"):
        MagnitudeQuery().query(X, y, logistic(), fit_clf=1)
    with pytest.raises(ValueError, match="missing_label"):
        MagnitudeQuery().query(X, y, logistic(missing_label=-1))
    with pytest.warns(UserWarning, match="batch_size"):
        assert len(MagnitudeQuery().query(X, y, logistic(), batch_size=100)) == 78


def test_the_same_seed_chooses_the_same():
    X, y, _ = partly_labelled()
    X = np.round(X)  # many ties
    chooser = MagnitudeQuery("max", random_state=3)
    first = chooser.query(X, y, logistic(), batch_size=9).tolist()
    assert first == chooser.query(X, y, logistic(), batch_size=9).tolist()


def test_the_module_tells_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skactiveml", None)
    monkeypatch.setitem(sys.modules, "skactiveml.base", None)
    monkeypatch.delitem(sys.modules, "skmag.skactiveml")
    with pytest.raises(ImportError, match=r"skmag\[activeml\]"):
        importlib.import_module("skmag.skactiveml")
