"""Arrays in and out: the caller's kind of array outside, torch tensors on one device inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from sklearn import get_config
from sklearn.utils import check_array

from skmag._compat import (
    get_namespace_and_device,
    is_numpy_namespace,
    max_precision_float_dtype,
    move_to,
)
from skmag._out_of_memory import refused_bytes

DEVICES = ("auto", "cpu", "cuda", "mps")

# Share of a card's free memory that blocks may take: several arrays of the like exist at a time.
_DEVICE_SHARE = 1 / 8
# Bytes from which on a block is no faster for being larger. Kernels that take a thread block for
# each entry, and indices of 32 bits, end at 2^31 entries.
_LARGEST_BLOCK = 2**32


@dataclass(frozen=True)
class ArrayKind:
    """The namespace and device of a caller's array, and the way back to them.

    Parameters
    ----------
    xp : module
        Array namespace of the caller's data.
    device : object
        Device of the caller's data, as that namespace names it.
    """

    xp: Any = np
    device: Any = None

    @classmethod
    def of(cls, array: Any) -> ArrayKind:
        """Kind of `array`, which has been through :func:`sklearn.utils.check_array`."""
        xp, _, device = get_namespace_and_device(array)
        return cls(np, None) if is_numpy_namespace(xp) else cls(xp, device)

    def wrap(self, values: torch.Tensor | np.ndarray) -> Any:
        """Return `values` as this kind of array, floats in its greatest precision."""
        if self.xp is np:
            return as_numpy(values)
        tensor = torch.as_tensor(values)
        if self.xp.__name__.endswith("torch"):
            out = tensor.to(self.device)
            if out.is_floating_point():
                out = out.to(max_precision_float_dtype(self.xp, self.device))
            return out
        out = self.xp.asarray(as_numpy(tensor), device=self.device)
        if self.xp.isdtype(out.dtype, "real floating"):
            out = self.xp.astype(out, max_precision_float_dtype(self.xp, self.device))
        return out

    def __getstate__(self) -> dict[str, Any]:
        # Modules do not pickle. A fitted estimator that crosses machines answers in numpy there
        # only if it was fitted on numpy, so the namespace travels by name.
        return {"xp": self.xp.__name__, "device": None if self.device is None else str(self.device)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        import importlib

        device = state["device"]
        try:
            object.__setattr__(self, "xp", importlib.import_module(state["xp"]))
        except ImportError:
            # The library of a card that is not here; the arrays inside are numpy's.
            object.__setattr__(self, "xp", np)
            device = None
        if device is not None and "torch" in state["xp"]:
            device = available_device(torch.device(device))
        elif device is not None:
            device = None
        object.__setattr__(self, "device", device)


# Where a pickled object says which of its tensors were on a device.
_DEVICES_KEY = "devices of tensors"


class Portable:
    """State of tensors and of other portable objects: moves between devices and through pickles.

    A pickle holds plain arrays, so that it opens on machines without the device, and in skops;
    where the device is, the tensors return to it.
    """

    def __getstate__(self) -> dict[str, Any]:
        tensors = {k: value for k, value in vars(self).items() if isinstance(value, torch.Tensor)}
        away = {k: str(value.device) for k, value in tensors.items() if not on_host(value)}
        state = {**vars(self), **{k: as_numpy(value) for k, value in tensors.items()}}
        return {**state, _DEVICES_KEY: away} if away else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        away = state.get(_DEVICES_KEY, {})
        for key, value in state.items():
            if key == _DEVICES_KEY:
                continue
            if isinstance(value, np.ndarray):
                value = owned(value)
                if key in away:
                    value = value.to(available_device(torch.device(away[key])))
            object.__setattr__(self, key, value)

    def to(self, device: torch.device) -> Self:
        """Return the same object with its tensors on `device`."""
        moved = object.__new__(type(self))
        for key, value in vars(self).items():
            portable = isinstance(value, (torch.Tensor, Portable))
            object.__setattr__(moved, key, value.to(device) if portable else value)
        return moved


class StoredArray:
    """An array of another library, as a pickle holds it: numpy's, and the kind that it was."""

    def __init__(self, kind: ArrayKind, values: np.ndarray) -> None:
        self.kind = kind
        self.values = values

    def restored(self) -> Any:
        """Return the array on its device, if that is here, with its own precision."""
        kind, values = self.kind, self.values
        if kind.xp is np:
            return values
        if kind.xp.__name__.endswith("torch"):
            return owned(values).to(kind.device)
        return kind.xp.asarray(values, device=kind.device)


