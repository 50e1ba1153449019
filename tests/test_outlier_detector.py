import pickle

import numpy as np
import pytest
import skops.io
import torch
from reference import StopAfter, normal
from scipy.spatial.distance import cdist
from sklearn import config_context
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._array_api import get_namespace, move_estimator_to

from skmag import MagnitudeOutlierDetector
from skmag.datasets import available, load

SETTINGS = [
    {"random_state": 0},
    {"novelty": True},
    {"criterion": "paper"},
    {"criterion": "gain"},
    {"criterion": "potential"},
]
NAMES = ["bagged", "novelty", "paper", "gain", "potential"]
each = pytest.mark.parametrize("settings", SETTINGS, ids=NAMES)


def polluted(n=80, n_outliers=6, seed=0):
    """A normal cloud, the last rows far from it."""
    rng = np.random.default_rng(seed)
    far = rng.normal(size=(n_outliers, 3))
    far *= 9 / np.linalg.norm(far, axis=1, keepdims=True)
    return np.vstack([rng.normal(size=(n, 3)), far])


@each
def test_labels_are_signs_of_the_decision(settings):
    X = polluted()
    model = MagnitudeOutlierDetector(**settings).fit(X)
    score = model.score_samples(X)
    np.testing.assert_allclose(model.decision_function(X), score - model.offset_)
    assert model.predict(X).tolist() == np.where(score < model.offset_, -1, 1).tolist()
    if not model.novelty:
        np.testing.assert_allclose(score, model.scores_, rtol=1e-7, atol=1e-12)
        assert model.fit_predict(X).tolist() == model.predict(X).tolist()


@each
def test_far_points_score_lowest(settings):
    X = polluted()
    model = MagnitudeOutlierDetector(**settings).fit(X)
    assert set(np.argsort(model.scores_)[:6].tolist()) == set(range(80, 86))


@each
@pytest.mark.parametrize("share", [0.05, 0.2])
def test_contamination_is_the_share_of_outliers(settings, share):
    X = polluted()
    model = MagnitudeOutlierDetector(contamination=share, **settings).fit(X)
    # The paper's rule has no more outliers than candidates; all others score alike.
    possible = model.candidates_.mean() if model.criterion == "paper" else 1.0
    found = (model.scores_ < model.offset_).mean()
    assert found == pytest.approx(min(share, possible), abs=1 / 86)


def test_the_papers_threshold_is_tau():
    X = polluted()
    strict = MagnitudeOutlierDetector(criterion="paper", tau=0.0).fit(X)
    assert strict.offset_ == 0.0
    assert strict.predict(X).tolist() == np.where(strict.candidates_, -1, 1).tolist()
    model = MagnitudeOutlierDetector(criterion="paper", tau=0.7).fit(X)
    assert ((model.predict(X) == -1) == (model.scores_ < -0.7)).all()
    assert not hasattr(MagnitudeOutlierDetector().fit(X), "candidates_")


def test_few_outliers_are_told_of_clean_data():
    clean = np.random.default_rng(0).normal(size=(400, 10))
    assert (MagnitudeOutlierDetector(random_state=0).fit_predict(clean) == -1).mean() < 0.05


def test_novelty_knows_its_training_points_and_has_no_fit_predict():
    X = polluted()
    model = MagnitudeOutlierDetector(novelty=True).fit(X)
    np.testing.assert_allclose(model.score_samples(X), 0.0, atol=1e-12)
    assert (model.predict(X) == 1).all()
    assert not hasattr(model, "fit_predict")
    with pytest.raises(AttributeError, match="fit_predict"):
        model.fit_predict(X)


@each
def test_copies_and_order_and_units_change_nothing(settings):
    X = polluted()
    model = MagnitudeOutlierDetector(**settings)
    expected = model.fit(X).scores_
    found = clone(model).fit(1e6 * X)
    np.testing.assert_allclose(found.scores_, expected, rtol=1e-6, atol=1e-9)
    assert found.t_ == pytest.approx(clone(model).fit(X).t_ / 1e6)
    assert clone(model).fit(1e6 * X).predict(1e6 * X).tolist() == model.predict(X).tolist()
    if "random_state" not in settings:
        order = np.random.default_rng(3).permutation(len(X))
        shuffled = clone(model).fit(X[order]).scores_
        np.testing.assert_allclose(shuffled, expected[order], rtol=1e-7, atol=1e-12)


@each
def test_precomputed_distances_are_those_of_the_metric(settings):
    X, Z = polluted(), normal(9, 3, seed=1)
    of_points = MagnitudeOutlierDetector(metric="euclidean", **settings).fit(X)
    of_table = MagnitudeOutlierDetector(metric="precomputed", **settings).fit(cdist(X, X))
    np.testing.assert_allclose(of_table.scores_, of_points.scores_, rtol=1e-7, atol=1e-12)
    found, expected = of_table.score_samples(cdist(Z, X)), of_points.score_samples(Z)
    np.testing.assert_allclose(found, expected, rtol=1e-7)


