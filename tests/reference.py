"""Independent references, slow and with many digits, and what else several test modules share."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy.spatial.distance import cdist

DIGITS = 50
QUESTIONS = ("potential", "residual", "joining_weight", "gain")


class StopAfter:
    """Callback that stops a fit at the end of a step."""

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps
        self.seen = 0

    def setup(self, estimator: Any, context: Any) -> None:
        self.seen = 0

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        pass

    def on_fit_task_end(self, estimator: Any, context: Any) -> bool:
        self.seen += context.parent is not None
        return self.seen >= self.n_steps

    def teardown(self, estimator: Any, context: Any) -> None:
        pass


def normal(n: int = 7, d: int = 3, seed: int = 0) -> np.ndarray:
    """Points of a normal cloud."""
    return np.random.default_rng(seed).normal(size=(n, d))


def with_copies() -> np.ndarray:
    """Twelve points of the plane, nine of them distinct."""
    X = normal(12, 2)
    X[[3, 7, 8]] = X[1]
    return X


def dense(X: Any, t: float, metric: str = "euclidean", **params: Any) -> np.ndarray:
    """Similarity matrix of distinct points."""
    X = np.asarray(X, dtype=float)
    return np.exp(-t * (X if metric == "precomputed" else cdist(X, X, metric, **params)))


def dense_inverse(X: Any, t: float, metric: str = "euclidean", **params: Any) -> np.ndarray:
    """Inverse of the similarity matrix of distinct points."""
    return np.linalg.inv(dense(X, t, metric, **params))


def dense_questions(inverse: np.ndarray, k: np.ndarray) -> dict[str, np.ndarray]:
    """Answers to the four questions for rows `k` of similarities, from an explicit inverse."""
    potential = k @ inverse.sum(1)
    residual = 1 - ((k @ inverse) * k).sum(1)
    return {
        "potential": potential,
        "residual": residual,
        "joining_weight": (1 - potential) / residual,
        "gain": (1 - potential) ** 2 / residual,
    }


def mp_distance(a: Any, b: Any) -> mpmath.mpf:
    """Euclidean distance between two rows of floats, each of which is taken as exact."""
    return mpmath.sqrt(
        mpmath.fsum(
            (mpmath.mpf(float(x)) - mpmath.mpf(float(y))) ** 2 for x, y in zip(a, b, strict=True)
        )
    )


def mp_similarity(A: Any, B: Any, t: float) -> mpmath.matrix:
    """Euclidean similarities between the rows of two small sets."""
    return mpmath.matrix([[mpmath.exp(-mpmath.mpf(t) * mp_distance(a, b)) for b in B] for a in A])


def mp_weighting(X: Any, t: float) -> tuple[list[mpmath.mpf], mpmath.mpf]:
    """Weights of the rows of a small Euclidean set, and their sum; copies share a weight."""
    rows = [tuple(float(x) for x in row) for row in np.asarray(X)]
    points = list(dict.fromkeys(rows))
    with mpmath.workdps(DIGITS):
        w = mpmath.lu_solve(mp_similarity(points, points, t), mpmath.ones(len(points), 1))
        shares = {p: w[i] / rows.count(p) for i, p in enumerate(points)}
        return [shares[row] for row in rows], mpmath.fsum(w)


def mp_questions(X: Any, t: float, Z: Any) -> dict[str, list[mpmath.mpf]]:
    """Answers to the four questions for queries Z that lie on none of the distinct points X."""
    with mpmath.workdps(DIGITS):
        zeta, cross = mp_similarity(X, X, t), mp_similarity(Z, X, t)
        ones = mpmath.lu_solve(zeta, mpmath.ones(len(X), 1))
        answers: dict[str, list[mpmath.mpf]] = {name: [] for name in QUESTIONS}
        for i in range(cross.rows):
            k = cross[i, :].T
            h = (k.T * ones)[0]
            r = 1 - (k.T * mpmath.lu_solve(zeta, k))[0]
            answers["potential"].append(h)
            answers["residual"].append(r)
            answers["joining_weight"].append((1 - h) / r)
            answers["gain"].append((1 - h) ** 2 / r)
        return answers


def relative_error(found: Any, exact: Any) -> float:
    """Greatest relative error of `found` against numbers with more digits."""
    with mpmath.workdps(DIGITS):
        return max(
            float(abs(mpmath.mpf(float(a)) - b) / (abs(b) if b else mpmath.mpf(1)))
            for a, b in zip(found, exact, strict=True)
        )


def error_in_norm(found: Any, exact: Any) -> float:
    """Greatest error of `found`, relative to the greatest exact number."""
    greatest = max(abs(x) for x in exact)
    return float(max(abs(float(x) - y) / greatest for x, y in zip(found, exact, strict=True)))


def host(values: Any) -> np.ndarray:
    """Return an array of any library, on any device, as a numpy array."""
    return np.asarray(values.cpu() if hasattr(values, "cpu") else values)


def answers(space: Any, Z: Any) -> dict[str, np.ndarray]:
    """Everything that a weighting says: of queries `Z`, of its own points, and its weights."""
    out = {name: host(getattr(space, name)(Z)) for name in QUESTIONS}
    out |= {f"own {name}": host(value) for name, value in space.leave_one_out()._asdict().items()}
    return out | {"loss": host(space.loss()), "weights": host(space.weights)}


def assert_same(found: Any, expected: Any, rtol: float) -> None:
    """Compare what :func:`answers` returns, each answer relative to its greatest entry."""
    for name, value in expected.items():
        scale = max(1e-300, np.abs(value).max())
        np.testing.assert_allclose(found[name], value, rtol=rtol, atol=rtol * scale, err_msg=name)


def peak_memory(setup: str, work: str) -> int:
    """Bytes that `work` takes at its peak beyond what stands after `setup`, in a fresh process."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux tells the peak of a process and forgets it")
    lines = [
        "from pathlib import Path",
        setup,
        "Path('/proc/self/clear_refs').write_text('5')",
        "before = Path('/proc/self/status').read_text()",
        work,
        "print(before, Path('/proc/self/status').read_text())",
    ]
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    before = re.findall(r"VmRSS:\s+(\d+)", ran.stdout)[0]
    peak = re.findall(r"VmHWM:\s+(\d+)", ran.stdout)[1]
    return 1024 * (int(peak) - int(before))


def within_limits(setup: str, work: str, rooms: list[int]) -> list[str]:
    """Value of `work`, or the MemoryError, in a fresh process that may take so many more bytes."""
    pytest.importorskip("resource")
    if not Path("/proc/self/statm").exists():
        pytest.skip("only Linux tells the address space of a process")
    lines = [
        "import os, resource",
        "from pathlib import Path",
        setup,
        f"for room in {rooms}:",
        "    pages = int(Path('/proc/self/statm').read_text().split()[0])",
        "    limit = pages * os.sysconf('SC_PAGE_SIZE') + room",
        "    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))",
        "    try:",
        f"        found = repr({work})",
        "    except MemoryError as error:",
        "        found = f'MemoryError: {error}'",
        "    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)",
        "    print(found)",
    ]
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    return ran.stdout.splitlines()
