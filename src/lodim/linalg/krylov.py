r"""Iterative solvers of ``A x = b`` with one stopping rule and one record.

A solver stops when :math:`\|b - A x_k\| \le \mathrm{tol} \, \|b - A x_0\|`. At the end the residual is computed again
from x, since what the recurrences carry drifts from it; that one decides what is reported.

=========================  =============================================================================
A                          solver
=========================  =============================================================================
symmetric, definite        :func:`conjugate_gradient`; for tensors over any leading axes at once
symmetric                  :func:`minres`
any                        :func:`gmres`, restarted
with a good diagonal       :func:`sor`, stationary; :func:`ssor_preconditioner` for conjugate gradients
=========================  =============================================================================

For arrays the iterations are SciPy's. They solve for the correction to ``x0``, which makes their tolerance the rule
above; a preconditioner of GMRES works from the right, so that its residuals are those of ``A x = b``.

References
----------
Y. Saad, *Iterative Methods for Sparse Linear Systems*, SIAM 2003: algorithms 9.1 (preconditioned conjugate gradients),
6.11 and 9.5 (GMRES), sections 4.1 and 10.2 (SOR, SSOR).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float, Inexact, Num
from scipy.sparse import linalg
from torch import Tensor

from lodim.linalg.precision import power_of_two
from lodim.results import Result
from lodim.validation import (
    ConvergenceWarning,
    check_in_range,
    check_numbers,
    check_unmasked,
    checked,
    plain_array,
    to_numpy,
    warn,
)

__all__ = ["SolveResult", "conjugate_gradient", "gmres", "minres", "sor", "ssor_preconditioner"]


@dataclass(frozen=True)
class SolveResult(Result):
    """A solution, and how it was come by.

    Attributes
    ----------
    x : array or Tensor, shape (..., n)
    converged : bool
        Whether the residual, computed again, is within the tolerance (that of every system of a batch).
    residual : float
        ``|b - A x| / |b - A x_0|``, computed again; the largest of a batch.
    n_iter : int
    residual_norms : array or Tensor, shape (n_iter + 1, ...)
        The same after each iteration, as the solver went by it; the last one computed again.
    n_matvec : int
        Products with A, checks included; one for a batch.
    seconds : float
    """

    x: np.ndarray | Tensor
    converged: bool
    residual: float
    n_iter: int
    residual_norms: np.ndarray | Tensor
    n_matvec: int
    seconds: float = field(compare=False)

    def __str__(self) -> str:
        state = "converged" if self.converged else "did not converge"
        return f"{state}: relative residual {self.residual:.2g} after {self.n_iter} iterations"


def _refusal(name: str, A: Any, why: str = "") -> str:
    return (
        f"{name} must be an array, a sparse array, a LinearOperator or a function where b is an array, got "
        f"{type(A).__name__} ({why}tensors: all of them, and conjugate_gradient)"
    )


class _System:
    """``A x = b`` for arrays: products counted, residuals relative to the first, the record at the end."""

    def __init__(self, A: Any, b: Any, x0: Any, tol: int | float, max_iter: int | np.integer | None):
        self.started = time.perf_counter()
        check_unmasked(b, "b")
        try:
            self.b = np.asarray(to_numpy(b, "b"))
        except ValueError as error:
            raise ValueError(f"b must be a finite vector: {error}") from error
        if self.b.ndim != 1 or self.b.dtype.kind not in "biufc" or not np.isfinite(self.b).all():
            raise ValueError(f"b must be a finite vector, got shape {self.b.shape} of {self.b.dtype}")
        if self.b.dtype.kind in "biu" or self.b.dtype == np.float16:  # no solver computes in half precision
            self.b = self.b.astype(np.float64)
        if isinstance(A, Tensor):
            raise TypeError(_refusal("A", A))
        if isinstance(A, list | tuple):
            A = plain_array(A, "A")
        if np.iscomplexobj(A):
            self.b = self.b + 0j
        self.tol, n = check_in_range(tol, "tol", low=0.0), len(self.b)
        self.max_iter = _limit(max_iter, n)
        self.A = self.operator(A, "A")
        self.n_matvec = 0
        self.x0 = np.zeros_like(self.b) if x0 is None else check_numbers(x0, "x0", dtype=self.b.dtype)
        if self.x0.shape != self.b.shape or not np.isfinite(self.x0).all():
            raise ValueError(f"x0 must be a finite vector of {n} entries, as b, got shape {self.x0.shape}")
        r0 = self.b if x0 is None else self.b - self.product(self.x0)
        largest = float(np.abs(r0).max(initial=0.0))
        # a power of two, so exact: solvers square residuals, and squares over- and underflow
        self.unit = power_of_two(largest) if largest < math.inf else 1.0
        self.r0 = (r0 / self.unit).astype(r0.dtype)
        self.scale = float(np.linalg.norm(self.r0))
        self.norms: list[float] = []

    def product(self, x: Any) -> Any:
        self.n_matvec += 1
        return self.A.matvec(x)

    def operator(self, A: Any, name: str = "A") -> linalg.LinearOperator:
        n = len(self.b)
        if _is_function(A):

            def apply(x: Any) -> Any:
                image = np.asarray(A(x))
                if image.size != n:
                    raise ValueError(f"{name} must return {n} entries, as b has, got shape {image.shape}")
                return image

            return linalg.LinearOperator((n, n), apply, dtype=self.b.dtype)
        try:
            check_unmasked(A, name)
            if not hasattr(A, "tocsr") and not hasattr(A, "matvec"):
                A = to_numpy(A, name)
                real = np.float32 if self.b.dtype == np.float32 else np.float64
                A = A if np.iscomplexobj(A) else check_numbers(A, name, dtype=real)
            operator = linalg.aslinearoperator(A)
        except (TypeError, ValueError) as error:
            raise TypeError(_refusal(name, A, f"{error}; ")) from error
        if operator.shape != (n, n):
            raise ValueError(f"{name} must be square and match b ({n} entries), got shape {operator.shape}")
        return operator

    def inverse(self, preconditioner: Any) -> Callable[[Any], Any]:
        if preconditioner is None:
            return lambda v: v
        return self.operator(preconditioner, "preconditioner").matvec

    @property
    def rtol(self) -> float:
        """The tolerance; not below what a recurrence can mean, where its numbers underflow in the end."""
        return max(self.tol, 1e-3 * float(np.finfo(self.b.dtype).eps))

    def note(self, residual: Any) -> None:
        self.norms.append(float(np.linalg.norm(residual)) / self.scale)

    def record(self, correction: Any, what: str) -> SolveResult:
        x = self.x0 + (self.unit * correction).astype(correction.dtype)
        residual = float(np.linalg.norm((self.b - self.product(x)) / self.unit)) / (self.scale or 1.0)
        n_iter = len(self.norms)
        converged = residual <= self.tol
        if not converged:
            _warn_unless_fixed(what, n_iter, residual, self.tol)
        seconds = time.perf_counter() - self.started
        return SolveResult(
            x, converged, residual, n_iter, np.array([*self.norms, residual]), self.n_matvec, seconds
        )


def _is_function(A: Any) -> bool:
    return callable(A) and not isinstance(A, Tensor | linalg.LinearOperator)


def _limit(max_iter: int | np.integer | None, n: int) -> int:
    return 10 * n if max_iter is None else int(check_in_range(max_iter, "max_iter", low=1, integer=True))


def _warn_unless_fixed(what: str, n_iter: int, residual: float, tol: int | float) -> None:
    if tol > 0:
        warn(
            f"{what} left a relative residual of {residual:.2g} after {n_iter} iterations (asked for: {tol:.2g}); "
            "raise max_iter or tol, or give a preconditioner. It also happens where A is not of the solver's kind",
            ConvergenceWarning,
            stacklevel=5,
        )


@checked
def conjugate_gradient(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    preconditioner: Any = None,
    tol: int | float = 1e-6,
    max_iter: int | np.integer | None = None,
) -> SolveResult:
    """Solve with a symmetric (Hermitian) positive definite A by preconditioned conjugate gradients.

    Parameters
    ----------
    A : array, sparse array, LinearOperator, Tensor (..., n, n) or callable
        A callable maps x, shape (..., n), to A x.
    b : array, shape (n,), or Tensor, shape (..., n)
        The leading axes of a tensor hold independent systems; each stops by itself.
    x0 : like b, optional
        Default: zeros.
    preconditioner : like A, optional
        Applies an approximation of the inverse of A, symmetric positive definite too.
    tol : float
        0 takes ``max_iter`` steps, or as many as rounding permits (for tensors until nothing else is left of the
        residual, so that a singular A, such as a projection, does no harm), and warns of nothing.
    max_iter : int, optional
        Default: 10 n.

    Returns
    -------
    SolveResult
        For tensors differentiable in ``b``, ``x0`` and what A holds, through the steps that were taken. Inner products
        are summed in double precision.

    Raises
    ------
    ValueError
        Shapes that do not match, b masked, or b or x0 not finite.
    TypeError
        A neither tensor nor function where b is a tensor, or a tensor where it is not.

    Warns
    -----
    ConvergenceWarning
        The residual, computed again, is above the tolerance.
    """
    if isinstance(b, Tensor):
        return _batched_conjugate_gradient(A, b, x0, preconditioner, tol, max_iter)
    system = _System(A, b, x0, tol, max_iter)
    inverse = system.inverse(preconditioner)

    def noted(residual: Any) -> Any:  # SciPy hands each residual to the preconditioner, and to nobody else
        system.note(residual)
        return inverse(residual)

    A_, M = system.operator(system.product), system.operator(noted)
    with np.errstate(divide="ignore", invalid="ignore"):  # a direction without curvature shows in the record
        x, _ = linalg.cg(A_, system.r0, rtol=system.rtol, maxiter=system.max_iter, M=M)
    return system.record(x, "conjugate gradients")


def _batched_conjugate_gradient(
    A: Any,
    b: Num[Tensor, "*batch n"],
    x0: Any,
    preconditioner: Any,
    tol: int | float,
    max_iter: int | np.integer | None,
) -> SolveResult:
    started = time.perf_counter()
    check_in_range(tol, "tol", low=0.0)
    dtypes = [part.dtype for part in (A, preconditioner, x0) if isinstance(part, Tensor)]
    whole = not (b.is_floating_point() or b.is_complex())
    b = b.to(reduce(torch.promote_types, dtypes, torch.float64 if whole else b.dtype))
    product, precondition = _as_product(A, b), _as_product(preconditioner, b)
    if not bool(b.isfinite().all()):
        raise ValueError("b must be finite, got NaN or infinite entries")
    start = torch.zeros_like(b) if x0 is None else torch.as_tensor(x0).to(b).expand_as(b)
    if not bool(start.isfinite().all()):
        raise ValueError("x0 must be finite, got NaN or infinite entries")
    r0 = b if x0 is None else b - product(start)
    unit = _power_of_two(r0)  # squares over- and underflow
    x, r = torch.zeros_like(r0), r0 / unit
    z = precondition(r)
    p, power = z, _inner(r, z)
    scale = _norm(r)
    norms, limit, n_matvec = [scale], _limit(max_iter, b.shape[-1]), 1 + (x0 is not None)
    eps = torch.finfo(b.dtype).eps
    enough = scale * max(tol, 1e-3 * eps)
    if not tol:  # what rounding leaves may lie where a singular A is 0, and steps along it have no limit
        enough = 16 * eps * torch.maximum(scale, _norm(b / unit))
    while len(norms) <= limit and bool((norms[-1] > enough).any()):
        q, n_matvec = product(p), n_matvec + 1
        curvature = _inner(p, q)
        # a system that is done, or whose direction is no descent, stays where it is
        going = (norms[-1] > enough)[..., None] & (curvature > 0)
        if not bool(going.any()):
            break
        step = torch.where(going, power / torch.where(going, curvature, 1.0), 0.0).to(r.dtype)
        x, r = x + step * p, r - step * q
        z = precondition(r)
        power, before = _inner(r, z), power
        p = z + torch.where(going, power / torch.where(going, before, 1.0), 0.0).to(r.dtype) * p
        norms.append(_norm(r))
    x = start + unit * x
    norms[-1] = _norm((b - product(x)) / unit)
    relative = torch.stack(norms) / torch.where(scale > 0, scale, 1.0)
    residual, n_iter = max(relative[-1].flatten().tolist(), default=0.0), len(norms) - 1
    if not residual <= tol:
        _warn_unless_fixed("conjugate gradients", n_iter, residual, tol)
    seconds = time.perf_counter() - started
    return SolveResult(x, residual <= tol, residual, n_iter, relative, n_matvec, seconds)


def _as_product(A: Any, b: Inexact[Tensor, "*batch n"]) -> Callable[[Any], Any]:
    if A is None:
        return lambda v: v
    if _is_function(A):
        return A
    if not isinstance(A, Tensor):
        raise TypeError(f"A must be a tensor or a function where b is a tensor, got {type(A).__name__}")
    A = A.to(b.dtype)
    if A.shape[-2:] != (b.shape[-1],) * 2:
        raise ValueError(f"A must end in two axes of {b.shape[-1]}, as b does, got shape {tuple(A.shape)}")
    return lambda v: (A @ v[..., None])[..., 0]


def _inner(u: Inexact[Tensor, "*batch n"], v: Inexact[Tensor, "*batch n"]) -> Float[Tensor, "*batch 1"]:
    double = torch.promote_types(u.dtype, torch.float64)  # before the product: half precision overflows
    return (u.to(double).conj() * v.to(double)).real.sum(-1, keepdim=True)


def _norm(r: Inexact[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    return _inner(r.detach(), r.detach())[..., 0].sqrt()


def _power_of_two(r: Inexact[Tensor, "*batch n"]) -> Float[Tensor, "*batch 1"]:
    """The one not above each system's largest entry; 1 where all are zero."""
    largest = r.detach().abs().amax(-1, keepdim=True)
    return torch.where(largest > 0, largest.log2().floor().exp2(), 1.0)


