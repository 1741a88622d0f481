"""Small tasks that several test files train on."""

import numpy as np
import pytest
import torch

from lodim.training import Task


@pytest.fixture
def blobs():
    """Three Gaussian classes in five dimensions, 90 and 45 samples."""
    rng = np.random.default_rng(0)
    centres = 2 * rng.normal(size=(3, 5))
    y, y_val = np.arange(90) % 3, np.arange(45) % 3
    return Task.from_arrays(
        centres[y] + rng.normal(size=(90, 5)), y, centres[y_val] + rng.normal(size=(45, 5)), y_val
    )


@pytest.fixture
def blobs64(blobs):
    """The same in double precision."""
    return blobs.to(dtype=torch.float64)


@pytest.fixture
def curve():
    """A regression on two inputs, in double precision."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(80, 2))
    y = np.sin(X[:, 0]) + 0.5 * X[:, 1]
    return Task.from_arrays(X[:50], y[:50], X[50:], y[50:]).to(dtype=torch.float64)
