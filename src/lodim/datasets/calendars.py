"""Text that means a date, a time of day or a duration, as people write them.

Dates: ISO (``2003-03-27T14:55``), day, month and year in numbers (``27.03.2003``, ``03/27/03 02:55 PM``), with the name
of a month (``27-Mar-2003``, ``March 27, 2003``, ``Jan 2001``), months, quarters and weeks of a year (``03/2003``,
``2003Q1``, ``2003-W13``). Which number is the day can depend on the order of day and month; which one holds is decided
for a whole file (:mod:`lodim.datasets.readings`). Times: ``14:55``, ``2:55:03.5 PM``, ``36:15``,
``1 days 02:00:00``, ``1h 30min``.
"""

from __future__ import annotations

import datetime
import re
from functools import lru_cache
from typing import NamedTuple

ORDERS = ("DMY", "MDY", "YMD")
DAY = 86_400_000_000_000  # nanoseconds

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan january januar jän janvier janv enero ene gennaio gen",
            "feb february februar février févr fev febrero febbraio",
            "mar march mär märz mrz mars marzo", "apr april avril avr abril abr aprile", "may mai mayo maggio mag",
            "jun june juni juin junio giugno giu", "jul july juli juillet juil julio luglio lug",
            "aug august août aout agosto ago", "sep sept september septembre septiembre settembre set",
            "oct october okt oktober octobre octubre ottobre ott", "nov november novembre noviembre",
            "dec december dez dezember décembre déc diciembre dic dicembre",
        ),
        start=1,
    )
    for name in names.split()
}  # fmt: skip
_WEEKDAY = re.compile(
    r"(?:mon|tue|wed|thu|fri|sat|sun|mo|di|mi|do|fr|sa|so|montag|dienstag|mittwoch|donnerstag|freitag|samstag|sonntag"
    r"|mon?day|tues?(?:day)?|wednesday|thurs?(?:day)?|friday|saturday|sunday)[.,]*\s+",
    re.I,
)
_ZONES = {
    "Z": 0, "UTC": 0, "GMT": 0, "WET": 0, "BST": 1, "WEST": 1, "CET": 1, "MEZ": 1, "CEST": 2, "MESZ": 2, "EET": 2,
    "EEST": 3, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
}  # fmt: skip
_MONTH = r"(?P<month>[^\W\d_]{3,10})\.?"
_TIME = re.compile(
    r"(?P<hour>[0-9]{1,2})(?:[:.h](?P<minute>[0-5][0-9])(?:[:.](?P<second>[0-5][0-9]|60)(?:[.,](?P<fraction>[0-9]{1,9}))?)?)?"
    rf"\s*(?P<half>[AaPp]\.?\s?[Mm]\.?)?\s*(?:Uhr)?\s*(?P<zone>{'|'.join(_ZONES)}|[+-][0-9]{{2}}(?::?[0-9]{{2}})?)?"
)
_AFTER = r"(?:(?:\s*T|,?\s+)(?P<time>[0-9].*))?"
_YEAR = r"(?P<year>[0-9]{4}|'?[0-9]{2})"
_DATES = tuple(
    re.compile(pattern + _AFTER)
    for pattern in (
        r"(?P<year>[0-9]{4})(?P<mark>[-/.])(?P<monthno>[0-9]{1,2})(?P=mark)(?P<day>[0-9]{1,2})",
        r"(?P<a>[0-9]{1,2})(?P<mark>[-/.]) ?(?P<b>[0-9]{1,2})(?P=mark) ?(?P<c>[0-9]{4}|[0-9]{2})",
        rf"(?P<day>[0-9]{{1,2}})(?:\.|st|nd|rd|th)?[-/ ]?\s*{_MONTH}[-/ ,]*{_YEAR}",
        rf"{_MONTH}[- ]*(?P<day>[0-9]{{1,2}})(?:st|nd|rd|th)?(?:,\s*|\s+){_YEAR}",
        rf"(?P<year>[0-9]{{4}})[-/ ]?{_MONTH}[-/ ]?(?P<day>[0-9]{{1,2}})",
    )
) + tuple(
    re.compile(pattern)
    for pattern in (
        r"(?P<year>[0-9]{4})[-/](?P<monthno>[0-9]{1,2})",
        r"(?P<monthno>[0-9]{1,2})[-/](?P<year>[0-9]{4})",
        rf"{_MONTH}[-/., ]*{_YEAR}",
        rf"(?P<year>[0-9]{{4}})[-/ ]?{_MONTH}",
        r"(?P<year>[0-9]{4})[- /]?Q(?P<quarter>[1-4])",
        r"Q(?P<quarter>[1-4])[- /]?(?P<year>[0-9]{4})",
        r"(?P<year>[0-9]{4})-?W(?P<week>[0-9]{2})",
    )
)  # fmt: skip
_SPAN = re.compile(
    r"(?P<minus>-)?(?:(?P<days>[0-9]+) days?,? \+?)?(?P<hours>[0-9]{1,4}):(?P<minutes>[0-5][0-9])"
    r"(?::(?P<seconds>[0-5][0-9]))?(?:[.,](?P<fraction>[0-9]{1,9}))?\s*(?P<half>[AaPp]\.?\s?[Mm]\.?)?(?:\s*Uhr)?"
)
_WORDED = re.compile(
    r"(?:(?P<hours>[0-9]+)\s?(?:h|hrs?|hours?|std\.?)\s*)(?:(?P<minutes>[0-5]?[0-9])\s?(?:m|min|mins|minutes?)?)?",
    re.I,
)


