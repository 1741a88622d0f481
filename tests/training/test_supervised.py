"""Training one module."""

import math
import os
import signal
import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from torch import nn

from lodim.nets import flat_spec, linear, mlp
from lodim.randomness import build_seeded
from lodim.training import DescentRecipe, FitResult, Recipe, descend, fit
from lodim.training.order import epoch_order
from lodim.validation import ConvergenceWarning

pytestmark = pytest.mark.trains


def small(seed=0, dtype=torch.float64):
    return build_seeded(lambda: mlp([5, 8, 3]), seed).to(dtype)


def vector(model):
    return flat_spec(model, lambda name, p: True).flatten(model)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_fit_is_the_textbook_loop(blobs64, optimizer):
    recipe = Recipe(epochs=3, batch_size=32, optimizer=optimizer, weight_decay=0.1, grad_clip=0.5)
    model, oracle = small(), small()
    result = fit(model, blobs64, recipe, lr=0.01, random_state=4)
    # torch's own optimiser, scheduler and weight decay; the decay comes before clipping here, so it is in the loss
    make = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
    stepper = make(oracle.parameters(), lr=0.01, **({} if optimizer == "adam" else {"momentum": 0.9}))
    schedule = torch.optim.lr_scheduler.OneCycleLR(stepper, 0.01, total_steps=9)
    losses = []
    for epoch in range(3):
        for indices in epoch_order(90, 4, epoch).split(32):
            data = nn.functional.cross_entropy(oracle(blobs64.X[indices]), blobs64.y[indices])
            stepper.zero_grad()
            (data + 0.05 * sum(p.square().sum() for p in oracle.parameters())).backward()
            nn.utils.clip_grad_norm_(oracle.parameters(), 0.5)
            stepper.step()
            losses.append((data.item(), len(indices)))
            if len(losses) < 9:
                schedule.step()
    torch.testing.assert_close(vector(model), vector(oracle), rtol=1e-10, atol=1e-12)
    assert result.loss == pytest.approx(sum(a * n for a, n in losses[-3:]) / 90, rel=1e-9)
    assert (result.steps, result.stopped) == (9, "budget")
    with torch.no_grad():
        right = (oracle(blobs64.X_val).argmax(1) == blobs64.y_val).double().mean()
    assert result.score == pytest.approx(float(right))


def test_fit_solves_least_squares(curve):
    model = build_seeded(lambda: linear(2, 1), 0).double()
    fit(model, curve, Recipe(epochs=300, batch_size=50, optimizer="sgd", schedule="cosine"), lr=0.1)
    design = np.column_stack([curve.X.numpy(), np.ones(50)])
    closed = np.linalg.lstsq(design, curve.y.numpy(), rcond=None)[0]
    np.testing.assert_allclose(vector(model).numpy(), closed, atol=1e-6)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(blobs):
    runs = []
    for seed in (0, 0, 1):
        model = small(dtype=torch.float32)
        fit(model, blobs, Recipe(epochs=2, batch_size=32), lr=0.01, random_state=seed)
        runs.append(vector(model))
        torch.rand(3)  # the global generator must not matter
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_the_global_generator_is_untouched(blobs):
    before = torch.get_rng_state()
    fit(nn.Sequential(nn.Dropout(0.5), small(dtype=torch.float32)), blobs, Recipe(epochs=1), lr=0.01)
    assert torch.equal(torch.get_rng_state(), before)


def test_frozen_parameters_stay(blobs):
    model = small(dtype=torch.float32)
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    fit(model, blobs, Recipe(epochs=1), lr=0.1)
    assert torch.equal(model[0].weight, before)


def test_it_stops_when_the_score_is_reached(blobs):
    long = Recipe(epochs=50, batch_size=32, schedule="constant")
    result = fit(small(dtype=torch.float32), blobs, long, lr=0.01, early_stop_score=0.8)
    assert result.stopped == "early_stop"
    assert result.score >= 0.8
    assert len(result.history) < 50
    assert all(record.score < 0.8 for record in result.history[:-1])
    assert result.history[-1].score == pytest.approx(result.score)


def test_patience_stops_and_returns_to_the_best(blobs):
    model = small(dtype=torch.float32)
    result = fit(model, blobs, Recipe(epochs=200, batch_size=32, patience=3, schedule="constant"), lr=0.05)
    scores = [record.score for record in result.history]
    assert result.stopped == "patience"
    assert result.score == max(scores)
    assert scores.index(max(scores)) == len(scores) - 4


