"""Pictures with matplotlib, for papers and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lodim import plots
from lodim.pages.picture import Across, Band, Bar, Dot, Line, Mark, Picture, Upright, Whisker

_COLORS = dict(zip((1, 2, 3, 4), plots.COLORS))
_WIDTH, _ROW = 5.2, 0.26  # inches: of a picture, and of a row with a name
_POINTS = 1.6  # markers are given by their diameter in points


def figure_of(pictures: Sequence[Picture]) -> Any:
    """Draw the pictures, of which there must be one, side by side and return the figure."""
    from matplotlib.figure import Figure

    if not pictures:
        raise ValueError("there is nothing to draw (was the run interrupted?)")
    columns = min(2, len(pictures))
    lines = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    heights = [max(map(_height, line)) for line in lines]
    with plots.style():
        figure = Figure(figsize=(_WIDTH * columns, sum(heights)), layout="constrained")
        grid = figure.add_gridspec(len(lines), columns, height_ratios=heights)
        for i, line in enumerate(lines):
            for j, picture in enumerate(line):
                draw(figure.add_subplot(grid[i, j]), picture)
    return figure


def _height(picture: Picture) -> float:
    plot = 2.2 if picture.y.ticks else 1.0  # a strip has one axis only
    return max(plot, _ROW * len(picture.y.names)) + 0.9 + 0.2 * len(picture.legend)


def draw(ax: Any, picture: Picture) -> None:
    """Draw one picture on a pair of axes."""
    from matplotlib.lines import Line2D
    from matplotlib.transforms import ScaledTranslation

    x, y = picture.x, picture.y
    ax.set_title(picture.title, pad=12)
    ax.set(xlabel=x.label, ylabel=y.label)
    ax.set(xscale="log" if x.log else "linear", yscale="log" if y.log else "linear")
    for axis, target in ((x, ax.xaxis), (y, ax.yaxis)):
        target.set_ticks([tick for tick, _ in axis.labelled], [words for _, words in axis.labelled])
    ax.minorticks_off()
    ax.set(xlim=(x.low, x.high), ylim=(y.low, y.high))
    ax.xaxis.grid(bool(y.names))
    ax.yaxis.grid(not y.names)
    for mark in picture.marks:
        _mark(ax, mark, picture)
    if picture.legend:
        hollow: dict[str, Any] = {"linestyle": "none", "marker": "o", "fillstyle": "none"}
        handles = [
            Line2D([], [], color=_COLORS[key.series], linewidth=3, **(hollow if key.hollow else {}))
            for key in picture.legend
        ]
        words = [key.words for key in picture.legend]
        below = ax.transAxes + ScaledTranslation(0, -0.45, ax.figure.dpi_scale_trans)  # of the axis' label
        ax.legend(
            handles, words, loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=below, fontsize="small"
        )


def _mark(ax: Any, mark: Mark, picture: Picture) -> None:
    color = _COLORS[mark.series]
    style: dict[str, Any] = {"color": color, "fontsize": "small"}  # of names
    match mark:
        case Line(points):
            ax.plot([x for x, _ in points], [picture.y.inside(y) for _, y in points], color=color)
        case Band(x, low, high):
            ax.fill_between(x, low, high, color=color, alpha=0.3 if mark.zone else 0.13, linewidth=0)
        case Dot(x, y):
            fill = "white" if mark.hollow else color
            edge = _COLORS[2] if mark.chosen else color if mark.hollow else "white"
            at = picture.x.inside(x), picture.y.inside(y)
            size, width = _POINTS * mark.size, 1.5 if mark.hollow or mark.chosen else 0.6
            ax.plot(*at, "o", color=fill, markeredgecolor=edge, markersize=size, markeredgewidth=width)
        case Bar(low, high, height):
            ax.bar(low, height, 0.92 * (high - low), align="edge", color=color)
        case Whisker(low, high, y):
            ax.plot([low, high], [y, y], color=color, alpha=0.55, linewidth=2.2)
        case Across(y, name):
            ax.axhline(y, color=color, linestyle="--", linewidth=1.2)
            at, above = (0, y), (4, -11 if mark.below else 3)
            ax.annotate(name, at, above, ("axes fraction", "data"), "offset points", **style)
        case Upright(x, name, ends):
            if ends is not None:
                ax.axvspan(*ends, color=color, alpha=0.13, linewidth=0)
            ax.axvline(x, color=color, linestyle="--", linewidth=1.2)
            at, (beside, side) = (x, 0), ((-4, 4), "right") if picture.x(x) > 0.6 else ((4, 4), "left")
            ax.annotate(name, at, beside, ("data", "axes fraction"), "offset points", ha=side, **style)
