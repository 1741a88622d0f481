r"""Clusters around prototypes, with neighbours that should agree and labelled rows that keep their label.

**Problem.** A few rows have labels, the others are to be labelled all together: let the unlabelled ones say where the
groups are. With hard labels :math:`l_p` and prototypes :math:`m_k` the energy is

.. math:: E(l, M) = \sum_p f(x_p, m_{l_p}) + \frac{\lambda}{2} \sum_{p,q} w_{pq} [l_p \ne l_q],

distortion plus lambda for every edge of the neighbour graph between two labels, where f is
:math:`\Vert x - m \Vert^2 / \sigma^2` (K-means) or :math:`-e^{-\Vert x - m \Vert^2 / 2 \sigma^2}` (K-modes).

**Labels, prototypes fixed.** With :math:`a_{pk} = f(x_p, m_k)` and soft :math:`s_p` in the simplex,

.. math:: F(S) = \sum_p s_p \cdot (\log s_p + a_p) - \frac{\lambda}{2} \sum_{p,q} w_{pq}\, s_p \cdot s_q

is the entropy, and at the corners E up to a constant. All rows move at once, by

.. math:: s_p' \propto \exp \frac{\lambda b_p - a_p + c_p \log s_p}{1 + c_p}, \qquad b_p = \sum_q w_{pq} s_q, \qquad
          c_p = \frac12 \max\Big(0, \frac\lambda2 \sum_q w_{pq} - 1\Big),

from softmax(-a); labelled rows are put back to their label after every step. Where :math:`c_p = 0` this is the paper's
:math:`\operatorname{softmax}(\lambda b_p - a_p)`, and the steps come to rest at the same S. Then
:math:`l_p = \arg\max s_p`. Far from all prototypes kernels round to the same zero; of equal :math:`s_{pk}` the one of
the nearest prototype is taken, which is the largest in exact arithmetic where neighbours do not tell.

**Why F falls.** The step minimises the last term's tangent, the entropy and :math:`c_p D(s_p', s_p)`, where D is the
Kullback-Leibler divergence. With :math:`\Delta = s' - s` it changes F by :math:`-\sum_p [(1 + c_p) D(s_p, s_p') +
c_p D(s_p', s_p)] - \frac\lambda2 \langle \Delta, W \Delta \rangle`, where a divergence is at least
:math:`\frac12 \Vert \Delta_p \Vert_1^2 \ge \Vert \Delta_p \Vert_2^2` (Pinsker; entries of :math:`\Delta_p` sum to
zero), and :math:`W + 2 (1 + 2 c) / \lambda` is diagonally dominant.

**Prototypes, labels fixed.** The mean of the cluster; its mode, by mean shift from the last one; of its rows the one
of the largest kernel degree (medoid); of its unlabelled rows the one of the largest :math:`s_{pk}` (bo).

**Why E falls.** The rounded labels need not have a lower E than the last ones. If theirs is higher at the new
prototypes, the last ones are taken instead, and rows that gain by another label get it, one of two neighbours at a
time. Means and modes can but lower E, so that it never rises with them; medoids and bo are rows where the cluster is
dense, not minima of the distortion, and their step may raise it. A round that leaves a cluster without rows is undone
and is the last.

====================  =====================================================================================
symbol in the paper   name here
====================  =====================================================================================
s_p, S                ``S[:, :, p]``, ``memberships_``
m_k, M                ``M``, ``prototypes_``
a_pk                  ``cost``
w_pq, b_p             ``W``, ``votes``
lambda, sigma         ``lam``, ``sigma``
k of the graph        ``n_neighbors + 1``: the paper's 3 counts the row itself, ours its 2 neighbours
====================  =====================================================================================

Source: Imtiaz Masud Ziko and others, 2021, arXiv 2106.09516; for clusters without labels 1810.13044.

Departures from the paper. The graph is symmetric (the public code's is directed), or no energy need fall. It counts an
edge once, as the step needs it; with :math:`\lambda \sum_{p,q}` the step would have :math:`2 \lambda b_p`. The paper
takes W to be positive semi-definite, which a graph without loops never is, and plain steps may alternate; loops would
mend that too, but change F, and freeze labels where lambda is large. Labelled rows are put back in every step, not
only at the start. Bo looks at unlabelled rows, since a labelled one has :math:`s_{pk} = 1`. Distances are in units of
``sigma``, for means too, so that lambda means the same in any unit.

All is written for several problems of one size at once, axes (problem, class, row); one problem has a sparse graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array, triu
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.cluster import kmeans_plusplus
from sklearn.utils.validation import check_is_fitted, validate_data

from lodim.neighbors import knn_affinity
from lodim.neighbors.queries import safe_scale
from lodim.partition.partial_labels import read_partial_labels
from lodim.randomness import as_generator, derive_seed, root_seed
from lodim.validation import ConvergenceWarning, check_choice, check_in_range, check_matrix, warn

__all__ = ["PROTOTYPES", "SLK", "Solution", "check_settings", "in_unit", "needs_graph", "one_hot", "solve"]

PROTOTYPES = ("mean", "mode", "bo", "medoid")
_INNER_TOL, _SHIFT_TOL, _SHIFT_STEPS = 1e-7, 1e-5, 1000
_BLOCK = 4_000_000  # kernel values held at a time


# ---- the problem and its energy


@dataclass(frozen=True)
class Problems:
    """Points in units of sigma and their graph; ``pinned`` is one-hot for labelled rows and zero for the others."""

    X: Float[np.ndarray, "b n d"]
    squares: Float[np.ndarray, "b 1 n"]
    W: Any  # Float[np.ndarray, "b n n"], a sparse matrix of one problem, or None where nothing depends on it
    degree: Float[np.ndarray, "b 1 n"]
    pinned: Float[np.ndarray, "b k n"]
    free: Bool[np.ndarray, "b 1 n"]

    def take(self, keep: Bool[np.ndarray, " b"]) -> Problems:
        """Some of the problems."""
        if keep.all():
            return self
        parts: dict[str, Any] = {
            name: None if part is None else part[keep] for name, part in vars(self).items()
        }
        return Problems(**parts)

    def distances(self, M: Float[np.ndarray, "b k d"]) -> Float[np.ndarray, "b k n"]:
        """Squared, of every row from every prototype."""
        products = M @ self.X.swapaxes(1, 2)
        return np.maximum(np.square(M).sum(2, keepdims=True) - 2 * products + self.squares, 0)

    def cost(self, M: Float[np.ndarray, "b k d"], prototype: str) -> Float[np.ndarray, "b k n"]:
        """The a_pk: squared distances, or minus the kernel."""
        squares = self.distances(M)
        return squares if prototype == "mean" else -np.exp(-squares / 2)

    def votes(self, S: Float[np.ndarray, "b k n"]) -> Float[np.ndarray, "b k n"]:
        """Sum of the neighbours' memberships."""
        if self.W is None:
            return np.zeros_like(S)
        return S @ self.W if isinstance(self.W, np.ndarray) else (self.W @ S[0].T).T[None]

    def largest_of_neighbours(self, values: Int[np.ndarray, "b n"]) -> np.ndarray:
        """For every row the largest value of a neighbour, at least 0."""
        if self.W is None:
            return np.zeros_like(values)
        if isinstance(self.W, np.ndarray):
            return np.where(self.W > 0, values[:, None], 0).max(2)
        return (self.W > 0).multiply(values).max(axis=1).toarray()[None]

    def energy(self, labels: Int[np.ndarray, "b n"], cost: np.ndarray, lam: float) -> Float[np.ndarray, " b"]:
        """E of hard labels."""
        L = one_hot(labels, cost.shape[1], cost.dtype)
        cut = (self.degree.sum((1, 2)) - (L * self.votes(L)).sum((1, 2))) / 2
        return (L * cost).sum((1, 2)) + lam * cut


