"""What the figures of a problem say about the kind of method that helps: small rules from numbers to tags.

A rule looks at a profile (:class:`lodim.profiling.Profile`, or its JSON as a dictionary; only named figures are read)
and returns a tag, a weight and the reason with the numbers in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Fact", "facts_of", "figure", "is_profile", "measured_by"]

FEW_ROWS, MANY_ROWS = 500, 100_000
AGAIN = 0.9  # share of the resamples in which groups must come again


@dataclass(frozen=True)
class Fact:
    """A reason to look at methods with a tag."""

    tag: str
    weight: float
    reason: str


def figure(profile: Any, path: str) -> Any:
    """Return a figure of a profile, ``"data.dimension"`` for one of a part, or None where it has none."""
    value = profile
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
        if value is None:
            return None
    return value


def is_profile(problem: Any) -> bool:
    """Return whether an object is a profile or the JSON of one."""
    return all(figure(problem, name) is not None for name in ("schema", "n_samples", "n_features"))


def _of_shape(p: Any) -> Iterator[Fact]:
    """Give what dimension and number of rows suggest."""
    d, pca = figure(p, "data.dimension"), figure(p, "data.pca95")
    n_rows, n_encoded = figure(p, "n_samples"), figure(p, "n_features")
    n_columns = figure(p, "n_table_columns") or n_encoded
    low, high = _ends(p, d)
    if high is not None and high <= n_columns / 4:
        yield Fact("intrinsic-dimension", 1.0, f"the data vary in about {d:.0f} of {n_columns} directions")
    bent = figure(p, "data.independent.dimension")
    if high is not None and pca is not None and bent is None and pca <= min(1.5 * high + 1, n_encoded / 2):
        flat = f"{pca} principal components hold 95 % of the variance of {n_encoded} columns: nearly flat"
        yield Fact("low-rank", 1.0, flat)
    if bent is not None:
        curved = (
            f"with independent principal components the {d:.0f} dimensions would be {bent:.0f}: a curved set"
        )
        yield Fact("representation-learning", 1.0, curved)
    if n_rows < FEW_ROWS and figure(p, "kind"):
        yield Fact("few-labels", 1.0, f"only {n_rows:,} rows")
    if n_rows >= MANY_ROWS:
        yield Fact("matrix-sketching", 1.0, f"{n_rows:,} rows: a weighted subset may do")
    if low and n_rows < 10 ** (low / 2):
        yield Fact("data-difficulty", 0.5, f"{n_rows:,} rows are few for {d:.0f} dimensions")


def _of_cells(p: Any) -> Iterator[Fact]:
    """Give what a table's categories and gaps suggest."""
    n_columns, n_encoded = figure(p, "n_table_columns"), figure(p, "n_features")
    if n_columns and n_encoded >= 2 * n_columns:
        spread = f"the {n_columns} columns of the table became {n_encoded}: most of them hold categories"
        yield Fact("any-order", 0.5, spread)
    if any(figure(advice, "rule") == "missing_values" for advice in figure(p, "advice") or ()):
        yield Fact("any-order", 1.5, "cells of the table are missing, and were filled in by a rule")


def _ends(p: Any, d: Any) -> tuple[Any, Any]:
    """The ends of the dimension's interval, the dimension itself where they are not known."""
    if d is None:
        return None, None
    low, high = figure(p, "data.interval") or (None, None)
    return d if low is None else low, d if high is None else high


def _of_labels(p: Any) -> Iterator[Fact]:
    """Give what the target suggests, or that there is none."""
    kind, n_conflicts = figure(p, "kind"), figure(p, "data.n_conflicts")
    if not kind:
        yield Fact("clustering", 1.0, "there are no labels")
        yield Fact("density-estimation", 0.5, "there are no labels")
    if (
        (n_groups := figure(p, "data.groups.n_groups"))
        and n_groups > 1
        and figure(p, "data.groups.repeated") >= AGAIN
        and not figure(p, "data.groups.told_by")
    ):
        again = f"{n_groups} groups, as many in {figure(p, 'data.groups.repeated'):.0%} of resamples"
        yield Fact("clustering", 1.5, again)
    if kind == "regression":
        yield Fact("regression", 1.0, "the target is a number")
    if n_conflicts:
        uncertain = f"{n_conflicts:,} pairs of equal rows have different labels: outcomes are uncertain"
        yield Fact("calibration", 1.5, uncertain)
    classes = figure(p, "data.per_class") or {}
    sizes = [n for part in classes.values() if (n := figure(part, "n"))]
    if len(sizes) >= 2 and max(sizes) >= 5 * min(sizes):
        unequal = f"the largest class has {max(sizes):,} rows, the smallest {min(sizes):,}"
        yield Fact("class-imbalance", 1.5, unequal)


def _of_model(p: Any) -> Iterator[Fact]:
    """Give what the runs of a model suggest."""
    d, n_weights = figure(p, "landscape.d_int90"), figure(p, "landscape.n_parameters")
    if figure(p, "landscape.status") == "found" and d and n_weights >= 10 * d:
        few = f"the model needs about {d:,.0f} of its {n_weights:,} weights"
        yield Fact("model-compression", 2.0, few)
        yield Fact("fine-tuning", 1.0, f"an adapter of some {d:,.0f} numbers should do")
    scores = [
        (figure(run, "train_score"), figure(run, "score")) for run in figure(p, "landscape.curve") or ()
    ]
    gap = max((seen - unseen for seen, unseen in scores if None not in (seen, unseen)), default=0.0)
    if gap >= 0.1:
        yield Fact("generalization", 1.0, f"training scores exceed validation scores by up to {gap:.2f}")
    for advice in figure(p, "advice") or ():
        if figure(advice, "rule") == "probabilities":
            reached = f"{figure(advice, 'because.score')} {figure(advice, 'because.baseline_score'):.2f}"
            yield Fact("calibration", 1.0, f"a model reaches {reached}: its answers are no certainties")
            yield Fact("explainability", 0.5, f"a model reaches {reached}: see what drives it")


def facts_of(profile: Any) -> tuple[Fact, ...]:
    """Return what a profile's figures suggest."""
    return (*_of_shape(profile), *_of_cells(profile), *_of_labels(profile), *_of_model(profile))


def measured_by(profile: Any) -> dict[str, str]:
    """Return the methods whose answer is in the profile already, and what it says."""
    d = figure(profile, "data.dimension")
    return {} if d is None else {"dataset-properties": f"measured already: dimension {d:.1f}"}
