"""Readers of lists of papers, one small module each, and the recognition of what a file is.

Each reader takes the file's bytes and yields, in order, :class:`~lodim.catalog.feed.records.Record` or
:class:`Rejected`: an entry that cannot be read is told with its place and never costs the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath

from lodim.catalog.feed.readers.atom import read_atom
from lodim.catalog.feed.readers.bibtex import read_bibtex
from lodim.catalog.feed.readers.daily import read_json
from lodim.catalog.feed.readers.entries import Rejected, decoded
from lodim.catalog.feed.readers.plain import read_plain
from lodim.catalog.feed.readers.rows import read_csv, read_jsonl
from lodim.catalog.feed.readers.rss import read_rss
from lodim.catalog.feed.records import Record

__all__ = ["FORMATS", "MOST_BYTES", "MOST_ENTRIES", "Rejected", "read", "recognise"]

FORMATS = ("atom", "rss", "json", "jsonl", "bibtex", "csv", "text")
MOST_BYTES, MOST_ENTRIES = 20_000_000, 50_000
_ENDINGS = {
    ".atom": "atom", ".xml": "atom", ".rss": "rss", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".bib": "bibtex", ".bibtex": "bibtex", ".csv": "csv", ".tsv": "csv",
}  # fmt: skip


def recognise(data: bytes, name: str = "") -> str:
    """Return the format of a file, by what it holds and else by its name's ending."""
    start = data[:100_000].decode("utf-8-sig", "replace").lstrip()
    if not start:
        raise ValueError("there is nothing in it")
    ending = _ENDINGS.get(PurePath(name).suffix.lower())
    if start.startswith("<") or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "rss" if re.search(r"<rss[\s/>]", start[:4000].replace("\0", "")) else "atom"
    if start[0] in "[{":
        return "jsonl" if ending != "json" and _starts_with_json_line(start) else "json"
    if ending:
        return ending
    if re.search(r"^\s*@\w+\s*[{(]", start, re.MULTILINE):
        return "bibtex"
    head = start.splitlines()[0]
    columns = re.split(r"[,;\t]", head.lower())
    return "csv" if len(columns) > 1 and "title" in {c.strip(" \"'") for c in columns} else "text"


def _starts_with_json_line(start: str) -> bool:
    """Return whether the first line is a JSON object and a second follows."""
    lines = start.splitlines()
    if len(lines) < 2 or not lines[1].lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(lines[0]), dict)
    except (json.JSONDecodeError, RecursionError):
        return False


def read(
    data: bytes, form: str, *, source: str | None = None, mapping: Mapping[str, str] | None = None
) -> Iterator[Record | Rejected]:
    """Read a file's entries. The source's name is by default that of the format (``arxiv`` for a feed of arXiv);
    ``mapping``, for ``csv`` and ``jsonl``, is field to column, see :mod:`lodim.catalog.feed.readers.rows`.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES:,} bytes; split it")
    if mapping and form not in ("csv", "jsonl"):
        raise ValueError(f"a mapping of columns is for csv and jsonl, not for {form}")
    if form in ("atom", "rss"):
        return _first((read_atom if form == "atom" else read_rss)(data, source))
    text = decoded(data)
    if form == "json":
        return _first(read_json(text, source or "huggingface"))
    if form == "bibtex":
        return _first(read_bibtex(text, source or "bibtex"))
    if form == "text":
        return _first(read_plain(text, source or "list"))
    rows = read_csv if form == "csv" else read_jsonl
    return _first(rows(text, source or "table", mapping or {}))


def _first(entries: Iterable[Record | Rejected]) -> Iterator[Record | Rejected]:
    """Give the first entries up to the limit, and say so if there are more."""
    for number, entry in enumerate(entries):
        if number == MOST_ENTRIES:
            yield Rejected(
                f"entry {number + 1:,} and on", f"more than {MOST_ENTRIES:,} entries; split the file"
            )
            return
        yield entry
