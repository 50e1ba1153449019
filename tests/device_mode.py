"""A device that this machine does not have: tensors that refuse what a card's tensors refuse.

Inside :class:`Device` every tensor counts as one on a device, unless it was made without a device,
came from numpy or was moved to the host, by ``cpu()`` or to the name "cpu"; a ``torch.device``
always stands for the device. Host and device do not mix, numpy cannot read the device,
and whatever would make the host wait for it is counted. The arithmetic is the processor's, so that
results can be compared. What a real card does otherwise, this does not tell.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.overrides import TorchFunctionMode, resolve_name

from skmag import _arrays

_MARK = "_is_in_the_memory_of_the_host"

# What makes the host wait until the device has finished.
_WAITS = {
    "__bool__", "__complex__", "__float__", "__index__", "__int__", "argwhere", "bincount", "item",
    "masked_select", "nonzero", "repeat_interleave", "tolist", "unique", "unique_consecutive",
    "_unique2", "_is_all_true", "equal", "allclose", "is_nonzero",
    # Whether they failed is asked at once; their variants with _ex leave that to the caller.
    "cholesky", "inverse", "linalg_cholesky", "linalg_eigh", "linalg_eigvalsh", "linalg_inv",
    "linalg_ldl_factor", "linalg_lu_factor", "linalg_solve", "linalg_svd",
}  # fmt: skip
# Factories, whose tensors are where `device` says, or on the host.
_FACTORIES = {
    "arange", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "randperm",
    "scalar_tensor", "tensor", "tril_indices", "triu_indices", "zeros",
}  # fmt: skip
_READS = {"numpy", "__array__", "__dlpack__"}
# Functions that take indices from the host, or copy from it.
_MIXED = {"__getitem__", "__setitem__", "copy_", "set_", "to", "type_as"}


class Device(TorchFunctionMode):
    """Pretend that tensors are on a device.

    Attributes
    ----------
    waits : Counter
        How often the host waited for the device, by name of the function.
    """

    def __init__(self, monkeypatch: Any) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        monkeypatch.setattr(
            _arrays, "_is_host", lambda place: isinstance(place, torch.Tensor) and _marked(place)
        )

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        if name == "__get__" or name in ("__set__", "__repr__", "__format__"):
            return _with_mark(function(*args, **kwargs), args)
        tensors = list(_tensors((args, kwargs)))
        away = [tensor for tensor in tensors if not _marked(tensor)]
        if name in _READS and away:
            raise TypeError(f"numpy cannot read a tensor on a device ({name})")
        if away and (name in _WAITS or (name in ("__getitem__", "__setitem__") and _masks(args))):
            self.waits[name] += 1
        if away and name not in _MIXED and any(_marked(t) and t.dim() for t in tensors):
            raise RuntimeError(f"{resolve_name(function) or name} got tensors of host and device")
        if name in ("__getitem__", "__setitem__") and _marked(args[0]) and away:
            raise RuntimeError(f"{name}: a tensor of the host is asked by one on a device")
        out = function(*args, **kwargs)
        if name in ("cpu", "to"):
            host = name == "cpu" or _goes_to_host(args, kwargs)
            if host and away:
                self.waits[name] += 1
            return _mark(out.view_as(out) if out is args[0] else out, host)
        if name == "from_numpy" or (name in _FACTORIES and kwargs.get("device") in (None, "cpu")):
            return _mark(out, True)
        if name in _FACTORIES:
            return _mark(out, False)
        if name in _MIXED:
            return _mark(out, _marked(args[0]))
        return _mark(out, bool(tensors) and not away)


def _marked(tensor: torch.Tensor) -> bool:
    return getattr(tensor, _MARK, False)


def _goes_to_host(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether ``to`` leaves a tensor in the memory of the host, or moves it there."""
    for place in (*args[1:], *kwargs.values()):
        if isinstance(place, (str, torch.device)):
            return place == "cpu" and isinstance(place, str)
        if isinstance(place, torch.Tensor):
            return _marked(place)
    return _marked(args[0])


def _mark(out: Any, host: bool) -> Any:
    for tensor in _tensors(out):
        # Results in place keep what they were.
        setattr(tensor, _MARK, host)
    return out


def _with_mark(out: Any, args: tuple[Any, ...]) -> Any:
    return _mark(out, _marked(args[0])) if isinstance(out, torch.Tensor) else out


def _masks(args: tuple[Any, ...]) -> bool:
    """Whether a tensor is indexed by a mask, whose ones have to be counted."""
    return any(tensor.dtype == torch.bool and tensor.dim() for tensor in _tensors(args[1:2]))


def _tensors(values: Any) -> Any:
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)
