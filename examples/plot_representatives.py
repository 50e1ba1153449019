"""
Which points represent the rest
===============================

A few well-chosen points have nearly the magnitude of all. Greedy choice takes the point by which
the magnitude grows most, centers the point farthest from the ones chosen. Both begin at the rim and
leave dense places to the end, while a random choice follows the density.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_blobs

from skmag import DiscreteCenterHierarchy, MagnitudeSubsetSelector, magnitude

X, _ = make_blobs([350, 100, 50], centers=[[0, 0], [7, 3], [1, 8]], random_state=1)
strategies = {"greedy": "C0", "centers": "C1", "random": "C2"}
selectors = {
    strategy: MagnitudeSubsetSelector(None, strategy=strategy, random_state=0).fit(X)
    for strategy in strategies
}

# %%
# The first 30 points of each strategy, and the share of the magnitude that the first k have.
figure, axes = plt.subplots(1, 4, figsize=(15, 3.8), layout="constrained")
for ax, (strategy, color) in zip(axes, strategies.items(), strict=False):
    first = selectors[strategy].sample_indices_[:30]
    ax.scatter(*X.T, s=5, color="lightgrey")
    ax.scatter(*X[first].T, s=25, color=color, edgecolors="black", linewidths=0.5)
    ax.set(title=strategy, xticks=[], yticks=[], aspect="equal")
whole = magnitude(X, t=selectors["greedy"].t_)
for strategy, color in strategies.items():
    curve = selectors[strategy].magnitudes_ / whole
    axes[3].plot(np.arange(1, len(curve) + 1), curve, color=color, label=strategy)
axes[3].axvline(30, color="grey", linestyle=":", linewidth=1)
axes[3].set(xscale="log", xlabel="number of points", title="share of the magnitude")
axes[3].legend(loc="lower right")
plt.show()

# %%
# The centers of every scale at once: each covering set contains the coarser ones, every point lies
# within its radius of a center, and the centers are more than that radius apart.
hierarchy = DiscreteCenterHierarchy(X)
figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained", sharey=True)
for ax, radius in zip(axes, [4.0, 2.0, 1.0], strict=True):
    centers = hierarchy.centers(radius)
    ax.scatter(*X.T, s=5, color="lightgrey")
    for center in X[centers]:
        ax.add_patch(plt.Circle(center, radius, color="C1", alpha=0.12))
    ax.scatter(*X[centers].T, s=15, color="C1")
    ax.set(title=f"radius {radius:g}: {len(centers)} centers", aspect="equal", xticks=[], yticks=[])
plt.show()
