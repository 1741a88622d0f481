"""Probabilistic partitive partitioning: a partition by k-means that mixtures of Gaussians uphold.

k-means answers differently for every random start and has to be told k. Here rows are projected on the fewest principal
components with a share ``variance`` of the variance, and k-means starts from a fixed partition
(:mod:`lodim.partition.partitive_partitioning.kmeans`), which gives one partition z_k for each k. For each family f of
covariances a mixture of k Gaussians starts from z_k (its shares, means *and* precisions) and EM takes it to z_k^f. With
ARI the adjusted Rand index and p_f the posterior,

    score(k) = mean_f ARI(z_k, z_k^f),        k* = argmax_k score(k),        p(i) = mean_f p_f(z_i | x_i),

and row i is separable if every family places it as k-means does and ``p(i) > tau``. ``strategy="merge"`` needs no range
of k: of ``k0`` parts and a mixture with one covariance, the two whose posteriors overlap most are made one,

    overlap(i, j) = max(mean of p(j | x) over the rows of i, mean of p(i | x) over the rows of j),

while that is more than ``merge_threshold``.

=====================  ==========================================
in the paper           name here
=====================  ==========================================
k-means partition      ``labels_``, :func:`pca_part_init`
validation             ``validation_curve_``, ``family_scores_``
most separable set     ``separable_mask_``, ``separable_features_``
=====================  ==========================================

Source: Mujahid Sultan 2020, arXiv 2003.04372. Verified is the abstract only (mixtures validate partitions of k-means;
the result repeats and is compact; k is not given; a most separable set); the acceptance rule is a (reconstruction).

For the same bits at every run, rows stand in an order of their own, equal rows are given what the first of them gets,
and one thread computes: Lloyd's algorithm adds the sums of several as they finish.

Among equal scores the *finest* partition is taken. Of groups far apart every merger is upheld as well: with seven of
them k = 2 to 7 may all score 1, and the smallest would be wrong each time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.feature_selection import f_classif
from sklearn.metrics import adjusted_rand_score, pairwise_distances_argmin
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from lodim.partition.partitive_partitioning.kmeans import Frame, canonical_order, grow, lloyd, principal
from lodim.validation import (
    ConvergenceWarning,
    check_choice,
    check_counts,
    check_in_range,
    check_matrix,
    warn,
)

__all__ = ["PPP"]

FAMILIES = ("spherical", "diag", "tied", "full")
SAMPLE = 20_000  # rows that mixtures are fitted to
_FAR = 1e100  # times the data's spread: squares are still floats
_FEW = 5  # rows of a cluster; fewer are near their own mean wherever it is


def spaced(Z: Float[np.ndarray, "n d"]) -> Int[np.ndarray, " m"]:
    """All rows, or 20,000 evenly spaced along the first component."""
    if len(Z) <= SAMPLE:
        return np.arange(len(Z))
    along = np.argsort(Z[:, 0], kind="stable")
    return np.sort(along[np.linspace(0, len(Z) - 1, SAMPLE).astype(np.int64)])


def n_numbers(family: str, k: int, d: int) -> int:
    """Free means and covariances of a mixture of k Gaussians in d dimensions."""
    triangle = d * (d + 1) // 2
    return k * d + {"spherical": k, "diag": k * d, "tied": triangle, "full": k * triangle}[family]


def started(
    family: str, S: np.ndarray, labels: np.ndarray, centres: np.ndarray, share: np.ndarray, reg: float
) -> GaussianMixture:
    """A mixture that is to start from a partition; without precisions, those of a k-means with a seed would come in."""
    k, d = centres.shape
    D = S - centres[labels]
    groups = [D] if family == "tied" else [D[labels == j] for j in range(k)]
    if family in ("tied", "full"):
        covariance = np.array([G.T @ G / max(1, len(G)) for G in groups])
        precision = np.linalg.inv(covariance + reg * np.eye(d))
        precision = (precision + precision.swapaxes(1, 2)) / 2
    else:
        variance = np.array([np.square(G).sum(0) / max(1, len(G)) for G in groups])
        precision = 1 / (reg + (variance if family == "diag" else variance.mean(1)))
    return GaussianMixture(
        k, covariance_type=family, reg_covar=reg, random_state=0, weights_init=share, means_init=centres,
        precisions_init=precision[0] if family == "tied" else precision,
    )  # fmt: skip


def by_f_ratio(R: np.ndarray, labels: np.ndarray) -> Int[np.ndarray, " features"]:
    """Columns by falling F ratio between clusters, constant ones last; none where there are no two clusters."""
    if not 1 < len(np.unique(labels)) < len(labels):
        return np.zeros(0, dtype=np.int64)
    top = np.abs(R).max(0)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        F, _ = f_classif(R / np.where(top > 0, top, 1.0), labels)
    return np.argsort(-np.nan_to_num(F, nan=-1.0), kind="stable")


@dataclass(eq=False, repr=False)
class PPP(ClusterMixin, BaseEstimator):
    """Clusters that are the same at every run, their number chosen, and the rows that surely belong.

    There is no seed: the same rows, in any order, give the same labels to the last bit.

    The score of a partition is **no test** that there are groups. One Gaussian, or a uniform cube, is cut somewhere
    too, and mixtures uphold some of these cuts (scores of 0.8 to 0.9 in three to five dimensions). Ask
    :func:`lodim.partition.groups` first, which compares with data that have none.

    Parameters
    ----------
    k_range : pair of int
        Smallest and largest number of clusters tried; ``(k, k)`` for a known number.
    variance : float, optional
        Share of the variance that the principal components keep (two at least); None for no reduction.
    n_components : int, optional
        Their number, in place of ``variance``.
    families : sequence of str
        Covariances of the mixtures: ``"spherical"``, ``"diag"``, ``"tied"``, ``"full"``. Where one has more numbers to
        fit than there are rows it is left out, but for the leanest. ``"merge"`` takes ``"tied"``.
    tau : float
        Probability above which a row can be separable.
    strategy : {"validate", "merge"}
        Choose k by the mixtures' agreement, or merge overlapping parts: finer clusters.
    k0, merge_threshold : int, float
        Parts to begin with and overlap at which merging ends, for ``"merge"``.
    reg : float
        Added to variances, as a share of their mean; from 1e-9 to 1.
    max_iter : int
        Steps of EM.

    Attributes
    ----------
    labels_ : ndarray of int, shape (n_samples,)
        The largest cluster is 0.
    n_clusters_ : int
    validation_curve_ : dict of int to float
        Score of each k; for ``"merge"`` the agreement at each number of parts on the way.
    family_scores_, bic_ : dict of int to dict
        Each family's adjusted Rand index with k-means, and its Bayesian information criterion (smaller is better).
    probabilities_ : ndarray, shape (n_samples,)
        Probability of each row's own cluster.
    separable_mask_ : ndarray of bool, shape (n_samples,)
        Rows that all families place as k-means does, with a probability above ``tau``.
    separable_features_ : ndarray of int
        Columns by falling F ratio between clusters (analysis of variance) of the separable rows; empty where these are
        in fewer than two.
    cluster_centers_ : ndarray, shape (n_clusters, n_features)
        Mean rows.
    components_ : ndarray, shape (n_components, n_features)
        Directions in which clusters are sought.
    n_iter_ : int
        Most steps of EM that a family took at the k chosen.

    Notes
    -----
    Mixtures are fitted to 20,000 rows, evenly spaced along the first component (and one of each cluster that these
    miss). Above 100,000 rows k-means takes mini-batches.

    References
    ----------
    Mujahid Sultan 2020, arXiv 2003.04372; the acceptance rule is a (reconstruction).

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.preprocessing import StandardScaler
    >>> from lodim.partition import PPP
    >>> model = PPP().fit(StandardScaler().fit_transform(load_wine().data))
    >>> model.n_clusters_, round(model.validation_curve_[3], 2), round(float(model.separable_mask_.mean()), 2)
    (3, 0.88, 0.85)
    """

    k_range: Any = (2, 15)
    variance: Any = 0.9
    n_components: Any = None
    families: Any = FAMILIES
    tau: Any = 0.95
    strategy: Any = "validate"
    k0: Any = 30
    merge_threshold: Any = 0.02
    reg: Any = 1e-3
    max_iter: Any = 100

    def _check_parameters(self, n: int, n_features: int) -> None:
        check_choice(self.strategy, ("validate", "merge"), "strategy")
        pair = self.k_range
        if not isinstance(pair, list | tuple | np.ndarray) or getattr(pair, "ndim", 1) != 1 or len(pair) != 2:
            raise ValueError(f"k_range must be a pair, the smallest and the largest k, got {pair!r}")
        low, high = (check_in_range(k, "k_range", low=2, integer=True) for k in pair)
        if not low <= high or (low >= n and self.strategy == "validate"):
            raise ValueError(f"k_range must rise, from less than the {n} rows of X; got {low} to {high}")
        if self.variance is not None and check_in_range(self.variance, "variance", low=0, high=1) == 0:
            raise ValueError("variance must be above 0, or None for no reduction")
        if self.n_components is not None:
            check_in_range(self.n_components, "n_components", low=1, high=min(n, n_features), integer=True)
        if not isinstance(self.families, list | tuple | np.ndarray) or not len(self.families):
            raise ValueError(f"families must be a list of some of {FAMILIES}, got {self.families!r}")
        for family in self.families:
            check_choice(family, FAMILIES, "families")
        for value, name, least in ((self.tau, "tau", 0), (self.merge_threshold, "merge_threshold", 0),
                                   (self.reg, "reg", 1e-9)):  # fmt: skip
            check_in_range(value, name, low=least, high=1)
        check_in_range(self.k0, "k0", low=2, integer=True)
        check_counts(max_iter=self.max_iter)

    def fit(self, X: Any, y: Any = None, *, progress: Callable[[float, str], Any] | None = None) -> PPP:
        """Choose the partition.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
            Columns in one unit: standardise them where they are not.
        y : ignored
        progress : callable, optional
            ``progress(done, text)`` after every k, ``done`` in [0, 1].

        Raises
        ------
        ValueError
            Bad input or parameters, or fewer than three rows.

        Warns
        -----
        UserWarning
            No k scores 0.5 ("no validated structure"); the partition chosen has fewer than five rows a cluster; there
            are fewer than twice as many rows as the largest k, or fewer distinct ones; k-means loses clusters of rows
            whose distances are lost in rounding.
        ConvergenceWarning
            EM has not converged at the k chosen.
        """
        data = check_matrix(X, min_rows=3)
        self._check_parameters(*data.shape)
        validate_data(self, X if hasattr(X, "columns") else data, skip_check_array=True)
        order, first = canonical_order(data)
        with threadpool_limits(1), warnings.catch_warnings(record=True) as said:
            # EM's at every k: below is told that of the chosen
            warnings.simplefilter("ignore", ConvergenceWarning)
            rows = data[order]
            self._frame = Frame.of(rows)
            R = self._frame.inward(rows)
            self.components_ = self._directions(R)
            Z = (R @ self.components_.T)[first]  # a product may round equal rows differently
            nearest = self._choose(Z, first, progress or (lambda done, text: None))
            each = [P[first] for P in self._posteriors(Z)]
        self.n_iter_ = max((mixture.n_iter_ for mixture in self._mixtures), default=0)
        for warning in said:
            warn(str(warning.message), warning.category)
        if slow := [mixture.covariance_type for mixture in self._mixtures if not mixture.converged_]:
            said_of = f"{', '.join(slow)} within max_iter={self.max_iter} steps"
            warn(f"EM has not converged for {said_of}: allow more", ConvergenceWarning)
        P, of_centre = sum(each[1:], each[0]) / len(each), self._group[nearest]
        labels = of_centre if self.strategy == "validate" else P.argmax(1)
        own = P[np.arange(len(P)), labels]
        separable = np.all([Q.argmax(1) == of_centre for Q in each], axis=0) & (own > self.tau)
        self.n_clusters_ = P.shape[1]
        means = np.array([R[labels == j].mean(0) for j in range(self.n_clusters_)])
        self.cluster_centers_ = self._frame.outward(means)
        self.separable_features_ = by_f_ratio(R[separable], labels[separable])
        place = np.argsort(order)  # of the rows as they came
        self.labels_, self.probabilities_, self.separable_mask_ = labels[place], own[place], separable[place]
        return self

    def _directions(self, R: np.ndarray) -> np.ndarray:
        if self.n_components is None and self.variance is None:
            return np.eye(R.shape[1])
        squares, V = principal(R)
        if self.n_components is not None:
            return V[: self.n_components]
        shares = np.cumsum(squares) / max(squares.sum(), np.finfo(float).tiny)
        return V[: max(2, 1 + int(np.searchsorted(shares, self.variance * (1 - 1e-12))))]

    def _choose(self, Z: np.ndarray, first: np.ndarray, progress: Callable[[float, str], Any]) -> np.ndarray:
        """Fix centres, mixtures, and the cluster that each centre belongs to; return each row's nearest centre."""
        self.validation_curve_: dict[int, float] = {}
        self.family_scores_: dict[int, dict[str, float]] = {}
        self.bic_: dict[int, dict[str, float]] = {}
        self._partitions: dict[int, np.ndarray] = {}
        merge = self.strategy == "merge"
        low, wanted = (int(self.k0),) * 2 if merge else (int(k) for k in self.k_range)
        high = min(wanted, max(2 if merge else low, len(Z) // 2))
        grown = grow(Z, high)
        if len(grown) == 1:
            warn("all rows of X are equal: there is one cluster")
            self._mixtures, self._centres, self._group = [], grown[0], np.zeros(1, dtype=np.int64)
            return np.zeros(len(Z), dtype=np.int64)
        if len(grown) < wanted:
            distinct = f"only {len(grown)} distinct rows at the scale of its spread"
            reason = distinct if len(grown) < high else f"{len(Z)} rows"
            warn(f"X has {reason}: k goes up to {len(grown)}, not {wanted}")
        sample, reg = spaced(Z), float(self.reg * Z.var(0).mean())
        best, tried = -np.inf, range(min(low, len(grown)), len(grown) + 1)
        for done, k in enumerate(tried, 1):
            labels, centres = lloyd(Z, grown[k - 1], first)
            if len(centres) < k:
                warn(
                    f"k-means left {len(centres)} of {k} clusters: the others are lost in rounding, or in mini-batches"
                )
                k = len(centres)
            self._partitions[k], share = centres, np.bincount(labels) / len(Z)
            _, of_each = np.unique(labels, return_index=True)
            missed = np.setdiff1d(np.arange(k), labels[sample])
            seen = np.union1d(
                sample, of_each[missed]
            )  # without a row of its own a Gaussian drifts to the middle
            mixtures = self._uphold(k, Z[seen], labels[seen], share, reg)
            score = self.validation_curve_[k]
            # the finest of equals: groups far apart uphold every merger of theirs
            if score >= best:
                best, nearest, self._centres, self._mixtures = score, labels, centres, mixtures
                self._group, rows_each = np.argsort(np.argsort(-share, kind="stable")), len(Z) / k
            progress(done / len(tried), f"k = {k}: agreement {score:.3f}")
        if merge:
            self._merge(Z, nearest)
        elif best < 0.5:
            warn(f"no validated structure: the best agreement of k-means and mixtures is {best:.2f}")
        elif low < wanted and rows_each < _FEW:
            warn(
                f"clusters have {rows_each:.1f} rows on average, which mixtures uphold wherever they are: lower k_range"
            )
        return nearest

    def _uphold(
        self, k: int, S: np.ndarray, labels: np.ndarray, share: np.ndarray, reg: float
    ) -> list[GaussianMixture]:
        """Fit the mixtures that start from a partition, and note how far each stays with it."""
        families = ("tied",) if self.strategy == "merge" else self.families
        centres = self._partitions[k]
        numbers = {family: n_numbers(family, *centres.shape) for family in families}
        mixtures, self.family_scores_[k], self.bic_[k] = [], {}, {}
        for family, number in numbers.items():
            if len(S) < number > min(numbers.values()):
                continue
            mixture = started(family, S, labels, centres, share, reg).set_params(max_iter=int(self.max_iter))
            self.family_scores_[k][family] = float(adjusted_rand_score(labels, mixture.fit_predict(S)))
            self.bic_[k][family] = float(mixture.bic(S))
            mixtures.append(mixture)
        self.validation_curve_[k] = float(np.mean(list(self.family_scores_[k].values())))
        return mixtures

    def _merge(self, Z: np.ndarray, nearest: np.ndarray) -> None:
        """Merge the parts whose posteriors overlap most, until none overlap much."""
        P = self._mixtures[0].predict_proba(Z)
        group = np.arange(P.shape[1])
        while True:
            own, k = P.argmax(1), P.shape[1]
            counts = np.bincount(own, minlength=k)
            self.validation_curve_[k] = float(adjusted_rand_score(group[nearest], own))
            W = np.where(counts > 0, np.eye(k)[own], P)  # a part that no row prefers has a share of all
            overlap = W.T @ P / W.sum(0)[:, None]
            overlap = np.maximum(overlap, overlap.T)
            np.fill_diagonal(overlap, 0.0)
            i, j = sorted(np.unravel_index(overlap.argmax(), overlap.shape))
            if k == 1 or (overlap[i, j] <= self.merge_threshold and counts.all()):
                self._group = np.argsort(np.argsort(-counts, kind="stable"))[group]
                return
            P[:, i] += P[:, j]
            P = np.delete(P, j, 1)
            group[group == j] = i
            group[group > j] -= 1

    def _posteriors(self, Z: np.ndarray) -> list[np.ndarray]:
        """Each family's posteriors of the clusters; sums of them may round to more than one."""
        member = np.eye(int(self._group.max()) + 1)[self._group]
        each = [np.minimum(mixture.predict_proba(Z) @ member, 1.0) for mixture in self._mixtures]
        return each or [np.ones((len(Z), 1))]

    def _inward(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "labels_")
        data = check_matrix(X)
        validate_data(self, X if hasattr(X, "columns") else data, reset=False, skip_check_array=True)
        with np.errstate(over="ignore", invalid="ignore"):
            Z = self._frame.inward(data) @ self.components_.T
        if not np.abs(Z).max() <= _FAR:  # NaN too
            raise ValueError("X is too far from the data of the fit: is it in another unit?")
        return Z

    def predict(self, X: Any) -> Int[np.ndarray, " n_samples"]:
        """Cluster of new rows: that of the nearest centre, for ``"merge"`` the most probable one.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
        """
        Z = self._inward(X)
        if self.strategy == "merge":
            return self._posteriors(Z)[0].argmax(1)
        return self._group[pairwise_distances_argmin(Z, self._centres)]

    def predict_proba(self, X: Any) -> Float[np.ndarray, "n_samples n_clusters"]:
        """Membership probabilities of new rows: the mean of the families' posteriors.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
        """
        each = self._posteriors(self._inward(X))
        return sum(each[1:], each[0]) / len(each)
