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
from skmag._arrays import block_slices, rows_per_block
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
        return -torch.where(probe.on_point, float(np.log(_TINY)), gain)
    return probe.potential.clone()


def left_out_scores(
    criterion: str, answers: Answers, points: torch.Tensor | None = None
) -> torch.Tensor:
    """Score of distinct points (None: all) under their own class, each left out of it.

    For "percentile" the weights of the others change when a point leaves: w - P_i w_i / p_i with
    P = zeta^-1, which is exact and takes no new factorization.
    """
    own = answers.left_out(points)
    if criterion != "percentile":
        return scores(criterion, answers, own)
    w, out = answers.weights, torch.empty_like(own.deficit)
    if len(w) == 1:
        return out.fill_(-1.0)
    # Columns are whole, whatever a query takes.
    column_bytes = max(answers.factor.probe_bytes(), 32 * len(w))
    size = rows_per_block(column_bytes, len(out), out.device)
    for rows in block_slices(len(out), size):
        index = own.nearest[rows]
        others = w[:, None] - answers.inverse_columns(index) * own.deficit[rows]
        below = others <= w[index]
        below[index, torch.arange(len(index), device=w.device)] = False
        out[rows] = -below.sum(0).to(torch.float64) / (len(w) - 1)
    return out


def _log_residual(probe: Probe) -> torch.Tensor:
    near = probe.residual.clamp_min(_TINY).log()
    return torch.where(probe.residual < 0.5, near, torch.log1p(-probe.explained.clamp_max(0.5)))


def _log_deficit(probe: Probe) -> torch.Tensor:
    near = probe.deficit.abs().clamp_min(_TINY).log()
    return torch.where(
        probe.potential.abs() < 0.5, torch.log1p(-probe.potential.clamp_max(0.5)), near
    )


def probabilities(score: np.ndarray, slope: float) -> np.ndarray:
    """Return softmax(slope * score), the class of the greatest score on top."""
    return lead(np.exp(log_probabilities(score, slope)), score)


def values(criterion: str, score: np.ndarray) -> np.ndarray:
    """Return the criterion behind a score: r, \\|w\\|, the rank, the gain, or the potential."""
    if criterion == "potential":
        return score
    return -score if criterion == "percentile" else np.exp(-score)


def settle_ties(
    score: np.ndarray, potential: np.ndarray, copies: np.ndarray, distance: np.ndarray
) -> np.ndarray:
    """Let one class win each row: classes that tie for the first place lose one rounding unit.

    Among equal scores wins the class with more copies of the query, then the greater potential
    (which still ranks where the other criteria saturate), then the nearer point, then the first
    class.

    Parameters
    ----------
    score, potential, copies, distance : ndarray of shape (n_queries, n_classes)
        What each class says; all but `score` only settle ties.

    Returns
    -------
    ndarray of shape (n_queries, n_classes)
        Scores whose maximum is unique.
    """
    first = score == score.max(axis=1, keepdims=True)
    tied = np.flatnonzero(first.sum(axis=1) > 1)
    for keys in (copies, potential, -distance):
        part = np.where(first[tied], keys[tied], -np.inf)
        first[tied] &= part == part.max(axis=1, keepdims=True)
    winner = first.argmax(axis=1)
    out = score.copy()
    contenders = score == score.max(axis=1, keepdims=True)
    contenders[np.arange(len(score)), winner] = False
    out[contenders] = np.nextafter(out[contenders], -np.inf)
    return out


def log_probabilities(score: np.ndarray, slope: float) -> np.ndarray:
    """Return log softmax(slope * score), the class of the greatest score on top.

    Scores far below the greatest count as less far, so that copies and rounding do not decide.
    """
    return lead(log_softmax(slope * _bounded(score), axis=1), score)


def lead(shares: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Lift the share of the winner above others that rounding made equal to it."""
    rows, winner = np.arange(len(score)), score.argmax(axis=1)
    others = shares.copy()
    others[rows, winner] = -np.inf
    out = shares.copy()
    out[rows, winner] = np.maximum(shares[rows, winner], np.nextafter(others.max(axis=1), np.inf))
    return out


def _bounded(score: np.ndarray) -> np.ndarray:
    return np.maximum(score, score.max(axis=1, keepdims=True) - _SPAN)


def fit_slope(score: np.ndarray, codes: np.ndarray) -> float:
    """Slope of the probabilities: greatest likelihood on left-out scores.

    Parameters
    ----------
    score : ndarray of shape (n_samples, n_classes)
        Scores of training points, left out of their own class.
    codes : ndarray of shape (n_samples,)
        Column of each point's class.

    Returns
    -------
    float
        Slope between 1e-3 and 1e6. There is no offset for each class: with one, the most probable
        class could differ from the class with the greatest score.
    """
    bounded = _bounded(score)
    own = bounded[np.arange(len(codes)), codes]

    def loss(log_slope: np.ndarray) -> tuple[float, np.ndarray]:
        slope = np.exp(log_slope)
        log_share = log_softmax(slope * bounded, axis=1)
        excess = (np.exp(log_share) * bounded).sum(axis=1) - own
        value = -log_share[np.arange(len(codes)), codes].mean()
        return float(value), slope * excess.mean()

    bounds = [(np.log(1e-3), np.log(1e6))]
    found = minimize(loss, [0.0], jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-12)
    return float(np.exp(found.x[0]))


def conformity(left_out: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Conformal p-value of queries under one class.

    Parameters
    ----------
    left_out : ndarray of shape (n_points,)
        Sorted scores of the class's points, each left out.
    score : ndarray of shape (n_queries,)
        Scores of the queries.

    Returns
    -------
    ndarray of shape (n_queries,)
        ``(1 + #{left-out score <= score}) / (n_points + 1)``.
    """
    below = np.searchsorted(left_out, score, side="right")
    return (1 + below) / (len(left_out) + 1)
