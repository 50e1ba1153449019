"""How accurate the magnitude of changing weights is: proven, or estimated where no bound is sharp.

Residuals that are small in every row say little of the magnitude: they are off by zeta times the
error of the weights, and zeta may nearly cancel it.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from skmag._arrays import as_numpy
from skmag._metrics import EPS
from skmag._similarity import Similarity
from skmag._solvers._certificate import interval, is_sharp, residual_of
from skmag._solvers._products import Products
from skmag._solvers._solution import Certificate

# Steps between two looks: a share of those made, and so many at least.
_SHARE, _LEAST = 0.25, 4
# Relative accuracy of the estimated eigenvalue, and restarts of the Lanczos process.
_EIGENVALUE_TOL, _RESTARTS = 0.1, 50


class Accuracy:
    """Certificates of weights, at longer and longer distances as each costs a product.

    Parameters
    ----------
    similarity : Similarity
        What is solved.
    tol : float
        Accuracy of the magnitude, as a share of it, that counts as converged.
    products : Products
        The solver's float64 operator of zeta; the certificate has one of its own where zeta is
        nearly constant.
    """

    def __init__(self, similarity: Similarity, tol: float, products: Products) -> None:
        self._similarity, self._tol = similarity, tol
        self._products = Products(similarity) if similarity.nearly_constant else products
        self._next = 0

    def is_due(self, n_iter: int) -> bool:
        """Whether enough steps have been made since the last look."""
        return n_iter >= self._next

    def certificate(self, weights: torch.Tensor, n_iter: int) -> Certificate:
        """Bound the magnitude and say whether that, or an estimate, is within the tolerance.

        Parameters
        ----------
        weights : tensor of shape (n_points,)
            Weights v.
        n_iter : int
            Steps so far.

        Returns
        -------
        Certificate
            Its magnitude is ``2 1'v - v' zeta v`` where that lies within the interval.
        """
        self._next = n_iter + max(_LEAST, int(_SHARE * n_iter))
        similarity, tol = self._similarity, self._tol
        found = residual_of(similarity, weights, self._products)
        lower, upper = interval(similarity, found)
        met, error = upper - lower <= tol * lower, 0.0
        if not (met or is_sharp(similarity)):
            allowed, squared = tol * found.energy - found.slack, found.norm * found.norm
            error = math.nan
            # No eigenvalue exceeds n: only then is it worth estimating the smallest one.
            if squared <= allowed * len(similarity) and self._smallest_eigenvalue > 0:
                error = squared / self._smallest_eigenvalue + found.slack
                met = error <= tol * found.energy
        # Rounding aside, only the ends of an interval that is infinite are no magnitudes.
        value = min(max(found.energy, lower), upper)
        return Certificate(value, lower, upper, error, found.norm, n_iter, met)

    @cached_property
    def _smallest_eigenvalue(self) -> float:
        """Estimate from above of the smallest eigenvalue; zero where there is none."""
        n, device = len(self._similarity), self._similarity.device

        def product(v: np.ndarray) -> np.ndarray:
            image = self._products.product(torch.from_numpy(v.reshape(n, 1)).to(device))
            return as_numpy(image)[:, 0]

        start = np.random.default_rng(0).normal(size=n)
        try:
            found = eigsh(
                LinearOperator((n, n), matvec=product, dtype=np.float64),
                k=1,
                which="SA",
                v0=start,
                tol=_EIGENVALUE_TOL,
                maxiter=_RESTARTS,
                return_eigenvectors=False,
            )
        except ArpackError:
            return 0.0
        smallest = float(found[0])
        return smallest if smallest > n * EPS else 0.0
