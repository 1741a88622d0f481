"""The estimators by name: what each needs, its default neighbours, and how points are put together.

Estimators of the neighbour graph share one shape: a number at each query point (``contributions``), put together by
``combine``. So one bootstrap and one calibration serve them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lodim.dimension import nearest
from lodim.validation import check_choice

AGGREGATES = ("inverse_mean", "mean", "median")


@dataclass(frozen=True)
class GraphMethod:
    """An estimator that is a function of the distances to the ``k`` nearest neighbours, at least ``least_k``.

    ``contributions(dist (n, >= k), k)`` are one number a point; ``combine`` makes a dimension of them by one of the
    ``aggregates`` (the default first; none if there is one way only), ``pointwise`` local ones.
    """

    k: int
    least_k: int
    contributions: Callable[[np.ndarray, int], np.ndarray]
    combine: Callable[[np.ndarray, int, str | None], float]
    pointwise: Callable[[np.ndarray, int], np.ndarray]
    aggregates: tuple[str, ...] = ()


def put_together(local: Float[np.ndarray, " n"], how: str) -> float:
    """Mean, median or inverse mean of the inverse of local dimensions."""
    if how == "inverse_mean":
        mean = float(nearest.divide(1.0, local).mean())
        return 1 / mean if mean > 0 else math.inf
    return float(local.mean() if how == "mean" else np.median(local))


def _of_inverse(default: str) -> Callable[[np.ndarray, int, str | None], float]:
    def combine(inverse: np.ndarray, k: int, aggregate: str | None) -> float:
        how = aggregate or default
        if how == "inverse_mean":
            mean = float(inverse.mean())
            return 1 / mean if mean > 0 else math.inf
        return put_together(nearest.divide(1.0, inverse), how)

    return combine


def _of_local(default: str) -> Callable[[np.ndarray, int, str | None], float]:
    return lambda local, k, aggregate: put_together(local, aggregate or default)


def _gride_of(orders: Callable[[int], tuple[int, int]], k: int) -> GraphMethod:
    """Gride between the two neighbours that ``orders`` makes of k."""
    return GraphMethod(
        k,
        2,
        lambda dist, k: nearest.log_ratios(dist, *orders(k)),
        lambda l, k, aggregate: nearest.gride(l, *orders(k))[0],
        lambda l, k: nearest.gride_pointwise(l, *orders(k)),
    )


def _twonn(estimate: Callable[[np.ndarray], float]) -> GraphMethod:
    ratios = lambda dist, k: nearest.log_ratios(dist)  # noqa: E731
    return GraphMethod(2, 2, ratios, lambda l, k, aggregate: estimate(l), _local_of_inverse)


def _mle(least_k: int, *, unbiased: bool) -> GraphMethod:
    inverse = lambda dist, k: nearest.levina_bickel(dist, k, unbiased=unbiased)  # noqa: E731
    return GraphMethod(20, least_k, inverse, _of_inverse("inverse_mean"), _local_of_inverse, AGGREGATES)


def _local_of_inverse(inverse: np.ndarray, k: int) -> np.ndarray:
    return nearest.divide(1.0, inverse)


def _local(local: np.ndarray, k: int) -> np.ndarray:
    return local


GRAPH_METHODS: dict[str, GraphMethod] = {
    "twonn": _twonn(nearest.twonn_mle),
    "twonn_fit": _twonn(nearest.twonn_fit),
    "l2n2": _twonn(nearest.l2n2),
    "gride": _gride_of(lambda k: (k // 2, k), 4),
    "mind": _gride_of(lambda k: (1, k), 11),
    "mle": _mle(2, unbiased=False),
    "mle_unbiased": _mle(3, unbiased=True),
    "mom": GraphMethod(100, 2, nearest.mom, _of_local("mean"), _local, ("mean", "inverse_mean", "median")),
    "mada": GraphMethod(20, 2, nearest.mada, _of_local("median"), _local, ("median", "inverse_mean", "mean")),
}
# neighbours that the consensus looks at: the most of these that are at most a third of the points
CONSENSUS_K = (64, 20, 5)
OTHER_K = {
    "tle": 20,
    "corrint": 20,
    "lpca": 0,
    "fishers": 0,
    "mind_integer": 11,
    "danco": 11,
    "ess": 100,
    "geomle": 100,
    "abide": 100,
    "knn": 0,
    "ph": 0,
    "consensus": 100,
}
LEAST_K = {m: chosen.least_k for m, chosen in GRAPH_METHODS.items()} | {
    "danco": 4,
    "ess": 3,
    "geomle": 20,
    "abide": 6,
}
_FEWEST_WITHOUT_K = {"knn": 14, "ph": 12}  # three sizes at which to watch a graph grow
METHODS = (*GRAPH_METHODS, *OTHER_K)
LOCAL_METHODS = ("tle", "ess", "geomle")
CONSENSUS = ("twonn", "gride", "mle", "mada", "mom")


def default_k(method: str, n: int) -> int:
    """Neighbours a method uses if none are asked for: its own number, but at most a tenth of n distinct points.

    Never fewer than 5 or than the method needs at all; 0 for methods that look at no neighbours.
    """
    check_choice(method, METHODS, "method")
    if method == "consensus":
        return next((k for k in CONSENSUS_K if 3 * k <= n), min(CONSENSUS_K[-1], n - 1))
    own = GRAPH_METHODS[method].k if method in GRAPH_METHODS else OTHER_K[method]
    if own == 0:
        return 0
    k = min(own, max(5, n // 10, LEAST_K.get(method, 2)), n - 1)
    return k - k % 2 if method in ("gride", "mada") else k


def fewest_points(method: str) -> int:
    """Distinct points a method needs when no k is asked for."""
    own = GRAPH_METHODS[method].k if method in GRAPH_METHODS else OTHER_K[method]
    if own == 0:
        return _FEWEST_WITHOUT_K.get(method, 2)
    k = min(own, max(5, LEAST_K.get(method, 2)))
    return k + 2 - (k % 2 if method in ("gride", "mada") else 0)


def points_needed(d: int | float) -> float:
    """Fewest points of which pair counts can show a dimension: 10^(d/2) (Eckmann and Ruelle 1992)."""
    return 10 ** (d / 2) if d < 600 else math.inf
