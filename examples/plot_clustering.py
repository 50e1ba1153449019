"""
How many clusters?
==================

A point joins the cluster whose magnitude it increases least, if the gain is below a threshold. How
many clusters there are depends on that threshold. The clusterer runs through all thresholds, takes
the number that lasts longest, and leaves a record in which finer structure can be seen as well.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from sklearn.datasets import make_blobs, make_moons

from skmag import ClusterPersistenceDisplay, MagnitudeClustering

rng = np.random.default_rng(0)
moons, _ = make_moons(200, noise=0.05, random_state=0)
centers = [[-1.2, 2.0], [2.2, 2.0]]
blobs, _ = make_blobs(100, centers=centers, cluster_std=0.2, random_state=0)
outliers = rng.uniform([-2.5, -1.5], [3.5, 3.0], size=(15, 2))
X = np.vstack([moons, blobs, outliers])
model = MagnitudeClustering(random_state=0).fit(X)

# %%
# Left: the number of clusters at each threshold, with the longest stretch shaded. It has the two
# moons together, which lie closer to each other than to the blobs. The next longest stretch has
# four clusters; a threshold from it tells the moons apart.
finer = MagnitudeClustering(threshold=0.35, random_state=0).fit(X)

figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
ClusterPersistenceDisplay.from_estimator(model, ax=axes[0], color="black")
axes[0].axvline(finer.threshold_, color="black", linestyle=":")
axes[0].set_title(f"{len(model.counts_)} runs")

# Where new points would be assigned: white is too far from every cluster.
across, up = np.meshgrid(np.linspace(-2.8, 3.8, 160), np.linspace(-1.8, 3.3, 120))
grid = np.column_stack([across.ravel(), up.ravel()])
for ax, shown in zip(axes[1:], (model, finer), strict=True):
    k = shown.n_clusters_
    limits = {"vmin": -1.5, "vmax": k - 0.5}
    shades = ListedColormap(["#ffffff", *plt.get_cmap("Set2").colors[:k]])
    colors = ListedColormap(["#888888", *plt.get_cmap("Dark2").colors[:k]])
    label = shown.predict(grid).reshape(across.shape)
    ax.pcolormesh(across, up, label, cmap=shades, alpha=0.35, **limits)
    ax.scatter(*X.T, c=shown.labels_, cmap=colors, s=12, **limits)
    ax.set_title(f"{k} clusters at threshold {shown.threshold_:.2f}; noise in grey")
    ax.set_aspect("equal")
plt.show()

# %%
# Size of each cluster, and its magnitude: its effective number of points at this scale.
sizes = np.bincount(finer.labels_[finer.labels_ >= 0])
list(zip(sizes.tolist(), finer.cluster_magnitudes_.round(1).tolist(), strict=True))
