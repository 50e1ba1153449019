"""An interval that contains the magnitude, from any weights and one product with zeta."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from skmag._arrays import as_numpy
from skmag._metrics import EPS
from skmag._similarity import Similarity
from skmag._solvers._bounds import (
    distance_error,
    magnitude_upper_bound,
    norm_order,
    smallest_eigenvalue_bound,
)
from skmag._solvers._products import Products
from skmag._solvers._solution import Certificate

# Units of eps that an exponential of numpy, torch or CUDA may be off: all of them stay below two.
_EXPONENTIAL = 4
# Product of t and the least distance from which on the rows of zeta may have small sums.
_SCATTERED = 1.0
# Distances whose squares vanish, beside the greater of one and the largest coordinate.
_VANISHING = 1e-150
# The same where distances are halves of squares: those of unit vectors that are told apart.
_VANISHING_COSINE = 32 * EPS**2


@dataclass(frozen=True)
class Residual:
    """What one float64 product says of weights v, beside its own rounding.

    Parameters
    ----------
    values : tensor of shape (n_points,)
        1 - zeta v, as computed.
    norm : float
        Upper bound of the norm of the exact residual.
    noise : float
        Norm of what rounding may have done to it, below which `norm` cannot fall.
    energy : float
        2 1'v - v' zeta v as computed, the second-order estimate of the magnitude.
    slack : float
        Greatest error of `energy`.
    eigenvalue : float
        Proven lower bound of the smallest eigenvalue of zeta; zero where there is none.
    definite : bool
        Whether zeta is proven to be positive definite.
    """

    values: torch.Tensor
    norm: float
    noise: float
    energy: float
    slack: float
    eigenvalue: float
    definite: bool

    @property
    def excess(self) -> float:
        """Most that the magnitude can lie above `energy`, before rounding."""
        return self.norm * (self.norm / self.eigenvalue) if self.eigenvalue > 0 else math.inf


def residual_of(
    similarity: Similarity, weights: torch.Tensor, products: Products, *, closely: bool = True
) -> Residual:
    """Compute 1 - zeta v with a bound on what rounding did to it.

    Parameters
    ----------
    similarity : Similarity
        What is solved.
    weights : tensor of shape (n_points,)
        Any weights v. Where S is the operator, the anchor's weight is taken to be the one that
        solves the anchor's own row, see :func:`with_anchor`.
    products : Products
        The float64 operator.
    closely : bool, default=True
        Whether to bound rounding by a product with abs(v), which is up to n times less than what
        the sum of abs(v) says.

    Returns
    -------
    Residual
        With zeta = S + a a' and such a weight the residual of zeta is that of S, so that both
        operators serve.
    """
    v = weights.clone()
    if products.anchored:
        v[0] = 0.0
    size = v.abs()
    columns = [v, size] if closely and not products.anchored else [v]
    wants_row_sums = _wants_row_sums(similarity, products)
    if wants_row_sums:
        columns.append(torch.ones_like(v))
    image = products.product(torch.stack(columns, 1))
    if wants_row_sums:
        products.greatest_row_sum = float(image[:, -1].max())
    anchor = similarity.anchor * similarity.t
    right = -torch.expm1(-anchor) if products.anchored else torch.ones_like(v)
    values = right - image[:, 0]
    # No entry of zeta is above one.
    sizes = image[:, 1] if closely and not products.anchored else size.sum().expand(len(v))
    error = _product_error(similarity, size, sizes, products) + EPS * values.abs()
    right_error = torch.zeros_like(v)
    if products.anchored:
        right_error = _anchor_error(products, right)
        error += right_error
    moment = _sum(v * values)
    energy = _sum(right * v) + moment + (1.0 if products.anchored else 0.0)
    # Products of terms and each sum, which is correctly rounded, are off by eps / 2.
    slack = _sum(size * (error + right_error)) * (1 + 1e-12) + 8 * EPS * (
        _sum(size * right.abs()) + _sum(size * values.abs()) + abs(energy)
    )
    raised = 1 + (len(similarity) + 8) * EPS
    eigenvalue = _proven_eigenvalue(similarity, products)
    return Residual(
        values,
        norm_of(values.abs() + error) * raised,
        norm_of(error) * raised,
        energy,
        slack,
        eigenvalue,
        similarity.metric.positive_definite or eigenvalue > 0,
    )


def _wants_row_sums(similarity: Similarity, products: Products) -> bool:
    """Whether sums of rows may say more of the smallest eigenvalue than the least distance."""
    if products.anchored or products.greatest_row_sum is not None:
        return False
    return not is_sharp(similarity) or similarity.t * products.closest > _SCATTERED


def norm_of(values: torch.Tensor) -> float:
    """Euclidean norm, of numbers whose squares may leave the range of floats, too."""
    largest = float(values.abs().max())
    if not 0 < largest < math.inf:
        return largest
    return largest * float(torch.linalg.vector_norm(values / largest))


def _proven_eigenvalue(similarity: Similarity, products: Products) -> float:
    """Greatest bound of the smallest eigenvalue that is known after a product; at least zero."""
    eta = distance_error(similarity.metric, _n_features(similarity))
    proven = 0.0
    if eta < 1:
        closest = products.closest * (1 - eta) * (1 - 4 * EPS) - 2 * _vanishing(products)
        proven = eigenvalue_bound(similarity, max(0.0, closest))
    if products.greatest_row_sum is not None:
        proven = max(proven, _gershgorin(similarity, products))
    return proven


def eigenvalue_bound(similarity: Similarity, closest: float) -> float:
    """Proven bound of the smallest eigenvalue for points at least `closest` apart."""
    D = _n_features(similarity)
    if norm_order(similarity.metric, D) == 2:
        # Only the Euclidean norm does not depend on the coordinates of what the points span.
        D = min(D, len(similarity) - 1)
    return smallest_eigenvalue_bound(similarity.metric, D, similarity.t, closest)


def is_sharp(similarity: Similarity) -> bool:
    """Whether the bound of the smallest eigenvalue is of its order at every scale.

    That of cityblock falls with the power of the number of features, and other norms only have
    one for points far apart.
    """
    return (
        norm_order(similarity.metric, _n_features(similarity)) == 2 or _n_features(similarity) == 1
    )


def _gershgorin(similarity: Similarity, products: Products) -> float:
    """No eigenvalue of zeta is below one less the rest of its row."""
    assert products.greatest_row_sum is not None
    ones = torch.ones_like(similarity.counts)
    noise = _product_error(similarity, ones, products.greatest_row_sum * ones, products)
    return (2.0 - products.greatest_row_sum) * (1 - 2 * EPS) - float(noise.max()) - 4 * EPS


def with_anchor(similarity: Similarity, v: torch.Tensor) -> torch.Tensor:
    """Return `v` with the weight of the anchor that solves the anchor's own row."""
    out = v.clone()
    out[0] = 0.0
    out[0] = 1 - torch.exp(-similarity.t * similarity.anchor) @ out
    return out


