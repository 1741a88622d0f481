"""The report's figures: each a chart, a sentence on what it shows, and its numbers as a table and as CSV."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lodim.profiling import charts, extra_panels, wording
from lodim.profiling.panel import Panel
from lodim.profiling.result import LandscapePart, Profile, ScalePoint, scores_by_d

MOST_CLASSES = 24


def across_scales(p: Profile) -> Panel | None:
    """Dimension against the distance at which it is measured."""
    part = p.data
    points = [s for s in part.scale_profile if s.dimension is not None and s.radius > 0] if part else []
    if part is None or len(points) < 2:
        return None
    known = [float(s.dimension or 0.0) for s in points]
    tops = [d + 1.96 * (s.standard_error or 0.0) for d, s in zip(known, points)]
    ends = [e for e in part.interval or () if e is not None]
    canvas = charts.Canvas(
        charts.log_axis([s.radius for s in points], "mean distance to the outer neighbour"),
        charts.linear_axis([*known, *tops, *ends], "dimension", zero=True),
    )
    canvas.grid()
    if part.dimension is not None:
        if len(ends) == 2:
            wide = (canvas.x.low, canvas.x.high)
            canvas.band(wide, (ends[0],) * 2, (ends[1],) * 2, "s2")
        canvas.across(part.dimension, "s2", "", "start")
    legend = [("s2", "consensus with its interval")]
    for method, css, words in (
        ("gride", "s1", "all points, farther neighbours (Gride)"),
        ("decimation", "s3", "fewer points (decimation)"),
    ):
        series = sorted((s for s in points if s.method == method), key=lambda s: s.radius)
        if series:
            _scale_series(canvas, series, css)
            legend.append((css, words))
    series = sorted((s for s in points if s.method == "gride"), key=lambda s: s.n_neighbors) or points
    first, last = series[0], series[-1]
    shows = (
        f"Measured between nearest neighbours the data has {wording.dimension(first.dimension)} dimensions, at the "
        f"largest scale ({wording.plural(last.n_neighbors, 'neighbour')}) {wording.dimension(last.dimension)}. "
        "A flat line means that the answer does not hang on the scale."
    )
    return Panel(
        "scales",
        "Dimension across scales",
        shows,
        canvas.svg("scales", "Dimension across scales", shows),
        ("method", "outer neighbour", "mean distance", "points used", "dimension", "standard error"),
        tuple(
            (s.method, s.n_neighbors, s.radius, s.n_used, s.dimension, s.standard_error)
            for s in part.scale_profile
        ),
        tuple(legend),
    )


def _scale_series(canvas: charts.Canvas, series: Sequence[ScalePoint], css: str) -> None:
    x = [s.radius for s in series]
    y = [float(s.dimension or 0.0) for s in series]
    doubt = [1.96 * (s.standard_error or 0.0) for s in series]
    canvas.band(x, [a - b for a, b in zip(y, doubt)], [a + b for a, b in zip(y, doubt)], css)
    canvas.line(list(zip(x, y)), css)
    for s, d, e in zip(series, y, doubt):
        tip = f"{wording.dimension(d)} ± {wording.number(e, digits=2)} at distance {wording.number(s.radius)}"
        canvas.dot(s.radius, d, css, tip)


def per_estimator(p: Profile) -> Panel | None:
    """Every estimator's answer with its interval."""
    part = p.data
    found = {k: e for k, e in part.estimators.items() if e.dimension is not None} if part else {}
    if part is None or not found:
        return None
    rows = [
        charts.Row(wording.estimator(k), float(e.dimension or 0.0), e.interval, "s1", e.calibrated)
        for k, e in found.items()
    ]
    canvas = charts.dot_rows(rows, "dimension", reference=part.dimension, ends=charts.closed(part.interval))
    low = min(rows, key=lambda r: r.value)
    high = max(rows, key=lambda r: r.value)
    shows = (
        f"{len(rows)} estimators answer between {wording.dimension(low.value)} ({low.name}) and "
        f"{wording.dimension(high.value)} ({high.name}); their consensus is {wording.dimension(part.dimension)} "
        f"({wording.interval(part.interval)})."
    )
    legend = [("s1", "as published, 95 % interval"), ("s2", "consensus with its interval")]
    if any(r.second is not None for r in rows):
        legend.insert(1, ("s1 hollow", "corrected for the number of rows"))
        shows += (
            " Hollow marks are corrected for the bias that the estimator has with as many rows; "
            "the consensus is made of these."
        )
    return Panel(
        "estimators",
        "What each estimator says",
        shows,
        canvas.svg("estimators", "What each estimator says", shows),
        ("estimator", "dimension", "low", "high", "corrected", "remark"),
        tuple(
            (wording.estimator(k), e.dimension, *(e.interval or (None, None)), e.calibrated, e.remark)
            for k, e in part.estimators.items()
        ),
        tuple(legend),
    )


