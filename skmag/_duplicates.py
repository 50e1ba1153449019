"""Which rows are the same point: equal rows, or points linked by distances of (nearly) zero."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from skmag._arrays import as_numpy, block_slices, on_host, rows_per_block

Block = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_BLOCK_ROWS = 256
# The lower half of 64 bits.
_LOWER = 2**32 - 1


def equal_row_groups(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Number of each row, equal for equal rows, and the first row of each number."""
    if not on_host(points) and _all_differ(points):
        every = torch.arange(len(points), device=points.device)
        return every, every
    host = as_numpy(points) + 0.0  # -0.0 and 0.0 are one point but two patterns of bits
    if host.shape[1] == 1:
        return _in_order_of_appearance(host[:, 0])
    host = np.ascontiguousarray(host)
    patterns = host.view(np.dtype((np.void, host.dtype.itemsize * host.shape[1])))[:, 0]
    return _in_order_of_appearance(patterns)


def _all_differ(points: torch.Tensor) -> bool:
    """Whether the rows of float64 on a device are seen to differ, without moving them.

    Equal rows have equal sums of whatever is made of the bits of each entry. These are mixed first,
    for those of small integers end in zeros that multipliers keep. If they were random after that,
    two rows that differ would have equal sums in one of 2^64 cases; that they are nearly so is seen
    but not proven. Where it fails it costs a look on the host and nothing else.
    """
    n, n_features = points.shape
    odd = np.random.default_rng(0).integers(-(2**63), 2**63, (2, n_features)) | 1
    first, second = torch.from_numpy(odd).to(points.device)
    sums = torch.empty(n, dtype=torch.int64, device=points.device)
    for rows in block_slices(n, rows_per_block(32 * n_features, max(1, n), points.device)):
        bits = (points[rows] + 0.0).view(torch.int64)
        for multipliers in (first, second):
            # Both steps can be undone, so that no entry of a column is taken for another.
            bits ^= (bits >> 32).bitwise_and_(_LOWER)
            bits *= multipliers
        sums[rows] = bits.sum(1)
    return len(torch.unique(sums)) == n


def groups_within(radius: float, n: int, block: Block) -> tuple[torch.Tensor, torch.Tensor]:
    """Number of each point, equal for those linked by distances up to `radius`, and the first."""
    edges = []
    every = torch.arange(n)
    for rows in block_slices(n, rows_per_block(16 * n, min(n, _BLOCK_ROWS))):
        pairs = torch.nonzero(block(every[rows], every) <= radius).cpu().numpy()
        edges.append(pairs + [rows.start, 0])
    i, j = np.concatenate(edges).T
    graph = coo_array((np.ones(len(i), dtype=np.int8), (i, j)), shape=(n, n))
    return _in_order_of_appearance(connected_components(graph, directed=False)[1])


def _in_order_of_appearance(labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Number labels by first appearance; also return the index of each first appearance."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return torch.from_numpy(rank[inverse]), torch.from_numpy(first[order])
