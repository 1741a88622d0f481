"""Search in the papers, and papers like a given one.

By words: the database's full-text index, BM25 with title 4, abstract 1, authors and tags 2 (PostgreSQL: something near
it, see :mod:`lodim.catalog.feed.postgresql`). By meaning (extra ``semantic``,
for the papers that have vectors): the cosine of sentence vectors; both fused by reciprocal rank as in
:mod:`lodim.catalog.search`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from lodim.catalog.feed import dialect
from lodim.catalog.feed.conditions import Conditions
from lodim.catalog.feed.identity import arxiv_of, doi_of, title_key
from lodim.catalog.feed.records import clean_line
from lodim.catalog.feed.statements import run
from lodim.catalog.query import COMMON, Query, split_words
from lodim.catalog.search import FUSION, MOST_WORDS

__all__ = ["by_words", "find_paper", "fused", "like_text", "shared_words", "telling_words"]

TELLING_WORDS = 30
_MOST_LIKE = 5000
_CONSIDERED = 150  # distinct words of a text whose rarity is looked up


def by_words(
    connection: sa.Connection, query: Query, conditions: Conditions, most: int
) -> tuple[list[tuple[int, float]], int]:
    """Return number and score of the papers that a query finds by words, best first, and how many there are in all."""
    if len(query.words) > MOST_WORDS:
        rare = tuple(telling_words(connection, query.words, MOST_WORDS, least=1))
        query = Query(query.text, rare, query.phrases)
    if not query.looked_for:
        return [], 0
    database = dialect.of(connection)
    statement, values = database.search(query, conditions.sql())
    found = conditions.run(connection, statement, **values, most=most).all()
    n_found = len(found)
    if n_found == most:
        statement, values = database.count(query, conditions.sql())
        n_found = conditions.run(connection, statement, **values).scalar_one()
    return [(i, score) for i, score in found], int(n_found)


def telling_words(connection: sa.Connection, words: Iterable[str], k: int, *, least: int = 2) -> list[str]:
    """Return the words that occur in the fewest papers, but in at least so many, the rarest first."""
    distinct = [word for word in dict.fromkeys(words) if word not in COMMON and len(word) > 1][:_CONSIDERED]
    spread = dialect.of(connection).spread(connection, distinct)
    useful = [word for word in distinct if spread[word] >= least]
    return sorted(useful, key=lambda word: (spread[word], distinct.index(word)))[:k]


def like_text(
    connection: sa.Connection, text: str, *, without: int | None = None
) -> tuple[dict[int, float], list[str]]:
    """Return the BM25 scores of the papers that share telling words with a text, and those words; ``without`` leaves
    out the paper whose text it is.
    """
    words = telling_words(connection, split_words(text), TELLING_WORDS, least=1 if without is None else 2)
    if not words:
        return {}, []
    statement, values = dialect.of(connection).search(Query(text, tuple(words)), "")
    found = run(connection, statement, **values, most=_MOST_LIKE).all()
    return {i: score for i, score in found if i != without}, words


def shared_words(words: Sequence[str], text: str, most: int = 4) -> str:
    """Return a reason in words: what a text has of the telling words of another, which come most telling first."""
    there = set(split_words(text))
    shared = [word for word in words if word in there][:most]
    return f"shares {', '.join(shared)}" if shared else ""


def fused(
    words: Sequence[tuple[int, float]], near: Sequence[tuple[int, float]], n: int
) -> list[tuple[int, float]]:
    """Merge the rankings by words and by meaning, best first: a paper's score is the sum of 1 / (60 + rank), ties are
    broken by the rank by words, then by number. ``words`` are papers found by words, ``near`` all that have a vector,
    best first (their scores are not looked at), ``n`` how many could be found, with and without vectors.

    While only some papers have vectors, neither those that have nor those that lack one should gain by it. A rank among
    the papers with vectors is stretched to what it stands for among all; it counts for as much as the share of papers
    that have a vector, and the rank by words for the rest. A paper without a vector counts its rank by words twice. So
    with hardly a vector the order is that by words, and once all have one the score is the plain sum.
    """
    share = len(near) / max(n, 1)
    by_word = {i: float(rank) for rank, (i, _) in enumerate(words, 1)}
    by_meaning = {i: rank / share for rank, (i, _) in enumerate(near, 1)}
    last = float(len(by_word) + 1)
    scores: dict[int, float] = {}
    for i in by_word.keys() | by_meaning.keys():
        said = 1.0 / (FUSION + by_word[i]) if i in by_word else 0.0
        meant = share / (FUSION + by_meaning[i]) + (1.0 - share) * said if i in by_meaning else said
        scores[i] = said + meant
    return sorted(scores.items(), key=lambda item: (-item[1], by_word.get(item[0], last), item[0]))


def find_paper(connection: sa.Connection, key: int | str) -> int | None:
    """Return the number of the paper with this number, arXiv identifier, DOI, address or title, or None."""
    text = clean_line(str(key))
    arxiv_id, doi = arxiv_of(text)[0], doi_of(text)
    value: int | str
    if text.isdecimal():
        where, value = "id = :key", int(text) if len(text) < 19 else -1
    elif arxiv_id:
        where, value = "arxiv_id = :key", arxiv_id
    elif doi:
        where, value = "doi = :key", doi
    else:
        where, value = "title_key = :key", title_key(text)
    found = run(connection, f"SELECT id FROM paper WHERE {where} ORDER BY id LIMIT 1", key=value)
    return found.scalar()
