"""Sheets of spreadsheets (xlsx, xls, ods) as records of text (extra ``excel``)."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from ..validation import require

SUFFIXES = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")


def read_sheet(path: Path) -> tuple[list[list[str]], tuple[str, ...]]:
    """Return the rows of the first sheet that is not empty, cells as text, and a note where there are others.

    Raises
    ------
    ImportError
        Without the extra ``excel``.
    ValueError
        Not a spreadsheet, or an empty one.
    """
    calamine = require("python_calamine", "excel")
    try:
        with calamine.CalamineWorkbook.from_path(path) as book:
            sheets = {name: book.get_sheet_by_name(name).to_python() for name in book.sheet_names}
    except calamine.CalamineError as error:
        raise ValueError(f"{path.name} is not a spreadsheet that can be read ({error})") from error
    full = {name: rows for name, rows in sheets.items() if any(any(map(_text, row)) for row in rows)}
    if not full:
        raise ValueError(f"{path.name} is empty")
    chosen, *others = full
    note = f"the sheet {chosen!r} was read; there are others: {', '.join(map(repr, others))}"
    return [[_text(cell) for cell in row] for row in full[chosen]], ((note,) if others else ())


def _text(cell: Any) -> str:
    """Return a cell as a text file would hold it."""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 2**53 else repr(cell)
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    return cell.isoformat() if isinstance(cell, datetime.date | datetime.time) else str(cell)
