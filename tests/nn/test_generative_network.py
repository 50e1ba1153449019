"""The generator learns, is reproducible, and says what is wrong."""

import copy
import pickle
import re

import array_api_strict
import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from reference import StopAfter, normal
from scipy.spatial.distance import cdist
from sklearn import clone, config_context
from sklearn.callback import ProgressBar
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV

from skmag import magnitude_distance
from skmag.nn import MagnitudeCurriculum, MagnitudeGenerativeNetwork, _training
from skmag.nn._push_forward import description

X = normal(45, 3)
CURRICULUM = MagnitudeCurriculum([0.5, 1.5, 4.0], [0, 3, 5])
CENTERS = np.array([[4.0, 0, 0, 0, 0], [-4.0, 0, 0, 0, 0], [0, 5.0, 0, 0, 0]])


class Constant(torch.nn.Module):
    """A collapsed generator: the same point, whatever the latent ones."""

    def __init__(self, point):
        super().__init__()
        self.point = torch.nn.Parameter(torch.tensor(point, dtype=torch.float64))

    def forward(self, latents):
        return self.point.expand(len(latents), -1)


class Failing(torch.nn.Module):
    """A network that returns NaN from some call in training on."""

    def __init__(self, n_calls):
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)
        self.calls, self.n_calls = 0, n_calls

    def forward(self, latents):
        self.calls += self.training
        return self.linear(latents) * (torch.nan if self.calls > self.n_calls else 1.0)


def model(generator=None, **params):
    small = {
        "hidden_layer_sizes": (8,),
        "latent_dim": 4,
        "batch_size": 16,
        "max_epochs": 6,
        "learning_rate": 0.01,
        "random_state": 0,
    }
    return MagnitudeGenerativeNetwork(generator, **{**small, **params})


def noisy_network():
    return torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)
    )


def weights(fitted):
    return [value.clone() for value in fitted.generator_.state_dict().values()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def blobs(n, seed):
    rng = np.random.default_rng(seed)
    return CENTERS[rng.integers(3, size=n)] + rng.normal(size=(n, 5))


def energy_distance(X, Y):
    """An independent distance of two samples, zero on average for equal distributions."""
    n, m = len(X), len(Y)
    within = cdist(X, X).sum() / (n * (n - 1)) + cdist(Y, Y).sum() / (m * (m - 1))
    return 2 * cdist(X, Y).mean() - within


def test_it_learns_three_blobs():
    train, fresh = blobs(600, 0), blobs(1000, 1)
    network = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 5))
    with torch.no_grad():
        for seed, value in enumerate(network.parameters()):
            value.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(seed))
    curriculum = MagnitudeCurriculum([0.3, 1.0], [0, 5])
    params = {"latent_dim": 8, "batch_size": 60, "curriculum": curriculum, "max_epochs": 30}
    trained = model(network, learning_rate=5e-3, **params).fit(train)
    untrained = model(network, learning_rate=1e-9, **{**params, "max_epochs": 6}).fit(train)
    before, after = (m.sample(1000, random_state=0) for m in (untrained, trained))
    assert energy_distance(after, fresh) < energy_distance(before, fresh) / 5
    assert trained.score(fresh) > 0.6 * untrained.score(fresh)
    nearest = cdist(after, CENTERS).argmin(1)
    assert np.bincount(nearest, minlength=3).min() > 200


def test_the_default_network_begins_with_the_moments_of_the_data():
    # To torch the mean of as many times .1 is not .1.
    data = normal(400, 4) * [3.0, 0.1, 1.0, 0.0] + [1e8, 0.0, -5.0, 0.1]
    assert torch.from_numpy(data).mean(0)[3] != 0.1
    begun = MagnitudeGenerativeNetwork(
        learning_rate=1e-9, max_epochs=4, hidden_layer_sizes=(256, 256), random_state=0
    ).fit(data)
    made = begun.sample(20000, random_state=0)
    np.testing.assert_allclose(made.mean(0), data.mean(0), atol=0.2)
    np.testing.assert_allclose(made.std(0), data.std(0), rtol=0.1, atol=1e-9)
    # Float32 would step by 8 where the data are.
    assert np.unique(made[:100, 0]).size == 100
    trained = clone(begun).set_params(learning_rate=0.01).fit(data)
    assert (trained.sample(50)[:, 3] == 0.1).all()


