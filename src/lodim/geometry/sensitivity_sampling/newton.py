"""Minimising ``||C z - b||_p^p``, many problems at once, freely or with one linear constraint each.

Newton's method on the smoothed objective ``sum_j (r_j^2 + eps^2)^{p/2}``, which is convex for p >= 1, with
backtracking. For p < 2 the curvature at a zero residual is infinite, so eps falls step by step, each level starting
where the last ended; for p >= 2 it only keeps powers of zero finite. Above 2 the curvature vanishes with a residual:
where one row outweighs the others so far that Newton's step is of no use, eps falls from the mean residual too. At
p = 1 the smoothed optimum costs at most ``m eps`` more than the true one, a hundred-thousandth of the first objective
here, and less above. For p < 1 the problem is not convex: the curvature ``p (r^2 + eps^2)^{p/2-1}`` of iteratively
reweighted least squares, which majorises, takes its place and a local minimum is found.

With a constraint ``<normal, z> = 1`` the problem is posed inside the hyperplane, ``z = start + N w`` with an
orthonormal basis N of the directions in it. There the row that is held has no part: for large p its curvature is many
orders above that of the others, whose share would be lost in its rounding. All arrays have a leading axis of problems
that share C; regression is one problem, sensitivities are many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lodim.geometry.sensitivity_sampling.basis import weighted_gram

_BUDGET = 4_000_000  # numbers in one temporary array
_FINAL = 1e-13  # of the squared Newton decrement, over the objective
_PARALLEL = 1e-14  # of a row's length
_STUCK = 1e-9  # from which a problem with p > 2 is begun anew
_FROM_AFAR = (1.0, 0.1, 1e-2, 1e-3, 1e-9)  # smoothing of those


@dataclass(frozen=True)
class Minimum:
    """Solutions of a batch and their ``||C z - b||_p^p``, without smoothing.

    ``decrement`` is the largest squared Newton decrement over objective at the last smoothing; zero at the optimum.
    """

    z: Float[Tensor, "n_problems r"]
    value: Tensor
    decrement: float
    n_iter: int


def _levels(p: float) -> list[float]:
    """Smoothing in units of the mean residual, falling; near p = 1 slower and not as far.

    There Newton's method converges only within about eps of a kink, and an eps of the mean residual costs at most that
    share of the objective.
    """
    if p >= 2:
        return [1e-9]
    near_one = p < 1.2
    return [float(10.0**-k) for k in np.arange(0, 5.1 if near_one else 8.1, 0.5 if near_one else 1.0)]


def _derivatives(r: Tensor, eps: Tensor, p: float) -> tuple[Tensor, Tensor, Tensor]:
    """Smoothed objective, and first and second derivative of each term."""
    square, e2 = r * r, eps * eps
    s = square + e2
    t = s ** (p / 2 - 2)
    curvature = p * t * (s if p < 1 else (p - 1) * square + e2)
    t = t * s
    return (t * s).sum(1), p * t * r, curvature


def _hessian(D: Tensor, h: Tensor) -> Tensor:
    """``D_k^T diag(h_k) D_k`` for every problem k, by blocks of rows."""
    n_problems, m, r = D.shape
    size = max(1, _BUDGET // max(1, n_problems * r))
    total = D.new_zeros(n_problems, r, r)
    for start in range(0, m, size):
        block = D[:, start : start + size]
        total += (block.mT * h[:, None, start : start + size]) @ block
    return total


def _step(D: Tensor, g: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Newton's step and the squared decrement of every problem."""
    H, gradient = _hessian(D, h), (g[:, None] @ D)[:, 0]
    ridge = 1e-14 * H.diagonal(dim1=1, dim2=2).amax(1) + torch.finfo(H.dtype).tiny
    H.diagonal(dim1=1, dim2=2).add_(ridge[:, None])
    factor, info = torch.linalg.cholesky_ex(H)
    if info.any():
        raise ValueError("the problem cannot be solved in double precision: p is too large for these numbers")
    step = -torch.cholesky_solve(gradient[..., None], factor)[..., 0]
    return step, -(gradient * step).sum(1)


