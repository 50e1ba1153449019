import os
from unittest import SkipTest

import numpy as np
import pytest
from sklearn import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import (
    check_array_api_input_and_values,
    check_dataframe_column_names_consistency,
    check_estimator,
    check_global_output_transform_pandas,
    check_global_set_output_transform_polars,
    check_inplace_ensure_writeable,
    check_param_validation,
    check_set_output_transform,
    check_set_output_transform_pandas,
    check_set_output_transform_polars,
    check_transformer_get_feature_names_out,
    check_transformer_get_feature_names_out_pandas,
    estimator_checks_generator,
    parametrize_with_checks,
)

from skmag import (
    MagnitudeActiveLearner,
    MagnitudeClassifier,
    MagnitudeClassifierCV,
    MagnitudeClustering,
    MagnitudeDriftDetector,
    MagnitudeOutlierDetector,
    MagnitudeSubsetSelector,
    MagnitudeUnderSampler,
)
from skmag.nn import MagnitudeGenerativeNetwork

CLASSIFIERS = [
    MagnitudeClassifier(),
    MagnitudeClassifierCV(ts=[0.1, 1.0]),
    MagnitudeActiveLearner(LogisticRegression()),
]
ESTIMATORS = [
    *CLASSIFIERS,
    MagnitudeOutlierDetector(random_state=0),
    MagnitudeClustering(random_state=0),
    MagnitudeSubsetSelector(10, random_state=0),
    MagnitudeDriftDetector(n_resamples=19, random_state=0),
    MagnitudeGenerativeNetwork(hidden_layer_sizes=(8,), max_epochs=2, random_state=0),
]
NAMES = [type(estimator).__name__ for estimator in ESTIMATORS]
# Checks that pass numbers where a table of distances is asked for.
NO_METRIC = {
    "check_estimators_dtypes": "fits products of points, whose similarities are not definite",
    "check_decision_proba_consistency": "fits points of shape (80, 2), not a square table",
}
each = pytest.mark.parametrize("estimator", ESTIMATORS, ids=NAMES)


@parametrize_with_checks(ESTIMATORS)
def test_estimator_checks(estimator, check):
    check(estimator)


@parametrize_with_checks([MagnitudeClustering(threshold=0.5, min_cluster_size=2)])
def test_estimator_checks_at_a_threshold(estimator, check):
    check(estimator)


@parametrize_with_checks([MagnitudeGenerativeNetwork(max_epochs=2, early_stopping=True)])
def test_estimator_checks_of_a_generator_that_stops_early(estimator, check):
    check(estimator)


@parametrize_with_checks(
    [MagnitudeClassifier(metric="precomputed")],
    expected_failed_checks=lambda estimator: NO_METRIC,
    xfail_strict=True,
)
def test_estimator_checks_on_distances(estimator, check):
    check(estimator)


@pytest.mark.parametrize("criterion", ["weight", "percentile", "gain", "potential"])
def test_estimator_checks_of_the_other_criteria(criterion):
    ran = check_estimator(MagnitudeClassifier(1.0, criterion=criterion), on_skip=None)
    assert {result["status"] for result in ran} == {"passed", "skipped"}
    assert sum(result["status"] == "passed" for result in ran) > 50


# The defaults, and what else takes another way through the code. imbalanced-learn knows numpy only,
# so the sampler stands apart from the checks of other arrays below.
@parametrize_with_checks(
    [
        MagnitudeSubsetSelector(),
        MagnitudeSubsetSelector(0.5, strategy="centers"),
        MagnitudeSubsetSelector(None, strategy="random", tol=0.1, t=1.0),
        MagnitudeUnderSampler(),
        MagnitudeUnderSampler(strategy="centers"),
    ]
)
def test_estimator_checks_of_representatives(estimator, check):
    check(estimator)


# These checks fit frames and transform arrays, and the other way round.
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@pytest.mark.parametrize(
    "check",
    [
        check_global_output_transform_pandas,
        check_global_set_output_transform_polars,
        check_set_output_transform,
        check_set_output_transform_pandas,
        check_set_output_transform_polars,
        check_transformer_get_feature_names_out,
        check_transformer_get_feature_names_out_pandas,
    ],
)
def test_output_of_transformers(check):
    check("MagnitudeSubsetSelector", MagnitudeSubsetSelector(10, random_state=0))


