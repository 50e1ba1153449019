import inspect
import pickle
import runpy
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from imblearn.base import is_sampler
from imblearn.pipeline import make_pipeline
from imblearn.utils._tags import InputTags, SamplerTags, Tags
from imblearn.utils.estimator_checks import estimator_checks_generator
from scipy.spatial.distance import cdist
from sklearn import clone
from sklearn.datasets import make_blobs, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from skmag import MagnitudeSubsetSelector, MagnitudeUnderSampler
from skmag._representatives import STRATEGIES

each = pytest.mark.parametrize("strategy", STRATEGIES)


class Tagged(MagnitudeUnderSampler):
    """The sampler with imbalanced-learn's kind of tags, which its checks ask for."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        return Tags(
            estimator_type=tags.estimator_type,
            target_tags=tags.target_tags,
            input_tags=InputTags(two_d_array=True, dataframe=True),
            sampler_tags=SamplerTags(sample_indices=True),
        )


# imbalanced-learn's own decorator passes pytest a generator, which is deprecated there.
CHECKS = [
    (strategy, check)
    for strategy in STRATEGIES
    for _, check in estimator_checks_generator(Tagged(strategy=strategy, random_state=0))
]


@pytest.mark.parametrize(
    ("strategy", "check"), CHECKS, ids=[f"{own}-{check.func.__name__}" for own, check in CHECKS]
)
def test_imbalanced_learns_checks(strategy, check):
    estimator = Tagged(strategy=strategy, random_state=0)
    if check.func.__name__ == "check_samplers_pandas_sparse":
        # Distances need dense points.
        with pytest.raises(TypeError, match=r"[Ss]parse"):
            check(estimator)
    else:
        check(estimator)


def unbalanced(n=300, weights=(0.7, 0.2), seed=0):
    return make_classification(
        n, n_classes=3, n_informative=4, weights=list(weights), random_state=seed
    )


def test_a_sampler_and_no_transformer():
    sampler = MagnitudeUnderSampler()
    assert is_sampler(sampler)
    assert not hasattr(sampler, "transform")
    assert get_tags(sampler).estimator_type == "sampler"


@each
def test_each_class_is_reduced_as_by_the_selector(strategy):
    X, y = unbalanced()
    sampler = MagnitudeUnderSampler(strategy=strategy, t=0.3, random_state=0)
    X_few, y_few = sampler.fit_resample(X, y)
    least = np.bincount(y).min()
    assert np.bincount(y_few).tolist() == [least] * 3
    assert sampler.sampling_strategy_ == {0: least, 1: least}
    np.testing.assert_array_equal(X_few, X[sampler.sample_indices_])
    np.testing.assert_array_equal(y_few, y[sampler.sample_indices_])
    rng = np.random.RandomState(0)
    for label in (0, 1):
        rows = np.flatnonzero(y == label)
        selector = MagnitudeSubsetSelector(least, strategy=strategy, t=0.3, random_state=rng)
        expected = rows[selector.fit(X[rows]).sample_indices_]
        assert sampler.sample_indices_[y_few == label].tolist() == expected.tolist()
    # A class that is small enough stays as it is.
    assert sampler.sample_indices_[y_few == 2].tolist() == np.flatnonzero(y == 2).tolist()


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("auto", [30, 30, 30]),
        ("not minority", [30, 30, 30]),
        ("majority", [30, 60, 30]),
        ("all", [30, 30, 30]),
        ({0: 50}, [50, 60, 30]),
        ({0: 5, 2: 3}, [5, 60, 3]),
        (lambda y: {1: int((y == 1).sum()) // 2}, [210, 30, 30]),
    ],
)
def test_how_many_of_which_classes(strategy, expected):
    X, y = np.random.default_rng(0).normal(size=(300, 2)), np.repeat([0, 1, 2], [210, 60, 30])
    sampler = MagnitudeUnderSampler(sampling_strategy=strategy, random_state=0)
    assert np.bincount(sampler.fit_resample(X, y)[1]).tolist() == expected


def test_a_ratio_of_two_classes():
    X, y = np.random.default_rng(0).normal(size=(120, 2)), np.repeat(["a", "b"], [100, 20])
    sampler = MagnitudeUnderSampler(sampling_strategy=0.5, random_state=0)
    assert np.unique(sampler.fit_resample(X, y)[1], return_counts=True)[1].tolist() == [40, 20]


def test_copies_are_kept_only_where_points_run_out():
    X = np.repeat(np.arange(10.0), [1, 1, 1, 1, 30, 1, 1, 1, 1, 1])[:, None]
    X, y = np.vstack([X, X[:20] + 100]), np.repeat([0, 1], [39, 20])
    for wanted in (8, 10, 15):
        sampler = MagnitudeUnderSampler(sampling_strategy={0: wanted}, random_state=0)
        few, labels = sampler.fit_resample(X, y)
        own = few[labels == 0]
        assert len(own) == wanted
        assert len(np.unique(own)) == min(wanted, 10)
        assert len(set(sampler.sample_indices_.tolist())) == len(few)


def test_scale_of_all_classes_together():
    X, y = unbalanced()
    sampler = MagnitudeUnderSampler(random_state=0)
    sampler.fit_resample(X, y)
    assert sampler.t_ == pytest.approx(1 / np.median(cdist(X, X)[np.triu_indices(300, 1)]))


def test_frames_stay_frames():
    X, y = unbalanced()
    sampler = MagnitudeUnderSampler(random_state=0)
    expected, labels = sampler.fit_resample(X, y)
    frame = pd.DataFrame(X, columns=[f"f{i}" for i in range(20)], index=np.arange(300) + 7)
    few, few_y = sampler.fit_resample(frame, pd.Series(y, index=frame.index, name="label"))
    assert isinstance(few, pd.DataFrame)
    assert few.columns.tolist() == frame.columns.tolist()
    assert few.index.tolist() == few_y.index.tolist() == (sampler.sample_indices_ + 7).tolist()
    assert few_y.name == "label"
    np.testing.assert_array_equal(few, expected)
    assert sampler.get_feature_names_out().tolist() == frame.columns.tolist()
    polar, _ = sampler.fit_resample(pl.DataFrame(X), y)
    assert isinstance(polar, pl.DataFrame)
    np.testing.assert_array_equal(polar.to_numpy(), expected)
    tensor, tensor_y = sampler.fit_resample(torch.from_numpy(X), torch.from_numpy(y))
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), expected)
    np.testing.assert_array_equal(tensor_y.numpy(), labels)


def test_precomputed_distances_give_the_same_rows():
    X, y = unbalanced()
    expected = MagnitudeUnderSampler(random_state=0)
    expected.fit_resample(X, y)
    sampler = MagnitudeUnderSampler(metric="precomputed", random_state=0)
    few, _ = sampler.fit_resample(cdist(X, X), y)
    assert sampler.sample_indices_.tolist() == expected.sample_indices_.tolist()
    np.testing.assert_array_equal(few, cdist(X, X)[sampler.sample_indices_])


def test_in_a_pipeline_and_cross_validation():
    X, y = make_blobs([540, 60], centers=[[0, 0], [3, 0]], random_state=0)
    pipe = make_pipeline(
        StandardScaler(), MagnitudeUnderSampler(random_state=0), LogisticRegression()
    )
    assert cross_val_score(pipe, X, y, scoring="balanced_accuracy").mean() > 0.85
    fitted = clone(pipe).fit(X, y)
    assert np.bincount(y[fitted[1].sample_indices_]).tolist() == [np.sum(y == 1)] * 2
    # Only training data are reduced.
    assert len(fitted.predict(X)) == 600
    grid = {"magnitudeundersampler__strategy": list(STRATEGIES)}
    search = GridSearchCV(pipe, grid, cv=3, scoring="balanced_accuracy").fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_fit_only_counts():
    X, y = unbalanced()
    sampler = MagnitudeUnderSampler().fit(X, y)
    assert set(sampler.sampling_strategy_) == {0, 1}
    assert not hasattr(sampler, "sample_indices_")


def test_pickles():
    X, y = unbalanced()
    sampler = MagnitudeUnderSampler(random_state=0)
    sampler.fit_resample(X, y)
    loaded = pickle.loads(pickle.dumps(sampler))
    assert loaded.sample_indices_.tolist() == sampler.sample_indices_.tolist()


def test_without_imbalanced_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "imblearn.utils", None)
    with pytest.raises(ImportError, match="MagnitudeUnderSampler needs imbalanced-learn: pip"):
        MagnitudeUnderSampler().fit_resample(*unbalanced())


def test_the_module_is_imported_without_imbalanced_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "imblearn", None)
    assert "MagnitudeUnderSampler" in runpy.run_path(inspect.getfile(MagnitudeUnderSampler))


def test_arguments_are_refused_by_name():
    X, y = unbalanced()
    with pytest.raises(ValueError, match="should be less or equal"):
        MagnitudeUnderSampler(sampling_strategy={0: 10**6}).fit_resample(X, y)
    with pytest.raises(ValueError, match="more than 1 class"):
        MagnitudeUnderSampler().fit_resample(X, np.zeros(300))


def test_no_row_of_a_class_may_be_wanted():
    X, y = np.random.default_rng(0).normal(size=(30, 2)), np.repeat([0, 1], [20, 10])
    found = MagnitudeUnderSampler(sampling_strategy={0: 0}).fit_resample(X, y)
    assert found[1].tolist() == [1] * 10
