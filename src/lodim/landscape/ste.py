r"""Straight-through primitives: operations without a useful derivative, with one given to them.

==========================  =============================  ==========================================================
Function                    Forward                        Gradient passed on
==========================  =============================  ==========================================================
:func:`round_ste`           nearest integer, ties to even  :math:`g`
:func:`clamp_ste`           :math:`\min(\max(x, a), b)`    to x where :math:`a \le x \le b`; to a below, to b above
:func:`mask_ste`            :math:`x \cdot m`              :math:`g`, masked entries too
:func:`scale_gradient`      :math:`x`                      :math:`c g`
==========================  =============================  ==========================================================

Source: Y. Bengio, N. Léonard, A. Courville, Estimating or propagating gradients through stochastic neurons,
arXiv 1308.3432.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from lodim.validation import check_in_range, check_tensor

__all__ = ["clamp_ste", "mask_ste", "round_ste", "scale_gradient"]


class _Round(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0]


class _Mask(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, mask: Tensor) -> Tensor:
        return x * mask

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0], None


class _ScaleGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, factor: float) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * ctx.factor, None


def round_ste(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Round to the nearest integer (ties to even); the gradient passes as if nothing had been done."""
    if check_tensor(x, "x", numbers=False).dtype is torch.bool:
        raise TypeError("x must hold numbers, got torch.bool")
    return _Round.apply(x)


def clamp_ste(
    x: Float[Tensor, "*shape"], low: Tensor | float | int, high: Tensor | float | int
) -> Float[Tensor, "*out"]:
    """Clamp into a range whose ends may be trained: an entry's gradient goes to x inside, outside to the end it met."""
    check_tensor(x, "x", numbers=False)
    most = torch.finfo(x.dtype).max if x.is_floating_point() else math.inf
    for name, end, least, largest in (("low", low, None, most), ("high", high, -most, None)):
        if isinstance(end, Tensor):
            check_tensor(end, name, numbers=not x.is_meta)
        else:
            check_in_range(end, name, low=least, high=largest)
    low, high = (torch.as_tensor(end, dtype=x.dtype, device=x.device) for end in (low, high))
    return torch.where(x < low, low, torch.where(x > high, high, x))


def mask_ste(x: Float[Tensor, "*shape"], mask: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Multiply with a fixed mask, or shares between 0 and 1; the gradient passes to masked entries too."""
    return _Mask.apply(x, mask)


def scale_gradient(x: Float[Tensor, "*shape"], factor: float) -> Float[Tensor, "*shape"]:
    """Leave numbers as they are and multiply their gradient."""
    return _ScaleGradient.apply(x, factor)
