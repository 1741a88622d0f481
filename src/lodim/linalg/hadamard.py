r"""The fast Walsh-Hadamard transform for tensors and arrays.

**Problem.** Multiply by the Hadamard matrix :math:`H_n` (entries :math:`\pm 1`, symmetric, :math:`H_n H_n = n I`)
without forming it:

.. math:: H_1 = 1, \qquad H_{2n} = \begin{pmatrix} H_n & H_n \\ H_n & -H_n \end{pmatrix}
          = H_2 \otimes H_n, \qquad H_{rm} = H_r \otimes H_m .

The textbook butterfly uses :math:`\log_2 n` passes of radix 2, each bound by memory traffic. Because :math:`H_{rm}` is
a Kronecker product, a pass may as well multiply one axis of length :math:`r` of the reshaped vector by a small dense
:math:`H_r`: few passes, each a matrix product, which is what the hardware does best.

========================  ==============================================
Symbol                    Here
========================  ==============================================
:math:`H_n x`             ``fwht(x)``
:math:`n^{-1/2} H_n x`    ``fwht(x, normalize=True)`` (an isometry)
:math:`H_r`               ``_small_hadamard(k)``, ``r = 2**k``
========================  ==============================================

The rows are in natural (Hadamard) order, that of ``scipy.linalg.hadamard``. The transform is its own adjoint, so its
gradient is the same routine and nothing is kept for it.

References
----------
B. J. Fino and V. R. Algazi, Unified matrix treatment of the fast Walsh-Hadamard transform, IEEE Transactions on
Computers C-25 (1976).
"""

from __future__ import annotations

import inspect
import math
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from lodim.linalg.precision import full_precision
from lodim.validation import check_in_range, check_unmasked

__all__ = ["fwht"]

Array = TypeVar("Array", Tensor, np.ndarray)

# log2 of the largest dense factor: 32 is fastest on CPUs (registers, cache lines); GPUs prefer fewer, larger passes
LOG_RADIX_CPU, LOG_RADIX_GPU = 5, 7


def fwht(x: Array, dim: int = -1, normalize: bool = False) -> Array:
    r"""Multiply by the Hadamard matrix along one axis in :math:`O(n \log n)`.

    Parameters
    ----------
    x : Tensor or ndarray, shape (..., n, ...)
        Real or complex, ``n`` a power of two. Half precision is computed in float32 and rounded back (values grow by
        up to ``n``; float16 overflows above 65504). Integers and booleans become float64, exact below ``2**53``.
    dim : int
        The axis.
    normalize : bool
        Divide by ``sqrt(n)``, which makes the transform orthogonal and its own inverse.

    Returns
    -------
    Tensor or ndarray
        Same shape, kind and device as ``x``. Tensors are differentiable any number of times and work under
        ``torch.func`` transforms.

    Raises
    ------
    ValueError
        ``n`` is not a power of two, or ``x`` has no axes.
    TypeError
        ``x`` is neither a dense tensor nor an array.

    Examples
    --------
    >>> import numpy as np
    >>> fwht(np.array([1.0, 0.0, 0.0, 0.0]))
    array([1., 1., 1., 1.])
    """
    if not isinstance(x, Tensor | np.ndarray):
        raise TypeError(f"x must be a torch tensor or a NumPy array, got {type(x).__name__}")
    check_unmasked(x, "x")
    if x.ndim == 0:
        raise ValueError("x must have at least one axis to transform, got a scalar")
    check_in_range(dim, "dim", low=-x.ndim, high=x.ndim - 1, integer=True)
    if isinstance(x, np.ndarray):
        return _fwht_of_array(x, dim, normalize)
    if x.layout is not torch.strided:
        raise TypeError("x is sparse, and sparse input is not supported; use x.to_dense()")
    n = x.shape[dim]
    if n < 1 or n & (n - 1):
        raise ValueError(
            f"the Walsh-Hadamard transform needs a power of two along dim {dim}, got {n}; "
            f"pad with zeros to {1 << max(n - 1, 0).bit_length()}"
        )
    if x.is_complex():
        return torch.complex(fwht(x.real, dim, normalize), fwht(x.imag, dim, normalize))
    if not x.is_floating_point():
        x = x.double()
    y = _transform(x.movedim(dim, -1)).movedim(-1, dim)
    return y / math.sqrt(n) if normalize else y


