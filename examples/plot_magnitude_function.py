"""
The magnitude function counts points at every scale
===================================================

Three clusters of forty points each: at small t the set looks like one point, over a long range of
scales like three, and at large t like all of its points.
"""

import matplotlib.pyplot as plt
import numpy as np

from skmag import MagnitudeFunctionDisplay, magnitude_dimension, magnitude_function

rng = np.random.default_rng(0)
centers = np.array([[0.0, 0.0], [1000.0, 0.0], [0.0, 1000.0]])
clusters = np.concatenate([center + rng.normal(scale=0.5, size=(40, 2)) for center in centers])

display = MagnitudeFunctionDisplay.from_points(clusters, np.geomspace(1e-4, 1e2, 60))
for count in (1, 3, len(clusters)):
    display.ax_.axhline(count, color="gray", linewidth=0.8, linestyle=":")
plt.show()

# %%
# The numbers behind the curve.
magnitude_function(clusters, [1e-5, 2e-2, 1e3]).round(2)

# %%
# Its steepest slope on logarithmic axes estimates a dimension, here of points on a curve in space.
angle = np.linspace(0, 4 * np.pi, 800)
helix = np.c_[np.cos(angle), np.sin(angle), angle / 4]
round(magnitude_dimension(helix), 2)
