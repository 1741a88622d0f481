"""Run a recorded claim from a page where the server was started with ``--allow-run``: known names only, one by one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.datastructures import FormData
from starlette.responses import RedirectResponse, Response

from lodim.web import job_pages
from lodim.web.jobs import QueueUnavailable
from lodim.web.security import check_csrf, limit
from lodim.web.views import render

__all__ = ["known_claims", "router"]

KIND = "claim"
router = APIRouter(include_in_schema=False)


def known_claims() -> list[str]:
    """Return the names of the claims that the methods' cards speak of; that needs no heavy import."""
    from lodim.catalog import load_cards

    return sorted({name for card in load_cards() for name in card.claims})


def _form(request: Request, status: int = 200, chosen: str = "", error: str = "") -> Response:
    from lodim.catalog import claim_records

    allowed = request.app.state.settings.allow_run
    return render(
        request,
        "runs.html",
        status,
        allowed=allowed,
        claims=known_claims(),
        records=claim_records(),
        chosen=chosen,
        error=error,
        recent=job_pages.queue_of(request).jobs(KIND)[:10] if allowed else [],
    )


def _check_allowed(request: Request) -> None:
    if not request.app.state.settings.allow_run:
        raise HTTPException(403, "This server runs no claims; start it with lodim serve --allow-run.")


@router.get("/runs")
def run_form(request: Request, claim: str = "") -> Response:
    """Show which claims can be run, ``claim`` chosen beforehand."""
    return _form(request, chosen=claim)


@router.post("/runs", dependencies=[Depends(_check_allowed), Depends(limit("run"))])
def start_run(request: Request, form: Annotated[FormData, Depends(check_csrf)]) -> Response:
    """Queue a claim."""
    name = str(form.get("claim", ""))
    if name not in known_claims():
        return _form(request, 422, error="Choose a claim of the list.")
    asked = {"name": name, "seed": 0, "evidence": str(request.app.state.settings.evidence.resolve())}
    try:
        job = job_pages.queue_of(request).submit(KIND, name, asked)
    except QueueUnavailable as full:
        return _form(request, 503, name, str(full))
    return RedirectResponse(job_pages.address_of(job), status_code=303)


@router.get("/runs/{job}/report.json", dependencies=[Depends(_check_allowed)])
def run_record(request: Request, job: str) -> Response:
    """Return the record as a file to keep."""
    return job_pages.download(
        request, job, KIND, "report.json", media_type="application/json", filename="lodim-claim.json"
    )


job_pages.add_routes(router, KIND, [Depends(_check_allowed)])
