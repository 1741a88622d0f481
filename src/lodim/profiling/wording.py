"""What a profile says of its figures, as people read it; numbers are written by :mod:`lodim.pages.words`."""

from __future__ import annotations

import math

from lodim.pages.words import Interval
from lodim.pages.words import chance as chance
from lodim.pages.words import closed as closed
from lodim.pages.words import dimension as dimension
from lodim.pages.words import in_brackets as in_brackets
from lodim.pages.words import interval as interval
from lodim.pages.words import number as number
from lodim.pages.words import percent as percent
from lodim.pages.words import plural as plural
from lodim.pages.words import score as score
from lodim.pages.words import seconds as seconds
from lodim.pages.words import sentence as sentence
from lodim.pages.words import table as table
from lodim.profiling.parts import AssumptionBits, DataPart, Layer, ProfileData, Steps, Topology

ESTIMATOR_NAMES = {
    "consensus": "consensus",
    "twonn": "TwoNN",
    "l2n2": "L2N2",
    "mle": "MLE (Levina-Bickel)",
    "gride": "Gride",
    "lpca": "PCA (Fukunaga-Olsen)",
    "lpca_pr": "PCA, participation ratio",
    "pca": "PCA, whole cloud",
    "pr": "participation ratio",
    "participation": "participation ratio",
    "participation_ratio": "participation ratio",
    "corrint": "correlation integral",
    "correlation": "correlation integral",
    "mom": "method of moments",
    "mada": "MADA",
    "mind": "MiND",
    "tle": "TLE",
    "fishers": "FisherS",
    "ess": "ESS",
    "danco": "DANCo",
}
REGIMES = {
    "clt": ("central limit", "an average over many rows"),
    "stable": ("heavy tails", "an average that single rows move, right in its order of magnitude"),
    "condensed": ("condensed", "decided by the few nearest rows, not an average"),
    "undetermined": ("undetermined", "of unknown kind, since the rows are too few or too evenly spaced"),
}
CONSTANTS = {"accuracy": "always the commonest class", "AUC": "guessing", "R²": "always the mean"}
_APART = 1.1  # times a figure: a difference that a reader asks about
MODEL_NAMES = {"mlp": "an MLP", "linear": "a linear model", "lenet": "a LeNet"}


def whole_dimension(x: int | float, ends: Interval | None = None) -> str:
    """Write a dimension to be said: whole from 5 on, unless that would be outside its interval as printed."""
    if x < 5:
        return f"{x:.1f}"
    whole = f"{x:,.0f}"
    if (known := closed(ends)) is None:
        return whole
    low, high = (float(dimension(end).replace(",", "")) for end in known)
    return whole if low <= round(x) <= high else dimension(x)


def dimension_of(part: DataPart) -> str:
    """Return the dimension with its interval and what is to be known of both: ``about 9 dimensions (7.6–10.9)``."""
    if part.dimension is None or not math.isfinite(part.dimension):
        return "the dimension of the data is not known"
    said = whole_dimension(part.dimension, part.interval)
    about = "" if part.bounded_by and said == f"{part.dimension:g}" else "about "
    return f"{about}{said} dimension{'' if said in ('1', '1.0') else 's'}{in_brackets(_ends_of(part))}{_bound(part)}"


def _ends_of(part: DataPart) -> str:
    """The interval with what it claims; of version 0.1's documents nothing is known of that."""
    ends = interval(part.interval)
    if ends == "–" or part.level is None:
        return ends
    if part.tied:
        return f"{ends}; many distances between rows are equal, so this interval says nothing"
    if part.unfamiliar:
        return f"{ends}; unlike the shapes that this interval was calibrated on, so it may miss"
    return f"{ends}, {nominal(part)} for shapes like those simulated"


def nominal(part: DataPart) -> str:
    """Return the coverage that an interval is made for."""
    return "95 %" if part.level is None else f"nominal {percent(part.level)}"


def interval_name(part: DataPart) -> str:
    """Return what intervals beside the dimension are called: nominal ones, or such as may miss on this data."""
    return "interval (may miss)" if part.unfamiliar or part.tied else f"{nominal(part)} interval"


_BOUNDS = {"columns": "columns", "rank": "linearly independent columns", "rows": "different rows"}


def _bound(part: DataPart) -> str:
    return f", the most that its {_BOUNDS[part.bounded_by]} allow" if part.bounded_by else ""


def columns(p: ProfileData) -> str:
    """Return how many columns the table has that was given, and into how many it was encoded."""
    encoded = f" ({p.n_features:,} encoded)" if p.n_columns != p.n_features else ""
    return plural(p.n_columns, "column") + encoded


