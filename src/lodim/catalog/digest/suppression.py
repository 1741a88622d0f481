"""Addresses that are never written to, kept without the addresses.

What is kept is scrypt of the folded address under a salt that each database draws once. Addresses can be guessed, so
a fast hash would hide little of them; the salt has to be one for all rows, as an address is looked up by its hash.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3

import sqlalchemy as sa

from lodim.catalog.digest.requests import fold
from lodim.catalog.feed.statements import run
from lodim.catalog.feed.store import LONG, Store

__all__ = ["REASONS", "Suppression", "scrub"]

REASONS = ("erased", "bounced", "asked")
_SALT = "suppression_salt"
_COST = {"n": 2**12, "r": 8, "p": 1, "dklen": 32}


class Suppression:
    """The list of a database."""

    def __init__(self, store: Store) -> None:
        with store.reading() as connection:
            held = store.get_meta(connection, _SALT)
        if held is None:
            held = self._draw(store)
        self._salt = bytes.fromhex(held)

    @staticmethod
    def _draw(store: Store) -> str:
        """Draw the salt unless another process has just done so, and return the one that holds."""
        with store.writing(patience=LONG) as connection:
            held = store.get_meta(connection, _SALT)
            if held is None:
                held = secrets.token_hex(16)
                store.set_meta(connection, _SALT, held)
        return held

    def digest(self, email: str) -> str:
        """Return what is kept of an address."""
        return hashlib.scrypt(fold(email).encode(), salt=self._salt, **_COST).hex()

    def add(self, connection: sa.Connection, email: str, reason: str, at: str) -> None:
        """Never write to an address again; the first reason stays."""
        run(
            connection,
            "INSERT INTO suppression (digest, reason, created_at) VALUES (:digest, :reason, :at) "
            "ON CONFLICT (digest) DO NOTHING",
            digest=self.digest(email),
            reason=reason,
            at=at,
        )

    def reason(self, connection: sa.Connection, email: str) -> str | None:
        """Return why an address is not written to, or None."""
        return run(
            connection, "SELECT reason FROM suppression WHERE digest = :digest", digest=self.digest(email)
        ).scalar()

    def lift(self, connection: sa.Connection, email: str) -> bool:
        """Allow an address again; tell whether it was on the list."""
        statement = "DELETE FROM suppression WHERE digest = :digest"
        return run(connection, statement, digest=self.digest(email)).rowcount > 0


def scrub(store: Store) -> None:
    """Overwrite what was deleted, where the database leaves it in its file until the room is needed; a TimeoutError
    says that another process reads or writes for long.

    SQLite keeps deleted rows in free pages and in its log; writing the file anew ends the first, emptying the log the
    second. PostgreSQL does so by itself with time. Copies made earlier are the operator's to delete.
    """
    if store.engine.dialect.name != "sqlite":
        return
    connection = store.engine.raw_connection()
    try:
        cursor = connection.cursor()
        held = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
        cursor.execute(f"PRAGMA busy_timeout={LONG * 1000:.0f}")
        try:
            cursor.execute("VACUUM")
            # who reads an older moment needs the log; then it is left as it is, which is told but no error
            busy = bool(cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            busy = True
        finally:
            cursor.execute(f"PRAGMA busy_timeout={held}")
    finally:
        connection.close()
    if busy:
        raise TimeoutError(
            f"{store.label} is in use by another process: rows were deleted, but the file still holds what was in "
            "them; do the same again when it is done"
        )
