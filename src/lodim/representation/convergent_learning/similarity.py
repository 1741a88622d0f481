r"""How alike two representations of the same inputs are: one number from two matrices with the same rows.

X of shape (n, p) and Y of shape (n, q) hold what two networks (or layers) say of n inputs; below they are centred,
:math:`K = X X^\top` and :math:`L = Y Y^\top`. What a measure is blind to is what it takes two networks to share:

==============================  ===========  ==========  =========  =========  ===========================
measure                         permutation  orthogonal  scale      each unit  invertible maps
                                of units     maps        of all     scaled
==============================  ===========  ==========  =========  =========  ===========================
``cka``, ``linear_cka``         yes          yes         yes        no         no
``rbf_cka``                     yes          yes         yes        no         no
``procrustes_distance``         yes          yes         yes        no         no
``rsa`` ("euclidean")           yes          yes         yes        no         no
``rsa`` ("correlation")         yes          no          yes        no         no
``mutual_knn``                  yes          yes         yes        no         no
``cca``, ``mean_cca``           yes          yes         yes        yes        yes
``svcca``                       yes          yes         yes        no         no
``pwcca``                       yes          of Y only   yes        of Y only  of Y only
``linear_regression_r2``        yes          yes         yes        of X only  of X only
``permutation_distance``        yes          no          yes        yes        no
``soft_matching``               yes          no          yes        yes        no
==============================  ===========  ==========  =========  =========  ===========================

All but ``rsa`` ("correlation") are blind to constants added to units. A unit is scaled by a positive number: those that
pair units tell one from its negative. ``linear_regression_r2`` and ``pwcca`` are not symmetric.

With fewer rows than units some measures say "alike" of anything: CCA is 1 when n <= min(p, q) + 1, biased CKA grows to
1. :func:`null_calibrate` shows what chance gives; debiased CKA has 0 there.

Sources: Li and others, arXiv 1511.07543 (one-to-one matching); S. Kornblith and others, arXiv 1905.00414 (CKA);
L. Song and others, JMLR 13 (2012), equation 5 (unbiased HSIC); T. Nguyen, M. Raghu, S. Kornblith, arXiv 2010.15327
(minibatches); M. Raghu and others, arXiv 1706.05806 (SVCCA); A. Morcos, M. Raghu, S. Bengio, arXiv 1806.05759 (PWCCA);
A. Williams and others, arXiv 2110.14739 (Procrustes); N. Kriegeskorte, M. Mur, P. Bandettini (2008; RSA); M. Huh and
others, arXiv 2405.07987 (mutual neighbours); M. Khosla, A. Williams, arXiv 2311.09466 (soft matching).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse, stats
from scipy.optimize import linear_sum_assignment, linprog
from scipy.spatial.distance import pdist, squareform

from lodim.linalg.precision import power_of_two
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.results import Result
from lodim.validation import check_choice, check_counts, check_in_range, check_matrix, checked, plain_array

_RANK = 1e-6  # singular values below this share of the largest are rounding
_ALIKE = 1e-12  # what differs by less than this share is equal but for rounding
_TIED = 1e-13  # of squared lengths: rounding of squared distances
_AT_ONCE = 2**22  # distances that are held at once

Matrix = Float[np.ndarray, "n _"]


def read_units(matrix: Any, name: str, least: int = 1) -> Matrix:
    """Check a matrix of samples and units, and return it in double precision."""
    if (getattr(matrix, "ndim", 0) or np.ndim(plain_array(matrix, name))) > 2:
        raise ValueError(
            f"{name} must be 2-D (rows are samples, columns units), got shape {tuple(np.shape(matrix))}; "
            "lodim.representation.collect makes matrices of a layer's outputs"
        )
    return check_matrix(matrix, name=name, min_rows=least)


def read_pair(X: Any, Y: Any, least: int = 2) -> tuple[Matrix, Matrix]:
    """Check two representations of the same inputs and return them centred, in double precision."""
    given, found = [], []
    for name, matrix in (("X", X), ("Y", Y)):
        rows = read_units(matrix, name)
        given.append(rows)
        with np.errstate(over="ignore", invalid="ignore"):
            found.append(rows - rows.mean(0))
        if not np.isfinite(found[-1]).all():
            raise ValueError(f"{name} is too large: the mean over its rows overflows")
    if len(found[0]) != len(found[1]):
        raise ValueError(
            f"X and Y must have the same rows, got shapes {found[0].shape} and {found[1].shape}; rows are samples: is "
            "one of them transposed?"
        )
    if len(found[0]) < least:
        raise ValueError(f"this measure needs at least {least} rows, got {len(found[0])}")
    for name, rows, matrix in zip("XY", given, found):
        if not np.abs(matrix).max() > 1e-14 * np.abs(rows).max():
            raise ValueError(f"all rows of {name} are alike: there is nothing to compare")
    return found[0], found[1]


def _read_pair(X: Any, Y: Any, least: int = 2) -> tuple[Matrix, Matrix]:
    """As :func:`read_pair`, each to about unit size, exactly: squares and their squares stay in range."""
    x, y = read_pair(X, Y, least)
    return x / power_of_two(float(np.abs(x).max())), y / power_of_two(float(np.abs(y).max()))


# ---- inner products of kernels


def _cosine(
    inner: Callable[[np.ndarray, np.ndarray], float], x: np.ndarray, y: np.ndarray, whole: Sequence[float]
) -> float:
    """<x, y> over the lengths of both, which are rounding when they are below a share of ``whole``."""
    lengths = inner(x, x), inner(y, y)
    for name, length, size in zip("XY", lengths, whole):
        if not length > _ALIKE * size:
            raise ValueError(f"all rows of {name} are equally alike for this kernel: nothing to compare")
    return inner(x, y) / math.sqrt(lengths[0] * lengths[1])


def _hsic(X: Matrix, Y: Matrix) -> float:
    """|X'Y|_F^2 = <K, L>, by whichever side is smaller."""
    n = len(X)
    if X.shape[1] * Y.shape[1] <= n * n:
        return float(np.square(X.T @ Y).sum())
    return float(np.vdot(X @ X.T, Y @ Y.T))


