"""Who receives the digest: asking, confirming, stopping, erasing.

States of a subscriber, and what moves between them:

=============  ==========================================  ==============================================
state          is left by                                  to
=============  ==========================================  ==============================================
``pending``    the link in the letter, within 48 hours     ``confirmed``
..             the link to unsubscribe                     ``cancelled``
..             7 days                                      deleted
``confirmed``  the link to unsubscribe                     ``cancelled``
..             a mail that can never arrive                ``suppressed``
``cancelled``  undo, within 7 days, if it was confirmed    ``confirmed``
..             a new request and the link in its letter    ``confirmed``
=============  ==========================================  ==============================================

``suppressed`` is left only by the operator (:meth:`Subscribers.lift`); :meth:`Subscribers.forget` deletes from every
state. A request proves nothing about who sent it, so it changes no state and no preferences: it makes a pending row
where there is none and queues a letter. What was asked for waits with the token in that letter, so whoever confirms
gets what their own letter says, and not what somebody else typed since.

:meth:`Subscribers.subscribe` runs the same statements for every address, known, unknown or suppressed; all decisions
are made inside them, by the database. Neither the answer nor the work done for it tells who has subscribed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta

import sqlalchemy as sa

from lodim.catalog.digest import letters
from lodim.catalog.digest.links import Links
from lodim.catalog.digest.requests import CONSENT, SubscriptionRequest, clean_email, fold
from lodim.catalog.digest.rows import Letter, Subscriber, read_subscribers
from lodim.catalog.digest.suppression import Suppression, scrub
from lodim.catalog.digest.tokens import derive_token, digest_of_token, new_seed
from lodim.catalog.feed.records import stamp
from lodim.catalog.feed.statements import run
from lodim.catalog.feed.store import LONG, PAPERS, RECORDS, Store

__all__ = ["Subscribers"]

CONFIRM_WITHIN = timedelta(hours=48)
PENDING_FOR = timedelta(days=7)
DEAD_LINKS_FOR = timedelta(days=30)  # so long a page can say why a link does not work
LEASE = timedelta(minutes=15)
SOFT_STRIKES = 3

_TIDY = (
    "DELETE FROM subscriber WHERE confirmed_at IS NULL AND requested_at < :week",
    "DELETE FROM outgoing WHERE queued_at < :week",
    "DELETE FROM token WHERE purpose = 'confirm' AND created_at < :month",
)


class Subscribers(Links):
    """The subscribers of a database; what the links in their mails do is in :class:`~lodim.catalog.digest.links.Links`.

    ``now`` returns the time, with a time zone. Links are made with the secret, see :mod:`lodim.catalog.digest.tokens`;
    one of less than 32 bytes raises a ValueError, as does, in every method, a text that cannot be an address.
    """

    def __init__(self, store: Store, *, now: Callable[[], datetime], secret: bytes) -> None:
        super().__init__(store, now=now, secret=secret)
        self._suppression = Suppression(store)

    def subscribe(self, request: SubscriptionRequest, *, source: str = "web form") -> None:
        """Take a request; what comes of it is told by mail to the address and by nothing else.

        An unknown address becomes pending, and a letter to confirm is queued; one that is confirmed is told so, at
        most once in 24 hours; one that is suppressed stays as it is. No address gets more than three letters in 24
        hours, however its case is varied.
        """
        seed, salt, now = new_seed(), new_seed(), self.now()
        values = {
            "email": request.email,
            "folded": fold(request.email),
            "suppressed": self._suppression.digest(request.email),
            "frequency": request.preferences.frequency,
            "areas": json.dumps(request.preferences.areas),
            "time_zone": request.preferences.time_zone,
            "wanted": request.preferences.pack(source=source, text=CONSENT),
            "seed": seed,
            "salt": salt,
            "digest": digest_of_token(derive_token(self.secret, "confirm", seed)),
            "link": digest_of_token(derive_token(self.secret, "unsubscribe", salt)),
            "now": now,
            "day_ago": self.later(-letters.DAY),
        }
        self.renew_links()
        with self.store.writing(patience=LONG) as connection:
            for statement in letters.REQUEST:
                run(connection, statement, **values)

    def renew_link(self, email: str) -> bool:
        """Give a subscriber a new link to unsubscribe, make all earlier ones invalid, and tell whether there is such a
        subscriber.
        """
        salt, now = new_seed(), self.now()
        with self.store.writing(patience=LONG) as connection:
            found = self._by_email(connection, email)
            if found is None:
                return False
            values = {
                "id": found.id,
                "salt": salt,
                "now": now,
                "digest": digest_of_token(derive_token(self.secret, "unsubscribe", salt)),
            }
            for statement in (
                "UPDATE token SET revoked_at = :now WHERE subscriber_id = :id AND purpose = 'unsubscribe'",
                "UPDATE subscriber SET salt = :salt WHERE id = :id",
                "INSERT INTO token (digest, subscriber_id, purpose, created_at) "
                "VALUES (:digest, :id, 'unsubscribe', :now)",
            ):
                run(connection, statement, **values)
        return True

    # ---------------------------------------------------------------- lists

    def active(self) -> tuple[Subscriber, ...]:
        """Return those who receive the digest."""
        return self.all("confirmed")

    def all(self, state: str | None = None) -> tuple[Subscriber, ...]:
        """Return all subscribers, or those that are ``pending``, ``confirmed``, ``cancelled`` or ``suppressed``."""
        self.renew_links()
        with self.store.reading() as connection:
            if state is None:
                return tuple(read_subscribers(connection, self.secret))
            return tuple(read_subscribers(connection, self.secret, "WHERE state = :state", state=state))

    def get(self, subscriber_id: int) -> Subscriber | None:
        """Return a subscriber by number, or None."""
        with self.store.reading() as connection:
            return self._subscriber(connection, subscriber_id)

    def by_email(self, email: str) -> Subscriber | None:
        """Return a subscriber by address, or None."""
        with self.store.reading() as connection:
            return self._by_email(connection, email)

    def _by_email(self, connection: sa.Connection, email: str) -> Subscriber | None:
        rows = read_subscribers(connection, self.secret, "WHERE email = :email", email=clean_email(email))
        return next(rows, None)

    # ---------------------------------------------------------------- letters about the subscription

    def pending_mails(self, most: int = 50) -> tuple[Letter, ...]:
        """Claim letters that are to be sent now; nobody else gets them for 15 minutes."""
        self.renew_links()
        with self.store.writing(patience=LONG) as connection:
            return letters.claim(
                connection,
                self.secret,
                now=self.now(),
                lease=self.later(LEASE),
                expires=self.later(CONFIRM_WITHIN),
                most=most,
            )

    def mail_sent(self, letter: Letter) -> None:
        """Note that a letter was taken by the mail server."""
        with self.store.writing(patience=letters.REPORT_WITHIN) as connection:
            letters.finish(connection, letter.id, "sent")

    def mail_failed(self, letter: Letter, retry_at: datetime | None = None) -> None:
        """Note that a letter was not taken; it waits again until ``retry_at``, or is given up if that is None."""
        with self.store.writing(patience=letters.REPORT_WITHIN) as connection:
            if retry_at is None:
                letters.finish(connection, letter.id, "failed")
            else:
                letters.finish(connection, letter.id, "queued", stamp(retry_at))

    # ---------------------------------------------------------------- mail that does not arrive

    def strike(self, subscriber_id: int, kind: str) -> bool:
        """Note that a mail did not arrive; tell whether the address is written to no more. ``hard``: the server says
        that it never will, which suppresses at once; ``soft``: the mailbox is full, which suppresses at the third in a
        row.
        """
        if kind not in ("hard", "soft"):
            raise ValueError(f"kind must be 'hard' or 'soft', got {kind!r}")
        with self.store.writing(patience=LONG) as connection:
            run(
                connection,
                "UPDATE subscriber SET soft_strikes = soft_strikes + 1 WHERE id = :id",
                id=subscriber_id,
            )
            found = run(
                connection, "SELECT email, soft_strikes FROM subscriber WHERE id = :id", id=subscriber_id
            ).one_or_none()
            if found is None:
                return True
            if kind == "soft" and found.soft_strikes < SOFT_STRIKES:
                return False
            self._suppress(connection, subscriber_id, found.email, "bounced")
            return True

    def arrived(self, subscriber_id: int) -> None:
        """Note that a mail was taken, which ends a row of soft strikes."""
        with self.store.writing(patience=LONG) as connection:
            run(
                connection,
                "UPDATE subscriber SET soft_strikes = 0 WHERE id = :id AND soft_strikes > 0",
                id=subscriber_id,
            )

    def suppress(self, email: str) -> None:
        """Never write to an address again, whether or not it has subscribed; the operator's wish."""
        address = clean_email(email)
        with self.store.writing(patience=LONG) as connection:
            self._suppression.add(connection, address, "asked", self.now())
            rows = run(connection, "SELECT id FROM subscriber WHERE folded = :folded", folded=fold(address))
            for (subscriber_id,) in rows.all():
                self._suppress(connection, subscriber_id, address, "asked")

    def _suppress(self, connection: sa.Connection, subscriber_id: int, email: str, reason: str) -> None:
        now = self.now()
        self._suppression.add(connection, email, reason, now)
        run(connection, "UPDATE subscriber SET state = 'suppressed' WHERE id = :id", id=subscriber_id)
        letters.drop(connection, subscriber_id, now)

    def suppressed(self, email: str) -> str | None:
        """Return why an address is never written to: ``erased``, ``bounced`` or ``asked``; None if it may be."""
        with self.store.reading() as connection:
            return self._suppression.reason(connection, clean_email(email))

    def lift(self, email: str) -> bool:
        """Let an address subscribe again, and tell whether it was suppressed; it has to confirm anew."""
        address = clean_email(email)
        with self.store.writing(patience=LONG) as connection:
            run(
                connection,
                "UPDATE subscriber SET state = 'cancelled', cancelled_at = :now, confirmed_at = NULL "
                "WHERE folded = :folded AND state = 'suppressed'",
                now=self.now(),
                folded=fold(address),
            )
            return self._suppression.lift(connection, address)

    # ---------------------------------------------------------------- forgetting

    def forget(self, email: str) -> int:
        """Erase an address, however its case is written, with all that belongs to it, and return how many subscribers
        were deleted; only a salted hash stays, so that it is never written to. After a TimeoutError it is erased, but
        what the file still holds of it could not be overwritten; do it again.
        """
        address = clean_email(email)
        # which papers a subscriber was sent goes, too, and papers that become one move it
        with self.store.writing(PAPERS, RECORDS, patience=LONG) as connection:
            self._suppression.add(connection, address, "erased", self.now())
            deleted = run(
                connection, "DELETE FROM subscriber WHERE folded = :folded", folded=fold(address)
            ).rowcount
        scrub(self.store)
        return int(deleted)

    def tidy(self) -> int:
        """Delete what has served (requests not confirmed within 7 days, old letters, dead links), and return how many
        requests that were never confirmed were deleted.
        """
        spans = {"week": PENDING_FOR, "month": DEAD_LINKS_FOR}
        values = {name: self.later(-span) for name, span in spans.items()}
        with self.store.writing(PAPERS, RECORDS, patience=LONG) as connection:
            gone = [run(connection, statement, **values).rowcount for statement in _TIDY]
        return int(gone[0])
