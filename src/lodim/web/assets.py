"""Style, script and pictures, from the package; their addresses change with what they hold, so browsers keep them."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request
from starlette.responses import Response

from lodim.web.views import fresh, static_content, static_version

__all__ = ["asset", "router"]

TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "txt": "text/plain"}

router = APIRouter(include_in_schema=False)


@cache
def _names() -> frozenset[str]:
    return frozenset(file.name for file in files("lodim.web").joinpath("static").iterdir() if file.is_file())


@router.get("/static/{name}")
def asset(
    request: Request, name: Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9.-]*\.(css|js|svg|txt)$")]
) -> Response:
    """Return a file of the package's folder ``static``."""
    if name not in _names():
        raise HTTPException(404)
    response = Response(static_content(name), media_type=TYPES[name.rsplit(".", 1)[1]])
    if request.query_params.get("v") == static_version(name):
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return fresh(request, response)
