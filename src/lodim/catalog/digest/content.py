"""What a digest says: new papers, papers that are talked about, what a saved search finds, methods whose state changed.

A paper is news for a subscriber if it was never in a mail to them and, since the digest before,

* came in while it was young: first seen since then, and published at most 30 days before that; or
* gained at least :data:`LEAST_GAIN` on the count of :mod:`lodim.catalog.feed.trending`.

Of these, a subscriber gets those of the chosen areas, and those in which **all** words of the saved search occur (a
search page ranks papers with any of them; an alert must not cry wolf). Without areas and without a search, all are
theirs; with a search only, what it finds. They are ordered by the trending score, and the best ten are told. What is
not told is not told later, unless it gains again: a digest is no backlog.

A method is news if its state, or the verdicts on its claims, differ from what this catalogue knew before
(:mod:`lodim.catalog.digest.changes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import sqlalchemy as sa

from lodim.catalog.digest.changes import Change, changes_between
from lodim.catalog.digest.schedule import day_in_words
from lodim.catalog.feed import dialect
from lodim.catalog.feed.conditions import Conditions
from lodim.catalog.feed.finding import by_words
from lodim.catalog.feed.loading import load_papers
from lodim.catalog.feed.paper import Paper
from lodim.catalog.feed.records import stamp, utc
from lodim.catalog.feed.statements import run
from lodim.catalog.feed.trending import HOUR, Series, Trending
from lodim.catalog.query import Query, parse_query
from lodim.results import Result

__all__ = ["LEAST_GAIN", "MOST", "Digest", "Item", "News"]

MOST = 10
LEAST_GAIN = 2.0
YOUNG = timedelta(days=30)
OVERLAP = timedelta(hours=1)  # a long ingest is stamped when it begins and seen when it ends
_CONSIDERED = 1000
# papers that can have gained, and new ones
_STIRRED = (
    "SELECT paper_id FROM signal WHERE kind IN :kinds AND observed_at > :begin AND observed_at <= :at "
    "UNION SELECT id FROM paper WHERE first_seen_at >= :begin"
)


@dataclass(frozen=True)
class Item(Result):
    """A paper in a digest: its number in the catalogue, the link where it can be read, the slug of lodim's method, if
    it can be used today, and in one line why it is told.
    """

    paper: int
    title: str
    abstract: str
    authors: tuple[str, ...]
    date: str
    link: str | None
    method: str | None
    why: str


@dataclass(frozen=True)
class Digest(Result):
    """What is told to one subscriber: papers found by the saved search and those listed of the areas. ``more`` papers
    were left out for room; ``since`` and ``until`` are UTC.
    """

    found: tuple[Item, ...]
    listed: tuple[Item, ...]
    changes: tuple[Change, ...]
    more: int
    areas: tuple[str, ...]
    search: str | None
    since: str
    until: str

    @property
    def papers(self) -> tuple[int, ...]:
        """Numbers of the papers in it."""
        return tuple(item.paper for item in (*self.found, *self.listed))

    def __bool__(self) -> bool:
        return bool(self.found or self.listed or self.changes)


class Heat(NamedTuple):
    """How much a paper is talked about: its votes, those of them since the digest before, and its score in the order
    ``trending``.
    """

    votes: int | float = 0.0
    gain: int | float = 0.0
    score: int | float = 0.0


class News:
    """What there is to tell at a moment; nothing later than ``until`` (UTC) is told."""

    def __init__(self, until: str, trending: Trending | None = None, *, most: int = MOST) -> None:
        self.until, self.most = until, most
        self.trending = trending or Trending()
        self._heats: dict[str, dict[int, Heat]] = {}

    def digest(
        self,
        connection: sa.Connection,
        subscriber: int,
        *,
        areas: Sequence[str] = (),
        search: str | None = None,
        since: str,
    ) -> Digest:
        """Return what is news for a subscriber since the digest before was put together (UTC); empty if nothing is. The
        areas are tags, archives or areas of methods; none: all.
        """
        query = parse_query(search or "", free=("area",))
        looks = bool(query.looked_for or query.filters)
        found = self._found(connection, subscriber, query, since) if looks else []
        listed: list[int] = []
        if areas or not looks:
            conditions = self._unsent(connection, subscriber, since)
            conditions.areas(connection, list(areas))
            rows = conditions.run(connection, f"SELECT id, listed_at FROM paper{conditions.sql()}")
            listed = [i for i in self._ranked(connection, map(tuple, rows), since) if i not in set(found)]
        keep = max(self.most - len(listed), self.most // 2)
        alerts = found[:keep]
        others = listed[: self.most - len(alerts)]
        return Digest(
            found=self._items(connection, alerts, since, lead="matches your search; "),
            listed=self._items(connection, others, since),
            changes=changes_between(connection, since, self.until, areas),
            more=len(found) + len(listed) - len(alerts) - len(others),
            areas=tuple(areas),
            search=query.text if looks else None,
            since=since,
            until=self.until,
        )

    def _unsent(self, connection: sa.Connection, subscriber: int, since: str) -> Conditions:
        """Return the conditions of being news for a subscriber."""
        heats = self._heat(connection, since)
        rising = [i for i, heat in heats.items() if heat.gain >= LEAST_GAIN]
        hottest = sorted(rising, key=lambda i: (heats[i].score, i), reverse=True)[:_CONSIDERED]
        begin, conditions = utc(since) - OVERLAP, Conditions()
        young = "paper.first_seen_at >= :begin AND paper.listed_at >= :oldest"
        conditions.add(
            f"(({young}) OR paper.id IN :rising)" if hottest else f"({young})",
            begin=stamp(begin),
            oldest=stamp(begin - YOUNG),
            rising=tuple(hottest),
        )
        conditions.add("paper.first_seen_at <= :until", until=self.until)
        conditions.add(
            "NOT EXISTS (SELECT 1 FROM sent_item WHERE sent_item.paper_id = paper.id "
            "AND sent_item.subscriber_id = :subscriber)",
            subscriber=subscriber,
        )
        return conditions

    def _found(self, connection: sa.Connection, subscriber: int, query: Query, since: str) -> list[int]:
        """Return the news in which all words of a query occur and that pass its filters."""
        conditions = self._unsent(connection, subscriber, since)
        conditions.query(query)
        if query.looked_for:
            strict = replace(query, phrases=query.looked_for, words=())
            found, _ = by_words(connection, strict, conditions, most=_CONSIDERED)
            if not found:
                return []
            conditions = Conditions()
            conditions.add("paper.id IN :found", found=tuple(i for i, _ in found))
        rows = conditions.run(connection, f"SELECT id, listed_at FROM paper{conditions.sql()}")
        return self._ranked(connection, map(tuple, rows), since)

    def _heat(self, connection: sa.Connection, since: str) -> dict[int, Heat]:
        """Return how much every paper is talked about; read once for all who had their last digest at a moment."""
        if since in self._heats:
            return self._heats[since]
        values = {
            "at": self.until,
            "before": since,
            "begin": stamp(utc(since) - OVERLAP),
            "kinds": tuple(kind for kind, weight in self.trending.weights.items() if weight),
        }
        dated = run(connection, f"SELECT id, listed_at FROM paper WHERE id IN ({_STIRRED})", **values)
        dates: dict[int, str] = dict(dated.all())
        rows = run(connection, dialect.changes(connection, f"AND paper_id IN ({_STIRRED}) "), **values)
        heats = {}
        for paper, group in groupby(rows, key=itemgetter(0)):
            series = [Series(*row[1:]) for row in group]
            age = (utc(self.until) - utc(dates[paper])).total_seconds() / HOUR
            young = dates[paper] >= since  # its votes were all cast since then
            old = [(s.source, s.kind, _before(s, young)) for s in series]
            votes = self.trending.count(series)
            score = self.trending.score("trending", series, age)
            heats[paper] = Heat(votes, votes - self.trending.count(old), score)
        self._heats[since] = heats
        return heats

    def _ranked(self, connection: sa.Connection, rows: Iterable[tuple[int, str]], since: str) -> list[int]:
        """Return papers, the most talked about first, then the newest."""
        heats, cold = self._heat(connection, since), Heat()
        places = [(heats.get(i, cold).score, listed, i) for i, listed in rows]
        return [i for _, _, i in sorted(places, reverse=True)]

    def _items(
        self, connection: sa.Connection, ids: Sequence[int], since: str, lead: str = ""
    ) -> tuple[Item, ...]:
        heats = self._heat(connection, since)
        return tuple(
            Item(
                paper=paper.id,
                title=paper.title,
                abstract=paper.abstract,
                authors=paper.authors,
                date=paper.date,
                link=paper.link if _opens(paper.link) else None,
                method=paper.method if paper.implemented else None,
                why=lead + self._why(paper, heats.get(paper.id, Heat()), since),
            )
            for paper in load_papers(connection, ids)
        )

    def _why(self, paper: Paper, heat: Heat, since: str) -> str:
        """Return why a paper is told: ``new, 41 votes``, or ``12 more votes since 20 November, 53 in all``."""
        word = "vote" if set(self.trending.weights) == {"upvotes"} else "point"
        if paper.first_seen >= stamp(utc(since) - OVERLAP):
            return "new" + (f", {_counted(heat.votes, word)}" if heat.votes > 0 else "")
        more = _counted(heat.gain, f"more {word}")
        return f"{more} since {day_in_words(utc(since).date())}, {heat.votes:,.6g} in all"


def _before(series: Series, young: bool) -> int | float:
    """Return the value at the digest before; votes of an older paper before anyone looked are no news."""
    if series.before is not None:
        return series.before
    return 0.0 if young else series.first


def _opens(link: str | None) -> bool:
    """Tell whether a link leads to a page, and does nothing else."""
    return link is not None and link.lower().startswith(("https://", "http://"))


def _counted(n: int | float, word: str) -> str:
    return f"{n:,.6g} {word}{'' if n == 1 else 's'}"
