"""The magnitude of a few centers: a proven lower bound for sets of any size."""

from __future__ import annotations

import numpy as np
import torch

from skmag._hierarchy import Space, farthest_first
from skmag._similarity import Similarity
from skmag._solvers._base import IndefiniteError
from skmag._solvers._bounds import magnitude_upper_bound
from skmag._solvers._certificate import certify
from skmag._solvers._cholesky import CholeskyFactor, factor_in_place, zeros
from skmag._solvers._memory import check_memory, exact_bytes
from skmag._solvers._parameters import check_positive_integer
from skmag._solvers._solution import Certificate, Solution

# Centers closer than this to each other, beside the whole, are left out: factors lose digits.
_CLOSE = 1e-7


def solve_centers(
    similarity: Similarity,
    *,
    tol: float,
    start: torch.Tensor | None = None,
    n_centers: int = 1000,
) -> Solution:
    """Solve exactly on the first points of the farthest-point order, and leave out the others.

    Parameters
    ----------
    similarity : Similarity
        What is solved.
    tol : float
        Width of the interval, as a share of the magnitude, that counts as converged.
    start : tensor of shape (n_points,), default=None
        Not used: nothing is iterated.
    n_centers : int, default=1000
        Most points to solve on.

    Returns
    -------
    Solution
        The centers' weights, zero elsewhere. Under a metric of negative type the magnitude grows
        under inclusion, so that theirs is a lower bound of the whole set's, proven with its
        rounding. It is ``-inf`` where the metric is not known to be of that type, which the
        public functions refuse for this solver. The upper bound is the a priori one, unless all
        points are centers.

    Raises
    ------
    ValueError
        If `n_centers` is not a positive integer.
    MemoryError
        If a factor over the centers does not fit the memory.
    """
    check_positive_integer(n_centers, "n_centers")
    centers, exact = exact_factor(similarity, spread_centers(similarity, n_centers), "centers")
    w, magnitude = exact.weighting()
    found = certify(exact.similarity, w)
    complete = len(centers) == len(similarity)
    upper = found.upper if complete else magnitude_upper_bound(similarity)
    weights = torch.zeros(len(similarity), dtype=torch.float64, device=similarity.device)
    weights[torch.from_numpy(centers).to(similarity.device)] = w
    certificate = Certificate(
        magnitude=magnitude,
        lower=found.lower,
        upper=upper,
        residual_norm=found.residual_norm if complete else float("nan"),
        converged=complete or upper - found.lower <= tol * magnitude,
    )
    return Solution(
        similarity, weights, certificate, "centers", details={"n_centers": float(len(centers))}
    )


def spread_centers(similarity: Similarity, n_centers: int) -> np.ndarray:
    """The first points of the farthest-point order, but for those that are very close to others.

    Parameters
    ----------
    similarity : Similarity
        Holds the points.
    n_centers : int
        Most points to choose.

    Returns
    -------
    int64 ndarray of shape (n_chosen,)
        Points in order; the first one is the anchor.
    """
    space = Space(similarity.metric, similarity.points, similarity.table)
    found = farthest_first(space, n_centers)
    return well_apart(found.order, found.radii, float(similarity.anchor.max()))


def well_apart(order: np.ndarray, radii: np.ndarray, reach: float) -> np.ndarray:
    """Centers but for those that are very close to others, beside the set's `reach`."""
    return np.asarray(order[radii > _CLOSE * reach])


def exact_factor(
    similarity: Similarity, centers: np.ndarray, solver: str
) -> tuple[np.ndarray, CholeskyFactor]:
    """Factor zeta over centers, or over as many of the first ones as float64 can tell apart.

    Parameters
    ----------
    similarity : Similarity
        The operator.
    centers : int64 ndarray of shape (n_centers,)
        Points in farthest-point order.
    solver : str
        Name for messages.

    Returns
    -------
    centers : int64 ndarray
        Those that were factored.
    factor : CholeskyFactor
        Their factor, made without a warning: what matters is the whole set's error.
    """
    check_memory(len(centers), exact_bytes(len(centers), 8), similarity.device, solver)
    while True:
        taken = similarity.taken(torch.from_numpy(centers).to(similarity.device))
        matrix = zeros(len(centers), similarity.device)
        if taken.nearly_constant:
            taken.fill_upper_anchored(matrix)
        else:
            taken.fill_upper(matrix)
        try:
            return centers, CholeskyFactor(taken, factor_in_place(matrix)[0])
        except IndefiniteError:
            centers = centers[: len(centers) // 2]
