"""Small, quiet charts as inline SVG that follow the page's colours (dark mode included) and need no script.

Colours, line styles and text sizes come from CSS classes (see ``templates/report.css``): ``s1``..``s4`` are series,
``ink`` the text, ``rule`` the grid. Every chart is one ``<svg role="img">`` with a ``<title>`` and a ``<desc>``,
and its marks carry native tooltips. Coordinates are those of a 420-unit wide canvas: legible on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from lodim.profiling import wording

Number = int | float
WIDTH = 420.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 14.0, 30.0, 42.0


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic map from data to [0, 1], with ticks at round values.

    Attributes
    ----------
    low, high : float
        Ends of the axis in data units.
    """

    low: Number
    high: Number
    label: str
    log: bool = False
    ticks: tuple[Number, ...] = ()

    def __call__(self, value: Number) -> Number:
        """Return the position of ``value`` in [0, 1]; values outside the axis are put at its end."""
        if self.log:
            value, low, high = math.log(max(value, 1e-300)), math.log(self.low), math.log(self.high)
        else:
            low, high = self.low, self.high
        return min(1.0, max(0.0, (value - low) / (high - low)))


def linear_axis(
    values: Sequence[Number],
    label: str,
    *,
    zero: bool = False,
    limits: tuple[Number | None, Number | None] = (None, None),
) -> Axis:
    """Return an axis that holds the values and ends on ticks at 1, 2 or 5 times a power of ten.

    Parameters
    ----------
    zero : bool
        Whether zero must be on the axis.
    limits : pair of float or None
        Ends never passed, e.g. (0, 1) for a share.
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
    ticks = [
        t
        for t in ticks
        if (limits[0] is None or t >= limits[0] - 1e-9) and (limits[1] is None or t <= limits[1] + 1e-9)
    ]
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


@dataclass
class Canvas:
    """An SVG under construction: two axes and a list of marks.

    Attributes
    ----------
    height : float
        Of the canvas, in its own units (the width is 420).
    left, top : float
        Room for the labels of the vertical axis, and above the plot.
    """

    x: Axis
    y: Axis
    height: Number = 280.0
    left: Number = _LEFT
    top: Number = _TOP
    marks: list[str] = field(default_factory=list)

    def px(self, value: Number) -> Number:
        """Return the canvas position of a value of the horizontal axis."""
        return self.left + self.x(value) * (WIDTH - self.left - _RIGHT)

    def py(self, value: Number) -> Number:
        """Return the canvas position of a value of the vertical axis."""
        return self.height - _BOTTOM - self.y(value) * (self.height - self.top - _BOTTOM)

    def add(self, tag: str, css: str, tip: str = "", **attributes: Number | str) -> None:
        """Add one element; ``tip`` becomes its tooltip."""
        body = " ".join(
            f'{name.replace("_", "-")}="{f"{value:.2f}" if isinstance(value, float) else escape(str(value))}"'
            for name, value in attributes.items()
        )
        inside = f"<title>{escape(tip)}</title>" if tip else ""
        self.marks.append(f'<{tag} class="{css}" {body}>{inside}</{tag}>')

    def text(self, x: Number, y: Number, words: str, css: str = "", anchor: str = "middle") -> None:
        """Add text at canvas coordinates."""
        self.marks.append(
            f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
        )

    def grid(self, *, horizontal: bool = True, vertical: bool = False, y_labels: bool = True) -> None:
        """Draw rules, ticks and axis labels."""
        bottom, right = self.height - _BOTTOM, WIDTH - _RIGHT
        for tick in self.y.ticks if y_labels else ():
            if horizontal:
                self.add("line", "rule", x1=self.left, x2=right, y1=self.py(tick), y2=self.py(tick))
            self.text(self.left - 6, self.py(tick) + 4, wording.number(tick, digits=4), "tick", "end")
        for tick in self.x.ticks:
            if vertical:
                self.add("line", "rule", x1=self.px(tick), x2=self.px(tick), y1=self.top, y2=bottom)
            self.add("line", "axis", x1=self.px(tick), x2=self.px(tick), y1=bottom, y2=bottom + 4)
            self.text(self.px(tick), bottom + 17, wording.number(tick, digits=4), "tick")
        self.add("line", "axis", x1=self.left, x2=right, y1=bottom, y2=bottom)
        self.text((self.left + right) / 2, self.height - 6, self.x.label, "label")
        if y_labels and self.y.label:
            self.text(4, 13, self.y.label, "label", "start")

    def line(self, points: Sequence[tuple[Number, Number]], css: str) -> None:
        """Draw a polyline through data points."""
        path = " ".join(f"{self.px(a):.2f},{self.py(b):.2f}" for a, b in points)
        self.marks.append(f'<polyline class="line {css}" points="{path}"/>')

    def band(self, x: Sequence[Number], low: Sequence[Number], high: Sequence[Number], css: str) -> None:
        """Shade between two curves."""
        edge = [*zip(x, high), *reversed(list(zip(x, low)))]
        path = " ".join(f"{self.px(a):.2f},{self.py(b):.2f}" for a, b in edge)
        self.marks.append(f'<polygon class="band {css}" points="{path}"/>')

    def dot(self, x: Number, y: Number, css: str, tip: str, radius: Number = 3.6) -> None:
        """Draw one data point with a tooltip."""
        self.add("circle", f"dot {css}", tip, cx=self.px(x), cy=self.py(y), r=radius)

    def across(
        self, y: Number, css: str, words: str = "", anchor: str = "end", *, below: bool = False
    ) -> None:
        """Draw a horizontal reference line with its name above (or below) its right (or left) end."""
        self.add("line", f"ref {css}", x1=self.left, x2=WIDTH - _RIGHT, y1=self.py(y), y2=self.py(y))
        end = WIDTH - _RIGHT - 2 if anchor == "end" else self.left + 4
        self.text(end, self.py(y) + (14 if below else -5), words, f"note {css}", anchor)

    def upright(
        self, x: Number, css: str, words: str = "", ends: tuple[Number, Number] | None = None
    ) -> None:
        """Draw a vertical reference line, its interval as a band, and its name beside the top."""
        top, bottom = self.top, self.height - _BOTTOM
        if ends is not None:
            left, right = self.px(ends[0]), self.px(ends[1])
            self.add("rect", f"band {css}", x=left, y=top, width=max(1.0, right - left), height=bottom - top)
        self.add("line", f"ref {css}", x1=self.px(x), x2=self.px(x), y1=top, y2=bottom)
        before = self.x(x) > 0.6
        self.text(
            self.px(x) + (-6 if before else 6), bottom - 8, words, f"note {css}", "end" if before else "start"
        )

    def svg(self, key: str, title: str, description: str) -> str:
        """Return the chart as an inline ``<svg>`` with its text alternative."""
        notes = [
            mark for mark in self.marks if mark.startswith('<text class="note')
        ]  # on top of what they name
        others = [mark for mark in self.marks if not mark.startswith('<text class="note')]
        return (
            f'<svg class="chart" role="img" aria-labelledby="{key}-t {key}-d" viewBox="0 0 {WIDTH:.0f} '
            f'{self.height:.0f}" xmlns="http://www.w3.org/2000/svg"><title id="{key}-t">{escape(title)}</title>'
            f'<desc id="{key}-d">{escape(description)}</desc>{"".join(others + notes)}</svg>'
        )


@dataclass(frozen=True)
class Row:
    """One row of :func:`dot_rows`: a value with its interval.

    Attributes
    ----------
    css : str
        Series class.
    second : float or None
        A second value, drawn hollow.
    """

    name: str
    value: Number
    ends: tuple[Number | None, Number | None] | None = None
    css: str = "s1"
    second: Number | None = None


def closed(ends: tuple[Number | None, Number | None] | None) -> tuple[Number, Number] | None:
    """Return an interval whose two ends are known, else None."""
    if ends is None or ends[0] is None or ends[1] is None:
        return None
    return ends[0], ends[1]


def dot_rows(
    rows: Sequence[Row],
    label: str,
    *,
    reference: Number | None = None,
    ends: tuple[Number, Number] | None = None,
    zero: bool = True,
) -> Canvas:
    """Draw rows of dots with intervals over a common horizontal axis, with a reference band.

    Parameters
    ----------
    label : str
        Of the horizontal axis.
    reference : float, optional
        Drawn upright through all rows.
    ends : pair of float, optional
        Interval of the reference.
    zero : bool
        Whether the axis begins at zero; logarithms have none that means anything.
    """
    values = [r.value for r in rows] + [e for r in rows if r.ends for e in r.ends if e is not None]
    values += [r.second for r in rows if r.second is not None]
    longest = max(len(_short(r.name)) for r in rows)
    canvas = Canvas(
        linear_axis([*values, *([reference] if reference else []), *(ends or ())], label, zero=zero),
        Axis(-0.5, len(rows) - 0.5, ""),
        height=8 + _BOTTOM + 25.0 * len(rows),
        left=max(_LEFT, 7.4 * longest + 14),
        top=8,
    )
    canvas.grid(vertical=True, y_labels=False)
    if reference is not None:
        canvas.upright(reference, "s2", "", ends)
    for index, row in enumerate(rows):
        height = len(rows) - 1 - index
        canvas.text(canvas.left - 8, canvas.py(height) + 4, _short(row.name), "tick", "end")
        ends_of_row, at = closed(row.ends), canvas.py(height)
        if ends_of_row is not None:
            x1, x2 = (canvas.px(end) for end in ends_of_row)
            canvas.add("line", f"whisker {row.css}", x1=x1, x2=x2, y1=at, y2=at)
        if row.second is not None:
            canvas.dot(
                row.second, height, f"{row.css} hollow", f"{row.name}, corrected: {row.second:.1f}", 4.0
            )
        tip = f"{row.name}: {wording.dimension(row.value)} ({wording.interval(row.ends)})"
        canvas.dot(row.value, height, row.css, tip, 4.4)
    return canvas


def _short(name: str, most: int = 21) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def histogram(edges: Sequence[Number], counts: Sequence[Number], label: str, y_label: str) -> Canvas:
    """Draw counts over bins as bars.

    Parameters
    ----------
    edges : sequence of float, length n + 1
    """
    canvas = Canvas(linear_axis(edges, label, zero=True), linear_axis(counts, y_label, zero=True))
    canvas.grid()
    base = canvas.py(0)
    for low, high, count in zip(edges[:-1], edges[1:], counts):
        left, right, top = canvas.px(low), canvas.px(high), canvas.py(count)
        tip = f"{wording.dimension(low)} to {wording.dimension(high)}: {count:,.0f}"
        canvas.add(
            "rect", "bar s1", tip, x=left + 0.6, y=top, width=max(0.5, right - left - 1.2), height=base - top
        )
    return canvas
