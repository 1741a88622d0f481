"""The database: opening, migrations, transactions, backup.

Migrations are SQL files numbered by hand, ``migrations/<database>/0001_papers.sql`` and on; each is applied once, in
order, together with the new ``schema_version`` in one transaction. What differs between SQLite and PostgreSQL is in
:mod:`lodim.catalog.feed.dialect`.
"""

from __future__ import annotations

import copy
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from lodim.catalog.feed import dialect
from lodim.catalog.feed.statements import run

__all__ = ["HURRIED", "LONG", "PAPERS", "RECORDS", "VISITOR", "VISITORS", "Store", "give_way"]

PAPERS = "papers"  # the lock of everything that changes papers
RECORDS = "records"  # that of everything else; who changes rows of both takes both
LONG = 60.0  # seconds of patience of work that nobody waits for, and of what must not be lost
VISITOR, VISITORS = 10.0, 10  # seconds of patience of who looks at a page, and how many of them wait at once
HURRIED = 5.0  # seconds left to all who wait when the process ends
_ASIDE = 0.03  # seconds; all who wait ask for the lock in this time
_TRIES = 3
_T = TypeVar("_T")


@dataclass
class _Hurry:
    """Until when everybody who waits has to have the lock, by ``time.monotonic``."""

    by: float = math.inf


def _migrations(name: str) -> dict[int, str]:
    """Return the scripts of a dialect by number."""
    folder = files("lodim.catalog.feed").joinpath("migrations", name)
    found = {}
    for file in folder.iterdir():
        number = re.fullmatch(r"(\d{4})_\w+\.sql", file.name)
        if number:
            found[int(number[1])] = file.read_text(encoding="utf-8")
    if sorted(found) != list(range(1, len(found) + 1)):
        raise RuntimeError(f"migrations of {name} are not numbered 1 to {len(found)}: {sorted(found)}")
    return found


def give_way() -> None:
    """Let others write, between two transactions of work that has many."""
    time.sleep(_ASIDE)


