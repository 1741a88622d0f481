"""Inputs from statistics: the mismatch falls, and what is stored is met."""

import pytest
import torch
from torch import nn

from lodim.landscape.quantization.model import quantize
from lodim.landscape.quantization.report import sqnr_db
from lodim.landscape.quantization.spec import QuantRecipe, QuantSpec
from lodim.landscape.quantization.zeroq import quantize_without_data, synthesise_inputs
from lodim.nets import mlp
from lodim.randomness import build_seeded


def trained_norms(seed=0):
    """A small convolutional network whose normalisations have seen images with structure."""
    net = build_seeded(
        lambda: nn.Sequential(
            nn.Conv2d(2, 8, 3, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 6),
            nn.BatchNorm1d(6),
            nn.ReLU(),
            nn.Linear(6, 3),
        ),
        seed,
    )
    generator = torch.Generator().manual_seed(seed)
    smooth = nn.functional.avg_pool2d(torch.randn(256, 2, 12, 12, generator=generator), 3, 1)
    images = (smooth - smooth.mean((0, 2, 3), keepdim=True)) / smooth.std((0, 2, 3), keepdim=True)
    for norm in net:
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.momentum = None
    with torch.no_grad():
        net.train()(images)
    return net.eval(), images


def test_the_mismatch_falls_tenfold():
    net, images = trained_norms()
    made = synthesise_inputs(net, images.shape[1:], 32, steps=150)
    assert made.inputs.shape == (32, 2, 10, 10)
    assert made.reduction > 10
    assert made.losses[-1] == min(made.losses)
    assert "mismatch" in str(made)


def test_what_is_stored_is_met():
    net, images = trained_norms()
    made = synthesise_inputs(net, images.shape[1:], 64, steps=200)

    def distance(x):
        mean = net[0](x).mean((0, 2, 3))
        return float((mean - net[1].running_mean).norm())

    noise = torch.randn(64, 2, 10, 10, generator=torch.Generator().manual_seed(9))
    assert distance(made.inputs) < distance(noise) / 2


def test_the_same_seed_makes_the_same_inputs_and_the_model_stays():
    net, images = trained_norms()
    net.train()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    first, second = (synthesise_inputs(net, images.shape[1:], 8, steps=5, random_state=3) for _ in range(2))
    assert torch.equal(first.inputs, second.inputs)
    assert net.training
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    other = synthesise_inputs(net, images.shape[1:], 8, steps=5, random_state=4)
    assert not torch.equal(first.inputs, other.inputs)


def test_without_normalisation_there_is_nothing_to_match():
    with pytest.raises(ValueError, match="calibrate on data"):
        synthesise_inputs(mlp([3, 2]), (3,))
    with pytest.raises(ValueError, match="running statistics"):
        synthesise_inputs(nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)), (3,))


@torch.no_grad()
def quality(model_q, net, images):
    """Signal to noise of the outputs, in decibels."""
    return sqnr_db(net.eval()(images), model_q(images))


def test_level_one_mends_what_unequal_channels_spoil():
    net, images = trained_norms()
    with torch.no_grad():  # ranges far apart, the function unchanged but for the norms' small constant
        spread = torch.exp(1.5 * torch.randn(8, generator=torch.Generator().manual_seed(1)))
        net[1].weight.mul_(spread)
        net[1].bias.mul_(spread)
        net[3].weight.div_(spread.view(1, -1, 1, 1))
    recipe = QuantRecipe(QuantSpec(5, granularity="tensor"))
    plain, mended = quantize(net, recipe), quantize_without_data(net, recipe)
    assert quality(mended, net, images) > quality(plain, net, images) + 6  # one bit


def test_level_two_calibrates_inputs_as_data_do():
    net, images = trained_norms()
    with_data = quantize(net, "w8a8", calibration=images[:64])
    without = quantize_without_data(net, "w8a8", images.shape[1:], level=2, steps=100)
    assert quality(without, net, images) > quality(with_data, net, images) - 6
    assert quality(without, net, images) > 20


def test_what_a_level_cannot_do_it_says():
    net, _ = trained_norms()
    with pytest.raises(ValueError, match="level=2"):
        quantize_without_data(net, "w8a8")
    with pytest.raises(ValueError, match="no use"):
        quantize_without_data(net, "w8", (2, 10, 10))
    with pytest.raises(ValueError, match="shape of one"):
        quantize_without_data(net, "w8", level=2)
    with pytest.raises(ValueError, match="1 or 2"):
        quantize_without_data(net, "w8", level=3)
    with pytest.raises(ValueError, match="no quantised layer follows"):
        quantize_without_data(mlp([3, 4, 2]), "w8")
