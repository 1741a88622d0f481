"""Two denoisers of disjoint training sets draw the same digits once the sets are large enough, and not their own.

The paper (Figure 2, 80 x 80 faces): trained on 100,000 images each, both nets denoise new images as well as their own
and draw nearly the same new image from the same noise; on 100 or fewer each returns its own. At laptop scale digits
are averaged to 14 x 14, nets have one level of 20 channels and see 32,000 images each whatever N (500 steps of 64,
Adam 2e-3 cosine, noise uniform in [0, 1]). So short a training does not reproduce single images even for N = 10:
asserted is the gap between training and new images, how the two nets' functions agree, and that their samples do. The
full scale trains long enough to memorise.

Ranges: from an independent prototype (one seed), gaps of 3.4, 2.5, 2.2 dB at N = 10 and none at N = 10,000; variances
of .41, .29, .32 falling to .24, .145, .20; samples alike to .955, to the nearest training image to .77.

Source: Z. Kadkhodaie and others, arXiv 2310.02557.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch.nn.functional import avg_pool2d, pad

from lodim.claims.result import Check, Claim, Findings, Progress, check_between
from lodim.datasets import load, near_duplicates
from lodim.generative import MemorizationCurve, memorization_curve
from lodim.nets import BiasFreeUNet
from lodim.randomness import derive_seed

SIGMAS = (0.1, 0.3, 0.6)
N_TEST = 500


def digits(n: int, pooled: bool) -> torch.Tensor:
    """Images in [0, 1], each unlike the ones before: averaged to 14 x 14, or padded to 32 x 32."""
    x = torch.from_numpy(load("mnist").X[:n]).float().reshape(-1, 1, 28, 28)
    x = x / x.max()
    x = avg_pool2d(x, 2) if pooled else pad(x, (2, 2, 2, 2))
    return x[torch.from_numpy(~near_duplicates(x.numpy()))]


def run(
    seed: int,
    progress: Progress,
    *,
    sizes: Sequence[int] = (10, 200, 10_000),
    n_pool: int = 25_000,
    n_seeds: int = 2,
    width: int = 20,
    depth: int = 1,
    steps: int = 500,
    batch_size: int = 64,
    lr: float = 2e-3,
    n_samples: int = 24,
    device: str = "cpu",
    memorises: bool = False,
) -> Findings:
    """Train a pair of nets for every size from every seed, and compare them."""
    images = digits(n_pool, pooled=not memorises).to(device)
    curves: list[MemorizationCurve] = []
    for i in range(n_seeds):
        share, done = progress.part(i / n_seeds, (i + 1) / n_seeds), [0]

        def tell(size: int, *nets: Any, share: Progress = share, done: list[int] = done) -> None:
            done[0] += 1
            share(done[0] / len(sizes), f"pair of {size:,} images")

        curves.append(
            memorization_curve(
                lambda: BiasFreeUNet(1, width, depth).to(device), images[N_TEST:], images[:N_TEST], sizes,
                steps=steps, batch_size=batch_size, lr=lr, sigmas=SIGMAS, n_samples=n_samples,
                h=0.05, beta=0.2, mean=float(images.mean()), random_state=derive_seed(seed, "replica", i),
                on_pair=tell,
            )
        )  # fmt: skip
    notes = (f"{len(images):,} distinct digits; {steps * batch_size:,} presentations to each net",)
    return Findings(checks(curves, memorises), figures(curves), notes)


def checks(curves: Sequence[MemorizationCurve], memorises: bool = False) -> tuple[Check, ...]:
    """The worst seed decides."""
    few, many = [c.pairs[0] for c in curves], [c.pairs[-1] for c in curves]
    falls = max(float((b.variance / a.variance).max()) for a, b in zip(few, many))
    gap_few, gap_many = min(p.gap for p in few), max((p.gap for p in many), key=abs)
    alike = min(float(p.pair_cosine.mean()) for p in many)
    beyond = min(float((p.pair_cosine - p.nearest_cosine).mean()) for p in many)
    found = [
        check_between(
            f"dB by which N = {few[0].n} is denoised better than new images", gap_few, 2.0, math.inf
        ),
        check_between(f"the same for N = {many[0].n}", gap_many, -0.3, 0.3),
        check_between("model variance, largest N over smallest, worst noise level", falls, 0.0, 0.7),
        check_between(
            "cosine of the two nets' samples, largest N", alike, 0.92, 1.0, paper="nearly identical"
        ),
        check_between("that, above the cosine with the nearest training image", beyond, 0.12, 1.0),
    ]
    if memorises:
        own = min(float(p.nearest_cosine.mean()) for p in few)
        drop = max(float((p.pair_cosine - p.nearest_cosine).mean()) for p in few)
        found += [
            check_between("cosine of a sample with the nearest training image, smallest N", own, 0.9, 1.0),
            check_between("cosine of the two nets' samples above that, smallest N", drop, -2.0, 0.0),
        ]
    return tuple(found)


def figures(curves: Sequence[MemorizationCurve]) -> dict[str, Any]:
    """One list a size, a row a seed."""
    out: dict[str, Any] = {"sigmas": list(SIGMAS)}
    for at, pair in enumerate(curves[0].pairs):
        pairs = [curve.pairs[at] for curve in curves]
        out[f"N = {pair.n}"] = {
            "psnr train": [p.psnr_train.round(2).tolist() for p in pairs],
            "psnr test": [p.psnr_test.round(2).tolist() for p in pairs],
            "model variance": [p.variance.round(3).tolist() for p in pairs],
            "cosine of samples": [round(float(p.pair_cosine.mean()), 3) for p in pairs],
            "cosine with nearest training image": [round(float(p.nearest_cosine.mean()), 3) for p in pairs],
        }
    return out


FULL = partial(
    run, sizes=(1, 10, 100, 1000, 10_000), n_pool=60_000, n_seeds=1, width=64, depth=2, steps=20_000, batch_size=512,
    lr=1e-3, n_samples=64, device="cuda", memorises=True,
)  # fmt: skip
CLAIM = Claim(
    name="harmonic-denoisers/memorization",
    arxiv="2310.02557",
    statement=(
        "Denoisers trained on disjoint sets of 10,000 digits draw nearly the same new digits from the same noise, and "
        "denoise new ones as well as their own; those of 10 do not."
    ),
    laptop=run,
    full=FULL,
    needs=("mnist",),
    full_needs=("gpu",),
    minutes=6,
)
