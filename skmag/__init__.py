"""Magnitude of metric spaces for machine learning, in scikit-learn's terms."""

from skmag import datasets, nn
from skmag._active_learner import MagnitudeActiveLearner
from skmag._classifier import MagnitudeClassifier
from skmag._classifier_cv import MagnitudeClassifierCV
from skmag._clustering import MagnitudeClustering
from skmag._dataset_distance import (
    magnitude_distance,
    magnitude_equivalent,
    pairwise_magnitude_distances,
)
from skmag._diversity import MaximumDiversity, maximum_diversity
from skmag._drift_detector import DriftReport, MagnitudeDriftDetector
from skmag._drift_display import DriftDisplay, MovedPointsDisplay
from skmag._hierarchy import DiscreteCenterHierarchy
from skmag._intrinsic import (
    HeatTraceSignature,
    IntrinsicDistanceResult,
    heat_trace_signature,
    intrinsic_multiscale_distance,
)
from skmag._label_quality import label_quality_scores
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
from skmag._positive_magnitude import positive_magnitude
from skmag._potential import magnitude_potential, magnitude_potential_ratio
from skmag._query_strategies import magnitude_query
from skmag._solvers import NotPositiveDefiniteWarning
from skmag._subset_selector import MagnitudeSubsetSelector
from skmag._two_sample import TwoSampleTestResult, magnitude_two_sample_test
from skmag._under_sampler import MagnitudeUnderSampler
from skmag._weighting import LeaveOneOut, Weighting, weighting

__version__ = "0.1.0.dev0"

__all__ = [
    "datasets",
    "nn",
    "ClusterPersistenceDisplay",
    "DiscreteCenterHierarchy",
    "DriftDisplay",
    "DriftReport",
    "HeatTraceSignature",
    "IntrinsicDistanceResult",
    "LeaveOneOut",
    "MagnitudeActiveLearner",
    "MagnitudeClassifier",
    "MagnitudeClassifierCV",
    "MagnitudeClustering",
    "MagnitudeDriftDetector",
    "MagnitudeFunctionDisplay",
    "MagnitudeOutlierDetector",
    "MagnitudeSubsetSelector",
    "MagnitudeUnderSampler",
    "MaximumDiversity",
    "MovedPointsDisplay",
    "NotPositiveDefiniteWarning",
    "TwoSampleTestResult",
    "Weighting",
    "WeightingDisplay",
    "heat_trace_signature",
    "intrinsic_multiscale_distance",
    "label_quality_scores",
    "magnitude",
    "magnitude_dimension",
    "magnitude_distance",
    "magnitude_equivalent",
    "magnitude_function",
    "magnitude_potential",
    "magnitude_potential_ratio",
    "magnitude_query",
    "magnitude_two_sample_test",
    "magnitude_weights",
    "maximum_diversity",
    "pairwise_magnitude_distances",
    "positive_magnitude",
    "scale_grid",
    "spread",
    "weighting",
]
