"""Files of tables (CSV and its kin, Parquet, spreadsheets) as data frames.

The layout of a text file is found from its first records, the rest is read by pandas in blocks, as text: what a column
is, is decided from all of its entries (:mod:`lodim.datasets.readings`), also where a file is larger than memory and a
random sample of its rows is kept. Only where a text file has far more rows than are used, it is decided from lines
drawn at random (:mod:`lodim.datasets.thinned`), and a note says so.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..randomness import RandomState, as_generator, derive_seed, root_seed
from ..validation import close_matches, require
from . import spreadsheets
from .dataset import MAX_COLUMNS, MAX_ROWS, check_width, row_limit, sampled_note
from .layouts import Layout, find_layout, find_table, number_repeated, open_text
from .readings import COMMON_ABSENT, Facts, Reading, decide, facts_of, possible
from .thinned import ThinnedLines, share_of_lines

_FIRST_ROWS, _BLOCK_ROWS, _BLOCK_CELLS = 2_000, 20_000, 4_000_000
_ROWS_ABOVE = 30  # by which the last ones are judged
_TOTAL = re.compile(
    r"(?:grand |sub)?(?:totals?|sum|summe|gesamt|gesamtsumme|insgesamt|somme|totale?|total général|suma|Σ|"
    r"average|mean|mittelwert|durchschnitt|moyenne|promedio)\W*",
    re.I,
)


@dataclass(frozen=True, eq=False)
class Frame:
    """A table as read: the data frame, its index the row numbers in the source, how many rows there are, and notes.

    Of lines drawn from a long file the row numbers are not known; they are below 0. ``readings`` say how each column of
    text is meant.
    """

    frame: Any
    n_total: int
    notes: tuple[str, ...]
    readings: Mapping[str, Reading] = field(default_factory=dict)


def read_frame(
    path: str | Path,
    *,
    max_rows: int = MAX_ROWS,
    max_columns: int = MAX_COLUMNS,
    random_state: RandomState = 0,
    header: bool | None = None,
    every_row: bool = False,
) -> Frame:
    """Read a table file as a data frame, a random sample of its rows when there are too many.

    Whether the first line is a header that names the columns is found from the file by default. ``every_row``: rows are
    numbered as in the file, which takes reading them all.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path.name} is empty")
    if ".parquet" in path.suffixes or path.suffix == ".pq":
        return _read_parquet(path, max_rows, max_columns, random_state)
    said: list[str] = []
    blocks: Iterable[Any]
    thinned: list[ThinnedLines] = []
    if path.suffix.lower() in spreadsheets.SUFFIXES:
        names, repeated, said, blocks = _sheet_blocks(path, max_columns, header)
        delimiter, share = "", 1.0
    else:
        layout = find_layout(path, max_columns=max_columns, header=header)
        names, repeated, delimiter = layout.names, layout.repeated, layout.delimiter
        said.extend(layout.notes)
        limit = row_limit(len(names), max_rows)
        share = 1.0 if every_row else share_of_lines(path, layout.encoding, len(names), limit)
        seed = derive_seed(root_seed(random_state), "lines") if share < 1 else 0

        def open_rows() -> io.TextIOWrapper:
            if share == 1:
                return _below_header(open_text(path, layout.encoding), layout)
            thinned.append(ThinnedLines(_below_header(path.open("rb"), layout), share, layout.quote, seed))
            return io.TextIOWrapper(io.BufferedReader(thinned[-1]), encoding=layout.encoding, newline="")

        blocks = _text_blocks(path, layout, open_rows)
    try:
        read = sample_rows(
            _without_lines_around(blocks, names, said, among=" of the lines drawn" if share < 1 else ""),
            row_limit(len(names), max_rows),
            random_state,
            names=names,
            delimiter=delimiter,
            is_text_file=True,
        )
    except ValueError:  # lines are no rows, or what is wrong is to be told by its line in the file
        if not thinned:
            raise
        return read_frame(
            path, max_rows=max_rows, max_columns=max_columns, random_state=random_state, header=header, every_row=True
        )  # fmt: skip
    if read.frame.empty:
        raise ValueError(f"{path.name} has no rows below its header line")
    if thinned:
        lines, kept = thinned[-1], [note for note in read.notes if "random sample" not in note]
        n_total = round(lines.n_lines * read.n_total / lines.n_kept)
        about = "about " * (read.n_total < lines.n_kept)  # some of the lines drawn were no rows
        note = f"{about}{sampled_note(n_total, len(read.frame))}; so is how the columns are meant"
        frame = read.frame.set_axis(
            np.arange(-len(read.frame), 0), axis=0
        )  # which rows of the file is not known
        read = replace(read, frame=frame, n_total=n_total, notes=(note, *kept))
    read.frame.attrs["repeated"] = repeated
    return replace(read, notes=(*said, *read.notes))


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
    blocks: Iterable[Any],
    max_rows: int,
    random_state: RandomState,
    *,
    names: list[str] | None = None,
    delimiter: str = "",
    is_text_file: bool = False,
) -> Frame:
    """Join blocks of rows, keeping a uniform sample of ``max_rows`` (those with the smallest random keys).

    How the columns of text (of a text file: all columns) are meant is decided from all rows.
    """
    import pandas as pd

    rng = as_generator(random_state)
    kept, keys, n_total = [], np.empty(0), 0
    facts: dict[str, Facts] = {}
    for block in blocks:
        facts_of(block, facts, numbers_too=is_text_file)
        block = block.set_axis(np.arange(n_total, n_total + len(block)), axis=0)
        n_total += len(block)
        kept.append(block)
        keys = np.concatenate([keys, rng.random(len(block))])
        if len(keys) > 2 * max_rows:
            chosen = np.sort(np.argsort(keys, kind="stable")[:max_rows])
            kept, keys = [pd.concat(kept).iloc[chosen]], keys[chosen]
    frame = pd.concat(kept) if kept else pd.DataFrame(columns=names or [])
    if len(keys) > max_rows:
        frame = frame.iloc[np.sort(np.argsort(keys, kind="stable")[:max_rows])]
    note = (sampled_note(n_total, max_rows),) if n_total > len(frame) else ()
    readings, said = decide(facts, delimiter=delimiter)
    return Frame(frame, n_total, (*note, *said), readings)