class Store:
    """A database of papers: a file, made if it does not exist; ``postgresql://user@host/database``, which must exist;
    or None, which keeps everything in memory. Messages call it ``label``, without user and password; a writer waits
    ``patience`` seconds for another unless it says otherwise.

    Raises
    ------
    ValueError
        The database is something else, or was written by a newer lodim.
    RuntimeError
        SQLite without full-text index, a server that is too old or a database that is not encoded as UTF-8.
    ConnectionError
        The server cannot be reached, or does not let us in.
    """

    def __init__(self, place: str | os.PathLike[str] | None) -> None:
        at = dialect.place_of(place)
        self.label, self.patience = dialect.label(at), dialect.PATIENCE
        self.engine = dialect.module_of(at).make_engine(at)
        self._database = dialect.of(self.engine)
        self._hurry = _Hurry()
        self._longest: int | float = math.inf
        self._places: threading.BoundedSemaphore | None = None
        try:
            self.schema_version = self._migrate()
        except BaseException:
            self.close()
            raise

    def _migrate(self) -> int:
        scripts = _migrations(self.engine.dialect.name)
        with self.reading() as connection:  # so that opening waits for nobody if there is nothing to do
            if self._version(connection, len(scripts)) == len(scripts):
                return len(scripts)
        with self.writing("schema", patience=LONG) as connection:
            for number in range(self._version(connection, len(scripts)) + 1, len(scripts) + 1):
                self._database.apply(connection, scripts[number])
                self.set_meta(connection, "schema_version", str(number))
        return len(scripts)

    def _version(self, connection: sa.Connection, known: int) -> int:
        tables = sa.inspect(connection).get_table_names()
        if not tables:
            return 0
        if "meta" not in tables or "paper" not in tables:
            raise ValueError(f"{self.label} is a database, but no catalogue of papers")
        kept = self.get_meta(connection, "schema_version") or "0"
        if not kept.isdecimal():
            raise ValueError(f"{self.label} is damaged: its schema version is {kept[:40]!r}")
        version = int(kept)
        if version > known:
            raise ValueError(
                f"{self.label} has schema {version}, this lodim knows {known}; install a newer lodim"
            )
        return version

    @contextmanager
    def _transaction(self, **options: Any) -> Iterator[sa.Connection]:
        """Give a connection in a transaction; a driver's error becomes one that a person can read."""
        try:
            with self.engine.connect().execution_options(**options) as connection, connection.begin():
                yield connection
        except sa.exc.DBAPIError as error:
            told = self._database.explain(error, self.label)
            if told is None:
                raise
            raise told from None  # the driver's text may hold more than is to be read
        except sa.exc.TimeoutError:  # of the pool
            raise TimeoutError(f"{self.label} is in use by too many at once; try again later") from None

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection that sees one moment of the database."""
        with self._transaction(writes=None) as connection:
            yield connection

    @contextmanager
    def writing(self, *locks: str, patience: int | float | None = None) -> Iterator[sa.Connection]:
        """Give a connection whose changes are kept together, or not at all if an error is raised.

        Of transactions with the same lock (by default ``RECORDS``) one runs at a time; in SQLite of all that write.
        After ``patience`` seconds, or with too many visitors waiting, it raises a TimeoutError; a ConnectionError if
        the server cannot be reached.
        """
        seconds = min(self.patience if patience is None else patience, self._longest)
        end = time.monotonic() + seconds
        options = {
            "writes": locks or (RECORDS,),
            "patience": seconds,
            "left": lambda: min(end, self._hurry.by) - time.monotonic(),
        }
        if self._places is not None and not self._places.acquire(blocking=False):
            raise TimeoutError(f"too many wait to write to {self.label}; try again later")
        try:
            with self._transaction(**options) as connection:
                yield connection
        finally:
            if self._places is not None:
                self._places.release()

    def run(
        self, work: Callable[[sa.Connection], _T], *locks: str, patience: int | float | None = None
    ) -> _T:
        """Do what writes, from its start again if a server ended it because another transaction stood in its way."""
        for _ in range(_TRIES - 1):
            try:
                with self.writing(*locks, patience=patience) as connection:
                    return work(connection)
            except dialect.Clash:
                give_way()
        with self.writing(*locks, patience=patience) as connection:
            return work(connection)

    def for_visitors(self, patience: int | float = VISITOR, at_once: int = VISITORS) -> Store:
        """Return the same database for people who look at a page, so that those who wait do not stop all pages: nobody
        waits longer than ``patience`` seconds, and at most ``at_once`` write or wait; further ones are told at once
        that it cannot be done now.
        """
        other = copy.copy(self)
        other._longest, other._places = patience, threading.BoundedSemaphore(at_once)
        return other

    @contextmanager
    def hurry(self, within: int | float = HURRIED) -> Iterator[None]:
        """Let all who wait to write, now or in the block, give up within some seconds: the process is about to end."""
        held = self._hurry.by
        self._hurry.by = min(held, time.monotonic() + within)
        try:
            yield
        finally:
            self._hurry.by = held

    @property
    def hurried(self) -> bool:
        """Whether no new work should be begun, see :meth:`hurry`."""
        return self._hurry.by < math.inf

    @staticmethod
    def get_meta(connection: sa.Connection, key: str) -> str | None:
        """Return a note kept under a key, or None."""
        return run(connection, "SELECT value FROM meta WHERE key = :key", key=key).scalar()

    @staticmethod
    def set_meta(connection: sa.Connection, key: str, value: str) -> None:
        """Keep a note under a key."""
        run(
            connection,
            "INSERT INTO meta (key, value) VALUES (:key, :value) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            key=key,
            value=value,
        )

    def rebuild(self) -> None:
        """Make the full-text index anew from the papers."""
        with self.writing(PAPERS, patience=LONG) as connection:
            self._database.rebuild(connection)

    def backup(self, target: str | os.PathLike[str]) -> Path:
        """Write a compact copy to a new file and return its path."""
        path = Path(target)
        self._database.backup(self.engine, path)
        return path

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
