"""
Wrong labels, found in the data and in a network's logits
=========================================================

A tenth of the labels of the digits are flipped. `label_quality_scores` finds them in the pixels,
and in the logits of a network that was trained on these very labels, as long as it has not learned
them by heart.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier

from skmag import label_quality_scores

rng = np.random.default_rng(0)
X, truth = load_digits(return_X_y=True)
X = X / 16
wrong = np.zeros(len(X), dtype=bool)
wrong[rng.choice(len(X), len(X) // 10, replace=False)] = True
y = np.where(wrong, (truth + rng.integers(1, 10, len(X))) % 10, truth)

# %%
# From the pixels: the share of flipped labels among the lowest scores, and the lowest scores.
scores = label_quality_scores(X, y)
worst = scores.argsort()
float(wrong[worst[: wrong.sum()]].mean().round(3))

# %%
figure, axes = plt.subplots(2, 8, figsize=(11, 3.2), layout="constrained")
for ax, row in zip(axes.flat, worst, strict=False):
    ax.imshow(X[row].reshape(8, 8), cmap="gray_r")
    ax.set(title=f"said {y[row]}, is {truth[row]}", xticks=[], yticks=[])
plt.show()

# %%
# Now the logits. The potential of a row under its class over that under all rows, each left out, is
# followed through training, beside the probability that the network itself gives to the label. As
# the network learns the wrong labels by heart, it moves these rows towards the class that they are
# said to be of, and both scores lose some of them: the ratios few, since the rows that were moved
# do not come to lie among the others of that class.
network = MLPClassifier((256,), learning_rate_init=5e-3, random_state=0)


def logits(network, X):
    """Output of the last layer before the softmax."""
    hidden = np.maximum(X @ network.coefs_[0] + network.intercepts_[0], 0)
    return hidden @ network.coefs_[1] + network.intercepts_[1]


watched = np.unique(np.geomspace(1, 250, 13).round().astype(int))
curves = []
for epoch in range(1, watched[-1] + 1):
    network.partial_fit(X, y, classes=np.arange(10))
    if epoch in watched:
        ratios = label_quality_scores(logits(network, X), y, criterion="potential")
        confidence = network.predict_proba(X)[np.arange(len(X)), y]
        aucs = (roc_auc_score(wrong, -score) for score in (ratios, confidence))
        learned = network.predict(X)[wrong] == y[wrong]
        curves.append([*aucs, learned.mean()])
curves = np.array(curves)

figure, (above, below) = plt.subplots(2, 1, figsize=(7, 5), sharex=True, layout="constrained")
above.plot(watched, curves[:, 0], marker=".", label="potential ratio of the logits")
above.plot(watched, curves[:, 1], marker=".", label="probability of the label")
above.axhline(roc_auc_score(wrong, -scores), color="black", linestyle="--", label="pixels")
above.set_ylabel("AUC")
above.legend()
below.plot(watched, curves[:, 2], marker=".", color="0.5")
below.set(xscale="log", xlabel="epoch", ylabel="wrong labels learned")
plt.show()
