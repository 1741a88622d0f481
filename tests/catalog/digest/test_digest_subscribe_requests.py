"""What the form takes and what it refuses, without looking anything up."""

import email.message
import email.policy
import hashlib
import socket
import unicodedata

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")
pytest.importorskip("email_validator", reason="needs the extra 'web'")

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lodim.catalog.digest import Preferences, RequestError, read_request
from lodim.catalog.digest.requests import CONSENT, CONSENT_TEXTS, clean_email, fold

INJECTIONS = [
    "\r\nBcc: x@example.org",
    "\nBcc: x@example.org",
    "\rX",
    "\x00",
    "\x0b",
    "\u2028",
    "\u202e",
    "\x7f",
    "\u200b",
]


def errors_of(*values, **named):
    with pytest.raises(RequestError) as caught:
        read_request(*values, **named)
    return caught.value.errors


def test_a_whole_request():
    made = read_request(
        " Ann.B+c@EXAMPLE.org ", "daily", ["privacy", "cs.LG", "CS.lg", ""], ' low  "rank" ', "Asia/Tokyo"
    )
    assert made.email == "Ann.B+c@example.org"
    assert made.preferences == Preferences("daily", ("privacy", "cs.lg"), 'low "rank"', "Asia/Tokyo")
    assert "Ann" not in repr(made)
    assert read_request("a@example.org").preferences == Preferences("weekly", (), None, "UTC")


def test_preferences_survive_the_database():
    kept = Preferences("daily", ("privacy", "cs.lg"), 'é "low rank" <b>', "Asia/Tokyo")
    assert Preferences.unpack(kept.pack(source="x", text="1")) == kept


@pytest.mark.parametrize(
    "typed", ["", "   ", "a", "a@b", "@example.org", "a@", "a b@example.org", "a@@example.org"]
)
def test_no_address(typed):
    assert list(errors_of(typed)) == ["email"]


@pytest.mark.parametrize(
    "typed",
    [
        "a@localhost",
        "a@x.test",
        "a@1.2.3.4",
        "a@[1.2.3.4]",
        '"a b"@example.org',
        "Ann <a@example.org>",
        "a@x..org",
    ],
)
def test_addresses_that_no_stranger_may_have_written_to(typed):
    assert "not an e-mail address" in errors_of(typed)["email"]


@pytest.mark.parametrize("bad", INJECTIONS)
@pytest.mark.parametrize("name", ["email", "areas", "query", "time_zone"])
def test_what_would_break_a_line_is_refused_in_every_field(name, bad):
    good = {"email": "a@example.org", "areas": "privacy", "query": "rank", "time_zone": "UTC"}
    for typed in (good[name] + bad, bad + good[name], good[name][:2] + bad + good[name][2:]):
        values = good | {name: typed}
        said = errors_of(**(values | {"areas": [values["areas"]]}))
        assert list(said) == [name]
        assert "control characters" in said[name]


def test_the_longest_address_counts_bytes():
    domain = "@" + ".".join(["d" * 60] * 3) + ".example.org"
    assert clean_email("a" * (254 - len(domain)) + domain)
    assert "254 bytes" in errors_of("a" * (255 - len(domain)) + domain)["email"]
    umlauts = "ä" * 32 + domain
    assert len(umlauts) < 254 < len(umlauts.encode())
    assert "254 bytes" in errors_of(umlauts)["email"]


def test_domains_become_ascii_and_the_part_before_stays():
    assert clean_email("Jörg@BÜCHER.de") == "Jörg@xn--bcher-kva.de"
    assert clean_email("Jörg@xn--bcher-kva.de") == clean_email("Jörg@bücher.de")
    assert clean_email("é@example.org") == clean_email("e\u0301@example.org") == "é@example.org"
    assert clean_email("a+tag@example.org") != clean_email("a@example.org")


@given(st.emails() | st.emails().map(str.upper))
@settings(max_examples=60, deadline=None)
def test_addresses_are_kept_in_one_form(typed):
    try:
        kept = clean_email(typed)
    except ValueError:
        assume(False)
    local, _, domain = kept.rpartition("@")
    assert clean_email(kept) == kept
    assert local == typed.rpartition("@")[0]
    assert domain == domain.lower()
    assert domain.isascii()
    assert fold(kept) == fold(kept.swapcase())


@given(st.text(max_size=40), st.text(st.characters(max_codepoint=0x2FF), max_size=20))
@settings(max_examples=150, deadline=None)
def test_whatever_is_taken_can_stand_in_a_header(local, host):
    try:
        kept = clean_email(f"{local}@{host}.org")
    except ValueError:
        return
    assert len(kept.encode()) <= 254
    assert not any(unicodedata.category(sign)[0] in "CZ" for sign in kept)
    message = email.message.EmailMessage(email.policy.SMTPUTF8)
    message["To"] = kept
    assert message["To"].addresses[0].addr_spec == kept
    assert len(message["To"].addresses) == 1


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_text_is_refused_by_field(text):
    said = errors_of(text, text, [text], text, text)
    assert {"email", "frequency"} <= set(said) <= {"email", "frequency", "areas", "query", "time_zone"}
    assert all(text and "\n" not in text for text in said.values())


def test_mistakes_are_named_with_what_was_meant():
    said = errors_of("x", "hourly", ["privcy", "cs.LG"], "???", "Europe/Berlim")
    assert set(said) == {"email", "frequency", "areas", "query", "time_zone"}
    assert "Did you mean privacy?" in said["areas"]
    assert "Did you mean Europe/Berlin?" in said["time_zone"]
    assert "no word to look for" in said["query"]
    assert "status:planed" in errors_of("a@example.org", query="status:planed rank")["query"]
    assert read_request("a@example.org", query="area:cs.LG rank").preferences.query == "area:cs.LG rank"


def test_limits_of_a_request():
    assert "at most 300" in errors_of("a@example.org", query="a " * 160)["query"]
    tags = [f"cs.{a}{b}" for a in "abcdefg" for b in "abcdefg"]
    assert "at most 40" in errors_of("a@example.org", areas=tags)["areas"]
    assert errors_of("a@example.org", areas=["cs.<script>"])


def test_nothing_is_looked_up_on_the_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert read_request("a@no-such-domain-here.org").email


def test_preferences_alone_need_no_address():
    assert read_request(None, "daily").email == ""


def test_a_text_that_was_consented_to_is_never_changed():
    """Whoever changes a text adds a version; the consents on record are to the old one."""
    assert hashlib.sha256(CONSENT_TEXTS["1"].encode()).hexdigest()[:16] == "e2ca53f6c0f4cb60"
    assert CONSENT in CONSENT_TEXTS
