"""Displays of weightings, magnitude functions and sweeps; matplotlib is imported when drawing."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skmag._arrays import as_numpy
from skmag._clustering import MagnitudeClustering
from skmag._magnitude import magnitude_function, magnitude_weights, scale_grid


class MagnitudeFunctionDisplay:
    """Magnitude as a function of scale.

    Parameters
    ----------
    ts : ndarray of shape (n_scales,)
        Scales.
    magnitudes : ndarray of shape (n_scales,)
        Magnitude at each scale.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        The figure around it.

    References
    ----------
    "Approximating metric magnitude of point sets", Definition 4 and Figure 1.

    Examples
    --------
    >>> from skmag import MagnitudeFunctionDisplay
    >>> X = [[0.0, 0.0], [0.0, 1.0], [100.0, 0.0]]
    >>> display = MagnitudeFunctionDisplay.from_points(X)
    >>> display.ax_.get_xlabel()
    'scale t'
    """

    def __init__(self, ts: Any, magnitudes: Any) -> None:
        self.ts = ts
        self.magnitudes = magnitudes

    @classmethod
    def from_points(
        cls, X: Any, ts: Any = None, *, ax: Any = None, name: str | None = None, **kwargs: Any
    ) -> MagnitudeFunctionDisplay:
        """Compute the magnitude function of a set and draw it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
            Points, or their distances if ``metric="precomputed"``.
        ts : array-like of shape (n_scales,), default=None
            Scales; None takes 40 of :func:`scale_grid`.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        name : str, default=None
            Label of the curve.
        **kwargs : dict
            Further arguments of :func:`magnitude_function`, such as `metric`.

        Returns
        -------
        MagnitudeFunctionDisplay
            The drawn display.
        """
        if ts is None:
            known = {key: kwargs[key] for key in ("metric", "metric_params") if key in kwargs}
            ts = scale_grid(X, 40, **known)
        magnitudes = as_numpy(magnitude_function(X, ts, **kwargs))
        return cls(as_numpy(ts), magnitudes).plot(ax=ax, name=name)

    def plot(
        self, ax: Any = None, *, name: str | None = None, **line_kw: Any
    ) -> MagnitudeFunctionDisplay:
        """Draw the curve on logarithmic axes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        name : str, default=None
            Label of the curve.
        **line_kw : dict
            Arguments of matplotlib's ``plot``.

        Returns
        -------
        MagnitudeFunctionDisplay
            The display.
        """
        self.figure_, self.ax_ = _canvas(ax)
        (self.line_,) = self.ax_.plot(self.ts, self.magnitudes, **{"label": name, **line_kw})
        self.ax_.set(xscale="log", yscale="log", xlabel="scale t", ylabel="magnitude")
        if name is not None:
            self.ax_.legend()
        return self


class WeightingDisplay:
    """Points in the plane or in space, coloured and sized by their weight.

    Parameters
    ----------
    points : ndarray of shape (n_samples, 2) or (n_samples, 3)
        Coordinates.
    weights : ndarray of shape (n_samples,)
        Weights.

    Attributes
    ----------
    scatter_ : matplotlib PathCollection
        The points.
    ax_ : matplotlib Axes
        Where they were drawn.
    figure_ : matplotlib Figure
        The figure around them.

    References
    ----------
    "Practical applications of metric space magnitude and weighting vectors", Figure 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skmag import WeightingDisplay
    >>> X = np.random.default_rng(0).uniform(size=(200, 2))
    >>> display = WeightingDisplay.from_points(X, t=10.0)
    >>> len(display.scatter_.get_sizes())
    200
    """

    def __init__(self, points: Any, weights: Any) -> None:
        self.points = points
        self.weights = weights

    @classmethod
    def from_points(
        cls, X: Any, *, t: float | str = 1.0, ax: Any = None, **kwargs: Any
    ) -> WeightingDisplay:
        """Compute the weights of points and draw them.

        Parameters
        ----------
        X : array-like of shape (n_samples, 2) or (n_samples, 3)
            Points.
        t : float or "scale", default=1.0
            Positive scale that multiplies the distances.
        ax : matplotlib Axes, default=None
            Where to draw, with three dimensions for points in space; None makes a figure.
        **kwargs : dict
            Further arguments of :func:`magnitude_weights`, such as `metric`.

        Returns
        -------
        WeightingDisplay
            The drawn display.
        """
        weights = as_numpy(magnitude_weights(X, t=t, **kwargs))
        points = np.asarray(as_numpy(X), dtype=float)
        return cls(points, weights).plot(ax=ax)

    def plot(self, ax: Any = None, *, colorbar: bool = True, **scatter_kw: Any) -> WeightingDisplay:
        """Draw the points, the heavy ones large and on top.

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
        WeightingDisplay
            The display.

        Raises
        ------
        ValueError
            If the points have neither two nor three coordinates.
        """
        dimension = np.shape(self.points)[1]
        if dimension not in (2, 3):
            raise ValueError(f"points have {dimension} coordinates; 2 or 3 can be drawn")
        self.figure_, self.ax_ = _canvas(ax, projection="3d" if dimension == 3 else None)
        order = np.argsort(self.weights)
        weights = np.asarray(self.weights)[order]
        span = max(float(np.ptp(weights)), np.finfo(float).tiny)
        style = {"c": weights, "s": 4 + 60 * (weights - weights.min()) / span, **scatter_kw}
        self.scatter_ = self.ax_.scatter(*np.asarray(self.points)[order].T, **style)
        self.ax_.set_aspect("equal")
        if colorbar:
            self.figure_.colorbar(self.scatter_, ax=self.ax_, label="weight", shrink=0.8)
        return self


class ClusterPersistenceDisplay:
    """Number of clusters against the threshold, with the stretch that lasted longest.

    Parameters
    ----------
    intervals : ndarray of shape (n_runs, 2)
        Ends of each run's thresholds, from the largest thresholds down.
    counts : ndarray of shape (n_runs,)
        Number of clusters in each run.
    chosen : (float, float)
        Ends of the chosen stretch of thresholds.

    Attributes
    ----------
    steps_ : matplotlib StepPatch
        The counts.
    span_ : matplotlib Rectangle
        The chosen stretch.
    ax_ : matplotlib Axes
        Where they were drawn.
    figure_ : matplotlib Figure
        The figure around them.

    See Also
    --------
    MagnitudeClustering : Makes the runs.

    References
    ----------
    "Approximating metric magnitude of point sets", section 4.2.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from skmag import ClusterPersistenceDisplay, MagnitudeClustering
    >>> X, _ = make_blobs(60, centers=[[0, 0], [9, 0], [0, 9]], random_state=0)
    >>> model = MagnitudeClustering(random_state=0).fit(X)
    >>> display = ClusterPersistenceDisplay.from_estimator(model)
    >>> display.ax_.get_ylabel()
    'number of clusters'
    """

    def __init__(self, intervals: Any, counts: Any, chosen: Any) -> None:
        self.intervals = intervals
        self.counts = counts
        self.chosen = chosen

    @classmethod
    def from_estimator(
        cls, estimator: MagnitudeClustering, *, ax: Any = None, **steps_kw: Any
    ) -> ClusterPersistenceDisplay:
        """Draw the sweep of a fitted clusterer.

        Parameters
        ----------
        estimator : MagnitudeClustering
            Fitted with ``threshold="persistent"``.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **steps_kw : dict
            Arguments of matplotlib's ``stairs``.

        Returns
        -------
        ClusterPersistenceDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If the clusterer was given its threshold.
        sklearn.exceptions.NotFittedError
            If it is not fitted.
        """
        check_is_fitted(estimator)
        if not hasattr(estimator, "intervals_"):
            raise ValueError(
                f"estimator was fitted with threshold={estimator.threshold!r}, which makes one "
                "run only; use threshold='persistent'"
            )
        runs = (estimator.intervals_, estimator.counts_, estimator.persistent_interval_)
        return cls(*(as_numpy(values) for values in runs)).plot(ax=ax, **steps_kw)

    def plot(self, ax: Any = None, **steps_kw: Any) -> ClusterPersistenceDisplay:
        """Draw the counts over a logarithmic axis of thresholds.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **steps_kw : dict
            Arguments of matplotlib's ``stairs``.

        Returns
        -------
        ClusterPersistenceDisplay
            The display.
        """
        self.figure_, self.ax_ = _canvas(ax)
        intervals, counts = np.asarray(self.intervals), np.asarray(self.counts)
        # The first run has no upper end, the last one perhaps no lower end above zero.
        ends = intervals[(intervals > 0) & np.isfinite(intervals)]
        lowest, highest = (ends.min() / 1.3, ends.max() * 1.3) if len(ends) else (0.1, 1.0)
        edges = np.clip(np.append(intervals[::-1, 0], intervals[0, 1]), lowest, highest)
        style = {"baseline": None, "linewidth": 1.5, **steps_kw}
        self.steps_ = self.ax_.stairs(counts[::-1], edges, **style)
        left, right = np.clip(self.chosen, lowest, highest)
        self.span_ = self.ax_.axvspan(left, right, color="tab:green", alpha=0.2, linewidth=0)
        self.ax_.set(xscale="log", xlabel="threshold on the gain", ylabel="number of clusters")
        self.ax_.yaxis.get_major_locator().set_params(integer=True)
        return self


def _canvas(ax: Any, projection: str | None = None) -> tuple[Any, Any]:
    """Figure and axes to draw on."""
    if ax is not None:
        return ax.figure, ax
    import matplotlib.pyplot as plt

    figure = plt.figure()
    return figure, figure.add_subplot(projection=projection)
