"""A mail server on this machine that answers as it is told, a clock, and a site with papers and subscribers."""

import asyncio
import email
import email.policy
import io
import json
import re
import threading
from datetime import UTC, datetime, timedelta

import pytest

SECRET = b"a secret of the site, 32 bytes or more"
SITE = "https://papers.example.org"
SUNDAY = datetime(2026, 11, 22, 12, tzinfo=UTC)
MONDAY = datetime(2026, 11, 23, 7, 30, tzinfo=UTC)


class MailServer:
    """Takes mail on a free port; ``plan`` holds what to answer next, then all is taken."""

    def __init__(self, **options):
        self.plan, self.got, self.sessions, self.offered = [], [], 0, []
        self._options = {"hostname": "test", **options}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(60)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _listen(self):
        return await self._loop.create_server(self._session, "127.0.0.1", 0)

    def _session(self):
        from aiosmtpd.smtp import SMTP

        self.sessions += 1
        return SMTP(self, loop=self._loop, enable_SMTPUTF8=True, **self._options)

    def _next(self, stage):
        """Return the planned answer if it is for this stage of the conversation."""
        if self.plan and self.plan[0][0] == stage:
            return self.plan.pop(0)[1]
        return None

    async def handle_MAIL(self, server, session, envelope, address, options):
        envelope.mail_from = address
        return self._next("mail") or "250 ok"

    async def handle_RCPT(self, server, session, envelope, address, options):
        answer = self._next("rcpt")
        if answer:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server, session, envelope):
        self.offered.append((envelope.rcpt_tos[0], envelope.content))
        answer = self._next("data")
        if answer == "drop":
            server.transport.abort()
            return "250 nobody hears this"
        if answer == "take and drop":
            self.got.append((envelope.rcpt_tos[0], envelope.content))
            server.transport.abort()
            return "250 nobody hears this"
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            return "250 late"
        if answer:
            return answer
        self.got.append((envelope.rcpt_tos[0], envelope.content))
        return "250 taken"

    def to(self, address):
        """Return the mails taken for an address, parsed."""
        return [parse(content) for recipient, content in self.got if recipient == address]

    def close(self):
        if self._loop.is_closed():
            return

        async def end():
            self._server.close()
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()


def parse(content):
    return email.message_from_bytes(content, policy=email.policy.default)


class Clock:
    """A time that moves when told to."""

    def __init__(self, at=SUNDAY):
        self.at = at

    def __call__(self):
        return self.at

    def pass_by(self, **span):
        self.at += timedelta(**span)


class Site:
    """A catalogue in a file, its subscribers and its post."""

    def __init__(self, place, server, clock, **relay):
        from lodim.catalog.digest.post import Post
        from lodim.catalog.digest.relay import MailSettings, Relay
        from lodim.catalog.digest.subscribers import Subscribers
        from lodim.catalog.feed import Catalog

        self.server, self.clock = server, clock
        options = {"port": server.port, "tls": "none", "per_second": 1000, "timeout": 60.0} | relay
        self.settings = MailSettings("Papers <papers@example.org>", SITE, Relay("127.0.0.1", **options))
        self.papers = Catalog(place, encoder=None)
        self.subscribers = Subscribers(self.papers.store, now=clock, secret=SECRET)
        self.post = Post(self.papers, self.subscribers, self.settings, now=clock)

    def join(self, address, frequency="daily", areas=(), query=None, time_zone="UTC"):
        """Subscribe an address by the letter that it gets."""
        from lodim.catalog.digest import read_request

        self.subscribers.subscribe(read_request(address, frequency, areas, query, time_zone))
        assert self.post.send_letters().letters == 1
        return self.confirm(address)

    def confirm(self, address):
        text = self.server.to(address)[-1].get_body(("plain",)).get_content()
        assert self.subscribers.confirm(re.search(r"/confirm/([\w-]+)", text)[1]).outcome == "done"
        return self.subscribers.by_email(address)

    def take(self, *papers, now=None):
        """Take papers in: (number, title, votes) with an optional abstract and date."""
        rows = []
        for number, title, votes, *more in papers:
            abstract, date = (*more, None, None)[:2]
            stamp = date or f"{self.clock.at:%Y-%m-%dT%H:%M:%SZ}"
            rows.append({
                "paper": {
                    "id": f"2611.{number:05d}", "title": title, "summary": abstract or "An abstract.",
                    "upvotes": votes, "publishedAt": stamp, "authors": [{"name": "Zoë Ångström"}],
                }
            })  # fmt: skip
        self.papers.ingest(io.StringIO(json.dumps(rows)), "json", now=now or self.clock.at)

    def rows(self, statement):
        with self.papers.store.reading() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement)]

    def close(self):
        self.papers.close()


@pytest.fixture(scope="session", autouse=True)
def _quick_hashes():
    """What is kept of an address is hashed in no time: at its real cost, that takes longer than all else."""
    suppression = pytest.importorskip("lodim.catalog.digest.suppression", reason="needs the extra 'web'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(suppression._COST, "n", 2)
        yield


@pytest.fixture
def clock():
    """Return a clock on a Sunday noon."""
    return Clock()


@pytest.fixture
def mail_server():
    """Return a mail server that takes everything."""
    pytest.importorskip("aiosmtpd", reason="needs the extra 'test'")
    server = MailServer()
    yield server
    server.close()


@pytest.fixture
def make_server():
    """Return a function that starts mail servers with options of aiosmtpd."""
    pytest.importorskip("aiosmtpd", reason="needs the extra 'test'")
    started = []

    def make(**options):
        started.append(MailServer(**options))
        return started[-1]

    yield make
    for server in started:
        server.close()


@pytest.fixture
def site(tmp_path, mail_server, clock, blank):
    """Return a site without papers or subscribers, on Sunday."""
    made = Site(blank(tmp_path / "papers.db"), mail_server, clock)
    yield made
    made.close()


@pytest.fixture
def make_site():
    """Return a function that opens a site at a place."""
    made = []

    def make(place, server, clock, **relay):
        made.append(Site(place, server, clock, **relay))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def monday():
    """Return a Monday morning when digests are due in UTC."""
    return MONDAY
