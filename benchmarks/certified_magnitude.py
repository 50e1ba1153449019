"""A certified magnitude of 10,000 points beside scipy's Cholesky factor and the full inverse.

All three run in turn in this process with one thread each, on standard normal points in R^2 and
R^10 at t = 1 and at one over the median distance. The inverse is the baseline of "Approximating
metric magnitude of point sets" (cdist, exp, inv, sum). Seconds are CPU seconds and include the
distances; every figure is the median of the rounds, ratios are medians of each round's ratio.
Errors are relative, against the Cholesky factor. The promise is the width of the certified
interval over the magnitude.
"""

import argparse
import time
from statistics import median

import numpy as np
import quiet
from baseline import magnitude as by_cholesky
from rich.console import Console
from rich.table import Table
from scipy.linalg import inv
from scipy.spatial.distance import cdist
from side_by_side import limit_threads

from skmag import magnitude, weighting

TOL = 1e-6


def by_inverse(X, t):
    """Return the sum of the inverse, in the memory of two n x n matrices."""
    Z = cdist(X, X)
    np.multiply(Z, -t, out=Z)
    np.exp(Z, out=Z)
    return float(inv(Z.T, overwrite_a=True, check_finite=False).sum())


def by_skmag(X, t):
    return magnitude(X, t=t, solver="cg", tol=TOL)


def timed(way, X, t):
    """Return a value and the CPU seconds it took."""
    start = time.process_time()
    value = way(X, t)
    return value, time.process_time() - start


def compared(ways, X, t, repeats, console):
    """Return the last value and all seconds of each way, which take turns."""
    values, seconds = {}, {name: [] for name in ways}
    for _ in range(repeats):
        watch = quiet.Watch()
        for name, way in ways.items():
            values[name], spent = timed(way, X, t)
            seconds[name].append(spent)
        if watch.disturbed():
            console.print("[dim]a round was disturbed by other processes")
    return values, seconds


def ratio(seconds, name, other):
    pairs = zip(seconds[name], seconds[other], strict=True)
    return f"1 / {median(theirs / ours for ours, theirs in pairs):.1f}"


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-inverse", action="store_true", help="leave out what takes minutes")
    parser.add_argument("--quick", action="store_true", help="3,000 points, one round")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.n, arguments.repeats = 3000, 1
    limit_threads(1)
    console = Console(width=140)
    ways = {"skmag": by_skmag, "cholesky": by_cholesky, "inverse": by_inverse}
    if arguments.no_inverse:
        del ways["inverse"]
    others = [name for name in ways if name != "skmag"]
    table = Table(
        title=f"n = {arguments.n:,}, tol = {TOL:g}, one thread, {arguments.repeats} rounds"
    )
    headings = ["points", "promised", "error", "iterations", *[f"{name}, s" for name in ways]]
    for heading in [*headings, *[f"skmag / {name}" for name in others]]:
        table.add_column(heading, justify="right")
    for dimension in (2, 10):
        X = np.random.default_rng(0).standard_normal((arguments.n, dimension))
        for label, t in (("1", 1.0), ("scale", weighting(X[:2000], t="scale").t)):
            values, seconds = compared(ways, X, t, arguments.repeats, console)
            space = weighting(X, t=t, solver="cg", tol=TOL)
            table.add_row(
                f"R^{dimension}, t = {label}",
                f"{(space.upper - space.lower) / space.magnitude:.1e}",
                f"{abs(values['skmag'] / values['cholesky'] - 1):.1e}",
                str(space.n_iter),
                *[f"{median(seconds[name]):.2f}" for name in ways],
                *[ratio(seconds, "skmag", name) for name in others],
            )
    console.print(table)


if __name__ == "__main__":
    main()
