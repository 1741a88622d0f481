r"""Groups of units of two networks together, and the subspaces that they span.

The units of both nets are the nodes of one graph, W the absolute correlations of all pairs within and between the nets,
without a diagonal. With degrees D the rows of the k last eigenvectors of

.. math:: L = I - D^{-1/2} W D^{-1/2}

brought to length 1 are parted by k-means. Nets that learn the same subspaces in other bases have clusters with units of
both, though units do not pair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.linalg import eigh, subspace_angles
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.utils.validation import validate_data

from lodim.linalg import CrossMoments
from lodim.plots import COLORS, new_axes
from lodim.randomness import derive_seed, root_seed
from lodim.representation.convergent_learning.matching import read_rows
from lodim.representation.convergent_learning.similarity import dead_units, leading
from lodim.results import Result
from lodim.validation import check_choice, check_in_range, check_kind, check_matrix, checked

__all__ = ["CoClusterer", "CoClusters", "principal_angles", "subspace_dimension"]

_MOST = 20  # clusters where none are asked for


@dataclass(frozen=True)
class CoClusters(Result):
    """Clusters of units of two nets.

    Attributes
    ----------
    counts_a, counts_b : ndarray of int, shape (k,)
        Units of each net.
    within : ndarray, shape (k,)
        Mean affinity of two units of the cluster; NaN for a single unit.
    balance : ndarray, shape (k,)
        1 where the shares of both nets are equal, 0 where one is missing.
    """

    counts_a: Int[np.ndarray, " k"]
    counts_b: Int[np.ndarray, " k"]
    within: Float[np.ndarray, " k"]
    balance: Float[np.ndarray, " k"]

    def __str__(self) -> str:
        both = int(((self.counts_a > 0) & (self.counts_b > 0)).sum())
        mean = float(np.average(self.balance, weights=self.counts_a + self.counts_b))
        return f"{len(self.balance)} clusters, {both} with units of both nets; balance {mean:.2f} (1: equal shares)"

    def to_frame(self) -> Any:
        """Return one row a cluster."""
        return pd.DataFrame(
            {
                "units_a": self.counts_a, "units_b": self.counts_b, "within": self.within,
                "balance": self.balance,
            }
        )  # fmt: skip

    def plot(self, ax: Any = None) -> Any:
        """Draw the numbers of units of both nets in each cluster."""
        ax = new_axes(ax)
        at = np.arange(len(self.counts_a))
        ax.bar(at, self.counts_a, color=COLORS[0], label="units of a")
        ax.bar(at, -self.counts_b, color=COLORS[1], label="units of b (downwards)")
        ax.axhline(0, color="black", lw=0.8)
        ax.set_xticks(at)
        ax.yaxis.set_major_formatter(lambda count, _: f"{abs(count):g}")
        ax.set(xlabel="cluster", ylabel="units")
        ax.legend()
        return ax


class CoClusterer(BaseEstimator):
    """Cluster the units of two nets together by what they say of the same inputs.

    Parameters
    ----------
    n_clusters : int, optional
        None: where the gap between successive eigenvalues of L is largest, from 2 to 20 (at most half the units).
    affinity : {"abs", "positive"}
        Absolute correlation; or the correlation where it is positive, 0 elsewhere.
    hierarchical : bool
        Bisect again and again the cluster with the best cut (the least second eigenvalue of its own L) in place of one
        k-means.
    random_state : int, Generator or None
        Starts k-means.

    Attributes
    ----------
    labels_a_, labels_b_ : ndarray of int, shapes (p,) and (q,)
        Cluster of each unit, -1 for dead units (and units that no other one is like).
    counts_ : ndarray of int, shape (k, 2)
    clusters_ : CoClusters
    n_clusters_ : int
    eigenvalues_ : ndarray
        Of L, in rising order.
    n_features_in_ : int
    """

    def __init__(
        self,
        n_clusters: Any = None,
        affinity: Any = "abs",
        hierarchical: Any = False,
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.affinity = affinity
        self.hierarchical = hierarchical
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.single_output = False
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, Y: Any) -> CoClusterer:
        """Cluster the units of X, shape (n, p), and of Y, shape (n, q).

        Raises
        ------
        ValueError
            Bad input, different numbers of rows, fewer live units than clusters.
        """
        check_choice(self.affinity, ("abs", "positive"), "affinity")
        check_kind(self.hierarchical, bool, "hierarchical")
        if self.n_clusters is not None:
            check_in_range(self.n_clusters, "n_clusters", low=1, integer=True)
        if Y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        x, y = read_rows(X, Y)
        validate_data(self, X if hasattr(X, "columns") else x, skip_check_array=True)
        apart = [dead_units(rows.mean(0), rows.std(0)) for rows in (x, y)]
        for name, each in zip("XY", apart):
            if each.all():
                raise ValueError(f"{name} has no unit that varies over the rows: all {len(each)} are dead")
        dead = np.concatenate(apart)
        both = np.hstack([x, y])[:, ~dead]
        found = CrossMoments().update(both, both).correlation()
        W = np.abs(found) if self.affinity == "abs" else np.maximum(found, 0)
        np.fill_diagonal(W, 0)
        linked = W.sum(1) > 0
        W = W[np.ix_(linked, linked)]
        k, least = self.n_clusters, 2
        if len(W) < max(least, k or 0):
            raise ValueError(
                f"n_clusters must be at most the live units of both nets, got {k} with {len(W)} "
                f"({int(dead.sum())} of {len(dead)} are dead)"
            )
        self.eigenvalues_, vectors = _laplacian(W)
        if k is None:
            most = max(2, min(_MOST, len(W) // 2))
            gaps = np.diff(self.eigenvalues_)[1:most]  # entry i: between k = i + 2 and the next
            k = int(gaps.argmax()) + 2 if len(gaps) else 2
        seed = root_seed(self.random_state) % 2**32
        labels = _bisect(W, int(k), seed) if self.hierarchical else _part(vectors, int(k), seed)
        whole = np.full(len(dead), -1)
        whole[np.flatnonzero(~dead)[linked]] = labels
        self.labels_a_, self.labels_b_ = whole[: x.shape[1]], whole[x.shape[1] :]
        self.n_clusters_ = int(labels.max()) + 1
        self.counts_ = np.stack(
            [
                np.bincount(part[part >= 0], minlength=self.n_clusters_)
                for part in (self.labels_a_, self.labels_b_)
            ],
            1,
        )
        shares = self.counts_ / np.maximum(self.counts_.sum(0), 1)
        balance = 2 * shares.min(1) / shares.sum(1)
        sizes = self.counts_.sum(1)
        inside = np.array([W[np.ix_(labels == c, labels == c)].sum() for c in range(self.n_clusters_)])
        pairs = sizes * (sizes - 1)
        within = np.where(pairs > 0, inside / np.maximum(pairs, 1), np.nan)
        self.clusters_ = CoClusters(self.counts_[:, 0], self.counts_[:, 1], within, balance)
        return self


def _laplacian(W: Float[np.ndarray, "m m"]) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors of L in rising order."""
    root = 1 / np.sqrt(np.maximum(W.sum(1), np.finfo(float).tiny))
    return eigh(np.eye(len(W)) - root[:, None] * W * root)


