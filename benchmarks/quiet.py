"""Whether other processes use the processor, told from this process's share of all that is used.

Taking turns does not protect a ratio on a busy machine: a BLAS whose second thread waits for a
core is slower by factors, now on one side, now on the other. So a round that was disturbed has
to be seen and thrown away. Linux only; elsewhere every moment counts as quiet.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

STATISTICS = Path("/proc/stat")
IDLE_FIELDS = (3, 4)
"""Columns of the statistics in which the processor waits."""

SHARE = 0.05
"""Cores that others may use, on average, without disturbing."""

RESOLUTION = 0.03
"""Seconds by which the counters, which count in ticks, may be off."""


class Watch:
    """Processor time that others use from the moment this is made."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._others = _others_seconds()

    def disturbed(self) -> bool:
        """Return whether others have used enough since then to matter."""
        allowance = RESOLUTION + SHARE * (time.monotonic() - self._start)
        return _others_seconds() - self._others > allowance


def wait_for_quiet(deadline: float) -> None:
    """Return when a second has passed without others, or at the deadline in monotonic time."""
    while time.monotonic() < deadline:
        watch = Watch()
        time.sleep(1.0)
        if not watch.disturbed():
            return


def _others_seconds() -> float:
    """Return the processor time used so far, less that of this process."""
    if not STATISTICS.exists():
        return 0.0
    ticks = STATISTICS.read_text().split("\n", 1)[0].split()[1:9]
    used = sum(int(count) for i, count in enumerate(ticks) if i not in IDLE_FIELDS)
    mine = resource.getrusage(resource.RUSAGE_SELF)
    return used / os.sysconf("SC_CLK_TCK") - mine.ru_utime - mine.ru_stime
