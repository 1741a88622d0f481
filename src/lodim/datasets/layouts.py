"""How a text table is written: its encoding, what parts its cells, and where its header and its rows begin.

All of it is found from the first records of the file. Before the table there may be a title, comments, blank lines or
``sep=;``; the header may be missing, or stand in two lines.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .dataset import MAX_COLUMNS, check_width
from .numerals import MISSING_WORDS, numeral
from .readings import ABSENT, COMMA, POINT, possible

DELIMITERS = ("\t", ";", "|", ",")
_SINGLE_QUOTED = re.compile(r"(?:^|[,;\t|])\s*'[^']*'\s*(?:[,;\t|]|$)")
_HEAD_RECORDS = 60
_HEAD_CHARACTERS = 1 << 18
_HEAD_CELLS = 20_000


@dataclass(frozen=True)
class Layout:
    """How a text table is written: encoding, delimiter, quotation mark, names (and which of them were given twice).

    ``n_skipped`` lines stand before its rows, the header among them.
    """

    encoding: str
    delimiter: str
    quote: str
    names: list[str]
    repeated: list[str]
    header: bool
    n_skipped: int
    notes: tuple[str, ...]


def find_layout(path: Path, *, max_columns: int = MAX_COLUMNS, header: bool | None = None) -> Layout:
    """Find how a text table is written, from its first records; whether there is a header may be known."""
    encoding, notes = _encoding(path)
    lines, is_whole = _first_lines(path, encoding)
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise ValueError(f"{path.name} is empty")
    check_width(1 + max(first.count(d) for d in DELIMITERS), max_columns, path.name)
    try:
        quote = _quote(lines)
        delimiter, n_before = _delimiter(lines, quote, is_whole, path)
        records = _records(lines[n_before:], delimiter, quote, is_whole)
    except csv.Error as error:
        raise ValueError(f"{path.name} is not a table of delimited text ({error})") from error
    table = find_table([cells for cells, _ in records], header=header)
    n_skipped = n_before + (records[table.first - 1][1] if table.first else 0)
    return Layout(
        encoding,
        delimiter,
        quote,
        table.names,
        table.repeated,
        table.header,
        n_skipped,
        (*notes, *table.notes),
    )


@dataclass(frozen=True)
class Table:
    """Where the rows of a table begin among its records, and how its columns are called."""

    first: int
    names: list[str]
    repeated: list[str]
    header: bool
    notes: tuple[str, ...]


def find_table(records: Sequence[Sequence[str]], *, header: bool | None = None) -> Table:
    """Find where a table begins among records of cells: behind titles and comments, with or without a header."""
    cells = [[cell.strip() for cell in record] for record in records]
    start, notes = _begin(cells)
    rows = cells[start + 1 :]
    first_row = cells[start]
    if first_row[0].startswith("#") and rows:
        bare = first_row[0].lstrip("# ")
        first_row = [bare, *first_row[1:]] if bare or len(first_row) <= len(rows[0]) else first_row[1:]
    judged = rows[: max(10, _HEAD_CELLS // len(first_row))]
    is_header = _is_header(first_row, judged) if header is None else header
    if not is_header:
        empty_beyond = not any(any(row[len(first_row) :]) for row in rows)
        width = max(map(len, cells[start:])) if empty_beyond else len(first_row)
        if width > 1:
            notes.append("no header line: columns are called 'c0', 'c1', ...")
        return Table(start, [f"c{i}" for i in range(width)], [], False, tuple(notes))
    names = [" ".join(cell.split()) or f"unnamed {i}" for i, cell in enumerate(first_row)]
    first = start + 1
    for _ in range(2):  # units; or the questions of a survey, and their numbers
        if not _is_second_header(judged):
            break
        notes.append(f"the line below the header ({_shown(rows[0])}) was left out: it holds no values")
        first, rows, judged = first + 1, rows[1:], judged[1:]
    width = max(map(len, rows or [first_row]))
    if width > len(names):
        beyond = [any(row[len(names) :]) for row in rows if len(row) > len(names)]
        if all(len(row) == width for row in rows) and width == len(names) + 1 and any(beyond):
            names = ["row", *names]
        elif not any(beyond):
            names += [f"unnamed {i}" for i in range(len(names), width)]
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        notes.append(f"repeated column names {', '.join(map(repr, repeated))} were numbered (.2, .3, ...)")
    return Table(first, number_repeated(names), repeated, True, tuple(notes))


def number_repeated(names: list[str]) -> list[str]:
    """Return the names with every repetition numbered, a, a.2, a.3, by numbers that no other name has."""
    taken, seen = set(names), set[str]()
    result = []
    for name in names:
        number, new = 1, name
        while new in seen or (number > 1 and new in taken):
            number += 1
            new = f"{name}.{number}"
        seen.add(new)
        result.append(new)
    return result


def _shown(cells: Sequence[str]) -> str:
    text = ", ".join(filter(None, cells))
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _begin(records: list[list[str]]) -> tuple[int, list[str]]:
    """Return which record the table begins with, its header or its first row, and a note on what stands before it."""
    filled = [sum(map(bool, record)) for record in records]
    usual = Counter(filled[len(filled) // 3 :]).most_common(1)[0][0]
    enough = max(2, int(np.ceil(0.6 * usual))) if usual > 1 else 1
    start = 0
    while start < len(records) - 1:
        record, below = records[start], records[start + 1]
        names_columns = not below[0].startswith("#") and len(record) - (record[0] == "#") == len(below)
        names_columns = names_columns and filled[start] >= enough
        is_comment = record[0].startswith("#") and not (
            names_columns and not _stands_over_values(below, records[start + 2 :])
        )
        is_short = len(record) < enough and usual > 2
        is_title = filled[start] < usual and (is_short or numeral(record[0]) is None)
        if is_title and (len(record) >= enough or filled[start] >= enough):
            # A header may have gaps too: then no other one follows.
            full = next((i for i in range(start + 1, len(records)) if filled[i] >= usual), 0)
            is_title = full > 0 and _stands_over_values(records[full], records[full + 1 :])
        if not (is_comment or is_title or _says_sizes(record, below)):
            break
        start += 1
    if start == len(records) - 1 and filled[start] < enough:
        start = 0
    shown = [_shown(record) for record in records[:start] if any(record)]
    return start, ([f"lines before the table were left out: {', '.join(shown[:3])}"] if shown else [])


def _says_sizes(cells: list[str], below: list[str]) -> bool:
    """Whether a line gives numbers of rows and of columns but the target, then classes (scikit-learn's files)."""
    return (
        len(cells) > 3
        and cells[0].isdigit()
        and cells[1] == str(len(below) - 1)
        and all(_kind(cell) == "text" for cell in cells[2:])
        and all(map(_is_value, below))
    )


def _kind(cell: str) -> str:
    flags, _ = possible(cell)
    return "number" if flags & (POINT | COMMA) else "time" if flags > ABSENT else "text"


def _is_value(cell: str) -> bool:
    return _kind(cell) != "text"


def _is_header(cells: list[str], rows: list[list[str]]) -> bool:
    """Whether a first record names the columns: each of its cells is weighed against those below it.

    A name stands over numbers, is not found again below, or is a number of another kind than those; names that are
    numbers increase in equal steps.
    """
    if not rows:
        return not any(numeral(cell) for cell in cells)
    numbers = [float(cell) for cell in cells if _plain(cell) is not None]
    weights = 0.0
    steps = np.diff(numbers)
    in_steps = len(numbers) > 1 and bool(np.all(steps > 0)) and np.allclose(steps, steps[0], rtol=1e-6)
    in_steps = in_steps and (len(numbers) > 2 or bool(steps[0] == 1))
    counted = in_steps and (numbers[0] in (0, 1) or len(numbers) >= 5) and bool(steps[0] == 1)
    for position, cell in enumerate(cells):
        below = [
            row[position]
            for row in rows
            if position < len(row) and row[position].lower() not in MISSING_WORDS
        ]
        if not below:
            continue
        kind = Counter(map(_kind, below)).most_common(1)[0][0]
        if not cell:  # row names are written without a heading
            weights += 2 * (position == 0 and len(below) == len(rows))
        elif _kind(cell) != kind:
            weights += cell.lower() not in MISSING_WORDS
        elif kind == "number":
            weights += _number_above(cell, below, in_steps, counted)
        elif kind == "time" or cell in below:
            weights -= 1
        else:
            weights += len(set(below)) <= len(below) / 2
    return bool(weights > 0) or (weights == 0 and not any(map(_is_value, cells)))


def _plain(cell: str) -> float | None:
    number = numeral(cell)
    return None if number is None or number.unit or number.point is None else float(number.point)


def _stands_over_values(cells: list[str], rows: list[list[str]]) -> bool:
    """Whether a header over columns of values begins here."""
    if not _is_header(cells, rows):
        return False
    below = [[_kind(row[i]) for row in rows if i < len(row) and row[i]] for i in range(len(cells))]
    return any(
        kinds and _kind(cell) == "text" and kinds.count("text") < len(kinds) / 2
        for cell, kinds in zip(cells, below, strict=True)
    )


def _number_above(cell: str, below: list[str], in_steps: bool, counted: bool) -> float:
    """Return how much a number speaks for naming the column of numbers below it."""
    number = _plain(cell)
    values = [value for value in map(_plain, below) if value is not None]
    if number is None or not values:
        return -1.0
    is_whole = number == round(number) and "." not in cell
    fractions = np.mean(
        [value != round(value) or "." in text for value, text in zip(values, below, strict=False)]
    )
    differs = is_whole and fractions > 0.5
    low, high = min(values), max(values)
    apart = len(values) > 1 and not low - (high - low) <= number <= high + (high - low)
    if counted or (in_steps and (differs or apart)):
        return 1.0
    return 0.5 if (differs or apart) and is_whole else -1.0


def _is_second_header(rows: list[list[str]]) -> bool:
    """Whether the first row holds words (units, second names) over columns that hold numbers from then on."""
    if len(rows) < 4:
        return False
    texts, columns = 0, 0
    for position, cell in enumerate(rows[0]):
        below = [
            row[position]
            for row in rows[1:]
            if position < len(row) and row[position].lower() not in MISSING_WORDS
        ]
        if below and np.mean([_is_value(text) for text in below]) >= 0.9:
            columns += 1
            if _is_value(cell):
                return False
            texts += cell.lower() not in MISSING_WORDS
    return columns > 0 and texts > 0 and 2 * texts >= columns


def open_bytes(path: Path) -> Any:
    """Open a file, unpacked where it is packed (gz, bz2, xz, or a zip of one file)."""
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    if path.suffix == ".bz2":
        return bz2.open(path, "rb")
    if path.suffix == ".xz":
        return lzma.open(path, "rb")
    if path.suffix == ".zip":
        return _open_zip(path)
    return path.open("rb")


def _open_zip(path: Path) -> Any:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path.name} could not be read ({error}); is the file complete?") from error
    members = [
        name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")
    ]
    if len(members) != 1:
        raise ValueError(f"{path.name} holds {len(members)} files; expected one table")
    return archive.open(members[0])


