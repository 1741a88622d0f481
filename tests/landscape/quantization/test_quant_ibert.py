"""Integer GELU, exponential, softmax, square root and layer normalisation against the functions themselves."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from lodim.landscape.quantization.conversion import calibrate, convert, prepare
from lodim.landscape.quantization.fixed_point import FixedPoint
from lodim.landscape.quantization.ibert import (
    integer_exp,
    integer_gelu,
    integer_layer_norm,
    integer_softmax,
    integer_sqrt,
)
from lodim.randomness import build_seeded, torch_generator


def fixed(x, scale):
    codes = (x.double() / scale).round().long()
    return FixedPoint(codes, torch.as_tensor(scale, dtype=torch.float64), int(codes.abs().max()))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed), dtype=torch.float64)


def check_bound(value):
    assert value.codes.dtype == torch.int64
    assert value.codes.abs().max() <= value.bound < 2**31


@pytest.mark.parametrize("scale", [1e-7, 1e-4, 0.003])
def test_gelu_is_the_papers_polynomial(scale):
    x = torch.linspace(-5, 5, 2001, dtype=torch.float64)[None]
    found = integer_gelu(fixed(x, scale))
    check_bound(found)
    z = (x / math.sqrt(2)).abs().clamp(max=1.769)
    polynomial = x * (1 + x.sign() * (1 - 0.2888 * (z - 1.769).square())) / 2
    torch.testing.assert_close(found.to_float(), polynomial, atol=5 * max(scale, 2**-15) + 1e-4, rtol=0)
    assert (found.to_float() - F.gelu(x)).abs().max() < 0.02  # the paper's figure is 0.018


def test_exponential():
    x = -torch.linspace(0, 20, 4001, dtype=torch.float64)[None]
    for scale in (1e-6, 1e-3):
        found = integer_exp(fixed(x, scale))
        check_bound(found)
        assert (found.to_float() - x.exp()).abs().max() < 0.0025  # the paper's figure is 0.0019
    assert integer_exp(fixed(torch.tensor([[-40.0]]), 0.001)).to_float().item() < 1e-9
    with pytest.raises(ValueError, match="positive"):
        integer_exp(fixed(torch.tensor([[0.5]]), 0.1))


@pytest.mark.parametrize("scale", [1e-6, 0.004, 0.05])
def test_softmax(scale):
    x = 3 * normal(40, 12)
    found = integer_softmax(fixed(x, scale))
    check_bound(found)
    rounded = fixed(x, scale).to_float()
    # an exponential is off by at most 0.0025 of the largest, and the divisor by 12 of these
    assert (found.to_float() - rounded.softmax(-1)).abs().max() < 0.01
    assert (found.to_float().sum(-1) - 1).abs().max() < 12 * 2**-15
    torch.testing.assert_close(
        integer_softmax(fixed(x, scale), 1).codes, F.softmax(fixed(x, scale), dim=-1).codes
    )


def test_softmax_of_one_large_entry():
    x = torch.tensor([[100.0, 0.0, 0.0], [5.0, 5.0, 5.0]])
    found = torch.softmax(fixed(x, 0.01), 1).to_float()
    torch.testing.assert_close(found, x.double().softmax(1), atol=1e-4, rtol=0)
    with pytest.raises(NotImplementedError, match="batch"):
        integer_softmax(fixed(x, 0.01), 0)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**62 - 1) | st.integers(0, 200) | st.integers(0, 2**31 - 1).map(lambda r: r * r))
def test_integer_square_root(n):
    assert integer_sqrt(torch.tensor([n])).item() == math.isqrt(n)


@pytest.mark.parametrize("scale", [0.001, [0.001, 0.002, 0.004, 0.001, 0.003, 0.002]])
def test_layer_norm(scale):
    x = 2 * normal(30, 6) + 1
    scales = torch.tensor(scale, dtype=torch.float64)
    value = fixed(x, scales[None] if scales.ndim else scale)
    layer = nn.LayerNorm(6, eps=0.0).double()
    layer.weight.data, layer.bias.data = normal(6, seed=1), normal(6, seed=2)
    layer.weight.data[2] = 0
    found = layer(value)
    check_bound(found)
    torch.testing.assert_close(found.to_float(), layer(value.to_float()), atol=0.02, rtol=0)
    plain = integer_layer_norm(value).to_float()
    assert (plain.square().mean(-1) - 1).abs().max() < 0.01
    assert plain.mean(-1).abs().max() < 1e-3


def test_layer_norm_of_equal_numbers_is_the_bias():
    found = integer_layer_norm(fixed(torch.full((2, 8), 3.0), 0.01), bias=torch.arange(8.0)).to_float()
    torch.testing.assert_close(found, torch.arange(8.0).double().expand(2, 8), atol=1e-4, rtol=0)
    with pytest.raises(NotImplementedError, match="8192"):
        integer_layer_norm(fixed(torch.ones(1, 9000), 0.1))


def test_layer_norm_of_bounds():
    x = torch.zeros(1, 500)
    x[0, 0] = 1e4  # the most one entry can deviate: sqrt(n - 1) spreads
    found = integer_layer_norm(fixed(x, 0.5))
    check_bound(found)
    assert found.to_float()[0, 0].item() == pytest.approx(math.sqrt(499), rel=1e-3)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(16, 24), nn.LayerNorm(24)
        self.second, self.head = nn.Linear(24, 24), nn.Linear(24, 4)

    def forward(self, x):
        x = self.norm(self.first(x))
        return F.softmax(self.head(x + F.gelu(self.second(x))), dim=-1)


def test_a_feed_forward_block_in_integers():
    x = torch.randn(100, 16, generator=torch_generator(0))
    model = build_seeded(Block, 0)
    prepared = calibrate(prepare(model, "w8a8"), x)
    fake, integer = convert(prepared)(x), convert(prepared, "integer")(x)
    # GELU is off by up to 0.02, the classes' shares by as much as that moves them
    assert (integer - fake).abs().max() < 0.02
    assert (integer.argmax(1) == fake.argmax(1)).double().mean() > 0.95
