"""How well each class represents points, relative to all the data, with the gradient of an inverse.

Of a set with similarity matrix K and weights w = K^-1 1, the potential of z is k(z) w. What the set
without its point i says of that point is 1 - w_i / (K^-1)_ii, the same as minus the sum of the
other entries of column i of K^-1 over (K^-1)_ii, which keeps the digits of small potentials.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from skmag._arrays import as_numpy
from skmag._duplicates import equal_row_groups
from skmag._scale import check_scale, median_distance, resolve_scale
from skmag._solvers import singular_share
from skmag.nn._distances import check_points, euclidean_distances, refuse_graph
from skmag.nn._line_magnitude import check_constant


def magnitude_potential_ratio(
    logits: torch.Tensor,
    y: Any,
    queries: torch.Tensor | None = None,
    *,
    t: float | str = 1.0,
) -> torch.Tensor:
    """Compute how well points are represented by each class, relative to all the data.

    The values are those of :func:`skmag.magnitude_potential_ratio`; these can be differentiated.

    Parameters
    ----------
    logits : tensor of shape (n_samples, n_features)
        What a network made of all the data, in any floating-point type.
    y : tensor or array-like of shape (n_samples,)
        Class of each row.
    queries : tensor of shape (n_queries, n_features), default=None
        Points to ask about. None asks about the rows of `logits`, each left out (with its copies)
        of its own class and of the whole.
    t : float or "scale", default=1.0
        Positive scale; "scale" is one over the median distance between the rows of `logits`, which
        is taken for a constant when the ratios are differentiated. A tensor must not require a
        gradient.

    Returns
    -------
    tensor of shape (n_queries, n_classes) or (n_samples, n_classes)
        Potential under each class divided by the potential under all of `logits`, computed in
        float64; columns follow the sorted classes of `y`. NaN where both potentials are zero or
        underflow to it, infinite where only the one under all is: with equal logits nothing is left
        to represent them, and all ratios are one or the other. Of the dtype of `logits`, but
        float32 for float16 and bfloat16.

    Raises
    ------
    TypeError
        If `logits` or `queries` is not a tensor of a floating-point type.
    ValueError
        If an argument is not usable; the message names it.
    numpy.linalg.LinAlgError
        If a similarity matrix has no Cholesky factor.

    See Also
    --------
    skmag.magnitude_potential_ratio : For other metrics and more rows, without a gradient.

    Notes
    -----
    Matrices of float64 with a row and a column for each row of `logits` are factored, and without
    `queries` inverted. For 5,000 rows that takes some 15 seconds with its gradient on one core, and
    the whole process 2.0 GB. Beyond that, watch a sample of the rows, or take
    :func:`skmag.magnitude_potential_ratio`, which turns to near points.

    The gradient of an inverse is two products with it, and that of a solve is a solve; nothing is
    differentiated through a factorization. Copies share the gradient of the point that they are.
    A leave-one-out ratio jumps where a copy moves away from its point, for then it represents it;
    the gradient is that of moving both. Ratios can be differentiated once.

    References
    ----------
    S. Torkamani, H. Gouk, R. Sarkar, "Generalization in neural networks through the lens of
    magnitude potential".

    Examples
    --------
    >>> import torch
    >>> from skmag.nn import magnitude_potential_ratio
    >>> logits = torch.tensor([[0.0], [1.0], [8.0], [9.0]], requires_grad=True)
    >>> y = torch.tensor([0, 0, 1, 1])
    >>> ratios = magnitude_potential_ratio(logits, y)
    >>> ratios.detach().numpy().round(3)
    array([[1.   , 0.001],
           [0.998, 0.002],
           [0.002, 0.998],
           [0.001, 1.   ]], dtype=float32)
    >>> ratios[torch.arange(4), y].mean().backward()
    """
    check_constant(t, "t")
    scale = check_scale(t)
    _check_table(logits, "logits")
    codes = _class_codes(y, len(logits)).to(logits.device)
    if queries is not None:
        _check_table(queries, "queries")
        if queries.shape[1] != logits.shape[1]:
            raise ValueError(
                f"queries has {queries.shape[1]} features but logits has {logits.shape[1]}"
            )
        if queries.device != logits.device:
            raise ValueError(f"queries is on {queries.device} but logits is on {logits.device}")
    points, group = _distinct(logits.to(torch.float64))
    within = euclidean_distances(points)
    if scale is None:
        scale = resolve_scale(None, "weighting", _median(within.detach()))
    classes = range(int(codes.max()) + 1)
    sets = [torch.arange(len(points), device=group.device)]
    sets += [torch.unique(group[codes == c]) for c in classes]
    across = None
    if queries is not None:
        across = euclidean_distances(queries.to(torch.float64), points)
    potential, left_out = _Potentials.apply(  # type: ignore[no-untyped-call]
        within, across, sets, scale
    )
    precision = logits.dtype
    if queries is None:
        mine = codes[:, None] == torch.arange(len(classes), device=codes.device)
        part = torch.where(mine, left_out[group, 1:], potential[group, 1:])
        whole = left_out[group, :1]
    else:
        part, whole = potential[:, 1:], potential[:, :1]
        precision = torch.promote_types(precision, queries.dtype)
    return _ratio(part, whole).to(torch.promote_types(precision, torch.float32))


class _Potentials(torch.autograd.Function):
    """Potentials under several sets, from the distances within their union.

    With w = P 1 and P = K^-1, dw = -P dK w. The potential of what i stands for, i left out, is
    h_i = 1 - w_i / P_ii, and its derivative by K is (P_i w' - w_i / P_ii P_i P_i') / P_ii, P_i
    being column i of P.
    """

    @staticmethod
    def forward(
        ctx: Any,
        within: torch.Tensor,
        across: torch.Tensor | None,
        sets: list[torch.Tensor],
        t: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        similarity = torch.exp(-t * within)
        asking = similarity if across is None else torch.exp(-t * across)
        potential = asking.new_empty(len(asking), len(sets))
        left_out = similarity.new_zeros(len(similarity), len(sets))
        solved = []
        for s, own in enumerate(sets):
            lower = _factor(similarity[own][:, own], t)
            ones = lower.new_ones(len(own), 1)
            w = torch.cholesky_solve(ones, lower)
            potential[:, s] = (asking[:, own] @ w)[:, 0]
            if across is None:
                inverse = torch.cholesky_inverse(lower)
                diagonal = inverse.diagonal().clone()
                inverse.diagonal().zero_()
                # The sum of the others: 1 - w_i / P_ii would cancel where little is represented.
                # Taken from zero, nothing is 0.0 and not -0.0, which would give -inf as a ratio.
                left_out[own, s] = (0.0 - inverse.sum(1)) / diagonal
                inverse.diagonal().copy_(diagonal)
                solved += [w, inverse]
            else:
                solved += [w, lower]
        ctx.save_for_backward(within, across, *solved)
        ctx.sets, ctx.t = sets, t
        return potential, left_out

    @staticmethod
    def backward(
        ctx: Any, *gradients: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None, None, None]:
        refuse_graph("A potential")
        within, across, *solved = ctx.saved_tensors
        by_potential, by_left_out = gradients
        similarity = torch.exp(-ctx.t * within)
        asking = similarity if across is None else torch.exp(-ctx.t * across)
        slope, asking_slope = torch.zeros_like(similarity), torch.zeros_like(asking)
        for s, own in enumerate(ctx.sets):
            w, matrix = solved[2 * s : 2 * s + 2]
            given = by_potential[:, s : s + 1]
            asking_slope[:, own] += given * w.mT
            by_weights = asking[:, own].mT @ given
            if across is None:
                diagonal = matrix.diagonal()[:, None]
                lost = by_left_out[own, s : s + 1] / diagonal
                block = (matrix @ (lost - by_weights)) * w.mT
                block.addmm_(matrix * (lost * w / diagonal).mT, matrix, alpha=-1)
            else:
                block = torch.cholesky_solve(-by_weights, matrix) * w.mT
            slope[own[:, None], own] += block
        if across is None:
            return (slope + asking_slope).mul_(similarity).mul_(-ctx.t), None, None, None
        by_within = slope.mul_(similarity).mul_(-ctx.t)
        return by_within, asking_slope.mul_(asking).mul_(-ctx.t), None, None


def _factor(similarity: torch.Tensor, t: float) -> torch.Tensor:
    """Cholesky factor of a similarity matrix."""
    lower, info = torch.linalg.cholesky_ex(similarity)
    # Diagonal entries are one, so that a pivot is the share of them that elimination left.
    if int(info) or float(lower.diagonal().min()) ** 2 <= singular_share(len(similarity)):
        raise np.linalg.LinAlgError(
            f"the similarity matrix of n={len(similarity)} distinct points at t={t!r} has no "
            "Cholesky factor in floating point: points nearly coincide, or all similarities are "
            "nearly one. Use a larger t or t='scale', make points equal that are meant to be "
            "equal, or take skmag.magnitude_potential_ratio, which keeps more digits"
        )
    return lower


def _distinct(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Distinct rows, whose gradient their copies share, and the distinct row of each row."""
    group, first = (index.to(rows.device) for index in equal_row_groups(rows.detach()))
    if len(first) == len(rows):
        return rows, group
    share = rows / torch.bincount(group)[group, None]
    together = rows.new_zeros(len(first), rows.shape[1]).index_add(0, group, share)
    # A sum of shares is rounded, the row itself is not.
    return rows.detach()[first] + (together - together.detach()), group


def _ratio(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Quotient, without a gradient where the whole underflowed to zero."""
    vanished = whole == 0
    quotient = part / torch.where(vanished, 1.0, whole)
    return torch.where(vanished, part.detach() / whole.detach(), quotient)


def _median(table: torch.Tensor) -> float:
    """Median of the distances between distinct points."""

    def block(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        return table[rows.to(table.device)][:, columns.to(table.device)]

    return median_distance(len(table), block)


def _class_codes(y: Any, n: int) -> torch.Tensor:
    """Number of the class of each row, in sorted order of the classes."""
    labels = as_numpy(y)
    if labels.shape != (n,):
        raise ValueError(f"y has shape {labels.shape}, expected ({n},): one class a row")
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise ValueError("y holds NaN, which is no class")
    return torch.from_numpy(np.unique(labels, return_inverse=True)[1])


def _check_table(points: Any, name: str) -> None:
    check_points(points, name)
    if points.ndim != 2:
        raise ValueError(
            f"{name} has shape {tuple(points.shape)}, expected (n_rows, n_features): one row a "
            "point"
        )
