"""Queries with the method each should find, and how well a way of searching does on them.

``paraphrases`` are fourteen problems told without the papers' words. ``plain`` has one problem for every method,
written before the cards were; ``terms`` uses the trade's own words and was written after (four words that it showed to
be missing were then added to cards).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from lodim.catalog import search

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Places:
    """Where the wanted methods came."""

    places: tuple

    @property
    def first(self):
        return sum(place == 1 for place in self.places)

    @property
    def in_three(self):
        return sum(place <= 3 for place in self.places)

    @property
    def reciprocal(self):
        return sum(1 / place for place in self.places) / len(self.places)


@pytest.fixture(scope="session")
def queries():
    """Return the sets of queries, each a mapping from text to slug."""
    plain = json.loads((HERE / "plain_queries.json").read_text())
    return {
        "paraphrases": json.loads((HERE / "paraphrases.json").read_text()),
        "plain": {text: slug for slug, text in plain.items()},
        "terms": json.loads((HERE / "trade_terms.json").read_text()),
    }


@pytest.fixture(scope="session")
def places():
    """Return a function that searches for every query and says where its method came (57: not found)."""

    def of(wanted, mode):
        found = []
        for text, slug in wanted.items():
            slugs = [hit.slug for hit in search(text, 56, mode=mode).hits]
            found.append(slugs.index(slug) + 1 if slug in slugs else 57)
        return Places(tuple(found))

    return of
