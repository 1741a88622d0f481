"""Method cards: one TOML file a paper, read with the standard library and checked field by field.

A file that breaks a rule does not load; the :class:`CardError` names the file and the field. What the cards do not hold
is whether a method is implemented and whether its claims hold: :mod:`lodim.catalog.baseline` derives that.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib.resources import files
from typing import Any

from lodim.catalog.baseline import ClaimRecord, claim_records, in_words, public
from lodim.catalog.vocabulary import ALSO_HANDLED_AS, AREAS, DATA_KINDS, GPU, PROBLEM_TAGS, words_for
from lodim.results import Result

__all__ = [
    "Card",
    "CardError",
    "Needs",
    "Queries",
    "check_together",
    "evidence_of",
    "load_cards",
    "methods",
    "parse_card",
    "status_of",
    "suggestion",
]

ONE_LINE_MOST, SUMMARY_LEAST, SUMMARY_MOST, SNIPPET_MOST = 140, 80, 200, 25
_SLUG, _ARXIV = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*"), re.compile(r"\d{4}\.\d{4,5}")
_REPOSITORY, _DOTTED = re.compile(r"[\w.-]+/[\w.-]+"), re.compile(r"lodim(\.\w+)+")
_CLAIM = re.compile(r"[a-z0-9-]+(/[a-z0-9-]+)*")


class CardError(ValueError):
    """A card that breaks a rule; the message names the file and the field."""


@dataclass(frozen=True)
class Needs:
    """What a method asks for: the fewest samples that make sense, a GPU (``"no"``: would not help; ``"optional"``;
    ``"yes"``: hopeless without, at a useful size), and extras of lodim for what it uses beyond the core.
    """

    min_rows: int
    gpu: str
    extras: tuple[str, ...] = ()


@dataclass(frozen=True)
class Queries:
    """What a person who needs the method might type: in plain words and not the paper's, in the trade's own words, and
    told otherwise. Searches are tested with it, and do not read it.
    """

    plain: str
    trade: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


@dataclass(frozen=True)
class Card(Result):
    """A method: the paper, what it is for, what it needs, where its code is.

    Attributes
    ----------
    slug : str
        Short name, also that of the file.
    year : int
        Of the first version.
    areas, problem_tags, data_kinds : tuple of str
        Words of :mod:`lodim.catalog.vocabulary`; the first area is the package that holds it.
    one_line : str
        At most 140 characters.
    summary : str
        Problem, idea, what one gets, when not to use it; 80 to 200 words.
    entry_points, claims : tuple of str
        Dotted public names, empty while the method is not written; names as in ``lodim claims list``.
    see_also : tuple of str
        Slugs; if A names B, B names A.
    upstream_code, threat_model : str or None
        The authors' repository, ``owner/name``; who is trusted with what (privacy only).
    snippet : str or None
        At most 25 lines that run in under a minute on a processor.
    """

    slug: str
    title: str
    arxiv_id: str
    first_author: str
    year: int
    areas: tuple[str, ...]
    one_line: str
    summary: str
    problem_tags: tuple[str, ...]
    data_kinds: tuple[str, ...]
    needs: Needs
    cost: str
    entry_points: tuple[str, ...]
    claims: tuple[str, ...]
    see_also: tuple[str, ...]
    queries: Queries
    upstream_code: str | None = None
    threat_model: str | None = None
    snippet: str | None = None

    @property
    def area(self) -> str:
        """The package that holds it, or will."""
        return self.areas[0]

    @property
    def status(self) -> str:
        """``"available"`` or ``"planned"``; see :func:`lodim.catalog.status_of`."""
        return status_of(self)

    @property
    def paper(self) -> str:
        """The paper's address."""
        return f"https://arxiv.org/abs/{self.arxiv_id}"

    @property
    def body(self) -> str:
        """The running text that searches look through."""
        return f"{self.one_line} {self.summary}"

    @property
    def words(self) -> str:
        """Area, tags and kinds of data in plain words."""
        return words_for(self.areas, self.problem_tags, self.data_kinds)

    def handles(self, kinds: Iterable[str]) -> bool:
        """Return whether the method takes data of one of these kinds."""
        taken = {
            *self.data_kinds,
            *(also for kind in self.data_kinds for also in ALSO_HANDLED_AS.get(kind, ())),
        }
        return bool(taken & set(kinds))


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value.strip() else "must be text, and not empty"


