"""Pages of the digest: what a person, a mail program and a mail scanner get."""

import html
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

pytest.importorskip("fastapi", reason="needs the extra 'web'")
pytest.importorskip("httpx", reason="needs the extra 'web'")
pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")
pytest.importorskip("email_validator", reason="needs the extra 'web'")
pytest.importorskip("jinja2", reason="needs the extra 'web'")
pytest.importorskip("itsdangerous", reason="needs the extra 'web'")
pytest.importorskip("multipart", reason="needs the extra 'web'")

import sqlalchemy as sa
from fastapi.testclient import TestClient

from lodim.catalog.feed import Catalog
from lodim.web.app import create_app
from lodim.web.settings import Rate, Settings
from lodim.web.subscriptions import subscribers_of

ANN = "Ann@example.org"
TOKEN = "a" * 43
NASTY = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{111*111}} ${111*111}",
    "%0d%0aBcc:x@example.org",
]


class Site:
    """A server with a clock, a browser with cookies, and a mail program without any."""

    def __init__(self, folder, **options):
        self.at = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
        settings = Settings(secret=b"s" * 40, data_dir=folder, evidence=folder, rates=RATES, **options)
        self.papers = Catalog(folder / "papers.db", encoder=None)
        self.app = create_app(settings, catalog=self.papers, now=lambda: self.at)
        self.people = subscribers_of(self.app)
        self.browser, self.program = self.client(), self.client()

    def client(self):
        return TestClient(self.app, base_url="http://localhost")

    def form(self, page, **fields):
        return fields | {"csrf": csrf_of(self.browser.get(page))}

    def ask(self, email=ANN, **fields):
        return self.browser.post("/subscribe", data=self.form("/subscribe", email=email, **fields))

    def letter(self):
        letters = self.people.pending_mails()
        for letter in letters:
            self.people.mail_sent(letter)
        return letters[-1]

    def join(self, email=ANN, **fields):
        assert self.ask(email, **fields).status_code == 200
        self.people.confirm(self.letter().token)
        return self.people.by_email(email).unsubscribe

    def press(self, page):
        return self.browser.post(page, data=self.form(page))

    def state(self, email=ANN):
        found = self.people.by_email(email)
        return found and found.state


RATES = {
    name: Rate(10**6, 1.0, 10**6) for name in ("search", "paper", "subscribe", "upload", "profile", "run")
}


@pytest.fixture
def site(tmp_path, blank):
    blank(tmp_path / "papers.db")
    made = Site(tmp_path)
    yield made
    made.papers.close()


def csrf_of(answer):
    return re.search(r'name="csrf" value="([^"]+)"', answer.text)[1]


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def all(self, *names):
        return [attrs for tag, attrs in self.tags if tag in names]


def sent(answer):
    """Return a page without what is random in it."""
    return re.sub(r'value="[\w.-]{60,}"', "", answer.text)


# ---------------------------------------------------------------- subscribing


def test_from_the_form_to_the_digest_and_out_again(site):
    answer = site.ask(
        frequency="daily",
        areas=["privacy", "geometry"],
        tags="cs.LG, stat",
        query='"low rank"',
        time_zone="Asia/Tokyo",
    )
    assert answer.status_code == 200
    assert "Look into your mailbox" in answer.text
    letter = site.letter()
    page = site.browser.get(f"/confirm/{letter.token}")
    assert page.status_code == 200
    assert "The button subscribes" in page.text
    assert "&#34;low rank&#34;" in page.text
    assert "privacy, geometry, cs.lg, stat" in page.text
    assert site.state() == "pending"
    assert "The digest will come to" in site.press(f"/confirm/{letter.token}").text
    assert site.state() == "confirmed"
    ann = site.people.by_email(ANN)
    assert ann.areas == ("privacy", "geometry", "cs.lg", "stat")
    assert ann.time_zone == "Asia/Tokyo"
    assert ann.consent_source == "web form"
    page = site.browser.get(f"/u/{ann.unsubscribe}")
    assert page.text.count(" checked") == 3
    assert 'value="cs.lg, stat"' in page.text
    assert "You are unsubscribed" in site.browser.post(f"/u/{ann.unsubscribe}").text
    assert site.state() == "cancelled"
    assert (
        "The digest will come again"
        in site.browser.post(f"/u/{ann.unsubscribe}/undo", data=site.form(f"/u/{ann.unsubscribe}")).text
    )
    assert site.people.by_email(ANN) == ann


