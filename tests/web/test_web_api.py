"""For programs: JSON, feeds, what caches may keep."""

import json

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("fastapi")
pytest.importorskip("jinja2")
pytest.importorskip("multipart")
pytest.importorskip("itsdangerous")
pytest.importorskip("platformdirs")
pytest.importorskip("httpx")
pytest.importorskip("defusedxml")

from defusedxml import ElementTree as Xml

from lodim.catalog.cards import load_cards

ATOM = "{http://www.w3.org/2005/Atom}"


@pytest.fixture
def shown(library, daily):
    """Return a client of a server with 30 papers that no test changes."""
    return library(daily(30))


def test_papers_page_by_page(shown):
    seen, cursor = [], ""
    while cursor is not None:
        page = shown.get("/api/v1/papers", params={"sort": "top", "limit": 12, "cursor": cursor}).json()
        seen += [paper["id"] for paper in page["papers"]]
        cursor = page["next"]
    assert sorted(seen) == list(range(1, 31))
    assert page["n_matching"] == 30


def test_papers_are_those_of_the_catalogue(shown):
    plain, state = shown.get("/api/v1/papers?sort=new&limit=5").json(), shown.app.state
    assert plain["papers"] == [
        paper.to_dict() for paper in state.catalog.papers("new", limit=5, now=state.now()).papers
    ]
    assert shown.get("/api/v1/papers/2611.00003").json()["arxiv_id"] == "2611.00003"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/api/v1/papers?sort=x", 422), ("/api/v1/papers?sort=similar", 422), ("/api/v1/papers?cursor=abc", 422),
     ("/api/v1/papers/9999", 404), ("/api/v1/methods/none", 404), ("/api/v1/methods?area=none", 422),
     ("/api/v1/claims/none/here", 404), ("/api/v1/none", 404), ("/api/v1/search", 422)],
)  # fmt: skip
def test_errors_are_json(shown, path, status):
    answer = shown.get(path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


def test_methods_and_claims(shown):
    cards = shown.get("/api/v1/methods").json()
    assert cards["n"] == 56
    assert {card["slug"] for card in cards["methods"]} == {card.slug for card in load_cards()}
    one = shown.get("/api/v1/methods/objective-landscapes").json()
    assert one["status"] == "available"
    claims = {claim["name"]: claim["record"] for claim in shown.get("/api/v1/claims").json()["claims"]}
    assert set(one["claims"]) <= set(claims)
    assert shown.get("/api/v1/claims/objective-landscapes/digits").json()["record"]["verdict"] == "holds"


def test_search_finds_methods_and_papers(shown):
    found = shown.get("/api/v1/search?q=subspace&limit=3").json()
    assert len(found["papers"]["papers"]) == 3
    assert found["methods"]["mode"] == "lexical"


def test_the_description_names_every_call_and_the_page_loads_nothing_from_elsewhere(shown):
    described = shown.get("/api/v1/openapi.json").json()
    assert set(described["paths"]) == {
        f"/api/v1/{name}"
        for name in (
            "papers",
            "papers/{key}",
            "methods",
            "methods/{slug}",
            "search",
            "claims",
            "claims/{name}",
        )
    }
    page = shown.get("/api").text
    assert "/api/v1/papers" in page
    assert 'src="http' not in page
    assert shown.get("/docs").status_code == 404


@pytest.mark.parametrize(
    "tail", ["", "?sort=new&since=month", "?area=landscape", "?q=subspace", "?sort=similar&to=projections"]
)
def test_every_list_is_a_feed(shown, tail):
    answer = shown.get(f"/feed.atom{tail}")
    assert answer.headers["content-type"].startswith("application/atom+xml")
    feed = Xml.fromstring(answer.text)
    ids = [entry.find(f"{ATOM}id").text for entry in feed.iter(f"{ATOM}entry")]
    own = next(link.get("href") for link in feed.iter(f"{ATOM}link") if link.get("rel") == "self")
    assert own.startswith("http://127.0.0.1/feed.atom")
    plain = shown.get(f"/feed.json{tail}").json()
    assert [item["id"] for item in plain["items"]] == ids
    assert shown.get(own).text == answer.text


def test_a_json_feed_goes_on(site, daily):
    client = site(daily(70))
    first = client.get("/feed.json?sort=new").json()
    second = client.get(first["next_url"]).json()
    ids = [item["id"] for item in first["items"] + second["items"]]
    assert len(ids) == len(set(ids)) == 70
    assert "next_url" not in second


def test_pages_offer_their_feed(shown):
    assert 'href="/feed.atom?sort=new&amp;since=week"' in shown.get("/?sort=new&since=week").text
    assert 'href="/feed.atom?q=a+b"' in shown.get("/search?q=a+b").text


def test_what_has_not_changed_is_not_sent_again(site, daily, clock):
    client = site(daily(30))
    static = "/static/style.css"
    paths = ("/", "/methods", "/paper/1", "/feed.atom", "/feed.json", "/api/v1/papers", static)
    before = {path: client.get(path) for path in paths}
    clock.move(20)  # within the same minute
    for path, first in before.items():
        again = client.get(path, headers={"if-none-match": first.headers["etag"]})
        assert again.status_code == 304, path
        assert again.content == b""
        assert again.headers["etag"] == first.headers["etag"]
        assert "no-cache" in first.headers["cache-control"]


def test_a_new_paper_changes_the_list(site, daily, clock):
    import io

    shown = site(daily(30))
    first = shown.get("/?sort=new")
    other = [{"id": "2611.99999", "title": "Newest", "summary": "s", "publishedAt": "2026-11-23T11:00:00Z"}]
    shown.app.state.catalog.ingest(io.StringIO(daily(0, other)), "json", now=clock())
    again = shown.get("/?sort=new", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 200
    assert "Newest" in again.text


def test_static_files_are_kept_under_the_address_that_pages_give(shown):
    import re

    address = re.search(r'href="(/static/style\.css\?v=[0-9a-f]+)"', shown.get("/").text)[1]
    assert "immutable" in shown.get(address).headers["cache-control"]
    assert shown.get("/static/htmx-licence.txt").text.startswith("htmx")


def test_long_answers_are_packed(shown):
    assert shown.get("/").headers["content-encoding"] == "gzip"


def test_bibtex(shown):
    answer = shown.get("/paper/2611.00003/cite.bib")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "eprint = {2611.00003}" in answer.text


@pytest.mark.parametrize("path", ["/papers", "/claims", "/claims/objective-landscapes/digits", "/search?q=a"])
def test_answers_are_json_without_not_a_number(shown, path):
    found = []
    json.loads(shown.get(f"/api/v1{path}").text, parse_constant=found.append)
    assert not found
