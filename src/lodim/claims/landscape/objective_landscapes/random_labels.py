"""Memorising random labels takes far more directions than learning true ones.

The paper (Section 3.1 and Table S1): with all of MNIST's training labels shuffled, a network can only memorise, and its
intrinsic dimension, counted at *training* accuracy, rises from hundreds to 190,000 for 50,000 labels: 3.8 numbers a
label. At laptop scale 500 images, 784-200-200-10, 100 epochs in batches of 100; at full scale the paper's 50,000
images and five hidden layers of 400.

Source: C. Li et al., 2018, arXiv 1804.08838. The expectation comes from an independent prototype (training accuracy at
d = 200/400/800/1600: true labels 0.776/1/1/1, random 0.272/0.450/0.832/1), set before this was run. The full scale has
not been run by us.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from lodim.claims.landscape import problems
from lodim.claims.result import Claim, Findings, Progress, check_between, check_that
from lodim.landscape import shuffle_labels
from lodim.landscape.crossing import Crossing, find_crossing
from lodim.nets import fc
from lodim.randomness import derive_seed
from lodim.training import Recipe, Task

LR = 0.1
DIMS = {"true": (100, 140, 200, 280, 400), "random": (400, 560, 800, 1130, 1600)}


def memorise(
    make_model: Any, task: Task, dims: tuple[int, ...], recipe: Recipe, seeds: tuple[int, ...]
) -> tuple[Crossing, dict[str, list[float]]]:
    """Return where the training accuracy reaches 0.9, and the accuracies by d, a run at each for every seed."""
    runs = {
        d: [
            problems.train_in_subspace(make_model, task, d, recipe, lr=LR, seed=s, score_on="train")
            for s in seeds
        ]
        for d in dims
    }
    sizes = np.repeat(list(runs), len(seeds))
    crossing = find_crossing(sizes, np.concatenate(list(runs.values())), 0.9, random_state=seeds[0])
    return crossing, {str(d): [round(s, 4) for s in scores] for d, scores in runs.items()}


def _labelled(problem: problems.Samples, random: bool, seed: int) -> Task:
    """The problem with its labels or with shuffled ones; nothing but the training set is scored."""
    y = shuffle_labels(problem.y, random_state=derive_seed(seed, "labels")) if random else problem.y
    return Task.from_arrays(problem.X, y, problem.X, y)


def _laptop(seed: int, progress: Progress) -> Findings:
    problem, recipe = problems.mnist(500, 10, seed), Recipe(epochs=100, batch_size=100)
    seeds = tuple(derive_seed(seed, "run", i) for i in range(2))
    found, figures = {}, {}
    for labels in progress.over(DIMS):
        task = _labelled(problem, labels == "random", seed)
        found[labels], figures[labels] = memorise(_make_model, task, DIMS[labels], recipe, seeds)
    true, random = found["true"], found["random"]
    checks = (
        check_between("d90 of random labels over d90 of true labels", random.value / true.value, 2.5, np.inf),
        check_that(
            "both crossings found",
            [true.status, random.status],
            "found",
            true.status == random.status == "found",
        ),
        check_between(
            "numbers a random label at 90 %",
            random.value / len(problem.y),
            1.2,
            2.8,
            paper=3.8,
            essential=False,
        ),
    )
    notes = (
        "500 images instead of 50,000 and two hidden layers instead of five: fewer numbers a label are needed.",
    )
    intervals = {f"d90_{name}": {"value": c.value, "interval": list(c.interval)} for name, c in found.items()}
    return Findings(checks, {**intervals, "training_accuracy": figures}, notes)


def _make_model() -> nn.Module:
    return fc(784, 10, width=200, depth=2)


def _full(seed: int, progress: Progress) -> Findings:
    problem, recipe = problems.mnist(50_000, 10, seed), Recipe(epochs=400, batch_size=500)
    task = _labelled(problem, True, seed)
    dims = (50_000, 100_000, 150_000, 200_000, 250_000, 300_000)
    seeds = (derive_seed(seed, "run", 0),)
    crossing, figures = memorise(
        lambda: fc(784, 10, width=400, depth=5).to("cuda"), task, dims, recipe, seeds
    )
    checks = (
        check_that("status", crossing.status, "found", crossing.status == "found"),
        check_between("d90 of random labels, D = 959,610", crossing.value, 114_000, 266_000, paper=190_000),
    )
    return Findings(checks, {"training_accuracy": figures, "interval": list(crossing.interval)})


CLAIM = Claim(
    name="objective-landscapes/random-labels",
    arxiv=problems.PAPER,
    statement="Memorising random labels takes several times as many numbers as learning the true ones.",
    laptop=_laptop,
    full=_full,
    needs=("mnist",),
    full_needs=("gpu",),
    minutes=1,
)
