"""Brute force for the classifiers, and what their test modules share.

Every score here comes from weightings made afresh by dense inversion.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from reference import dense, dense_inverse

METHODS = ("predict_proba", "predict_log_proba", "decision_function", "predict")


def blobs(n: int = 90, n_classes: int = 3, d: int = 3, seed: int = 0) -> Any:
    """Classes of equal size that overlap, in turns."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    centers = 2 * rng.normal(size=(n_classes, d))
    return centers[y] + rng.normal(size=(n, d)), y


def queries(n: int = 40, d: int = 3, seed: int = 1) -> np.ndarray:
    """Points among and around those of :func:`blobs`."""
    return 2 * np.random.default_rng(seed).normal(size=(n, d))


def assert_same_answers(
    found: Any, expected: Any, Z: Any, W: Any = None, rtol: float = 1e-10
) -> None:
    """Compare two fitted classifiers on queries `Z`; `found` is asked with `W` if given."""
    W = Z if W is None else W
    for method in METHODS[:3]:
        ours, theirs = (np.asarray(getattr(m, method)(A)) for m, A in ((found, W), (expected, Z)))
        # The slope of the probabilities is as good as the minimizer that found it.
        tolerance = rtol if method == "decision_function" else max(rtol, 1e-5)
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, err_msg=method)
    assert found.predict(W).tolist() == expected.predict(Z).tolist()


def without(points: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Rows of `points` that differ from `z`."""
    return points[(points != z).any(axis=1)]


def criterion_values(points: np.ndarray, z: np.ndarray, t: float) -> dict[str, float]:
    """The five criteria at `z`, which is none of `points`, from the weighting of both together."""
    points = np.unique(points, axis=0)
    joined = np.vstack([points, z])
    alone, together = dense_inverse(points, t), dense_inverse(joined, t)
    own, weight = alone.sum(1), together.sum(1)[-1]
    return {
        "residual": 1 / together[-1, -1],
        "weight": abs(weight),
        "percentile": float(np.mean(own <= weight)),
        # The growth of the magnitude, without the cancellation of subtracting two of them.
        "gain": weight**2 / together[-1, -1],
        "potential": float(dense(joined, t)[-1, :-1] @ own),
    }


def as_score(criterion: str, value: float) -> float:
    """What a value of the criterion counts for: the greatest score wins."""
    if criterion == "potential":
        return value
    return -value if criterion == "percentile" else -np.log(value)


def left_out_scores(X: np.ndarray, y: np.ndarray, t: float) -> dict[str, np.ndarray]:
    """Scores of each row under each class, the row and its copies gone from its own class."""
    classes = np.unique(y)
    out: dict[str, np.ndarray] = {}
    for i, (x, label) in enumerate(zip(X, y, strict=True)):
        for c, other in enumerate(classes):
            points = X[y == other]
            if other == label:
                points = without(points, x)
            for criterion, value in criterion_values(points, x, t).items():
                table = out.setdefault(criterion, np.empty((len(X), len(classes))))
                table[i, c] = as_score(criterion, value)
    return out
