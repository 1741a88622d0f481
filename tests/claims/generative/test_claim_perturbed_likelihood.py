"""The claims on noise for clean data: the full scales' experiments take their first steps at sizes of seconds."""

import numpy as np
import pytest
import torch

from lodim.claims.generative.perturbed_likelihood import annealing, circle, images
from lodim.claims.result import Progress
from lodim.nets import mlp

FEW = {"n_seeds": 1, "n": 30, "n_fresh": 20, "steps": 2}


@pytest.mark.trains
def test_circle_and_annealing_take_their_first_steps():
    found = circle.CLAIM.full(0, Progress(), **FEW, n_grid=16, sizes=(20, 40))
    assert len(found.checks) == 6
    assert set(found.figures["runs"][0]) >= {"0", "0.2", "decoder noise alone, .1", "by n"}
    found = annealing.CLAIM.full(0, Progress(), **FEW)
    assert [len(runs) for runs in found.figures["found"].values()] == [1, 1, 1]
    assert len(found.checks) == 4


@pytest.mark.trains
def test_images_take_their_first_steps_with_both_kinds_of_network(monkeypatch):
    def drawn(split, n, pool, seed):
        return np.random.default_rng(seed).random((n, (28 // pool) ** 2)).astype(np.float32)

    monkeypatch.setattr(images, "images", drawn)
    small = {"n": 30, "n_held": 10, "steps": 1, "levels": ((0.0, 0.1), (0.0, 0.1))}
    once = {**small, "seeds_held": 1, "seeds_learned": 1}
    found = images.CLAIM.full(0, Progress(), **once, n_importance=2)
    assert len(found.checks) == 5
    found = images.run(0, Progress(), **once, raw=(0.0, 0.1), net=lambda a, b: mlp([a, 4, b]))
    assert [r["t"] for r in found.figures["as they are"]] == [0.0, 0.1]


def test_convolutions_fit_the_images():
    z = torch.zeros(3, 10)
    assert images.conv(10, 784)(z).shape == (3, 784)
    assert images.conv(784, 20)(torch.zeros(3, 784)).shape == (3, 20)
