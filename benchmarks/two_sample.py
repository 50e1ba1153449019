"""The two-sample test: level, power beside other tests, and time beside a naive loop.

Every test of a row sees the same draws. hyppo's tests are left out where hyppo is not installed.
Rows are printed as they are done; at n = m = 100 the power of one row takes minutes.
"""

import argparse
import time
import warnings

import numpy as np
import torch
from scipy.spatial.distance import cdist
from scipy.stats import binom, permutation_test

from skmag import magnitude_distance, magnitude_two_sample_test
from skmag._metrics import resolve_metric
from skmag._permutations import (
    Labellings,
    Pool,
    magnitude_distances,
    mean_discrepancies,
    p_values,
    standard_scores,
)
from skmag._scale import TEST_GRID

LEVEL = 0.05
# Labellings per test, in the tables of the level and of the power.
RESAMPLES = {"level": 199, "power": 99}


# Draws ------------------------------------------------------------------------------------------


def shifted(dimension, shift):
    """Normal, with a mean of this length in one of the two."""

    def draw(rng, n, m):
        X, Y = rng.normal(size=(n, dimension)), rng.normal(size=(m, dimension))
        return X, Y + shift / np.sqrt(dimension)

    return draw


def scaled(dimension, factor):
    """Normal, one of the two wider."""

    def draw(rng, n, m):
        return rng.normal(size=(n, dimension)), factor * rng.normal(size=(m, dimension))

    return draw


def perturbed_uniform(n_perturbations):
    """Uniform on [0, 1] against Schrab et al.'s perturbed density of the greatest amplitude."""

    def bump(u):
        inside = np.abs(u) < 1
        return np.where(inside, np.exp(1 - 1 / np.where(inside, 1 - u**2, 1.0)), 0.0)

    def density(u):
        phase = u * n_perturbations % 1
        return 1 + bump(4 * phase - 1) - bump(4 * phase - 3)

    def draw(rng, n, m):
        sample = np.empty(0)
        while len(sample) < m:
            u = rng.uniform(size=4 * m)
            sample = np.append(sample, u[rng.uniform(high=2, size=4 * m) < density(u)])
        return rng.uniform(size=(n, 1)), sample[:m, None]

    return draw


def blobs(side, spacing, ratio):
    """A grid of normal blobs, round in one sample and stretched along diagonals in the other."""

    def draw(rng, n, m):
        def centers(size):
            return spacing * rng.integers(side, size=(size, 2))

        stretch = np.sqrt([2 * ratio / (1 + ratio), 2 / (1 + ratio)])
        turn = np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
        Y = (rng.normal(size=(m, 2)) * stretch) @ turn
        return centers(n) + rng.normal(size=(n, 2)), centers(m) + Y

    return draw


def correlated(correlation):
    """Two standard normal features, independent or correlated."""

    def draw(rng, n, m):
        Y = rng.normal(size=(m, 2))
        Y[:, 1] = correlation * Y[:, 0] + np.sqrt(1 - correlation**2) * Y[:, 1]
        return rng.normal(size=(n, 2)), Y

    return draw


def clumped(dimension, share):
    """Normal, where a share of one sample lies in a clump of width 0.05 about a normal point."""

    def draw(rng, n, m):
        X, Y = rng.normal(size=(n, dimension)), rng.normal(size=(m, dimension))
        size = round(share * m)
        Y[:size] = rng.normal(size=dimension) + 0.05 * rng.normal(size=(size, dimension))
        return X, Y

    return draw


def heavy_tailed(dimension):
    """Student's t with two degrees of freedom, for both."""

    def draw(rng, n, m):
        return rng.standard_t(2, size=(n, dimension)), rng.standard_t(2, size=(m, dimension))

    return draw


NULLS = {
    "normal, D=1": (shifted(1, 0.0), 40, 40),
    "normal, D=2": (shifted(2, 0.0), 40, 40),
    "normal, D=20": (shifted(20, 0.0), 40, 40),
    "Student t, 2 df, D=2": (heavy_tailed(2), 40, 40),
    "normal, D=2, n=25, m=75": (shifted(2, 0.0), 25, 75),
}
ALTERNATIVES = {
    "none, D=2": shifted(2, 0.0),
    "mean, D=2": shifted(2, 0.4),
    "mean, D=50": shifted(50, 1.0),
    "scale, D=2": scaled(2, 1.3),
    "scale, D=20": scaled(20, 1.1),
    "perturbed uniform": perturbed_uniform(2),
    "blobs": blobs(3, 10.0, 10.0),
    "correlation": correlated(0.7),
    "clump of 6%": clumped(5, 0.06),
    "mean, D=1000": shifted(1000, 2.0),
    "scale, D=1000": scaled(1000, 1.02),
}


