"""Digits from one or five labelled images each, by features of a network that has seen clothes only.

A LeNet learns the ten Fashion-MNIST classes; its 256 pooled features of MNIST's test digits go into episodes of five
classes. The accepted ranges were set beforehand from a prototype of our own, whose network is not recorded (1-shot:
SimpleShot 50.5, K-means 53.8, SLK-Means 54.6; 5-shot: 70.4, 71.0, 73.2 %), near which our last hidden layer comes.
Gains are paired over episodes; the paper's, on mini-ImageNet, are from 65.87 to 73.80 and 74.75 % at 1-shot.

Beside ours, on the same episodes after the same shift of queries (SimpleShot: without): scikit-learn's label spreading,
label propagation (at most 200 steps: it may alternate) and spectral clustering (the normalised cut), its clusters named
by the labelled rows. Class shares from a Dirichlet distribution show where the shift misleads.

Source: Ziko and others 2021, arXiv 2106.09516.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import SpectralClustering
from sklearn.semi_supervised import LabelPropagation, LabelSpreading
from torch import Tensor, nn

from lodim.claims.result import Claim, Findings, Progress, check_between, check_that
from lodim.datasets import load
from lodim.nets import lenet
from lodim.partition import SLK, FewShotAccuracy, few_shot_episodes, search_lambda
from lodim.randomness import build_seeded, derive_seed
from lodim.training import DescentRecipe, descend
from lodim.validation import ConvergenceWarning

N_BASE, N_EPISODES = 12_000, 300
PLAIN: dict[str, Any] = {
    "SimpleShot": "simpleshot",
    "nearest mean, shifted": SLK(lam=0, max_iter=0),
    "one round, as LaplacianShot": SLK(lam=0.3, sigma=1, max_iter=0),
    "K-means": SLK(lam=0),
    "K-modes": SLK(lam=0, prototype="mode"),
    "SLK-Means": SLK(lam=0.3, sigma=1),
    "SLK-MS": SLK(lam=0.3, prototype="mode"),
    "SLK-BO": SLK(lam=0.3, prototype="bo"),
    "SLK-Medoids": SLK(lam=0.3, prototype="medoid"),
}  # sigma=1: the paper's unit, that of rows of length 1


def images(name: str, split: str) -> tuple[Tensor, Any]:
    """Images and their labels."""
    data = load(name, split=split)
    return torch.from_numpy(np.asarray(data.X, dtype=np.float32)).reshape(-1, 1, 28, 28), np.asarray(data.y)


def network(seed: int, X: Tensor, y: Any) -> nn.Sequential:
    """A LeNet after three epochs of the base classes."""
    net = build_seeded(lenet, derive_seed(seed, "weights"))
    smoothed, recipe = nn.CrossEntropyLoss(label_smoothing=0.1), DescentRecipe(epochs=3, schedule="onecycle")
    data = X, torch.from_numpy(y.astype(np.int64))
    descend(lambda x, t: smoothed(net(x), t), net, recipe, data, random_state=derive_seed(seed, "training"))
    return net.eval()


@torch.no_grad()
def features(part: nn.Module, X: Tensor) -> Any:
    """What a part of the network makes of images."""
    return torch.cat([part(batch) for batch in X.split(1000)]).numpy()


def spectral(X: Any, y: Any) -> Any:
    """The normalised cut, its clusters named by the labelled rows one to one."""
    n = int(y.max()) + 1
    found = SpectralClustering(n, affinity="nearest_neighbors", random_state=0).fit_predict(X)
    table = [[np.sum((found == k) & (y == c)) for c in range(n)] for k in range(n)]
    return linear_sum_assignment(table, maximize=True)[1][found]


def propagated(X: Any, y: Any) -> Any:
    """Label propagation."""
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        return LabelPropagation(max_iter=200).fit(X, y).transduction_


PEERS = {
    "label spreading": lambda X, y: LabelSpreading().fit(X, y).transduction_,
    "label propagation": propagated,
    "spectral clustering": spectral,
}


def laptop(seed: int, progress: Progress) -> Findings:
    """Compare all methods at one and five shots; 300 episodes instead of 10,000."""
    progress(0.0, "the network")
    clothes, kinds = images("fashion_mnist", "train")
    some = np.random.default_rng(derive_seed(seed, "base")).permutation(len(clothes))[:N_BASE]
    net = network(seed, clothes[some], kinds[some])
    digits, y = images("mnist", "test")
    found: dict[str, FewShotAccuracy] = {}
    uneven: dict[str, FewShotAccuracy] = {}
    searched: dict[str, float] = {}
    for depth, name in ((7, "pooled"), (11, "last layer")):
        part = net[:depth]
        mean, novel = features(part, clothes[some]).mean(0), features(part, digits)
        options: dict[str, Any] = {"base_mean": mean, "random_state": derive_seed(seed, "episodes")}
        for shots in (1, 5):
            progress(0.2 + 0.2 * (shots > 1) + 0.4 * (depth > 7), f"{name} features, {shots} labelled")
            options |= {"n_shot": shots, "n_episodes": N_EPISODES}
            methods: dict[str, Any] = {**PLAIN, **PEERS}
            if depth == 7:
                held, held_kinds = images("fashion_mnist", "test")
                lam = float(search_lambda(features(part, held), held_kinds, SLK(sigma=1), **options).best)
                searched[f"{shots}-shot"] = lam
                methods["SLK-Means, lambda searched"] = SLK(lam=lam, sigma=1)
                for shift, how in ((True, "uneven classes"), (False, "uneven classes, no shift")):
                    drawn = few_shot_episodes(novel, y, PLAIN, dirichlet=2, shift=shift, **options)
                    uneven[f"{how}, {shots}-shot"] = drawn
            found[f"{name}, {shots}-shot"] = few_shot_episodes(novel, y, methods, **options)
    one, five = found["pooled, 1-shot"], found["pooled, 5-shot"]
    gains = [each.difference("SLK-Means", "SimpleShot") for each in (one, five)]
    checks = (
        check_between("SLK-Means over SimpleShot, 1-shot, points", 100 * gains[0].mean, 2.5, np.inf, paper=8.88),
        check_between("SLK-Means over SimpleShot, 5-shot, points", 100 * gains[1].mean, 1.5, np.inf, paper=2.52),
        check_that("paired intervals", [100 * g.ci95 for g in gains], "leave out zero", all(g.is_clear for g in gains)),
        check_between("K-means over SimpleShot, 1-shot, points",
                      100 * one.difference("K-means", "SimpleShot").mean, 0, np.inf, paper=7.93),
    )  # fmt: skip
    figures: dict[str, Any] = {
        name: {m: [100 * a, 100 * c] for m, a, c in zip(each.names, each.mean, each.ci95)}
        for name, each in (found | uneven).items()
    }
    return Findings(checks, {**figures, "lambda found on clothes": searched}, NOTES)


NOTES = (
    "Figures are accuracy and half the width of its 95 % interval, in percent; the paper's gains are on mini-ImageNet.",
    "Label spreading comes within a point on pooled features, and is ahead of SLK on the last layer's at 1-shot.",
    "The features decide: two other networks, tried once while this was built (global average pooling; a dense layer of"
    " 256), gave SimpleShot 43 and 57 %, K-means 40 and 52 %; SLK-Means was level at 1-shot, 3 points above at 5-shot.",
)

CLAIM = Claim(
    name="transductive-few-shot/digits",
    arxiv="2106.09516",
    statement=(
        "From one labelled image a class, clustering all queries with the labelled rows pinned and neighbours asked to "
        "agree is at least 2.5 points above the nearest mean (5-shot: 1.5), and K-means alone is not below it."
    ),
    laptop=laptop,
    needs=("fashion_mnist", "mnist"),
    minutes=1.5,
)
