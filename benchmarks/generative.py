"""Digits by MagGN beside WGAN and WGAN-GP: one generator, one loop, quality against CPU time.

Generator and critic are multilayer perceptrons, the generator's with batch normalization; pixels
run from -1 to 1. Batch, optimizer and learning rate were chosen for WGAN-GP and are shared. Every
method is given the same processor time on one thread, without what its evaluation takes, and the
paper's 500 epochs are shares of it. An MMD of the same kernel is trained beside. Results are
written to ``--folder`` as they come; methods that are there already are not trained again.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sample_quality import SIDE, Judge, read_digits
from torch import nn

from skmag.nn import MagnitudeCurriculum, magnitude_distance_loss

N_EPOCHS, STARTS = 500, (0, 100, 250, 350)
N_LATENT, WIDTH, BATCH, N_CRITIC = 64, 512, 128, 5
ADAM = {"lr": 1e-3, "betas": (0.5, 0.9)}
CLIP, PENALTY = 0.01, 10.0
N_SAMPLES, N_SHOWN = 5000, 60
# "estimator" is what MagnitudeGenerativeNetwork asks for.
PROPOSALS = {"data": {}, "estimator": {"n_scales": 2, "cumulative": False}}
PICTURED = ("wgan", "wgan-gp", "maggn-2", "mmd")


@dataclass(frozen=True)
class Method:
    """What a generator is trained by.

    Parameters
    ----------
    name : str
        Name in the tables.
    make_step : callable
        Makes, of the training images and the generator, a function that trains the generator once
        with the scales it is given.
    scales : sequence of float
        Scales, or a key of `PROPOSALS` to have them proposed from the training images.
    paper : float, default=None
        The paper's speedup beside WGAN, where it has one.
    together : bool, default=False
        Whether all scales take part from the start.
    """

    name: str
    make_step: Callable
    scales: tuple[float, ...] | str = ()
    paper: float | None = None
    together: bool = False

    def curriculum(self, images):
        """Scales of an epoch."""
        if self.scales in PROPOSALS:
            options = PROPOSALS[self.scales]
            return MagnitudeCurriculum.from_data(images, N_EPOCHS, batch_size=BATCH, **options).at
        if self.together or not self.scales:
            return lambda epoch: self.scales
        return MagnitudeCurriculum(self.scales, STARTS[: len(self.scales)]).at


def make_generator():
    layers, last = [], N_LATENT
    for _ in range(2):
        layers += [nn.Linear(last, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU()]
        last = WIDTH
    return nn.Sequential(*layers, nn.Linear(last, SIDE * SIDE), nn.Tanh())


def make_critic():
    layers, last = [], SIDE * SIDE
    for _ in range(2):
        layers += [nn.Linear(last, WIDTH), nn.LeakyReLU(0.2)]
        last = WIDTH
    return nn.Sequential(*layers, nn.Linear(last, 1))


def drawn(images):
    return images[torch.randint(len(images), (BATCH,))]


def made(generator):
    return generator(torch.randn(BATCH, N_LATENT))


def move(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def plain(critic, real, fake):
    """Critic's loss of WGAN."""
    return critic(fake).mean() - critic(real).mean()


