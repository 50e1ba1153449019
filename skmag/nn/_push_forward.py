"""Networks that push latent points forward to data: the default one, and what any has to be."""

from __future__ import annotations

import copy
import hashlib
import math
import pickle
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from skmag._arrays import as_numpy, available_device, owned

# Latent points by which the first weights are adjusted to the moments of data.
_TRIAL_POINTS = 1024
# Scales of the output that leave the slopes of its weights within the range of float32.
_COMFORTABLE = 1e-15, 1e15
# Rows that go through a network at a time where no gradient is asked for.
_BLOCK_ROWS = 4096


class MultilayerGenerator(nn.Module):
    """A multilayer perceptron whose points begin with the center and deviations of data.

    Parameters
    ----------
    sizes : sequence of int
        Widths of all layers: latent dimensions, hidden units, and features.
    """

    center: torch.Tensor
    scale: torch.Tensor

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = [int(size) for size in sizes]
        # What torch would draw for the weights comes from its global generator; `drawn` fills them.
        linear = [
            nn.utils.skip_init(nn.Linear, n_in, n_out)
            for n_in, n_out in zip(self.sizes[:-1], self.sizes[1:], strict=True)
        ]
        hidden = [part for layer in linear[:-1] for part in (layer, nn.ReLU())]
        self.layers = nn.Sequential(*hidden, linear[-1])
        self.register_buffer("center", torch.zeros(self.sizes[-1], dtype=torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float32))

    @classmethod
    def drawn(
        cls, data: torch.Tensor, sizes: Sequence[int], rng: torch.Generator
    ) -> MultilayerGenerator:
        """Draw weights with which each feature has the mean and deviation that it has in data.

        The sizes are those of all layers but the last, which has the features of the data.

        The scale of the output is common to all features: what a step of the optimizer may change
        does not depend on the feature. A feature that is constant in the data is so from the start,
        and no gradient changes that.

        Raises
        ------
        ValueError
            If the deviations are out of the range of float32.
        """
        network = cls([*sizes, data.shape[1]])
        # Of equal numbers the mean may differ in the last digit, and they would deviate from it.
        constant = (data == data[0]).all(0)
        deviations = data.std(0, correction=0).masked_fill(constant, 0.0).cpu()
        scale = deviations.square().mean().sqrt()
        if constant.all():
            scale = torch.ones_like(scale)
        elif not _COMFORTABLE[0] <= scale <= _COMFORTABLE[1]:
            raise ValueError(
                f"X deviates by {scale:.2g} from its mean, but the default network computes in "
                f"float32 and takes {_COMFORTABLE[0]:g} to {_COMFORTABLE[1]:g}; multiply X by a "
                "number, or give a generator in float64"
            )
        network.center.copy_(torch.where(constant, data[0], data.mean(0)))
        network.scale.copy_(scale)
        linear = [layer for layer in network.layers if isinstance(layer, nn.Linear)]
        with torch.no_grad():
            for layer in linear:
                # Keeps the second moment from one layer to the next: half the units are silent.
                layer.weight.normal_(0.0, math.sqrt(2 / layer.in_features), generator=rng)
                layer.bias.zero_()
            made = network.layers(torch.randn(_TRIAL_POINTS, sizes[0], generator=rng))
            spread = made.std(0)
            # Units that are all silent have nothing that could be stretched.
            stretch = torch.where(spread > 0, deviations / scale / spread, 0.0)
            linear[-1].weight.mul_(stretch[:, None])
            linear[-1].bias.copy_(-stretch * made.mean(0))
        return network

    def relative(self, latents: torch.Tensor) -> torch.Tensor:
        """Points relative to the center, which digits far from the origin would be lost on."""
        points: torch.Tensor = self.scale * self.layers(latents)
        return points

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Return points in the data's own units, in float64."""
        return self.center + self.relative(latents)

    def __deepcopy__(self, memo: dict[int, Any]) -> MultilayerGenerator:
        # What was made of it by its owner, such as another parametrization, is not in the state.
        new = memo[id(self)] = object.__new__(type(self))
        new.__dict__ = copy.deepcopy(self.__dict__, memo)
        return new

    def __getstate__(self) -> dict[str, Any]:
        weights = self.state_dict()
        if weights.keys() != MultilayerGenerator(self.sizes).state_dict().keys():
            raise pickle.PicklingError(
                "a default network to which parameters were added, such as a parametrization, "
                "cannot be pickled; remove these first, or save its state_dict"
            )
        return {
            "sizes": self.sizes,
            "device": str(self.center.device),
            "training": self.training,
            "frozen": [name for name, p in self.named_parameters() if not p.requires_grad],
            # Plain arrays open on machines without the device, and in skops.
            "weights": {name: as_numpy(value) for name, value in weights.items()},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        MultilayerGenerator.__init__(self, state["sizes"])
        weights = {name: owned(value) for name, value in state["weights"].items()}
        # Assigned and not copied, they keep their types.
        self.load_state_dict(weights, assign=True)
        for name in state["frozen"]:
            self.get_parameter(name).requires_grad_(False)
        self.to(available_device(torch.device(state["device"]))).train(state["training"])


def generate(network: nn.Module, latents: torch.Tensor) -> torch.Tensor:
    """Points of shape (n_points, n_features) from latent ones, relative to the network's center."""
    if isinstance(network, MultilayerGenerator):
        return network.relative(latents)
    made: torch.Tensor = network(latents)
    return made.reshape(len(made), -1)


def relative_to(network: nn.Module, points: torch.Tensor) -> torch.Tensor:
    """Float64 points of data as they are compared with what :func:`generate` returns."""
    if not isinstance(network, MultilayerGenerator):
        # Where the origin is far, float32 would make one point of several.
        return points
    double = latent_dtype(network) == torch.float64
    return (points - network.center).to(torch.float64 if double else torch.float32)


def latent_dtype(network: nn.Module) -> torch.dtype:
    """Type of a network's first floating-point parameter."""
    return next(p.dtype for p in network.parameters() if p.is_floating_point())


def place_of(network: nn.Module) -> torch.device:
    """Device of a network's first parameter."""
    return next(network.parameters()).device


def draw_latents(
    network: nn.Module, n_points: int, latent_dim: int, rng: torch.Generator
) -> torch.Tensor:
    """Standard normal latent points; a generator on the host gives every device the same."""
    drawn = torch.randn(n_points, latent_dim, generator=rng)
    return drawn.to(device=place_of(network), dtype=latent_dtype(network))


def sampled(
    network: nn.Module, n_points: int, latent_dim: int, rng: torch.Generator
) -> torch.Tensor:
    """Draw points in the data's own units, from a network in evaluation mode."""
    parts = []
    with evaluating(network, rng):
        for start in range(0, n_points, _BLOCK_ROWS):
            size = min(_BLOCK_ROWS, n_points - start)
            made = network(draw_latents(network, size, latent_dim, rng))
            parts.append(made.reshape(size, -1))
        return torch.cat(parts)


@contextmanager
def evaluating(network: nn.Module, rng: torch.Generator) -> Iterator[None]:
    """Within it no gradient is kept, and `rng` is the source of a network in evaluation mode."""
    network.eval()
    with torch.no_grad(), own_randomness(network, rng):
        yield


def own_randomness(network: nn.Module, rng: torch.Generator) -> AbstractContextManager[None]:
    """Within it what a network draws itself, as dropout does, follows from `rng` alone.

    Torch's global generators, from which modules draw, are as before when it ends.
    """
    seed = int(torch.randint(2**62, (), generator=rng))
    if isinstance(network, MultilayerGenerator):
        # It draws nothing, and global generators are better not touched in threads.
        return nullcontext()
    return _global_randomness(seed, place_of(network))


@contextmanager
def _global_randomness(seed: int, device: torch.device) -> Iterator[None]:
    cards = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(cards, device_type="cuda"):
        # torch.manual_seed would seed every card, and not only the one that is put back.
        torch.default_generator.manual_seed(seed)
        for card in cards:
            with torch.cuda.device(card):
                torch.cuda.manual_seed(seed)
        yield


def description(network: nn.Module) -> str:
    """The class of a network, and a short text that tells its layers and types from others."""
    values = {name: (value.dtype, *value.shape) for name, value in network.state_dict().items()}
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    # Where in memory a function lives says nothing about the network.
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", f"{network} {values} {trained}")
    return f"{type(network).__name__} {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def check_network(
    network: nn.Module, latent_dim: int, n_features: int, rng: torch.Generator
) -> None:
    """Raise unless a user's network can be trained to give points of `n_features`."""
    asked = f"generator must map latent points of shape (n_points, {latent_dim}) to points"
    if not any(p.is_floating_point() and p.requires_grad for p in network.parameters()):
        raise ValueError("generator has no parameter that requires a gradient: nothing to train")
    try:
        with evaluating(network, rng):
            made = network(draw_latents(network, 2, latent_dim, rng))
    except RuntimeError as error:
        raise ValueError(
            f"{asked}, but it does not take these ({error}); latent_dim={latent_dim} has to be "
            "what its first layer takes"
        ) from error
    if not isinstance(made, torch.Tensor) or not made.is_floating_point():
        kind = made.dtype if isinstance(made, torch.Tensor) else type(made).__name__
        raise TypeError(f"{asked} in a tensor of floating-point numbers, but it returns {kind}")
    if made.ndim == 0 or len(made) != 2 or made.numel() != 2 * n_features:
        raise ValueError(
            f"{asked} of {n_features} features, which X has; for 2 points it returns a tensor of "
            f"shape {tuple(made.shape)}"
        )
