r"""Reconstruction without a learnt prior: what the diffusion is held against.

===========================  ========================================================================================
:class:`FBP`                 :math:`\sum_v w_v A_v^T (h * y_v)`, tomography only
:class:`CGLeastSquares`      :math:`\min_x |A x - y|^2`, by a few steps of conjugate gradients from 0: the fewer, the
                             smoother
:class:`ADMMTV`              :math:`\min_x \frac12 |A x - y|^2 + \lambda\, \mathrm{TV}(x)`, in three dimensions
===========================  ========================================================================================

Total variation sums differences to the next pixel, row and slice: their absolute values, or (isotropic) the length of
their vector. With :math:`z = D x` split off, ADMM repeats (2211.10655, section 3.2, with D of all three directions)

.. math:: x \leftarrow (A^T A + \rho D^T D)^{-1} (A^T y + \rho D^T (z - w)), \quad
          z \leftarrow S_{\lambda / \rho}(D x + w), \quad w \leftarrow w + D x - z,

S the soft threshold, the inverse by conjugate gradients from the last x.

Source: Hyungjin Chung and others, arXiv 2211.10655, sections 3.2 and 4 (ADMM-TV as baseline). Departures: A is scaled
to norm 1, and y with it, so that :math:`\lambda` and :math:`\rho` mean the same for any number of views.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lodim.generative.diffusion_mbir.differences import divergence, gradient, soft_threshold
from lodim.generative.diffusion_mbir.operators import FILTERS, Array, Operator, ParallelBeam, like
from lodim.linalg import conjugate_gradient
from lodim.validation import ConvergenceWarning, check_choice, check_in_range, checked, warn

__all__ = ["ADMMTV", "FBP", "CGLeastSquares"]


@checked
class FBP:
    """Filtered back-projection: exact for many views without noise, streaks for few.

    Parameters
    ----------
    operator : ParallelBeam
    filter : {"ramp", "shepp-logan", "cosine", "hann"}
        The later, the smoother.
    """

    def __init__(self, operator: ParallelBeam, filter: str = "ramp") -> None:
        self.operator, self.filter = operator, check_choice(filter, FILTERS, "filter")

    def reconstruct(self, y: Array) -> Array:
        """Return slices (Z, 1, H, W) from measurements (Z, views, n_det); see :meth:`ParallelBeam.fbp`."""
        return self.operator.fbp(y, self.filter)


@checked
class CGLeastSquares:
    """Least squares by conjugate gradients on the normal equations, from 0, stopped early.

    Each slice is a system of its own. What few steps reach is smooth and free of the noise that the exact solution
    amplifies; with enough of them it is the solution of least norm.

    Parameters
    ----------
    operator : Operator
    steps : int
        So many, or as many as rounding permits.
    """

    def __init__(self, operator: Operator, steps: int | np.integer = 20) -> None:
        self.operator = operator
        self.steps = int(check_in_range(steps, "steps", low=1, integer=True))

    def reconstruct(self, y: Array) -> Array:
        """Return slices (Z, C, H, W) from measurements (Z, ...)."""
        data = self.operator.check_data(y)
        b = self.operator.adjoint(data)
        # of data that no image explains rounding is left, which a singular matrix has no bound on
        explained, size = (torch.linalg.vector_norm(part.flatten(1), dim=1) for part in (b, data))
        least = 16 * torch.finfo(b.dtype).eps * self.operator.norm() * size
        b = torch.where((explained > least)[:, None, None, None], b, 0)

        def product(x: Tensor) -> Tensor:
            return self.operator.normal(x.reshape(b.shape)).flatten(1)

        x = conjugate_gradient(product, b.flatten(1), tol=0, max_iter=self.steps).x
        return like(x.reshape(b.shape), y)


@checked
class ADMMTV:
    r"""Least squares with total variation in three dimensions, by ADMM.

    Parameters
    ----------
    operator : Operator
    lam : float
        Weight :math:`\lambda` of the total variation, for A of norm 1.
    rho : float
        Penalty :math:`\rho`: it alters the way, not the solution.
    isotropic : bool
        The length of the three differences of a pixel, in place of their absolute values' sum.
    max_iter, cg_steps : int
        Outer iterations at most, and steps of conjugate gradients in each.
    tol : float
        Stop once :math:`|D x - z|` and :math:`\rho |D^T(z - z_{old})|` are at most this, relative to the sizes of
        their parts; 0 takes ``max_iter`` iterations and warns of nothing.
    boundary : {"none", "circular"}
        See :mod:`~lodim.generative.diffusion_mbir.differences`.

    Attributes
    ----------
    residuals_ : list of (float, float)
        Both relative residuals after each iteration of the last reconstruction.
    """

    def __init__(
        self,
        operator: Operator,
        lam: float | int = 0.005,
        rho: float | int = 0.1,
        *,
        isotropic: bool = False,
        max_iter: int | np.integer = 30,
        cg_steps: int | np.integer = 20,
        tol: float | int = 0.0,
        boundary: str = "none",
    ) -> None:
        self.operator, self.isotropic = operator, isotropic
        self.lam, self.rho = float(check_in_range(lam, "lam", low=0)), float(check_in_range(rho, "rho"))
        if not 0 < self.rho < float("inf") or self.lam == float("inf"):
            raise ValueError(f"rho must be above 0 and, as lam, finite, got rho={rho} and lam={lam}")
        self.max_iter = int(check_in_range(max_iter, "max_iter", low=1, integer=True))
        self.cg_steps = int(check_in_range(cg_steps, "cg_steps", low=1, integer=True))
        self.tol = check_in_range(tol, "tol", low=0)
        self.boundary = check_choice(boundary, ("none", "circular"), "boundary")

    def objective(self, x: Array, y: Array) -> float:
        r"""Return :math:`\frac12 |A x - y|^2 / \|A\|^2 + \lambda\, \mathrm{TV}(x)`."""
        images, data = self.operator.check_images(x), self.operator.check_data(y)
        d = self._gradient(images)
        variation = torch.linalg.vector_norm(d, dim=0) if self.isotropic else d.abs()
        misfit = torch.linalg.vector_norm(self.operator.forward(images) - data) / self._norm()
        return float(misfit**2 / 2 + self.lam * variation.sum())

    def reconstruct(self, y: Array) -> Array:
        """Return the volume (Z, C, H, W) from measurements (Z, ...)."""
        operator, rho, scale = self.operator, self.rho, self._norm() ** -2
        data = operator.adjoint(operator.check_data(y)) * scale
        shape = data.shape

        def product(flat: Tensor) -> Tensor:
            v = flat.reshape(shape)
            return (scale * operator.normal(v) + rho * self._divergence(self._gradient(v))).reshape(-1)

        x = torch.zeros_like(data)
        z = w = self._gradient(x)
        self.residuals_: list[tuple[float, float]] = []
        for _ in range(self.max_iter if data.numel() else 0):
            b = data + rho * self._divergence(z - w)
            solved = conjugate_gradient(product, b.reshape(-1), x.reshape(-1), tol=0, max_iter=self.cg_steps)
            x = solved.x.reshape(shape)  # type: ignore[assignment]  # a tensor, as b is
            d = self._gradient(x)
            old, z = z, soft_threshold(d + w, self.lam / rho, joint=self.isotropic)
            w = w + d - z
            primal = _relative(d - z, d, z)
            dual = _relative(self._divergence(z - old), self._divergence(w))
            self.residuals_.append((primal, dual))
            if max(primal, dual) <= self.tol:
                break
        else:
            if self.tol and data.numel():
                warn(
                    f"ADMM stopped after {self.max_iter} iterations with relative residuals {primal:.2g} and "
                    f"{dual:.2g}, above tol={self.tol:g}; raise max_iter or cg_steps, or try another rho",
                    ConvergenceWarning,
                )
        return like(x, y)

    def _gradient(self, x: Tensor) -> Tensor:
        return gradient(x, (0, 2, 3), self.boundary)

    def _divergence(self, d: Tensor) -> Tensor:
        return divergence(d, (0, 2, 3), self.boundary)

    def _norm(self) -> float:
        return self.operator.norm() or 1.0


def _relative(error: Tensor, *parts: Tensor) -> float:
    size, *sizes = (float(torch.linalg.vector_norm(part.detach())) for part in (error, *parts))
    scale = max(sizes)
    return size / scale if scale else size
