"""Atom feeds (RFC 4287), with arXiv's own elements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lodim.catalog.feed.identity import arxiv_of, doi_of
from lodim.catalog.feed.readers.entries import Rejected, record_or_reason
from lodim.catalog.feed.readers.markup import parse, text_of, visible
from lodim.catalog.feed.records import Record

__all__ = ["read_atom"]

_ATOM, _ARXIV = "{http://www.w3.org/2005/Atom}", "{http://arxiv.org/schemas/atom}"


def read_atom(data: bytes, source: str | None = None) -> Iterator[Record | Rejected]:
    """Read a feed's entries."""
    root = parse(data)
    if root.tag == f"{_ATOM}entry":
        found = [root]
    elif root.tag == f"{_ATOM}feed":
        found = root.findall(f"{_ATOM}entry")
    else:
        raise ValueError(f"the root is <{root.tag[:80]}>, neither an Atom feed nor RSS 2.0")
    for number, entry in enumerate(found, 1):
        yield _record(entry, f"entry {number}", source)


def _record(entry: Any, place: str, source: str | None) -> Record | Rejected:
    links = [
        (link.get("rel", "alternate"), link.get("title"), link.get("href"))
        for link in entry.iter(f"{_ATOM}link")
    ]
    page = next((href for rel, _, href in links if rel == "alternate" and href), None)
    doi = _text(entry.find(f"{_ARXIV}doi")) or next((h for _, _, h in links if doi_of(h)), None)
    identifier = _text(entry.find(f"{_ATOM}id"))
    arxiv = next((t for t in (identifier, page) if arxiv_of(t)[0]), None)
    if identifier and "/api/errors" in identifier:
        return Rejected(place, f"arXiv reports an error: {_text(entry.find(f'{_ATOM}summary'))[:200]}")
    summary = entry.find(f"{_ATOM}summary")
    categories = [entry.find(f"{_ARXIV}primary_category"), *entry.findall(f"{_ATOM}category")]
    return record_or_reason(
        place,
        title=_text(entry.find(f"{_ATOM}title")),
        abstract=_text(summary if summary is not None else entry.find(f"{_ATOM}content")),
        authors=[_text(name) for name in entry.findall(f"{_ATOM}author/{_ATOM}name")],
        arxiv=arxiv,
        doi=doi,
        url=page,
        venue=_text(entry.find(f"{_ARXIV}journal_ref")),
        published=_text(entry.find(f"{_ATOM}published")),
        updated=_text(entry.find(f"{_ATOM}updated")),
        tags=[category.get("term") for category in categories if category is not None],
        kind="article",
        source=source or ("arxiv" if arxiv else "atom"),
    )


def _text(element: Any) -> str:
    """Return an element's text; of HTML what a reader would see."""
    text = text_of(element)
    return visible(text) if element is not None and element.get("type") == "html" else text