def open_text(path: Path, encoding: str, errors: str = "strict") -> io.TextIOWrapper:
    """Open a file, packed or not, as text with its line ends left alone."""
    return io.TextIOWrapper(open_bytes(path), encoding=encoding, errors=errors, newline="")


def _encoding(path: Path) -> tuple[str, tuple[str, ...]]:
    """Find a file's encoding: its byte-order mark, UTF-8 if the whole of it decodes, else Windows-1252 (and say so)."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with open_bytes(path) as file:
            start = file.read(4096)
            if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                return "utf-16", ()
            if b"\0" in start:
                for encoding, zeros in (("utf-16-le", start[1::2]), ("utf-16-be", start[::2])):
                    if zeros.count(0) > 0.9 * len(zeros) and start.count(0) == zeros.count(0):
                        return encoding, ()
                raise ValueError(
                    f"{path.name} is a binary file, not a text table; tables are read from CSV, TSV, Parquet and "
                    "spreadsheets, arrays from NPY and NPZ"
                )
            decoder.decode(start)
            while block := file.read(1 << 20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252", ("the file is not UTF-8; it was read as Windows-1252 (Western European)",)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise ValueError(f"{path.name} could not be read ({error}); is the file complete?") from error
    return "utf-8-sig", ()


def _first_lines(path: Path, encoding: str) -> tuple[list[str], bool]:
    """Return the first lines, with their ends, and whether these are all."""
    lines: list[str] = []
    size = 0
    with open_text(path, encoding, errors="replace") as file:
        for line in file:
            lines.append(line)
            size += len(line)
            if len(lines) >= 4 * _HEAD_RECORDS or (size > _HEAD_CHARACTERS and len(lines) >= 20):
                return lines, False
    return lines, True


def _quote(lines: list[str]) -> str:
    """Return the quotation mark: a single one where most lines have cells in those, and none a double one."""
    quoted = [_SINGLE_QUOTED.search(line) is not None for line in lines if line.strip()]
    return "'" if np.mean(quoted) > 0.5 and not any('"' in line for line in lines) else '"'


def _records(lines: list[str], delimiter: str, quote: str, is_whole: bool) -> list[tuple[list[str], int]]:
    """Return the first records that are not blank, each with the number of the line it ends with."""
    if delimiter == " ":
        found = [(line.split(), i + 1) for i, line in enumerate(lines) if line.strip()]
        return found[:_HEAD_RECORDS]
    reader = csv.reader(iter(lines), delimiter=delimiter, quotechar=quote, skipinitialspace=True)
    records = []
    for record in reader:
        if any(cell.strip() for cell in record):
            records.append((record, reader.line_num))
        if len(records) == _HEAD_RECORDS:
            return records
    return records if is_whole or len(records) < 2 else records[:-1]


def _delimiter(lines: list[str], quote: str, is_whole: bool, path: Path) -> tuple[str, int]:
    """Return what parts the cells, and how many lines only say so (``sep=;``).

    It gives most records the same number of cells, two at least, and cells that are values or words without another
    delimiter in them.
    """
    said = lines[0].strip().strip('"').lower()
    if said.startswith("sep=") and len(said) <= 5:
        return said[4:] or "\t", 1
    if ".tsv" in path.suffixes or ".tab" in path.suffixes:
        return "\t", 0
    best, delimiter = 0.0, ""
    for candidate in DELIMITERS:
        if not any(candidate in line for line in lines):
            continue
        records = [[c.strip() for c in cells] for cells, _ in _records(lines, candidate, quote, is_whole)]
        width = Counter(map(len, records)).most_common(1)[0][0]
        if width < 2:
            continue
        regular = float(np.mean([len(record) == width for record in records]))
        cells = [cell for record in records for cell in record[:200]]
        clean = np.mean([possible(cell)[0] > 0 or not any(d in cell for d in DELIMITERS) for cell in cells])
        if regular * clean**2 > best + 1e-9:
            best, delimiter = regular * float(clean) ** 2, candidate
    if best >= 0.5:
        return delimiter, 0
    rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    body = rows[1:] or rows
    numbers = [numeral(cell) is not None for row in body for cell in row]
    if len(body[0]) > 1 and len({len(row) for row in body}) == 1 and np.mean(numbers) > 0.5:
        return " ", 0
    first = next(line for line in lines if line.strip())
    return delimiter or max(reversed(DELIMITERS), key=lambda d: first.count(d)), 0
