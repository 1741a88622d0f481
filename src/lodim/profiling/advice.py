"""Advice: small pure functions from a profile's numbers to a sentence, each citing the numbers that triggered it.

The rules are in :mod:`~lodim.profiling.data_rules`, :mod:`~lodim.profiling.model_rules` and
:mod:`~lodim.profiling.extra_rules`; :func:`advise` asks every one and keeps the most important answers.
"""

from __future__ import annotations

from collections.abc import Callable

from lodim.profiling import data_rules, extra_rules, model_rules
from lodim.profiling.result import Advice, Profile

MOST = 8
RULES: tuple[Callable[[Profile], Advice | None], ...] = (
    model_rules.unsolved,
    model_rules.trivial_threshold,
    model_rules.weak_regression,
    model_rules.not_reached,
    data_rules.column_scales,
    data_rules.label_conflicts,
    model_rules.linear_suffices,
    data_rules.duplicates,
    model_rules.memorising,
    model_rules.adapter_size,
    data_rules.sample_size,
    data_rules.missing_values,
    data_rules.estimators_disagree,
    data_rules.linear_or_curved,
    data_rules.class_outlier,
    model_rules.compression,
    data_rules.scale_dependence,
    data_rules.sharpest_pair,
    data_rules.constant_columns,
    extra_rules.separate_parts,
    extra_rules.loops,
    extra_rules.narrow_layers,
    extra_rules.assumptions_or_rows,
)


def advise(profile: Profile, *, most: int = MOST) -> tuple[Advice, ...]:
    """Return what follows from a profile's numbers, the most important first.

    Parameters
    ----------
    profile : Profile
        Its own advice is not looked at.
    most : int
        Longest list returned.
    """
    found = [advice for rule in RULES if (advice := rule(profile)) is not None]
    return tuple(sorted(found, key=lambda a: -a.importance)[:most])
