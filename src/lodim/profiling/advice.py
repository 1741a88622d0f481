"""Advice: small pure functions from a profile's numbers to a sentence, each citing the numbers that triggered it.

A rule takes a :class:`~lodim.profiling.result.Profile` and returns an :class:`~lodim.profiling.result.Advice`, or None
when it does not apply. :func:`advise` asks every rule and keeps the most important answers. Sources of the thresholds:

* correlation-type estimators cannot see more than ``2 log10(n)`` dimensions (Eckmann and Ruelle 1992, Physica D 56);
* points a kernel density estimate needs in d dimensions (Silverman 1986, table 4.2: relative mean square error below
  0.1 at the centre of a normal density);
* an adapter of rank r on an m x n matrix has r (m + n) numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lodim.profiling import wording
from lodim.profiling.result import Advice, Profile, ScalePoint

MOST = 8
_SILVERMAN = (4, 19, 67, 223, 768, 2_790, 10_700, 43_700, 187_000, 842_000)
_NEIGHBOURS = ("twonn", "mle", "gride", "mom", "tle", "mada", "mind", "ess")
_LINEAR = ("lpca", "lpca_pr", "pr", "participation", "pca")


def points_for_density(dimension: int | float) -> float:
    """Return how many points a kernel density estimate needs in ``dimension`` dimensions.

    Interpolated on a log scale in Silverman's table (1986, table 4.2) and continued beyond 10 dimensions at its last
    ratio; the answer grows without limit, so treat large values as "too many".

    Parameters
    ----------
    dimension : float
        At least 1 (smaller values count as 1).
    """
    logs = np.log(_SILVERMAN)
    d = max(1.0, dimension)
    if d <= len(logs):
        return float(np.exp(np.interp(d, np.arange(1, len(logs) + 1), logs)))
    return float(np.exp(min(logs[-1] + (d - len(logs)) * (logs[-1] - logs[-2]), 700.0)))


def unsolved(p: Profile) -> Advice | None:
    """The model barely beats a constant answer: say that the rest means little."""
    part = p.landscape
    if part is None or not part.unsolved or part.baseline_score is None or part.chance_score is None:
        return None
    return Advice(
        f"{wording.sentence(wording.model(part.model))} reaches {part.score_name} {wording.score(part.baseline_score)} "
        f"where a constant answer has {wording.score(part.chance_score)}: the columns say little about "
        f"{_target(p)}, or the model or its training is wrong for it. Settle that before reading the number of "
        "dimensions the model needs.",
        {"baseline_score": part.baseline_score, "chance_score": part.chance_score},
        "unsolved",
        1.0,
    )


def trivial_threshold(p: Profile) -> Advice | None:
    """A constant answer passes the threshold (very unequal classes)."""
    part = p.landscape
    if part is None or part.unsolved or part.chance_score is None or part.threshold_score is None:
        return None
    if p.kind != "classification" or part.threshold_score > part.chance_score:
        return None
    return Advice(
        f"Always answering the commonest class scores {wording.score(part.chance_score)}, above the threshold "
        f"{wording.score(part.threshold_score)}: the number of dimensions found says nothing about the rarer classes. "
        "Balance the classes and measure again.",
        {"chance_score": part.chance_score, "threshold_score": part.threshold_score},
        "trivial_threshold",
        0.98,
    )


def weak_regression(p: Profile) -> Advice | None:
    """The model explains only part of the target."""
    part = p.landscape
    if part is None or p.kind != "regression" or part.unsolved or part.baseline_score is None:
        return None
    if part.baseline_score >= 0.6:
        return None
    return Advice(
        f"{wording.sentence(wording.model(part.model))} explains {wording.percent(max(0.0, part.baseline_score))} of "
        f"the variance of {_target(p)}. The rest is noise or hangs on columns that are not here; the number of "
        "dimensions below is that of the explained part only.",
        {"baseline_score": part.baseline_score},
        "weak_regression",
        0.8,
    )


def not_reached(p: Profile) -> Advice | None:
    """No subspace tried was large enough."""
    part = p.landscape
    if part is None or part.status != "not_reached" or part.d_max is None:
        return None
    best = max((r.score for r in part.curve if r.score is not None), default=None)
    return Advice(
        f"No subspace of up to {part.d_max:,} numbers reached {part.score_name} {wording.score(part.threshold_score)} "
        f"(the best run has {wording.score(best)}). Read the answer as 'more than {part.d_max:,}', and raise the "
        "budget to look further.",
        {"d_max": part.d_max, "best_score": best, "threshold_score": part.threshold_score},
        "not_reached",
        0.95,
    )


def column_scales(p: Profile) -> Advice | None:
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


def linear_suffices(p: Profile) -> Advice | None:
    """A linear model does as well as the network."""
    part = p.landscape
    if part is None or part.unsolved or part.model == "linear":
        return None
    if part.linear_score is None or part.baseline_score is None or part.linear_parameters is None:
        return None
    if part.linear_score < part.baseline_score - 0.01:
        return None
    return Advice(
        f"A linear model with {part.linear_parameters:,} weights scores {wording.score(part.linear_score)}, "
        f"{wording.model(part.model)} with {part.n_parameters:,} scores {wording.score(part.baseline_score)}: "
        "take the linear one.",
        {
            "linear_score": part.linear_score,
            "baseline_score": part.baseline_score,
            "linear_parameters": part.linear_parameters,
        },
        "linear_suffices",
        0.88,
    )


def adapter_size(p: Profile) -> Advice | None:
    """How small an adapter or a network may be."""
    part = p.landscape
    if part is None or part.unsolved or not part.d_int90 or part.status != "found":
        return None
    ratio = part.n_parameters / part.d_int90
    if ratio < 4:
        return None
    text = (
        f"About {part.d_int90:,.0f} trained numbers of {part.n_parameters:,} do 90 % of the work, even in a random "
        f"direction: the model is {wording.number(ratio, digits=2)} times larger than this task asks for."
    )
    per_rank = sum(m + n for m, n in part.layer_shapes)
    because: dict[str, object] = {
        "d_int90": part.d_int90,
        "n_parameters": part.n_parameters,
        "compression_ratio": ratio,
    }
    if per_rank:
        rank = max(1, math.ceil(part.d_int90 / per_rank))
        because |= {"rank": rank, "adapter_numbers": rank * per_rank}
        text += (
            f" Fine-tuning to a task of this size can start with adapters of rank {rank} on every layer "
            f"({rank * per_rank:,} numbers)"
        )
        full = min(min(s) for s in part.layer_shapes)
        text += "." if rank < full else ", which saves nothing over training the layers."
    return Advice(text, because, "adapter_size", 0.75)


def compression(p: Profile) -> Advice | None:
    """What the model weighs as a message, and what that certifies."""
    part = p.landscape
    if part is None or part.unsolved or part.message_bytes is None:
        return None
    full = 4 * part.n_parameters
    text = (
        f"The model travels as {part.message_bytes:,} bytes (a seed and quantised coordinates; as 32-bit weights "
        f"{full:,}) with {part.score_name} {wording.score(part.message_score)}."
    )
    because: dict[str, object] = {
        "message_bytes": part.message_bytes,
        "message_score": part.message_score,
        "full_bytes": full,
    }
    if part.bound is not None and part.bound < 0.75 * (1 - (part.chance_score or 0.0)):
        because |= {"bound": part.bound, "n_train": part.n_train}
        text += (
            f" So short a description certifies, from {part.n_train:,} training rows alone and with 95 % confidence, a "
            f"test error below {wording.number(part.bound, digits=2)}."
        )
    return Advice(text, because, "compression", 0.6)


def memorising(p: Profile) -> Advice | None:
    """Training scores far above validation scores in the largest subspace."""
    part = p.landscape
    if part is None or part.unsolved or part.d_max is None:
        return None
    if part.n_train + part.n_val < 0.9 * p.n_samples:  # it had fewer rows than there are, for want of time
        return None
    runs = [r for r in part.curve if r.d == part.d_max and r.score is not None and r.train_score is not None]
    if not runs:
        return None
    train = float(np.mean([r.train_score for r in runs]))
    held = float(np.mean([r.score for r in runs]))
    if train - held < 0.1:
        return None
    return Advice(
        f"With {part.d_max:,} trained numbers the model scores {wording.score(train)} on its training rows and "
        f"{wording.score(held)} on new ones: it memorises. More rows or fewer trained numbers are worth more than a "
        "larger model; check the labels too.",
        {"d": part.d_max, "train_score": train, "score": held},
        "memorising",
        0.78,
    )


def sample_size(p: Profile) -> Advice | None:
    """Whether the rows suffice at this dimension, for the estimate itself and for density estimation."""
    if p.data is None or p.data.dimension is None or p.data.dimension <= 0:
        return None
    d, n = p.data.dimension, p.n_samples
    needed, limit = points_for_density(d), 2 * math.log10(max(n, 2))
    because = {"n_samples": n, "dimension": d, "n_for_density": needed, "largest_dimension_seen": limit}
    if n >= needed:
        return Advice(
            f"{n:,} rows are enough for density estimates and nearest neighbours at {wording.dimension(d)} dimensions "
            f"(about {wording.number(_round2(needed))} would do), once the rows are reduced to that many coordinates.",
            because,
            "sample_size",
            0.4,
        )
    want = (
        f"about {wording.number(_round2(needed))}" if needed < 1e9 else f"about 10^{math.log10(needed):.0f}"
    )
    text = (
        f"A kernel density estimate in {wording.dimension(d)} dimensions wants {want} rows; there are {n:,}. Use "
        "nearest neighbours for ranking only, and models with structure (linear, trees, flows) for probabilities."
    )
    if d > limit:
        text += (
            f" {n:,} rows cannot show much more than {wording.dimension(limit)} dimensions (2 log10 n) to methods that "
            "count neighbours within a distance: take the dimension itself as a lower bound."
        )
    return Advice(text, because, "sample_size", 0.72)


def estimators_disagree(p: Profile) -> Advice | None:
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


def scale_dependence(p: Profile) -> Advice | None:
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


def linear_or_curved(p: Profile) -> Advice | None:
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


def class_outlier(p: Profile) -> Advice | None:
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


def duplicates(p: Profile) -> Advice | None:
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


def constant_columns(p: Profile) -> Advice | None:
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


def label_conflicts(p: Profile) -> Advice | None:
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


def sharpest_pair(p: Profile) -> Advice | None:
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


def missing_values(p: Profile) -> Advice | None:
    """Missing values that were filled in."""
    found = [note for note in p.notes if "missing" in note.lower()]
    if not found:
        return None
    return Advice(
        f"{found[0].rstrip('.')}. Filled-in values pull rows together and can lower the dimension; check that the "
        "result stands on the complete rows alone.",
        {"notes": found},
        "missing_values",
        0.7,
    )


RULES: tuple[Callable[[Profile], Advice | None], ...] = (
    unsolved,
    trivial_threshold,
    weak_regression,
    not_reached,
    column_scales,
    label_conflicts,
    linear_suffices,
    duplicates,
    memorising,
    adapter_size,
    sample_size,
    missing_values,
    estimators_disagree,
    linear_or_curved,
    class_outlier,
    compression,
    scale_dependence,
    sharpest_pair,
    constant_columns,
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


def _target(p: Profile) -> str:
    return repr(p.target_name) if p.target_name else "the target"


def _round2(x: float) -> float:
    """Round a number of rows, at least 1, to two significant digits (it is no exact figure)."""
    return float(math.ceil(round(x, 1 - math.floor(math.log10(x)))))


def _scale_slope(p: Profile) -> tuple[ScalePoint, ScalePoint, float] | None:
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
