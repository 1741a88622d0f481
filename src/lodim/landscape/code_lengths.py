r"""Code lengths and the code itself: how many bits a vector of weights costs, and the bytes that prove it.

The problem: a trained model is a short vector v of d numbers. Its description length bounds how much it can have
memorised, so the length must be that of an actual code: v is rounded to a codebook of a few values, and the sequence
of codebook indices is entropy coded with its empirical frequencies, which are sent along.

Let n_k be how often symbol k occurs among d symbols of a codebook with L values. The message has

.. math:: K = \lceil \textstyle\sum_k n_k \log_2(d / n_k) \rceil + 16 L + \lceil \log_2 d \rceil L

bits: the coded symbols, the codebook in half precision, and the counts (each used value occurs 1 to d times). Such a
message is decodable by a receiver who knows d and L; a *prefix-free* message, whose end the receiver can tell, costs
:math:`K' = K + 2 \log_2 K`. Nothing here adds that term by itself: whoever states a generalisation bound calls
:func:`prefix_free_bits` on the message's bits, once (:class:`~lodim.landscape.CompressedModel` does).

=============================== =============================================
symbol                          name here
=============================== =============================================
:math:`K`                       :func:`message_length_bits`
:math:`K'`                      :func:`prefix_free_bits`
:math:`\sum_k n_k\log_2(d/n_k)` :func:`arithmetic_code_length`
codebook, indices               ``Quantized.codebook``, ``Quantized.codes``
=============================== =============================================

Sources: the message layout follows S. Lotfi et al., "PAC-Bayes compression bounds so tight that they can explain
generalization" (arXiv 2211.13609), Section 4; the coder is the range variant of J. Duda's asymmetric numeral systems
(arXiv 1311.2540); exact one-dimensional k-means is the dynamic programme of H. Wang and M. Song (2011) with the
divide and conquer over monotone split points. Departure: Lotfi et al. train the codebook only by gradient;
here it starts at the global k-means optimum.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lodim.validation import (
    check_choice,
    check_in_range,
    check_labels,
    check_numbers,
    checked,
    plain_array,
)

__all__ = [
    "Quantized",
    "arithmetic_code_length",
    "message_length_bits",
    "prefix_free_bits",
    "quantize_codebook",
]

_WORD = 16  # bits the coder moves out of its state at a time
_HEADROOM = 32  # bits of the state below the model's total: frequencies are exact to 2**-32


@dataclass(frozen=True, eq=False)
class Quantized:
    """A vector rounded to a codebook.

    Attributes
    ----------
    codes : ndarray of int64, shape (d,)
        Index of each entry's codebook value; every index in ``range(len(codebook))`` occurs.
    codebook : ndarray of float16, shape (n_levels,)
        Increasing.
    """

    codes: np.ndarray
    codebook: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """The rounded vector, shape (d,), float32."""
        return self.codebook.astype(np.float32)[self.codes]


@checked
def quantize_codebook(
    vec: Any, n_levels: int, method: str = "kmeans", *, weights: np.ndarray | None = None
) -> Quantized:
    """Round a vector to at most ``n_levels`` values chosen for it.

    Parameters
    ----------
    vec : array-like, shape (d,)
        Finite numbers within half precision's range.
    n_levels : int
        Most codebook values. Fewer come back where fewer are used (few distinct entries, or empty bins).
    method : {"kmeans", "uniform"}
        ``"kmeans"``: the exact least-squares codebook, O(n_levels d log d). ``"uniform"``: equal bins from the least to
        the largest entry, each represented by its members' mean.
    weights : ndarray, shape (d,), optional
        Positive: what a squared error at each entry counts (its second derivative in the loss, say); 1 if not given.

    Returns
    -------
    Quantized
        Each entry has the nearest codebook value, ties downwards; the codebook is rounded to float16 first.

    Raises
    ------
    ValueError
        Empty or non-finite vector, entries beyond 65504, ``n_levels`` below 1, unknown method, weights that are not
        positive numbers, one an entry.
    """
    vec = _as_vector(vec)
    check_in_range(n_levels, "n_levels", low=1, integer=True)
    check_choice(method, ("kmeans", "uniform"), "method")
    values, inverse = np.unique(vec, return_inverse=True)
    mass = np.bincount(inverse, _positive(weights, len(vec)))
    if method == "kmeans":
        first = _kmeans_starts(values, mass, min(int(n_levels), len(values)))
    else:
        low, high = values[0], values[-1]
        bins = ((values - low) / max(high - low, 1e-300) * n_levels).astype(np.int64)
        bins = np.minimum(bins, n_levels - 1)
        first = np.flatnonzero(np.diff(bins, prepend=-1))
    centres = np.add.reduceat(values * mass, first) / np.add.reduceat(mass, first)
    return round_to_codebook(vec, centres)


def round_to_codebook(vec: np.ndarray, values: np.ndarray) -> Quantized:
    """Round a vector to given values, themselves rounded to half precision first; unused ones are dropped.

    ValueError where one that is used does not fit it, or where the vector or the values are not finite.
    """
    with np.errstate(over="ignore"):  # said just below
        codebook = np.unique(np.asarray(values).astype(np.float16))
    codes = nearest_codes(vec, codebook)
    used = np.unique(codes)
    if not (np.isfinite(vec).all() and np.isfinite(codebook[used]).all()):
        raise ValueError(
            "the numbers, or their codebook in half precision (up to 65504), are NaN or infinite"
        )
    return Quantized(np.searchsorted(used, codes), codebook[used])


def _as_vector(vec: Any) -> np.ndarray:
    """Check a vector that is to be rounded to half precision; return it in float64."""
    array = check_numbers(vec, "vec")
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"vec must be a vector with at least one entry, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"vec has {int((~np.isfinite(array)).sum())} NaN or infinite entries")
    largest = float(np.abs(array).max())
    if largest > float(np.finfo(np.float16).max):
        raise ValueError(
            f"vec has an entry of size {largest:g}, which does not fit a half-precision codebook (65504); rescale"
        )
    return array


def _positive(weights: np.ndarray | None, d: int) -> np.ndarray:
    """Check the entries' weights, ones if there are none; return them in float64."""
    if weights is None:
        return np.ones(d)
    array = check_numbers(weights, "weights")
    if array.shape != (d,) or not (np.isfinite(array) & (array > 0)).all():
        raise ValueError(
            f"weights must be {d} positive numbers, one an entry; got shape {array.shape}, "
            f"{int((~(array > 0)).sum())} of them zero, negative or NaN"
        )
    return array