class _Stop(Exception):
    """Ends SciPy's iterations from its callback."""


@checked
def minres(
    A: Any, b: Any, x0: Any = None, *, tol: int | float = 1e-6, max_iter: int | np.integer | None = None
) -> SolveResult:
    """Solve with a symmetric A, definite or not, by minimal residuals.

    SciPy's own rule compares the residual with the norm of A, so it is checked here, by one more product an iteration.
    Parameters, errors and warnings are those of :func:`conjugate_gradient`, for arrays; complex numbers are refused.
    """
    system = _System(A, b, x0, tol, max_iter)
    if np.iscomplexobj(system.b):
        raise ValueError(
            "minres takes real systems only, A and b real; use conjugate_gradient or gmres for complex ones"
        )
    latest = np.zeros_like(system.b)
    if system.scale:
        system.note(system.r0)

    def check(x: Any) -> None:
        latest[:] = x
        system.note(system.r0 - system.product(x))
        if system.norms[-1] <= system.tol:
            raise _Stop

    try:
        options: dict[str, Any] = {"rtol": 0.0, "maxiter": system.max_iter, "callback": check}
        linalg.minres(system.operator(system.product), system.r0, **options)
    except _Stop:
        pass
    del system.norms[-1:]  # the record computes it again
    return system.record(latest, "MINRES")