@pytest.mark.parametrize("generator", [None, noisy_network()])
def test_the_same_seed_gives_the_same_weights_and_leaves_other_generators_alone(generator):
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    fits = [model(generator, random_state=seed).fit(X) for seed in (0, 0, 1)]
    drawn = [fits[0].sample(5, random_state=seed) for seed in (0, 0, 1)]
    assert fits[0].score(X) == fits[0].score(X)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    torch.manual_seed(11)
    assert same(fits[0], model(generator).fit(X))
    assert same(fits[0], fits[1])
    assert fits[0].loss_curve_ == fits[1].loss_curve_
    assert not same(fits[0], fits[2])
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).any()
    assert (fits[0].sample(3) != fits[0].sample(3)).any()


def test_a_given_network_is_copied_and_its_weights_are_the_start():
    network = noisy_network()
    before = copy.deepcopy(network.state_dict())
    far = model(network).fit(X)
    near = model(network, learning_rate=1e-9, max_epochs=4).fit(X)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
        torch.testing.assert_close(near.generator_.state_dict()[name], value, atol=1e-6, rtol=0)
        assert not torch.equal(far.generator_.state_dict()[name], value)
    assert network.training
    assert not far.generator_.training
    # What was trained may be trained on.
    again = model(far.generator_, learning_rate=1e-9, max_epochs=4).fit(X)
    np.testing.assert_allclose(
        again.sample(5, random_state=0), far.sample(5, random_state=0), atol=1e-6
    )
    default = model().fit(X)
    again = model(default.generator_, learning_rate=1e-9, max_epochs=4).fit(X + 3.0)
    np.testing.assert_allclose(
        again.sample(5, random_state=0), default.sample(5, random_state=0), atol=1e-6
    )


def test_points_may_be_images_and_weights_may_be_frozen_or_float64():
    network = torch.nn.Sequential(
        torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 4), torch.nn.Unflatten(1, (2, 2))
    ).double()
    network[0].requires_grad_(False)
    fitted = model(network).fit(normal(40, 4))
    assert torch.equal(fitted.generator_[0].weight, network[0].weight)
    assert not torch.equal(fitted.generator_[2].weight, network[2].weight)
    assert fitted.sample(3).shape == (3, 4)
    assert fitted.generator_[2].weight.dtype == torch.float64


@pytest.mark.parametrize("normalized", [True, False])
def test_the_loss_and_the_score_are_the_distances_of_the_public_function(normalized):
    point = [0.3, -0.2, 5.0]
    fitted = model(
        Constant(point),
        curriculum=CURRICULUM,
        batch_size=99,
        max_epochs=6,
        normalized=normalized,
        learning_rate=1e-12,
    )
    with pytest.warns(ConvergenceWarning, match="has collapsed"):
        fitted.fit(X)
    distances = [magnitude_distance(X, [point], t=t, normalized=normalized) for t in (0.5, 1.5, 4)]
    expected = [np.mean(distances[:n]) for n in (1, 1, 1, 2, 2, 3)]
    np.testing.assert_allclose(fitted.loss_curve_, expected, rtol=1e-5)
    assert fitted.score(X) == pytest.approx(-expected[-1], rel=1e-5)
    assert fitted.score(X[:1]) == pytest.approx(
        -np.mean([magnitude_distance(X[:1], [point], t=t, normalized=normalized) for t in
                  (0.5, 1.5, 4)]), rel=1e-5
    )  # fmt: skip