def test_score_on_train_is_the_training_score(blobs):
    result = fit(
        small(dtype=torch.float32), blobs, Recipe(epochs=2), lr=0.01, score_on="train", record_scores=True
    )
    assert result.score == result.train_score == pytest.approx(result.history[-1].score)


def test_a_deadline_ends_the_run_with_what_it_has(blobs):
    result = fit(small(dtype=torch.float32), blobs, Recipe(epochs=5), lr=0.01, deadline=time.monotonic() - 1)
    assert (result.stopped, result.steps, result.history) == ("deadline", 0, ())
    assert 0 <= result.score <= 1
    later = fit(small(dtype=torch.float32), blobs, Recipe(epochs=5), lr=0.01, deadline=time.monotonic() + 600)
    assert later.stopped == "budget"


def test_divergence_is_recorded_and_warned_of(curve):
    model = build_seeded(lambda: linear(2, 1), 0).double()
    with pytest.warns(ConvergenceWarning, match="smaller learning rate"):
        result = fit(model, curve, Recipe(epochs=200, optimizer="sgd", schedule="constant"), lr=1e6)
    assert result.stopped == "diverged"
    assert math.isnan(result.score)
    assert len(result.history) < 200
    assert FitResult.from_json(result.to_json()).stopped == "diverged"


def test_running_statistics_are_used_and_the_mode_is_restored(blobs):
    model = nn.Sequential(nn.BatchNorm1d(5), small(dtype=torch.float32)).eval()
    fit(model, blobs, Recipe(epochs=3), lr=0.01)
    assert int(model[0].num_batches_tracked) == 3
    assert not model.training


def test_progress_rises_to_one(blobs):
    seen = []
    fit(
        small(dtype=torch.float32),
        blobs,
        Recipe(epochs=4),
        lr=0.01,
        progress=lambda done, text: seen.append((done, text)),
    )
    assert [done for done, _ in seen] == [0.25, 0.5, 0.75, 1.0]
    assert "epoch 4" in seen[-1][1]


def test_on_step_is_called_after_every_step_of_the_optimiser(blobs):
    model, seen = small(dtype=torch.float32), []
    result = fit(model, blobs, Recipe(epochs=3), lr=0.01, on_step=lambda: seen.append(vector(model).clone()))
    assert len(seen) == result.steps > 0
    assert all(not torch.equal(a, b) for a, b in pairwise(seen))
    assert torch.equal(seen[-1], vector(model))


def noisy():
    inner = build_seeded(lambda: mlp([5, 8, 3]), 0)
    return nn.Sequential(nn.BatchNorm1d(5), nn.Dropout(0.3), inner)


