r"""The Jacobian of a denoiser: dense, its eigenbasis, its trace.

A denoiser f maps noisy points :math:`y = x + \sigma n` to estimates of x. That of least squares is the posterior mean,
and then :math:`J(y) = \nabla f(y) = \mathrm{Cov}[x \mid y] / \sigma^2`: symmetric, its eigenvalues the shares that
survive along its eigenvectors, its trace the number of directions kept (the effective dimension). A trained f need
not have a symmetric J, so

.. math:: \tfrac12 (J + J^\top) = \sum_k \lambda_k e_k e_k^\top, \qquad
          \mathrm{asymmetry} = \|J - J^\top\|_F / \|J\|_F

come together, and :math:`J = \sum_k s_k u_k v_k^\top` is the alternative. Where f is homogeneous (bias-free nets),
:math:`f(y) = J(y)\, y = \sum_k s_k \langle y, v_k \rangle u_k`.

=====================================  =======================================
symbol                                 here
=====================================  =======================================
:math:`f`                              ``f``
:math:`\lambda_k, s_k`                 ``JacobianBasis.values``
:math:`e_k, v_k`                       ``JacobianBasis.vectors``
:math:`e_k, u_k`                       ``JacobianBasis.left_vectors``
:math:`\operatorname{tr} J`            ``JacobianBasis.trace``, :func:`jacobian_trace`
=====================================  =======================================

f takes a batch, (batch, ...), and treats every point of it by itself: one vector product with a batch is one with
every point's own Jacobian. Modules are put in evaluation mode for that and restored.

Sources: Z. Kadkhodaie and others, arXiv 2310.02557, section 3; S. Mohan and others, arXiv 1906.05478 (bias-free
denoisers). Departure: the asymmetry is always reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator, eigsh, svds
from torch import Tensor, nn
from torch.func import jvp, vjp, vmap

from lodim.generative.denoiser import of_shape
from lodim.linalg import TraceEstimate, hutchinson_trace
from lodim.nets.activations import evaluation_mode
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed, torch_generator
from lodim.results import Result
from lodim.validation import check_in_range, check_tensor, checked, warn

__all__ = ["JacobianBasis", "jacobian", "jacobian_basis", "jacobian_trace"]

_NUMBERS_AT_ONCE = 2**16  # of points and cotangents, where no chunk is given
_PROBES = 30  # for the asymmetry of a Jacobian that is known by products
_HOMOGENEOUS = 1e-3

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class JacobianBasis(Result):
    """What a denoiser keeps at one point, and along which directions.

    Attributes
    ----------
    values : ndarray, shape (k,)
        Eigenvalues of the symmetric part of J, or singular values of J; descending.
    vectors : ndarray, shape (k, ...)
        The eigenvectors, or right singular vectors (what is looked for in y), each in the shape of a point.
    left_vectors : ndarray, shape (k, ...)
        The same eigenvectors, or left singular vectors (what is drawn where it is found).
    asymmetry : float
        ``|J - J'| / |J|`` (Frobenius); 0 for the best denoiser. An estimate where only some were asked for.
    trace : float
        Of J: the effective dimension. NaN where only some were asked for; see :func:`jacobian_trace`.
    inhomogeneity : float
        ``|f(2y) - 2 f(y)| / |2 f(y)|``: 0 where f(y) = J(y) y.
    """

    values: Float[np.ndarray, " k"]
    vectors: Float[np.ndarray, "k ..."]
    left_vectors: Float[np.ndarray, "k ..."]
    asymmetry: float
    trace: float
    inhomogeneity: float

    def coefficients(self, x: Any) -> Float[np.ndarray, " k"]:
        """Return the inner products of a point with the vectors."""
        x = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
        if x.shape != self.vectors.shape[1:]:
            raise ValueError(f"x must have the shape of a point, {self.vectors.shape[1:]}, got {x.shape}")
        return self.vectors.reshape(len(self.vectors), -1) @ x.ravel()

    def to_frame(self) -> Any:
        """Return the values as a data frame, by their rank from 1."""
        import pandas as pd

        return pd.DataFrame({"rank": np.arange(1, len(self.values) + 1), "value": self.values})

    def plot(self, ax: Any = None) -> Any:
        """Draw the values by their rank, and return the axes."""
        from lodim.plots import new_axes

        ax = new_axes(ax)
        ax.semilogx(np.arange(1, len(self.values) + 1), self.values)
        ax.set(xlabel="rank", ylabel="share kept", title=str(self))
        return ax

    def __str__(self) -> str:
        traced = "" if math.isnan(self.trace) else f", trace {self.trace:.3g} of {self.vectors[0].size}"
        return f"{len(self.values)} directions{traced}, asymmetry {self.asymmetry:.2g}"


@checked
def jacobian(
    f: Callable[..., Any], y: Float[Tensor, "batch ..."], *, chunk: int | None = None
) -> Float[Tensor, "batch D D"]:
    """Return the Jacobians of f at every point, ``J[b, i, j] = d f(y_b)_i / d (y_b)_j`` of flattened points.

    Parameters
    ----------
    f : callable
        Maps a batch to a batch of the same shape, each point by itself; of an object with ``denoise`` that is taken.
    y : Tensor
        Points.
    chunk : int, optional
        Products taken at once, over points and rows of J; fewer need less memory.

    Raises
    ------
    ValueError
        No points, values that are not finite, or an f that returns another shape or hides its derivative.
    """
    with _ready(f, y) as denoise:
        blocks = [torch.cat([*rows]).movedim(1, 0) for _, rows in _rows(denoise, y, chunk)]
    return torch.cat(blocks)


@checked
def jacobian_trace(
    f: Callable[..., Any],
    y: Float[Tensor, "batch ..."],
    n_probes: int | None = None,
    *,
    chunk: int | None = None,
    random_state: RandomState = 0,
) -> TraceEstimate:
    """Traces of the Jacobians at many points: exact, or by Hutchinson's probes.

    Parameters
    ----------
    f, y, chunk
        As in :func:`jacobian`.
    n_probes : int, optional
        Random signs to multiply with, at least 2; every coordinate in turn (exact) by default.

    Returns
    -------
    TraceEstimate
        One trace, with its standard error, a point.

    Raises
    ------
    ValueError
        As :func:`jacobian`.
    """
    size = y[:1].numel()
    if n_probes is None:
        with _ready(f, y) as denoise:
            found = [sum(_diagonal_sums(rows)) for _, rows in _rows(denoise, y, chunk)]
        traces: Tensor = torch.cat(found)  # type: ignore[arg-type]
        return TraceEstimate(tuple(traces.tolist()), (0.0,) * len(y), size, True)
    check_in_range(n_probes, "n_probes", low=2, integer=True)
    seed, parts = root_seed(random_state), []
    with _ready(f, y) as denoise:
        for start, points, pull in _pullbacks(denoise, y, _chunk(chunk, size)):

            def product(z: Tensor, points: Tensor = points, pull: Any = pull) -> Tensor:
                return pull(z.view(points.shape))[0].flatten()

            part = hutchinson_trace(
                product, points.numel(), blocks=[size] * len(points), n_probes=n_probes, rtol=0.0,
                random_state=derive_seed(seed, "rows", start), dtype=y.dtype, device=y.device,
            )  # fmt: skip
            parts.append(part)
    return TraceEstimate(
        tuple(t for part in parts for t in part.trace),
        tuple(s for part in parts for s in part.se),
        int(n_probes), True,
    )  # fmt: skip


@checked
def jacobian_basis(
    f: Callable[..., Any],
    y: Float[Tensor, " ..."],
    k: int | None = None,
    *,
    symmetric: bool = True,
    chunk: int | None = None,
    random_state: RandomState = 0,
) -> JacobianBasis:
    """Decompose the Jacobian at one point.

    Parameters
    ----------
    f : callable
        As in :func:`jacobian`.
    y : Tensor
        One point, without the axis of a batch.
    k : int, optional
        So many leading directions, by Lanczos' method on products alone; all of them, from the dense Jacobian, by
        default.
    symmetric : bool
        Eigenvectors of the symmetric part; ``False`` gives the singular value decomposition of J itself.
    chunk : int, optional
        As in :func:`jacobian`.
    random_state : int, Generator or None
        Of Lanczos' start.

    Raises
    ------
    ValueError
        As :func:`jacobian`; or k beyond the size of a point.

    Warns
    -----
    UserWarning
        A net that is not homogeneous: f(y) is not J(y) y.
    """
    size = y.numel()
    k = size if k is None else int(check_in_range(k, "k", low=1, high=size, integer=True))
    with _ready(f, y[None]) as denoise, torch.no_grad():
        doubled, twice = denoise(2 * y[None]).double(), 2 * denoise(y[None]).double()
        if not bool(twice.isfinite().all()):
            raise ValueError("f is not finite at y, which may be far outside of what it was trained on")
        inhomogeneity = float((doubled - twice).norm() / twice.norm().clamp(min=1e-300))
        if k < size - 1:
            values, left, right, asymmetry = _leading(denoise, y, k, symmetric, as_generator(random_state))
            trace = math.nan
        else:
            J = jacobian(denoise, y[None], chunk=chunk)[0].double().cpu().numpy()
            asymmetry = float(np.linalg.norm(J - J.T)) / max(float(np.linalg.norm(J)), 1e-300)
            trace = float(np.trace(J))
            if symmetric:
                values, right = np.linalg.eigh((J + J.T) / 2)
                left = right
            else:
                left, values, transposed = np.linalg.svd(J)
                right = transposed.T
    if inhomogeneity > _HOMOGENEOUS and module_of(f) is not None:
        warn(
            f"the net is not homogeneous (|f(2y) - 2 f(y)| is {inhomogeneity:.2g} of |2 f(y)|): f(y) is not J(y) y, "
            "and the basis describes changes of y only; nets without additive constants (BiasFreeUNet) are homogeneous"
        )
    order = np.argsort(-values, kind="stable")[:k]
    shape = (len(order), *y.shape)
    return JacobianBasis(
        values[order], right.T[order].reshape(shape), left.T[order].reshape(shape),
        asymmetry, trace, inhomogeneity,
    )  # fmt: skip


def _leading(
    f: Map, y: Tensor, k: int, symmetric: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Values, left and right vectors in columns, asymmetry; from products with J and J' only."""
    there, pull = vjp(f, y[None])[:2]
    _check_derivative(f, y[None], there, pull)

    def forth(v: Any) -> np.ndarray:
        z = torch.from_numpy(np.asarray(v).ravel()).to(y).view(1, *y.shape)
        return jvp(f, (y[None],), (z,))[1].flatten().double().cpu().numpy()

    def back(v: Any) -> np.ndarray:
        z = torch.from_numpy(np.asarray(v).ravel()).to(y).view(1, *y.shape)
        return pull(z)[0].flatten().double().cpu().numpy()

    size = y.numel()
    kind: Any = np.float64 if y.dtype == torch.float64 else np.float32  # ARPACK's tolerance follows
    start = rng.standard_normal(size).astype(kind)
    if not (forth(start).any() or back(start).any()):  # nowhere to start from: J is zero
        right = np.eye(size, k)
        return np.zeros(k), right, right, 0.0
    if symmetric:
        part = LinearOperator((size, size), matvec=lambda v: (forth(v) + back(v)) / 2, dtype=kind)
        values, right = eigsh(part, k, which="LA", v0=start)
        left = right
    else:
        whole = LinearOperator((size, size), matvec=forth, rmatvec=back, dtype=kind)
        left, values, transposed = svds(whole, k, v0=start)
        right = transposed.T
    probes = rng.choice([-1.0, 1.0], (_PROBES, size))  # E|A z|^2 is the squared Frobenius norm of A
    images = [(forth(z), back(z)) for z in probes]
    difference, norm = (sum(float(v @ v) for v in side) for side in zip(*((a - b, a) for a, b in images)))
    return (
        values.astype(float),
        left.astype(float),
        right.astype(float),
        math.sqrt(difference / max(norm, 1e-300)),
    )


