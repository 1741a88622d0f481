"""What must not happen: mark-up from papers, forms from elsewhere, strange hosts, floods, large bodies, open logs."""

import io
import logging
import re
import socket
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("fastapi")
pytest.importorskip("jinja2")
pytest.importorskip("multipart")
pytest.importorskip("itsdangerous")
pytest.importorskip("platformdirs")
pytest.importorskip("httpx")
pytest.importorskip("html5lib")

import html5lib

CSP = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{7*7}}",
    "%0d%0aBcc: a@b.c",
    "' OR 1=1 --",
)


def send(client, token, text="A title\n\nAn abstract.\n", file=None, **fields):
    files = None if file is None else {"file": file}
    data = {"csrf": token, "format": "auto", "text": "" if file else text, **fields}
    return client.post("/ingest", data=data, files=files)


@pytest.mark.parametrize(
    "path", ["/", "/nowhere", "/api/v1/methods", "/static/style.css", "/feed.atom", "/?sort=x"]
)
def test_headers_are_on_every_answer(library, path):
    headers = library().get(path).headers
    assert headers["content-security-policy"] == CSP
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "strict-transport-security" not in headers


def test_https_is_kept(site):
    client = site(public_url="https://papers.example.org", base="https://papers.example.org")
    page = client.get("/ingest" if client.app.state.settings.may_ingest else "/")
    assert page.headers["strict-transport-security"].startswith("max-age=")
    other = site(
        public_url="https://papers.example.org", allow_ingest=True, base="https://papers.example.org"
    )
    cookie = other.get("/ingest").headers["set-cookie"].lower()
    assert "secure" in cookie
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


def test_an_error_of_ours_has_the_headers_and_tells_nothing(site, monkeypatch, caplog):
    client = site()

    def broken():
        raise RuntimeError("someone@example.org typed this")

    monkeypatch.setattr(client.app.state.evidence, "names", broken)
    with caplog.at_level(logging.INFO, "lodim.web"):
        page = client.get("/claims?status=holds")
    assert page.status_code == 500
    assert page.headers["content-security-policy"] == CSP
    assert "someone@" not in page.text + caplog.text
    assert "RuntimeError in broken" in caplog.text


def test_the_log_names_routes_not_what_people_look_for(site, caplog):
    client = site()
    with caplog.at_level(logging.INFO, "lodim.web"):
        client.get("/search?q=a.secret%40example.org")
        client.get("/paper/123456")
        client.get("/secret-in-a-path")
    assert "/search" in caplog.text
    assert "/paper/{key}" in caplog.text
    assert not re.search("secret|123456", caplog.text)


def test_mark_up_of_papers_is_text(site, daily):
    papers = [
        {"id": f"2611.{i:05d}", "title": f"T {nasty}", "summary": f"{nasty} " * 60, "upvotes": 3, "tags": [nasty],
         "authors": [{"name": f"A {nasty}"}], "publishedAt": "2026-11-22T00:00:00Z"}
        for i, nasty in enumerate(NASTY)
    ]  # fmt: skip
    client = site(daily(0, papers))
    pages = {f"/paper/{1 + i}": client.get(f"/paper/{1 + i}") for i in range(len(NASTY))}
    for path in ("/", "/search?q=alert", "/feed.atom", "/?sort=similar&to=alert"):
        pages[path] = client.get(path)
    for path, page in pages.items():
        assert page.status_code == 200, path
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        assert "T 49" not in page.text
    titles = set()
    for i in range(len(NASTY)):
        tree = html5lib.parse(pages[f"/paper/{1 + i}"].text, namespaceHTMLElements=False)
        titles.add(" ".join("".join(tree.find(".//h1").itertext()).split()))
    assert titles == {f"T {nasty}" for nasty in NASTY}


@pytest.mark.parametrize("nasty", NASTY)
@pytest.mark.parametrize(
    "path", ["/search?q=", "/?sort=similar&to=", "/recommend?text=", "/?tag=", "/methods?area="]
)
def test_what_is_typed_is_text(library, daily, path, nasty):
    from urllib.parse import quote

    page = library(daily(1)).get(path + quote(nasty))
    assert page.status_code in (200, 422)
    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page.text)
    assert all((e.get("src") or "").startswith("/static/") for e in tree.iter("script"))
    assert all((e.get("src") or "").startswith("/static/") for e in tree.iter("img"))
    assert ">49<" not in page.text
    assert "bcc" not in {name.lower() for name in page.headers}


