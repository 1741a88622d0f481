"""Neighbour graphs of data that do not fit memory: some queries against a stream of blocks of references.

The source is read three times: once to count and hash the rows (repeated rows are dropped as in
:meth:`lodim.neighbors.NeighborGraph.from_data`), once to take the query rows out, once to search every block and merge
its neighbours into the lists. Memory is one block, the queries, their lists, and some tens of bytes a row for hashes
and twins; the queries and the neighbours are those the same seed gives in memory.

Equal rows are told by two 64-bit hashes with independent keys, without looking at the rows again: among a million
million pairs of different rows one is taken for equal with a probability below 10^-24.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lodim.neighbors.distances import nearest_of
from lodim.neighbors.duplicates import first_equal_hashes, hash_pairs, row_hashes
from lodim.neighbors.graph import NeighborGraph
from lodim.neighbors.queries import choose_queries, in_own_unit, safe_scale
from lodim.neighbors.search import search_block
from lodim.neighbors.sources import row_blocks
from lodim.randomness import RandomState, as_generator
from lodim.validation import check_in_range, checked

__all__ = ["stream_neighbors"]


def _scan(blocks: Iterator[np.ndarray]) -> tuple[np.ndarray, np.ndarray, float]:
    """Hashes (n,) of two keys mixed into pairs (n, 2), the twin of each row, and the scale that is safe to square."""
    hashes, ends = [], None
    for block in blocks:
        hashes.append(hash_pairs(block))
        low, high = block.min(0), block.max(0)
        ends = np.stack(
            [low, high] if ends is None else [np.minimum(low, ends[0]), np.maximum(high, ends[1])]
        )
    if ends is None:
        raise ValueError("the source has no rows")
    both = np.concatenate(hashes)
    return both[:, 0], first_equal_hashes(both), safe_scale(ends)


@checked
def stream_neighbors(
    source: Any,
    k: int | np.integer | Callable[[int], int],
    *,
    n_queries: int | np.integer | None = 4096,
    block_rows: int | np.integer = 65_536,
    columns: list[str] | None = None,
    device: Any = None,
    random_state: RandomState = None,
) -> NeighborGraph:
    """Search the neighbours of some rows among all rows of a source that is read block by block.

    Parameters
    ----------
    source : array, memory map, path, iterable or callable
        See :func:`row_blocks`; it must give the same rows in the same order each time.
    k : int or callable
        Neighbours of each query; a function gets the number of distinct rows.
    n_queries : int or None
        How many random rows to search from, the same as in :meth:`NeighborGraph.from_data`; None: all, which takes
        their memory.
    block_rows : int
        Rows held at a time.
    columns : list of str, optional
        Of a Parquet file.
    device : torch.device or str, optional
        Where the distance blocks are computed; default: the CPU.

    Raises
    ------
    ValueError
        Fewer than ``k + 1`` distinct rows, rows that are no numbers, or other rows in a later pass (a DataLoader that
        shuffles).
    """
    hashes, twin, scale = _scan(row_blocks(source, block_rows, columns))
    kept = np.flatnonzero(twin == np.arange(len(twin)))
    if len(kept) == 1:
        raise ValueError(f"all {len(twin)} rows of the source are equal, so no row has a neighbour")
    k = int(check_in_range(k(len(kept)) if callable(k) else k, "k", low=1, integer=True))
    if k >= len(kept):
        raise ValueError(f"k={k} neighbours need at least {k + 1} distinct rows, got {len(kept)}; lower k")
    queries = choose_queries(n_queries, kept, twin, as_generator(random_state), "n_queries")
    Q = np.concatenate(
        [block[local] for _, block, local in _again(source, block_rows, columns, hashes, queries)]
    )
    Q = Q if scale == 1.0 else Q / scale
    dist, idx = np.full((len(Q), k), np.inf), np.zeros((len(Q), k), dtype=np.int64)
    for start, block, rows in _again(source, block_rows, columns, hashes, kept):
        if not len(rows):
            continue
        references = block[rows] if scale == 1.0 else block[rows] / scale
        own = _positions(queries, rows + start)
        near, found = search_block(Q, references, k, own, dist[:, -1], device=device)
        together = np.concatenate([dist, near], 1), np.concatenate([idx, (rows + start)[found]], 1)
        dist, idx = nearest_of(*together, k)
    repeated = len(twin) - len(kept)
    dist = in_own_unit(dist, scale)
    return NeighborGraph(dist, idx, len(kept), repeated, queries, twin, n_features=int(Q.shape[1]))


def _positions(queries: np.ndarray, rows: np.ndarray) -> Int[np.ndarray, " n_q"]:
    """Where each query stands among the ascending ``rows``, or -1."""
    at = np.minimum(np.searchsorted(rows, queries), len(rows) - 1)
    return np.where(rows[at] == queries, at, -1)


def _again(
    source: Any,
    block_rows: int | np.integer,
    columns: list[str] | None,
    hashes: np.ndarray,
    wanted: np.ndarray,
) -> Iterator[tuple[int, Float[np.ndarray, "b features"], Int[np.ndarray, " m"]]]:
    """Another pass: the first row of each block, the block, and which of its rows are ``wanted`` (ascending)."""
    start = 0
    for block in row_blocks(source, block_rows, columns):
        end = start + len(block)
        if end > len(hashes) or (row_hashes(block) != hashes[start:end]).any():
            raise ValueError(
                "the source gave other rows when it was read again; it must not shuffle or transform at random "
                "(DataLoader: shuffle=False)"
            )
        low, high = np.searchsorted(wanted, [start, end])
        yield start, block, wanted[low:high] - start
        start = end
    if start != len(hashes):
        raise ValueError(f"the source gave {len(hashes)} rows at first and {start} when it was read again")
