"""Fetching a feed from the few hosts that are trusted, and from nowhere else.

A host name is resolved once; every address it has must be a public one, and the connection goes to the address that
was checked, so that a name cannot point elsewhere a moment later. Only https, only port 443, no proxies, no
credentials; redirects are followed within the list of hosts only. What was fetched before is asked for by its ETag and
date. Of arXiv one request is made every three seconds, and never for more than 2000 results.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import re
import socket
import ssl
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

from lodim import __version__
from lodim.catalog.feed.readers import MOST_BYTES
from lodim.catalog.feed.store import LONG, Store

__all__ = ["HOSTS", "Fetcher", "Reply", "is_public"]

HOSTS = ("export.arxiv.org", "arxiv.org", "huggingface.co")
TIMEOUT, DEADLINE = 10.0, 60.0  # of one read, and of all
PAUSE, TRIES, LONGEST_WAIT = 3.0, 3, 60.0
MOST_REDIRECTS, MOST_RESULTS = 3, 2000
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_UNICAST, _DOCUMENTATION = ipaddress.ip_network("2000::/3"), ipaddress.ip_network("3fff::/20")


@dataclass(frozen=True)
class Reply:
    """What a server sent; by ``etag`` and ``modified`` it is recognised the next time."""

    url: str
    data: bytes
    etag: str | None
    modified: str | None


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the public network."""
    ip: Any = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    if ip.version == 6 and ip in _NAT64:
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if inner is not None:
        return is_public(str(inner))
    if ip.version == 6 and (
        ip not in _UNICAST or ip in _DOCUMENTATION
    ):  # further ways to write IPv4 among them
        return False
    return bool(ip.is_global and not ip.is_multicast)


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _sendable(value: str | None) -> str | None:
    """Return a header that can be sent back, None for any other."""
    return value if value and re.fullmatch(r"[ -~]{1,500}", value) else None


class _Checked(http.client.HTTPSConnection):
    """A connection to an address given, with the certificate of the host's name."""

    def __init__(self, host: str, port: int, address: str, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=TIMEOUT, context=context)
        self._to, self._secure = (address, port), context

    def connect(self) -> None:
        plain = socket.create_connection(self._to, timeout=self.timeout)
        try:
            self.sock = self._secure.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