def module_of(f: Any) -> nn.Module | None:
    """The module that f is, or whose method it is."""
    owner = f if isinstance(f, nn.Module) else getattr(f, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


@contextmanager
def _ready(f: Any, y: Tensor) -> Iterator[Map]:
    """The denoising function of f, in evaluation mode, once the points are known to be fit for it."""
    check_tensor(y, "y")
    if not len(y) or not y[0].numel():
        raise ValueError(f"y must hold points, got shape {tuple(y.shape)}")
    wrong = torch.nonzero(~y.detach().reshape(len(y), -1).isfinite().all(1)).flatten().tolist()
    if wrong:
        raise ValueError(
            f"y holds NaN or infinity in {len(wrong)} of {len(y)} points, the first at {wrong[0]}"
        )

    def denoise(points: Tensor) -> Tensor:
        copy = points.clone()  # which f may overwrite
        return of_shape(getattr(f, "denoise", f)(copy), points, "f")

    f = getattr(f, "_orig_mod", f)  # torch.func does not go through what is compiled
    module = module_of(f)
    with evaluation_mode(nn.Identity() if module is None else module), torch.no_grad():
        yield denoise


def _chunk(chunk: int | None, size: int) -> int:
    if chunk is not None:
        return int(check_in_range(chunk, "chunk", low=1, integer=True))
    return max(1, _NUMBERS_AT_ONCE // size)


def _pullbacks(f: Map, y: Tensor, at_once: int) -> Iterator[tuple[int, Tensor, Any]]:
    """For every block of points its start, itself, and cotangents -> (cotangents J,)."""
    for start in range(0, len(y), at_once):
        points = y.detach()[start : start + at_once]
        values, pull = vjp(f, points)[:2]
        if not bool(values.isfinite().all()):
            raise ValueError("f is not finite at some points; y may be far outside of what it was trained on")
        if start == 0:
            _check_derivative(f, points, values, pull)
        yield start, points, pull


def _check_derivative(f: Map, points: Tensor, values: Tensor, pull: Any) -> None:
    """Refuse an f that hides its derivative: what a short step changes, pulled back, is not nothing."""
    signs = torch.randn(points.shape, generator=torch_generator(0)).sign().to(points)
    change = f(points + 1e-4 * points.square().mean().sqrt() * signs) - values
    if bool(change.any()) and not bool(pull(change)[0].any()):
        raise ValueError(
            "f changes with its input, and yet its derivative is 0: it must not use no_grad or detach"
        )


def _rows(f: Map, y: Tensor, chunk: int | None) -> Iterator[tuple[int, Iterator[Tensor]]]:
    """For every block of points its start and, a few at a time, rows of its Jacobians: (rows, points, D)."""
    size = y[0].numel()
    at_once = _chunk(chunk, size)
    for start, points, pull in _pullbacks(f, y, at_once):

        def rows(points: Tensor = points, pull: Any = pull) -> Iterator[Tensor]:
            unit = torch.eye(size, dtype=y.dtype, device=y.device).view(size, 1, *y.shape[1:])
            for some in unit.split(max(1, at_once // len(points))):
                (products,) = vmap(pull)(some.expand(-1, *points.shape))
                yield products.detach().reshape(*products.shape[:2], size)

        yield start, rows()


def _diagonal_sums(rows: Iterator[Tensor]) -> Iterator[Tensor]:
    """Of consecutive rows of Jacobians, the sums of their diagonal entries, in double precision: (points,)."""
    first = 0
    for some in rows:
        at = torch.arange(len(some), device=some.device)
        yield some[at, :, first + at].double().sum(0)
        first += len(some)
