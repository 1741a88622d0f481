"""While somebody else writes for long: wishes of people and what became of mails are written down all the same."""

import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")
pytest.importorskip("email_validator", reason="needs the extra 'web'")
pytest.importorskip("jinja2", reason="needs the extra 'web'")
pytest.importorskip("aiosmtplib", reason="needs the extra 'web'")
pytest.importorskip("aiosmtpd", reason="needs the extra 'test'")

from lodim.catalog.digest import post as post_module
from lodim.catalog.digest import read_request, suppression
from lodim.catalog.digest.post import JOB, Report
from lodim.catalog.digest.subscribers import Subscribers
from lodim.catalog.feed.store import Store

ANN = "ann@example.org"
SHORT, HELD = 0.02, 0.3  # seconds: of an ordinary writer's patience, and of the other's transaction


@contextmanager
def another_writing(path, seconds=HELD):
    """Let another connection hold the lock from now on for some time."""
    has, other = threading.Event(), Store(path)

    def write():
        with other.writing():
            has.set()
            threading.Event().wait(seconds)

    worker = threading.Thread(target=write)
    worker.start()
    assert has.wait(10)
    yield
    worker.join()
    other.close()


@pytest.fixture
def path(site, tmp_path):
    """Return the file of the site, whose ordinary writers have little patience."""
    site.papers.store.patience = SHORT
    return tmp_path / "papers.db"


def a_letter(site):
    site.subscribers.subscribe(read_request("new@example.org", "daily", (), None, "UTC"))
    return site.subscribers.pending_mails()[0]


WRITERS = {
    "subscribe": lambda site, ann: (
        lambda: site.subscribers.subscribe(read_request("bo@example.org", "daily", (), None, "UTC"))
    ),
    "new secret": lambda site, ann: (
        lambda: Subscribers(site.papers.store, now=site.clock, secret=b"another secret of 32 bytes or so")
    ),
    "cancel": lambda site, ann: lambda: site.subscribers.cancel(ann.unsubscribe),
    "undo": lambda site, ann: lambda: site.subscribers.undo(ann.unsubscribe),
    "prefer": lambda site, ann: lambda: site.subscribers.prefer(ann.unsubscribe, ann.preferences),
    "forget": lambda site, ann: lambda: site.subscribers.forget(ANN),
    "suppress": lambda site, ann: lambda: site.subscribers.suppress(ANN),
    "lift": lambda site, ann: lambda: site.subscribers.lift(ANN),
    "strike": lambda site, ann: lambda: site.subscribers.strike(ann.id, "soft"),
    "arrived": lambda site, ann: lambda: site.subscribers.arrived(ann.id),
    "tidy": lambda site, ann: lambda: site.subscribers.tidy(),
    "hold": lambda site, ann: lambda: site.post.deliveries.hold(JOB),
    "prolong": lambda site, ann: lambda: site.post.deliveries.prolong(JOB),
    "release": lambda site, ann: lambda: site.post.deliveries.release(JOB),
    "claim": lambda site, ann: lambda: site.post.deliveries.claim(),
    "letters": lambda site, ann: lambda: site.subscribers.pending_mails(),
    "letter sent": lambda site, ann: (lambda letter: lambda: site.subscribers.mail_sent(letter))(
        a_letter(site)
    ),
    "letter failed": lambda site, ann: (lambda letter: lambda: site.subscribers.mail_failed(letter))(
        a_letter(site)
    ),
    "confirm": lambda site, ann: (lambda letter: lambda: site.subscribers.confirm(letter.token))(
        a_letter(site)
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_who_records_a_wish_or_a_mail_outlasts_a_long_writer(site, path, name):
    work = WRITERS[name](site, site.join(ANN))
    with another_writing(path):
        with pytest.raises(TimeoutError, match="another process"), site.papers.store.writing():
            raise AssertionError("both write")
        work()


def test_a_lock_while_the_mail_goes_out_sends_it_once(site, path, monday, monkeypatch):
    site.join(ANN)
    site.clock.at = monday - timedelta(hours=2)
    site.take((1, "First", 7))
    site.clock.at = monday
    hand_over, opened = post_module._hand_over, []

    def held(line, texts, subscriber):
        outcome = hand_over(line, texts, subscriber)
        opened.append(another_writing(path))
        opened[-1].__enter__()  # the server has the mail, and now the database is busy
        return outcome

    monkeypatch.setattr(post_module, "_hand_over", held)
    assert site.post.run() == Report(queued=1, sent=1)
    assert site.rows("SELECT state FROM delivery") == [("sent",)]
    for lock in opened:
        lock.__exit__(None, None, None)
    site.clock.pass_by(minutes=20)
    assert site.post.run() == Report()
    assert len([mail for mail in site.server.to(ANN) if "confirm" not in mail["Subject"]]) == 1


def test_what_could_not_be_overwritten_is_said(site, path, monkeypatch):
    site.join(ANN)
    monkeypatch.setattr(suppression, "LONG", SHORT)
    store = Store(path)
    with (
        store.writing(),
        pytest.raises(TimeoutError, match="the file still holds what was in them"),
    ):
        suppression.scrub(site.papers.store)
    store.close()
    suppression.scrub(site.papers.store)
