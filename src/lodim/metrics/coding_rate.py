r"""The room that features take up: their coding rate, and how much of it a grouping saves.

Coding n rows Z of d features up to a mean squared error :math:`\epsilon^2` a row takes, in nats (a factor of one half
left out, as it only rescales),

.. math:: R(Z) = \log\det\Big(I + \frac{d}{n \epsilon^2} Z^\top Z\Big)

a row, and if row i belongs to group j with the share :math:`\Gamma_{ij}`, a group of weight :math:`s_j = \sum_i
\Gamma_{ij}`,

.. math:: R_c(Z, \Gamma) = \sum_j \frac{s_j}{n} \log\det\Big(I + \frac{d}{s_j \epsilon^2} Z^\top
          \operatorname{diag}(\Gamma_{\cdot j}) Z\Big).

For labels as one-hot rows that is the compression of maximal coding rate reduction, for a doubly stochastic
:math:`\Gamma` of n groups (all :math:`s_j = 1`) that of manifold clustering. Where every row of :math:`\Gamma` sums to
one, the concavity of log det makes :math:`R - R_c` nonnegative.

The determinants are those of whichever is smaller, d x d or n x n (Sylvester's identity), by one batched Cholesky.

References
----------
Y. Yu, K. H. R. Chan, C. You, C. Song, Y. Ma, Learning diverse and discriminative representations via the principle of
maximal coding rate reduction, arXiv 2006.08558. T. Ding and others, arXiv 2301.01805.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lodim.linalg import full_precision, safe_cholesky
from lodim.linalg.precision import computable
from lodim.validation import check_in_range, checked

__all__ = ["coding_rate", "rate_reduction"]

_NO_SHARE = 1e-30  # keeps square roots differentiable at 0, and groups of no rows out of the way
_MOST_PAIRS = 2**25  # numbers z z^T at once
_OFF = 1e-2  # by which sums of shares, which may come from an iteration, may miss one


@checked
def coding_rate(Z: Any, eps2: float | int, membership: Any = None) -> Any:
    r"""Nats a row that features take at a squared distortion: R, or with a membership Rc.

    Parameters
    ----------
    Z : array or Tensor, shape (..., n, d)
        Features of n rows, as a rule of unit length. Half precision is computed in float32.
    eps2 : float
        :math:`\epsilon^2`, the mean squared error allowed a row, in the squared unit of Z.
    membership : array or Tensor, shape (..., n, m), optional
        Shares of each row in each of m groups: nonnegative, every row with sum one.

    Returns
    -------
    float for an array Z, ndarray for a batch of arrays, differentiable Tensor, shape (...), for a tensor.

    Raises
    ------
    ValueError
        eps2 not positive, wrong shapes, numbers that are not finite or too large against eps2, shares that are
        negative or do not sum to one.

    Examples
    --------
    >>> import numpy as np
    >>> Z = np.repeat(np.eye(2), 5, axis=0)
    >>> round(coding_rate(Z, 0.5), 4), round(coding_rate(Z, 0.5, np.repeat(np.eye(2), 5, axis=0)), 4)
    (2.1972, 1.6094)
    """
    rows = _rows(Z, eps2)
    if membership is None:
        return _like(Z, _rate(rows, float(eps2)))
    return _like(Z, _mean_rate(rows, float(eps2), _shares(membership, rows)))


@checked
def rate_reduction(Z: Any, membership: Any, eps2: float | int) -> Any:
    """Nats a row that a grouping saves, R - Rc: large where groups are flat and point in different directions.

    Parameters
    ----------
    Z : array or Tensor, shape (..., n, d)
    membership : array or Tensor, shape (..., n, m)
        Shares of each row in each of m groups, every row with sum one: one-hot labels, softmax outputs, or a doubly
        stochastic matrix of pairs.
    eps2 : float

    Returns
    -------
    float, ndarray or Tensor
        As :func:`coding_rate`; never negative but for rounding.

    Raises
    ------
    ValueError
        As :func:`coding_rate`.

    Examples
    --------
    >>> import numpy as np
    >>> one_hot = np.repeat(np.eye(2), 5, axis=0)
    >>> round(rate_reduction(one_hot, one_hot, 0.5), 4)
    0.5878
    """
    rows = _rows(Z, eps2)
    shares = _shares(membership, rows)
    return _like(Z, _rate(rows, float(eps2)) - _mean_rate(rows, float(eps2), shares))


def _rows(Z: Any, eps2: float | int) -> Float[Tensor, "*batch n d"]:
    if not check_in_range(eps2, "eps2") > 0:
        raise ValueError(f"eps2 must be positive, got {eps2}")
    rows = computable(Z, "Z")
    if rows.ndim < 2 or 0 in rows.shape[-2:]:
        raise ValueError(f"Z must be rows of features, shape (..., n, d), got shape {tuple(rows.shape)}")
    return rows


def _shares(membership: Any, rows: Tensor) -> Float[Tensor, "*batch n m"]:
    shares = computable(membership, "membership").to(rows)
    n = rows.shape[-2]
    if shares.ndim < 2 or shares.shape[-2] != n or not shares.shape[-1]:
        raise ValueError(
            f"membership must have a row of shares for each of the {n} rows of Z, got shape {tuple(shares.shape)}"
        )
    try:
        torch.broadcast_shapes(rows.shape[:-2], shares.shape[:-2])
    except RuntimeError:
        raise ValueError(
            "Z and membership must be batches that go together, got shapes "
            f"{tuple(rows.shape)} and {tuple(shares.shape)}"
        ) from None
    given = shares.detach()
    if not bool((given >= 0).all() & ((given.sum(-1) - 1).abs() <= _OFF).all()):
        raise ValueError("membership must be nonnegative, with rows that sum to 1: shares of a row in groups")
    return shares


def _rate(Z: Float[Tensor, "*batch n d"], eps2: float) -> Float[Tensor, "*batch"]:
    n, d = Z.shape[-2:]
    with full_precision(Z.device.type):
        scaled = d / (n * eps2) * Z
        return _log_det(Z.mT @ scaled if d <= n else Z @ scaled.mT)


def _mean_rate(Z: Float[Tensor, "*#batch n d"], eps2: float, shares: Float[Tensor, "*#batch n m"]) -> Tensor:
    n, d = Z.shape[-2:]
    weight = shares.sum(-2)
    scaled = shares * (d / (eps2 * weight.clamp_min(_NO_SHARE)))[..., None, :]
    with full_precision(Z.device.type):
        if d <= n:  # all m sums of z z^T as one product, of as many rows as memory holds
            step = max(1, _MOST_PAIRS // d**2)
            parts = zip(scaled.split(step, -2), Z.split(step, -2), strict=True)
            sums = (s.mT @ (z[..., :, None] * z[..., None, :]).flatten(-2) for s, z in parts)
            grams = functools.reduce(torch.add, sums).unflatten(-1, (d, d))
        else:
            weighted = (scaled.mT + _NO_SHARE).sqrt()[..., None] * Z[..., None, :, :]
            grams = weighted @ weighted.mT
        return (weight / n * _log_det(grams)).sum(-1)


def _log_det(A: Float[Tensor, "*batch k k"]) -> Float[Tensor, "*batch"]:
    """log det(I + A) of positive semi-definite matrices, which are written over."""
    A.diagonal(dim1=-2, dim2=-1).add_(1)
    if not bool(A.detach().sum().isfinite()):
        raise ValueError("Z must be finite, and its squares over eps2 too; bring its rows to unit length")
    factor: Any = safe_cholesky(A).factor
    return 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _like(Z: Any, value: Tensor) -> Any:
    if isinstance(Z, Tensor):
        return value.to(Z.dtype) if Z.dtype.is_floating_point else value
    value = value.detach()
    return value.numpy() if value.ndim else float(value)
