"""Sentence vectors of papers, kept in the catalogue (extra ``semantic``).

A paper's vector is that of its title and abstract; it goes when the text changes. Computing them takes about a fifth of
a second a paper, so it is done when asked for, or beside a server (:mod:`lodim.catalog.feed.filling`), in batches that
are kept one by one. Until all are there, the papers without one are ranked by words only, see
:func:`~lodim.catalog.feed.finding.fused`.

A vector is followed by its CRC-32, which sees every flipped bit. One that it does not fit counts as missing.
"""

from __future__ import annotations

import hashlib
import warnings
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from lodim.catalog.feed.statements import run
from lodim.catalog.feed.store import LONG, PAPERS, Store
from lodim.catalog.semantic import Encoder, default_encoder, semantic_available

__all__ = ["Vectors"]

_BATCH = 16
_RESIDUE = 0x2144DF1C  # the CRC-32 of any bytes that are followed by their CRC-32, the least byte first
_MEND = "Catalog.embed() or 'lodim papers reindex --meaning' computes them"
_MISSING = "NOT EXISTS (SELECT 1 FROM embedding WHERE paper_id = paper.id AND model = :model)"


class Vectors:
    """Vectors of the papers of a store."""

    def __init__(self, store: Store, encoder: Any) -> None:
        self.store = store
        self._chosen = encoder
        self._all = False

    @property
    def encoder(self) -> Encoder:
        """What makes a vector of a text."""
        return default_encoder() if self._chosen in ("auto", None) else self._chosen

    @property
    def _model(self) -> str:
        """The name that vectors are kept under; those without a checksum, of earlier versions, have the bare one."""
        return f"{self.encoder.name} crc32"

    def _missing(self) -> tuple[int, int]:
        """Return how many papers have no vector, and how many papers there are."""
        with self.store.reading() as connection:
            held = run(
                connection, "SELECT count(*) FROM embedding WHERE model = :model", model=self._model
            ).scalar_one()  # they go with their papers
            papers = int(connection.exec_driver_sql("SELECT count(*) FROM paper").scalar_one())
            return papers - int(held), papers

    def some(self) -> bool:
        """Return whether any paper has a vector and a query can be given one."""
        if self._chosen in ("auto", None) and not semantic_available():
            return False
        missing, papers = self._missing()
        return missing < papers

    def check(self) -> None:
        """Raise if a paper has no vector, now or when they are read."""
        self._all = True
        missing, papers = self._missing()
        if missing:
            raise ValueError(f"{missing:,} of {papers:,} papers have no sentence vector yet: {_MEND}")

    def drop_damaged(self, *, patience: int | float = LONG) -> int:
        """Remove the vectors that are damaged and return how many, and those that have no checksum."""
        with self.store.reading() as connection:
            damaged = [i for i, vector in self._held(connection) if not self._intact(vector)]
            former = {"model": self.encoder.name}
            old = run(
                connection, "SELECT count(*) FROM embedding WHERE model = :model", **former
            ).scalar_one()
        if damaged or old:
            statement = sa.text("DELETE FROM embedding WHERE model = :model AND paper_id = :id")
            with self.store.writing(PAPERS, patience=patience) as connection:
                if damaged:
                    connection.execute(statement, [{"model": self._model, "id": i} for i in damaged])
                run(connection, "DELETE FROM embedding WHERE model = :model", **former)
        return len(damaged)

    def _held(self, connection: sa.Connection) -> Sequence[Any]:
        query = "SELECT paper_id, vector FROM embedding WHERE model = :model ORDER BY paper_id"
        return run(connection, query, model=self._model).all()

    def _intact(self, vector: bytes) -> bool:
        return len(vector) == 4 * self.encoder.dim + 4 and zlib.crc32(vector) == _RESIDUE

    def fill(
        self,
        limit: int | None = None,
        *,
        patience: int | float = LONG,
        stopped: Callable[[], bool] | None = None,
    ) -> int:
        """Compute the missing vectors and return how many. A batch waits at most ``patience`` seconds for another
        writer, then a TimeoutError is raised; it is not kept if ``stopped``, asked once it is computed, is true.
        """
        done, encoder = 0, self.encoder
        while limit is None or done < limit:
            most = _BATCH if limit is None else min(_BATCH, limit - done)
            query = f"SELECT id, title, abstract FROM paper WHERE {_MISSING} ORDER BY id LIMIT :most"
            with self.store.reading() as connection:
                rows = run(connection, query, model=self._model, most=most).all()
            if not rows:
                return done
            texts = [f"{title}. {abstract}" for _, title, abstract in rows]
            vectors = encoder.encode(texts)
            if stopped is not None and stopped():
                return done
            self._keep([row.id for row in rows], texts, vectors, patience)
            done += len(rows)
        return done

    def _keep(self, ids: list[int], texts: list[str], vectors: Any, patience: int | float) -> None:
        name = self.encoder.name
        kept = [
            {
                "id": i,
                "model": self._model,
                "digest": hashlib.sha256(f"{name}\0{text}".encode()).hexdigest(),
                "vector": _sealed(np.asarray(vector, dtype="<f4").tobytes()),
                "text": text,
            }
            for i, text, vector in zip(ids, texts, vectors, strict=True)
        ]
        statement = sa.text(
            "INSERT INTO embedding (paper_id, model, digest, vector) SELECT id, :model, :digest, :vector FROM paper "
            "WHERE id = :id AND title || '. ' || abstract = :text ON CONFLICT DO NOTHING"
        )  # a text that was changed meanwhile gets its vector next time
        with self.store.writing(PAPERS, patience=patience) as connection:
            connection.execute(statement, kept)

    def near_text(self, connection: sa.Connection, text: str) -> list[tuple[int, float]]:
        """Return number and cosine of every paper to a text, the closest first. Damaged vectors are left out with a
        warning, or are a ValueError after :meth:`check`.
        """
        encoder = self.encoder
        held = self._held(connection)
        rows = [row for row in held if self._intact(row[1])]
        if len(rows) < len(held):
            said = f"{len(held) - len(rows):,} sentence vectors of papers are damaged: {_MEND} again"
            if self._all:
                raise ValueError(said)
            warnings.warn(said, stacklevel=2)
        if not rows:
            return []
        matrix = np.frombuffer(b"".join(vector for _, vector in rows), dtype="<f4").reshape(len(rows), -1)
        cosines = matrix[:, :-1] @ np.asarray(encoder.encode([text])[0], dtype=np.float32)
        return [(int(rows[i][0]), float(cosines[i])) for i in np.argsort(-cosines, kind="stable")]


def _sealed(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(4, "little")
