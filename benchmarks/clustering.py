"""Adjusted Rand index and number of clusters of the magnitude clusterer beside its peers.

Two-dimensional sets of 300 points and iris. KMeans and agglomerative clustering (Ward) are told the
true number of clusters, HDBSCAN the same smallest cluster as ours (5%); DBSCAN has its defaults, on
standardized data. Noise counts as one more cluster, for all; uniform outliers are clustered
but do not count.
"""

import argparse
import resource
import time

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.cluster import DBSCAN, HDBSCAN, AgglomerativeClustering, KMeans
from sklearn.datasets import load_iris, make_blobs, make_moons
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmag import MagnitudeClustering

OUTLIER = -1


def separated_centers(k, rng):
    """Draw centers that are at least eight standard deviations of a blob apart."""
    while True:
        centers = rng.uniform(-12, 12, size=(k, 2))
        gaps = np.linalg.norm(centers[:, None] - centers, axis=2)
        if gaps[np.triu_indices(k, 1)].min() >= 8:
            return centers


def separated(k, seed, n=300):
    """Round blobs of standard deviation one."""
    centers = separated_centers(k, np.random.default_rng(seed))
    return make_blobs(n, centers=centers, random_state=seed)


def with_outliers(seed, n=300):
    """Four separated blobs and 5% of uniform outliers."""
    n_outliers = n // 20
    X, y = separated(4, seed, n - n_outliers)
    noise = np.random.default_rng(seed).uniform(X.min(0), X.max(0), size=(n_outliers, 2))
    return np.vstack([X, noise]), np.append(y, np.full(n_outliers, OUTLIER))


def overlapping(seed, n=300):
    """Three blobs whose centers are five standard deviations apart."""
    centers = (
        5 / np.sqrt(3) * np.array([[np.cos(a), np.sin(a)] for a in 2 * np.pi * np.arange(3) / 3])
    )
    return make_blobs(n, centers=centers, random_state=seed)


def anisotropic(seed, n=300):
    """The sheared blobs of scikit-learn's comparison of clusterers, drawn anew."""
    centers = make_blobs(random_state=170, return_centers=True)[2]
    X, y = make_blobs(n, centers=centers, random_state=seed)
    return X @ [[0.6, -0.6], [-0.4, 0.8]], y


SETS = {
    "3 separated blobs": lambda seed: separated(3, seed),
    "5 separated blobs": lambda seed: separated(5, seed),
    "4 blobs, 5% outliers": with_outliers,
    "moons, noise .05": lambda seed: make_moons(300, noise=0.05, random_state=seed),
    "moons, noise .1": lambda seed: make_moons(300, noise=0.1, random_state=seed),
    "overlapping blobs": overlapping,
    "anisotropic blobs": anisotropic,
    "iris": lambda seed: load_iris(return_X_y=True),
}


def clusterers(k, n, seed):
    """Name and estimator of every column."""
    return {
        "magnitude": MagnitudeClustering(random_state=seed),
        "KMeans (k)": KMeans(k, n_init=10, random_state=seed),
        "Ward (k)": AgglomerativeClustering(k),
        "DBSCAN": make_pipeline(StandardScaler(), DBSCAN()),
        "HDBSCAN": HDBSCAN(min_cluster_size=max(5, int(np.ceil(0.05 * n))), copy=True),
    }


def compare(make, n_seeds):
    """Scores, counts and shares of noise of every clusterer on every seed; the true count."""
    scores, counts, noise = {}, {}, {}
    for seed in range(n_seeds):
        X, y = make(seed)
        inlier = y != OUTLIER
        k = len(np.unique(y[inlier]))
        for name, model in clusterers(k, len(X), seed).items():
            labels = model.fit_predict(X)
            score = adjusted_rand_score(y[inlier], labels[inlier])
            scores.setdefault(name, []).append(score)
            counts.setdefault(name, []).append(len(set(labels.tolist()) - {-1}))
            noise.setdefault(name, []).append(np.mean(labels[inlier] == -1))
    return scores, counts, noise, k


def quality(n_seeds, console):
    """Print scores and counts."""
    names = list(clusterers(2, 100, 0))
    index = Table(title=f"Mean adjusted Rand index, and the least of {n_seeds} seeds")
    right = Table(title="Seeds with the right number of clusters; share of inliers called noise")
    for table in (index, right):
        table.add_column("data")
        for name in names:
            table.add_column(name, justify="right")
    for data, make in SETS.items():
        scores, counts, noise, k = compare(make, n_seeds)
        cells = [f"{np.mean(scores[name]):.3f} ({np.min(scores[name]):.2f})" for name in names]
        index.add_row(data, *cells)
        hits = [sum(count == k for count in counts[name]) for name in names]
        shares = [np.mean(noise[name]) for name in names]
        right.add_row(
            data,
            *(f"{hit} of {n_seeds}; {share:.3f}" for hit, share in zip(hits, shares, strict=True)),
        )
    console.print(index)
    console.print(right)


def times(n, console):
    """Print the time for three blobs at a threshold and for all thresholds."""
    X, y = separated(3, 0, n)
    for threshold in (0.5, "persistent"):
        wall, cpu = time.perf_counter(), time.process_time()
        model = MagnitudeClustering(threshold=threshold, random_state=0).fit(X)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        runs = len(getattr(model, "counts_", [0]))
        score = adjusted_rand_score(y, model.labels_)
        console.print(
            f"n={n}, threshold={threshold!r}: {wall:.1f} s ({cpu:.1f} s CPU), {runs} runs, "
            f"{model.n_clusters_} clusters, ARI {score:.3f}, peak of the process {peak:.2f} GB"
        )


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=15, help="number of seeds")
    parser.add_argument("--quick", action="store_true", help="3 seeds, and times for n = 1,000")
    parser.add_argument("--only", choices=["quality", "times"], help="one of the two")
    arguments = parser.parse_args()
    console, start = Console(width=110), time.perf_counter()
    if arguments.only != "times":
        quality(3 if arguments.quick else arguments.seeds, console)
    if arguments.only != "quality":
        times(1000 if arguments.quick else 5000, console)
    console.print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
