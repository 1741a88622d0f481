r"""Backbones that take a noise level: :class:`TimeMLP` for vectors, :class:`SmallUNet` for images.

One contract: ``net(x, c_noise, cond)`` with x of shape (batch, ...) gives the same shape. ``c_noise`` is a logarithm of
the noise level or a step's number, never the raw level, whose small values sine and cosine could not tell apart. It
enters each residual block as a scale and a shift of the normalised features (FiLM). ``cond`` is None or a dictionary
with any of

* ``"vector"``: (batch, cond_dim) numbers, added to the noise level's embedding; a row with NaN means "nothing known";
* ``"label"``: (batch,) classes, likewise; ``n_classes``, or -1, means "none of them", as for guidance without a
  classifier;
* ``"context"``: (batch, others, context_dim), a set of vectors attended to in every block (cross-attention, no order).

What is left out adds nothing. The last layer starts at zero, so an untrained net returns zero.

Sources: J. Ho, A. Jain, P. Abbeel, arXiv 2006.11239 (U-Net with a time embedding); E. Perez and others, arXiv
1709.07871 (FiLM); A. Nichol, P. Dhariwal, arXiv 2102.09672, section 3 (scale and shift of the second normalisation);
A. Blattmann and others, arXiv 2204.11824 (context). Departure: frequencies of the embedding are spaced evenly in the
logarithm from 1/1000 to 25, for log-levels of order one and for a thousand steps alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from lodim.nets.blocks import Attention
from lodim.validation import check_in_range, checked, close_matches

__all__ = ["SmallUNet", "TimeMLP"]

_SLOWEST, _FASTEST = 1e-3, 25.0  # radians per unit of c_noise
_TIME_EMBED = 64

Condition = Mapping[str, Tensor]


class _Embedding(nn.Module):
    """The noise level, a vector and a label as one vector."""

    def __init__(self, size: int, width: int, cond_dim: int, n_classes: int) -> None:
        super().__init__()
        check_in_range(cond_dim, "cond_dim", low=0, integer=True)
        check_in_range(n_classes, "n_classes", low=0, integer=True)
        self.n_frequencies = int(check_in_range(size, "time_embed", low=2, integer=True)) // 2
        self.level = nn.Sequential(
            nn.Linear(2 * self.n_frequencies, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.vector = nn.Linear(cond_dim, width) if cond_dim else None
        self.label = nn.Embedding(n_classes + 1, width) if n_classes else None

    def forward(self, c_noise: Tensor, cond: Condition) -> Tensor:
        own = next(self.level.parameters()).dtype
        precise = torch.promote_types(own, torch.float32)  # half precision would blur a thousand steps
        ends = math.log10(_SLOWEST), math.log10(_FASTEST)
        frequencies = torch.logspace(*ends, self.n_frequencies, dtype=precise, device=c_noise.device)
        angles = c_noise.to(precise)[:, None] * frequencies
        out = self.level(torch.cat([angles.cos(), angles.sin()], 1).to(own))
        if self.vector is not None and "vector" in cond:
            vector = cond["vector"].to(out.dtype)
            known = ~vector.isnan().any(1, keepdim=True)
            out = out + known * self.vector(torch.where(known, vector, 0))
        if self.label is not None and "label" in cond:
            label, none = cond["label"], self.label.num_embeddings - 1
            out = out + self.label(torch.where(label == -1, none, label))
        return nn.functional.silu(out)


def _check_condition(cond: Condition | None, sizes: Mapping[str, int]) -> Condition:
    """A condition's parts, each of which the net was built for."""
    for name in cond or {}:
        if name not in sizes:
            raise ValueError(f"cond has vector, label, context, not {name!r}.{close_matches(name, sizes)}")
        if not sizes[name]:
            option = {"vector": "cond_dim", "label": "n_classes", "context": "context_dim"}[name]
            raise ValueError(f"cond has a {name}, but the net was built with {option}=0")
    return cond or {}


