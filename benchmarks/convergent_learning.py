"""Matching units against what it is made of: correlations, mutual information, sparse maps.

One thread. Correlations of 2 x 1,024 units over 100,000 rows (single precision, as layers give them) beside the bare
product of the two matrices; mutual information of all pairs beside ``np.histogram2d`` pair by pair; paths of the Lasso
from one Gram matrix beside ``lasso_path`` for each unit. Run ``python benchmarks/convergent_learning.py``.
"""

from __future__ import annotations

import numpy as np
import torch
from _harness import Target, compare, publish
from sklearn.linear_model import lasso_path

from lodim.linalg import CrossMoments
from lodim.representation import SparsePredictor, mutual_information


def layers(n: int, p: int, q: int, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Rectified units of two nets of the same 32 hidden causes."""
    rng = np.random.default_rng(0)
    causes = rng.normal(size=(n, 32)).astype(dtype)
    found = [causes @ rng.normal(size=(32, k)).astype(dtype) for k in (p, q)]
    return tuple(np.maximum(part + 2 * rng.normal(size=part.shape).astype(dtype), 0) for part in found)  # type: ignore[return-value]


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    X, Y = layers(100_000, 1024, 1024, np.float32)

    def correlations() -> np.ndarray:
        return CrossMoments().update(X, Y).correlation()

    some = np.corrcoef(X[:, :3].T, Y[:, :3].T)[:3, 3:]
    np.testing.assert_allclose(correlations()[:3, :3], some, atol=1e-4)
    cases = {"X.T @ Y": lambda: X.T @ Y, "CrossMoments": correlations}
    targets = {"CrossMoments": Target(1.3)}
    rows += compare(
        cases,
        reference="X.T @ Y",
        targets=targets,
        group="correlations, 2 x 1,024 units, 100,000 rows",
        rounds=3,
        warmup=1,
    )
    del X, Y

    A, B = layers(10_000, 64, 64, float)

    def pair_by_pair() -> np.ndarray:
        """Ten bins of equal counts: the edges found once for each unit, as fast as the loop can be."""
        edges = [[np.unique(np.quantile(v, np.linspace(0, 1, 11))) for v in part.T] for part in (A, B)]
        found = np.empty((A.shape[1], B.shape[1]))
        for i, a in enumerate(A.T):
            for j, b in enumerate(B.T):
                joint = np.histogram2d(a, b, (edges[0][i], edges[1][j]))[0] / len(a)
                alone = np.outer(joint.sum(1), joint.sum(0))
                full = joint > 0
                found[i, j] = (joint[full] * np.log(joint[full] / alone[full])).sum()
        return found

    assert np.corrcoef(pair_by_pair().ravel(), mutual_information(A, B).ravel())[0, 1] > 0.99
    cases = {"np.histogram2d by pairs": pair_by_pair, "mutual_information": lambda: mutual_information(A, B)}
    goal = {"mutual_information": Target(0.1)}
    group = "mutual information, 64 x 64 units, 10,000 rows"
    rows += compare(cases, reference="np.histogram2d by pairs", targets=goal, group=group, rounds=3, warmup=0)

    C, D = layers(10_000, 128, 16, float)
    model = SparsePredictor(random_state=0).fit(C, D)
    train, _ = model._split(len(C), None)
    Cs, Ds = ((part[train] - part[train].mean(0)) / part[train].std(0) for part in (C, D))
    Cs = np.asfortranarray(Cs)

    def refit() -> list[np.ndarray]:
        return [lasso_path(Cs, y, alphas=model.alphas_, precompute=False)[1] for y in Ds.T]

    def refit_gram() -> list[np.ndarray]:
        return [lasso_path(Cs, y, alphas=model.alphas_)[1] for y in Ds.T]

    np.testing.assert_allclose(refit_gram()[0].T, model.coefs_[:, 0], atol=1e-3)
    cases = {
        "lasso_path from the rows, a unit": refit,
        "lasso_path with a Gram matrix for each unit": refit_gram,
        "SparsePredictor.fit": lambda: model.fit(C, D),
    }
    goal = {"SparsePredictor.fit": Target(0.2)}
    group = "paths of 20 penalties, 128 units to 16, 5,000 rows"
    rows += compare(
        cases, reference="lasso_path from the rows, a unit", targets=goal, group=group, rounds=3, warmup=0
    )
    notes = ["SparsePredictor.fit scales 10,000 rows, and judges the path on the other half as well."]
    publish("convergent_learning", rows, packages=("numpy", "scikit-learn"), notes=notes)


if __name__ == "__main__":
    main()
