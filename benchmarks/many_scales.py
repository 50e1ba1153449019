"""The magnitude at 50 scales beside 50 Cholesky factors: what neighbouring scales share.

skmag's ``magnitude_function`` solves by conjugate gradients from the largest scale down, each solve
beginning with weights extrapolated from the last ones, and certifies every value to 1e-6. The peer
is plain scipy, which computes the distances once. Both run in turn in this process with one thread
each; seconds are CPU seconds, ratios medians over the rounds. The error is the greatest relative
one over the scales.
"""

import argparse
import time
import warnings
from statistics import median

import numpy as np
import quiet
from baseline import magnitude_function as by_cholesky
from rich.console import Console
from rich.table import Table
from side_by_side import limit_threads
from sklearn.exceptions import ConvergenceWarning

from skmag import magnitude_function, scale_grid

TOL = 1e-6


def normal(random, n, dimension):
    return random.standard_normal((n, dimension))


def clusters(random, n, dimension):
    centers = 10 * random.standard_normal((8, dimension))
    return centers[random.integers(8, size=n)] + 0.1 * random.standard_normal((n, dimension))


def curved(random, n, dimension):
    """Return points of a curved surface."""
    angles = random.uniform(-2, 2, size=(n, 2))
    waves = random.standard_normal((2, dimension))
    return np.sin(angles @ waves) + 0.1 * angles[:, :1] ** 2


SETS = {
    "N(0, 1) in R^2": (normal, 2),
    "N(0, 1) in R^10": (normal, 10),
    "8 clusters in R^3": (clusters, 3),
    "surface in R^20": (curved, 20),
}


def timed(way, X, ts):
    """Return values and the CPU seconds they took."""
    start = time.process_time()
    values = way(X, ts)
    return values, time.process_time() - start


def by_skmag(X, ts):
    return magnitude_function(X, ts, solver="cg", tol=TOL)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=4000)
    parser.add_argument("--scales", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="2,000 points, 20 scales, one round")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.n, arguments.scales, arguments.repeats = 2000, 20, 1
    limit_threads(1)
    console = Console(width=120)
    n, repeats = arguments.n, arguments.repeats
    table = Table(title=f"n = {n:,}, {arguments.scales} scales, tol = {TOL:g}, {repeats} rounds")
    for heading in ["points", "unmet", "error", "skmag, s", "cholesky, s", "ratio"]:
        table.add_column(heading, justify="right")
    for label, (draw, dimension) in SETS.items():
        X = draw(np.random.default_rng(0), n, dimension)
        ts = scale_grid(X, arguments.scales)
        ours, theirs = [], []
        for _ in range(repeats):
            watch = quiet.Watch()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ConvergenceWarning)
                values, seconds = timed(by_skmag, X, ts)
            ours.append(seconds)
            expected, seconds = timed(by_cholesky, X, ts)
            theirs.append(seconds)
            if watch.disturbed():
                console.print("[dim]a round was disturbed by other processes")
        table.add_row(
            label,
            str(len(caught)),
            f"{np.abs(values / expected - 1).max():.1e}",
            f"{median(ours):.2f}",
            f"{median(theirs):.2f}",
            f"1 / {median(b / a for a, b in zip(ours, theirs, strict=True)):.1f}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
