import numpy as np
import pandas as pd
import pytest
from left_out import (
    METHODS,
    as_score,
    blobs,
    criterion_values,
    left_out_scores,
    queries,
)
from scipy.spatial.distance import cdist
from sklearn import clone

from skmag import MagnitudeClassifier, NotPositiveDefiniteWarning, weighting
from skmag._criteria import CRITERIA

# Criteria under which a point of a class has the best score there is.
SETTLED_ON_POINTS = ("residual", "gain")


def test_decision_function_against_dense_weightings(fitted):
    model, X, y = fitted
    Z = queries(12)
    expected = [
        [
            as_score(model.criterion, criterion_values(X[y == c], z, 1.0)[model.criterion])
            for c in range(3)
        ]
        for z in Z
    ]
    np.testing.assert_allclose(model.decision_function(Z), expected, rtol=1e-8, atol=1e-9)


def test_shapes_and_agreement_of_the_methods(fitted):
    model, _, _ = fitted
    Z = queries(200)
    score, proba, predicted = (getattr(model, m)(Z) for m in ("decision_function", *METHODS[::3]))
    assert score.shape == proba.shape == (200, 3)
    assert predicted.shape == (200,)
    assert (score.argmax(1) == predicted).all()
    # The scores have one maximum: nothing is left to the order of the classes.
    assert (np.sort(score, 1)[:, -1] > np.sort(score, 1)[:, -2]).all()
    np.testing.assert_allclose(proba.sum(1), 1)
    np.testing.assert_allclose(np.log(proba), model.predict_log_proba(Z), atol=1e-12)
    margin = np.sort(score, 1)[:, -1] - np.sort(score, 1)[:, -2]
    clear = margin > 1e-9
    assert clear.sum() > 50
    assert (proba.argmax(1) == predicted)[clear].all()


@pytest.mark.parametrize("criterion", CRITERIA)
def test_two_classes_give_one_column_of_differences(criterion):
    X, y = blobs(60, 2)
    model, Z = MagnitudeClassifier(1.0, criterion=criterion).fit(X, y), queries(20)
    score, proba = model.decision_function(Z), model.predict_proba(Z)
    assert score.shape == (20,)
    assert proba.shape == (20, 2)
    assert ((score > 0) == model.predict(Z)).all()
    assert 0 < model.predict(Z).mean() < 1
    each = [
        [as_score(criterion, criterion_values(X[y == c], z, 1.0)[criterion]) for c in range(2)]
        for z in Z
    ]
    np.testing.assert_allclose(score, np.diff(each)[:, 0], rtol=1e-8, atol=1e-8)


def test_fitted_attributes(fitted):
    model, X, y = fitted
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.n_features_in_ == 3
    assert model.t_.tolist() == [1.0] * 3
    assert isinstance(model.slope_, float)
    for c in range(3):
        space = weighting(X[y == c], t=1.0)
        assert model.magnitudes_[c] == pytest.approx(space.magnitude, rel=1e-12)
        np.testing.assert_allclose(model.weights_[y == c], space.weights, rtol=1e-12)
        np.testing.assert_allclose(model.weightings_[c].weights, space.weights, rtol=1e-12)
        Z = queries(5)
        np.testing.assert_allclose(model.weightings_[c].residual(Z), space.residual(Z))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_scale_is_a_share_of_the_median_distance_of_all_points(criterion):
    X, y = blobs(41 * 3 + 1)
    model = MagnitudeClassifier(criterion=criterion).fit(X, y)
    distance = cdist(X, X)[np.triu_indices(len(X), 1)]
    factor = 0.1 if criterion == "residual" else 10
    np.testing.assert_allclose(model.t_, factor / np.median(distance), rtol=1e-3)


def test_the_defaults_are_the_documented_ones():
    model = MagnitudeClassifier()
    assert (model.t, model.criterion, model.metric) == ("scale", "residual", "euclidean")
    assert model.null_label is model.null_alpha is model.null_threshold is None


def test_slope_maximizes_the_likelihood_of_left_out_points(fitted):
    model, X, y = fitted
    score = left_out_scores(X, y, 1.0)[model.criterion]

    def loss(slope):
        scaled = slope * (score - score.max(1, keepdims=True))
        return -(scaled[np.arange(len(y)), y] - np.log(np.exp(scaled).sum(1))).mean()

    around = np.array([loss(model.slope_ * factor) for factor in (0.8, 0.98, 1, 1.02, 1.25)])
    assert around.argmin() == 2
    assert around[0] > around[1]
    assert around[4] > around[3]


