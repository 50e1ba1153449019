"""Alarms of the drift detector on streams of rotated digits, beside other tests.

    python benchmarks/drift.py [--quick]

A reference of 400 digits, and batches of 100 digits that are not in it. Before the change they are
as they come, after it they are turned about their centre, all of them or a tenth. Every method is
set to a level of .05 for a batch. References are drawn anew for every few batches, since the
batches of one stream share the luck of its reference. `KS` are Kolmogorov-Smirnov tests of every
pixel with Bonferroni's correction, `MMD` is the detector with the MMD at 1 / median alone.

The second table asks which rows moved: AUC with which `report` ranks the rows that were changed in
a batch of 100 above the others, for the statistic that decides, for either alone, and for the gain
of a row over the reference where the magnitude decides.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from joblib import Parallel, delayed
from scipy.ndimage import rotate
from scipy.stats import binom, ks_2samp
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from skmag import MagnitudeDriftDetector, weighting

ALPHA, N_REFERENCE, N_BATCH = 0.05, 400, 100
Alarm = Callable[[np.ndarray, np.ndarray, int], list[bool]]
CHANGES = {
    "none": (0, 1.0),
    "3 degrees": (3, 1.0),
    "6 degrees": (6, 1.0),
    "15 degrees": (15, 1.0),
    "30 degrees": (30, 1.0),
    "a tenth by 45": (45, 0.1),
    "a tenth by 90": (90, 0.1),
}


def magnitude(**params: object) -> Alarm:
    """Alarms of the detector."""

    def alarms(reference: np.ndarray, batches: np.ndarray, seed: int) -> list[bool]:
        detector = MagnitudeDriftDetector(alpha=ALPHA, random_state=seed, **params)
        detector.fit(reference)
        return [bool(detector.predict(batch)) for batch in batches]

    return alarms


def kolmogorov_smirnov(reference: np.ndarray, batches: np.ndarray, seed: int) -> list[bool]:
    """Alarms of a test of each feature that is not constant, corrected for their number."""
    found = []
    for batch in batches:
        varies = np.ptp(np.vstack([reference, batch]), axis=0) > 0
        least = ks_2samp(reference[:, varies], batch[:, varies]).pvalue.min()
        found.append(bool(least * varies.sum() <= ALPHA))
    return found


METHODS: dict[str, Alarm] = {
    "default": magnitude(),
    "magnitude": magnitude(statistics="magnitude"),
    "MMD": magnitude(statistics="mmd", t="scale"),
    "KS": kolmogorov_smirnov,
}


def rotated(X: np.ndarray, degrees: float) -> np.ndarray:
    """Images turned about their centre."""
    images = X.reshape(-1, 8, 8)
    return rotate(images, degrees, axes=(2, 1), reshape=False, order=1).reshape(len(X), 64)


def stream(X: np.ndarray, change: str, n_batches: int, seed: int) -> list[list[bool]]:
    """Alarms of every method on the batches of one reference."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(X))
    degrees, share = CHANGES[change]
    batches = X[order[N_REFERENCE:][: n_batches * N_BATCH]].reshape(n_batches, N_BATCH, -1).copy()
    for batch in batches:
        moved = slice(round(share * N_BATCH))
        if degrees:
            batch[moved] = rotated(batch[moved], degrees)
    reference = X[order[:N_REFERENCE]]
    return [method(reference, batches, seed) for method in METHODS.values()]


def changed(name: str, X: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """A reference, a batch, and which of its rows were changed."""
    digits = X[rng.permutation(len(X))[: N_REFERENCE + N_BATCH]]
    normal = rng.normal(size=(N_REFERENCE + N_BATCH, 5))
    moved = np.arange(N_BATCH) < {"clump": 6, "outliers": 10, "new cloud": 20}.get(name, 30)
    rows = digits if name == "digits" else normal
    reference, batch = rows[:N_REFERENCE], rows[N_REFERENCE:].copy()
    if name == "digits":
        batch[moved] = rotated(batch[moved], 25)
    elif name == "clump":
        batch[moved] = 0.1 * batch[moved] + [2, 0, 0, 0, 0]
    elif name == "outliers":
        batch[moved] *= 3
    elif name == "new cloud":
        batch[moved] += [3, 0, 0, 0, 0]
    else:
        side = rng.choice([-4, 4], len(rows))
        reference[:, 0] += side[:N_REFERENCE]
        moved = moved | (side[N_REFERENCE:] > 0)
        batch[:, 0] += np.where(moved, 4, -4)
    return reference, batch, moved


def rank(name: str, X: np.ndarray, seed: int) -> list[float]:
    """AUC of each ranking, and whether the magnitude decided."""
    reference, batch, moved = changed(name, X, np.random.default_rng(seed))
    out = []
    for statistics in (("magnitude", "mmd"), "magnitude", "mmd"):
        detector = MagnitudeDriftDetector(statistics=statistics, random_state=seed).fit(reference)
        report = detector.report(batch)
        out.append((roc_auc_score(moved, report.moved), report))
    gain = weighting(reference, t=out[1][1].deciding_scale).gain(batch)
    decided = out[0][1].deciding_statistic == "magnitude"
    return [auc for auc, _ in out] + [roc_auc_score(moved, gain), float(decided)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few batches")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args()
    X = load_digits().data
    print(f"share of batches with an alarm, alpha = {ALPHA}")
    print(f"{'change':16}{'batches':>8}" + "".join(f"{name:>11}" for name in METHODS))
    for change in CHANGES:
        n_references = 150 if change == "none" else 10 if CHANGES[change][1] == 1.0 else 25
        n_references //= 5 if options.quick else 1
        found = Parallel(n_jobs=options.jobs)(
            delayed(stream)(X, change, 4, seed) for seed in range(n_references)
        )
        alarms = np.array(found).transpose(1, 0, 2).reshape(len(METHODS), -1)
        cells = "".join(f"{rate:11.3f}" for rate in alarms.mean(axis=1))
        print(f"{change:16}{alarms.shape[1]:8}{cells}", flush=True)
        if change == "none":
            low, high = binom.interval(0.99, alarms.shape[1], ALPHA)
            print(f"{'':24}99% band of .05: {int(low)} to {int(high)} alarms", flush=True)
    names = ("decided", "magnitude", "MMD", "gain", "by magnitude")
    print(f"\n{'rows changed':16}" + "".join(f"{name:>14}" for name in names))
    for name in ("digits", "clump", "outliers", "new cloud", "denser"):
        ranks = [rank(name, X, seed) for seed in range(2 if options.quick else 10)]
        print(f"{name:16}" + "".join(f"{value:14.2f}" for value in np.mean(ranks, axis=0)))


if __name__ == "__main__":
    main()
