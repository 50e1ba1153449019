"""
Weights find boundaries
=======================

Each point's weight is its share of the effective number of points. Inside a dense region a point is
represented by its neighbours and weighs little; at the edge it weighs much, in the plane as on a
surface in space. After Figure 1 of "Practical applications of metric space magnitude and weighting
vectors".
"""

import matplotlib.pyplot as plt
import numpy as np

from skmag import WeightingDisplay

rng = np.random.default_rng(0)

# %%
# Four regions of the plane: two disks, a square and a triangle.


def disk(center, radius, n):
    angle, share = rng.uniform(0, 2 * np.pi, n), np.sqrt(rng.uniform(size=n))
    return np.array(center) + radius * share[:, None] * np.c_[np.cos(angle), np.sin(angle)]


square = rng.uniform(size=(400, 2)) * 1.6 + [2.2, -0.8]
corners = np.array([[-0.9, 2.0], [0.9, 2.0], [0.0, 3.6]])
triangle = rng.dirichlet(np.ones(3), 300) @ corners
regions = np.concatenate([disk([0, 0], 1.0, 500), disk([3, 2.8], 0.8, 350), square, triangle])

# %%
# A Möbius strip in space.
around, across = rng.uniform(0, 2 * np.pi, 1500), rng.uniform(-0.4, 0.4, 1500)
radius = 1 + across * np.cos(around / 2)
strip = np.c_[radius * np.cos(around), radius * np.sin(around), across * np.sin(around / 2)]

figure = plt.figure(figsize=(11, 4.6), layout="constrained")
flat = figure.add_subplot(1, 2, 1)
space = figure.add_subplot(1, 2, 2, projection="3d")
WeightingDisplay.from_points(regions, t=1.0, ax=flat)
WeightingDisplay.from_points(strip, t=1.0, ax=space)
flat.set_title("four regions of the plane")
space.set_title("a Möbius strip in space")
plt.show()
