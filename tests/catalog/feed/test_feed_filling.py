"""Vectors of new papers come by themselves while a server runs."""

import logging
import threading
import time

import numpy as np
import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")

from lodim.catalog.feed import Catalog
from lodim.catalog.feed import filling as filling_module
from lodim.catalog.feed.filling import Filler
from lodim.catalog.feed.store import PAPERS

QUERY = "paper"


class Counting:
    """An encoder that can be told to fail, and says how much it had to do."""

    name, dim = "counting", 2

    def __init__(self):
        self.broken, self.batches, self.worked = False, [], threading.Event()

    def encode(self, texts):
        self.worked.set()
        if self.broken:
            raise RuntimeError("no memory")
        if texts != [QUERY]:
            self.batches.append(len(texts))
        return np.ones((len(texts), 2), dtype=np.float32) / np.sqrt(2, dtype=np.float32)


def wait_until(true):
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def rows(first, last):
    return "title,abstract\n" + "\n".join(f"Paper {i},words" for i in range(first, last))


@pytest.fixture
def filling(place, take):
    """Return a catalogue of ten papers, its encoder and a filler that has not begun."""
    encoder = Counting()
    with Catalog(place, encoder=encoder) as papers:
        take(papers, rows(0, 10))
        filler = Filler(papers, look_every=0.02, retry_after=0.02)
        yield papers, encoder, filler
        filler.stop()


def complete(papers):
    return papers.search(QUERY).formula == "found by words and meaning"


def test_old_and_new_papers_get_vectors_a_few_at_a_time(filling, take):
    papers, encoder, filler = filling
    filler.start()
    filler.start()
    wait_until(lambda: complete(papers))
    assert sum(encoder.batches) == 10
    assert max(encoder.batches) <= 4
    take(papers, rows(10, 13))
    wait_until(lambda: sum(encoder.batches) == 13 and complete(papers))


def test_an_error_is_told_once_and_work_goes_on(filling, caplog):
    papers, encoder, filler = filling
    encoder.broken = True
    tries = []
    some = filler._some
    filler._some = lambda: (tries.append(1), some())[1]
    with caplog.at_level(logging.WARNING, logger="lodim.catalog"):
        filler.start()
        wait_until(lambda: len(tries) > 3)
        encoder.broken = False
        wait_until(lambda: complete(papers))
    assert [r.getMessage() for r in caplog.records] == [
        "sentence vectors of papers are not computed for now: RuntimeError: no memory"
    ]


def test_damaged_vectors_are_computed_again_and_told_of(filling, caplog):
    papers, encoder, filler = filling
    papers.embed()
    with papers.store.writing() as connection:
        vector = (
            "substr(vector, 1, 8)"
            if connection.dialect.name == "sqlite"
            else "substring(vector from 1 for 8)"
        )
        connection.exec_driver_sql(f"UPDATE embedding SET vector = {vector} WHERE paper_id IN (2, 5, 7)")
    with pytest.warns(UserWarning, match="3 sentence vectors of papers are damaged"):
        assert not complete(papers)
    with caplog.at_level(logging.WARNING, logger="lodim.catalog"):
        filler.start()
        wait_until(lambda: sum(encoder.batches) == 13 and complete(papers))
    assert [r.getMessage() for r in caplog.records] == [
        "3 damaged sentence vectors of papers are computed again"
    ]


def test_it_stops_after_the_few_that_it_is_at_and_goes_on_another_time(filling):
    papers, encoder, filler = filling
    filler.start()
    assert encoder.worked.wait(20)
    filler.stop()
    done = sum(encoder.batches)
    assert not any(thread.name == "lodim-vectors" for thread in threading.enumerate())
    again = Filler(papers, look_every=0.02)
    again.start()
    wait_until(lambda: complete(papers))
    again.stop()
    assert sum(encoder.batches) == 10
    assert done <= 10


def test_one_that_was_stopped_before_it_began_never_begins(filling):
    _, encoder, filler = filling
    filler.stop()
    filler.start()
    assert not encoder.worked.wait(0.1)


def n_kept(papers):
    with papers.store.reading() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM embedding").scalar_one()


def test_what_is_computed_after_the_stop_is_not_kept(filling, monkeypatch):
    papers, encoder, filler = filling
    go_on, encode = threading.Event(), encoder.encode
    encoder.encode = lambda texts: (encode(texts), go_on.wait(120))[0]
    monkeypatch.setattr(filling_module, "STOP_WITHIN", 0.01)
    filler.start()
    assert encoder.worked.wait(20)
    filler.stop()
    go_on.set()
    filler._thread.join(120)
    assert encoder.batches == [4]
    assert n_kept(papers) == 0


def test_it_stops_while_another_writes(filling, monkeypatch):
    papers, encoder, filler = filling
    monkeypatch.setattr(filling_module, "PATIENCE", 0.05)
    monkeypatch.setattr(filling_module, "STOP_WITHIN", 50.0)  # below what others wait for
    with papers.store.writing(PAPERS):
        filler.start()
        assert encoder.worked.wait(20)
        filler.stop()
        assert not filler._thread.is_alive()
