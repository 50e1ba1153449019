"""The papers' solvers beside ours: Figures 4, 5, 8 and 9 of "Approximating metric magnitude".

Points are standard normal in the plane at t = 1, as in "Approximating metric magnitude of point
sets", section 5.1 and appendix B. The peers are what the paper describes, in plain numpy with the
whole similarity matrix in memory: the inverse, iterative normalization (Algorithm 1) and gradient
descent on the mean of the squared residuals with momentum 0.9 (equation 2). Seconds are CPU
seconds and include the similarity matrix. Errors are relative, against a Cholesky factorization.

The paper names neither the normalization of the loss nor the start of the descent. A sum instead
of a mean would diverge at its rate of 0.01 from some fifty points on, and weights of one to start
with are hundreds of times too large; the mean and zeros are the most favourable reading.
"""

import argparse
import time
import warnings
from statistics import median

import numpy as np
from baseline import magnitude as scipy_magnitude
from rich.console import Console
from rich.table import Table
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning

from skmag import DiscreteCenterHierarchy, MagnitudeSubsetSelector, maximum_diversity, weighting

RATE, MOMENTUM = 0.01, 0.9
BATCHES = (8, 16, 32, 64, 128, 256)
INVERTED = 8000
"""Points up to which the inverse is computed; beyond, its time is extrapolated by n^3."""


def points(n, dimension=2, seed=0):
    """Return standard normal points."""
    return np.random.default_rng(seed).normal(size=(n, dimension))


def similarities(X, t=1.0):
    """Return the similarity matrix, computed in place."""
    zeta = cdist(X, X)
    np.multiply(zeta, -t, out=zeta)
    return np.exp(zeta, out=zeta)


def inversion(X, t=1.0):
    """Return the sum of the inverse, as the paper computes magnitudes."""
    return np.linalg.inv(similarities(X, t)).sum()


def normalized(zeta, steps):
    """Yield the sum of the weights after each step of Algorithm 1."""
    w = np.ones(len(zeta))
    for _ in range(steps):
        w /= zeta @ w
        yield w.sum()


def descended(zeta, steps, rate=RATE, batch=None, seed=0):
    """Yield the sum of the weights after each step of gradient descent."""
    n, random = len(zeta), np.random.default_rng(seed)
    w, velocity, rest = np.zeros(n), np.zeros(n), []
    for _ in range(steps):
        if batch is None:
            gradient = 2 / n * (zeta @ (zeta @ w - 1))
        else:
            if not len(rest):
                rest = random.permutation(n)
            chosen, rest = rest[:batch], rest[batch:]
            rows = zeta[chosen]
            gradient = 2 / len(chosen) * ((rows @ w - 1) @ rows)
        velocity = MOMENTUM * velocity + gradient
        w = w - rate * velocity
        yield w.sum()


def stable_rate(zeta, batch=None):
    """Half of the greatest rate that is stable with all equations, and what batches bear."""
    v = np.ones(len(zeta))
    for _ in range(20):
        v = zeta @ v
        v /= np.linalg.norm(v)
    curvature = 2 * np.linalg.norm(zeta @ v) ** 2 / len(zeta)
    if batch is None:
        return (1 + MOMENTUM) / curvature
    return (1 - MOMENTUM) / (curvature + 2 * zeta.sum(1).max() / batch)


def last(values):
    """Return the last of some values."""
    *_, value = values
    return value


