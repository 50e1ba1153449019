"""A training that is interrupted, even killed, ends with the weights of one that was not."""

import dataclasses
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from reference import StopAfter, normal
from sklearn import clone
from sklearn.model_selection import GridSearchCV

from skmag.nn import MagnitudeCurriculum, MagnitudeGenerativeNetwork

X = normal(45, 3)
SMALL = {
    "hidden_layer_sizes": (8,),
    "latent_dim": 4,
    "batch_size": 16,
    "learning_rate": 0.01,
    "max_epochs": 9,
    "random_state": 0,
}
CURRICULUM = MagnitudeCurriculum([0.5, 1.5, 4.0], [0, 3, 5])


def with_randomness():
    """A network that draws numbers and keeps a state that no step changes."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 8),
        torch.nn.BatchNorm1d(8),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.3),
        torch.nn.Linear(8, 3),
    )


MODELS = {
    "default": {},
    "early_stopping": {
        "curriculum": CURRICULUM,
        "early_stopping": True,
        "validation_fraction": 0.3,
        "n_iter_no_change": 3,
    },
    "randomness": {"curriculum": CURRICULUM, "generator": with_randomness()},
    "random_state": {},
    # The last scale sees nothing, so that the others stay.
    "blind": {
        "curriculum": MagnitudeCurriculum([0.5, 1.5, 30.0], [0, 1, 3], cumulative=False),
        "early_stopping": True,
        "n_iter_no_change": 99,
    },
}


def model(name="default", **params):
    return MagnitudeGenerativeNetwork(**{**SMALL, **MODELS[name], **params})


def seeded(name, seed):
    """A state of numpy's, which the fit moves on, or the number as in the other models."""
    return {"random_state": np.random.RandomState(seed)} if name == "random_state" else {}


def assert_same(found, expected):
    weights = expected.generator_.state_dict()
    assert found.generator_.state_dict().keys() == weights.keys()
    for key, value in found.generator_.state_dict().items():
        assert torch.equal(value, weights[key]), key
    assert found.loss_curve_ == expected.loss_curve_
    assert found.validation_scores_ == expected.validation_scores_
    assert found.best_score_ == expected.best_score_
    assert found.n_iter_ == expected.n_iter_


class Interrupt(StopAfter):
    """Callback that ends the fit as Ctrl-C does."""

    def on_fit_task_end(self, estimator, context):
        if super().on_fit_task_end(estimator, context):
            raise KeyboardInterrupt
        return False


