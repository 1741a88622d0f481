"""How the text columns of a table are meant: decided once, from every entry of every column.

Each text has a set of possible readings (a number by decimal point or comma, a date by one order or another, ...). A
column's :class:`Facts` count these sets, block by block, so that a file larger than memory is judged whole. From the
facts of all columns :func:`decide` finds what the file writes its decimal sign and its dates in, a column that can only
be meant in one way deciding for those that cannot tell, and gives every column its :class:`Reading`.
"""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from .calendars import DAY, ORDERS, moment, span
from .numerals import CURRENCIES, MISSING_WORDS, from_smallest, numeral
from .scales import ordered_bands, ordered_words

MOSTLY = 0.95  # share of a column's entries that must be numbers (or dates) for it to be a column of numbers (or dates)
_MANY = 50  # more different texts than this are no scale of words

# What a text can be read as. WHOLE: digits alone; SHORT: at most three of them; PADDED: leading zeros; POINT_GROUPS and
# COMMA_GROUPS: three digits after the one separator, which may part thousands; GROUPED: thousands are parted; MULTIPLE:
# in thousands or millions; LARGE: over one; HUGE: too large for a float; COMPACT: digits that are a date; DOTTED: a
# date with points; LATE: a year of two digits, taken for one from 2030 on. Of times: two numbers (SHORT_SPAN), the
# first over 23 (OVER_DAY), minutes and seconds with a fraction (LAP), three numbers (FULL_SPAN).
ABSENT, POINT, COMMA, WHOLE, SHORT, PADDED, POINT_GROUPS, COMMA_GROUPS = (1 << i for i in range(8))
GROUPED, MULTIPLE, LARGE, HUGE, CERTAIN_DATE, DMY, MDY, YMD, DOTTED, COMPACT, SPAN = (
    1 << i for i in range(8, 19)
)
LATE, SHORT_SPAN, FULL_SPAN, OVER_DAY, LAP = (1 << i for i in range(19, 24))
_NUMBER, _DATE = POINT | COMMA, CERTAIN_DATE | DMY | MDY | YMD
_ORDER_FLAGS = {"DMY": DMY, "MDY": MDY, "YMD": YMD}
_SPOKEN = {"DMY": "day, month, year", "MDY": "month, day, year", "YMD": "year, month, day"}

IN_MINUTES = "two numbers being minutes and seconds"
FROM_SMALLEST = "of more than 15 digits, counted from the smallest,"

# Blocks of the commonest kinds are recognised at once, whatever is missing among them.
COMMON_ABSENT = ("", "NA", "NaN", "nan", "N/A", "NULL", "null", "None", "?")


def _lines_of(entry: str) -> re.Pattern[str]:
    return re.compile(rf"(?:(?:{entry}|{'|'.join(map(re.escape, COMMON_ABSENT))})\n)*+")


# Not digits that may be a day, or a day and the time.
_WHOLE = _lines_of(
    "-?(?:0|[1-9][0-9]{0,6}|(?!(?:19|20)[0-9]{6}(?:[0-9]{4}(?:[0-9]{2})?)?\n)[1-9][0-9]{7,14})"
)
_OVER_ONE = re.compile(r"(?:^|\n)-?(?:[1-9][0-9]|[2-9]|1[.,]0*[1-9])")
_DECIMAL = {
    mark: _lines_of(rf"-?(?:0|[1-9][0-9]{{0,14}})(?:{mark}[0-9]+)?(?:[eE][+-]?[0-9]+)?")
    for mark in ("\\.", ",")
}
_SURE = {
    mark: re.compile(
        rf"(?:^|\n)-?(?:0{mark}[0-9]|[0-9]+{mark}(?:[0-9]{{1,2}}\n|[0-9]{{4}})|[0-9]{{4}}[0-9]*{mark})"
    )
    for mark in _DECIMAL
}
_ISO = _lines_of(
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])(?:[T ][0-2][0-9]:[0-5][0-9](?::[0-5][0-9](?:\.[0-9]+)?)?)?"
)

