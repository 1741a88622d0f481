"""What PostgreSQL says in its own way; the names are those of :mod:`lodim.catalog.feed.dialect`.

Words of a paper are in ``paper_fts``: a ``tsvector`` with the title in class A, authors and tags in B, the abstract in
C, stemmed as English without a list of stop words, kept by triggers. Migration 0001 also makes the functions used here:
``any_of(text[])`` and ``all_of(text[])`` turn words and phrases, which hold letters, digits and spaces only, into
queries.

A paper's score is a BM25 whose pieces PostgreSQL has: over the words :math:`w` that were asked for,

.. math:: \\sum_w \\log\\Bigl(1 + \\frac{N - n_w + 1/2}{n_w + 1/2}\\Bigr)\\,
          \\frac{2.2\\, r_w}{1 + 1.2\\,(1/4 + 3/4 \\cdot \\ell / 120)}

with :math:`N` papers, :math:`n_w` of them with the word, :math:`\\ell` distinct words in this one, and :math:`r_w` its
``ts_rank``, which grows with every further occurrence by less, in place of a saturated count. The weights of the
classes are what BM25 gives for 4, 2 and 1 occurrences. So lists are alike to those of SQLite, but not the same.

A reading transaction is ``REPEATABLE READ``; a writing one first takes an advisory lock of its name, which gives the
exclusion that SQLite's ``BEGIN IMMEDIATE`` gives, and sees all that was committed before it had the lock. Several locks
are taken by the order of their names, before any row: so no two transactions wait for each other if those that touch
the same rows have a lock in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lodim.catalog.feed.libraries import optional
from lodim.catalog.feed.statements import run
from lodim.catalog.query import Query

__all__ = [
    "LAST",
    "NOT_MATCHING",
    "Clash",
    "any_of",
    "apply",
    "backup",
    "count",
    "explain",
    "make_engine",
    "rebuild",
    "search",
    "spread",
]

PATIENCE = 5.0
CONNECT_WITHIN = 10  # seconds
OLDEST = 13  # normalize()
ASK_EVERY = 1.0  # seconds, after which who waits for a lock looks whether it is in a hurry

# a query is made in a SELECT of its own, so that it is made once and not for every row
_ANY = "document @@ (SELECT any_of(CAST(:{} AS text[])))"
_ALL = "document @@ (SELECT all_of(CAST(:phrases AS text[])))"
NOT_MATCHING = f"paper.id NOT IN (SELECT paper_id FROM paper_fts WHERE {_ANY.format('excluded')})"
_RANKED = """
WITH asked AS (SELECT DISTINCT any_of(ARRAY[part]) AS query FROM unnest(CAST(:words AS text[])) AS part),
hit AS MATERIALIZED (
    SELECT paper_id, query, 2.2::float8 * ts_rank('{0, 0.59, 0.81, 1}', document, query)
        / (1.3::float8 + 0.9::float8 * length(document) / 120) AS rank
    FROM asked JOIN paper_fts ON document @@ query
),
word AS (
    SELECT query, ln(1 + ((SELECT count(*) FROM paper) - count(*) + 0.5::float8) / (count(*) + 0.5::float8)) AS weight
    FROM hit GROUP BY query
)
SELECT paper_id AS id, sum(rank * weight) AS score FROM hit JOIN word USING (query)"""

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('lodim ' || current_schema() || ' ' || :lock, 0))"
_NOT_HAD = "55P03"  # lock_not_available
LAST = (
    "SELECT DISTINCT ON (paper_id, source, kind) paper_id, source, kind, value FROM signal "
    "WHERE kind IN :kinds AND observed_at <= :at {of}ORDER BY paper_id, source, kind, observed_at DESC"
)


class Clash(TimeoutError):
    """The server ended a transaction that another one stood in the way of; nothing of it was kept."""


def any_of(parts: Sequence[str]) -> list[str]:
    """Return what finds any of some words and phrases."""
    return list(parts)


def search(query: Query, narrowed: str) -> tuple[str, dict[str, Any]]:
    """Return the statement that finds papers by words, with ``:most`` open, and its values."""
    conditions = [
        f"paper_id IN (SELECT paper_id FROM paper_fts WHERE {_ALL})" if query.phrases else "",
        f"paper_id IN (SELECT paper.id FROM paper{narrowed})" if narrowed else "",
    ]
    where = " AND ".join(["true", *filter(None, conditions)])
    ending = "GROUP BY paper_id ORDER BY score DESC, paper_id LIMIT :most"
    return f"{_RANKED} WHERE {where} {ending}", _values(query)


def count(query: Query, narrowed: str) -> tuple[str, dict[str, Any]]:
    """Return the statement that counts the papers that :func:`search` finds, and its values."""
    conditions = [
        _ANY.format("words"),
        _ALL if query.phrases else "",
        f"paper_id IN (SELECT paper.id FROM paper{narrowed})" if narrowed else "",
    ]
    return f"SELECT count(*) FROM paper_fts WHERE {' AND '.join(filter(None, conditions))}", _values(query)


def _values(query: Query) -> dict[str, Any]:
    return {"words": list(query.looked_for), "phrases": list(query.phrases)}


def spread(connection: sa.Connection, words: Sequence[str]) -> dict[str, int]:
    """Return in how many papers each word occurs."""
    counting = (
        "SELECT word, (SELECT count(*) FROM paper_fts WHERE document @@ (SELECT any_of(ARRAY[word]))) "
        "FROM unnest(CAST(:words AS text[])) AS word"
    )
    return {word: int(n) for word, n in run(connection, counting, words=list(words))}


def rebuild(connection: sa.Connection) -> None:
    """Make the full-text index anew from the papers."""
    connection.exec_driver_sql("DELETE FROM paper_fts")
    connection.exec_driver_sql(
        "INSERT INTO paper_fts (paper_id, document) SELECT id, paper_document(title, abstract, words) FROM paper"
    )


def make_engine(place: sa.URL) -> sa.Engine:
    """Open a database of a server."""
    optional("psycopg", "postgres")
    given = {"connect_timeout": CONNECT_WITHIN, "application_name": "lodim"}
    engine = sa.create_engine(
        place,
        connect_args={name: value for name, value in given.items() if name not in place.query},
        pool_pre_ping=True,
        hide_parameters=True,  # an error tells its statement, but nothing of what was stored
    )
    sa.event.listen(engine, "connect", _check_server)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _check_server(connection: Any, _record: Any) -> None:
    version, encoding = connection.info.server_version, connection.info.parameter_status("server_encoding")
    if version < OLDEST * 10_000:
        raise RuntimeError(f"PostgreSQL {OLDEST} or newer is needed; the server has {version // 10_000}")
    if encoding != "UTF8":
        raise RuntimeError(
            f"the database must be encoded as UTF8, not {encoding}; make one with CREATE DATABASE name ENCODING 'UTF8' "
            "TEMPLATE template0"
        )


def _begin(connection: sa.Connection) -> None:
    options = connection.get_execution_options()
    locks = options.get("writes")
    if locks is None:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return
    while True:
        _wait_at_most(connection, min(options["left"](), ASK_EVERY))
        try:
            for lock in sorted(locks):
                run(connection, _LOCK, lock=lock)
            break
        except sa.exc.OperationalError as error:
            if _state(error) != _NOT_HAD or options["left"]() <= 0:
                raise
            connection.connection.rollback()  # nothing is lost yet, and the locks before this one are let go
    _wait_at_most(connection, options["patience"])  # for rows, where no hurry reaches


def _wait_at_most(connection: sa.Connection, seconds: int | float) -> None:
    milliseconds = max(seconds * 1000, 1)  # 0 would be for ever
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds:.0f}")


def _state(error: sa.exc.DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


def explain(error: sa.exc.DBAPIError, label: str) -> Exception | None:
    """Return what a person should read in place of an error of the driver; None leaves it."""
    state = _state(error)
    if state in ("40P01", "40001"):  # deadlock_detected, serialization_failure
        return Clash(f"{label} is being written to by another process at the same place; try again")
    if state == _NOT_HAD:
        return TimeoutError(f"{label} is being written to by another process; try again when it is done")
    if state == "42501":  # insufficient_privilege
        return PermissionError(f"{label}: {_first_line(error)}")
    if error.connection_invalidated or error.statement is None:  # lost, or never made
        return ConnectionError(f"{label} cannot be reached: {_first_line(error)}")
    return None


def _first_line(error: sa.exc.DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else type(error.orig).__name__


def apply(connection: sa.Connection, script: str) -> None:
    """Run a migration."""
    connection.exec_driver_sql(script, execution_options={"no_parameters": True})


def backup(engine: sa.Engine, target: Path) -> None:
    """Say how a copy is made; the server has its own way."""
    raise ValueError(
        "a catalogue on a PostgreSQL server is copied by its own tools: "
        f"pg_dump --format=custom --file={target} {engine.url.database}; pg_restore brings it back"
    )
