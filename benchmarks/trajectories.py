"""Kendall coefficients between the magnitude of a training trajectory and the generalization gap.

    python benchmarks/trajectories.py [--quick] [--seeds 0 1] [--longest 2000] [--results FILE]

The protocol of Table 1 of "Approximating metric magnitude" on a small network: a perceptron with
one hidden layer of 64 units learns 500 images of scikit-learn's digits; the other 1,297 are the
test. From one vector of weights with high training accuracy, Adam takes 10,000 steps in every cell
of a grid of five learning rates and five batch sizes. The distance between two steps is the mean
absolute difference of their losses on the r training images, the scale t is sqrt(r). Mag_n and
PMag_n are the magnitude and the positive magnitude of the first n steps; shorter ones are also
measured at 16 times that scale.

The gap is that of theory, the worst one along the trajectory: the greatest difference of test and
training loss over every tenth of its steps. The same is printed for the error rate, and both for
the last step alone. psi_lr is Kendall's tau between gap and magnitude over cells that differ in the
learning rate only, averaged over the batch sizes; psi_bs the other way round; Psi is their average,
tau that of all cells. Standard errors take the groups that are averaged for independent.

Every cell is written to a file of JSON lines as soon as it is done and taken from it by the next
run. A seed takes 16 minutes of CPU time and 2.5 GB: of a cell, training takes 10 s, distances 13 s
and factors 13 s. With a smaller --longest, training goes on to 10,000 steps, and nothing longer is
measured than this.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.distance import cdist
from scipy.stats import kendalltau
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.functional import cross_entropy

from skmag import weighting

N_TRAIN, WIDTH, PRETRAINING = 500, 64, 1000
LEARNING_RATES = np.geomspace(1e-4, 1e-2, 5).tolist()
BATCH_SIZES = np.geomspace(8, 256, 5).round().astype(int).tolist()
N_STEPS, LENGTHS = 10_000, (500, 2_000, 10_000)
# Up to this length, trajectories are also measured at a finer scale.
FINE_LENGTH, FINE = 2_000, 16
GAPS = ("worst loss", "worst error", "last loss", "last error")
# Steps between two looks at the test set.
LOOK = 10
# Steps whose losses stay in the cache while distances to them are computed.
BLOCK_ROWS = 250


@dataclass(frozen=True)
class Digits:
    """Images and labels for training and for the test.

    Parameters
    ----------
    images, test_images : tensor of shape (n, 64)
        Pixels between 0 and 1.
    labels, test_labels : int64 tensor of shape (n,)
        Digits.
    """

    images: torch.Tensor
    test_images: torch.Tensor
    labels: torch.Tensor
    test_labels: torch.Tensor

    @classmethod
    def split(cls, seed: int) -> Digits:
        """Return the digits, split at random."""
        X, y = load_digits(return_X_y=True)
        parts = train_test_split(X / 16, y, train_size=N_TRAIN, stratify=y, random_state=seed)
        images, test_images, labels, test_labels = map(torch.from_numpy, parts)
        return cls(images, test_images, labels, test_labels)


@dataclass(frozen=True)
class Cell:
    """What one trajectory gave.

    Parameters
    ----------
    seed : int
        Seed of split, network and batches.
    learning_rate, batch_size : float, int
        The setting.
    gaps : dict of str to float
        Gaps by name.
    measured : dict of str to float
        Magnitudes by name.
    seconds : list of float
        CPU time of training, distances and factors.
    """

    seed: int
    learning_rate: float
    batch_size: int
    gaps: dict[str, float]
    measured: dict[str, float]
    seconds: list[float]


def step(network: nn.Module, optimizer: torch.optim.Optimizer, data: Digits, size: int) -> None:
    """Take one step on a batch drawn with replacement."""
    rows = torch.randint(len(data.labels), (size,))
    optimizer.zero_grad()
    cross_entropy(network(data.images[rows]), data.labels[rows]).backward()
    optimizer.step()


def pretrained(data: Digits, seed: int) -> nn.Module:
    """Return the network that all trajectories of a seed start from."""
    torch.manual_seed(seed)
    # In float32 the losses of a converged network are mostly rounding, which a positive magnitude
    # counts like any other noise.
    network = nn.Sequential(nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10)).double()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(PRETRAINING):
        step(network, optimizer, data, 64)
    return network


def trajectory(
    network: nn.Module, data: Digits, learning_rate: float, batch_size: int, n_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Losses of every training image after every step, and every ten steps both gaps."""
    network = copy.deepcopy(network)
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    losses, gaps = torch.empty(n_steps, len(data.labels), dtype=torch.float64), []
    for i in range(n_steps):
        step(network, optimizer, data, batch_size)
        with torch.no_grad():
            known = network(data.images)
            losses[i] = cross_entropy(known, data.labels, reduction="none")
            if i % LOOK == LOOK - 1:
                unknown = network(data.test_images)
                loss = cross_entropy(unknown, data.test_labels) - losses[i].mean()
                wrong = (unknown.argmax(1) != data.test_labels).double().mean()
                error = wrong - (known.argmax(1) != data.labels).double().mean()
                gaps.append([float(loss), float(error)])
    return losses.numpy(), np.array(gaps)