def test_large_sets_are_scored_in_blocks_that_hold_something_of_all():
    fitted = model().fit(X)
    sorted_rows = np.sort(normal(1001, 3), axis=0)
    shuffled = np.random.default_rng(0).permutation(sorted_rows)
    assert fitted.score(sorted_rows) == pytest.approx(fitted.score(shuffled), rel=0.02)
    assert fitted.score(shuffled) > fitted.score(shuffled + 3.0)


def test_grid_search_finds_the_learning_rate_that_learns():
    search = GridSearchCV(model(max_epochs=12), {"learning_rate": [1e-9, 0.02]}, cv=2)
    data = normal(60, 3) ** 3
    search.fit(data)
    assert search.best_params_["learning_rate"] == 0.02
    assert search.best_estimator_.sample(4).shape == (4, 3)


def test_batches_are_of_nearly_equal_size():
    sizes = []

    class Noting(Constant):
        def forward(self, latents):
            sizes.append(len(latents))
            return super().forward(latents) + latents[:, :3]

    model(Noting([0.0, 0.0, 0.0]), batch_size=22, max_epochs=4).fit(X)
    assert sorted(sizes[1:4]) == [15, 15, 15]
    assert sum(sizes[1:13]) == 4 * 45


@pytest.mark.parametrize("batch_size", [1, 2, 44])
def test_a_batch_may_be_one_point(batch_size):
    fitted = model(batch_size=batch_size, max_epochs=4).fit(X)
    assert np.isfinite(fitted.loss_curve_).all()
    assert all(value.isfinite().all() for value in weights(fitted))


def test_two_rows_suffice_and_one_does_not():
    assert np.isfinite(model().fit(X[:2]).sample(3)).all()
    assert np.isfinite(model(early_stopping=True).fit(X[:2]).sample(3)).all()
    with pytest.raises(ValueError, match=r"1 sample\(s\).*minimum of 2"):
        model().fit(X[:1])


def test_rows_that_are_all_equal():
    data = np.tile([[1.0, 2.0, 3.0]], (20, 1))
    with pytest.raises(ValueError, match="no two different rows"):
        model().fit(data)
    fitted = model(curriculum=MagnitudeCurriculum([1.0], [0])).fit(data)
    np.testing.assert_array_equal(fitted.sample(2), data[:2])
    assert fitted.loss_curve_ == [0.0] * 6
    # To torch, nine times .1 deviate from their mean.
    column = np.full((9, 1), 0.1)
    assert torch.from_numpy(column).std(0) > 0
    found = model(curriculum=MagnitudeCurriculum([1.0], [0])).fit(column).sample(20)
    np.testing.assert_array_equal(found, 0.1)


def test_a_collapsed_generator_is_told_of():
    with pytest.warns(ConvergenceWarning, match=r"collapsed.* deviate by 0 .*data by 1\.6"):
        fitted = model(Constant([5.0, 0.0, 0.0]), learning_rate=0.2, max_epochs=20).fit(X)
    assert np.isfinite(fitted.loss_curve_).all()
    # It has moved to where the data are.
    assert abs(fitted.sample()).max() < 3


def test_points_of_the_default_stay_between_far_clusters():
    rng = np.random.default_rng(0)
    gap = 100.0
    data = np.r_[rng.normal(size=(30, 2)), rng.normal(size=(30, 2)) + gap]
    with pytest.warns(ConvergenceWarning, match=r"distance was \d\.\d+ in.* curriculum"):
        fitted = model(max_epochs=40, batch_size=60, learning_rate=0.05).fit(data)
    made = fitted.sample(300, random_state=0)
    assert cdist(made, [data[:30].mean(0), data[30:].mean(0)]).min(1).max() < gap


