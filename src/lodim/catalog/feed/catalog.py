"""The front object: a catalogue of papers in a file or on a PostgreSQL server."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from lodim.catalog.feed.cursors import Cursor, digest_of
from lodim.catalog.feed.libraries import optional
from lodim.catalog.feed.paper import Page, Paper, Statement
from lodim.catalog.feed.report import IngestReport
from lodim.catalog.feed.trending import ORDERS, Trending
from lodim.catalog.query import parse_query
from lodim.catalog.search import MODES

__all__ = ["Catalog", "default_path"]

MOST_SHOWN = 1000
_FUSED = 1000  # of the papers found by words, so many are weighed against those by meaning
Moment = datetime | str | None


def default_path() -> Path:
    """Return the file of papers that is used where none is named, in the user's data folder."""
    return Path(optional("platformdirs").user_data_dir("lodim", appauthor=False)) / "papers.db"


class Catalog:
    """Papers of a field: taken in from files and feeds, listed, searched, handed on.

    Parameters
    ----------
    path : path or address, optional
        The file, made if there is none; by default :func:`default_path`. ``":memory:"`` keeps everything in memory.
        ``postgresql://user@host/database`` is a database on a server (extra ``postgres``), which must exist.
    encoder : {"auto", None} or Encoder
        For search by meaning. ``"auto"``: that of the extra ``semantic`` where it is installed, for the papers that
        have vectors (:meth:`embed`); None: by words only.
    trending : Trending, optional
        Constants of the formulas.
    online : mapping, optional
        Parameters of :class:`~lodim.catalog.feed.online.Fetcher`, such as ``hosts``.

    Raises
    ------
    ImportError
        Without the extra ``web``, or ``postgres`` for a server.
    ValueError
        The file or database is something else, or was written by a newer lodim.
    RuntimeError
        SQLite without full-text index; a server that is too old.
    ConnectionError
        The server cannot be reached.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        encoder: Any = "auto",
        *,
        trending: Trending | None = None,
        online: Mapping[str, Any] | None = None,
    ) -> None:
        optional("sqlalchemy")
        from lodim.catalog.feed.store import Store

        chosen = default_path() if path is None else path
        self.store = Store(None if chosen == ":memory:" else chosen)
        self.encoder = encoder
        self.constants = trending or Trending()
        self._online = dict(online or {})
        self._rankings: Any = None

    def ingest(
        self,
        source: Any,
        format: str = "auto",
        *,
        online: bool = False,
        name: str | None = None,
        mapping: Mapping[str, str] | None = None,
        observed_at: Moment = None,
        now: Moment = None,
    ) -> IngestReport:
        """Take in a list of papers.

        Parameters
        ----------
        source : path, stream, or https address
            An address only together with ``online``.
        format : {"auto", "atom", "rss", "json", "jsonl", "bibtex", "csv", "text"}
        online : bool
            Whether the network may be used.
        name : str, optional
            Of the source; signals are kept under it.
        mapping : mapping of str to str, optional
            Fields to columns, see :mod:`lodim.catalog.feed.readers.rows`.
        observed_at : datetime or str, optional
            When the votes were counted; by default when this content first came in.

        Raises
        ------
        ValueError
            It cannot be read as a whole, or an address without ``online``.
        OSError
            The network failed.
        """
        from lodim.catalog.feed import ingest

        options: dict[str, Any] = {
            "now": _moment(now),
            "source": name,
            "mapping": mapping,
            "observed_at": None if observed_at is None else _moment(observed_at),
        }
        if not ingest.is_address(source):
            return ingest.ingest_bytes(self.store, *ingest.bytes_of(source), format, **options)
        if not online:
            raise ValueError(
                f"{source} is an address and the network is not used unless asked for: online=True, --online on "
                "the command line; or save it as a file and take that in"
            )
        from lodim.catalog.feed.online import Fetcher

        fetcher = Fetcher(self.store, **self._online)
        reply = fetcher.fetch(source)
        if reply is None:
            return IngestReport(0, 0, 0, (), format, "not changed since it was last fetched")
        report = ingest.ingest_bytes(self.store, reply.data, reply.url, format, **options)
        fetcher.remember(reply)
        return report

    def trust(self, *hosts: str) -> None:
        """Let these hosts be fetched from as well."""
        from lodim.catalog.feed.online import HOSTS

        self._online["hosts"] = (*self._online.get("hosts", HOSTS), *hosts)

    def papers(
        self,
        sort: str = "trending",
        since: str | date | datetime | timedelta | None = None,
        areas: str | Sequence[str] = (),
        cursor: str | None = None,
        limit: int = 20,
        *,
        to: int | str | None = None,
        trending: Trending | None = None,
        now: Moment = None,
    ) -> Page:
        """Return a page of the list of papers.

        Parameters
        ----------
        sort : {"trending", "velocity", "top", "new", "similar"}
        since : {"day", "week", "month", "year", "all"}, date, datetime, timedelta or str, optional
            Papers published since.
        areas : str or sequence of str
            Tags (``cs.LG``), archives (``cs``) or areas of lodim's methods; a paper of any of them is shown.
        cursor : str, optional
            ``next`` of the page before; the moment of that list holds, ``now`` is not looked at.
        limit : int
            Longest page, at most 1000.
        to : int or str, optional
            For ``similar``: paper or text.
        trending : Trending, optional
            Other constants.

        Raises
        ------
        ValueError
            A value that is none of these, or a cursor of another list.
        """
        from lodim.catalog.feed.conditions import Conditions
        from lodim.catalog.feed.listing import Rankings, ranked_page, similar_page

        if sort not in ORDERS:
            raise ValueError(f"sort must be one of {', '.join(ORDERS)}; got {sort!r}")
        if (sort == "similar") != (to is not None):
            raise ValueError("sort='similar' goes together with to=, a paper or a text")
        if not 1 <= limit <= MOST_SHOWN:
            raise ValueError(f"limit must be from 1 to {MOST_SHOWN}, got {limit}")
        chosen = [areas] if isinstance(areas, str) else list(areas)
        constants = trending or self.constants
        options = digest_of(sort, str(since), chosen, str(to), constants.to_dict())
        place = None if cursor is None else Cursor.unpack(cursor, options)
        at = _moment(now) if place is None else place.now
        conditions = Conditions()
        conditions.since(since, at)
        cut: dict[str, Any] = {"now": at, "cursor": place, "limit": limit, "options": options}
        vectors = None if to is None else self._vectors("auto")
        with self.store.reading() as connection:
            conditions.areas(connection, chosen)
            if to is not None:
                return similar_page(connection, to, conditions, cut, vectors, itself=True)
            self._rankings = self._rankings or Rankings()
            return ranked_page(connection, sort, conditions, constants, self._rankings, **cut)

    def trending(
        self, kind: str = "hn", gravity: int | float | None = None, now: Moment = None, limit: int = 20
    ) -> Page:
        """Return the papers that are talked about.

        Parameters
        ----------
        kind : {"hn", "velocity", "top", "new"}
            ``hn`` is the order ``trending``.
        gravity : float, optional
            How fast age counts; by default that of the catalogue's constants.
        """
        from dataclasses import replace

        constants = self.constants if gravity is None else replace(self.constants, gravity=gravity)
        return self.papers("trending" if kind == "hn" else kind, limit=limit, trending=constants, now=now)

    def search(self, text: str, k: int = 20, *, mode: str = "auto") -> Page:
        """Find papers.

        Parameters
        ----------
        text : str
            Words, ``"a phrase"``, ``-word``, ``year:2020-2023``, ``area:cs.LG`` with a tag, an archive or an area of
            methods; ``status:available`` and the other filters of :mod:`lodim.catalog.query` find papers whose method
            lodim has.
        k : int
            Longest list, at most 1000.
        mode : {"auto", "lexical", "semantic", "hybrid"}

        Returns
        -------
        Page
            Its ``formula`` tells how it was found, and how many papers were ranked by words only for want of vectors.

        Raises
        ------
        ValueError
            ``k`` below 1, an unknown mode, or a mode that needs vectors while some paper has none.
        ImportError
            Meaning without the extra ``semantic``.
        """
        from lodim.catalog.feed.conditions import Conditions
        from lodim.catalog.feed.finding import by_words, fused
        from lodim.catalog.feed.loading import load_papers

        if not 1 <= k <= MOST_SHOWN:
            raise ValueError(f"k must be from 1 to {MOST_SHOWN}, got {k}")
        query, conditions, lacking = parse_query(text, free=("area",)), Conditions(), ""
        conditions.query(query)
        vectors = self._vectors(mode if query.looked_for or mode not in MODES else "lexical")
        with self.store.reading() as connection:
            conditions.note_unknown_areas(connection, query)
            ordered, n_found = by_words(connection, query, conditions, most=k if vectors is None else _FUSED)
            if not query.looked_for and conditions.parts:
                rows = f"SELECT id FROM paper{conditions.sql()} ORDER BY listed_at DESC, id DESC"
                ordered = [(i, 0.0) for i in conditions.run(connection, rows).scalars()]
                n_found = len(ordered)
            if vectors is not None:
                allowed = set(conditions.run(connection, f"SELECT id FROM paper{conditions.sql()}").scalars())
                near = [(i, c) for i, c in vectors.near_text(connection, query.text) if i in allowed]
                ordered = near if mode == "semantic" else fused(ordered, near, len(allowed))
                n_found = len(ordered) if mode == "semantic" else max(n_found, len(ordered))
                if len(near) < len(allowed):
                    lacking = f"; {len(allowed) - len(near):,} of {len(allowed):,} papers by words only"
            shown = {i: (score, "") for i, score in ordered[:k]}
            papers = load_papers(connection, list(shown), shown)
        way = "words" if vectors is None else "meaning" if mode == "semantic" else "words and meaning"
        notes = (*query.notes, *conditions.notes)
        return Page(papers, "search", f"found by {way}{lacking}", None, n_found, notes)

    def similar(self, to: int | str, k: int = 6, *, mode: str = "auto") -> Page:
        """Return the papers most like one, never itself, or most like a text.

        Parameters
        ----------
        to : int or str
            Number, arXiv identifier, DOI or title of a paper, else any text.
        mode : {"auto", "lexical", "semantic"}

        Returns
        -------
        Page
            Only papers that have something in common with it.

        Raises
        ------
        ValueError
            ``k`` below 1, an unknown mode, or meaning without vectors.
        """
        from dataclasses import replace

        from lodim.catalog.feed.conditions import Conditions
        from lodim.catalog.feed.listing import similar_page

        if not 1 <= k <= MOST_SHOWN:
            raise ValueError(f"k must be from 1 to {MOST_SHOWN}, got {k}")
        cut = {"now": _moment(None), "cursor": None, "limit": k, "options": ""}
        vectors = self._vectors(mode)
        with self.store.reading() as connection:
            page = similar_page(connection, to, Conditions(), cut, vectors, itself=False)
        near = tuple(paper for paper in page.papers if paper.score > 0)
        return replace(page, papers=near, next=None, n_matching=len(near))

    def _vectors(self, mode: str) -> Any:
        """Return the sentence vectors if the mode uses them, else None."""
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}; got {mode!r}")
        if mode == "lexical" or (mode == "auto" and self.encoder is None):
            return None
        from lodim.catalog.feed.vectors import Vectors

        vectors = Vectors(self.store, self.encoder)
        if mode == "auto":
            return vectors if vectors.some() else None
        vectors.check()
        return vectors

    def embed(self, limit: int | None = None) -> int:
        """Compute the sentence vectors that are missing or damaged, in batches that are kept one by one, and return how
        many. A warning says how many were damaged.

        Parameters
        ----------
        limit : int, optional
            Compute at most so many now.

        Raises
        ------
        ImportError
            Without the extra ``semantic``.
        """
        from lodim.catalog.feed.vectors import Vectors

        vectors = Vectors(self.store, self.encoder)
        if damaged := vectors.drop_damaged():
            warnings.warn(f"{damaged:,} damaged sentence vectors of papers are computed again", stacklevel=2)
        return vectors.fill(limit)

    def paper(self, key: int | str) -> Paper:
        """Return a paper.

        Parameters
        ----------
        key : int or str
            Its number here, arXiv identifier, DOI, address or title.

        Raises
        ------
        ValueError
            There is none.
        """
        from lodim.catalog.feed.finding import find_paper
        from lodim.catalog.feed.loading import load_papers

        with self.store.reading() as connection:
            found = find_paper(connection, key)
            if found is not None:
                return load_papers(connection, [found])[0]
        raise ValueError(f"there is no paper {str(key)[:80]!r} here; search for it, or take it in first")

    def history(self, key: int | str) -> tuple[Statement, ...]:
        """Return all that sources have said about a paper, the first first."""
        from lodim.catalog.feed.loading import history_of

        found = self.paper(key)
        with self.store.reading() as connection:
            return history_of(connection, found.id)

    def rebuild(self) -> None:
        """Make the full-text index anew."""
        self.store.rebuild()

    def backup(self, target: str | os.PathLike[str]) -> Path:
        """Write a compact copy to a new file, readable by its owner only, and return its path.

        Raises
        ------
        ValueError
            The target exists, or the catalogue is on a server, which has its own tools for it.
        """
        return self.store.backup(target)

    def close(self) -> None:
        """Close the file, or all connections to the server."""
        self.store.close()

    def __len__(self) -> int:
        with self.store.reading() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM paper").scalar_one())

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _moment(value: Moment) -> str:
    from lodim.catalog.feed.conditions import moment

    return moment(datetime.now(UTC) if value is None else value) or ""
