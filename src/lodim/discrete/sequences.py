r"""How good generated sequences of tokens are: an n-gram model as the judge, and what its perplexity must come with.

Perplexity alone can be bought: samples that repeat a few likely tokens have a lower one than real text. The entropy of
a sequence's own token frequencies :math:`f_v`, its mean over sequences, tells:

.. math::

    \mathrm{perplexity} = \exp\Big(-\frac{1}{nL} \sum_{i} \log q(x_i)\Big), \qquad
    \mathrm{entropy} = -\frac1n \sum_i \sum_v f_{iv} \log f_{iv} \le \log L.

So :func:`generative_perplexity` answers with both. A large language model is the usual judge q; :class:`NGramScorer` is
one that trains in seconds, needs nothing downloaded and says the same on every machine. Compare within one judge only.

Sources: K. Zheng and others, arXiv 2409.02908, section 5 (both figures together); G. Lidstone, 1920 (adding alpha).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor, float32, from_numpy, promote_types

from lodim.results import Result
from lodim.validation import check_counts, check_in_range, check_kind, check_numbers, checked, plain_array

__all__ = [
    "GenerativePerplexity",
    "NGramScorer",
    "SequenceScorer",
    "bits_per_dim",
    "generative_perplexity",
    "sequence_entropy",
]


@runtime_checkable
class SequenceScorer(Protocol):
    """A judge of sequences."""

    def score_samples(self, sequences: Any) -> Any:
        """Return the log-probability of each sequence, (n,), nats."""


@checked
class NGramScorer:
    r"""A model of sequences in which each token depends on the ``order - 1`` before it, by smoothed counts.

    .. math:: q(v \mid c) = \frac{\#(c, v) + \alpha}{\#(c) + \alpha V}

    The first tokens see a begin symbol in place of those that are missing: a context like any other, of which there is
    one a sequence. So fit on sequences cut as those to be scored are, not on one long text.

    Parameters
    ----------
    n_tokens : int
        V; tokens are 0 to V - 1.
    order : int
        3 is a trigram model, 1 counts tokens alone.
    alpha : float
        Added to every count, positive.

    Attributes
    ----------
    n_sequences_ : int
        How many it has seen.

    Raises
    ------
    ValueError
        Numbers out of range; so many tokens that an n-gram has no 64-bit number.

    Examples
    --------
    >>> scorer = NGramScorer(2, order=2).fit([[0, 1, 0, 1], [1, 0, 1, 0]])
    >>> np.exp(scorer.score_samples([[0, 1, 0, 1], [0, 0, 0, 0]])).round(4)
    array([0.4546, 0.    ])
    """

    def __init__(self, n_tokens: int, order: int = 3, *, alpha: float | int = 0.1) -> None:
        check_counts(n_tokens=n_tokens, order=order)
        if not 0 < check_in_range(alpha, "alpha", low=0.0) < math.inf:
            raise ValueError(f"alpha must be positive and finite, got {alpha}")
        if order * math.log2(n_tokens + 1) > 62:
            raise ValueError(f"{n_tokens} tokens in n-grams of {order} are too many to number; lower order")
        self.n_tokens, self.order, self.alpha = int(n_tokens), int(order), float(alpha)

    def fit(self, sequences: Any) -> NGramScorer:
        """Count the n-grams of sequences, tokens of shape (n, length), and return self.

        What is no such array, or empty, is a ValueError.
        """
        x = _sequences(sequences, self.n_tokens)
        grams = self._grams(x)
        self.n_sequences_ = len(x)
        self._seen, self._counts = np.unique(grams, return_counts=True)
        self._contexts, self._totals = np.unique(grams // (self.n_tokens + 1), return_counts=True)
        return self

    def score_samples(self, sequences: Any) -> Any:
        """Return the log-probability of each sequence in nats, shape (n,): a tensor for a tensor.

        Before :meth:`fit` it is a RuntimeError; a ValueError as there.
        """
        if not hasattr(self, "n_sequences_"):
            raise RuntimeError("this NGramScorer has counted nothing yet; call fit(sequences) first")
        grams = self._grams(_sequences(sequences, self.n_tokens))
        together = _looked_up(grams, self._seen, self._counts)
        before = _looked_up(grams // (self.n_tokens + 1), self._contexts, self._totals)
        total = (np.log(together + self.alpha) - np.log(before + self.alpha * self.n_tokens)).sum(1)
        return from_numpy(total).to(sequences.device) if isinstance(sequences, Tensor) else total

    def _grams(self, x: Int64[np.ndarray, "n length"]) -> Int64[np.ndarray, "n length"]:
        """The number of the n-gram that ends at each place, its last token the last digit."""
        padded = np.pad(x, ((0, 0), (self.order - 1, 0)), constant_values=self.n_tokens)
        grams = np.zeros_like(x)
        for shift in range(self.order):
            grams = grams * (self.n_tokens + 1) + padded[:, shift : shift + x.shape[1]]
        return grams


def _looked_up(
    keys: Int64[np.ndarray, "n length"], known: Int64[np.ndarray, " m"], counts: Int64[np.ndarray, " m"]
) -> Int64[np.ndarray, "n length"]:
    """Counts of keys, 0 of one that was never seen."""
    at = np.searchsorted(known, keys).clip(max=len(known) - 1)
    return np.where(known[at] == keys, counts[at], 0)


def _sequences(
    values: Any, n_tokens: int | None = None, name: str = "sequences"
) -> Int64[np.ndarray, "n length"]:
    """Tokens as an array; texts as numbers of their characters."""
    x = plain_array(values, name, rows=True)
    if x.dtype.kind == "U" and x.ndim == 1 and x.size:
        if n_tokens is not None:
            raise ValueError(
                "sequences, and samples, must hold tokens here, not texts: a vocabulary's encode(texts) makes them"
            )
        if len({len(text) for text in x}) > 1:
            raise ValueError(f"{name} must be texts of one length")
        x = np.array([[ord(character) for character in text] for text in x])
    if x.ndim != 2 or not x.size or x.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be whole numbers of shape (n, length), at least one of them, got {x.dtype} of shape "
            f"{x.shape}" + ("; a single one is x[None]" if x.ndim == 1 else "")
        )
    if n_tokens is not None and not 0 <= x.min() <= x.max() < n_tokens:
        raise ValueError(
            f"{name} must hold tokens from 0 to {n_tokens - 1}, got {x.min()} to {x.max()}"
            + ("; places that are still hidden cannot be scored" if x.max() == n_tokens else "")
        )
    return x.astype(np.int64)


@dataclass(frozen=True)
class GenerativePerplexity(Result):
    """Perplexity of samples under a judge, and their entropy, without which it says little.

    Attributes
    ----------
    perplexity, perplexity_se : float
        A token, and its standard error over sequences.
    entropy, entropy_se : float
        Of a sequence's token frequencies, nats, the mean over sequences and its standard error.
    n, length : int
        Sequences, and tokens in each.
    """

    perplexity: float
    perplexity_se: float
    entropy: float
    entropy_se: float
    n: int
    length: int

    def __str__(self) -> str:
        return (
            f"perplexity {self.perplexity:.4g} (se {self.perplexity_se:.2g}) at entropy {self.entropy:.4g} nats "
            f"(se {self.entropy_se:.2g}); {self.n:,} sequences of {self.length} tokens"
        )


@checked
def generative_perplexity(samples: Any, scorer: Any) -> GenerativePerplexity:
    """Judge generated sequences: their perplexity under a scorer, always with their entropy.

    Parameters
    ----------
    samples : array-like or Tensor, shape (n, length)
        Tokens.
    scorer : SequenceScorer
        Fitted, with ``score_samples``; best on data that no sample was trained on.

    Raises
    ------
    ValueError
        Samples that are no tokens; scores that are not finite or not one a sequence.

    Examples
    --------
    >>> scorer = NGramScorer(4, order=1).fit(np.arange(8).reshape(2, 4) % 4)
    >>> print(generative_perplexity(np.zeros((3, 4), dtype=int), scorer))
    perplexity 4 (se 0) at entropy 0 nats (se 0); 3 sequences of 4 tokens
    """
    check_kind(scorer, SequenceScorer, "scorer")
    x = _sequences(samples, name="samples")
    logs = plain_array(scorer.score_samples(samples), "the scores").astype(np.float64)
    if logs.shape != (len(x),) or not np.isfinite(logs).all():
        raise ValueError(
            f"the scorer must give {len(x)} finite log-probabilities, got {np.isfinite(logs).sum()} finite ones of "
            f"shape {logs.shape}"
        )
    loss, own = -logs / x.shape[1], _entropies(x)
    value = math.exp(loss.mean())
    return GenerativePerplexity(value, value * _se(loss), float(own.mean()), _se(own), len(x), x.shape[1])


@checked
def sequence_entropy(samples: Any) -> float:
    """Return the entropy of a sequence's token frequencies, in nats, averaged over sequences.

    Parameters
    ----------
    samples : array-like or Tensor, shape (n, length), or list of str
        Tokens; of texts of one length, characters.

    Raises
    ------
    ValueError
        Anything else, or no sequence.

    Examples
    --------
    >>> round(sequence_entropy(["abab", "aaaa"]), 4)  # half of log 2
    0.3466
    """
    return float(_entropies(_sequences(samples, name="samples")).mean())


def _entropies(x: Int64[np.ndarray, "n length"]) -> Float[np.ndarray, " n"]:
    tokens, number = np.unique(x, return_inverse=True)
    pairs, counts = np.unique(
        np.arange(len(x))[:, None] * len(tokens) + number.reshape(x.shape), return_counts=True
    )
    shares = counts / x.shape[1]
    return np.bincount(pairs // len(tokens), -shares * np.log(shares), minlength=len(x)) + 0.0  # no -0


def _se(values: Float[np.ndarray, " n"]) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


@checked
def bits_per_dim(log_prob: Any, n_dims: int) -> Any:
    """Return the bits a token, or a pixel, that log-probabilities in nats amount to.

    Parameters
    ----------
    log_prob : float, array or Tensor
        Of whole sequences, or of images.
    n_dims : int
        Tokens or pixels in each.

    Examples
    --------
    >>> bits_per_dim(np.array([-8, -4]) * np.log(2), 8)
    array([1. , 0.5])
    """
    check_counts(n_dims=n_dims)
    if isinstance(log_prob, Tensor):  # half precision in single
        return -log_prob.to(promote_types(log_prob.dtype, float32)) / (n_dims * math.log(2))
    bits = -check_numbers(log_prob, "log_prob") / (n_dims * math.log(2))
    return bits if bits.ndim else float(bits)
