import pickle

import array_api_strict
import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from reference import StopAfter, dense, dense_inverse, normal, peak_memory, within_limits
from scipy.spatial.distance import cdist
from sklearn import clone, config_context
from sklearn.callback import ProgressBar
from sklearn.datasets import load_iris, make_blobs, make_moons
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._array_api import get_namespace, move_estimator_to

from skmag import MagnitudeClustering

CENTERS = [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]


def blobs(n=60, seed=0):
    return make_blobs(n, centers=CENTERS, random_state=seed)


@pytest.mark.parametrize(
    ("X", "y"),
    [
        blobs(),
        make_blobs(150, centers=[[0, 0], [9, 0], [0, 9], [9, 9], [20, 4]], random_state=1),
        make_moons(200, noise=0.05, random_state=2),
    ],
    ids=["three", "five", "moons"],
)
@pytest.mark.parametrize("seed", range(3))
def test_clusters_that_are_separated_are_found(X, y, seed):
    model = MagnitudeClustering(random_state=seed).fit(X)
    assert model.n_clusters_ == y.max() + 1
    assert adjusted_rand_score(y, model.labels_) >= 0.97


def test_outliers_are_noise_or_do_no_harm():
    X, y = make_blobs(190, centers=[[-8, -8], [-8, 8], [8, -8], [8, 8]], random_state=0)
    noise = np.random.default_rng(0).uniform(-14, 14, size=(10, 2))
    model = MagnitudeClustering(random_state=0).fit(np.vstack([X, noise]))
    assert model.n_clusters_ == 4
    assert adjusted_rand_score(y, model.labels_[:190]) >= 0.97


def test_attributes_of_the_sweep():
    X, _ = blobs()
    model = MagnitudeClustering(random_state=0).fit(X)
    assert model.t_ == pytest.approx(10 / np.median(cdist(X, X)[np.triu_indices(60, 1)]))
    intervals, counts = model.intervals_, model.counts_
    assert intervals.shape == (len(counts), 2)
    assert intervals[0, 1] == np.inf
    assert counts[0] == 1
    # One run after the other, without a gap beyond rounding.
    assert (intervals[:, 0] < intervals[:, 1]).all()
    np.testing.assert_allclose(intervals[1:, 1], intervals[:-1, 0], rtol=1e-6)
    lower, upper = model.persistent_interval_
    inside = (intervals[:, 0] >= lower) & (intervals[:, 1] <= upper)
    assert set(counts[inside]) == {3}
    top = np.flatnonzero(inside)[0]
    assert model.threshold_ == pytest.approx(np.sqrt(intervals[top].prod()))
    again = MagnitudeClustering(model.t_, model.threshold_, random_state=0).fit(X)
    assert again.labels_.tolist() == model.labels_.tolist()
    assert not hasattr(again, "counts_")


def test_labels_magnitudes_and_noise():
    X, _ = blobs()
    X = np.vstack([[[50.0, 50.0]], X, [[-60.0, 10.0]]])
    model = MagnitudeClustering(1.0, 0.5, random_state=3, min_cluster_size=5).fit(X)
    labels = model.labels_
    assert labels[[0, -1]].tolist() == [-1, -1]
    # Numbered in order of their first rows.
    found, first = np.unique(labels[labels >= 0], return_index=True)
    assert found.tolist() == list(range(model.n_clusters_))
    assert (np.diff(first) > 0).all()
    magnitudes = [dense_inverse(X[labels == c], 1.0).sum() for c in range(model.n_clusters_)]
    np.testing.assert_allclose(model.cluster_magnitudes_, magnitudes, rtol=1e-8)
    assert clone(model).fit_predict(X).tolist() == labels.tolist()
    loose = clone(model).set_params(min_cluster_size=1).fit(X)
    assert (loose.labels_ >= 0).all()
    assert loose.n_clusters_ >= model.n_clusters_ + 2


