"""Depth makes features vary less, and it is the weight decay on feature layers that does it, not the classifier's.

10,000 images of Fashion-MNIST. *Depth*: six hidden layers of 256, trained one after the other by Adam on the squared
distance, 20 epochs each. Variability (NC1) of the training rows is to be lower at layer 6 than at layer 1, in both its
forms, and to fall with depth on the whole. *Weight decay*: two hidden layers of 128, all trained together, 2000 steps
of 128 rows by SGD with momentum at a rate of 0.05 falling to zero, weight decay 1e-3 throughout; then doubled, or none,
on the feature layers only or on the classifier only. Squared distance without the classifier's bias, and cross-entropy
with it, three seeds. NC1 of the last hidden layer is to change by more, on average of seeds and of both changes, where
the feature layers' decay changes.

The paper has CIFAR-10 and a ResNet-18, weight decay 5e-4 over 120 epochs of 50,000 images; here the steps are some 25
times fewer, therefore a larger decay. Ranges are the paper's signs.

Source: Tirer, Huang and Niles-Weed 2022, arXiv 2210.16658, sections 3 and 5.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lodim.claims.result import Claim, Findings, Progress, check_between, check_that
from lodim.datasets import load
from lodim.randomness import as_generator, build_seeded, derive_seed
from lodim.representation import greedy_train, split_weight_decay
from lodim.representation.collapse import nc1
from lodim.training import DescentRecipe, descend

BASE, CHANGES = 1e-3, (2.0, 0.0)
N_SEEDS = 3


def images(seed: int) -> tuple[Tensor, Tensor]:
    """Standardised as a whole, with the same number of each class."""
    data: Any = load("fashion_mnist", split="train")
    rng, y = as_generator(derive_seed(seed, "images")), np.asarray(data.y).astype(int)
    rows = np.concatenate([rng.choice(np.flatnonzero(y == k), 1000, replace=False) for k in range(10)])
    X = torch.from_numpy(np.asarray(data.X[rows], dtype=np.float32))
    return (X - X.mean()) / X.std(), torch.from_numpy(y[rows])


def net(widths: list[int], bias: bool = True) -> nn.Sequential:
    """As torch initialises it."""
    parts: list[nn.Module] = []
    for n_in, n_out in pairwise(widths[:-1]):
        parts += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(widths[-2], widths[-1], bias=bias))


def variability(X: Tensor, y: Tensor, loss: str, features: float, classifier: float, seed: int) -> float:
    """NC1 of the last hidden layer after training with these weight decays."""
    model = build_seeded(lambda: net([784, 128, 128, 10], bias=loss == "ce"), seed)

    def objective(x: Tensor, labels: Tensor) -> Tensor:
        if loss == "ce":
            return nn.functional.cross_entropy(model(x), labels)
        return (model(x) - nn.functional.one_hot(labels, 10)).square().sum(1).mean() / 2

    recipe = DescentRecipe(steps=2000, lr=0.05, batch_size=128, optimizer="sgd", schedule="cosine")
    groups = split_weight_decay(model, "4", features, classifier)
    descend(objective, groups, recipe, (X, y), random_state=derive_seed(seed, "order"), interruptible=False)
    with torch.no_grad():
        return nc1(model[:4](X).numpy(), y.numpy())


def laptop(seed: int, progress: Progress) -> Findings:
    """Both parts."""
    X, y = images(seed)
    deep = build_seeded(lambda: net([784, *[256] * 6, 10]), derive_seed(seed, "deep"))
    told = greedy_train(deep, X, y, epochs=20, random_state=seed, progress=progress.part(0.0, 0.3))
    trend = float(np.corrcoef(np.arange(1, 7), np.log(told.nc1[1:]))[0, 1])
    checks = [
        check_between("NC1 at layer 6 over layer 1", told.nc1[6] / told.nc1[1], 0.0, 0.999),
        check_between(
            "NC1 by traces at layer 6 over layer 1", told.nc1_trace[6] / told.nc1_trace[1], 0.0, 0.999
        ),
        check_between("correlation of log NC1 with depth", trend, -1.0, -0.5),
    ]
    figures: dict[str, Any] = {"depth": told.to_frame().to_dict("list")}
    for loss in ("mse", "ce"):
        run = partial(variability, X, y, loss)
        changes, base = np.empty((N_SEEDS, 2, len(CHANGES))), []
        for i in range(N_SEEDS):
            progress(
                0.3 + 0.35 * (loss == "ce") + 0.35 * i / N_SEEDS,
                f"weight decay, {loss}, {i + 1} of {N_SEEDS}",
            )
            key = derive_seed(seed, loss, i)
            base.append(run(BASE, BASE, key))
            for j, times in enumerate(CHANGES):
                changes[i, 0, j] = run(times * BASE, BASE, key) - base[-1]
                changes[i, 1, j] = run(BASE, times * BASE, key) - base[-1]
        size = np.abs(changes).mean((0, 2))
        each = (np.abs(changes).mean(2)[:, 0] > np.abs(changes).mean(2)[:, 1]).tolist()
        checks += [
            check_between(
                f"{loss}: change of NC1, classifier's decay over features'", size[1] / size[0], 0.0, 0.999
            ),
            check_that(
                f"{loss}: features' decay moves NC1 more, by seeds", each, "all", all(each), essential=False
            ),
        ]
        figures[loss] = {
            "base": base,
            "features": changes[:, 0].tolist(),
            "classifier": changes[:, 1].tolist(),
        }
    return Findings(checks, figures)


CLAIM = Claim(
    name="near-collapse/networks",
    arxiv="2210.16658",
    statement=(
        "Trained layer by layer, a network's features vary less within classes with depth; and weight decay of the "
        "feature layers moves that variability more than the classifier's does."
    ),
    laptop=laptop,
    needs=("fashion_mnist",),
    minutes=6,
)
