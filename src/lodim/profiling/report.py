"""The report: one self-contained HTML page (no network, no script), and the short form for notebooks.

Everything that comes from the data (names of files, columns and classes) is escaped by the template engine.
"""

from __future__ import annotations

import shlex
from typing import Any

from lodim.pages.page import KeyFigure, Share, page
from lodim.profiling import wording
from lodim.profiling.parts import ProfileData, wavers
from lodim.profiling.pictures import OF_DATA, OF_MODEL, pictures
from lodim.profiling.text import recipe, verdict

_TABLES = (".csv", ".tsv", ".parquet", ".xlsx", ".ods", ".txt", ".gz")


def key_figures(p: ProfileData) -> list[KeyFigure]:
    """Return the figures a reader looks for first."""
    found = [KeyFigure("columns", f"{p.n_columns:,}", wording.plural(p.n_samples, "row"))]
    if p.data is not None and p.data.steps is not None:
        found.append(
            KeyFigure("dimensions of the data", f"≤ {p.data.steps.most:,}", "not to be read from neighbours")
        )
    elif p.data is not None:
        ends = _known(wording.interval(p.data.interval))
        doubt = "uncertain" if p.data.unfamiliar or p.data.tied else wording.nominal(p.data)
        note = f"{ends}, {doubt}" if ends and p.data.level is not None else ends
        found.append(KeyFigure("dimensions of the data", wording.dimension(p.data.dimension), note))
    part = p.landscape
    if part is not None and part.baseline_score is not None:
        note = f"{part.n_parameters:,} weights"
        if part.linear_score is not None:
            note += f"; a linear model {wording.score(part.linear_score)}"
        found.append(KeyFigure(f"{part.score_name}, all weights", wording.score(part.baseline_score), note))
        whole = lambda x: f"{x:,.0f}"  # noqa: E731
        if part.unsolved:
            pass  # no number of dimensions means anything
        elif part.d_int90 and part.status == "found":
            found.append(
                KeyFigure(
                    "numbers the model needs",
                    whole(part.d_int90),
                    _known(wording.interval(part.interval, whole)),
                )
            )
        elif part.status == "not_reached" and not wavers(part):
            found.append(KeyFigure("numbers the model needs", f"> {part.d_max or 0:,}", "not reached"))
        if part.message_bytes is not None:
            note = f"{part.score_name} {wording.score(part.message_score)}"
            found.append(KeyFigure("bytes for the model", f"{part.message_bytes:,}", note))
    if p.data is not None and p.data.k_f is not None:
        pair = " and ".join(p.data.k_f_pair or ())
        found.append(KeyFigure("label sharpness", wording.number(p.data.k_f), pair))
    return found


def _known(text: str) -> str:
    return "" if text == "–" else text


def shares(p: ProfileData) -> list[Share]:
    """Return the bars that set what is needed against what is there, on a linear scale."""
    found = []
    if p.data is not None and p.data.dimension is not None:
        share = min(1.0, p.data.dimension / p.n_columns)
        words = f"{wording.dimension(p.data.dimension)} of {p.n_columns:,} ({wording.percent(share)})"
        found.append(Share("Data: dimensions of columns", words, share))
    part = p.landscape
    if part is not None and part.d_int90 and part.status == "found" and not part.unsolved:
        share = min(1.0, part.d_int90 / part.n_parameters)
        words = f"{part.d_int90:,.0f} of {part.n_parameters:,} ({wording.percent(share)})"
        found.append(Share("Model: numbers of weights", words, share))
    return found


def command(p: ProfileData) -> str:
    """Return the line that repeats the run."""
    model = p.landscape.model if p.landscape is not None else "none"
    shape = p.data is not None and p.data.topology is not None
    if p.source == "array":
        asked, more = (
            "X, y" if p.kind else "X",
            ", topology=True" * shape + f', kind="{p.kind}"' * p.kind_given,
        )
        return f'lodim.profile({asked}, model="{model}", budget={p.budget:g}, random_state={p.seed}{more})'
    words = ["lodim", "profile", shlex.quote(p.source)]
    if p.target_name and p.source.lower().endswith(_TABLES):
        words += ["--target", shlex.quote(p.target_name)]
    words += ["--kind", str(p.kind)] * p.kind_given
    words += ["--model", shlex.quote(model), "--budget", f"{p.budget:g}s", "--seed", str(p.seed)]
    return " ".join([*words, *["--topology"] * shape])


def _context(p: ProfileData) -> dict[str, Any]:
    return {
        "p": p,
        "w": wording,
        "verdict": verdict(p),
        "figures": key_figures(p),
        "shares": shares(p),
        "advice": [advice.text for advice in p.advice],
        "data_pictures": pictures(p, OF_DATA),
        "model_pictures": pictures(p, OF_MODEL),
        "command": command(p),
        "recipe": recipe(p.landscape) if p.landscape else "",
    }


def render(p: ProfileData) -> str:
    """Return the report as one HTML page."""
    return page("lodim.profiling", "report.html.j2", **_context(p))


def render_fragment(p: ProfileData) -> str:
    """Return verdict, figures and advice as a piece of HTML for a notebook."""
    return page("lodim.profiling", "fragment.html.j2", **_context(p))
