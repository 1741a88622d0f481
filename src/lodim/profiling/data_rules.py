"""Rules of advice about the data: scales, dimension against rows, shape, classes, defects.

A rule takes a profile and returns an :class:`~lodim.profiling.parts.Advice`, or None when it does not apply. What
hangs on a dimension is said only where it holds over the dimension's whole interval. Source of a threshold: points a
kernel density estimate needs in d dimensions (Silverman 1986, table 4.2: relative mean square error below 0.1 at the
centre of a normal density), where the regime of the estimate itself was not measured.
"""

from __future__ import annotations

import math
import re

import numpy as np
from scipy.stats import norm

from lodim.pages.words import Ends, closed
from lodim.profiling import wording
from lodim.profiling.parts import Advice, ProfileData

__all__ = [
    "class_outlier",
    "column_scales",
    "constant_columns",
    "duplicates",
    "estimators_disagree",
    "label_conflicts",
    "linear_or_curved",
    "loops",
    "missing_values",
    "points_for_density",
    "sample_size",
    "scale_dependence",
    "separate_parts",
    "sharpest_pair",
]

_SILVERMAN = (4, 19, 67, 223, 768, 2_790, 10_700, 43_700, 187_000, 842_000)
_NEIGHBOURS = ("twonn", "mle", "gride", "mom", "tle", "mada", "mind", "ess")
_LITTLE = 1.25  # as many times the least dimension of the interval: what a map could still gain
_CLASS_LEVEL = 0.05  # chance that any class of alike ones stands apart
_FILLED = re.compile(r"missing values? .*filled in")


def points_for_density(dimension: int | float) -> float:
    """Return how many points a kernel density estimate needs; less than one dimension counts as one.

    Interpolated on a log scale in Silverman's table (1986, table 4.2) and continued beyond 10 dimensions at its last
    ratio; the answer grows without limit, so treat large values as "too many".
    """
    logs = np.log(_SILVERMAN)
    d = max(1.0, dimension)
    if d <= len(logs):
        return float(np.exp(np.interp(d, np.arange(1, len(logs) + 1), logs)))
    return float(np.exp(min(logs[-1] + (d - len(logs)) * (logs[-1] - logs[-2]), 700.0)))


def column_scales(p: ProfileData) -> Advice | None:
    """Columns of wildly different scale: distances do not see the narrow ones."""
    if p.data is None or p.data.scale_ratio is None or p.data.scale_ratio < 100 or p.image_shape is not None:
        return None
    return Advice(
        f"Column {p.data.widest_column!r} varies {wording.number(p.data.scale_ratio, digits=2)} times as much as the "
        "narrowest one, so distances between rows hardly see the narrow columns. Bring the columns to one scale (for "
        "example with scikit-learn's StandardScaler) unless their units are meant to be compared.",
        {"scale_ratio": p.data.scale_ratio, "widest_column": p.data.widest_column},
        "column_scales",
        0.92,
    )


def sample_size(p: ProfileData) -> Advice | None:
    """Too few rows for densities: as measured, or, where that is not known, at every dimension of the interval."""
    if p.data is None or p.data.dimension is None or p.data.dimension <= 0 or p.data.tied:
        return None
    density, d, n = p.data.density, p.data.dimension, p.n_samples - p.data.n_duplicates
    instead = "Use nearest neighbours for ranking only, models with structure (linear, trees, flows) for probabilities."
    if density is not None and density.regime in ("condensed", "stable", "clt") and density.n_eff is not None:
        if density.regime != "condensed":
            return None
        rows = wording.number(density.n_eff, digits=2)
        return Advice(
            f"A kernel density value rests on about {rows} of {density.n:,} rows, the nearest: it is no average. "
            + instead,
            {
                "regime": density.regime,
                "n_eff": density.n_eff,
                "bandwidth": density.bandwidth,
                "h_g": density.h_g,
                "n_samples": n,
            },
            "sample_size",
            0.72,
        )
    least = (p.data.interval or (d, None))[0] or d
    needed = points_for_density(least)
    if n >= needed:
        return None
    return Advice(
        f"A kernel density estimate wants {_rows(needed)} rows in {wording.dimension(least)} dimensions, the fewest "
        f"that the interval allows; there are {n:,}{' different ones' if p.data.n_duplicates else ''}. {instead}",
        {"n_samples": n, "dimension": least, "n_for_density": needed},
        "sample_size",
        0.72,
    )


