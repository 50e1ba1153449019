import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from reference import dense_inverse, normal, peak_memory, within_limits
from scipy.ndimage import rotate
from scipy.spatial.distance import cdist
from scipy.stats import binom
from sklearn import clone, config_context
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError

from skmag import MagnitudeDriftDetector, magnitude_two_sample_test, weighting


def detector(**params):
    return MagnitudeDriftDetector(**{"n_resamples": 39, "random_state": 0, **params})


def naive_residuals(X, Y, t):
    """Residual of each row beside the other set, by explicit inverses."""
    for own, other in ((X, Y), (Y, X)):
        other = np.unique(other, axis=0)
        k = np.exp(-t * cdist(own, other))
        yield 1 - ((k @ dense_inverse(other, t)) * k).sum(1)


def naive_witnesses(X, Y, t):
    """Mean similarity to the own set less that to the other."""
    for own, other in ((X, Y), (Y, X)):
        yield np.exp(-t * cdist(own, own)).mean(1) - np.exp(-t * cdist(own, other)).mean(1)


NAIVE = {"magnitude": naive_residuals, "mmd": naive_witnesses}


def sets_with_copies():
    X, Y = normal(12, 2), normal(9, 2, seed=1)
    X[[3, 4]] = X[0]
    Y[5] = Y[2]
    Y[[6, 7]] = X[[1, 0]]
    return X, Y


@pytest.mark.parametrize("statistic", ["magnitude", "mmd"])
@pytest.mark.parametrize("t", [0.05, 1.0, 10.0])
@pytest.mark.parametrize("d", [1, 2])
def test_scores_of_rows_by_brute_force(statistic, t, d):
    X, Y = (points[:, :d] for points in sets_with_copies())
    report = detector(t=t, statistics=statistic).fit(X).report(Y)
    lost, moved = NAIVE[statistic](X, Y, t)
    assert_allclose(report.lost, lost, rtol=1e-7, atol=1e-9)
    assert_allclose(report.moved, moved, rtol=1e-7, atol=1e-9)
    assert (report.deciding_statistic, report.deciding_scale) == (statistic, t)


@pytest.mark.parametrize("t", [0.05, 1.0, 10.0])
def test_weights_are_those_in_the_union(t):
    X, Y = sets_with_copies()
    report = detector(t=t, statistics="magnitude").fit(X).report(Y)
    union = weighting(np.vstack([X, Y]), t=t)
    assert_allclose(report.weights, union.weights[len(X) :], rtol=1e-8)
    assert detector(t=t, statistics="mmd").fit(X).report(Y).weights is None


@pytest.mark.parametrize("t", [1e-6, 0.1, 3.0, 100.0])
def test_means_of_witnesses_add_up_to_the_mmd(t):
    X, Y = normal(30, 3), normal(20, 3, seed=1)
    report = detector(t=t, statistics="mmd").fit(X).report(Y)
    total = report.moved.mean() + report.lost.mean()
    assert total == pytest.approx(report.test.observed[0, 0], rel=1e-8)


def test_answers_are_those_of_the_two_sample_test():
    X, Y = normal(40, 3), normal(30, 3, seed=1) + 0.4
    model = detector(n_resamples=99).fit(X)
    report = model.report(Y)
    test = magnitude_two_sample_test(X, Y, n_resamples=99, rng=model._seed)
    assert (report.pvalue, report.statistic) == (test.pvalue, test.statistic)
    assert report.deciding_statistic == test.deciding_statistic
    assert report.deciding_scale == test.deciding_scale
    assert model.score(Y) == report.statistic
    assert bool(model.predict(Y)) is report.drift is (report.pvalue <= 0.05)


def test_the_same_batch_always_gets_the_same_answer():
    X, Y = normal(30, 3), normal(20, 3, seed=1)
    model = MagnitudeDriftDetector(n_resamples=39).fit(X)
    assert model.score(Y) == model.score(Y) == model.score(Y[::-1])
    assert detector().fit(X).score(Y) == detector().fit(X).score(Y)
    assert pickle.loads(pickle.dumps(model)).score(Y) == model.score(Y)


@pytest.mark.parametrize("statistics", ["magnitude", "mmd"])
def test_rows_that_moved_rank_first(statistics):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(150, 3)), rng.normal(size=(50, 3))
    Y[:12] += 4
    report = detector(statistics=statistics).fit(X).report(Y)
    assert report.drift
    assert set(report.moved.argsort()[-12:]) == set(range(12))
    X[:20] -= 4
    report = detector(statistics=statistics).fit(X).report(Y)
    assert set(report.lost.argsort()[-20:]) == set(range(20))