_SIMPLE = {
    comma: re.compile(rf"-?[0-9]{{1,15}}(?:{mark}[0-9]+)?(?:[eE][+-]?[0-9]+)?")
    for comma, mark in ((False, "\\."), (True, ","))
}
_NEVER = re.compile("(?!)")
_QUICK = re.compile("(?!19|20)[1-9][0-9]{3,14}", re.ASCII)
_FOUR_DIGITS = re.compile("[0-9]{4}")
_LATE_DAY = datetime.date(2030, 1, 1).toordinal()
_LETTER = re.compile(r"[A-Za-z?]")
_GROUP = re.compile(r"[0-9](?:[.,](?=[0-9]+[.,])|[ '\xa0\u2009\u202f’])[0-9]{2}")


@lru_cache(maxsize=1 << 16)
def possible(text: str) -> tuple[int, str]:
    """Return what a stripped text can be read as, flags, and the unit that is written beside it."""
    if _QUICK.fullmatch(text):
        return _NUMBER | WHOLE | LARGE, ""
    if text.lower() in MISSING_WORDS:
        return ABSENT, ""
    number = numeral(text)
    if number is not None:
        flags = POINT * (number.point is not None) | COMMA * (number.comma is not None)
        if number.is_whole:
            digits = (number.point or "").lstrip("+-")
            flags |= WHOLE | SHORT * (len(digits) <= 3) | HUGE * (int(digits) >= 2**53)
            if text.isdigit():
                flags |= PADDED * (len(text) > 1 and text[0] == "0")
                is_day = len(text) in (8, 12, 14) and "1900" <= text[:4] < "2100"
                flags |= COMPACT * (is_day and _compact_day(text) is not None)
        else:
            if flags == _NUMBER and number.unit != "°":
                flags |= POINT_GROUPS if "." in text else COMMA_GROUPS if "," in text else 0
            elif flags == COMMA and "," not in text:  # 1.234.567
                flags |= POINT_GROUPS
        flags |= GROUPED * (number.unit != "°" and not text.isdigit() and _GROUP.search(text) is not None)
        flags |= MULTIPLE * (number.multiple != 1)
        flags |= LARGE * (number.unit != "%" and abs(number.value(comma=False)) > 1)
        return flags | _span_flags(text), number.unit
    date = moment(text)
    if date is not None:
        flags = CERTAIN_DATE if date.is_certain else sum(_ORDER_FLAGS[order] for order in date.days)
        late = max(date.days.values()) >= _LATE_DAY and _FOUR_DIGITS.search(text) is None
        return flags | DOTTED * ("." in text[:6]) | LATE * late, ""
    return _span_flags(text), ""


def _span_flags(text: str) -> int:
    if span(text) is None:
        return 0
    first, *rest = text.split(":")
    if len(rest) != 1:
        return SPAN | FULL_SPAN * (len(rest) == 2)
    lap = LAP * ("." in rest[0] or "," in rest[0]) * (text[-1].isdigit())
    return SPAN | SHORT_SPAN | lap | OVER_DAY * (first.isdigit() and int(first) > 23)


def _compact_day(text: str) -> tuple[int, int] | None:
    clock = (
        f" {text[8:10]}:{text[10:12]}" + (f":{text[12:]}" if len(text) > 12 else "") if len(text) > 8 else ""
    )
    date = moment(f"{text[:4]}-{text[4:6]}-{text[6:8]}{clock}")
    return None if date is None else date.of("YMD")


def is_text(series: Any) -> bool:
    """Whether a column of a data frame holds text, or objects that have to be read as such."""
    import pandas as pd

    return series.dtype == object or (
        pd.api.types.is_string_dtype(series.dtype) and not isinstance(series.dtype, pd.CategoricalDtype)
    )


def texts_of(series: Any) -> list[str]:
    """Return the entries of a column as text, empty where missing."""
    entries = series.tolist()
    if set(map(type, entries)) <= {str}:
        return entries
    return ["" if gap else str(entry) for entry, gap in zip(entries, series.isna(), strict=True)]


