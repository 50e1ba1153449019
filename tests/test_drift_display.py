import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from reference import normal
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from skmag import DriftDisplay, MagnitudeDriftDetector, MovedPointsDisplay


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def detector(d=2):
    return MagnitudeDriftDetector(n_resamples=39, random_state=0).fit(normal(30, d))


def test_p_values_of_a_stream():
    stream = [normal(15, 2, seed=1), normal(15, 2, seed=2) + 5, normal(15, 2, seed=3) - 5]
    model = detector()
    display = DriftDisplay.from_estimator(model, iter(stream), s=3)
    assert_array_equal(display.pvalues, [model.report(batch).pvalue for batch in stream])
    assert_array_equal(display.alarms_.get_offsets()[:, 0], [1, 2])
    assert_array_equal(display.quiet_.get_offsets()[:, 1], display.pvalues[:1])
    assert_array_equal(display.level_.get_ydata(), [0.05, 0.05])
    assert display.alarms_.get_sizes() == [3]
    assert display.ax_.get_yscale() == "log"
    assert display.figure_ is display.ax_.figure


def test_p_values_on_given_axes():
    figure, ax = plt.subplots()
    display = DriftDisplay([0.05, 0.06], 0.05).plot(ax)
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert len(display.alarms_.get_offsets()) == 1


def test_an_empty_stream_cannot_be_drawn():
    with pytest.raises(ValueError, match="batches is empty"):
        DriftDisplay.from_estimator(detector(), [])


def test_displays_need_a_fitted_detector():
    model = MagnitudeDriftDetector()
    with pytest.raises(NotFittedError):
        DriftDisplay.from_estimator(model, [])
    with pytest.raises(NotFittedError):
        MovedPointsDisplay.from_estimator(model, normal(5, 2))


def test_points_that_moved_most_are_on_top():
    model, batch = detector(), normal(15, 2, seed=1)
    model.set_params(statistics="magnitude")
    batch[4] += 9
    display = MovedPointsDisplay.from_estimator(model, batch)
    report = model.report(batch)
    order = report.moved.clip(0).argsort(kind="stable")
    assert_array_equal(display.batch_scatter_.get_offsets(), batch[order])
    assert_array_equal(display.batch_scatter_.get_offsets()[-1], batch[4])
    assert display.batch_scatter_.get_array()[-1] == report.moved.max()
    assert display.batch_scatter_.get_clim() == display.reference_scatter_.get_clim()
    assert len(display.reference_scatter_.get_offsets()) == 30
    assert len(display.figure_.axes) == 3


def test_moved_points_in_a_projection():
    model = detector(5)
    batch = normal(15, 5, seed=1)
    project = PCA(2).fit(normal(30, 5)).transform
    _, ax = plt.subplots()
    display = MovedPointsDisplay.from_estimator(model, batch, project=project, ax=ax)
    order = model.report(batch).moved.clip(0).argsort(kind="stable")
    assert_array_equal(display.batch_scatter_.get_offsets(), project(batch)[order])
    assert display.ax_ is ax
    with pytest.raises(ValueError, match=r"shape \(30, 5\) .* `project`"):
        MovedPointsDisplay.from_estimator(model, batch)


def test_nothing_moved_and_no_colorbar():
    display = MovedPointsDisplay(np.eye(2), np.eye(2), np.zeros(2), np.zeros(2))
    display.plot(colorbar=False)
    assert_array_equal(display.batch_scatter_.get_array(), 0.0)
    assert len(display.figure_.axes) == 1
