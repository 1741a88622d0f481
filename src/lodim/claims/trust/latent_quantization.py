"""A one-bit filter against attacks that do not know of it, and against one that does.

On MNIST a small convolutional classifier is attacked by one gradient step, by projected steps and by those of another
architecture's net, each without knowledge of a defence; then every defence is attacked through itself, its rounding
passed by a soft gradient, and by a search that needs no gradient. Beside the filter stand an ordinary variational
autoencoder and adversarial training at .1.

Smaller than the paper: filters of two convolutions, trained for 1,000 steps on 20,000 images; 300 test images, drawn by
the seed; 10 gradient steps. At full scale the filter has the paper's networks and 10,000 steps, its ablations (without
the Lipschitz penalty; without rounding) stand beside it, and four classifiers are compared on 1,000 images.

Source: Vinay Kyatham and others, 2019, arXiv 1903.09940. Ranges are from an independent prototype (convolutional, 1,200
steps), set before this was run: clean .958, filtered .880; at .1 and .2 one step takes the classifier to .230 and .018,
projected steps to .176 and .008, and filtered .762 and .516, .766 and .568, transferred .780 and .590; an adaptive
attack leaves .228 and .006. **So the filter is no protection against an adversary who knows of it**: that is the
claim's second half. The paper's table, which has no adaptive attack, is not promised at .3.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lodim.claims.result import Check, Claim, Findings, Progress, check_between, check_that
from lodim.datasets import load
from lodim.randomness import as_generator, build_seeded, derive_seed
from lodim.trust import (
    LQVAE,
    adversarial_training,
    benchmark_classifier,
    code_stability,
    defend,
    fgsm,
    pgd,
    robustness_report,
    transfer,
)

SIZES = (0.1, 0.2)
FILTERS: dict[str, dict[str, Any]] = {
    "LQ-VAE": {},
    "no Lipschitz penalty": {"lambda_gp": 0},
    "no rounding": {"n_bits": None},
    "plain VAE": {"n_bits": None, "lambda_gp": 0, "noise_scale": 1.0},
}


def small() -> dict[str, nn.Module]:
    """An encoder and a decoder of two convolutions, those of the prototype."""
    encoder = [
        nn.Conv2d(1, 16, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 32, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(),
        nn.Linear(1568, 256), nn.LeakyReLU(0.2), nn.Linear(256, 128),
    ]  # fmt: skip
    decoder = [
        nn.Linear(64, 256), nn.LeakyReLU(0.2), nn.Linear(256, 1568), nn.LeakyReLU(0.2), nn.Unflatten(1, (32, 7, 7)),
        nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.LeakyReLU(0.2), nn.ConvTranspose2d(16, 1, 4, 2, 1), nn.Tanh(),
    ]  # fmt: skip
    return {"encoder": nn.Sequential(*encoder), "decoder": nn.Sequential(*decoder)}


def images(split: str, n: int, seed: int) -> tuple[Tensor, np.ndarray]:
    """Some of MNIST on [0, 1]."""
    data = load("mnist", split=split)
    rows = as_generator(derive_seed(seed, split)).choice(len(data.X), n, replace=False)
    assert data.y is not None
    return torch.from_numpy(data.X[rows].reshape(-1, 1, 28, 28)).float(), data.y[rows]


def run(
    seed: int, progress: Progress, *, kinds: str = "A", n_train: int = 20_000, n_test: int = 300, width: int = 8,
    epochs: int = 3, steps: int = 1000, lr: float = 1e-3, whole: bool = False, attack_steps: int = 10,
    n_queries: int = 60, device: str = "cpu",
) -> Findings:  # fmt: skip
    """Train filters and classifiers, attack them all."""
    X, y = images("train", n_train, seed)
    X_test, y_test = images("test", n_test, seed)
    x, t = X_test.to(device), torch.from_numpy(y_test).long().to(device)
    filters = {}
    for name in progress.part(0.0, 0.7).over(FILTERS if whole else ("LQ-VAE", "plain VAE")):

        def build(name: str = name) -> LQVAE:
            nets: dict[str, Any] = {} if whole else small()
            return LQVAE(**nets, **FILTERS[name])

        model = build_seeded(build, seed).to(device)
        model.fit(X, steps, lr=lr, random_state=seed)
        filters[name] = model
    checks: list[Check] = []
    figures: dict[str, Any] = {}

    def classifier(kind: str, key: object, eps: float) -> nn.Module:
        part = slice(0, n_train // 2)
        net = build_seeded(lambda: benchmark_classifier(kind, width=width), derive_seed(seed, key)).to(device)
        adversarial_training(
            net, X[part], y[part], eps=eps, attack="pgd" if eps else "fgsm", attack_steps=3, lr=2e-3,
            epochs=epochs, random_state=derive_seed(seed, key),
        )  # fmt: skip
        return net

    for kind in progress.part(0.7, 1.0).over(kinds):
        net, substitute = classifier(kind, "attacked", 0.0), classifier("D", "substitute", 0.0)
        defences = {name: defend(net, model).eval() for name, model in filters.items()}
        defences["trained on attacks"] = classifier(kind, "attacked", 0.1)
        for eps in SIZES:
            report = robustness_report(
                net, defences, x, y_test, eps=eps, steps=attack_steps, n_restarts=1, n_queries=n_queries,
                substitute=substitute, random_state=seed,
            )  # fmt: skip
            moved = {
                "one step": fgsm(net, x, t, eps, bounds=(0, 1)),
                "projected steps": pgd(net, x, t, eps, bounds=(0, 1)),
                "transferred": transfer(substitute, x, t, eps, bounds=(0, 1), steps=attack_steps),
            }
            each = {
                attack: {name: float((model(m).argmax(1) == t).double().mean()) for name, model in
                         {"none": net, **defences}.items()}
                for attack, m in moved.items()
            }  # fmt: skip
            figures[f"{kind} at {eps}"] = {"report": report.to_dict(), "alone": each}
            checks += _checks(kind, eps, report.to_frame(), each)
    figures["code"] = code_stability(filters["LQ-VAE"], x[:100]).to_dict()
    return Findings(tuple(checks), figures, NOTES)


def _checks(kind: str, eps: float, table: Any, each: dict[str, dict[str, float]]) -> list[Check]:
    where = f"{kind}, {eps}"
    adaptive, limit = float(table.loc["adaptive white-box", "LQ-VAE"]), 0.35 if eps == 0.1 else 0.05
    checks = [
        check_between(f"{where}: filtered, {attack}", values["LQ-VAE"], 0.45, 1.0)
        for attack, values in each.items()
    ]
    checks += [
        check_between(f"{where}: no defence, projected steps", each["projected steps"]["none"], 0.0, 0.35),
        check_between(f"{where}: filtered, adaptive attack", adaptive, 0.0, limit),
    ]
    if eps == 0.1:
        trained = float(table.loc["worst of all", "trained on attacks"])
        checks += [
            check_between(f"{kind}: clean, no defence", table.loc["none", "none"], 0.93, 1.0),
            check_between(f"{kind}: clean, filtered", table.loc["none", "LQ-VAE"], 0.80, 1.0),
            check_that(f"{where}: worst of all, trained on attacks and filtered",
                       [trained, float(table.loc["worst of all", "LQ-VAE"])], "the trained one keeps more",
                       trained > float(table.loc["worst of all", "LQ-VAE"])),
        ]  # fmt: skip
    return checks


NOTES = (
    "Every accuracy under attack is an upper bound; the adaptive attack is projected gradient steps with a soft "
    "gradient through the rounding, without restarts.",
    "The transferred attack's net is dense, of another seed than the classifier.",
    "The classifier, a net with dropout trained on 10,000 images, withstands more at .1 than the prototype's (.176 "
    "left): at seed 0 .357 in a trial, outside the range; the range and the check stayed as they were set before it.",
    "The first trial had dense filters of one hidden layer, which lost a quarter of the accuracy on clean images; the "
    "ranges, which are of convolutional ones, stayed.",
)

CLAIM = Claim(
    name="latent-quantization/headline",
    arxiv="1903.09940",
    statement=(
        "A filter of one bit a latent gives back accuracy that static and transferred attacks take, and an attack that "
        "knows of it takes nearly all of it away; adversarial training keeps more."
    ),
    laptop=run,
    full=partial(
        run, kinds="ABCD", n_train=50_000, n_test=1000, width=64, epochs=5, steps=10_000, lr=3e-4, whole=True,
        attack_steps=40, n_queries=1000, device="cuda",
    ),
    needs=("mnist",),
    full_needs=("gpu",),
    minutes=4.0,
)  # fmt: skip
