"""Files of tables (CSV and its kin, Parquet) as data frames.

The layout of a text file (delimiter, header, encoding) is found from its first lines, the rest is read by pandas in
blocks, so a file larger than memory gives a random sample of its rows.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..randomness import RandomState, as_generator
from ..validation import close_matches, require
from .dataset import MAX_COLUMNS, MAX_ROWS, check_width, row_limit
from .numerals import is_number

TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".dat", ".data")
DELIMITERS = ("\t", ";", "|", ",")
_BLOCK_ROWS = 20_000


@dataclass(frozen=True)
class Layout:
    """How a text table is written: encoding, delimiter, column names (and which of them were given twice)."""

    encoding: str
    delimiter: str
    names: list[str]
    repeated: list[str]
    header: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Frame:
    """A table as read: the data frame (its index holds the row numbers in the source), all rows, and notes."""

    frame: Any
    n_total: int
    notes: tuple[str, ...]


def read_frame(
    path: str | Path,
    *,
    max_rows: int = MAX_ROWS,
    max_columns: int = MAX_COLUMNS,
    random_state: RandomState = 0,
    header: bool | None = None,
) -> Frame:
    """Read a table file as a data frame, a random sample of its rows when there are too many.

    Whether the first line is a header that names the columns is found from the file by default.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path.name} is empty")
    if ".parquet" in path.suffixes or path.suffix == ".pq":
        return _read_parquet(path, max_rows, max_columns, random_state)
    layout = find_layout(path, max_columns=max_columns, header=header)
    read = sample_rows(
        _text_blocks(path, layout), row_limit(len(layout.names), max_rows), random_state, layout.names
    )
    if read.frame.empty:
        raise ValueError(f"{path.name} has no rows below its header line")
    read.frame.attrs["repeated"] = layout.repeated
    return Frame(read.frame, read.n_total, (*layout.notes, *read.notes))


def choose_column(frame: Any, column: str) -> str:
    """Return the name of a column given by name or position; close matches of an unknown one are suggested."""
    names = [str(c) for c in frame.columns]
    if column in frame.attrs.get("repeated", ()):
        raise ValueError(
            f"two columns are called {column!r}; rename one, or choose by position (0, 1, ... or -1)"
        )
    if column in names:
        return column
    try:
        return names[int(column)]
    except (ValueError, IndexError):
        listed = ", ".join(map(repr, names[:12])) + (", ..." if len(names) > 12 else "")
        hint = close_matches(column, names)
        raise ValueError(f"no column {column!r}.{hint} The columns are {listed}") from None


def sample_rows(
    blocks: Iterable[Any], max_rows: int, random_state: RandomState, names: list[str] | None = None
) -> Frame:
    """Join blocks of rows, keeping a uniform sample of ``max_rows`` (those with the smallest random keys)."""
    import pandas as pd

    rng = as_generator(random_state)
    kept, keys, n_total = [], np.empty(0), 0
    for block in blocks:
        block = block.set_axis(np.arange(n_total, n_total + len(block)), axis=0)
        n_total += len(block)
        kept.append(block)
        keys = np.concatenate([keys, rng.random(len(block))])
        if len(keys) > max_rows:
            chosen = np.sort(np.argsort(keys, kind="stable")[:max_rows])
            kept, keys = [pd.concat(kept).iloc[chosen]], keys[chosen]
    frame = pd.concat(kept) if kept else pd.DataFrame(columns=names or [])
    note = (f"{n_total:,} rows: a random sample of {max_rows:,} is used",) if n_total > len(frame) else ()
    return Frame(frame, n_total, note)