@pytest.mark.parametrize("nasty", NASTY)
def test_what_is_uploaded_is_text(site, token_of, nasty):
    client = site()
    for file in (
        (f"{nasty}.json", nasty.encode()),
        (f"{nasty}.bib", b"@article{x, title={}}"),
        ("x.csv", nasty.encode()),
    ):
        page = send(client, token_of(client.get("/ingest")), file=file)
        assert page.status_code in (200, 422)
        html5lib.HTMLParser(strict=True).parse(page.text)
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text


def test_links_that_are_no_web_addresses_are_not_offered(site, token_of):
    client = site()
    rows = 'title,url\nA,javascript:alert(1)\nB,"data:text/html,<script>alert(1)</script>"\nC,https://example.org/c\n'
    assert send(client, token_of(client.get("/ingest")), rows, format="csv").status_code == 200
    text = "".join(client.get(f"/paper/{i}").text for i in (1, 2, 3))
    assert 'href="javascript' not in text
    assert 'href="data' not in text
    assert 'href="https://example.org/c"' in text


def test_a_form_of_ours_is_accepted_and_others_are_not(site, token_of):
    client, stranger = site(), site()
    token = token_of(client.get("/ingest"))
    assert send(client, token).status_code == 200
    assert send(client, "").status_code == 403
    assert send(client, token[:-2] + "xx").status_code == 403
    assert send(stranger, token).status_code == 403  # without the cookie
    assert client.post("/ingest", data={"text": "A\n\nb"}).status_code == 403
    theirs = client.post(
        "/ingest", data={"csrf": token, "text": "A"}, headers={"sec-fetch-site": "cross-site"}
    )
    assert theirs.status_code == 403
    assert len(client.app.state.catalog) == 1


def test_tokens_differ_and_pages_with_them_are_not_kept(site, token_of):
    client = site()
    first, second = client.get("/ingest"), client.get("/ingest")
    assert token_of(first) != token_of(second)
    assert first.headers["cache-control"] == "no-store"
    assert "set-cookie" not in second.headers
    assert "set-cookie" not in client.get("/methods").headers


def test_a_get_changes_nothing(site, daily, clock):
    client = site(daily(3))
    before = client.app.state.catalog.papers("new", now=clock()).to_json()
    for path in ("/ingest?text=A+title%0A%0AIts+abstract", "/?sort=new", "/search?q=a", "/paper/1"):
        client.get(path)
    assert client.app.state.catalog.papers("new", now=clock()).to_json() == before


