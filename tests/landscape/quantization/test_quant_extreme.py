"""Binary and ternary weights against their closed forms, and XNOR layers against counting bits."""

import numpy as np
import pytest
import torch
from scipy.stats import halfnorm
from torch import nn
from torch.nn import functional as F

from lodim.landscape.quantization.extreme import (
    BinarySpec,
    TernarySpec,
    XNORConv2d,
    XNORLinear,
    binary_weights,
    sign_ste,
    ternary_weights,
    xnor_layer,
    xnor_matmul,
    xnor_speedup,
)
from lodim.nets import replace_layers
from lodim.randomness import torch_generator


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed))


def test_binary_scale_is_the_mean_size_and_the_best():
    rows = normal(4, 50)
    a, signs = binary_weights(rows)
    torch.testing.assert_close(a[:, 0], rows.abs().mean(1))
    least = (rows - a * signs).square().sum(1)
    # ||w - a b||^2 = ||w||^2 - n a^2 at the best a
    torch.testing.assert_close(least, rows.square().sum(1) - 50 * a[:, 0].square())
    for factor in (0.9, 1.1):
        assert (least < (rows - factor * a * signs).square().sum(1)).all()


def test_binary_zero_is_plus():
    a, signs = binary_weights(torch.tensor([[0.0, -2.0, 1.0]]))
    assert signs.tolist() == [[1, -1, 1]]
    assert a.item() == 1.0


def test_ternary_by_hand():
    rows = torch.tensor([[1.0, -2.0, 0.1, -0.1, 0.8], [0.0, 0.0, 0.0, 0.0, 0.0]])
    a, pattern = ternary_weights(rows)  # mean size 0.8, threshold 0.56
    assert pattern.tolist() == [[1, -1, 0, 0, 1], [0, 0, 0, 0, 0]]
    torch.testing.assert_close(a[:, 0], torch.tensor([3.8 / 3, 0.0]))


def test_ternary_scale_is_least_squares_for_its_pattern():
    rows = normal(6, 40)
    a, pattern = ternary_weights(rows)
    best = (rows * pattern).sum(1) / pattern.square().sum(1)
    torch.testing.assert_close(a[:, 0], best)


@pytest.mark.parametrize(("share", "draw"), [(2 / 3, "uniform"), (0.75, "normal")])
def test_the_best_thresholds_are_the_known_ones(share, draw):
    x = np.linspace(0.0005, 0.9995, 1000)
    sizes = x if draw == "uniform" else halfnorm.ppf(x)
    rows = torch.as_tensor(sizes)[None]
    shares = np.linspace(0.4, 1.1, 71)
    errors = []
    for threshold in shares:
        a, pattern = ternary_weights(rows, float(threshold))
        errors.append((rows - a * pattern).square().sum().item())
    # the optimum t of a density solves t = E[|w| : |w| > t] / 2: 1/3 of the range, 0.612 standard deviations
    assert shares[int(np.argmin(errors))] == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(
    "spec", [BinarySpec(), BinarySpec("tensor"), TernarySpec(), TernarySpec(0.75, "group", 4)]
)
def test_codes_decode_to_what_the_layer_sees(spec):
    weight = normal(3, 2, 2, 2)
    quantizer = spec.quantizer(weight)
    codes = quantizer.codes(weight)
    low, high = quantizer.code_range
    assert (low, high) == (0, 1 if isinstance(spec, BinarySpec) else 2)
    assert low <= codes.min()
    assert codes.max() <= high
    assert torch.equal(quantizer.decode(codes), quantizer(weight))


def test_scales_follow_the_weight():
    weight = normal(3, 10)
    quantizer = BinarySpec().quantizer(weight)
    torch.testing.assert_close(quantizer(2 * weight), 2 * quantizer(weight))
    quantizer(2 * weight)
    assert torch.equal(quantizer.decode(quantizer.codes(weight)), quantizer(weight))


