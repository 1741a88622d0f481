"""What the readers share: a rejected entry, text from bytes, one entry made with its errors caught."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lodim.catalog.feed.records import EntryError, Record, make_record
from lodim.results import Result

__all__ = ["Rejected", "decoded", "record_or_reason"]


@dataclass(frozen=True)
class Rejected(Result):
    """An entry that could not be taken, with its place (``line 12``, ``entry 3``) and the reason."""

    entry: str
    reason: str


def decoded(data: bytes) -> str:
    """Return a file's text."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start:,} is not UTF-8; save the file as UTF-8 first") from error


def record_or_reason(place: str, **found: Any) -> Record | Rejected:
    """Return :func:`~lodim.catalog.feed.records.make_record` of what was found, or why there is none."""
    try:
        return make_record(**found)
    except EntryError as error:
        return Rejected(place, str(error))
