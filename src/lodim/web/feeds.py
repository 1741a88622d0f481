"""Every list and every search as a feed: Atom and JSON Feed."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from lodim.catalog.feed import Page, to_atom, to_json_feed
from lodim.web.listing import LONGEST_QUERY, Asked, asked, minute, parameters, refused
from lodim.web.security import limit
from lodim.web.views import absolute, fresh

__all__ = ["router"]

MOST = 50

router = APIRouter(include_in_schema=False, dependencies=[Depends(limit("search"))])

Text = Annotated[str, Query(max_length=LONGEST_QUERY)]


def _found(request: Request, wanted: Asked, q: str) -> tuple[Page | None, str, str]:
    """Return the papers, the feed's title, and the path of the page that shows the same."""
    said = urlencode(parameters(request))
    tail = f"?{said}" if said else ""
    if q.strip():
        with refused():
            page = request.app.state.catalog.search(q, MOST, mode=request.app.state.meaning.mode)
        return page, f"Papers found for {q.strip()!r}", f"/search{tail}"
    return (None if wanted.incomplete else wanted.page(request, MOST)), wanted.title, f"/{tail}"


@router.get("/feed.atom")
def atom(request: Request, wanted: Annotated[Asked, Depends(asked)], q: Text = "") -> Response:
    """Return a list or a search as an Atom feed.

    Parameters
    ----------
    q : str
        A search in place of a list.
    """
    page, title, home = _found(request, wanted, q)
    text = to_atom(
        page.papers if page else (),
        title=f"{title} · lodim",
        address=absolute(request, str(request.url.path) + _tail(request)),
        home=absolute(request, home),
        now=minute(request),
    )
    return fresh(request, Response(text, media_type="application/atom+xml"))


@router.get("/feed.json")
def json_feed(request: Request, wanted: Annotated[Asked, Depends(asked)], q: Text = "") -> Response:
    """Return a list or a search as a JSON feed.

    Parameters
    ----------
    q : str
        A search in place of a list.
    """
    page, title, home = _found(request, wanted, q)
    following = None
    if page is not None and page.next:
        said = urlencode([*parameters(request), ("cursor", page.next)])
        following = absolute(request, f"/feed.json?{said}")
    text = to_json_feed(
        page.papers if page else (),
        title=f"{title} · lodim",
        address=absolute(request, str(request.url.path) + _tail(request)),
        home=absolute(request, home),
        following=following,
    )
    return fresh(request, Response(text, media_type="application/feed+json"))


def _tail(request: Request) -> str:
    said = urlencode(parameters(request))
    return f"?{said}" if said else ""
