"""Conjugate gradients as a factor: every question is a solve, none needs n by n numbers."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch

from skmag._arrays import on_host
from skmag._similarity import Similarity
from skmag._solvers._base import AnchoredFactor, Factor
from skmag._solvers._preconditioners import Preconditioner, choose_preconditioner
from skmag._solvers._products import Products, kept_bytes

# Share of a right side that is left of its residual when a solve ends, and what is still accepted
# where rounding ends it earlier.
_SOLVED, _ACCEPTED = 1e-12, 1e-8
_MAX_ITER = 2000
# Steps that may pass without progress in any column, and what progress is.
_PATIENCE, _PROGRESS = 100, 0.9
# Steps on a device between two looks at how far they came: each look makes the host wait.
_LOOK = 5
# How often the steps begin anew with the residual that they really left.
_ROUNDS = 3


class ConjugateGradientFactor(AnchoredFactor):
    """Solves ``S x = b`` anew for every right side, all columns of a block in the same products.

    Parameters
    ----------
    similarity : Similarity
        What is solved.
    preconditioner : Preconditioner
        Its approximate inverse.
    """

    name = "cg"

    def __init__(self, similarity: Similarity, preconditioner: Preconditioner) -> None:
        self.similarity = similarity
        self.preconditioner = preconditioner
        self._products: Products | None = None

    @classmethod
    def prepare(
        cls, similarity: Similarity, spent: Factor | None = None
    ) -> ConjugateGradientFactor:
        return cls(similarity, choose_preconditioner(similarity))

    @property
    def products(self) -> Products:
        """The operator in float64; the tiles that it keeps belong to one device and process."""
        if self._products is None:
            budget = kept_bytes(self.similarity.device) // 2
            self._products = Products(self.similarity, keep_bytes=budget)
        return self._products

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_products": None}

    def to(self, device: torch.device) -> Self:
        moved = super().to(device)
        moved._products = None
        return moved

    def solve(self, B: torch.Tensor) -> torch.Tensor:
        # S^-1 is zeta^-1 without the anchor's row and column, so either operator will do.
        x = conjugate_gradients(self.products, self.preconditioner, B)
        x[0] = 0.0
        return x

    def quadratic(self, B: torch.Tensor) -> torch.Tensor:
        return (B * self.solve(B)).sum(0)

    def probe_bytes(self) -> int:
        # Right side, solution, residual, direction and their images, with one temporary each.
        return 128 * len(self.similarity)


def conjugate_gradients(
    products: Products, preconditioner: Preconditioner, B: torch.Tensor
) -> torch.Tensor:
    """Solve for several right sides at once, each with its own steps.

    Parameters
    ----------
    products : Products
        The operator.
    preconditioner : Preconditioner
        Its approximate inverse.
    B : tensor of shape (n_points, n_columns)
        Right sides.

    Returns
    -------
    tensor of shape (n_points, n_columns)
        Solutions.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a residual does not fall to 1e-8 of its right side.
    """
    size = torch.linalg.vector_norm(B, dim=0).clamp_min(1e-300)
    x, r = torch.zeros_like(B), B
    left = torch.ones_like(size)
    for _ in range(_ROUNDS):
        x += _steps(products, preconditioner, r, _SOLVED * size)
        r = B - products.product(x)
        last, left = left, torch.linalg.vector_norm(r, dim=0) / size
        if bool(((left <= _SOLVED) | (left > 0.5 * last)).all()):
            break
    if not bool((left <= _ACCEPTED).all()):
        raise np.linalg.LinAlgError(
            f"conjugate gradients left a relative residual of {float(left.max()):.2g} for "
            f"n={len(products)}, t={products.similarity.t!r}: the similarity matrix is too "
            "ill-conditioned; use solver='cholesky' where it fits the memory, or a larger t"
        )
    return x


def _steps(
    products: Products, preconditioner: Preconditioner, B: torch.Tensor, least: torch.Tensor
) -> torch.Tensor:
    """Steps from zero until no residual is greater than `least`, or none falls any more."""
    x, r = torch.zeros_like(B), B.clone()
    z = preconditioner.apply(r)
    p, rz = z.clone(), (r * z).sum(0)
    lowest = torch.full_like(least, torch.inf)
    last_fall = torch.zeros((), dtype=torch.int64, device=B.device)
    look = 1 if on_host(B) else _LOOK
    for number in range(_MAX_ITER):
        q = products.product(p)
        curvature = (p * q).sum(0)
        going = (curvature > 0) & (rz > 0)
        length = torch.where(going, rz / torch.where(going, curvature, 1.0), 0.0)
        x += length * p
        r -= length * q
        norm = torch.linalg.vector_norm(r, dim=0)
        open_ = going & (norm > least)
        last_fall = torch.where((open_ & (norm < _PROGRESS * lowest)).any(), number, last_fall)
        lowest = torch.minimum(lowest, norm)
        done = ~open_.any() | (number - last_fall > _PATIENCE)
        if number % look == 0 and bool(done):
            break
        z = preconditioner.apply(r)
        last, rz = rz, (r * z).sum(0)
        p = z + torch.where(going, rz / torch.where(going, last, 1.0), 0.0) * p
    return x
