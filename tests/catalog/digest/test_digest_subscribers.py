"""Asking, confirming, stopping, erasing: every rule with a clock that we set."""

import multiprocessing
import stat
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")
pytest.importorskip("email_validator", reason="needs the extra 'web'")

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lodim.catalog.digest import Preferences, Subscribers, read_request
from lodim.catalog.digest.tokens import derive_token, digest_of_token, new_seed
from lodim.catalog.feed.store import Store

SECRET = b"a secret of the site, 32 bytes or more"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ANN = "Ann@example.org"


class Clock:
    """A time that moves when told to."""

    def __init__(self):
        self.at = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)

    def __call__(self):
        return self.at

    def pass_by(self, span):
        self.at += span


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def people(tmp_path, clock, blank):
    store = Store(blank(tmp_path / "p.db"))
    yield Subscribers(store, now=clock, secret=SECRET)
    store.close()


def ask(people, email=ANN, **wanted):
    people.subscribe(read_request(email, **wanted))


def deliver(people):
    letters = people.pending_mails()
    for letter in letters:
        people.mail_sent(letter)
    return letters


def join(people, email=ANN, **wanted):
    ask(people, email, **wanted)
    (letter,) = deliver(people)
    assert people.confirm(letter.token).outcome == "done"
    return people.by_email(email)


def count(people, table):
    with people.store.reading() as connection:
        return connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()


# ---------------------------------------------------------------- double opt-in


def test_nobody_receives_anything_before_confirming(people, clock):
    ask(people, frequency="daily", areas=["privacy"], query="low rank", time_zone="Asia/Tokyo")
    assert people.active() == ()
    (letter,) = deliver(people)
    assert (letter.kind, letter.subscriber.email, letter.subscriber.state) == ("confirm", ANN, "pending")
    assert letter.preferences == Preferences("daily", ("privacy",), "low rank", "Asia/Tokyo")
    assert people.active() == ()
    assert people.look_up(letter.token).outcome == "done"
    assert people.active() == (), "looking at a link confirms nothing"
    clock.pass_by(HOUR)
    assert people.confirm(letter.token).outcome == "done"
    (ann,) = people.active()
    assert ann.preferences == letter.preferences
    assert (ann.confirmed_at, ann.consent_source, ann.consent_text) == (
        "2026-03-02T09:00:00Z",
        "web form",
        "1",
    )


def test_a_confirmation_works_once(people):
    ask(people)
    (letter,) = deliver(people)
    assert people.confirm(letter.token).outcome == "done"
    assert people.confirm(letter.token).outcome == people.look_up(letter.token).outcome == "already"
    ann = people.by_email(ANN)
    people.cancel(ann.unsubscribe)
    assert people.confirm(letter.token).outcome == "used"
    assert people.active() == (), "a used link does not bring back what was stopped"


def test_a_confirmation_is_valid_for_48_hours_from_its_letter(people, clock):
    ask(people)
    clock.pass_by(3 * HOUR)
    (letter,) = deliver(people)
    assert letter.expires_at == "2026-03-04T11:00:00Z"
    clock.pass_by(48 * HOUR - timedelta(seconds=1))
    assert people.look_up(letter.token).outcome == "done"
    clock.pass_by(timedelta(seconds=1))
    assert people.look_up(letter.token).outcome == people.confirm(letter.token).outcome == "expired"
    assert people.active() == ()


def test_only_the_hash_of_a_confirmation_is_kept(people):
    ask(people)
    (letter,) = deliver(people)
    with people.store.reading() as connection:
        tables = sa.inspect(connection).get_table_names()
        names = ("subscriber", "token", "outgoing", "saved_query", "meta")
        assert set(names) <= set(tables)
        held = repr([connection.exec_driver_sql(f"SELECT * FROM {name}").all() for name in names])
        seeds = connection.exec_driver_sql("SELECT seed FROM outgoing").scalars().all()
    assert letter.token not in held
    assert digest_of_token(letter.token) in held
    assert seeds == [None]
    assert people.by_email(ANN).unsubscribe not in held
    assert SECRET.decode() not in held


