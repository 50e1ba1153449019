"""Representatives: how much of the magnitude few points have, what they cost and are worth.

Shares: for each strategy the number of points that have 50, 90 and 95% of the magnitude of all, and
the share that 5% of the points have. Iris, breast cancer and wine are standardized, the Swiss roll
is not, and 500 MNIST images (pixels from 0 to 1) are reduced to 100 principal components, as in
"Approximating metric magnitude of point sets", Figures 3, 10, 12 and 13, which name no scale: one
over the median distance, ten over it, and 1 are tried. Sets that need SKMAG_DATA are left out where
it names no folder.
"""

import argparse
import time

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_swiss_roll,
)
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmag import DiscreteCenterHierarchy, MagnitudeSubsetSelector, magnitude
from skmag.datasets import available, load, make_checkerboard

STRATEGIES = ("greedy", "centers", "random")
SHARES = (0.5, 0.9, 0.95)
CHOSEN = 0.05
MODELS = ("KNN", "logistic", "landmarks")


def figure_sets():
    """Name and points of the papers' figures."""
    for name, read in (("iris", load_iris), ("breast cancer", load_breast_cancer)):
        yield name, StandardScaler().fit_transform(read().data)
    yield "wine", StandardScaler().fit_transform(load_wine().data)
    yield "Swiss roll", make_swiss_roll(500, random_state=0)[0]
    if "mnist" in available():
        X = load("mnist")[0]
        rows = np.random.default_rng(0).choice(len(X), 500, replace=False)
        yield "MNIST, PCA 100", PCA(100, random_state=0).fit_transform(X[rows] / 255)


def shares(n_seeds):
    """Points needed for shares of the magnitude, share of few points, and seconds."""
    for name, X in figure_sets():
        scale = MagnitudeSubsetSelector(1, strategy="random").fit(X).t_
        for label, t in (("1 / median", scale), ("10 / median", 10 * scale), ("1", 1.0)):
            whole, n = magnitude(X, t=t), len(np.unique(X, axis=0))
            few = max(1, round(CHOSEN * n))
            for strategy in STRATEGIES:
                needed, have, seconds = [], [], []
                for seed in range(n_seeds):
                    selector = MagnitudeSubsetSelector(
                        None, strategy=strategy, t=t, random_state=seed
                    )
                    start = time.process_time()
                    curve = selector.fit(X).magnitudes_
                    seconds.append(time.process_time() - start)
                    enough = np.array(SHARES) * whole * (1 - 1e-12)
                    needed.append(np.searchsorted(curve, enough) + 1)
                    have.append(curve[few - 1] / whole)
                yield name, label, whole, n, strategy, np.mean(needed, 0), have, np.mean(seconds)


def labelled_sets(quick):
    """Name, data, and sizes of the parts."""
    share = {"test_size": 0.3}
    yield "digits", *load_digits(return_X_y=True), share
    yield "breast cancer", *load_breast_cancer(return_X_y=True), share
    yield "checkerboard", *make_checkerboard(2000), share
    for name in ("ionosphere", "housing", "galaxy_dim"):
        if name in available():
            yield name, *load(name), share
    if "mnist" in available() and not quick:
        X, y = load("mnist")
        rows = np.random.default_rng(0).choice(len(X), 3000, replace=False)
        X = PCA(50, random_state=0).fit_transform(X[rows] / 255)
        yield "MNIST 3,000, PCA 50", X, y[rows], share


def worth(X, y, sizes, n_splits):
    """Accuracies for each way to choose and each model, one a split.

    KNN and logistic regression see the chosen points alone; "landmarks" is a logistic regression
    that sees all rows, described by their similarities to the chosen ones.
    """
    ways = {
        "random": {"strategy": "random"},
        "centers": {"strategy": "centers"},
        "greedy": {"strategy": "greedy"},
        "greedy, 10 / median": {"strategy": "greedy", "t": None},
        "all": None,
    }
    found = {(way, model): [] for way in ways for model in MODELS}
    splitter = StratifiedShuffleSplit(n_splits, random_state=0, **sizes)
    for seed, (train, test) in enumerate(splitter.split(X, y)):
        scaler = StandardScaler().fit(X[train])
        A, B = scaler.transform(X[train]), scaler.transform(X[test])
        for way, params in ways.items():
            rows = np.arange(len(A))
            linear = LogisticRegression(max_iter=5000)
            if params is not None:
                selector = MagnitudeSubsetSelector(CHOSEN, random_state=seed, **params)
                if "t" in params:
                    scale = MagnitudeSubsetSelector(1, strategy="random").fit(A).t_
                    selector.set_params(t=10 * scale)
                features = make_pipeline(selector, StandardScaler())
                U = features.fit_transform(A)
                linear.fit(U, y[train])
                found[way, "landmarks"].append(linear.score(features.transform(B), y[test]))
                rows = selector.sample_indices_
            for name, model in (("KNN", KNeighborsClassifier(1)), ("logistic", linear)):
                labels = y[train][rows]
                if len(np.unique(labels)) == 1:
                    model = DummyClassifier()
                found[way, name].append(model.fit(A[rows], labels).score(B, y[test]))
    return found


