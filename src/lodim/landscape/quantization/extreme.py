r"""One and two bits a weight: binary and ternary weights, and layers whose inputs are signs as well.

The problem: with weights :math:`\pm a` a product is a change of sign, and with inputs :math:`\pm 1` too a whole word of
products is one XNOR and one count of set bits. What is lost is won back by training through the rounding.

.. math:: W \approx a \operatorname{sign}(W), \quad a = \overline{|W|}; \qquad
          W \approx a\, t, \quad t_i = \operatorname{sign}(W_i)\, 1[|W_i| > \Delta], \quad
          \Delta = 0.7\, \overline{|W|}, \quad a = \overline{|W_i|}_{\,|W_i| > \Delta},

each for every output channel. Both a are the least-squares scales of their patterns. The gradient is passed straight
through where :math:`|W| \le 1` and stopped beyond. With binary inputs,

.. math:: W * x \approx (\operatorname{sign}(W) \circledast \operatorname{sign}(x)) \cdot K a, \qquad
          K = \overline{|x|}_{\text{channels}} * k,

with k the mean over the kernel's window, so K is the mean size of the inputs each output sees. A dot product of n signs
is :math:`2\,\mathrm{popcount}(\mathrm{xnor}) - n`: n/64 word operations instead of n products.

================================== ======================================================
symbol                             name here
================================== ======================================================
:math:`a, \operatorname{sign}(W)`  :func:`binary_weights`
:math:`a, t`                       :func:`ternary_weights`
K                                  ``XNORLinear.input_scale``, ``XNORConv2d.input_scale``
speedup of a layer                 :func:`xnor_speedup`
================================== ======================================================

Sources: A. Gholami et al., arXiv 2103.13630, Section IV.C; M. Rastegari et al., arXiv 1603.05279 (XNOR, K, the cost
model); F. Li et al., arXiv 1605.04711 (0.7). Departures: sign(0) = +1, so that a code is one bit; the scale is no part
of the backward pass; zeros padded round an image stay zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lodim.landscape.quantization.levels import as_rows
from lodim.validation import check_choice, check_in_range

__all__ = [
    "BinarySpec",
    "ScaledSignQuantizer",
    "TernarySpec",
    "XNORConv2d",
    "XNORLinear",
    "binary_weights",
    "sign_ste",
    "ternary_weights",
    "xnor_layer",
    "xnor_matmul",
    "xnor_speedup",
]


def binary_weights(
    rows: Float[Tensor, "rows n"],
) -> tuple[Float[Tensor, "rows 1"], Float[Tensor, "rows n"]]:
    """Scale a and signs of each row, a sign(W) being the nearest such pattern.

    Returns
    -------
    a : Tensor, shape (rows, 1)
    signs : Tensor, shape (rows, n)
        -1 or +1; +1 for zero.
    """
    return rows.abs().mean(dim=1, keepdim=True), _sign(rows)


def ternary_weights(
    rows: Float[Tensor, "rows n"], threshold: float = 0.7
) -> tuple[Float[Tensor, "rows 1"], Float[Tensor, "rows n"]]:
    """Scale a and pattern t of each row.

    Parameters
    ----------
    threshold : float
        Weights up to this share of the row's mean size become 0.

    Returns
    -------
    a : Tensor, shape (rows, 1)
        0 for a row of zeros.
    pattern : Tensor, shape (rows, n)
        -1, 0 or +1.

    Notes
    -----
    Source: arXiv 1605.04711, equations 5 and 6; 0.7 is the best share for uniform weights near 2/3 and Gaussian ones
    near 0.75.
    """
    size = rows.abs()
    kept = size > threshold * size.mean(dim=1, keepdim=True)
    a = (size * kept).sum(dim=1, keepdim=True) / kept.sum(dim=1, keepdim=True).clamp_min(1)
    return a, rows.sign() * kept


def sign_ste(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Sign, +1 for zero; the gradient passes where the size is at most 1."""
    return _pass_through(_sign(x.detach()), x)


def _sign(x: Tensor) -> Tensor:
    return torch.where(x < 0, -1.0, 1.0).to(x)


def _pass_through(value: Tensor, x: Tensor) -> Tensor:
    carrier = x.clamp(-1, 1)
    return value + (carrier - carrier.detach())


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
        return _pass_through((scale * pattern).reshape(weight.shape), weight)

    def overhead_bits(self) -> dict[str, int]:
        """Return the bits of the scales."""
        return {"scales": 32 * self.scale.numel()}


@dataclass(frozen=True)
class BinarySpec:
    """Weights a sign(W).

    Attributes
    ----------
    granularity : {"tensor", "channel", "group"}
    """

    granularity: str = "channel"
    group_size: int | None = None
    needs_inputs = False

    def __post_init__(self) -> None:
        check_choice(self.granularity, ("tensor", "channel", "group"), "granularity")

    @property
    def bits(self) -> int:
        """Bits of one code."""
        return 1

    def quantizer(
        self, weight: Float[Tensor, "*shape"], gram: Float[Tensor, "i i"] | None = None
    ) -> ScaledSignQuantizer:
        """Return the quantiser of a weight.

        Parameters
        ----------
        gram : Tensor, optional
            Not used.
        """
        return ScaledSignQuantizer(weight, None, self.granularity, self.group_size)