def _rows(needed: float) -> str:
    return (
        f"about {wording.number(_round2(needed))}" if needed < 1e9 else f"about 10^{math.log10(needed):.0f}"
    )


def _round2(x: float) -> float:
    """Round a number of rows, at least 1, to two significant digits (it is no exact figure)."""
    return float(math.ceil(round(x, 1 - math.floor(math.log10(x)))))


def estimators_disagree(p: ProfileData) -> Advice | None:
    """Two estimators of near neighbours whose corrected answers differ beyond their intervals."""
    if p.data is None or p.data.level is None or p.data.tied:
        return None
    known = {
        key: (e.calibrated, ends)
        for key, e in p.data.estimators.items()
        if key in _NEIGHBOURS
        and e.calibrated is not None
        and (ends := closed(e.interval)) is not None
        and ends[0] <= e.calibrated <= ends[1]
    }
    if len(known) < 2:
        return None
    low, high = min(known, key=lambda k: known[k][1][1]), max(known, key=lambda k: known[k][1][0])
    (below, ends_below), (above, ends_above) = known[low], known[high]
    if ends_below[1] >= ends_above[0]:
        return None
    return Advice(
        f"Estimators disagree beyond their intervals: {wording.estimator(low)} says "
        f"{_with_ends(below, ends_below)}, {wording.estimator(high)} {_with_ends(above, ends_above)}. They weigh near "
        "and far neighbours differently, so one figure does not describe this data: look at the dimension across "
        "scales and around each row.",
        {"low": below, "high": above, "ratio": above / below, "estimators": [low, high]},
        "estimators_disagree",
        0.66,
    )


def _with_ends(value: float, ends: Ends) -> str:
    return f"{wording.dimension(value)}{wording.in_brackets(wording.interval(ends))}"


def scale_dependence(p: ProfileData) -> Advice | None:
    """The dimension changes between neighbourhoods by more than its interval."""
    if p.data is None or not p.data.scale_dependent:
        return None
    # more dimensions than columns are neighbours at nearly one distance, as of rows in a sequence
    points = [
        s
        for s in p.data.scale_profile
        if s.method == "gride" and s.dimension and s.dimension <= 1.5 * p.n_columns
    ]
    if len(points) < 2:
        return None
    first, last = min(points, key=lambda s: s.n_neighbors), max(points, key=lambda s: s.n_neighbors)
    assert first.dimension is not None
    assert last.dimension is not None
    ends = closed(p.data.interval)
    if ends is None or all(ends[0] <= end <= ends[1] for end in (first.dimension, last.dimension)):
        return None
    falls = first.dimension > last.dimension
    why = (
        "as where noise adds dimensions nearby, or clusters and bends take them away far off"
        if falls
        else "as where near rows are copies or parts of one another"
    )
    return Advice(
        f"The dimension {'falls' if falls else 'rises'} with the distance it is measured at, by more than its "
        f"interval: without correction from {wording.dimension(first.dimension)} among the {first.n_neighbors} nearest "
        f"neighbours (distance {wording.number(first.radius)}) to {wording.dimension(last.dimension)} among the "
        f"{last.n_neighbors} nearest ({wording.number(last.radius)}), {why}. Quote the distance with the figure.",
        {
            "first": first.dimension,
            "last": last.dimension,
            "ratio": first.dimension / last.dimension,
        },
        "scale_dependence",
        0.58,
    )


