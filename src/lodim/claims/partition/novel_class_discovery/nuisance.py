"""Where the known classes are needed: directions without meaning hold most of the variance, and clusters of their own.

Ten Gaussian classes in six directions, centres of deviation 3 and noise .7; six more directions hold six clusters that
have nothing to do with the classes, centres of deviation 9 and noise 2; all rotated and standardised. Of 1,000 rows
those of five classes have labels. k-means finds the clusters of the nuisance. The projection has four latent
dimensions, rate .003 and 80 epochs; a search by hidden classes sees no novel label. Data, nets and clusterings change
with each of five seeds.

Source: Colin Troisemaine and others, 2023, arXiv 2311.05440; the data are ours. Ranges are from an independent
prototype of one data set, set before this was run: k-means .286, projection .29 at w = .5, .28 to .32 at .9, .52 to .59
at .99, .70 to .79 at 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lodim.claims.partition.novel_class_discovery.peers import accuracies, mean_and_spread, seeds
from lodim.claims.result import Claim, Findings, Progress, check_between, check_that
from lodim.metrics import clustering_accuracy
from lodim.partition import PBN, NCDSearchCV
from lodim.randomness import as_generator

WEIGHTS = (0.5, 0.9, 0.99, 1.0)


def nuisance(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of twelve columns and their classes 0 ... 9."""
    rng = as_generator(seed)
    y, other = rng.integers(0, 10, n), rng.integers(0, 6, n)
    relevant = rng.normal(0, 3, (10, 6))[y] + rng.normal(0, 0.7, (n, 6))
    irrelevant = rng.normal(0, 9, (6, 6))[other] + rng.normal(0, 2, (n, 6))
    X = np.c_[relevant, irrelevant] @ np.linalg.qr(rng.normal(size=(12, 12)))[0]
    return (X - X.mean(0)) / X.std(0), y


def run(seed: int, progress: Progress, n_seeds: int = 5, n_trials: int = 12, epochs: int = 80) -> Findings:
    """Fit everything to several data sets, and search in each."""
    table = []
    for s in progress.over(seeds(seed, n_seeds)):
        X, truth = nuisance(1000, s)
        y = np.where(truth < 5, truth, -1)
        net: dict[str, Any] = {"n_novel": 5, "latent_dim": 4, "epochs": epochs, "random_state": s}
        models = {f"PBN, w = {w:g}": PBN(w=w, lr=3e-3, **net) for w in WEIGHTS}
        found = accuracies(X, y, truth, 5, s, models, epochs=epochs)
        search = NCDSearchCV(PBN(**net), n_trials=n_trials, random_state=s).fit(X, y)
        found["PBN by the search"] = clustering_accuracy(truth[y < 0], search.labels_[y < 0])
        table.append({**found, "w chosen": search.best_params_["w"]})
    means = mean_and_spread(table)
    plain = means["k-means"]["mean"]
    by_weight = [means[f"PBN, w = {w:g}"]["mean"] for w in WEIGHTS]
    checks = (
        check_between("accuracy: projection at w = .99 less k-means", by_weight[2] - plain, 0.15, 1.0),
        check_between("accuracy: projection at w = .5 less k-means", by_weight[0] - plain, -0.1, 0.1),
        check_that("accuracy at w = .5, .9, .99, 1", by_weight, "greatest at .99 or 1", int(np.argmax(by_weight)) > 1),
        check_between("accuracy: projection by the search less k-means",
                      means["PBN by the search"]["mean"] - plain, 0.15, 1.0, essential=False),
    )  # fmt: skip
    notes = (
        "k-means, spectral clusterings and mixtures answer the question of which nuisance cluster a row is in",
    )
    return Findings(checks, {"accuracy": means, "runs": table}, notes)


CLAIM = Claim(
    name="novel-class-discovery/nuisance",
    arxiv="2311.05440",
    statement=(
        "Where directions without meaning hold most of the variance, k-means follows them; a projection in which the "
        "known classes weigh .99 finds the novel ones far better."
    ),
    laptop=run,
    minutes=1,
)