@each
def test_torch_in_torch_out_and_pickles(settings):
    X, Z = polluted(), normal(9, 3, seed=1)
    model = MagnitudeOutlierDetector(**settings).fit(X)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.score_samples(Z), model.score_samples(Z))
    with config_context(array_api_dispatch=True):
        on_torch = MagnitudeOutlierDetector(**settings).fit(torch.from_numpy(X))
        score, label = (
            on_torch.score_samples(torch.from_numpy(Z)),
            on_torch.predict(torch.from_numpy(Z)),
        )
        assert isinstance(on_torch.scores_, torch.Tensor)
        loaded = pickle.loads(pickle.dumps(on_torch))
        np.testing.assert_array_equal(loaded.score_samples(torch.from_numpy(Z)), score)
    np.testing.assert_allclose(score, model.score_samples(Z), rtol=1e-10)
    assert label.tolist() == model.predict(Z).tolist()


def test_the_seed_draws_the_subsamples():
    X = polluted()
    one, same, other = (
        MagnitudeOutlierDetector(random_state=seed, n_estimators=5).fit(X) for seed in (0, 0, 1)
    )
    assert (one.scores_ == same.scores_).all()
    assert (one.scores_ != other.scores_).any()
    assert [len(rows) for rows in one.estimators_samples_] == [16] * 5
    assert all(len(set(rows.tolist())) == 16 for rows in one.estimators_samples_)
    share = MagnitudeOutlierDetector(max_samples=0.5, n_estimators=2).fit(X)
    assert [len(rows) for rows in share.estimators_samples_] == [43, 43]
    tiny = MagnitudeOutlierDetector(n_estimators=2).fit(X[:3])
    assert [len(rows) for rows in tiny.estimators_samples_] == [3, 3]
    assert MagnitudeOutlierDetector(novelty=True).fit(X).estimators_samples_ == []


def test_threads_change_nothing():
    X = polluted()
    alone = MagnitudeOutlierDetector(random_state=0).fit(X)
    together = MagnitudeOutlierDetector(random_state=0, n_jobs=2).fit(X)
    assert (alone.scores_ == together.scores_).all()
    assert (alone.score_samples(X) == together.score_samples(X)).all()


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_callbacks_see_the_subsamples_and_stop_the_fit(n_jobs, capsys):
    X = polluted()
    model = MagnitudeOutlierDetector(random_state=0, n_jobs=n_jobs)
    stopped = clone(model).set_callbacks(StopAfter(7)).fit(X)
    expected = MagnitudeOutlierDetector(random_state=0, n_estimators=7).fit(X)
    np.testing.assert_array_equal(stopped.scores_, expected.scores_)
    np.testing.assert_array_equal(stopped.score_samples(X), expected.score_samples(X))
    assert len(stopped.estimators_samples_) == 7
    with_bar = clone(model).set_callbacks(ProgressBar()).fit(X)
    assert "MagnitudeOutlierDetector - fit" in capsys.readouterr().out
    np.testing.assert_array_equal(with_bar.scores_, clone(model).fit(X).scores_)


def test_rules_of_the_whole_set_report_as_one_task(capsys):
    MagnitudeOutlierDetector(novelty=True).set_callbacks(ProgressBar()).fit(polluted())
    assert "100%" in capsys.readouterr().out


def test_one_step_of_a_pipeline():
    X = polluted() * [1.0, 100.0, 0.01]
    model = make_pipeline(StandardScaler(), MagnitudeOutlierDetector(random_state=0))
    assert (model.fit_predict(X)[-6:] == -1).all()
    assert (model.fit(X).predict(X)[-6:] == -1).all()


def test_indefinite_similarities_are_refused_with_the_way_out():
    with (
        pytest.warns(UserWarning, match="not positive definite"),
        pytest.raises(ValueError, match=r"criterion='gain' needs .* metric='chebyshev' at t=0\.01"),
    ):
        MagnitudeOutlierDetector(0.01, criterion="gain", metric="chebyshev").fit(normal(60, 5))


@pytest.mark.parametrize(
    ("name", "value"),
    [("t", 0.0), ("t", "auto"), ("contamination", 0.6), ("tau", -1.0), ("max_samples", 0)],
)
def test_wrong_arguments_are_named(name, value):
    with pytest.raises(ValueError, match=rf"'{name}' parameter of MagnitudeOutlierDetector"):
        MagnitudeOutlierDetector(**{name: value}).fit(normal())


