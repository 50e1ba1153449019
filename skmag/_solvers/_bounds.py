"""What is proven before anything is solved: of the magnitude, of zeta's spectrum, of distances."""

from __future__ import annotations

from skmag._solvers._eigenvalue_bound import smallest_eigenvalue_bound
from skmag._solvers._magnitude_bounds import magnitude_upper_bound
from skmag._solvers._metric_facts import distance_error, norm_order

__all__ = [
    "distance_error",
    "magnitude_upper_bound",
    "norm_order",
    "smallest_eigenvalue_bound",
]
