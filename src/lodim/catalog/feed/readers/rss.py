"""RSS 2.0 feeds, also as arXiv writes them: title, link, description, date, guid, categories, authors.

A description is HTML or plain text, and nothing says which; what has neither known tags nor references is left as it
is, so that ``a<b`` stays. Authors are those of ``dc:creator``; RSS's own ``author`` is an e-mail address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lodim.catalog.feed.identity import arxiv_of
from lodim.catalog.feed.readers.entries import Rejected, record_or_reason
from lodim.catalog.feed.readers.markup import parse, text_of, visible
from lodim.catalog.feed.readers.rows import split_names
from lodim.catalog.feed.records import Record

__all__ = ["read_rss"]

_CREATOR = "{http://purl.org/dc/elements/1.1/}creator"
# before the abstract in feeds of arXiv: "arXiv:2411.00001v1 Announce Type: new \nAbstract: "
_ANNOUNCED = re.compile(r"^\s*arXiv:(\S+)\s+Announce Type:\s*\S+\s+Abstract:\s*", re.IGNORECASE)


def read_rss(data: bytes, source: str | None = None) -> Iterator[Record | Rejected]:
    """Read a feed's items."""
    root = parse(data)
    if root.tag != "rss" or root.find("channel") is None:
        raise ValueError(f"the root is <{root.tag[:80]}>, not an RSS 2.0 feed with a channel")
    for number, item in enumerate(root.iterfind("channel/item"), 1):
        yield _record(item, f"item {number}", source)


def _record(item: Any, place: str, source: str | None) -> Record | Rejected:
    said = {
        name: text_of(item.find(name)).strip() for name in ("title", "link", "description", "guid", "pubDate")
    }
    abstract = visible(said["description"], surely=False)
    announced = _ANNOUNCED.match(abstract)
    candidates = (announced and announced[1], said["link"], said["guid"])
    arxiv = next((text for text in candidates if text and arxiv_of(text)[0]), None)
    people = [visible(text_of(person), surely=False) for person in item.findall(_CREATOR)]
    return record_or_reason(
        place,
        title=visible(said["title"], surely=False),
        abstract=abstract[announced.end() :] if announced else abstract,
        authors=[name for text in people for name in split_names(text)],
        arxiv=arxiv,
        doi=next((text for text in (said["link"], said["guid"]) if "doi.org/" in text), None),
        url=said["link"] or said["guid"],
        published=said["pubDate"],
        tags=[text_of(category) for category in item.findall("category")],
        kind="article",
        source=source or ("arxiv" if arxiv else "rss"),
    )
