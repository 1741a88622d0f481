"""Taking a record in: which paper it speaks of, what of it is new, what it says about votes.

A record that was seen before changes nothing, so the same file twice adds nothing the second time. Otherwise records
of a paper are ranked by (version, date of update): a higher rank replaces what is stored; the same rank does so only
from the same source, which corrects itself; everything else fills gaps and adds tags. All that was ever said is kept
in ``paper_version``.

Signals are observations in time, each kept with its moment; between two the earlier holds. Of two values of one source
at the same moment the larger stands, so that the order in which they come in does not matter.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from lodim.catalog.feed.identity import LONG_TITLE, surname_key, title_key
from lodim.catalog.feed.records import Record
from lodim.catalog.feed.statements import run

__all__ = ["take_in"]

_GAPS = ("arxiv_id", "doi", "url", "venue", "abstract", "published_at")
_REPLACED = ("title", "abstract", "url", "venue", "published_at", "updated_at", "version", "doi", "arxiv_id")


def take_in(connection: sa.Connection, record: Record, now: str, observed_at: str | None = None) -> str:
    """Store a record and return ``"added"``, ``"updated"`` or ``"unchanged"``."""
    digest = record.digest()
    seen = run(
        connection, "SELECT paper_id FROM paper_version WHERE digest = :digest", digest=digest
    ).scalar()
    if seen is not None:
        paper_id, outcome = int(seen), "unchanged"
    else:
        same = _papers_of(connection, record)
        if same:
            paper_id, outcome = same[0], "unchanged"
            for other in same[1:]:
                _absorb(connection, paper_id, other)
                outcome = "updated"
            if _update(connection, paper_id, record, now):
                outcome = "updated"
        else:
            paper_id, outcome = _add(connection, record, now), "added"
        _remember(connection, paper_id, record, digest, now)
    if _observe(connection, paper_id, record, observed_at or now) and outcome == "unchanged":
        outcome = "updated"
    return outcome


_LARGER = (
    "ON CONFLICT (paper_id, source, kind, observed_at) DO UPDATE SET value = excluded.value "
    "WHERE excluded.value > signal.value"
)


def _first_author(record: Record) -> str:
    return surname_key(record.authors[0]) if record.authors else ""


def _papers_of(connection: sa.Connection, record: Record) -> list[int]:
    """Return the papers that the record speaks of, the best evidence first."""
    columns = "SELECT id, arxiv_id, doi, author_key, year FROM paper WHERE "
    found: dict[int, Any] = {}
    arxiv_id, doi = record.arxiv_id, record.doi
    if arxiv_id:
        found |= {row.id: row for row in run(connection, columns + "arxiv_id = :key", key=arxiv_id)}
    if doi:
        rows = run(connection, columns + "doi = :key ORDER BY id", key=doi)
        found |= {row.id: row for row in rows if not _differ(row.arxiv_id, arxiv_id)}
    for row in run(connection, columns + "title_key = :key ORDER BY id", key=title_key(record.title)):
        if _same_by_title(row, record):
            found[row.id] = row
    kept: list[int] = []
    for row in found.values():
        if _differ(row.arxiv_id, arxiv_id):
            continue
        arxiv_id = arxiv_id or row.arxiv_id
        kept.append(row.id)
    return kept


def _differ(one: Any, other: Any) -> bool:
    """Return whether both are known and not the same."""
    return bool(one) and bool(other) and one != other


def _same_by_title(row: Any, record: Record) -> bool:
    """Return whether a paper with the record's title is the record's: nothing known contradicts it."""
    author, year = _first_author(record), record.year
    if _differ(row.arxiv_id, record.arxiv_id) or _differ(row.doi, record.doi):
        return False
    if _differ(row.author_key, author) or _differ(row.year, year):
        return False
    complete = row.author_key == author and row.year == year
    return complete or len(title_key(record.title)) >= LONG_TITLE


def _values(record: Record) -> dict[str, Any]:
    """Return the columns that a record fills."""
    return {
        "arxiv_id": record.arxiv_id,
        "doi": record.doi,
        "title": record.title,
        "abstract": record.abstract,
        "url": record.url,
        "venue": record.venue,
        "version": record.version,
        "published_at": record.published,
        "updated_at": record.updated,
    }


def _add(connection: sa.Connection, record: Record, now: str) -> int:
    """Store a paper that is not known yet."""
    values = _values(record) | {
        "title_key": title_key(record.title),
        "author_key": _first_author(record),
        "year": record.year,
        "words": _words(record.authors, record.tags),
        "kind": record.kind,
        "source": record.source,
        "precision": record.precision,
        "listed_at": record.published or now,
        "first_seen_at": now,
        "changed_at": now,
    }
    columns = ", ".join(values)
    named = ", ".join(f":{name}" for name in values)
    paper_id = run(
        connection, f"INSERT INTO paper ({columns}) VALUES ({named}) RETURNING id", **values
    ).scalar()
    _set_authors(connection, paper_id, record.authors)
    _add_tags(connection, paper_id, record.tags)
    return int(paper_id)


def _update(connection: sa.Connection, paper_id: int, record: Record, now: str) -> bool:
    """Change what the record says better and return whether anything changed."""
    row = run(connection, "SELECT * FROM paper WHERE id = :id", id=paper_id).mappings().one()
    rank = (record.version or 0, record.updated or "")
    stored = (row["version"] or 0, row["updated_at"] or "")
    leads = rank > stored or (rank == stored and record.source == row["source"])
    said = {name: value for name, value in _values(record).items() if value not in (None, "")}
    names = _REPLACED if leads else tuple(name for name in _GAPS if row[name] in (None, ""))
    changes = {name: said[name] for name in names if name in said and said[name] != row[name]}
    if leads and rank > stored:
        changes |= {} if row["source"] == record.source else {"source": record.source}
    if row["kind"] == "misc" and record.kind != "misc":
        changes["kind"] = record.kind
    if "published_at" in changes:
        changes |= {"listed_at": record.published, "precision": record.precision, "year": record.year}
    authors = _authors(connection, paper_id)
    new_authors = record.authors and record.authors != authors and (leads or not authors)
    if new_authors:
        _set_authors(connection, paper_id, record.authors)
        changes["author_key"] = _first_author(record)
    if "title" in changes:
        changes["title_key"] = title_key(record.title)
    new_tags = _add_tags(connection, paper_id, record.tags)
    if not (changes or new_authors or new_tags):
        return False
    changes["changed_at"] = now
    setting = ", ".join(f"{name} = :{name}" for name in changes)
    run(connection, f"UPDATE paper SET {setting} WHERE id = :id", id=paper_id, **changes)
    if "title" in changes or "abstract" in changes:
        run(connection, "DELETE FROM embedding WHERE paper_id = :id", id=paper_id)
    _index(connection, paper_id)
    return True


def _authors(connection: sa.Connection, paper_id: int) -> tuple[str, ...]:
    rows = run(
        connection,
        "SELECT name FROM paper_author JOIN author ON author.id = author_id "
        "WHERE paper_id = :id ORDER BY position",
        id=paper_id,
    )
    return tuple(rows.scalars())


def _set_authors(connection: sa.Connection, paper_id: int, names: Sequence[str]) -> None:
    run(connection, "DELETE FROM paper_author WHERE paper_id = :id", id=paper_id)
    if not names:
        return
    people = [{"name": name} for name in names]
    connection.execute(sa.text("INSERT INTO author (name) VALUES (:name) ON CONFLICT DO NOTHING"), people)
    connection.execute(
        sa.text(
            "INSERT INTO paper_author (paper_id, position, author_id) "
            "SELECT :id, :position, author.id FROM author WHERE name = :name"
        ),
        [{"id": paper_id, "position": i, "name": name} for i, name in enumerate(names)],
    )


def _add_tags(connection: sa.Connection, paper_id: int, tags: Sequence[str]) -> bool:
    """Add tags and return whether any was new."""
    before = set(run(connection, "SELECT name FROM tag WHERE paper_id = :id", id=paper_id).scalars())
    new = [{"id": paper_id, "name": name} for name in tags if name not in before]
    if new:
        connection.execute(sa.text("INSERT INTO tag (paper_id, name) VALUES (:id, :name)"), new)
    return bool(new)


def _words(authors: Sequence[str], tags: Sequence[str]) -> str:
    return "; ".join([*authors, *sorted(tags)])


def _index(connection: sa.Connection, paper_id: int) -> None:
    """Keep the words under which a paper is found besides its text."""
    tags = run(connection, "SELECT name FROM tag WHERE paper_id = :id", id=paper_id).scalars().all()
    words = _words(_authors(connection, paper_id), tags)
    run(
        connection,
        "UPDATE paper SET words = :words WHERE id = :id AND words <> :words",
        words=words,
        id=paper_id,
    )


def _remember(connection: sa.Connection, paper_id: int, record: Record, digest: str, now: str) -> None:
    """Keep what the record said."""
    run(
        connection,
        "INSERT INTO paper_version (paper_id, digest, source, version, title, abstract, authors, updated_at, "
        "recorded_at) VALUES (:id, :digest, :source, :version, :title, :abstract, :authors, :updated, :now)",
        id=paper_id,
        digest=digest,
        source=record.source,
        version=record.version,
        title=record.title,
        abstract=record.abstract,
        authors=json.dumps(record.authors, ensure_ascii=False),
        updated=record.updated,
        now=now,
    )


def _observe(connection: sa.Connection, paper_id: int, record: Record, at: str) -> bool:
    """Store the signals that say something new and return whether any did."""
    changed = False
    for kind, value in record.signals:
        key = {"id": paper_id, "source": record.source, "kind": kind, "at": at}
        held = run(
            connection,
            "SELECT value FROM signal WHERE paper_id = :id AND source = :source AND kind = :kind "
            "AND observed_at <= :at ORDER BY observed_at DESC LIMIT 1",
            **key,
        ).scalar()
        stored = run(
            connection,
            "INSERT INTO signal (paper_id, source, kind, observed_at, value) "
            f"VALUES (:id, :source, :kind, :at, :value) {_LARGER}",
            value=value,
            **key,
        ).rowcount
        changed = changed or (stored > 0 and (held is None or float(held) != value))
    return changed


def _absorb(connection: sa.Connection, keep: int, gone: int) -> None:
    """Join two papers that a record has shown to be one: what the second lacks in the first is moved there."""
    rows = {
        row["id"]: row
        for row in run(
            connection, "SELECT * FROM paper WHERE id IN (:keep, :gone)", keep=keep, gone=gone
        ).mappings()
    }
    first, second = rows[keep], rows[gone]
    authors = {paper_id: _authors(connection, paper_id) for paper_id in (keep, gone)}
    run(connection, "UPDATE paper_version SET paper_id = :keep WHERE paper_id = :gone", keep=keep, gone=gone)
    moved = (
        ("tag", "name", "ON CONFLICT DO NOTHING"),
        ("signal", "source, kind, observed_at, value", _LARGER),
        ("sent_item", "subscriber_id, sent_at", "ON CONFLICT DO NOTHING"),  # nobody gets it twice
    )
    for table, columns, conflict in moved:
        run(
            connection,
            f"INSERT INTO {table} (paper_id, {columns}) SELECT :keep, {columns} FROM {table} "
            f"WHERE paper_id = :gone {conflict}",
            keep=keep,
            gone=gone,
        )
    run(connection, "DELETE FROM paper WHERE id = :gone", gone=gone)
    changes = {name: second[name] for name in _GAPS if first[name] in (None, "") and second[name]}
    if "published_at" in changes:
        changes |= {name: second[name] for name in ("listed_at", "precision", "year")}
    changes["first_seen_at"] = min(first["first_seen_at"], second["first_seen_at"])
    if not authors[keep] and authors[gone]:
        _set_authors(connection, keep, authors[gone])
        changes["author_key"] = second["author_key"]
    setting = ", ".join(f"{name} = :{name}" for name in changes)
    run(connection, f"UPDATE paper SET {setting} WHERE id = :id", id=keep, **changes)
    if "abstract" in changes:
        run(connection, "DELETE FROM embedding WHERE paper_id = :id", id=keep)
    _index(connection, keep)
