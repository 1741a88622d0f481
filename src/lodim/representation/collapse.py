r"""How far features have collapsed to their class means, and the means to a frame: the metrics of neural collapse.

Features :math:`h_i \in R^d` of N rows in K classes have class means :math:`\mu_k` and a global mean :math:`\mu_G`; with

.. math:: \Sigma_W = \frac1N \sum_i (h_i - \mu_{y_i})(h_i - \mu_{y_i})^\top, \qquad
          \Sigma_B = \frac1K \sum_k (\mu_k - \mu_G)(\mu_k - \mu_G)^\top

the first metric is :math:`\mathrm{NC}_1 = \operatorname{tr}(\Sigma_W \Sigma_B^+) / K`. Neither matrix is formed. The
centred means, K x d, have singular values s and right singular vectors v, so that :math:`\Sigma_B^+ = K \sum_i v_i
v_i^\top / s_i^2` and

.. math:: \mathrm{NC}_1 = \sum_i \frac{v_i^\top \Sigma_W v_i}{s_i^2},

a sum of squares over squares: never negative, whatever the rounding (the pseudo-inverse of a d x d matrix with a
default cut-off gives negative values), in O(N d K).

Two passes, since the first metric of collapsed features is far below the rounding of sums of squares.

References
----------
V. Papyan, X. Y. Han, D. L. Donoho, Prevalence of neural collapse during the terminal phase of deep learning training,
PNAS 117 (2020). H. Dang and others, arXiv 2301.00437. T. Tirer, H. Huang, J. Niles-Weed, arXiv 2210.16658. T. Galanti,
A. Gyorgy, M. Hutter, On the role of neural collapse in transfer learning, arXiv 2112.15121 (class-distance normalised
variance).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lodim.validation import check_choice, check_labels, check_matrix, check_numbers, checked

__all__ = [
    "ClassGeometry",
    "cdnv",
    "class_geometry",
    "equiangularity",
    "equinorm",
    "frame_distance",
    "nc1",
    "nc1_trace",
    "nc2",
    "nc3",
    "nc4",
]

_RANK = 1e-7  # singular values of the centred means below this share of the largest are rounding
_BLOCK = 4096  # rows in double precision at once
Batches = Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]


@dataclass(frozen=True, eq=False)
class ClassGeometry:
    """Class means, and how rows scatter around them; what every metric is computed from.

    Attributes
    ----------
    classes : ndarray, shape (K,)
        Labels in sorted order.
    counts : ndarray, shape (K,)
    means : ndarray, shape (K, d)
    center : ndarray, shape (d,)
        Global mean.
    scatter : ndarray, shape (K,)
        Mean squared distance of a class's rows from its mean, the trace of its covariance.
    strengths : ndarray, shape (r,)
        Singular values of the centred means that are not rounding.
    within : ndarray, shape (r,)
        Variance within classes along each right singular vector.
    """

    classes: np.ndarray
    counts: Int[np.ndarray, " K"]
    means: Float[np.ndarray, "K d"]
    center: Float[np.ndarray, " d"]
    scatter: Float[np.ndarray, " K"]
    strengths: Float[np.ndarray, " r"]
    within: Float[np.ndarray, " r"]

    @property
    def centered(self) -> Float[np.ndarray, "K d"]:
        """Class means less the global mean."""
        return self.means - self.center

    @property
    def trace_within(self) -> float:
        """Trace of Sigma_W, each row with the same weight."""
        return float(self.counts @ self.scatter / self.counts.sum())

    @property
    def trace_between(self) -> float:
        """Trace of Sigma_B, each class with the same weight."""
        return float(np.square(self.centered).sum() / len(self.counts))

    def nc1(self) -> float:
        """tr(Sigma_W pinv(Sigma_B)) / K; infinite where all class means are one."""
        return float(np.sum(self.within / self.strengths**2)) if len(self.strengths) else np.inf

    def nc1_trace(self) -> float:
        """tr(Sigma_W) / tr(Sigma_B); infinite where all class means are one."""
        return self.trace_within / self.trace_between if len(self.strengths) else np.inf

    def cdnv(self) -> float:
        """Class-distance normalised variance, the mean over pairs of classes; infinite where two means are one."""
        first, second = np.triu_indices(len(self.counts), 1)
        apart = np.square(self.means[first] - self.means[second]).sum(1)
        spread = (self.scatter[first] + self.scatter[second]) / 2
        return float(np.mean(spread / apart)) if apart.all() else np.inf


def geometry_of(batches: Batches, classes: np.ndarray, global_mean: str = "samples") -> ClassGeometry:
    """As :func:`class_geometry`, of features that come in batches, asked for twice: ``batches()`` begins a pass.

    Parameters
    ----------
    batches : callable
        Returns an iterable of pairs: finite features, shape (n, d), and codes, shape (n,), places in ``classes``.
    """
    K = len(classes)
    counts, sums, origin = np.zeros(K, dtype=np.int64), None, None
    for rows, codes in _blocks(batches):
        if sums is None:
            origin, sums = rows.mean(0), np.zeros((K, rows.shape[1]))
        np.add.at(counts, codes, 1)
        sums += _by_class(rows - origin, codes, K)
    if sums is None or not counts.all():
        raise ValueError(f"every class needs a row, got {dict(zip(classes.tolist(), counts.tolist()))}")
    offsets = sums / counts[:, None]
    middle = offsets.mean(0) if global_mean == "classes" else counts @ offsets / counts.sum()
    centered = offsets - middle
    _, strengths, directions = np.linalg.svd(centered, full_matrices=False)
    kept = strengths > _RANK * max(strengths[0], np.finfo(float).tiny)
    strengths, directions = strengths[kept], directions[kept]
    scatter, within = np.zeros(K), np.zeros(len(strengths))
    for rows, codes in _blocks(batches):
        deviation = rows - origin - offsets[codes]
        scatter += np.bincount(codes, np.square(deviation).sum(1), minlength=K)
        within += np.square(deviation @ directions.T).sum(0)
    return ClassGeometry(
        classes, counts, origin + offsets, origin + middle, scatter / counts, strengths, within / counts.sum()
    )


def _blocks(batches: Batches) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    for rows, codes in batches():
        for start in range(0, len(rows), _BLOCK):
            yield rows[start : start + _BLOCK].astype(np.float64), codes[start : start + _BLOCK]


def _by_class(rows: np.ndarray, codes: np.ndarray, K: int) -> np.ndarray:
    order = np.argsort(codes, kind="stable")
    present, first = np.unique(codes[order], return_index=True)
    sums = np.zeros((K, rows.shape[1]))
    sums[present] = np.add.reduceat(rows[order], first)
    return sums


@checked
def class_geometry(features: Any, labels: Any, *, global_mean: str = "samples") -> ClassGeometry:
    """Class means and the scatter around them, in two passes of O(N d K).

    Parameters
    ----------
    features : array-like, shape (N, d)
        Single precision is kept, and computed on in double.
    labels : array-like, shape (N,)
        Of any kind; at least two classes.
    global_mean : {"samples", "classes"}
        Whether the global mean weighs rows or classes alike; the same for balanced classes.

    Raises
    ------
    ValueError
        One class only, shapes that do not fit, numbers that are not finite.
    """
    check_choice(global_mean, ("samples", "classes"), "global_mean")
    dtype = np.float32 if getattr(features, "dtype", None) == np.float32 else np.float64
    rows = check_matrix(features, name="features", dtype=dtype)
    classes, codes = np.unique(check_labels(labels, len(rows), name="labels"), return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"labels hold one class only, {classes[0]!r}: collapse is a matter of at least two")
    return geometry_of(lambda: [(rows, codes)], classes, global_mean)


@checked
def nc1(features: Any, labels: Any, *, global_mean: str = "samples") -> float:
    """tr(Sigma_W pinv(Sigma_B)) / K: variability within classes in units of that between them; see the module.

    0 where every class is one point; infinite where all class means are one. Parameters and errors as
    :func:`class_geometry`.
    """
    return class_geometry(features, labels, global_mean=global_mean).nc1()


@checked
def nc1_trace(features: Any, labels: Any, *, global_mean: str = "samples") -> float:
    """tr(Sigma_W) / tr(Sigma_B), the form of which near-collapse proves that it falls. As :func:`class_geometry`."""
    return class_geometry(features, labels, global_mean=global_mean).nc1_trace()


@checked
def cdnv(features: Any, labels: Any) -> float:
    """Class-distance normalised variance: (var_k + var_l) / (2 |mu_k - mu_l|^2), the mean over pairs of classes."""
    return class_geometry(features, labels).cdnv()


def _frame(frame: Any, K: int) -> tuple[np.ndarray, bool]:
    """Gram matrix of unit Frobenius norm, and whether the frame's vectors have the sum zero."""
    if isinstance(frame, str):
        check_choice(frame, ("etf", "orthogonal"), "frame")
        if frame == "etf":
            return (np.eye(K) - 1 / K) / np.sqrt(K - 1), True
        return np.eye(K) / np.sqrt(K), False
    squares = np.square(check_numbers(frame, "frame"))
    if squares.shape != (K,) or not 0 < squares.sum() < np.inf:
        raise ValueError(
            f"frame must be 'etf', 'orthogonal' or the lengths of {K} vectors, not all zero; got {frame!r}"
        )
    return np.diag(squares / np.linalg.norm(squares)), False


