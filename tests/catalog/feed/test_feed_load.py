"""Several processes on one catalogue: what two take in at once is all there, once, and readers are not kept waiting."""

import json
import multiprocessing
import time

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")

from lodim.catalog.feed import Catalog
from lodim.catalog.feed import store as store_module

N_FILES, N_PAPERS = 6, 10
# Processes that begin at once where they can: one that is made anew has to load the library first.
BEGIN = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"


def taking_in(place, folder, first, go, told):
    """Take in all files, beginning with one; run in a process of its own."""
    from lodim.catalog.feed import Catalog

    try:
        with Catalog(place, encoder=None) as papers:
            go.wait(120)
            reports = []
            for i in range(N_FILES):
                report = papers.ingest(folder / f"{(first + i) % N_FILES}.json")
                reports.append((report.added, report.updated, report.unchanged, len(report.rejected)))
        told.put(reports)
    except BaseException as error:
        told.put(repr(error))


def write_files(folder):
    """Write lists that overlap: every paper is in two, with more votes in the second."""
    for i in range(N_FILES):
        listed = []
        for n in range(N_PAPERS):
            number = (i * N_PAPERS // 2 + n) % (N_FILES * N_PAPERS // 2)
            listed.append({"id": f"2611.{number:05}", "title": f"Paper {number}", "summary": "shared words",
                           "authors": ["Ann Lee"], "upvotes": number + i, "publishedAt": "2026-11-20"})  # fmt: skip
        (folder / f"{i}.json").write_text(json.dumps(listed))


def test_two_processes_take_the_same_files_in_at_once(place, tmp_path):
    write_files(tmp_path)
    context = multiprocessing.get_context(BEGIN)
    go, told = context.Event(), context.Queue()
    workers = [context.Process(target=taking_in, args=(place, tmp_path, first, go, told)) for first in (0, 3)]
    for worker in workers:
        worker.start()
    with Catalog(place, encoder=None) as papers:
        go.set()
        seen = []
        while any(worker.is_alive() for worker in workers) and told.qsize() < 2:
            seen.append(len(papers))
            papers.papers("trending")
            time.sleep(0.03)
        reports = [told.get(timeout=240) for _ in workers]
        for worker in workers:
            worker.join(120)
        assert all(isinstance(report, list) for report in reports), reports
        assert seen == sorted(seen)
        assert len(papers) == N_FILES * N_PAPERS // 2
        assert sum(added for report in reports for added, *_ in report) == len(papers)
        assert all(sum(counts) == N_PAPERS for report in reports for counts in report)
        assert papers.search("shared words").n_matching == len(papers)
        for paper in papers.papers("new", limit=1000).papers:
            assert paper.authors == ("Ann Lee",)
            assert len(papers.history(paper.id)) == 1
        with papers.store.reading() as connection:
            doubled = "SELECT count(*) - count(DISTINCT name) FROM author"
            assert connection.exec_driver_sql(doubled).scalar_one() == 0


def test_who_waits_too_long_is_told_so_and_nothing_is_half_done(place, tmp_path, monkeypatch):
    write_files(tmp_path)
    monkeypatch.setattr("lodim.catalog.feed.ingest.LONG", 0.05)
    with Catalog(place, encoder=None) as one, Catalog(place, encoder=None) as other:
        with one.store.writing(store_module.PAPERS):
            with pytest.raises(TimeoutError, match="another process; try again"):
                other.ingest(tmp_path / "0.json")
            assert len(other) == 0
            assert other.papers().papers == ()
        assert other.ingest(tmp_path / "0.json").added == N_PAPERS


def test_opening_waits_for_nobody(place, monkeypatch):
    monkeypatch.setattr(store_module, "LONG", 0.05)  # who waits for the writer is told so
    with (
        Catalog(place, encoder=None) as one,
        one.store.writing(store_module.PAPERS),
        Catalog(place, encoder=None) as other,
    ):
        assert len(other) == 0


@pytest.mark.slow
def test_two_open_a_new_catalogue_at_once(fresh, request, tmp_path):
    """The second finds the tables that the first has made."""
    if "postgresql" in request.node.callspec.params.values():
        made = request.getfixturevalue("postgresql").database()
    else:
        made = fresh()
    context = multiprocessing.get_context(BEGIN)
    go, told = context.Event(), context.Queue()
    write_files(tmp_path)
    with made as place:
        workers = [
            context.Process(target=taking_in, args=(place, tmp_path, first, go, told)) for first in (0, 1)
        ]
        go.set()
        for worker in workers:
            worker.start()
        reports = [told.get(timeout=240) for _ in workers]
        for worker in workers:
            worker.join(120)
        assert all(isinstance(report, list) for report in reports), reports
