"""The bits of a task from its data, against the usual way: every distance in double precision, and a full sort.

One thread. The reference forms the (queries, points) matrix of distances and sorts its rows to get five neighbours, and
computes sampled pairs in whole. The aim for all 60,000 digits with 10,000 queries and four million pairs is 25 s; it is
printed beside the table. Run ``python benchmarks/generalization_difficulty.py``.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from _harness import Target, compare, publish

from lodim.datasets import load
from lodim.geometry import GeneralizationDifficulty
from lodim.geometry.difficulty.margin import _draw_pairs, _extrapolated

N, N_QUERIES, N_PAIRS, K = 10_000, 2000, 400_000, 400


def usual(X: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Dimension and margin."""
    rng = np.random.default_rng(0)
    queries, points = X[rng.choice(len(X), N_QUERIES, replace=False)].astype(float), X.astype(float)
    squares = (queries**2).sum(1)[:, None] - 2 * queries @ points.T + (points**2).sum(1)
    near = np.sqrt(np.sort(np.maximum(squares, 0), axis=1)[:, 1:6])
    i, j = _draw_pairs(y.astype(int), N_PAIRS, rng)
    gaps = np.concatenate(
        [np.linalg.norm(X[a] - X[b], axis=1) for a, b in zip(np.split(i, 100), np.split(j, 100))]
    )
    delta, _ = _extrapolated(np.sort(gaps)[: 3 * K], K, 0.9 * len(X) ** 2 / N_PAIRS)
    return float(1 / np.log(near[:, 4:] / near[:, :4]).mean()), delta


def main() -> None:
    torch.set_num_threads(1)
    digits = load("mnist", split="train")
    X, y = digits.X[:N], np.asarray(digits.y[:N])

    def ours() -> GeneralizationDifficulty:
        model = GeneralizationDifficulty(
            0.001, n_queries=N_QUERIES, n_pairs=N_PAIRS, k=K, n_bootstrap=0, random_state=0
        )
        return model.fit(X, y)

    m, delta = usual(X, y)
    found = ours()
    assert abs(found.m_raw_ / m - 1) < 0.05, (found.m_raw_, m)
    assert abs(found.delta_ / delta - 1) < 0.4, (found.delta_, delta)
    cases = {"full matrix and sort": lambda: usual(X, y), "lodim": ours}
    group = f"{N:,} digits, {N_QUERIES:,} queries, {N_PAIRS:,} pairs"
    rows = compare(
        cases, reference="full matrix and sort", targets={"lodim": Target(0.5)}, group=group, rounds=9
    )
    started = time.perf_counter()
    GeneralizationDifficulty(0.001, random_state=0).fit(digits.X, digits.y)
    whole = time.perf_counter() - started
    note = f"60,000 digits, 10,000 queries, 4,000,000 pairs, 20 replicates: {whole:.1f} s (aim: 25 s)."
    publish("generalization_difficulty", rows, packages=("torch", "numpy"), notes=[note])
    print(note)


if __name__ == "__main__":
    main()
