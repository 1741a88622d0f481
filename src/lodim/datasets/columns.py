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

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..validation import check_choice
from .entries import ColumnReading, Log, find_sentinels, read_alike, read_column, without_sentinels
from .numerals import is_one_value
from .readings import Reading, decide, facts_of, texts_of

MAX_LEVELS = 20  # one-hot columns of one category at most
RARE_SHARE = 0.005  # levels with a smaller share of the rows are pooled
OTHER = "(other)"  # the pooled ones
MISSING = ("auto", "impute", "error")
_KEY_NAME = re.compile(r"(^|[_\s.-])(id|ids|key|uuid|guid|rowid)$", re.I)
_ROW_NAME = re.compile(r"(^|[_\s.-])(idx|index|row|nr|no|num|number)$|^unnamed", re.I)


@dataclass(frozen=True, eq=False)
class ColumnCode:
    """What became of one column of a table, by which further rows of it become the same.

    Attributes
    ----------
    reading : ColumnReading
        How its entries are read.
    names : tuple of str
        Of the columns of numbers it becomes; none where it was dropped.
    fill : float or str
        Stands in for a gap: the median of numbers, the most frequent entry of others.
    unknown : tuple of float
        Numbers that stand for "not known".
    scaling : tuple of float, optional
        Numbers are divided by the first, then standardised by mean and deviation, the second and third.
    known, pooled : frozenset of str
        All entries of a category, and those of them that became ``(other)``.
    levels : tuple of str
        Entries with a 0/1 column.
    """

    reading: ColumnReading
    names: tuple[str, ...] = ()
    fill: Any = None
    unknown: tuple[float, ...] = ()
    scaling: tuple[float, float, float] | None = None
    known: frozenset[str] = frozenset()
    pooled: frozenset[str] = frozenset()
    levels: tuple[str, ...] = ()

    def encode(self, values: Any, name: str, log: Log) -> np.ndarray:
        """Return entries, as read, as a block of numbers, shape (n, 0 or more).

        The log is told of gaps, infinite values and unseen levels.
        """
        if not self.names:
            return np.empty((len(values), 0))
        if self.reading.kind == "category":
            log.filled(name, int(values.isna().sum()))
            filled = values.fillna(self.fill)
            unseen = ~filled.isin(self.known)
            if unseen.any():
                log.unseen[name] = filled[unseen].tolist()
            if self.pooled:
                filled = filled.where(filled.isin(self.known - self.pooled), OTHER)
            return np.column_stack([(filled == level).to_numpy(dtype=np.float64) for level in self.levels])
        values = _present(values, self.reading, self.unknown, name, log)
        missing = np.isnan(values)
        log.filled(name, int(missing.sum()))
        values = np.where(missing, self.fill, values)
        if self.scaling is not None:
            largest, mean, deviation = self.scaling
            # divided by the largest first, so that squares neither overflow nor vanish
            with np.errstate(over="ignore"):
                values = (values / largest - mean) / deviation
            if not np.isfinite(values).all():
                raise ValueError(
                    f"column {name!r} has values too large beside those it was fitted to ({largest:g})"
                )
        return values[:, None]


@dataclass(frozen=True, eq=False)
class Encoded:
    """A table as numbers: ``X`` (n, D), D ``names``, and for each the ``origins``, the column it was made of.

    ``kinds`` says what each of these columns is, ``notes`` what was done; ``codes`` do the same to more rows, column by
    column of the table.
    """

    X: np.ndarray
    names: list[str]
    origins: tuple[str, ...]
    kinds: dict[str, str]
    notes: tuple[str, ...]
    codes: tuple[ColumnCode, ...]


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
    codes: list[ColumnCode] = []
    blocks: list[np.ndarray] = []
    columns = [str(column) for column in frame.columns]
    for position, (name, series) in enumerate(frame.items()):
        code, values = _learn(series, readings.get(str(name)), position, log, scale)
        codes.append(code)
        blocks.append(code.encode(values, str(name), log))
    _refuse(len(frame), missing, log)
    log.notes.extend(f"{text}: taken as missing" for text in log.stray)
    names = [name for code in codes for name in code.names]
    if not names:
        raise ValueError(f"no usable column: {'; '.join(log.lines()) or 'the table has no columns'}")
    if log.groups.pop("numbers", []) and scale:
        log.notes.append("columns of numbers were standardised (mean 0, deviation 1)")
    origins = tuple(column for column, code in zip(columns, codes, strict=True) for _ in code.names)
    kinds = {column: code.reading.kind for column, code in zip(columns, codes, strict=True) if code.names}
    return Encoded(np.column_stack(blocks), names, origins, kinds, log.lines(), tuple(codes))


