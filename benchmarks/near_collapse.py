"""Ten alternations on 5,000 rows of 512 features, and the response without a matrix of (n d)^2 entries.

One thread. "on all rows" is the same alternation as it is written, every round over all rows; the estimator factorises
[Y H0] once and goes on with 522 rows, and its time includes NC1 before and after. "dense" forms the response's matrix
and solves with it. Memory is the peak that tracemalloc sees. Run ``python benchmarks/near_collapse.py``.
"""

from __future__ import annotations

import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _harness import Target, compare, publish
from scipy.linalg import cho_factor, cho_solve

from lodim.representation import NearCollapseModel
from lodim.validation import ConvergenceWarning

LAM_W, LAM_H, BETA, ROUNDS = 0.05, 0.01, 5.0, 10


def data(n: int, d: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng, y = np.random.default_rng(0), np.arange(n) % classes
    return rng.normal(size=(n, d)) + rng.normal(size=(classes, d))[y], y


def on_all_rows(H0: np.ndarray, y: np.ndarray) -> np.ndarray:
    Y, H = np.eye(y.max() + 1)[y], H0
    n, identity = len(H0) / Y.shape[1], np.eye(H0.shape[1])
    for _ in range(ROUNDS):
        W = cho_solve(cho_factor(H.T @ H + n * LAM_W * identity), H.T @ Y).T
        H = cho_solve(cho_factor(W.T @ W + (LAM_H + BETA) * identity), (Y @ W + BETA * H0).T).T
    return H


def peak(run: Callable[[], Any]) -> int:
    tracemalloc.start()
    run()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)  # ten rounds are timed, not convergence
    H0, y = data(5000, 512, 10)
    ours = NearCollapseModel(LAM_W, LAM_H, BETA, tol=0, max_iter=ROUNDS)
    assert np.abs(ours.fit(H0, y).features_ - on_all_rows(H0, y)).max() < 1e-2  # ours is half a round ahead
    rows = compare(
        {"on all rows": lambda: on_all_rows(H0, y), "NearCollapseModel": lambda: ours.fit(H0, y)},
        reference="on all rows",
        targets={"NearCollapseModel": Target(1.0)},
        group=f"{ROUNDS} alternations, 5,000 x 512, 10 classes",
        rounds=7,
        warmup=1,
    )
    notes = [f"{ROUNDS} alternations: {rows[-1].median_s:.2f} s (aimed at: 1)."]

    small, labels = data(60, 30, 4)
    model = NearCollapseModel(LAM_W, LAM_H, BETA).fit(small, labels)
    dH0 = np.random.default_rng(1).normal(size=small.shape)

    def dense() -> np.ndarray:
        return (model.response_matrix() @ dH0.ravel()).reshape(small.shape)

    def iterative() -> np.ndarray:
        return model.linear_response(dH0)

    assert np.allclose(dense(), iterative(), atol=1e-7)
    rows += compare(
        {"dense": dense, "conjugate gradients": iterative},
        reference="dense",
        targets={"conjugate gradients": Target(0.1)},
        group=f"response to one perturbation, {small.size:,} numbers",
        rounds=5,
        warmup=1,
    )
    held = {"dense": peak(dense), "conjugate gradients": peak(iterative)}
    ratio = held["dense"] / held["conjugate gradients"]
    met = "met" if ratio >= 100 else "MISSED"
    notes.append(f"Memory of the dense response over ours: {ratio:.0f} (aimed at: 100, {met}).")
    publish("near_collapse", rows, packages=("numpy", "scipy"), notes=notes, extra={"peak_bytes": held})
    print("\n".join(notes))


if __name__ == "__main__":
    main()
