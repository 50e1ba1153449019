"""Iterative normalization: dividing each weight by its row's sum until every row sums to one.

The step w <- w / (zeta w) is the multiplicative update of non-negative quadratic programming, so
``2 1'w - w' zeta w`` rises with every step towards its maximum over w >= 0. That maximum is the
maximum diversity. It is the magnitude only where the weighting has no negative weight; elsewhere
rows of points that no positive weight suits keep sums above one, for ever.
"""

from __future__ import annotations

import math

import torch

from skmag._arrays import on_host
from skmag._similarity import Similarity
from skmag._solvers._accuracy import Accuracy
from skmag._solvers._parameters import check_positive_integer
from skmag._solvers._products import Products, kept_bytes
from skmag._solvers._solution import Solution

# Steps on a device between two looks at the rows: each makes the host wait.
_LOOK = 5
_TINY = torch.finfo(torch.float64).tiny


def solve_iterative_normalization(
    similarity: Similarity,
    *,
    tol: float,
    start: torch.Tensor | None = None,
    max_iter: int = 1000,
) -> Solution:
    """Weights by Algorithm 1 of "Approximating metric magnitude of point sets".

    Parameters
    ----------
    similarity : Similarity
        What is solved.
    tol : float
        Accuracy of the magnitude, as a share of it. The iteration stops when it is reached and
        every row sums to one within `tol` as well; or when no row falls short of one by more and
        those that exceed it have no more than this share of the weight.
    start : tensor of shape (n_points,), default=None
        Positive weights to start from; None for the paper's ones. A weight of zero stays zero.
    max_iter : int, default=1000
        Steps at most, each of which is one product with zeta.

    Returns
    -------
    Solution
        Converged where the certified interval is within `tol` or, for metrics without a sharp
        bound of the smallest eigenvalue, the estimated error; else the weights need not be those
        of the magnitude, however long the iteration runs. Its `details`: "sum_of_weights", the
        paper's value; "maximum_excess" and "maximum_deficit" of a row's sum over and under one;
        and "diversity_lower" and "diversity_upper", between which, rounding aside, the limit
        lies where zeta is positive definite.

    Raises
    ------
    ValueError
        If `start` has a negative weight, or none that is positive, or if `max_iter` is not a
        positive integer.

    References
    ----------
    R. Andreeva, J. Ward, P. Skraba, J. Gao, R. Sarkar, "Approximating metric magnitude of point
    sets", section 3.2. D. D. Lee, H. S. Seung, "Algorithms for non-negative matrix factorization"
    (2000), whose auxiliary function shows that no step lowers ``2 1'w - w' zeta w``.
    """
    check_positive_integer(max_iter, "max_iter")
    # An equation of S instead of zeta has no positive matrix to divide by.
    products = Products(similarity, keep_bytes=kept_bytes(similarity.device), anchored=False)
    weights = torch.ones_like(similarity.counts) if start is None else start.clone()
    if bool((weights < 0).any()) or not bool((weights > 0).any()):
        raise ValueError("iterative normalization starts from non-negative weights, not all zero")
    sums = products.product(weights[:, None])[:, 0]
    accuracy, n_iter = Accuracy(similarity, tol, products), 0
    while True:
        settled, solved = _settled(weights, sums, tol), _solved(sums, tol)
        last = n_iter == max_iter or (settled and not solved)
        if last or (solved and accuracy.is_due(n_iter)):
            certificate = accuracy.certificate(weights, n_iter)
            if last or certificate.converged:
                break
        for _ in range(min(1 if on_host(weights) else _LOOK, max_iter - n_iter)):
            weights = _step(weights, sums)
            sums = products.product(weights[:, None])[:, 0]
            n_iter += 1
    lower, upper = diversity_interval(weights, sums)
    details = {
        "sum_of_weights": float(weights.sum()),
        "maximum_excess": max(0.0, float(sums.max()) - 1),
        "maximum_deficit": max(0.0, 1 - float(sums.min())),
        "diversity_lower": lower,
        "diversity_upper": upper,
    }
    return Solution(similarity, weights, certificate, "iterative_normalization", details=details)


def diversity_interval(weights: torch.Tensor, sums: torch.Tensor) -> tuple[float, float]:
    """Bounds of the maximum diversity from non-negative weights w and sums G = zeta w.

    Lower bound: the greatest value of ``2 1'v - v' zeta v`` over the multiples v of w. Upper
    bound: for every v with zeta v >= 1 and every u >= 0, 2 1'u - u' zeta u is at most
    v' zeta v - (u - v)' zeta (u - v), so no diversity exceeds v' zeta v if zeta is positive
    semi-definite; v = w / min G is such a v.

    Parameters
    ----------
    weights : tensor of shape (n_points,)
        Any non-negative weights, not all of them zero.
    sums : tensor of shape (n_points,)
        Their product with zeta.

    Returns
    -------
    lower, upper : float
        Bounds, but for rounding.
    """
    form, least = float(weights @ sums), float(sums.min())
    lower = float(weights.sum()) ** 2 / form
    return lower, form / least / least if least > 0 else math.inf


def _step(weights: torch.Tensor, sums: torch.Tensor) -> torch.Tensor:
    # A weight of zero, far from all others, has a sum of zero.
    return weights / sums.clamp_min(_TINY)


def _solved(sums: torch.Tensor, tol: float) -> bool:
    return bool((sums - 1).abs().max() <= tol)


def _settled(weights: torch.Tensor, sums: torch.Tensor, tol: float) -> bool:
    """Whether every row sums to one, or those in excess are all that further steps could change.

    Rows that fall short belong to weights that still grow, from however little.
    """
    excessive = float(weights[sums > 1 + tol].sum())
    return float(sums.min()) >= 1 - tol and excessive <= tol * float(weights.sum())
