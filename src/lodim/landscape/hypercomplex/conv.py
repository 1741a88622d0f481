r"""Convolutions of 1/n the parameters: :class:`PHConv2d`, its 1-D and 3-D relatives, :class:`PHConvTranspose2d`.

**PHC.** The kernel is :math:`H = \sum_i A_i \otimes F_i` with :math:`F_i \in \mathbb{R}^{o/n \times i/n \times k
\dots}`: the Kronecker products act on the channels, tap by tap. Parameters: :math:`n^3 + o\,i\,k^2/n` instead of
:math:`o\,i\,k^2`. H is formed and convolved with: forming costs :math:`n\,o\,i\,k^2` multiplications, the convolution
:math:`o\,i\,k^2` for every pixel of every image.

======================  ==========
Symbol in the paper     Here
======================  ==========
:math:`A_i`             ``.A[i]``
:math:`F_i`             ``.F[i]``
H                       ``.weight``
======================  ==========

Source: arXiv 2110.04176, Section 3. Departures: dilation and padding modes in every dimension, parameters never moved
between devices by a forward; initial values as in :mod:`lodim.landscape.hypercomplex.formed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lodim.landscape.hypercomplex.formed import HypercomplexLayer, check_sizes
from lodim.validation import check_choice, check_kind, checked

__all__ = ["PHConv1d", "PHConv2d", "PHConv3d", "PHConvTranspose2d"]

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
Size = int | Sequence[int]


def _per_axis(value: Any, rank: int, name: str) -> tuple[int, ...]:
    """One number an axis."""
    check_kind(value, Size, name)
    one = isinstance(value, int) or getattr(value, "ndim", 1) == 0
    sizes = (int(value),) * rank if one else tuple(int(size) for size in value)  # type: ignore[arg-type,union-attr]
    if len(sizes) != rank:
        raise ValueError(f"{name} must be one number or {rank}, got {value!r}")
    least = 0 if "padding" in name else 1
    if min(sizes) < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}")
    return sizes


@checked
class _PHConv(HypercomplexLayer):
    """A convolution over any number of axes; see :class:`PHConv2d` for its parameters."""

    _rank: ClassVar[int]
    _convolve: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        n: int,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        algebra: str = "learned",
        init: str = "he",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        _refuse_groups(groups)
        n = check_sizes(n, algebra, in_channels=in_channels, out_channels=out_channels)
        rank = self._rank
        self.in_channels, self.out_channels = int(in_channels), int(out_channels)
        self.kernel_size = _per_axis(kernel_size, rank, "kernel_size")
        self.stride, self.dilation = _per_axis(stride, rank, "stride"), _per_axis(dilation, rank, "dilation")
        self.padding: tuple[int, ...] | str
        if isinstance(padding, str):
            self.padding = check_choice(padding, ("same", "valid"), "padding")
            if padding == "same" and max(self.stride) > 1:
                raise ValueError(f"padding='same' needs stride 1, got {stride}")
        else:
            self.padding = _per_axis(padding, rank, "padding")
        self.groups, self.padding_mode = 1, check_choice(padding_mode, _PADDING_MODES, "padding_mode")
        shape = (self.out_channels, self.in_channels, *self.kernel_size)
        fan_in = self.in_channels * math.prod(self.kernel_size)
        super().__init__(
            n, shape, bias=bias, algebra=algebra, init=init, fan_in=fan_in, device=device, dtype=dtype
        )

    def _margins(self) -> list[int]:
        """Both margins of every axis, last axis first, as ``pad`` wants them."""
        margins: list[int] = []
        for axis in reversed(range(self._rank)):
            if isinstance(self.padding, str):
                total = self.dilation[axis] * (self.kernel_size[axis] - 1) if self.padding == "same" else 0
                margins += [total // 2, total - total // 2]
            else:
                margins += [self.padding[axis]] * 2
        return margins

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer to (batch, in_channels, ...); the batch's axis may be absent."""
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = nn.functional.pad(input, self._margins(), mode=self.padding_mode), "valid"
        return type(self)._convolve(input, self.weight, self.bias, self.stride, padding, self.dilation)

    def extra_repr(self) -> str:
        """Return what distinguishes the layer, for ``repr``."""
        return f"{super().extra_repr()}, kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class PHConv1d(_PHConv):
    """A 1-D convolution whose kernel is a sum of n Kronecker products; parameters as in :class:`PHConv2d`."""

    _rank = 1
    _convolve = staticmethod(nn.functional.conv1d)


