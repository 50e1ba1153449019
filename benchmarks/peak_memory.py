"""What one run of one implementation adds to the resident memory of its process, in bytes.

A script for ``side_by_side.peak_bytes`` to start: ``peak_memory.py NAME N SCALES DIMENSION
THREADS`` prints one number. Resident memory is what counts because torch and LAPACK allocate
where tracemalloc does not see it. Linux only: the kernel keeps the peak and can be told to
start over, which ``ru_maxrss`` cannot (it also inherits the peak of the parent).
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import candidates
from baseline import sample
from side_by_side import limit_threads, scales_for

WARM_UP = 1000
"""Points of the run before the measured one: enough to start every pool of threads
and to fill the buffers that BLAS keeps."""


def main() -> None:
    """Print the peak of the run that the command line names."""
    name = sys.argv[1]
    n, n_scales, dimension, threads = map(int, sys.argv[2:])
    run, ts = candidates.load(name), scales_for(n_scales)
    limit_threads(threads)
    run(sample(WARM_UP, dimension), ts)
    X = sample(n, dimension)
    gc.collect()
    before = reset_peak()
    run(X, ts)
    print(status_bytes("VmHWM") - before)


def reset_peak() -> int:
    """Let the kernel's record of the peak start over, and return where it starts."""
    Path("/proc/self/clear_refs").write_text("5")
    return status_bytes("VmHWM")


def status_bytes(field: str) -> int:
    """Return one memory field of this process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024


if __name__ == "__main__":
    main()
