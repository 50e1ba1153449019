import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import normal
from scipy.spatial.distance import cdist
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError

from skmag import (
    ClusterPersistenceDisplay,
    MagnitudeClustering,
    MagnitudeFunctionDisplay,
    WeightingDisplay,
    magnitude_function,
    magnitude_weights,
    scale_grid,
)

matplotlib.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def test_importing_skmag_leaves_matplotlib_alone():
    code = "import sys, skmag; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_display_is_made_without_drawing():
    curve, points = MagnitudeFunctionDisplay([1.0, 2.0], [3.0, 4.0]), WeightingDisplay([[0]], [1])
    assert (curve.ts, curve.magnitudes) == ([1.0, 2.0], [3.0, 4.0])
    assert (points.points, points.weights) == ([[0]], [1])
    assert not plt.get_fignums()
    with pytest.raises(TypeError, match="n_points"):
        MagnitudeFunctionDisplay([1.0], [1.0], n_points=3)


def test_the_magnitude_function_of_points():
    X = normal(20)
    display = MagnitudeFunctionDisplay.from_points(X, name="cloud")
    assert_array_equal(display.ts, scale_grid(X, 40))
    assert_array_equal(display.magnitudes, magnitude_function(X, scale_grid(X, 40)))
    assert_array_equal(display.line_.get_xdata(), display.ts)
    assert_array_equal(display.line_.get_ydata(), display.magnitudes)
    assert display.ax_.lines[:] == [display.line_]
    assert display.figure_ is display.ax_.figure
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("scale t", "magnitude")
    assert (display.ax_.get_xscale(), display.ax_.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["cloud"]


def test_given_scales_metric_and_axes():
    X, ts = normal(9), [0.5, 1.0, 4.0]
    _, ax = plt.subplots()
    display = MagnitudeFunctionDisplay.from_points(X, ts, ax=ax, metric="cityblock")
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert ax.get_legend() is None
    assert_allclose(display.magnitudes, magnitude_function(X, ts, metric="cityblock"))
    again = display.plot(ax, color="black", linewidth=3)
    assert again is display
    assert (again.line_.get_color(), again.line_.get_linewidth()) == ("black", 3)
    assert len(ax.lines) == 2
    assert plt.get_fignums() == [ax.figure.number]


@pytest.mark.parametrize("ts", [None, [0.5, 2.0]])
def test_the_magnitude_function_of_distances(ts):
    X = normal(9)
    found = MagnitudeFunctionDisplay.from_points(cdist(X, X), ts, metric="precomputed")
    expected = MagnitudeFunctionDisplay.from_points(X, ts)
    assert_allclose(found.ts, expected.ts, rtol=1e-12)
    assert_allclose(found.magnitudes, expected.magnitudes, rtol=1e-10)


@pytest.mark.parametrize("d", [2, 3])
def test_weights_of_points(d):
    X = normal(30, d)
    display = WeightingDisplay.from_points(X, t=2.0)
    weights = magnitude_weights(X, t=2.0)
    assert_array_equal(display.points, X)
    assert_array_equal(display.weights, weights)
    # The heavy ones are drawn last, and largest.
    assert_array_equal(display.scatter_.get_array(), np.sort(weights))
    assert (np.diff(display.scatter_.get_sizes()) >= 0).all()
    assert display.ax_.name == ("3d" if d == 3 else "rectilinear")
    assert display.figure_ is display.ax_.figure
    (colorbar,) = [ax for ax in display.figure_.axes if ax is not display.ax_]
    assert colorbar.get_ylabel() == "weight"
    if d == 2:
        assert_array_equal(display.scatter_.get_offsets(), X[np.argsort(weights)])


def test_weights_on_given_axes_with_a_style():
    X = normal(9, 2)
    figure, ax = plt.subplots()
    display = WeightingDisplay.from_points(X.tolist(), t="scale", ax=ax, metric="cityblock")
    assert (display.ax_, display.figure_) == (ax, figure)
    assert_allclose(display.weights, magnitude_weights(X, t="scale", metric="cityblock"))
    bare = WeightingDisplay(X, np.ones(9)).plot(colorbar=False, s=7, alpha=0.5)
    assert bare.figure_.axes == [bare.ax_]
    assert bare.scatter_.get_sizes().tolist() == [7.0]
    assert bare.scatter_.get_alpha() == 0.5


@pytest.mark.parametrize("d", [1, 4])
def test_only_the_plane_and_space_can_be_drawn(d):
    with pytest.raises(ValueError, match=f"{d} coordinates; 2 or 3 can be drawn"):
        WeightingDisplay.from_points(normal(5, d))


def separated_blobs():
    return make_blobs(60, centers=[[0, 0], [9, 0], [0, 9]], random_state=0)[0]


def test_the_sweep_of_a_clustering():
    model = MagnitudeClustering(random_state=0).fit(separated_blobs())
    _, ax = plt.subplots()
    display = ClusterPersistenceDisplay.from_estimator(model, ax=ax, color="black")
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    counts, edges, _ = display.steps_.get_data()
    assert_array_equal(counts, model.counts_[::-1])
    # From the smallest threshold up; the first run has no upper end, and is drawn a little way.
    assert (np.diff(edges) > 0).all()
    assert_allclose(edges[:-1], model.intervals_[::-1, 0])
    assert edges[-1] == pytest.approx(1.3 * model.intervals_[0, 0])
    left, right = display.span_.get_x(), display.span_.get_x() + display.span_.get_width()
    assert_allclose([left, right], model.persistent_interval_)
    assert (ax.get_xscale(), ax.get_ylabel()) == ("log", "number of clusters")


def test_the_sweep_of_one_point_can_be_drawn():
    model = MagnitudeClustering(random_state=0).fit([[1.0, 2.0]])
    display = ClusterPersistenceDisplay.from_estimator(model)
    assert display.steps_.get_data().edges.tolist() == [0.1, 1.0]


def test_only_a_sweep_can_be_drawn():
    with pytest.raises(NotFittedError):
        ClusterPersistenceDisplay.from_estimator(MagnitudeClustering())
    model = MagnitudeClustering(threshold=0.5).fit(separated_blobs())
    with pytest.raises(ValueError, match=r"threshold=0\.5, which makes one run"):
        ClusterPersistenceDisplay.from_estimator(model)
