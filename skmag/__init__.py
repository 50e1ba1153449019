"""Magnitude of metric spaces for machine learning, in scikit-learn's terms."""

from skmag import datasets
from skmag._active_learner import MagnitudeActiveLearner
from skmag._classifier import MagnitudeClassifier
from skmag._classifier_cv import MagnitudeClassifierCV
from skmag._clustering import MagnitudeClustering
from skmag._hierarchy import DiscreteCenterHierarchy
from skmag._magnitude import (
    magnitude,
    magnitude_dimension,
    magnitude_function,
    magnitude_weights,
    scale_grid,
    spread,
)
from skmag._outlier_detector import MagnitudeOutlierDetector
from skmag._plotting import (
    ClusterPersistenceDisplay,
    MagnitudeFunctionDisplay,
    WeightingDisplay,
)
from skmag._potential import magnitude_potential, magnitude_potential_ratio
from skmag._query_strategies import magnitude_query
from skmag._solvers import NotPositiveDefiniteWarning
from skmag._subset_selector import MagnitudeSubsetSelector
from skmag._under_sampler import MagnitudeUnderSampler
from skmag._weighting import LeaveOneOut, Weighting, weighting

__version__ = "0.1.0.dev0"

__all__ = [
    "datasets",
    "ClusterPersistenceDisplay",
    "DiscreteCenterHierarchy",
    "LeaveOneOut",
    "MagnitudeActiveLearner",
    "MagnitudeClassifier",
    "MagnitudeClassifierCV",
    "MagnitudeClustering",
    "MagnitudeFunctionDisplay",
    "MagnitudeOutlierDetector",
    "MagnitudeSubsetSelector",
    "MagnitudeUnderSampler",
    "NotPositiveDefiniteWarning",
    "Weighting",
    "WeightingDisplay",
    "magnitude",
    "magnitude_dimension",
    "magnitude_function",
    "magnitude_potential",
    "magnitude_potential_ratio",
    "magnitude_query",
    "magnitude_weights",
    "scale_grid",
    "spread",
    "weighting",
]
