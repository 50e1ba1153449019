"""What the sparse solver costs and misses from 10^4 to 10^6 points, beside scipy's Cholesky.

Every run has a process of its own, which tells its CPU time and the peak of its resident memory.
The reference of up to ``LARGEST_EXACT`` points is skmag's Cholesky factor. Beyond, it is what
conjugate gradients certify to 1e-6, if asked for by ``--certified`` (minutes for each run), or a
run of the sparse solver with twice as many centers and many more neighbours, whose own
estimated error is to be added to what the table calls the error.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time

import numpy as np

LARGEST_EXACT = 16_000
SCIPY_SIZES = [1000, 2000, 4000, 8000, 16_000]
REFINED = {"n_centers": 2000, "n_neighbors": 60}
SLOPE_FROM, SLOPE_TO = 10_000, 1_000_000
HEADER = [
    "n",
    "points",
    "t",
    "magnitude",
    "estimated error",
    "true error",
    "converged",
    "CPU, s",
    "peak, MB",
    "time / scipy",
]


def main() -> None:
    """Run the cases that the command line asks for and print them as a table."""
    arguments = parse_arguments()
    if arguments.case:
        print(json.dumps(run(*arguments.case)))
        return
    largest = 20_000 if arguments.quick else SLOPE_TO
    print(cells(HEADER), flush=True)
    scipy_seconds = [measured("scipy", n, "normal", 2, "1") for n in SCIPY_SIZES if n <= largest]
    by_size = dict(zip(SCIPY_SIZES, (found["seconds"] for found in scipy_seconds), strict=False))
    seconds = {}
    for n, name, dimension, t in cases(largest):
        found = measured("sparse", n, name, dimension, t, arguments.tol)
        if not arguments.no_reference:
            exact = reference(n, name, dimension, t, arguments.certified)
            found["true"] = abs(found["magnitude"] / exact - 1)
        print(cells(row(n, name, dimension, found, by_size.get(n))), flush=True)
        if (name, dimension, t) == ("normal", 2, "1"):
            seconds[n] = found["seconds"]
    print()
    print(f"slope of the sparse solver, normal points of the plane, t = 1: {slope(seconds):.2f}")
    print(f"slope of scipy's Cholesky: {slope(by_size):.2f}")


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="up to 20,000 points only")
    parser.add_argument("--tol", default="1e-4", help="relative tolerance of the sparse solver")
    parser.add_argument("--certified", action="store_true", help="references by cg, slow")
    parser.add_argument("--no-reference", action="store_true", help="leave out the true error")
    parser.add_argument("--case", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


def cases(largest: int) -> list[tuple[int, str, int, str]]:
    """Sizes, points, dimensions and scales, those that show the slope first."""
    sizes = [10_000, 16_000, 31_623, 100_000, 316_228, 1_000_000]
    plane = [(n, "normal", 2, "1") for n in sizes]
    n = min(100_000, LARGEST_EXACT if largest < 100_000 else largest)
    others = [
        (n, name, dimension, t)
        for name, dimension in [("normal", 2), ("uniform", 2), ("normal", 3), ("uniform", 3)]
        for t in ("1/median", "1", "10")
    ]
    curved = [(n, "surface", 20, t) for t in ("1/median", "1", "10")]
    return [case for case in [*plane, *others, *curved] if case[0] <= largest]


def sample(n: int, name: str, dimension: int) -> np.ndarray:
    """Points of a normal cloud, of a cube, or of a curved surface in many dimensions."""
    rng = np.random.default_rng(0)
    if name == "normal":
        return rng.normal(size=(n, dimension))
    if name == "uniform":
        return rng.uniform(size=(n, dimension))
    frequency, phase = rng.normal(size=(2, dimension)), rng.uniform(0, 2 * np.pi, size=dimension)
    return np.sin(3 * rng.uniform(size=(n, 2)) @ frequency + phase)


def measured(solver: str, n: int, name: str, dimension: int, t: str, *rest: str) -> dict:
    """Run one case in a fresh process."""
    command = [sys.executable, __file__, "--case", solver, str(n), name, str(dimension), t, *rest]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    if ran.returncode:
        sys.exit(f"{' '.join(command)}\n{ran.stderr}")
    return json.loads(ran.stdout)


def reference(n: int, name: str, dimension: int, t: str, certified: bool) -> float:
    """Return the magnitude by the best means that the size allows."""
    if n <= LARGEST_EXACT:
        solver = "cholesky"
    else:
        solver = "cg" if certified else "refined"
    return measured(solver, n, name, dimension, t, "1e-6")["magnitude"]


def run(solver: str, n: str, name: str, dimension: str, t: str, tol: str = "1e-4") -> dict:
    """Solve one case in this process and say what it took."""
    import resource

    import scipy.linalg
    import scipy.spatial  # noqa: F401
    import torch

    import skmag  # noqa: F401

    # What is imported above does not count as work.
    torch.set_num_threads(1)
    X = sample(int(n), name, int(dimension))
    solve = {"scipy": by_scipy, "cholesky": by_factor}.get(solver, by_iteration)
    scale = 1 / median_distance(X) if t == "1/median" else float(t)
    begun = time.process_time()
    found = solve(X, scale, float(tol), solver)
    found["seconds"] = time.process_time() - begun
    found["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found | {"t": scale}


def by_scipy(X: np.ndarray, t: float, tol: float, solver: str) -> dict:
    """Magnitude by scipy's Cholesky solve."""
    from scipy.linalg import cho_factor, cho_solve
    from scipy.spatial.distance import cdist

    zeta = cdist(X, X)
    np.exp(np.multiply(zeta, -t, out=zeta), out=zeta)
    factor = cho_factor(zeta.T, overwrite_a=True, check_finite=False)
    return {"magnitude": float(cho_solve(factor, np.ones(len(X)), check_finite=False).sum())}


