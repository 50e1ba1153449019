"""What decides a class: scores from a weighting's answers, ties, probabilities and conformity.

A score is larger for a class that represents the query better. Each is a logarithm of the
criterion, computed from whichever of a value and its complement holds the digits, so that far
queries, where every criterion tends to the same limit, still rank until exponentials underflow.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax

from skmag._answers import Answers
from skmag._solvers import Probe

CRITERIA = ("residual", "weight", "percentile", "gain", "potential")

_TINY = torch.finfo(torch.float64).tiny
# Scores further apart than this count as this far: beyond half of float64's digits, distances
# between scores are evidence of rounding and copies, not of classes.
_SPAN = 26 * np.log(2.0)


def scores(criterion: str, answers: Answers, probe: Probe) -> torch.Tensor:
    """Score of each probed query under one class.

    Parameters
    ----------
    criterion : {"residual", "weight", "percentile", "gain", "potential"}
        What decides.
    answers : Answers
        The class's weighting.
    probe : Probe
        Its answers for the queries.

    Returns
    -------
    tensor of shape (n_queries,)
        -log r, -log |(1 - h) / r|, minus the rank of the joining weight among the class's own
        weights, -log((1 - h)^2 / r), or h.
    """
    if criterion == "residual":
        return -_log_residual(probe)
    if criterion == "weight":
        weight = answers.joining_weights(probe).abs().clamp_min(_TINY).log()
        far = probe.potential.abs() < 0.5
        exact = _log_deficit(probe) - _log_residual(probe)
        return -torch.where(far, exact, weight)
    if criterion == "percentile":
        own = answers.weights.sort().values
        below = torch.searchsorted(own, answers.joining_weights(probe), right=True)
        return -below.to(torch.float64) / len(own)
    if criterion == "gain":
        gain = 2 * _log_deficit(probe) - _log_residual(probe)
        return -torch.where(probe.nearest_distance == 0, float(np.log(_TINY)), gain)
    return probe.potential.clone()


def left_out_scores(criterion: str, answers: Answers) -> torch.Tensor:
    """Score of each distinct point under its own class, left out of it.

    For "percentile" the weights of the others change when a point leaves: w - P_i w_i / p_i with
    P = zeta^-1, which is exact and takes no new factorization.
    """
    own = answers.left_out()
    if criterion != "percentile":
        return scores(criterion, answers, own)
    w = answers.weights
    if len(w) == 1:
        return torch.zeros_like(w)
    shift = own.deficit
    out = torch.empty_like(w)
    for columns in answers.similarity.row_blocks():
        others = w[:, None] - answers.factor.inverse_columns(columns) * shift[columns]
        below = others <= w[columns]
        below[columns].fill_diagonal_(False)
        out[columns] = -below.sum(0).to(torch.float64) / (len(w) - 1)
    return out


def _log_residual(probe: Probe) -> torch.Tensor:
    near = probe.residual.clamp_min(_TINY).log()
    return torch.where(probe.residual < 0.5, near, torch.log1p(-probe.explained.clamp_max(0.5)))


def _log_deficit(probe: Probe) -> torch.Tensor:
    near = probe.deficit.abs().clamp_min(_TINY).log()
    return torch.where(probe.potential.abs() < 0.5, torch.log1p(-probe.potential.clamp_max(0.5)), near)
