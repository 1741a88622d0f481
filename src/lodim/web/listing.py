"""What a list of papers was asked for, read from an address in one way for pages, feeds and the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import HTTPException, Query, Request

from lodim.catalog.feed import Page

__all__ = ["ORDERS", "WINDOWS", "Asked", "asked", "minute", "refused"]

ORDERS = ("trending", "velocity", "new", "top")
WINDOWS = {"day": "Day", "week": "Week", "month": "Month", "year": "Year", "all": "All"}
LONGEST_QUERY = 500


@contextmanager
def refused() -> Iterator[None]:
    """Answer with status 422 what the catalogue does not accept."""
    try:
        yield
    except ValueError as error:
        raise HTTPException(422, str(error)) from None


def minute(request: Request) -> datetime:
    """Return the end of the current minute: lists asked for within it are equal, and hold all that came in by now."""
    now = request.app.state.now()
    return now.replace(second=0, microsecond=0) + timedelta(minutes=1)


@dataclass(frozen=True)
class Asked:
    """A list of papers."""

    sort: str = "trending"
    since: str = "all"
    areas: tuple[str, ...] = ()  # areas of methods and tags of papers
    to: str | None = None  # paper or text that the papers should be like
    cursor: str | None = None

    @property
    def incomplete(self) -> bool:
        """Whether likeness was asked for without saying to what."""
        return self.sort == "similar" and self.to is None

    def page(self, request: Request, limit: int = 20) -> Page:
        """Return the papers."""
        with refused():
            return request.app.state.catalog.papers(
                self.sort,
                self.since,
                list(self.areas),
                self.cursor,
                limit,
                to=self.to if self.sort == "similar" else None,
                now=minute(request),
            )

    @property
    def title(self) -> str:
        """The list in words, for feeds."""
        order = {"similar": f"Papers like {self.to!r}", "new": "New papers", "top": "Top papers"}
        words = order.get(self.sort, f"{self.sort.capitalize()} papers")
        window = f" of the {self.since}" if self.since != "all" else ""
        return f"{words}{window}{' in ' + ', '.join(self.areas) if self.areas else ''}"


def _filled(values: list[str] | None) -> tuple[str, ...]:
    return tuple(value.strip() for value in values or () if value.strip())


def asked(
    sort: Annotated[
        str,
        Query(
            pattern="^(trending|velocity|new|top|similar)$",
            description="trending, velocity, new, top, or similar together with to.",
        ),
    ] = "trending",
    since: Annotated[
        str,
        Query(
            pattern="^(day|week|month|year|all)$",
            description="Published within a day, week, month, year, or all.",
        ),
    ] = "all",
    area: Annotated[
        list[str] | None, Query(max_length=20, description="Area of methods; any of several.")
    ] = None,
    tag: Annotated[
        list[str] | None, Query(max_length=20, description="Tag (cs.LG) or archive (cs); any of several.")
    ] = None,
    to: Annotated[
        str, Query(max_length=LONGEST_QUERY, description="Paper or text that the papers should be like.")
    ] = "",
    cursor: Annotated[str, Query(max_length=400, description="Where the page before ended.")] = "",
) -> Asked:
    """Read a list's parameters; a dependency."""
    areas = (*_filled(area), *_filled(tag))
    return Asked(sort, since, areas, to.strip() or None, cursor or None)


def tail(request: Request, **more: str) -> str:
    """Return the part of an address from ``?`` on that defines the list that a page shows, with ``more`` in it."""
    pairs = [*parameters(request), *more.items()]
    return f"?{urlencode(pairs)}" if pairs else ""


def parameters(request: Request) -> list[tuple[str, Any]]:
    """Return what defines the list that a page shows, without its place in it."""
    kept = ("sort", "since", "area", "tag", "to", "q")
    return [(name, value) for name, value in request.query_params.multi_items() if name in kept and value]
