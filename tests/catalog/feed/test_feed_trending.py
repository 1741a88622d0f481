"""Orders: the formulas, what they imply, and lists that are read page by page."""

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.catalog.feed import Trending
from lodim.catalog.feed.cursors import Cursor
from lodim.catalog.feed.records import stamp
from lodim.catalog.feed.trending import Series, age_in_words

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
VOTES = st.floats(0, 1e6)
AGES = st.floats(0, 1e4)


def votes(n, before=None, first=0.0):
    return [Series("hub", "upvotes", n, before, first)]


@given(u=VOTES, age=AGES)
def test_the_score_is_the_formula(u, age):
    expected = max(u - 1, 0) ** 0.8 / (age + 2) ** 1.8
    assert Trending().score("trending", votes(u), age) == pytest.approx(expected, rel=1e-12)
    assert Trending().score("top", votes(u), age) == u
    assert Trending().score("new", votes(u), age) == 0.0


@given(u=st.floats(1, 1e6), more=st.floats(1e-3, 1e6), age=AGES)
def test_of_equal_age_more_votes_and_of_equal_votes_the_newer_come_first(u, more, age):
    score = Trending().score
    assert score("trending", votes(u + more), age) > score("trending", votes(u), age)
    if u > 1:
        assert score("trending", votes(u), age) > score("trending", votes(u), age + more)


@given(u=st.floats(2, 1e5), v=st.floats(2, 1e5), apart=st.floats(0.1, 1000))
def test_two_papers_change_places_at_most_once(u, v, apart):
    """The sign of the difference of logarithms is that of a function that is monotone in time."""
    score = Trending().score
    later = [apart * 0.05 * 1.3**i for i in range(60)]
    signs = [
        math.copysign(1, d)
        for t in later
        if abs(
            d := math.log(score("trending", votes(u), t)) - math.log(score("trending", votes(v), t + apart))
        )
        > 1e-9
    ]
    assert sum(a != b for a, b in pairwise(signs)) <= 1


@pytest.mark.parametrize("value", [-5.0, 0.0])
@pytest.mark.parametrize("order", ["trending", "velocity", "top"])
def test_negative_votes_and_clocks_that_are_wrong(value, order):
    assert Trending().score(order, votes(value), 3) == 0.0
    assert Trending().count([("s", "upvotes", None)]) == 0.0
    assert Trending().score(order, votes(9), -100) == Trending().score(order, votes(9), 0)
    assert Trending().score(order, [], 1) == 0.0


def test_velocity_is_what_was_gained_in_a_day():
    score = Trending().score
    decay = lambda age: (age + 2) ** 1.8  # noqa: E731
    assert score("velocity", votes(50, before=26), 100) == pytest.approx(1 / decay(100))
    assert score("velocity", votes(48, before=None), 5) == pytest.approx(2 / decay(5))
    assert score("velocity", votes(500, before=None, first=500), 500) == 0.0
    assert score("velocity", votes(5, before=26), 100) == 0.0


@given(a=VOTES, b=VOTES, w=st.floats(0.1, 3), c=st.floats(0.5, 100))
def test_several_signals_are_a_weighted_sum_of_logarithms(a, b, w, c):
    formula = Trending(weights={"upvotes": 1.0, "stars": w}, scales={"forge": c})
    u = formula.count([("hub", "upvotes", a), ("forge", "stars", b), ("x", "other", 99)])
    assert math.log1p(u) == pytest.approx(math.log1p(a) + w * math.log1p(b / c), rel=1e-9, abs=1e-12)
    assert "stars" in formula.formula("trending")


def test_constants_are_checked():
    for wrong in (
        {"power": 0},
        {"offset": -1},
        {"gravity": math.nan},
        {"scales": {"x": 0}},
        {"weights": {"x": -1}},
    ):
        with pytest.raises(ValueError, match="must be"):
            Trending(**wrong)


