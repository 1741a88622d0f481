"""Mixed columns to numbers, with a note for everything that is done to them.

numbers             standardised to mean 0 and deviation 1 (text that means numbers is read as such)
dates, durations    days (dates from the earliest), then standardised
ordered words       ranks 0, 1, 2, ... (low, medium, high; 18-24, 25-34; ordered categories), then standardised
booleans            0 and 1
categories          one 0/1 column a level (one column alone for two levels); rare levels are pooled
row numbers, keys   dropped: they identify a row and say nothing about it
free text           dropped
constant, empty     dropped
gaps                the median of a column of numbers, the most frequent entry of any other
-999, 9999, ...     gaps too, where they are repeated and far from all other numbers of their column
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..validation import MAX_CLASSES, check_choice, infer_kind
from .calendars import DAY
from .numerals import MISSING_WORDS, NULL_WORDS, from_smallest, is_one_value
from .readings import FROM_SMALLEST, Facts, Reading, decide, facts_of, is_text, texts_of

MAX_LEVELS = 20  # one-hot columns of one category at most
RARE_SHARE = 0.005  # levels with a smaller share of the rows are pooled
MISSING = ("auto", "impute", "error")
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
_KEY_NAME = re.compile(r"(^|[_\s.-])(id|ids|key|uuid|guid|rowid)$", re.I)
_ROW_NAME = re.compile(r"(^|[_\s.-])(idx|index|row|nr|no|num|number)$|^unnamed", re.I)


@dataclass
class Log:
    """What is said about the columns, gathered so that forty notes become one.

    ``notes`` stand alone, ``groups`` list the columns something was done to, ``stray`` describes text among numbers,
    ``gaps`` counts the values that were filled in.
    """

    notes: list[str] = field(default_factory=list)
    groups: dict[str, list[str]] = field(default_factory=dict)
    stray: list[str] = field(default_factory=list)
    gaps: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

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
class Encoded:
    """A table as numbers: ``X`` (n, D), D ``names``, and for each the ``origins``, the column it was made of.

    ``kinds`` says what each of these columns is, ``notes`` what was done.
    """

    X: np.ndarray
    names: list[str]
    origins: tuple[str, ...]
    kinds: dict[str, str]
    notes: tuple[str, ...]


def encode_columns(
    frame: Any, *, missing: str = "auto", scale: bool = True
) -> tuple[np.ndarray, list[str], tuple[str, ...]]:
    """Turn a data frame of mixed columns into a matrix of numbers (n, D), its D names, and notes on what was done.

    Parameters
    ----------
    missing : {"auto", "impute", "error"}
        ``"auto"`` fills gaps in and says so, but refuses stray text in a column of numbers; ``"impute"`` takes such
        text as a gap too; ``"error"`` refuses gaps as well.
    scale : bool
        Whether columns of numbers are standardised.

    Raises
    ------
    ValueError
        Stray text or gaps that ``missing`` does not allow, or no column left.
    """
    encoded = encode_frame(frame, missing=missing, scale=scale)
    return encoded.X, encoded.names, encoded.notes


def encode_frame(
    frame: Any, readings: Mapping[str, Reading] | None = None, *, missing: str = "auto", scale: bool = True
) -> Encoded:
    """Do what :func:`encode_columns` does, and say of which column each one was made.

    How the columns of text are meant can be known; by default it is decided from these rows.
    """
    check_choice(missing, MISSING, "missing")
    log = Log()
    if readings is None:
        readings, notes = decide(facts_of(frame))
        log.notes.extend(notes)
    blocks: list[np.ndarray] = []
    names: list[str] = []
    origins: list[str] = []
    kinds: dict[str, str] = {}
    for position, column in enumerate(frame.columns):
        values, labels = _encode_column(frame[column], readings.get(str(column)), position, log, scale)
        blocks.append(values)
        names.extend(labels)
        origins.extend([str(column)] * len(labels))
        if labels:
            kinds[str(column)] = log.kinds[str(column)]
    if log.stray and missing != "impute":
        raise ValueError(
            "; ".join(log.stray[:5])
            + ". Correct the entries, or have them taken as missing (missing='impute')"
        )
    _say_gaps(len(frame), missing, log)
    log.notes.extend(f"{text}: taken as missing" for text in log.stray)
    if not names:
        raise ValueError(f"no usable column: {'; '.join(log.lines()) or 'the table has no columns'}")
    if log.groups.pop("numbers", []) and scale:
        log.notes.append("columns of numbers were standardised (mean 0, deviation 1)")
    return Encoded(np.column_stack(blocks), names, tuple(origins), kinds, log.lines())


def _say_gaps(n_rows: int, missing: str, log: Log) -> None:
    """Report (or refuse) the missing values that were filled in, column by column."""
    if not log.gaps:
        return
    each = ", ".join(f"{column!r} {count}" for column, count in list(log.gaps.items())[:8])
    more = f" and {len(log.gaps) - 8} more columns" if len(log.gaps) > 8 else ""
    text = f"{sum(log.gaps.values())} missing values ({each}{more}, of {n_rows} rows)"
    if missing == "error":
        raise ValueError(
            f"the table has {text}; drop or impute them, or let them be filled in (missing='impute')"
        )
    log.notes.insert(0, f"ATTENTION, {text} were filled in (median, or most frequent entry)")


def read_column(series: Any, reading: Reading | None, log: Log) -> tuple[str, Any]:
    """Return what kind a column is (see :class:`Dataset`) and its entries.

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
            return "ordinal", np.where(
                series.cat.codes < 0, np.nan, series.cat.codes.to_numpy(dtype=np.float64)
            )
        return "category", clean_texts(series, log)
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean", series.astype("boolean").to_numpy(dtype=np.float64, na_value=np.nan)
    if pd.api.types.is_numeric_dtype(dtype) and dtype.kind != "c":
        return "number", _as_floats(series, log)
    if pd.api.types.is_datetime64_any_dtype(dtype):
        days = ((series - series.min()) / pd.Timedelta(days=1)).to_numpy(dtype=np.float64)
        if {str(series.min())[:10], str(series.max())[:10]}.isdisjoint(_SENTINEL_DAYS):
            return "date", days
        written = series.dt.strftime("%Y-%m-%d").fillna("").to_numpy(dtype=object)
        named = np.where(np.isin(written, _SENTINEL_DAYS), written, "")
        return "date", _without_sentinel_days(days, named, name, log)
    if pd.api.types.is_timedelta64_dtype(dtype):
        return "duration", (series / pd.Timedelta(days=1)).to_numpy(dtype=np.float64)
    texts = clean_texts(series, log)
    if reading is None:
        facts = Facts()
        facts.add(texts_of(series))
        readings, notes = decide({name: facts})
        reading = readings[name]
        log.notes.extend(notes)
    if reading.kind == "category" or not texts.notna().any():
        return "category", texts
    return reading.kind, _read_texts(texts, reading, log)


