"""The positive magnitude of a set: the sum of its positive weights alone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from scipy.linalg import LinAlgWarning

from skmag._answers import Answers
from skmag._arrays import resolve_device
from skmag._input import MetricLike, build_similarity, check_2d, check_tol
from skmag._solvers._base import AnchoredFactor

# Standard deviation of the relative error of a rounded number, in machine epsilons: the absolute
# one is uniform over half an epsilon, times the power of two below the number, to either side.
_ROUNDING = 0.2
# Share of the positive magnitude's excess over one that rounding may make without a warning.
_ROUNDED_SHARE = 1e-3


def positive_magnitude(
    X: Any,
    *,
    t: float | str = 1.0,
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    solver: str = "auto",
    tol: float = 1e-6,
    solver_params: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
) -> float:
    """Compute the sum of the positive weights of a finite metric space.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
        Points, or their distances if ``metric="precomputed"``. Duplicates change nothing: copies of
        a point share its weight, and with it the sign.
    t : float or "scale", default=1.0
        Positive scale that multiplies the distances; "scale" is one over the median distance.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`.
    metric_params : mapping, default=None
        Further arguments of the metric.
    solver : str, default="auto"
        As for :func:`weighting`.
    tol : float, default=1e-6
        As for :func:`weighting`. It bounds the error of the magnitude; weights, and with them the
        positive magnitude, are accurate to about its square root where there is no factor.
    solver_params : mapping, default=None
        As for :func:`weighting`.
    device : str, torch.device or None, default=None
        As for :func:`weighting`.

    Returns
    -------
    float
        Positive magnitude: the magnitude plus the absolute sum of the negative weights, at least 1
        where the similarity matrix is positive definite.

    Raises
    ------
    ValueError
        If an argument is not usable; the message names it.
    MemoryError
        If the factor does not fit.
    numpy.linalg.LinAlgError
        If the similarity matrix has no inverse.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        If a solver without a factor did not meet `tol`; the message holds the interval that it
        reached for the magnitude.
    NotPositiveDefiniteWarning
        If the similarity matrix is not positive definite.
    scipy.linalg.LinAlgWarning
        If points are so close that the weights of close points are accurate to less than 1e-6, or
        that float64 cannot tell them apart (they are merged). If `X` holds distances in float32 or
        less, and rounding to it may change what the answer exceeds 1 by by more than some 0.1%.

    See Also
    --------
    magnitude : The sum of all weights.
    weighting : Gives both from one factor: ``space.magnitude``, and the sum of the positive
        ``space.weights``.
    maximum_diversity : The greatest effective number of points by non-negative weights.

    Notes
    -----
    It is the magnitude where no weight is negative, as on the real line, and greater elsewhere.
    Unlike the magnitude of a positive definite space it may fall when points are added.

    Precomputed distances are taken as they are. Where points are close beside the others, the
    weights depend on the last digits of the distances, and what float32 cut off may make the
    positive magnitude's excess over 1 a hundred times too large. A table in float32 is therefore
    examined, by one more solve with its factor; one that was computed in float32 and converted is
    not. Compute it in float64 from the start.

    References
    ----------
    R. Andreeva, B. Dupuis, R. Sarkar, T. Birdal, U. Şimşekli, "Topological generalization bounds
    for discrete-time stochastic optimization algorithms" (2024); R. Andreeva, J. Ward, P. Skraba,
    J. Gao, R. Sarkar, "Approximating metric magnitude of point sets", section 5.2.

    Examples
    --------
    A point between four others that are close to it gets a negative weight:

    >>> from skmag import magnitude, positive_magnitude
    >>> X = [[0.0, 0.0], [0.1, 0.0], [-0.1, 0.0], [0.0, 0.1], [0.0, -0.1]]
    >>> round(magnitude(X), 4), round(positive_magnitude(X), 4)
    (1.1293, 1.3592)
    """
    array = check_2d(X, "X")
    place = resolve_device(device, array)
    similarity = build_similarity(array, t, metric, metric_params, place)
    answers = Answers.by(similarity, solver, place, check_tol(tol), solver_params)
    # Less the negative weights instead of the sum of the others: the magnitude has more digits.
    found = answers.magnitude - float(answers.weights.clamp(max=0.0).sum())
    error = _epsilon(array) * _sensitivity(answers) if similarity.metric.precomputed else 0.0
    if error > _ROUNDED_SHARE * abs(found - 1):
        warnings.warn(
            f"X holds distances in {array.dtype}: if they were rounded to it, the positive "
            f"magnitude {found!r} is off by {error:.1e} or more. Compute the table in float64.",
            LinAlgWarning,
            stacklevel=2,
        )
    return found


def _epsilon(array: Any) -> float:
    """Machine epsilon of an array of float32 or less; 0 for others, which are not rounded."""
    name = str(array.dtype).removeprefix("torch.")
    dtype = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    return torch.finfo(dtype[name]).eps if name in dtype else 0.0


def _sensitivity(answers: Answers) -> float:
    """Standard error of the positive magnitude where distances are off by one machine epsilon.

    With v = zeta^-1 1_{w > 0}, a change E of the relative distances adds v' (t d * zeta * E) w,
    whose terms are independent.
    """
    solved, w = answers.factor, answers.weights
    assert isinstance(solved, AnchoredFactor)
    space, column = solved.similarity, solved.anchor_column()
    positive = (w > 0).to(w)[:, None]
    right = positive - positive[0] * column
    right[0] = 0.0
    v = solved.solve(right)
    v[0] = positive[0] - column.mT @ v
    variance = w.new_zeros(())
    for rows in space.row_blocks():
        reach = space.distances(rows, slice(None)) * space.t
        variance += v[rows, 0].square() @ (reach * torch.exp(-reach)).square_() @ w.square()
    return _ROUNDING * float(variance.sqrt())
