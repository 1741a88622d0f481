"""Training through the grid recovers accuracy, follows its schedule, and ends on a fixed grid."""

import numpy as np
import pytest
import torch
from torch import nn

from lodim.landscape.quantization import (
    ActivationQuantizer,
    AffineWeight,
    LearntStep,
    QuantRecipe,
    QuantSpec,
    calibrate,
    convert,
    finetune_quantized,
    prepare,
    quant_layers,
)
from lodim.nets import mlp
from lodim.randomness import build_seeded
from lodim.training import Recipe, Task, fit

pytestmark = pytest.mark.trains

INPUTS = QuantSpec(4, symmetric=False, granularity="tensor")


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    centres = 1.2 * rng.normal(size=(4, 8))
    y = np.arange(800) % 4
    X = centres[y] + rng.normal(size=(800, 8))
    task = Task.from_arrays(X[:400], y[:400], X[400:], y[400:])
    model = build_seeded(lambda: mlp([8, 32, 32, 4]), 0)
    fit(model, task, Recipe(epochs=15), lr=1e-2)
    return model, task


def accuracy(model, task):
    with torch.no_grad():
        return float(task.score(model.eval()(task.X_val), task.y_val))


TWO_BITS = QuantRecipe(QuantSpec(2, granularity="tensor"))


@pytest.mark.parametrize("scales", ["learnt", "follow", "fixed"])
def test_training_recovers_what_two_bits_lost(trained, scales):
    model, task = trained
    model_q = prepare(model, TWO_BITS)
    before = accuracy(model_q, task)
    result = finetune_quantized(model_q, task, Recipe(epochs=10, batch_size=64), lr=4e-2, scales=scales)
    exact = accuracy(model, task)
    assert before < exact - 0.05
    assert result.score > before + (exact - before) / 2  # five seeds: three quarters come back, or more
    assert all(type(layer.weight_quantizer) is AffineWeight for layer in quant_layers(model_q).values())
    assert accuracy(model_q, task) == pytest.approx(result.score)
    packed = convert(model_q, "packed")
    with torch.no_grad():
        assert torch.equal(packed(task.X_val), model_q.eval()(task.X_val))


@pytest.mark.parametrize("scales", ["learnt", "fixed"])
def test_inputs_are_trained_and_frozen_again(trained, scales):
    model, task = trained
    model_q = prepare(model, QuantRecipe(QuantSpec(4), INPUTS))
    finetune_quantized(model_q, task, Recipe(epochs=2), lr=2e-3, scales=scales)
    start = calibrate(prepare(model, QuantRecipe(QuantSpec(4), INPUTS)), task.X[:1024])
    for name, layer in quant_layers(model_q).items():
        grid = layer.activation_quantizer
        assert type(grid) is ActivationQuantizer
        assert grid.mode == "frozen"
        first = start.get_submodule(name).activation_quantizer
        first.freeze()
        assert scales == "fixed" or not torch.equal(grid.scale, first.scale)
    assert accuracy(convert(model_q), task) > accuracy(model, task) - 0.05


def test_uncalibrated_inputs_are_observed_while_warming_up(trained):
    model, task = trained
    seen = []

    class Watching(ActivationQuantizer):
        def forward(self, x):
            if self.training:
                seen.append(self.mode)
            return super().forward(x)

    model_q = prepare(model, QuantRecipe(QuantSpec(4), INPUTS))
    layer = model_q.get_submodule("0")
    layer.activation_quantizer = Watching(INPUTS)
    finetune_quantized(model_q, task, Recipe(epochs=5, batch_size=100), lr=1e-3, scales="fixed", warm_up=0.25)
    assert seen == ["observing"] * 5 + ["frozen"] * 15


def test_following_ends_with_the_warm_up(trained):
    model, task = trained
    model_q = prepare(model, TWO_BITS)
    counts = {"n": 0}
    grid = model_q.get_submodule("0").weight_quantizer
    original = grid.refresh

    def refresh(w):
        counts["n"] += 1
        original(w)

    grid.refresh = refresh
    finetune_quantized(model_q, task, Recipe(epochs=5, batch_size=100), lr=1e-3, scales="follow", warm_up=0.5)
    assert counts["n"] == 10


def test_statistics_of_norms_are_fixed_in_the_last_fifth(trained):
    _, task = trained
    net = build_seeded(
        lambda: nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)), 0
    )
    model_q = prepare(net, QuantRecipe(QuantSpec(4), fold_bn=False))
    norm = model_q[1]
    finetune_quantized(model_q, task, Recipe(epochs=10, batch_size=100), lr=1e-3)
    assert int(norm.num_batches_tracked) == 32
    assert norm.training == net.training


def test_weight_decay_spares_the_steps(trained):
    model, task = trained
    model_q = prepare(model, TWO_BITS)
    scale = LearntStep(model[0].weight, model_q.get_submodule("0").weight_quantizer).scale
    recipe = Recipe(epochs=2, weight_decay=100.0, optimizer="sgd", schedule="constant")
    finetune_quantized(model_q, task, recipe, lr=1e-4)
    after = model_q.get_submodule("0")
    torch.testing.assert_close(after.weight_quantizer.scale, scale, rtol=0.02, atol=0)
    assert after.layer.weight.norm() < 0.98 * model[0].weight.norm()


def test_the_same_seed_gives_the_same_model(trained):
    model, task = trained
    scores = [
        finetune_quantized(prepare(model, TWO_BITS), task, Recipe(epochs=1), random_state=s).loss
        for s in (3, 3, 4)
    ]
    assert scores[0] == scores[1] != scores[2]


def test_errors_say_what_to_do(trained):
    model, task = trained
    with pytest.raises(ValueError, match="prepare"):
        finetune_quantized(model, task)
    for mode in ("fake", "packed"):
        with pytest.raises(ValueError, match="converted"):
            finetune_quantized(convert(prepare(model, TWO_BITS), mode), task)
    with pytest.raises(ValueError, match="scales must be"):
        finetune_quantized(prepare(model, TWO_BITS), task, scales="learned")
