"""The letters about subscriptions themselves: queued by a request, sent by whoever sends the digest.

A letter is claimed by moving the time at which it is due, so that a second sender leaves it alone until that lease is
over and takes it up if the first has died.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import sqlalchemy as sa

from lodim.catalog.digest.requests import Preferences
from lodim.catalog.digest.rows import Letter, read_subscribers
from lodim.catalog.digest.tokens import derive_token, digest_of_token
from lodim.catalog.feed.statements import run
from lodim.catalog.feed.store import LONG, Store

__all__ = ["DAY", "MOST_A_DAY", "REPORT_WITHIN", "REQUEST", "claim", "drop", "finish", "renew_links"]

DAY = timedelta(days=1)
REPORT_WITHIN = 300.0  # seconds that a report waits for the database; letters are claimed for 15 minutes
MOST_A_DAY = 3
_SECRET = "link_secret"  # under which its hash is noted
_ALLOWED = "NOT EXISTS (SELECT 1 FROM suppression WHERE digest = :suppressed)"

# run for every request, whatever the address; what they change is decided in them
REQUEST: Sequence[str] = (
    "INSERT INTO subscriber "
    "(email, folded, state, frequency, areas, time_zone, salt, created_at, requested_at) "
    f"SELECT :email, :folded, 'pending', :frequency, :areas, :time_zone, :salt, :now, :now WHERE {_ALLOWED} "
    "ON CONFLICT (email) DO UPDATE SET requested_at = excluded.requested_at",
    "INSERT INTO token (digest, subscriber_id, purpose, created_at) "
    "SELECT :link, id, 'unsubscribe', :now FROM subscriber WHERE salt = :salt",
    "INSERT INTO outgoing (subscriber_id, kind, state, seed, digest, queued_at, due_at, attempts) "
    "SELECT id, CASE WHEN state = 'confirmed' THEN 'already' ELSE 'confirm' END, 'queued', :seed, :digest, "
    f":now, :now, 0 FROM subscriber WHERE email = :email AND {_ALLOWED} "
    "AND (SELECT count(*) FROM outgoing JOIN subscriber AS same ON same.id = outgoing.subscriber_id "
    f"WHERE same.folded = :folded AND outgoing.queued_at > :day_ago) < {MOST_A_DAY} "
    "AND (state <> 'confirmed' OR NOT EXISTS (SELECT 1 FROM outgoing "
    "WHERE subscriber_id = subscriber.id AND kind = 'already' AND queued_at > :day_ago))",
    "INSERT INTO token (digest, subscriber_id, purpose, wanted, created_at) "
    "SELECT digest, subscriber_id, 'confirm', :wanted, :now FROM outgoing "
    "WHERE digest = :digest AND kind = 'confirm'",
)

_DUE = "state = 'queued' AND due_at <= :now"
_CLAIM = (
    f"UPDATE outgoing SET due_at = :lease, attempts = attempts + 1 WHERE {_DUE} AND id IN "
    f"(SELECT id FROM outgoing WHERE {_DUE} ORDER BY due_at, id LIMIT :most) "
    "RETURNING id, subscriber_id, kind, seed, digest, queued_at, attempts"
)
_START = (
    "UPDATE token SET expires_at = coalesce(expires_at, :expires) WHERE digest = :digest "
    "RETURNING wanted, expires_at"
)


def claim(
    connection: sa.Connection, secret: bytes, *, now: str, lease: str, expires: str, most: int
) -> tuple[Letter, ...]:
    """Take letters that are due. The claim ends at ``lease``, the links in letters begun now at ``expires``: the time
    to confirm runs from the first attempt.
    """
    rows = run(connection, _CLAIM, now=now, lease=lease, most=most).all()
    found = []
    for row in sorted(rows, key=lambda row: row.id):
        (subscriber,) = read_subscribers(
            connection, secret, "WHERE subscriber.id = :id", id=row.subscriber_id
        )
        preferences, token, ends = subscriber.preferences, None, None
        if row.kind == "confirm":
            started = run(connection, _START, digest=row.digest, expires=expires).one()
            preferences, ends = Preferences.unpack(started.wanted), started.expires_at
            token = derive_token(secret, "confirm", row.seed)
        found.append(
            Letter(row.id, row.kind, subscriber, preferences, token, ends, row.queued_at, row.attempts)
        )
    return tuple(found)


def finish(connection: sa.Connection, letter_id: int, state: str, due_at: str | None = None) -> None:
    """Write down what became of a letter that was claimed: ``sent``, ``failed``, or ``queued``, to be tried again at
    ``due_at``.
    """
    run(
        connection,
        "UPDATE outgoing SET state = :state, due_at = coalesce(:due, due_at), "
        "seed = CASE WHEN :state = 'queued' THEN seed END WHERE id = :id AND state = 'queued'",
        id=letter_id,
        state=state,
        due=due_at,
    )


def drop(connection: sa.Connection, subscriber_id: int, now: str) -> None:
    """Send no letter that waits, and let no link in one sent confirm anything."""
    values = {"id": subscriber_id, "now": now}
    run(
        connection,
        "UPDATE outgoing SET state = 'dropped', seed = NULL WHERE subscriber_id = :id AND state = 'queued'",
        **values,
    )
    run(
        connection,
        "UPDATE token SET revoked_at = :now WHERE subscriber_id = :id AND purpose = 'confirm' "
        "AND used_at IS NULL AND revoked_at IS NULL",
        **values,
    )


def renew_links(store: Store, secret: bytes, now: str) -> None:
    """Make the links of a secret that is new here valid; those made with an earlier one stay so."""
    mark = digest_of_token(derive_token(secret, "mark", ""))
    with store.reading() as connection:
        if store.get_meta(connection, _SECRET) == mark:
            return
    with store.writing(patience=LONG) as connection:
        store.set_meta(connection, _SECRET, mark)
        for subscriber_id, salt in run(connection, "SELECT id, salt FROM subscriber").all():
            run(
                connection,
                "INSERT INTO token (digest, subscriber_id, purpose, created_at) "
                "VALUES (:digest, :id, 'unsubscribe', :now) ON CONFLICT (digest) DO NOTHING",
                digest=_digest(secret, "unsubscribe", salt),
                id=subscriber_id,
                now=now,
            )
        waiting = run(
            connection, "SELECT id, seed, digest FROM outgoing WHERE state = 'queued' AND kind = 'confirm'"
        ).all()
        for letter_id, seed, old in waiting:
            new = _digest(secret, "confirm", seed)
            run(connection, "UPDATE outgoing SET digest = :new WHERE id = :id", new=new, id=letter_id)
            run(connection, "UPDATE token SET digest = :new WHERE digest = :old", new=new, old=old)


def _digest(secret: bytes, purpose: str, seed: str) -> str:
    return digest_of_token(derive_token(secret, purpose, seed))
