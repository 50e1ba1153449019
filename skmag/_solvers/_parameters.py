"""Checks of what a caller may tell a solver."""

from __future__ import annotations

from numbers import Integral, Real


def check_positive_integer(value: object, name: str) -> int:
    """Return a number of steps, points or the like as an int; refuse what is none.

    Parameters
    ----------
    value : object
        What the caller gave.
    name : str
        Parameter to blame.

    Returns
    -------
    int
        At least one.

    Raises
    ------
    ValueError
        If `value` is no integer, a bool, or below one.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r} must be a positive integer")
    return int(value)


def is_real(value: object) -> bool:
    """Whether something is a real number, of numpy or of Python, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool)
