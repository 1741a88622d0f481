"""From templates to answers: one way to make a page, with its caching.

Templates escape everything and refuse names that they were not given. In every template there are

================  =============================================================================
``csrf_field()``  the hidden field of a form that changes something (``method="post"``)
``csrf()``        its value alone
``path``          of the page, for the navigation
``nav``           entries of the navigation: (address, name, whether we are there)
``settings``      see :class:`lodim.web.settings.Settings`
``evidence``      see :class:`lodim.web.evidence.Evidence`
``query(**new)``  the address of this page with some parameters changed (None drops one)
``static(name)``  the address of a file of ``static/``
================  =============================================================================

A page without a form carries an ``ETag`` and may be kept, to be asked for again; one with a form is this browser's own
and is not kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache, lru_cache, partial
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from lodim.catalog.cards import Card
from lodim.results.records import format_expected, format_value
from lodim.web.evidence import duration, interval_bar
from lodim.web.security import csrf_token, keep_session

__all__ = ["absolute", "environment", "fresh", "render"]

NAV = (
    ("/", "Papers"),
    ("/methods", "Methods"),
    ("/claims", "Claims"),
    ("/profile", "Profile"),
    ("/recommend", "Recommend"),
    ("/about", "About"),
)


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the templates, made ready once."""
    found = Environment(
        loader=PackageLoader("lodim.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals["static"] = static_address
    found.globals["checks"] = {"value": format_value, "expected": format_expected, "bar": interval_bar}
    found.filters["duration"] = duration
    found.filters["megabytes"] = lambda n: f"{n / 1e6:.0f} MB"
    found.filters["pairs"] = lambda words: [(word, word) for word in words]
    found.filters["web_link"] = web_link
    found.filters["install_line"] = install_line
    return found


@cache
def static_content(name: str) -> bytes:
    """Return a file of the package's folder ``static``."""
    return files("lodim.web").joinpath("static", name).read_bytes()


@cache
def static_version(name: str) -> str:
    """Return a short hash of such a file."""
    return hashlib.sha256(static_content(name)).hexdigest()[:10]


def static_address(name: str) -> str:
    """Return the address of such a file; it changes with what the file holds."""
    return f"/static/{name}?v={static_version(name)}"


def web_link(address: str | None) -> str | None:
    """Return an address that a paper came with if a browser may follow it, else None."""
    return address if address and re.match(r"https?://[^\s/]", address) else None


def install_line(card: Card) -> str:
    """Return what to type to install lodim with all that a method uses."""
    extras = ",".join(card.needs.extras)
    return f"pip install 'lodim[{extras}]'" if extras else "pip install lodim"


def _csrf_field(request: Request) -> Markup:
    return Markup('<input type="hidden" name="csrf" value="{}">').format(csrf_token(request))


def _query(request: Request, **new: Any) -> str:
    """Return this page's address with other parameters."""
    pairs = [(name, value) for name, value in request.query_params.multi_items() if name not in new]
    pairs += [(name, str(value)) for name, value in new.items() if value is not None]
    return f"{request.url.path}?{urlencode(pairs)}" if pairs else request.url.path


def absolute(request: Request, path: str) -> str:
    """Return the full address of a page, for feeds and mails."""
    settings = request.app.state.settings
    base = settings.public_url or f"{request.url.scheme}://{request.url.netloc}"
    return base.rstrip("/") + path


def fresh(request: Request, response: Response) -> Response:
    """Give an answer its ``ETag``; return 304 without a body if the browser has this very one."""
    tag = f'W/"{hashlib.sha256(bytes(response.body)).hexdigest()[:24]}"'
    response.headers["ETag"] = tag
    response.headers.setdefault("Cache-Control", "no-cache")
    known = [text.strip() for text in request.headers.get("if-none-match", "").split(",")]
    if request.method in ("GET", "HEAD") and (tag in known or "*" in known):
        kept = {name: response.headers[name] for name in ("ETag", "Cache-Control")}
        return Response(status_code=304, headers=kept)
    return response


def render(
    request: Request,
    name: str,
    /,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **context: Any,
) -> Response:
    """Return a page."""
    path = request.url.path
    nav = [
        (address, label, path == address or (address != "/" and path.startswith(f"{address}/")))
        for address, label in NAV
        if address in request.app.state.pages
    ]
    given = {
        "path": path,
        "nav": nav,
        "pages": request.app.state.pages,
        "settings": request.app.state.settings,
        "evidence": request.app.state.evidence,
        "csrf": partial(csrf_token, request),
        "csrf_field": partial(_csrf_field, request),
        "query": partial(_query, request),
    }
    body = environment().get_template(name).render({**given, **context})
    response = HTMLResponse(body, status_code=status, headers=dict(headers or {}))
    if getattr(request.state, "has_form", False):
        response.headers["Cache-Control"] = "no-store"
        keep_session(request, response)
        return response
    if status != 200:
        response.headers["Cache-Control"] = "no-store"
        return response
    return fresh(request, response)
