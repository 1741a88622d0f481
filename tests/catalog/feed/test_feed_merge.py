"""Taking records in: identity, repetition, corrections, history, signals."""

import io
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lodim.catalog.feed.records import make_record

take_in = pytest.importorskip("lodim.catalog.feed.merge", reason="needs the extra 'web'").take_in

T0, T1, T2 = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"


def put(catalog, record, now=T0, at=None):
    with catalog.store.writing() as connection:
        return take_in(connection, record, now, at)


def dump(catalog):
    """Return everything that is stored."""
    with catalog.store.reading() as connection:
        tables = ("paper", "paper_version", "author", "paper_author", "tag", "signal", "meta")
        return {t: connection.exec_driver_sql(f"SELECT * FROM {t} ORDER BY 1, 2").all() for t in tables}


def check_index(catalog):
    """Assert that the full-text index is what it would be if it were made anew."""
    with catalog.store.writing() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(
                "INSERT INTO paper_fts (paper_fts, rank) VALUES ('integrity-check', 1)"
            )
            assert not connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            return
        held = "SELECT paper_id, document FROM paper_fts ORDER BY paper_id"
        fresh = "SELECT id, paper_document(title, abstract, words) FROM paper ORDER BY id"
        assert connection.exec_driver_sql(held).all() == connection.exec_driver_sql(fresh).all()


RECORDS = st.builds(
    make_record,
    title=st.sampled_from(
        ["A study of something rather long", "A Study of Something -- rather long!", "B", "C"]
    ),
    source=st.sampled_from(["arxiv", "bibtex"]),
    abstract=st.sampled_from(["", "one", "two"]),
    authors=st.sampled_from([(), ("Ann Lee",), ("Lee, A.",), ("Bo Xu",)]),
    arxiv=st.sampled_from([None, "2001.00001", "2001.00001v2", "2001.00002"]),
    doi=st.sampled_from([None, "10.1000/x", "10.1000/y"]),
    published=st.sampled_from([None, "2020", "2020-03-01", "2021"]),
    updated=st.sampled_from([None, "2020-05-01"]),
    tags=st.sampled_from([(), ("x",), ("y",)]),
    signals=st.sampled_from([{}, {"upvotes": 1}, {"upvotes": 5}]),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records=st.lists(RECORDS, max_size=7))
def test_the_same_records_again_change_nothing(emptied, records):
    """Also when sources contradict themselves: what was seen is seen. Votes have the time of their file."""
    with emptied() as papers:
        times = [f"2026-01-{i + 1:02}T00:00:00Z" for i in range(len(records))]
        for record, at in zip(records, times):
            put(papers, record, at, at)
        before = dump(papers)
        assert len(before["paper"]) == len({row[0] for row in before["paper"]})
        outcomes = [put(papers, record, T2, at) for record, at in zip(records, times)]
        after = dump(papers)
        repeated = {(r.arxiv_id, r.digest(), at) for r, at in zip(records, times)}
        if len(repeated) == len(records):
            assert set(outcomes) <= {"unchanged"}
            assert after == before


@settings(max_examples=20, deadline=None)
@given(records=st.lists(RECORDS, max_size=6))
def test_no_two_papers_share_an_identifier_and_indices_hold(emptied, records):
    with emptied() as papers:
        for record in records:
            put(papers, record)
        rows = dump(papers)["paper"]
        named = [row.arxiv_id for row in rows if row.arxiv_id]
        assert len(named) == len(set(named))
        assert {r.arxiv_id for r in records if r.arxiv_id} == set(named)
        check_index(papers)


def test_versions_of_an_identifier_are_one_paper(papers):
    assert put(papers, make_record(title="Old title", arxiv="2001.00001v1", source="arxiv")) == "added"
    newer = make_record(title="New title", abstract="text", arxiv="2001.00001v3", source="arxiv")
    assert put(papers, newer, T1) == "updated"
    older = make_record(title="Middle title", arxiv="2001.00001v2", source="arxiv")
    assert put(papers, older, T2) == "unchanged"
    paper = papers.paper("arXiv:2001.00001v9")
    assert (paper.title, paper.version, paper.changed) == ("New title", 3, T1)
    said = [(s.title, s.version, s.recorded) for s in papers.history("2001.00001")]
    assert said == [("Old title", 1, T0), ("New title", 3, T1), ("Middle title", 2, T2)]
    assert papers.search("old").n_matching == 0
    assert papers.search("new").n_matching == 1


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_arxiv_doi_and_title_meet_in_any_order(papers, order):
    records = [
        make_record(
            title="One title that is long enough", arxiv="2001.00001v2", source="arxiv", abstract="long text"
        ),
        make_record(
            title="Another title", doi="10.1000/X", source="bibtex", tags=["t"], signals={"stars": 3}
        ),
        make_record(
            title="One title: that is long enough", arxiv="2001.00001", doi="10.1000/x", source="table"
        ),
    ]
    for i in order:
        put(papers, records[i])
    assert len(papers) == 1
    paper = papers.paper("10.1000/x")
    assert (paper.arxiv_id, paper.title, paper.abstract) == (
        "2001.00001",
        "One title that is long enough",
        "long text",
    )
    assert paper.tags == ("t",)
    assert paper.signals == {"bibtex:stars": 3}
    assert len(papers.history(paper.id)) == 3
    assert papers.search("t").n_matching == 1


