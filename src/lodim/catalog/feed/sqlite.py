"""What SQLite says in its own way; the names are those of :mod:`lodim.catalog.feed.dialect`.

A write-ahead log, foreign keys on, and every transaction that writes takes the lock at its start, so that two
processes wait for each other and never fail half-way. The lock has no queue: who waits asks for it again and again, so
what writes for long leaves it for a while now and then (:func:`lodim.catalog.feed.store.give_way`). The full-text index
FTS5 ranks by BM25.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lodim.catalog.feed.statements import run
from lodim.catalog.query import Query, match_expression
from lodim.files import open_whole

__all__ = [
    "LAST",
    "NOT_MATCHING",
    "any_of",
    "apply",
    "backup",
    "count",
    "create_private",
    "explain",
    "make_engine",
    "rebuild",
    "search",
    "spread",
    "statements",
]

PATIENCE = 5.0
ASK_EVERY = 0.01  # seconds, of who waits for the lock
WEIGHTS = {"title": 4.0, "abstract": 1.0, "words": 2.0}  # as in lodim.catalog.search

_LOCKED = "database is locked"
_DAMAGE = ("malformed", "disk I/O error", "no such table", "no such column", "vtable constructor", "to UTF-8")

NOT_MATCHING = "paper.id NOT IN (SELECT rowid FROM paper_fts WHERE paper_fts MATCH :excluded)"
_MATCHING = "FROM paper_fts WHERE paper_fts MATCH :expression"
_RANKED = (
    f"SELECT rowid AS id, -bm25(paper_fts, {', '.join(map(str, WEIGHTS.values()))}) AS score {_MATCHING}"
)

# SQLite takes the value from the row of the maximum. The signs keep it from an index by kind, after which it would
# have to sort
LAST = (
    "SELECT paper_id, source, kind, value, max(observed_at) AS at FROM signal "
    "WHERE +kind IN :kinds AND +observed_at <= :at {of}GROUP BY paper_id, source, kind"
)


def any_of(parts: Sequence[str]) -> str:
    """Return what finds any of some words and phrases."""
    return match_expression(tuple(parts))


def search_expression(query: Query) -> str:
    """Return a query in the syntax of the full-text index."""
    words = match_expression(query.words)
    phrases = " AND ".join(f'"{phrase}"' for phrase in query.phrases)
    if not (words and phrases):
        return words or phrases
    return f"({phrases} AND ({words})) OR ({phrases})"


def search(query: Query, narrowed: str) -> tuple[str, dict[str, Any]]:
    """Return the statement that finds papers by words, with ``:most`` open, and its values."""
    statement = f"{_RANKED}{_within(narrowed)} ORDER BY score DESC, rowid LIMIT :most"
    return statement, {"expression": search_expression(query)}


def count(query: Query, narrowed: str) -> tuple[str, dict[str, Any]]:
    """Return the statement that counts the papers that :func:`search` finds, and its values."""
    return f"SELECT count(*) {_MATCHING}{_within(narrowed)}", {"expression": search_expression(query)}


def _within(narrowed: str) -> str:
    return f" AND rowid IN (SELECT paper.id FROM paper{narrowed})" if narrowed else ""


def spread(connection: sa.Connection, words: Sequence[str]) -> dict[str, int]:
    """Return in how many papers each word occurs."""
    counting = f"SELECT count(*) {_MATCHING}"
    return {word: int(run(connection, counting, expression=any_of((word,))).scalar_one()) for word in words}


def rebuild(connection: sa.Connection) -> None:
    """Make the full-text index anew from the papers."""
    connection.exec_driver_sql("INSERT INTO paper_fts (paper_fts) VALUES ('rebuild')")


def make_engine(place: Path | None) -> sa.Engine:
    """Open a database file, making it readable by its owner only; None is a database in memory."""
    _check_sqlite()
    if place is None:
        engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool, hide_parameters=True)
    else:
        if place.is_dir():
            raise ValueError(f"{place} is a folder; name a file")
        create_private(place)
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(place)),
            connect_args={"timeout": PATIENCE},
            max_overflow=-1,  # a thread that waits for the lock keeps its connection, and nobody else from one
            hide_parameters=True,  # an error tells its statement, but nothing of what was stored
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
    """Make an empty file that only its owner can read, and its folder, unless the file exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    connection.execute(f"PRAGMA busy_timeout={PATIENCE * 1000:.0f}")
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables or "paper" in tables:  # the log would change the file of another program
        connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin(connection: sa.Connection) -> None:
    options = connection.get_execution_options()
    if options.get("writes") is None:
        connection.exec_driver_sql("BEGIN")
        return
    connection.exec_driver_sql("PRAGMA busy_timeout=0")  # SQLite itself would ask ten times a second only
    try:
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                return
            except sa.exc.OperationalError as error:
                if _LOCKED not in str(error.orig) or options["left"]() <= 0:
                    raise
            time.sleep(ASK_EVERY)
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={PATIENCE * 1000:.0f}")


def explain(error: sa.exc.DBAPIError, label: str) -> Exception | None:
    """Return what a person should read in place of an error of the driver; None leaves it."""
    said = str(error.orig)
    if _LOCKED in said:
        return TimeoutError(f"{label} is being written to by another process; try again when it is done")
    if "not a database" in said:
        return ValueError(f"{label} is not a catalogue of papers, nor any SQLite file")
    if "disk is full" in said:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), label)
    if "readonly" in said or "unable to open" in said:
        return PermissionError(
            f"{label} cannot be opened: the file and its folder must be ones that you can read and write"
        )
    if isinstance(error.orig, sqlite3.IntegrityError) or not any(sign in said for sign in _DAMAGE):
        return None
    return damaged(label)


def damaged(label: str) -> ValueError:
    """Return what a person should read of a file that holds other bytes than were written."""
    return ValueError(
        f"{label} is damaged; put back a copy that 'lodim papers backup' has made, or take the papers in anew"
    )


def intact(path: Path) -> bool:
    """Return whether a file's structure is whole, by SQLite's own checks; changed letters in a text are not noticed."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            checks = ("quick_check", "foreign_key_check")
            found = [row for check in checks for row in connection.execute(f"PRAGMA {check}")]
    except (sqlite3.Error, UnicodeDecodeError):  # the second where SQLite repeats what it cannot read
        return False
    return found == [("ok",)]


def statements(script: str) -> Iterator[str]:
    """Split an SQL script, triggers whole."""
    gathered: list[str] = []
    for line in script.splitlines(keepends=True):
        gathered.append(line)
        if sqlite3.complete_statement("".join(gathered)):
            yield "".join(gathered)
            gathered = []


def apply(connection: sa.Connection, script: str) -> None:
    """Run a migration."""
    for statement in statements(script):
        connection.exec_driver_sql(statement)


def backup(engine: sa.Engine, target: Path) -> None:
    """Write a compact copy while others may read and write."""
    if target.exists() and (not target.is_file() or target.stat().st_size):
        raise ValueError(f"{target} exists; a backup never overwrites, name another file")
    target.parent.mkdir(parents=True, exist_ok=True)
    connection = engine.raw_connection()
    try:
        with open_whole(target, private=True) as file:
            Path(f"{file.name}-journal").unlink(missing_ok=True)  # of a backup that was killed
            connection.driver_connection.execute("VACUUM INTO ?", (file.name,))  # type: ignore[union-attr]
    except sqlite3.OperationalError as error:
        raise OSError(f"{target} could not be written: {error}") from error
    finally:
        connection.close()
