r"""How a list is ordered: the formulas, and what each paper's place comes from.

With :math:`v_{k,s}` the last value of signal ``k`` from source ``s``, the count of a paper is

.. math:: 1 + u = \prod_k \Bigl(1 + \sum_s \max(v_{k,s}, 0) / c_{s}\Bigr)^{w_k},

a weighted sum of logarithms with weights :math:`w_k` of kinds and scales :math:`c_s` of sources; for one kind of weight
1 and scale 1 it is the count itself. By default only ``upvotes`` weigh. With the age :math:`a` in hours (never below 0)

============  ===================================================================================
order         score
============  ===================================================================================
``trending``  :math:`\max(u - 1, 0)^{0.8} / (a + 2)^{1.8}`
``velocity``  :math:`\max(u - u_{24}, 0) / 24 / (a + 2)^{1.8}`, with :math:`u_{24}` the count 24 hours ago
``top``       :math:`u`
``new``       none: the date
============  ===================================================================================

The first is the rank of Hacker News with its exponent on the votes. Equal scores are ordered by date, then by number of
the paper, so a list without signals is the list of new papers. Of a paper that was first observed less than 24 hours
ago the count before is 0 if it was published since then, else its first observation: votes gathered before anyone
looked are no news.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lodim.results import Result

__all__ = ["ORDERS", "Series", "Trending", "age_in_words"]

ORDERS = ("trending", "velocity", "top", "new", "similar")
HOUR = 3600.0


class Series(NamedTuple):
    """A signal of a paper at a moment: its last value by then, the last 24 hours earlier, if there was one, and the
    first of all.
    """

    source: str
    kind: str
    value: int | float
    before: int | float | None = None
    first: int | float = 0.0


@dataclass(frozen=True)
class Trending(Result):
    """The constants of the formulas.

    Attributes
    ----------
    gravity, power : float
        Exponents of the age and of the votes.
    offset : float
        Hours added to the age.
    weights : mapping of str to float
        Of kinds of signals; one that is not named does not count.
    scales : mapping of str to float
        By which the values of a source are divided; 1 if not named.
    """

    gravity: int | float = 1.8
    power: int | float = 0.8
    offset: int | float = 2.0
    weights: Mapping[str, int | float] = field(default_factory=lambda: {"upvotes": 1.0})
    scales: Mapping[str, int | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        positive = (self.power, self.offset, *self.scales.values())
        if not all(math.isfinite(x) and x > 0 for x in positive):
            raise ValueError(f"power, offset and scales must be positive and finite, got {positive}")
        if not all(math.isfinite(x) and x >= 0 for x in (self.gravity, *self.weights.values())):
            raise ValueError("gravity and weights must be finite and not negative")

    def formula(self, order: str) -> str:
        """Return the formula of an order, one of :data:`ORDERS`, with its constants, as text."""
        decay = f"(age in hours + {self.offset:g})^{self.gravity:g}"
        return {
            "trending": f"max({self._count_in_words()} - 1, 0)^{self.power:g} / {decay}",
            "velocity": f"{self._count_in_words()} gained in 24 h / 24 / {decay}",
            "top": f"{self._count_in_words()}, most first",
            "new": "date of publication, newest first",
            "similar": "likeness to the paper or text, closest first",
        }[order]

    def _count_in_words(self) -> str:
        if dict(self.weights) == {"upvotes": 1.0} and not self.scales:
            return "votes"
        scaled = " / scale of source" if self.scales else ""
        factors = " * ".join(f"(1 + {kind}{scaled})^{w:g}" for kind, w in self.weights.items())
        return f"({factors} - 1)"

    def count(self, values: Sequence[Sequence[Any]]) -> float:
        """Return the count ``u`` of a paper from (source, kind, value, ...); a negative value or None counts as 0."""
        if len(values) == 1 and not self.scales and self.weights.get(values[0][1]) == 1.0:
            value = values[0][2]  # as below; ten thousand papers are mostly this
            return float(value) if value is not None and value > 0 else 0.0
        sums: dict[str, float] = {}
        for source, kind, value, *_ in values:
            if kind in self.weights and value is not None and value > 0:
                sums[kind] = sums.get(kind, 0.0) + value / self.scales.get(source, 1.0)
        if not sums:
            return 0.0
        if len(sums) == 1 and self.weights[next(iter(sums))] == 1.0:
            return next(iter(sums.values()))  # exactly, without the way through the logarithm
        return math.expm1(min(math.fsum(self.weights[k] * math.log1p(s) for k, s in sums.items()), 500.0))

    def score(self, order: str, series: Sequence[Series], age_hours: int | float) -> float:
        """Return the score of a paper in an order, larger first; an age below 0 (a clock that is wrong) counts as 0."""
        if order == "new":
            return 0.0
        u = self.count(series)
        if order == "top":
            return u
        age = max(age_hours, 0.0)
        decay = (age + self.offset) ** self.gravity
        if order == "trending":
            return max(u - 1.0, 0.0) ** self.power / decay
        before = self.count([(s.source, s.kind, _before(s, age)) for s in series])
        return max(u - before, 0.0) / 24.0 / decay

    def why(self, order: str, series: Sequence[Series], age_hours: int | float) -> str:
        """Return what a place in the list comes from: ``41 votes, 9 h old``."""
        counts: dict[str, float] = {}
        age = max(age_hours, 0.0)
        for s in series:
            if s.kind in self.weights and order != "new":
                gained = s.value - _before(s, age) if order == "velocity" else s.value
                counts[s.kind] = counts.get(s.kind, 0.0) + gained
        said = [_counted(kind, n, gained=order == "velocity") for kind, n in counts.items()]
        return ", ".join([*said, f"{age_in_words(age)} old"])


def _before(series: Series, age_hours: int | float) -> int | float:
    """Return the value 24 hours ago, see the notes at the top."""
    if series.before is not None:
        return series.before
    return 0.0 if age_hours <= 24.0 else series.first


def _counted(kind: str, n: int | float, *, gained: bool) -> str:
    word = {"upvotes": "votes"}.get(kind, kind)
    word = word[:-1] if n == 1 and word.endswith("s") else word
    return f"{n:+,.6g} {word} in 24 h" if gained else f"{n:,.6g} {word}"


def age_in_words(hours: int | float) -> str:
    """Return an age with one unit: ``9 h``, ``3 days``, ``7 months``, ``2 years``."""
    if hours < 1:
        return f"{int(hours * 60)} min"
    if hours < 48:
        return f"{int(hours)} h"
    days = int(hours / 24)
    if days < 61:
        return f"{days} days"
    return f"{int(days / 30.44)} months" if days < 731 else f"{int(days / 365.25)} years"
