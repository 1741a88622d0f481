r"""Dense layers of 1/n the parameters: :class:`PHMLinear`, and the look-up table :class:`PHEmbedding`.

**PHM.** :math:`y = W x + b` with :math:`W = \sum_i A_i \otimes S_i`, which has :math:`n^3 + o\,i/n` parameters instead
of :math:`o\,i`. Two ways to compute it, for B samples:

- form W (:math:`n\,o\,i` multiplications), then :math:`B\,o\,i`;
- never form W: split x into n parts :math:`x_c`, then :math:`y_a = \sum_{i,c} A_{i,ac} S_i x_c`, which costs
  :math:`B\,o\,i + B\,n^2 \min(o, i)` when the mixing by A is done on the narrower side.

The second reads n times fewer numbers; its mixing, bound by memory, was measured to cost about four times what its
multiplications would. So W is formed unless :math:`4 B n \le \max(o, i)`. Where W is kept from call to call
(evaluation), it is used, unless it is also too large for a processor's cache and :math:`16 B n \le \max(o, i)`: a
weight of 4096 x 4096 applied to a single sample is faster apart than an ordinary layer's.

======================  ==========
Symbol in the paper     Here
======================  ==========
:math:`A_i`             ``.A[i]``
:math:`S_i`             ``.F[i]``
W, or H                 ``.weight``
======================  ==========

Sources: A. Zhang and others, Beyond fully-connected layers with quaternions, arXiv 2102.08597 (PHM); arXiv 2110.04176.

In :class:`PHMAttention` (2102.08597, Section 4) queries, keys, values and outputs are each a PHM layer, a quarter of
the parameters at n = 4; the attention itself is the usual one.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from lodim.landscape.hypercomplex.formed import HypercomplexLayer, check_sizes, is_traced
from lodim.validation import check_fraction, check_in_range, checked

__all__ = ["PHEmbedding", "PHMAttention", "PHMLinear"]

_MIXING = 4  # time of a multiplication in the mixing by A, in units of one in the product
_KEPT = 4  # nothing is saved on forming a weight that is kept: only a quarter of the mixing pays
_CACHED = 2**20  # numbers of a weight that stays in the processor's cache from call to call


@checked
class PHMLinear(HypercomplexLayer):
    """A linear layer whose weight is a sum of n Kronecker products.

    Parameters
    ----------
    in_features, out_features : int
        Multiples of n.
    n : int
        Parameters shrink by this factor; 1 is the ordinary layer.
    algebra : {"learned", "complex", "quaternion"}
        Whether A is trained, or fixed to an algebra of n = 2 or n = 4.
    init : {"he", "paper"}
        See :mod:`lodim.landscape.hypercomplex.formed`.

    Raises
    ------
    ValueError
        n does not divide both sizes (the nearest are named), or does not suit the algebra.

    Examples
    --------
    >>> layer = PHMLinear(256, 128, n=4)
    >>> sum(p.numel() for p in layer.parameters())  # 4^3 + 256 * 128 / 4 + 128
    8384
    >>> layer(torch.zeros(5, 256)).shape
    torch.Size([5, 128])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        n: int,
        bias: bool = True,
        *,
        algebra: str = "learned",
        init: str = "he",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        n = check_sizes(n, algebra, in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = int(in_features), int(out_features)
        shape = (self.out_features, self.in_features)
        super().__init__(
            n, shape, bias=bias, algebra=algebra, init=init, fan_in=in_features, device=device, dtype=dtype
        )

    def forward(self, input: Float[Tensor, "*batch i"]) -> Float[Tensor, "*batch o"]:
        """Apply the layer."""
        if input.shape[-1] == self.in_features and self._is_cheaper_apart(input):
            return self._apart(input)
        return nn.functional.linear(input, self.weight, self.bias)

    def _is_cheaper_apart(self, x: Tensor) -> bool:
        """Whether not to form W; the number of samples is not looked at where it may be a symbol."""
        if self.n == 1 or torch.compiler.is_compiling():
            return False
        mixing = _MIXING * math.prod(x.shape[:-1]) * self.n
        if not self.training and not torch.is_grad_enabled():  # a kept weight is at hand
            if self.in_features * self.out_features <= _CACHED:
                return False
            mixing *= _KEPT
        return mixing <= max(self.in_features, self.out_features)

    def _apart(self, x: Tensor) -> Tensor:
        n, (_, u, v) = self.n, self.F.shape[:3]
        parts = x.reshape(-1, n, v)
        if self.in_features <= self.out_features:
            mixed = torch.einsum("iac,bcv->ibav", self.A, parts).reshape(n, -1, v)
            y = torch.bmm(mixed, self.F.mT).sum(0)
        else:
            apart = (parts.reshape(-1, v) @ self.F.reshape(n * u, v).mT).reshape(-1, n, n, u)
            y = torch.einsum("iac,bciu->bau", self.A, apart)
        y = y.reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias.to(y.dtype)


@checked
class PHEmbedding(HypercomplexLayer):
    r"""A look-up table of N vectors whose matrix (N, d) is a sum of n Kronecker products.

    Entry :math:`t = a N' + u` (:math:`N' = \lceil N/n \rceil`) is the concatenation over c of
    :math:`\sum_i A_{i,ac} F_{i,u}`: entries :math:`N'` apart share the rows of F and differ by A. The table is never
    formed for a look-up.

    Parameters
    ----------
    num_embeddings : int
        N; any, the table being continued to a multiple of n.
    embedding_dim : int
        d, a multiple of n.
    padding_idx : int, optional
        This entry is zero.
    algebra : {"learned", "complex", "quaternion"}

    Notes
    -----
    Vectors have unit variance at the start, as in ``nn.Embedding``. Rare entries learn from the others that share
    their rows of F; nothing says that those are related in meaning.

    Raises
    ------
    ValueError
        n does not divide ``embedding_dim``, or does not suit the algebra; ``padding_idx`` out of range.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        n: int,
        padding_idx: int | None = None,
        *,
        algebra: str = "learned",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        n = check_sizes(n, algebra, embedding_dim=embedding_dim)
        check_in_range(num_embeddings, "num_embeddings", low=1, integer=True)
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(
                f"padding_idx must be an entry of the table of {num_embeddings}, got {padding_idx}"
            )
        self.num_embeddings, self.embedding_dim = int(num_embeddings), int(embedding_dim)
        self.padding_idx = None if padding_idx is None else int(padding_idx) % self.num_embeddings
        shape = (math.ceil(num_embeddings / n) * n, self.embedding_dim)
        super().__init__(
            n, shape, bias=False, algebra=algebra, init="he", fan_in=2.0, device=device, dtype=dtype
        )

    def _laid_out(self, weight: Tensor) -> Tensor:
        weight = weight[: self.num_embeddings]
        if self.padding_idx is None:
            return weight
        kept = torch.arange(self.num_embeddings, device=weight.device) != self.padding_idx
        return weight * kept[:, None]

    def forward(self, input: Shaped[Tensor, "*batch"]) -> Float[Tensor, "*batch d"]:
        """Look entries up.

        Parameters
        ----------
        input : Tensor of int32 or int64
            From 0 to ``num_embeddings`` - 1.

        Raises
        ------
        TypeError
            Numbers of another kind.
        IndexError
            An id outside the table (looked at on a CPU and outside of vmap and tracing).
        """
        if input.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"ids must be int32 or int64, got {input.dtype}")
        if input.device.type == "cpu" and input.numel() and not is_traced(input):
            low, high = input.aminmax()
            if low < 0 or high >= self.num_embeddings:
                raise IndexError(f"ids must be from 0 to {self.num_embeddings - 1}, got {low} to {high}")
        rows = self.F.shape[1]
        blocks, inner = input.reshape(-1) // rows, input.reshape(-1) % rows
        vectors = torch.einsum("ibc,ibv->bcv", self.A[:, blocks], self.F[:, inner])
        vectors = vectors.reshape(*input.shape, self.embedding_dim)
        if self.padding_idx is not None:
            vectors = vectors * (input != self.padding_idx)[..., None]
        return vectors


@checked
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
        check_in_range(embed_dim, "embed_dim", low=1, integer=True)
        check_fraction(dropout, "dropout")
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
