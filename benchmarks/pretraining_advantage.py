"""Isotropic factors against scikit-learn's PCA and FactorAnalysis, on tall and wide tables; one thread.

Targets: at most 1.2 times PCA on the same matrix, and a fifth of FactorAnalysis. PCA is asked for the same number of
components by its exact solver, which is its own choice on such tables; FactorAnalysis has its default tolerance. Run
``python benchmarks/pretraining_advantage.py``.
"""

from __future__ import annotations

import numpy as np
from _harness import Target, compare, publish
from sklearn.decomposition import PCA, FactorAnalysis

from lodim.representation import FactorModel, FactorPretrainer

SHAPES = ((20_000, 400, 10), (3000, 784, 20), (400, 3000, 10))  # rows, columns, factors


def main() -> None:
    rows, notes = [], []
    for n, d, r in SHAPES:
        X = FactorModel.random(d, r, random_state=0).sample(n, 1)[0]
        ours, pca = FactorPretrainer(r), PCA(r, svd_solver="covariance_eigh" if n > d else "full")
        em = FactorAnalysis(r)
        cases = {
            "scikit-learn PCA": lambda pca=pca, X=X: pca.fit(X),
            "scikit-learn FactorAnalysis": lambda em=em, X=X: em.fit(X),
            "FactorPretrainer": lambda ours=ours, X=X: ours.fit(X),
        }
        group = f"{n:,} rows, {d:,} columns, {r} factors"
        for peer, ratio in (("scikit-learn PCA", 1.2), ("scikit-learn FactorAnalysis", 0.2)):
            pair = {name: case for name, case in cases.items() if name in (peer, "FactorPretrainer")}
            rows += compare(
                pair,
                reference=peer,
                targets={"FactorPretrainer": Target(ratio)},
                group=f"{group}, against {peer.split()[1]}",
                rounds=9 if ratio > 1 else 3,
                warmup=1,
            )
        angle = np.linalg.svd(np.linalg.qr(ours.loadings_)[0].T @ pca.components_.T, compute_uv=False).min()
        notes.append(f"{group}: the same subspace as PCA's to {1 - angle:.0e} in cosines.")
    publish("pretraining_advantage", rows, packages=("numpy", "scipy", "scikit-learn"), notes=notes)
    print("\n".join(notes))


if __name__ == "__main__":
    main()
