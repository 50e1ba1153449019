"""Preconditioned conjugate gradients that stop at a certified interval of the magnitude."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from skmag._similarity import Similarity
from skmag._solvers._certificate import (
    Residual,
    eigenvalue_bound,
    interval,
    is_sharp,
    residual_of,
    with_anchor,
)
from skmag._solvers._cg_steps import LOOK, Run, descend
from skmag._solvers._parameters import check_positive_integer
from skmag._solvers._preconditioners import (
    PRECONDITIONERS,
    Diagonal,
    Preconditioner,
    choose_preconditioner,
)
from skmag._solvers._products import Products, Workspace, operators
from skmag._solvers._solution import Certificate, Solution

# An error is estimated with the smallest Ritz value over this: until the steps have met the
# smallest eigenvalue it lies above.
_CAUTION = 4.0
# Shares of a right side that products in float32 and float64 can still reduce its residual to.
_SINGLE_REACH, _DOUBLE_REACH = 1e-6, 1e-14
# A correction in float32 that leaves more of the residual than this is not worth repeating.
_SINGLE_GAIN = 0.2
# One in float64 that leaves more of it has met rounding.
_DOUBLE_GAIN = 0.5
# Steps that may pass without progress.
_PATIENCE = 300
# Share of the allowed error that the steps aim at: the certificate adds rounding.
_AIM = 0.5

Progress = Callable[[Certificate], object]


def solve_cg(
    similarity: Similarity,
    *,
    tol: float,
    start: torch.Tensor | None = None,
    preconditioner: str | Preconditioner = "auto",
    max_iter: int = 2000,
    callback: Progress | None = None,
    target: float = math.inf,
    workspace: Workspace | None = None,
) -> Solution:
    """Solve by conjugate gradients, without ever holding zeta in float64.

    Steps are taken with float32 tiles, kept where scikit-learn's ``working_memory`` allows it and
    computed again where not; what they leave is measured by products in float64, against which
    the next steps correct.

    Parameters
    ----------
    similarity : Similarity
        What is solved; positive definite.
    tol : float
        Width of the certified interval, as a share of the magnitude, at which to stop.
    start : tensor of shape (n_points,), default=None
        Weights to begin with.
    preconditioner : {"auto", "none", "partial_cholesky", "sparse"} or Preconditioner
        How to bring the matrix closer to the identity.
    max_iter : int, default=2000
        Greatest number of steps.
    callback : callable, default=None
        Called with the certificate after every product in float64; a true answer stops.
    target : float, default=inf
        Norm of the residual to reach besides.
    workspace : Workspace, default=None
        What a solve of the same points at another scale has left, and where this one leaves it.

    Returns
    -------
    Solution
        Converged where the certified interval is within `tol` or, for norms without a sharp bound
        of the smallest eigenvalue, the estimated error. Under the cosine, whose kernel is smooth,
        an estimate is no reason to call it converged. Where it is not, ``stopped`` of the
        details says why: "callback", "max_iter", "rounding" where it alone keeps the interval
        wide, or "stalled" where steps in float64 lead no further.

    Raises
    ------
    ValueError
        If `max_iter` is not a positive integer, `callback` not callable or `preconditioner`
        neither a known name nor a preconditioner.
    """
    check_positive_integer(max_iter, "max_iter")
    if callback is not None and not callable(callback):
        raise ValueError(f"callback={callback!r} must be callable or None")
    _check_preconditioner(preconditioner)
    search = _Search(similarity, tol, target, preconditioner, workspace)
    if start is not None:
        search.begin(start)
    while True:
        if search.found is not None:
            certificate = search.certificate()
            stopped = "callback" if callback is not None and callback(certificate) else None
            if stopped is None and search.steps >= max_iter:
                stopped = "max_iter"
            if certificate.converged or stopped:
                break
            stopped = search.go_on()
            if stopped:
                break
        search.descend(max_iter)
    weights = with_anchor(similarity, search.v) if search.exact.anchored else search.v
    details = {"preconditioner": search.preconditioner.name}
    if stopped and not certificate.converged:
        details["stopped"] = stopped
    if workspace is not None:
        workspace.take(search.exact, search.single)
    return Solution(similarity, weights, certificate, "cg", details=details)


class _Search:
    """Weights, what is known of them, and the means by which they are made better.

    Parameters
    ----------
    similarity, tol, target, preconditioner, workspace
        As for :func:`solve_cg`.

    Attributes
    ----------
    v : tensor of shape (n_points,)
        Weights; that of the anchor is zero where S is solved.
    found : Residual or None
        What a product in float64 says of them; None for the zeros to begin with.
    steps : int
        Steps so far.
    """

    def __init__(
        self,
        similarity: Similarity,
        tol: float,
        target: float,
        preconditioner: str | Preconditioner,
        workspace: Workspace | None,
    ) -> None:
        self.similarity, self.tol, self.target = similarity, tol, target
        if isinstance(preconditioner, str):
            preconditioner = choose_preconditioner(similarity, preconditioner)
        self.preconditioner = preconditioner
        self.exact, self.single = operators(similarity, workspace)
        self.v = torch.zeros_like(similarity.counts)
        self.found: Residual | None = None
        self.steps = 0
        # Only for metrics whose eigenvalues have no sharp bound do Ritz values count.
        self._sharp = is_sharp(similarity)
        self._smallest, self._estimate, self._estimated = math.inf, math.inf, False
        self._inner, self._before = self.single, math.inf

    def begin(self, start: torch.Tensor) -> None:
        """Take weights to begin with."""
        self.v = start.clone()
        if self.exact.anchored:
            self.v[0] = 0.0
        self.found = self._measured()

    def certificate(self) -> Certificate:
        """What is known of the weights; an estimate counts where no sharp bound is known."""
        assert self.found is not None
        found = self.found
        lower, upper = interval(self.similarity, found, self.tol)
        met, error = upper - lower <= self.tol * lower, 0.0
        if not (met or self._sharp):
            error = self._estimate + found.slack
            self._estimated = error <= self.tol * found.energy
            # Eigenvalues of a smooth kernel fall so fast that steps may never meet the smallest.
            met = self._estimated and self.similarity.metric.is_norm
        value = min(max(found.energy, lower), upper)
        met = met and found.norm <= self.target
        return Certificate(value, lower, upper, error, found.norm, self.steps, met)

    def go_on(self) -> str | None:
        """Prepare further steps, by other means where the last ones did not help.

        Returns
        -------
        str or None
            Why none would help: "rounding", "stalled", or "estimate" where nothing more can be
            known than an estimate that is small enough.
        """
        assert self.found is not None
        norm = self.found.norm
        if self._estimated and norm <= self.target:
            return "estimate"
        if _is_rounding(self.found, self.tol):
            return "rounding"
        if self._inner is self.exact and norm > _DOUBLE_GAIN * self._before:
            if isinstance(self.preconditioner, Diagonal):
                return "stalled"
            # Rounding may have made it indefinite.
            self.preconditioner = Diagonal(self.similarity)
            self._inner, self._before, self._smallest = self.single, math.inf, math.inf
        if norm > _SINGLE_GAIN * self._before:
            # What float32 resolves is not enough for this matrix.
            self._inner = self.exact
        self._before = norm
        return None

    def descend(self, max_iter: int) -> None:
        """Take steps from the residual of the weights, up to `max_iter` of all of them."""
        last_v, last = self.v, self.found
        right = _right_side(self.similarity, self.exact) if last is None else last.values
        reach = _SINGLE_REACH if self._inner is self.single else _DOUBLE_REACH
        left = max_iter - self.steps
        run = descend(self._inner, right, self.preconditioner, self._enough, reach, left, _PATIENCE)
        self.steps += len(run)
        self.v = last_v + run.x
        self.found = self._measured()
        if last is not None and not self.found.norm <= last.norm:
            # Steps that made it worse are taken back; what follows is in float64, or nothing.
            self.v, self.found = last_v, last
        if self._sharp:
            return
        self._smallest = min(self._smallest, run.smallest_ritz_value)
        if self._smallest == 0 and self._inner is self.single and self.steps < max_iter:
            # float32 cannot tell it from rounding. To know it, float64 begins anew.
            self.v, self.found = torch.zeros_like(last_v), None
            self._inner, self._before, self._smallest = self.exact, math.inf, math.inf
        else:
            values = self.found.values
            self._estimate = _estimated_error(values, self.preconditioner, self._smallest)

    def _measured(self) -> Residual:
        """The residual, with rounding bounded as closely as it matters."""
        found = residual_of(self.similarity, self.v, self.exact, closely=False)
        close = _is_rounding(found, self.tol)
        return residual_of(self.similarity, self.v, self.exact) if close else found

    def _enough(self, norm: float, run: Run) -> bool:
        """Whether a norm of the residual, and the steps up to it, are enough for now."""
        if self.found is None:
            # Only now that a product has been made is the least distance known.
            closest = self._inner.closest * (1 - 1e-3)
            energy, floor = float(self.exact.anchored), 0.0
            bound = eigenvalue_bound(self.similarity, closest)
        else:
            energy, floor = self.found.energy, 0.5 * self.found.noise
            bound = self.found.eigenvalue
        if norm <= floor or norm > self.target:
            return norm <= floor
        allowed = _AIM * self.tol * (energy + run.gained)
        if bound > 0 and norm * (norm / bound) <= allowed:
            return True
        if self._sharp or len(run) % LOOK:
            return False
        smallest = min(self._smallest, run.smallest_ritz_value)
        return 0 < run.rz <= allowed * smallest / _CAUTION


def _check_preconditioner(preconditioner: object) -> None:
    if isinstance(preconditioner, str):
        fits = preconditioner in PRECONDITIONERS
    else:
        fits = callable(getattr(preconditioner, "apply", None))
    if not fits:
        raise ValueError(
            f"preconditioner={preconditioner!r} must be one of {PRECONDITIONERS} or a "
            "preconditioner with a method `apply`"
        )


def _right_side(similarity: Similarity, products: Products) -> torch.Tensor:
    if not products.anchored:
        return torch.ones_like(similarity.counts)
    return -torch.expm1(-similarity.anchor * similarity.t)


def _is_rounding(found: Residual, tol: float) -> bool:
    """Whether rounding alone keeps the interval as wide as it is."""
    if found.norm <= 2 * found.noise:
        return True
    return found.excess <= found.slack and 2 * found.slack > tol * found.energy


def _estimated_error(r: torch.Tensor, preconditioner: Preconditioner, smallest: float) -> float:
    """Estimate of r' zeta^-1 r <= r' M r / (smallest eigenvalue of M zeta), M the preconditioner.

    A share of the smallest Ritz value stands for that eigenvalue. Where the steps see nothing of
    the smallest eigenvalues, as those of a smooth kernel without a preconditioner, that is above
    it all the same; hence no bound.
    """
    rz = float(r @ preconditioner.apply(r[:, None])[:, 0])
    return _CAUTION * rz / smallest if rz >= 0 and 0 < smallest < math.inf else math.inf
