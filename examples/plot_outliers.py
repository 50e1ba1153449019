"""
What an outlier detector can and cannot see
===========================================

Two clouds, uniform noise, and a tight clump of outliers. Beside small random subsamples the clump
has much room; beside the whole set its points explain one another.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score

from skmag import MagnitudeOutlierDetector

rng = np.random.default_rng(0)
clouds = rng.normal(size=(300, 2)) + np.repeat([[3.0], [-3.0]], 150, axis=0)
noise = rng.uniform(-8, 8, size=(15, 2))
clump = 0.15 * rng.normal(size=(12, 2)) + [5.5, -5.5]
X = np.vstack([clouds, noise, clump])
is_outlier = np.arange(len(X)) >= 300

# %%
# Three rules on the same points: the bagged residual (the default), the gain over the inliers (the
# paper's Algorithm 3), and the residual beside all other points.
detectors = {
    "residual, bagged": MagnitudeOutlierDetector(random_state=0),
    "paper": MagnitudeOutlierDetector(criterion="paper", metric="euclidean"),
    "gain": MagnitudeOutlierDetector(criterion="gain", metric="euclidean"),
}
side = np.linspace(-8.5, 8.5, 120)
grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)

figure, axes = plt.subplots(1, 3, figsize=(13, 4.4), layout="constrained", sharey=True)
for ax, (name, detector) in zip(axes, detectors.items(), strict=True):
    found = detector.fit_predict(X) == -1
    score = detector.decision_function(grid).reshape(120, 120)
    shades = ax.contourf(side, side, score, 20, cmap="Blues_r")
    if score.min() < 0 < score.max():
        ax.contour(side, side, score, [0.0], colors="black", linewidths=1)
    figure.colorbar(shades, ax=ax, label="decision function")
    ax.scatter(*X[~found].T, s=8, color="white", edgecolors="black", linewidths=0.4)
    ax.scatter(*X[found].T, s=18, color="tab:red", edgecolors="black", linewidths=0.4)
    auc = roc_auc_score(is_outlier, -detector.scores_)
    ax.set_title(f"{name}: AUC {auc:.2f}")
plt.show()

# %%
# The clump is found by the bagged residual alone: share of its twelve points that is marked.
{
    name: float((detector.fit_predict(X)[-12:] == -1).mean().round(2))
    for name, detector in detectors.items()
}
