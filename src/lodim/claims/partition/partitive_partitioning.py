"""Digits, wines and irises: clusters that are the same at every run, their number, and the rows that surely belong.

All methods see the same rows: principal components with 90 % of the variance, of the digits in 64 pixels (from 0 to 1)
and of the standardised columns of wines and irises. Four peers are told the number of classes; three choose their own.
Each is run with five seeds and five orders of the rows; "repeats" is the mean adjusted Rand index of these runs, each
with each, and "classes" that with the true classes, the mean of three seeds. The weakness is measured too: other rows
(eight samples of four fifths), and data without groups.

Source: Mujahid Sultan 2020, arXiv 2003.04372. The abstract gives no figures; the ranges are those of a prototype.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin, clone
from sklearn.cluster import HDBSCAN, BisectingKMeans, KMeans, SpectralClustering
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from lodim.claims.result import Claim, Findings, Progress, check_between, check_that
from lodim.metrics import clustering_accuracy
from lodim.partition import PPP, compactness, partition_curves, repeatability
from lodim.randomness import derive_seed

KS, FAMILIES = range(2, 16), ("spherical", "diag", "tied", "full")
LOADERS = {"digits": load_digits, "wine": load_wine, "iris": load_iris}


@dataclass(eq=False, repr=False)
class _Chosen(ClusterMixin, BaseEstimator):
    """k-means++ with the k of the largest silhouette, or the mixture with the k and the family of the least BIC."""

    rule: str = "silhouette"
    random_state: Any = None

    def fit(self, X: Any, y: Any = None) -> Any:
        seed = self.random_state
        if self.rule == "silhouette":
            found = [KMeans(k, n_init=10, random_state=seed).fit_predict(X) for k in KS]
            self.labels_ = max(found, key=lambda labels: silhouette_score(X, labels))
        else:
            models = [GaussianMixture(k, covariance_type=f, random_state=seed) for k in KS for f in FAMILIES]
            self.labels_ = min(models, key=lambda model: model.fit(X).bic(X)).predict(X)
        return self


def peers(k: int) -> dict[str, Any]:
    """What else one might use."""
    return {
        "k-means, random starts, k given": KMeans(k, init="random", n_init=1),
        "k-means++, best of ten, k given": KMeans(k, n_init=10),
        "bisecting k-means, k given": BisectingKMeans(k),
        "spectral clustering, k given": SpectralClustering(k, affinity="nearest_neighbors"),
        "k-means++, k by silhouette": _Chosen(),
        "Gaussian mixtures, k by BIC": _Chosen("BIC"),
        "HDBSCAN": HDBSCAN(copy=True),
    }


def judged(name: str, model: Any, X: np.ndarray, y: np.ndarray, seed: int) -> dict[str, Any]:
    """Agreement with the classes, and with itself."""
    open_seed = {"random_state"} & model.get_params().keys()
    seeds = [dict.fromkeys(open_seed, derive_seed(seed, name, run)) for run in range(3)]
    found = [clone(model).set_params(**each).fit_predict(X) for each in seeds]
    again = {mode: repeatability(model, X, 5, mode, random_state=seed) for mode in ("seed", "permute")}
    return {
        "k": [len(np.unique(labels[labels >= 0])) for labels in found],
        "classes": float(np.mean([adjusted_rand_score(y, labels) for labels in found])),
        "accuracy": float(np.mean([clustering_accuracy(y, labels) for labels in found])),
        "repeats over seeds": again["seed"].mean,
        "repeats over orders": again["permute"].mean,
        "least": float(min(result.ari.min() for result in again.values())),
    }


def run(seed: int, progress: Progress) -> Findings:
    """Partition three sets, and ask everyone again."""
    sets = {name: load(return_X_y=True) for name, load in LOADERS.items()}
    ours: dict[str, dict[str, Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of peers that do not converge
        for at, (name, (X, y)) in enumerate(sets.items()):
            progress(at / 4, name)
            X = X / 16 if name == "digits" else StandardScaler().fit_transform(X)
            model = PPP().fit(X)
            Z, sure = (X - X.mean(0)) @ model.components_.T, model.separable_mask_
            others = peers(len(np.unique(y))).items()
            ours[name] = {
                "k": model.n_clusters_,
                "curve": model.validation_curve_,
                "classes": float(adjusted_rand_score(y, model.labels_)),
                "separable": float(sure.mean()),
                "classes, separable": float(adjusted_rand_score(y[sure], model.labels_[sure])),
                "silhouette": compactness(Z, model.labels_).silhouette,
                "silhouette, separable": compactness(Z[sure], model.labels_[sure]).silhouette,
                "choices": partition_curves(model, X, random_state=seed).choices,
                "methods": {"PPP": judged("PPP", PPP(), X, y, seed)}
                | {other: judged(other, made, Z, y, seed) for other, made in others},
            }
        progress(0.75, "other rows, no groups")
        more = weakness(sets["digits"][0] / 16, sets["digits"][1], seed)
    found, wines, irises = ours.values()
    loose = found["methods"]["k-means, random starts, k given"]["repeats over seeds"]
    least = min(each["methods"]["PPP"]["least"] for each in ours.values())
    gain = {name: each["classes, separable"] - each["classes"] for name, each in ours.items()}
    checks = (
        check_between("digits: number of clusters (ten classes)", found["k"], 9, 12),
        check_between("digits: adjusted Rand index with the classes", found["classes"], 0.57, 1),
        check_between("wine: number of clusters (three classes)", wines["k"], 3, 3),
        check_between("wine: adjusted Rand index with the classes", wines["classes"], 0.8, 1),
        check_between("iris: number of clusters (two of three species overlap)", irises["k"], 2, 2),
        check_that("least index of two runs of PPP, seeds and orders, all sets", least, "exactly 1", least == 1),
        check_between("digits: gain of the index on separable rows", gain["digits"], 0.05, math.inf),
        check_between("wine: gain of the index on separable rows", gain["wine"], 0.05, math.inf),
        check_between("digits: index of two runs of k-means from random starts", loose, 0.5, 0.95, essential=False),
    )  # fmt: skip
    return Findings(checks, {**ours, **more}, NOTES)


def weakness(X: np.ndarray, y: np.ndarray, seed: int) -> dict[str, Any]:
    """The other strategy; other rows of the digits; scores of data that have no groups."""
    merged, rng = PPP(strategy="merge", n_components=10).fit(X), np.random.default_rng(seed)
    models = {"PPP": PPP(), "PPP, k given": PPP((10, 10)), "k-means++, k given": KMeans(10, n_init=10)}
    again = {name: repeatability(m, X, 8, "subsample", random_state=seed) for name, m in models.items()}
    none = {"Gaussian, 5 columns": rng.standard_normal((1000, 5)), "cube, 3 columns": rng.random((1000, 3))}
    return {
        "digits, merged": {"k": merged.n_clusters_, "classes": float(adjusted_rand_score(y, merged.labels_))},
        "digits, other rows": {name: {"index": r.mean, "k": r.n_clusters} for name, r in again.items()},
        "no groups": {name: max(PPP().fit(Z).validation_curve_.values()) for name, Z in none.items()},
    }


NOTES = (
    "Other rows give other partitions, and other k: the method repeats its answer, it does not make it stable.",
    "Data without groups have scores too: a score is no test.",
)

CLAIM = Claim(
    name="partitive-partitioning/digits",
    arxiv="2003.04372",
    statement=(
        "Clusters that come out the same at every run, with the number of clusters chosen (digits 9 to 12, wine 3, "
        "iris 2), and separable rows that agree with the classes by .05 more than all rows do."
    ),
    laptop=run,
    minutes=2,
)