def penalized(critic, real, fake):
    """Critic's loss of WGAN-GP."""
    share = torch.rand(len(real), 1)
    between = (share * real + (1 - share) * fake).requires_grad_()
    (slopes,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty = (slopes.norm(dim=1) - 1).square().mean()
    return critic(fake).mean() - critic(real).mean() + PENALTY * penalty


def adversarial(critic_loss, bound=None):
    """Train against a critic, which takes several steps before each of the generator."""

    def make_step(images, generator):
        critic = make_critic()
        own = torch.optim.Adam(critic.parameters(), **ADAM)
        optimizer = torch.optim.Adam(generator.parameters(), **ADAM)

        def step(scales):
            for _ in range(N_CRITIC):
                with torch.no_grad():
                    fake = made(generator)
                move(own, critic_loss(critic, drawn(images), fake))
                if bound is not None:
                    with torch.no_grad():
                        for weights in critic.parameters():
                            weights.clamp_(-bound, bound)
            critic.requires_grad_(False)
            move(optimizer, -critic(made(generator)).mean())
            critic.requires_grad_(True)

        return step

    return make_step


def mmd(fake, real, scales):
    """Unbiased squared MMD of the kernel exp(-t d), without the part of the real images alone."""
    own, across = torch.cdist(fake, fake), torch.cdist(fake, real)
    n = len(fake)
    kernels = [(torch.exp(-t * own).sum() - n) / (n * (n - 1)) for t in scales]
    return sum(kernels) - 2 * sum(torch.exp(-t * across).mean() for t in scales)


def magnitude(normalized):
    def loss(fake, real, scales):
        return magnitude_distance_loss(fake, real, scales, normalized=normalized)

    return loss


def matching(loss):
    """Train by a distance between a batch of images and a batch of real ones."""

    def make_step(images, generator):
        optimizer = torch.optim.Adam(generator.parameters(), **ADAM)

        def step(scales):
            move(optimizer, loss(made(generator), drawn(images), scales))

        return step

    return make_step


METHODS = {
    "wgan": Method("WGAN", adversarial(plain, CLIP), paper=1.0),
    "wgan-gp": Method("WGAN-GP", adversarial(penalized), paper=0.85),
    "maggn-2": Method("MagGN, paper, 0.2", matching(magnitude(True)), (0.01, 0.2, 2.0, 8.0), 11.97),
    "maggn-3": Method("MagGN, paper, 0.3", matching(magnitude(True)), (0.01, 0.3, 2.0, 8.0), 10.95),
    "maggn-plain": Method(
        "MagGN, paper, not normalized", matching(magnitude(False)), (0.01, 0.3, 2.0, 10.0), 12.14
    ),
    "maggn-data": Method("MagGN, scales from data", matching(magnitude(True)), "data"),
    "maggn-default": Method("MagGN, estimator's", matching(magnitude(True)), "estimator"),
    "maggn-together": Method(
        "MagGN, 0.01 and 0.2", matching(magnitude(True)), (0.01, 0.2), together=True
    ),
    "maggn-tuned": Method("MagGN, 0.2 alone", matching(magnitude(True)), (0.2,)),
    "mmd": Method("MMD, 0.2 alone", matching(mmd), (0.2,)),
}


@torch.no_grad()
def sampled(generator):
    """Images of latent vectors that are the same each time, pixels from 0 to 1."""
    latent = torch.randn(N_SAMPLES, N_LATENT, generator=torch.Generator().manual_seed(1))
    generator.eval()
    images = torch.cat([generator(part) for part in latent.split(500)])
    generator.train()
    return (images + 1) / 2


def trained(method, images, judge, seconds, n_judged, seed):
    """Figures at times that grow geometrically and at the end, and the last samples."""
    torch.manual_seed(seed)
    generator = make_generator()
    start = time.process_time()
    step, scales = method.make_step(images, generator), method.curriculum(images)
    curve, used, n_steps = [], time.process_time() - start, 0
    coming = list(np.geomspace(seconds / 60, seconds, n_judged, endpoint=False))
    while used < seconds:
        start = time.process_time()
        step(scales(int(N_EPOCHS * used / seconds)))
        used += time.process_time() - start
        n_steps += 1
        if coming and used >= coming[0]:
            coming.pop(0)
            curve.append({"seconds": used, "steps": n_steps, **judge(sampled(generator))})
    samples = sampled(generator)
    figures = judge(samples, pixels=True)
    curve.append({"seconds": used, "steps": n_steps, **figures})
    used_scales = [scales(epoch) for epoch in (0, N_EPOCHS - 1)]
    record = {"scales": used_scales, "seconds": used, "steps": n_steps, "asked": [seconds, seed]}
    return {**record, "figures": figures, "curve": curve}, samples


def time_to(record, level):
    """Seconds after which the KID is at most this, and stays there; None if it never is."""
    for i, point in enumerate(record["curve"]):
        if all(later["kid"] <= level for later in record["curve"][i:]):
            return point["seconds"]
    return None


def quality(records, real):
    table = Table(
        "method", "steps", "KID", "KID, pixels x 10^3", "confidence", "entropy", "classes"
    )
    table.title = "Samples at the end"
    for name, steps, own in [
        *((METHODS[name].name, f"{r['steps']:,}", r["figures"]) for name, r in records.items()),
        ("other real digits", "", real),
    ]:
        shown = (own["kid"], 1e3 * own["pixel_kid"], own["confidence"], own["entropy"])
        table.add_row(name, steps, *(f"{value:.3f}" for value in shown), f"{own['classes']}")
    return table


def times(records):
    """Time for as many steps, as the paper has it, and time to as good samples."""
    levels = [0.5, 0.3, 0.2, 0.15]
    if "wgan-gp" in records:
        # A little above its last value, which else it would reach with luck only.
        levels.append(1.05 * records["wgan-gp"]["figures"]["kid"])
    table = Table("method", "ms per step", "x WGAN", "paper", title="Time, CPU seconds")
    for level in levels:
        table.add_column(f"KID {level:.2f}", justify="right")
    table.add_column("x WGAN-GP", justify="right")
    pace = {name: own["seconds"] / own["steps"] for name, own in records.items()}
    for name, own in records.items():
        paper = METHODS[name].paper
        reached = [time_to(own, level) for level in levels]
        cells = ["-" if seconds is None else f"{seconds:.0f}" for seconds in reached]
        ratios = ["-", "-"]
        if "wgan" in pace:
            ratios[0] = f"{pace['wgan'] / pace[name]:.2f}"
        if "wgan-gp" in records and reached[-1]:
            ratios[1] = f"{time_to(records['wgan-gp'], levels[-1]) / reached[-1]:.2f}"
        shown = "" if paper is None else f"{paper:.2f}"
        table.add_row(
            METHODS[name].name, f"{1e3 * pace[name]:.0f}", ratios[0], shown, *cells, ratios[1]
        )
    return table


def pulls(images):
    """What each scale says: loss, and length of its gradient at an image."""
    torch.manual_seed(0)
    real, other = drawn(images), drawn(images)
    noisy = (other + 0.2 * torch.randn_like(other)).clamp(-1, 1)
    starts = {
        "untrained": made(make_generator()).detach(),
        "noisy digits": noisy,
        "other digits": other,
    }
    table = Table("t", title="Normalized loss, gradient at an image")
    for name in starts:
        table.add_column(name, justify="right")
    for t in (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 8.0, 10.0):
        cells = []
        for start in starts.values():
            points = start.clone().requires_grad_()
            loss = magnitude_distance_loss(points, real, t, normalized=True)
            loss.backward()
            cells.append(f"{loss.item():.3f}  {points.grad.norm(dim=1).mean():.0e}")
        table.add_row(f"{t:g}", *cells)
    return table


def as_bytes(samples):
    return (255 * samples[:N_SHOWN]).round().to(torch.uint8).numpy()


def pictured(records, folder, real, file):
    """Samples of some methods side by side, and KID of all against time."""
    shown = {METHODS[n].name: np.load(folder / f"{n}.npy") for n in PICTURED if n in records}
    shown["real"] = real
    figure = plt.figure(figsize=(2 * len(shown), 7), layout="constrained")
    grid = figure.add_gridspec(2, len(shown), height_ratios=(1, 1.1))
    for place, (name, images) in enumerate(shown.items()):
        ax = figure.add_subplot(grid[0, place])
        tiles = images[:N_SHOWN].reshape(10, 6, SIDE, SIDE).transpose(0, 2, 1, 3)
        ax.imshow(tiles.reshape(10 * SIDE, 6 * SIDE), cmap="gray_r")
        ax.set_title(name, fontsize="medium")
        ax.set_axis_off()
    ax = figure.add_subplot(grid[1, :])
    for name, own in records.items():
        seconds = [point["seconds"] for point in own["curve"]]
        ax.plot(seconds, [point["kid"] for point in own["curve"]], label=METHODS[name].name)
    ax.set(xscale="log", yscale="log", xlabel="CPU seconds", ylabel="KID")
    ax.legend(ncols=2)
    figure.savefig(file, dpi=80)


def main():
    """Train what is asked for and print the tables of all that is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds for each method")
    parser.add_argument("--minutes", type=float, default=2.0, help="processor time of a method")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "generative-results"
    )
    arguments = parser.parse_args()
    seconds, n_judged = (3.0, 0) if arguments.quick else (60 * arguments.minutes, 15)
    folder = arguments.folder / ("quick" if arguments.quick else "")
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    console = Console(width=130)
    train, labels, test, asked = read_digits()
    judge = Judge(train, labels, test, asked, n_epochs=1 if arguments.quick else 3)
    console.print(f"the judge knows {judge.accuracy:.2%} of the test digits")
    images = 2 * train - 1
    for name in arguments.methods:
        file = folder / f"{name}.json"
        asked_for = [seconds, arguments.seed]
        if file.exists() and json.loads(file.read_text()).get("asked") == asked_for:
            continue
        method = METHODS[name]
        record, samples = trained(method, images, judge, seconds, n_judged, arguments.seed)
        # The record comes last: where it is, the run is complete.
        np.save(file.with_suffix(".npy"), as_bytes(samples))
        file.write_text(json.dumps(record, indent=1))
        console.print(f"{name}: KID {record['figures']['kid']:.3f}")
    files = {name: folder / f"{name}.json" for name in METHODS}
    records = {name: json.loads(own.read_text()) for name, own in files.items() if own.exists()}
    pictured(records, folder, as_bytes(judge.held_out), folder / "generators.png")
    console.print(pulls(images), quality(records, judge(judge.held_out, pixels=True)))
    console.print(times(records), f"samples and curves: {folder / 'generators.png'}")


if __name__ == "__main__":
    main()