def test_ingest_takes_text_and_files_tells_of_each_entry_and_fetches_nothing(site, token_of, monkeypatch):
    def refuse(*_):
        raise AssertionError("a page used the network")

    client = site()
    token = token_of(client.get("/ingest"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    page = send(client, token, '[{"paper": {"id": "2611.00001", "title": "One"}}, {"paper": {}}]')
    assert "1 added, 0 updated, 0 unchanged, 1 rejected" in page.text
    assert "entry 2" in page.text
    again = send(client, token, file=("x.json", b'[{"paper": {"id": "2611.00001", "title": "One"}}]'))
    assert "0 added, 0 updated, 1 unchanged" in again.text
    address = send(client, token, "https://export.arxiv.org/api/query?search_query=all")
    assert address.status_code in (200, 422)
    assert send(client, token, "").status_code == 422


def test_a_body_is_cut_off_when_it_grows_too_large(site, token_of):
    client = site(upload_limit=100_000)
    token = token_of(client.get("/ingest"))
    assert send(client, token, file=("x.txt", b"x" * 150_000)).status_code == 413
    sent = []

    def parts():
        for _ in range(50):
            sent.append(1)
            yield b"x" * 10_000

    kind = {"content-type": "application/x-www-form-urlencoded"}
    page = client.post("/ingest", content=parts(), headers=kind)  # without a length that could be looked at
    assert page.status_code == 413
    assert page.headers["content-security-policy"] == CSP
    assert send(client, token, "A title\n\n" + "word " * 18_000).status_code == 200


@pytest.mark.parametrize(
    ("host", "known"),
    [("127.0.0.1", True), ("localhost:8000", True), ("[::1]:8000", True), ("LOCALHOST", True), ("evil.example", False),
     ("127.0.0.1.evil.example", False), ("", False), ("localhost@evil.example", False)],
)  # fmt: skip
def test_only_known_hosts_are_answered(library, host, known):
    assert library().get("/healthz", headers={"host": host}).status_code == (200 if known else 400)


def test_rates_are_kept_by_address_and_for_all(site, clock):
    from lodim.web.settings import Rate

    rates = {"search": Rate(3, 60.0, 5), "upload": Rate(1, 3600.0, 9)}
    client = site(rates=rates)
    assert [client.get("/search?q=a").status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = client.get("/search?q=a")
    assert refused.headers["retry-after"] == "20"
    assert "Too many requests" in refused.text
    assert client.get("/methods").status_code == 200
    clock.move(20)
    assert [client.get("/search?q=a").status_code for _ in range(2)] == [200, 429]


def test_comparing_texts_counts_as_a_search(site, daily):
    from lodim.web.settings import Rate

    client = site(daily(3), rates={"search": Rate(2, 60.0, 9), "paper": Rate(1, 60.0, 9)})
    paths = ("/?sort=similar&to=subspace", "/search?q=a", "/paper/1")
    assert [client.get(path).status_code for path in paths] == [200, 200, 200]
    assert [client.get(path).status_code for path in paths] == [429, 429, 429]
    for path in ("/", "/?sort=similar", "/paper/1/cite.bib", "/methods"):  # these compare nothing
        assert client.get(path).status_code == 200
    assert client.get("/paper/99").status_code == 404


def test_buckets():
    from lodim.web.security import Limiter
    from lodim.web.settings import Rate

    now = [0.0]
    limiter = Limiter({"x": Rate(2, 10.0, 3)}, lambda: now[0])
    assert limiter.take("x", "10.0.0.1") == 0
    assert limiter.take("x", "::ffff:10.0.0.1") == 0  # the same host
    assert limiter.take("x", "10.0.0.1") == pytest.approx(5.0)
    assert limiter.take("x", "2001:db8::1") == 0
    assert limiter.take("x", "10.0.0.9") == pytest.approx(10 / 3)  # all together have had theirs
    now[0] = 100.0
    assert [limiter.take("x", f"2001:db8::{i}") > 0 for i in range(3)] == [False, False, True]  # one network
    now[0] = 0.0  # a clock that goes back gives nothing away
    assert limiter.take("x", "2001:db8::1") > 0


def test_forwarded_addresses_are_believed_from_proxies_only(site):
    from lodim.web.settings import Rate

    rates = {"search": Rate(1, 60.0, 100)}
    direct = site(rates=rates)
    asked = [
        direct.get("/search?q=a", headers={"x-forwarded-for": f"10.0.0.{i}"}).status_code for i in range(2)
    ]
    assert asked == [200, 429]
    proxied = site(rates=rates, proxies=("127.0.0.1", "10.9.9.9"))
    lines = ["10.0.0.1", "10.0.0.2", "6.6.6.6, 10.0.0.2", "10.0.0.3, 10.9.9.9"]
    asked = [proxied.get("/search?q=a", headers={"x-forwarded-for": line}).status_code for line in lines]
    assert asked == [200, 200, 429, 200]
    # A line that the visitor wrote, and below it the proxy's.
    theirs = [(b"x-forwarded-for", b"7.7.7.%d" % i) for i in range(2)]
    asked = [
        proxied.get("/search?q=a", headers=[line, (b"x-forwarded-for", b"10.0.0.4")]).status_code
        for line in theirs
    ]
    assert asked == [200, 429]


@pytest.mark.parametrize(
    "path",
    [
        "/paper/1%27",
        "/paper/..%2f..%2fetc",
        "/paper/1e5",
        "/static/..%2fapp.py",
        "/static/app.py",
        "/methods/A b",
    ],
)
def test_paths_outside_the_pattern_find_nothing(library, path):
    assert library().get(path).status_code in (404, 422)


def test_settings_refuse_what_is_open_to_all():
    from lodim.web.settings import Settings

    with pytest.raises(ValueError, match="--public-url"):
        Settings(host="0.0.0.0")
    with pytest.raises(ValueError, match="--allow-run"):
        Settings(public_url="https://x.example", allow_run=True)
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Settings(secret=b"short")
    with pytest.raises(ValueError, match="must look like"):
        Settings(public_url="papers.example.org")
    assert not Settings(public_url="https://x.example").may_ingest


def test_visitors_from_elsewhere_cannot_add_papers_unless_allowed(site, token_of):
    client = site(public_url="https://x.example", base="https://x.example")
    page = client.get("/ingest")
    assert "<form class" in page.text  # the search
    assert 'method="post"' not in page.text
    other = site(public_url="https://x.example", base="https://x.example", allow_ingest=True)
    token = token_of(other.get("/ingest"))
    assert send(other, token).status_code == 200
    client.cookies = other.cookies
    assert send(client, token).status_code == 403


def test_closed_ingest_is_refused_with_a_good_token(site, token_of):
    secret = b"s" * 32
    open_site = site(secret=secret)
    token = token_of(open_site.get("/ingest"))
    cookie = open_site.cookies["lodim_session"]
    closed = site(secret=secret, public_url="http://127.0.0.1.example", base="http://127.0.0.1.example")
    page = closed.post(
        "/ingest", data={"csrf": token, "text": "A\n\nb"}, headers={"cookie": f"lodim_session={cookie}"}
    )
    assert page.status_code == 403
    assert "cannot add papers" in page.text


def test_names_of_files_lose_their_folders(site, token_of):
    client = site()
    page = send(
        client,
        token_of(client.get("/ingest")),
        file=("../../hidden-folder/x.bib", io.BytesIO(b"\xff\xfe\x00")),
    )
    assert page.status_code == 422
    assert "x.bib" in page.text
    assert "hidden-folder" not in page.text


@pytest.mark.parametrize(
    "path", ["/paper/abc", "/paper/\u0661\u0662", "/paper/12345678901234", "/methods/A_b", "/claims/A"]
)
def test_an_address_of_no_form_is_told_in_words(library, daily, path):
    client = library(daily(12))
    page = client.get(path)
    assert page.status_code == 404
    assert "There is nothing at this address" in page.text
    assert "pattern" not in page.text
    plain = client.get(f"/api/v1{path.replace('paper/', 'papers/')}")
    assert plain.status_code == 404
    assert "nothing at this address" in plain.json()["error"]


def test_words_to_choose_from_are_named(library, daily):
    page = library(daily(1)).get("/?sort=worst")
    assert page.status_code == 422
    assert "sort: must be one of trending, velocity, new, top, similar" in page.text


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/subscribe", "GET, HEAD, OPTIONS, POST"),
        ("/u/token", "GET, HEAD, OPTIONS, POST"),
        ("/methods", "GET, HEAD, OPTIONS"),
        ("/profile/x/cancel", "OPTIONS, POST"),
    ],
)
def test_what_an_address_answers_to_is_told_in_full(library, path, methods):
    client = library()
    asked, refused = client.options(path), client.put(path)
    assert (asked.status_code, asked.headers["allow"]) == (204, methods)
    assert (refused.status_code, refused.headers["allow"]) == (405, methods)
    assert "GET" in client.post("/api/v1/openapi.json").headers["allow"]
    assert methods in refused.text


def test_one_limit_of_size_is_told_everywhere(site):
    from lodim.catalog.feed.readers import MOST_BYTES

    client = site()
    limit = client.app.state.settings.upload_limit
    assert limit == MOST_BYTES
    for path in ("/ingest", "/profile"):
        assert f"at most {limit // 1_000_000} MB" in client.get(path).text
    over = client.post("/ingest", content=b"", headers={"content-length": str(limit + 1)})
    assert over.status_code == 413
    assert f"At most {limit // 1_000_000} MB" in over.text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"public_url": "http://["}, "the public address must look like"),
        ({"public_url": "https://x.example/?q"}, "the public address must look like"),
        ({"public_url": "https://x.example/papers"}, "has no path"),
        ({"proxies": ("my-proxy",)}, "named by its IP address, got 'my-proxy'"),
        ({"host": " "}, "--host"),
        ({"evidence": Path(__file__)}, "evidence must be a folder"),
        ({"data_dir": Path(__file__)}, "data_dir must be a folder"),
    ],
    ids=str,
)
def test_settings_that_lead_nowhere_are_refused(wrong, said):
    from lodim.web.settings import Settings

    with pytest.raises(ValueError, match=re.escape(said)):
        Settings(**wrong)
