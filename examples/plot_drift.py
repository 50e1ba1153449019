"""
Drift in a stream of digits
===========================

A camera is knocked: after twelve batches the images arrive turned by 20 degrees. The detector
compares every batch with a reference of 400 images, raises an alarm, and says which images do not
belong.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import rotate
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skmag import DriftDisplay, MagnitudeDriftDetector, MovedPointsDisplay

X = load_digits().data[np.random.default_rng(0).permutation(1797)]


def turned(images, degrees):
    """Images turned about their centre."""
    squares = images.reshape(-1, 8, 8)
    return rotate(squares, degrees, axes=(2, 1), reshape=False, order=1).reshape(len(images), 64)


reference, later = X[:400], X[400:1360].reshape(16, 60, 64)
stream = [*later[:12], *(turned(batch, 20) for batch in later[12:])]
detector = MagnitudeDriftDetector(alpha=0.01, random_state=0).fit(reference)

# %%
# One p-value a batch. At alpha = 0.01 one batch in a hundred raises a false alarm.
DriftDisplay.from_estimator(detector, stream)
plt.show()

# %%
# Less obvious: fifteen images of the last batch are turned by 90 degrees, the others are as they
# were. The report says how the batch differs.
batch = later[11].copy()
batch[:15] = turned(batch[:15], 90)
report = detector.report(batch)
report

# %%
# The images are ranked by how much they moved. Share of the turned ones among the first fifteen:
first = report.moved.argsort()[::-1][:15]
float((first < 15).mean().round(2))

# %%
# In the plane of the reference's two principal components, and the images that moved most.
figure = plt.figure(figsize=(11, 4.6), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=(3, 2))
project = PCA(2).fit(reference).transform
MovedPointsDisplay.from_estimator(detector, batch, project=project, ax=left.subplots())
for ax, row in zip(right.subplots(3, 5).flat, first, strict=True):
    ax.imshow(batch[row].reshape(8, 8), cmap="gray_r")
    ax.set(xticks=[], yticks=[], title="turned" if row < 15 else "")
plt.show()