@pytest.mark.parametrize(
    "check",
    [
        check_param_validation,
        check_dataframe_column_names_consistency,
        check_inplace_ensure_writeable,
    ],
)
def test_further_checks_of_the_sampler(check):
    check("MagnitudeUnderSampler", MagnitudeUnderSampler(random_state=0))


NOT_NEW = {"check_outliers_train": "asks a novelty detector for outliers in its training set"}


@pytest.mark.parametrize("criterion", ["residual", "paper", "gain", "potential"])
@pytest.mark.parametrize("novelty", [False, True])
def test_estimator_checks_of_the_other_outlier_detectors(criterion, novelty):
    expected = NOT_NEW if novelty and criterion != "paper" else {}
    detector = MagnitudeOutlierDetector(criterion=criterion, novelty=novelty, random_state=0)
    ran = check_estimator(detector, expected_failed_checks=expected, on_skip=None)
    found = {result["check_name"] for result in ran if result["status"] == "xfail"}
    assert found == set(expected)
    assert sum(result["status"] == "passed" for result in ran) >= 50


def test_array_checks_are_on():
    assert os.environ.get("SCIPY_ARRAY_API") == "1"


@each
def test_array_checks_ran(estimator):
    # A check that skips counts as passed. These may: the libraries and devices are not here.
    ran = set()
    for checked, check in estimator_checks_generator(estimator):
        namespace = check.keywords.get("array_namespace") or str(check.keywords)
        if "array_api" not in check.func.__name__:
            continue
        try:
            check(clone(checked))
            ran.add((check.func.__name__, namespace))
        except SkipTest as skipped:
            absent = ("cupy", "dpnp", "cuda", "XPU", "MPS")
            assert any(name in str(skipped) for name in absent), skipped  # noqa: PT017
    for namespace in ("numpy", "torch", "array_api_strict"):
        assert ("check_array_api_input", namespace) in ran
    assert "check_array_api_same_namespace" in {name for name, _ in ran}
    mixed = [where for name, where in ran if name == "check_array_api_mixed_inputs"]
    assert any("torch" in where or "array_api_strict" in where for where in mixed)


@each
@pytest.mark.parametrize(
    ("namespace", "device", "dtype"),
    [
        ("numpy", None, "float64"),
        ("numpy", None, "float32"),
        ("torch", "cpu", "float64"),
        ("torch", "cpu", "float32"),
        ("array_api_strict", "CPU_DEVICE", "float64"),
        ("array_api_strict", "device1", "float64"),
        ("array_api_strict", "device1", "float32"),
    ],
)
def test_other_arrays_give_the_same_values(estimator, namespace, device, dtype):
    # A check that skips itself would not fail this test.
    try:
        check_array_api_input_and_values(
            type(estimator).__name__, estimator, namespace, device_name=device, dtype_name=dtype
        )
    except SkipTest as skipped:
        pytest.fail(f"did not run: {skipped}")


@each
@pytest.mark.parametrize(
    "check",
    [
        check_param_validation,
        check_dataframe_column_names_consistency,
        check_inplace_ensure_writeable,
    ],
)
def test_further_checks(estimator, check):
    check(type(estimator).__name__, estimator)


@each
@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_set_output_of_the_steps_before(estimator, output):
    X, y = load_iris(return_X_y=True)
    pipe = make_pipeline(StandardScaler(), estimator)
    plain = clone(pipe).fit(X, y)
    framed = clone(pipe).set_output(transform=output).fit(X, y)
    assert framed[-1].feature_names_in_.tolist() == [f"x{i}" for i in range(4)]
    # Frames hand their columns on in another memory order, which rounds differently.
    answers = [
        name for name in ("predict_proba", "score_samples", "transform") if hasattr(plain, name)
    ]
    for name in answers:
        found, expected = getattr(framed, name)(X), getattr(plain, name)(X)
        np.testing.assert_allclose(np.asarray(found), expected, atol=1e-5)
    if hasattr(plain, "predict"):
        assert (framed.predict(X) == plain.predict(X)).all()