def test_nothing_moved_between_identical_sets():
    X = normal(20, 2)
    report = detector(statistics="magnitude").fit(X).report(X[::-1])
    assert_array_equal(report.moved, 0.0)
    assert_array_equal(report.lost, 0.0)
    assert not report.drift
    assert report.pvalue == 1.0


@pytest.mark.filterwarnings("ignore:a batch of")
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 6), (6, 1)])
def test_one_row(n, m):
    model = detector().fit(normal(n, 2))
    report = model.report(normal(m, 2, seed=1))
    # With so few labellings all are taken, and the least p-value is their inverse.
    assert report.pvalue >= 1 / (n + m)
    assert np.isfinite(report.statistic)
    assert np.isfinite(report.moved).all()
    assert report.moved.shape == (m,)
    assert report.lost.shape == (n,)


def test_constant_data():
    report = detector(t=1.0).fit(np.ones((5, 2))).report(np.ones((3, 2)))
    assert (report.pvalue, report.drift) == (1.0, False)
    assert_array_equal(report.moved, 0.0)
    moved = detector(t=1.0).fit(np.ones((20, 2))).report(np.zeros((10, 2)))
    assert moved.drift


@pytest.mark.parametrize("metric", ["cityblock", "seuclidean", lambda a, b: abs(a - b).sum()])
def test_metrics(metric):
    X, Y = normal(20, 2), normal(15, 2, seed=1) + 3
    report = detector(metric=metric).fit(X).report(Y)
    assert report.drift
    assert report.moved.mean() > 0


@pytest.mark.parametrize("t", ["scale", 2.0, [0.5, 2.0], np.array([1.0]), None])
def test_scales(t):
    X, Y = normal(20, 2), normal(15, 2, seed=1)
    report = detector(t=t).fit(X).report(Y)
    assert report.deciding_scale in report.test.scales
    if t is not None and not isinstance(t, str):
        assert_array_equal(report.test.scales, np.atleast_1d(t))


def test_false_alarms_are_nominal_and_rotated_digits_raise_alarms():
    X = load_digits().data
    images = X.reshape(-1, 8, 8)
    turned = rotate(images, 25, axes=(2, 1), reshape=False, order=1).reshape(X.shape)
    false, true, n_references = 0, 0, 40
    for seed in range(n_references):
        order = np.random.default_rng(seed).permutation(len(X))
        model = detector(random_state=seed).fit(X[order[:150]])
        false += bool(model.predict(X[order[150:200]]))
        true += bool(model.predict(turned[order[200:250]])) if seed < 10 else 0
    low, high = binom.interval(0.999, n_references, 0.05)
    assert low <= false <= high
    assert true == 10


def test_kinds_of_arrays():
    X, Y = normal(20, 3), normal(10, 3, seed=1)
    expected = detector().fit(X).report(Y)
    assert detector().fit(X.tolist()).report(Y.tolist()).pvalue == expected.pvalue
    frames = detector().fit(pd.DataFrame(X, columns=list("abc")))
    assert frames.report(pd.DataFrame(Y, columns=list("abc"))).pvalue == expected.pvalue
    assert frames.feature_names_in_.tolist() == list("abc")
    with config_context(array_api_dispatch=True):
        model = detector().fit(torch.from_numpy(X))
        report = model.report(torch.from_numpy(Y))
        alarm = model.predict(torch.from_numpy(Y))
    assert isinstance(report.moved, torch.Tensor)
    assert isinstance(alarm, torch.Tensor)
    assert alarm.shape == ()
    assert alarm.dtype == torch.bool
    assert report.pvalue == expected.pvalue
    assert_allclose(report.moved.numpy(), expected.moved, rtol=1e-9)


def test_writing_into_the_reference_afterwards_changes_nothing():
    X, Y = normal(20, 3), normal(10, 3, seed=1)
    model = detector().fit(X)
    before = model.score(Y)
    X[:] = 0
    assert model.score(Y) == before


