"""While somebody else writes for long: wishes of people and what became of mails are written down all the same."""

import threading
from contextlib import ExitStack, contextmanager
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
from lodim.catalog.feed.store import PAPERS, Store

ANN = "ann@example.org"
SHORT = 0.02  # seconds: of an ordinary writer's patience


@contextmanager
def another_writing(path):
    """Let another connection hold the lock from now on, until it is told to let go."""
    has, let_go, other = threading.Event(), threading.Event(), Store(path)

    def write():
        with other.writing():
            has.set()
            let_go.wait(120)

    worker = threading.Thread(target=write)
    worker.start()
    assert has.wait(120)
    try:
        yield let_go
    finally:
        let_go.set()
        worker.join()
        other.close()


def soon(let_go):
    """Let go when an ordinary writer would have given up."""
    threading.Timer(3 * SHORT, let_go.set).start()


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
    with another_writing(path) as let_go:
        with pytest.raises(TimeoutError, match="another process"), site.papers.store.writing():
            raise AssertionError("both write")
        soon(let_go)
        work()


def test_a_lock_while_the_mail_goes_out_sends_it_once(site, path, monday, monkeypatch):
    site.join(ANN)
    site.clock.at = monday - timedelta(hours=2)
    site.take((1, "First", 7))
    site.clock.at = monday
    hand_over = post_module._hand_over
    with ExitStack() as stack:

        def held(line, texts, subscriber):
            outcome = hand_over(line, texts, subscriber)
            # the server has the mail, and now the database is busy
            soon(stack.enter_context(another_writing(path)))
            return outcome

        monkeypatch.setattr(post_module, "_hand_over", held)
        assert site.post.run() == Report(queued=1, sent=1)
    assert site.rows("SELECT state FROM delivery") == [("sent",)]
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


def test_who_reads_an_older_moment_keeps_it_in_the_file(site, path, monkeypatch):
    def held():
        return any(ANN.encode() in file.read_bytes() for file in path.parent.glob("papers.db*"))

    site.join(ANN)
    store = Store(path)
    with monkeypatch.context() as patch, store.reading() as connection:
        patch.setattr(suppression, "LONG", SHORT)
        connection.exec_driver_sql("SELECT email FROM subscriber").all()
        with pytest.raises(TimeoutError, match="the file still holds what was in them"):
            site.subscribers.forget(ANN)
        assert held()
    store.close()
    assert site.subscribers.forget(ANN) == 0
    assert not held()


@pytest.fixture
def due(site, path, monday):
    """Return the site when a digest is due to three readers."""
    for address in (ANN, "bo@example.org", "cy@example.org"):
        site.join(address)
    site.clock.at = monday - timedelta(hours=2)
    site.take((1, "First", 7))
    site.clock.at = monday
    site.server.got.clear()
    return site


def test_who_is_in_a_hurry_sends_no_further_mail(due, monkeypatch):
    hand_over = post_module._hand_over
    with ExitStack() as stack, monkeypatch.context() as patch:

        def hurried(*given):
            stack.enter_context(due.papers.store.hurry(60))
            return hand_over(*given)

        patch.setattr(post_module, "_hand_over", hurried)
        assert due.post.run() == Report(queued=3, sent=1)
    assert due.post.run() == Report(sent=2)


def test_a_stop_does_not_wait_for_long_to_report_a_mail(due, path, monkeypatch, caplog):
    pytest.importorskip("apscheduler", reason="needs the extra 'web'")
    from lodim.catalog.digest.background import start_scheduler

    hand_over, handed = post_module._hand_over, threading.Event()
    with ExitStack() as stack, monkeypatch.context() as patch:

        def held(*given):
            outcome = hand_over(*given)
            stack.enter_context(another_writing(path))
            handed.set()
            return outcome

        patch.setattr(post_module, "_hand_over", held)
        running = start_scheduler(due.papers, due.settings, secret=due.subscribers.secret, now=due.clock)
        assert handed.wait(120)
        running.stop(within=0.01)
    assert [r.getMessage() for r in caplog.records if "it will be sent again" in r.getMessage()] == [
        "delivery 1 was sent, but this was not written down in time: it will be sent again"
    ]
    due.clock.pass_by(minutes=20)
    assert due.post.run() == Report(sent=3)
    assert len(due.server.got) == 4
    assert len(set(due.server.got)) == 3  # the same, byte for byte


def wait_until_somebody_waits(store):
    for _ in range(10_000):
        with store.reading() as connection:
            if connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted").scalar_one():
                return
        threading.Event().wait(0.01)
    raise AssertionError("nobody waits")


def test_papers_that_change_in_another_order_while_their_mail_is_reported(
    postgresql, make_site, mail_server, clock, monday
):
    from lodim.catalog.digest.smtp import Outcome

    change = "UPDATE paper SET arxiv_id = '2612.0000' || id WHERE id = {}"
    with postgresql.database() as url:
        site = make_site(url, mail_server, clock)
        site.join(ANN)
        site.clock.at = monday
        site.take((1, "First", 7), (2, "Second", 3))
        site.post.prepare()
        delivery, states = site.post.deliveries.claim(), []
        finish, report, tries = site.post.deliveries.finish, site.post.deliveries._report, []
        site.post.deliveries._report = lambda *given: (tries.append(1), report(*given))[1]
        worker = threading.Thread(target=lambda: states.append(finish(delivery, Outcome("sent", "250"))))
        with site.papers.store.writing(PAPERS) as connection:
            connection.exec_driver_sql(change.format(delivery.papers[1]))
            worker.start()
            wait_until_somebody_waits(site.papers.store)
            connection.exec_driver_sql(change.format(delivery.papers[0]))
        worker.join(120)
        assert states == ["sent"]
        assert len(tries) == 1  # neither stood in the other's way
        assert site.rows("SELECT count(*) FROM sent_item") == [(2,)]
        assert site.rows("SELECT count(*) FROM paper WHERE arxiv_id LIKE '2612%%'") == [(2,)]
        site.close()
