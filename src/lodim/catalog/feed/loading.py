"""Stored papers, read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from lodim.catalog.cards import load_cards
from lodim.catalog.feed.paper import Paper, Statement
from lodim.catalog.feed.statements import run

__all__ = ["history_of", "load_papers", "method_of"]


@lru_cache(maxsize=1)
def _methods() -> dict[str, tuple[str, bool]]:
    """Return slug and availability of the cards by arXiv identifier."""
    return {card.arxiv_id: (card.slug, card.status == "available") for card in load_cards()}


def method_of(arxiv_id: str | None) -> tuple[str | None, bool]:
    """Return the slug of the card of a paper and whether the method can be used today."""
    return _methods().get(arxiv_id or "", (None, False))


def load_papers(
    connection: sa.Connection, ids: Sequence[int], shown: Mapping[int, tuple[float, str]] | None = None
) -> tuple[Paper, ...]:
    """Return papers in the order of their numbers given."""
    if not ids:
        return ()

    def rows(statement: str) -> Any:
        return run(connection, statement, ids=tuple(ids))

    authors: dict[int, list[str]] = {}
    for paper_id, name in rows(
        "SELECT paper_id, name FROM paper_author JOIN author ON author.id = author_id "
        "WHERE paper_id IN :ids ORDER BY paper_id, position"
    ):
        authors.setdefault(paper_id, []).append(name)
    tags: dict[int, list[str]] = {}
    for paper_id, name in rows(
        "SELECT paper_id, name FROM tag WHERE paper_id IN :ids ORDER BY paper_id, name"
    ):
        tags.setdefault(paper_id, []).append(name)
    signals: dict[int, dict[str, float]] = {}
    for paper_id, source, kind, value in rows(
        "SELECT paper_id, source, kind, value FROM signal WHERE paper_id IN :ids ORDER BY observed_at"
    ):
        signals.setdefault(paper_id, {})[f"{source}:{kind}"] = value
    found = {
        row["id"]: _paper(
            row,
            authors.get(row["id"], []),
            tags.get(row["id"], []),
            signals.get(row["id"], {}),
            *(shown or {}).get(row["id"], (0.0, "")),
        )
        for row in rows("SELECT * FROM paper WHERE id IN :ids").mappings()
    }
    return tuple(found[paper_id] for paper_id in ids if paper_id in found)


def _paper(
    row: Mapping[str, Any],
    authors: list[str],
    tags: list[str],
    signals: dict[str, float],
    score: float,
    why: str,
) -> Paper:
    slug, implemented = method_of(row["arxiv_id"])
    link = f"https://arxiv.org/abs/{row['arxiv_id']}" if row["arxiv_id"] else row["url"]
    same = (
        "id",
        "title",
        "abstract",
        "arxiv_id",
        "doi",
        "venue",
        "version",
        "year",
        "precision",
        "kind",
        "source",
    )
    return Paper(
        **{name: row[name] for name in same},
        authors=tuple(authors),
        tags=tuple(tags),
        link=link or (f"https://doi.org/{row['doi']}" if row["doi"] else None),
        published=row["published_at"],
        updated=row["updated_at"],
        first_seen=row["first_seen_at"],
        changed=row["changed_at"],
        method=slug,
        implemented=implemented,
        signals=signals,
        score=score,
        why=why,
    )


def history_of(connection: sa.Connection, paper_id: int) -> tuple[Statement, ...]:
    """Return all that sources have said about a paper, the first first."""
    rows = run(
        connection,
        "SELECT source, version, title, abstract, authors, updated_at, recorded_at FROM paper_version "
        "WHERE paper_id = :id ORDER BY id",
        id=paper_id,
    )
    return tuple(
        Statement(source, version, title, abstract, tuple(json.loads(authors)), updated, recorded)
        for source, version, title, abstract, authors, updated, recorded in rows
    )
