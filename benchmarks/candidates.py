"""The three implementations under one signature, each imported only where it is asked for.

skmag and magnipy cannot be imported in one process, so a name is resolved when it is used:
``load("skmag")`` fails in magnipy's environment and ``load("magnipy")`` in skmag's.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable

import numpy as np

Candidate = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Points and scales in, one magnitude per scale out."""

RELATIVE_AGREEMENT = 1e-10
"""How closely a candidate must agree with scipy for its time to count."""


def load(name: str) -> Candidate:
    """Return the candidate of that name: ``"scipy"``, ``"skmag"`` or ``"magnipy"``."""
    return {"scipy": _scipy, "skmag": _skmag, "magnipy": _magnipy}[name]()


def check_agreement(name: str, values: np.ndarray, reference: np.ndarray) -> None:
    """Raise unless the values equal the reference to the agreed relative error."""
    error = float(np.max(np.abs(values - reference) / np.abs(reference)))
    if not error <= RELATIVE_AGREEMENT:
        raise RuntimeError(f"{name} and scipy differ by {error:.1e} relative: nothing to compare")


def _scipy() -> Candidate:
    import baseline

    def run(X: np.ndarray, ts: np.ndarray) -> np.ndarray:
        if len(ts) == 1:
            return np.array([baseline.magnitude(X, ts[0])])
        return baseline.magnitude_function(X, ts)

    return run


def _skmag() -> Candidate:
    import skmag

    def run(X: np.ndarray, ts: np.ndarray) -> np.ndarray:
        if len(ts) == 1:
            return np.array([skmag.magnitude(X, t=float(ts[0]), solver="cholesky")])
        return np.asarray(skmag.magnitude_function(X, ts, solver="cholesky"))

    return run


def _magnipy() -> Candidate:
    from magnipy import Magnipy

    def run(X: np.ndarray, ts: np.ndarray) -> np.ndarray:
        # The class its tutorials use, at its defaults: euclidean metric, Cholesky solve.
        # Its progress output would mix with the JSON of the process that asks.
        with contextlib.redirect_stdout(io.StringIO()):
            return np.asarray(Magnipy(X, ts=ts).get_magnitude()[0])

    return run
