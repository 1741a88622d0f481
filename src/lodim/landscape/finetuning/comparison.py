r"""Which model is readier for a task: intrinsic dimensions of initialisations and of sizes, side by side.

**Problem.** Fine-tuning starts from weights, and some starts are better. The paper's measure of a start is

.. math:: d_{90} = \min \{ d : s(d) \ge s_0 + 0.9 \, (s^* - s_0) \},

the least number of trained numbers that keeps 90 % of what full fine-tuning from the same start scores. Its findings:
pre-training lowers :math:`d_{90}` step by step; larger pre-trained models have the lower :math:`d_{90}`; and a lower
:math:`d_{90}` goes with a smaller gap between training and test scores.

============================  ======================================================================
Symbol                        Here
============================  ======================================================================
:math:`d_{90}`                ``LandscapeResult.d_int90`` of each entry, with its interval
:math:`s^*`                   ``baseline_score``: full fine-tuning from the same start
:math:`s_0`                   ``score_floor`` (``"majority"`` where classes are uneven)
relative gap                  ``relative_gaps``, of full fine-tuning
rank correlations             ``size_correlation``, ``gap_correlation`` (Spearman)
============================  ======================================================================

A head that is new for the task lies in the subspace like everything else, or is trained directly and counted.

Source: A. Aghajanyan and others, arXiv 2012.13255, Sections 3 to 5.

**Bounds** (:func:`dimension_bound`). A pre-trained model that learns a task with d numbers of b bits each is one of
:math:`2^{db}` models that were fixed before the task's data were seen (base and P come from elsewhere). With n samples
and probability :math:`1 - \delta` its error on new data is at most

.. math:: \text{error} \le \widehat{\text{error}} + \mathcal{O}\big(\sqrt{d / n}\big),

whatever the number D of the model's weights. The constants are those of :func:`~lodim.landscape.compression_bound`.

======================  ======================================================
Symbol                  Here
======================  ======================================================
d, n                    ``d``, ``n`` (the paper writes m for n)
b                       ``bits_per_number``
relative gap            :func:`relative_gap`
======================  ======================================================

Source: A. Aghajanyan and others, arXiv 2012.13255, Section 5 (there with the compression bounds of S. Arora and others,
arXiv 1802.05296). Departure: bounds with their constants, for numbers that are really rounded to b bits.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from torch import nn

from lodim.landscape.code_lengths import prefix_free_bits
from lodim.landscape.objective_landscapes.bounds import compression_bound
from lodim.landscape.objective_landscapes.dimension import LandscapeDimension
from lodim.landscape.objective_landscapes.result import LandscapeResult
from lodim.plots import COLORS, new_axes
from lodim.results import Result
from lodim.training import Task
from lodim.validation import check_choice, check_in_range, checked

__all__ = ["DimensionComparison", "compare_initialisations", "d90_vs_size", "dimension_bound", "relative_gap"]


@checked
def dimension_bound(
    train_error: float | int,
    d: int,
    n: int,
    *,
    bits_per_number: float | int = 16,
    delta: float = 0.05,
    kind: str = "best",
    selection_bits: int | float = 0.0,
) -> float:
    """Bound the error on new data of a model that was fine-tuned with d numbers.

    Parameters
    ----------
    train_error : float
        Share of wrong answers on the n training samples, of the model with its numbers *rounded*.
    d : int
        Trained numbers, in all (factors, and a directly trained head).
    bits_per_number : float
        What each number is rounded to; :meth:`TaskVector.rounded` needs about 4.
    delta, kind, selection_bits
        See :func:`~lodim.landscape.compression_bound`. Learning rates and d's tried belong into ``selection_bits``.

    Returns
    -------
    float
        At most 1.

    Examples
    --------
    >>> round(dimension_bound(0.05, 200, 10_000, bits_per_number=4), 2)
    0.16
    """
    check_in_range(d, "d", low=1, integer=True)
    check_in_range(bits_per_number, "bits_per_number", low=0.0)
    bits = prefix_free_bits(float(d) * float(bits_per_number))
    return compression_bound(
        float(train_error), bits, n, delta=delta, kind=kind, selection_bits=selection_bits
    )


@checked
def relative_gap(train_score: float, score: float) -> float:
    """Return the share of what is missing on new data that the training data do not miss.

    Parameters
    ----------
    train_score, score : float
        Accuracy on the training data and on new data.

    Returns
    -------
    float
        ``(train_score - score) / (1 - score)``: 0 without a gap, 1 where the training data are learnt perfectly; NaN
        for a score of 1.
    """
    for name, value in {"train_score": train_score, "score": score}.items():
        if math.isinf(check_in_range(value, name, high=1.0)):
            raise ValueError(f"{name} must be finite, got {value}")
    return (train_score - score) / (1 - score) if score < 1 else math.nan


Start = nn.Module | Callable[[], nn.Module]


@dataclass(frozen=True)
class DimensionComparison(Result):
    """Intrinsic dimensions of several models on one task.

    Attributes
    ----------
    results : tuple of LandscapeResult
        Of each, in the same order.
    relative_gaps : tuple of float
        ``(train - test) / (1 - test)`` of full fine-tuning, mean over seeds; NaN for other scores than accuracy.
    n_direct : tuple of int
        Numbers of each that were trained outside the subspace (a head); they are part of every d.
    """

    names: tuple[str, ...]
    results: tuple[LandscapeResult, ...]
    relative_gaps: tuple[float, ...]
    n_direct: tuple[int, ...]

    def __getitem__(self, name: str) -> LandscapeResult:
        """Return one model's result."""
        check_choice(name, self.names, "name")
        return self.results[self.names.index(name)]

    def ratio(self, name: str, other: str) -> float:
        """Return how many times the d90 of ``other`` that of ``name`` is; NaN unless both were found."""
        pair = self[name], self[other]
        found = all(r.status == "found" for r in pair)
        return pair[0].d_int90 / pair[1].d_int90 if found else math.nan

    @property
    def size_correlation(self) -> float:
        """Spearman's rank correlation of D and d90 (the same for their logarithms), where d90 was found."""
        return self._correlation([float(r.n_parameters) for r in self.results])

    @property
    def gap_correlation(self) -> float:
        """Spearman's rank correlation of the relative gap and d90, where d90 was found."""
        return self._correlation(list(self.relative_gaps))

    def _correlation(self, values: list[float]) -> float:
        known = [r.status == "found" and math.isfinite(v) for v, r in zip(values, self.results)]
        pairs = [(v, r.d_int90) for v, r, ok in zip(values, self.results, known) if ok]
        if len(pairs) < 3 or min(map(len, map(set, zip(*pairs)))) < 2:
            return math.nan  # ranks need three models, and two different values
        ranked, sizes = zip(*pairs)
        return float(spearmanr(ranked, sizes).statistic)

    def to_frame(self) -> Any:
        """Return a data frame, one row a model."""
        import pandas as pd

        rows = [
            {
                "name": name,
                "D": r.n_parameters,
                "full": r.baseline_score,
                "threshold": r.threshold_score,
                "d90": r.d_int90,
                "low": r.interval[0],
                "high": r.interval[1],
                "status": r.status,
                "direct": direct,
                "relative_gap": gap,
            }
            for name, r, gap, direct in zip(self.names, self.results, self.relative_gaps, self.n_direct)
        ]
        return pd.DataFrame(rows).set_index("name")

    def __str__(self) -> str:
        width = max(len(name) for name in self.names)
        lines = [f"{'':{width}}  {'D':>12}  {'full':>6}  {'threshold':>9}  {'rel. gap':>8}  d90"]
        for name, r, gap in zip(self.names, self.results, self.relative_gaps):
            d90 = r.verdict().split(" of ")[0].removeprefix("needs ")
            lines.append(
                f"{name:{width}}  {r.n_parameters:>12,}  {r.baseline_score:>6.3f}  {r.threshold_score:>9.3f}  "
                f"{gap:>8.2f}  {d90}"
            )
        for what, value in (("D", self.size_correlation), ("relative gap", self.gap_correlation)):
            if math.isfinite(value):
                lines.append(f"rank correlation of d90 with {what}: {value:+.2f} ({len(self.names)} models)")
        notes = [f"note ({name}): {note}" for name, r in zip(self.names, self.results) for note in r.notes]
        return "\n".join(lines + notes)

    def plot(self, ax: Any = None) -> Any:
        """Draw each model's mean score against d, its threshold and its d90; return the axes."""
        ax = new_axes(ax)
        for k, (name, r) in enumerate(zip(self.names, self.results)):
            color, rows = COLORS[k % len(COLORS)], r.summary()
            d90 = f", d90 = {r.d_int90:,.0f}" if r.status == "found" else f", {r.status.replace('_', ' ')}"
            ax.plot(rows["d"], rows["mean"], "o-", color=color, label=f"{name}{d90}")
            ax.axhline(r.threshold_score, color=color, linewidth=0.8, linestyle=":")
            if r.status == "found":
                ax.axvline(r.d_int90, color=color, linewidth=0.8)
        ax.set_xscale("log")
        ax.set_xlabel("trained dimensions d")
        ax.set_ylabel(self.results[0].score_name)
        ax.legend(fontsize="small")
        return ax


