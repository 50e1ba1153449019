"""Points that float64 cannot tell apart, or only just."""

import re
import warnings

import numpy as np
import pytest
from reference import error_in_norm, mp_weighting, normal, relative_error
from scipy.linalg import LinAlgWarning
from sklearn.datasets import load_digits, load_iris

from skmag import MagnitudeClassifier, magnitude, magnitude_weights, weighting


def iris_again():
    """Iris, and Iris followed by itself with the rounding of some arithmetic."""
    X = load_iris().data
    again = X / 3 * 3 + 0.1 - 0.1
    assert 0 < np.abs(X - again).max() < 1e-14
    return X, np.vstack([X, again])


def beside_others():
    """Points at distance one, and the same with a neighbour that no distance tells of."""
    X = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    return X, np.vstack([X, [[1e-17, 0.0]]])


def pairs(gap, n=20):
    X = normal(n, 2)
    return X, np.vstack([X, X + gap * normal(n, 2, seed=1)])


@pytest.mark.parametrize("metric", ["euclidean", "cityblock"])
@pytest.mark.parametrize("make", [iris_again, beside_others])
def test_what_float64_cannot_resolve_is_merged_with_a_warning(make, metric):
    X, more = make()
    with pytest.warns(LinAlgWarning, match="merged"):
        space = weighting(more, metric=metric)
    expected = weighting(X, metric=metric)
    assert space.n_points == expected.n_points == len(np.unique(X, axis=0))
    assert space.n_samples == len(more)
    assert space.magnitude == pytest.approx(expected.magnitude, rel=1e-10)
    # Those that were merged share a weight, as copies do.
    _, group = np.unique(more.round(9), axis=0, return_inverse=True)
    shared = np.bincount(group, space.weights)
    _, group = np.unique(X.round(9), axis=0, return_inverse=True)
    np.testing.assert_allclose(shared, np.bincount(group, expected.weights), rtol=1e-8)


def test_functions_and_classifiers_take_them_too():
    X, more = iris_again()
    y = load_iris().target
    with pytest.warns(LinAlgWarning, match="merged"):
        assert magnitude(more) == pytest.approx(magnitude(X), rel=1e-10)
    with pytest.warns(LinAlgWarning, match="merged"):
        assert magnitude_weights(more).sum() == pytest.approx(magnitude(X), rel=1e-10)
    with pytest.warns(LinAlgWarning, match="merged"):
        model = MagnitudeClassifier(1.0).fit(more, np.concatenate([y, y]))
    expected = MagnitudeClassifier(1.0).fit(X, y)
    np.testing.assert_allclose(model.magnitudes_, expected.magnitudes_, rtol=1e-10)
    Z = X + 0.05
    assert model.predict(Z).tolist() == expected.predict(Z).tolist()


@pytest.mark.parametrize("gap", [1e-10, 1e-11, 1e-12])
def test_weights_that_lose_digits_are_told_of(gap):
    _, more = pairs(gap, n=8)
    with pytest.warns(LinAlgWarning, match=r"accurate to a relative \S+ only") as caught:
        space = weighting(more)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert space.n_points == len(more)
    w, exact = mp_weighting(more, 1.0)
    assert relative_error([space.magnitude], [exact]) < 1e-12
    estimate = float(re.search(r"relative (\S+) only", str(caught[0].message))[1])
    assert 1e-4 * estimate < error_in_norm(space.weights, w) < estimate


@pytest.mark.parametrize("t", [1e-9, 1e-3, 1.0, 1e3])
@pytest.mark.parametrize("make", [lambda: normal(300, 2), lambda: normal(300, 40)])
def test_points_that_are_well_apart_raise_no_warning(make, t):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weighting(make(), t=t)
        weighting(make(), t=t, metric="cityblock")


@pytest.mark.parametrize("load", [load_iris, load_digits])
def test_real_data_raise_no_warning(load):
    X, y = load(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weighting(X, t="scale")
        MagnitudeClassifier().fit(X[:600], y[:600])


def test_pairs_that_keep_their_digits_raise_no_warning():
    _, more = pairs(1e-6, n=6)
    w, exact = mp_weighting(more, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        space = weighting(more)
    assert relative_error([space.magnitude], [exact]) < 1e-12
    assert relative_error(space.weights, w) < 1e-6
