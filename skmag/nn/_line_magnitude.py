"""The magnitude of numbers as points of the real line, where it has a closed form."""

from __future__ import annotations

import math
from typing import Any

import torch

from skmag._arrays import as_numpy, float64_device, on_host
from skmag._scale import check_scale
from skmag.nn._distances import refuse_graph


def line_magnitude(values: torch.Tensor, t: float = 1.0) -> torch.Tensor:
    """Compute the magnitude of numbers as points of the real line.

    With the numbers in order it is ``1 + sum(tanh(t * gap / 2))`` over the gaps between neighbours.
    Half of its cost is a sort; with its gradient it takes about twice as long.

    Parameters
    ----------
    values : tensor of a floating-point type
        Numbers, in any shape. Copies and their order change nothing.
    t : float, default=1.0
        Positive scale that multiplies the distances. There is no gradient in it.

    Returns
    -------
    tensor of shape ()
        Magnitude, between 1 and the number of distinct values, computed in float64; of the dtype
        of `values`, but float32 for float16 and bfloat16. It can be differentiated once.

    Raises
    ------
    TypeError
        If `values` is not a tensor of a floating-point type.
    ValueError
        If `values` is empty or holds NaN or infinite numbers, if `t` is not a positive number,
        or if it requires a gradient.

    See Also
    --------
    MagnitudeRegularizer : The same for the weights of a network.
    skmag.magnitude : Magnitude of points with any number of features.

    Notes
    -----
    Where ``left`` and ``right`` are the gaps beside a point, the derivative in that point is
    ``t / 2 * (sech(t * left / 2) ** 2 - sech(t * right / 2) ** 2)``, without the first term for the
    smallest value and without the second for the largest. It is computed without cancellation.

    The magnitude has a kink where two values meet. Copies share the derivative of the point that
    they are; for two copies that is the mean of the derivatives from either side.

    The transforms of :mod:`torch.func` (``grad``, ``vmap`` and the like) are not supported.

    References
    ----------
    T. Leinster, "The magnitude of metric spaces", Documenta Mathematica 18 (2013), Theorem 2.4.14.

    Examples
    --------
    >>> import torch
    >>> from skmag.nn import line_magnitude
    >>> values = torch.tensor([0.0, 3.0, 1.0], requires_grad=True)
    >>> magnitude = line_magnitude(values)
    >>> round(magnitude.item(), 4)
    2.2237
    >>> magnitude.backward()
    >>> values.grad
    tensor([-0.3932,  0.2100,  0.1832])
    """
    check_floats(values, "values")
    scale = check_positive(t, "t")
    out: torch.Tensor = _LineMagnitude.apply(values, scale)  # type: ignore[no-untyped-call]
    return out


def check_floats(values: Any, name: str) -> None:
    """Raise TypeError unless `values` is a tensor of a floating-point type."""
    if not isinstance(values, torch.Tensor) or not values.is_floating_point():
        kind = values.dtype if isinstance(values, torch.Tensor) else type(values).__name__
        raise TypeError(f"{name} must be a tensor of a floating-point type, got {kind}")


def check_positive(t: Any, name: str) -> float:
    """Return a scale as a float; raise ValueError unless it is a positive finite number."""
    check_constant(t, name)
    value = check_scale(t, name)
    if value is None:
        raise ValueError(f"{name}={t!r} must be a positive finite number")
    return value


def check_constant(t: Any, name: str) -> None:
    """Raise ValueError for a scale that waits for a gradient, which would never come."""
    if isinstance(t, torch.Tensor) and t.requires_grad:
        raise ValueError(f"{name} requires a gradient, which is not computed; pass {name}.detach()")


class _LineMagnitude(torch.autograd.Function):
    """The function above for checked arguments."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, t: float) -> torch.Tensor:
        precision = torch.promote_types(values.dtype, torch.float32)
        order, position, counts = _ordered_points(values.detach().reshape(-1).to(precision))
        # Two numbers of opposite sign can be farther apart than floats go.
        gap = position.diff().clamp_(max=torch.finfo(position.dtype).max)
        if ctx.needs_input_grad[0]:
            slope = torch.empty(len(order), dtype=precision, device=values.device)
            shared = (_slopes(gap, t) / counts).to(slope)
            slope[order] = shared.repeat_interleave(counts)
            ctx.save_for_backward(slope)
            ctx.shape, ctx.dtype = values.shape, values.dtype
        magnitude = 1 + torch.tanh(gap * (t / 2)).sum()
        return magnitude.to(device=values.device, dtype=precision)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        refuse_graph("The magnitude of numbers")
        (slope,) = ctx.saved_tensors
        # The product is rounded last: in half precision small slopes alone would vanish.
        return (gradient * slope).reshape(ctx.shape).to(ctx.dtype), None


def _ordered_points(
    values: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Order of `values`, the distinct ones in float64, and how many copies there are of each."""
    if not len(values):
        raise ValueError("values is empty; the magnitude of nothing is not defined here")
    if on_host(values):
        # numpy's sort is the faster one on the CPU.
        order = torch.from_numpy(as_numpy(values).argsort()).to(values.device)
        values = values[order]
    else:
        values, order = torch.sort(values)
    # NaN is sorted behind everything.
    ends = values[0].item(), values[-1].item()
    if not all(map(math.isfinite, ends)):
        raise ValueError("values contains NaN or infinite numbers")
    point, counts = torch.unique_consecutive(values, return_counts=True)
    return order, point.to(device=float64_device(point.device), dtype=torch.float64), counts


def _slopes(gap: torch.Tensor, t: float) -> torch.Tensor:
    """Derivative of the magnitude in each of the distinct points between which there are `gap`.

    With u = exp(-t left) and v = exp(-t right), sech^2 is 4 u / (1 + u)^2, and the difference of
    two of them 4 (u - v) (1 - u v) / ((1 + u)^2 (1 + v)^2), whose factors keep all their digits.
    """
    if not len(gap):
        return gap.new_zeros(1)
    beyond = gap.new_full((1,), torch.inf)
    left, right = torch.cat([beyond, gap]), torch.cat([gap, beyond])
    similarity = torch.exp(-t * gap)
    u = torch.cat([similarity.new_zeros(1), similarity])
    v = torch.cat([similarity, similarity.new_zeros(1)])
    closer = torch.expm1((right - left).abs_().mul_(-t)).mul_(torch.maximum(u, v)).neg_()
    difference = torch.copysign(closer, right - left)
    joint = torch.expm1((left + right).mul_(-t)).neg_()
    below = (1 + u).mul_(1 + v).square_()
    # Twice the greatest t would overflow.
    return difference.mul_(joint).div_(below).mul_(2).mul_(t)
