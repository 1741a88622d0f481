r"""What generator and discriminator share of StyleGAN2: layers with equalised learning rates, and its leaky ReLU.

A layer's weights are stored at unit scale and multiplied by :math:`1 / \sqrt{n}` when used, n numbers coming into each
of its outputs, so that Adam moves all layers alike.

Source: T. Karras and others, 2019, arXiv 1912.04958.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["EqualConv2d", "EqualLinear", "leaky"]


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, times the square root of 2, which keeps the variance."""
    return nn.functional.leaky_relu(x, 0.2) * math.sqrt(2)


class EqualLinear(nn.Module):
    """A linear layer; ``lr_multiplier`` slows it down, ``bias`` is where its bias starts."""

    def __init__(self, n_in: int, n_out: int, *, bias: float = 0.0, lr_multiplier: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((n_out,), bias / lr_multiplier))
        self.scale, self.lr_multiplier = lr_multiplier / math.sqrt(n_in), lr_multiplier

    def forward(self, x: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_out"]:
        """Return the layer's values."""
        return nn.functional.linear(x, self.weight * self.scale, self.bias * self.lr_multiplier)


class EqualConv2d(nn.Module):
    """A convolution that keeps the size (``kernel`` odd)."""

    def __init__(self, n_in: int, n_out: int, kernel: int = 3, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None
        self.scale, self.padding = 1 / math.sqrt(n_in * kernel**2), kernel // 2

    def forward(self, x: Float[Tensor, "n n_in h w"]) -> Float[Tensor, "n n_out h w"]:
        """Return the layer's values."""
        return nn.functional.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)