def per_class(p: Profile) -> Panel | None:
    """The dimension of every class."""
    part = p.data
    found = {k: e for k, e in part.per_class.items() if e.dimension is not None} if part else {}
    if part is None or len(found) < 2:
        return None
    ranked = sorted(found.items(), key=lambda item: -float(item[1].dimension or 0.0))
    rows = [charts.Row(k, float(e.dimension or 0.0), e.interval) for k, e in ranked]
    drawn = rows if len(rows) <= MOST_CLASSES else rows[: MOST_CLASSES // 2] + rows[-MOST_CLASSES // 2 :]
    canvas = charts.dot_rows(
        drawn, "dimension within the class", reference=part.dimension, ends=charts.closed(part.interval)
    )
    shows = (
        f"Class {rows[0].name} varies in the most directions ({wording.dimension(rows[0].value)}), class "
        f"{rows[-1].name} in the fewest ({wording.dimension(rows[-1].value)})."
    )
    if len(drawn) < len(rows):
        shows += f" Of {len(rows)} classes the {len(drawn)} most extreme are drawn."
    return Panel(
        "classes",
        "Dimension of each class",
        shows,
        canvas.svg("classes", "Dimension of each class", shows),
        ("class", "dimension", "low", "high", "rows"),
        tuple((k, e.dimension, *(e.interval or (None, None)), e.n) for k, e in part.per_class.items()),
        (("s1", "class, 95 % interval"), ("s2", "all classes together")),
    )


def per_point(p: Profile) -> Panel | None:
    """How the local dimension differs from row to row."""
    points = p.data.pointwise if p.data else None
    if points is None or len(points.counts) < 2:
        return None
    canvas = charts.histogram(points.edges, points.counts, "local dimension around a row", "rows")
    low, median, high = points.quantiles[0], points.quantiles[2], points.quantiles[4]
    canvas.upright(median, "s2", "")
    shows = (
        f"Around half of the {points.n:,} rows measured the data has fewer than {wording.dimension(median)} "
        f"dimensions; nine rows in ten lie between {wording.dimension(low)} and {wording.dimension(high)}."
    )
    return Panel(
        "points",
        "Dimension around each row",
        shows,
        canvas.svg("points", "Dimension around each row", shows),
        ("from", "to", "rows"),
        tuple(zip(points.edges[:-1], points.edges[1:], points.counts)),
        (("s1", "rows"), ("s2", "median")),
    )


def spectrum(p: Profile) -> Panel | None:
    """Cumulative variance of the principal components."""
    part = p.data
    if part is None or len(part.spectrum) < 2:
        return None
    total = len(part.spectrum)
    shown = total if part.pca95 is None else min(total, max(12, 3 * part.pca95))
    xs = list(range(1, shown + 1))
    canvas = charts.Canvas(
        charts.linear_axis([0.0, float(shown)], "principal components kept", limits=(0.0, None)),
        charts.linear_axis([0.0, 1.0], "share of the variance"),
    )
    canvas.grid()
    canvas.line([(0.0, 0.0), *zip(map(float, xs), part.spectrum[:shown])], "s1")
    if shown <= 40:
        for x, y in zip(xs, part.spectrum):
            canvas.dot(x, y, "s1", f"{wording.plural(x, 'component')}: {100 * y:.1f} %", 2.6)
    shows = f"The first 2 components keep {wording.percent(part.spectrum[1])} of the variance"
    if part.pca95 is not None:
        canvas.across(0.95, "s2", "95 %", "start")
        canvas.upright(part.pca95, "s2", wording.plural(part.pca95, "component"))
        shows += f", {part.pca95:,} keep 95 %"
    shows += "."
    if part.dimension and part.pca95 and part.pca95 >= 2 * part.dimension:
        shows += f" That is many more than {wording.dimension(part.dimension)}: the data is bent, not flat."
    return Panel(
        "spectrum",
        "Variance kept by PCA",
        shows,
        canvas.svg("spectrum", "Variance kept by PCA", shows),
        ("components", "share of variance"),
        tuple(enumerate(part.spectrum, 1)),
    )


def score_against_d(p: Profile) -> Panel | None:
    """Score against the number of trained numbers, with the dimension found."""
    part = p.landscape
    if part is None or not part.curve or part.baseline_score is None or part.threshold_score is None:
        return None
    means = {d: sum(s) / len(s) for d, s in scores_by_d(part).items()}
    if not means:
        return None
    heights = [max(s, _floor(part)) for s in means.values()] + [part.baseline_score, part.threshold_score]
    canvas = charts.Canvas(
        charts.log_axis([float(d) for d in means], "trained numbers d"),
        charts.linear_axis(heights, part.score_name, zero=True, limits=(None, 1.0)),
    )
    canvas.grid()
    _baseline_and_threshold(canvas, part, f"all {part.n_parameters:,} weights")
    if part.d_int90:
        canvas.upright(part.d_int90, "s2", f"d = {part.d_int90:,.0f}", charts.closed(part.interval))
    canvas.line([(float(d), m) for d, m in means.items()], "s1")
    for run in part.curve:
        if run.score is not None:
            tip = f"d = {run.d:,}, seed {run.seed}: {wording.score(run.score)}"
            canvas.dot(run.d, run.score, "s1", tip, 3.0)
    shows = _curve_sentence(part)
    hidden = sum(r.score is not None and r.score < canvas.y.low for r in part.curve)
    if hidden:
        shows += f" {wording.plural(hidden, 'run')} below {wording.number(canvas.y.low)} drawn at the edge."
    return Panel(
        "curve",
        "Score against trained numbers",
        shows,
        canvas.svg("curve", "Score against trained numbers", shows),
        ("d", "seed", part.score_name, f"training {part.score_name}", "learning rate"),
        tuple((r.d, r.seed, r.score, r.train_score, r.lr) for r in part.curve),
        (("s1", "one run each, line through the means"), ("s2", "threshold and dimension with its interval")),
    )


def _floor(part: LandscapePart) -> float:
    """Scores below this are drawn at the edge: R² has no lower end."""
    return 0.0 if part.score_name == "accuracy" else -0.1


def _baseline_and_threshold(canvas: charts.Canvas, part: LandscapePart, words: str) -> None:
    """Two reference lines whose names keep out of each other's way."""
    base, level = part.baseline_score, part.threshold_score
    if base is not None:
        canvas.across(base, "s3", words, "start")
    if level is not None:
        near = base is not None and abs(canvas.py(base) - canvas.py(level)) < 16
        canvas.across(level, "s2", "90 % of it", "start", below=near)


def _curve_sentence(part: LandscapePart) -> str:
    name = f"{part.score_name} {wording.score(part.threshold_score)}"
    if part.d_int90 and part.status == "found":
        ends = wording.interval(part.interval, lambda x: f"{x:,.0f}")
        return (
            f"Trained inside a random subspace, the model reaches {name} (90 % of "
            f"{wording.score(part.baseline_score)}) with about {part.d_int90:,.0f} numbers"
            f"{wording.in_brackets(ends)} in place of "
            f"{part.n_parameters:,}."
        )
    if part.status == "not_reached":
        return f"No subspace of up to {part.d_max or 0:,} numbers reaches {name}."
    return f"The smallest subspace tried already reaches {name}."


def message_length(p: Profile) -> Panel | None:
    """Score against the bytes of the compressed model."""
    part = p.landscape
    found = [m for m in part.messages if m.score is not None] if part else []
    if part is None or not found:
        return None
    heights = [max(float(m.score or 0.0), _floor(part)) for m in found]
    lines = [s for s in (part.baseline_score, part.threshold_score) if s is not None]
    canvas = charts.Canvas(
        charts.log_axis([float(m.bytes) for m in found], "message length in bytes"),
        charts.linear_axis([*heights, *lines], part.score_name, limits=(None, 1.0)),
    )
    canvas.grid()
    _baseline_and_threshold(canvas, part, f"as 32-bit weights: {4 * part.n_parameters:,} bytes")
    ordered = sorted(found, key=lambda m: m.bytes)
    frontier: list[tuple[float, float]] = []  # the best so far at each length
    for m in ordered:
        if not frontier or float(m.score or 0.0) > frontier[-1][1]:
            frontier.append((float(m.bytes), float(m.score or 0.0)))
    canvas.line(frontier, "s1")
    for m in ordered:
        bound = f", test error certified below {wording.number(m.bound)}" if m.bound is not None else ""
        chosen = (m.bytes, m.score) == (part.message_bytes, part.message_score)
        tip = f"{m.bytes:,} bytes, {m.levels} values a number: {wording.score(m.score)}{bound}"
        canvas.dot(
            m.bytes, float(m.score or 0.0), "s1 chosen" if chosen else "s1", tip, 5.0 if chosen else 3.6
        )
    best = max(ordered, key=lambda m: m.score or 0.0)
    shows = (
        f"From {ordered[0].bytes:,} bytes ({part.score_name} {wording.score(ordered[0].score)}) to {best.bytes:,} "
        f"bytes ({wording.score(best.score)})"
    )
    if part.message_bytes is not None:
        shows += f"; {part.message_bytes:,} bytes are the fewest that stay above the threshold"
    shows += "."
    hidden = sum(float(m.score or 0.0) < canvas.y.low for m in found)
    if hidden:
        shows += f" {wording.plural(hidden, 'model')} below {wording.number(canvas.y.low)} drawn at the edge."
    if part.bound is not None:
        shows += f" The best certificate puts the test error below {wording.number(part.bound)}."
    return Panel(
        "message",
        "Score against message length",
        shows,
        canvas.svg("message", "Score against message length", shows),
        ("numbers", "values a number", "bytes", part.score_name, "certified test error"),
        tuple((m.d, m.levels, m.bytes, m.score, m.bound) for m in part.messages),
    )


DATA_PANELS: tuple[Callable[[Profile], Panel | None], ...] = (
    across_scales,
    per_estimator,
    per_class,
    per_point,
    spectrum,
    extra_panels.density,
    extra_panels.difficulty,
    extra_panels.topology,
)
MODEL_PANELS: tuple[Callable[[Profile], Panel | None], ...] = (
    score_against_d,
    message_length,
    extra_panels.layers,
)


def data_panels(p: Profile) -> list[Panel]:
    """Return the figures about the data."""
    return [panel for make in DATA_PANELS if (panel := make(p)) is not None]


def model_panels(p: Profile) -> list[Panel]:
    """Return the figures about the model."""
    return [panel for make in MODEL_PANELS if (panel := make(p)) is not None]
