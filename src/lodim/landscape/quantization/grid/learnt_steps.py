r"""Grids whose steps are trained (LSQ): :class:`LearntStep` for weights, :class:`LearntInputStep` for inputs.

Rounding counts as the identity backward inside the range and as a constant outside, so the step S has
:math:`\partial \hat r / \partial S = \lfloor r/S \rceil - r/S` inside the range and the end of the grid outside. Its
gradient is multiplied by :math:`1/\sqrt{n\, q_{\max}}` (n numbers share S), which puts its relative size near that of
the weights' gradients. It starts at :math:`S = 2\, \overline{|r|} / \sqrt{q_{\max}}`.

=============================  ===========================================
Symbol                         Here
=============================  ===========================================
S                              ``LearntStep.step``, ``LearntInputStep.step``
:math:`1/\sqrt{n\,q_{\max}}`   :func:`step_gradient_factor`
=============================  ===========================================

Departures: steps of weights start from the grid's, as calibration chose them, or from LSQ's, whichever rounds better
(those of inputs from the grid's); the step is the absolute value of the trained number, so that it cannot change sign.

Sources: A. Gholami and others, arXiv 2103.13630, Sections III-G and IV; S. K. Esser and others, Learned step size
quantization, arXiv 1902.08153, equations 3 to 5.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lodim.landscape.quantization.grid.affine import (
    dequantize_affine,
    fake_quantize_blocks,
    from_blocks,
    quantize_affine,
    to_blocks,
)
from lodim.landscape.quantization.grid.fake import ActivationQuantizer, AffineWeight
from lodim.landscape.quantization.spec import QuantSpec
from lodim.landscape.ste import round_ste, scale_gradient
from lodim.validation import check_in_range, checked

__all__ = ["LearntInputStep", "LearntStep", "lsq_start", "step_gradient_factor"]


def step_gradient_factor(n: int, qmax: int) -> float:
    r"""Return LSQ's factor of the gradient of a step that n numbers share, :math:`1/\sqrt{n\, q_{\max}}`."""
    return 1 / math.sqrt(n * check_in_range(qmax, "qmax (the largest code)", low=1, integer=True))


def lsq_start(blocks: Float[Tensor, "n_blocks block"], qmax: int) -> Float[Tensor, " n_blocks"]:
    r"""Return LSQ's first steps, :math:`2\, \overline{|r|} / \sqrt{q_{\max}}` of each block."""
    start = 2 * blocks.abs().mean(1) / math.sqrt(qmax)
    return torch.where(start > 0, start, torch.ones_like(start))


def _clip_and_round(
    x: Float[Tensor, "*shape"], step: Float[Tensor, " n_blocks"], zero_point: Tensor, spec: QuantSpec
) -> Float[Tensor, "*shape"]:
    """Equal to ``fake_quantize``, but clipped before it is rounded, as LSQ's gradients have it.

    A number less than half a step beyond the end of the grid counts as outside.
    """
    blocks = to_blocks(x.to(torch.promote_types(x.dtype, step.dtype)), spec)
    low, high = (end - zero_point[:, None].to(step) for end in (spec.qmin, spec.qmax))
    codes = round_ste((blocks / step[:, None]).clamp(low, high))
    return from_blocks(codes * step[:, None], x.shape, spec).to(x.dtype)


def _first_steps(weight: Tensor, grid: AffineWeight) -> Float[Tensor, " n_blocks"]:
    """The grid's or LSQ's, which assume a symmetric grid: for each block those of the smaller squared error."""
    spec = grid.spec
    if not spec.symmetric:
        return grid.scale.clone()
    blocks, zero = to_blocks(weight.to(grid.scale.dtype), spec), grid.zero_point[:, None]
    own = lsq_start(blocks, spec.qmax)
    errors = [
        (fake_quantize_blocks(blocks, step[:, None], zero, spec) - blocks).square().sum(1)
        for step in (grid.scale, own)
    ]
    return torch.where(errors[1] < errors[0], own, grid.scale)


@checked
class LearntStep(nn.Module):
    """Weights on an affine grid whose ``step`` is trained (LSQ), from the steps of a given grid or LSQ's own."""

    zero_point: Tensor

    def __init__(self, weight: Float[Tensor, " ..."], grid: AffineWeight) -> None:
        super().__init__()
        self.spec, self.seed = grid.spec, grid.seed
        self.register_buffer("zero_point", grid.zero_point.clone())
        self.step = nn.Parameter(_first_steps(weight.detach(), grid))
        self.gradient_factor = step_gradient_factor(weight.numel() // len(self.step), self.spec.qmax)

    @property
    def scale(self) -> Float[Tensor, " n_blocks"]:
        """The present steps, without gradient."""
        return self.step.detach().abs()

    @property
    def code_range(self) -> tuple[int, int]:
        """Smallest and largest code."""
        return self.spec.qmin, self.spec.qmax

    def forward(self, weight: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the rounded weight."""
        step = scale_gradient(self.step.abs(), self.gradient_factor)
        return _clip_and_round(weight, step, self.zero_point, self.spec)

    def codes(self, weight: Float[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """Return the weight's codes, to nearest as the forward rounds."""
        nearest = replace(self.spec, rounding="nearest")
        return quantize_affine(weight, self.scale, self.zero_point, nearest)

    def decode(self, codes: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the weight that codes stand for."""
        return dequantize_affine(codes, self.scale, self.zero_point, self.spec)

    def overhead_bits(self) -> dict[str, int]:
        """Return the bits besides the codes, those of the fixed grid."""
        return self.settled().overhead_bits()

    def settled(self) -> AffineWeight:
        """Return the fixed grid with the present steps."""
        fixed = AffineWeight(self.step.new_zeros(1), QuantSpec(granularity="tensor"), seed=self.seed)
        fixed.spec, fixed.scale, fixed.zero_point = self.spec, self.scale.clone(), self.zero_point.clone()
        return fixed


@checked
class LearntInputStep(nn.Module):
    """A layer's input on an affine grid whose ``step`` is trained (LSQ), from the steps of a given frozen grid."""

    zero_point: Tensor

    def __init__(self, grid: ActivationQuantizer) -> None:
        super().__init__()
        self.spec = grid.spec
        self.step = nn.Parameter(grid.scale.clone())
        self.register_buffer("zero_point", grid.zero_point.clone())

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the input (batch, ...) rounded; a sample's features that share a step give its gradient's factor."""
        features = max(x[0].numel() // len(self.step), 1)
        step = scale_gradient(self.step.abs(), step_gradient_factor(features, self.spec.qmax))
        return _clip_and_round(x, step, self.zero_point, self.spec)

    def settled(self) -> ActivationQuantizer:
        """Return the fixed grid with the present steps."""
        fixed = ActivationQuantizer(self.spec)
        fixed.scale, fixed.zero_point = self.step.detach().abs().clone(), self.zero_point.clone()
        fixed.mode, fixed.observer = "frozen", None
        return fixed
