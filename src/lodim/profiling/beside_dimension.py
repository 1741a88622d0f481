"""Answers beside the dimension: groups, whether densities mean anything, bits of assumptions, components and loops.

Each has a planned time, takes as many rows as fit into it, and is left out with a note when the clock says so. Rates
are those of :mod:`~lodim.profiling.data_part`: what is sampled depends on the data and the time allowed only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lodim.datasets import Dataset
from lodim.geometry import GeneralizationDifficulty, density_regime, provided_bias
from lodim.neighbors import first_occurrences
from lodim.pages.words import closed
from lodim.partition import groups
from lodim.partition.valley_null import FEWEST
from lodim.profiling.data_part import RATE, finite, finite_interval
from lodim.profiling.parts import AssumptionBits, DataPart, Density, FoundGroups, LandscapePart, Topology
from lodim.randomness import derive_seed

TARGET_ERROR = 0.01
_DENSITY_QUERIES, _MOST_ROWS = 200, 20_000
_LEAST_ROWS, _PAIRS = 1000, 200_000
_GROUP_ROWS, _FEWEST_GROUPED, _RESAMPLES = 5000, 200, 20
_A_TREE = 6e6  # multiply-adds that reading one row into all trees is worth


@dataclass(frozen=True)
class Clock:
    """Time for one answer, which is not begun after ``deadline``, a value of ``time.monotonic()``."""

    seconds: float | int
    deadline: float | int

    @property
    def late(self) -> bool:
        """Whether it is too late to begin."""
        return time.monotonic() > self.deadline


def density_rows(n_samples: int, n_features: int, seconds: float | int) -> int:
    """Return how many rows the density is judged on within ``seconds``; 0 where not even 1,000 fit."""
    fixed = 10.0 * n_features**3
    a_row = 8.0 * _DENSITY_QUERIES * (n_features + 60.0) + n_features**2
    affordable = int(max(0.0, seconds * RATE - fixed) / a_row)
    rows = min(n_samples, affordable, _MOST_ROWS)
    return rows if rows >= min(n_samples, _LEAST_ROWS) else 0


def measure_density(
    dataset: Dataset, seed: int, clock: Clock, part: DataPart | None = None
) -> tuple[Density | None, list[str]]:
    """Say in which regime a kernel density estimate of the rows is; values in steps have no density."""
    if part is not None and part.tied:
        return None, []
    n = density_rows(len(dataset.X), dataset.X.shape[1], clock.seconds)
    if clock.late or n == 0:
        return None, ["Whether a kernel density would mean anything was not measured, for want of time."]
    X, notes = _some(dataset.X, n, derive_seed(seed, "density rows")), []
    if n < len(dataset.X):
        notes.append(f"The density was judged on {n:,} of {len(dataset.X):,} rows, drawn at random.")
    try:
        found = density_regime(X, n_queries=_DENSITY_QUERIES, random_state=derive_seed(seed, "density"))
    except ValueError as error:
        return None, [f"Whether a kernel density would mean anything is not known: {error}."]
    bound = found.h_g_is_bound  # no threshold was met: nothing to draw
    thresholds = (None, None) if bound else (finite(found.h_g), finite(found.h_clt))
    return Density(
        found.regime, finite(found.n_eff), finite(found.bandwidth), *thresholds, int(found.n)
    ), notes


def group_rows(n_samples: int, n_features: int, seconds: float | int) -> int:
    """Return how many rows groups are looked for in within ``seconds``; 0 where not even 200 fit."""
    affordable, a_pair = max(0.0, seconds * RATE), 2.0 * (n_features + 60.0)
    # n A + n^2 B = affordable
    rows = int((-_A_TREE + (_A_TREE**2 + 4 * a_pair * affordable) ** 0.5) / (2 * a_pair))
    rows = min(n_samples, rows, _GROUP_ROWS)
    return rows if rows >= min(n_samples, _FEWEST_GROUPED) else 0


def measure_groups(
    dataset: Dataset, seed: int, clock: Clock, part: DataPart | None = None
) -> tuple[FoundGroups | None, list[str]]:
    """Say whether valleys of the density part the rows; values in steps have no density."""
    if part is not None and part.tied:
        return None, []
    n = group_rows(len(dataset.X), dataset.X.shape[1], clock.seconds)
    if clock.late or n == 0:
        return None, ["Groups were not looked for, for want of time."]
    rows = _rows(len(dataset.X), n, derive_seed(seed, "group rows"))
    few = replace(dataset, X=dataset.X[rows], y=None)
    found = groups(few, n_resamples=_RESAMPLES, random_state=derive_seed(seed, "groups"))
    if found.n_used < FEWEST:
        return None, []
    notes = [f"Groups were looked for in {n:,} of {len(dataset.X):,} rows, drawn at random."]
    answer = FoundGroups(
        n_groups=found.n_groups,
        sizes=tuple(group.size for group in found.groups),
        repeated=found.repeated,
        n_separable=int(found.separable.sum()),
        told_by=found.told_by if found.told_by_values else "",
        sentence=found.verdict,
        n=n,
    )
    return answer, notes * (n < len(dataset.X))


def difficulty_rows(n_samples: int, n_features: int, seconds: float | int) -> int:
    """Return how many rows the margin between classes is measured on, so that it fits into ``seconds``."""
    left = max(0.0, seconds * RATE - 50.0 * _PAIRS * min(n_features, 200))
    return min(n_samples, max(_LEAST_ROWS, int(left / (32.0 * n_features))))


def measure_difficulty(
    dataset: Dataset, part: DataPart, seed: int, clock: Clock
) -> tuple[AssumptionBits | None, Any, list[str]]:
    """Return a classification's bits of assumptions beyond its rows, the task for :func:`with_model`, and notes."""
    what = "The bits of assumptions that the task asks for were not computed"
    if dataset.kind != "classification" or dataset.y is None:
        return None, None, []
    if part.n_conflicts:
        return None, None, [f"{what}: equal rows carry different labels, so no number of bits suffices."]
    if not part.dimension:
        return None, None, [f"{what}: they hang on the dimension, which is not known."]
    if clock.late:
        return None, None, [f"{what}, for want of time."]
    distinct = np.arange(len(dataset.X))
    if part.n_duplicates:  # copies hold nothing more
        distinct = np.flatnonzero(first_occurrences(dataset.X) == distinct)
    n = difficulty_rows(len(distinct), dataset.X.shape[1], clock.seconds)
    rows = distinct[_rows(len(distinct), n, derive_seed(seed, "difficulty rows"))]
    dimension, ends = max(1.0, part.dimension), closed(part.interval)
    model = GeneralizationDifficulty(
        TARGET_ERROR,
        dimension,
        dimension_interval=None if ends is None else tuple(max(1.0, end) for end in ends),
        n_pairs=_PAIRS,
        round_dim=False,
        random_state=derive_seed(seed, "difficulty"),
    )
    try:
        model.fit(dataset.X[rows], dataset.y[rows])
    except ValueError as error:  # a class too small, points too few: an answer, not a failure
        return None, None, [f"{what}: {str(error).rstrip('.')}."]
    task = model.task_
    notes = [f"{what.split(' were')[0]} were computed for {n:,} of {len(dataset.X):,} rows."] * (
        n < len(dataset.X)
    )
    narrower = replace(task, m=max(1.0, task.m - 1)).at(TARGET_ERROR) if task.m > 1 else None
    answer = AssumptionBits(
        error=TARGET_ERROR,
        log10_bits=finite(model.log10_bits_),
        interval=finite_interval(model.interval_),
        sufficient=bool(model.data_sufficient_),
        dimension=float(model.m_),
        margin=float(model.delta_),
        radius=float(model.radius_),
        n=n,
        narrower_log10_bits=None if narrower is None else finite(narrower.log10_bits),
        doubled_log10_bits=finite(replace(task, n=2 * task.n).at(TARGET_ERROR).log10_bits),
    )
    return answer, task, notes