def _unbiased(X: Matrix, Y: Matrix) -> float:
    r"""HSIC_1 for linear kernels, without a kernel where units are fewer than rows.

    With zero diagonals, :math:`\tilde K 1 = X (X^\top 1) - k` where k is the diagonal of K.
    """
    n = len(X)
    k, l = np.square(X).sum(1), np.square(Y).sum(1)
    of_rows = X @ X.sum(0) - k, Y @ Y.sum(0) - l
    return hsic_1(_hsic(X, Y) - k @ l, *of_rows, n)


def hsic_1(trace: float, k: np.ndarray, l: np.ndarray, n: int) -> float:
    """Unbiased HSIC (Song and others, equation 5) from tr(KL) and the sums of rows of both, diagonals taken out."""
    pairs = k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 * (k @ l) / (n - 2)
    return float(trace + pairs) / (n * (n - 3))


@checked
def cka(X: Any, Y: Any, *, debiased: bool = True) -> float:
    """Centred kernel alignment with linear kernels; debiased, its mean is 0 for unrelated representations.

    Parameters
    ----------
    X, Y : array-like, shapes (n, p) and (n, q)
    debiased : bool
        With unbiased estimates of the three inner products (n >= 4), so that the ratio may fall below 0; or the biased
        ratio, in [0, 1], which grows with the number of units over rows.

    Raises
    ------
    ValueError
        Different numbers of rows, fewer than 4 (2), values that are not finite, a representation that is constant; if
        debiased, also one whose rows are all equally far apart.
    """
    x, y = _read_pair(X, Y, 4 if debiased else 2)
    return _cosine(_unbiased if debiased else _hsic, x, y, [_hsic(m, m) / len(m) ** 2 for m in (x, y)])


@checked
def linear_cka(X: Any, Y: Any) -> float:
    """Centred kernel alignment as first published, biased: ``cka(X, Y, debiased=False)``."""
    return cka(X, Y, debiased=False)