def linear_or_curved(p: ProfileData) -> Advice | None:
    """Whether PCA keeps what there is, keeps most of the variance only, or goes round a bend."""
    if p.data is None or not p.data.dimension or p.data.pca95 is None or p.data.tied:
        return None
    if column_scales(p) is not None or p.data.bounded_by == "rows":
        return (
            None  # the widest column is all that PCA sees; few rows lie in few components whatever they are
        )
    d, m, ends = p.data.dimension, p.data.pca95, closed(p.data.interval)
    because: dict[str, object] = {"pca95": m, "dimension": d, "n_features": p.n_features}
    if p.data.independent is not None:
        because["independent"] = p.data.independent.dimension
        return Advice(
            f"{wording.plural(m, 'principal component is', 'principal components are')} needed for 95 % of the "
            f"variance, more than the dimensions found. {wording.bent(p.data)} A non-linear map (an autoencoder, UMAP) "
            "may go below PCA.",
            because,
            "curved",
            0.64,
        )
    if ends is None or p.n_features < 4 or m >= 0.7 * p.n_features:
        return None
    of = f"{p.n_features:,}{' encoded columns' if p.n_columns != p.n_features else ''}"
    held = f"{wording.plural(m, 'component')} of {of} {'holds' if m == 1 else 'hold'} 95 % of the variance"
    found = f"{wording.dimension(d)}{wording.in_brackets(wording.interval(p.data.interval))} dimensions found"
    if m < math.ceil(ends[0] - 0.1):
        return Advice(
            f"{held}, fewer than the {found}: the other directions are small, noise or detail. Reduce with PCA where "
            "the bulk of the variance is what counts, but not where near rows must stay apart.",
            because,
            "pca_coarse",
            0.5,
        )
    if m <= ends[1] + 0.05:  # as printed
        little = m <= math.ceil(_LITTLE * ends[0])
        gain = (
            "other maps have little left to gain."
            if little
            else "whether a curved map would need fewer, the interval leaves open."
        )
        return Advice(
            f"PCA {'is' if little else 'may be'} enough: {held}, and the interval of the {found} holds as many. Reduce "
            f"with PCA first; {gain}",
            because,
            "pca_suffices",
            0.64,
        )
    return None


def class_outlier(p: ProfileData) -> Advice | None:
    """A class whose dimension differs from the others' by more than chance among so many classes."""
    if p.data is None:
        return None
    known = {
        name: (math.log(e.dimension), _log_error(e.dimension, ends, p.data.level))
        for name, e in p.data.per_class.items()
        if e.dimension is not None
        and (ends := closed(e.interval)) is not None
        and 0 < ends[0] <= e.dimension <= ends[1]
    }
    if len(known) < 3:
        return None
    limit = float(norm.isf(_CLASS_LEVEL / 2 / len(known)))
    found = []
    for name, (value, error) in known.items():
        others = [one for key, one in known.items() if key != name]
        middle = float(np.median([one[0] for one in others]))
        spread = 1.4826 * float(np.median([abs(one[0] - middle) for one in others]))
        of_middle = math.sqrt(math.pi / 2) * math.sqrt(np.mean([one[1] ** 2 for one in others]) / len(others))
        gap = abs(value - middle)
        if gap > max(limit * math.hypot(error, of_middle), 2.5 * spread, math.log(1.25)):
            found.append((gap, name, math.exp(middle)))
    if not found:
        return None
    _, name, median = max(found)
    estimate = p.data.per_class[name]
    value = float(estimate.dimension or 0.0)
    fewer = value < median
    look = "whether its rows are copies or variants of a few" if fewer else "whether it holds several kinds"
    return Advice(
        f"Class {name!r} varies in {'fewer' if fewer else 'more'} directions than the others: "
        f"{wording.dimension(value)} dimensions{wording.in_brackets(wording.interval(estimate.interval))}, the middle "
        f"one of the others has {wording.dimension(median)}. Look {look}.",
        {"class": name, "dimension": value, "median": median},
        "class_outlier",
        0.62,
    )


def _log_error(value: float, ends: Ends, level: float | None) -> float:
    """Standard error of a dimension's logarithm, from the longer arm of its interval."""
    arm = max(math.log(ends[1] / value), math.log(value / ends[0]))
    return arm / float(norm.isf((1 - (level or 0.95)) / 2))


def duplicates(p: ProfileData) -> Advice | None:
    """Repeated rows, where values in steps do not explain them."""
    if p.data is None or p.data.n_duplicates == 0 or p.data.steps is not None:
        return None
    share = p.data.n_duplicates / p.n_samples
    return Advice(
        f"{wording.plural(p.data.n_duplicates, 'row repeats', 'rows repeat')} an earlier one "
        f"({wording.percent(share)}). Before splitting into training and test rows drop copies or keep them together, "
        "or scores come out too good.",
        {"n_duplicates": p.data.n_duplicates, "share": share},
        "duplicates",
        0.85 if share > 0.02 else 0.5,
    )


