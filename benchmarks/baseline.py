"""The peer that every ratio is taken to: magnitude written in plain scipy, without waste.

Nothing here copies an n x n matrix. ``cdist`` returns C order and LAPACK wants Fortran order,
so the factorisation is handed the transpose, which is the same symmetric matrix seen in the
order LAPACK overwrites in place. Only numpy and scipy are imported, since the same code runs
in magnipy's environment.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import cdist

SCALES = np.geomspace(0.1, 10.0, 20)
"""The 20 scales of the benchmark, from nearly one point to nearly n of them."""


def sample(n: int, dimension: int) -> np.ndarray:
    """Return the benchmark's data: n standard normal points, the same on every call."""
    return np.random.default_rng(n).standard_normal((n, dimension))


def magnitude(X: np.ndarray, t: float = 1.0) -> float:
    """Return the magnitude of X at scale t, in the memory of one n x n matrix."""
    Z = cdist(X, X)
    np.multiply(Z, -t, out=Z)
    np.exp(Z, out=Z)
    return _sum_of_weights(Z)


def magnitude_function(X: np.ndarray, ts: np.ndarray) -> np.ndarray:
    """Return the magnitude of X at each scale, in the memory of two n x n matrices.

    The distances are computed once and kept, the second matrix is reused by every scale.
    """
    D = cdist(X, X)
    Z = np.empty_like(D)
    values = np.empty(len(ts))
    for i, t in enumerate(ts):
        np.multiply(D, -t, out=Z)
        np.exp(Z, out=Z)
        values[i] = _sum_of_weights(Z)
    return values


def _sum_of_weights(Z: np.ndarray) -> float:
    """Solve Z w = 1 by Cholesky, overwriting Z, and return the sum of w."""
    factor = cho_factor(Z.T, lower=True, overwrite_a=True, check_finite=False)
    ones = np.ones(len(Z))
    return float(cho_solve(factor, ones, overwrite_b=True, check_finite=False).sum())
