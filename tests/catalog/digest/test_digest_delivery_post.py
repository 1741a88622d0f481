"""From the request to subscribe to the click that ends it, with a real mail server in between."""

import json
import logging
import re
import time
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")
pytest.importorskip("email_validator", reason="needs the extra 'web'")
pytest.importorskip("jinja2", reason="needs the extra 'web'")
pytest.importorskip("aiosmtplib", reason="needs the extra 'web'")
pytest.importorskip("aiosmtpd", reason="needs the extra 'test'")

from lodim.catalog.digest.content import Digest
from lodim.catalog.digest.delivery import LEASE, WAITS
from lodim.catalog.digest.post import Report
from lodim.catalog.digest.smtp import Outcome
from lodim.catalog.feed.records import stamp

ANN, BO = "ann@example.org", "bo@example.org"


def state(site):
    return [row[0] for row in site.rows("SELECT state FROM delivery ORDER BY id")]


def digests(site, address=ANN):
    return [mail for mail in site.server.to(address) if "confirm" not in mail["Subject"]]


@pytest.fixture
def ready(site, monday):
    """Return the site on Monday morning with one subscriber and two papers."""
    site.join(ANN)
    site.clock.at = monday - timedelta(hours=2)
    site.take((1, "First", 7), (2, "Second", 3))
    site.clock.at = monday
    return site


