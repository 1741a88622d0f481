"""A mail as programs and people read it."""

import email
import email.policy
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")
pytest.importorskip("jinja2", reason="needs the extra 'web'")

from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.catalog.digest.changes import Change
from lodim.catalog.digest.content import Digest, Item
from lodim.catalog.digest.mail import Texts, digest_texts, letter_texts, make_message, message_id, plain
from lodim.catalog.digest.relay import MailSettings

AT = datetime(2026, 11, 23, 6, tzinfo=UTC)
SETTINGS = MailSettings("Papers <papers@example.org>", "https://papers.example.org/")
TOKEN = "t" * 43
ITEM = Item(
    7, "A title", "An abstract.", ("Ann", "Bo", "Cy", "Di"), "2026-11-22", "https://x.org/7", None, "new"
)


def digest(**parts):
    base = Digest((), (ITEM,), (), 0, (), None, "2026-11-20T06:00:00Z", "2026-11-23T06:00:00Z")
    return replace(base, **parts)


def texts_of(said=None, **options):
    chosen = {
        "subscriber": 5,
        "frequency": "daily",
        "time_zone": "Asia/Tokyo",
        "period": "2026-11-23",
        "at": AT,
    }
    return digest_texts(said or digest(), SETTINGS, **(chosen | options))


def mail_of(texts, recipient="ann@example.org"):
    return email.message_from_bytes(make_message(texts, recipient, TOKEN), policy=email.policy.default)


def part(message, kind):
    return message.get_body((kind,)).get_content().replace("\r\n", "\n")


