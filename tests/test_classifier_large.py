import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from skmag import MagnitudeClassifier, MagnitudeClassifierCV, MagnitudeOutlierDetector
from skmag._class_scores import training_scores
from skmag._solvers import _near as near
from skmag._solvers import _portfolio as portfolio


@pytest.fixture
def small_factors(monkeypatch):
    """Factors of few points only, as if these were many."""
    monkeypatch.setattr(portfolio, "_ANSWERED_POINTS", 100)
    monkeypatch.setattr(portfolio, "_WEIGHED_POINTS", 200)


def labelled(sizes, n_features=3, seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(sizes)), sizes)
    return rng.normal(size=(len(y), n_features)) + 1.5 * y[:, None], y


def test_one_large_class_has_near_points_answer_for_all(small_factors):
    X, y = labelled([300, 50])
    model = MagnitudeClassifier().fit(X, y)
    assert model.solver_ == ["sparse", "sparse"]
    assert 0 < model.residual_error_ < 0.1
    assert MagnitudeClassifier().fit(X[y == 1][:, :], y[y == 1] + (X[y == 1, 0] > 1.5)).solver_ == [
        "cholesky",
        "cholesky",
    ]


def test_near_points_decide_as_all_points_do():
    X, y = labelled([400, 400, 300])
    Z, _ = labelled([200, 200, 200], seed=1)
    exact = MagnitudeClassifier(solver="cholesky").fit(X, y)
    close_by = MagnitudeClassifier(solver="sparse").fit(X, y)
    assert exact.residual_error_ == 0.0
    assert (close_by.predict(Z) == exact.predict(Z)).mean() > 0.99
    difference = close_by.decision_function(Z) - exact.decision_function(Z)
    # A score is minus the logarithm of a residual, which near points leave too large.
    assert difference.max() < 1e-9
    assert 0.2 < -np.mean(difference) / np.log1p(close_by.residual_error_) < 3


def test_near_points_on_digits():
    X, y = load_digits(return_X_y=True)
    X, Z, y, asked = train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)
    assert MagnitudeClassifier(solver="sparse").fit(X, y).score(Z, asked) > 0.98


def test_fit_does_not_solve_for_weights_that_nobody_needs(small_factors):
    X, y = labelled([300, 300], n_features=10)
    model = MagnitudeClassifier().fit(X, y)
    assert all(part.factor.solution is None for part in model._class_answers.parts)
    # Asked for, they come, by a solver that can have all points for centers here.
    exact = MagnitudeClassifier(solver="cholesky").fit(X, y)
    np.testing.assert_allclose(model.magnitudes_, exact.magnitudes_, rtol=1e-8)
    np.testing.assert_allclose(model.weights_, exact.weights_, atol=1e-6)
    Z = X[:20] + 0.1
    for space, other in zip(model.weightings_, exact.weightings_, strict=True):
        np.testing.assert_allclose(space.potential(Z), other.potential(Z), atol=1e-6)


def test_weights_that_cannot_be_had_are_told_of(small_factors):
    X, y = labelled([300, 300], n_features=10)
    few = {"n_centers": 10}
    model = MagnitudeClassifier(criterion="gain", solver="sparse", solver_params=few)
    with pytest.warns(ConvergenceWarning, match="solver='sparse' did not reach tol=1e-06"):
        model.fit(X, y)


def test_weights_take_a_factor_in_many_dimensions(small_factors):
    X, y = labelled([150, 150], n_features=10)
    assert MagnitudeClassifier(criterion="gain").fit(X, y).solver_ == ["cholesky"] * 2
    plane, y = labelled([150, 150], n_features=2)
    model = MagnitudeClassifier(criterion="gain", tol=1e-3).fit(plane, y)
    assert model.solver_ == ["sparse"] * 2
    exact = MagnitudeClassifier(criterion="gain", solver="cholesky").fit(plane, y)
    assert (model.predict(plane) == exact.predict(plane)).mean() > 0.97