def test_guesses_and_strangers_tokens_open_nothing(people):
    ask(people)
    (letter,) = people.pending_mails()
    unsubscribe = letter.subscriber.unsubscribe
    flipped = letter.token[:-2] + ("AA" if letter.token[-2:] != "AA" else "EE")
    for guess in [
        flipped,
        "",
        "x",
        "%",
        letter.token[:-1],
        letter.token + "A",
        derive_token(b"o" * 32, "confirm", new_seed()),
    ]:
        assert people.confirm(guess).outcome == people.cancel(guess).outcome == "unknown"
    assert people.confirm(unsubscribe).outcome == "unknown", "a link does only what it is for"
    assert people.cancel(letter.token).outcome == people.undo(letter.token).outcome == "unknown"
    assert people.prefer(letter.token, Preferences()).outcome == "unknown"
    assert people.by_email(ANN).state == "pending"


def test_whoever_confirms_gets_what_their_letter_said(people):
    ask(people, frequency="daily", query="mine")
    ask(people, frequency="weekly", query="somebody else's")
    first, second = deliver(people)
    assert people.confirm(first.token).outcome == "done"
    assert people.by_email(ANN).preferences == first.preferences
    assert people.confirm(second.token).outcome == "revoked"
    assert people.by_email(ANN).query == "mine"


def test_a_request_changes_nothing_for_who_has_confirmed(people):
    before = join(people, frequency="daily", query="low rank")
    ask(people, frequency="weekly", query="other", time_zone="Asia/Tokyo")
    after = people.by_email(ANN)
    assert after.preferences == before.preferences
    assert after.state == "confirmed"
    assert after.unsubscribe == before.unsubscribe
    (letter,) = deliver(people)
    assert (letter.kind, letter.token, letter.expires_at) == ("already", None, None)


def test_you_are_already_subscribed_is_said_once_a_day(people, clock):
    join(people)
    for _ in range(3):
        ask(people)
    assert [letter.kind for letter in deliver(people)] == ["already"]
    clock.pass_by(DAY - timedelta(seconds=1))
    ask(people)
    assert deliver(people) == ()
    clock.pass_by(timedelta(seconds=1))
    ask(people)
    assert [letter.kind for letter in deliver(people)] == ["already"]


def test_three_letters_a_day_go_to_an_address_however_it_is_written(people, clock):
    for email in (
        "ann@example.org",
        "ANN@example.org",
        "Ann@EXAMPLE.org",
        "aNN@example.org",
        "anN@example.org",
    ):
        ask(people, email)
        ask(people, "bob@example.org")
    assert [letter.subscriber.email[:3].lower() for letter in deliver(people)] == ["ann", "bob"] * 3
    clock.pass_by(DAY)
    ask(people)
    assert len(deliver(people)) == 1


def test_requests_never_confirmed_are_deleted_after_seven_days(people, clock):
    ask(people)
    deliver(people)
    clock.pass_by(7 * DAY)
    assert people.tidy() == 0
    clock.pass_by(timedelta(seconds=1))
    assert people.tidy() == 1
    for table in ("subscriber", "token", "outgoing", "saved_query"):
        assert count(people, table) == 0


def test_who_has_confirmed_stays(people, clock):
    join(people)
    clock.pass_by(400 * DAY)
    assert people.tidy() == 0
    assert len(people.active()) == 1
    assert count(people, "outgoing") == 0
    assert people.cancel(people.active()[0].unsubscribe).outcome == "done", "links to unsubscribe never end"


# ---------------------------------------------------------------- stopping