@pytest.mark.parametrize(
    ("size", "needed"), [("auto", 5), (7, 7), (0.2, 12), (0.001, 1), (1, 1), (61, 61)]
)
def test_smallest_cluster(size, needed):
    X, _ = blobs()
    every = MagnitudeClustering(1.0, 0.2, random_state=0, min_cluster_size=1).fit(X)
    sizes = np.bincount(every.labels_)
    assert sizes.min() < 5 < sizes.max()
    model = MagnitudeClustering(1.0, 0.2, random_state=0, min_cluster_size=size).fit(X)
    assert model.n_clusters_ == (sizes >= needed).sum()
    assert ((model.labels_ >= 0) == (sizes >= needed)[every.labels_]).all()


def test_auto_size_is_a_share_of_many_rows():
    X, _ = blobs(150)
    every = MagnitudeClustering(1.0, 0.2, random_state=0, min_cluster_size=1).fit(X)
    model = MagnitudeClustering(1.0, 0.2, random_state=0).fit(X)
    assert model.n_clusters_ == (np.bincount(every.labels_) >= 8).sum()


def test_nothing_but_noise():
    X, _ = blobs()
    model = MagnitudeClustering(1.0, 1e-6, random_state=0).fit(X)
    assert model.labels_.tolist() == [-1] * 60
    assert model.n_clusters_ == 0
    assert model.cluster_magnitudes_.shape == (0,)
    assert model.predict(X[:3]).tolist() == [-1] * 3


@pytest.mark.parametrize("n", [1, 4, 9])
def test_no_threshold_gives_two_clusters(n):
    X = normal(n, 2)
    model = MagnitudeClustering(random_state=0).fit(X)
    assert model.labels_.tolist() == [0] * n
    assert model.n_clusters_ == 1
    assert model.threshold_ == np.inf
    assert model.counts_[0] <= 1
    assert model.predict([[100.0, 100.0]]).tolist() == [0]


def test_predictions_are_the_least_gain():
    X, _ = blobs()
    model = MagnitudeClustering(1.0, 0.4, random_state=0).fit(X)
    Z = np.random.default_rng(1).uniform(-4, 14, size=(200, 2))
    gains = []
    for c in range(model.n_clusters_):
        own = X[model.labels_ == c]
        inverse, k = dense_inverse(own, 1.0), np.exp(-cdist(Z, own))
        gains.append((1 - k @ inverse.sum(1)) ** 2 / (1 - ((k @ inverse) * k).sum(1)))
    least, expected = np.min(gains, axis=0), np.argmin(gains, axis=0)
    expected[least >= 0.4] = -1
    assert set(expected) == {-1, 0, 1, 2}
    assert model.predict(Z).tolist() == expected.tolist()
    with config_context(working_memory=0.002):
        assert model.predict(Z).tolist() == expected.tolist()


@pytest.mark.parametrize("metric", ["euclidean", "precomputed", "canberra"])
def test_training_rows_keep_their_labels(metric):
    X = np.abs(np.vstack([blobs()[0], blobs()[0][:9], [[60.0, 60.0], [60.0, 60.0]]]))
    A = cdist(X, X) if metric == "precomputed" else X
    model = MagnitudeClustering(threshold=0.3, metric=metric, random_state=0).fit(A)
    assert -1 in model.labels_
    assert model.n_clusters_ >= 1
    assert model.predict(A).tolist() == model.labels_.tolist()


def test_copies_have_one_label_and_change_nothing():
    X, _ = blobs()
    rows = np.repeat(np.arange(60), np.arange(60) % 3 + 1)
    params = {"t": 1.0, "threshold": 0.3, "min_cluster_size": 1, "random_state": 0}
    single = MagnitudeClustering(**params).fit(X)
    copied = MagnitudeClustering(**params).fit(X[rows])
    assert copied.labels_.tolist() == single.labels_[rows].tolist()
    np.testing.assert_allclose(copied.cluster_magnitudes_, single.cluster_magnitudes_)
    # They are rows that make a cluster count.
    many = np.vstack([X, np.repeat([[50.0, 50.0]], 9, axis=0)])
    assert MagnitudeClustering(1.0, 0.3, random_state=0).fit(many).labels_[-1] >= 0


def test_the_units_of_the_data_do_not_matter():
    X, _ = blobs()
    expected = MagnitudeClustering(random_state=0).fit(X)
    found = MagnitudeClustering(random_state=0).fit(2.0**40 * X)
    assert found.labels_.tolist() == expected.labels_.tolist()
    np.testing.assert_allclose(found.counts_, expected.counts_)


