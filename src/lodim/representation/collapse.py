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
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csc_array

from lodim.results import Result
from lodim.validation import check_choice, check_labels, check_matrix, check_numbers, checked

__all__ = [
    "ClassGeometry",
    "CollapseMetrics",
    "Gathering",
    "cdnv",
    "class_geometry",
    "equiangularity",
    "equinorm",
    "frame_distance",
    "gather",
    "metrics_of",
    "nc1",
    "nc1_trace",
    "nc2",
    "nc3",
    "nc3_angle",
    "nc4",
    "report",
]

_RANK = 1e-7  # singular values of the centred means below this share of the largest are rounding
_BLOCK = 1 << 18  # numbers in double precision at once, which a cache holds


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
        K, total = len(self.counts), 0.0
        for k in range(K - 1):  # all pairs at once would be K^2 d numbers
            apart = np.square(self.means[k + 1 :] - self.means[k]).sum(1)
            if not apart.all():
                return np.inf
            total += float(((self.scatter[k + 1 :] + self.scatter[k]) / 2 / apart).sum())
        return total / (K * (K - 1) / 2)


class Gathering:
    """A :class:`ClassGeometry` from two passes over batches: :meth:`first` for each, :meth:`turn`, :meth:`second`.

    Parameters
    ----------
    n_codes : int
        Codes of classes are from 0 up to this; those that no row has are left out.
    global_mean : {"samples", "classes"}
    W, b : ndarray, shapes (n_codes, d) and (n_codes,), optional
        A classifier, whose disagreements with the nearest class mean are counted.
    """

    def __init__(self, n_codes: int, global_mean: str = "samples", W: Any = None, b: Any = None) -> None:
        self.global_mean, self.W, self.b = global_mean, W, b
        self.counts = np.zeros(n_codes, dtype=np.int64)
        self._sums: Any = None
        self._seen, self.disagreements = 0, 0

    def first(self, rows: np.ndarray, codes: np.ndarray) -> None:
        """Take in finite features, shape (n, d), and codes, shape (n,), for the means."""
        for block, part in _blocks(rows, codes):
            if self._sums is None:
                self._origin, self._sums = block.mean(0), np.zeros((len(self.counts), block.shape[1]))
            self.counts += np.bincount(part, minlength=len(self.counts))
            block -= self._origin
            self._sums += _by_class(block, part, len(self.counts))

    def turn(self) -> None:
        """End the first pass."""
        self.present = np.flatnonzero(self.counts)
        if len(self.present) < 2:
            raise ValueError(f"labels hold {len(self.present)} class: collapse is a matter of at least two")
        self._place = np.cumsum(self.counts > 0) - 1  # of a code among those present
        n = self.counts[self.present]
        self._offsets = self._sums[self.present] / n[:, None]
        middle = self._offsets.mean(0) if self.global_mean == "classes" else n @ self._offsets / n.sum()
        self._middle = middle
        _, strengths, directions = np.linalg.svd(self._offsets - middle, full_matrices=False)
        rounding = np.finfo(float).eps * max(np.linalg.norm(self._origin), np.finfo(float).tiny)
        kept = strengths > max(_RANK * strengths[0], 8 * rounding, 1e-150)  # their squares must not vanish
        self._strengths, self._directions = strengths[kept], directions[kept]
        self._scatter, self._within = np.zeros(len(n)), np.zeros(len(self._strengths))
        if self.W is not None:
            self._weights = self.W[self.present]
            self._logits = self._weights @ self._origin + (0 if self.b is None else self.b[self.present])
            self._squares = np.square(self._offsets).sum(1) / 2

    def second(self, rows: np.ndarray, codes: np.ndarray) -> None:
        """Take in the same rows again, in any order and batches, for the scatter around the means."""
        for block, part in _blocks(rows, codes):
            places = self._place[part]
            block -= self._origin
            if self.W is not None:
                nearest = (block @ self._offsets.T - self._squares).argmax(1)
                said = (block @ self._weights.T + self._logits).argmax(1)
                self.disagreements += int((said != nearest).sum())
            block -= self._offsets[places]
            self._scatter += np.bincount(
                places, np.einsum("nd,nd->n", block, block), minlength=len(self._scatter)
            )
            self._within += np.square(block @ self._directions.T).sum(0)
            self._seen += len(part)

    def geometry(self, classes: np.ndarray | None = None) -> ClassGeometry:
        """Return what was found; ``classes`` are the labels of the codes, or the codes themselves."""
        n = self.counts[self.present]
        if self._seen != n.sum():
            raise ValueError(
                f"the second pass has {self._seen} rows where the first had {n.sum()}: give batches that can be gone "
                "through twice (a list or a data loader, no generator)"
            )
        names = self.present if classes is None else classes[self.present]
        return ClassGeometry(
            names, n, self._origin + self._offsets, self._origin + self._middle, self._scatter / n,
            self._strengths, self._within / n.sum(),
        )  # fmt: skip


