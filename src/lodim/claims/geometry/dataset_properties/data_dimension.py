"""Handwritten digits have about a dozen dimensions, whichever estimator of neighbour distances is asked.

The estimators on the 10,000 test images of MNIST (784 raw pixels in [0, 1], neighbours among all of them) must give the
figures that three independent implementations agree on, and Levina and Bickel's estimator with k = 20, the one
of the paper, must order pairs of digits as they do (1,750 training images of each pair).

Source: Konz and Mazurowski 2024, arXiv 2401.08865, section 3.1 (estimators and settings).
"""

from __future__ import annotations

import numpy as np

from lodim.claims.result import Check, Claim, Findings, Progress, check_between, check_that
from lodim.datasets import load
from lodim.dimension.nearest import gride, log_ratios
from lodim.geometry import IntrinsicDimension
from lodim.neighbors import NeighborGraph
from lodim.randomness import derive_seed

# method, k, aggregate, figure, half a unit of its last digit
FIGURES = (
    ("twonn_fit", None, None, 13.557, 5e-4),
    ("mle", 20, None, 11.850, 5e-4),
    ("mle_unbiased", 20, None, 11.226, 5e-4),
    ("mada", 20, "mean", 13.93, 5e-3),
    ("mada", 20, "median", 12.25, 5e-3),
    ("mom", 100, None, 12.735, 5e-4),
    ("tle", 20, None, 12.86, 5e-3),
    ("lpca", None, None, 37.0, 0.0),
    ("fishers", None, None, 7.83, 5e-3),
    ("corrint", 20, None, 5.12, 5e-3),
)
GRIDE = {1: 13.56, 2: 12.51, 4: 12.20, 8: 11.70, 16: 11.31, 32: 10.83}
PAIRS = {(1, 0): 9.0, (7, 1): 9.0, (9, 4): 12.7, (8, 3): 14.6}


def run(seed: int, progress: Progress) -> Findings:
    """Measure the test images, then the pairs."""
    X = load("mnist", split="test").X.astype(np.float64)
    graph = NeighborGraph.from_data(X, 100)
    checks: list[Check] = []
    for step, (method, k, aggregate, figure, half) in enumerate(FIGURES):
        model = IntrinsicDimension(method, k=k, aggregate=aggregate, backend="blocked")
        needs_data = method in ("tle", "lpca", "fishers", "corrint")
        found = model.fit(X if needs_data else graph).dimension_
        what = " ".join([method, *([f"k={k}"] if k else []), *([aggregate] if aggregate else [])])
        checks.append(check_between(what, found, figure - half - 1e-9, figure + half + 1e-9))
        progress(0.8 * (step + 1) / len(FIGURES), what)
    errors = {}
    for n1, figure in GRIDE.items():
        found, errors[n1] = gride(log_ratios(graph.dist, n1, 2 * n1), n1, 2 * n1)
        checks.append(check_between(f"gride n1={n1}", found, figure - 0.0051, figure + 0.0051))
    pairs = _pairs(seed)
    checks += [
        check_between(
            f"mle k=20, digits {a} and {b}, n=1750", pairs[a, b], v - 0.35, v + 0.35, essential=False
        )
        for (a, b), v in PAIRS.items()
    ]
    order = sorted(pairs, key=lambda pair: pairs[pair])
    checks.append(
        check_that(
            "pairs by dimension", [f"{a}-{b}" for a, b in order], "9-4 below 8-3, both above 1-0 and 7-1",
            order[2:] == [(9, 4), (8, 3)],
        )
    )  # fmt: skip
    figures = {
        "gride_se": {str(n1): se for n1, se in errors.items()},
        "pairs": {f"{a}-{b}": v for (a, b), v in pairs.items()},
    }
    return Findings(checks, figures)


def _pairs(seed: int) -> dict[tuple[int, int], float]:
    train = load("mnist", split="train")
    assert train.y is not None
    found = {}
    for a, b in PAIRS:
        rows = np.flatnonzero((train.y == a) | (train.y == b))
        rng = np.random.default_rng(derive_seed(seed, "pair", a, b))
        drawn = rng.choice(rows, 1750, replace=False)
        found[a, b] = IntrinsicDimension("mle", k=20).fit(train.X[drawn]).dimension_
    return found


CLAIM = Claim(
    name="dataset-properties/data-dimension",
    arxiv="2401.08865",
    statement="Images of handwritten digits have an intrinsic dimension near 12, a sixtieth of their pixels.",
    laptop=run,
    needs=("mnist",),
    minutes=0.5,
)
