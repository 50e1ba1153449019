"""
What to label next
==================

Labels are dear, points are not. An active learner is fitted on a few labelled points and asks for
the labels of those that should help most. Here two moons start with one label each. Left and
middle: the points that two strategies have asked for, in order, after five rounds of four. Right:
accuracy on fresh points as labels come in, averaged over twenty starts, with standard errors.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.svm import SVC

from skmag import MagnitudeActiveLearner

X, answers = make_moons(400, noise=0.15, random_state=0)
X_test, y_test = make_moons(1000, noise=0.15, random_state=1)


# %%
# The loop is the same for every strategy: fit, choose, ask, again. The strategies that need no
# weights are written out: four random points, or the four that the classifier is least sure of.
def choose(strategy, learner, y, rng):
    """Four unlabelled rows."""
    if strategy in ("mixture", "min_max"):
        return learner.set_params(strategy=strategy).query(X)
    left = np.flatnonzero(y == -1)
    if strategy == "random":
        return rng.choice(left, 4, replace=False)
    return left[np.argsort(np.abs(learner.decision_function(X[left])))[:4]]


def loop(strategy, seed, n_rounds=10):
    """Accuracy before each round and at the end, the chosen rows, and the last learner."""
    rng = np.random.default_rng(seed)
    y = np.full(len(X), -1)
    for c in (0, 1):
        y[rng.choice(np.flatnonzero(answers == c))] = c
    learner = MagnitudeActiveLearner(SVC(C=100.0, gamma=1.0), unlabelled=-1, random_state=seed)
    scores, asked = [learner.fit(X, y).score(X_test, y_test)], []
    for _ in range(n_rounds):
        chosen = choose(strategy, learner, y, rng)
        y[chosen] = answers[chosen]
        asked.extend(chosen)
        scores.append(learner.fit(X, y).score(X_test, y_test))
    return scores, asked, learner


# %%
# The greatest weights lie on the border of what is predicted for each class, outer borders
# included; the mixture spends the other half of its labels on the border between the classes.
figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
for ax, strategy in zip(axes, ("min_max", "mixture"), strict=False):
    scores, asked, learner = loop(strategy, seed=0, n_rounds=5)
    DecisionBoundaryDisplay.from_estimator(
        learner, X, response_method="predict", plot_method="pcolormesh", ax=ax, cmap="RdBu",
        alpha=0.25,
    )  # fmt: skip
    ax.scatter(*X.T, c=answers, cmap="RdBu", s=8, alpha=0.5)
    ax.scatter(*X[asked].T, c=answers[asked], cmap="RdBu", s=60, edgecolors="black")
    for number, row in enumerate(asked, start=1):
        ax.annotate(str(number), X[row], xytext=(5, 3), textcoords="offset points", fontsize=7)
    ax.set(title=f"{strategy}: 20 labels asked for", xticks=[], yticks=[])

labels = 2 + 4 * np.arange(11)
for strategy in ("mixture", "min_max", "uncertainty", "random"):
    curves = np.array([loop(strategy, seed)[0] for seed in range(20)])
    error = curves.std(axis=0) / np.sqrt(len(curves))
    axes[2].errorbar(labels, curves.mean(axis=0), error, label=strategy, capsize=2)
axes[2].set(title="accuracy on fresh points", xlabel="labels")
axes[2].legend()
plt.show()
