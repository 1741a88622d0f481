"""Who the mails are from, and the mail server that takes them on their way."""

from __future__ import annotations

import ipaddress
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.utils import parseaddr
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

__all__ = ["TLS", "MailSettings", "Relay", "check_site", "is_loopback", "mail_settings"]

TLS = {"starttls": 587, "tls": 465, "none": 25}
LONGEST_WAIT = 120.0  # seconds for one answer; six of them stay below the lease of a mail


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_site(url: str) -> SplitResult:
    """Return the parts of the address of a site; a ValueError for what is none, or has a query."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
    except ValueError:  # brackets that do not match
        good = None
    if not good:
        raise ValueError(f"the public address must look like https://papers.example.org, got {url[:200]!r}")
    return parts


@dataclass(frozen=True)
class Relay:
    """A mail server and how it is spoken to. Settings that contradict each other, or would let a password travel in the
    clear, raise a ValueError.

    Attributes
    ----------
    port : int or None
        By default 587, 465 or 25, as ``tls`` says.
    tls : {"starttls", "tls", "none"}
        ``none`` is allowed on this machine only. A server that does not offer the encryption asked for gets no mail.
    username, password : str or None
        Sent after the encryption has begun.
    ca_file : str or None
        Certificates to trust in place of the system's; the server's certificate is always checked.
    per_second, timeout : float
        Most mails a second; seconds to wait for an answer of the server, at most 120.
    """

    host: str
    port: int | None = None
    tls: str = "starttls"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    per_second: int | float = 5.0
    timeout: int | float = 30.0

    def __post_init__(self) -> None:
        if self.tls not in TLS:
            raise ValueError(f"tls must be one of {', '.join(TLS)}; got {self.tls!r}")
        if self.tls == "none" and not is_loopback(self.host):
            raise ValueError(
                f"mail to {self.host} must be encrypted: tls 'starttls' or 'tls'; 'none' is for this machine only"
            )
        if (self.username is None) != (self.password is None):
            raise ValueError("a user name and a password go together")
        if self.port is not None and not 1 <= self.port <= 65535:
            raise ValueError(f"the port must be from 1 to 65535, got {self.port}")
        if not (math.isfinite(self.per_second) and self.per_second > 0):
            raise ValueError(f"per_second must be positive, got {self.per_second}")
        if not 0 < self.timeout <= LONGEST_WAIT:
            raise ValueError(
                f"timeout must be above 0 and at most {LONGEST_WAIT:g} seconds, got {self.timeout}"
            )

    @property
    def used_port(self) -> int:
        """The port that is spoken to."""
        return TLS[self.tls] if self.port is None else self.port


@dataclass(frozen=True)
class MailSettings:
    """What all mails have in common. What is not an address, or not a web address, raises a ValueError.

    Attributes
    ----------
    sender : str
        ``Name <address>``; its domain ends the identifiers of the mails.
    public_url : str
        Where the pages are reached; links in the mails begin with it.
    relay : Relay or None
        None: mails cannot be sent, only written to files.
    unsubscribe_mailbox : str or None
        Address that people may write to instead of following a link; by default the sender's.
    list_name : str
        Of the digest, as subjects and headers say it.
    """

    sender: str
    public_url: str
    relay: Relay | None = None
    unsubscribe_mailbox: str | None = None
    list_name: str = "lodim"

    def __post_init__(self) -> None:
        check_site(self.public_url)
        for given in filter(None, (self.sender, self.unsubscribe_mailbox)):
            address = parseaddr(given)[1]
            if not given.isprintable() or not address.isascii() or not all(address.partition("@")):
                raise ValueError(f"expected an address like lodim <papers@example.org>, got {given!r}")
        if not self.list_name.isprintable() or not self.list_name.strip():
            raise ValueError(f"the name of the list must be printable, got {self.list_name!r}")

    @property
    def sender_name(self) -> str:
        """The name before the sender's address; that of the list if there is none."""
        return parseaddr(self.sender)[0] or self.list_name

    @property
    def sender_address(self) -> str:
        """The sender's address, which also gets what comes back."""
        return parseaddr(self.sender)[1]

    @property
    def domain(self) -> str:
        """The part of the sender's address after the @."""
        return self.sender_address.rpartition("@")[2]

    @property
    def mailbox(self) -> str:
        """Where people may write to leave."""
        return parseaddr(self.unsubscribe_mailbox or self.sender)[1]

    @property
    def from_header(self) -> Address:
        """The sender for the header ``From``."""
        return Address(self.sender_name, addr_spec=self.sender_address)

    @property
    def site(self) -> str:
        """The public address without a slash at the end."""
        return self.public_url.rstrip("/")


def mail_settings(
    environ: Mapping[str, str] | None = None, *, public_url: str | None = None
) -> MailSettings | None:
    """Read the settings from ``environ``, by default that of the process; None if no mail server is named.
    ``public_url`` goes before ``LODIM_PUBLIC_URL``; something missing or wrong raises a ValueError.

    ================================  ==========================================================
    ``LODIM_SMTP_HOST``, ``_PORT``     the server
    ``LODIM_SMTP_TLS``                 ``starttls`` (default), ``tls`` or ``none``
    ``LODIM_SMTP_USER``                login
    ``LODIM_SMTP_PASSWORD_FILE``       file with the password; or ``LODIM_SMTP_PASSWORD``
    ``LODIM_SMTP_CA_FILE``             certificates to trust in place of the system's
    ``LODIM_MAIL_FROM``                ``Name <address>``
    ``LODIM_MAIL_UNSUBSCRIBE``         address for people who write to leave
    ``LODIM_MAIL_RATE``                most mails a second, 5
    ``LODIM_PUBLIC_URL``               where the pages are reached
    ================================  ==========================================================
    """
    found = os.environ if environ is None else environ
    host = found.get("LODIM_SMTP_HOST", "").strip()
    if not host:
        return None
    address = public_url or found.get("LODIM_PUBLIC_URL", "").strip()
    sender = found.get("LODIM_MAIL_FROM", "").strip()
    for name, value in (("LODIM_MAIL_FROM", sender), ("LODIM_PUBLIC_URL", address)):
        if not value:
            raise ValueError(f"LODIM_SMTP_HOST is set, so {name} must be set as well")
    relay = Relay(
        host=host,
        port=_number(found, "LODIM_SMTP_PORT", int),
        tls=found.get("LODIM_SMTP_TLS", "starttls"),
        username=found.get("LODIM_SMTP_USER") or None,
        password=_password(found),
        ca_file=found.get("LODIM_SMTP_CA_FILE") or None,
        per_second=_number(found, "LODIM_MAIL_RATE", float) or 5.0,
    )
    return MailSettings(sender, address, relay, found.get("LODIM_MAIL_UNSUBSCRIBE") or None)


def _number(found: Mapping[str, str], name: str, kind: Callable[[str], Any]) -> Any:
    if not found.get(name):
        return None
    try:
        return kind(found[name])
    except ValueError as error:
        raise ValueError(f"{name} must be a number, got {found[name]!r}") from error


def _password(found: Mapping[str, str]) -> str | None:
    file = found.get("LODIM_SMTP_PASSWORD_FILE")
    if not file:
        return found.get("LODIM_SMTP_PASSWORD") or None
    try:
        return Path(file).read_text(encoding="utf-8").strip("\r\n")
    except OSError as error:
        raise ValueError(f"LODIM_SMTP_PASSWORD_FILE: {file} cannot be read ({error.strerror})") from error
