"""Figures of the paper on magnitude distance as numbers, beside their permutation null.

A null is the same distance between two random halves of the pooled samples. What the paper calls a
mean shift of 2 is taken as the distance between the means; where its caption is silent, the table
says what was chosen.
"""

import argparse
import time

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance_nd
from sklearn.metrics import pairwise_distances

from skmag import magnitude, magnitude_distance

DIMENSIONS = (2, 5, 10, 30, 100, 300, 1000)
PROJECTIONS = 50


def gaussian_mmd(D2, rows, sigma):
    """MMD (V-statistic) of a sample and the other rows, from squared distances of all rows."""
    kernel = np.exp(-D2 / (2 * sigma**2))
    sign = np.where(rows, 1 / rows.sum(), -1 / (~rows).sum())
    return np.sqrt(max(0.0, sign @ kernel @ sign))


def sliced_wasserstein(X, Y, rng):
    """Mean 1-Wasserstein distance of samples of one size over random projections."""
    direction = rng.normal(size=(X.shape[1], PROJECTIONS))
    direction /= np.linalg.norm(direction, axis=0)
    gap = np.sort(X @ direction, axis=0) - np.sort(Y @ direction, axis=0)
    return np.abs(gap).mean()


def wasserstein(X, Y):
    """1-Wasserstein distance of two samples of one size."""
    cost = cdist(X, Y)
    return cost[linear_sum_assignment(cost)].mean()


def measured(X, Y, rng):
    """All distances of Figure 2 between two samples, by name."""
    d = X.shape[1]
    Z, rows = np.vstack([X, Y]), np.arange(len(X) + len(Y)) < len(X)
    D2 = pairwise_distances(Z, metric="sqeuclidean")
    ts = {"t=.01": 0.01, "t=.1": 0.1, "t=1/D": 1 / d, "t=1/sqrt(D)": d**-0.5}
    found = magnitude_distance(X, Y, t=list(ts.values()), normalized=True)
    return dict(zip(ts, found.tolist(), strict=True)) | {
        "MMD, sigma=1": gaussian_mmd(D2, rows, 1.0),
        "MMD, 1/sqrt(D)": gaussian_mmd(D2, rows, d**-0.5),
        "Wasserstein": sliced_wasserstein(X, Y, rng),
    }


def trials(d, shift, n, n_trials):
    """Observed values and nulls of every distance, of shape (n_trials,)."""
    observed, null = [], []
    for seed in range(n_trials):
        rng = np.random.default_rng(seed)
        X, Y = rng.normal(size=(2, n, d))
        Y += shift / np.sqrt(d)
        halves = np.split(rng.permutation(np.vstack([X, Y])), 2)
        observed.append(measured(X, Y, rng))
        null.append(measured(*halves, rng))
    return tuple(
        {name: np.array([found[name] for found in values]) for name in values[0]}
        for values in (observed, null)
    )


def dimensions(console, title, shift_of, n_trials, names=None):
    """Print Figures 2, 3 and 7: means, nulls, coefficients of variation, and how far apart."""
    results = {d: trials(d, shift_of(d), 500, n_trials) for d in DIMENSIONS}
    names = names or list(results[DIMENSIONS[0]][0])

    def print_table(what, cell):
        table = Table(title=f"{title}: {what}; 500 points each, {n_trials} trials")
        for column in ("distance", *[f"D={d}" for d in DIMENSIONS]):
            table.add_column(column, justify="left" if column == "distance" else "right")
        for name in names:
            cells = [cell(observed[name], null[name]) for observed, null in results.values()]
            table.add_row(name, *cells)
        console.print(table)

    print_table("mean / null", lambda x, null: f"{x.mean():.3f} / {null.mean():.3f}")
    print_table("coefficient of variation", lambda x, null: f"{x.std(ddof=1) / x.mean():.4f}")

    def gap(x, null):
        # A distance that has collapsed varies by rounding only.
        spread = null.std(ddof=1)
        return f"{(x.mean() - null.mean()) / spread:.1f}" if spread > 1e-9 else "-"

    print_table("(mean - null) / deviation of the null", gap)


