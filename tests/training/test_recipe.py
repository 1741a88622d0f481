"""Recipes, schedules, results, and reasons to stop."""

import math
from itertools import pairwise

import pytest
import torch

from lodim.training import EpochRecord, FitResult, Recipe, schedule_at
from lodim.training.recipe import Watch


@pytest.mark.trains
@pytest.mark.parametrize("total", [10, 37, 120])
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_one_cycle_is_torchs(total, name):
    parameter = torch.nn.Parameter(torch.zeros(1))
    make = torch.optim.Adam if name == "adam" else torch.optim.SGD
    optimizer = make([parameter], lr=0.3, **({} if name == "adam" else {"momentum": 0.9}))
    oracle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=total)
    for step in range(total):
        group = optimizer.param_groups[0]
        momentum = group["betas"][0] if name == "adam" else group["momentum"]
        assert schedule_at("onecycle", step, total) == pytest.approx((group["lr"] / 0.3, momentum), rel=1e-9)
        optimizer.step()
        if step < total - 1:
            oracle.step()


@pytest.mark.parametrize("total", [1, 2, 3, 4])
def test_one_cycle_of_a_few_steps_is_finite_and_positive(total):
    for step in range(total):
        factor, momentum = schedule_at("onecycle", step, total)
        assert 0 < factor <= 1
        assert 0.85 <= momentum <= 0.95


@pytest.mark.trains
@pytest.mark.parametrize("total", [1, 2, 7, 100])
def test_cosine_is_torchs(total):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    oracle = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    for step in range(total + 1):
        assert schedule_at("cosine", step, total)[0] == pytest.approx(oracle.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        oracle.step()


def test_cosine_falls_from_one_to_zero_and_constant_stays():
    factors = [schedule_at("cosine", step, 100)[0] for step in range(101)]
    assert factors[0] == 1
    assert factors[50] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0, abs=1e-12)
    assert all(a > b for a, b in pairwise(factors))
    assert schedule_at("constant", 17, 100) == (1.0, 0.9)


def test_steps_count_short_batches():
    assert Recipe(epochs=3, batch_size=128).n_steps(257) == 9


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"optimizer": "sdg"}, "Did you mean 'sgd'"),
        ({"schedule": "linear"}, "'onecycle'"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"penalty": "w"}, "penalty"),
        ({"grad_clip": 0.0}, "None switches clipping off"),
        ({"patience": 0}, "patience"),
    ],
)
def test_bad_recipes_are_refused(bad, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Recipe(**bad)


def test_watch_stops_for_each_reason():
    watch = Watch(patience=2, early_stop_score=0.9)
    assert watch.wants_score
    assert [watch.after_epoch(1.0, score) for score in (0.5, 0.6, 0.6, 0.55)] == [
        None,
        None,
        None,
        "patience",
    ]
    assert watch.best == 0.6
    assert Watch(None, 0.9).after_epoch(1.0, 0.9) == "early_stop"
    assert Watch(None, 0.9).after_epoch(math.nan, 0.95) == "diverged"
    assert Watch(None, None).after_epoch(1.0) is None
    assert not Watch(None, None).wants_score


def test_a_score_of_nan_never_passes():
    watch = Watch(patience=1, early_stop_score=0.1)
    assert watch.after_epoch(1.0, math.nan) == "patience"


def test_results_travel_as_json_and_tabulate():
    result = FitResult(
        0.9, 0.95, 0.1, 12, 1e-3, 0.5, "budget", (EpochRecord(1, 0.3, math.nan), EpochRecord(2, 0.1, 0.9))
    )
    again = FitResult.from_json(result.to_json())
    assert again.history[1] == result.history[1]
    assert math.isnan(again.history[0].score)
    assert "NaN" not in result.to_json()
    assert result.to_frame().loss.tolist() == [0.3, 0.1]
    assert "0.9000" in str(result)
    axes = result.plot()
    assert len(axes.lines) == 2


@pytest.mark.parametrize("schedule", ["onecycle", "cosine"])
def test_a_schedule_of_no_steps_is_refused(schedule):
    with pytest.raises(ValueError, match="total must be at least 1"):
        schedule_at(schedule, 0, 0)
