"""k nearest neighbours of query points, exact in double precision whatever finds the candidates.

A fast pass (blocks of products, or faiss) gives each query ``k`` candidates and a few more; their distances are
computed again in double precision. The rounding bound of the fast pass decides whether a point left out could be nearer
than the k-th by more than the 5e-12 to which distances are right. Queries for which it could go on to a pass in double
precision and, where the bound of that does not decide either (tight clusters far apart, a point far from all others),
to :func:`_complete`, which measures every row that is not certainly too far by its difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from lodim.linalg.precision import power_of_two
from lodim.neighbors.distances import (
    ROUNDING,
    by_difference,
    exact_distances,
    nearest_of,
    pair_distances,
    product_error,
)
from lodim.neighbors.pair_blocks import choose_dtype, nearest_rows
from lodim.validation import require

__all__ = ["cells_index", "search", "search_block", "single_unit"]

_BLOCK_ENTRIES = 1 << 22
_OPTIONS = {"blocked": ("block_q", "block_r", "dtype"), "faiss-ivf": ("n_lists", "n_probe")}
_TINY = 1e-140  # distances whose squares have lost digits

# Of the queries at some positions: squared distances of candidates, ascending, their rows, and the largest error of the
# squares (minus infinity if no row is left out).
_Pass = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


def _n_candidates(k: int, n: int) -> int:
    return min(k + max(4, k // 16), n - 1)


def _certain(
    Q: np.ndarray,
    X: np.ndarray,
    k: int,
    own: np.ndarray,
    limit: np.ndarray,
    passes: Iterable[_Pass],
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """The up to k nearest rows of each query (no farther than its ``limit``), by the first pass that is sure of them.

    ``measure`` gives the distances of queries at some positions to candidates.
    """
    dist, idx = np.empty((len(Q), min(k, len(X)))), np.empty((len(Q), min(k, len(X))), dtype=np.int64)
    pending = np.arange(len(Q))
    for candidates in passes:
        fast, found, error = candidates(pending)
        near = measure(pending, found)
        near[found == own[pending, None]] = np.inf
        dist[pending], idx[pending] = nearest_of(near, found, k)
        farthest = np.minimum(dist[pending, -1], limit[pending])
        pending = pending[farthest**2 * (1 - ROUNDING) > fast[:, -1] - error]
        if not len(pending):
            return dist, idx
    farthest = np.minimum(dist[pending, -1], limit[pending])
    dist[pending], idx[pending] = _complete(Q[pending], X, k, own[pending], farthest)
    return dist, idx


def _complete(
    Q: np.ndarray, X: np.ndarray, k: int, own: np.ndarray, limit: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest by differences from every row that a product does not prove farther than ``limit``.

    Where there are fewer, distances are infinite. Rows are centred on a median, which a point far off does not move.
    """
    centre = np.median(X[:: max(1, len(X) // 256)], axis=0).astype(np.float64)
    rows = X - centre
    # |error| <= c (|q| + |x|)^2 <= 2 c (|q|^2 + |x|^2)
    shrink = 1 - 2 * product_error(X.shape[1], torch.float64)
    squares = shrink * np.einsum("ij,ij->i", rows, rows)
    dist, idx = np.full((len(Q), k), np.inf), np.zeros((len(Q), k), dtype=np.int64)
    step = max(1, _BLOCK_ENTRIES // len(X))
    for start in range(0, len(Q), step):
        queries = Q[start : start + step] - centre
        least = queries @ rows.T
        least *= -2
        least += squares
        least += shrink * np.einsum("ij,ij->i", queries, queries)[:, None]
        near = (
            least - np.finfo(np.float64).tiny <= (limit[start : start + step] ** 2 * (1 + ROUNDING))[:, None]
        )
        for row, maybe in enumerate(near, start):
            found = np.flatnonzero(maybe)
            found = found[found != own[row]]
            first = nearest_of(by_difference(Q, np.array([row]), X, found[None]), found[None], k)
            dist[row, : len(found)], idx[row, : len(found)] = first[0][0], first[1][0]
    return dist, idx


def _blocked(
    X: np.ndarray, k: int, query_idx: np.ndarray, device: Any, options: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    wanted = _n_candidates(k, len(X))
    precise = options.pop("dtype", None) or choose_dtype(X, len(query_idx), len(X))

    def blocks(dtype: torch.dtype) -> _Pass:
        def candidates(some: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            subset = None if len(some) == len(X) else query_idx[some]
            return nearest_rows(X, None, wanted, query_idx=subset, dtype=dtype, device=device, **options)

        return candidates

    return _certain(
        X if len(query_idx) == len(X) else X[query_idx],
        X,
        k,
        query_idx,
        np.full(len(query_idx), np.inf),
        map(blocks, dict.fromkeys((precise, torch.float64))),
        lambda some, found: pair_distances(X, query_idx[some], found, device=device),
    )


def search_block(
    Q: Float[np.ndarray, "n_q features"],
    X: Float[np.ndarray, "n features"],
    k: int,
    own: Int[np.ndarray, " n_q"],
    limit: Float[np.ndarray, " n_q"],
    *,
    device: Any = None,
    faiss: bool = False,
    each_alone: bool = False,
) -> tuple[Float[np.ndarray, "n_q m"], Int[np.ndarray, "n_q m"]]:
    """The up to k nearest rows of ``X`` of each query: distances ascending (infinite where there is none), indices.

    ``X`` is one block of the references. Neighbours farther than a query's ``limit`` (the distance to the k-th nearest
    of the blocks before) may be missing: they are not among the k nearest of all blocks. ``own`` is the row of ``X``
    that a query is, or -1. With ``faiss`` a flat index finds the candidates in single precision; ``each_alone``
    measures every pair by its difference, so that its distance does not depend on the other rows of the block.
    """
    wanted = min(_n_candidates(k, len(X) + 1) + 1, len(X))
    measure = by_difference if each_alone else exact_distances
    precise = torch.float32 if faiss else choose_dtype(Q, len(Q), len(X))

    def blocks(dtype: torch.dtype) -> _Pass:
        if faiss and dtype == torch.float32:
            return lambda some: _flat_candidates(Q[some], X, wanted)
        return lambda some: nearest_rows(Q[some], X, wanted, dtype=dtype, device=device)

    passes = map(blocks, dict.fromkeys((precise, torch.float64)))
    return _certain(Q, X, k, own, limit, passes, lambda some, found: measure(Q, some, X, found))


def _flat_candidates(Q: np.ndarray, X: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a pass of :func:`_certain` gives, by faiss, centred on the queries as the blocks are."""
    centre = Q.mean(0, dtype=np.float64)
    rows, queries = X - centre, Q - centre
    unit = single_unit(rows, queries)
    rows, queries = (np.ascontiguousarray(Z / unit, dtype=np.float32) for Z in (rows, queries))
    index = require("faiss", "faiss").IndexFlatL2(X.shape[1])
    index.add(rows)
    fast, found = index.search(queries, wanted)
    reach = np.linalg.norm(queries, axis=1).astype(np.float64) + np.linalg.norm(rows, axis=1).max()
    error = product_error(X.shape[1], torch.float32) * reach**2 + X.shape[1] * torch.finfo(torch.float32).tiny
    if wanted == len(X):
        error[:] = -np.inf
    return fast.astype(np.float64) * unit**2, found.astype(np.int64), error * unit**2


def single_unit(*sets: Float[np.ndarray, "_ features"]) -> float:
    """A power of two near the largest entry: measured in it, nothing overflows in the single precision of faiss."""
    largest = max(float(np.abs(rows).max(initial=0)) for rows in sets)
    return power_of_two(largest)


def _kdtree(X: np.ndarray, k: int, query_idx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = np.asarray(cKDTree(X).query(X[query_idx], k=k + 1)[1])
    mine = found == query_idx[:, None]
    mine[~mine.any(1), -1] = True  # where squares underflow; those queries are searched again
    found = found[~mine].reshape(len(query_idx), k).astype(np.int64)
    dist, idx = nearest_of(pair_distances(X, query_idx, found), found, k)
    again = np.flatnonzero(dist[:, -1] < _TINY)
    if len(again):
        rows = query_idx[again]
        dist[again], idx[again] = _complete(X[rows], X, k, rows, dist[again, -1])
    return dist, idx


def cells_index(
    rows: Float[np.ndarray, "n features"], n_lists: int | None = None, n_probe: int | None = None
) -> Any:
    """A faiss index of cells (IVF) over single-precision rows: about sqrt(n) cells, a sixteenth of them looked into.

    ``n_lists`` cells (never more than rows), of which a query looks into ``n_probe``, may be asked for instead.
    """
    faiss = require("faiss", "faiss")
    n_lists = max(1, int(np.sqrt(len(rows)))) if n_lists is None else min(n_lists, len(rows))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(rows.shape[1]), rows.shape[1], n_lists)
    index.train(rows)
    index.nprobe = max(1, n_lists // 16) if n_probe is None else n_probe
    index.add(rows)
    return index


def _in_cells(
    X: np.ndarray, k: int, query_idx: np.ndarray, options: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    centred = X - X.mean(0)
    rows = np.ascontiguousarray(centred / single_unit(centred), dtype=np.float32)
    index = cells_index(rows, **options)
    _, found = index.search(rows[query_idx], _n_candidates(k, len(X)) + 1)
    found = np.where(found < 0, query_idx[:, None], found)  # cells may hold fewer points than asked for
    dist = pair_distances(X, query_idx, found.astype(np.int64))
    dist[found == query_idx[:, None]] = np.inf
    dist, idx = nearest_of(dist, found.astype(np.int64), k)
    if not np.isfinite(dist).all():
        raise ValueError(f"faiss-ivf found fewer than k={k} neighbours of some points; raise n_probe")
    return dist, idx


def search(
    X: Float[np.ndarray, "n features"],
    k: int,
    query_idx: Int[np.ndarray, " n_q"],
    backend: str,
    *,
    device: Any = None,
    **options: Any,
) -> tuple[Float[np.ndarray, "n_q k"], Int[np.ndarray, "n_q k"]]:
    """The k < n nearest other rows of each query, all rows being distinct: distances ascending, and indices.

    ``device`` is for ``"blocked"``, which takes the options ``block_q``, ``block_r`` and ``dtype``; ``"faiss-ivf"``
    takes ``n_lists`` and ``n_probe``; another option is a ValueError.
    """
    for name in options:
        if name not in _OPTIONS.get(backend, ()):
            able = ", ".join(_OPTIONS.get(backend, ())) or "none"
            raise ValueError(f"backend={backend!r} has no option {name!r}; it takes {able}")
    if backend == "kdtree":
        return _kdtree(X, k, query_idx)
    if backend == "blocked":
        return _blocked(X, k, query_idx, device, options)
    if backend == "faiss-ivf":
        return _in_cells(X, k, query_idx, options)
    nowhere = np.full(len(query_idx), np.inf)
    return search_block(X[query_idx], X, k, query_idx, nowhere, faiss=True)
