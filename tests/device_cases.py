"""One body for each public name: what it answers where its data are, for any kind of array.

A case is called with a function that puts an array where it is to be worked on, and returns plain
answers by name, on whatever device they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from left_out import blobs, queries
from reference import answers, normal

import skmag

# Classes whose objects others make: the name of the case in which they are looked at.
MADE_BY = {
    "DriftReport": "MagnitudeDriftDetector",
    "HeatTraceSignature": "heat_trace_signature",
    "IntrinsicDistanceResult": "intrinsic_multiscale_distance",
    "LeaveOneOut": "weighting",
    "MaximumDiversity": "maximum_diversity",
    "TwoSampleTestResult": "magnitude_two_sample_test",
    "Weighting": "weighting",
}
# Names that compute nothing.
WITHOUT_ARRAYS = {"NotPositiveDefiniteWarning", "datasets", "nn"}

X, Y, Z = normal(60), 1.3 * normal(50, seed=1), normal(9, seed=2)
X[7], Z[2] = X[3], X[5]
LABELLED, QUERIES = blobs(), queries()


@dataclass(frozen=True)
class Fitted:
    """An estimator to be fitted, and the methods to ask it.

    Parameters
    ----------
    make : callable
        Makes the estimator.
    data : tuple of ndarray
        What it is fitted on.
    queries : ndarray
        What it is asked.
    methods : tuple of str
        Methods, each of which takes the queries.
    attributes : tuple of str
        Fitted attributes.
    """

    make: Any
    data: tuple[np.ndarray, ...]
    queries: np.ndarray
    methods: tuple[str, ...]
    attributes: tuple[str, ...]

    def fit(self, put: Any) -> Any:
        """Return the estimator, fitted on its data."""
        return self.make().fit(*(put(part) for part in self.data))

    def ask(self, model: Any, put: Any) -> dict[str, Any]:
        """Return what a fitted estimator answers and holds."""
        found = {name: getattr(model, name)(put(self.queries)) for name in self.methods}
        return found | {name: getattr(model, name) for name in self.attributes}


CLASSIFIES = ("predict", "predict_proba", "predict_log_proba", "decision_function")
SCORES = ("score_samples", "decision_function", "predict")
ESTIMATORS = {
    "MagnitudeActiveLearner": Fitted(
        lambda: skmag.MagnitudeActiveLearner(skmag.MagnitudeClassifier(), random_state=0),
        (LABELLED[0], np.where(np.arange(90) < 30, LABELLED[1], -1)),
        QUERIES,
        ("predict", "predict_proba"),
        ("classes_", "labelled_"),
    ),
    "MagnitudeClassifier": Fitted(
        lambda: skmag.MagnitudeClassifier(null_label=-1, null_alpha=0.05),
        LABELLED,
        QUERIES,
        CLASSIFIES,
        ("t_", "magnitudes_", "weights_"),
    ),
    "MagnitudeClassifierCV": Fitted(
        lambda: skmag.MagnitudeClassifierCV(ts=(0.05, 0.5)),
        LABELLED,
        QUERIES,
        CLASSIFIES,
        ("magnitudes_", "weights_"),
    ),
    "MagnitudeClustering": Fitted(
        lambda: skmag.MagnitudeClustering(random_state=0),
        (LABELLED[0][:45],),
        QUERIES,
        ("predict",),
        ("labels_", "cluster_magnitudes_", "intervals_"),
    ),
    "MagnitudeDriftDetector": Fitted(
        lambda: skmag.MagnitudeDriftDetector(n_resamples=29, random_state=0),
        (X,),
        Y,
        ("predict", "score"),
        ("reference_",),
    ),
    "MagnitudeOutlierDetector": Fitted(
        lambda: skmag.MagnitudeOutlierDetector(n_estimators=9, random_state=0),
        (X,),
        Z,
        SCORES,
        ("scores_",),
    ),
    "MagnitudeSubsetSelector": Fitted(
        lambda: skmag.MagnitudeSubsetSelector(12, random_state=0),
        (X,),
        Z,
        ("transform",),
        ("sample_indices_", "gains_", "magnitudes_"),
    ),
}


def _fitted(name: str) -> Any:
    def case(put: Any) -> dict[str, Any]:
        own = ESTIMATORS[name]
        return own.ask(own.fit(put), put)

    return case


def _weighting(put: Any) -> dict[str, Any]:
    space = skmag.weighting(put(X), t=0.5)
    return answers(space, put(Z)) | answers(space.extend(put(Z)).drop([0, 4]), put(Z))


def _hierarchy(put: Any) -> dict[str, Any]:
    found = skmag.DiscreteCenterHierarchy(put(X))
    whole = {"order": found.order_, "radii": found.radii_, "centers": found.centers(0.5)}
    return whole | {"level": found.insert(put(Z)).remove([1, 2]).level(0)}


def _report(put: Any) -> dict[str, Any]:
    model = ESTIMATORS["MagnitudeDriftDetector"]
    found = model.fit(put).report(put(Y))
    return _fitted("MagnitudeDriftDetector")(put) | {"moved": found.moved, "lost": found.lost}


def _diversity(put: Any) -> dict[str, Any]:
    found = skmag.maximum_diversity(put(X))
    return {"value": found.value, "weights": found.weights, "support": found.support}


def _test(put: Any) -> dict[str, Any]:
    found = skmag.magnitude_two_sample_test(put(X), put(Y), n_resamples=49, rng=0)
    return {"pvalue": found.pvalue, "statistic": found.statistic}


def _resampled(put: Any) -> dict[str, Any]:
    points, labels = LABELLED
    kept = np.concatenate([np.flatnonzero(labels != 2), np.flatnonzero(labels == 2)[:9]])
    sampler = skmag.MagnitudeUnderSampler(random_state=0)
    chosen, _ = sampler.fit_resample(put(points[kept]), put(labels[kept]))
    return {"rows": sampler.sample_indices_, "points": chosen}


def _moved_points(put: Any) -> dict[str, Any]:
    flat = skmag.MagnitudeDriftDetector(n_resamples=29, random_state=0).fit(put(X[:, :2]))
    found = skmag.MovedPointsDisplay.from_estimator(flat, put(Y[:, :2]))
    return {"moved": found.moved, "batch": found.batch}


def _persistence(put: Any) -> dict[str, Any]:
    model = ESTIMATORS["MagnitudeClustering"].fit(put)
    found = skmag.ClusterPersistenceDisplay.from_estimator(model)
    return {"intervals": found.intervals, "counts": found.counts}


def _drift_display(put: Any) -> dict[str, Any]:
    model = ESTIMATORS["MagnitudeDriftDetector"].fit(put)
    return {"pvalues": skmag.DriftDisplay.from_estimator(model, [put(Y), put(X)]).pvalues}


def _query(put: Any) -> dict[str, Any]:
    points, labels = LABELLED
    unsure = np.linspace(0, 1, len(points))
    found = skmag.magnitude_query(
        put(points),
        put(labels),
        labelled=put(np.arange(10)),
        uncertainty=put(unsure),
        random_state=0,
        return_utilities=True,
    )
    return {"chosen": found[0], "utilities": found[1]}


def _named(value: Any) -> dict[str, Any]:
    return {"value": value}


TS = np.geomspace(1e-3, 1e2, 7)

CASES = {
    **{name: _fitted(name) for name in ESTIMATORS},
    "ClusterPersistenceDisplay": _persistence,
    "DiscreteCenterHierarchy": _hierarchy,
    "DriftDisplay": _drift_display,
    "MagnitudeDriftDetector": _report,
    "MagnitudeFunctionDisplay": lambda put: _named(
        skmag.MagnitudeFunctionDisplay.from_points(put(X), TS).magnitudes
    ),
    "MagnitudeUnderSampler": _resampled,
    "MovedPointsDisplay": _moved_points,
    "WeightingDisplay": lambda put: _named(
        skmag.WeightingDisplay.from_points(put(X[:, :2])).weights
    ),
    "heat_trace_signature": lambda put: _named(
        skmag.heat_trace_signature(put(X), random_state=0).values
    ),
    "intrinsic_multiscale_distance": lambda put: _named(
        skmag.intrinsic_multiscale_distance(put(X), put(Y), random_state=0).distance
    ),
    "label_quality_scores": lambda put: _named(
        skmag.label_quality_scores(put(LABELLED[0]), put(LABELLED[1]))
    ),
    "magnitude": lambda put: _named(skmag.magnitude(put(X))),
    "magnitude_dimension": lambda put: _named(skmag.magnitude_dimension(put(X), put(TS[2:5]))),
    "magnitude_distance": lambda put: _named(skmag.magnitude_distance(put(X), put(Y))),
    "magnitude_equivalent": lambda put: _named(skmag.magnitude_equivalent(put(X), put(Y))),
    "magnitude_function": lambda put: _named(skmag.magnitude_function(put(X), put(TS))),
    "magnitude_potential": lambda put: _named(skmag.magnitude_potential(put(X), put(Z))),
    "magnitude_potential_ratio": lambda put: {
        "queries": skmag.magnitude_potential_ratio(
            put(LABELLED[0]), put(LABELLED[1]), put(QUERIES)
        ),
        "own": skmag.magnitude_potential_ratio(put(LABELLED[0]), put(LABELLED[1])),
    },
    "magnitude_query": _query,
    "magnitude_two_sample_test": _test,
    "magnitude_weights": lambda put: _named(skmag.magnitude_weights(put(X))),
    "maximum_diversity": _diversity,
    "pairwise_magnitude_distances": lambda put: _named(
        skmag.pairwise_magnitude_distances([put(X), put(Y), put(Z)])
    ),
    "positive_magnitude": lambda put: _named(skmag.positive_magnitude(put(X), t=0.1)),
    "scale_grid": lambda put: _named(skmag.scale_grid(put(X), 5)),
    "spread": lambda put: _named(skmag.spread(put(X))),
    "weighting": _weighting,
}

SOLVERS = {
    "cholesky": {},
    "mixed": {},
    "indefinite": {},
    "cg": {"preconditioner": "partial_cholesky", "target": 1e-12},
    "sparse": {},
    "centers": {"n_centers": 60},
    "iterative_normalization": {"max_iter": 40},
    "gradient_descent": {"max_iter": 40},
}


def solved(solver: str, put: Any) -> dict[str, Any]:
    """Return what a solver says of points: weights, magnitude and potentials of queries."""
    params = SOLVERS[solver] or None
    space = skmag.weighting(put(X), t=0.5, solver=solver, tol=1e-9, solver_params=params)
    return {
        "weights": space.weights,
        "magnitude": space.magnitude,
        "potential": space.potential(put(Z)),
    }
