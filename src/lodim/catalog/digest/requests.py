"""What a person asks for in the subscription form, read and checked.

Nothing here looks anything up: not in the database, so that an answer says nothing about who has subscribed, and not
on the network, so that a name server cannot make the form slow.
"""

from __future__ import annotations

import difflib
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from zoneinfo import available_timezones

from lodim.catalog.feed.libraries import optional
from lodim.catalog.query import parse_query
from lodim.catalog.vocabulary import AREAS

__all__ = [
    "CONSENT",
    "CONSENT_TEXTS",
    "FREQUENCIES",
    "Preferences",
    "RequestError",
    "SubscriptionRequest",
    "clean_email",
    "fold",
    "read_request",
    "time_zones",
]

FREQUENCIES = ("daily", "weekly")
# what a person agrees to, by version; a text once used is never changed, a new one is added
CONSENT_TEXTS = {
    "1": "I want to receive the digest of new papers at this address. I can stop it at any time with the link in "
    "every mail.",
}
CONSENT = "1"
LONGEST_EMAIL, LONGEST_QUERY, MOST_AREAS = 254, 300, 40  # bytes, characters, names
# the archives of arXiv, and those whose papers have tags with a dot
_ARCHIVES = frozenset(
    {"astro-ph", "cond-mat", "cs", "econ", "eess", "gr-qc", "hep-ex", "hep-lat", "hep-ph", "hep-th", "math"}
    | {"math-ph", "nlin", "nucl-ex", "nucl-th", "physics", "q-bio", "q-fin", "quant-ph", "stat"}
)
_SUBJECT = frozenset("abcdefghijklmnopqrstuvwxyz-")