@checked
def frame_distance(vectors: Any, frame: Any = "etf") -> float:
    """Frobenius distance between the Gram matrices of K vectors and of a frame, both of unit norm.

    Parameters
    ----------
    vectors : array-like, shape (K, d)
        Class means, centred for a simplex frame, or the rows of a classifier.
    frame : {"etf", "orthogonal"} or array-like, shape (K,)
        Simplex equiangular tight frame, orthogonal vectors of one length, or orthogonal vectors of these lengths.

    Raises
    ------
    ValueError
        Fewer than two vectors, all of them zero, or lengths that do not fit.
    """
    V = check_matrix(vectors, name="vectors", min_rows=2)
    target, _ = _frame(frame, len(V))
    gram = V @ V.T
    if not (size := np.linalg.norm(gram)) > 0:
        raise ValueError("vectors are all zero: they make no frame")
    return float(np.linalg.norm(gram / size - target))


@checked
def nc2(features: Any, labels: Any, frame: Any = "etf") -> float:
    """Distance of the class means from a frame (:func:`frame_distance`); centred for "etf", as they are otherwise."""
    found = class_geometry(features, labels)
    return frame_distance(found.centered if _frame(frame, len(found.counts))[1] else found.means, frame)


@checked
def nc3(features: Any, labels: Any, W: Any, frame: Any = "etf") -> float:
    """Distance of W times the class means from what self-duality makes it, both of unit Frobenius norm.

    Parameters
    ----------
    W : array-like, shape (K, d)
        Classifier, rows in the order of the sorted labels.
    frame : {"etf", "orthogonal"} or array-like, shape (K,)
        With an array: the square roots of the logits predicted for each class's own mean.
    """
    found = class_geometry(features, labels)
    weights = _classifier(W, found)
    target, centred = _frame(frame, len(found.counts))
    product = weights @ (found.centered if centred else found.means).T
    if not (size := np.linalg.norm(product)) > 0:
        raise ValueError("W maps all class means to zero")
    return float(np.linalg.norm(product / size - target))


