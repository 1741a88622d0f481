r"""Stage two: a GPT that writes a shape's tokens, after whatever it is told about the shape: :class:`ShapeGPT`.

A shape is a sequence of codes :math:`t_1, \ldots, t_S` (:mod:`.tokenizer`). With s a start token and c what is known,

.. math:: p(t \mid c) = \prod_{i=1}^{S} p(t_i \mid c, s, t_1, \ldots, t_{i-1}), \qquad
          L = -\frac{1}{S} \sum_i \log p(t_i \mid c, s, t_{<i}).

The sequence that is read is [class][condition][start][t_1 ... t_S]: conditions are vectors in front, each projected to
the model's width, and have no part in the loss. Every place of a condition that is not filled, or that is left out for
a share ``p_uncond`` of the training samples, holds a learnt null vector, so that a shape's tokens always stand at the
same positions, and so that samples can be drawn with more weight on the condition than was learnt (classifier-free
guidance): from the logits

.. math:: l_\varnothing + g\, (l_c - l_\varnothing).

A token's logits are those of a layer norm, a linear layer, GELU, a layer norm and the embedding transposed, with a
bias. Which token is written first is the ``order``: rows of the map one after another, unless another is given.

Source: X. Qian and others, arXiv 2402.12225, section 3.3; guidance as in J. Ho, T. Salimans, arXiv 2207.12598.
Departures: null vectors in the paper's empty places; layer norms, attention and start as of
:class:`~lodim.nets.CausalTransformer`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

from lodim.nets import CausalTransformer, KVCache, keep_likely, sample_categorical
from lodim.nets.activations import evaluation_mode
from lodim.nets.blocks import START_DEVIATION, initialise
from lodim.randomness import RandomState, build_seeded, root_seed
from lodim.validation import (
    check_choice,
    check_counts,
    check_fraction,
    check_in_range,
    check_tensor,
    check_unmasked,
    checked,
)

__all__ = ["ShapeGPT"]

# width, layers, heads
SIZES = {"base": (768, 12, 12), "large": (2048, 24, 16), "huge": (3072, 32, 24)}
# of the dropout elsewhere, inside the two-layer networks: 0.01 where it is 0.1
MLP_SHARE = 0.1


@checked
class ShapeGPT(nn.Module):
    """A causal Transformer over the tokens of shapes, with conditions in front.

    Parameters
    ----------
    n_codes : int
        Of the tokenizer.
    n_tokens : int
        A shape, S.
    width, n_layers, n_heads : int
        :meth:`of_size` has the paper's.
    n_classes : int
        0: there are no classes.
    condition_dim : int, optional
        Numbers of a condition's vector, such as an encoder's features. None: conditions are tokens of this vocabulary,
        such as those of a part of the shape.
    max_condition_tokens : int
        Vectors, or tokens, of a condition at most; 0: there are no conditions but classes.
    dropout : float
        After the embedding, in and after attention; a tenth of it within the two-layer networks.
    p_uncond : float
        Share of training samples that are shown neither class nor condition.
    order : sequence of int, optional
        Which of a shape's tokens is written first, second, ...: each number from 0 to S - 1 once.
    recompute : bool
        As of :class:`~lodim.nets.CausalTransformer`: less memory, a third more time.
    random_state : int, Generator or None
        Of the initial weights.

    Raises
    ------
    ValueError
        Numbers out of range, or an order that is no permutation.

    Examples
    --------
    >>> prior = ShapeGPT(16, 9, width=32, n_layers=2, n_heads=2, n_classes=3, random_state=0)
    >>> prior.sample(2, y=1, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([2, 9])
    """

    order: Tensor

    def __init__(
        self,
        n_codes: int,
        n_tokens: int,
        width: int = 256,
        n_layers: int = 6,
        n_heads: int = 8,
        *,
        n_classes: int = 0,
        condition_dim: int | None = None,
        max_condition_tokens: int = 0,
        dropout: float | int = 0.1,
        p_uncond: float | int = 0.1,
        order: Sequence[int] | None = None,
        recompute: bool = False,
        random_state: RandomState = None,
    ) -> None:
        super().__init__()
        check_counts(n_codes=n_codes, n_tokens=n_tokens, n_layers=n_layers, n_heads=n_heads)
        self.n_codes, self.n_tokens = int(n_codes), int(n_tokens)
        self.n_classes = int(check_in_range(n_classes, "n_classes", low=0, integer=True))
        self.max_condition_tokens = int(
            check_in_range(max_condition_tokens, "max_condition_tokens", low=0, integer=True)
        )
        if condition_dim is not None:
            check_counts(condition_dim=condition_dim)
            if not self.max_condition_tokens:
                raise ValueError(
                    "a condition_dim needs max_condition_tokens: how many vectors there are at most, 1 or more"
                )
        self.condition_dim = None if condition_dim is None else int(condition_dim)
        self.p_uncond = check_fraction(float(p_uncond), "p_uncond")
        places = list(range(self.n_tokens)) if order is None else [int(place) for place in order]
        if sorted(places) != list(range(self.n_tokens)):
            raise ValueError(f"order must have each number from 0 to {self.n_tokens - 1} once")
        self.n_ahead = bool(self.n_classes) + self.max_condition_tokens

        def build() -> None:
            self.net = CausalTransformer(
                self.n_codes + 1,
                self.n_ahead + self.n_tokens,
                width,
                n_layers,
                n_heads,
                dropout=dropout,
                recompute=recompute,
            )
            self.project = nn.Linear(width, width)
            self.norm = nn.LayerNorm(width)
            self.project.apply(initialise)
            if self.n_classes:
                self.classes = nn.Embedding(self.n_classes, width)
                nn.init.normal_(self.classes.weight, std=START_DEVIATION)
            if self.condition_dim is not None:
                self.read = nn.Linear(self.condition_dim, width)
                self.read.apply(initialise)
            self.null = nn.Parameter(START_DEVIATION * torch.randn(self.n_ahead, width))

        build_seeded(build, root_seed(random_state))
        for block in self.net.blocks:
            block.mlp.drop.p *= MLP_SHARE  # type: ignore[operator, union-attr]
        self.register_buffer("order", torch.tensor(places))

    @classmethod
    def of_size(cls, size: str, n_codes: int = 8192, n_tokens: int = 1024, **options: Any) -> ShapeGPT:
        """Return one of a size of the paper: "base", "large" (1.2 billion weights) or "huge" (3.6 billion).

        Under ``torch.device("meta")`` nothing is allocated, and the weights can be counted. "base" and "large" are
        what GPT models of 0.1 and 1.2 billion weights usually have; of the paper "huge" alone is known for certain.
        """
        width, n_layers, n_heads = SIZES[check_choice(size, tuple(SIZES), "size")]
        return cls(n_codes, n_tokens, width, n_layers, n_heads, **options)

    def logits(
        self,
        tokens: Int[Tensor, "batch given"],
        *,
        y: Any = None,
        condition: Tensor | None = None,
    ) -> Float[Tensor, "batch places n_codes"]:
        """Return the logits of each token and, after as many as are given, of the next; at most S.

        Parameters
        ----------
        tokens : int Tensor, shape (batch, given)
            The first of each shape, in this model's order; none, shape (batch, 0), to begin with.
        """
        given = self._check_codes(tokens, "tokens").to(self.null.device)
        if given.shape[1] > self.n_tokens:
            raise ValueError(
                f"tokens must have shape (n, k) with k at most {self.n_tokens}, got {tuple(given.shape)}"
            )
        return self._read(given[:, : self.n_tokens - 1], self._ahead(len(given), y, condition))

    def _read(self, tokens: Tensor, ahead: Tensor | None, cache: KVCache | None = None) -> Tensor:
        """Logits after a start and tokens, or, with a cache that has seen some, after these alone."""
        if cache is None or not len(cache):
            tokens = torch.cat([tokens.new_full((len(tokens), 1), self.n_codes), tokens], 1)
        else:
            ahead = None
        hidden = self.net.features(tokens, cache, prefix=ahead)
        hidden = self.norm(nn.functional.gelu(self.project(hidden)))
        return nn.functional.linear(hidden, self.net.embed.weight[:-1], self.net.bias[:-1])

    def _ahead(self, n: int, y: Any, condition: Any, shown: Tensor | None = None) -> Tensor | None:
        """What stands before the start, (n, n_ahead, width); of rows that are not ``shown`` null vectors."""
        if y is not None and not self.n_classes:
            raise ValueError("y was given, but the prior was built with n_classes=0")
        if condition is not None and not self.max_condition_tokens:
            raise ValueError("a condition was given, but the prior was built with max_condition_tokens=0")
        if not self.n_ahead:
            return None
        rows = list(self.null.expand(n, -1, -1).unbind(1))
        shown = torch.ones(n, dtype=torch.bool, device=self.null.device) if shown is None else shown
        if y is not None:
            labels = self._labels(y, n)
            known = (shown & (labels >= 0))[:, None]
            rows[0] = torch.where(known, self.classes(labels.clamp(min=0)), rows[0])
        if condition is not None:
            vectors = self._vectors(condition, n)
            # the last ones, next to the start
            for i, vector in enumerate(vectors.unbind(1), self.n_ahead - vectors.shape[1]):
                rows[i] = torch.where(shown[:, None], vector, rows[i])
        return torch.stack(rows, 1)

    def _labels(self, y: Any, n: int) -> Tensor:
        check_unmasked(y, "y")
        try:
            # a copy, since torch warns of arrays that cannot be written
            labels = torch.as_tensor(np.array(y) if isinstance(y, np.ndarray) else y, device=self.null.device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"y must hold whole numbers, one class or one a shape, got {type(y).__name__} ({error})"
            ) from error
        # torch takes an empty list for real numbers
        labels = labels if labels.numel() else labels.long()
        if labels.is_floating_point() or labels.dtype == torch.bool or labels.is_complex():
            raise TypeError(f"y must hold whole numbers, got {labels.dtype}")
        labels = labels.long().expand(n) if labels.ndim == 0 else labels.long()
        if labels.shape != (n,):
            raise ValueError(f"y must be one class, or one a shape: ({n},), got shape {tuple(labels.shape)}")
        if len(labels) and not bool(((labels >= -1) & (labels < self.n_classes)).all()):
            raise ValueError(
                f"classes go from 0 to {self.n_classes - 1} (-1: not known), got {int(labels.min())} to "
                f"{int(labels.max())}"
            )
        return labels

    def _vectors(self, condition: Any, n: int) -> Tensor:
        given = check_tensor(condition, "condition").to(self.null.device)
        most, dim = self.max_condition_tokens, self.condition_dim
        wanted = f"(n, up to {most})" if dim is None else f"(n, up to {most}, {dim})"
        ending = () if dim is None else (dim,)
        if given.ndim != 2 + len(ending) or given.shape[2:] != ending or given.shape[1] > most:
            raise ValueError(f"condition must have shape {wanted}, got {tuple(given.shape)}")
        if len(given) not in (1, n):
            raise ValueError(f"condition must be of one shape, for all, or of {n}, got {len(given)}")
        if dim is None:
            vectors = self.net.embed(self._check_codes(given, "condition"))
        else:
            given = given.to(self.read.weight.dtype)
            if not bool(given.isfinite().all()):
                raise ValueError(
                    f"condition has {int((~given.isfinite()).sum())} numbers that are NaN or infinite in "
                    f"{given.dtype}; drop those shapes, or scale the features"
                )
            vectors = self.read(given)
        return vectors.expand(n, -1, -1)

    def _check_codes(self, tokens: Tensor, name: str) -> Tensor:
        check_tensor(tokens, name)
        if tokens.is_floating_point() or tokens.dtype == torch.bool:
            raise TypeError(f"{name} must hold codes, whole numbers; got {tokens.dtype}")
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.n_codes:
            raise ValueError(
                f"{name} must hold codes from 0 to {self.n_codes - 1}, got {int(tokens.min())} to "
                f"{int(tokens.max())}"
            )
        return tokens.long()

    def loss(
        self,
        tokens: Int[Tensor, "batch S"],
        *,
        y: Any = None,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, ""]:
        """Return the cross-entropy of shapes' tokens, nats a token; in training classes and conditions are left out.

        Parameters
        ----------
        y : int Tensor, shape (batch,), optional
            Classes; -1 is not known.
        condition : Tensor, optional
            Features, shape (batch, k, condition_dim), or tokens, shape (batch, k); k at most
            ``max_condition_tokens``.

        Raises
        ------
        ValueError
            Tokens, classes or conditions of another shape or range, or that the model was not built for.
        """
        tokens = self._check_codes(tokens, "tokens").to(self.null.device)
        if tokens.shape[1] != self.n_tokens or not len(tokens):
            raise ValueError(f"tokens must have shape (n, {self.n_tokens}), got {tuple(tokens.shape)}")
        shown = None
        if self.training and self.p_uncond:
            where = self.null.device if generator is None else generator.device
            drawn = torch.rand(len(tokens), generator=generator, device=where)
            shown = (drawn >= self.p_uncond).to(self.null.device)
        written = tokens[:, self.order]
        logits = self._read(written[:, :-1], self._ahead(len(tokens), y, condition, shown))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return nn.functional.cross_entropy(logits.transpose(1, 2), written)

    @torch.no_grad()
    def sample(
        self,
        n: int | np.integer,
        *,
        y: Any = None,
        condition: Tensor | None = None,
        prefix_tokens: Int[Tensor, "shapes k"] | None = None,
        top_k: int | None = None,
        top_p: float | int | None = None,
        temperature: float | int = 1.0,
        guidance: float | int = 1.0,
        generator: torch.Generator | None = None,
        use_cache: bool = True,
    ) -> Int64[Tensor, "n S"]:
        """Write the tokens of n shapes.

        Parameters
        ----------
        y : int, or n of them, optional
            Classes.
        condition : Tensor, optional
            As in :meth:`loss`; of one shape for all, or one each.
        prefix_tokens : int Tensor, shape (n, k) or (1, k), optional
            The first k tokens, in the order in which they are written; they stay as they are.
        top_k, top_p, temperature
            See :func:`lodim.nets.keep_likely`; the paper's ``top_k`` is 250 of 8,192.
        guidance : float
            1: as trained; 0: nothing is known; above 1: surer of what is known and less diverse.
        use_cache : bool
            Keep keys and values, instead of reading all tokens again for each new one.

        Raises
        ------
        ValueError
            As in :meth:`loss`; or guidance without anything to guide by.
        """
        n = int(check_in_range(n, "n", low=0, integer=True))
        scale = float(check_in_range(guidance, "guidance", low=-sys.float_info.max, high=sys.float_info.max))
        guides = scale != 1
        if guides and y is None and condition is None:
            raise ValueError("guidance needs a class or a condition to guide by; give y or condition")
        ahead = self._ahead(n, y, condition)
        if guides and ahead is not None:
            ahead = torch.cat([ahead, self.null.expand_as(ahead)])
        tokens = torch.zeros(n, 0, dtype=torch.int64, device=self.null.device)
        if prefix_tokens is not None:
            given = self._check_codes(prefix_tokens, "prefix_tokens").to(self.null.device)
            if given.shape[1] > self.n_tokens or len(given) not in (1, n):
                raise ValueError(
                    f"prefix_tokens must have shape ({n}, k) or (1, k) with k at most {self.n_tokens}, got "
                    f"{tuple(given.shape)}"
                )
            tokens = given.expand(n, -1)
        cache, new = KVCache() if use_cache else None, tokens
        with evaluation_mode(self):
            while tokens.shape[1] < self.n_tokens:
                read = new if use_cache else tokens
                logits = self._read(read.repeat(2, 1) if guides else read, ahead, cache)[:, -1]
                if guides:
                    known, unknown = logits.chunk(2)
                    logits = unknown + scale * (known - unknown)
                likely = keep_likely(logits, top_k=top_k, top_p=top_p, temperature=temperature)
                new = sample_categorical(likely, generator=generator)[:, None]
                tokens = torch.cat([tokens, new], 1)
        return tokens[:, self.order.argsort()]
