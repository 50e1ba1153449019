"""Active learning as in Figure 5 of "Practical applications of metric space magnitude".

67% of each set are the pool, 33% the test set. A run starts from four random labels, and more at
random until every class is among them; then every strategy chooses four rows a round. All use
one classifier, a kernel ridge regression with bias on labels -1 and 1 (LS-SVM), under the
Laplacian kernel exp(-.1 |x - y|_1) on standardized features; the weights are those of the same
kernel, but for "default", which is the mixture at the learner's default metric and scale. The
area under a curve is the mean accuracy over the rounds.
"""

import argparse
import time

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skmag import MagnitudeActiveLearner
from skmag.datasets import available, load, make_checkerboard

GAMMA = 0.1
BATCH = 4
# The weights of the paper are those of the classifier's kernel.
PAPER = {"metric": "cityblock", "t": GAMMA}
OURS = {
    "min_max": {"strategy": "min_max", **PAPER},
    "mixture": {"strategy": "mixture", **PAPER},
    "max": {"strategy": "max", **PAPER},
    "default": {},
}
STRATEGIES = (*OURS, "uncertainty", "random")
PAIRS = (
    ("min_max", "uncertainty"),
    ("mixture", "uncertainty"),
    ("min_max", "random"),
    ("mixture", "random"),
    ("mixture", "min_max"),
    ("default", "uncertainty"),
)


class LeastSquaresSVM(ClassifierMixin, BaseEstimator):
    """f(x) = K(x, L)'w - w_0 with a ridge on w, for two classes."""

    def __init__(self, ridge=0.01):
        self.ridge = ridge

    def fit(self, X, y):
        self.classes_, codes = np.unique(y, return_inverse=True)
        n = len(X)
        self.X_ = X
        system = np.ones((n + 1, n + 1))
        system[:n, :n] = np.exp(-GAMMA * cdist(X, X, "cityblock"))
        system[range(n), range(n)] += self.ridge
        system[n, n] = 0
        self.coefficients_ = np.linalg.solve(system, np.append(2.0 * codes - 1, 0.0))
        return self

    def decision_function(self, X):
        kernel = np.exp(-GAMMA * cdist(X, self.X_, "cityblock"))
        return kernel @ self.coefficients_[:-1] + self.coefficients_[-1]

    def predict(self, X):
        return self.classes_[(self.decision_function(X) > 0).astype(int)]


def data_sets():
    """Name and data of every set of the figure that is at hand."""
    yield "breast cancer", *load_breast_cancer(return_X_y=True)
    for name in ("ionosphere", "housing", "cleveland", "galaxy_dim"):
        if name in available():
            yield name, *load(name)
    yield "checkerboard", *make_checkerboard(1000)


def initial_rows(y, rng):
    """Random rows, four or as many more as it takes to meet every class."""
    order = rng.permutation(len(y))
    firsts = [int(np.flatnonzero(y[order] == c)[0]) for c in np.unique(y)]
    return order[: max(BATCH, max(firsts) + 1)]


def query(strategy, learner, X, rng):
    """Rows that a strategy chooses in a pool."""
    if strategy in OURS:
        return learner.query(X)
    left = np.flatnonzero(~learner.labelled_)
    if strategy == "random":
        return rng.choice(left, min(BATCH, len(left)), replace=False)
    return left[np.argsort(np.abs(learner.decision_function(X[left])))[:BATCH]]


def curve(strategy, pool, test, rounds, seed, ridge):
    """Accuracies on the test set after each round, the start included."""
    rng = np.random.default_rng(seed)
    X, answers = pool
    known = np.zeros(len(X), dtype=bool)
    known[initial_rows(answers, rng)] = True
    accuracies = []
    for done in range(rounds + 1):
        how = OURS.get(strategy, {"strategy": "max"})  # others do not use the learner's choice
        learner = MagnitudeActiveLearner(
            LeastSquaresSVM(ridge), batch_size=BATCH, unlabelled=-1, random_state=seed, **how
        ).fit(X, np.where(known, answers, -1))
        accuracies.append(learner.score(*test))
        if done < rounds and not known.all():
            known[query(strategy, learner, X, rng)] = True
    return accuracies