def constant_columns(p: ProfileData) -> Advice | None:
    """Columns that never change, but for the empty border of images."""
    if p.data is None or not p.data.constant_columns or p.image_shape is not None:
        return None
    names = p.data.constant_columns
    shown = ", ".join(repr(name) for name in names[:4]) + (", …" if len(names) > 4 else "")
    one = len(names) == 1
    return Advice(
        f"{wording.plural(len(names), 'column')} of {p.n_features:,} never {'changes' if one else 'change'} "
        f"({shown}); drop {'it' if one else 'them'}.",
        {"n_constant_columns": len(names), "n_features": p.n_features},
        "constant_columns",
        0.45,
    )


def label_conflicts(p: ProfileData) -> Advice | None:
    """Equal rows with different labels: an error, or columns that do not settle the label."""
    if p.data is None or not p.data.n_conflicts:
        return None
    because: dict[str, object] = {"n_conflicts": p.data.n_conflicts, "best_score": p.data.best_score}
    most = ""
    if p.data.best_score is not None:
        wrong = max(1, p.n_samples - round(p.data.best_score * p.n_samples))
        most = f": every function of the columns gets at least {wording.plural(wrong, 'row')} of {p.n_samples:,} wrong"
    if p.data.steps is not None:
        text = f"Rows that are equal in all columns carry different labels{most}. The columns do not settle the label."
        return Advice(text, because, "label_conflicts", 0.7)
    return Advice(
        f"{wording.plural(p.data.n_conflicts, 'pair')} of equal rows "
        f"{'carries' if p.data.n_conflicts == 1 else 'carry'} different labels{most}. Look for label errors or a "
        "missing column.",
        because,
        "label_conflicts",
        0.9,
    )


def sharpest_pair(p: ProfileData) -> Advice | None:
    """The classes that lie closest together, where they do so in every part of the rows."""
    if p.data is None or p.data.k_f is None or p.data.k_f_pair is None or not p.data.k_f_pair_holds:
        return None
    first, second = p.data.k_f_pair
    scaled = " in scaled columns" if p.n_table_columns else ""
    among = ", of 1,000 drawn," if p.n_samples > 1000 else ""
    return Advice(
        f"The closest classes are {first!r} and {second!r}, in each of four parts of the rows: the nearest two of "
        f"their rows{among} are {wording.number(1 / p.data.k_f)} apart{scaled}. Look there first for label errors.",
        {"k_f": p.data.k_f, "pair": [first, second]},
        "sharpest_pair",
        0.48,
    )


def missing_values(p: ProfileData) -> Advice | None:
    """Missing values that were filled in."""
    found = [note for note in p.notes if _FILLED.search(note)]
    if not found:
        return None
    said = wording.sentence(found[0].removeprefix("ATTENTION, ")).rstrip(".")
    return Advice(
        f"{said}. Rows filled in alike may lie closer together than they are; check that the result stands on the "
        "complete rows alone.",
        {"notes": found},
        "missing_values",
        0.7,
    )


def separate_parts(p: ProfileData) -> Advice | None:
    """The rows fall into parts with gaps between them."""
    part = p.data.topology if p.data else None
    if part is None or part.n_components < 2:
        return None
    least = min(part.component_gaps, default=None)
    gap = f", at least {wording.number(least, digits=2)} usual distances apart" if least is not None else ""
    return Advice(
        f"The rows fall into {part.n_components} parts{gap}. Their dimensions may differ: profile them one by one.",
        {"n_components": part.n_components, "component_gaps": list(part.component_gaps)},
        "separate_parts",
        0.65,
    )


def loops(p: ProfileData) -> Advice | None:
    """Loops, which no map to as many coordinates as dimensions keeps."""
    part = p.data.topology if p.data else None
    if part is None or part.n_loops < 1:
        return None
    return Advice(
        f"The rows close {wording.plural(part.n_loops, 'loop')}. A map to as many coordinates as there are dimensions "
        "tears a loop; allow it one coordinate more, or code the way around as an angle (its sine and cosine).",
        {"n_loops": part.n_loops, "loop_ratios": list(part.loop_ratios)},
        "loops",
        0.55,
    )
