"""Magnitude of the weights as a regularizer, beside weight decay: Table 2 of the paper, shortened.

    python benchmarks/regularizer.py [--quick]

"Approximating metric magnitude of point sets" trains five networks with two hidden layers on MNIST
for 2,000 epochs, with lambda times the magnitude of the weights as a penalty, at a learning rate of
0.001. Width, batch and optimizer are not said. Here: 128 units in either layer, Adam, batches of
512, and so many epochs that the network without a penalty reaches the paper's training loss. Beside
it weight decay, decoupled (AdamW) and as L2 penalty in the loss, the paper's sample of weights, and
a penalty on half the range of the weights, which the magnitude nearly is at t = 1; and SGD, whose
steps grow with lambda, as Adam's do not. The last table is the CPU time of a training step. MNIST
is read from the folder that SKMAG_DATA names.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from side_by_side import limit_threads

from skmag import datasets
from skmag.nn import MagnitudeRegularizer

WIDTH, BATCH, LEARNING_RATE = 128, 512, 1e-3
# Of SGD, to reach as far in as many steps.
DESCENT_RATE, MOMENTUM = 0.05, 0.9
STRENGTHS = (0.0, 0.1, 0.2, 0.5, 1.0)
DECOUPLED = (0.01, 0.03, 0.1, 0.3, 1.0)
IN_LOSS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
# Training loss, test loss, gap and magnitude of the paper's Table 2.
PAPER = {
    0.0: (0.0021, 0.0757, 0.0736, 1.5810),
    0.1: (0.0041, 0.0641, 0.0600, 1.1567),
    0.2: (0.0061, 0.0607, 0.0546, 1.1293),
    0.5: (0.0103, 0.0602, 0.0499, 1.0842),
    1.0: (0.0167, 0.0631, 0.0464, 1.0668),
}

Labelled = tuple[torch.Tensor, torch.Tensor]


def mnist(n_train: int) -> tuple[Labelled, Labelled]:
    """The first training images and all test images, pixels from 0 to 1."""
    X, y = datasets.load("mnist")
    folder = Path(os.environ["SKMAG_DATA"]) / "mnist"
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
        Z = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, X.shape[1])
    with gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as file:
        asked = np.frombuffer(file.read(), np.uint8, offset=8)
    pairs = ((X[:n_train], y[:n_train]), (Z, asked))
    train, test = (
        (torch.tensor(np.asarray(a) / 255, dtype=torch.float32), torch.tensor(b.astype(int)))
        for a, b in pairs
    )
    return train, test


def new_network(seed: int) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(784, WIDTH),
        torch.nn.ReLU(),
        torch.nn.Linear(WIDTH, WIDTH),
        torch.nn.ReLU(),
        torch.nn.Linear(WIDTH, 10),
    )


def squares(network: torch.nn.Module) -> torch.Tensor:
    """Half the sum of squares of the weights."""
    return torch.stack([p.square().sum() for p in network.parameters()]).sum() / 2


def half_range(network: torch.nn.Module) -> torch.Tensor:
    """Half the range of the weights, which the magnitude less one is at t = 1, nearly."""
    weights = torch.cat([p.reshape(-1) for p in network.parameters()])
    return (weights.max() - weights.min()) / 2


def measures(network: torch.nn.Module, train: Labelled, test: Labelled) -> dict[str, float]:
    """Losses, accuracy, magnitude and range of the weights."""
    with torch.no_grad():
        answers = [(network(X), y) for X, y in (train, test)]
        losses = [float(torch.nn.functional.cross_entropy(*pair)) for pair in answers]
        right = float((answers[1][0].argmax(1) == test[1]).double().mean())
        weights = torch.cat([p.reshape(-1) for p in network.parameters()])
    return {
        "train": losses[0],
        "test": losses[1],
        "gap": losses[1] - losses[0],
        "accuracy": right,
        "magnitude": MagnitudeRegularizer().magnitude(network),
        "range": float(weights.max() - weights.min()),
        "norm": float(weights.norm()),
    }


def trained(
    train: Labelled,
    test: Labelled,
    n_epochs: int,
    seed: int,
    penalty: Callable[[torch.nn.Module], torch.Tensor] | None = None,
    decoupled: float = 0.0,
    *,
    descent: bool = False,
) -> dict[str, float]:
    """Train one network, with `descent` by SGD instead of Adam, and say how it does."""
    network, (X, y) = new_network(seed), train
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(
        network.parameters(), lr=LEARNING_RATE, weight_decay=decoupled
    )
    if descent:
        optimizer = torch.optim.SGD(network.parameters(), lr=DESCENT_RATE, momentum=MOMENTUM)
    start = time.process_time()
    for _ in range(n_epochs):
        for rows in torch.randperm(len(X)).split(BATCH):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(X[rows]), y[rows])
            if penalty is not None:
                loss = loss + penalty(network)
            loss.backward()
            optimizer.step()
    seconds = time.process_time() - start
    return {**measures(network, train, test), "seconds": seconds}


def ways() -> dict[str, tuple[float, dict]]:
    """Name of each setting, its strength and what :func:`trained` takes for it."""
    out: dict[str, tuple[float, dict]] = {}
    for strength in STRENGTHS:
        penalty = MagnitudeRegularizer(strength) if strength else None
        out[f"magnitude {strength}"] = strength, {"penalty": penalty}
    sampled = MagnitudeRegularizer(0.5, n_sampled=1000)
    out["sampled 0.5"] = 0.5, {"penalty": sampled}
    out["half the range 0.5"] = 0.5, {"penalty": lambda network: 0.5 * half_range(network)}
    for decay in DECOUPLED:
        out[f"decoupled decay {decay}"] = decay, {"decoupled": decay}
    for decay in IN_LOSS:
        out[f"L2 penalty {decay}"] = decay, {"penalty": lambda n, decay=decay: decay * squares(n)}
    for strength in STRENGTHS:
        penalty = MagnitudeRegularizer(strength) if strength else None
        out[f"SGD, magnitude {strength}"] = strength, {"penalty": penalty, "descent": True}
    for decay in IN_LOSS:
        penalty = {"penalty": lambda n, decay=decay: decay * squares(n)}
        out[f"SGD, L2 penalty {decay}"] = decay, {**penalty, "descent": True}
    return out


def step_times(train: Labelled, n_rounds: int) -> dict[str, float]:
    """CPU milliseconds of a training step, without and with the regularizer, in turns."""
    X, y = train[0][:BATCH], train[1][:BATCH]
    penalties = {
        "no penalty": None,
        "L2 penalty": lambda network: 1e-4 * squares(network),
        "closed form": MagnitudeRegularizer(0.5),
        "1,000 sampled": MagnitudeRegularizer(0.5, n_sampled=1000),
        "half the range": lambda network: 0.5 * half_range(network),
    }
    taken: dict[str, list[float]] = {name: [] for name in penalties}
    network = new_network(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    for _ in range(n_rounds):
        for name, penalty in penalties.items():
            start = time.process_time()
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(X), y)
            if penalty is not None:
                loss = loss + penalty(network)
            loss.backward()
            optimizer.step()
            taken[name].append(1e3 * (time.process_time() - start))
    return {name: float(np.median(values)) for name, values in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5,000 images, one seed, 20 epochs")
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=35)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="settings whose names begin so")
    parser.add_argument("--json", help="file for all figures")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.images, arguments.epochs, arguments.seeds = 5_000, 20, 1
    limit_threads(1)
    torch.set_num_threads(1)
    train, test = mnist(arguments.images)
    print(
        f"{len(train[0]):,} training images, {arguments.epochs} epochs, means over "
        f"{arguments.seeds} seeds, test loss of each; the paper's figures in brackets"
    )
    columns = ("train", "test", "gap", "magnitude", "accuracy", "range", "norm", "seconds")
    print(f"{'':24}" + "".join(f"{name:>17}" for name in columns))
    figures = {}
    for name, (strength, settings) in ways().items():
        if not name.startswith(arguments.only):
            continue
        runs = [
            trained(train, test, arguments.epochs, seed, **settings)
            for seed in range(arguments.seeds)
        ]
        figures[name] = runs
        mean = {key: float(np.mean([run[key] for run in runs])) for key in columns}
        paper = PAPER[strength] if "magnitude" in name else ()
        cells = [f"{mean[key]:.4f}" for key in columns]
        for i, value in enumerate(paper):
            cells[i] += f" ({value:.4f})"
        each = " ".join(f"{run['test']:.4f}" for run in runs)
        print(f"{name:24}" + "".join(f"{cell:>17}" for cell in cells) + f"   {each}", flush=True)
    times = step_times(train, 20 if arguments.quick else 200)
    alone = times["no penalty"]
    print(
        f"\nCPU milliseconds of a step on {BATCH} images, and as a multiple of one without penalty"
    )
    for name, value in times.items():
        print(f"{name:24}{value:>10.2f}{value / alone:>10.2f}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"runs": figures, "step": times}, indent=1))


if __name__ == "__main__":
    main()
