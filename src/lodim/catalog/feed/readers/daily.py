"""JSON lists of papers as the daily-papers interface of a model hub gives them.

A list of ``{paper: {id, title, summary, authors, upvotes, publishedAt}, title, publishedAt, numComments}``; fields may
be spelt ``publishedAt`` or ``published_at``, be missing, or sit beside ``paper`` in place of inside it. Further
fields are ignored. A single object and ``{"papers": [...]}`` are read alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lodim.catalog.feed.readers.entries import Rejected, record_or_reason
from lodim.catalog.feed.records import Record

__all__ = ["parse_json", "read_json"]

_SIGNALS = {
    "upvotes": ("upvotes", "votes"),
    "comments": ("numComments", "comments"),
    "stars": ("githubStars", "stars"),
}


def parse_json(text: str) -> Any:
    """Return a JSON value."""

    def refuse(token: str) -> float:
        raise ValueError(f"{token} is not JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_json(text: str, source: str) -> Iterator[Record | Rejected]:
    """Read a list of papers."""
    value = parse_json(text)
    if isinstance(value, dict):
        inner = next(
            (value[key] for key in ("papers", "items", "results") if isinstance(value.get(key), list)), None
        )
        value = [value] if inner is None else inner
    if not isinstance(value, list):
        raise ValueError(f"expected a list of papers, got {type(value).__name__}")
    for number, item in enumerate(value, 1):
        place = f"entry {number}"
        if isinstance(item, dict):
            yield _record(item, place, source)
        else:
            yield Rejected(place, f"expected an object, got {type(item).__name__}")


def _record(item: Mapping[str, Any], place: str, source: str) -> Record | Rejected:
    inner = item.get("paper")
    layers = [inner, item] if isinstance(inner, dict) else [item]
    authors = _pick(layers, "authors")
    keywords = _pick(layers, "aiKeywords", "keywords", "tags")
    return record_or_reason(
        place,
        title=_pick(layers, "title"),
        abstract=_pick(layers, "summary", "abstract"),
        authors=[_name(person) for person in authors] if isinstance(authors, list) else None,
        arxiv=_pick(layers, "arxivId", "id"),
        doi=_pick(layers, "doi"),
        url=_pick(layers, "url"),
        published=_pick(layers, "publishedAt", "published"),
        tags=[word for word in keywords if isinstance(word, str)] if isinstance(keywords, list) else None,
        kind="article",
        source=source,
        signals={kind: _count(_pick(layers, *names)) for kind, names in _SIGNALS.items()},
    )


def _pick(layers: list[Mapping[str, Any]], *names: str) -> Any:
    """Return the first field that is there, in either spelling, the inner layer first."""
    for name in names:
        for layer in layers:
            for spelling in (name, re.sub(r"(?=[A-Z])", "_", name).lower()):
                if layer.get(spelling) is not None:
                    return layer[spelling]
    return None


def _name(person: Any) -> Any:
    if not isinstance(person, dict):
        return person
    user = person.get("user")
    return person.get("name") or (user.get("fullname") if isinstance(user, dict) else None)


def _count(value: Any) -> Any:
    """Return a count; a list of comments counts its items."""
    return len(value) if isinstance(value, list) else value