def test_opening_links_changes_nothing(site):
    site.ask()
    letter = site.letter()
    for _ in range(3):
        for page in (f"/confirm/{letter.token}", f"/u/{letter.subscriber.unsubscribe}"):
            for method in ("get", "head", "options"):
                getattr(site.program, method)(page)
    assert site.state() == "pending"
    link = site.join("bob@example.org")
    for page in (f"/u/{link}", f"/u/{link}/undo", f"/u/{link}/preferences"):
        site.program.get(page)
    assert site.state("bob@example.org") == "confirmed"


def test_the_page_to_confirm_has_one_button_and_says_what_it_does(site):
    site.ask()
    tags = Tags(site.browser.get(f"/confirm/{site.letter().token}").text)
    buttons = [b for b in tags.all("button") if b.get("class") == "main"]
    assert len(buttons) == 1
    assert len([f for f in tags.all("form") if f.get("method") == "post"]) == 1


def test_the_answer_is_the_same_for_every_address(site):
    link = site.join("known@example.org")
    site.people.cancel(site.join("gone@example.org"))
    site.people.suppress("blocked@example.org")
    site.people.forget("erased@example.org")
    site.ask("asked@example.org")
    pages, work = set(), []
    ran = []
    sa.event.listen(site.papers.store.engine, "before_cursor_execute", lambda *given: ran.append(given[2]))
    for name in ("known", "gone", "blocked", "erased", "asked", "new"):
        fields = site.form("/subscribe", email=f"{name}@example.org")
        ran.clear()
        answer = site.browser.post("/subscribe", data=fields)
        work.append(tuple(ran))
        assert answer.status_code == 200
        shown = dict(answer.headers)
        pages.add(
            (
                sent(answer).replace(f"{name}@", "@"),
                shown.pop("content-length", "") and "",
                tuple(sorted(shown)),
            )
        )
    assert len(pages) == 1
    assert len(set(work)) == 1
    assert len(work[0]) >= 4
    assert site.people.find(link).subscriber.state == "confirmed"


def test_mistakes_are_shown_at_their_fields_and_what_was_typed_stays(site):
    answer = site.ask(
        "not an address", frequency="hourly", areas=["privcy"], query="???", time_zone="Mars/Base"
    )
    assert answer.status_code == 422
    tags = Tags(answer.text)
    ids = {attrs["id"] for _, attrs in tags.tags if "id" in attrs}
    for name in ("email", "areas", "query", "time_zone"):
        (field,) = [attrs for attrs in tags.all("input") if attrs.get("id") == name]
        assert field["aria-invalid"] == "true"
        assert f"{name}-problem" in field["aria-describedby"].split()
    for _, attrs in tags.tags:
        for target in attrs.get("aria-describedby", "").split():
            assert target in ids
        if attrs.get("href", "").startswith("#"):
            assert attrs["href"][1:] in ids
    assert 'value="not an address"' in answer.text
    assert 'value="Mars/Base"' in answer.text
    assert '<div class="note" role="alert">' in answer.text
    assert site.people.all() == ()


def test_every_field_has_a_label_and_every_page_one_heading(site):
    link = site.join(query="rank")
    site.ask("bob@example.org")
    token = site.letter().token
    stopped = site.join("eve@example.org")
    site.people.cancel(stopped)
    for page in (
        "/subscribe",
        f"/confirm/{token}",
        f"/u/{link}",
        f"/u/{stopped}",
        f"/confirm/{TOKEN}",
        f"/u/{TOKEN}",
    ):
        text = site.browser.get(page).text
        tags = Tags(text)
        labelled = {attrs.get("for") for attrs in tags.all("label")}
        for field in tags.all("input", "select", "textarea"):
            assert field.get("type") == "hidden" or field["id"] in labelled
        ids = [attrs["id"] for _, attrs in tags.tags if "id" in attrs]
        assert len(ids) == len(set(ids)), page
        assert len(tags.all("h1")) == 1
        assert not [
            attrs for _, attrs in tags.tags if "style" in attrs or any(k.startswith("on") for k in attrs)
        ]


