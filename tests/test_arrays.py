import pickle

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import config_context

from skmag._arrays import (
    ArrayKind,
    as_numpy,
    as_tensor,
    available_device,
    block_slices,
    check_points,
    float64_device,
    resolve_device,
    rows_per_block,
)

CPU = torch.device("cpu")
WITHOUT_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")


def test_kind_of_everything_is_numpy_without_dispatch():
    assert ArrayKind.of(np.zeros((2, 2))).xp is np
    assert ArrayKind.of(torch.zeros(2, 2)).xp is np
    assert isinstance(ArrayKind.of(torch.zeros(2, 2)).wrap(torch.ones(3)), np.ndarray)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("xp", [torch, array_api_strict])
def test_kind_hands_back_the_callers_arrays_in_float64(xp, dtype):
    with config_context(array_api_dispatch=True):
        array = xp.asarray(np.eye(2), dtype=getattr(xp, dtype))
        out = ArrayKind.of(array).wrap(torch.tensor([0.1, 0.2], dtype=torch.float64))
    assert isinstance(out, type(array))
    assert out.dtype == xp.float64
    assert as_numpy(out).tolist() == [0.1, 0.2]


def test_kind_keeps_integers_integers():
    with config_context(array_api_dispatch=True):
        kind = ArrayKind.of(torch.zeros(1, 1))
        assert kind.wrap(torch.arange(3)).dtype == torch.int64
        strict = ArrayKind.of(array_api_strict.asarray([[1.0]]))
        assert strict.wrap(torch.arange(3)).dtype == array_api_strict.int64


@pytest.mark.parametrize("make", [np.asarray, torch.asarray, array_api_strict.asarray])
def test_kind_survives_pickling(make):
    array = make([[1.0]])
    with config_context(array_api_dispatch=True):
        kind = pickle.loads(pickle.dumps(ArrayKind.of(array)))
        assert isinstance(kind.wrap(torch.ones(2)), type(array))


def test_as_numpy_detaches_and_shares_memory():
    tensor = torch.ones(3, dtype=torch.float64, requires_grad=True)
    assert np.shares_memory(as_numpy(tensor), tensor.detach().numpy())
    array = np.ones(3)
    assert np.shares_memory(as_numpy(array), array)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32, np.bool_])
@pytest.mark.parametrize("kind", ["numpy", "torch", "strict"])
def test_as_tensor_is_float64_and_owns_its_memory(kind, dtype):
    host = np.array([[1, 0], [1, 1]], dtype=dtype)
    array = {"numpy": np.array, "torch": torch.asarray, "strict": array_api_strict.asarray}[kind]
    with config_context(array_api_dispatch=True):
        mine = array(host)
        tensor = as_tensor(mine, CPU)
    assert tensor.dtype == torch.float64
    mine[0, 0] = dtype(0).item()
    host[0, 0] = 0
    assert tensor.tolist() == [[1.0, 0.0], [1.0, 1.0]]


def test_as_tensor_without_copy_shares_float64_memory():
    host = np.ones((2, 2))
    tensor = as_tensor(host, CPU, copy=False)
    host[0, 0] = 5
    assert tensor[0, 0] == 5


@pytest.mark.parametrize("copy", [True, False])
def test_as_tensor_takes_reversed_and_read_only_arrays(copy):
    host = np.arange(6.0).reshape(3, 2)
    assert as_tensor(host[::-1, ::-1], CPU, copy=copy).tolist() == host[::-1, ::-1].tolist()
    host.flags.writeable = False
    tensor = as_tensor(host, CPU, copy=copy)
    tensor[0, 0] = 9
    assert host[0, 0] == 0


def test_as_tensor_detaches_tensors_that_require_grad():
    tensor = as_tensor(torch.ones(2, 2, requires_grad=True), CPU)
    assert not tensor.requires_grad


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), None])
def test_resolve_device_takes_names_devices_and_none(device):
    assert resolve_device(device, np.zeros(1)) == CPU
    assert resolve_device(device, torch.zeros(1)) == CPU


@WITHOUT_CUDA
def test_resolve_device_auto_ends_on_a_device_that_exists():
    assert resolve_device("auto", np.zeros(1)).type in ("cpu", "mps")


@WITHOUT_CUDA
@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda")])
def test_resolve_device_names_an_absent_device(device):
    with pytest.raises(ValueError, match=r"device=.*cuda.* is not available"):
        resolve_device(device, np.zeros(1))


@pytest.mark.parametrize("device", ["tpu", "gpu0", "", 1.5])
def test_resolve_device_names_an_unknown_device(device):
    with pytest.raises(ValueError, match=f"device={device!r} is not a device"):
        resolve_device(device, np.zeros(1))


def test_resolve_device_refuses_devices_it_does_not_know():
    with pytest.raises(ValueError, match="device='meta' is not supported"):
        resolve_device("meta", np.zeros(1))


@WITHOUT_CUDA
def test_devices_fall_back_to_the_cpu():
    assert available_device(torch.device("cuda")) == CPU
    assert available_device(CPU) == CPU
    assert float64_device(torch.device("mps")) == CPU
    assert float64_device(torch.device("cuda")).type == "cuda"


def test_a_card_that_is_not_here_is_another_one_or_an_error(monkeypatch):
    kind = pickle.dumps(ArrayKind(torch, torch.device("cuda", 1)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    here = torch.device("cuda", 0)
    for device in ("cuda:1", "cuda:0"):
        assert available_device(torch.device(device)) == here
    assert available_device(torch.device("cuda")) == torch.device("cuda")
    assert pickle.loads(kind).device == here
    assert resolve_device("cuda", np.zeros(1)) == resolve_device("cuda:0", np.zeros(1)) == here
    with pytest.raises(ValueError, match=r"device='cuda:3' is not available on this machine"):
        resolve_device("cuda:3", np.zeros(1))


def test_check_points_refuses_foreign_devices_without_dispatch():
    with pytest.raises(ValueError, match=r"Z is a tensor on device 'meta'.*array_api_dispatch"):
        check_points(torch.empty(2, 2, device="meta"), "Z")


def test_check_points_detaches_tensors_without_dispatch():
    out = check_points(torch.ones(2, 2, requires_grad=True), "X")
    assert as_numpy(out).tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_check_points_names_the_argument_that_is_not_finite(bad):
    with pytest.raises(ValueError, match=r"Input Z contains (NaN|infinity)"):
        check_points([[1.0, bad]], "Z")


def test_rows_per_block_follows_working_memory():
    with config_context(working_memory=1):
        assert rows_per_block(2**10, 10**6) == 2**10
        assert rows_per_block(2**10, 7) == 7
        assert rows_per_block(2**30, 7) == 1
        assert rows_per_block(0, 7) == 7


@settings(deadline=None, max_examples=50)
@given(n=st.integers(0, 200), size=st.integers(1, 50))
def test_block_slices_cover_the_range_once(n, size):
    slices = block_slices(n, size)
    assert [i for s in slices for i in range(n)[s]] == list(range(n))
    assert all(0 < s.stop - s.start <= size for s in slices)
