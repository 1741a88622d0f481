"""Pages of the digest by e-mail: asking for it, confirming, changing, stopping.

A link that is merely opened changes nothing: programs that check mails open every link in them. What changes
something is a form with a button, and one exception that needs neither page nor cookie: the post to ``/u/{token}`` by
which mail programs offer to unsubscribe with one click (RFC 8058).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.datastructures import FormData
from starlette.responses import Response

from lodim.catalog.digest.links import UNDO_WITHIN
from lodim.catalog.digest.requests import (
    CONSENT,
    CONSENT_TEXTS,
    FREQUENCIES,
    LONGEST_EMAIL,
    LONGEST_QUERY,
    Preferences,
    RequestError,
    read_request,
    time_zones,
)
from lodim.catalog.digest.rows import Answer, Subscriber
from lodim.catalog.digest.subscribers import CONFIRM_WITHIN, Subscribers
from lodim.catalog.digest.tokens import well_formed
from lodim.catalog.vocabulary import AREAS
from lodim.web.security import check_csrf, limit
from lodim.web.views import render

__all__ = ["router", "subscribers_of"]

Form = Annotated[FormData, Depends(check_csrf)]
router = APIRouter(include_in_schema=False)

PRIVATE = {"Cache-Control": "no-store", "X-Robots-Tag": "noindex"}
ration = limit("subscribe")  # taken from by requests that cause a letter, not by mistakes in the form
_GONE = {"unknown": 404, "used": 410, "expired": 410, "revoked": 410}


def subscribers_of(app: Any) -> Subscribers:
    """Return the subscribers of an application's catalogue."""
    held = getattr(app.state, "subscribers", None)
    if held is None:
        state = app.state
        held = Subscribers(state.visited, now=lambda: state.now(), secret=state.settings.secret)
        state.subscribers = held
    return held


def mask(email: str) -> str:
    """Return enough of an address for its owner to know it, as links in forwarded mails are seen by others."""
    local, _, domain = email.rpartition("@")
    return f"{local[:1]}…@{domain}"


# ---------------------------------------------------------------- forms


def _typed(form: FormData) -> dict[str, Any]:
    """Return what a form holds, as typed; files and repeated fields count for nothing."""

    def one(name: str, default: str = "") -> str:
        value = form.get(name, default)
        return value if isinstance(value, str) else default

    return {
        "email": one("email"),
        "frequency": one("frequency", "weekly"),
        "areas": [value for value in form.getlist("areas") if isinstance(value, str)],
        "tags": one("tags"),
        "query": one("query"),
        "time_zone": one("time_zone", "UTC"),
    }


def _held(preferences: Preferences) -> dict[str, Any]:
    """Return preferences as a form shows them."""
    return {
        "email": "",
        "frequency": preferences.frequency,
        "areas": [name for name in preferences.areas if name in AREAS],
        "tags": ", ".join(name for name in preferences.areas if name not in AREAS),
        "query": preferences.query or "",
        "time_zone": preferences.time_zone,
    }


def _wanted(typed: dict[str, Any], *, email: str | None) -> Any:
    """Return the checked request of a form."""
    tags = typed["tags"].replace(",", " ").split(" ")
    return read_request(
        email, typed["frequency"], [*typed["areas"], *tags], typed["query"], typed["time_zone"]
    )


def _fields(typed: dict[str, Any], errors: dict[str, str]) -> dict[str, Any]:
    """Return what the templates of both forms need."""
    return {
        "typed_in": typed,
        "errors": errors,
        "area_texts": AREAS,
        "frequencies": FREQUENCIES,
        "zones": time_zones(),
        "longest": {"email": LONGEST_EMAIL, "query": LONGEST_QUERY},
    }


def _form_page(
    request: Request, typed: dict[str, Any], errors: dict[str, str], status: int = 200
) -> Response:
    return render(
        request,
        "subscribe.html",
        status,
        consent=CONSENT_TEXTS[CONSENT],
        hours=round(CONFIRM_WITHIN.total_seconds() / 3600),
        sends=request.app.state.post is not None,
        **_fields(typed, errors),
    )


@router.get("/subscribe")
def subscribe_form(request: Request) -> Response:
    """Show the form; a search in the address (``?query=``) is filled in."""
    params = request.query_params
    typed = _held(Preferences()) | {
        "query": params.get("query", ""),
        "areas": [name for name in params.getlist("areas") if name in AREAS],
    }
    return _form_page(request, typed, {})