@pytest.mark.parametrize("metric", ["euclidean", "cityblock"])
def test_distances_give_the_same_clusters(metric):
    X = np.vstack([blobs()[0], blobs()[0][:5]])
    expected = MagnitudeClustering(metric=metric, random_state=0).fit(X)
    found = MagnitudeClustering(metric="precomputed", random_state=0).fit(cdist(X, X, metric))
    assert found.labels_.tolist() == expected.labels_.tolist()
    Z = normal(20, 2) * 8
    assert found.predict(cdist(Z, X, metric)).tolist() == expected.predict(Z).tolist()


def test_a_metric_without_meaning_is_refused():
    D = 2 - 2 * np.eye(5)
    D[:3, 3:] = D[3:, :3] = 1.0
    assert np.linalg.eigvalsh(dense(D, 0.1, "precomputed"))[0] < -1e-3
    for threshold in (0.9, "persistent"):
        model = MagnitudeClustering(0.1, threshold, metric="precomputed", random_state=0)
        with pytest.raises(ValueError, match="metric of negative type"):
            model.fit(D)


@pytest.mark.parametrize("threshold", ["persistent", 0.3])
@pytest.mark.parametrize("how", ["pickle", "skops"])
def test_a_fitted_model_is_saved_and_loaded(threshold, how, tmp_path):
    X = np.vstack([blobs()[0], [[60.0, 60.0]]])
    model = MagnitudeClustering(threshold=threshold, random_state=0).fit(X)
    if how == "pickle":
        loaded = pickle.loads(pickle.dumps(model))
    else:
        skops.io.dump(model, tmp_path / "model.skops")
        trusted = skops.io.get_untrusted_types(file=tmp_path / "model.skops")
        assert not any("Tensor" in name for name in trusted)
        loaded = skops.io.load(tmp_path / "model.skops", trusted=trusted)
    Z = np.vstack([X, 8 * normal(30, 2)])
    assert loaded.predict(Z).tolist() == model.predict(Z).tolist()


@pytest.mark.parametrize("xp", [torch, array_api_strict])
def test_other_arrays(xp):
    X = np.vstack([blobs()[0], [[60.0, 60.0]]])
    Z = np.vstack([X, 8 * normal(30, 2)])
    expected = MagnitudeClustering(random_state=0).fit(X)
    with config_context(array_api_dispatch=True):
        model = MagnitudeClustering(random_state=0).fit(xp.asarray(X))
        predicted = model.predict(xp.asarray(Z))
        for name in ("labels_", "cluster_magnitudes_", "intervals_", "counts_"):
            found = getattr(model, name)
            assert type(found).__module__.startswith(xp.__name__)
            np.testing.assert_array_equal(np.asarray(found), getattr(expected, name))
        assert type(predicted).__module__.startswith(xp.__name__)
        with pytest.raises(ValueError, match="namespace"):
            model.predict(Z)
    np.testing.assert_array_equal(np.asarray(predicted), expected.predict(Z))


def test_a_fitted_model_moves_between_libraries():
    X = np.vstack([blobs()[0], [[60.0, 60.0]]])
    model = MagnitudeClustering(threshold=0.3, random_state=0).fit(X)
    expected = model.predict(X).tolist()
    with config_context(array_api_dispatch=True):
        moved = move_estimator_to(model, get_namespace(torch.zeros(1))[0], "cpu")
        found = moved.predict(torch.from_numpy(X))
    assert isinstance(found, torch.Tensor)
    assert found.tolist() == expected


def test_frames_and_a_pipeline():
    X, y = load_iris(return_X_y=True)
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    pipe = make_pipeline(StandardScaler(), MagnitudeClustering(random_state=0))
    labels = pipe.set_output(transform="pandas").fit_predict(frame)
    assert pipe[-1].feature_names_in_.tolist() == ["a", "b", "c", "d"]
    # Two of the three species overlap.
    assert pipe[-1].n_clusters_ == 2
    assert adjusted_rand_score(y == 0, labels) == 1.0
    assert pipe.predict(frame).tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": "stable"}, "threshold"),
        ({"t": -1.0}, "'t'"),
        ({"min_cluster_size": 0}, "min_cluster_size"),
        ({"min_cluster_size": 1.5}, "min_cluster_size"),
        ({"metric": "nearness"}, "metric='nearness'"),
        ({"device": "abacus"}, "device='abacus'"),
    ],
)
def test_what_cannot_be(params, match):
    with pytest.raises(ValueError, match=match):
        MagnitudeClustering(**params).fit(blobs()[0])


