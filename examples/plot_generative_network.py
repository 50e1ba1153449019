"""
A generator without a critic
============================

A network turns noise into digits. It is trained by the magnitude distance between a batch of
digits and as many of its own; no second network has to be trained against it.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from skmag.nn import MagnitudeGenerativeNetwork

X, y = load_digits(return_X_y=True)
X = X / 16

# %%
# Any module will do that maps latent points to data. The last step of this one keeps to the
# pixels' range from 0 to 1.
torch.manual_seed(0)
generator = nn.Sequential(
    *(nn.Linear(32, 256), nn.BatchNorm1d(256), nn.ReLU()),
    *(nn.Linear(256, 256), nn.BatchNorm1d(256), nn.ReLU()),
    *(nn.Linear(256, X.shape[1]), nn.Sigmoid()),
)
model = MagnitudeGenerativeNetwork(generator, latent_dim=32, max_epochs=250, random_state=0).fit(X)

# %%
# Two scales were proposed from the data: a coarse one, which finds the whole, gives way to a finer
# one (dashed). The loss goes up there because it is another loss; that says nothing about the
# samples. Nor does it tend to zero: two batches of real digits are apart, too.
curriculum = model.curriculum_
print("scales", np.round(curriculum.scales, 2), "from epochs", curriculum.epochs)
samples = model.sample(len(X), random_state=1)


def tiled(images):
    """Eight rows of ten images, with a margin."""
    padded = np.pad(images[:80].reshape(8, 10, 8, 8), ((0, 0), (0, 0), (1, 1), (1, 1)))
    return padded.transpose(0, 2, 1, 3).reshape(80, 100)


figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), width_ratios=(1.3, 1, 1), layout="constrained")
axes[0].plot(model.loss_curve_)
for t, epoch in zip(curriculum.scales, curriculum.epochs, strict=True):
    axes[0].axvline(epoch, color="0.7", linestyle="--", zorder=0)
    axes[0].annotate(f" t = {t:.2f}", (epoch, 0.97), xycoords=("data", "axes fraction"), va="top")
axes[0].set(xlabel="epoch", ylabel="loss", ylim=(0, 0.8))
shuffled = np.random.default_rng(0).permutation(X)
for ax, images, title in ((axes[1], samples, "generated"), (axes[2], shuffled, "real")):
    ax.imshow(tiled(images), cmap="gray_r", vmin=0, vmax=1)
    ax.set_title(title)
    ax.set_axis_off()
plt.show()

# %%
# What a classifier of real digits takes the samples for, and how far they are from the nearest
# real digit, beside the distance of real digits from each other. Ones are too many and eights too
# few: generated digits are not yet spread as real ones are, and they are further out.
neighbors = KNeighborsClassifier(n_neighbors=3).fit(X, y)
print("real     ", np.bincount(y, minlength=10))
print("generated", np.bincount(neighbors.predict(samples), minlength=10))
nearest = neighbors.kneighbors(samples, 1)[0][:, 0], neighbors.kneighbors(n_neighbors=1)[0][:, 0]
print("median distance: generated {:.2f}, real {:.2f}".format(*map(np.median, nearest)))
