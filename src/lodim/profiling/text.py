"""A profile in words: the verdict in one to three sentences, and the whole answer as plain text."""

from __future__ import annotations

import textwrap

from lodim.profiling import wording
from lodim.profiling.parts import LEVEL, LandscapePart, ProfileData, scores_by_d, wavers

MOST_CLASSES, MOST_LAYERS = 12, 8


def verdict(p: ProfileData) -> str:
    """Return the answer in one to three sentences."""
    parts = [_data_sentence(p), _groups_sentence(p), _landscape_sentence(p)]
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


def _groups_sentence(p: ProfileData) -> str:
    """Clear groups; of others the table below speaks."""
    found = p.data.groups if p.data else None
    return found.sentence if found is not None and found.clear else ""


def _landscape_sentence(p: ProfileData) -> str:
    part = p.landscape
    if part is None or part.baseline_score is None:
        return ""
    who = f"{wording.sentence(wording.model(part.model))} with {part.n_parameters:,} weights"
    if part.unsolved:
        return f"{who} {_guesses(part)}, so how few numbers it needs means nothing."
    does = f"{who} {_scores(p, part)}"
    same = "90 % of that" if part.score_floor == 0 else "90 % of what it has over a constant answer"
    if wavers(part):
        return f"{does}. Its score rises and falls with the trained numbers: no least number keeps {same}."
    if part.status == "not_reached":
        return f"{does}. With {part.d_max or 0:,} trained numbers or fewer it does not keep {same}."
    if part.status == "below_d_min":
        few = wording.plural(part.d_least or 1, "trained number")
        return f"{does}. {few} already keep {same}."
    if part.d_int90 is None:
        return f"{does}. How few numbers would do is not known."
    ends = wording.interval(part.interval, lambda x: f"{x:,.0f}")
    ratio = (part.n_parameters / part.d_int90) if part.d_int90 else 0
    text = (
        f"{does}. About {part.d_int90:,.0f} trained numbers{wording.in_brackets(ends)} keep {same}, "
        f"{wording.number(ratio, digits=2)} times fewer"
    )
    if part.message_bytes is not None:
        text += f"; as a message, {part.message_bytes:,} bytes ({part.score_name} {wording.score(part.message_score)})"
    return text + "."


def _guesses(part: LandscapePart) -> str:
    """What is said of a model whose score does not count."""
    reached = f"{part.score_name} {wording.score(part.baseline_score)}"
    constant = f"{wording.CONSTANTS[part.score_name]} {wording.score(part.chance_score)}"
    if part.guess_p is None:
        return f"barely does better than a constant answer ({reached}; {constant})"
    rows = wording.plural(part.n_told, "held-out row")
    if part.n_told < part.n_val:
        rows = f"{wording.plural(part.n_told, 'different row')} of {part.n_val:,} held out"
    best = f"{wording.chance(part.guess_p)} for the best of {part.n_direct} runs; {wording.number(LEVEL)} is asked for"
    said = f"cannot be told from guessing on {rows} ({reached}; {constant}; {best})"
    if part.orders_rows:
        said += (
            f", though it does order them (AUC {wording.score(part.auc)}, {wording.chance(part.auc_p)}): the columns "
            "say something, but these rows do not show that it answers better than always the commonest class"
        )
    return said


def _scores(p: ProfileData, part: LandscapePart) -> str:
    """The model's score beside a linear model's and a constant's."""
    reached = f"{part.score_name} {wording.score(part.baseline_score)}"
    mean = f"mean of {len(part.baseline_runs)} runs" if len(part.baseline_runs) > 1 else ""
    does = f"reaches {reached}{wording.in_brackets(mean)} on {wording.plural(part.n_val, 'held-out row')}"
    if p.kind == "regression":
        share = wording.percent(max(0.0, part.baseline_score or 0.0))
        does = f"explains {share} of the variance of {wording.plural(part.n_val, 'held-out row')} ({reached}"
        does += f", {mean})" if mean else ")"
    beside = []
    if part.linear_score is not None:
        told = _LINEAR_IS.get(part.linear_is or "", "")
        beside.append(f"a linear model {wording.score(part.linear_score)}{told}")
    beside.append(f"{wording.CONSTANTS[part.score_name]} {wording.score(part.chance_score)}")
    return f"{does}; {', '.join(beside)}"


