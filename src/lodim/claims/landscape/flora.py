"""Adapters that keep a convolution's shape: as good as LoRA on the flattened kernel, at no more trained numbers.

The paper's statement (abstract; Section 4): updating a convolution by a Tucker product of its own number of modes does
better than methods that flatten it to a matrix, with similar or fewer trained numbers. At laptop scale: a network of
two convolutions, pooling and a linear layer learns 6,000 MNIST digits, then 6,000 pieces of clothing with its first
layer frozen, its last one trained, and the second convolution adapted in one of several ways. Every way starts from the
same network, sees the same batches and is run from several seeds; differences are taken within a seed.

How much an adapter can add depends on the head: one of 16,010 numbers on all positions (no pooling) learns most of the
task from frozen features, and even training the whole convolution then adds about a point. That network is run too and
recorded, but tells adapters apart badly; the claim is about the pooled one, built as the paper's backbones are.

At full scale (one GPU): a ConvNeXt-base trained on ImageNet, adapted to all of Fashion-MNIST. The full scale has not
been run by us.

Source: C. Si et al., 2024, arXiv 2405.14739.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student
from torch import Tensor, nn

from lodim.claims.landscape import problems
from lodim.claims.result import Check, Claim, Findings, Progress, check_between
from lodim.landscape import SubspaceModule, inject_flora
from lodim.landscape.flora import n_trainable
from lodim.randomness import build_seeded, derive_seed, forked_torch_rng
from lodim.training import Recipe, Task, fit
from lodim.validation import require

PAPER = "2405.14739"
RANKS = (16, 16, 3, 3)
LORA_RANK = 11  # 3,872 numbers in the second convolution; FLoRA has 3,858
SCALE = 4.0
RATES = (5e-3, 1e-2, 2e-2, 5e-2)
RECIPE, LR = Recipe(epochs=6), 5e-3
FLAT_WAYS = ("head only", "whole second convolution", "FLoRA", "LoRA")
N_TUNING, N_SEEDS, N_SEEDS_FLAT = 2, 8, 3
Way = Callable[[nn.Module, int], nn.Module]
Start = tuple[nn.Module, Task, int]


class ConvNet(nn.Module):
    """Two convolutions and a linear layer (``pooled``: of the channels' means) for images of 28 x 28 pixels."""

    def __init__(self, pooled: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 32, 5, 2), nn.Conv2d(32, 64, 3, 2)
        self.pooled, self.head = pooled, nn.Linear(64 if pooled else 64 * 25, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images, shape (n, 1, 28, 28)."""
        maps = self.second(self.first(x).relu()).relu()
        return self.head(maps.mean((-2, -1)) if self.pooled else maps.flatten(1))


@dataclass(frozen=True)
class Tried:
    """One way of adapting, from several seeds: numbers trained besides the head, and test accuracies."""

    numbers: int
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(np.mean(self.scores))


def head_only(model: nn.Module, head: str) -> nn.Module:
    """Freeze everything but the last layer, by its name."""
    model.requires_grad_(False)
    model.get_submodule(head).requires_grad_(True)
    return model


def with_lora(model: nn.Module, rank: int, targets: Any, head: str, dora: bool = False) -> nn.Module:
    """Return the model with PEFT's LoRA (DoRA) in some layers, at FLoRA's multiplier, and its head trained."""
    peft: Any = require("peft", "lm")
    config = peft.LoraConfig(r=rank, lora_alpha=rank * SCALE, target_modules=targets, use_dora=dora)
    model = peft.inject_adapter_in_model(config, model)
    model.get_submodule(head).requires_grad_(True)
    return model


def laptop_ways() -> dict[str, Way]:
    """Return what is compared: ways to train the second convolution beside the head."""

    def full(model: nn.Module, seed: int) -> nn.Module:
        head_only(model, "head").get_submodule("second").requires_grad_(True)
        return model

    def flora(model: nn.Module, seed: int) -> nn.Module:
        head = ["head"]
        return inject_flora(
            model, RANKS, SCALE, target_modules=["second"], modules_to_save=head, random_state=seed
        )

    def subspace(model: nn.Module, seed: int) -> nn.Module:
        inside = "second.weight"
        options: dict[str, Any] = {"params": lambda name, tensor: name == inside, "train_directly": ["head"]}
        return SubspaceModule(model, 3858, scale="row", seed=seed, **options)

    return {
        "head only": lambda model, seed: head_only(model, "head"),
        "whole second convolution": full,
        "FLoRA": flora,
        "LoRA": lambda model, seed: with_lora(model, LORA_RANK, ["second"], "head"),
        "DoRA": lambda model, seed: with_lora(model, LORA_RANK, ["second"], "head", dora=True),
        "random subspace": subspace,
    }


def compare(
    start: Start, ways: Mapping[str, Way], rates: Mapping[str, float], recipe: Recipe, head: str
) -> dict[str, tuple[int, float]]:
    """Return the numbers trained besides the head and the accuracy of every way, from one start.

    The trained network of ``start`` (network, task, seed) is copied for every way; ``way(model, seed)`` freezes
    and adapts it, and trains at its own rate.
    """
    base, task, seed = start
    found = {}
    numbers_of_head = sum(p.numel() for p in base.get_submodule(head).parameters())
    for name, way in ways.items():
        with forked_torch_rng(derive_seed(seed, "factors")):
            model = way(copy.deepcopy(base), derive_seed(seed, "factors"))
        numbers = n_trainable(model) - numbers_of_head
        found[name] = (
            numbers,
            fit(model, task, recipe, lr=rates[name], random_state=derive_seed(seed, "order")).score,
        )
    return found


def tune(
    starts: Sequence[Start], ways: Mapping[str, Way], recipe: Recipe, head: str, progress: Progress
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Return each way's best learning rate of :data:`RATES`, and its mean accuracy at every one.

    None of the ``starts`` (network, task, seed) is among those that :func:`compare` compares later.
    """
    grid: dict[str, dict[str, float]] = {name: {} for name in ways}
    for rate in progress.over(RATES):
        rates = dict.fromkeys(ways, rate)
        tried = gathered([compare(start, ways, rates, recipe, head) for start in starts])
        for name, found in tried.items():
            grid[name][f"{rate:g}"] = found.mean if math.isfinite(found.mean) else 0.0
    return {name: float(max(found, key=found.__getitem__)) for name, found in grid.items()}, grid


def gathered(runs: list[dict[str, tuple[int, float]]]) -> dict[str, Tried]:
    """Return every way's runs together, from what :func:`compare` gave for each seed."""
    return {name: Tried(runs[0][name][0], tuple(run[name][1] for run in runs)) for name in runs[0]}


def difference(one: Tried, other: Tried) -> tuple[float, float, float]:
    """Return the mean difference in percentage points within seeds, and its 95 % interval (Student's t)."""
    points = 100 * (np.array(one.scores) - np.array(other.scores))
    n = len(points)
    half = float(student.ppf(0.975, n - 1) * points.std(ddof=1) / math.sqrt(n)) if n > 1 else math.inf
    return float(points.mean()), float(points.mean() - half), float(points.mean() + half)


def _images(name: str, n_train: int, n_val: int, seed: int) -> Task:
    return problems.images(name, n_train, n_val, seed).task((1, 28, 28))


def _laptop(seed: int, progress: Progress) -> Findings:
    ways = laptop_ways()
    starts = [_start(seed, "tuning", i, pooled=True) for i in range(N_TUNING)]
    rates, grid = tune(starts, ways, RECIPE, "head", progress.part(0.0, 0.4))
    runs = [
        compare(_start(seed, "network", i, pooled=True), ways, rates, RECIPE, "head")
        for i in progress.part(0.4, 0.9).over(range(N_SEEDS))
    ]
    progress(0.9, "without pooling")
    few = {name: ways[name] for name in FLAT_WAYS}
    flat = [
        compare(_start(seed, "flat", i, pooled=False), few, dict.fromkeys(few, LR), RECIPE, "head")
        for i in range(N_SEEDS_FLAT)
    ]
    figures = {
        **_figures(gathered(runs)),
        "learning rates": rates,
        "tuning": grid,
        "without pooling": _figures(gathered(flat)),
    }
    return Findings(_checks(gathered(runs)), figures, NOTES)


def _start(seed: int, stage: str, i: int, *, pooled: bool) -> Start:
    """Return a network trained on digits, the clothing to adapt it to, and the seed of both."""
    own = derive_seed(seed, stage, i)
    base = build_seeded(lambda: ConvNet(pooled), own)
    fit(base, _images("mnist", 6000, 4000, own), RECIPE, lr=LR, random_state=own)
    return base, _images("fashion_mnist", 6000, 4000, own), own


def _checks(tried: Mapping[str, Tried]) -> tuple[Check, ...]:
    flora, lora = tried["FLoRA"], tried["LoRA"]
    over_head, over_lora = difference(flora, tried["head only"]), difference(flora, lora)
    what = "points above LoRA on the flattened convolution, lower end of 95 %"
    return (
        check_between("points above training the head only, lower end of 95 %", over_head[1], 2, math.inf),
        check_between(what, over_lora[1], -1, math.inf),
        check_between("its trained numbers over LoRA's", flora.numbers / lora.numbers, 0, 1),
    )


def _figures(tried: Mapping[str, Tried]) -> dict[str, Any]:
    flora = tried["FLoRA"]
    over = {name: difference(flora, other) for name, other in tried.items() if name != "FLoRA"}
    return {
        "accuracy": {name: list(t.scores) for name, t in tried.items()},
        "mean accuracy": {name: t.mean for name, t in tried.items()},
        "numbers besides the head": {name: t.numbers for name, t in tried.items()},
        "points by which FLoRA is above, with interval": {name: list(d) for name, d in over.items()},
    }


class Enlarged(nn.Module):
    """A vision model of the transformers library, which expects ``size`` pixels a side, on grey images of 28 x 28."""

    def __init__(self, model: nn.Module, size: int = 224) -> None:
        super().__init__()
        self.model, self.size = model, size

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images, shape (n, 1, 28, 28)."""
        shape = (self.size, self.size)
        x = nn.functional.interpolate(x, shape, mode="bilinear", antialias=True).expand(-1, 3, *shape)
        return self.model(x).logits


FULL_TARGETS = r"model\..*(pwconv1|pwconv2|downsampling_layer\.1)"


def full_ways(rank: int = 8) -> dict[str, Way]:
    """Return what is compared at full scale: all dense layers of a ConvNeXt adapted, LoRA with one rank more."""
    head = "model.classifier"

    def flora(model: nn.Module, seed: int) -> nn.Module:
        return inject_flora(
            model, rank, SCALE, target_modules=FULL_TARGETS, modules_to_save=[head], random_state=seed
        )

    return {
        "head only": lambda model, seed: head_only(model, head),
        "FLoRA": flora,
        "LoRA": lambda model, seed: with_lora(model, rank + 1, FULL_TARGETS, head),
        "DoRA": lambda model, seed: with_lora(model, rank + 1, FULL_TARGETS, head, dora=True),
    }


def _full(seed: int, progress: Progress) -> Findings:
    transformers: Any = require("transformers", "lm")
    recipe, head, ways = Recipe(epochs=5, batch_size=256), "model.classifier", full_ways()

    def start(stage: str, i: int) -> Start:
        own = derive_seed(seed, stage, i)
        with forked_torch_rng(own):
            model = transformers.ConvNextForImageClassification.from_pretrained(
                "facebook/convnext-base-224", num_labels=10, ignore_mismatched_sizes=True
            )
        return Enlarged(model).to("cuda"), _images("fashion_mnist", 60_000, 10_000, own), own

    rates, grid = tune([start("tuning", 0)], ways, recipe, head, progress.part(0.0, 0.5))
    runs = [
        compare(start("network", i), ways, rates, recipe, head)
        for i in progress.part(0.5, 1.0).over(range(3))
    ]
    tried = gathered(runs)
    note = "ConvNeXt-base trained on ImageNet, adapted to Fashion-MNIST at 224 pixels."
    return Findings(_checks(tried), {**_figures(tried), "learning rates": rates, "tuning": grid}, (note,))


NOTES = (
    "The paper's statement is that its adapters do better than flattened ones. What is checked at this scale is that "
    "they are far above training the head, and not worse than LoRA by a point; the figures have the differences.",
    "LoRA is PEFT's: a convolution into r channels with the layer's kernel, then a pointwise one. Multipliers are "
    "4 for all; every way has the best of four learning rates, chosen on two other seeds.",
    "The lead depends on what is tuned: when both multipliers were raised to 256 at a rate of 0.005 instead, LoRA came "
    "level with FLoRA, both below what FLoRA reaches here.",
    "Without pooling the head of 16,010 numbers learns most of the task on frozen features; what adapters, and even "
    "training the whole convolution, add to that is of the size of the noise.",
)

CLAIM = Claim(
    name="flora/convolutions",
    formerly=("low-rank-core/convolutions",),
    arxiv=PAPER,
    statement=(
        "A low-rank update that keeps a convolution's modes fine-tunes a network as well as LoRA on the flattened "
        "convolution with at least as many trained numbers, and far better than training the head alone."
    ),
    laptop=_laptop,
    full=_full,
    needs=("mnist", "fashion_mnist", "lm"),
    full_needs=("gpu",),
    minutes=5,
)