KILLED = """
import os, signal
import numpy as np
from skmag.nn import MagnitudeCurriculum, MagnitudeGenerativeNetwork, _training

calls, loss = 0, _training.magnitude_distance_loss

def deadly(*args, **kwargs):
    # In the second batch of epoch 6, a few weights on from the file of epoch 5.
    global calls
    calls += 1
    if calls == {n_calls}:
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(*args, **kwargs)

_training.magnitude_distance_loss = deadly
X = np.random.default_rng(0).normal(size=(45, 3))
MagnitudeGenerativeNetwork(
    curriculum=MagnitudeCurriculum([0.5, 1.5, 4.0], [0, 3, 5]), early_stopping=True,
    validation_fraction=0.3, n_iter_no_change=3, checkpoint={path!r}, **{params!r},
).fit(X)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_a_killed_fit_resumes_to_the_weights_of_an_uninterrupted_one(tmp_path):
    path = tmp_path / "fit.pt"
    # Two batches and one evaluation in each epoch.
    script = KILLED.format(path=str(path), params=SMALL, n_calls=6 * 3 + 2)
    died = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=300)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert torch.load(path, weights_only=True)["state"]["epoch"] == 6
    expected = model("early_stopping").fit(X)
    assert_same(model("early_stopping", checkpoint=path).fit(X), expected)
    assert expected.n_iter_ > 6


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("callback", [StopAfter, Interrupt])
@pytest.mark.filterwarnings("ignore:The normalized distance")
def test_an_interrupted_fit_resumes(name, callback, tmp_path):
    path = tmp_path / "fit.pt"
    expected = model(name, **seeded(name, 3)).fit(X)
    # What the first one draws is in its file; later ones may draw something else.
    for n_epochs, seed in ((3, 3), (1, 4), (4, 5)):
        stopped = model(name, checkpoint=path, checkpoint_every=2, **seeded(name, seed))
        stopped.set_callbacks(callback(n_epochs))
        try:
            stopped.fit(X)
        except KeyboardInterrupt:
            assert not hasattr(stopped, "generator_")
    assert_same(model(name, checkpoint=path, **seeded(name, 6)).fit(X), expected)


def test_the_file_is_written_as_often_as_asked_and_at_the_end(tmp_path, monkeypatch):
    epochs = []
    save = torch.save
    monkeypatch.setattr(
        torch, "save", lambda c, f: (epochs.append(c["state"]["epoch"]), save(c, f))
    )
    model(checkpoint=tmp_path / "fit.pt", checkpoint_every=4).fit(X)
    assert epochs == [4, 8, 9]
    assert os.listdir(tmp_path) == ["fit.pt"]


def test_a_write_that_fails_leaves_the_file_before(tmp_path, monkeypatch):
    path = tmp_path / "fit.pt"
    expected = model().fit(X)
    model(checkpoint=path).set_callbacks(StopAfter(4)).fit(X)

    def full(descriptor):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space left"):
            model(checkpoint=path).fit(X)
    assert os.listdir(tmp_path) == ["fit.pt"]
    assert_same(model(checkpoint=path).fit(X), expected)


def test_a_finished_fit_is_returned_at_once_and_continues_for_more_epochs(tmp_path, monkeypatch):
    path = tmp_path / "fit.pt"
    short = model(curriculum=CURRICULUM, checkpoint=path).fit(X)
    longer = model(curriculum=CURRICULUM, max_epochs=12, checkpoint=path).fit(X)
    assert_same(longer, model(curriculum=CURRICULUM, max_epochs=12).fit(X))
    monkeypatch.setattr(torch.optim.Adam, "step", None)
    assert_same(model(curriculum=CURRICULUM, max_epochs=12, checkpoint=path).fit(X), longer)
    with pytest.raises(ValueError, match=r"holds 12 epochs, more than max_epochs=9"):
        clone(short).fit(X)


def test_a_fit_that_stopped_early_is_not_continued(tmp_path):
    params = {**MODELS["early_stopping"], "max_epochs": 60, "checkpoint": tmp_path / "fit.pt"}
    first = model(**params).fit(X)
    assert 5 < first.n_iter_ < 60
    assert_same(model(**{**params, "max_epochs": 80}).fit(X), first)


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"learning_rate": 0.02}, "learning_rate=0.01, but now it is 0.02"),
        ({"batch_size": 20}, "batch_size=16"),
        ({"hidden_layer_sizes": 9}, r"hidden_layer_sizes=\[8\], but now it is \[9\]"),
        ({"latent_dim": 5}, "latent_dim=4"),
        ({"normalized": False}, "normalized=True"),
        ({"beta_1": 0.5}, r"beta_1=0\.9"),
        ({"random_state": 1}, "random_state=0"),
        ({"random_state": None}, "random_state=0"),
        ({"early_stopping": True}, "early_stopping=False"),
        ({"max_epochs": 19}, "curriculum=MagnitudeCurriculum"),
        ({"generator": with_randomness()}, "hidden_layer_sizes"),
    ],
)
def test_another_fit_is_refused_by_name(params, named, tmp_path):
    path = tmp_path / "fit.pt"
    model(checkpoint=path, max_epochs=9).set_callbacks(StopAfter(1)).fit(X)
    with pytest.raises(ValueError, match=named) as refused:
        model(checkpoint=path, **params).fit(X)
    assert str(path) in str(refused.value)
    assert "remove the file" in str(refused.value)


def test_other_networks_are_refused(tmp_path):
    path = tmp_path / "fit.pt"
    network = with_randomness()
    kept = {"curriculum": CURRICULUM, "checkpoint": path, "max_epochs": 6}
    model(generator=network, **kept).fit(X)
    # Other weights to begin with are no other network.
    model(generator=with_randomness(), **kept).fit(X)
    network[0].requires_grad_(False)
    with pytest.raises(ValueError, match="written with generator=Sequential"):
        model(generator=network, **kept).fit(X)
    network[0].requires_grad_(True)
    network[3] = torch.nn.Dropout(0.4)
    with pytest.raises(ValueError, match="written with generator=Sequential"):
        model(generator=network, **kept).fit(X)


def test_a_curriculum_that_keeps_its_scales_is_another_one(tmp_path):
    path = tmp_path / "fit.pt"
    model(curriculum=CURRICULUM, checkpoint=path).set_callbacks(StopAfter(1)).fit(X)
    changed = dataclasses.replace(CURRICULUM, cumulative=False)
    with pytest.raises(ValueError, match="written with curriculum=MagnitudeCurriculum"):
        model(curriculum=changed, checkpoint=path).fit(X)


def test_other_data_are_refused(tmp_path):
    path = tmp_path / "fit.pt"
    fitted = model(checkpoint=path, max_epochs=4).fit(X)
    clone(fitted).fit(X.astype(np.float64, order="F"))
    with pytest.raises(ValueError, match="written for other data than X"):
        clone(fitted).fit(X + 1e-9)
    with pytest.raises(ValueError, match="written for other data than X"):
        GridSearchCV(fitted, {"max_epochs": [4]}, cv=2, error_score="raise").fit(X)


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text", "another", "code"])
def test_a_damaged_file_is_named(damage, tmp_path):
    path = tmp_path / "fit.pt"
    model(checkpoint=path, max_epochs=4).fit(X)
    content = path.read_bytes()
    if damage == "another":
        torch.save({"weights": torch.zeros(3)}, path)
    elif damage == "code":
        torch.save({"format": "x", "code": os.system}, path)
    else:
        middle = len(content) // 2
        garbled = bytes(255 - byte for byte in content[middle : middle + 400])
        path.write_bytes(
            {
                "empty": b"",
                "cut": content[:middle],
                "flipped": content[:middle] + garbled + content[middle + 400 :],
                "text": b"not a file of torch",
            }[damage]
        )
    with pytest.raises(ValueError, match=r"fit\.pt.* remove the file, or name another one"):
        model(checkpoint=path, max_epochs=4).fit(X)


def test_a_place_that_cannot_hold_the_file_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.optim.Adam, "step", None)
    with pytest.raises(FileNotFoundError, match="a directory that does not exist"):
        model(checkpoint=tmp_path / "absent" / "fit.pt").fit(X)
    with pytest.raises(IsADirectoryError, match="is a directory; name a file in it"):
        model(checkpoint=str(tmp_path)).fit(X)
