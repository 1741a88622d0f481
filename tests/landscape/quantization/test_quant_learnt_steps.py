"""Grids that are trained: every gradient is its formula, and settling changes nothing."""

import math

import pytest
import torch

from lodim.landscape.quantization import (
    ActivationQuantizer,
    AffineWeight,
    LearntInputStep,
    LearntStep,
    QuantSpec,
    fake_quantize,
    to_blocks,
)
from lodim.landscape.quantization.grid.learnt_steps import lsq_start, step_gradient_factor

INPUTS = QuantSpec(4, symmetric=False, granularity="tensor")


def weight(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def from_grid(w, grid):
    learnt = LearntStep(w, grid)
    with torch.no_grad():
        learnt.step.copy_(grid.scale)
    return learnt


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
    learnt = from_grid(w, AffineWeight(w, spec))
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
    torch.testing.assert_close(lsq_start(w, 7), 2 * w.abs().mean(1) / math.sqrt(7))
    assert LearntStep(w, AffineWeight(w, QuantSpec(4))).gradient_factor == pytest.approx(
        1 / math.sqrt(40 * 7)
    )
    assert lsq_start(torch.zeros(1, 3), 7).item() == 1  # a dead channel
    grid = AffineWeight(w, QuantSpec(4, symmetric=False))
    assert torch.equal(LearntStep(w, grid).step.detach(), grid.scale)


def test_the_start_from_the_grid_changes_nothing_and_settling_neither():
    w = weight(5, 8).float()
    for spec in (QuantSpec(3), QuantSpec(3, symmetric=False, granularity="group", group_size=3)):
        grid = AffineWeight(w, spec)
        learnt = from_grid(w, grid)
        assert torch.equal(learnt(w), grid(w))
        assert torch.equal(learnt.decode(learnt.codes(w)), learnt(w))
        with torch.no_grad():
            learnt.step.mul_(-0.8)  # the sign does not matter
        settled = learnt.settled()
        assert torch.equal(settled(w), learnt(w))
        assert settled.spec == spec
        assert learnt.overhead_bits() == grid.overhead_bits()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_better_start_is_taken_for_each_block(bits):
    w = weight(5, 40) * torch.linspace(0.1, 3, 5)[:, None]
    w[0, 0] = 20.0  # an outlier that spoils one channel's range
    spec = QuantSpec(bits)
    grid = AffineWeight(w, spec)
    both = grid.scale, lsq_start(w, spec.qmax)
    errors = [(fake_quantize(w, s, grid.zero_point, spec) - w).square().sum(1) for s in both]
    taken = LearntStep(w, grid)
    torch.testing.assert_close((taken(w) - w).square().sum(1).detach(), torch.minimum(*errors))


def frozen_input(low, high, spec=INPUTS):
    grid = ActivationQuantizer(spec)
    grid(torch.tensor([low, high]))
    grid.freeze()
    return grid


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


def test_of_a_stochastic_grid_codes_are_the_forwards_and_the_seed_stays():
    weight = torch.linspace(-2, 3, 120).sin().reshape(4, 30)
    grid = AffineWeight(weight, QuantSpec(3, rounding="stochastic"), seed=7)
    learnt = LearntStep(weight, grid)
    assert torch.equal(learnt.decode(learnt.codes(weight)), learnt(weight))
    assert learnt.settled().seed == 7
