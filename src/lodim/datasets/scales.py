"""Words that have an order: true and false, answers, ticks, scales (low, medium, high) and bands of numbers (18-24)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np

_TRUTH = (
    ("false", "true"),
    ("falsch", "wahr"),
    ("faux", "vrai"),
    ("falso", "verdadero"),
    ("falso", "vero"),
    ("falso", "verdadeiro"),
)
_ANSWERS = (
    ("no", "yes"), ("n", "y"), ("nein", "ja"), ("n", "j"), ("non", "oui"), ("no", "sí"), ("no", "si"), ("não", "sim"),
    ("nee", "ja"), ("off", "on"), ("f", "t"),
)  # fmt: skip
_CHECKED = frozenset("x✓✔☑☒•")
_SCALES = tuple(
    tuple(tuple(rank.split("=")) for rank in scale.split(" < "))
    for scale in (
        "very low < low < medium=med=moderate=mid=middle=normal=average < high < very high",
        "very small < small < medium=med=mid < large=big < very large=extra large",
        "xxs < xs < s < m < l < xl < xxl=2xl < xxxl=3xl",
        "never < rarely=seldom < sometimes=occasionally < often=frequently=usually < always",
        "very poor=very bad=terrible < poor=bad < fair=average=ok=okay < good < very good < premium < excellent=ideal",
        "strongly disagree < disagree < neutral=undecided=neither agree nor disagree < agree < strongly agree",
        "very dissatisfied < dissatisfied < neutral < satisfied < very satisfied",
        "mild < moderate < severe < critical",
        "beginner < intermediate < advanced < expert",
        "sehr niedrig=sehr gering < niedrig=gering < mittel < hoch < sehr hoch",
        "sehr klein < klein < mittel < groß=gross < sehr groß=sehr gross",
        "nie < selten < manchmal=gelegentlich < oft=häufig < immer",
        "sehr schlecht < schlecht < mittel < gut < sehr gut",
        "très faible < faible < moyen=moyenne < élevé=élevée=fort < très élevé=très élevée",
        "jamais < rarement < parfois < souvent < toujours",
        "muy bajo < bajo < medio < alto < muy alto",
    )
)
_BAND = re.compile(
    r"[\[(]?(?P<low>-?[0-9]+(?:\.[0-9]+)?)(?:\s*(?:-|–|to|bis|à)\s*|, )(?P<high>-?[0-9]+(?:\.[0-9]+)?)[\])]?|"
    r"(?P<from>[0-9]+(?:\.[0-9]+)?)\s*\+|(?:>=?|≥|over|above|über)\s*(?P<above>[0-9]+(?:\.[0-9]+)?)|"
    r"(?:<=?|≤|under|below|up to|unter|bis)\s*(?P<below>[0-9]+(?:\.[0-9]+)?)",
    re.I,
)


class Scale(NamedTuple):
    """What words are: ``"boolean"`` or ``"ordinal"``, how, and the rank of each, in lower case.

    ``how`` is ``"truth"``, ``"answers"`` or ``"checked"`` for booleans, and the words in their order for others.
    """

    kind: str
    how: str
    ranks: Mapping[str, int]


def ordered_words(levels: list[str]) -> Scale | None:
    """Return the scale of words for true and false, of answers, of ticks and of ordered words; None for any others."""
    folded = {level.casefold() for level in levels}
    if len(folded) == 1 and folded <= _CHECKED:
        return Scale("boolean", "checked", dict.fromkeys(_CHECKED, 1))
    for pairs, how in ((_TRUTH, "truth"), (_ANSWERS, "answers")):
        for pair in pairs:
            if folded and folded <= set(pair) and (how == "truth" or len(folded) == 2):
                return Scale("boolean", how, {word: rank for rank, word in enumerate(pair)})
            if how == "truth" and folded & set(pair) and folded <= {*pair, "0", "1"}:
                return Scale("boolean", how, {"0": 0, "1": 1, pair[0]: 0, pair[1]: 1})
    if len(folded) < 3:
        return None
    for scale in _SCALES:
        ranks = {word: rank for rank, words in enumerate(scale) for word in words}
        if folded <= ranks.keys() and len({ranks[word] for word in folded}) == len(folded):
            return _ordinal(levels, ranks)
    return None


def ordered_bands(levels: list[str]) -> Scale | None:
    """Return the scale of three bands or more, like 18-24, 25-34, 65+, that do not overlap; None for anything else."""
    if len(levels) < 3:
        return None
    bands = []
    for level in levels:
        found = _BAND.fullmatch(level)
        if found is None:
            return None
        low, high, start, above, below = (None if part is None else float(part) for part in found.groups())
        if low is None:
            low = start if start is not None else above if above is not None else -np.inf
            high = below if below is not None else np.inf
        if high is None or low >= high:
            return None
        bands.append((low, high, level.casefold()))
    bands.sort()
    if any(before[1] > after[0] for before, after in pairwise(bands)):
        return None
    return _ordinal(levels, {word: rank for rank, (_, _, word) in enumerate(bands)})


def _ordinal(levels: list[str], ranks: Mapping[str, int]) -> Scale:
    present = {level.casefold(): level for level in levels}
    in_order = sorted(present, key=lambda word: ranks[word])
    how = " < ".join(present[word] for word in in_order)
    return Scale("ordinal", how, {word: rank for rank, word in enumerate(in_order)})
