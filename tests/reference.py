"""Independent references: the definitions written down once more, slowly and with many digits."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
from scipy.spatial.distance import cdist

DIGITS = 50


def dense(X: Any, t: float, metric: str = "euclidean", **params: Any) -> np.ndarray:
    """Similarity matrix of distinct points."""
    X = np.asarray(X, dtype=float)
    return np.exp(-t * (X if metric == "precomputed" else cdist(X, X, metric, **params)))


def dense_inverse(X: Any, t: float, metric: str = "euclidean", **params: Any) -> np.ndarray:
    """Inverse of the similarity matrix of distinct points."""
    return np.linalg.inv(dense(X, t, metric, **params))


def dense_questions(inverse: np.ndarray, k: np.ndarray) -> dict[str, np.ndarray]:
    """Answers to the four questions for rows `k` of similarities, from an explicit inverse."""
    potential = k @ inverse.sum(1)
    residual = 1 - ((k @ inverse) * k).sum(1)
    return {
        "potential": potential,
        "residual": residual,
        "joining_weight": (1 - potential) / residual,
        "gain": (1 - potential) ** 2 / residual,
    }


def mp_distance(a: Any, b: Any) -> mpmath.mpf:
    """Euclidean distance between two rows of floats, each of which is taken as exact."""
    return mpmath.sqrt(
        mpmath.fsum(
            (mpmath.mpf(float(x)) - mpmath.mpf(float(y))) ** 2 for x, y in zip(a, b, strict=True)
        )
    )


def mp_similarity(A: Any, B: Any, t: float) -> mpmath.matrix:
    """Euclidean similarities between the rows of two small sets."""
    return mpmath.matrix([[mpmath.exp(-mpmath.mpf(t) * mp_distance(a, b)) for b in B] for a in A])


def mp_weighting(X: Any, t: float) -> tuple[list[mpmath.mpf], mpmath.mpf]:
    """Weights of the rows of a small Euclidean set, and their sum; copies share a weight."""
    rows = [tuple(float(x) for x in row) for row in np.asarray(X)]
    points = list(dict.fromkeys(rows))
    with mpmath.workdps(DIGITS):
        w = mpmath.lu_solve(mp_similarity(points, points, t), mpmath.ones(len(points), 1))
        shares = {p: w[i] / rows.count(p) for i, p in enumerate(points)}
        return [shares[row] for row in rows], mpmath.fsum(w)


def mp_questions(X: Any, t: float, Z: Any) -> dict[str, list[mpmath.mpf]]:
    """Answers to the four questions for queries Z that lie on none of the distinct points X."""
    with mpmath.workdps(DIGITS):
        zeta, cross = mp_similarity(X, X, t), mp_similarity(Z, X, t)
        ones = mpmath.lu_solve(zeta, mpmath.ones(len(X), 1))
        answers: dict[str, list[mpmath.mpf]] = {
            name: [] for name in ("potential", "residual", "joining_weight", "gain")
        }
        for i in range(cross.rows):
            k = cross[i, :].T
            h = (k.T * ones)[0]
            r = 1 - (k.T * mpmath.lu_solve(zeta, k))[0]
            answers["potential"].append(h)
            answers["residual"].append(r)
            answers["joining_weight"].append((1 - h) / r)
            answers["gain"].append((1 - h) ** 2 / r)
        return answers


def relative_error(found: Any, exact: Any) -> float:
    """Greatest relative error of `found` against numbers with more digits."""
    with mpmath.workdps(DIGITS):
        return max(
            float(abs(mpmath.mpf(float(a)) - b) / (abs(b) if b else mpmath.mpf(1)))
            for a, b in zip(found, exact, strict=True)
        )
