r"""Square roots and Cholesky factors of matrices that are positive semi-definite but for rounding.

A covariance of n < d points, a Gram matrix, a kernel matrix have eigenvalues that are zero in exact arithmetic and of
either sign, of size about :math:`\epsilon d \lambda_{\max}`, in floating point.

.. math:: A^{1/2} = V \operatorname{diag}(\sqrt{\lambda_+}) V^\top, \qquad
          L L^\top = A + j I, \quad j \in \{0,\, \epsilon \bar a,\, 10 \epsilon \bar a,\, \ldots,\, j_{\max} \bar a\}

with :math:`\bar a` the mean of A's diagonal and j the first that works. (``scipy.linalg.sqrtm`` takes the Schur form,
and turns complex or NaN at such eigenvalues.)

References
----------
N. J. Higham, *Functions of Matrices*, SIAM 2008, chapter 6; the jitter is folklore of Gaussian processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lodim.linalg.precision import computable
from lodim.results import Result
from lodim.validation import check_in_range, checked, warn

__all__ = ["SafeCholesky", "psd_sqrt", "safe_cholesky"]

Matrices = TypeVar("Matrices", Tensor, np.ndarray)


@dataclass(frozen=True)
class SafeCholesky(Result):
    """A Cholesky factor, and what had to be added for it.

    Attributes
    ----------
    factor : array or Tensor, shape (..., n, n)
        Lower triangular L.
    jitter : array or Tensor, shape (...)
        Added to the diagonal of each matrix, in the matrix's unit; 0 where it was positive definite.
    """

    factor: np.ndarray | Tensor
    jitter: np.ndarray | Tensor

    def __str__(self) -> str:
        largest = max(np.ravel(self.jitter).tolist(), default=0.0)
        return f"Cholesky factor, shape {tuple(self.factor.shape)}, jitter up to {largest:.2g}"


@checked
def psd_sqrt(A: Matrices) -> Matrices:
    """Symmetric positive semi-definite root of symmetric matrices, by an eigen-decomposition.

    Parameters
    ----------
    A : array or Tensor, shape (..., n, n)
        The upper triangle is not read.

    Raises
    ------
    ValueError
        Not square, or not finite.

    Warns
    -----
    UserWarning
        An eigenvalue further below zero than rounding explains; it is set to zero, and the root is that of the nearest
        positive semi-definite matrix.
    """
    matrix = _as_matrices(A)
    values, vectors = torch.linalg.eigh(matrix)
    stored = _stored(A, matrix)
    n, eps = matrix.shape[-1], torch.finfo(stored).eps  # half precision rounds A itself
    low, high = values[..., :1], values.abs().amax(-1, keepdim=True)
    if bool((low < -10 * n * eps * high).any()):
        worst = float((low / high).nan_to_num().min())
        warn(
            f"the matrix has an eigenvalue of {worst:.2g} times its largest; it was set to zero. If A should be "
            "positive semi-definite, look at how it was made"
        )
    root = (vectors * values.clamp_min(0).sqrt()[..., None, :]) @ vectors.mT
    root = (root + root.mT) / 2  # symmetric to the last bit
    return root.numpy() if isinstance(A, np.ndarray) else root.to(stored)


@checked
def safe_cholesky(A: Matrices, *, max_jitter: float = 1e-4) -> SafeCholesky:
    """Cholesky factors of symmetric matrices, with the least jitter of the schedule that makes each definite.

    Differentiable; a jitter counts as constant.

    Parameters
    ----------
    A : array or Tensor, shape (..., n, n)
        The upper triangle is not read.
    max_jitter : float
        Largest addition to the diagonal, as a share of its mean.

    Raises
    ------
    ValueError
        Not square, not finite, or not positive definite even with the largest jitter.

    Examples
    --------
    >>> import numpy as np
    >>> found = safe_cholesky(np.ones((2, 2)))
    >>> bool(0 < found.jitter < 1e-14)
    True
    """
    check_in_range(max_jitter, "max_jitter", low=0.0)
    matrix = _as_matrices(A)
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    unit = matrix.detach().diagonal(dim1=-2, dim2=-1).abs().mean(-1)
    jitter = torch.zeros_like(unit)
    tried, share = 0.0, min(torch.finfo(matrix.dtype).eps, max_jitter)
    while True:
        raised = matrix + jitter[..., None, None] * identity if tried else matrix
        factor, failed = torch.linalg.cholesky_ex(raised)
        if not bool((failed > 0).any()):
            break
        if tried >= max_jitter:
            raise ValueError(
                f"the matrix is not positive definite, even with {max_jitter:g} of its mean diagonal added to it; "
                "check that it is symmetric positive semi-definite, or raise max_jitter"
            )
        jitter = torch.where(failed > 0, share * unit, jitter)
        tried, share = share, min(10 * share, max_jitter)
    if isinstance(A, np.ndarray):
        return SafeCholesky(factor.numpy(), jitter.numpy())
    stored = _stored(A, matrix)
    return SafeCholesky(factor.to(stored), jitter.to(stored))


def _stored(A: Any, matrix: Tensor) -> torch.dtype:
    return A.dtype if isinstance(A, Tensor) and A.dtype.is_floating_point else matrix.dtype


def _as_matrices(A: Any) -> Float[Tensor, "*batch n n"]:
    """A as a tensor of a precision that LAPACK has."""
    matrix = computable(A, "A")
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2] or not matrix.shape[-1]:
        raise ValueError(f"A must be square, or a batch of squares, got shape {tuple(matrix.shape)}")
    # a finite sum says it in one cheap pass; one that overflowed says nothing
    if not bool(matrix.detach().sum().isfinite()) and not bool(matrix.isfinite().all()):
        raise ValueError("A must be finite, got NaN or infinite entries")
    return matrix
