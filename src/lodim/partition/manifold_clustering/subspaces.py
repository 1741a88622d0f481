r"""Groups of directions: how flat and how far apart they are, their code length, and two ways to find them.

With the second moment :math:`\Sigma_j = Z_j^\top Z_j / n_j` of a group's rows, rows in d dimensions are coded as draws
of a centred Gaussian with covariance :math:`\Sigma_j + (\epsilon^2 / d) I`. The total length of a grouping, in nats,

.. math:: \sum_j \frac{n_j + d}{2} \log\det\Big(I + \frac{d}{\epsilon^2} \Sigma_j\Big) - n_j \log\frac{n_j}{n},

counts the coefficients, the subspaces (the d in n_j + d) and which row is in which group, so that it is shortest at
some number of groups; and a new row belongs to the group that codes it in the fewest nats, its nearest subspace:

.. math:: \arg\min_j\; \frac{d}{\epsilon^2} z^\top \Big(I + \frac{d}{\epsilon^2} \Sigma_j\Big)^{-1} z
          + \log\det\Big(I + \frac{d}{\epsilon^2} \Sigma_j\Big).

Sources: Y. Ma, H. Derksen, W. Hong, J. Wright, Segmentation of multivariate mixed data via lossy data coding and
compression, IEEE TPAMI 29 (2007), for lengths; C. You, D. Robinson, R. Vidal, arXiv 1507.01238, for the sparse
affinity; T. Ding and others, arXiv 2301.01805.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import KMeans
from sklearn.manifold import spectral_embedding

from lodim.linalg.precision import power_of_two
from lodim.metrics import coding_rate
from lodim.plots import new_axes
from lodim.randomness import RandomState, derive_seed, root_seed
from lodim.results import Result
from lodim.validation import (
    ConvergenceWarning,
    check_counts,
    check_in_range,
    check_labels,
    check_matrix,
    checked,
    warn,
)

__all__ = [
    "ClusterGeometry", "cluster_geometry", "coding_length", "numerical_rank", "spectral_labels", "subspace_affinity",
]  # fmt: skip

_BLOCK = 2048
_RIDGE = 1e-10  # keeps equal directions solvable
_SYMMETRY = 1e-3
_EQUAL = 1e-6  # from one, of the cosine of rows that memberships cannot tell apart


@dataclass(frozen=True)
class ClusterGeometry(Result):
    """How flat groups of directions are, and how far apart.

    Attributes
    ----------
    clusters : ndarray, shape (k,)
        Their labels.
    sizes, ranks : int ndarray, shape (k,)
        Rows, and numerical rank, of each.
    rank : int
        Numerical rank of all rows together.
    cosines : ndarray, shape (k, k)
        Mean absolute cosine of two different rows, of one group (one for a group of one row) or of two.
    within, between : float
        The same over all pairs of one group, and over all others; NaN where there are none.
    rate, mean_rate : float
        R and Rc of :func:`lodim.metrics.coding_rate`.
    """

    clusters: np.ndarray
    sizes: Int[np.ndarray, " k"]
    ranks: Int[np.ndarray, " k"]
    rank: int
    cosines: Float[np.ndarray, "k k"]
    within: float
    between: float
    rate: float
    mean_rate: float

    def to_frame(self) -> Any:
        """Return one row a cluster."""
        import pandas as pd

        off = np.where(np.eye(len(self.cosines), dtype=bool), -np.inf, self.cosines)
        near = off.max(1) if len(off) > 1 else np.full(1, np.nan)
        columns = {"cluster": self.clusters, "size": self.sizes, "rank": self.ranks}
        return pd.DataFrame({**columns, "cosine": self.cosines.diagonal(), "cosine to the nearest": near})

    def plot(self, ax: Any = None) -> Any:
        """Draw the cosines of all pairs of clusters as a map and return the axes."""
        ax = new_axes(ax, figsize=(4.6, 4.0))
        picture = ax.imshow(self.cosines, vmin=0, vmax=1, cmap="viridis")
        ticks = range(len(self.clusters))
        ax.set_xticks(ticks, map(str, self.clusters))
        ax.set_yticks(ticks, map(str, self.clusters))
        ax.grid(visible=False)
        ax.set(xlabel="cluster", ylabel="cluster", title="mean |cosine| of rows")
        ax.figure.colorbar(picture, ax=ax)
        return ax

    def __str__(self) -> str:
        sizes, ranks = (f"{low}" if low == high else f"{low} to {high}"
                        for low, high in ((v.min(), v.max()) for v in (self.sizes, self.ranks)))  # fmt: skip
        return (
            f"{len(self.sizes)} clusters of {sizes} rows: rank {ranks} each, {self.rank} together; mean |cosine| "
            f"{self.within:.3g} within, {self.between:.3g} between; rates {self.rate:.4g} - {self.mean_rate:.4g} = "
            f"{self.rate - self.mean_rate:.4g} nats"
        )


@checked
def numerical_rank(Z: Any, energy: float | int = 0.95) -> int:
    """The fewest directions that hold a share of the squared length of rows; the rows are not centred.

    Parameters
    ----------
    Z : array-like or Tensor, shape (n, d)
    energy : float
        The share, in (0, 1].

    Examples
    --------
    >>> numerical_rank([[3.0, 0.0], [0.0, 1.0], [3.0, 0.0]]), numerical_rank([[3.0, 0.0], [0.0, 1.0], [3.0, 0.0]], 0.9)
    (2, 1)
    """
    if not check_in_range(energy, "energy", low=0.0, high=1.0) > 0:
        raise ValueError(f"energy must be positive, got {energy}")
    rows = _scaled(check_matrix(Z, name="Z"))
    held = np.cumsum(np.linalg.svd(rows, compute_uv=False) ** 2)
    return int((held < energy * held[-1] * (1 - 1e-12)).sum()) + 1 if held[-1] > 0 else 0


@checked
def cluster_geometry(Z: Any, labels: Any, *, eps2: float | int = 0.2) -> ClusterGeometry:
    """Ranks, cosines and rates of labelled rows.

    Parameters
    ----------
    Z : array-like or Tensor, shape (n, d)
        Features; only their directions count.
    labels : array-like, shape (n,)
    eps2 : float
        Squared distortion of the rates.

    Examples
    --------
    >>> print(cluster_geometry([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]], list("aabb")))
    2 clusters of 2 rows: rank 1 each, 2 together; mean |cosine| 1 within, 0 between; rates 3.584 - 2.398 = 1.186 nats
    """
    rows = unit_rows(check_matrix(Z, name="Z"))
    given = check_labels(labels, len(rows), name="labels")
    clusters, codes = np.unique(given.tolist() if given.dtype == object else given, return_inverse=True)
    one_hot = np.eye(len(clusters))[codes]
    sizes = one_hot.sum(0)
    sums = np.zeros((len(clusters), len(clusters)))
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        sums += one_hot[block].T @ (np.abs(rows[block] @ rows.T) @ one_hot)
    own = one_hot.T @ np.square(rows).sum(1)  # a row with itself
    sums[np.diag_indices_from(sums)] -= own
    pairs = np.outer(sizes, sizes) - np.diag(sizes)
    same = np.eye(len(clusters), dtype=bool)
    within, between = (
        float(sums[part].sum() / pairs[part].sum()) if pairs[part].any() else math.nan
        for part in (same, ~same)
    )
    return ClusterGeometry(
        clusters=clusters, sizes=sizes.astype(int), rank=numerical_rank(rows), within=within, between=between,
        ranks=np.array([numerical_rank(rows[codes == j]) for j in range(len(clusters))]),
        cosines=np.where(pairs > 0, sums / np.maximum(pairs, 1), 1.0),
        rate=coding_rate(rows, eps2), mean_rate=coding_rate(rows, eps2, one_hot),
    )  # fmt: skip


@checked
def coding_length(Z: Any, labels: Any, *, eps2: float | int = 0.2) -> float:
    """Nats that a grouping takes: coefficients, subspaces and memberships; the shortest says how many groups there are.

    Parameters
    ----------
    Z : array-like or Tensor, shape (n, d)
        Features; only their directions count.
    labels : array-like, shape (n,)
    eps2 : float
        Squared distortion.

    References
    ----------
    Ma, Derksen, Hong and Wright 2007.
    """
    rows = unit_rows(check_matrix(Z, name="Z"))
    codes = np.unique(check_labels(labels, len(rows), name="labels"), return_inverse=True)[1]
    n, d = rows.shape
    total = 0.0
    for j, size in enumerate(np.bincount(codes)):
        total += (size + d) / 2 * coding_rate(rows[codes == j], eps2) - size * math.log(size / n)
    return total


@checked
def spectral_labels(
    membership: Any, n_clusters: int, *, random_state: RandomState = None
) -> Int[np.ndarray, " n"]:
    """Groups of a symmetric affinity: leading eigenvectors of its normalised Laplacian, unit rows, k-means.

    Eigenvectors and k-means (ten starts) are scikit-learn's.

    Parameters
    ----------
    membership : array-like or Tensor, shape (n, n), or a scipy sparse matrix
        Nonnegative and symmetric, such as :func:`pairwise_membership` or :func:`subspace_affinity`.
    n_clusters : int
    random_state : int, Generator or None

    Raises
    ------
    ValueError
        Not square, negative, complex or not symmetric, or more clusters than rows.

    Warns
    -----
    ConvergenceWarning
        More pieces that no affinity joins than clusters.

    Examples
    --------
    >>> import numpy as np
    >>> found = spectral_labels(np.kron(np.eye(2), np.ones((3, 3))) + 0.01, 2, random_state=0)
    >>> int(found[0]) == int(found[1]) != int(found[3]) == int(found[4])
    True
    """
    check_counts(n_clusters=n_clusters)
    sparse = scipy.sparse.issparse(membership)
    if sparse and membership.dtype.kind not in "biuf":
        raise ValueError(f"membership must hold real numbers, got {membership.dtype}")
    affinity: Any = (
        scipy.sparse.csr_array(membership, dtype=np.float64)
        if sparse
        else check_matrix(membership, name="membership")
    )
    values = affinity.data if sparse else affinity
    if affinity.shape[0] != affinity.shape[1] or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(f"membership must be square, finite and nonnegative, got shape {affinity.shape}")
    if sparse:
        affinity.indices, affinity.indptr = (
            part.astype(np.int32) for part in (affinity.indices, affinity.indptr)
        )
    # sums of rows must neither over- nor underflow
    affinity = affinity / power_of_two(float(values.max(initial=0.0)), 1e-100, 1e100)
    if abs(affinity - affinity.T).max() > _SYMMETRY * affinity.max():
        raise ValueError("membership must be symmetric; take the mean of it and its transpose")
    if n_clusters > affinity.shape[0]:
        raise ValueError(f"n_clusters={n_clusters} is more than the {affinity.shape[0]} rows of membership")
    seed = root_seed(random_state)
    return groups_of(spectral_coordinates(affinity, int(n_clusters), seed), int(n_clusters), seed)


def spectral_coordinates(affinity: Any, n_clusters: int, seed: int) -> Float[np.ndarray, "n k"]:
    """The leading eigenvectors, as many as clusters (but fewer than rows, which the solver needs)."""
    n = affinity.shape[0]
    if min(n_clusters, n - 1) < 2:
        return np.ones((n, 1))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = spectral_embedding(
            affinity, n_components=min(n_clusters, n - 1), drop_first=False,
            random_state=derive_seed(seed, "embedding"),
        )  # fmt: skip
    for warning in said:
        if "not fully connected" not in str(warning.message):
            warn(str(warning.message), warning.category)
        elif (n_pieces := connected_components(affinity, directed=False)[0]) > n_clusters:
            warn(
                f"nothing joins {n_pieces} pieces of the affinity, more than the {n_clusters} clusters: which of them "
                "go together is left to chance",
                ConvergenceWarning,
            )
    return found


def groups_of(coordinates: Float[np.ndarray, "n k"], n_clusters: int, seed: int) -> Int[np.ndarray, " n"]:
    """k-means of the unit rows of the first so many coordinates."""
    n = len(coordinates)
    if n_clusters in (1, n):
        return np.arange(n) % n_clusters
    rows = unit_rows(coordinates[:, :n_clusters])
    model = KMeans(n_clusters, n_init=10, random_state=derive_seed(seed, "k-means", n_clusters))
    return model.fit_predict(rows).astype(np.int64)


@checked
def subspace_affinity(X: Any, n_nonzero: int = 5) -> Any:
    """Sparse self-expression: each direction as a combination of few others, found by orthogonal matching pursuit.

    Rows of one subspace use each other; the affinity is the size of the coefficients, made symmetric. A peer of
    manifold clustering for data on subspaces already (SSC-OMP); n^2 numbers are held at once.

    Parameters
    ----------
    X : array-like or Tensor, shape (n, d)
        Only directions count.
    n_nonzero : int
        Rows that a row may use: at least the dimension of a subspace.

    Returns
    -------
    scipy.sparse.csr_array, shape (n, n)

    References
    ----------
    You, Robinson and Vidal, arXiv 1507.01238.

    Examples
    --------
    >>> subspace_affinity([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]], 1).toarray()
    array([[0., 2., 0., 0.],
           [2., 0., 0., 0.],
           [0., 0., 0., 2.],
           [0., 0., 2., 0.]])
    """
    check_counts(n_nonzero=n_nonzero)
    rows = unit_rows(check_matrix(X))
    n = len(rows)
    if n_nonzero > n - 1:
        raise ValueError(f"n_nonzero={n_nonzero} must be below the {n} rows of X")
    gram = rows @ rows.T
    free = ~np.eye(n, dtype=bool)
    chosen, weights = np.empty((n, 0), dtype=np.int64), np.empty((n, 0))
    left, each = gram.copy(), np.arange(n)
    for _ in range(int(n_nonzero)):
        best = np.where(free, np.abs(left), -1.0).argmax(1)
        free[each, best] = False
        chosen = np.c_[chosen, best]
        among = gram[chosen[:, :, None], chosen[:, None, :]] + _RIDGE * np.eye(chosen.shape[1])
        weights = np.linalg.solve(among, gram[each[:, None], chosen][..., None])[..., 0]
        left = gram - sum(weights[:, [t]] * gram[chosen[:, t]] for t in range(chosen.shape[1]))
    size = np.abs(weights).ravel()
    size[size < 1e-6] = 0.0  # rounding, once the row is explained
    at = (
        each.repeat(chosen.shape[1]).astype(np.int32),
        chosen.ravel().astype(np.int32),
    )  # as scikit-learn wants them
    found = scipy.sparse.csr_array((size, at), shape=(n, n))
    return found + found.T


def second_moments(Z: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, "k d d"]:
    """Of the rows of each group, labels from 0."""
    groups = (Z[labels == j] for j in range(labels.max() + 1))
    return np.stack([rows.T @ rows / len(rows) for rows in groups])


def nearest_subspace(
    Z: Float[np.ndarray, "n d"], moments: Float[np.ndarray, "k d d"], eps2: float
) -> Int[np.ndarray, " n"]:
    """The group that codes each row in the fewest nats."""
    d = Z.shape[1]
    grown = np.eye(d) + d / eps2 * moments
    lengths = [
        d / eps2 * np.einsum("ni,ni->n", Z, np.linalg.solve(M, Z.T).T) + np.linalg.slogdet(M)[1]
        for M in grown
    ]
    return np.argmin(lengths, axis=0)


def distinct_directions(codes: Float[np.ndarray, "n d"]) -> int:
    """How many unit rows there are when equal ones, and opposite ones, count once (to single precision)."""
    return len(np.unique((np.abs(codes @ codes.T) > 1 - _EQUAL).argmax(1)))


def unit_rows(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows of length one, zero rows apart, whatever their squares would be."""
    rows = rows / np.maximum(np.abs(rows).max(1, keepdims=True), np.finfo(np.float64).tiny)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)


def _scaled(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    return rows / (np.abs(rows).max() or 1.0)
