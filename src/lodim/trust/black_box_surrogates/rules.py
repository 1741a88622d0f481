"""Rules of a decision tree in words: one a leaf, the tree's thresholds merged for each column, and shorter ones.

Leaves cut the table into pieces, so that every row fires one rule. A pruned rule leaves out conditions as long as its
share of right rows does not fall, among half of the held-out ones; what is said of it is of the other half, for a share
that was chosen by is too good. Pruned rules overlap, and need not cover every row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from lodim.datasets import TableEncoder
from lodim.metrics import wilson_interval
from lodim.pages.words import plural
from lodim.results import Result
from lodim.trust.black_box_surrogates.importance import Rows

__all__ = ["Condition", "Encoding", "Rule", "leaf_rules", "plain_label", "prune", "said"]

Label = int | float | str | bool


def said(value: Any) -> str:
    """A value in words: six digits, and every one before the point."""
    return f"{value:.{6 if abs(value) < 1e5 else 10}g}" if isinstance(value, float) else str(value)


def plain_label(label: Any) -> Label:
    """A label as JSON has it."""
    plain = label.item() if isinstance(label, np.generic) else label
    return plain if isinstance(plain, int | float | str | bool) else str(plain)


@dataclass(frozen=True)
class Encoding:
    """How a table becomes numbers for trees; ``origin`` says of each number which column it was made of."""

    encoder: TableEncoder | None  # None where the columns are numbers already
    names: tuple[str, ...]
    levels: tuple[str | None, ...]  # of 0/1 columns of categories
    origin: Int[np.ndarray, " e"]

    @classmethod
    def of(cls, rows: Rows) -> Encoding:
        """Find it out; columns of one value only may have no number."""
        if not rows.is_frame or (
            all(pd.api.types.is_numeric_dtype(kind) for kind in rows.data.dtypes)
            and not rows.data.isna().any(axis=None)
        ):
            return cls(None, rows.names, (None,) * len(rows.names), np.arange(len(rows.names)))
        encoder = TableEncoder(scale=False, missing="impute").fit(rows.data)
        made = [(i, level) for i, code in enumerate(encoder.codes_) for level in (code.levels or code.names)]
        is_level = [bool(code.levels) for code in encoder.codes_ for _ in code.names]
        return cls(
            encoder,
            tuple(rows.names[i] for i, _ in made),
            tuple(level if flag else None for (_, level), flag in zip(made, is_level, strict=True)),
            np.array([i for i, _ in made]),
        )

    def numbers(self, rows: Rows) -> Float[np.ndarray, "n e"]:
        """The table as numbers."""
        found = rows.numbers() if self.encoder is None else self.encoder.transform(rows.data)
        if found.size and np.abs(found).max() > np.finfo(np.float32).max:
            raise ValueError(
                "every row must hold numbers below 3.4e38 in size: trees compare in single precision"
            )
        return found

    def columns_of(self, originals: Any) -> Int[np.ndarray, " m"]:
        """Numbers made of some columns, in the order of these."""
        return np.concatenate([np.empty(0, np.int64), *(np.flatnonzero(self.origin == j) for j in originals)])


@dataclass(frozen=True)
class Condition(Result):
    """A column above ``low`` and at most ``high``, either of which may be missing; of a category, that it is a level.

    Attributes
    ----------
    number : int
        Which of the numbers that the tree sees.
    level : str, optional
        Is it this level (``low`` is given), or is it not.
    """

    column: str
    number: int
    low: float | None = None
    high: float | None = None
    level: str | None = None

    def __str__(self) -> str:
        if self.level is not None:
            return f"{self.column} is {'' if self.low is not None else 'not '}{self.level}"
        low, high = (None if side is None else said(side) for side in (self.low, self.high))
        if low is None:
            return f"{self.column} <= {high}"
        return f"{self.column} > {low}" if high is None else f"{low} < {self.column} <= {high}"

    def holds(self, numbers: Float[np.ndarray, "n e"]) -> Bool[np.ndarray, " n"]:
        """In which rows it does, as a tree compares: in single precision."""
        values = numbers[:, self.number].astype(np.float32).astype(np.float64)  # thresholds lie between
        low, high = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
        return (values > low) & (values <= high)


@dataclass(frozen=True)
class Rule(Result):
    """If all conditions hold, the black box is expected to answer ``label``.

    Attributes
    ----------
    support, coverage : int, float
        Rows that fire it among those the tree was grown on, and their share.
    confidence : float
        Share of held-out rows that fire it for which the black box does answer so; NaN if none does.
    confidence_low, confidence_high : float
        Its 95 % interval (Wilson).
    n_held : int
        Held-out rows that fire it.
    """

    conditions: tuple[Condition, ...]
    label: Label
    support: int
    coverage: float
    confidence: float
    confidence_low: float
    confidence_high: float
    n_held: int

    def __str__(self) -> str:
        when = " and ".join(map(str, self.conditions)) or "always"
        known = (
            f"the black box agrees on {self.confidence:.0%} [{self.confidence_low:.0%}, {self.confidence_high:.0%}] of "
            f"{plural(self.n_held, 'held-out row')}"
            if self.n_held
            else "no held-out row fires it"
        )
        return f"if {when}: {self.label} ({self.coverage:.1%} of rows; {known})"

    def fires(self, numbers: Float[np.ndarray, "n e"]) -> Bool[np.ndarray, " n"]:
        """In which rows all conditions hold."""
        fires = np.ones(len(numbers), dtype=bool)
        for condition in self.conditions:
            fires &= condition.holds(numbers)
        return fires


@dataclass(frozen=True)
class Judged:
    """Rows on which rules are judged: those the tree grew on, and held-out ones with the black box's answers."""

    grown: Float[np.ndarray, "n e"]
    held: Float[np.ndarray, "m e"]
    answers: Int[np.ndarray, " m"]
    classes: np.ndarray

    def rule(self, conditions: Sequence[Condition], label: int) -> Rule:
        """The figures of some conditions."""
        plain = plain_label(self.classes[label])
        bare = Rule(tuple(conditions), plain, 0, 0.0, math.nan, 0.0, 1.0, 0)
        support, held = int(bare.fires(self.grown).sum()), bare.fires(self.held)
        n, hits = int(held.sum()), int((self.answers[held] == label).sum())
        share = hits / n if n else math.nan
        return Rule(
            bare.conditions, plain, support, support / len(self.grown), share, *wilson_interval(hits, n), n
        )


