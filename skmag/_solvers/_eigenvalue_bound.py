"""A proven lower bound of the smallest eigenvalue of zeta, from the smallest distance alone.

The derivation, with a table of its constants, is in the user guide's page on certificates.
"""

from __future__ import annotations

import math
from functools import lru_cache

from scipy.optimize import minimize_scalar
from scipy.special import jv

from skmag._metrics import EPS, Metric
from skmag._solvers._metric_facts import norm_order

# Share that is given away for the rounding of special functions, whose errors are below 1e-9.
_MARGIN = 1e-6
# Smaller bounds have lost digits to underflow, and are of no use.
_LEAST = 1e-300
# Separations t q from which on nothing is gained.
_MOST = 1e12


def smallest_eigenvalue_bound(
    metric: Metric, n_features: int, t: float, separation: float
) -> float:
    """Lower bound of the smallest eigenvalue of zeta over distinct points.

    Parameters
    ----------
    metric : Metric
        Distance between points.
    n_features : int
        Number of features. Under the Euclidean metric the dimension of an affine space that holds
        the points will do, such as their number less one.
    t : float
        Scale.
    separation : float
        Lower bound of the exact distances between distinct points.

    Returns
    -------
    float
        Rounding included; zero where nothing is proven.
    """
    if not metric.is_norm:
        return 0.0
    if n_features == 0:
        # Such a space holds a single point.
        return 1.0
    # Any smaller separation will do, a finite one among them.
    y = min(t * separation, _MOST) * (1 - 2 * EPS)
    if not y > _LEAST:
        return 0.0
    bound = _packing_bound(n_features, y)
    order = norm_order(metric, n_features)
    if order == 1:
        bound = max(bound, _cityblock_bound(n_features, y))
    elif order == 2:
        bound = max(bound, _euclidean_bound(n_features, y))
    return bound if bound > _LEAST else 0.0


def _packing_bound(D: int, y: float) -> float:
    """Gershgorin's theorem, where the points around one are counted by the balls around them.

    No ball of radius r q holds more than (1 + 2 r)^D points of separation q under any norm, so a
    row of zeta has at most y int_1^inf exp(-y r) ((1 + 2 r)^D - 1) dr off its diagonal, where
    (1 + 2 r)^D <= 3^D exp(2 D (r - 1) / 3).
    """
    excess = 1 - 2 * D / (3 * y)
    if excess <= 0:
        return 0.0
    exponent = D * math.log(3) - y - math.log(excess)
    # The exponent loses digits where its terms, or the share in `excess`, cancel; e^-y that may
    # be taken off is left.
    exponent += 8 * EPS * (D + y + 1 / excess)
    return (1 - math.exp(exponent)) * (1 - 4 * EPS) if exponent < 0 else 0.0


def _cityblock_bound(D: int, y: float) -> float:
    """Product of one-dimensional bounds: points q apart are q / D apart in some coordinate."""
    return math.tanh(y / (2 * D)) ** D * (1 - (4 * D + 8) * EPS)


def _euclidean_bound(D: int, y: float) -> float:
    """1 - exp(-t a), where a = kappa q / 2 bounds the distance matrix: -x' d x >= a |x|^2, 1'x = 0.

    That is Fourier analysis with the autoconvolution of a ball of radius q / 2; by Schoenberg's
    theorem exp(-t d), with its diagonal lowered to exp(-t a), is then positive semidefinite.
    """
    return -math.expm1(-_kappa(D) * y / 2) * (1 - 4 * EPS)


@lru_cache(maxsize=1024)
def _kappa(D: int) -> float:
    """Lower bound of Gamma((D + 1) / 2) / (sqrt(pi) Gamma(D / 2 + 1) sup_x x J_{D/2}(x)^2)."""
    ratio = math.exp(math.lgamma((D + 1) / 2) - math.lgamma(D / 2 + 1))
    return ratio / (math.sqrt(math.pi) * _bessel_peak(D)) * (1 - _MARGIN)


def _bessel_peak(D: int) -> float:
    """Upper bound of B = sup over x > 0 of x J(x)^2, J the Bessel function of order nu = D / 2.

    By Sonin's theorem (Watson, 15.31) the maxima of sqrt(x) |J| decrease for nu >= 1/2, so B is
    the first. The function solves u'' = -(1 - (nu^2 - 1/4) / x^2) u: it is convex up to
    sqrt(nu^2 - 1/4) and concave from there to the first zero, which is beyond nu + 1.8557
    nu^(1/3) (Qu and Wong), so that a search between the two finds it.
    """
    nu = D / 2
    ends = math.sqrt(nu * nu - 0.25), nu + 1.8557 * math.cbrt(nu)
    found = minimize_scalar(
        lambda x: -x * jv(nu, x) ** 2, bounds=ends, method="bounded", options={"xatol": 1e-6}
    )
    # Off by delta, the search loses less than delta^2 of the value.
    return -float(found.fun) * (1 + _MARGIN)
