"""The answers to the four questions of :func:`lodim.trust.report`, each as data and in words."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from lodim.pages import words
from lodim.results import Result

LEVEL = 0.05  # a p-value below it counts
MOST_RULES, _FIRST = 12, 3


@dataclass(frozen=True)
class Proportion(Result):
    """A share of ``n`` rows with its interval (Wilson's, 95 per cent)."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{words.percent(self.value)} ({percents(self.low, self.high)})"


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
        Columns that the removal speaks of.
    removed, removed_random : float
        Fall of the probability of the answer when the first k columns are put to their mean, and when k random ones
        are.
    stability, chance_stability : float
        Overlap (Jaccard) of the first ``k_overlap`` between resamples, and what rankings at random would have.
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
    k_overlap: int
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
            said = f"None of {words.plural(d, self.unit)} is told from one that changes nothing"
        else:
            first = [name for name, drives in zip(self.names, self.drives) if drives][:_FIRST]
            said = f"{n:,} of {words.plural(d, self.unit)} {'drives' if n == 1 else 'drive'} its answers beyond noise"
            said += f"{', first' if n > 1 else ':'} {_listed(first)}"
            useful = int((self.drives & self.helps).sum())
            if n == 1:
                said += f"; it is {'' if useful else 'not '}seen to help it be right"
            else:
                said += (
                    f"; {useful or 'none'} of them {'is' if useful == 1 else 'are'} seen to help it be right"
                )
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

    @property
    def compared(self) -> str:
        """What random columns would do, and random rankings."""
        first, overlapping = (
            f"first {self.unit}" if k == 1 else f"first {k} {self.unit}s" for k in (self.k, self.k_overlap)
        )
        beside = "a random one" if self.k == 1 else "as many random ones"
        return (
            f"Without the {first} the probability of its answer falls by {words.number(self.removed)}, without "
            f"{beside} by {words.number(self.removed_random)}. The overlap of the {overlapping} of two resamples is "
            f"{words.percent(self.stability)}, {words.percent(self.chance_stability)} were rankings random."
        )


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
        bins = words.plural(self.n_bins, "bin")
        said = f"calibration error {words.number(self.ece, digits=2)} in {bins}, {self.ends}"
        if self.p_value < LEVEL:
            return f"Its probabilities are not true ({said}, {words.chance(self.p_value)})."
        return f"Nothing speaks against its probabilities ({said}; true ones {words.number(self.if_true, digits=2)})."

    @property
    def ends(self) -> str:
        """The interval of the calibration error that endless rows would show."""
        return words.interval((self.low, self.high), partial(words.number, digits=2))

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
            f"would show {two(self.if_true)}; with endless rows it would be {self.ends}.{more}"
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
        Of the hypothesis that accuracy is the same in all (Holm's correction with ``p_meaning``).
    worse, better : tuple of str
        Those in which it differs from the rest (Holm's correction); none where ``p_same`` tells no difference.
    p_meaning : float
        Of the hypothesis that probabilities mean the same in all.
    gap : float
        What a slope of its own, of outcomes on probabilities, would gain in Brier score where it would gain most
        (upper bound).
    brier : float
        Brier score of all rows together, beside which to read ``gap``.
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
    brier: float
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
            return f"{said} Of new environments these certify nothing: the certificate is vacuous."
        beside = (
            "; here it loses"
            if self.gap < self.brier
            else ": that says little, for here it loses no more than"
        )
        return (
            f"{said} Of new ones drawn as these were, at most {words.percent(self.delta)} would gain more than "
            f"{words.number(self.gap, digits=2)} of Brier score by a slope of their own (95 % confidence)"
            f"{beside} {words.number(self.brier, digits=2)}."
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


def wrapped(text: str) -> list[str]:
    """Return a text as indented lines."""
    return textwrap.wrap(text, 98, initial_indent="  ", subsequent_indent="  ")


def percents(low: float, high: float) -> str:
    """Return an interval of shares in per cent."""
    return f"{words.percent(low).removesuffix(' %')}–{words.percent(high)}"


def _listed(names: Sequence[str]) -> str:
    if len(names) > _FIRST + 1:
        return f"{', '.join(map(repr, names[:_FIRST]))} and {len(names) - _FIRST:,} more"
    *others, last = map(repr, names)
    return f"{', '.join(others)} and {last}" if others else last


def tables(part: Any) -> list[str]:
    """What a section's sentence leaves out, as plain text."""
    if isinstance(part, Reasons):
        top = list(zip(part.names, part.scores, part.low, part.high, part.drives, part.helps))[:8]
        number = words.number
        rows = [
            (
                words.short(name, 40),
                number(score),
                f"{number(low)}–{number(high)}",
                *("yes" if told else "no" for told in both),
            )
            for name, score, low, high, *both in top
        ]
        lines = [words.table((part.unit, "change", "95 % interval", "beyond noise", "helps"), rows)]
        lines += wrapped(part.compared)
        lines += (line for rule in part.rules[:MOST_RULES] for line in wrapped(f"- {rule}"))
        more = len(part.rules) - MOST_RULES
        return [*lines, *wrapped(f"And {words.plural(more, 'more rule')}.")] if more > 0 else lines
    if isinstance(part, Elsewhere):
        rows = [
            (words.short(name, 40), f"{right.n:,}", str(right)) for name, right in zip(part.names, part.right)
        ]
        certified = (line for text in part.certificate.splitlines() for line in wrapped(text))
        return [words.table(("environment", "rows", "right"), rows), *certified]
    if isinstance(part, Fooled):
        header = ("attack", *(f"{words.number(size)}" for size in part.sizes))
        table = [
            ("worst of them", tuple(right.value for right in part.attacked)),
            *part.attacks,
            ("random noise", part.noise),
        ]
        rows = [(name, *(words.score(v) for v in values)) for name, values in table]
        return [
            words.table(header, rows),
            *(line for w in part.warnings for line in wrapped(words.sentence(w) + ".")),
        ]
    return []
