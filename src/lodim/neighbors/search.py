"""k nearest neighbours of query points, exact in double precision whatever finds the candidates.

A fast pass (single-precision blocks or faiss) gives each query ``k`` candidates and a few more; their distances are
computed again in double precision. A rounding bound of the fast pass decides whether a point left out
could be nearer than the k-th: for a product of length p, ``|error| <= p u (|x| + |y|)^2`` (Higham, *Accuracy and
Stability of Numerical Algorithms*, section 3.1). Queries for which it could are searched again in double precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from lodim.neighbors.pair_blocks import choose_dtype, stream_pairs
from lodim.neighbors.reducers import TopK
from lodim.validation import require

__all__ = [
    "by_difference",
    "cells_index",
    "nearest_of",
    "pair_distances",
    "search",
    "search_block",
    "single_unit",
]

_CHUNK_ENTRIES = 1 << 22
_PRODUCT_FEATURES = 64
_PRODUCT_ERROR = 1e-11


def nearest_of(
    dist: Float[np.ndarray, "n_q a"], idx: Int[np.ndarray, "n_q a"], k: int
) -> tuple[Float[np.ndarray, "n_q k"], Int[np.ndarray, "n_q k"]]:
    """The k nearest of ``a >= k`` candidates of each query, by distance, then by index."""
    order = np.lexsort((idx, dist), axis=1)[:, :k]
    return np.take_along_axis(dist, order, 1), np.take_along_axis(idx, order, 1)


def pair_distances(
    X: Float[np.ndarray, "n features"],
    query_idx: Int[np.ndarray, " n_q"],
    idx: Int[np.ndarray, "n_q k"],
    *,
    device: Any = None,
) -> Float[np.ndarray, "n_q k"]:
    """Distances from rows of X, ``query_idx`` (n_q,), to its rows ``idx`` (n_q, k), on the CPU or on a CUDA ``device``.

    They are computed in double precision and right to 5e-12 of their size.
    """
    if device is not None and torch.device(device).type == "cuda":
        return _pair_distances_cuda(X, query_idx, idx, torch.device(device))
    return _exact_distances(X, query_idx, X, idx)


def _exact_distances(Q: np.ndarray, rows: np.ndarray, X: np.ndarray, idx: np.ndarray) -> np.ndarray:
    """Distances from the rows ``rows`` of Q to the rows ``idx`` of X, in double precision.

    With many columns a product costs half a difference, so squares come from |q|^2 - 2 q.x + |x|^2 wherever the bound
    of its rounding error is below ``_PRODUCT_ERROR`` of the square, and from differences elsewhere.
    """
    if X.shape[1] < _PRODUCT_FEATURES or not _around_origin(X):
        squares = _squares_by_difference(Q, rows, X, idx)
    else:
        squares = _squares_by_product(Q, rows, X, idx)
    return _roots(squares, Q, rows, X, idx)


def by_difference(
    Q: Float[np.ndarray, "n_q features"],
    rows: Int[np.ndarray, " m"],
    X: Float[np.ndarray, "n features"],
    idx: Int[np.ndarray, "m k"],
) -> Float[np.ndarray, "m k"]:
    """Distances from the rows ``rows`` of Q to the rows ``idx`` of X, each from its two rows and nothing else."""
    return _roots(_squares_by_difference(Q, rows, X, idx), Q, rows, X, idx)


def _roots(
    squares: np.ndarray, Q: np.ndarray, rows: np.ndarray, X: np.ndarray, idx: np.ndarray
) -> np.ndarray:
    dist = np.sqrt(squares, out=squares)
    for row, column in np.argwhere(dist == 0):  # equal rows, or an underflow
        difference = np.abs(Q[rows[row]].astype(np.float64) - X[idx[row, column]])
        largest = difference.max()
        dist[row, column] = largest * np.sqrt(((difference / (largest or 1)) ** 2).sum())
    return dist


def _around_origin(X: np.ndarray) -> bool:
    """Whether the rows spread about the origin as widely as they lie from it (a tenth at least)."""
    total = float(np.einsum("ij,ij->", X, X, dtype=np.float64)) / len(X)
    offset = float(np.square(X.mean(0, dtype=np.float64)).sum())
    return total - offset > 0.1 * total


def _squares_by_difference(Q: np.ndarray, rows: np.ndarray, X: np.ndarray, idx: np.ndarray) -> np.ndarray:
    squares = np.empty(idx.shape)
    near = np.empty((idx.shape[1], X.shape[1]), dtype=X.dtype)
    for row, query in enumerate(rows):
        np.take(
            X, idx[row], axis=0, out=near, mode="clip"
        )  # "clip" lets NumPy write into ``near`` unbuffered
        squares[row] = cdist(Q[query : query + 1], near, "sqeuclidean")[0]
    return squares


def _squares_by_product(Q: np.ndarray, rows: np.ndarray, X: np.ndarray, idx: np.ndarray) -> np.ndarray:
    products = np.empty(idx.shape)
    near = np.empty((idx.shape[1], X.shape[1]), dtype=X.dtype)
    double = near if X.dtype == np.float64 else np.empty(near.shape)
    for row, query in enumerate(rows):
        np.take(X, idx[row], axis=0, out=near, mode="clip")
        if double is not near:
            double[:] = near
        np.dot(double, Q[query].astype(np.float64, copy=False), out=products[row])
    norms = np.einsum("ij,ij->i", X, X, dtype=np.float64)
    own = norms[rows] if Q is X else np.einsum("ij,ij->i", Q[rows], Q[rows], dtype=np.float64)
    others = norms[idx]
    squares = own[:, None] + others - 2 * products
    bound = (X.shape[1] + 6) * np.finfo(np.float64).eps / 2 * (np.sqrt(own)[:, None] + np.sqrt(others)) ** 2
    doubtful, columns = np.nonzero(bound > _PRODUCT_ERROR * squares)
    step = max(1, _CHUNK_ENTRIES // X.shape[1])
    for start in range(0, len(doubtful), step):
        r, c = doubtful[start : start + step], columns[start : start + step]
        difference = Q[rows[r]].astype(np.float64) - X[idx[r, c]]
        squares[r, c] = np.einsum("ij,ij->i", difference, difference)
    return squares


def _pair_distances_cuda(
    X: np.ndarray, query_idx: np.ndarray, idx: np.ndarray, device: torch.device
) -> np.ndarray:
    data = torch.from_numpy(X).to(device)
    out = np.empty(idx.shape)
    step = max(1, _CHUNK_ENTRIES // (idx.shape[1] * X.shape[1]))
    for start in range(0, len(idx), step):
        part = slice(start, start + step)
        near = data[torch.from_numpy(idx[part]).to(device)].double()
        near -= data[torch.from_numpy(query_idx[part]).to(device)].double()[:, None]
        out[part] = torch.linalg.vector_norm(near, dim=2).cpu().numpy()
    return out


def _nearest(
    X: np.ndarray, query_idx: np.ndarray, idx: np.ndarray, k: int, device: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of the candidates by exact distance; ties by index."""
    return nearest_of(pair_distances(X, query_idx, idx, device=device), idx, k)


