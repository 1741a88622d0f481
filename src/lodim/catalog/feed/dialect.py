"""Which database a catalogue is kept in; what SQLite and PostgreSQL say differently is in a module of each.

Both modules, :mod:`~lodim.catalog.feed.sqlite` and :mod:`~lodim.catalog.feed.postgresql`, hold the same names:

==============================  ====================================================================
name                            is
==============================  ====================================================================
``make_engine(place)``          an engine whose transactions are begun as below
``apply(connection, script)``   run a migration
``rebuild(connection)``         make the full-text index anew
``backup(engine, target)``      write a copy
``explain(error, label)``       what a person should read in place of a driver's error, or None
``search(query, narrowed)``     statement and values: number and score of papers, best first
``count(query, narrowed)``      statement and values: how many papers those are
``spread(connection, words)``   in how many papers each word occurs
``NOT_MATCHING``, ``any_of``    a condition that excludes papers, and the value of ``:excluded`` in it
``LAST``                        of every series of signals its last value by a moment
==============================  ====================================================================

A ``query`` looks for something: its phrases must occur, its words count, and one of them must occur if there is no
phrase. ``narrowed`` are conditions on the table ``paper`` after ``WHERE``, or nothing; ``:most`` is left open. Words
and phrases hold letters, digits and spaces only, so nothing in them is syntax.

All other SQL is shared. Times are text in ISO 8601 in both, names and times compare byte by byte, and vectors are
bytes.

Transactions are begun with an option: ``writes=None`` reads one moment of the database; ``writes=("papers",)`` waits,
as long as ``left()`` seconds are left, until no other transaction holds that lock. SQLite has one lock for everything,
PostgreSQL one for each name; there a wait for a row that comes later ends after ``patience`` seconds.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa

from lodim.catalog.feed import postgresql, sqlite
from lodim.catalog.feed.postgresql import Clash

__all__ = ["PATIENCE", "Clash", "Place", "changes", "label", "latest", "module_of", "of", "place_of"]

PATIENCE = sqlite.PATIENCE
Place = Path | sa.URL | None
_MODULES: dict[str, ModuleType] = {"sqlite": sqlite, "postgresql": postgresql}


def of(bound: sa.Engine | sa.Connection) -> ModuleType:
    """Return the module of the database that an engine or a connection belongs to."""
    return _MODULES[bound.dialect.name]


_OTHER = (
    "(SELECT value FROM signal AS other WHERE other.paper_id = last.paper_id AND other.source = last.source "
    "AND other.kind = last.kind {by}ORDER BY other.observed_at {way} LIMIT 1)"
)


def latest(connection: sa.Connection, narrowed: str = "") -> str:
    """Return the statement that reads signals of the ``:kinds`` as they were ``:at`` a moment, those of a paper
    together. ``narrowed`` is a further condition on ``signal``, beginning with ``AND``.
    """
    last = of(connection).LAST.format(of=narrowed)
    return f"SELECT paper_id, source, kind, value FROM ({last}) AS last ORDER BY paper_id"


def changes(connection: sa.Connection, narrowed: str = "") -> str:
    """Return the statement of :func:`latest` with the values by an earlier moment ``:before``, and the first of all."""
    last = of(connection).LAST.format(of=narrowed)
    before = _OTHER.format(by="AND other.observed_at <= :before ", way="DESC")
    return (
        f"SELECT paper_id, source, kind, value, {before} AS before, {_OTHER.format(by='', way='ASC')} AS first "
        f"FROM ({last}) AS last ORDER BY paper_id"
    )


def module_of(place: Place) -> ModuleType:
    """Return the module of the database at a place."""
    return postgresql if isinstance(place, sa.URL) else sqlite


def place_of(text: str | os.PathLike[str] | None) -> Place:
    """Return the file or the address of a database; None, which is one in memory, stays None. The ValueError for an
    address that is of another kind or cannot be read does not repeat it, since it may hold a password.
    """
    if not isinstance(text, str) or "://" not in text:
        return None if text is None else Path(text)
    scheme, _, rest = text.partition("://")
    if scheme.lower() not in ("postgresql", "postgresql+psycopg", "postgres"):
        known = re.fullmatch(r"[\w+.-]{1,40}", scheme)
        raise ValueError(
            f"a catalogue is a file, or postgresql://user@host/database; got {scheme if known else '...'}://..."
        )
    try:
        return sa.make_url(f"postgresql+psycopg://{rest}")
    except (ValueError, sa.exc.ArgumentError):
        raise ValueError(
            "the address of the database cannot be read; expected postgresql://user:password@host:port/database with "
            "%-escapes for / : @ % in user and password"
        ) from None


def label(place: Place) -> str:
    """Return how a database is called in messages: never with user or password."""
    if not isinstance(place, sa.URL):
        return "the catalogue in memory" if place is None else str(place)
    host = place.host or place.query.get("host", "")
    port = f":{place.port}" if place.port else ""
    return f"postgresql://{host if isinstance(host, str) else ','.join(host)}{port}/{place.database or ''}"
