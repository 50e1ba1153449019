"""Statistics of two samples under every labelling, of all rows at once or by blocks of them.

A test of all rows takes a matrix of all rows. Large samples are cut at random into blocks instead,
each with rows of both. Labellings then deal the rows of each block out anew, and a statistic is its
mean over the blocks: rows are exchangeable within a block whatever it holds, so that the level is
exact here too, while time and memory grow with the number of blocks only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from joblib import effective_n_jobs
from sklearn.utils.parallel import Parallel, delayed

from skmag._arrays import as_numpy
from skmag._class_answers import sample_median
from skmag._metrics import Metric
from skmag._permutations import (
    Labellings,
    Pool,
    check_room,
    magnitude_distances,
    mean_discrepancies,
)

STATISTICS: dict[str, Callable[..., torch.Tensor]] = {
    "magnitude": magnitude_distances,
    "mmd": mean_discrepancies,
}
"""What two samples are compared by, for some labellings of a pool at a scale."""

# Rows of a block beside the block size: more rows of the larger sample make every comparison
# steadier, and cost little as long as the labellings' factors have the size of the smaller part.
BLOCK_ROWS = 4


@dataclass(frozen=True)
class Plan:
    """How a test is to be run.

    Parameters
    ----------
    names : tuple of str
        Keys of :data:`STATISTICS`.
    n_resamples : int
        Number of random labellings.
    batch : int or None
        Labellings that are worked on together; None fits the working memory.
    block_size : int or None
        Most rows of the smaller sample in a block; None compares all rows at once.
    max_blocks : int or None
        Most blocks.
    n_jobs : int or None
        Jobs that share the work.
    """

    names: tuple[str, ...]
    n_resamples: int
    batch: int | None = None
    block_size: int | None = None
    max_blocks: int | None = None
    n_jobs: int | None = None


@dataclass(frozen=True)
class Relabelled:
    """Values of the statistics under all labellings that were taken.

    Parameters
    ----------
    values : tensor of shape (n_labellings, n_statistics * n_scales)
        A column for each statistic and scale, all scales of a statistic together.
    observed : int
        Which labelling was observed.
    complete : bool
        Whether there are no other labellings.
    scales : list of float
        The scales.
    """

    values: torch.Tensor
    observed: int
    complete: bool
    scales: list[float]


def relabelled(
    X: torch.Tensor,
    Y: torch.Tensor,
    metric: Metric,
    scales_for: Callable[[float], list[float]],
    plan: Plan,
    rng: np.random.Generator,
) -> Relabelled:
    """Statistics of two samples under random labellings, or all where there are no more.

    Parameters
    ----------
    X, Y : tensor of shape (n_rows, n_features)
        Unprepared points.
    metric : Metric
        Distance between points.
    scales_for : callable
        The scales, given the median distance between distinct points of both samples.
    plan : Plan
        How.
    rng : Generator
        Cuts the samples and draws the labellings, whatever the order of rows and samples.

    Returns
    -------
    Relabelled
        The same whatever the number of jobs.

    Raises
    ------
    MemoryError
        If the matrices of the pool, or of the blocks that are worked on together, do not fit.
    numpy.linalg.LinAlgError
        If a similarity matrix is not positive definite.
    """
    if plan.block_size is None or _is_one_block(len(X), len(Y), plan.block_size):
        return _at_once(X, Y, metric, scales_for, plan, rng)
    return _by_blocks(X, Y, metric, scales_for, plan, rng)


def _at_once(
    X: torch.Tensor,
    Y: torch.Tensor,
    metric: Metric,
    scales_for: Callable[[float], list[float]],
    plan: Plan,
    rng: np.random.Generator,
) -> Relabelled:
    pool = Pool.of(X, Y, metric)
    scales = scales_for(pool.points.median_distance())
    asked = [(name, scale) for name in plan.names for scale in scales]
    pool = pool.with_table(min(effective_n_jobs(plan.n_jobs), len(asked)))
    dealt = Labellings.of(pool, plan.n_resamples, rng)
    columns = Parallel(n_jobs=plan.n_jobs, prefer="threads")(
        delayed(_column)(pool, dealt.smaller, name, scale, plan.batch) for name, scale in asked
    )
    values = torch.from_numpy(np.column_stack(columns)).to(X.device)
    return Relabelled(values, dealt.observed, dealt.complete, scales)


def _column(
    pool: Pool, chosen: torch.Tensor, name: str, scale: float, batch: int | None
) -> np.ndarray:
    """One statistic at one scale under some labellings."""
    return as_numpy(STATISTICS[name](pool, chosen, scale, batch))


def _by_blocks(
    X: torch.Tensor,
    Y: torch.Tensor,
    metric: Metric,
    scales_for: Callable[[float], list[float]],
    plan: Plan,
    rng: np.random.Generator,
) -> Relabelled:
    assert plan.block_size is not None
    device = X.device
    first, second = _in_order(as_numpy(X), as_numpy(Y))
    every = np.concatenate([first, second])
    ordered = torch.from_numpy(every[_order(every)]).to(device)
    scales = scales_for(sample_median(ordered, metric))
    # The blocks hold copies of what they need.
    del every, ordered
    cut = _cut(len(first), len(second), plan.block_size, plan.max_blocks, rng)
    n_at_once = min(effective_n_jobs(plan.n_jobs), len(cut))
    check_room(max(len(i) + len(j) for i, j in cut), n_at_once, device)
    seeds = rng.integers(2**63, size=len(cut))
    parts = Parallel(n_jobs=plan.n_jobs, prefer="threads")(
        delayed(_block_values)(first[i], second[j], device, metric, scales, plan, int(seed))
        for (i, j), seed in zip(cut, seeds, strict=True)
    )
    # Summed in the order of the blocks, so that the number of jobs does not show in the last digit.
    total = sum(parts) / len(cut)
    return Relabelled(torch.from_numpy(total).to(device), 0, False, scales)


def _block_values(
    X: np.ndarray,
    Y: np.ndarray,
    device: torch.device,
    metric: Metric,
    scales: Sequence[float],
    plan: Plan,
    seed: int,
) -> np.ndarray:
    """Every statistic at every scale for the rows of one block, under labellings of its own."""
    pool = Pool.of(torch.from_numpy(X).to(device), torch.from_numpy(Y).to(device), metric)
    pool = pool.with_table()
    dealt = Labellings.drawn(pool, plan.n_resamples, np.random.default_rng(seed))
    columns = [
        _column(pool, dealt.smaller, name, scale, plan.batch)
        for name in plan.names
        for scale in scales
    ]
    return np.column_stack(columns)


def _is_one_block(n: int, m: int, block_size: int) -> bool:
    return min(n, m) <= block_size and n + m <= BLOCK_ROWS * block_size


def _in_order(X: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The samples with their rows in an order of their own, the smaller one first.

    Of two samples of one size the first is the one whose bytes are less, which is all that could
    tell them apart.
    """
    first, second = (own[_order(own)] for own in (X + 0.0, Y + 0.0))
    swapped = len(second) < len(first)
    if len(first) == len(second):
        swapped = second.tobytes() < first.tobytes()
    return (second, first) if swapped else (first, second)


def _order(rows: np.ndarray) -> np.ndarray:
    """Sort rows by their bytes, in an order that only the rows decide."""
    rows = np.ascontiguousarray(rows)
    return np.argsort(rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0])


def _cut(
    k: int, n: int, block_size: int, max_blocks: int | None, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of the smaller sample, of k rows, and of the larger one, of n, in each block.

    Both are shuffled independently, so that what a block holds does not depend on who has it.
    """
    n_blocks = ceil(k / block_size)
    if max_blocks is not None:
        n_blocks = min(n_blocks, max_blocks)
    own = rng.permutation(k)[: n_blocks * block_size]
    room = BLOCK_ROWS * block_size - ceil(len(own) / n_blocks)
    other = rng.permutation(n)[: n_blocks * room]
    return list(zip(np.array_split(own, n_blocks), np.array_split(other, n_blocks), strict=True))
