r"""Sinkhorn's scaling in the log domain: the matrix ``exp(S / eta)`` brought to given row and column sums.

.. math:: P = \operatorname{diag}(e^{u}) \, e^{S / \eta} \, \operatorname{diag}(e^{v}), \qquad
          u \leftarrow \log a - \operatorname*{logsumexp}_j (S_{ij} / \eta + v_j), \quad
          v \leftarrow \log b - \operatorname*{logsumexp}_i (S_{ij} / \eta + u_i)

With ``S = -cost`` and probability vectors a, b it is the entropic transport plan, :math:`\eta` the weight of the
entropy; with unit sums P is doubly stochastic. For a symmetric S and a = b the two potentials are one, and
:math:`u \leftarrow \tfrac12 (u + \log a - \operatorname{logsumexp}(S / \eta + u))`, the mean of old and new, keeps P
symmetric at every step and does not oscillate.

References
----------
M. Cuturi, Sinkhorn distances, NeurIPS 2013. G. Peyré and M. Cuturi, *Computational Optimal Transport*, arXiv
1803.00567, section 4.4 (log domain). P. A. Knight, D. Ruiz and B. Uçar, A symmetry preserving algorithm for matrix
scaling, SIAM J. Matrix Analysis 35 (2014).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lodim.linalg.precision import as_tensor, computable
from lodim.results import Result
from lodim.validation import ConvergenceWarning, check_in_range, checked, warn

__all__ = ["SinkhornPlan", "sinkhorn"]


@dataclass(frozen=True)
class SinkhornPlan(Result):
    """A scaled matrix.

    Attributes
    ----------
    plan : array or Tensor, shape (..., n, m)
        P.
    u, v : array or Tensor, shape (..., n), (..., m)
        Its potentials.
    error : float
        Largest sum of absolute differences, over a batch, of row or column sums from what they should be.
    n_iter : int
    converged : bool
        Whether the error is within the tolerance; False where there was none.
    """

    plan: np.ndarray | Tensor
    u: np.ndarray | Tensor
    v: np.ndarray | Tensor
    error: float
    n_iter: int
    converged: bool

    def __str__(self) -> str:
        return f"plan, shape {tuple(self.plan.shape)}, marginal error {self.error:.2g} after {self.n_iter} iterations"


@checked
def sinkhorn(
    scores: Any,
    eta: int | float,
    a: Any = None,
    b: Any = None,
    *,
    max_iter: int = 50,
    tol: int | float | None = 1e-4,
    symmetric: bool = False,
) -> SinkhornPlan:
    """Scale ``exp(scores / eta)`` to row sums ``a`` and column sums ``b``.

    Parameters
    ----------
    scores : array or Tensor, shape (..., n, m)
        ``-inf`` forbids an entry. Half precision is computed in float32.
    eta : float
        Entropy's weight, in the unit of the scores.
    a, b : array or Tensor, shape (..., n), (..., m), optional
        Sums, with one total; zeros are allowed. Default: ones, and ``n / m``, which makes a square P doubly stochastic.
    max_iter : int
        Most iterations.
    tol : float or None
        Marginal error at which to stop. None: take all iterations and check nothing, as in the forward pass of a layer.
    symmetric : bool
        For symmetric scores, keep P symmetric. ``b`` must be left out.

    Returns
    -------
    SinkhornPlan
        For tensors differentiable through the iterations.

    Raises
    ------
    ValueError
        Sums that are negative or of different totals, eta not positive, scores with NaN or infinity, or forbidden
        entries only in a row or column whose sum is not zero.

    Warns
    -----
    ConvergenceWarning
        The marginal error stayed above ``tol``.

    Examples
    --------
    >>> import numpy as np
    >>> sinkhorn(np.log([[1.0, 2.0], [3.0, 4.0]]), 1.0).plan.sum(0).round(4)
    array([1., 1.])
    """
    if not eta > 0:
        raise ValueError(f"eta must be positive, got {eta}")
    check_in_range(max_iter, "max_iter", low=1, integer=True)
    kernel = computable(scores, "scores") / eta
    if kernel.ndim < 2 or not kernel.numel() or not bool((kernel < torch.inf).all()):
        raise ValueError(
            "scores must be a matrix, or a batch of them, without NaN or infinity (-inf forbids an entry), got shape "
            f"{tuple(kernel.shape)}"
        )
    n, m = kernel.shape[-2:]
    if symmetric and (n != m or b is not None):
        raise ValueError("a symmetric plan needs square scores, and b must be left out: it is a")
    rows = _sums(a, kernel, n, 1.0)
    columns = rows if symmetric else _sums(b, kernel, m, n / m)
    if not torch.allclose(rows.sum(-1), columns.sum(-1), rtol=1e-4, atol=0.0):
        raise ValueError("a and b must have one total; normalise them, or give both")
    u, v = torch.zeros_like(rows), torch.zeros_like(columns)
    taken, error = 0, float("inf")
    while taken < max_iter and not (tol is not None and error <= tol):
        if symmetric:
            u = v = (u + _potential(rows, kernel + u[..., None, :])) / 2
        else:
            u = _potential(rows, kernel + v[..., None, :])
            v = _potential(columns, kernel.mT + u[..., None, :])
        taken += 1
        if tol is not None:
            with torch.no_grad():
                error = _error(_plan(kernel, u, v), rows, columns)
    plan = _plan(kernel, u, v)
    error = _error(plan, rows, columns)
    if not error < float("inf"):
        raise ValueError("a row or column has only forbidden entries: no plan exists")
    converged = tol is not None and error <= tol
    if tol is not None and not converged:
        warn(
            f"marginals are off by {error:.2g} after {taken} iterations (asked for: {tol:g}); raise max_iter or eta",
            ConvergenceWarning,
        )
    if isinstance(scores, Tensor):
        stored = scores.dtype if scores.is_floating_point() else kernel.dtype
        return SinkhornPlan(plan.to(stored), u.to(stored), v.to(stored), error, taken, converged)
    return SinkhornPlan(plan.numpy(), u.numpy(), v.numpy(), error, taken, converged)


def _sums(
    given: Any, kernel: Float[Tensor, "*batch n m"], size: int, default: float
) -> Float[Tensor, "*batch k"]:
    shape = (*kernel.shape[:-2], size)
    if given is None:
        return kernel.new_full(shape, default)
    sums = as_tensor(given, "the sums a and b").to(kernel)
    if sums.shape[-1:] != (size,) or sums.ndim > len(shape) or not bool((sums >= 0).all()):
        raise ValueError(
            f"the sums a and b must be {size} nonnegative numbers, one set a matrix, got shape {tuple(sums.shape)}"
        )
    return sums.expand(shape)


def _potential(
    sums: Float[Tensor, "*batch n"], exponents: Float[Tensor, "*batch n m"]
) -> Float[Tensor, "*batch n"]:
    """What brings rows to their sums; minus infinity for an empty one, whatever its entries are (padding, say)."""
    empty = sums == 0
    if not bool(empty.any()):
        return sums.log() - torch.logsumexp(exponents, -1)
    kept = exponents.masked_fill(empty[..., None], 0.0)  # no gradient of a logarithm of zero
    return (sums.masked_fill(empty, 1.0).log() - torch.logsumexp(kept, -1)).masked_fill(empty, -torch.inf)


def _plan(
    kernel: Float[Tensor, "*batch n m"], u: Float[Tensor, "*batch n"], v: Float[Tensor, "*batch m"]
) -> Float[Tensor, "*batch n m"]:
    return (kernel + u[..., :, None] + v[..., None, :]).exp()


def _error(plan: Tensor, rows: Tensor, columns: Tensor) -> float:
    plan = plan.detach()
    off = [(plan.sum(axis) - sums.detach()).abs().sum(-1).max() for axis, sums in ((-1, rows), (-2, columns))]
    return float(torch.stack(off).max().nan_to_num(nan=torch.inf))
