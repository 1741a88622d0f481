"""Numbers as people read them: the one place where reports form their figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

Number = float | int
Interval = tuple[Number | None, Number | None]
Ends = tuple[Number, Number]


def closed(ends: Interval | None) -> Ends | None:
    """Return an interval whose two ends are known, else None."""
    if ends is None or ends[0] is None or ends[1] is None:
        return None
    return ends[0], ends[1]


def number(x: int | float | None, *, digits: int = 3) -> str:
    """Write a number with about ``digits`` significant digits and thousands separators; a dash if unknown."""
    if x is None or not math.isfinite(x):
        return "–"
    if x == 0:
        return "0"
    if abs(x) >= 10 ** (digits - 1):
        return f"{x:,.0f}"
    decimals = digits - 1 - math.floor(math.log10(abs(x)))
    text = f"{x:.{decimals}f}" if abs(x) >= 1e-3 else f"{x:.{digits - 1}g}"
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def dimension(x: int | float | None) -> str:
    """Write a dimension: one decimal below 100, whole numbers above."""
    if x is None or not math.isfinite(x):
        return "–"
    return f"{x:.1f}" if x < 100 else f"{x:,.0f}"


def score(x: int | float | None) -> str:
    """Write a score (accuracy or R²) with three decimals."""
    return "–" if x is None or not math.isfinite(x) else f"{x:.3f}"


def percent(x: int | float) -> str:
    """Write a share as a percentage."""
    return f"{100 * x:.0f} %" if x > 0.0995 or x == 0 else f"{100 * x:.2g} %"


def chance(p: int | float | None) -> str:
    """Write a p-value."""
    if p is None:
        return "–"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def interval(ends: Sequence[int | float | None] | None, write: Callable[[Any], str] = dimension) -> str:
    """Write an interval as ``lo–hi``; an unknown end is written as open, an unknown interval as a dash."""
    if ends is None or (ends[0] is None and ends[1] is None):
        return "–"

    low, high = ends
    if low is None:
        return f"up to {write(high)}"
    if high is None:
        return f"above {write(low)}"
    return f"{write(low)}–{write(high)}"


def in_brackets(text: str) -> str:
    """Return `` (text)``, or nothing where there is nothing, or only a dash, to say."""
    return "" if text in ("", "–") else f" ({text})"


def seconds(x: int | float | None) -> str:
    """Write a duration."""
    if x is None:
        return "–"
    return f"{x:.1f} s" if x < 60 else f"{x / 60:.1f} min"


def sentence(text: str) -> str:
    """Return ``text`` with a capital first letter."""
    return text[:1].upper() + text[1:]


def short(name: str, most: int) -> str:
    """Return a name that is at most so long: of a longer one its beginning and its end, by which names differ."""
    if len(name) <= most:
        return name
    tail = (most - 1) // 2
    return f"{name[: most - 1 - tail]}…{name[-tail:]}"


def plural(count: int | float, noun: str, nouns: str | None = None) -> str:
    """Return the count with the noun in the right number, e.g. ``1 column`` and ``64 columns``."""
    return f"{count:,.0f} {noun if count == 1 else nouns or noun + 's'}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a plain-text table: the first column to the left, the others to the right."""
    lines = [tuple(header), *map(tuple, rows)]
    widths = [max(len(line[j]) for line in lines) for j in range(len(header))]
    out = [
        "  ".join(cell.ljust(w) if j == 0 else cell.rjust(w) for j, (cell, w) in enumerate(zip(line, widths)))
        for line in lines
    ]
    return "\n".join("  " + line.rstrip() for line in [out[0], "-" * sum(w + 2 for w in widths), *out[1:]])