class PortableEstimator:
    """Mixin of estimators: fitted arrays of other libraries go through pickles as numpy's.

    It comes before :class:`sklearn.base.BaseEstimator`. A tensor on a card would otherwise not be
    read where there is no such card, nor by skops.
    """

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return {key: _stored(value) for key, value in state.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        restored = {
            key: value.restored() if isinstance(value, StoredArray) else value
            for key, value in state.items()
        }
        super().__setstate__(restored)  # type: ignore[misc]


def _stored(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return StoredArray(ArrayKind(torch, value.device), as_numpy(value))
    if hasattr(value, "__array_namespace__") and not isinstance(value, (np.ndarray, np.generic)):
        xp = value.__array_namespace__()
        return StoredArray(ArrayKind(xp, getattr(value, "device", None)), as_numpy(value))
    return value


def on_host(place: torch.Tensor | torch.device) -> bool:
    """Whether a tensor, or whatever is on a device, is in the host's memory, as numpy's is."""
    return _is_host(place)


def _is_host(place: torch.Tensor | torch.device) -> bool:
    # Apart, so that tests can put a device that is not there in its place.
    device = place if isinstance(place, torch.device) else place.device
    return device.type == "cpu"


def owned(array: np.ndarray) -> torch.Tensor:
    """Return `array` as a tensor that may be written to; a read-only one (memmap) is copied."""
    return torch.from_numpy(array if array.flags.writeable else array.copy(order="K"))


def detached(values: Any) -> Any:
    """Return a tensor without its history of gradients, anything else as it is."""
    return values.detach() if isinstance(values, torch.Tensor) else values


def converted(portable: Any, converter: Any) -> tuple[Any, ArrayKind]:
    """Move a portable object to where scikit-learn's array `converter` moves arrays."""
    kind = ArrayKind.of(converter(np.zeros(1)))
    sample = kind.wrap(torch.zeros(1))
    device = sample.device if isinstance(sample, torch.Tensor) else torch.device("cpu")
    return portable.to(float64_device(device)), kind


def as_numpy(values: Any) -> np.ndarray:
    """Return `values` on the host as a numpy array, without a copy where there need be none."""
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().numpy()
    if hasattr(values, "__array_namespace__"):
        values = move_to(values, xp=np, device="cpu")
    return np.asarray(values)


def available_device(device: torch.device) -> torch.device:
    """`device` if this machine has it, else its current card or the CPU.

    For objects that cross machines: a card may be another one there, or none.
    """
    if device.type == "cuda" and not torch.cuda.is_available():
        return torch.device("cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        return torch.device("cuda", torch.cuda.current_device())
    if device.type == "mps" and not torch.backends.mps.is_available():
        return torch.device("cpu")
    return device


def resolve_device(device: str | torch.device | None, array: Any) -> torch.device:
    """Device on which the work for `array` is done.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "mps"}, torch.device or None
        None follows `array`; "auto" takes an accelerator when there is one.
    array : array
        The caller's data.

    Returns
    -------
    torch.device
        A device that exists on this machine.

    Raises
    ------
    ValueError
        If the device is unknown or absent; the message names it.
    """
    if device is None:
        return array.device if isinstance(array, torch.Tensor) else torch.device("cpu")
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device={device!r} is not a device; use None, one of {DEVICES} or a torch.device"
        ) from error
    if resolved.type not in DEVICES:
        raise ValueError(f"device={device!r} is not supported; use None or one of {DEVICES}")
    if available_device(resolved) != resolved:
        raise ValueError(
            f"device={device!r} is not available on this machine; use device='auto' or 'cpu'"
        )
    if resolved.type == "cuda" and resolved.index is None:
        # Tensors name their card; only then do devices compare equal.
        return torch.device("cuda", torch.cuda.current_device())
    return resolved


def check_points(values: Any, name: str, **check_params: Any) -> Any:
    """Validate `values` as a dense, finite, real two-dimensional array named `name`."""
    on_device = isinstance(values, torch.Tensor) and values.device.type != "cpu"
    if on_device and not get_config()["array_api_dispatch"]:
        raise ValueError(
            f"{name} is a tensor on device {str(values.device)!r}; enable "
            "sklearn.set_config(array_api_dispatch=True) to keep the work there, "
            f"or pass {name}.cpu()"
        )
    return check_array(detached(values), input_name=name, dtype="numeric", **check_params)


def as_tensor(array: Any, device: torch.device, *, copy: bool = True) -> torch.Tensor:
    """Return a validated `array` as a float64 tensor on `device`.

    Parameters
    ----------
    array : array
        Validated data, of any namespace.
    device : torch.device
        Where the tensor lives; an accelerator without float64 is answered from the CPU.
    copy : bool, default=True
        Whether the tensor must own its memory, so that a caller who writes into `array`
        afterwards does not change what was fitted.

    Returns
    -------
    torch.Tensor
        float64 tensor.
    """
    device = float64_device(device)
    if isinstance(array, torch.Tensor):
        out = _moved(array.detach(), device)
        return out.clone() if copy and out.data_ptr() == array.data_ptr() else out
    host = np.asarray(as_numpy(array), dtype=np.float64)
    if copy or not host.flags.writeable or any(stride < 0 for stride in host.strides):
        host = np.array(host)
    return _moved(torch.from_numpy(host), device)


def _moved(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return values in float64 on a device; MemoryError where they do not fit."""
    try:
        return values.to(device=device, dtype=torch.float64)
    except RuntimeError as error:
        refused = refused_bytes(error)
        if refused is None:
            raise
        raise MemoryError(
            f"an array of shape {tuple(values.shape)} does not fit {device} in float64: it takes "
            f"{refused}; use device='cpu', or fewer points"
        ) from error


def float64_device(device: torch.device) -> torch.device:
    """`device`, or the CPU where `device` has no float64 (mps)."""
    return torch.device("cpu") if device.type == "mps" else device


def scaled_exp(values: torch.Tensor, factor: float, out: torch.Tensor) -> None:
    """Write exp(factor * values) into `out`.

    On the CPU numpy does it: its exponential is the faster one, and torch's threads, which go on
    spinning for a while, do not compete with the factorization that follows.
    """
    if on_host(out):
        with np.errstate(over="ignore"):  # the exponential of minus infinity is what it should be
            np.multiply(values.numpy(), factor, out=out.numpy())
        np.exp(out.numpy(), out=out.numpy())
    else:
        torch.mul(values, factor, out=out).exp_()


def rows_per_block(bytes_per_row: int, at_most: int, device: torch.device | None = None) -> int:
    """How many rows of `bytes_per_row` fit the memory for blocks on a device, at least one.

    Parameters
    ----------
    bytes_per_row : int
        What a row takes, with everything that is made of it.
    at_most : int
        Rows that there are, or that are worth taking together.
    device : torch.device, default=None
        Where the block lives; None is the host, whose blocks scikit-learn's `working_memory`
        limits. On a card it is the memory that is free there.

    Returns
    -------
    int
        Rows.
    """
    if device is None or on_host(device):
        budget = int(get_config()["working_memory"] * 2**20)
    else:
        budget = int(min(_LARGEST_BLOCK, _DEVICE_SHARE * free_device_memory(device)))
    return max(1, min(at_most, budget // max(1, bytes_per_row)))


def free_device_memory(device: torch.device) -> float:
    """Bytes that tensors can still take on a card, which torch's own cache holds among them."""
    if device.type != "cuda":
        return float(get_config()["working_memory"] * 2**20)
    free = torch.cuda.mem_get_info(device)[0]
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return float(free + max(0, cached))


def block_slices(n: int, size: int) -> list[slice]:
    """Split ``range(n)`` into consecutive slices of `size`, the last one shorter."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
