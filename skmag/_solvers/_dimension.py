"""How many dimensions points really have, which decides how they are solved."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from skmag._arrays import as_numpy, on_host, rows_per_block
from skmag._metrics import Metric, gemm_distances
from skmag._similarity import Similarity

_COORDINATES = ("euclidean", "cityblock", "chebyshev", "minkowski", "cosine")
# Points whose neighbours are looked at, and how many of them.
_SAMPLE, NEIGHBORS = 500, 12


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
    if n <= NEIGHBORS:
        return Neighborhood(0.0, 0.0)
    unit = coordinate_unit(similarity)
    least = _least_in_tree if on_host(similarity.device) else _least_in_blocks
    return neighborhood_of(least(similarity, sampled_points(n), unit), n_features, unit)


def sampled_points(n: int) -> np.ndarray:
    """Those of `n` points whose neighbours are looked at."""
    return np.random.default_rng(0).choice(n, min(n, _SAMPLE), replace=False)


def neighborhood_of(distance: np.ndarray, n_features: int, unit: float) -> Neighborhood:
    """Estimate from the distances of sampled points to what is nearest, themselves first."""
    distance = distance[:, 1:]
    nearest = float(np.median(distance[:, 0]))
    apart = distance[distance[:, 0] > 0]
    inverse = float(np.log(apart[:, -1:] / apart[:, :-1]).mean()) if len(apart) else 0.0
    dimension = 1 / inverse if inverse > 0 else float(n_features)
    return Neighborhood(min(float(n_features), dimension), nearest * unit)


def _least_in_tree(similarity: Similarity, sample: np.ndarray, unit: float) -> np.ndarray:
    """Least distances from some points, themselves included, in units of coordinates."""
    points = as_numpy(similarity.points) / unit
    tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
    return tree.query(points[sample], NEIGHBORS + 1, p=exponent(similarity.metric))[0]


def _least_in_blocks(similarity: Similarity, sample: np.ndarray, unit: float) -> np.ndarray:
    """The same by all distances, which a device has sooner than a tree the nearest."""
    points = similarity.points
    assert points is not None
    chosen = points[torch.from_numpy(sample).to(points.device)]
    # The norm itself: of unit vectors the cosine distance is half of its square.
    p = exponent(similarity.metric)
    size, least = rows_per_block(32 * len(points), len(chosen), points.device), []
    for part in chosen.split(size):
        if p == 2:
            distance = gemm_distances(part / unit, points / unit)[0]
        else:
            distance = similarity.metric.block(part, points) / unit
        least.append(distance.topk(NEIGHBORS + 1, largest=False).values)
    return as_numpy(torch.cat(least))


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
