"""A page of the list of papers, in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from lodim.catalog.feed import dialect
from lodim.catalog.feed.conditions import Conditions
from lodim.catalog.feed.cursors import Cursor
from lodim.catalog.feed.finding import find_paper, like_text, shared_words
from lodim.catalog.feed.loading import load_papers
from lodim.catalog.feed.paper import Page, Paper
from lodim.catalog.feed.records import stamp, utc
from lodim.catalog.feed.trending import HOUR, Series, Trending

__all__ = ["ranked_page", "scored_page", "similar_page"]

Ranked = tuple[float, str, int]

# only a paper that was observed in the last day can have gained
_OBSERVED = (
    "AND paper_id IN (SELECT paper_id FROM signal "
    "WHERE kind IN :kinds AND observed_at > :before AND observed_at <= :at) "
)


def ranked_page(
    connection: sa.Connection,
    order: str,
    conditions: Conditions,
    trending: Trending,
    *,
    now: str,
    cursor: Cursor | None,
    limit: int,
    options: str,
) -> Page:
    """Return a page in the order of a formula.

    Parameters
    ----------
    connection : Connection
    order : {"trending", "velocity", "top", "new"}
    conditions : Conditions
    trending : Trending
    now : str
        Moment at which ages and signals are taken.
    cursor : Cursor or None
        Where the page before ended.
    limit : int
    options : str
        Hash of what defines the list, for the next cursor.
    """
    at = utc(now)

    def age(listed: str) -> float:
        return (at - utc(listed)).total_seconds() / HOUR

    found = conditions.run(connection, f"SELECT id, listed_at FROM paper{conditions.sql()}")
    dates: dict[int, str] = dict(found.all())
    scores: dict[int, float] = {}
    if order != "new":
        for i, series in _series(connection, trending, now, order):
            if i in dates:
                scores[i] = trending.score(order, series, age(dates[i]))
    ranked = [(scores.get(i, 0.0), listed, i) for i, listed in dates.items()]
    chosen, following = _cut(ranked, cursor, limit, options, now)
    of = () if order == "new" else tuple(i for _, _, i in chosen)
    voted = dict(_series(connection, trending, now, order, of)) if of else {}
    shown = {i: (score, trending.why(order, voted.get(i, ()), age(listed))) for score, listed, i in chosen}
    shown = _dated(connection, shown, order)
    papers = load_papers(connection, [i for _, _, i in chosen], shown)
    return Page(papers, order, trending.formula(order), following, len(ranked), tuple(conditions.notes))


def scored_page(
    connection: sa.Connection,
    conditions: Conditions,
    scores: Mapping[int, float],
    why: Callable[[Paper], str],
    formula: str,
    *,
    now: str,
    cursor: Cursor | None,
    limit: int,
    options: str,
    without: int | None = None,
) -> Page:
    """Return a page in the order of scores given; papers without one come last, newest first.

    Parameters
    ----------
    connection : Connection
    conditions : Conditions
    scores : mapping of int to float
    why : callable
        Gives the reason for a paper's place.
    formula : str
    now, cursor, limit, options
        As of :func:`ranked_page`.
    without : int, optional
        A paper to leave out.
    """
    rows = conditions.run(connection, f"SELECT id, listed_at FROM paper{conditions.sql()}").all()
    ranked = [(scores.get(i, 0.0), listed, i) for i, listed in rows if i != without]
    chosen, following = _cut(ranked, cursor, limit, options, now)
    loaded = load_papers(connection, [i for _, _, i in chosen], {i: (score, "") for score, _, i in chosen})
    papers = tuple(replace(paper, why=why(paper)) for paper in loaded)
    return Page(papers, "similar", formula, following, len(ranked), tuple(conditions.notes))


def similar_page(
    connection: sa.Connection,
    to: int | str,
    conditions: Conditions,
    cut: dict[str, Any],
    vectors: Any,
    *,
    itself: bool,
) -> Page:
    """Return a page in order of likeness to a paper, which comes first or is left out, or to a text.

    Parameters
    ----------
    connection : Connection
    to : int or str
    conditions : Conditions
    cut : dict
        ``now``, ``cursor``, ``limit`` and ``options`` as of :func:`ranked_page`.
    vectors : Vectors or None
        None: by words.
    itself : bool
        Whether the paper is shown, as the first.
    """
    paper_id, text = find_paper(connection, to), str(to)
    if paper_id is not None:
        paper = load_papers(connection, [paper_id])[0]
        text = f"{paper.title}. {paper.abstract}"
    words: list[str] = []
    if vectors is None:
        scores, words = like_text(connection, text, without=paper_id)
        formula = "BM25 of the text's rarest words, most in common first"
    else:
        scores = dict(vectors.near_text(connection, text))
        formula = "cosine of sentence vectors, closest first"
    if itself and paper_id is not None:
        scores[paper_id] = 1e9

    def why(near: Paper) -> str:
        if near.id == paper_id:
            return "the paper itself"
        if vectors is None:
            return shared_words(words, f"{near.title} {near.abstract}")
        return f"cosine {near.score:.2f}"

    without = None if itself else paper_id
    return scored_page(connection, conditions, scores, why, formula, without=without, **cut)


def _cut(
    ranked: list[Ranked], cursor: Cursor | None, limit: int, options: str, now: str
) -> tuple[list[Ranked], str | None]:
    """Return the part of a list after the cursor, and the next cursor."""
    rest = ranked if cursor is None else [place for place in ranked if place < cursor.place]
    chosen = sorted(rest, reverse=True)[:limit]
    return chosen, Cursor(options, now, *chosen[-1]).pack() if len(rest) > limit else None


def _series(
    connection: sa.Connection, trending: Trending, now: str, order: str, of: tuple[int, ...] | None = None
) -> Iterator[tuple[int, list[Series]]]:
    """Give the signals that count, as they were at a moment, paper by paper."""
    values: dict[str, Any] = {"at": now, "kinds": tuple(kind for kind, w in trending.weights.items() if w)}
    if order == "velocity":
        values["before"] = stamp(utc(now) - timedelta(hours=24))
    if of is not None:
        values["of"] = of
    statement = dialect.latest
    narrowed = "" if of is None else "AND paper_id IN :of "
    if order == "velocity":
        statement = dialect.changes
        narrowed = narrowed or _OBSERVED
    rows = Conditions().run(connection, statement(connection, narrowed), **values)
    every = (row for part in rows.partitions(1000) for row in part)
    for paper_id, group in groupby(every, key=itemgetter(0)):
        yield paper_id, [Series(*row[1:]) for row in group]


def _dated(
    connection: sa.Connection, shown: dict[int, tuple[float, str]], order: str
) -> dict[int, tuple[float, str]]:
    """Say the age no more exactly than the date is known; of a paper without a date, since when it is here."""
    if not shown:
        return shown
    vague = Conditions()
    vague.add("id IN :ids AND (published_at IS NULL OR precision IN ('month', 'year'))", ids=tuple(shown))
    rows = vague.run(connection, f"SELECT id, published_at, precision FROM paper{vague.sql()}")
    for paper_id, published, precision in rows:
        score, why = shown[paper_id]
        *votes, age = why.split(", ")
        if published is None:
            said = f"no date, first seen {age.removesuffix(' old')} ago"
        else:
            said = f"of {published[: 4 if precision == 'year' else 7]}"
        shown[paper_id] = (score, ", ".join([*votes, said]))
    return shown