class Fetcher:
    """Fetches from trusted hosts. The store keeps ETags and the time of the last request; ``contact``, where the
    operator can be reached, is sent with every request; ``resolver`` gives the addresses of a host, ``permit`` whether
    one of them may be connected to.
    """

    def __init__(
        self,
        store: Store,
        *,
        hosts: Collection[str] = HOSTS,
        contact: str = "https://pypi.org/project/lodim/",
        ports: Collection[int] = (443,),
        resolver: Callable[[str, int], list[str]] = resolve,
        permit: Callable[[str], bool] = is_public,
        context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.store, self.hosts, self.ports = store, {host.lower() for host in hosts}, set(ports)
        self._resolver, self._permit, self._clock, self._sleep = resolver, permit, clock, sleep
        self._given = context
        self._agent = f"lodim/{__version__} ({contact})"

    @cached_property
    def _context(self) -> ssl.SSLContext:
        """What servers are checked with: the system's certificates take long to read, so not before there is one."""
        return self._given or ssl.create_default_context()

    def fetch(self, url: str) -> Reply | None:
        """Return what is at an address, or None if it has not changed since the last time. Raises a ValueError for an
        address that is not to be fetched, or too much data, and an OSError if the network or the server failed.
        """
        target = url
        for _ in range(MOST_REDIRECTS + 1):
            status, headers, data = self._patiently(target, self._validators(url))
            if status in (301, 302, 303, 307, 308):
                target = urljoin(target, headers.get("location") or "")
                continue
            if status == 304:
                return None
            if status != 200:
                raise OSError(f"{target} answered {status}")
            return Reply(url, data, _sendable(headers.get("etag")), _sendable(headers.get("last-modified")))
        raise OSError(f"{url} redirects more than {MOST_REDIRECTS} times")

    def remember(self, reply: Reply) -> None:
        """Keep how a reply is recognised, once it has been taken in."""
        said = json.dumps({"If-None-Match": reply.etag, "If-Modified-Since": reply.modified})
        with self.store.writing(patience=LONG) as connection:
            self.store.set_meta(connection, f"fetched:{reply.url}", said)

    def _validators(self, url: str) -> dict[str, str]:
        with self.store.reading() as connection:
            kept = self.store.get_meta(connection, f"fetched:{url}")
        return {name: value for name, value in json.loads(kept or "{}").items() if value}

    def _patiently(self, url: str, validators: dict[str, str]) -> tuple[int, Any, bytes]:
        """Ask, and ask again later of a server that is busy."""
        for attempt in range(TRIES):
            host, port, path = self._checked(url)
            self._wait_for(host)
            status, headers, data = self._ask(host, port, path, validators)
            if status not in (429, 503) or attempt == TRIES - 1:
                return status, headers, data
            asked = headers.get("retry-after") or ""
            wait = float(asked) if re.fullmatch("[0-9]{1,9}", asked) else PAUSE * 2**attempt
            if wait > LONGEST_WAIT:
                raise OSError(f"{host} is busy and asks for {wait:.0f} s of patience; try again later")
            self._sleep(wait)
        raise AssertionError("unreachable")

    def _checked(self, url: str) -> tuple[str, int, str]:
        """Return host, port and path of an address that may be fetched."""
        if any(ord(ch) <= 32 or ord(ch) > 126 for ch in url):
            raise ValueError(f"{url[:80]!r} has characters that an address does not")
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port or 443
        if parts.scheme != "https":
            raise ValueError(f"only https addresses are fetched, got {url[:80]!r}")
        if parts.username is not None or parts.password is not None:
            raise ValueError("an address with a user name is not fetched")
        if host not in self.hosts or port not in self.ports:
            raise ValueError(
                f"{host}:{port} is not among the trusted hosts ({', '.join(sorted(self.hosts))}); "
                "add it with hosts=, or --allow-host on the command line"
            )
        if host.endswith("arxiv.org"):
            asked = parse_qs(parts.query).get("max_results", ["0"])[-1]
            if not re.fullmatch("[0-9]{1,9}", asked) or int(asked) > MOST_RESULTS:
                raise ValueError(
                    f"arXiv wants at most {MOST_RESULTS} results a request, got max_results={asked}"
                )
        return host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def _wait_for(self, host: str) -> None:
        """Keep a distance of three seconds between requests to arXiv, of all processes on this catalogue."""
        if not host.endswith("arxiv.org"):
            return
        # the next turn is taken before it comes: two processes queue up
        with self.store.writing(patience=LONG) as connection:
            kept = float(self.store.get_meta(connection, "arxiv:next") or 0.0)
            now = self._clock()
            turn = kept if now < kept <= now + 10 * LONGEST_WAIT else now
            self.store.set_meta(connection, "arxiv:next", repr(turn + PAUSE))
        if turn > now:
            self._sleep(turn - now)

    def _ask(self, host: str, port: int, path: str, validators: dict[str, str]) -> tuple[int, Any, bytes]:
        """Make one request to a checked address."""
        addresses = self._resolver(host, port)
        refused = [address for address in addresses if not self._permit(address)]
        if refused or not addresses:
            raise ValueError(
                f"{host} leads to {', '.join(refused) or 'no address'}, which is not a public address"
            )
        headers = {
            "User-Agent": self._agent,
            "Accept-Encoding": "identity",
            "Connection": "close",
            **validators,
        }
        connection = _Checked(host, port, addresses[0], self._context)
        until = time.monotonic() + DEADLINE
        try:
            connection.request("GET", path, headers=headers)
            reply = connection.getresponse()
            data = self._read(reply, host, until) if reply.status == 200 else b""
            return reply.status, reply.headers, data
        except http.client.HTTPException as error:
            raise OSError(f"{host} answered nonsense: {type(error).__name__}") from error
        finally:
            connection.close()

    def _read(self, reply: http.client.HTTPResponse, host: str, until: float) -> bytes:
        """Return a reply's body while it is neither too long nor too slow."""
        if (reply.headers.get("content-encoding") or "identity").lower() != "identity":
            raise OSError(f"{host} sent compressed data, which was not asked for")
        parts, size = [], 0
        while part := reply.read1(65536):
            parts.append(part)
            size += len(part)
            if size > MOST_BYTES:
                raise ValueError(f"{host} sent more than {MOST_BYTES:,} bytes")
            if time.monotonic() > until:
                raise TimeoutError(f"{host} took longer than {DEADLINE:.0f} s")
        if reply.length:
            raise OSError(f"{host} closed the connection before the end")
        return b"".join(parts)
