"""The training of a generator through a curriculum, epoch by epoch, and its state between these."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from skmag.nn._curriculum import MagnitudeCurriculum
from skmag.nn._distance_loss import magnitude_distance_loss
from skmag.nn._distances import euclidean_distances
from skmag.nn._push_forward import (
    draw_latents,
    evaluating,
    generate,
    latent_dtype,
    own_randomness,
    sampled,
)

# Rows that are compared at a time with as many generated ones: few enough for the similarities of
# both, and the same for every model, as the distance depends on the number.
_COMPARED_ROWS = 1000
# Beyond this distance times a scale similarities leave no trace in a gradient in float32.
_OUT_OF_SIGHT = 80.0
# What changes as epochs go by, beside the list of scores.
_EARLY_STATE = ("scales", "best", "weights", "n_unchanged", "stopped")
# Generated points by which to tell whether they are nearly one, and the deviation below which they
# are, relative to that of the data.
_TRIED_POINTS, _COLLAPSED = 256, 1e-2
# Normalized distances, of at most about 1, above which a scale is not left alone, and above which
# generated points and data hardly see each other: the gradient does not tell where to go.
_BARELY_SEEN, _UNSEEN = 0.9, 0.98


@dataclass(frozen=True)
class TrainingPlan:
    """How a generator is trained.

    Parameters
    ----------
    latent_dim : int
        Dimensions of latent points.
    curriculum : MagnitudeCurriculum
        Scales of each epoch.
    normalized : bool
        Whether the distance is divided by the magnitude of the union.
    batch_size : int
        Greatest number of rows in a batch.
    learning_rate, beta_1, beta_2 : float
        Parameters of Adam.
    validation_fraction : float or None
        Share of the rows that are held out to stop early; None holds none out.
    n_iter_no_change : int
        Epochs without an improvement after which training stops early.
    tol : float
        What counts as an improvement.
    """

    latent_dim: int
    curriculum: MagnitudeCurriculum
    normalized: bool
    batch_size: int
    learning_rate: float
    beta_1: float
    beta_2: float
    validation_fraction: float | None
    n_iter_no_change: int
    tol: float


class Training:
    """A generator on its way through a curriculum.

    Parameters
    ----------
    network : torch.nn.Module
        The generator, which is changed.
    data : tensor of shape (n_samples, n_features)
        Points to learn, relative to the network's center and on its device.
    plan : TrainingPlan
        How to train.
    rng : torch.Generator
        Source of all that is drawn, on the host.
    """

    def __init__(
        self,
        network: nn.Module,
        data: torch.Tensor,
        plan: TrainingPlan,
        rng: torch.Generator,
    ) -> None:
        self.early = None
        if plan.validation_fraction is not None:
            share = round(plan.validation_fraction * len(data))
            order = torch.randperm(len(data), generator=rng).to(data.device)
            kept, held_out = order.tensor_split([len(data) - min(max(1, share), len(data) - 1)])
            self.early = EarlyStop(data[held_out], plan)
            data = data[kept]
        self.network = network
        self.data = data
        self.plan = plan
        self.rng = rng
        self.optimizer = torch.optim.Adam(
            [p for p in network.parameters() if p.requires_grad],
            lr=plan.learning_rate,
            betas=(plan.beta_1, plan.beta_2),
            eps=_least_slope(network),
        )
        # A seed for the held-out scores, which then differ by the weights alone.
        self._seed = int(torch.randint(2**62, (), generator=rng))
        self.epoch = 0
        self.loss_curve: list[float] = []
        # Loss of the last epoch at its finest scale alone.
        self.finest_loss = math.inf

    def epochs(self, max_epochs: int) -> Iterator[int]:
        """Numbers of the epochs that are still to be run."""
        while self.epoch < max_epochs and not (self.early and self.early.stopped):
            yield self.epoch

    def run_epoch(self) -> None:
        """Show the network each row once.

        Raises
        ------
        FloatingPointError
            If a number is not finite, or generated points are out of sight of all data.
        numpy.linalg.LinAlgError
            If the loss of a batch cannot be computed.
        """
        scales = self._scales()
        order = torch.randperm(len(self.data), generator=self.rng).to(self.data.device)
        # Batches of nearly equal size: of a last one with few rows the loss would mean another
        # thing, and batch normalization refuses a single row.
        batches = order.tensor_split(math.ceil(len(order) / self.plan.batch_size))
        self.network.train()
        total = torch.zeros(len(scales), dtype=torch.float64)
        with own_randomness(self.network, self.rng):
            for number, rows in enumerate(batches):
                total += len(rows) * self._step(self.data[rows], scales, number)
        self.network.eval()
        if not all(bool(p.isfinite().all()) for p in self.network.parameters()):
            raise self._diverged(f"A weight became NaN or infinite in epoch {self.epoch}")
        self.loss_curve.append(float(total.mean()) / len(order))
        self.finest_loss = float(total[-1]) / len(order)
        if self.early:
            self.early.judge(-self._held_out_distance(scales), self.network, self.epoch, scales)
        self.epoch += 1

    def finish(self) -> None:
        """Leave the network with the best weights, where some rows tell which these are."""
        if self.early:
            self.network.load_state_dict(self.early.weights)

    def _scales(self) -> tuple[float, ...]:
        """Scales of the next epoch, the coarser ones among them until the finest sees by itself."""
        curriculum = self.plan.curriculum
        new = self.epoch in curriculum.epochs
        if self.plan.normalized and (new or self.finest_loss > _BARELY_SEEN):
            curriculum = replace(curriculum, cumulative=True)
        return curriculum.at(self.epoch)

    def _held_out_distance(self, scales: tuple[float, ...]) -> float:
        assert self.early is not None
        place = f"epoch {self.epoch}, held-out rows"
        try:
            with _located(place):
                return mean_distance(
                    self.network, self.early.held_out, scales, self.plan, self._seed
                )
        except FloatingPointError as error:
            raise self._diverged(f"{error} in {place}") from error

    def _step(self, real: torch.Tensor, scales: tuple[float, ...], number: int) -> torch.Tensor:
        """Take one step of the optimizer, return the loss at each scale before it."""
        place = f"epoch {self.epoch}, batch {number}"
        latents = draw_latents(self.network, len(real), self.plan.latent_dim, self.rng)
        try:
            made = generate(self.network, latents)
        except ValueError as error:  # such as that of batch normalization, which needs two points
            raise ValueError(
                f"generator does not take a batch of {len(real)} points in training ({error}); "
                f"batch_size={self.plan.batch_size} may have to be larger"
            ) from error
        if not made.isfinite().all():
            raise self._diverged(f"The generator returned NaN or infinity in {place}")
        with _located(place):
            losses = magnitude_distance_loss(
                made, real, scales, normalized=self.plan.normalized, aggregate=None
            )
        loss = losses.mean()
        self.optimizer.zero_grad()
        loss.backward()
        slopes = [p.grad for group in self.optimizer.param_groups for p in group["params"]]
        # The squares that another norm sums would vanish before the slopes do.
        largest = float(nn.utils.get_total_norm([s for s in slopes if s is not None], math.inf))
        if not math.isfinite(largest) or not loss.isfinite():
            raise self._diverged(f"The loss or its gradient is NaN or infinite in {place}")
        if largest == 0 and loss > 0 and _out_of_sight(made, real, scales[0]):
            raise self._diverged(
                f"All generated points are so far from the data in {place} that no gradient is "
                f"left at the smallest scale, {scales[0]:g}; a smaller one sees further"
            )
        self.optimizer.step()
        return losses.detach().cpu().double()

    def _diverged(self, what: str) -> FloatingPointError:
        if self.epoch == 0 and not self.optimizer.state:
            way_out = "no step was taken yet, so that it is the generator, or the scale, to change"
        else:
            way_out = "a smaller learning_rate keeps a training finite"
        return FloatingPointError(f"{what} (learning_rate={self.plan.learning_rate!r}); {way_out}")

    def state(self) -> dict[str, Any]:
        """All that goes on changing, in types that ``torch.load`` takes for safe."""
        return {
            "seed": self.rng.initial_seed(),
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.get_state(),
            "loss_curve": list(self.loss_curve),
            "finest_loss": self.finest_loss,
            "early": self.early.state() if self.early else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        self.epoch = state["epoch"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.set_state(state["rng"])
        self.loss_curve[:] = state["loss_curve"]
        self.finest_loss = state["finest_loss"]
        if self.early:
            self.early.restore(state["early"])


class EarlyStop:
    """Watches held-out points, remembers the best weights, and says when to stop.

    A scale that comes or goes changes the loss: what was best before does not count any more.
    Training stops only when the last scale has come.

    Parameters
    ----------
    held_out : tensor of shape (n_held_out, n_features)
        Points that are not trained on.
    plan : TrainingPlan
        How to train.
    """

    def __init__(self, held_out: torch.Tensor, plan: TrainingPlan) -> None:
        self.held_out = held_out
        self.plan = plan
        self.scores: list[float] = []
        self.scales: tuple[float, ...] = ()
        self.best = -math.inf
        self.weights: dict[str, Any] = {}
        self.n_unchanged = 0
        self.stopped = False

    def judge(
        self, score: float, network: nn.Module, epoch: int, scales: tuple[float, ...]
    ) -> None:
        """Take note of the score after an epoch, and of the scales at which it was measured."""
        self.scores.append(score)
        if scales != self.scales:
            self.scales, self.best, self.n_unchanged = scales, -math.inf, 0
        self.n_unchanged = 0 if score > self.best + self.plan.tol else self.n_unchanged + 1
        if score > self.best:
            self.best, self.weights = score, copy.deepcopy(network.state_dict())
        last = epoch >= self.plan.curriculum.epochs[-1]
        self.stopped = last and self.n_unchanged >= self.plan.n_iter_no_change

    def state(self) -> dict[str, Any]:
        """All that goes on changing."""
        changing = {name: getattr(self, name) for name in _EARLY_STATE}
        return {"scores": list(self.scores), **changing}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        self.scores[:] = state["scores"]
        for name in _EARLY_STATE:
            setattr(self, name, state[name])


def mean_distance(
    network: nn.Module,
    points: torch.Tensor,
    scales: tuple[float, ...],
    plan: TrainingPlan,
    seed: int,
) -> float:
    """Mean over blocks of points of their distance to as many generated ones.

    Raises
    ------
    FloatingPointError
        If the network returns NaN or infinity.
    """
    rng = torch.Generator().manual_seed(seed)
    # Rows may come sorted; a block is to stand for all of them.
    order = torch.randperm(len(points), generator=rng).to(points.device)
    total = 0.0
    with evaluating(network, rng):
        for rows in order.tensor_split(math.ceil(len(order) / _COMPARED_ROWS)):
            latents = draw_latents(network, len(rows), plan.latent_dim, rng)
            made = generate(network, latents)
            if not made.isfinite().all():
                raise FloatingPointError("The generator returned NaN or infinity")
            distance = magnitude_distance_loss(
                made,
                points[rows],
                scales,
                normalized=plan.normalized,
                aggregate="mean",
            )
            total += len(rows) * distance.item()
    return total / len(order)


def check_spread(network: nn.Module, data: torch.Tensor, plan: TrainingPlan) -> None:
    """Warn if a trained network gives nearly one point although the data are not one."""
    rng = torch.Generator().manual_seed(0)
    made = sampled(network, min(len(data), _TRIED_POINTS), plan.latent_dim, rng).double()
    found, asked = (float(points.var(0, correction=0).sum().sqrt()) for points in (made, data))
    if not math.isfinite(found):
        raise FloatingPointError(
            f"The trained generator returns NaN or infinity (learning_rate={plan.learning_rate!r})"
            "; a smaller learning_rate keeps a training finite"
        )
    if found < _COLLAPSED * asked:
        warnings.warn(
            f"The generator has collapsed: its points deviate by {found:.2g} from their mean, "
            f"those of the data by {asked:.2g}. A smaller learning_rate, or a curriculum whose "
            "first scale is near one over the deviation, may help",
            ConvergenceWarning,
            stacklevel=2,
        )


@contextmanager
def _located(place: str) -> Iterator[None]:
    """Within it a loss that cannot be computed is told of with the place."""
    try:
        yield
    except np.linalg.LinAlgError as error:
        raise np.linalg.LinAlgError(f"In {place}: {error}") from error


def check_sight(training: Training) -> None:
    """Warn if generated points and data hardly saw each other in the last epoch."""
    curriculum = training.plan.curriculum
    loss = training.loss_curve[-1] if curriculum.cumulative else training.finest_loss
    if training.plan.normalized and loss > _UNSEEN:
        warnings.warn(
            f"The normalized distance was {loss:.3f} in the last epoch, and 1 means that generated "
            "points are out of sight of the data: there was little to learn from. A curriculum "
            "with more scales, or smaller ones down to one over the distance that is to be "
            "bridged, may help",
            ConvergenceWarning,
            stacklevel=2,
        )


def _least_slope(network: nn.Module) -> float:
    """What Adam adds to the root of the mean squared slope: a number whose square still counts.

    Slopes vanish with the distance of generated points from the data, as exp(-t d), and have to
    lead back from there; with Adam's usual 1e-8 they would not.
    """
    return min(1e-8, math.sqrt(torch.finfo(latent_dtype(network)).tiny))


def _out_of_sight(made: torch.Tensor, real: torch.Tensor, t: float) -> bool:
    with torch.no_grad():
        nearest = euclidean_distances(made.to(real.dtype), real).amin()
    return not bool(t * nearest < _OUT_OF_SIGHT)
