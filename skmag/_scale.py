"""What ``t="scale"`` and grids of scales mean: one table, equivariant under rescaling of the data.

A scale t multiplies distances, so t times the median distance says in which regime a weighting
works, whatever the units of the data. Every default in skmag is such a product, listed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any

import numpy as np
import torch

from skmag._arrays import as_numpy, rows_per_block

SCALES: dict[str, float] = {
    # Effective number of points: one median distance is one e-fold of similarity.
    "weighting": 1.0,
    "distance": 1.0,
    # Kriging variance; accuracy is flat below 1 / median.
    "residual": 0.1,
    # The rules in which the potential takes part want neighbours that are nearly independent.
    "gain": 10.0,
    "paper": 10.0,
    "weight": 10.0,
    "percentile": 10.0,
    "potential": 10.0,
    # Borders of predicted classes; accuracy is flat from 0.1 to 10 and noise beyond.
    "query": 1.0,
    # Neighbours of a cluster's border should matter, those of other clusters should not.
    "clustering": 10.0,
    # Representatives: one median distance is one e-fold of similarity.
    "representatives": 1.0,
}
"""``t="scale"`` is this number divided by the median distance between distinct points."""

GRID: tuple[float, float] = (1e-2, 1e1)
"""Ends of the default grid of scales: the first in units of one over the median distance, where
points are merged into one, the last in units of one over the typical distance to the nearest other
point, where they are all apart."""

TEST_GRID: tuple[float, ...] = (0.1, 1.0, 4.0, 16.0)
"""Scales of the two-sample test, in the same units: no single one sees every difference."""

MEDIAN_SAMPLE = 1000
# Points whose nearest others are looked for among all: a relative error of some percent.
_NEAREST_SAMPLE = 300


def check_scale(t: Any, name: str = "t") -> float | None:
    """Return `t` as a float, or None for "scale", which only data can resolve.

    Parameters
    ----------
    t : float or "scale"
        Positive, finite scale.
    name : str, default="t"
        Argument to blame.

    Returns
    -------
    float or None
        The scale.

    Raises
    ------
    ValueError
        If `t` is anything else; the message names it.
    """
    if isinstance(t, str):
        if t == "scale":
            return None
        raise ValueError(f"{name}={t!r} is not a scale; use a positive number or 'scale'")
    if isinstance(t, (bool, np.bool_)) or not isinstance(t, (Real, np.number)):
        if getattr(t, "ndim", None) == 0 and hasattr(t, "item"):
            return check_scale(t.item(), name)
        raise ValueError(f"{name}={t!r} must be a positive finite number or 'scale'")
    if isinstance(t, np.complexfloating):
        raise ValueError(f"{name}={t!r} must be a positive finite number or 'scale'")
    try:
        value = float(t)
    except OverflowError as error:
        raise ValueError(f"{name}={t!r} is too large; it must be positive and finite") from error
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}={t!r} must be positive and finite")
    return value


def check_scales(ts: Any, name: str = "ts") -> list[float | None]:
    """Return a sequence of scales as :func:`check_scale` returns one; it must not be empty."""
    if hasattr(ts, "__array_namespace__"):
        ts = as_numpy(ts)
    if isinstance(ts, (str, Real)) or getattr(ts, "ndim", 1) == 0:
        ts = [ts]
    if not isinstance(ts, Iterable):
        raise ValueError(f"{name}={ts!r} must be a sequence of scales")
    values = [check_scale(t, f"{name}[{i}]") for i, t in enumerate(ts)]
    if not values:
        raise ValueError(f"{name} is empty; give at least one scale")
    return values


def median_distance(n: int, block: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> float:
    """Median distance between `n` distinct points.

    Parameters
    ----------
    n : int
        Number of distinct points.
    block : callable
        ``block(rows, columns)`` gives the distances between two sets of indices.

    Returns
    -------
    float
        Median over all pairs, beyond 1,000 points over the pairs of 1,000 of them, drawn once
        and for all (a relative standard error of a few percent at most); 1.0 for one point.
    """
    if n < 2:
        return 1.0
    index = np.arange(n)
    if n > MEDIAN_SAMPLE:
        index = np.sort(np.random.default_rng(0).choice(n, MEDIAN_SAMPLE, replace=False))
    rows = torch.from_numpy(index)
    distance = block(rows, rows)
    i, j = torch.triu_indices(len(index), len(index), 1, device=distance.device)
    pairs = distance[i, j]
    # torch's median is the lower of the two in the middle; this is halfway between them.
    return float(pairs.median() - (-pairs).median()) / 2


def nearest_distance(n: int, block: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> float:
    """Median distance of `n` distinct points to the nearest other one.

    Parameters
    ----------
    n : int
        Number of distinct points.
    block : callable
        ``block(rows, columns)`` gives the distances between two sets of indices.

    Returns
    -------
    float
        Median over all points, beyond 300 over as many of them, drawn once and for all; 1.0 for
        one point.
    """
    if n < 2:
        return 1.0
    index = np.arange(n)
    if n > _NEAREST_SAMPLE:
        index = np.sort(np.random.default_rng(0).choice(n, _NEAREST_SAMPLE, replace=False))
    every, nearest = torch.arange(n), []
    size = rows_per_block(16 * n, len(index))
    for rows in torch.from_numpy(index).split(size):
        distance = block(rows, every)
        distance = distance.scatter(1, rows[:, None].to(distance.device), torch.inf)
        nearest.append(distance.amin(dim=1))
    return float(np.median(as_numpy(torch.cat(nearest))))


def resolve_scale(t: float | None, purpose: str, median: float) -> float:
    """Return `t`, or for None what ``t="scale"`` means for `purpose` at a median distance."""
    return per_distance(SCALES[purpose], median) if t is None else t


def per_distance(
    number: float,
    distance: float,
    *,
    name: str = "median distance",
    argument: str = "t",
    instead: str = "give t as a number",
) -> float:
    """Return `number` over a distance; raise ValueError where that is no scale.

    Parameters
    ----------
    number : float
        Positive number.
    distance : float
        A typical distance.
    name, argument, instead : str
        What the message calls the distance and the scale, and what it asks for.

    Returns
    -------
    float
        Scale.
    """
    scale = number / distance if distance > 0 else math.inf
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(
            f"{argument} is to be {number} over the {name}, which is {distance!r} for these "
            f"points: no scale can be had from it, {instead}"
        )
    return scale


def default_grid(n_scales: int, median: float, nearest: float) -> np.ndarray:
    """Geometric grid of `n_scales` scales from merged to scattered points."""
    own = "pass scales of your own"
    first = per_distance(GRID[0], median, argument="the least scale", instead=own)
    last = per_distance(
        GRID[1],
        nearest,
        name="median distance to the nearest other point",
        argument="the greatest scale",
        instead=own,
    )
    return np.geomspace(first, last, n_scales)
