"""k nearest neighbours of query points, exact in double precision whatever finds the candidates.

A fast pass (single-precision blocks or faiss) gives each query ``k`` candidates and a few more; their distances are
computed again by difference in double precision. A rounding bound of the fast pass decides whether a point left out
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

from lodim.neighbors.reducers import TopK
from lodim.neighbors.stream import choose_dtype, stream_pairs
from lodim.validation import require

__all__ = ["pair_distances", "search"]

_CHUNK_ENTRIES = 1 << 24


def pair_distances(
    X: Float[np.ndarray, "n features"],
    query_idx: Int[np.ndarray, " n_q"],
    idx: Int[np.ndarray, "n_q k"],
    *,
    device: Any = None,
) -> Float[np.ndarray, "n_q k"]:
    """Distances from each query to its listed points, by difference in double precision.

    Parameters
    ----------
    X : ndarray, shape (n, n_features)
    query_idx : int ndarray, shape (n_q,)
        Rows of ``X``.
    idx : int ndarray, shape (n_q, k)
        Rows of ``X`` to measure to.
    device : torch.device or str, optional
        A CUDA device computes there.
    """
    if device is not None and torch.device(device).type == "cuda":
        return _pair_distances_cuda(X, query_idx, idx, torch.device(device))
    squares = np.empty(idx.shape)
    near = np.empty((idx.shape[1], X.shape[1]), dtype=X.dtype)
    for row, query in enumerate(query_idx):
        np.take(
            X, idx[row], axis=0, out=near, mode="clip"
        )  # "clip" lets NumPy write into ``near`` unbuffered
        squares[row] = cdist(X[query : query + 1], near, "sqeuclidean")[0]
    dist = np.sqrt(squares, out=squares)
    for row, column in np.argwhere(dist == 0):  # equal rows, or an underflow
        difference = np.abs(X[query_idx[row]].astype(np.float64) - X[idx[row, column]])
        largest = difference.max()
        dist[row, column] = largest * np.sqrt(((difference / (largest or 1)) ** 2).sum())
    return dist


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
    dist = pair_distances(X, query_idx, idx, device=device)
    order = np.lexsort((idx, dist), axis=1)[:, :k]
    return np.take_along_axis(dist, order, 1), np.take_along_axis(idx, order, 1)


def _n_candidates(k: int, n: int) -> int:
    return min(k + max(4, k // 16), n - 1)


def _rounding_bound(X: np.ndarray, query_idx: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Largest error of a squared distance of the fast pass, for each query."""
    centre = X.mean(0, dtype=np.float64)
    norms = np.empty(len(X))
    for start in range(0, len(X), 4096):
        norms[start : start + 4096] = np.linalg.norm(X[start : start + 4096] - centre, axis=1)
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


def _kdtree(X: np.ndarray, k: int, query_idx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = np.asarray(cKDTree(X).query(X[query_idx], k=k + 1)[1])
    mine = found == query_idx[:, None]
    mine[~mine.any(1), -1] = True  # cannot happen for distinct rows; keeps the shape if distances underflow
    return _nearest(X, query_idx, found[~mine].reshape(len(query_idx), k).astype(np.int64), k, None)


def _faiss(
    X: np.ndarray, k: int, query_idx: np.ndarray, *, cells: bool, options: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    faiss = require("faiss", "faiss")
    rows = np.ascontiguousarray(X - X.mean(0), dtype=np.float32)
    index = faiss.IndexFlatL2(rows.shape[1])
    if cells:
        n_lists = options.get("n_lists", max(1, int(np.sqrt(len(rows)))))
        index = faiss.IndexIVFFlat(index, rows.shape[1], n_lists)
        index.train(rows)
        index.nprobe = options.get("n_probe", max(1, n_lists // 16))
    index.add(rows)
    _, found = index.search(rows[query_idx], _n_candidates(k, len(X)) + 1)
    found = np.where(found < 0, query_idx[:, None], found)  # cells may hold fewer points than asked for
    dist = pair_distances(X, query_idx, found.astype(np.int64))
    dist[found == query_idx[:, None]] = np.inf
    order = np.lexsort((found, dist), axis=1)[:, :k]
    dist, idx = np.take_along_axis(dist, order, 1), np.take_along_axis(found, order, 1).astype(np.int64)
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
    """The k nearest other rows of each query: distances ascending, and indices.

    Parameters
    ----------
    X : ndarray, shape (n, n_features)
        Distinct rows.
    k : int
        Below n.
    query_idx : int ndarray, shape (n_q,)
    backend : {"blocked", "kdtree", "faiss", "faiss-ivf"}
    device : torch.device or str, optional
        For ``"blocked"``.
    **options
        ``block_q``, ``block_r``, ``dtype`` of ``"blocked"``; ``n_lists``, ``n_probe`` of ``"faiss-ivf"``.
    """
    if backend == "kdtree":
        return _kdtree(X, k, query_idx)
    if backend == "blocked":
        return _blocked(X, k, query_idx, device, options)
    return _faiss(X, k, query_idx, cells=backend == "faiss-ivf", options=options)
