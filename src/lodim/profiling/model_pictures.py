"""The pictures of the model: its score against trained numbers and bytes, and the dimension of its layers."""

from __future__ import annotations

from lodim.pages.picture import (
    Across,
    Axis,
    Dot,
    Key,
    Line,
    Mark,
    Picture,
    Row,
    Upright,
    closed,
    dot_rows,
    linear_axis,
    log_axis,
)
from lodim.profiling import wording
from lodim.profiling.parts import LandscapePart, ProfileData, scores_by_d, wavers

MOST_LAYERS = 24


def score_against_d(p: ProfileData) -> Picture | None:
    """Score against the number of trained numbers, with the dimension found."""
    part = p.landscape
    if part is None or part.baseline_score is None or part.threshold_score is None:
        return None
    means = {d: sum(s) / len(s) for d, s in scores_by_d(part).items()}
    if not means:
        return None
    heights = [max(s, _floor(part)) for s in means.values()] + [part.baseline_score, part.threshold_score]
    y = linear_axis(heights, part.score_name, zero=True, limits=(None, 1.0))
    runs = [(r.d, r.score, r.seed) for r in part.curve if r.score is not None]
    marks = _references(part, f"all {part.n_parameters:,} weights", y)
    if part.d_int90:
        marks.append(Upright(part.d_int90, f"d = {part.d_int90:,.0f}", closed(part.interval)))
    marks.append(Line(tuple(means.items())))
    marks += [Dot(d, s, f"d = {d:,}, seed {seed}: {wording.score(s)}", size=3.0) for d, s, seed in runs]
    return Picture(
        "curve",
        "Score against trained numbers",
        _curve_sentence(part) + _drawn_at_the_edge([s for _, s, _ in runs], y, "run"),
        log_axis(list(means), "trained numbers d"),
        y,
        tuple(marks),
        ("d", "seed", part.score_name, f"training {part.score_name}", "learning rate"),
        tuple((r.d, r.seed, r.score, r.train_score, r.lr) for r in part.curve),
        (Key(1, "one run each, line through the means"), Key(2, "threshold and dimension with its interval")),
    )


def _floor(part: LandscapePart) -> float:
    """Scores below this are drawn at the edge: R² has no lower end."""
    return 0.0 if part.score_name == "accuracy" else -0.1


def _drawn_at_the_edge(scores: list[float], y: Axis, noun: str) -> str:
    hidden = sum(score < y.low for score in scores)
    if not hidden:
        return ""
    return f" {wording.plural(hidden, noun)} below {wording.number(y.low)} drawn at the edge."


def _references(part: LandscapePart, words: str, y: Axis) -> list[Mark]:
    """The lines of direct training and of the threshold, whose names keep out of each other's way."""
    base, level = part.baseline_score, part.threshold_score
    marks: list[Mark] = [] if base is None else [Across(base, words, series=3)]
    if level is not None:
        near = base is not None and abs(y(base) - y(level)) < 0.077
        marks.append(Across(level, "90 % of it" if part.score_floor == 0 else "90 % of the way", below=near))
    return marks


def _curve_sentence(part: LandscapePart) -> str:
    name = f"{part.score_name} {wording.score(part.threshold_score)}"
    whole = wording.score(part.baseline_score)
    if part.score_floor:
        whole = f"the way from {wording.score(part.score_floor)} to {whole}"
    if wavers(part):
        return f"Some subspaces reach {name} on average, larger ones do not."
    if part.d_int90 and part.status == "found":
        ends = wording.interval(part.interval, lambda x: f"{x:,.0f}")
        return (
            f"Trained inside a random subspace, the model reaches {name} (90 % of {whole}) with about "
            f"{part.d_int90:,.0f} numbers{wording.in_brackets(ends)} in place of {part.n_parameters:,}."
        )
    if part.status == "not_reached":
        return f"No subspace of up to {part.d_max or 0:,} numbers reaches {name}."
    return f"The smallest subspace tried already reaches {name}."


