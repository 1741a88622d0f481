"""l_p regression on a certified coreset against the fit on all rows, and scikit-learn's median regression.

One thread, pooled MNIST digits (48 columns and an intercept). "iteratively reweighted" is the usual way on all rows:
thirty weighted least-squares solves, by normal equations. The coreset's time has everything in it: basis, Lewis
weights, sampling, the fit, and the certificate on all rows; "fit alone" is the solve on rows already chosen. The median
regression is compared on fewer rows, because linear programming on all takes many minutes. Run
``python benchmarks/sensitivity_sampling.py``.
"""

from __future__ import annotations

import numpy as np
import torch
from _harness import Target, compare, publish
from sklearn.linear_model import QuantileRegressor

from lodim.claims.geometry.sensitivity_sampling import pooled
from lodim.geometry import LpRegression, LpSampler, leverage_scores, lewis_weights
from lodim.geometry.sensitivity_sampling.regression import norm, solve

M, N_MEDIAN = 500, 10_000


def reweighted(A: np.ndarray, y: np.ndarray, p: float, steps: int = 30) -> np.ndarray:
    """Iteratively reweighted least squares, damped above p = 3."""
    x = np.linalg.lstsq(A, y)[0]
    damping = 1 / (p - 1) if p > 2 else 1.0
    for _ in range(steps):
        r = A @ x - y
        root = np.maximum(np.abs(r), 1e-6 * np.abs(r).max()) ** ((p - 2) / 2)
        scaled = root[:, None] * A
        x = x + damping * (np.linalg.solve(scaled.T @ scaled, scaled.T @ (root * y)) - x)
    return x


def main() -> None:
    torch.set_num_threads(1)
    X, y = pooled()
    A = np.c_[X, np.ones(len(X))]
    rows = []
    for p in (3.0, 1.5):
        sampler = LpSampler(p=p, n_rows=M, random_state=0).fit(np.c_[A, y])
        idx, weight = sampler.sample()
        part = (
            torch.from_numpy(A[idx] * weight[:, None] ** (1 / p)),
            torch.from_numpy(y[idx] * weight ** (1 / p)),
        )
        whole = LpRegression(p=p, n_rows=len(X)).fit(X, y)
        assert abs(norm(torch.from_numpy(A @ reweighted(A, y, p) - y), p) / whole.objective_ - 1) < 1e-3
        cases = {
            "iteratively reweighted, all rows": lambda p=p: reweighted(A, y, p),
            "lodim, all rows": lambda p=p: LpRegression(p=p, n_rows=len(X)).fit(X, y),
            "lodim, coreset": lambda p=p: LpRegression(p=p, n_rows=M, random_state=0).fit(X, y),
            "fit alone": lambda p=p, part=part: solve(*part, p),
            "leverage scores": lambda: leverage_scores(A),
            "Lewis weights": lambda p=p: lewis_weights(A, p),
        }
        targets = {
            "lodim, coreset": Target(0.5),
            "fit alone": Target(1 / 40),
            "Lewis weights": Target(1 / 3),
        }
        group = f"p = {p:g}, 60,000 digits, {M} rows"
        rows += compare(
            cases,
            reference="iteratively reweighted, all rows",
            targets=targets,
            group=group,
            rounds=3,
            warmup=1,
        )
    few, target = X[:N_MEDIAN], y[:N_MEDIAN]
    found = LpRegression(p=1, n_rows=2000, random_state=0).fit(few, target)
    assert found.gap_ < 0.05, found.gap_
    cases = {
        "scikit-learn QuantileRegressor": lambda: QuantileRegressor(quantile=0.5, alpha=0).fit(few, target),
        "lodim, all rows": lambda: LpRegression(p=1, n_rows=N_MEDIAN).fit(few, target),
        "lodim, coreset of 2000": lambda: LpRegression(p=1, n_rows=2000, random_state=0).fit(few, target),
    }
    goal = {"lodim, coreset of 2000": Target(1 / 20)}
    group = f"p = 1, {N_MEDIAN:,} digits"
    rows += compare(
        cases, reference="scikit-learn QuantileRegressor", targets=goal, group=group, rounds=3, warmup=0
    )
    note = f"The coreset's median fit is within {found.gap_:.3g} of the best, by its own certificate."
    publish("sensitivity_sampling", rows, packages=("torch", "numpy", "scikit-learn"), notes=[note])
    print(note)


if __name__ == "__main__":
    main()