def test_a_scale_for_each_class():
    X, y = blobs()
    names = np.array(["a", "b", "c"])[y]
    model = MagnitudeClassifier({"b": 2.0, "a": 0.5, "c": 1.0}).fit(X, names)
    assert model.t_.tolist() == [0.5, 2.0, 1.0]
    Z = queries(10)
    alone = [MagnitudeClassifier(t).fit(X, y).decision_function(Z) for t in (0.5, 2.0, 1.0)]
    expected = np.stack([alone[c][:, c] for c in range(3)], 1)
    np.testing.assert_allclose(model.decision_function(Z), expected, rtol=1e-10)
    assert model.predict(Z).tolist() == names[[0, 1, 2]][expected.argmax(1)].tolist()


def test_a_mapping_may_say_scale_and_use_numpy_keys():
    X, y = blobs()
    model = MagnitudeClassifier({np.int64(0): "scale", 1: np.float32(0.5), 2: 3}).fit(X, y)
    shared = MagnitudeClassifier().fit(X, y).t_[0]
    assert model.t_.tolist() == [shared, 0.5, 3.0]


@pytest.mark.parametrize(
    ("t", "message"),
    [
        ({0: 1.0, 1: 1.0}, r"t=.*missing \[2\]"),
        ({0: 1.0, 1: 1.0, 2: 1.0, 7: 1.0}, r"t=.*unknown \[7\]"),
        ({"0": 1.0, 1: 1.0, 2: 1.0}, r"missing \[0\], unknown \['0'\]"),
        ({0: 1.0, 1: -1.0, 2: 1.0}, r"t\[1\]=-1.0"),
        ({0: 1.0, 1: 1.0, 2: "median"}, r"t\[2\]='median'"),
        (0, "'t' parameter"),
        (-1.0, "'t' parameter"),
        (np.inf, "'t' parameter"),
        (np.nan, "t"),
        ("median", "'t' parameter"),
        (True, "t=True"),
    ],
)
def test_unusable_scales_are_named(t, message):
    with pytest.raises(ValueError, match=message):
        MagnitudeClassifier(t).fit(*blobs())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("criterion", "weights"),
        ("metric", 3),
        ("metric", "euclid"),
        ("solver", "lu"),
        ("device", "tpu"),
        ("null_alpha", 0.0),
        ("null_alpha", 1),
        ("n_jobs", 1.5),
    ],
)
def test_unusable_parameters_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        MagnitudeClassifier(**{name: value}).fit(*blobs())


def test_tables_that_hold_no_distances_are_refused():
    X, y = blobs()
    D = cdist(X, X)
    model = MagnitudeClassifier(metric="precomputed")
    with pytest.raises(ValueError, match=r"X must be a square matrix.*\(90, 80\)"):
        model.fit(D[:, :80], y)
    with pytest.raises(ValueError, match="egative"):
        model.fit(-D, y)
    with pytest.raises(ValueError, match="not symmetric"):
        model.fit(np.triu(D), y)
    with pytest.raises(ValueError, match="holds the negative distance"):
        model.fit(D, y).predict(D - np.eye(len(X)))


@pytest.mark.parametrize("criterion", SETTLED_ON_POINTS)
def test_distinct_training_points_keep_their_label(criterion):
    X, y = blobs()
    labels = np.random.default_rng(0).permutation(y)
    model = MagnitudeClassifier(1.0, criterion=criterion).fit(X, labels)
    assert model.predict(X).tolist() == labels.tolist()
    assert (model.predict_proba(X).argmax(1) == labels).all()
    assert np.isfinite(model.decision_function(X)).all()


@pytest.mark.parametrize("criterion", ["weight", "percentile"])
def test_on_a_training_point_a_share_of_its_weight_decides(criterion):
    # Joining on top of a point halves its weight; it may be less outside of another class.
    X, y = blobs()
    model = MagnitudeClassifier(1.0, criterion=criterion).fit(X, y)
    score = model.decision_function(X)
    for c in range(3):
        own = np.flatnonzero(y == c)
        w = weighting(X[own]).weights
        expected = np.abs(w / 2) if criterion == "weight" else (w <= w[:, None] / 2).mean(1)
        np.testing.assert_allclose(
            score[own, c], [as_score(criterion, value) for value in expected], rtol=1e-9
        )


@pytest.mark.parametrize("criterion", CRITERIA)
def test_copies_in_training_change_no_prediction(criterion):
    X, y = blobs()
    rng = np.random.default_rng(0)
    again = rng.choice(len(X), 60)
    order = rng.permutation(len(X) + 60)
    A, b = np.vstack([X, X[again]])[order], np.concatenate([y, y[again]])[order]
    Z, model = queries(100), MagnitudeClassifier(1.0, criterion=criterion)
    found, expected = clone(model).fit(A, b), model.fit(X, y)
    np.testing.assert_allclose(found.decision_function(Z), expected.decision_function(Z), rtol=1e-9)
    assert found.predict(Z).tolist() == expected.predict(Z).tolist()
    np.testing.assert_allclose(found.magnitudes_, expected.magnitudes_)


