"""The classifier on 60,000 to a million training points beside KNN and SVC.

MNIST's 60,000 training images on 50 principal components with its 10,000 test images, and
synthetic classes (scikit-learn's ``make_classification``: 5 classes of 4 clusters in 20 features,
10 of them informative; and 5 classes of 4 normal clouds each in 3 features) with 10,000 queries.
Every run has a process and one thread of its own. Seconds are CPU seconds; the peak is what fit
and predict add to the resident memory. SVC is left out where it takes longer than ``--patience``.
"""

import argparse
import gc
import gzip
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
from sklearn.datasets import make_blobs, make_classification
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from skmag import MagnitudeClassifier
from skmag.datasets import available, load

QUERIES = 10_000
WAYS = {
    "MagnitudeClassifier": MagnitudeClassifier,
    "MagnitudeClassifier, exact": lambda: MagnitudeClassifier(solver="cholesky"),
    "KNN": KNeighborsClassifier,
    "SVC": SVC,
}


def mnist(n):
    """MNIST on 50 principal components of its training images, scikit-learn's split in time."""
    X, y = load("mnist")
    folder = Path(os.environ["SKMAG_DATA"]) / "mnist"
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
        Z = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, X.shape[1])
    with gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as file:
        asked = np.frombuffer(file.read(), np.uint8, offset=8)
    components = PCA(50, random_state=0).fit(X)
    return components.transform(X[:n]), y[:n].astype(int), components.transform(Z), asked


def many_features(n):
    X, y = make_classification(
        n + QUERIES,
        n_features=20,
        n_informative=10,
        n_redundant=0,
        n_classes=5,
        n_clusters_per_class=4,
        class_sep=1.5,
        random_state=0,
    )
    return X[:n], y[:n], X[n:], y[n:]


def few_features(n):
    X, y = make_blobs(n + QUERIES, n_features=3, centers=20, cluster_std=1.5, random_state=0)
    y = y % 5
    return X[:n], y[:n], X[n:], y[n:]


SETS = {"mnist": mnist, "20 features": many_features, "3 features": few_features}


def measured(name, n, way):
    """Run one classifier on one set, in this process, and print what it took."""
    limit_threads(1)
    X, y, Z, asked = SETS[name](n)
    WAYS[way]().fit(X[:500], y[:500]).predict(Z[:100])
    gc.collect()
    before = reset_peak()
    start = time.process_time()
    model = WAYS[way]().fit(X, y)
    fitted = time.process_time()
    found = model.predict(Z)
    done = time.process_time()
    peak = status_bytes("VmHWM") - before
    error = getattr(model, "residual_error_", None)
    print(
        json.dumps(
            {
                "set": name,
                "n": n,
                "way": way,
                "fit": fitted - start,
                "predict": done - fitted,
                "accuracy": float((found == asked).mean()),
                "peak_bytes": peak,
                "residual_error": error,
            }
        )
    )


def run(name, n, way, patience):
    """Have a process measure one run; None if it took too long or too much memory."""
    command = [sys.executable, __file__, "--run", name, str(n), way]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        found = subprocess.run(
            command, env=environment, timeout=patience, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired:
        return None
    if found.returncode:
        raise SystemExit(found.stderr)
    return json.loads(found.stdout.splitlines()[-1])


def main():
    """Print a row for each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", nargs=3, metavar=("SET", "N", "WAY"), help=argparse.SUPPRESS)
    parser.add_argument("--patience", type=float, default=1200.0, help="seconds for one run")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--quick", action="store_true", help="5,000 training points at most")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    arguments = parser.parse_args()
    if arguments.run:
        name, n, way = arguments.run
        return measured(name, int(n), way)
    console = Console(width=140)
    table = Table("set", "n", "classifier", "fit s", "predict s", "x KNN", "accuracy", "peak MB")
    records = []
    for name in arguments.sets:
        if name == "mnist" and "mnist" not in available():
            continue
        sizes = [60_000] if name == "mnist" else [100_000, 1_000_000]
        for n in [5000] if arguments.quick else sizes:
            # KNN first: the others are measured by it.
            knn = run(name, n, "KNN", arguments.patience)
            for way in WAYS:
                if way.endswith("exact") and (name != "mnist" or arguments.quick):
                    continue
                if way == "SVC" and n > 100_000:
                    continue
                found = knn if way == "KNN" else run(name, n, way, arguments.patience)
                if found is None:
                    table.add_row(name, f"{n:,}", way, f"> {arguments.patience:.0f} in all")
                    continue
                records.append(found)
                ratio = "" if knn is None else f"{found['predict'] / knn['predict']:.2f}"
                table.add_row(
                    name,
                    f"{n:,}",
                    way,
                    f"{found['fit']:.1f}",
                    f"{found['predict']:.2f}",
                    ratio,
                    f"{found['accuracy']:.4f}",
                    f"{found['peak_bytes'] / 1e6:,.0f}",
                )
                console.print(records[-1])
    console.print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(records, indent=1))
    return None


if __name__ == "__main__":
    main()
