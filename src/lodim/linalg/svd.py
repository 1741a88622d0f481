r"""The leading singular triplets of a matrix: by LAPACK where it is small, by random sampling of its range elsewhere.

.. math:: (A A^\top)^q A \,\Omega = Q R, \qquad Q^\top A = \tilde U S V^\top, \qquad A \approx (Q \tilde U) S V^\top

with :math:`\Omega` Gaussian and ten columns more than the rank; q passes sharpen a spectrum that decays slowly. For
arrays this is scikit-learn's ``randomized_svd``, for tensors the same on their device.

References
----------
N. Halko, P.-G. Martinsson and J. A. Tropp, Finding structure with randomness, SIAM Review 53 (2011), algorithms 4.4
and 5.1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from sklearn.utils import check_array
from sklearn.utils.extmath import randomized_svd, svd_flip
from torch import Tensor

from lodim.linalg.precision import computable
from lodim.randomness import RandomState, root_seed, torch_generator
from lodim.validation import check_in_range, check_unmasked, checked

__all__ = ["LeadingSVD", "randomised_svd"]

_SMALL = 200  # below it the whole decomposition costs less than the sampling saves
_EXTRA = 10
_FLOATS = (np.float64, np.float32)


class LeadingSVD(NamedTuple):
    """Singular triplets in descending order: left vectors (n, k), values (k,), right vectors in rows (k, m)."""

    U: Any
    s: Any
    Vt: Any


@checked
def randomised_svd(
    A: Any, rank: int | np.integer, *, n_passes: int = 4, random_state: RandomState = 0
) -> LeadingSVD:
    """Leading singular values and vectors.

    Signs are such that the largest entry of each left vector is positive.

    Parameters
    ----------
    A : array, sparse array or Tensor, shape (n, m)
    rank : int
        At most the smaller side.
    n_passes : int
        q; no matter where a side is below 200, where the answer is exact to rounding.

    Raises
    ------
    ValueError
        Not a matrix, masked, not finite, ``n_passes`` below zero, or a rank beyond its sides.
    """
    if getattr(A, "ndim", 0) != 2:
        raise ValueError(f"A must be a matrix, got shape {tuple(getattr(A, 'shape', ()))}")
    k = int(check_in_range(rank, "rank", low=1, high=min(A.shape), integer=True))
    n_passes = int(check_in_range(n_passes, "n_passes", low=0, integer=True))
    check_unmasked(A, "A")
    if isinstance(A, Tensor):
        found = _of_tensor(computable(A, "A"), k, n_passes, root_seed(random_state))
        return LeadingSVD(*(part.to(A.dtype) for part in found)) if A.is_floating_point() else found
    if min(A.shape) < _SMALL:
        dense = A.toarray() if hasattr(A, "toarray") else A
        U, s, Vt = np.linalg.svd(check_array(dense, dtype=_FLOATS, input_name="A"), full_matrices=False)
        U, Vt = svd_flip(U[:, :k], Vt[:k])
        return LeadingSVD(U, s[:k], Vt)
    checked = check_array(A, accept_sparse=("csr", "csc"), dtype=_FLOATS, input_name="A")
    options = {"n_oversamples": _EXTRA, "n_iter": n_passes, "random_state": root_seed(random_state)}
    return LeadingSVD(*randomized_svd(checked, k, **options))


def _of_tensor(A: Float[Tensor, "n m"], k: int, n_passes: int, seed: int) -> LeadingSVD:
    if not bool(A.isfinite().all()):
        raise ValueError("A must be finite, got NaN or infinite entries")
    if min(A.shape) < _SMALL:
        U, s, Vt = torch.linalg.svd(A, full_matrices=False)
    else:
        # drawn on the CPU, so that every device samples the same directions
        omega = torch.randn(A.shape[1], k + _EXTRA, generator=torch_generator(seed), dtype=A.dtype).to(
            A.device
        )
        Q = torch.linalg.qr(A @ omega).Q
        for _ in range(n_passes):
            Q = torch.linalg.qr(A @ torch.linalg.qr(A.mT @ Q).Q).Q
        U, s, Vt = torch.linalg.svd(Q.mT @ A, full_matrices=False)
        U = Q @ U
    U, s, Vt = U[:, :k], s[:k], Vt[:k]
    sign = U.gather(0, U.abs().argmax(0, keepdim=True)).sign()
    return LeadingSVD(U * sign, s, Vt * sign.T)