@checked
def rbf_cka(X: Any, Y: Any, *, bandwidth: float | int = 0.5, debiased: bool = False) -> float:
    """Centred kernel alignment with Gaussian kernels, whose width is a share of the median distance between rows.

    Parameters
    ----------
    bandwidth : float
        sigma over the median distance, in exp(-d^2 / (2 sigma^2)); large ones approach linear CKA.
    """
    if not check_in_range(bandwidth, "bandwidth", low=0.0) > 0:
        raise ValueError(f"bandwidth must be positive, got {bandwidth}")
    kernels = []
    for name, rows in zip("XY", _read_pair(X, Y, 4 if debiased else 2)):
        squares = pdist(rows, "sqeuclidean")
        middle = float(np.median(squares))
        if not middle > 0:
            raise ValueError(
                f"more than half of the pairs of rows of {name} are duplicates: no median distance"
            )
        with np.errstate(over="ignore"):  # far apart, for a narrow kernel
            kernels.append(squareform(np.exp(-np.square(np.sqrt(squares / middle) / bandwidth) / 2)))
    K, L = kernels
    n = len(K)
    share = (
        1 / n**2 if debiased else _ALIKE
    )  # centring each entry leaves less rounding than a difference of sums
    whole = [share * float(np.vdot(kernel, kernel)) for kernel in kernels]
    if debiased:

        def inner(A: np.ndarray, B: np.ndarray) -> float:
            return hsic_1(float(np.vdot(A, B)), A.sum(1), B.sum(1), n)
    else:
        for kernel in kernels:
            np.fill_diagonal(kernel, 1.0)
            kernel -= kernel.mean(0)
            kernel -= kernel.mean(1)[:, None]

        def inner(A: np.ndarray, B: np.ndarray) -> float:
            return float(np.vdot(A, B))

    return _cosine(inner, K, L, whole)


@checked
def minibatch_cka(batches: Iterable[tuple[Any, Any]]) -> float:
    """Debiased CKA of representations that come in batches: unbiased inner products are summed, divided once.

    Parameters
    ----------
    batches : iterable of pairs (X, Y)
        At least 4 rows each; the same for one batch as :func:`cka`.

    Raises
    ------
    ValueError
        No batch, other units than in the first one, or as :func:`cka` says of each.
    """
    sums, whole, units = np.zeros(3), np.zeros(2), None
    for X, Y in batches:
        x, y = read_pair(X, Y, 4)
        if units not in (None, (x.shape[1], y.shape[1])):
            raise ValueError(f"a batch has {x.shape[1]} and {y.shape[1]} units, the first had {units}")
        units = x.shape[1], y.shape[1]
        with np.errstate(over="ignore", invalid="ignore"):
            sums += [_unbiased(x, y), _unbiased(x, x), _unbiased(y, y)]
            whole += [_hsic(m, m) / len(m) ** 2 for m in (x, y)]
    if units is None:
        raise ValueError("batches hold no batch")
    if not (np.isfinite(sums).all() and np.isfinite(whole).all()):
        raise ValueError("batches hold values so large that their fourth powers overflow: scale them")
    for name, length, size in zip("XY", sums[1:], whole):
        if not length > _ALIKE * size:
            raise ValueError(f"in all batches the rows of {name} are equally alike: nothing to compare")
    return float(sums[0] / math.sqrt(sums[1]) / math.sqrt(sums[2]))


# ---- subspaces


def leading(spread: Float[np.ndarray, " r"], variance: float | int) -> int:
    """How many singular values, in falling order, are no rounding and hold this share of the variance."""
    kept = int((spread > _RANK * spread[0]).sum())
    if variance < 1:
        share = np.cumsum(spread**2) / np.square(spread).sum()
        kept = min(kept, int(np.searchsorted(share, variance - 1e-12)) + 1)
    return kept


def _basis(X: Matrix, variance: float | int = 1.0) -> Matrix:
    """Orthonormal columns of the leading directions."""
    U, s, _ = np.linalg.svd(X, full_matrices=False)
    return U[:, : leading(s, variance)]


@checked
def cca(X: Any, Y: Any) -> Float[np.ndarray, " r"]:
    """Canonical correlations in falling order, as many as the smaller rank.

    By orthonormal bases of both, never by inverse roots of covariances, so that dependent units do no harm.

    Parameters
    ----------
    X, Y : array-like, shapes (n, p) and (n, q)
    """
    x, y = _read_pair(X, Y)
    return np.clip(np.linalg.svd(_basis(x).T @ _basis(y), compute_uv=False), 0, 1)


@checked
def mean_cca(X: Any, Y: Any) -> float:
    """Mean of the canonical correlations."""
    return float(cca(X, Y).mean())


@checked
def svcca(X: Any, Y: Any, *, variance: float | int = 0.99) -> float:
    """Mean canonical correlation of the leading principal components of both.

    Parameters
    ----------
    variance : float
        Share of each representation's variance that its components keep, in (0, 1].
    """
    if not check_in_range(variance, "variance", high=1.0) > 0:
        raise ValueError(f"variance must be in (0, 1], got {variance}")
    x, y = _read_pair(X, Y)
    found = np.linalg.svd(_basis(x, variance).T @ _basis(y, variance), compute_uv=False)
    return float(np.clip(found, 0, 1).mean())


