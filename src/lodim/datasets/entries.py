"""Reading the entries of one column of a table: as numbers, NaN where missing, or as text, None where missing.

How a column is read is found out from all of its entries at once (:func:`read_column`): its kind, what dates are
counted from, which entries stand for "not known". It is kept as a :class:`ColumnReading`, by which further entries of
the same column are read alike (:func:`read_alike`), also where they come as another type: numbers as text, text dates
as dates.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from ..validation import MAX_CLASSES, infer_kind
from .calendars import DAY
from .numerals import MISSING_WORDS, NULL_WORDS, from_smallest
from .readings import FROM_SMALLEST, Facts, Reading, decide, is_text, texts_of

# different pairs of capitals that make a column one of codes: its ND is North Dakota, not "no data"
_CODES = 10

# What programs and survey takers write for "not known": nines and eights, and what tools fill arrays with.
_SENTINELS = frozenset(
    {sign * int(digits) for sign in (-1, 1) for n in range(2, 8) for digits in ("9" * n, "9" * (n - 1) + "8",
                                                                               "9" * (n - 1) + "7", "8" * n)}
    | {-9.0, -(2.0**31), -(2.0**15), 1e20, 1e30, 9.969209968386869e36, -3.4028234663852886e38}
)  # fmt: skip
# Days that databases and people write for "never" and "not known".
_SENTINEL_DAYS = ("0001-01-01", "1753-01-01", "1899-12-30", "1899-12-31", "1900-01-01", "1900-01-02", "1901-01-01",
                  "1970-01-01", "2099-12-31", "2999-12-31", "3000-01-01", "9999-12-31", "9999-01-01")  # fmt: skip
_SENTINEL_DAYS_NS: dict[int | float, str] = {
    datetime.date.fromisoformat(day).toordinal() * DAY: day for day in _SENTINEL_DAYS
}
_SENTINEL_YEAR = re.compile("|".join({day[:4] for day in _SENTINEL_DAYS}))
_TRUTH = Reading("boolean", ranks={"false": 0, "true": 1, "0": 0, "1": 1})


@dataclass
class Log:
    """What is said about the columns, gathered so that forty notes become one.

    ``notes`` stand alone, ``groups`` list the columns something was done to, ``stray`` describes text among numbers,
    ``gaps`` counts the values that were filled in, ``unseen`` has the entries that no earlier row of a category had.
    """

    notes: list[str] = field(default_factory=list)
    groups: dict[str, list[str]] = field(default_factory=dict)
    stray: list[str] = field(default_factory=list)
    gaps: dict[str, int] = field(default_factory=dict)
    unseen: dict[str, list[str]] = field(default_factory=dict)

    def group(self, what: str, column: str) -> None:
        """Add a column to those that ``what`` was done to."""
        self.groups.setdefault(what, []).append(column)

    def filled(self, column: str, count: int) -> None:
        """Count the gaps of a column."""
        if count:
            self.gaps[column] = count

    def lines(self) -> tuple[str, ...]:
        """Return all notes."""
        grouped = (f"{what}: {_listed(columns)}" for what, columns in self.groups.items())
        return (*self.notes, *grouped)


def _listed(items: list[str], most: int = 8) -> str:
    shown = ", ".join(repr(item) for item in items[:most])
    return shown + (f" and {len(items) - most} more" if len(items) > most else "")


@dataclass(frozen=True, eq=False)
class ColumnReading:
    """How the entries of a column are read.

    Attributes
    ----------
    kind : str
        What the column is, see :class:`Dataset`.
    text : Reading
        How text in it is meant.
    are_codes : bool
        Whether pairs of capitals are names (ND is North Dakota, not "no data").
    origin : int or pandas.Timestamp
        The earliest date, or the smallest of whole numbers too large for floats: entries are counted from it.
    ranks : pandas.Index, optional
        The categories, in their order, of an ordered categorical column.
    never : tuple of str
        The days that stand for "not known".
    start : float
        The first of the other days.
    """

    kind: str
    text: Reading
    are_codes: bool = False
    origin: Any = 0
    ranks: Any = None
    never: tuple[str, ...] = ()
    start: float = 0.0


def read_column(series: Any, reading: Reading | None, log: Log) -> tuple[ColumnReading, Any]:
    """Find out how a column is read; return this, and its entries.

    Numbers, dates, durations, booleans and ordered words are floats, NaN where missing; the rest is a series of text,
    None where missing.

    Parameters
    ----------
    reading : Reading, optional
        How a column of text is meant; by default decided from the column alone.
    """
    import pandas as pd

    name, series = str(series.name), _common_type(series)
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        if dtype.ordered and len(dtype.categories) > 2:
            how = ColumnReading("ordinal", Reading("ordinal"), ranks=dtype.categories)
            return how, _ranks(series, how, log)
        texts, are_codes = clean_texts(series, log)
        return ColumnReading("category", Reading("category"), are_codes), texts
    if pd.api.types.is_bool_dtype(dtype):
        return ColumnReading("boolean", _TRUTH), _as_floats(series)
    if pd.api.types.is_numeric_dtype(dtype) and dtype.kind != "c":
        values = _as_floats(series)
        origin = _origin(series, values)
        if not origin:
            return ColumnReading("number", Reading("number")), values
        log.group(f"numbers {FROM_SMALLEST} were read as numbers", name)
        return ColumnReading("number", Reading("number"), origin=origin), _as_floats(series, origin)
    if pd.api.types.is_datetime64_any_dtype(dtype):
        how = ColumnReading("date", Reading("date"), origin=series.min())
        days = _days(series, how)
        if not {str(series.min())[:10], str(series.max())[:10]}.isdisjoint(_SENTINEL_DAYS):
            how = _find_never(days, _named_days(series), how, name, log)
            days = _days(series, how)
        return how, days
    if pd.api.types.is_timedelta64_dtype(dtype):
        return ColumnReading("duration", Reading("duration")), _durations(series)
    texts, are_codes = clean_texts(series, log)
    if reading is None:
        facts = Facts()
        facts.add(texts_of(series))
        readings, notes = decide({name: facts})
        reading = readings[name]
        log.notes.extend(notes)
    if reading.kind == "category" or not texts.notna().any():
        return ColumnReading("category", Reading("category"), are_codes), texts
    return _read_texts(texts, ColumnReading(reading.kind, reading, are_codes), log, is_first=True)


def read_alike(series: Any, how: ColumnReading, log: Log, known: frozenset[str] = frozenset()) -> Any:
    """Return more entries of a column as :func:`read_column` read the first, of whatever type they come.

    What cannot be read so is missing, and the log is told of it as stray.

    Parameters
    ----------
    known : frozenset of str
        The levels of a category: numbers among the entries are the level that they equal.

    Raises
    ------
    ValueError
        Dates with a time zone where the first had none, or the other way round.
    """
    import pandas as pd

    if how.kind == "category":
        return clean_texts(_as_levels(series, known), log, how.are_codes)[0]
    series = _common_type(series)
    kind, dtype = how.kind, series.dtype
    if how.ranks is not None:
        return _ranks(series, how, log)
    if kind in ("number", "boolean") and (
        pd.api.types.is_bool_dtype(dtype) or (pd.api.types.is_numeric_dtype(dtype) and dtype.kind != "c")
    ):
        values = _as_floats(series, how.origin)
        stray = ~np.isin(values, (0, 1)) & ~np.isnan(values) & (kind == "boolean")
        if stray.any():
            _say_stray(series[stray], len(series), "0 and 1", log)
        return np.where(stray, np.nan, values)
    if kind == "duration" and pd.api.types.is_timedelta64_dtype(dtype):
        return _durations(series)
    if kind == "date" and not isinstance(how.origin, int):
        return _days(_as_dates(series, how, log), how)
    return _read_texts(clean_texts(_whole(series), log, how.are_codes)[0], how, log)[1]


def read_target(series: Any, reading: Reading | None, missing: str) -> tuple[np.ndarray, list[str]]:
    """Return a target column as NumPy, and notes: numbers where the text means numbers, words for "missing" as None."""
    import pandas as pd

    log = Log()
    if not is_text(series) and not isinstance(series.dtype, pd.ArrowDtype):
        if isinstance(series.dtype, pd.CategoricalDtype):
            return series.astype(object).to_numpy(), []
        values = series.to_numpy()
    else:
        how, values = read_column(series, reading, log)
        kind = how.kind
        stray_codes = bool(log.stray) and series.nunique() <= MAX_CLASSES
        answers = kind == "boolean" and reading is not None and reading.how == "answers"
        if kind in ("category", "ordinal") or stray_codes or answers:
            return clean_texts(series, Log())[0].to_numpy(), log.notes
        if log.stray and missing != "impute":
            raise ValueError(
                f"target {log.stray[0]}; correct the entries, or leave those rows out (missing='impute')"
            )
        if kind == "boolean":
            values = pd.Series(values).map({0.0: False, 1.0: True}).to_numpy(dtype=object)
        elif kind in ("date", "duration"):
            values = pd.to_timedelta(values, unit="D").to_numpy()
    in_percent = reading is not None and "%" in reading.units
    known = values[~np.isnan(values)] if values.dtype.kind in "iuf" else values[:0]
    if len(known) and not in_percent and infer_kind(known) == "regression":
        values = without_sentinels(values, find_sentinels(values, str(series.name), log))
    return values, list(log.lines())


def _common_type(series: Any) -> Any:
    """Return a column in a type of NumPy's or pandas' own where it has one of Arrow's, or of periods."""
    import pandas as pd

    if isinstance(series.dtype, pd.PeriodDtype):
        return series.dt.to_timestamp()
    if not isinstance(series.dtype, pd.ArrowDtype):
        return series
    kind = str(series.dtype)
    if kind.startswith(("date", "timestamp")):
        return pd.to_datetime(series).astype("datetime64[ns]") if kind.startswith("date") else series
    if kind.startswith("decimal"):
        return series.astype("float64[pyarrow]")
    return series.astype("category") if kind.startswith("dictionary") else series


