"""What the user is told of a solver that did not converge."""

from __future__ import annotations

import math
import warnings

from sklearn.exceptions import ConvergenceWarning

from skmag._solvers._base import stack_level
from skmag._solvers._solution import Solution


def warn_unmet(solution: Solution, tol: float) -> None:
    """Say how far a solver came that did not converge, and what would go further."""
    found, stopped = solution.certificate, solution.details.get("stopped")
    if found.converged or stopped == "callback":
        return
    error = found.standard_error
    estimate = f", estimated error {error:.2g}" if error > 0 and math.isfinite(error) else ""
    steps = f" after {found.n_iter} iterations" if found.n_iter else ""
    warnings.warn(
        f"solver={solution.solver!r} did not reach tol={tol!r} for n={len(solution.similarity):,} "
        f"points at t={solution.similarity.t!r}: magnitude {found.magnitude!r} in "
        f"[{found.lower!r}, {found.upper!r}]{estimate}{steps}. {_advice(solution)}",
        ConvergenceWarning,
        stacklevel=stack_level(),
    )


def _advice(solution: Solution) -> str:
    """What would come closer than a solution that did not converge."""
    stopped = solution.details.get("stopped")
    if solution.solver == "iterative_normalization":
        return (
            "It converges to the maximum diversity, which is below the magnitude where some "
            "weights are negative (skmag.maximum_diversity); use solver='cg' for the magnitude."
        )
    if solution.solver == "cg" and stopped == "max_iter":
        return "Raise solver_params={'max_iter': ...} or tol."
    if solution.solver == "cg" and stopped == "estimate":
        return (
            "The estimate is within tol, but nothing proves it under this metric; use "
            "solver='cholesky' where it fits the memory."
        )
    if solution.solver == "cg":
        return (
            "Rounding leaves no more digits, or points are so close that steps make no progress: "
            "raise tol or t, or make points equal that are meant to be equal."
        )
    if solution.solver in ("sparse", "centers"):
        return (
            "Raise solver_params={'n_centers': ...} or tol, or use solver='cg', whose cost grows "
            "with the square of n."
        )
    return "Raise solver_params={'max_iter': ...} or tol, or use solver='cg'."
