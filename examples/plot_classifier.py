"""
What decides a class
====================

The magnitude classifier gives each class its own weighting and asks both about a query. Left: how
much room each class leaves, as the difference of the logarithms of the residuals. Right: queries
that belong to neither class are refused by their conformal p-values.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from sklearn.datasets import make_moons

from skmag import MagnitudeClassifier

X, y = make_moons(300, noise=0.15, random_state=0)
model = MagnitudeClassifier(null_label=-1, null_alpha=0.05).fit(X, y)

# %%
# A grid of queries costs one triangular solve for each class and block.
side = np.linspace(-2.0, 3.0, 150)
grid = np.stack(np.meshgrid(side, np.linspace(-1.6, 2.1, 150)), -1).reshape(-1, 2)
decision = model.decision_function(grid).reshape(150, 150)
label = model.predict(grid).reshape(150, 150)

figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharey=True)
across, up = grid[:, 0].reshape(150, 150), grid[:, 1].reshape(150, 150)
limit = np.abs(decision).max()
shades = axes[0].contourf(across, up, decision, 20, cmap="RdBu", vmin=-limit, vmax=limit)
axes[0].contour(across, up, decision, [0.0], colors="black", linewidths=1)
figure.colorbar(shades, ax=axes[0], label="decision function")
colors = ListedColormap(["#eeeeee", "#f4a582", "#92c5de"])
axes[1].pcolormesh(across, up, label, cmap=colors, vmin=-1.5, vmax=1.5)
for ax in axes:
    ax.scatter(*X.T, c=y, cmap="RdBu", edgecolors="black", linewidths=0.5, s=18)
axes[0].set_title("log residual of class 0 minus class 1")
axes[1].set_title("prediction; grey: no class (alpha = 0.05)")
plt.show()

# %%
# Accuracy on fresh points, among those that are not refused.
X_new, y_new = make_moons(300, noise=0.15, random_state=1)
found = model.predict(X_new)
known = found != -1
float((found == y_new)[known].mean().round(3)), float((~known).mean().round(3))
