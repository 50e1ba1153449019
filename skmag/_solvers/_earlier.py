"""The nearest of the points that come earlier in an order, which a sparse factor conditions on."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from skmag._arrays import block_slices

# Points whose neighbours are asked for together.
_QUERIES = 2**16
# Stands for no neighbour; beyond every number.
NONE = np.iinfo(np.int64).max


def earlier_neighbors(
    points: np.ndarray, order: np.ndarray, n_first: int, k: int, p: float
) -> np.ndarray:
    """The nearest points that come earlier in an order, for all points but the first.

    The order is cut into levels that double in size, and one tree holds a level with all before
    it, so that near points of the own level are found too; at large t they are decisive.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_features)
        Coordinates.
    order : int64 ndarray of shape (n_points,)
        The order.
    n_first : int
        How many of the first points to leave out.
    k : int
        Number of neighbours.
    p : float
        Exponent of the norm.

    Returns
    -------
    int32 ndarray of shape (n_points - n_first, k + 1)
        Each point and its neighbours, nearest first, as indices of `points`; a row that has too
        few is filled with its own point. Rows of one level are near each other in space.
    """
    n = len(order)
    ordered = points[order]
    out = np.empty((n - n_first, k + 1), dtype=np.int32)
    done, stop = 0, n_first
    while stop < n:
        start, stop = stop, min(2 * stop, n)
        tree = cKDTree(ordered[:stop], balanced_tree=False, compact_nodes=False)
        # In the order of the tree's leaves, one query after the other finds its points in cache.
        level = tree.indices[tree.indices >= start]
        for rows in block_slices(len(level), _QUERIES):
            own = level[rows]
            out[done : done + len(own)] = _earlier(tree, ordered, own, k, p)
            done += len(own)
    return order.astype(np.int32)[out]


def _earlier(tree: cKDTree, ordered: np.ndarray, own: np.ndarray, k: int, p: float) -> np.ndarray:
    """Each of some points and its nearest points of lower number, in rows filled with its own."""
    out = np.repeat(own[:, None].astype(np.int32), k + 1, axis=1)
    n = len(ordered)
    asked = k + 1 + k // 2
    left = np.arange(len(own))
    while len(left):
        asked = min(asked, n)
        found = tree.query(ordered[own[left]], asked, p=p)[1].reshape(len(left), asked)
        earlier = found < own[left, None]
        rank = earlier.cumsum(axis=1)
        row, column = np.nonzero(earlier & (rank <= k))
        out[left[row], rank[row, column]] = found[row, column]
        left = left[rank[:, -1] < k] if asked < n else left[:0]
        asked *= 2
    return out


def settled_earlier_neighbors(
    points: np.ndarray, order: np.ndarray, n_first: int, k: int, p: float
) -> np.ndarray:
    """Find the same so that the tree decides nothing.

    As :func:`earlier_neighbors`, but of points at one distance those that come earlier in the order
    count, and the rows are sorted by their own points.
    """
    n, ordered = len(order), points[order]
    out = np.empty((n - n_first, k + 1), dtype=np.int64)
    stop = n_first
    while stop < n:
        start, stop = stop, min(2 * stop, n)
        tree = cKDTree(ordered[:stop], balanced_tree=False, compact_nodes=False)
        for rows in block_slices(stop - start, _QUERIES):
            own = np.arange(start, stop)[rows]
            found = settled_nearest(tree, ordered[own], own, k, p)[1]
            out[own - n_first, 0] = own
            out[own - n_first, 1:] = np.where(found == NONE, own[:, None], found)
    out = order[out]
    return np.asarray(out[out[:, 0].argsort()], dtype=np.int32)


def settled_nearest(
    tree: cKDTree, queries: np.ndarray, limit: np.ndarray, k: int, p: float
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest points of low number, of those at one distance the ones of lowest number.

    Parameters
    ----------
    tree : cKDTree
        Points.
    queries : ndarray of shape (n_queries, n_features)
        Coordinates.
    limit : int64 ndarray of shape (n_queries,)
        Only points of lower number count.
    k : int
        How many to find.
    p : float
        Exponent of the norm.

    Returns
    -------
    distance : ndarray of shape (n_queries, k)
        Distances, ascending; infinite where there are too few points.
    number : int64 ndarray of shape (n_queries, k)
        The points' numbers in the tree; :data:`NONE` where there are too few.
    """
    distance = np.full((len(queries), k), np.inf)
    number = np.full((len(queries), k), NONE)
    asked, left = k + 1 + k // 2, np.arange(len(queries))
    while len(left):
        asked = min(asked, tree.n)
        d, found = tree.query(queries[left], asked, p=p)
        d, found = d.reshape(len(left), asked), found.reshape(len(left), asked)
        # Points at the greatest distance may have fellows that were not found.
        farthest = d[:, -1]
        later = found >= limit[left, None]
        d, found = np.where(later, np.inf, d), np.where(later, NONE, found)
        nearest = np.lexsort((found, d), axis=1)[:, :k]
        columns = slice(nearest.shape[1])
        distance[left, columns] = np.take_along_axis(d, nearest, axis=1)
        number[left, columns] = np.take_along_axis(found, nearest, axis=1)
        if asked == tree.n:
            break
        left = left[distance[left, -1] >= farthest]
        asked *= 2
    return distance, number