@pytest.mark.parametrize("threshold", ["persistent", 0.3])
def test_progress_is_told(threshold, capsys):
    X, _ = blobs()
    plain = MagnitudeClustering(threshold=threshold, random_state=0).fit(X)
    model = MagnitudeClustering(threshold=threshold, random_state=0)
    told = model.set_callbacks(ProgressBar()).fit(X)
    assert told.labels_.tolist() == plain.labels_.tolist()
    assert "MagnitudeClustering" in capsys.readouterr().out


def test_a_callback_stops_the_sweep():
    X, _ = blobs()
    whole = MagnitudeClustering(random_state=0).fit(X)
    model = MagnitudeClustering(random_state=0).set_callbacks(StopAfter(4)).fit(X)
    assert model.counts_.tolist() == whole.counts_[:4].tolist()
    assert model.n_clusters_ == whole.counts_[:4].max()
    first = MagnitudeClustering(random_state=0).set_callbacks(StopAfter(1)).fit(X)
    assert first.labels_.tolist() == [0] * 60


def test_a_callback_stops_a_run():
    X, _ = blobs(330)
    params = {"t": 1.0, "threshold": 0.5, "random_state": 0, "min_cluster_size": 1}
    whole = MagnitudeClustering(**params).fit(X)
    model = MagnitudeClustering(**params).set_callbacks(StopAfter(2)).fit(X)
    # The first point and two hundred steps.
    assert (model.labels_ >= 0).sum() == 201
    reached = model.labels_ >= 0
    assert adjusted_rand_score(model.labels_[reached], whole.labels_[reached]) == 1.0
    assert (whole.labels_ >= 0).all()


def test_single_rows_are_no_clusters_of_a_sweep():
    X = np.random.default_rng(0).normal(size=(40, 2))
    one, two = (
        MagnitudeClustering(min_cluster_size=size, random_state=0).fit(X) for size in (1, 2)
    )
    assert one.labels_.tolist() == two.labels_.tolist()


def test_as_many_samples_as_rows_is_all_rows():
    X, _ = blobs()
    expected = MagnitudeClustering(random_state=0).fit(X)
    for most in (60, 1.0, 10**9):
        found = MagnitudeClustering(max_samples=most, random_state=0).fit(X)
        assert found.labels_.tolist() == expected.labels_.tolist()
        assert found.sample_indices_.tolist() == list(range(60))
    assert not hasattr(expected, "sample_indices_")


@pytest.mark.parametrize("threshold", ["persistent", 0.3])
def test_clusters_of_a_sample_take_the_others(threshold):
    X, y = blobs(400)
    model = MagnitudeClustering(threshold=threshold, max_samples=100, random_state=0).fit(X)
    rows = model.sample_indices_
    assert len(rows) == len(set(rows.tolist())) == 100
    assert (np.diff(rows) > 0).all()
    # The sample is clustered as if it were all there is; the draw comes before the first point's.
    state = np.random.RandomState(0)
    assert rows.tolist() == sorted(state.choice(400, 100, replace=False).tolist())
    alone = MagnitudeClustering(threshold=threshold, random_state=state).fit(X[rows])
    assert model.labels_[rows].tolist() == alone.labels_.tolist()
    assert model.labels_.tolist() == model.predict(X).tolist() == alone.predict(X).tolist()
    assert adjusted_rand_score(y, model.labels_) >= (0.97 if threshold == "persistent" else 0.85)
    assert len(MagnitudeClustering(max_samples=0.1, random_state=0).fit(X).sample_indices_) == 40


def test_samples_of_distances():
    X, _ = blobs(80)
    X = np.vstack([X, X[:9]])
    params = {"max_samples": 50, "random_state": 0}
    expected = MagnitudeClustering(**params).fit(X)
    found = MagnitudeClustering(metric="precomputed", **params).fit(cdist(X, X))
    assert found.labels_.tolist() == expected.labels_.tolist()
    Z = normal(20, 2) * 8
    assert found.predict(cdist(Z, X)).tolist() == expected.predict(Z).tolist()


