"""Rules of advice about the data: scales, dimension against rows, shape, classes, defects.

A rule takes a profile and returns an :class:`~lodim.profiling.parts.Advice`, or None when it does not apply.
Sources of the thresholds:

* correlation-type estimators cannot see more than ``2 log10(n)`` dimensions (Eckmann and Ruelle 1992, Physica D 56);
* points a kernel density estimate needs in d dimensions (Silverman 1986, table 4.2: relative mean square error below
  0.1 at the centre of a normal density), where the regime of the estimate itself was not measured.
"""

from __future__ import annotations

import math

import numpy as np

from lodim.profiling import wording
from lodim.profiling.parts import Advice, Density, DimensionAtScale, ProfileData

__all__ = [
    "assumptions_or_rows",
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
_INSTEAD = " Use nearest neighbours for ranking only, models with structure (linear, trees, flows) for probabilities."
_NEIGHBOURS = ("twonn", "mle", "gride", "mom", "tle", "mada", "mind", "ess")


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
    """Columns of wildly different scale: distances see only the widest."""
    if p.data is None or p.data.scale_ratio is None or p.data.scale_ratio < 100 or p.image_shape is not None:
        return None
    return Advice(
        f"Column {p.data.widest_column!r} varies {wording.number(p.data.scale_ratio, digits=2)} times as much as the "
        "narrowest one, so distances between rows see little else. Bring the columns to one scale (for example with "
        "scikit-learn's StandardScaler) unless their units are meant to be compared.",
        {"scale_ratio": p.data.scale_ratio, "widest_column": p.data.widest_column},
        "column_scales",
        0.92,
    )


def sample_size(p: ProfileData) -> Advice | None:
    """Whether the rows suffice at this dimension, for the estimate itself and for density estimation."""
    if p.data is None or p.data.dimension is None or p.data.dimension <= 0:
        return None
    d, n = p.data.dimension, p.n_samples
    needed, limit = points_for_density(d), 2 * math.log10(max(n, 2))
    because: dict[str, object] = {
        "n_samples": n, "dimension": d, "n_for_density": needed, "largest_dimension_seen": limit,
    }  # fmt: skip
    density = p.data.density
    if density is not None and density.regime in ("condensed", "stable", "clt") and density.n_eff is not None:
        because |= {
            "regime": density.regime,
            "n_eff": density.n_eff,
            "bandwidth": density.bandwidth,
            "h_g": density.h_g,
        }
        text, importance = _by_regime(density, d, n, needed)
    elif n >= needed:
        text, importance = _enough_rows(d, n, needed), 0.4
    else:
        wants = f"A kernel density estimate in {wording.dimension(d)} dimensions wants {_rows(needed)} rows"
        text, importance = f"{wants}; there are {n:,}.{_INSTEAD}", 0.72
    if d > limit and n < needed:
        text += (
            f" {n:,} rows cannot show much more than {wording.dimension(limit)} dimensions (2 log10 n) to methods that "
            "count neighbours within a distance: take the dimension itself as a lower bound."
        )
    return Advice(text, because, "sample_size", importance)


def _rows(needed: float) -> str:
    return (
        f"about {wording.number(_round2(needed))}" if needed < 1e9 else f"about 10^{math.log10(needed):.0f}"
    )


def _enough_rows(d: float, n: int, needed: float) -> str:
    return (
        f"{n:,} rows are enough for density estimates and nearest neighbours at {wording.dimension(d)} dimensions "
        f"({_rows(needed)} would do), once the rows are reduced to that many coordinates."
    )


def _by_regime(density: Density, d: float, n: int, needed: float) -> tuple[str, float]:
    """What the measured regime says; the published table is a second opinion only where it says something else."""
    rows = wording.number(density.n_eff, digits=2)
    if density.regime == "condensed":
        text = f"A kernel density value rests on about {rows} of {density.n:,} rows, the nearest: it is no average."
        return (f"{text} {_enough_rows(d, n, needed)}", 0.5) if n >= needed else (text + _INSTEAD, 0.72)
    text = f"A kernel density value averages about {rows} rows here"
    if density.regime == "stable":
        text += ", few enough that single rows move it: take it for an order of magnitude"
    if n < needed:
        text += f" ({_rows(needed)} rows would be wanted at {wording.dimension(d)} dimensions for one within a third)"
    return text + ".", 0.4 if density.regime == "clt" else 0.5


def estimators_disagree(p: ProfileData) -> Advice | None:
    """Neighbour estimators that differ by half or more, and the likely reason."""
    if p.data is None:
        return None
    values = {
        k: e.dimension for k, e in p.data.estimators.items() if k in _NEIGHBOURS and e.dimension is not None
    }
    values = {k: v for k, v in values.items() if v > 0}
    if len(values) < 2:
        return None
    low, high = min(values, key=lambda k: values[k]), max(values, key=lambda k: values[k])
    ratio = values[high] / values[low]
    if ratio < 1.4:
        return None
    slope = _scale_slope(p)
    if slope is not None and slope[2] > 1.3:
        why = "the dimension falls as neighbourhoods grow (noise adds directions nearby, edges take them away far off)"
    elif slope is not None and slope[2] < 1 / 1.3:
        why = "the dimension grows with the neighbourhood, as it does for clusters, grids and repeated values"
    else:
        why = "they weigh near and far neighbours differently, which matters where the density varies"
    return Advice(
        f"Estimators disagree: {wording.estimator(low)} says {wording.dimension(values[low])}, "
        f"{wording.estimator(high)} {wording.dimension(values[high])}; {why}. Quote the interval, not one figure.",
        {"low": values[low], "high": values[high], "ratio": ratio, "estimators": [low, high]},
        "estimators_disagree",
        0.66,
    )


def scale_dependence(p: ProfileData) -> Advice | None:
    """The dimension falls clearly from the smallest scale to the largest."""
    slope = _scale_slope(p)
    if slope is None or slope[2] < 1.3 or estimators_disagree(p) is not None:
        return None
    first, last, ratio = slope
    return Advice(
        f"From the {first.n_neighbors} nearest neighbours to the {last.n_neighbors} nearest, the dimension falls from "
        f"{wording.dimension(first.dimension)} (distance {wording.number(first.radius)}) to "
        f"{wording.dimension(last.dimension)} (distance {wording.number(last.radius)}). Noise adds dimensions "
        "at short distances and the edge of the data takes them away at long ones: quote the scale with the figure.",
        {"first": first.dimension, "last": last.dimension, "ratio": ratio},
        "scale_dependence",
        0.58,
    )


def linear_or_curved(p: ProfileData) -> Advice | None:
    """Whether PCA is enough, or the cloud bends."""
    if p.data is None or not p.data.dimension or p.data.pca95 is None or p.n_features < 4:
        return None
    if column_scales(p) is not None:  # the widest column is all that PCA sees
        return None
    d, m = p.data.dimension, p.data.pca95
    because = {"pca95": m, "dimension": d, "n_features": p.n_features}
    if m >= 2.0 * d and m >= d + 3:
        return Advice(
            f"The rows lie on a curved or many-piece shape: {m} principal components are needed for 95 % of the "
            f"variance, but rows vary in only about {wording.dimension(d)} directions locally. A non-linear map (an "
            f"autoencoder, UMAP) to about {math.ceil(d)} coordinates can go below PCA.",
            because,
            "curved",
            0.64,
        )
    if m < 0.7 * p.n_features:
        return Advice(
            f"PCA is enough: {wording.plural(m, 'component')} of {p.n_features} hold 95 % of the variance, close to "
            f"the {wording.dimension(d)} dimensions found. Reduce with PCA first; other maps have little left to gain.",
            because,
            "pca_suffices",
            0.64,
        )
    return None


def class_outlier(p: ProfileData) -> Advice | None:
    """A class whose dimension stands apart from the others'."""
    if p.data is None:
        return None
    found = {k: e for k, e in p.data.per_class.items() if e.dimension is not None and e.dimension > 0}
    if len(found) < 3:
        return None
    values = np.array([e.dimension for e in found.values()], dtype=float)
    median = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - median)))
    name, estimate = max(found.items(), key=lambda item: abs((item[1].dimension or 0.0) - median))
    value = float(estimate.dimension or 0.0)
    if abs(value - median) <= 2.5 * spread or not (value > 1.25 * median or value < 0.8 * median):
        return None
    ends = estimate.interval
    if ends is not None and None not in ends and float(ends[0] or 0) <= median <= float(ends[1] or 0):
        return None
    what = "simpler" if value < median else "richer"
    do = "fewer examples of it will do" if value < median else "it deserves more examples, or splitting"
    return Advice(
        f"Class {name!r} is {what} than the others: {wording.dimension(value)} dimensions against a median of "
        f"{wording.dimension(median)}; {do}.",
        {"class": name, "dimension": value, "median": median},
        "class_outlier",
        0.62,
    )


