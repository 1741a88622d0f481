"""What is news, for whom, and how often: once."""

from datetime import timedelta

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")
pytest.importorskip("email_validator", reason="needs the extra 'web'")
pytest.importorskip("jinja2", reason="needs the extra 'web'")

from lodim.catalog.cards import load_cards
from lodim.catalog.digest import changes as states
from lodim.catalog.digest.changes import changes_between, record_states
from lodim.catalog.digest.content import News
from lodim.catalog.feed.records import stamp


@pytest.fixture
def reader(site):
    """Return a function that tells the news since a day ago to one subscriber."""
    ann = site.join("ann@example.org")

    def news(since=None, most=10, subscriber=ann.id, **wanted):
        start = stamp(since or site.clock.at - timedelta(days=1))
        with site.papers.store.reading() as connection:
            made = News(stamp(site.clock.at), most=most)
            return made.digest(connection, subscriber, since=start, **wanted)

    news.id = ann.id
    return news


def titles(items):
    return [item.title for item in items]


def test_nothing_is_nothing(reader):
    assert not reader()
    assert reader().papers == ()


def test_new_papers_come_most_talked_about_first_then_newest(site, reader):
    old, new = "2026-11-21T10:00:00Z", "2026-11-22T10:00:00Z"
    site.take((1, "Quiet", 0, None, old), (2, "Loud", 40, None, new), (3, "Newest", 0, None, new))
    said = reader()
    assert titles(said.listed) == ["Loud", "Newest", "Quiet"]
    assert [item.why for item in said.listed] == ["new, 40 votes", "new", "new"]
    assert said.listed[0].link == "https://arxiv.org/abs/2611.00002"


def test_old_papers_that_come_in_late_are_no_news(site, reader):
    site.take(
        (1, "Of last year", 0, None, "2025-01-01T00:00:00Z"),
        (2, "Of this month", 0, None, "2026-11-02T00:00:00Z"),
    )
    assert titles(reader().listed) == ["Of this month"]


def test_an_old_paper_that_gains_is_news_with_what_it_gained(site, reader):
    then = "2025-01-01T00:00:00Z"
    long_ago = site.clock.at - timedelta(days=5)
    site.take(
        (1, "Rising", 41, None, then),
        (2, "Standing", 90, None, then),
        (3, "One more", 7, None, then),
        now=long_ago,
    )
    site.take((1, "Rising", 53, None, then), (2, "Standing", 90, None, then), (3, "One more", 8, None, then))
    (item,) = reader().listed
    assert (item.title, item.why) == ("Rising", "12 more votes since 21 November 2026, 53 in all")


def test_votes_that_were_there_before_anybody_looked_are_no_news(site, reader):
    site.take((1, "Old and loved", 900, None, "2024-01-01T00:00:00Z"))
    assert not reader()


def test_what_comes_in_after_the_moment_is_for_the_next_time(site, reader):
    site.take((1, "Later", 5), now=site.clock.at + timedelta(minutes=1))
    assert not reader()


def test_areas_choose(site, reader):
    atom = (
        '<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>http://arxiv.org/abs/2611.0{n}</id><title>{t}</title>'
        "<summary>s</summary><published>2026-11-22T10:00:00Z</published>"
        '<author><name>A</name></author><category term="{c}"/></entry></feed>'
    )
    import io

    for n, (title, tag) in enumerate(
        {"Learning": "cs.LG", "Vision": "cs.CV", "Statistics": "stat.ML"}.items()
    ):
        text = atom.format(n=f"{n:04d}", t=title, c=tag)
        site.papers.ingest(io.StringIO(text), "atom", now=site.clock.at)
    assert set(titles(reader(areas=("cs.lg",)).listed)) == {"Learning"}
    assert set(titles(reader(areas=("cs",)).listed)) == {"Learning", "Vision"}
    assert set(titles(reader(areas=("cs.cv", "stat")).listed)) == {"Vision", "Statistics"}
    assert len(reader().listed) == 3
    assert titles(reader(search="area:stat.ML").found) == ["Statistics"]


def test_a_saved_search_finds_only_papers_with_all_its_words(site, reader):
    site.take(
        (1, "Low rank adapters", 0),
        (2, "Adapters of high rank", 0, "Nothing low in it"),
        (3, "Low prices", 9),
        (4, "Ranks are low", 0, "With images"),
    )
    said = reader(search="low rank")
    assert set(titles(said.found)) == {"Low rank adapters", "Adapters of high rank", "Ranks are low"}
    assert said.listed == ()
    assert all(item.why.startswith("matches your search; new") for item in said.found)
    assert titles(reader(search='"low rank"').found) == ["Low rank adapters"]
    assert set(titles(reader(search="low -images").found)) == {
        "Low rank adapters", "Adapters of high rank", "Low prices",
    }  # fmt: skip
    assert reader(search="zebra").papers == ()


