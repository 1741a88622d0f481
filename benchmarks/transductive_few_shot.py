"""Few-shot episodes solved in batches against one by one, one episode against label spreading, and 70,000 rows.

One thread, rows around class centres in 256 dimensions. "SLK.fit in a loop" fits the estimator to every episode;
"batches of one" is the same code as the batches without their size. Run ``python benchmarks/transductive_few_shot.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from _harness import Target, compare, publish
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.semi_supervised import LabelSpreading

from lodim.neighbors import knn_affinity
from lodim.partition import SLK, centre_and_normalise, sample_episodes
from lodim.partition.transductive_few_shot import episodes as batched

N_EPISODES, N_MANY = 600, 70_000


def around_centres(n: int, n_classes: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres, y = rng.normal(size=(n_classes, 256)), rng.integers(n_classes, size=n)
    return centres[y] + noise * rng.normal(size=(n, 256)), y


def main() -> None:
    torch.set_num_threads(1)
    rows, notes = [], []
    features, y = around_centres(4000, 40, 4.0, 0)
    drawn = sample_episodes(y, n_episodes=N_EPISODES, random_state=0)
    X, given = centre_and_normalise(features.astype(np.float32))[drawn.rows], drawn.given
    for name, model in (("SLK-Means", SLK(lam=0.3)), ("SLK-MS", SLK(lam=0.3, prototype="mode"))):

        def one_by_one(model: SLK = model) -> np.ndarray:
            return np.stack([model.fit(x, labels).labels_ for x, labels in zip(X, given)])

        def together(parts: Iterable[slice], model: SLK = model) -> np.ndarray:
            return np.concatenate([batched.label_by_slk(model, X[p], given[p], 5)[0] for p in parts])

        def batches_of_one(together: Any = together) -> np.ndarray:
            return together(slice(i, i + 1) for i in range(N_EPISODES))

        def in_batches(together: Any = together) -> np.ndarray:
            return together(batched.batches(N_EPISODES, X.shape[1]))

        same = float((in_batches() == one_by_one()).mean())
        assert same > 0.99, same
        cases = {"SLK.fit in a loop": one_by_one, "batches of one": batches_of_one, "batches": in_batches}
        group = f"{name}, {N_EPISODES} episodes of 80 rows"
        targets = {"batches": Target(0.5)}
        rows += compare(
            cases, reference="SLK.fit in a loop", targets=targets, group=group, rounds=3, warmup=0
        )
        notes.append(f"{name}: {N_EPISODES / rows[-1].min_s:.0f} episodes a second in batches.")

    x, labels = X[0], given[0]
    cases = {
        "scikit-learn LabelSpreading": lambda: LabelSpreading().fit(x, labels),
        "SLK.fit": lambda: SLK(lam=0.3).fit(x, labels),
        "a batch of one": lambda: batched.label_by_slk(SLK(lam=0.3), X[:1], given[:1], 5),
    }
    rows += compare(cases, reference="scikit-learn LabelSpreading", group="one episode of 80 rows", rounds=20)
    notes.append(f"One episode: {1e3 * rows[-2].min_s:.1f} ms by SLK.fit (aimed at: 10).")

    many, truth = around_centres(N_MANY, 10, 1.5, 1)
    fitted = SLK(n_clusters=10, random_state=0)
    cases = {
        "scikit-learn KMeans": lambda: KMeans(10, n_init=1, random_state=0).fit(many),
        "the neighbours alone": lambda: knn_affinity(many, 2),
        "SLK.fit": lambda: fitted.fit(many),
    }
    group = f"{N_MANY:,} rows, 10 clusters"
    goal = {"SLK.fit": Target(2.0, "the neighbours alone")}
    rows += compare(cases, reference="scikit-learn KMeans", targets=goal, group=group, rounds=1, warmup=0)
    score = adjusted_rand_score(truth, fitted.labels_)
    notes.append(f"{N_MANY:,} rows: {rows[-1].min_s:.0f} s (aimed at: 60), ARI {score:.2f}.")
    publish("transductive_few_shot", rows, packages=("numpy", "scipy", "scikit-learn"), notes=notes)
    print("\n".join(notes))


if __name__ == "__main__":
    main()
