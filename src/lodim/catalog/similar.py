"""Methods like a given one, and the whole list in order of likeness to a method or a text.

By meaning where the extra ``semantic`` is installed: the cosine of the cards' sentence vectors. Without it by words:
the BM25 score for the words that the card shares with any other (the 120 rarest), as a share of its own score.
Likeness is said in words; neither figure is a probability.
"""

from __future__ import annotations

from dataclasses import dataclass

from lodim.catalog.cards import Card, load_cards
from lodim.catalog.query import COMMON, match_expression, parse_query, split_words
from lodim.catalog.search import find_card, fuse, resolve_mode, scores_of, shared_index
from lodim.results import Result

__all__ = ["Similar", "SimilarMethods", "order_by_similarity", "similar"]

TELLING_WORDS = 120
_WORDS = ("very close", "close", "related", "loosely related")
_LEAST = {"semantic": (0.65, 0.50, 0.40), "lexical": (0.40, 0.25, 0.15)}


@dataclass(frozen=True)
class Similar(Result):
    """A method like another: ``very close``, ``close``, ``related`` or ``loosely related``. The score, by which it was
    ordered, is comparable within one list only.
    """

    slug: str
    title: str
    area: str
    status: str
    likeness: str
    score: float


@dataclass(frozen=True)
class SimilarMethods(Result):
    """The methods most like a given one, the closest first; ``mode`` is ``semantic`` or ``lexical``."""

    to: str
    mode: str
    methods: tuple[Similar, ...]

    def __str__(self) -> str:
        return "\n".join(f"{m.slug} ({m.area}): {m.likeness}" for m in self.methods)


def _scores(card: Card, mode: str) -> list[tuple[str, float]]:
    """Return slug and likeness of the cards to one, the closest first, itself left out."""
    if mode == "semantic":
        from lodim.catalog.semantic import near_card

        found = near_card(card.slug)
        return [(slug, score) for slug, score in found if slug != card.slug]
    index = shared_index()
    words = split_words(f"{card.title} {card.body} {card.words}")
    telling = [word for word in words if word not in COMMON]
    scores = index.ranked(match_expression(index.rarest(telling, TELLING_WORDS, least=2)))
    own = dict(scores).get(card.slug)
    return [(slug, score / own) for slug, score in scores if slug != card.slug] if own else []


def _likeness(score: float, mode: str) -> str:
    return next((word for word, least in zip(_WORDS, _LEAST[mode]) if score >= least), _WORDS[-1])


def similar(key: str, k: int = 6, *, mode: str = "auto") -> SimilarMethods:
    """Return at most ``k`` methods most like the one that this slug, arXiv identifier or title names, never itself.

    ``mode`` is ``semantic`` (by meaning), ``lexical`` (by words) or ``auto``: by meaning where the extra ``semantic``
    is installed. Raises a ValueError for an unknown method or mode or ``k`` below 1, an ImportError for ``"semantic"``
    without the extra.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    card = find_card(key)
    chosen = "semantic" if resolve_mode(mode) in ("semantic", "hybrid") else "lexical"
    cards = shared_index().cards
    found = tuple(
        Similar(slug, near.title, near.area, near.status, _likeness(score, chosen), float(score))
        for slug, score in _scores(card, chosen)[:k]
        for near in [cards[slug]]
    )
    return SimilarMethods(card.slug, chosen, found)


def order_by_similarity(to: str, *, mode: str = "auto") -> tuple[Card, ...]:
    """Return all cards in order of likeness to a method (slug, arXiv identifier or title; it comes first itself) or any
    other text, the closest first. Cards that share nothing with it come last, by slug.
    """
    chosen = resolve_mode(mode)
    try:
        card = find_card(to)
    except ValueError:
        order = [slug for slug, _ in fuse(scores_of(parse_query(to), chosen).values())]
    else:
        way = "lexical" if chosen == "lexical" else "semantic"
        order = [card.slug, *(slug for slug, _ in _scores(card, way))]
    place = {slug: i for i, slug in enumerate(order)}
    return tuple(sorted(load_cards(), key=lambda c: (place.get(c.slug, len(place)), c.slug)))
