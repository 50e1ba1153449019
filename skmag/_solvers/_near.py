"""Answers for queries from the points near them, where a factor of all points is out of reach.

For a query z and the k points N nearest to it, one small solve with zeta over N and z gives the
column (x_z, x_N) of a sparse inverse Cholesky factor, as :mod:`skmag._solvers._sparse_inverse` has
it. With the kriging coefficients c = -x_N / x_z,

    r(z)     <= 1 / x_z^2                           fewer points leave more room
    h(z)     ~  h_S(z) + c' rho(N),   rho = 1 - h_S

where h_S is the potential of the centers S, whose weighting is exact (two levels), or zero.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from skmag._arrays import block_slices, on_host, rows_per_block, scaled_exp
from skmag._metrics import EPS, Metric
from skmag._similarity import Similarity
from skmag._solvers._base import Factor, Probe
from skmag._solvers._dimension import exponent, has_coordinates
from skmag._solvers._neighbors import NearPoints
from skmag._solvers._parameters import check_positive_integer
from skmag._solvers._solution import Certificate, Solution
from skmag._solvers._sparse import solve_sparse
from skmag._solvers._sparse_inverse import columns_within, distances_within
from skmag._solvers._unmet import warn_unmet

# Conditioning points: on a plane fewer surround a query.
_PLANE_NEIGHBORS, _NEIGHBORS = 20, 30
# Entries of the small systems that are solved together on the CPU; four such arrays fit a cache.
_CACHED_ENTRIES = 2**18
# Exponents beyond this are no different from it, and sums of two stay finite.
_FAR = 1e300
# Points whose residuals tell how much more near points would explain.
_ERROR_SAMPLE = 100
# Near points from which on their number is not doubled to tell.
_MANY = 64
# Greatest ratio between steps of the residual's logarithm that a sum is taken of.
_SLOWEST = 0.9


class NearFactor(Factor):
    """Conditions each query on the points nearest to it, and solves for weights when asked.

    Parameters
    ----------
    similarity : Similarity
        Points under a norm or the cosine distance.
    n_neighbors : int
        Points that each query is conditioned on; all, where there are no more.
    tol : float, default=1e-6
        Relative tolerance of the magnitude.
    solver_params : dict, default=None
        Further arguments of the sparse solver.
    residuals_only : bool, default=False
        Whether potentials, too, may be those of the near points alone, so that no weights are
        needed: enough to settle ties between residuals.
    """

    name = "sparse"

    def __init__(
        self,
        similarity: Similarity,
        n_neighbors: int,
        tol: float = 1e-6,
        solver_params: dict[str, Any] | None = None,
        *,
        residuals_only: bool = False,
    ) -> None:
        self.similarity = similarity
        self.n_neighbors = n_neighbors
        self.tol = tol
        self.solver_params = dict(solver_params or {})
        self.residuals_only = residuals_only
        self.solution: Solution | None = None
        self._centers: torch.Tensor | None = None
        self._rho: torch.Tensor | None = None
        self._index: NearPoints | None = None

    @classmethod
    def prepare(cls, similarity: Similarity, spent: Factor | None = None) -> NearFactor:
        return cls.of(similarity)

    @classmethod
    def of(
        cls,
        similarity: Similarity,
        tol: float = 1e-6,
        solver_params: dict[str, Any] | None = None,
        *,
        residuals_only: bool = False,
    ) -> NearFactor:
        """Make the factor with the number of neighbours that `solver_params` or the data name.

        Raises
        ------
        ValueError
            If the points have no coordinates, or the number of neighbours is none.
        """
        if not has_coordinates(similarity.metric) or similarity.points is None:
            raise ValueError(
                f"solver='sparse' needs points under a norm or the cosine distance, not "
                f"metric={similarity.metric.name!r}; use solver='cholesky'"
            )
        asked = (solver_params or {}).get("n_neighbors")
        if asked is not None:
            n_neighbors = check_positive_integer(asked, "n_neighbors")
        else:
            plane = similarity.points.shape[1] <= 2
            n_neighbors = _PLANE_NEIGHBORS if plane else _NEIGHBORS
        return cls(similarity, n_neighbors, tol, solver_params, residuals_only=residuals_only)

    def __getstate__(self) -> dict[str, Any]:
        # The index is made again, in less time than a tree takes to be read.
        return {**super().__getstate__(), "_index": None}

    def to(self, device: torch.device) -> NearFactor:
        moved = super().to(device)
        moved._index = None
        return moved

    @property
    def needs_weights(self) -> bool:
        """Whether answers take the weights, which are solved for then."""
        return not self.residuals_only

    def complete(self) -> NearFactor:
        """The same factor, with answers that take the weights."""
        out = NearFactor(self.similarity, self.n_neighbors, self.tol, self.solver_params)
        out.solution, out._index = self.solved(), self._index
        return out

    @property
    def index(self) -> NearPoints:
        """The points, ready to be searched."""
        if self._index is None:
            self._index = NearPoints(self.similarity)
        return self._index

    def solved(self) -> Solution:
        """The weights, by the sparse solver."""
        solution = self.solution
        if solution is None:
            solution = solve_sparse(self.similarity, tol=self.tol, **self.solver_params)
            warn_unmet(solution, self.tol)
            self.solution = solution
        return solution

    def magnitude(self) -> float:
        return self.solved().certificate.magnitude

    def weighting(self) -> tuple[torch.Tensor, float]:
        return self.solved().weights, self.magnitude()

    def certificate(self, weights: torch.Tensor, magnitude: float) -> Certificate:
        return self.solved().certificate

    def derivative(self, weights: torch.Tensor) -> float:
        return self.similarity.derivative_form(weights)

    def probe_bytes(self) -> int:
        assert self.similarity.points is not None
        width = min(self.n_neighbors, len(self.similarity)) + 1
        n_features = self.similarity.points.shape[1]
        centers = 0 if self.residuals_only else 32 * len(self.centers)
        return 8 * width * (6 * width + 3 * n_features) + centers

    def probe(self, Z: torch.Tensor, weights: torch.Tensor) -> Probe:
        k = min(self.n_neighbors, len(self.similarity))
        near, distance = self._sorted(Z, self.index.query(Z, k))
        return self._answered(Z, near, distance, two_levels=self.needs_weights)

    def left_out(self, weights: torch.Tensor, points: torch.Tensor) -> Probe:
        probe = self._near_left_out(points)
        if not self.needs_weights:
            return probe
        # With p = (zeta^-1)_ii = 1 / r the deficit is w / p, as for every factor.
        deficit = weights[points] * probe.residual
        return replace(probe, potential=1 - deficit, deficit=deficit)

    def inverse_diagonal(self, points: torch.Tensor | None = None) -> torch.Tensor:
        every = torch.arange(len(self.similarity), device=self.similarity.device)
        return self._near_left_out(every if points is None else points).residual.reciprocal()

    def inverse_columns(self, points: torch.Tensor) -> torch.Tensor:
        assert self.similarity.points is not None
        out = self.similarity.counts.new_zeros(len(self.similarity), len(points))
        place = torch.arange(len(points), device=points.device)
        if len(self.similarity) > 1:
            near, distance = self._others(points)
            x = self._columns(self.similarity.points[points], near, distance)
            out[near.mT, place] = (x[:, 1:] * x[:, :1]).mT
            out[points, place] = x[:, 0].square()
        else:
            out[points, place] = 1.0
        return out

    def extended(self, similarity: Similarity) -> NearFactor:
        return self._over(similarity)

    def dropped(self, similarity: Similarity, kept: torch.Tensor) -> NearFactor:
        return self._over(similarity)

    def residual_error(self) -> float:
        """Estimate by how much residuals are too large, as a share of the true ones.

        Each doubling of the near points lowers the logarithm of a residual by some step. The steps
        of three doublings are measured, and those to come are taken to form a geometric series.

        Returns
        -------
        float
            The estimate for a typical point, from up to 100 of them, each left out: 0.0 where all
            points are near.
        """
        n, k = len(self.similarity), self.n_neighbors
        drawn = np.random.default_rng(0).choice(n, min(n, _ERROR_SAMPLE), replace=False)
        points = torch.from_numpy(np.sort(drawn)).to(self.similarity.device)
        # Where the points are many already, what fewer leave tells as much.
        sizes = [max(1, k * more // (1 if k <= _MANY else 8)) for more in (1, 2, 4, 8)]
        logs, own = [], math.nan
        for size in sizes:
            near = NearFactor(self.similarity, size, residuals_only=True)
            near._index = self.index
            logs.append(float(near._near_left_out(points).residual.log().mean()))
            own = logs[-1] if size == k else own
            if size >= n - 1:
                return math.expm1(own - logs[-1]) if size > k else 0.0
        last, before = logs[2] - logs[3], logs[1] - logs[2]
        ratio = min(last / before, _SLOWEST) if before > 0 else 0.0
        return math.expm1(own - logs[3] + max(0.0, last * ratio / (1 - ratio)))

    def _over(self, similarity: Similarity) -> NearFactor:
        return NearFactor(
            similarity,
            self.n_neighbors,
            self.tol,
            self.solver_params,
            residuals_only=self.residuals_only,
        )

    def _near_left_out(self, points: torch.Tensor) -> Probe:
        """What the points near some distinct points say of these, by one level."""
        assert self.similarity.points is not None
        if len(self.similarity) == 1:
            return _alone(points)
        parts = []
        size = rows_per_block(self.probe_bytes(), len(points), points.device)
        for rows in block_slices(len(points), size):
            own = points[rows]
            Z = self.similarity.points[own]
            parts.append(self._answered(Z, *self._others(own), two_levels=False))
        fields = zip(*(vars(part).values() for part in parts), strict=True)
        probe = Probe(*(torch.cat(values) for values in fields))
        return replace(probe, on_point=torch.zeros_like(probe.on_point), nearest=points)

    def _others(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Points near some distinct points, and their distances, without these points."""
        assert self.similarity.points is not None
        Z = self.similarity.points[points]
        k = min(self.n_neighbors + 1, len(self.similarity))
        near, distance = self._sorted(Z, self.index.query(Z, k))
        # The own point goes to the end, and out; were it not found among points that rounding does
        # not tell apart, the farthest one goes.
        order = (near == points[:, None]).to(torch.int8).argsort(dim=1, stable=True)[:, :-1]
        return near.gather(1, order), distance.gather(1, order)

    def _sorted(self, Z: torch.Tensor, near: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Near points and their distances by true differences, nearest first."""
        assert self.similarity.points is not None
        distance = _distances_to(self.similarity.metric, Z, self.similarity.points[near])
        distance, order = distance.sort(dim=1, stable=True)
        return near.gather(1, order), distance

    def _columns(self, Z: torch.Tensor, near: torch.Tensor, distance: torch.Tensor) -> torch.Tensor:
        """Columns of U at each query and its near points, of shape (n_queries, k + 1)."""
        similarity = self.similarity
        assert similarity.points is not None
        width = near.shape[1] + 1
        out = torch.empty(len(Z), width, dtype=torch.float64, device=Z.device)
        size = max(1, _CACHED_ENTRIES // width**2) if on_host(Z) else len(Z)
        for rows in block_slices(len(Z), max(1, size)):
            group = torch.cat([similarity.points[near[rows]], Z[rows, None]], 1)
            within = _distances_among(similarity.metric, group)
            within[-1, :-1] = within[:-1, -1] = distance[rows].mT
            within.mul_(similarity.t).clamp_max_(_FAR)
            out[rows] = columns_within(within, None, is_norm=similarity.metric.is_norm)
        return out

    def _answered(
        self, Z: torch.Tensor, near: torch.Tensor, distance: torch.Tensor, *, two_levels: bool
    ) -> Probe:
        """Answers for queries from sorted near points."""
        nearest, on_point = distance[:, 0], distance[:, 0] == 0
        ones = torch.ones_like(nearest)
        probe = Probe(
            ones.clone(), 0 * ones, 0 * ones, ones, on_point, nearest.clone(), near[:, 0].clone()
        )
        off = torch.nonzero(~on_point)[:, 0]
        if not len(off):
            return probe
        Z, near, distance = Z[off], near[off], distance[off]
        x = self._columns(Z, near, distance)
        coefficient = x[:, 1:] / -x[:, :1]
        residual = x[:, 0].square().reciprocal()
        # The nearest point alone explains exp(-2 t d); no residual can exceed the rest.
        most = torch.expm1(-2 * self.similarity.t * distance[:, 0]).neg_()
        probe.residual[off] = residual.maximum(EPS * most).minimum(most)
        k = torch.exp(distance * -self.similarity.t)
        probe.explained[off] = (coefficient * k).sum(1)
        if not two_levels:
            probe.potential[off] = coefficient.sum(1)
            probe.deficit[off] = 1 - coefficient.sum(1)
        else:
            by_centers, left = self._center_potentials(Z)
            near_left = (coefficient * self.rho()[near]).sum(1)
            probe.potential[off] = by_centers + near_left
            probe.deficit[off] = left - near_left
        return probe

    def rho(self) -> torch.Tensor:
        """What the centers leave of each point's potential, 1 - h_S; zero on centers."""
        rho = self._rho
        if rho is None:
            assert self.similarity.points is not None
            rho = self._center_potentials(self.similarity.points)[1]
            rho[self.centers] = 0.0
            self._rho = rho
        return rho

    @property
    def centers(self) -> torch.Tensor:
        """Points of the first level."""
        if self._centers is None:
            weights = self.solved().center_weights
            assert weights is not None
            self._centers = torch.nonzero(weights)[:, 0]
        return self._centers

    def _center_potentials(self, Z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """h_S and 1 - h_S of queries; at small t the latter by one step of elimination."""
        similarity, support = self.similarity, self.centers
        assert similarity.points is not None
        weights = self.solved().center_weights
        assert weights is not None
        centers, w, t = similarity.points[support], weights[support], similarity.t
        potential = torch.empty(len(Z), dtype=torch.float64, device=Z.device)
        left = torch.empty_like(potential)
        size = rows_per_block(32 * len(support), max(1, len(Z)), Z.device)
        for rows in block_slices(len(Z), size):
            block = similarity.metric.block(Z[rows], centers)
            if similarity.nearly_constant:
                # Points are relative to the anchor, the first one, which is a center.
                a = similarity.metric.block(Z[rows], similarity.points[:1])[:, 0] * t
                room = (a[:, None] + t * similarity.anchor[support]).sub_(block, alpha=t)
                block.mul_(-t).exp_().mul_(room.neg_().expm1_().neg_())
                left[rows] = torch.expm1(-a).neg_() - block @ w
                potential[rows] = 1 - left[rows]
            else:
                scaled_exp(block, -t, block)
                potential[rows] = block @ w
                left[rows] = 1 - potential[rows]
        return potential, left


def _distances_to(metric: Metric, Z: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Distances from each query to its own points, of shape (n_queries, n_points)."""
    unit = _units(torch.maximum(_greatest(others), _greatest(Z[:, None])))
    gap = others / unit - Z[:, None] / unit
    if metric.name == "cosine":
        return gap.mul_(unit).square_().sum(2).div_(2)
    return torch.linalg.vector_norm(gap, ord=exponent(metric), dim=2).mul_(unit[..., 0])


def _distances_among(metric: Metric, group: torch.Tensor) -> torch.Tensor:
    """Distances within each group of points, of shape (size, size, n_groups)."""
    unit = _units(_greatest(group))
    scaled = group / unit
    if not on_host(group):
        distance = distances_within(metric, scaled.transpose(0, 1))
        return distance if metric.name == "cosine" else distance.mul_(unit[:, 0, 0])
    mode = "donot_use_mm_for_euclid_dist"
    distance = torch.cdist(scaled, scaled, p=exponent(metric), compute_mode=mode)
    distance = distance.mul_(unit).permute(1, 2, 0).contiguous()
    return distance.square_().div_(2) if metric.name == "cosine" else distance


def _greatest(group: torch.Tensor) -> torch.Tensor:
    """Greatest coordinate of each group, in absolute value, of shape (n_groups, 1, 1)."""
    return group.abs().amax((1, 2), keepdim=True)


def _units(greatest: torch.Tensor) -> torch.Tensor:
    """Powers of two in units of which no power of a difference leaves the floats."""
    # Division by them rounds nothing. Half of them, as twice the greatest float is none.
    power = torch.frexp(greatest)[1] - 1
    return torch.where(greatest > 0, torch.ldexp(torch.ones_like(greatest), power), 1.0)


def _alone(points: torch.Tensor) -> Probe:
    """What nothing says of the only point there is."""
    one = torch.ones(len(points), dtype=torch.float64, device=points.device)
    none = torch.zeros_like(points, dtype=torch.bool)
    return Probe(0 * one, one, one.clone(), 0 * one, none, one * torch.inf, points)
