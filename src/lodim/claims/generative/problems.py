"""The images and the networks that several claims about generators share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from lodim.datasets import Split, load
from lodim.nets import SmallUNet, TimeMLP
from lodim.randomness import derive_seed

__all__ = ["images", "large_net", "small_net"]


def images(data: str, seed: int, shape: Sequence[int]) -> Split:
    """Return training and test images, pixels in [0, 1]: of the digits 1,297 and 500 at random, else as published."""
    if data == "digits":
        digits = load(data)
        assert digits.y is not None
        order = np.random.default_rng(derive_seed(seed, "split")).permutation(len(digits.X))
        X, y = digits.X[order].reshape(-1, *shape), digits.y[order]
        return Split(X[:1297], y[:1297], X[1297:], y[1297:])
    train, test = load(data, split="train"), load(data, split="test")
    assert train.y is not None
    assert test.y is not None
    return Split(train.X.reshape(-1, *shape), train.y, test.X.reshape(-1, *shape), test.y)


def small_net() -> nn.Module:
    """Return the laptop's backbone for 64 pixels."""
    return TimeMLP(64, 128, 2)


def large_net() -> nn.Module:
    """Return the full scale's."""
    return SmallUNet(1, 128, (1, 2, 2), (1, 2))
