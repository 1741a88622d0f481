"""Advice: small pure functions from a profile's numbers to a sentence, each citing the numbers that triggered it.

The rules are in :mod:`~lodim.profiling.data_rules` and :mod:`~lodim.profiling.model_rules`; :func:`advise` asks every
one and keeps the most important answers.
"""

from __future__ import annotations

from collections.abc import Callable

from lodim.profiling import data_rules, model_rules
from lodim.profiling.parts import Advice, ProfileData

MOST = 8
RULES: tuple[Callable[[ProfileData], Advice | None], ...] = (
    model_rules.unsolved,
    model_rules.weak_regression,
    model_rules.not_reached,
    data_rules.column_scales,
    data_rules.label_conflicts,
    model_rules.linear_suffices,
    data_rules.duplicates,
    model_rules.direct_falls_short,
    model_rules.memorising,
    model_rules.adapter_size,
    data_rules.sample_size,
    data_rules.missing_values,
    data_rules.estimators_disagree,
    data_rules.linear_or_curved,
    data_rules.class_outlier,
    model_rules.compression,
    model_rules.probabilities,
    data_rules.scale_dependence,
    data_rules.sharpest_pair,
    data_rules.constant_columns,
    data_rules.separate_parts,
    data_rules.loops,
    model_rules.narrow_layers,
)


def advise(profile: ProfileData, *, most: int = MOST) -> tuple[Advice, ...]:
    """Return at most ``most`` pieces of advice on a profile, the most important first; its own are not looked at."""
    found = [advice for rule in RULES if (advice := rule(profile)) is not None]
    return tuple(sorted(found, key=lambda a: -a.importance)[:most])
