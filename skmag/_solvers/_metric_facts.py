"""What the bounds need to know of a metric: the order of its norm, and its rounding errors."""

from __future__ import annotations

import math

from skmag._metrics import EPS, GEMM_FEATURES, GEMM_SHARE, Metric


def norm_order(metric: Metric, n_features: int) -> float:
    """Order p of the norm whose differences a metric measures.

    Parameters
    ----------
    metric : Metric
        Distance between points.
    n_features : int
        Number of features of the points.

    Returns
    -------
    float
        1 for at most one feature under any norm, where all agree; NaN for what is no norm.
    """
    if not metric.is_norm:
        return math.nan
    if n_features <= 1:
        return 1.0
    if metric.name == "minkowski":
        return float(metric.params["p"])
    return {"cityblock": 1.0, "euclidean": 2.0, "chebyshev": math.inf}[metric.name]


def distance_error(metric: Metric, n_features: int) -> float:
    """Greatest relative error of the entries of ``metric.block``.

    Points count as exact in the form in which the block takes them; under the cosine these are
    unit vectors. Beside the relative error stands an absolute one that only distances below
    1e-150 times the greater of 1 and the largest coordinate can notice (under the cosine: below
    32 eps^2), whose squares vanish.

    Parameters
    ----------
    metric : Metric
        Distance between points.
    n_features : int
        Number of features of the points.

    Returns
    -------
    float
        Relative error, 0 for precomputed distances, which are the data; infinite for metrics that
        others compute.
    """
    if metric.precomputed:
        return 0.0
    if metric.name == "cosine" and not metric.on_host:
        # Half the square of a Euclidean distance.
        return (2 + 1e-3) * _euclidean_error(n_features) + EPS
    # How one feature is computed depends on the order.
    order = norm_order(metric, max(n_features, 2))
    if math.isnan(order):
        return math.inf
    if order == 2:
        return _euclidean_error(n_features)
    if order == math.inf:
        return EPS
    if order == 1:
        # One rounding of each difference, one of each sum, eps / 2 each, in whatever order.
        return (n_features / 2 + 1) * EPS
    # Differences over the greatest of them are off by 3 roundings, which the power multiplies by p
    # and the root divides by p again. The power and the sum add D + 3 before the root; 1/p, the
    # root and the product with the greatest at most log(D) + 6 after it.
    return (n_features / 2 + math.log(max(n_features, 1)) / 2 + 8) * EPS


def _euclidean_error(n_features: int) -> float:
    # A square is off by 3 roundings, a sum of D of them by D - 1 more; the root halves.
    differences = (n_features / 4 + 2) * EPS
    if n_features < GEMM_FEATURES:
        return differences
    # With s = |u|^2 + |v|^2 in centred coordinates: s is off by (D + 1) s roundings, and a sum, in
    # whatever order, of s and the D terms of -2 u'v by (D + 1) (s + 2 |u| |v|) more, at most
    # 3 (D + 1) s beside a d^2 >= share s. Centring moves u - v by |u| + |v| <= sqrt(2 s) <=
    # sqrt(2 / share) d roundings. The last factor covers products of errors and what rounding does
    # to the comparison with the share.
    product = 3 * (n_features + 1) / (4 * GEMM_SHARE)
    centring = math.sqrt(2 / GEMM_SHARE) / 2
    return max(differences, (product + centring + 1) * EPS * 1.01)