@checked
def compare_initialisations(
    models: Mapping[str, Start],
    task: Task,
    *,
    head: str = "subspace",
    progress: Callable[[float, str], Any] | None = None,
    **options: Any,
) -> DimensionComparison:
    """Measure d90 of one architecture from several starts: random, pre-trained, checkpoints on the way.

    Parameters
    ----------
    models : mapping of str to nn.Module or callable
        A module (copied for every run), or ``make_model() -> nn.Module`` where a seed shall change the start, too: a
        new head, or a random initialisation.
    task : Task
        What is learnt.
    head : {"subspace", "direct"}
        Whether the last linear layer lies in the subspace, or is trained as it is; its numbers then count in every d.
    progress : callable, optional
        ``progress(done, text)``.
    **options
        Of :class:`~lodim.landscape.LandscapeDimension`: ``said``, ``recipe``, ``lr``, ``n_seeds``, ``score_floor`` and
        so on, the same for all.

    Raises
    ------
    ValueError
        No model, an unknown ``head``, or no layer that could be one.
    """
    check_choice(head, ("subspace", "direct"), "head")
    if not models:
        raise ValueError("models needs at least one entry: {name: module or make_model}")
    results, gaps, directs = [], [], []
    for k, (name, start) in enumerate(models.items()):

        def tell(done: float, text: str, k: int = k, name: str = name) -> None:
            if progress is not None:
                progress((k + done) / len(models), f"{name}: {text}")

        make = _factory(start)
        direct = tuple(options.get("train_directly", ()))
        if head == "direct":
            direct = (*direct, head_name(make(), task.n_outputs))
        told = {**options, "train_directly": direct} | ({"progress": tell} if progress else {})
        finder = LandscapeDimension(make, task=task, **told).fit()
        results.append(finder.result_)
        gaps.append(_mean_gap(finder, task))
        directs.append(finder._sweep.trainer.n_direct)
    return DimensionComparison(tuple(models), tuple(results), tuple(gaps), tuple(directs))


