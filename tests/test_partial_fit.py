import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits

from skmag import MagnitudeClassifier, MagnitudeOutlierDetector
from skmag._outlier_scores import _exchange
from skmag._solvers import _portfolio as portfolio

CRITERIA = ("residual", "weight", "percentile", "gain", "potential")


def labelled(n=240, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    X[n // 2 : n // 2 + 9] = X[:9]
    return X, (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)


def batches(model, X, y=None, size=80):
    model = clone(model)
    for start in range(0, len(X), size):
        part = slice(start, start + size)
        model.partial_fit(X[part]) if y is None else model.partial_fit(X[part], y[part])
    return model


@pytest.mark.parametrize("solver", ["auto", "mixed", "sparse", "cg"])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_classifier_of_batches_is_that_of_all_rows(solver, criterion):
    X, y = labelled()
    Z = np.random.default_rng(1).normal(size=(50, 3))
    model = MagnitudeClassifier(t=1.0, criterion=criterion, solver=solver, tol=1e-2)
    whole, grown = model.fit(X, y), batches(model, X, y)
    np.testing.assert_allclose(grown.predict_proba(Z), whole.predict_proba(Z), atol=1e-5)
    np.testing.assert_allclose(grown.weights_, whole.weights_, atol=1e-5)
    np.testing.assert_array_equal(grown.predict(X), whole.predict(X))
    assert grown.slope_ == pytest.approx(whole.slope_, rel=1e-4)


def test_scale_is_that_of_the_first_batch():
    X, y = labelled()
    grown = batches(MagnitudeClassifier(), X, y)
    assert grown.t_[0] == MagnitudeClassifier().fit(X[:80], y[:80]).t_[0]


@pytest.mark.parametrize("names", [None, ["third", "first", "second"]])
def test_classes_may_join_later(names):
    X, y = labelled()
    order = np.argsort(y == 0, kind="stable")
    X, y = X[order], y[order]
    if names is not None:
        y = np.array(names)[y]
    first = int((y != y[-1]).sum())
    grown = MagnitudeClassifier(t=2.0).partial_fit(X[:first], y[:first])
    assert len(grown.classes_) == 2
    grown.partial_fit(X[first:], y[first:])
    whole = MagnitudeClassifier(t=2.0).fit(X, y)
    assert grown.classes_.tolist() == whole.classes_.tolist() == np.unique(y).tolist()
    Z = np.random.default_rng(1).normal(size=(50, 3))
    np.testing.assert_allclose(grown.predict_proba(Z), whole.predict_proba(Z), atol=1e-10)
    np.testing.assert_allclose(grown.weights_, whole.weights_, atol=1e-10)


def test_a_class_that_joins_needs_its_scale():
    X, y = labelled()
    late = y == 2
    model = MagnitudeClassifier(t={0: 1.0, 1: 2.0}).partial_fit(X[~late], y[~late])
    with pytest.raises(ValueError, match=r"must name class .*2.*, which joins"):
        model.partial_fit(X[late], y[late])
    assert model.classes_.tolist() == [0, 1]
    model.set_params(t={0: 1.0, 1: 2.0, 2: 3.0}).partial_fit(X[late], y[late])
    assert model.t_.tolist() == [1.0, 2.0, 3.0]


def test_unexpected_classes_are_refused():
    X, y = labelled()
    with pytest.raises(ValueError, match=r"y holds \[2\], which classes=\[0, 1\] lacks"):
        MagnitudeClassifier().partial_fit(X, y, classes=[0, 1])


@pytest.mark.parametrize("model", [MagnitudeClassifier, MagnitudeOutlierDetector])
def test_distances_have_no_points_to_join(model):
    with pytest.raises(AttributeError, match="has no attribute 'partial_fit'") as caught:
        model(metric="precomputed").partial_fit  # noqa: B018
    assert "needs points, which metric='precomputed' does not hold" in str(caught.value.__cause__)


def test_a_null_class_that_is_a_class_is_refused_later_too():
    X, y = labelled()
    model = MagnitudeClassifier(null_label=2, null_alpha=0.1).partial_fit(X[y < 2], y[y < 2])
    with pytest.raises(ValueError, match="null_label=2 is a class of y"):
        model.partial_fit(X, y)


@pytest.mark.parametrize("criterion", ["residual", "gain", "potential", "paper"])
def test_a_detector_beside_the_whole_set_is_that_of_all_rows(criterion):
    X, _ = labelled()
    Z = np.random.default_rng(1).normal(size=(50, 3)) * 2
    model = MagnitudeOutlierDetector(t=1.0, criterion=criterion, novelty=True)
    whole, grown = model.fit(X), batches(model, X)
    np.testing.assert_allclose(grown.score_samples(Z), whole.score_samples(Z), atol=1e-10)
    np.testing.assert_allclose(grown.scores_, whole.scores_, atol=1e-10)
    assert grown.offset_ == pytest.approx(whole.offset_, abs=1e-10)


def test_subsamples_are_drawn_from_all_batches():
    X = np.random.default_rng(0).normal(size=(300, 3))
    model = MagnitudeOutlierDetector(n_estimators=200, max_samples=10, random_state=0)
    grown = batches(model, X, size=60)
    drawn = np.concatenate(grown.estimators_samples_)
    assert all(len(np.unique(rows)) == 10 for rows in grown.estimators_samples_)
    share = np.bincount(drawn // 60) / len(drawn)
    np.testing.assert_allclose(share, 0.2, atol=0.03)
    assert len(grown.scores_) == 300
    for rows, part in zip(grown.estimators_samples_, grown._scorer.parts, strict=True):
        own = part.answers.similarity
        np.testing.assert_array_equal(own.to_rows(own.points).numpy(), X[rows])
    # They say of new points what those of one fit say.
    Z = np.random.default_rng(1).normal(size=(200, 3))
    whole = clone(model).fit(X)
    assert ks_2samp(grown.score_samples(Z), whole.score_samples(Z)).pvalue > 0.05


def test_few_rows_at_first_fill_the_subsamples_later():
    X = np.random.default_rng(0).normal(size=(60, 2))
    grown = batches(MagnitudeOutlierDetector(n_estimators=20, random_state=0), X, size=5)
    assert {len(rows) for rows in grown.estimators_samples_} == {16}


def test_a_stream_finds_what_stands_out():
    X = np.random.default_rng(0).normal(size=(2000, 4))
    X[500], X[1500] = 9.0, -9.0
    grown = batches(MagnitudeOutlierDetector(random_state=0), X, size=500)
    assert sorted(grown.scores_.argsort()[:2]) == [500, 1500]
    assert batches(MagnitudeOutlierDetector(random_state=0), X, size=500).scores_.tolist() == (
        grown.scores_.tolist()
    )


@pytest.mark.parametrize(
    ("size", "old", "new", "most"), [(5, 5, 3, 9), (9, 40, 30, 9), (9, 9, 9, 9)]
)
def test_who_leaves_and_who_joins_makes_an_even_sample(size, old, new, most):
    rng = np.random.default_rng(0)
    counts, trials = np.zeros(old + new), 4000
    for _ in range(trials):
        sample = rng.choice(old, size, replace=False)
        leaving, joining = _exchange(size, old, new, most, rng)
        now = np.concatenate([np.delete(sample, leaving), old + joining])
        assert len(np.unique(now)) == min(most, old + new)
        counts[now] += 1
    np.testing.assert_allclose(counts / trials, min(most, old + new) / (old + new), atol=0.04)


def test_tensors_join_tensors():
    X, y = load_digits(n_class=4, return_X_y=True)
    with config_context(array_api_dispatch=True):
        model = MagnitudeClassifier(t=0.01)
        for part in (slice(0, 400), slice(400, None)):
            model.partial_fit(torch.from_numpy(X[part]), torch.from_numpy(y[part]))
        found = model.predict_proba(torch.from_numpy(X[:50]))
        assert isinstance(found, torch.Tensor)
        assert isinstance(model.classes_, torch.Tensor)
    expected = MagnitudeClassifier(t=0.01).fit(X, y).predict_proba(X[:50])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-8)


@pytest.mark.parametrize(
    ("model", "changed"),
    [
        (MagnitudeClassifier, {"criterion": "gain"}),
        (MagnitudeClassifier, {"solver": "cg"}),
        (MagnitudeClassifier, {"metric": "cityblock"}),
        (MagnitudeClassifier, {"t": 3.0}),
        (MagnitudeOutlierDetector, {"criterion": "paper"}),
        (MagnitudeOutlierDetector, {"novelty": True}),
        (MagnitudeOutlierDetector, {"max_samples": 5}),
    ],
)
def test_a_parameter_that_changed_is_refused(model, changed):
    X, y = labelled()
    started = model().partial_fit(X, y)
    (name,) = changed
    with pytest.raises(ValueError, match=f"partial_fit goes on with {name}="):
        started.set_params(**changed).partial_fit(X, y)
    # Equal values are no change, whatever object they are.
    again = model(metric="minkowski", metric_params={"p": 1.5}).partial_fit(X, y)
    again.set_params(metric_params={"p": 1.5}).partial_fit(X, y)


def test_a_scale_that_changed_is_refused():
    X, y = labelled()
    model = MagnitudeClassifier(t={0: 1.0, 1: 2.0, 2: "scale"}).partial_fit(X, y)
    model.partial_fit(X, y)
    with pytest.raises(ValueError, match=r"goes on with scale 2\.0 for class 1"):
        model.set_params(t={0: 1.0, 1: 2.5, 2: "scale"}).partial_fit(X, y)


@pytest.mark.parametrize(
    ("first", "then"),
    [([0, 1], ["a", "b"]), ([False, True], [0, 1]), (["a", "b"], [0.0, 1.0])],
)
def test_labels_of_another_kind_are_refused(first, then):
    X, _ = labelled()
    model = MagnitudeClassifier().partial_fit(X[:2], first)
    with pytest.raises(ValueError, match="must be of one kind"):
        model.partial_fit(X[2:4], then)


def test_objects_stay_objects():
    X, _ = labelled()
    model = MagnitudeClassifier().partial_fit(X[:2], np.array(["a", "bb"], dtype=object))
    model.partial_fit(X[2:5], np.array(["ccc", "a", "bb"], dtype=object))
    assert model.classes_.dtype == object
    assert model.classes_.tolist() == ["a", "bb", "ccc"]


def test_all_classes_turn_to_near_points_when_one_has_become_large(monkeypatch):
    monkeypatch.setattr(portfolio, "_ANSWERED_POINTS", 100)
    X, y = labelled(600)
    grown = MagnitudeClassifier(t=1.0).partial_fit(X[:150], y[:150])
    assert grown.solver_ == ["cholesky"] * 3
    grown.partial_fit(X[150:], y[150:])
    whole = MagnitudeClassifier(t=1.0).fit(X, y)
    assert grown.solver_ == whole.solver_ == ["sparse"] * 3
    Z = np.random.default_rng(1).normal(size=(50, 3))
    np.testing.assert_allclose(grown.decision_function(Z), whole.decision_function(Z), atol=1e-9)
    # So they stay, also for a class that joins with few points.
    grown.partial_fit(X[:5] + 9, np.full(5, 7))
    assert grown.solver_ == ["sparse"] * 4
