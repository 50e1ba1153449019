"""Blocks of distances between points: what each metric is, and how accurately it is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.metrics import pairwise_distances
from sklearn.metrics.pairwise import PAIRWISE_BOOLEAN_FUNCTIONS
from sklearn.neighbors import VALID_METRICS

from skmag._arrays import as_numpy, block_slices, on_host, rows_per_block

EPS = torch.finfo(torch.float64).eps

_ALIASES = {"l2": "euclidean", "l1": "cityblock", "manhattan": "cityblock"}
_TORCH_METRICS = ("euclidean", "cityblock", "chebyshev", "minkowski", "cosine")

# From this many features on a matrix product beats differences; measured on two AVX-512 cores.
GEMM_FEATURES = 24
# |a|^2 + |b|^2 - 2ab loses eps (|a|^2 + |b|^2); below this share of it the loss would pass 1e-13.
GEMM_SHARE = 1e-2
# Entries of an array of differences on the CPU, 32 MB.
_POWER_ENTRIES = 2**22
# Squares of coordinates outside these bounds lose digits or overflow.
SAFE_COORDINATES = (1e-100, 1e100)


@dataclass(frozen=True)
class Metric:
    """A distance between points.

    Parameters
    ----------
    name : str
        Name for messages.
    compute : callable
        ``compute(A, B)`` gives the distances between the rows of two tensors.
    on_host : bool, default=False
        Whether `compute` leaves torch, so that its training table is worth keeping.
    is_norm : bool, default=False
        Whether distances are a norm of differences, all of which agree on one feature.
    separates : bool, default=True
        Whether distance zero happens for equal rows only.
    positive_definite : bool, default=False
        Whether ``exp(-t d)`` is known to be positive definite on distinct points for every t.
    prepare : callable or None, default=None
        Maps validated points to what `compute` takes, for instance unit vectors.
    """

    name: str
    compute: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None
    on_host: bool = False
    is_norm: bool = False
    separates: bool = True
    positive_definite: bool = False
    prepare: Callable[[torch.Tensor, str], torch.Tensor] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def precomputed(self) -> bool:
        """Whether the caller hands over distances instead of points."""
        return self.compute is None

    def points(self, points: torch.Tensor, name: str) -> torch.Tensor:
        """Return `points` as :meth:`block` takes them; `name` is the argument to blame.

        A precomputed table of distances is returned as it is.
        """
        return points if self.prepare is None else self.prepare(points, name)

    def block(self, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        """Distances between the rows of A and B, of shape (len(A), len(B))."""
        if self.compute is None:
            raise TypeError("a precomputed metric has no blocks between points")
        return self.compute(A, B)

    def __getstate__(self) -> dict[str, Any]:
        # The functions inside are closures; the recipe that made them pickles.
        return {"name": self.name, "params": dict(self.params)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        twin = _build(state["name"], state["params"])
        for key, value in vars(twin).items():
            object.__setattr__(self, key, value)


def resolve_metric(
    metric: str | Callable[..., float],
    metric_params: Mapping[str, Any] | None,
    X: Any = None,
) -> Metric:
    """Turn the public arguments `metric` and `metric_params` into a :class:`Metric`.

    Parameters
    ----------
    metric : str or callable
        A name that scikit-learn knows, "precomputed", or a function of two vectors.
    metric_params : mapping or None
        Further arguments of the metric, such as ``{"p": 3}`` for minkowski.
    X : array, default=None
        Training points, from which "seuclidean" and "mahalanobis" learn what they need.

    Returns
    -------
    Metric
        The metric.

    Raises
    ------
    ValueError
        If the metric is unknown or its parameters make it no metric.
    """
    params = dict(metric_params or {})
    if callable(metric):
        return _host_metric(metric, params)
    name = _ALIASES.get(metric, metric)
    if name not in VALID_METRICS["brute"]:
        known = sorted(VALID_METRICS["brute"])
        raise ValueError(f"metric={metric!r} is unknown; use a callable or one of {known}")
    if name == "seuclidean" and "V" not in params and X is not None:
        params["V"] = np.var(as_numpy(X), axis=0, ddof=1)
    if name == "mahalanobis" and not {"V", "VI"} & set(params) and X is not None:
        params["VI"] = _inverse_covariance(as_numpy(X))
    return _build(name, params)


def _inverse_covariance(points: np.ndarray) -> np.ndarray:
    deviation = points.std(axis=0)
    singular = len(points) <= points.shape[1] or not deviation.all()
    if not singular:
        # Rounding decides whether a singular matrix is inverted; its rank does not depend on units.
        correlation = np.atleast_2d(np.cov((points / deviation).T))
        singular = np.linalg.matrix_rank(correlation, hermitian=True) < len(correlation)
    if singular:
        raise ValueError(
            "metric='mahalanobis' cannot learn from these points, whose covariance is singular; "
            "pass metric_params={'VI': ...}"
        )
    return np.linalg.inv(np.atleast_2d(np.cov(points.T)))


def _build(name: Any, params: dict[str, Any]) -> Metric:
    if name == "precomputed":
        return Metric(name, None, separates=False)
    if callable(name) or name not in _TORCH_METRICS or (name == "minkowski" and "w" in params):
        return _host_metric(name, params)
    if name == "minkowski":
        return _minkowski(params)
    if params:
        raise ValueError(f"metric_params={params!r} do not fit metric={name!r}, which takes none")
    if name == "cosine":
        return Metric(name, _cosine, separates=False, positive_definite=True, prepare=_unit_vectors)
    compute = {
        "euclidean": _euclidean,
        "cityblock": _cityblock,
        "chebyshev": _chebyshev,
    }[name]
    return Metric(name, compute, is_norm=True, positive_definite=name != "chebyshev")


def _minkowski(params: dict[str, Any]) -> Metric:
    unknown = set(params) - {"p"}
    if unknown:
        raise ValueError(f"metric_params has keys {sorted(unknown)} that minkowski does not take")
    p = float(params.get("p", 2.0))
    if not p >= 1:
        raise ValueError(f"metric_params['p']={p!r} must be at least 1 to give a metric")
    special = {1.0: _cityblock, 2.0: _euclidean, float("inf"): _chebyshev}
    compute = special.get(p, partial(_power_norm, p=p))
    # l_p embeds in L_p, of negative type for p <= 2 (Schoenberg); beyond 2 it need not be.
    return Metric("minkowski", compute, is_norm=True, positive_definite=p <= 2, params={"p": p})


def _rescaled(
    compute: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    A: torch.Tensor,
    B: torch.Tensor,
) -> torch.Tensor:
    """Apply a norm's `compute` within the range where squares neither overflow nor vanish."""
    sizes = A.abs().amax(1), B.abs().amax(1)
    largest = float(torch.maximum(*(size.max() for size in sizes)))
    if largest == 0 or SAFE_COORDINATES[0] < largest < SAFE_COORDINATES[1]:
        return compute(A, B)
    # A power of two rounds nothing.
    unit = 2.0 ** int(np.frexp(largest)[1] - 1)
    out = compute(A / unit, B / unit).mul_(unit)
    # Rows that vanish beside the largest ones have distances of their own.
    i, j = (torch.nonzero(size < largest * SAFE_COORDINATES[0])[:, 0] for size in sizes)
    if len(i) and len(j):
        out[i[:, None], j] = _rescaled(compute, A[i], B[j])
    return out