def duplicates(p: ProfileData) -> Advice | None:
    """Repeated rows."""
    if p.data is None or p.data.n_duplicates == 0:
        return None
    share = p.data.n_duplicates / p.n_samples
    return Advice(
        f"{wording.plural(p.data.n_duplicates, 'row repeats', 'rows repeat')} an earlier one "
        f"({wording.percent(share)}). Drop them before splitting into training and test rows, "
        "or scores come out too good.",
        {"n_duplicates": p.data.n_duplicates, "share": share},
        "duplicates",
        0.85 if share > 0.02 else 0.5,
    )


def constant_columns(p: ProfileData) -> Advice | None:
    """Columns that never change."""
    if p.data is None or not p.data.constant_columns:
        return None
    names = p.data.constant_columns
    shown = ", ".join(repr(name) for name in names[:4]) + (", …" if len(names) > 4 else "")
    one = len(names) == 1
    return Advice(
        f"{wording.plural(len(names), 'column')} of {p.n_features:,} never {'changes' if one else 'change'} "
        f"({shown}); drop {'it' if one else 'them'}.",
        {"n_constant_columns": len(names), "n_features": p.n_features},
        "constant_columns",
        0.3 if p.image_shape is not None else 0.45,
    )


def label_conflicts(p: ProfileData) -> Advice | None:
    """Equal rows with different labels."""
    if p.data is None or not p.data.n_conflicts:
        return None
    return Advice(
        f"{wording.plural(p.data.n_conflicts, 'pair')} of equal rows carry different labels. No model can get both "
        "right: look for label errors or a missing column.",
        {"n_conflicts": p.data.n_conflicts},
        "label_conflicts",
        0.9,
    )


