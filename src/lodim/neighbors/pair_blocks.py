"""One pass over blocks of squared distances, with any number of reducers fed from the same block.

    |x - y|^2 = |x|^2 - 2 x.y + |y|^2

comes out of one matrix product of the rows ``(x, |x|^2, 1)`` and ``(-2 y, 1, |y|^2)``. The data are centred first,
which removes most of the cancellation in single precision, and scaled by a power of two, which is exact; reducers
get the scale as ``unit`` and give their results in the data's own unit. A point is removed from its own neighbours
by its index. For the distances of a set to itself only blocks on and above the diagonal are computed; reducers see
the others as mirrored blocks. Memory is one block plus what the reducers keep.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lodim.neighbors.distances import product_error
from lodim.neighbors.reducers import Reducer, TopK, squared_unit
from lodim.validation import check_counts, check_device, check_matrix, check_tensor, checked

__all__ = ["choose_dtype", "nearest_rows", "stream_pairs"]

_CHUNK_ROWS = 4096
_SMALL = 4e9  # multiplications below which double precision costs next to nothing


@dataclass(frozen=True)
class _Side:
    """Centred, scaled rows on the device, and their squared norms."""

    rows: Float[Tensor, "n features"]
    squares: Float[Tensor, " n"]

    def left(self, part: slice) -> Tensor:
        x, s = self.rows[part], self.squares[part, None]
        return torch.cat([x, s, torch.ones_like(s)], 1)

    def right(self, part: slice) -> Tensor:
        y, s = self.rows[part], self.squares[part, None]
        return torch.cat([-2 * y, torch.ones_like(s), s], 1)

    def take(self, index: np.ndarray) -> _Side:
        chosen = torch.from_numpy(index).to(self.rows.device)
        return _Side(self.rows[chosen], self.squares[chosen])


def _as_rows(X: Any, name: str) -> Any:
    if not isinstance(X, Tensor):
        single = getattr(X, "dtype", None) == np.float32
        return check_matrix(X, name=name, dtype=np.float32 if single else np.float64)
    if check_tensor(X, name).ndim != 2 or not X.numel():
        raise ValueError(f"{name} must be 2-D, rows first, and not empty, got shape {tuple(X.shape)}")
    return X


def _as_tensor(X: Any) -> Tensor:
    """Single precision stays, anything else becomes double."""
    if isinstance(X, Tensor):
        return X.detach() if X.dtype in (torch.float32, torch.float64) else X.detach().double()
    X = np.asarray(X)
    X = X if X.dtype in (np.float32, np.float64) else X.astype(np.float64)
    with warnings.catch_warnings():  # read-only arrays are only read here
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(X))


def _prepare(X: Any, Y: Any, dtype: torch.dtype, device: torch.device) -> tuple[_Side, _Side | None, float]:
    """Centre both sets on X's mean, scale them to norms of at most about one, and return them with the unit."""
    sets = [_as_tensor(Z) for Z in (X, Y) if Z is not None]
    centre = sets[0].mean(0, dtype=torch.float64)
    largest = max(float(torch.maximum(Z.amax(0) - centre, centre - Z.amin(0)).max()) for Z in sets)
    unit = 2.0 ** int(np.ceil(np.log2(largest * np.sqrt(len(centre))))) if largest > 0 else 1.0
    sides = []
    for Z in sets:
        rows = torch.empty(Z.shape, dtype=dtype, device=device)
        squares = torch.empty(len(Z), dtype=dtype, device=device)
        for start in range(0, len(Z), _CHUNK_ROWS):
            part = slice(start, start + _CHUNK_ROWS)
            rows[part] = (Z[part].double() - centre) / unit
            squares[part] = torch.linalg.vector_norm(rows[part], dim=1, dtype=torch.float64).square()
        sides.append(_Side(rows, squares))
    return sides[0], (sides[1] if len(sides) > 1 else None), unit


def choose_dtype(X: Any, n_q: int, n_r: int) -> torch.dtype:
    """Precision of a pass of n_q queries and n_r references: double where it costs next to nothing, else single."""
    return torch.float64 if n_q * n_r * X.shape[1] <= _SMALL else torch.float32


def _hide_self(block: Tensor, rows: slice, cols: slice, own: np.ndarray) -> None:
    """Put infinity where a query meets itself; ``own[i]`` is the reference that query i is."""
    position = own[rows] - cols.start
    inside = np.flatnonzero((position >= 0) & (position < block.shape[1]))
    if len(inside):
        at = torch.from_numpy(inside), torch.from_numpy(position[inside])
        block[at[0].to(block.device), at[1].to(block.device)] = torch.inf