def read_target(series: Any, reading: Reading | None, missing: str) -> tuple[np.ndarray, list[str]]:
    """Return a target column as NumPy, and notes: numbers where the text means numbers, words for "missing" as None."""
    import pandas as pd

    log = Log()
    if not is_text(series) and not isinstance(series.dtype, pd.ArrowDtype):
        if isinstance(series.dtype, pd.CategoricalDtype):
            return series.astype(object).to_numpy(), []
        values = series.to_numpy()
    else:
        kind, values = read_column(series, reading, log)
        stray_codes = bool(log.stray) and series.nunique() <= MAX_CLASSES
        answers = kind == "boolean" and reading is not None and reading.how == "answers"
        if kind in ("category", "ordinal") or stray_codes or answers:
            return clean_texts(series, Log()).to_numpy(), log.notes
        if log.stray and missing != "impute":
            raise ValueError(
                f"target {log.stray[0]}; correct the entries, or leave those rows out (missing='impute')"
            )
        if kind == "boolean":
            values = pd.Series(values).map({0.0: False, 1.0: True}).to_numpy(dtype=object)
        elif kind in ("date", "duration"):
            values = pd.to_timedelta(values, unit="D").to_numpy()
    in_percent = reading is not None and "%" in reading.units
    if (
        values.dtype.kind in "iuf"
        and not in_percent
        and infer_kind(values[~np.isnan(values)]) == "regression"
    ):
        values = without_sentinels(values, str(series.name), log)
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


