"""Ways to solve ``zeta w = 1``, and the rule that chooses between them."""

from __future__ import annotations

from skmag._solvers._base import (
    Factor,
    IndefiniteError,
    NotPositiveDefiniteWarning,
    Probe,
    singular_share,
    stack_level,
)
from skmag._solvers._cholesky import CholeskyFactor
from skmag._solvers._exact import EXACT, factor, indefinite, is_on_a_line
from skmag._solvers._iterative import IterativeFactor
from skmag._solvers._memory import available_memory, exact_bytes
from skmag._solvers._near import NearFactor
from skmag._solvers._portfolio import (
    ITERATIVE,
    answering,
    choose_answering,
    magnitudes_at,
    solve,
    with_kept_distances,
)
from skmag._solvers._solution import Certificate, Solution

SOLVERS = (*EXACT, "cg", "sparse")
"""Solvers that answer questions, which estimators ask."""

__all__ = [
    "ITERATIVE",
    "SOLVERS",
    "Certificate",
    "CholeskyFactor",
    "Factor",
    "IndefiniteError",
    "IterativeFactor",
    "NearFactor",
    "NotPositiveDefiniteWarning",
    "Probe",
    "Solution",
    "answering",
    "available_memory",
    "choose_answering",
    "exact_bytes",
    "factor",
    "indefinite",
    "is_on_a_line",
    "magnitudes_at",
    "singular_share",
    "solve",
    "stack_level",
    "with_kept_distances",
]
