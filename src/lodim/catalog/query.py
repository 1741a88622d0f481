"""What a person types, made into a query that cannot go wrong.

====================  =======================================================================
typed                 means
====================  =======================================================================
``tall regression``   either word, better with both; word endings do not matter
``"low rank"``        these words, in this order, must occur
``-image``            must not occur; also ``-"two words"``
``area:privacy``      of this area; ``data:tabular``, ``tag:clustering``, ``status:available`` alike
``year:2024``         of that year; ``year:2020-2023`` of those
``has:claim``         with a recorded run of a claim
====================  =======================================================================

Everything else is words: punctuation separates them. No text raises an error; what was not understood is said in
:attr:`Query.notes`.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lodim.catalog.vocabulary import AREAS, DATA_KINDS, PROBLEM_TAGS
from lodim.results import Result

__all__ = ["COMMON", "Query", "match_expression", "parse_query", "split_words"]

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "area": tuple(AREAS),
    "data": tuple(DATA_KINDS),
    "tag": tuple(PROBLEM_TAGS),
    "status": ("available", "planned"),
    "has": ("claim",),
}
_PIECE = re.compile(
    r"(?P<minus>(?<!\S)-)?(?:(?P<field>area|data|tag|status|has|year):(?=\S))?"
    r"(?:\"(?P<phrase>[^\"]*)\"|(?P<word>[^\s\"]+)|\")",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]+")
_YEARS = re.compile(r"(\d{4})(?:-(\d{4}))?")
_LONGEST_WORD = 64

# words that say nothing about a problem
COMMON = frozenset(
    re.findall(
        r"\w+",
        "a about after all also am an and any are as at be been but by can could data do does doing find "
        "for from get give had has have how i if in into is it its let like make many me method methods "
        "more most much must my need no not of on one only or other our out over own per please problem "
        "should so some such than that the their them then there these they this those to too up us use "
        "using very want was we were what when where which while who why will with within without would "
        "you your",
    )
)


@dataclass(frozen=True)
class Query(Result):
    """A parsed query: the ``text`` as typed, in normal form; ``words`` to be found, the more the better; ``phrases``
    that must each occur; what is ``excluded``; ``filters`` (field, value and whether it is wanted or unwanted); and
    ``notes`` on what was not understood.
    """

    text: str
    words: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    filters: tuple[tuple[str, str, bool], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def looked_for(self) -> tuple[str, ...]:
        """Words and phrases that count towards the score."""
        return (*self.phrases, *self.words)


def split_words(text: str) -> list[str]:
    """Return the words of a text, in lower case, in order."""
    return [word[:_LONGEST_WORD] for word in _WORD.findall(text.lower())]


def match_expression(parts: tuple[str, ...]) -> str:
    """Return words and phrases as an FTS5 expression that finds any of them."""
    return " OR ".join(f'"{part}"' for part in parts)


def _filter(
    field: str, value: str, wanted: bool, free: Collection[str]
) -> tuple[tuple[str, str, bool] | None, str | None]:
    """Return a filter, or a note on why there is none."""
    if field == "year":
        if _YEARS.fullmatch(value):
            return ("year", value, wanted), None
        return None, f"{value!r} is no year; write year:2024 or year:2020-2023"
    known = _FIELDS[field]
    if value in known or field in free:
        return (field, value, wanted), None
    close = difflib.get_close_matches(value, known, n=1, cutoff=0.5)
    hint = f"did you mean {field}:{close[0]}?" if close else f"there are: {', '.join(known)}"
    return None, f"{field}:{value} is unknown and was left out; {hint}"


def parse_query(text: str, *, free: Collection[str] = ()) -> Query:
    """Read a query. Fields named in ``free`` take any value, not only those of methods: papers have areas
    (``area:cs.LG``) that methods do not.
    """
    clean = unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode("utf-8"))
    words: list[str] = []
    found: dict[str, list[str]] = {"phrases": [], "excluded": []}
    filters, notes = [], []
    for piece in _PIECE.finditer(clean):
        inner = piece["phrase"] if piece["phrase"] is not None else piece["word"] or ""
        if piece["field"]:
            made, note = _filter(piece["field"].lower(), inner.lower(), piece["minus"] is None, free)
            filters += [made] if made else []
            notes += [note] if note else []
        elif piece["minus"] or piece["phrase"] is not None:
            found["excluded" if piece["minus"] else "phrases"].append(" ".join(split_words(inner)))
        else:
            words += split_words(inner)
    telling = [word for word in words if word not in COMMON]
    return Query(
        text=" ".join(clean.split()),
        words=_distinct(telling or words),
        phrases=_distinct(found["phrases"]),
        excluded=_distinct(found["excluded"]),
        filters=tuple(dict.fromkeys(filters)),
        notes=_distinct(notes),
    )


def _distinct(items: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item for item in items if item))