def _as_floats(series: Any, log: Log) -> np.ndarray:
    """Return numbers as floats; whole ones too large for that are counted from the smallest."""
    import pandas as pd

    values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    if (
        not pd.api.types.is_integer_dtype(series.dtype)
        or not np.abs(values).max(initial=0, where=~np.isnan(values)) >= 2**53
    ):
        return values
    present = series.notna().to_numpy()
    values[present] = from_smallest(series[present].tolist())
    log.group(f"numbers {FROM_SMALLEST} were read as numbers", str(series.name))
    return values


def _read_texts(texts: Any, reading: Reading, log: Log) -> np.ndarray:
    """Return the texts of :func:`clean_texts` as numbers; the log is told how they were written, and of stray ones."""
    import pandas as pd

    name = str(texts.name)
    codes, levels = pd.factorize(texts.to_numpy(dtype=object))
    values = np.append(reading.values(list(levels)), np.nan)[codes]
    stray = np.isnan(values) & (codes >= 0)
    if stray.any():
        what = {"date": "dates", "duration": "times"}.get(reading.kind, "numbers")
        _say_stray(texts[stray], len(texts), what, log)
    if reading.kind == "date":
        suspects = {
            level: _SENTINEL_DAYS_NS.get(reading.value(level) or 0)
            for level in levels
            if _SENTINEL_YEAR.search(level)
        }
        if any(suspects.values()):
            days = np.append([suspects.get(level) or "" for level in levels], "")[codes]
            values = _without_sentinel_days(values, days, name, log)
    if reading.kind == "number" and reading.how:
        log.group(f"numbers {reading.how} were read as numbers", name)
    return values


def _encode_column(
    series: Any, reading: Reading | None, position: int, log: Log, scale: bool
) -> tuple[np.ndarray, list[str]]:
    """Encode one column as a block of numbers, shape (n, 0 or more), and name the block's columns."""
    name = str(series.name)
    empty = np.empty((len(series), 0)), list[str]()
    kind, values = read_column(series, reading, log)
    log.kinds[name] = kind
    missing = values.isna().to_numpy() if kind == "category" else np.isnan(values)
    if missing.all():
        log.group("dropped, without any value", name)
        return empty
    if kind == "category":
        return _categories(values, log, empty)
    if kind == "boolean":
        return _boolean(values, name, series, reading, log, empty)
    if kind == "number" and _is_row_number(values, name, position):
        log.group("dropped, row numbers or keys", name)
        return empty
    if kind == "number" and not (reading is not None and "%" in reading.units):
        values = without_sentinels(values, name, log)
    if kind == "date":
        how = f" ({reading.how})" if reading is not None and reading.how else ""
        log.group(f"dates{how} became days since the earliest", name)
    elif kind == "duration":
        how = f" ({reading.how})" if reading is not None and reading.how else ""
        log.group(f"times and durations{how} became numbers of days", name)
    elif kind == "ordinal":
        how = f" ({reading.how})" if reading is not None and reading.how else ""
        log.group(f"ordered words became ranks{how}", name)
    return _number(values, name, log, scale, empty)


def _constant(log: Log, name: str, empty: Any) -> tuple[np.ndarray, list[str]]:
    log.group("dropped, one value only", name)
    return empty


