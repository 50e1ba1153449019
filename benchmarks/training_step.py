"""One training step of the magnitude distance beside MMD and beside autograd through a factor.

A step is the loss of a batch of generated points beside one of real points, and its gradient by
the generated points, in the type and at the scales that are printed. The peers share the kernel
``exp(-t d)``: MMD in plain torch, as its users write it, and the magnitude distance in plain torch,
differentiated through ``torch.linalg.cholesky``, which is tried in float64, since in float32 it
fails at small scales. All take turns in one process; CPU time, so that waiting for others is not
counted; the ratio is the median over the rounds.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from side_by_side import limit_threads

from skmag.nn import magnitude_distance_loss

CASES = [
    # batch, features, scales
    (512, 784, (0.1,)),
    (512, 784, (0.01, 0.2, 2.0, 8.0)),
    (128, 784, (0.1,)),
    (512, 64, (0.1,)),
    (1024, 784, (0.1,)),
]


def mmd(X, Y, scales):
    """Unbiased squared MMD with the sum of the kernels."""
    n, m = len(X), len(Y)
    within_x, between, within_y = torch.cdist(X, X), torch.cdist(X, Y), torch.cdist(Y, Y)
    total = 0.0
    for t in scales:
        total = total + (torch.exp(-t * within_x).sum() - n) / (n * (n - 1))
        total = total + (torch.exp(-t * within_y).sum() - m) / (m * (m - 1))
        total = total - 2 * torch.exp(-t * between).mean()
    return total


def through_cholesky(X, Y, scales):
    """Magnitude distance whose derivative torch takes through the factors."""
    first, second = X.double(), Y.double()
    sets = torch.cat([first, second]), first, second

    def magnitude(distance, t):
        lower = torch.linalg.cholesky(torch.exp(-t * distance))
        ones = torch.ones(len(distance), 1, dtype=torch.float64)
        return torch.linalg.solve_triangular(lower, ones, upper=False).square().sum()

    distances = [torch.cdist(own, own) for own in sets]
    total = 0.0
    for t in scales:
        whole, one, other = (magnitude(distance, t) for distance in distances)
        total = total + 2 * whole - one - other
    return total


def step(loss, X, Y, scales):
    """CPU seconds of one loss and its gradient."""
    X.grad = None
    start = time.process_time()
    loss(X, Y, scales).backward()
    return time.process_time() - start


def compare(batch, features, scales, rounds):
    """Median CPU seconds of each loss, and ours as a multiple of the others."""
    rng = torch.Generator().manual_seed(0)
    X = torch.rand(batch, features, generator=rng).requires_grad_()
    Y = torch.rand(batch, features, generator=rng)
    losses = {
        "magnitude": partial(magnitude_distance_loss, normalized=True),
        "mmd": mmd,
        "cholesky": through_cholesky,
    }
    for loss in losses.values():
        step(loss, X, Y, scales)
    seen = {name: [] for name in losses}
    for i in range(rounds):
        names = list(losses)
        for name in names[i % 3 :] + names[: i % 3]:
            seen[name].append(step(losses[name], X, Y, scales))
    return {
        "batch": batch,
        "features": features,
        "scales": scales,
        "seconds": {name: median(seconds) for name, seconds in seen.items()},
        "of_mmd": median(a / b for a, b in zip(seen["magnitude"], seen["mmd"], strict=True)),
        "of_cholesky": median(
            a / b for a, b in zip(seen["magnitude"], seen["cholesky"], strict=True)
        ),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    results = [compare(*case, arguments.rounds) for case in CASES]
    table = Table(
        "batch", "features", "scales", "magnitude, ms", "MMD, ms", "Cholesky, ms",
        "/ MMD", "/ Cholesky",
        title=f"one training step in float32, CPU time, {arguments.threads} thread(s)",
    )  # fmt: skip
    for result in results:
        table.add_row(
            str(result["batch"]),
            str(result["features"]),
            str(len(result["scales"])),
            *(f"{1e3 * seconds:.1f}" for seconds in result["seconds"].values()),
            f"{result['of_mmd']:.2f}",
            f"{result['of_cholesky']:.2f}",
        )
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
