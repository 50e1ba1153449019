"""The outlier detector on a million points beside an isolation forest and a k-NN detector.

A million points of ten correlated normal clouds (``--features``), one in a hundred of them replaced
by a uniform one. Every run has a process and one thread of its own. Seconds are CPU seconds of
``fit`` (which scores the training points), and of scoring 10,000 new points; the peak is what both
add to the resident memory. The k-NN detector scores a point by the distance to its fifth nearest
other, with scikit-learn's NearestNeighbors; novelty detection by the residual beside all training
points has rows of its own.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from peak_memory import reset_peak, status_bytes
from rich.console import Console
from rich.table import Table
from side_by_side import limit_threads
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from skmag import MagnitudeOutlierDetector

QUERIES, NEIGHBORS = 10_000, 5


class NeighborDetector:
    """Minus the distance to the fifth nearest other point."""

    def fit(self, X):
        self.neighbors = NearestNeighbors(n_neighbors=NEIGHBORS).fit(X)
        self.scores_ = -self.neighbors.kneighbors()[0][:, -1]
        return self

    def score_samples(self, Z):
        return -self.neighbors.kneighbors(Z)[0][:, -1]


def novelty(n):
    # Euclidean, under which near points explain nearly all; the default is the sum of deviations.
    return MagnitudeOutlierDetector(novelty=True, metric="euclidean")


WAYS = {
    "MagnitudeOutlierDetector": lambda n: MagnitudeOutlierDetector(random_state=0),
    "MagnitudeOutlierDetector, novelty": novelty,
    "IsolationForest": lambda n: IsolationForest(random_state=0),
    "k-NN": lambda n: NeighborDetector(),
}


def sample(n, n_features):
    """Points and whether each is an outlier."""
    rng = np.random.default_rng(0)
    centers = rng.uniform(-10, 10, (10, n_features))
    mixing = rng.normal(size=(10, n_features, n_features)) / np.sqrt(n_features)
    X, cloud = rng.normal(size=(n, n_features)), rng.integers(10, size=n)
    for c in range(10):
        X[cloud == c] = X[cloud == c] @ mixing[c] + centers[c]
    outlying = rng.random(n) < 0.01
    low, high = X.min(0), X.max(0)
    X[outlying] = rng.uniform(low, high, (outlying.sum(), n_features))
    return X, outlying


def measured(n, n_features, way):
    """Run one detector in this process, and print what it took."""
    limit_threads(1)
    X, outlying = sample(n + QUERIES, n_features)
    Z, outlying_queries, X, outlying = X[n:], outlying[n:], X[:n], outlying[:n]
    if way.endswith("novelty"):
        X, outlying = X[~outlying], outlying[~outlying]
    WAYS[way](500).fit(X[:500]).score_samples(Z[:100])
    gc.collect()
    before = reset_peak()
    start = time.process_time()
    model = WAYS[way](n).fit(X)
    scores = model.score_samples(X) if way == "IsolationForest" else model.scores_
    fitted = time.process_time()
    asked = model.score_samples(Z)
    done = time.process_time()
    auc = roc_auc_score(outlying, -scores) if outlying.any() else float("nan")
    print(
        json.dumps(
            {
                "way": way,
                "n": n,
                "fit": fitted - start,
                "score": done - fitted,
                "auc": auc,
                "auc_new": roc_auc_score(outlying_queries, -asked),
                "peak_bytes": status_bytes("VmHWM") - before,
            }
        )
    )


def main():
    """Print a row for each detector."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", metavar="WAY", help=argparse.SUPPRESS)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=10)
    parser.add_argument("--patience", type=float, default=3600.0, help="seconds for one run")
    parser.add_argument("--quick", action="store_true", help="20,000 points")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    arguments = parser.parse_args()
    n = 20_000 if arguments.quick else arguments.n
    if arguments.run:
        return measured(n, arguments.features, arguments.run)
    table = Table("detector", "fit s", "10,000 new s", "AUC", "AUC of new", "peak MB")
    records = []
    for way in WAYS:
        command = [sys.executable, __file__, "--run", way, "--n", str(n)]
        command += ["--features", str(arguments.features)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        try:
            found = subprocess.run(
                command,
                env=environment,
                timeout=arguments.patience,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        except subprocess.TimeoutExpired:
            table.add_row(way, f"> {arguments.patience:.0f} in all")
            continue
        found = json.loads(found.stdout.splitlines()[-1])
        records.append(found)
        table.add_row(
            way,
            f"{found['fit']:.1f}",
            f"{found['score']:.2f}",
            f"{found['auc']:.4f}",
            f"{found['auc_new']:.4f}",
            f"{found['peak_bytes'] / 1e6:,.0f}",
        )
    Console(width=140).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(records, indent=1))
    return None


if __name__ == "__main__":
    main()
