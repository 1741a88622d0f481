"""What judges a partition, whoever made it: does it repeat, is it compact, and what do the usual curves over k say.

A clusterer repeats if the adjusted Rand index (ARI) of its answers to the same question is one. The question can be
asked again with another seed, with the rows in another order, or of another four fifths of them
(:func:`repeatability`); only the first two should never matter.

:func:`partition_curves` puts beside the mixtures' agreement what is commonly read to choose k: the silhouette, the
Bayesian information criterion, and the gap statistic of Tibshirani, Walther and Hastie (2001),

    gap(k) = mean over references of log W_ref(k) - log W(k),        W = sum of squares within clusters,

whose references are uniform in the box of ``components_`` (the principal ones, unless the model leaves none out, and
then the columns); it chooses the smallest k with
``gap(k) >= gap(k + 1) - s(k + 1)``, s the references' standard deviation times ``sqrt(1 + 1 / n_references)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from sklearn.base import clone
from sklearn.metrics import (
    adjusted_rand_score,
    davies_bouldin_score,
    pairwise_distances,
    pairwise_distances_argmin,
    pairwise_distances_argmin_min,
    silhouette_score,
)
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from lodim.partition.partial_labels import read_partial_labels
from lodim.partition.partitive_partitioning.kmeans import Frame, canonical_order, grow, lloyd
from lodim.partition.partitive_partitioning.partition import PPP, spaced
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.results import Result
from lodim.validation import check_choice, check_in_range, check_labels, check_matrix, checked

__all__ = [
    "Compactness",
    "PartitionCurves",
    "Repeatability",
    "compactness",
    "partition_curves",
    "repeatability",
]

MODES = ("seed", "permute", "subsample")
_PAIRS = 4000  # rows whose distances are all computed


def _few(R: Float[np.ndarray, "n d"]) -> np.ndarray:
    """At most 4,000 rows, evenly spaced in an order that is the rows' own."""
    if len(R) <= _PAIRS:
        return np.arange(len(R))
    return canonical_order(R)[0][np.linspace(0, len(R) - 1, _PAIRS).astype(np.int64)]