def test_alpha_below_the_least_p_value_is_refused():
    with pytest.raises(ValueError, match=r"alpha=0\.001 .* use n_resamples=999 or more"):
        detector(alpha=0.001).fit(normal())
    detector(alpha=0.025).fit(normal())
    with pytest.raises(ValueError, match="alpha"):
        detector(alpha=1.0).fit(normal())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"metric": "precomputed"}, "metric='precomputed' is not supported"),
        ({"metric": "nonsense"}, "nonsense"),
        ({"statistics": ["mmd", "mmd"]}, "statistics"),
        ({"statistics": "energy"}, "statistics"),
        ({"t": [1.0, -1.0]}, r"t\[1\]"),
        ({"t": []}, "t is empty"),
    ],
)
def test_bad_arguments(params, message):
    with pytest.raises(ValueError, match=message):
        detector(**params).fit(normal())


@pytest.mark.parametrize(
    ("Y", "message"),
    [
        (np.zeros((4, 2)), "2 features"),
        (np.empty((0, 3)), "0 sample"),
        (np.full((2, 3), np.nan), "NaN"),
        (np.zeros(3), "2D array"),
    ],
)
@pytest.mark.parametrize("method", ["predict", "score", "report"])
def test_bad_batches(Y, message, method):
    model = detector().fit(normal())
    with pytest.raises(ValueError, match=message):
        getattr(model, method)(Y)


@pytest.mark.parametrize("X", [np.empty((0, 3)), np.full((2, 3), np.inf), np.zeros(3)])
def test_bad_references(X):
    with pytest.raises(ValueError, match=r"sample|infinity|2D"):
        detector().fit(X)


@pytest.mark.parametrize("method", ["predict", "score", "report"])
def test_not_fitted(method):
    with pytest.raises(NotFittedError):
        getattr(detector(), method)(normal())


def test_report_refuses_arrays_of_another_library():
    model = detector().fit(normal())
    with config_context(array_api_dispatch=True), pytest.raises(ValueError, match="same namespace"):
        model.report(torch.zeros(2, 3))


def test_clone_and_tags():
    model = clone(detector(alpha=0.1).fit(normal()))
    assert model.alpha == 0.1
    assert not hasattr(model, "reference_")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert repr(model).startswith("MagnitudeDriftDetector(alpha=0.1")


def test_batches_too_small_for_an_alarm_are_told_of():
    model = detector(n_resamples=199).fit(normal(10, 2))
    with pytest.warns(UserWarning, match=r"p-value is at least 0\.0909, above alpha=0\.05"):
        assert not model.predict(normal(1, 2, seed=1) + 100)
    assert detector(n_resamples=199).fit(normal(20, 2)).predict(normal(1, 2, seed=1) + 100)


@pytest.mark.parametrize("metric", ["seuclidean", "mahalanobis"])
def test_a_feature_may_begin_to_vary(metric):
    X, Y = normal(40, 3), normal(30, 3, seed=1)
    X[:, 2] = 1.0
    assert detector(metric=metric).fit(X).predict(Y)


def test_fitting_in_parts_is_fitting_at_once():
    X, Y = normal(60, 3), normal(25, 3, seed=1) + 0.3
    whole = detector().fit(X)
    parts = detector().partial_fit(X[:20]).partial_fit(X[20:21]).partial_fit(X[21:])
    assert_array_equal(parts.reference_, whole.reference_)
    for name in ("pvalue", "statistic", "deciding_scale"):
        assert getattr(parts.report(Y), name) == getattr(whole.report(Y), name)
    assert_array_equal(parts.report(Y).lost, whole.report(Y).lost)
    begun = detector().fit(X[:20]).partial_fit(X[20:])
    assert begun.score(Y) == whole.score(Y)
    assert_array_equal(parts.fit(X[:5]).reference_, X[:5])


def test_fitting_in_parts_checks_features():
    frame = pd.DataFrame(normal(9, 3), columns=list("abc"))
    model = detector().partial_fit(frame)
    with pytest.raises(ValueError, match="2 features"):
        detector().partial_fit(normal(9, 3)).partial_fit(normal(9, 2))
    with pytest.raises(ValueError, match="feature names should match"):
        model.partial_fit(frame.rename(columns={"a": "z"}))
    assert len(model.reference_) == 9
    with pytest.raises(ValueError, match=r"alpha=0\.001"):
        detector(alpha=0.001).partial_fit(frame)


