r"""
Magnitude distance, scale and null
==================================

Two normal samples of 200 points in 100 dimensions, one of them shifted in every coordinate: the
magnitude distance at six scales, as in Figure 1 of the paper. The dashed lines are what the
figure does not show, the null: the same distance between two random halves of both samples
together.
"""

import matplotlib.pyplot as plt
import numpy as np

from skmag import magnitude, magnitude_distance

rng = np.random.default_rng(0)
scales = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
shifts = np.array([0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0])
X, noise = rng.normal(size=(2, 200, 100))

# %%
# One pair of random halves for each shift is enough to see the null.
observed, null = [], []
for shift in shifts:
    Y = noise + shift
    halves = np.split(rng.permutation(np.vstack([X, Y])), 2)
    observed.append(magnitude_distance(X, Y, t=scales))
    null.append(magnitude_distance(*halves, t=scales))
observed, null = np.array(observed), np.array(null)

# %%
# The normalized distance divides by the magnitude of the union.
wholes = np.array([[magnitude(np.vstack([X, noise + s]), t=t) for t in scales] for s in shifts])
limits = [magnitude(X, t=t) + magnitude(noise, t=t) for t in scales]

figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
colors = ["tab:blue", "purple", "goldenrod", "tab:red", "tab:green", "indigo"]
for i, (t, color) in enumerate(zip(scales, colors, strict=True)):
    style = {"color": color, "linewidth": 1.5}
    for ax, divisor in zip(axes, (wholes[:, i], 1.0), strict=True):
        ax.plot(shifts, observed[:, i] / divisor, marker=".", label=f"t = {t:g}", **style)
        ax.plot(shifts, null[:, i] / divisor, linestyle="--", alpha=0.6, **style)
    axes[1].axhline(limits[i], color=color, linewidth=0.7, linestyle=":")
axes[0].set_title("(a) normalized; dashed: null")
axes[1].set_title("(b) standard; dotted: Mag(tX) + Mag(tY)")
axes[0].set_ylabel("magnitude distance")
axes[0].legend()
for ax in axes:
    ax.set_xlabel("shift of the mean in every coordinate")
    ax.set_ylim(bottom=0)
plt.show()

# %%
# At t = 0.6 nearly every point is a point of its own, whatever the shift: the distance is close to
# its greatest value, 400 points, before anything has moved. What tells is the gap to the null, in
# per cent of it at a shift of 0.5.
dict(zip(scales, (100 * (observed / null - 1))[shifts == 0.5][0].round(1).tolist(), strict=True))