def _boolean(
    values: np.ndarray, name: str, series: Any, reading: Reading | None, log: Log, empty: Any
) -> tuple[np.ndarray, list[str]]:
    if reading is not None and reading.how == "checked" and np.isnan(values).any():
        log.group("entries that are checked became 1, empty ones 0", name)
        values = np.nan_to_num(values)
    missing = np.isnan(values)
    if is_one_value(values[~missing]):
        return _constant(log, name, empty)
    log.filled(name, int(missing.sum()))
    filled = np.where(missing, float(np.mean(values[~missing]) > 0.5), values)
    if reading is not None and reading.how == "answers":
        log.group("categories became 0/1 columns, one a level", name)
        name += "=" + next(
            text.strip() for text, value in zip(texts_of(series), values, strict=True) if value == 1
        )
    return filled[:, None], [name]


def without_sentinels(values: np.ndarray, name: str, log: Log) -> np.ndarray:
    """Return numbers with NaN for those that stand for "not known" (-999, 9999), and say so.

    They are repeated, and farther from every other number than those are from one another (or negative, among numbers
    that are not).
    """
    finite = values[np.isfinite(values)]
    suspects = np.isin(finite, list(_SENTINELS))
    others = finite[~suspects]
    if not suspects.any() or len(others) < 3:
        return values
    low, high = others.min(), others.max()
    found = []
    for value, count in zip(*np.unique(finite[suspects], return_counts=True), strict=True):
        gap = max(low - value, value - high)
        if count > 1 and (gap > max(high - low, abs(high), abs(low)) or (value <= -99 and low >= 0)):
            found.append((value, count))
    if not found:
        return values
    listed = ", ".join(f"{value:g} ({count} times)" for value, count in found)
    log.notes.append(
        f"ATTENTION, column {name!r}: {listed} lies far from all other values ({low:g} to {high:g}) and was taken as "
        "missing"
    )
    return np.where(np.isin(values, [value for value, _ in found]), np.nan, values)


def _without_sentinel_days(values: np.ndarray, named: np.ndarray, name: str, log: Log) -> np.ndarray:
    """Return days with NaN for those that stand for "not known", by their names (empty for all others), and say so.

    They are repeated, and farther from every other day than those are from one another.
    """
    others = values[(named == "") & ~np.isnan(values)]
    gone = np.zeros(len(values), dtype=bool)
    if len(others) < 3:
        return values
    low, high = others.min(), others.max()
    for day in np.unique(named[named != ""]):
        here = named == day
        value = values[here][0]
        if here.sum() > 1 and max(low - value, value - high) > max(high - low, 366.0):
            gone |= here
            log.notes.append(
                f"ATTENTION, column {name!r}: {day} ({int(here.sum())} times) lies far from all other days and was "
                "taken as missing"
            )
    if not gone.any():
        return values
    kept = np.where(gone, np.nan, values)
    return kept - np.nanmin(kept)


def _number(values: np.ndarray, name: str, log: Log, scale: bool, empty: Any) -> tuple[np.ndarray, list[str]]:
    """Fill, check and standardise one column of numbers."""
    infinite = np.isinf(values)
    if infinite.any():
        log.stray.append(f"column {name!r} has {int(infinite.sum())} infinite values")
        values = np.where(infinite, np.nan, values)
    finite = values[np.isfinite(values)]
    if len(finite) == 0 or is_one_value(finite):
        return _constant(log, name, empty)
    log.filled(name, int(np.isnan(values).sum()))
    values = np.where(np.isnan(values), np.median(finite), values)
    log.group("numbers", name)
    if scale:
        largest = np.abs(values).max()
        values = values / largest  # so that squares neither overflow nor vanish
        values = (values - values.mean()) / values.std()
    return values[:, None], [name]


def _is_row_number(values: np.ndarray, name: str, position: int) -> bool:
    """Whether a column only numbers the rows: 0, 1, 2, ... first in the table, or increasing under an id's name."""
    if len(values) < 3 or not np.isfinite(values).all() or not np.all(values == np.round(values)):
        return False
    steps = np.diff(values)
    counts_rows = position == 0 and values[0] in (0, 1) and bool(np.all(steps == 1))
    if len(np.unique(values)) < len(values):
        return False
    monotone = bool(np.all(steps > 0) or np.all(steps < 0))
    return (
        counts_rows or (monotone and _ROW_NAME.search(name) is not None) or _KEY_NAME.search(name) is not None
    )


