"""CaPE against plain training for as many epochs, its kernel targets against a loop, and a check of calibration.

One thread. The network and the images are those of the claim in size (12 x 12 pixels, two convolutions), of noise. The
loop computes each sample's target from NumPy slices of the sorted predictions. Run
``python benchmarks/probability_estimation.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from _harness import Target, compare, publish
from torch import nn

from lodim.randomness import build_seeded
from lodim.trust import CaPE, calibration_check, empirical_probabilities

N, N_TARGETS, S, W = 4000, 20_000, 0.05, 500


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(288, 64), nn.ReLU(), nn.Linear(64, 1),
    )  # fmt: skip


def by_loop(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    order = np.argsort(p, kind="stable")
    sorted_p, sorted_y, found = p[order], y[order], np.empty(len(p))
    for i, value in enumerate(sorted_p):
        near = slice(max(0, i - W), i + W + 1)
        weight = np.exp(-(((sorted_p[near] - value) / S) ** 2) / 2)
        found[order[i]] = weight @ sorted_y[near] / weight.sum()
    return found


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(N, 1, 12, 12)).astype(np.float32), rng.integers(0, 2, N)
    start = build_seeded(network, 0)

    def tuned(variant: Any) -> Any:
        how = {"epochs": 0, "fine_tune_epochs": 4, "early_stopping": False, "random_state": 0}
        return CaPE(start, variant=variant, **how).fit(X, y)

    cases = {
        "plain training": lambda: tuned(None), "CaPE, bins": lambda: tuned("bin"), "CaPE, kernel": lambda: tuned("kde")
    }  # fmt: skip
    goals = {"CaPE, bins": Target(1.4), "CaPE, kernel": Target(1.4)}
    group = f"four epochs of {N} images, every other with targets"
    rows = compare(cases, reference="plain training", targets=goals, group=group, rounds=5, warmup=1)

    p = rng.random(N_TARGETS)
    event = (rng.random(N_TARGETS) < p).astype(int)

    def kernel() -> np.ndarray:
        return empirical_probabilities(p, event, variant="kde", bandwidth=S, window=W)

    assert np.abs(kernel() - by_loop(p, event)).max() < 1e-8
    cases = {"loop over samples": lambda: by_loop(p, event), "lodim": kernel}
    group = f"kernel targets of {N_TARGETS:,} samples, 500 neighbours on each side"
    rows += compare(
        cases, reference="loop over samples", targets={"lodim": Target(0.05)}, group=group, rounds=5
    )

    cases = {
        "the loop's targets": lambda: by_loop(p, event),
        "calibration_check, 1000 draws": lambda: calibration_check(p, event, random_state=0),
    }
    group = f"a check of {N_TARGETS:,} probabilities"
    rows += compare(cases, reference="the loop's targets", group=group, rounds=5, warmup=1)
    publish("probability_estimation", rows, packages=("numpy", "torch"))


if __name__ == "__main__":
    main()