def nearest_codes(vec: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Index of the increasing codebook's value nearest to each entry, ties downwards."""
    book = codebook.astype(np.float64)
    return np.searchsorted((book[1:] + book[:-1]) / 2, vec, side="left")


def _kmeans_starts(values: np.ndarray, weights: np.ndarray, k: int) -> np.ndarray:
    """First index of each cluster of the optimal k-means partition of sorted distinct values.

    best[i] is the least cost of values[:i] in q clusters; the last cluster's start is monotone in i, which lets the
    positions halfway between known ones search only between those ones' starts.
    """
    n = len(values)
    shifted = values - np.average(values, weights=weights)  # less cancellation in the sums of squares
    sums = np.stack([np.concatenate([[0.0], np.cumsum(weights * shifted**p)]) for p in range(3)])

    best = np.concatenate([[0.0], _spread(sums, np.zeros(n, np.int64), np.arange(1, n + 1))])
    splits = []
    for q in range(2, k + 1):
        best, start = _next_layer(best, sums, q, n)
        splits.append(start)
    first, stop = [], n
    for start in reversed(splits):
        stop = int(start[stop])
        first.append(stop)
    return np.array([0, *reversed(first)])


def _spread(sums: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Weighted sum of squared deviations of values[start:stop], from the running sums of their powers 0, 1, 2."""
    w, s, ss = sums[:, stop] - sums[:, start]
    return np.maximum(ss - s * s / w, 0.0)


def _next_layer(best: np.ndarray, sums: np.ndarray, q: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """One layer of the k-means programme: least cost and last cluster's start for every prefix in q clusters."""
    new, start = np.full(n + 1, np.inf), np.full(n + 2, n - 1)
    start[q - 1] = q - 1  # with start[n + 1] = n - 1: the limits of the outermost searches
    for power in reversed(range((n - q + 1).bit_length())):
        step = 1 << power  # odd multiples of it past q - 1 are new, even ones known
        stops = np.arange(q - 1 + step, n + 1, 2 * step)
        low = start[stops - step]
        high = np.minimum(start[np.minimum(stops + step, n + 1)], stops - 1)
        lengths = high - low + 1
        offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        candidate = np.arange(lengths.sum()) - np.repeat(offsets - low, lengths)
        total = best[candidate] + _spread(sums, candidate, np.repeat(stops, lengths))
        new[stops] = np.minimum.reduceat(total, offsets)
        hit = np.flatnonzero(total == np.repeat(new[stops], lengths))
        owner = np.searchsorted(offsets, hit, side="right") - 1
        start[stops[owner[::-1]]] = candidate[hit[::-1]]  # the first of equal candidates is written last
    return new, start


def _counts(symbols: Any, n_symbols: int | None) -> np.ndarray:
    """Occurrences of each symbol."""
    array = check_labels(symbols, len(plain_array(symbols, "symbols", rows=True)), name="symbols")
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(
            f"symbols must be a vector of integers, got shape {array.shape} and dtype {array.dtype}"
        )
    array = array.astype(np.int64)
    least = int(array.max(initial=-1)) + 1
    n = least if n_symbols is None else int(check_in_range(n_symbols, "n_symbols", low=0, integer=True))
    if array.size and (array.min() < 0 or array.max() >= n):
        raise ValueError(f"symbols must lie in 0..{n - 1}, got {array.min()}..{array.max()}")
    return np.bincount(array, minlength=n)


@checked
def arithmetic_code_length(symbols: Any, n_symbols: int | None = None) -> float:
    """Bits of a sequence coded with its own frequencies: its length times its empirical entropy.

    Parameters
    ----------
    symbols : array-like of int, shape (d,)
    n_symbols : int, optional
        Size of the alphabet; the largest symbol plus one if not given. Does not change the length.

    Returns
    -------
    float
        :func:`encode_symbols` takes at most 1% and 32 bits more.
    """
    counts = _counts(symbols, n_symbols)
    used = counts[counts > 0].astype(np.float64)
    return float((used * np.log2(used.sum() / used)).sum()) if len(used) else 0.0


@checked
def message_length_bits(symbols: Any, n_symbols: int | None = None, *, codebook_bits: int = 16) -> int:
    """Bits K of a quantised vector: coded symbols, codebook and counts (the module's equation).

    Parameters
    ----------
    symbols : array-like of int, shape (d,)
    n_symbols : int, optional
        Number of codebook values.
    codebook_bits : int
        Bits of one codebook value.

    Returns
    -------
    int
        Not prefix-free: see :func:`prefix_free_bits`.
    """
    check_in_range(codebook_bits, "codebook_bits", low=0, integer=True)
    counts = _counts(symbols, n_symbols)
    d = int(counts.sum())
    count_bits, _ = _count_bits(len(counts), d)
    return math.ceil(arithmetic_code_length(symbols, n_symbols)) + (codebook_bits + count_bits) * len(counts)


@checked
def prefix_free_bits(bits: int | float) -> float:
    """Bits K' = K + 2 log2 K of a message that tells its own end.

    Parameters
    ----------
    bits : float
        Bits K of the message itself; below one it is free of the extra term.

    Raises
    ------
    ValueError
        Negative bits.
    """
    check_in_range(bits, "bits", low=0)
    return float(bits) + 2 * math.log2(max(float(bits), 1.0))


def encode_symbols(symbols: Any, counts: Sequence[int] | np.ndarray) -> bytes:
    """Entropy code a sequence whose symbol counts (``numpy.bincount(symbols)``) the receiver knows.

    A state x of the range coder takes in a symbol of frequency f among M by
    ``x -> M (x div f) + start + x mod f``: it grows by log2(M / f) bits, exactly the symbol's information. At most d
    times the entropy plus four bytes; empty for a constant or empty sequence.
    """
    counts = [int(c) for c in counts]
    if _counts(symbols, len(counts)).tolist() != counts:
        raise ValueError("counts are not the symbols' own; pass numpy.bincount(symbols, minlength=n_symbols)")
    total, starts = sum(counts), [0, *np.cumsum(counts, dtype=np.int64).tolist()]
    state, words = 0, []
    for symbol in reversed(np.asarray(symbols).tolist()):
        frequency = counts[symbol]
        while state >> (_WORD + _HEADROOM) >= frequency:
            words.append(state & 0xFFFF)
            state >>= _WORD
        high, low = divmod(state, frequency)
        state = total * high + starts[symbol] + low
    size = _state_bytes(total) if words else (state.bit_length() + 7) // 8
    return state.to_bytes(size, "big") + b"".join(word.to_bytes(2, "big") for word in reversed(words))


def decode_symbols(payload: bytes, counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the sequence that :func:`encode_symbols` coded with these counts, or raise ValueError."""
    counts = [int(c) for c in counts]
    total, starts = sum(counts), np.cumsum([0, *counts], dtype=np.int64).tolist()
    split = min(_state_bytes(total), len(payload))
    state, rest = int.from_bytes(payload[:split], "big"), payload[split:]
    if len(rest) % 2:
        raise ValueError(f"the coded message is cut: {len(payload)} bytes")
    words = iter(np.frombuffer(rest, dtype=">u2").tolist())
    lowest, symbols, unread = total << _HEADROOM, [], len(rest) // 2
    for _ in range(total):
        high, slot = divmod(state, total)
        symbol = bisect_right(starts, slot) - 1
        state = counts[symbol] * high + slot - starts[symbol]
        symbols.append(symbol)
        while unread and state < lowest:
            state, unread = (state << _WORD) | next(words), unread - 1
    decoded = np.array(symbols, dtype=np.int64)
    if state or unread or np.bincount(decoded, minlength=len(counts)).tolist() != counts:
        raise ValueError("the coded message does not belong to these symbol counts, or is damaged")
    return decoded


def _state_bytes(total: int) -> int:
    """Bytes of the coder's state once words have left it: it stays below total << 48."""
    return (total.bit_length() + _HEADROOM + _WORD + 7) // 8


def little_endian(array: np.ndarray) -> bytes:
    """The array's bytes, the same on every machine."""
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def pack_quantized(quantized: Quantized) -> bytes:
    """The message of :func:`message_length_bits` as bytes: codebook, counts, coded symbols."""
    counts = np.bincount(quantized.codes).tolist()
    bits, size = _count_bits(len(counts), len(quantized.codes))
    packed = sum((count - 1) << (bits * i) for i, count in enumerate(counts))
    coded = encode_symbols(quantized.codes, counts)
    return little_endian(quantized.codebook) + packed.to_bytes(size, "little") + coded


def unpack_quantized(message: bytes, levels: int, d: int) -> Quantized:
    """Return what :func:`pack_quantized` packed, or raise ValueError for a damaged message.

    The sizes of the codebook and of the vector are left to the message's envelope.
    """
    codebook = np.frombuffer(message[: 2 * levels], "<f2").astype(np.float16)
    bits, size = _count_bits(levels, d)
    packed = int.from_bytes(message[2 * levels : 2 * levels + size], "little")
    counts = [((packed >> (bits * i)) & ((1 << bits) - 1)) + 1 for i in range(levels)]
    return Quantized(decode_symbols(message[2 * levels + size :], counts), codebook)


def _count_bits(levels: int, d: int) -> tuple[int, int]:
    """Bits of one count, which is 1 to d, and bytes of all of them."""
    bits = math.ceil(math.log2(d)) if d > 1 else 0
    return bits, (bits * levels + 7) // 8