def by_factor(X: np.ndarray, t: float, tol: float, solver: str) -> dict:
    """Magnitude by skmag's Cholesky factor."""
    import skmag

    return {"magnitude": float(skmag.magnitude(X, t=t, solver="cholesky"))}


def by_iteration(X: np.ndarray, t: float, tol: float, solver: str) -> dict:
    """Magnitude by one of the solvers for many points, with what it says of its error."""
    import warnings

    import skmag

    options = {"cg": {"preconditioner": "sparse"}, "refined": REFINED}.get(solver, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        space = skmag.weighting(
            X, t=t, solver="cg" if solver == "cg" else "sparse", tol=tol, solver_params=options
        )
    return {
        "magnitude": space.magnitude,
        "estimated": 3 * space.standard_error / space.magnitude,
        "converged": space.converged,
    }


def median_distance(X: np.ndarray) -> float:
    """Median distance of a sample of the points."""
    from scipy.spatial.distance import pdist

    return float(np.median(pdist(X[:1000])))


def row(n: int, name: str, dimension: int, found: dict, scipy_seconds: float | None) -> list[str]:
    """Return the cells of one line of the table."""
    true = found.get("true", math.nan)
    return [
        f"{n:,}",
        f"{name} R^{dimension}",
        f"{found['t']:.3g}",
        f"{found['magnitude']:.7g}",
        f"{found['estimated']:.1e}",
        "-" if math.isnan(true) else f"{true:.1e}",
        "yes" if found["converged"] else "no",
        f"{found['seconds']:.1f}",
        f"{found['megabytes']:.0f}",
        "-" if scipy_seconds is None else f"{found['seconds'] / scipy_seconds:.2f}",
    ]


def cells(texts: list[str]) -> str:
    """Return one aligned line."""
    return "  ".join(
        text.rjust(max(len(head), 11)) for text, head in zip(texts, HEADER, strict=True)
    )


def slope(seconds: dict[int, float]) -> float:
    """Slope of a straight line through CPU times on log axes."""
    return float(np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0])


if __name__ == "__main__":
    main()
