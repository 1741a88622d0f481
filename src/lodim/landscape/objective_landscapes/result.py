"""What a measurement of the landscape's dimension found: a verdict, the runs behind it, and their picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lodim.landscape.crossing import isotonic_fit
from lodim.plots import COLORS, mark_value, new_axes
from lodim.results import Result

__all__ = ["LandscapeResult", "RunRecord"]


@dataclass(frozen=True)
class RunRecord(Result):
    """One training run.

    Attributes
    ----------
    d : int
        Numbers that were trained (D for direct training).
    seed : int
        Gives the initial weights, the subspace and the order of the data together.
    score, train_score : float
        On the validation and the training data; NaN if the run diverged.
    steps : int
        Optimiser steps.
    lr : float
        Learning rate as used.
    multiplier : float
        The factor on the learning rate of direct training, apart from the scaling with d.
    seconds : float
        Of this run; a share of the wave's time where many ran together.
    stopped : str
        Why it ended: ``"budget"`` (all its epochs), ``"early_stop"``, ``"patience"`` or ``"diverged"``.
    """

    d: int
    seed: int
    score: float
    train_score: float
    steps: int
    lr: float
    multiplier: float
    seconds: float
    stopped: str = "budget"


def _count(value: float) -> str:
    """Write a number of dimensions."""
    if math.isnan(value):
        return "?"
    return "∞" if math.isinf(value) else f"{value:,.0f}"


@dataclass(frozen=True)
class LandscapeResult(Result):
    """How many numbers a model needs on a task.

    Attributes
    ----------
    n_parameters : int
        D, the weights of the model.
    status : str
        ``"found"``, ``"not_reached"``, ``"below_d_min"`` or ``"not_measured"`` (stopped before any run ended).
    d_int90 : float
        Least number of trained dimensions that reaches the threshold; infinity if no run did, NaN if every run did.
    interval : tuple of float
        Its interval; 0 stands for "below the least d tried", infinity for "beyond the largest".
    bound : float
        The largest d tried where it was not reached, the least d tried where even that suffices.
    d_int100 : float
        The same for the whole baseline score; unstable, since it moves with the baseline's noise.
    baseline_score : float
        Score of direct training (mean over seeds), or the one that was given.
    baseline_scores : tuple of float
        Scores of the direct runs.
    threshold_score : float
        The score to be reached.
    threshold : float
        Its share of the baseline.
    estimator, ci_method : str
        How the crossing and its interval were made.
    ci : float
        Nominal coverage.
    compression_ratio : float
        D / d_int90 (a lower bound D / d_min where even the least d suffices, NaN where nothing was found).
    curve : tuple of RunRecord
        Every run in a subspace, those at other learning rates included.
    lr_multiplier : float
        The multiplier of the learning rate that was chosen; the crossing uses the runs made with it.
    lr_direct : float
        Learning rate of the direct runs.
    seed : int
        The root seed.
    notes : tuple of str
        What a reader must know: budgets that ended the search, learning rates at the grid's edge, failures.
    """

    n_parameters: int
    status: str
    d_int90: float
    interval: tuple[float, float]
    bound: float
    d_int100: float
    baseline_score: float
    baseline_scores: tuple[float, ...]
    threshold_score: float
    threshold: float
    score_name: str
    greater_is_better: bool
    estimator: str
    ci_method: str
    ci: float
    compression_ratio: float
    curve: tuple[RunRecord, ...]
    lr_multiplier: float
    lr_direct: float
    projection: str
    scale: str
    seconds: float
    seed: int
    notes: tuple[str, ...] = ()

    @property
    def kept(self) -> tuple[RunRecord, ...]:
        """Runs made with the learning-rate multiplier that was chosen: those the crossing is read from."""
        return tuple(r for r in self.curve if r.multiplier == self.lr_multiplier)

    def verdict(self) -> str:
        """Return the answer in one sentence."""
        D = f"{self.n_parameters:,}"
        if self.status == "found":
            low, high = self.interval
            answer = f"needs {_count(self.d_int90)} [{_count(low)}, {_count(high)}] of {D} numbers; "
            answer += f"{self.compression_ratio:.0f}x redundancy"
        elif self.status == "below_d_min":
            answer = f"needs at most {_count(self.bound)} of {D} numbers: the least d tried suffices"
        elif self.status == "not_reached":
            answer = f"needs more than {_count(self.bound)} of {D} numbers: no d tried reaches the threshold"
        else:
            return f"not measured: no run in a subspace of the {D} numbers ended"
        return f"{answer}; threshold {self.threshold_score:.3f} = {self._origin()}"

    def _origin(self) -> str:
        """The threshold in terms of the baseline."""
        share, base = f"{self.threshold:g}", f"{self.baseline_score:.3f}"
        if not self.greater_is_better:
            return f"{base} / {share}"
        beyond = self.threshold_score - self.threshold * self.baseline_score
        if math.isclose(beyond, 0.0, abs_tol=1e-12):
            return f"{share} x {base}"
        return f"{share} of the way from {beyond / (1 - self.threshold):.3f} to {base}"

    def to_frame(self) -> Any:
        """Return the runs as a data frame, one row a run."""
        import pandas as pd

        rows = [r.to_dict() for r in self.curve]
        return pd.DataFrame(rows, columns=list(RunRecord.__dataclass_fields__)).sort_values(
            ["multiplier", "d", "seed"], ignore_index=True
        )

    def summary(self) -> Any:
        """Return mean, standard deviation, number of runs and learning rate at each d, as a data frame."""
        import pandas as pd

        by_d: dict[int, list[RunRecord]] = {}
        for record in self.kept:
            by_d.setdefault(record.d, []).append(record)
        rows = [
            {
                "d": d,
                "mean": float(np.mean([r.score for r in runs])),
                "sd": float(np.std([r.score for r in runs], ddof=1)) if len(runs) > 1 else math.nan,
                "n": len(runs),
                "lr": runs[0].lr,
            }
            for d, runs in sorted(by_d.items())
        ]
        return pd.DataFrame(rows, columns=["d", "mean", "sd", "n", "lr"])

    def __str__(self) -> str:
        lines = [self.verdict(), ""]
        lines.append(f"{'d':>10}  {self.score_name:>10}  {'sd':>7}  {'n':>3}  {'lr':>9}")
        for row in self.summary().itertuples():
            passed = row.mean >= self.threshold_score
            mark = " reached" if passed == self.greater_is_better or row.mean == self.threshold_score else ""
            sd = "" if math.isnan(row.sd) else f"{row.sd:.4f}"
            lines.append(f"{row.d:>10,}  {row.mean:>10.4f}  {sd:>7}  {row.n:>3}  {row.lr:>9.3g}{mark}")
        direct = f"{self.n_parameters:>10,}  {self.baseline_score:>10.4f}  "
        scores = self.baseline_scores
        sd = f"{np.std(scores, ddof=1):.4f}" if len(scores) > 1 else ""
        lines.append(f"{direct}{sd:>7}  {len(scores):>3}  {self.lr_direct:>9.3g} direct training")
        if self.status == "found":
            lines += ["", f"interval: {self.ci:.0%}, {self.ci_method}"]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> Any:
        """Draw score against d: runs as dots, the isotonic curve, threshold, baseline, interval; return the axes."""
        ax = new_axes(ax)
        runs = [r for r in self.kept if math.isfinite(r.score)]
        if runs:
            ax.plot(
                [r.d for r in runs], [r.score for r in runs], "o", color=COLORS[0], alpha=0.5, label="runs"
            )
            sizes = np.unique([r.d for r in runs])
            scores = [np.array([r.score for r in runs if r.d == d]) for d in sizes]
            sign = 1.0 if self.greater_is_better else -1.0
            means, counts = np.array([s.mean() for s in scores]), np.array([float(len(s)) for s in scores])
            ax.plot(sizes, sign * isotonic_fit(sign * means, counts), color=COLORS[0], label="isotonic fit")
        ax.axhline(self.baseline_score, color=COLORS[6], linewidth=1.2, label="direct training")
        ax.axhline(self.threshold_score, color=COLORS[2], linewidth=1.2, linestyle=":", label="threshold")
        if self.status == "found":
            mark_value(ax, self.d_int90, self.interval, f"d = {self.d_int90:,.0f}")
        ax.set_xscale("log")
        ax.set_xlabel("trained dimensions d")
        ax.set_ylabel(self.score_name)
        ax.set_title(self.verdict().split(";")[0])
        ax.legend(fontsize="small")
        return ax
