r"""Affine grids: scales and zero points from a range, codes from numbers, numbers from codes.

The problem: hold a real number r as a b-bit integer q. With a scale S and an integer zero point Z,

.. math:: q = \mathrm{clamp}(\lfloor r / S \rceil + Z,\; q_{\min},\; q_{\max}), \qquad \hat r = S (q - Z).

For a range :math:`[\alpha, \beta]`, first widened to hold 0, so that zero (padding, a ReLU's output) is exact:

======================  ==============================================  ====================================
grid                    S                                               Z
======================  ==============================================  ====================================
asymmetric              :math:`(\beta - \alpha) / (2^b - 1)`            :math:`\lfloor -\alpha / S \rceil`
symmetric, full         :math:`2 \max(|\alpha|, |\beta|) / (2^b - 1)`   0
symmetric, restricted   :math:`\max(|\alpha|, |\beta|) / (2^{b-1} - 1)` 0
======================  ==============================================  ====================================

A scale that is zero or subnormal (all numbers zero) becomes 1. What shares a scale is a *block*; tensors are seen as a
matrix of blocks (:func:`to_blocks`), the last group of a row filled up with zeros where it is shorter.

======================  =============================================
symbol                  name here
======================  =============================================
S, Z                    ``scale``, ``zero_point``, of shape (n_blocks,)
:math:`\alpha, \beta`   ``low``, ``high``
q                       ``codes``, int32
======================  =============================================

Source: A. Gholami et al., arXiv 2103.13630, Sections 3.2, 3.3 and 3.5. Departure: the sign of Z, see
:mod:`~lodim.landscape.quantization.spec`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lodim.landscape.quantization.spec import QuantSpec
from lodim.landscape.ste import round_ste

__all__ = [
    "block_mask",
    "check_channels",
    "choose_qparams",
    "dequantize_affine",
    "fake_quantize",
    "fake_quantize_blocks",
    "from_blocks",
    "quantize_affine",
    "to_blocks",
]


def n_blocks(shape: torch.Size | tuple[int, ...], spec: QuantSpec) -> int:
    """Return how many scales a tensor of this shape has."""
    if spec.granularity == "tensor":
        return 1
    if spec.granularity == "token":
        return math.prod(shape[:-1])
    if not -len(shape) <= spec.axis < len(shape):
        raise ValueError(f"axis {spec.axis} is out of range for a tensor of shape {tuple(shape)}")
    rows = shape[spec.axis]
    if spec.group_size is None:
        return rows
    return rows * math.ceil(math.prod(shape) // max(rows, 1) / spec.group_size)


def check_channels(shape: torch.Size | tuple[int, ...], spec: QuantSpec, expected: int) -> None:
    """Raise ``ValueError`` if activations of this shape have another number of channels than there are ranges."""
    if spec.granularity == "channel" and n_blocks(shape, spec) != expected:
        raise ValueError(
            f"an input has {n_blocks(shape, spec)} channels along axis {spec.axis} (shape {tuple(shape)}), where "
            f"calibration has seen {expected}; for lengths that vary take granularity='tensor', 'token' with "
            "dynamic=True, or 'channel' with axis=-1 for features"
        )


def to_blocks(x: Tensor, spec: QuantSpec) -> Tensor:
    """Return a tensor as a matrix, one row for each scale: a view where that is possible.

    A ragged last group is filled up with zeros, see :func:`block_mask`.
    """
    count = n_blocks(x.shape, spec)
    if spec.granularity in ("tensor", "token"):
        return x.reshape(count, -1) if x.numel() else x.reshape(count, 0)
    rows = (x if spec.axis == 0 else x.movedim(spec.axis, 0)).reshape(x.shape[spec.axis], -1)
    if spec.group_size is None:
        return rows
    missing = -rows.shape[1] % spec.group_size
    if missing:
        rows = torch.nn.functional.pad(rows, (0, missing))
    return rows.reshape(count, spec.group_size)


def from_blocks(blocks: Tensor, shape: torch.Size | tuple[int, ...], spec: QuantSpec) -> Tensor:
    """Undo :func:`to_blocks` for a tensor of this shape."""
    if spec.granularity in ("tensor", "token"):
        return blocks.reshape(shape)
    rows, rest = shape[spec.axis], [n for i, n in enumerate(shape) if i != spec.axis % len(shape)]
    flat = blocks.reshape(rows, -1)[:, : math.prod(rest)]
    moved = flat.reshape(rows, *rest)
    return moved if spec.axis == 0 else moved.movedim(0, spec.axis)


def block_mask(shape: torch.Size | tuple[int, ...], spec: QuantSpec) -> Bool[Tensor, "n_blocks block"] | None:
    """Return which entries of :func:`to_blocks` are the tensor's own, None if all are."""
    if spec.group_size is None:
        return None
    rows = shape[spec.axis]
    width = math.prod(shape) // max(rows, 1)
    if width % spec.group_size == 0:
        return None
    groups = math.ceil(width / spec.group_size)
    own = torch.arange(groups * spec.group_size) < width
    return own.reshape(1, groups, spec.group_size).expand(rows, -1, -1).reshape(-1, spec.group_size)


