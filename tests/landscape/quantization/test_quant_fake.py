"""Quantised layers: what they compute, what they pass back, and when their inputs' scales are fixed."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lodim.landscape.quantization import (
    ActivationQuantizer,
    AffineWeight,
    QuantLayer,
    QuantSpec,
    fake_quantize,
)
from lodim.landscape.quantization.grid.fake import apply_layer
from lodim.randomness import build_seeded, torch_generator

LAYERS = {
    "linear": (lambda: nn.Linear(12, 5), (3, 12)),
    "linear without bias": (lambda: nn.Linear(12, 5, bias=False), (3, 4, 12)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, padding="same"), (2, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, stride=2, groups=2), (2, 4, 9, 9)),
    "conv2d, reflected": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 9, 9)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), (2, 2, 4, 4, 4)),
}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed))


@pytest.mark.parametrize("kind", LAYERS)
def test_a_quantised_layer_is_the_layer_with_rounded_weight_and_input(kind):
    make, shape = LAYERS[kind]
    layer = build_seeded(make, 0)
    inputs = QuantSpec(6, symmetric=False, granularity="tensor")
    quantised = QuantLayer(layer, QuantSpec(4), inputs)
    x = normal(*shape)
    quantised(x)
    quantised.activation_quantizer.freeze()
    rounded = quantised.activation_quantizer(x)
    assert 0 < (rounded - x).abs().max() <= quantised.activation_quantizer.scale * 0.501
    weight = AffineWeight(layer.weight, QuantSpec(4))(layer.weight)
    state = {"weight": weight} | ({} if layer.bias is None else {"bias": layer.bias})
    torch.testing.assert_close(quantised(x), torch.func.functional_call(layer, state, (rounded,)))
    assert torch.equal(quantised.weight, weight)
    assert quantised.bias is layer.bias
    assert quantised.weight_spec == QuantSpec(4)
    assert quantised.activation_spec == inputs


def test_an_embedding_rounds_rows_and_never_its_input():
    layer = build_seeded(lambda: nn.Embedding(9, 6, padding_idx=2), 0)
    quantised = QuantLayer(layer, QuantSpec(4), QuantSpec(8, granularity="tensor"))
    indices = torch.tensor([[0, 2], [8, 3]])
    assert quantised.activation_quantizer is None
    assert quantised.weight_quantizer.scale.shape == (9,)
    assert torch.equal(quantised(indices), F.embedding(indices, quantised.weight))
    assert bool((quantised(indices)[0, 1] == 0).all())  # the padding row is exact


def test_switched_off_or_fixed_it_is_the_float_layer():
    layer = build_seeded(lambda: nn.Linear(12, 5), 0)
    quantised = QuantLayer(
        layer, QuantSpec(2), ActivationQuantizer(QuantSpec(granularity="token"), dynamic=True)
    )
    x = normal(3, 12)
    assert not torch.equal(quantised(x), layer(x))
    quantised.enabled = False
    assert torch.equal(quantised(x), layer(x))
    quantised.enabled, quantised.fixed = True, True
    assert torch.equal(quantised.weight, layer.weight)


def test_other_layers_are_refused():
    with pytest.raises(TypeError, match="got ConvTranspose2d"):
        QuantLayer(nn.ConvTranspose2d(2, 2, 3), QuantSpec(4))


def test_apply_layer_takes_another_bias():
    layer, x = build_seeded(lambda: nn.Linear(12, 5), 0), normal(3, 12)
    bias = torch.ones(5)
    torch.testing.assert_close(apply_layer(layer, x, layer.weight, bias), F.linear(x, layer.weight, bias))


def test_gradients_reach_weight_and_input_inside_the_range_only():
    layer = build_seeded(lambda: nn.Linear(6, 4), 0)
    quantised = QuantLayer(layer, QuantSpec(4, observer="percentile", percentile=60), None)
    x = normal(3, 6).requires_grad_()
    quantised(x).sum().backward()
    expected = x.detach().sum(0).expand(4, 6)
    scale = quantised.weight_quantizer.scale[:, None]
    inside = (layer.weight / scale).round().abs() <= 7
    assert bool((~inside).any())
    torch.testing.assert_close(layer.weight.grad, torch.where(inside, expected, 0.0))
    torch.testing.assert_close(x.grad, quantised.weight.sum(0).expand(3, 6))


def test_following_ranges_follow_in_training_only():
    layer = build_seeded(lambda: nn.Linear(6, 4), 0)
    quantised = QuantLayer(layer, AffineWeight(layer.weight, QuantSpec(4), follow=True))
    before = quantised.weight_quantizer.scale.clone()
    with torch.no_grad():
        layer.weight.mul_(2)
    quantised.eval()(normal(1, 6))
    assert torch.equal(quantised.weight_quantizer.scale, before)
    quantised.train()(normal(1, 6))
    torch.testing.assert_close(quantised.weight_quantizer.scale, 2 * before)


def test_stochastic_rounding_differs_in_training_and_is_fixed_by_the_seed_after():
    weight = normal(40, 40)
    quantizer = AffineWeight(weight, QuantSpec(3, rounding="stochastic"), seed=5)
    quantizer.eval()
    assert torch.equal(quantizer(weight), quantizer(weight))
    assert torch.equal(quantizer.decode(quantizer.codes(weight)), quantizer(weight))
    quantizer.train()
    assert not torch.equal(quantizer(weight), quantizer(weight))


@pytest.mark.parametrize("options", [{}, {"symmetric": False}, {"granularity": "group", "group_size": 5}])
def test_codes_decode_to_the_forward(options):
    weight = normal(7, 13)
    quantizer = AffineWeight(weight, QuantSpec(3, **options))
    codes = quantizer.codes(weight)
    low, high = quantizer.code_range
    assert low <= int(codes.min()) <= int(codes.max()) <= high
    assert torch.equal(quantizer.decode(codes), quantizer(weight))


def test_overhead_counts_scales_and_zero_points():
    weight = normal(8, 20)
    assert AffineWeight(weight, QuantSpec(4)).overhead_bits() == {"scales": 8 * 32}
    grouped = QuantSpec(4, symmetric=False, granularity="group", group_size=8)
    assert AffineWeight(weight, grouped).overhead_bits() == {"scales": 24 * 32, "zero points": 24 * 4}


def test_inputs_pass_unchanged_while_observed():
    quantizer = ActivationQuantizer(QuantSpec(3, granularity="tensor"))
    x = normal(4, 8)
    assert not quantizer.is_calibrated
    with pytest.raises(RuntimeError, match="calibrate"):
        quantizer.freeze()
    assert torch.equal(quantizer(x), x)
    assert quantizer.is_calibrated
    quantizer.freeze()
    assert quantizer.mode == "frozen"
    frozen = quantizer.scale.clone()
    quantizer(10 * x)
    assert torch.equal(quantizer.scale, frozen)
    assert quantizer(10 * x).abs().max().item() == pytest.approx(x.abs().max().item())


def test_dynamic_scales_belong_to_each_token():
    quantizer = ActivationQuantizer(QuantSpec(8, granularity="token"), dynamic=True)
    x = normal(2, 3, 16) * torch.tensor([1.0, 1e3, 1e-3])[:, None]
    error = ((quantizer(x) - x).abs().amax(-1) / x.abs().amax(-1)).flatten()
    assert bool((error <= 0.5001 / 127).all())
    alone = quantizer(x[1:, 2:])
    assert torch.equal(quantizer(x)[1:, 2:], alone)  # no token sees another


@pytest.mark.parametrize("observer", ["mse", "percentile"])
def test_dynamic_ranges_may_be_clipped(observer):
    spec = QuantSpec(3, granularity="tensor", observer=observer, percentile=90)
    quantizer, x = ActivationQuantizer(spec, dynamic=True), normal(50, 50)
    scale, zero_point = quantizer.qparams(x)
    assert scale.item() < x.abs().max().item() / 3
    assert torch.equal(quantizer(x), fake_quantize(x, scale, zero_point, spec))


def test_state_of_a_frozen_quantiser_travels():
    quantizer = ActivationQuantizer(QuantSpec(8, granularity="tensor"))
    quantizer(normal(4, 8))
    quantizer.freeze()
    assert set(quantizer.state_dict()) == {"scale", "zero_point"}
    assert "mode='frozen'" in repr(quantizer)


def test_channels_of_another_number_are_refused_with_both_numbers():
    spec = QuantSpec(8, granularity="channel", axis=1)
    inputs = ActivationQuantizer(spec)
    inputs(torch.randn(4, 5, 8))
    with pytest.raises(ValueError, match=r"6 .*axis 1.*5"):
        inputs(torch.randn(4, 6, 8))
    inputs.freeze()
    with pytest.raises(ValueError, match=r"6 .*axis 1.*5.*axis=-1"):
        inputs(torch.randn(4, 6, 8))
