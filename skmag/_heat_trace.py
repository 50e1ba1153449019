"""The heat trace of a neighbourhood graph: the graph, its Laplacian, and stochastic quadrature.

Everything here is in numpy and scipy.sparse. The normalized Laplacian is L = I - S, where S is the
normalized adjacency matrix with eigenvalues x in [-1, 1]; functions of L are written in S, since
the control variates are polynomials in x.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.special import ive
from sklearn.base import clone
from sklearn.neighbors import KNeighborsTransformer

from skmag._arrays import as_numpy, block_slices, check_points, rows_per_block
from skmag._input import MetricLike, check_2d
from skmag._metrics import resolve_metric

PROBES = ("rademacher", "normal")
VARIANCE_REDUCTIONS = ("chebyshev", "linear", "taylor", None)
NORMALIZATIONS = ("empty", "erdos_renyi", "complete", "none")

DEGREE = 4
"""Of the Chebyshev control: tr S^4 is the squared norm of S^2, and S^6 would need S^3."""

PLAIN_STEPS = 20
"""Lanczos steps up to which rounding leaves the basis orthogonal enough (appendix A)."""

BREAKDOWN = 1e-10
"""A coupling this small changes the quadrature by its square: the subspace is invariant."""

# Metrics that see differences of coordinates, whose neighbours move and rescale with the points.
_MOVABLE = ("euclidean", "l2", "minkowski", "cityblock", "manhattan", "l1", "chebyshev")


def check_choices(normalization: Any, variance_reduction: Any, probes: Any) -> None:
    """Raise ValueError for a name that none of the tables above knows."""
    for name, value, known in (
        ("normalization", normalization, NORMALIZATIONS),
        ("variance_reduction", variance_reduction, VARIANCE_REDUCTIONS),
        ("probes", probes, PROBES),
    ):
        if value not in known:
            raise ValueError(f"{name}={value!r} is unknown; use one of {list(known)}")


def graph_from(
    X: Any,
    n_neighbors: int,
    neighbors: Any,
    metric: MetricLike,
    metric_params: dict[str, Any],
    n_jobs: int | None,
) -> sp.csr_array:
    """Adjacency matrix: the caller's own, or that of the nearest neighbours, exact or a library's.

    Parameters
    ----------
    X : array-like
        Points, distances or a graph.
    n_neighbors : int
        Number of nearest others that each point names.
    neighbors : transformer, "precomputed" or None
        Who finds them; "precomputed" takes X for the graph.
    metric : str or callable
        As for :class:`~sklearn.neighbors.KNeighborsTransformer`.
    metric_params : dict
        Further arguments of the metric.
    n_jobs : int or None
        Number of jobs of the exact search.

    Returns
    -------
    csr_array of shape (n, n)
        Symmetric and non-negative.

    Raises
    ------
    ValueError
        If an argument is not usable, or a point has too few others.
    """
    if neighbors is not None and (metric != "euclidean" or metric_params):
        raise ValueError(
            f"metric={metric!r} with metric_params={metric_params!r} has no effect on "
            f"neighbors={neighbors!r}, which has a metric of its own; leave both out"
        )
    if isinstance(neighbors, str):
        if neighbors != "precomputed":
            raise ValueError(
                f"neighbors={neighbors!r} must be 'precomputed', a transformer or None"
            )
        return _given_graph(X)
    precomputed = isinstance(metric, str) and metric == "precomputed"
    if precomputed and sp.issparse(X):
        stored = check_points(X, "X", accept_sparse="csr")
        _check_square(stored, "metric='precomputed'")
        return neighbour_graph(stored, n_neighbors, "X")
    points = np.asarray(as_numpy(check_2d(X, "X")), dtype=np.float64)
    if len(points) <= n_neighbors:
        raise ValueError(
            f"X has {len(points)} points, and each needs n_neighbors={n_neighbors} others; give "
            "more points or a smaller n_neighbors"
        )
    if neighbors is not None:
        stored = _transformed(neighbors, points)
        return neighbour_graph(stored, n_neighbors, f"neighbors={neighbors!r}")
    if precomputed:
        _check_square(points, "metric='precomputed'")
    if isinstance(metric, str) and metric in _MOVABLE:
        points = _centred(points)
    if not precomputed:
        resolved = resolve_metric(metric, metric_params, points)
        if isinstance(metric, str) and metric in ("seuclidean", "mahalanobis"):
            metric_params = dict(resolved.params)
    others = {key: value for key, value in metric_params.items() if key != "p"}
    exact = KNeighborsTransformer(
        n_neighbors=n_neighbors,
        metric=metric,
        p=metric_params.get("p", 2),
        metric_params=others,
        n_jobs=n_jobs,
    )
    return neighbour_graph(exact.fit_transform(points), n_neighbors, "X")


def _centred(points: np.ndarray) -> np.ndarray:
    """Points moved to their mean and rescaled by a power of two, which changes no neighbour.

    scikit-learn's neighbours square coordinates, which cancel far from zero and leave the range of
    floats in extreme units.
    """
    unit = 2.0 ** int(np.frexp(np.abs(points).max())[1])
    points = points / unit
    points = points - points.mean(axis=0)
    greatest = np.abs(points).max()
    return points / 2.0 ** int(np.frexp(greatest)[1]) if greatest > 0 else points


def neighbour_graph(stored: Any, n_neighbors: int, name: str) -> sp.csr_array:
    """Return the k-nearest-neighbour graph by OR construction: an edge if either end names it.

    Parameters
    ----------
    stored : sparse array of shape (n, n)
        In row i the distances from point i to some others, zeros among them stored. What a row
        says of its own point does not count.
    n_neighbors : int
        Number of nearest others that each point names.
    name : str
        Argument to blame.

    Returns
    -------
    csr_array of shape (n, n)
        Symmetric, of ones.

    Raises
    ------
    ValueError
        If a row has fewer than `n_neighbors` others, or a distance is negative or NaN.
    """
    table = sp.csr_array(stored).astype(np.float64)
    table.sum_duplicates()
    table = table.tocoo()
    other = table.row != table.col
    rows, columns, distances = table.row[other], table.col[other], table.data[other]
    n = stored.shape[0]
    counts = np.bincount(rows, minlength=n)
    if counts.min() < n_neighbors:
        raise ValueError(
            f"{name} gives row {counts.argmin()} only {counts.min()} neighbours besides itself, "
            f"n_neighbors={n_neighbors} are needed"
        )
    if not (distances >= 0).all():
        raise ValueError(f"{name} gives a distance of {distances.min():g}; it must not be negative")
    order = np.lexsort((distances, rows))
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    nearest = order[rank < n_neighbors]
    named = sp.csr_array((np.ones(len(nearest)), (rows[nearest], columns[nearest])), shape=(n, n))
    return sp.csr_array(named.maximum(named.T))


def normalized_adjacency(adjacency: sp.csr_array) -> sp.csr_array:
    """Return S = D^-1/2 A D^-1/2 for symmetric non-negative weights, loops left out.

    A node without edges keeps its heat: its eigenvalue of L is 0, of S 1, so that the empty graph
    of n nodes has the heat trace n, by which "empty" normalizes.
    """
    graph = adjacency - sp.diags_array(adjacency.diagonal())
    degrees = np.asarray(graph.sum(axis=1)).ravel()
    alone = degrees == 0
    half = sp.diags_array(1 / np.sqrt(np.where(alone, 1.0, degrees)))
    return sp.csr_array(half @ graph @ half + sp.diags_array(alone.astype(np.float64)))


def random_probes(n: int, n_probes: int, kind: str, seed: int) -> Iterator[np.ndarray]:
    """Yield probes of length sqrt(n) one by one: the same whatever the blocks they are used in.

    Normal ones are brought to that length, as the authors' are, which takes away the variance of
    their lengths and leaves the expectation.
    """
    rng = np.random.default_rng(seed)
    for _ in range(n_probes):
        if kind == "rademacher":
            yield 2.0 * rng.integers(0, 2, size=n) - 1.0
        else:
            probe = rng.normal(size=n)
            yield probe * (np.sqrt(n) / np.linalg.norm(probe))


def quadrature(S: sp.csr_array, starts: np.ndarray, n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss quadratures of the spectral measures of S at some vectors, by Lanczos (section 3.4).

    Parameters
    ----------
    S : csr_array of shape (n, n)
        Symmetric.
    starts : ndarray of shape (n, n_vectors)
        Starting vectors, none zero.
    n_steps : int
        Lanczos steps; never more than n are made.

    Returns
    -------
    nodes : ndarray of shape (n_vectors, n_steps)
        Quadrature nodes, eigenvalues of the tridiagonal matrices.
    weights : ndarray of shape (n_vectors, n_steps)
        Weights, which sum to one for each vector.
    """
    steps = min(n_steps, S.shape[0])
    tridiagonal = np.zeros((starts.shape[1], steps, steps))
    basis: list[np.ndarray] = []
    current = starts / np.linalg.norm(starts, axis=0)
    previous, beta = np.zeros_like(current), np.zeros(starts.shape[1])
    for j in range(steps):
        step = S @ current - beta * previous
        alpha = _dot(step, current)
        tridiagonal[:, j, j] = alpha
        if j + 1 == steps:
            break
        step -= alpha * current
        if steps > PLAIN_STEPS:
            basis.append(current)
            # Twice is enough to be orthogonal to rounding.
            for vector in (*basis, *basis):
                step -= _dot(step, vector) * vector
        beta = np.linalg.norm(step, axis=0)
        # Where the subspace is invariant the rest is zero, which decouples, so its weights are 0.
        beta[beta < BREAKDOWN] = 0.0
        tridiagonal[:, j, j + 1] = tridiagonal[:, j + 1, j] = beta
        previous, current = current, step * (beta > 0) / np.where(beta > 0, beta, 1.0)
    nodes, vectors = np.linalg.eigh(tridiagonal)
    return nodes, vectors[:, 0] ** 2