def encode_alike(
    frame: Any, codes: Sequence[ColumnCode], *, missing: str = "auto"
) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Turn more rows of a table into numbers by the ``codes`` of the first, whose columns it has in the same order.

    Returns
    -------
    X : ndarray, shape (n, D)
    unseen : dict of str to list of str
        By column of categories, the entries that the first rows had not.

    Raises
    ------
    ValueError
        Stray text or gaps that ``missing`` does not allow.
    """
    log = Log()
    blocks = [
        code.encode(read_alike(series, code.reading, log, code.known), str(name), log)
        for code, (name, series) in zip(codes, frame.items(), strict=True)
        if code.names
    ]
    _refuse(len(frame), missing, log)
    return np.column_stack(blocks), log.unseen


def _refuse(n_rows: int, missing: str, log: Log) -> None:
    """Refuse stray entries and missing values, where they are not allowed."""
    if log.stray and missing != "impute":
        raise ValueError(
            "; ".join(log.stray[:5])
            + ". Correct the entries, or have them taken as missing (missing='impute')"
        )
    _say_gaps(n_rows, missing, log)


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


def _learn(
    series: Any, reading: Reading | None, position: int, log: Log, scale: bool
) -> tuple[ColumnCode, Any]:
    """Find out what becomes of a column, and say it; return this, and the column's entries."""
    name = str(series.name)
    how, values = read_column(series, reading, log)
    code, kind = ColumnCode(how), how.kind
    if (values.isna() if kind == "category" else np.isnan(values)).all():
        log.group("dropped, without any value", name)
        return code, values
    if kind == "category":
        return _learn_category(values, code, log), values
    if kind == "number" and _is_row_number(values, name, position):
        log.group("dropped, row numbers or keys", name)
        return code, values
    if kind == "number" and "%" not in how.text.units:
        code = replace(code, unknown=find_sentinels(values, name, log))
    written = f" ({how.text.how})" if how.text.how else ""
    if kind == "date":
        log.group(f"dates{written} became days since the earliest", name)
    elif kind == "duration":
        log.group(f"times and durations{written} became numbers of days", name)
    elif kind == "ordinal":
        log.group(f"ordered words became ranks{written}", name)
    values = _present(values, how, code.unknown, name, log)
    known = values[~np.isnan(values)]
    if len(known) == 0 or is_one_value(known):
        log.group("dropped, one value only", name)
        return code, values
    if kind == "boolean":
        if how.text.how == "answers":
            log.group("categories became 0/1 columns, one a level", name)
            texts = zip(texts_of(series), values, strict=True)
            name += "=" + next(text.strip() for text, value in texts if value == 1)
        return replace(code, names=(name,), fill=float(np.mean(known) > 0.5)), values
    log.group("numbers", name)
    fill = float(np.median(known))
    code = replace(code, names=(name,), fill=fill)
    if scale:
        largest = float(np.abs(known).max())
        filled = np.where(np.isnan(values), fill, values) / largest
        code = replace(code, scaling=(largest, float(filled.mean()), float(filled.std())))
    return code, values


def _present(
    values: np.ndarray, how: ColumnReading, unknown: tuple[float, ...], name: str, log: Log
) -> np.ndarray:
    """Return numbers with NaN where there is none; the log is told of infinite ones, and of empty boxes among ticks."""
    if how.text.how == "checked" and np.isnan(values).any():
        log.group("entries that are checked became 1, empty ones 0", name)
        return np.nan_to_num(values)
    infinite = np.isinf(values)
    if infinite.any():
        log.stray.append(f"column {name!r} has {int(infinite.sum())} infinite values")
        values = np.where(infinite, np.nan, values)
    return without_sentinels(values, unknown)


def _learn_category(texts: Any, code: ColumnCode, log: Log) -> ColumnCode:
    """Find out which levels of a column of text get a column, or that it is free text, a key or constant."""
    name = str(texts.name)
    counts = texts.value_counts()
    n_present = int(counts.sum())
    if len(counts) == 1:
        log.group("dropped, one value only", name)
        return code
    if len(counts) == n_present or (len(counts) > MAX_LEVELS and len(counts) > n_present / 2):
        log.group("dropped, free text or identifiers (mostly different from row to row)", name)
        return code
    log.filled(name, len(texts) - n_present)
    known = frozenset(counts.index)
    pooled = _pooled(counts, name, log) if len(counts) > 2 else frozenset()
    # Alphabetical order: ties in frequency must not decide the order of columns.
    levels = sorted((known - pooled) | ({OTHER} if pooled else set()))
    if len(levels) == 1:
        log.group("dropped, one value only", name)
        return code
    if len(levels) == 2:
        levels = levels[1:]
    log.group("categories became 0/1 columns, one a level", name)
    return replace(
        code, names=tuple(f"{name}={level}" for level in levels), fill=counts.index[0], known=known, pooled=pooled,
        levels=tuple(levels),
    )  # fmt: skip


def _pooled(counts: Any, name: str, log: Log) -> frozenset[str]:
    """Return the rare levels, and those beyond the largest :data:`MAX_LEVELS`, that become one."""
    keep = counts[counts >= max(2, RARE_SHARE * counts.sum())].index[:MAX_LEVELS]
    if len(counts) - len(keep) < 2:
        keep = counts.index[:MAX_LEVELS]
    if len(keep) == len(counts):
        return frozenset()
    keep = keep[: MAX_LEVELS - 1]
    log.notes.append(f"column {name!r}: {len(counts) - len(keep)} of {len(counts)} levels are rare, pooled")
    return frozenset(counts.index) - frozenset(keep)


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
