"""The performance table on one card, in under eight minutes: seconds, memory and accuracy as JSON.

    python benchmarks/gpu.py gpu.json                 # on the card
    python benchmarks/gpu.py cpu.json --device cpu --quick   # a smoke run, anywhere

Every row has a warm-up, which is reported too, and then as many runs as its time allows, of which
the median counts; the clock stops when the card has finished. Rows run in a process of their own,
which is replaced when a row takes longer than it may, or fails on a card, whose state it may have
spoilt: what failed is in the JSON with its error, and the rest runs. Papers on a 2080 Ti,
n = 20,000: 126.9 s for the inverse, 1.12 s for iterative normalization.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

TOTAL_SECONDS = 450.0
RUNS = 3
# Most that a process may take until it has the card.
START_SECONDS = 120.0
# A row does not run again once it has taken so long.
ONCE_SECONDS = 10.0
SIDE = 8192


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Parameters
    ----------
    what : str
        Key of :data:`WORK`.
    n, dimension : int
        Points and features.
    seconds : float
        Most that it may take, warm-up included.
    t : float
        Scale.
    tol : float
        Relative tolerance of the magnitude.
    """

    what: str
    n: int
    dimension: int
    seconds: float = 40.0
    t: float = 1.0
    tol: float = 1e-6


# Rows that matter most come first; a quick run has a twentieth of the points.
ROWS = [
    Row("cholesky", 20_000, 2),
    Row("cholesky", 20_000, 100),
    Row("cg", 1_000_000, 100, 180.0, 0.3, 1e-4),
    Row("sparse", 1_000_000, 2, 90.0, 1.0, 1e-4),
    Row("iterative_normalization", 20_000, 2),
    Row("inverse", 20_000, 2),
    Row("classifier", 60_000, 50, 60.0),
    Row("two_sample", 500, 10),
    Row("mixed", 20_000, 10),
    Row("cholesky", 5_000, 10),
    Row("cholesky", 10_000, 10),
    Row("cg", 20_000, 10, 40.0, 0.3),
    Row("cg", 100_000, 10, 60.0, 0.3),
    Row("cg", 100_000, 100, 60.0, 0.3),
    Row("tiles", 65_536, 3),
    Row("tiles", 65_536, 10),
    Row("tiles", 65_536, 100),
    Row("compiled", 65_536, 100, 60.0),
]


def main() -> None:
    """Run the rows and write what they took."""
    arguments = parse_arguments()
    deadline = time.monotonic() + arguments.seconds
    runner = Runner(arguments.device)
    table = {"machine": runner.ask("machine", 60.0), "quick": arguments.quick, "rows": []}
    arguments.path.write_text(json.dumps(table, indent=1))
    if "error" in table["machine"]:
        raise SystemExit(f"{arguments.device} cannot be used: {table['machine']['error']}")
    for row in ROWS:
        own = smaller(row) if arguments.quick else row
        left = deadline - time.monotonic()
        if left <= 5:
            found = {"error": "not run: the time was up"}
        else:
            found = runner.ask(asdict(own), min(own.seconds, left))
        table["rows"].append({**asdict(own), **found})
        arguments.path.write_text(json.dumps(table, indent=1))
        print(line(own, found), flush=True)
    runner.stop()


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="where to write the JSON")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--quick", action="store_true", help="a twentieth of the points")
    parser.add_argument("--seconds", type=float, default=TOTAL_SECONDS, help="for all rows")
    return parser.parse_args()