class Stop(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("patience", [None, 20])
def test_a_resumed_run_ends_with_the_same_bits(blobs, tmp_path, patience):
    recipe, path = Recipe(epochs=6, batch_size=32, patience=patience), tmp_path / "deep" / "run.pt"
    whole = noisy()
    expected = fit(whole, blobs, recipe, lr=0.01, random_state=2)

    def kill(done, text):
        if done >= 0.5:
            raise Stop

    with pytest.raises(Stop):
        fit(noisy(), blobs, recipe, lr=0.01, random_state=2, progress=kill, checkpoint=path)
    seen, resumed = [], noisy()
    result = fit(
        resumed, blobs, recipe, lr=0.01, random_state=2, progress=lambda *a: seen.append(a), checkpoint=path
    )
    assert len(seen) == 3
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert (result.score, result.loss, result.steps) == (expected.score, expected.loss, expected.steps)
    assert [r.loss for r in result.history] == [r.loss for r in expected.history]
    again = noisy()
    fit(again, blobs, recipe, lr=0.01, random_state=2, progress=lambda *a: seen.append(a), checkpoint=path)
    assert len(seen) == 3  # a finished run is only read
    assert torch.equal(vector(again), vector(whole))
    assert [p.name for p in path.parent.iterdir()] == ["run.pt"]


def test_a_checkpoint_of_another_run_is_refused(blobs, tmp_path):
    path = tmp_path / "run.pt"
    fit(noisy(), blobs, Recipe(epochs=1), lr=0.01, checkpoint=path)
    with pytest.raises(ValueError, match="another run"):
        fit(noisy(), blobs, Recipe(epochs=1), lr=0.02, checkpoint=path)


def test_an_interrupt_leaves_a_usable_model(blobs):
    model = small(dtype=torch.float32).eval()

    def interrupt(done, text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, blobs, Recipe(epochs=3), lr=0.01, progress=interrupt)
    assert not model.training
    assert vector(model).isfinite().all()


def test_an_interrupt_in_the_middle_of_an_epoch_is_raised_and_nothing_is_lost(blobs, tmp_path):
    recipe, steps, whole, resumed = Recipe(epochs=4, batch_size=32), [], noisy(), noisy()
    expected = fit(whole, blobs, recipe, lr=0.01)

    def interrupt_the_fifth():
        steps.append(1)
        if len(steps) == 5:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        fit(noisy(), blobs, recipe, lr=0.01, checkpoint=tmp_path / "run.pt", on_step=interrupt_the_fifth)
    result = fit(resumed, blobs, recipe, lr=0.01, checkpoint=tmp_path / "run.pt", on_step=interrupt_the_fifth)
    signal.signal(signal.SIGINT, before)
    assert len(steps) == result.steps == 12  # each once
    assert torch.equal(vector(resumed), vector(whole))
    assert [r.loss for r in result.history] == [r.loss for r in expected.history]


def test_mixed_precision_trains_to_nearly_the_same(blobs):
    recipe = Recipe(epochs=10, batch_size=32)
    full, mixed = small(dtype=torch.float32), small(dtype=torch.float32)
    a, b = fit(full, blobs, recipe, lr=0.01), fit(mixed, blobs, recipe, lr=0.01, autocast=torch.bfloat16)
    assert not torch.equal(vector(full), vector(mixed))
    assert abs(a.loss - b.loss) < 0.02 * a.loss
    assert vector(mixed).dtype == torch.float32


def test_bad_arguments_are_refused(blobs):
    with pytest.raises(ValueError, match="nothing to train"):
        fit(small().requires_grad_(False), blobs, lr=0.1)
    with pytest.raises(ValueError, match="lr must be positive"):
        fit(small(), blobs, lr=0.0)
    with pytest.raises(ValueError, match="score_on"):
        fit(small(), blobs, lr=0.1, score_on="test")
    with pytest.raises(ValueError, match="bfloat16"):
        fit(small(), blobs, lr=0.1, autocast=torch.float16)


def test_a_regression_fits_a_curve(curve):
    model = build_seeded(lambda: mlp([2, 32, 32, 1]), 0).double()
    result = fit(model, curve, Recipe(epochs=150, batch_size=25), lr=0.02)
    assert result.train_score > 0.99
    straight = LinearRegression().fit(curve.X, curve.y)
    assert result.score > straight.score(curve.X_val, curve.y_val)


def test_every_part_is_left_in_the_mode_in_which_it_came(blobs64):
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)).double()
    model[1].eval()
    fit(model, blobs64, Recipe(epochs=1), lr=1e-3)
    assert [module.training for module in model.modules()] == [True, True, False, True]


def test_a_run_without_one_finite_step_has_diverged():
    start = torch.ones(2, requires_grad=True)
    with pytest.warns(ConvergenceWarning, match="no step had a finite loss"):
        result = descend(lambda: start.sum() * math.nan, [start], DescentRecipe(steps=3))
    assert (result.stopped, result.skipped) == ("diverged", 3)
    assert "stopped by diverged" in str(result)


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_it_trains_where_the_caller_has_switched_gradients_off(blobs, off):
    model, other = small(), small()
    fit(model, blobs, Recipe(epochs=1, batch_size=32), lr=0.01)
    with off():
        result = fit(other, blobs, Recipe(epochs=1, batch_size=32), lr=0.01)
    assert torch.equal(vector(model), vector(other))
    assert "stopped" not in str(result)


def test_a_generator_gives_the_seed_and_none_gives_another_each_time(blobs):
    def weights(random_state):
        model = small()
        fit(model, blobs, Recipe(epochs=1, batch_size=32), lr=0.01, random_state=random_state)
        return vector(model)

    first, again = (weights(np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(weights(None), weights(None))
