"""Magnitude of metric spaces for machine learning, in scikit-learn's terms."""

from skmag import datasets
from skmag._classifier import MagnitudeClassifier
from skmag._classifier_cv import MagnitudeClassifierCV
from skmag._magnitude import (
    magnitude,
    magnitude_dimension,
    magnitude_function,
    magnitude_weights,
    scale_grid,
    spread,
)
from skmag._plotting import MagnitudeFunctionDisplay, WeightingDisplay
from skmag._potential import magnitude_potential, magnitude_potential_ratio
from skmag._solvers import NotPositiveDefiniteWarning
from skmag._weighting import LeaveOneOut, Weighting, weighting

__version__ = "0.1.0.dev0"

__all__ = [
    "datasets",
    "LeaveOneOut",
    "MagnitudeClassifier",
    "MagnitudeClassifierCV",
    "MagnitudeFunctionDisplay",
    "NotPositiveDefiniteWarning",
    "Weighting",
    "WeightingDisplay",
    "magnitude",
    "magnitude_dimension",
    "magnitude_function",
    "magnitude_potential",
    "magnitude_potential_ratio",
    "magnitude_weights",
    "scale_grid",
    "spread",
    "weighting",
]