def test_one_click_stops_everything_and_can_be_repeated(people):
    ann = join(people)
    assert people.cancel(ann.unsubscribe).outcome == "done"
    assert people.active() == ()
    assert people.cancel(ann.unsubscribe).outcome == "already"
    assert people.by_email(ANN).state == "cancelled"


def test_one_click_works_before_confirming(people):
    ask(people)
    (letter,) = deliver(people)
    ask(people)
    assert people.cancel(letter.subscriber.unsubscribe).outcome == "done"
    assert people.pending_mails() == (), "what waited is not sent any more"
    assert people.confirm(letter.token).outcome == "revoked"
    assert people.undo(letter.subscriber.unsubscribe).outcome == "pending", "undoing is no way to confirm"
    assert people.active() == ()


def test_who_stopped_can_ask_again(people, clock):
    ann = join(people, frequency="daily")
    people.cancel(ann.unsubscribe)
    ask(people, frequency="weekly")
    assert people.by_email(ANN).state == "cancelled", "a request alone brings nothing back"
    (letter,) = deliver(people)
    clock.pass_by(HOUR)
    assert people.confirm(letter.token).outcome == "done"
    again = people.by_email(ANN)
    assert (again.id, again.state, again.frequency, again.cancelled_at) == (
        ann.id,
        "confirmed",
        "weekly",
        None,
    )
    assert again.confirmed_at == "2026-03-02T09:00:00Z", "the consent is the new one"


def test_stopping_can_be_undone_for_seven_days(people, clock):
    ann = join(people, frequency="daily", query="low rank")
    assert people.undo(ann.unsubscribe).outcome == "already"
    people.cancel(ann.unsubscribe)
    clock.pass_by(7 * DAY - timedelta(seconds=1))
    assert people.can_undo(people.by_email(ANN))
    assert people.undo(ann.unsubscribe).outcome == "done"
    assert people.by_email(ANN) == ann, "everything is as before, the consent too"
    people.cancel(ann.unsubscribe)
    people.cancel(ann.unsubscribe)
    clock.pass_by(7 * DAY)
    assert people.undo(ann.unsubscribe).outcome == "expired"
    assert people.active() == ()


def test_a_link_can_be_replaced(people):
    old = join(people)
    assert people.renew_link(ANN)
    new = people.by_email(ANN)
    assert new.unsubscribe != old.unsubscribe
    for act in (people.find, people.cancel, people.undo):
        assert act(old.unsubscribe).outcome == "revoked"
    assert people.prefer(old.unsubscribe, Preferences("daily")).outcome == "revoked"
    assert people.by_email(ANN) == new
    assert people.cancel(new.unsubscribe).outcome == "done"
    assert not people.renew_link("nobody@example.org")


def test_preferences_change_only_for_who_has_confirmed(people):
    wanted = Preferences("daily", ("privacy", "cs.lg"), "low rank", "Asia/Tokyo")
    ask(people)
    (letter,) = deliver(people)
    link = letter.subscriber.unsubscribe
    assert people.prefer(link, wanted).outcome == "pending"
    people.confirm(letter.token)
    assert people.prefer(link, wanted).subscriber.preferences == wanted
    assert count(people, "saved_query") == 1
    people.prefer(link, Preferences("daily"))
    assert people.by_email(ANN).query is None
    assert count(people, "saved_query") == 0


def test_links_live_on_when_the_secret_is_changed(people, clock):
    ann = join(people)
    ask(people, "bob@example.org")
    (sent,) = deliver(people)
    ask(people, "eve@example.org")
    changed = Subscribers(people.store, now=clock, secret=b"another secret of at least 32 bytes")
    assert changed.by_email(ANN).unsubscribe != ann.unsubscribe
    assert changed.find(ann.unsubscribe).subscriber.id == ann.id
    assert changed.cancel(changed.by_email(ANN).unsubscribe).outcome == "done"
    assert changed.confirm(sent.token).outcome == "done"
    (waiting,) = deliver(changed)
    assert changed.confirm(waiting.token).outcome == "done", "a letter written later holds a valid link"
    before = count(people, "token")
    back = Subscribers(people.store, now=clock, secret=SECRET)
    assert back.find(back.by_email("eve@example.org").unsubscribe).outcome == "done"
    assert count(people, "token") <= before + 1, "a secret known before adds nothing for those it knew"