class PHConv2d(_PHConv):
    """A 2-D convolution whose kernel is a sum of n Kronecker products.

    Parameters
    ----------
    in_channels, out_channels : int
        Multiples of n.
    kernel_size : int or sequence of int
    n : int
        Parameters shrink by this factor; 1 is the ordinary layer, 3 takes colours as they are.
    stride, padding, dilation, groups, bias, padding_mode
        As in ``nn.Conv2d``, but ``groups`` must be 1.
    algebra : {"learned", "complex", "quaternion"}
        Whether A is trained, or fixed to an algebra of n = 2 or n = 4.
    init : {"he", "paper"}
        See :mod:`lodim.landscape.hypercomplex.formed`.
    device, dtype : optional

    Raises
    ------
    ValueError
        n does not divide both channel counts (the nearest are named), or does not suit the algebra.
    NotImplementedError
        ``groups`` other than 1.

    Examples
    --------
    >>> layer = PHConv2d(64, 128, 3, n=4, padding=1)
    >>> sum(p.numel() for p in layer.parameters())  # 4^3 + 64 * 128 * 9 / 4 + 128
    18624
    >>> layer(torch.zeros(2, 64, 8, 8)).shape
    torch.Size([2, 128, 8, 8])
    """

    _rank = 2
    _convolve = staticmethod(nn.functional.conv2d)


class PHConv3d(_PHConv):
    """A 3-D convolution whose kernel is a sum of n Kronecker products; parameters as in :class:`PHConv2d`."""

    _rank = 3
    _convolve = staticmethod(nn.functional.conv3d)


@checked
class PHConvTranspose2d(HypercomplexLayer):
    """A transposed 2-D convolution whose kernel is a sum of n Kronecker products.

    Parameters
    ----------
    in_channels, out_channels : int
        Multiples of n.
    stride, padding, output_padding, groups, bias, dilation
        As in ``nn.ConvTranspose2d``, but ``groups`` must be 1.
    algebra, init, device, dtype
        As in :class:`PHConv2d`.

    Notes
    -----
    ``.weight`` has torch's layout (inputs, outputs, kernel); ``.F`` that of every other layer, outputs first. An
    output pixel sums over ``in_channels * kernel area / stride area`` inputs, which is the fan of the initial values.

    Raises
    ------
    ValueError, NotImplementedError
        As in :class:`PHConv2d`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        n: int,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        *,
        algebra: str = "learned",
        init: str = "he",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        _refuse_groups(groups)
        n = check_sizes(n, algebra, in_channels=in_channels, out_channels=out_channels)
        self.in_channels, self.out_channels = int(in_channels), int(out_channels)
        self.kernel_size, self.stride = (
            _per_axis(kernel_size, 2, "kernel_size"),
            _per_axis(stride, 2, "stride"),
        )
        self.padding, self.dilation = _per_axis(padding, 2, "padding"), _per_axis(dilation, 2, "dilation")
        self.output_padding, self.groups = _per_axis(output_padding, 2, "output_padding"), 1
        shape = (self.out_channels, self.in_channels, *self.kernel_size)
        fan_in = self.in_channels * math.prod(self.kernel_size) / math.prod(self.stride)
        super().__init__(
            n, shape, bias=bias, algebra=algebra, init=init, fan_in=fan_in, device=device, dtype=dtype
        )

    def _laid_out(self, weight: Tensor) -> Tensor:
        return weight.transpose(0, 1)

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer to (batch, in_channels, height, width); the batch's axis may be absent."""
        return nn.functional.conv_transpose2d(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            dilation=self.dilation,
        )


def _refuse_groups(groups: int) -> None:
    if groups != 1:
        raise NotImplementedError(f"only groups=1 is implemented, got groups={groups}")
