"""What a server is started with."""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lodim.catalog.baseline import evidence_folder
from lodim.catalog.digest.relay import check_site, is_loopback
from lodim.catalog.feed.readers import MOST_BYTES

__all__ = ["CONFIRM_MODES", "RATES", "Rate", "Settings"]

SECRET_LEAST = 32
CONFIRM_MODES = ("button", "auto")


@dataclass(frozen=True)
class Rate:
    """How often something may be asked for: ``count`` times in ``seconds`` by one address, ``everyone`` times by all.

    As many may come at once; after ``seconds`` as many are allowed again.
    """

    count: int
    seconds: int | float
    everyone: int


RATES: Mapping[str, Rate] = {
    "search": Rate(60, 60.0, 600),
    "paper": Rate(60, 60.0, 1200),
    "subscribe": Rate(5, 3600.0, 200),
    "upload": Rate(10, 3600.0, 200),
    "profile": Rate(10, 3600.0, 100),
    "run": Rate(10, 3600.0, 20),
}


def _data_dir() -> Path:
    """Return the folder of lodim's data of this user."""
    from lodim.catalog.feed import default_path

    return default_path().parent


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Settings:
    """What a server is started with.

    Attributes
    ----------
    host : str
        Address to listen on.
    public_url : str or None
        How the pages are reached from outside, ``https://papers.example.org``; needed unless ``host`` is loopback.
    secret : bytes
        Signs sessions and forms; random for each start by default, so that open forms end with the server.
    catalog : path or None
        The file of papers; None for the user's own.
    data_dir : Path
        Where uploads, jobs and mails are kept.
    evidence : Path
        The folder of recorded claims; by default where ``lodim claims run`` records them, see
        :func:`lodim.catalog.baseline.evidence_folder`.
    allow_run : bool
        Whether the pages may start recorded claims; only where no other machine reaches them.
    allow_profile : bool
        Whether the pages may profile data also where other machines reach them; else only on this machine.
    allow_ingest : bool
        Whether visitors may add papers also where other machines reach the pages; else only on this machine.
    semantic : bool
        Whether searches compare by meaning once the encoder is loaded, if the extra ``semantic`` is installed.
    upload_limit : int
        Largest body of a request, in bytes; by default what a list of papers may have.
    rates : mapping of str to Rate
        Limits by name, see :func:`lodim.web.security.limit`.
    trusted_hosts : tuple of str
        Further names under which the pages may be asked for.
    proxies : tuple of str
        Addresses whose ``X-Forwarded-For`` is believed.
    mail : MailSettings or None
        How mails leave, see :func:`lodim.catalog.digest.mail_settings`; None if they do not.
    confirm_mode : {"button", "auto"}
        Whether a subscription is confirmed by a button, or by a script that presses it once the page is seen. Some
        programs that check mails run scripts, and would subscribe people.

    Raises
    ------
    ValueError
        Contradictory or incomplete.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    public_url: str | None = None
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(SECRET_LEAST), repr=False)
    catalog: str | os.PathLike[str] | None = None
    data_dir: Path = field(default_factory=_data_dir)
    evidence: Path = field(default_factory=evidence_folder)
    allow_run: bool = False
    allow_profile: bool = False
    allow_ingest: bool = False
    semantic: bool = True
    upload_limit: int = MOST_BYTES
    rates: Mapping[str, Rate] = field(default_factory=lambda: dict(RATES))
    trusted_hosts: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    mail: Any = field(default=None, repr=False)
    confirm_mode: str = "button"

    def __post_init__(self) -> None:
        if len(self.secret) < SECRET_LEAST:
            raise ValueError(f"the secret must have at least {SECRET_LEAST} bytes, got {len(self.secret)}")
        if self.confirm_mode not in CONFIRM_MODES:
            choices = ", ".join(map(repr, CONFIRM_MODES))
            raise ValueError(f"confirm_mode must be one of {choices}; got {self.confirm_mode!r}")
        for name in ("evidence", "data_dir"):
            folder = Path(getattr(self, name))
            if folder.exists() and not folder.is_dir():
                raise ValueError(f"{name} must be a folder, got the file {str(folder)!r}")
        for proxy in self.proxies:
            if not _is_address(proxy):
                raise ValueError(f"a proxy (--proxy) is named by its IP address, got {proxy!r}")
        if not self.host.strip():
            raise ValueError("the address to listen on (--host) is empty")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"the port must be from 0 to 65535, got {self.port}")
        if self.public_url is None:
            if not is_loopback(self.host):
                raise ValueError(
                    f"other machines can reach {self.host}: say how they will, --public-url https://..., and keep "
                    "the secret in a file, --secret-file; or listen on 127.0.0.1"
                )
        else:
            if check_site(self.public_url).path.strip("/"):
                raise ValueError(f"the public address has no path, got {self.public_url!r}")
        if self.allow_run and not self.local:
            raise ValueError(
                "claims are run for this machine only: --allow-run needs a loopback --host and no --public-url"
            )

    @property
    def local(self) -> bool:
        """Whether only this machine reaches the pages: a loopback address, and no proxy that publishes it."""
        public = urlsplit(self.public_url).hostname if self.public_url else None
        return is_loopback(self.host) and (public is None or is_loopback(public))

    @property
    def may_profile(self) -> bool:
        """Whether visitors may have data profiled here."""
        return self.local or self.allow_profile

    @property
    def may_ingest(self) -> bool:
        """Whether visitors may add papers here."""
        return self.local or self.allow_ingest

    @property
    def https(self) -> bool:
        """Whether browsers reach the pages by https."""
        return (self.public_url or "").startswith("https:")

    @property
    def address(self) -> str:
        """How the pages are reached, without a slash at the end."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def hosts(self) -> frozenset[str]:
        """Names under which the pages may be asked for, in lower case, without port."""
        own = {self.host.strip("[]").lower(), *(name.lower() for name in self.trusted_hosts)}
        if is_loopback(self.host):
            own |= {"localhost", "127.0.0.1", "::1"}
        if self.public_url:
            own.add((urlsplit(self.public_url).hostname or "").lower())
        return frozenset(own)
