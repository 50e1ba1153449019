"""The magnitude distance of two sets of points as a loss, with the gradient of a solve."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from skmag._scale import check_scale, check_scales
from skmag.nn._distances import (
    check_points,
    computing_dtype,
    refuse_graph,
    union_distances,
)

_AGGREGATES = ("sum", "mean", None)
_REDUCTIONS = ("mean", "sum", "none")


def magnitude_distance_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    t: float | Sequence[float] = 1.0,
    *,
    normalized: bool = False,
    aggregate: str | None = "sum",
    reduction: str = "mean",
) -> torch.Tensor:
    """Compute the magnitude distance between sets of points, differentiably.

    It is ``2 Mag(X u Y) - Mag(X) - Mag(Y)`` at scale t in Euclidean space, and the same as
    :func:`skmag.magnitude_distance`.

    Parameters
    ----------
    input : tensor of shape (..., n_points, n_features)
        Sets of points, such as what a generator made.
    target : tensor of shape (..., m_points, n_features)
        Sets of points to compare them with, one for each set of `input`.
    t : float or sequence of float, default=1.0
        Positive scale that multiplies the distances, or several.
    normalized : bool, default=False
        Whether to divide by the magnitude of the union. The distance of sets that are far apart
        then tends to 1.
    aggregate : {"sum", "mean"} or None, default="sum"
        What to make of several scales; None keeps them apart in a last dimension.
    reduction : {"mean", "sum", "none"}, default="mean"
        What to make of several sets.

    Returns
    -------
    tensor
        The loss: float64 if one of the arguments is, else float32. Without a reduction it has the
        leading shape of `input`.

    Raises
    ------
    TypeError
        If an argument is not a tensor of floating-point numbers.
    ValueError
        If shapes do not fit, a point is not finite, a scale is not positive, or an option is
        unknown.
    numpy.linalg.LinAlgError
        If the similarity matrix of a union has no Cholesky factor: its distances at scale t are
        near 1e-14, or points nearly coincide at that scale.

    See Also
    --------
    MagnitudeDistanceLoss : The same as a module.
    MagnitudeCurriculum : Scales that join the loss one after the other.
    skmag.magnitude_distance : Any metric and solver, for arrays of any kind, without a gradient.

    Notes
    -----
    With zeta w = 1 the magnitude changes by ``-w' dzeta w``, so that the gradient needs no more
    than the weights: for each scale, one Cholesky factor of the union, whose leading block is that
    of `input`, and one of `target`. They are made in float64, whatever the type of the points: the
    rounding of float32 would cost small scales their positive definiteness. Distances are made in
    the type of the points, under autocast in float32, where features are many and no points
    nearly coincide.

    Rows that coincide are one point (Theorem 4.1), whose weight they share equally. Moving all
    copies of a point changes the loss as the sum of their gradients says. The distance of a pair
    that coincides has no derivative; it passes no gradient on.

    At scales at which two batches of data have little in common, the distance that is not
    normalized favours a generator that makes one point only: to first order in similarities it is
    the number of points less the similarities within the sets and four times those between them, so
    that points of one set attract each other. The normalized distance does not, to that order.

    The loss cannot be differentiated twice.

    References
    ----------
    S. Torkamani, H. Gouk, R. Sarkar, "Magnitude distance: a geometric measure of dataset
    similarity", Definition 4.2 and section 6.

    Examples
    --------
    >>> import torch
    >>> from skmag.nn import magnitude_distance_loss
    >>> made = torch.tensor([[0.5], [3.0]], requires_grad=True)
    >>> loss = magnitude_distance_loss(made, torch.tensor([[0.0], [1.0]]), t=1.0)
    >>> loss.backward()
    >>> round(loss.item(), 4), [round(slope, 4) for slope in made.grad[:, 0].tolist()]
    (1.1925, [0.1402, 0.2798])
    """
    scales = _checked_scales(t)
    if aggregate not in _AGGREGATES:
        raise ValueError(f"aggregate={aggregate!r} is unknown; use one of {list(_AGGREGATES)}")
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction={reduction!r} is unknown; use one of {list(_REDUCTIONS)}")
    _check_sets(input, target)
    dtype = computing_dtype(input, target)
    blocks = union_distances(input.to(dtype), target.to(dtype))
    flat = [block.reshape(-1, *block.shape[-2:]) for block in blocks]
    if aggregate is None:
        total = torch.stack([_summed(flat, (scale,), normalized) for scale in scales], -1)
    else:
        total = _summed(flat, scales, normalized)
        if aggregate == "mean":
            total = total / len(scales)
    total = total.to(dtype)
    if reduction == "none":
        return total.reshape(input.shape[:-2] + total.shape[1:])
    return total.mean(0) if reduction == "mean" else total.sum(0)


class MagnitudeDistanceLoss(nn.Module):
    """Loss that is the magnitude distance between sets of points.

    Parameters
    ----------
    t : float or sequence of float, default=1.0
        Positive scale that multiplies the distances, or several. It may be assigned anew while a
        network is trained, for instance what :meth:`MagnitudeCurriculum.at` gives.
    normalized : bool, default=False
        Whether to divide by the magnitude of the union.
    aggregate : {"sum", "mean"} or None, default="sum"
        What to make of several scales; None keeps them apart in a last dimension.
    reduction : {"mean", "sum", "none"}, default="mean"
        What to make of several sets.

    See Also
    --------
    magnitude_distance_loss : The same as a function, with all that is to be known.
    MagnitudeGenerativeNetwork : A generator that is trained with it.

    References
    ----------
    S. Torkamani, H. Gouk, R. Sarkar, "Magnitude distance: a geometric measure of dataset
    similarity", Definition 4.2 and section 6.

    Examples
    --------
    >>> import torch
    >>> from skmag.nn import MagnitudeDistanceLoss
    >>> criterion = MagnitudeDistanceLoss([0.1, 1.0], normalized=True)
    >>> points = torch.arange(6.0).reshape(3, 2)
    >>> criterion(points, points).item()
    0.0
    """

    def __init__(
        self,
        t: float | Sequence[float] = 1.0,
        *,
        normalized: bool = False,
        aggregate: str | None = "sum",
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self.t = t
        self.normalized = normalized
        self.aggregate = aggregate
        self.reduction = reduction

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compute the loss.

        Parameters
        ----------
        input : tensor of shape (..., n_points, n_features)
            Sets of points, such as what a generator made.
        target : tensor of shape (..., m_points, n_features)
            Sets of points to compare them with.

        Returns
        -------
        tensor
            The loss.
        """
        return magnitude_distance_loss(
            input,
            target,
            self.t,
            normalized=self.normalized,
            aggregate=self.aggregate,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        """Describe the parameters, for ``repr``.

        Returns
        -------
        str
            Parameters and their values.
        """
        return (
            f"t={self.t!r}, normalized={self.normalized!r}, aggregate={self.aggregate!r}, "
            f"reduction={self.reduction!r}"
        )


def _checked_scales(t: float | Sequence[float]) -> tuple[float, ...]:
    scales = [check_scale(t)] if isinstance(t, (str, Real)) else check_scales(t, "t")
    if None in scales:
        raise ValueError(
            f"t={t!r} must be a positive number or some of them: the scale of a loss is no "
            "property of a batch. MagnitudeCurriculum.from_data proposes scales from data"
        )
    return tuple(scale for scale in scales if scale is not None)


def _check_sets(input: torch.Tensor, target: torch.Tensor) -> None:
    check_points(input, "input")
    check_points(target, "target")
    if input.shape[:-2] != target.shape[:-2] or input.shape[-1] != target.shape[-1]:
        raise ValueError(
            f"input has shape {tuple(input.shape)} but target has {tuple(target.shape)}; all "
            "dimensions but the number of points must agree"
        )
    if input.device != target.device:
        raise ValueError(f"input is on {input.device} but target is on {target.device}")


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


def _summed(
    blocks: Sequence[torch.Tensor], scales: tuple[float, ...], normalized: bool
) -> torch.Tensor:
    """Sum over scales of the distances of sets."""
    out: torch.Tensor = _MagnitudeDistance.apply(*blocks, scales, normalized)  # type: ignore[no-untyped-call]
    return out


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
    if info.any():
        raise np.linalg.LinAlgError(
            f"The similarity matrix of {matrix.shape[-1]} points at t={t!r} has no Cholesky "
            "factor: points nearly coincide, or t is so small that all similarities are one. Use "
            "a larger t, or make points equal that are meant to be equal."
        )
    explained = torch.linalg.solve_triangular(lower, ones[..., None], upper=False)[..., 0]
    return _Part(lower, explained, cross)
