r"""The pre-norm Transformer block and its attention, for encoders, decoders and U-Nets.

Each block adds attention, then (with a context) attention to it, and then a two-layer network to its input, all applied
to the normalised input:

.. math::

    x \leftarrow x + \mathrm{Attn}(\mathrm{LN}(x)), \quad [x \leftarrow x + \mathrm{Attn}(\mathrm{LN}(x), c),] \quad
    x \leftarrow x + W_2\, \mathrm{gelu}(W_1\, \mathrm{LN}(x)).

Layers are named ``attn.q`` (``k``, ``v``, ``o``), ``cross.q`` ... and ``mlp.fc1`` (``fc2``), so that adapters,
quantisers and sparse layers find them by suffix.

Source: A. Vaswani and others, arXiv 1706.03762.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, cat, nn

from lodim.validation import check_counts, checked

__all__ = ["START_DEVIATION", "Attention", "Block", "initialise"]

START_DEVIATION = 0.02


def initialise(module: nn.Module) -> None:
    """Draw a linear layer's weights normal with deviation 0.02 and put its bias to zero; leave other modules alone."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=START_DEVIATION)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@checked
class Attention(nn.Module):
    """Multi-head attention of tokens to themselves or to a context, whose tokens may have another width.

    ``dropout`` is that of the attention weights, in training. A number of heads that does not divide ``width`` is a
    ValueError.
    """

    def __init__(
        self, width: int, heads: int, dropout: float = 0.0, context_width: int | None = None
    ) -> None:
        super().__init__()
        check_counts(width=width, heads=heads, context_width=context_width or 1)
        if width % heads:
            raise ValueError(f"width must be a multiple of heads, got {width} and {heads}")
        self.heads, self.dropout = heads, dropout
        source = width if context_width is None else context_width
        self.q, self.k, self.v, self.o = (nn.Linear(n, width) for n in (width, source, source, width))

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        context: Float[Tensor, "batch others context_width"] | None = None,
        *,
        mask: Bool[Tensor, "*#batch tokens others"] | None = None,
        causal: bool = False,
        past: list[Tensor] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """Let every token attend to all, or to a context's.

        Parameters
        ----------
        mask : bool Tensor, optional
            Who may attend (rows) to whom (columns, the past ones first).
        causal : bool
            Only to itself and those before.
        past : list of Tensor, optional
            Keys and values, (batch, heads, tokens, width / heads) each, of the tokens before; these tokens' are added.
        """
        source = x if context is None else context
        q, k, v = (
            layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, y in ((self.q, x), (self.k, source), (self.v, source))
        )
        if past is not None:
            if past:
                k, v = cat([past[0], k], 2), cat([past[1], v], 2)
            past[:] = k, v
        mixed = nn.functional.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask if mask is None or mask.ndim == 2 else mask[:, None],
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        )
        return self.o(mixed.transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.drop(nn.functional.gelu(self.fc1(x))))


class Block(nn.Module):
    """One pre-norm block, with ``hidden`` units in its two-layer network; with a context it attends to that as well."""

    def __init__(
        self, width: int, heads: int, hidden: int, dropout: float, context_width: int | None = None
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = Attention(width, heads, dropout), _Mlp(width, hidden, dropout)
        if context_width is not None:
            self.norm_cross = nn.LayerNorm(width)
            self.cross = Attention(width, heads, dropout, context_width)
        self.drop = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        context: Float[Tensor, "batch others context_width"] | None = None,
        *,
        mask: Bool[Tensor, "*#batch tokens all_tokens"] | None = None,
        causal: bool = False,
        past: list[Tensor] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """Apply the block; see :class:`Attention` for the options."""
        x = x + self.drop(self.attn(self.norm1(x), mask=mask, causal=causal, past=past))
        if context is not None:
            x = x + self.drop(self.cross(self.norm_cross(x), context))
        return x + self.drop(self.mlp(self.norm2(x)))
