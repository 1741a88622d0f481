"""Lists of papers for other programs: Atom 1.0 (RFC 4287), JSON Feed 1.1, BibTeX.

Titles and abstracts go out as text: mark-up in them is escaped, never interpreted.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5
from xml.etree import ElementTree as Xml

from lodim.catalog.feed.paper import Paper
from lodim.catalog.feed.records import stamp

__all__ = ["to_atom", "to_bibtex", "to_json_feed"]

_ATOM = "http://www.w3.org/2005/Atom"
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _feed_id(address: str | None, title: str) -> str:
    return address or uuid5(NAMESPACE_URL, f"lodim papers: {title}").urn


def _updated(paper: Paper) -> str:
    return paper.updated or paper.published or paper.first_seen


def to_atom(
    papers: Iterable[Paper],
    *,
    title: str = "Papers",
    address: str | None = None,
    home: str | None = None,
    now: datetime | None = None,
) -> str:
    """Return papers, such as those of a :class:`~lodim.catalog.feed.paper.Page`, as the XML of an Atom feed.

    ``address`` is that of the feed itself, ``home`` that of the page it belongs to; ``now`` dates a feed without
    papers.
    """
    chosen = list(papers)
    Xml.register_namespace("", _ATOM)
    feed = Xml.Element(f"{{{_ATOM}}}feed", {"xml:lang": "en"})
    _add(feed, "id", _feed_id(address, title))
    _add(feed, "title", title)
    _add(feed, "updated", max(map(_updated, chosen), default=stamp(now or datetime.now(UTC))))
    _add(feed, "generator", "lodim")
    _add(_add(feed, "author"), "name", "lodim")
    for rel, link in (("self", address), ("alternate", home)):
        if link:
            _add(feed, "link", rel=rel, href=link)
    for paper in chosen:
        entry = _add(feed, "entry")
        _add(entry, "id", paper.uri)
        _add(entry, "title", paper.title)
        _add(entry, "updated", _updated(paper))
        if paper.published:
            _add(entry, "published", paper.published)
        for name in paper.authors:
            _add(_add(entry, "author"), "name", name)
        if paper.link:
            _add(entry, "link", rel="alternate", href=paper.link)
        for tag in paper.tags:
            _add(entry, "category", term=tag)
        _add(entry, "summary" if paper.link else "content", paper.abstract or paper.title, type="text")
    Xml.indent(feed)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + Xml.tostring(feed, encoding="unicode") + "\n"


def _add(parent: Xml.Element, name: str, text: str | None = None, **attributes: str) -> Xml.Element:
    clean = {key: _NOT_XML.sub("", value) for key, value in attributes.items()}
    element = Xml.SubElement(parent, f"{{{_ATOM}}}{name}", clean)
    element.text = None if text is None else _NOT_XML.sub("", text)
    return element


def to_json_feed(
    papers: Iterable[Paper],
    *,
    title: str = "Papers",
    address: str | None = None,
    home: str | None = None,
    following: str | None = None,
) -> str:
    """Return papers as a JSON feed. ``address`` is that of the feed itself, ``home`` that of the page it belongs to,
    and ``following`` that of the next page.
    """
    feed: dict[str, Any] = {"version": "https://jsonfeed.org/version/1.1", "title": title, "language": "en"}
    links = {"home_page_url": home, "feed_url": address, "next_url": following}
    feed |= {name: link for name, link in links.items() if link}
    feed["items"] = [_item(paper) for paper in papers]
    return json.dumps(feed, ensure_ascii=False, indent=2) + "\n"


def _item(paper: Paper) -> dict[str, Any]:
    item = {
        "id": paper.uri,
        "url": paper.link,
        "title": paper.title,
        "content_text": paper.abstract or paper.title,
        "date_published": paper.published,
        "date_modified": paper.updated,
        "authors": [{"name": name} for name in paper.authors],
        "tags": list(paper.tags),
    }
    return {name: value for name, value in item.items() if value}


def to_bibtex(papers: Paper | Sequence[Paper]) -> str:
    """Return papers as BibTeX, in UTF-8, titles with their capitals protected."""
    chosen = [papers] if isinstance(papers, Paper) else list(papers)
    used: dict[str, int] = {}
    entries = []
    for paper in chosen:
        key = _key(paper)
        used[key] = used.get(key, 0) + 1
        entries.append(_entry(paper, key if used[key] == 1 else f"{key}-{used[key]}"))
    return "\n".join(entries)


def _entry(paper: Paper, key: str) -> str:
    where = {"article": "journal", "inproceedings": "booktitle", "incollection": "booktitle"}.get(paper.kind)
    kind = paper.kind if where and paper.venue and re.fullmatch(r"[a-z]+", paper.kind) else "misc"
    fields = {
        "title": f"{{{_escaped(paper.title)}}}",
        "author": " and ".join(_author(name) for name in paper.authors),
        "year": str(paper.year or ""),
        where if where and paper.venue else "howpublished": _escaped(paper.venue or ""),
        "eprint": paper.arxiv_id or "",
        "archivePrefix": "arXiv" if paper.arxiv_id else "",
        "doi": paper.doi or "",
        "url": _balanced(paper.link or ""),
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value and name]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"]) + "\n"


def _key(paper: Paper) -> str:
    """Return ``li2018measuring`` in ASCII."""
    surname = paper.authors[0].split(",")[0].split()[-1] if paper.authors else "anonymous"
    first = next((word for word in re.findall(r"\w+", paper.title.lower()) if len(word) > 3), "paper")
    plain = unicodedata.normalize("NFKD", f"{surname.lower()}{paper.year or ''}{first}")
    return re.sub(r"[^a-z0-9]", "", plain.encode("ascii", "ignore").decode()) or "paper"


def _author(name: str) -> str:
    escaped = _escaped(name)
    return f"{{{escaped}}}" if re.search(r"\sand\s|,", name) else escaped


def _escaped(text: str) -> str:
    """Return text with LaTeX's characters escaped; formulas between dollars stay if their braces match."""
    pieces = re.split(r"(\$[^$]*\$)", text)
    return "".join(
        piece if i % 2 and _balanced(piece) == piece and "\\" not in piece[-2:] else _plain(piece)
        for i, piece in enumerate(pieces)
    )


def _plain(text: str) -> str:
    names = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(names.get(ch, f"\\{ch}" if ch in "&%$#_{}" else ch) for ch in text)


def _balanced(text: str) -> str:
    """Return text whose braces match, without any brace if they do not."""
    depth = 0
    for ch in text:
        depth += (ch == "{") - (ch == "}")
        if depth < 0:
            break
    return text if depth == 0 else re.sub(r"[{}]", "", text)