@pytest.mark.parametrize(
    ("hours", "words"),
    [
        (0, "0 min"),
        (0.99, "59 min"),
        (9.5, "9 h"),
        (50, "2 days"),
        (24 * 70, "2 months"),
        (24 * 1000, "2 years"),
    ],
)
def test_ages_in_words(hours, words):
    assert age_in_words(hours) == words


def test_a_list_says_why(papers, voted, take):
    take(papers, voted(("2611.00001", 41, "2026-11-23T03:00:00Z"), ("2611.00002", 1, "2026-11-20")))
    first, second = papers.papers("trending", now=NOW).papers
    assert first.why == "41 votes, 9 h old"
    assert first.score == pytest.approx(40**0.8 / 11**1.8)
    assert second.why == "1 vote, 3 days old"
    assert papers.papers("velocity", now=NOW).papers[0].why == "+41 votes in 24 h, 9 h old"
    assert papers.papers(now=NOW).formula == "max(votes - 1, 0)^0.8 / (age in hours + 2)^1.8"
    assert "41 votes, 9 h old" in str(papers.papers(now=NOW))


def test_signals_count_as_they_were(papers, voted, take):
    old, new = stamp(NOW - timedelta(hours=30)), stamp(NOW)
    take(papers, voted(("2611.00001", 10, "2026-11-01")), now=old)
    take(papers, voted(("2611.00001", 34, "2026-11-01")), now=new)
    assert papers.papers("top", now=old).papers[0].score == 10
    assert papers.papers("top", now=new).papers[0].score == 34
    age = (NOW - datetime(2026, 11, 1, tzinfo=UTC)).total_seconds() / 3600
    assert papers.papers("velocity", now=new).papers[0].score == pytest.approx(1 / (age + 2) ** 1.8)


@settings(max_examples=10, deadline=None)
@given(
    seen=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["a", "b"]), st.integers(-60, 10), st.integers(-2, 9)),
        max_size=25,
    )
)
def test_velocity_is_that_of_all_observations(emptied, take, seen):
    """Reading only the papers that were observed lately gives what reading all observations gives."""
    formula = Trending()
    with emptied() as papers:
        take(papers, "title,arxiv,date\n" + "".join(f"P{i},2611.0000{i},2026-11-2{i}\n" for i in range(4)))
        series = {}
        for i, source, hours, n in seen:
            at = NOW + timedelta(hours=hours)
            rows = f"title,arxiv,votes\nP{i},2611.0000{i},{n}\n"
            take(papers, rows, now=stamp(NOW), observed_at=stamp(at), name=source)
            held = series.setdefault((i, source), {})
            held[at] = max(n, held.get(at, n))
        page = papers.papers("velocity", now=NOW)
        for paper in page.papers:
            i = int(paper.title[1])
            signals = []
            for (of, source), held in series.items():
                times = sorted(t for t in held if t <= NOW)
                if of == i and times:
                    before = [t for t in times if t <= NOW - timedelta(hours=24)]
                    old = held[before[-1]] if before else None
                    signals.append(Series(source, "upvotes", held[times[-1]], old, held[times[0]]))
            age = (NOW - datetime(2026, 11, 20 + i, tzinfo=UTC)).total_seconds() / 3600
            assert paper.score == pytest.approx(formula.score("velocity", signals, age), rel=1e-12)
            assert paper.why == formula.why("velocity", signals, age) or signals == []


def test_without_signals_what_talks_is_what_is_new(papers, take):
    rows = "title,date\nA,2020-01-01\nB,2024-05-05\nC,\nD,2022\n"
    take(papers, rows, now=stamp(NOW))
    new = [p.title for p in papers.papers("new", now=NOW).papers]
    assert new == ["C", "B", "D", "A"]
    assert [p.title for p in papers.papers("trending", now=NOW).papers] == new
    why = {p.title: p.why for p in papers.papers("new", now=NOW).papers}
    assert why == {
        "A": "6 years old",
        "B": "2 years old",
        "C": "no date, first seen 0 min ago",
        "D": "of 2022",
    }