def _n_candidates(k: int, n: int) -> int:
    return min(k + max(4, k // 16), n - 1)


def _norms(X: np.ndarray, centre: np.ndarray) -> np.ndarray:
    norms = np.empty(len(X))
    for start in range(0, len(X), 4096):
        norms[start : start + 4096] = np.linalg.norm(X[start : start + 4096] - centre, axis=1)
    return norms


def _rounding_bound(X: np.ndarray, query_idx: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Largest error of a squared distance of the fast pass, for each query."""
    norms = _norms(X, X.mean(0, dtype=np.float64))
    u = torch.finfo(dtype).eps / 2
    return (X.shape[1] + 6) * u * (norms[query_idx] + norms.max()) ** 2


def _blocked(
    X: np.ndarray, k: int, query_idx: np.ndarray, device: Any, options: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    everyone = len(query_idx) == len(X)
    wanted = _n_candidates(k, len(X))
    subset = None if everyone else query_idx
    (near, found), *_ = stream_pairs(X, reducers=[TopK(wanted)], query_idx=subset, device=device, **options)
    dist, idx = _nearest(X, query_idx, found.cpu().numpy(), k, device)
    precise = options.get("dtype") or choose_dtype(X, len(query_idx), len(X))
    if precise == torch.float64 or wanted == len(X) - 1:
        return dist, idx
    farthest = near[:, -1].cpu().numpy()
    unsure = np.flatnonzero(dist[:, -1] ** 2 > farthest - _rounding_bound(X, query_idx, precise))
    if len(unsure):
        again = query_idx[unsure]
        (_, found), *_ = stream_pairs(
            X, reducers=[TopK(wanted)], query_idx=again, device=device, dtype=torch.float64
        )
        dist[unsure], idx[unsure] = _nearest(X, again, found.cpu().numpy(), k, device)
    return dist, idx


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
    precise = torch.float32 if faiss else choose_dtype(Q, len(Q), len(X))
    measure = by_difference if each_alone else _exact_distances

    def nearest(some: np.ndarray, dtype: torch.dtype) -> tuple[np.ndarray, ...]:
        if faiss and dtype == torch.float32:
            fast, idx = _flat_candidates(Q[some], X, wanted)
        else:
            (squares, found), *_ = stream_pairs(
                Q[some], X, reducers=[TopK(wanted)], dtype=dtype, device=device
            )
            fast, idx = squares.cpu().numpy(), found.cpu().numpy()
        dist = measure(Q, some, X, idx)
        dist[idx == own[some, None]] = np.inf
        return *nearest_of(dist, idx, k), fast[:, -1]

    dist, idx, farthest = nearest(np.arange(len(Q)), precise)
    if precise == torch.float64 or wanted == len(X):
        return dist, idx
    centre = Q.mean(0, dtype=np.float64)
    bound = (
        (X.shape[1] + 6) * torch.finfo(precise).eps / 2 * (_norms(Q, centre) + _norms(X, centre).max()) ** 2
    )
    unsure = np.flatnonzero(np.minimum(dist[:, -1], limit) ** 2 > farthest - bound)
    if len(unsure):
        dist[unsure], idx[unsure], _ = nearest(unsure, torch.float64)
    return dist, idx


def _flat_candidates(Q: np.ndarray, X: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances and rows of the nearest by faiss, centred on the queries as the blocks are."""
    centre = Q.mean(0, dtype=np.float64)
    rows, queries = X - centre, Q - centre
    unit = single_unit(rows, queries)
    index = require("faiss", "faiss").IndexFlatL2(X.shape[1])
    index.add(np.ascontiguousarray(rows / unit, dtype=np.float32))
    fast, found = index.search(np.ascontiguousarray(queries / unit, dtype=np.float32), wanted)
    return fast.astype(np.float64) * unit**2, found.astype(np.int64)


def single_unit(*sets: Float[np.ndarray, "_ features"]) -> float:
    """A power of two near the largest entry: measured in it, nothing overflows in the single precision of faiss."""
    largest = max(float(np.abs(rows).max(initial=0)) for rows in sets)
    return float(2.0 ** np.floor(np.log2(largest))) if largest else 1.0


def _kdtree(X: np.ndarray, k: int, query_idx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = np.asarray(cKDTree(X).query(X[query_idx], k=k + 1)[1])
    mine = found == query_idx[:, None]
    mine[~mine.any(1), -1] = True  # cannot happen for distinct rows; keeps the shape if distances underflow
    return _nearest(X, query_idx, found[~mine].reshape(len(query_idx), k).astype(np.int64), k, None)


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


def _faiss(
    X: np.ndarray, k: int, query_idx: np.ndarray, *, cells: bool, options: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    centred = X - X.mean(0)
    rows = np.ascontiguousarray(centred / single_unit(centred), dtype=np.float32)
    if cells:
        index = cells_index(rows, options.get("n_lists"), options.get("n_probe"))
    else:
        index = require("faiss", "faiss").IndexFlatL2(rows.shape[1])
        index.add(rows)
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
    takes ``n_lists`` and ``n_probe``.
    """
    if backend == "kdtree":
        return _kdtree(X, k, query_idx)
    if backend == "blocked":
        return _blocked(X, k, query_idx, device, options)
    return _faiss(X, k, query_idx, cells=backend == "faiss-ivf", options=options)