def test_what_is_known_to_differ_stays_apart(papers):
    def record(**known):
        return make_record(title="The very same long title twice", source="s", **known)

    assert put(papers, record(arxiv="2001.00001", doi="10.1000/x")) == "added"
    assert put(papers, record(arxiv="2001.00002", doi="10.1000/x")) == "added"
    assert put(papers, record(doi="10.1000/y", authors=["Ann Lee"], published="2020")) == "added"
    assert put(papers, record(doi="10.1000/z", authors=["Bo Xu"], published="2020")) == "added"
    assert len(papers) == 4
    short = [make_record(title="Editorial", source="s", authors=a) for a in (["Ann Lee"], ["Bo Xu"], [])]
    assert [put(papers, r) for r in short] == ["added"] * 3


def test_gaps_are_filled_by_any_source_but_text_is_not_overwritten(papers):
    put(
        papers,
        make_record(title="T", arxiv="2001.00001v1", source="arxiv", abstract="first", updated="2020-01-02"),
    )
    other = make_record(
        title="t",
        arxiv="2001.00001",
        source="huggingface",
        abstract="other",
        doi="10.1000/x",
        authors=["Ann Lee"],
        published="2020",
    )
    assert put(papers, other, T1) == "updated"
    paper = papers.paper(1)
    assert (paper.title, paper.abstract, paper.doi, paper.authors) == (
        "T",
        "first",
        "10.1000/x",
        ("Ann Lee",),
    )
    assert (paper.published, paper.precision, paper.year) == ("2020-01-01T00:00:00Z", "year", 2020)
    correction = make_record(
        title="T", arxiv="2001.00001v1", source="arxiv", abstract="corrected", updated="2020-01-02"
    )
    assert put(papers, correction, T2) == "updated"
    assert papers.paper(1).abstract == "corrected"


def test_signals_are_observations_in_time(papers):
    def votes(n):
        return make_record(title="T", arxiv="2001.00001", source="hub", signals={"upvotes": n})

    assert put(papers, votes(1), T0) == "added"
    assert put(papers, votes(1), T1) == "unchanged"
    assert put(papers, votes(5), T2) == "updated"
    assert put(papers, votes(1), T2, T1) == "unchanged"
    assert put(papers, votes(2), T2, T2) == "unchanged"
    assert papers.paper(1).signals == {"hub:upvotes": 5}
    with papers.store.reading() as connection:
        rows = connection.exec_driver_sql("SELECT source, kind, observed_at, value FROM signal").all()
    assert [tuple(row) for row in rows] == [
        ("hub", "upvotes", T0, 1.0),
        ("hub", "upvotes", T1, 1.0),
        ("hub", "upvotes", T2, 5.0),
    ]


def test_files_of_every_format_twice(papers, atom, daily, take):
    bib = "\n".join(
        f'@article{{k{i}, title={{Operators and their spectra, part {i}}}, author={{M{{\\"u}}ller, J{{\\"u}}rgen}}, '
        f"year={{{1990 + i % 30}}}, keywords={{k{i % 7}}}}}"
        for i in range(40)
    )
    files = [atom, daily, bib]
    first = [take(papers, text, now=T0) for text in files]
    assert [(r.added, r.updated, r.unchanged, len(r.rejected)) for r in first] == [
        (2, 0, 0, 1),
        (1, 1, 0, 0),
        (40, 0, 0, 0),
    ]
    before = dump(papers)
    second = [take(papers, text, now=T2) for text in files]
    assert [(r.added, r.updated, r.unchanged) for r in second] == [(0, 0, 2), (0, 0, 2), (0, 0, 40)]
    assert dump(papers) == before
    assert len(papers) == 43


def test_an_older_file_again_does_not_bring_old_votes_back(papers, voted, take):
    old, new = (voted(("2001.00001", n, "2026-01-01T00:00:00Z")) for n in (3, 9))
    take(papers, old, now=T0)
    take(papers, new, now=T1)
    report = take(papers, old, now=T2)
    assert report.unchanged == 1
    assert papers.paper(1).signals == {"huggingface:upvotes": 9}


def test_a_file_that_cannot_be_read_changes_nothing(papers):
    stream = io.BytesIO(b"a,b\n1,2\n")
    stream.name = "x.csv"
    with pytest.raises(ValueError, match=r"x\.csv: .*no column of titles"):
        papers.ingest(stream)
    assert dump(papers)["meta"] == [("schema_version", str(papers.store.schema_version))]
    with pytest.raises(ValueError, match="format must be one of auto"):
        papers.ingest(io.BytesIO(b"x"), "pdf")
    with pytest.raises(ValueError, match="there is no file"):
        papers.ingest("no/such/file")
    with pytest.raises(ValueError, match="name of a source"):
        papers.ingest(io.BytesIO(b"title\nx"), "csv", name="a b")


def test_the_thousand_authors_of_a_collaboration(papers):
    names = [f"Person Number{i}" for i in range(3000)]
    put(papers, make_record(title="T", arxiv="2001.00001", source="arxiv", authors=names))
    assert papers.paper(1).authors == tuple(names)
