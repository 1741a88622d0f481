"""Clothes lie closer together across classes than digits: label sharpness, and where it is largest.

For all 45 pairs of classes, K_F over 1,000 training images (500 a class, pixels in [0, 1], 28 x 28), the mean of 20
draws: a maximum is noisy, and three draws leave the order of the two largest pairs to chance. The pairs with the
largest K_F are those that people and networks confuse: 1 and 7; T-shirt and shirt.

Source: Konz and Mazurowski 2024, arXiv 2401.08865, section 4 (the definition and M = 1,000; there on other pairs).
The figures expected come from an independent implementation of the definition on the same data.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from lodim.claims.result import Claim, Findings, Progress, check_between, check_that
from lodim.datasets import load
from lodim.geometry import LabelSharpness
from lodim.randomness import derive_seed

DATA = ("mnist", "fashion_mnist")


def sharpness_of_pairs(name: str, seed: int, *, n_repeats: int = 20) -> dict[tuple[int, int], float]:
    """K_F of every pair of classes of a data set of images of :mod:`lodim.datasets`, mean of ``n_repeats`` draws."""
    train = load(name, split="train")
    assert train.y is not None
    found = {}
    for b, a in combinations(range(10), 2):
        rows = np.flatnonzero((train.y == a) | (train.y == b))
        model = LabelSharpness(m=1000, n_repeats=n_repeats, random_state=derive_seed(seed, name, a, b))
        found[a, b] = model.fit(train.X[rows], train.y[rows]).k_f_
    return found


def run(seed: int, progress: Progress) -> Findings:
    """Measure both data sets."""
    found = {name: sharpness_of_pairs(name, seed) for name in progress.over(DATA)}
    digits, clothes = (found[name] for name in DATA)
    means = [float(np.mean(list(pairs.values()))) for pairs in (digits, clothes)]
    order = {name: sorted(found[name], key=lambda pair: -found[name][pair]) for name in DATA}
    confused = {(6, 0), (4, 2), (6, 4), (6, 2), (6, 3), (4, 3)}  # shirt, T-shirt, pullover, coat, dress
    checks = (
        check_between("mean K_F of clothes over that of digits", means[1] / means[0], 1.24, 1.48),
        check_that("largest for clothes", list(order["fashion_mnist"][0]), "(6, 0): shirt, T-shirt",
                   order["fashion_mnist"][0] == (6, 0)),
        check_that("largest for digits", list(order["mnist"][0]), "(7, 1)", order["mnist"][0] == (7, 1)),
        check_that("next two for digits", [list(p) for p in order["mnist"][1:3]], "(9, 7) and (9, 4)",
                   set(order["mnist"][1:3]) == {(9, 7), (9, 4)}),
        check_that("three largest for clothes", [list(p) for p in order["fashion_mnist"][:3]],
                   "pairs of upper garments", set(order["fashion_mnist"][:3]) <= confused),
        check_between("mean K_F of digits", means[0], 0.186, 0.206, essential=False),
        check_between("mean K_F of clothes", means[1], 0.251, 0.281, essential=False),
    )  # fmt: skip
    figures = {name: {f"{a}-{b}": v for (a, b), v in pairs.items()} for name, pairs in found.items()}
    return Findings(checks, figures)


CLAIM = Claim(
    name="dataset-properties/label-sharpness",
    arxiv="2401.08865",
    statement="Label sharpness differs between kinds of images and is largest for the classes that are confused.",
    laptop=run,
    needs=DATA,
    minutes=1.0,
)
