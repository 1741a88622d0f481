"""The daily work beside a server: one thread that looks every few minutes what is due."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from lodim.catalog.digest.post import Post, Report
from lodim.catalog.digest.relay import MailSettings
from lodim.catalog.digest.smtp import without_addresses
from lodim.catalog.digest.subscribers import Subscribers
from lodim.catalog.feed.catalog import Catalog
from lodim.catalog.feed.libraries import optional
from lodim.catalog.feed.store import HURRIED, Store

__all__ = ["Background", "start_scheduler"]

MISFIRE_GRACE = 3600  # seconds by which a job may be late and still run
_log = logging.getLogger("lodim.digest")


class Background:
    """A running scheduler: APScheduler's, with the jobs ``digest`` and ``letters``, which write to the store."""

    def __init__(self, scheduler: Any, store: Store) -> None:
        self.scheduler, self._store = scheduler, store

    def wake(self) -> None:
        """Send the letters that wait now, for example after a request to subscribe."""
        self.scheduler.modify_job("letters", next_run_time=datetime.now(UTC))

    def stop(self, within: int | float = HURRIED) -> None:
        """End after the mail that is being sent. Others who write are waited for so many seconds; what then became of
        the mail is not written down, and it is sent again when its claim is over.
        """
        with self._store.hurry(within):
            self.scheduler.shutdown(wait=True)


def start_scheduler(
    catalog: Catalog,
    mail: MailSettings,
    *,
    secret: bytes,
    now: Callable[[], datetime] | None = None,
    digest_minutes: float = 5.0,
    letter_seconds: float = 15.0,
) -> Background:
    """Send digests and letters from now on, in a thread of this process. Several processes may do so for one catalogue;
    every mail is sent once. Raises an ImportError without the extra ``web``.

    Parameters
    ----------
    catalog, mail : Catalog, MailSettings
        In a file, and with a relay, or else a ValueError is raised.
    secret : bytes
        What links are made with.
    now : callable, optional
        Returns the time that decides what is due, with a time zone.
    digest_minutes, letter_seconds : float
        How often to look.
    """
    if catalog.store.engine.url.database is None:
        raise ValueError("mails are sent for a catalogue in a file; this one is in memory")
    if mail.relay is None:
        raise ValueError("no mail server is named; set LODIM_SMTP_HOST")
    clock = now or (lambda: datetime.now(UTC))
    subscribers = Subscribers(catalog.store, now=clock, secret=secret)
    post = Post(catalog, subscribers, mail, now=clock)
    background = optional("apscheduler.schedulers.background")
    scheduler = background.BackgroundScheduler(
        timezone=UTC,
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": MISFIRE_GRACE},
    )
    begin = datetime.now(UTC)
    jobs = (("digest", post.run, digest_minutes * 60.0), ("letters", post.send_letters, letter_seconds))
    for name, work, seconds in jobs:
        scheduler.add_job(
            _quietly, "interval", args=[name, work], id=name, seconds=seconds, next_run_time=begin
        )
    scheduler.start()
    return Background(scheduler, catalog.store)


def _quietly(name: str, work: Callable[[], Report]) -> None:
    """Do a job; what goes wrong is logged without addresses, and the next run tries again."""
    try:
        report = work()
    except Exception as error:
        _log.error("%s: %s: %s", name, type(error).__name__, without_addresses(str(error)))
        return
    if report != Report():
        _log.info("%s: %s", name, report)
