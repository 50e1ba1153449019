"""Accuracy of the magnitude classifiers where the README quotes it: ten stratified splits each.

Standardized features and 70/30 splits unless a row says otherwise; KNN and SVC with scikit-learn's
defaults stand beside every row. Sets that need SKMAG_DATA are left out where it names no folder.
"""

import argparse
import time

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from skmag import MagnitudeClassifier
from skmag.datasets import available, load, make_checkerboard


def data_sets():
    """Name, data, whether raw, and the sizes of the parts."""
    share = {"test_size": 0.3}
    yield "digits", *load_digits(return_X_y=True), False, share
    yield "digits raw", *load_digits(return_X_y=True), True, share
    yield "iris", *load_iris(return_X_y=True), False, share
    yield "wine", *load_wine(return_X_y=True), False, share
    yield "breast cancer", *load_breast_cancer(return_X_y=True), False, share
    yield "checkerboard", *make_checkerboard(1000), False, share
    for name in ("ionosphere", "cleveland", "housing", "galaxy_dim", "tic_tac_toe"):
        if name in available():
            yield name, *load(name), False, share
    if "mnist" in available():
        sizes = {"train_size": 5000, "test_size": 5000}
        yield "mnist 5,000", *load("mnist"), False, sizes
        yield "mnist 5,000 raw", *load("mnist"), True, sizes


def classifiers():
    """Name and estimator of every column."""
    return {
        "KNN": KNeighborsClassifier(),
        "SVC": SVC(),
        "weight, t=1": MagnitudeClassifier(t=1.0, criterion="weight"),
        "default": MagnitudeClassifier(),
    }


def compare(X, y, raw, sizes, n_splits):
    """Accuracies of every classifier on every split, and the default's log-loss."""
    models = classifiers()
    accuracies = {name: [] for name in models}
    losses = []
    splitter = StratifiedShuffleSplit(n_splits, random_state=0, **sizes)
    for train, test in splitter.split(X, y):
        scaler = FunctionTransformer() if raw else StandardScaler()
        for name, model in models.items():
            fitted = make_pipeline(scaler, model).fit(X[train], y[train])
            accuracies[name].append(fitted.score(X[test], y[test]))
        losses.append(log_loss(y[test], fitted.predict_proba(X[test])))
    return accuracies, float(np.mean(losses))


def null_class(n_splits):
    """AUC of unseen digits against 6 and 9, and the share of 6 and 9 that is refused."""
    X, y = load_digits(return_X_y=True)
    known = np.isin(y, [6, 9])
    aucs, refused = [], []
    splitter = StratifiedShuffleSplit(n_splits, test_size=0.3, random_state=0)
    for train, test in splitter.split(X[known], y[known]):
        model = MagnitudeClassifier(null_label=-1, null_alpha=0.05)
        model.fit(X[known][train], y[known][train])
        queries = np.concatenate([X[known][test], X[~known]])
        seen = np.arange(len(queries)) < len(test)
        least = np.min([space.residual(queries) for space in model.weightings_], axis=0)
        aucs.append(roc_auc_score(~seen, least))
        refused.append(np.mean(model.predict(queries[seen]) == -1))
    return float(np.mean(aucs)), float(np.mean(refused))


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=10, help="number of splits")
    arguments = parser.parse_args()
    console, start = Console(width=110), time.perf_counter()
    table = Table(title="Mean accuracy, and the least of the splits")
    for column in ("data", *classifiers(), "log-loss of default"):
        table.add_column(column, justify="left" if column == "data" else "right")
    for name, X, y, raw, sizes in data_sets():
        accuracies, loss = compare(X, y, raw, sizes, arguments.splits)
        cells = [f"{np.mean(own):.3f} ({np.min(own):.3f})" for own in accuracies.values()]
        table.add_row(name, *cells, f"{loss:.3f}")
    console.print(table)
    auc, refused = null_class(arguments.splits)
    console.print(f"NULL class, raw digits 6 and 9, others unseen: AUC {auc:.4f}; ", end="")
    console.print(f"false NULLs at alpha .05: {refused:.3f}")
    console.print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
