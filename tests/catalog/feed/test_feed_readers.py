"""Readers: what each format holds, and that a bad entry never costs the good ones."""

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.catalog.feed.readers import FORMATS, MOST_BYTES, Rejected, read, recognise
from lodim.catalog.feed.readers import bibtex as bibtex_module
from lodim.catalog.feed.records import Record


def entries(text, form=None, name="", **options):
    data = text if isinstance(text, bytes) else text.encode()
    found = list(read(data, form or recognise(data, name), **options))
    return [e for e in found if isinstance(e, Record)], [e for e in found if isinstance(e, Rejected)]


def test_atom(atom):
    good, bad = entries(atom)
    first, second = good
    assert first.title == "Measuring the Intrinsic Dimension of Objective Landscapes"
    assert first.abstract.endswith("until a solution appears; $d < D$ & more.")
    assert (first.arxiv_id, first.version, first.source) == ("1804.08838", 1, "arxiv")
    assert first.authors == ("Chunyuan Li", "Heerad Farkhoor")
    assert first.tags == ("cs.LG", "stat.ML")
    assert first.published == "2018-04-24T04:05:06Z"
    assert second.abstract == "Blur & other changes in place of noise."
    assert second.doi == "10.1000/xyz.1"
    assert [(b.entry, b.reason) for b in bad] == [("entry 3", "it has no title")]


BOMB = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<feed xmlns="http://www.w3.org/2005/Atom"><entry><title>&b;</title></entry></feed>"""
OUTSIDE = """<!DOCTYPE f [<!ENTITY x SYSTEM "file:///etc/hostname">]>
<feed xmlns="http://www.w3.org/2005/Atom"><entry><title>&x;</title></entry></feed>"""


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
LAUGHS = f'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY l0 "ha">{LAUGHS}]>'  # two gigabytes of laughter
PARAMETER = '<!DOCTYPE r [<!ENTITY % x SYSTEM "https://example.org/x.dtd"> %x;]>'
REMOTE = '<!DOCTYPE feed PUBLIC "-//X//Y" "https://example.org/feed.dtd">'
HOLLOW = {
    "atom": '<feed xmlns="http://www.w3.org/2005/Atom"><entry><title>&l9;</title></entry></feed>',
    "rss": '<rss version="2.0"><channel><item><title>&l9;</title></item></channel></rss>',
}


@pytest.mark.parametrize("text", [BOMB, OUTSIDE, "<!DOCTYPE feed><feed/>"])
def test_document_types_are_refused(text):
    with pytest.raises(ValueError, match="document type or entities"):
        entries(text)


@pytest.mark.parametrize("form", ["atom", "rss"])
@pytest.mark.parametrize("start", [LAUGHS, PARAMETER, REMOTE])
def test_bombs_and_what_is_outside_are_never_expanded(form, start, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("something outside was opened")

    for name in ("socket.socket", "socket.create_connection", "urllib.request.urlopen", "builtins.open"):
        monkeypatch.setattr(name, refuse)
    for encoding in ("utf-8", "utf-16"):
        data = (start + HOLLOW[form]).replace('?xml version="1.0"?', "").replace("<>", "").encode(encoding)
        tracemalloc.start()
        with pytest.raises(ValueError, match="document type or entities"):
            list(read(data, form))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5_000_000


def test_an_element_of_great_depth_is_read_or_refused_in_words():
    deep = "<a>" * 100_000 + "x" + "</a>" * 100_000
    text = f'<feed xmlns="http://www.w3.org/2005/Atom"><entry><title>{deep}</title></entry></feed>'
    try:
        good, _ = entries(text)
    except ValueError:
        return
    assert [record.title for record in good] == ["x"]


RSS = """<?xml version="1.0"?>
<rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/"><channel><title>cs.LG</title>
<item><title>Subspaces of $a&lt;b$</title><link>https://arxiv.org/abs/2411.00001</link>
  <description>arXiv:2411.00001v2 Announce Type: replace
Abstract: Of $d&lt;D$ &amp;amp; more.</description>
  <guid isPermaLink="false">oai:arXiv.org:2411.00001v2</guid><category>cs.LG</category><category>stat.ML</category>
  <pubDate>Fri, 01 Nov 2024 00:00:00 -0400</pubDate><dc:creator>Ann Lee, Bo Xu</dc:creator></item>
<item><title>On a page</title><link>https://example.org/post?a=1&amp;b=2</link>
  <description>&lt;p&gt;One.&lt;/p&gt;&lt;p&gt;Two &amp;lt; three&lt;script&gt;x&lt;/script&gt;&lt;/p&gt;</description>
  <dc:creator>Lee, Ann</dc:creator></item>