def test_two_processes_with_two_secrets_send_links_that_work(people, clock):
    sender = Subscribers(people.store, now=clock, secret=b"another secret of at least 32 bytes")
    ask(people)
    (letter,) = deliver(sender)
    assert people.confirm(letter.token).outcome == "done"
    ask(people, "bob@example.org")
    deliver(people)
    assert [people.find(ann.unsubscribe).outcome for ann in sender.active()] == ["done"]
    assert people.cancel(letter.subscriber.unsubscribe).outcome == "done"


# ---------------------------------------------------------------- letters


def test_a_letter_sent_again_is_the_same(people, clock):
    ask(people)
    (first,) = people.pending_mails()
    assert people.pending_mails() == ()
    clock.pass_by(timedelta(minutes=14, seconds=59))
    assert people.pending_mails() == (), "whoever claimed it has 15 minutes"
    clock.pass_by(timedelta(seconds=1))
    (second,) = people.pending_mails()
    assert (second.id, second.token, second.expires_at) == (first.id, first.token, first.expires_at)
    assert (first.attempts, second.attempts) == (1, 2)


def test_a_letter_not_taken_is_tried_again_when_said(people, clock):
    ask(people)
    (letter,) = people.pending_mails()
    people.mail_failed(letter, clock() + 4 * HOUR)
    clock.pass_by(4 * HOUR - timedelta(seconds=1))
    assert people.pending_mails() == ()
    clock.pass_by(timedelta(seconds=1))
    (again,) = people.pending_mails()
    assert again.token == letter.token
    people.mail_failed(again)
    clock.pass_by(DAY)
    assert people.pending_mails() == ()


def test_letters_come_in_order_and_no_more_than_asked_for(people):
    for number in range(5):
        ask(people, f"n{number}@example.org")
    assert [letter.subscriber.email[:2] for letter in people.pending_mails(3)] == ["n0", "n1", "n2"]
    assert [letter.subscriber.email[:2] for letter in people.pending_mails(3)] == ["n3", "n4"]


# ---------------------------------------------------------------- mail that does not arrive


def test_one_hard_strike_suppresses(people):
    ann = join(people)
    assert people.strike(ann.id, "hard")
    assert people.active() == ()
    assert people.suppressed(ANN) == people.suppressed("ann@EXAMPLE.org") == "bounced"
    ask(people)
    ask(people, "ANN@example.org")
    assert people.pending_mails() == ()
    assert people.cancel(ann.unsubscribe).outcome == "already"
    assert people.undo(ann.unsubscribe).outcome == "pending"
    assert people.by_email(ANN).state == "suppressed"


def test_three_soft_strikes_in_a_row_suppress(people):
    ann = join(people)
    assert [people.strike(ann.id, "soft") for _ in range(2)] == [False, False]
    people.arrived(ann.id)
    assert [people.strike(ann.id, "soft") for _ in range(3)] == [False, False, True]
    assert people.by_email(ANN).state == "suppressed"
    with pytest.raises(ValueError, match="'hard' or 'soft'"):
        people.strike(ann.id, "loud")


def test_a_letter_that_bounces_suppresses_and_its_link_dies(people):
    ask(people)
    (letter,) = people.pending_mails()
    people.strike(letter.subscriber.id, "hard")
    assert people.confirm(letter.token).outcome == "revoked"
    assert people.by_email(ANN).state == "suppressed"


