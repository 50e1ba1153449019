r"""
Distances in many dimensions, beside their null
===============================================

Two normal samples of 500 points whose means are 2 apart, then :math:`2\sqrt{D}` apart, in more and
more dimensions D: Figures 2, 3 and 7 of the paper, with 5 trials where the paper has 100, and the
null drawn in. A null is the same distance between two random halves of both samples together.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import pairwise_distances

from skmag import magnitude_distance

dimensions = [2, 5, 10, 30, 100, 300, 1000]
rng = np.random.default_rng(0)


def gaussian_mmd(squared, sigma):
    """MMD of the first half of the rows and the second."""
    kernel = np.exp(-squared / (2 * sigma**2))
    sign = np.repeat([1.0, -1.0], len(kernel) // 2) / (len(kernel) // 2)
    return np.sqrt(max(0.0, sign @ kernel @ sign))


def sliced_wasserstein(X, Y):
    """Mean Wasserstein distance over 50 random directions."""
    direction = rng.normal(size=(X.shape[1], 50))
    direction /= np.linalg.norm(direction, axis=0)
    return np.abs(np.sort(X @ direction, axis=0) - np.sort(Y @ direction, axis=0)).mean()


def distances(X, Y):
    """All distances of the figures, in the order of `names`."""
    d = X.shape[1]
    squared = pairwise_distances(np.vstack([X, Y]), metric="sqeuclidean")
    magnitudes = magnitude_distance(X, Y, t=[0.01, 0.1, 1 / d, d**-0.5], normalized=True)
    mmds = gaussian_mmd(squared, 1.0), gaussian_mmd(squared, d**-0.5)
    return [*magnitudes, *mmds, sliced_wasserstein(X, Y)]


names = ["t = 0.01", "t = 0.1", "t = 1/D", "t = 1/sqrt(D)"]
names += ["MMD, sigma = 1", "MMD, sigma = 1/sqrt(D)", "sliced Wasserstein"]
colors = ["tab:blue", "purple", "goldenrod", "tab:red", "tab:green", "lightgreen", "black"]


def trials(shift, d, n_trials):
    """Distances between samples, and between random halves of both."""
    found = []
    for _ in range(n_trials):
        X, Y = rng.normal(size=(2, 500, d))
        Y += shift / np.sqrt(d)
        halves = np.split(rng.permutation(np.vstack([X, Y])), 2)
        found.append([distances(X, Y), distances(*halves)])
    return np.swapaxes(found, 0, 1)


# %%
# Figures 2 and 3. The mean of a distance says nothing without its null, and neither does its
# coefficient of variation, standard deviation over mean: a distance that is mostly null is steady
# whatever it compares. The last panel has what decides, the gap between both.
near = np.array([trials(2.0, d, 5) for d in dimensions])
mean, null = near.mean(axis=2).transpose(1, 2, 0)
deviation, null_deviation = near.std(axis=2, ddof=1).transpose(1, 2, 0)

figure, axes = plt.subplots(1, 3, figsize=(14, 4.6), layout="constrained")
for i, (name, color) in enumerate(zip(names, colors, strict=True)):
    axes[0].plot(dimensions, mean[i], color=color, marker=".", label=name)
    axes[0].plot(dimensions, null[i], color=color, linestyle="--", alpha=0.6)
    axes[1].plot(dimensions, deviation[i] / mean[i], color=color, marker=".")
    axes[1].plot(dimensions, null_deviation[i] / null[i], color=color, linestyle="--", alpha=0.6)
    spread = np.hypot(deviation[i], null_deviation[i]) / np.sqrt(2)
    axes[2].plot(dimensions, (mean[i] - null[i]) / spread.clip(1e-9), color=color, marker=".")
axes[0].set_title("Figure 2: mean distance; dashed: null")
axes[1].set_title("Figure 3: coefficient of variation")
axes[2].set_title("gap to the null in standard deviations")
axes[1].set_yscale("log")
axes[1].set_ylim(1e-3, 0.5)  # an MMD that has collapsed varies by rounding only
axes[2].set_yscale("symlog")
axes[0].legend(fontsize="small")
for ax in axes:
    ax.set_xscale("log")
    ax.set_xlabel("dimension D")
plt.show()

# %%
# Figure 7: a shift of 2 in every coordinate, 3 trials. At every scale the magnitude distance is at
# least twice its null; the MMD of bandwidth 1 is nothing but its null from D = 30 on.
far = np.array([trials(2.0 * np.sqrt(d), d, 3) for d in dimensions]).mean(axis=2)
figure, ax = plt.subplots(figsize=(6.5, 4.4), layout="constrained")
for i, (name, color) in enumerate(zip(names[:5], colors, strict=False)):
    ax.plot(dimensions, far[:, 0, i], color=color, marker=".", label=name)
    ax.plot(dimensions, far[:, 1, i], color=color, linestyle="--", alpha=0.6)
ax.set_xscale("log")
ax.set_xlabel("dimension D")
ax.set_ylabel("mean distance; dashed: null")
ax.set_title("Figure 7: means 2 sqrt(D) apart")
ax.legend(fontsize="small")
plt.show()

# %%
# At D = 1000 and t = 1/sqrt(D) the means that are 2 apart are nearly lost: distance and null.
float(mean[3, -1].round(4)), float(null[3, -1].round(4))
