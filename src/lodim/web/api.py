"""The same for programs: JSON under ``/api/v1``, described by ``/api/v1/openapi.json`` and by the page ``/api``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from starlette.responses import JSONResponse, Response

from lodim.catalog.cards import Card
from lodim.catalog.cards import methods as chosen
from lodim.web.listing import LONGEST_QUERY, Asked, asked, refused
from lodim.web.methods import ClaimName, Slug, find_method
from lodim.web.pages import PaperKey, find_paper
from lodim.web.security import limit
from lodim.web.views import fresh, render

__all__ = ["page_router", "router"]

router = APIRouter(prefix="/api/v1", tags=["lodim"])
page_router = APIRouter(include_in_schema=False)

Text = Annotated[
    str, Query(max_length=LONGEST_QUERY, description='Words, "a phrase", -word, year:2024, area:privacy.')
]


def _answer(request: Request, plain: Any) -> Response:
    return fresh(request, JSONResponse(plain))


def _method(request: Request, card: Card) -> dict[str, Any]:
    evidence = request.app.state.evidence
    return {**card.to_dict(), "status": card.status, "evidence": evidence.said(card)}


@router.get("/papers", summary="A list of papers", dependencies=[Depends(limit("search"))])
def papers(
    request: Request,
    wanted: Annotated[Asked, Depends(asked)],
    limit: Annotated[int, Query(ge=1, le=100, description="Longest page.")] = 20,
) -> Response:
    """Return a page of papers; pass `next` as `cursor` for the following one."""
    if wanted.incomplete:
        raise HTTPException(422, "sort=similar goes together with to=, a paper or a text")
    return _answer(request, wanted.page(request, limit).to_dict())


@router.get("/papers/{key}", summary="A paper")
def paper(request: Request, key: PaperKey) -> Response:
    """Return a paper by its number here or its arXiv identifier."""
    return _answer(request, find_paper(request, key).to_dict())


@router.get("/methods", summary="Methods")
def methods(
    request: Request,
    area: Annotated[str | None, Query(max_length=40, description="Area, such as privacy.")] = None,
    data_kind: Annotated[str | None, Query(max_length=40, description="Takes data such as tabular.")] = None,
    tag: Annotated[str | None, Query(max_length=40, description="About this, such as clustering.")] = None,
    gpu: Annotated[bool | None, Query(description="False leaves out what is hopeless without one.")] = None,
    status: Annotated[str | None, Query(max_length=40, description="available or planned.")] = None,
) -> Response:
    """Return the cards of the methods that meet the conditions."""
    with refused():
        cards = chosen(area=area, data_kind=data_kind, tag=tag, gpu=gpu, status=status)
    return _answer(request, {"methods": [_method(request, card) for card in cards], "n": len(cards)})


@router.get("/methods/{slug}", summary="A method")
def method(request: Request, slug: Slug) -> Response:
    """Return a method's card."""
    return _answer(request, _method(request, find_method(slug)))


@router.get("/search", summary="Methods and papers by words", dependencies=[Depends(limit("search"))])
def search(
    request: Request, q: Text, limit: Annotated[int, Query(ge=1, le=100, description="Of each.")] = 20
) -> Response:
    """Return the methods and the papers that a text finds."""
    from lodim.catalog.search import search as search_methods

    state = request.app.state
    with refused():
        found = search_methods(q, k=limit, mode=state.meaning.mode)
        page = state.catalog.search(q, limit, mode=state.meaning.mode)
    return _answer(request, {"methods": found.to_dict(), "papers": page.to_dict()})


@router.get("/claims", summary="Claims and their last runs")
def claims(request: Request) -> Response:
    """Return every claim; `record` is null for one that was not run."""
    return _answer(
        request, {"claims": [_claim(request, name) for name in request.app.state.evidence.names()]}
    )


@router.get("/claims/{name:path}", summary="A claim")
def claim(request: Request, name: ClaimName) -> Response:
    """Return a claim with its records in full."""
    evidence = request.app.state.evidence
    if name not in evidence.names():
        raise HTTPException(404, "There is no such claim.")
    results = [result.to_dict() for result in evidence.results(name)]
    return _answer(request, {**_claim(request, name), "results": results})


def _claim(request: Request, name: str) -> dict[str, Any]:
    record = request.app.state.evidence.records().get(name)
    return {"name": name, "record": None if record is None else record.to_dict()}


@page_router.get("/api")
def documentation(request: Request) -> Response:
    """Show what the API answers, from its own description."""
    described = request.app.openapi()["paths"]
    calls = [
        (path, call["summary"], [p for p in call.get("parameters", ()) if p["in"] == "query"])
        for path, calls in described.items()
        for call in calls.values()
    ]
    return render(request, "api.html", calls=calls)