def test_the_operator_can_suppress_and_lift(people):
    people.suppress("new@example.org")
    ask(people, "new@example.org")
    assert people.by_email("new@example.org") is None
    assert people.pending_mails() == ()
    ann = join(people)
    people.suppress("ANN@example.org")
    assert people.get(ann.id).state == "suppressed"
    assert people.suppressed(ANN) == "asked"
    assert people.lift(ANN)
    assert not people.lift(ANN)
    assert people.active() == (), "lifting is no consent"
    assert people.undo(ann.unsubscribe).outcome == "pending"
    ask(people)
    (letter,) = deliver(people)
    assert people.confirm(letter.token).outcome == "done"


# ---------------------------------------------------------------- erasing


def test_erasing_leaves_a_salted_hash_and_nothing_else(people, tmp_path):
    ann = join(people, query="a very private search")
    ask(people, "ANN@example.org", query="another very private search")
    deliver(people)
    bob = join(people, "bob@example.org")
    assert people.forget("ann@example.ORG") == 2
    assert people.all() == (bob,)
    with people.store.reading() as connection:
        for table in ("token", "saved_query", "outgoing"):
            owners = connection.exec_driver_sql(f"SELECT DISTINCT subscriber_id FROM {table}").scalars().all()
            assert set(owners) <= {bob.id}
    assert count(people, "suppression") == 1
    assert people.suppressed(ANN) == "erased"
    held = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"bob@example.org" in held
    for trace in (b"ann@", b"Ann@", b"ANN@", b"very private"):
        assert trace not in held, "no trace is left in the file"
    assert people.find(ann.unsubscribe).outcome == people.cancel(ann.unsubscribe).outcome == "unknown"
    ask(people)
    assert people.pending_mails() == ()
    assert people.all() == (bob,)
    assert people.forget(ANN) == 0


def test_every_table_of_a_subscriber_is_emptied_with_them(people):
    join(people, query="rank")
    people.forget(ANN)
    seen = set()
    with people.store.reading() as connection:
        for table in sa.inspect(connection).get_table_names():
            for key in connection.exec_driver_sql(f"PRAGMA foreign_key_list({table})").mappings():
                if key["table"] == "subscriber":
                    assert key["on_delete"] == "CASCADE", table
                    assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() == 0
                    seen.add(table)
    assert seen >= {"token", "saved_query", "outgoing", "delivery", "sent_item"}


def test_numbers_are_not_given_twice(people):
    first = join(people)
    people.forget(ANN)
    assert join(people, "bob@example.org").id > first.id


def test_the_hash_of_an_address_differs_between_databases(people, tmp_path, clock):
    other = Store(tmp_path / "other.db")
    strangers = Subscribers(other, now=clock, secret=SECRET)
    for each in (people, strangers):
        each.suppress(ANN)
    hashes = []
    for each in (people, strangers):
        with each.store.reading() as connection:
            hashes.append(connection.exec_driver_sql("SELECT digest FROM suppression").scalar_one())
    other.close()
    assert hashes[0] != hashes[1]


# ---------------------------------------------------------------- the same for everybody


def test_the_same_statements_run_for_every_address(people):
    """Neither answer nor work tells whether an address is known."""
    join(people, "confirmed@example.org")
    ask(people, "pending@example.org")
    cancelled = "cancelled@example.org"
    deliver(people)
    people.cancel(join(people, cancelled).unsubscribe)
    people.strike(join(people, "bounced@example.org").id, "hard")
    people.suppress("suppressed@example.org")
    for _ in range(5):
        ask(people, "limited@example.org")
    ran = []
    sa.event.listen(people.store.engine, "before_cursor_execute", lambda *given: ran.append(given[2]))
    work, answers = {}, set()
    for state in ("unknown", "confirmed", "pending", "cancelled", "bounced", "suppressed", "limited"):
        ran.clear()
        answers.add(people.subscribe(read_request(f"{state}@example.org", "daily", ["cs"], "rank")))
        work[state] = tuple(ran)
    assert len(set(work.values())) == 1, work
    assert len(work["unknown"]) >= 4
    assert answers == {None}


