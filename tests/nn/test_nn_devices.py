"""Losses give the same on the processor, on a device that is pretended, and on a card."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from device_mode import Device
from reference import normal

from skmag.nn import magnitude_distance_loss

CUDA = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
X, Y = normal(12, 3), normal(9, 3, seed=1)
X[4] = X[2]
WIDE, OTHERS = normal(12, 40), normal(9, 40, seed=1)
LOSSES = {
    "distance of few features": lambda X, Y: magnitude_distance_loss(X, Y, [0.3, 2.0]),
    "distance of many features": lambda X, Y: magnitude_distance_loss(X, Y, 0.3, normalized=True),
}
SETS = {"distance of many features": (WIDE, OTHERS)}


@pytest.fixture(params=["pretended", pytest.param("cuda", marks=CUDA)])
def place(request, monkeypatch):
    """Name of a device, which is there while the test runs."""
    with Device(monkeypatch) if request.param == "pretended" else nullcontext():
        yield request.param


def value_and_slope(name, place="cpu", dtype=torch.float64):
    device = torch.device("cuda" if place == "cuda" else "cpu")
    leaf, other = (
        torch.from_numpy(np.array(own)).to(device).to(dtype) for own in SETS.get(name, (X, Y))
    )
    leaf = leaf.requires_grad_()
    loss = LOSSES[name](leaf, other)
    (slope,) = torch.autograd.grad(loss.sum(), leaf)
    return loss.detach().cpu().numpy(), slope.cpu().numpy()


EXPECTED = {name: value_and_slope(name) for name in LOSSES}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_the_same_elsewhere(name, place):
    for found, expected in zip(value_and_slope(name, place), EXPECTED[name], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
