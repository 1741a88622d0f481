"""A profile as data: its parts, which are exactly the documented JSON and nothing more.

Because these hold plain numbers only, ``Profile.from_json(p.to_json())`` equals ``p`` and draws the same report.
What was not computed, and what is infinite, is None (null in JSON); ``status`` says which.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lodim.pages.words import Interval, Number
from lodim.results import Result

SCHEMA = 1
LEVEL = 0.01  # a p-value below it counts


@dataclass(frozen=True)
class MeasuredDimension:
    """A dimension with its interval."""

    dimension: float | None
    interval: Interval | None = None  # nominally 95 per cent; of ``calibrated`` where there is one
    calibrated: float | None = None  # corrected by simulated shapes of known dimension
    n: int | None = None  # rows it rests on (classes only)
    remark: str = ""  # what a reader should know, e.g. that it is only a lower bound


@dataclass(frozen=True)
class DimensionAtScale:
    """The dimension seen at one scale."""

    method: str  # "gride" (farther neighbours of all points), "decimation" (nearest of fewer points)
    n_neighbors: int  # rank of the outer neighbour
    radius: float  # its mean distance, in the units of X
    n_used: int  # points
    dimension: float | None
    standard_error: float | None = None


@dataclass(frozen=True)
class Pointwise:
    """Local dimensions of the points as a histogram."""

    edges: tuple[float, ...]  # one more than counts
    counts: tuple[int, ...]
    quantiles: tuple[float, ...]  # 5, 25, 50, 75 and 95 per cent
    n: int  # points measured


@dataclass(frozen=True)
class Density:
    """Whether a kernel density value would mean anything for these rows in these columns.

    At the best bandwidth the regime is ``clt`` (an average over many rows), ``stable`` (an average with heavy tails),
    ``condensed`` (decided by the few nearest rows), or ``undetermined``.
    """

    regime: str
    n_eff: Number | None  # rows that contribute to a value, median
    bandwidth: Number | None  # the best one (leave-one-out), in the units of X
    h_g: Number | None  # bandwidth above which a value is an average at all
    h_clt: Number | None  # bandwidth above which it has ordinary sampling errors
    n: int  # different rows used


@dataclass(frozen=True)
class FoundGroups:
    """Groups of rows, which valleys of their density part, or that there are none (:func:`lodim.partition.groups`)."""

    n_groups: int  # 1: no valley is deeper than those that ungrouped rows show
    sizes: tuple[int, ...]  # the largest first
    repeated: Number  # share of resamples with as many groups
    n_separable: int  # rows that surely belong to their group
    told_by: str  # column whose values alone make the groups, or empty
    sentence: str  # the answer
    n: int  # rows looked at

    @property
    def clear(self) -> bool:
        """Whether there are groups that come again in nine of ten resamples and are no column's values."""
        return self.n_groups > 1 and self.repeated >= 0.9 and not self.told_by


@dataclass(frozen=True)
class Topology:
    """Components and loops that noise does not explain, on a subsample."""

    n_components: int
    n_loops: int
    component_gaps: tuple[Number, ...]  # where components merge, in usual distances to a near neighbour
    loop_ratios: tuple[Number, ...]  # death / birth of the most persistent loops
    loop_p_values: tuple[Number, ...]  # how likely noise has such a one
    n: int  # rows of the subsample


@dataclass(frozen=True)
class Steps:
    """What is true of a table whose values stand in steps as wide as the distances between neighbours.

    Distances then tie, and what estimators make of near neighbours is no dimension.
    """

    n_distinct: int  # different rows
    n_columns: int  # columns of the table that vary
    n_categories: int  # those of them that hold categories, or two values only
    most: int  # no more dimensions than columns that vary, than the rank, than different rows less one
    rank: int  # of the encoded columns, centred
    few: bool = False  # too few different rows, rather than steps, are the reason
    components95: int | None = None  # of a multiple correspondence analysis; None with columns of numbers


