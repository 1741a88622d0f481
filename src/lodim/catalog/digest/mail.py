"""From what is to be said to a mail that programs and people can read.

A mail is made in two steps. :class:`Texts` holds all of it that is decided when it is queued; it is kept until the mail
is sent. :func:`make_message` adds the address and the link to unsubscribe, which are stored nowhere else, and is a
function of these alone: no clock, no random boundary. So a mail that is sent again is the same, byte for byte, and its
``Message-ID`` lets mail programs fold the two into one.

Every mail has a text part that is complete by itself and an HTML part without any image, script or counted link.
"""

from __future__ import annotations

import hashlib
import re
import textwrap
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from lodim.catalog.digest.content import Digest
from lodim.catalog.digest.relay import MailSettings
from lodim.catalog.digest.schedule import day_in_words, local_day
from lodim.catalog.feed.libraries import optional
from lodim.catalog.feed.records import utc
from lodim.results import Result

__all__ = ["Texts", "area_name", "digest_texts", "letter_texts", "make_message", "message_id", "plain"]

WIDTH = 72
EXCERPT, ELLIPSIS = 280, "\u2026"
LONGEST_LINE = 998
_LINK = "\x1alink\x1a"  # where the link to unsubscribe will be; no text from outside can hold it, see plain()
# control characters, and those that reorder the text around them
_UNWANTED = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff]+")


@dataclass(frozen=True)
class Texts(Result):
    """A mail's subject, two parts and headers, without the address and without the link to unsubscribe. From
    ``sender_name`` on the fields are those of :class:`~lodim.catalog.digest.relay.MailSettings`.
    """

    subject: str
    text: str
    html: str
    message_id: str
    date: str
    sender_name: str
    sender: str
    mailbox: str
    site: str
    list_name: str


def plain(text: str) -> str:
    """Return a text from outside on one line, without control characters."""
    return " ".join(_UNWANTED.sub(" ", text).split())