def steps_of(part: DataPart, found: Steps) -> str:
    """Return in sentences why no dimension can be read from neighbours, and what is true instead."""
    if found.few:
        why = f"there are only {found.n_distinct} different rows"
    elif found.n_categories == found.n_columns:
        why = "the columns hold categories, so distances between rows tie"
    elif found.n_categories:
        why = "categories, or values in steps, decide how far apart near rows are, so distances show these"
    else:
        why = "values stand in steps (whole or rounded numbers) as wide as near rows are apart"
    reasons = {
        found.rank: "the rank of the columns",
        found.n_distinct - 1: "one less than there are different rows",
        found.n_columns: "one a column",
    }
    n = found.n_distinct + part.n_duplicates
    text = f"No dimension can be read from neighbours: {why}. There are at most {found.most:,}, {reasons[found.most]}. "
    text += (
        f"All {n:,} rows differ"
        if found.n_distinct == n
        else f"Of {n:,} rows {found.n_distinct:,} are different"
    )
    if found.components95 is not None:
        text += (
            f"; {found.components95:,} of {plural(found.rank, 'component')} of a multiple correspondence analysis "
            f"hold{'s' * (found.components95 == 1)} 95 % of the inertia"
        )
    elif part.pca95 is not None and not found.n_categories:
        held = plural(part.pca95, "principal component holds", "principal components hold")
        text += f"; {held} 95 % of the variance"
    return text + "."


def beside_whole(part: DataPart) -> str:
    """Return what is to be said where the whole has fewer dimensions than each of its classes; else nothing.

    At one scale the dimension of a union is the largest of its parts'.
    """
    classes = [e for e in part.per_class.values() if e.dimension is not None]
    if part.dimension is None or len(classes) < 2:
        return ""
    if round(part.dimension, 1) >= round(min(e.dimension or 0.0 for e in classes), 1):  # as printed
        return ""
    known, whole = [closed(e.interval) for e in classes], closed(part.interval)
    said = f"All classes together have fewer dimensions ({dimension(part.dimension)}) than each of them"
    if whole is None or any(ends is None or ends[0] <= whole[1] for ends in known):
        return f"{said}; their intervals overlap, so the rows cannot tell whether that is so."
    return (
        f"{said}. At one scale that cannot be: the whole is measured between nearer neighbours than a class, which has "
        "fewer rows. Compare classes with one another, not with the whole."
    )


def no_average(part: DataPart) -> str:
    """Return why the dimension lies outside all corrected answers of the estimators; nothing where it does not."""
    answers = [e.calibrated for e in part.estimators.values() if e.calibrated is not None]
    if (
        part.dimension is None
        or len(answers) < 2
        or min(answers) / _APART <= part.dimension <= max(answers) * _APART
    ):
        return ""
    return (
        f"The dimension said, {dimension(part.dimension)}, is no average of the corrected answers: it is read from all "
        "distances at once."
    )


def bent(part: DataPart) -> str:
    """Return what tells a bent or many-piece cloud from a flat one; nothing where the rows do not."""
    if part.independent is None or part.dimension is None:
        return ""
    apart = f"{dimension(part.independent.dimension)} dimensions{in_brackets(interval(part.independent.interval))}"
    as_is = f"{dimension(part.dimension)}{in_brackets(interval(part.interval))}"
    return (
        f"Were its principal components independent of one another, the data would have {apart} rather than {as_is}: "
        "it is bent, or of many pieces."
    )


def estimator(key: str) -> str:
    """Return an estimator's name as people write it."""
    return ESTIMATOR_NAMES.get(key, key)


def model(key: str | None) -> str:
    """Return a model's name with its article."""
    return MODEL_NAMES.get(key or "", f"the model {key}")


def bits_of(part: AssumptionBits) -> str:
    """Return the bits of assumptions that a task asks for, as a sentence."""
    if part.log10_bits is None:
        said = f"for an error of {percent(part.error)} the {part.n:,} rows alone suffice, without assumptions"
        high = None if part.interval is None else part.interval[1]
        return f"{said}{'' if high is None else f' (at the upper end of the dimension up to 10^{high:.1f} bits)'}."
    ends = interval(part.interval, lambda x: f"10^{x:.1f}")
    return (
        f"for an error of {percent(part.error)} a model has to bring about 10^{part.log10_bits:.1f} bits of assumptions"
        f"{in_brackets(ends)} that the {part.n:,} rows do not hold."
    )


def supplied(part: AssumptionBits) -> str:
    """Return what the best model supplied of them, as a sentence; empty where no model was trained."""
    if part.supplied_error is None:
        return ""
    who = MODEL_NAMES.get(part.supplied_by or "", f"the model {part.supplied_by}")
    if part.supplied_error == 0:
        return f"{sentence(who)} made no error on its validation rows, so what it supplied cannot be told."
    share = part.supplied_share
    if share is None:
        return ""
    much = "all" if share > 0.995 else percent(share)
    return f"{sentence(who)} with error {percent(part.supplied_error)} supplied {much} of them."


def layer(part: Layer) -> str:
    """Return a layer's name, with its class where the name is the number in a sequence."""
    return f"{part.name} {part.kind}" if part.name.rpartition(".")[2].isdigit() else part.name


def shape_of(part: Topology) -> str:
    """Return the numbers of components and loops in words."""
    return f"{plural(part.n_components, 'component')} and {plural(part.n_loops, 'loop')} beyond noise"
