"""All SQL that depends on the database, in one place; everything else is SQL that SQLite and PostgreSQL share.

SQLite: write-ahead log, foreign keys on, five seconds of patience with another writer, and every transaction that
writes takes the lock at its start, so that two processes wait for each other and never fail half-way.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lodim.catalog.query import Query, match_expression

__all__ = [
    "CHANGES",
    "LATEST",
    "NARROWED",
    "NOT_MATCHING",
    "N_MATCHING",
    "REBUILD",
    "SEARCH",
    "backup",
    "create_private",
    "make_engine",
    "search_expression",
    "statements",
]

PATIENCE_MS = 5000
WEIGHTS = {"title": 4.0, "abstract": 1.0, "words": 2.0}  # as in lodim.catalog.search

SEARCH = (
    "SELECT rowid AS id, -bm25(paper_fts, " + ", ".join(map(str, WEIGHTS.values())) + ") AS score "
    "FROM paper_fts WHERE paper_fts MATCH :expression{narrowed} ORDER BY score DESC, rowid LIMIT :most"
)
N_MATCHING = "SELECT count(*) FROM paper_fts WHERE paper_fts MATCH :expression{narrowed}"
NARROWED = " AND rowid IN (SELECT paper.id FROM paper{conditions})"
NOT_MATCHING = "paper.id NOT IN (SELECT rowid FROM paper_fts WHERE paper_fts MATCH :excluded)"
REBUILD = "INSERT INTO paper_fts (paper_fts) VALUES ('rebuild')"

# of every series of the kinds the last value by a moment, the last by an earlier one and the first; SQLite takes the
# value from the row of the maximum or minimum; {of} narrows the papers, and those of a paper come together.
# The signs keep SQLite from an index by kind, after which it would have to sort
_LAST = (
    "SELECT paper_id, source, kind, value, {which}(observed_at) AS at FROM signal "
    "WHERE +kind IN :kinds AND +observed_at <= :{moment} {{of}}GROUP BY paper_id, source, kind"
)
_NOW = _LAST.format(which="max", moment="at")
LATEST = f"SELECT paper_id, source, kind, value FROM ({_NOW}) AS last ORDER BY paper_id"
CHANGES = (
    f"SELECT last.paper_id, last.source, last.kind, last.value, old.value AS before, first.value AS first "
    f"FROM ({_NOW}) AS last "
    f"LEFT JOIN ({_LAST.format(which='max', moment='before')}) AS old USING (paper_id, source, kind) "
    f"LEFT JOIN ({_LAST.format(which='min', moment='at')}) AS first USING (paper_id, source, kind) "
    "ORDER BY last.paper_id"
)


def search_expression(query: Query) -> str:
    """Return a query in the syntax of the full-text index; empty if it looks for nothing.

    Phrases must occur, the words count, one of them must occur if there is no phrase.

    Parameters
    ----------
    query : Query
        Its parts hold letters, digits and spaces only, so nothing in them is syntax.
    """
    words = match_expression(query.words)
    phrases = " AND ".join(f'"{phrase}"' for phrase in query.phrases)
    if not (words and phrases):
        return words or phrases
    return f"({phrases} AND ({words})) OR ({phrases})"


def make_engine(path: Path | None) -> sa.Engine:
    """Open a database file, making it readable by its owner only; None is a database in memory.

    Parameters
    ----------
    path : Path or None

    Raises
    ------
    RuntimeError
        This Python's SQLite has no full-text index, or is too old.
    OSError
        The file or its folder cannot be made.
    """
    _check_sqlite()
    if path is None:
        engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    else:
        create_private(path)
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": PATIENCE_MS / 1000}
        )
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _check_sqlite() -> None:
    if sqlite3.sqlite_version_info < (3, 37):
        raise RuntimeError(
            f"SQLite 3.37 or newer is needed for strict tables; found {sqlite3.sqlite_version}"
        )
    with sqlite3.connect(":memory:") as probe:
        try:
            probe.execute("CREATE VIRTUAL TABLE probe USING fts5(text)")
        except sqlite3.OperationalError as error:
            raise RuntimeError(
                f"this Python's SQLite {sqlite3.sqlite_version} has no full-text index FTS5; "
                "use a Python whose sqlite3 module has it, e.g. from python.org, conda or your distribution"
            ) from error
    probe.close()


def create_private(path: Path) -> None:
    """Make an empty file that only its owner can read, and its folder, unless the file exists.

    Parameters
    ----------
    path : Path
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    for pragma in (
        f"busy_timeout={PATIENCE_MS}",
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def statements(script: str) -> Iterator[str]:
    """Split an SQL script, triggers whole.

    Parameters
    ----------
    script : str
        Every statement ends at the end of a line.
    """
    gathered: list[str] = []
    for line in script.splitlines(keepends=True):
        gathered.append(line)
        if sqlite3.complete_statement("".join(gathered)):
            yield "".join(gathered)
            gathered = []


def backup(engine: sa.Engine, target: Path) -> None:
    """Write a compact copy while others may read and write.

    Parameters
    ----------
    engine : Engine
    target : Path
        Must not hold anything yet.

    Raises
    ------
    ValueError
        The target exists.
    """
    if target.exists() and (target.is_dir() or target.stat().st_size):
        raise ValueError(f"{target} exists; a backup never overwrites, name another file")
    create_private(target)
    connection = engine.raw_connection()
    try:
        connection.driver_connection.execute("VACUUM INTO ?", (str(target),))  # type: ignore[union-attr]
    finally:
        connection.close()