def _whole(series: Any) -> Any:
    """Return whole numbers that gaps made floats as the whole numbers they were (1.0 as 1)."""
    import pandas as pd

    return series.convert_dtypes() if pd.api.types.is_float_dtype(series.dtype) else series


def _as_levels(series: Any, known: Collection[str]) -> Any:
    """Return a column with each number in it as the known level that equals it (1.0 as "1", 1 as "1.0" or "True")."""
    import pandas as pd

    entries = series.tolist()
    if set(map(type, entries)) <= {str}:
        return series

    @cache
    def level(entry: Any, is_truth: bool) -> Any:
        if not abs(entry) < 2**53:
            return entry
        equal = [value for value in (entry, int(entry), float(entry), bool(entry)) if value == entry]
        # of a whole number that gaps made a float, what an unseen level is called
        whole = entry if is_truth or entry != int(entry) else int(entry)
        return next((text for text in map(str, equal) if text in known), whole)

    numbers = int | float | np.integer | np.floating
    found = [
        level(entry, isinstance(entry, bool)) if isinstance(entry, numbers) else entry for entry in entries
    ]
    return pd.Series(found, index=series.index, name=series.name, dtype=object)


def _origin(series: Any, values: np.ndarray) -> int:
    """Return the smallest of whole numbers where one is too large for a float; 0 for all others."""
    import pandas as pd

    if (
        not pd.api.types.is_integer_dtype(series.dtype)
        or not np.abs(values).max(initial=0, where=~np.isnan(values)) >= 2**53
    ):
        return 0
    return min(map(int, series[series.notna()].tolist()))