def print_shares(console, n_seeds):
    """Print the table of shares."""
    table = Table(title=f"Points that have a share of the magnitude (means of {n_seeds} seeds)")
    for column in ("data", "t", "magnitude", "points", "strategy"):
        table.add_column(column)
    for column in (*(f"{share:.0%}" for share in SHARES), f"share of {CHOSEN:.0%}", "CPU s"):
        table.add_column(column, justify="right")
    for name, t, whole, n, strategy, needed, have, seconds in shares(n_seeds):
        cells = [f"{count:.0f}" for count in needed]
        cells += [f"{np.mean(have):.3f} ± {np.std(have):.3f}", f"{seconds:.3f}"]
        table.add_row(name, t, f"{whole:.1f}", str(n), strategy, *cells)
    console.print(table)


def print_costs(console, quick):
    """Print CPU times of large choices and of whole hierarchies."""
    rng = np.random.default_rng(0)
    cases = [("greedy", 200, 10_000), ("centers", 1000, 100_000 if quick else 1_000_000)]
    for strategy, m, n in cases:
        X = rng.normal(size=(n, 2))
        start = time.process_time()
        MagnitudeSubsetSelector(m, strategy=strategy, random_state=0).fit(X)
        seconds = time.process_time() - start
        console.print(f"{strategy} {m:,} of {n:,} in R^2: {seconds:.1f} s CPU")
    table = Table(title="Whole hierarchies: CPU seconds, and the slope of their logarithms")
    sizes = [1000, 10_000, 100_000] if quick else [1000, 10_000, 100_000, 300_000]
    for column in ("points in", *(f"n = {n:,}" for n in sizes), "slope from 10^4 on"):
        table.add_column(column, justify="right")
    mix, shift = rng.normal(size=(2, 20)), rng.uniform(0, 6, size=20)
    spaces = {
        "R^2": lambda n: rng.uniform(size=(n, 2)),
        "R^3": lambda n: rng.uniform(size=(n, 3)),
        "a surface in R^20": lambda n: np.sin(2 * rng.uniform(size=(n, 2)) @ mix + shift),
    }
    for name, draw in spaces.items():
        seconds = []
        for n in sizes:
            X, start = draw(n), time.process_time()
            DiscreteCenterHierarchy(X)
            seconds.append(time.process_time() - start)
        slope = np.polyfit(np.log(sizes[1:]), np.log(seconds[1:]), 1)[0]
        table.add_row(name, *(f"{s:.2f}" for s in seconds), f"{slope:.2f}")
    console.print(table)
    table = Table(title="Updates of a hierarchy in R^2: CPU milliseconds a point, means of 100")
    for column in ("n", "insert", "remove"):
        table.add_column(column, justify="right")
    for n in sizes[:3]:
        hierarchy, cost = DiscreteCenterHierarchy(rng.uniform(size=(n, 2))), []
        new, old = rng.uniform(size=(100, 1, 2)), rng.integers(0, n, size=100)
        for change, items in ((hierarchy.insert, new), (hierarchy.remove, old)):
            start = time.process_time()
            for item in items:
                change(item)
            cost.append(10 * (time.process_time() - start))
        table.add_row(f"{n:,}", *(f"{ms:.1f}" for ms in cost))
    console.print(table)


def print_worth(console, n_splits, quick):
    """Print accuracies on few points."""
    table = Table(title=f"Accuracy when trained on {CHOSEN:.0%} of the rows, {n_splits} splits")
    for column in ("data", "model", "random", "centers", "greedy", "greedy, 10 / median", "all"):
        table.add_column(column, justify="left" if column in ("data", "model") else "right")
    for name, X, y, sizes in labelled_sets(quick):
        found = worth(X, y, sizes, n_splits)
        ways = list(dict.fromkeys(way for way, _ in found))
        for model in MODELS:
            cells = []
            for way in ways:
                own = np.array(found[way, model])
                error = own.std(ddof=1) / len(own) ** 0.5 if len(own) else 0.0
                cells.append(f"{own.mean():.3f} ± {error:.3f}" if len(own) else "")
            table.add_row(name, model, *cells)
    console.print(table)


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer seeds and smaller sets")
    parts = ("shares", "costs", "worth")
    parser.add_argument("--part", choices=parts, action="append", help="only some of the tables")
    arguments = parser.parse_args()
    quick, wanted = arguments.quick, arguments.part or parts
    console, start = Console(width=150), time.perf_counter()
    if "shares" in wanted:
        print_shares(console, 2 if quick else 10)
    if "costs" in wanted:
        print_costs(console, quick)
    if "worth" in wanted:
        print_worth(console, 3 if quick else 20, quick)
    console.print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
