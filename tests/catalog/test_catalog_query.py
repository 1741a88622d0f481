"""Any text is a query: words, phrases, exclusions, filters; nothing raises."""

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.catalog import parse_query, search
from lodim.catalog.query import match_expression, split_words


def test_words_lose_case_and_punctuation_and_what_says_nothing():
    query = parse_query("How do I cluster my 3D point-clouds, please?")
    assert query.words == ("cluster", "3d", "point", "clouds")
    assert not query.notes


def test_a_text_of_common_words_keeps_them():
    assert parse_query("what is this").words == ("what", "is", "this")


def test_phrases_exclusions_and_filters():
    query = parse_query(
        'tables "low rank" -image -"neural network" area:privacy YEAR:2020-2023 -data:text has:claim'
    )
    assert query.words == ("tables",)
    assert query.phrases == ("low rank",)
    assert query.excluded == ("image", "neural network")
    assert query.filters == (
        ("area", "privacy", True),
        ("year", "2020-2023", True),
        ("data", "text", False),
        ("has", "claim", True),
    )


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("FLoRA: low-rank", ("flora", "low", "rank")),
        ("N:M", ("n", "m")),
        ("C++ -", ("c",)),
        ("a-b -c", ("b",)),
        ("e-mail", ("e", "mail")),
        ("http://example.org/x", ("http", "example", "org", "x")),
        ("Café ﬁne", ("café", "fine")),
        ('say "unclosed phrase', ("say", "unclosed", "phrase")),
        ("l_p", ("l", "p")),
    ],
)
def test_what_is_no_operator_is_words(typed, words):
    assert parse_query(typed).words == words


@pytest.mark.parametrize(
    ("typed", "note"),
    [
        ("area:privcy", "did you mean area:privacy?"),
        ("year:soon", "'soon' is no year"),
        ("has:fun", "there are: claim"),
        ("data:spreadsheets", "data:spreadsheets is unknown and was left out"),
    ],
)
def test_what_is_not_understood_is_said(typed, note):
    query = parse_query(typed)
    assert not query.filters
    assert note in query.notes[0]


NASTY = [
    "3D: what?",
    '"',
    '""',
    '" "',
    "C++ -",
    "-",
    "- -- ---",
    "'; drop table card; --",
    "x" * 10_000,
    "word " * 2_000,
    '"' * 10_000,
    " ".join(f"w{i}" for i in range(3_000)),
    "-a " * 500,
    '😀 🤖 -😀 "😀"',
    "NEAR(a b) AND OR NOT",
    "a* ^b {title}: c",
    "area: year: -area:",
    'area:"" year:9999-0000',
    "\x00\x01\ud800\udfff",
    "²³ ½ ﷺ ॐ 数学 תורה",
    "e\u0301",
    "",
    "   \n\t",
]


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_nasty_texts_never_raise(text):
    found = search(text, mode="lexical")
    assert len(found.hits) <= 20
    assert search(text, mode="lexical") == found


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\"-:* ()^{}+'")), max_size=40))
def test_no_text_raises(text):
    search(text, mode="lexical")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_every_expression_is_valid_full_text_syntax(text):
    words = tuple(split_words(text))
    if not words:
        return
    database = sqlite3.connect(":memory:")
    database.execute("CREATE VIRTUAL TABLE t USING fts5(x)")
    assert database.execute("SELECT * FROM t WHERE t MATCH ?", (match_expression(words),)).fetchall() == []


def test_a_raw_text_would_be_an_error():
    """Why words are quoted: the same text, given to the index as it is, is a syntax error."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE VIRTUAL TABLE t USING fts5(x)")
    with pytest.raises(sqlite3.OperationalError):
        database.execute("SELECT * FROM t WHERE t MATCH ?", ("3D: what?",))
