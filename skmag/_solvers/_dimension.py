"""How many dimensions points really have, which decides how they are solved."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from skmag._arrays import as_numpy
from skmag._metrics import Metric
from skmag._similarity import Similarity

_COORDINATES = ("euclidean", "cityblock", "chebyshev", "minkowski", "cosine")
# Points whose neighbours are looked at, and how many of them.
_SAMPLE, _NEIGHBORS = 500, 12


def has_coordinates(metric: Metric) -> bool:
    """Whether a tree over the prepared points finds nearest neighbours under `metric`."""
    return metric.name in _COORDINATES and not metric.on_host


@dataclass(frozen=True)
class Neighborhood:
    """How points lie among their neighbours.

    Parameters
    ----------
    dimension : float
        Estimated dimension of the set that the points were drawn from, at most the number of
        features; 0.0 for fewer points than neighbours.
    nearest : float
        Median distance to the nearest other point.
    """

    dimension: float
    nearest: float


def neighborhood(similarity: Similarity) -> Neighborhood:
    """Estimate the intrinsic dimension of points with coordinates, from a sample of them.

    The maximum-likelihood estimate of Levina & Bickel (2004) from distances to the nearest
    neighbours, its inverse averaged over points as MacKay & Ghahramani proposed.

    Parameters
    ----------
    similarity : Similarity
        Points with coordinates.

    Returns
    -------
    Neighborhood
        Estimates.
    """
    assert similarity.points is not None
    n, n_features = similarity.points.shape
    if n <= _NEIGHBORS:
        return Neighborhood(0.0, 0.0)
    unit = coordinate_unit(similarity)
    points = as_numpy(similarity.points) / unit
    sample = points[np.random.default_rng(0).choice(n, min(n, _SAMPLE), replace=False)]
    tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
    distance = tree.query(sample, _NEIGHBORS + 1, p=exponent(similarity.metric))[0][:, 1:]
    nearest = float(np.median(distance[:, 0]))
    apart = distance[distance[:, 0] > 0]
    inverse = float(np.log(apart[:, -1:] / apart[:, :-1]).mean()) if len(apart) else 0.0
    dimension = 1 / inverse if inverse > 0 else float(n_features)
    return Neighborhood(min(float(n_features), dimension), nearest * unit)


def coordinate_unit(similarity: Similarity) -> float:
    """Power of two near the largest coordinate, in units of which no power leaves the floats.

    It is one for unit vectors, whose distance is no norm.
    """
    assert similarity.points is not None
    if not similarity.metric.is_norm:
        return 1.0
    largest = float(similarity.points.abs().max())
    return 2.0 ** (math.frexp(largest)[1] - 1) if largest > 0 else 1.0


def exponent(metric: Metric) -> float:
    """The p of the norm that orders distances as `metric` does."""
    fixed = {"euclidean": 2.0, "cosine": 2.0, "cityblock": 1.0, "chebyshev": float("inf")}
    return fixed[metric.name] if metric.name in fixed else float(metric.params["p"])
