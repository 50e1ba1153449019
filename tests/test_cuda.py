import pickle

import numpy as np
import pytest
import torch
from left_out import METHODS, blobs, queries
from reference import answers, assert_same, host, normal
from sklearn import config_context

from skmag import MagnitudeClassifier, MagnitudeClassifierCV, magnitude_function, weighting

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
DEVICE = "cuda"


def on_device(array):
    return torch.from_numpy(array).to(DEVICE)


@pytest.fixture(autouse=True)
def dispatch():
    with config_context(array_api_dispatch=True):
        yield


@pytest.mark.parametrize("solver", ["auto", "mixed", "indefinite"])
@pytest.mark.parametrize("d", [1, 3, 40])
def test_a_weighting_agrees_with_the_cpu_and_is_read_there(d, solver):
    X, Z = normal(200, d), normal(9, d, seed=1)
    X[7], Z[2] = X[3], X[5]
    here, there = weighting(X, t=0.5), weighting(on_device(X), t=0.5, solver=solver)
    assert there.magnitude == pytest.approx(here.magnitude, rel=1e-12)
    assert there.gain(on_device(Z)).device.type == there.weights.device.type == DEVICE
    assert_same(answers(there, on_device(Z)), answers(here, Z), 1e-8)
    here, there = here.extend(Z).drop([0, 4]), there.extend(on_device(Z)).drop([0, 4])
    assert_same(answers(there, on_device(Z)), answers(here, Z), 1e-8)


def test_a_magnitude_function_agrees_with_the_cpu():
    X, ts = normal(100), np.geomspace(1e-6, 1e3, 9)
    found = magnitude_function(on_device(X), on_device(ts))
    np.testing.assert_allclose(host(found), magnitude_function(X, ts), rtol=1e-8)


def test_numpy_points_are_worked_on_by_name_of_the_device():
    X, Z = normal(50), normal(9, seed=1)
    assert_same(answers(weighting(X, device=DEVICE), Z), answers(weighting(X), Z), 1e-8)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    weighting(X, device=DEVICE)
    assert torch.cuda.max_memory_allocated() > before


@pytest.mark.parametrize("make", [MagnitudeClassifier, MagnitudeClassifierCV])
def test_a_classifier_agrees_with_the_cpu(make):
    (X, y), Z = blobs(), queries()
    here, there = make().fit(X, y), make().fit(on_device(X), on_device(y))
    for method in METHODS:
        found, expected = getattr(there, method)(on_device(Z)), getattr(here, method)(Z)
        assert found.device.type == DEVICE
        # The slope of the probabilities is as good as the minimizer that found it.
        tolerance = 1e-5 if "proba" in method else 1e-8
        np.testing.assert_allclose(host(found), expected, rtol=tolerance, atol=tolerance)


def test_pickles_open_on_the_cpu(monkeypatch):
    X, Z = normal(50), normal(9, seed=1)
    data = pickle.dumps(weighting(on_device(X)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    loaded = pickle.loads(data)
    assert loaded.weights.device.type == "cpu"
    assert_same(answers(loaded, torch.from_numpy(Z)), answers(weighting(X), Z), 1e-8)
