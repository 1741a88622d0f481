"""The score of data in a subspace: what it costs to learn depends on the subspace's dimension, not on the space's.

Data are a mixture of three normals in a random d-dimensional subspace of R^D, whose exact denoiser is known, so
errors are measured, not estimated. Two models get the same number of steps: a denoiser V D_low(V'x) that learns V
with the rest, and a plain network. Errors are |D - D*|^2 / sigma^2 per dimension of the subspace (that of the score
in its natural unit), averaged over three levels.

Where the ranges come from. On data that fill a subspace the loss has V's residual as a part, whose minimum is 0 as
soon as d samples span it: 1e-3 of the largest distance leaves room for the optimiser. All else a subspace model
learns is in d numbers, so that its error cannot depend on D but by chance: the specification's 1.5 from D = 16 to
256. A plain network must learn to remove noise in D - d directions: the specification's 3. With noise of deviation
tau across the subspace no method knows it exactly; principal components, the loss's own minimiser for normal data,
are off by about 2 (D - d) tau^2 sum_j (l_j + tau^2) / l_j^2 / n, which falls like 1/n and GROWS with D. A first trial
found a descent of 800 steps a few hundredths of the largest distance above that, whatever n: so it is only asserted
that V is found (0.1; a random plane is at 1 - d/D), not nearer than half of what the samples allow.

Source: M. Chen and others, arXiv 2404.07771, section 5.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch

from lodim.claims.result import Claim, Findings, Progress, check_between, check_that
from lodim.generative import (
    Diffusion,
    EmpiricalDenoiser,
    SubspaceDiffusion,
    off_subspace_energy,
    subspace_error,
)
from lodim.randomness import as_generator, derive_seed, torch_generator
from lodim.training import DescentRecipe

LEVELS, STD, NOISE, FRESH, SMALLEST, MIDDLE = (0.1, 0.3, 1.0), 0.5, 0.3, 2000, 16, 64


class Problem:
    """A mixture of three normals of deviation 1/2, their centres on the unit circle, in a subspace."""

    def __init__(self, D: int, d: int, seed: int) -> None:
        self.rng = as_generator(derive_seed(seed, D, d))
        self.A = np.linalg.qr(self.rng.normal(size=(D, d)))[0]
        angles = 2 * np.pi * np.arange(3) / 3
        self.centers = np.zeros((3, d))
        self.centers[:, :2] = np.c_[np.cos(angles), np.sin(angles)]
        self.variances = STD**2 + 0.5 * (np.arange(d) < 2)  # the centres add 1/2 in their plane

    def draw(self, n: int, noise: float = 0.0) -> np.ndarray:
        """Samples, with noise in all of R^D."""
        (D, d), mode = self.A.shape, self.rng.integers(0, 3, n)
        z = self.centers[mode] + STD * self.rng.normal(size=(n, d))
        return (z @ self.A.T + noise * self.rng.normal(size=(n, D))).astype(np.float32)

    def errors(self, model: Diffusion, seed: int) -> tuple[float, float]:
        """The model's error in the subspace and across it, on fresh samples."""
        A, x0 = torch.from_numpy(self.A), torch.from_numpy(self.draw(FRESH)).double()
        exact, parts = EmpiricalDenoiser(torch.from_numpy(self.centers)), np.zeros(2)
        for s in LEVELS:
            x = x0 + s * torch.randn(x0.shape, generator=torch_generator(seed), dtype=torch.float64)
            level = STD**2 + s**2
            truth = (STD**2 * (x @ A) + s**2 * exact(x @ A, math.sqrt(level))) / level @ A.T
            with torch.no_grad():
                wrong = (model.denoise(x, s) - truth) / s
            inside = (wrong @ A).square().sum(1).mean()
            parts += [float(inside), float(wrong.square().sum(1).mean() - inside)]
        return tuple(parts / len(LEVELS) / A.shape[1])


