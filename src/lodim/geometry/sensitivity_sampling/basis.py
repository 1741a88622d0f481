"""An orthonormal basis of a tall matrix's column space, by blocks of rows, and leverage scores.

Every quantity here depends on the column space only, so all work is done with Q of ``A = Q T``, which is well
conditioned whatever A is. Columns are scaled to unit length, R of ``A = Q R`` is built by stacking each block of rows
on the R of those before it (so accuracy is that of Householder's QR, not of the Gram matrix, whose condition is the
square), and column-pivoted QR of R finds the rank: the pivots of R are those of A, because both have the same Gram
matrix. The leverage score of row i is ``tau_i = ||q_i||^2 = a_i^T (A^T A)^+ a_i = max_x <a_i, x>^2 / ||A x||^2``.

A sparse matrix keeps its zeros in :func:`sketched_leverage`: a CountSketch of its rows (one pass over the non-zeros)
gives R, and ``||a_i^T R^{-1} G||`` with a thin Gaussian G estimates the norms (Clarkson and Woodruff 2013, arXiv
1207.6365; Drineas et al. 2012, arXiv 1109.3843).

Everything is float64, for NumPy arrays on the CPU and for tensors on their own device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from lodim.randomness import as_generator
from lodim.validation import (
    check_choice,
    check_in_range,
    check_matrix,
    check_tensor,
    checked,
    plain_array,
    to_torch,
)

BLOCK = 16_384
RANK_TOL = 1e-10
_ILL = 1e4  # condition of R from which Q is orthonormalised once more
_FEW = 200  # dependent columns up to which their null space is written down
_NO_PART = 1e-12  # share in a dependence of columns that is rounding
_SMALL = 1e-140  # lengths whose squares, and those of their inverses, are floats


def as_matrix(A: Any, name: str = "A") -> Tensor:
    """Return a matrix as a finite float64 tensor on its own device.

    Parameters
    ----------
    A : array-like or Tensor, shape (n, d)
    name : str
        How messages call it.

    Raises
    ------
    ValueError
        Wrong number of axes, no rows, NaN or infinity.
    """
    if isinstance(A, Tensor) and A.ndim == 2 and A.numel() and A.device.type != "cpu":
        matrix = check_tensor(A, name).detach().to(torch.float64)
        if not bool(torch.isfinite(matrix.sum())) and not bool(torch.isfinite(matrix).all()):
            row = int((~torch.isfinite(matrix)).any(1).nonzero()[0])
            raise ValueError(
                f"{name} has NaN or infinite values, the first in row {row}; drop or impute them"
            )
        return matrix
    return to_torch(check_matrix(A, name=name))


def row_numbers(rows: Any, n: int, name: str, device: Any) -> Tensor:
    """Return rows named by their numbers or by a mask as int64 numbers.

    Parameters
    ----------
    rows : array-like of int or of bool

    Raises
    ------
    ValueError
        Not whole numbers in one dimension, a number outside 0 to n - 1, masked entries, or a mask of another length.
    """
    at = plain_array(rows, name)
    if at.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got shape {at.shape}")
    if at.dtype == bool:
        if len(at) != n:
            raise ValueError(f"{name} is a mask of {len(at)} entries for {n} rows; they must match")
        at = at.nonzero()[0]
    if at.dtype.kind not in "iu" and len(at):
        raise ValueError(
            f"{name} must be row numbers, whole numbers from 0 to {n - 1}, got {at.dtype} values"
        )
    if not len(at):
        raise ValueError(f"{name} names no rows: give at least one")
    wrong = (at < 0) | (at >= n)
    if wrong.any():
        raise ValueError(f"{name} must be row numbers from 0 to {n - 1}, got {at[wrong][0]}")
    return torch.from_numpy(at.astype(np.int64)).to(device)


def like(values: Tensor, A: Any) -> Any:
    """Return values as the input came: tensors for a tensor, NumPy arrays otherwise."""
    return values if isinstance(A, Tensor) else values.cpu().numpy()


def norms(C: Float[Tensor, "n r"], Z: Float[Tensor, "k r"], p: float) -> Tensor:
    """``||C z||_p`` for every row z of Z, by blocks of rows of C."""
    size = max(1, 4_000_000 // max(1, len(Z)))
    total = Z.new_zeros(len(Z))
    for block in C.split(size):
        total += ((Z @ block.T).abs() ** p).sum(1)
    return total ** (1 / p)


def row_blocks(n: int, size: int = BLOCK) -> Iterator[slice]:
    """Slices of at most ``size`` rows that cover ``range(n)``."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


