import numpy as np
import pytest
import torch
from reference import normal

from skmag import magnitude_distance
from skmag.nn import MagnitudeCurriculum


def test_scales_join_and_stay():
    curriculum = MagnitudeCurriculum([0.01, 0.2, 2.0], (0, 3, 5))
    assert [len(curriculum.at(epoch)) for epoch in range(7)] == [1, 1, 1, 2, 2, 3, 3]
    assert curriculum.at(10**6) == (0.01, 0.2, 2.0)
    assert curriculum == MagnitudeCurriculum((0.01, 0.2, 2.0), [0, 3, 5])


def test_scales_may_make_room_for_the_next_one():
    curriculum = MagnitudeCurriculum([0.01, 0.2, 2.0], (0, 3, 5), cumulative=False)
    assert [curriculum.at(epoch) for epoch in (0, 2, 3, 9)] == [(0.01,), (0.01,), (0.2,), (2.0,)]
    proposed = MagnitudeCurriculum.from_data(normal(100), 10, cumulative=False)
    assert proposed.scales == MagnitudeCurriculum.from_data(normal(100), 10).scales
    assert len(proposed.at(9)) == 1


def test_proposal_joins_scales_when_the_paper_does():
    curriculum = MagnitudeCurriculum.from_data(normal(100), 500, n_scales=4)
    assert curriculum.epochs == (0, 100, 250, 350)
    growth = np.divide(curriculum.scales[1:], curriculum.scales[:-1])
    np.testing.assert_allclose(growth, growth[0])


@pytest.mark.parametrize("d", [1, 2, 10, 200])
def test_samples_are_half_as_far_as_can_be_at_the_last_scale(d):
    X, Y = normal(300, d), normal(300, d, seed=1)
    last = MagnitudeCurriculum.from_data(np.vstack([X, Y]), 10).scales[-1]
    assert 0.35 < magnitude_distance(X, Y, t=last, normalized=True) < 0.55


@pytest.mark.parametrize("n_scales", [2, 4])
def test_where_samples_are_far_from_each_other_there_is_one_scale(n_scales):
    X = np.random.default_rng(0).normal(size=(10, 1000))
    curriculum = MagnitudeCurriculum.from_data(X, 10, n_scales=n_scales, batch_size=1)
    assert len(curriculum.scales) == 1
    heavy = np.random.default_rng(0).standard_cauchy(size=(2000, 2))
    scales = MagnitudeCurriculum.from_data(heavy, 10, n_scales=n_scales).scales
    assert list(scales) == sorted(scales)


def test_the_order_of_rows_hardly_matters():
    X = np.vstack([normal(200, 2), normal(200, 2, seed=1) + 8])
    sorted_rows, mixed = (
        MagnitudeCurriculum.from_data(own, 10).scales
        for own in (X, X[np.random.default_rng(0).permutation(len(X))])
    )
    np.testing.assert_allclose(sorted_rows, mixed, rtol=0.5)


@pytest.mark.parametrize("unit", [1e-160, 1e-30, 1e30, 1e160])
def test_any_unit(unit):
    X = normal(60, 30)
    plain, found = (MagnitudeCurriculum.from_data(own, 10).scales for own in (X, unit * X))
    np.testing.assert_allclose(np.array(found) * unit, plain, rtol=1e-6)


def test_rows_that_differ_by_rounding():
    X = normal(40, 3)
    doubled = np.vstack([X, X * (1 + 2e-16)])
    assert MagnitudeCurriculum.from_data(doubled, 10).scales[0] > 0


def test_repeated_rows_still_give_scales():
    X = np.repeat(np.eye(3), 20, axis=0)  # two samples hold the same points
    scales = MagnitudeCurriculum.from_data(X, 10).scales
    assert np.isfinite(scales).all()
    assert MagnitudeCurriculum.from_data(X[[0, 20]], 10).scales[0] > 0


@pytest.mark.parametrize("d", [1, 4, 100])
def test_first_scale_of_standardized_features_is_one_over_the_root_of_their_number(d):
    X = normal(50, d)
    X = (X - X.mean(0)) / X.std(0)
    assert MagnitudeCurriculum.from_data(X, 10).scales[0] == pytest.approx(d**-0.5)


def test_proposal_follows_the_unit_of_the_data():
    X = normal(50, 3)
    plain, large = (MagnitudeCurriculum.from_data(unit * X, 40) for unit in (1.0, 255.0))
    np.testing.assert_allclose(large.scales, np.array(plain.scales) / 255)
    assert MagnitudeCurriculum.from_data(torch.from_numpy(X), 40) == plain


@pytest.mark.parametrize("n_epochs", [1, 2, 3, 4, 5, 7, 10, 1000])
@pytest.mark.parametrize("n_scales", [1, 2, 4, 6])
def test_each_scale_has_an_epoch_of_its_own(n_epochs, n_scales):
    curriculum = MagnitudeCurriculum.from_data(normal(100), n_epochs, n_scales=n_scales)
    assert len(curriculum.scales) == min(n_scales, n_epochs)
    assert curriculum.epochs[-1] < n_epochs
    assert len(curriculum.at(n_epochs - 1)) == len(curriculum.scales)


@pytest.mark.parametrize(
    ("scales", "epochs", "message"),
    [
        ([], [], "scales"),
        ([1.0, 0.5], [0, 1], "do not decrease"),
        ([0.0], [0], r"scales\[0\]"),
        (["scale"], [0], "scales"),
        ([1.0, 2.0], [0], "2 whole numbers"),
        ([1.0, 2.0], [0, 0], "increase"),
        ([1.0, 2.0], [0, 1.5], "whole numbers"),
        ([1.0], [1], "begin with 0"),
        (1.0, 0, "must be sequences"),
    ],
)
def test_no_curriculum(scales, epochs, message):
    with pytest.raises(ValueError, match=message):
        MagnitudeCurriculum(scales, epochs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.full((20, 2), 0.1)}, "no two different rows"),
        ({"cumulative": "no"}, "cumulative='no'"),
        ({"n_epochs": 0}, "n_epochs=0"),
        ({"n_scales": 2.5}, "n_scales=2.5"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"X": np.ones((1, 2))}, "no two different rows"),
        ({"X": [[np.nan, 0.0], [1.0, 2.0]]}, "NaN"),
    ],
)
def test_no_proposal(change, message):
    with pytest.raises(ValueError, match=message):
        MagnitudeCurriculum.from_data(**{"X": normal(), "n_epochs": 10, **change})


def test_epochs_count_from_zero():
    with pytest.raises(ValueError, match="epoch=-1"):
        MagnitudeCurriculum([1.0], [0]).at(-1)
