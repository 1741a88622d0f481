"""What a picture of a report shows, apart from how it is drawn: axes, marks, a sentence, and the numbers behind it.

:mod:`~lodim.pages.svg` draws a :class:`Picture` for the report, :mod:`~lodim.pages.figures` for papers and notebooks.
Marks lie in data units; what lies outside an axis is drawn at its edge. Colours are numbers of series: 1 the finding, 2
what it is compared with, 3 a second finding, 4 what is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lodim.pages import words
from lodim.pages.words import Ends, Interval, Number, closed


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic axis with ticks at round values."""

    low: Number
    high: Number
    label: str = ""
    log: bool = False
    ticks: tuple[Number, ...] = ()
    names: tuple[str, ...] = ()  # of the ticks, where they are things rather than numbers

    def __call__(self, value: Number) -> Number:
        """Return the position of ``value`` in [0, 1]."""
        value, low, high = self.inside(value), self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return (value - low) / (high - low)

    def inside(self, value: Number) -> Number:
        """Return ``value``, or the end of the axis that it passes."""
        return min(self.high, max(self.low, value))

    @property
    def labelled(self) -> list[tuple[Number, str]]:
        """The ticks with their words."""
        named = self.names or [words.number(tick, digits=4) for tick in self.ticks]
        return list(zip(self.ticks, named))


def linear_axis(
    values: Sequence[Number],
    label: str,
    *,
    zero: bool = False,
    limits: tuple[Number | None, Number | None] = (None, None),
) -> Axis:
    """Return an axis that holds the values and ends on ticks at 1, 2 or 5 times a power of ten.

    ``zero`` puts zero on it; it never passes ``limits``, e.g. (0, 1) for a share.
    """
    finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5 * (low != 0.0 or not zero), high + 0.5
    raw = (high - low) / 4
    base = 10.0 ** math.floor(math.log10(raw))
    step = next(m * base for m in (1, 2, 2.5, 5, 10) if m * base >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [round(i * step, 12) for i in range(first, last + 1)]
    least, most = limits
    ticks = [t for t in ticks if (least is None or t >= least - 1e-9) and (most is None or t <= most + 1e-9)]
    return Axis(ticks[0], ticks[-1], label, False, tuple(ticks))


def log_axis(values: Sequence[Number], label: str) -> Axis:
    """Return a logarithmic axis that holds the (positive) values, with at most seven labelled ticks."""
    positive = [v for v in values if v > 0 and math.isfinite(v)] or [1.0, 10.0]
    low, high = min(positive) / 1.12, max(positive) * 1.12
    powers = [10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    fine = tuple(1 + i / 5 for i in range(45))
    for mantissas in (fine, (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [round(m * power, 12) for power in powers for m in mantissas if low <= m * power <= high]
        if len(ticks) <= 7:
            break
    every = max(1, math.ceil(len(ticks) / 7))
    return Axis(low, high, label, True, tuple(ticks[::every]))


@dataclass(frozen=True)
class Line:
    """A line through points."""

    points: tuple[tuple[Number, Number], ...]
    series: int = 1


@dataclass(frozen=True)
class Band:
    """The area between two curves over the same x."""

    x: tuple[Number, ...]
    low: tuple[Number, ...]
    high: tuple[Number, ...]
    series: int = 1
    zone: bool = False  # a field of the picture rather than an interval: drawn darker


@dataclass(frozen=True)
class Dot:
    """One data point."""

    x: Number
    y: Number
    tip: str = ""  # what a reader who points at it is told
    series: int = 1
    size: Number = 3.6  # radius, the picture being 420 wide
    hollow: bool = False
    chosen: bool = False  # the one of its kind that the sentence is about


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram, from zero up."""

    low: Number
    high: Number
    height: Number
    tip: str = ""
    series: int = 1


@dataclass(frozen=True)
class Whisker:
    """A horizontal interval at one height."""

    low: Number
    high: Number
    y: Number
    series: int = 1


@dataclass(frozen=True)
class Across:
    """A horizontal reference line with its name above (or below) its left end."""

    y: Number
    name: str = ""
    series: int = 2
    below: bool = False


@dataclass(frozen=True)
class Upright:
    """A vertical reference line with its name at its foot, and its interval as a band."""

    x: Number
    name: str = ""
    ends: Ends | None = None
    series: int = 2


Mark = Line | Band | Dot | Bar | Whisker | Across | Upright


@dataclass(frozen=True)
class Key:
    """A line of the legend."""

    series: int
    words: str
    hollow: bool = False


@dataclass(frozen=True)
class Picture:
    """One picture of a report."""

    key: str  # its id in the page and the name of its CSV
    title: str
    shows: str  # one or two sentences with the numbers: the alternative to seeing it
    x: Axis
    y: Axis
    marks: tuple[Mark, ...]  # from the back to the front
    header: tuple[str, ...]  # names of the columns of rows
    rows: tuple[tuple[object, ...], ...]  # unrounded
    legend: tuple[Key, ...] = ()


@dataclass(frozen=True)
class Row:
    """One row of :func:`dot_rows`: a value with its interval."""

    name: str
    value: Number
    ends: Interval | None = None
    series: int = 1
    second: Number | None = None  # drawn hollow


def dot_rows(
    rows: Sequence[Row],
    label: str,
    *,
    reference: Number | None = None,
    ends: Ends | None = None,
    zero: bool = True,
    write: Callable[[Number | None], str] = words.dimension,
) -> tuple[Axis, Axis, tuple[Mark, ...]]:
    """Return the axes and marks of rows of dots with intervals, the first on top, with a reference through all.

    ``zero`` begins the axis at zero; logarithms have none that means anything. ``write`` words the values.
    """
    values = [r.value for r in rows] + [e for r in rows if r.ends for e in r.ends if e is not None]
    values += [r.second for r in rows if r.second is not None]
    values += [*([reference] if reference else []), *(ends or ())]
    heights = tuple(range(len(rows) - 1, -1, -1))
    marks: list[Mark] = [] if reference is None else [Upright(reference, "", ends)]
    for row, y in zip(rows, heights):
        if (whole := closed(row.ends)) is not None:
            marks.append(Whisker(*whole, y, row.series))
        if row.second is not None:
            tip = f"{row.name}, corrected: {write(row.second)}"
            marks.append(Dot(row.second, y, tip, row.series, 4.0, hollow=True))
        tip = f"{row.name}: {write(row.value)} ({words.interval(row.ends, write)})"
        marks.append(Dot(row.value, y, tip, row.series, 4.4))
    names = tuple(words.short(r.name, 21) for r in rows)
    upward = Axis(-0.5, len(rows) - 0.5, ticks=heights, names=names)
    return linear_axis(values, label, zero=zero), upward, tuple(marks)