def _inside(normals: Tensor) -> Tensor:
    """Orthonormal bases, shape (k, r, r - 1), of what is orthogonal to each normal: columns of a reflection."""
    v = normals / torch.linalg.vector_norm(normals, dim=1, keepdim=True)
    largest = v.abs().argmax(1)
    at = torch.arange(len(v), device=v.device)
    v[at, largest] += v[at, largest].sign()
    reflection = torch.eye(v.shape[1], dtype=v.dtype, device=v.device) - (
        2 / (v * v).sum(1)[:, None, None] * v[:, :, None] * v[:, None, :]
    )
    others = torch.ones_like(v, dtype=torch.bool)
    others[at, largest] = False
    return reflection.mT[others].reshape(len(v), -1, v.shape[1]).mT


def _search(r: Tensor, move: Tensor, eps: Tensor, p: float, before: Tensor, slope: Tensor) -> Tensor:
    """Step length of every problem by backtracking; zero where none descends."""
    length = torch.zeros_like(before)
    open_ = torch.ones_like(before, dtype=torch.bool)
    t = 1.0
    while bool(open_.any()) and t > 1e-6:
        trial = r[open_] + t * move[open_]
        value = ((trial * trial + eps[open_] ** 2) ** (p / 2)).sum(1)
        good = value <= before[open_] - 0.1 * t * slope[open_]
        found = open_.nonzero()[:, 0][good]
        length[found] = t
        open_[found] = False
        t /= 2
    return length


def _parts_inside(C: Tensor, inside: Tensor) -> Tensor:
    """``C N_k``; what rounding leaves of a row that is the normal itself would outweigh the others in a high power."""
    D = C @ inside
    rounding = _PARALLEL * torch.linalg.vector_norm(C, dim=1)[:, None]
    return torch.where(D.abs() > rounding, D, torch.zeros_like(D))


def _descend(
    D: Tensor, first: Tensor, p: float, levels: Sequence[float], max_iter: int
) -> tuple[Tensor, Tensor, int]:
    """Minimise ``||first_k + D_k w||_p^p`` for every k: w, squared decrements over objectives, and the steps taken."""
    w, ratio, n_iter = first.new_zeros(len(D), D.shape[2]), first.new_zeros(len(D)), 0
    for level in levels:
        eps = first.new_full((len(D), 1), level)
        tol = _FINAL if level == levels[-1] else 1e-3
        for _ in range(max_iter):
            r = first + (D @ w[..., None])[..., 0]
            value, g, h = _derivatives(r, eps, p)
            step, slope = _step(D, g, h)
            ratio = slope / value
            if float(ratio.max()) <= tol:
                break
            length = _search(r, (D @ step[..., None])[..., 0], eps, p, value, slope)
            length = torch.where(ratio > tol, length, torch.zeros_like(length))
            w = w + length[:, None] * step
            n_iter += 1
            if not bool(length.any()):
                break
    return w, ratio, n_iter


def minimize(
    C: Tensor,
    p: float,
    start: Float[Tensor, "n_problems r"],
    *,
    target: Float[Tensor, " m"] | None = None,
    normals: Float[Tensor, "n_problems r"] | None = None,
    max_iter: int = 60,
) -> Minimum:
    """Minimise ``||C z - target||_p^p`` from ``start``, subject to ``<normals_k, z> = <normals_k, start_k>``.

    C must be of full column rank.
    """

    inside = None if normals is None else _inside(normals)
    if inside is not None and not inside.shape[2]:
        return Minimum(start, _power_sum(start @ C.T, p), 0.0, 0)  # a point is all there is
    D = C.expand(len(start), *C.shape) if inside is None else _parts_inside(C, inside)
    first = start @ C.T if target is None else start @ C.T - target
    size = first.abs().amax(1, keepdim=True)
    size = torch.where(size > 0, size, torch.ones_like(size))
    size = size * ((first / size).abs() ** p).mean(1, keepdim=True) ** (1 / p)
    first_scaled = first / size  # of order one, so that no power overflows
    w, decrement, n_iter = _descend(D, first_scaled, p, _levels(p), max_iter)
    stuck = decrement > _STUCK
    if p > 2 and bool(stuck.any()):
        w[stuck], decrement[stuck], more = _descend(D[stuck], first_scaled[stuck], p, _FROM_AFAR, max_iter)
        n_iter += more
    z = start + size * (w if inside is None else (inside @ w[..., None])[..., 0])
    r = z @ C.T if target is None else z @ C.T - target
    return Minimum(z, _power_sum(r, p), float(decrement.max()), n_iter)