def run(
    seed: int, progress: Progress, steps: int = 800, d: int = 8, largest: int = 256,
    sizes: tuple[int, ...] = (250, 1000, 4000), seeds: int = 2, place: str = "cpu",
) -> Findings:  # fmt: skip
    """Train both models over D at the middle n, the subspace's over n at D = 64, and over n with noise across it."""
    recipe = DescentRecipe(steps=steps, lr=2e-3, schedule="cosine")
    ways = [(D, sizes[1], 0.0, kind) for D in (SMALLEST, largest) for kind in ("subspace", "plain")]
    ways += [(MIDDLE, n, 0.0, "subspace") for n in sizes]
    ways += [(MIDDLE, n, NOISE, "subspace") for n in sizes[::2]]
    rows: list[dict[str, Any]] = []
    for i, (training, (D, n, noise, kind)) in enumerate((t, w) for t in range(seeds) for w in ways):
        progress(i / (seeds * len(ways)), f"{kind}, D = {D}, n = {n}")
        own = derive_seed(seed, "training", training)
        problem = Problem(D, d if not noise else 2, own)
        X, size = problem.draw(n, noise), problem.A.shape[1]
        model: Any = Diffusion(shape=D, random_state=own)
        if kind == "subspace":
            model = SubspaceDiffusion(D, size, random_state=own)
        model.to(place).fit(torch.from_numpy(X), recipe=recipe, random_state=own).cpu()
        inside, across = problem.errors(model, own)
        energy = off_subspace_energy(model.sample(1000, generator=own), problem.A)
        row = {"kind": kind, "D": D, "n": n, "d": size, "noise": noise, "training": training}
        row |= {"error inside": inside, "error across": across, "energy": energy}
        if kind == "subspace":
            row["distance"] = subspace_error(model.subspace_, problem.A) / (2 * size)
        if noise:
            l, t = problem.variances, noise**2
            row["expected"] = float((D - size) * t / n * ((l + t) / l**2).sum() / size)
            components = np.linalg.svd(X - X.mean(0), full_matrices=False)[2][:size].T
            row["distance of components"] = subspace_error(components, problem.A) / (2 * size)
        rows.append(row)
    return Findings(_checks(rows, largest, sizes), {"rows": rows}, NOTES)


def _checks(rows: list[dict[str, Any]], largest: int, sizes: tuple[int, ...]) -> list[Any]:
    def each(what: str, **where: Any) -> np.ndarray:
        return np.array([r[what] for r in rows if all(r[k] == v for k, v in where.items())])

    def error(kind: str, D: int) -> np.ndarray:
        at = {"kind": kind, "D": D, "n": sizes[1], "noise": 0.0}
        return each("error inside", **at) + each("error across", **at)

    clean, noisy = {"kind": "subspace", "noise": 0.0}, {"noise": NOISE}
    growth = {kind: error(kind, largest) / error(kind, SMALLEST) for kind in ("subspace", "plain")}
    energy = each("energy", kind="plain", D=largest) / each("energy", kind="plain", D=SMALLEST)
    over_n = np.array([each("error inside", D=MIDDLE, n=n, **clean).mean() for n in sizes])
    far, floor = each("distance", **noisy), each("distance", **noisy) / each("expected", **noisy)
    at = f"D = {largest} over that at {SMALLEST}"
    return [
        check_between("distance of V over 2d, worst", each("distance", **clean).max(), 0, 1e-3),
        check_between(f"subspace model: error at {at}, worst", growth["subspace"].max(), 0, 1.5),
        check_between(f"plain network: error at {at}, least", growth["plain"].min(), 3, math.inf),
        check_between("the same of samples' off-subspace energy", energy.min(), 3, math.inf, essential=False),
        check_that("subspace model: error as n grows", over_n.tolist(), "falls", (np.diff(over_n) < 0).all()),
        check_between("noise across the subspace: distance of V over 2d, largest", far.max(), 0, 0.1),
        check_between("the same over what the samples allow, smallest", floor.min(), 0.5, math.inf),
    ]


NOTES = (
    "Not asserted, since false: that with noise across the subspace V's distance is a matter of d alone. Principal "
    "components are then several times nearer to it than V after so short a training.",
)

CLAIM = Claim(
    name="guided-diffusion/subspace",
    arxiv="2404.07771",
    statement=(
        "A denoiser that learns the subspace its data lie in finds it, and its score error does not grow with the "
        "dimension of the space around, whereas a plain network's does."
    ),
    laptop=run,
    full=partial(run, steps=20_000, d=32, largest=2048, sizes=(1000, 8000, 64_000), seeds=3, place="cuda"),
    full_needs=("gpu",),
    minutes=3,
)
