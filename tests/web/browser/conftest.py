"""A real server on this machine and a real browser before it."""

from __future__ import annotations

import io
import json
import shutil
import threading
import time

import pytest

PATIENCE = 90_000  # milliseconds: a busy machine
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}"
DAY = "2026-11-20T09:00:00.000Z"
PAPERS = [
    ("1804.08838", "Measuring the Intrinsic Dimension of Objective Landscapes", "Networks in random subspaces."),
    ("2208.09392", "Cold Diffusion", "Blur and other changes in place of noise, where $a<b$ and $x>y$. " * 12),
    ("2611.00001", f"Neurons {EVIL}", f"An abstract {EVIL}"),
    ("2611.00002", "A" * 60 + " one very long word in a title", "https://example.org/" + "a" * 200),
]  # fmt: skip


class Site:
    """What the tests ask of the server."""

    def __init__(self, url, settings):
        self.url, self.settings = url, settings


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    for library in ("fastapi", "uvicorn", "jinja2", "sqlalchemy", "itsdangerous", "multipart"):
        pytest.importorskip(library)
    from lodim.catalog.feed import Catalog
    from lodim.web.serving import serve
    from lodim.web.settings import RATES, Rate, Settings

    folder = tmp_path_factory.mktemp("site")
    entries = [
        {
            "paper": {"id": id, "title": title, "summary": text, "authors": [{"name": "Ada L."}], "upvotes": 9 - n,
                      "publishedAt": DAY},
            "publishedAt": DAY, "title": title, "numComments": n,
        }
        for n, (id, title, text) in enumerate(PAPERS)
    ]  # fmt: skip
    with Catalog(folder / "papers.db", None) as catalog:
        report = catalog.ingest(io.StringIO(json.dumps(entries)), "json", name="test")
        assert report.added == len(PAPERS), str(report)
    settings = Settings(
        port=0,
        secret=b"s" * 32,
        catalog=folder / "papers.db",
        data_dir=folder / "data",
        evidence=folder / "evidence",
        allow_run=True,
        semantic=False,
        rates={name: Rate(10_000, 60.0, 10_000) for name in RATES},
    )
    said, servers = [], []
    thread = threading.Thread(
        target=serve, args=(settings,), kwargs={"tell": said.append, "started": servers.append}, daemon=True
    )
    thread.start()
    late = time.monotonic() + 120
    while not (said and servers and servers[0].started):
        assert time.monotonic() < late, "the server did not start"
        time.sleep(0.02)
    yield Site(said[0], settings)
    servers[0].should_exit = True
    thread.join(120)
    assert not thread.is_alive()


@pytest.fixture(scope="module")  # while it is open, an event loop runs in the thread of the tests
def chromium():
    playwright = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no chromium on this machine")
    playwright.expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"], timeout=2 * PATIENCE)
        yield browser
        browser.close()


class Visit:
    """A browser window that writes down what it must not do."""

    def __init__(self, browser, site, **options):
        self.site, self.wrong, self.status = site, [], 0
        self.context = browser.new_context(base_url=site.url, **options)
        self.context.add_init_script(
            "window.violations = []; document.addEventListener('securitypolicyviolation',"
            " e => window.violations.push(e.violatedDirective + ' ' + e.blockedURI));"
        )
        self.context.on("request", self._request)
        self.page = self.context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        self.page.on("dialog", lambda dialog: (self.wrong.append("a dialog opened"), dialog.dismiss()))

    def _request(self, request):
        if not request.url.startswith((self.site.url, "data:", "blob:")):
            self.wrong.append(f"request to {request.url}")

    def _console(self, message):
        if message.type == "error" and "status of 4" not in message.text:
            self.wrong.append(f"console: {message.text}")

    def go(self, path):
        self.status = self.page.goto(path).status
        return self.page

    def check(self):
        """Nothing went wrong so far, on any page."""
        assert self.wrong == []


@pytest.fixture
def visit(chromium, site):
    made = []

    def make(**options):
        made.append(Visit(chromium, site, **options))
        made[-1].page.set_default_timeout(PATIENCE)
        return made[-1]

    yield make
    for one in made:
        one.context.close()
