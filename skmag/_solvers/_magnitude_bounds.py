"""A priori upper bounds of the magnitude, from the number of points and from what contains them.

They rest on one lemma, proven in the user guide's page on certificates: where distances are those
of L1, zeta is the mean of random partitions, zeta_ij = P(no cut separates i and j), and the
magnitude is at most 1 / E[1 / number of parts].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import torch

from skmag._arrays import block_slices, rows_per_block
from skmag._metrics import EPS, Metric
from skmag._similarity import Similarity
from skmag._solvers._metric_facts import norm_order

# Beyond, the exact magnitude of a ball takes over 10 ms, and numbers of cells are not competitive.
_MOST_DIMENSIONS = 21
# Below, the exponential bound of a ball agrees with its exact magnitude.
_SMALL_RADIUS = 1e-9


def magnitude_upper_bound(similarity: Similarity) -> float:
    """Return the least upper bound of the magnitude that is known without solving.

    Parameters
    ----------
    similarity : Similarity
        Distinct points.

    Returns
    -------
    float
        Holds for the exact magnitude, rounding included. Infinite where distances are not known
        to be those of points of L1, as under precomputed, cosine and host metrics, and under
        norms of order over 2 in three and more features.
    """
    n, points = len(similarity), similarity.points
    if n == 1:
        return 1.0
    if points is None:
        return math.inf
    low, high = points.amin(0), points.amax(0)

    def reach(unit: float) -> float:
        centres = (low + (high - low) / 2, points.mean(0))
        reaches = [greatest_reach(points, centre, unit) for centre in centres]
        # A NaN, from coordinates at the end of the range, is not less.
        return min((value for value in reaches if value < math.inf), default=math.inf)

    return bound_within(similarity.metric, similarity.t, n, low, high, reach)


def bound_within(
    metric: Metric,
    t: float,
    n: int,
    low: torch.Tensor,
    high: torch.Tensor,
    reach: Callable[[float], float],
) -> float:
    """Upper bound of the magnitude of points of which only little is known.

    Parameters
    ----------
    metric : Metric
        Distance between the points.
    t : float
        Scale.
    n : int
        Number of points, two at least.
    low, high : tensors of shape (n_features,)
        Corners of their box.
    reach : callable
        ``reach(unit)`` is the radius of a ball around all points, in that unit, as
        :func:`greatest_reach` computes it.

    Returns
    -------
    float
        The bound, see :func:`magnitude_upper_bound`.
    """
    n_features = len(low)
    order = norm_order(metric, n_features)
    # Every norm of the plane is one of L1.
    if not (order <= 2 or (n_features == 2 and metric.is_norm)):
        return math.inf
    extents, unit = _extents(low, high)
    half_sides = [_raised(t * extent / 2, 4) for extent in extents]
    # n points span n - 1 dimensions at most.
    dimension = min(n - 1, len(half_sides))
    bounds = [float(n)]
    if order == 1:
        bounds.append(_box_in_cityblock(half_sides))
    else:
        mass = _raised(math.fsum(half_sides) if max(half_sides) < n else math.inf, 4)
        bounds += [_half_exponential(mass), _regions(dimension, 2 * mass)]
    if order == 2:
        radius = _raised(t * _raised_radius(reach, n_features, unit), 4)
        bounds += [_cells(half_sides, n), _ball(dimension, radius, n)]
    return min(bounds)


def _extents(low: torch.Tensor, high: torch.Tensor) -> tuple[list[float], float]:
    """Sides of the enclosing box that are not zero, and a power of two of their size."""
    extents = [extent for extent in (high - low).tolist() if extent > 0]
    largest = max(extents)
    unit = 2.0 ** (math.frexp(largest)[1] - 1) if math.isfinite(largest) else math.inf
    return extents, unit


def greatest_reach(points: torch.Tensor, centre: torch.Tensor, unit: float) -> float:
    """Greatest Euclidean distance from a centre, in a unit in which squares stay in range."""
    n, D = points.shape
    blocks = block_slices(n, rows_per_block(24 * D, n, points.device))
    reaches = [
        torch.linalg.vector_norm((points[rows] - centre) / unit, dim=1).max() for rows in blocks
    ]
    return float(torch.stack(reaches).max())


def _raised_radius(reach: Callable[[float], float], n_features: int, unit: float) -> float:
    """Radius of a ball around all points, rounding included."""
    if not math.isfinite(unit):
        return math.inf
    # D + 3 roundings of eps / 2 in a square, halved by the root.
    return _raised(_raised(reach(unit), n_features + 8) * unit, 1)


def _box_in_cityblock(half_sides: Sequence[float]) -> float:
    """Magnitude of the box: l1 products multiply, and a segment has 1 + t L / 2."""
    return _raised(math.prod(1 + half for half in half_sides), len(half_sides) + 4)


def _half_exponential(mass: float) -> float:
    """Every cut at most doubles the number of parts: exp(half of the mass of cuts)."""
    return _raised(math.exp(mass), 4) if mass < 700 else math.inf


def _regions(dimension: int, mass: float) -> float:
    """M hyperplanes leave at most sum_{k <= D} binom(M, k) regions, here for M of Poisson law."""
    if dimension > _MOST_DIMENSIONS or not math.isfinite(mass):
        return math.inf
    total = term = 1.0
    for k in range(1, dimension + 1):
        term *= mass / k
        total += term
    return _raised(total, 4 * dimension + 4)


def _cells(half_sides: Sequence[float], most: float) -> float:
    """Mean number of cells of a Poisson hyperplane process in the box.

    It is sum_k vol(B_k) e_k(t L / 2) with e_k the elementary symmetric polynomials.
    """
    D = len(half_sides)
    if D > _MOST_DIMENSIONS or max(half_sides) >= most:
        return math.inf
    symmetric = [1.0] + [0.0] * D
    for half in half_sides:
        for k in range(D, 0, -1):
            symmetric[k] += half * symmetric[k - 1]
    total = sum(
        math.pi ** (k / 2) / math.gamma(k / 2 + 1) * value for k, value in enumerate(symmetric)
    )
    return _raised(total, 4 * D + 32)


def _ball(dimension: int, radius: float, most: float) -> float:
    """Upper bound of the magnitude of a Euclidean ball, infinite where it exceeds `most`."""
    # The magnitude is at least that of a diameter, 1 + radius.
    if radius >= most:
        return math.inf
    bound = _half_exponential(_raised(radius * _half_width(dimension), 4))
    if dimension <= _MOST_DIMENSIONS and radius > _SMALL_RADIUS:
        # A ball lies in that of the next odd dimension.
        exact = _ball_magnitude(dimension | 1, radius)
        if exact < most:
            bound = min(bound, math.nextafter(float(exact), math.inf))
    return bound


def _half_width(dimension: int) -> float:
    """Half of the mass of hyperplanes that hit the unit ball when a unit segment has mass 1.

    It is 1 / E|u_1| = sqrt(pi) Gamma((D + 1) / 2) / Gamma(D / 2), by its recursion in D.
    """
    width = 1.0 if dimension % 2 else math.pi / 2
    for k in range(2 - dimension % 2, dimension, 2):
        width *= (k + 1) / k
    return _raised(width, dimension + 4)


def _ball_magnitude(dimension: int, radius: float) -> Fraction:
    """Exact magnitude of a Euclidean ball of odd dimension 2p + 1 and rational radius R.

    It is det(chi_{i+j+2}) / ((2p + 1)! R det(chi_{i+j})) with chi_0 = 1, chi_1 = R and chi_{i+2} =
    R^2 chi_i + (2i + 1) chi_{i+1} (Barceló and Carbery; Willerton). With R = a / b
    the numbers b^i chi_i are integers, and so are the determinants.
    """
    p = dimension // 2
    a, b = radius.as_integer_ratio()
    chi = [1, a]
    for i in range(2 * p + 1):
        chi.append(a * a * chi[i] + (2 * i + 1) * b * chi[i + 1])
    upper, lower = (_hankel_determinant(chi[shift : shift + 2 * p + 1]) for shift in (2, 0))
    return Fraction(upper * b, math.factorial(dimension) * a * lower * b ** (2 * p + 2))


def _hankel_determinant(sequence: Sequence[int]) -> int:
    """Determinant of the Hankel matrix of 2p + 1 integers, without fractions (Bareiss)."""
    n = len(sequence) // 2 + 1
    rows = [list(sequence[i : i + n]) for i in range(n)]
    previous = 1
    for k in range(n - 1):
        head = rows[k]
        for i in range(k + 1, n):
            row = rows[i]
            # What is eliminated stays symmetric, so the upper triangle is enough.
            for j in range(i, n):
                row[j] = (row[j] * head[k] - head[i] * head[j]) // previous
        previous = head[k]
    return rows[-1][-1]


def _raised(value: float, roundings: int) -> float:
    """`value`, which is off by at most so many eps, rounded up; an ulp serves the subnormal."""
    return math.nextafter(value * (1 + (roundings + 1) * EPS), math.inf)