def test_a_coarse_scale_stays_until_the_next_one_sees(monkeypatch):
    seen, loss = [], _training.magnitude_distance_loss
    monkeypatch.setattr(
        _training,
        "magnitude_distance_loss",
        lambda made, real, t, **kwargs: (seen.append(t), loss(made, real, t, **kwargs))[1],
    )
    params = {"batch_size": 99, "max_epochs": 5}
    near = MagnitudeCurriculum([0.5, 1.5], [0, 2], cumulative=False)
    model(curriculum=near, **params).fit(X)
    assert seen == [(0.5,), (0.5,), (0.5, 1.5), (1.5,), (1.5,)]
    seen.clear()
    blind = MagnitudeCurriculum([0.5, 30.0], [0, 2], cumulative=False)
    with pytest.warns(ConvergenceWarning, match="curriculum"):
        fitted = model(curriculum=blind, early_stopping=True, **params).fit(X)
    assert seen == [scales for scales in [(0.5,)] * 2 + [(0.5, 30.0)] * 3 for _ in range(2)]
    assert fitted.best_score_ == max(fitted.validation_scores_[2:])
    seen.clear()
    model(curriculum=blind, normalized=False, **params).fit(X)
    assert seen[2:] == [(30.0,)] * 3


def test_a_generator_finds_data_that_are_far():
    torch.manual_seed(0)
    linear = torch.nn.Linear(4, 3)
    params = {"curriculum": MagnitudeCurriculum([1.0], [0]), "learning_rate": 0.3}
    fitted = model(linear, max_epochs=40, **params).fit(X + 20.0)
    assert (fitted.sample(500, random_state=0).mean(0) > 5.0).all()
    assert fitted.loss_curve_[-1] < 0.97
    with pytest.warns(ConvergenceWarning, match=r"distance was 1\.000 in.* curriculum"):
        model(linear, **params).fit(X + 20.0)


def test_a_batch_without_a_slope_is_no_divergence_if_it_sees_the_data():
    # Of a silent unit nothing changes; a batch of one meets it.
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
    assert np.isfinite(model(network, batch_size=1).fit(abs(X)).loss_curve_).all()


def test_rows_that_differ_far_from_the_origin_stay_apart():
    linear = torch.nn.Linear(4, 3)
    torch.nn.init.constant_(linear.bias, 1e8)
    # In float32 all of these would be one point.
    params = {"curriculum": MagnitudeCurriculum([0.5], [0]), "learning_rate": 1e-6}
    fitted = model(linear, **params)
    with pytest.warns(ConvergenceWarning, match="has collapsed"):
        fitted.fit(X + 1e8)
    assert min(fitted.loss_curve_) > 0.1
    assert fitted.score(X + 1e8) < -0.1
    double = model(copy.deepcopy(linear).double(), **params).fit(X + 1e8)
    assert double.score(X + 1e8) > fitted.score(X + 1e8)


@pytest.mark.parametrize("factor", [1e-50, 1e50])
def test_spreads_out_of_the_range_of_float32_are_refused(factor):
    params = {"curriculum": MagnitudeCurriculum([1 / factor], [0])}
    with pytest.raises(ValueError, match=r"X deviates by .*multiply X by a number"):
        model(**params).fit(X * factor)
    inside = {"curriculum": MagnitudeCurriculum([1e12], [0])}
    made = model(**inside).fit(X * 1e-12).sample(500, random_state=0)
    np.testing.assert_allclose(made.std(), 1e-12, rtol=0.5)


def test_a_network_keeps_its_frozen_layers_types_and_mode_in_copies():
    trained = model().fit(X).generator_
    trained.layers[0].requires_grad_(False)
    again = model(trained, max_epochs=4).fit(X).generator_
    assert torch.equal(again.layers[0].weight, trained.layers[0].weight)
    assert not torch.equal(again.layers[2].weight, trained.layers[2].weight)
    double = copy.deepcopy(trained).double()
    for copied in (copy.deepcopy(double), pickle.loads(pickle.dumps(double))):
        assert not copied.training
        assert pickle.loads(pickle.dumps(copied.train())).training
        assert copied.layers[0].weight.dtype == torch.float64
        assert [p.requires_grad for p in copied.parameters()] == [False, False, True, True]
    spectral = copy.deepcopy(trained)
    torch.nn.utils.parametrizations.spectral_norm(spectral.layers[2])
    assert copy.deepcopy(spectral).state_dict().keys() == spectral.state_dict().keys()
    with pytest.raises(pickle.PicklingError, match="parameters were added"):
        pickle.dumps(spectral)