def test_tol_and_parameters_reach_the_solver():
    X, y = labelled([200, 200], n_features=2)
    told = {"n_centers": 50, "n_neighbors": 7}
    model = MagnitudeClassifier(criterion="gain", solver="sparse", tol=0.5, solver_params=told)
    for part in model.fit(X, y)._class_answers.parts:
        assert part.factor.n_neighbors == 7
        assert part.details["n_neighbors"] == 7.0
        assert part.details["n_centers"] == 50.0
    detector = MagnitudeOutlierDetector(
        criterion="gain", solver="sparse", tol=0.5, solver_params=told, metric="euclidean"
    ).fit(X)
    assert detector._scorer.answers.details["n_centers"] == 50.0


@pytest.mark.parametrize("model", [MagnitudeClassifier, MagnitudeClassifierCV])
def test_parameters_of_another_solver_are_refused(model):
    X, y = labelled([20, 20])
    with pytest.raises(ValueError, match=r"'max_iter'.*solver='sparse'"):
        model(solver="sparse", solver_params={"max_iter": 3}).fit(X, y)


def test_scales_are_searched_with_near_points(small_factors):
    X, y = labelled([300, 200])
    found = MagnitudeClassifierCV(ts=[0.1, 1.0, 10.0]).fit(X, y)
    assert found.solver_ == ["sparse", "sparse"]
    exact = MagnitudeClassifierCV(ts=[0.1, 1.0, 10.0], solver="cholesky").fit(X, y)
    np.testing.assert_allclose(found.scores_, exact.scores_, atol=0.01)


def test_dear_distances_do_not_keep_near_points_away(small_factors):
    # From 500 features on, a search over scales shares a table of distances between factors.
    X, y = labelled([120, 50], n_features=500)
    found = MagnitudeClassifierCV(ts=[0.1, 1.0]).fit(X, y)
    assert found.solver_ == ["sparse", "sparse"]
    assert MagnitudeClassifierCV(ts=[0.1], solver="cholesky").fit(X, y).best_score_ > 0.9


def test_a_detector_of_many_points(small_factors):
    X = np.random.default_rng(0).normal(size=(1000, 3))
    found = MagnitudeOutlierDetector(novelty=True, metric="euclidean").fit(X)
    exact = MagnitudeOutlierDetector(novelty=True, metric="euclidean", solver="cholesky").fit(X)
    assert found._scorer.answers.factor.name == "sparse"
    Z = np.random.default_rng(1).normal(size=(300, 3)) * 2
    np.testing.assert_allclose(found.score_samples(Z), exact.score_samples(Z), rtol=0.1)
    assert np.corrcoef(found.scores_, exact.scores_)[0, 1] > 0.999


@pytest.mark.parametrize("criteria", [("residual", "gain"), ("gain", "residual"), ("residual",)])
def test_the_search_keeps_what_it_judged(small_factors, criteria):
    X, y = labelled([150, 150], n_features=10)
    found = MagnitudeClassifierCV(ts=[0.1, 1.0], criteria=criteria).fit(X, y)
    rows, every = np.arange(len(y)), found._class_answers
    score = training_scores(every, every.points(), rows, [found.best_criterion_], None)
    assert (score[found.best_criterion_].argmax(1) == y).mean() == found.best_score_


def test_weightings_are_solved_for_once(monkeypatch):
    X, y = labelled([100, 100])
    model = MagnitudeClassifier(solver="sparse", tol=1e-2).fit(X, y)
    solved = []
    solve = near.solve_sparse
    monkeypatch.setattr(near, "solve_sparse", lambda *a, **k: solved.append(1) or solve(*a, **k))
    for _ in range(3):
        assert all(space.magnitude > 1 for space in model.weightings_)
    assert len(model.weights_) == len(y)
    assert sum(solved) == 2


@pytest.mark.parametrize("solver", ["cholesky", "sparse"])
@pytest.mark.parametrize("far", ["offset", "clusters", "time stamps"])
def test_near_points_are_found_however_far_the_origin_is(solver, far):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 30))
    y = (X[:, 1] > 0).astype(int)
    if far == "offset":
        X += 1e9
    elif far == "clusters":
        X[::2] += 1e9
    else:
        X[:, 0] = 1.7e9 + np.arange(200) * 1e-3
    model = MagnitudeClassifier(t=1.0, solver=solver).fit(X, y)
    np.testing.assert_array_equal(model.predict(X), y)
