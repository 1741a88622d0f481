"""A page of the list of papers, in any order.

All papers in the order of a formula at a moment are kept (:class:`Rankings`) until a paper changes or somebody asks for
another moment; pages, windows of time and areas are cut out of them. Lists that name the same moment, as the pages of
one minute do, are so ordered once. From one moment to another only the ages differ, unless votes were counted in
between (or, for what was gained in a day, a day before), so the votes are kept as well.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from lodim.catalog.feed import dialect
from lodim.catalog.feed.conditions import Conditions
from lodim.catalog.feed.cursors import Cursor
from lodim.catalog.feed.finding import find_paper, fused, like_text, shared_words
from lodim.catalog.feed.ingest import CHANGED
from lodim.catalog.feed.loading import load_papers
from lodim.catalog.feed.paper import Page, Paper
from lodim.catalog.feed.records import stamp, utc
from lodim.catalog.feed.statements import run
from lodim.catalog.feed.store import Store
from lodim.catalog.feed.trending import HOUR, Series, Trending

__all__ = ["Rankings", "ranked_page", "scored_page", "similar_page"]

Ranked = tuple[float, str, int]
MOST_KEPT = 6

# only a paper that was observed in the last day can have gained
_OBSERVED = (
    "AND paper_id IN (SELECT paper_id FROM signal "
    "WHERE kind IN :kinds AND observed_at > :before AND observed_at <= :at) "
)


@dataclass(frozen=True)
class _Votes:
    """What an order is made of: dates of papers and signals, as they were known at a moment."""

    at: str
    dates: dict[int, str]
    series: list[tuple[int, list[Series]]]

    @classmethod
    def read(cls, connection: sa.Connection, order: str, trending: Trending, now: str) -> _Votes:
        rows = run(connection, "SELECT id, listed_at FROM paper")
        series = [] if order == "new" else list(_series(connection, trending, now, order))
        return cls(now, dict(rows.all()), series)  # type: ignore[arg-type]

    def hold(self, connection: sa.Connection, order: str, trending: Trending, now: str) -> bool:
        """Return whether nothing was observed in between that would make another moment's differ."""
        first, last = sorted((self.at, now))
        spans = (
            [(first, last)]
            if order != "velocity"
            else [(first, last), (_day_before(first), _day_before(last))]
        )
        observed = "SELECT 1 FROM signal WHERE kind IN :kinds AND observed_at > :first AND observed_at <= :last LIMIT 1"
        return order == "new" or not any(
            run(connection, observed, kinds=_kinds(trending), first=start, last=end).first()
            for start, end in spans
        )

    def ranked(self, order: str, trending: Trending, now: str) -> list[Ranked]:
        at = utc(now)
        scores = {i: trending.score(order, series, _age(at, self.dates[i])) for i, series in self.series}
        return sorted(((scores.get(i, 0.0), listed, i) for i, listed in self.dates.items()), reverse=True)


