"""What :func:`lodim.representation.compare` answers: two models' layers beside each other, and beside chance."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from lodim.pages import words
from lodim.plots import COLORS, new_axes, style
from lodim.results import Result

__all__ = ["MEASURES", "Comparison", "LayerPair"]

LEVEL = 0.05
MEASURES = {
    "cka": "CKA",
    "procrustes": "Procrustes",
    "neighbours": "neighbours",
    "one_to_one": "one-to-one",
    "semi": "semi",
    "soft": "soft",
}


@dataclass(frozen=True)
class LayerPair(Result):
    """A layer of model a beside one of model b. All measures are 1 for layers that are the same.

    Attributes
    ----------
    layer_a, layer_b : str
    units_a, units_b : int
        Channels of a map, features of a token.
    dead_a, dead_b : int
        Units among them that never vary.
    rows_per_sample : int
        Places of a map at which units were matched; 1 where the two layers' places differ, of which means were taken.
    scores : dict of str to float
        ``cka``: debiased centred kernel alignment. ``one_to_one``, ``semi``, ``soft``: mean correlation of a's live
        units with their partners, each partner taken once, any number of times, or shared out. These on all samples;
        on the samples kept: ``procrustes``, the cosine of the angular Procrustes distance, and ``neighbours``, the
        share of nearest samples that are the same. NaN where undefined.
    shuffled : dict of str to float
        Mean when one model's samples are shuffled, on the samples kept; with more samples chance gives less.
    p_values : dict of str to float
        Share of shuffles that come as close as the samples kept do in their true order, which counts itself.
    adjusted : dict of str to float
        The same for all measures of all pairs read together (Westfall and Young's single-step maximum).
    scrambled : dict of str to float
        The scores of layer_a and a layer_b whose weights, and those below it, stand in random order: what the
        architecture and the data alone bring about. Empty if not asked for.
    dimension_a, dimension_b : float
        Intrinsic dimension of the samples kept (TwoNN); NaN where the samples are too few or equal.
    interval_a, interval_b : tuple of float, or None
        Percentile bootstrap over samples: that sample's doubt alone.
    note : str
    """

    layer_a: str
    layer_b: str
    units_a: int
    units_b: int
    dead_a: int
    dead_b: int
    rows_per_sample: int
    scores: dict[str, float]
    shuffled: dict[str, float]
    p_values: dict[str, float]
    adjusted: dict[str, float]
    scrambled: dict[str, float]
    dimension_a: float
    dimension_b: float
    interval_a: tuple[float, float] | None
    interval_b: tuple[float, float] | None
    note: str = ""

    @property
    def name(self) -> str:
        """The layers' names, one if they have the same."""
        return self.layer_a if self.layer_a == self.layer_b else f"{self.layer_a} | {self.layer_b}"

    def told(self, measure: str) -> bool:
        """Whether the measure is told from chance, all measures of all pairs read together at 5 %."""
        return self.adjusted.get(measure, math.nan) <= LEVEL


@dataclass(frozen=True)
class Comparison(Result):
    """Two models' layers beside each other: the answer of :func:`lodim.representation.compare`.

    Print it, or :meth:`plot` it. :meth:`to_frame` has a row for each measure of each pair of layers.

    Attributes
    ----------
    layers_a, layers_b : tuple of str
        In the order in which they run.
    cka : ndarray, shape (A, B)
        Debiased CKA of all layers of a with all layers of b; NaN where undefined.
    pairs : tuple of LayerPair
    n_samples : int
        Samples seen.
    n_kept : int
        A uniform sample of them, for shuffles, neighbours, Procrustes and the intrinsic dimension.
    n_shuffles : int
    n_neighbors : int
    notes : tuple of str
    complete : bool
        False if the run was interrupted: then this is what was known.
    """

    layers_a: tuple[str, ...]
    layers_b: tuple[str, ...]
    cka: Float[np.ndarray, "A B"]
    pairs: tuple[LayerPair, ...]
    n_samples: int
    n_kept: int
    n_shuffles: int
    n_neighbors: int
    notes: tuple[str, ...] = ()
    complete: bool = True

    @property
    def _enough(self) -> bool:
        """Whether the smallest p-value there can be is small enough."""
        return 1 / (self.n_shuffles + 1) <= LEVEL

    @property
    def verdict(self) -> str:
        """What the figures say, in a few sentences."""
        unclear = [p.name for p in self.pairs if not any(p.told(m) for m in MEASURES)]
        count = words.plural(len(self.pairs), "pair of layers", "pairs of layers")
        if not self.n_shuffles:
            said = ["No shuffle was made, so that nothing is said of chance."]
        elif not self._enough:
            count = words.plural(self.n_shuffles, "shuffle")
            said = [f"After {count} nothing can be told from chance at 5 %: that takes 19 at least."]
        elif not unclear:
            said = [f"Each of {count} is told from shuffled samples by some measure."]
        elif len(unclear) == len(self.pairs):
            said = [
                f"None of {count} is told from shuffled samples: the data cannot tell the models from unrelated ones."
            ]
        else:
            said = [f"Of {count} the data do not tell from shuffled samples: {', '.join(unclear)}."]
        related = [p for p in self.pairs if p.told("cka")]
        if related:
            low = min(related, key=lambda p: p.scores["cka"])
            high = max(related, key=lambda p: p.scores["cka"])
            ends = [_score(pair.scores["cka"]) for pair in (low, high)]
            between = f"between {ends[0]} ({low.name}) and {ends[1]} ({high.name})"
            said.append(f"CKA is {between if ends[0] != ends[1] else ends[0]}.")
        compared = [p for p in related if math.isfinite(p.scrambled.get("cka", math.nan))]
        if compared:
            ahead = sum(p.scores["cka"] > p.scrambled["cka"] for p in compared)
            gap = float(np.median([p.scores["cka"] - p.scrambled["cka"] for p in compared]))
            rest = (
                f"by {_score(gap)} in the median: the rest is the architecture's and the data's."
                if round(gap, 2) > 0
                else "and not in the median: the architecture and the data alone bring about as much."
            )
            said.append(f"It is higher than with b's weights scrambled in {ahead} of {len(compared)}, {rest}")
        if not self.complete:
            said.append("The run was interrupted; this is what was known by then.")
        return " ".join(said)

    def to_frame(self) -> Any:
        """Return one row for each measure of each pair, with chance, p-values and the scrambled model's score."""
        import pandas as pd

        rows = [
            (
                pair.layer_a, pair.layer_b, measure, score, pair.shuffled.get(measure, math.nan),
                pair.p_values.get(measure, math.nan), pair.adjusted.get(measure, math.nan),
                pair.scrambled.get(measure, math.nan),
            )
            for pair in self.pairs
            for measure, score in pair.scores.items()
        ]  # fmt: skip
        names = "layer_a layer_b measure score shuffled p_value p_adjusted scrambled"
        return pd.DataFrame(rows, columns=names.split())

    def __str__(self) -> str:
        header = ["layer", *MEASURES.values(), "dimension a | b"]
        rows = []
        for pair in self.pairs:
            doubt = {m for m, p in pair.adjusted.items() if p > LEVEL and self._enough}
            marks = ("?" if m in doubt else "" for m in MEASURES)
            scores = (_score(pair.scores.get(m, math.nan)) + mark for m, mark in zip(MEASURES, marks))
            dimension = f"{words.dimension(pair.dimension_a)} | {words.dimension(pair.dimension_b)}"
            rows.append([words.short(pair.name, 40), *scores, dimension])
            for name, beside in (("  shuffled", pair.shuffled), ("  scrambled", pair.scrambled)):
                if beside:
                    rows.append([name, *(_score(beside.get(m, math.nan)) for m in MEASURES), ""])
        lines = textwrap.wrap(self.verdict, 98)
        lines += ["", words.table(header, rows), ""]
        kept = f"{self.n_kept:,} of them kept for shuffles, Procrustes, neighbours and dimension"
        seen = f"{words.plural(self.n_samples, 'sample')}, {kept}"
        told = "; ? marks what is not told from chance" if self._enough else ""
        told += ". 1 is the same in all measures; the dimension is the intrinsic one (TwoNN)."
        lines += textwrap.wrap(f"{seen}; {words.plural(self.n_shuffles, 'shuffle')}{told}", 98)
        notes = [*self.notes, *(f"{pair.name}: {pair.note}" for pair in self.pairs if pair.note)]
        for note in notes:
            lines += textwrap.wrap(note, 98, initial_indent="! ", subsequent_indent="  ")
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> Any:
        """Draw the measures along the pairs of layers: points, beside them shuffled (x) and scrambled (lines).

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            None: a figure of its own, with the CKA of all pairs of layers beside it (:meth:`plot_cka`).
        """
        if ax is None:
            import matplotlib.pyplot as plt

            with style():
                _, (ax, right) = plt.subplots(1, 2, figsize=(11.0, 4.4), layout="constrained")
            self.plot_cka(right)
        places = np.arange(len(self.pairs))
        for color, (measure, label) in zip(COLORS, MEASURES.items()):
            mark = "s--" if measure == "soft" else "o-"  # where it is the one-to-one matching, both are seen
            for beside, drawn, options in (
                ("scores", mark, {"label": label, "markersize": 3.5 if measure == "soft" else 5.5}),
                ("shuffled", "x", {"alpha": 0.6}),
                ("scrambled", ":", {"linewidth": 1.0}),
            ):
                values = [getattr(pair, beside).get(measure, math.nan) for pair in self.pairs]
                ax.plot(places, values, drawn, color=color, **options)
        ax.plot([], [], "x", color=COLORS[-1], label="samples shuffled")
        if any(p.scrambled for p in self.pairs):
            ax.plot([], [], ":", color=COLORS[-1], label="weights scrambled")
        names = [words.short(p.name, 24) for p in self.pairs]
        ax.set_xticks(places, names, rotation=0 if sum(map(len, names)) < 60 else 90)
        ax.set(ylabel="likeness (1: the same)", ylim=(None, 1.03), xlabel="layers of a and b")
        ax.legend(fontsize=8, ncols=4, loc="lower left", bbox_to_anchor=(-0.02, 1.0))
        return ax

    def plot_cka(self, ax: Any = None) -> Any:
        """Draw the debiased CKA of all layers of a with all layers of b, the pairs of the table framed."""
        ax = new_axes(ax)
        image = ax.imshow(
            np.clip(self.cka, 0, 1), vmin=0, vmax=1, cmap="cividis", origin="lower", aspect="auto"
        )
        ax.grid(False)
        for axis, names in ((ax.xaxis, self.layers_b), (ax.yaxis, self.layers_a)):
            axis.set_ticks(range(len(names)), [words.short(name, 24) for name in names])
        ax.tick_params(axis="x", rotation=90 if sum(map(len, self.layers_b)) > 40 else 0)
        for pair in self.pairs:
            corner = self.layers_b.index(pair.layer_b) - 0.5, self.layers_a.index(pair.layer_a) - 0.5
            from matplotlib.patches import Rectangle

            ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=COLORS[1], linewidth=1.4))
        if self.cka.size <= 64:
            for i, j in np.ndindex(self.cka.shape):
                shade = "black" if self.cka[i, j] > 0.55 else "white"
                ax.text(
                    j, i, _score(float(self.cka[i, j])), ha="center", va="center", color=shade, fontsize=8
                )
        ax.figure.colorbar(image, ax=ax, label="debiased CKA")
        ax.set(xlabel="layers of b", ylabel="layers of a", title="all pairs of layers")
        return ax


def _score(x: float) -> str:
    return "–" if math.isnan(x) else f"{x:.2f}".replace("-0.00", "0.00")
