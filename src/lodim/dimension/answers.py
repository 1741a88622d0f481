"""One estimator's answer on one graph, ready to be resampled, calibrated and put beside others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from lodim.dimension.adaptive import adaptive_dimension
from lodim.dimension.calibration import calibrate
from lodim.dimension.danco import danco, neighbour_concentration
from lodim.dimension.doubts import check_enough
from lodim.dimension.extrapolated import geomle
from lodim.dimension.growth import (
    GRAPH_POINTS,
    TREE_POINTS,
    graph_length_dimension,
    tree_dimension,
)
from lodim.dimension.methods import GRAPH_METHODS, OTHER_K, default_k, put_together
from lodim.dimension.nearest import divide, gride, log_ratios, mind_integer
from lodim.dimension.pairs import correlation_dimension, fisher_separability
from lodim.dimension.simplex import ess
from lodim.dimension.spectrum import (
    covariance_spectrum,
    linear_dimension,
    local_dimension,
    local_spectra,
)
from lodim.dimension.tight import tle
from lodim.neighbors import NeighborGraph, bootstrap

Resampled = Callable[[np.ndarray], float]
RESAMPLES = 200


@dataclass(frozen=True)
class Answer:
    """Raw answer of an estimator that looked as far as the ``k``-th neighbour (0 for none).

    ``resampled`` is the estimator on the query points at given positions; ``calibrated`` and, for arrays, ``to_ball``
    come from :mod:`lodim.dimension.calibration`; ``se`` from the likelihood, where there is one; if ``saturated``, the
    value is only a lower bound.
    """

    dimension: float
    k: int = 0
    pointwise: Float[np.ndarray, " n_queries"] | None = None
    resampled: Resampled | None = None
    calibrated: float | None = None
    to_ball: Callable[[np.ndarray], np.ndarray] | None = None
    se: float | None = None
    note: str = ""
    saturated: bool = False


def _of_graph(method: str, graph: NeighborGraph, k: int, aggregate: str | None) -> Answer:
    chosen = GRAPH_METHODS[method]
    values = chosen.contributions(graph.dist, k)
    raw = chosen.combine(values, k, aggregate)

    def to_ball(estimates: np.ndarray) -> np.ndarray:
        return calibrate(estimates, method, graph.n_ref, k, aggregate)

    se = gride(values, k // 2 if method == "gride" else 1, k)[1] if method in ("gride", "mind") else None
    return Answer(
        raw,
        k,
        chosen.pointwise(values, k),
        lambda drawn: chosen.combine(values[drawn], k, aggregate),
        float(to_ball(np.array(raw))),
        to_ball,
        se,
        _k_note(method, k),
    )


def _k_note(method: str, k: int) -> str:
    own = GRAPH_METHODS[method].k if method in GRAPH_METHODS else OTHER_K[method]
    return f"k={k}" if k != own else ""


def answer(
    method: str,
    graph: NeighborGraph,
    X: Float[np.ndarray, "n features"] | None = None,
    k: int | None = None,
    aggregate: str | None = None,
    *,
    rule: str | None = None,
    seed: int = 0,
) -> Answer:
    """Apply one estimator (any but the consensus) to a graph and, for the methods of :data:`NEED_DATA`, its data.

    Without k it is :func:`~lodim.dimension.methods.default_k`, save that ``lpca`` then looks at all points at once;
    ``rule`` is for ``lpca``, and ``seed`` draws the subsamples of ``geomle``, ``knn`` and ``ph``.
    """
    if k is None:
        check_enough(method, graph.n_ref, graph.n_dropped_duplicates)
    given, k = k, default_k(method, graph.n_ref) if k is None else k
    if k > graph.k:
        raise ValueError(
            f"{method!r} with k={k} needs {k} neighbours of each point, the graph has {graph.k}; "
            f"build it with NeighborGraph.from_data(X, {k})"
        )
    if method in GRAPH_METHODS:
        return _of_graph(method, graph, k, aggregate)
    if X is None:
        if method in NEED_DATA:
            raise ValueError(f"method={method!r} needs the data, not only their neighbour graph; call fit(X)")
        X = np.empty((len(graph.twin), 0))
    if method == "lpca":
        return _linear(X, graph, given, rule or "FO", aggregate)
    if method in ("knn", "ph"):
        return _growth(method, X, graph, given, seed)
    if method in _LOCAL:
        return _of_local(_LOCAL[method](X, graph, k, seed), k, aggregate, _k_note(method, k))
    return _GLOBAL[method](X, graph, k)


NEED_DATA = ("tle", "corrint", "lpca", "fishers", "danco", "ess", "knn", "ph")


def _of_local(local: np.ndarray, k: int, aggregate: str | None, note: str) -> Answer:
    how = aggregate or "mean"
    return Answer(
        put_together(local, how), k, local, lambda drawn: put_together(local[drawn], how), note=note
    )


def _linear(X: np.ndarray, graph: NeighborGraph, k: int | None, rule: str, aggregate: str | None) -> Answer:
    varying = X.max(0) > X.min(0)  # a constant column is no direction
    X = X if varying.all() else X[:, varying]
    if k is None:
        rows = _distinct(X, graph)
        d = linear_dimension(covariance_spectrum(rows), rule, rows.shape)
        return Answer(d, note="; ".join(["linear, seen from outside", *_of_all(graph)]))
    local = local_dimension(local_spectra(X, graph, k), rule, (k + 1, X.shape[1]))
    return _of_local(local, k, aggregate, _k_note("lpca", k))


def _distinct(X: np.ndarray, graph: NeighborGraph) -> np.ndarray:
    """Every row once; rows that are some of the graph's already are left as they are."""
    return X[graph.distinct] if len(X) == len(graph.twin) > graph.n_ref else X


