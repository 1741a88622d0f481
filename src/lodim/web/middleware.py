"""What holds for every request, whatever it asks for: known host, bounded body, safe headers, a discreet log."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lodim.web.errors import where
from lodim.web.settings import Settings

__all__ = ["CSP", "Guard"]

CSP = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_log = logging.getLogger("lodim.web")
_PORT = re.compile(r":\d+$")


class _TooLarge(Exception):
    """The body grew beyond what is allowed."""


class Guard:
    """Refuses strange hosts and large bodies, adds the headers, writes one line a request.

    The line names the route, never the path or the query: these hold tokens and what people look for.
    """

    def __init__(self, app: ASGIApp, settings: Settings, broken: Callable[[Request], Response]) -> None:
        self.app, self.settings, self.broken = app, settings, broken

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        method = scope["method"]
        if method == "HEAD":  # answered like GET; the server leaves the body out
            scope = {**scope, "method": "GET"}
        exchange = _Exchange(self.settings, receive, send)
        refused = self._refusal(Headers(scope=scope))
        try:
            if refused:
                await _say(exchange.send, *refused)
            else:
                await self.app(scope, exchange.receive, exchange.send)
        except _TooLarge:
            pass
        except Exception as error:
            _log.error("%s", where(error))
            if exchange.status == 0:
                await self.broken(Request(scope))(scope, receive, exchange.send)
        if exchange.over and exchange.status == 0:
            await exchange.refuse()
        route = getattr(scope.get("route"), "path", "-")
        took = 1000 * (time.perf_counter() - started)
        _log.info("%s %s %s %.0f ms", method, route, exchange.status, took)

    def _refusal(self, headers: Headers) -> tuple[int, str] | None:
        """Return status and reason if the request is not to be answered at all."""
        host = _PORT.sub("", headers.get("host", "")).strip("[]").lower()
        if host not in self.settings.hosts:
            return 400, "This server is not known under that name."
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.settings.upload_limit:
            return 413, _too_large(self.settings)
        return None


class _Exchange:
    """One request and its answer: counts the bytes that come, adds the headers to what goes."""

    def __init__(self, settings: Settings, receive: Receive, send: Send) -> None:
        self.settings, self._receive, self._send = settings, receive, send
        self.status, self.read, self.over = 0, 0, False

    async def receive(self) -> Message:
        """Return the next part of the body while it stays within the limit."""
        message = await self._receive()
        self.read += len(message.get("body", b""))
        if self.read > self.settings.upload_limit:
            self.over = True
            raise _TooLarge
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer; what was made of a body that was cut off is not sent."""
        if self.over and message["type"].startswith("http.response"):
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._add_headers(MutableHeaders(scope=message))
        await self._send(message)

    async def refuse(self) -> None:
        """Say that the body is too large."""
        self.over = False
        await _say(self.send, 413, _too_large(self.settings))

    def _add_headers(self, headers: MutableHeaders) -> None:
        headers.setdefault("Content-Security-Policy", CSP)
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        if self.settings.https:
            headers["Strict-Transport-Security"] = "max-age=31536000"


def _too_large(settings: Settings) -> str:
    return f"At most {settings.upload_limit / 1e6:.0f} MB may be sent at once."


async def _say(send: Send, status: int, text: str) -> None:
    answer = PlainTextResponse(f"{text}\n", status, headers={"Connection": "close"})
    await answer({"type": "http"}, _nothing, send)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
