"""The magnitude distance of sets from their blocks of distances, and its derivative by these."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.linalg import LinAlgWarning

from skmag._metrics import EPS
from skmag.nn._distances import refuse_graph

# Relative accuracy of the weights beyond which the user is told.
_POOR = 1e-6


def summed_distance(
    blocks: Sequence[torch.Tensor], scales: tuple[float, ...], normalized: bool
) -> torch.Tensor:
    """Magnitude distances of sets, summed over scales, through which gradients flow.

    Parameters
    ----------
    blocks : sequence of three tensors
        Distances within the first set, of shape (n_sets, n, n); between both, (n_sets, n, m); and
        within the second, (n_sets, m, m).
    scales : tuple of float
        Scales.
    normalized : bool
        Whether to divide by the magnitude of the union, at each scale.

    Returns
    -------
    float64 tensor of shape (n_sets,)
        The sums.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a similarity matrix has no Cholesky factor.
    """
    out: torch.Tensor = _MagnitudeDistance.apply(*blocks, scales, normalized)  # type: ignore[no-untyped-call]
    return out


class _Copies(NamedTuple):
    """Which points stand for their copies, and among how many each weight is shared.

    Parameters
    ----------
    first : int64 tensor of shape (n_sets, n_points)
        The first copy of each point.
    number : tensor of shape (n_sets, n_points)
        How many copies it has, itself included.
    """

    first: torch.Tensor
    number: torch.Tensor

    @classmethod
    def of(cls, coincide: torch.Tensor) -> _Copies:
        n = coincide.shape[-1]
        place = torch.arange(n, device=coincide.device)
        return cls(torch.where(coincide, place, n).amin(-1), coincide.sum(-1))

    @property
    def stands(self) -> torch.Tensor:
        """Whether a point stands for its copies."""
        return self.first == torch.arange(self.first.shape[-1], device=self.first.device)

    def shared(self, weights: torch.Tensor) -> torch.Tensor:
        """Weights of all points from those that stand for their copies."""
        return weights.gather(-1, self.first) / self.number


class _UnionCopies(NamedTuple):
    """Copies within the union, whose first set comes first, and within each set."""

    union: _Copies
    first: _Copies
    second: _Copies


def _copies(
    within_x: torch.Tensor, between: torch.Tensor, within_y: torch.Tensor
) -> _UnionCopies | None:
    """Rows that coincide, None if there are none."""
    same_x, across, same_y = within_x == 0, between == 0, within_y == 0
    n, m = between.shape[-2:]
    # Each point coincides with itself.
    if int(same_x.sum() + across.sum() + same_y.sum()) == len(between) * (n + m):
        return None
    above, below = torch.cat([same_x, across], -1), torch.cat([across.mT, same_y], -1)
    union = _Copies.of(torch.cat([above, below], -2))
    return _UnionCopies(union, _Copies.of(same_x), _Copies.of(same_y))


class _MagnitudeDistance(torch.autograd.Function):
    """Sum over scales of the distances of sets, from their blocks of distances.

    The blocks of zeta change as the distances do, d zeta = -t zeta dD, and Mag as d Mag =
    -w' dzeta w: the derivative by D_ij is t zeta_ij w_i w_j. All scales share one derivative.
    """

    @staticmethod
    def forward(
        ctx: Any,
        within_x: torch.Tensor,
        between: torch.Tensor,
        within_y: torch.Tensor,
        scales: tuple[float, ...],
        normalized: bool,
    ) -> torch.Tensor:
        blocks = within_x, between, within_y
        wanted = ctx.needs_input_grad[:3]
        slopes = [
            torch.zeros_like(block, dtype=torch.float64) if wants else None
            for block, wants in zip(blocks, wanted, strict=True)
        ]
        total = within_x.new_zeros(len(within_x), dtype=torch.float64)
        copies = _copies(*blocks)
        for t in scales:
            total += _one_scale(blocks, t, normalized, copies, slopes)
        ctx.save_for_backward(*slopes)
        ctx.dtypes = [block.dtype for block in blocks]
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        refuse_graph("The magnitude distance")
        grad = grads[0][:, None, None]
        slopes = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        given = [None if slope is None else (slope * grad).to(dtype) for slope, dtype in slopes]
        return (*given, None, None)


def _one_scale(
    blocks: tuple[torch.Tensor, ...],
    t: float,
    normalized: bool,
    copies: _UnionCopies | None,
    slopes: list[torch.Tensor | None],
) -> torch.Tensor:
    """Distances at one scale; their derivatives by the blocks are added to `slopes`."""
    zeta = [torch.exp(block.to(torch.float64, copy=True).mul_(-t)) for block in blocks]
    first, second, union = _parts(zeta, t, copies)
    whole = first.magnitude + union.magnitude
    # Growth beyond the first set is a sum of squares; that beyond the second one is a difference,
    # which rounding must not make negative.
    distance = union.magnitude + (whole - second.magnitude).clamp_min(0.0)
    out = distance / whole if normalized else distance
    if all(slope is None for slope in slopes):
        return out
    w_x, w_y = first.weights(), second.weights()
    # The union's weights follow by elimination: first those of the second set.
    v_y = union.weights()
    v_x = first.weights(union.cross @ v_y[..., None])
    if copies is not None:
        w_x, w_y = copies.first.shared(w_x), copies.second.shared(w_y)
        v = copies.union.shared(torch.cat([v_x, v_y], -1))
        v_x, v_y = v.tensor_split([v_x.shape[-1]], -1)
    # By the union's magnitude and by those of the sets, of 2 - (Mag X + Mag Y) / Mag(X u Y) or of
    # what that is divided by.
    by_union = (2 * whole - distance) / whole.square() if normalized else torch.full_like(whole, 2)
    by_parts = 1 / whole if normalized else torch.ones_like(whole)
    by_union, by_parts = t * by_union[:, None], t * by_parts[:, None]
    for slope, similarity, v, w in ((slopes[0], zeta[0], v_x, w_x), (slopes[2], zeta[2], v_y, w_y)):
        if slope is not None:
            products = (by_union * v)[:, :, None] * v[:, None]
            products.baddbmm_((by_parts * w)[:, :, None], w[:, None], alpha=-1)
            slope.addcmul_(similarity, products)
    if slopes[1] is not None:
        slopes[1].addcmul_(zeta[1], (2 * by_union * v_x)[:, :, None] * v_y[:, None])
    return out


class _Part(NamedTuple):
    """Points whose similarities, less what points before them explain, are L L'.

    Parameters
    ----------
    lower : tensor of shape (n_sets, n_points, n_points)
        The factors L.
    explained : tensor of shape (n_sets, n_points)
        L^-1 applied to what is left of the ones.
    cross : tensor of shape (n_sets, n_before, n_points)
        L_before^-1 times the similarities to the points before them.
    """

    lower: torch.Tensor
    explained: torch.Tensor
    cross: torch.Tensor

    @property
    def magnitude(self) -> torch.Tensor:
        """What the points add to the magnitude of those before them."""
        return self.explained.square().sum(-1)

    def weights(self, less: torch.Tensor | None = None) -> torch.Tensor:
        right = self.explained[..., None]
        right = right if less is None else right - less
        return torch.linalg.solve_triangular(self.lower.mT, right, upper=True)[..., 0]


def _parts(
    zeta: list[torch.Tensor], t: float, copies: _UnionCopies | None
) -> tuple[_Part, _Part, _Part]:
    """The first set, the second set, and the second set where the first is there already."""
    within_x, between, within_y = zeta
    n, m = between.shape[-2:]
    ones_x, ones_y = within_x.new_ones(len(between), n), within_x.new_ones(len(between), m)
    joining = ones_y
    own_y = within_y
    if copies is not None:
        stands_x, stands_y = copies.first.stands, copies.second.stands
        joins = copies.union.stands[:, n:]
        ones_x, ones_y, joining = (part.double() for part in (stands_x, stands_y, joins))
        within_x, own_y = _only(within_x, stands_x), _only(within_y, stands_y)
        within_y = _only(within_y, joins)
        between = between * (stands_x[:, :, None] & joins[:, None])
    first = _part(within_x, ones_x, between[..., :0], t)
    second = _part(own_y, ones_y, between[..., :0], t)
    cross = torch.linalg.solve_triangular(first.lower, between, upper=False)
    left = torch.baddbmm(within_y, cross.mT, cross, alpha=-1)
    rest = joining - (cross.mT @ first.explained[..., None])[..., 0]
    return first, second, _part(left, rest, cross, t)


def _only(similarity: torch.Tensor, stands: torch.Tensor) -> torch.Tensor:
    """Similarities in which the other points are far from everything; they get no right side."""
    kept = similarity * (stands[:, :, None] & stands[:, None])
    kept.diagonal(dim1=-2, dim2=-1).fill_(1.0)
    return kept


def _part(matrix: torch.Tensor, ones: torch.Tensor, cross: torch.Tensor, t: float) -> _Part:
    lower, info = torch.linalg.cholesky_ex(matrix)
    # What its elimination left of a point's similarity to itself, which is one.
    share = float(
        torch.where(info == 0, lower.diagonal(dim1=-2, dim2=-1).square().amin(-1), 0).min()
    )
    if share == 0:
        raise np.linalg.LinAlgError(
            f"The similarity matrix of {matrix.shape[-1]} points at t={t!r} has no Cholesky "
            "factor: points nearly coincide, or t is so small that all similarities are one. Use "
            "a larger t, or make points equal that are meant to be equal."
        )
    if 10 * EPS / share > _POOR:
        warnings.warn(
            f"Among {matrix.shape[-1]} points at t={t!r} some nearly coincide: weights of "
            f"neighbours, and gradients by them, are accurate to a relative {10 * EPS / share:.0e} "
            "only; the loss is not concerned. Make points equal that are meant to be equal.",
            LinAlgWarning,
            stacklevel=2,
        )
    explained = torch.linalg.solve_triangular(lower, ones[..., None], upper=False)[..., 0]
    return _Part(lower, explained, cross)