def _cityblock(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    return torch.cdist(A, B, p=1.0) if on_host(A) else by_planes(A, B, 1.0)


def _chebyshev(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    infinity = float("inf")
    return torch.cdist(A, B, p=infinity) if on_host(A) else by_planes(A, B, infinity)


def _power_norm(A: torch.Tensor, B: torch.Tensor, p: float) -> torch.Tensor:
    """Minkowski distance with every difference divided by the pair's greatest, so that no power
    leaves the range of floats."""
    out = torch.empty(len(A), len(B), dtype=A.dtype, device=A.device)
    size = max(1, _POWER_ENTRIES // max(1, B.numel()))
    if not on_host(A):
        size = rows_per_block(8 * (B.numel() + 4 * len(B)), len(A), A.device)
    for rows in block_slices(len(A), size):
        gap = (A[rows, None] - B).abs_()
        greatest = gap.amax(-1)
        gap.div_(greatest.clamp_min(torch.finfo(A.dtype).tiny)[..., None])
        out[rows] = gap.pow_(p).sum(-1).pow_(1 / p).mul_(greatest)
    return out


def _euclidean(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    compute = _euclidean_differences if A.shape[1] < GEMM_FEATURES else _euclidean_gemm
    return _rescaled(compute, A, B)


def _euclidean_differences(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    if not on_host(A):
        return by_planes(A, B)
    return torch.cdist(A, B, compute_mode="donot_use_mm_for_euclid_dist")


def by_planes(A: torch.Tensor, B: torch.Tensor, p: float = 2.0) -> torch.Tensor:
    """Distances by one feature after the other.

    torch's own loop over pairs starts a block of threads for each pair on CUDA, most of which have
    nothing to do where features are few.

    Parameters
    ----------
    A, B : tensors of shape (n_a, n_features) and (n_b, n_features)
        Points whose squares stay in range.
    p : {1, 2, inf}, default=2
        Order of the norm.

    Returns
    -------
    tensor of shape (n_a, n_b)
        Distances.
    """
    out = torch.zeros(len(A), len(B), dtype=A.dtype, device=A.device)
    gap = torch.empty_like(out)
    for a, b in zip(A.mT.contiguous(), B.mT.contiguous(), strict=True):
        torch.sub(a[:, None], b, out=gap)
        if p == 2:
            out.addcmul_(gap, gap)
        elif p == 1:
            out.add_(gap.abs_())
        else:
            torch.maximum(out, gap.abs_(), out=out)
    return out.sqrt_() if p == 2 else out


def _euclidean_gemm(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    return gemm_distances(A, B)[0]


def gemm_distances(
    A: torch.Tensor, B: torch.Tensor, close: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances by a matrix product where it keeps its digits, by differences elsewhere.

    Parameters
    ----------
    A, B : tensors of shape (n_a, n_features) and (n_b, n_features)
        Points whose squares stay in range.
    close : int64 tensor of shape (n_pairs, 2), default=None
        Pairs for which the product loses digits, where they are known. To find them makes the
        host wait for a device.

    Returns
    -------
    distances : tensor of shape (n_a, n_b)
        Euclidean distances.
    close : int64 tensor of shape (n_pairs, 2)
        These pairs.
    """
    center = B.mean(0)
    U, V = A - center, B - center
    squares = U.square().sum(1)[:, None] + V.square().sum(1)
    out = torch.addmm(squares, U, V.mT, alpha=-2)
    if close is None:
        close = torch.nonzero(out < squares.mul_(GEMM_SHARE))
    del squares
    out.clamp_(min=0).sqrt_()
    if 5 * len(close) > out.numel():
        return _euclidean_differences(A, B), close
    chunk = max(1, out.numel() // A.shape[1])
    for pairs in close.split(chunk):
        i, j = pairs.T
        out[i, j] = torch.linalg.vector_norm(A[i] - B[j], dim=1)
    return out, close


def _unit_vectors(points: torch.Tensor, name: str) -> torch.Tensor:
    greatest = points.abs().amax(1, keepdim=True)
    zeros = int((greatest == 0).sum())
    if zeros:
        raise ValueError(
            f"{name} has {zeros} rows of zeros, whose cosine distance is not defined; "
            "drop them or choose another metric"
        )
    # First to order one: the squares of a norm leave the range of floats before its entries do.
    points = points / greatest
    return points / torch.linalg.vector_norm(points, dim=1, keepdim=True)


def _cosine(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    return cosine_of(_euclidean(A, B))


def cosine_of(distance: torch.Tensor) -> torch.Tensor:
    """Cosine distances of unit vectors from their Euclidean ones, which are overwritten."""
    # 1 - ab = |a - b|^2 / 2 on unit vectors keeps the digits of small angles. Below a few
    # roundings of the normalization two directions are the same.
    return distance.masked_fill_(distance <= 8 * EPS, 0.0).square_().div_(2)


def _host_metric(metric: Any, params: dict[str, Any]) -> Metric:
    boolean = metric in PAIRWISE_BOOLEAN_FUNCTIONS if isinstance(metric, str) else False

    def compute(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        a, b = as_numpy(A), as_numpy(B)
        if boolean:
            a, b = a.astype(bool), b.astype(bool)
        out = pairwise_distances(a, b, metric=metric, **params)
        return _checked(torch.from_numpy(np.asarray(out, dtype=np.float64)), metric).to(A.device)

    return Metric(metric, compute, on_host=True, separates=False, params=params)


def _checked(distance: torch.Tensor, metric: Any) -> torch.Tensor:
    """Refuse what is no distance; rounding below zero becomes zero."""
    if not torch.isfinite(distance).all():
        raise ValueError(f"metric={metric!r} returned NaN or infinite distances for these points")
    rounding = 4 * EPS * float(distance.abs().max()) if distance.numel() else 0.0
    lowest = float(distance.min()) if distance.numel() else 0.0
    if lowest < -rounding:
        raise ValueError(f"metric={metric!r} returned the negative distance {lowest!r}")
    return distance.masked_fill_(distance <= rounding, 0.0)


def check_distances(distances: torch.Tensor, name: str, tolerance: float) -> None:
    """Raise ValueError unless `distances` is a symmetric table with a zero diagonal.

    Parameters
    ----------
    distances : tensor of shape (n, n)
        What the caller passed with ``metric="precomputed"``.
    name : str
        Argument to blame.
    tolerance : float
        Asymmetry that counts as rounding, as a share of the largest distance.
    """
    n, columns = distances.shape
    if n != columns:
        raise ValueError(
            f"{name} must be a square matrix of distances with metric='precomputed', "
            f"got shape {(n, columns)}"
        )
    check_non_negative(distances, name)
    allowed = tolerance * float(distances.max())
    itself = float(distances.diagonal().max())
    if itself > allowed:
        raise ValueError(f"{name} has {itself!r} on its diagonal; self-distances must be zero")
    for start in range(0, n, 1024):
        rows = slice(start, start + 1024)
        gap = (distances[rows] - distances[:, rows].mT).abs()
        if float(gap.max()) > allowed:
            i, j = divmod(int(gap.argmax()), n)
            i += start
            raise ValueError(
                f"{name} is not symmetric: {name}[{i}, {j}]={float(distances[i, j])!r} but "
                f"{name}[{j}, {i}]={float(distances[j, i])!r}"
            )


def check_non_negative(distances: torch.Tensor, name: str) -> None:
    """Raise ValueError if a precomputed distance is negative."""
    lowest = float(distances.min())
    if lowest < 0:
        raise ValueError(f"Negative values in data: {name} holds the negative distance {lowest!r}")