@dataclass(frozen=True)
class Repeatability(Result):
    """How alike the answers of a clusterer are, each to each.

    Attributes
    ----------
    ari : ndarray, shape (n_repeats, n_repeats)
        Adjusted Rand index of every pair of runs, on the rows that both have; noise (label -1) is one more group.
    n_clusters : tuple of int
        Of each run; noise is none.
    """

    method: str
    mode: str
    ari: Float[np.ndarray, "runs runs"]
    n_clusters: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Mean over pairs of runs: 1 if all answers are the same, about 0 if they have nothing in common."""
        return float(self.ari[np.triu_indices(len(self.ari), 1)].mean())

    @property
    def std(self) -> float:
        """Standard deviation over pairs of runs."""
        return float(self.ari[np.triu_indices(len(self.ari), 1)].std())

    def __str__(self) -> str:
        ks = ", ".join(f"{k} ({self.n_clusters.count(k)} x)" for k in sorted(set(self.n_clusters)))
        return (
            f"{self.method}, {self.mode}: mean ARI of {len(self.ari)} runs {self.mean:.3f} (sd {self.std:.3f}, least "
            f"{self.ari.min():.3f}); clusters: {ks}"
        )


def _codes(labels: Any, n: int) -> np.ndarray:
    """Clusters from 0, whatever they are called, and -1 for noise."""
    return read_partial_labels(check_labels(labels, n, name="labels"), n).codes


@checked
def repeatability(
    estimator: Any,
    X: Any,
    n_repeats: int | np.integer = 10,
    mode: str = "seed",
    *,
    random_state: RandomState = 0,
) -> Repeatability:
    """Ask a clusterer the same question several times, and compare its answers.

    Parameters
    ----------
    estimator : clusterer
        Any with ``fit_predict(X)``, of scikit-learn's kind (it is cloned): k-means, mixtures, pipelines.
    X : array-like, shape (n_samples, n_features)
        A data frame reaches the estimator as one. For ``metric="precomputed"`` the square matrix.
    n_repeats : int
        At least two.
    mode : {"seed", "permute", "subsample"}
        What changes from run to run: the seed (every parameter called ``random_state``), the order of the rows, or
        which four fifths of the rows there are.
    random_state : int, Generator or None
        Of the seeds, orders and samples. Where they do not change, seeds that the estimator leaves open are one seed.

    Raises
    ------
    TypeError
        An estimator without ``fit_predict``.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.datasets import load_iris
    >>> from lodim.partition import PPP, repeatability
    >>> X = load_iris().data
    >>> repeatability(PPP(), X, 3, "permute", random_state=0).mean
    1.0
    >>> repeatability(KMeans(8, n_init=1), X, 5, random_state=0).mean < 0.9
    True
    """
    check_choice(mode, MODES, "mode")
    check_in_range(n_repeats, "n_repeats", low=2, integer=True)
    if not (hasattr(estimator, "fit_predict") and hasattr(estimator, "get_params")):
        kind = type(estimator).__name__
        raise TypeError(f"estimator must be a clusterer with fit_predict and get_params, got {kind}")
    data, root = check_matrix(X), root_seed(random_state)
    n, given = len(data), X if hasattr(X, "columns") else data
    pairwise = hasattr(estimator, "__sklearn_tags__") and estimator.__sklearn_tags__().input_tags.pairwise
    answers, asked = np.zeros((int(n_repeats), n), dtype=np.int64), np.zeros((int(n_repeats), n), dtype=bool)
    for run, labels in enumerate(answers):
        rng = np.random.default_rng(derive_seed(root, mode, run))
        rows = np.arange(n)
        if mode != "seed":
            rows = rng.permutation(n)[: n if mode == "permute" else max(1, round(0.8 * n))]
        model = clone(estimator)
        drawn = {name: seed for name, seed in model.get_params().items() if name.endswith("random_state")}
        if mode == "seed":
            model.set_params(**dict.fromkeys(drawn, derive_seed(root, "model", run)))
        else:
            model.set_params(
                **{name: derive_seed(root, "model") for name, seed in drawn.items() if seed is None}
            )
        # rows of a matrix of distances or affinities are its columns too
        part = data[np.ix_(rows, rows)] if pairwise else _safe_indexing(given, rows)
        labels[rows], asked[run, rows] = _codes(model.fit_predict(part), len(rows)), True
    ari = np.ones((int(n_repeats),) * 2)
    for i, j in zip(*np.triu_indices(int(n_repeats), 1), strict=True):
        both = asked[i] & asked[j]
        ari[i, j] = ari[j, i] = adjusted_rand_score(answers[i, both], answers[j, both])
    counts = tuple(len(np.setdiff1d(labels[rows], [-1])) for labels, rows in zip(answers, asked, strict=True))
    return Repeatability(type(estimator).__name__, mode, ari, counts)


@dataclass(frozen=True)
class Compactness(Result):
    """How tight clusters are, and how far apart.

    Attributes
    ----------
    n, n_clusters : int
        Rows counted (all but noise), and their clusters.
    within_sse : float
        Sum of squared distances to the clusters' means.
    silhouette : float
        From -1 to 1, larger is better (on at most 4,000 rows).
    davies_bouldin : float
        From 0, smaller is better.
    """

    n: int
    n_clusters: int
    within_sse: float
    silhouette: float
    davies_bouldin: float

    def __str__(self) -> str:
        return (
            f"{self.n:,} rows in {self.n_clusters} clusters: SSE within {self.within_sse:.4g}, silhouette "
            f"{self.silhouette:.3f}, Davies-Bouldin {self.davies_bouldin:.3f}"
        )


@checked
def compactness(X: Any, labels: Any) -> Compactness:
    """Measure how compact a partition is.

    Parameters
    ----------
    X : array-like, shape (n_samples, n_features)
    labels : array-like, shape (n_samples,)
        Rows with label -1, which is noise, are left out.

    Raises
    ------
    ValueError
        Fewer than two clusters, as many as rows, or squares of X beyond the range of numbers.

    Examples
    --------
    >>> from lodim.partition import compactness
    >>> print(compactness([[0.0], [1.0], [9.0], [10.0]], [0, 0, 1, 1]))
    4 rows in 2 clusters: SSE within 1, silhouette 0.889, Davies-Bouldin 0.111
    """
    data = check_matrix(X)
    codes = _codes(labels, len(data))
    data, codes = data[codes >= 0], codes[codes >= 0]
    n_clusters = int(codes.max(initial=-1)) + 1
    if not 1 < n_clusters < len(data):
        raise ValueError(
            f"labels must name 2 clusters or more (-1 is noise), and fewer than rows; got {n_clusters} for "
            f"{len(data)} rows"
        )
    frame = Frame.of(data)
    R = frame.inward(data)
    means = np.array([R[codes == j].mean(0) for j in range(n_clusters)])
    squares = float(np.square(R - means[codes]).sum())
    within = squares * frame.unit * frame.unit
    if not np.isfinite(within) or (within == 0) != (squares == 0):
        raise ValueError("squares of X are beyond the range of numbers: divide X by a constant")
    few = _few(R)
    if not 1 < len(np.unique(codes[few])) < len(few):
        few = np.arange(len(R))
    silhouette, davies_bouldin = silhouette_score(R[few], codes[few]), davies_bouldin_score(R, codes)
    return Compactness(len(R), n_clusters, within, float(silhouette), float(davies_bouldin))


@dataclass(frozen=True)
class PartitionCurves(Result):
    """What four criteria say of each number of clusters.

    Attributes
    ----------
    k : tuple of int
    agreement : tuple of float
        Of k-means and the mixtures: the score of :class:`PPP`.
    silhouette : tuple of float
        In the components that the model keeps, as the gap is, so that :func:`compactness` of all columns differs.
    gap, gap_se : tuple of float
        Gap statistic, and the standard error s(k) of its references.
    bic : tuple of float
        Least of the families that were tried at every k (of all, where none was), smaller is better.
    """

    k: tuple[int, ...]
    agreement: tuple[float, ...]
    silhouette: tuple[float, ...]
    gap: tuple[float, ...]
    gap_se: tuple[float, ...]
    bic: tuple[float, ...]

    @property
    def choices(self) -> dict[str, int]:
        """The k that each criterion chooses; the gap's rule falls back on its largest value where no k meets it."""
        gap, s = np.array(self.gap), np.array(self.gap_se)
        met = np.flatnonzero(gap[:-1] >= gap[1:] - s[1:])
        at = {
            "agreement": len(self.k) - 1 - int(np.argmax(self.agreement[::-1])),
            "silhouette": int(np.argmax(self.silhouette)),
            "gap": int(met[0]) if len(met) else int(gap.argmax()),
            "bic": int(np.argmin(self.bic)),
        }
        return {name: self.k[place] for name, place in at.items()}

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each k."""
        names = ("k", "agreement", "silhouette", "gap", "gap_se", "bic")
        return pd.DataFrame({name: getattr(self, name) for name in names})

    def plot(self, ax: Any = None) -> Any:
        """Draw the curves, each from its worst (0) to its best (1), with a dot where it chooses.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        """
        ax = new_axes(ax)
        for (name, chosen), color in zip(self.choices.items(), COLORS, strict=False):
            values = np.array(getattr(self, name)) * (-1 if name == "bic" else 1)
            scaled = (values - values.min()) / (np.ptp(values) or 1.0)
            ax.plot(self.k, scaled, color=color, label=f"{name}: {chosen}")
            ax.plot(chosen, scaled[self.k.index(chosen)], "o", color=color)
        ax.set(xlabel="number of clusters", ylabel="worst to best", title="What each criterion chooses")
        ax.legend()
        return ax

    def __str__(self) -> str:
        table = self.to_frame().to_string(index=False, float_format=lambda value: f"{value:.4g}")
        return "\n".join([table, "chosen: " + ", ".join(f"{name} {k}" for name, k in self.choices.items())])


@checked
def partition_curves(
    model: PPP, X: Any, *, n_references: int | np.integer = 10, random_state: RandomState = 0
) -> PartitionCurves:
    """Put agreement, silhouette, gap and BIC of a fitted model's partitions side by side.

    Parameters
    ----------
    model : PPP
        Fitted with ``strategy="validate"``.
    X : array-like, shape (n_samples, n_features)
        The data of the fit.
    n_references : int
        Uniform data sets that the gap compares with, at least two.
    random_state : int, Generator or None
        Of these; the partitions have none.

    Raises
    ------
    ValueError
        Other rows than those of the fit; a model that merges, or of equal rows, which has no partitions to compare.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from lodim.partition import PPP, partition_curves
    >>> X = load_iris().data
    >>> partition_curves(PPP((2, 6)).fit(X), X, random_state=0).choices["silhouette"]
    2
    """
    check_is_fitted(model, "labels_")
    check_in_range(n_references, "n_references", low=2, integer=True)
    if model.strategy != "validate" or not model.validation_curve_:
        raise ValueError(
            "model has no partitions over k: fit it with strategy='validate', to rows that differ"
        )
    rng, Z = as_generator(random_state), model._inward(X)
    if len(Z) != len(model.labels_) or (model.predict(X) == model.labels_).mean() < 0.99:
        raise ValueError(
            "X must be the data of the fit: the model gives these rows other labels than it learnt"
        )
    ks = tuple(model.validation_curve_)
    Z = Z[spaced(Z)]
    few = Z[_few(Z)]
    distances = pairwise_distances(few)
    silhouettes = []
    for k in ks:
        labels = pairwise_distances_argmin(few, model._partitions[k])
        shown = 1 < len(np.unique(labels)) < len(few)
        silhouettes.append(float(silhouette_score(distances, labels, metric="precomputed")) if shown else 0.0)
    kept = set.intersection(*(set(model.bic_[k]) for k in ks)) or set(model.families)
    own = np.log([_within(Z, model._partitions[k]) for k in ks])
    low, high = Z.min(0), Z.max(0)
    references = []
    with threadpool_limits(1):  # the same bits, as in the fit
        for _ in range(n_references):
            U = rng.uniform(low, high, Z.shape)
            grown = grow(U, max(ks))
            references.append([_within(U, lloyd(U, grown[k - 1], np.arange(len(U)))[1]) for k in ks])
    logs = np.log(references)
    return PartitionCurves(
        ks,
        tuple(model.validation_curve_.values()),
        tuple(silhouettes),
        tuple((logs.mean(0) - own).tolist()),
        tuple((logs.std(0) * np.sqrt(1 + 1 / n_references)).tolist()),
        tuple(min(bic for family, bic in model.bic_[k].items() if family in kept) for k in ks),
    )


def _within(Z: Float[np.ndarray, "n d"], centres: Float[np.ndarray, "k d"]) -> float:
    """Sum of squared distances to the nearest centre; rounding's where every row is at one, for it has a logarithm."""
    least = np.finfo(np.float64).eps ** 2 * float(np.square(Z).sum())
    return max(least, float(np.square(pairwise_distances_argmin_min(Z, centres)[1]).sum()))
