"""What a reader hands over: one entry of a file, cleaned.

Text is plain: Unicode NFC, no control characters, white space of titles and names collapsed. Times are UTC in ISO 8601
with seconds (``2024-05-03T17:59:59Z``), so that they compare as text; a date of which only year, month or day is known
stands for its beginning and says so by its precision.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from lodim.catalog.feed.identity import arxiv_of, doi_of

__all__ = ["EntryError", "Record", "clean_line", "clean_text", "make_record", "stamp", "utc"]

MOST_TITLE, MOST_ABSTRACT, MOST_AUTHORS, MOST_TAGS, MOST_NAME = 1000, 50_000, 10_000, 100, 300
_DATE = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?")
_CONTROL = dict.fromkeys((*range(9), 11, *range(14, 32), *range(127, 160), 0xFEFF, 0xFFFE, 0xFFFF))
_CONTROL |= dict.fromkeys(
    (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
)  # they reorder the text around them


class EntryError(ValueError):
    """An entry that cannot be taken; the message says why."""


@dataclass(frozen=True)
class Record:
    """One entry of a source (``arxiv``, ``huggingface``, ``bibtex`` and so on).

    The version is that of the arXiv identifier. Dates are UTC, ``published`` the beginning of what its ``precision``
    (``time``, ``day``, ``month`` or ``year``) leaves open. The kind is said as in BibTeX (``article``); signals are
    kind and value, ``("upvotes", 41.0)``.
    """

    title: str
    abstract: str = ""
    authors: tuple[str, ...] = ()
    arxiv_id: str | None = None
    version: int | None = None
    doi: str | None = None
    url: str | None = None
    venue: str | None = None
    published: str | None = None
    precision: str = "time"
    updated: str | None = None
    tags: tuple[str, ...] = ()
    kind: str = "misc"
    source: str = "file"
    signals: tuple[tuple[str, float], ...] = ()

    @property
    def year(self) -> int | None:
        """Of publication."""
        return int(self.published[:4]) if self.published else None

    def digest(self) -> str:
        """Return a hash of all but the signals."""
        said = {name: value for name, value in asdict(self).items() if name != "signals"}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def clean_text(text: Any) -> str:
    """Return plain text: NFC, lines kept, no control characters, no blanks at the ends of lines."""
    if text is None:
        return ""
    if not isinstance(text, str):
        raise EntryError(f"expected text, got {type(text).__name__}")
    whole = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair has no place in a file
    kept = unicodedata.normalize("NFC", whole.replace("\r\n", "\n").replace("\r", "\n").translate(_CONTROL))
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", kept))
    return "\n\n".join(part for part in paragraphs if part)


def clean_line(text: Any) -> str:
    """Return text on one line."""
    return " ".join(clean_text(text).split())


def stamp(moment: datetime) -> str:
    """Return a moment as it is stored."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; give it one, e.g. datetime.now(UTC)")
    at = moment.astimezone(UTC)
    return f"{at.year:04d}" + at.strftime("-%m-%dT%H:%M:%SZ")


def utc(text: str) -> datetime:
    """Return a stored time as a datetime."""
    return datetime.fromisoformat(text)


def read_date(value: Any) -> tuple[str | None, str]:
    """Return a date as it is stored, and its precision; ``(None, "time")`` for none. It may be ISO 8601 in whole or
    part, a year, or in the form of e-mail headers; without a zone it is UTC.
    """
    text = clean_line(str(value)) if value is not None else ""
    if not text:
        return None, "time"
    try:
        partial = _DATE.fullmatch(text)
        if partial:
            year, month, day = (int(part) if part else None for part in partial.groups())
            start = datetime(year or 0, month or 1, day or 1, tzinfo=UTC)
            return stamp(start), "day" if day else "month" if month else "year"
        moment = datetime.fromisoformat(text) if text[:1].isdigit() else parsedate_to_datetime(text)
        return stamp(moment if moment.tzinfo else moment.replace(tzinfo=UTC)), "time"
    except (ValueError, OverflowError, TypeError, IndexError) as error:
        raise EntryError(
            f"{text[:40]!r} is no date; expected e.g. 2024-05-03 or 2024-05-03T18:00:00Z"
        ) from error


def read_number(value: Any, name: str) -> float | None:
    """Return a signal's value, None for none."""
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise EntryError(f"{name} must be a number, got {str(value)[:40]!r}")
    return number


def _names(values: Iterable[Any] | None, most: int) -> tuple[str, ...]:
    """Return distinct names in order."""
    names = [clean_line(value)[:MOST_NAME] for value in values or ()]
    found = tuple(dict.fromkeys(name for name in names if name))
    if len(found) > most:
        raise EntryError(f"{len(found)} names where at most {most} are expected")
    return found


def _address(url: Any) -> str | None:
    """Return a web address, or None for anything that is not one."""
    text = clean_line(url)
    return text if re.fullmatch(r"https?://[^\s<>\"'\\]{1,1500}", text) else None


def make_record(
    *,
    title: Any,
    source: str,
    abstract: Any = None,
    authors: Iterable[Any] | None = None,
    arxiv: Any = None,
    doi: Any = None,
    url: Any = None,
    venue: Any = None,
    published: Any = None,
    updated: Any = None,
    tags: Iterable[Any] | None = None,
    kind: str = "misc",
    signals: Mapping[str, Any] | None = None,
) -> Record:
    """Clean what a reader found. An arXiv identifier, with or without version, that is not given is looked for in
    ``doi`` and ``url``. Without a title, with a wrong date or number, or beyond the limits it raises an EntryError.
    """
    name, text = clean_line(title), clean_text(abstract)
    if not name:
        raise EntryError("it has no title")
    if len(name) > MOST_TITLE or len(text) > MOST_ABSTRACT:
        raise EntryError(f"title over {MOST_TITLE} or abstract over {MOST_ABSTRACT} characters")
    candidates = [arxiv_of(clean_line(value)) for value in (arxiv, doi, url)]
    identifier, version = next((found for found in candidates if found[0]), (None, None))
    handle = doi_of(clean_line(doi))
    if handle and handle.startswith("10.48550/"):  # arXiv's own, which says no more than the identifier
        handle = None
    when, precision = read_date(published)
    numbers = {kind_: read_number(value, kind_) for kind_, value in (signals or {}).items()}
    return Record(
        title=name,
        abstract=text,
        authors=_names(authors, MOST_AUTHORS),
        arxiv_id=identifier,
        version=version,
        doi=handle,
        url=_address(url),
        venue=clean_line(venue)[:MOST_NAME] or None,
        published=when,
        precision=precision,
        updated=read_date(updated)[0],
        tags=_names(tags, MOST_TAGS),
        kind=clean_line(kind).lower()[:40] or "misc",
        source=source,
        signals=tuple((kind_, value) for kind_, value in sorted(numbers.items()) if value is not None),
    )
