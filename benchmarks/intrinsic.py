"""The intrinsic multi-scale distance beside KID and FID, where the user guide quotes it.

Noise of the probes, errors of the quadrature, the torus of appendix C.3 with samplers instead of
trained generators, stability with sample size, and time against n. Distances are in millionths, as
the paper prints them. Sets that need SKMAG_DATA are left out where it names no folder, and
approximate neighbours where pynndescent is not installed.
"""

import argparse
import time

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.linalg import eigh
from scipy.ndimage import gaussian_filter
from sklearn.utils import gen_batches

from skmag import heat_trace_signature
from skmag.datasets import available, load

TS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
ESTIMATORS = {
    "authors' settings": {"probes": "normal", "variance_reduction": "linear"},
    "no control": {"variance_reduction": None},
    "equation 12": {"variance_reduction": "taylor"},
    "equation 15": {"variance_reduction": "linear"},
    "default": {},
}


def imd(X, Y, seed, **options):
    """Intrinsic distance in millionths, from independent probes."""
    first, second = (
        heat_trace_signature(own, random_state=2 * seed + i, **options)
        for i, own in enumerate((X, Y))
    )
    return 1e6 * first.distance_to(second).distance


def kid(X, Y, block=2000):
    """Unbiased squared MMD of the kernel (x'y / d + 1)^3, blocks of rows at a time."""

    def kernel_sum(A, B, without_diagonal=False):
        total = 0.0
        for rows in gen_batches(len(A), block):
            kernel = A[rows] @ B.T / A.shape[1] + 1
            total += (kernel * kernel * kernel).sum()
        if without_diagonal:
            total -= (((A * A).sum(1) / A.shape[1] + 1) ** 3).sum()
        return total

    n, m = len(X), len(Y)
    own = kernel_sum(X, X, True) / (n * (n - 1)) + kernel_sum(Y, Y, True) / (m * (m - 1))
    return own - 2 * kernel_sum(X, Y) / (n * m)


def fid(X, Y):
    """Squared Fréchet distance of two normal distributions with the sets' moments."""
    first, second = np.cov(X.T), np.cov(Y.T)
    values, vectors = eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    product = np.sqrt(np.maximum(eigh(root @ second @ root, eigvals_only=True), 0)).sum()
    shift = ((X.mean(0) - Y.mean(0)) ** 2).sum()
    return shift + np.trace(first) + np.trace(second) - 2 * product


def torus(n, rng, major=1.0, minor=0.4):
    """Uniform points of a torus in space."""
    kept = np.empty((0, 2))
    while len(kept) < n:
        angles = rng.uniform(0, 2 * np.pi, (2 * n, 2))
        area = (major + minor * np.cos(angles[:, 1])) / (major + minor)
        kept = np.vstack([kept, angles[rng.uniform(size=2 * n) < area]])
    u, v = kept[:n].T
    reach = major + minor * np.cos(v)
    return np.stack([reach * np.cos(u), reach * np.sin(u), minor * np.sin(v)], 1)


def good_generator(n, rng):
    """The torus with a little noise."""
    return torus(n, rng) + 0.01 * rng.normal(size=(n, 3))


def bad_generator(n, rng):
    """A tenth of the points in the hole; stretched, so that second moments are the torus's."""
    points, inside = torus(n, rng), n // 10
    angle = rng.uniform(0, 2 * np.pi, inside)
    radius = 0.6 * np.sqrt(rng.uniform(size=inside))
    height = rng.uniform(-0.3, 0.3, inside)
    points[:inside] = np.stack([radius * np.cos(angle), radius * np.sin(angle), height], 1)
    return points * BAD_STRETCH


# Second moments of the torus and of a cylinder of radius 0.6 and height 0.6, by integration.
_AROUND, _UP = 0.5 * (1 + 1.5 * 0.4**2), 0.4**2 / 2
BAD_STRETCH = np.sqrt(
    [_AROUND / (0.9 * _AROUND + 0.1 * 0.09)] * 2 + [_UP / (0.9 * _UP + 0.1 * 0.03)]
)