@checked
def gmres(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    preconditioner: Any = None,
    restart: int | np.integer = 30,
    tol: int | float = 1e-6,
    max_iter: int | np.integer | None = None,
) -> SolveResult:
    """Solve with any square A by generalised minimal residuals, restarted.

    What is not said here is as in :func:`conjugate_gradient`, for arrays; no symmetry is asked for.

    Parameters
    ----------
    restart : int
        Iterations (and vectors kept) of a cycle.
    max_iter : int, optional
        Rounded up to whole cycles. Default: 10 n.
    """
    system = _System(A, b, x0, tol, max_iter)
    inverse = system.inverse(preconditioner)
    cycle = min(int(check_in_range(restart, "restart", low=1, integer=True)), len(system.b))
    if system.scale:
        system.note(system.r0)
    y, _ = linalg.gmres(
        system.operator(lambda v: system.product(inverse(v))),
        system.r0,
        rtol=system.rtol,
        restart=cycle,
        maxiter=math.ceil(system.max_iter / cycle),
        callback=system.norms.append,
        callback_type="pr_norm",
    )
    del system.norms[-1:]
    return system.record(inverse(y), "GMRES")


@checked
def sor(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    omega: int | float = 1.0,
    tol: int | float = 1e-6,
    max_iter: int | np.integer | None = None,
) -> SolveResult:
    """Solve by successive over-relaxation, ``x += (D / omega + L)^{-1} (b - A x)``; Gauss-Seidel for ``omega = 1``.

    What is not said here is as in :func:`conjugate_gradient`, for arrays.

    Parameters
    ----------
    A : array or sparse array, shape (n, n)
        With diagonal D and strictly lower part L.
    omega : float
        Between 0 and 2, where it converges for symmetric positive definite A.

    Raises
    ------
    ValueError
        As :func:`conjugate_gradient`; omega outside (0, 2), or a zero on the diagonal.
    """
    system = _System(A, b, x0, tol, max_iter)
    _, sweep = _lower(A, omega)
    correction, r = np.zeros_like(system.b), system.r0
    while len(system.norms) < system.max_iter and np.linalg.norm(r) > system.tol * system.scale:
        system.note(r)
        correction = correction + sweep(r)
        r = system.r0 - system.product(correction)
    return system.record(correction, "SOR")


