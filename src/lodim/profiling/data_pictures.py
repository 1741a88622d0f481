"""The pictures of the data: its dimension across scales, estimators, classes and rows, and what lies beside it."""

from __future__ import annotations

from collections.abc import Sequence

from lodim.pages.picture import (
    Across,
    Axis,
    Band,
    Bar,
    Dot,
    Key,
    Line,
    Mark,
    Picture,
    Row,
    Upright,
    dot_rows,
    linear_axis,
    log_axis,
)
from lodim.pages.words import closed
from lodim.profiling import wording
from lodim.profiling.parts import DataPart, Density, DimensionAtScale, MeasuredDimension, ProfileData

MOST_CLASSES = 24


def across_scales(p: ProfileData) -> Picture | None:
    """Dimension against the distance at which it is measured."""
    part = p.data
    points = [s for s in part.scale_profile if s.dimension is not None and s.radius > 0] if part else []
    if part is None or len(points) < 2:
        return None
    x = log_axis([s.radius for s in points], "mean distance to the outer neighbour")
    highest = [_dimension(s) + _doubt(s) for s in points]
    ends = [e for e in part.interval or () if e is not None]
    marks: list[Mark] = []
    if part.dimension is not None:
        if (whole := closed(part.interval)) is not None:
            low, high = whole
            marks.append(Band((x.low, x.high), (low, low), (high, high), series=2))
        marks.append(Across(part.dimension))
    legend = [Key(2, "the dimension with its interval")]
    for method, series, words in (
        ("gride", 1, "all points, farther neighbours (Gride)"),
        ("decimation", 3, "fewer points (decimation)"),
    ):
        curve = sorted((s for s in points if s.method == method), key=lambda s: s.radius)
        if curve:
            marks += _scale_marks(curve, series)
            legend.append(Key(series, words))
    by_rank = sorted((s for s in points if s.method == "gride"), key=lambda s: s.n_neighbors) or points
    first, last = by_rank[0], by_rank[-1]
    return Picture(
        "scales",
        "Dimension across scales",
        f"As published, without correction, the answer is {wording.dimension(first.dimension)} between nearest "
        f"neighbours and {wording.dimension(last.dimension)} at the largest scale "
        f"({wording.plural(last.n_neighbors, 'neighbour')}). "
        + (
            "That changes more than on simulated shapes: the dimension hangs on the scale."
            if part.scale_dependent
            else "Edges and few rows alone can bend such a line, the more the higher the dimension."
        ),
        x,
        linear_axis([*map(_dimension, points), *highest, *ends], "dimension", zero=True),
        tuple(marks),
        ("method", "outer neighbour", "mean distance", "points used", "dimension", "standard error"),
        tuple(
            (s.method, s.n_neighbors, s.radius, s.n_used, s.dimension, s.standard_error)
            for s in part.scale_profile
        ),
        tuple(legend),
    )


def _dimension(s: DimensionAtScale) -> float:
    return float(s.dimension or 0.0)


def _doubt(s: DimensionAtScale) -> float:
    return 1.96 * (s.standard_error or 0.0)


def _scale_marks(curve: Sequence[DimensionAtScale], series: int) -> list[Mark]:
    x, y, doubt = [s.radius for s in curve], [*map(_dimension, curve)], [*map(_doubt, curve)]
    low, high = (tuple(a + sign * b for a, b in zip(y, doubt)) for sign in (-1, 1))
    tips = [
        f"{wording.dimension(b)} ± {wording.number(c, digits=2)} at distance {wording.number(a)}"
        for a, b, c in zip(x, y, doubt)
    ]
    dots = [Dot(a, b, tip, series) for a, b, tip in zip(x, y, tips)]
    return [Band(tuple(x), low, high, series), Line(tuple(zip(x, y)), series), *dots]


def per_estimator(p: ProfileData) -> Picture | None:
    """Every estimator's answer with its interval."""
    part = p.data
    if part is None:
        return None
    rows = [_estimate(k, e, part) for k, e in part.estimators.items() if e.dimension is not None]
    if not rows:
        return None
    corrected = [r for r in rows if r.second is not None]
    said = corrected or rows
    low, high = min(said, key=lambda r: r.value), max(said, key=lambda r: r.value)
    shows = (
        f"{len(said)} estimators{', corrected,' if corrected else ''} answer between {wording.dimension(low.value)} "
        f"({low.name}) and {wording.dimension(high.value)} ({high.name}); all distances together say "
        f"{wording.dimension(part.dimension)}{wording.in_brackets(wording.interval(part.interval))}."
    )
    if apart := wording.no_average(part):
        shows += f" {apart}"
    legend = [Key(1, wording.interval_name(part)), Key(2, "all distances together")]
    if corrected:
        legend.insert(1, Key(1, "as published", hollow=True))
        shows += " Hollow marks are answers as published; filled ones beside them are corrected by simulated shapes."
        if len(corrected) < len(rows):
            shows += " A mark alone is as published: for that estimator no correction is known."
    return Picture(
        "estimators",
        "What each estimator says",
        shows,
        *dot_rows(rows, "dimension", reference=part.dimension, ends=closed(part.interval)),
        ("estimator", "as published", "corrected", "low", "high", "remark"),
        tuple(
            (wording.estimator(k), e.dimension, e.calibrated, *(e.interval or (None, None)), e.remark)
            for k, e in part.estimators.items()
        ),
        tuple(legend),
    )