def sharpest_pair(p: ProfileData) -> Advice | None:
    """The classes that lie closest together."""
    if p.data is None or p.data.k_f is None or p.data.k_f_pair is None or (p.n_classes or 0) < 3:
        return None
    first, second = p.data.k_f_pair
    return Advice(
        f"The hardest boundary is between {first!r} and {second!r}: rows of the two come within "
        f"{wording.number(1 / p.data.k_f)} of each other (label sharpness {wording.number(p.data.k_f)}). Look there "
        "first for label errors and for where new examples help most.",
        {"k_f": p.data.k_f, "pair": [first, second]},
        "sharpest_pair",
        0.48,
    )


def missing_values(p: ProfileData) -> Advice | None:
    """Missing values that were filled in."""
    found = [note for note in p.notes if "missing" in note.lower()]
    if not found:
        return None
    said = wording.sentence(found[0].removeprefix("ATTENTION, ")).rstrip(".")
    return Advice(
        f"{said}. Filled-in values pull rows together and can lower the dimension; check that the result stands on "
        "the complete rows alone.",
        {"notes": found},
        "missing_values",
        0.7,
    )


def _round2(x: float) -> float:
    """Round a number of rows, at least 1, to two significant digits (it is no exact figure)."""
    return float(math.ceil(round(x, 1 - math.floor(math.log10(x)))))


def _scale_slope(p: ProfileData) -> tuple[DimensionAtScale, DimensionAtScale, float] | None:
    """Gride's smallest and largest scale and the ratio of their dimensions, if they differ by 3 standard errors."""
    if p.data is None:
        return None
    points = [s for s in p.data.scale_profile if s.method == "gride" and s.dimension]
    if len(points) < 3:
        return None
    first, last = min(points, key=lambda s: s.n_neighbors), max(points, key=lambda s: s.n_neighbors)
    assert first.dimension is not None
    assert last.dimension is not None
    doubt = 3 * math.hypot(first.standard_error or 0.0, last.standard_error or 0.0)
    if abs(first.dimension - last.dimension) <= doubt:
        return None
    return first, last, first.dimension / last.dimension


def assumptions_or_rows(p: ProfileData) -> Advice | None:
    """Whether a dimension less spares more bits of assumptions than twice as many rows."""
    part = p.difficulty
    if (
        part is None
        or part.log10_bits is None
        or part.narrower_log10_bits is None
        or part.doubled_log10_bits is None
    ):
        return None
    by_dimension = part.log10_bits - part.narrower_log10_bits
    by_rows = part.log10_bits - part.doubled_log10_bits
    if by_dimension < 0.1 or by_dimension < 3 * by_rows:
        return None
    rows = wording.percent(1 - 10.0**-by_rows)
    return Advice(
        f"Generalising here takes assumptions more than rows: one dimension less divides the bits that the task asks "
        f"for by {wording.number(10.0**by_dimension, digits=2)}, twice as many rows spare {rows}. Put what is known of "
        "the data (invariances, augmentation, pretrained features) into the model first.",
        {
            "log10_bits": part.log10_bits,
            "one_dimension_less": part.narrower_log10_bits,
            "twice_the_rows": part.doubled_log10_bits,
        },
        "assumptions_or_rows",
        0.42,
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