def _matching(pattern: re.Pattern[str], form: str) -> Callable[[Any], str | None]:
    return lambda value: (
        None
        if isinstance(value, str) and pattern.fullmatch(value)
        else f"must look like {form}, got {value!r}"
    )


def _list_of(check: Callable[[Any], str | None], least: int = 0) -> Callable[[Any], str | None]:
    def of(value: Any) -> str | None:
        if not isinstance(value, list) or len(value) < least:
            return f"must be a list of at least {least} words, got {value!r}"
        if len(set(map(str, value))) < len(value):
            return f"names something twice: {value}"
        return next((problem for item in value if (problem := check(item))), None)

    return of


def _one_of(vocabulary: Iterable[str]) -> Callable[[Any], str | None]:
    known = tuple(vocabulary)
    return lambda value: (
        None if value in known else f"{value!r} is not in the vocabulary.{suggestion(value, known)}"
    )


def suggestion(typed: Any, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x' or 'y'?`` for a mistyped word, or an empty string."""
    found = difflib.get_close_matches(str(typed).lower(), list(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(map(repr, found))}?" if found else ""


def _one_line(value: Any) -> str | None:
    if _text(value) or "\n" in value or len(value) > ONE_LINE_MOST:
        return f"must be one line of at most {ONE_LINE_MOST} characters"
    return None


def _summary(value: Any) -> str | None:
    n = len(value.split()) if isinstance(value, str) else 0
    return (
        None
        if SUMMARY_LEAST <= n <= SUMMARY_MOST
        else f"must have {SUMMARY_LEAST} to {SUMMARY_MOST} words, has {n}"
    )


def _snippet(value: Any) -> str | None:
    n = len(value.strip("\n").splitlines()) if isinstance(value, str) else 0
    return None if 0 < n <= SNIPPET_MOST else f"must have 1 to {SNIPPET_MOST} lines, has {n}"


def _whole(least: int) -> Callable[[Any], str | None]:
    return lambda value: (
        None
        if type(value) is int and value >= least
        else f"must be a whole number from {least}, got {value!r}"
    )


_RULES: dict[str, Callable[[Any], str | None]] = {
    "slug": _matching(_SLUG, "lower-case words with hyphens"),
    "title": _text,
    "arxiv_id": _matching(_ARXIV, "1804.08838"),
    "first_author": _text,
    "year": _whole(1991),
    "areas": _list_of(_one_of(AREAS), 1),
    "one_line": _one_line,
    "summary": _summary,
    "problem_tags": _list_of(_one_of(PROBLEM_TAGS), 1),
    "data_kinds": _list_of(_one_of(DATA_KINDS), 1),
    "cost": _one_line,
    "entry_points": _list_of(_matching(_DOTTED, "lodim.area.Name")),
    "claims": _list_of(_matching(_CLAIM, "topic/claim")),
    "see_also": _list_of(_matching(_SLUG, "a slug")),
    "upstream_code": _matching(_REPOSITORY, "owner/name"),
    "threat_model": _text,
    "snippet": _snippet,
}
_NEEDS_RULES: dict[str, Callable[[Any], str | None]] = {
    "min_rows": _whole(1),
    "gpu": _one_of(GPU),
    "extras": _list_of(_matching(_SLUG, "the name of an extra")),
}
_QUERY_RULES: dict[str, Callable[[Any], str | None]] = {
    "plain": _one_line,
    "trade": _list_of(_one_line),
    "told": _list_of(_one_line),
}
_OPTIONAL = ("trade", "told", "upstream_code", "threat_model", "snippet")


def _checked(
    table: Mapping[str, Any], rules: Mapping[str, Callable[[Any], str | None]], file: str, within: str = ""
) -> dict[str, Any]:
    """Return the table's values, lists as tuples, or raise for the first field that breaks its rule."""
    unknown = [name for name in table if name not in rules]
    if unknown:
        raise CardError(f"{file}: {within}{unknown[0]}: no such field.{suggestion(unknown[0], rules)}")
    missing = [name for name in rules if name not in table and name not in _OPTIONAL]
    if missing:
        raise CardError(f"{file}: {within}{missing[0]}: missing")
    for name, value in table.items():
        problem = rules[name](value)
        if problem:
            raise CardError(f"{file}: {within}{name}: {problem}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}


def parse_card(text: str, file: str) -> Card:
    """Read one card; ``file`` is its name for the messages. A :class:`CardError` tells what is not TOML, an unknown or
    missing field, or a value against the rules.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CardError(f"{file}: not TOML: {error}") from error
    inner = {name: table.pop(name, None) for name in ("needs", "queries")}
    for name, found in inner.items():
        if not isinstance(found, dict):
            raise CardError(f"{file}: {name}: the table [{name}] is missing")
    values = _checked(table, _RULES, file)
    values["needs"] = Needs(**_checked(inner["needs"], _NEEDS_RULES, file, "needs."))
    values["queries"] = Queries(**_checked(inner["queries"], _QUERY_RULES, file, "queries."))
    values["summary"] = " ".join(values["summary"].split())
    if "snippet" in values:
        values["snippet"] = values["snippet"].strip("\n") + "\n"
    if file != f"{values['slug']}.toml":
        raise CardError(f"{file}: slug: {values['slug']!r} is not the file's name")
    if "privacy" in values["areas"] and not values.get("threat_model"):
        raise CardError(f"{file}: threat_model: a privacy method must say who is trusted with what")
    return Card(**values)


def check_together(cards: Iterable[Card]) -> None:
    """Raise a :class:`CardError` if a title or paper occurs twice, or a ``see_also`` lacks its counterpart."""
    by_slug = {card.slug: card for card in cards}
    for name in ("title", "arxiv_id"):
        seen: dict[str, str] = {}
        for card in by_slug.values():
            value = getattr(card, name).lower()
            if value in seen:
                raise CardError(f"{card.slug}.toml: {name}: the same as in {seen[value]}.toml")
            seen[value] = card.slug
    for card in by_slug.values():
        for other in card.see_also:
            if other == card.slug or other not in by_slug:
                raise CardError(f"{card.slug}.toml: see_also: no other card is called {other!r}")
            if card.slug not in by_slug[other].see_also:
                raise CardError(
                    f"{card.slug}.toml: see_also: {other}.toml does not name {card.slug!r} in return"
                )


@lru_cache(maxsize=1)
def load_cards() -> tuple[Card, ...]:
    """Return all cards, by slug; a card that breaks a rule raises a :class:`CardError`."""
    folder = files("lodim.catalog").joinpath("cards")
    found = [f for f in folder.iterdir() if f.name.endswith(".toml")]
    cards = [parse_card(file.read_text(encoding="utf-8"), file.name) for file in found]
    check_together(cards)
    return tuple(sorted(cards, key=lambda card: card.slug))


def status_of(card: Card) -> str:
    """Return ``"available"`` if the method can be used and its evidence is recorded, else ``"planned"``. Available
    means: there are entry points, all are public, and a laptop-scale run of at least one of its claims is recorded; not
    that the claims hold.
    """
    usable = bool(card.entry_points) and all(map(public, card.entry_points))
    return "available" if usable and any(name in claim_records() for name in card.claims) else "planned"


def evidence_of(card: Card, records: Mapping[str, ClaimRecord] | None = None) -> str:
    """Return in a few words what the recorded runs of a card's claims said; see :func:`~.baseline.in_words`."""
    return in_words(card.claims, records)


def methods(
    *,
    area: str | None = None,
    data_kind: str | None = None,
    tag: str | None = None,
    gpu: bool | None = None,
    status: str | None = None,
) -> tuple[Card, ...]:
    """Return the cards that meet every condition given, by slug: area, kind of data and tag are words of the
    vocabularies, any other raises a ValueError; ``gpu=False`` leaves out what is hopeless without a GPU, True keeps
    what can use one; ``status`` is ``"available"`` or ``"planned"``.
    """
    for name, value, known in (
        ("area", area, tuple(AREAS)),
        ("data kind", data_kind, tuple(DATA_KINDS)),
        ("tag", tag, tuple(PROBLEM_TAGS)),
        ("status", status, ("available", "planned")),
    ):
        if value is not None and value not in known:
            raise ValueError(
                f"no {name} is called {value!r}.{suggestion(value, known)} There are: {', '.join(known)}"
            )
    return tuple(
        card
        for card in load_cards()
        if (area is None or area in card.areas)
        and (data_kind is None or card.handles([data_kind]))
        and (tag is None or tag in card.problem_tags)
        and (gpu is None or card.needs.gpu != ("no" if gpu else "yes"))
        and (status is None or card.status == status)
    )


assert {f.name for f in fields(Card)} == {*_RULES, "needs", "queries"}
