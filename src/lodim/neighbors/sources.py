"""Rows of a source of any kind, read from its beginning, some at a time: :func:`row_blocks`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lodim.validation import check_in_range, checked, close_matches, plain_array, require

__all__ = ["row_blocks"]


@checked
def row_blocks(
    source: Any, block_rows: int | np.integer = 65_536, columns: list[str] | None = None
) -> Iterator[np.ndarray]:
    """Read a source from its beginning, some rows at a time: blocks (b, n_features), float32 if it is, else float64.

    Parameters
    ----------
    source : array, memory map, path, iterable or callable
        A 2-D array, ``np.memmap``, tensor or data frame of numbers; the path of an ``.npy`` or a Parquet file; a
        ``torch.utils.data.DataLoader`` or any iterable of batches (arrays or tensors; of tuples the first entry;
        samples are flattened); a callable that returns an iterator of batches.
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
    if hasattr(source, "detach") or hasattr(source, "to_numpy"):
        source = plain_array(
            source.to_numpy() if hasattr(source, "to_numpy") else source, "source", rows=True
        )
    if isinstance(source, np.ndarray):
        source = plain_array(source, "source", rows=True)
        for start in range(0, len(source), block_rows):
            yield _as_rows(source[start : start + block_rows])
        return
    if callable(source) and not isinstance(source, Iterable):
        try:
            source = iter(source())
        except TypeError as error:
            raise TypeError(
                f"source must be a function that takes no argument and returns an iterator of batches ({error})"
            ) from error
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
    array = plain_array(batch, "a batch")
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
