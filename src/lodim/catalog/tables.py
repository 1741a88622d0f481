"""Tables of the documentation, made from the cards.

:func:`update_documents` fills the place between two markers of a Markdown file, and refreshes the digest of recorded
claims that the library carries.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from lodim.catalog.baseline import FILE, claim_records, evidence_of, make_baseline
from lodim.catalog.cards import Card, load_cards
from lodim.catalog.vocabulary import AREAS

__all__ = ["BEGIN", "END", "methods_table", "update_documents"]

BEGIN, END = "<!-- methods:begin -->", "<!-- methods:end -->"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def methods_table(cards: Sequence[Card] | None = None) -> str:
    """Return the methods as Markdown, one table an area.

    Parameters
    ----------
    cards : sequence of Card, optional
        By default all.
    """
    chosen = load_cards() if cards is None else cards
    lines: list[str] = []
    for area, meaning in AREAS.items():
        here = [card for card in chosen if card.area == area]
        if not here:
            continue
        lines += [f"**{area}**: {meaning}", "", _row("method", "what it does", "paper", "status", "claims")]
        lines.append("|---|---|---|---|---|")
        for card in here:
            paper = f"[{card.arxiv_id}]({card.paper})"
            lines.append(_row(f"`{card.slug}`", card.one_line, paper, card.status, evidence_of(card)))
        lines.append("")
    return "\n".join(lines).rstrip()


def _filled(text: str, table: str, path: Path) -> str:
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{path.name} must hold {BEGIN} once and {END} once after it")
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


def update_documents(root: str | os.PathLike[str] = ".", check: bool = False) -> list[Path]:
    """Refresh the digest of claims and every table of methods in a checkout.

    Parameters
    ----------
    root : path
        The project's folder, with ``src/``, ``evidence/``, ``README.md`` and ``docs/``.
    check : bool
        Change nothing; only find out what is stale.

    Returns
    -------
    list of Path
        The files that were (or, with ``check``, would be) changed.

    Raises
    ------
    ValueError
        No evidence there, or a file that has one marker without the other.
    """
    folder = Path(root)
    digest = folder / "src" / "lodim" / "catalog" / FILE
    if not (folder / "evidence" / "claims").is_dir() or not digest.is_file():
        raise ValueError(
            f"{folder} is not a checkout of lodim: it needs evidence/claims and {digest.relative_to(folder)}"
        )
    wanted = {digest: make_baseline(folder / "evidence")}
    if not check and digest.read_text(encoding="utf-8") != wanted[digest]:
        digest.write_text(wanted.pop(digest), encoding="utf-8")
        changed = [digest]
        claim_records.cache_clear()
    else:
        changed = []
    table = methods_table()
    for path in [folder / "README.md", *sorted((folder / "docs").rglob("*.md"))]:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if BEGIN in text or END in text:
            wanted[path] = _filled(text, table, path)
    for path, text in wanted.items():
        if path.read_text(encoding="utf-8") != text:
            changed.append(path)
            if not check:
                path.write_text(text, encoding="utf-8")
    return changed