@dataclass(frozen=True)
class Basis:
    """``A = Q T`` with orthonormal Q.

    Attributes
    ----------
    Q : Tensor, shape (n, rank)
        Orthonormal columns; a zero row of A is a zero row here.
    dropped : float
        Largest part of a column, over its length, that counted as dependence on the others.
    """

    Q: Tensor
    T: Float[Tensor, "rank d"]
    dropped: float = 0.0

    @property
    def rank(self) -> int:
        """Number of columns of Q."""
        return self.Q.shape[1]

    def coefficients(self, z: Float[Tensor, " rank"], n_counted: int | None = None) -> Tensor:
        """The shortest x with ``A x = Q z``.

        Columns of T are as long as those of A, and are brought to one length before anything is inverted, so that units
        decide nothing but which of many x is the shortest.

        Parameters
        ----------
        n_counted : int, optional
            Leading coordinates that count in the length of x: all, or all but the last (an intercept).
        """
        if not self.rank:
            return self.T.new_zeros(self.T.shape[1])
        length = column_lengths(self.T)
        scaled, units = (self.T / length).cpu().numpy(), length.cpu().numpy()
        turned, R, pivots = scipy.linalg.qr(scaled, mode="economic", pivoting=True)
        own = scipy.linalg.solve_triangular(R[:, : self.rank], turned.T @ z.cpu().numpy())
        parts = scipy.linalg.solve_triangular(R[:, : self.rank], R[:, self.rank :])
        parts = np.where(np.abs(parts) > _NO_PART, parts, 0.0)
        counted = pivots < (len(units) if n_counted is None else n_counted)
        shortest = _shortest_by_null_space if parts.shape[1] <= _FEW else _shortest_by_row_space
        x = np.empty(len(units))
        x[pivots] = shortest(own, parts, units[pivots], counted)
        return torch.from_numpy(x).to(z.device)


def _shortest_by_null_space(
    own: np.ndarray, parts: np.ndarray, units: np.ndarray, counted: np.ndarray
) -> np.ndarray:
    """The x with ``[I parts] (units x) = own`` whose counted entries are shortest: one, less what it may move along.

    Keeps the digits of columns of any size; costs O(d m^2) for the m columns of ``parts``.
    """
    m = parts.shape[1]
    x = np.r_[own, np.zeros(m)] / units
    if m:
        free = np.vstack((-parts, np.eye(m))) / units[:, None]
        free /= np.linalg.norm(free[counted], axis=0)
        for _ in range(3):  # a large part leaves rounding that the next pass sees
            x -= free @ np.linalg.lstsq(free[counted], x[counted])[0]
    return x


def _shortest_by_row_space(
    own: np.ndarray, parts: np.ndarray, units: np.ndarray, counted: np.ndarray
) -> np.ndarray:
    """The same by the rows' span, O(d rank^2): what counts is ``rows v``, at a right angle to what does not."""
    rank = len(own)
    rows = units[:, None] * np.vstack((np.eye(rank), parts.T))
    size = np.linalg.norm(rows, axis=0)
    rows, own = rows / size, own / size
    rest = rows[~counted]
    across = np.linalg.qr(rest.T, mode="complete")[0][:, len(rest) :]
    Q, R = np.linalg.qr(rows[counted] @ across)
    x = np.zeros(len(units))
    for _ in range(3):  # later passes remove what rounding left
        x[counted] += Q @ scipy.linalg.solve_triangular(R, across.T @ (own - rows.T @ x), trans="T")
        x[~counted] += np.linalg.lstsq(rest.T, own - rows.T @ x)[0]
    return x


