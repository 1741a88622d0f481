"""Long work and others: a large list leaves the database now and then, and what is broken off can be done again."""

import io
import json
import threading
import time

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")

from lodim.catalog.feed import Catalog, ingest, listing
from lodim.catalog.feed.store import PAPERS

N, AT_ONCE = 60, 5


def listed(n, votes=1):
    return json.dumps(
        [
            {"id": f"2611.{i:05d}", "title": f"Paper {i}", "upvotes": votes, "publishedAt": "2026-11-20"}
            for i in range(n)
        ]
    )


def signals(catalog):
    with catalog.store.reading() as connection:
        return connection.exec_driver_sql(
            "SELECT arxiv_id, signal.source, signal.kind, observed_at, value FROM signal "
            "JOIN paper ON paper.id = paper_id ORDER BY 1, 2, 3, 4"
        ).all()


def test_others_write_while_a_long_list_is_taken_in(place, monkeypatch):
    monkeypatch.setattr(ingest, "AT_ONCE", AT_ONCE)
    with Catalog(place, encoder=None) as one, Catalog(place, encoder=None) as other:
        reports, seen = [], []
        worker = threading.Thread(target=lambda: reports.append(one.ingest(io.StringIO(listed(N)))))
        worker.start()
        while worker.is_alive():
            with other.store.writing(PAPERS, patience=20) as connection:
                other.store.set_meta(connection, "met", "x")
                seen.append(connection.exec_driver_sql("SELECT count(*) FROM paper").scalar_one())
            time.sleep(0.005)
        worker.join()
        assert reports[0].added == N
        between = [n for n in seen if 0 < n < N]
        assert between
        assert all(n % AT_ONCE == 0 for n in between)  # never a part of what is stored together


def test_what_was_broken_off_is_completed_by_the_same_list(place, fresh, monkeypatch):
    monkeypatch.setattr(ingest, "AT_ONCE", AT_ONCE)
    real, count = ingest.take_in, iter(range(10**6))

    def breaking(*given):
        if next(count) == 12:
            raise KeyboardInterrupt
        return real(*given)

    now, later = "2026-11-23T12:00:00Z", "2026-11-23T13:00:00Z"
    with Catalog(place, encoder=None) as papers, fresh() as elsewhere:
        monkeypatch.setattr(ingest, "take_in", breaking)
        with pytest.raises(KeyboardInterrupt):
            papers.ingest(io.StringIO(listed(25)), now=now)
        assert len(papers) == 10
        monkeypatch.setattr(ingest, "take_in", real)
        report = papers.ingest(io.StringIO(listed(25)), now=later)
        assert (report.added, report.updated, report.unchanged) == (15, 0, 10)
        report = papers.ingest(io.StringIO(listed(25)), now=later)
        assert (report.added, report.updated, report.unchanged) == (0, 0, 25)
        assert {row.observed_at for row in signals(papers)} == {now}  # when this list first came in
        with Catalog(elsewhere, encoder=None) as whole:
            whole.ingest(io.StringIO(listed(25)), now=now)
            assert signals(whole) == signals(papers)


def test_what_cannot_be_read_to_its_end_changes_nothing(papers, atom, monkeypatch):
    monkeypatch.setattr(ingest, "AT_ONCE", 1)
    with pytest.raises(ValueError, match=r"XML|cannot be read"):
        papers.ingest(io.StringIO(atom.replace("</feed>", "<entry>")), "atom")
    assert len(papers) == 0