def _fwht_of_array(x: np.ndarray, dim: int, normalize: bool) -> np.ndarray:
    if x.dtype.kind not in "biufc":
        raise TypeError(f"x must hold numbers, got an array of dtype {x.dtype}")
    char = "d" if x.dtype.kind in "biu" else {"g": "d", "G": "D"}.get(x.dtype.char, x.dtype.char)
    x = np.ascontiguousarray(x, dtype=char)  # native, and of a precision that torch has
    x = x if x.flags.writeable else x.copy()  # torch shares no read-only memory
    return fwht(torch.from_numpy(x), dim, normalize).numpy()


def _transform(x: Tensor) -> Tensor:
    return (_Hadamard if torch.compiler.is_compiling() else _HadamardForwardMode).apply(x)


class _Hadamard(torch.autograd.Function):
    """``x -> H x`` along the last axis; symmetric, hence its own derivative. Nothing is kept for it."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return hadamard_product(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing: the map is linear and constant."""
        return

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _transform(grads[0])

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor) -> tuple[Tensor, int]:
        return _transform(x.movedim(in_dims[0], 0)), 0


# `apply` binds its arguments by signature at every call; a stored one spares it the inspection
_Hadamard.forward.__signature__ = inspect.signature(_Hadamard.forward)  # type: ignore[attr-defined]


class _HadamardForwardMode(_Hadamard):
    """The same with forward-mode derivatives, which ``torch.compile`` does not trace in custom functions."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return _transform(tangents[0])


def hadamard_product(x: Tensor) -> Tensor:
    """Transform the last axis, outside autograd: one small dense product for every group of axis bits.

    Parameters
    ----------
    x : Tensor, shape (..., n)
        Floating point; ``n`` a power of two.
    """
    work = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    log_n = x.shape[-1].bit_length() - 1
    spare = None  # the pass before last, written over: fresh memory costs more than the arithmetic
    inner = 1
    with full_precision(x.device.type):
        for k in _factors(log_n, LOG_RADIX_CPU if x.device.type == "cpu" else LOG_RADIX_GPU):
            r = 1 << k
            blocks = work.reshape(x.numel() // (r * inner), r, inner)
            product = _multiply(_small_hadamard(k, work.dtype, work.device), blocks, spare)
            spare = work if inner > 1 and not torch.compiler.is_compiling() else None
            work = product
            inner *= r
    result = work.reshape(x.shape).to(x.dtype)
    return result.clone() if log_n == 0 else result


def _multiply(h: Tensor, blocks: Tensor, out: Tensor | None) -> Tensor:
    """``h`` times each of the blocks of shape ``(r, inner)``, into the memory of ``out`` if there is any."""
    count, r, inner = blocks.shape
    if inner == 1:
        return (blocks.view(count, r) @ h).unsqueeze(-1)
    return torch.bmm(h.expand(count, r, r), blocks, out=None if out is None else out.view(blocks.shape))


def _factors(log_n: int, largest: int) -> list[int]:
    """Split the bits of the axis as evenly as possible into groups of at most ``largest``."""
    passes = -(-log_n // largest)
    return [log_n // passes + (i < log_n % passes) for i in range(passes)]


@lru_cache(maxsize=64)
def _small_hadamard(k: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    index = torch.arange(1 << k, device="cpu")
    common = index[:, None] & index[None, :]
    parity = sum((common >> bit) & 1 for bit in range(k)) if k else common
    return (1 - 2 * (torch.as_tensor(parity) % 2)).to(device, dtype)