def test_networks_that_torch_does_not_copy_or_that_need_two_points():
    normed = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match=r"generator does not take a batch of 1 .*batch_size=1 "):
        model(normed, batch_size=1).fit(X)
    not_a_leaf = torch.nn.Linear(4, 3)
    not_a_leaf.kept = not_a_leaf.weight * 2
    with pytest.raises(ValueError, match="generator cannot be copied"):
        model(not_a_leaf).fit(X)


def test_what_describes_a_network():
    def network(dtype=torch.float32, frozen=False):
        linear = torch.nn.Linear(2, 3, dtype=dtype)
        # Its repr tells where it lies in memory.
        place = object()
        linear.extra_repr = lambda: repr(place)
        linear.weight.requires_grad_(not frozen)
        return linear

    one, other = network(), network()
    assert repr(one) != repr(other)
    assert description(one) == description(other)
    assert len({description(n) for n in (one, network(torch.float64), network(frozen=True))}) == 3


def test_held_out_scores_differ_by_the_weights_alone():
    params = {"curriculum": MagnitudeCurriculum([1.0], [0]), "early_stopping": True}
    scores = model(learning_rate=1e-12, **params).fit(X).validation_scores_
    np.testing.assert_allclose(scores, scores[0], rtol=1e-6)


def test_early_stopping_keeps_the_best_weights_since_the_last_scale():
    params = {
        "curriculum": MagnitudeCurriculum([0.5, 2.0], [0, 20]),
        "early_stopping": True,
        "validation_fraction": 0.4,
        "max_epochs": 300,
        "learning_rate": 0.03,
    }
    fitted = model(n_iter_no_change=5, **params).fit(X)
    scores = np.array(fitted.validation_scores_)
    assert 25 <= fitted.n_iter_ == len(scores) == len(fitted.loss_curve_) < 300
    best = 20 + int(scores[20:].argmax())
    assert fitted.best_score_ == scores[best]
    until_best = model(n_iter_no_change=300, **{**params, "max_epochs": best + 1}).fit(X)
    assert same(fitted, until_best)
    # No improvement counts from the one that exceeded the best by tol.
    assert scores[-5:].max() <= scores[20:-5].max() + 1e-4
    # Where nothing counts as an improvement, the first scale still gets all its epochs.
    hasty = model(n_iter_no_change=2, tol=10.0, **params).fit(X)
    assert hasty.n_iter_ == 23


def test_without_early_stopping_there_are_no_scores():
    fitted = model().fit(X)
    assert fitted.validation_scores_ is None
    assert fitted.best_score_ is None
    assert fitted.n_iter_ == 6


def test_scales_that_never_join_are_told_of():
    with pytest.warns(UserWarning, match=r"max_epochs=3 ends before the scale 4\.0 .* in epoch 5"):
        model(curriculum=CURRICULUM, max_epochs=3).fit(X)


def test_callbacks_see_every_epoch_and_stop_the_fit(capsys):
    class Sampling(StopAfter):
        drawn = ()

        def on_fit_task_end(self, estimator, context):
            self.drawn = (*self.drawn, (estimator.n_iter_, estimator.sample(2, random_state=0)))
            return super().on_fit_task_end(estimator, context)

    watching = Sampling(4)
    stopped = model(curriculum=CURRICULUM).set_callbacks(watching).fit(X)
    assert [n_iter for n_iter, _ in watching.drawn] == [1, 2, 3, 4, 4]
    with pytest.warns(UserWarning, match="ends before"):
        assert same(stopped, model(curriculum=CURRICULUM, max_epochs=4).fit(X))
    with_bar = model(noisy_network()).set_callbacks(ProgressBar()).fit(X)
    assert "MagnitudeGenerativeNetwork - fit" in capsys.readouterr().out
    assert with_bar.n_iter_ == 6


