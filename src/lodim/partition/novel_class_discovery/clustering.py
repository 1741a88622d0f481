r"""Clusterings of unlabelled rows that know where the classes with labels lie, and how many clusters there are.

**NCD k-means.** The centroids of the known classes are their means. The new ones begin at unlabelled rows, drawn one
after the other as k-means++ does, but far from the known centroids too:

.. math:: P(x_i) \propto \min_{c \in \text{known} \cup \text{drawn}} \Vert x_i - c \Vert^p,

and Lloyd's steps then move the new ones to the means of the unlabelled rows nearest to them, the known ones standing
still. Of several starts the one with the least sum of squared distances counts.

**NCD spectral clustering.** The same in the embedding of *all* rows by the eigenvectors 2, ..., u + 1 of the normalised
Laplacian :math:`I - D^{-1/2} A D^{-1/2}` of :math:`A_{ij} = \exp(-\Vert x_i - x_j \Vert^2 / 2 \sigma^2)`, :math:`A_{ii}
= 0`. The width follows from one number in (0, 1): the longest edge of the Euclidean minimum spanning tree, without
which the rows would fall apart, is to have the similarity s.

.. math:: \sigma^2 = -d_{\max}^2 / (2 \ln s)

=======================  ==================================================
symbol in the paper      name here
=======================  ==================================================
:math:`C^l, C^u`         ``classes_``, ``n_novel``
``min_dist`` (code)      ``min_dist``, s above
u                        ``n_components``
=======================  ==================================================

Source: Colin Troisemaine and others, 2023, arXiv 2311.05440. Departures: p is 1, as in the authors' code, not the 2 of
k-means++ (``power``); the best of ten starts hardly differs. Their code uses
:math:`\sigma^2 = -d_{\max}^2 / \ln s`, which gives that edge the similarity :math:`\sqrt s` (``legacy_sigma=True``).
Rows that come later take the label of the nearest centroid, or of the nearest row of a spectral clustering; the paper
has none.
"""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import linkage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial.distance import cdist, pdist, squareform
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.manifold import spectral_embedding
from sklearn.metrics import (
    calinski_harabasz_score,
    davies_bouldin_score,
    pairwise_distances_argmin,
    silhouette_score,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from lodim.neighbors import NeighborIndex, n_distinct
from lodim.neighbors.queries import safe_scale
from lodim.partition.partial_labels import PartialLabels, read_partial_labels
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.results import Result
from lodim.validation import (
    ConvergenceWarning,
    check_choice,
    check_counts,
    check_in_range,
    check_matrix,
    checked,
    warn,
)

__all__ = ["NCDKMeans", "NCDSpectralClustering", "NovelClassCount", "NovelClassEstimator", "estimate_n_novel"]

INDICES = ("silhouette", "calinski_harabasz", "davies_bouldin", "elbow")
# rows, at most, that are clustered to count; of which distances are compared
_COUNTED, _COMPARED = 10_000, 2_000
_DENSE, _NEIGHBORS = 5_000, 30  # rows up to which all pairs are edges; edges of each row above
_UNEVEN = 1e3
_AT_ONCE = 10_000_000  # distances held at a time


@dataclass(frozen=True)
class NovelClassCount(Result):
    """How many clusters some rows fall into, by an index of validity.

    Attributes
    ----------
    n_novel : int
        The number at which the index is best.
    index : str
    k : tuple of int
        The numbers tried.
    score : tuple of float
        The index at each; of Davies-Bouldin less is better, of the others more.
    """

    n_novel: int
    index: str
    k: tuple[int, ...]
    score: tuple[float, ...]

    def __str__(self) -> str:
        best = self.score[self.k.index(self.n_novel)]
        return f"{self.n_novel} classes, of {self.k[0]} to {self.k[-1]} ({self.index} {best:.3g})"

    def to_frame(self) -> Any:
        """Return the index at every number as a data frame: k, score."""
        import pandas as pd

        return pd.DataFrame({"k": self.k, "score": self.score})

    def plot(self, ax: Any = None) -> Any:
        """Draw the index over the number of clusters, and return the axes."""
        from lodim.plots import COLORS, new_axes

        ax = new_axes(ax)
        ax.plot(self.k, self.score, "o-", color=COLORS[0])
        ax.axvline(self.n_novel, color=COLORS[1])
        ax.set(xlabel="number of classes", ylabel=self.index.replace("_", " "))
        return ax


@checked
def estimate_n_novel(
    X: Any,
    n_novel_range: Any = (2, 30),
    *,
    index: str = "silhouette",
    random_state: RandomState = 0,
) -> NovelClassCount:
    """Count clusters: k-means for every number of a range, judged by an index of validity.

    The paper counts in the learnt latent space (``PBN(...).fit(X, y).transform(X[unlabelled])``); to compare, count in
    the raw space too. Of more than 10,000 rows so many are drawn, and silhouettes compare 2,000 of them.

    Parameters
    ----------
    X : array-like, shape (n_samples, n_features)
        Unlabelled rows.
    n_novel_range : (int, int)
        Numbers tried, both included; never more than the distinct rows less one.
    index : {"silhouette", "calinski_harabasz", "davies_bouldin", "elbow"}
        The elbow is the number at which the sum of squared distances lies furthest below the straight line between
        its values at both ends.
    random_state : int, Generator or None

    Raises
    ------
    ValueError
        Fewer than three distinct rows, or a range that does not begin at 2 or above.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(90, 2)) + np.repeat([[0, 0], [9, 0], [0, 9]], 30, axis=0)
    >>> print(estimate_n_novel(X, (2, 6), random_state=0))
    3 classes, of 2 to 6 (silhouette 0.803)
    """
    low, high = _check_range(n_novel_range, "n_novel_range")
    check_choice(index, INDICES, "index")
    data = check_matrix(X)
    _check_countable(data, low, "X")
    seed = root_seed(random_state)
    rng = as_generator(derive_seed(seed, "rows"))
    rows = data[rng.permutation(len(data))[:_COUNTED]] / safe_scale(data)
    rows = rows - np.median(rows, axis=0)  # the index of Davies and Bouldin loses the digits of an offset
    k = tuple(range(low, min(high, n_distinct(rows) - 1) + 1))
    few = np.arange(min(len(rows), _COMPARED))
    distances = squareform(pdist(rows[few])) if index == "silhouette" else np.empty((0, 0))
    found, inertia = [], []
    for number in k:
        model = KMeans(number, n_init=10, random_state=derive_seed(seed, number)).fit(rows)
        inertia.append(float(model.inertia_))
        if index == "silhouette":
            there = len(np.unique(model.labels_[few]))
            usable = 1 < there < len(few)
            found.append(
                silhouette_score(distances, model.labels_[few], metric="precomputed") if usable else -1.0
            )
        elif index != "elbow":
            score = calinski_harabasz_score if index == "calinski_harabasz" else davies_bouldin_score
            found.append(score(rows, model.labels_))
    if index == "elbow":
        found = list(np.linspace(inertia[0], inertia[-1], len(k)) - inertia)
    best = int(np.argmin(found) if index == "davies_bouldin" else np.argmax(found))
    return NovelClassCount(k[best], index, k, tuple(map(float, found)))


def _check_range(n_range: Any, name: str) -> tuple[int, int]:
    listed = isinstance(n_range, tuple | list) or (isinstance(n_range, np.ndarray) and n_range.ndim == 1)
    if not listed or len(n_range) != 2:
        raise ValueError(f"{name} must be two numbers, the least and the most, got {n_range!r}")
    low, high = (check_in_range(n, name, low=2, integer=True) for n in n_range)
    if high < low:
        raise ValueError(f"{name} must be the least number and the most, got ({low}, {high})")
    return int(low), int(high)


def _check_countable(rows: np.ndarray, low: int, name: str) -> None:
    if (distinct := n_distinct(rows)) <= low:
        raise ValueError(
            f"{name} has {distinct} distinct rows (n_samples = {len(rows)}); to count {low} classes or more takes "
            f"{low + 1}: give n_novel, or more rows"
        )


def novel_names(classes: np.ndarray, k: int) -> np.ndarray:
    """Names of k novel classes that no known one has: numbers above the largest, or "novel 0", "novel 1", ..."""
    if classes.dtype.kind in "iuf":
        last = float(
            classes.max(initial=-1)
        )  # half and single precision have no room for large numbers plus one
        if not np.isfinite(last) or last > 2**53:
            raise ValueError(f"y must hold labels below 2**53, after which new ones are counted, got {last}")
        return (np.floor(last) + 1 + np.arange(k)).astype(
            np.float64 if classes.dtype.kind == "f" else np.int64
        )
    numbers = [int(m[1]) for name in classes if (m := re.fullmatch(r"novel (\d{1,9})", str(name)))]
    return np.array([f"novel {max(numbers, default=-1) + 1 + j}" for j in range(k)])


class NovelClassEstimator(BaseEstimator):
    """What estimators of novel classes share: how y is read, how classes are named, and labels of new rows.

    A subclass has ``_sort_rows(data, codes, novel)``: it learns from rows whose codes are 0 ... n_known - 1, or -1
    without a label, returns the cluster of each row of the mask ``novel``, and leaves ``_anchors`` and
    ``_anchor_codes``: points and what they stand for, a known class or n_known + a cluster.
    """

    n_novel: Any
    n_novel_range: Any
    _needs_known: ClassVar[bool] = False

    def fit(self, X: Any, y: Any = None) -> Any:
        """Sort the unlabelled rows.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
        y : array-like, shape (n_samples,)
            Labels; -1, None or NaN for rows without one.

        Raises
        ------
        ValueError
            No row without a label, no row with one where the method needs it, fewer unlabelled rows than novel
            classes, or parameters out of range.
        """
        return self._fit(X, y)

    def _fit(self, X: Any, y: Any, **options: Any) -> Any:
        data, labels = self._read(X, y)
        codes = labels.codes.copy()
        novel = codes < 0
        codes[novel] = len(self.classes_) + self._sort_rows(data, codes, novel, **options)
        self.novel_classes_ = novel_names(self.classes_, self.n_novel_)
        self._names = np.concatenate([self.classes_, self.novel_classes_])
        self.labels_ = self._names[codes]
        return self

    def _read(self, X: Any, y: Any) -> tuple[np.ndarray, PartialLabels]:
        data = check_matrix(X, min_rows=2)
        validate_data(self, X if hasattr(X, "columns") else data, skip_check_array=True)
        if y is None and self._needs_known:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: give labels of known "
                "classes, and -1 for rows without"
            )
        labels = read_partial_labels(np.full(len(data), -1) if y is None else y, len(data))
        if labels.known.all():
            raise ValueError(
                "y must mark rows without a label by -1 (or None, NaN): they are sorted into novel classes, and there "
                f"is none (n_samples = {len(data)})"
            )
        if self._needs_known and not labels.known.any():
            raise ValueError(
                f"y labels no row, and {type(self).__name__} learns from known classes; cluster instead"
            )
        kind = labels.classes.dtype.kind
        number, plain = kind in "iuf", kind in "b" or not len(labels.classes)
        self.classes_ = labels.classes if number else labels.classes.astype(np.int64 if plain else np.str_)
        rows, (fewest, _) = data[~labels.known], _check_range(self.n_novel_range, "n_novel_range")
        if self.n_novel is None:
            _check_countable(rows, fewest, "the unlabelled part of X")
        elif check_in_range(self.n_novel, "n_novel", low=1, integer=True) > (distinct := n_distinct(rows)):
            raise ValueError(
                f"n_novel={self.n_novel} classes need as many distinct unlabelled rows, got {distinct}"
            )
        _warn_if_uneven(data, getattr(X, "columns", None))
        return data, labels

    def _sort_rows(self, data: Any, codes: Any, novel: Any) -> Int[np.ndarray, " n_unlabelled"]:
        raise NotImplementedError

    def _count(self, rows: np.ndarray, seed: int) -> int:
        """How many novel classes there are, as given or counted among these rows."""
        self.count_ = None
        if self.n_novel is None:
            self.count_ = estimate_n_novel(rows, self.n_novel_range, random_state=derive_seed(seed, "count"))
        self.n_novel_ = int(self.n_novel if self.count_ is None else self.count_.n_novel)
        return self.n_novel_

    def _center(self, data: np.ndarray) -> np.ndarray:
        """Note a unit and a middle in which distances are exact, and return the rows there."""
        self._scale = safe_scale(data)
        # the median, by which a single row far away costs the others no digits
        self._middle = np.median(data / self._scale, axis=0)
        return self._inside(data)

    def _inside(self, data: np.ndarray) -> np.ndarray:
        return data / self._scale - self._middle

    def _query(self, X: Any) -> np.ndarray:
        """New rows, where distances to the anchors are taken."""
        check_is_fitted(self)
        data = check_matrix(X)
        validate_data(self, X if hasattr(X, "columns") else data, skip_check_array=True, reset=False)
        return self._inside(data)

    def predict(self, X: Any) -> np.ndarray:
        """Name each row's class, known or novel, by what lies nearest to it.

        That is a centroid, or for spectral clusterings a row of the fit. A rough decision between known and novel: on
        rows of which you know that they are novel, use :meth:`predict_novel`.

        Parameters
        ----------
        X : array-like, shape (n_queries, n_features)

        Returns
        -------
        ndarray, shape (n_queries,)
            Entries of ``classes_`` and ``novel_classes_``.
        """
        rows = self._query(X)
        return self._names[self._anchor_codes[nearest_anchor(rows, self._anchors)]]

    def predict_novel(self, X: Any) -> np.ndarray:
        """Name each row's class among the novel ones.

        Parameters
        ----------
        X : array-like, shape (n_queries, n_features)

        Returns
        -------
        ndarray, shape (n_queries,)
            Entries of ``novel_classes_``.
        """
        rows, novel = self._query(X), self._anchor_codes >= len(self.classes_)
        return self._names[self._anchor_codes[novel][nearest_anchor(rows, self._anchors[novel])]]