# Tests ------------------------------------------------------------------------------------------


def skmag_tests(X, Y, seed, n_resamples):
    """P-values of the default test and of its two halves, from one set of labellings.

    What :func:`magnitude_two_sample_test` does, which would compute each value twice.
    """
    pool = Pool.of(torch.tensor(X), torch.tensor(Y), resolve_metric("euclidean", None)).with_table()
    dealt = Labellings.of(pool, n_resamples, np.random.default_rng(seed))
    grid = [number / pool.points.median_distance() for number in TEST_GRID]
    halves = [
        standard_scores(torch.stack([function(pool, dealt.smaller, t) for t in grid], 1))
        for function in (magnitude_distances, mean_discrepancies)
    ]
    scores = {
        "skmag": torch.cat(halves, 1).amax(1),
        "magnitude": halves[0].amax(1),
        "exp. MMD": halves[1].amax(1),
    }
    return {name: float(p_values(own, dealt.observed)) for name, own in scores.items()}


def peer_tests(X, Y, seed, n_resamples):
    """P-values of tests that are quadratic forms in the difference of the two samples."""
    n, m = len(X), len(Y)
    rng = np.random.default_rng(seed)
    difference = np.repeat([1 / n, -1 / m], [n, m])
    V = np.array([difference, *[rng.permutation(difference) for _ in range(n_resamples)]])
    Z = np.vstack([X, Y])
    euclidean, cityblock = cdist(Z, Z), cdist(Z, Z, "cityblock")

    def forms(K):
        return ((V @ K) * V).sum(1)

    def scores(values):
        return (values - values.mean(0)) / values.std(0)

    def bandwidths(distances):
        # From half the fifth percentile to twice the 95th, as in Schrab et al.'s later code.
        low, high = np.quantile(distances[np.triu_indices(n + m, 1)], [0.05, 0.95])
        return np.geomspace(low / 2, 2 * high, 10)

    median = np.median(euclidean[np.triu_indices(n + m, 1)])
    gaussians = [forms(np.exp(-((euclidean / b) ** 2))) for b in bandwidths(euclidean)]
    laplaces = [forms(np.exp(-cityblock / b)) for b in bandwidths(cityblock)]
    statistics = {
        "MMD": forms(np.exp(-((euclidean / median) ** 2) / 2)),
        "MMD, 20 kernels": scores(np.stack(gaussians + laplaces, 1)).max(1),
        "energy": forms(-euclidean),
    }
    return {
        name: np.mean(values >= values[0] - 1e-10 * np.abs(values).max())
        for name, values in statistics.items()
    }


def hyppo_tests(X, Y, seed, n_resamples):
    """P-values of hyppo's tests by their asymptotic distributions; its permutations take long."""
    del n_resamples
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, test in HYPPO.items():
            try:
                found[name] = test(X, Y, seed)
            except np.linalg.LinAlgError:
                # Mean embeddings meet a singular covariance now and then; no rejection.
                found[name] = 1.0
    return found


def hyppo_columns():
    """hyppo's tests, or none where it is not installed."""
    try:
        from hyppo.ksample import KSample, MeanEmbeddingTest, SmoothCFTest
    except ImportError:
        return {}
    return {
        "hyppo Dcorr": lambda X, Y, seed: KSample("Dcorr").test(X, Y, auto=True)[1],
        "hyppo Hsic": lambda X, Y, seed: KSample("Hsic").test(X, Y, auto=True)[1],
        "hyppo ME": lambda X, Y, seed: MeanEmbeddingTest().test(X, Y, random_state=seed)[1],
        "hyppo SCF": lambda X, Y, seed: SmoothCFTest().test(X, Y, random_state=seed)[1],
    }


HYPPO = hyppo_columns()


# Tables -----------------------------------------------------------------------------------------


