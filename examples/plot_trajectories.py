"""
Training trajectories and generalization
========================================

How far a trained network wanders, seen from its training data, is said to tell how badly it
generalizes. Here one small network goes on training in 16 ways, and the magnitude and the positive
magnitude of each trajectory are compared with the greatest gap between test and training loss
along it.
"""

import copy

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.spatial.distance import cdist
from scipy.stats import kendalltau
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn.functional import cross_entropy

from skmag import magnitude, positive_magnitude

N_TRAIN, LENGTHS = 500, (500, 2000)
torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
parts = train_test_split(X / 16, y, train_size=N_TRAIN, stratify=y, random_state=0)
images, test_images, labels, test_labels = map(torch.from_numpy, parts)

# %%
# All trajectories start from the same weights, which get nearly every training image right.


def step(network, optimizer, batch_size):
    """Take one step on a random batch."""
    rows = torch.randint(N_TRAIN, (batch_size,))
    optimizer.zero_grad()
    cross_entropy(network(images[rows]), labels[rows]).backward()
    optimizer.step()


layers = torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
start = torch.nn.Sequential(*layers).double()
optimizer = torch.optim.Adam(start.parameters(), lr=1e-3)
for _ in range(1000):
    step(start, optimizer, 64)
print(f"{(start(images).argmax(1) == labels).double().mean():.1%} of the training images")

# %%
# After each step the losses of all training images are noted, and every tenth step the gap.


def trajectory(learning_rate, batch_size):
    """Losses after every step, and the greatest gap between test and training loss."""
    network, losses, gaps = copy.deepcopy(start), [], []
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    for i in range(max(LENGTHS)):
        step(network, optimizer, batch_size)
        with torch.no_grad():
            losses.append(cross_entropy(network(images), labels, reduction="none"))
            if i % 10 == 9:
                gaps.append(cross_entropy(network(test_images), test_labels) - losses[-1].mean())
    return torch.stack(losses).numpy(), float(max(gaps))


# %%
# Two steps are as far apart as their losses are on average. Steps that differ in no loss have
# distance zero, which makes this a pseudo-metric. The scale is the square root of the number of
# training images.
rates, sizes = np.geomspace(1e-4, 1e-2, 4), (8, 25, 80, 256)
gaps = np.empty((len(rates), len(sizes)))
found = {f"{kind}_{n}": np.empty_like(gaps) for kind in ("Mag", "PMag") for n in LENGTHS}
for cell in np.ndindex(gaps.shape):
    losses, gaps[cell] = trajectory(rates[cell[0]], sizes[cell[1]])
    distances = cdist(losses, losses, "cityblock") / N_TRAIN
    for n in LENGTHS:
        space = {"t": N_TRAIN**0.5, "metric": "precomputed"}
        found[f"Mag_{n}"][cell] = magnitude(distances[:n, :n], **space)
        found[f"PMag_{n}"][cell] = positive_magnitude(distances[:n, :n], **space)

# %%
# The granulated coefficients average Kendall's tau over settings that differ in one parameter only:
# psi_lr in the learning rate, psi_bs in the batch size. Psi is their average, tau that of all
# settings at once.


def coefficients(values):
    """Return psi_lr, psi_bs, Psi and tau of some values and the gap."""
    along_rates = np.mean([kendalltau(*pair)[0] for pair in zip(values.T, gaps.T, strict=True)])
    along_sizes = np.mean([kendalltau(*pair)[0] for pair in zip(values, gaps, strict=True)])
    tau = kendalltau(values.ravel(), gaps.ravel())[0]
    return along_rates, along_sizes, (along_rates + along_sizes) / 2, tau


print(f"{'':10}psi_lr  psi_bs     Psi     tau")
for name, values in found.items():
    print(f"{name:8}" + "".join(f"{value:8.2f}" for value in coefficients(values)))

# %%
# Lines join settings of one learning rate; larger dots are larger batches. Along the rates both
# magnitude and gap grow. Along the batch sizes they mostly do not go together: at all but the
# smallest rate a small batch makes a noisy trajectory, which is large, but overfits more slowly;
# only at the greatest rate is the noisiest trajectory also the one of the greatest gap. The
# positive magnitude counts the noise of single steps, which is there at every rate, and tells the
# rates apart less well.
figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharex=True, sharey=True, layout="constrained")
for ax, kind in zip(axes, ("Mag", "PMag"), strict=True):
    values = found[f"{kind}_{max(LENGTHS)}"]
    for i, rate in enumerate(rates):
        ax.plot(values[i], gaps[i], color="0.8", zorder=0)
        ax.scatter(values[i], gaps[i], s=12 * np.arange(1, 5) ** 2, label=f"rate {rate:.1g}")
    ax.set(xscale="log", xlabel=f"{kind}_{max(LENGTHS)}")
axes[0].set_xticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
axes[0].xaxis.set_minor_formatter("")
axes[0].set_ylabel("greatest gap of test and training loss")
axes[0].legend()
plt.show()
