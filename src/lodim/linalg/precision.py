"""Exact-in-float32 linear algebra where the caller's session may have allowed less.

A Hadamard matrix has entries of one sign or the other and a random projection must be the same map on every
device, so neither may be multiplied in TF32 or bfloat16 because autocast, ``torch.set_float32_matmul_precision`` or a
backend flag says that ordinary layers may.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from lodim.validation import check_numbers, check_tensor

__all__ = ["as_tensor", "computable", "full_precision", "power_of_two"]


def as_tensor(values: Any, name: str) -> torch.Tensor:
    """Real numbers of any shape as a tensor, in double precision; one that is a tensor already stays as it is.

    Raises as :func:`~lodim.validation.check_tensor` and :func:`~lodim.validation.check_numbers` do.
    """
    if isinstance(values, torch.Tensor):
        return check_tensor(values, name)
    return torch.from_numpy(check_numbers(values, name).copy())


def power_of_two(value: float, low: float = 1.0, high: float = 1.0) -> float:
    """The one not above a value, so that a division by it is exact; 1 for zero, and for values that need no such unit.

    Parameters
    ----------
    value : float
        The largest size of numbers whose squares or products are to stay in range.
    low, high : float
        Between these they do anyway.
    """
    return math.ldexp(1.0, math.frexp(value)[1] - 1) if value and not low < value < high else 1.0


def computable(x: Any, name: str) -> torch.Tensor:
    """Real numbers as a tensor of a precision that decompositions have: half becomes float32, integers float64.

    Raises
    ------
    ValueError
        Complex numbers, masked ones, or a tensor of the meta device.
    TypeError
        A sparse tensor, or objects that are no numbers.
    """
    if not isinstance(x, torch.Tensor):
        single = str(getattr(x, "dtype", "")).lstrip("<>=") in ("float16", "float32", "f2", "f4")
        x = torch.from_numpy(np.array(check_numbers(x, name, dtype=np.float32 if single else np.float64)))
    check_tensor(x, name)
    half = x.dtype in (torch.float16, torch.bfloat16)
    return x.float() if half else x if x.is_floating_point() else x.double()


def full_precision(device_type: str) -> AbstractContextManager[object]:
    """Return a context in which autocast is off and float32 matrix products are done in full float32.

    Parameters
    ----------
    device_type : str
        ``tensor.device.type`` of what is computed, e.g. ``"cpu"`` or ``"cuda"``.
    """
    reduced = _products_are_rounded(device_type)
    autocast = torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)
    return _switched(device_type, autocast, reduced) if autocast or reduced else nullcontext()


@contextmanager
def _switched(device_type: str, autocast: bool, reduced: bool) -> Iterator[None]:
    with torch.autocast(device_type, enabled=False) if autocast else nullcontext():
        before = _set_products(device_type, "ieee") if reduced else None
        try:
            yield
        finally:
            if before is not None:
                _set_products(device_type, before)


def _backend(device_type: str) -> Any:
    """The object with the device's ``fp32_precision``, which torch has since 2.9; None before."""
    backend: Any = torch.backends.mkldnn if device_type == "cpu" else torch.backends.cuda
    holder = getattr(backend, "matmul", None)
    return holder if hasattr(holder, "fp32_precision") else None


def _products_are_rounded(device_type: str) -> bool:
    if torch.compiler.is_compiling():  # flags are the session's, not the graph's
        return False
    holder = _backend(device_type)
    if holder is None:
        return torch.get_float32_matmul_precision() != "highest"
    return holder.fp32_precision in ("tf32", "bf16")


def _set_products(device_type: str, precision: str) -> str:
    """Set the precision of float32 products and return what it was."""
    holder = _backend(device_type)
    if holder is None:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest" if precision == "ieee" else precision)
        return before
    before, holder.fp32_precision = holder.fp32_precision, precision
    return before