@pytest.mark.parametrize("spec", [BinarySpec(), TernarySpec()])
def test_gradient_passes_up_to_size_one(spec):
    weight = torch.tensor([[-1.5, -1.0, -0.2, 0.0, 0.6, 1.01]], requires_grad=True)
    g = torch.arange(1.0, 7.0)[None]
    spec.quantizer(weight)(weight).backward(g)
    torch.testing.assert_close(weight.grad, g * torch.tensor([[0.0, 1, 1, 1, 1, 0]]))


def test_sign_gradient():
    x = torch.tensor([-3.0, -1.0, 0.0, 0.5, 2.0], requires_grad=True)
    y = sign_ste(x)
    y.sum().backward()
    assert y.tolist() == [-1, -1, 1, 1, 1]
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


@pytest.mark.parametrize("n", [1, 8, 63, 64, 65, 200])
def test_counting_bits_is_multiplying_signs(n):
    x, w = normal(7, n), normal(5, n, seed=1)
    signs = torch.where(x < 0, -1, 1) @ torch.where(w < 0, -1, 1).T
    assert torch.equal(xnor_matmul(x, w), signs)


def test_xnor_linear_is_scaled_bit_counts():
    layer = nn.Linear(30, 4)
    x = normal(6, 30)
    out = XNORLinear(layer)(x)
    by_counting = xnor_matmul(x, layer.weight) * x.abs().mean(1, keepdim=True) * layer.weight.abs().mean(1)
    torch.testing.assert_close(out, by_counting + layer.bias)


def test_xnor_convolution_of_a_kernel_as_large_as_the_image_is_linear():
    conv = nn.Conv2d(3, 5, 4)
    linear = nn.Linear(48, 5)
    linear.weight.data, linear.bias.data = conv.weight.data.flatten(1), conv.bias.data
    x = normal(2, 3, 4, 4)
    torch.testing.assert_close(XNORConv2d(conv)(x)[:, :, 0, 0], XNORLinear(linear)(x.flatten(1)))


def test_xnor_convolution_scales():
    conv = nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False)
    x = normal(1, 2, 7, 7)
    layer = XNORConv2d(conv)
    k = F.avg_pool2d(x.abs().mean(1, keepdim=True), 3, 2, 1)  # zeros of the padding counted
    torch.testing.assert_close(layer.input_scale(x), k)
    signs = F.conv2d(
        torch.where(x < 0, -1.0, 1.0), torch.where(conv.weight < 0, -1.0, 1.0), stride=2, padding=1
    )
    a = conv.weight.abs().mean((1, 2, 3))[:, None, None]
    torch.testing.assert_close(layer(x), signs * k * a)


def test_signs_of_signs_are_exact():
    layer = nn.Linear(16, 3, bias=False)
    layer.weight.data = 0.25 * torch.where(layer.weight < 0, -1.0, 1.0)
    x = 3.0 * torch.where(normal(5, 16) < 0, -1.0, 1.0)
    torch.testing.assert_close(XNORLinear(layer)(x), layer(x))


def test_xnor_layers_learn():
    g = torch_generator(3)
    x = torch.randn(256, 20, generator=g)
    y = (x[:, :5].sign().sum(1) > 0).long()
    model = nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.Linear(32, 2))
    for p in model.parameters():
        p.data = 0.2 * torch.randn(p.shape, generator=g)
    replace_layers(model, xnor_layer)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_cost_model():
    assert xnor_speedup(256 * 9) == pytest.approx(62.27, abs=0.005)  # the paper's example
    assert xnor_speedup(1) < 1
    assert xnor_speedup(10**9) == pytest.approx(64, rel=1e-6)


def test_refusals():
    with pytest.raises(TypeError, match=r"'a\.b', got ReLU"):
        xnor_layer("a.b", nn.ReLU())
    with pytest.raises(ValueError, match="one group"):
        xnor_layer("c", nn.Conv2d(4, 4, 3, groups=2))
    with pytest.raises(ValueError, match="threshold"):
        TernarySpec(-0.1)
