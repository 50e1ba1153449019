"""The same answers on every device: the processor, a device that is pretended, and a card.

The bodies are the same for all three. Without a card the last one is skipped, and the second one
tells what of the library would fail there (see :mod:`device_mode`).
"""

import os
import pickle
import subprocess
import sys
import warnings
from contextlib import nullcontext

import matplotlib.pyplot as plt
import numpy as np
import pytest
import skops.io
import torch
from device_cases import CASES, ESTIMATORS, MADE_BY, SOLVERS, WITHOUT_ARRAYS, X, solved
from device_mode import Device
from reference import answers, host, normal
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._array_api import get_namespace, move_estimator_to

import skmag
from skmag import magnitude_function, weighting
from skmag._arrays import as_tensor, free_device_memory, rows_per_block
from skmag._solvers import _cholesky, available_memory

CUDA = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
PLACES = ["cpu", "pretended", pytest.param("cuda", marks=CUDA)]
# Slopes of probabilities are as good as the minimizer that found them; what is on a card differs
# by rounding from what is not.
LOOSE = {"predict_proba": 1e-5, "predict_log_proba": 1e-5}
TOLERANCE = {"cpu": 1e-10, "pretended": 1e-10, "cuda": 1e-8}
CARD = torch.device("cuda", 0)


def on_a_card(test):
    """Mark a test that nothing but a card can tell."""
    for mark in CUDA:
        test = mark(test)
    return test


@pytest.fixture(autouse=True)
def dispatch():
    with config_context(array_api_dispatch=True):
        yield
    plt.close("all")


@pytest.fixture(params=PLACES)
def place(request, monkeypatch):
    """Name of a device, which is there while the test runs."""
    with Device(monkeypatch) if request.param == "pretended" else nullcontext():
        yield request.param


def put_on(place):
    """Return what takes numpy arrays to a device."""
    device = torch.device("cuda" if place == "cuda" else "cpu")
    return lambda array: torch.from_numpy(np.array(array)).to(device)


def assert_same(found, expected, place):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        value = host(value)
        if value.dtype.kind in "biuU":
            np.testing.assert_array_equal(host(found[name]), value, err_msg=name)
            continue
        tolerance = TOLERANCE[place]
        if place == "cuda":
            tolerance = LOOSE.get(name, tolerance)
        finite = value[np.isfinite(value)]
        scale = np.abs(finite).max(initial=0.0)
        np.testing.assert_allclose(
            host(found[name]), value, rtol=tolerance, atol=tolerance * scale, err_msg=name
        )


def test_every_public_name_is_compared():
    assert {*CASES, *MADE_BY, *WITHOUT_ARRAYS} == set(skmag.__all__)
    assert set(MADE_BY.values()) <= set(CASES)