def _part(vectors: Float[np.ndarray, "m m"], k: int, seed: int) -> Int[np.ndarray, " m"]:
    rows = vectors[:, :k]
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    # a part of the graph in which all these vectors vanish stays at 0
    rows = rows / np.where(lengths > 1e-8, lengths, np.inf)
    labels = KMeans(k, n_init=10, random_state=seed).fit(rows).labels_
    # numbered by their first unit: k-means numbers them as it started
    order = np.unique(labels, return_index=True)[1].argsort().argsort()
    return order[labels]


def _bisect(W: Float[np.ndarray, "m m"], k: int, seed: int) -> Int[np.ndarray, " m"]:
    labels = np.zeros(len(W), dtype=int)
    while (count := labels.max() + 1) < k:
        cuts = []
        for cluster in range(count):
            units = np.flatnonzero(labels == cluster)
            if len(units) > 1:
                values, vectors = _laplacian(W[np.ix_(units, units)])
                cuts.append((values[1], cluster, units, vectors))
        _, _, units, vectors = min(cuts, key=lambda cut: cut[:2])
        labels[units[_part(vectors, 2, derive_seed(seed, int(count)) % 2**32) == 1]] = count
    return labels


# ---- subspaces


@checked
def principal_angles(X: Any, Y: Any, *, variance: float | int = 1.0) -> Float[np.ndarray, " r"]:
    """Angles between the spans of two groups of units, in radians, the smallest first.

    Their cosines are the canonical correlations; small angles are exact here.

    Parameters
    ----------
    X, Y : array-like, shapes (n, p) and (n, q)
    variance : float
        Take of each group the leading directions with this share of its variance, in (0, 1].
    """
    if not check_in_range(variance, "variance", high=1.0) > 0:
        raise ValueError(f"variance must be in (0, 1], got {variance}")
    bases = []
    for name, rows in zip("XY", read_rows(X, Y)):
        basis, spread, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
        _check_spread(spread, rows, name)
        bases.append(basis[:, : leading(spread, variance)])
    return subspace_angles(*bases)[::-1].copy()


@checked
def subspace_dimension(X: Any, *, variance: float | int = 0.9) -> int:
    """How many principal directions of a group of units hold this share of its variance.

    Parameters
    ----------
    X : array-like, shape (n, p)
    variance : float
        In (0, 1].
    """
    if not check_in_range(variance, "variance", high=1.0) > 0:
        raise ValueError(f"variance must be in (0, 1], got {variance}")
    rows = check_matrix(X, min_rows=2)
    spread = np.linalg.svd(rows - rows.mean(0), compute_uv=False)
    _check_spread(spread, rows, "X")
    return leading(spread, variance)


def _check_spread(spread: np.ndarray, rows: np.ndarray, name: str) -> None:
    if not spread[0] > 1e-14 * math.sqrt(len(rows)) * np.abs(rows).max():
        raise ValueError(f"all rows of {name} are alike: they span nothing")