@pytest.mark.parametrize("most", [0, 0.0, 1.5, -3])
def test_numbers_of_samples_that_cannot_be(most):
    with pytest.raises(ValueError, match="max_samples"):
        MagnitudeClustering(max_samples=most).fit(blobs()[0])


@pytest.mark.parametrize("xp", [torch, array_api_strict])
def test_samples_of_other_arrays(xp):
    X, Z = blobs()[0], normal(9, 2)
    params = {"max_samples": 40, "random_state": 0}
    expected = MagnitudeClustering(**params).fit(X)
    with config_context(array_api_dispatch=True):
        model = MagnitudeClustering(**params).fit(xp.asarray(X))
        assert np.asarray(model.labels_).tolist() == expected.labels_.tolist()
        assert np.asarray(model.predict(xp.asarray(Z))).tolist() == expected.predict(Z).tolist()


def test_queries_come_in_blocks():
    X = np.vstack([blobs()[0], [[60.0, 60.0]]])
    Z = np.vstack([X, 8 * normal(300, 2)])
    model = MagnitudeClustering(threshold=0.3, random_state=0).fit(X)
    expected = model.predict(Z)
    with config_context(working_memory=0.01):
        assert model.predict(Z).tolist() == expected.tolist()
        assert len(set(expected.tolist())) > 3


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_solvers_of_finished_clusters(solver):
    X, _ = blobs()
    expected = MagnitudeClustering(random_state=0).fit(X)
    found = MagnitudeClustering(solver=solver, tol=1e-10, random_state=0).fit(X)
    np.testing.assert_allclose(found.cluster_magnitudes_, expected.cluster_magnitudes_, rtol=1e-8)


@pytest.mark.parametrize("threshold", ["persistent", 0.3])
def test_a_fit_that_does_not_fit_names_the_way_out(threshold, monkeypatch):
    monkeypatch.setattr("skmag._growth.available_memory", lambda device: 1e4)
    X, _ = blobs(200)
    with pytest.raises(
        MemoryError, match=r"n=200 distinct points needs [\d,]+ bytes .*max_samples"
    ):
        MagnitudeClustering(threshold=threshold, random_state=0).fit(X)


def test_the_peak_of_a_fit():
    setup = """
import numpy as np, sklearn
from skmag import MagnitudeClustering
sklearn.set_config(working_memory=4)
X = np.random.default_rng(0).normal(size=(1200, 2))
model = MagnitudeClustering(2.0, 0.5, random_state=0)
model.fit(X[::4])"""
    assert peak_memory(setup, "model.fit(X)") < 5 * 1200**2 + 12 * 2**20


def test_the_peak_of_predictions(monkeypatch):
    # What blocks give back is free at once, and not kept by the C library for the next ones.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "500000")
    setup = """
import numpy as np, sklearn
from skmag import MagnitudeClustering
sklearn.set_config(working_memory=8)
rng = np.random.default_rng(0)
X, Z = rng.normal(size=(300, 2)), rng.normal(size=(100_000, 2))
model = MagnitudeClustering(2.0, 0.5, random_state=0).fit(X)
model.predict(Z[:10_000])"""
    # What is returned, and some blocks; all queries at once take hundreds of millions of bytes.
    assert peak_memory(setup, "labels = model.predict(Z)") < 8 * 100_000 + 24 * 2**20


def test_too_little_memory_is_told():
    setup = """
import numpy as np
from skmag import MagnitudeClustering
X = np.random.default_rng(0).normal(size=(700, 3))
def clusters(threshold):
    return MagnitudeClustering(2.0, threshold, random_state=0).fit(X).labels_.sum()
expected = clusters(5.0)"""
    rooms = [2**18, 2**20, 2**22, 2**26]
    *told, enough = within_limits(setup, "clusters(5.0) == expected", rooms)
    assert enough == "np.True_"
    assert told[0].startswith("MemoryError")
    for message in told:
        assert message == "np.True_" or ("n=700" in message and "max_samples" in message)
