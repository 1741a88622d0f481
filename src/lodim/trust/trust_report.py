"""What :func:`lodim.trust.report` answers: four questions about a classifier, in words, as data and on a page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from lodim.files import write_whole
from lodim.pages import figures, words
from lodim.pages.page import KeyFigure, page
from lodim.results import Result

LEVEL = 0.05  # a p-value below it counts
_MOST_RULES, _FIRST = 12, 3


@dataclass(frozen=True)
class Proportion(Result):
    """A share of ``n`` rows with its interval (Wilson's, 95 per cent)."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{words.percent(self.value)} ({_percents(self.low, self.high)})"


@dataclass(frozen=True)
class Reasons(Result):
    """Which columns drive the answers.

    Attributes
    ----------
    names : tuple of str
        Columns, or blocks of pixels, the most important first.
    scores, low, high : ndarray, shape (n_columns,)
        Mean change of the probabilities when the column is shuffled, with its interval.
    drives : ndarray of bool, shape (n_columns,)
        Which are told from columns that change nothing, at a family-wise level of 5 per cent.
    helps : ndarray of bool, shape (n_columns,)
        Without which it is right less often than with them, at the same level.
    n_rows : int
        Rows that were shuffled.
    k : int
        Columns that the removal and the stability speak of.
    removed, removed_random : float
        Fall of the probability of the answer when the first k columns are put to their mean, and when k random ones
        are.
    stability, chance_stability : float
        Overlap (Jaccard) of the first k between resamples, and what rankings at random would have.
    fidelity : Proportion or None
        Rows that the tree answers as the model does, rows it was not grown on; None where there is no tree.
    guess : float
        Share of these rows that have the model's commonest answer.
    rules : tuple of str
        Of the tree.
    """

    names: tuple[str, ...]
    scores: Float[np.ndarray, " d"]
    low: Float[np.ndarray, " d"]
    high: Float[np.ndarray, " d"]
    drives: Bool[np.ndarray, " d"]
    helps: Bool[np.ndarray, " d"]
    n_rows: int
    k: int
    removed: float
    removed_random: float
    stability: float
    chance_stability: float
    fidelity: Proportion | None
    guess: float
    rules: tuple[str, ...]
    unit: str
    not_checked: str

    @property
    def short(self) -> str:
        """The answer in a few words."""
        n, d = int(self.drives.sum()), len(self.names)
        return f"{n or 'None'} of {words.plural(d, self.unit)} {'drive' if n > 1 else 'drives'} its answers."

    @property
    def sentence(self) -> str:
        """The answer."""
        n, d = int(self.drives.sum()), len(self.names)
        if not n:
            said = f"None of {d:,} {self.unit}s is told from one that changes nothing"
        else:
            first = [name for name, drives in zip(self.names, self.drives) if drives][:_FIRST]
            said = f"{n:,} of {words.plural(d, self.unit)} {'drives' if n == 1 else 'drive'} its answers beyond noise"
            said += f"{', first' if n > 1 else ':'} {_listed(first)}"
            useful = int((self.drives & self.helps).sum())
            said += f"; {useful or 'none'} of them {'is' if useful == 1 else 'are'} seen to help it be right"
        if self.fidelity is None:
            return said + "."
        same = f"{said}. A tree of {words.plural(len(self.rules), 'rule')} answers as it does on {self.fidelity} of "
        same += f"{words.plural(self.fidelity.n, 'row')} that it was not grown on"
        if self.fidelity.low <= self.guess:
            return (
                same
                + f", which always saying its commonest answer ({words.percent(self.guess)}) may reach too."
            )
        return same + "."


@dataclass(frozen=True)
class Probabilities(Result):
    """Whether the probabilities are true.

    Attributes
    ----------
    event : str
        What they are probabilities of.
    ece, low, high : float
        Calibration error in bins of equal counts, and the interval of its population value.
    if_true : float
        What true probabilities would show on as many rows.
    p_value : float
        Of the hypothesis that they are true.
    predicted, observed, observed_low, observed_high : ndarray, shape (n_bins,)
        The reliability curve.
    """

    event: str
    ece: float
    low: float
    high: float
    if_true: float
    p_value: float
    brier: float
    n: int
    n_bins: int
    predicted: Float[np.ndarray, " b"]
    observed: Float[np.ndarray, " b"]
    observed_low: Float[np.ndarray, " b"]
    observed_high: Float[np.ndarray, " b"]
    counts: Int[np.ndarray, " b"]
    not_checked: str

    @property
    def short(self) -> str:
        """The answer in a few words."""
        said = f"calibration error {words.number(self.ece, digits=2)}"
        if self.p_value < LEVEL:
            return f"Its probabilities are not true ({said}, {words.chance(self.p_value)})."
        return f"Nothing speaks against its probabilities ({said}, true ones {words.number(self.if_true, digits=2)})."

    @property
    def sentence(self) -> str:
        """The answer."""
        off = self.p_value < LEVEL
        judged = "they are not true" if off else "these rows do not tell them from true ones"
        more = ""
        if off:
            gap = float(self.counts @ (self.predicted - self.observed))
            more = " Mostly they promise too much." if gap > 0 else " Mostly they promise too little."
            if abs(gap) < 0.5 * float(self.counts @ np.abs(self.predicted - self.observed)):
                more = " They promise too much in some bins, too little in others."
        two = partial(words.number, digits=2)
        return (
            f"Probabilities of {self.event}: {judged} ({words.chance(self.p_value)}). Their calibration error is "
            f"{two(self.ece)} in {words.plural(self.n_bins, 'bin')} ({words.plural(self.n, 'row')}), where true ones "
            f"would show {two(self.if_true)}; with endless rows it would be {two(self.low)}–{two(self.high)}.{more}"
        )


@dataclass(frozen=True)
class Elsewhere(Result):
    """Whether it holds in other environments.

    Attributes
    ----------
    names : tuple of str
    right : tuple of Proportion
        Accuracy in each.
    p_same : float
        Of the hypothesis that accuracy is the same in all.
    worse, better : tuple of str
        Those in which it differs from the rest (Holm's correction).
    p_meaning : float
        Of the hypothesis that probabilities mean the same in all.
    gap : float
        What a slope of its own, of outcomes on probabilities, would gain in Brier score where it would gain most
        (upper bound).
    delta : float
        With 95 per cent confidence at most this share of new environments, drawn as these were, would gain more.
    vacuous : bool
        Whether that says nothing.
    certificate : str
        The certificate with its assumptions.
    """

    names: tuple[str, ...]
    right: tuple[Proportion, ...]
    p_same: float
    worse: tuple[str, ...]
    better: tuple[str, ...]
    p_meaning: float
    means_otherwise: tuple[str, ...]
    gap: float
    delta: float
    vacuous: bool
    certificate: str
    not_checked: str

    @property
    def short(self) -> str:
        """The answer in a few words."""
        if self.worse:
            return f"It is worse in {_listed(self.worse)}."
        told = "differs" if min(self.p_same, self.p_meaning) < LEVEL else "is not seen to differ"
        return f"It {told} between {words.plural(len(self.names), 'environment')}."

    @property
    def sentence(self) -> str:
        """The answer."""
        least = min(range(len(self.names)), key=lambda i: self.right[i].value)
        m = words.plural(len(self.names), "environment")
        if self.p_same < LEVEL:
            named = [f"{how} in {_listed(places)}" for how, places in
                     (("worse", self.worse), ("better", self.better)) if places]  # fmt: skip
            said = f"In {m} it is right unequally often ({'; '.join([words.chance(self.p_same), *named])})"
        else:
            said = f"Between {m} these rows tell no difference of accuracy ({words.chance(self.p_same)})"
        said += f"; least in {self.names[least]!r}: {self.right[least]} of {words.plural(self.right[least].n, 'row')}."
        if self.p_meaning < LEVEL:
            where = f" in {_listed(self.means_otherwise)}" if self.means_otherwise else ""
            said += f" Its probabilities mean something else{where} ({words.chance(self.p_meaning)})."
        if self.vacuous:
            return f"{said} Of new environments these certify nothing."
        return (
            f"{said} Of new ones drawn as these were, at most {words.percent(self.delta)} would gain more than "
            f"{words.number(self.gap, digits=2)} of Brier score by a slope of their own (95 % confidence)."
        )


@dataclass(frozen=True)
class Fooled(Result):
    """What small chosen changes of the input do.

    Attributes
    ----------
    sizes : tuple of float
        Largest change of an entry, in ``unit``.
    attacked : tuple of Proportion
        Rows still right under the worst of the attacks.
    noise : tuple of float
        Under random changes of that size.
    attacks : tuple of (str, tuple of float)
        Accuracy under each attack.
    """

    sizes: tuple[float, ...]
    unit: str
    clean: float
    attacked: tuple[Proportion, ...]
    noise: tuple[float, ...]
    attacks: tuple[tuple[str, tuple[float, ...]], ...]
    warnings: tuple[str, ...]
    not_checked: str

    @property
    def sentence(self) -> str:
        """The answer."""
        size, right, noise, tells = self._at
        said = (
            f"{words.number(size)} {self.unit} leave {right} of {words.plural(right.n, 'row')} right, "
            f"{words.percent(self.clean)} without"
        )
        if not tells:
            return f"Chosen changes of up to {said}: as far as these rows tell, no more than noise does."
        return f"Chosen changes of {said} and {words.percent(noise)} under noise of that size."

    @property
    def short(self) -> str:
        """The answer in a few words."""
        size, right, _, tells = self._at
        if not tells:
            return f"Chosen changes of up to {words.number(size)} {self.unit} do no more than noise."
        return f"Chosen changes of {words.number(size)} {self.unit} leave {words.percent(right.value)} right."

    @property
    def _at(self) -> tuple[float, Proportion, float, bool]:
        """The least size that does more than noise, else the largest, and whether it does."""
        found = list(zip(self.sizes, self.attacked, self.noise))
        more = [(*f, True) for f in found if f[1].high < min(self.clean, f[2])]
        return more[0] if more else (*found[-1], False)


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
        told = f"{self.source} is right on {self.right} of {words.plural(self.n_rows, 'row')}"
        always = f"always answering the commonest class ({words.percent(self.majority)})"
        if self.right.low > self.majority:
            return f"{told}, more often than {always}."
        if self.right.high < self.majority:
            return f"{told}, less often than {always}."
        return f"{told}; these rows do not tell it from {always}."

    def __str__(self) -> str:
        blocks = ["\n".join(textwrap.wrap(self._first, 98))]
        for name, asked, part in self.sections:
            lines = [f"{asked}?", *_wrapped(part.sentence if part else f"Not asked: {self.skipped[name]}.")]
            if part is not None:
                lines += [*_tables(part), *_wrapped(f"Not checked: {part.not_checked}")]
            blocks.append("\n".join(lines))
        blocks.append("Notes\n" + "\n".join("\n".join(_wrapped(f"- {note}")) for note in self.notes))
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
                note = _percents(r.fidelity.low, r.fidelity.high)
                found.append(KeyFigure("answers a tree repeats", words.percent(r.fidelity.value), note))
        if (q := self.probabilities) is not None:
            note = f"true ones would show {words.number(q.if_true, digits=2)}"
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
        from lodim.trust.report_pictures import pictures_of

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
            "most_rules": _MOST_RULES,
        }

    def plot(self) -> Any:
        """Draw the report's pictures and return the matplotlib figure; nothing to draw is a ValueError."""
        return figures.figure_of([picture for group in self.pictures().values() for picture in group])


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 98, initial_indent="  ", subsequent_indent="  ")


