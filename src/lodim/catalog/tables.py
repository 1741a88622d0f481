"""The methods as a table of the documentation, which makes it when it is built, and the digest of recorded claims that
an installed library carries.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from lodim.catalog.baseline import FILE, claim_records, make_baseline
from lodim.catalog.cards import Card, evidence_of, load_cards
from lodim.catalog.vocabulary import AREAS
from lodim.files import write_whole

__all__ = ["methods_table", "update_documents"]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def methods_table(cards: Sequence[Card] | None = None) -> str:
    """Return methods, by default all, area by area, as a Markdown table, one row a method."""
    chosen = [c for area in AREAS for c in load_cards() if c.area == area] if cards is None else cards
    lines = [_row("method", "what it does", "paper", "status", "claims"), "|---|---|---|---|---|"]
    for card in chosen:
        paper = f"[{card.arxiv_id}]({card.paper})"
        lines.append(_row(f"`{card.slug}`", card.one_line, paper, card.status, evidence_of(card)))
    return "\n".join(lines)


def update_documents(root: str | os.PathLike[str] = ".", check: bool = False) -> list[Path]:
    """Refresh the digest of claims that the library carries, in a checkout with ``src/`` and ``evidence/`` at ``root``,
    and return its path if it was stale, else an empty list. With ``check`` nothing is changed. Without evidence there
    it raises a ValueError.
    """
    folder = Path(root)
    digest = folder / "src" / "lodim" / "catalog" / FILE
    if not (folder / "evidence" / "claims").is_dir() or not digest.is_file():
        raise ValueError(
            f"{folder} is not a checkout of lodim: it needs evidence/claims and {digest.relative_to(folder)}"
        )
    wanted = make_baseline(folder / "evidence")
    if digest.read_text(encoding="utf-8") == wanted:
        return []
    if not check:
        write_whole(digest, wanted)
        claim_records.cache_clear()
    return [digest]