def smaller(row: Row) -> Row:
    """The row for a smoke run."""
    n = max(100, min(row.n // 20, 10_000))
    return Row(**{**asdict(row), "n": n})


def line(row: Row, found: dict[str, Any]) -> str:
    """A row and what it took, to be read while the others run."""
    head = f"{row.what:>24} n={row.n:>9,} D={row.dimension:<4}"
    if "error" in found:
        return f"{head} {found['error']}"
    rest = {k: v for k, v in found.items() if k not in ("seconds", "runs", "warm_up")}
    numbers = "  ".join(f"{k}={v:.6g}" for k, v in rest.items() if isinstance(v, int | float))
    return f"{head} {found['seconds']:9.3f} s  {numbers}"


class Runner:
    """A process that runs rows, and is replaced when one takes too long, fails or kills it.

    An error of CUDA can come back in every later call of the process that met it.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._context = multiprocessing.get_context("spawn")
        self._process: Any = None

    def ask(self, row: Any, seconds: float) -> dict[str, Any]:
        """Return what a row took, or its error."""
        try:
            found = self._started() if self._process is None else {}
            if "error" not in found:
                self._pipe.send((row, seconds))
                found = self._answer(seconds)
        except (EOFError, OSError):
            found = {"error": "the process ended"}
        if "error" in found:
            self._kill()
        return found

    def _started(self) -> dict[str, Any]:
        """Start a process and return what it says once it has the device."""
        self._pipe, other = self._context.Pipe()
        self._process = self._context.Process(target=serve, args=(other, self._device))
        self._process.start()
        other.close()
        return self._answer(START_SECONDS)

    def _answer(self, seconds: float) -> dict[str, Any]:
        if self._pipe.poll(seconds):
            return self._pipe.recv()
        return {"error": f"killed after {seconds:.0f} s"}

    def _kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()
        self._process = None

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._pipe.send(None)
            self._process.join()


def serve(pipe: Any, device: str) -> None:
    """Run rows that come through a pipe, one after the other."""
    pipe.send(tried(begin, device))
    while (asked := pipe.recv()) is not None:
        row, seconds = asked
        if row == "machine":
            pipe.send(tried(machine, device))
        else:
            pipe.send(tried(measured, Row(**row), device, seconds))


def tried(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What work returns, or its error: whatever that is goes into the table."""
    try:
        return work(*arguments)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:500]}


def begin(device: str) -> dict[str, Any]:
    """Make the first call, which is long for what is not the work."""
    import torch

    if device == "cuda":
        torch.linalg.cholesky(torch.eye(2, device=device, dtype=torch.float64))
    return {}