def _common_flags(joined: str, texts: list[str]) -> int:
    """Return the flags of a block of entries of one of the commonest kinds, one a line; 0 for any other."""
    if _WHOLE.fullmatch(joined):
        longest = max((len(text.lstrip("-")) for text in set(texts) if text not in COMMON_ABSENT), default=0)
        return _NUMBER | WHOLE | SHORT * (longest <= 3)
    for mark, flag in (("\\.", POINT), (",", COMMA)):
        if _DECIMAL[mark].fullmatch(joined) and _SURE[mark].search(joined):
            return flag
    return CERTAIN_DATE if _ISO.fullmatch(joined) else 0


@dataclass
class Facts:
    """What the entries of one column can be read as.

    ``counts`` of each set of readings (with its unit), the different ``levels`` (None: too many), and those of them
    that are nothing but text, the ``words`` (None: too many). ``large``: a block of plain numbers has one over 1.
    """

    counts: Counter[tuple[int, str]] = field(default_factory=Counter)
    levels: set[str] | None = field(default_factory=set)
    words: set[str] | None = field(default_factory=set)
    large: bool = False

    def add(self, texts: list[str]) -> None:
        """Count a block of entries; a missing one is an empty text."""
        joined = "\n".join(texts) + "\n"
        flags = _common_flags(joined, texts)
        if flags:
            n_absent = sum(map(texts.count, COMMON_ABSENT if _LETTER.search(joined) else ("",)))
            self.large = self.large or (flags != CERTAIN_DATE and _OVER_ONE.search(joined) is not None)
            self.counts[flags, ""] += len(texts) - n_absent
            self.counts[ABSENT, ""] += n_absent
            self._add_levels(set(texts))
            return
        each = Counter(texts)
        for text, count in each.items():
            key = possible(text.strip())
            self.counts[key] += count
            if self.words is not None and not key[0]:
                self.words.add(text.strip())
                self.words = self.words if len(self.words) <= _MANY else None
        self._add_levels(each)

    def add_decimals(self, values: np.ndarray) -> None:
        """Count a block of entries that the reader took for decimals, NaN where missing."""
        self.large = self.large or bool((np.abs(values) > 1).any())
        self.counts[POINT, ""] += int(np.isfinite(values).sum())
        self.counts[0, ""] += int(np.isinf(values).sum())
        self.counts[ABSENT, ""] += int(np.isnan(values).sum())
        self.levels = None

    @property
    def are_decimals(self) -> bool:
        """Whether every entry is a plain decimal, and some can be by a decimal point only."""
        return self.counts.keys() <= {(POINT, ""), (ABSENT, "")} and self.counts[POINT, ""] > 0

    def _add_levels(self, texts: Iterable[str]) -> None:
        if self.levels is None:
            return
        self.levels.update(texts)
        if len(self.levels) > _MANY + len(COMMON_ABSENT):
            self.levels = None

    def count(self, flags: int, *, without: int = 0, units: frozenset[str] | None = None) -> int:
        """Return how many entries have one of the flags, none of those they are ``without``, and one of the units."""
        return sum(
            n
            for (found, unit), n in self.counts.items()
            if found & flags and not found & without and (units is None or unit in units)
        )

    @property
    def n_present(self) -> int:
        """Entries that are not missing."""
        return sum(n for (flags, _), n in self.counts.items() if not flags & ABSENT)

    def known_levels(self) -> list[str] | None:
        """Return the different entries that are not missing, stripped and sorted; None when there are too many."""
        if self.levels is None:
            return None
        stripped = {level.strip() for level in self.levels}
        return sorted(level for level in stripped if level.lower() not in MISSING_WORDS)


def facts_of(
    frame: Any, facts: dict[str, Facts] | None = None, *, numbers_too: bool = False
) -> dict[str, Facts]:
    """Return the facts of the columns of text of a data frame, added to those of the rows before it.

    ``numbers_too``: its columns of numbers are decimals of a text file.
    """
    facts = {} if facts is None else facts
    for name in frame.columns:
        series = frame[name]
        if is_text(series) or (numbers_too and series.dtype == bool):
            facts.setdefault(str(name), Facts()).add(texts_of(series))
        elif numbers_too:
            facts.setdefault(str(name), Facts()).add_decimals(series.to_numpy(dtype=np.float64))
    return facts