@checked
def nc4(features: Any, labels: Any, W: Any, b: Any = None) -> float:
    """Share of rows for which the classifier and the nearest class mean disagree."""
    found = class_geometry(features, labels)
    weights = _classifier(W, found)
    rows = check_matrix(features, name="features") - found.center
    bias = np.zeros(len(weights)) if b is None else check_numbers(b, "b")
    if bias.shape != (len(weights),):
        raise ValueError(f"b must have one entry a class ({len(weights)}), got shape {bias.shape}")
    means = found.centered
    nearest = (rows @ means.T - np.square(means).sum(1) / 2).argmax(1)
    return float(np.mean((rows @ weights.T + (weights @ found.center + bias)).argmax(1) != nearest))


def _classifier(W: Any, found: ClassGeometry) -> np.ndarray:
    weights = check_matrix(W, name="W")
    if weights.shape != found.means.shape:
        raise ValueError(
            f"W must have a row for each of the {len(found.counts)} classes and a column for each of the "
            f"{found.means.shape[1]} features; got shape {weights.shape}"
        )
    return weights


@checked
def equinorm(vectors: Any) -> float:
    """Standard deviation of the lengths of vectors, shape (K, d), over their mean; 0 where all are equally long."""
    lengths = np.linalg.norm(check_matrix(vectors, name="vectors", min_rows=2), axis=1)
    if not lengths.any():
        raise ValueError("vectors are all zero: they have no common length")
    return float(lengths.std() / lengths.mean())


@checked
def equiangularity(vectors: Any) -> float:
    """Mean over pairs of |cos + 1 / (K - 1)|; 0 where vectors, shape (K, d), point as those of a simplex.

    Raises
    ------
    ValueError
        A vector of length zero, which has no direction.
    """
    V = check_matrix(vectors, name="vectors", min_rows=2)
    lengths = np.linalg.norm(V, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError(f"vector {int(lengths[:, 0].argmin())} is zero: it has no direction")
    cosines = (V / lengths) @ (V / lengths).T
    return float(np.abs(cosines[np.triu_indices(len(V), 1)] + 1 / (len(V) - 1)).mean())
