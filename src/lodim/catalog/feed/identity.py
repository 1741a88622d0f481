"""Which records speak of the same paper: arXiv identifier, then DOI, then title with first author and year.

An arXiv identifier counts without its version, a DOI without case and resolver. Two records with different arXiv
identifiers are different papers whatever else they share. Titles are compared as letters and digits only, without
case, accents or mark-up.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["LONG_TITLE", "arxiv_of", "doi_of", "surname_key", "title_key"]

LONG_TITLE = 20  # letters from which a title alone tells papers apart, where author or year is unknown

_NEW = r"\d{4}\.\d{4,5}"
_OLD = r"[a-z][a-z-]*(?:\.[a-z]{2})?/\d{7}"
_ARXIV = re.compile(
    rf"(?:^|arxiv[.:/\s]+|arxiv\.org/(?:abs|pdf|html)/|alphaxiv\.org/\w+/|huggingface\.co/papers/)"
    rf"(?P<id>{_NEW}|{_OLD})(?:v(?P<version>[1-9]\d{{0,3}}))?(?:\.pdf)?(?=$|[\s\]/?#])",
    re.IGNORECASE,
)
_DOI = re.compile(r"^(?:https?://(?:dx\.)?doi\.org/|doi:\s*)?(10\.\d{4,9}/\S+)$", re.IGNORECASE)


def arxiv_of(text: str | None) -> tuple[str | None, int | None]:
    """Return the arXiv identifier in a text and its version; None for what is not there. Understood are ``1804.08838``,
    ``arXiv:1804.08838v2``, ``math.GT/0309136``, an address and arXiv's DOI.
    """
    found = _ARXIV.search((text or "").strip())
    if found is None:
        return None, None
    archive, slash, number = found["id"].lower().partition("/")
    identifier = (
        f"{archive.split('.')[0]}/{number}" if slash else archive
    )  # subject classes are no part of it
    return identifier, int(found["version"]) if found["version"] else None


def doi_of(text: str | None) -> str | None:
    """Return a DOI in lower case without its resolver, or None if the text is none."""
    found = _DOI.match((text or "").strip())
    return found[1].lower().rstrip(".,;") if found else None


def _letters(text: str) -> str:
    """Return letters and digits in lower case, without accents."""
    spread = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join(ch for ch in spread if ch.isalnum())


def title_key(title: str) -> str:
    """Return what is compared of a title; the whole of it if it has neither letters nor digits."""
    composed = unicodedata.normalize("NFKC", title)
    return _letters(re.sub(r"\\[a-zA-Z]+|<[^<>]{1,20}>", " ", composed)) or "".join(composed.split())


def surname_key(author: str) -> str:
    """Return what is compared of a first author (``Jürgen Schmidhuber`` or ``Schmidhuber, Jürgen``): the last name,
    without particles, case and accents.
    """
    before, comma, _ = author.partition(",")
    words = before.split()
    last = words[-1] if words else ""
    if not comma and len(words) > 1 and last.lower().rstrip(".") in {"jr", "sr", "ii", "iii", "iv"}:
        last = words[-2]
    return _letters(last)
