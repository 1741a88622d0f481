"""k-means without chance: rows in an order of their own, starts by cutting, one run of Lloyd's algorithm.

One part is cut again and again: the one with the greatest sum of squares, at its mean, across its first principal
direction (T. Su and J. G. Dy, In search of deterministic methods for initializing k-means, 2007). Means of k parts
start k-means; those of k + 1 parts come from one cut more, so that all k cost as much as the largest.

Rows are first put in the order of their bytes, so that no sum depends on the order in which they came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import KMeans, MiniBatchKMeans
from threadpoolctl import threadpool_limits

from lodim.linalg.precision import power_of_two
from lodim.validation import check_counts, check_matrix, checked

__all__ = ["pca_part_init"]

MANY = 100_000  # rows above which Lloyd's algorithm takes mini-batches
_BATCH = 10_000


def canonical_order(X: Float[np.ndarray, "n d"]) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """An order of the rows that depends on their values only, and the first row in it that equals each."""
    X = np.ascontiguousarray(X + 0.0)  # -0.0 is 0.0
    order = np.argsort(X.view(np.dtype((np.void, X.itemsize * X.shape[1]))).ravel(), kind="stable")
    rows = X[order]
    starts = np.flatnonzero(np.r_[True, (rows[1:] != rows[:-1]).any(1)])
    return order, np.repeat(starts, np.diff(np.r_[starts, len(X)]))


@dataclass(frozen=True)
class Frame:
    """Coordinates ``(x - middle) / unit - mean``: centred, in a unit of the rows' spread, whose squares are floats."""

    middle: Float[np.ndarray, " d"]
    unit: float
    mean: Float[np.ndarray, " d"]

    @classmethod
    def of(cls, X: Float[np.ndarray, "n d"]) -> Frame:
        """The frame of some rows."""
        low, high = X.min(0), X.max(0)
        middle, unit = low / 2 + high / 2, power_of_two(float((high / 2 - low / 2).max()))
        return cls(middle, unit, ((X - middle) / unit).mean(0))

    def inward(self, X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """Rows in these coordinates."""
        return (X - self.middle) / self.unit - self.mean

    def outward(self, R: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """Rows of these coordinates as they were."""
        return self.middle + self.unit * (self.mean + R)


def principal(R: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, "r d"]]:
    """Sums of squares of centred rows along their principal directions, and these, largest entry positive."""
    if len(R) < R.shape[1]:
        _, s, V = np.linalg.svd(R, full_matrices=False)
        squares = s**2
    else:
        squares, V = np.linalg.eigh(R.T @ R)
        squares, V = squares[::-1].clip(min=0), V.T[::-1]
    largest = np.take_along_axis(V, np.abs(V).argmax(1)[:, None], 1)
    return squares, V * np.where(largest < 0, -1.0, 1.0)


def grow(Z: Float[np.ndarray, "n d"], k: int) -> list[Float[np.ndarray, "_ d"]]:
    """Means of 1, 2, ..., k parts; of fewer where no part has a sum of squares above zero."""
    parts, means, squares = [np.arange(len(Z))], [Z.mean(0)], [1.0]
    grown = [np.array(means)]
    while len(parts) < k and max(squares) > 0:
        at = int(np.argmax(squares))
        rows = Z[parts[at]] - means[at]
        along = rows @ principal(rows)[1][0]
        median = np.median(along)
        # at the mean; rounding may leave one side of it empty, and then at the median
        cuts = (along > 0, along >= median, along > median)
        right = next((cut for cut in cuts if cut.any() and not cut.all()), None)
        if right is None:
            squares[at] = 0.0
            continue
        halves = [parts[at][~right], parts[at][right]]
        parts[at : at + 1] = halves
        means[at : at + 1] = [Z[half].mean(0) for half in halves]
        squares[at : at + 1] = [
            float(np.square(Z[half] - Z[half].mean(0)).sum()) if np.ptp(Z[half], axis=0).any() else 0.0
            for half in halves
        ]
        grown.append(np.array(means))
    return grown


def lloyd(
    Z: Float[np.ndarray, "n d"], centres: Float[np.ndarray, "k d"], first: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "_ d"]]:
    """Labels and centres of the clusters that a run of k-means leaves, equal rows together; of many by mini-batches."""
    options = {"init": centres, "n_init": 1, "random_state": 0}
    if len(Z) <= MANY:
        run: Any = KMeans(len(centres), **options).fit(Z)
    else:  # the seed is fixed, and draws from rows that stand in their own order; no centre jumps at random
        run = MiniBatchKMeans(len(centres), batch_size=_BATCH, reassignment_ratio=0, **options).fit(Z)
    used, labels = np.unique(run.labels_[first], return_inverse=True)
    return labels, run.cluster_centers_[used]


@checked
def pca_part_init(X: Any, n_clusters: int | np.integer) -> Float[np.ndarray, "n_clusters features"]:
    """Centres to start k-means from, the same for the rows in any order.

    Parameters
    ----------
    X : array-like, shape (n_samples, n_features)
    n_clusters : int
        At most the number of distinct rows; squares of differences below 1e-150 of the spread are no numbers.

    Returns
    -------
    ndarray, shape (n_clusters, n_features)
        For ``sklearn.cluster.KMeans(n_clusters, init=centres, n_init=1)``.

    Raises
    ------
    ValueError
        Fewer distinct rows than clusters.

    Examples
    --------
    >>> from lodim.partition import pca_part_init
    >>> pca_part_init([[0.0], [1.0], [9.0], [10.0]], 2).tolist()
    [[0.5], [9.5]]
    """
    data = check_matrix(X)
    check_counts(n_clusters=n_clusters)
    rows = data[canonical_order(data)[0]]
    with threadpool_limits(1):
        frame = Frame.of(rows)
        grown = grow(frame.inward(rows), int(n_clusters))
    if len(grown) < n_clusters:
        raise ValueError(
            f"X has only {len(grown)} distinct rows at the scale of its spread: n_clusters must be at most that, got "
            f"{n_clusters}"
        )
    return frame.outward(grown[-1])
