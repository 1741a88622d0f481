"""Fully connected networks."""

import pytest
import torch
from torch import nn

from lodim.nets import fc, flat_spec, linear, mlp
from lodim.randomness import build_seeded


@pytest.mark.parametrize(
    ("sizes", "D"),
    [
        ((784, 10, 200, 2), 199_210),
        ((3072, 10, 200, 2), 656_810),
        ((784, 10, 400, 5), 959_610),
        ((64, 10, 64, 2), 8_970),
        ((64, 10, 100, 2), 17_610),
    ],
)
def test_the_published_sizes_are_exact(sizes, D):
    n_in, n_out, width, depth = sizes
    assert flat_spec(fc(n_in, n_out, width=width, depth=depth)).numel == D


def test_the_layers_are_those_asked_for():
    net = mlp([4, 20, 30, 2], activation="tanh")
    assert [type(layer) for layer in net] == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert [p.shape for p in net.parameters() if p.ndim == 2] == [(20, 4), (30, 20), (2, 30)]


def test_fc_flattens_images_and_linear_is_linear():
    x = torch.randn(5, 1, 4, 4)
    net = linear(16, 3)
    assert fc(16, 3, width=7)(x).shape == (5, 3)
    torch.testing.assert_close(net(x) + net(2 * x) - net(torch.zeros_like(x)), net(3 * x))


def test_initialisation_is_he_normal_with_zero_biases():
    net = build_seeded(lambda: mlp([400, 1000, 300]), 0)
    for layer in (net[0], net[2]):
        expected = (2 / layer.in_features) ** 0.5
        assert abs(float(layer.weight.detach().std()) / expected - 1) < 0.01
        kurtosis = float((layer.weight.detach() / expected).pow(4).mean())
        assert abs(kurtosis - 3) < 0.1  # normal, not uniform (1.8)
        assert not layer.bias.any()


def test_signals_keep_their_size_through_many_layers():
    net = build_seeded(lambda: mlp([500] * 8, activation="relu"), 1)
    x = torch.randn(100, 500, generator=torch.Generator().manual_seed(0))
    ratio = float(
        net[:-1](x).detach().square().mean() / x.square().mean()
    )  # mean square after ReLU equals the input's
    assert 0.5 < ratio < 2


def test_one_seed_one_network():
    one, two, other = (build_seeded(lambda: fc(8, 2), seed) for seed in (3, 3, 4))
    spec = flat_spec(one)
    assert torch.equal(spec.flatten(one), spec.flatten(two))
    assert not torch.equal(spec.flatten(one), spec.flatten(other))


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="inputs and outputs"):
        mlp([3])
    with pytest.raises(ValueError, match="at least 1"):
        mlp([3, 0, 2])
    with pytest.raises(ValueError, match="Did you mean 'relu'"):
        mlp([3, 2], activation="rellu")
    with pytest.raises(ValueError, match="depth"):
        fc(3, 2, depth=-1)
