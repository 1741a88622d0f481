"""Kernel density in 50 dimensions against scikit-learn's trees, and 32 bandwidths against one.

20,000 points, 2,000 queries, one thread. scikit-learn's ``KernelDensity`` is timed as it is by default (a tree) and as
one leaf, which makes it a plain loop; the largest difference of either from the direct sum in SciPy is recorded, since
in many dimensions the tree's answer is not the sum's.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from _harness import Target, compare, publish
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.neighbors import KernelDensity

from lodim.geometry import HighDimKDE
from lodim.neighbors import LogSumExp, stream_pairs


def scipy_sum(queries: np.ndarray, points: np.ndarray, h: float) -> np.ndarray:
    d = points.shape[1]
    found = [logsumexp(-cdist(q[None], points, "sqeuclidean")[0] / (2 * h * h)) for q in queries]
    return np.array(found) - np.log(len(points)) - d / 2 * np.log(2 * np.pi * h * h)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=2000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    X, Q = rng.normal(size=(20_000, 50)), rng.normal(size=(options.queries, 50))
    h = 0.95
    ours = HighDimKDE(h, n_queries=2).fit(X)
    tree = KernelDensity(bandwidth=h).fit(X)
    loop = KernelDensity(bandwidth=h, leaf_size=len(X) + 1).fit(X)
    cases = {
        "lodim": lambda: ours.score_samples(Q),
        "scikit-learn: tree": lambda: tree.score_samples(Q),
        "scikit-learn: one leaf": lambda: loop.score_samples(Q),
    }
    rows = compare(
        cases,
        reference="scikit-learn: tree",
        targets={"lodim": Target(1 / 5)},
        group=f"{options.queries:,} densities of 20,000 points, 50 dimensions",
        rounds=options.rounds,
        warmup=1,
    )
    some = Q[:50]
    exact = scipy_sum(some, X, h)
    estimates = {"lodim": ours, "scikit-learn: tree": tree, "scikit-learn: one leaf": loop}
    errors = {name: float(np.abs(e.score_samples(some) - exact).max()) for name, e in estimates.items()}
    print("largest error in nats:", errors)
    grid = 0.4 * 2 ** (np.arange(32) / 8)
    rows += compare(
        {
            f"{m} bandwidths": lambda m=m: stream_pairs(Q, X, reducers=[LogSumExp(grid[:m])])
            for m in (1, 8, 32)
        },
        reference="1 bandwidths",
        targets={"32 bandwidths": Target(3.0)},
        group="several bandwidths in one pass",
        rounds=options.rounds,
        warmup=1,
    )
    fits = {rule: (lambda rule=rule: HighDimKDE(rule, random_state=0).fit(X)) for rule in ("nn", "loo", "cv")}
    rows += compare(
        fits, reference="nn", group="fit, 20,000 x 50", rounds=max(2, options.rounds // 2), warmup=0
    )
    note = "largest error of a log density against SciPy's direct sum, in nats: " + ", ".join(
        f"{name} {error:.2g}" for name, error in errors.items()
    )
    publish("high_dimensional_kde", rows, packages=("torch", "numpy", "scikit-learn", "scipy"), notes=(note,))


if __name__ == "__main__":
    main()
