"""What every solver promises: a factor of zeta that answers a weighting's questions."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch

from skmag._arrays import Portable, block_slices, rows_per_block
from skmag._metrics import EPS
from skmag._similarity import Similarity
from skmag._solvers._certificate import certify
from skmag._solvers._solution import Certificate

# Below this excess of (zeta^-1)_ii over one, too few of its digits are left.
_LONELY = 1e-6
# Right sides solved together: wide enough for matrix products.
_BLOCK = 512


_WRAPPERS = ("skmag", "joblib", "sklearn")


class NotPositiveDefiniteWarning(UserWarning):
    """The similarity matrix is not positive definite, so bounds and signs are not guaranteed.

    Weights and magnitude still solve ``zeta w = 1``, but residuals, gains and losses may be
    negative and the magnitude may fall when points join. The warning is raised for spaces that
    are not of negative type, such as many graphs with their shortest-path distance.

    Examples
    --------
    >>> import warnings
    >>> from skmag import NotPositiveDefiniteWarning
    >>> warnings.simplefilter("ignore", NotPositiveDefiniteWarning)
    >>> warnings.resetwarnings()
    """


class IndefiniteError(ArithmeticError):
    """A Cholesky factorization met a pivot that is not positive."""


@dataclass(frozen=True)
class Probe:
    """What a weighting of X says of query points z, with k = zeta(z, X).

    Complements are kept beside their values because the one that is small holds the digits.

    Parameters
    ----------
    potential : tensor of shape (n_queries,)
        h = k w.
    deficit : tensor of shape (n_queries,)
        1 - h.
    residual : tensor of shape (n_queries,)
        r = 1 - k zeta^-1 k'.
    explained : tensor of shape (n_queries,)
        1 - r.
    on_point : bool tensor of shape (n_queries,)
        Whether the query is a point of X.
    nearest_distance : tensor of shape (n_queries,)
        Distance to the nearest point; of a point that was left out, to the nearest other.
    nearest : tensor of shape (n_queries,)
        Index of that point among the distinct ones.
    """

    potential: torch.Tensor
    deficit: torch.Tensor
    residual: torch.Tensor
    explained: torch.Tensor
    on_point: torch.Tensor
    nearest_distance: torch.Tensor
    nearest: torch.Tensor


class Factor(Portable, ABC):
    """A solver's state for one similarity, made by :meth:`prepare`.

    Solvers differ in how they hold zeta; the questions are the same. Vectors over the points are
    *anchored* (see :mod:`skmag._similarity`): zero at the first point.
    """

    name: str

    similarity: Similarity
    definite: bool = True

    @property
    def needs_weights(self) -> bool:
        """Whether answers take the weights of :meth:`weighting`; else any tensor will do."""
        return True

    @classmethod
    @abstractmethod
    def prepare(cls, similarity: Similarity, spent: Factor | None = None) -> Factor:
        """Factor `similarity`; raise IndefiniteError if that needs a positive definite one.

        The memory of a `spent` factor of as many points may be used again.
        """

    @abstractmethod
    def magnitude(self) -> float:
        """Sum of the weights."""

    @abstractmethod
    def weighting(self) -> tuple[torch.Tensor, float]:
        """Weights of the distinct points, and their sum, which keeps more digits than summing."""

    @abstractmethod
    def inverse_diagonal(self, points: torch.Tensor | None = None) -> torch.Tensor:
        """Diagonal of zeta^-1, for some points or all."""

    @abstractmethod
    def inverse_columns(self, points: torch.Tensor) -> torch.Tensor:
        """Columns of zeta^-1 that belong to `points`."""

    @abstractmethod
    def left_out(self, weights: torch.Tensor, points: torch.Tensor) -> Probe:
        """What the set without a point says of that point, for distinct `points`.

        `weights` are those of :meth:`weighting`.
        """

    @abstractmethod
    def derivative(self, weights: torch.Tensor) -> float:
        """Derivative of the magnitude in t."""

    @abstractmethod
    def probe(self, Z: torch.Tensor, weights: torch.Tensor) -> Probe:
        """Answer for prepared query points, few enough for one block.

        `weights` are those of :meth:`weighting`.
        """

    @abstractmethod
    def probe_bytes(self) -> int:
        """Bytes that one query point takes while it is answered."""

    def potentials(self, Z: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Potentials of prepared query points, few enough for one block."""
        return self.probe(Z, weights).potential

    def certificate(self, weights: torch.Tensor, magnitude: float) -> Certificate:
        """What is proven of `magnitude`, by one product in float64 with `weights`."""
        return certify(self.similarity, weights, magnitude=magnitude)

    def extended(self, similarity: Similarity) -> Factor:
        """Factor of `similarity`, whose first points are this factor's."""
        return self.prepare(similarity)

    def dropped(self, similarity: Similarity, kept: torch.Tensor) -> Factor:
        """Factor of `similarity`, which holds the points `kept` of this factor's."""
        return self.prepare(similarity)


