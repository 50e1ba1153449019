"""What a solver returns: weights, and what is known of how far the magnitude may be off."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from skmag._arrays import Portable
from skmag._similarity import Similarity


@dataclass(frozen=True)
class Certificate(Portable):
    """A magnitude and what is known of its error.

    Parameters
    ----------
    magnitude : float
        The solver's value.
    lower : float
        Proven lower bound, rounding included.
    upper : float
        Proven upper bound, rounding included; infinite where none can be had.
    standard_error : float, default=0.0
        What the solver goes by where the interval is not within its tolerance: for "sparse" one
        standard deviation of the estimated magnitude, for "cg" a cautious estimate of the error
        itself, which is no proven bound. Zero where it goes by the interval, NaN where nothing is
        known.
    residual_norm : float, default=nan
        Euclidean norm of 1 - zeta v for the weights v; NaN where it was not computed.
    n_iter : int, default=0
        Iterations, or levels, or products, whatever the solver counts.
    converged : bool, default=True
        Whether the solver reached what it was asked for.
    """

    magnitude: float
    lower: float
    upper: float
    standard_error: float = 0.0
    residual_norm: float = float("nan")
    n_iter: int = 0
    converged: bool = True


@dataclass(frozen=True)
class Solution(Portable):
    """Weights of the distinct points, with their certificate.

    Parameters
    ----------
    similarity : Similarity
        What was solved.
    weights : tensor of shape (n_points,)
        Weights of the distinct points.
    certificate : Certificate
        The magnitude and its error.
    solver : str
        Name of the solver that ran.
    details : dict, default={}
        What else a solver reports, by name.
    center_weights : tensor of shape (n_points,) or None
        Where a solver goes by centers, their weighting without the other points; zero elsewhere.
    """

    similarity: Similarity
    weights: torch.Tensor
    certificate: Certificate
    solver: str
    details: dict[str, Any] = field(default_factory=dict)
    center_weights: torch.Tensor | None = None