def ours(X, solver, tol, t=1.0, **params):
    """Return our magnitude, without a word where the tolerance is not met."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return weighting(X, t=t, solver=solver, tol=tol, solver_params=params or None).magnitude


def timed(function, *args, rounds=1, **kwargs):
    """Return the value and the median CPU seconds of some rounds."""
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        value = function(*args, **kwargs)
        seconds.append(time.process_time() - start)
    return value, median(seconds)


def inversion_seconds(sizes):
    """CPU seconds of the inverse for each size, and whether they were extrapolated."""
    found = {}
    for n in (n for n in sizes if n <= INVERTED):
        found[n] = timed(inversion, points(n))[1]
    greatest = max(found, default=min(INVERTED, min(sizes)))
    if not found:
        found[greatest] = timed(inversion, points(greatest))[1]
    return {
        n: (found[n], False) if n in found else (found[greatest] * (n / greatest) ** 3, True)
        for n in sizes
    }


def print_times(console, quick):
    """Figure 4 (a): time and error for growing n, 50 iterations of the paper's solvers."""
    sizes = (500, 1000, 2000) if quick else (1000, 2000, 4000, 8000, 10_000)
    rounds = 1 if quick else 3
    inverse = inversion_seconds(sizes)
    ways = {
        "Cholesky, scipy": scipy_magnitude,
        "iterative normalization, 50": lambda X: last(normalized(similarities(X), 50)),
        "descent at 0.01, 50": lambda X: last(descended(similarities(X), 50)),
        "descent, stable rate, 50": lambda X: last(
            descended(zeta := similarities(X), 50, stable_rate(zeta))
        ),
        "skmag cholesky": lambda X: ours(X, "cholesky", 1e-6),
        "skmag cg, 1e-6": lambda X: ours(X, "cg", 1e-6),
        "skmag cg, 1e-2": lambda X: ours(X, "cg", 1e-2),
        "skmag sparse, 1e-4": lambda X: ours(X, "sparse", 1e-4),
        "maximum diversity, 1e-3": lambda X: float(maximum_diversity(X, tol=1e-3)),
    }
    table = Table(title="Figure 4 (a): CPU seconds, and relative error of the magnitude")
    table.add_column("")
    for n in sizes:
        table.add_column(f"n = {n:,}", justify="right")
    cells = [f"{s:.2f}{' (n^3)' if guessed else ''}" for s, guessed in inverse.values()]
    table.add_row("inversion", *cells)
    exact = {n: scipy_magnitude(points(n)) for n in sizes}
    for name, way in ways.items():
        cells = []
        for n in sizes:
            value, seconds = timed(way, points(n), rounds=rounds)
            cells.append(f"{seconds:.2f} ({shown(value / exact[n] - 1)})")
        table.add_row(name, *cells)
    console.print(table)


def shown(error):
    """Write an error, or that there is no telling."""
    return f"{error:+.0e}" if abs(error) < 1e3 else "diverged"


def print_convergence(console, quick):
    """Figure 4 (b) and (c): error after each number of iterations."""
    n, runs = (1000, 3) if quick else (10_000, 3)
    marks = (1, 2, 5, 10, 20, 50, 100, 200, 500)
    table = Table(
        title=f"Figure 4 (b, c): error after k iterations, n = {n:,}, mean of {runs} sets"
    )
    table.add_column("")
    for k in marks:
        table.add_column(f"k = {k}", justify="right")
    found = {}
    for seed in range(runs):
        X = points(n, seed=seed)
        exact = scipy_magnitude(X)
        zeta = similarities(X)
        curves = {
            "iterative normalization": normalized(zeta, marks[-1]),
            "descent at 0.01": descended(zeta, 50),
            "descent, stable rate": descended(
                zeta, marks[5] if not quick else 200, stable_rate(zeta)
            ),
        }
        for name, curve in curves.items():
            values = np.array(list(curve)) / exact - 1
            found.setdefault(name, []).append(values)
        diversity = float(maximum_diversity(X, tol=1e-7))
        found.setdefault("limit", []).append(diversity / exact - 1)
    for name, values in found.items():
        if name == "limit":
            continue
        mean = np.mean(values, axis=0)
        table.add_row(name, *(shown(mean[k - 1]) if k <= len(mean) else "" for k in marks))
    console.print(table)
    console.print(
        "error of the limit of iterative normalization, the maximum diversity: "
        f"{np.mean(found['limit']):+.1e}"
    )
    table = Table(
        title=f"Figure 4, skmag cg at n = {n:,}: steps, CPU seconds, true and certified error"
    )
    for column in ("tol", "steps", "CPU s", "true error", "interval"):
        table.add_column(column, justify="right")
    X = points(n)
    exact = scipy_magnitude(X)
    for tol in (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8):
        w, seconds = timed(weighting, X, solver="cg", tol=tol)
        width = (w.upper - w.lower) / w.lower
        table.add_row(
            f"{tol:g}",
            str(w.n_iter),
            f"{seconds:.2f}",
            f"{w.magnitude / exact - 1:+.0e}",
            f"{width:.0e}",
        )
    console.print(table)


