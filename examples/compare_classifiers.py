"""Table 1 of "Practical applications of metric space magnitude", with peers and our defaults.

Ten stratified 70/30 splits of each data set; every classifier sits behind a StandardScaler.
Prints the table beside the paper's published figures, and writes a CSV and a figure. The paper's
UCI sets take part where the environment variable SKMAG_DATA names a folder that holds them.
"""

import argparse
import csv
import itertools
import time
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skmag import MagnitudeClassifier, MagnitudeClassifierCV
from skmag.datasets import available, load, make_checkerboard

# Mean and standard deviation as printed in the paper's Table 1.
PUBLISHED = {
    "checkerboard": {"KNN": (0.92, 0.02), "LogReg": (0.51, 0.04), "Forest": (0.94, 0.01),
                     "SVM": (0.62, 0.04), "weight": (0.92, 0.01)},
    "cleveland": {"KNN": (0.82, 0.04), "LogReg": (0.85, 0.02), "Forest": (0.82, 0.03),
                  "SVM": (0.84, 0.03), "weight": (0.84, 0.03)},
    "galaxy_dim": {"KNN": (0.94, 0.01), "LogReg": (0.95, 0.01), "Forest": (0.95, 0.00),
                   "SVM": (0.96, 0.00), "weight": (0.93, 0.01)},
    "housing": {"KNN": (0.87, 0.02), "LogReg": (0.87, 0.03), "Forest": (0.87, 0.02),
                "SVM": (0.87, 0.03), "weight": (0.87, 0.02)},
    "ionosphere": {"KNN": (0.84, 0.05), "LogReg": (0.89, 0.02), "Forest": (0.94, 0.02),
                   "SVM": (0.95, 0.02), "weight": (0.81, 0.08)},
    "iris": {"KNN": (0.94, 0.04), "LogReg": (0.87, 0.05), "Forest": (0.94, 0.04),
             "SVM": (0.96, 0.03), "weight": (0.85, 0.13)},
    "digits": {"KNN": (0.97, 0.01), "LogReg": (0.96, 0.01), "Forest": (0.95, 0.01),
               "SVM": (0.98, 0.01), "weight": (0.97, 0.00)},
    "tic_tac_toe": {"KNN": (0.85, 0.02), "LogReg": (0.69, 0.03), "Forest": (0.93, 0.02),
                    "SVM": (0.88, 0.02), "weight": (0.78, 0.03)},
}  # fmt: skip

OURS = ("weight", "residual", "grid t", "CV")
# Of the sets that skmag.datasets may find, those of the paper's Table 1.
FOUND = ("cleveland", "galaxy_dim", "housing", "ionosphere", "tic_tac_toe")


def data_sets():
    """Name and data of every set of the comparison."""
    bundled = {
        "iris": load_iris,
        "wine": load_wine,
        "breast cancer": load_breast_cancer,
        "digits": load_digits,
    }
    sets = {"checkerboard": make_checkerboard(1000, random_state=0)}
    sets |= {name: read(return_X_y=True) for name, read in bundled.items()}
    return sets | {name: load(name) for name in FOUND if name in available()}


def classifiers():
    """Name and estimator of every column; scikit-learn's defaults, as in the paper."""
    models = {
        "KNN": KNeighborsClassifier(),
        "LogReg": LogisticRegression(),
        "Forest": RandomForestClassifier(random_state=0),
        "SVM": SVC(),
        "SVM grid": SVC(),
        # The paper's rule: least absolute joining weight at t = 1.
        "weight": MagnitudeClassifier(t=1.0, criterion="weight"),
        "residual": MagnitudeClassifier(),
        "grid t": MagnitudeClassifier(),
        "CV": MagnitudeClassifierCV(criteria=("residual", "weight", "gain")),
    }
    grids = {
        "SVM grid": {"svc__C": [1, 10, 100], "svc__gamma": ["scale", 0.01, 0.1]},
        "grid t": {"magnitudeclassifier__t": [0.01, 0.03, 0.1, 0.3, 1.0]},
    }
    pipelines = {name: make_pipeline(StandardScaler(), model) for name, model in models.items()}
    for name, grid in grids.items():
        pipelines[name] = GridSearchCV(pipelines[name], grid, cv=3)
    return pipelines