def one_hot(labels: Int[np.ndarray, "b n"], n_classes: int, dtype: Any) -> Float[np.ndarray, "b k n"]:
    """One where a row has the class, zero elsewhere; all zero for -1."""
    return (labels[:, None, :] == np.arange(n_classes)[:, None]).astype(dtype)


def occupied(labels: Int[np.ndarray, "b n"], n_classes: int) -> Bool[np.ndarray, "b k"]:
    """Which clusters have rows."""
    return (labels[:, None, :] == np.arange(n_classes)[:, None]).any(2)


# ---- labels, prototypes fixed


def relax(
    problems: Problems, cost: Float[np.ndarray, "b k n"], model: SLK
) -> tuple[Float[np.ndarray, "b k n"], Bool[np.ndarray, " b"]]:
    """Minimise F over memberships; the second answer is which problems settled within ``max_inner_iter`` steps."""
    lam, found, settled = float(model.lam), np.empty_like(cost), np.ones(len(cost), dtype=bool)
    S, log_S = _soften(problems, -cost)
    if not lam:
        return S, settled
    at, before = np.arange(len(cost)), np.full(len(cost), np.inf)
    damping = np.maximum(lam / 2 * problems.degree - 1, 0) / 2
    tol = max(_INNER_TOL, 4 * float(np.finfo(cost.dtype).eps))
    for _ in range(model.max_inner_iter):
        votes = problems.votes(S)
        energy = (S * (log_S + cost - lam / 2 * votes)).sum((1, 2))
        # F can be near zero: a row's share of a change counts beside the relative change
        still = np.abs(before - energy) > tol * (cost.shape[2] + np.abs(energy))
        if not still.all():
            found[at[~still]] = S[~still]
            if not still.any():
                return found, settled
            at, cost, votes, energy = (part[still] for part in (at, cost, votes, energy))
            log_S, damping = log_S[still], damping[still]
            problems = problems.take(still)
        before = energy
        S, log_S = _soften(problems, (lam * votes - cost + damping * log_S) / (1 + damping))
    found[at], settled[at] = S, False
    return found, settled