@dataclass(frozen=True)
class Reading:
    """How one column of text is meant.

    ``kind``: ``"number"``, ``"date"``, ``"duration"``, ``"boolean"``, ``"ordinal"`` or ``"category"``; ``how`` it is
    written, for a note. Of numbers: by decimal ``comma``, the ``units`` they may carry, and what a ``percent`` sign
    multiplies by. Of dates: the ``order``. Of words: their ``ranks``.
    """

    kind: str
    how: str = ""
    comma: bool = False
    units: frozenset[str] = frozenset({""})
    percent: float = 1.0
    order: str = "DMY"
    ranks: Mapping[str, int] = field(default_factory=dict)

    def value(self, text: str) -> float | int | None:
        """Return one stripped entry as a number; None where it is none.

        Dates and durations are nanoseconds.
        """
        if self.kind == "number":
            number = numeral(text)
            if number is None or number.unit not in self.units:
                return None
            value = number.value(self.comma)
            if number.is_whole and abs(value) >= 2**53 and number.multiple == 1:
                return int(number.point or 0)
            return value * self.percent if number.unit == "%" else value
        if self.kind == "date":
            date = moment(text)
            day = date.of(self.order) if date is not None else _compact_day(text) if text.isdigit() else None
            return None if day is None else day[0] * DAY + day[1]
        if self.kind == "duration":
            return span(text, self.how == IN_MINUTES)
        rank = self.ranks.get(text.casefold())
        return None if rank is None else float(rank)

    def entries(self, texts: list[str]) -> list[float | int | None]:
        """Return different entries, stripped and none missing, as :meth:`value` does."""
        simple = _SIMPLE[self.comma] if self.kind == "number" else _NEVER
        return [
            float(text.replace(",", ".")) if simple.fullmatch(text) else self.value(text) for text in texts
        ]

    def origin(self, entries: list[float | int | None]) -> int:
        """Return what entries are counted from: the earliest date, the smallest of whole numbers that are too large."""
        present = [entry for entry in entries if entry is not None]
        too_large = any(isinstance(entry, int) for entry in present) and all(
            isinstance(entry, int) or entry.is_integer() for entry in present
        )
        return min(map(int, present)) if self.kind in ("date", "number") and too_large else 0

    def numbers(self, entries: list[float | int | None], origin: int) -> np.ndarray:
        """Return entries as numbers counted from ``origin``, NaN where one is none; of dates and durations as days."""
        known = np.array([entry is not None for entry in entries], dtype=bool)
        present: list[Any] = [entry for entry in entries if entry is not None]
        numbers = np.full(len(entries), np.nan)
        numbers[known] = from_smallest(present, origin) if origin else present
        return numbers / DAY if self.kind in ("date", "duration") else numbers


def decide(facts: Mapping[str, Facts], *, delimiter: str = "") -> tuple[dict[str, Reading], tuple[str, ...]]:
    """Return the reading of every column, and notes on what had to be decided for the file or could not be told.

    Parameters
    ----------
    facts : mapping of str to Facts
        Of every column of text, by name.
    delimiter : str
        What parts the columns of the file: semicolons suggest decimal commas where nothing else tells.
    """
    notes: list[str] = []
    file_comma = _majority(_own_sign(fact) for fact in facts.values())
    file_order = _majority(_own_order(fact) for fact in facts.values())
    doubtful: dict[str, list[str]] = {}
    readings = {}
    for name, fact in facts.items():
        comma = _own_sign(fact)
        if comma is None:
            comma = file_comma
            if comma is None and fact.count(POINT_GROUPS | COMMA_GROUPS):
                comma = _sign_of_groups(fact, delimiter, name, notes)
        order = _own_order(fact)
        if order is None and _share(fact, _DATE) >= MOSTLY and fact.count(DMY | MDY | YMD):
            possible_orders = [o for o in ORDERS if fact.count(_ORDER_FLAGS[o]) == _most_orders(fact)]
            guess = "DMY" if fact.count(DOTTED) or (comma if comma is not None else file_comma) else "MDY"
            order = file_order if file_order in possible_orders else None
            if order is None:
                order = guess if guess in possible_orders else possible_orders[0]
                doubtful.setdefault(order, []).append(name)
        readings[name] = _reading(name, fact, bool(comma), order or "DMY", notes)
    for order, names in doubtful.items():
        notes.append(
            f"ATTENTION, dates whose order no row tells ({', '.join(map(repr, names[:8]))}) were read as "
            f"{_SPOKEN[order]}; write them as 2003-03-27 if that is wrong"
        )
    return readings, tuple(notes)