def _of_all(graph: NeighborGraph) -> tuple[str, ...]:
    return ("on all points",) if graph.n_queries < graph.n_ref else ()


def _growth(method: str, X: np.ndarray, graph: NeighborGraph, k: int | None, seed: int) -> Answer:
    X = _distinct(X, graph)
    most = GRAPH_POINTS if method == "knn" else TREE_POINTS
    note = f"on {most} random points" if len(X) > most else "; ".join(_of_all(graph))
    if method == "ph":
        return Answer(tree_dimension(X, random_state=seed), note=note)
    return Answer(graph_length_dimension(X, k or 5, random_state=seed), k or 0, note=note)


def _danco(X: np.ndarray, graph: NeighborGraph, k: int) -> Answer:
    found = neighbour_concentration(X, graph, k - 1)
    d, saturated = danco(found.statistics(), graph.n_ref, k - 1)
    return Answer(
        d,
        k,
        resampled=lambda drawn: danco(found.statistics(drawn), graph.n_ref, k - 1)[0],
        note="lower bound: the largest ball compared with" if saturated else _k_note("danco", k),
        saturated=saturated,
    )


def _fishers(X: np.ndarray, graph: NeighborGraph, k: int) -> Answer:
    whole = len(X) == len(graph.twin) and graph.n_queries < graph.n_ref
    queries = np.searchsorted(graph.distinct, graph.query_idx) if whole else None
    found = fisher_separability(_distinct(X, graph), query_idx=queries)
    note = "lower bound: all pairs are separable" if found.saturated else ""
    return Answer(found.dimension, note=note, saturated=found.saturated)


def _corrint(X: np.ndarray, graph: NeighborGraph, k: int) -> Answer:
    return Answer(correlation_dimension(X, graph, max(1, k // 2), k), k, note=_k_note("corrint", k))


def _abide(X: np.ndarray, graph: NeighborGraph, k: int) -> Answer:
    found = adaptive_dimension(graph, k)
    note = f"neighbourhoods of {np.median(found.k_star):.0f} points"
    return Answer(found.dimension, k, found.pointwise, se=found.se, note=note)


def _mind_integer(X: np.ndarray, graph: NeighborGraph, k: int) -> Answer:
    l = log_ratios(graph.dist, 1, k)
    return Answer(
        mind_integer(l, k - 1),
        k,
        resampled=lambda drawn: mind_integer(l[drawn], k - 1),
        note=_k_note("mind_integer", k),
    )


_LOCAL: dict[str, Callable[[np.ndarray, NeighborGraph, int, int], np.ndarray]] = {
    "tle": lambda X, graph, k, seed: tle(X, graph, k),
    "ess": lambda X, graph, k, seed: ess(X, graph, k),
    "geomle": lambda X, graph, k, seed: geomle(graph, k, random_state=seed),
}
_GLOBAL: dict[str, Callable[[np.ndarray, NeighborGraph, int], Answer]] = {
    "mind_integer": _mind_integer,
    "danco": _danco,
    "corrint": _corrint,
    "fishers": _fishers,
    "abide": _abide,
}


def percentile_interval(
    resampled: Resampled, n: int, level: float, seed: int, to_ball: Any = None
) -> tuple[Float[np.ndarray, " draws"], tuple[float, float] | None]:
    """Draws of a bootstrap over ``n`` query points, and their interval; None where one of them is not finite."""
    draws = bootstrap(resampled, n, RESAMPLES, seed)
    draws = draws if to_ball is None else to_ball(draws)
    if not np.isfinite(draws).all():
        return draws, None
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return draws, (float(low), float(high))


def local_of_consensus(local: Answer, value: int | float) -> Float[np.ndarray, " n_queries"]:
    """Local dimensions scaled to agree with the consensus; left as they are where theirs is not finite."""
    assert local.pointwise is not None
    return local.pointwise * (value / local.dimension if math.isfinite(local.dimension) else 1.0)


def smooth(
    graph: NeighborGraph, local: Float[np.ndarray, " n_queries"], k: int
) -> Float[np.ndarray, " n_queries"]:
    """Inverse mean of the local dimensions of each query and of those of its ``k`` neighbours that are queries."""
    inverse = np.full(len(graph.twin), np.nan)
    inverse[graph.query_idx] = divide(1.0, local)
    around = np.concatenate([inverse[graph.query_idx, None], inverse[graph.idx[:, :k]]], 1)
    mean = np.nanmean(around, axis=1)
    return divide(1.0, mean)