def _soften(problems: Problems, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Softmax over classes and its logarithm; labelled rows at their label."""
    log_S = logits - logits.max(1, keepdims=True)
    S = np.exp(log_S)
    total = S.sum(1, keepdims=True)
    S /= total
    log_S -= np.log(total)
    labelled = ~problems.free
    np.copyto(S, problems.pinned, where=labelled)
    np.copyto(log_S, 0, where=labelled)
    return S, log_S


def flip(
    problems: Problems, cost: Float[np.ndarray, "b k n"], labels: Int[np.ndarray, "b n"], model: SLK
) -> Int[np.ndarray, "b n"]:
    """Lower E from labels on: rows get their best one, of neighbours that would gain the one that gains most."""
    for _ in range(model.max_inner_iter):
        alone = cost - model.lam * problems.votes(one_hot(labels, cost.shape[1], cost.dtype))
        own = np.take_along_axis(alone, labels[:, None], axis=1)
        gain = np.where(problems.free, own - alone.min(1, keepdims=True), 0)[:, 0]
        wants = gain > 8 * np.finfo(cost.dtype).eps * (1 + np.abs(own[:, 0]))
        if not wants.any():
            break
        rank = np.where(wants, gain.argsort(1).argsort(1) + 1, 0)
        labels = np.where(rank > problems.largest_of_neighbours(rank), alone.argmin(1), labels)
    return labels


def harden(
    problems: Problems, S: Float[np.ndarray, "b k n"], M: Float[np.ndarray, "b k d"]
) -> Int[np.ndarray, "b n"]:
    """Labels of the largest memberships, of equal ones that of the nearest prototype."""
    ties = S.max(1, keepdims=True) * (1 - 8 * np.finfo(S.dtype).eps) <= S
    if (ties.sum(1) == 1).all():
        return ties.argmax(1)
    return np.where(ties, problems.distances(M), np.inf).argmin(1)


# ---- prototypes, labels fixed


def move(
    problems: Problems, M: np.ndarray, labels: np.ndarray, S: np.ndarray, prototype: str
) -> Float[np.ndarray, "b k d"]:
    """The prototypes of hard labels; that of a cluster without rows (for bo: unlabelled ones) stays."""
    L = one_hot(labels, M.shape[1], M.dtype)
    count = L.sum(2, keepdims=True)
    if prototype == "mean":
        new = L @ problems.X / np.maximum(count, 1)
    elif prototype == "mode":
        new = _shift_to_modes(problems, M, L)
    else:
        if prototype == "bo":
            L = L * problems.free
            count = L.sum(2, keepdims=True)
        best = np.where(L > 0, S if prototype == "bo" else _kernel_degrees(problems, L), -1).argmax(2)
        new = np.take_along_axis(problems.X, best[:, :, None], axis=1)
    return np.where(count > 0, new, M)


def _shift_to_modes(problems: Problems, M: np.ndarray, L: np.ndarray) -> np.ndarray:
    """Mean shift: m to the mean of its cluster's rows, weighted by the kernel around m, until it rests."""
    found, at = M.copy(), np.arange(len(M))
    own = np.where(L > 0, 0, -np.inf)
    for _ in range(_SHIFT_STEPS):
        log_weights = own - problems.distances(M) / 2
        # relative to the nearest row's, or all could underflow; of an empty cluster no row counts
        top = np.maximum(log_weights.max(2, keepdims=True), np.finfo(M.dtype).min)
        weights = np.exp(log_weights - top)
        weights /= np.maximum(weights.sum(2, keepdims=True), 1)
        new = weights @ problems.X
        still = (np.square(new - M).sum(2) > _SHIFT_TOL**2 * np.maximum(np.square(M).sum(2), 1)).any(1)
        found[at] = M = new
        if not still.any():
            break
        if not still.all():
            at, M, own, problems = at[still], M[still], own[still], problems.take(still)
    return found


def _kernel_degrees(problems: Problems, L: np.ndarray) -> np.ndarray:
    """For every row and cluster the sum of the kernel to the cluster's rows, by blocks of rows."""
    n = L.shape[2]
    size = max(1, _BLOCK // (len(L) * n))
    parts = [problems.X[:, start : start + size] for start in range(0, n, size)]
    return np.concatenate(
        [L @ np.exp(-problems.distances(part) / 2).swapaxes(1, 2) for part in parts], axis=2
    )


# ---- both in turn


@dataclass(frozen=True)
class Solution:
    """What was found for each problem; prototypes in the unit of the points as they were given."""

    labels: Int[np.ndarray, "b n"]
    memberships: Float[np.ndarray, "b k n"]
    prototypes: Float[np.ndarray, "b k d"]
    energy: list[list[float]]
    converged: Bool[np.ndarray, " b"]
    sigma: Float[np.ndarray, " b"]


def solve(
    model: SLK,
    X: Float[np.ndarray, "b n d"],
    codes: Int[np.ndarray, "b n"],
    n_classes: int,
    W: Any = None,
    edge: Float[np.ndarray, " b"] | None = None,
    start: Float[np.ndarray, "b k d"] | None = None,
) -> Solution:
    """Minimise E by turns, in several problems at once.

    Parameters
    ----------
    model : SLK
        The settings.
    codes : int array
        Class of each labelled row, -1 for the others.
    W : array, shape (b, n, n), or sparse matrix
        Symmetric, without a diagonal; may be None where :func:`needs_graph` is false.
    edge : array, optional
        Mean squared length of the graph's edges.
    start : array, optional
        First prototypes; default: the means of the labelled rows.
    """
    centre = X.mean(1, keepdims=True)
    sigma = _unit(model, X - centre, edge)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        inside = (X - centre) / sigma
    problems = _prepare(inside, W, codes, n_classes)
    if start is None:
        M = problems.pinned @ problems.X / problems.pinned.sum(2, keepdims=True)
    else:
        M = (start - centre) / sigma

    lam, at = float(model.lam), np.arange(len(X))
    cost = problems.cost(M, model.prototype)
    S, settled = relax(problems, cost, model)
    labels = harden(problems, S, M)
    energy = problems.energy(labels, cost, lam)
    found, trace = [labels.copy(), S.copy(), M.copy()], [[float(e)] for e in energy]
    converged = settled & (model.max_iter == 0)
    for _ in range(model.max_iter):
        M = move(problems, M, labels, S, model.prototype)
        cost = problems.cost(M, model.prototype)
        S, settled = relax(problems, cost, model)
        new = harden(problems, S, M)
        before, energy = energy, problems.energy(new, cost, lam)
        worse = energy > problems.energy(labels, cost, lam)
        if worse.any():
            new[worse] = flip(problems.take(worse), cost[worse], labels[worse], model)
            energy = problems.energy(new, cost, lam)
        undone = (occupied(labels, n_classes) & ~occupied(new, n_classes)).any(1)
        rest = undone | (new == labels).all(1) | (np.abs(before - energy) <= model.tol * np.abs(before))
        for whole, part in zip(found, (new, S, M)):
            whole[at[~undone]] = part[~undone]
        for index in np.flatnonzero(~undone):
            trace[at[index]].append(float(energy[index]))
        converged[at[rest]] = settled[rest]
        if rest.all():
            break
        at, labels, S, M, energy = (part[~rest] for part in (at, new, S, M, energy))
        problems = problems.take(~rest)
    labels, S, M = found
    return Solution(labels, S, M * sigma + centre, trace, converged, sigma[:, 0, 0])


def needs_graph(model: SLK) -> bool:
    """Whether anything depends on the neighbours: the energy, or the default unit of kernels."""
    return model.lam > 0 or (model.sigma is None and model.prototype != "mean")


def in_unit(model: SLK, scale: float) -> SLK:
    """The model for points that were divided by ``scale``."""
    if model.sigma is None or scale == 1:
        return model
    return SLK(**{**model.get_params(), "sigma": model.sigma / scale})


def _unit(model: SLK, centred: np.ndarray, edge: np.ndarray | None) -> Float[np.ndarray, "b 1 1"]:
    """The length that distances are measured in."""
    if model.sigma is not None:
        sigma = np.full(len(centred), model.sigma)
    elif model.prototype == "mean":
        spread = np.sqrt(np.square(centred).sum(2).mean(1))
        sigma = np.where(spread > 0, spread, 1)  # of equal rows all distances are zero in any unit
    else:
        assert edge is not None
        if not (edge > 0).all():
            raise ValueError("sigma=None: every row has copies, so that its edges have no length; give sigma")
        sigma = np.sqrt(edge)
    with np.errstate(over="ignore"):
        sigma = sigma[:, None, None].astype(centred.dtype)
    if not np.isfinite(sigma).all():
        raise ValueError(f"sigma is too large for {centred.dtype} numbers: {model.sigma}")
    return sigma


def _prepare(X: np.ndarray, W: Any, codes: np.ndarray, n_classes: int) -> Problems:
    with np.errstate(over="ignore"):
        squares = np.square(X).sum(2)[:, None]
        if not np.isfinite(squares.sum()):
            raise ValueError(
                "sigma is too small: squared distances in units of it are beyond the range of numbers"
            )
    if W is None:
        degree = np.zeros_like(squares)
    else:
        degree = W.sum(1)[:, None] if isinstance(W, np.ndarray) else W.sum(1)[None, None]
    pinned = one_hot(codes, n_classes, X.dtype)
    return Problems(X, squares, W, degree.astype(X.dtype), pinned, (codes < 0)[:, None])


# ---- one problem


class SLK(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Label rows that have none, from few that have one and from the groups that all of them form.

    Without any label it is a clusterer: K-means or K-modes with neighbours that should agree.

    Parameters
    ----------
    n_clusters : int, optional
        Needed where no row has a label; else the labels say it.
    prototype : {"mean", "mode", "bo", "medoid"}
        What stands for a cluster: its mean (distortion by squared distance), or by a Gaussian kernel its mode, the row
        that surely belongs most, or the row of the largest kernel degree, O(n_samples^2 n_features) a round.
    lam : float
        Weight of an edge between two labels, against a squared distance of ``sigma`` (or the height of the kernel).
        0 is K-means or K-modes that keeps labelled rows; above 1 neighbours decide nearly alone. At most 1e6.
        See :func:`search_lambda`.
    n_neighbors : int
        Edges go to so many *other* rows, the row itself not counted. The paper's k = 3 counts it: 2 here. Means with
        ``lam=0`` and kernels with both ``lam=0`` and a ``sigma`` ask for none.
    sigma : float, optional
        The unit of distances. Default: for means the root mean squared distance of rows from their mean, so that
        nothing depends on the unit of X; for the others that length of the graph's edges. ``sigma=1`` is the paper's
        K-means on rows of unit length.
    max_iter : int
        Rounds of new prototypes and labels. 0 keeps the first prototypes, the means of the labelled rows:
        LaplacianShot without its change of them, or with ``lam=0`` the nearest class mean.
    max_inner_iter : int
        Steps of the memberships in a round.
    tol : float
        Relative change of the energy below which rounds end.
    random_state : int, Generator or None
        Draws the first prototypes (k-means++) where no row has a label; nothing else is random.

    Attributes
    ----------
    labels_, transduction_ : ndarray, shape (n_samples,)
        A label of every row, as ``y`` has them; clusters without labels are numbered from 0.
    classes_ : ndarray, shape (n_classes,)
    memberships_ : ndarray, shape (n_samples, n_classes)
        Of the last round's relaxation: no calibrated probabilities. ``labels_`` has their largest, but for rows that
        were flipped to lower the energy.
    prototypes_ : ndarray, shape (n_classes, n_features)
    energy_ : list of float
        After each round. With means and modes it never rises; see the module's text.
    sigma_ : float
    n_iter_ : int
        Rounds that were kept.
    n_features_in_ : int

    References
    ----------
    Ziko et al. 2021, arXiv 2106.09516.

    Examples
    --------
    >>> import numpy as np
    >>> from lodim.partition import SLK
    >>> X = np.array([[0.0], [0.1], [0.2], [0.9], [1.0], [1.1]])
    >>> SLK().fit(X, ["low", None, None, None, None, "high"]).labels_.tolist()
    ['low', 'low', 'low', 'high', 'high', 'high']
    >>> SLK(n_clusters=2, random_state=0).fit_predict(X).tolist() in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])
    True
    """

    def __init__(
        self,
        n_clusters: Any = None,
        *,
        prototype: Any = "mean",
        lam: Any = 0.5,
        n_neighbors: Any = 2,
        sigma: Any = None,
        max_iter: Any = 100,
        max_inner_iter: Any = 600,
        tol: Any = 1e-4,
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.prototype = prototype
        self.lam = lam
        self.n_neighbors = n_neighbors
        self.sigma = sigma
        self.max_iter = max_iter
        self.max_inner_iter = max_inner_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> SLK:
        """Label all rows.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)
        y : array-like, shape (n_samples,), optional
            -1 marks rows without a label (None and NaN do too). No other use is made of it.

        Raises
        ------
        ValueError
            Bad input, neither labels nor ``n_clusters``, more of them than classes with labelled rows where there are
            such, fewer rows than neighbours or clusters need.

        Warns
        -----
        ConvergenceWarning
            Labels still changed after ``max_iter`` rounds, or clusters stayed without rows.
        """
        check_settings(self)
        data = check_matrix(X)
        validate_data(self, X if hasattr(X, "columns") else data, skip_check_array=True)
        n = len(data)
        given = read_partial_labels(np.full(n, -1) if y is None else y, n)
        scale = safe_scale(data)
        centre = (data / scale).mean(0)
        rows = data / scale - centre
        if (graph := needs_graph(self)) and self.n_neighbors >= n:
            raise ValueError(
                f"n_neighbors={self.n_neighbors} other rows need at least {self.n_neighbors + 1}, got n_samples = {n}"
            )
        W = knn_affinity(rows, self.n_neighbors) if graph else None
        start = None if given.known.any() else self._first_prototypes(rows, y)[None]
        n_classes = len(given.classes) if start is None else int(self.n_clusters)
        if self.n_clusters is not None and self.n_clusters > n_classes:
            raise ValueError(
                f"n_clusters={self.n_clusters}, but y labels rows of {n_classes} class(es): where any row has a label, "
                "every class needs one"
            )
        if self.n_clusters is not None and self.n_clusters < n_classes:
            warn(f"n_clusters={self.n_clusters} is not used: y labels rows of {n_classes} classes")
        edge = None if W is None else _mean_squared_edge(rows, W)
        found = solve(in_unit(self, scale), rows[None], given.codes[None], n_classes, W, edge, start)
        if not found.converged[0]:
            warn(
                f"labels still changed after {self.max_iter} rounds (or memberships after {self.max_inner_iter} "
                "steps); raise max_iter or max_inner_iter",
                ConvergenceWarning,
            )
        if (empty := int((~occupied(found.labels, n_classes)).sum())) > 0:
            warn(f"{empty} of {n_classes} clusters have no rows; lower lam or n_clusters", ConvergenceWarning)
        self.classes_ = given.classes if start is None else np.arange(n_classes)
        self.labels_ = self.transduction_ = self.classes_[found.labels[0]]
        self.memberships_ = found.memberships[0].T.copy()
        self._scale, self._centre, self._prototypes = scale, centre, found.prototypes[0]
        self.prototypes_ = (self._prototypes + centre) * scale
        self.energy_ = found.energy[0]
        self.sigma_ = float(found.sigma[0]) * scale
        self.n_iter_ = len(self.energy_) - 1
        return self

    def fit_predict(self, X: Any, y: Any = None) -> np.ndarray:
        """Return ``labels_`` after :meth:`fit`; a clusterer's usual form would drop y."""
        return self.fit(X, y).labels_

    def predict(self, X: Any) -> np.ndarray:
        """The label of the nearest prototype, for rows that were not there.

        Both distortions grow with the distance, so the nearest has the least. Neighbours have no say here: rows of
        the fit may be answered otherwise than in ``labels_``, and to label new rows with the help of each other they
        are fitted together.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features)

        Raises
        ------
        ValueError
            Bad input, or another number of columns.
        """
        check_is_fitted(self)
        data = check_matrix(X)
        validate_data(self, X if hasattr(X, "columns") else data, reset=False, skip_check_array=True)
        # a row's own power of two, so that rows far away neither overflow nor have a say in the others
        top = np.abs(data).max(1, keepdims=True)
        unit = np.maximum(self._scale, np.where(top > 0, np.ldexp(1.0, np.frexp(top)[1] - 1), 0))
        part, M = self._scale / unit, self._prototypes
        rows = data / unit - self._centre * part
        nearest = (np.square(M).sum(1) * part - 2 * rows @ M.T).argmin(1)
        return self.classes_[nearest]

    def _first_prototypes(self, rows: np.ndarray, y: Any) -> np.ndarray:
        """By k-means++, rows far from each other."""
        if self.n_clusters is None:
            what = "the target y is None" if y is None else "no row of y has a label"
            raise ValueError(
                f"SLK requires y to be passed, but {what}: label rows of every class, or give n_clusters"
            )
        if self.n_clusters > len(rows):
            raise ValueError(f"n_clusters={self.n_clusters} need as many rows, got n_samples = {len(rows)}")
        seed = derive_seed(root_seed(self.random_state), "start")
        return kmeans_plusplus(rows, int(self.n_clusters), random_state=seed)[0]


