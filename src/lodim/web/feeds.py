"""Every list and every search as a feed: Atom and JSON Feed."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from lodim.catalog.feed import Page, to_atom, to_json_feed
from lodim.web.listing import LONGEST_QUERY, Asked, asked, minute, refused, tail
from lodim.web.security import limit
from lodim.web.views import absolute, fresh

__all__ = ["router"]

MOST = 50

router = APIRouter(include_in_schema=False, dependencies=[Depends(limit("search"))])

Text = Annotated[str, Query(max_length=LONGEST_QUERY)]


def _found(request: Request, wanted: Asked, q: str) -> tuple[Page, dict[str, Any]]:
    """Return the papers, and what both kinds of feed say of themselves: title, address, page that shows the same."""
    state = request.app.state
    if q.strip():
        with refused():
            page = state.catalog.search(q, MOST, mode=state.meaning.mode)
        title, home = f"Papers found for {q.strip()!r}", "/search"
    else:
        page = Page((), wanted.sort, "") if wanted.incomplete else wanted.page(request, MOST)
        title, home = wanted.title, "/"
    return page, {
        "title": f"{title} · lodim",
        "address": absolute(request, request.url.path + tail(request)),
        "home": absolute(request, home + tail(request)),
    }


@router.get("/feed.atom")
def atom(request: Request, wanted: Annotated[Asked, Depends(asked)], q: Text = "") -> Response:
    """Return a list, or a search in place of it, as an Atom feed."""
    page, said = _found(request, wanted, q)
    text = to_atom(page.papers, now=minute(request), **said)
    return fresh(request, Response(text, media_type="application/atom+xml"))


@router.get("/feed.json")
def json_feed(request: Request, wanted: Annotated[Asked, Depends(asked)], q: Text = "") -> Response:
    """Return a list, or a search in place of it, as a JSON feed."""
    page, said = _found(request, wanted, q)
    following = absolute(request, f"/feed.json{tail(request, cursor=page.next)}") if page.next else None
    text = to_json_feed(page.papers, following=following, **said)
    return fresh(request, Response(text, media_type="application/feed+json"))
