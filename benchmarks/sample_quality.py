"""How good generated digits are: KID, and what a classifier of real digits makes of them.

The features are the last hidden layer of a small convolutional network that is trained here, on
MNIST's training images; the samples are compared with half of its test images.
"""

import gzip
import os
from pathlib import Path

import numpy as np
import torch
from intrinsic import kid
from torch import nn

from skmag.datasets import load

SIDE, N_CLASSES = 28, 10


def read_digits():
    """Training images, their labels, test images and theirs; pixels from 0 to 1."""
    train, labels = load("mnist")
    folder = Path(os.environ["SKMAG_DATA"]) / "mnist"
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
        test = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, SIDE * SIDE)
    with gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as file:
        asked = np.frombuffer(file.read(), np.uint8, offset=8)
    parts = (train / 255, labels.astype(int), test / 255, asked.astype(int))
    return [
        torch.as_tensor(part, dtype=torch.float32 if part.ndim == 2 else torch.int64)
        for part in parts
    ]


def trained_classifier(images, labels, n_epochs, seed=0, batch=128):
    """Features and logits of a digit, each a module."""
    torch.manual_seed(seed)
    features = nn.Sequential(
        nn.Unflatten(1, (1, SIDE, SIDE)),
        *(nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU()),
        *(nn.Conv2d(16, 32, 5, stride=2, padding=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU()),
    )
    logits = nn.Sequential(features, nn.Linear(64, N_CLASSES))
    n_steps = n_epochs * (len(images) // batch)
    optimizer = torch.optim.Adam(logits.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=n_steps)
    rng = torch.Generator().manual_seed(seed)
    for _ in range(n_steps):
        rows = torch.randint(len(images), (batch,), generator=rng)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits(images[rows]), labels[rows]).backward()
        optimizer.step()
        schedule.step()
    return features.eval(), logits.eval()


class Judge:
    """Compares samples with real digits that no generator was trained on.

    MNIST's test images are shuffled first: the first half is by other hands than the second.
    Features are divided by their root mean square over the real digits, so that the kernel of KID
    sees entries around 1.
    """

    def __init__(self, images, labels, test, asked, n_epochs=3):
        self.features, self.logits = trained_classifier(images, labels, n_epochs)
        order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
        self.held_out, self.reference = test[order].chunk(2)
        with torch.no_grad():
            right = self.logits(test).argmax(1) == asked
            self.unit = self.features(self.reference).square().mean().sqrt()
        self.accuracy = float(right.double().mean())
        self.reference_features = self.of(self.reference)

    @torch.no_grad()
    def of(self, images):
        """Features of images, in doubles."""
        return (self.features(images) / self.unit).double().numpy()

    @torch.no_grad()
    def __call__(self, images, pixels=False):
        """Figures of some images, KID of their pixels too where asked."""
        shares = self.logits(images).softmax(1).double()
        predicted = torch.bincount(shares.argmax(1), minlength=N_CLASSES) / len(images)
        present = predicted[predicted > 0]
        figures = {
            "kid": float(kid(self.of(images), self.reference_features)),
            "confidence": float(shares.max(1).values.mean()),
            "entropy": float(-(present * present.log()).sum()),
            "classes": int((predicted > 0.02).sum()),
        }
        if pixels:
            of_pixels = [part.double().numpy() for part in (images, self.reference)]
            figures["pixel_kid"] = float(kid(*of_pixels))
        return figures