@pytest.mark.parametrize(
    ("generator", "error", "message"),
    [
        (torch.nn.Linear(5, 3), ValueError, r"does not take these .*latent_dim=4"),
        (torch.nn.Linear(4, 2), ValueError, r"of 3 features.* shape \(2, 2\)"),
        (torch.nn.ReLU(), ValueError, "nothing to train"),
        (torch.nn.Linear(4, 3).requires_grad_(False), ValueError, "nothing to train"),
        (torch.nn.LSTM(4, 3), TypeError, "it returns tuple"),
        (lambda latents: latents, ValueError, "'generator' parameter"),
    ],
)
def test_networks_that_cannot_be_trained(generator, error, message):
    with pytest.raises(error, match=message):
        model(generator).fit(X)


@pytest.mark.parametrize("sizes", [(8, 0), (2.5,), "ab"])
def test_hidden_layers_are_positive_numbers(sizes):
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        model(hidden_layer_sizes=sizes).fit(X)


@pytest.mark.parametrize("sizes", [7, (), [5, 6], np.array([3])])
def test_hidden_layers(sizes):
    fitted = model(hidden_layer_sizes=sizes, max_epochs=4).fit(X)
    assert fitted.generator_.sizes == [4, *np.atleast_1d(sizes).astype(int), 3]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"learning_rate": 1e9}, r"in epoch \d, batch \d.*learning_rate=1000000000\.0.*smaller"),
        ({"learning_rate": 1e30}, r"(?i)NaN or inf.* epoch \d.*learning_rate=1e\+30"),
        ({"learning_rate": 1e30, "max_epochs": 1, "batch_size": 99}, r"learning_rate=1e\+30"),
        (
            {"learning_rate": 1e30, "early_stopping": True, "batch_size": 99},
            r"NaN or infinity in epoch 0, held-out rows \(learning_rate=1e\+30",
        ),
        ({"generator": Failing(0)}, r"epoch 0, batch 0 .*no step was taken yet"),
        ({"generator": Failing(4)}, r"returned NaN or infinity in epoch 1, batch 1 "),
        ({"curriculum": MagnitudeCurriculum([1e6], [0])}, r"no gradient is left.*scale, 1e\+06"),
    ],
)
@pytest.mark.filterwarnings("ignore:max_epochs=1 ends")
def test_a_training_that_diverges_says_where_and_what_to_do(changed, message):
    fitted = model().fit(X)
    fitted.set_params(**changed)
    with pytest.raises(FloatingPointError, match=message):
        fitted.fit(X)
    with pytest.raises(NotFittedError):
        fitted.sample()


def test_a_gradient_that_is_not_finite_does_not_reach_the_weights():
    class Rooted(Constant):
        def forward(self, latents):
            # The slope of a root at zero is infinite.
            return latents[:, :3] + (self.point - self.point.detach()).abs().sqrt()

    with pytest.raises(FloatingPointError, match="its gradient is NaN or infinite in epoch 0"):
        model(Rooted([1.0, 1.0, 1.0])).fit(X)


def test_similarities_without_a_factor_are_told_with_epoch_and_scale():
    curriculum = MagnitudeCurriculum([1e-17], [0])
    with pytest.raises(np.linalg.LinAlgError, match=r"In epoch 0, batch 0: .* at t=1e-17"):
        model(curriculum=curriculum).fit(X)


def test_nan_in_the_data_is_refused():
    fitted = model().fit(X)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        fitted.fit(np.where(X > 2, np.nan, X))
    with pytest.raises(NotFittedError):
        fitted.sample()