def _percents(low: float, high: float) -> str:
    return f"{words.percent(low).removesuffix(' %')}–{words.percent(high)}"


def _listed(names: Sequence[str]) -> str:
    *others, last = map(repr, names)
    return f"{', '.join(others)} and {last}" if others else last


def _tables(part: Any) -> list[str]:
    """What a section's sentence leaves out, as plain text."""
    if isinstance(part, Reasons):
        top = list(zip(part.names, part.scores, part.low, part.high, part.drives, part.helps))[:8]
        number = words.number
        rows = [
            (
                name[:40],
                number(score),
                f"{number(low)}–{number(high)}",
                *("yes" if told else "no" for told in both),
            )
            for name, score, low, high, *both in top
        ]
        lines = [words.table((part.unit, "change", "95 % interval", "beyond noise", "helps"), rows)]
        lines += _wrapped(
            f"Without the first {part.k} the probability of its answer falls by {number(part.removed)}, without "
            f"{part.k} random ones by {number(part.removed_random)}. Between resamples the first {part.k} overlap by "
            f"{number(part.stability)}, by {number(part.chance_stability)} were they random."
        )
        return [*lines, *(line for rule in part.rules[:_MOST_RULES] for line in _wrapped(f"- {rule}"))]
    if isinstance(part, Elsewhere):
        rows = [(name[:40], f"{right.n:,}", str(right)) for name, right in zip(part.names, part.right)]
        return [words.table(("environment", "rows", "right"), rows)]
    if isinstance(part, Fooled):
        header = ("attack", *(f"{words.number(size)}" for size in part.sizes))
        table = [
            ("worst of them", tuple(right.value for right in part.attacked)),
            *part.attacks,
            ("random noise", part.noise),
        ]
        rows = [(name, *(words.score(v) for v in values)) for name, values in table]
        return [words.table(header, rows), *(line for w in part.warnings for line in _wrapped(w))]
    return []
