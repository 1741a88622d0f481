"""Tables of papers: CSV (comma, semicolon or tab) and JSON lines, with a mapping of fields to columns.

Columns with the usual names are found by themselves, in any case. ``mapping`` names others:
``{"title": "Paper", "signal:stars": "GitHub"}``; a key ``signal:KIND`` makes a column of numbers a signal. Several
authors or tags in a cell are separated by ``;``, by " and ", or by commas if every part is a full name.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lodim.catalog.feed.readers.daily import parse_json
from lodim.catalog.feed.readers.entries import Rejected, record_or_reason
from lodim.catalog.feed.records import EntryError, Record

__all__ = ["FIELDS", "read_csv", "read_jsonl", "split_names"]

FIELDS: Mapping[str, tuple[str, ...]] = {
    "title": ("title", "paper title", "name"),
    "abstract": ("abstract", "summary", "description"),
    "authors": ("authors", "author", "creators"),
    "arxiv": ("arxiv_id", "arxiv id", "arxiv", "eprint"),
    "doi": ("doi",),
    "url": ("url", "link"),
    "venue": ("venue", "journal", "booktitle", "conference"),
    "published": ("published", "published_at", "publishedat", "date", "year"),
    "updated": ("updated", "updated_at", "updatedat"),
    "tags": ("tags", "keywords", "categories", "topics"),
    "signal:upvotes": ("upvotes", "votes", "likes"),
    "signal:comments": ("comments", "num_comments"),
    "signal:stars": ("stars", "github_stars"),
}


def _columns(mapping: Mapping[str, str], present: list[str]) -> dict[str, str]:
    """Return the column of each field that has one."""
    for field, column in mapping.items():
        if field not in FIELDS and not re.fullmatch(r"signal:\w{1,40}", field):
            raise ValueError(
                f"mapping: there is no field {field!r}; there are {', '.join(FIELDS)}, signal:KIND"
            )
        if column not in present:
            raise ValueError(f"mapping: there is no column {column!r}; there are {', '.join(present[:30])}")
    lowered = {name.strip().lower(): name for name in reversed(present)}
    usual = {
        field: lowered[name] for field, names in FIELDS.items() for name in reversed(names) if name in lowered
    }
    return {**usual, **mapping}


def _list(value: Any) -> list[Any] | None:
    """Return the names in a cell."""
    if value is None or isinstance(value, list):
        return value
    if not isinstance(value, str):
        raise EntryError(f"expected names, got {type(value).__name__}")
    if ";" in value:
        return value.split(";")
    parts = re.split(r",?\s+and\s+", value.strip())
    if len(parts) > 1:
        return [name for part in parts for name in split_names(part)]
    return split_names(value)


def split_names(value: str) -> list[str]:
    """Split at commas, unless that would part a last name from a first one."""
    pieces = [piece.strip() for piece in value.split(",")]
    return pieces if len(pieces) > 2 or all(" " in piece for piece in pieces) else [value]


def _record(row: Mapping[str, Any], columns: Mapping[str, str], place: str, source: str) -> Record | Rejected:
    found = {field: row.get(column) for field, column in columns.items()}
    signals = {field.split(":")[1]: found.pop(field) for field in list(found) if field.startswith("signal:")}
    try:
        found |= {field: _list(found[field]) for field in ("authors", "tags") if field in found}
    except EntryError as error:
        return Rejected(place, str(error))
    return record_or_reason(
        place,
        **{"title": None, **found},
        source=source,
        signals={kind: len(v) if isinstance(v, list) else v for kind, v in signals.items()},
    )


def read_csv(text: str, source: str, mapping: Mapping[str, str]) -> Iterator[Record | Rejected]:
    """Read a table with a header."""
    head = text.lstrip().splitlines()[0] if text.strip() else ""
    mark = max(",;\t", key=head.count)
    rows = csv.DictReader(io.StringIO(text.lstrip(), newline=""), delimiter=mark, restkey="", strict=True)
    try:
        names = list(rows.fieldnames or [])
    except csv.Error as error:
        raise ValueError(f"the first line is not CSV: {error}") from error
    columns = _columns(mapping, names)
    if "title" not in columns:
        raise ValueError(f"no column of titles among {', '.join(names)[:300]}; name it in the mapping")
    while True:
        place = f"line {rows.line_num + 1}"
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Rejected(place, f"not CSV: {error}")
            continue
        yield (
            Rejected(place, "it has more cells than the header")
            if "" in row
            else _record(row, columns, place, source)
        )


def read_jsonl(text: str, source: str, mapping: Mapping[str, str]) -> Iterator[Record | Rejected]:
    """Read one JSON object a line."""
    _columns(mapping, list(mapping.values()))
    for number, line in enumerate(io.StringIO(text), 1):
        place = f"line {number}"
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            yield Rejected(place, str(error))
            continue
        if not isinstance(row, dict):
            yield Rejected(place, f"expected an object, got {type(row).__name__}")
            continue
        missing = {field: name for field, name in mapping.items() if name in row}
        yield _record(row, _columns(missing, list(row)), place, source)
