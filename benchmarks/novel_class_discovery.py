"""Training of the projection against a bare PyTorch loop, and a search as one stack of nets against one after another.

One thread. The loop is what one would write for this net without a library: ``nn.Linear``, ``nn.BatchNorm1d``,
``nn.Dropout``, AdamW, the same batches, no callbacks and no look at the loss; 20 epochs of 1,257 rows with 61 columns.
The search tries twelve settings in three folds, 36 nets of 12 and 8 units, 20 epochs of 600 rows in batches of 128; its
time has the k-means of every net and the fit of the best in it. Run ``python benchmarks/novel_class_discovery.py``.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from _harness import Target, compare, publish
from torch import nn
from torch.nn import functional as F

from lodim.claims.partition.novel_class_discovery.digits import KNOWN, split
from lodim.partition import PBN, NCDSearchCV
from lodim.partition.novel_class_discovery.projection import train_projections

EPOCHS = 20


def layers(widths: list[int]) -> nn.Sequential:
    """Linear layers with ReLU, normalisation and dropout between them."""
    parts: list[nn.Module] = []
    for a, b in pairwise(widths[:-1]):
        parts += [nn.Linear(a, b), nn.ReLU(), nn.BatchNorm1d(b), nn.Dropout(0.1)]
    return nn.Sequential(*parts, nn.Linear(*widths[-2:]))


def bare_loop(X: np.ndarray, codes: np.ndarray) -> None:
    """Train without a library."""
    x, y = torch.tensor(X, dtype=torch.float32), torch.tensor(codes)
    d = x.shape[1]
    widths = [d, 3 * d // 4, d // 2, d // 2]
    encoder, decoder, classifier = layers(widths), layers(widths[::-1]), nn.Linear(widths[-1], len(KNOWN))
    parameters = [p for part in (encoder, decoder, classifier) for p in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(512):
            batch, labels = x[rows], y[rows]
            z = F.normalize(encoder(batch), dim=1)
            known = labels >= 0
            error = F.mse_loss(decoder(z), batch, reduction="sum") / len(batch)
            loss = 0.5 * F.cross_entropy(classifier(z[known]), labels[known]) + 0.5 * error
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def search(X: np.ndarray, y: np.ndarray, *, stack: bool) -> None:
    model = PBN(n_novel=4, epochs=EPOCHS, batch_size=128)
    NCDSearchCV(model, n_trials=12, stack=stack, random_state=0).fit(X, y)


def small_table() -> tuple[np.ndarray, np.ndarray]:
    """A thousand rows of sixteen columns in ten groups, of which six have labels."""
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 10, 1000)
    X = 3 * rng.normal(size=(10, 16))[groups] + rng.normal(size=(1000, 16))
    return (X - X.mean(0)) / X.std(0), np.where(groups < 6, groups, -1)


def main() -> None:
    torch.set_num_threads(1)
    X, _, digits, _ = split()
    codes = np.searchsorted(KNOWN, digits)
    codes[~np.isin(digits, KNOWN)] = -1
    model = PBN(epochs=EPOCHS, random_state=0)
    rows = compare(
        {
            "bare PyTorch loop": lambda: bare_loop(X, codes),
            "lodim": lambda: train_projections([model], X, codes[:, None]),
        },
        reference="bare PyTorch loop",
        targets={"lodim": Target(1 / 0.7)},
        group="projection of 1,257 digits, 20 epochs",
        rounds=7,
    )
    table, labels = small_table()
    rows += compare(
        {
            "one after another": lambda: search(table, labels, stack=False),
            "as one stack": lambda: search(table, labels, stack=True),
        },
        reference="one after another",
        targets={"as one stack": Target(1 / 3)},
        group="search: 12 settings in 3 folds, nets of 12 and 8 units",
        rounds=3,
        warmup=1,
    )
    publish("novel_class_discovery", rows, packages=("torch", "numpy", "scikit-learn"), notes=[])


if __name__ == "__main__":
    main()
