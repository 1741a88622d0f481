"""Killed at any moment, or run twice at the same time: one mail, and never another one."""

import multiprocessing
import os
import signal
import sys

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")
pytest.importorskip("email_validator", reason="needs the extra 'web'")
pytest.importorskip("jinja2", reason="needs the extra 'web'")
pytest.importorskip("aiosmtplib", reason="needs the extra 'web'")
pytest.importorskip("aiosmtpd", reason="needs the extra 'test'")

from datetime import timedelta

from lodim.catalog.digest.delivery import LEASE, Deliveries
from lodim.catalog.digest.post import Post, Report
from lodim.catalog.digest.relay import MailSettings, Relay
from lodim.catalog.digest.smtp import Line
from lodim.catalog.digest.subscribers import Subscribers
from lodim.catalog.feed import Catalog

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked and killed")
FORK = multiprocessing.get_context("fork")
ANN = "ann@example.org"
PEOPLE = [f"reader{n}@example.org" for n in range(6)]


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def die_before(owner, name):
    def arrange():
        setattr(owner, name, die)

    return arrange


def die_after(owner, name):
    original = getattr(owner, name)

    def dying(*arguments, **options):
        original(*arguments, **options)
        die()

    def arrange():
        setattr(owner, name, dying)

    return arrange


def die_within_the_last_transaction():
    """Arrange to die when the mail is marked as sent, and its papers are, but nothing is committed."""
    original = Deliveries._end

    def dying(*arguments):
        original(*arguments)
        die()

    Deliveries._end = dying


# where the sender is killed, and whether the server has had the mail by then
MOMENTS = {
    "before anything is queued": (die_before(Deliveries, "queue"), False),
    "after it was queued": (die_after(Deliveries, "queue"), False),
    "before it was claimed": (die_before(Deliveries, "_take"), False),
    "after it was claimed": (die_after(Deliveries, "claim"), False),
    "before it was handed over": (die_before(Line, "send"), False),
    "between the server's 250 and our commit": (die_after(Line, "send"), True),
    "before the last transaction": (die_before(Deliveries, "finish"), True),
    "within the last transaction": (die_within_the_last_transaction, True),
    "after the last transaction": (die_after(Deliveries, "finish"), None),
    "before the lease is given back": (die_before(Deliveries, "release"), None),
}


def work(path, port, secret, at, arrange, ready=None, job="run"):
    """Send the digest in a process of its own."""
    if arrange is not None:
        arrange()
    papers = Catalog(path, encoder=None)
    people = Subscribers(papers.store, now=lambda: at, secret=secret)
    relay = Relay("127.0.0.1", port, tls="none", per_second=1000.0, timeout=60.0)
    post = Post(
        papers,
        people,
        MailSettings("Papers <papers@example.org>", "https://papers.example.org", relay),
        now=lambda: at,
    )
    if ready is not None:
        ready.wait()
    if job == "run":
        post.run()
    elif job == "letters":
        post.send_letters()
    else:  # the rows alone must see to it, without one sender at a time
        post.prepare()
        post.send()
    papers.close()


def start(site, path, arrange=None, ready=None, job="run"):
    process = FORK.Process(
        target=work,
        args=(path, site.server.port, site.subscribers.secret, site.clock.at, arrange, ready, job),
    )
    process.start()
    return process


def ended(process):
    process.join(240)
    assert process.exitcode is not None, "the process hangs"
    return process.exitcode


@pytest.fixture
def path(tmp_path):
    return tmp_path / "papers.db"


@pytest.fixture
def ready(site, monday):
    site.join(ANN)
    site.clock.at = monday - timedelta(hours=1)
    site.take((1, "First", 7), (2, "Second", 3))
    site.clock.at = monday
    site.papers.store.engine.dispose()  # nothing open is inherited
    site.server.got.clear()
    return site


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_the_same_mail_arrives(ready, path, moment):
    arrange, delivered = MOMENTS[moment]
    assert ended(start(ready, path, arrange)) == -signal.SIGKILL
    n_before = len(ready.server.got)
    assert n_before == (0 if delivered is False else 1)
    ready.take((3, "Came in after the crash", 99))
    reports = []
    for _ in range(4):
        ready.clock.at += LEASE / 2
        reports.append(ready.post.run())
    assert sum(report.sent for report in reports) == (0 if delivered is None else 1)
    contents = {content for _, content in ready.server.got}
    assert len(contents) == 1
    assert len(ready.server.got) == (2 if delivered else 1)
    assert ready.rows("SELECT state FROM delivery") == [("sent",)]
    told = ready.server.to(ANN)[0].get_body(("plain",)).get_content()
    n_papers = 3 if moment == "before anything is queued" else 2
    assert ("Came in after the crash" in told) == (n_papers == 3)
    assert ready.rows("SELECT count(*) FROM sent_item") == [(n_papers,)]


def test_nobody_else_sends_while_the_dead_ones_lease_runs(ready, path):
    assert ended(start(ready, path, MOMENTS["after it was claimed"][0])) == -signal.SIGKILL
    ready.clock.at += LEASE - timedelta(seconds=1)
    assert ready.post.run() == Report(busy=True)
    assert ready.post.send() == Report()
    ready.clock.at += timedelta(seconds=1)
    assert ready.post.run() == Report(sent=1)


def test_a_letter_survives_its_sender(ready, path):
    from lodim.catalog.digest import read_request

    ready.subscribers.subscribe(read_request("bo@example.org"))
    ready.papers.store.engine.dispose()
    assert ended(start(ready, path, MOMENTS["between the server's 250 and our commit"][0], job="letters")) < 0
    ready.clock.at += LEASE
    assert ready.post.send_letters() == Report(letters=1)
    first, second = (content for to, content in ready.server.got)
    assert first == second
    assert ready.confirm("bo@example.org").state == "confirmed"


@pytest.fixture
def crowd(site, monday):
    for address in PEOPLE:
        site.join(address)
    site.clock.at = monday - timedelta(hours=1)
    site.take(*((n, f"Paper {n}", n) for n in range(4)))
    site.clock.at = monday
    site.server.got.clear()
    return site


@pytest.mark.parametrize("job", ["run", "rows"])
def test_processes_at_the_same_time_send_once(crowd, path, job):
    crowd.papers.store.engine.dispose()
    together = FORK.Barrier(3, timeout=120)
    processes = [start(crowd, path, None, together, job) for _ in range(3)]
    assert [ended(process) for process in processes] == [0, 0, 0]
    assert sorted(to for to, _ in crowd.server.got) == PEOPLE
    assert crowd.rows("SELECT state, count(*) FROM delivery GROUP BY 1") == [("sent", len(PEOPLE))]
    assert crowd.rows("SELECT count(*) FROM sent_item") == [(4 * len(PEOPLE),)]


def test_processes_at_the_same_time_send_once_on_any_database(place, make_site, mail_server, clock, monday):
    site = make_site(place, mail_server, clock)
    for address in PEOPLE[:3]:
        site.join(address)
    site.clock.at = monday
    site.take((1, "News", 3))
    site.papers.store.engine.dispose()
    mail_server.got.clear()
    together = FORK.Barrier(2, timeout=120)
    processes = [start(site, place, None, together, "rows") for _ in range(2)]
    assert [ended(process) for process in processes] == [0, 0]
    assert sorted(to for to, _ in mail_server.got) == PEOPLE[:3]
    assert site.post.run() == Report()
