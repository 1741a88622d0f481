"""What :func:`lodim.partition.groups` answers: the groups, in words, in a table and in a picture."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from lodim.plots import COLORS, new_axes
from lodim.results import Result

_AGAIN = 0.9  # of the resamples, from which on a group is clear
_NO_GROUP = "#B8B8B8"
_HUES = COLORS[:-1]  # the last is grey, as rows in no group are
_MARKERS = "o^sDv"  # one after the other where groups are more than hues
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Group(Result):
    """One group.

    Attributes
    ----------
    size, separable : int
        Rows, and those that surely belong.
    remaining : float
        Share of its density that is left in the deepest way to another group (1 for an only one).
    chance : float
        That ungrouped rows show a valley as deep.
    dimension : float
        Of its rows, at the scale of the comparison.
    repeated : float
        Share of the resamples in which it comes again.
    n_known : int or None
        Labelled rows in it; None without y.
    new : bool
        Whether it holds (almost) none of the labelled rows.
    """

    size: int
    separable: int
    remaining: float
    chance: float
    dimension: float
    repeated: float
    n_known: int | None = None
    new: bool = False


@dataclass(frozen=True)
class Peer(Result):
    """How many clusters another method makes of (a sample of) the rows, and its adjusted Rand index with the groups."""

    method: str
    n_clusters: int
    ari: float


@dataclass(frozen=True)
class Groups(Result):
    """The groups of a data set.

    Attributes
    ----------
    n_groups : int
        1 if the rows hang together.
    labels : int ndarray, shape (n_samples,)
        Group of each row, the largest is 0; -1 for rows in no group, or between them.
    separable : bool ndarray, shape (n_samples,)
        Rows that surely belong to their group; none where there is one group.
    repeated, agreement : float
        Share of the resamples that find the same number of groups, and their mean adjusted Rand index with
        ``labels``.
    p_value : float
        Chance that ungrouped rows show a valley as deep: as the shallowest that parts groups, or as the deepest one
        if none does.
    groups : tuple of Group
    depths : ndarray
        Of all valleys between parts of at least ``least`` rows, the deepest first, in nats of density.
    threshold : float
        Depth from which a valley parts groups.
    dimension : float
        Of the rows, measured from the k-th to the 2k-th neighbour, or as given.
    k, least : int
        Neighbours that a density rests on, and rows that a group needs.
    n_used : int
        Different rows that were measured.
    told_by : str
        A column that alone puts nearly all rows into their groups, or an empty text.
    told_by_values : bool
        Whether it does so by the few values it has, such as those of a category.
    ari_classes, accuracy : float or None
        Agreement of the groups with the classes of the labelled rows; None without y.
    beside : tuple of Peer
        What other methods say, where asked for.
    rows, coordinates : ndarray, shape (n_used,) and (n_used, 2)
        For the picture: rows measured, and where they lie in a plane.
    """

    n_groups: int
    labels: Int[np.ndarray, " n_samples"]
    separable: Bool[np.ndarray, " n_samples"]
    repeated: float
    agreement: float
    n_resamples: int
    p_value: float
    groups: tuple[Group, ...]
    depths: Float[np.ndarray, " n_valleys"]
    threshold: float
    level: float
    dimension: float
    k: int
    least: int
    n_used: int
    rows: Int[np.ndarray, " n_used"]
    coordinates: Float[np.ndarray, "n_used 2"]
    told_by: str = ""
    told_by_values: bool = False
    ari_classes: float | None = None
    accuracy: float | None = None
    beside: tuple[Peer, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def n_clear(self) -> int:
        """Groups that come again in nine tenths of the resamples; 0 where there is one."""
        return sum(group.repeated >= _AGAIN for group in self.groups) if self.n_groups > 1 else 0

    @property
    def new_groups(self) -> tuple[int, ...]:
        """Groups that hold (almost) none of the labelled rows."""
        return tuple(i for i, group in enumerate(self.groups) if group.new)

    def to_frame(self) -> Any:
        """Return the groups as a data frame, one a row."""
        import pandas as pd

        return pd.DataFrame([group.to_dict() for group in self.groups]).rename_axis("group")

    @property
    def verdict(self) -> str:
        """The answer in one sentence."""
        if self.n_groups == 1:
            if self.k == 0:
                return "No groups that the data can show: there are too few different rows."
            if not len(self.depths):
                return f"No groups that the data can show: no valley parts {self.least} rows or more from the rest."
            return (
                f"No groups that the data can show: the deepest valley leaves {_share(math.exp(-self.depths[0]))} of "
                f"the lower summit's density, and ungrouped rows show one as deep {_often(self.p_value)}."
            )
        stable = f"that repeat on {_share(self.repeated)} of resamples"
        if self.n_clear < self.n_groups or self.repeated < _AGAIN:
            again = f"{_count(self.n_clear) if self.n_clear else 'none'} of which come{'s' * (self.n_clear == 1)} again"
            stable = f"in this sample, {again} in nine of ten resamples"
        sizes = ", ".join(f"{group.size:,}" for group in self.groups[:6])
        if self.n_groups > 6:
            sizes += f" and {self.n_groups - 6} smaller"
        return (
            f"{_count(self.n_groups).capitalize()} groups {stable}: {sizes} of {len(self.labels):,} rows, "
            f"{int(self.separable.sum()):,} of which surely belong."
        )

    def __str__(self) -> str:
        lines = [self.verdict]
        if self.n_groups > 1:
            most = max(group.remaining for group in self.groups)
            lines.append(
                f"Between them at most {_share(most)} of a group's density is left (in {self.dimension:.1f} dimensions "
                f"by {self.k} neighbours); ungrouped rows show such a valley {_often(self.p_value)}."
            )
        if self.told_by:
            lines.append(
                f"They are the values of {self.told_by!r}: nothing to discover."
                if self.told_by_values
                else f"One column alone tells them apart: {self.told_by!r}."
            )
        if self.ari_classes is not None and self.n_groups > 1:
            lines.append(
                f"With the classes: adjusted Rand index {self.ari_classes:.2f}, accuracy {self.accuracy:.2f} under the "
                "best naming."
            )
        for i in self.new_groups:
            group = self.groups[i]
            lines.append(f"Group {i} is new: {group.n_known} of its {group.size:,} rows are labelled.")
        for peer in self.beside:
            agrees = f" (adjusted Rand index {peer.ari:.2f})" if self.n_groups > 1 else ""
            lines.append(f"Beside: {peer.method} says {peer.n_clusters}{agrees}.")
        return "\n".join([*lines, *self.notes])

    def plot(self, ax: Any = None) -> Any:
        """Draw the rows in a plane, those that surely belong strong, and the valleys against the threshold."""
        ax = new_axes(ax, figsize=(8.0, 4.2))
        labels, sure = self.labels[self.rows], self.separable[self.rows]
        x, y = self.coordinates.T
        for g in range(-1, self.n_groups):
            color = _NO_GROUP if g < 0 else _HUES[g % len(_HUES)]
            marker = _MARKERS[max(g, 0) // len(_HUES) % len(_MARKERS)]
            for strong in (False, True):
                some = (labels == g) & (sure == strong)
                alpha = 0.85 if strong else 0.3 if self.n_groups > 1 else 0.5
                name = f"{g}: {self.groups[g].size:,} rows" if strong and g >= 0 else None
                ax.scatter(
                    x[some], y[some], s=9, color=color, marker=marker, alpha=alpha, linewidths=0, label=name
                )
        if 1 < self.n_groups <= 2 * len(_HUES):
            ax.legend(loc="best", markerscale=1.6, title="group")
        ax.set(xticks=[], yticks=[], title=textwrap.fill(self.verdict.partition(":")[0], 60))
        bars = ax.inset_axes((1.08, 0.0, 0.36, 1.0))
        shown = self.depths[:12]
        bars.barh(
            range(len(shown)), shown, color=[COLORS[0] if d >= self.threshold else _NO_GROUP for d in shown]
        )
        bars.axvline(self.threshold, color=COLORS[1], linestyle="--", linewidth=1.4)
        bars.set(
            yticks=[],
            xlabel="depth of valleys, nats\ndashed: what parts groups",
            title="against chance",
            ylim=(11.6, -0.6),
        )
        return ax


def _count(n: int) -> str:
    return _WORDS[n] if n < len(_WORDS) else f"{n:,}"


def _share(x: float) -> str:
    return f"{100 * x:.2g} %" if x < 0.1 else f"{100 * x:.0f} %"


def _often(p: float) -> str:
    return "in less than one of 1,000 cases" if p < 1e-3 else f"in {_share(p)} of cases"