@pytest.mark.parametrize("order", ["trending", "velocity", "top", "new"])
def test_a_list_is_ordered_once_a_moment_and_anew_after_every_change(papers, voted, take, order, monkeypatch):
    made, ranked = [], listing._Votes.ranked
    monkeypatch.setattr(listing._Votes, "ranked", lambda *given: (made.append(given), ranked(*given))[1])
    rows = [(f"2611.{i:05d}", i % 5 + 1, f"2026-11-{20 + i % 3}T00:00:00Z") for i in range(9)]
    take(papers, voted(*rows), "json", now="2026-11-23T06:00:00Z")

    def ids(**options):
        page = papers.papers(order, now="2026-11-23T12:00:00Z", limit=99, **options)
        assert page.n_matching == len(page.papers)
        return [p.arxiv_id for p in page.papers]

    first = ids()
    assert ids() == first
    window = ids(since="2026-11-21")
    assert window == [i for i in first if int(i[-5:]) % 3]
    assert len(made) == 1
    part = papers.papers(order, now="2026-11-23T12:00:00Z", limit=4)
    rest = papers.papers(order, limit=99, cursor=part.next)
    assert [p.arxiv_id for p in (*part.papers, *rest.papers)] == first
    assert len(made) == 1
    take(papers, voted(*rows), "json", now="2026-11-23T07:00:00Z")  # says nothing new
    assert ids() == first
    assert len(made) == 1
    take(papers, voted(("2611.99999", 500, "2026-11-23T05:00:00Z")), "json", now="2026-11-23T11:00:00Z")
    assert ids()[0] == "2611.99999"
    assert len(made) == 2
    take(papers, voted((*rows[0][:1], 9000, rows[0][2])), "json", now="2026-11-23T11:30:00Z")
    if order == "top":
        assert ids()[0] == "2611.00000"
    papers.papers(order, now="2026-11-23T12:01:00Z")
    assert len(made) >= 3


@pytest.mark.parametrize("order", ["trending", "velocity", "top", "new"])
def test_what_is_kept_of_the_votes_gives_the_list_of_any_other_moment(
    papers, voted, take, order, monkeypatch
):
    """From moment to moment, forwards and backwards, the list is what it is without anything kept."""
    for day, hour in ((20, 6), (21, 6), (22, 6), (22, 18)):
        rows = [
            (f"2611.{i:05d}", (i * day * hour) % 11, f"2026-11-{18 + i % 4}T00:00:00Z") for i in range(12)
        ]
        take(papers, voted(*rows), "json", now=f"2026-11-{day}T{hour:02d}:00:00Z")
    read, reads = listing._Votes.read, []
    monkeypatch.setattr(listing._Votes, "read", lambda *given: (reads.append(given), read(*given))[1])
    hours = [*range(0, 72, 9), 71, 31, 30, 29]
    for hour in hours:
        now = f"2026-11-{20 + hour // 24}T{hour % 24:02d}:30:00Z"
        kept = papers.papers(order, now=now, limit=99)
        n = len(reads)
        papers._rankings, mine = listing.Rankings(), papers._rankings
        fresh = papers.papers(order, now=now, limit=99)
        papers._rankings, reads = mine, reads[:n]
        assert [(p.id, p.score, p.why) for p in kept.papers] == [(p.id, p.score, p.why) for p in fresh.papers]
    assert len(reads) < len(hours)  # most moments had no new votes
    assert len(reads) == 1 or order != "new"


def test_few_orders_are_kept(papers, voted, take):
    take(papers, voted(("2611.00001", 3, "2026-11-20T00:00:00Z")), "json")
    for minute in range(20):
        papers.papers("top", now=f"2026-11-23T12:{minute:02d}:00Z")
    assert len(papers._rankings._held) == listing.MOST_KEPT


def test_who_waits_can_be_told_to_hurry(place):
    with Catalog(place, encoder=None) as one, Catalog(place, encoder=None) as other:
        told = []

        def write():
            try:
                with one.store.writing(PAPERS, patience=600):
                    raise AssertionError("both write")
            except TimeoutError as error:
                told.append(str(error))

        worker = threading.Thread(target=write)
        with other.store.writing(PAPERS):
            worker.start()
            with one.store.hurry(0.01):
                assert one.store.hurried
                worker.join(120)
            assert len(told) == 1
            assert "another process" in told[0]
        assert not one.store.hurried
        with one.store.writing(PAPERS):
            pass


def test_so_many_visitors_wait_and_no_more(place):
    with Catalog(place, encoder=None) as papers:
        visited = papers.store.for_visitors(patience=0.01, at_once=1)
        with visited.writing(), pytest.raises(TimeoutError, match="too many wait"), visited.writing("else"):
            raise AssertionError("both write")
        with papers.store.writing():
            with pytest.raises(TimeoutError, match="another process"), visited.writing(patience=600):
                raise AssertionError("both write")
            with visited.reading():
                pass
        with visited.writing():
            pass