def line(title, cells):
    """Print one row of a table at once."""
    print(f"{title:<26}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


def rejections(draw, n, m, n_draws, tests, n_resamples):
    """Share of draws that each test rejects at the level."""
    rejected = {}
    for seed in range(n_draws):
        X, Y = draw(np.random.default_rng(seed), n, m)
        for test in tests:
            for name, pvalue in test(X, Y, seed, n_resamples).items():
                # A p-value of 5 / 100 is 0.05 but for rounding.
                rejected.setdefault(name, []).append(pvalue <= LEVEL + 1e-9)
    return {name: np.mean(own) for name, own in rejected.items()}


def level(n_draws):
    """Print the share of null draws that the default test and its halves reject."""
    low, high = (binom.ppf(q, n_draws, LEVEL) / n_draws for q in (0.005, 0.995))
    print(f"\nLevel {LEVEL}, {n_draws} draws; exact binomial 99% band {low:.3f} to {high:.3f}")
    line("null", ["skmag", "magnitude", "exp. MMD"])
    for name, (draw, n, m) in NULLS.items():
        found = rejections(draw, n, m, n_draws, [skmag_tests], RESAMPLES["level"])
        line(name, [f"{share:.3f}" for share in found.values()])


def power(n_draws):
    """Print the share of draws from different distributions that each test rejects."""
    print(f"\nPower at level {LEVEL}, n = m = 100, {n_draws} draws")
    tests = [skmag_tests, peer_tests, *([hyppo_tests] if HYPPO else [])]
    heading = True
    for name, draw in ALTERNATIVES.items():
        found = rejections(draw, 100, 100, n_draws, tests, RESAMPLES["power"])
        if heading:
            line("alternative", found)
            heading = False
        line(name, [f"{share:.2f}" for share in found.values()])


def seconds(function):
    """CPU time of a call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def timing(n, n_naive):
    """Print the CPU time of 999 labellings beside that of a loop over magnitude distances."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(n, 5)), rng.normal(size=(n, 5))

    def ours(**options):
        return seconds(lambda: magnitude_two_sample_test(X, Y, rng=0, **options))

    Z = np.vstack([X, Y])

    def distance(i, j):
        return magnitude_distance(Z[i], Z[j], t=1.0)

    def naive():
        # scipy permutes along one axis, here the numbers of the rows.
        rows = np.arange(n), np.arange(n, 2 * n)
        permutation_test(rows, distance, n_resamples=n_naive, vectorized=False, rng=0)

    one = ours(t=1.0, statistics="magnitude")
    default = ours()
    loop = seconds(naive) * 1000 / (n_naive + 1)
    print(f"\nCPU seconds of 1,000 labellings, n = m = {n}, D = 5 (loop: from {n_naive + 1})")
    line("", ["seconds", "loop / ours"])
    line("one scale", [f"{one:.1f}", f"{loop / one:.0f}"])
    line("default: 4 scales, MMD", [f"{default:.1f}", f"{4 * loop / default:.0f}"])
    line("scipy, magnitude_distance", [f"{loop:.1f}", "1"])


def dimension_1000(n_draws):
    """Print the paper's distance at D = 1000, shift 2, t = 1 / sqrt(D), beside its null."""
    shifted_by_2, null, pvalues = [], [], []
    for seed in range(n_draws):
        rng = np.random.default_rng(seed)
        X, Y = rng.normal(size=(500, 1000)), rng.normal(size=(500, 1000))
        Y[:, 0] += 2.0
        options = {"t": 1000**-0.5}
        shifted_by_2.append(magnitude_distance(X, Y, normalized=True, **options))
        Z = rng.permutation(np.vstack([X, Y]))
        null.append(magnitude_distance(Z[:500], Z[500:], normalized=True, **options))
        result = magnitude_two_sample_test(
            X, Y, statistics="magnitude", n_resamples=199, rng=seed, **options
        )
        pvalues.append(result.pvalue)
    print(f"\nNormalized distance at D = 1000, n = m = 500, t = 1/sqrt(D), {n_draws} draws")
    line("", ["mean", "sd"])
    line("mean shift of 2", [f"{np.mean(shifted_by_2):.4f}", f"{np.std(shifted_by_2):.4f}"])
    line("rows dealt out anew", [f"{np.mean(null):.4f}", f"{np.std(null):.4f}"])
    line("median p-value", [f"{np.median(pvalues):.3f}", ""])


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few draws, small samples")
    parser.add_argument("--only", choices=("timing", "paper", "level", "power"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    tables = {
        "timing": lambda: timing(*((60, 4) if options.quick else (250, 20))),
        "paper": lambda: dimension_1000(1 if options.quick else 10),
        "level": lambda: level(50 if options.quick else 1000),
        "power": lambda: power(20 if options.quick else 500),
    }
    for name, table in tables.items():
        if options.only in (None, name):
            table()


if __name__ == "__main__":
    main()
