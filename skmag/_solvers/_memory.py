"""How much memory there is, and the refusal to take more."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from skmag._arrays import free_device_memory


def available_memory(device: torch.device) -> float:
    """Bytes that can still be taken on `device`; infinite where the system does not say.

    Parameters
    ----------
    device : torch.device
        A CPU or CUDA device.

    Returns
    -------
    float
        The least of what the machine, the container and the address-space limit leave.
    """
    if device.type == "cuda":
        return free_device_memory(device)
    return min(_system_memory(), _container_memory(), _address_space())


def _system_memory() -> float:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux: the physical memory below is the best that the standard library knows
    try:
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _container_memory() -> float:
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = float(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return float("inf")
    return float("inf") if limit == "max" else max(0.0, float(limit) - used)


def _address_space() -> float:
    if sys.platform == "win32":
        return float("inf")
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return float("inf")
    try:
        pages = float(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return float(limit)
    return max(0.0, limit - pages * os.sysconf("SC_PAGE_SIZE"))


def exact_bytes(n: int, itemsize: int) -> int:
    """Bytes of an n by n factor."""
    return n * n * itemsize


def check_memory(n: int, needed: int, device: torch.device, solver: str) -> None:
    """Raise MemoryError, naming n, the bytes and the way out, if `needed` is not to be had."""
    free = available_memory(device)
    if needed > free:
        half = exact_bytes(n, 4)
        halved = solver == "cholesky" and half <= free
        mixed = "solver='mixed', which takes half, " if halved else ""
        raise MemoryError(
            f"solver={solver!r} needs {needed:,} bytes ({needed / 2**30:.1f} GiB) for the "
            f"similarity matrix of n={n:,} distinct points, but {free:,.0f} bytes "
            f"({free / 2**30:.1f} GiB) are free on {device}. Use solver='cg' (or 'sparse' for few "
            f"features), which holds no such matrix, for metrics of negative type, {mixed}fewer "
            "points (a random subset gives a lower bound of the magnitude), or a machine with "
            "more memory."
        )