def _text_blocks(path: Path, layout: Layout) -> Iterator[Any]:
    import pandas as pd

    options: dict[str, Any] = {
        "names": layout.names,
        "header": 0 if layout.header else None,
        "index_col": False,
        "encoding": layout.encoding,
        "skipinitialspace": True,
        "low_memory": False,
        "sep": r"\s+" if layout.delimiter == " " else layout.delimiter,
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            with pd.read_csv(path, chunksize=_BLOCK_ROWS, **options) as reader:
                yield from reader
    except (pd.errors.ParserError, pd.errors.ParserWarning, csv.Error) as error:
        detail = str(error).removeprefix("Error tokenizing data. C error: ").strip()
        raise ValueError(
            f"{path.name} is not a regular table of {len(layout.names)} columns separated by "
            f"{_spoken(layout.delimiter)}: {detail}"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path.name} is not text in {layout.encoding} ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    except (OSError, EOFError) as error:
        raise ValueError(f"{path.name} could not be read ({error}); is the file complete?") from error


def _spoken(delimiter: str) -> str:
    return {"\t": "tabs", " ": "spaces", ",": "commas", ";": "semicolons"}.get(delimiter, repr(delimiter))


def _read_parquet(path: Path, max_rows: int, max_columns: int, random_state: RandomState) -> Frame:
    parquet = require("pyarrow.parquet", "parquet")
    source: Any = io.BytesIO(gzip.decompress(path.read_bytes())) if path.suffix == ".gz" else path
    try:
        with parquet.ParquetFile(source) as file:
            n_columns = len(file.schema_arrow.names)
            check_width(n_columns, max_columns, path.name)
            blocks = (batch.to_pandas() for batch in file.iter_batches(batch_size=_BLOCK_ROWS))
            return sample_rows(
                blocks, row_limit(n_columns, max_rows), random_state, list(file.schema_arrow.names)
            )
    except (OSError, require("pyarrow", "parquet").ArrowException) as error:
        raise ValueError(f"{path.name} is not a Parquet file that can be read ({error})") from error


def find_layout(path: Path, *, max_columns: int = MAX_COLUMNS, header: bool | None = None) -> Layout:
    """Find how a text table is written, from its first lines; whether there is a header may be known."""
    encoding, notes = _encoding(path)
    lines = _first_lines(path, encoding)
    if not lines:
        raise ValueError(f"{path.name} is empty")
    check_width(1 + max(lines[0].count(d) for d in DELIMITERS), max_columns, path.name)
    try:
        delimiter = _delimiter(lines, path)
        rows = [_cells(line, delimiter) for line in lines]
    except csv.Error as error:
        raise ValueError(f"{path.name} is not a table of delimited text ({error})") from error
    if header is None:
        header = not _looks_like_data(rows[0])
    width = max(len(row) for row in rows[1:] or rows)
    if not header:
        names = [f"c{i}" for i in range(len(rows[0]))]
        notes += ("no header line: columns are called 'c0', 'c1', ...",) if len(names) > 1 else ()
    else:
        names = [cell.strip() or f"unnamed {i}" for i, cell in enumerate(rows[0])]
        if width == len(names) + 1 and all(len(row) == width for row in rows[1:]):
            names = ["row", *names] if any(row[-1] for row in rows[1:]) else [*names, "unnamed"]
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        notes += (f"repeated column names {', '.join(map(repr, repeated))} were numbered (.2, .3, ...)",)
    return Layout(encoding, delimiter, number_repeated(names), repeated, header, notes)


def number_repeated(names: list[str]) -> list[str]:
    """Return the names with every repetition numbered: a, a.2, a.3."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
    return result


def _open_bytes(path: Path) -> Any:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _encoding(path: Path) -> tuple[str, tuple[str, ...]]:
    """Find a file's encoding: its byte-order mark, UTF-8 if the whole of it decodes, else Windows-1252 (and say so)."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with _open_bytes(path) as file:
            start = file.read(4096)
            if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                return "utf-16", ()
            if b"\0" in start:
                raise ValueError(
                    f"{path.name} is a binary file, not a text table; tables are read from CSV, TSV and Parquet "
                    "(save a spreadsheet as CSV), arrays from NPY and NPZ"
                )
            decoder.decode(start)
            while block := file.read(1 << 20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252", ("the file is not UTF-8; it was read as Windows-1252 (Western European)",)
    except (OSError, EOFError) as error:
        raise ValueError(f"{path.name} could not be read ({error}); is the file complete?") from error
    return "utf-8-sig", ()


def _first_lines(path: Path, encoding: str, most: int = 20) -> list[str]:
    lines = []
    with io.TextIOWrapper(_open_bytes(path), encoding=encoding, errors="replace") as file:
        for line in file:
            if line.strip():
                lines.append(line.rstrip("\r\n"))
            if len(lines) == most:
                break
    return lines


def _cells(line: str, delimiter: str) -> list[str]:
    return line.split() if delimiter == " " else next(csv.reader([line], delimiter=delimiter), [])


def _delimiter(lines: list[str], path: Path) -> str:
    """Return the first delimiter that gives every line the same number of cells, at least two."""
    if ".tsv" in path.suffixes or ".tab" in path.suffixes:
        return "\t"
    for delimiter in DELIMITERS:
        if delimiter in lines[0] and len({len(_cells(line, delimiter)) for line in lines}) == 1:
            return delimiter
    rows = [line.split() for line in lines[1:] or lines]
    numbers = [is_number(cell) for row in rows for cell in row]
    if len(rows[0]) > 1 and len({len(row) for row in rows}) == 1 and np.mean(numbers) > 0.5:
        return " "
    return max(reversed(DELIMITERS), key=lambda d: lines[0].count(d))


def _looks_like_data(cells: list[str]) -> bool:
    """Whether a first line holds data rather than names: some cell is a number, unless they merely count up."""
    numbers = [float(cell) for cell in cells if is_number(cell)]
    steps = np.diff(numbers)
    return len(numbers) > 0 and not (len(numbers) > 1 and bool(np.all(steps == 1)))