def test_the_whole_way_from_the_form_to_the_click(site, monday):
    ann = site.join(ANN, areas=["cs"], query="rank")
    (letter,) = site.server.to(ANN)
    assert letter["Subject"] == "lodim: please confirm your subscription"
    assert letter["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    text = letter.get_body(("plain",)).get_content()
    assert "new papers in cs" in text
    assert "found by the search: rank" in text
    site.clock.at = monday - timedelta(hours=3)
    site.take((1, "Low rank", 7), (2, "Nothing for her", 9))
    assert site.post.run() == Report(empty=0)  # at 4:30 nothing is due
    site.clock.at = monday
    assert site.post.run() == Report(queued=1, sent=1)
    (mail,) = digests(site)
    assert "Low rank" in mail.get_body(("plain",)).get_content()
    assert "Nothing for her" not in mail.get_body(("plain",)).get_content()
    link = re.match(r"<https://papers\.example\.org/u/([\w-]+)>", mail["List-Unsubscribe"])
    assert link[1] == ann.unsubscribe
    assert site.subscribers.cancel(link[1]).outcome == "done"
    site.clock.at += timedelta(days=1)
    site.take((3, "More rank", 7))
    assert site.post.run() == Report()
    assert len(digests(site)) == 1


def test_a_second_run_does_nothing(ready):
    assert ready.post.run() == Report(queued=1, sent=1)
    for _ in range(3):
        ready.clock.pass_by(minutes=5)
        assert ready.post.run() == Report()
    assert len(digests(ready)) == 1
    assert state(ready) == ["sent"]


def test_nothing_new_is_no_mail_and_is_decided_once(site, monday):
    site.join(ANN)
    site.clock.at = monday
    assert site.post.run() == Report(empty=1)
    site.take((1, "Late in the morning", 3))
    site.clock.pass_by(hours=1)
    assert site.post.run() == Report()
    site.clock.pass_by(days=1)
    assert site.post.run() == Report(queued=1, sent=1)


def test_no_paper_comes_twice_over_a_week(site, monday):
    site.join(ANN)
    site.join(BO, frequency="weekly")
    told = []
    for day in range(8):
        site.clock.at = monday - timedelta(hours=1) + timedelta(days=day)
        site.take(*((n, f"Paper {n} of the week", 10 * day + n) for n in range(day * 2 + 2)))
        site.clock.at = monday + timedelta(days=day)
        site.post.run()
    for mail in digests(site):
        told += re.findall(r"Paper \d+ of", mail.get_body(("plain",)).get_content())
    assert len(digests(site)) == 6  # Monday to Friday, Monday
    assert len(told) == len(set(told)) > 10
    assert len(digests(site, BO)) == 2
    n_sent, n_subscribers = site.rows("SELECT count(*), count(DISTINCT subscriber_id) FROM sent_item")[0]
    assert n_subscribers == 2
    assert n_sent >= len(told)


def test_a_failed_mail_leaves_its_papers_for_the_next(ready):
    ready.server.plan = [("data", "554 5.6.0 we do not like it")]
    assert ready.post.run() == Report(queued=1, failed=1)
    assert ready.rows("SELECT * FROM sent_item") == []
    ready.clock.pass_by(days=1)
    assert ready.post.run() == Report(queued=1, sent=1)
    assert "First" in digests(ready)[0].get_body(("plain",)).get_content()


@pytest.mark.parametrize("answer", ["451 4.3.0 try later", "drop", "take and drop"])
def test_what_is_tried_again_is_the_same_byte_for_byte(ready, answer):
    ready.server.plan = [("data", answer)]
    assert ready.post.run() == Report(queued=1, retried=1)
    assert state(ready) == ["retry"]
    ready.clock.pass_by(minutes=4)
    assert ready.post.run() == Report()
    ready.take((3, "New since the first attempt", 99))
    ready.clock.pass_by(minutes=1)
    assert ready.post.run() == Report(sent=1)
    first, second = (content for to, content in ready.server.offered[-2:])
    assert first == second
    assert len(digests(ready)) == (2 if answer == "take and drop" else 1)
    assert len({mail["Message-ID"] for mail in digests(ready)}) == 1


def test_waits_grow_and_end(ready):
    ready.server.plan = [("rcpt", "451 4.7.1 greylisted")] * 9
    assert ready.post.run() == Report(queued=1, retried=1)
    for wait in WAITS[:-1]:
        ready.clock.at += wait - timedelta(seconds=1)
        assert ready.post.run() == Report()
        ready.clock.pass_by(seconds=1)
        assert ready.post.run() == Report(retried=1)
    ready.clock.at += WAITS[-1]
    assert ready.post.run() == Report(failed=1)
    assert state(ready) == ["failed"]
    assert ready.subscribers.by_email(ANN).state == "confirmed"  # greylisting is no dead mailbox
    assert len(ready.server.plan) == 5


def test_a_dead_mailbox_is_written_to_once(ready):
    ready.server.plan = [("rcpt", "550 5.1.1 no such user")]
    assert ready.post.run() == Report(queued=1, failed=1, suppressed=1)
    assert ready.subscribers.by_email(ANN).state == "suppressed"
    ready.clock.pass_by(days=1)
    assert ready.post.run() == Report()


def test_a_relay_that_refuses_everyone_suppresses_nobody(ready):
    ready.clock.at -= timedelta(days=1)
    ready.join(BO)
    ready.clock.at += timedelta(days=1)
    ready.server.plan = [("rcpt", "554 5.7.1 relaying denied")] * 2
    assert ready.post.run() == Report(queued=2, failed=2)
    assert len(ready.subscribers.active()) == 2


def full(site):
    """Fail one day's mail at all four attempts because the mailbox is full."""
    site.server.plan = [("rcpt", "452 4.2.2 mailbox full")] * 4
    reports = [site.post.run()]
    for wait in WAITS:
        site.clock.at += wait
        reports.append(site.post.run())
    return sum(report.suppressed for report in reports)


def test_a_mailbox_that_is_full_three_mails_in_a_row_is_given_up(ready):
    struck = []
    for _ in range(3):
        struck.append(full(ready))
        ready.clock.at = ready.clock.at.replace(hour=7, minute=30) + timedelta(days=1)
    assert struck == [0, 0, 1]
    assert ready.subscribers.by_email(ANN).state == "suppressed"


def test_a_mail_that_arrives_ends_the_row(ready):
    for _ in range(2):
        assert full(ready) == 0
        ready.clock.at = ready.clock.at.replace(hour=7, minute=30) + timedelta(days=1)
    assert ready.post.run().sent == 1
    ready.clock.pass_by(days=1)
    ready.take((9, "News", 5))
    assert full(ready) == 0


def test_one_bad_mailbox_costs_the_others_nothing(site, monday):
    people = [f"reader{n}@example.org" for n in range(5)]
    for address in people:
        site.join(address)
    site.clock.at = monday
    site.take((1, "News", 3))
    site.server.plan = [("rcpt", "550 5.1.1 no"), ("data", "drop"), ("data", "451 later")]
    assert site.post.run() == Report(queued=5, sent=2, retried=2, failed=1, suppressed=1)
    assert len([a for a in people if digests(site, a)]) == 2


def test_no_server_leaves_all_as_it_is(ready):
    ready.server.close()
    report = ready.post.run()
    assert report.queued == 1
    assert "no connection to 127.0.0.1" in report.problems[0]
    assert ready.rows("SELECT state, attempts FROM delivery") == [("queued", 0)]
    assert ready.rows("SELECT * FROM job_lease") == []


def test_a_server_that_refuses_the_sender_stops_the_run(ready):
    ready.clock.at -= timedelta(days=1)
    ready.join(BO)
    ready.clock.at += timedelta(days=1)
    ready.server.plan = [("mail", "550 5.1.8 bad sender")]
    report = ready.post.run()
    assert (report.retried, report.sent, len(report.problems)) == (1, 0, 1)
    assert sorted(state(ready)) == ["queued", "retry"]


def test_who_left_after_the_mail_was_made_gets_none(ready):
    assert ready.post.prepare() == Report(queued=1)
    ready.subscribers.cancel(ready.subscribers.by_email(ANN).unsubscribe)
    assert ready.post.send() == Report()
    assert ready.rows("SELECT state, said FROM delivery") == [("failed", "the subscriber has left")]
    assert digests(ready) == []


def test_forgetting_takes_all_with_it(ready):
    ready.post.run()
    assert ready.rows("SELECT count(*) FROM sent_item") == [(2,)]
    ready.subscribers.forget(ANN)
    for table in ("subscriber", "delivery", "sent_item"):
        assert ready.rows(f"SELECT count(*) FROM {table}") == [(0,)]


def test_nothing_is_kept_of_a_mail_that_is_over(ready):
    ready.post.prepare()
    (kept,) = ready.rows("SELECT content FROM delivery")[0]
    assert "First" in kept
    assert ANN not in kept
    ready.post.send()
    assert ready.rows("SELECT content, owner FROM delivery") == [(None, None)]


def test_only_one_mail_is_under_way_to_a_subscriber(ready):
    ready.server.plan = [("data", "451 later")] * 9
    ready.post.run()
    ready.clock.at += timedelta(days=1)
    ready.clock.at = ready.clock.at.replace(hour=7, minute=0)
    ready.take((5, "Tuesday's", 4))
    assert ready.post.prepare() == Report()
    ready.server.plan = []
    assert ready.post.send() == Report(sent=1)
    assert ready.post.run() == Report(queued=1, sent=1)
    first, second = (mail.get_body(("plain",)).get_content() for mail in digests(ready))
    assert "Tuesday's" not in first
    assert "Tuesday's" in second


def test_time_zones_have_their_own_mornings(site, monday):
    zones = {
        "tokyo@example.org": "Asia/Tokyo",
        "zurich@example.org": "Europe/Zurich",
        "york@example.org": "America/New_York",
    }
    for address, zone in zones.items():
        site.join(address, time_zone=zone)
    site.take((1, "News", 3))
    arrived = {}
    before = (
        -6,
        -2.5,
        -2,
        2,
        5.5,
        6,
        9,
        11.5,
        12,
        18,
    )  # hours from midnight: nobody's half hour before seven, and seven
    for hours in before:
        site.clock.at = monday.replace(hour=0, minute=0) + timedelta(hours=hours)
        site.post.run()
        for address in zones:
            if digests(site, address):
                arrived.setdefault(address, f"{site.clock.at:%a %H:%M}")
    assert arrived == {
        "tokyo@example.org": "Sun 22:00",
        "zurich@example.org": "Mon 06:00",
        "york@example.org": "Mon 12:00",
    }


@pytest.mark.parametrize(
    ("friday", "hours"), [((2027, 3, 12), ["Fri 12", "Mon 11"]), ((2027, 11, 5), ["Fri 11", "Mon 12"])]
)
def test_clocks_put_forward_or_back_send_once_a_day_at_seven(site, friday, hours):
    site.join(ANN, time_zone="America/New_York")
    for day in range(4):
        for hour in (10, 11, 12, 13):
            site.clock.at = datetime(*friday, hour, tzinfo=UTC) + timedelta(days=day)
            if hour == 10:
                site.take((day, f"Paper {day}", 3))
            site.post.run()
    days = [mail["Date"].datetime.strftime("%a %H") for mail in digests(site)]
    assert days == hours  # seven in New York, in UTC


# ---------------------------------------------------------------- letters


def test_a_letter_that_is_tried_again_is_the_same(site):
    from lodim.catalog.digest import read_request

    site.subscribers.subscribe(read_request(ANN))
    site.server.plan = [("data", "take and drop"), ("rcpt", "451 later")]
    assert site.post.send_letters() == Report()
    for wait in WAITS[:2]:
        assert site.post.send_letters() == Report()
        site.clock.at += wait
        site.post.send_letters()
    first, second = (content for to, content in site.server.got)
    assert first == second
    assert site.confirm(ANN).state == "confirmed"


def test_somebody_who_is_subscribed_is_told_so(site):
    site.join(ANN, frequency="weekly", areas=["cs.lg"])
    from lodim.catalog.digest import read_request

    site.subscribers.subscribe(read_request(ANN, "daily"))
    assert site.post.send_letters() == Report(letters=1)
    mail = site.server.to(ANN)[-1]
    assert mail["Subject"] == "lodim: you are already subscribed"
    text = mail.get_body(("plain",)).get_content()
    assert "on Mondays at 07:00 (UTC)" in text
    assert "cs.LG" in text


def test_a_letter_to_nowhere_suppresses(site):
    from lodim.catalog.digest import read_request

    site.subscribers.subscribe(read_request(ANN))
    site.server.plan = [("rcpt", "550 5.1.1 no such user")]
    assert site.post.send_letters() == Report(suppressed=1)
    assert site.subscribers.suppressed(ANN) == "bounced"


@pytest.mark.parametrize(
    "attack", ["x\r\nBcc: evil@example.net", '"><img src=x onerror=alert(1)>', "{{7*7}}"]
)
def test_titles_and_searches_stay_text(site, monday, attack):
    site.join(ANN, query="low rank " + " ".join(attack.split()))
    site.join(BO)
    site.clock.at = monday
    site.take((1, f"Low rank {attack}", 3, attack))
    site.post.run()
    (mail,) = digests(site, BO)
    assert mail["Bcc"] is None
    assert {to for to, _ in site.server.got} == {ANN, BO}
    assert "<img" not in mail.get_body(("html",)).get_content()


# ---------------------------------------------------------------- leases and logs


def test_a_run_leaves_the_work_to_another_that_is_at_it(ready, make_site, tmp_path):
    other = make_site(tmp_path / "papers.db", ready.server, ready.clock)
    assert other.post.deliveries.hold("digest")
    assert ready.post.run() == Report(busy=True)
    ready.clock.at += LEASE
    assert ready.post.run() == Report(queued=1, sent=1)


def test_a_sender_that_was_too_slow_does_not_overrule_another(ready, make_site, tmp_path):
    other = make_site(tmp_path / "papers.db", ready.server, ready.clock)
    ready.post.prepare()
    slow = ready.post.deliveries.claim()
    assert other.post.deliveries.claim() is None
    ready.clock.at += LEASE
    quick = other.post.deliveries.claim()
    assert (quick.id, quick.texts) == (slow.id, slow.texts)
    assert ready.post.deliveries.finish(slow, Outcome("hard", "550 late news")) is None
    assert other.post.deliveries.finish(quick, Outcome("sent")) == "sent"
    assert ready.rows("SELECT state, said FROM delivery") == [("sent", "")]


def test_a_mail_over_which_every_sender_dies_is_given_up(ready):
    ready.post.prepare()
    n = 0
    while ready.post.deliveries.claim() is not None:
        n += 1
        ready.clock.at += LEASE
    assert n == 8
    assert state(ready) == ["failed"]


def test_what_was_put_together_before_another_mail_went_out_is_not_queued(ready):
    made = list(ready.post.compose())
    ready.post.run()
    (subscriber, _, digest, texts) = made[0]
    assert isinstance(digest, Digest)
    assert not ready.post.deliveries.queue(subscriber.id, "2026-11-24", digest, texts)


def test_logs_hold_no_addresses_and_no_links(ready, caplog):
    caplog.set_level(logging.DEBUG, "lodim")
    ready.server.plan = [("rcpt", f"451 <{ANN}> greylisted"), ("rcpt", f"550 5.1.1 <{ANN}> unknown")]
    ready.post.run()
    ready.clock.pass_by(minutes=5)
    ready.post.run()
    assert "greylisted" in caplog.text
    assert "unknown" in caplog.text
    assert ANN not in caplog.text
    assert ready.subscribers.by_email(ANN).unsubscribe not in caplog.text
    assert ANN not in json.dumps(ready.rows("SELECT * FROM delivery"))


@pytest.mark.parametrize("n_readers", [20, pytest.param(101, marks=pytest.mark.slow)])  # 100 at once
def test_many_mails_go_over_one_connection(site, monday, n_readers):
    at = stamp(site.clock.at)
    with site.papers.store.writing() as connection:
        for n in range(n_readers):
            connection.exec_driver_sql(
                "INSERT INTO subscriber (email, folded, state, frequency, areas, time_zone, salt, created_at, "
                f"requested_at, confirmed_at) VALUES ('r{n}@example.org', 'r{n}', 'confirmed', 'daily', '[]', 'UTC', "
                f"'{n}', '{at}', '{at}', '{at}')"
            )
    site.clock.at = monday
    site.take(*((n, f"Paper {n}", n) for n in range(12)))
    assert site.post.run() == Report(queued=n_readers, sent=n_readers)
    assert site.server.sessions == 1
    assert len({to for to, _ in site.server.got}) == n_readers
    assert site.rows("SELECT count(*) FROM sent_item") == [(10 * n_readers,)]


def test_the_background_sends_and_stops(ready, tmp_path):
    pytest.importorskip("apscheduler", reason="needs the extra 'web'")
    from lodim.catalog.digest import read_request
    from lodim.catalog.digest.background import start_scheduler

    running = start_scheduler(
        ready.papers, ready.settings, secret=ready.subscribers.secret, now=ready.clock, letter_seconds=600.0
    )
    try:
        wait_for(lambda: digests(ready))
        jobs = running.scheduler.get_jobs()
        assert {job.id for job in jobs} == {"digest", "letters"}
        assert all(job.coalesce and job.max_instances == 1 and job.misfire_grace_time == 3600 for job in jobs)
        ready.subscribers.subscribe(read_request(BO))
        # Again and again: while letters are sent already, it changes nothing.
        wait_for(lambda: running.wake() or ready.server.to(BO))
    finally:
        running.stop()
    assert not running.scheduler.running


def wait_for(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def test_the_background_needs_a_file_and_a_server(site):
    pytest.importorskip("apscheduler", reason="needs the extra 'web'")
    from dataclasses import replace

    from lodim.catalog.digest.background import start_scheduler
    from lodim.catalog.feed import Catalog

    with Catalog(":memory:", encoder=None) as memory, pytest.raises(ValueError, match="in a file"):
        start_scheduler(memory, site.settings, secret=site.subscribers.secret)
    with pytest.raises(ValueError, match="LODIM_SMTP_HOST"):
        start_scheduler(site.papers, replace(site.settings, relay=None), secret=site.subscribers.secret)


# ---------------------------------------------------------------- with the pages


def test_the_address_in_the_header_ends_it_with_one_post(ready):
    pytest.importorskip("fastapi", reason="needs the extra 'web'")
    pytest.importorskip("multipart", reason="needs the extra 'web'")
    pytest.importorskip("itsdangerous", reason="needs the extra 'web'")
    pytest.importorskip("httpx", reason="needs the extra 'test'")
    from starlette.testclient import TestClient

    from lodim.web import create_app
    from lodim.web.settings import Settings

    ready.post.run()
    (mail,) = digests(ready)
    address = re.match("<(https://[^>]+)>", mail["List-Unsubscribe"])[1]
    name, value = mail["List-Unsubscribe-Post"].split("=")
    settings = Settings(public_url=ready.settings.public_url, secret=ready.subscribers.secret)
    client = TestClient(
        create_app(settings, catalog=ready.papers, now=ready.clock), base_url=ready.settings.public_url
    )
    assert client.get(address).status_code == 200
    assert ready.subscribers.by_email(ANN).state == "confirmed"  # looking changes nothing
    for _ in range(2):
        assert client.post(address, data={name: value}).status_code == 200
        assert ready.subscribers.by_email(ANN).state == "cancelled"
    paper = re.search(r"https://papers\.example\.org/paper/\d+", mail.get_body(("plain",)).get_content())[0]
    assert client.get(paper).status_code == 200
    ready.clock.pass_by(days=1)
    ready.take((9, "News", 3))
    assert ready.post.run() == Report()