def scales(console, n_trials):
    """Print Figure 1: both distances for shifts of every coordinate, and their limits."""
    ts, shifts = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
    for normalized in (True, False):
        kind = "normalized" if normalized else "standard"
        table = Table(title=f"Figure 1, {kind}: mean / null; 200 points each, {n_trials} trials")
        for column in ("shift", *[f"t={t:g}" for t in ts]):
            table.add_column(column, justify="right")
        limit = []
        for shift in shifts:
            observed, null = [], []
            for seed in range(n_trials):
                rng = np.random.default_rng(seed)
                X, Y = rng.normal(size=(2, 200, 100))
                Y += shift
                halves = np.split(rng.permutation(np.vstack([X, Y])), 2)
                observed.append(magnitude_distance(X, Y, t=ts, normalized=normalized))
                null.append(magnitude_distance(*halves, t=ts, normalized=normalized))
                limit.append([magnitude(X, t=t) + magnitude(Y, t=t) for t in ts])
            means = zip(np.mean(observed, axis=0), np.mean(null, axis=0), strict=True)
            digits = 3 if normalized else 1
            table.add_row(f"{shift:g}", *[f"{a:.{digits}f} / {b:.{digits}f}" for a, b in means])
        last = np.ones(6) if normalized else np.mean(limit, axis=0)
        table.add_row("limit", *[f"{value:.{3 if normalized else 1}f}" for value in last])
        console.print(table)


def outliers(console, n_trials):
    """Print Figure 4: relative change of distances when a dispersed set joins Y."""
    ts = np.array([0.1, 1.0, 5.0, 20.0, 1000.0])
    table = Table(title=f"Figure 4: relative change in % (standard deviation), {n_trials} draws")
    for column in ("points", "outliers", "dispersion", *[f"t={t:g}" for t in ts], "Wasserstein"):
        table.add_column(column, justify="right")
    for n, count in ((30, 4), (100, 14)):
        for dispersion in (3.0, 5.0, 6.5, 8.0):
            changes = []
            for seed in range(n_trials):
                rng = np.random.default_rng(seed)
                base = rng.normal(size=(n, 2))
                clean = rng.normal(size=(n, 2)) + 2.0
                noisy = np.vstack([clean, dispersion * rng.normal(size=(count, 2)) + 2.0])
                before = magnitude_distance(base, clean, t=ts)
                change = magnitude_distance(base, noisy, t=ts) / before - 1
                moved = wasserstein_distance_nd(base, noisy)
                moved = moved / wasserstein_distance_nd(base, clean) - 1
                changes.append([*(100 * change), 100 * moved])
            cells = zip(np.mean(changes, axis=0), np.std(changes, axis=0, ddof=1), strict=True)
            row = [f"{mean:.2f} ({deviation:.2f})" for mean, deviation in cells]
            table.add_row(str(n), str(count), f"{dispersion:g}", *row)
    console.print(table)


def contamination(console, n_trials):
    """Print Figures 5 and 8: a share of 500 points of the plane moves out to a radius."""
    ts = np.array([0.001, 0.1, 10.0])
    table = Table(
        title=f"Figures 5 and 8: mean / null, 500 points each in the plane, {n_trials} draws"
    )
    columns = [f"{kind} t={t:g}" for kind in ("d,", "normalized,") for t in ts]
    for column in ("share", "radius", *columns, "Wasserstein"):
        table.add_column(column, justify="right")
    for share in (0.01, 0.05, 0.1):
        for radius in (10.0, 100.0, 1000.0, 1e5):
            observed, null = [], []
            for seed in range(n_trials):
                rng = np.random.default_rng(seed)
                X, Y = rng.normal(size=(2, 500, 2))
                angle = rng.uniform(0, 2 * np.pi, int(500 * share))
                Y[: len(angle)] += radius * np.c_[np.cos(angle), np.sin(angle)]
                halves = np.split(rng.permutation(np.vstack([X, Y])), 2)
                for found, (A, B) in ((observed, (X, Y)), (null, halves)):
                    raw = magnitude_distance(A, B, t=ts)
                    normalized = magnitude_distance(A, B, t=ts, normalized=True)
                    found.append([*raw, *normalized, wasserstein(A, B)])
            cells = zip(np.mean(observed, axis=0), np.mean(null, axis=0), strict=True)
            table.add_row(f"{share:g}", f"{radius:g}", *[f"{a:.3g} / {b:.3g}" for a, b in cells])
    console.print(table)


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few trials")
    quick = parser.parse_args().quick
    console, start = Console(width=160), time.perf_counter()
    scales(console, 2 if quick else 20)
    outliers(console, 2 if quick else 20)
    contamination(console, 2 if quick else 10)
    dimensions(console, "Figures 2 and 3, shift 2", lambda d: 2.0, 4 if quick else 100)
    magnitudes = ["t=.01", "t=.1", "t=1/D", "t=1/sqrt(D)", "MMD, sigma=1"]
    shift = "Figure 7, shift 2 sqrt(D)"
    dimensions(console, shift, lambda d: 2 * d**0.5, 3 if quick else 30, magnitudes)
    console.print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