def control_coefficients(control: str | None, ts: np.ndarray, most: int) -> np.ndarray:
    """Coefficients of the powers of x in a polynomial p_t(x) near exp(-t (1 - x)).

    Parameters
    ----------
    control : {"chebyshev", "linear", "taylor"} or None
        "taylor" is equation 12, the expansion at the eigenvalue 0 of L; "linear" is equation 15
        with alpha = exp(-t), the expansion at 1; "chebyshev" is the truncated Chebyshev series,
        near the best polynomial on the whole spectrum.
    ts : ndarray of shape (n_ts,)
        Scales.
    most : int
        Greatest degree, at least 1.

    Returns
    -------
    ndarray of shape (n_ts, degree + 1)
        Coefficients.
    """
    # Any polynomial will do where t is so large that none is near and Bessel functions fail.
    ts = np.minimum(ts, 1e6)
    if control is None:
        powers = [np.zeros_like(ts)]
    elif control == "linear":
        slope = ts * np.exp(-ts)
        powers = [1 - slope, slope]
    elif control == "taylor":
        powers = [1 - ts + ts**2 / 2, ts - ts**2, ts**2 / 2]
    else:
        # exp(-t (1 - x)) = sum of (2 - [j = 0]) exp(-t) I_j(t) T_j(x), I_j Bessel functions.
        c = [(j <= most) * (2 - (j == 0)) * ive(j, ts) for j in range(DEGREE + 1)]
        powers = [c[0] - c[2] + c[4], c[1] - 3 * c[3], 2 * c[2] - 8 * c[4], 4 * c[3], 8 * c[4]]
    return np.stack(powers[: most + 1], 1)


