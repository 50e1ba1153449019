"""How well `label_quality_scores` finds labels that were flipped.

    python benchmarks/label_quality.py [--quick]

A share of the labels is replaced by other classes, drawn evenly; a score is judged by the AUC with
which it tells the flipped rows from the others, and by its average precision. Beside: the
probability of the given label under classifiers, each row being predicted by a model that has not
seen it (10-fold cross-validation), which is what confident learning starts from.
Sets whose files are absent are skipped.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skmag import datasets, label_quality_scores

Labelled = tuple[np.ndarray, np.ndarray]
Scorer = Callable[[np.ndarray, np.ndarray], np.ndarray]
N_MNIST = 2000


def flipped(y: np.ndarray, share: float, seed: int) -> Labelled:
    """Labels of which a share is wrong, and which."""
    rng, n_classes = np.random.default_rng(seed), len(np.unique(y))
    wrong = np.zeros(len(y), dtype=bool)
    wrong[rng.choice(len(y), round(share * len(y)), replace=False)] = True
    return np.where(wrong, (y + rng.integers(1, n_classes, len(y))) % n_classes, y), wrong


def sets(quick: bool) -> Iterator[tuple[str, Labelled]]:
    """Names and data; features of mixed units are standardized."""
    yield "digits", load_digits(return_X_y=True)
    for name, load in (("iris", load_iris), ("wine", load_wine), ("cancer", load_breast_cancer)):
        X, y = load(return_X_y=True)
        yield name, (StandardScaler().fit_transform(X), y)
    if not quick and "mnist" in datasets.available():
        X, y = datasets.load("mnist")
        rows = np.random.default_rng(0).choice(len(X), N_MNIST, replace=False)
        yield "MNIST", (np.asarray(X)[rows].astype(float), np.asarray(y)[rows].astype(int))


def held_out(model: object) -> Scorer:
    """Probability of the given label under models that were fitted without the row."""

    def score(X: np.ndarray, y: np.ndarray) -> np.ndarray:
        folds = StratifiedKFold(10, shuffle=True, random_state=0)
        shares = cross_val_predict(model, X, y, cv=folds, method="predict_proba")
        return shares[np.arange(len(y)), y]

    return score


def margins(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Margin of the given label under support vector machines fitted without the row."""
    folds = StratifiedKFold(10, shuffle=True, random_state=0)
    found = cross_val_predict(SVC(), X, y, cv=folds, method="decision_function")
    if found.ndim == 1:
        return np.where(y == 1, found, -found)
    own = found[np.arange(len(y)), y]
    found[np.arange(len(y)), y] = -np.inf
    return own - found.max(axis=1)


SCORERS: dict[str, Scorer] = {
    "residual": label_quality_scores,
    "potential": lambda X, y: label_quality_scores(X, y, criterion="potential"),
    "KNN": held_out(KNeighborsClassifier(10)),
    "logistic": held_out(make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))),
    "SVC": margins,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two seeds, without MNIST")
    quick = parser.parse_args().quick
    seeds = range(2 if quick else 10)
    print(
        f"AUC and average precision, means over {len(seeds)} seeds, and the lowest AUC (MNIST: 3)"
    )
    print(f"{'set':10}{'flipped':>9}" + "".join(f"{name:>22}" for name in SCORERS))
    for name, (X, y) in sets(quick):
        for share in (0.05, 0.2):
            cells = []
            for scorer in SCORERS.values():
                found = []
                for seed in seeds if name != "MNIST" else seeds[:3]:
                    given, wrong = flipped(y, share, seed)
                    score = scorer(X, given)
                    auc = roc_auc_score(wrong, -score)
                    found.append((auc, average_precision_score(wrong, -score)))
                mean = np.mean(found, axis=0)
                cells.append(f"{mean[0]:.4f} {mean[1]:.3f} {np.min(found, axis=0)[0]:.4f}")
            print(f"{name:10}{share:9.0%}" + "".join(f"{cell:>22}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