class RequestError(ValueError):
    """A request that cannot be taken; ``errors`` say what is wrong, by the name of the field."""

    def __init__(self, errors: dict[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {text}" for name, text in errors.items()))
        self.errors = errors


@dataclass(frozen=True)
class Preferences:
    """What the digest shall hold and when it comes.

    ``frequency`` is ``daily`` or ``weekly``; ``areas`` are areas of lodim's methods, archives (``stat``) or tags
    (``cs.LG``), empty for all; ``query`` is a saved search, whose new papers are told as well; ``time_zone`` is a name
    in the IANA data base.
    """

    frequency: str = "weekly"
    areas: tuple[str, ...] = ()
    query: str | None = field(default=None, repr=False)
    time_zone: str = "UTC"

    def pack(self, **more: str) -> str:
        """Return the preferences as JSON, with further notes."""
        own = {
            "frequency": self.frequency,
            "areas": self.areas,
            "query": self.query,
            "time_zone": self.time_zone,
        }
        return json.dumps(own | more)

    @classmethod
    def unpack(cls, text: str) -> Preferences:
        """Return what :meth:`pack` wrote."""
        held = json.loads(text)
        return cls(held["frequency"], tuple(held["areas"]), held["query"], held["time_zone"])


@dataclass(frozen=True)
class SubscriptionRequest:
    """A checked request; the address has its domain in lower-case ASCII, the part before the @ as typed."""

    email: str = field(repr=False)
    preferences: Preferences


def read_request(
    email: str | None,
    frequency: str = "weekly",
    areas: Iterable[str] = (),
    query: str | None = None,
    time_zone: str = "UTC",
) -> SubscriptionRequest:
    """Check what was typed; all that is wrong is said at once, by a :class:`RequestError` whose ``errors`` go by field.
    An ``email`` of None leaves the address out, for preferences alone.
    """
    errors: dict[str, str] = {}
    read: dict[str, object] = {}
    readers = {
        "email": lambda: "" if email is None else clean_email(email),
        "frequency": lambda: _frequency(frequency),
        "areas": lambda: _areas(areas),
        "query": lambda: _query(query),
        "time_zone": lambda: _time_zone(time_zone),
    }
    for name, reader in readers.items():
        try:
            read[name] = reader()
        except ValueError as error:
            errors[name] = str(error)
    if errors:
        raise RequestError(errors)
    address = str(read.pop("email"))
    return SubscriptionRequest(address, Preferences(**read))  # type: ignore[arg-type]


def fold(email: str) -> str:
    """Return an address without regard to case, for limits and the list of those never written to. Two addresses that
    differ in case are two subscribers, as the standard has it; but most servers take them for one mailbox, so neither
    limit nor suppression may be got around by writing an address otherwise.
    """
    return unicodedata.normalize("NFKC", email).casefold()


def clean_email(text: str) -> str:
    """Return an address in the form in which it is kept. A ValueError says if it cannot be one, is longer than 254
    bytes, or holds control characters.
    """
    typed = _one_line(text, "an address")
    if not typed:
        raise ValueError("Enter an e-mail address, such as name@example.org.")
    if len(typed.encode("utf-8", "replace")) > LONGEST_EMAIL:
        raise ValueError(f"An e-mail address has at most {LONGEST_EMAIL} bytes.")
    validator = optional("email_validator")
    try:
        found = validator.validate_email(typed, check_deliverability=False)
    except validator.EmailNotValidError as error:
        raise ValueError(f"This is not an e-mail address: {error}") from error
    email = f"{found.local_part}@{found.ascii_domain.lower()}"
    if len(email.encode()) > LONGEST_EMAIL:
        raise ValueError(f"An e-mail address has at most {LONGEST_EMAIL} bytes.")
    return email


def _one_line(text: str, what: str) -> str:
    """Return text without blanks around it; refuse what would break a line or cannot be seen."""
    if any(unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp") for sign in text):
        raise ValueError(f"Line breaks and control characters cannot be part of {what}.")
    return text.strip()


def _frequency(text: str) -> str:
    if text not in FREQUENCIES:
        raise ValueError("Choose daily or weekly.")
    return text


def _areas(names: Iterable[str]) -> tuple[str, ...]:
    """Return areas and tags, each once, in a form that finds papers."""
    typed = [_one_line(name, "an area") for name in names]
    found = {name: _area(name) for name in typed if name}
    if len(found) > MOST_AREAS:
        raise ValueError(f"Choose at most {MOST_AREAS} areas.")
    return tuple(dict.fromkeys(found.values()))


def _area(name: str) -> str:
    low = name.lower()
    archive, dot, subject = low.partition(".")
    if low in AREAS or (archive in _ARCHIVES and (not dot or (subject and set(subject) <= _SUBJECT))):
        return low
    close = difflib.get_close_matches(low, [*AREAS, *_ARCHIVES], n=1)
    hint = f"Did you mean {close[0]}?" if close else "Write e.g. privacy, stat or cs.LG."
    raise ValueError(f"There is no area “{name[:40]}”. {hint}")


def _query(text: str | None) -> str | None:
    """Return a search, or None where there is none."""
    typed = " ".join(_one_line(text or "", "a search").split())
    if not typed:
        return None
    if len(typed) > LONGEST_QUERY:
        raise ValueError(f"A search has at most {LONGEST_QUERY} characters.")
    query = parse_query(typed, free=("area",))
    if query.notes:
        raise ValueError(" ".join(f"{note}." for note in query.notes))
    if not (query.looked_for or query.filters):
        raise ValueError("This search would find nothing: it holds no word to look for.")
    return typed


def _time_zone(text: str) -> str:
    name = _one_line(text, "a time zone") or "UTC"
    if name in time_zones():
        return name
    close = difflib.get_close_matches(name, time_zones(), n=1)
    hint = f"Did you mean {close[0]}?" if close else "Write e.g. Europe/Berlin or UTC."
    raise ValueError(f"There is no time zone “{name[:40]}”. {hint}")


@lru_cache(maxsize=1)
def time_zones() -> tuple[str, ...]:
    """Return the names of all time zones, in order."""
    return tuple(sorted(available_timezones()))
