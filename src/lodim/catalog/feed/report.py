"""What became of the entries of a file that was taken in."""

from __future__ import annotations

from dataclasses import dataclass

from lodim.catalog.feed.readers.entries import Rejected
from lodim.results import Result

__all__ = ["IngestReport"]


@dataclass(frozen=True)
class IngestReport(Result):
    """What became of a file's entries.

    Attributes
    ----------
    added, updated, unchanged : int
        Papers.
    rejected : tuple of Rejected
        Entries that could not be taken, with place and reason.
    format : str
        As which it was read.
    note : str
        Anything else worth saying.
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