def pseudo_distances(losses: np.ndarray) -> np.ndarray:
    """Mean absolute differences of losses between all steps; half of them are computed."""
    table = np.empty((len(losses), len(losses)))
    starts = range(0, len(losses), BLOCK_ROWS)
    for i, j in combinations_with_replacement(starts, 2):
        rows, columns = slice(i, i + BLOCK_ROWS), slice(j, j + BLOCK_ROWS)
        block = cdist(losses[rows], losses[columns], "cityblock") / losses.shape[1]
        table[rows, columns] = block
        table[columns, rows] = block.T
    return table


def magnitudes(table: np.ndarray, lengths: Sequence[int]) -> dict[str, float]:
    """Magnitude and positive magnitude of the first n steps, for each n."""
    found = {}
    for factor in (1, FINE):
        for n in lengths if factor == 1 else [n for n in lengths if n <= FINE_LENGTH]:
            # A factor, since a table is not known to be positive definite until it has one; this
            # one is, as the distances are those of a 1-norm. It gives both quantities.
            t, part = factor * N_TRAIN**0.5, table[:n, :n]
            space = weighting(part, t=t, metric="precomputed", solver="cholesky")
            name = f"Mag_{n}" if factor == 1 else f"Mag_{n} at {factor} t"
            found[name] = space.magnitude
            found[f"P{name}"] = float(space.weights.clip(0).sum())
    return found


def measure(
    seed: int,
    network: nn.Module,
    data: Digits,
    setting: tuple[float, int],
    n_steps: int,
    lengths: Sequence[int],
) -> Cell:
    """Train in one setting, and return gaps and magnitudes of the trajectory."""
    times = [time.process_time()]
    torch.manual_seed(seed)
    losses, gaps = trajectory(network, data, *setting, n_steps)
    times.append(time.process_time())
    table = pseudo_distances(losses[: max(lengths)])
    times.append(time.process_time())
    measured = magnitudes(table, lengths)
    times.append(time.process_time())
    by_name = dict(zip(GAPS, [*gaps.max(0).tolist(), *gaps[-1].tolist()], strict=True))
    return Cell(seed, *setting, by_name, measured, np.diff(times).round(2).tolist())


def coefficient(gap: np.ndarray, measured: np.ndarray) -> float:
    """Kendall's tau-b, zero where one side is all equal and nothing is there to be ordered."""
    return float(kendalltau(gap, measured)[0]) if np.ptp(gap) and np.ptp(measured) else 0.0


