"""The report's figures beside the dimension: densities, bits of assumptions, topology, and the model's layers."""

from __future__ import annotations

from lodim.profiling import charts, wording
from lodim.profiling.extras import Density
from lodim.profiling.panel import Panel
from lodim.profiling.result import Profile

MOST_LAYERS = 24


def density(p: Profile) -> Panel | None:
    """Where the best bandwidth of a kernel density lies among the three regimes."""
    part = p.data.density if p.data else None
    if part is None or not part.bandwidth or not part.h_g or not part.h_clt:
        return None
    name, meaning = wording.REGIMES[part.regime]
    shows = (
        f"{wording.sentence(name)}: at the best bandwidth, {wording.number(part.bandwidth)}, a kernel density value "
        f"rests on {_rows(part.n_eff)} of {part.n:,}; it is {meaning}."
    )
    if part.regime == "condensed":
        shows += f" From {wording.number(part.h_g)} on it would be an average, but too smooth a one to fit the rows."
    return Panel(
        "density",
        "What a density value rests on",
        shows,
        _bandwidths(part).svg("density", "What a density value rests on", shows),
        ("bandwidth", "value"),
        (
            ("best (leave-one-out)", part.bandwidth),
            ("average from (h_G)", part.h_g),
            ("central limit from (h_CLT)", part.h_clt),
            ("rows that contribute", part.n_eff),
        ),
        (
            ("s2", "few nearest rows decide"),
            ("s4", "average with heavy tails"),
            ("s3", "ordinary average"),
            ("s1", "best bandwidth"),
        ),
    )


def _rows(n_eff: float | int | None) -> str:
    if n_eff is None:
        return "an unknown number of rows"
    return f"{wording.number(n_eff, digits=2)} row{'s' if n_eff >= 1.05 else ''}"


def _bandwidths(part: Density) -> charts.Canvas:
    """The bandwidths as one line, shaded by regime, with the best one on it."""
    marks = [float(h) for h in (part.bandwidth, part.h_g, part.h_clt) if h]
    best, h_g, h_clt = marks
    low, high = min(marks) / 1.5, max(marks) * 1.8
    canvas = charts.Canvas(
        charts.log_axis([low, high], "bandwidth, in the units of the data"),
        charts.Axis(0, 1, ""),
        height=112,
        top=10,
    )
    canvas.grid(horizontal=False, y_labels=False)
    for left, right, css in ((canvas.x.low, h_g, "s2"), (h_g, h_clt, "s4"), (h_clt, canvas.x.high, "s3")):
        canvas.band((left, right), (0, 0), (1, 1), f"{css} zone")
    canvas.dot(best, 0.5, "s1", f"best bandwidth {wording.number(best)}", 6.0)
    return canvas


def difficulty(p: Profile) -> Panel | None:
    """Bits of assumptions that the rows leave open."""
    part = p.difficulty
    if part is None or part.log10_bits is None:
        return None
    rows = [charts.Row(f"error {wording.percent(part.error)}", part.log10_bits, part.interval)]
    if part.supplied_log10_bits is not None and part.supplied_by is not None:
        rows.append(charts.Row(f"supplied by {part.supplied_by}", part.supplied_log10_bits, None, "s3"))
    if part.narrower_log10_bits is not None:
        rows.append(charts.Row("one dimension less", part.narrower_log10_bits, None, "s2"))
    if part.doubled_log10_bits is not None:
        rows.append(charts.Row("twice the rows", part.doubled_log10_bits, None, "s2"))
    canvas = charts.dot_rows(rows, "decimal logarithm of the bits", zero=False)
    shows = wording.sentence(wording.bits_of(part)) + " Read it as an order of magnitude."
    if part.supplied_error is not None:
        shows += " " + wording.supplied(part)
    return Panel(
        "difficulty",
        "Bits of assumptions the task asks for",
        shows,
        canvas.svg("difficulty", "Bits of assumptions the task asks for", shows),
        ("", "log10 of the bits", "low", "high"),
        tuple((r.name, r.value, *(r.ends or (None, None))) for r in rows),
        (("s1", "asked for, 95 % interval"), ("s3", "supplied"), ("s2", "asked for then")),
    )


def topology(p: Profile) -> Panel | None:
    """Components and loops beyond noise."""
    part = p.data.topology if p.data else None
    if part is None:
        return None
    gaps = [charts.Row(f"gap {i}", gap, None, "s2") for i, gap in enumerate(part.component_gaps[:8], 1)]
    loops = [
        charts.Row(f"loop {i}", ratio, None, "s1" if i <= part.n_loops else "s4")
        for i, ratio in enumerate(part.loop_ratios, 1)
    ]
    if not gaps and not loops:
        return None
    shows = (
        f"{wording.sentence(wording.shape_of(part))}, on {part.n:,} rows. A loop's ratio is the distance at which it "
        "closes over that at which it appears; a gap separates components, in usual distances to a near row."
    )
    legend = [("s1", "loop beyond noise")] * (part.n_loops > 0) + [("s4", "loop that noise has too")]
    return Panel(
        "topology",
        "Components and loops",
        shows,
        charts.dot_rows([*gaps, *loops], "ratio").svg("topology", "Components and loops", shows),
        ("", "ratio", "p-value"),
        (
            *((r.name, r.value, None) for r in gaps),
            *((r.name, r.value, q) for r, q in zip(loops, part.loop_p_values)),
        ),
        tuple(legend + [("s2", "gap between components")] * bool(gaps)),
    )


def layers(p: Profile) -> Panel | None:
    """Dimension of the activations through the layers of the trained model."""
    part = p.landscape
    found = [layer for layer in part.layers if layer.dimension is not None] if part else []
    if part is None or len(found) < 2:
        return None
    step = -(-len(found) // MOST_LAYERS)
    drawn = [*found[:-1:step], found[-1]]
    rows = [charts.Row(wording.layer(e), float(e.dimension or 0.0), e.interval) for e in drawn]
    first = found[0] if found[0].name == "input" else None
    ends = charts.closed(first.interval) if first else None
    canvas = charts.dot_rows(
        rows, "dimension of the output", reference=first.dimension if first else None, ends=ends
    )
    peak, last = max(found, key=lambda e: float(e.dimension or 0.0)), found[-1]
    shows = (
        f"What the trained model makes of {part.n_layer_rows:,} rows has at most {wording.dimension(peak.dimension)} "
        f"dimensions ({wording.layer(peak)}), and {wording.dimension(last.dimension)} at its end "
        f"({wording.layer(last)}, {wording.plural(last.width, 'number')})."
    )
    if step > 1:
        shows += f" One in {step} of {len(found)} layers is drawn."
    return Panel(
        "layers",
        "Dimension through the layers",
        shows,
        canvas.svg("layers", "Dimension through the layers", shows),
        ("layer", "kind", "numbers", "dimension", "low", "high", "remark"),
        tuple(
            (e.name, e.kind, e.width, e.dimension, *(e.interval or (None, None)), e.remark)
            for e in part.layers
        ),
        (("s1", "layer's output (TwoNN), 95 % interval"), ("s2", "input"))[: 1 + (first is not None)],
    )