def test_windows_and_areas(papers, take):
    rows = (
        "title,date,tags,arxiv\nA,2026-11-23,cs.LG; math.ST,\nB,2026-11-19,cs.CV,\nC,2026-11-01,stat.ML,1804.08838\n"
        "D,2020-01-01,other,\n"
    )
    take(papers, rows)

    def titles(**options):
        return "".join(p.title for p in papers.papers("new", now=NOW, **options).papers)

    assert [titles(since=s) for s in ("day", "week", "month", "all", None)] == [
        "A",
        "AB",
        "ABC",
        "ABCD",
        "ABCD",
    ]
    assert (
        titles(since="2026-11-19")
        == titles(since=timedelta(days=7))
        == titles(since=datetime(2026, 11, 19).date())
        == "AB"
    )
    assert titles(areas="cs") == "AB"
    assert titles(areas=["CS.lg", "other"]) == "AD"
    assert titles(areas=["landscape"]) == "C"
    page = papers.papers(areas=["nothing-like-it"])
    assert page.papers == ()
    assert "no paper has the tag 'nothing-like-it'" in page.notes[0]
    with pytest.raises(ValueError, match="since must be day"):
        papers.papers(since="tuesday")


@settings(max_examples=12, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=20),
    limit=st.integers(1, 6),
    order=st.sampled_from(["trending", "velocity", "top", "new"]),
)
def test_pages_hold_every_paper_once_in_order(emptied, voted, take, rows, limit, order):
    with emptied() as papers:
        listed = [(f"2611.{i:05}", n, f"2026-11-2{d}") for i, (n, d) in enumerate(rows)]
        take(papers, voted(*listed), now=stamp(NOW))
        whole = [p.id for p in papers.papers(order, limit=100, now=NOW).papers]
        assert sorted(whole) == list(range(1, len(rows) + 1))
        read, cursor, page = [], None, None
        while page is None or cursor:
            page = papers.papers(order, limit=limit, cursor=cursor, now=NOW + timedelta(hours=len(read)))
            read += [p.id for p in page.papers]
            cursor = page.next
            assert page.n_matching == len(rows)
        assert read == whole


def test_what_comes_in_between_moves_nothing(papers, voted, take):
    take(papers, voted(*((f"2611.{i:05}", 5, "2026-11-20") for i in range(10))), now=stamp(NOW))
    first = papers.papers(limit=4, now=NOW)
    later = stamp(NOW + timedelta(minutes=5))
    changed = [(f"2611.{i:05}", 99 - i, "2026-11-20") for i in range(10)]
    take(papers, voted(*changed, ("2611.99999", 999, "2026-11-23")), now=later)
    rest = papers.papers(limit=100, cursor=first.next)
    assert {p.id for p in first.papers} & {p.id for p in rest.papers} == set()
    assert {p.id for p in first.papers} | {p.id for p in rest.papers} >= set(range(1, 11))


@given(
    score=st.floats(allow_nan=False, allow_infinity=False),
    number=st.integers(1, 2**62),
    at=st.integers(0, 10**9),
)
def test_cursors_travel(score, number, at):
    cursor = Cursor("abc", stamp(datetime.fromtimestamp(at, UTC)), score, "2024", number)
    assert Cursor.unpack(cursor.pack(), "abc") == cursor
    with pytest.raises(ValueError, match="other options"):
        Cursor.unpack(cursor.pack(), "abd")


@given(text=st.text(max_size=40))
def test_any_text_is_a_cursor_or_refused(text):
    with pytest.raises(ValueError, match="is not a cursor"):
        Cursor.unpack(text, "abc")


def test_options_are_checked(papers):
    for wrong in (
        {"sort": "hot"},
        {"sort": "similar"},
        {"to": 3},
        {"limit": 0},
        {"limit": 9999},
        {"cursor": "x"},
    ):
        with pytest.raises(ValueError, match=r"must be|goes together|not a cursor"):
            papers.papers(**wrong)
    with pytest.raises(ValueError, match="no time zone"):
        papers.papers(now=datetime(2026, 1, 1))
    assert papers.trending("hn", gravity=1.0).formula.endswith("+ 2)^1")