def test_fitting_in_parts_keeps_the_kind_of_array():
    with config_context(array_api_dispatch=True):
        model = detector().partial_fit(torch.from_numpy(normal(9, 3)))
        model.partial_fit(torch.from_numpy(normal(5, 3, seed=1)))
        assert isinstance(model.reference_, torch.Tensor)
        with pytest.raises(ValueError, match="same namespace"):
            model.partial_fit(normal(9, 3))
    assert model.reference_.shape == (14, 3)


def test_writing_into_added_rows_changes_nothing():
    X, more = normal(9, 3), normal(9, 3, seed=1)
    model = detector().partial_fit(X).partial_fit(more)
    more[:] = 0
    assert model.reference_[9:].all()


@pytest.mark.parametrize(
    ("block_size", "n", "expected"),
    [("auto", 1000, None), ("auto", 1001, 100), (7, 9, 7), (None, 2000, None)],
)
def test_blocks(block_size, n, expected):
    X, Y = normal(n, 2), normal(12, 2, seed=1)
    params = {"statistics": "mmd", "t": 1.0, "block_size": block_size}
    model = detector(**params).fit(X)
    test = magnitude_two_sample_test(
        X, Y, t=1.0, statistics="mmd", n_resamples=39, rng=model._seed, block_size=expected
    )
    assert model.score(Y) == test.statistic
    # The batch may be the larger one.
    assert detector(**params).fit(Y).score(X) != pytest.approx(0)


def test_blocks_are_limited_and_shared_by_jobs():
    X, Y = normal(60, 2), normal(40, 2, seed=1)
    few, all_rows = (detector(block_size=10, max_blocks=most).fit(X) for most in (2, None))
    assert few.score(Y) != all_rows.score(Y)
    assert detector(block_size=10, n_jobs=2).fit(X).score(Y) == all_rows.score(Y)
    with pytest.raises(ValueError, match="max_blocks=2 needs a block_size"):
        detector(block_size=None, max_blocks=2).fit(X)


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_a_report_by_a_named_solver(solver):
    X, Y = normal(40, 3), normal(30, 3, seed=1)
    params = {"t": 1.0, "statistics": "magnitude"}
    expected = detector(**params).fit(X).report(Y)
    report = detector(solver=solver, tol=1e-10, **params).fit(X).report(Y)
    assert_allclose(report.moved, expected.moved, rtol=1e-6)
    assert_allclose(report.weights, expected.weights, rtol=1e-6, atol=1e-8)


def test_a_report_of_a_large_union_leaves_weights_out(monkeypatch):
    monkeypatch.setattr("skmag._moved_rows._WEIGHTED_POINTS", 50)
    monkeypatch.setattr("skmag._moved_rows._MERGED_POINTS", 50)
    X, Y = normal(40, 3), normal(30, 3, seed=1)
    report = detector(t=1.0, statistics="magnitude").fit(X).report(Y)
    assert report.weights is None
    _, moved = naive_residuals(X, Y, 1.0)
    assert_allclose(report.moved, moved, rtol=1e-8)


def test_memory_is_that_of_the_blocks():
    setup = """
import numpy as np
from skmag import MagnitudeDriftDetector
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(8000, 3)), rng.normal(size=(4000, 3))
model = MagnitudeDriftDetector(n_resamples=19, max_blocks=2, random_state=0)
model.fit(X[:1100]).predict(Y[:1000])"""
    taken = peak_memory(setup, "model.fit(X).predict(Y)")
    # Three copies of the samples, five matrices of a block, and batches of the cache's size. One
    # matrix of all rows would take a gigabyte.
    assert taken < 3 * 8 * 3 * 12_000 + 5 * 8 * 400**2 + 32 * 2**20


def test_too_little_memory_is_told():
    setup = """
import numpy as np
from skmag import MagnitudeDriftDetector
X = np.random.default_rng(0).normal(size=(1500, 3))
def score(block_size):
    model = MagnitudeDriftDetector(
        1.0, statistics="mmd", n_resamples=19, block_size=block_size, random_state=0
    )
    return model.fit(X).score(1.1 * X[::2])
expected = score(50)"""
    rooms = [2**20 * room for room in (1, 8, 99)]
    *told, again = within_limits(
        setup, "score(None if room < 2**20 * 100 else 50) == expected", [*rooms, 2**20 * 100]
    )
    for message in told:
        assert message.startswith("MemoryError")
        assert "n=2,250" in message
        assert "block_size" in message
        assert "more" in message or "bytes" in message
    assert again == "True"
