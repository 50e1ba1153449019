"""Magnitudes of one set at many scales: each solve begins where the last ones ended."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch

from skmag._similarity import Similarity
from skmag._solvers._cg import Progress, solve_cg
from skmag._solvers._preconditioners import Preconditioners
from skmag._solvers._products import Workspace
from skmag._solvers._solution import Solution

# Scales from which weights are extrapolated: a quadratic in log t. More of them make more of the
# error that each solve leaves than they gain.
_HISTORY = 3
# Farthest, in units of the last step in log t, that the weights are extrapolated.
_FARTHEST = 3.0


def solve_scales(
    similarity: Similarity,
    scales: Sequence[float],
    *,
    tol: float,
    preconditioner: str = "auto",
    max_iter: int = 2000,
    callback: Progress | None = None,
    done: Callable[[int, Solution], object] | None = None,
) -> list[Solution]:
    """Solve by conjugate gradients at several scales, from points far apart to merged ones.

    Distances (where `similarity` holds their table), the order of the points, the pattern of the
    sparse factor or the columns of the partial one, the least distance and the memory of tiles
    serve all scales, and weights extrapolated in log t are what the next solve begins with.

    Parameters
    ----------
    similarity : Similarity
        The points.
    scales : sequence of float
        Scales in any order.
    tol : float
        As for :func:`solve_cg`, at each scale.
    preconditioner : {"auto", "none", "partial_cholesky", "sparse"}, default="auto"
        Kind of preconditioner at all scales.
    max_iter : int, default=2000
        As for :func:`solve_cg`, at each scale.
    callback : callable, default=None
        As for :func:`solve_cg`, at each scale.
    done : callable, default=None
        Called with the index of a scale and its solution, as soon as it is there.

    Returns
    -------
    list of Solution
        In the order of `scales`.
    """
    preconditioners = Preconditioners(similarity, scales, preconditioner)
    solved: dict[int, Solution] = {}
    past: list[tuple[float, torch.Tensor]] = []
    workspace = Workspace()
    for index in sorted(range(len(scales)), key=lambda i: -scales[i]):
        t = scales[index]
        at = similarity.at(t)
        solution = solve_cg(
            at,
            tol=tol,
            start=_extrapolated(past, math.log(t)),
            preconditioner=preconditioners.at(at),
            max_iter=max_iter,
            callback=callback,
            workspace=workspace,
        )
        past = [*past[1 - _HISTORY :], (math.log(t), solution.weights)]
        solved[index] = solution
        if done is not None:
            done(index, solution)
    return [solved[index] for index in range(len(scales))]


def _extrapolated(past: list[tuple[float, torch.Tensor]], x: float) -> torch.Tensor | None:
    """Weights at x by the polynomial through those of the last scales, or the last ones."""
    if not past:
        return None
    nodes = [node for node, _ in past]
    near = all(a > b for a, b in pairwise([*nodes, x]))
    if len(past) == 1 or not near or nodes[-1] - x > _FARTHEST * (nodes[-2] - nodes[-1]):
        return past[-1][1]
    out = torch.zeros_like(past[0][1])
    for node, weights in past:
        factor = math.prod((x - other) / (node - other) for other in nodes if other != node)
        out += factor * weights
    return out