class Moment(NamedTuple):
    """Days since 0001-01-01 by order of day, month and year (those that are possible), and nanoseconds of the day.

    ``is_certain`` says that the order does not matter.
    """

    days: dict[str, int]
    nanoseconds: int
    is_certain: bool

    def of(self, order: str) -> tuple[int, int] | None:
        """Return the day and the nanoseconds by one order; None where that order makes it no date."""
        return (self.days[order], self.nanoseconds) if order in self.days else None


def _day(year: int, month: int, day: int) -> int | None:
    try:
        return datetime.date(year, month, day).toordinal()
    except ValueError:
        return None


def _full_year(text: str) -> int:
    text = text.lstrip("'")
    return int(text) if len(text) == 4 else int(text) + (2000 if int(text) < 69 else 1900)


def _clock(text: str | None) -> int | None:
    """Return nanoseconds since midnight (of Greenwich, where a zone is given); None for no time of day."""
    if not text:
        return 0
    found = _TIME.fullmatch(text.strip())
    if found is None or not (found["minute"] or found["half"]):
        return None
    hour = int(found["hour"])
    if found["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if found["half"][0] in "pP" else 0)
    if hour > 24:
        return None
    seconds = 3600 * hour + 60 * int(found["minute"] or 0) + int(found["second"] or 0)
    zone = found["zone"] or "Z"
    if zone[0] in "+-":
        offset = 3600 * int(zone[1:3]) + 60 * int(zone[-2:] if len(zone) > 3 else 0)
        seconds -= offset if zone[0] == "+" else -offset
    else:
        seconds -= 3600 * _ZONES[zone]
    return seconds * 10**9 + int((found["fraction"] or "").ljust(9, "0"))


@lru_cache(maxsize=1 << 16)
def moment(text: str) -> Moment | None:
    """Return the date, with its time of day, that a stripped text means; None where it means none."""
    if not any(map(str.isdigit, text)) or len(text) < 5:
        return None
    bare = _WEEKDAY.sub("", text, count=1) if text[0].isalpha() else text
    for pattern in _DATES:
        found = pattern.fullmatch(bare)
        if found is None:
            continue
        part = found.groupdict()
        nanoseconds = _clock(part.get("time"))
        if nanoseconds is None:
            continue
        days = _orders(part) if "a" in part else _known(part)
        if days:
            return Moment(days, nanoseconds, "a" not in part)
    return None


def _orders(part: dict[str, str | None]) -> dict[str, int]:
    """Return the day by every possible order of three numbers."""
    a, b, c = part["a"], part["b"], part["c"]
    assert a
    assert b
    assert c
    triples = {"DMY": (c, b, a), "MDY": (c, a, b)}
    if len(c) == 2 and len(a) == 2:
        triples["YMD"] = (a, b, c)
    days = {order: _day(_full_year(y), int(m), int(d)) for order, (y, m, d) in triples.items()}
    return {order: day for order, day in days.items() if day is not None}


def _known(part: dict[str, str | None]) -> dict[str, int] | None:
    """Return the day of parts that say what they are, the same by every order."""
    year = _full_year(part["year"] or "")
    if part.get("week"):
        try:
            day: int | None = datetime.date.fromisocalendar(year, int(part["week"] or 0), 1).toordinal()
        except ValueError:
            return None
    else:
        month = (
            3 * int(part["quarter"] or 0) - 2
            if part.get("quarter")
            else int(part.get("monthno") or _MONTHS.get((part.get("month") or "").lower(), 0))
        )
        day = _day(year, month, int(part.get("day") or 1))
    return None if day is None else dict.fromkeys(ORDERS, day)


@lru_cache(maxsize=1 << 16)
def span(text: str, in_minutes: bool = False) -> int | None:
    """Return the nanoseconds of a duration, or since midnight of a time of day; None where a text means neither.

    Two numbers are hours and minutes, or minutes and seconds (``in_minutes``; with a fraction, always).
    """
    found = _SPAN.fullmatch(text)
    if found is None:
        worded = _WORDED.fullmatch(text) if text[:1].isdigit() else None
        return (
            None
            if worded is None
            else (3600 * int(worded["hours"]) + 60 * int(worded["minutes"] or 0)) * 10**9
        )
    hours = int(found["hours"])
    of_minutes = not found["seconds"] and (in_minutes or bool(found["fraction"]))
    if found["half"]:
        if of_minutes or not 1 <= hours <= 12:
            return None
        hours = hours % 12 + (12 if found["half"][0] in "pP" else 0)
    seconds = 3600 * hours + 60 * int(found["minutes"]) + int(found["seconds"] or 0)
    if of_minutes:
        seconds = 60 * hours + int(found["minutes"])
    length = int(found["days"] or 0) * DAY + seconds * 10**9 + int((found["fraction"] or "").ljust(9, "0"))
    return -length if found["minus"] else length
