"""The kinds of layers FLoRA knows: linear, convolutions of one to three dimensions, transposed ones, embeddings.

Each says how an update's chain of thin layers runs and what it costs; everything else is
:class:`~lodim.landscape.flora.adapted.FLoRALayer`'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from lodim.landscape.flora.adapted import FLoRALayer, Number

__all__ = [
    "FLoRAConv1d",
    "FLoRAConv2d",
    "FLoRAConv3d",
    "FLoRAConvTranspose1d",
    "FLoRAConvTranspose2d",
    "FLoRAConvTranspose3d",
    "FLoRAEmbedding",
    "FLoRALinear",
]

_CONV = (nn.functional.conv1d, nn.functional.conv2d, nn.functional.conv3d)
_TRANSPOSED = (nn.functional.conv_transpose1d, nn.functional.conv_transpose2d, nn.functional.conv_transpose3d)


class FLoRALinear(FLoRALayer):
    """A linear layer with ``Delta W = s U1 G U2^T``; parameters as for :class:`FLoRALayer`.

    Examples
    --------
    >>> from torch import nn, ones
    >>> layer = FLoRALinear(nn.Linear(20, 30), r=4)
    >>> layer(ones(2, 20)).shape, sum(p.numel() for p in layer.parameters() if p.requires_grad)
    (torch.Size([2, 30]), 216)
    """

    base_type: ClassVar[type[nn.Module]] = nn.Linear

    def _positions(self, x: Tensor, ranks: tuple[int, ...]) -> tuple[int, int, int, int, int]:
        n = x.numel() // x.shape[-1]
        n_out, n_in = self.base_layer.weight.shape
        return n, n, n_in * ranks[1], ranks[0] * ranks[1], n_out * ranks[0]

    def _chain(self, x: Tensor, core: Tensor, factors: Sequence[Tensor], *args: Any, **kwargs: Any) -> Tensor:
        U, V = factors
        return nn.functional.linear(nn.functional.linear(x, core @ V.T), U)


class FLoRAEmbedding(FLoRALayer):
    """An embedding whose table of rows moves by ``s U1 G U2^T``; a padding row stays as it is.

    Parameters as for :class:`FLoRALayer`. Dropout leaves single tokens without their update.
    """

    base_type: ClassVar[type[nn.Module]] = nn.Embedding

    @classmethod
    def check(cls, base_layer: nn.Module, form: str = "auto", dropout: Number = 0.0) -> None:
        """As :meth:`FLoRALayer.check`; ``max_norm`` is refused too."""
        super().check(base_layer, form, dropout)
        if getattr(base_layer, "max_norm", None) is not None:
            raise TypeError(
                "an embedding with max_norm rewrites its rows at every look-up and cannot be adapted"
            )

    def _factors(self, name: str) -> Any:
        rows, columns = super()._factors(name)
        padding = self.base_layer.padding_idx
        return (
            rows if padding is None else rows.index_fill(0, rows.new_tensor([padding]).long(), 0),
            columns,
        )

    def _drop(self, x: Tensor, share: float) -> Tensor:
        return x

    def _positions(self, x: Tensor, ranks: tuple[int, ...]) -> tuple[int, int, int, int, int]:
        return x.numel(), x.numel(), 0, ranks[0] * ranks[1], self.base_layer.embedding_dim * ranks[1]

    def _branch(self, name: str, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        moved = super()._branch(name, x, *args, **kwargs)
        share = self.dropout[name]
        if share and self.training:
            moved = moved * nn.functional.dropout(moved.new_ones(*x.shape, 1), share)
        return moved

    def _chain(self, x: Tensor, core: Tensor, factors: Sequence[Tensor], *args: Any, **kwargs: Any) -> Tensor:
        U, V = factors
        return nn.functional.linear(nn.functional.linear(nn.functional.embedding(x, U), core.T), V)


class _FLoRAConv(FLoRALayer):
    """What convolutions share: pointwise into J2 channels a group, the core as kernel, pointwise out of J1."""

    thin_cost: ClassVar[int] = 8

    def _positions(self, x: Tensor, ranks: tuple[int, ...]) -> tuple[int, int, int, int, int]:
        base = self.base_layer
        before = x.numel() // base.in_channels
        after = before // math.prod(base.stride)
        middle = base.groups * math.prod(ranks)
        return before, after, base.in_channels * ranks[1], middle, base.out_channels * ranks[0]

    def _chain(self, x: Tensor, core: Tensor, factors: Sequence[Tensor], *args: Any, **kwargs: Any) -> Tensor:
        base, (U_out, U_in, *U_kernel) = self.base_layer, factors
        conv, groups, ones = _CONV[len(U_kernel) - 1], base.groups, (1,) * len(U_kernel)
        into = U_in.T.reshape(*U_in.T.shape, *ones).repeat(groups, *(1,) * (core.ndim - 1))
        kernel = _kernel(core, U_kernel).repeat(groups, *(1,) * (core.ndim - 1))
        hidden = base._conv_forward(conv(x, into, groups=groups), kernel, None)
        return conv(hidden, U_out.reshape(*U_out.shape, *ones), groups=groups)


class _FLoRAConvTranspose(FLoRALayer):
    """What transposed convolutions share; their weight's modes are inputs, outputs of a group, kernel."""

    thin_cost: ClassVar[int] = 8

    def _positions(self, x: Tensor, ranks: tuple[int, ...]) -> tuple[int, int, int, int, int]:
        base = self.base_layer
        before = x.numel() // base.in_channels
        after = before * math.prod(base.stride)
        thin = base.in_channels * ranks[0] + base.groups * math.prod(ranks)
        return before, after, thin, 0, base.out_channels * ranks[1]

    def _chain(self, x: Tensor, core: Tensor, factors: Sequence[Tensor], *args: Any, **kwargs: Any) -> Tensor:
        base, (U_in, U_out, *U_kernel) = self.base_layer, factors
        dims, groups = len(U_kernel), base.groups
        conv, transposed = _CONV[dims - 1], _TRANSPOSED[dims - 1]
        ones, alone = (1,) * dims, (1,) * (core.ndim - 1)
        size = args[0] if args else kwargs.get("output_size")
        padding = base._output_padding(
            x, size, base.stride, base.padding, base.kernel_size, dims, base.dilation
        )
        into = U_in.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
        hidden = conv(x, into.reshape(*into.shape, *ones), groups=groups)
        kernel = _kernel(core, U_kernel).repeat(groups, *alone)
        hidden = transposed(hidden, kernel, None, base.stride, base.padding, padding, groups, base.dilation)
        return conv(hidden, U_out.reshape(*U_out.shape, *ones).repeat(groups, *alone), groups=groups)


