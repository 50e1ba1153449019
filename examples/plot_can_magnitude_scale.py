"""
Can magnitude scale?
====================

The paper that asks this question compares four ways to the magnitude of normal points in the plane:
inverting the similarity matrix, iterative normalization, gradient descent, and choosing a subset.
Here are its Figures 4, 5, 8 and 9 at reduced size, with this package's solvers in the same plots.
They show what the paper's figures do not: iterative normalization converges to something else, the
maximum diversity, and gradient descent to nothing in the number of steps that is plotted.
"""

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning

from skmag import MagnitudeSubsetSelector, magnitude, maximum_diversity, weighting

# The paper's solvers are asked for fewer steps than they would need, and would say so.
warnings.simplefilter("ignore", ConvergenceWarning)
COLORS = {
    "inversion": "tab:gray",
    "iterative normalization": "tab:orange",
    "gradient descent": "tab:green",
    "skmag": "tab:blue",
}


def points(n, dimension=2, seed=0):
    """Standard normal points."""
    return np.random.default_rng(seed).normal(size=(n, dimension))


def similarities(X):
    """The matrix that the paper's solvers hold in memory."""
    return np.exp(-cdist(X, X))


def normalization(X, steps):
    """Sums of the weights along Algorithm 1 of the paper."""
    zeta, w, sums = similarities(X), np.ones(len(X)), []
    for _ in range(steps):
        w = w / (zeta @ w)
        sums.append(w.sum())
    return np.array(sums)


def descent(X, steps, **params):
    """Magnitude after `steps` of gradient descent."""
    params = {"max_iter": steps, **params}
    return weighting(X, solver="gradient_descent", tol=1e-12, solver_params=params).magnitude


def seconds(function, *args, **kwargs):
    """CPU seconds of a call."""
    start = time.process_time()
    function(*args, **kwargs)
    return time.process_time() - start


# %%
# Iterations, and where they lead
# -------------------------------
# Every step of iterative normalization raises ``2 1'w - w' zeta w`` among non-negative weights. Its
# limit is the greatest value there, the maximum diversity. In the plane few weights are negative
# and the two are close; in ten dimensions more than a third are. Gradient descent has the square of
# the condition number against it. The horizontal axis counts products with the matrix, of which
# gradient descent takes two in a step.
steps = np.arange(1, 101)
marks = np.unique(np.geomspace(1, 100, 16).round().astype(int))
figure, axes = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained", sharey=True)
for ax, dimension in zip(axes, (2, 10), strict=True):
    X = points(1500, dimension)
    exact = magnitude(X)
    ax.plot(
        steps,
        1 - normalization(X, 100) / exact,
        color=COLORS["iterative normalization"],
        label="iterative normalization",
    )
    few = marks[marks <= 50]
    errors = [abs(1 - descent(X, k) / exact) for k in few]
    ax.plot(2 * few, errors, color=COLORS["gradient descent"], label="gradient descent")
    for preconditioner, line in {"none": "-", "auto": "--"}.items():
        errors = []
        for k in marks:
            params = {"max_iter": k, "preconditioner": preconditioner}
            found = weighting(X, solver="cg", tol=1e-12, solver_params=params).magnitude
            errors.append(abs(1 - found / exact))
            if errors[-1] < 1e-8:
                break
        label = "conjugate gradients" + (", preconditioned" if preconditioner == "auto" else "")
        reached = marks[: len(errors)]
        ax.plot(reached, errors, color=COLORS["skmag"], linestyle=line, label=label)
    limit = 1 - float(maximum_diversity(X)) / exact
    ax.axhline(limit, color="black", linestyle=":", linewidth=1, label="maximum diversity")
    ax.set(xscale="log", yscale="log", ylim=(1e-6, 1), xlabel="products with the matrix")
    ax.set_title(f"1500 points in {dimension} dimensions")
axes[0].set_ylabel("relative error of the magnitude")
handles, labels = axes[0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside lower center", ncols=3)
plt.show()

# %%
# Time for growing sets
# ---------------------
# On the left all points (Figures 4 and 8): the inverse, 50 steps of iterative normalization, an
# exact factor and a certified interval of relative width 1e-6. On the right one point in twenty
# (Figure 5), chosen: nearly all of the magnitude for less than any of these.
sizes = np.array([400, 800, 1600, 3200])
figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharex=True)
inverse = [seconds(lambda X: np.linalg.inv(similarities(X)).sum(), points(n)) for n in sizes]
ways = {
    "iterative normalization, 50 steps": (lambda X: normalization(X, 50), "tab:orange", "-"),
    "skmag, exact": (lambda X: magnitude(X, solver="cholesky"), "tab:blue", "-"),
    "skmag, certified to 1e-6": (lambda X: weighting(X, solver="cg", tol=1e-6), "tab:blue", "--"),
}
axes[0].plot(sizes, inverse, "o-", color=COLORS["inversion"], label="inversion")
for name, (way, color, line) in ways.items():
    cost = [seconds(way, points(n)) for n in sizes]
    axes[0].plot(sizes, cost, "o", linestyle=line, color=color, label=name)
axes[1].plot(sizes, inverse, "o-", color=COLORS["inversion"], label="inversion, all points")
for strategy, color in {"greedy": "tab:red", "centers": "tab:purple"}.items():
    cost, shares = [], []
    for n in sizes:
        selector = MagnitudeSubsetSelector(n // 20, strategy=strategy, t=1.0, random_state=0)
        cost.append(seconds(selector.fit, points(n)))
        shares.append(selector.magnitudes_[-1] / magnitude(points(n)))
    label = f"{strategy}: {min(shares):.0%} or more of the magnitude"
    axes[1].plot(sizes, cost, "o-", color=color, label=label)
axes[0].set_ylabel("CPU seconds")
for ax, title in zip(axes, ("all points", "one point in twenty"), strict=True):
    ax.set(xscale="log", yscale="log", xlabel="number of points", title=title)
    ax.set_xticks(sizes, [f"{n}" for n in sizes])
    ax.minorticks_off()
    ax.legend(loc="upper left", fontsize="small")
plt.show()

# %%
# Mini-batches
# ------------
# Figure 9 varies the batch size of gradient descent over 50 iterations. Read as 50 steps, at the
# paper's learning rate of 0.01, none is near the magnitude; read as 50 passes over the data, small
# batches, which take more steps, come closer. From some 2,000 points on that rate diverges, and
# ``learning_rate="auto"`` finds one that does not.
X = points(500)
exact = magnitude(X)
figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
marks = np.array([1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50])
batches = (8, 16, 32, 64, 128, 256)
for batch, color in zip(batches, plt.cm.viridis(np.linspace(0, 0.9, 6)), strict=True):
    for ax, each in zip(axes, (1, -(-len(X) // batch)), strict=True):
        curve = [descent(X, k * each, learning_rate=0.01, batch_size=batch) for k in marks]
        ax.plot(marks, curve, color=color, label=f"{batch}")
for ax, unit in zip(axes, ("steps", "passes over the data"), strict=True):
    ax.axhline(exact, color="black", linestyle=":", linewidth=1, label="magnitude")
    ax.set(xlabel=unit, title=f"gradient descent, {len(X)} points", ylim=(0, 1.15 * exact))
axes[0].set_ylabel("magnitude")
axes[1].legend(title="batch size", loc="lower right", ncols=2, fontsize="small")
plt.show()