_LINEAR_IS = {
    "better": " (better than the best run)",
    "worse": " (worse than the best run)",
    "alike": " (these rows do not tell it from the best run)",
}


def recipe(part: LandscapePart) -> str:
    """Return in a line what the number of trained numbers depends on, and how much where that was measured."""
    if not part.passes or part.unsolved or part.baseline_score is None:
        return ""
    scaled = {
        "together": "all columns brought to one scale together",
        "each": "each column brought to unit variance by itself",
    }
    widths = [m for m, _ in part.layer_shapes[:-1]] if part.model == "mlp" else []
    shape = f", {' and '.join(map(str, widths))} wide," if widths else ""
    text = (
        f"The number of trained numbers belongs to this recipe: {wording.model(part.model)}{shape} "
        f"{part.passes} passes over {part.n_train:,} rows with Adam, {scaled[part.scaling]}."
    )
    other = part.other_recipe
    if other is None:
        return text + " Another width, length or scaling moves it."
    ends = wording.in_brackets(wording.interval(other.interval, lambda x: f"{x:,.0f}"))
    found = "is not known" if other.d_int90 is None else f"is about {other.d_int90:,.0f}"
    return text + f" With {other.passes} passes it {found}{ends}; another width or scaling moves it too."


def _wrap(text: str, width: int = 96, subsequent: str = "    ") -> str:
    return textwrap.fill(text, width=width, subsequent_indent=subsequent)


def _tables(p: ProfileData) -> list[str]:
    blocks = []
    if p.data is not None and p.data.estimators:
        header = ("estimator", "as published", "dimension", wording.interval_name(p.data))
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
        if apart := wording.no_average(p.data):
            blocks.append(_wrap(apart, subsequent=""))
    if p.data is not None and p.data.per_class:
        flagged = any(e.remark for e in p.data.per_class.values())
        classes = [
            (name, wording.dimension(e.dimension), wording.interval(e.interval), f"{e.n or 0:,}")
            + (e.remark,) * flagged
            for name, e in list(p.data.per_class.items())[:MOST_CLASSES]
        ]
        left_out = len(p.data.per_class) - MOST_CLASSES
        more = f"\n  (and {left_out} more classes)" if left_out > 0 else ""
        if any("unfamiliar" in e.remark for e in p.data.per_class.values()):
            more += "\n  (unfamiliar: other than the shapes of the calibration; the interval may miss)"
        names = ("class", "dimension", wording.interval_name(p.data), "rows") + ("note",) * flagged
        blocks.append("Per class\n" + wording.table(names, classes) + more)
        if whole := wording.beside_whole(p.data):
            blocks.append(_wrap(whole, subsequent=""))
    if p.landscape is not None and p.landscape.curve:
        blocks.append(_curve_table(p.landscape))
    beside = _beside(p)
    if beside:
        blocks.append("Beside the dimension\n" + "\n".join(f"  - {_wrap(line)}" for line in beside))
    return blocks


def _beside(p: ProfileData) -> list[str]:
    """A line each on groups, densities, bits, topology and layers."""
    lines = []
    groups = p.data.groups if p.data else None
    if groups is not None:
        told = f" They are the values of {groups.told_by!r}." if groups.told_by else ""
        lines.append(f"Groups: {groups.sentence[:1].lower()}{groups.sentence[1:]}{told}")
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
            "Layers, by TwoNN without correction, of rows as the model is given them: "
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
    table = wording.table(("d", part.score_name, "runs", "reached"), rows)
    said = recipe(part)
    return head + table + (f"\n  {_wrap(said, subsequent='  ')}" if said else "")