def leaf_rules(
    tree: Any, columns: Int[np.ndarray, " m"], encoding: Encoding, judged: Judged
) -> tuple[list[Rule], list[int], list[int]]:
    """One rule for each leaf, the leaves' numbers, and their labels' numbers; the widest first."""
    t = tree.tree_
    labels = tree.classes_[t.value[:, 0].argmax(1)]
    found: list[tuple[Rule, int, int]] = []

    def walk(node: int, bounds: dict[int, tuple[float | None, float | None]]) -> None:
        if t.children_left[node] < 0:
            conditions = [
                Condition(encoding.names[e], e, low, high, encoding.levels[e])
                for e, (low, high) in bounds.items()
            ]
            label = int(labels[node])
            found.append((judged.rule(conditions, label), node, label))
            return
        e, cut = int(columns[t.feature[node]]), float(t.threshold[node])
        low, high = bounds.get(e, (None, None))
        walk(int(t.children_left[node]), {**bounds, e: (low, cut)})
        walk(int(t.children_right[node]), {**bounds, e: (cut, high)})

    walk(0, {})
    found.sort(key=lambda one: -one[0].support)
    return [one[0] for one in found], [one[1] for one in found], [one[2] for one in found]


def prune(rules: Sequence[Rule], labels: Sequence[int], chooses: Judged, judges: Judged) -> list[Rule]:
    """Leave out conditions without which confidence is no lower on some rows, and judge by others; the widest first."""
    found: dict[tuple[Any, ...], Rule] = {}
    for leaf, label in zip(rules, labels, strict=True):
        rule = chooses.rule(leaf.conditions, label)
        while rule.conditions and rule.n_held:
            shorter = [
                chooses.rule([c for c in rule.conditions if c is not left_out], label)
                for left_out in rule.conditions
            ]
            best = max(shorter, key=lambda one: (one.confidence, one.support))
            if best.confidence < rule.confidence:
                break
            rule = best
        found[(frozenset(rule.conditions), label)] = judges.rule(rule.conditions, label)
    return sorted(found.values(), key=lambda rule: -rule.support)
