import numpy as np
import pytest
from left_out import (
    blobs,
    queries,
)
from scipy.spatial.distance import cdist, pdist
from sklearn import clone
from sklearn.neighbors import KNeighborsClassifier

from skmag import MagnitudeClassifier, MagnitudeClassifierCV
from skmag._criteria import CRITERIA


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("far", [30.0, 300.0, 1e3, 1e6])
def test_far_queries_belong_to_the_class_that_is_nearest_to_them(criterion, far):
    X = np.array([[0.0, 0.0], [0.5, 0.3], [10.0, 0.0], [10.5, 0.3], [0.0, 10.0], [0.3, 10.5]])
    y = np.array([0, 0, 1, 1, 2, 2])
    model = MagnitudeClassifier(1.0, criterion=criterion).fit(X, y)
    Z = np.array([[-far, -far], [far, 0.0], [0.0, far]])
    assert model.predict(Z).tolist() == [0, 1, 2]
    assert np.isfinite(model.decision_function(Z)).all()
    proba = model.predict_proba(Z)
    assert np.isfinite(proba).all()
    np.testing.assert_allclose(proba.sum(1), 1)


def test_queries_at_the_edge_of_floating_point(fitted):
    model, _, _ = fitted
    Z = np.array([[1e200, 0, 0], [-1e300, 1e300, 0], [1e-300, 0, 0], [1e6, 1e6, 1e6]])
    score, proba = model.decision_function(Z), model.predict_proba(Z)
    assert np.isfinite(score).all()
    assert (score.argmax(1) == model.predict(Z)).all()
    assert np.isfinite(proba).all()
    np.testing.assert_allclose(proba.sum(1), 1)


def test_where_all_criteria_have_underflowed_the_nearest_point_decides(fitted):
    model, X, y = fitted
    Z = 1e6 * np.random.default_rng(0).normal(size=(50, 3))
    nearest = y[cdist(Z, X).argmin(1)]
    assert len(set(nearest)) == 3
    assert model.predict(Z).tolist() == nearest.tolist()


@pytest.mark.parametrize("far", [1e160, 1e300])
def test_a_query_at_the_edge_leaves_the_others_alone(fitted, far):
    model, _, _ = fitted
    Z = queries()
    both = model.decision_function(np.vstack([[[far, 0, 0]], Z]))
    np.testing.assert_allclose(both[1:], model.decision_function(Z), rtol=1e-7)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("t", [1e-12, 1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e9, 1e12])
def test_every_scale_has_finite_answers(criterion, t):
    X, y = blobs()
    model = MagnitudeClassifier(t, criterion=criterion).fit(X, y)
    Z = np.vstack([queries(), X[:5]])
    score, proba = model.decision_function(Z), model.predict_proba(Z)
    assert np.isfinite(score).all()
    assert np.isfinite(proba).all()
    np.testing.assert_allclose(proba.sum(1), 1)
    assert (score.argmax(1) == model.predict(Z)).all()
    assert set(model.predict(Z)) == {0, 1, 2}


@pytest.mark.parametrize("criterion", ["residual", "weight", "gain", "potential"])
def test_a_huge_scale_asks_the_nearest_neighbour(criterion):
    X, y = blobs()
    model = MagnitudeClassifier(1e12, criterion=criterion).fit(X, y)
    nearest = KNeighborsClassifier(1).fit(X, y)
    assert model.predict(queries(300)).tolist() == nearest.predict(queries(300)).tolist()


def test_the_residual_has_a_limit_at_small_scales():
    X, y = blobs()
    models = [MagnitudeClassifier(t).fit(X, y) for t in (1e-12, 1e-9, 1e-6)]
    expected = models[0].predict(queries(300)).tolist()
    assert all(model.predict(queries(300)).tolist() == expected for model in models[1:])
    assert np.mean(models[0].predict(X + 1e-3) == y) == 1.0


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1e9, 1e100])
def test_scale_knows_no_units(criterion, unit):
    X, y = blobs()
    Z = np.vstack([queries(200), X[:9]])
    model = MagnitudeClassifier(criterion=criterion)
    expected, found = clone(model).fit(X, y), clone(model).fit(X * unit, y)
    assert found.predict(Z * unit).tolist() == expected.predict(Z).tolist()
    np.testing.assert_allclose(found.t_ * unit, expected.t_)
    np.testing.assert_allclose(found.predict_proba(Z * unit), expected.predict_proba(Z), atol=1e-5)


