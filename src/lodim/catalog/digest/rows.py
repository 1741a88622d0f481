"""A subscriber, a letter and the answer to a link, as the database holds them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from lodim.catalog.digest.requests import Preferences
from lodim.catalog.digest.tokens import derive_token
from lodim.catalog.feed.statements import run

__all__ = ["Answer", "Letter", "Subscriber", "read_subscribers"]

_SELECT = (
    "SELECT subscriber.id, email, state, frequency, areas, saved_query.text AS query, time_zone, salt, confirmed_at, "
    "consent_source, consent_text, cancelled_at, requested_at "
    "FROM subscriber LEFT JOIN saved_query ON saved_query.subscriber_id = subscriber.id "
)


@dataclass(frozen=True)
class Subscriber:
    """A subscriber as stored; what is printed of it holds neither the address nor the link.

    Attributes
    ----------
    id : int
        Never given to another.
    email : str
        As typed, the domain in lower-case ASCII. The part before the @ may hold letters beyond ASCII, for which the
        mail server must know SMTPUTF8.
    state : {"pending", "confirmed", "cancelled", "suppressed"}
    frequency, areas, query, time_zone
        See :class:`~lodim.catalog.digest.requests.Preferences`.
    unsubscribe : str
        Token of the link to unsubscribe, ``/u/{unsubscribe}``.
    confirmed_at, consent_source, consent_text : str or None
        The consent: when, through what, and to which of the texts in
        :data:`~lodim.catalog.digest.requests.CONSENT_TEXTS`.
    requested_at : str
        When the form was last sent.
    """

    id: int
    email: str = field(repr=False)
    state: str
    frequency: str
    areas: tuple[str, ...]
    query: str | None = field(repr=False)
    time_zone: str
    unsubscribe: str = field(repr=False)
    confirmed_at: str | None
    consent_source: str | None
    consent_text: str | None
    cancelled_at: str | None
    requested_at: str

    @property
    def preferences(self) -> Preferences:
        """Frequency, areas, saved search and time zone."""
        return Preferences(self.frequency, self.areas, self.query, self.time_zone)


@dataclass(frozen=True)
class Answer:
    """What became of a link, and what a confirmation subscribes to.

    The outcome is ``done``: what the link is for was done, or can be done where it was only looked at; ``already``: it
    had been done before; ``pending``: the address is not confirmed; ``expired``, ``used`` or ``revoked``: the link is
    not valid any more; or ``unknown``: there is no such link.
    """

    outcome: str
    subscriber: Subscriber | None = None
    preferences: Preferences | None = None


@dataclass(frozen=True)
class Letter:
    """A mail about the subscription itself, to be written now. Sent again after a failure it is the same letter: same
    token, same end.

    Attributes
    ----------
    id : int
        Never given to another; the message's identifier can be made of it.
    kind : {"confirm", "already"}
        Asks to confirm, or tells that the address is subscribed already.
    preferences : Preferences
        To be confirmed; those that hold if ``already``.
    token, expires_at : str or None
        Of the link ``/confirm/{token}``, and when that ends; None if ``already``.
    attempts : int
        How often it has been begun, this time included.
    """

    id: int
    kind: str
    subscriber: Subscriber
    preferences: Preferences = field(repr=False)
    token: str | None = field(repr=False)
    expires_at: str | None
    queued_at: str
    attempts: int


def read_subscribers(
    connection: sa.Connection, secret: bytes, condition: str = "", **values: Any
) -> Iterator[Subscriber]:
    """Give subscribers in the order of their numbers; the condition is SQL from ``WHERE`` on."""
    rows = run(connection, f"{_SELECT}{condition} ORDER BY subscriber.id", **values)
    for row in rows:
        held = dict(row._mapping)
        salt = held.pop("salt")
        held["areas"] = tuple(json.loads(held["areas"]))
        yield Subscriber(**held, unsubscribe=derive_token(secret, "unsubscribe", salt))