def clean_texts(series: Any, log: Log) -> Any:
    """Return a column as stripped text, None where missing.

    Words that mean "not known" count as missing, and the log is told of them.
    """
    import pandas as pd

    codes, entries = pd.factorize(np.array(texts_of(series), dtype=object))
    stripped = [entry.strip() for entry in entries]
    two_letters = [len(text) == 2 and text.isalpha() and text.isupper() for text in stripped]
    coded = sum(two_letters) >= max(_CODES, 0.9 * len(stripped))
    absent = [
        text.lower() in (NULL_WORDS if coded and two else MISSING_WORDS)
        for text, two in zip(stripped, two_letters, strict=True)
    ]
    known = [None if gap else text for text, gap in zip(stripped, absent, strict=True)]
    words = np.array(
        [gap and text.lower() not in NULL_WORDS for text, gap in zip(stripped, absent, strict=True)],
        dtype=bool,
    )
    if words.any():
        listed = _listed(sorted({text for text, is_word in zip(stripped, words, strict=True) if is_word}))
        log.notes.append(f"column {series.name!r}: {int(words[codes].sum())} entries {listed} mean missing")
    texts = np.array([*known, None], dtype=object)[codes]
    return pd.Series(texts, index=series.index, name=series.name, dtype=object)


def _say_stray(stray: Any, n_rows: int, what: str, log: Log) -> None:
    shown = ", ".join(  # rows below 0 are of unknown number
        f"{text!r} in row {int(row) + 1}" if int(row) >= 0 else repr(text)
        for row, text in list(stray.items())[:3]
    )
    more = ", ..." if len(stray) > 3 else ""
    log.stray.append(
        f"column {stray.name!r} holds {what} except {len(stray)} of {n_rows} entries ({shown}{more})"
    )


def _categories(texts: Any, log: Log, empty: Any) -> tuple[np.ndarray, list[str]]:
    """One-hot encode a text column, or drop it when it is free text, a key or constant."""
    name = str(texts.name)
    log.kinds[name] = "category"
    counts = texts.value_counts()
    n_present = int(counts.sum())
    if len(counts) == 1:
        return _constant(log, name, empty)
    if len(counts) == n_present or (len(counts) > MAX_LEVELS and len(counts) > n_present / 2):
        log.group("dropped, free text or identifiers (mostly different from row to row)", name)
        return empty
    log.filled(name, len(texts) - n_present)
    filled = texts.fillna(counts.index[0])
    if len(counts) > 2:
        filled = _pool(filled, counts, log)
    # Alphabetical order: ties in frequency must not decide the order of columns.
    levels = sorted(filled.unique())
    if len(levels) == 1:
        return _constant(log, name, empty)
    if len(levels) == 2:
        levels = levels[1:]
    block = np.column_stack([(filled == level).to_numpy(dtype=np.float64) for level in levels])
    log.group("categories became 0/1 columns, one a level", name)
    return block, [f"{name}={level}" for level in levels]


def _pool(filled: Any, counts: Any, log: Log) -> Any:
    """Pool rare levels, and those beyond the largest :data:`MAX_LEVELS`, into one."""
    keep = counts[counts >= max(2, RARE_SHARE * counts.sum())].index[:MAX_LEVELS]
    if len(counts) - len(keep) < 2:
        keep = counts.index[:MAX_LEVELS]
    if len(keep) == len(counts):
        return filled
    keep = keep[: MAX_LEVELS - 1]
    log.notes.append(
        f"column {filled.name!r}: {len(counts) - len(keep)} of {len(counts)} levels are rare, pooled"
    )
    return filled.where(filled.isin(keep), "(other)")
