"""The report's main figures with matplotlib, for papers and notebooks: ``Profile.plot()``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lodim import plots
from lodim.profiling import wording
from lodim.profiling.charts import closed, log_axis
from lodim.profiling.extras import Difficulty, Topology
from lodim.profiling.result import DataPart, LandscapePart, Profile, scores_by_d


def draw(p: Profile) -> Any:
    """Draw what the profile holds and return the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the profile holds nothing to draw.
    """
    from matplotlib.figure import Figure

    jobs: list[tuple[Any, Any]] = []
    if p.data is not None:
        found = {
            _scales: p.data.scale_profile,
            _estimators: p.data.estimators,
            _points: p.data.pointwise,
            _spectrum: p.data.spectrum,
            _density: p.data.density is not None and p.data.density.bandwidth and p.data.density.h_clt,
        }
        jobs += [(function, p.data) for function, content in found.items() if content]
        jobs += [(_topology, p.data.topology)] if p.data.topology is not None else []
    if p.difficulty is not None and p.difficulty.log10_bits is not None:
        jobs += [(_difficulty, p.difficulty)]
    if p.landscape is not None:
        jobs += [(_curve, p.landscape)] if p.landscape.curve else []
        jobs += [(_messages, p.landscape)] if p.landscape.messages else []
        jobs += [(_layers, p.landscape)] if p.landscape.layers else []
    if not jobs:
        raise ValueError("this profile holds nothing to draw (was it interrupted?)")
    with plots.style():
        columns = min(2, len(jobs))
        rows = -(-len(jobs) // columns)
        figure = Figure(figsize=(5.2 * columns, 3.4 * rows), layout="constrained")
        for i, (function, part) in enumerate(jobs):
            function(figure.add_subplot(rows, columns, i + 1), part)
    return figure


def _consensus(ax: Any, part: DataPart, *, upright: bool) -> None:
    if part.dimension is None:
        return
    line, span = (ax.axvline, ax.axvspan) if upright else (ax.axhline, ax.axhspan)
    line(part.dimension, color=plots.COLORS[1], linestyle="--", linewidth=1.2, label="consensus")
    ends = closed(part.interval)
    if ends is not None:
        span(*ends, color=plots.COLORS[1], alpha=0.12, linewidth=0)


def _log_ticks(ax: Any, values: Sequence[int | float]) -> None:
    """A logarithmic axis labelled at round numbers rather than powers of ten."""
    axis = log_axis(values, "")
    ax.set_xscale("log")
    ax.set_xlim(axis.low, axis.high)
    ax.set_xticks(axis.ticks, [wording.number(t) for t in axis.ticks])
    ax.minorticks_off()


def _scales(ax: Any, part: DataPart) -> None:
    _consensus(ax, part, upright=False)
    for method, marker, color in (("gride", "o-", plots.COLORS[0]), ("decimation", "s--", plots.COLORS[2])):
        points = [s for s in part.scale_profile if s.method == method and s.dimension is not None]
        points.sort(key=lambda s: s.radius)
        if points:
            error = [1.96 * (s.standard_error or 0.0) for s in points]
            x, y = [s.radius for s in points], [s.dimension for s in points]
            ax.errorbar(x, y, yerr=error, fmt=marker, color=color, capsize=2, label=method)
    _log_ticks(ax, [s.radius for s in part.scale_profile])
    ax.set(xlabel="mean distance to the outer neighbour", ylabel="dimension")
    ax.set_ylim(bottom=0)
    ax.set_title("Dimension across scales")
    ax.legend()


def _estimators(ax: Any, part: DataPart) -> None:
    _consensus(ax, part, upright=True)
    found = [(k, e) for k, e in reversed(part.estimators.items()) if e.dimension is not None]
    for row, (_, e) in enumerate(found):
        ends = closed(e.interval)
        if ends is not None:
            ax.plot(ends, [row, row], color=plots.COLORS[0], linewidth=2.2, alpha=0.5)
        ax.plot(e.dimension, row, "o", color=plots.COLORS[0])
        if e.calibrated is not None:
            ax.plot(e.calibrated, row, "o", color=plots.COLORS[0], fillstyle="none")
    ax.set_yticks(range(len(found)), [wording.estimator(k) for k, _ in found])
    ax.set(xlabel="dimension (hollow: calibrated)", title="What each estimator says")
    ax.set_xlim(left=0)


def _points(ax: Any, part: DataPart) -> None:
    assert part.pointwise is not None
    edges = np.asarray(part.pointwise.edges)
    ax.bar(edges[:-1], part.pointwise.counts, np.diff(edges), align="edge", color=plots.COLORS[0])
    ax.axvline(part.pointwise.quantiles[2], color=plots.COLORS[1], linestyle="--", linewidth=1.2)
    ax.set(xlabel="local dimension", ylabel="rows", title="Dimension around each row")


def _spectrum(ax: Any, part: DataPart) -> None:
    ax.plot(range(1, len(part.spectrum) + 1), part.spectrum, color=plots.COLORS[0])
    ax.axhline(0.95, color=plots.COLORS[1], linestyle="--", linewidth=1.2)
    ax.set(
        xlabel="principal components",
        ylabel="share of variance",
        title="Variance kept by PCA",
        ylim=(0, 1.02),
    )


def _curve(ax: Any, part: LandscapePart) -> None:
    runs = [(r.d, r.score) for r in part.curve if r.score is not None]
    ax.plot(*zip(*runs), "o", color=plots.COLORS[0], markersize=3.5)
    means = {d: np.mean(s) for d, s in scores_by_d(part).items()}
    ax.plot(list(means), list(means.values()), color=plots.COLORS[0])
    if part.baseline_score is not None:
        ax.axhline(part.baseline_score, color=plots.COLORS[2], linestyle=":", label="all weights")
    if part.threshold_score is not None:
        ax.axhline(part.threshold_score, color=plots.COLORS[1], linestyle=":", label="threshold")
    if part.d_int90:
        plots.mark_value(ax, part.d_int90, closed(part.interval), f"d = {part.d_int90:,.0f}")
    _log_ticks(ax, [d for d, _ in runs])
    ax.set(
        xlabel="trained numbers d",
        ylabel=part.score_name,
        title="Score against trained numbers",
    )
    ax.legend()


def _messages(ax: Any, part: LandscapePart) -> None:
    found = sorted((m.bytes, m.score) for m in part.messages if m.score is not None)
    ax.plot(*zip(*found), "o", color=plots.COLORS[0])
    best = [(size, score) for i, (size, score) in enumerate(found) if all(score > s for _, s in found[:i])]
    ax.plot(*zip(*best), color=plots.COLORS[0])
    if part.threshold_score is not None:
        ax.axhline(part.threshold_score, color=plots.COLORS[1], linestyle=":", label="threshold")
        ax.legend()
    _log_ticks(ax, [size for size, _ in found])
    ax.set(xlabel="message in bytes", ylabel=part.score_name, title="Score against message length")


def _density(ax: Any, part: DataPart) -> None:
    found = part.density
    assert found is not None
    marks = {"best": found.bandwidth, "average from": found.h_g, "central limit from": found.h_clt}
    known = {name: float(h) for name, h in marks.items() if h}
    low, high = min(known.values()) / 1.5, max(known.values()) * 1.8
    ends = [low, known["average from"], known["central limit from"], high]
    names = ("condensed", "stable", "clt")
    for left, right, name, color in zip(
        ends, ends[1:], names, (plots.COLORS[1], plots.COLORS[4], plots.COLORS[2])
    ):
        ax.axvspan(left, right, color=color, alpha=0.3, linewidth=0, label=wording.REGIMES[name][0])
    ax.plot(known["best"], 0.5, "o", color=plots.COLORS[0], markersize=9, label="best bandwidth")
    _log_ticks(ax, [low, high])
    ax.set(xlabel="bandwidth", ylim=(0, 1), yticks=[], title="What a density value rests on")
    ax.legend()


def _difficulty(ax: Any, part: Difficulty) -> None:
    named = {
        f"error {wording.percent(part.error)}": part.log10_bits,
        f"supplied by {part.supplied_by}": part.supplied_log10_bits,
        "one dimension less": part.narrower_log10_bits,
        "twice the rows": part.doubled_log10_bits,
    }
    known = [(name, value) for name, value in named.items() if value is not None][::-1]
    ends = closed(part.interval)
    if ends is not None:
        ax.plot(ends, [len(known) - 1] * 2, color=plots.COLORS[0], linewidth=2.2, alpha=0.5)
    ax.plot([value for _, value in known], range(len(known)), "o", color=plots.COLORS[0])
    ax.set_yticks(range(len(known)), [name for name, _ in known])
    ax.set(xlabel="log10 of the bits (an order of magnitude)", title="Bits of assumptions the task asks for")


def _topology(ax: Any, part: Topology) -> None:
    colors = [plots.COLORS[0] if i < part.n_loops else plots.COLORS[6] for i in range(len(part.loop_ratios))]
    ax.bar(range(1, len(colors) + 1), part.loop_ratios, color=colors)
    ax.set(xlabel="loop", ylabel="death / birth", title=wording.sentence(wording.shape_of(part)))


def _layers(ax: Any, part: LandscapePart) -> None:
    found = [e for e in part.layers if e.dimension is not None][::-1]
    for row, e in enumerate(found):
        ends = closed(e.interval)
        if ends is not None:
            ax.plot(ends, [row, row], color=plots.COLORS[0], linewidth=2.2, alpha=0.5)
        ax.plot(e.dimension, row, "o", color=plots.COLORS[0])
    ax.set_yticks(range(len(found)), [wording.layer(e) for e in found])
    ax.set(xlabel="dimension of the output (TwoNN)", title="Dimension through the layers")
    ax.set_xlim(left=0)
