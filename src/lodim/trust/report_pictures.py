"""The pictures of a trust report, as data."""

from __future__ import annotations

from typing import Any

from lodim.pages import words
from lodim.pages.picture import Dot, Key, Line, Mark, Picture, Row, dot_rows, linear_axis
from lodim.trust.answers import Elsewhere, Fooled, Probabilities, Reasons

_MOST = 15  # rows of one picture


def pictures_of(part: Any) -> list[Picture]:
    """Return the pictures of one section."""
    for kind, draw in _DRAWN.items():
        if isinstance(part, kind):
            return draw(part)
    return []


def _reasons(part: Reasons) -> list[Picture]:
    shown = list(zip(part.names, part.scores, part.low, part.high, part.drives))[:_MOST]
    rows = [
        Row(name, float(score), (float(low), float(high)), 1 if drives else 4)
        for name, score, low, high, drives in shown
    ]
    x, y, marks = dot_rows(rows, "mean change of the probabilities", reference=0.0, write=words.number)
    more = f" The first {_MOST} of {len(part.names):,}." if len(part.names) > _MOST else ""
    return [
        Picture(
            "importance",
            f"What shuffling one {part.unit} changes",
            f"{int(part.drives.sum()):,} of {words.plural(len(part.names), part.unit)} told from noise.{more} "
            f"{part.compared}",
            x,
            y,
            marks,
            (part.unit, "change", "low", "high", "beyond noise", "helps"),
            tuple(
                (name, float(score), float(low), float(high), *("yes" if told else "no" for told in both))
                for name, score, low, high, *both in zip(
                    part.names, part.scores, part.low, part.high, part.drives, part.helps
                )
            ),
            tuple(
                Key(series, said)
                for series, said in ((1, "beyond noise (5 % family-wise)"), (4, "not told from noise"))
                if any(row.series == series for row in rows)
            ),
        )
    ]


def _probabilities(part: Probabilities) -> list[Picture]:
    axis = lambda label: linear_axis([0.0, 1.0], label, limits=(0, 1))  # noqa: E731
    marks: list[Mark] = [Line(((0.0, 0.0), (1.0, 1.0)), 2)]
    bins = list(
        zip(part.predicted, part.observed, part.observed_low, part.observed_high, part.counts.tolist())
    )
    marks += [Line(((float(p), float(a)), (float(p), float(b)))) for p, _, a, b, _ in bins]
    marks += [
        Dot(
            float(p),
            float(o),
            f"said {words.score(p)}, happened {words.score(o)} ({words.score(a)}–{words.score(b)}), {n:,} rows",
            size=4.0,
        )
        for p, o, a, b, n in bins
    ]
    return [
        Picture(
            "reliability",
            "What was said and what happened",
            f"In {words.plural(part.n_bins, 'bin')} of equal counts, {words.plural(part.n, 'row')}. Of true "
            "probabilities about 19 of 20 bins reach the diagonal with their intervals.",
            axis(f"probability of {part.event}"),
            axis("share in which it happened"),
            tuple(marks),
            ("said", "happened", "low", "high", "rows"),
            tuple((float(p), float(o), float(a), float(b), n) for p, o, a, b, n in bins),
            (Key(1, "bins with their intervals"), Key(2, "true probabilities")),
        )
    ]


def _elsewhere(part: Elsewhere) -> list[Picture]:
    rows = [
        Row(
            name,
            right.value,
            (right.low, right.high),
            2 if name in part.worse else 3 if name in part.better else 1,
        )
        for name, right in zip(part.names, part.right)
    ]
    shown = sorted(rows, key=lambda row: row.value)[:_MOST]
    x, y, marks = dot_rows(shown, "accuracy", zero=False, write=words.score)
    more = f" Shown are {_MOST} of them." if len(rows) > _MOST else ""
    keys = {
        1: "not told from the rest",
        2: "worse than the rest (Holm, 5 %)",
        3: "better than the rest (Holm, 5 %)",
    }
    return [
        Picture(
            "environments",
            "Accuracy by environment",
            f"{words.plural(len(rows), 'environment')}, the worst on top; intervals of 95 % each.{more}",
            x,
            y,
            marks,
            ("environment", "accuracy", "low", "high", "rows"),
            tuple((n, r.value, r.low, r.high, r.n) for n, r in zip(part.names, part.right)),
            tuple(
                Key(series, said) for series, said in keys.items() if any(r.series == series for r in shown)
            ),
        )
    ]


def _fooled(part: Fooled) -> list[Picture]:
    sizes = (0.0, *part.sizes)
    attacked = (part.clean, *(right.value for right in part.attacked))
    marks: list[Mark] = [
        Line(tuple(zip(sizes, (part.clean, *part.noise))), 2),
        Line(tuple(zip(sizes, attacked))),
        *(Line(((s, r.low), (s, r.high))) for s, r in zip(part.sizes, part.attacked)),
        *(
            Dot(s, r.value, f"{words.number(s)}: {words.score(r.value)}", size=4.0)
            for s, r in zip(part.sizes, part.attacked)
        ),
    ]
    values = [list(v) for _, v in part.attacks]
    return [
        Picture(
            "attacks",
            "Accuracy under chosen changes and under noise",
            f"{words.plural(part.attacked[0].n, 'row')}; a row counts as right if no attack moved it.",
            linear_axis(sizes, f"largest change, {part.unit}"),
            linear_axis([0.0, 1.0], "accuracy", limits=(0, 1)),
            tuple(marks),
            ("size", "worst attack", "low", "high", "noise", *(name for name, _ in part.attacks)),
            tuple(
                (s, r.value, r.low, r.high, n, *(v[i] for v in values))
                for i, (s, r, n) in enumerate(zip(part.sizes, part.attacked, part.noise))
            ),
            (Key(1, "worst of the attacks, with intervals"), Key(2, "noise of the same size")),
        )
    ]


_DRAWN: dict[type, Any] = {
    Reasons: _reasons,
    Probabilities: _probabilities,
    Elsewhere: _elsewhere,
    Fooled: _fooled,
}
