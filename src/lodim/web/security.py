"""Who may ask for what, how often: forms that only our own pages can send, and limits on the rate of requests.

A form is accepted if it carries a token that this server gave to this browser: the token signs the session's random
number together with one of its own. The session is a cookie that other sites' forms do not bring along
(``SameSite=Lax``). It is set only by pages that hold a form, so all others can be kept by caches.

Limits are token buckets: a bucket of ``count`` tokens for each address (the /64 network for IPv6) fills evenly within
``seconds``, and a larger one counts all addresses together.
"""

from __future__ import annotations

import ipaddress
import math
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping

from fastapi import HTTPException, Request
from itsdangerous import BadSignature, SignatureExpired, URLSafeSerializer, URLSafeTimedSerializer
from starlette.datastructures import FormData
from starlette.responses import Response

from lodim.web.settings import Rate, Settings

__all__ = ["COOKIE", "Limiter", "check_csrf", "client_address", "csrf_token", "keep_session", "limit"]

COOKIE = "lodim_session"
FORM_HOURS = 24
_MOST_FIELDS, _MOST_FILES = 200, 20
_MOST_ADDRESSES = 20_000


def _settings(request: Request) -> Settings:
    return request.app.state.settings


def _session(request: Request) -> str:
    """Return the session's random number: the cookie's if it is ours, else a new one."""
    if not hasattr(request.state, "session"):
        signer = URLSafeSerializer(_settings(request).secret, salt="session")
        try:
            request.state.session = str(signer.loads(request.cookies.get(COOKIE, "")))
            request.state.new_session = False
        except BadSignature:
            request.state.session, request.state.new_session = secrets.token_urlsafe(18), True
    return request.state.session


def keep_session(request: Request, response: Response) -> None:
    """Send the cookie along with a page that holds a form."""
    if getattr(request.state, "new_session", False):
        settings = _settings(request)
        value = URLSafeSerializer(settings.secret, salt="session").dumps(request.state.session)
        response.set_cookie(
            COOKIE, str(value), httponly=True, samesite="lax", secure=settings.https, path="/"
        )


def csrf_token(request: Request) -> str:
    """Return a token for a form on the page that answers this request; valid for a day."""
    session = _session(request)
    request.state.has_form = True
    signer = URLSafeTimedSerializer(_settings(request).secret, salt="form")
    return str(signer.dumps([session, secrets.token_urlsafe(9)]))


async def check_csrf(request: Request) -> FormData:
    """Return the fields of a form of our own pages, else 403; the dependency of all POSTs that change something."""
    settings = _settings(request)
    form = await request.form(
        max_files=_MOST_FILES, max_fields=_MOST_FIELDS, max_part_size=settings.upload_limit
    )
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise HTTPException(403, "This form was sent from another site.")
    signer = URLSafeTimedSerializer(settings.secret, salt="form")
    try:
        session, _ = signer.loads(str(form.get("csrf", "")), max_age=FORM_HOURS * 3600)
    except SignatureExpired:
        raise HTTPException(
            403, "This form is more than a day old. Open the page again and resend it."
        ) from None
    except (BadSignature, TypeError, ValueError):
        session = None
    if session is None or session != _session(request):
        raise HTTPException(
            403,
            "This form did not come from a page of this server, or the server was restarted since, or cookies are "
            "switched off. Open the page again and resend it.",
        )
    return form


def client_address(request: Request) -> str:
    """Return who asks: the peer, or what a proxy that we trust says."""
    peer = request.client.host if request.client else "unknown"
    trusted = _settings(request).proxies
    if peer not in trusted:
        return peer
    # Proxies may add a line of their own below one that came with the request: only together they are the whole way.
    said = ",".join(request.headers.getlist("x-forwarded-for"))
    for name in reversed(said.split(",")):
        if name.strip() and name.strip() not in trusted:
            return name.strip()
    return peer


def _bucket_name(address: str) -> str:
    """Return the address, for IPv6 the network a household or a company has."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if found.version == 6 and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(getattr(found, "ipv4_mapped", None) or found)


class Limiter:
    """Token buckets by name and address."""

    def __init__(self, rates: Mapping[str, Rate], clock: Callable[[], float]) -> None:
        self.rates, self.clock = dict(rates), clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def take(self, name: str, address: str) -> float:
        """Take a token; return 0, or after how many seconds there will be one."""
        rate, now = self.rates[name], self.clock()
        wanted = {(name, _bucket_name(address)): rate.count, (name, ""): rate.everyone}
        with self._lock:
            left = {key: self._left(key, size, rate.seconds, now) for key, size in wanted.items()}
            wait = max((1.0 - left[key]) * rate.seconds / size for key, size in wanted.items())
            if wait > 0:
                return wait
            for key in wanted:
                self._buckets[key] = (left[key] - 1.0, now)
                self._buckets.move_to_end(key)
            while len(self._buckets) > _MOST_ADDRESSES:
                self._buckets.popitem(last=False)
        return 0.0

    def _left(self, key: tuple[str, str], size: int, seconds: int | float, now: float) -> float:
        left, since = self._buckets.get(key, (float(size), now))
        return min(float(size), left + max(now - since, 0.0) * size / seconds)


def limit(name: str) -> Callable[[Request], None]:
    """Return a dependency that refuses requests above a rate with status 429."""

    def check(request: Request) -> None:
        wait = request.app.state.limiter.take(name, client_address(request))
        if wait > 0:
            seconds = math.ceil(wait)
            raise HTTPException(
                429, f"Too many requests. Try again in {seconds} s.", headers={"Retry-After": str(seconds)}
            )

    return check