@checked
def ssor_preconditioner(A: Any, omega: int | float = 1.0) -> linalg.LinearOperator:
    """Symmetric over-relaxation as a preconditioner: applies the inverse of ``T D^{-1} T' omega / (2 - omega)``.

    Here ``T = D / omega + L``, factored once: T is its own factor, and no fill arises.

    Parameters
    ----------
    A : array or sparse array, shape (n, n)
        Symmetric (Hermitian) positive definite.

    Raises
    ------
    ValueError
        omega outside (0, 2), or a zero on the diagonal.
    """
    diagonal, sweep = _lower(A, omega)
    weight = (2 - omega) / omega

    def apply(r: Any) -> Any:
        return sweep(weight * diagonal * sweep(np.ravel(r)), "H")

    return linalg.LinearOperator((len(diagonal),) * 2, apply, dtype=diagonal.dtype)


def _lower(A: Any, omega: int | float) -> tuple[np.ndarray, Callable[..., Any]]:
    """Diagonal of A, and the solution of systems with ``D / omega + L``."""
    if not 0 < omega < 2:
        raise ValueError(f"omega must lie between 0 and 2, got {omega}")
    if not hasattr(A, "tocsr"):
        if _is_function(A) or hasattr(A, "matvec"):
            raise TypeError(
                f"A must be an array or a sparse array, whose entries are read, got {type(A).__name__}"
            )
        A = to_numpy(A, "A")
        A = A if np.iscomplexobj(A) else check_numbers(A, "A")
    matrix = scipy.sparse.csc_array(A)
    if not np.isfinite(matrix.data).all():
        raise ValueError("A must be finite, got NaN or infinite entries")
    diagonal = matrix.diagonal()
    if not diagonal.all():
        raise ValueError(
            f"row {int((diagonal == 0).argmax())} has a zero on the diagonal; reorder the equations"
        )
    lower = scipy.sparse.tril(matrix, -1) + scipy.sparse.diags_array(diagonal / omega)
    factor: Any = linalg.splu(lower.tocsc(), permc_spec="NATURAL", diag_pivot_thresh=0.0)

    def solve(r: Any, trans: str = "N") -> Any:
        r = r.astype({"g": np.float64, "G": np.complex128}.get(r.dtype.char, r.dtype), copy=False)
        if np.iscomplexobj(r) and not np.iscomplexobj(matrix):  # SuperLU takes one kind
            return factor.solve(r.real, trans) + 1j * factor.solve(r.imag, trans)
        return factor.solve(r, trans)

    return diagonal, solve
