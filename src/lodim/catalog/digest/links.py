"""What the links in mails do: confirm a subscription, stop it, bring it back, change it.

Each link is looked up by the SHA-256 of its token; each change is one statement under a condition, so that of two
requests at the same time one does it and the other sees that it has been done.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from lodim.catalog.digest import letters
from lodim.catalog.digest.requests import Preferences
from lodim.catalog.digest.rows import Answer, Subscriber, read_subscribers
from lodim.catalog.digest.tokens import check_secret, digest_of_token, well_formed
from lodim.catalog.feed.records import stamp, utc
from lodim.catalog.feed.statements import run
from lodim.catalog.feed.store import LONG, Store

__all__ = ["Links"]

UNDO_WITHIN = timedelta(days=7)
_CANCEL = (
    "UPDATE subscriber SET state = 'cancelled', cancelled_at = :now "
    "WHERE id = :id AND state IN ('pending', 'confirmed')"
)
_UNDO = "UPDATE subscriber SET state = 'confirmed', cancelled_at = NULL WHERE id = :id"
_PREFER = (
    "UPDATE subscriber SET frequency = :frequency, areas = :areas, time_zone = :time_zone WHERE id = :id",
    "DELETE FROM saved_query WHERE subscriber_id = :id",
    "INSERT INTO saved_query (subscriber_id, text, created_at) VALUES (:id, :query, :now)",
)


class Links:
    """The links of a database; see :class:`~lodim.catalog.digest.subscribers.Subscribers`."""

    def __init__(self, store: Store, *, now: Callable[[], datetime], secret: bytes) -> None:
        self.store, self.secret, self._now = store, check_secret(secret), now
        self.renew_links()

    def renew_links(self) -> None:
        """Make sure that the links made with this secret are known, as another process may use another."""
        letters.renew_links(self.store, self.secret, self.now())

    def now(self) -> str:
        """Return the time as it is stored."""
        return stamp(self._now())

    def later(self, span: timedelta) -> str:
        """Return the time after a span."""
        return stamp(self._now() + span)

    def _subscriber(self, connection: sa.Connection, subscriber_id: int) -> Subscriber | None:
        rows = read_subscribers(connection, self.secret, "WHERE subscriber.id = :id", id=subscriber_id)
        return next(rows, None)

    def confirm(self, token: str) -> Answer:
        """Confirm a subscription with the link from a letter, which works once. The answer is ``done``, ``already``,
        ``used``, ``expired``, ``revoked`` or ``unknown``.
        """
        seen = self.look_up(token)
        if seen.outcome != "done":  # there is nothing to write, so nobody waits
            return seen
        digest, now = digest_of_token(token), self.now()
        with self.store.writing(patience=LONG) as connection:
            taken = run(
                connection,
                "UPDATE token SET used_at = :now WHERE digest = :digest AND purpose = 'confirm' "
                "AND used_at IS NULL AND revoked_at IS NULL AND expires_at > :now",
                digest=digest,
                now=now,
            )
            if not taken.rowcount:
                return self._looked_up(connection, digest, now)
            subscriber_id, wanted = self._token(connection, digest)[:2]
            held = json.loads(wanted)
            run(
                connection,
                "UPDATE subscriber SET state = 'confirmed', confirmed_at = :now, consent_source = :source, "
                "consent_text = :text, cancelled_at = NULL, soft_strikes = 0 "
                "WHERE id = :id AND state <> 'suppressed'",
                id=subscriber_id,
                now=now,
                source=held["source"],
                text=held["text"],
            )
            preferences = Preferences.unpack(wanted)
            self._prefer(connection, subscriber_id, preferences, now)
            letters.drop(connection, subscriber_id, now)
            return Answer("done", self._subscriber(connection, subscriber_id), preferences)

    def look_up(self, token: str) -> Answer:
        """Tell what :meth:`confirm` would do with a link, and change nothing."""
        if not well_formed(token):
            return Answer("unknown")
        with self.store.reading() as connection:
            return self._looked_up(connection, digest_of_token(token), self.now())

    def _token(self, connection: sa.Connection, digest: str, purpose: str = "confirm") -> Any:
        """Return subscriber, what is wanted, and when the token ends, was used and was revoked; None if unknown."""
        return run(
            connection,
            "SELECT subscriber_id, wanted, expires_at, used_at, revoked_at FROM token "
            "WHERE digest = :digest AND purpose = :purpose",
            digest=digest,
            purpose=purpose,
        ).one_or_none()

    def _looked_up(self, connection: sa.Connection, digest: str, now: str) -> Answer:
        found = self._token(connection, digest)
        if found is None:
            return Answer("unknown")
        subscriber = self._subscriber(connection, found.subscriber_id)
        preferences = Preferences.unpack(found.wanted)
        if found.used_at is not None:
            same = subscriber is not None and subscriber.confirmed_at == found.used_at
            confirmed = same and subscriber is not None and subscriber.state == "confirmed"
            return Answer("already" if confirmed else "used", subscriber, preferences)
        if found.revoked_at is not None:
            return Answer("revoked", subscriber, preferences)
        live = found.expires_at is not None and found.expires_at > now
        return Answer("done" if live else "expired", subscriber, preferences)

    # ---------------------------------------------------------------- the link to unsubscribe

    def find(self, token: str) -> Answer:
        """Return whose link to unsubscribe this is: ``done`` with the subscriber, ``revoked`` or ``unknown``."""
        if not well_formed(token):
            return Answer("unknown")
        with self.store.reading() as connection:
            return self._owner(connection, token)

    def _owner(self, connection: sa.Connection, token: str) -> Answer:
        found = self._token(connection, digest_of_token(token), "unsubscribe")
        if found is None:
            return Answer("unknown")
        return Answer(
            "done" if found.revoked_at is None else "revoked", self._subscriber(connection, found[0])
        )

    def cancel(self, token: str) -> Answer:
        """Stop all mail, of a pending address too; asking again changes nothing more. The answer is ``done``,
        ``already``, ``revoked`` or ``unknown``.
        """

        def stop(connection: sa.Connection, subscriber: Subscriber) -> Answer:
            now = self.now()
            changed = run(connection, _CANCEL, id=subscriber.id, now=now).rowcount
            letters.drop(connection, subscriber.id, now)
            return Answer("done" if changed else "already", self._subscriber(connection, subscriber.id))

        return self._change(token, stop)

    def _change(self, token: str, change: Callable[[sa.Connection, Subscriber], Answer]) -> Answer:
        """Do what is asked with a link; with one that is not valid there is nothing to write, so nobody waits."""
        seen = self.find(token)
        if seen.outcome != "done":
            return seen
        with self.store.writing(patience=LONG) as connection:
            owner = self._owner(connection, token)
            if owner.outcome != "done" or owner.subscriber is None:
                return owner
            return change(connection, owner.subscriber)

    def can_undo(self, subscriber: Subscriber) -> bool:
        """Tell whether :meth:`undo` would bring a subscription back."""
        if subscriber.state != "cancelled" or subscriber.confirmed_at is None:
            return False
        return utc(subscriber.cancelled_at or "") + UNDO_WITHIN > utc(self.now())

    def undo(self, token: str) -> Answer:
        """Bring back what was stopped in the last 7 days, for mails forwarded to somebody who stopped them. The answer
        is ``done``, ``already`` (it had not been stopped), ``pending`` (it was stopped before it was confirmed),
        ``expired``, ``revoked`` or ``unknown``.
        """

        def bring_back(connection: sa.Connection, subscriber: Subscriber) -> Answer:
            if subscriber.state != "cancelled":
                return Answer("already" if subscriber.state == "confirmed" else "pending", subscriber)
            if not self.can_undo(subscriber):
                return Answer("expired" if subscriber.confirmed_at else "pending", subscriber)
            run(connection, _UNDO, id=subscriber.id)
            return Answer("done", self._subscriber(connection, subscriber.id))

        return self._change(token, bring_back)

    def prefer(self, token: str, preferences: Preferences) -> Answer:
        """Change what a confirmed subscriber receives. The answer is ``done``, ``pending`` (not confirmed, or stopped),
        ``revoked`` or ``unknown``.
        """

        def set_preferences(connection: sa.Connection, subscriber: Subscriber) -> Answer:
            if subscriber.state != "confirmed":
                return Answer("pending", subscriber)
            self._prefer(connection, subscriber.id, preferences, self.now())
            return Answer("done", self._subscriber(connection, subscriber.id), preferences)

        return self._change(token, set_preferences)

    def _prefer(self, connection: sa.Connection, subscriber_id: int, wanted: Preferences, now: str) -> None:
        values = {
            "id": subscriber_id,
            "frequency": wanted.frequency,
            "areas": json.dumps(wanted.areas),
            "time_zone": wanted.time_zone,
            "query": wanted.query,
            "now": now,
        }
        for statement in _PREFER if wanted.query else _PREFER[:2]:
            run(connection, statement, **values)