def _kernel(core: Tensor, U_kernel: Sequence[Tensor]) -> Tensor:
    """Multiply the kernel modes into the core."""
    for U in U_kernel:  # each becomes the last mode in turn, so that all of them end in their order
        core = core.movedim(2, -1) @ U.T
    return core


class FLoRAConv1d(_FLoRAConv):
    """A 1-D convolution with an update of three modes (out, in / groups, kernel); see :class:`FLoRALayer`."""

    base_type: ClassVar[type[nn.Module]] = nn.Conv1d


class FLoRAConv2d(_FLoRAConv):
    """A 2-D convolution with an update of four modes (out, in / groups, height, width); see :class:`FLoRALayer`.

    Examples
    --------
    >>> from torch import nn, ones
    >>> layer = FLoRAConv2d(nn.Conv2d(8, 16, 3, padding=1), r=(4, 4, 2))
    >>> layer(ones(2, 8, 6, 6)).shape, sum(p.numel() for p in layer.parameters() if p.requires_grad)
    (torch.Size([2, 16, 6, 6]), 172)
    """

    base_type: ClassVar[type[nn.Module]] = nn.Conv2d


class FLoRAConv3d(_FLoRAConv):
    """A 3-D convolution with an update of five modes; see :class:`FLoRALayer`."""

    base_type: ClassVar[type[nn.Module]] = nn.Conv3d


class FLoRAConvTranspose1d(_FLoRAConvTranspose):
    """A transposed 1-D convolution, modes (in, out / groups, kernel); see :class:`FLoRALayer`."""

    base_type: ClassVar[type[nn.Module]] = nn.ConvTranspose1d


class FLoRAConvTranspose2d(_FLoRAConvTranspose):
    """A transposed 2-D convolution, modes (in, out / groups, height, width); see :class:`FLoRALayer`."""

    base_type: ClassVar[type[nn.Module]] = nn.ConvTranspose2d


class FLoRAConvTranspose3d(_FLoRAConvTranspose):
    """A transposed 3-D convolution of five modes; see :class:`FLoRALayer`."""

    base_type: ClassVar[type[nn.Module]] = nn.ConvTranspose3d


KINDS: dict[str, type[FLoRALayer]] = {
    "linear": FLoRALinear,
    "embedding": FLoRAEmbedding,
    "conv1d": FLoRAConv1d,
    "conv2d": FLoRAConv2d,
    "conv3d": FLoRAConv3d,
    "conv_transpose1d": FLoRAConvTranspose1d,
    "conv_transpose2d": FLoRAConvTranspose2d,
    "conv_transpose3d": FLoRAConvTranspose3d,
}
