"""Grids that are trained: every gradient is its formula, and settling changes nothing."""

import math

import pytest
import torch

from lodim.landscape.quantization.fake import ActivationQuantizer, AffineWeight
from lodim.landscape.quantization.grid import to_blocks
from lodim.landscape.quantization.learnt_steps import (
    ClippedInput,
    LearntInputStep,
    LearntStep,
    lsq_start,
    step_gradient_factor,
)
from lodim.landscape.quantization.spec import QuantSpec

INPUTS = QuantSpec(4, symmetric=False, granularity="tensor")


def weight(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    "spec",
    [
        QuantSpec(2, granularity="tensor"),
        QuantSpec(3),
        QuantSpec(4, range="full"),
        QuantSpec(3, granularity="group", group_size=4),
    ],
    ids=str,
)
def test_gradients_are_the_formulas(spec):
    """Weights: the mask of the range. Steps: round(v) - v inside, the end of the grid outside, times the factor."""
    w = weight(6, 8).requires_grad_()
    learnt = LearntStep(w, AffineWeight(w, spec), start="grid")
    with torch.no_grad():
        learnt.step.mul_(0.6)  # so that some weights lie outside
    upstream = weight(6, 8).roll(1)
    learnt(w).backward(upstream)
    v = to_blocks(w.detach(), spec) / learnt.step.detach()[:, None]
    inside = (v >= spec.qmin) & (v <= spec.qmax)
    assert not inside.all()
    torch.testing.assert_close(to_blocks(w.grad, spec), to_blocks(upstream, spec) * inside)
    by_number = torch.where(inside, v.round() - v, v.clamp(spec.qmin, spec.qmax))
    n = v.shape[1]
    expected = (by_number * to_blocks(upstream, spec)).sum(1) / math.sqrt(n * spec.qmax)
    torch.testing.assert_close(learnt.step.grad, expected)


def test_the_factor_and_the_start_are_the_formulas():
    assert step_gradient_factor(100, 4) == pytest.approx(1 / 20)
    w = weight(5, 40)
    spec = QuantSpec(4)
    learnt = LearntStep(w, AffineWeight(w, spec), start="lsq")
    torch.testing.assert_close(learnt.step.detach(), 2 * w.abs().mean(1) / math.sqrt(7))
    assert learnt.gradient_factor == pytest.approx(1 / math.sqrt(40 * 7))
    assert lsq_start(torch.zeros(1, 3), 7).item() == 1  # a dead channel
    with pytest.raises(ValueError, match="symmetric"):
        LearntStep(w, AffineWeight(w, QuantSpec(4, symmetric=False)), start="lsq")


def test_the_start_from_the_grid_changes_nothing_and_settling_neither():
    w = weight(5, 8).float()
    for spec in (QuantSpec(3), QuantSpec(3, symmetric=False, granularity="group", group_size=3)):
        grid = AffineWeight(w, spec)
        learnt = LearntStep(w, grid, start="grid")
        assert torch.equal(learnt(w), grid(w))
        assert torch.equal(learnt.decode(learnt.codes(w)), learnt(w))
        with torch.no_grad():
            learnt.step.mul_(-0.8)  # the sign does not matter
        settled = learnt.settled()
        assert torch.equal(settled(w), learnt(w))
        assert settled.spec == spec
        assert learnt.overhead_bits() == grid.overhead_bits()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_by_default_the_better_start_is_taken_for_each_block(bits):
    w = weight(5, 40) * torch.linspace(0.1, 3, 5)[:, None]
    w[0, 0] = 20.0  # an outlier that spoils one channel's range
    grid = AffineWeight(w, QuantSpec(bits))

    def errors(start):
        return (LearntStep(w, grid, start)(w) - w).square().sum(1).detach()

    torch.testing.assert_close(errors("auto"), torch.minimum(errors("grid"), errors("lsq")))


def frozen_input(low, high, spec=INPUTS):
    grid = ActivationQuantizer(spec)
    grid(torch.tensor([low, high]))
    grid.freeze()
    return grid


def test_pact_is_the_formula():
    clipped = ClippedInput(frozen_input(0.0, 3.0))
    x = torch.tensor([-1.0, 0.0, 0.7, 2.9, 3.5, 9.0], requires_grad=True)
    y = clipped(x)
    step = 3.0 / 15
    torch.testing.assert_close(y, (x.detach().clamp(0, 3) / step).round() * step)
    y.backward(torch.tensor([1.0, 2, 4, 8, 16, 32]))
    assert x.grad.tolist() == [0, 2, 4, 8, 0, 0]
    assert clipped.alpha.grad.item() == 48
    assert torch.equal(clipped.settled()(x), clipped(x))


def test_a_learnt_input_step_counts_one_sample_s_features():
    learnt = LearntInputStep(frozen_input(-1.0, 2.0))
    x = 2 * weight(10, 7).float()
    learnt(x).sum().backward()
    v = x / learnt.step.detach() + learnt.zero_point
    inside = (v >= 0) & (v <= 15)
    outside = v.clamp(0, 15) - learnt.zero_point
    by_number = torch.where(inside, v.round() - v, outside)
    torch.testing.assert_close(
        learnt.step.grad, by_number.sum().reshape(1) / math.sqrt(7 * 15), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(learnt.settled()(x), learnt(x))