def _estimate(key: str, e: MeasuredDimension, part: DataPart) -> Row:
    """The corrected answer with its interval and the published one beside it; the latter alone where it has none."""
    value, name = float(e.dimension or 0.0), wording.estimator(key)
    if part.level is None:  # documents of version 0.1: the interval is of the published answer
        return Row(name, value, e.interval, second=e.calibrated)
    return Row(name, value) if e.calibrated is None else Row(name, e.calibrated, e.interval, second=value)


def per_class(p: ProfileData) -> Picture | None:
    """The dimension of every class."""
    part = p.data
    if part is None:
        return None
    rows = [Row(k, e.dimension, e.interval) for k, e in part.per_class.items() if e.dimension is not None]
    if len(rows) < 2:
        return None
    rows.sort(key=lambda r: -r.value)
    drawn = rows if len(rows) <= MOST_CLASSES else rows[: MOST_CLASSES // 2] + rows[-MOST_CLASSES // 2 :]
    shows = _order(rows)
    if beside := wording.beside_whole(part):
        shows += f" {beside}"
    if len(drawn) < len(rows):
        shows += f" Of {len(rows)} classes the {len(drawn)} most extreme are drawn."
    return Picture(
        "classes",
        "Dimension of each class",
        shows,
        *dot_rows(drawn, "dimension within the class", reference=part.dimension, ends=closed(part.interval)),
        ("class", "dimension", "low", "high", "rows"),
        tuple((k, e.dimension, *(e.interval or (None, None)), e.n) for k, e in part.per_class.items()),
        (Key(1, f"class, {wording.interval_name(part)}"), Key(2, "all classes together")),
    )


def _order(rows: Sequence[Row]) -> str:
    """Which classes have the most and the fewest dimensions, where their intervals tell them apart."""
    most, fewest = rows[0], rows[-1]
    of = lambda r: f"{wording.dimension(r.value)}{wording.in_brackets(wording.interval(r.ends))}"  # noqa: E731
    high, low = closed(most.ends), closed(fewest.ends)
    if high is None or low is None or high[0] <= low[1]:
        return (
            f"Class {most.name} has the largest figure, {of(most)}, class {fewest.name} the smallest, {of(fewest)}; "
            "the two intervals overlap."
        )
    return (
        f"Class {most.name} varies in the most directions, {of(most)}, "
        f"class {fewest.name} in the fewest, {of(fewest)}."
    )


def per_point(p: ProfileData) -> Picture | None:
    """How the local dimension differs from row to row."""
    points = p.data.pointwise if p.data else None
    if points is None or len(points.counts) < 2:
        return None
    bars = [
        Bar(low, high, count, f"{wording.dimension(low)} to {wording.dimension(high)}: {count:,}")
        for low, high, count in zip(points.edges[:-1], points.edges[1:], points.counts)
    ]
    low, median, high = points.quantiles[0], points.quantiles[2], points.quantiles[4]
    return Picture(
        "points",
        "Dimension around each row",
        f"Around half of the {points.n:,} rows measured the data has fewer than {wording.dimension(median)} "
        f"dimensions; nine rows in ten lie between {wording.dimension(low)} and {wording.dimension(high)}, in part by "
        "chance.",
        linear_axis(points.edges, "local dimension around a row", zero=True),
        linear_axis(points.counts, "rows", zero=True),
        (*bars, Upright(median)),
        ("from", "to", "rows"),
        tuple(zip(points.edges[:-1], points.edges[1:], points.counts)),
        (Key(1, "rows"), Key(2, "median")),
    )


def spectrum(p: ProfileData) -> Picture | None:
    """Cumulative variance of the principal components."""
    part = p.data
    if part is None or len(part.spectrum) < 2:
        return None
    total = len(part.spectrum)
    shown = total if part.pca95 is None else min(total, max(12, 3 * part.pca95))
    points = tuple(enumerate(part.spectrum[:shown], 1))
    marks: list[Mark] = [Line(((0, 0.0), *points))]
    if shown <= 40:
        marks += [
            Dot(x, y, f"{wording.plural(x, 'component')}: {100 * y:.1f} %", size=2.6) for x, y in points
        ]
    encoded = f" of the {p.n_features:,} encoded columns" if p.n_columns != p.n_features else ""
    shows = f"The first 2 components keep {wording.percent(part.spectrum[1])} of the variance{encoded}"
    if part.pca95 is not None:
        marks += [Across(0.95, "95 %"), Upright(part.pca95, wording.plural(part.pca95, "component"))]
        shows += f", {part.pca95:,} keep 95 %"
    shows += "."
    if bent := wording.bent(part):
        shows += f" {bent}"
    return Picture(
        "spectrum",
        "Variance kept by PCA",
        shows,
        linear_axis([0.0, float(shown)], "principal components kept", limits=(0.0, None)),
        linear_axis([0.0, 1.0], "share of the variance"),
        tuple(marks),
        ("components", "share of variance"),
        tuple(enumerate(part.spectrum, 1)),
    )


def density(p: ProfileData) -> Picture | None:
    """The bandwidths of a kernel density as a strip of three regimes, with the best one on it."""
    part = p.data.density if p.data else None
    if part is None or not part.bandwidth or not part.h_g or not part.h_clt:
        return None
    best, h_g, h_clt = part.bandwidth, part.h_g, part.h_clt
    x = log_axis(
        [min(best, h_g, h_clt) / 1.5, max(best, h_g, h_clt) * 1.8],
        "bandwidth, a distance between rows as measured",
    )
    zones = ((x.low, h_g, 2), (h_g, h_clt, 4), (h_clt, x.high, 3))
    name, meaning = wording.REGIMES[part.regime]
    shows = (
        f"{wording.sentence(name)}: at the best bandwidth, {wording.number(best)}, a kernel density value "
        f"rests on {_rows(part)} of {part.n:,}; it is {meaning}."
    )
    if part.regime == "condensed":
        shows += (
            f" From {wording.number(h_g)} on it would be an average, but too smooth a one to fit the rows."
        )
    return Picture(
        "density",
        "What a density value rests on",
        shows,
        x,
        Axis(0, 1),
        (
            *(Band((left, right), (0, 0), (1, 1), series, zone=True) for left, right, series in zones),
            Dot(best, 0.5, f"best bandwidth {wording.number(best)}", size=6.0),
        ),
        ("bandwidth", "value"),
        (
            ("best (leave-one-out)", best),
            ("average from (h_G)", h_g),
            ("central limit from (h_CLT)", h_clt),
            ("rows that contribute", part.n_eff),
        ),
        (
            Key(2, "few nearest rows decide"),
            Key(4, "average with heavy tails"),
            Key(3, "ordinary average"),
            Key(1, "best bandwidth"),
        ),
    )


def _rows(part: Density) -> str:
    if part.n_eff is None:
        return "an unknown number of rows"
    return f"{wording.number(part.n_eff, digits=2)} row{'s' if part.n_eff >= 1.05 else ''}"


def difficulty(p: ProfileData) -> Picture | None:
    """Bits of assumptions that the rows leave open."""
    part = p.difficulty
    if part is None or part.log10_bits is None:
        return None
    rows = [Row(f"error {wording.percent(part.error)}", part.log10_bits, part.interval)]
    for name, bits, series in (
        (f"supplied by {part.supplied_by}", part.supplied_log10_bits, 3),
        ("one dimension less", part.narrower_log10_bits, 2),
        ("twice the rows", part.doubled_log10_bits, 2),
    ):
        if bits is not None:
            rows.append(Row(name, bits, None, series))
    shows = wording.sentence(wording.bits_of(part)) + " Read it as an order of magnitude."
    if part.supplied_error is not None:
        shows += " " + wording.supplied(part)
    return Picture(
        "difficulty",
        "Bits of assumptions the task asks for",
        shows,
        *dot_rows(rows, "decimal logarithm of the bits", zero=False),
        ("", "log10 of the bits", "low", "high"),
        tuple((r.name, r.value, *(r.ends or (None, None))) for r in rows),
        (
            Key(1, "asked for, over the dimension's interval"),
            *[Key(3, "supplied")] * (part.supplied_log10_bits is not None),
            Key(2, "asked for then"),
        ),
    )


def topology(p: ProfileData) -> Picture | None:
    """Components and loops beyond noise."""
    part = p.data.topology if p.data else None
    if part is None:
        return None
    gaps = [Row(f"gap {i}", gap, None, 2) for i, gap in enumerate(part.component_gaps[:8], 1)]
    loops = [
        Row(f"loop {i}", ratio, None, 1 if i <= part.n_loops else 4)
        for i, ratio in enumerate(part.loop_ratios, 1)
    ]
    if not gaps and not loops:
        return None
    legend = [Key(1, "loop beyond noise")] * (part.n_loops > 0) + [Key(4, "loop that noise has too")]
    legend += [Key(2, "gap between components")] * bool(gaps)
    return Picture(
        "topology",
        "Components and loops",
        f"{wording.sentence(wording.shape_of(part))}, on {part.n:,} rows. A loop's ratio is the distance at which it "
        "closes over that at which it appears; a gap separates components, in usual distances to a near row.",
        *dot_rows([*gaps, *loops], "ratio"),
        ("", "ratio", "p-value"),
        (
            *((r.name, r.value, None) for r in gaps),
            *((r.name, r.value, q) for r, q in zip(loops, part.loop_p_values)),
        ),
        tuple(legend),
    )
