"""Learning with magnitude in PyTorch's conventions: losses, a regularizer, a generator."""

from skmag.nn._curriculum import MagnitudeCurriculum
from skmag.nn._distance_loss import MagnitudeDistanceLoss, magnitude_distance_loss

__all__ = [
    "MagnitudeCurriculum",
    "MagnitudeDistanceLoss",
    "magnitude_distance_loss",
]
