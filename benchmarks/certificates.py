"""Promised against true error: every solver's interval beside a reference of more digits.

Each case draws its points, metric and scale at random: up to 3,000 points in up to 100 features,
six decades of t around one over the median distance, and shapes that make solvers stumble. The
reference knows nothing of skmag: distances, exponentials and residuals in extended precision (64
binary digits), a float64 Cholesky factor, or one in extended precision where points nearly
coincide, and iterative refinement. It is second-order accurate like the certificates, and its own
rounding is allowed for. Extended precision needs a processor that has it; there numpy's longdouble
is more than a double.

A case counts as outside if the reference is not in [lower, upper], as false if the solver says it
converged and the magnitude is further than `tol` from the reference.
"""

import argparse
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.linalg import LinAlgError, LinAlgWarning, cho_factor, cho_solve
from scipy.spatial.distance import pdist
from sklearn.exceptions import ConvergenceWarning

from skmag import weighting
from skmag._metrics import resolve_metric
from skmag._similarity import Similarity
from skmag._solvers._portfolio import ITERATIVE

EXTENDED = np.longdouble
ROUNDING = float(np.finfo(EXTENDED).eps)
WORK = 2e8
"""Differences of coordinates that one reference may take."""

CLOSE_POINTS = 500
"""Points up to which nearly coincident ones are drawn: their reference is a slow one."""

TOL = 1e-6
SOLVERS = {
    "cholesky": {},
    "cg": {},
    "auto": {},
    "sparse": {},
    "centers": {},
    "iterative_normalization": {"max_iter": 200},
    "gradient_descent": {"max_iter": 200},
}

COUNTS = [
    "cases",
    "outside",
    "false",
    "bounded",
    "certified",
    "not converged",
    "warned",
    "odd",
    "failed",
]
"""Rows of the table: bounded have an upper bound, certified one within `tol`, and odd are warnings
that do not fit the result."""


@dataclass(frozen=True)
class Case:
    """Points with a metric and a scale, and how they were drawn."""

    shape: str
    X: np.ndarray
    metric: str
    params: dict
    t: float

    def __str__(self):
        n, D = self.X.shape
        return f"{self.shape}, n={n}, D={D}, {self.metric}, t={self.t:.3g}"


@dataclass
class Tally:
    """What one solver did over all cases."""

    counts: Counter = field(default_factory=Counter)
    ratio: float = 0.0
    seconds: float = 0.0


def uniform(random, n, D):
    return random.uniform(size=(n, D))


def normal(random, n, D):
    return random.normal(size=(n, D))


def clusters(random, n, D):
    centers = random.normal(size=(8, D)) * 10
    return centers[random.integers(8, size=n)] + random.normal(size=(n, D)) * 0.1


