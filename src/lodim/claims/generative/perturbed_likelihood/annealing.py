"""No universal gain: with the decoder's deviation learned from a large start, noise on the data brings little.

The deviation falls from .37 during the training and acts as annealing. The circle with two bumps by exact likelihood, a
plane spiral ("swiss roll", 1,000 points) by IWAE-5, and the circle in ten columns by a VAE. Levels of noise against
none, the same networks and data; then a large level, which does harm.

Source: M. Chae and others, 2021, arXiv 2105.04046, whose theory asks for noise only where the data's own is too small.
The ranges come from an independent prototype, one seed, set before this was run: W1 .081, .079, .099 at t = 0, .02, .05
on the circle; .091, .090, .090, .092, .110, .144 at t = 0, .01, .03, .05, .1, .2 on the spiral, with a floor of .093;
.088, .087, .087 at t = 0, .03, .1 on the circle in ten columns. The unit of the spiral there is not known: here its
radius is about 1.4, as in scikit-learn's generator divided by ten.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from sklearn.datasets import make_swiss_roll

from lodim.claims.result import Claim, Findings, Progress, check_between
from lodim.datasets.toy import uneven_circle
from lodim.generative import PerturbedLikelihoodModel
from lodim.metrics import wasserstein
from lodim.randomness import derive_seed

START = 0.37


def spiral(n: int, random_state: int) -> Any:
    """Points of the roll's cross-section."""
    return make_swiss_roll(n, random_state=random_state)[0][:, [0, 2]] / 10


def circle(n: int, random_state: int, D: int = 2) -> Any:
    """Points of the circle with two bumps."""
    return uneven_circle(n, D, random_state=random_state).X


CASES: dict[str, tuple[Any, dict[str, Any], tuple[float, ...]]] = {
    "circle, grid": (circle, {"latent_dim": 1, "objective": "grid"}, (0.0, 0.02, 0.05)),
    "spiral, iwae": (spiral, {"latent_dim": 2, "objective": "iwae"}, (0.0, 0.01, 0.03, 0.2)),
    "circle in ten columns, vae": (
        partial(circle, D=10),
        {"latent_dim": 2, "objective": "vae"},
        (0.0, 0.03, 0.1),
    ),
}


def one_case(name: str, seed: int, n: int, n_fresh: int, steps: int) -> dict[str, Any]:
    """W1 and the fitted deviation at every level, and the floor."""
    draw, options, levels = CASES[name]
    train, fresh, other = (
        draw(size, random_state=derive_seed(seed, part))
        for part, size in (("train", n), ("fresh", n_fresh), ("other", n_fresh))
    )
    found: dict[str, Any] = {"floor": wasserstein(other, fresh).value, "w1": [], "sigma": []}
    for t in levels:
        model = PerturbedLikelihoodModel(
            perturb=t, sigma=START, steps=steps, random_state=seed, **options
        ).fit(train)
        found["w1"].append(wasserstein(model.sample(n_fresh), fresh).value)
        found["sigma"].append(model.sigma_)
    return found


def run(
    seed: int, progress: Progress, n_seeds: int = 3, n: int = 1000, n_fresh: int = 800, steps: int = 1200
) -> Findings:
    """Measure all cases with several seeds."""
    jobs = [(name, seed + i) for name in CASES for i in range(n_seeds)]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in CASES}
    for k, (name, each) in enumerate(jobs):
        progress(k / len(jobs), f"{name}, seed {each}")
        found[name].append(one_case(name, each, n, n_fresh, steps))
    checks = []
    for name, runs in found.items():
        w1 = np.array([r["w1"] for r in runs])
        moderate = [i for i, t in enumerate(CASES[name][2]) if 0 < t < 0.2]
        # the level is chosen on the mean over seeds, which flatters it a little
        gain = 1 - w1[:, moderate].mean(0).min() / w1[:, 0].mean()
        checks.append(
            check_between(f"{name}: share of W1 that the best moderate t saves", gain, -np.inf, 0.15)
        )
    spirals = np.array([r["w1"] for r in found["spiral, iwae"]])
    harm = spirals[:, -1].mean() / spirals[:, 0].mean()
    checks.append(check_between("spiral: W1 at t = .2 over W1 without", harm, 1.15, np.inf))
    levels = {name: case[2] for name, case in CASES.items()}
    return Findings(checks, {"levels": levels, "found": found})


CLAIM = Claim(
    name="perturbed-likelihood/annealing",
    arxiv="2105.04046",
    statement="Where the decoder's noise is learned from a large start, noise on the data brings little; much harms.",
    laptop=run,
    full=partial(run, n_seeds=10, n=20_000, n_fresh=3000, steps=20_000),
    minutes=3.0,
)
