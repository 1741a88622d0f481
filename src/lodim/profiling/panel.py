"""One figure of the report, with its sentence and its numbers."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from urllib.parse import quote

from lodim.profiling import wording


@dataclass(frozen=True)
class Panel:
    """One figure of the report.

    Attributes
    ----------
    key : str
        Its id in the page and the name of its CSV.
    shows : str
        One or two sentences with the numbers: what this figure shows.
    rows : tuple of tuple
        The figure's data, unrounded.
    legend : tuple of (css class, words)
    """

    key: str
    title: str
    shows: str
    svg: str
    header: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    legend: tuple[tuple[str, str], ...] = ()

    @property
    def csv_link(self) -> str:
        """The data as a ``data:`` link to a CSV file."""
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(self.header)
        writer.writerows(self.rows)
        return "data:text/csv;charset=utf-8," + quote(out.getvalue())

    @property
    def cells(self) -> list[list[str]]:
        """The rows as people read them."""
        return [[_cell(value) for value in row] for row in self.rows]


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return wording.number(value, digits=4)
    return f"{value:,}" if isinstance(value, int) else str(value)