def near_duplicates(random, n, D):
    half = random.normal(size=((n + 1) // 2, D))
    gap = 10.0 ** random.uniform(-9, -1)
    return np.vstack([half, half + gap * random.normal(size=half.shape)])[:n]


def curved(random, n, D):
    angles = random.uniform(-2, 2, size=(n, 2))
    waves = random.normal(size=(2, 20))
    return np.sin(angles @ waves) + 0.1 * angles[:, :1] ** 2


def lattice(random, n, D):
    D = min(D, 4)
    side = max(2, round(n ** (1 / D)))
    return np.stack(np.meshgrid(*[np.arange(side)] * D), -1).reshape(-1, D)[:n].astype(float)


def duplicates(random, n, D):
    few = random.normal(size=(max(2, n // 3), D))
    return few[random.integers(len(few), size=n)]


def offset(random, n, D):
    return random.normal(size=(n, D)) + 1e6


def collinear(random, n, D):
    return random.normal(size=(n, 1)) * random.normal(size=3) + random.normal(size=3)


def uneven(random, n, D):
    return random.normal(size=(n, D)) * 10.0 ** random.uniform(-4, 4, size=D)


SHAPES = [
    uniform,
    normal,
    clusters,
    near_duplicates,
    curved,
    lattice,
    duplicates,
    offset,
    collinear,
    uneven,
]
METRICS = [("euclidean", {})] * 6 + [("cityblock", {}), ("minkowski", {"p": 1.5}), ("cosine", {})]


def drawn(random, largest):
    """Return a random case."""
    shape = SHAPES[random.integers(len(SHAPES))]
    D = round(10 ** random.uniform(0, 2))
    n = round(np.exp(random.uniform(np.log(2), np.log(largest))))
    n = min(n, int(np.sqrt(WORK / D)))
    if shape in (near_duplicates, uneven):
        n = min(n, CLOSE_POINTS)
    X = shape(random, n, D)
    metric, params = METRICS[random.integers(len(METRICS))]
    if metric == "cosine":
        # Directions of one feature are two, and those of many points close to each other.
        X = X if X.shape[1] > 2 else np.hstack([X, random.normal(size=(len(X), 3))])
        X = X + (np.abs(X).max(1, keepdims=True) == 0)
    few = X[random.choice(len(X), min(len(X), 500), replace=False)]
    gaps = pdist(few, metric, **params)
    gaps = gaps[gaps > 0]
    median = np.median(gaps) if len(gaps) else 1.0
    return Case(shape.__name__, X, metric, params, float(10 ** random.uniform(-3, 3) / median))


def distances(X, metric, params):
    """Distances in extended precision."""
    out = np.zeros((len(X), len(X)), dtype=EXTENDED)
    for x in X.T.astype(EXTENDED):
        gap = np.abs(x[:, None] - x)
        if metric == "cityblock":
            out += gap
        else:
            out += gap ** EXTENDED(params["p"]) if metric == "minkowski" else gap * gap
    if metric == "cosine":
        return out / 2
    if metric == "minkowski":
        return out ** (1 / EXTENDED(params["p"]))
    return np.sqrt(out) if metric == "euclidean" else out


def extended_cholesky(zeta):
    """Return the lower factor in extended precision."""
    rest, lower = zeta.copy(), np.zeros_like(zeta)
    for j in range(len(zeta)):
        if not rest[j, j] > 0:
            raise LinAlgError(f"pivot {j} is not positive in extended precision")
        lower[j:, j] = rest[j:, j] / np.sqrt(rest[j, j])
        rest[j + 1 :, j + 1 :] -= np.outer(lower[j + 1 :, j], lower[j + 1 :, j])
    return lower


def extended_solver(zeta):
    """Return a function that solves with a factor in extended precision."""
    lower = extended_cholesky(zeta)

    def solve(b):
        y = np.zeros_like(b)
        for i in range(len(b)):
            y[i] = (b[i] - lower[i, :i] @ y[:i]) / lower[i, i]
        for i in reversed(range(len(b))):
            y[i] = (y[i] - lower[i + 1 :, i] @ y[i + 1 :]) / lower[i, i]
        return y

    return solve


def reference(case):
    """Return the magnitude and the error that its own rounding may have."""
    X = np.unique(prepared(case), axis=0)
    if len(X) == 1:
        return 1.0, 0.0
    zeta = np.exp(-EXTENDED(case.t) * distances(X, case.metric, case.params))
    try:
        factor = cho_factor(zeta.astype(float), lower=True)
        return refined(zeta, lambda b: cho_solve(factor, b.astype(float)).astype(EXTENDED))
    except LinAlgError:
        return refined(zeta, extended_solver(zeta))


def prepared(case):
    """Return the points that distances are taken of; under the cosine, the unit vectors."""
    if case.metric != "cosine":
        return case.X
    # Unit vectors as floats are the data; one rounding more or less would be another data set.
    return np.asarray(Similarity.of(torch.from_numpy(case.X), resolve_metric("cosine", {})).points)


def refined(zeta, solve):
    """Return 2 1'v - v' zeta v after iterative refinement, with its error."""
    ones = np.ones(len(zeta), dtype=EXTENDED)
    v, last = solve(ones), np.inf
    while True:
        r = ones - zeta @ v
        step = solve(r)
        missing = float(abs(r @ step))
        if missing == 0 or missing >= 0.25 * last:
            break
        v, last = v + step, missing
    if not missing < 1e-8 * abs(float(v.sum())):
        raise LinAlgError("refinement does not converge")
    size = np.abs(v)
    noise = float(size @ (zeta @ size)) * (len(zeta) + 60) * ROUNDING
    return 2 * v.sum() - v @ (zeta @ v), noise + 4 * missing


def judge(case, solver, exact, error, tally, console):
    """Compare one solver with the reference."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.process_time()
        params = SOLVERS[solver] or None
        try:
            space = weighting(
                case.X,
                t=case.t,
                metric=case.metric,
                metric_params=case.params or None,
                solver=solver,
                tol=TOL,
                solver_params=params,
            )
            found = space.magnitude, space.lower, space.upper, space.converged
        except Exception as failure:
            tally.counts["failed"] += 1
            console.print(f"[red]{solver}: {failure!r} for {case}")
            return
        tally.seconds += time.process_time() - start
    magnitude, lower, upper, converged = found
    kinds = {type(one.message) for one in caught if isinstance(one.message, Warning)}
    expected = {ConvergenceWarning, LinAlgWarning}
    if kinds - expected or (ConvergenceWarning in kinds) == converged:
        tally.counts["odd"] += 1
        console.print(f"[red]{solver}: converged={converged}, {kinds} for {case}")
    tally.counts["cases"] += 1
    tally.counts["warned"] += LinAlgWarning in kinds
    tally.counts["not converged"] += not converged
    outside = not lower - error <= exact <= upper + error
    true = abs(float(magnitude - exact))
    false = bool(converged) and true - error > TOL * float(exact)
    tally.counts["outside"] += outside
    tally.counts["false"] += false
    if np.isfinite(upper):
        promised = max(upper - magnitude, magnitude - lower)
        tally.ratio = max(tally.ratio, max(0.0, true - error) / promised if promised else 0.0)
        tally.counts["bounded"] += 1
        tally.counts["certified"] += upper - lower <= TOL * lower
    if outside or false:
        console.print(
            f"[red]{solver}: {'outside' if outside else 'false'}: {exact!r} +- {error:.1e} "
            f"against {magnitude!r} in [{lower!r}, {upper!r}] for {case}"
        )


def main():
    """Print the table."""
    known = [name for name in SOLVERS if name in ("cholesky", "auto", *ITERATIVE)]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--largest", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--solvers", nargs="*", default=known)
    parser.add_argument("--quick", action="store_true", help="40 cases of up to 400 points")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.cases, arguments.largest = 40, 400
    console = Console(width=140)
    tallies = {solver: Tally() for solver in arguments.solvers}
    skipped = 0
    for number in range(arguments.cases):
        case = drawn(np.random.default_rng([arguments.seed, number]), arguments.largest)
        try:
            exact, error = reference(case)
        except LinAlgError as failure:
            skipped += 1
            console.print(f"no reference, {failure}: {case}")
            continue
        for solver, tally in tallies.items():
            judge(case, solver, exact, error, tally, console)
    table = Table("", *tallies, title=f"tol={TOL:g}")
    for name in COUNTS:
        table.add_row(name, *[str(tally.counts[name]) for tally in tallies.values()])
    table.add_row("true / promised", *[f"{tally.ratio:.2g}" for tally in tallies.values()])
    table.add_row("CPU, s", *[f"{tally.seconds:.1f}" for tally in tallies.values()])
    console.print(table)
    if skipped:
        console.print(f"{skipped} cases without a reference")


if __name__ == "__main__":
    main()