class _CrossAttention(nn.Module):
    """Adds to (batch, tokens, width) what it finds in a context."""

    def __init__(self, width: int, heads: int, context_dim: int) -> None:
        super().__init__()
        self.norm, self.attn = nn.LayerNorm(width), Attention(width, heads, context_width=context_dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return x + self.attn(self.norm(x), context.to(x.dtype))


class _TimeBlock(nn.Module):
    def __init__(self, width: int, context_dim: int) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(width), nn.Linear(width, width)
        self.film = nn.Linear(width, 2 * width)
        self.cross = _CrossAttention(width, 1, context_dim) if context_dim else None

    def forward(self, h: Tensor, level: Tensor, context: Tensor | None) -> Tensor:
        scale, shift = self.film(level).chunk(2, 1)
        h = h + self.fc(nn.functional.silu(self.norm(h) * (1 + scale) + shift))
        if self.cross is not None and context is not None:
            h = self.cross(h[:, None], context)[:, 0]
        return h


@checked
class TimeMLP(nn.Module):
    """Residual fully connected blocks with a noise level; for vectors, or anything flattened.

    Parameters
    ----------
    dim : int
        Numbers of one sample.
    hidden : int, optional
        Width; default: the larger of 128 and ``2 * dim``. A width below ``dim`` cannot pass the noise through that is
        to be removed.
    depth : int
        Residual blocks.
    time_embed : int
        Sines and cosines of the noise level.
    cond_dim, n_classes, context_dim : int
        Numbers of ``cond["vector"]``, classes of ``cond["label"]``, numbers of a vector of ``cond["context"]``, or 0.

    Raises
    ------
    ValueError
        Numbers out of range.

    Examples
    --------
    >>> TimeMLP(2)(torch.randn(5, 2), torch.zeros(5)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        dim: int,
        hidden: int | None = None,
        depth: int = 3,
        time_embed: int = _TIME_EMBED,
        cond_dim: int = 0,
        *,
        n_classes: int = 0,
        context_dim: int = 0,
    ) -> None:
        super().__init__()
        check_in_range(dim, "dim", low=1, integer=True)
        check_in_range(depth, "depth", low=0, integer=True)
        check_in_range(context_dim, "context_dim", low=0, integer=True)
        width = max(128, 2 * dim) if hidden is None else check_in_range(hidden, "hidden", low=1, integer=True)
        self.dim, self.sizes = dim, {"vector": cond_dim, "label": n_classes, "context": context_dim}
        self.embed = _Embedding(time_embed, width, cond_dim, n_classes)
        self.first = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(_TimeBlock(width, context_dim) for _ in range(depth))
        self.last = _zeroed(nn.Linear(width, dim))

    def forward(
        self,
        x: Float[Tensor, "batch ..."],
        c_noise: Shaped[Tensor, " batch"],
        cond: Condition | None = None,
    ) -> Float[Tensor, "batch ..."]:
        """Apply the net; see :mod:`lodim.nets.denoisers` for the contract.

        Raises
        ------
        ValueError
            Samples of another size, or a condition the net was not built for.
        """
        cond = _check_condition(cond, self.sizes)
        if math.prod(x.shape[1:]) != self.dim:
            raise ValueError(f"a sample must have {self.dim} numbers, got shape {tuple(x.shape[1:])}")
        level = self.embed(c_noise, cond)
        h = self.first(x.reshape(len(x), self.dim))
        for block in self.blocks:
            h = block(h, level, cond.get("context"))
        return self.last(h).view(x.shape)


class _ResBlock(nn.Module):
    """Two convolutions and what they add to, then self-attention and cross-attention where asked for."""

    def __init__(
        self, n_in: int, n_out: int, level: int, attention: bool, context_dim: int, heads: int
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = _group_norm(n_in), _group_norm(n_out)
        self.conv1, self.conv2 = (nn.Conv2d(n, n_out, 3, padding=1) for n in (n_in, n_out))
        self.film = nn.Linear(level, 2 * n_out)
        self.skip = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        heads = math.gcd(heads, n_out)
        self.norm3 = _group_norm(n_out) if attention else None
        self.attn = Attention(n_out, heads) if attention else None
        self.cross = _CrossAttention(n_out, heads, context_dim) if context_dim else None

    def forward(self, x: Tensor, level: Tensor, context: Tensor | None) -> Tensor:
        h = self.conv1(nn.functional.silu(self.norm1(x)))
        scale, shift = self.film(level)[:, :, None, None].chunk(2, 1)
        h = self.conv2(nn.functional.silu(self.norm2(h) * (1 + scale) + shift))
        h = h + self.skip(x)
        size = h.shape[2:]
        if self.attn is not None and self.norm3 is not None:
            h = h + self.attn(self.norm3(h).flatten(2).mT).mT.unflatten(2, size)
        if self.cross is not None and context is not None:
            h = self.cross(h.flatten(2).mT, context).mT.unflatten(2, size)
        return h


@checked
class SmallUNet(nn.Module):
    """A U-Net of residual blocks with a noise level; for images of any height and width.

    Each level has one block on the way down and one on the way up, where it also sees its output of the way down;
    between levels images are averaged over 2 x 2 and doubled again. Odd sizes are padded by their border.

    Parameters
    ----------
    channels : int
        Of the images.
    base : int
        Channels inside, at the finest level.
    mults : tuple of int
        Channels of each level over ``base``, the finest first.
    attn : tuple of int
        Levels with self-attention; 0 is the finest, -1 the coarsest, whose middle block has it too.
    cond_dim, n_classes, context_dim : int
        Numbers of ``cond["vector"]``, classes of ``cond["label"]``, numbers of a vector of ``cond["context"]``, or 0.
    heads : int
        Of the attention, as far as they divide the channels.

    Raises
    ------
    ValueError
        Numbers out of range, or a level that is not there.

    Examples
    --------
    >>> SmallUNet(1, base=8)(torch.randn(2, 1, 9, 14), torch.zeros(2)).shape
    torch.Size([2, 1, 9, 14])
    """

    def __init__(
        self,
        channels: int,
        base: int = 32,
        mults: tuple[int, ...] = (1, 2, 2),
        attn: tuple[int, ...] = (-1,),
        cond_dim: int = 0,
        context_dim: int = 0,
        n_classes: int = 0,
        *,
        heads: int = 4,
    ) -> None:
        super().__init__()
        for value, name in (
            (channels, "channels"),
            (base, "base"),
            (heads, "heads"),
            (len(mults), "len(mults)"),
        ):
            check_in_range(value, name, low=1, integer=True)
        check_in_range(context_dim, "context_dim", low=0, integer=True)
        widths = [base * int(check_in_range(m, "every entry of mults", low=1, integer=True)) for m in mults]
        limits = {"low": -len(mults), "high": len(mults) - 1}
        attn = tuple(check_in_range(i, "a level of attn", integer=True, **limits) for i in attn)
        attends = [i in attn or i - len(mults) in attn for i in range(len(mults))]
        self.channels, self.sizes = (
            channels,
            {"vector": cond_dim, "label": n_classes, "context": context_dim},
        )
        self.embed = _Embedding(_TIME_EMBED, 4 * base, cond_dim, n_classes)

        def block(n_in: int, n_out: int, attention: bool) -> _ResBlock:
            return _ResBlock(n_in, n_out, 4 * base, attention, context_dim, heads)

        before = [widths[0], *widths[:-1]]
        self.first = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(block(a, b, on) for a, b, on in zip(before, widths, attends))
        self.middle = block(widths[-1], widths[-1], attends[-1])
        self.up = nn.ModuleList(block(2 * b, a, on) for a, b, on in reversed([*zip(before, widths, attends)]))
        self.norm = _group_norm(widths[0])
        self.last = _zeroed(nn.Conv2d(widths[0], channels, 3, padding=1))

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        c_noise: Shaped[Tensor, " batch"],
        cond: Condition | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """Apply the net; see :mod:`lodim.nets.denoisers` for the contract.

        Raises
        ------
        ValueError
            Images of other channels, or a condition the net was not built for.
        """
        cond = _check_condition(cond, self.sizes)
        if x.shape[1] != self.channels:
            raise ValueError(f"images must have {self.channels} channels, got shape {tuple(x.shape)}")
        level, context = self.embed(c_noise, cond), cond.get("context")
        height, width = x.shape[2:]
        step = 2 ** (len(self.down) - 1)
        h = self.first(pad(x, (0, -width % step, 0, -height % step), mode="replicate"))
        kept = []
        for i, block in enumerate(self.down):
            h = block(nn.functional.avg_pool2d(h, 2) if i else h, level, context)
            kept.append(h)
        h = self.middle(h, level, context)
        for i, block in enumerate(self.up):
            h = interpolate(h, scale_factor=2.0) if i else h
            h = block(torch.cat([h, kept.pop()], 1), level, context)
        return self.last(nn.functional.silu(self.norm(h)))[:, :, :height, :width]


def _group_norm(channels: int) -> nn.GroupNorm:
    """Groups of at least four channels, at most 32 groups."""
    return nn.GroupNorm(math.gcd(32, channels // 4) if channels % 4 == 0 else 1, channels)


def _zeroed(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
