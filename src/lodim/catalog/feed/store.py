"""The database: opening, migrations, transactions, backup.

Migrations are SQL files numbered by hand, ``migrations/<dialect>/0001_papers.sql`` and on; each is applied once, in
order, together with the new ``schema_version`` in one transaction.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import sqlalchemy as sa

from lodim.catalog.feed import dialect

__all__ = ["Store"]


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


class Store:
    """A database of papers.

    Parameters
    ----------
    path : path or None
        Of the file, made if it does not exist; None keeps everything in memory.

    Raises
    ------
    ValueError
        The file is something else, or was written by a newer lodim.
    RuntimeError
        SQLite without full-text index.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.path = None if path is None else Path(path)
        if self.path is not None and self.path.is_dir():
            raise ValueError(f"{self.path} is a folder; name a file")
        self.engine = dialect.make_engine(self.path)
        try:
            self.schema_version = self._migrate()
        except sa.exc.DatabaseError as error:
            self.close()
            if "not a database" in str(error.orig):
                raise ValueError(f"{self.path} is not a catalogue of papers, nor any SQLite file") from error
            raise

    def _migrate(self) -> int:
        scripts = _migrations(self.engine.dialect.name)
        with self.writing() as connection:
            version = self._version(connection)
            if version > len(scripts):
                raise ValueError(
                    f"{self.path} has schema {version}, this lodim knows {len(scripts)}; install a newer lodim"
                )
            for number in range(version + 1, len(scripts) + 1):
                for statement in dialect.statements(scripts[number]):
                    connection.exec_driver_sql(statement)
                self.set_meta(connection, "schema_version", str(number))
        return len(scripts)

    def _version(self, connection: sa.Connection) -> int:
        tables = sa.inspect(connection).get_table_names()
        if not tables:
            return 0
        if "meta" not in tables or "paper" not in tables:
            raise ValueError(f"{self.path} is a database, but no catalogue of papers")
        return int(self.get_meta(connection, "schema_version") or 0)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection that sees one moment of the database."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Give a connection whose changes are kept together, or not at all if an error is raised."""
        with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    @staticmethod
    def get_meta(connection: sa.Connection, key: str) -> str | None:
        """Return a note kept under a key, or None.

        Parameters
        ----------
        connection : Connection
        key : str
        """
        return connection.execute(sa.text("SELECT value FROM meta WHERE key = :key"), {"key": key}).scalar()

    @staticmethod
    def set_meta(connection: sa.Connection, key: str, value: str) -> None:
        """Keep a note under a key.

        Parameters
        ----------
        connection : Connection
        key, value : str
        """
        connection.execute(
            sa.text(
                "INSERT INTO meta (key, value) VALUES (:key, :value) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value"
            ),
            {"key": key, "value": value},
        )

    def rebuild(self) -> None:
        """Make the full-text index anew from the papers."""
        with self.writing() as connection:
            connection.exec_driver_sql(dialect.REBUILD)

    def backup(self, target: str | os.PathLike[str]) -> Path:
        """Write a compact copy to a new file and return its path.

        Parameters
        ----------
        target : path

        Raises
        ------
        ValueError
            The target exists.
        """
        path = Path(target)
        dialect.backup(self.engine, path)
        return path

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
