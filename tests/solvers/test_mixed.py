import numpy as np
import pytest
import torch
from reference import QUESTIONS, mp_weighting, normal, relative_error
from sklearn import config_context

from skmag import weighting
from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers._mixed import MixedFactor


@pytest.mark.parametrize("t", [1e-12, 1e-6, 0.1, 1.0, 100.0])
@pytest.mark.parametrize("d", [3, 40])
def test_answers_have_the_accuracy_of_float64(d, t):
    X, Z = normal(60, d), normal(9, d, seed=1)
    mixed, exact = weighting(X, t=t, solver="mixed"), weighting(X, t=t, solver="cholesky")
    assert mixed.magnitude == pytest.approx(exact.magnitude, rel=1e-14)
    np.testing.assert_allclose(mixed.weights, exact.weights, rtol=1e-9, atol=1e-12)
    for name in QUESTIONS:
        found, expected = getattr(mixed, name)(Z), getattr(exact, name)(Z)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14, err_msg=name)
    np.testing.assert_allclose(mixed.loss(), exact.loss(), rtol=1e-9, atol=1e-13)
    residual = mixed.leave_one_out().residual
    np.testing.assert_allclose(residual, exact.leave_one_out().residual, rtol=1e-11)


def test_the_factor_itself_is_float32():
    points = torch.from_numpy(normal(20))
    prepared = MixedFactor.prepare(Similarity.of(points, resolve_metric("euclidean", None)))
    assert prepared.lower.dtype == torch.float32
    assert prepared.weighting()[0].dtype == torch.float64


def test_points_of_very_different_spacing_are_refined():
    X = normal(8)
    X[3] = X[2] + 1e-4
    X[5] = 1e3
    w, magnitude = mp_weighting(X, 1.0)
    space = weighting(X, solver="mixed")
    assert relative_error([space.magnitude], [magnitude]) < 1e-14
    assert relative_error(space.weights, w) < 1e-10


def test_what_float32_cannot_hold_is_refused_with_a_way_out():
    # Squared distances give a smooth kernel, whose matrix is singular to single precision.
    X = np.linspace(0, 1, 40)[:, None] * np.ones(2)
    with pytest.raises(np.linalg.LinAlgError, match=r"ill-conditioned.*solver='cholesky'"):
        weighting(X, metric="sqeuclidean", solver="mixed")


def test_many_columns_are_solved_in_blocks():
    X, Z = normal(300), normal(40, seed=1)
    with config_context(working_memory=1):
        space = weighting(X, t=0.5, solver="mixed")
        residual, own = space.residual(Z), space.leave_one_out().residual
    exact = weighting(X, t=0.5, solver="cholesky")
    np.testing.assert_allclose(residual, exact.residual(Z), rtol=1e-11)
    np.testing.assert_allclose(own, exact.leave_one_out().residual, rtol=1e-11)


def test_changed_weightings_stay_mixed():
    X = normal(20)
    space = weighting(X, solver="mixed").extend(normal(3, seed=1)).drop([0, 4])
    assert space.solver == "mixed"
    rows = np.vstack([np.delete(X, [0, 4], axis=0), normal(3, seed=1)])
    np.testing.assert_allclose(space.weights, weighting(rows).weights, rtol=1e-10)
