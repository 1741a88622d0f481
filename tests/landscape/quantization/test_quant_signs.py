"""Binary and ternary weights against their closed forms."""

import numpy as np
import pytest
import torch
from scipy.stats import halfnorm

from lodim.landscape.quantization import BinarySpec, TernarySpec, binary_weights, ternary_weights
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


def test_a_negative_threshold_is_refused():
    with pytest.raises(ValueError, match="threshold"):
        TernarySpec(-0.1)
