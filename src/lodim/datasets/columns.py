"""Mixed columns to numbers, with a note for everything that is done to them.

numbers             standardised to mean 0 and deviation 1 (text that means numbers is read as such)
dates               days, then standardised
booleans            0 and 1
categories          one 0/1 column a level (one column alone for two levels); rare levels are pooled
row numbers, keys   dropped: they identify a row and say nothing about it
free text           dropped
constant, empty     dropped
gaps                the median of a column of numbers, the most frequent entry of any other
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..validation import check_choice
from .numerals import MISSING_WORDS, MOSTLY, days_since_1970, parse_dates, parse_numbers

MAX_LEVELS = 20  # one-hot columns of one category at most
RARE_SHARE = 0.005  # levels with a smaller share of the rows are pooled
MISSING = ("auto", "impute", "error")

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


def encode_frame(frame: Any, *, missing: str = "auto", scale: bool = True) -> Encoded:
    """Do what :func:`encode_columns` does, and say of which column each one was made."""
    check_choice(missing, MISSING, "missing")
    log = Log()
    blocks: list[np.ndarray] = []
    names: list[str] = []
    origins: list[str] = []
    kinds: dict[str, str] = {}
    for position, column in enumerate(frame.columns):
        values, labels = _encode_column(frame[column], position, log, scale)
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


def _encode_column(series: Any, position: int, log: Log, scale: bool) -> tuple[np.ndarray, list[str]]:
    """Encode one column as a block of numbers, shape (n, 0 or more), and name the block's columns."""
    import pandas as pd

    name = str(series.name)
    log.kinds[name] = "number"
    empty = np.empty((len(series), 0)), list[str]()
    present = series.dropna()
    if present.empty:
        log.group("dropped, without any value", name)
        return empty
    if pd.api.types.is_bool_dtype(series.dtype) or set(map(type, present)) <= {bool, np.bool_}:
        return _boolean(series, log, name) if present.nunique() > 1 else _constant(log, name, empty)
    if pd.api.types.is_numeric_dtype(series.dtype) and series.dtype.kind != "c":
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    elif pd.api.types.is_datetime64_any_dtype(series.dtype):
        log.group("dates became numbers of days", name)
        log.kinds[name] = "date"
        values = days_since_1970(series)
    elif pd.api.types.is_timedelta64_dtype(series.dtype):
        log.group("durations became numbers of days", name)
        log.kinds[name] = "duration"
        values = (series / pd.Timedelta(days=1)).to_numpy(dtype=np.float64)
    else:
        texts = clean_texts(series, log)
        if not texts.notna().any():
            log.group("dropped, without any value", name)
            return empty
        is_category = isinstance(series.dtype, pd.CategoricalDtype)
        numbers = None if is_category else numbers_in_texts(texts, log)
        if numbers is None:
            return _categories(texts, log, empty)
        values = numbers
    if _is_row_number(values, name, position):
        log.group("dropped, row numbers or keys", name)
        return empty
    return _number(values, name, log, scale, empty)


def _constant(log: Log, name: str, empty: Any) -> tuple[np.ndarray, list[str]]:
    log.group("dropped, one value only", name)
    return empty


def _boolean(series: Any, log: Log, name: str) -> tuple[np.ndarray, list[str]]:
    log.kinds[name] = "boolean"
    values = series.astype("boolean")
    log.filled(name, int(values.isna().sum()))
    filled = values.fillna(values.mode().iloc[0]).to_numpy(dtype=np.float64)
    return filled[:, None], [name]


def _number(values: np.ndarray, name: str, log: Log, scale: bool, empty: Any) -> tuple[np.ndarray, list[str]]:
    """Fill, check and standardise one column of numbers."""
    infinite = np.isinf(values)
    if infinite.any():
        log.stray.append(f"column {name!r} has {int(infinite.sum())} infinite values")
        values = np.where(infinite, np.nan, values)
    finite = values[np.isfinite(values)]
    if len(finite) == 0 or finite.min() == finite.max():
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

    absent = series.isna().to_numpy()
    texts = [None if gap else str(v).strip() for v, gap in zip(series.to_numpy(dtype=object), absent)]
    words = [t for t in texts if t is not None and t.lower() in MISSING_WORDS]
    if words:
        log.notes.append(
            f"column {series.name!r}: {len(words)} entries {_listed(sorted(set(words)))} mean missing"
        )
    known = [None if not t or t.lower() in MISSING_WORDS else t for t in texts]
    return pd.Series(known, index=series.index, name=series.name, dtype=object)


def numbers_in_texts(texts: Any, log: Log) -> np.ndarray | None:
    """Return the texts of :func:`clean_texts`, one at least, as numbers if nearly all are numbers or dates, else None.

    The log is told how they were written, and of the entries that are neither.
    """
    present = texts.dropna()
    entries = present.tolist()
    dates = parse_dates(entries)
    values, how = (dates[0], "") if dates is not None else parse_numbers(entries)
    parsed = np.isfinite(values)
    share = parsed.mean()
    if share < MOSTLY:
        if share >= 0.5:
            log.notes.append(
                f"column {texts.name!r} mixes numbers ({share:.0%}) and text: taken as categories, not as numbers"
            )
        return None
    if dates is not None:
        log.group(f"dates ({dates[1]}) became numbers of days", str(texts.name))
        log.kinds[str(texts.name)] = "date"
    elif how:
        log.group(f"numbers {how} were read as numbers", str(texts.name))
    if not parsed.all():
        _say_stray(present[~parsed], len(texts), "dates" if dates is not None else "numbers", log)
    numbers = np.full(len(texts), np.nan)
    numbers[texts.notna().to_numpy()] = values
    return numbers


def _say_stray(stray: Any, n_rows: int, what: str, log: Log) -> None:
    shown = ", ".join(f"{text!r} in row {int(row) + 1}" for row, text in list(stray.items())[:3])
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
        log.group("dropped, free text or identifiers (different in nearly every row)", name)
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
