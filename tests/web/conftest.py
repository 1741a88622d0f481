"""A server in this process with a clock that stands still until it is moved, and papers to show."""

import email
import email.policy
import io
import json
import re
import shutil
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{7*7}}",
    "%0d%0aBcc: a@b.c",
    "' OR 1=1 --",
)


@pytest.fixture(scope="session", autouse=True)
def _no_proxy():
    """Servers of the tests are on this machine: no proxy that the environment names is asked for them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, "127.0.0.1,localhost")
        yield


@pytest.fixture(scope="session", autouse=True)
def _quick():
    """One thread with an event loop for all clients: else each request starts its own. And what is kept of an address
    is hashed in no time: at its real cost, that takes longer than all else.
    """
    try:
        from anyio.from_thread import start_blocking_portal
        from starlette.testclient import TestClient

        from lodim.catalog.digest import suppression
    except ImportError:  # then what needs it is skipped
        yield
        return
    with start_blocking_portal() as portal, pytest.MonkeyPatch.context() as patch:
        patch.setattr(TestClient, "portal", portal)
        patch.setitem(suppression._COST, "n", 2)
        yield


class Clock:
    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now

    def move(self, seconds):
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    """Return a clock that is moved by hand."""
    return Clock()


@pytest.fixture(scope="session")
def daily():
    """Return a function that makes a list of papers as JSON: ``n`` plain ones and any others."""

    def of(n=0, others=()):
        plain = [
            {
                "id": f"2611.{i:05d}",
                "title": f"Subspace number {i}",
                "summary": f"Random projections, case {i}. " * 20,
                "upvotes": i % 7,
                "publishedAt": f"2026-11-{1 + i % 20:02d}T00:00:00Z",
            }
            for i in range(n)
        ]
        return json.dumps([{"paper": paper} for paper in [*plain, *others]])

    return of


@pytest.fixture(scope="session")
def blank(tmp_path_factory):
    """Return a function that puts a catalogue without papers at a place: a copy, since making one takes longer."""
    from lodim.catalog.feed import Catalog

    made = tmp_path_factory.mktemp("blank") / "papers.db"
    Catalog(made, encoder=None).close()
    return lambda place: place if place.exists() else shutil.copy(made, place)


def application(folder, now, blank, papers, **changed):
    """Return the application of a folder, with a list of papers taken in."""
    from lodim.catalog.feed import Catalog
    from lodim.web.app import create_app
    from lodim.web.settings import Settings

    blank(folder / "papers.db")
    catalog = Catalog(folder / "papers.db", encoder=None)
    if papers is not None:
        catalog.ingest(io.StringIO(papers), "json", now=now())
    plain = Settings(data_dir=folder, catalog=folder / "papers.db", evidence=folder / "none", semantic=False)
    return create_app(replace(plain, **changed), catalog=catalog, now=now)


def browser(app, base="http://127.0.0.1", client=("127.0.0.1", 50000)):
    from fastapi.testclient import TestClient

    return TestClient(app, base_url=base, client=client, raise_server_exceptions=False)


@pytest.fixture
def site(tmp_path, clock, blank):
    """Return a function that starts a client of a server with some settings changed."""
    opened = []

    def start(papers=None, base="http://127.0.0.1", client=("127.0.0.1", 50000), **changed):
        opened.append(application(tmp_path, clock, blank, papers, **changed))
        return browser(opened[-1], base, client)

    yield start
    for app in opened:
        app.state.catalog.close()


@pytest.fixture(scope="session")
def library(tmp_path_factory, blank):
    """Return a function that gives a new client of a server with some papers, kept for all tests that only read."""
    from lodim.web.settings import Rate

    kinds = ("search", "paper", "subscribe", "upload", "profile", "run")
    kept, rates = {}, {name: Rate(10**6, 1.0, 10**6) for name in kinds}

    def of(papers=None):
        if papers not in kept:
            folder = tmp_path_factory.mktemp("library")
            kept[papers] = application(folder, Clock(), blank, papers, rates=rates)
        return browser(kept[papers])

    yield of
    for app in kept.values():
        app.state.catalog.close()


@pytest.fixture
def token_of():
    """Return a function that finds the token of a page's form."""
    return lambda page: re.search(r'name="csrf" value="([^"]+)"', page.text)[1]


@pytest.fixture
def first_line():
    """Return a function that waits for the first line of a process: empty if it ends, or is ended, without any."""

    def of(process, seconds=120.0):
        late = threading.Timer(seconds, process.kill)
        late.start()
        try:
            return process.stdout.readline()
        finally:
            late.cancel()

    return of


class Mailbox:
    """Takes every mail, at ``port``."""

    def __init__(self):
        self.mails, self.port = [], 0

    async def handle_DATA(self, server, session, envelope):
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 taken"

    def wait(self, n, seconds=120.0):
        """Return the last of ``n`` mails."""
        late = time.monotonic() + seconds
        while len(self.mails) < n and time.monotonic() < late:
            time.sleep(0.1)
        assert len(self.mails) == n
        return self.mails[-1]


@pytest.fixture
def mailbox():
    """Return what a mail server on this machine takes."""
    controller = pytest.importorskip("aiosmtpd.controller", reason="needs the extra 'test'")

    class Server(controller.Controller):
        def _trigger_server(self):  # which port was free is known only now
            self.port = self.server.sockets[0].getsockname()[1]
            super()._trigger_server()

    box = Mailbox()
    server = Server(box, hostname="127.0.0.1", port=0, ready_timeout=120.0)
    server.start()
    box.port = server.port
    yield box
    server.stop()
