r"""A decoder-only Transformer that writes token after token: :class:`CausalTransformer`, :class:`KVCache`.

Token t sees the tokens up to t, a prefix of given vectors before them (a condition, projected by whoever has it), and,
where ``context_dim`` says so, a set of context vectors without order. Its logits are those of token t + 1. Positions
are learnt; the output layer is the embedding transposed, with a bias.

Sources: A. Radford and others, *Language models are unsupervised multitask learners*, 2019 (pre-norm decoder);
O. Press, L. Wolf, arXiv 1608.05859 (tied output); A. Blattmann and others, arXiv 2204.11824 (context in every block).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lodim.nets.activations import evaluation_mode
from lodim.nets.blocks import START_DEVIATION, Block, initialise
from lodim.nets.categorical import keep_likely, sample_categorical
from lodim.validation import check_counts, check_fraction, check_in_range, checked

__all__ = ["CausalTransformer", "KVCache"]


@dataclass(eq=False)
class KVCache:
    """What a causal Transformer keeps of the tokens it has seen, so that each is computed once.

    ``layers`` are the keys and values of each block, (batch, heads, tokens, width / heads), filled by the Transformer;
    ``real``, (batch, tokens), says which tokens are no padding (None: all).
    """

    layers: list[list[Tensor]] = field(default_factory=list)
    real: Tensor | None = None

    def __len__(self) -> int:
        """Tokens seen, a prefix included."""
        return self.layers[0][0].shape[2] if self.layers and self.layers[0] else 0

    def reorder(self, rows: Int[Tensor, " new_batch"]) -> None:
        """Take other sequences of the batch, some twice perhaps, as beam search does."""
        self.layers = [[tensor[rows] for tensor in layer] for layer in self.layers]
        self.real = None if self.real is None else self.real[rows]

    def trim(self, length: int) -> None:
        """Forget all but the first ``length`` tokens; ValueError if there are fewer."""
        length = int(check_in_range(length, "length", low=0, high=len(self), integer=True))
        self.layers = [[tensor[:, :, :length] for tensor in layer] for layer in self.layers]
        self.real = None if self.real is None else self.real[:, :length]


@checked
class CausalTransformer(nn.Module):
    """A stack of pre-norm blocks in which tokens see only those before them.

    Parameters
    ----------
    n_tokens : int
        Different tokens, a start token (if there is one) included.
    length : int
        Longest sequence to be read, a prefix and padding included.
    width : int
        Of a token's vector; a multiple of ``heads``.
    depth : int
        Number of blocks.
    mlp_ratio : float
        Hidden width of a block's two-layer network over ``width``.
    dropout : float
        After the embedding, in and after attention and the two-layer network, in training.
    context_dim : int
        Numbers of a context vector; 0: no context.
    recompute : bool
        Compute blocks anew for the gradient instead of keeping what they computed: less memory, a third more time.

    Raises
    ------
    ValueError
        Numbers out of range, or ``heads`` not dividing ``width``.

    Examples
    --------
    >>> model = CausalTransformer(50, length=16, width=32, depth=2)
    >>> model(torch.zeros(3, 10, dtype=torch.int64)).shape
    torch.Size([3, 10, 50])
    """

    def __init__(
        self,
        n_tokens: int,
        length: int,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        *,
        mlp_ratio: float | int = 4.0,
        dropout: float | int = 0.0,
        context_dim: int = 0,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.recompute = recompute
        check_counts(n_tokens=n_tokens, length=length, width=width, depth=depth, heads=heads)
        hidden = round(width * check_in_range(mlp_ratio, "mlp_ratio", low=1 / width, high=1e4))
        rate = check_fraction(float(dropout), "dropout")
        self.context_dim = int(check_in_range(context_dim, "context_dim", low=0, integer=True))
        self.embed = nn.Embedding(n_tokens, width)
        self.positions = nn.Parameter(torch.empty(length, width))
        self.drop = nn.Dropout(rate)
        self.blocks = nn.ModuleList(
            Block(width, heads, hidden, rate, context_dim or None) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(n_tokens))
        self.apply(initialise)
        for table in (self.embed.weight, self.positions):
            nn.init.normal_(table, std=START_DEVIATION)

    def features(
        self,
        tokens: Int[Tensor, "batch tokens"],
        cache: KVCache | None = None,
        *,
        prefix: Float[Tensor, "batch prefix width"] | None = None,
        context: Float[Tensor, "batch others context_dim"] | None = None,
        real: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """Return the tokens' last hidden vectors, for another head than that of :meth:`forward`, which see."""
        if (context is not None) != (self.context_dim > 0):
            wanted = (
                f"of {self.context_dim} numbers a vector" if self.context_dim else "None: context_dim is 0"
            )
            raise ValueError(
                f"context must be {wanted}, got {None if context is None else tuple(context.shape)}"
            )
        x = self.embed(tokens)
        ahead = 0 if prefix is None else prefix.shape[1]
        context = None if context is None else context.to(x.dtype)
        if prefix is not None:
            x = torch.cat([prefix.to(x.dtype), x], 1)
        past, (batch, n) = 0 if cache is None else len(cache), x.shape[:2]
        self._check_length(past + n)
        if cache is not None and not past:
            cache.layers, cache.real = [[] for _ in self.blocks], None
        elif cache is not None and (len(cache.layers), len(cache.layers[0][0])) != (len(self.blocks), batch):
            raise ValueError(
                f"the cache holds {len(cache.layers)} blocks of {len(cache.layers[0][0])} sequences, but there are "
                f"{len(self.blocks)} and {batch}; begin with an empty one"
            )
        place: Tensor = torch.arange(past, past + n, device=x.device)
        mask, before = None, None if cache is None else cache.real
        if past and n > 1:
            mask = torch.ones(n, past + n, dtype=torch.bool, device=x.device).tril(past)
        if real is not None or before is not None:
            everyone = torch.ones(batch, past + n, dtype=torch.bool, device=x.device)
            if before is not None:
                everyone[:, :past] = before
            if real is not None:
                everyone[:, past + ahead :] = real
            place = (everyone.cumsum(1) - 1).clamp(min=0)[:, past:]  # padding takes no position
            square = torch.ones(n, past + n, dtype=torch.bool, device=x.device)
            itself = square.tril(past) & square.triu(
                past
            )  # padding attends to itself, or its softmax were empty
            mask = (square.tril(past) & everyone[:, None]) | itself
            if cache is not None:
                cache.real = everyone
        x = self.drop(x + self.positions[place])
        for i, block in enumerate(self.blocks):
            layer = None if cache is None else cache.layers[i]
            apply = partial(block, mask=mask, causal=mask is None and past == 0, past=layer)
            anew = self.recompute and cache is None and torch.is_grad_enabled()
            x = checkpoint(apply, x, context, use_reentrant=False) if anew else apply(x, context)
        return self.norm(x)[:, ahead:]

    def _check_length(self, n: int) -> None:
        if n > len(self.positions):
            raise ValueError(f"{n} tokens are more than this Transformer's length, {len(self.positions)}")

    def forward(
        self,
        tokens: Int[Tensor, "batch tokens"],
        cache: KVCache | None = None,
        *,
        prefix: Float[Tensor, "batch prefix width"] | None = None,
        context: Float[Tensor, "batch others context_dim"] | None = None,
        real: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens n_tokens"]:
        """Return the logits of each token's successor.

        Parameters
        ----------
        cache : KVCache, optional
            Of the tokens before these; these are added to it. Begin with an empty one.
        prefix : Tensor, shape (batch, prefix, width), optional
            Vectors before these tokens, without logits of their own.
        context : Tensor, shape (batch, others, context_dim), optional
            A set of vectors that every block attends to; needed if ``context_dim`` is not 0.
        real : bool Tensor, shape (batch, tokens), optional
            False at padding, wherever it stands: nobody sees it and it takes no position.

        Raises
        ------
        ValueError
            A longer sequence than ``length``, a context missing or not expected, or a cache of another batch or
            Transformer.
        """
        hidden = self.features(tokens, cache, prefix=prefix, context=context, real=real)
        return nn.functional.linear(hidden, self.embed.weight, self.bias)

    @torch.no_grad()
    def generate(
        self,
        tokens: Int64[Tensor, "batch tokens"],
        n_new: int,
        *,
        temperature: float | int = 1.0,
        top_k: int | None = None,
        top_p: float | int | None = None,
        prefix: Float[Tensor, "batch prefix width"] | None = None,
        context: Float[Tensor, "batch others context_dim"] | None = None,
        real: Bool[Tensor, "batch tokens"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Int64[Tensor, "batch more_tokens"]:
        """Continue sequences by drawing ``n_new`` tokens, each from the logits of the one before.

        Parameters
        ----------
        tokens : int64 Tensor, shape (batch, tokens)
            At least one each (a start token); pad on the left, with ``real``.
        temperature, top_k, top_p
            See :func:`lodim.nets.keep_likely`.
        prefix, context, real
            See :meth:`forward`.

        Raises
        ------
        ValueError
            No token to begin with, a sequence whose last one is padding, or more than ``length`` to read; the last new
            token is not read.
        """
        check_in_range(n_new, "n_new", low=0, integer=True)
        if not tokens.shape[1]:
            raise ValueError(
                "generate needs at least one token a sequence to begin with, such as a start token"
            )
        if real is not None and not bool(real[:, -1].all()):
            raise ValueError("real says that a sequence ends with padding; put its padding on the left")
        self._check_length((0 if prefix is None else prefix.shape[1]) + tokens.shape[1] + int(n_new) - 1)
        cache, new = KVCache(), tokens
        with evaluation_mode(self):
            for step in range(int(n_new)):
                first = {"prefix": prefix, "real": real} if step == 0 else {}
                logits = self(new, cache, context=context, **first)[:, -1]
                likely = keep_likely(logits, top_k=top_k, top_p=top_p, temperature=temperature)
                new = sample_categorical(likely, generator=generator)[:, None]
                tokens = torch.cat([tokens, new], 1)
        return tokens