@pytest.fixture(scope="module")
def expected():
    """Answers to numpy arrays, each computed once and before any device is pretended."""
    found = {name: case(np.array) for name, case in CASES.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return found | {solver: solved(solver, np.array) for solver in SOLVERS}


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_public_name_answers_as_for_numpy(name, expected, place):
    assert_same(CASES[name](put_on(place)), expected[name], place)


@pytest.mark.parametrize("solver", sorted(SOLVERS))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_solver_answers_as_for_numpy(solver, expected, place):
    assert_same(solved(solver, put_on(place)), expected[solver], place)


@pytest.mark.parametrize("d", [1, 3, 40])
def test_weightings_in_few_and_many_features(d, place):
    points, Z = normal(200, d), normal(9, d, seed=1)
    points[7], Z[2] = points[3], points[5]
    here, there = weighting(points, t=0.5), weighting(put_on(place)(points), t=0.5)
    assert there.magnitude == pytest.approx(here.magnitude, rel=1e-12)
    # Distances on a device are summed in another order.
    tolerance = {"cpu": 1e-10, "pretended": 1e-8, "cuda": 1e-8}[place]
    expected, found = answers(here, Z), answers(there, put_on(place)(Z))
    for name, value in expected.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_a_fitted_estimator_crosses_both_ways(name, expected, place):
    own, put = ESTIMATORS[name], put_on(place)
    asked = {method: expected[name][method] for method in own.methods}
    here, there = own.fit(np.array), own.fit(put)
    sample = put(np.zeros(1))
    moved = move_estimator_to(here, get_namespace(sample)[0], sample.device)
    assert_same({method: own.ask(moved, put)[method] for method in own.methods}, asked, place)
    back = move_estimator_to(there, np, "cpu")
    found = {method: own.ask(back, np.array)[method] for method in own.methods}
    assert all(isinstance(value, (np.ndarray, float)) for value in found.values())
    assert_same(found, asked, place)


def test_a_weighting_crosses_both_ways(place):
    put, Z = put_on(place), normal(9, seed=1)
    here, there = weighting(X, t=0.5), weighting(put(X), t=0.5)
    sample = put(np.zeros(1))
    moved = move_estimator_to(here, get_namespace(sample)[0], sample.device)
    expected = {"gain": here.gain(Z), "weights": here.weights}
    assert_same({"gain": moved.gain(put(Z)), "weights": moved.weights}, expected, place)
    back = move_estimator_to(there, np, "cpu")
    assert_same({"gain": back.gain(Z), "weights": back.weights}, expected, place)


# What a machine without a card does with files from one that has it.
LOADS = """
import pickle, sys
from pathlib import Path
import numpy as np
import skops.io
import torch
from sklearn import set_config

sys.path.insert(0, sys.argv[2])
from device_cases import ESTIMATORS
from reference import host

set_config(array_api_dispatch=True)
assert not torch.cuda.is_available()
put = lambda array: torch.from_numpy(np.array(array))
for name, own in ESTIMATORS.items():
    folder = Path(sys.argv[1])
    expected = pickle.loads((folder / f"{name}.answers").read_bytes())
    file = folder / f"{name}.skops"
    models = [skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))]
    models.append(pickle.loads((folder / f"{name}.pickle").read_bytes()))
    for model in models:
        found = own.ask(model, put)
        for method, value in expected.items():
            np.testing.assert_allclose(
                host(found[method]), value, rtol=1e-5, atol=1e-8, err_msg=f"{name}.{method}"
            )
"""


def test_files_open_on_a_machine_without_a_card(place, expected, tmp_path):
    put = put_on(place)
    for name, own in ESTIMATORS.items():
        model = own.fit(put)
        (tmp_path / f"{name}.pickle").write_bytes(pickle.dumps(model))
        skops.io.dump(model, tmp_path / f"{name}.skops")
        types = skops.io.get_untrusted_types(file=tmp_path / f"{name}.skops")
        assert "torch.Tensor" not in types
        asked = {method: host(expected[name][method]) for method in own.methods}
        (tmp_path / f"{name}.answers").write_bytes(pickle.dumps(asked))
        again = own.ask(pickle.loads(pickle.dumps(model)), put)
        assert_same({method: again[method] for method in own.methods}, asked, place)
    if place == "pretended":
        return  # another process knows nothing of it
    subprocess.run(
        [sys.executable, "-c", LOADS, str(tmp_path), os.path.dirname(__file__)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        check=True,
        capture_output=True,
    )


def test_no_memory_is_told_with_the_way_out(place, monkeypatch):
    n, asked = 50, "298.02 GiB"
    if place == "cuda":
        n, asked = int(np.sqrt(free_device_memory(CARD) / 8)) + 1000, r"[\d.]+ GiB"
    points = put_on(place)(normal(n, 2))
    with monkeypatch.context() as patch:
        # Nobody looks whether the factor fits; the allocator does.
        patch.setattr(_cholesky, "check_memory", lambda *_: None)
        if place != "cuda":
            patch.setattr(_cholesky, "zeros", refuse)
        message = rf"n={n:,} distinct .*{asked} more.*'cg'"
        with pytest.raises(MemoryError, match=message) as told:
            weighting(points, solver="cholesky")
    assert isinstance(told.value.__cause__, torch.OutOfMemoryError)
    assert weighting(points[:40]).magnitude > 1


def refuse(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 298.02 GiB. GPU 0")


def test_points_that_do_not_fit_the_device_are_told(monkeypatch):
    array = torch.zeros(3, 2)
    monkeypatch.setattr(torch.Tensor, "to", refuse)
    with pytest.raises(MemoryError, match=r"shape \(3, 2\) does not fit cpu .*298.02 GiB"):
        as_tensor(array, torch.device("cpu"))


def test_other_errors_are_left_alone(monkeypatch):
    def fail(*_):
        raise RuntimeError("of another kind")

    monkeypatch.setattr(_cholesky, "zeros", fail)
    with pytest.raises(RuntimeError, match="another kind"):
        weighting(X, solver="cholesky")


def test_blocks_follow_the_memory_that_a_card_has_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (3 * 2**30, 8 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 2 * 2**30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 2**30)
    assert free_device_memory(CARD) == 4 * 2**30
    assert available_memory(CARD) == 4 * 2**30
    assert rows_per_block(2**20, 10**6, CARD) == 512
    with config_context(working_memory=1):
        assert rows_per_block(2**20, 10**6, CARD) == 512
        assert rows_per_block(2**20, 10**6, torch.device("cpu")) == 1
        assert rows_per_block(2**20, 10**6) == 1


@on_a_card
def test_a_card_is_left_alone_until_it_is_asked_for():
    script = "import skmag, torch; assert not torch.cuda.is_initialized()"
    subprocess.run([sys.executable, "-c", script], check=True)


@on_a_card
def test_numpy_points_are_worked_on_by_name_of_the_device():
    points, Z = normal(50), normal(9, seed=1)
    found, here = weighting(points, device="cuda"), weighting(points)
    assert_same({"gain": found.gain(Z)}, {"gain": here.gain(Z)}, "cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    weighting(points, device="cuda")
    assert torch.cuda.max_memory_allocated() > before


@on_a_card
def test_answers_are_where_the_question_was():
    points = torch.from_numpy(normal(200, 40)).to("cuda")
    space = weighting(points, t=0.5)
    assert space.gain(points).device.type == space.weights.device.type == "cuda"
    assert magnitude_function(points, torch.ones(2, device="cuda")).device.type == "cuda"
