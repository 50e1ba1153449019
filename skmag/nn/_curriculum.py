"""Which scales take part in the loss of each epoch, and a proposal of both from data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from skmag._arrays import as_numpy
from skmag._input import check_2d
from skmag._scale import check_scale

# Shares of the training after which the paper's scales join: epochs 1, 101, 251, 351 of 500.
_PAPER_SHARES = (0.0, 0.2, 0.5, 0.7)


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
    Small scales, which come first, tell about the whole of the data, large ones about details;
    those that took part stay, lest the details be learned at the cost of the whole. The paper
    counts epochs from 1.

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

    def __post_init__(self) -> None:
        scales = tuple(check_scale(t, f"scales[{i}]") for i, t in enumerate(self.scales))
        if not scales or None in scales or list(scales) != sorted(scales, key=float):
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
            Scales, at least one.

        Raises
        ------
        ValueError
            If the epoch is negative.
        """
        if epoch < 0:
            raise ValueError(f"epoch={epoch!r} must be at least 0")
        started = zip(self.scales, self.epochs, strict=True)
        return tuple(scale for scale, start in started if start <= epoch)

    @classmethod
    def from_data(
        cls, X: Any, n_epochs: int, *, n_scales: int = 4, growth: float | Sequence[float] = 3.0
    ) -> MagnitudeCurriculum:
        """Propose scales and their epochs from data.

        The first scale is one over the root of the total variance, which is ``1 / sqrt(D)`` for D
        features of unit variance, and follows the unit of the data. Each further one is `growth`
        times the last.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Data that are to be learned.
        n_epochs : int
            Number of epochs of the training. Four scales join after 0, 20, 50 and 70% of them, as
            in the paper; other numbers of scales after shares interpolated between these.
        n_scales : int, default=4
            Number of scales; fewer if there are fewer epochs.
        growth : float or sequence of float, default=3.0
            Factor above 1 between a scale and the next, or all `n_scales` - 1 of them. The paper
            took 20, 10 and 4 for MNIST.

        Returns
        -------
        MagnitudeCurriculum
            The proposal.

        Raises
        ------
        ValueError
            If an argument is not usable, or all rows of `X` are equal.
        """
        points = as_numpy(check_2d(X, "X"))
        _check_count(n_epochs, "n_epochs")
        _check_count(n_scales, "n_scales")
        factors = [growth] * (n_scales - 1) if isinstance(growth, (int, float)) else list(growth)
        if len(factors) != n_scales - 1 or not all(np.isfinite(f) and f > 1 for f in factors):
            raise ValueError(
                f"growth={growth!r} must be a finite factor above 1, or {n_scales - 1} of them for "
                f"n_scales={n_scales}"
            )
        deviation = float(np.linalg.norm(points.std(axis=0)))
        if deviation == 0:
            raise ValueError("X has no two different rows, from which to propose a scale")
        scales = np.cumprod([1 / deviation, *factors])[: min(n_scales, n_epochs)]
        places = np.linspace(0, 1, len(scales))
        shares = np.interp(places, np.linspace(0, 1, len(_PAPER_SHARES)), _PAPER_SHARES)
        # Each scale has an epoch of its own, in short trainings too.
        epochs = np.maximum(np.round(shares * n_epochs).astype(int), np.arange(len(scales)))
        return cls(scales.tolist(), epochs.tolist())


def _check_count(count: Any, name: str) -> None:
    if not isinstance(count, Integral) or isinstance(count, bool) or count < 1:
        raise ValueError(f"{name}={count!r} must be a whole number of at least 1")
