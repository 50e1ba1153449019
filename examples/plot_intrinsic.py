"""
Judging generators by shape
===========================

Two samplers stand in for generators that were trained on a torus. The good one adds a little
noise; the bad one puts a tenth of its points into the hole, and has the right means and
covariances all the same. Distances of moments cannot tell them apart, heat traces can.
"""

import matplotlib.pyplot as plt
import numpy as np

from skmag import heat_trace_signature

rng = np.random.default_rng(0)


def torus(n):
    """Uniform points of a torus."""
    u, v = rng.uniform(0, 2 * np.pi, (2, 3 * n))
    kept = rng.uniform(size=3 * n) < (1 + 0.4 * np.cos(v)) / 1.4
    u, v = u[kept][:n], v[kept][:n]
    reach = 1 + 0.4 * np.cos(v)
    return np.stack([reach * np.cos(u), reach * np.sin(u), 0.4 * np.sin(v)], axis=1)


def good(n):
    """The torus with a little noise."""
    return torus(n) + 0.01 * rng.normal(size=(n, 3))


def bad(n):
    """A tenth of the points in the hole, then stretched to the second moments of the torus."""
    points, inside = torus(n), n // 10
    angle, radius = rng.uniform(0, 2 * np.pi, inside), 0.6 * np.sqrt(rng.uniform(size=inside))
    height = rng.uniform(-0.3, 0.3, inside)
    points[:inside] = np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)
    return points * [1.0457, 1.0457, 1.0328]


samples = {"torus": torus(2000), "good": good(2000), "bad": bad(2000)}

# %%
# A signature is made once for each set. The bands are two standard errors of the random probes;
# with the paper's control variate they are visible, with the default they are not. The weight
# ``exp(-2 (t + 1 / t))`` by which the distance judges has its peak at t = 1.
signatures = {
    control: {
        name: heat_trace_signature(points, variance_reduction=control, random_state=i)
        for i, (name, points) in enumerate(samples.items())
    }
    for control in ("linear", "chebyshev")
}

figure = plt.figure(figsize=(13, 4.2), layout="constrained")
space = figure.add_subplot(1, 3, 1, projection="3d")
hole = np.arange(2000) < 200
space.scatter(*samples["bad"][~hole].T, s=2, color="lightgrey")
space.scatter(*samples["bad"][hole].T, s=6, color="tab:red")
space.set(title="the bad generator", box_aspect=(1.4, 1.4, 0.5))
space.set_axis_off()
colors = {"good": "tab:blue", "bad": "tab:red"}
titles = {"linear": "the paper's control variate", "chebyshev": "the default"}
for place, (control, own) in enumerate(signatures.items(), start=2):
    ax = figure.add_subplot(1, 3, place)
    ts = own["torus"].ts
    weight = 1e6 * np.exp(-2 * (ts + 1 / ts))
    for name, color in colors.items():
        apart = weight * (own[name].values - own["torus"].values)
        error = weight * np.hypot(own[name].standard_errors, own["torus"].standard_errors)
        ax.plot(ts, apart, color=color, label=name)
        ax.fill_between(ts, apart - 2 * error, apart + 2 * error, color=color, alpha=0.25)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set(xscale="log", xlim=(0.1, 10), ylim=(-25, 25), xlabel="scale t", title=titles[control])
    ax.set_ylabel("weighted difference from the torus, 10⁻⁶")
    ax.legend()
plt.show()

# %%
# Distances and noise levels in millionths. A distance near its noise level says nothing.
for control, own in signatures.items():
    for name in ("good", "bad"):
        result = own[name].distance_to(own["torus"])
        print(f"{control:10} {name:5} {1e6 * result.distance:5.1f}", end="  ")
        print(f"noise {1e6 * result.noise_level:.2f}, at t = {result.t:.2f}")

# %%
# The probes are one source of chance, the samples are the other. Ten fresh draws of each:
reference = [heat_trace_signature(torus(2000), random_state=0) for _ in range(10)]
for name, draw in (("torus", torus), ("good", good), ("bad", bad)):
    found = [
        1e6 * own.distance_to(heat_trace_signature(draw(2000), random_state=0)).distance
        for own in reference
    ]
    print(f"{name:5} {np.mean(found):4.1f} +- {np.std(found):.1f}")
