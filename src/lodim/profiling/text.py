"""A profile in words: the verdict in one to three sentences, and the whole answer as plain text."""

from __future__ import annotations

import textwrap

from lodim.profiling import wording
from lodim.profiling.parts import LandscapePart, ProfileData, scores_by_d

MOST_CLASSES, MOST_LAYERS = 12, 8


def verdict(p: ProfileData) -> str:
    """Return the answer in one to three sentences."""
    parts = [_data_sentence(p), _landscape_sentence(p)]
    if not p.complete:
        parts.append("The run was interrupted; this is what was known by then.")
    return " ".join(part for part in parts if part)


def full_text(p: ProfileData) -> str:
    """Return verdict, tables, advice and notes as plain text."""
    blocks = [verdict(p), *_tables(p)]
    if p.advice:
        blocks.append("What to do next\n" + "\n".join(f"  - {_wrap(a.text)}" for a in p.advice))
    if p.notes:
        blocks.append("Notes\n" + "\n".join(f"  - {_wrap(note)}" for note in p.notes))
    blocks.append(f"{p.source}, seed {p.seed}, {wording.seconds(p.seconds)}")
    return "\n\n".join(blocks)


def _data_sentence(p: ProfileData) -> str:
    said = "the dimension of the data is not known" if p.data is None else wording.dimension_of(p.data)
    if p.data is not None and p.data.steps is not None:
        return f"{wording.columns(p)}. {wording.steps_of(p.data, p.data.steps)}"
    return f"{wording.columns(p)}{';' if said.startswith('the ') else ','} {said}."


def _landscape_sentence(p: ProfileData) -> str:
    part = p.landscape
    if part is None or part.baseline_score is None:
        return ""
    who = f"{wording.sentence(wording.model(part.model))} with {part.n_parameters:,} weights"
    reached = f"{part.score_name} {wording.score(part.baseline_score)}"
    if part.unsolved:
        return (
            f"{who} does not solve it ({reached}; a constant answer scores {wording.score(part.chance_score)}), "
            "so how many numbers it needs means little."
        )
    does = f"solves it ({reached})"
    if p.kind == "regression":
        does = f"explains {wording.percent(part.baseline_score)} of the variance ({reached})"
    if part.status == "not_reached":
        return f"{who} {does}, but not 90 % as well with {part.d_max or 0:,} numbers or fewer."
    if part.status == "below_d_min":
        few = wording.plural(part.d_least or 1, "trained number")
        return f"{who} {does}, and {few} already keep 90 % of that."
    if part.d_int90 is None:
        return f"{who} {does}; how few numbers would do is not known."
    ends = wording.interval(part.interval, lambda x: f"{x:,.0f}")
    ratio = (part.n_parameters / part.d_int90) if part.d_int90 else 0
    text = f"{who} {does} and keeps 90 % of that with about {part.d_int90:,.0f} numbers{wording.in_brackets(ends)}, "
    text += f"{wording.number(ratio, digits=2)} times fewer"
    if part.message_bytes is not None:
        text += f"; as a message, {part.message_bytes:,} bytes ({part.score_name} {wording.score(part.message_score)})"
    return text + "."


def _wrap(text: str, width: int = 96) -> str:
    return textwrap.fill(text, width=width, subsequent_indent="    ")


def _tables(p: ProfileData) -> list[str]:
    blocks = []
    if p.data is not None and p.data.estimators:
        header = ("estimator", "as published", "dimension", f"{wording.nominal(p.data)} interval")
        rows = [
            (
                wording.estimator(key),
                wording.dimension(e.dimension),
                wording.dimension(e.calibrated),
                wording.interval(e.interval if p.data.level is None or e.calibrated is not None else None),
            )
            for key, e in p.data.estimators.items()
        ]
        blocks.append("Dimension of the data\n" + wording.table(header, rows))
    if p.data is not None and p.data.per_class:
        classes = [
            (name, wording.dimension(e.dimension), wording.interval(e.interval), f"{e.n or 0:,}")
            for name, e in list(p.data.per_class.items())[:MOST_CLASSES]
        ]
        left_out = len(p.data.per_class) - MOST_CLASSES
        more = f"\n  (and {left_out} more classes)" if left_out > 0 else ""
        header = ("class", "dimension", f"{wording.nominal(p.data)} interval", "rows")
        blocks.append("Per class\n" + wording.table(header, classes) + more)
        if whole := wording.beside_whole(p.data):
            blocks.append(_wrap(whole))
    if p.landscape is not None and p.landscape.curve:
        blocks.append(_curve_table(p.landscape))
    beside = _beside(p)
    if beside:
        blocks.append("Beside the dimension\n" + "\n".join(f"  - {_wrap(line)}" for line in beside))
    return blocks


def _beside(p: ProfileData) -> list[str]:
    """A line each on densities, bits, topology and layers."""
    lines = []
    density = p.data.density if p.data else None
    if density is not None:
        name, meaning = wording.REGIMES[density.regime]
        count = wording.number(density.n_eff, digits=2)
        rows = f"{count} of {density.n:,} rows contribute{'s' * (count == '1')}"
        lines.append(f"Density: {name}. A kernel density value is {meaning} ({rows}).")
    if p.difficulty is not None:
        said = wording.bits_of(p.difficulty) + " " + wording.supplied(p.difficulty)
        lines.append(f"Difficulty, an order of magnitude: {said.strip()}")
    topology = p.data.topology if p.data else None
    if topology is not None:
        lines.append(f"Topology: {wording.shape_of(topology)}, on {topology.n:,} rows.")
    layers = [e for e in p.landscape.layers if e.dimension is not None] if p.landscape else []
    if layers:
        step = -(-len(layers) // MOST_LAYERS)
        shown = [*layers[:-1:step], layers[-1]]
        lines.append(
            "Layers: "
            + ", ".join(f"{wording.layer(e)} {wording.dimension(e.dimension)}" for e in shown)
            + " dimensions."
        )
    return lines


def _curve_table(part: LandscapePart) -> str:
    rows = []
    for d, scores in scores_by_d(part).items():
        mean = sum(scores) / len(scores)
        reached = part.threshold_score is not None and mean >= part.threshold_score
        rows.append((f"{d:,}", wording.score(mean), str(len(scores)), "yes" if reached else "no"))
    head = (
        f"Trained numbers against {part.score_name} (direct training {wording.score(part.baseline_score)}, "
        f"threshold {wording.score(part.threshold_score)})\n"
    )
    return head + wording.table(("d", part.score_name, "runs", "reached"), rows)
