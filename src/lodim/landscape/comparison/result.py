"""What a comparison at equal bytes found: :class:`Comparison`, its table and its picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import sem
from scipy.stats import t as student

from lodim.plots import COLORS, new_axes
from lodim.results import Result

__all__ = ["Comparison", "Spending", "mean_and_interval"]

_MARKERS = "osD^vPX<>*"


@dataclass(frozen=True)
class Spending(Result):
    """One trained model, stored in at most ``budget`` bytes.

    Attributes
    ----------
    way : str
        How the bytes are spent.
    setting : str
        Its setting at this budget, such as ``"d = 500"`` or ``"3 bits"``.
    budget : int
        Bytes allowed.
    n_bytes : int
        Bytes of what has to be kept to have the model again, given the program and the origin.
    n_numbers : int
        Trained numbers behind them.
    score, train_score : float
        Of the model rebuilt from those bytes.
    lr : float
        Learning rate as for direct training: the one given times the multiplier chosen for the way (subspaces scale it
        by ``sqrt(D/d)`` besides).
    seconds : float
        Of training and packing.
    """

    way: str
    setting: str
    budget: int
    n_bytes: int
    n_numbers: int
    seed: int
    score: float
    train_score: float
    lr: float
    seconds: float


def mean_and_interval(values: Sequence[float], ci: float) -> tuple[float, float, float]:
    """Return the mean and the ends of its Student-t interval of coverage ``ci`` (NaN from one value)."""
    mean = float(np.mean(values))
    half = math.nan if len(values) < 2 else float(student.ppf((1 + ci) / 2, len(values) - 1) * sem(values))
    return mean, mean - half, mean + half


@dataclass(frozen=True)
class Comparison(Result):
    """Score against bytes, for every way that was tried.

    Attributes
    ----------
    spendings : tuple of Spending
        One a way, budget and seed.
    dense : tuple of float
        Scores of the whole model, trained freely and kept in single precision; one a seed.
    dense_bytes : int
        Bytes of its weights.
    too_small : dict of str to int
        The least bytes that a way can do with, for the ways that did not fit some of the budgets.
    failed : dict of str to str
        Why a way is missing.
    ci : float
        Nominal coverage of the intervals over seeds.
    """

    spendings: tuple[Spending, ...]
    dense: tuple[float, ...]
    dense_bytes: int
    score_name: str
    too_small: dict[str, int]
    failed: dict[str, str]
    notes: tuple[str, ...] = ()
    ci: float = 0.95

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways that were tried, in their order."""
        return tuple(dict.fromkeys(s.way for s in self.spendings))

    def to_frame(self) -> Any:
        """Return a data frame, one row a way and budget: setting, bytes, mean score with interval, runs, seconds."""
        import pandas as pd

        rows = []
        for way in self.ways:
            for group in self._by_budget(way):
                mean, low, high = mean_and_interval([s.score for s in group], self.ci)
                rows.append(
                    {
                        "way": way,
                        "budget": group[0].budget,
                        "setting": group[0].setting,
                        "bytes": round(float(np.mean([s.n_bytes for s in group]))),
                        "score": mean,
                        "low": low,
                        "high": high,
                        "runs": len(group),
                        "seconds": float(np.mean([s.seconds for s in group])),
                    }
                )
        return pd.DataFrame(rows)

    def best(self, budget: int) -> Spending:
        """Return a run of the way with the best mean score that fits the budget in bytes; ValueError if none does."""
        groups = [g for way in self.ways for g in self._by_budget(way) if max(s.n_bytes for s in g) <= budget]
        if not groups:
            least = min((s.n_bytes for s in self.spendings), default=0)
            raise ValueError(f"nothing fits {budget} bytes; the smallest model here has {least}")
        group = max(groups, key=lambda g: float(np.mean([s.score for s in g])))
        return max(group, key=lambda s: s.score)

    def plot(self, ax: Any = None) -> Any:
        """Draw mean score against bytes (logarithmic), with intervals over seeds; return the axes.

        The picture shows the range of the scores; intervals of few seeds may reach beyond it.
        """
        ax = new_axes(ax, figsize=(7.2, 4.4))
        if self.dense:
            mean, low, high = mean_and_interval(self.dense, self.ci)
            ax.axhline(
                mean, color="0.45", linestyle="--", linewidth=1.2, label=f"dense, {_size(self.dense_bytes)}"
            )
            if math.isfinite(low):
                ax.axhspan(low, high, color="0.45", alpha=0.12, linewidth=0)
        frame = self.to_frame()
        for index, way in enumerate(self.ways):
            rows = frame[frame["way"] == way].sort_values("bytes")
            spread = np.nan_to_num((rows["high"] - rows["low"]).to_numpy() / 2)
            ax.errorbar(
                rows["bytes"],
                rows["score"],
                yerr=spread,
                marker=_MARKERS[index % len(_MARKERS)],
                color=COLORS[index % len(COLORS)],
                linestyle="-" if index < len(COLORS) else ":",
                linewidth=1.5,
                capsize=2,
                label=way,
            )
        scores = [
            score for score in (*self.dense, *(s.score for s in self.spendings)) if math.isfinite(score)
        ]
        if scores:
            margin = 0.1 * (max(scores) - min(scores)) or 0.1
            ax.set_ylim(min(scores) - margin, max(scores) + margin)
        ax.set_xscale("log")
        ax.set(xlabel="bytes kept, given the program and the origin", ylabel=self.score_name)
        ax.legend(fontsize=8, ncols=2)
        return ax

    def __str__(self) -> str:
        import pandas as pd

        budgets = sorted({s.budget for s in self.spendings})
        cells = {_size(b): [self._cell(way, b) for way in self.ways] for b in budgets}
        table = pd.DataFrame(cells, index=list(self.ways)).to_string()
        dense = mean_and_interval(self.dense, self.ci)[0] if self.dense else math.nan
        lines = [f"{self.score_name} at equal bytes; dense: {dense:.3f} in {_size(self.dense_bytes)}", table]
        if "-" in set().union(*cells.values()):
            lines.append("-: too few bytes, or no larger setting than at the budget before")
        lines += [f"{way}: needs at least {_size(least)}" for way, least in self.too_small.items()]
        lines += [f"{way} is missing: {why}" for way, why in self.failed.items()]
        return "\n".join([*lines, *self.notes])

    def _by_budget(self, way: str) -> list[list[Spending]]:
        mine = [s for s in self.spendings if s.way == way]
        return [[s for s in mine if s.budget == b] for b in sorted({s.budget for s in mine})]

    def _cell(self, way: str, budget: int) -> str:
        scores = [s.score for s in self.spendings if s.way == way and s.budget == budget]
        if not scores:
            return "-"
        mean, low, high = mean_and_interval(scores, self.ci)
        return f"{mean:.3f}" if math.isnan(low) else f"{mean:.3f} ±{(high - low) / 2:.3f}"


def _size(n_bytes: float | int) -> str:
    """Write a number of bytes: 850 B, 12.3 kB, 45.6 MB."""
    for unit, factor in (("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.3g} {unit}"
    return f"{n_bytes:.0f} B"
