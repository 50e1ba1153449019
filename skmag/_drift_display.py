"""Displays of drift; matplotlib is imported when drawing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skmag._arrays import as_numpy
from skmag._drift_detector import MagnitudeDriftDetector


class DriftDisplay:
    """P-values of the batches of a stream, with the level at which there is an alarm.

    Parameters
    ----------
    pvalues : ndarray of shape (n_batches,)
        P-value of each batch.
    alpha : float
        Level at or below which there is an alarm.

    Attributes
    ----------
    quiet_ : matplotlib PathCollection
        The batches without an alarm.
    alarms_ : matplotlib PathCollection
        The batches with one.
    level_ : matplotlib Line2D
        The level.
    ax_ : matplotlib Axes
        Where they were drawn.
    figure_ : matplotlib Figure
        The figure around them.

    See Also
    --------
    MovedPointsDisplay : Shows which rows of one batch moved.

    Examples
    --------
    >>> import numpy as np
    >>> from skmag import DriftDisplay, MagnitudeDriftDetector
    >>> rng = np.random.default_rng(0)
    >>> detector = MagnitudeDriftDetector(random_state=0).fit(rng.normal(size=(100, 2)))
    >>> stream = [rng.normal(loc=shift, size=(40, 2)) for shift in (0.0, 0.0, 2.0)]
    >>> display = DriftDisplay.from_estimator(detector, stream)
    >>> len(display.alarms_.get_offsets())
    1
    """

    def __init__(self, pvalues: Any, alpha: float) -> None:
        self.pvalues = pvalues
        self.alpha = alpha

    @classmethod
    def from_estimator(
        cls,
        estimator: MagnitudeDriftDetector,
        batches: Iterable[Any],
        *,
        ax: Any = None,
        **scatter_kw: Any,
    ) -> DriftDisplay:
        """Test the batches of a stream and draw their p-values.

        Parameters
        ----------
        estimator : MagnitudeDriftDetector
            Fitted on the reference.
        batches : iterable of array-like of shape (n_batch, n_features)
            The stream.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **scatter_kw : dict
            Arguments of matplotlib's ``scatter``.

        Returns
        -------
        DriftDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If there are no batches.
        sklearn.exceptions.NotFittedError
            If the detector is not fitted.
        """
        check_is_fitted(estimator)
        pvalues = np.array([estimator.report(batch).pvalue for batch in batches])
        if not len(pvalues):
            raise ValueError("batches is empty; there is nothing to draw")
        return cls(pvalues, estimator.alpha).plot(ax=ax, **scatter_kw)

    def plot(self, ax: Any = None, **scatter_kw: Any) -> DriftDisplay:
        """Draw the p-values on a logarithmic axis.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **scatter_kw : dict
            Arguments of matplotlib's ``scatter``.

        Returns
        -------
        DriftDisplay
            The display.
        """
        self.figure_, self.ax_ = _canvas(ax)
        pvalues, batch = np.asarray(self.pvalues), np.arange(len(self.pvalues))
        alarm = pvalues <= self.alpha
        self.ax_.plot(batch, pvalues, color="0.8", linewidth=1, zorder=0)
        self.quiet_, self.alarms_ = (
            self.ax_.scatter(batch[own], pvalues[own], **{"color": color, **scatter_kw})
            for own, color in ((~alarm, "tab:blue"), (alarm, "tab:red"))
        )
        label = f"alarm at {self.alpha:g}"
        self.level_ = self.ax_.axhline(self.alpha, color="black", linestyle="--", label=label)
        self.ax_.set(yscale="log", xlabel="batch", ylabel="p-value")
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        self.ax_.legend()
        return self


class MovedPointsDisplay:
    """Rows of a batch and of the reference in the plane, coloured by how much they moved.

    Parameters
    ----------
    reference : ndarray of shape (n_reference, 2)
        Coordinates of the reference.
    batch : ndarray of shape (n_batch, 2)
        Coordinates of the batch.
    lost : ndarray of shape (n_reference,)
        How much each row of the reference stands where the batch has too little.
    moved : ndarray of shape (n_batch,)
        How much each row of the batch stands where the reference has too little.

    Attributes
    ----------
    reference_scatter_ : matplotlib PathCollection
        The reference.
    batch_scatter_ : matplotlib PathCollection
        The batch.
    ax_ : matplotlib Axes
        Where they were drawn.
    figure_ : matplotlib Figure
        The figure around them.

    See Also
    --------
    DriftReport : Holds `lost` and `moved`.

    Examples
    --------
    >>> import numpy as np
    >>> from skmag import MagnitudeDriftDetector, MovedPointsDisplay
    >>> rng = np.random.default_rng(0)
    >>> detector = MagnitudeDriftDetector(random_state=0).fit(rng.normal(size=(100, 2)))
    >>> batch = rng.normal(size=(40, 2)) + [1, 0]
    >>> display = MovedPointsDisplay.from_estimator(detector, batch)
    >>> len(display.batch_scatter_.get_offsets())
    40
    """

    def __init__(self, reference: Any, batch: Any, lost: Any, moved: Any) -> None:
        self.reference = reference
        self.batch = batch
        self.lost = lost
        self.moved = moved

    @classmethod
    def from_estimator(
        cls,
        estimator: MagnitudeDriftDetector,
        X: Any,
        *,
        project: Callable[[Any], Any] | None = None,
        ax: Any = None,
        **scatter_kw: Any,
    ) -> MovedPointsDisplay:
        """Report on a batch and draw which rows moved.

        Parameters
        ----------
        estimator : MagnitudeDriftDetector
            Fitted on the reference.
        X : array-like of shape (n_batch, n_features)
            The batch.
        project : callable, default=None
            Takes rows to two coordinates, such as the ``transform`` of a fitted
            :class:`sklearn.decomposition.PCA`. None takes the rows as they are.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **scatter_kw : dict
            Arguments of matplotlib's ``scatter``.

        Returns
        -------
        MovedPointsDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If there are not two coordinates.
        sklearn.exceptions.NotFittedError
            If the detector is not fitted.
        """
        report = estimator.report(X)
        reference, batch = (
            as_numpy(rows if project is None else project(rows))
            for rows in (as_numpy(estimator.reference_), as_numpy(X))
        )
        display = cls(reference, batch, as_numpy(report.lost), as_numpy(report.moved))
        return display.plot(ax=ax, **scatter_kw)

    def plot(
        self, ax: Any = None, *, colorbar: bool = True, **scatter_kw: Any
    ) -> MovedPointsDisplay:
        """Draw the points, those that moved most on top.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        colorbar : bool, default=True
            Whether to explain the colours.
        **scatter_kw : dict
            Arguments of matplotlib's ``scatter``.

        Returns
        -------
        MovedPointsDisplay
            The display.

        Raises
        ------
        ValueError
            If there are not two coordinates.
        """
        sets = [np.asarray(points) for points in (self.reference, self.batch)]
        for points in sets:
            if points.ndim != 2 or points.shape[1] != 2:
                raise ValueError(
                    f"points of shape {points.shape} cannot be drawn in the plane; give `project`, "
                    "which takes rows to two coordinates"
                )
        self.figure_, self.ax_ = _canvas(ax)
        scores = [np.asarray(values).clip(0) for values in (self.lost, self.moved)]
        # One range for both, so that a sample of which nothing moved stays pale.
        most = max(float(values.max()) for values in scores) or 1.0
        common = {"vmin": 0.0, "vmax": most, "edgecolors": "0.4", "linewidths": 0.3}
        looks = [
            {"cmap": "Blues", "marker": "o", "s": 12, "label": "reference"},
            {"cmap": "Reds", "marker": "^", "s": 30, "label": "batch"},
        ]
        drawn = []
        for points, values, look in zip(sets, scores, looks, strict=True):
            order = values.argsort(kind="stable")
            style = {"c": values[order], **common, **look, **scatter_kw}
            drawn.append(self.ax_.scatter(*points[order].T, **style))
        self.reference_scatter_, self.batch_scatter_ = drawn
        if colorbar:
            for scatter, what in zip(drawn, ("no longer represented", "moved"), strict=True):
                self.figure_.colorbar(scatter, ax=self.ax_, label=what, shrink=0.8)
        self.ax_.legend()
        return self


def _canvas(ax: Any) -> tuple[Any, Any]:
    """Figure and axes to draw on."""
    if ax is not None:
        return ax.figure, ax
    import matplotlib.pyplot as plt

    return plt.subplots()
