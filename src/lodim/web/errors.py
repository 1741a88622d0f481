"""Pages that say what went wrong; plain JSON for the API."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from lodim.web.views import render

__all__ = ["add_error_pages", "broken"]

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
}


def _answer(request: Request, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": detail}, status_code=status, headers=headers)
    heading = _HEADINGS.get(status, "This did not work")
    return render(request, "error.html", status, headers, heading=heading, detail=detail, status_code=status)


def _http(request: Request, error: Any) -> Response:
    detail = "" if error.detail in ("Not Found", "Method Not Allowed") else str(error.detail)
    return _answer(request, error.status_code, detail, dict(error.headers or {}))


def _invalid(request: Request, error: Any) -> Response:
    said = [f"{'.'.join(map(str, problem['loc'][1:]))}: {problem['msg']}" for problem in error.errors()]
    return _answer(request, 422, "; ".join(said))


def broken(request: Request) -> Response:
    """Return the page for an error of ours; the log says which.

    Parameters
    ----------
    request : Request
    """
    return _answer(request, 500, "What happened was written to the server's log.")


def add_error_pages(app: FastAPI) -> None:
    """Answer errors with our own pages.

    Parameters
    ----------
    app : FastAPI
    """
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
