"""Search: words by SQLite's full-text index, meaning by sentence vectors, both fused by rank.

Words are ranked by BM25 over three columns: title (weight 4), text (1), and area, tags and kinds of data in plain
words (2). Meaning is ranked by the cosine of sentence vectors (extra ``semantic``). Reciprocal rank fusion needs no
common scale of the two: a document's score is the sum over rankings of 1 / (60 + rank), ranks from 1. Of equal scores
(first by words and second by meaning, or the reverse) the better one by words comes first, then the slug decides; the
same query always gives the same list.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lodim.catalog.baseline import claim_records
from lodim.catalog.cards import Card, load_cards, suggestion
from lodim.catalog.query import Query, match_expression, parse_query
from lodim.results import Result

__all__ = ["MODES", "Hit", "SearchIndex", "SearchResults", "find_card", "fuse", "search", "shared_index"]

MODES = ("auto", "hybrid", "lexical", "semantic")
WEIGHTS = {"title": 4.0, "body": 1.0, "words": 2.0}
FUSION = 60
MOST_WORDS = 64  # of a long text, the rarest


@dataclass(frozen=True)
class Hit(Result):
    """A method that was found.

    Attributes
    ----------
    slug, title, area, one_line, status : str
        Of its card.
    score : float
        Larger is better; comparable within one search only.
    lexical_rank, semantic_rank : int or None
        Its place in either ranking, from 1.
    """

    slug: str
    title: str
    area: str
    one_line: str
    status: str
    score: float
    lexical_rank: int | None = None
    semantic_rank: int | None = None


@dataclass(frozen=True)
class SearchResults(Result):
    """What a search found, best first.

    Attributes
    ----------
    mode : str
        How it was ranked: ``hybrid``, ``lexical`` or ``semantic``.
    n_found : int
        Before the list was cut: the methods that have some of the words. Meaning orders all methods, so that with it
        these are all that the query's filters allow.
    notes : tuple of str
        What was not understood.
    """

    query: str
    mode: str
    hits: tuple[Hit, ...]
    n_found: int
    notes: tuple[str, ...] = ()

    def to_frame(self) -> Any:
        """Return the hits as a data frame, one a row."""
        import pandas as pd

        return pd.DataFrame([hit.to_dict() for hit in self.hits])

    def __str__(self) -> str:
        lines = [
            f"{i:2}. {hit.slug} ({hit.area}, {hit.status}): {hit.one_line}"
            for i, hit in enumerate(self.hits, 1)
        ]
        return "\n".join([*lines, *self.notes, f"{self.counted} ({self.mode} search)"])

    @property
    def counted(self) -> str:
        """How many methods were found, in words; by meaning, which leaves none out, how many are shown of how many."""
        shown, n = len(self.hits), self.n_found
        if self.mode == "lexical":
            return f"{n} method{'' if n == 1 else 's'}"
        return f"the best {shown} of {n} methods" if shown < n else f"{n} methods, best first"


class SearchIndex:
    """Full-text index of cards, in memory."""

    def __init__(self, cards: Sequence[Card]) -> None:
        self.cards = {card.slug: card for card in cards}
        self._lock = threading.Lock()
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        columns = ", ".join(("slug UNINDEXED", *WEIGHTS))
        tokens = "porter unicode61 remove_diacritics 2"
        try:
            self._database.execute(f"CREATE VIRTUAL TABLE card USING fts5({columns}, tokenize='{tokens}')")
        except sqlite3.OperationalError as error:
            raise RuntimeError(
                f"this Python's SQLite {sqlite3.sqlite_version} has no full-text index FTS5"
            ) from error
        rows = [(card.slug, card.title, card.body, card.words) for card in cards]
        self._database.executemany("INSERT INTO card VALUES (?, ?, ?, ?)", rows)

    def ranked(self, expression: str) -> list[tuple[str, float]]:
        """Return slug and BM25 score of every card that matches, best (largest) first.

        Parameters
        ----------
        expression : str
            FTS5 syntax, as :func:`~lodim.catalog.query.match_expression` makes it; empty matches nothing.
        """
        if not expression:
            return []
        weights = ", ".join(str(weight) for weight in (0.0, *WEIGHTS.values()))
        with self._lock:
            rows = self._database.execute(
                f"SELECT slug, -bm25(card, {weights}) AS score FROM card WHERE card MATCH ? ORDER BY score DESC, slug",
                (expression,),
            )
            return [(str(slug), float(score)) for slug, score in rows]

    def matching(self, part: str) -> frozenset[str]:
        """Return the slugs of the cards in which a word or phrase occurs."""
        with self._lock:
            rows = self._database.execute(
                "SELECT slug FROM card WHERE card MATCH ?", (match_expression((part,)),)
            )
            return frozenset(str(slug) for (slug,) in rows)

    def rarest(self, words: Iterable[str], k: int, *, least: int = 1) -> tuple[str, ...]:
        """Return the ``k`` words that occur in the fewest cards, the rarest first.

        Parameters
        ----------
        least : int
            Cards in which a word must occur to be of use.
        """
        distinct = list(dict.fromkeys(words))
        spread = {word: len(self.matching(word)) for word in distinct}
        found = [word for word in distinct if spread[word] >= least]
        return tuple(sorted(found, key=lambda word: (spread[word], distinct.index(word)))[:k])

    def allowed(self, query: Query) -> frozenset[str]:
        """Return the slugs that pass a query's filters, phrases and exclusions."""
        slugs = {slug for slug, card in self.cards.items() if all(_passes(card, *f) for f in query.filters)}
        for phrase in query.phrases:
            slugs &= self.matching(phrase)
        for unwanted in query.excluded:
            slugs -= self.matching(unwanted)
        return frozenset(slugs)

    def lexical(self, query: Query) -> dict[str, float]:
        """Return the slugs found by words and their BM25 scores, best first.

        All that are allowed, with score 0, if the query has filters only.
        """
        allowed = self.allowed(query)
        if not query.looked_for:
            return dict.fromkeys(sorted(allowed), 0.0) if query.filters or query.excluded else {}
        words = query.words if len(query.words) <= MOST_WORDS else self.rarest(query.words, MOST_WORDS)
        found = self.ranked(match_expression((*query.phrases[:MOST_WORDS], *words)))
        return {slug: score for slug, score in found if slug in allowed}


