"""Many who click while somebody else writes: the pages stay there for all others, and no click is lost in silence."""

import threading
import time

import pytest

pytest.importorskip("fastapi", reason="needs the extra 'web'")
pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")
pytest.importorskip("email_validator", reason="needs the extra 'web'")
pytest.importorskip("httpx", reason="needs the extra 'test'")

from lodim.catalog.digest import read_request
from lodim.catalog.feed.store import VISITORS, Store
from lodim.web.meaning import Meaning
from lodim.web.subscriptions import subscribers_of

MANY = 45  # more than there are threads for requests


def wait_until(true):
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_more_who_click_than_may_wait_leave_the_pages_alone(site, tmp_path):
    client = site()
    app = client.app
    app.state.visited = app.state.catalog.store.for_visitors(patience=600)
    people, other, answers = subscribers_of(app), Store(tmp_path / "papers.db"), []
    people.subscribe(read_request("ann@example.org", "daily", (), None, "UTC"))
    people.confirm(people.pending_mails()[0].token)
    link = f"/u/{people.by_email('ann@example.org').unsubscribe}"
    with client:
        clicks = [threading.Thread(target=lambda: answers.append(client.post(link))) for _ in range(MANY)]
        with other.writing():
            for click in clicks:
                click.start()
            wait_until(lambda: len(answers) == MANY - VISITORS)
            assert client.get("/about").status_code == 200
            assert {answer.status_code for answer in answers} == {503}
            assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
            assert sum(click.is_alive() for click in clicks) == VISITORS
        for click in clicks:
            click.join()
    assert sorted(answer.status_code for answer in answers) == [200] * VISITORS + [503] * (MANY - VISITORS)
    assert people.by_email("ann@example.org").state == "cancelled"
    other.close()


def test_all_who_asked_are_told_when_meaning_is_ready(monkeypatch):
    from lodim.catalog import semantic

    go_on, told, meaning = threading.Event(), [], Meaning()
    monkeypatch.setattr(semantic, "semantic_available", lambda: True)
    monkeypatch.setattr(semantic, "ranked_by_meaning", lambda _: go_on.wait(120))
    for name in ("first", "second"):
        meaning.start(lambda name=name: told.append(name))
    assert (meaning.state, told) == ("loading", [])
    go_on.set()
    wait_until(lambda: len(told) == 2)
    meaning.start(lambda: told.append("third"))
    assert told == ["first", "second", "third"]
