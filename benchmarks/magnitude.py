"""What skmag's magnitude costs next to plain scipy and next to magnipy, as ratios.

skmag and scipy run in turn in this process, on the same data and the same number of threads;
peak memory is taken in a process of its own per run. magnipy runs in an environment of its own
beside the same scipy baseline, and magnipy / skmag is the quotient of the two ratios to scipy.
``benchmarks/README.md`` says how to read the table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

import magnipy_peer
import numpy as np
import scipy
import torch
from side_by_side import Comparison, Setting, compare, limit_threads

import skmag

SIZES = [500, 1000, 2000, 4000, 8000]
LARGEST_FOR_20_SCALES = 4000
DISTURBED = " (disturbed)"
CLAIM = 1.15
CLAIM_FROM = 2000
HEADER = [
    "n",
    "scales",
    "scipy, s",
    "time, skmag / scipy",
    "scipy peak, n x n",
    "peak, skmag / scipy",
    "time, magnipy / skmag",
    "peak, magnipy / skmag",
]


def main() -> None:
    """Run the comparisons that the command line asks for and print the table."""
    arguments = parse_arguments()
    cells = cells_for(arguments.sizes, arguments.full)
    setting = Setting(arguments.dimension, arguments.repeats, arguments.threads, arguments.patience)
    threads = limit_threads(arguments.threads)
    print(f"threads: {threads}\n", flush=True)
    if arguments.magnipy:
        prepare_magnipy(arguments)

    ours = [announced(compare("skmag", n, n_scales, setting)) for n, n_scales in cells]
    peer = magnipy_peer.run(cells, setting) if arguments.magnipy else {"comparisons": []}
    print(f"\n{table(ours, peer['comparisons'])}\n\n{verdict(ours)}")
    if arguments.json:
        report = {
            "machine": {"processor": processor(), "python": platform.python_version()},
            "versions": {m.__name__: m.__version__ for m in (skmag, torch, np, scipy)},
            "dimension": arguments.dimension,
            "threads": threads,
            "skmag": [comparison.record() for comparison in ours],
            "magnipy": peer,
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N")
    parser.add_argument("--repeats", type=int, default=9, help="most rounds per comparison")
    parser.add_argument("--dimension", type=int, default=10, help="of the normal data")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--patience",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long one comparison may wait for other processes to leave the processor alone",
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help=f"20 scales above n = {LARGEST_FOR_20_SCALES} too, which takes many minutes",
    )
    parser.add_argument("--magnipy", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures there")
    return parser.parse_args()


def cells_for(sizes: list[int], full: bool) -> list[tuple[int, int]]:
    """Return the (n, number of scales) to compare, one scale first."""
    twenty = [n for n in sizes if full or n <= LARGEST_FOR_20_SCALES]
    return [(n, 1) for n in sizes] + [(n, 20) for n in twenty]


def prepare_magnipy(arguments: argparse.Namespace) -> None:
    """Make magnipy's environment, or say why not and go on without it."""
    try:
        magnipy_peer.ensure_environment()
    except magnipy_peer.MagnipyUnavailableError as reason:
        print(f"magnipy is left out: {reason}\n", flush=True)
        arguments.magnipy = False


def announced(comparison: Comparison) -> Comparison:
    """Return the comparison, having printed it: a whole run takes minutes."""
    print(
        f"n = {comparison.n}, {comparison.n_scales} scales, {comparison.rounds} rounds: "
        f"{comparison.time_ratio:.2f} x scipy{DISTURBED if comparison.disturbed else ''}",
        flush=True,
    )
    return comparison


def table(ours: list[Comparison], peers: list[dict]) -> str:
    """Return the comparisons as a Markdown table."""
    peer_by_cell = {(peer["n"], peer["n_scales"]): peer for peer in peers}
    rows = [row(c, peer_by_cell.get((c.n, c.n_scales))) for c in ours]
    rule = ["---:"] * len(HEADER)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [HEADER, rule, *rows])


def row(ours: Comparison, peer: dict | None) -> list[str]:
    """Return the cells of one line of the table."""
    matrix = 8 * ours.n**2
    return [
        f"{ours.n}",
        f"{ours.n_scales}",
        f"{ours.scipy_seconds:.2g}",
        marked(ours),
        cell(quotient(ours.scipy_peak_bytes, matrix)),
        cell(ours.memory_ratio),
        cell(quotient(peer and peer["time_ratio"], ours.time_ratio)),
        cell(quotient(peer and peer["memory_ratio"], ours.memory_ratio)),
    ]


def marked(ours: Comparison) -> str:
    """Return the ratio of times, with a mark where other processes disturbed every round."""
    return cell(ours.time_ratio) + (DISTURBED if ours.disturbed else "")


def quotient(above: float | None, below: float | None) -> float | None:
    """Return above / below, or None where either was not measured."""
    return None if above is None or below is None else above / below


def cell(value: float | None) -> str:
    """Return a figure to two decimals, a dash where there is none."""
    return "-" if value is None else f"{value:.2f}"


def verdict(ours: list[Comparison]) -> str:
    """Return how the largest ratios compare with what the project claims."""
    claimed = [c for c in ours if c.n >= CLAIM_FROM and not c.disturbed]
    if not claimed:
        return f"Nothing to compare with the claim: no undisturbed time from n = {CLAIM_FROM} on."
    time = max(c.time_ratio for c in claimed)
    memory = max((c.memory_ratio for c in claimed if c.memory_ratio is not None), default=None)
    return (
        f"From n = {CLAIM_FROM} on, skmag / scipy is at most {time:.2f} in time and "
        f"{cell(memory)} in peak memory (claimed: {CLAIM})."
    )


def processor() -> str:
    """Return the name of the processor, as far as the platform tells it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