@pytest.mark.parametrize("criterion", ["residual", "gain", "potential"])
@pytest.mark.parametrize(("copies", "winner"), [((1, 2), "b"), ((2, 1), "a"), ((1, 1), "a")])
def test_of_a_shared_point_more_copies_win_then_the_first_class(criterion, copies, winner):
    X, y = blobs(40, 2)
    z = np.array([[9.0, 9.0, 9.0]])
    A = np.vstack([X, *[z] * sum(copies)])
    b = np.concatenate([np.array(["b", "a"])[y], ["a"] * copies[0], ["b"] * copies[1]])
    for order in (np.arange(len(A)), np.arange(len(A))[::-1]):
        model = MagnitudeClassifier(1.0, criterion=criterion).fit(A[order], b[order])
        assert model.predict(z).tolist() == [winner]
        assert (model.decision_function(z)[0] > 0) == (winner == "b")
        np.testing.assert_allclose(model.predict_proba(z), 0.5, atol=1e-6)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_classes_of_one_point(criterion):
    X = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 5.0]])
    model = MagnitudeClassifier(1.0, criterion=criterion).fit(X, ["x", "y", "z"])
    Z = np.vstack([X, X + 0.4, [[100.0, 1.0], [-1.0, 200.0]]])
    assert model.predict(Z).tolist() == ["x", "y", "z", "x", "y", "z", "y", "z"]
    assert np.isfinite(model.decision_function(Z)).all()
    np.testing.assert_allclose(model.predict_proba(Z).sum(1), 1)
    assert model.magnitudes_.tolist() == [1.0] * 3


@pytest.mark.parametrize("criterion", CRITERIA)
def test_one_class(criterion):
    X, _ = blobs()
    model = MagnitudeClassifier(criterion=criterion).fit(X, ["only"] * len(X))
    assert set(model.predict(queries())) == {"only"}
    assert (model.predict_proba(queries()) == 1).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda y: np.array(["no", "yes"])[y],
        lambda y: np.array(["no", "yes"], dtype=object)[y],
        lambda y: y.astype(bool),
        lambda y: y.astype(float) - 1,
        lambda y: y.astype(np.int8) * 7 - 3,
        lambda y: pd.Series(y).map({0: "no", 1: "yes"}),
        lambda y: ["no" if c == 0 else "yes" for c in y],
    ],
)
def test_labels_of_every_kind(make):
    X, y = blobs(60, 2)
    labels = make(y)
    model = MagnitudeClassifier().fit(X, labels)
    expected = MagnitudeClassifier().fit(X, y).predict(queries())
    classes = np.unique(np.asarray(labels))
    assert model.classes_.tolist() == classes.tolist()
    found = model.predict(queries())
    assert found.dtype == classes.dtype
    assert found.tolist() == classes[expected].tolist()
    assert model.score(X, labels) == 1.0


@pytest.mark.filterwarnings("ignore::skmag.NotPositiveDefiniteWarning")
@pytest.mark.parametrize("criterion", ["residual", "weight", "percentile", "gain"])
def test_criteria_that_need_a_positive_definite_similarity_are_refused_without(criterion):
    X = np.random.default_rng(0).normal(size=(400, 6))
    y = np.arange(400) % 2
    # The default of "residual" for all: at tenfold scales this similarity is definite.
    t = "scale" if criterion == "residual" else 0.03
    model = MagnitudeClassifier(t, criterion=criterion, metric="chebyshev")
    with pytest.raises(ValueError, match=f"criterion='{criterion}'"):
        model.fit(X, y)


def test_the_potential_needs_no_positive_definite_similarity():
    X = np.random.default_rng(0).normal(size=(400, 6))
    y = (X[:, 0] > 0).astype(int)
    model = MagnitudeClassifier(0.03, criterion="potential", metric="chebyshev")
    with pytest.warns(NotPositiveDefiniteWarning):
        model.fit(X, y)
    assert model.weightings_[0].solver == "indefinite"
    assert np.isfinite(model.predict_proba(X + 0.01)).all()
    Z = np.random.default_rng(1).normal(size=(20, 6))
    expected = [space.potential(Z) for space in model.weightings_]
    np.testing.assert_allclose(model.decision_function(Z), expected[1] - expected[0])
