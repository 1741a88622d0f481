"""The grid likelihood by one matrix product against the broadcast it replaces, exact Wasserstein, a step of a fit.

Forward and backward of the log likelihood over a grid, in time and (in a process each) in peak memory; the exact
Wasserstein-1 distance of 2,000 rows by SciPy and POT; 100 steps of a VAE by ``descend`` against a bare loop.
"""

from __future__ import annotations

import argparse
import importlib
import math
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from _harness import Target, compare, publish
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from lodim.generative import NoisyDecoder
from lodim.generative.autoencoding import grid_log_likelihood
from lodim.generative.perturbed_likelihood import smooth_mlp
from lodim.metrics import wasserstein
from lodim.randomness import build_seeded
from lodim.training import DescentRecipe, descend


@dataclass(frozen=True)
class Memory:
    """Peak resident memory above that of a process that only imports, in MiB."""

    name: str
    mib: float


def broadcast(x: torch.Tensor, points: torch.Tensor, sigma: float) -> torch.Tensor:
    squares = (x[:, None] - points).square().sum(2)
    constant = x.shape[1] * (math.log(sigma) + 0.5 * math.log(2 * math.pi)) + math.log(len(points))
    return (-squares / (2 * sigma**2)).logsumexp(1) - constant


OBJECTIVES = {"lodim": grid_log_likelihood, "broadcast": broadcast}


def objective(name: str, n: int = 512, m: int = 1024) -> Callable[[], None]:
    x, points = (torch.randn(size, 10, dtype=torch.float64) for size in (n, m))
    points.requires_grad_()

    def run() -> None:
        points.grad = None
        OBJECTIVES[name](x, points, 0.5).sum().backward()

    return run


def peak(name: str) -> float:
    command = [sys.executable, __file__, "--memory", name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


DATA = torch.randn(1280, 20, generator=torch.Generator().manual_seed(0))


def decoder() -> NoisyDecoder:
    return build_seeded(lambda: NoisyDecoder(smooth_mlp(2, 20), 2, smooth_mlp(20, 4), perturbation=0.1), 0)


def by_descend() -> None:
    model = decoder()
    descend(model.loss, model, DescentRecipe(steps=100), DATA)


def by_hand() -> None:
    model = decoder()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    for rows in (rows for _ in range(10) for rows in torch.randperm(len(DATA)).split(128)):
        optimizer.zero_grad()
        x = DATA[rows] + 0.1 * torch.randn(len(rows), 20)
        mean, log_var = model.encoder(x).chunk(2, -1)
        z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
        sigma = (model.sigma_min**2 + (2 * model.rho).exp()).sqrt()
        squares = ((x - model.decoder(z)) / sigma).square().sum(1)
        divergence = (mean.square() + log_var.exp() - 1 - log_var).sum(1)
        loss = 0.5 * (squares + divergence).mean() + 20 * (sigma.log() + 0.5 * math.log(2 * math.pi))
        loss.backward()
        optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--memory", choices=(*OBJECTIVES, "nothing"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        if options.memory != "nothing":
            objective(options.memory, 1024, 4096)()
        return print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    cases, goal = {name: objective(name) for name in OBJECTIVES}, {"lodim": Target(1.0)}
    rows = compare(cases, reference="broadcast", targets=goal, group="grid objective", rounds=options.rounds)
    x, y = (np.random.default_rng(seed).normal(size=(2000, 10)) for seed in (0, 1))
    ways = {"lodim": lambda: wasserstein(x, y), "SciPy": lambda: linear_sum_assignment(cdist(x, y))}
    if find_spec("ot"):
        ways["POT"] = lambda: importlib.import_module("ot").emd2([], [], cdist(x, y), numItermax=10**7)
    goal = {"lodim": Target(1.3)}  # of which a pairing of half the size, the floor, is a part
    rows += compare(ways, reference="SciPy", targets=goal, group="Wasserstein-1 of 2,000", rounds=3, warmup=1)
    fits, goal = {"lodim": by_descend, "bare loop": by_hand}, {"lodim": Target(1.1)}
    rows += compare(
        fits, reference="bare loop", targets=goal, group="100 steps of a VAE", rounds=options.rounds
    )
    base = peak("nothing")
    memory = [Memory(name, peak(name) - base) for name in OBJECTIVES]
    print(*memory, sep="\n")
    publish(
        "perturbed_likelihood", [*rows, *memory], packages=("torch", "scipy", "pot"), notes=("one thread",)
    )


if __name__ == "__main__":
    main()