@checked
def pwcca(X: Any, Y: Any) -> float:
    r"""Canonical correlations weighted by how much of X their directions carry: not symmetric.

    Weights are :math:`\sum_j |\langle h_i, x_j \rangle|`, with h the canonical variates of X and x its units.
    """
    x, y = _read_pair(X, Y)
    basis = _basis(x)
    left, found, _ = np.linalg.svd(basis.T @ _basis(y), full_matrices=False)
    weights = np.abs((basis @ left).T @ x).sum(1)
    return float(np.clip(found, 0, 1) @ weights / weights.sum())


@checked
def linear_regression_r2(X: Any, Y: Any) -> float:
    """Share of Y's variance that linear maps of X explain on these very rows: not symmetric, 1 where p >= n - 1."""
    x, y = _read_pair(X, Y)
    return float(min(np.square(_basis(x).T @ y).sum() / np.square(y).sum(), 1.0))


@checked
def procrustes_distance(X: Any, Y: Any, *, kind: str = "angular") -> float:
    r"""Distance after the best rotation, of matrices brought to unit Frobenius norm; a metric.

    With the nuclear norm :math:`\rho = \Vert X^\top Y \Vert_*`, arccos(rho), in radians and at most pi / 2, or
    "euclidean" :math:`\sqrt{2 - 2 \rho}`.
    """
    check_choice(kind, ("angular", "euclidean"), "kind")
    x, y = (rows / np.linalg.norm(rows) for rows in _read_pair(X, Y))
    if min(x.shape[1], y.shape[1]) > len(x):  # the same inner products in fewer columns
        x, y = (np.linalg.qr(rows.T).R.T for rows in (x, y))
    rho = min(float(np.linalg.svd(x.T @ y, compute_uv=False).sum()), 1.0)
    return math.acos(rho) if kind == "angular" else math.sqrt(2 - 2 * rho)


# ---- neighbourhoods


@checked
def rsa(X: Any, Y: Any, *, dissimilarity: str = "correlation", compare: str = "pearson") -> float:
    """Correlation of the dissimilarities between all pairs of rows, in one representation and in the other.

    Parameters
    ----------
    dissimilarity : {"correlation", "euclidean"}
        Of two rows: one less the correlation of their units (of the units as they are, not centred), or the distance.
    compare : {"pearson", "spearman", "kendall"}
    """
    check_choice(dissimilarity, ("correlation", "euclidean"), "dissimilarity")
    check_choice(compare, ("pearson", "spearman", "kendall"), "compare")
    rows: Sequence[np.ndarray] = _read_pair(X, Y, 3)
    if dissimilarity == "correlation":
        rows = tuple(check_matrix(matrix, name=name) for name, matrix in (("X", X), ("Y", Y)))
    found = []
    for name, matrix in zip("XY", rows):
        if dissimilarity == "correlation":
            matrix = matrix / power_of_two(float(np.abs(matrix).max()))
            spread = np.abs(matrix - matrix.mean(1)[:, None]).max(1)
            if not (spread > 1e-14 * np.abs(matrix).max(1)).all():
                raise ValueError(
                    f"a row of {name} has the same value in all units: it has no correlation with others"
                )
        between = pdist(matrix, "correlation" if dissimilarity == "correlation" else "euclidean")
        rounding = _ALIKE * (1 if dissimilarity == "correlation" else between.max())
        if not np.ptp(between) > rounding:
            raise ValueError(f"all pairs of rows of {name} are equally far apart: nothing to correlate")
        found.append(between if compare == "pearson" else _ranked(between, rounding))
    how: Mapping[str, Callable[..., Any]] = {
        "pearson": stats.pearsonr,
        "spearman": stats.spearmanr,
        "kendall": stats.kendalltau,
    }
    return float(how[compare](*found).statistic)


def _ranked(values: Float[np.ndarray, " m"], rounding: float) -> Int[np.ndarray, " m"]:
    """The place of each value among the different ones, from 0; rounding makes no order."""
    order = np.argsort(values)
    places = np.empty(len(values), dtype=np.intp)
    places[order] = np.r_[0, np.cumsum(np.diff(values[order]) > rounding)]
    return places