def run(X, y, rounds, seed, ridge, most):
    """Accuracies of shape (n_strategies, rounds + 1) from one split and one start."""
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.33, random_state=seed, stratify=y)
    scaler = StandardScaler().fit(X)
    pool, test = (scaler.transform(X)[:most], y[:most]), (scaler.transform(X_test), y_test)
    return [curve(strategy, pool, test, rounds, seed, ridge) for strategy in STRATEGIES]


def mean_and_error(values):
    """Mean and standard error over the runs."""
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


def verdict(mean, error):
    """Win, loss or neither, at two standard errors."""
    if abs(mean) <= 2 * error:
        return "="
    return "+" if mean > 0 else "-"


def area_table(results):
    """Areas under the curves, in percent."""
    table = Table(title="Area under the curve (standard error), percent")
    for column in ("data", *STRATEGIES):
        table.add_column(column, justify="left" if column == "data" else "right")
    for name, found in results.items():
        areas = [mean_and_error(100 * own.mean(axis=1)) for own in found]
        table.add_row(name, *[f"{mean:.1f} ({error:.1f})" for mean, error in areas])
    return table


def difference_table(results):
    """Differences of areas run by run, in percent: + is a win at two standard errors."""
    table = Table(title="Paired differences of areas (standard error), percent")
    table.add_column("data")
    for ours, theirs in PAIRS:
        table.add_column(f"{ours} - {theirs}", justify="right")
    marks = dict.fromkeys(PAIRS, "")
    for name, found in results.items():
        areas = dict(zip(STRATEGIES, 100 * found.mean(axis=2), strict=True))
        cells = []
        for pair in PAIRS:
            mean, error = mean_and_error(areas[pair[0]] - areas[pair[1]])
            marks[pair] += verdict(mean, error)
            cells.append(f"{mean:+.1f} ({error:.1f}) {marks[pair][-1]}")
        table.add_row(name, *cells)
    counts = [f"{own.count('+')} won, {own.count('-')} lost" for own in marks.values()]
    table.add_row("", *counts)
    return table


def curve_table(results):
    """Accuracies along the way, in percent."""
    rounds = next(iter(results.values())).shape[2] - 1
    shown = [done for done in (0, 2, 5, 10, 15, 20, 25) if done <= rounds]
    table = Table(title="Accuracy after rounds of four labels, percent")
    for column in ("data", "strategy", *map(str, shown)):
        table.add_column(column, justify="left" if column in ("data", "strategy") else "right")
    for name, found in results.items():
        for s, strategy in enumerate(STRATEGIES):
            means = [f"{100 * found[s, :, done].mean():.1f}" for done in shown]
            table.add_row("" if s else name, strategy, *means)
    return table


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100, help="number of splits and starts")
    parser.add_argument("--rounds", type=int, default=25, help="number of rounds")
    parser.add_argument("--ridge", type=float, default=0.01, help="ridge of the classifier")
    parser.add_argument("--pool", type=int, help="most rows of a pool, all by default")
    parser.add_argument("--quick", action="store_true", help="3 runs of 10 rounds")
    arguments = parser.parse_args()
    runs, rounds = (3, 10) if arguments.quick else (arguments.runs, arguments.rounds)
    console, results = Console(width=140), {}
    for name, X, y in data_sets():
        start = time.perf_counter()
        every = [run(X, y, rounds, seed, arguments.ridge, arguments.pool) for seed in range(runs)]
        results[name] = np.stack(every, axis=1)
        console.print(f"{name}: {runs} runs, {time.perf_counter() - start:.0f} s")
    for table in (area_table(results), difference_table(results), curve_table(results)):
        console.print(table)


if __name__ == "__main__":
    main()
