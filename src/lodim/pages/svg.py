"""Pictures as inline SVG: small and quiet, in the page's colours (dark mode included), without a script.

Colours, line styles and text sizes come from CSS classes (see ``templates/page.css``): ``s1``..``s4`` are series,
``rule`` the grid. Every picture is one ``<svg role="img">`` with a ``<title>`` and a ``<desc>``, and its marks carry
native tooltips. Coordinates are those of a 420-unit wide canvas: legible on a phone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from lodim.pages.picture import Across, Band, Bar, Dot, Line, Mark, Picture, Upright, Whisker
from lodim.pages.words import Number

_WIDTH, _RIGHT, _MARGIN, _BOTTOM = 420.0, 406.0, 46.0, 42.0
_ROW, _CHARACTER = 25.0, 7.4  # height of a row, width of a letter of its name


def svg(picture: Picture) -> str:
    """Return the picture as an inline ``<svg>`` with its text alternative."""
    frame = _frame(picture)
    drawn = [_mark(mark, frame) for mark in picture.marks]
    shapes = "".join(shape for shape, _ in drawn)
    names = "".join(name for _, name in drawn)  # last, since they are read on top of everything
    key = picture.key
    return (
        f'<svg class="chart" role="img" aria-labelledby="{key}-t {key}-d" viewBox="0 0 {_WIDTH:.0f} '
        f'{frame.height:.0f}" xmlns="http://www.w3.org/2000/svg"><title id="{key}-t">{escape(picture.title)}</title>'
        f'<desc id="{key}-d">{escape(picture.shows)}</desc>{_axes(picture, frame)}{shapes}{names}</svg>'
    )


@dataclass(frozen=True)
class _Frame:
    """Where the plot lies on the canvas; ``px`` and ``py`` take values of the axes to canvas coordinates."""

    left: Number
    top: Number
    bottom: Number
    px: Callable[[Number], Number]
    py: Callable[[Number], Number]

    @property
    def height(self) -> Number:
        return self.bottom + _BOTTOM


def _frame(picture: Picture) -> _Frame:
    left, top, bottom = _MARGIN, 30.0, 238.0
    if picture.y.names:  # as high as the rows, with room for their names
        left = max(_MARGIN, _CHARACTER * max(map(len, picture.y.names)) + 14)
        top, bottom = 8.0, 8 + _ROW * len(picture.y.names)
    elif not picture.y.ticks:  # a strip: only the horizontal axis means anything
        top, bottom = 10.0, 70.0
    return _Frame(
        left,
        top,
        bottom,
        px=lambda value: left + picture.x(value) * (_RIGHT - left),
        py=lambda value: bottom - picture.y(value) * (bottom - top),
    )


def _axes(picture: Picture, frame: _Frame) -> str:
    """Rules, ticks and labels: rules follow the ticks of the axis that is read, names have none."""
    left, top, bottom, px, py = frame.left, frame.top, frame.bottom, frame.px, frame.py
    parts = []
    for tick, words in picture.y.labelled:
        if picture.y.names:
            parts.append(_text(left - 8, py(tick) + 4, words, "tick", "end"))
        else:
            parts.append(_tag("line", "rule", x1=left, x2=_RIGHT, y1=py(tick), y2=py(tick)))
            parts.append(_text(left - 6, py(tick) + 4, words, "tick", "end"))
    for tick, words in picture.x.labelled:
        at = px(tick)
        if picture.y.names:
            parts.append(_tag("line", "rule", x1=at, x2=at, y1=top, y2=bottom))
        parts.append(_tag("line", "axis", x1=at, x2=at, y1=bottom, y2=bottom + 4))
        parts.append(_text(at, bottom + 17, words, "tick"))
    parts.append(_tag("line", "axis", x1=left, x2=_RIGHT, y1=bottom, y2=bottom))
    parts.append(_text((left + _RIGHT) / 2, frame.height - 6, picture.x.label, "label"))
    if picture.y.label:
        parts.append(_text(4, 13, picture.y.label, "label", "start"))
    return "".join(parts)


def _mark(mark: Mark, frame: _Frame) -> tuple[str, str]:
    """One mark as its shape and, where it has one, its name."""
    left, top, bottom, px, py = frame.left, frame.top, frame.bottom, frame.px, frame.py
    css = f"s{mark.series}"
    match mark:
        case Line(points):
            return f'<polyline class="line {css}" points="{_path(points, frame)}"/>', ""
        case Band(x, low, high):
            edge = [*zip(x, high), *reversed(list(zip(x, low)))]
            zone = " zone" * mark.zone
            return f'<polygon class="band {css}{zone}" points="{_path(edge, frame)}"/>', ""
        case Dot(x, y, tip):
            kind = css + " hollow" * mark.hollow + " chosen" * mark.chosen
            return _tag("circle", f"dot {kind}", tip, cx=px(x), cy=py(y), r=mark.size), ""
        case Bar(low, high, height, tip):
            x, y, width = px(low) + 0.6, py(height), max(0.5, px(high) - px(low) - 1.2)
            return _tag("rect", f"bar {css}", tip, x=x, y=y, width=width, height=py(0) - y), ""
        case Whisker(low, high, y):
            return _tag("line", f"whisker {css}", x1=px(low), x2=px(high), y1=py(y), y2=py(y)), ""
        case Across(y, name):
            line = _tag("line", f"ref {css}", x1=left, x2=_RIGHT, y1=py(y), y2=py(y))
            above = 14 if mark.below else -5
            return line, _text(left + 4, py(y) + above, name, f"note {css}", "start")
        case Upright(x, name, ends):
            at, band = px(x), ""
            if ends is not None:
                low, high = px(ends[0]), px(ends[1])
                width = max(1.0, high - low)
                band = _tag("rect", f"band {css}", x=low, y=top, width=width, height=bottom - top)
            line = _tag("line", f"ref {css}", x1=at, x2=at, y1=top, y2=bottom)
            side, anchor = (-6, "end") if at > left + 0.6 * (_RIGHT - left) else (6, "start")
            return band + line, _text(at + side, bottom - 8, name, f"note {css}", anchor)


def _path(points: Sequence[tuple[Number, Number]], frame: _Frame) -> str:
    return " ".join(f"{frame.px(a):.2f},{frame.py(b):.2f}" for a, b in points)


def _tag(tag: str, css: str, tip: str = "", **attributes: Number) -> str:
    body = " ".join(f'{name}="{value:.2f}"' for name, value in attributes.items())
    inside = f"<title>{escape(tip)}</title>" if tip else ""
    return f'<{tag} class="{css}" {body}>{inside}</{tag}>'


def _text(x: Number, y: Number, words: str, css: str, anchor: str = "middle") -> str:
    if not words:
        return ""
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
