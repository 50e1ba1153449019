"""Numbers that summarize a set: its magnitude, alone and as a function of scale, and spread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any

import numpy as np
import torch

from skmag._arrays import ArrayKind, as_numpy, resolve_device
from skmag._input import MetricLike, build_similarity, check_2d, check_tol
from skmag._scale import check_scales, default_grid, resolve_scale
from skmag._similarity import Similarity
from skmag._solvers import factor, magnitudes_at, solve, with_kept_distances
from skmag._weighting import weighting


def magnitude(
    X: Any,
    *,
    t: float | str = 1.0,
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    solver: str = "auto",
    tol: float = 1e-6,
    solver_params: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
) -> float:
    """Compute the magnitude of a finite metric space, its effective number of points.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
        Points, or their distances if ``metric="precomputed"``. Duplicates change nothing.
    t : float or "scale", default=1.0
        Positive scale that multiplies the distances; "scale" is one over the median distance.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`.
    metric_params : mapping, default=None
        Further arguments of the metric.
    solver : str, default="auto"
        As for :func:`weighting`; "auto" takes conjugate gradients from 4,000 points on, as no
        questions follow.
    tol : float, default=1e-6
        As for :func:`weighting`.
    solver_params : mapping, default=None
        As for :func:`weighting`.
    device : str, torch.device or None, default=None
        As for :func:`weighting`.

    Returns
    -------
    float
        Magnitude: in Euclidean space it grows from 1 (t towards 0) to the number of distinct
        points (t towards infinity), and is never less than that of a subset.

    Raises
    ------
    ValueError
        If an argument is not usable; the message names it.
    MemoryError
        If the factor does not fit.
    numpy.linalg.LinAlgError
        If the similarity matrix has no inverse.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        If a solver without a factor did not meet `tol`; the message holds the interval that it
        reached.

    References
    ----------
    T. Leinster, "The magnitude of metric spaces", Documenta Mathematica 18 (2013), section 2.

    Examples
    --------
    >>> from skmag import magnitude
    >>> round(magnitude([[0.0], [900.0]], t=1e-3), 3)
    1.422
    """
    array = check_2d(X, "X")
    place = resolve_device(device, array)
    similarity = build_similarity(array, t, metric, metric_params, place)
    made, _ = solve(
        similarity,
        solver,
        place,
        tol=check_tol(tol),
        solver_params=solver_params,
        only_magnitude=True,
    )
    return made.magnitude()


def magnitude_weights(
    X: Any,
    *,
    t: float | str = 1.0,
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    solver: str = "auto",
    tol: float = 1e-6,
    solver_params: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
) -> Any:
    """Compute the weight of each point, large near boundaries and small inside.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
        Points, or their distances if ``metric="precomputed"``.
    t : float or "scale", default=1.0
        Positive scale that multiplies the distances; "scale" is one over the median distance.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`.
    metric_params : mapping, default=None
        Further arguments of the metric.
    solver : str, default="auto"
        As for :func:`weighting`.
    tol : float, default=1e-6
        As for :func:`weighting`.
    solver_params : mapping, default=None
        As for :func:`weighting`.
    device : str, torch.device or None, default=None
        As for :func:`weighting`.

    Returns
    -------
    array of shape (n_samples,)
        Weights in input order, in the caller's kind of array; copies of a point share equally.

    Raises
    ------
    ValueError
        If an argument is not usable; the message names it.
    MemoryError
        If the factor does not fit.
    numpy.linalg.LinAlgError
        If the similarity matrix has no inverse.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        If a solver without a factor did not meet `tol`; the message holds the interval that it
        reached.

    References
    ----------
    E. Bunch, D. Dickinson, J. Kline, G. Fung, "Practical applications of metric space magnitude
    and weighting vectors", section 1.2.

    Examples
    --------
    >>> from skmag import magnitude_weights
    >>> magnitude_weights([[0.0], [1.0], [2.0]]).round(4)
    array([0.7311, 0.4621, 0.7311])
    """
    return weighting(
        X,
        t=t,
        metric=metric,
        metric_params=metric_params,
        solver=solver,
        tol=tol,
        solver_params=solver_params,
        device=device,
    ).weights


def scale_grid(
    X: Any,
    n_scales: int = 20,
    *,
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """Propose scales for a set, from points merged into one to points all apart.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
        Points, or their distances if ``metric="precomputed"``.
    n_scales : int, default=20
        Number of scales, at least 1.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`.
    metric_params : mapping, default=None
        Further arguments of the metric.

    Returns
    -------
    ndarray of shape (n_scales,)
        Geometric grid from 0.01 over the median distance to 10 over the median distance to the
        nearest other point, so that rescaling the data by c divides the grid by c.

    Raises
    ------
    ValueError
        If an argument is not usable; the message names it.

    Notes
    -----
    At the first end the magnitude is within a few percent of 1; at the last the similarity to the
    nearest other point is below 1e-4 for most points, so that magnitude is close to their number.
    There is no source for the ends but measurement.

    Examples
    --------
    >>> from skmag import scale_grid
    >>> scale_grid([[0.0], [2.0]], n_scales=3)
    array([0.005     , 0.15811388, 5.        ])
    """
    if isinstance(n_scales, bool) or not isinstance(n_scales, Integral) or n_scales < 1:
        raise ValueError(f"n_scales={n_scales!r} must be a positive integer")
    similarity = _similarity(X, metric, metric_params, None)[0]
    return _default_grid(similarity, int(n_scales))


def magnitude_function(
    X: Any,
    ts: Any,
    *,
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    solver: str = "auto",
    tol: float = 1e-6,
    solver_params: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
    callback: Callable[[int, int], object] | None = None,
) -> Any:
    """Compute the magnitude at several scales, from one table of distances.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
        Points, or their distances if ``metric="precomputed"``.
    ts : array-like of shape (n_scales,)
        Positive scales, see :func:`scale_grid`; "scale" is understood among them.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`.
    metric_params : mapping, default=None
        Further arguments of the metric.
    solver : str, default="auto"
        As for :func:`weighting`. From 2,000 points and three scales on "auto" takes conjugate
        gradients, which at each scale begin with the weights of the scales before, where the metric
        allows it.
    tol : float, default=1e-6
        As for :func:`weighting`, at each scale.
    solver_params : mapping, default=None
        As for :func:`weighting`.
    device : str, torch.device or None, default=None
        As for :func:`weighting`.
    callback : callable, default=None
        Called as ``callback(n_done, n_scales)`` after each scale, for instance to show progress.

    Returns
    -------
    array of shape (n_scales,)
        Magnitudes, in the caller's kind of array.

    Raises
    ------
    ValueError
        If an argument is not usable; the message names it.
    MemoryError
        If the factor does not fit.
    numpy.linalg.LinAlgError
        If the similarity matrix has no inverse.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        If `tol` was not met at some scale; the message holds the interval that was reached.

    See Also
    --------
    scale_grid : Proposes scales for a set.

    References
    ----------
    R. Andreeva, J. Ward, P. Skraba, J. Gao, R. Sarkar, "Approximating metric magnitude of point
    sets", Definition 4.

    Examples
    --------
    >>> from skmag import magnitude_function
    >>> magnitude_function([[0.0], [1.0], [10.0]], [0.01, 1.0, 100.0]).round(3)
    array([1.05 , 2.462, 3.   ])
    """
    similarity, kind, place = _similarity(X, metric, metric_params, device)
    scales = _resolved_scales(ts, similarity)
    values = magnitudes_at(
        similarity,
        scales,
        solver,
        place,
        tol=check_tol(tol),
        solver_params=solver_params,
        callback=callback,
    )
    return kind.wrap(torch.tensor(values, dtype=torch.float64))


def magnitude_dimension(
    X: Any,
    ts: Any = None,
    *,
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    solver: str = "auto",
    device: str | torch.device | None = None,
) -> float:
    """Estimate the dimension of a set from the growth of its magnitude with scale.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
        Points, or their distances if ``metric="precomputed"``.
    ts : float, "scale", array-like or None, default=None
        Scales at which the growth is computed; None takes :func:`scale_grid`. One scale gives
        the instantaneous dimension there.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`.
    metric_params : mapping, default=None
        Further arguments of the metric.
    solver : {"auto", "line", "cholesky", "mixed", "indefinite"}, default="auto"
        One of the solvers of :func:`weighting` that make a factor.
    device : str, torch.device or None, default=None
        As for :func:`weighting`.

    Returns
    -------
    float
        Greatest slope ``d log Mag(tX) / d log t`` over `ts`. The slope is exact at each scale:
        the derivative of the magnitude is ``w' (d * zeta) w``.

    Raises
    ------
    ValueError
        If an argument is not usable; the message names it.
    MemoryError
        If the factor does not fit.
    numpy.linalg.LinAlgError
        If the similarity matrix has no inverse.

    Notes
    -----
    The slope vanishes at both ends for a finite set: its greatest value is reached where the points
    still look like a continuum, and comes closer to the dimension of what they were drawn from
    with more points.

    References
    ----------
    R. Andreeva, K. Limbeck, B. Rieck, R. Sarkar, "Metric space magnitude and generalisation in
    neural networks" (2023); "Approximating metric magnitude of point sets", section 2.2.

    Examples
    --------
    >>> import numpy as np
    >>> from skmag import magnitude_dimension
    >>> line = np.linspace(0, 1, 400)[:, None] * [1.0, 2.0]
    >>> round(magnitude_dimension(line), 1)
    0.9
    """
    similarity, _, place = _similarity(X, metric, metric_params, device)
    if ts is None:
        ts = _default_grid(similarity, 20)
    scales = _resolved_scales(ts, similarity)
    similarity = with_kept_distances(similarity, len(scales))
    slopes, spent = [], None
    for t in scales:
        spent, _ = factor(similarity.at(t), solver, place, spent)
        w, value = spent.weighting()
        slopes.append(t * spent.derivative(w) / value)
    return max(slopes)


def spread(
    X: Any,
    *,
    t: float | str = 1.0,
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
) -> float:
    """Compute the spread of a set, an effective number of points that needs no solve.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
        Points, or their distances if ``metric="precomputed"``. Duplicates are merged.
    t : float or "scale", default=1.0
        Positive scale that multiplies the distances; "scale" is one over the median distance.
    metric : str or callable, default="euclidean"
        As for :func:`weighting`.
    metric_params : mapping, default=None
        Further arguments of the metric.
    device : str, torch.device or None, default=None
        As for :func:`weighting`.

    Returns
    -------
    float
        ``sum_i 1 / sum_j exp(-t d_ij)``, between 1 and the number of distinct points, and at
        most the magnitude where the similarity matrix is positive definite.

    Raises
    ------
    ValueError
        If an argument is not usable; the message names it.

    References
    ----------
    S. Willerton, "Spread: a measure of the size of metric spaces" (2015), definition 2.1 and
    theorem 5.

    Examples
    --------
    >>> from skmag import spread
    >>> round(spread([[0.0], [1.0], [1.0]]), 4)
    1.4621
    """
    array = check_2d(X, "X")
    place = resolve_device(device, array)
    similarity = build_similarity(array, t, metric, metric_params, place)
    return float(similarity.row_sums().reciprocal().sum())


def _similarity(
    X: Any,
    metric: MetricLike,
    metric_params: Mapping[str, Any] | None,
    device: str | torch.device | None,
) -> tuple[Similarity, ArrayKind, torch.device]:
    """Return the operator at t = 1, the caller's kind of array and the device."""
    array = check_2d(X, "X")
    place = resolve_device(device, array)
    return build_similarity(array, 1.0, metric, metric_params, place), ArrayKind.of(array), place


def _default_grid(similarity: Similarity, n_scales: int) -> np.ndarray:
    return default_grid(n_scales, similarity.median_distance(), similarity.nearest_distance())


def _resolved_scales(ts: Any, similarity: Similarity) -> list[float]:
    values = check_scales(as_numpy(ts) if hasattr(ts, "__array_namespace__") else ts)
    median = similarity.median_distance() if None in values else 1.0
    return [resolve_scale(t, "weighting", median) for t in values]