def interval(similarity: Similarity, residual: Residual, tol: float = 0.0) -> tuple[float, float]:
    """Lower and upper bound of the magnitude, with no more effort than a relative `tol` takes.

    For positive definite zeta, 2 1'v - v' zeta v = Mag - r' zeta^-1 r with r = 1 - zeta v, and
    r' zeta^-1 r lies between 0 and |r|^2 over the smallest eigenvalue.
    """
    if len(similarity) == 1:
        return 1.0, 1.0
    if not residual.definite:
        return -math.inf, math.inf
    if not math.isfinite(residual.energy) or not math.isfinite(residual.slack):
        # Weights that overflow, or distances of unknown accuracy.
        return 1.0, magnitude_upper_bound(similarity)
    lower = max(residual.energy - residual.slack, 1.0)
    upper = (residual.energy + residual.slack + residual.excess) * (1 + 4 * EPS)
    if not upper - lower <= tol * lower:
        upper = min(upper, magnitude_upper_bound(similarity))
    return lower, max(lower, upper)


def certify(
    similarity: Similarity,
    weights: torch.Tensor,
    *,
    magnitude: float | None = None,
    products: Products | None = None,
    n_iter: int = 0,
    converged: bool = True,
) -> Certificate:
    """Certificate of any weights, from one pass over zeta in float64.

    Parameters
    ----------
    similarity : Similarity
        What is solved.
    weights : tensor of shape (n_points,)
        Weights of the distinct points, however they were found.
    magnitude : float, default=None
        Value to report, or the end of the interval that is nearest to it; None reports ``2 1'v -
        v' zeta v``, whose error is of second order.
    products : Products, default=None
        A float64 operator of the similarity, if there is one.
    n_iter : int, default=0
        To be reported.
    converged : bool, default=True
        To be reported.

    Returns
    -------
    Certificate
        The bounds hold for the magnitude of the points given, rounding included.
    """
    found = residual_of(similarity, weights, products or Products(similarity))
    lower, upper = interval(similarity, found)
    value = found.energy if magnitude is None else magnitude
    value = min(max(value, lower), upper)
    return Certificate(value, lower, upper, 0.0, found.norm, n_iter, converged)


