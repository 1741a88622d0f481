"""While somebody else writes for too long, pages say so with status 503 and when to come back."""

import pytest

pytest.importorskip("fastapi", reason="needs the extra 'web'")
pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")
pytest.importorskip("email_validator", reason="needs the extra 'web'")
pytest.importorskip("httpx", reason="needs the extra 'test'")

from lodim.catalog.digest import letters, links, subscribers, suppression
from lodim.catalog.feed import ingest
from lodim.catalog.feed.store import Store

TOKEN = "A" * 43


@pytest.fixture
def busy(site, tmp_path, monkeypatch):
    """Return a client and another writer's store; nobody waits for long."""
    for module in (letters, links, subscribers, suppression, ingest):
        monkeypatch.setattr(module, "LONG", 0.05)
    client = site()
    other = Store(tmp_path / "papers.db")
    yield client, other
    other.close()


def refused(answer):
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "15"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Busy at the moment" in answer.text
    assert "written to by somebody else" in answer.text


def test_a_wish_that_cannot_be_written_down_in_time(busy, token_of):
    client, other = busy
    csrf = token_of(client.get("/subscribe"))
    asked = {"csrf": csrf, "email": "ann@example.org", "frequency": "daily", "time_zone": "UTC"}
    with other.writing():
        refused(client.get(f"/confirm/{TOKEN}"))  # the first use of the links writes
        refused(client.post("/subscribe", data=asked))
        refused(client.post(f"/u/{TOKEN}", data={"List-Unsubscribe": "One-Click"}))
    assert client.post("/subscribe", data=asked).status_code == 200
    assert client.get(f"/confirm/{TOKEN}").status_code == 404
    assert client.post(f"/u/{TOKEN}", data={"List-Unsubscribe": "One-Click"}).status_code == 200
    with other.writing():  # links that are unknown change nothing, so they wait for nobody
        assert client.post(f"/u/{TOKEN}", data={"List-Unsubscribe": "One-Click"}).status_code == 200
        assert client.post("/u/malformed").status_code == 404
        assert client.post(f"/confirm/{TOKEN}", data={"csrf": csrf}).status_code == 404
        assert client.get("/").status_code == 200  # who reads never waits


def test_a_list_that_cannot_be_taken_in(busy, token_of):
    client, other = busy
    sent = {"csrf": token_of(client.get("/ingest")), "text": "title,abstract\nA,b\n", "format": "csv"}
    with other.writing("papers"):
        refused(client.post("/ingest", data=sent))
    assert "1 added" in client.post("/ingest", data=sent).text or client.get("/healthz").json()["papers"] == 1


@pytest.mark.parametrize(
    ("error", "said"), [(TimeoutError, "written to by somebody"), (ConnectionError, "cannot be reached")]
)
def test_the_api_answers_in_json_and_the_log_says_why(site, daily, monkeypatch, caplog, error, said):
    client = site(daily(2))

    def broken(*_, **__):
        raise error("postgresql://host/name is away")

    monkeypatch.setattr(client.app.state.catalog, "search", broken)
    answer = client.get("/api/v1/search?q=x")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert said in answer.json()["error"]
    assert "host" not in answer.text
    assert "postgresql://host/name is away" in caplog.text
    assert client.get("/search?q=x").status_code == 503


def test_new_papers_get_vectors_while_the_server_runs(tmp_path, monkeypatch):
    import io
    import time

    import numpy as np
    from fastapi.testclient import TestClient

    from lodim.catalog.feed import Catalog
    from lodim.web import app as app_module
    from lodim.web.settings import Settings

    class Ones:
        name, dim = "ones", 1

        def encode(self, texts):
            return np.ones((len(texts), 1), dtype=np.float32)

    class Ready:
        state, mode, said = "ready", "auto", "search by words and meaning"

        def start(self, then):
            then()

    monkeypatch.setattr(app_module, "Meaning", Ready)
    with Catalog(tmp_path / "papers.db", encoder=Ones()) as papers:
        papers.ingest(io.StringIO("title,abstract\nA net,b\nB net,c"), "csv")
        papers.embed(1)
        assert papers.search("net").formula == "found by words and meaning; 1 of 2 papers by words only"
        settings = Settings(data_dir=tmp_path, catalog=tmp_path / "papers.db", evidence=tmp_path / "none")
        with TestClient(app_module.create_app(settings, catalog=papers), base_url="http://127.0.0.1"):
            end = time.monotonic() + 20
            while papers.search("net").formula != "found by words and meaning":
                assert time.monotonic() < end
                time.sleep(0.02)


def test_the_page_says_how_many_papers_meaning_knows():
    from types import SimpleNamespace

    from lodim.web.pages import _way

    methods = SimpleNamespace(mode="hybrid")
    said = "search by words and meaning"
    page = SimpleNamespace(formula="found by words and meaning; 3 of 9 papers by words only")
    assert _way(said, methods, page) == "search by words and meaning; 3 of 9 papers by words only"
    page = SimpleNamespace(formula="found by words and meaning")
    assert _way(said, methods, page) == said
    page = SimpleNamespace(formula="found by words")
    assert _way(said, methods, page).endswith("papers by words only, as they have no vectors yet")
