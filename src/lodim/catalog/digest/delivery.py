"""Every digest is sent once: its row, and who may send it.

=============  ==========================================  =====================
state          is left by                                  to
=============  ==========================================  =====================
(no row)       the period is due: something is new         ``queued``
..             nothing is new                              ``empty``
``queued``     a sender claims it                          ``sending``
``retry``      a sender claims it, from ``next_at`` on     ``sending``
``sending``    the server took it                          ``sent``
..             tried again in 5 min, 30 min, 4 h           ``retry``
..             refused, tried four times, or left           ``failed``
..             15 min pass: the sender died; another one   ``sending``
=============  ==========================================  =====================

* There is one row for a subscriber and a period, and at most one of a subscriber that is not over: the database says
  so, whatever processes run.
* A claim is one conditional UPDATE, so that of several senders one has it. What a sender reports counts only while the
  claim is still its own.
* All texts of the mail are fixed when it is queued, with date and identifier; what is sent again is the same, byte for
  byte.
* The papers of a mail are noted as sent in the transaction that notes the mail as sent.
* Who reports a mail that went out waits for the database nearly as long as the claim lasts: giving up sooner would
  only send it again.

So a crash loses no mail and sends no other one: at worst, between the server's 250 and our commit, the same mail goes
out a second time, which mail programs recognise by its identifier.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from lodim.catalog.digest.content import Digest
from lodim.catalog.digest.mail import Texts
from lodim.catalog.digest.smtp import Outcome
from lodim.catalog.feed.records import stamp
from lodim.catalog.feed.statements import run
from lodim.catalog.feed.store import LONG, PAPERS, RECORDS, Store

__all__ = ["LEASE", "REPORT_WITHIN", "WAITS", "Deliveries", "Delivery"]

LEASE = timedelta(minutes=15)
MOST_ATTEMPTS = 8  # counts senders that died, too
REPORT_WITHIN = 600.0  # seconds; a claim is younger than five minutes when its mail has gone out
WAITS = (timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=4))
_OPEN = "state IN ('queued', 'sending', 'retry')"
_DUE = f"{_OPEN} AND next_at <= :now"


@dataclass(frozen=True)
class Delivery:
    """A mail that this process has claimed; ``attempts`` counts this one too."""

    id: int
    subscriber: int
    period: str
    attempts: int
    papers: tuple[int, ...]
    texts: Texts = field(repr=False)


class Deliveries:
    """The digests of a database."""

    def __init__(self, store: Store, *, now: Callable[[], datetime]) -> None:
        self.store, self._now = store, now
        self.owner = secrets.token_hex(16)

    def last(self, connection: sa.Connection) -> dict[int, str]:
        """Return up to when the news were told, by subscriber."""
        rows = run(
            connection,
            "SELECT subscriber_id, max(until) FROM delivery WHERE state IN ('sent', 'empty') GROUP BY 1",
        )
        return dict(rows.tuples().all())

    def known(self, connection: sa.Connection, periods: tuple[str, ...]) -> set[tuple[int, str]]:
        """Return subscriber and period of the digests that were made for some periods."""
        statement = "SELECT subscriber_id, period_key FROM delivery WHERE period_key IN :periods"
        rows = run(connection, statement, periods=periods)
        return {(subscriber, period) for subscriber, period in rows}

    def unfinished(self, connection: sa.Connection) -> set[int]:
        """Return the subscribers who have a mail that is not over."""
        return set(run(connection, f"SELECT subscriber_id FROM delivery WHERE {_OPEN}").scalars())

    def queue(self, subscriber: int, period: str, digest: Digest, texts: Texts | None) -> bool:
        """Make the digest of a period (texts of None: nothing is new), and tell whether it was this call that did: not
        if there is one already, if another mail to the subscriber is under way, or if one was sent since the digest was
        put together.
        """
        now = stamp(self._now())
        values = {
            "subscriber": subscriber,
            "period": period,
            "state": "empty" if texts is None else "queued",
            "since": digest.since,
            "until": digest.until,
            "papers": json.dumps(digest.papers),
            "content": None if texts is None else texts.to_json(indent=None),
            "now": now,
            "ended": now if texts is None else None,
        }
        with self.store.writing(patience=LONG) as connection:
            made = run(
                connection,
                "INSERT INTO delivery (subscriber_id, period_key, state, until, papers, content, attempts, "
                "next_at, queued_at, ended_at) "
                "SELECT :subscriber, :period, :state, :until, :papers, :content, 0, :now, :now, :ended "
                "WHERE NOT EXISTS (SELECT 1 FROM delivery WHERE subscriber_id = :subscriber "
                f"AND ({_OPEN} OR (state IN ('sent', 'empty') AND until > :since))) "
                "AND EXISTS (SELECT 1 FROM subscriber WHERE id = :subscriber AND state = 'confirmed') "
                "ON CONFLICT DO NOTHING",
                **values,
            )
            return made.rowcount == 1

    def n_due(self) -> int:
        """Return how many mails wait to be sent now."""
        with self.store.reading() as connection:
            return int(
                run(connection, f"SELECT count(*) FROM delivery WHERE {_DUE}", **self._time()).scalar_one()
            )

    def claim(self) -> Delivery | None:
        """Take one mail that is due; nobody else gets it for 15 minutes. None if there is none. One whose subscriber
        has left meanwhile is given up.
        """
        columns = "delivery.id, subscriber_id, period_key, papers, content, attempts, subscriber.state"
        due = _DUE.replace("state", "delivery.state", 1)
        select = (
            f"SELECT {columns} FROM delivery JOIN subscriber ON subscriber.id = subscriber_id WHERE {due} "
            "ORDER BY next_at, delivery.id LIMIT 1"
        )
        while True:
            with self.store.writing(patience=LONG) as connection:
                row = run(connection, select, **self._time()).one_or_none()
                if row is None:
                    return None
                hopeless = "the subscriber has left" if row.state != "confirmed" else None
                if row.attempts >= MOST_ATTEMPTS:
                    hopeless = "every sender died over it"
                if hopeless is not None:
                    self._end(connection, row.id, "failed", hopeless)
                    continue
                if self._take(connection, row.id):
                    texts = Texts.from_json(row.content)
                    papers = tuple(json.loads(row.papers))
                    return Delivery(
                        row.id, row.subscriber_id, row.period_key, row.attempts + 1, papers, texts
                    )

    def _take(self, connection: sa.Connection, delivery: int) -> bool:
        taken = run(
            connection,
            "UPDATE delivery SET state = 'sending', attempts = attempts + 1, next_at = :lease, owner = :owner "
            f"WHERE id = :id AND {_DUE}",
            id=delivery,
            owner=self.owner,
            lease=stamp(self._now() + LEASE),
            **self._time(),
        )
        return taken.rowcount == 1

    def finish(self, delivery: Delivery, outcome: Outcome) -> str | None:
        """Write down what became of a claimed mail, and return its new state; None if the claim had ended and another
        process has taken it over.
        """
        waits = outcome.state in ("soft", "full") and delivery.attempts <= len(WAITS)
        state = "sent" if outcome.state == "sent" else "retry" if waits else "failed"
        noting = state == "sent" and delivery.papers  # which refers to papers, so that nobody may change them
        return self.store.run(
            lambda connection: self._report(connection, delivery, state, outcome.said),
            *((PAPERS, RECORDS) if noting else (RECORDS,)),
            patience=REPORT_WITHIN,
        )

    def _report(self, connection: sa.Connection, delivery: Delivery, state: str, said: str) -> str | None:
        """Note the new state of a mail and its papers; None if it is no longer ours."""
        mine = run(
            connection,
            "SELECT 1 FROM delivery WHERE id = :id AND owner = :owner AND state = 'sending'",
            id=delivery.id,
            owner=self.owner,
        ).scalar()
        if mine is None:
            return None
        if state == "retry":
            again = stamp(self._now() + WAITS[delivery.attempts - 1])
            run(
                connection,
                "UPDATE delivery SET state = 'retry', next_at = :again, owner = NULL, said = :said "
                "WHERE id = :id",
                id=delivery.id,
                again=again,
                said=said,
            )
            return state
        self._end(connection, delivery.id, state, said)
        if state == "sent" and delivery.papers:
            connection.execute(
                sa.text(
                    "INSERT INTO sent_item (subscriber_id, paper_id, sent_at) "
                    "SELECT :subscriber, id, :now FROM paper WHERE id = :paper ON CONFLICT DO NOTHING"
                ),
                [{"subscriber": delivery.subscriber, "paper": i} | self._time() for i in delivery.papers],
            )
        return state

    def _end(self, connection: sa.Connection, delivery: int, state: str, said: str) -> None:
        run(
            connection,
            "UPDATE delivery SET state = :state, said = :said, content = NULL, owner = NULL, ended_at = :now "
            "WHERE id = :id",
            id=delivery,
            state=state,
            said=said,
            **self._time(),
        )

    def _time(self) -> dict[str, Any]:
        return {"now": stamp(self._now())}

    # ---------------------------------------------------------------- one sender at a time

    def hold(self, name: str) -> bool:
        """Take or prolong a lease on a job for 15 minutes; False if another process has it."""
        values = {"name": name, "owner": self.owner, "until": stamp(self._now() + LEASE)} | self._time()
        with self.store.writing(patience=LONG) as connection:
            held = run(
                connection,
                "INSERT INTO job_lease (name, owner, until) VALUES (:name, :owner, :until) "
                "ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until "
                "WHERE job_lease.owner = excluded.owner OR job_lease.until <= :now",
                **values,
            )
            return held.rowcount == 1

    def prolong(self, name: str) -> None:
        """Let a lease that this process has end in 15 minutes."""
        values = {"name": name, "owner": self.owner, "until": stamp(self._now() + LEASE)}
        with self.store.writing(patience=LONG) as connection:
            run(
                connection,
                "UPDATE job_lease SET until = :until WHERE name = :name AND owner = :owner",
                **values,
            )

    def release(self, name: str) -> None:
        """Give a lease back."""
        with self.store.writing(patience=LONG) as connection:
            run(
                connection,
                "DELETE FROM job_lease WHERE name = :name AND owner = :owner",
                name=name,
                owner=self.owner,
            )
