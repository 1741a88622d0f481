"""The pages of papers: lists, a paper, searches, and what this is."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from starlette.responses import PlainTextResponse, Response

from lodim.catalog.cards import Card, load_cards
from lodim.catalog.feed import Paper, to_bibtex
from lodim.catalog.search import shared_index
from lodim.catalog.vocabulary import AREAS
from lodim.web.listing import LONGEST_QUERY, ORDERS, WINDOWS, Asked, asked, refused, tail
from lodim.web.security import limit
from lodim.web.views import fresh, render

__all__ = ["PaperKey", "find_paper", "router"]

MORE = 20
LEAD = 320

router = APIRouter(include_in_schema=False)

PaperKey = Annotated[str, Path(pattern=r"^([0-9]{1,12}|[0-9]{4}\.[0-9]{4,5})$")]
ration = limit("search")  # taken from by lists that compare texts, not by those that only look something up
of_papers = limit("paper")  # each looks for those like it


def find_paper(request: Request, key: str) -> Paper:
    """Return a paper by its number here or its arXiv identifier."""
    try:
        return request.app.state.catalog.paper(int(key) if key.isdigit() else key)
    except ValueError:
        raise HTTPException(404, "There is no such paper here.") from None


def method_of(paper: Paper) -> Card | None:
    """Return the card of a paper's method."""
    return shared_index().cards.get(paper.method or "")


def lead(text: str) -> tuple[str, str]:
    """Cut an abstract in two at a word: what is shown at once, and the rest."""
    if len(text) <= LEAD + 80:
        return text, ""
    cut = text.rfind(" ", LEAD // 2, LEAD)
    return (text[:LEAD], text[LEAD:]) if cut < 0 else (text[:cut], text[cut + 1 :])


def _feeds(request: Request) -> dict[str, str]:
    """Return the addresses of the feeds of the list that a page shows."""
    return {name: f"/feed.{name}{tail(request)}" for name in ("atom", "json")}


@router.get("/")
def papers(request: Request, wanted: Annotated[Asked, Depends(asked)]) -> Response:
    """Show a list of papers, or all methods while there are none."""
    if len(request.app.state.catalog) == 0:
        return render(request, "welcome.html", groups=grouped(load_cards()))
    if wanted.sort == "similar" and not wanted.incomplete:
        ration(request)
    page = None if wanted.incomplete else wanted.page(request)
    tags = sorted({tag for paper in page.papers for tag in paper.tags}) if page else []
    return render(
        request,
        "list.html",
        page=page,
        wanted=wanted,
        orders=ORDERS,
        windows=WINDOWS,
        areas=AREAS,
        tags=tags,
        feeds=_feeds(request),
        lead=lead,
        method_of=method_of,
    )


def grouped(cards: Any) -> list[tuple[str, str, list[Card]]]:
    """Return cards by area, in the areas' order: name, meaning, cards."""
    groups = [(name, said, [card for card in cards if card.area == name]) for name, said in AREAS.items()]
    return [group for group in groups if group[2]]


@router.get("/paper/{key}")
def paper(request: Request, key: PaperKey) -> Response:
    """Show a paper, and its method ready to run."""
    found = find_paper(request, key)
    of_papers(request)
    near = request.app.state.catalog.similar(found.id, mode=request.app.state.meaning.mode)
    return render(
        request,
        "paper.html",
        paper=found,
        near=near.papers,
        bibtex=to_bibtex(found),
        history=request.app.state.catalog.history(found.id),
        card=method_of(found),
    )


@router.get("/paper/{key}/cite.bib")
def cite(request: Request, key: PaperKey) -> Response:
    """Return a paper's BibTeX entry."""
    return fresh(request, PlainTextResponse(to_bibtex(find_paper(request, key))))


@router.get("/search", dependencies=[Depends(limit("search"))])
def search(
    request: Request,
    q: Annotated[str, Query(max_length=LONGEST_QUERY)] = "",
    more: Annotated[int, Query(ge=1, le=10)] = 1,
) -> Response:
    """Find methods and ``more`` times twenty papers."""
    from lodim.catalog.search import search as search_methods

    state = request.app.state
    methods = page = None
    if q.strip():
        with refused():
            methods = search_methods(q, k=20, mode=state.meaning.mode)
            page = state.catalog.search(q, MORE * more, mode=state.meaning.mode)
    cards = shared_index().cards
    return render(
        request,
        "search.html",
        typed=q,
        methods=methods,
        page=page,
        more=more,
        cards=cards,
        lead=lead,
        method_of=method_of,
        feeds=_feeds(request),
        counts=_counts(methods, page),
        way=_way(state.meaning.said, methods, page),
    )


def _counts(methods: Any, page: Any) -> str:
    """Return how much was found; by meaning nothing is left out, so that only what is shown can be counted."""
    if methods is None:
        return ""
    n, shown = page.n_matching, len(page.papers)
    papers = f"{n:,} paper{'' if n == 1 else 's'} found"
    if page.formula != "found by words":
        papers = f"the best {shown} of {n:,} papers"
    said = f"{methods.counted}{' and' if methods.mode == 'lexical' else ';'} {papers}"
    return said[0].upper() + said[1:]


def _way(said: str, methods: Any, page: Any) -> str:
    """Return how the results were found; papers may lack the vectors that methods have."""
    if methods is None or methods.mode == "lexical":
        return said
    if page.formula != "found by words":
        return said + page.formula.removeprefix("found by words and meaning")
    return "methods by words and meaning; papers by words only, as they have no vectors yet"


@router.get("/about")
def about(request: Request) -> Response:
    """Say how lists are ordered, where papers come from, and under which terms."""
    constants = request.app.state.catalog.constants
    formulas = [(order, constants.formula(order)) for order in (*ORDERS, "similar")]
    return render(
        request,
        "about.html",
        formulas=formulas,
        constants=constants,
        n_papers=len(request.app.state.catalog),
        way=request.app.state.meaning.said,
    )


@router.get("/healthz")
def healthz(request: Request) -> dict[str, Any]:
    """Say that the server answers and the papers can be read."""
    return {
        "status": "ok",
        "papers": len(request.app.state.catalog),
        "meaning": request.app.state.meaning.state,
    }