<item><description>nameless</description></item>
<item><title>Late</title><pubDate>yesterday</pubDate></item>
</channel></rss>"""


def test_rss():
    assert recognise(RSS.encode()) == "rss"
    (first, second), bad = entries(RSS)
    assert first.title == "Subspaces of $a<b$"
    assert first.abstract == "Of $d<D$ & more."
    assert (first.arxiv_id, first.version, first.source) == ("2411.00001", 2, "arxiv")
    assert first.authors == ("Ann Lee", "Bo Xu")
    assert first.tags == ("cs.LG", "stat.ML")
    assert first.published == "2024-11-01T04:00:00Z"
    assert (second.abstract, second.source) == ("One.\n\nTwo < three", "rss")
    assert second.url == "https://example.org/post?a=1&b=2"
    assert second.authors == ("Lee, Ann",)
    assert [b.entry for b in bad] == ["item 3", "item 4"]
    with pytest.raises(ValueError, match="not an RSS"):
        entries("<feed/>", "rss")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<feed", "not well-formed"),
        ("<rdf><channel/></rdf>", "neither an Atom feed nor RSS"),
        ("<rss></rss>", "with a channel"),
        ('<?xml version="1.0" encoding="no-such"?><a/>', "not well-formed"),
    ],
)
def test_other_xml_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        entries(text)


def test_atom_in_another_encoding(atom):
    latin = atom.replace("UTF-8", "ISO-8859-1").replace("Arpit Bansal", "José Ñ").encode("latin-1")
    assert entries(latin)[0][1].authors == ("José Ñ",)


def test_daily_json_in_both_spellings(daily):
    first, second = entries(daily)[0]
    assert first.arxiv_id == "1804.08838"
    assert dict(first.signals) == {"upvotes": 41, "comments": 2}
    assert first.published == "2018-04-24T04:05:06Z"
    assert second.title == "Neurons that Agree"
    assert second.published == "2026-11-23T03:00:00Z"
    assert dict(second.signals) == {"upvotes": 5, "comments": 3}
    assert entries(json.dumps({"papers": json.loads(daily)}))[0] == [first, second]


def test_bad_entries_of_json_are_told(daily):
    mixed = [*json.loads(daily), 7, {}, {"title": "x", "upvotes": "lots"}, {"title": ["x"]}, {"paper": None}]
    good, bad = entries(json.dumps(mixed))
    assert len(good) == 2
    assert [b.entry for b in bad] == [f"entry {i}" for i in range(3, 8)]
    assert "upvotes must be a number" in bad[2].reason


@pytest.mark.parametrize("text", ["[1, ", '[{"title": NaN}]', "[" * 200_000, "3", '"x"', "{}{}"])
def test_what_is_no_json_list_is_refused(text):
    with pytest.raises(ValueError, match=r"JSON|nested|expected a list"):
        entries(text, "json")


BIB = r"""
@string{nips = "Advances in Neural Information Processing"}
@article{a, title = {{M}easuring the {\'E}cole of $x<y$ at 50\% \& more}, year = 2020, month = feb,
  author = {M{\"u}ller, J{\"u}rgen and {The NASA Team} and Le Cun, Yann and others},
  eprint = {2001.00001v2}, archivePrefix = {arXiv}, keywords = {one, two}, journal = nips}
@dataset{b, title = "A data set", doi = {10.1000/abc}, author = "Doe, Jr, John", abstract = "5% of $a%b$ -- all"}
@article{a, title = "Same key", year = {2019}, url={https://arxiv.org/abs/1901.00001}}
@article{broken, title = {never closed
@article{e, title = {After the break}}
@article{f, year = 2000}
@comment{nothing}
"""


def test_bibtex():
    good, bad = entries(BIB)
    by_title = {record.title: record for record in good}
    assert list(by_title) == [
        "Measuring the École of $x<y$ at 50% & more",
        "A data set",
        "Same key",
        "After the break",
    ]
    first = good[0]
    assert first.authors == ("Jürgen Müller", "The NASA Team", "Yann Le Cun")
    assert (first.arxiv_id, first.version, first.published, first.precision) == (
        "2001.00001",
        2,
        "2020-02-01T00:00:00Z",
        "month",
    )
    assert first.tags == ("one", "two")
    assert first.venue == "Advances in Neural Information Processing"
    assert (good[1].kind, good[1].authors, good[1].doi) == ("dataset", ("John Doe Jr",), "10.1000/abc")
    assert good[1].abstract == "5% of $a%b$ – all"
    assert good[2].arxiv_id == "1901.00001"
    assert len(bad) == 2
    assert "not BibTeX" in bad[0].reason
    assert bad[1].reason == "it has no title"


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"{\'e}{\`a}{\^o}{\~n}{\"u}\c{c}\v{s}\H{o}\aa \o{} \ss", "éàôñüçšőåø ß"),
        (r"Poincar\'e and G\"odel", "Poincaré and Gödel"),
        (r"50% of {GAN}s", "50% of GANs"),
        (r"$\alpha_{i} % x$ and \alpha", r"$\alpha_{i} % x$ and α"),
        ("plain text, nothing to do", "plain text, nothing to do"),
    ],
)
def test_latex_becomes_unicode(latex, text):
    assert bibtex_module.latex_text(latex) == text


_PIECES = [
    "\\",
    "{",
    "}",
    "$",
    "%",
    "&",
    "#",
    "~",
    "\\begin{a}",
    "\\'",
    "\\c",
    "\\frac",
    "[",
    "a",
    "é",
    " ",
    "and",
    "--",
    "²",
]


@settings(max_examples=80, deadline=None)
@given(latex=st.lists(st.sampled_from(_PIECES), max_size=12).map("".join))
def test_broken_latex_never_costs_an_entry_that_is_whole(latex):
    bib = f"@misc{{a, title={{Good}}}}\n@article{{k, author={{{latex}}}, month={{²}}, title={{{latex}}}}}\n"
    good, _ = entries(bib, "bibtex")
    assert good[0].title == "Good"


def test_what_cannot_be_decoded_stays():
    assert bibtex_module.latex_text(r"one \frac") == r"one \frac"
    deep = "{" * 5000
    assert bibtex_module.latex_text(deep) == deep


def test_csv_with_usual_and_with_mapped_columns():
    good, bad = entries(
        'Title,Authors,Year,Votes\n"One, two",Ann Lee; Bo Xu,2020,3\nThree,"Doe, Jane",soon,1\nFour,,,\nA,B,C,1,5'
    )
    assert [(r.title, r.authors, r.year, r.signals) for r in good] == [
        ("One, two", ("Ann Lee", "Bo Xu"), 2020, (("upvotes", 3.0),)),
        ("Four", (), None, ()),
    ]
    assert [b.entry for b in bad] == ["line 3", "line 5"]
    mapped = "Paper;GitHub;Who\nX;7;Ann Lee and Bo Xu\n"
    (one,), _ = entries(mapped, "csv", mapping={"title": "Paper", "signal:stars": "GitHub", "authors": "Who"})
    assert (one.signals, one.authors) == ((("stars", 7.0),), ("Ann Lee", "Bo Xu"))


def test_a_mapping_must_fit():
    with pytest.raises(ValueError, match="no column 'X'"):
        entries("title\na\n", "csv", mapping={"title": "X"})
    with pytest.raises(ValueError, match="no field 'titel'"):
        entries("title\na\n", "csv", mapping={"titel": "title"})
    with pytest.raises(ValueError, match="no column of titles among a, b"):
        entries("a,b\n1,2\n", "csv")
    with pytest.raises(ValueError, match="for csv and jsonl"):
        entries("<a/>", "atom", mapping={"title": "x"})


def test_a_quote_that_is_not_closed_costs_that_row_only():
    good, bad = entries('title,year\nfine,2020\n"broken" x,2021\nalso fine,2022\n', "csv")
    assert [r.title for r in good] == ["fine", "also fine"]
    assert [b.entry for b in bad] == ["line 3"]


def test_json_lines():
    text = '{"title": "A", "tags": ["x", "y"], "likes": 4}\n\n{"title": \n[1]\n{"title": "B", "year": 2020}\n'
    good, bad = entries(text, "jsonl")
    assert [(r.title, r.tags, r.signals) for r in good] == [
        ("A", ("x", "y"), (("upvotes", 4.0),)),
        ("B", (), ()),
    ]
    assert [b.entry for b in bad] == ["line 3", "line 4"]


PLAIN = """3 May

A First Paper: With a Colon?

The abstract of it, which ends like this.
It has a second line.

And a second paragraph.

Another Paper

Short text, as an abstract can be.
"""


def test_plain_lists():
    good, bad = entries(PLAIN)
    assert [r.title for r in good] == ["A First Paper: With a Colon?", "Another Paper"]
    assert good[0].abstract.count("\n\n") == 1
    assert [b.entry for b in bad] == ["line 1"]
    assert "no abstract follows '3 May'" in bad[0].reason
    _, lost = entries("Text that ends a sentence has no title before it.\n", "text")
    assert "without a title" in lost[0].reason


def test_formats_are_recognised(atom, daily):
    cases = [
        (atom, "", "atom"),
        (atom, "x.txt", "atom"),
        (daily, "", "json"),
        ('{"title": "a"}\n{"title": "b"}', "", "jsonl"),
        ('{"title": "a"}', "x.jsonl", "jsonl"),
        (BIB, "", "bibtex"),
        ("Title,Year\na,1", "", "csv"),
        ("anything\n", "x.csv", "csv"),
        (PLAIN, "", "text"),
        ("\ufeff" + daily, "", "json"),
    ]
    for text, name, form in cases:
        if form != "jsonl" or not name:
            assert recognise(text.encode(), name) == form
    with pytest.raises(ValueError, match="nothing in it"):
        recognise(b" \n")


def test_limits(monkeypatch):
    with pytest.raises(ValueError, match="split it"):
        read(b"x" * (MOST_BYTES + 1), "text")
    with pytest.raises(ValueError, match="not UTF-8"):
        read("é".encode("latin-1"), "csv")
    monkeypatch.setattr("lodim.catalog.feed.readers.MOST_ENTRIES", 3)
    good, bad = entries("title\n" + "\n".join("abcdef"), "csv")
    assert [r.title for r in good] == list("abc")
    assert bad[0].entry == "entry 4 and on"


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=120) | st.text(max_size=120).map(str.encode), form=st.sampled_from(FORMATS))
def test_any_bytes_are_read_or_refused_in_words(data, form):
    try:
        found = list(read(data, form))
    except ValueError:
        return
    assert all(isinstance(entry, Record | Rejected) for entry in found)
