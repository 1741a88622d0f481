"""Dyadic factors against exact fractions, and operations on integers with a scale against those of the numbers."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from lodim.landscape.quantization import FixedPoint, dyadic, rescale
from lodim.landscape.quantization.integer.execution import rounding_shift
from lodim.randomness import torch_generator


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-25, 1e9, allow_subnormal=False))
def test_dyadic_factors_are_within_two_to_the_minus_thirty(factor):
    found = dyadic(torch.tensor([factor], dtype=torch.float64))
    c, n = int(found.multiplier), int(found.shift)
    assert 2**30 <= c < 2**31
    exact = Fraction(factor)
    error = abs(Fraction(c) / Fraction(2) ** n - exact) / exact
    assert error < Fraction(1, 2**30)
    assert found.value.item() == c * 2.0**-n


def test_a_mantissa_that_rounds_up_to_one():
    found = dyadic(torch.tensor([1 - 2.0**-40, 1.0], dtype=torch.float64))
    assert found.multiplier.tolist() == [2**30, 2**30]
    assert found.shift.tolist() == [30, 30]


@pytest.mark.parametrize("factor", [0.0, -1.0, 2.0**31, float("nan")])
def test_factors_that_are_not_dyadic(factor):
    with pytest.raises(ValueError, match="positive"):
        dyadic(torch.tensor([factor]))


@settings(max_examples=80, deadline=None)
@given(st.integers(-(2**62) + 1, 2**62 - 1), st.integers(0, 80))
def test_rounding_shift_is_division_halves_away_from_zero(value, shift):
    exact = Fraction(abs(value), 2**shift)
    expected = math.floor(exact + Fraction(1, 2)) * (1 if value >= 0 else -1)
    assert int(rounding_shift(torch.tensor(value), torch.tensor(shift))) == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(-(2**31) + 1, 2**31 - 1), st.floats(1e-12, 4.0))
def test_rescaling_is_the_product_rounded(code, factor):
    used = dyadic(torch.tensor([factor], dtype=torch.float64))
    exact = abs(code) * Fraction(int(used.multiplier)) / Fraction(2) ** int(used.shift)
    expected = math.floor(exact + Fraction(1, 2)) * (1 if code >= 0 else -1)
    assert rescale(torch.tensor([code]), used).item() == expected


def test_rescaling_refuses_more_than_32_bits():
    with pytest.raises(OverflowError, match="32 bits"):
        rescale(torch.tensor([2**31]), dyadic(torch.tensor([0.5])))


def value(*shape, scale=0.5, seed=0, bound=1000):
    codes = torch.randint(-bound, bound + 1, shape, generator=torch_generator(seed))
    return FixedPoint(codes, torch.as_tensor(scale, dtype=torch.float64), bound)


def channel_scales(c):
    return torch.linspace(0.1, 0.7, c)[None, :, None, None]


def test_operations_are_those_of_the_numbers():
    v = value(4, 3, 8, 8, scale=channel_scales(3))
    x = v.to_float()
    for change in (
        F.relu,
        torch.relu,
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, 2, padding=1),
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, 1, padding=1),
        nn.AdaptiveAvgPool2d(2),
        nn.AdaptiveAvgPool2d((1, None)),
        nn.Flatten(),
        nn.Identity(),
        nn.Dropout().eval(),
        lambda t: t.mean((2, 3)),
        lambda t: torch.mean(t, dim=(2, 3), keepdim=True),
        lambda t: t.view(t.size(0), -1),
        lambda t: t.reshape((t.shape[0], 3, 64)),
        lambda t: torch.flatten(t, 2),
    ):
        out = change(v)
        torch.testing.assert_close(out.to_float(), change(x))
        assert out.codes.abs().max() <= out.bound


def test_sums_of_two_scales():
    a, b = value(5, 3, 4, 4, scale=channel_scales(3)), value(5, 3, 4, 4, scale=0.013, seed=1, bound=77)
    for total in (a + b, torch.add(a, b), sum([b], start=a)):
        step = float(total.scale)
        torch.testing.assert_close(total.to_float(), a.to_float() + b.to_float(), atol=2 * step, rtol=0)
        assert step <= 0.013
        assert total.codes.abs().max() <= total.bound < 2**31
    large = value(2, 3, scale=1e6, bound=2**30)
    total = large + value(2, 3, scale=1e-3, seed=2)
    assert total.bound <= 2**30 + 2


def test_flattened_channels_keep_their_scales():
    v = value(4, 3, 2, 2, scale=channel_scales(3))
    assert v.flatten(1).scale.shape == (1, 12)
    assert value(4, 3, 2, 2).flatten(1).scale.shape == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (torch.sigmoid, "sigmoid"),
        (nn.SiLU(), "silu"),
        (nn.BatchNorm2d(3).eval(), "fold_bn"),
        (nn.Linear(8, 2), "linear"),
        (lambda t: t + 1.0, "float"),
        (lambda t: t.mean(1), "channels of different scales"),
        (lambda t: t.flatten(0), "batch"),
        (nn.Dropout(), "dropout"),
        (nn.AdaptiveAvgPool2d(3), "different sizes"),
        (nn.AvgPool2d(3, ceil_mode=True), "different sizes"),
    ],
)
def test_operations_without_an_integer_form(change, message):
    with pytest.raises(NotImplementedError, match=message):
        change(value(4, 3, 8, 8, scale=channel_scales(3)))
