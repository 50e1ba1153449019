"""Nearest points to queries: a tree where the dimension is low, blocks of distances elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from sklearn.neighbors import NearestNeighbors

from skmag._arrays import as_numpy, on_host, rows_per_block
from skmag._metrics import EPS
from skmag._similarity import Similarity
from skmag._solvers._dimension import coordinate_unit, exponent, neighborhood

# Up to this many features a tree is worth its while; beyond, only where the points that they hold
# have far fewer dimensions, as a sample of them tells.
_TREE_FEATURES, _TREE_DIMENSION, _SAMPLE = 15, 5.0, 2000
# Coordinates of queries, in units of the points', beyond which powers of distances overflow.
_FARTHEST = 1e100
# Error of a squared distance by matrix products, as a share of squared sizes, and the share of the
# squared distance to the last near point that does not matter.
_ROUNDING, _RESOLVED = 64 * EPS, 1e-6
# Columns of a block of distances on an accelerator.
_ACCELERATOR_COLUMNS = 2**17


class NearPoints:
    """Index of the distinct points of a similarity, for queries of the points nearest to them.

    Parameters
    ----------
    similarity : Similarity
        Points under a norm or the cosine distance.

    Attributes
    ----------
    unit : float
        Unit of coordinates in which their powers stay in range.
    """

    def __init__(self, similarity: Similarity) -> None:
        assert similarity.points is not None
        self._similarity = similarity
        self.unit = coordinate_unit(similarity)
        self._p = exponent(similarity.metric)
        self._index: Any = None
        self._center, self._reach = 0.0, 0.0
        if on_host(similarity.device):
            points = as_numpy(similarity.points)
            points = points if self.unit == 1.0 else points / self.unit
            if _wants_tree(similarity):
                self._index = cKDTree(points, balanced_tree=False, compact_nodes=False)
            else:
                self._center = points.mean(axis=0)
                points = points - self._center
                self._reach = float(np.linalg.norm(points, axis=1).max())
                self._index = NearestNeighbors(
                    algorithm="brute", metric=_name(self._p), p=self._p
                ).fit(points)

    def query(self, Z: torch.Tensor, k: int) -> torch.Tensor:
        """Indices of the `k` points nearest to each prepared query, in no certain order.

        Parameters
        ----------
        Z : tensor of shape (n_queries, n_features)
            Queries.
        k : int
            At most the number of points.

        Returns
        -------
        int64 tensor of shape (n_queries, k)
            Indices of distinct points.
        """
        if self._index is None:
            return self._blockwise(Z, k)
        queries = as_numpy(Z) if self.unit == 1.0 else as_numpy(Z) / self.unit
        # Powers of what is farther away than this leave the floats.
        lost = np.abs(queries).max(axis=1, initial=0.0) > _FARTHEST
        if lost.any():
            queries = np.where(lost[:, None], 0.0, queries)
        if isinstance(self._index, cKDTree):
            found = self._index.query(queries, k, p=self._p)[1].reshape(len(queries), k)
        else:
            queries = queries - self._center
            distance, found = self._index.kneighbors(queries, k)
            if self._p == 2:
                # |a|^2 + |b|^2 - 2ab may have lost the points that are near beside their size.
                size = np.linalg.norm(queries, axis=1) + self._reach
                lost |= _ROUNDING * size**2 > _RESOLVED * distance[:, -1] ** 2
        found = torch.from_numpy(np.array(found, dtype=np.int64))
        if lost.any():
            rows = torch.from_numpy(np.flatnonzero(lost))
            found[rows] = self._blockwise(Z[rows], k)
        return found

    def _blockwise(self, Z: torch.Tensor, k: int) -> torch.Tensor:
        """Nearest points by blocks of distances, without leaving the device."""
        similarity = self._similarity
        assert similarity.points is not None
        n = len(similarity)
        width = min(n, max(k, _ACCELERATOR_COLUMNS))
        out = []
        for part in Z.split(rows_per_block(32 * width, max(1, len(Z)), Z.device)):
            nearest = torch.full((len(part), k), torch.inf, dtype=Z.dtype, device=Z.device)
            index = torch.zeros(len(part), k, dtype=torch.int64, device=Z.device)
            for start in range(0, n, width):
                distance = similarity.metric.block(part, similarity.points[start : start + width])
                columns = torch.arange(start, start + distance.shape[1], device=Z.device)
                distance = torch.cat([nearest, distance], 1)
                columns = torch.cat([index, columns.expand(len(part), -1)], 1)
                nearest, place = distance.topk(k, dim=1, largest=False)
                index = columns.gather(1, place)
            out.append(index)
        return torch.cat(out)


def _wants_tree(similarity: Similarity) -> bool:
    assert similarity.points is not None
    n, n_features = similarity.points.shape
    if n_features <= _TREE_FEATURES:
        return True
    rows = np.random.default_rng(0).choice(n, min(n, _SAMPLE), replace=False)
    sample = similarity.taken(torch.from_numpy(np.sort(rows)))
    return 0 < neighborhood(sample).dimension <= _TREE_DIMENSION


def _name(p: float) -> str:
    """The name under which scikit-learn computes a norm fastest."""
    return {1.0: "manhattan", 2.0: "euclidean", float("inf"): "chebyshev"}.get(p, "minkowski")
