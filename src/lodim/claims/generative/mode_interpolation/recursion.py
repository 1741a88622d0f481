"""Models that learn from models: dropping the samples that waver keeps the space between modes empty.

Four generations of a small network on the grid of 25 Gaussians: each learns from 10,000 samples of the one before,
which draws 2,500 more than it hands on and drops as many, by their variance over the window that the claim
``mode-interpolation/grid`` found, or at random. The first generation is the same model for both. Three such runs, each
with data and models of its own; figures are their means.

Ranges, set before anything was run; nobody had measured this setting, so they say the direction with room for chance
only. After the last generation the variance filter has at most half the share of samples between modes that random
dropping has; that share has grown under random dropping; no mode is lost (each keeps half its share or more); and the
sliced Wasserstein distance to the first data is no worse than random's by more than 0.02, the distance between halves
of 10,000 such data. The modes' width is a figure.

The first records were of one run, by which the verdict goes: with seed 0 the least mode had 0.14 of its due, outside
its range (at random 0.35, outside too), with seed 1 0.52; between modes lay 0.3 % against 16 % at random, and 0.1 %
against 11 %; the distances were equal. Hence three runs.

Known misses. In three runs (seed 0) the least mode had 0.08, 0.55 and 0.10 of its due; at random 0.32, 0.42 and 0.38.

Every generation of so short a training learns the modes' shares imperfectly, and the filter adds a bias: of one
generation's good samples it drops 10 to 13 % in the corners and up to 24 % inside, where a mode has more neighbours to
waver between. Dropping less is no way out: of the 300 highest scores of 12,500 a quarter were hallucinations (of the
others 44 % had changed their mode within the window, of all good ones 1 %), and with 250 dropped of 10,250 the share
between modes was 12 % against 19 %. The ranges stayed.

Source: S. K. Aithal and others, 2024, arXiv 2406.09358, section 6: five generations, 2-D Gaussians and MNIST.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from lodim.claims.result import Claim, Findings, Progress, check_between, check_that
from lodim.datasets.toy import Modes, gaussian_grid
from lodim.generative import EDM, Diffusion, HallucinationDetector, interpolation_mass, recursive_training
from lodim.nets import TimeMLP
from lodim.randomness import derive_seed

RADIUS = 6.0


def model() -> Diffusion:
    """One generation's, untrained."""
    return Diffusion(TimeMLP(2, 128, 3), 2, sigma_data=1.0, schedule=EDM(P_mean=-1.8, P_std=1.3))


def metrics_of(grid: Modes) -> dict[str, Callable[[Any], float]]:
    """The share between modes, the least mode's share of its due, and the modes' width over the data's."""

    def near(x: Any) -> tuple[Any, Any]:
        distance = cdist(x, grid.centers)
        inside = distance.min(1) <= RADIUS * grid.std
        return x[inside], distance[inside].argmin(1)

    def between(x: Any) -> float:
        return interpolation_mass(x, grid.centers, grid.std, radius=RADIUS).mass

    def least(x: Any) -> float:
        return float(np.bincount(near(x)[1], minlength=len(grid.centers)).min() * len(grid.centers) / len(x))

    def width(x: Any) -> float:
        rows, mode = near(x)
        return float(np.sqrt(np.square(rows - grid.centers[mode]).mean()) / grid.std)

    return {"between modes": between, "least mode": least, "width of modes": width}


def run(
    seed: int, progress: Progress, runs: int = 3, n: int = 10_000, generations: int = 4, surplus: int = 2500,
    steps: int = 1500, batch_size: int = 512, n_steps: int = 80, device: str = "cpu",
) -> Findings:  # fmt: skip
    """Run both filters from the same data and seeds, several times."""
    every: dict[str, list[dict[str, Any]]] = {"random": [], "variance": []}
    for i, (run, name) in enumerate(product(range(runs), every)):
        own = derive_seed(seed, "run", run)
        grid = gaussian_grid(n, random_state=derive_seed(own, "data"))
        made = recursive_training(
            lambda: model().to(device), grid.X, generations=generations, surplus=surplus, filter=name,
            detector=HallucinationDetector((0, 0.1), "sigma"), metrics=metrics_of(grid),
            fit={"steps": steps, "batch_size": batch_size},
            sample={"sampler": "ancestral", "sigmas": np.append(np.geomspace(10, 0.005, n_steps), 0.0)},
            progress=progress.part(i / (2 * runs), (i + 1) / (2 * runs)), random_state=derive_seed(own, "generations"),
        )  # fmt: skip
        every[name].append({"distance": made.distance, **made.figures})
    found = {
        name: {key: np.mean([table[key] for table in tables], axis=0).tolist() for key in tables[0]}
        for name, tables in every.items()
    }
    last = {name: {key: values[-1] for key, values in of.items()} for name, of in found.items()}
    between = {name: of["between modes"] for name, of in found.items()}
    farther = last["variance"]["distance"] - last["random"]["distance"]
    checks = [
        check_between(
            "between modes after the last generation, variance over random",
            last["variance"]["between modes"] / max(last["random"]["between modes"], 1e-12), 0.0, 0.5,
        ),
        check_that(
            "random: between modes after the first and the last generation",
            [between["random"][1], between["random"][-1]], "increasing", between["random"][1] < between["random"][-1],
        ),
        check_between("variance: the least mode's share of its due", last["variance"]["least mode"], 0.5, 1.0),
        check_between("distance to the first data, variance less random", farther, -1.0, 0.02),
    ]  # fmt: skip
    each = {name: [table["least mode"][-1] for table in tables] for name, tables in every.items()}
    return Findings(
        checks,
        {**found, "least mode of each run": each},
        (
            "the least mode has 1 in the first data; at random it falls too, since every generation learns imperfectly",
        ),
    )


CLAIM = Claim(
    name="mode-interpolation/recursion",
    arxiv="2406.09358",
    statement="Models that learn from models keep the space between modes emptier where wavering samples are dropped.",
    laptop=run,
    full=partial(
        run,
        runs=1,
        n=100_000,
        generations=5,
        surplus=25_000,
        steps=100_000,
        batch_size=10_000,
        n_steps=150,
        device="cuda",
    ),
    full_needs=("gpu",),
    minutes=14.0,
)