class Rankings:
    """All papers in some orders at some moments, the last ones asked for."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[str, ...], list[Ranked]] = OrderedDict()
        self._votes: dict[str, tuple[tuple[Any, ...], _Votes]] = {}
        self._lock = threading.Lock()

    def get(self, connection: sa.Connection, order: str, trending: Trending, now: str) -> list[Ranked]:
        """Return score, date and number of every paper, the first first."""
        mark = Store.get_meta(connection, CHANGED)
        if mark is None:  # nothing came in by the usual way
            return _Votes.read(connection, order, trending, now).ranked(order, trending, now)
        key = (mark, now, order, trending.to_json())
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        ranked = self._read(connection, mark, order, trending, now).ranked(order, trending, now)
        with self._lock:
            self._held[key] = ranked
            while len(self._held) > MOST_KEPT:
                self._held.popitem(last=False)
        return ranked

    def _read(self, connection: sa.Connection, mark: str, order: str, trending: Trending, now: str) -> _Votes:
        made_of = order if order in ("new", "velocity") else "votes"
        of = (mark, _kinds(trending))
        with self._lock:
            held = self._votes.get(made_of)
        if held is not None and held[0] == of and held[1].hold(connection, order, trending, now):
            return held[1]
        votes = _Votes.read(connection, order, trending, now)
        with self._lock:
            self._votes[made_of] = (of, votes)
        return votes


def _kinds(trending: Trending) -> tuple[str, ...]:
    """Return the kinds of signals that count."""
    return tuple(kind for kind, weight in trending.weights.items() if weight)


def _day_before(moment: str) -> str:
    return stamp(utc(moment) - timedelta(hours=24))


def _age(at: datetime, listed: str) -> float:
    """Return an age in hours."""
    return (at - utc(listed)).total_seconds() / HOUR


def ranked_page(
    connection: sa.Connection,
    order: str,
    conditions: Conditions,
    trending: Trending,
    rankings: Rankings,
    *,
    now: str,
    cursor: Cursor | None,
    limit: int,
    options: str,
) -> Page:
    """Return a page in the order of a formula, ages and signals taken at ``now``, from where the page before ended.
    ``options`` is a hash of what defines the list, for the next cursor.
    """
    ranked = rankings.get(connection, order, trending, now)
    if conditions.parts:
        found = conditions.run(connection, f"SELECT id FROM paper{conditions.sql()}")
        allowed = set(found.scalars())
        ranked = [place for place in ranked if place[2] in allowed]
    chosen, following = _cut(ranked, cursor, limit, options, now)
    of = () if order == "new" else tuple(i for _, _, i in chosen)
    voted = dict(_series(connection, trending, now, order, of)) if of else {}
    at = utc(now)
    shown = {
        i: (score, trending.why(order, voted.get(i, ()), _age(at, listed))) for score, listed, i in chosen
    }
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
    """Return a page in the order of scores given; papers without one come last, newest first."""
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
    """Return a page in order of likeness to a paper, which comes first or is left out (``itself``), or to a text;
    without vectors by words. ``cut`` holds ``now``, ``cursor``, ``limit`` and ``options`` as of :func:`ranked_page`.
    """
    paper_id, text = find_paper(connection, to), str(to)
    if paper_id is not None:
        paper = load_papers(connection, [paper_id])[0]
        text = f"{paper.title}. {paper.abstract}"
    words: list[str] = []
    cosines: dict[int, float] = {}
    if vectors is None:
        scores, words = like_text(connection, text, without=paper_id)
        formula = "BM25 of the text's rarest words, most in common first"
    else:
        scores = dict(vectors.near_text(connection, text))
        formula = "cosine of sentence vectors, closest first"
        cosines = dict(scores)
        n = int(run(connection, "SELECT count(*) FROM paper").scalar_one())
        if len(cosines) < n:
            scores, words = _of_both(connection, text, cosines, n, without=paper_id)
            formula += f"; {n - len(cosines):,} of {n:,} papers by the text's rarest words"
    if itself and paper_id is not None:
        scores[paper_id] = 1e9

    def why(near: Paper) -> str:
        if near.id == paper_id:
            return "the paper itself"
        if near.id in cosines:
            return f"cosine {cosines[near.id]:.2f}"
        return shared_words(words, f"{near.title} {near.abstract}")

    without = None if itself else paper_id
    return scored_page(connection, conditions, scores, why, formula, without=without, **cut)


def _of_both(
    connection: sa.Connection, text: str, cosines: Mapping[int, float], n: int, *, without: int | None
) -> tuple[dict[int, float], list[str]]:
    """Return scores by rank while only some papers have vectors, and the words by which the others have theirs."""
    found, words = like_text(connection, text, without=without)
    alike = [(i, score) for i, score in found.items() if cosines.get(i, 1.0) > 0]
    lexical = sorted(alike, key=lambda item: (-item[1], item[0]))
    near = [(i, cosine) for i, cosine in cosines.items() if cosine > 0 and i != without]
    return dict(fused(lexical, near, n)), words


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
    values: dict[str, Any] = {"at": now, "kinds": _kinds(trending)}
    if order == "velocity":
        values["before"] = _day_before(now)
    if of is not None:
        values["of"] = of
    statement = dialect.latest
    narrowed = "" if of is None else "AND paper_id IN :of "
    if order == "velocity":
        statement = dialect.changes
        narrowed = narrowed or _OBSERVED
    rows = run(connection, statement(connection, narrowed), **values)
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
