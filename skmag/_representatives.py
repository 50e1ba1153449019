"""Which points represent a set: orders of choice, and the magnitude along them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from skmag._growth import VECTORS, Growth
from skmag._hierarchy import Space, farthest_first
from skmag._progress import Steps
from skmag._similarity import Similarity
from skmag._solvers import available_memory, solve

# The magnitude of the whole need not be known better than this share of the tolerance.
_TOL_SHARE = 0.01


@dataclass(frozen=True)
class Representatives:
    """Chosen points in order.

    Parameters
    ----------
    points : int64 ndarray of shape (n_chosen,)
        Distinct points in order of choice.
    gains : ndarray of shape (n_chosen,)
        By how much the magnitude grew with each; 1 for the first.
    magnitudes : ndarray of shape (n_chosen,)
        Magnitude of each and those before it.
    whole : float or None
        Magnitude of all points, where it was asked for.
    """

    points: np.ndarray
    gains: np.ndarray
    magnitudes: np.ndarray
    whole: float | None


def greedy(
    similarity: Similarity, n_points: int, random_state: np.random.RandomState
) -> tuple[Growth, Iterator[int]]:
    """AWSGS, Algorithm 2: after a random first point, always the one of greatest gain.

    Ties go to the point that appears first.
    """
    first = int(random_state.randint(len(similarity)))
    growth = Growth(similarity, first, room=n_points - 1)

    def rest() -> Iterator[int]:
        while True:
            # Where rounding leaves no gain, any point does that is not a member.
            gains = growth.gains().masked_fill_(growth.residual == 0, -1.0)
            yield int(gains.argmax())

    return growth, rest()


def centers(
    similarity: Similarity, n_points: int, random_state: np.random.RandomState
) -> tuple[Growth, Iterator[int]]:
    """Farthest-point order, whose prefixes are the covering sets of AWSGS, Algorithm 3."""
    start = int(random_state.randint(len(similarity)))
    space = Space(similarity.metric, similarity.points, similarity.table)
    return _along(similarity, farthest_first(space, n_points, start).order)


def at_random(
    similarity: Similarity, n_points: int, random_state: np.random.RandomState
) -> tuple[Growth, Iterator[int]]:
    """Distinct points drawn uniformly, without replacement."""
    return _along(similarity, random_state.permutation(len(similarity))[:n_points])


def _along(similarity: Similarity, order: np.ndarray) -> tuple[Growth, Iterator[int]]:
    """Growth among the points of a given order, which alone it looks at."""
    first, *rest = order.tolist()
    pool = torch.from_numpy(np.sort(order)).to(similarity.device)
    return Growth(similarity, first, pool, len(rest)), iter(rest)


Strategy = Callable[
    [Similarity, int, np.random.RandomState],
    tuple[Growth, Iterator[int]],
]

STRATEGIES: dict[str, Strategy] = {"greedy": greedy, "centers": centers, "random": at_random}
"""Ways to choose: what grows, and who joins it after the first point."""


def represent(
    similarity: Similarity,
    strategy: str,
    n_points: int,
    random_state: np.random.RandomState,
    *,
    tol: float | None = None,
    solver: str = "auto",
    steps: Steps = iter,
) -> Representatives:
    """Choose points that represent a set.

    Parameters
    ----------
    similarity : Similarity
        The operator zeta of the set.
    strategy : {"greedy", "centers", "random"}
        How to choose.
    n_points : int
        How many at most; more than there are distinct points means all.
    random_state : RandomState
        Draws the first point, or all for "random".
    tol : float, default=None
        Stop as soon as the magnitude is within this share of the whole's.
    solver : str, default="auto"
        Solver of the whole's magnitude, which only `tol` needs; an iterative one to a hundredth
        of `tol`.
    steps : callable, default=iter
        What the loop over the points after the first is passed through, see :mod:`_progress`.

    Returns
    -------
    Representatives
        The choice.

    Raises
    ------
    ValueError
        If the similarity turns out not to be positive definite.
    MemoryError
        If the factor of the whole does not fit, or what greedy keeps of every candidate.
    """
    n_points = min(n_points, len(similarity))
    _check_memory(similarity, strategy, n_points)
    whole, enough = None, np.inf
    if tol is not None:
        made, _ = solve(similarity, solver, similarity.device, tol=_TOL_SHARE * tol)
        whole = made.magnitude()
        # Its memory is free for the choice.
        del made
        enough = (1 - tol) * whole
    growth, rest = STRATEGIES[strategy](similarity, n_points, random_state)
    gains, magnitudes = [1.0], [1.0]

    def wanted() -> Iterator[int]:
        for point in islice(rest, n_points - 1):
            if growth.magnitude >= enough:
                return
            yield point

    for point in steps(wanted()):
        gains.append(growth.join(point))
        magnitudes.append(growth.magnitude)
    return Representatives(np.array(growth.members), np.array(gains), np.array(magnitudes), whole)


def _check_memory(similarity: Similarity, strategy: str, n_points: int) -> None:
    """Raise MemoryError where the rows of the partial factor do not fit."""
    columns = len(similarity) if strategy == "greedy" else n_points
    kept, work = 8 * n_points * columns, 8 * VECTORS * columns
    free = available_memory(similarity.device)
    if kept + work > free:
        raise MemoryError(
            f"strategy={strategy!r} needs {kept:,} bytes for {n_points:,} chosen of "
            f"n={len(similarity):,} points and {work:,} to work with, but {free:,.0f} are free on "
            f"{similarity.device}. Choose "
            "fewer points, or strategy='centers', which keeps nothing of the points not chosen."
        )