@router.post("/subscribe")
def subscribe(request: Request, form: Form) -> Response:
    """Take a request; the answer is the same for every address."""
    typed = _typed(form)
    try:
        wanted = _wanted(typed, email=typed["email"])
    except RequestError as error:
        return _form_page(request, typed, error.errors, 422)
    ration(request)
    subscribers_of(request.app).subscribe(wanted, source="web form")
    if request.app.state.post is not None:
        request.app.state.post.wake()
    hours = round(CONFIRM_WITHIN.total_seconds() / 3600)
    return render(
        request,
        "subscribe_sent.html",
        headers=PRIVATE,
        email=wanted.email,
        hours=hours,
        sends=request.app.state.post is not None,
    )


# ---------------------------------------------------------------- confirming


def _confirm_page(request: Request, answer: Answer, *, asked: bool) -> Response:
    """Show what a link to confirm would do (``asked``) or has done."""
    return render(
        request,
        "confirm.html",
        _GONE.get(answer.outcome, 200),
        PRIVATE,
        outcome=answer.outcome,
        asked=asked,
        email=answer.subscriber.email if answer.subscriber else "",
        preferences=answer.preferences,
        link=answer.subscriber.unsubscribe if answer.subscriber and answer.outcome == "done" else "",
        consent=CONSENT_TEXTS[CONSENT],
    )


@router.get("/confirm/{token}")
def confirm_form(request: Request, token: str) -> Response:
    """Show the button that confirms; opening the page confirms nothing."""
    return _confirm_page(request, subscribers_of(request.app).look_up(token), asked=True)


@router.post("/confirm/{token}", dependencies=[Depends(check_csrf)])
def confirm(request: Request, token: str) -> Response:
    """Confirm."""
    return _confirm_page(request, subscribers_of(request.app).confirm(token), asked=False)


# ---------------------------------------------------------------- the link in every mail


def _own_page(
    request: Request,
    token: str,
    answer: Answer,
    *,
    said: str = "",
    status: int | None = None,
    typed: dict[str, Any] | None = None,
    errors: dict[str, str] | None = None,
) -> Response:
    """Show a subscriber's own page: state, button to stop or to undo, preferences."""
    subscriber = answer.subscriber
    known = subscriber is not None and answer.outcome not in _GONE
    held = subscriber.preferences if known and subscriber else Preferences()
    return render(
        request,
        "subscription.html",
        _GONE.get(answer.outcome, 200) if status is None else status,
        PRIVATE,
        state=subscriber.state if known and subscriber else answer.outcome,
        email=mask(subscriber.email) if known and subscriber else "",
        token=token,
        said=said,
        can_undo=known and _can_undo(request, subscriber),
        days=UNDO_WITHIN.days,
        **_fields(typed or _held(held), errors or {}),
    )


def _can_undo(request: Request, subscriber: Subscriber | None) -> bool:
    return subscriber is not None and subscribers_of(request.app).can_undo(subscriber)


@router.get("/u/{token}")
def own_page(request: Request, token: str) -> Response:
    """Show the page; opening it changes nothing."""
    return _own_page(request, token, subscribers_of(request.app).find(token))


@router.post("/u/{token}")
def unsubscribe(request: Request, token: str) -> Response:
    """Stop all mail: by the button, or by a mail program without page, cookie or form (RFC 8058).

    A link of somebody who has been erased answers like one that has just worked, for nothing is sent any more.
    """
    answer = subscribers_of(request.app).cancel(token)
    erased = answer.outcome == "unknown" and well_formed(token)
    return _own_page(request, token, answer, said="stopped", status=200 if erased else None)


@router.post("/u/{token}/undo", dependencies=[Depends(check_csrf)])
def undo(request: Request, token: str) -> Response:
    """Bring a subscription back."""
    answer = subscribers_of(request.app).undo(token)
    said = {"done": "undone", "already": "undone", "expired": "too late"}.get(answer.outcome, "")
    status = 410 if answer.outcome == "expired" else None
    known = Answer("done", answer.subscriber) if answer.outcome == "expired" else answer
    return _own_page(request, token, known, said=said, status=status)


@router.post("/u/{token}/preferences")
def prefer(request: Request, token: str, form: Form) -> Response:
    """Change what the digest holds and when it comes."""
    typed = _typed(form)
    subscribers = subscribers_of(request.app)
    try:
        wanted = _wanted(typed, email=None).preferences
    except RequestError as error:
        answer = subscribers.find(token)
        status = 422 if answer.outcome == "done" else None
        return _own_page(request, token, answer, status=status, typed=typed, errors=error.errors)
    answer = subscribers.prefer(token, wanted)
    return _own_page(request, token, answer, said="saved" if answer.outcome == "done" else "")
