"""Gradient descent on the mean squared residual of the equations, all or a few of them a step.

The loss ``1/n sum_i ((zeta w)_i - 1)^2`` has the Hessian ``2/n zeta^2``, whose condition number is
the square of that of zeta: this is the slowest way to a weighting. With momentum b, steps of all
equations are stable for rates below ``2 (1 + b) / L``, L the greatest eigenvalue of the Hessian
(B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964). A fixed
rate of 0.01, the paper's, is beyond that from some 2,000 normal points of the plane on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from sklearn.utils import check_random_state

from skmag._arrays import on_host
from skmag._similarity import Similarity
from skmag._solvers._accuracy import Accuracy
from skmag._solvers._parameters import check_positive_integer, is_real
from skmag._solvers._products import Products, kept_bytes
from skmag._solvers._solution import Solution

# Products that bound the greatest eigenvalue: ten come within a few percent of it.
_POWER_STEPS = 10
# Steps on a device between two looks at what they came to: each makes the host wait.
_LOOK = 5
# Growth of the mean squared residual that no stable run shows, not even at the top of a swing.
_DIVERGED = 1e8


def solve_gradient_descent(
    similarity: Similarity,
    *,
    tol: float,
    start: torch.Tensor | None = None,
    learning_rate: float | str = "auto",
    momentum: float = 0.9,
    batch_size: int | None = None,
    max_iter: int = 1000,
    random_state: int | np.random.RandomState | None = 0,
) -> Solution:
    """Weights by gradient descent with momentum, on all equations or on mini-batches of them.

    Parameters
    ----------
    similarity : Similarity
        What is solved.
    tol : float
        Accuracy of the magnitude, as a share of it. Steps end when it is reached and every row
        of zeta w is one within `tol` as well; with mini-batches, in all batches of an epoch.
    start : tensor of shape (n_points,), default=None
        Weights to start from; None for zeros.
    learning_rate : float or "auto", default="auto"
        Step along the gradient of the mean squared residual. "auto" takes half of what is stable
        with all equations, and less for mini-batches, whose gradients differ.
    momentum : float, default=0.9
        Share of the last step that is repeated, in [0, 1).
    batch_size : int, default=None
        Equations in a step; None, or as many as there are or more, for all. Only so many rows of
        zeta are computed at a time.
    max_iter : int, default=1000
        Steps at most.
    random_state : int, RandomState instance or None, default=0
        Shuffles the equations before every epoch of mini-batches.

    Returns
    -------
    Solution
        Converged where the certified interval is within `tol` or, for metrics without a sharp
        bound of the smallest eigenvalue, the estimated error. Its `details` name the
        "learning_rate" and the "maximum_residual" over the last step, or over the last whole
        epoch.

    Raises
    ------
    ValueError
        If the iteration diverges, or a parameter is out of its range.

    References
    ----------
    R. Andreeva, J. Ward, P. Skraba, J. Gao, R. Sarkar, "Approximating metric magnitude of point
    sets", section 3.1, equation (2), and appendix B.1.
    """
    n = len(similarity)
    check_positive_integer(max_iter, "max_iter")
    batch = n if batch_size is None else min(check_positive_integer(batch_size, "batch_size"), n)
    _check(learning_rate, momentum)
    products = Products(similarity, keep_bytes=kept_bytes(similarity.device), anchored=False)
    rate = _rate(learning_rate, products, batch, momentum)
    accuracy = Accuracy(similarity, tol, products)
    weights = torch.zeros_like(similarity.counts) if start is None else start.clone()
    velocity = torch.zeros_like(weights)
    first, worst = math.nan, weights.new_zeros(())
    reached = torch.full_like(worst, torch.inf)
    look = 1 if on_host(weights) else _LOOK
    gradients = _gradients(products, weights, batch, random_state)
    # Only whole epochs say that all equations hold.
    for n_iter, (gradient, residual, ends_epoch) in enumerate(gradients):
        worst = worst.maximum(residual.abs().max())
        looks = n_iter % look == 0 or n_iter == max_iter
        if looks:
            squared = float(residual.square().mean())
            first = squared if n_iter == 0 else first
            if not squared <= _DIVERGED * (first + 1):
                raise ValueError(
                    f"gradient descent diverged at step {n_iter} with learning_rate={rate!r}, "
                    f"momentum={momentum!r} and batch_size={batch_size!r}; use a smaller one or "
                    "learning_rate='auto'"
                )
        if ends_epoch:
            reached, worst = worst, torch.zeros_like(worst)
        looks = ends_epoch and (looks or batch < n)
        if n_iter == max_iter or (looks and accuracy.is_due(n_iter) and float(reached) <= tol):
            certificate = accuracy.certificate(weights, n_iter)
            if n_iter == max_iter or certificate.converged:
                break
        velocity.mul_(momentum).add_(gradient)
        # In place: the generator looks at the weights as they are.
        weights.sub_(velocity, alpha=rate)
    details = {"learning_rate": rate, "maximum_residual": float(reached)}
    return Solution(similarity, weights, certificate, "gradient_descent", details=details)


def _gradients(
    products: Products,
    weights: torch.Tensor,
    batch: int,
    random_state: int | np.random.RandomState | None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, bool]]:
    """Gradients at `weights`, which change in between, residuals, and whether an epoch ends."""
    similarity, n = products.similarity, len(products)
    if batch == n:
        while True:
            residual = products.product(weights[:, None]) - 1
            yield products.product(residual)[:, 0] * (2 / n), residual, True
    random = check_random_state(random_state)
    while True:
        shuffled = torch.from_numpy(random.permutation(n)).to(similarity.device)
        parts = shuffled.split(batch)
        for number, points in enumerate(parts, start=1):
            rows = torch.exp(similarity.distances_of(points) * -similarity.t)
            residual = rows @ weights - 1
            yield residual @ rows * (2 / len(points)), residual, number == len(parts)


def _rate(learning_rate: float | str, products: Products, batch: int, momentum: float) -> float:
    if not isinstance(learning_rate, str):
        return float(learning_rate)
    eigenvalue, row_sum = _largest_eigenvalue_bound(products)
    n = len(products)
    curvature = 2 * eigenvalue**2 / n
    if batch == n:
        return (1 + momentum) / curvature
    # One equation has the curvature 2 |zeta_i|^2, at most twice its row's sum. All equations have
    # a solution in common, so a fixed rate need not fall (Needell, Ward, "Batched stochastic
    # gradient descent with weighted sampling", 2017); momentum multiplies it by 1 / (1 - b).
    return (1 - momentum) / (curvature + 2 * row_sum / batch)


def _largest_eigenvalue_bound(products: Products) -> tuple[float, float]:
    """Upper bound of the greatest eigenvalue of zeta, and its greatest row sum.

    For a positive matrix and any v > 0, max_i (zeta v)_i / v_i is such a bound (L. Collatz,
    "Einschließungssatz für die charakteristischen Zahlen von Matrizen", 1942); power iteration
    from ones brings it down from the greatest row sum.
    """
    v = torch.ones(len(products), 1, dtype=torch.float64, device=products.similarity.device)
    bounds = []
    for _ in range(_POWER_STEPS):
        image = products.product(v)
        bounds.append(float((image / v).max()))
        v = image / image.max()
    return min(bounds), bounds[0]


def _check(learning_rate: object, momentum: object) -> None:
    if not (isinstance(learning_rate, str) and learning_rate == "auto"):
        if not is_real(learning_rate):
            raise ValueError(f"learning_rate={learning_rate!r} is neither a number nor 'auto'")
        if not learning_rate > 0:  # type: ignore[operator]
            raise ValueError(f"learning_rate={learning_rate!r} must be positive")
    if not is_real(momentum) or not 0 <= momentum < 1:  # type: ignore[operator]
        raise ValueError(f"momentum={momentum!r} must be a number in [0, 1)")
