"""Euclidean distances between points that a network made, and how they change with the points."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from skmag._metrics import GEMM_FEATURES, resolve_metric

_EUCLIDEAN = resolve_metric("euclidean", None)
# Ratio of the smallest to the largest distance from which on float32 holds three digits of the
# weights.
_NEARLY_COINCIDENT = 1e-3
# Squares of distances outside these bounds leave the range of float32.
_SAFE_DISTANCES = (1e-15, 1e15)


def euclidean_distances(X: torch.Tensor, Y: torch.Tensor | None = None) -> torch.Tensor:
    """Distances between points, through which gradients flow back to the points.

    Parameters
    ----------
    X : tensor of shape (..., n_points, n_features)
        Points in float32 or float64.
    Y : tensor of shape (..., m_points, n_features), default=None
        Other points of the same kind; None stands for `X`.

    Returns
    -------
    tensor of shape (..., n_points, m_points)
        Distances, zero exactly for equal rows. In float64 where features are few enough for that
        to cost nothing, elsewhere in the type of `X` and accurate to its last digits for close
        pairs, too. A distance of zero passes no gradient on: it is the mean of the gradients from
        opposite sides.
    """
    lead = X.shape[:-2]
    first = X.reshape(-1, *X.shape[-2:])
    second = None if Y is None else Y.reshape(-1, *Y.shape[-2:])
    found: torch.Tensor = _Distances.apply(first, second)  # type: ignore[no-untyped-call]
    return found.reshape(*lead, *found.shape[-2:])


def union_distances(
    X: torch.Tensor, Y: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Distances within a set, between it and another one, and within that.

    What tells points apart that nearly coincide are small differences between their distances to
    all others, which float32 does not hold. Where there are such points, or squares leave the range
    of float32, all is done in float64.

    Parameters
    ----------
    X, Y : tensors of shape (..., n_points, n_features) and (..., m_points, n_features)
        The sets, of one type.

    Returns
    -------
    tuple of tensors
        As :func:`euclidean_distances` gives them.
    """
    blocks = euclidean_distances(X), euclidean_distances(X, Y), euclidean_distances(Y)
    if blocks[1].dtype == torch.float64:
        return blocks
    parts = [block.detach() for block in blocks]
    least = min(float(torch.where(part > 0, part, torch.inf).min()) for part in parts)
    greatest = max(float(part.max()) for part in parts)
    low, high = _SAFE_DISTANCES
    if least > _NEARLY_COINCIDENT * greatest and low < greatest < high:
        return blocks
    X, Y = X.double(), Y.double()
    return euclidean_distances(X), euclidean_distances(X, Y), euclidean_distances(Y)


def computing_dtype(*tensors: torch.Tensor) -> torch.dtype:
    """float64 if one of the tensors is float64, else float32, whatever a cast made of them."""
    double = any(values.dtype == torch.float64 for values in tensors)
    return torch.float64 if double else torch.float32


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Within it a matrix product keeps the type of its factors."""
    return torch.autocast(device.type, enabled=False)


def check_points(points: Any, name: str) -> None:
    """Raise unless `points` is a tensor of finite points; `name` is the argument to blame."""
    if not isinstance(points, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(points).__name__}")
    if not points.is_floating_point():
        raise TypeError(f"{name} must hold floating-point numbers, got {points.dtype}")
    if points.ndim < 2:
        raise ValueError(
            f"{name} has shape {tuple(points.shape)}, expected (..., n_points, n_features)"
        )
    if points.layout != torch.strided:
        raise TypeError(
            f"{name} must be a dense tensor, got {points.layout}; pass {name}.to_dense()"
        )
    if not points.numel():
        raise ValueError(f"{name} has shape {tuple(points.shape)}: it holds no points")
    bad = ~torch.isfinite(points.detach())
    if bad.any():
        *_, row = place = torch.nonzero(bad.any(-1))[0].tolist()
        where = f"row {row}" if len(place) == 1 else f"row {row} of set {tuple(place[:-1])}"
        raise ValueError(
            f"{name} holds NaN or infinity in {int(bad.any(-1).sum())} of its points, the first "
            f"in {where}; a smaller learning rate or clipped gradients keep a network finite"
        )


def refuse_graph(name: str) -> None:
    """Raise within a backward pass that is to be differentiated itself."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"{name} cannot be differentiated twice: call backward without create_graph, or "
            "compute the penalty that needs it from other losses"
        )


class _Distances(torch.autograd.Function):
    """Distances of batches of points; each row of the derivative is a unit vector or zero."""

    @staticmethod
    def forward(ctx: Any, X: torch.Tensor, Y: torch.Tensor | None) -> torch.Tensor:
        with without_autocast(X.device):
            # Few features are computed by differences, whose cost the type hardly changes.
            dtype = torch.float64 if X.shape[-1] < GEMM_FEATURES else X.dtype
            A = X.to(dtype)
            B = A if Y is None else Y.to(dtype)
            found = torch.stack([_EUCLIDEAN.block(a, b) for a, b in zip(A, B, strict=True)])
        ctx.save_for_backward(X, Y, found)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        refuse_graph("A distance between points")
        X, Y, found = ctx.saved_tensors
        (grad,) = grads
        with without_autocast(X.device):
            if Y is None:
                grad = grad + grad.mT
            pull = torch.where(found == 0, 0.0, grad / found)
            # What the origin is does not matter, but digits are lost far from it.
            center = (X if Y is None else Y).to(found.dtype).mean(-2, keepdim=True)
            A = X.to(found.dtype) - center
            if Y is None:
                return _pulled(pull, A, A).to(X.dtype), None
            B = Y.to(found.dtype) - center
            wants_x, wants_y = ctx.needs_input_grad
            return (
                _pulled(pull, A, B).to(X.dtype) if wants_x else None,
                _pulled(pull.mT, B, A).to(Y.dtype) if wants_y else None,
            )


def _pulled(pull: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    """Sum over j of pull_ij (a_i - b_j)."""
    return torch.baddbmm(A * pull.sum(-1, keepdim=True), pull, B, alpha=-1)
