"""An arc of views, few frequencies, and volumes of another kind: the same prior for all of them.

The prior and the volumes are those of :mod:`lodim.claims.generative.diffusion_mbir.sparse_view`. Measured are twelve
views within 90 of 180 degrees; half the columns of the frequencies, 15 % of all in the middle, each volume by a mask of
its own; and eight views of ellipsoids, which are no digits.

Ranges, set before anything was run. The paper has its method far above total variation for the first two (its tables 2
and 3: 34.9 dB of 256 pixels from the arc), and no prototype of ours measured them: at least 1 dB above the best of
three total variations on these very volumes, and not below the diffusion without coupling. For volumes unlike the
training set the paper shows a phantom that is reconstructed well, without a bar: ours is not to be below what needs no
prior of pictures, filtered back-projection and least squares. How it compares there with total variation, made for
volumes of few grey levels, is a figure that may differ.

A trial with three volumes each, sharper ones than now (see there), missed two of these. From half the frequencies total
variation reached 44.2 dB, the diffusion 36.7 (30.7 without coupling): digits on black are so simple that half of the
frequencies all but determine them, and total variation ends there without the error that the last level of the noise
leaves. On ellipsoids it came to 28.9 dB, least squares to 29.7, total variation to 33.9: this prior, a small fully
connected network of digits, is not as indifferent to what it sees as the paper's convolutional one. The arc held: 21.2
dB against 17.6 and 19.4. The ranges stay as they were set.

The first records had four volumes and one mask for all, and the mask decided: total variation was 5.3 dB better with
seed 0 and 4.4 dB worse with seed 1. Frequencies of a real image are alike in pairs, so one draw of half the columns
may hold one of each pair, and another many pairs twice. Hence a mask a volume, and twelve volumes.

Source: Hyungjin Chung and others, 2022, arXiv 2211.10655, sections 4 and 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from lodim.claims.generative.diffusion_mbir.sparse_view import (
    VARIANTS,
    best_variation,
    compare,
    diffusions,
    peers,
    small_net,
    train_prior,
    volumes,
)
from lodim.claims.result import Claim, Findings, Progress, check_between
from lodim.datasets import ellipse_volume
from lodim.generative import CartesianMRI, LimitedAngle, Operator, ParallelBeam, cartesian_mask
from lodim.nets import SmallUNet
from lodim.randomness import derive_seed

USED = ("diffusion-mbir", "without coupling", "ddim, 50 levels")


def run(
    seed: int, progress: Progress, n: int = 12, n_slices: int = 16, pool: int = 2,
    net: Callable[[], nn.Module] = small_net, steps: int = 2500, levels: int = 200, device: str = "cpu",
) -> Findings:  # fmt: skip
    """Train once, reconstruct what was measured in three ways."""
    progress(0, "training the prior")
    model, size = train_prior(seed, pool, net, steps, device), 28 // pool
    digits = volumes(seed, n, n_slices, pool, device)
    others = [
        torch.from_numpy(ellipse_volume(n_slices, size, random_state=derive_seed(seed, "other", i))).to(
            device
        )
        for i in range(n)
    ]
    masks = [
        cartesian_mask((size, size), "uniform1d", 2, 0.15, random_state=derive_seed(seed, "mask", i))
        for i in range(n)
    ]
    n_det = math.ceil(1.5 * size)
    cases: dict[str, tuple[Sequence[Operator], list[Any]]] = {
        "an arc of 90 degrees": ([LimitedAngle(size, 12, 90, n_det=n_det)] * n, digits),
        "half the frequencies": ([CartesianMRI(mask) for mask in masks], digits),
        "ellipsoids, 8 views": ([ParallelBeam(size, n_views=8, n_det=n_det)] * n, others),
    }
    tables, checks = {}, []
    variants = {name: {"steps": levels, **VARIANTS[name]} for name in USED}
    for k, (name, (operators, truths)) in enumerate(cases.items()):
        progress((1 + k) / 4, name)
        tables[name] = table = compare(
            operators, truths, lambda own: {**peers(own), **diffusions(model, own, seed, variants)}
        )
        ours, variation = table["diffusion-mbir"]["PSNR"], best_variation(table)
        if truths is digits:
            alone = table["without coupling"]["PSNR"]
            checks += [
                check_between(f"{name}: dB above the best total variation", ours - variation, 1, math.inf),
                check_between(f"{name}: dB above the diffusion without coupling", ours - alone, 0, math.inf),
            ]
        else:
            plain = max(table[peer]["PSNR"] for peer in ("filtered back-projection", "least squares"))
            checks += [
                check_between(f"{name}: dB above reconstructions without a prior", ours - plain, 0, math.inf),
                check_between(f"{name}: dB above the best total variation", ours - variation, 0, math.inf,
                              essential=False),
            ]  # fmt: skip
    return Findings(checks, tables, NOTES)


NOTES = (
    "total variation's weight is the best of three on these very volumes, in its favour",
    "the prior has seen digits alone; the ellipsoids are what it was not made for",
)

CLAIM = Claim(
    name="diffusion-mbir/limited",
    arxiv="2211.10655",
    statement=(
        "The same prior serves an arc of views and half the frequencies, better than total variation does, and does no "
        "harm to volumes of another kind."
    ),
    laptop=run,
    full=partial(
        run,
        n=16,
        n_slices=64,
        pool=1,
        net=partial(SmallUNet, 1, 64),
        steps=100_000,
        levels=500,
        device="cuda",
    ),
    needs=("mnist",),
    full_needs=("mnist", "gpu"),
    minutes=6.0,
)