@checked
def d90_vs_size(models: Mapping[str, Start], task: Task, **options: Any) -> DimensionComparison:
    """Measure d90 of models of several sizes; ``size_correlation`` of what it returns tells the trend.

    Parameters
    ----------
    models : mapping of str to nn.Module or callable
        Of at least three different sizes; the result is sorted by them.
    **options
        Of :func:`compare_initialisations`.

    Raises
    ------
    ValueError
        Fewer than three sizes.
    """
    sizes = {
        name: sum(p.numel() for p in _factory(start)().parameters() if p.requires_grad)
        for name, start in models.items()
    }
    if len(set(sizes.values())) < 3:
        raise ValueError(f"a trend needs models of at least three sizes, got {sizes}")
    ordered = {name: models[name] for name in sorted(sizes, key=lambda name: sizes[name])}
    return compare_initialisations(ordered, task, **options)


def head_name(model: nn.Module, n_outputs: int) -> str:
    """Return the name of the last linear layer with that many outputs; ValueError without one."""
    found = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and layer.out_features == n_outputs
    ]
    if not found:
        raise ValueError(
            f"no linear layer has {n_outputs} outputs, so there is no head to train directly; name it with "
            "train_directly=['...'] and leave head='subspace'"
        )
    return found[-1]


def _factory(start: Start) -> Callable[[], nn.Module]:
    return partial(copy.deepcopy, start) if isinstance(start, nn.Module) else start


def _mean_gap(finder: LandscapeDimension, task: Task) -> float:
    """Relative gap of full fine-tuning, if its scores are accuracies on new data."""
    if task.kind != "classification" or finder.score_on != "val":
        return math.nan
    scored = [
        r for r in finder.direct_ if math.isfinite(r.train_score - r.score)
    ]  # a diverged run has no score
    gaps = [relative_gap(r.train_score, r.score) for r in scored]
    finite = [gap for gap in gaps if math.isfinite(gap)]
    return float(np.mean(finite)) if finite else math.nan