def nearest_anchor(
    rows: Float[np.ndarray, "n d"], anchors: Float[np.ndarray, "m d"]
) -> Int[np.ndarray, " n"]:
    """Which anchor is nearest to each row, by squared differences as in the fit.

    The square of a difference, multiplied out, would lose anchors that are close to each other and far from zero; a
    difference loses them for a row that is far from all, which is therefore drawn nearer.
    """
    reach = 1e6 * (float(np.abs(anchors).max()) or 1.0)
    rows = rows / np.maximum(np.abs(rows).max(1, keepdims=True) / reach, 1.0)
    parts = np.array_split(rows, 1 + len(rows) * len(anchors) // _AT_ONCE)
    return np.concatenate([cdist(part, anchors, "sqeuclidean").argmin(1) for part in parts])


def _warn_if_uneven(data: np.ndarray, columns: Any) -> None:
    """Say that one column decides, where units differ."""
    size = np.abs(data).max(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = (data / np.where(size > 0, size, 1.0)).std(0)
    spread = np.where(deviation > 1e-12, deviation * size, np.nan)
    if np.isnan(spread).all() or np.nanmax(spread) / _UNEVEN <= np.nanmin(spread):
        return
    names = np.arange(len(spread)) if columns is None else np.asarray(columns)
    wide, narrow = np.nanargmax(spread), np.nanargmin(spread)
    warn(
        f"standard deviations of the columns differ by more than {_UNEVEN:g}, from {spread[narrow]:.3g} (column "
        f"{names[narrow]}) to {spread[wide]:.3g} (column {names[wide]}): the widest decides alone; standardise X first",
        stacklevel=6,
    )


def class_means(rows: Float[np.ndarray, "n d"], codes: Int[np.ndarray, " n"]) -> Float[np.ndarray, "k d"]:
    """Mean of the rows of each code from 0 up; rows of code -1 do not count."""
    return np.stack([rows[codes == c].mean(0) for c in range(codes.max(initial=-1) + 1)] or [np.empty(0)])


def place_centroids(
    rows: Float[np.ndarray, "n d"],
    known: Float[np.ndarray, "m d"] | None,
    k: int,
    seed: int,
    *,
    update: str = "novel",
    power: int = 2,
    n_init: int = 10,
    max_iter: int = 300,
) -> tuple[Float[np.ndarray, "c d"], Int[np.ndarray, " n"], float, int]:
    """NCD k-means: known centroids and k new ones below them, the new one of each row, sum of squares, and steps."""
    n_known = 0 if known is None else len(known)
    moving = {"novel": slice(n_known, None), "known": slice(n_known), "both": slice(None)}[update]
    best: tuple[np.ndarray, np.ndarray, float, int] | None = None
    unfinished = 0
    for start in range(n_init):
        rng = as_generator(derive_seed(seed, "start", start))
        novel = draw_seeds(rows, known, k, power, rng)
        centroids = novel if known is None else np.vstack((known, novel))
        n_iter, settled = move_centroids(rows, centroids[moving], max_iter)
        unfinished += not settled
        squares = cdist(rows, centroids[n_known:], "sqeuclidean")
        inertia = float(squares.min(1).sum())
        if best is None or inertia < best[2]:
            best = centroids, squares.argmin(1), inertia, n_iter
    if unfinished:
        warn(
            f"{unfinished} of {n_init} starts of k-means still moved after max_iter={max_iter} steps",
            ConvergenceWarning,
            stacklevel=6,
        )
    assert best is not None
    return best


def draw_seeds(
    rows: Float[np.ndarray, "n d"], known: np.ndarray | None, k: int, power: int, rng: np.random.Generator
) -> Float[np.ndarray, "k d"]:
    """Draw k rows one after the other, in proportion to a power of the distance to the nearest centroid so far."""
    nearest = np.full(len(rows), np.inf) if known is None else cdist(rows, known, "sqeuclidean").min(1)
    chosen: list[int] = []
    for _ in range(k):
        weight = nearest ** (power / 2) if np.isfinite(nearest[0]) else np.ones(len(rows))
        total = weight.sum()
        chosen.append(int(rng.choice(len(rows), p=weight / total if total > 0 else None)))
        nearest = np.minimum(nearest, cdist(rows, rows[chosen[-1:]], "sqeuclidean")[:, 0])
    return rows[chosen]


def move_centroids(rows: np.ndarray, centroids: Float[np.ndarray, "k d"], max_iter: int) -> tuple[int, bool]:
    """Lloyd's steps, in place, until no row changes its centroid; how many, and whether that was reached.

    A centroid without rows stays where it is.
    """
    before = None
    for n_iter in range(max_iter):
        nearest = cdist(rows, centroids, "sqeuclidean").argmin(1)
        if before is not None and np.array_equal(nearest, before):
            return n_iter, True
        before, counts = nearest, np.bincount(nearest, minlength=len(centroids))
        member = csr_array(
            (np.ones(len(rows)), (nearest, np.arange(len(rows)))), shape=(len(centroids), len(rows))
        )
        filled = counts > 0
        centroids[filled] = (member @ rows)[filled] / counts[filled, None]
    return max_iter, False


@dataclass(eq=False, repr=False)
class NCDKMeans(NovelClassEstimator):
    """k-means whose new centroids keep away from those of the known classes; without labels it is k-means.

    Parameters
    ----------
    n_novel : int, optional
        Novel classes; counted by silhouettes (:func:`estimate_n_novel`) unless given.
    n_novel_range : (int, int)
        Numbers tried to count them.
    update : {"novel", "known", "both"}
        Which centroids unlabelled rows move.
    power : {1, 2}
        Seeds are drawn in proportion to this power of the distance to the nearest centroid.
    n_init : int
        Starts.
    max_iter : int
        Steps of a start.
    random_state : int, Generator or None

    Attributes
    ----------
    labels_ : ndarray, shape (n_samples,)
        Of known rows their label, of unlabelled ones a novel class.
    classes_, novel_classes_ : ndarray
        Labels of known classes, and of novel ones: numbers that follow the largest known, or texts "novel 0", ...
    n_novel_ : int
    count_ : NovelClassCount or None
        How they were counted.
    cluster_centers_ : ndarray, shape (n_known + n_novel, n_features)
    inertia_ : float
        Sum of squared distances of unlabelled rows to their centroids; infinite where that is beyond double precision.
    n_iter_ : int
        Steps of the start that was best.

    References
    ----------
    Troisemaine et al. 2023, arXiv 2311.05440.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(90, 2)) + np.repeat([[0, 0], [9, 0], [0, 9]], 30, axis=0)
    >>> y = np.repeat([0, -1, -1], 30)
    >>> model = NCDKMeans(2, random_state=0).fit(X, y)
    >>> np.unique(model.labels_).tolist(), model.predict([[0.5, 0.0]]).tolist()
    ([0, 1, 2], [0])
    """

    n_novel: Any = None
    _: KW_ONLY
    n_novel_range: Any = (2, 30)
    update: Any = "novel"
    power: Any = 1
    n_init: Any = 10
    max_iter: Any = 300
    random_state: Any = None

    def _sort_rows(self, data: Any, codes: Any, novel: Any) -> Int[np.ndarray, " n_unlabelled"]:
        check_choice(self.update, ("novel", "known", "both"), "update")
        check_in_range(self.power, "power", low=1, high=2, integer=True)
        check_counts(n_init=self.n_init, max_iter=self.max_iter)
        seed = root_seed(self.random_state)
        rows = self._center(data)
        k = self._count(rows[novel], seed)
        known = class_means(rows, codes) if (codes >= 0).any() else None
        found = place_centroids(
            rows[novel], known, k, seed,
            update=self.update if known is not None else "novel",
            power=int(self.power), n_init=int(self.n_init), max_iter=int(self.max_iter),
        )  # fmt: skip
        self._anchors, clusters, inertia, self.n_iter_ = found
        self._anchor_codes = np.arange(len(self._anchors))
        self.cluster_centers_ = (self._anchors + self._middle) * self._scale
        self.inertia_ = float(inertia * self._scale * self._scale)
        return clusters


@dataclass(eq=False, repr=False)
class NCDSpectralClustering(NovelClassEstimator):
    """NCD k-means in the spectral embedding of all rows, labelled and not; without labels it is spectral clustering.

    Up to 5,000 rows every pair is an edge; above, each row's 30 nearest are, and pieces that these leave apart are
    joined by their shortest edges.

    Parameters
    ----------
    n_novel : int, optional
        Novel classes; counted by silhouettes in the embedding unless given.
    n_novel_range : (int, int)
        Numbers tried to count them.
    min_dist : float
        Similarity, in (0, 1), of the longest edge of the minimum spanning tree.
    n_components : int, optional
        Eigenvectors after the constant one; as many as known and novel classes (ten novel ones where these are to be
        counted) unless given.
    legacy_sigma : bool
        Whether the width is that of the authors' code.
    n_init : int
        Starts of the k-means.
    random_state : int, Generator or None

    Attributes
    ----------
    labels_, classes_, novel_classes_, n_novel_, count_
        As of :class:`NCDKMeans`.
    sigma_ : float
        Width of the kernel, in the unit of X.
    embedding_ : ndarray, shape (n_samples, n_components)

    References
    ----------
    Troisemaine et al. 2023, arXiv 2311.05440.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(90, 2)) + np.repeat([[0, 0], [9, 0], [0, 9]], 30, axis=0)
    >>> model = NCDSpectralClustering(2, random_state=0).fit(X, np.repeat([0, -1, -1], 30))
    >>> np.unique(model.labels_, return_counts=True)[1].tolist()
    [30, 30, 30]
    """

    n_novel: Any = None
    _: KW_ONLY
    n_novel_range: Any = (2, 30)
    min_dist: Any = 0.5
    n_components: Any = None
    legacy_sigma: Any = False
    n_init: Any = 10
    random_state: Any = None

    def _sort_rows(self, data: Any, codes: Any, novel: Any) -> Int[np.ndarray, " n_unlabelled"]:
        check_counts(n_init=self.n_init)
        seed = root_seed(self.random_state)
        rows, n_known = self._center(data), int(codes.max(initial=-1)) + 1
        q = self.n_components
        if q is None:
            q = max(1, min(n_known + int(self.n_novel or 10), len(rows) - 2))
        if check_in_range(q, "n_components", low=1, integer=True) > len(rows) - 2:
            raise ValueError(
                f"n_components={q} eigenvectors need at least {q + 2} rows, got n_samples = {len(rows)}"
            )
        affinity, sigma = spanning_affinity(rows, self.min_dist, legacy_sigma=self.legacy_sigma)
        self.sigma_ = sigma * self._scale
        self.embedding_ = laplacian_eigenvectors(affinity, int(q), derive_seed(seed, "eigenvectors"))
        k = self._count(self.embedding_[novel], seed)
        known = class_means(self.embedding_, codes) if n_known else None
        clusters = place_centroids(self.embedding_[novel], known, k, seed, n_init=int(self.n_init))[1]
        sorted_codes = codes.copy()
        sorted_codes[novel] = n_known + clusters
        self._anchors, self._anchor_codes = rows[sorted_codes >= 0], sorted_codes[sorted_codes >= 0]
        return clusters


def spanning_affinity(
    rows: Float[np.ndarray, "n d"], min_dist: float, *, legacy_sigma: bool = False
) -> tuple[Any, float]:
    """Gaussian similarities, dense or sparse, zero on the diagonal, and their width by the minimum spanning tree."""
    if not 0 < check_in_range(min_dist, "min_dist") < 1:
        raise ValueError(f"min_dist must lie between 0 and 1, both excluded, got {min_dist}")
    dense = len(rows) <= _DENSE
    if dense:
        pairs = pdist(rows)
        longest = float(linkage(pairs, "single")[-1, 2])  # single linkage joins along that tree
    else:
        graph = joined_neighbors(rows, _NEIGHBORS)
        longest = float(minimum_spanning_tree(graph).data.max())
    if not longest > 1e-150:
        raise ValueError("all rows of X are equal; there is nothing to cluster")
    sigma = longest * float(np.sqrt(-(1.0 if legacy_sigma else 0.5) / np.log(min_dist)))
    if dense:
        return squareform(np.exp(-0.5 * (pairs / sigma) ** 2)), sigma
    graph.data = np.exp(-0.5 * (graph.data / sigma) ** 2)
    return graph, sigma


def joined_neighbors(rows: Float[np.ndarray, "n d"], k: int) -> csr_array:
    """Distances along the k-nearest-neighbour graph, both ways, with the shortest edges that make it connected."""
    n, own = len(rows), np.arange(len(rows))
    distances, neighbors = NeighborIndex("l2").fit(rows).kneighbors(rows, k, exclude_ids=own)
    tiny = np.finfo(np.float64).tiny  # a zero would be no edge
    edges = np.maximum(distances.ravel(), tiny), (np.repeat(own, k), neighbors.ravel())
    graph = csr_array(edges, shape=(n, n))
    while True:
        graph = graph.maximum(graph.T)
        n_pieces, piece = connected_components(graph, directed=False)
        if n_pieces == 1:
            # of 32-bit indices, which scikit-learn wants
            graph.indices, graph.indptr = graph.indices.astype(np.int32), graph.indptr.astype(np.int32)
            return graph
        joints: list[tuple[float, int, int]] = []
        for c in range(n_pieces):
            here, there = np.flatnonzero(piece == c), np.flatnonzero(piece != c)
            nearest = pairwise_distances_argmin(rows[here], rows[there])
            distance = np.linalg.norm(rows[here] - rows[there[nearest]], axis=1)
            i = int(distance.argmin())
            joints.append((max(float(distance[i]), tiny), int(here[i]), int(there[nearest[i]])))
        lengths, starts, ends = (np.array(part) for part in zip(*joints, strict=True))
        graph = graph.maximum(csr_array((lengths, (starts, ends)), shape=(n, n)))


def laplacian_eigenvectors(affinity: Any, q: int, seed: int) -> Float[np.ndarray, "n q"]:
    """Eigenvectors 2, ..., q + 1 of the normalised Laplacian, of unit length."""
    found = spectral_embedding(affinity, n_components=q, eigen_solver="arpack", random_state=seed)
    degree = np.asarray(affinity.sum(1)).ravel()
    return found * np.sqrt(degree)[:, None]  # scikit-learn divides by the root of the degree