def print_subsets(console, quick):
    """Figure 5: inversion, greedy maximization and discrete centers."""
    sizes = (500, 1000, 2000) if quick else (500, 1000, 2000, 4000, 8000, 10_000)
    inverse = inversion_seconds(sizes)
    table = Table(title="Figure 5: CPU seconds (share of the magnitude) of n / 20 points")
    table.add_column("")
    for n in sizes:
        table.add_column(f"n = {n:,}", justify="right")
    cells = [f"{s:.2f}{' (n^3)' if guessed else ''}" for s, guessed in inverse.values()]
    table.add_row("inversion, all points", *cells)
    exact = {n: scipy_magnitude(points(n)) for n in sizes}
    for strategy in ("greedy", "centers", "random"):
        cells = []
        for n in sizes:
            selector = MagnitudeSubsetSelector(n // 20, strategy=strategy, t=1.0, random_state=0)
            fitted, seconds = timed(selector.fit, points(n))
            cells.append(f"{seconds:.3f} ({fitted.magnitudes_[-1] / exact[n]:.0%})")
        table.add_row(strategy, *cells)
    cells = [f"{timed(DiscreteCenterHierarchy, points(n))[1]:.3f}" for n in sizes]
    table.add_row("hierarchy of all centers", *cells)
    table.add_row(
        "skmag cg, 1e-6, all points",
        *(f"{timed(ours, points(n), 'cg', 1e-6)[1]:.2f}" for n in sizes),
    )
    console.print(table)


def print_large(console, quick):
    """Figure 8: more points, ten iterations."""
    sizes = (1000, 2000) if quick else (8000, 10_000, 15_000, 20_000)
    inverse = inversion_seconds(sizes)
    table = Table(title="Figure 8: CPU seconds (relative error)")
    table.add_column("")
    for n in sizes:
        table.add_column(f"n = {n:,}", justify="right")
    cells = [f"{s:.1f}{' (n^3)' if guessed else ''}" for s, guessed in inverse.values()]
    table.add_row("inversion", *cells)
    exact = {n: ours(points(n), "cg", 1e-9) for n in sizes}
    rows = {
        "iterative normalization, 10": lambda X: last(normalized(similarities(X), 10)),
        "skmag cg, 1e-2": lambda X: ours(X, "cg", 1e-2),
        "skmag cg, 1e-6": lambda X: ours(X, "cg", 1e-6),
        "skmag sparse, 1e-4": lambda X: ours(X, "sparse", 1e-4),
        "maximum diversity, 1e-3": lambda X: float(maximum_diversity(X, tol=1e-3)),
    }
    for name, way in rows.items():
        cells = []
        for n in sizes:
            value, seconds = timed(way, points(n))
            cells.append(f"{seconds:.2f} ({shown(value / exact[n] - 1)})")
        table.add_row(name, *cells)
    console.print(table)


def print_batches(console, quick):
    """Figure 9: mini-batches, 50 iterations, where an iteration is a step or an epoch."""
    n, runs, marks = (300, 3, (20, 50)) if quick else (2000, 10, (20, 50))
    table = Table(title=f"Figure 9: relative error at n = {n:,}, mean ± deviation of {runs} runs")
    table.add_column("batch size")
    for unit in ("steps", "epochs"):
        for rate in ("0.01", "stable"):
            for k in marks:
                table.add_column(f"{k} {unit}, {rate}", justify="right")
    for batch in (*BATCHES, None):
        found = []
        for seed in range(runs):
            zeta = similarities(points(n, seed=seed))
            exact = np.linalg.solve(zeta, np.ones(n)).sum()
            row = []
            for each in (1, -(-n // batch) if batch else 1):
                for rate in (RATE, stable_rate(zeta, batch)):
                    with np.errstate(over="ignore", invalid="ignore"):
                        curve = list(descended(zeta, marks[-1] * each, rate, batch, seed))
                    row += [curve[k * each - 1] / exact - 1 for k in marks]
            found.append(row)
        with np.errstate(over="ignore", invalid="ignore"):
            mean, spread = np.mean(found, axis=0), np.std(found, axis=0)
        cells = [
            f"{m:+.2f} ± {s:.2f}" if abs(m) + s < 99 else "diverged"
            for m, s in zip(mean, spread, strict=True)
        ]
        table.add_row(str(batch or "all"), *cells)
    console.print(table)


def print_claim(console, quick):
    """At the error of k iterations: their CPU seconds, and ours."""
    n, rounds = (1000, 1) if quick else (10_000, 5)
    ways = {
        "cg": lambda X, t, error: ours(X, "cg", error, t),
        "sparse": lambda X, t, error: ours(X, "sparse", error, t),
        # What the iteration converges to, a tenth of its error away.
        "diversity": lambda X, t, error: float(maximum_diversity(X, t=t, tol=error / 10)),
    }
    table = Table(title=f"At the error of k steps of iterative normalization, n = {n:,}")
    for column in ("points", "k", "its error", "its CPU s"):
        table.add_column(column, justify="right")
    for name in ways:
        table.add_column(f"{name}: error", justify="right")
        table.add_column("time ratio", justify="right")
    for dimension in (2, 10):
        X = points(n, dimension)
        scale = 1 / np.median(cdist(X[:1000], X[:1000])[np.triu_indices(1000, 1)])
        for t in (1.0, scale):
            exact = scipy_magnitude(X, t)
            for k in (1, 2, 5, 10, 20):
                theirs, ratios, errors = [], {name: [] for name in ways}, {}
                for _ in range(rounds):
                    value, seconds = timed(steps_of_normalization, X, t, k)
                    error = abs(value / exact - 1)
                    theirs.append(seconds)
                    for name, way in ways.items():
                        if name == "sparse" and dimension > 3:
                            continue  # its tail does not converge there
                        own, own_seconds = timed(way, X, t, error)
                        errors[name] = abs(own / exact - 1)
                        ratios[name].append(own_seconds / seconds)
                cells = [f"R^{dimension}, t = {t:.2g}", str(k), f"{error:.1e}"]
                cells.append(f"{median(theirs):.2f}")
                for name in ways:
                    known = name in errors
                    cells.append(f"{errors[name]:.1e}" if known else "")
                    cells.append(f"{median(ratios[name]):.2f}" if known else "")
                table.add_row(*cells)
    console.print(table)


def steps_of_normalization(X, t, k):
    """Return the sum of the weights after k steps, with the matrix that it takes."""
    return last(normalized(similarities(X, t), k))


PARTS = {
    "times": print_times,
    "convergence": print_convergence,
    "subsets": print_subsets,
    "large": print_large,
    "batches": print_batches,
    "claim": print_claim,
}


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller sets and fewer runs")
    parser.add_argument("--part", choices=PARTS, action="append", help="only some of the tables")
    arguments = parser.parse_args()
    console = Console(width=170)
    for part in arguments.part or PARTS:
        start = time.perf_counter()
        PARTS[part](console, arguments.quick)
        console.print(f"{part}: {time.perf_counter() - start:.0f} s\n")


if __name__ == "__main__":
    main()