def column_lengths(A: Float[Tensor, "n d"]) -> Tensor:
    """Euclidean lengths of the columns, one for zero columns, whatever squares would leave the range of floats."""
    length = torch.linalg.vector_norm(A, dim=0)
    if not bool(((length > _SMALL) & (length < 1 / _SMALL)).all()):
        top = torch.linalg.vector_norm(A, math.inf, dim=0)
        top = torch.where(top > 0, top, torch.ones_like(top))
        length = torch.linalg.vector_norm(A / top, dim=0) * top
    return torch.where(length > 0, length, torch.ones_like(length))


def stacked_r(blocks: Iterator[Tensor]) -> Tensor:
    """R of the QR factorisation of blocks of rows that come one after the other."""
    R = None
    for block in blocks:
        R = torch.linalg.qr(block if R is None else torch.cat((R, block)), mode="r")[1]
    assert R is not None
    return R


def _pivoted(R: Tensor) -> tuple[np.ndarray, np.ndarray, int, float]:
    """R' and pivots of column-pivoted QR of R, the numerical rank, and the largest pivot left out over the first."""
    Rp, pivots = scipy.linalg.qr(R.cpu().numpy(), mode="r", pivoting=True)
    diagonal = np.abs(np.diag(Rp))
    rank = int((diagonal > RANK_TOL * diagonal[0]).sum()) if diagonal[0] > 0 else 0
    dropped = float(diagonal[rank] / diagonal[0]) if 0 < rank < len(diagonal) else 0.0
    return Rp[:rank], pivots, rank, dropped


def orthonormal_basis(A: Tensor) -> Basis:
    """Factor ``A = Q T`` by blocks of rows.

    Parameters
    ----------
    A : Tensor, shape (n, d)
        float64.

    Notes
    -----
    Columns that leave less than 1e-10 of the largest (all scaled to unit length) beside the others count as
    dependent. Two passes over A; a third where R's condition exceeds 1e4, so that Q is orthonormal to rounding.
    """
    n, d = A.shape
    scale = column_lengths(A)
    R = stacked_r(A[rows] / scale for rows in row_blocks(n))
    Rp, pivots, rank, dropped = _pivoted(R)
    if rank == 0:
        return Basis(A.new_zeros(n, 0), A.new_zeros(0, d))
    kept = torch.as_tensor(pivots[:rank].copy(), device=A.device)
    inverse = torch.as_tensor(scipy.linalg.solve_triangular(Rp[:, :rank], np.eye(rank)), device=A.device)
    T = A.new_zeros(rank, d)
    T[:, torch.as_tensor(pivots.copy(), device=A.device)] = torch.as_tensor(Rp, device=A.device)
    inverse = inverse / scale[kept, None]
    T = T * scale
    Q = torch.cat([A[rows][:, kept] @ inverse for rows in row_blocks(n)])
    diagonal = np.abs(np.diag(Rp))
    if diagonal.max() > _ILL * diagonal.min():
        L = torch.linalg.cholesky(weighted_gram(Q))
        Q = torch.linalg.solve_triangular(L, Q.T, upper=False).T.contiguous()
        T = L.T @ T
    return Basis(Q, T, dropped)


def with_column(basis: Basis, b: Float[Tensor, " n"]) -> Tensor:
    """Orthonormal basis of ``[A b]`` from that of A; without a column more where b depends on A."""
    Q, size = basis.Q, float(torch.linalg.vector_norm(b))
    if not size:
        return Q
    rest = b / size
    for _ in range(2):  # the second removes what rounding left
        rest = rest - Q @ (Q.T @ rest)
    left = float(torch.linalg.vector_norm(rest))
    return torch.cat((Q, rest[:, None] / left), 1) if left > RANK_TOL else Q


