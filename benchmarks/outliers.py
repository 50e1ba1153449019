"""Outlier detection beside scikit-learn's detectors, where the user guide quotes it.

Ranking on six sets of ADBench (standardized, unsupervised, all rows), on synthetic sets and on
digits; novelty detection on digits; and the paper's two-step rule on its kind of data. Sets that
need SKMAG_DATA are left out where it names no folder.
"""

import argparse
import time
import warnings

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from skmag import MagnitudeOutlierDetector
from skmag.datasets import available, load

ADBENCH = ("annthyroid", "breastw", "mammography", "pima", "satellite", "shuttle")


def magnitude(X, seed):
    """Anomaly of each row by the default detector."""
    return -MagnitudeOutlierDetector(random_state=seed).fit(X).scores_


def magnitude_euclidean(X, seed):
    """Anomaly of each row by the default detector under the Euclidean metric."""
    return -MagnitudeOutlierDetector(metric="euclidean", random_state=seed).fit(X).scores_


def forest(X, seed):
    """Anomaly of each row by an isolation forest."""
    return -IsolationForest(random_state=seed).fit(X).score_samples(X)


def local_factor(X, seed):
    """Anomaly of each row by its local outlier factor."""
    with warnings.catch_warnings():
        # The default neighbourhood meets duplicates here, and the warning says only that.
        warnings.filterwarnings("ignore", "Duplicate values", UserWarning)
        return -LocalOutlierFactor().fit(X).negative_outlier_factor_


def support_vectors(X, seed):
    """Anomaly of each row by a one-class support vector machine."""
    return -OneClassSVM().fit(X).score_samples(X)


def neighbour_distance(X, seed):
    """Distance of each row to its fifth neighbour."""
    return NearestNeighbors(n_neighbors=5).fit(X).kneighbors()[0][:, -1]


# The last three draw nothing, so one seed is all seeds.
SEEDED = {"magnitude": magnitude, "euclidean": magnitude_euclidean, "forest": forest}
FIXED = {"LOF": local_factor, "OCSVM": support_vectors, "k-NN": neighbour_distance}


def uniform_noise(seed):
    """Two normal clouds of 150 points, and 30 uniform points around them."""
    rng = np.random.default_rng(seed)
    clouds = rng.normal(size=(300, 2)) + np.repeat([[3.0], [-3.0]], 150, axis=0)
    return np.vstack([clouds, rng.uniform(-8, 8, (30, 2))]), np.repeat([0, 1], [300, 30])


def one_clump(seed):
    """A normal cloud of 300 points and a tight clump of 15."""
    rng = np.random.default_rng(seed)
    clump = 0.1 * rng.normal(size=(15, 2)) + 5.0
    return np.vstack([rng.normal(size=(300, 2)), clump]), np.repeat([0, 1], [300, 15])


def clump_beside_two(seed):
    """Two normal clouds of 150 points and a tight clump of 15 apart from both."""
    X, _ = uniform_noise(seed)
    clump = 0.1 * np.random.default_rng(seed + 1000).normal(size=(15, 2)) + [5.0, -5.0]
    return np.vstack([X[:300], clump]), np.repeat([0, 1], [300, 15])


