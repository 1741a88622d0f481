"""The closed form for 1,000 classes, and metrics of collapse against sums of outer products, one row at a time.

One thread. The peer adds the outer product of every row's deviation from its class mean, a d x d matrix, as the
public scripts that validate the paper do, and takes the pseudo-inverse of the covariance between classes; it runs on
some rows and its time a row is what is compared. Beside it is one product X' X of all rows, and the whole on 50,000
rows of 2,048 features. Run ``python benchmarks/neural_collapse.py``.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from _harness import Target, compare, publish

from lodim.representation import nc1, ufm_minimizer
from lodim.representation.collapse import class_geometry, report

K, D, N_FEW, N_MANY = 10, 1024, 1000, 50_000


def one_by_one(X: np.ndarray, y: np.ndarray) -> float:
    """NC1 from two d x d matrices."""
    d, center = X.shape[1], X.mean(0)
    means = np.stack([X[y == k].mean(0) for k in range(K)])
    within, between = np.zeros((d, d)), np.zeros((d, d))
    for x, k in zip(X, y):
        within += np.outer(x - means[k], x - means[k])
    for mean in means:
        between += np.outer(mean - center, mean - center)
    return float(np.trace(within / len(X) @ np.linalg.pinv(between / K, rcond=1e-10)) / K)


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    y = np.arange(N_FEW) % K
    X = 3 * rng.normal(size=(K, D))[y] + rng.normal(size=(N_FEW, D))
    assert np.isclose(one_by_one(X, y), nc1(X, y))
    goal = {"nc1": Target(0.02, "outer products, row by row")}
    cases = {"outer products, row by row": lambda: one_by_one(X, y), "nc1": lambda: nc1(X, y)}
    rows = compare(
        cases, reference="outer products, row by row", targets=goal, group=f"{N_FEW:,} rows of {D}", rounds=3
    )

    y = np.arange(N_MANY) % K
    Z = (
        rng.normal(size=(N_MANY, 2048)).astype(np.float32)
        + 3 * rng.normal(size=(K, 2048)).astype(np.float32)[y]
    )
    W, double = rng.normal(size=(K, 2048)), Z[:4096].astype(np.float64)

    def product() -> None:  # in double precision, as the metrics compute
        for start in range(0, N_MANY, 4096):
            part = Z[start : start + 4096].astype(np.float64) if start else double
            part.T @ part

    cases = {
        "one product X' X": product,
        "class_geometry": lambda: class_geometry(Z, y),
        "all metrics": lambda: report(Z, y, W),
    }
    goal = {"class_geometry": Target(1.5, "one product X' X")}
    group = f"{N_MANY:,} rows of 2,048, single precision"
    rows += compare(cases, reference="one product X' X", targets=goal, group=group, rounds=1, warmup=0)

    notes, n = [], rng.integers(5, 500, 1000)
    for M in (1, 3):
        times = []
        for _ in range(20):
            start = time.perf_counter()
            ufm_minimizer(n, [1e-6] * M, 1e-8)
            times.append(time.perf_counter() - start)
        notes.append(
            f"Closed form, 1,000 classes, {M} layers: {1e3 * np.median(times):.1f} ms (aimed at: 10)."
        )
    publish("neural_collapse", rows, packages=("numpy", "scipy"), notes=notes)
    print("\n".join(notes))


if __name__ == "__main__":
    main()
