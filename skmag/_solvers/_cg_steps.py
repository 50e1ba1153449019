"""Steps of conjugate gradients: on the host one by one, on a device without waiting for each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.linalg import eigvalsh_tridiagonal

from skmag._arrays import on_host
from skmag._solvers._certificate import norm_of
from skmag._solvers._preconditioners import Preconditioner
from skmag._solvers._products import Products

# Steps between two looks at the smallest Ritz value, where nothing is proven of eigenvalues, and
# at what steps on a device came to.
LOOK = 5
# Share of the least residual before it that a residual has to be below to be progress.
_PROGRESS = 0.9


@dataclass
class Run:
    """What some steps of conjugate gradients from zero came to.

    Parameters
    ----------
    x : tensor of shape (n_points,)
        The correction.
    reach : float
        Share of a right side that products can reduce a residual to, for their rounding.
    rz : float
        What is left of r' M r for the residual r and the preconditioner M.
    lengths, turns : list of float
        Lengths of the steps, and the share of the last direction in the next.
    gained : float
        What the steps added to the energy.
    stretch : float
        Greatest r' M r / r' r, at most the norm of M.
    """

    x: torch.Tensor
    reach: float
    rz: float = 0.0
    stretch: float = 0.0
    gained: float = 0.0
    lengths: list[float] = field(default_factory=list)
    turns: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def smallest_ritz_value(self) -> float:
        """Smallest eigenvalue of M zeta as the steps know it, never below the true one.

        It is that of the tridiagonal matrix of the Lanczos process (Golub & Meurant 2010, section
        4.3); infinite without a step, zero where rounding of the operator may have made it.
        """
        if not self.lengths:
            return math.inf
        inverse = np.reciprocal(self.lengths)
        turns = np.array(self.turns[: len(inverse) - 1])
        diagonal = inverse.copy()
        diagonal[1:] += turns * inverse[:-1]
        beside = np.sqrt(turns) * inverse[:-1]
        if not (np.isfinite(diagonal).all() and np.isfinite(beside).all()):
            return 0.0
        smallest = eigvalsh_tridiagonal(diagonal, beside, select="i", select_range=(0, 0))
        return float(smallest[0]) if smallest[0] > self.reach * self.stretch else 0.0


def descend(
    operator: Products,
    right: torch.Tensor,
    preconditioner: Preconditioner,
    enough: Callable[[float, Run], bool],
    reach: float,
    max_iter: int,
    patience: int = 300,
) -> Run:
    """Take steps from zero until the residual is small enough or stalls.

    Parameters
    ----------
    operator : Products
        What is solved.
    right : tensor of shape (n_points,)
        Right side.
    preconditioner : Preconditioner
        Approximate inverse of the operator.
    enough : callable
        ``enough(norm, run)`` tells whether a norm of the residual is small enough.
    reach : float
        Share of the right side that products can reduce the residual to.
    max_iter : int
        Greatest number of steps.
    patience : int, default=300
        Steps that may pass without progress.

    Returns
    -------
    Run
        The correction, and what the steps say.
    """
    steps = _descend_on_host if on_host(right) else _descend_on_device
    return steps(operator, right, preconditioner, enough, reach, max_iter, patience)


def _descend_on_host(
    operator: Products,
    right: torch.Tensor,
    preconditioner: Preconditioner,
    enough: Callable[[float, Run], bool],
    reach: float,
    max_iter: int,
    patience: int,
) -> Run:
    run, r = Run(torch.zeros_like(right), reach), right.clone()
    norm = norm_of(r)
    least, lowest, last_fall = reach * norm, norm, 0
    p = preconditioner.apply(r[:, None])[:, 0]
    run.rz = float(r @ p)
    while len(run) < max_iter and len(run) - last_fall < patience and run.rz > 0:
        q = operator.product(p[:, None])[:, 0]
        curvature = float(p @ q)
        if not curvature > 0:
            break
        length = run.rz / curvature
        run.x.add_(p, alpha=length)
        r.sub_(q, alpha=length)
        run.lengths.append(length)
        run.gained += length * run.rz
        norm = norm_of(r)
        z = preconditioner.apply(r[:, None])[:, 0]
        last, run.rz = run.rz, float(r @ z)
        run.stretch = max(run.stretch, run.rz / norm / norm) if norm > 0 else run.stretch
        if norm <= least or enough(norm, run):
            break
        if norm < _PROGRESS * lowest:
            lowest, last_fall = norm, len(run)
        run.turns.append(run.rz / last)
        p = z + run.turns[-1] * p
    return run


def _descend_on_device(
    operator: Products,
    right: torch.Tensor,
    preconditioner: Preconditioner,
    enough: Callable[[float, Run], bool],
    reach: float,
    max_iter: int,
    patience: int,
) -> Run:
    # The same steps, whose numbers stay on the device until some of them are looked at together.
    # Where tiles are computed again in every product, one look is nothing beside a step.
    run, r = Run(torch.zeros_like(right), reach), right.clone()
    norm = norm_of(r)
    least, lowest, last_fall = reach * norm, norm, 0
    p = preconditioner.apply(r[:, None])[:, 0]
    rz = r @ p
    run.rz = float(rz)
    going, stop = rz > 0, not run.rz > 0
    while len(run) < max_iter and not stop:
        notes = []
        for _ in range(min(LOOK if operator.is_kept else 1, max_iter - len(run))):
            q = operator.product(p[:, None])[:, 0]
            curvature = p @ q
            # After a breakdown nothing moves any more.
            going = going & (curvature > 0) & (rz > 0)
            length = torch.where(going, rz / curvature, 0.0)
            run.x.add_(length * p)
            r.sub_(length * q)
            z = preconditioner.apply(r[:, None])[:, 0]
            last, rz = rz, r @ z
            turn = torch.where(going, rz / last, 0.0)
            p = z + turn * p
            notes.append(torch.stack([going.to(r), length, turn, _norm(r), rz, last]))
        for went, length, turn, norm, rest, before in torch.stack(notes).tolist():
            if not went:
                stop = True
                break
            run.lengths.append(length)
            run.gained += length * before
            run.rz = rest
            run.stretch = max(run.stretch, rest / norm / norm) if norm > 0 else run.stretch
            stop = stop or norm <= least or enough(norm, run)
            if norm < _PROGRESS * lowest:
                lowest, last_fall = norm, len(run)
            run.turns.append(turn)
            stop = stop or len(run) - last_fall >= patience or not rest > 0
    return run


def _norm(values: torch.Tensor) -> torch.Tensor:
    """Euclidean norm as :func:`norm_of` has it, without asking the device."""
    largest = values.abs().max()
    usual = (largest > 0) & (largest < torch.inf)
    unit = torch.where(usual, largest, 1.0)
    return torch.where(usual, unit * torch.linalg.vector_norm(values / unit), largest)
