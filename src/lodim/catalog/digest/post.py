"""The daily work: put digests together, send what is due, send the letters about subscriptions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from email.errors import MessageError
from itertools import islice
from pathlib import Path

from lodim.catalog.digest.changes import record_states
from lodim.catalog.digest.content import Digest, News
from lodim.catalog.digest.delivery import WAITS, Deliveries, Delivery
from lodim.catalog.digest.mail import Texts, area_name, digest_texts, letter_texts, make_message
from lodim.catalog.digest.relay import MailSettings
from lodim.catalog.digest.rows import Letter, Subscriber
from lodim.catalog.digest.schedule import MORNING, day_in_words, due_period, first_since, local_day
from lodim.catalog.digest.smtp import Line, Outcome, RelayError
from lodim.catalog.digest.subscribers import Subscribers
from lodim.catalog.feed.catalog import Catalog
from lodim.catalog.feed.records import stamp, utc
from lodim.catalog.feed.statements import run
from lodim.files import write_whole
from lodim.results import Result

__all__ = ["Post", "Report"]

JOB = "digest"
_AT_ONCE = 100
_LETTERS_AT_ONCE = 5  # claimed together for 15 minutes, so few
_log = logging.getLogger("lodim.digest")


@dataclass(frozen=True)
class Report(Result):
    """What a run did.

    Attributes
    ----------
    queued : int
        Digests made.
    empty : int
        Subscribers for whom the period is due and nothing is new.
    sent, retried, failed : int
        Digests handed to the mail server, to be tried again, given up.
    letters : int
        Letters about subscriptions handed to the mail server.
    suppressed : int
        Addresses that will not be written to again.
    busy : bool
        Whether the digests were left to another process, which is at it.
    problems : tuple of str
        What went wrong beside single mails.
    """

    queued: int = 0
    empty: int = 0
    sent: int = 0
    retried: int = 0
    failed: int = 0
    letters: int = 0
    suppressed: int = 0
    busy: bool = False
    problems: tuple[str, ...] = ()

    def plus(self, **counts: int) -> Report:
        """Return the report with more of some counts."""
        return replace(self, **{name: getattr(self, name) + n for name, n in counts.items()})

    def __str__(self) -> str:
        if self.busy:
            return f"another process is sending the digest; {self.letters} letters sent"
        return (
            f"{self.queued} digests made, {self.empty} without news; {self.sent} sent, {self.retried} to be tried "
            f"again, {self.failed} given up; {self.letters} letters sent; {self.suppressed} addresses suppressed"
        )


class Post:
    """Makes and sends the mails of a catalogue.

    Parameters
    ----------
    now : callable, optional
        Returns the time, with a time zone.
    morning : time
        When digests are due, in local time.
    line : callable, optional
        Makes the connection to the mail server, for tests.
    """

    def __init__(
        self,
        catalog: Catalog,
        subscribers: Subscribers,
        settings: MailSettings,
        *,
        now: Callable[[], datetime] | None = None,
        morning: time = MORNING,
        line: Callable[..., Line] = Line,
    ) -> None:
        self.store, self.constants = catalog.store, catalog.constants
        self.subscribers, self.settings, self.morning = subscribers, settings, morning
        self._now = now or (lambda: datetime.now(UTC))
        self._line = line
        self.deliveries = Deliveries(self.store, now=self._now)

    def run(self) -> Report:
        """Send letters, make the digests that are due and send all that wait, unless another process is at it.

        Raises
        ------
        ValueError
            No mail server is named.
        """
        report = self.send_letters()
        if not self.deliveries.hold(JOB):
            return replace(report, busy=True)
        try:
            return self.send(self.prepare(report))
        finally:
            self.deliveries.release(JOB)

    # ---------------------------------------------------------------- making

    def prepare(self, report: Report | None = None) -> Report:
        """Make the digests that are due and were not made yet."""
        report = report or Report()
        record_states(self.store, stamp(self._now()))
        self.subscribers.tidy()
        for subscriber, period, digest, texts in self.compose():
            if self.deliveries.queue(subscriber.id, period, digest, texts):
                report = report.plus(**{"queued" if texts else "empty": 1})
        return report

    def compose(self) -> Iterator[tuple[Subscriber, str, Digest, Texts | None]]:
        """Give the digests that are due and were not made yet, and change nothing; None as texts if nothing is new."""
        now = self._now()
        news = News(stamp(now), self.constants)
        for group in _groups(self._due(now), _AT_ONCE):
            made = []
            with self.store.reading() as connection:
                last = self.deliveries.last(connection)
                for subscriber, period in group:
                    start = stamp(first_since(subscriber.frequency, utc(subscriber.confirmed_at or "")))
                    digest = news.digest(
                        connection,
                        subscriber.id,
                        areas=subscriber.areas,
                        search=subscriber.query,
                        since=max(start, last.get(subscriber.id, "")),
                    )
                    texts = self._texts(subscriber, period, digest, now) if digest else None
                    made.append((subscriber, period, digest, texts))
            yield from made

    def _due(self, now: datetime) -> list[tuple[Subscriber, str]]:
        """Return whose digest is due and does not exist, with its period."""
        due = []
        for subscriber in self.subscribers.active():
            confirmed = utc(subscriber.confirmed_at or "")
            try:
                period = due_period(
                    subscriber.frequency, subscriber.time_zone, confirmed, now, morning=self.morning
                )
            except (ValueError, KeyError):
                _log.error("subscriber %d has the unknown time zone %r", subscriber.id, subscriber.time_zone)
                continue
            if period is not None:
                due.append((subscriber, period))
        with self.store.reading() as connection:
            known = self.deliveries.known(connection, tuple({period for _, period in due}))
            busy = self.deliveries.unfinished(connection)
        return [(s, period) for s, period in due if (s.id, period) not in known and s.id not in busy]

    def _texts(self, subscriber: Subscriber, period: str, digest: Digest, now: datetime) -> Texts:
        return digest_texts(
            digest,
            self.settings,
            subscriber=subscriber.id,
            frequency=subscriber.frequency,
            time_zone=subscriber.time_zone,
            period=period,
            at=now,
        )

    def write(self, folder: Path) -> list[Path]:
        """Write the digests that are due as files, send nothing and change nothing.

        Parameters
        ----------
        folder : Path
            Made if it does not exist.
        """
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for subscriber, period, _, texts in self.compose():
            if texts is not None:
                path = folder / f"{period}_{subscriber.id}.eml"
                write_whole(path, make_message(texts, subscriber.email, subscriber.unsubscribe))
                written.append(path)
        return written

    # ---------------------------------------------------------------- sending

    def send(self, report: Report | None = None) -> Report:
        """Send the digests that wait; several processes may do this at once."""
        report = report or Report()
        if not self.deliveries.n_due():
            return report
        try:
            with self._connection() as line:
                while not self.store.hurried:
                    line.open()
                    delivery = self.deliveries.claim()
                    if delivery is None:
                        return report
                    outcome = self._send(line, delivery)
                    report = self._ended(delivery, outcome, report)
                    if outcome.stop:
                        raise RelayError(f"the mail server stopped the run: {outcome.said}")
                    self.deliveries.prolong(JOB)
                return report
        except RelayError as error:
            _log.error("%s", error)
            return replace(report, problems=(*report.problems, str(error)))

    def _connection(self) -> Line:
        if self.settings.relay is None:
            raise ValueError(
                "no mail server is named; set LODIM_SMTP_HOST, or write the mails to files: --dry-run DIR"
            )
        return self._line(self.settings.relay)

    def _send(self, line: Line, delivery: Delivery) -> Outcome:
        subscriber = self.subscribers.get(delivery.subscriber)
        if subscriber is None or subscriber.state != "confirmed":
            return Outcome("refused", "the subscriber has left")
        return _hand_over(line, delivery.texts, subscriber)

    def _ended(self, delivery: Delivery, outcome: Outcome, report: Report) -> Report:
        with _owning_up(f"delivery {delivery.id}", outcome):
            state = self.deliveries.finish(delivery, outcome)
        if state is None:
            _log.warning("delivery %d was taken over by another process", delivery.id)
            return report
        if state == "sent":
            self.subscribers.arrived(delivery.subscriber)
            return report.plus(sent=1)
        _log.warning("delivery %d, attempt %d: %s", delivery.id, delivery.attempts, outcome.said)
        if state == "retry":
            return report.plus(retried=1)
        return report.plus(failed=1, suppressed=self._struck(delivery.subscriber, outcome))

    def _struck(self, subscriber: int, outcome: Outcome) -> int:
        """Count a bounce against an address; return 1 if it is written to no more."""
        kind = {"hard": "hard", "full": "soft"}.get(outcome.state)
        return int(kind is not None and self.subscribers.strike(subscriber, kind))

    # ---------------------------------------------------------------- letters about subscriptions

    def send_letters(self, report: Report | None = None) -> Report:
        """Send the letters that wait: to confirm a subscription, and that there is one already."""
        report = report or Report()
        if not self._letters_wait():
            return report
        try:
            with self._connection() as line:
                line.open()
                while not self.store.hurried and (
                    letters := self.subscribers.pending_mails(_LETTERS_AT_ONCE)
                ):
                    for letter in letters:
                        if self.store.hurried:  # another run sends the rest of those claimed
                            break
                        report = self._send_letter(line, letter, report)
        except RelayError as error:
            _log.error("%s", error)
            return replace(report, problems=(*report.problems, str(error)))
        return report

    def _letters_wait(self) -> bool:
        with self.store.reading() as connection:
            waiting = "SELECT 1 FROM outgoing WHERE state = 'queued' AND due_at <= :now LIMIT 1"
            return run(connection, waiting, now=stamp(self._now())).scalar() is not None

    def _send_letter(self, line: Line, letter: Letter, report: Report) -> Report:
        subscriber = letter.subscriber
        outcome = _hand_over(line, self._letter(letter), subscriber)
        if outcome.state == "sent":
            with _owning_up(f"letter {letter.id}", outcome):
                self.subscribers.mail_sent(letter)
            return report.plus(letters=1)
        _log.warning("letter %d, attempt %d: %s", letter.id, letter.attempts, outcome.said)
        again = outcome.state in ("soft", "full") and letter.attempts <= len(WAITS)
        self.subscribers.mail_failed(letter, self._now() + WAITS[letter.attempts - 1] if again else None)
        return report if again else report.plus(suppressed=self._struck(subscriber.id, outcome))

    def _letter(self, letter: Letter) -> Texts:
        """Return the letter's texts, the same at every attempt."""
        wanted, zone = letter.preferences, letter.preferences.time_zone
        lines = [
            f"new papers in {', '.join(map(area_name, wanted.areas))}" if wanted.areas else "",
            f"new papers found by the search: {wanted.query}" if wanted.query else "",
        ]
        rhythm = "on weekdays" if wanted.frequency == "daily" else "on Mondays"
        shown = {
            "wanted": [
                *([*filter(None, lines)] or ["new papers"]),
                f"{rhythm} at {self.morning:%H:%M} ({zone})",
            ],
            "confirm": f"{self.settings.site}/confirm/{letter.token}",
            "until": "",
        }
        if letter.expires_at is not None:
            end = utc(letter.expires_at)
            shown["until"] = f"{end:%H:%M} UTC on {day_in_words(local_day(end, 'UTC'))}"
        return letter_texts(
            letter.kind,
            self.settings,
            subscriber=letter.subscriber.id,
            number=letter.id,
            at=utc(letter.queued_at),
            **shown,
        )


@contextmanager
def _owning_up(mail: str, outcome: Outcome) -> Iterator[None]:
    """Say that a mail will go out twice if it went out and this cannot be written down."""
    try:
        yield
    except Exception:
        if outcome.state == "sent":
            _log.warning("%s was sent, but this was not written down in time: it will be sent again", mail)
        raise


def _hand_over(line: Line, texts: Texts, subscriber: Subscriber) -> Outcome:
    try:
        message = make_message(texts, subscriber.email, subscriber.unsubscribe)
    except (
        ValueError,
        MessageError,
    ) as error:  # an address that no header can hold costs nobody else the mail
        return Outcome("refused", f"{type(error).__name__} in the header")
    return line.send(texts.sender, subscriber.email, message)


def _groups(items: Iterable[tuple[Subscriber, str]], size: int) -> Iterator[list[tuple[Subscriber, str]]]:
    """Give items in lists of a size."""
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group
