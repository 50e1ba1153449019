"""Clusters that grow point by point: a run of the magnitude clusterer, and what it leaves.

Two runs with different thresholds coincide up to the first gain that they judge differently. So a
run can be revised: it is taken up there, and clusters that then grow as they did before find their
gains computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from skmag._arrays import as_numpy, block_slices, converted, rows_per_block
from skmag._class_answers import ClassAnswers, class_similarities
from skmag._growth import VECTORS, Growth, Room
from skmag._metrics import Metric
from skmag._similarity import Similarity
from skmag._solvers import exact_bytes

# A pool that has lost this share of its points is worth a copy of what is left.
_SPENT = 0.25
_BLOCK_ROWS = 256


class Rewindable(Growth):
    """A growing set that can be taken back to an earlier size.

    Parameters
    ----------
    similarity : Similarity
        The operator zeta of the whole set.
    first : int
        Distinct point that the set begins with.
    pool : int64 tensor of shape (n_pool,)
        Distinct points that may join, in increasing order.
    room : Room
        Where its memory comes from.
    """

    def __init__(self, similarity: Similarity, first: int, pool: torch.Tensor, room: Room) -> None:
        room.take(8 * VECTORS * len(pool))
        super().__init__(similarity, first, pool)
        self._room = room
        self._steps: list[float] = []

    def join(self, point: int) -> float:
        if missing := self.missing_rows:
            # As many vectors of gains will be kept beside the rows.
            self._room.take(8 * len(self.pool) * (2 * missing + VECTORS))
        at = int(torch.searchsorted(self.pool, point))
        self._steps.append(float(self.deficit[at]) / float(self.residual[at]) ** 0.5)
        return super().join(point)

    def restrict(self, kept: torch.Tensor) -> None:
        self._room.take(8 * int(kept.sum()) * (len(self._rows) + VECTORS))
        super().restrict(kept)

    def rewind(self, size: int) -> None:
        """Forget all but the first `size` members."""
        self._room.take(8 * len(self.pool) * (size + VECTORS))
        # A copy, so that the memory of the other rows is free.
        t, rows = self.similarity.t, self._rows[: size - 1].clone()
        self._rows = rows
        del self.members[size:], self._steps[size - 1 :]
        steps = torch.tensor(self._steps, dtype=rows.dtype, device=rows.device)
        self.magnitude = 1.0 + float(steps.square().sum())
        self.deficit = torch.expm1(-t * self._anchor).neg_().sub_(steps @ rows)
        self.residual = torch.expm1(-2 * t * self._anchor).neg_()
        self.residual -= torch.linalg.vector_norm(rows, dim=0).square_()
        self.nearest_distance = self._anchor.clone()
        later = torch.tensor(self.members[1:], dtype=torch.int64, device=self.pool.device)
        for own in block_slices(len(later), rows_per_block(16 * len(self.similarity), _BLOCK_ROWS)):
            block = self.similarity.distances_of(later[own])[:, self.pool]
            self.nearest_distance = self.nearest_distance.minimum(block.min(dim=0).values)
        self._settle()


class Cluster:
    """A cluster whose gains are remembered for every size that it has had.

    Taken back, it grows again without any work as long as the same points join as before.

    Parameters
    ----------
    similarity : Similarity
        The operator zeta of the whole set.
    first : int
        Distinct point that the cluster begins with.
    pool : int64 tensor of shape (n_pool,)
        Distinct points that may join, in increasing order.
    revisable : bool
        Whether to remember, at the price of n_pool numbers for each member.
    room : Room
        Where its memory comes from.

    Attributes
    ----------
    first : int
        Its first point.
    size : int
        Number of its points.
    """

    def __init__(
        self, similarity: Similarity, first: int, pool: torch.Tensor, revisable: bool, room: Room
    ) -> None:
        self.first = first
        self.size = 1
        self.revisable = revisable
        self._growth = Rewindable(similarity, first, pool, room)
        self._known = [self._growth.gains()]

    @property
    def pool(self) -> torch.Tensor:
        """Points that may join, or have."""
        return self._growth.pool

    @property
    def gains(self) -> torch.Tensor:
        """Gain of each point of the pool, zero for members."""
        return self._known[self.size - 1 if self.revisable else 0]

    def join(self, point: int) -> None:
        """Let a point join."""
        members = self._growth.members
        if self.size == len(members) or members[self.size] != point:
            if self.size < len(members):
                self._growth.rewind(self.size)
            self._growth.join(point)
            del self._known[self.size if self.revisable else 0 :]
            self._known.append(self._growth.gains())
        self.size += 1

    def take_back(self, size: int) -> None:
        """Return to the first `size` members."""
        self.size = size

    def trim(self) -> None:
        """Forget what is known of greater sizes."""
        if self.revisable and self.size < len(self._known):
            del self._known[self.size :]
            self._growth.rewind(self.size)

    def restrict(self, kept: torch.Tensor) -> None:
        """Forget the points outside a boolean mask of the pool; not for a revisable cluster."""
        self._growth.restrict(kept)
        self._known = [self.gains[kept]]


@dataclass(frozen=True)
class Choice:
    """What a run did with one point.

    Parameters
    ----------
    point : int
        Distinct point.
    cluster : int
        Number of the cluster that it joined or founded.
    gain : float
        Least gain that it had with any cluster.
    joined : bool
        Whether the gain was below the threshold; a point that did not join founded its cluster.
    """

    point: int
    cluster: int
    gain: float
    joined: bool


class Run:
    """One run of the magnitude clusterer, step by step ("Approximating metric magnitude of point
    sets", Algorithm 4).

    Each step takes the point outside and the cluster of least gain; a tie goes to the point that
    appears first in the data. A cluster is founded when no gain is below the threshold, and
    changes nothing about the older clusters. So only the youngest one grows, and of the others all
    that matters is the least gain that each point had with any of them.

    Parameters
    ----------
    similarity : Similarity
        The operator zeta.
    first : int
        Distinct point to begin with.
    revisable : bool, default=True
        Whether the run can be revised. A run that cannot remembers its youngest cluster only.

    Attributes
    ----------
    choices : list of Choice
        The steps so far; the first one founds the first cluster.
    """

    def __init__(self, similarity: Similarity, first: int, *, revisable: bool = True) -> None:
        n, device = len(similarity), similarity.device
        self._room = Room(similarity)
        if revisable and similarity.table is None:
            self._room.take(exact_bytes(n, 8) + 8 * n * VECTORS)
        # Looked up where there are many clusters, so that none has to keep points of its own.
        looked_up = replace(similarity.with_table(), points=None) if revisable else similarity
        self.similarity = looked_up
        self.revisable = revisable
        self.choices = [Choice(first, 0, math.inf, False)]
        self._assigned = torch.zeros(n, dtype=torch.bool, device=device)
        self._assigned[first] = True
        # Least gain of each point with any of the older clusters.
        self._least = torch.full((n,), torch.inf, dtype=torch.float64, device=device)
        self._clusters = [
            Cluster(looked_up, first, torch.arange(n, device=device), revisable, self._room)
        ]
        self._least_before = [self._least]
        self._former: dict[int, Cluster] = {}

    def grow(self, threshold: float) -> Iterator[Choice]:
        """Go on until every point is in a cluster, and yield each step."""
        while len(self.choices) < len(self.similarity):
            self._forget_assigned()
            youngest = self._clusters[-1]
            gains = youngest.gains.masked_fill(self._assigned[youngest.pool], torch.inf)
            at = int(gains.argmin())
            c, gain, point = self.choices[-1].cluster, float(gains[at]), int(youngest.pool[at])
            joined = gain < threshold
            if joined:
                self._assigned[point] = True
                youngest.join(point)
            else:
                c += 1
                self._least = self._least.clone()
                self._least[youngest.pool] = self._least[youngest.pool].minimum(gains)
                point = int(self._least.masked_fill(self._assigned, torch.inf).argmin())
                gain = float(self._least[point])
                self._assigned[point] = True
                self._found(point)
            self.choices.append(Choice(point, c, gain, joined))
            yield self.choices[-1]
        # What did not come about again is not likely to.
        self._former.clear()
        for cluster in self._clusters:
            cluster.trim()

    def revise(self, threshold: float) -> None:
        """Go back to the first step that another threshold would decide otherwise."""
        for step, choice in enumerate(self.choices[1:], 1):
            if choice.joined != (choice.gain < threshold):
                self._go_back(step)
                return

    def interval(self) -> tuple[float, float]:
        """Largest accepted and smallest refused gain: any threshold between makes this run."""
        accepted = [choice.gain for choice in self.choices[1:] if choice.joined]
        refused = [choice.gain for choice in self.choices[1:] if not choice.joined]
        return max(accepted, default=0.0), min(refused, default=math.inf)

    def clusters(self) -> np.ndarray:
        """Number of each distinct point's cluster, -1 where the run has not come."""
        out = np.full(len(self.similarity), -1)
        for choice in self.choices:
            out[choice.point] = choice.cluster
        return out

    def _found(self, point: int) -> None:
        """Let a point, already marked as assigned, found a cluster."""
        if not self.revisable:
            self._clusters.clear()
        outside = ~self._assigned
        # A cluster that began here in an earlier run is likely to grow as it did then.
        own = self._former.pop(point, None)
        if own is None or int(outside[own.pool].sum()) < int(outside.sum()):
            outside[point] = True
            pool = torch.nonzero(outside)[:, 0]
            own = Cluster(self.similarity, point, pool, self.revisable, self._room)
        self._clusters.append(own)
        if self.revisable:
            self._least_before.append(self._least)

    def _forget_assigned(self) -> None:
        youngest, left = self._clusters[-1], len(self.similarity) - len(self.choices)
        if not self.revisable and left < (1 - _SPENT) * len(youngest.pool):
            youngest.restrict(~self._assigned[youngest.pool])

    def _go_back(self, step: int) -> None:
        """Forget the choices from `step` on, but not the gains of the clusters they made."""
        del self.choices[step:]
        last = self.choices[-1].cluster
        for cluster in self._clusters[last + 1 :]:
            cluster.take_back(1)
            self._former[cluster.first] = cluster
        del self._clusters[last + 1 :], self._least_before[last + 1 :]
        self._clusters[last].take_back(sum(choice.cluster == last for choice in self.choices))
        self._least = self._least_before[last]
        self._assigned.fill_(False)
        self._assigned[[choice.point for choice in self.choices]] = True


def numbered(clusters: np.ndarray, min_rows: int) -> np.ndarray:
    """Number clusters in order of their first row, and call the small ones noise.

    Parameters
    ----------
    clusters : int64 ndarray of shape (n_rows,)
        Cluster of each row, -1 for none.
    min_rows : int
        Clusters with fewer rows are noise.

    Returns
    -------
    int64 ndarray of shape (n_rows,)
        Labels, consecutive from 0; -1 for noise.
    """
    found, first, size = np.unique(clusters, return_index=True, return_counts=True)
    kept = (found >= 0) & (size >= min_rows)
    order = found[kept][np.argsort(first[kept])]
    labels = np.full(int(clusters.max(initial=-1)) + 2, -1)
    labels[order] = np.arange(len(order))
    return labels[clusters]


@dataclass(frozen=True)
class ClusterAnswers:
    """The weightings of finished clusters, and the rows that are in none.

    Parameters
    ----------
    members : ClassAnswers
        Answers of each cluster.
    noise : Similarity or None
        The rows in no cluster, where there are any.
    noise_rows : int64 ndarray
        Their numbers.
    """

    members: ClassAnswers
    noise: Similarity | None
    noise_rows: np.ndarray

    @classmethod
    def of(
        cls,
        data: torch.Tensor,
        labels: np.ndarray,
        metric: Metric,
        t: float,
        solver: str,
        tol: float = 1e-6,
    ) -> ClusterAnswers:
        """Solve the clusters of unprepared, labelled `data`."""
        own = [np.flatnonzero(labels == c) for c in range(int(labels.max(initial=-1)) + 1)]
        parts = class_similarities(data, own, metric)
        members = ClassAnswers([], [], metric.precomputed)
        if own:
            members = ClassAnswers.of(parts, own, [t] * len(own), solver, data.device, tol=tol)
        left = np.flatnonzero(labels < 0)
        noise = class_similarities(data, [left], metric)[0] if len(left) else None
        return cls(members, noise, left)

    @property
    def device(self) -> torch.device:
        """Where the answers live."""
        known = self.noise or self.members.parts[0].similarity
        return known.device

    def labels(self, Z: torch.Tensor, threshold: float) -> np.ndarray:
        """Cluster of least gain for each prepared query, -1 where that is not below `threshold`.

        A query on top of a row has its label.
        """
        if not self.members.parts:
            return np.full(len(Z), -1)
        gains = self.members.map(lambda c, part: part.gains(part.probe(self.members.queries(c, Z))))
        least, labels = torch.stack(gains).min(dim=0)
        labels[~(least < threshold)] = -1
        if self.noise is not None:
            columns = torch.from_numpy(self.noise_rows)
            own = Z[:, columns] if self.members.precomputed else Z
            size = rows_per_block(32 * len(self.noise), len(Z), Z.device)
            for rows in block_slices(len(Z), size):
                on_noise = self.noise.query_distances(own[rows]).min(dim=1).values == 0
                labels[rows] = labels[rows].masked_fill(on_noise, -1)
        return as_numpy(labels)

    def __sklearn_array_api_convert__(self, converter: Callable[[Any], Any]) -> ClusterAnswers:
        members = self.members.__sklearn_array_api_convert__(converter)
        noise = None if self.noise is None else converted(self.noise, converter)[0]
        return ClusterAnswers(members, noise, self.noise_rows)
