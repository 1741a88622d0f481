"""Gradient noise and operation counts against hand calculation."""

import math

import numpy as np
import pytest
import torch

from lodim.landscape import NMSparsifier
from lodim.landscape.nm_sparsity import GradientNoise, NoiseRecord, training_flops
from lodim.nets import mlp
from lodim.randomness import build_seeded


def sparsified(recipe="ste", **options):
    net = build_seeded(lambda: mlp([16, 16, 2]), 0)
    return net, NMSparsifier(
        net, 1, 4, recipe, targets=["0"], total_steps=10, **({"dense_frac": 0} | options)
    )


def test_noise_is_the_variance_over_the_window():
    _, sparsifier = sparsified()
    noise, weight = GradientNoise(sparsifier), sparsifier.dense_weights["0"]
    gradients = torch.randn(7, 16, 16, generator=torch.Generator().manual_seed(0))
    for g in gradients:
        weight.grad = g
        noise.update()
    record = noise.collect()
    variance, kept = gradients.numpy().astype(np.float64).var(0, ddof=1), sparsifier.masks["0"].bool().numpy()
    assert record.kept == pytest.approx(variance[kept].mean(), rel=1e-5)
    assert record.pruned == pytest.approx(variance[~kept].mean(), rel=1e-5)
    assert record.n_gradients == 7


def test_noise_of_constant_gradients_is_zero():
    _, sparsifier = sparsified()
    noise = GradientNoise(sparsifier)
    for _ in range(5):
        sparsifier.dense_weights["0"].grad = torch.full((16, 16), 0.1)
        noise.update()
    record = noise.collect()
    assert (record.kept, record.pruned) == (0, 0)


def test_masked_gradients_have_no_noise_on_pruned_weights():
    net, sparsifier = sparsified(backward="masked")
    noise = GradientNoise(sparsifier)
    for i in range(4):
        net.zero_grad()
        net(torch.randn(8, 16, generator=torch.Generator().manual_seed(i))).square().sum().backward()
        noise.update()
    record = noise.collect()
    assert record.kept > 0
    assert record.pruned == 0
    net.zero_grad()
    net(torch.randn(8, 16)).square().sum().backward()
    noise.update()
    noise.update()
    noise.collect()
    assert [r.n_gradients for r in noise.records] == [4, 2]
    assert list(noise.to_frame().n_gradients) == [4, 2]
    assert len(noise.plot().lines) == 2


def test_noise_without_pruned_weights_is_unknown():
    _, sparsifier = sparsified("dense")
    noise = GradientNoise(sparsifier)
    for _ in range(2):
        sparsifier.dense_weights["0"].grad = torch.ones(16, 16)
        noise.update()
    assert math.isnan(noise.collect().pruned)
    assert "NaN" not in noise.records[0].to_json()
    assert NoiseRecord.from_json(noise.records[0].to_json()).n_gradients == 2


def test_noise_needs_gradients():
    _, sparsifier = sparsified()
    noise = GradientNoise(sparsifier)
    with pytest.raises(ValueError, match=r"'0' has no gradient; call update\(\) after backward"):
        noise.update()
    with pytest.raises(ValueError, match="at least two gradients, the window has 0"):
        noise.collect()


@pytest.mark.parametrize(
    ("recipe", "options", "ratio"),
    [
        ("dense", {}, 1),
        ("ste", {"finetune_frac": 0}, (2 / 4 + 1) / 3),
        ("ste", {"backward": "masked"}, 1 / 4),
        ("one-shot", {"finetune_frac": 0.5}, 0.5 + 0.5 * (2 / 4 + 1) / 3),
        ("mdgf-exp", {"finetune_frac": 0.5}, 0.5 + 0.5 * (2 / 4 + 1) / 3),
        ("sdgf-stepwise", {"finetune_frac": 0.2}, (4 * (6 / 4 + 1) + 4 * 2 + 2 * (2 / 4 + 1)) / 30),
    ],
)
def test_operations(recipe, options, ratio):
    if recipe == "sdgf-stepwise":  # 3:4, 2:4, 1:4 over eight steps: 3, 3 and 2 of them
        ratio = (3 * (6 / 4 + 1) + 3 * 2 + 4 * (2 / 4 + 1)) / 30
    _, sparsifier = sparsified(recipe, **options)
    found = training_flops(sparsifier, batch_size=32, n_uses=5)
    assert found.dense == 6 * 256 * 32 * 5 * 10
    assert found.ratio == pytest.approx(ratio)
    assert found.inference == (1 if recipe == "dense" else 0.25)
    assert "operations" in str(found)