def choose_qparams(
    low: Float[Tensor, "*blocks"], high: Float[Tensor, "*blocks"], spec: QuantSpec
) -> tuple[Float[Tensor, "*blocks"], Int[Tensor, "*blocks"]]:
    """Return scales and zero points for ranges, one a block, widened to hold zero.

    Returns
    -------
    scale : Tensor
        At least single precision.
    zero_point : Tensor
        int32; zero on a symmetric grid.

    Raises
    ------
    ValueError
        A range that is not finite, or a grid with a single point.

    Notes
    -----
    arXiv 2103.13630, equations 3 and 4.
    """
    spec.check_grid()
    dtype = torch.promote_types(low.dtype, torch.float32)
    if not bool((low.isfinite() & high.isfinite()).all()):
        raise ValueError("the range of a quantiser must be finite; the data hold NaN or infinity")
    low, high = low.to(dtype).clamp(max=0), high.to(dtype).clamp(min=0)
    if not spec.symmetric:
        width = high.double() - low.double()  # which may be beyond single precision
        scale = _usable((width / (spec.qmax - spec.qmin)).to(dtype))
        return scale, (spec.qmin - low / scale).round().clamp(spec.qmin, spec.qmax).int()
    largest = torch.maximum(-low, high)
    steps = spec.qmax if spec.range == "restricted" else (spec.qmax - spec.qmin) / 2
    return _usable(largest / steps), torch.zeros_like(low, dtype=torch.int32)


def _usable(scale: Tensor) -> Tensor:
    return torch.where(scale < torch.finfo(scale.dtype).tiny, torch.ones_like(scale), scale)


def quantize_affine(
    x: Float[Tensor, "*shape"],
    scale: Float[Tensor, " n_blocks"],
    zero_point: Int[Tensor, " n_blocks"],
    spec: QuantSpec,
    *,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "*shape"]:
    """Return the codes of a tensor, int32; the generator is that of stochastic rounding, and NaN a ValueError."""
    with torch.no_grad():
        if bool(x.isnan().any()):
            raise ValueError("NaN has no code; look for where the numbers to be quantised come from")
        blocks = to_blocks(_computing(x, scale), spec)
        codes = _codes(blocks, scale[:, None], zero_point[:, None], spec, generator)
    return from_blocks(codes.int(), x.shape, spec)


def dequantize_affine(
    codes: Int[Tensor, "*shape"],
    scale: Float[Tensor, " n_blocks"],
    zero_point: Int[Tensor, " n_blocks"],
    spec: QuantSpec,
) -> Float[Tensor, "*shape"]:
    """Return the numbers that codes stand for, in the precision of the scale."""
    blocks = (to_blocks(codes, spec) - zero_point[:, None]) * scale[:, None]
    return from_blocks(blocks, codes.shape, spec)


def fake_quantize(
    x: Float[Tensor, "*shape"],
    scale: Float[Tensor, " n_blocks"],
    zero_point: Int[Tensor, " n_blocks"],
    spec: QuantSpec,
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*shape"]:
    r"""Return :math:`\hat r` in one step; the gradient passes straight through inside the range, and is zero outside.

    Parameters
    ----------
    scale : Tensor, shape (n_blocks,)
        One that requires a gradient gets that of the rounding's straight-through derivative:
        :math:`\lfloor r/S \rceil - r/S` inside, the end of the grid outside.
    generator : torch.Generator, optional
        Of stochastic rounding.
    """
    blocks = to_blocks(_computing(x, scale), spec)
    rounded = fake_quantize_blocks(blocks, scale[:, None], zero_point[:, None], spec, generator=generator)
    return from_blocks(rounded, x.shape, spec).to(x.dtype)


def fake_quantize_blocks(
    blocks: Float[Tensor, "n_blocks block"],
    scale: Tensor,
    zero_point: Tensor,
    spec: QuantSpec,
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "n_blocks block"]:
    """Fake-quantise what is already in blocks, with scales and zero points of shape (n_blocks, 1)."""
    if spec.rounding == "nearest" and not scale.requires_grad:
        return _FakeQuantize.apply(blocks, scale, zero_point, spec)[0]
    codes = _codes(blocks, scale, zero_point, spec, generator)
    return (codes if spec.symmetric else codes - zero_point) * scale


class _FakeQuantize(torch.autograd.Function):
    """The same with a fixed scale, in fewer passes over memory."""

    generate_vmap_rule = True

    @staticmethod
    def forward(blocks: Tensor, scale: Tensor, zero_point: Tensor, spec: QuantSpec) -> tuple[Tensor, Tensor]:
        steps = (blocks / scale).round_()
        if spec.symmetric:
            return steps.clamp(spec.qmin, spec.qmax).mul_(scale), steps
        steps.add_(zero_point)
        return steps.clamp(spec.qmin, spec.qmax).sub_(zero_point).mul_(scale), steps

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])
        ctx.spec = inputs[3]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (steps,) = ctx.saved_tensors
        passed = torch.ops.aten.hardtanh_backward(grads[0], steps, ctx.spec.qmin - 0.5, ctx.spec.qmax + 0.5)
        return passed, None, None, None


def _codes(
    blocks: Tensor, scale: Tensor, zero_point: Tensor, spec: QuantSpec, generator: torch.Generator | None
) -> Tensor:
    steps = blocks / scale
    if spec.rounding == "stochastic":
        source = steps.device if generator is None else generator.device
        noise = torch.rand(steps.shape, generator=generator, dtype=steps.dtype, device=source)
        # rounding that to nearest goes up with a chance equal to the fraction
        steps = steps + (noise.to(steps.device) - 0.5)
    rounded = round_ste(steps)
    return (rounded if spec.symmetric else rounded + zero_point).clamp(spec.qmin, spec.qmax)


def _computing(x: Tensor, scale: Tensor) -> Tensor:
    """The tensor in the precision of the scale, if that is higher: codes are never computed in half precision."""
    return x.to(torch.promote_types(x.dtype, scale.dtype))
