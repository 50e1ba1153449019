"""Which rows are the same point: equal rows, or points linked by distances of (nearly) zero."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from skmag._arrays import as_numpy, block_slices, rows_per_block

Block = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_BLOCK_ROWS = 256


def equal_row_groups(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Number of each row, equal for equal rows, and the first row of each number."""
    host = as_numpy(points) + 0.0  # -0.0 and 0.0 are one point but two patterns of bits
    if host.shape[1] == 1:
        return _in_order_of_appearance(host[:, 0])
    host = np.ascontiguousarray(host)
    patterns = host.view(np.dtype((np.void, host.dtype.itemsize * host.shape[1])))[:, 0]
    return _in_order_of_appearance(patterns)


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
