"""Lewis weights, and the bounds on l_p sensitivities that they prove.

**Definition.** The l_p Lewis weights w of A are the leverage scores of the matrix that they rescale themselves:
``w_i = tau_i(W^{1/2 - 1/p} A)``; they exist, are unique and sum to the rank (Lewis 1978; Cohen and Peng 2015, arXiv
1412.0588).

**Computation.** With ``sigma_i(w) = a_i^T (A^T W^{1-2/p} A)^{-1} a_i`` the condition reads ``w_i = sigma_i(w)^{p/2}``.
On ``u = log w`` the map ``F(u) = (p/2) log sigma`` has the Jacobian ``-(p/2 - 1) P`` with ``P_ij = tau_ij^2 / tau_i``,
whose rows are non-negative and sum to one and whose eigenvalues lie in [0, 1] (it is similar to a symmetric positive
semi-definite matrix). The relaxed step ``u <- (1 - eta) u + eta F(u)`` therefore has, near the fixed point,
eigenvalues between ``1 - eta`` and ``1 - eta p / 2``, and ``eta = 4 / (p + 2)`` makes the larger of the two as small
as it can be: every step divides the error by ``(p + 2) / |p - 2|`` (three at p = 1, seven at p = 3/2, five at p = 3).
The customary ``eta = 1`` (which needs p < 4) divides by ``1 / |1 - p/2|``, two at p = 1 and p = 3. What counts in the
end is the residual ``max_i |tau_i(W^{1/2-1/p} A) / w_i - 1|``, which is measured and warned about.

**Bounds.** For *any* positive w (converged or not) let ``c_i = tau_i(W^{1/2-1/p} A) / w_i`` and
``||B x||^2 = sum_j w_j^{1-2/p} |<a_j, x>|^2``. A leverage score is a maximum, so for all x

    |<a_i, x>|^2 <= c_i w_i^{2/p} ||B x||^2.                                                              (1)

*p <= 2.* By (1), ``w_j^{1-2/p} |<a_j,x>|^{2-p} <= c_j^{1-p/2} ||B x||^{2-p}`` (the powers of w_j cancel), hence
``||B x||^2 <= max_j c_j^{1-p/2} ||B x||^{2-p} ||A x||_p^p`` and ``||B x||^p <= max_j c_j^{1-p/2} ||A x||_p^p``.

*p >= 2.* Hoelder with exponents p/(p-2) and p/2: ``||B x||^2 <= (sum_j w_j)^{1-2/p} ||A x||_p^2``, hence
``||B x||^p <= (sum_j w_j)^{p/2-1} ||A x||_p^p``.

Into (1): the sensitivity ``s_i = max_x |<a_i,x>|^p / ||A x||_p^p`` obeys

    s_i <= c_i^{p/2} w_i max_j c_j^{1-p/2}    (p <= 2),      s_i <= c_i^{p/2} w_i (sum_j w_j)^{p/2-1}    (p >= 2).

At the Lewis weights, c = 1 and sum w = d: ``s_i <= w_i`` and ``s_i <= d^{p/2-1} w_i``, so that the total sensitivity
is at most d, and d^{p/2}.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lodim.geometry.sensitivity_sampling.basis import (
    as_matrix,
    like,
    metric_scores,
    orthonormal_basis,
    weighted_gram,
)
from lodim.validation import ConvergenceWarning, check_in_range, checked, warn


@dataclass(frozen=True)
class LewisWeights:
    """Weights as they were left, and how far from the fixed point.

    Attributes
    ----------
    weight : Tensor, shape (n,)
        Zero for zero rows.
    ratio : Tensor, shape (n,)
        ``c_i = tau_i(W^{1/2-1/p} A) / w_i``, one at the fixed point (and for zero rows).
    residual : float
        ``max_i |c_i - 1|``.
    """

    weight: Tensor
    ratio: Tensor
    residual: float
    n_iter: int
    p: float

    def sensitivity_bounds(self) -> Tensor:
        """Upper bounds on the l_p sensitivities, proved in the module's docstring for any weights; at most one."""
        w, c, p = self.weight, self.ratio, self.p
        if not len(w) or not bool((w > 0).any()):
            return torch.zeros_like(w)
        factor = (
            c.max() ** (1 - p / 2) if p <= 2 else w.sum() ** (p / 2 - 1)
        )  # tensors: infinite for a large p
        return (c ** (p / 2) * w * factor).nan_to_num(nan=1.0).clamp(max=1.0)  # one row's share of a sum


def check_p(p: Any, *, low: float = 0.0) -> float:
    """Return p as a float, if it is a finite positive number.

    Raises
    ------
    ValueError
        NaN, infinite, not positive, or below ``low``.
    """
    check_in_range(p, "p", low=low)
    if p < 1e-3 or not math.isfinite(p):
        raise ValueError(
            f"p must be a positive finite number of at least 0.001, got {p} (for the largest residual use a large p)"
        )
    return float(p)


def fixed_point(Q: Float[Tensor, "n r"], p: float, max_iter: int = 30, tol: float = 1e-3) -> LewisWeights:
    """Lewis weights of an orthonormal basis.

    Parameters
    ----------
    tol : float
        Of the residual.
    """
    tau = Q.square().sum(1)
    live = tau > 0
    weight, ratio = torch.zeros_like(tau), torch.ones_like(tau)
    if not bool(live.any()):
        return LewisWeights(weight, ratio, 0.0, 0, p)
    rows = Q if bool(live.all()) else Q[live]
    u = tau[live].log()
    eta, residual = 4 / (p + 2), math.inf
    for step in range(max_iter + 1):
        h = torch.exp((1 - 2 / p) * u)
        log_sigma = metric_scores(rows, weighted_gram(rows, h)).log()
        c = torch.exp(log_sigma - 2 / p * u)  # tau_i / w_i = w_i^{1-2/p} sigma_i / w_i
        residual = float((c - 1).abs().max())
        if residual <= tol or step == max_iter:
            break
        u = (1 - eta) * u + eta * (p / 2) * log_sigma
    weight[live], ratio[live] = u.exp(), c
    if not residual <= tol:
        warn(
            f"Lewis weights for p={p:g} left a residual of {residual:.2g} after {max_iter} iterations (tol={tol:g}; "
            "lewis_weights takes more). Bounds made from them stay valid",
            ConvergenceWarning,
        )
    return LewisWeights(weight, ratio, residual, step, p)


@checked
def lewis_weights(A: Any, p: float | int, max_iter: int = 30, tol: float = 1e-3) -> Any:
    """l_p Lewis weight of every row: leverage scores of the matrix that they rescale themselves.

    Parameters
    ----------
    A : array-like or Tensor, shape (n, d)
    p : float
        Positive; at 2 these are the leverage scores.
    max_iter : int
        Each costs two products with a d x d matrix, O(n d^2).
    tol : float
        Largest relative deviation from the fixed point, ``max_i |tau_i(W^{1/2-1/p} A) / w_i - 1|``.

    Returns
    -------
    ndarray or Tensor, shape (n,)
        Summing to the rank, to ``tol``.

    Warns
    -----
    ConvergenceWarning
        ``tol`` was not reached.

    Examples
    --------
    >>> from lodim.geometry import lewis_weights
    >>> lewis_weights([[1.0], [1.0], [2.0]], 1).round(3).tolist()
    [0.25, 0.25, 0.5]
    """
    p = check_p(p)
    check_in_range(max_iter, "max_iter", low=1, integer=True)
    check_in_range(tol, "tol", low=0.0)
    Q = orthonormal_basis(as_matrix(A)).Q
    return like(fixed_point(Q, p, max_iter, tol).weight, A)
