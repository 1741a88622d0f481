"""Pages that say what went wrong; plain JSON for the API."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from lodim.web.views import render

__all__ = ["add_error_pages", "broken", "where"]

_log = logging.getLogger("lodim.web")

RETRY_AFTER = 15  # seconds
_HEADINGS = {
    400: "This request makes no sense",
    403: "This form was not accepted",
    404: "There is no such page",
    405: "This cannot be done here",
    410: "This is no longer here",
    413: "This is too large",
    422: "Something in this address or form is not right",
    429: "Too many requests",
    500: "Something broke on our side",
    503: "Busy at the moment",
}


def _answer(request: Request, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": detail}, status_code=status, headers=headers)
    heading = _HEADINGS.get(status, "This did not work")
    return render(request, "error.html", status, headers, heading=heading, detail=detail, status_code=status)


def _http(request: Request, error: Any) -> Response:
    detail = "" if error.detail in ("Not Found", "Method Not Allowed") else str(error.detail)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
        detail = f"This address answers to {headers['Allow']}."
    return _answer(request, error.status_code, detail, headers)


def _methods(request: Request) -> list[str]:
    """Return what an address answers to: by itself a route tells of its own method only."""
    found = {"OPTIONS"}
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= set(getattr(route, "methods", None) or ())
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


def _invalid(request: Request, error: Any) -> Response:
    problems = error.errors()
    if any(problem["loc"][0] == "path" for problem in problems):  # of a form that no page has
        return _answer(request, 404, "There is nothing at this address; perhaps it was mistyped or cut off.")
    said = [f"{'.'.join(map(str, problem['loc'][1:]))}: {_wrong(problem)}" for problem in problems]
    return _answer(request, 422, "; ".join(said))


def _wrong(problem: Any) -> str:
    """Return in words what is wrong with a value: the words to choose from in place of a pattern of them."""
    words = re.fullmatch(r"\^\(([a-z|-]+)\)\$", problem.get("ctx", {}).get("pattern", ""))
    if words is None:
        return str(problem["msg"])
    return f"must be one of {', '.join(filter(None, words[1].split('|')))}"


def _unavailable(said: str) -> Callable[[Request, Exception], Response]:
    """Return what answers an error that passes by itself; the log says which it was."""

    def answer(request: Request, error: Exception) -> Response:
        _log.warning("%s: %s", where(error), error)
        return _answer(request, 503, said, {"Retry-After": str(RETRY_AFTER)})

    return answer


_busy = _unavailable(
    "This took longer than we wait, most likely because the papers are being written to by somebody else. "
    "Please do the same again soon."
)
_away = _unavailable(
    "What this page needs, most likely the database of the papers, cannot be reached; please try again soon."
)


def where(error: Exception) -> str:
    """Return kind and place of an error; its text may hold what a visitor typed, so it is left out."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return f"{type(error).__name__} in " + " < ".join(f"{f.name}:{f.lineno}" for f in reversed(frames))


def broken(request: Request) -> Response:
    """Return the page for an error of ours; the log says which."""
    return _answer(request, 500, "What happened was written to the server's log.")


def add_error_pages(app: FastAPI) -> None:
    """Answer errors with our own pages."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(TimeoutError, _busy)
    app.add_exception_handler(ConnectionError, _away)
