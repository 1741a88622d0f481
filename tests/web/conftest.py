"""A server in this process with a clock that stands still until it is moved, and papers to show."""

import email
import email.policy
import io
import json
import re
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


@pytest.fixture
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


@pytest.fixture
def site(tmp_path, clock):
    """Return a function that starts a client of a server with some settings changed."""
    from fastapi.testclient import TestClient

    from lodim.catalog.feed import Catalog
    from lodim.web.app import create_app
    from lodim.web.settings import Settings

    opened = []

    def start(papers=None, base="http://127.0.0.1", client=("127.0.0.1", 50000), **changed):
        catalog = Catalog(tmp_path / "papers.db", encoder=None)
        opened.append(catalog)
        if papers is not None:
            catalog.ingest(io.StringIO(papers), "json", now=clock())
        plain = Settings(
            data_dir=tmp_path, catalog=tmp_path / "papers.db", evidence=tmp_path / "none", semantic=False
        )
        app = create_app(replace(plain, **changed), catalog=catalog, now=clock)
        return TestClient(app, base_url=base, client=client, raise_server_exceptions=False)

    yield start
    for catalog in opened:
        catalog.close()


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