@checked
def stream_pairs(
    X: Any,
    Y: Any = None,
    *,
    reducers: Sequence[Reducer],
    query_idx: Sequence[int] | np.ndarray | None = None,
    block_q: int = 2048,
    block_r: int = 2048,
    dtype: torch.dtype | None = None,
    device: Any = None,
) -> list[Any]:
    """Pass once over all pair distances and return every reducer's result.

    Parameters
    ----------
    X : array or Tensor, shape (n, n_features)
        Queries, and the references too if ``Y`` is not given (then no point meets itself).
    Y : array or Tensor, shape (m, n_features), optional
        References.
    reducers : sequence of Reducer
        See :mod:`lodim.neighbors.reducers`.
    query_idx : sequence of int, optional
        Without ``Y``: the rows of ``X`` that are queries, all rows being references.
    block_q, block_r : int
        Rows and columns of a block. A symmetric pass uses ``block_q`` for both.
    dtype : torch.dtype, optional
        Of the matrix product. Default: float64 for small problems, else float32.
    device : torch.device or str, optional
        Default: that of ``X``.

    Raises
    ------
    ValueError
        If ``Y`` and ``query_idx`` are both given, or the shapes disagree.
    """
    X, Y = _as_rows(X, "X"), None if Y is None else _as_rows(Y, "Y")
    return _pass(X, Y, reducers, query_idx, block_q, block_r, dtype, device)[0]


def nearest_rows(
    X: np.ndarray,
    Y: np.ndarray | None,
    k: int,
    *,
    query_idx: Sequence[int] | np.ndarray | None = None,
    block_q: int = 2048,
    block_r: int = 2048,
    dtype: torch.dtype,
    device: Any = None,
) -> tuple[Float[np.ndarray, "n_q k"], Int[np.ndarray, "n_q k"], Float[np.ndarray, " n_q"]]:
    """The k nearest by one pass: squared distances, ascending, rows, and the largest error of each query's squares.

    Where the k are all there are, the error is minus infinity: no row is left out.
    """
    ((squares, idx),), own, others, unit = _pass(X, Y, [TopK(k)], query_idx, block_q, block_r, dtype, device)
    info = torch.finfo(dtype)
    reach = (own.double().sqrt() + others.double().max().sqrt()).square()
    error = product_error(X.shape[1], dtype) * reach + X.shape[1] * info.tiny
    if k == len(others) - (Y is None):
        error = torch.full_like(error, -torch.inf)
    return squares.cpu().numpy(), idx.cpu().numpy(), (error * squared_unit(unit)).cpu().numpy()


def _pass(
    X: Any,
    Y: Any,
    reducers: Sequence[Reducer],
    query_idx: Sequence[int] | np.ndarray | None,
    block_q: int,
    block_r: int,
    dtype: torch.dtype | None,
    device: Any,
) -> tuple[list[Any], Tensor, Tensor, float]:
    """The reducers' results, the squared norms of queries and references, and the unit of those."""
    check_counts(block_q=block_q, block_r=block_r)
    if Y is not None and query_idx is not None:
        raise ValueError("give Y (other references) or query_idx (some rows of X against all), not both")
    if Y is not None and Y.shape[1] != X.shape[1]:
        raise ValueError(f"X has {X.shape[1]} columns but Y has {Y.shape[1]}; they must match")
    device = check_device(device) if device is not None else _as_tensor(X).device
    n_q = len(X) if query_idx is None else len(query_idx)
    n_r = len(X) if Y is None else len(Y)
    dtype = dtype or choose_dtype(X, n_q, n_r)
    left, other, unit = _prepare(X, Y, dtype, device)
    right = left if other is None else other
    if query_idx is not None:
        left = left.take(np.asarray(query_idx, dtype=np.int64))
    for reducer in reducers:
        reducer.start(n_q, n_r, device, dtype, unit)
    symmetric = Y is None and query_idx is None
    own = None if Y is not None else np.arange(n_q) if query_idx is None else np.asarray(query_idx, np.int64)
    if symmetric:
        block_r = block_q
    buffer = torch.empty(min(block_q, n_q) * min(block_r, n_r), dtype=dtype, device=device)
    for start_r in range(0, n_r, block_r):
        cols = slice(start_r, min(start_r + block_r, n_r))
        b = right.right(cols).T
        for start_q in range(0, cols.stop if symmetric else n_q, block_q):
            rows = slice(start_q, min(start_q + block_q, n_q))
            shape = (rows.stop - rows.start, cols.stop - cols.start)
            block = torch.mm(left.left(rows), b, out=buffer[: shape[0] * shape[1]].view(shape))
            if own is not None:
                _hide_self(block, rows, cols, own)
            for reducer in reducers:
                reducer.update(rows, cols, block)
                if symmetric and start_q != start_r:
                    reducer.mirror(rows, cols, block)
    return [reducer.result() for reducer in reducers], left.squares, right.squares, unit
