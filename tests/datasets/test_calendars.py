"""Text that means a date, a time of day or a duration."""

import datetime

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lodim.datasets.calendars import DAY, moment, span

MARCH_27 = datetime.date(2003, 3, 27).toordinal()


@given(st.datetimes(min_value=datetime.datetime(1000, 1, 1), timezones=st.just(datetime.UTC) | st.none()))
def test_iso_comes_back_exactly(when):
    read = moment(when.isoformat())
    midnight = when.replace(hour=0, minute=0, second=0, microsecond=0)
    expected = (when.toordinal(), (when - midnight) // datetime.timedelta(microseconds=1) * 1000)
    assert {read.of(order) for order in ("DMY", "MDY", "YMD")} == {expected}


@pytest.mark.parametrize(
    "text",
    [
        "27.03.2003", "27. 3. 2003", "27/03/03", "27-03-2003", "03/27/2003", "3-27-03", "2003/03/27", "2003.03.27",
        "27-Mar-2003", "27 March 2003", "27th March 2003", "March 27, 2003", "Mar 27 2003", "27. März 2003",
        "27-Mar-03", "2003-Mar-27", "27MAR2003", "Thu, 27 Mar 2003", "Donnerstag, 27. März 2003",
        "27 mars 2003",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("", 0), (" 14:55", 53700), (" 02:55 PM", 53700), (" 2:55pm", 53700), (" 14:55:30.25", 53730.25),
        (", 14:55 Uhr", 53700), (" 14:55:00+02:00", 46500), (" 14:55 UTC", 53700), (" 12:30 a.m.", 1800),
    ],
)  # fmt: skip
def test_dates_and_times_of_day(text, time, seconds):
    read = moment(text + time)
    assert (MARCH_27, int(seconds * 1e9)) in {read.of(order) for order in read.days}


@pytest.mark.parametrize(
    ("text", "month", "day"),
    [
        ("Jan 2001", 1, 1), ("January 2001", 1, 1), ("2001-01", 1, 1), ("01/2001", 1, 1), ("Jan-01", 1, 1),
        ("Dez. 2001", 12, 1),
        ("2001Q3", 7, 1), ("Q3 2001", 7, 1), ("2001-W02", 1, 8),
    ],
)  # fmt: skip
def test_months_quarters_and_weeks_begin_at_their_first_day(text, month, day):
    read = moment(text)
    assert read.is_certain
    assert read.of("DMY") == (datetime.date(2001, month, day).toordinal(), 0)


@pytest.mark.parametrize(
    ("text", "orders"),
    [
        ("27/03/2003", {"DMY"}),
        ("03/27/2003", {"MDY"}),
        ("03/04/2003", {"DMY", "MDY"}),
        ("27/03/03", {"DMY", "YMD"}),
        ("98/03/27", {"YMD"}),
        ("03/04/05", {"DMY", "MDY", "YMD"}),
    ],
)
def test_orders_that_are_possible(text, orders):
    read = moment(text)
    assert set(read.days) == orders
    assert not read.is_certain


@pytest.mark.parametrize(
    "text",
    ["", "12", "1.2.3", "99.99.9999", "30.02.2003", "2003-13-01", "12.5", "room 5", "May", "maybe 2003", "27.03.2003 x",
     "27.03.2003 14:75", "192.168.0.1", "27.03/2003", "2003-W60"],
)  # fmt: skip
def test_no_date(text):
    assert moment(text) is None


@given(st.timedeltas(datetime.timedelta(0), datetime.timedelta(days=10_000)))
def test_durations_as_pandas_and_python_write_them(length):
    expected = length // datetime.timedelta(microseconds=1) * 1000
    assert span(str(pd.Timedelta(length))) == expected
    assert span(str(length)) == expected


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("14:55", 14 + 55 / 60),
        ("36:15", 36.25),
        ("2:30 PM", 14.5),
        ("-0:30", -0.5),
        ("1h 30min", 1.5),
        ("12:00:36", 12.01),
    ],
)
def test_times(text, hours):
    assert span(text) == round(hours * DAY / 24)


@pytest.mark.parametrize("text", ["16:9", "5", "14:60", "a:bc", "1:2:3", "13:00 PM"])
def test_no_time(text):
    assert span(text) is None