class AnchoredFactor(Factor):
    """A factor that solves ``S x = b`` for the anchored matrix S; all questions follow.

    With a = zeta(., x_0) and u = 1 - a (computed as -expm1(-t d)), one step of elimination gives

        weights    w_i = (S^-1 u)_i, and w_0 = 1 - a' w
        magnitude  1 + u' S^-1 u
        1 - h(z)   (1 - k_0) - s w
        r(z)       (1 - k_0^2) - s S^-1 s',   s the row of S that belongs to z.
    """

    @abstractmethod
    def solve(self, B: torch.Tensor) -> torch.Tensor:
        """Return S^-1 B for anchored columns B."""

    @abstractmethod
    def quadratic(self, B: torch.Tensor) -> torch.Tensor:
        """Return the diagonal of B' S^-1 B for anchored columns B."""

    def anchored_ones(self) -> torch.Tensor:
        """Return u = 1 - zeta(., x_0), a column."""
        anchor = self.similarity.anchor
        return torch.expm1(-self.similarity.t * anchor).neg_()[:, None]

    def anchor_column(self) -> torch.Tensor:
        """Return zeta(., x_0) without its first entry, as an anchored column."""
        column = torch.exp(-self.similarity.t * self.similarity.anchor)[:, None]
        column[0] = 0.0
        return column

    def magnitude(self) -> float:
        return 1.0 + float(self.quadratic(self.anchored_ones())[0])

    def weighting(self) -> tuple[torch.Tensor, float]:
        ones = self.anchored_ones()
        w = self.solve(ones)[:, 0]
        w[0] = 0.0
        magnitude = 1.0 + float(ones[:, 0] @ w)
        w[0] = 1 - self.anchor_column()[:, 0] @ w
        return w, magnitude

    def probe(self, Z: torch.Tensor, weights: torch.Tensor) -> Probe:
        query = self.similarity.query(Z)
        joint = query.anchored @ weights
        explained = self.quadratic(query.anchored.mT)
        k = torch.exp(-query.anchor_distance)
        return self._settled(
            Probe(
                potential=k + joint,
                deficit=torch.expm1(-query.anchor_distance).neg_() - joint,
                residual=torch.expm1(-2 * query.anchor_distance).neg_() - explained,
                explained=k.square() + explained,
                on_point=query.nearest_distance == 0,
                nearest_distance=query.nearest_distance,
                nearest=query.nearest,
            )
        )

    def _settled(self, probe: Probe) -> Probe:
        """Settle what rounding leaves open: queries on points, and the bounds of r."""
        if self.definite:
            # The nearest point alone explains exp(-2 t d); no residual can exceed the rest.
            most = torch.expm1(-2 * self.similarity.t * probe.nearest_distance).neg_()
            noise = EPS * most
            probe.residual.copy_(probe.residual.maximum(noise).minimum(most))
        probe.potential[probe.on_point] = 1.0
        probe.deficit[probe.on_point] = 0.0
        probe.residual[probe.on_point] = 0.0
        probe.explained[probe.on_point] = 1.0
        return probe

    def left_out(self, weights: torch.Tensor, points: torch.Tensor) -> Probe:
        # With p = (zeta^-1)_ii the residual is 1 / p and 1 - h is w / p, so that one factor serves
        # every point (weighting-vector-applications, section 2.2).
        diagonal = self.inverse_diagonal(points)
        residual = diagonal.reciprocal()
        deficit = weights[points] * residual
        potential, explained = 1 - deficit, (diagonal - 1) * residual
        nearest = torch.full_like(residual, torch.inf)
        size = rows_per_block(self.probe_bytes(), _BLOCK, points.device)
        for rows in block_slices(len(points), size):
            distance = self.similarity.distances_of(points[rows])
            others = torch.exp(distance * -self.similarity.t)
            index = torch.arange(len(others), device=others.device)
            others[index, points[rows]] = 0.0
            distance[index, points[rows]] = torch.inf
            nearest[rows] = distance.min(dim=1).values
            lonely = torch.nonzero(diagonal[rows] - 1 < _LONELY)[:, 0]
            if len(lonely):
                # Where little is explained, 1 - w / p and 1 - 1 / p cancel; the sums over the
                # others, with the column of zeta^-1 that belongs to the point, do not.
                own = lonely + rows.start
                column = self.inverse_columns(points[own])
                missed = -(others[lonely] * column.mT).sum(1)
                explained[own] = missed * residual[own]
                potential[own] = others[lonely] @ weights + missed * deficit[own]
        return Probe(
            potential=potential,
            deficit=deficit,
            residual=residual,
            explained=explained,
            on_point=torch.zeros_like(points, dtype=torch.bool),
            nearest_distance=nearest,
            nearest=points,
        )

    def derivative(self, weights: torch.Tensor) -> float:
        return self.similarity.derivative_form(weights)

    def probe_bytes(self) -> int:
        return 48 * len(self.similarity)

    def inverse_diagonal(self, points: torch.Tensor | None = None) -> torch.Tensor:
        n, device = len(self.similarity), self.similarity.device
        index = torch.arange(n, device=device) if points is None else points
        out = torch.empty(len(index), dtype=torch.float64, device=device)
        for columns in block_slices(len(index), rows_per_block(self.probe_bytes(), _BLOCK, device)):
            out[columns] = self.quadratic(self._unit_columns(index[columns]))
        if bool((index == 0).any()):
            # Partitioned inverse: the anchor's entry is 1 + a' S^-1 a.
            out[index == 0] = 1.0 + float(self.quadratic(self.anchor_column())[0])
        return out

    def inverse_columns(self, points: torch.Tensor) -> torch.Tensor:
        a = self.anchor_column()
        right = self._unit_columns(points)
        right[:, points == 0] = -a
        out = self.solve(right)
        out[0] = (points == 0).to(out.dtype) - a[:, 0] @ out
        return out

    def _unit_columns(self, index: torch.Tensor) -> torch.Tensor:
        shape = (len(self.similarity), len(index))
        unit = torch.zeros(shape, dtype=torch.float64, device=index.device)
        unit[index, torch.arange(len(index), device=index.device)] = 1.0
        return unit