def _product_error(
    similarity: Similarity, size: torch.Tensor, image: torch.Tensor, products: Products
) -> torch.Tensor:
    """Bound on the error of each entry of the operator's product with a vector v.

    Errors of entries, each times abs(v_j), and those of sums, each of which is relative to a sum
    of sizes. Products of two errors are covered by units of eps that are more than are needed.

    Parameters
    ----------
    similarity : Similarity
        What zeta is made of.
    size : tensor of shape (n_points,)
        Sizes abs(v).
    image : tensor of shape (n_points,)
        The computed product of zeta with `size`, or more; S does without it.
    products : Products
        The operator.

    Returns
    -------
    tensor of shape (n_points,)
        Bounds.
    """
    eta = distance_error(similarity.metric, _n_features(similarity))
    n, t = len(similarity), similarity.t
    summation = (products.roundings / 2 + 1) * EPS
    total = float(size.sum()) * (1 + n * EPS)
    vanishing = t * _vanishing(products) * total
    if not products.anchored:
        # An exponent x is off by (eta + eps) x, and x exp(-x) <= 1 / e. The exponential and the
        # sums are off by shares of the entries.
        entries = total * (eta + 2 * EPS) / math.e
        return image * (_EXPONENTIAL * EPS + summation) * (1 + 1e-6) + (entries + vanishing)
    # An entry of S is exp(-x) (1 - exp(-y)) with x = t d_ij, y = a_i + a_j - x and a the anchor's
    # column of t d. Errors of a and x, eta + eps each, and two sums move y by (eta + 2 eps) (a_i +
    # a_j + x), and exp(-x) <= 1; that of x moves exp(-x) by less than (eta + eps) / e. With x <=
    # a_i + a_j, or 2 (a_i + a_j) for squares of a metric, y is no less than -1/4 where zeta is
    # nearly constant, 1 - exp(-y) has a slope below 1.3, and the entry is at most 1.3 (a_i + a_j).
    reach = 1.0 if similarity.metric.is_norm else 2.0
    anchor = similarity.anchor * t
    room = (anchor * total + float(size @ anchor) * (1 + n * EPS)) * (1 + eta + 4 * EPS)
    share = (1.8 + 1.3 * reach) * (eta + 2 * EPS) + 1.3 * (2 * _EXPONENTIAL * EPS + summation)
    return room * share * (1 + 1e-6) + 4 * vanishing


def _anchor_error(products: Products, right: torch.Tensor) -> torch.Tensor:
    """Bound on the error of 1 - zeta(., x_0), of which that of x is at most a like share."""
    similarity = products.similarity
    eta = distance_error(similarity.metric, _n_features(similarity))
    share = (eta + (_EXPONENTIAL + 1) * EPS) * (1 + 1e-6)
    return right.abs() * share + similarity.t * _vanishing(products)


def _vanishing(products: Products) -> float:
    """Absolute error of a distance, see :func:`skmag._solvers._metric_facts.distance_error`.

    It is zero once the least distance is known to be beyond what it concerns.
    """
    points, metric = products.similarity.points, products.similarity.metric
    if points is None:
        return 0.0
    least = _VANISHING_COSINE
    if metric.is_norm:
        least = _VANISHING * max(1.0, float(points.abs().max()))
    return least if products.closest < 4 * least else 0.0


def _n_features(similarity: Similarity) -> int:
    return 0 if similarity.points is None else similarity.points.shape[1]


def _sum(values: torch.Tensor) -> float:
    """Sum, correctly rounded; NaN where terms are not finite."""
    terms = as_numpy(values)
    return math.fsum(terms.tolist()) if np.isfinite(terms).all() else math.nan
