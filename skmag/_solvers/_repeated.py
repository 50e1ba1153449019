"""Distances of the same blocks of points in every product, without asking the host anew each time.

What only the host can decide, whether squares stay in range and which pairs of a block need true
differences, costs a device a round trip for each block. Both are decided once, and remembered.
"""

from __future__ import annotations

import torch

from skmag._arrays import free_device_memory
from skmag._metrics import (
    GEMM_FEATURES,
    SAFE_COORDINATES,
    Metric,
    by_planes,
    cosine_of,
    gemm_distances,
)
from skmag._solvers._dimension import exponent, has_coordinates

# Up to this many features, float32 distances by one feature after the other take a third of the
# time of a loop over pairs.
PLANES = 4
# Share of a device's free memory for the pairs that are remembered.
_REMEMBERED = 1 / 16


class RepeatedDistances:
    """Euclidean or cosine distances between slices of points on a device.

    Parameters
    ----------
    metric : Metric
        One that :meth:`suits` accepts.
    points : tensor of shape (n_points, n_features)
        Prepared points.
    """

    def __init__(self, metric: Metric, points: torch.Tensor) -> None:
        self._is_cosine = metric.name == "cosine"
        self._points = points
        features = PLANES + 1 if points.dtype == torch.float32 else GEMM_FEATURES
        self._by_product = points.shape[1] >= features
        # Pairs of each block that need true differences; None where nearly all do.
        self._close: dict[tuple[int, int, int, int], torch.Tensor | None] = {}
        self._room = _REMEMBERED * free_device_memory(points.device)

    @staticmethod
    def suits(metric: Metric, points: torch.Tensor) -> bool:
        """Whether these are distances of the kind, and squares of coordinates stay in range."""
        if not has_coordinates(metric) or exponent(metric) != 2:
            return False
        largest = float(points.abs().max())
        return largest == 0 or SAFE_COORDINATES[0] < largest < SAFE_COORDINATES[1]

    def block(self, rows: slice, columns: slice) -> torch.Tensor:
        """Distances between two slices of the points."""
        A, B = self._points[rows], self._points[columns]
        place = rows.start, rows.stop, columns.start, columns.stop
        known = place in self._close
        if not self._by_product or (known and self._close[place] is None):
            distance = by_planes(A, B)
        else:
            distance, close = gemm_distances(A, B, self._close.get(place))
            if not known:
                self._remember(place, close, distance.numel())
        return cosine_of(distance) if self._is_cosine else distance

    def _remember(
        self, place: tuple[int, int, int, int], close: torch.Tensor, entries: int
    ) -> None:
        if 5 * len(close) > entries:
            self._close[place] = None
            return
        size = close.numel() * close.element_size()
        if size <= self._room:
            self._room -= size
            self._close[place] = close
