"""The magnitude distance of two sets of points as a loss, with the gradient of a solve."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import torch
from torch import nn

from skmag._scale import check_scale, check_scales
from skmag.nn._distances import (
    check_points,
    computing_dtype,
    union_distances,
)
from skmag.nn._union_distance import summed_distance

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

    Warns
    -----
    scipy.linalg.LinAlgWarning
        If points coincide so nearly that the weights of neighbours, and with them the gradient,
        have lost all but six digits or more; the message says how many are left.

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
        total = torch.stack([summed_distance(flat, (scale,), normalized) for scale in scales], -1)
    else:
        total = summed_distance(flat, scales, normalized)
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
    if isinstance(t, torch.Tensor) and t.requires_grad:
        raise ValueError(
            "t requires a gradient, but the loss has none by its scale; pass t.detach()"
        )
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
