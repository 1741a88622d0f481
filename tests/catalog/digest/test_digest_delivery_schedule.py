"""When a digest is due: every weekday once, every week once, wherever clocks are put forward or back."""

from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

pytest.importorskip("sqlalchemy", reason="needs the extra 'web'")

from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.catalog.digest.schedule import day_in_words, due_period, first_since, local_day

LONG_AGO = datetime(2010, 1, 1, tzinfo=UTC)
ZONES = (
    *("UTC", "Europe/Zurich", "America/New_York", "America/St_Johns", "Asia/Kathmandu", "Asia/Tokyo"),
    *("Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Africa/Casablanca"),
)


def at(zone, *when):
    return datetime(*when, tzinfo=ZoneInfo(zone))


@pytest.mark.parametrize(
    ("when", "period"),
    [
        ((2026, 11, 23, 6, 59, 59), None),
        ((2026, 11, 23, 7, 0), "2026-11-23"),
        ((2026, 11, 23, 23, 59), "2026-11-23"),
        ((2026, 11, 24, 0, 0), None),
        ((2026, 11, 27, 12, 0), "2026-11-27"),
        ((2026, 11, 28, 12, 0), None),
        ((2026, 11, 29, 12, 0), None),
    ],
)
def test_daily_on_weekdays_from_seven_on(when, period):
    assert due_period("daily", "Asia/Tokyo", LONG_AGO, at("Asia/Tokyo", *when)) == period


@pytest.mark.parametrize(
    ("when", "period"),
    [
        ((2026, 11, 23, 6, 59), None),
        ((2026, 11, 23, 7, 0), "2026-W48"),
        ((2026, 11, 29, 23, 0), "2026-W48"),
        ((2026, 12, 28, 8, 0), "2026-W53"),
        ((2027, 1, 1, 8, 0), "2026-W53"),
        ((2027, 1, 4, 6, 0), None),
        ((2027, 1, 4, 8, 0), "2027-W01"),
    ],
)
def test_weekly_from_monday_seven_on(when, period):
    assert due_period("weekly", "America/New_York", LONG_AGO, at("America/New_York", *when)) == period


def test_nothing_is_due_for_the_time_before_the_subscription():
    confirmed = at("UTC", 2026, 11, 23, 9)
    assert due_period("daily", "UTC", confirmed, at("UTC", 2026, 11, 23, 10)) is None
    assert due_period("weekly", "UTC", confirmed, at("UTC", 2026, 11, 26, 10)) is None
    assert due_period("daily", "UTC", confirmed, at("UTC", 2026, 11, 24, 7)) == "2026-11-24"


def sweep(frequency, zone, begin, days, **options):
    """Count how many stretches of time a period is due in, looking every quarter: clocks and mornings keep to them."""
    seen, last = Counter(), None
    for step in range(days * 96):
        now = begin + timedelta(minutes=15 * step)
        period = due_period(frequency, zone, LONG_AGO, now, **options)
        if period is not None and period != last:
            seen[period] += 1
        last = period
    return seen


# spring and autumn in Europe, in America, half an hour in Australia, and the day that Samoa left out
CHANGES = [
    ("Europe/Zurich", datetime(2026, 3, 26, tzinfo=UTC)),
    ("Europe/Zurich", datetime(2026, 10, 22, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 5, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 10, 29, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 2, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 27, tzinfo=UTC)),
]


@pytest.mark.parametrize("morning", [time(0), time(2, 30), time(7)])
@pytest.mark.parametrize(("zone", "begin"), CHANGES)
def test_clocks_put_forward_or_back_neither_skip_nor_double_a_day(zone, begin, morning):
    begin = at(zone, begin.year, begin.month, begin.day).astimezone(UTC)
    seen = sweep("daily", zone, begin, 7, morning=morning)
    days = {local_day(begin + timedelta(hours=h), zone) for h in range(7 * 24 - 12)}
    whole = {day.isoformat(): 1 for day in days if day.weekday() < 5}
    assert {day: n for day, n in seen.items() if day in whole} == whole
    assert set(seen) - set(whole) <= {local_day(begin + timedelta(days=7), zone).isoformat()}


@pytest.mark.parametrize(("zone", "begin"), CHANGES[:4])
def test_weeks_with_a_change_of_clocks_come_once(zone, begin):
    seen = sweep("weekly", zone, begin, 10)
    assert set(seen.values()) == {1}
    assert len(seen) == 2


def test_a_time_that_clocks_skip_is_due_an_hour_later_on_them():
    zone, morning = "Africa/Cairo", time(0, 30)  # clocks go from 00:00 to 01:00 on Friday 24 April 2026
    midnight = at(zone, 2026, 4, 24, 1, 0).astimezone(UTC)
    assert due_period("daily", zone, LONG_AGO, midnight + timedelta(minutes=29), morning=morning) is None
    assert (
        due_period("daily", zone, LONG_AGO, midnight + timedelta(minutes=30), morning=morning) == "2026-04-24"
    )


@settings(max_examples=60, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    now=st.datetimes(datetime(2021, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)),
    frequency=st.sampled_from(["daily", "weekly"]),
)
def test_what_is_due_is_of_today_or_this_week_and_stays_so_till_it_ends(zone, now, frequency):
    period = due_period(frequency, zone, LONG_AGO, now)
    today = local_day(now, zone)
    year, week, _ = today.isocalendar()
    assert period in (None, today.isoformat() if frequency == "daily" else f"{year}-W{week:02d}")
    later = now + timedelta(minutes=1)
    if period is not None and local_day(later, zone) == today:
        assert due_period(frequency, zone, LONG_AGO, later) == period


def test_another_frequency_is_refused():
    with pytest.raises(ValueError, match="daily or weekly"):
        due_period("hourly", "UTC", LONG_AGO, LONG_AGO)


def test_a_first_digest_looks_one_period_back():
    assert first_since("weekly", LONG_AGO) == datetime(2009, 12, 25, tzinfo=UTC)


def test_dates_do_not_depend_on_the_locale():
    assert day_in_words(date(2026, 3, 9)) == "9 March 2026"
    assert day_in_words(date(2026, 12, 31)) == "31 December 2026"
