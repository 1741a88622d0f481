"""Ten thousand environments of 50 variables in one batched solve, and the bootstrap, against loops in NumPy.

One thread. The loops do the same arithmetic, an environment (and a resample) at a time; answers are compared first. Run
``python benchmarks/invariance_certificates.py``.
"""

from __future__ import annotations

import numpy as np
from _harness import Target, compare, publish

from lodim.trust import certify, random_sem

N_ENVIRONMENTS, N_VARIABLES, K = 10_000, 50, 10
N_SAMPLED, N_ROWS, N_BOOT = 200, 100, 200


def main() -> None:
    rng = np.random.default_rng(0)
    sem = random_sem(N_VARIABLES, 2, 0)
    sites = list(sem.descendants(-1)[:2])
    cov = sem.intervene(sites, "soft", 0, size=N_ENVIRONMENTS).covariance()
    Phi, w = rng.normal(size=(K, N_VARIABLES - 1)), rng.normal(size=K)

    def one_by_one() -> np.ndarray:
        found = np.empty(len(cov))
        for i, S in enumerate(cov):
            best = np.linalg.solve(Phi @ S[:-1, :-1] @ Phi.T, Phi @ S[:-1, -1])
            found[i] = np.linalg.norm(w - best)
        return found

    def together() -> np.ndarray:
        return certify(Phi, w, covariances=cov, form="minimiser").eps_per_env

    np.testing.assert_allclose(together(), one_by_one(), rtol=1e-6)
    rows = compare(
        {"NumPy, a loop": one_by_one, "certify": together},
        reference="NumPy, a loop",
        targets={"certify": Target(1.0)},
        group=f"{N_ENVIRONMENTS:,} covariances of {N_VARIABLES} variables, k = {K}",
        rounds=5,
        warmup=1,
    )
    seconds = rows[-1].median_s

    X, y = sem.intervene(sites, "soft", 0, size=N_SAMPLED).sample(N_ROWS, 0)
    few = Phi[:3]
    pairs = list(zip(X, y))

    def resample() -> np.ndarray:
        upper = np.empty(N_SAMPLED)
        for i, (table, target) in enumerate(pairs):
            Z, g = table @ few.T, np.empty(N_BOOT)
            for b in range(N_BOOT):
                at = rng.integers(N_ROWS, size=N_ROWS)
                z, t = Z[at] - Z[at].mean(0), target[at] - target[at].mean()
                g[b] = np.linalg.norm(z.T @ (z @ w[:3] - t)) / N_ROWS
            upper[i] = np.quantile(g, 0.99)
        return upper

    def bootstrap() -> np.ndarray:
        return certify(few, w[:3], pairs, n_bootstrap=N_BOOT, random_state=0).upper_per_env

    # other resamples, so that only the middle of the environments agrees
    assert abs(np.median(bootstrap() / resample()) - 1) < 0.05
    rows += compare(
        {"NumPy, a loop": resample, "certify": bootstrap},
        reference="NumPy, a loop",
        targets={"certify": Target(0.5)},
        group=f"{N_BOOT} resamples of {N_SAMPLED} environments of {N_ROWS} rows, k = 3",
        rounds=3,
        warmup=0,
    )
    notes = [f"{N_ENVIRONMENTS:,} environments of {N_VARIABLES} variables: {seconds:.2f} s (aimed at: 2)."]
    publish("invariance_certificates", rows, packages=("numpy", "scipy"), notes=notes)
    print("\n".join(notes))


if __name__ == "__main__":
    main()