def power_traces(S: sp.csr_array, degree: int) -> np.ndarray:
    """Exact traces of S^0 to S^degree for a degree of at most 4.

    S^2 is met a block of rows at a time: nodes of many neighbours make it dense.
    """
    traces = [float(S.shape[0]), S.diagonal().sum(), (S.data**2).sum(), 0.0, 0.0]
    if degree > 2:
        for rows in _square_blocks(S):
            block = S[rows]
            square = block @ S
            traces[3] += block.multiply(square).sum()
            traces[4] += (square.data**2).sum()
    return np.array(traces[: degree + 1])


def heat_traces(
    S: sp.csr_array,
    starts: Iterator[np.ndarray],
    n_probes: int,
    ts: np.ndarray,
    n_steps: int,
    control: str | None,
) -> np.ndarray:
    """Estimate the heat trace from each probe alone; the mean over probes is the estimate.

    Parameters
    ----------
    S : csr_array of shape (n, n)
        Normalized adjacency matrix.
    starts : iterator of ndarrays of shape (n,)
        Probes of length sqrt(n).
    n_probes : int
        Their number.
    ts : ndarray of shape (n_ts,)
        Scales.
    n_steps : int
        Lanczos steps.
    control : {"chebyshev", "linear", "taylor"} or None
        Polynomial that is subtracted under the quadrature, and whose exact trace is added.

    Returns
    -------
    ndarray of shape (n_probes, n_ts)
        Estimates.
    """
    n, steps = S.shape[0], min(n_steps, S.shape[0])
    # m nodes integrate degree 2 m - 1 exactly; beyond that the control would not be cancelled.
    coefficients = control_coefficients(control, ts, 2 * steps - 1)
    exact = coefficients @ power_traces(S, coefficients.shape[1] - 1)
    vectors = 8 + (steps if steps > PLAIN_STEPS else 0)
    size = rows_per_block(8 * (n * vectors + steps * (2 * len(ts) + 3 * steps)), n_probes)
    out = np.empty((n_probes, len(ts)))
    for rows in block_slices(n_probes, size):
        block = np.stack([next(starts) for _ in range(rows.stop - rows.start)], 1)
        x, weights = quadrature(S, block, n_steps)
        # Rounding must not make heat grow.
        x = np.clip(x, -1, 1)
        heat = np.einsum("pm,pmt->pt", weights, np.exp((x - 1)[..., None] * ts))
        moments = (x[..., None] ** np.arange(coefficients.shape[1]) * weights[..., None]).sum(1)
        out[rows] = n * (heat - moments @ coefficients.T) + exact
    return out


