r"""The interface of every random linear map, and its derivative.

**Problem.** A random matrix :math:`P \in \mathbb{R}^{D \times d}` carries few numbers to many
(:math:`\theta = \theta_0 + P v`, training inside a subspace) and many to few (:math:`P^\top g`, sketching a gradient).
:math:`P` is never formed: a kind of projection is a rule for both products, fixed by a seed.

=============================  ============================================================
Symbol                         Here
=============================  ============================================================
:math:`P v`                    ``projection(v)``, i.e. ``forward``
:math:`P^\top g`               ``projection.adjoint(g)``
:math:`D, d`                   ``projection.D``, ``projection.d``
:math:`\sqrt{D/d}`             ``projection.factor`` under ``scale="row"``/``"isotropic"``
=============================  ============================================================

**Scales.** ``"column"``: columns of :math:`P` have unit length (exactly or in expectation, each kind says which), so
:math:`\|Pv\| \approx \|v\|`. ``"row"``: that times :math:`\sqrt{D/d}`, so each produced number has variance
:math:`\|v\|^2/d`; the same factor makes :math:`\mathbb{E}\,P P^\top = I`, hence its second name ``"isotropic"``.

Both products are linear, so the derivative of one is the other: :class:`_LinearMap` says so to autograd once for all
kinds, keeps no activations, and makes second derivatives, forward mode and ``vmap`` work.

References
----------
C. Li, H. Farkhoor, R. Liu, J. Yosinski, Measuring the intrinsic dimension of objective landscapes, arXiv 1804.08838.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.linalg.precision import full_precision
from lodim.randomness import derive_seed, torch_generator
from lodim.validation import check_choice, check_in_range, check_tensor, checked

__all__ = ["SCALES", "Integer", "RandomProjection"]

Integer = int | np.integer
SCALES = ("column", "row", "isotropic")
MAX_MATRIX_NUMBERS = 50_000_000


@checked
class RandomProjection(nn.Module):
    """A fixed random linear map from d to D numbers, determined by its seed on every device.

    Parameters
    ----------
    D, d : int
        Numbers produced and numbers given, ``1 <= d <= D``.
    seed : int
        Determines the map together with its kind, ``D``, ``d`` and the round of :meth:`reseed`. The draws are made
        on the CPU and moved, so every device has the same map.
    scale : {"column", "row", "isotropic"}
        Length of the columns, see the module's text.
    dtype : torch.dtype
        float32 or float64, in which both products are computed whatever the dtype of their argument; it survives
        ``module.half()`` and the like, which would otherwise change the map.
    device : torch.device, optional
        Where the drawn numbers are kept.

    Attributes
    ----------
    kind : str
        The name under which :func:`make_projection` makes it.
    n_stored : int
        Numbers kept in memory, indices and signs included.
    round : int
        The counter of :meth:`reseed`, 0 at first.

    Raises
    ------
    ValueError
        ``d < 1``, ``d > D``, an unknown scale or another dtype.
    """

    kind: ClassVar[str] = ""

    def __init__(
        self,
        D: Integer,
        d: Integer,
        *,
        seed: Integer = 0,
        scale: str = "column",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.D, self.d = _check_sizes(D, d)
        self.seed = int(seed)
        self.scale = check_choice(scale, SCALES, "scale")
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"dtype must be torch.float32 or torch.float64, which products are computed in, got {dtype}; "
                "tensors of any floating dtype can be projected"
            )
        self.dtype = dtype
        self.factor = 1.0 if scale == "column" else math.sqrt(self.D / self.d)
        self.round = 0
        self._store(device)

    def forward(self, v: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch D"]:
        """Return ``P v`` for a vector or a batch, shape (..., d), of any floating dtype, which the result has too."""
        return self._apply_map(v, False)

    def adjoint(self, g: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch d"]:
        """Return ``P^T g`` for a vector or a batch, shape (..., D), of any floating dtype, which the result has too."""
        return self._apply_map(g, True)

    def matrix(self) -> Float[Tensor, "D d"]:
        """Return P itself, for tests and small problems; ValueError where it has more than 5e7 entries."""
        if self.D * self.d > MAX_MATRIX_NUMBERS:
            raise ValueError(
                f"the matrix of D={self.D} by d={self.d} has {self.D * self.d:.3g} entries, more than "
                f"{MAX_MATRIX_NUMBERS:.0e}; use forward(v) and adjoint(g), which never form it"
            )
        with torch.no_grad():
            return self(torch.eye(self.d, dtype=self.dtype, device=self.device)).T.contiguous()

    def reseed(self, round: Integer) -> RandomProjection:
        """Draw a fresh, independent map for this round (e.g. of communication); ``reseed(0)`` restores the first."""
        self.round = int(check_in_range(round, "round", low=0, integer=True))
        self._store(self.device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the drawn numbers are."""
        return next(self.buffers()).device

    @property
    def n_stored(self) -> int:
        """Numbers kept in memory."""
        return sum(buffer.numel() for buffer in self.buffers())

    def fingerprint(self) -> str:
        """Return a hash of the drawn numbers: equal fingerprints of one kind, D, d and scale mean equal maps.

        Stored beside a seed, it tells whether another machine or another version of torch regenerated the same map.
        """
        digest = hashlib.blake2b(digest_size=8)
        for buffer in self.buffers():
            digest.update(buffer.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def extra_repr(self) -> str:
        """Sizes, seed and scale, for ``print(module)``."""
        return f"D={self.D}, d={self.d}, seed={self.seed}, scale={self.scale!r}"

    def _draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        """The random numbers of the map, on the CPU."""
        raise NotImplementedError

    def _forward(self, v: Tensor) -> Tensor:
        """``P v`` with unit columns, in ``self.dtype``, any leading axes."""
        raise NotImplementedError

    def _adjoint(self, g: Tensor) -> Tensor:
        """``P^T g`` with unit columns, in ``self.dtype``, any leading axes."""
        raise NotImplementedError

    def _store(self, device: torch.device | str | None) -> None:
        seed = derive_seed(self.seed, "projection", self.kind, self.D, self.d, self.round)
        for name, numbers in self._draw(torch_generator(seed)).items():
            self.register_buffer(name, numbers.to(device or "cpu"), persistent=False)

    def _apply_map(self, x: Any, transpose: bool) -> Tensor:
        length, name = (self.D, "D") if transpose else (self.d, "d")
        argument = "g" if transpose else "v"
        if not check_tensor(x, argument, numbers=self.device.type != "meta").is_floating_point():
            raise TypeError(
                f"{argument} must hold real floating-point numbers, got {x.dtype}; convert it first"
            )
        if x.ndim == 0 or x.shape[-1] != length:
            raise ValueError(f"{argument} must have shape (..., {name}={length}), got {tuple(x.shape)}")
        function = _LinearMap if torch.compiler.is_compiling() else _LinearMapForwardMode
        return function.apply(x, self, transpose)

    def _product(self, x: Tensor, transpose: bool) -> Tensor:
        """Either product, scaled, in ``self.dtype`` with full float32 inside, rounded to the dtype of ``x``."""
        work = x.to(self.dtype)
        if not transpose and self.factor != 1:  # the d numbers are scaled, never the D
            work = work * self.factor
        with full_precision(x.device.type):
            result = self._adjoint(work) if transpose else self._forward(work)
        if transpose and self.factor != 1:
            result = result * self.factor
        return result.to(x.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RandomProjection:
        """Follow moves between devices but no change of dtype, which would change the map."""
        for name, buffer in self._buffers.items():
            if buffer is not None:
                probe = fn(torch.empty(0, dtype=torch.float32, device=buffer.device))
                self._buffers[name] = buffer.to(probe.device)
        for child in self.children():
            child._apply(fn)
        return self


class _LinearMap(torch.autograd.Function):
    """``x -> P x`` or ``x -> P^T x``; the derivative of each is the other, and no activation is kept."""

    @staticmethod
    def forward(x: Tensor, projection: RandomProjection, transpose: bool) -> Tensor:
        return projection._product(x, transpose)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.projection, ctx.transpose = inputs
        ctx.round = ctx.projection.round

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        if ctx.projection.round != ctx.round:
            raise RuntimeError(
                "the projection was reseeded between forward and backward; call backward first"
            )
        return ctx.projection._apply_map(grads[0], not ctx.transpose), None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, projection: Any, transpose: bool) -> tuple[Tensor, int]:
        return projection._apply_map(x.movedim(in_dims[0], 0), transpose), 0


# `apply` binds its arguments by signature at every call; a stored one spares it the inspection
_LinearMap.forward.__signature__ = inspect.signature(_LinearMap.forward)  # type: ignore[attr-defined]


class _LinearMapForwardMode(_LinearMap):
    """The same with forward-mode derivatives, which ``torch.compile`` does not trace in custom functions."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return ctx.projection._apply_map(tangents[0], ctx.transpose)


def index_dtype(n: int) -> torch.dtype:
    """Return the smallest index type torch gathers with that reaches ``n``; int32 halves the memory traffic."""
    return torch.int32 if n < 2**31 else torch.int64


def random_signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw independent signs as int8, from a generator on the CPU."""
    return torch.randint(0, 2, shape, generator=generator, dtype=torch.int8).mul_(2).sub_(1)


def zero_pad(x: Tensor, length: int) -> Tensor:
    """Append zeros along the last axis up to ``length``."""
    missing = length - x.shape[-1]
    return nn.functional.pad(x, (0, missing)) if missing else x


def _check_sizes(D: Any, d: Any) -> tuple[int, int]:
    check_in_range(D, "D", integer=True)
    check_in_range(d, "d", integer=True)
    if not 1 <= d <= D:
        raise ValueError(f"a projection needs 1 <= d <= D, got d={d} and D={D}")
    return int(D), int(d)