def _plain(value: Any) -> Any:
    """Apply :func:`plain` to all texts in some data."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def message_id(settings: MailSettings, subscriber: int, period: str) -> str:
    """Return the identifier of a mail: the same whenever it is sent. The period distinguishes it from other mails to
    the subscriber.
    """
    said = "\n".join((str(subscriber), period, settings.list_name, settings.site))
    return f"<{hashlib.sha256(said.encode()).hexdigest()}@{settings.domain}>"


def digest_texts(
    digest: Digest,
    settings: MailSettings,
    *,
    subscriber: int,
    frequency: str,
    time_zone: str,
    period: str,
    at: datetime,
) -> Texts:
    """Return the mail of a digest."""
    digest = Digest.from_dict(_plain(digest.to_dict()))
    n_papers, n_changes = len(digest.papers), len(digest.changes)
    said = _counted(n_papers, "paper") if n_papers else f"{_counted(n_changes, 'method')} changed"
    day = day_in_words(local_day(at, time_zone))
    shown = {
        "digest": digest,
        "since": day_in_words(local_day(utc(digest.since), time_zone)),
        "rhythm": "on weekdays" if frequency == "daily" else "on Mondays",
        "day": day,
        "search_link": f"{settings.site}/search?q={quote(digest.search or '', safe='')}",
        "headline": _headline(digest),
    }
    identifier = message_id(settings, subscriber, period)
    return _texts("digest", f"{settings.list_name}: {said}, {day}", settings, identifier, at, shown)


def letter_texts(
    kind: str, settings: MailSettings, *, subscriber: int, number: int, at: datetime, **shown: Any
) -> Texts:
    """Return a letter about the subscription itself."""
    subjects = {
        "confirm": f"{settings.list_name}: please confirm your subscription",
        "already": f"{settings.list_name}: you are already subscribed",
    }
    if kind not in subjects:
        raise ValueError(f"a letter is of kind {' or '.join(subjects)}; got {kind!r}")
    identifier = message_id(settings, subscriber, f"{kind} {number}")
    return _texts(kind, subjects[kind], settings, identifier, at, _plain(shown))


def _texts(
    name: str, subject: str, settings: MailSettings, identifier: str, at: datetime, shown: dict[str, Any]
) -> Texts:
    values = shown | {
        "site": settings.site,
        "list_name": settings.list_name,
        "unsubscribe": _LINK,
        "subject": subject,
    }
    return Texts(
        subject=subject,
        text=_templates().get_template(f"{name}.txt").render(values).strip() + "\n",
        html=_templates().get_template(f"{name}.html").render(values).strip() + "\n",
        message_id=identifier,
        date=format_datetime(at.replace(microsecond=0)),
        sender_name=settings.sender_name,
        sender=settings.sender_address,
        mailbox=settings.mailbox,
        site=settings.site,
        list_name=settings.list_name,
    )


def make_message(texts: Texts, recipient: str, token: str) -> bytes:
    """Return the mail as it goes over the wire, with the token of the link to unsubscribe. A line break in the address
    raises a ValueError, so nothing of it is ever a header of its own.
    """
    link = f"{texts.site}/u/{token}"
    message = EmailMessage(policy=SMTP if recipient.isascii() else SMTPUTF8)
    message["From"] = Address(texts.sender_name, addr_spec=texts.sender)
    mailbox, _, domain = recipient.rpartition("@")
    message["To"] = Address(username=mailbox, domain=domain)
    message["Subject"] = texts.subject
    message["Date"] = texts.date
    message["Message-ID"] = texts.message_id
    message["List-Id"] = f"{texts.list_name} <digest.{texts.sender.rpartition('@')[2]}>"
    message["List-Unsubscribe"] = f"<{link}>, <mailto:{texts.mailbox}?subject=unsubscribe%20{token}>"
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message["Auto-Submitted"] = "auto-generated"
    message["Precedence"] = "bulk"
    message["Content-Language"] = "en"
    message.set_content(texts.text.replace(_LINK, link), cte="quoted-printable")
    message.make_alternative(boundary=f"=_{texts.message_id[1:41]}")
    message.add_alternative(texts.html.replace(_LINK, link), subtype="html", cte="quoted-printable")
    # headers on one line each, as long as the standard allows: folded ones would hide the links in encoded words
    return message.as_bytes(policy=message.policy.clone(max_line_length=LONGEST_LINE))


def _headline(digest: Digest) -> str:
    """Return what news there are, in a few words."""
    said = []
    if digest.papers:
        said.append(_counted(len(digest.papers), "paper"))
    if digest.changes:
        said.append(f"{_counted(len(digest.changes), 'method')} changed")
    return "; ".join(said)


def _counted(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def _people(authors: tuple[str, ...]) -> str:
    named = ", ".join(authors[:3])
    return f"{named} and {len(authors) - 3} more" if len(authors) > 3 else named


def area_name(name: str) -> str:
    """Return an area or tag as it is written elsewhere: ``cs.LG``."""
    archive, dot, subject = name.partition(".")
    return f"{archive}{dot}{subject.upper() if len(subject) == 2 else subject}"


def _shown(link: str) -> str:
    """Return an address as it is read."""
    bare = link.partition("://")[2].rstrip("/")
    return bare if len(bare) <= WIDTH else f"{bare[:WIDTH]}{ELLIPSIS}"


def _excerpt(text: str) -> str:
    """Return the beginning of a text, of whole words."""
    return (
        text if len(text) <= EXCERPT else f"{text[:EXCERPT].rpartition(' ')[0] or text[:EXCERPT]} {ELLIPSIS}"
    )


def _wrapped(text: str, indent: int = 0) -> str:
    """Return a text in lines of 72, the following ones indented; addresses are not broken."""
    return textwrap.fill(
        text, WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


@lru_cache(maxsize=1)
def _templates() -> Any:
    jinja2 = optional("jinja2")
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("lodim.catalog.digest", "templates"),
        autoescape=jinja2.select_autoescape(("html",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"people": _people, "excerpt": _excerpt, "wrapped": _wrapped}
    found.filters |= {"area": area_name, "shown": _shown}
    return found
