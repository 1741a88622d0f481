"""What the claims compare: clusterings that know nothing of known classes, and those that do, each by its accuracy."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.cluster import HDBSCAN, KMeans, SpectralClustering
from sklearn.mixture import GaussianMixture

from lodim.metrics import clustering_accuracy
from lodim.partition import PBN, NCDKMeans, NCDSpectralClustering, TabularNCD
from lodim.randomness import derive_seed


def gaussian_mixture(rows: np.ndarray, seed: int) -> Any:
    """The mixture of 2 to 12 Gaussians, each of a covariance by coordinates, of the least BIC."""
    fitted = [GaussianMixture(k, covariance_type="diag", random_state=seed).fit(rows) for k in range(2, 13)]
    return min(fitted, key=lambda mixture: mixture.bic(rows))


def without_labels(rows: np.ndarray, k: int, seed: int) -> dict[str, np.ndarray]:
    """Clusters of unlabelled rows by methods that see nothing else; HDBSCAN and the mixture find the number too."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Graph is not fully connected")  # which ours never is
        spectral = SpectralClustering(k, affinity="nearest_neighbors", random_state=seed).fit_predict(rows)
    return {
        "k-means": KMeans(k, n_init=10, random_state=seed).fit_predict(rows),
        "spectral clustering": spectral,
        "HDBSCAN": HDBSCAN(min_cluster_size=10, copy=True).fit_predict(rows),
        "Gaussian mixture by BIC": gaussian_mixture(rows, seed).predict(rows),
    }


def accuracies(
    X: np.ndarray,
    y: np.ndarray,
    truth: np.ndarray,
    k: int,
    seed: int,
    projections: dict[str, PBN],
    **options: Any,
) -> dict[str, float]:
    """Accuracy on the unlabelled rows of every method; projections are fitted and kept for the caller."""
    unlabelled = y < 0
    found = without_labels(X[unlabelled], k, seed)
    models: dict[str, Any] = {
        "NCD k-means": NCDKMeans(k, random_state=seed),
        "NCD spectral clustering": NCDSpectralClustering(k, random_state=seed),
        "TabularNCD": TabularNCD(k, random_state=seed, **options),
        **projections,
    }
    found |= {name: model.fit(X, y).labels_[unlabelled] for name, model in models.items()}
    return {name: clustering_accuracy(truth[unlabelled], labels) for name, labels in found.items()}


def mean_and_spread(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation of each entry over runs."""
    return {
        name: {"mean": float(np.mean([r[name] for r in runs])), "sd": float(np.std([r[name] for r in runs]))}
        for name in runs[0]
    }


def seeds(seed: int, n: int) -> list[int]:
    """Seeds of n runs."""
    return [derive_seed(seed, "run", i) for i in range(n)]
