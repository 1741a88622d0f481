"""The problems that several claims about objective landscapes share: their data, their networks, their search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split
from torch import nn

from lodim.claims.result import Progress
from lodim.datasets import Split, load
from lodim.landscape import LandscapeDimension, SubspaceModule
from lodim.randomness import build_seeded, derive_seed
from lodim.training import Recipe, Task, fit

__all__ = [
    "PAPER",
    "Samples",
    "described",
    "digits",
    "direct_score",
    "images",
    "mnist",
    "search",
    "train_in_subspace",
]

PAPER = "1804.08838"


class Samples(Split):
    """Training and held-out samples of an experiment."""

    def task(self, image_shape: tuple[int, ...] | None = None) -> Task:
        """Return the samples as tensors."""
        return Task.from_arrays(self.X, self.y, self.X_val, self.y_val, image_shape=image_shape)


def digits(seed: int) -> Samples:
    """Return scikit-learn's 1,797 digits, a stratified fifth held out, centred, in units of half the pixel range."""
    data = load("digits")
    assert data.y is not None
    X, X_val, y, y_val = train_test_split(data.X, data.y, test_size=0.2, random_state=seed, stratify=data.y)
    mean, half = X.mean(axis=0), (data.X.max() - data.X.min()) / 2
    return Samples((X - mean) / half, y, (X_val - mean) / half, y_val)


def images(name: str, n_train: int, n_val: int, seed: int = 0) -> Samples:
    """Return random images of MNIST's or Fashion-MNIST's training and test set.

    Pixels are standardised by the training images' overall mean and deviation.
    """
    train, test = load(name, split="train"), load(name, split="test")
    assert train.y is not None
    assert test.y is not None
    rng = np.random.default_rng(derive_seed(seed, name))
    rows, rows_val = (rng.permutation(len(s.X))[:n] for s, n in ((train, n_train), (test, n_val)))
    X, X_val = train.X[rows], test.X[rows_val]
    mean, deviation = X.mean(), X.std()
    return Samples((X - mean) / deviation, train.y[rows], (X_val - mean) / deviation, test.y[rows_val])


def mnist(n_train: int, n_val: int, seed: int = 0) -> Samples:
    """Return :func:`images` of MNIST."""
    return images("mnist", n_train, n_val, seed)


def search(
    make_model: Callable[[], nn.Module],
    problem: Samples,
    recipe: Recipe,
    seed: int,
    progress: Progress | None = None,
    *,
    image_shape: tuple[int, ...] | None = None,
    **options: Any,
) -> LandscapeDimension:
    """Return the finished search for the least subspace that keeps 90 % of the direct accuracy."""
    fixed: dict[str, Any] = {
        "recipe": recipe,
        "random_state": seed,
        "progress": progress,
        "image_shape": image_shape,
    }
    p = problem
    return LandscapeDimension.for_classifier(make_model, p.X, p.y, p.X_val, p.y_val, **fixed, **options).fit()


def train_in_subspace(
    make_model: Callable[[], nn.Module],
    task: Task,
    d: int,
    recipe: Recipe,
    *,
    lr: float,
    seed: int,
    projection: str = "cyclic",
    score_on: str = "val",
) -> float:
    """Return the score of one run in a random subspace; the seed changes origin, directions and order of data.

    The learning rate is that of v, with unit columns.
    """
    model = build_seeded(make_model, derive_seed(seed, "origin"))
    subspace = SubspaceModule(model, d, projection=projection, seed=derive_seed(seed, "directions"))
    return fit(
        subspace, task, recipe, lr=lr, random_state=derive_seed(seed, "order"), score_on=score_on
    ).score


def direct_score(
    make_model: Callable[[], nn.Module], task: Task, recipe: Recipe, seeds: tuple[int, ...], lr: float = 1e-3
) -> float:
    """Return the mean score of training all weights directly, a run for each seed."""
    return float(
        np.mean([fit(build_seeded(make_model, s), task, recipe, lr=lr, random_state=s).score for s in seeds])
    )


def described(finder: LandscapeDimension) -> dict[str, Any]:
    """Return what a record keeps of a finished search, as plain data."""
    sizes: dict[int, list[float]] = {}
    for run in finder.curve_:
        if run.multiplier == finder.lr_multiplier_:  # the others chose the learning rate
            sizes.setdefault(int(run.d), []).append(round(float(run.score), 4))
    return {
        "D": finder.n_parameters_,
        "d_int90": finder.d_int_,
        "interval": list(finder.d_int_ci_),
        "status": finder.status_,
        "baseline": finder.baseline_score_,
        "threshold": finder.threshold_score_,
        "lr_multiplier": finder.lr_multiplier_,
        "scores": {str(d): sizes[d] for d in sorted(sizes)},
    }
