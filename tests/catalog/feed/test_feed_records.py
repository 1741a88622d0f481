"""Cleaning of entries."""

import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lodim.catalog.feed.records import EntryError, clean_line, clean_text, make_record, read_date, stamp, utc


@given(text=st.text(max_size=80))
def test_cleaning_is_idempotent_and_composed(text):
    clean = clean_text(text)
    assert clean_text(clean) == clean
    assert unicodedata.is_normalized("NFC", clean)
    assert clean_line(text) == " ".join(clean.split())
    assert not any(unicodedata.category(ch) in ("Cc", "Cs") for ch in clean if ch != "\n")


def test_paragraphs_stay_and_lines_are_joined():
    assert clean_text("a\nb \r\n\r\n c\x00d\u202e") == "a b\n\ncd"


@given(st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)))
def test_times_travel(moment):
    at = moment.replace(tzinfo=UTC, microsecond=0)
    assert utc(stamp(at)) == at
    assert read_date(stamp(at)) == (stamp(at), "time")


@pytest.mark.parametrize(
    ("typed", "stored", "precision"),
    [
        ("2024", "2024-01-01T00:00:00Z", "year"),
        (2024, "2024-01-01T00:00:00Z", "year"),
        ("2024-5", "2024-05-01T00:00:00Z", "month"),
        ("2024-05-03", "2024-05-03T00:00:00Z", "day"),
        ("2024-05-03T18:00:00-05:00", "2024-05-03T23:00:00Z", "time"),
        ("2024-05-03T18:00:00.250", "2024-05-03T18:00:00Z", "time"),
        ("Fri, 03 May 2024 18:00:00 GMT", "2024-05-03T18:00:00Z", "time"),
        ("", None, "time"),
        (None, None, "time"),
    ],
)
def test_dates_are_read_with_their_precision(typed, stored, precision):
    assert read_date(typed) == (stored, precision)


@pytest.mark.parametrize("typed", ["soon", "2024-13", "2024-02-30", "0000", "20240503T", "9" * 400])
def test_wrong_dates_are_refused(typed):
    with pytest.raises(EntryError, match="is no date"):
        read_date(typed)


def test_what_a_record_needs():
    with pytest.raises(EntryError, match="no title"):
        make_record(title=" \n", source="s")
    with pytest.raises(EntryError, match="expected text, got int"):
        make_record(title=3, source="s")
    with pytest.raises(EntryError, match="over 1000"):
        make_record(title="x" * 1001, source="s")
    for wrong in ("many", True, float("nan"), "inf", 10**400, []):
        with pytest.raises(EntryError, match="upvotes must be a number"):
            make_record(title="x", source="s", signals={"upvotes": wrong or [1]})
    assert make_record(title="x", source="s", signals={"a": None, "b": "-3"}).signals == (("b", -3.0),)


def test_addresses_that_are_none_are_left_out():
    for url in ("javascript:alert(1)", "ftp://x.org", 'https://x.org/"><b', "https://x y"):
        assert make_record(title="x", source="s", url=url).url is None
    assert make_record(title="x", source="s", url="https://x.org/a?b=1").url == "https://x.org/a?b=1"


def test_an_identifier_is_taken_from_doi_or_address_and_its_doi_left_out():
    one = make_record(title="x", source="s", doi="10.48550/arXiv.1804.08838")
    assert (one.arxiv_id, one.doi) == ("1804.08838", None)
    two = make_record(title="x", source="s", url="https://arxiv.org/abs/1804.08838v3", doi="10.1000/2")
    assert (two.arxiv_id, two.version, two.doi) == ("1804.08838", 3, "10.1000/2")


def test_the_digest_leaves_out_the_signals():
    one, two = (make_record(title="x", source="s", signals={"upvotes": n}) for n in (1, 2))
    assert one.digest() == two.digest() != make_record(title="y", source="s").digest()
