"""The number of clusters that persists: the exact sweep over the clusterer's thresholds.

A run is the same for every threshold above its largest accepted gain and up to its smallest refused
one. So the sweep begins with a threshold that refuses nothing, and each next threshold is the
largest gain that the run before accepted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from skmag._arrays import as_numpy, block_slices, rows_per_block
from skmag._clusters import Run
from skmag._similarity import Similarity

_BLOCK_ROWS = 256
# Relative difference between gains that counts as rounding.
_ROUNDING = 1e-9


class Sweep:
    """Runs for falling thresholds, and the number of clusters that persists longest.

    Only clusters with at least `min_rows` rows count. Of the stretches of thresholds with the same
    count, two or more, the longest on a logarithmic axis is chosen, and in it the run of the
    largest thresholds, which leaves the fewest points out. The sweep ends where no longer
    stretch can follow (see :func:`least_threshold`).

    Parameters
    ----------
    similarity : Similarity
        The operator zeta.
    first : int
        Distinct point to begin with.
    min_rows : int
        Rows that make a cluster count, at least two.

    Attributes
    ----------
    intervals : list of (float, float)
        Largest accepted and smallest refused gain of each run.
    counts : list of int
        Number of clusters of at least `min_rows` rows in each run.
    clusters : int64 ndarray of shape (n_points,)
        Cluster of each distinct point in the chosen run; all zero if no run has two that count.
    chosen : (int, int)
        First run of the chosen stretch and the one after its last known run; (0, 1) if none.
    """

    def __init__(self, similarity: Similarity, first: int, min_rows: int) -> None:
        self.similarity = similarity
        self.first = first
        self.min_rows = min_rows
        self.intervals: list[tuple[float, float]] = []
        self.counts: list[int] = []
        self.clusters = np.zeros(len(similarity), dtype=np.int64)
        self.chosen = (0, 1)
        self._length = 0.0
        self._start = 0

    def runs(self) -> Iterator[None]:
        """Yield after each run."""
        # The run that refuses nothing has one cluster, which is never needed as a whole again.
        run, threshold = Run(self.similarity, self.first, revisable=False), math.inf
        floor = least_threshold(self.similarity, self.min_rows)
        while True:
            for _ in run.grow(threshold):
                pass
            threshold = self._note(run)
            yield
            if self._decided(threshold, floor):
                return
            # Gains come out again within rounding only; this one is to be refused.
            threshold *= 1 - _ROUNDING
            if run.revisable:
                run.revise(threshold)
            else:
                run = Run(self.similarity, self.first)

    def _note(self, run: Run) -> float:
        """Keep what a run says, and return the next threshold."""
        clusters = run.clusters()
        rows = np.bincount(clusters, as_numpy(self.similarity.counts))
        self.intervals.append(run.interval())
        self.counts.append(int((rows >= self.min_rows).sum()))
        last = len(self.counts) - 1
        if self.counts[last] != self.counts[self._start]:
            self._start = last
        if self._start == last:
            self._top = clusters
        lower, length = self.intervals[last][0], self._length_from(self.intervals[last][0])
        if self.counts[last] >= 2 and length > self._length:
            self._length, self.chosen, self.clusters = length, (self._start, last + 1), self._top
        return lower

    def _length_from(self, lower: float) -> float:
        """Length of the present stretch if it ends at `lower`."""
        return _log_ratio(self.intervals[self._start][1], lower)

    def _decided(self, threshold: float, floor: float) -> bool:
        """Whether no stretch from here on can become longer than the longest so far."""
        if threshold <= floor:
            return True
        if self.counts[-1] >= 2 and self.chosen[0] != self._start:
            return self._length_from(floor) <= self._length
        return _log_ratio(threshold, floor) <= self._length


def _log_ratio(upper: float, lower: float) -> float:
    if lower >= upper:
        return 0.0
    return math.log(upper / lower) if lower > 0 else math.inf


def least_threshold(similarity: Similarity, min_rows: int) -> float:
    """Return a threshold below which no run has two clusters of `min_rows` rows.

    Take the first points of a cluster, up to m = `min_rows` rows. Each but the first joined with a
    gain below the threshold, so their magnitude is below 1 + (m - 1) threshold. It is at least
    m^2 / sum of zeta over these rows (take equal weights in 2 1'v - v' zeta v and scale them), and
    the sum is bounded by the m nearest rows of every row. Of two clusters, the one that lies less
    densely is bounded by the mean over the 2m densest rows.

    Parameters
    ----------
    similarity : Similarity
        The operator zeta, positive definite.
    min_rows : int
        Rows that make a cluster count, at least two.

    Returns
    -------
    float
        The threshold; infinite if there are fewer rows than two clusters need, and zero if copies
        alone make clusters that count.
    """
    m, n_rows = min_rows, len(similarity.group)
    if 2 * m > n_rows:
        return math.inf
    counts = similarity.counts.to(torch.int64)
    room = similarity.counts.new_empty(len(similarity))
    size = rows_per_block(32 * n_rows, _BLOCK_ROWS, room.device)
    every = torch.arange(len(similarity), device=similarity.device)
    for rows in block_slices(len(similarity), size):
        gap = torch.expm1(similarity.distances_of(every[rows]) * -similarity.t).neg_()
        nearest = gap.repeat_interleave(counts, dim=1).topk(m, dim=1, largest=False)
        room[rows] = nearest.values.sum(dim=1)
    mean = float(room.repeat_interleave(counts).topk(2 * m, largest=False).values.mean())
    return mean / ((m - mean) * (m - 1))
