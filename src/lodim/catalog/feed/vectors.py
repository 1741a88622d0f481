"""Sentence vectors of papers, kept in the catalogue (extra ``semantic``).

A paper's vector is that of its title and abstract; it goes when the text changes. Computing them takes about a fifth of
a second a paper, so it is done when asked for, or beside a server (:mod:`lodim.catalog.feed.filling`), in batches that
are kept one by one. Until all are there, the papers without one are ranked by words only, see
:func:`~lodim.catalog.feed.finding.fused`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import sqlalchemy as sa

from lodim.catalog.feed.statements import run
from lodim.catalog.feed.store import LONG, PAPERS, Store
from lodim.catalog.semantic import Encoder, default_encoder, semantic_available

__all__ = ["Vectors"]

_BATCH = 16
_MISSING = "NOT EXISTS (SELECT 1 FROM embedding WHERE paper_id = paper.id AND model = :model)"


class Vectors:
    """Vectors of the papers of a store."""

    def __init__(self, store: Store, encoder: Any) -> None:
        self.store = store
        self._chosen = encoder

    @property
    def encoder(self) -> Encoder:
        """What makes a vector of a text."""
        return default_encoder() if self._chosen in ("auto", None) else self._chosen

    def _missing(self) -> tuple[int, int]:
        """Return how many papers have no vector, and how many papers there are."""
        with self.store.reading() as connection:
            held = run(
                connection, "SELECT count(*) FROM embedding WHERE model = :model", model=self.encoder.name
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
        """Raise if a paper has no vector."""
        missing, papers = self._missing()
        if missing:
            raise ValueError(
                f"{missing:,} of {papers:,} papers have no sentence vector yet: Catalog.embed() or "
                "'lodim papers reindex --meaning' computes them"
            )

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
                rows = run(connection, query, model=encoder.name, most=most).all()
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
                "model": name,
                "digest": hashlib.sha256(f"{name}\0{text}".encode()).hexdigest(),
                "vector": np.asarray(vector, dtype="<f4").tobytes(),
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
        """Return number and cosine of every paper to a text, the closest first."""
        encoder = self.encoder
        rows = run(
            connection,
            "SELECT paper_id, vector FROM embedding WHERE model = :model ORDER BY paper_id",
            model=encoder.name,
        ).all()
        if not rows:
            return []
        matrix = np.frombuffer(b"".join(vector for _, vector in rows), dtype="<f4").reshape(len(rows), -1)
        cosines = matrix @ np.asarray(encoder.encode([text])[0], dtype=np.float32)
        return [(int(rows[i][0]), float(cosines[i])) for i in np.argsort(-cosines, kind="stable")]