def weighted_gram(Q: Float[Tensor, "n r"], h: Tensor | None = None) -> Tensor:
    """``Q^T diag(h) Q``, by blocks of rows.

    Parameters
    ----------
    h : Tensor, shape (n,), optional
        Ones when None.
    """
    gram = Q.new_zeros(Q.shape[1], Q.shape[1])
    for rows in row_blocks(len(Q)):
        block = Q[rows]
        gram += block.T @ (block if h is None else h[rows, None] * block)
    return gram


def metric_scores(Q: Float[Tensor, "n r"], gram: Tensor) -> Tensor:
    """``q_i^T gram^{-1} q_i`` for every row, by blocks of rows.

    Parameters
    ----------
    gram : Tensor, shape (r, r)
        Positive definite.
    """
    L = torch.linalg.cholesky(gram)
    half = torch.linalg.solve_triangular(L, torch.eye(len(L), dtype=L.dtype, device=L.device), upper=False).T
    return torch.cat([(Q[rows] @ half).square_().sum(1) for rows in row_blocks(len(Q))])


def sketched_leverage(
    A: Any, *, n_buckets: int | None = None, k: int = 16, random_state: Any = None
) -> Float[np.ndarray, " n"]:
    """Estimate leverage scores in one pass over the non-zeros and one product with k columns.

    Parameters
    ----------
    A : array-like or scipy sparse matrix, shape (n, d)
        Of full column rank.
    n_buckets : int, optional
        Rows of the CountSketch; ``4 d^2`` (never more than n) when None.
    k : int
        Columns of the Gaussian map; the relative standard error of a score is about ``sqrt(2 / k)``.

    Raises
    ------
    ValueError
        The sketch is not of full rank: drop dependent columns, or use the exact scores.
    """
    import scipy.sparse

    check_in_range(k, "k", low=1, integer=True)
    given: Any = A if scipy.sparse.issparse(A) else check_matrix(A, name="A")
    matrix = scipy.sparse.csr_array(given, dtype=np.float64)
    if not np.isfinite(matrix.data).all():
        raise ValueError("A has NaN or infinite values; drop or impute them")
    n, d = matrix.shape
    rng = as_generator(random_state)
    m = min(n, 4 * d * d if n_buckets is None else n_buckets)
    signs = rng.choice([-1.0, 1.0], n)
    hashed = scipy.sparse.csr_array((signs, (rng.integers(0, m, n), np.arange(n))), shape=(m, n))
    sketch = matrix.toarray() if m == n else (hashed @ matrix).toarray()
    R = np.linalg.qr(sketch, mode="r")
    diagonal = np.abs(np.diag(R))
    if len(R) < d or diagonal.min() <= RANK_TOL * diagonal.max():
        raise ValueError(
            "the sketch of A is not of full column rank; drop dependent columns or use method='exact'"
        )
    thin = scipy.linalg.solve_triangular(R, rng.standard_normal((d, k)) / np.sqrt(k))
    return np.square(matrix @ thin).sum(1)


@checked
def leverage_scores(A: Any, method: str = "exact", *, random_state: Any = None) -> Any:
    """Leverage score of every row: the largest share it can take of ``||A x||^2``.

    Parameters
    ----------
    A : array-like or Tensor, shape (n, d)
        ``method="sketch"`` also takes scipy sparse matrices.
    method : {"exact", "sketch"}
        By QR, O(n d^2); or estimated, O(nnz + d^4 + n d k), see :func:`sketched_leverage`.
    random_state : int, Generator or None
        Of the sketch.

    Returns
    -------
    ndarray or Tensor, shape (n,)
        In [0, 1], summing to the rank (exactly only for ``"exact"``).

    Examples
    --------
    >>> from lodim.geometry import leverage_scores
    >>> leverage_scores([[1.0, 0.0], [1.0, 0.0], [0.0, 3.0]]).round(3).tolist()
    [0.5, 0.5, 1.0]
    """
    check_choice(method, ("exact", "sketch"), "method")
    if method == "sketch":
        found = sketched_leverage(A, random_state=random_state)
        return torch.from_numpy(found).to(A.device) if isinstance(A, Tensor) else found
    return like(orthonormal_basis(as_matrix(A)).Q.square().sum(1), A)
