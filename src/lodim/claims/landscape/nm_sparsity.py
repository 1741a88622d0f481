"""Training into 1 of every 16 weights: what the recipes are worth against cutting at once, and against each other.

The paper (Section 4): above 80 % sparsity, letting the flow through pruned weights fade gains up to two points
of accuracy over SR-STE on ImageNet. Transformers of that size are out of reach here. At laptop scale a network
784-256-256-10 on 10,000 pieces of clothing, both hidden layers at 1:16, tells whether training into the pattern
works, and whether exponential mask decay is at least not worse than SR-STE; a gain is not asserted, since the two
differ by no more than a few thousandths, about the noise of the seeds. The full
scale is a small vision transformer at 1:32.

Source: A. Bambhaniya and others, arXiv 2402.04744; SR-STE: arXiv 2102.04010.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import stats
from torch import nn

from lodim.claims.landscape import problems
from lodim.claims.result import Check, Claim, Findings, Progress, check_between, check_that
from lodim.landscape import NMSparsifier
from lodim.landscape.nm_sparsity import FEED_FORWARD
from lodim.nets import mlp, vit
from lodim.randomness import build_seeded, derive_seed
from lodim.training import Recipe, Task, fit

RECIPES: dict[str, dict[str, Any]] = {
    "dense": {"recipe": "dense"},
    "one-shot": {"recipe": "one-shot", "finetune_frac": 0.0},
    "ste": {"recipe": "ste"},
    "sr-ste": {"recipe": "sr-ste"},
    "mdgf-exp": {"recipe": "mdgf-exp"},
    "mdgf-exp masked": {"recipe": "mdgf-exp", "backward": "masked"},
    "mdgf-linear": {"recipe": "mdgf-linear"},
    "sdgf-stepwise": {"recipe": "sdgf-stepwise"},
    "sdgf-geometric": {"recipe": "sdgf-geometric"},
}
REFERENCES = ("dense", "one-shot")
MARGIN = 0.007  # of accuracy, by which mask decay may be worse than SR-STE
N_SEEDS = 5


@dataclass(frozen=True)
class Setting:
    """What is trained, and into which pattern."""

    make_model: Callable[[], nn.Module]
    targets: Any
    m: int
    recipe: Recipe
    n_train: int
    n_val: int
    image_shape: tuple[int, ...] | None = None
    lr: float = 1e-3


LAPTOP = Setting(
    make_model=lambda: mlp([784, 256, 256, 10]),
    targets=["0", "2"],
    m=16,
    recipe=Recipe(epochs=6, schedule="cosine"),
    n_train=10_000,
    n_val=10_000,
)
FULL = Setting(
    make_model=lambda: vit((1, 28, 28), 10, patch=7, width=128, depth=4, heads=4),
    targets=FEED_FORWARD,
    m=32,
    recipe=Recipe(epochs=15, schedule="onecycle", grad_clip=1.0),
    n_train=60_000,
    n_val=10_000,
    image_shape=(1, 28, 28),
)


def run(seed: int, progress: Progress, full: bool = False) -> Findings:
    """Train with every recipe from five seeds; in full a vision transformer at 1:32, not 784-256-256-10 at 1:16."""
    setting, place = (FULL, "cuda") if full else (LAPTOP, "cpu")
    task = _task(setting, seed)
    scores: dict[str, list[float]] = {name: [] for name in RECIPES}
    exact: list[bool] = []
    runs = [(i, name) for i in range(N_SEEDS) for name in RECIPES]
    for done, (i, name) in enumerate(runs):
        share = progress.part(done / len(runs), (done + 1) / len(runs))
        score, in_pattern = train(setting, task, name, derive_seed(seed, "replica", i), place, share)
        scores[name].append(score)
        if name != "dense":
            exact.append(in_pattern)
    return Findings(_checks(scores, exact, full), _figures(scores), NOTES["full" if full else "laptop"])


def _task(setting: Setting, seed: int) -> Task:
    return problems.images("fashion_mnist", setting.n_train, setting.n_val, seed).task(setting.image_shape)


def train(
    setting: Setting, task: Task, name: str, seed: int, place: str = "cpu", progress: Progress | None = None
) -> tuple[float, bool]:
    """Return the accuracy of the finished network and whether every group holds exactly one weight.

    The seed's start and order of the data are the same for every recipe, one of :data:`RECIPES`.
    """
    model = build_seeded(setting.make_model, derive_seed(seed, "start")).to(place)
    total = setting.recipe.n_steps(task.n_train)
    sparsifier = NMSparsifier(
        model, 1, setting.m, targets=setting.targets, total_steps=total, **RECIPES[name]
    )
    order = derive_seed(seed, "order")
    result = fit(
        model,
        task,
        setting.recipe,
        lr=setting.lr,
        random_state=order,
        progress=progress,
        on_step=sparsifier.step,
    )
    return result.score, sparsifier.finalize().exact


def difference(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """Return the mean of paired differences (by seed) and the ends of its 95 % interval (Student's t)."""
    interval = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    return float(np.subtract(ours, theirs).mean()), float(interval.low), float(interval.high)


def _checks(scores: dict[str, list[float]], exact: list[bool], full: bool) -> tuple[Check, ...]:
    mean = {name: float(np.mean(values)) for name, values in scores.items()}
    trained = [name for name in RECIPES if name not in REFERENCES]
    worst = min(trained, key=lambda name: mean[name])
    gap, low, _ = difference(scores["mdgf-exp"], scores["sr-ste"])
    checks = [
        check_that(
            "networks with exactly one weight in every group", sum(exact), f"all {len(exact)}", all(exact)
        ),
        check_between(
            f"accuracy of the weakest trained recipe ({worst}) over cutting once",
            mean[worst] - mean["one-shot"],
            0.05,
            math.inf,
        ),
        check_between("mask decay (exponential) over SR-STE, mean of five seeds", gap, -MARGIN, math.inf),
        check_between("the same, low end of its 95 % interval", low, -MARGIN, math.inf, essential=full),
    ]
    if full:
        best = max(
            ("mdgf-exp", "mdgf-linear", "sdgf-stepwise", "sdgf-geometric"), key=lambda name: mean[name]
        )
        checks.append(
            check_between(
                f"the best decay ({best}) over SR-STE",
                mean[best] - mean["sr-ste"],
                0.005,
                math.inf,
                paper="up to 0.02 (ImageNet)",
            )
        )
    return tuple(checks)


def _figures(scores: dict[str, list[float]]) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, values in scores.items():
        rows[name] = {"mean": float(np.mean(values)), "scores": [round(v, 4) for v in values]}
        if name != "sr-ste":
            gap = difference(values, scores["sr-ste"])
            rows[name]["over SR-STE, with its interval"] = [round(v, 4) for v in gap]
    return rows


NOTES = {
    "laptop": (
        "Exponential mask decay is shown not to be worse than SR-STE by more than 0.7 point. The paper's gain of up to "
        "two points (transformers, ImageNet, above 80 % sparsity, no variation between runs reported) does not show at "
        "this scale. Not every decay does as well: the figures have linear mask decay and structure decay, too.",
        "Adam with a cosine schedule; dense for the first 5 % of the steps, the pattern fixed for the last 10 %. The "
        "one-shot reference trains densely and is cut after the last step.",
    ),
    "full": (
        "A vision transformer of 0.8 million weights on Fashion-MNIST stands in for the paper's ViT-B/16 on ImageNet; "
        "Adam without weight decay, one-cycle schedule, gradients clipped at 1.",
    ),
}

CLAIM = Claim(
    name="nm-sparsity/recipes",
    arxiv="2402.04744",
    statement=(
        "Training into 1:16 keeps an accuracy that cutting a trained network to 1:16 loses, and mask decay is not "
        "worse than SR-STE."
    ),
    laptop=run,
    full=partial(run, full=True),
    needs=("fashion_mnist",),
    full_needs=("gpu",),
    minutes=3,
)