def noise(repeats):
    """Distance of a set to itself under other probes."""
    table = Table(
        title="Identical uniform points, other probes: mean distance (95% of draws below)"
    )
    for column in ("data", *ESTIMATORS):
        table.add_column(column, justify="left" if column == "data" else "right")
    for n, dimension in ((300, 1), (300, 2), (300, 10), (3000, 2)):
        X = np.random.default_rng(0).uniform(size=(n, dimension))
        cells = []
        for options in ESTIMATORS.values():
            found = [imd(X, X, seed, **options) for seed in range(repeats)]
            cells.append(f"{np.mean(found):.2f} ({np.percentile(found, 95):.2f})")
        table.add_row(f"n = {n:,}, D = {dimension}", *cells)
    return table


def errors_by_scale():
    """Relative standard errors at some scales (the paper's Figure 12)."""
    table = Table(title="Relative standard error of the heat trace, 2,000 normal points, D = 3")
    X = np.random.default_rng(0).normal(size=(2000, 3))
    for column in ("estimator", *(f"t = {t:g}" for t in TS)):
        table.add_column(column, justify="left" if column == "estimator" else "right")
    for name, options in ESTIMATORS.items():
        signature = heat_trace_signature(X, ts=TS, random_state=0, **options)
        share = np.abs(signature.standard_errors / signature.values)
        table.add_row(name, *(f"{value:.1e}" for value in share))
    return table


def errors_by_steps():
    """Error of the quadrature alone: the same probes with as many steps as it takes."""
    table = Table(title="Relative error by Lanczos steps, same points (appendix A)")
    X = np.random.default_rng(0).normal(size=(2000, 3))
    for column in ("steps", *(f"t = {t:g}" for t in TS)):
        table.add_column(column, justify="right")
    exact = heat_trace_signature(X, ts=TS, n_steps=60, random_state=0).values
    for steps in (3, 5, 10, 20):
        found = heat_trace_signature(X, ts=TS, n_steps=steps, random_state=0).values
        table.add_row(f"{steps}", *(f"{value:.1e}" for value in np.abs(found / exact - 1)))
    return table


def tori(sizes, repeats):
    """Good and bad generators of a torus (the table of appendix C.3)."""
    table = Table(title="Torus: mean (deviation), share ranked right")
    for column in ("n", "distance", "good", "bad", "ranked"):
        table.add_column(column, justify="left" if column == "distance" else "right")
    for n in sizes:
        found = []
        for seed in range(repeats):
            rng = np.random.default_rng(seed)
            X = torus(n, rng)
            others = good_generator(n, rng), bad_generator(n, rng)
            found.append([(1e3 * fid(X, Y), 1e3 * kid(X, Y), imd(X, Y, seed)) for Y in others])
        mean, spread = np.mean(found, 0).T, np.std(found, 0).T
        ranked = np.mean(np.diff(found, axis=1)[:, 0] > 0, axis=0)
        for name, own, wide, share in zip(
            ("FID x 10^3", "KID x 10^3", "IMD"), mean, spread, ranked, strict=True
        ):
            cells = [f"{a:.2f} ({b:.2f})" for a, b in zip(own, wide, strict=True)]
            table.add_row(f"{n}", name, *cells, f"{share:.2f}")
    return table


def pairs_of_sets(rng):
    """Name and two samplers without replacement of pairs of distributions."""

    def both(n):
        return torus(n, rng), torus(n, rng)

    def different(n):
        return torus(n, rng), bad_generator(n, rng)

    yield "torus, torus", both
    yield "torus, bad generator", different
    if "mnist" not in available():
        return
    pixels = load("mnist")[0] / 255
    blurred = gaussian_filter(pixels.reshape(-1, 28, 28), (0, 1, 1)).reshape(len(pixels), -1)

    def halves(first, second):
        def draw(n):
            rows = rng.permutation(len(first))[: 2 * n]
            return first[rows[:n]], second[rows[n:]]

        return draw

    yield "MNIST, MNIST", halves(pixels, pixels)
    yield "MNIST, blurred", halves(pixels, blurred)


