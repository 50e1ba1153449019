"""Solvers that make a factor of zeta, the rule that chooses between them, and their rescue."""

from __future__ import annotations

import warnings

import torch
from scipy.linalg import LinAlgWarning

from skmag._arrays import float64_device
from skmag._out_of_memory import names_memory
from skmag._similarity import Similarity
from skmag._solvers._base import (
    Factor,
    IndefiniteError,
    NotPositiveDefiniteWarning,
    singular_share,
    stack_level,
)
from skmag._solvers._cholesky import CholeskyFactor
from skmag._solvers._indefinite import IndefiniteFactor
from skmag._solvers._line import LineFactor
from skmag._solvers._memory import available_memory, exact_bytes
from skmag._solvers._mixed import MixedFactor

EXACT: dict[str, type[Factor]] = {
    kind.name: kind for kind in (LineFactor, CholeskyFactor, MixedFactor, IndefiniteFactor)
}

# The other solvers of the portfolio, which builds on this module.
WITHOUT_FACTOR = ("cg", "sparse", "centers", "iterative_normalization", "gradient_descent")


def choose_exact(similarity: Similarity, device: torch.device) -> tuple[str, str]:
    """The rule where a factor is wanted: the first line that fits.

    ==============  =====================================================  =====================
    solver          when                                                   why
    ==============  =====================================================  =====================
    ``line``        one feature and a norm                                 exact in O(n log n)
    ``mixed``       the device has no float64                              float32 factor there
    ``cholesky``    8 n^2 bytes are free                                   exact
    ``mixed``       4 n^2 bytes are free                                   half the memory
    ``cholesky``    otherwise                                              its error says what
                                                                           is missing
    ==============  =====================================================  =====================

    Parameters
    ----------
    similarity : Similarity
        The operator.
    device : torch.device
        Where factors are to live.

    Returns
    -------
    name, reason : str
        A key of :data:`EXACT` and a sentence for the user.
    """
    n = len(similarity)
    if is_on_a_line(similarity):
        return "line", "one feature: closed form on the real line"
    if float64_device(device) != device:
        return "mixed", f"{device} has no float64: float32 factor there, refined on the CPU"
    free = available_memory(device)
    if exact_bytes(n, 8) <= free or similarity.device != device:
        return "cholesky", f"the float64 factor of n={n} points fits the memory"
    if exact_bytes(n, 4) <= free:
        return "mixed", f"only a float32 factor of n={n} points fits the memory"
    return "cholesky", "no exact factor fits the memory"


def is_on_a_line(similarity: Similarity) -> bool:
    """Whether the points have one feature under a norm, all of which agree there."""
    points = similarity.points
    return points is not None and points.shape[1] == 1 and similarity.metric.is_norm


@names_memory
def factor(
    similarity: Similarity, solver: str, device: torch.device, spent: Factor | None = None
) -> tuple[Factor, str]:
    """Prepare `similarity` with a named solver, or with the one that :func:`choose_exact` names.

    Parameters
    ----------
    similarity : Similarity
        The operator.
    solver : {"auto", "line", "cholesky", "mixed", "indefinite"}
        Name of a solver.
    device : torch.device
        Where factors are to live.
    spent : Factor, default=None
        A factor that nobody will ask again, whose memory may be overwritten.

    Returns
    -------
    factor : Factor
        The solver's state.
    reason : str
        Why this solver.

    Raises
    ------
    ValueError
        If the solver is unknown, makes no factor or does not fit the data.
    MemoryError
        If its factor does not fit the memory.
    numpy.linalg.LinAlgError
        If the similarity matrix has no inverse.
    """
    if solver in WITHOUT_FACTOR:
        raise ValueError(
            f"solver={solver!r} makes no factor, which is needed here; use one of "
            f"{['auto', *EXACT]}"
        )
    if solver != "auto" and solver not in EXACT:
        raise ValueError(f"solver={solver!r} is unknown; use one of {['auto', *EXACT]}")
    if solver == "line" and not is_on_a_line(similarity):
        raise ValueError("solver='line' needs points with one feature and a norm as metric")
    name, reason = choose_exact(similarity, device) if solver == "auto" else (solver, "asked for")
    if name == "mixed":
        return MixedFactor.prepare(similarity, factor_device=device), reason
    try:
        return EXACT[name].prepare(similarity, spent), reason
    except IndefiniteError as error:
        return _rescued(similarity, reason, error)


def _rescued(similarity: Similarity, reason: str, error: IndefiniteError) -> tuple[Factor, str]:
    """Factor a similarity whose Cholesky factorization failed: merge, or go indefinite.

    Under a metric of negative type only rounding can fail, between points so close that float64
    does not tell them apart beside the others. At such a distance d one point or two change the
    magnitude by less than t d, which is rounding too; the user is told all the same.
    """
    if similarity.metric.positive_definite:
        reach = float(similarity.anchor.max()) if similarity.nearly_constant else 1 / similarity.t
        radius = 4 * singular_share(len(similarity)) * reach
        merged = similarity.coalesced(radius)
        if len(merged) < len(similarity):
            warnings.warn(
                f"{len(similarity) - len(merged)} of the n={len(similarity)} distinct points lie "
                f"within {radius:.1e} of another, which float64 cannot resolve at "
                f"t={similarity.t!r}; they were merged with it and share its weight. Make points "
                "equal that are meant to be equal.",
                LinAlgWarning,
                stacklevel=stack_level(),
            )
            try:
                return CholeskyFactor.prepare(merged), reason
            except IndefiniteError as again:
                similarity, error = merged, again
    return indefinite(similarity, error), "the similarity matrix is not positive definite"


def indefinite(similarity: Similarity, error: IndefiniteError) -> Factor:
    """Solve without positive definiteness, and say so."""
    prepared = IndefiniteFactor.prepare(similarity)
    expected = (
        " This metric is of negative type, so it is rounding that speaks: some points are closer "
        "than float64 can tell apart from their distance to the others."
        if similarity.metric.positive_definite
        else ""
    )
    warnings.warn(
        f"The similarity matrix of n={len(similarity)} points under "
        f"metric={similarity.metric.name!r} at t={similarity.t!r} is not positive definite "
        f"({error}); it was solved by a symmetric indefinite factorization. Residuals and gains "
        f"may be negative and bounds on the magnitude do not hold.{expected} Choose a larger t, "
        "or solver='indefinite' to accept this without a warning.",
        NotPositiveDefiniteWarning,
        stacklevel=stack_level(),
    )
    return prepared