def _majority(votes: Iterable[Any]) -> Any:
    counts = Counter(vote for vote in votes if vote is not None)
    return counts.most_common(1)[0][0] if counts else None


def _share(fact: Facts, flags: int) -> float:
    return fact.count(flags) / max(fact.n_present, 1)


def _own_sign(fact: Facts) -> bool | None:
    """Whether a column's decimal sign is the comma, as its own entries tell; None where they cannot."""
    if _share(fact, _NUMBER) < 0.5:
        return None
    points, commas = fact.count(POINT, without=COMMA), fact.count(COMMA, without=POINT)
    return None if points == commas else commas > points


def _sign_of_groups(fact: Facts, delimiter: str, name: str, notes: list[str]) -> bool:
    """Decide about entries like 1.250 where neither the column nor the file has one that tells.

    Beside whole numbers of three digits at most (980) and none of more, the separator parts thousands.
    """
    points, commas = fact.count(POINT_GROUPS), fact.count(COMMA_GROUPS)
    parts_thousands = fact.count(SHORT) > 0 and fact.count(WHOLE, without=SHORT) == 0
    if points and commas:
        return False
    if parts_thousands:
        return points > 0
    comma = delimiter == ";" and commas > 0
    if _share(fact, _NUMBER) >= MOSTLY:
        example, read = ("1.250", "1.25") if points else ("1,250", "1.25" if comma else "1250")
        notes.append(
            f"column {name!r}: numbers like {example} can mean 1.25 or 1250, and nothing in the table tells; "
            f"they were read as {read}"
        )
    return comma


def _most_orders(fact: Facts) -> int:
    return max(fact.count(flag) for flag in _ORDER_FLAGS.values())


def _own_order(fact: Facts) -> str | None:
    """Return the order of day, month and year that most entries of a column allow; None where two allow as many."""
    if _share(fact, _DATE) < 0.5:
        return None
    counts = {order: fact.count(flag) for order, flag in _ORDER_FLAGS.items()}
    if counts["YMD"] == counts["DMY"] > counts["MDY"]:
        return "DMY"  # 27/03/03: days come first more often than years of two digits
    best = [order for order in ORDERS if counts[order] == max(counts.values())]
    return best[0] if len(best) == 1 else None


