"""Clothes ask for thousands of times the bits that digits ask for, and noise makes digits harder without end.

With the constants of the paper the formula gives the digits' difficulty to all digits printed; with everything
estimated from the images, dimension and margin come out as published and the order of the tasks holds. The dimension is
known to a unit and the margin to a tenth or two, which is a factor of ten either way in bits: the median of five draws
counts, and each draw's interval is kept.

Source: Boopathy et al. 2023, arXiv 2305.01034 (formula, constants of the released code, errors of .001 for MNIST).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from lodim.claims.result import Claim, Findings, Progress, check_between, check_that
from lodim.datasets import load
from lodim.geometry import (
    GeneralizationDifficulty,
    cartpole_difficulty,
    generalization_difficulty,
    rl_difficulty,
)
from lodim.randomness import derive_seed

DATA = ("mnist", "fashion_mnist")
ERROR = 0.001
N_DRAWS = 5
NOISE = (0, 20, 40, 60, 80)


def fitted(name: str, seed: int, draw: int) -> GeneralizationDifficulty:
    """Measure a data set of images, all estimated."""
    train = load(name, split="train")
    random_state = derive_seed(seed, name, draw)
    return GeneralizationDifficulty(ERROR, n_queries=3000, random_state=random_state).fit(train.X, train.y)


def with_noise(seed: int) -> tuple[list[float], list[float]]:
    """Decimal logarithms of the bits of 10,000 digits with j columns of uniform noise beside the pixels.

    First with the margin of the digits themselves, which noise cannot widen (two points of different classes may have
    the same noise); then with the margin estimated from the noisy points, which cannot know that.
    """
    train = load("mnist", split="train")
    assert train.y is not None
    rng = np.random.default_rng(derive_seed(seed, "noise"))
    rows = rng.choice(len(train.X), 10_000, replace=False)
    noise = rng.uniform(size=(len(rows), max(NOISE))).astype(train.X.dtype)
    kept, estimated, margin = [], [], math.nan
    for j in NOISE:
        X = np.concatenate([train.X[rows], noise[:, :j]], 1)
        model = GeneralizationDifficulty(
            ERROR,
            n_queries=2000,
            n_pairs=1_000_000,
            k=1000,
            round_dim=False,
            n_bootstrap=0,
            random_state=seed,
        ).fit(X, train.y[rows])
        margin = model.delta_ if j == 0 else margin
        kept.append(replace(model.task_, delta=margin).at(ERROR).log10_bits)
        estimated.append(model.log10_bits_)
    return kept, estimated


def run(seed: int, progress: Progress) -> Findings:
    """Evaluate the closed forms, measure both data sets, add noise."""
    fixed = generalization_difficulty(ERROR, 60_000, 14, 17.179, 2.3987, n_outputs=9, n_combinations=10)
    found: dict[str, list[GeneralizationDifficulty]] = {}
    for step, name in enumerate(DATA):
        found[name] = []
        for draw in range(N_DRAWS):
            progress((N_DRAWS * step + draw) / (2 * N_DRAWS + 2), name)
            found[name].append(fitted(name, seed, draw))
    digits, clothes = (float(np.median([m.log10_bits_ for m in found[name]])) for name in DATA)
    noisy, blind = with_noise(seed)
    line = np.corrcoef(NOISE, noisy)[0, 1]
    closed = {"Reacher": (rl_difficulty(6, 2), 2.91e25), "Half-Cheetah": (rl_difficulty(17, 6), 1.72e66)}
    closed |= {"Cartpole, 5 observations": (cartpole_difficulty(5), 1.19e40)}
    off = {name: value.bits / paper - 1 for name, (value, paper) in closed.items()}
    checks = (
        check_between("bits of digits, constants of the paper", fixed.bits, 1.4835e16, 1.4865e16),
        check_that("policies: relative difference from the released code's constants",
                   {name: round(v, 5) for name, v in off.items()}, "three digits",
                   all(abs(v) < 0.005 for v in off.values())),
        *(check_between(f"dimension of {name}, largest difference from {m} over the draws",
                        max(abs(e.m_ - m) for e in found[name]), 0, 1) for name, m in zip(DATA, (14, 15))),
        check_between("log10 bits of digits, all estimated, median", digits, 14, 17),
        check_between("log10 bits of clothes, all estimated, median", clothes, 20, 24),
        check_between("clothes over digits, decades", clothes - digits, 3, math.inf),
        check_that("published value of digits lies in the interval of some draw", fixed.log10_bits, "inside",
                   any(e.interval_[0] <= fixed.log10_bits <= e.interval_[1] for e in found["mnist"])),
        check_that("noise only adds", [round(v, 2) for v in noisy], "increasing", bool(np.all(np.diff(noisy) > 0))),
        check_between("correlation of log10 bits with the number of noise columns", float(line), 0.95, 1),
    )  # fmt: skip
    figures = {
        name: [
            {"m": e.m_raw_, "delta": e.delta_, "radius": e.radius_, "log10_bits": e.log10_bits_,
             "interval": list(e.interval_)}
            for e in models
        ]
        for name, models in found.items()
    }  # fmt: skip
    return Findings(
        checks,
        {
            **figures,
            "noise columns": list(NOISE),
            "log10 bits with noise": noisy,
            "with the margin of the noisy points": blind,
        },
        NOTES,
    )


NOTES = (
    "Noise columns raise the measured dimension about linearly. They also push the nearest points of different classes "
    "apart among those that were drawn, so that with a margin estimated from the noisy points the bits fall instead: "
    "the margin of an independent noise is a property of its law that no sample of this size shows.",
)

CLAIM = Claim(
    name="generalization-difficulty/images",
    arxiv="2305.01034",
    statement=(
        "Telling clothes apart asks for thousands of times the bits of assumptions that telling digits apart asks for."
    ),
    laptop=run,
    needs=DATA,
    minutes=4.0,
)