def _power_sum(r: Tensor, p: float) -> Tensor:
    return (r.abs() ** p).sum(1)


def median_by_steps(
    Q: Tensor, r: Tensor, levels: Sequence[float], *, max_iter: int = 12, tol: float = 1e-9
) -> Iterator[tuple[Tensor, Tensor]]:
    """Primal-dual Newton steps for ``min ||r - Q z||_1``, many rows: yields (z, dual) after every level of smoothing.

    With ``t = sqrt(r^2 + eps^2)`` the optimum of ``sum t`` has ``t y = r`` and ``Q^T y = 0``. Linearising the first
    equation with y as an unknown of its own (Chan, Golub and Mulet 1999) gives the curvature ``(1 - y r / t) / t``,
    which Newton's method on ``sum t`` has only where y = r / t, and which does not shrink the region of convergence
    with eps. y stays inside (-1, 1), so that, made orthogonal to Q, it is nearly feasible in the dual. Residuals r are
    those at z = 0; levels are eps in units of the mean residual, falling; a level ends at a squared decrement over
    objective of ``tol``.
    """
    size = r.abs().mean()
    z, dual, r = Q.new_zeros(Q.shape[1]), None, r / size
    for level in levels:
        eps = r.new_tensor(level)
        for _ in range(max_iter):
            t = (r * r + eps * eps).sqrt()
            value = t.sum()
            dual = r / t if dual is None else dual
            H = weighted_gram(Q, (1 - dual * r / t) / t)
            H.diagonal().add_(1e-14 * H.diagonal().max())
            g = Q.T @ (r / t)
            step = torch.cholesky_solve(g[:, None], torch.linalg.cholesky(H))[:, 0]
            move, slope = -(Q @ step), g @ step
            change = (r + move) / t - r * dual * move / (t * t) - dual
            room = (torch.sign(change) - dual) / torch.where(change == 0, torch.ones_like(change), change)
            room = torch.where(change == 0, torch.ones_like(room), room)
            dual = dual + min(1.0, 0.99 * float(room.min())) * change
            length = _search(r[None], move[None], eps[None, None], 1.0, value[None], slope[None])[0]
            z, r = z + length * step, r + length * move
            if bool(slope <= tol * value) or not bool(length):
                break
        assert dual is not None
        yield size * z, dual


def median_regression(C: Float[np.ndarray, "m r"], b: np.ndarray) -> np.ndarray:
    """Minimiser of ``||C z - b||_1`` by linear programming (HiGHS), from the dual, which has only r equations.

    ``max <b, y>`` over ``C^T y = 0``, ``|y_j| <= 1``; the multipliers of the equations are ``-z``. The solver's
    tolerances are absolute, so b (best with what least squares explain already taken off) and the columns are brought
    to a mean size of one.
    """
    from scipy.optimize import linprog

    size, width = np.abs(b).mean(), np.abs(C).mean(0)
    if size == 0:
        return np.zeros(C.shape[1])
    width[width == 0] = 1.0
    columns = C / width
    solved = linprog(-b / size, A_eq=columns.T, b_eq=np.zeros(C.shape[1]), bounds=(-1, 1), method="highs")
    if solved.status != 0:
        raise RuntimeError(f"linear programming failed: {solved.message}")
    return -np.asarray(solved.eqlin.marginals) * (size / width)
