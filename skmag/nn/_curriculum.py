"""Which scales take part in the loss of each epoch, and a proposal of both from data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

from skmag._arrays import as_numpy
from skmag._input import check_2d
from skmag._scale import check_scale
from skmag.nn._distance_loss import magnitude_distance_loss

# Shares of the training after which the paper's scales join: epochs 1, 101, 251, 351 of 500.
_PAPER_SHARES = (0.0, 0.2, 0.5, 0.7)
# Normalized distance, of at most about 1, from which on two samples count as far apart.
_FAR = 0.5
# Largest multiple of the first scale that is proposed, and how many scales up to it are tried.
_SEARCHED, _TRIED = 100.0, 41


@dataclass(frozen=True)
class MagnitudeCurriculum:
    """Scales that join a loss one after the other, from coarse to fine.

    Parameters
    ----------
    scales : sequence of float
        Positive scales that do not decrease.
    epochs : sequence of int
        Epoch from which on each scale takes part, counted from 0; the first is 0, and they
        increase.
    cumulative : bool, default=True
        Whether scales that took part stay, as in the paper, or make room for the next one.
        :class:`MagnitudeGenerativeNetwork` lets them stay until the next one sees the data.

    Raises
    ------
    ValueError
        If the scales or epochs are not as described; the message names them.

    See Also
    --------
    MagnitudeDistanceLoss : The loss that takes the scales.
    MagnitudeGenerativeNetwork : A generator that is trained by a curriculum.

    Notes
    -----
    Small scales, which come first, tell about the whole of the data, large ones about details. In
    the paper those that took part stay, lest the details be learned at the cost of the whole; where
    the large scales see the whole, too, the small ones only take attention off the details. The
    paper counts epochs from 1.

    References
    ----------
    S. Torkamani, H. Gouk, R. Sarkar, "Magnitude distance: a geometric measure of dataset
    similarity", sections 6 and 7.2.

    Examples
    --------
    >>> from skmag.nn import MagnitudeCurriculum
    >>> paper = MagnitudeCurriculum([0.01, 0.2, 2.0, 8.0], [0, 100, 250, 350])
    >>> paper.at(99), paper.at(100)
    ((0.01,), (0.01, 0.2))
    """

    scales: Sequence[float]
    epochs: Sequence[int]
    cumulative: bool = True

    def __post_init__(self) -> None:
        if np.ndim(self.scales) != 1 or np.ndim(self.epochs) != 1:
            raise ValueError(f"scales={self.scales!r} and epochs={self.epochs!r} must be sequences")
        if not isinstance(self.cumulative, bool):
            raise ValueError(f"cumulative={self.cumulative!r} must be True or False")
        given = [check_scale(t, f"scales[{i}]") for i, t in enumerate(self.scales)]
        scales = tuple(t for t in given if t is not None)
        if not scales or len(scales) < len(given) or list(scales) != sorted(scales):
            raise ValueError(
                f"scales={self.scales!r} must be positive numbers that do not decrease"
            )
        epochs = tuple(self.epochs)
        whole = all(isinstance(e, Integral) and not isinstance(e, bool) for e in epochs)
        if not whole or len(epochs) != len(scales) or list(epochs) != sorted(set(epochs)):
            raise ValueError(
                f"epochs={self.epochs!r} must be {len(scales)} whole numbers that increase, one "
                "for each scale"
            )
        if epochs[0] != 0:
            raise ValueError(f"epochs={self.epochs!r} must begin with 0: no loss has no scale")
        object.__setattr__(self, "scales", scales)
        object.__setattr__(self, "epochs", tuple(int(e) for e in epochs))

    def at(self, epoch: int) -> tuple[float, ...]:
        """Tell the scales that take part in an epoch.

        Parameters
        ----------
        epoch : int
            Epoch, counted from 0.

        Returns
        -------
        tuple of float
            Scales, at least one; one only if they are not `cumulative`.

        Raises
        ------
        ValueError
            If the epoch is negative.
        """
        if epoch < 0:
            raise ValueError(f"epoch={epoch!r} must be at least 0")
        started = zip(self.scales, self.epochs, strict=True)
        scales = tuple(scale for scale, start in started if start <= epoch)
        return scales if self.cumulative else scales[-1:]

    @classmethod
    def from_data(
        cls,
        X: Any,
        n_epochs: int,
        *,
        n_scales: int = 4,
        cumulative: bool = True,
        batch_size: int = 512,
        random_state: int | np.random.RandomState | None = 0,
    ) -> MagnitudeCurriculum:
        """Propose scales and their epochs from data.

        The scales grow geometrically. The first is one over the root of the total variance, which
        is ``1 / sqrt(D)`` for D features of unit variance. The last is the one at which two samples
        of the data are half as far from each other as sets can be: their normalized magnitude
        distance is 0.5. Beyond it a batch says ever less about points that it does not hold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data that are to be learned.
        n_epochs : int
            Number of epochs of the training. Scales join after 0, 20, 50 and 70% of them, as in the
            paper; more than four at equal steps up to 70%.
        n_scales : int, default=4
            Number of scales; fewer if there are fewer epochs, and one if two samples are already
            far from each other at the first.
        cumulative : bool, default=True
            Whether scales that took part stay.
        batch_size : int, default=512
            Size of the samples, at most half of the data. Take the one of the training.
        random_state : int, RandomState or None, default=0
            Seed of the samples.

        Returns
        -------
        MagnitudeCurriculum
            The proposal.

        Raises
        ------
        ValueError
            If an argument is not usable, or all rows of `X` are equal.
        """
        points = as_numpy(check_2d(X, "X")).astype(np.float64)
        _check_count(n_epochs, "n_epochs")
        _check_count(n_scales, "n_scales")
        _check_count(batch_size, "batch_size")
        points = points - points[0]
        spread = float(np.abs(points).max())
        if spread == 0:
            raise ValueError("X has no two different rows, from which to propose a scale")
        points = (points - points.mean(axis=0)) / spread
        deviation = float(np.linalg.norm(points.std(axis=0)))
        order = check_random_state(random_state).permutation(len(points))
        last = _last_multiple(points[order] / deviation, min(batch_size, len(points) // 2))
        n_scales = min(n_scales, n_epochs) if last > 1 else 1
        scales = np.geomspace(1, last, n_scales) / (deviation * spread)
        shares = np.array(_PAPER_SHARES[: len(scales)])
        if len(scales) > len(_PAPER_SHARES):
            shares = np.linspace(0, _PAPER_SHARES[-1], len(scales))
        # Each scale has an epoch of its own, in short trainings too.
        epochs = np.maximum(np.round(shares * n_epochs).astype(int), np.arange(len(scales)))
        return cls(scales.tolist(), epochs.tolist(), cumulative)


def _last_multiple(points: np.ndarray, size: int) -> float:
    """Largest scale, not below 1, at which two samples say something about each other."""
    scales = np.geomspace(1, _SEARCHED, _TRIED)
    # In float32, in which networks are trained, rows that differ by rounding only are equal.
    one, other = torch.from_numpy(points[: 2 * size].astype(np.float32)).tensor_split(2)
    distance = magnitude_distance_loss(one, other, scales.tolist(), normalized=True, aggregate=None)
    beyond = np.flatnonzero(as_numpy(distance) > _FAR)
    return float(scales[max(beyond[0] - 1, 0) if len(beyond) else -1])


def _check_count(count: Any, name: str) -> None:
    if not isinstance(count, Integral) or isinstance(count, bool) or count < 1:
        raise ValueError(f"{name}={count!r} must be a whole number of at least 1")