def two_clouds(seed, spread, n_noise, side):
    rng = np.random.default_rng(seed)
    clouds = spread * rng.normal(size=(300, 2)) + np.repeat([[3.0], [-3.0]], 150, axis=0)
    noise = rng.uniform(-side, side, (n_noise, 2))
    return np.vstack([clouds, noise]), np.repeat([0, 1], [300, n_noise])


def auc(draw, seeds):
    found = []
    for seed in seeds:
        X, y = draw(seed)
        model = MagnitudeOutlierDetector(random_state=seed).fit(X)
        found.append(roc_auc_score(y, -model.scores_))
    return np.mean(found)


def test_floor_of_uniform_noise():
    assert auc(lambda seed: two_clouds(seed, 1.0, 30, 8), range(20)) >= 0.95


def test_floor_of_a_clump():
    def draw(seed):
        rng = np.random.default_rng(seed)
        clump = 0.1 * rng.normal(size=(15, 2)) + 5
        return np.vstack([rng.normal(size=(300, 2)), clump]), np.repeat([0, 1], [300, 15])

    assert auc(draw, range(20)) >= 0.93


def test_floor_of_a_polluted_digit():
    X, y = load_digits(return_X_y=True)

    def draw(seed):
        own, others = np.flatnonzero(y == seed % 10), np.flatnonzero(y != seed % 10)
        chosen = np.random.default_rng(seed).choice(others, len(own) // 19, replace=False)
        return X[np.append(own, chosen)], np.repeat([0, 1], [len(own), len(chosen)])

    assert auc(draw, range(20)) >= 0.98


def test_floor_of_novel_digits():
    X, y = load_digits(return_X_y=True)
    found = []
    for digit in range(10):
        own = np.random.default_rng(digit).permutation(np.flatnonzero(y == digit))
        train, known = np.array_split(own, 2)
        queries = np.append(known, np.flatnonzero(y != digit))
        score = MagnitudeOutlierDetector(novelty=True).fit(X[train]).score_samples(X[queries])
        found.append(roc_auc_score(np.arange(len(queries)) < len(known), score))
    assert np.mean(found) >= 0.99


def test_floor_of_figure_4():
    found = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        sign = np.where(np.arange(255) < 127, 2.0, -2.0)
        X = np.vstack(
            [0.5 * rng.normal(size=(255, 2)) + sign[:, None], rng.uniform(-6, 6, (45, 2))]
        )
        model = MagnitudeOutlierDetector(criterion="paper", tau=0.2, metric="euclidean")
        found.append(f1_score(np.arange(300) >= 255, model.fit_predict(X) == -1))
    assert np.mean(found) >= 0.8


@pytest.mark.parametrize(("name", "floor"), [("breastw", 0.98), ("pima", 0.67)])
def test_floors_of_real_sets(name, floor):
    if name not in available():
        pytest.skip(f"SKMAG_DATA names no folder with {name}")
    X, y = load(name)
    X = StandardScaler().fit_transform(X)
    assert auc(lambda seed: (X, y), range(3)) >= floor


@each
def test_skops_and_other_arrays_hold_the_same_detector(settings, tmp_path):
    X = polluted()
    model = MagnitudeOutlierDetector(**settings).fit(X)
    expected = model.score_samples(X)
    skops.io.dump(model, tmp_path / "model.skops")
    trusted = skops.io.get_untrusted_types(file=tmp_path / "model.skops")
    assert all(name.startswith(("skmag.", "numpy.")) for name in trusted), trusted
    loaded = skops.io.load(tmp_path / "model.skops", trusted=trusted)
    np.testing.assert_array_equal(loaded.score_samples(X), expected)
    with config_context(array_api_dispatch=True):
        moved = move_estimator_to(model, get_namespace(torch.zeros(1))[0], "cpu")
        found = moved.score_samples(torch.from_numpy(X))
        assert isinstance(found, torch.Tensor)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("k", [3, 20, 31])
@each
def test_equivalent_points_are_no_outliers_of_one_another(settings, k):
    model = MagnitudeOutlierDetector(**settings).fit(np.eye(k))
    assert not (model.scores_ < model.offset_).any() or "random_state" in settings
    share = MagnitudeOutlierDetector(contamination=0.1, **settings).fit(np.eye(k))
    assert not (share.scores_ < share.offset_).any() or "random_state" in settings


def test_what_another_criterion_learned_is_forgotten():
    model = MagnitudeOutlierDetector(criterion="paper").fit(polluted())
    assert not hasattr(model.set_params(criterion="gain").fit(polluted()), "candidates_")
    assert MagnitudeOutlierDetector(n_jobs=np.int64(2), n_estimators=3).fit(polluted()).offset_ < 0
