"""The portfolio of solvers: which one runs for ``solver="auto"``, and what the user is told."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from skmag._out_of_memory import names_memory
from skmag._similarity import Similarity
from skmag._solvers._base import Factor
from skmag._solvers._centers import solve_centers
from skmag._solvers._cg import solve_cg
from skmag._solvers._dimension import exponent, has_coordinates, neighborhood
from skmag._solvers._exact import EXACT, choose_exact, factor, is_on_a_line
from skmag._solvers._gradient_descent import solve_gradient_descent
from skmag._solvers._iterative import IterativeFactor
from skmag._solvers._iterative_normalization import solve_iterative_normalization
from skmag._solvers._many_scales import solve_scales
from skmag._solvers._memory import available_memory, exact_bytes
from skmag._solvers._near import NearFactor
from skmag._solvers._products import kept_bytes
from skmag._solvers._solution import Solution
from skmag._solvers._sparse import solve_sparse
from skmag._solvers._unmet import warn_unmet

ITERATIVE: dict[str, Callable[..., Solution]] = {
    "cg": solve_cg,
    "sparse": solve_sparse,
    "centers": solve_centers,
    "iterative_normalization": solve_iterative_normalization,
    "gradient_descent": solve_gradient_descent,
}

# Up to this many points a Cholesky factor is as fast as anything else, or nearly so.
_FACTORED_POINTS = {False: 10_000, True: 4_000}
# Relative tolerances below this one are for a factor.
_FACTORED_TOL = 1e-9
# Beyond this many points one product in float64 takes longer than the whole sparse solver.
_CERTIFIED_POINTS = 30_000
# Relative tolerance that the sparse solver often meets.
_ESTIMATED_TOL = 1e-5
# Intrinsic dimension up to which the sparse solver's tail converges.
_SPARSE_DIMENSION = 3.5
# Entries of zeta that may be computed on a CPU before that needs to be asked for: some hours.
_CPU_ENTRIES = 1e12
# From so many points and scales on, conjugate gradients that begin where the last ones ended are
# faster than factors.
_SHARED_POINTS, _SHARED_SCALES = 2_000, 3
# Products that conjugate gradients take where the dimension is high.
_PRODUCTS = 30
# Up to this many points a factor answers questions by itself, and up to the second number where
# near points do not suffice.
_ANSWERED_POINTS, _WEIGHED_POINTS = 5_000, 20_000


def choose(
    similarity: Similarity, device: torch.device, tol: float, *, only_magnitude: bool = False
) -> tuple[str, str]:
    """The rule behind ``solver="auto"``: the first line that fits.

    =============  ============================================================  ================
    solver         when                                                          why
    =============  ============================================================  ================
    ``line``       one feature and a norm                                        closed form
    a factor       the metric is not known to be of negative type, or `tol` is   nothing else is
                   below 1e-9                                                    safe, or exact
    a factor       up to 10,000 points, 4,000 where only the magnitude is        exact, and ready
                   wanted, if it fits the memory                                 for questions
    ``sparse``     more than 30,000 points of intrinsic dimension up to 3.5,     near-linear
                   and `tol` is 1e-5 or more, or cg would be too dear
    ``centers``    cg would be too dear                                          hours otherwise
    ``cg``         otherwise                                                     certified
    =============  ============================================================  ================

    Too dear is what would take more than 1e12 entries of zeta on a CPU: from 258,000 points on.

    Parameters
    ----------
    similarity : Similarity
        The operator.
    device : torch.device
        Where factors are to live.
    tol : float
        Relative tolerance of the magnitude.
    only_magnitude : bool, default=False
        Whether no questions will follow.

    Returns
    -------
    name, reason : str
        A solver and a sentence for the user.
    """
    n = len(similarity)
    name, reason = choose_exact(similarity, device)
    if name == "line" or similarity.device != device:
        return name, reason
    if not similarity.metric.positive_definite:
        return name, f"{reason}; metric={similarity.metric.name!r} may be indefinite"
    if tol < _FACTORED_TOL:
        return name, f"{reason}; tol={tol!r} asks for all digits"
    if n <= _FACTORED_POINTS[only_magnitude] and exact_bytes(n, 4) <= available_memory(device):
        return name, reason
    dear = device.type == "cpu" and _PRODUCTS * n * (n / 2) > _CPU_ENTRIES
    what = "points"
    if has_coordinates(similarity.metric) and n > _CERTIFIED_POINTS:
        dimension = neighborhood(similarity).dimension
        what = f"points of intrinsic dimension {dimension:.1f}"
        if dimension <= _SPARSE_DIMENSION and (dear or tol >= _ESTIMATED_TOL):
            return "sparse", f"n={n:,} {what}"
    if dear:
        return "centers", (
            f"conjugate gradients over n={n:,} {what} would take hours on a CPU; solver='cg' runs "
            "them"
        )
    return "cg", f"n={n:,} points: products with a certified interval instead of a factor"


@names_memory
def solve(
    similarity: Similarity,
    solver: str,
    device: torch.device,
    *,
    tol: float = 1e-6,
    solver_params: Mapping[str, Any] | None = None,
    start: torch.Tensor | None = None,
    only_magnitude: bool = False,
) -> tuple[Factor, str]:
    """Solve `similarity` by any solver of the portfolio.

    Parameters
    ----------
    similarity : Similarity
        The operator.
    solver : str
        "auto", a solver that makes a factor, or an iterative one.
    device : torch.device
        Where factors are to live.
    tol : float, default=1e-6
        Relative tolerance of the magnitude, for the iterative ones.
    solver_params : mapping, default=None
        Further arguments of the solver.
    start : tensor of shape (n_points,), default=None
        Weights that an iterative solver may begin with.
    only_magnitude : bool, default=False
        Whether no questions will follow.

    Returns
    -------
    factor : Factor
        The solved state.
    reason : str
        Why this solver.

    Raises
    ------
    ValueError
        If the solver is unknown, does not fit the data or does not take a parameter.

    Warns
    -----
    ConvergenceWarning
        If the tolerance was not met; the message holds the interval that was reached.
    """
    known = ["auto", *EXACT, *ITERATIVE]
    if solver not in known:
        raise ValueError(f"solver={solver!r} is unknown; use one of {known}")
    reason = "asked for"
    if solver == "auto":
        solver, reason = choose(similarity, device, tol, only_magnitude=only_magnitude)
    if solver in EXACT:
        _check_no_params(solver_params, solver, asked=reason == "asked for")
        made, why = factor(similarity, solver, device)
        return made, why if reason == "asked for" or made.name != solver else reason
    _check_iterative(solver, similarity)
    run = ITERATIVE[solver]
    _check_params(run, solver, solver_params, {"tol", "start", "workspace"})
    solution = run(similarity, tol=tol, start=start, **(solver_params or {}))
    warn_unmet(solution, tol)
    return IterativeFactor(solution), reason


def choose_answering(
    similarity: Similarity, device: torch.device, *, residuals_only: bool = False
) -> tuple[str, str]:
    """The rule behind ``solver="auto"`` where many questions follow: the first line that fits.

    =============  ============================================================  ================
    solver         when                                                          why
    =============  ============================================================  ================
    ``line``       one feature and a norm                                        closed form
    a factor       up to 5,000 points                                            exact
    a factor       the metric is not known to be of negative type, or has no     nothing else is
                   coordinates                                                   safe
    a factor       up to 20,000 points, if it fits the memory, under norms       far points
                   other than the Euclidean one                                  matter there
    a factor       up to 20,000 points of intrinsic dimension above 3.5, if it   near points give
                   fits the memory and weights are wanted                        no weights there
    ``sparse``     otherwise                                                     near points
                                                                                 answer
    =============  ============================================================  ================

    Parameters
    ----------
    similarity : Similarity
        The operator.
    device : torch.device
        Where factors are to live.
    residuals_only : bool, default=False
        Whether only residuals decide.

    Returns
    -------
    name, reason : str
        A solver and a sentence for the user.
    """
    n, metric = len(similarity), similarity.metric
    name, reason = choose_exact(similarity, device)
    if name == "line" or n <= _ANSWERED_POINTS or similarity.device != device:
        return name, reason
    if not metric.positive_definite or not has_coordinates(metric) or similarity.points is None:
        return name, f"{reason}; metric={metric.name!r} is not for near points"
    if n <= _WEIGHED_POINTS and exact_bytes(n, 8) <= available_memory(device):
        if exponent(metric) != 2:
            return name, f"{reason}; far points matter under metric={metric.name!r}"
        dimension = 0.0 if residuals_only else neighborhood(similarity).dimension
        if dimension > _SPARSE_DIMENSION:
            return name, f"{reason}; weights are wanted in intrinsic dimension {dimension:.1f}"
    return "sparse", f"n={n:,} points: each query is answered by the points near it"


@names_memory
def answering(
    similarity: Similarity,
    solver: str,
    device: torch.device,
    *,
    tol: float = 1e-6,
    solver_params: Mapping[str, Any] | None = None,
    residuals_only: bool = False,
) -> tuple[Factor, str]:
    """Prepare `similarity` for many questions.

    Parameters
    ----------
    similarity : Similarity
        The operator.
    solver : str
        "auto", a solver that makes a factor, "cg", or "sparse", which answers by near points.
    device : torch.device
        Where factors are to live.
    tol : float, default=1e-6
        Relative tolerance of the magnitude, for "cg" and "sparse".
    solver_params : mapping, default=None
        Further arguments of these two.
    residuals_only : bool, default=False
        Whether only residuals decide, so that "sparse" need not solve for weights.

    Returns
    -------
    factor : Factor
        The solved state.
    reason : str
        Why this solver.

    Raises
    ------
    ValueError
        If the solver does not fit the data or does not take a parameter.
    """
    reason = "asked for"
    if solver == "auto":
        solver, reason = choose_answering(similarity, device, residuals_only=residuals_only)
    if solver == "sparse":
        _check_iterative(solver, similarity)
        _check_params(solve_sparse, solver, solver_params, {"tol", "start"})
        params = dict(solver_params or {})
        return NearFactor.of(similarity, tol, params, residuals_only=residuals_only), reason
    if solver in ITERATIVE:
        return solve(similarity, solver, device, tol=tol, solver_params=solver_params)
    _check_no_params(solver_params, solver, asked=reason == "asked for")
    made, why = factor(similarity, solver, device)
    return made, why if reason == "asked for" else reason


@names_memory
def magnitudes_at(
    similarity: Similarity,
    scales: Sequence[float],
    solver: str,
    device: torch.device,
    *,
    tol: float,
    solver_params: Mapping[str, Any] | None = None,
    callback: Callable[[int, int], object] | None = None,
) -> list[float]:
    """Magnitudes of the same points at several scales.

    Parameters
    ----------
    similarity : Similarity
        The points.
    scales : sequence of float
        Scales.
    solver : str
        As for :func:`solve`; "auto" takes conjugate gradients, which each scale begins with the
        weights of others, from 2,000 points and three scales on.
    device : torch.device
        Where factors are to live.
    tol : float
        Relative tolerance of each magnitude.
    solver_params : mapping, default=None
        Further arguments of the solver.
    callback : callable, default=None
        Called with the number of scales that are done and of all of them.

    Returns
    -------
    list of float
        Magnitudes in the order of `scales`.
    """
    asked = solver != "auto"
    if not asked:
        solver = _choose_for_scales(similarity, len(scales), device, tol)
    if solver == "cg":
        _check_iterative("cg", similarity)
        _check_params(solve_scales, "cg", solver_params, {"scales", "tol", "done"})
        if exact_bytes(len(similarity), 8) <= kept_bytes(similarity.device):
            similarity = with_kept_distances(similarity, len(scales))
        done: list[int] = []

        def tell(index: int, solution: Solution) -> None:
            done.append(index)
            warn_unmet(solution, tol)
            if callback is not None:
                callback(len(done), len(scales))

        solutions = solve_scales(similarity, scales, tol=tol, done=tell, **(solver_params or {}))
        return [solution.certificate.magnitude for solution in solutions]
    if solver not in ITERATIVE:
        _check_no_params(solver_params, solver, asked=asked)
        similarity = with_kept_distances(similarity, len(scales))
    values, spent = [], None
    for number, t in enumerate(scales, 1):
        at = similarity.at(t)
        if solver in ITERATIVE:
            made, _ = solve(at, solver, device, tol=tol, solver_params=solver_params)
        else:
            made = spent = factor(at, solver, device, spent)[0]
        values.append(made.magnitude())
        if callback is not None:
            callback(number, len(scales))
    return values


def with_kept_distances(similarity: Similarity, n_scales: int) -> Similarity:
    """Keep the distances if they are needed again and fit beside a factor."""
    n, on_line = len(similarity), is_on_a_line(similarity)
    fits = 2 * exact_bytes(n, 8) <= available_memory(similarity.device)
    return similarity.with_table() if n_scales > 1 and fits and not on_line else similarity


def _choose_for_scales(
    similarity: Similarity, n_scales: int, device: torch.device, tol: float
) -> str:
    """Solver for several scales: "cg" also where one scale alone is better solved by a factor."""
    name, _ = choose(similarity, device, tol, only_magnitude=True)
    shared = (
        name in ("cholesky", "mixed")
        and similarity.metric.positive_definite
        and similarity.device == device
        and tol >= _FACTORED_TOL
        and n_scales >= _SHARED_SCALES
        and len(similarity) >= _SHARED_POINTS
    )
    return "cg" if shared else name


def _check_iterative(solver: str, similarity: Similarity) -> None:
    if not similarity.metric.positive_definite and not is_on_a_line(similarity):
        raise ValueError(
            f"solver={solver!r} needs similarities that are known to be positive definite; "
            f"metric={similarity.metric.name!r} is not known to be of negative type, use "
            "solver='cholesky', which finds out"
        )


def _check_no_params(params: Mapping[str, Any] | None, solver: str, *, asked: bool) -> None:
    if params:
        chosen = "" if asked else "; solver='auto' chose it, name the solver that they are for"
        raise ValueError(
            f"solver_params={dict(params)!r} do not fit solver={solver!r}, which takes none{chosen}"
        )


def _check_params(
    run: Callable[..., Any], solver: str, params: Mapping[str, Any] | None, taken: set[str]
) -> None:
    """Refuse parameters that a solver does not take from its caller."""
    known = {
        name
        for name, parameter in inspect.signature(run).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    } - taken
    unknown = sorted(set(params or {}) - known)
    if unknown:
        raise ValueError(
            f"solver_params has keys {unknown} that solver={solver!r} does not take here; it "
            f"takes {sorted(known)}"
        )
