r"""Backbones that read a whole sequence of tokens and say something about every place.

One contract: ``net(tokens, t, y)`` with tokens of shape (batch, length) gives logits (batch, length, n_out); ``t``,
(batch,) numbers such as a diffusion's time, and ``y``, (batch,) classes of which -1 says nothing, are added to what
each token brings, where the net was built for them. ``net.features(tokens, t, y)`` is what the last layer reads.

* :class:`BidirectionalTransformer`, for sequences in which far places matter; it needs thousands of steps.
* :class:`DilatedConvNet`, for short budgets and text: convolutions that reach ever further.
* :class:`ResidualMLP`, for tables and lattices, whose places have nothing in common.

Sources: J. Devlin and others, arXiv 1810.04805 (bidirectional Transformer); N. Kalchbrenner and others, arXiv
1610.10099 (dilated convolutions of tokens); K. He and others, arXiv 1512.03385 (residual blocks).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lodim.nets.blocks import START_DEVIATION, initialise
from lodim.nets.transformer import TransformerEncoder
from lodim.validation import check_counts, check_fraction, check_in_range, checked

__all__ = ["BidirectionalTransformer", "DilatedConvNet", "ResidualMLP"]


class _Given(nn.Module):
    """What a time and a class add to a vector."""

    def __init__(self, width: int, time_conditioning: bool, n_classes: int) -> None:
        super().__init__()
        check_in_range(n_classes, "n_classes", low=0, integer=True)
        self.n_classes = int(n_classes)
        self.time = (
            nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
            if time_conditioning
            else None
        )
        self.label = nn.Embedding(n_classes + 1, width) if n_classes else None  # the last one: not known

    def forward(self, n: int, t: Tensor | None, y: Tensor | None) -> Tensor | None:
        """A vector a sequence, (batch, width), or None where there is nothing to add."""
        out = None
        if self.time is not None:
            if t is None:
                raise ValueError(
                    "the network was built with time_conditioning: it needs t, one number a sequence"
                )
            out = self.time(t.to(next(self.time.parameters()).dtype)[:, None])
        elif t is not None:
            raise ValueError("t was given, but the network was built with time_conditioning=False")
        if self.label is None:
            if y is not None:
                raise ValueError("y was given, but the network was built with n_classes=0")
            return out
        y = torch.full((n,), -1, device=self.label.weight.device) if y is None else y
        if len(y) and not -1 <= int(y.min()) <= int(y.max()) < self.n_classes:
            raise ValueError(
                f"y must hold classes from 0 to {self.n_classes - 1}, or -1 (not known), got {int(y.min())} to "
                f"{int(y.max())}"
            )
        label = self.label(torch.where(y < 0, self.n_classes, y))
        return label if out is None else out + label


@checked
class TokenNet(nn.Module):
    """What all of them have: sizes, the check of tokens, what a time and a class add, and a last layer."""

    head: nn.Module

    def __init__(
        self,
        n_tokens: int,
        length: int,
        n_out: int | None,
        width: int,
        time_conditioning: bool,
        n_classes: int,
    ) -> None:
        super().__init__()
        n_out = max(1, n_tokens - 1) if n_out is None else n_out
        check_counts(n_tokens=n_tokens, length=length, n_out=n_out, width=width)
        self.n_tokens, self.length, self.n_out, self.width = map(int, (n_tokens, length, n_out, width))
        self.given = _Given(self.width, time_conditioning, n_classes)

    def features(
        self,
        tokens: Int[Tensor, "batch length"],
        t: Float[Tensor, " batch"] | None = None,
        y: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch *length width"]:
        """Return what the last layer reads: a vector of each token, of a :class:`ResidualMLP` one of each sequence."""
        if tokens.ndim != 2 or tokens.shape[1] != self.length:
            raise ValueError(f"tokens must have shape (n, {self.length}), got {tuple(tokens.shape)}")
        return self._read(tokens, self.given(len(tokens), t, y))

    def _read(self, tokens: Tensor, given: Tensor | None) -> Tensor:
        raise NotImplementedError

    def forward(
        self,
        tokens: Int[Tensor, "batch length"],
        t: Float[Tensor, " batch"] | None = None,
        y: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch length n_out"]:
        """Return the logits of each place; see :mod:`lodim.nets.tokens`."""
        return self.head(self.features(tokens, t, y))


@checked
class BidirectionalTransformer(TokenNet):
    """A pre-norm Transformer in which every token sees all others, at learnt positions.

    Parameters
    ----------
    n_tokens : int
        Different tokens, a mask symbol (the last one) included.
    length : int
        Of every sequence.
    n_out : int, optional
        Logits a place; default: the tokens without the last.
    width, depth, heads, dropout
        See :class:`~lodim.nets.TransformerEncoder`.
    time_conditioning : bool
        Whether a number t comes with every sequence.
    n_classes : int
        Classes that may come with a sequence, or 0.

    Raises
    ------
    ValueError
        Numbers out of range, or ``heads`` not dividing ``width``.

    Examples
    --------
    >>> BidirectionalTransformer(28, 16, width=32, depth=2)(torch.zeros(3, 16, dtype=torch.int64)).shape
    torch.Size([3, 16, 27])
    """

    def __init__(
        self,
        n_tokens: int,
        length: int,
        n_out: int | None = None,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        *,
        dropout: float | int = 0.0,
        time_conditioning: bool = False,
        n_classes: int = 0,
    ) -> None:
        super().__init__(n_tokens, length, n_out, width, time_conditioning, n_classes)
        self.embed = nn.Embedding(n_tokens, width)
        self.positions = nn.Parameter(torch.empty(length, width))
        self.encoder = TransformerEncoder(width, depth, heads, dropout=dropout)
        self.head = nn.Linear(width, self.n_out)
        initialise(self.head)
        for table in (self.embed.weight, self.positions):
            nn.init.normal_(table, std=START_DEVIATION)

    def _read(self, tokens: Tensor, given: Tensor | None) -> Tensor:
        x = self.embed(tokens) + self.positions
        return self.encoder(x if given is None else x + given[:, None])


class _DilatedBlock(nn.Module):
    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(math.gcd(8, width), width)
        self.conv = nn.Conv1d(width, width, kernel, padding="same", dilation=dilation)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(nn.functional.gelu(self.conv(nn.functional.gelu(self.norm(x)))))


@checked
class DilatedConvNet(TokenNet):
    """Residual convolutions along the sequence whose taps stand ever further apart.

    They reach ``(kernel - 1) * sum(dilations) // 2`` places to either side; a block's normalisation sees all places.

    Parameters
    ----------
    n_tokens, length, n_out, time_conditioning, n_classes
        See :class:`BidirectionalTransformer`.
    width : int
        Channels.
    dilations : sequence of int
        One a block: the distance of a convolution's taps.
    kernel : int
        Taps, an odd number.

    Raises
    ------
    ValueError
        Numbers out of range, an even ``kernel``, or no block.

    Examples
    --------
    >>> DilatedConvNet(28, 16, width=32)(torch.zeros(3, 16, dtype=torch.int64)).shape
    torch.Size([3, 16, 27])
    """

    def __init__(
        self,
        n_tokens: int,
        length: int,
        n_out: int | None = None,
        width: int = 96,
        dilations: Sequence[int] = (1, 2, 4, 1),
        *,
        kernel: int = 3,
        time_conditioning: bool = False,
        n_classes: int = 0,
    ) -> None:
        super().__init__(n_tokens, length, n_out, width, time_conditioning, n_classes)
        check_counts(kernel=kernel)
        if kernel % 2 == 0 or not len(dilations) or min(dilations) < 1:
            raise ValueError(
                f"kernel must be odd and dilations positive, got {kernel} and {tuple(dilations)}"
            )
        self.embed = nn.Embedding(n_tokens, width)
        self.positions = nn.Parameter(torch.zeros(length, width))
        self.blocks = nn.ModuleList(_DilatedBlock(width, kernel, int(d)) for d in dilations)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, self.n_out)
        initialise(self.head)

    def _read(self, tokens: Tensor, given: Tensor | None) -> Tensor:
        x = self.embed(tokens) + self.positions
        x = (x if given is None else x + given[:, None]).mT
        for block in self.blocks:
            x = block(x)
        return self.norm(x.mT)


class _ResidualBlock(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.fc1, self.fc2 = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(self.drop(nn.functional.leaky_relu(self.fc1(self.norm(x)))))


@checked
class ResidualMLP(TokenNet):
    """Tokens as one-hot vectors side by side, then residual fully connected blocks, which start as the identity.

    Parameters
    ----------
    n_tokens, length, n_out, time_conditioning, n_classes
        See :class:`BidirectionalTransformer`.
    width : int
        Of the hidden vectors.
    depth : int
        Residual blocks of two layers.
    dropout : float
        Between a block's layers, in training.

    Raises
    ------
    ValueError
        Numbers out of range.

    Examples
    --------
    >>> ResidualMLP(3, 16, width=32)(torch.zeros(3, 16, dtype=torch.int64)).shape
    torch.Size([3, 16, 2])
    """

    places: Tensor

    def __init__(
        self,
        n_tokens: int,
        length: int,
        n_out: int | None = None,
        width: int = 256,
        depth: int = 3,
        *,
        dropout: float | int = 0.0,
        time_conditioning: bool = False,
        n_classes: int = 0,
    ) -> None:
        super().__init__(n_tokens, length, n_out, width, time_conditioning, n_classes)
        check_in_range(depth, "depth", low=0, integer=True)
        rate = check_fraction(float(dropout), "dropout")
        # one row for each token at each place: what a linear layer does to one-hot vectors, without making them
        self.embed = nn.Embedding(length * n_tokens, width)
        nn.init.normal_(self.embed.weight, std=1 / math.sqrt(length))
        self.register_buffer("places", n_tokens * torch.arange(length), persistent=False)
        self.blocks = nn.ModuleList(_ResidualBlock(width, rate) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        last = nn.Linear(width, length * self.n_out)
        initialise(last)
        self.head = nn.Sequential(last, nn.Unflatten(1, (self.length, self.n_out)))

    def _read(self, tokens: Tensor, given: Tensor | None) -> Tensor:
        x = nn.functional.embedding_bag(tokens + self.places, self.embed.weight, mode="sum")
        x = x if given is None else x + given
        for block in self.blocks:
            x = block(x)
        return self.norm(x)