@checked
def mutual_knn(X: Any, Y: Any, *, n_neighbors: int | np.integer = 10) -> float:
    """Share of each row's nearest rows that are the same in both representations, the mean over rows.

    Unrelated representations share ``n_neighbors / (n - 1)``. Where several rows are equally far and not all are among
    the nearest (duplicates, a few discrete values), each is so with the same probability, in both representations
    independently, and the share is the expected one: their order says nothing, and a representation with such ties
    shares less than 1 with itself.
    """
    check_counts(n_neighbors=n_neighbors)
    x, y = _read_pair(X, Y)
    n, k = len(x), int(n_neighbors)
    if k >= n:
        raise ValueError(f"n_neighbors must be smaller than the number of rows ({n}), got {k}")
    at_once = max(1, _AT_ONCE // n)
    shared = sum(
        float(np.vdot(near_shares(x, start, start + at_once, k), near_shares(y, start, start + at_once, k)))
        for start in range(0, n, at_once)
    )
    return shared / (n * k)


def near_shares(X: Matrix, start: int, stop: int, k: int) -> Float[np.ndarray, "b n"]:
    """Probability of each row to be among the k nearest of the rows from start to stop."""
    length = np.square(X).sum(1)
    sizes = length[start:stop, None] + length
    squares = sizes - 2 * (X[start:stop] @ X.T)
    own = np.arange(len(squares))
    squares[own, start + own] = np.inf
    away = squares - np.partition(squares, k - 1, axis=1)[:, k - 1 : k]
    rounding = _TIED * sizes
    nearer, tied = away < -rounding, np.abs(away) <= rounding
    left = (k - nearer.sum(1)) / tied.sum(1)
    return nearer + left[:, None] * tied


# ---- units


def dead_units(
    mean: Float[np.ndarray, " p"], deviation: Float[np.ndarray, " p"], eps: float = 1e-8
) -> Bool[np.ndarray, " p"]:
    """Which units have a standard deviation below eps of the layer's median, or within the rounding of their mean.

    The median is of those that are not exactly constant.
    """
    moving = deviation[deviation > 0]
    typical = np.median(moving) if len(moving) else math.inf
    return deviation <= np.maximum(eps * typical, 1e-14 * np.abs(mean))


def _correlations(X: Any, Y: Any) -> Float[np.ndarray, "a b"]:
    """Of units that are alive; those that are dead correlate with nothing, not even themselves."""
    unit = []
    for name, given, rows in zip("XY", (X, Y), read_pair(X, Y)):
        size = power_of_two(float(np.abs(rows).max()))  # squares stay in range
        deviation = np.sqrt(np.square(rows / size).mean(0))
        alive = ~dead_units(read_units(given, name).mean(0) / size, deviation)
        if not alive.any():
            raise ValueError(f"{name} has no unit that varies over the rows by more than rounding")
        unit.append(rows[:, alive] / (size * deviation[alive] * math.sqrt(len(rows))))
    return np.clip(unit[0].T @ unit[1], -1, 1)


@checked
def permutation_distance(X: Any, Y: Any) -> float:
    r"""Distance after the best one-to-one pairing of units, each scaled to variance 1; a metric where p = q.

    :math:`\sqrt{2 - 2 c}` with c the mean correlation over the pairs of the best assignment; units that are left over
    (p != q) do not count, nor do those that are dead (:class:`UnitMatcher`).
    """
    found = _correlations(X, Y)
    best = found[linear_sum_assignment(found, maximize=True)].mean()
    return math.sqrt(max(2 - 2 * float(best), 0.0))


@checked
def soft_matching(X: Any, Y: Any) -> float:
    r"""As :func:`permutation_distance` where a unit may be shared out: every unit of both counts, whatever p and q.

    The best transport between masses of 1 / p on the units of X and 1 / q on those of Y (dead ones left out); a
    metric for all p and q.
    """
    best = best_transport(_correlations(X, Y))
    return math.sqrt(max(2 - 2 * best, 0.0))


def best_transport(scores: np.ndarray) -> float:
    """Return the largest mean score of a plan that takes 1 / p from each row of scores, 1 / q to each column."""
    p, q = scores.shape
    if max(p, q) % min(p, q) == 0:  # then some best plan is an assignment of copies (Birkhoff)
        scores = scores.repeat(max(q // p, 1), 0).repeat(max(p // q, 1), 1)
        return float(scores[linear_sum_assignment(scores, maximize=True)].mean())
    if importlib.util.find_spec("ot") is not None:  # the same linear programme, solved faster
        import ot

        return -float(ot.emd2(np.full(p, 1 / p), np.full(q, 1 / q), -scores, numItermax=10_000_000))
    sums = sparse.vstack(
        [sparse.kron(sparse.eye(p), np.ones((1, q))), sparse.kron(np.ones((1, p)), sparse.eye(q))],
        format="csr",
    )
    answer: Any = linprog(
        -scores.ravel(), A_eq=sums, b_eq=np.r_[np.full(p, 1 / p), np.full(q, 1 / q)], method="highs"
    )
    if not answer.success:
        raise RuntimeError(f"the transport between units was not found: {answer.message}")
    return -float(answer.fun)


# ---- many, and chance

_SYMMETRIC = (cka, linear_cka, rbf_cka, mean_cca, svcca, procrustes_distance, rsa, mutual_knn, soft_matching,
              permutation_distance)  # fmt: skip


@checked
def pairwise(representations: Mapping[str, Any] | Sequence[Any], metric: Callable[[Any, Any], Any]) -> Any:
    """Return a data frame of the metric between all of several representations of the same rows.

    Parameters
    ----------
    representations : mapping of names to matrices, or sequence of matrices
    metric : callable
        ``metric(X, Y) -> float``; the symmetric ones of this module are asked once for a pair.
    """
    import pandas as pd

    if not len(representations):
        raise ValueError("representations are none: nothing to compare")
    named: Mapping[Any, Any] = (
        representations if isinstance(representations, Mapping) else dict(enumerate(representations))
    )
    matrices = list(named.values())
    found = np.empty((len(matrices), len(matrices)))
    for i, a in enumerate(matrices):
        for j, b in enumerate(matrices):
            found[i, j] = found[j, i] if j < i and metric in _SYMMETRIC else _score(metric, a, b)
    return pd.DataFrame(found, list(named), list(named))


def _score(metric: Callable[[Any, Any], Any], X: Any, Y: Any) -> float:
    value = metric(X, Y)
    try:
        score = math.nan if np.ndim(value) else float(value)
    except (TypeError, ValueError):  # None, words
        score = math.nan
    if not math.isfinite(score):
        raise ValueError(f"metric must return one finite number, got {value!r}")
    return score


@dataclass(frozen=True)
class NullCalibration(Result):
    """A score beside what it is when the rows of one side are shuffled.

    Attributes
    ----------
    score : float
    null_mean, null_std : float
        Over shuffles.
    p_value : float
        Share of shuffles (the score itself counted) that come as close as the score; at least 1 / (n + 1).
    n_permutations : int
    """

    score: float
    null_mean: float
    null_std: float
    p_value: float
    n_permutations: int

    def __str__(self) -> str:
        return (
            f"{self.score:.3g} (shuffled {self.null_mean:.3g}, sd {self.null_std:.2g}; p = {self.p_value:.2g} of "
            f"{self.n_permutations} shuffles)"
        )


@checked
def null_calibrate(
    metric: Callable[[Any, Any], Any],
    X: Any,
    Y: Any,
    *,
    n_permutations: int | np.integer = 200,
    rows_of_sample: int | np.integer = 1,
    random_state: RandomState = 0,
) -> NullCalibration:
    """Set a score beside those of shuffled rows: what the sizes of the matrices alone bring about.

    Whether large or small is close is read from ``metric(X, X)``.

    Parameters
    ----------
    metric : callable
        ``metric(X, Y) -> float``.
    X, Y : array-like, shapes (n, p) and (n, q)
    n_permutations : int
    rows_of_sample : int
        So many rows that follow each other are of one sample (the places of an image) and stay together.
    random_state : int, Generator or None
    """
    check_counts(n_permutations=n_permutations, rows_of_sample=rows_of_sample)
    x, y = (check_matrix(matrix, name=name) for name, matrix in (("X", X), ("Y", Y)))
    read_pair(x, y)
    n, each = len(x), int(rows_of_sample)
    if n % each:
        raise ValueError(f"{n} rows are not samples of {each} rows each")
    score, itself = _score(metric, x, y), _score(metric, x, x)
    rng = as_generator(derive_seed(root_seed(random_state), "shuffles"))  # not what drew the caller's rows
    blocks = np.arange(n).reshape(-1, each)
    null = np.array(
        [_score(metric, x, y[rng.permutation(blocks).ravel()]) for _ in range(int(n_permutations))]
    )
    sign = 1.0 if itself >= null.mean() else -1.0
    as_close = int((sign * null >= sign * score - 1e-12 * abs(score)).sum())
    return NullCalibration(
        score, float(null.mean()), float(null.std()), (1 + as_close) / (1 + len(null)), int(n_permutations)
    )
