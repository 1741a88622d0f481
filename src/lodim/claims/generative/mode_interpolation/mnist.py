"""Models of digits that learn from models: dropping the samples that waver should slow the decline.

Four generations of a small fully connected network on 4,000 images of MNIST, averaged to 14 x 14 pixels. Each draws
1,000 more than it hands on and drops those of most variance, or any; or draws no more than it hands on. The first
generation is the same model for all three. Judged by squared Frechet distances to the test images in a small
classifier's features ("fd_classifier", comparable within one run only).

Ranges, set before anything was run. The paper's word for MNIST is that the filter stabilises the recursion, and we know
no figure of it, so only the direction is asked, of one run: at random the distance grows from the first generation to
the last; with the variance filter it grows no more than at random, and ends no higher. Dropping at random and dropping
none are the same law, so their last distances should be within a quarter of each other: if they are not, one run
resolves nothing. Nobody has labelled these samples, so the window was not calibrated: it has the levels from 0.2 to 1
of pixels in [0, 1] (whose deviation is 0.28), in the middle of the way, where a digit's class is decided.

Known misses. In the first run (seed 0) the distance went from 9.0 to 54.9 at random, from 8.6 to 52.1 with none
dropped, and from 11.6 to 66.8 with the variance filter: worse from the first generation on. Another window would not
have done: of 5,000 samples of one such model the 4,000 of the lowest scores were farther (9.0 to 13.3) than 4,000 of
any (8.8) by each of six windows from (0, 0.05) to (1, 4), and the 4,000 of the highest nearer (6.9 to 8.3). Nor would
a longer training: three times the steps left 8.2, and the same order. The samples are bad in many places (a fifth gets
no digit with 0.6 from the classifier, of the test images 4 %), and the score does not rank those (areas of 0.42 to
0.50) but rises with the ink (correlations of 0.1 to 0.4). So it is with the undertrained model of ``mode-
interpolation/grid``; that a better network, such as the full scale's, would do otherwise is not shown. The ranges
stayed.

Source: S. K. Aithal and others, 2024, arXiv 2406.09358, section 6: recursive training on MNIST.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from lodim.claims.result import Claim, Findings, Progress, check_between, check_that
from lodim.datasets import load
from lodim.generative import Diffusion, HallucinationDetector, recursive_training
from lodim.metrics import ClassifierFeatures, FrechetDistance
from lodim.nets import SmallUNet, TimeMLP
from lodim.randomness import derive_seed

WINDOW = (0.2, 1.0)


def small_net() -> nn.Module:
    """Return the laptop's backbone."""
    return TimeMLP(196, 256, 2)


def large_net() -> nn.Module:
    """Return the full scale's."""
    return SmallUNet(1, 64, (1, 2, 2), (1,))


def images(split: str, shape: Sequence[int]) -> tuple[Any, Any]:
    """Images and labels; averaged over squares of four pixels where the shape is flat."""
    part = load("mnist", split=split)
    X = part.X.reshape(-1, 14, 2, 14, 2).mean((2, 4)) if len(shape) == 1 else part.X
    return X.reshape(-1, *shape), np.asarray(part.y)


def run(
    seed: int, progress: Progress, n: int = 4000, generations: int = 4, surplus: int = 1000, steps: int = 1200,
    batch_size: int = 128, n_steps: int = 40, shape: tuple[int, ...] = (196,), net: Callable[[], nn.Module] = small_net,
    device: str = "cpu",
) -> Findings:  # fmt: skip
    """Run all three ways from the same data and seeds."""
    (X, y), (test, truth) = images("train", shape), images("test", shape)
    rows = np.random.default_rng(derive_seed(seed, "data")).permutation(len(X))[:n]
    X, y = X[rows], y[rows]
    flat = lambda x: x.reshape(len(x), -1)  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        features = ClassifierFeatures.fit(flat(X), y, max_iter=60, random_state=seed)
    distance = FrechetDistance(lambda x: features(flat(x)), random_state=seed).fit(test)

    def least(x: Any) -> float:
        digits = features.classifier.predict((flat(x) - features.mean) / features.scale)
        return float(np.bincount(digits.astype(int), minlength=10).min() * 10 / len(x))

    arms = {"none": ("random", 0), "random": ("random", surplus), "variance": ("variance", surplus)}
    found = {}
    for i, (name, (way, more)) in enumerate(arms.items()):
        found[name] = recursive_training(
            lambda: Diffusion(net(), shape).to(device), X, generations=generations, surplus=more, filter=way,
            detector=HallucinationDetector(WINDOW, "sigma"), metrics={"fd_classifier": distance, "least digit": least},
            fit={"steps": steps, "batch_size": batch_size}, sample={"sampler": "ancestral", "steps": n_steps},
            progress=progress.part(i / 3, (i + 1) / 3), random_state=derive_seed(seed, "generations"),
        )  # fmt: skip
    ways = {name: of.figures["fd_classifier"] for name, of in found.items()}
    last, growth = (
        {name: f(way) for name, way in ways.items()} for f in (lambda w: w[-1], lambda w: w[-1] - w[1])
    )
    checks = [
        check_that(
            "random: distance after the first and the last generation", [ways["random"][1], last["random"]],
            "increasing", growth["random"] > 0,
        ),
        check_that(
            "growth of the distance from the first generation on: variance, random",
            [growth["variance"], growth["random"]], "not decreasing", growth["variance"] <= growth["random"],
        ),
        check_between("last distance, variance over random", last["variance"] / last["random"], 0, 1),
        check_between("last distance, none over random", last["none"] / last["random"], 0.8, 1.25),
    ]  # fmt: skip
    figures = {
        **{name: {"distance": list(of.distance), **of.figures} for name, of in found.items()},
        "floor": distance.floor_, "classifier": features.score(flat(test), truth),
    }  # fmt: skip
    return Findings(checks, figures, NOTES)


NOTES = (
    "distances are of a classifier trained on the spot: compare them within one run only; generation 0 is the data",
    "the rarest digit's share of a tenth, by that classifier, is a figure: nothing was known of it beforehand",
)

CLAIM = Claim(
    name="mode-interpolation/mnist",
    arxiv="2406.09358",
    statement="Models of digits that learn from models decline no faster where wavering samples are dropped.",
    laptop=run,
    full=partial(
        run, n=50_000, generations=5, surplus=12_500, steps=50_000, n_steps=200, shape=(1, 28, 28), net=large_net,
        device="cuda",
    ),
    needs=("mnist",),
    full_needs=("gpu",),
    minutes=4.5,
)  # fmt: skip