@dataclass(frozen=True)
class DataPart:
    """How many dimensions the data has.

    The interval holds where the data is like the shapes it was calibrated on; ``unfamiliar``, ``scale_dependent``,
    ``bounded_by`` and ``tied`` say where it is not.
    """

    dimension: float | None  # the consensus of the estimators
    interval: Interval | None  # of the consensus
    estimators: dict[str, MeasuredDimension]
    per_class: dict[str, MeasuredDimension] = field(default_factory=dict)
    k_f: float | None = None  # largest label difference over distance, in 1 over the units of X
    k_f_pair: tuple[str, ...] | None = None  # classes of the sharpest pair
    n_conflicts: int | None = None  # pairs of equal points with different labels
    scale_profile: tuple[DimensionAtScale, ...] = ()
    pointwise: Pointwise | None = None
    spectrum: tuple[float, ...] = ()  # cumulative shares of variance of the leading principal components
    pca95: int | None = None  # components that keep 95 per cent of the variance
    participation_ratio: float | None = None  # of the covariance's eigenvalues
    n_duplicates: int = 0  # rows equal to an earlier one
    constant_columns: tuple[str, ...] = ()
    scale_ratio: float | None = None  # largest over smallest standard deviation of the columns that vary
    widest_column: str | None = None  # the one with the largest standard deviation
    n_used: int = 0  # points whose neighbourhoods were measured
    density: Density | None = None
    topology: Topology | None = None  # only where asked for
    level: Number | None = None  # nominal coverage of the intervals; None in documents of version 0.1
    unfamiliar: bool = False  # unlike the shapes that the interval was calibrated on
    scale_dependent: bool = False  # the dimension changes between neighbourhoods by more than its interval
    bounded_by: str | None = None  # "columns", "rank" or "rows": the dimension is the most that these allow
    tied: bool = False  # distances tie: there is no dimension to be read from neighbours, see ``steps``
    steps: Steps | None = None  # only where distances tie
    independent: MeasuredDimension | None = None  # were its principal components independent
    k_f_pair_holds: bool = False  # whether these classes are the closest in each of four parts of the rows
    groups: FoundGroups | None = None
    best_score: Number | None = None  # share of the rows that the best function of the columns gets right


@dataclass(frozen=True)
class CurvePoint:
    """One training run in a subspace of ``d`` trained numbers."""

    d: int
    seed: int
    score: float | None
    train_score: float | None = None
    lr: float | None = None


@dataclass(frozen=True)
class Message:
    """A compressed model: its length and how well it still works."""

    d: int  # numbers
    levels: int  # values each of them can take
    bytes: int
    score: float | None  # on the validation data
    bound: float | None = None  # on the test error, with probability 0.95 (classification only)


@dataclass(frozen=True)
class Layer:
    """Dimension of what one layer of the trained model puts out."""

    name: str  # in the model; "input" for the rows themselves
    kind: str  # its class
    width: int  # numbers it puts out for a row
    dimension: Number | None
    interval: Interval | None = None  # 95 per cent
    remark: str = ""  # why there is no dimension, or that it is only a lower bound


@dataclass(frozen=True)
class OtherRecipe:
    """The same model's answer when it is trained otherwise: how far the number belongs to the recipe."""

    passes: int  # over the training rows
    status: str  # as of a LandscapePart
    d_int90: float | None
    interval: Interval | None
    baseline_score: float | None


@dataclass(frozen=True)
class LandscapePart:
    """How many numbers the model needs.

    The status is ``found``, ``not_reached``, ``below_d_min`` (the least number tried suffices) or ``not_measured`` (the
    time ran out, or the run was interrupted).
    """

    n_parameters: int
    baseline_score: float | None  # of direct training
    threshold_score: float | None  # what counts as solved
    d_int90: float | None  # least number of trained numbers that reaches the threshold; None if not found
    interval: Interval | None
    status: str
    compression_ratio: float | None = None  # n_parameters / d_int90
    message_bytes: int | None = None  # of the shortest message whose model still reaches the threshold
    curve: tuple[CurvePoint, ...] = ()
    messages: tuple[Message, ...] = ()
    message_score: float | None = None  # of the model in message_bytes
    bound: float | None = None  # least of the messages' bounds on the test error
    model: str = "mlp"
    score_name: str = "accuracy"  # "AUC" where one class is much the commonest; "R²"
    n_train: int = 0
    n_val: int = 0
    chance_score: float | None = None  # of a constant answer on the validation data
    linear_score: float | None = None  # of a linear model on the same split
    linear_parameters: int | None = None
    layer_shapes: tuple[tuple[int, int], ...] = ()  # of the weight matrices: (outputs, inputs)
    layers: tuple[Layer, ...] = ()  # of the best directly trained model, the input first
    n_layer_rows: int = 0  # rows these were measured on
    score_floor: float = 0.0  # what the 90 per cent are counted from
    majority: float | None = None  # accuracy of always answering the commonest class, on the validation rows
    n_told: int = 0  # different validation rows: those that the p-values rest on
    n_direct: int = 0  # runs of direct training, of which the best is judged
    guess_p: float | None = None  # chance that the best of as many guessers does as well
    auc: float | None = None  # of that run, where the score is the accuracy
    auc_p: float | None = None  # chance that guessers have as large an area
    linear_gain: float | None = None  # score of the linear model less that of that run, on the rows told
    linear_p: float | None = None  # chance that equally good models differ as much there
    passes: int = 0  # of a training run over its rows
    scaling: str = ""  # "together": one mean and deviation for all columns; "each": every column its own
    other_recipe: OtherRecipe | None = None  # where the budget allows it
    baseline_runs: tuple[Number, ...] = ()  # scores of the direct runs that baseline_score is the mean of

    @property
    def d_max(self) -> int | None:
        """The largest subspace that was tried."""
        return max((p.d for p in self.curve), default=None)

    @property
    def d_least(self) -> int | None:
        """The smallest subspace that was tried."""
        return min((p.d for p in self.curve), default=None)

    @property
    def unsolved(self) -> bool:
        """Whether direct training cannot be told from guessing, so that no dimension means anything."""
        if self.baseline_score is None or self.chance_score is None:
            return False
        if self.guess_p is None:  # of an earlier release, or not judged
            return self.baseline_score < self.chance_score + 0.1 * (1 - self.chance_score)
        return self.guess_p >= LEVEL or self.baseline_score <= self.chance_score

    @property
    def orders_rows(self) -> bool:
        """Whether the area under the curve is told from guessing, beside an accuracy."""
        return self.auc is not None and self.auc > 0.5 and self.auc_p is not None and self.auc_p < LEVEL

    @property
    def linear_is(self) -> str | None:
        """Whether the linear model is ``better`` or ``worse`` than the model, or ``alike``: not told apart."""
        if self.linear_p is None or self.linear_gain is None:
            return None
        # the model was the best of its runs on these rows, the linear one was not chosen
        p = self.linear_p if self.linear_gain > 0 else self.linear_p * max(1, self.n_direct)
        if p >= LEVEL:
            return "alike"
        return "better" if self.linear_gain > 0 else "worse"


