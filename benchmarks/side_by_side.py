"""How two implementations are timed against each other, and how peak memory is asked for.

Times come from one process, interleaved, so that a clock that drifts falls on both alike, and
only rounds that other processes left alone count. Peaks come from a fresh process each, since
what one run leaves with the allocator would hide what the next one takes.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import candidates
import numpy as np
import quiet
from baseline import SCALES, sample
from threadpoolctl import threadpool_info, threadpool_limits

HERE = Path(__file__).resolve().parent

ROUND_BUDGET = 40.0
"""Seconds that the rounds of one comparison may take, two rounds being run in any case."""

SHORT = 5.0
"""Seconds below which the rounds of one comparison take so little that more are run."""

SETTLE = 0.2
"""Seconds that a function runs on few points before it is timed.

Idle threads of the other library go on spinning for about a tenth of a second and take a core
meanwhile. With these, a function takes as long next to the other as it does alone.
"""

SETTLE_POINTS = 500

THREAD_VARIABLES = [
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
]
"""What holds the libraries to a number of threads from the start of a process."""

Round = tuple[float, float]
"""Seconds of the candidate and of scipy, one after the other."""


@dataclass(frozen=True)
class Setting:
    """What all comparisons of one run of the benchmark share."""

    dimension: int
    repeats: int
    threads: int
    patience: float


@dataclass
class Comparison:
    """One candidate next to scipy, at one n and one number of scales.

    ``time_ratio`` is the median of the ratios of the rounds, ``disturbed`` says that other
    processes left no two rounds alone, so that the ratio means little.
    """

    name: str
    n: int
    n_scales: int
    rounds: int
    seconds: float
    scipy_seconds: float
    time_ratio: float
    disturbed: bool
    peak_bytes: int | None = None
    scipy_peak_bytes: int | None = None

    @property
    def memory_ratio(self) -> float | None:
        """Peak of the candidate over that of scipy, or None where no peak was measured."""
        if self.peak_bytes is None or self.scipy_peak_bytes is None:
            return None
        return self.peak_bytes / self.scipy_peak_bytes

    def record(self) -> dict:
        """Return the comparison as JSON can hold it."""
        return {**asdict(self), "memory_ratio": self.memory_ratio}


def scales_for(n_scales: int) -> np.ndarray:
    """Return the scales of a comparison: t = 1, or the benchmark's 20."""
    return np.array([1.0]) if n_scales == 1 else SCALES


def limit_threads(threads: int) -> dict:
    """Hold every BLAS and torch to the same number of threads, and return what they report."""
    threadpool_limits(threads)
    report = {
        f"{Path(pool['filepath']).name} ({pool['internal_api']})": pool["num_threads"]
        for pool in threadpool_info()
    }
    # torch's BLAS is linked into it, where threadpoolctl does not look.
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
        report["torch"] = torch.get_num_threads()
    return report


def compare(name: str, n: int, n_scales: int, setting: Setting) -> Comparison:
    """Time a candidate and scipy in turn and measure the peak memory of both."""
    comparison = _time(name, n, n_scales, setting)
    comparison.peak_bytes = peak_bytes(name, n, n_scales, setting)
    comparison.scipy_peak_bytes = peak_bytes("scipy", n, n_scales, setting)
    return comparison


def peak_bytes(name: str, n: int, n_scales: int, setting: Setting) -> int | None:
    """Return what one run adds to the peak of a process of its own, None off Linux."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    command = [sys.executable, HERE / "peak_memory.py", name, str(n), str(n_scales)]
    environment = {
        **os.environ,
        **dict.fromkeys(THREAD_VARIABLES, str(setting.threads)),
        # glibc raises this threshold as it goes and then keeps freed matrices of up to 32 MiB,
        # which the next run takes without the peak moving. Set, it stays, and they go back.
        "MALLOC_MMAP_THRESHOLD_": str(2**17),
    }
    child = subprocess.run(
        [*command, str(setting.dimension), str(setting.threads)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return int(child.stdout)


def _time(name: str, n: int, n_scales: int, setting: Setting) -> Comparison:
    """Run candidate and scipy in turn, after a first run of each that is only checked."""
    deadline = time.monotonic() + setting.patience
    X, ts = sample(n, setting.dimension), scales_for(n_scales)
    runs = [candidates.load(name), candidates.load("scipy")]
    quiet.wait_for_quiet(deadline)
    values, reference = (run(X, ts) for run in runs)
    candidates.check_agreement(name, values, reference)

    rounds, disturbed = _undisturbed(lambda: _round(runs, X, ts), setting.repeats, deadline)
    return Comparison(
        name=name,
        n=n,
        n_scales=n_scales,
        rounds=len(rounds),
        seconds=median(ours for ours, _ in rounds),
        scipy_seconds=median(theirs for _, theirs in rounds),
        time_ratio=median(ours / theirs for ours, theirs in rounds),
        disturbed=disturbed,
    )


def _undisturbed(
    one_round: Callable[[], Round], repeats: int, deadline: float
) -> tuple[list[Round], bool]:
    """Run rounds until enough were left alone by other processes, or the deadline passes.

    Returns the rounds left alone and False, or all of them and True if fewer than two were.
    """
    alone, every = [], []
    while not _enough(alone, repeats) and (
        time.monotonic() < deadline or not _enough(every, repeats)
    ):
        watch = quiet.Watch()
        every.append(one_round())
        if watch.disturbed():
            quiet.wait_for_quiet(deadline)
        else:
            alone.append(every[-1])
    return (alone, False) if len(alone) >= 2 else (every, True)


def _round(runs: list[candidates.Candidate], X: np.ndarray, ts: np.ndarray) -> Round:
    """Run the candidate and scipy in either order, for neither to gain by coming second."""
    first = random.randrange(2)
    seconds = [0.0, 0.0]
    for i in (first, 1 - first):
        seconds[i] = _timed(runs[i], X, ts)
    return seconds[0], seconds[1]


def _enough(rounds: list[Round], repeats: int) -> bool:
    """Return whether these rounds settle a ratio: more of them where they are short."""
    seconds = sum(map(sum, rounds))
    wanted = 3 * repeats if seconds < SHORT else repeats
    return len(rounds) >= 2 and (len(rounds) >= wanted or seconds >= ROUND_BUDGET)


def _timed(run: candidates.Candidate, X: np.ndarray, ts: np.ndarray) -> float:
    """Return the seconds one run takes, its own threads awake and the other's asleep."""
    few = sample(SETTLE_POINTS, X.shape[1])
    settled = time.perf_counter() + SETTLE
    while time.perf_counter() < settled:
        run(few, ts[:1])
    start = time.perf_counter()
    run(X, ts)
    return time.perf_counter() - start