def machine(device: str) -> dict[str, Any]:
    """What the figures belong to."""
    import torch

    import skmag

    found = {
        "device": device,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "skmag": skmag.__version__,
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {"name": properties.name, "bytes": properties.total_memory}
    return found


def measured(row: Row, device: str, seconds: float) -> dict[str, Any]:
    """Warm up, run and time a row."""
    import torch

    begun = time.monotonic()
    work = WORK[row.what](row, device)
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    warm_up, found = timed(work, device)
    runs = []
    while len(runs) < RUNS and time.monotonic() - begun + warm_up < 0.8 * seconds:
        took, found = timed(work, device)
        runs.append(took)
        if took > ONCE_SECONDS:
            break
    out = {"seconds": statistics.median(runs or [warm_up]), "runs": runs, "warm_up": warm_up}
    if device == "cuda":
        out["peak_bytes"] = torch.cuda.max_memory_allocated()
    return out | found


def timed(work: Callable[[], dict[str, Any]], device: str) -> tuple[float, dict[str, Any]]:
    """Seconds until the device has finished, and what the work says."""
    import torch

    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    begun = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = work()
    wait()
    took = time.perf_counter() - begun
    if caught:
        found["warning"] = str(caught[-1].message)[:300]
    return took, found


def normal(row: Row, device: str, seed: int = 0) -> Any:
    """Points of a normal cloud, on the device."""
    import torch

    points = np.random.default_rng(seed).normal(size=(row.n, row.dimension))
    return torch.from_numpy(points).to(device)


def by_solver(row: Row, device: str) -> Callable[[], dict[str, Any]]:
    """Weights by a solver of skmag, the certificate included where the solver has one."""
    from sklearn import set_config

    from skmag import weighting

    set_config(array_api_dispatch=True)
    X = normal(row, device)
    params = {"max_iter": 100} if row.what == "iterative_normalization" else None

    def work() -> dict[str, Any]:
        space = weighting(X, t=row.t, solver=row.what, tol=row.tol, solver_params=params)
        found = {"magnitude": space.magnitude}
        if row.what not in ("cholesky", "mixed"):
            found |= {"lower": space.lower, "upper": space.upper, "n_iter": space.n_iter}
            found |= {"standard_error": space.standard_error, "converged": space.converged}
        return found

    return work


def by_inverse(row: Row, device: str) -> Callable[[], dict[str, Any]]:
    """The magnitude as papers have it: the sum of the inverse of zeta."""
    import torch

    X = normal(row, device)

    def work() -> dict[str, Any]:
        zeta = torch.exp(torch.cdist(X, X) * -row.t)
        return {"magnitude": float(torch.linalg.inv(zeta).sum())}

    return work


def classifier(row: Row, device: str) -> Callable[[], dict[str, Any]]:
    """Fit on ten overlapping classes and predict a sixth as many queries."""
    import torch
    from sklearn import set_config

    from skmag import MagnitudeClassifier

    set_config(array_api_dispatch=True)
    rng = np.random.default_rng(0)
    centers = 0.4 * rng.normal(size=(10, row.dimension))
    y = np.arange(row.n + row.n // 6) % 10
    points = torch.from_numpy(centers[y] + rng.normal(size=(len(y), row.dimension))).to(device)
    labels = torch.from_numpy(y).to(device)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def work() -> dict[str, Any]:
        begun = time.perf_counter()
        model = MagnitudeClassifier().fit(points[: row.n], labels[: row.n])
        wait()
        fit = time.perf_counter() - begun
        right = model.predict(points[row.n :]) == labels[row.n :]
        accuracy = float(right.to(torch.float64).mean())
        return {"fit_seconds": fit, "accuracy": accuracy}

    return work


def two_sample(row: Row, device: str) -> Callable[[], dict[str, Any]]:
    """The permutation test of two samples of n rows."""
    from sklearn import set_config

    from skmag import magnitude_two_sample_test

    set_config(array_api_dispatch=True)
    X, Y = normal(row, device), 1.2 * normal(row, device, seed=1)

    def work() -> dict[str, Any]:
        found = magnitude_two_sample_test(X, Y, n_resamples=999, rng=0)
        return {"pvalue": float(found.pvalue), "statistic": float(found.statistic)}

    return work


def tiles(row: Row, device: str) -> Callable[[], dict[str, Any]]:
    """A product with zeta in float32 and one in float64, no tile being kept."""
    import torch

    from skmag._metrics import resolve_metric
    from skmag._similarity import Similarity
    from skmag._solvers._products import Products

    similarity = Similarity.of(normal(row, device), resolve_metric("euclidean", None), row.t)
    operators = {dtype: Products(similarity, dtype) for dtype in (torch.float32, torch.float64)}
    v = torch.ones(len(similarity), 1, dtype=torch.float64, device=device)

    def work() -> dict[str, Any]:
        found = {}
        for dtype, products in operators.items():
            took, _ = timed(lambda products=products: {"v": products.product(v)}, device)
            found[f"{dtype} seconds".removeprefix("torch.")] = took
        return found

    return work


def compiled(row: Row, device: str) -> Callable[[], dict[str, Any]]:
    """One square tile in float32, distances to products: by torch as it is, and compiled.

    It tells whether fusing the passes over a tile pays. Pairs that are close are not corrected.
    """
    import torch

    side = min(SIDE, row.n)
    points = normal(row, device)[:side].to(torch.float32)
    v = torch.ones(side, dtype=torch.float32, device=device)

    def tile(A: torch.Tensor, B: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, ...]:
        squares = A.square().sum(1)[:, None] + B.square().sum(1) - 2 * (A @ B.mT)
        values = torch.exp(-row.t * squares.clamp_min(0).sqrt())
        return values @ v, values.mT @ v

    fused = torch.compile(tile)
    # What it takes to compile is not the tile's.
    fused(points, points, v)

    def work() -> dict[str, Any]:
        eager, _ = timed(lambda: {"out": tile(points, points, v)}, device)
        both, _ = timed(lambda: {"out": fused(points, points, v)}, device)
        return {"eager_seconds": eager, "compiled_seconds": both}

    return work


WORK: dict[str, Callable[[Row, str], Callable[[], dict[str, Any]]]] = {
    **dict.fromkeys(["cholesky", "mixed", "cg", "sparse", "iterative_normalization"], by_solver),
    "inverse": by_inverse,
    "classifier": classifier,
    "two_sample": two_sample,
    "tiles": tiles,
    "compiled": compiled,
}


if __name__ == "__main__":
    main()