def polluted_digit(seed):
    """All images of one digit with 5% images of the others."""
    X, y = load_digits(return_X_y=True)
    own, others = np.flatnonzero(y == seed % 10), np.flatnonzero(y != seed % 10)
    others = np.random.default_rng(seed).choice(others, len(own) // 19, replace=False)
    return X[np.append(own, others)], np.repeat([0, 1], [len(own), len(others)])


def figure_4(seed):
    """Two normal clouds and uniform outliers, as the paper's Figure 4 draws them."""
    rng = np.random.default_rng(seed)
    clouds = 0.5 * rng.normal(size=(255, 2)) + np.where(np.arange(255) < 127, 2.0, -2.0)[:, None]
    return np.vstack([clouds, rng.uniform(-6, 6, (45, 2))]), np.repeat([0, 1], [255, 45])


def ranked(X, y, seeds):
    """Mean AUC of each detector, and the seconds of the default one."""
    aucs = {}
    for name, anomaly in SEEDED.items():
        start = time.perf_counter()
        aucs[name] = np.mean([roc_auc_score(y, anomaly(X, seed)) for seed in seeds])
        if name == "magnitude":
            seconds = (time.perf_counter() - start) / len(seeds)
    aucs |= {name: roc_auc_score(y, anomaly(X, 0)) for name, anomaly in FIXED.items()}
    return aucs, seconds


def adbench(console, n_seeds, names):
    """Print the table of the real sets."""
    table = Table(title=f"ROC AUC, standardized, all rows, {n_seeds} seeds")
    for column in ("data", "n", *SEEDED, *FIXED, "seconds"):
        table.add_column(column, justify="left" if column == "data" else "right")
    every = []
    for name in names:
        X, y = load(name)
        aucs, seconds = ranked(StandardScaler().fit_transform(X), y, range(n_seeds))
        every.append(list(aucs.values()))
        cells = [f"{auc:.3f}" for auc in aucs.values()]
        table.add_row(name, str(len(X)), *cells, f"{seconds:.1f}")
    if every:
        table.add_row("mean", "", *[f"{auc:.4f}" for auc in np.mean(every, axis=0)], "")
        console.print(table)


def synthetic(console, n_seeds):
    """Print the table of drawn sets, each seed with another draw."""
    table = Table(title=f"ROC AUC, mean (least) of {n_seeds} draws")
    for column in ("data", *SEEDED, *FIXED):
        table.add_column(column, justify="left" if column == "data" else "right")
    for draw in (uniform_noise, one_clump, clump_beside_two, polluted_digit):
        cells = []
        for anomaly in (SEEDED | FIXED).values():
            aucs = []
            for seed in range(n_seeds):
                X, y = draw(seed)
                aucs.append(roc_auc_score(y, anomaly(X, seed)))
            cells.append(f"{np.mean(aucs):.3f} ({np.min(aucs):.2f})")
        table.add_row(draw.__name__.replace("_", " "), *cells)
    console.print(table)


def novelty(console, n_seeds):
    """Print the table of unseen digits: trained on half of the images of one digit."""
    X, y = load_digits(return_X_y=True)
    detectors = {
        "magnitude, novelty": MagnitudeOutlierDetector(novelty=True),
        "magnitude, bagged": MagnitudeOutlierDetector(random_state=0),
        "LOF, novelty": LocalOutlierFactor(novelty=True),
        "forest": IsolationForest(random_state=0),
        "OCSVM": OneClassSVM(),
    }
    table = Table(
        title="Other digits as novelties: AUC, share refused of known and of other digits"
    )
    for column in ("detector", "AUC", "known", "other"):
        table.add_column(column, justify="left" if column == "detector" else "right")
    for name, detector in detectors.items():
        rows = []
        for digit in range(10):
            for seed in range(n_seeds):
                own = np.random.default_rng(seed).permutation(np.flatnonzero(y == digit))
                train, known = np.array_split(own, 2)
                queries = np.append(known, np.flatnonzero(y != digit))
                new = np.arange(len(queries)) >= len(known)
                score = detector.fit(X[train]).decision_function(X[queries])
                refused = score < 0
                rows.append((roc_auc_score(~new, score), refused[~new].mean(), refused[new].mean()))
        table.add_row(name, *[f"{value:.3f}" for value in np.mean(rows, axis=0)])
    console.print(table)


def two_step(console, n_seeds):
    """Print the F1 of labels on the paper's kind of data."""
    detectors = {
        "paper, tau=.2, euclidean": {"criterion": "paper", "metric": "euclidean"},
        "paper, tau=.2, cityblock": {"criterion": "paper"},
        "default": {},
        "default, euclidean": {"metric": "euclidean"},
    }
    table = Table(title=f"F1 of the outliers, Figure 4's kind of data, {n_seeds} draws")
    for column in ("detector", "F1", "standard deviation"):
        table.add_column(column, justify="left" if column == "detector" else "right")
    for name, parameters in detectors.items():
        found = []
        for seed in range(n_seeds):
            X, y = figure_4(seed)
            detector = MagnitudeOutlierDetector(random_state=seed, **parameters)
            found.append(f1_score(y, detector.fit_predict(X) == -1))
        table.add_row(name, f"{np.mean(found):.3f}", f"{np.std(found):.3f}")
    console.print(table)


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer seeds, no shuttle")
    quick = parser.parse_args().quick
    console, start = Console(width=110), time.perf_counter()
    names = [name for name in ADBENCH if name in available() and not (quick and name == "shuttle")]
    adbench(console, 1 if quick else 5, names)
    synthetic(console, 3 if quick else 20)
    novelty(console, 1 if quick else 5)
    two_step(console, 5 if quick else 30)
    console.print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