def test_a_search_and_areas_add_up_and_no_paper_comes_twice(site, reader):
    site.take(*((n, f"Paper {n} of chaos" if n % 2 else f"Paper {n}", n) for n in range(1, 9)))
    said = reader(search="chaos", areas=("cs",))
    assert len(said.found) == 4
    assert said.listed == ()  # none has the tag
    with_all = reader(search="chaos", areas=())
    assert len(with_all.found) == 4
    assert len(set(with_all.papers)) == len(with_all.papers)


@pytest.mark.parametrize(
    ("n_found", "n_other", "told"), [(20, 20, (5, 5)), (2, 20, (2, 8)), (20, 3, (7, 3)), (4, 4, (4, 4))]
)
def test_ten_are_told_and_both_sections_get_room(site, reader, n_found, n_other, told):
    import io

    entry = (
        "<entry><id>http://arxiv.org/abs/2611.{n:05d}</id><title>{t} {n}</title><summary>s</summary>"
        '<published>2026-11-22T10:00:00Z</published><author><name>A</name></author><category term="cs.LG"/></entry>'
    )
    kinds = ["Chaos"] * n_found + ["Order"] * n_other
    entries = "".join(entry.format(n=n, t=kind) for n, kind in enumerate(kinds))
    feed = f'<feed xmlns="http://www.w3.org/2005/Atom">{entries}</feed>'
    site.papers.ingest(io.StringIO(feed), "atom", now=site.clock.at)
    said = reader(search="chaos", areas=("cs.lg",))
    assert (len(said.found), len(said.listed)) == told
    assert said.more == n_found + n_other - sum(told)


def test_what_was_sent_to_one_is_news_for_another(site, reader):
    bo = site.join("bo@example.org")
    site.take((1, "Once", 3), (2, "Twice", 3))
    first = reader()
    with site.papers.store.writing() as connection:
        for paper in first.papers[:1]:
            connection.exec_driver_sql(
                f"INSERT INTO sent_item VALUES ({reader.id}, {paper}, '2026-11-22T00:00:00Z')"
            )
    assert reader().papers == first.papers[1:]
    assert reader(subscriber=bo.id).papers == first.papers


def test_a_paper_that_was_sent_stays_sent_when_it_turns_out_to_be_another(site, reader):
    import io

    bibtex = (
        "@article{a, title={One and the same paper with a long title}, author={Zoë Ångström}, year={2026}}"
    )
    site.papers.ingest(io.StringIO(bibtex), "bibtex", now=site.clock.at)
    site.papers.ingest(
        io.StringIO("@article{b, title={Other words}, author={Zoë Ångström}, year={2026}, doi={10.1000/x}}"), "bibtex",
        now=site.clock.at,
    )  # fmt: skip
    (gone,) = [i for i, t in site.rows("SELECT id, title FROM paper") if t == "Other words"]
    with site.papers.store.writing() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO sent_item VALUES ({reader.id}, {gone}, '2026-11-22T00:00:00Z')"
        )
        from lodim.catalog.feed.merge import _absorb

        (keep,) = {i for (i,) in connection.exec_driver_sql("SELECT id FROM paper")} - {gone}
        _absorb(connection, keep, gone)
    assert site.rows("SELECT subscriber_id, paper_id FROM sent_item") == [(reader.id, keep)]
    assert not reader()


# ---------------------------------------------------------------- methods


def test_the_first_look_at_the_methods_is_no_news(site, reader):
    assert record_states(site.papers.store, stamp(site.clock.at)) == len(load_cards())
    assert reader().changes == ()
    assert record_states(site.papers.store, stamp(site.clock.at)) == 0


def test_a_method_whose_state_changed_is_news_once(site, reader, monkeypatch):
    store, cards = site.papers.store, load_cards()
    record_states(store, stamp(site.clock.at - timedelta(days=9)))
    changed = next(card for card in cards if card.status == "available")
    before = states.evidence_of(changed)
    monkeypatch.setattr(states, "evidence_of", lambda card: "1 fails" if card is changed else "not run")
    site.clock.pass_by(minutes=1)
    assert record_states(store, stamp(site.clock.at)) >= 1
    told = {change.slug: change.said for change in reader().changes}
    assert told[changed.slug] == f"claims: 1 fails (before: {before})"
    area = changed.areas[0]
    assert changed.slug in {change.slug for change in reader(areas=(area,)).changes}
    assert reader(areas=("no-such-area",)).changes == ()
    since = site.clock.at
    site.clock.pass_by(days=1)
    assert reader(since=since).changes == ()


def test_a_change_that_was_taken_back_is_none(site, monkeypatch):
    store = site.papers.store
    moments = [stamp(site.clock.at + timedelta(hours=h)) for h in range(4)]
    original = states.evidence_of
    record_states(store, moments[0])
    monkeypatch.setattr(states, "evidence_of", lambda card: "1 fails")
    record_states(store, moments[1])
    monkeypatch.setattr(states, "evidence_of", original)
    record_states(store, moments[2])
    with store.reading() as connection:
        assert changes_between(connection, moments[0], moments[1])
        assert changes_between(connection, moments[0], moments[3]) == ()
