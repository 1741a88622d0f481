"""What the figures of a problem say about the kind of method that helps: small rules from numbers to tags.

A rule looks at a profile (:class:`lodim.profiling.Profile`, or its JSON as a dictionary; only named figures are read)
and returns a tag, a weight and the reason with the numbers in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Fact", "facts_of", "figure", "is_profile", "measured_by"]

FEW_ROWS, MANY_ROWS = 500, 100_000


@dataclass(frozen=True)
class Fact:
    """A reason to look at methods with a tag."""

    tag: str
    weight: float
    reason: str


def figure(profile: Any, path: str) -> Any:
    """Return a figure of a profile, ``"data.dimension"`` for one of a part, or None where it has none.

    Parameters
    ----------
    profile : Profile or mapping
    """
    value = profile
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
        if value is None:
            return None
    return value


def is_profile(problem: Any) -> bool:
    """Return whether an object is a profile or the JSON of one.

    Parameters
    ----------
    problem : object
    """
    return all(figure(problem, name) is not None for name in ("schema", "n_samples", "n_features"))


def _few_directions(p: Any) -> Fact | None:
    d, n = figure(p, "data.dimension"), figure(p, "n_features")
    if d is None or d > n / 4:
        return None
    return Fact("intrinsic-dimension", 1.0, f"the data vary in about {d:.0f} of {n} directions")


def _flat(p: Any) -> Fact | None:
    d, pca = figure(p, "data.dimension"), figure(p, "data.pca95")
    if not d or pca is None or pca > 1.5 * d + 1 or pca > figure(p, "n_features") / 2:
        return None
    return Fact(
        "low-rank",
        1.0,
        f"{pca} principal components hold 95 % of the variance of {d:.0f} dimensions: nearly flat",
    )


def _curved(p: Any) -> Fact | None:
    d, pca = figure(p, "data.dimension"), figure(p, "data.pca95")
    if not d or pca is None or pca < 2 * d:
        return None
    return Fact(
        "representation-learning",
        1.0,
        f"{pca} principal components for {d:.0f} dimensions: the data lie on a curved set",
    )


def _few_rows(p: Any) -> Fact | None:
    n = figure(p, "n_samples")
    return Fact("few-labels", 1.0, f"only {n:,} rows") if n < FEW_ROWS and figure(p, "kind") else None


def _many_rows(p: Any) -> Fact | None:
    n = figure(p, "n_samples")
    return Fact("matrix-sketching", 1.0, f"{n:,} rows: a weighted subset may do") if n >= MANY_ROWS else None


def _too_few_for_dimension(p: Any) -> Fact | None:
    d, n = figure(p, "data.dimension"), figure(p, "n_samples")
    if not d or n >= 10 ** (d / 2):
        return None
    return Fact("data-difficulty", 0.5, f"{n:,} rows are few for {d:.0f} dimensions")


def _no_labels(p: Any) -> Fact | None:
    return None if figure(p, "kind") else Fact("clustering", 1.0, "there are no labels")


def _no_labels_density(p: Any) -> Fact | None:
    return None if figure(p, "kind") else Fact("density-estimation", 0.5, "there are no labels")


def _regression(p: Any) -> Fact | None:
    return Fact("regression", 1.0, "the target is a number") if figure(p, "kind") == "regression" else None


def _conflicts(p: Any) -> Fact | None:
    n = figure(p, "data.n_conflicts")
    return (
        Fact("calibration", 1.5, f"{n:,} pairs of equal rows have different labels: outcomes are uncertain")
        if n
        else None
    )


def _imbalance(p: Any) -> Fact | None:
    classes = figure(p, "data.per_class") or {}
    sizes = [n for part in classes.values() if (n := figure(part, "n"))]
    if len(sizes) < 2 or max(sizes) < 5 * min(sizes):
        return None
    return Fact(
        "class-imbalance", 1.5, f"the largest class has {max(sizes):,} rows, the smallest {min(sizes):,}"
    )


def _oversized_model(p: Any) -> Fact | None:
    d, n_weights = figure(p, "landscape.d_int90"), figure(p, "landscape.n_parameters")
    if figure(p, "landscape.status") != "found" or not d or n_weights < 10 * d:
        return None
    return Fact("model-compression", 2.0, f"the model needs about {d:,.0f} of its {n_weights:,} weights")


def _small_adapter(p: Any) -> Fact | None:
    d = figure(p, "landscape.d_int90")
    if figure(p, "landscape.status") != "found" or not d or figure(p, "landscape.n_parameters") < 10 * d:
        return None
    return Fact("fine-tuning", 1.0, f"an adapter of some {d:,.0f} numbers should do")


def _overfitting(p: Any) -> Fact | None:
    runs = figure(p, "landscape.curve") or ()
    gaps = [
        figure(run, "train_score") - figure(run, "score")
        for run in runs
        if figure(run, "score") is not None and figure(run, "train_score") is not None
    ]
    if not gaps or max(gaps) < 0.1:
        return None
    return Fact("generalization", 1.0, f"training scores exceed validation scores by up to {max(gaps):.2f}")


_RULES: tuple[Callable[[Any], Fact | None], ...] = (
    _few_directions,
    _flat,
    _curved,
    _few_rows,
    _many_rows,
    _too_few_for_dimension,
    _no_labels,
    _no_labels_density,
    _regression,
    _conflicts,
    _imbalance,
    _oversized_model,
    _small_adapter,
    _overfitting,
)


def facts_of(profile: Any) -> tuple[Fact, ...]:
    """Return what a profile's figures suggest.

    Parameters
    ----------
    profile : Profile or mapping
    """
    return tuple(fact for rule in _RULES if (fact := rule(profile)) is not None)


def measured_by(profile: Any) -> dict[str, str]:
    """Return the methods whose answer is in the profile already, and what it says.

    Parameters
    ----------
    profile : Profile or mapping
    """
    d = figure(profile, "data.dimension")
    return {} if d is None else {"dataset-properties": f"measured already: dimension {d:.1f}"}
