"""Distances between given rows in double precision, right to 5e-12 of their size.

A distance from the difference of its rows is right to a few roundings. With many columns a product costs half of that:
``|x - y|^2 = |x|^2 - 2 x.y + |y|^2`` is taken wherever the bound of its rounding error (Higham, *Accuracy and Stability
of Numerical Algorithms*, section 3.1) is small beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist

from lodim.validation import check_device, checked

__all__ = [
    "ROUNDING",
    "by_difference",
    "distances_of_pairs",
    "exact_distances",
    "nearest_of",
    "pair_distances",
    "product_error",
    "squares_of_pairs",
]

ROUNDING = 1e-11  # of a square, wherever it comes from
_CHUNK_ENTRIES = 1 << 22
_PRODUCT_FEATURES = 64
_FEW_FEATURES = 32  # columns that are quicker one by one for many rows than row by row
_PAIRS_AT_ONCE = 1 << 16
_SUBNORMAL = 1e-290  # squares below it have lost digits


def product_error(features: int, dtype: torch.dtype) -> float:
    """Largest error of a squared distance by the product of centred rows, in units of ``(|x| + |y|)^2``."""
    # torch may be set to make products of single precision from shorter numbers
    shorter = dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest"
    return (features + 6) * torch.finfo(torch.bfloat16 if shorter else dtype).eps / 2


def squares_of_pairs(
    Q: Float[np.ndarray, "n_q features"],
    rows: Int[np.ndarray, " m"],
    X: Float[np.ndarray, "n features"],
    others: Int[np.ndarray, " m"],
    unit: float = 1.0,
) -> Float[np.ndarray, " m"]:
    """Squared distances, in units, from rows of Q to as many rows of X, by differences in double precision."""
    squares = np.empty(len(rows))
    step = max(1, _CHUNK_ENTRIES // X.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        difference = (Q[rows[part]].astype(np.float64) - X[others[part]]) / unit
        squares[part] = np.einsum("ij,ij->i", difference, difference)
    return squares


def distances_of_pairs(
    Q: Float[np.ndarray, "n_q features"],
    rows: Int[np.ndarray, " m"],
    X: Float[np.ndarray, "n features"],
    others: Int[np.ndarray, " m"],
) -> Float[np.ndarray, " m"]:
    """Distances from rows of Q to as many rows of X by scaled differences, whose squares cannot underflow."""
    dist = np.empty(len(rows))
    step = max(1, _CHUNK_ENTRIES // X.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        difference = np.abs(Q[rows[part]].astype(np.float64) - X[others[part]])
        largest = difference.max(1)
        difference /= np.where(largest > 0, largest, 1.0)[:, None]
        dist[part] = largest * np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return dist


def nearest_of(
    dist: Float[np.ndarray, "n_q a"], idx: Int[np.ndarray, "n_q a"], k: int
) -> tuple[Float[np.ndarray, "n_q k"], Int[np.ndarray, "n_q k"]]:
    """The k nearest of ``a >= k`` candidates of each query, by distance, then by index."""
    order = np.lexsort((idx, dist), axis=1)[:, :k]
    return np.take_along_axis(dist, order, 1), np.take_along_axis(idx, order, 1)


@checked
def pair_distances(
    X: Float[np.ndarray, "n features"],
    query_idx: Int[np.ndarray, " n_q"],
    idx: Int[np.ndarray, "n_q k"],
    *,
    device: Any = None,
) -> Float[np.ndarray, "n_q k"]:
    """Distances from rows of X, ``query_idx`` (n_q,), to its rows ``idx`` (n_q, k), on the CPU or on a CUDA ``device``.

    They are computed in double precision and right to 5e-12 of their size. Indices of other rows than those of X, or
    unequal numbers of them, are a ValueError.
    """
    if not X.shape[1]:
        raise ValueError(f"X must have columns, got shape {X.shape}")
    for name, rows in (("query_idx", query_idx), ("idx", idx)):
        if rows.dtype.kind not in "iu" or (rows.size and not 0 <= rows.min() <= rows.max() < len(X)):
            raise ValueError(f"{name} must hold indices of the {len(X)} rows of X")
    if len(query_idx) != len(idx):
        raise ValueError(f"idx must have a row for each of the {len(query_idx)} of query_idx, got {len(idx)}")
    if device is not None and check_device(device).type == "cuda":
        return _pair_distances_cuda(X, query_idx, idx, torch.device(device))
    return exact_distances(X, query_idx, X, idx)


def exact_distances(Q: np.ndarray, rows: np.ndarray, X: np.ndarray, idx: np.ndarray) -> np.ndarray:
    """Distances from the rows ``rows`` of Q to the rows ``idx`` of X, in double precision.

    With many columns a product costs half a difference, so squares come from |q|^2 - 2 q.x + |x|^2 wherever the bound
    of its rounding error is below ``ROUNDING`` of the square, and from differences elsewhere.
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
    small, columns = np.nonzero(squares < _SUBNORMAL)  # of equal rows, or an underflow
    dist = np.sqrt(squares, out=squares)
    dist[small, columns] = distances_of_pairs(Q, rows[small], X, idx[small, columns])
    return dist


def _around_origin(X: np.ndarray) -> bool:
    """Whether the rows spread about the origin as widely as they lie from it (a tenth at least)."""
    total = float(np.einsum("ij,ij->", X, X, dtype=np.float64)) / len(X)
    offset = float(np.square(X.mean(0, dtype=np.float64)).sum())
    return total - offset > 0.1 * total


def _squares_by_difference(Q: np.ndarray, rows: np.ndarray, X: np.ndarray, idx: np.ndarray) -> np.ndarray:
    """Squares summed column after column, however many rows there are: a pair's are the same among any others."""
    squares = np.zeros(idx.shape)
    if X.shape[1] <= _FEW_FEATURES:
        step = max(1, _PAIRS_AT_ONCE // max(1, idx.shape[1]))
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(rows), step):
                part = slice(start, start + step)
                for j in range(X.shape[1]):
                    difference = Q[rows[part], j, None].astype(np.float64) - X[idx[part], j]
                    squares[part] += np.square(difference, out=difference)
        return squares
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
    error = product_error(X.shape[1], torch.float64)
    bound = error * (np.sqrt(own)[:, None] + np.sqrt(others)) ** 2
    doubtful, columns = np.nonzero(bound > ROUNDING * squares)
    squares[doubtful, columns] = squares_of_pairs(Q, rows[doubtful], X, idx[doubtful, columns])
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