def _as_floats(series: Any, origin: int = 0) -> np.ndarray:
    """Return numbers and booleans as floats, NaN where missing; ``origin`` is taken off before digits are lost."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(series.dtype):
        series = series.astype("boolean")
    values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    if origin:
        values, present = values.copy(), np.isfinite(values)
        values[present] = from_smallest(series[present].tolist(), origin)
    return values


def _durations(series: Any) -> np.ndarray:
    import pandas as pd

    return (series / pd.Timedelta(days=1)).to_numpy(dtype=np.float64)


def _ranks(series: Any, how: ColumnReading, log: Log) -> np.ndarray:
    """Return the places of entries among ordered categories, or of the words that are written for these."""
    import pandas as pd

    if isinstance(series.dtype, pd.CategoricalDtype) and series.dtype.categories.equals(how.ranks):
        codes = series.cat.codes.to_numpy()
    else:
        ranks = how.ranks.map(str)
        texts = pd.Series(
            [text.strip() for text in texts_of(_as_levels(series, set(ranks)))], name=series.name
        )
        codes = pd.Index(ranks).get_indexer(texts)
        stray = (codes < 0) & ~texts.str.lower().isin(MISSING_WORDS).to_numpy()
        if stray.any():
            _say_stray(texts[stray], len(texts), f"ranks ({' < '.join(map(str, how.ranks))})", log)
    return np.where(codes < 0, np.nan, codes)


def _as_dates(series: Any, how: ColumnReading, log: Log) -> Any:
    """Return dates, or text that means dates without any doubt (ISO 8601), as a column of dates like the first."""
    import pandas as pd

    has_zone = how.origin.tzinfo is not None
    if not pd.api.types.is_datetime64_any_dtype(series.dtype):
        texts = clean_texts(series, log)[0]
        series = pd.to_datetime(texts, format="ISO8601", errors="coerce", utc=True)
        series = series if has_zone else series.dt.tz_localize(None)
        stray = (series.isna() & texts.notna()).to_numpy()
        if stray.any():
            _say_stray(texts[stray], len(texts), "dates (2003-03-27)", log)
    if has_zone != (series.dt.tz is not None):
        raise ValueError(
            f"column {series.name!r} held dates {'with' if has_zone else 'without'} a time zone, and now "
            f"{'without' if has_zone else 'with'} one; use Series.dt.tz_localize to make them alike"
        )
    return series


def _days(series: Any, how: ColumnReading) -> np.ndarray:
    """Return a column of dates as days from the earliest, NaN for the days that stand for "not known"."""
    import pandas as pd

    days = ((series - how.origin) / pd.Timedelta(days=1)).to_numpy(dtype=np.float64)
    return _without_never(days, _named_days(series), how) if how.never else days


def _named_days(series: Any) -> np.ndarray:
    """Return the names of those dates that may stand for "not known", empty for all others."""
    written = series.dt.strftime("%Y-%m-%d").fillna("").to_numpy(dtype=object)
    return np.where(np.isin(written, _SENTINEL_DAYS), written, "")


def _find_never(
    days: np.ndarray, named: np.ndarray, how: ColumnReading, name: str, log: Log
) -> ColumnReading:
    """Add the days that stand for "not known", among those that are ``named``, and say so.

    They are repeated, and farther from every other day than those are from one another.
    """
    others = days[(named == "") & ~np.isnan(days)]
    if len(others) < 3:
        return how
    low, high = others.min(), others.max()
    never = []
    for day in np.unique(named[named != ""]):
        here = named == day
        value = days[here][0]
        if here.sum() > 1 and max(low - value, value - high) > max(high - low, 366.0):
            never.append(str(day))
            log.notes.append(
                f"ATTENTION, column {name!r}: {day} ({int(here.sum())} times) lies far from all other days and was "
                "taken as missing"
            )
    return replace(how, never=tuple(never), start=np.nanmin(days[~np.isin(named, never)])) if never else how


def _without_never(days: np.ndarray, named: np.ndarray, how: ColumnReading) -> np.ndarray:
    return np.where(np.isin(named, how.never), np.nan, days) - how.start


def _read_texts(
    texts: Any, how: ColumnReading, log: Log, *, is_first: bool = False
) -> tuple[ColumnReading, np.ndarray]:
    """Return the texts of :func:`clean_texts` as numbers; the log is told how they were written, and of stray ones.

    The first texts also tell what they are counted from, and which days stand for "not known".
    """
    import pandas as pd

    name, reading = str(texts.name), how.text
    codes, levels = pd.factorize(texts.to_numpy(dtype=object))
    entries = reading.entries(list(levels))
    if is_first:
        how = replace(how, origin=reading.origin(entries))
    values = np.append(reading.numbers(entries, how.origin), np.nan)[codes]
    stray = np.isnan(values) & (codes >= 0)
    if stray.any():
        what = {"date": "dates", "duration": "times", "boolean": "true and false"}.get(
            reading.kind, "numbers"
        )
        _say_stray(texts[stray], len(texts), what, log)
    if reading.kind == "date" and (is_first or how.never):
        names = [
            _SENTINEL_DAYS_NS.get(entry or 0, "") if _SENTINEL_YEAR.search(level) else ""
            for level, entry in zip(levels, entries, strict=True)
        ]
        named = np.append(names, "")[codes]
        if is_first and any(names):
            how = _find_never(values, named, how, name, log)
        if how.never:
            values = _without_never(values, named, how)
    if reading.kind == "number" and reading.how:
        log.group(f"numbers {reading.how} were read as numbers", name)
    return how, values


def find_sentinels(values: np.ndarray, name: str, log: Log) -> tuple[float, ...]:
    """Return the numbers that stand for "not known" (-999, 9999), and say so.

    They are repeated, and farther from every other number than those are from one another (or negative, among numbers
    that are not).
    """
    finite = values[np.isfinite(values)]
    suspects = np.isin(finite, list(_SENTINELS))
    others = finite[~suspects]
    if not suspects.any() or len(others) < 3:
        return ()
    low, high = others.min(), others.max()
    found = []
    for value, count in zip(*np.unique(finite[suspects], return_counts=True), strict=True):
        gap = max(low - value, value - high)
        if count > 1 and (gap > max(high - low, abs(high), abs(low)) or (value <= -99 and low >= 0)):
            found.append((float(value), count))
    if found:
        each = ", ".join(f"{value:g} ({count} times)" for value, count in found)
        log.notes.append(
            f"ATTENTION, column {name!r}: {each} lies far from all other values ({low:g} to {high:g}) and was taken as "
            "missing"
        )
    return tuple(value for value, _ in found)


def without_sentinels(values: np.ndarray, unknown: tuple[float, ...]) -> np.ndarray:
    """Return numbers with NaN for those that stand for "not known"."""
    return np.where(np.isin(values, unknown), np.nan, values) if unknown else values


def clean_texts(series: Any, log: Log, are_codes: bool | None = None) -> tuple[Any, bool]:
    """Return a column as stripped text, None where missing.

    Words that mean "not known" count as missing, and the log is told of them. Whether pairs of capitals are names is
    told by all entries, unless it is known, and returned too.
    """
    import pandas as pd

    codes, entries = pd.factorize(np.array(texts_of(series), dtype=object))
    stripped = [entry.strip() for entry in entries]
    two_letters = [len(text) == 2 and text.isalpha() and text.isupper() for text in stripped]
    if are_codes is None:
        are_codes = sum(two_letters) >= max(_CODES, 0.9 * len(stripped))
    absent = [
        text.lower() in (NULL_WORDS if are_codes and two else MISSING_WORDS)
        for text, two in zip(stripped, two_letters, strict=True)
    ]
    known = [None if gap else text for text, gap in zip(stripped, absent, strict=True)]
    words = np.array(
        [gap and text.lower() not in NULL_WORDS for text, gap in zip(stripped, absent, strict=True)],
        dtype=bool,
    )
    if words.any():
        shown = _listed(sorted({text for text, is_word in zip(stripped, words, strict=True) if is_word}))
        log.notes.append(f"column {series.name!r}: {int(words[codes].sum())} entries {shown} mean missing")
    texts = np.array([*known, None], dtype=object)[codes]
    return pd.Series(texts, index=series.index, name=series.name, dtype=object), are_codes


def _say_stray(stray: Any, n_rows: int, what: str, log: Log) -> None:
    shown = ", ".join(  # rows below 0 are of unknown number
        f"{text!r} in row {int(row) + 1}" if int(row) >= 0 else repr(text)
        for row, text in list(stray.items())[:3]
    )
    more = ", ..." if len(stray) > 3 else ""
    log.stray.append(
        f"column {stray.name!r} holds {what} except {len(stray)} of {n_rows} entries ({shown}{more})"
    )
