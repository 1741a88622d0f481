"""Every way of spending few numbers, at equal bytes, from a pre-trained text model: which section of Debian a package
belongs to, by its one-line description.

The origin is all-MiniLM-L6-v2 (22.6 million weights), which everybody has; what is counted are the bytes that the task
adds to it, or, for codes of few bits, product codes and sparse weights, the bytes of the whole model in place of it.
"""

from __future__ import annotations

import math
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lodim.claims.result import Claim, Findings, Progress, check_between, check_that
from lodim.datasets import load_texts
from lodim.landscape import Comparison, compare
from lodim.nets import SentenceClassifier, tokenize
from lodim.randomness import build_seeded, derive_seed
from lodim.training import Recipe, Task

UPDATES = ("subspace", "subspace, coded", "SAID", "LoRA", "FLoRA")
WHOLE = ("bits", "N:M")
UPDATE_BUDGETS = (1000, 30_000, 300_000)
WHOLE_BUDGETS = (7_000_000, 13_000_000)


def task_of(n_per_class: int, n_test: int, max_length: int, seed: int) -> Task:
    """Return the texts as token numbers: so many of each of the eight sections, cut at ``max_length``."""
    train = load_texts("debian_sections", split="train").sample(n_per_class, derive_seed(seed, "train"))
    test = load_texts("debian_sections", split="test").sample(n_test, derive_seed(seed, "test"))
    ids: list[Tensor] = [tokenize(list(part.texts), max_length) for part in (train, test)]
    y, y_val = (np.asarray(part.y) for part in (train, test))
    return Task(
        ids[0],
        torch.from_numpy(y),
        ids[1],
        torch.from_numpy(y_val),
        n_outputs=8,
        classes=tuple(train.classes),
    )


def run(seed: int, progress: Progress, full: bool = False) -> Findings:
    """Compare updates of the model by their bytes, and whole models by theirs.

    In full, 3,600 training texts, 6 epochs and 5 seeds instead of 480, 3 and 2.
    """
    task = task_of(450 if full else 60, 100 if full else 60, 24, seed)
    model = build_seeded(lambda: SentenceClassifier(8), derive_seed(seed, "head"))
    common: dict[str, Any] = {
        "recipe": Recipe(epochs=6 if full else 3, batch_size=16),
        "lr": 1e-4,
        "lr_grid": (1.0, 3.0),
        "tune": "setting" if full else "way",
        "n_seeds": 5 if full else 2,
        "n_jobs": 2,
        "random_state": seed,
    }
    found = {}
    with TemporaryDirectory() as folder:  # both take the same direct training
        for name, methods, budgets, first, last in (
            ("updates", UPDATES, UPDATE_BUDGETS, 0.0, 0.75),
            ("whole models", WHOLE, WHOLE_BUDGETS, 0.75, 1.0),
        ):
            share = progress.part(first, last)
            options = {**common, "methods": methods, "budget_bytes": budgets, "progress": share}
            found[name] = compare(model, task, cache_dir=folder, **options)
    updates, dense = found["updates"], float(np.mean(found["updates"].dense))
    kept = _mean_at(updates, "SAID", 30_000) / dense
    checks = (
        check_that(
            "every model is stored within its budget",
            sum(len(f.spendings) for f in found.values()),
            "all",
            all(s.n_bytes <= s.budget for f in found.values() for s in f.spendings),
        ),
        check_that("ways that could not be run", sorted({*updates.failed, *found["whole models"].failed}), "none",
                   not updates.failed and not found["whole models"].failed),
        check_between("share of full fine-tuning's accuracy in 30 kB (SAID)", kept, 0.9, math.inf),
    )  # fmt: skip
    return Findings(checks, {name: f.to_dict() for name, f in found.items()}, NOTES)


def _mean_at(found: Comparison, way: str, budget: int) -> float:
    scores = [s.score for s in found.spendings if (s.way, s.budget) == (way, budget)]
    return float(np.mean(scores)) if scores else math.nan


NOTES = (
    "Bytes of an update are those beside the pre-trained model; bytes of a whole model replace it.",
    "Learning rates are chosen on a fifth of the training texts; intervals over two seeds are wide.",
)

CLAIM = Claim(
    name="comparison/text",
    arxiv="2012.13255",
    statement=(
        "A pre-trained text model of 22.6 million weights keeps nine tenths of its fine-tuned accuracy when the task "
        "may add thirty kilobytes."
    ),
    laptop=run,
    full=partial(run, full=True),
    needs=("lm", "debian_sections"),
    minutes=25,
)