def with_model(answer: AssumptionBits, task: Any, part: LandscapePart) -> AssumptionBits:
    """Return the difficulty with the bits that the best model's error stands for."""
    if part.score_name != "accuracy" or part.unsolved:  # no error, or one that says nothing
        return answer
    scores = {part.model: part.baseline_score, "linear": part.linear_score}
    known = {name: score for name, score in scores.items() if score is not None}
    if not known:
        return answer
    name = max(known, key=lambda key: known[key])
    error = max(0.0, 1.0 - known[name])
    bits = finite(provided_bias(task, error).log10_bits) if error > 0 else None
    return replace(answer, supplied_by=name, supplied_error=error, supplied_log10_bits=bits)


def measure_topology(dataset: Dataset, seed: int) -> tuple[Topology | None, list[str]]:
    """Count components and loops that noise does not explain, on 200 rows; needs the extra ``topology``."""
    from lodim.geometry.multiparameter_persistence import topology_summary

    try:
        found = topology_summary(dataset.X, random_state=derive_seed(seed, "topology"))
    except ValueError as error:
        return None, [f"Components and loops were not counted: {str(error).rstrip('.')}."]
    return (
        Topology(
            int(found.n_components),
            int(found.n_loops),
            tuple(map(float, found.component_gaps)),
            tuple(map(float, found.loop_ratios)),
            tuple(map(float, found.loop_p_values)),
            int(found.n_used),
        ),
        [],
    )


def _rows(n_all: int, n: int, seed: int) -> Any:
    if n >= n_all:
        return slice(None)
    return np.sort(np.random.default_rng(seed).choice(n_all, n, replace=False))


def _some(X: np.ndarray, n: int, seed: int) -> np.ndarray:
    return X[_rows(len(X), n, seed)]
