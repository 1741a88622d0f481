"""Take in papers from a page: pasted text or a file, never an address."""

from __future__ import annotations

import io
import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.datastructures import FormData, UploadFile
from starlette.responses import Response

from lodim.catalog.feed.readers import FORMATS
from lodim.web.security import check_csrf, limit
from lodim.web.views import render

__all__ = ["file_name", "router", "sent_file"]

SHOWN = 200

router = APIRouter(include_in_schema=False)


def sent_file(form: FormData) -> UploadFile | None:
    """Return the file that came with a form, if one did."""
    sent = form.get("file")
    return sent if isinstance(sent, UploadFile) and sent.filename else None


def file_name(file: UploadFile) -> str:
    """Return what a visitor calls a file, for showing it: without folders and control characters."""
    return re.sub(r"[\x00-\x1f\x7f]", "", re.split(r"[/\\]", file.filename or "")[-1]).strip()[-120:]


def _page(request: Request, status: int = 200, **context: Any) -> Response:
    given = {"error": "", "report": None, "text": "", "chosen": "auto", "name": "", "shown": SHOWN}
    closed = not request.app.state.settings.may_ingest
    return render(
        request, "ingest.html", status, formats=("auto", *FORMATS), closed=closed, **{**given, **context}
    )


@router.get("/ingest")
def form(request: Request) -> Response:
    """Show the form."""
    return _page(request)


@router.post("/ingest", dependencies=[Depends(limit("upload"))])
def take_in(request: Request, form: Annotated[FormData, Depends(check_csrf)]) -> Response:
    """Take in what was sent and say what became of every entry."""
    if not request.app.state.settings.may_ingest:
        return _page(request, 403)
    text, chosen, name = (str(form.get(field, "")).strip() for field in ("text", "format", "name"))
    file = sent_file(form)
    given = {"text": text if file is None else "", "chosen": chosen or "auto", "name": name}
    if (file is None) == (not text):
        return _page(request, 422, error="Paste a list or choose a file, one of the two.", **given)
    stream: Any = io.BytesIO(text.encode()) if file is None else _Named(file)
    try:
        report = request.app.state.catalog.ingest(
            stream, chosen or "auto", name=name or None, now=request.app.state.now()
        )
    except ValueError as error:
        return _page(request, 422, error=str(error), **given)
    return _page(request, report=report)


class _Named:
    """An uploaded file under the name that the visitor gave it, without folders."""

    def __init__(self, file: UploadFile) -> None:
        self.name = file_name(file)
        self._file = file.file

    def read(self, n: int = -1) -> bytes:
        """Return at most so many bytes."""
        return self._file.read(n)
