"""Unequal classes of MNIST: does a network's head end in the lengths that are predicted from decay and class sizes?

500, 450, ..., 50 images of the ten digits; three layers of 256, 256 and 64 ReLU units, behind them one or three linear
layers without bias. Half the squared error; decay of the head's weights and of the features (the paper's "feature
decay"), none elsewhere. Adam, then gradient descent with momentum, both with rates that end in zero.

Accepted, set before the first run: NC1 below .1 at every linear layer, class means and classifier within .2 of the
predicted orthogonal frame of unequal lengths (both Gram matrices of unit norm), Spearman correlation above .9 between
predicted and measured lengths of the classifier's rows. The paper's figures could not be re-read; its networks and
images are larger. Shorter trainings were not enough with one layer: after 200 and 60 epochs class means were at .315
from the frame, after 300 and 100 at .235, their lengths within 4 % of the predicted ones, while the angles were still
opening. So the training was made longer; the range is the first one.

Source: Dang and others 2023, arXiv 2301.00437.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lodim.claims.result import Claim, Findings, Progress, check_between
from lodim.datasets import load
from lodim.nets import mlp
from lodim.randomness import as_generator, build_seeded, derive_seed
from lodim.representation import CollapseMonitor, collapse_report, frame_distance
from lodim.representation.collapse import class_geometry
from lodim.training import DescentRecipe, descend

SIZES = tuple(range(500, 0, -50))
WEIGHT_DECAY, FEATURE_DECAY, WIDTH = 5e-4, 1e-5, 64


def images(seed: int) -> tuple[Tensor, Tensor]:
    """Images of so many of each digit, in order of class."""
    data: Any = load("mnist", split="train")
    y, rng = np.asarray(data.y).astype(np.int64), as_generator(derive_seed(seed, "images"))
    rows = np.concatenate([rng.permutation(np.flatnonzero(y == k))[:n] for k, n in enumerate(SIZES)])
    X = np.asarray(data.X[rows], dtype=np.float32).reshape(len(rows), -1)
    return torch.from_numpy(X / X.max()), torch.from_numpy(y[rows])


def network(n_layers: int) -> nn.Sequential:
    """A body that ends in ReLU, and a linear head."""
    body = [*mlp([784, 256, 256, WIDTH]), nn.ReLU()]
    widths = [WIDTH] * n_layers + [10]
    return nn.Sequential(nn.Sequential(*body), *(nn.Linear(a, b, bias=False) for a, b in pairwise(widths)))


def trained(
    seed: int, n_layers: int, X: Tensor, y: Tensor, epochs: tuple[int, int], progress: Any
) -> tuple[nn.Sequential, CollapseMonitor]:
    """The network after both stages."""
    net = build_seeded(lambda: network(n_layers), derive_seed(seed, "weights", n_layers))
    monitor = CollapseMonitor(net, None, None, [(X, y)], frame="orthogonal")
    targets = nn.functional.one_hot(y, 10).float()
    head: list[Any] = list(net)[1:]

    def loss(x: Tensor, target: Tensor) -> Tensor:
        features = net[0](x)
        out = features
        for layer in head:
            out = layer(out)
        decay = torch.stack([layer.weight.square().sum() for layer in head]).sum()
        per_row = (out - target).square().sum(1) + FEATURE_DECAY * len(X) * features.square().sum(1)
        return per_row.mean() / 2 + WEIGHT_DECAY / 2 * decay

    def watch(run: Any) -> None:
        if run.epoch % 20 == 0:
            monitor(run)

    for stage, (optimizer, lr, n) in enumerate((("adam", 1e-3, epochs[0]), ("sgd", 1e-2, epochs[1]))):
        recipe = DescentRecipe(epochs=n, lr=lr, optimizer=optimizer, schedule="cosine")
        seeded = derive_seed(seed, "training", n_layers, stage)
        descend(loss, net, recipe, (X, targets), random_state=seeded, on_epoch=watch, progress=progress)
    return net, monitor


def laptop(seed: int, progress: Progress, epochs: tuple[int, int] = (600, 200)) -> Findings:
    """Train with one and with three linear layers."""
    X, y = images(seed)
    checks, figures = [], {}
    for i, n_layers in enumerate((1, 3)):
        net, monitor = trained(seed, n_layers, X, y, epochs, progress.part(i / 2, (i + 1) / 2))
        decay: Any = {"weight_decay": WEIGHT_DECAY, "feature_decay": FEATURE_DECAY, "random_state": seed}
        found: Any = collapse_report(net, [(X, y)], **decay)
        with torch.no_grad():
            means = class_geometry(net[0](X).numpy(), y.numpy()).means
        gof, layers = frame_distance(means, found.predicted.mean_norms), f"{n_layers} linear layers"
        worst = max(layer.metrics.nc1 for layer in found.layers)
        checks += [
            check_between(f"{layers}: NC1 at the worst layer", worst, 0, 0.1),
            check_between(f"{layers}: class means from the predicted frame", gof, 0, 0.2),
            check_between(f"{layers}: classifier from the predicted frame", found.predicted_distance, 0, 0.2),
            check_between(f"{layers}: rank correlation of lengths", found.predicted_correlation, 0.9, 1),
        ]
        head: list[Any] = list(net)[:0:-1]
        product = np.linalg.multi_dot([np.eye(10), *(layer.weight.detach().numpy() for layer in head)])
        table = monitor.to_frame()
        figures[layers] = {
            "report": found.to_frame().to_dict("list"),
            "accuracy": found.accuracy,
            "lengths of rows": [
                np.linalg.norm(product, axis=1).tolist(),
                found.predicted.classifier_norms.tolist(),
            ],
            "lengths of means": [np.linalg.norm(means, axis=1).tolist(), found.predicted.mean_norms.tolist()],
            "NC1 every 20 epochs": {name: part["nc1"].tolist() for name, part in table.groupby("layer")},
        }
    return Findings(checks, figures)


CLAIM = Claim(
    name="neural-collapse/mnist",
    arxiv="2301.00437",
    statement=(
        "A network with a linear head, trained on unequal classes of MNIST with feature decay, collapses at every "
        "linear layer to the orthogonal frame of unequal lengths that its decay and class sizes predict."
    ),
    laptop=laptop,
    needs=("mnist",),
    minutes=8.0,
)
