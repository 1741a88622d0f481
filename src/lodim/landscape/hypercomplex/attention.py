"""Multi-head attention with hypercomplex projections: :class:`PHMAttention`, a quarter of the parameters at n = 4.

Source: A. Zhang and others, arXiv 2102.08597, Section 4 (the PHM Transformer): queries, keys, values and outputs are
each a PHM layer; the attention itself is the usual one.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.landscape.hypercomplex.linear import PHMLinear

__all__ = ["PHMAttention"]


class PHMAttention(nn.Module):
    """Multi-head attention whose four projections are :class:`PHMLinear` layers.

    Parameters
    ----------
    embed_dim : int
        A multiple of n and of ``num_heads``.
    dropout : float
        Of the attention weights, while training.
    algebra : {"learned", "complex", "quaternion"}
    init : {"he", "paper"}
        "he" is scaled to variance 1 / ``embed_dim``, since no ReLU follows.

    Raises
    ------
    ValueError
        ``embed_dim`` is no multiple of n or of ``num_heads``.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        n: int,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        algebra: str = "learned",
        init: str = "he",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"embed_dim={embed_dim} must be a multiple of num_heads={num_heads}")
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout

        def projection() -> PHMLinear:
            layer = PHMLinear(
                embed_dim, embed_dim, n, bias, algebra=algebra, init=init, device=device, dtype=dtype
            )
            if init == "he":
                with torch.no_grad():
                    layer.F.mul_(math.sqrt(0.5))
            return layer

        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (projection() for _ in range(4))

    def forward(
        self,
        query: Float[Tensor, "batch q d"],
        key: Float[Tensor, "batch k d"] | None = None,
        value: Float[Tensor, "batch k d"] | None = None,
        *,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Float[Tensor, "batch q d"]:
        """Attend.

        Parameters
        ----------
        key, value : Tensor, shape (batch, k, embed_dim), optional
            By default the queries, and the keys.
        attn_mask, is_causal
            As in ``torch.nn.functional.scaled_dot_product_attention``; masks broadcast to (batch, heads, q, k).
        """
        key = query if key is None else key
        value = key if value is None else value
        q, k, v = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        rate = self.dropout if self.training else 0.0
        heads = nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=attn_mask, dropout_p=rate, is_causal=is_causal
        )
        return self.out_proj(heads.transpose(1, 2).flatten(-2))
