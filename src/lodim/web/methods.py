"""The pages of methods and of their claims."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from starlette.responses import Response

from lodim.catalog.cards import Card, load_cards
from lodim.catalog.cards import methods as chosen
from lodim.catalog.search import shared_index
from lodim.catalog.vocabulary import AREAS, DATA_KINDS
from lodim.web.listing import LONGEST_QUERY, refused
from lodim.web.pages import grouped
from lodim.web.security import limit
from lodim.web.views import render

__all__ = ["find_method", "router"]

RECOMMENDED = 10

router = APIRouter(include_in_schema=False)

Slug = Annotated[str, Path(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=80)]
ClaimName = Annotated[str, Path(pattern=r"^[a-z0-9-]+(/[a-z0-9-]+)*$", max_length=120)]


def find_method(slug: str) -> Card:
    """Return a card."""
    card = shared_index().cards.get(slug)
    if card is None:
        raise HTTPException(404, "There is no such method.")
    return card


@router.get("/methods")
def methods(
    request: Request,
    area: Annotated[str, Query(max_length=40)] = "",
    data_kind: Annotated[str, Query(max_length=40)] = "",
    gpu: Annotated[str, Query(pattern="^(|no)$")] = "",
    status: Annotated[str, Query(pattern="^(|available|planned)$")] = "",
) -> Response:
    """List the methods by area; ``gpu=no`` leaves out what is hopeless without one."""
    with refused():
        cards = chosen(
            area=area or None,
            data_kind=data_kind or None,
            gpu=False if gpu else None,
            status=status or None,
        )
    return render(
        request,
        "methods.html",
        groups=grouped(cards),
        n=len(cards),
        n_all=len(load_cards()),
        picked={"area": area, "data_kind": data_kind, "gpu": gpu, "status": status},
        areas=AREAS,
        data_kinds=DATA_KINDS,
    )


@router.get("/methods/{slug}")
def method(request: Request, slug: Slug) -> Response:
    """Show a method: what it is for, how to run it, what was measured."""
    from lodim.catalog.similar import similar

    card, state = find_method(slug), request.app.state
    near = similar(card.slug, mode=state.meaning.mode)
    return render(
        request,
        "method.html",
        card=card,
        near=near.methods,
        paper=_paper_here(request, card),
        areas=AREAS,
        cards=shared_index().cards,
    )


def _paper_here(request: Request, card: Card) -> Any:
    """Return the method's paper if the catalogue has it."""
    try:
        return request.app.state.catalog.paper(card.arxiv_id)
    except ValueError:
        return None


@router.get("/claims")
def claims(
    request: Request, status: Annotated[str, Query(pattern="^(|holds|fails|differs|error|not-run)$")] = ""
) -> Response:
    """Show every claim and what its last run said."""
    evidence = request.app.state.evidence
    records = evidence.records()
    rows = [(name, records.get(name), _cards_of(name)) for name in evidence.names()]
    counts: dict[str, int] = {}
    for _, record, _ in rows:
        verdict = record.verdict if record else "not-run"
        counts[verdict] = counts.get(verdict, 0) + 1
    shown = [row for row in rows if not status or (row[1].verdict if row[1] else "not-run") == status]
    return render(request, "claims.html", rows=shown, counts=counts, n_all=len(rows), picked=status)


def _cards_of(name: str) -> list[Card]:
    return [card for card in load_cards() if name in card.claims]


@router.get("/claims/{name:path}")
def claim(request: Request, name: ClaimName) -> Response:
    """Show a claim: what was expected, what was measured, how to repeat it."""
    evidence = request.app.state.evidence
    if name not in evidence.names():
        raise HTTPException(404, "There is no such claim.")
    return render(
        request,
        "claim.html",
        name=name,
        record=evidence.records().get(name),
        results=evidence.results(name),
        cards=_cards_of(name),
    )


@router.get("/recommend", dependencies=[Depends(limit("search"))])
def recommend(
    request: Request,
    text: Annotated[str, Query(max_length=LONGEST_QUERY)] = "",
    n: Annotated[str, Query(max_length=20)] = "",
    data_kind: Annotated[str, Query(max_length=40)] = "",
    gpu: Annotated[str, Query(pattern="^(|yes|no)$")] = "",
    status: Annotated[str, Query(pattern="^(|available)$")] = "",
) -> Response:
    """Recommend methods for a problem with ``n`` rows at hand."""
    given = {"text": text, "n": n, "data_kind": data_kind, "gpu": gpu, "status": status}
    errors: dict[str, str] = {}
    answer = None
    if any(given.values()):
        n_rows = _whole(n, errors)
        if data_kind and data_kind not in DATA_KINDS:
            errors["data_kind"] = f"No kind of data is called {data_kind!r}."
        if not errors:
            answer = _recommended(request, given, n_rows, errors)
    return render(
        request,
        "recommend.html",
        422 if errors else 200,
        given=given,
        errors=errors,
        answer=answer,
        groups=_by_status(answer),
        data_kinds=DATA_KINDS,
        cards=shared_index().cards,
    )


def _by_status(answer: Any) -> list[tuple[str, list[Any]]]:
    """Return what is recommended in two parts, what can be used today and what is planned: the one that leads first."""
    parts: dict[str, list[Any]] = {}
    for found in answer.recommended if answer else ():
        parts.setdefault(found.status, []).append(found)
    return list(parts.items())


def _whole(typed: str, errors: dict[str, str]) -> int | None:
    """Return the number of rows that was typed, None if none was; what is wrong goes to ``errors``."""
    plain = typed.replace(",", "").replace("_", "").replace(" ", "")
    if not plain:
        return None
    if plain.isascii() and plain.isdecimal() and 1 <= int(plain) <= 10**15:
        return int(plain)
    errors["n"] = "Rows must be a whole number from 1, such as 20000."
    return None


def _recommended(request: Request, given: dict[str, str], n_rows: int | None, errors: dict[str, str]) -> Any:
    """Return the recommendations, or None with the reason in ``errors``."""
    from lodim.catalog.recommend import recommend as recommended

    conditions: dict[str, Any] = {
        "text": given["text"].strip() or None,
        "data_kinds": [given["data_kind"]] if given["data_kind"] else None,
        "gpu": {"yes": True, "no": False}.get(given["gpu"]),
        "n_rows": n_rows,
        "status": given["status"] or None,
    }
    conditions = {name: value for name, value in conditions.items() if value is not None}
    try:
        return recommended(conditions, RECOMMENDED, mode=request.app.state.meaning.mode)
    except (ValueError, TypeError) as error:
        errors["text"] = str(error)
        return None
