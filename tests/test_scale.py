from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist, squareform
from sklearn import config_context

from skmag._metrics import resolve_metric
from skmag._scale import (
    GRID,
    SCALES,
    check_scale,
    check_scales,
    default_grid,
    median_distance,
    nearest_distance,
    per_distance,
    resolve_scale,
)


def _median(X):
    points = torch.from_numpy(np.asarray(X))
    metric = resolve_metric("euclidean", None)
    return median_distance(len(points), lambda i, j: metric.block(points[i], points[j]))


@pytest.mark.parametrize(
    "t",
    [2, 2.0, np.float32(2), np.int64(2), np.array(2.0), torch.tensor(2.0), Fraction(2)],
    ids=lambda t: type(t).__name__,
)
def test_numbers_of_every_kind_are_scales(t):
    value = check_scale(t)
    assert type(value) is float
    assert value == 2.0


def test_the_word_scale_waits_for_data():
    assert check_scale("scale") is None


@pytest.mark.parametrize(
    "t",
    [0, 0.0, -1.0, np.inf, -np.inf, np.nan, "auto", "1.0", "", None, [1.0], (), True, False]
    + [np.True_, 1j, np.array([1.0]), torch.tensor(True), b"scale"],
    ids=repr,
)
def test_everything_else_is_refused_by_name(t):
    with pytest.raises(ValueError, match=r"^t="):
        check_scale(t)


@pytest.mark.parametrize("t", [np.complex128(1 + 1j), 10**400], ids=["complex128", "huge int"])
def test_numbers_that_are_no_floats_are_refused_by_name(t):
    with pytest.raises(ValueError, match=r"^t="):
        check_scale(t)


def test_the_name_and_the_value_are_in_the_message():
    with pytest.raises(ValueError, match=r"^rate=-3\.5 must be positive"):
        check_scale(-3.5, "rate")


def test_check_scales_takes_sequences_and_single_scales():
    assert check_scales([1, "scale", 2.5]) == [1.0, None, 2.5]
    assert check_scales(np.array([1.0, 2.0])) == [1.0, 2.0]
    assert check_scales("scale") == [None]
    assert check_scales(3) == [3.0]


def test_check_scales_names_the_entry():
    with pytest.raises(ValueError, match=r"^ts\[1\]=-1"):
        check_scales([1.0, -1.0])
    with pytest.raises(ValueError, match=r"^ts is empty"):
        check_scales([])


def test_median_distance_is_the_median_over_pairs():
    X = np.random.default_rng(0).normal(size=(19, 3))  # 171 pairs, an odd number
    assert _median(X) == pytest.approx(np.median(pdist(X)), rel=1e-14)


def test_median_distance_of_one_point_is_one():
    assert _median([[3.0, 4.0]]) == 1.0


def test_median_distance_of_many_points_is_estimated_the_same_way_each_time():
    X = np.random.default_rng(1).normal(size=(3000, 2))
    assert _median(X) == _median(X)
    assert _median(X) == pytest.approx(np.median(pdist(X)), rel=0.05)


def test_median_distance_of_many_points_does_not_ask_for_all_pairs():
    asked = []

    def block(i, j):
        asked.append(len(i) * len(j))
        return torch.ones(len(i), len(j), dtype=torch.float64)

    assert median_distance(10**6, block) == 1.0
    assert sum(asked) <= 10**6


@pytest.mark.parametrize("c", [1e-9, 1.0, 1e9])
def test_median_distance_is_equivariant(c):
    X = np.random.default_rng(2).normal(size=(50, 30))
    assert _median(c * X) == pytest.approx(c * _median(X), rel=1e-13)


def _nearest(X):
    X = torch.from_numpy(np.asarray(X, dtype=float))
    return nearest_distance(len(X), lambda i, j: torch.cdist(X[i], X[j]))


def test_nearest_distance_is_the_median_over_points():
    X = np.random.default_rng(3).normal(size=(41, 3))
    distance = squareform(pdist(X))
    np.fill_diagonal(distance, np.inf)
    assert _nearest(X) == pytest.approx(np.median(distance.min(axis=1)), rel=1e-14)
    assert _nearest([[3.0, 4.0]]) == 1.0


def test_nearest_distance_of_many_points_is_estimated_from_some_of_them():
    X = np.random.default_rng(4).normal(size=(3000, 2))
    nearest = cKDTree(X).query(X, 2)[0][:, 1]
    assert _nearest(X) == _nearest(X) == pytest.approx(np.median(nearest), rel=0.15)
    with config_context(working_memory=1):
        assert _nearest(X) == pytest.approx(np.median(nearest), rel=0.15)


def test_scale_is_a_share_of_the_median_and_numbers_stay():
    for purpose, factor in SCALES.items():
        assert resolve_scale(None, purpose, 4.0) == factor / 4.0
        assert resolve_scale(0.3, purpose, 4.0) == 0.3


def test_default_grid_is_geometric_between_its_ends():
    grid = default_grid(9, 2.0, 0.5)
    assert len(grid) == 9
    assert grid[[0, -1]] == pytest.approx(np.array(GRID) / [2.0, 0.5])
    assert np.ptp(np.diff(np.log(grid))) < 1e-12


@pytest.mark.parametrize(
    ("median", "nearest", "message"),
    [
        (0.0, 0.0, r"least scale is to be 0.01 over the median distance, which is 0.0 for"),
        (1.0, 0.0, r"greatest scale is to be 10.0 over the median distance to the nearest other"),
        (1.0, 1e-320, r"to the nearest other point, which is 1e-320 for .* scales of your own"),
    ],
)
def test_the_error_of_a_grid_names_the_distance_and_a_way_out(median, nearest, message):
    with pytest.raises(ValueError, match=message) as caught:
        default_grid(5, median, nearest)
    assert "give t" not in str(caught.value)


def test_the_error_of_a_scale_asks_for_a_number():
    with pytest.raises(ValueError, match=r"t is to be 2.0 over the median distance.* give t as a"):
        per_distance(2.0, 0.0)
