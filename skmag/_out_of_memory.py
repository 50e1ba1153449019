"""What is said when an allocation fails: a MemoryError that names n, the bytes and the way out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch

_P = ParamSpec("_P")
_R = TypeVar("_R")

# What torch, the driver of a card and its libraries say beside an error of torch's own type.
_REFUSED = re.compile(
    r"can't allocate memory|CUDA error: out of memory|CU[A-Z]+_STATUS_ALLOC_FAILED"
)
_ASKED = re.compile(r"(?:tried|Unable) to allocate ([\d.]+ *[A-Za-z]+)", re.IGNORECASE)


def refused_bytes(error: RuntimeError | MemoryError) -> str | None:
    """Return what could not be allocated, in torch's or numpy's words; None for other errors."""
    text = str(error)
    if isinstance(error, MemoryError):
        # Ours say what fits; those of compiled code say nothing at all.
        if text and not _ASKED.search(text):
            return None
    elif not isinstance(error, torch.OutOfMemoryError) and not _REFUSED.search(text):
        return None
    found = _ASKED.search(text)
    return f"{found.group(1)} more" if found else "more memory than is free"


@contextmanager
def named_memory_errors(n: int, way_out: str) -> Iterator[None]:
    """Name n and the way out where memory runs out in spite of what was asked for beforehand.

    Parameters
    ----------
    n : int
        Number of rows that are worked on.
    way_out : str
        What needs less memory.

    Raises
    ------
    MemoryError
        For every allocation that fails inside, of numpy or torch; one that names n already goes
        through as it is.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        refused = refused_bytes(error)
        if refused is None:
            raise
        raise MemoryError(f"the work for n={n:,} rows needs {refused}; {way_out}") from error


def names_memory(
    function: Callable[Concatenate[Any, _P], _R],
) -> Callable[Concatenate[Any, _P], _R]:
    """Decorate a function of a similarity, or a method of what has one, to raise MemoryError.

    Where a block or a factor does not fit, torch raises an error of its own, on a card another one
    than on the host, and numpy yet another; none says what would fit.

    Parameters
    ----------
    function : callable
        Its first argument is a similarity or has one.

    Returns
    -------
    callable
        The same function, which raises MemoryError where memory runs out.
    """

    @wraps(function)
    def wrapped(first: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(first, *args, **kwargs)
        except (RuntimeError, MemoryError) as error:
            refused = refused_bytes(error)
            if refused is None:
                raise
            similarity = getattr(first, "similarity", first)
            device = similarity.device
            raise MemoryError(
                f"memory on {device} ran out with n={len(similarity):,} distinct points at "
                f"t={similarity.t!r}: it takes {refused}{_left(device)}. Use fewer points, a "
                "smaller working_memory, or another solver: 'sparse' and 'cg' hold no n by n "
                "matrix (for metrics of negative type), 'mixed' takes half of one."
            ) from error

    return wrapped


def _left(device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    return f" where {torch.cuda.mem_get_info(device)[0]:,} bytes are free"
