"""What became of the entries of a file that was taken in."""

from __future__ import annotations

from dataclasses import dataclass

from lodim.catalog.feed.readers.entries import Rejected
from lodim.results import Result

__all__ = ["IngestReport"]


@dataclass(frozen=True)
class IngestReport(Result):
    """What became of a file's entries, read as ``format``: numbers of papers added, updated and unchanged, and the
    entries that could not be taken, with place and reason. ``note`` is anything else worth saying.
    """

    added: int
    updated: int
    unchanged: int
    rejected: tuple[Rejected, ...]
    format: str
    note: str = ""

    def __str__(self) -> str:
        said = f"{self.added} added, {self.updated} updated, {self.unchanged} unchanged, {len(self.rejected)} rejected"
        return f"{said} ({self.format}){'; ' + self.note if self.note else ''}"
