"""One plotting style: quiet axes, a colour-blind-safe palette, figures that read in print and on a phone.

Matplotlib is imported on first use, and drawn without pyplot's global state: a figure made here is the caller's.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

__all__ = ["COLORS", "mark_value", "new_axes", "style"]

# Okabe and Ito (2008): distinguishable with every common colour-vision deficiency.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B6B6B")

_STYLE: dict[Any, Any] = {
    "figure.figsize": (6.0, 3.8),
    "figure.dpi": 110,
    "savefig.bbox": "tight",
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.0,
    "legend.frameon": False,
}


def style() -> AbstractContextManager[None]:
    """Return a context manager under which figures take lodim's style."""
    import matplotlib as mpl
    from cycler import cycler

    return mpl.rc_context({**_STYLE, "axes.prop_cycle": cycler(color=COLORS)})


def new_axes(ax: Any = None, *, figsize: tuple[float, float] | None = None) -> Any:
    """Return ``ax``, or fresh axes on a figure of its own.

    Parameters
    ----------
    ax : matplotlib.axes.Axes, optional
    figsize : tuple of float, optional
        Width and height in inches of a fresh figure.
    """
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    with style():
        _, ax = plt.subplots(figsize=figsize, layout="constrained")
    return ax


def mark_value(
    ax: Any, x: float, interval: tuple[float, float] | None, label: str, color: str = COLORS[1]
) -> None:
    """Mark a value on the horizontal axis, with its interval as a band.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    interval : tuple of float or None
        Drawn as a band where both ends are known.
    label : str
        For the legend.
    """
    ax.axvline(x, color=color, linestyle="--", linewidth=1.4, label=label)
    if interval is not None and all(end == end and abs(end) != float("inf") for end in interval):
        ax.axvspan(*interval, color=color, alpha=0.15, linewidth=0)