@pytest.mark.parametrize("field", ["email", "tags", "areas", "query", "time_zone"])
def test_header_injection_is_refused_in_every_field(site, field):
    good = {"email": ANN, "tags": "cs.LG", "areas": "privacy", "query": "rank", "time_zone": "UTC"}
    for bad in ("\r\nBcc: x@example.org", "\nX: y", "\u2028Bcc:"):
        fields = good | {field: good[field] + bad}
        answer = site.ask(fields.pop("email"), **fields)
        assert answer.status_code == 422
        assert "control characters" in answer.text
    assert site.people.all() == ()
    assert site.people.pending_mails() == ()


def strange(text):
    """Return elements that no page of ours has."""
    tags = Tags(text)
    ours = [*tags.all("script"), *tags.all("img")]
    return [attrs for attrs in ours if not attrs.get("src", "").startswith("/static/")] + tags.all("iframe")


@pytest.mark.parametrize("nasty", NASTY)
def test_what_is_typed_is_text_everywhere(site, nasty):
    for field in ("email", "tags", "areas", "query", "time_zone", "frequency"):
        fields = {"email": ANN, field: nasty}
        answer = site.ask(fields.pop("email"), **fields)
        if answer.status_code == 200:
            assert field == "query"
        assert strange(answer.text) == []
        assert "12321" not in answer.text
    filled = site.browser.get("/subscribe", params={"query": nasty, "areas": nasty}).text
    assert strange(filled) == []
    assert html.escape(nasty).replace("&quot;", "&#34;").replace("&#x27;", "&#39;") in filled


def test_a_nasty_saved_search_is_inert_on_the_page_of_preferences(site):
    query = 'rank <script>alert(1)</script> "><img src=x onerror=alert(1)> {{111*111}}'
    link = site.join(query=query)
    assert site.people.by_email(ANN).query == query
    text = site.browser.get(f"/u/{link}").text
    (field,) = [attrs for attrs in Tags(text).all("input") if attrs.get("id") == "query"]
    assert field["value"] == query
    assert "onerror" not in {name for _, attrs in Tags(text).tags for name in attrs}
    assert "alert(1)</script>" not in text


def test_unicode_addresses(site):
    assert site.ask("Jörg@BÜCHER.example").status_code == 200
    letter = site.letter()
    assert letter.subscriber.email == "Jörg@xn--bcher-kva.example"
    assert "Jörg@xn--bcher-kva.example" in site.browser.get(f"/confirm/{letter.token}").text


def test_forms_of_other_sites_are_refused(site):
    site.ask("bob@example.org")
    token = site.letter().token
    link = site.join()
    for page in ("/subscribe", f"/confirm/{token}", f"/u/{link}/undo", f"/u/{link}/preferences"):
        assert (
            site.program.post(page, data={"email": "x@example.org", "frequency": "daily"}).status_code == 403
        )
    stolen = csrf_of(site.browser.get("/subscribe"))
    assert (
        site.client().post("/subscribe", data={"email": "x@example.org", "csrf": stolen}).status_code == 403
    )
    assert site.people.by_email("x@example.org") is None
    assert site.state("bob@example.org") == "pending"
    assert site.people.by_email(ANN).frequency == "weekly"


