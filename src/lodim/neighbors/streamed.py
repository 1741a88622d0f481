"""Neighbour graphs of data that do not fit memory: some queries against a stream of blocks of references.

The source is read three times: once to count and hash the rows (repeated rows are dropped as in
:meth:`lodim.neighbors.NeighborGraph.from_data`), once to take the query rows out, once to search every block and merge
its neighbours into the lists. Memory is one block, the queries, their lists, and some tens of bytes a row for hashes
and twins; the queries and the neighbours are those the same seed gives in memory.

Equal rows are told by two 64-bit hashes with independent keys, without looking at the rows again: among a million
million pairs of different rows one is taken for equal with a probability below 10^-24.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lodim.neighbors.duplicates import first_equal_hashes, hash_pairs, row_hashes
from lodim.neighbors.graph import NeighborGraph, choose_queries, safe_scale
from lodim.neighbors.search import search_block
from lodim.randomness import RandomState, as_generator
from lodim.validation import check_in_range, close_matches, require

__all__ = ["row_blocks", "stream_neighbors"]


def row_blocks(
    source: Any, block_rows: int | np.integer = 65_536, columns: list[str] | None = None
) -> Iterator[np.ndarray]:
    """Read a source from its beginning, some rows at a time: blocks (b, n_features), float32 if it is, else float64.

    Parameters
    ----------
    source : array, memory map, path, iterable or callable
        A 2-D array or ``np.memmap``; the path of an ``.npy`` or a Parquet file; a ``torch.utils.data.DataLoader`` or
        any iterable of batches (arrays or tensors; of tuples the first entry; samples are flattened); a callable that
        returns an iterator of batches.
    block_rows : int
        Rows of a block; batches of an iterable are gathered up to it.
    columns : list of str, optional
        Columns of a Parquet file; default: all, which must be numbers.

    Raises
    ------
    TypeError
        A source that can be read only once, or of an unknown kind.
    ValueError
        Rows that are not finite numbers, batches of different width, or columns that the file does not have.
    """
    check_in_range(block_rows, "block_rows", low=1, integer=True)
    seen, width = 0, None
    for block in _gather(_batches(source, int(block_rows), columns), int(block_rows)):
        if width is not None and block.shape[1] != width:
            raise ValueError(f"rows have {width} features, but from row {seen} on {block.shape[1]}")
        finite = np.isfinite(block).all(1)
        if not finite.all():
            raise ValueError(
                f"row {seen + int(np.argmin(finite))} of the source has NaN or infinity; drop or impute it"
            )
        width, seen = block.shape[1], seen + len(block)
        yield block


def _batches(source: Any, block_rows: int, columns: list[str] | None) -> Iterator[np.ndarray]:
    if isinstance(source, str | Path):
        source = Path(source)
        if source.suffix == ".npy":
            source = np.load(source, mmap_mode="r")
        elif source.suffix in (".parquet", ".pq"):
            reader = require("pyarrow.parquet", "parquet").ParquetFile(source)
            _check_columns(columns, list(reader.schema_arrow.names))
            for batch in reader.iter_batches(block_rows, columns=columns):
                yield _as_rows(np.column_stack([c.to_numpy(zero_copy_only=False) for c in batch.columns]))
            return
        else:
            raise ValueError(
                f"{source.name} is neither an .npy nor a .parquet file; give an iterable of batches"
            )
    if columns is not None:
        raise ValueError("columns=... is for Parquet files; leave columns=None")
    if isinstance(source, np.ndarray):
        for start in range(0, len(source), block_rows):
            yield _as_rows(source[start : start + block_rows])
        return
    if callable(source) and not isinstance(source, Iterable):
        source = source()
    elif isinstance(source, Iterator) or not isinstance(source, Iterable):
        raise TypeError(
            "the source is read several times, so it must be an array, a path, an iterable such as a DataLoader, or a "
            f"function that returns an iterator; got {type(source).__name__}"
        )
    for batch in source:
        yield _as_rows(batch[0] if isinstance(batch, tuple | list) else batch)


def _check_columns(columns: list[str] | None, present: list[str]) -> None:
    if columns is None:
        return
    if not len(columns):
        raise ValueError("columns is empty; name some, or leave columns=None for all")
    for name in columns:
        if name not in present:
            hint = close_matches(str(name), present) or f" It has {', '.join(map(repr, present[:20]))}."
            raise ValueError(f"the file has no column {name!r}.{hint}")


def _as_rows(batch: Any) -> np.ndarray:
    array = batch.detach().cpu().numpy() if hasattr(batch, "detach") else np.asarray(batch)
    if array.ndim < 2 or array.dtype.kind not in "biuf":
        raise ValueError(
            f"a batch must hold numbers, rows first, got shape {array.shape} of {array.dtype}; "
            "for text columns give columns=[...]"
        )
    single = array.dtype == np.float32
    return np.ascontiguousarray(array.reshape(len(array), -1), dtype=np.float32 if single else np.float64)


def _gather(batches: Iterator[np.ndarray], block_rows: int) -> Iterator[np.ndarray]:
    held: list[np.ndarray] = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= block_rows:
            yield np.concatenate(held) if len(held) > 1 else held[0]
            held = []
    if held:
        yield np.concatenate(held) if len(held) > 1 else held[0]


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
        How many random rows to search from; None: all, which takes their memory.
    block_rows : int
        Rows held at a time.
    columns : list of str, optional
        Of a Parquet file.
    device : torch.device or str, optional
        Where the distance blocks are computed; default: the CPU.
    random_state : int, Generator or None
        Draws the queries; the same as in :meth:`NeighborGraph.from_data`.

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
    queries = choose_queries(n_queries, kept, twin, as_generator(random_state))
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
        d, i = np.concatenate([dist, near], 1), np.concatenate([idx, (rows + start)[found]], 1)
        order = np.lexsort((i, d), axis=1)[:, :k]
        dist, idx = np.take_along_axis(d, order, 1), np.take_along_axis(i, order, 1)
    repeated = len(twin) - len(kept)
    return NeighborGraph(dist * scale, idx, len(kept), repeated, queries, twin, n_features=int(Q.shape[1]))


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