def wavers(part: LandscapePart) -> bool:
    """Whether some sizes reach the threshold on average though larger ones do not, so that no size can be named."""
    least = part.threshold_score
    if part.status != "not_reached" or least is None:
        return False
    return any(sum(scores) / len(scores) >= least for scores in scores_by_d(part).values())


def scores_by_d(part: LandscapePart) -> dict[int, list[float]]:
    """Return the finite scores of the runs at each subspace dimension, in increasing order of dimension."""
    found: dict[int, list[float]] = {}
    for run in sorted(part.curve, key=lambda r: (r.d, r.seed)):
        if run.score is not None:
            found.setdefault(run.d, []).append(run.score)
    return found


@dataclass(frozen=True)
class AssumptionBits:
    """Bits of assumptions that the labelled rows leave open: an order of magnitude.

    They are computed from the dimension of the rows, the distance between classes and the largest norm of a row.
    """

    error: Number  # test error asked for
    log10_bits: Number | None  # None where the rows alone suffice
    interval: Interval | None  # 95 per cent, of log10_bits
    sufficient: bool  # whether the rows alone suffice
    dimension: Number
    margin: Number
    radius: Number
    n: int  # rows
    narrower_log10_bits: Number | None = None  # with one dimension less
    doubled_log10_bits: Number | None = None  # with twice as many rows
    supplied_by: str | None = None  # model with the least error on validation rows
    supplied_error: Number | None = None  # that error
    supplied_log10_bits: Number | None = None  # bits for that error; None where it made none

    @property
    def supplied_share(self) -> Number | None:
        """Bits supplied, as a share of those asked for."""
        if self.log10_bits is None or self.supplied_log10_bits is None:
            return None
        return float(10.0 ** (self.supplied_log10_bits - self.log10_bits))


@dataclass(frozen=True)
class Advice:
    """What to do next (``text``), the numbers that say so (``because``), and the ``rule`` that gave it.

    The importance is in [0, 1]; advice is listed from the most important down.
    """

    text: str
    because: dict[str, Any]
    rule: str = ""
    importance: float = 0.5


@dataclass(frozen=True)
class ProfileData(Result):
    """Everything a profile knows; :class:`~lodim.profiling.result.Profile` adds what is made of it."""

    source: str
    n_samples: int
    n_features: int
    data: DataPart | None
    landscape: LandscapePart | None
    advice: tuple[Advice, ...]
    seconds: float
    seed: int
    versions: dict[str, str]
    kind: str | None = None
    target_name: str | None = None
    n_classes: int | None = None
    image_shape: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()
    budget: float = 60.0
    complete: bool = True
    timings: dict[str, float] = field(default_factory=dict)
    schema: int = SCHEMA
    difficulty: AssumptionBits | None = None
    kind_given: bool = False  # whether the caller said how to read the target
    n_table_columns: int | None = None  # of the table as given, where it was encoded (one-hot) into others

    @property
    def n_columns(self) -> int:
        """Columns of the table that was given."""
        return self.n_table_columns or self.n_features
