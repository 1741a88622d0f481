r"""Sums of Kronecker products: multiplication in an algebra written as a matrix, and the nearest such matrix to any.

**Problem.** Multiplying n-dimensional hypercomplex numbers (complex n = 2, quaternions n = 4) by fixed ones is a
linear map whose matrix repeats the same numbers in a pattern of blocks. Write the pattern as n matrices
:math:`A_i` of n x n and the numbers as n smaller matrices :math:`F_i`:

.. math:: H = \sum_{i=1}^{n} A_i \otimes F_i, \qquad
          H_{a o' + u,\; c\, i' + v,\; \dots} = \sum_i A_{i,ac} \, F_{i,uv\dots}, \qquad o' = o/n,\; i' = i/n.

The product acts on the first two axes (outputs, inputs); a convolution's kernel taps ride along on the others. With
:math:`A_1, \dots, A_4` the matrices of left multiplication by 1, i, j, k, H is a quaternion layer.

**Nearest.** Collect the blocks of any W as rows, :math:`R_{(ac),(uv\dots)} = W_{a o' + u,\, c i' + v, \dots}` (the
rearrangement of Van Loan and Pitsianis). Then :math:`R(H) = \sum_i \mathrm{vec}(A_i)\, \mathrm{vec}(F_i)^\top`, a
matrix of rank n, so the best H in the Frobenius norm is the truncated singular value decomposition of R; with the
:math:`A_i` given, the best :math:`F_i` are a least-squares solution.

================================  ============================
Symbol                            Here
================================  ============================
:math:`A_i` (n x n)               ``A`` (n, n, n)
:math:`F_i`, or :math:`S_i`       ``F`` (n, o/n, i/n, kernel)
:math:`H = \sum A_i \otimes F_i`  :func:`kronecker_sum`
R                                 :func:`block_rows`
================================  ============================

Sources: E. Grassucci, A. Zhang, D. Comminiello, PHNNs: Lightweight neural networks via parameterized hypercomplex
convolutions, arXiv 2110.04176; C. Van Loan, N. Pitsianis, Approximation with Kronecker products, 1993.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Real
from torch import Tensor

from lodim.validation import check_choice, check_tensor, checked

__all__ = ["KroneckerSum", "algebra_matrices", "kronecker_sum", "nearest_kronecker_sum", "span_residual"]

# The matrix of x -> q x, entry by entry; letters are the components of q.
_LEFT_PRODUCTS = {
    "complex": ("r -i", "i r"),
    "quaternion": ("r -i -j -k", "i r -k j", "j k r -i", "k -j i r"),
}
ALGEBRAS = {"complex": 2, "quaternion": 4}


@checked
def algebra_matrices(algebra: str) -> Float[Tensor, "n n n"]:
    """Return the matrices of left multiplication by the units of a fixed algebra, in float64.

    Parameters
    ----------
    algebra : {"complex", "quaternion"}
        Units 1, i; or 1, i, j, k with Hamilton's ij = k.

    Examples
    --------
    >>> algebra_matrices("complex")[1].tolist()
    [[0.0, -1.0], [1.0, 0.0]]
    """
    check_choice(algebra, ALGEBRAS, "algebra")
    n = ALGEBRAS[algebra]
    A = torch.zeros(n, n, n, dtype=torch.float64)
    for a, row in enumerate(_LEFT_PRODUCTS[algebra]):
        for c, entry in enumerate(row.split()):
            A["rijk".index(entry[-1]), a, c] = -1.0 if entry.startswith("-") else 1.0
    return A


@checked
def kronecker_sum(
    A: Float[Tensor, "n n n"], F: Float[Tensor, "n u v *kernel"]
) -> Float[Tensor, "o i *kernel"]:
    """Return ``sum_i A_i (x) F_i``, the Kronecker products taken on the first two axes, differentiable."""
    return sum_products(A, F)


def sum_products(A: Tensor, F: Tensor) -> Tensor:
    """:func:`kronecker_sum` as a forward pass takes it, at every step: its own parameters need no check."""
    rows = A.reshape(len(A), -1).T @ F.reshape(len(F), -1)
    return from_block_rows(rows, len(A), F.shape[1:])


def block_rows(weight: Float[Tensor, "o i *kernel"], n: int) -> Float[Tensor, "nn entries"]:
    """Return the n^2 blocks of a weight as rows: R, the rearrangement of Van Loan and Pitsianis."""
    o, i, *kernel = weight.shape
    blocks = weight.reshape(n, o // n, n, i // n, *kernel).transpose(1, 2)
    return blocks.reshape(n * n, -1)


def from_block_rows(
    rows: Float[Tensor, "nn entries"], n: int, block: torch.Size | tuple[int, ...]
) -> Float[Tensor, "o i *kernel"]:
    """Return the weight whose blocks, each (o/n, i/n, ...), are the rows; undoes :func:`block_rows`."""
    u, v, *kernel = block
    return rows.reshape(n, n, u, v, *kernel).transpose(1, 2).reshape(n * u, n * v, *kernel)


@dataclass(frozen=True, eq=False)
class KroneckerSum:
    """A sum of Kronecker products near a given weight.

    Attributes
    ----------
    A : Tensor, shape (n, n, n)
    F : Tensor, shape (n, o/n, i/n, ...)
    relative_error : float
        Frobenius norm of what is missed, over that of the weight; 0 for a weight of zeros.
    """

    A: Tensor
    F: Tensor
    relative_error: float


@checked
@torch.no_grad()
def nearest_kronecker_sum(
    weight: Real[Tensor, "o i *kernel"], n: int, A: Float[Tensor, "n n n"] | None = None
) -> KroneckerSum:
    r"""Return the sum of n Kronecker products nearest to a weight in the Frobenius norm.

    Of the many equal factorisations the one with :math:`\|A_i\|_F = \sqrt n` is returned (as orthogonal matrices
    have), the :math:`F_i` mutually orthogonal, largest first. A weight of independent entries is missed by a share of
    about :math:`\sqrt{1 - 1/n}`: only n of its :math:`n^2` equal singular values are kept.

    Parameters
    ----------
    n : int
        Divides o and i.
    A : Tensor, optional
        Keep these matrices and choose the best F only.

    Returns
    -------
    KroneckerSum
        In the weight's precision; torch's default one for whole numbers.

    Raises
    ------
    ValueError
        n does not divide o and i.

    References
    ----------
    C. Van Loan, N. Pitsianis, 1993, Theorem 2.1.
    """
    check_tensor(weight, "weight")
    if weight.ndim < 2 or not bool(weight.isfinite().all()):
        raise ValueError(f"weight must be finite and have at least two axes, got shape {tuple(weight.shape)}")
    o, i, *kernel = weight.shape
    if n < 1 or o % n or i % n:
        raise ValueError(f"n must divide both first axes of the weight, {o} and {i}; got n={n}")
    R = block_rows(weight.double(), n)
    if A is None:
        U, S, Vh = torch.linalg.svd(R, full_matrices=False)
        rank = min(n, len(S))
        A = torch.eye(n, dtype=R.dtype, device=R.device).repeat(n, 1, 1)  # beside an F of zeros, any will do
        A[:rank] = U[:, :rank].T.reshape(rank, n, n) * math.sqrt(n)
        rows = R.new_zeros(n, R.shape[1])
        rows[:rank] = S[:rank, None] * Vh[:rank] / math.sqrt(n)
    else:
        rows = torch.linalg.lstsq(A.double().reshape(n, -1).T, R).solution
    missed = torch.linalg.norm(R - A.double().reshape(n, -1).T @ rows)
    size = torch.linalg.norm(R)
    error = float(missed / size) if size > 0 else 0.0
    F = rows.reshape(n, o // n, i // n, *kernel)
    dtype = weight.dtype if weight.is_floating_point() else torch.get_default_dtype()
    return KroneckerSum(A.to(dtype), F.to(dtype), error)


@checked
@torch.no_grad()
def span_residual(A: Float[Tensor, "n a c"], target: Float[Tensor, "m a c"]) -> float:
    """Return how far the target matrices lie outside the span of ``A``: the largest relative distance, 0 to 1.

    An algebra learned from data can be compared in this way only: H is the same for every basis of the span.
    """
    basis, wanted = A.double().flatten(1).T, target.double().flatten(1).T
    Q = torch.linalg.svd(basis, full_matrices=False).U
    missed = wanted - Q @ (Q.T @ wanted)
    return float((missed.norm(dim=0) / wanted.norm(dim=0)).max())
