"""The weighting of a Dask array, and what is known of its magnitude."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any

import dask
import dask.array
import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from skmag._arrays import as_numpy
from skmag._input import MetricLike, check_tol
from skmag._metrics import Metric, resolve_metric
from skmag._scale import check_scale, median_distance, resolve_scale
from skmag._solvers import stack_level
from skmag._solvers._certificate import certify
from skmag._solvers._parameters import check_positive_integer
from skmag._solvers._sparse import (
    check_coordinates,
    evenly_spread,
    first_centers,
    in_rounds,
    neighbors_for,
)
from skmag.dask._cells import Cells
from skmag.dask._factor import Kernel
from skmag.dask._levels import (
    CellsInverse,
    CellsLevel,
    dimension_of,
    product,
    unit_of,
    upper_bound,
)
from skmag.dask._spread import Chosen, spread


@dataclass(frozen=True, eq=False)
class DaskWeighting:
    """The weighting of a Dask array at one scale.

    Made by :func:`skmag.dask.weighting`.

    Parameters
    ----------
    weights : dask.array.Array of shape (n_samples,)
        Weight of each row, in the order and the chunks of the input; copies of a point share its
        weight equally.
    magnitude : float
        Effective number of points, more accurate than the sum of the weights.
    lower, upper : float
        Proven bounds of the magnitude; `upper` is infinite where none can be had.
    standard_error : float
        One standard deviation of the estimated magnitude; the solver promises three of them.
    converged : bool
        Whether three standard errors are within the tolerance.
    t : float
        The scale, also where ``t="scale"`` was asked for.
    n_points : int
        Number of distinct points.
    n_samples : int
        Number of rows.
    details : dict
        What else is known: ``n_centers``, ``n_neighbors``, ``sampled_rows``, the ``tail`` that the
        sparse factor added, and ``n_rounds``.

    See Also
    --------
    skmag.dask.weighting : Makes one.

    Examples
    --------
    >>> import dask.array as da
    >>> from skmag.dask import weighting
    >>> space = weighting(da.from_array([[0.0], [1.0], [3.0]], chunks=2))
    >>> round(space.magnitude, 6), space.n_points
    (2.223711, 3)
    """

    weights: Any = field(repr=False)
    magnitude: float
    lower: float
    upper: float
    standard_error: float
    converged: bool
    t: float
    n_points: int
    n_samples: int
    details: dict[str, float] = field(repr=False)


def weighting(
    X: Any,
    *,
    t: float | str = 1.0,
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    n_centers: int | None = None,
    n_neighbors: int | None = None,
    tol: float = 1e-5,
    random_state: int = 0,
) -> DaskWeighting:
    """Compute the weighting of a Dask array that no single machine needs to hold.

    It is the two-level solve of ``skmag.weighting(X, solver="sparse")``, run by whatever Dask
    scheduler is active: the weighting of a few centers is exact, and a sparse factor does the rest.

    Parameters
    ----------
    X : dask.array.Array of shape (n_samples, n_features)
        Points, chunked by rows.
    t : float or "scale", default=1.0
        Positive scale that multiplies the distances; "scale" is one over the median distance
        between distinct points, of 1,000 of them where there are more.
    metric : str, default="euclidean"
        "euclidean", "cityblock", "minkowski" (with ``p`` up to 2) or "cosine".
    metric_params : mapping, default=None
        Further arguments of the metric, such as ``{"p": 1.5}`` for "minkowski".
    n_centers : int, default=None
        Centers of the first round, a quarter of the most that are taken; None is 1000.
    n_neighbors : int, default=None
        Points that each other point is conditioned on; None is 20, or 30 where the intrinsic
        dimension is above 2.5.
    tol : float, default=1e-5
        Error, as a share of the magnitude, that three standard errors must not exceed.
    random_state : int, default=0
        Draws the order of the points and the sampled rows; not negative.

    Returns
    -------
    DaskWeighting
        Weights and magnitude. Up to rounding they are those of :func:`skmag.weighting` with
        ``solver="sparse"`` and ``solver_params={"canonical": True}``, however `X` is chunked: the
        magnitude to 1e-8, each weight to rounding times the condition number of zeta.

    Raises
    ------
    TypeError
        If `X` is no Dask array, or a partition is sparse.
    ValueError
        If an argument is not usable, or a partition holds NaN, infinity or masked entries or has
        another shape than `X` declares; the message names it.
    MemoryError
        If the factor of the centers does not fit where this function is called.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        If the estimated error is above `tol`.

    Notes
    -----
    Points are first shared out into cells of space, about as many as there are chunks, where
    copies of a point meet and neighbours mostly do. A task holds one or two cells, the centers, and
    the first 4,096 points of the order. The columns of the sparse factor, 12 bytes times
    ``n_neighbors + 1`` for each point, stay in the memory of the workers; on curves, where the
    intrinsic dimension is below 1.5, those of two orders of the points do at once, as the second
    one tells how far the first is off. The caller's process holds the centers with their factor and
    some fifteen numbers for each row (which point it is, its place in the order, weights), but the
    coordinates of some twenty thousand points at a time only.

    Tasks depend on nothing but their inputs: what a lost worker held is computed again, with the
    same result.

    References
    ----------
    F. Schäfer, M. Katzfuss, H. Owhadi, "Sparse Cholesky factorization by Kullback-Leibler
    minimization", Theorem 2.1.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> from skmag.dask import weighting
    >>> X = da.from_array(np.random.default_rng(0).normal(size=(2000, 2)), chunks=(500, 2))
    >>> space = weighting(X, n_centers=100, tol=1e-3)
    >>> space.converged, space.weights.chunks
    (True, ((500, 500, 500, 500),))
    """
    _check_array(X)
    scale = check_scale(t)
    resolved = _checked_metric(metric, metric_params, X.shape[1])
    first = first_centers(n_centers)
    if n_neighbors is not None:
        check_positive_integer(n_neighbors, "n_neighbors")
    tol = check_tol(tol)
    _check_seed(random_state)

    cells = Cells.of(X.to_delayed().ravel().tolist(), X.chunks[0], X.shape[1], resolved)
    unit = unit_of(cells)
    if scale is None:
        scale = resolve_scale(None, "weighting", _median(cells))
    dimension = dimension_of(cells, unit)
    width = neighbors_for(dimension, n_neighbors, len(cells))
    chosen = spread(cells, evenly_spread(first), unit)
    kernel = _kernel(cells, scale, unit, chosen)

    def level(rng: np.random.Generator) -> CellsLevel:
        return CellsLevel.of(CellsInverse.over(cells, kernel, chosen, width, rng))

    found = in_rounds(level, tol, first, dimension, random_state)
    inverse = found.level.inverse
    weights = found.weights
    if kernel.anchored:
        weights = _with_anchor(cells, kernel, weights)
    centers = found.level.centers[inverse.centers]
    lower = certify(inverse.similarity, centers).lower
    upper = upper_bound(cells, scale)
    shares = (as_numpy(weights) / cells.counts)[cells.group]
    space = DaskWeighting(
        weights=dask.array.from_array(shares, chunks=(X.chunks[0],)),
        magnitude=min(max(found.estimate.magnitude, lower), upper),
        lower=lower,
        upper=upper,
        standard_error=found.estimate.standard_error,
        converged=found.estimate.error <= tol,
        t=scale,
        n_points=len(cells),
        n_samples=X.shape[0],
        details=found.details | {"n_rounds": float(found.n_rounds)},
    )
    _warn_unmet(space, tol)
    return space


def _check_array(X: Any) -> None:
    if not isinstance(X, dask.array.Array):
        raise TypeError(
            f"X must be a dask.array.Array, not {type(X).__name__}; use skmag.weighting for what "
            "fits in memory, dask.array.from_array for an array, to_dask_array(lengths=True) for a "
            "Dask dataframe"
        )
    if X.ndim != 2:
        raise ValueError(f"X must have two dimensions, rows and features, not {X.ndim}")
    if any(math.isnan(size) for size in (*X.shape, *X.chunks[0], *X.chunks[1])):
        raise ValueError(
            f"X has chunks of unknown size, its shape is {X.shape}; call X.compute_chunk_sizes()"
        )
    if X.numblocks[1] > 1:
        raise ValueError(
            f"X is chunked by features, {X.chunks[1]}; a partition must hold whole rows, use "
            "X.rechunk({1: -1})"
        )
    if 0 in X.shape:
        raise ValueError(f"X is empty, its shape is {X.shape}; at least one point is needed")
    if X.dtype.kind not in "biuf":
        raise ValueError(f"X has dtype {X.dtype}, which is not a real number; use X.astype(float)")


def _check_seed(random_state: Any) -> None:
    # A retried task gives the same result only if there is nothing to draw a seed from.
    whole = isinstance(random_state, Integral) and not isinstance(random_state, bool)
    if not (whole and int(random_state) >= 0):
        raise ValueError(f"random_state={random_state!r} must be a non-negative integer")


def _checked_metric(
    metric: MetricLike, metric_params: Mapping[str, Any] | None, n_features: int
) -> Metric:
    """A metric whose points a tree takes and whose similarities are positive definite."""
    # Metrics that learn from the points are none of those.
    resolved = resolve_metric(metric, metric_params)
    check_coordinates(resolved)
    if not (resolved.positive_definite or (resolved.is_norm and n_features == 1)):
        raise ValueError(
            "solver='sparse' needs similarities that are known to be positive definite; "
            f"metric={resolved.name!r} is not known to be of negative type, use metric='euclidean' "
            "or 'cityblock'"
        )
    return resolved


def _median(cells: Cells) -> float:
    """Median distance between distinct points, of the same sample as where all are at hand."""

    def block(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        points = torch.from_numpy(cells.take(rows.numpy()))
        return cells.metric.block(points, points)

    return median_distance(len(cells), block)


def _kernel(cells: Cells, t: float, unit: float, chosen: Chosen) -> Kernel:
    kernel = Kernel(cells.metric, t, unit, cells.take(np.array([0])), False)
    whole = replace(kernel.similarity(kernel.first), anchor=torch.tensor([chosen.reach]))
    return kernel._replace(anchored=whole.nearly_constant)


def _with_anchor(cells: Cells, kernel: Kernel, weights: torch.Tensor) -> torch.Tensor:
    """Weights with that of the anchor which solves the anchor's own row."""
    out = weights.clone()
    out[0] = 0.0
    plain = kernel._replace(anchored=False)
    out[0] = 1 - float(product(cells, plain, kernel.first, out)[0])
    return out


def _warn_unmet(space: DaskWeighting, tol: float) -> None:
    if space.converged:
        return
    warnings.warn(
        f"skmag.dask.weighting did not reach tol={tol!r} for n={space.n_points:,} points at "
        f"t={space.t!r}: magnitude {space.magnitude!r} in [{space.lower!r}, {space.upper!r}], "
        f"estimated error {space.standard_error:.2g}. Raise n_centers or tol.",
        ConvergenceWarning,
        stacklevel=stack_level(),
    )