def assert_the_most_probable_class_is_predicted(model, Z):
    proba, log_proba = model.predict_proba(Z), model.predict_log_proba(Z)
    predicted = model.predict(Z).tolist()
    assert model.classes_[proba.argmax(1)].tolist() == predicted
    assert model.classes_[log_proba.argmax(1)].tolist() == predicted
    np.testing.assert_allclose(proba.sum(1), 1)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("t", [50.0, 1e3])
def test_the_most_probable_class_is_predicted_where_scores_saturate(t, criterion):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    model = MagnitudeClassifier(t, criterion=criterion).fit(X, X[:, 0] > 0)
    assert_the_most_probable_class_is_predicted(model, 3 * rng.normal(size=(2000, 2)))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_most_probable_class_is_predicted_between_tiny_clusters(criterion):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 20)
    size = np.array([1e-9, 1e-9, 1.0])[y][:, None]
    X = size * rng.normal(size=(60, 2)) + np.array([[0.0, 0.0], [2e-9, 0.0], [5.0, 5.0]])[y]
    model = MagnitudeClassifier(1.0, criterion=criterion).fit(X, y)
    near, far = 3e-9 * rng.normal(size=(500, 2)), 9 * rng.normal(size=(500, 2))
    assert_the_most_probable_class_is_predicted(model, np.vstack([near, far, X]))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_most_probable_class_is_predicted_at_ties(criterion):
    X = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.0, 1.0]])
    model = MagnitudeClassifier(1.0, criterion=criterion).fit(X, [0, 1, 2, 3, 0])
    Z = np.vstack([X, [[0.0, 0.0], [7.0, 7.0], [1e3, 1e3], [1e9, 0.0]]])
    assert_the_most_probable_class_is_predicted(model, Z)


@pytest.mark.parametrize("criterion", ["residual", "weight"])
def test_scale_is_the_same_for_many_copies_in_other_units(criterion):
    # Of 20,003 rows a sample would miss the three that differ.
    X = np.vstack([np.full((20_000, 2), 0.5), [[3.0, 1.0], [2.0, 9.0], [7.0, 5.0]]])
    y = np.arange(len(X)) % 2
    factor = 0.1 if criterion == "residual" else 10
    expected = factor / np.median(pdist(np.unique(X, axis=0)))
    for unit in (1e-9, 1.0, 1e9):
        model = MagnitudeClassifier(criterion=criterion).fit(unit * X, y)
        # The lower of the two values in the middle is a median too.
        assert model.t_[0] * unit == pytest.approx(expected, rel=0.2)
        assert model.t_.tolist() == [model.t_[0]] * 2
        if unit == 1e-9:
            here = model.t_ * unit
        np.testing.assert_allclose(model.t_ * unit, here, rtol=1e-12)


@pytest.mark.parametrize(
    "model",
    [MagnitudeClassifier(), MagnitudeClassifierCV(["scale"]), MagnitudeClassifierCV()],
    ids=["one", "among candidates", "grid"],
)
@pytest.mark.parametrize(
    "X",
    [
        [[0.0, 0.0], [1e-310, 0.0], [0.0, 1e-310]],
        [[0.0], [5e-324], [1e-323]],
        [[-1.7e308], [1.7e308]],
    ],
    ids=["underflow", "on the line", "overflow"],
)
def test_distances_that_give_no_scale_are_refused(X, model):
    with pytest.raises(ValueError, match=r"^ts?\b.*median distance"):
        clone(model).fit(X, np.arange(len(X)) % 2)
