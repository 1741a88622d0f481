"""Print the six numbers of :mod:`lodim.partition.valley_null`: ``python -m lodim.partition.make_valley_null``.

The deepest valley of a straight line of uniform rows is simulated at many n and k (about a quarter of an hour on one
core). The law's location and scale are linear in the six numbers, and so are its quantiles: those of the simulation
from 80 to 99 per cent are fitted by least squares, weighted by the runs they rest on.
"""

from __future__ import annotations

import math

import numpy as np

from lodim.partition.density_tree import MORE_EDGES, Neighborhoods, grow_tree
from lodim.partition.valley_null import least_rows, scales

_RUNS = {40: 1500, 50: 2000, 70: 2000, 100: 2000, 150: 1500, 200: 1500, 300: 1000, 500: 800, 800: 600, 1200: 400,
         2000: 300, 3500: 200, 5000: 150}  # fmt: skip
_LEVELS, _WEIGHTS = np.array([0.8, 0.9, 0.95, 0.98, 0.99]), np.array([1.0, 1.0, 1.0, 0.7, 0.5])
_KEPT = 0.8  # of the rows, in resamples that keep the k of all rows


def deepest(n: int, ks: tuple[int, ...], seed: int) -> list[float]:
    """``sqrt(k)`` times the depth of the deepest valley of n uniform rows on a line, for each k."""
    X = np.random.default_rng([n, seed]).uniform(size=(n, 1))
    lists = Neighborhoods.of(X, 2 * max(ks))
    edges = lists.edges(MORE_EDGES)
    trees = [grow_tree(lists, edges, k, least_rows(n, k), math.inf) for k in ks]
    return [math.sqrt(k) * float(tree.depths.max(initial=0.0)) for k, tree in zip(ks, trees)]


def fit() -> np.ndarray:
    """Return m_0 ... m_3, b_0, b_1."""
    rows, targets, weights = [], [], []
    for n, runs in _RUNS.items():
        ks = tuple(sorted({6} | set(scales(n)) | set(scales(round(n / _KEPT)))))
        found = np.quantile([deepest(n, ks, seed) for seed in range(runs)], _LEVELS, axis=0)
        print(n, dict(zip(ks, found.T.round(2).tolist())), flush=True)
        for k, quantiles in zip(ks, found.T):
            for level, quantile, weight in zip(_LEVELS, quantiles, _WEIGHTS):
                gumbel = -math.log(-math.log(level))
                rows.append([1.0, math.log(n / k), k / n, math.log(k), gumbel, gumbel * k / n])
                targets.append(quantile)
                weights.append(weight * math.sqrt(runs))
    design, root = np.array(rows), np.array(weights)
    numbers = np.linalg.lstsq(design * root[:, None], np.array(targets) * root, rcond=None)[0]
    away = np.array(targets) - design @ numbers
    print(f"quantiles are within {abs(away).max():.2f}, {away.std():.2f} on the whole")
    return numbers


if __name__ == "__main__":
    print(fit().round(3))
