"""The weighting of a Dask array on two workers, beside the local solve: memory, time, agreement.

Each worker is a process, whose peak of resident memory the kernel keeps; what it held after its
imports is subtracted. The points are made on the workers, chunk by chunk, so that no process but
the one of the local solve ever holds all of them. ``--partitions`` takes several numbers: the more
partitions, the less a task holds, while the columns of the sparse factor, which stay on the
workers, are as large as ever; the table tells their size.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

MEGABYTE = 2**20
HEADER = ["solve", "wall, s", "CPU, s", "caller, MB", "workers, MB", "magnitude", "difference"]


def main() -> None:
    """Solve on a cluster and locally, and print a line for each."""
    arguments = parse_arguments()
    if arguments.local:
        print(json.dumps(local(arguments)))
        return
    if arguments.cluster:
        print(json.dumps(on_cluster(arguments)))
        return
    columns = 12 * 21 * arguments.n / MEGABYTE
    print(
        f"n = {arguments.n:,} normal points of the plane, tol = {arguments.tol}, "
        f"{arguments.workers} workers of one thread; coordinates {16 * arguments.n / MEGABYTE:.0f} "
        f"MB, columns of the factor {columns:.0f} MB"
    )
    print(cells(HEADER), flush=True)
    reference = in_process("--local", arguments, arguments.partitions[0])
    print(cells(row("local", reference, reference)), flush=True)
    for partitions in arguments.partitions:
        found = in_process("--cluster", arguments, partitions)
        print(cells(row(f"{partitions} partitions", found, reference)), flush=True)


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1_000_000, help="number of points")
    parser.add_argument("--partitions", type=int, nargs="+", default=[20], help="chunks of rows")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--tol", type=float, default=1e-4, help="relative tolerance")
    parser.add_argument("--local", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--cluster", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def in_process(kind: str, arguments: argparse.Namespace, partitions: int) -> dict:
    """Run one solve in a fresh process."""
    command = [sys.executable, __file__, kind, "--n", str(arguments.n), "--tol", str(arguments.tol)]
    command += ["--partitions", str(partitions), "--workers", str(arguments.workers)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    if ran.returncode:
        sys.exit(f"{' '.join(command)}\n{ran.stderr}")
    return json.loads(ran.stdout)


def chunk(number: int, size: int) -> np.ndarray:
    """Points of one chunk."""
    return np.random.default_rng([0, number]).normal(size=(size, 2))


def sizes(arguments: argparse.Namespace) -> list[int]:
    """Numbers of rows; those of 20 chunks whatever the partitions, so that the points are too."""
    return [len(part) for part in np.array_split(np.empty(arguments.n), 20)]


def local(arguments: argparse.Namespace) -> dict:
    """Solve in this process."""
    import skmag

    X = np.concatenate([chunk(number, size) for number, size in enumerate(sizes(arguments))])
    before = reset_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    space = skmag.weighting(
        X, solver="sparse", tol=arguments.tol, solver_params={"canonical": True}
    )
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "caller": (peak() - before) / MEGABYTE,
        "workers": [],
        "magnitude": space.magnitude,
        "weights": summary(space.weights),
    }


def on_cluster(arguments: argparse.Namespace) -> dict:
    """Solve on workers of their own."""
    import dask
    import dask.array as da
    from distributed import Client, LocalCluster

    import skmag.dask

    parts = [
        da.from_delayed(dask.delayed(chunk)(number, size), (size, 2), dtype=float)
        for number, size in enumerate(sizes(arguments))
    ]
    size = -(-arguments.n // arguments.partitions[0])
    with (
        LocalCluster(
            n_workers=arguments.workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
        ) as cluster,
        Client(cluster) as client,
    ):
        X = da.concatenate(parts).rechunk((size, 2))
        client.run(imports)
        before = client.run(reset_peak)
        begun = client.run(time.process_time)
        caller = reset_peak()
        wall, cpu = time.perf_counter(), time.process_time()
        space = skmag.dask.weighting(X, tol=arguments.tol)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        spent = client.run(time.process_time)
        after = client.run(peak)
        weights = space.weights.compute()
    return {
        "wall": wall,
        "cpu": cpu + sum(spent.values()) - sum(begun.values()),
        "caller": (peak() - caller) / MEGABYTE,
        "workers": [(after[name] - before[name]) / MEGABYTE for name in before],
        "magnitude": space.magnitude,
        "weights": summary(weights),
    }


def imports() -> None:
    """Have a worker import what it needs."""
    import skmag.dask  # noqa: F401


def summary(weights: np.ndarray) -> list[float]:
    """Numbers that equal weights share: a sample of them, and sums of powers."""
    return [*weights[:: max(1, len(weights) // 10_000)].tolist(), float((weights**2).sum())]


def reset_peak() -> int:
    """Let the kernel's record of this process's peak start over; return where it starts."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """Peak of this process's resident memory, in bytes; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def row(name: str, found: dict, reference: dict) -> list[str]:
    """Return the cells of one line of the table."""
    weights, expected = np.array(found["weights"]), np.array(reference["weights"])
    difference = max(
        abs(found["magnitude"] / reference["magnitude"] - 1),
        float(np.abs(weights - expected).max() / np.abs(expected[:-1]).max()),
    )
    return [
        name,
        f"{found['wall']:.0f}",
        f"{found['cpu']:.0f}",
        f"{found['caller']:.0f}",
        " + ".join(f"{value:.0f}" for value in found["workers"]) or "-",
        f"{found['magnitude']:.9g}",
        f"{difference:.1e}",
    ]


def cells(texts: list[str]) -> str:
    """Return one aligned line."""
    return "  ".join(text.rjust(14) for text in texts)


if __name__ == "__main__":
    main()