def _below_header(file: Any, layout: Layout) -> Any:
    for _ in range(layout.n_skipped):
        file.readline()
    return file


def _text_blocks(path: Path, layout: Layout, open_rows: Callable[[], Any]) -> Iterator[Any]:
    """Read a text file in blocks of text.

    Columns that hold nothing but decimals in the first rows are left to pandas in a file with more, since text is slow:
    nothing is lost, for a block of them that is no number throughout stays text.
    """
    most = max(100, _BLOCK_CELLS // len(layout.names))
    n_first, n_rows = min(_FIRST_ROWS, most), min(_BLOCK_ROWS, most)
    first = next(_parsed(path, layout, open_rows, n_first, frozenset()), None)
    if first is None:
        return
    if len(first) < n_first:
        yield first
        return
    decimals = frozenset(name for name, fact in facts_of(first).items() if fact.are_decimals)
    yield from _parsed(path, layout, open_rows, n_rows, decimals)


def _parsed(
    path: Path, layout: Layout, open_rows: Callable[[], Any], n_rows: int, decimals: frozenset[str]
) -> Iterator[Any]:
    import pandas as pd

    options: dict[str, Any] = {
        "names": layout.names,
        "header": None,
        "index_col": False,
        "skipinitialspace": True,
        "low_memory": False,
        "dtype": dict.fromkeys(set(layout.names) - decimals, object),
        "keep_default_na": False,
        "na_values": dict.fromkeys(decimals, COMMON_ABSENT),
        "quotechar": layout.quote,
        "sep": r"\s+" if layout.delimiter == " " else layout.delimiter,
        "chunksize": n_rows,
    }
    try:
        with warnings.catch_warnings(), open_rows() as file:
            warnings.simplefilter("error", pd.errors.ParserWarning)
            with pd.read_csv(file, **options) as reader:
                yield from reader
    except pd.errors.EmptyDataError:
        return
    except (pd.errors.ParserError, pd.errors.ParserWarning, csv.Error) as error:
        detail = str(error).removeprefix("Error tokenizing data. C error: ").strip()
        detail = re.sub(r"(?<=line )[0-9]+", lambda line: str(int(line[0]) + layout.n_skipped), detail)
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


def _sheet_blocks(
    path: Path, max_columns: int, header: bool | None
) -> tuple[list[str], list[str], list[str], list[Any]]:
    """Return the names, those given twice, notes and the one block of rows of a spreadsheet."""
    import pandas as pd

    rows, notes = spreadsheets.read_sheet(path)
    check_width(max(map(len, rows)), max_columns, path.name)
    rows = [row for row in rows if any(row)]
    first_column = min(next(i for i, cell in enumerate(row) if cell) for row in rows)
    rows = [row[first_column:] for row in rows]
    table = find_table(rows[:60], header=header)
    block = pd.DataFrame(rows[table.first :], dtype=object)
    block = block.reindex(columns=range(len(table.names)), fill_value="").set_axis(table.names, axis=1)
    return table.names, table.repeated, [*notes, *table.notes], [block]


def _without_lines_around(
    blocks: Iterable[Any], names: list[str], notes: list[str], *, among: str = ""
) -> Iterator[Any]:
    """Leave out what is no row: empty lines, the header once more, comments, totals and remarks at the end."""
    held, above, empty, again = None, None, 0, 0
    for block in blocks:
        if len(names) > 1:
            first = block.iloc[:, 0]
            if first.dtype == object:
                suspects = np.flatnonzero(
                    [not text or text[0] in " #" or text == names[0] for text in _texts(first)]
                )
            else:
                suspects = np.flatnonzero(first.isna())
            cells = [_texts(block.iloc[row]) for row in suspects]
            blank = np.array([not any(row) for row in cells], dtype=bool)
            repeated = np.array(
                [row == names or (row[0][:1] == "#" and not any(row[1:])) for row in cells], dtype=bool
            )
            empty, again = empty + int(blank.sum()), again + int(repeated.sum())
            if blank.any() or repeated.any():
                block = block.drop(index=block.index[suspects[blank | repeated]])
        if held is not None:
            yield held
            above = held.iloc[-_ROWS_ABOVE:]
        held = block
    if held is not None:
        yield _without_end(held, above, notes) if len(names) > 1 else held
    if empty:
        notes.append(f"empty lines were left out{among}: {empty}")
    if again:
        notes.append(f"lines that repeat the header, or are comments, were left out{among}: {again}")


def _texts(cells: Any) -> list[str]:
    return ["" if cell != cell else str(cell).strip() for cell in cells.tolist()]


def _is_bare(row: Any) -> bool:
    return not any(_texts(row)[1:])


def _without_end(last: Any, above: Any, notes: list[str]) -> Any:
    """Leave out the totals and remarks in the last lines, judged by the rows ``above`` too where there are any."""
    import pandas as pd

    block = last if above is None else pd.concat([above, last])
    n_left = len(block)
    while n_left > max(3, len(block) - len(last)) and len(block) - n_left < 10:
        cells = _texts(block.iloc[n_left - 1])
        filled = [cell for cell in cells if cell]
        is_remark = len(filled) == 1 and len(cells) > 2 and bool(cells[0]) and not possible(cells[0])[0]
        is_remark = is_remark and not any(
            _is_bare(block.iloc[row]) for row in range(max(0, n_left - 30), n_left - 10)
        )
        word = next((i for i, cell in enumerate(cells) if cell), 0)
        is_total = (
            len(filled) > 1
            and _TOTAL.fullmatch(cells[word]) is not None
            and all(possible(cell)[0] for cell in filled[1:])
            and not any(map(_TOTAL.fullmatch, _texts(block.iloc[max(0, n_left - 20) : n_left - 1, word])))
        )
        if not (is_remark or is_total):
            break
        n_left -= 1
        notes.append(f"the line {' '.join(filled)[:40]!r} at the end was left out: it is no row of the table")
    return last.iloc[: len(last) - (len(block) - n_left)]


def _spoken(delimiter: str) -> str:
    return {"\t": "tabs", " ": "spaces", ",": "commas", ";": "semicolons"}.get(delimiter, repr(delimiter))


def _whole_numbers(arrow_type: Any) -> Any:
    """Return the pandas type in which whole numbers stay whole beside missing values."""
    import pandas as pd

    return pd.ArrowDtype(arrow_type) if str(arrow_type) in ("int64", "uint64", "date32[day]") else None


def _read_parquet(path: Path, max_rows: int, max_columns: int, random_state: RandomState) -> Frame:
    parquet = require("pyarrow.parquet", "parquet")
    source: Any = io.BytesIO(gzip.decompress(path.read_bytes())) if path.suffix == ".gz" else path
    try:
        with parquet.ParquetFile(source) as file:
            n_columns = len(file.schema_arrow.names)
            check_width(n_columns, max_columns, path.name)
            batches = file.iter_batches(batch_size=_BLOCK_ROWS)
            blocks = (batch.to_pandas(types_mapper=_whole_numbers) for batch in batches)
            named = (
                block.set_axis(number_repeated(list(map(str, block.columns))), axis=1) for block in blocks
            )
            return sample_rows(
                named, row_limit(n_columns, max_rows), random_state, names=list(file.schema_arrow.names)
            )
    except (OSError, require("pyarrow", "parquet").ArrowException) as error:
        raise ValueError(f"{path.name} is not a Parquet file that can be read ({error})") from error
