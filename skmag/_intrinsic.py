"""Comparing the shapes of two sets by the heat traces of their neighbourhood graphs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skmag._arrays import as_numpy
from skmag._heat_trace import (
    check_choices,
    graph_from,
    heat_traces,
    normalized_adjacency,
    null_trace,
    random_probes,
)
from skmag._input import MetricLike
from skmag._scale import check_scales

NOISE_DRAWS = 200
"""The standard error of a mean over so many draws of the noise is about 2% of it."""


@dataclass(frozen=True)
class IntrinsicDistanceResult:
    """Intrinsic distance of two sets, and how far the random probes blur it.

    Parameters
    ----------
    distance : float
        The distance, in the paper's units; the authors' program prints 10^6 times as much.
    standard_error : float
        Standard error of the distance that is due to the probes, by the delta method: that of the
        difference of the signatures at the scale `t`. It is that of the differences probe by
        probe where both signatures used the same probes. It says nothing about the samples.
    t : float
        Scale at which the signatures are farthest apart.
    noise_level : float
        Mean distance of two equal heat traces that are estimated as precisely as these, from
        probes independent of one another. A largest difference is never negative, so it is biased
        upwards by up to this much: a distance of this size says nothing.

    References
    ----------
    A. Tsitsulin et al., "The shape of data: intrinsic distance for data distributions", section
    3.3.

    Examples
    --------
    >>> import numpy as np
    >>> from skmag import intrinsic_multiscale_distance
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> result = intrinsic_multiscale_distance(X[:100], X[100:], random_state=0)
    >>> result.distance > 10 * result.noise_level
    True
    """

    distance: float
    standard_error: float
    t: float
    noise_level: float


@dataclass(frozen=True, eq=False)
class HeatTraceSignature:
    """Heat trace of a set's neighbourhood graph on a grid of scales: a reusable descriptor.

    Made by :func:`heat_trace_signature`. Its size does not depend on that of the set.

    Parameters
    ----------
    ts : ndarray of shape (n_ts,)
        Scales.
    probe_values : ndarray of shape (n_probes, n_ts)
        Normalized heat trace as each random probe alone estimates it.
    n_samples : int
        Number of points.
    n_neighbors : int or None
        Neighbours that each point names in the graph; None for a graph of the caller's.
    normalization : {"empty", "erdos_renyi", "complete", "none"}
        Null model whose heat trace the values were divided by.
    n_steps : int
        Lanczos steps.
    probes : {"rademacher", "normal"}
        Distribution of the probes.
    variance_reduction : {"chebyshev", "linear", "taylor"} or None
        Control variate.
    seed : int
        What the probes were drawn from. Signatures of sets of equal size with equal seeds were
        made with the same probes.

    References
    ----------
    A. Tsitsulin et al., "The shape of data: intrinsic distance for data distributions", Algorithm
    1.

    Examples
    --------
    Each set is paid for once, whatever the number of comparisons:

    >>> import numpy as np
    >>> from skmag import heat_trace_signature
    >>> rng = np.random.default_rng(0)
    >>> clouds = [rng.normal(size=(200, dimension)) for dimension in (2, 2, 5, 5)]
    >>> signatures = [heat_trace_signature(cloud, random_state=0) for cloud in clouds]
    >>> D = np.array([[a.distance_to(b).distance for b in signatures] for a in signatures])
    >>> (1e6 * D).round()
    array([[  0.,   8., 134., 132.],
           [  8.,   0., 126., 124.],
           [134., 126.,   0.,   2.],
           [132., 124.,   2.,   0.]])
    """

    ts: np.ndarray = field(repr=False)
    probe_values: np.ndarray = field(repr=False)
    n_samples: int
    n_neighbors: int | None
    normalization: str
    n_steps: int
    probes: str
    variance_reduction: str | None
    seed: int

    @property
    def values(self) -> np.ndarray:
        """Normalized heat trace at each scale, of shape (n_ts,)."""
        return self.probe_values.mean(axis=0)

    @property
    def standard_errors(self) -> np.ndarray:
        """Standard error of each value that is due to the probes, of shape (n_ts,)."""
        return _standard_error(self.probe_values)

    def distance_to(self, other: HeatTraceSignature) -> IntrinsicDistanceResult:
        """Compute the intrinsic distance to another signature.

        Parameters
        ----------
        other : HeatTraceSignature
            Signature on the same scales, with the same normalization and number of neighbours.
            The data may differ in number and in dimension.

        Returns
        -------
        IntrinsicDistanceResult
            The distance, its standard error, the scale that decided, and the level of noise.

        Raises
        ------
        ValueError
            If the signatures cannot be compared; the message says in what they differ.

        Warns
        -----
        UserWarning
            If the sets differ in size and are not normalized: the larger one has more heat.
        """
        self._check_comparable(other)
        weights = _importance(self.ts)
        first, second = self.probe_values * weights, other.probe_values * weights
        difference = first.mean(axis=0) - second.mean(axis=0)
        at = int(np.abs(difference).argmax())
        if self._shares_probes(other):
            error = _standard_error(first - second)[at]
        else:
            error = np.hypot(_standard_error(first)[at], _standard_error(second)[at])
        return IntrinsicDistanceResult(
            distance=float(abs(difference[at])),
            standard_error=float(error),
            t=float(self.ts[at]),
            noise_level=_noise_level(first, second),
        )

    def _shares_probes(self, other: HeatTraceSignature) -> bool:
        names = ("seed", "n_samples", "probes")
        drawn = all(getattr(self, name) == getattr(other, name) for name in names)
        return drawn and len(self.probe_values) == len(other.probe_values)

    def _check_comparable(self, other: Any) -> None:
        if not isinstance(other, HeatTraceSignature):
            raise ValueError(
                f"other={other!r} is no HeatTraceSignature; make one by heat_trace_signature"
            )
        if not np.array_equal(self.ts, other.ts):
            raise ValueError("the signatures are on different scales; give both the same ts")
        for name in ("normalization", "n_neighbors"):
            own, its = getattr(self, name), getattr(other, name)
            if own != its and None not in (own, its):
                raise ValueError(
                    f"the signatures cannot be compared: {name}={own!r} and {name}={its!r}"
                )
        if self.normalization == "none" and self.n_samples != other.n_samples:
            warnings.warn(
                f"normalization='none' compares the heat of {self.n_samples} points with that of "
                f"{other.n_samples}, which differ by their number alone; use "
                "normalization='empty'",
                UserWarning,
                stacklevel=3,
            )


def heat_trace_signature(
    X: Any,
    *,
    ts: Any = None,
    n_neighbors: int = 5,
    n_steps: int = 10,
    n_probes: int = 100,
    normalization: str = "empty",
    variance_reduction: str | None = "chebyshev",
    probes: str = "rademacher",
    neighbors: Any = None,
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    random_state: Any = None,
    n_jobs: int | None = None,
) -> HeatTraceSignature:
    """Compute the heat trace of a set's neighbourhood graph on a grid of scales.

    The heat trace ``tr exp(-t L)``, L the normalized Laplacian of the graph that joins two points
    if one is among the nearest neighbours of the other, is estimated by stochastic Lanczos
    quadrature from random probes.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
        Points; their distances if ``metric="precomputed"``, dense or sparse, a sparse row naming
        only the nearest; or a graph, dense or sparse, if ``neighbors="precomputed"``. Copies of a
        point are points of their own, at distance zero.
    ts : array-like of shape (n_ts,), default=None
        Positive scales; None takes 256 from 0.1 to 10, equally spaced in their logarithms.
    n_neighbors : int, default=5
        Nearest neighbours that each point names, less than the number of points. Not used if
        ``neighbors="precomputed"``.
    n_steps : int, default=10
        Lanczos steps for each probe, at least 1.
    n_probes : int, default=100
        Random probes, at least 2. Standard errors fall with its root.
    normalization : {"empty", "erdos_renyi", "complete", "none"}, default="empty"
        What the heat trace is divided by: that of the graph without edges, which is the number of
        points; that of a random graph of the same degree, which needs ``n_neighbors >= 4``; that
        of the complete graph; or nothing.
    variance_reduction : {"chebyshev", "linear", "taylor"} or None, default="chebyshev"
        Polynomial of L whose trace is computed exactly, so that only the rest is estimated:
        the Chebyshev series of the exponential to degree 4, the paper's equation 15, which the
        authors use, the paper's equation 12, or none. None of them changes the expectation.
    probes : {"rademacher", "normal"}, default="rademacher"
        Distribution of the probes; normal ones are brought to equal length.
    neighbors : transformer, "precomputed" or None, default=None
        Who finds the neighbours: an object like
        :class:`~sklearn.neighbors.KNeighborsTransformer`, for instance of a library for
        approximate neighbours, whose ``fit_transform(X)`` is a sparse matrix of distances; it has
        a metric of its own. "precomputed" takes X for the graph itself, non-negative weights of
        its edges, of which those in either direction count. None is exact.
    metric : str or callable, default="euclidean"
        As for :class:`~sklearn.neighbors.KNeighborsTransformer`, "precomputed" included.
    metric_params : mapping, default=None
        Further arguments of the metric, such as ``{"p": 3}`` for "minkowski".
    random_state : int, RandomState instance or None, default=None
        What the probes are drawn from.
    n_jobs : int, default=None
        Number of jobs of the search for neighbours.

    Returns
    -------
    HeatTraceSignature
        Values and standard errors at each scale, as numpy arrays, ready to be compared.

    Raises
    ------
    ValueError
        If an argument is not usable, or a point has too few others; the message names it.

    See Also
    --------
    intrinsic_multiscale_distance : Distance of two signatures.

    References
    ----------
    A. Tsitsulin, M. Munkhoeva, D. Mottin, P. Karras, A. Bronstein, I. Oseledets, E. Müller, "The
    shape of data: intrinsic distance for data distributions", sections 3.4 and 3.5, appendices A,
    B and C.4.

    Examples
    --------
    The fewer dimensions, the more slowly heat leaves a point, here after t = 10:

    >>> import numpy as np
    >>> from skmag import heat_trace_signature
    >>> rng = np.random.default_rng(0)
    >>> for dimension in (1, 2, 3):
    ...     X = rng.uniform(size=(1000, dimension))
    ...     signature = heat_trace_signature(X, ts=[10.0], random_state=0)
    ...     print(signature.values.round(3), signature.standard_errors.round(4))
    [0.072] [0.0002]
    [0.048] [0.0002]
    [0.034] [0.0002]
    """
    scales = _check_ts(ts)
    check_choices(normalization, variance_reduction, probes)
    for name, value, least in (
        ("n_neighbors", n_neighbors, 1),
        ("n_steps", n_steps, 1),
        ("n_probes", n_probes, 2),
    ):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name}={value!r} must be an integer of at least {least}")
    params = dict(metric_params or {})
    graph = graph_from(X, int(n_neighbors), neighbors, metric, params, n_jobs)
    given = isinstance(neighbors, str)
    degree = graph.nnz / graph.shape[0] if given else float(n_neighbors)
    n = graph.shape[0]
    null = null_trace(normalization, n, degree, scales)
    S = normalized_adjacency(graph)
    seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    starts = random_probes(n, int(n_probes), probes, seed)
    found = heat_traces(S, starts, int(n_probes), scales, int(n_steps), variance_reduction)
    return HeatTraceSignature(
        ts=scales,
        probe_values=found / null,
        n_samples=n,
        n_neighbors=None if given else int(n_neighbors),
        normalization=normalization,
        n_steps=int(n_steps),
        probes=probes,
        variance_reduction=variance_reduction,
        seed=seed,
    )


def intrinsic_multiscale_distance(
    X: Any,
    Y: Any,
    *,
    ts: Any = None,
    n_neighbors: int = 5,
    n_steps: int = 10,
    n_probes: int = 100,
    normalization: str = "empty",
    variance_reduction: str | None = "chebyshev",
    probes: str = "rademacher",
    neighbors: Any = None,
    metric: MetricLike = "euclidean",
    metric_params: Mapping[str, Any] | None = None,
    random_state: Any = None,
    n_jobs: int | None = None,
) -> IntrinsicDistanceResult:
    """Compute the intrinsic multi-scale distance (IMD) of two sets.

    It is the largest of ``exp(-2 (t + 1 / t)) |h_X(t) - h_Y(t)|`` over the scales t, h the
    normalized heat trace of a set's neighbourhood graph. It sees shapes alone, so the sets may lie
    in different spaces: of different dimension, rotated, moved or rescaled.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or HeatTraceSignature
        Points, as for :func:`heat_trace_signature`, or what that function made of them.
    Y : array-like of shape (m_samples, m_features) or HeatTraceSignature
        Other points, of any number and dimension.
    ts : array-like of shape (n_ts,), default=None
        As for :func:`heat_trace_signature`, like all that follow; they are for points, and
        signatures have been made with their own.
    n_neighbors : int, default=5
        Nearest neighbours that each point names.
    n_steps : int, default=10
        Lanczos steps for each probe.
    n_probes : int, default=100
        Random probes.
    normalization : {"empty", "erdos_renyi", "complete", "none"}, default="empty"
        What the heat traces are divided by. Sets of different size have to be normalized.
    variance_reduction : {"chebyshev", "linear", "taylor"} or None, default="chebyshev"
        Polynomial of the Laplacian whose trace is computed exactly.
    probes : {"rademacher", "normal"}, default="rademacher"
        Distribution of the probes.
    neighbors : transformer, "precomputed" or None, default=None
        Who finds the neighbours; None is exact.
    metric : str or callable, default="euclidean"
        Metric of both sets.
    metric_params : mapping, default=None
        Further arguments of the metric.
    random_state : int, RandomState instance or None, default=None
        What the probes are drawn from. Sets of equal size get the same probes, so that the
        distance of equal sets is zero.
    n_jobs : int, default=None
        Number of jobs of the search for neighbours.

    Returns
    -------
    IntrinsicDistanceResult
        The distance, its standard error, the scale that decided, and the level of noise.

    Raises
    ------
    ValueError
        If an argument is not usable, or signatures cannot be compared; the message names it.

    Warns
    -----
    UserWarning
        If the sets differ in size and ``normalization="none"``.

    See Also
    --------
    heat_trace_signature : What is compared; make it once for each of many sets.

    Notes
    -----
    It is a lower bound of a Gromov-Wasserstein distance, and zero does not mean equal. Its
    standard error is that of the probes; two samples of one distribution are at a distance, too.

    References
    ----------
    A. Tsitsulin, M. Munkhoeva, D. Mottin, P. Karras, A. Bronstein, I. Oseledets, E. Müller, "The
    shape of data: intrinsic distance for data distributions", equation 2 and Algorithm 1.

    Examples
    --------
    A sheet that was rolled up in space is still a sheet, a cloud is not:

    >>> import numpy as np
    >>> from skmag import intrinsic_multiscale_distance
    >>> rng = np.random.default_rng(0)
    >>> sheet = rng.uniform(0, 3, size=(1000, 2))
    >>> rolled = np.stack([np.cos(sheet[:, 0]), np.sin(sheet[:, 0]), sheet[:, 1]], axis=1)
    >>> cloud = rng.uniform(0, 3, size=(1000, 3))
    >>> near = intrinsic_multiscale_distance(sheet, rolled, random_state=0)
    >>> far = intrinsic_multiscale_distance(sheet, cloud, random_state=0)
    >>> far.distance > 10 * near.distance
    True
    """
    options = {
        "ts": ts,
        "n_neighbors": n_neighbors,
        "n_steps": n_steps,
        "n_probes": n_probes,
        "normalization": normalization,
        "variance_reduction": variance_reduction,
        "probes": probes,
        "neighbors": neighbors,
        "metric": metric,
        "metric_params": metric_params,
        "n_jobs": n_jobs,
    }
    if not isinstance(random_state, Integral):
        random_state = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    first, second = (
        own
        if isinstance(own, HeatTraceSignature)
        else heat_trace_signature(own, random_state=random_state, **options)
        for own in (X, Y)
    )
    return first.distance_to(second)


def _importance(ts: np.ndarray) -> np.ndarray:
    """The factor exp(-2 (t + 1 / t)) of equation 2."""
    with np.errstate(over="ignore"):
        return np.exp(-2 * (ts + 1 / ts))


def _standard_error(values: np.ndarray) -> np.ndarray:
    """Standard error of the means of columns."""
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))


def _noise_level(first: np.ndarray, second: np.ndarray) -> float:
    """Mean over draws of the largest difference of two means, if their expectations are equal.

    Deviations of the probes under normal multipliers have the covariance that the means have.
    """
    rng = np.random.default_rng(0)
    noise = 0.0
    for values in (first, second):
        multipliers = rng.normal(size=(NOISE_DRAWS, len(values)))
        scale = np.sqrt(len(values) * (len(values) - 1))
        noise = noise + multipliers @ (values - values.mean(axis=0)) / scale
    return float(np.abs(noise).max(axis=1).mean())


def _check_ts(ts: Any) -> np.ndarray:
    if ts is None:
        return np.logspace(-1, 1, 256)
    scales = check_scales(as_numpy(ts).tolist() if hasattr(ts, "shape") else ts, "ts")
    if None in scales:
        raise ValueError(f"ts={ts!r} must hold numbers; 'scale' has no meaning in a graph")
    return np.array(scales, dtype=np.float64)