def gather(gathering: Gathering, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> Gathering:
    """Go twice through batches of finite features, shape (n, d), and codes, shape (n,); returns the gathering."""
    for rows, codes in batches:
        gathering.first(rows, codes)
    gathering.turn()
    for rows, codes in batches:
        gathering.second(rows, codes)
    return gathering


def _blocks(rows: np.ndarray, codes: np.ndarray) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    step = max(64, _BLOCK // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        yield rows[start : start + step].astype(np.float64), codes[start : start + step]


def _by_class(rows: np.ndarray, codes: np.ndarray, K: int) -> np.ndarray:
    """Sums of the rows of each class; the sparse product goes through the rows once and copies nothing."""
    n = len(codes)
    return csc_array((np.ones(n), codes, np.arange(n + 1)), shape=(K, n)) @ rows


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
    rows, classes, codes = _read(features, labels)
    return gather(Gathering(len(classes), global_mean), [(rows, codes)]).geometry(classes)


def _read(features: Any, labels: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, in single precision where they come so, sorted labels and their codes."""
    single = str(getattr(features, "dtype", "")) in ("float32", "torch.float32", "float16", "torch.float16")
    rows = check_matrix(features, name="features", dtype=np.float32 if single else np.float64)
    classes, codes = np.unique(check_labels(labels, len(rows), name="labels"), return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"labels hold one class only, {classes.tolist()[0]!r}: collapse is a matter of at least two"
        )
    return rows, classes, codes


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
    """Class-distance normalised variance: mean variance of two classes over the squared distance of their means.

    The mean over pairs of classes.
    """
    return class_geometry(features, labels).cdnv()


def read_frame(frame: Any, K: int) -> tuple[np.ndarray, bool]:
    """Gram matrix of unit Frobenius norm, and whether the frame's vectors have the sum zero."""
    if isinstance(frame, str):
        check_choice(frame, ("etf", "orthogonal"), "frame")
        if frame == "etf":
            return (np.eye(K) - 1 / K) / np.sqrt(K - 1), True
        return np.eye(K) / np.sqrt(K), False
    with np.errstate(over="ignore"):
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
    target, _ = read_frame(frame, len(V))
    gram = V @ V.T
    if not (size := np.linalg.norm(gram)) > 0:
        raise ValueError("vectors are all zero: they make no frame")
    return float(np.linalg.norm(gram / size - target))


@checked
def nc2(features: Any, labels: Any, frame: Any = "etf") -> float:
    """Distance of the class means from a frame (:func:`frame_distance`); centred for "etf", as they are otherwise."""
    found = class_geometry(features, labels)
    return frame_distance(found.centered if read_frame(frame, len(found.counts))[1] else found.means, frame)


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
    return _duality(found, _classifier(W, found), frame)


def _duality(found: ClassGeometry, weights: np.ndarray, frame: Any) -> float:
    target, centred = read_frame(frame, len(found.counts))
    product = weights @ (found.centered if centred else found.means).T
    if not (size := np.linalg.norm(product)) > 0:
        raise ValueError("W maps all class means to zero")
    return float(np.linalg.norm(product / size - target))


@checked
def nc3_angle(features: Any, labels: Any, W: Any, frame: Any = "etf") -> float:
    """One less the cosine between a class's row of W and its mean, averaged over classes; 0 where all are aligned.

    With "etf" both are centred, over classes the rows and by the global mean the means. Parameters as :func:`nc3`.
    """
    found = class_geometry(features, labels)
    return _misalignment(found, _classifier(W, found), frame)


def _misalignment(found: ClassGeometry, weights: np.ndarray, frame: Any) -> float:
    centred = read_frame(frame, len(found.counts))[1]
    rows, means = (weights - weights.mean(0), found.centered) if centred else (weights, found.means)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(means, axis=1)
    if not lengths.all():
        raise ValueError(
            f"class {found.classes.tolist()[lengths.argmin()]!r} has a row of W or a mean of length zero"
        )
    return float(1 - np.mean(np.einsum("kd,kd->k", rows, means) / lengths))


@checked
def nc4(features: Any, labels: Any, W: Any, b: Any = None) -> float:
    """Share of rows for which the classifier and the nearest class mean disagree.

    Parameters
    ----------
    W : array-like, shape (K, d)
        Classifier, rows in the order of the sorted labels.
    b : array-like, shape (K,), optional
    """
    if W is None:
        raise ValueError("W must be a classifier, a row for each class; got None")
    return report(features, labels, W, b).nc4


def _classifier(W: Any, found: ClassGeometry) -> np.ndarray:
    return _read_classifier(W, None, len(found.counts), found.means.shape[1])[0]


def _read_classifier(W: Any, b: Any, K: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    weights = check_matrix(W, name="W")
    if weights.shape != (K, d):
        raise ValueError(
            f"W must have a row for each of the {K} classes and a column for each of the {d} features; got shape "
            f"{weights.shape}"
        )
    bias = np.zeros(K) if b is None else check_numbers(b, "b")
    if bias.shape != (K,) or not np.isfinite(bias).all():
        raise ValueError(f"b must have one finite entry a class ({K}), got {b!r}")
    return weights, bias


@checked
def equinorm(vectors: Any) -> float:
    """Standard deviation of the lengths of vectors, shape (K, d), over their mean; 0 where all are equally long."""
    lengths = np.linalg.norm(check_matrix(vectors, name="vectors", min_rows=2), axis=1)
    if not lengths.any():
        raise ValueError("vectors are all zero: they have no common length")
    return float(lengths.std() / lengths.mean())


@checked
def equiangularity(vectors: Any) -> float:
    """Mean distance of the cosines between vectors, shape (K, d), from those of a simplex, -1 / (K - 1).

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


@dataclass(frozen=True, eq=False)
class CollapseMetrics(Result):
    """All metrics of one layer's features; NaN where one is not defined, as without a classifier or at one mean.

    Attributes
    ----------
    nc1, nc1_trace, cdnv : float
        Variability within classes over that between them.
    nc2, nc2_classifier : float
        Distance from the frame, of the class means and of the classifier's rows (centred for "etf").
    nc3, nc3_angle : float
        Distance from self-duality.
    nc4 : float
        Share of rows where classifier and nearest class mean disagree.
    equinorm, equiangularity : float
        Of the centred class means.
    """

    nc1: float
    nc1_trace: float
    cdnv: float
    nc2: float
    nc2_classifier: float
    nc3: float
    nc3_angle: float
    nc4: float
    equinorm: float
    equiangularity: float

    def named(self) -> dict[str, float]:
        """Return the metrics by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def to_frame(self) -> Any:
        """Return one row."""
        import pandas as pd

        return pd.DataFrame([self.named()])

    def plot(self, ax: Any = None) -> Any:
        """Draw the metrics as bars on a logarithmic scale; returns the axes."""
        from lodim.plots import COLORS, new_axes

        ax, shown = new_axes(ax), {k: v for k, v in self.named().items() if np.isfinite(v) and v > 0}
        ax.barh(list(shown), list(shown.values()), color=COLORS[0])
        ax.set(xscale="log", xlabel="0 is full collapse")
        ax.invert_yaxis()
        return ax

    def __str__(self) -> str:
        return "\n".join(f"{name:15s} {value:.4g}" for name, value in self.named().items())


def gathered_metrics(gathering: Gathering, frame: Any = "etf") -> CollapseMetrics:
    """Return the metrics of what two passes gathered."""
    found = gathering.geometry()
    K, W = len(found.counts), None if gathering.W is None else gathering.W[gathering.present]
    centred = read_frame(frame, K)[1]

    def told(function: Callable[..., float], *args: Any) -> float:
        try:
            return function(*args)
        except ValueError:  # vectors of length zero
            return np.nan

    apart = len(found.strengths) > 0
    means = found.centered if apart else np.zeros_like(found.centered)
    return CollapseMetrics(
        found.nc1(),
        found.nc1_trace(),
        found.cdnv() if apart else np.inf,
        told(frame_distance, means if centred else found.means, frame),
        np.nan if W is None else told(frame_distance, W - W.mean(0) if centred else W, frame),
        np.nan if W is None or not apart else told(_duality, found, W, frame),
        np.nan if W is None or not apart else told(_misalignment, found, W, frame),
        np.nan if W is None else gathering.disagreements / int(found.counts.sum()),
        told(equinorm, means),
        told(equiangularity, means),
    )


def metrics_of(batches: Iterable[Any], W: Any = None, b: Any = None, frame: Any = "etf") -> CollapseMetrics:
    """As :func:`report`, of batches (features, codes from 0 to K - 1) that can be gone through twice."""
    n_codes = 1 + max(int(codes.max()) for _, codes in batches) if W is None else len(W)
    return gathered_metrics(gather(Gathering(n_codes, W=W, b=b), batches), frame)


@checked
def report(features: Any, labels: Any, W: Any = None, b: Any = None, frame: Any = "etf") -> CollapseMetrics:
    """Return all metrics, in two passes over the features.

    Parameters
    ----------
    features : array-like, shape (N, d)
    labels : array-like, shape (N,)
        Of any kind; at least two classes.
    W : array-like, shape (K, d), optional
        Classifier, rows in the order of the sorted labels.
    b : array-like, shape (K,), optional
    frame : {"etf", "orthogonal"} or array-like, shape (K,)
        As in :func:`frame_distance`.

    Raises
    ------
    ValueError
        As :func:`class_geometry`, or a classifier of another shape.
    """
    rows, classes, codes = _read(features, labels)
    K = len(classes)
    read_frame(frame, K)
    if W is None:
        if b is not None:
            raise ValueError("b without W is no classifier: give both")
        return metrics_of([(rows, codes)], frame=frame)
    weights, bias = _read_classifier(W, b, K, rows.shape[1])
    return metrics_of([(rows, codes)], weights, bias, frame)
