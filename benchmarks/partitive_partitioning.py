"""PPP against k-means with ten restarts on many rows, and against the mixtures that it consists of on few.

One thread. "many rows": 100,000 x 50, twelve overlapping Gaussian groups; ``KMeans(n_init=10)`` is run over the same
range of k and chooses nothing. "digits": ``GaussianMixture`` is fitted over the same k and families to the same
principal components. Run ``python benchmarks/partitive_partitioning.py``; with ``--scale`` it measures once, instead,
1,000,000 x 32 by mini-batches.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from _harness import Row, Target, compare, publish
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from lodim.partition import PPP

K_RANGE = (2, 15)


def groups(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Twelve Gaussian groups of unequal sizes whose centres are some six standard deviations apart."""
    rng = np.random.default_rng(0)
    share = np.linspace(1, 3, 12)
    y = rng.choice(12, n, p=share / share.sum())
    return 6 / np.sqrt(2 * d) * rng.standard_normal((12, d))[y] + rng.standard_normal((n, d)), y


def restarts(X: np.ndarray) -> None:
    for k in range(K_RANGE[0], K_RANGE[1] + 1):
        KMeans(k, n_init=10, random_state=0).fit(X)


def mixtures(Z: np.ndarray, tried: dict[int, dict[str, float]]) -> None:
    for k, families in tried.items():
        for family in families:
            GaussianMixture(k, covariance_type=family, random_state=0).fit(Z)


def at_scale() -> None:
    X, y = groups(1_000_000, 32)
    start = time.perf_counter()
    model = PPP(K_RANGE).fit(X, progress=lambda done, text: print(f"{done:4.0%}  {text}", flush=True))
    seconds = time.perf_counter() - start
    found, sure = adjusted_rand_score(y, model.labels_), model.separable_mask_.mean()
    note = f"k = {model.n_clusters_} of 12, adjusted Rand index {found:.3f}, separable {sure:.1%}."
    print(f"{seconds:.0f} s; {note}")
    row = Row("1,000,000 x 32", "PPP", seconds, seconds, 1.0, 1.0, 1)
    publish("partitive_partitioning_scale", [row], packages=("numpy", "scikit-learn"), notes=[note])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", action="store_true", help="one million rows, once")
    warnings.simplefilter("ignore")  # mixtures that stop at 100 steps
    with threadpool_limits(1):
        if parser.parse_args().scale:
            at_scale()
            return
        X, y = groups(100_000, 50)
        model = PPP(K_RANGE).fit(X)
        note = f"many rows: k = {model.n_clusters_} of 12, index {adjusted_rand_score(y, model.labels_):.3f}"
        print(note)
        rows = compare(
            {"KMeans(n_init=10), every k": lambda: restarts(X), "PPP": lambda: PPP(K_RANGE).fit(X)},
            reference="KMeans(n_init=10), every k",
            targets={"PPP": Target(1.5)},
            group="many rows",
            rounds=1,
            warmup=0,
        )
        digits = load_digits().data / 16
        small = PPP(K_RANGE).fit(digits)
        Z = (digits - digits.mean(0)) @ small.components_.T
        rows += compare(
            {
                "GaussianMixture, every k and family": lambda: mixtures(Z, small.family_scores_),
                "PPP": lambda: PPP(K_RANGE).fit(digits),
            },
            reference="GaussianMixture, every k and family",
            targets={"PPP": Target(1.5)},
            group="digits",
            rounds=5,
            warmup=1,
        )
        publish("partitive_partitioning", rows, packages=("numpy", "scikit-learn"), notes=[note])


if __name__ == "__main__":
    main()
