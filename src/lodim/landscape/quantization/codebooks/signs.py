r"""One and two bits a weight: signs times a scale, and signs with zeros.

.. math:: W \approx a \operatorname{sign}(W), \quad a = \overline{|W|}; \qquad
          W \approx a\, t, \quad t_i = \operatorname{sign}(W_i)\, 1[|W_i| > \Delta], \quad
          \Delta = 0.7\, \overline{|W|}, \quad a = \overline{|W_i|}_{\,|W_i| > \Delta},

each for every output channel. Both a are the least-squares scales of their patterns. What is lost is won back by
training through the rounding: the gradient is passed straight through where :math:`|W| \le 1` and stopped beyond.

================================== ======================================================
symbol                             name here
================================== ======================================================
:math:`a, \operatorname{sign}(W)`  :func:`binary_weights`
:math:`a, t`                       :func:`ternary_weights`
================================== ======================================================

Sources: A. Gholami et al., arXiv 2103.13630, Section IV.C; M. Rastegari et al., arXiv 1603.05279 (binary); F. Li et
al., arXiv 1605.04711 (0.7). Departures: sign(0) = +1, so that a code is one bit; the scale is no part of the backward
pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lodim.landscape.quantization.codebooks.levels import as_rows
from lodim.validation import check_choice, check_in_range

__all__ = ["BinarySpec", "ScaledSignQuantizer", "TernarySpec", "binary_weights", "ternary_weights"]


def binary_weights(
    rows: Float[Tensor, "rows n"],
) -> tuple[Float[Tensor, "rows 1"], Float[Tensor, "rows n"]]:
    """Scale a and signs of each row (+1 for zero), a sign(W) being the nearest such pattern."""
    return rows.abs().mean(dim=1, keepdim=True), torch.where(rows < 0, -1.0, 1.0).to(rows)


def ternary_weights(
    rows: Float[Tensor, "rows n"], threshold: float = 0.7
) -> tuple[Float[Tensor, "rows 1"], Float[Tensor, "rows n"]]:
    """Scale a (0 for a row of zeros) and pattern t of each row; t is 0 up to this share of the row's mean size.

    Notes
    -----
    Source: arXiv 1605.04711, equations 5 and 6; the best share is 2/3 for uniform weights, near 0.75 for Gaussian ones.
    """
    size = rows.abs()
    kept = size > threshold * size.mean(dim=1, keepdim=True)
    a = (size * kept).sum(dim=1, keepdim=True) / kept.sum(dim=1, keepdim=True).clamp_min(1)
    return a, rows.sign() * kept


class ScaledSignQuantizer(nn.Module):
    """Binary or ternary weights whose scales follow the weights while those are trained.

    Parameters
    ----------
    threshold : float or None
        Of the ternary pattern; None is binary.
    granularity : {"tensor", "channel", "group"}

    Attributes
    ----------
    scale : Tensor, shape (rows, 1)
        Buffer: a of the weight last seen.
    """

    scale: Tensor

    def __init__(
        self,
        weight: Float[Tensor, "*shape"],
        threshold: float | None = None,
        granularity: str = "channel",
        group_size: int | None = None,
    ) -> None:
        super().__init__()
        self.threshold, self.granularity, self.group_size = threshold, granularity, group_size
        self.register_buffer("scale", self.pattern(weight)[0])

    @property
    def code_range(self) -> tuple[int, int]:
        """Smallest and largest code: minus and plus, or minus, zero and plus."""
        return (0, 1) if self.threshold is None else (0, 2)

    @torch.no_grad()
    def pattern(
        self, weight: Float[Tensor, "*shape"]
    ) -> tuple[Float[Tensor, "rows 1"], Float[Tensor, "rows n"]]:
        """Return scales and signs of a weight, by rows."""
        rows = as_rows(weight, self.granularity, self.group_size)
        return binary_weights(rows) if self.threshold is None else ternary_weights(rows, self.threshold)

    def codes(self, weight: Float[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """Return 0 and 1 for minus and plus, or 0, 1, 2 for minus, zero, plus; the scales are kept."""
        scale, pattern = self.pattern(weight)
        self.scale.copy_(scale)
        steps = (pattern + 1) / 2 if self.threshold is None else pattern + 1
        return steps.reshape(weight.shape).int()

    def decode(self, codes: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the weights that codes stand for."""
        signs = 2 * codes - 1 if self.threshold is None else codes - 1
        return (self.scale * signs.reshape(len(self.scale), -1)).reshape(codes.shape)

    def forward(self, weight: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Round the weights; the gradient passes where their size is at most 1."""
        scale, pattern = self.pattern(weight)
        self.scale.copy_(scale)
        carrier = weight.clamp(-1, 1)
        return (scale * pattern).reshape(weight.shape) + (carrier - carrier.detach())

    def overhead_bits(self) -> dict[str, int]:
        """Return the bits of the scales."""
        return {"scales": 32 * self.scale.numel()}


@dataclass(frozen=True)
class BinarySpec:
    """Weights a sign(W), one a for each tensor, channel or group."""

    granularity: str = "channel"
    group_size: int | None = None
    bits = 1
    needs_inputs = False

    def __post_init__(self) -> None:
        check_choice(self.granularity, ("tensor", "channel", "group"), "granularity")

    def quantizer(
        self, weight: Float[Tensor, "*shape"], gram: Float[Tensor, "i i"] | None = None
    ) -> ScaledSignQuantizer:
        """Return the quantiser of a weight; inputs do not matter."""
        return ScaledSignQuantizer(weight, None, self.granularity, self.group_size)


@dataclass(frozen=True)
class TernarySpec:
    """Weights -a, 0 or a, one a for each tensor, channel or group; 0 up to ``threshold`` times their mean size."""

    threshold: float = 0.7
    granularity: str = "channel"
    group_size: int | None = None
    bits = 2
    needs_inputs = False

    def __post_init__(self) -> None:
        check_in_range(self.threshold, "threshold", low=0.0)
        check_choice(self.granularity, ("tensor", "channel", "group"), "granularity")

    def quantizer(
        self, weight: Float[Tensor, "*shape"], gram: Float[Tensor, "i i"] | None = None
    ) -> ScaledSignQuantizer:
        """Return the quantiser of a weight; inputs do not matter."""
        return ScaledSignQuantizer(weight, self.threshold, self.granularity, self.group_size)
