"""Every D reaches the data's modes: with the exact field, and learnt with a diffusion's settings.

Eight Gaussians on a circle (radius 1, deviation 0.05). First the field of 2,000 samples itself, for five D: 18 steps
from noise must arrive at the samples, whatever D. Then a small network trained for D = 64, 2048 and infinity, all with
EDM's settings.

Ranges, set before anything was run: an independent prototype had 0.996 or more of the samples within 0.2 of a mode with
the exact field, 0.978 to 0.982 learnt, and sliced Wasserstein distances of 0.027 to 0.036, where two draws of the data
of 10,000 each lie 0.047 apart. With disturbed sampling its shares for D = 64, 2048 and infinity were too close to claim
an order in the plane (0.803, 0.790, 0.781); ours are figures. So is a learnt D = 1, which is known to be poor.

Source: Y. Xu and others, 2023, arXiv 2302.04265, theorem 4.1 and section 3.
"""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import Any

import numpy as np
import torch

from lodim.claims.result import Claim, Findings, Progress, check_between
from lodim.datasets.toy import gaussian_ring
from lodim.generative import EDM, PFGMPP, EmpiricalPoissonDenoiser, PoissonKernel, heun, noise_injection
from lodim.metrics import mode_coverage, sliced_wasserstein
from lodim.nets import TimeMLP
from lodim.randomness import build_seeded, derive_seed, torch_generator

LEARNT = (64, 2048, math.inf)
RADIUS, STD_OF_RING = 0.2, 0.709


def near(samples: Any) -> float:
    """Share of samples within four deviations of a mode."""
    return mode_coverage(samples, gaussian_ring(8, std=0.0, random_state=0).centers, RADIUS).inside


def independent(n: int, seed: int) -> Any:
    """Samples whose modes are drawn too: those of a ring by itself come in equal numbers, which lowers the floor."""
    return gaussian_ring(16 * n, random_state=seed).X[:n]


def exact_field(D: float | int, n: int, seed: int) -> float:
    """Share near a mode after 18 steps along the field of samples."""
    Y = torch.from_numpy(gaussian_ring(n, random_state=derive_seed(seed, "charges")).X)
    draws = torch_generator(derive_seed(seed, "noise"))
    x = PoissonKernel(D)(torch.zeros(n, 2), torch.full((n, 1), 80.0), draws)
    return near(heun(EmpiricalPoissonDenoiser(Y, D), x, EDM().sigmas(18)))


def learnt_field(
    D: float | int, X: Any, fresh: Any, steps: int, batch_size: int, seed: int
) -> dict[str, float]:
    """Share near a mode, sliced Wasserstein distance to fresh data, and the share under disturbed sampling."""
    by_norm = D <= 2
    net = build_seeded(lambda: TimeMLP(2, 128, 3, cond_dim=int(by_norm)), derive_seed(seed, "net"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if by_norm else "default", UserWarning)
        model = PFGMPP(net, 2, D, sigma_data=STD_OF_RING)
    model.fit(X, steps=steps, batch_size=batch_size, random_state=derive_seed(seed, "training"))
    samples = model.sample(len(fresh), generator=derive_seed(seed, "samples"))
    disturbed = noise_injection(model, (0.5,), near, n=len(fresh), n_repeats=1, random_state=seed)
    return {
        "near": near(samples),
        "sliced_wasserstein": sliced_wasserstein(samples, fresh, random_state=seed).value,
        "near, noise 0.5": float(disturbed.mean[0]),
    }


def run(
    seed: int,
    progress: Progress,
    n: int = 10_000,
    steps: int = 4000,
    batch_size: int = 256,
    n_exact: int = 2000,
) -> Findings:
    """Follow the exact fields, then train."""
    X, fresh, *others = (independent(n, derive_seed(seed, "data", part)) for part in range(6))
    floor = float(np.mean([sliced_wasserstein(other, fresh, random_state=seed).value for other in others]))
    exact = {f"{d:g}": exact_field(d, n_exact, seed) for d in (1, 16, *LEARNT)}
    learnt = {}
    for i, d in enumerate((*LEARNT, 1)):
        progress((i + 1) / 5, f"training, D = {d:g}")
        learnt[f"{d:g}"] = learnt_field(d, X, fresh, steps, batch_size, seed)
    checks = [
        check_between(f"near a mode, exact field, D = {D}", share, 0.99, 1) for D, share in exact.items()
    ]
    for D, figures in learnt.items():
        if D != "1":
            above = figures["sliced_wasserstein"] - floor
            checks += [
                check_between(f"near a mode, learnt, D = {D}", figures["near"], 0.96, 1),
                check_between(f"sliced Wasserstein less its floor, D = {D}", above, -0.05, 0.02),
            ]
    notes = (
        "a learnt D = 1, with the preconditioning made for it, is a figure: networks do not learn it well",
        "the floor is the mean distance of four more draws of the data, as large as the samples, from the fresh one",
    )
    return Findings(checks, {"exact": exact, "learnt": learnt, "floor": floor}, notes)


CLAIM = Claim(
    name="pfgmpp/modes",
    arxiv="2302.04265",
    statement="With radii matched to noise levels, a diffusion's settings serve every D: all of them reach the modes.",
    laptop=run,
    full=partial(run, n=100_000, steps=50_000, batch_size=1024, n_exact=20_000),
    minutes=4.0,
)