def _reading(name: str, fact: Facts, comma: bool, order: str, notes: list[str]) -> Reading:
    """Return what one column is, given the conventions it is written in."""
    n = fact.n_present
    if n == 0:
        return Reading("category")
    if fact.count(COMPACT) >= MOSTLY * n:
        return Reading("date", "as 20030327, without separators")
    levels = fact.known_levels() or []
    words = ordered_words(levels)
    if words is not None:
        return Reading(words.kind, words.how, ranks=words.ranks)
    units = _units(fact)
    n_numbers = fact.count(_NUMBER, units=units)
    few_words = fact.levels is None and fact.words is not None and len(fact.words) <= 3
    letters = units - CURRENCIES - {""}
    if fact.count(MULTIPLE) and letters:  # 5M beside 7F
        n_numbers, few_words = n_numbers - fact.count(MULTIPLE), False
    if n_numbers >= MOSTLY * n or (few_words and n_numbers >= 0.5 * n):
        if fact.count(PADDED) and fact.count(WHOLE) == n_numbers:
            notes.append(
                f"column {name!r}: numbers with leading zeros are names, not quantities: read as text"
            )
            return Reading("category")
        return _number_reading(name, fact, comma, units, notes)
    dates = _ORDER_FLAGS[order] | CERTAIN_DATE
    if fact.count(dates) >= MOSTLY * n:
        if fact.count(LATE):
            notes.append(
                f"ATTENTION, column {name!r}: years of two digits up to 68 were read as 2000 to 2068 "
                f"({fact.count(LATE)} entries as 2030 or later); write years with four digits if that is wrong"
            )
        told = fact.count(DMY | MDY | YMD)
        return Reading("date", _SPOKEN[order] if told else "", order=order)
    if fact.count(SPAN) >= MOSTLY * n:
        mixed = fact.count(SHORT_SPAN) and fact.count(FULL_SPAN)
        in_minutes = fact.count(LAP) or (mixed and fact.count(OVER_DAY))
        if mixed and not in_minutes:
            notes.append(
                f"ATTENTION, column {name!r} mixes times of two numbers (14:55) and of three (14:55:30): two were "
                "read as hours and minutes"
            )
        return Reading("duration", IN_MINUTES if in_minutes else "")
    bands = ordered_bands(levels)
    if bands is not None:
        return Reading(bands.kind, bands.how, ranks=bands.ranks)
    every = _units_written(fact)
    if fact.count(_NUMBER) >= MOSTLY * n and len(every) <= 4 and not all(map(str.isupper, every)):
        listed = ", ".join(f"{count} in {unit}" for unit, count in every.most_common())
        notes.append(
            f"ATTENTION, column {name!r} mixes units ({listed}): no one scale, so it was read as text"
        )
    elif n_numbers >= 0.5 * n:
        notes.append(
            f"column {name!r} mixes numbers ({n_numbers / n:.0%}) and text: taken as categories, not as numbers"
        )
    return Reading("category")


def _units_written(fact: Facts) -> Counter[str]:
    units = Counter[str]()
    for (flags, unit), n in fact.counts.items():
        if flags & _NUMBER and unit:
            units[unit] += n
    return units


def _units(fact: Facts) -> frozenset[str]:
    """Return the units with which an entry is a number: the column's one, its currencies, or none."""
    units = _units_written(fact)
    if not units:
        return frozenset({""})
    allowed = CURRENCIES & units.keys() if units.keys() & CURRENCIES else {units.most_common(1)[0][0]}
    return frozenset({"", *allowed})


def _number_reading(name: str, fact: Facts, comma: bool, units: frozenset[str], notes: list[str]) -> Reading:
    written = {unit: fact.count(_NUMBER, units=frozenset({unit})) for unit in sorted(units)}
    bare = written.pop("")
    written = {unit: count for unit, count in written.items() if count}
    if len(written) > 1:
        listed = ", ".join(f"{count} in {unit}" for unit, count in written.items())
        notes.append(
            f"ATTENTION, column {name!r} mixes currencies ({listed}): the amounts were not converted, so they are not "
            "on one scale"
        )
    percent = 1.0
    if "%" in written and bare:
        percent = 1.0 if fact.large or fact.count(LARGE, units=frozenset({""})) else 0.01
        notes.append(
            f"column {name!r} mixes per cent signs ({written['%']} entries) and plain numbers ({bare}): "
            + ("51 % was read as 0.51" if percent < 1 else "all were read as per cent")
        )
    other = fact.count(POINT, without=COMMA) if comma else fact.count(COMMA, without=POINT)
    if other:
        notes.append(
            f"column {name!r}: {other} of {fact.n_present} entries have a decimal {'point' if comma else 'comma'}, the "
            f"others {'commas' if comma else 'points'}; each was read as written"
        )
    how = ""
    if comma and fact.count(COMMA, without=WHOLE | POINT_GROUPS):
        how = "with decimal commas"
    elif fact.count(COMMA_GROUPS | GROUPED | POINT_GROUPS * comma):
        how = "with thousands separators"
    elif fact.count(MULTIPLE):
        how = "in thousands (k) or millions (M)"
    elif fact.count(HUGE) and fact.count(WHOLE) == fact.count(_NUMBER):
        how = FROM_SMALLEST
    elif written:
        how = "with units (" + ", ".join(written).replace("th", "1st, 2nd, ...") + ")"
    return Reading("number", how, comma, units, percent)