@given(
    moves=st.lists(
        st.sampled_from(
            ["ask", "confirm", "cancel", "undo", "prefer", "bounce", "lift", "week", "forget", "tidy"]
        ),
        max_size=14,
    )
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nobody_is_active_without_a_consent_that_was_not_withdrawn(moves):
    """Whatever happens in whatever order, who is written to has confirmed since last stopping, bouncing or erasing."""
    clock = Clock()
    people = Subscribers(Store(None), now=clock, secret=SECRET)
    consent, undoable, tokens, link, blocked = False, None, [], None, False
    for move in moves:
        clock.pass_by(timedelta(minutes=20))
        if move == "ask":
            ask(people)
            letters = deliver(people)
            assert not (blocked and letters)
            tokens += [letter.token for letter in letters if letter.token]
            link = letters[0].subscriber.unsubscribe if letters else link
        elif move == "confirm" and tokens:
            done = people.confirm(tokens.pop()).outcome == "done"
            consent, undoable = consent or done, None if done else undoable
        elif move == "cancel" and link:
            if people.cancel(link).outcome == "done":
                undoable = clock() if consent else None
                consent = False
        elif move == "undo" and link:
            if people.undo(link).outcome == "done":
                assert undoable is not None
                assert clock() < undoable + 7 * DAY
                consent = True
        elif move == "prefer" and link:
            people.prefer(link, Preferences("daily"))
        elif move == "bounce":
            for ann in people.all():
                people.strike(ann.id, "hard")
                consent, undoable, blocked = False, None, True
        elif move == "lift":
            people.lift(ANN)
            blocked = False
        elif move == "week":
            clock.pass_by(8 * DAY)
        elif move == "forget":
            people.forget(ANN)
            consent, undoable, blocked = False, None, True
        elif move == "tidy":
            people.tidy()
        assert [ann.state for ann in people.active()] == ["confirmed"] * consent
    people.store.close()


# ---------------------------------------------------------------- the file, several processes


def confirm_elsewhere(path, token, barrier, said):
    store = Store(path)
    people = Subscribers(store, now=lambda: datetime(2026, 3, 2, 8, 0, tzinfo=UTC), secret=SECRET)
    barrier.wait()
    outcome = people.confirm(token).outcome
    letters = len(people.pending_mails(1))
    said.put((outcome, letters))
    store.close()


def test_of_two_processes_that_confirm_at_once_one_does(people, tmp_path):
    ask(people)
    (letter,) = deliver(people)
    ask(people, "bob@example.org")
    people.store.engine.dispose()  # nothing open is inherited
    quick = "fork" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if quick else "spawn")
    barrier, said = context.Barrier(2, timeout=120), context.Queue()
    arguments = (tmp_path / "p.db", letter.token, barrier, said)
    both = [context.Process(target=confirm_elsewhere, args=arguments) for _ in range(2)]
    for process in both:
        process.start()
    outcomes = [said.get(timeout=240) for _ in both]
    for process in both:
        process.join()
    assert sorted(outcome for outcome, _ in outcomes) == ["already", "done"]
    assert sum(letters for _, letters in outcomes) == 1, "and one of them gets the letter that waits"
    assert len(people.active()) == 1


def test_the_file_is_private_and_the_secret_long(people, tmp_path, clock):
    join(people)
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(ValueError, match="at least 32"):
        Subscribers(people.store, now=clock, secret=b"short")


def test_what_is_printed_holds_no_address_and_no_link(people):
    ann = join(people, query="a private search")
    ask(people, "bob@example.org", query="a private search")
    (letter,) = people.pending_mails()
    for thing in (ann, letter, people.find(ann.unsubscribe), people.look_up(letter.token)):
        text = repr(thing) + str(thing)
        for secret in ("@", "private search", ann.unsubscribe, letter.token):
            assert secret not in text
