"""Drift on a stream of batches of 10,000 rows, beside detectors that compare outlier scores.

    python benchmarks/drift_at_scale.py [--quick]

Three clouds in 15 correlated features: a reference of 20,000 rows and batches of 10,000. The first
half of every stream comes from where the reference comes from, the second half is changed: all
rows are shifted, stretched, or correlated otherwise, or a few of them form a clump inside the
cloud. Every reference is drawn anew, since the batches of one stream share its luck.

`forest` and `k-NN` are fitted on one half of the reference, score the other half and each batch,
by an isolation forest and by the mean distance to the five nearest neighbours, and compare both by
a Kolmogorov-Smirnov test. Every method is set to a level of .05 for a batch. Seconds are those of
the processor, for one batch, on one thread. Memory is how far the peak of a process of its own
rises while it fits the reference and answers for one batch (Linux only).
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import binom, ks_2samp
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from skmag import MagnitudeDriftDetector

ALPHA, N_REFERENCE, N_BATCH, N_FEATURES, N_NEIGHBORS = 0.05, 20_000, 10_000, 15, 5
CHANGES = ("mean", "scale", "correlation", "clump")
Score = Callable[[np.ndarray], np.ndarray]
Detector = Callable[[np.ndarray], bool]


def magnitude(reference: np.ndarray, seed: int) -> Detector:
    """The drift detector, as it comes."""
    fitted = MagnitudeDriftDetector(alpha=ALPHA, random_state=seed).fit(reference)
    return lambda batch: bool(fitted.predict(batch))


def discrepancy(reference: np.ndarray, seed: int) -> Detector:
    """The drift detector with the MMD alone."""
    fitted = MagnitudeDriftDetector(statistics="mmd", alpha=ALPHA, random_state=seed)
    fitted.fit(reference)
    return lambda batch: bool(fitted.predict(batch))


def forest(reference: np.ndarray, seed: int) -> Detector:
    """Scores of an isolation forest, compared by a Kolmogorov-Smirnov test."""
    half = len(reference) // 2
    return compared(
        IsolationForest(random_state=seed).fit(reference[:half]).score_samples, reference[half:]
    )


def neighbours(reference: np.ndarray, seed: int) -> Detector:
    """Mean distances to the nearest neighbours, compared by a Kolmogorov-Smirnov test."""
    half = len(reference) // 2
    fitted = NearestNeighbors(n_neighbors=N_NEIGHBORS).fit(reference[:half])
    return compared(lambda rows: fitted.kneighbors(rows)[0].mean(axis=1), reference[half:])


def compared(score: Score, held_out: np.ndarray) -> Detector:
    """Alarms where the scores of a batch are not distributed as those of held-out rows."""
    expected = score(held_out)
    return lambda batch: bool(ks_2samp(expected, score(batch)).pvalue <= ALPHA)


METHODS: dict[str, Callable[[np.ndarray, int], Detector]] = {
    "default": magnitude,
    "MMD alone": discrepancy,
    "forest": forest,
    "k-NN": neighbours,
}


class Source:
    """Where the rows of one stream come from: three clouds in correlated features."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.centers = 2 * self.rng.normal(size=(3, N_FEATURES))
        self.mixing = np.eye(N_FEATURES) + 0.2 * self.rng.normal(size=(N_FEATURES, N_FEATURES))

    def rows(self, n: int, change: str = "none") -> np.ndarray:
        """Rows from before a change or after it."""
        noise = self.rng.normal(size=(n, N_FEATURES))
        if change == "scale":
            noise *= 1.02
        elif change == "correlation":
            noise[:, 1] = 0.3 * noise[:, 0] + np.sqrt(1 - 0.3**2) * noise[:, 1]
        out = self.centers[self.rng.integers(3, size=n)] + noise @ self.mixing
        if change == "mean":
            out[:, 0] += 0.3
        elif change == "clump":
            few = slice(n // 200)
            out[few] = out[0] + 0.1 * noise[few]
        return out


def stream(seed: int, n_batches: int) -> dict[str, np.ndarray]:
    """Alarms of every method before and after each change, and its seconds for each batch."""
    source = Source(seed)
    reference = source.rows(N_REFERENCE)
    detectors = {name: method(reference, seed) for name, method in METHODS.items()}
    before = {change: np.zeros((len(METHODS), n_batches)) for change in ("none", *CHANGES)}
    seconds = []
    for change, alarms in before.items():
        for number in range(n_batches):
            batch = source.rows(N_BATCH, change)
            for row, detector in enumerate(detectors.values()):
                start = time.process_time()
                alarms[row, number] = detector(batch)
                seconds.append(time.process_time() - start)
    return before | {"seconds": np.reshape(seconds, (-1, len(METHODS)))}


def peak(name: str) -> int:
    """Bytes by which the peak of this process rises for one reference and one batch."""
    source = Source(0)
    reference, batch = source.rows(N_REFERENCE), source.rows(N_BATCH)
    # Enough to import what is imported late, and to fill the buffers that BLAS keeps.
    METHODS[name](reference[:2000], 0)(batch[:2000])
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_bytes("VmHWM")
    METHODS[name](reference, 0)(batch)
    return _status_bytes("VmHWM") - before


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024


def _peak_of(name: str) -> str:
    if not sys.platform.startswith("linux"):
        return "-"
    command = [sys.executable, __file__, "--peak", name]
    # The C library must not keep what the warm-up gave back, or the rise would be too small.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return f"{int(done.stdout) / 2**20:.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two references")
    parser.add_argument("--references", type=int, default=10, help="streams")
    parser.add_argument("--batches", type=int, default=1, help="batches of each kind in a stream")
    parser.add_argument("--peak", choices=METHODS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with threadpool_limits(1):
        if options.peak:
            print(peak(options.peak))
            return
        found = []
        for seed in range(2 if options.quick else options.references):
            found.append(stream(seed, options.batches))
            print(f"stream {seed + 1} done", file=sys.stderr, flush=True)
    print(f"{'share of alarms':18}{'batches':>8}" + "".join(f"{name:>12}" for name in METHODS))
    for change in ("none", *CHANGES):
        alarms = np.concatenate([one[change] for one in found], axis=1)
        cells = "".join(f"{rate:12.2f}" for rate in alarms.mean(axis=1))
        print(f"{change:18}{alarms.shape[1]:8}{cells}")
        if change == "none":
            low, high = binom.interval(0.99, alarms.shape[1], ALPHA)
            print(f"{'':26}99% band of .05: {int(low)} to {int(high)} alarms")
    seconds = np.median(np.concatenate([one["seconds"] for one in found]), axis=0)
    print(f"{'seconds a batch':26}" + "".join(f"{value:12.2f}" for value in seconds))
    print(f"{'peak memory':26}" + "".join(f"{_peak_of(name):>12}" for name in METHODS))


if __name__ == "__main__":
    main()
