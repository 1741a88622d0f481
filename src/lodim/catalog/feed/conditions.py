"""Which papers a list is made of: time, areas, filters of a query; as conditions on the table ``paper``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from lodim.catalog.cards import load_cards
from lodim.catalog.feed import dialect
from lodim.catalog.feed.records import EntryError, read_date, stamp, utc
from lodim.catalog.feed.statements import run
from lodim.catalog.query import Query
from lodim.catalog.search import shared_index
from lodim.catalog.vocabulary import AREAS

__all__ = ["WINDOWS", "Conditions", "moment"]

_WITHOUT = "paper.id NOT IN (excluded)"  # said in the database's own words when it is run
_OF_TAG = "lower(name) = :tag{n} OR substr(lower(name), 1, length(:archive{n})) = :archive{n}"
_OF_AREA = (
    f"paper.id IN (SELECT paper_id FROM tag WHERE {_OF_TAG}) OR coalesce(paper.arxiv_id, '') IN :cards{{n}}"
)
WINDOWS = {"day": 1, "week": 7, "month": 30, "year": 365}


def moment(value: datetime | str | None) -> str | None:
    """Return a time as it is stored; None stays None."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return stamp(value)
    try:
        found = read_date(value)[0]
    except EntryError as error:
        raise ValueError(str(error)) from error
    if found is None:
        raise ValueError("expected a time, got empty text")
    return found


@dataclass
class Conditions:
    """SQL conditions that all must hold, and the values in them; the notes say what was asked for in vain."""

    parts: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, part: str, **values: Any) -> None:
        """Add one; a value that is a tuple is a list of values for ``IN``."""
        self.parts.append(part)
        self.values |= values

    def since(self, value: str | date | datetime | timedelta | None, now: str) -> None:
        """Papers since a date, or of the last day, week, month or year."""
        if value is None or value == "all":
            return
        if isinstance(value, str) and value in WINDOWS:
            value = timedelta(days=WINDOWS[value])
        if isinstance(value, timedelta):
            start: str | None = stamp(utc(now) - value)
        elif isinstance(value, datetime | str):
            try:
                start = moment(value)
            except ValueError as error:
                raise ValueError(f"since must be {', '.join(WINDOWS)}, all or a date; {error}") from error
        else:
            start = moment(value.isoformat())
        self.add("paper.listed_at >= :since", since=start)

    def areas(self, connection: sa.Connection, names: Sequence[str]) -> None:
        """Papers of one of these areas: a tag (``cs.LG``), an archive (``cs``), or an area of lodim's cards."""
        asked = tuple(dict.fromkeys(name.strip().lower() for name in names if name.strip()))
        if not asked:
            return
        tags = {tag: tag.lower() for (tag,) in run(connection, "SELECT DISTINCT name FROM tag")}
        wanted = tuple(tag for tag, low in tags.items() if low in asked or low.split(".")[0] in asked)
        papers = tuple(card.arxiv_id for card in load_cards() if set(card.areas) & set(asked))
        for name in asked:
            if name not in AREAS and not any(
                low == name or low.split(".")[0] == name for low in tags.values()
            ):
                self.notes.append(_unknown(name))
        self.add(
            "(paper.id IN (SELECT paper_id FROM tag WHERE name IN :tags) OR paper.arxiv_id IN :area_papers)",
            tags=wanted,
            area_papers=papers,
        )

    def query(self, query: Query) -> None:
        """Papers that pass a query's filters and hold none of what it excludes."""
        for number, (name, value, wanted) in enumerate(query.filters):
            if name == "year":
                first, _, last = value.partition("-")
                test = f"coalesce(paper.year, 0) BETWEEN :first{number} AND :last{number}"
                values: dict[str, Any] = {f"first{number}": int(first), f"last{number}": int(last or first)}
            elif name == "area":
                test = _OF_AREA.format(n=number)
                papers = tuple(card.arxiv_id for card in load_cards() if value in card.areas)
                values = {f"tag{number}": value, f"archive{number}": f"{value}.", f"cards{number}": papers}
            else:
                index = shared_index()
                slugs = index.allowed(Query("", filters=((name, value, True),)))
                test = f"coalesce(paper.arxiv_id, '') IN :cards{number}"
                values = {f"cards{number}": tuple(index.cards[slug].arxiv_id for slug in slugs)}
            self.add(f"({test})" if wanted else f"NOT ({test})", **values)
        if query.excluded:
            self.add(_WITHOUT, excluded=list(query.excluded))

    def note_unknown_areas(self, connection: sa.Connection, query: Query) -> None:
        """Say which areas of a query no paper is of."""
        for name, value, _ in query.filters:
            if name == "area" and value not in AREAS:
                known = run(
                    connection,
                    f"SELECT 1 FROM tag WHERE {_OF_TAG.format(n='')} LIMIT 1",
                    **{"tag": value, "archive": f"{value}."},
                )
                if known.first() is None:
                    self.notes.append(_unknown(value))

    def sql(self, joint: str = " WHERE ") -> str:
        """Return the conditions, after ``WHERE`` or ``AND``, or nothing."""
        return joint + " AND ".join(self.parts) if self.parts else ""

    def run(self, connection: sa.Connection, statement: str, **values: Any) -> Any:
        """Execute a statement with the conditions' values and others."""
        database, every = dialect.of(connection), self.values | values
        if _WITHOUT in statement:
            statement = statement.replace(_WITHOUT, database.NOT_MATCHING)
            every["excluded"] = database.any_of(every["excluded"])
        used = {name: value for name, value in every.items() if re.search(rf":{name}\b", statement)}
        return run(connection, statement, **used)


def _unknown(area: str) -> str:
    close = difflib.get_close_matches(area, AREAS, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"no paper has the tag {area!r}, and no area of methods is called so{hint}"
