"""A trained network as a message of a few hundred bytes, and what its length certifies.

The paper (Section 3): training in a subspace of d dimensions compresses a network to d numbers and two seeds, an upper
bound on its description length. Here the 750 numbers of an MNIST network (199,210 weights) are rounded to a codebook
and entropy coded, and the message's length bounds the error on new images.

Sources: C. Li et al., 2018, arXiv 1804.08838; bounds as in S. Lotfi et al., 2022, arXiv 2211.13609.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import nn

from lodim.claims.landscape import problems
from lodim.claims.result import Claim, Findings, Progress, check_between, check_that
from lodim.landscape import CompressedModel, CompressionSweep, SubspaceModule, compress_sweep
from lodim.nets import fc
from lodim.randomness import build_seeded, derive_seed
from lodim.training import Recipe, Task, fit

LEVELS = (3, 5, 7, 11, 16, 32)
D_SUBSPACE = 750


def make_model() -> nn.Module:
    """Return 784-200-200-10, D = 199,210."""
    return fc(784, 10, width=200, depth=2)


def run(seed: int, progress: Progress, full: bool = False) -> Findings:
    """Train in 750 dimensions, round to six codebooks, certify; once more with quantised fine-tuning.

    In full, all 60,000 training images and 60 epochs (some minutes on one core) instead of 10,000 and 10.
    """
    task = problems.mnist(60_000 if full else 10_000, 10_000, seed).task()
    recipe, origin = Recipe(epochs=60 if full else 10), derive_seed(seed, "origin")
    subspace = SubspaceModule(
        build_seeded(make_model, origin), D_SUBSPACE, seed=derive_seed(seed, "directions")
    )
    share, order = progress.part(0.0, 0.4), derive_seed(seed, "order")
    fit(subspace, task, recipe, lr=0.1, random_state=order, progress=share)
    plain = compress_sweep(subspace, make_model, origin, task, levels=LEVELS)
    tuner = partial(_finetune, task=task, epochs=20 if full else 10, seed=derive_seed(seed, "tuning"))
    tuned = compress_sweep(subspace, make_model, origin, task, levels=LEVELS, finetune=tuner)
    saved = CompressedModel.from_subspace(subspace, make_model, origin, n_levels=16)
    return Findings(_checks(plain, tuned, saved, task, full), _figures(plain, tuned, saved), NOTES)


def _finetune(module: nn.Module, task: Task, epochs: int, seed: int) -> None:
    """Train rounded coordinates and codebook through the rounding."""
    fit(module, task, Recipe(epochs=epochs), lr=0.05, random_state=seed)


def _checks(
    plain: CompressionSweep, tuned: CompressionSweep, saved: CompressedModel, task: Task, full: bool
) -> tuple[Any, ...]:
    at = {point.levels: point for point in plain.points}
    again = CompressedModel.from_bytes(saved.to_bytes(), make_model)
    with torch.no_grad():
        images = task.X_val[:1000].cpu()
        same = torch.equal(saved.to_module()(images), again.to_module()(images))
    limit = 0.25 if full else 0.42
    best, best_tuned = plain.best.bounds["best"], tuned.best.bounds["best"]
    lost = plain.score - at[16].score
    tuned_errors = [1 - point.score for point in tuned.points]
    return (
        check_between("accuracy lost by rounding to 16 levels", lost, -math.inf, 0.015),
        check_between("bytes of the message with 16 levels", math.ceil(at[16].message_bits / 8), 1, 450),
        check_that("a file read back gives the same logits", same, "bit for bit", same),
        check_between("best bound on the error on new images", best, 0.0, limit),
        check_between("the same with quantised fine-tuning", best_tuned, 0.0, limit),
        check_that(
            "every bound is above the error on the test images",
            best_tuned,
            "above",
            all(p.bounds["best"] > error for p, error in zip(tuned.points, tuned_errors, strict=True))
            and all(p.bounds["best"] > 1 - p.score for p in plain.points),
        ),
        check_between("weights per trained number", saved.D / saved.d, 265, 266, paper=265),
    )


def _figures(plain: CompressionSweep, tuned: CompressionSweep, saved: CompressedModel) -> dict[str, Any]:
    def rows(sweep: CompressionSweep) -> dict[str, Any]:
        return {
            str(p.levels): {
                "test": p.score,
                "train": p.train_score,
                "entropy": p.entropy_bits,
                "bytes": math.ceil(p.message_bits / 8),
                **{f"bound {kind}": value for kind, value in p.bounds.items()},
            }
            for p in sweep.points
        }

    return {
        "not rounded": {"test": plain.score, "train": plain.train_score},
        "rounded": rows(plain),
        "fine-tuned": rows(tuned),
        "file bytes, 16 levels": saved.n_bytes,
        "compression ratio, 16 levels": saved.ratio,
    }


NOTES = (
    "The bounds hold with probability 95 % over the draw of the training images, for seeds, d and learning rate fixed "
    "beforehand; the choice among six codebook sizes is paid for.",
    "Message bytes count the coded coordinates, the codebook and the symbol counts; the file adds a header.",
)

CLAIM = Claim(
    name="objective-landscapes/compression",
    arxiv=problems.PAPER,
    statement=(
        "An MNIST network of 199,210 weights trained in 750 dimensions fits a message of a few hundred bytes, whose "
        "length certifies its error on new images."
    ),
    laptop=run,
    full=partial(run, full=True),
    needs=("mnist",),
    minutes=0.5,
)
