"""What :func:`lodim.trust.report` answers as a whole: a verdict, a text, a page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lodim.files import write_whole
from lodim.pages import figures, words
from lodim.pages.page import KeyFigure, page
from lodim.results import Result
from lodim.trust.answers import (
    LEVEL,
    MOST_RULES,
    Elsewhere,
    Fooled,
    Probabilities,
    Proportion,
    Reasons,
    percents,
    tables,
    wrapped,
)
from lodim.trust.report_pictures import pictures_of

QUESTIONS = {
    "reasons": "Which columns drive it",
    "probabilities": "Are its probabilities true",
    "elsewhere": "Will it hold elsewhere",
    "fooled": "Can it be fooled",
}


@dataclass(frozen=True)
class TrustReport(Result):
    """Four questions about a classifier: the answer of :func:`lodim.trust.report`.

    Print it, or open :meth:`to_html`; :attr:`verdict` is the answer in a few sentences.

    Attributes
    ----------
    source : str
        The model's name.
    right : Proportion
        Accuracy on the rows.
    majority : float
        Of always answering the rows' commonest class.
    p_majority : float
        Of the hypothesis that this is right as often (McNemar's exact test, corrected for the choice of the class).
    reasons, probabilities, elsewhere, fooled
        The sections; None where not asked or not possible, for which ``skipped`` has the reason.
    skipped : dict of str to str
        By the name of the section.
    notes : tuple of str
        What was not checked about the whole, and what was done to the rows.
    complete : bool
        False if the run was interrupted.
    """

    source: str
    n_rows: int
    n_columns: int
    classes: tuple[str, ...]
    right: Proportion
    majority: float
    p_majority: float
    reasons: Reasons | None
    probabilities: Probabilities | None
    elsewhere: Elsewhere | None
    fooled: Fooled | None
    skipped: dict[str, str]
    notes: tuple[str, ...]
    seed: int
    seconds: float
    versions: dict[str, str]
    complete: bool = True

    @property
    def sections(self) -> Iterator[tuple[str, str, Any]]:
        """Name, question and answer of each section."""
        return ((name, asked, getattr(self, name)) for name, asked in QUESTIONS.items())

    @property
    def verdict(self) -> str:
        """The answer in a few sentences."""
        said = [self._first, *(part.short for _, _, part in self.sections if part is not None)]
        if not self.complete:
            said.append("The run was interrupted; this is what was known by then.")
        return " ".join(said)

    @property
    def _first(self) -> str:
        source = words.sentence(self.source) if self.source.startswith("the ") else self.source
        told = f"{source} is right on {self.right} of {words.plural(self.n_rows, 'row')}"
        always = f"always answering the commonest class ({words.percent(self.majority)})"
        if self.p_majority < LEVEL:
            return f"{told}, {'more' if self.right.value > self.majority else 'less'} often than {always}."
        return f"{told}; these rows do not tell it from {always}."

    def __str__(self) -> str:
        blocks = ["\n".join(textwrap.wrap(self._first, 98))]
        for name, asked, part in self.sections:
            lines = [f"{asked}?", *wrapped(part.sentence if part else f"Not asked: {self.skipped[name]}.")]
            if part is not None:
                lines += [*tables(part), *wrapped(f"Not checked: {part.not_checked}")]
            blocks.append("\n".join(lines))
        blocks.append("Notes\n" + "\n".join("\n".join(wrapped(f"- {note}")) for note in self.notes))
        blocks.append(f"{self.source}, seed {self.seed}, {words.seconds(self.seconds)}")
        return "\n\n".join(blocks)

    def key_figures(self) -> list[KeyFigure]:
        """Return the figures a reader looks for first."""
        found = [
            KeyFigure(
                "accuracy",
                words.score(self.right.value),
                f"{words.plural(self.n_rows, 'row')}; {words.interval((self.right.low, self.right.high), words.score)}",
            )
        ]
        if (r := self.reasons) is not None:
            found.append(
                KeyFigure(f"{r.unit}s that drive it", f"{int(r.drives.sum()):,}", f"of {len(r.names):,}")
            )
            if r.fidelity is not None:
                note = percents(r.fidelity.low, r.fidelity.high)
                found.append(KeyFigure("answers a tree repeats", words.percent(r.fidelity.value), note))
        if (q := self.probabilities) is not None:
            true = words.number(q.if_true, digits=2)
            note = f"{words.plural(q.n_bins, 'bin')}; {q.ends}; true ones would show {true}"
            found.append(KeyFigure("calibration error", words.number(q.ece, digits=2), note))
        if (e := self.elsewhere) is not None:
            worst = min(e.right, key=lambda right: right.value)
            note = f"{words.plural(worst.n, 'row')}; {words.interval((worst.low, worst.high), words.score)}"
            found.append(KeyFigure("accuracy, worst environment", words.score(worst.value), note))
        if (f := self.fooled) is not None:
            ends = words.interval((f.attacked[0].low, f.attacked[0].high), words.score)
            note = f"changes of {words.number(f.sizes[0])} {f.unit}; {ends}"
            found.append(KeyFigure("accuracy under attack", words.score(f.attacked[0].value), note))
        return found

    def pictures(self) -> dict[str, list[Any]]:
        """Return the pictures of each section, as data (:class:`lodim.pages.picture.Picture`)."""
        return {name: pictures_of(part) for name, _, part in self.sections if part is not None}

    def to_html(self, path: str | Path | None = None) -> str:
        """Return the report as one self-contained HTML page, and write it to ``path`` if one is given."""
        text = page("lodim.trust", "trust.html.j2", **self._context(), drawn=self.pictures())
        if path is not None:
            write_whole(path, text)
        return text

    def _repr_html_(self) -> str:
        return page("lodim.pages", "fragment.html.j2", **self._context())

    def _context(self) -> dict[str, Any]:
        return {
            "p": self,
            "verdict": self.verdict,
            "figures": self.key_figures(),
            "shares": [],
            "advice": [],
            "most_rules": MOST_RULES,
        }

    def figure(self) -> Any:
        """Draw the report's pictures and return the matplotlib figure; nothing to draw is a ValueError."""
        return figures.figure_of([picture for group in self.pictures().values() for picture in group])