@pytest.mark.parametrize("generator", [None, noisy_network()])
@pytest.mark.parametrize("how", ["pickle", "joblib", "deepcopy", "skops"])
def test_a_fitted_model_is_saved_and_loaded(generator, how, tmp_path):
    fitted = model(generator).fit(X)
    path = tmp_path / "model"
    if how == "pickle":
        loaded = pickle.loads(pickle.dumps(fitted))
    elif how == "joblib":
        joblib.dump(fitted, path)
        loaded = joblib.load(path)
    elif how == "deepcopy":
        loaded = copy.deepcopy(fitted)
    elif generator is not None:
        pytest.skip("skops takes no modules of torch")
    else:
        skops.io.dump(fitted, path)
        trusted = skops.io.get_untrusted_types(file=path)
        assert all(name.startswith("skmag.") for name in trusted), trusted
        loaded = skops.io.load(path, trusted=trusted)
    assert same(loaded, fitted)
    expected = fitted.sample(5, random_state=0)
    np.testing.assert_array_equal(loaded.sample(5, random_state=0), expected)
    assert loaded.score(X) == fitted.score(X)
    with torch.no_grad():
        for value in loaded.generator_.parameters():
            value.zero_()
    np.testing.assert_array_equal(fitted.sample(5, random_state=0), expected)
    assert same(clone(loaded).fit(X), fitted)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("xp", [np, torch, array_api_strict])
def test_samples_are_of_the_kind_of_the_data(xp, dtype):
    data = (8 * X).round()
    expected = model().fit(data).sample(5, random_state=0)
    with config_context(array_api_dispatch=True):
        fitted = model().fit(xp.asarray(data.tolist(), dtype=getattr(xp, dtype)))
        found = fitted.sample(5, random_state=0)
        loaded = pickle.loads(pickle.dumps(fitted)).sample(5, random_state=0)
    assert type(found).__module__.startswith(xp.__name__)
    assert type(loaded) is type(found)
    assert found.dtype == getattr(xp, "float32" if dtype == "float32" else "float64")
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-6, atol=1e-6)


def test_frames():
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    fitted = model().fit(frame)
    assert fitted.feature_names_in_.tolist() == ["a", "b", "c"]
    assert same(fitted, model().fit(X))
    assert fitted.score(frame) == model().fit(X).score(X)


@pytest.mark.parametrize("n_samples", [0, -1, 2.5, True, "3"])
def test_the_number_of_samples_is_a_positive_number(n_samples):
    with pytest.raises(ValueError, match=re.escape(f"n_samples={n_samples!r} must be")):
        model().fit(X).sample(n_samples)


def test_many_samples_come_in_blocks():
    assert len(np.unique(model().fit(X).sample(9000, random_state=0), axis=0)) == 9000


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("generator", [None, noisy_network()])
def test_a_card(generator, tmp_path):
    state = torch.cuda.get_rng_state()
    params = {"curriculum": CURRICULUM, "early_stopping": True, "max_epochs": 8, "device": "cuda"}
    fitted = model(generator, **params).fit(X)
    assert next(fitted.generator_.parameters()).device.type == "cuda"
    assert isinstance(fitted.sample(3), np.ndarray)
    assert torch.equal(torch.cuda.get_rng_state(), state)
    if generator is None:
        on_host = model(**{**params, "device": "cpu"}).fit(X)
        np.testing.assert_allclose(fitted.loss_curve_, on_host.loss_curve_, rtol=1e-3)
        assert fitted.score(X) == pytest.approx(on_host.score(X), rel=1e-2)
    path = tmp_path / "fit.pt"
    model(generator, checkpoint=path, **params).set_callbacks(StopAfter(4)).fit(X)
    assert same(model(generator, checkpoint=path, **params).fit(X), fitted)
    loaded = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(
        loaded.sample(3, random_state=0), fitted.sample(3, random_state=0)
    )
    with config_context(array_api_dispatch=True):
        following = model(generator, **{**params, "device": None}).fit(torch.from_numpy(X).cuda())
        assert following.sample().device.type == "cuda"
    assert same(following, fitted)
