"""The claim's parts on a few images: every way trains what it says, the comparison is within seeds."""

import math

import numpy as np
import pytest
import torch

from lodim.claims.landscape import flora
from lodim.claims.landscape.flora import (
    ConvNet,
    Enlarged,
    Tried,
    compare,
    difference,
    full_ways,
    head_only,
    laptop_ways,
)
from lodim.claims.result import Progress
from lodim.landscape.flora import n_trainable, tucker_numbers
from lodim.randomness import build_seeded
from lodim.training import Recipe, Task


def images(n=40, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 10
    X = rng.normal(size=(n, 784)) + y[:, None]
    return Task.from_arrays(X, y, X, y, kind="classification", image_shape=(1, 28, 28))


def test_every_way_starts_at_the_base_and_trains_the_numbers_it_says():
    pytest.importorskip("peft", reason="needs the extra 'lm'")
    base, x = build_seeded(ConvNet, 0), torch.randn(2, 1, 28, 28)
    for name, way in laptop_ways().items():
        with torch.random.fork_rng():
            model = way(build_seeded(ConvNet, 0), 0)
        torch.testing.assert_close(model(x), base(x), msg=name)
        assert all(not p.requires_grad for n, p in model.named_parameters() if "first" in n), name
    numbers = {name: n_trainable(way(ConvNet(), 0)) - 650 for name, way in laptop_ways().items()}
    assert (
        numbers["FLoRA"] == tucker_numbers((64, 32, 3, 3), flora.RANKS) == numbers["random subspace"] == 3858
    )
    assert numbers["LoRA"] == 11 * (32 * 9 + 64)
    assert numbers["DoRA"] == numbers["LoRA"] + 64
    assert numbers["head only"] == 0
    assert numbers["whole second convolution"] == 64 * 32 * 9 + 64


def test_a_comparison_leaves_the_base_alone_and_repeats():
    pytest.importorskip("peft", reason="needs the extra 'lm'")
    base, task = build_seeded(ConvNet, 0), images()
    before = {k: v.clone() for k, v in base.state_dict().items()}
    ways = {k: v for k, v in laptop_ways().items() if k in ("head only", "FLoRA", "LoRA")}
    rates = dict.fromkeys(ways, 5e-3)
    runs = [compare((base, task, 3), ways, rates, Recipe(epochs=1), "head") for _ in range(2)]
    assert runs[0] == runs[1]
    assert all(torch.equal(before[k], v) for k, v in base.state_dict().items())


def test_rates_are_chosen_by_the_mean_over_the_tuning_seeds(monkeypatch):
    scores = {
        (1e-3, 0): 0.5,
        (1e-3, 1): 0.5,
        (1e-2, 0): 0.7,
        (1e-2, 1): 0.4,
        (0.1, 0): 0.9,
        (0.1, 1): math.nan,
    }
    monkeypatch.setattr(flora, "RATES", (1e-3, 1e-2, 0.1))
    monkeypatch.setattr(
        flora,
        "compare",
        lambda start, ways, rates, recipe, head: {n: (1, scores[rates[n], start[2]]) for n in ways},
    )
    best, grid = flora.tune(
        [(ConvNet(), images(), s) for s in (0, 1)], {"a": head_only}, Recipe(), "head", Progress()
    )
    assert best == {"a": 1e-2}
    assert grid["a"] == pytest.approx({"0.001": 0.5, "0.01": 0.55, "0.1": 0.0})


def test_differences_are_within_seeds():
    one, other = Tried(1, (0.80, 0.90, 0.70)), Tried(1, (0.78, 0.87, 0.69))
    mean, low, high = difference(one, other)
    assert mean == pytest.approx(2.0)
    assert high - mean == pytest.approx(4.302653 * 1.0 / math.sqrt(3), rel=1e-5)
    assert low == pytest.approx(2 * mean - high)


def test_the_verdict_follows_from_the_scores():
    def tried(level, numbers=100):
        return Tried(numbers, tuple(level + jitter for jitter in (0.0, 0.001, 0.002)))

    def verdicts(**changes):
        scores = {
            "head only": tried(0.80),
            "FLoRA": tried(0.84),
            "LoRA": tried(0.83),
        }
        return [check.passed for check in flora._checks({**scores, **changes})]

    assert verdicts() == [True, True, True]
    assert verdicts(**{"head only": tried(0.83)}) == [False, True, True]
    assert verdicts(LoRA=tried(0.86)) == [True, False, True]
    assert verdicts(LoRA=tried(0.84, 50)) == [True, True, False]


def test_the_head_without_pooling_sees_every_position():
    assert ConvNet(pooled=False).head.weight.shape == (10, 64 * 25)
    assert ConvNet(pooled=False)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.slow
def test_the_full_scales_first_steps_run_on_a_small_network():
    transformers = pytest.importorskip("transformers", reason="needs the extra 'lm'")
    pytest.importorskip("peft", reason="needs the extra 'lm'")
    config = transformers.ConvNextConfig(
        hidden_sizes=[12, 16, 20, 24], depths=[1, 1, 1, 1], num_labels=10, image_size=32
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Enlarged(transformers.ConvNextForImageClassification(config), 32)
    ways = full_ways(2)
    rates = dict.fromkeys(ways, 1e-3)
    found = compare((model, images(), 0), ways, rates, Recipe(epochs=1), "model.classifier")
    numbers = {name: n for name, (n, _) in found.items()}
    assert numbers["head only"] == 0
    assert 0 < numbers["FLoRA"] < numbers["LoRA"] < numbers["DoRA"]
    assert all(0 <= score <= 1 for _, score in found.values())