def accuracy(name, column, model, X, y, train, test):
    """Accuracy of one classifier on one split, with the labels of its cell."""
    with warnings.catch_warnings():
        # The paper ran the defaults, with which logistic regression stops early on some sets.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = clone(model).fit(X[train], y[train])
    return name, column, float(fitted.score(X[test], y[test]))


def run(sets, models, n_splits, console):
    """Accuracies of every cell, split by split."""
    splitter = StratifiedShuffleSplit(n_splits, test_size=0.3, random_state=0)
    # Large sets first, so that no core waits for the last one at the end.
    order = sorted(sets, key=lambda name: -len(sets[name][0]))
    tasks = [
        delayed(accuracy)(name, column, model, *sets[name], train, test)
        for name in order
        for train, test in splitter.split(*sets[name])
        for column, model in models.items()
    ]
    found = {cell: [] for cell in itertools.product(sets, models)}
    bar = Progress(
        TextColumn("fitting"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    with bar:
        step = bar.add_task("", total=len(tasks))
        pool = Parallel(n_jobs=-1, return_as="generator_unordered")
        for name, column, score in pool(tasks):
            found[name, column].append(score)
            bar.advance(step)
    return found


def print_table(found, sets, models, console):
    """Mean and standard deviation of each cell, above the paper's figures."""
    table = Table(title="Accuracy over the splits; in brackets: published in the paper")
    table.add_column("data")
    for column in models:
        table.add_column(column, justify="right", style="bold" if column in OURS else None)
    for name in sets:
        means = {column: np.mean(found[name, column]) for column in models}
        cells = []
        for column in models:
            mean, deviation = means[column], np.std(found[name, column])
            cell = _short(mean, 3) + "±" + _short(deviation, 2)
            if mean >= max(means.values()) - 1e-12:
                cell = f"[green]{cell}[/green]"
            published = PUBLISHED.get(name, {}).get(column)
            if published:
                cell += f"\n[dim]({_short(published[0], 2)}±{_short(published[1], 2)})[/dim]"
            cells.append(cell)
        table.add_row(name.replace("_", " "), *cells)
    console.print(table)


def _short(value, digits):
    """A share without its leading zero."""
    return f"{value:.{digits}f}".removeprefix("0")


def write_csv(found, path):
    """One line for each cell."""
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["data", "classifier", "mean", "std", "paper_mean", "paper_std", "n_splits"])
        for (name, column), scores in found.items():
            published = PUBLISHED.get(name, {}).get(column, ("", ""))
            row = [name, column, f"{np.mean(scores):.4f}", f"{np.std(scores):.4f}"]
            out.writerow([*row, *published, len(scores)])


def draw(found, sets, models, path):
    """One row of dots for each data set."""
    figure, ax = plt.subplots(figsize=(9, 0.55 * len(sets) + 1.6), layout="constrained")
    colors = plt.get_cmap("tab10")
    for i, column in enumerate(models):
        ours = column in OURS
        ax.errorbar(
            [np.mean(found[name, column]) for name in sets],
            np.arange(len(sets)) + (i - (len(models) - 1) / 2) * 0.08,
            xerr=[np.std(found[name, column]) for name in sets],
            fmt="o" if ours else "s",
            markersize=6 if ours else 4,
            color=colors(i),
            elinewidth=0.8,
            label=f"magnitude: {column}" if ours else column,
        )
    for row in range(1, len(sets)):
        ax.axhline(row - 0.5, color="0.9", linewidth=0.8, zorder=0)
    ax.set_yticks(np.arange(len(sets)), list(sets))
    ax.set(xlabel="accuracy", ylim=(len(sets) - 0.5, -0.5))
    ax.set_title("Ten stratified 70/30 splits: mean and standard deviation")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main():
    """Run the comparison from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=10, help="number of splits")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for the files")
    arguments = parser.parse_args()
    start = time.perf_counter()
    sets, models = data_sets(), classifiers()
    console = Console(width=124)
    if not available():
        console.print("SKMAG_DATA names no folder with the paper's UCI sets: they are left out.")
    found = run(sets, models, arguments.splits, console)
    print_table(found, sets, models, console)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_csv(found, arguments.out / "compare_classifiers.csv")
    draw(found, sets, models, arguments.out / "compare_classifiers.png")
    console.print(
        f"{time.perf_counter() - start:.0f} s; wrote {arguments.out}/compare_classifiers.csv "
        "and .png"
    )


if __name__ == "__main__":
    main()