class Reader(HTMLParser):
    """What a mail program finds in HTML."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.loads, self.tables, self.words = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        held = dict(attributes)
        self.tags.append(tag)
        if tag == "a":
            self.links.append(held["href"])
        if tag == "table":
            self.tables.append(held.get("role"))
        self.loads += [held[name] for name in ("src", "background", "srcset") if name in held]
        self.loads += re.findall(r"url\(([^)]*)", held.get("style") or "")

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def test_headers_say_who_when_what_and_how_to_leave():
    mail = mail_of(texts_of())
    assert mail["From"] == "Papers <papers@example.org>"
    assert mail["To"] == "ann@example.org"
    assert mail["Subject"] == "lodim: 1 paper, 23 November 2026"
    assert mail["Date"].datetime == AT
    assert mail["Message-ID"] == message_id(SETTINGS, 5, "2026-11-23")
    assert re.fullmatch(r"<[0-9a-f]{64}@example\.org>", mail["Message-ID"])
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Precedence"] == "bulk"
    link = f"https://papers.example.org/u/{TOKEN}"
    assert mail["List-Unsubscribe"] == f"<{link}>, <mailto:papers@example.org?subject=unsubscribe%20{TOKEN}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert link in part(mail, "plain")
    assert link in Reader(part(mail, "html")).links


def test_links_in_headers_are_written_plainly_on_one_line():
    raw = make_message(texts_of(), "ann@example.org", TOKEN).decode()
    (line,) = [line for line in raw.splitlines() if line.startswith("List-Unsubscribe:")]
    assert line.count("<") == line.count(">") == 2
    assert TOKEN in line
    assert "=?" not in line


def test_the_day_is_that_of_the_reader():
    late = datetime(2026, 11, 23, 22, tzinfo=UTC)
    assert mail_of(texts_of(at=late))["Subject"].endswith("24 November 2026")


def test_both_parts_are_complete_and_nothing_is_loaded():
    mail = mail_of(
        texts_of(digest(found=(replace(ITEM, title="Found"),), search="low rank", areas=("cs.lg",), more=3))
    )
    assert mail.get_content_type() == "multipart/alternative"
    assert [p.get_content_type() for p in mail.iter_parts()] == ["text/plain", "text/html"]
    page = Reader(part(mail, "html"))
    for text in (part(mail, "plain"), page.text):
        for said in (
            "Found",
            "A title",
            "An abstract.",
            "Ann, Bo, Cy and 1 more",
            "2026-11-22",
            "low rank",
            "3 more",
            "cs.LG",
        ):
            assert said in text
    for links in (part(mail, "plain").split(), page.links):
        assert {
            "https://x.org/7",
            "https://papers.example.org/paper/7",
            "https://papers.example.org/search?q=low%20rank",
        } <= set(links)
    assert page.loads == []
    assert not {"img", "script", "link", "iframe", "form", "object", "video"} & set(page.tags)
    assert set(page.tables) == {"presentation"}
    assert '<html lang="en"' in part(mail, "html")
    assert page.tags.count("h1") == 1


def test_links_are_never_counted():
    links = Reader(part(mail_of(texts_of()), "html")).links
    assert {link.split("/u/")[0] for link in links if TOKEN in link} == {"https://papers.example.org"}
    assert all(TOKEN not in link for link in links if "/u/" not in link)


def test_changed_methods_alone_are_a_mail():
    said = digest(
        listed=(), changes=(Change("flora", "FLoRA", "can now be used"), Change("x", "X", "claims: 1 fails"))
    )
    mail = mail_of(texts_of(said))
    assert mail["Subject"] == "lodim: 2 methods changed, 23 November 2026"
    assert "https://papers.example.org/methods/flora" in part(mail, "plain").split()
    assert "claims: 1 fails" in Reader(part(mail, "html")).text


def test_the_same_again_is_the_same_byte_for_byte():
    texts = texts_of()
    again = Texts.from_json(texts.to_json())
    assert again == texts
    assert make_message(again, "ann@example.org", TOKEN) == make_message(texts, "ann@example.org", TOKEN)


def test_identifiers_differ_between_subscribers_periods_and_lists():
    other = replace(SETTINGS, list_name="other")
    found = {
        message_id(chosen, subscriber, period)
        for chosen in (SETTINGS, other)
        for subscriber in (1, 11)
        for period in ("2026-11-23", "12026-11-23", "2026-W48")
    }
    assert len(found) == 12


def test_what_is_kept_holds_neither_address_nor_link():
    kept = texts_of().to_json()
    assert "ann@example.org" not in kept
    assert TOKEN not in kept
    assert "/u/" not in kept


ATTACKS = [
    "\r\nBcc: evil@example.net",
    "x\nBcc: evil@example.net\n\nbody",
    "%0d%0aBcc: evil@example.net",
    "\x1alink\x1a",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{7*7}}{% raw %}",
    "=?utf-8?q?=0ABcc=3A_evil?=",
    "\u2028Bcc: e\u202etxt.exe\u0000",
    "--=_boundary--",
    "\ud800 half a letter",
    ".\r\n.\r\nMAIL FROM:<evil@example.net>",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_from_outside_becomes_a_header_a_tag_or_a_line_of_its_own(attack):
    calm = mail_of(texts_of(digest(found=(ITEM,), search="calm")))
    item = Item(7, attack, attack, (attack,) * 4, attack, "https://x.org/7", attack, attack)
    said = digest(found=(item,), search=attack, areas=(attack,), changes=(Change("s", attack, attack),))
    mail = mail_of(texts_of(said))
    assert mail.keys() == calm.keys()
    assert [p.get_content_type() for p in mail.iter_parts()] == ["text/plain", "text/html"]
    page = Reader(part(mail, "html"))
    calm_tags = set(Reader(part(calm, "html")).tags) | {"br"}
    assert set(page.tags) <= calm_tags
    assert "49" not in page.text.replace("{{7*7}}", "").replace("2026", "")
    assert not re.search(r"(?m)^(Bcc|MAIL FROM):", part(mail, "plain"))
    assert not re.search("[\x00-\x09\x0b-\x1f]", part(mail, "plain") + part(mail, "html"))
    leave = [link for link in page.links if "/u/" in link]
    assert leave == [f"https://papers.example.org/u/{TOKEN}"]


@pytest.mark.parametrize("address", ["ann@example.org\r\nBcc: evil@example.net", "ann@example.org\nx"])
def test_an_address_with_a_line_break_is_refused(address):
    with pytest.raises(ValueError, match="cannot contain CR or LF"):
        make_message(texts_of(), address, TOKEN)


@pytest.mark.parametrize(
    "title", ["Überräschung – 数学 ∑ $a<b$", "عنوان عربي", "emoji 🎉 &amp; &lt;", "a" * 500]
)
def test_unicode_titles_arrive_whole(title):
    mail = mail_of(texts_of(digest(listed=(replace(ITEM, title=title),))))
    assert title in " ".join(part(mail, "plain").split())
    assert title in Reader(part(mail, "html")).text


def test_an_address_beyond_ascii_is_kept():
    raw = make_message(texts_of(), "zoë@example.org", TOKEN)
    assert "To: zoë@example.org\r\n".encode() in raw
    assert email.message_from_bytes(raw, policy=email.policy.default)["Subject"].startswith("lodim: 1 paper")


@settings(max_examples=40, deadline=None)
@given(title=st.text(max_size=60), name=st.text(max_size=30), abstract=st.text(max_size=400))
def test_any_text_makes_a_mail_that_can_be_sent(title, name, abstract):
    said = digest(listed=(replace(ITEM, title=title, authors=(name,), abstract=abstract),))
    raw = make_message(texts_of(said), "ann@example.org", TOKEN)
    lines = raw.split(b"\r\n")
    assert b"\n" not in b"".join(lines)
    assert b"\r" not in b"".join(lines)
    assert max(map(len, lines)) <= 998
    assert raw.isascii()
    read = email.message_from_bytes(raw, policy=email.policy.default)
    assert not read.defects
    assert plain(title) in " ".join(part(read, "plain").split())


def test_control_signs_and_reordering_are_taken_out():
    assert plain("a\x00b\u202ec\r\n d\u2066") == "a b c d"
    assert plain("naïve 数学 👩\u200d🔬") == "naïve 数学 👩\u200d🔬"


def test_letters_hold_what_was_asked_for_and_both_links():
    shown = {
        "wanted": ["new papers in cs.LG"],
        "confirm": "https://papers.example.org/confirm/abc",
        "until": "noon",
    }
    confirm = mail_of(letter_texts("confirm", SETTINGS, subscriber=5, number=3, at=AT, **shown))
    already = mail_of(letter_texts("already", SETTINGS, subscriber=5, number=3, at=AT, **shown))
    assert confirm["Message-ID"] != already["Message-ID"]
    for mail in (confirm, already):
        assert mail["List-Unsubscribe"].startswith(f"<https://papers.example.org/u/{TOKEN}>")
        for text in (part(mail, "plain"), part(mail, "html")):
            assert "new papers in cs.LG" in text
            assert f"/u/{TOKEN}" in text
    assert "/confirm/abc" in part(confirm, "plain")
    assert "https://papers.example.org/confirm/abc" in Reader(part(confirm, "html")).links
    assert "/confirm/" not in part(already, "plain") + part(already, "html")
    with pytest.raises(ValueError, match="confirm or already"):
        letter_texts("hello", SETTINGS, subscriber=5, number=3, at=AT)


def test_html_is_well_formed():
    html5lib = pytest.importorskip("html5lib", reason="needs the extra 'test'")
    said = digest(found=(ITEM,), search="a", more=2, changes=(Change("s", "S", "x"),))
    shown = {"wanted": ["a"], "confirm": "https://x", "until": "noon"}
    made = [
        letter_texts(kind, SETTINGS, subscriber=5, number=3, at=AT, **shown)
        for kind in ("confirm", "already")
    ]
    for texts in (texts_of(said), *made):
        parser = html5lib.HTMLParser()
        parser.parse(part(mail_of(texts), "html"))
        assert parser.errors == []