def granulated(gap: np.ndarray, measured: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kendall's coefficients of two tables (rate, batch size), one for each of their groups.

    Returns
    -------
    over_rates : ndarray of shape (n_sizes,)
        Coefficients over learning rates, whose mean is psi_lr.
    over_sizes : ndarray of shape (n_rates,)
        Coefficients over batch sizes, whose mean is psi_bs.
    """
    over_rates = [coefficient(*pair) for pair in zip(gap.T, measured.T, strict=True)]
    over_sizes = [coefficient(*pair) for pair in zip(gap, measured, strict=True)]
    return np.array(over_rates), np.array(over_sizes)


def summary(groups: list[np.ndarray]) -> str:
    """Means of the groups, and the mean of both, each with its standard error."""
    means = [group.mean() for group in groups]
    errors = [group.std(ddof=1) / len(group) ** 0.5 for group in groups]
    means.append(np.mean(means))
    errors.append(np.hypot(*errors) / 2)
    return "".join(f"{m:7.2f} ({e:.2f})" for m, e in zip(means, errors, strict=True))


def show(cells: list[Cell], shape: tuple[int, int]) -> None:
    """Print the coefficients of each seed for every gap, and how they change with the length."""
    for seed in sorted({cell.seed for cell in cells}):
        own = [cell for cell in cells if cell.seed == seed]
        for name in GAPS:
            gap = np.reshape([cell.gaps[name] for cell in own], shape)
            print(f"\nseed {seed}, {name} gap, {gap.min():.3f} to {gap.max():.3f}")
            print(f"{'':20}{'psi_lr':>14}{'psi_bs':>14}{'Psi':>14}{'tau':>8}")
            groups = {}
            for kind in own[0].measured:
                values = np.reshape([cell.measured[kind] for cell in own], shape)
                groups[kind] = granulated(gap, values)
                tau = coefficient(gap.ravel(), values.ravel())
                print(f"{kind:20}{summary(list(groups[kind]))}{tau:8.2f}")
            for kind in ("Mag", "PMag"):
                lengths = [k for k in groups if k.startswith(kind + "_") and " " not in k]
                rise = [b - a for a, b in zip(groups[lengths[0]], groups[lengths[-1]], strict=True)]
                print(f"{'rise of ' + kind:20}{summary(rise)}")


def main() -> None:
    """Run what is not yet in the file of results, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 x 3 cells of 400 steps")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--longest", type=int, default=N_STEPS, help="measure up to so many steps")
    parser.add_argument("--results", type=Path, help="file of JSON lines to go on with")
    options = parser.parse_args()
    if options.quick and options.results:
        parser.error("--results is for whole cells, which --quick does not make")
    rates, sizes, n_steps = LEARNING_RATES, BATCH_SIZES, N_STEPS
    lengths = [n for n in LENGTHS if n <= options.longest]
    if options.quick:
        rates, sizes, n_steps, lengths = rates[::2], sizes[::2], 400, [100, 400]
    torch.set_num_threads(1)
    done = {}
    if options.results and options.results.exists():
        for line in options.results.read_text().splitlines():
            cell = Cell(**json.loads(line))
            done[cell.seed, cell.learning_rate, cell.batch_size] = cell
    cells = []
    for seed in options.seeds:
        data = Digits.split(seed)
        network = pretrained(data, seed)
        for rate in rates:
            for size in sizes:
                cell = done.get((seed, rate, size))
                if cell is None or any(f"Mag_{n}" not in cell.measured for n in lengths):
                    cell = measure(seed, network, data, (rate, size), n_steps, lengths)
                    if options.results:
                        with options.results.open("a") as file:
                            file.write(json.dumps(asdict(cell)) + "\n")
                cells.append(cell)
    show(cells, (len(rates), len(sizes)))
    print("\nCPU seconds (training, distances, factors):", end=" ")
    print(np.sum([cell.seconds for cell in cells], axis=0).round())


if __name__ == "__main__":
    main()