def check_settings(model: SLK) -> None:
    """Refuse settings that are none."""
    check_choice(model.prototype, PROTOTYPES, "prototype")
    check_in_range(model.lam, "lam", low=0, high=1e6)
    check_in_range(model.n_neighbors, "n_neighbors", low=1, integer=True)
    if model.n_clusters is not None:
        check_in_range(model.n_clusters, "n_clusters", low=1, integer=True)
    if model.sigma is not None and not 0 < check_in_range(model.sigma, "sigma", low=0) < math.inf:
        raise ValueError(f"sigma must be positive and finite, got {model.sigma}")
    check_in_range(model.max_iter, "max_iter", low=0, integer=True)
    check_in_range(model.max_inner_iter, "max_inner_iter", low=1, integer=True)
    check_in_range(model.tol, "tol", low=0)
    as_generator(model.random_state)


def _mean_squared_edge(rows: np.ndarray, W: csr_array) -> Float[np.ndarray, " 1"]:
    """Over the edges of the graph, each once, by blocks of them."""
    edges = triu(W).tocoo()
    size = max(1, _BLOCK // rows.shape[1])
    total = 0.0
    for start in range(0, edges.nnz, size):
        part = slice(start, start + size)
        total += float(np.square(rows[edges.row[part]] - rows[edges.col[part]]).sum())
    return np.array([total / edges.nnz])
