"""Feeds and BibTeX: what the standards ask for, text that stays text, the way back."""

import json
from dataclasses import replace
from datetime import datetime
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.catalog.feed import Catalog, to_atom, to_bibtex, to_json_feed
from lodim.catalog.feed.readers import read
from lodim.catalog.feed.records import EntryError, Record, make_record

take_in = pytest.importorskip("lodim.catalog.feed.merge", reason="needs the extra 'web'").take_in

A = "{http://www.w3.org/2005/Atom}"
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=1>',
    "{{7*7}}",
    "%0d%0aBcc: x",
    "a\x0bb]]>",
    "$a<b$ & x",
]


def papers_of(*records):
    with Catalog(":memory:", encoder=None) as catalog:
        with catalog.store.writing() as connection:
            for record in records:
                take_in(connection, record, "2026-01-01T00:00:00Z")
        return catalog.papers("new", limit=100).papers


def full(**changed):
    given_ = {
        "title": "A title",
        "source": "arxiv",
        "abstract": "Words.",
        "authors": ["Ann Lee", "Bo Xu"],
        "arxiv": "2001.00001v2",
        "published": "2020-01-02T03:04:05Z",
        "updated": "2020-02-03",
        "tags": ["cs.LG"],
    }
    return make_record(**{**given_, **changed})


def one(parent, name):
    found = parent.findall(A + name)
    assert len(found) == 1, name
    return found[0].text


def check_atom(text):
    """Assert what RFC 4287 requires of a feed and its entries; return the entries."""
    feed = ElementTree.fromstring(text.encode())
    assert feed.tag == A + "feed"
    for element in (feed, *feed.findall(A + "entry")):
        assert one(element, "id").split(":")[0] in ("https", "urn")
        assert one(element, "title")
        assert datetime.fromisoformat(one(element, "updated")).tzinfo is not None
        links = [(link.get("rel"), link.get("href")) for link in element.findall(A + "link")]
        assert len(links) == len(set(links))
        assert all(person.findall(A + "name") for person in element.findall(A + "author"))
    assert feed.findall(A + "author")
    entries = feed.findall(A + "entry")
    for entry in entries:
        assert entry.findall(A + "content") or any(
            link.get("rel") == "alternate" for link in entry.findall(A + "link")
        )
        assert len(entry.findall(A + "summary")) <= 1
    assert len({one(e, "id") for e in entries}) == len(entries)
    return entries


def test_atom_has_what_the_standard_requires():
    papers = papers_of(
        full(), full(title="Nothing known", **dict.fromkeys(["arxiv", "published", "updated", "authors"]))
    )
    entries = check_atom(to_atom(papers, title="T", address="https://x.org/feed", home="https://x.org"))
    assert len(entries) == 2
    by_title = {one(e, "title"): e for e in entries}
    entry = by_title["A title"]
    assert one(entry, "id") == "https://arxiv.org/abs/2001.00001"
    assert one(entry, "updated") == "2020-02-03T00:00:00Z"
    assert one(entry, "published") == "2020-01-02T03:04:05Z"
    assert [n.text for n in entry.findall(f"{A}author/{A}name")] == ["Ann Lee", "Bo Xu"]
    assert entry.find(A + "category").get("term") == "cs.LG"
    assert check_atom(to_atom([])) == []


def test_our_atom_is_read_back():
    papers = papers_of(full(), full(title="Two & <three>", arxiv="2001.00002", abstract="x < y"))
    back = list(read(to_atom(papers).encode(), "atom"))
    said = {(r.title, r.abstract, r.authors, r.arxiv_id, r.published, r.tags) for r in back}
    assert said == {(p.title, p.abstract, p.authors, p.arxiv_id, p.published, p.tags) for p in papers}


def test_json_feed_has_what_the_standard_requires():
    papers = papers_of(
        full(), full(title="Nothing known", abstract="", **dict.fromkeys(["arxiv", "published", "tags"]))
    )
    feed = json.loads(
        to_json_feed(papers, title="T", address="https://x.org/f", following="https://x.org/f?c=1")
    )
    assert feed["version"] == "https://jsonfeed.org/version/1.1"
    assert (feed["title"], feed["feed_url"], feed["next_url"]) == (
        "T",
        "https://x.org/f",
        "https://x.org/f?c=1",
    )
    assert len({item["id"] for item in feed["items"]}) == 2
    for item in feed["items"]:
        assert isinstance(item["id"], str)
        assert item["content_text"]
        assert all(isinstance(author["name"], str) for author in item["authors"])
        for name in ("date_published", "date_modified"):
            assert datetime.fromisoformat(item.get(name, "2020-01-01T00:00:00Z")).tzinfo is not None
    assert json.loads(to_json_feed([]))["items"] == []


@pytest.mark.parametrize("text", HOSTILE)
def test_mark_up_is_text(text):
    record = full(title=text, abstract=text, authors=[text], tags=[text])
    (paper,) = papers_of(record)
    (entry,) = check_atom(to_atom([paper], title=text))
    assert (one(entry, "title"), one(entry, "summary")) == (record.title, record.abstract)
    (item,) = json.loads(to_json_feed([paper], title=text))["items"]
    assert (item["title"], item["content_text"]) == (record.title, record.abstract)
    (back,) = read(to_bibtex(paper).encode(), "bibtex")
    assert isinstance(back, Record)


def test_bibtex_of_an_entry():
    (paper,) = papers_of(full(title="50% of R&D_x", venue="J. of {X}", kind="article", doi="10.1000/x"))
    text = to_bibtex(paper)
    assert text.startswith("@article{lee2020paper,\n")
    assert r"title = {{50\% of R\&D\_x}}" in text
    assert "eprint = {2001.00001}" in text
    twins = papers_of(full(), full(arxiv="2001.00002", title="A title"))
    assert [line for line in to_bibtex(twins).splitlines() if line.startswith("@")] == [
        "@misc{lee2020title,",
        "@misc{lee2020title-2,",
    ]


@pytest.fixture(scope="module")
def some_paper():
    """Return a paper."""
    return papers_of(full())[0]


@settings(max_examples=150, deadline=None)
@given(
    title=st.text(
        st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Co", "Cn")), min_size=1, max_size=30
    ),
    name=st.sampled_from(["Ann Lee", "Jürgen Müller", "Band and Company", "Lee, Ann", "José Ñandú"]),
)
def test_bibtex_is_read_back(some_paper, title, name):
    """Except for what LaTeX spells with several characters: quotes, dashes and blanks of other widths."""
    try:
        record = full(title=title, authors=[name])
    except EntryError:
        return
    if any(mark in record.title for mark in ("--", "``", "''", "$", "<", "?`", "!`", "\u00a0")):
        return
    paper = replace(some_paper, title=record.title, authors=record.authors)
    (back,) = read(to_bibtex(paper).encode(), "bibtex")
    assert back.title == record.title
    assert back.arxiv_id == "2001.00001"
    assert back.authors == (name,)
