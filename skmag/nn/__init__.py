"""Learning with magnitude in PyTorch's conventions: losses, a regularizer, a generator."""

from skmag.nn._curriculum import MagnitudeCurriculum
from skmag.nn._distance_loss import MagnitudeDistanceLoss, magnitude_distance_loss
from skmag.nn._generative_network import MagnitudeGenerativeNetwork
from skmag.nn._line_magnitude import line_magnitude
from skmag.nn._potential_ratio import magnitude_potential_ratio
from skmag.nn._regularizer import MagnitudeRegularizer

__all__ = [
    "MagnitudeCurriculum",
    "MagnitudeDistanceLoss",
    "MagnitudeGenerativeNetwork",
    "MagnitudeRegularizer",
    "line_magnitude",
    "magnitude_distance_loss",
    "magnitude_potential_ratio",
]
