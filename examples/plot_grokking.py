"""
Grokking, seen in the logits
============================

A small network learns addition modulo a prime from a third of all pairs. It knows its training
pairs by heart almost at once and answers the others by chance; much later, under weight decay, it
finds the rule. The potential ratio of a pair says how well its class represents it in the space of
the logits, relative to all training pairs.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from skmag import magnitude_potential_ratio

PRIME, WIDTH, N_STEPS = 59, 128, 2000
rng = torch.Generator().manual_seed(0)
a, b = torch.cartesian_prod(torch.arange(PRIME), torch.arange(PRIME)).T
total = (a + b) % PRIME
order = torch.randperm(len(total), generator=rng)
train, test = order[: int(0.35 * len(order))], order[int(0.35 * len(order)) :]

# %%
# One hidden layer of squares: embeddings of both numbers are added, squared and read out.
embed_a, embed_b = (torch.randn(PRIME, WIDTH, generator=rng) / (2 * PRIME) ** 0.5 for _ in "ab")
read_out = torch.randn(WIDTH, PRIME, generator=rng) / WIDTH**0.5
weights = [part.requires_grad_() for part in (embed_a, embed_b, read_out)]
optimizer = torch.optim.AdamW(weights, lr=2e-3, betas=(0.9, 0.98), weight_decay=1.0)


def logits(rows):
    """Logits of some pairs."""
    return (embed_a[a[rows]] + embed_b[b[rows]]).square() @ read_out


# %%
# Training pairs are left out of the set that answers for them; without that, every set represents
# its own points perfectly, before training as well as after it.


def own_ratios():
    """Mean ratio, under the right class, of the training pairs and of the others."""
    known, unknown = logits(train).detach(), logits(test).detach()
    for Z, sums in ((None, total[train]), (unknown, total[test])):
        ratios = magnitude_potential_ratio(known, total[train], Z, t="scale")
        yield float(ratios[torch.arange(len(sums)), sums].mean())


watched = np.unique(np.geomspace(20, N_STEPS, 18).round().astype(int))
seen = []
for step in range(N_STEPS + 1):
    if step in watched:
        with torch.no_grad():
            right = logits(order).argmax(1) == total[order]
        parts = right[: len(train)], right[len(train) :]
        seen.append([*(float(part.double().mean()) for part in parts), *own_ratios()])
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(logits(train), total[train]).backward()
    optimizer.step()

# %%
# While the network memorizes, the classes of training pairs come to represent them better, and
# those of the other pairs to represent these worse. This turns (dashed) while the accuracy on the
# other pairs is still near chance. From then on both ratios rise, that of the training pairs too,
# although nothing is left to be learned about them.
seen = np.array(seen)
figure, axes = plt.subplots(2, 1, figsize=(7, 6), sharex=True, layout="constrained")
for i, (ax, label) in enumerate(zip(axes, ("accuracy", "mean potential ratio"), strict=True)):
    ax.plot(watched, seen[:, 2 * i], marker=".", label="training pairs")
    ax.plot(watched, seen[:, 2 * i + 1], marker=".", label="other pairs")
    ax.set_ylabel(label)
    ax.axvline(watched[seen[:, 3].argmin()], color="0.7", linestyle="--", zorder=0)
axes[0].legend()
axes[1].set(xscale="log", xlabel="step")
plt.show()
