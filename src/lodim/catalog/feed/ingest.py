"""From a file, a stream or an address to stored papers, with a report of what became of every entry."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lodim.catalog.feed.merge import take_in
from lodim.catalog.feed.readers import FORMATS, MOST_BYTES, Rejected, read, recognise
from lodim.catalog.feed.records import Record
from lodim.catalog.feed.report import IngestReport
from lodim.catalog.feed.store import LONG, PAPERS, Store, give_way

__all__ = ["CHANGED", "bytes_of", "ingest_bytes", "is_address"]

CHANGED = "papers_changed"  # under which a mark is noted that is another one after every change
AT_ONCE = 500  # records stored in one transaction, about a fifth of a second


def is_address(source: Any) -> bool:
    """Return whether a source is a web address and no file."""
    return isinstance(source, str) and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", source) is not None


def bytes_of(source: Any) -> tuple[bytes, str]:
    """Return what a file or a stream holds, and its name."""
    if hasattr(source, "read"):
        data, name = source.read(MOST_BYTES + 1), str(getattr(source, "name", ""))
        data = data.encode("utf-8") if isinstance(data, str) else data
    else:
        path = Path(os.fspath(source))
        if not path.is_file():
            raise ValueError(f"there is no file {str(path)!r}")
        with path.open("rb") as file:
            data, name = file.read(MOST_BYTES + 1), path.name
    if len(data) > MOST_BYTES:
        raise ValueError(f"{name or 'the input'} is larger than {MOST_BYTES:,} bytes; split it")
    return data, name


def ingest_bytes(
    store: Store,
    data: bytes,
    name: str,
    form: str,
    *,
    now: str,
    source: str | None,
    mapping: Mapping[str, str] | None,
    observed_at: str | None,
) -> IngestReport:
    """Read a list of papers and store it. ``name``, that of the file, is for messages and helps to recognise its
    format; ``source`` is by default that of the format; signals are of ``observed_at``, by default of when this very
    content first came in.

    It is read to its end before anything is stored, so what cannot be read as a whole raises a ValueError and changes
    nothing. Then it is stored some hundred records at a time, and between them others may write. After a break (Ctrl-C,
    a lock that was not had in time) the records up to there are stored; the same list once more adds the rest, as if
    there had been none.
    """
    if form not in ("auto", *FORMATS):
        raise ValueError(f"format must be one of auto, {', '.join(FORMATS)}; got {form!r}")
    if source is not None and not re.fullmatch(r"[\w.-]{1,40}", source):
        raise ValueError(
            f"the name of a source has letters, digits, '.', '_' and '-', at most 40; got {source!r}"
        )
    try:
        chosen = recognise(data, name) if form == "auto" else form
        entries = list(read(data, chosen, source=source, mapping=mapping))
    except ValueError as error:
        raise ValueError(f"{name or 'the input'}: {error}") from error
    records = [entry for entry in entries if not isinstance(entry, Rejected)]
    key = f"content:{hashlib.sha256(data).hexdigest()}"
    outcomes: Counter[str] = Counter()
    for start in range(0, max(len(records), 1), AT_ONCE):
        if start:
            give_way()
        outcomes += _store(store, records[start : start + AT_ONCE], key, now, observed_at)
    counts = (outcomes["added"], outcomes["updated"], outcomes["unchanged"])
    rejected = tuple(entry for entry in entries if isinstance(entry, Rejected))
    return IngestReport(*counts, rejected, chosen)


def _store(
    store: Store, records: Sequence[Record], key: str, now: str, observed_at: str | None
) -> Counter[str]:
    """Store some records together and return what became of how many."""
    outcomes: Counter[str] = Counter()
    with store.writing(PAPERS, patience=LONG) as connection:
        first = store.get_meta(connection, key)
        if first is None:
            store.set_meta(connection, key, now)
        for record in records:
            outcomes[take_in(connection, record, now, observed_at or first or now)] += 1
        if outcomes["added"] or outcomes["updated"]:
            store.set_meta(connection, CHANGED, secrets.token_hex(8))
    return outcomes