def stability(sizes, repeats):
    """Distances against sample size (the left of Figure 7)."""
    table = Table(title="Stability with sample size: mean (standard deviation)")
    for column in ("sets", "distance", *(f"n = {n:,}" for n in sizes)):
        table.add_column(column, justify="left" if column in ("sets", "distance") else "right")
    for name, draw in pairs_of_sets(np.random.default_rng(0)):
        columns = []
        for n in sizes:
            found = []
            for seed in range(repeats):
                X, Y = draw(n)
                found.append((1e3 * fid(X, Y), 1e3 * kid(X, Y), imd(X, Y, seed)))
            columns.append((np.mean(found, 0), np.std(found, 0)))
        for i, distance in enumerate(("FID x 10^3", "KID x 10^3", "IMD")):
            table.add_row(name, distance, *(f"{m[i]:.2f} ({s[i]:.2f})" for m, s in columns))
    return table


def approximate(n_neighbors=5):
    """Options for approximate neighbours, warmed up, or None."""
    try:
        from pynndescent import PyNNDescentTransformer
    except ImportError:
        return None
    # It counts a point among its own neighbours.
    neighbors = PyNNDescentTransformer(n_neighbors=n_neighbors + 1, random_state=0)
    for n in (1000, 3000, 5000):
        heat_trace_signature(np.random.default_rng(0).normal(size=(n, 8)), neighbors=neighbors)
    return {"neighbors": neighbors}


def roughness(n, near):
    """What approximate neighbours change, beside what another sample does."""
    table = Table(title=f"Exact and approximate neighbours, {n:,} points: mean distance")
    columns = ("points", "exact, approximate", "two samples, exact", "two samples, approximate")
    for column in columns:
        table.add_column(column, justify="left" if column == "points" else "right")
    samplers = {
        "torus": torus,
        "normal, D = 10": lambda n, rng: rng.normal(size=(n, 10)),
        "normal, D = 128": lambda n, rng: rng.normal(size=(n, 128)),
    }
    for name, sampler in samplers.items():
        found = []
        for seed in range(3):
            rng = np.random.default_rng(seed)
            (exact, rough), (other, other_rough) = (
                [heat_trace_signature(X, random_state=0, **options) for options in ({}, near)]
                for X in (sampler(n, rng), sampler(n, rng))
            )
            pairs = (exact, rough), (exact, other), (rough, other_rough)
            found.append([1e6 * a.distance_to(b).distance for a, b in pairs])
        table.add_row(name, *(f"{value:.2f}" for value in np.mean(found, 0)))
    return table


def cpu_seconds(function, *args, **kwargs):
    """Seconds of processor time of one call."""
    start = time.process_time()
    function(*args, **kwargs)
    return time.process_time() - start


def scaling(sizes, dimension, near):
    """Processor time against n (the right of Figure 7)."""
    table = Table(title=f"Processor seconds, normal points, D = {dimension}")
    columns = ("n", "IMD", "IMD approximate", "IMD, D = 3", "KID", "FID")
    for column in columns:
        table.add_column(column, justify="right")
    for n in sizes:
        rng = np.random.default_rng(0)
        X, Y = rng.normal(size=(2, n, dimension))
        seconds = [
            cpu_seconds(imd, X, Y, 0),
            cpu_seconds(imd, X, Y, 0, **near) if near else np.nan,
            cpu_seconds(imd, X[:, :3], Y[:, :3], 0),
            cpu_seconds(kid, X, Y),
            cpu_seconds(fid, X, Y),
        ]
        table.add_row(f"{n:,}", *(f"{value:.2f}" for value in seconds))
    return table


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sets, few repeats")
    quick = parser.parse_args().quick
    console, start = Console(width=130), time.perf_counter()
    console.print(noise(5 if quick else 50))
    console.print(errors_by_scale())
    console.print(errors_by_steps())
    console.print(tori((1000,) if quick else (1000, 2000, 5000), 5 if quick else 40))
    sizes = (500, 1000) if quick else (500, 1000, 2000, 5000)
    console.print(stability(sizes, 2 if quick else 5))
    near = approximate()
    if near:
        console.print(roughness(5000, near))
    sizes = (1000, 3000) if quick else (1000, 5000, 10_000, 20_000, 50_000)
    console.print(scaling(sizes, 128, near))
    console.print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
