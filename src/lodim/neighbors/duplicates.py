"""Repeated rows and constant columns, found exactly and in linear memory.

Rows are grouped by a 64-bit hash of their bits (integer arithmetic, so equal rows hash equally wherever they stand)
and compared for equality inside a group: a collision costs time, never correctness.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt64

from lodim.validation import checked

__all__ = [
    "constant_columns",
    "first_equal_hashes",
    "first_occurrences",
    "hash_pairs",
    "n_distinct",
    "row_hashes",
]

_CHUNK_ENTRIES = 1 << 22
_SECOND_KEY = 0x5EED


def row_hashes(X: Float[np.ndarray, "n features"], key: int = 0x10D1) -> UInt64[np.ndarray, " n"]:
    """64-bit hashes of rows: equal rows have equal hashes. Another key gives another, independent hash."""
    rng = np.random.default_rng(key)
    multipliers = rng.integers(1 << 63, size=X.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(X), np.uint64)
    step = max(1, _CHUNK_ENTRIES // max(1, X.shape[1]))
    for start in range(0, len(X), step):
        part = X[start : start + step].astype(np.float64) + 0.0  # + 0.0 turns -0.0 into 0.0
        bits = part.view(np.uint64)
        bits ^= bits >> np.uint64(29)  # short fractions have only zeros in their low bits
        bits *= np.uint64(0x9E3779B97F4A7C15)
        bits ^= bits >> np.uint64(32)
        bits *= multipliers
        hashes[start : start + step] = bits.sum(1, dtype=np.uint64)
    return hashes


def hash_pairs(X: Float[np.ndarray, "n features"]) -> UInt64[np.ndarray, "n 2"]:
    """Two independent hashes of each row, which tell rows apart without looking at them again."""
    return np.stack([row_hashes(X), row_hashes(X, _SECOND_KEY)], 1)


def first_equal_hashes(pairs: UInt64[np.ndarray, "n 2"]) -> Int[np.ndarray, " n"]:
    """For each row the index of the first row with the same two hashes (of :func:`hash_pairs`)."""
    order = np.lexsort((np.arange(len(pairs)), pairs[:, 1], pairs[:, 0]))
    ordered = pairs[order]
    new = np.r_[True, (ordered[1:] != ordered[:-1]).any(1)]
    twin = np.empty(len(pairs), dtype=np.int64)
    twin[order] = order[np.flatnonzero(new)[np.cumsum(new) - 1]]
    return twin


@checked
def first_occurrences(X: Float[np.ndarray, "n features"]) -> Int[np.ndarray, " n"]:
    """Return for each row (finite numbers) the position of the first row equal to it, its own if it is the first."""
    hashes = row_hashes(X)
    order = np.argsort(hashes, kind="stable")
    first = np.arange(len(X), dtype=np.int64)
    starts = np.flatnonzero(np.r_[True, np.diff(hashes[order]) != 0])
    ends = np.r_[starts[1:], len(X)]
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1]):
        members = order[start:end]  # ascending, because the sort is stable
        while len(members) > 1:
            same = (X[members] == X[members[0]]).all(axis=1)
            same[0] = True  # of NaN too, which no comparison finds equal to itself
            first[members[same]] = members[0]
            members = members[~same]
    return first


@checked
def constant_columns(X: Float[np.ndarray, "n features"]) -> tuple[int, ...]:
    """Return the positions of the columns that hold one value only."""
    if not len(X):
        raise ValueError(f"X must have rows, got shape {X.shape}")
    return tuple(int(j) for j in np.flatnonzero(X.max(axis=0) == X.min(axis=0)))


@checked
def n_distinct(X: Float[np.ndarray, "n features"]) -> int:
    """Return the number of different rows."""
    return int((first_occurrences(X) == np.arange(len(X))).sum())
