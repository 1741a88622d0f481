"""ABIDE: dimension at the largest scale at which the density is still constant (Di Noia 2024, arXiv 2405.15132).

Small neighbourhoods measure noise, large ones see the density change. Around each point the neighbourhood grows until a
likelihood-ratio test rejects that its density equals that around its next neighbour; the dimension is then estimated
on those neighbourhoods, and since volumes need a dimension, both steps alternate until they agree.

============== ================================ ==========================================================
in the paper   here                             meaning
============== ================================ ==========================================================
v_{i,k}        ``r_{i,k}^d``                    volume of the ball with k neighbours (its constant cancels)
D_k            ``_ratio_statistic``             -2k (log v_i + log v_j - 2 log(v_i + v_j) + log 4),
                                                j the (k+1)-th neighbour of i
D_thr          ``threshold``                    6.67: one in a hundred for chi squared with one degree
k*_i           ``k_star``                       last k before the first rejection
tau            ``_BEST_RATIO ** (1 / d)``       inner over outer radius, the most informative one
n_i            ``inside``                       points nearer than tau r_{k*}
============== ================================ ==========================================================

Among the k* - 1 points inside the outer ball a binomial number with probability tau^d lies in the inner one:
``d = log(sum n_i / sum (k*_i - 1)) / log tau``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from lodim.dimension.nearest import log_ratios, twonn_mle
from lodim.neighbors import NeighborGraph
from lodim.validation import ConvergenceWarning, warn

_BEST_RATIO = 0.2032
_LEAST_K = 4
_ROUNDS = 30


@dataclass(frozen=True)
class AdaptiveDimension:
    """Dimension by adaptive neighbourhoods: ``k_star`` neighbours around each point, and one dimension a round in
    ``history``, TwoNN first.

    ``se``, from the binomial likelihood, is a lower bound of the true one, since neighbourhoods overlap. ``pointwise``
    is the same ratio within each neighbourhood alone: coarse where it is small, infinite where no neighbour lies in the
    inner ball.
    """

    dimension: float
    se: float
    k_star: Int[np.ndarray, " n_queries"]
    pointwise: Float[np.ndarray, " n_queries"]
    history: tuple[float, ...]


def _ratio_statistic(log_ratio: np.ndarray, k: np.ndarray) -> np.ndarray:
    """D_k from ``log(v_i / v_j)``: 4k log cosh(log_ratio / 2), written without overflow."""
    half = np.abs(log_ratio) / 2
    return 4 * k * (half + np.log1p(np.exp(-2 * half)) - math.log(2))


def _k_star(log_dist: np.ndarray, other: np.ndarray, d: float, threshold: int | float) -> np.ndarray:
    """Last k before the first rejection; columns of ``other`` are log r_{j,k}, j the (k+1)-th neighbour."""
    most = other.shape[1]
    k = np.arange(1, most + 1)
    rejected = _ratio_statistic(d * (log_dist[:, :most] - other), k) > threshold
    rejected[:, : _LEAST_K - 1] = False
    first = np.where(rejected.any(1), rejected.argmax(1), most)
    return np.maximum(first, _LEAST_K)  # column c tests k = c + 1, so the last passed is k = c


def _binomial(dist: np.ndarray, k_star: np.ndarray, d: float) -> tuple[float, float, np.ndarray]:
    """Dimension, its standard error, and the dimension of each neighbourhood by itself."""
    tau = _BEST_RATIO ** (1 / d)
    outer = dist[np.arange(len(dist)), k_star - 1]
    within = (dist < tau * outer[:, None]).sum(1)
    inside = int(within.sum())
    trials = int((k_star - 1).sum())
    logs = np.log(within / (k_star - 1), out=np.full(len(dist), -np.inf), where=within > 0)
    local = np.abs(logs / math.log(tau))
    share = inside / trials
    if not 0 < share < 1:
        return (math.inf if share == 0 else 0.0), math.inf, local
    found = math.log(share) / math.log(tau)
    return found, math.sqrt((1 - share) / (share * trials)) / -math.log(tau), local


def adaptive_dimension(graph: NeighborGraph, k: int, *, threshold: int | float = 6.67) -> AdaptiveDimension:
    """ABIDE on a graph whose queries are all its distinct points, by k neighbours (the last is only compared with)."""
    if graph.n_queries != graph.n_ref:
        raise ValueError(
            f"'abide' compares every point with its neighbours, but only {graph.n_queries} of {graph.n_ref} points "
            "are queries; leave n_queries=None, or give it fewer points"
        )
    if not 6 <= k <= graph.k:
        raise ValueError(f"'abide' grows to 6 neighbours or more, at most the graph's {graph.k}; got k={k}")
    d = twonn_mle(log_ratios(graph.dist))
    if not math.isfinite(d):
        least, tied = np.full(graph.n_queries, _LEAST_K), np.full(graph.n_queries, math.inf)
        return AdaptiveDimension(math.inf, math.inf, least, tied, (d,))
    dist = graph.dist[:, :k]
    log_dist = np.log(dist)
    position = np.zeros(len(graph.twin), dtype=np.int64)
    position[graph.query_idx] = np.arange(graph.n_queries)
    following = position[graph.idx[:, 1:k]]  # column k - 1: the (k+1)-th neighbour
    other = log_dist[following, np.arange(k - 1)]
    history, se, k_star, local = [d], math.inf, np.full(len(dist), _LEAST_K), np.full(len(dist), math.inf)
    for _ in range(_ROUNDS):
        k_star = _k_star(log_dist, other, d, threshold)
        d, se, local = _binomial(dist, k_star, d)
        history.append(d)
        if not 0 < d < math.inf or abs(d - history[-2]) < 1e-3 * d:
            break
    else:
        warn(f"adaptive neighbourhoods did not settle in {_ROUNDS} rounds", ConvergenceWarning)
    return AdaptiveDimension(d, se, k_star, local, tuple(history))
