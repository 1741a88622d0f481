"""Every way of spending few numbers, at equal bytes on the same task: digits and Fashion-MNIST.

None of the papers compares its method with the others'; this does, with one trainer, one way of choosing learning rates
and one way of counting bytes (see :func:`lodim.landscape.compare`).
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from lodim.claims.landscape import problems
from lodim.claims.result import Check, Claim, Findings, Progress, check_between, check_that
from lodim.landscape import WAYS, Comparison, compare
from lodim.nets import mlp
from lodim.training import Recipe

DIGITS_BUDGETS = (60, 200, 600, 2000, 6000, 20_000)
FASHION_BUDGETS = (300, 1000, 3000, 10_000, 30_000, 100_000)
ADAPTERS = ("LoRA", "FLoRA")
RATES = (0.5, 2.0, 8.0)


def run(seed: int, progress: Progress, full: bool = False) -> Findings:
    """Compare on the digits (64-64-64-10) and on Fashion-MNIST (784-256-256-10).

    In full, all 60,000 images of Fashion-MNIST, 30 epochs and 5 seeds instead of 3,000, 8 and 3.
    """
    small = compare(
        lambda: mlp([64, 64, 64, 10]),
        problems.digits(seed).task(),
        budget_bytes=DIGITS_BUDGETS,
        recipe=Recipe(epochs=30),
        n_seeds=5,
        lr_grid=RATES,
        n_jobs=2,
        random_state=seed,
        progress=progress.part(0.0, 0.3),
    )
    images = problems.images("fashion_mnist", 60_000 if full else 3000, 10_000, seed)
    large = compare(
        lambda: mlp([784, 256, 256, 10]),
        images.task(),
        budget_bytes=FASHION_BUDGETS,
        recipe=Recipe(epochs=30 if full else 8),
        n_seeds=5 if full else 3,
        lr_grid=RATES,
        n_jobs=2,
        random_state=seed,
        progress=progress.part(0.3, 1.0),
    )
    checks = (*_checks("digits", small), *_checks("Fashion-MNIST", large))
    return Findings(checks, {"digits": small.to_dict(), "Fashion-MNIST": large.to_dict()}, NOTES)


def _checks(where: str, found: Comparison) -> tuple[Check, ...]:
    expected = {name for name, way in WAYS.items() if way.available()}
    missing = sorted(expected - set(found.ways))
    fits = all(s.n_bytes <= s.budget for s in found.spendings)
    best = found.best(max(s.budget for s in found.spendings))
    lost = float(np.mean(found.dense)) - _mean(found, best.way, best.budget)
    return (
        check_that(f"{where}: ways that could not be run", missing, "none", not missing and not found.failed),
        check_that(f"{where}: every model is stored within its budget", fits, "all", fits),
        check_between(
            f"{where}: the best way at the largest budget loses against dense", lost, -math.inf, 0.02
        ),
        check_between(
            f"{where}: a random subspace's lead over low-rank adapters at their least bytes",
            _lead_at_least_bytes(found),
            0.0,
            1.0,
        ),
    )


def _mean(found: Comparison, way: str, budget: int) -> float:
    return float(np.mean([s.score for s in found.spendings if (s.way, s.budget) == (way, budget)]))


def _lead_at_least_bytes(found: Comparison) -> float:
    """Mean score of the subspace minus the better adapter's, at the least budget where an adapter fits."""
    budgets = {
        way: min(s.budget for s in found.spendings if s.way == way) for way in ADAPTERS if way in found.ways
    }
    budget = min(budgets.values())
    best = max(_mean(found, way, budget) for way in budgets if budgets[way] == budget)
    return _mean(found, "subspace", budget) - best


NOTES = (
    "Bytes: what has to be kept, given the program and the seed of the initial weights; trained numbers in half "
    "precision, codes with their scales and codebooks. Scores are those of the model rebuilt from the bytes.",
    "The origin is random here; from a pre-trained origin, which everybody has, adapters do better "
    "(comparison/text).",
    "The sentence about adapters is this library's finding, not a paper's.",
)


CLAIM = Claim(
    name="comparison/images",
    arxiv=problems.PAPER,
    statement=(
        "At a few hundred bytes a random subspace carries more accuracy than low-rank adapters of a randomly "
        "initialised network; at tens of kilobytes some way comes within two points of the whole network."
    ),
    laptop=run,
    full=partial(run, full=True),
    needs=("digits", "fashion_mnist"),
    minutes=15,
)