def singular_share(n: int) -> float:
    """Share of a diagonal entry below which the pivot left of it is rounding.

    Errors of n subtractions add up like a random walk; 8 is the margin that tells exactly singular
    graphs from the closest pairs that still have digits.
    """
    return 8 * float(n) ** 0.5 * EPS


def refuse_singular(similarity: Similarity, why: str) -> np.linalg.LinAlgError:
    """Return the error for a similarity matrix without an inverse, naming the closest pair."""
    i, j, distance = similarity.closest_pair()
    return np.linalg.LinAlgError(
        f"the similarity matrix of n={len(similarity)} distinct points at t={similarity.t!r} is "
        f"singular in floating point ({why}). The closest distinct points are rows {i} and {j}, "
        f"at distance {distance!r}: if they are the same point, make them equal (equal rows are "
        "merged); otherwise the space has no unique weighting at this t, try another t."
    )


def stack_level() -> int:
    """Level at which a warning of this function's caller points to the user's line.

    Frames of this package and of joblib's and scikit-learn's wrappers around it are passed over;
    inside a worker thread none other is left, and the outermost is as good as any.
    """
    frame, level = sys._getframe(1), 1
    # Code that is executed with globals of its own may have no name.
    while (
        frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in _WRAPPERS
    ):
        frame, level = frame.f_back, level + 1
    return level
