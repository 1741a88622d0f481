"""Text that means numbers or dates, as people write them.

Numbers: ``1234.5``, ``1e-3``, with thousands separators (``1,234.5``, ``1 234``), with a decimal comma (``1.234,5``,
``3,5``), with a currency or per cent sign (``$1,200``, ``12 %``). A column is read in the one convention that fits most
of its entries, never in two. Dates: ISO first, then the common orders of day, month and year.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

MOSTLY = 0.95  # share of entries that must parse for a text column to count as numbers or dates

# What people and programs write for "not known", beyond what pandas already takes as missing.
MISSING_WORDS = frozenset(
    {"?", "-", "--", ".", "na", "n.a.", "n/k", "missing", "unknown", "none", "null", "nil"}
)

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_ENGLISH = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
_CONTINENTAL = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+(,\d+)?|\d+,\d+)")
_SIGNS = re.compile(r"^[$€£¥₹]\s*|\s*[$€£¥₹%]$")
_SPACES = re.compile(r"(?<=\d)[\s'’](?=\d{3}(\D|$))")
_DATE_LIKE = re.compile(r"\d{4}-\d{1,2}(-\d{1,2})?([T ].*)?|\d{1,4}[./-]\d{1,2}[./-]\d{1,4}([T ].*)?")
_DATE_FORMATS = (
    "ISO8601",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%d.%m.%Y",
    "%d-%m-%Y",
    "%Y/%m/%d",
    "%m/%d/%y",
    "%d.%m.%y",
)


def is_number(text: str) -> bool:
    """Whether a cell of a file is a plain number."""
    return _NUMBER.fullmatch(text.strip().strip('"')) is not None


def _bare(text: str) -> tuple[str, bool]:
    """Strip the signs and spaces a number may be dressed in, and say whether there were any."""
    bare = text.strip()
    unsigned = _SIGNS.sub("", re.sub(r"^([+-])\s*[$€£¥₹]\s*", r"\1", bare))
    plain = _SPACES.sub("", unsigned).strip()
    return plain, plain != bare


def _parse(text: str, *, comma: bool) -> float:
    if comma and _CONTINENTAL.fullmatch(text):
        return float(text.replace(".", "").replace(",", "."))
    if _NUMBER.fullmatch(text) and not (comma and _CONTINENTAL.fullmatch(text)):
        return float(text)
    if not comma and _ENGLISH.fullmatch(text):
        return float(text.replace(",", ""))
    return np.nan


def parse_numbers(texts: list[str]) -> tuple[np.ndarray, str]:
    """Read entries as numbers (NaN where one is none), in the convention that fits most of them.

    The convention is returned too, for a note; it is empty for plain numbers.
    """
    bare = [_bare(text) for text in texts]
    english = np.array([_parse(text, comma=False) for text, _ in bare], dtype=np.float64)
    dressed = any(changed for _, changed in bare)
    if not any("," in text for text, _ in bare):
        return english, "with units or spaces" if dressed else ""
    continental = np.array([_parse(text, comma=True) for text, _ in bare], dtype=np.float64)
    if np.isfinite(continental).sum() > np.isfinite(english).sum():
        return continental, "with decimal commas"
    return english, "with thousands separators" if np.isfinite(english).any() else ""


def parse_dates(texts: list[str]) -> tuple[np.ndarray, str] | None:
    """Read entries as dates, if nearly all of them are; the format that was used is returned too.

    Dates are days since 1970-01-01, NaN where an entry is none.
    """
    import pandas as pd

    date_like = sum(_DATE_LIKE.fullmatch(text.strip()) is not None for text in texts)
    if not texts or date_like < MOSTLY * len(texts):
        return None
    best: tuple[int, Any, str] | None = None
    for date_format in _DATE_FORMATS:
        parsed = pd.to_datetime(pd.Series(texts, dtype=object), format=date_format, errors="coerce", utc=True)
        n_parsed = int(parsed.notna().sum())
        if best is None or n_parsed > best[0]:
            best = (n_parsed, parsed, date_format)
    assert best is not None
    n_parsed, parsed, date_format = best
    return (days_since_1970(parsed), date_format) if n_parsed >= MOSTLY * len(texts) else None


def days_since_1970(dates: Any) -> np.ndarray:
    """Return a series of dates as days, NaN where missing."""
    import pandas as pd

    epoch = pd.Timestamp("1970-01-01", tz=dates.dt.tz)
    return ((dates - epoch) / pd.Timedelta(days=1)).to_numpy(dtype=np.float64)