def null_trace(normalization: str, n: int, degree: float, ts: np.ndarray) -> np.ndarray:
    """Heat trace of the null model that a signature is divided by (section 4.5 and C.4).

    Parameters
    ----------
    normalization : {"empty", "erdos_renyi", "complete", "none"}
        Graph without edges; random graph, whose eigenvalues are taken to be n equally spaced
        numbers between 1 - 2 / sqrt(degree) and 1 + 2 / sqrt(degree); complete graph; nothing.
    n : int
        Number of nodes.
    degree : float
        Degree of the random graph.
    ts : ndarray of shape (n_ts,)
        Scales.

    Returns
    -------
    ndarray of shape (n_ts,)
        Heat trace.

    Raises
    ------
    ValueError
        If the eigenvalues of the random graph would not lie between 0 and 2.
    """
    if normalization == "none":
        return np.ones_like(ts)
    if normalization == "empty" or n == 1:
        return np.full_like(ts, n)
    if normalization == "complete":
        return 1 + (n - 1) * np.exp(-ts * n / (n - 1))
    if degree < 4:
        raise ValueError(
            f"normalization='erdos_renyi' needs a degree of at least 4, got {degree:g}: below, the "
            "eigenvalues that the paper gives the random graph are negative; choose a larger "
            "n_neighbors or normalization='empty'"
        )
    lowest, gap = 1 - 2 / np.sqrt(degree), 4 / np.sqrt(degree) / (n - 1)
    trace = np.exp(-ts * lowest) * np.expm1(-ts * gap * n) / np.expm1(-ts * gap)
    if not trace.all():
        raise ValueError(
            f"ts={float(ts[trace == 0].min())!r} is so large that the heat trace of the random "
            "graph underflows; use smaller ts or normalization='empty'"
        )
    return trace


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Inner products of columns."""
    return np.einsum("nb,nb->b", a, b)


def _square_blocks(S: sp.csr_array) -> Iterator[slice]:
    """Consecutive rows of S whose part of S^2 fits the working memory, at least one at a time."""
    stored = np.diff(S.indptr)
    cost = np.cumsum(S.astype(bool).astype(np.int64) @ stored)
    start, n = 0, S.shape[0]
    while start < n:
        done = cost[start - 1] if start else 0
        # An entry of S^2 takes a value and an index, and as much again while it is made.
        budget = rows_per_block(32, int(cost[-1]))
        stop = max(start + 1, int(np.searchsorted(cost, done + budget, side="right")))
        yield slice(start, stop)
        start = stop


def _transformed(neighbors: Any, points: np.ndarray) -> Any:
    """What a library's transformer says of the points' neighbours."""
    if not hasattr(neighbors, "fit_transform"):
        raise ValueError(
            f"neighbors={neighbors!r} has no fit_transform; use an object like scikit-learn's "
            "KNeighborsTransformer, 'precomputed' or None"
        )
    stored = clone(neighbors, safe=False).fit_transform(points)
    n = len(points)
    if not sp.issparse(stored) or stored.shape != (n, n):
        raise ValueError(
            f"neighbors={neighbors!r} did not return a sparse matrix of shape ({n}, {n})"
        )
    return stored


def _check_square(matrix: Any, why: str) -> None:
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"X has the shape {matrix.shape}; with {why} it must be square")


def _given_graph(X: Any) -> sp.csr_array:
    """A caller's graph, an edge in either direction counting with the greater weight."""
    checked = check_points(X, "X", accept_sparse="csr")
    graph = sp.csr_array(checked if sp.issparse(checked) else as_numpy(checked))
    graph = graph.astype(np.float64)
    _check_square(graph, "neighbors='precomputed'")
    if graph.nnz and graph.data.min() < 0:
        raise ValueError(
            f"X has a negative weight, {graph.data.min():g}; with neighbors='precomputed' it is a "
            "graph, whose weights are not negative"
        )
    graph.eliminate_zeros()
    return sp.csr_array(graph.maximum(graph.T))