def message_length(p: ProfileData) -> Picture | None:
    """Score against the bytes of the compressed model."""
    part = p.landscape
    if part is None:
        return None
    found = sorted(
        ((m.bytes, m.score, m) for m in part.messages if m.score is not None), key=lambda item: item[0]
    )
    if not found:
        return None
    heights = [max(score, _floor(part)) for _, score, _ in found]
    lines = [s for s in (part.baseline_score, part.threshold_score) if s is not None]
    y = linear_axis([*heights, *lines], part.score_name, limits=(None, 1.0))
    frontier: list[tuple[int, float]] = []  # the best so far at each length
    dots: list[Mark] = []
    for size, score, m in found:
        if not frontier or score > frontier[-1][1]:
            frontier.append((size, score))
        bound = f", test error certified below {wording.number(m.bound)}" if m.bound is not None else ""
        tip = f"{size:,} bytes, {m.levels} values a number: {wording.score(score)}{bound}"
        chosen = (size, score) == (part.message_bytes, part.message_score)
        dots.append(Dot(size, score, tip, size=5.0 if chosen else 3.6, chosen=chosen))
    shortest, best = found[0], max(found, key=lambda item: item[1])
    shows = (
        f"From {shortest[0]:,} bytes ({part.score_name} {wording.score(shortest[1])}) to {best[0]:,} "
        f"bytes ({wording.score(best[1])})"
    )
    if part.message_bytes is not None:
        shows += f"; {part.message_bytes:,} bytes are the fewest that stay above the threshold"
    shows += "." + _drawn_at_the_edge([score for _, score, _ in found], y, "model")
    if part.bound is not None:
        shows += f" The best certificate puts the test error below {wording.number(part.bound)}."
    return Picture(
        "message",
        "Score against message length",
        shows,
        log_axis([size for size, _, _ in found], "message length in bytes"),
        y,
        (
            *_references(part, f"as 32-bit weights: {4 * part.n_parameters:,} bytes", y),
            Line(tuple(frontier)),
            *dots,
        ),
        ("numbers", "values a number", "bytes", part.score_name, "certified test error"),
        tuple((m.d, m.levels, m.bytes, m.score, m.bound) for m in part.messages),
    )


def layers(p: ProfileData) -> Picture | None:
    """Dimension of the activations through the layers of the trained model."""
    part = p.landscape
    found = [(e, e.dimension) for e in part.layers if e.dimension is not None] if part else []
    if part is None or len(found) < 2:
        return None
    step = -(-len(found) // MOST_LAYERS)
    drawn = [*found[:-1:step], found[-1]]
    first = found[0][0] if found[0][0].name == "input" else None
    rows = [Row(wording.layer(e), dimension, e.interval) for e, dimension in drawn]
    reference, ends = (first.dimension, closed(first.interval)) if first else (None, None)
    peak, last = max(found, key=lambda item: item[1])[0], found[-1][0]
    shows = (
        f"By TwoNN, without correction, {part.n_layer_rows:,} rows and what the trained model makes of them have at "
        f"most {wording.dimension(peak.dimension)} dimensions ({wording.layer(peak)}), and "
        f"{wording.dimension(last.dimension)} at the end ({wording.layer(last)}, "
        f"{wording.plural(last.width, 'number')})."
    )
    if step > 1:
        shows += f" One in {step} of {len(found)} layers is drawn."
    return Picture(
        "layers",
        "Dimension through the layers",
        shows,
        *dot_rows(rows, "dimension of the output", reference=reference, ends=ends),
        ("layer", "kind", "numbers", "dimension", "low", "high", "remark"),
        tuple(
            (e.name, e.kind, e.width, e.dimension, *(e.interval or (None, None)), e.remark)
            for e in part.layers
        ),
        (Key(1, "layer's output (TwoNN), 95 % interval"), Key(2, "input"))[: 1 + (first is not None)],
    )
