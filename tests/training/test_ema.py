"""Averages of weights, by half-life in samples."""

import copy

import pytest
import torch
from torch import nn

from lodim.training import ExponentialMovingAverage


def walk(ema, p, values, batch=1):
    for value in values:
        with torch.no_grad():
            p.fill_(value)
        ema.update(batch)


def test_the_first_step_sets_it_and_a_constant_stays():
    p = nn.Parameter(torch.zeros(3))
    ema = ExponentialMovingAverage([p], 100)
    walk(ema, p, [7.0] * 5, batch=10)
    assert torch.equal(ema.averages[0], torch.full((3,), 7.0))


def test_it_is_the_recursion_of_the_formula():
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    ema = ExponentialMovingAverage([p], 30)
    average, seen = 0.0, 0
    for step in range(200):
        walk(ema, p, [float(step)], batch=8)
        half_life = min(30, 0.05 * seen)
        beta = 0.5 ** (8 / half_life) if seen else 0.0
        average, seen = beta * average + (1 - beta) * step, seen + 8
    assert float(ema.averages[0]) == pytest.approx(average, rel=1e-12)


def test_a_half_life_halves_whatever_the_batch():
    for batch in (1, 5, 25):
        p = nn.Parameter(torch.ones(1, dtype=torch.float64))
        ema = ExponentialMovingAverage([p], 50)
        ema.seen = 10_000  # past the early rule
        walk(ema, p, [0.0] * (50 // batch), batch)
        assert float(ema.averages[0]) == pytest.approx(0.5)


def test_averages_are_swapped_in_and_out_whatever_happens():
    model = nn.Linear(2, 1)
    slow, fast = ExponentialMovingAverage(model, 1e6), ExponentialMovingAverage(model.parameters(), 1.0)
    for ema, value in ((slow, 1.0), (fast, 2.0)):
        for average in ema.averages:
            average.fill_(value)
    before = copy.deepcopy(model.state_dict())

    def look_and_fail():
        with slow.average_parameters(), fast.average_parameters():
            assert float(model.weight[0, 0].detach()) == 2.0
            raise LookupError

    with slow.average_parameters():
        assert float(model.weight[0, 0].detach()) == 1.0
    with pytest.raises(LookupError):
        look_and_fail()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_short_precisions_are_averaged_in_float32():
    p = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    ema = ExponentialMovingAverage([p], 1000)
    ema.seen = 10**6
    walk(ema, p, [2.0])  # a part of 7e-4, which bfloat16 could not hold
    assert float(ema.averages[0]) == pytest.approx(1 + (1 - 0.5**0.001), rel=1e-5)
    with ema.average_parameters():
        assert p.dtype == torch.bfloat16


def test_whole_numbers_are_taken_over():
    p, codes = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.arange(3), requires_grad=False)
    ema = ExponentialMovingAverage([p, codes], 100)
    walk(ema, p, [1.0, 2.0])
    assert ema.averages[1].tolist() == [0, 1, 2]
    assert 1 < float(ema.averages[0]) < 2


def test_it_is_saved_copied_and_refused():
    model = nn.Linear(2, 1)
    ema = ExponentialMovingAverage(model, 10)
    walk(ema, model.weight, [3.0, 4.0])
    other = ExponentialMovingAverage(nn.Linear(2, 1), 10)
    other.load_state_dict(ema.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ema.averages, other.averages, strict=True))
    with pytest.raises(ValueError, match="half_life=10"):
        ExponentialMovingAverage(model, 20).load_state_dict(ema.state_dict())
    with pytest.raises(ValueError, match="positive"):
        ExponentialMovingAverage(model, 0)
    with pytest.raises(ValueError, match=r"shapes \[\(1,\)\], but these parameters \[\(3,\)\]"):
        ExponentialMovingAverage(torch.ones(3), 10).load_state_dict(
            ExponentialMovingAverage(torch.ones(1), 10).state_dict()
        )
    with pytest.raises(TypeError, match="got tuple"):
        ExponentialMovingAverage(model.named_parameters(), 10)
    twin, follower = copy.deepcopy((model, ema))
    walk(follower, twin.weight, [9.0])
    assert not torch.equal(follower.averages[0], ema.averages[0])
    assert follower.parameters[0] is twin.weight