def test_a_client_may_subscribe_five_times_an_hour(tmp_path):
    site = Site(tmp_path)
    site.app.state.limiter.rates["subscribe"] = Rate(5, 3600.0, 200)
    assert {site.ask("a mistake").status_code for _ in range(6)} == {422}
    answers = [site.ask(f"n{number}@example.org") for number in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert int(answers[-1].headers["retry-after"]) > 0
    assert len(site.people.all()) == 5
    site.at += timedelta(hours=1)
    assert site.ask("later@example.org").status_code == 200
    site.papers.close()


# ---------------------------------------------------------------- links


def test_links_that_do_not_work_say_why(site):
    site.ask()
    letter = site.letter()
    site.at += timedelta(hours=49)
    for answer in (
        site.browser.get(f"/confirm/{letter.token}"),
        site.browser.get(f"/confirm/{letter.token}"),
    ):
        assert answer.status_code == 410
        assert "This link is too old" in answer.text
    site.ask()
    first = site.letter()
    site.people.confirm(first.token)
    again = site.browser.get(f"/confirm/{first.token}")
    assert again.status_code == 200
    assert "You are subscribed" in again.text
    assert first.subscriber.unsubscribe not in again.text, "a used link opens nothing"
    site.people.cancel(first.subscriber.unsubscribe)
    assert site.browser.get(f"/confirm/{first.token}").status_code == 410
    for guess in (TOKEN, "x", "a" * 44, "%3Cscript%3E", "..%2f..%2fetc"):
        assert site.browser.get(f"/confirm/{guess}").status_code == 404
        assert site.browser.get(f"/u/{guess}").status_code == 404


def test_a_second_press_is_answered_like_the_first(site):
    site.ask()
    token = site.letter().token
    fields = site.form(f"/confirm/{token}")
    first, second = (site.browser.post(f"/confirm/{token}", data=fields) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200)
    assert "You are subscribed" in first.text
    assert "You are subscribed" in second.text


def test_a_script_presses_the_button_only_where_the_operator_wants_it(site, tmp_path):
    site.ask()
    assert "data-press" not in site.browser.get(f"/confirm/{site.letter().token}").text
    (tmp_path / "auto").mkdir()
    auto = Site(tmp_path / "auto", confirm_mode="auto")
    auto.ask()
    token = auto.letter().token
    assert "data-press" in auto.browser.get(f"/confirm/{token}").text
    assert auto.state() == "pending", "opening the page confirms nothing there either"
    auto.papers.close()
    with pytest.raises(ValueError, match="confirm_mode"):
        Settings(confirm_mode="click")


@pytest.mark.parametrize(
    "body",
    [
        {"content": b""},
        {"data": {"List-Unsubscribe": "One-Click"}},
        {"files": {"List-Unsubscribe": (None, "One-Click")}},
        {"content": b"\xff\x00nonsense", "headers": {"content-type": "multipart/form-data"}},
    ],
)
def test_one_click_needs_no_cookie_and_no_form(site, body):
    link = site.join()
    assert site.state() == "confirmed"
    for _ in range(3):
        assert site.client().post(f"/u/{link}", **body).status_code == 200
    assert site.state() == "cancelled"


def test_one_click_works_for_pending_erased_and_suppressed(site):
    site.ask()
    pending = site.letter()
    assert site.program.post(f"/u/{pending.subscriber.unsubscribe}").status_code == 200
    assert site.state() == "cancelled"
    assert site.browser.get(f"/confirm/{pending.token}").status_code == 410
    erased = site.join("bob@example.org")
    site.people.forget("bob@example.org")
    answer = site.program.post(f"/u/{erased}")
    assert answer.status_code == 200
    assert "No subscription belongs to it" in answer.text
    bounced = site.join("eve@example.org")
    site.people.strike(site.people.by_email("eve@example.org").id, "hard")
    assert site.program.post(f"/u/{bounced}").status_code == 200
    assert site.program.post("/u/malformed").status_code == 404


def test_a_replaced_link_does_not_pretend(site):
    old = site.join()
    site.people.renew_link(ANN)
    for answer in (site.program.post(f"/u/{old}"), site.program.get(f"/u/{old}")):
        assert answer.status_code == 410
        assert "newest mail" in answer.text
    assert site.state() == "confirmed"


def test_undoing_ends_after_seven_days(site):
    link = site.join()
    site.browser.post(f"/u/{link}")
    page = f"/u/{link}"
    assert "Undo" in site.browser.get(page).text
    fields = site.form(page)
    site.at += timedelta(days=8)
    assert "/undo" not in site.browser.get(page).text
    fields["csrf"] = csrf_of(site.browser.get("/subscribe"))
    answer = site.browser.post(f"{page}/undo", data=fields)
    assert answer.status_code == 410
    assert "more than 7 days ago" in answer.text
    assert site.state() == "cancelled"


def test_preferences_are_changed_and_checked(site):
    link = site.join()
    page = f"/u/{link}"
    fields = {
        "frequency": "daily",
        "areas": ["trust"],
        "tags": "cs.CV",
        "query": "pruning",
        "time_zone": "Europe/Berlin",
    }
    answer = site.browser.post(f"{page}/preferences", data=site.form(page, **fields))
    assert answer.status_code == 200
    assert "Saved." in answer.text
    ann = site.people.by_email(ANN)
    assert (ann.frequency, ann.areas, ann.query, ann.time_zone) == (
        "daily",
        ("trust", "cs.cv"),
        "pruning",
        "Europe/Berlin",
    )
    bad = site.browser.post(
        f"{page}/preferences", data=site.form(page, **(fields | {"query": "status:planed"}))
    )
    assert bad.status_code == 422
    assert "did you mean status:planned?" in bad.text
    assert site.people.by_email(ANN) == ann
    unknown = site.browser.post(f"/u/{TOKEN}/preferences", data=site.form("/subscribe", **fields))
    assert unknown.status_code == 404
    everything = site.browser.post(f"{page}/preferences", data=site.form(page, frequency="weekly", query=""))
    assert everything.status_code == 200
    assert site.people.by_email(ANN).preferences.areas == ()
    assert site.people.by_email(ANN).query is None


def test_pages_of_links_are_kept_nowhere_and_show_no_whole_address(site):
    link = site.join()
    site.ask("bob@example.org")
    token = site.letter().token
    for page in (f"/u/{link}", f"/confirm/{token}", f"/u/{TOKEN}", f"/confirm/{TOKEN}"):
        answer = site.browser.get(page)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-robots-tag"] == "noindex"
        assert answer.headers["referrer-policy"] == "no-referrer"
    text = site.browser.get(f"/u/{link}").text
    assert ANN not in text
    assert "A…@example.org" in text


def test_the_log_holds_no_address_and_no_token(site, caplog):
    caplog.set_level("DEBUG", logger="lodim")
    link = site.join(query="a private search")
    site.browser.get(f"/u/{link}")
    site.program.post(f"/u/{link}")
    site.browser.get(f"/confirm/{TOKEN}")
    assert "/u/{token}" in caplog.text
    for secret in (ANN, ANN.lower(), link, TOKEN, "private search"):
        assert secret not in caplog.text


def test_the_form_can_be_filled_from_a_search(site):
    text = site.browser.get(
        "/subscribe", params={"query": 'area:privacy "low rank"', "areas": "privacy"}
    ).text
    (field,) = [attrs for attrs in Tags(text).all("input") if attrs.get("id") == "query"]
    assert field["value"] == 'area:privacy "low rank"'
    assert text.count(" checked") == 2


def test_links_in_real_mails_open_these_pages(site, mailbox):
    """From the form by a mail server to the button, and out with the header that mail programs use."""
    pytest.importorskip("aiosmtplib", reason="needs the extra 'web'")
    from lodim.catalog.digest.post import Post
    from lodim.catalog.digest.relay import MailSettings, Relay

    relay = Relay("127.0.0.1", port=mailbox.port, tls="none", per_second=1000, timeout=60.0)
    settings = MailSettings("Papers <papers@example.org>", "http://localhost", relay)
    post = Post(site.papers, site.people, settings, now=lambda: site.at)
    site.ask(query='<b>"low rank"</b>')
    assert post.send_letters().letters == 1
    (letter,) = mailbox.mails
    text = letter.get_body(("plain",)).get_content()
    link = re.search(r"http://localhost(/confirm/[\w-]{43})\s", text)[1]
    assert "You are subscribed" in site.press(link).text
    assert letter["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    stop = re.match(r"<http://localhost(/u/[\w-]{43})>", letter["List-Unsubscribe"])[1]
    assert site.program.post(stop, data={"List-Unsubscribe": "One-Click"}).status_code == 200
    assert site.state() == "cancelled"