def _passes(card: Card, field: str, value: str, wanted: bool) -> bool:
    """Return whether a card meets one filter of a query."""
    if field == "area":
        met = value in card.areas
    elif field == "data":
        met = card.handles([value])
    elif field == "tag":
        met = value in card.problem_tags
    elif field == "status":
        met = card.status == value
    elif field == "has":
        met = any(name in claim_records() for name in card.claims)
    else:
        first, _, last = value.partition("-")
        met = int(first) <= card.year <= int(last or first)
    return met is wanted


@lru_cache(maxsize=1)
def shared_index() -> SearchIndex:
    """Return the index of all cards, made once."""
    return SearchIndex(load_cards())


def fuse(rankings: Iterable[Iterable[str]]) -> list[tuple[str, float]]:
    """Merge rankings by reciprocal rank: slug and sum of 1 / (60 + rank), best first.

    Ties are broken by the place in the first ranking, then by slug.
    """
    found = [{slug: rank for rank, slug in enumerate(ranking, 1)} for ranking in rankings]
    scores = {
        slug: sum(1 / (FUSION + places[slug]) for places in found if slug in places)
        for slug in set().union(*found)
    }
    absent = len(scores) + 1
    return sorted(scores.items(), key=lambda item: (-item[1], found[0].get(item[0], absent), item[0]))


def resolve_mode(mode: str) -> str:
    """Return how to rank: ``auto`` becomes ``hybrid`` where the extra ``semantic`` is installed, else ``lexical``."""
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}; got {mode!r}.{suggestion(mode, MODES)}")
    if mode != "auto":
        return mode
    from lodim.catalog.semantic import semantic_available

    return "hybrid" if semantic_available() else "lexical"


def scores_of(query: Query, mode: str) -> dict[str, dict[str, float]]:
    """Return the rankings that a mode fuses, by name: scores by slug, best first."""
    index = shared_index()
    found: dict[str, dict[str, float]] = {}
    if mode != "semantic" or not query.looked_for:
        found["lexical"] = index.lexical(query)
    if mode != "lexical" and query.looked_for:
        from lodim.catalog.semantic import ranked_by_meaning

        allowed = index.allowed(query)
        found["semantic"] = {
            slug: float(score) for slug, score in ranked_by_meaning(query.text) if slug in allowed
        }
    return found


def search(text: str, k: int = 20, *, mode: str = "auto") -> SearchResults:
    """Find methods by a problem in plain words.

    Parameters
    ----------
    text : str
        See :mod:`lodim.catalog.query` for phrases, exclusions and filters; no text is an error.
    k : int
        Longest list returned.
    mode : {"auto", "hybrid", "lexical", "semantic"}
        By words, by meaning (extra ``semantic``), or both.

    Raises
    ------
    ValueError
        ``k`` below 1, or an unknown mode.
    ImportError
        A mode that needs the extra ``semantic`` without it.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    query, chosen = parse_query(text), resolve_mode(mode)
    rankings = scores_of(query, chosen)
    places = {name: {slug: i for i, slug in enumerate(found, 1)} for name, found in rankings.items()}
    fused = fuse(rankings.values())
    hits = tuple(
        _hit(
            shared_index().cards[slug],
            score,
            places.get("lexical", {}).get(slug),
            places.get("semantic", {}).get(slug),
        )
        for slug, score in fused[:k]
    )
    return SearchResults(query.text, chosen, hits, len(fused), query.notes)


def _hit(card: Card, score: float, lexical: int | None, semantic: int | None) -> Hit:
    return Hit(card.slug, card.title, card.area, card.one_line, card.status, score, lexical, semantic)


def find_card(key: str) -> Card:
    """Return the card with this slug, arXiv identifier or title.

    Parameters
    ----------
    key : str
        ``"flora"``, ``"2405.14739"``, ``"arXiv:2405.14739v2"``, the paper's address or its title.

    Raises
    ------
    ValueError
        Nothing is called so; the message proposes what comes close.
    """
    typed = " ".join(key.split()).lower()
    identifier = re.search(r"(\d{4}\.\d{4,5})(v\d+)?$", typed.rstrip("/"))
    for card in load_cards():
        if typed in (card.slug, card.title.lower()) or (identifier and identifier[1] == card.arxiv_id):
            return card
    said = suggestion(typed.replace(" ", "-"), [card.slug for card in load_cards()])
    if not said:
        hits = search(key, k=3, mode="lexical").hits
        said = f" Did you mean {' or '.join(repr(hit.slug) for hit in hits)}?" if hits else ""
    raise ValueError(f"no method is called {key[:80]!r}.{said} 'lodim methods' lists them all.")