@dataclass(frozen=True)
class TernarySpec:
    """Weights -a, 0 or a.

    Attributes
    ----------
    threshold : float
        Weights up to this share of the mean size become 0.
    granularity : {"tensor", "channel", "group"}
    """

    threshold: float = 0.7
    granularity: str = "channel"
    group_size: int | None = None
    needs_inputs = False

    def __post_init__(self) -> None:
        check_in_range(self.threshold, "threshold", low=0.0)
        check_choice(self.granularity, ("tensor", "channel", "group"), "granularity")

    @property
    def bits(self) -> int:
        """Bits of one code."""
        return 2

    def quantizer(
        self, weight: Float[Tensor, "*shape"], gram: Float[Tensor, "i i"] | None = None
    ) -> ScaledSignQuantizer:
        """Return the quantiser of a weight.

        Parameters
        ----------
        gram : Tensor, optional
            Not used.
        """
        return ScaledSignQuantizer(weight, self.threshold, self.granularity, self.group_size)


class XNORLinear(nn.Module):
    """A linear layer on signs: binary weights, binary inputs, and their two scales.

    Parameters
    ----------
    layer : nn.Linear
        Its weight and bias are taken over, and trained through the signs.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def input_scale(self, x: Float[Tensor, "*batch i"]) -> Float[Tensor, "*batch 1"]:
        """K: the mean size of each sample's inputs."""
        return x.abs().mean(dim=-1, keepdim=True)

    def forward(self, x: Float[Tensor, "*batch i"]) -> Float[Tensor, "*batch o"]:
        """Apply the layer."""
        a, _ = binary_weights(self.weight.detach())
        out = F.linear(sign_ste(x), sign_ste(self.weight)) * self.input_scale(x) * a[:, 0]
        return out if self.bias is None else out + self.bias


class XNORConv2d(nn.Module):
    """A two-dimensional convolution on signs.

    Parameters
    ----------
    layer : nn.Conv2d
        Without groups, padded with zeros.

    Raises
    ------
    ValueError
        Groups, or another padding.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        if layer.groups != 1 or layer.padding_mode != "zeros":
            raise ValueError(f"expected a convolution with one group, padded with zeros; got {layer}")
        self.weight, self.bias = layer.weight, layer.bias
        self.geometry: dict[str, Any] = {
            "stride": layer.stride,
            "padding": layer.padding,
            "dilation": layer.dilation,
        }

    def input_scale(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch 1 h_out w_out"]:
        """K: the mean size of the inputs each output sees, padding counted as zeros."""
        window = torch.ones_like(self.weight[:1, :1]) / self.weight[0, 0].numel()
        return F.conv2d(x.abs().mean(dim=1, keepdim=True), window, **self.geometry)

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch o h_out w_out"]:
        """Apply the layer."""
        a, _ = binary_weights(self.weight.detach().flatten(1))
        signs = F.conv2d(sign_ste(x), sign_ste(self.weight), **self.geometry)
        out = signs * self.input_scale(x) * a[:, :, None]
        return out if self.bias is None else out + self.bias[:, None, None]


def xnor_layer(name: str, layer: nn.Module) -> nn.Module:
    """Return the layer on signs, as a factory for :func:`lodim.nets.replace_layers`.

    Parameters
    ----------
    name : str
        For the message.
    layer : nn.Linear or nn.Conv2d

    Raises
    ------
    TypeError
        Another kind of layer.
    """
    if isinstance(layer, nn.Linear):
        return XNORLinear(layer)
    if isinstance(layer, nn.Conv2d):
        return XNORConv2d(layer)
    raise TypeError(f"expected nn.Linear or nn.Conv2d at {name!r}, got {type(layer).__name__}")


def xnor_matmul(x: Float[Tensor, "n i"], w: Float[Tensor, "o i"]) -> Int[Tensor, "n o"]:
    """Products of the signs by XNOR and counting bits: 2 popcount(xnor(x, w)) - i.

    Parameters
    ----------
    w : Tensor, shape (o, i)
        Signs are taken of both; that of zero is +1.
    """
    packed = [np.packbits((side.detach().cpu().numpy() >= 0), axis=1) for side in (x, w)]
    different = np.bitwise_count(packed[0][:, None] ^ packed[1][None]).sum(axis=-1, dtype=np.int64)
    return torch.as_tensor(x.shape[1] - 2 * different)


def xnor_speedup(n_products: int, word: int = 64) -> float:
    r"""Operations of an ordinary layer per operation of its XNOR form.

    Each output needs :math:`n` products, or :math:`n / 64` word operations and one scaling:
    :math:`64 n / (n + 64)`.

    Parameters
    ----------
    n_products : int
        Products an output sums up: input channels times the kernel's area.
    word : int
        Bits a machine word holds.

    Notes
    -----
    Source: arXiv 1603.05279, Section 4.1. It counts operations; memory traffic and the sums that give K are left out.
    """
    check_in_range(n_products, "n_products", low=1, integer=True)
    return word * n_products / (n_products + word)
