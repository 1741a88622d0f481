"""A profile as data: its parts, which are exactly the documented JSON and nothing more.

Because these hold plain numbers only, ``Profile.from_json(p.to_json())`` equals ``p`` and draws the same report.
What was not computed, and what is infinite, is None (null in JSON); ``status`` says which.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lodim.results import Result

SCHEMA = 1
Number = float | int
Interval = tuple[Number | None, Number | None]


@dataclass(frozen=True)
class MeasuredDimension:
    """A dimension with its interval.

    Attributes
    ----------
    interval : pair of float, or None
        95 per cent, where the estimator has one.
    calibrated : float or None
        Dimension of the uniform ball on which the estimator answers the same with as many points.
    n : int or None
        Rows it rests on (classes only).
    remark : str
        What a reader should know, e.g. that an estimate is only a lower bound.
    """

    dimension: float | None
    interval: Interval | None = None
    calibrated: float | None = None
    n: int | None = None
    remark: str = ""


@dataclass(frozen=True)
class DimensionAtScale:
    """The dimension seen at one scale.

    Attributes
    ----------
    method : str
        ``"gride"`` (larger neighbourhoods of all points) or ``"decimation"`` (nearest neighbours of fewer points).
    n_neighbors : int
        Rank of the outer neighbour.
    radius : float
        Its mean distance, in the units of X.
    n_used : int
        Points used.
    """

    method: str
    n_neighbors: int
    radius: float
    n_used: int
    dimension: float | None
    standard_error: float | None = None


@dataclass(frozen=True)
class Pointwise:
    """Local dimensions of the points as a histogram.

    Attributes
    ----------
    edges, counts : tuple
        Bins (one edge more than counts).
    quantiles : tuple of float
        5, 25, 50, 75 and 95 per cent.
    n : int
        Points measured.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    quantiles: tuple[float, ...]
    n: int


@dataclass(frozen=True)
class Density:
    """Whether a kernel density value would mean anything for these rows in these columns.

    Attributes
    ----------
    regime : str
        At the best bandwidth: ``clt`` (an average over many rows), ``stable`` (an average with heavy tails),
        ``condensed`` (decided by the few nearest rows), or ``undetermined``.
    n_eff : float
        Rows that contribute to a value, median.
    bandwidth : float
        The best one (leave-one-out), in the units of X.
    h_g, h_clt : float or None
        Bandwidths above which a value is an average at all, and one with ordinary sampling errors.
    n : int
        Different rows used.
    """

    regime: str
    n_eff: Number | None
    bandwidth: Number | None
    h_g: Number | None
    h_clt: Number | None
    n: int


@dataclass(frozen=True)
class Topology:
    """Components and loops that noise does not explain, on a subsample.

    Attributes
    ----------
    component_gaps : tuple of float
        Distances at which counted components merge, in units of the usual distance to a near neighbour.
    loop_ratios, loop_p_values : tuple of float
        death / birth of the most persistent loops, and how likely noise has such a one.
    n : int
        Rows of the subsample.
    """

    n_components: int
    n_loops: int
    component_gaps: tuple[Number, ...]
    loop_ratios: tuple[Number, ...]
    loop_p_values: tuple[Number, ...]
    n: int


@dataclass(frozen=True)
class DataPart:
    """How many dimensions the data has.

    Attributes
    ----------
    dimension, interval : float, pair
        The consensus of the estimators.
    k_f : float or None
        Label sharpness: the largest label difference over distance, in 1 over the units of X.
    k_f_pair : tuple of str or None
        The classes of the sharpest pair.
    n_conflicts : int or None
        Pairs of equal points with different labels.
    spectrum : tuple of float
        Cumulative shares of variance of the leading principal components.
    pca95 : int or None
        Components that keep 95 per cent of the variance.
    participation_ratio : float or None
        Of the covariance's eigenvalues.
    n_duplicates : int
        Rows equal to an earlier one.
    scale_ratio : float or None
        Largest over smallest standard deviation of the columns that vary.
    widest_column : str or None
        The column with the largest standard deviation.
    n_used : int
        Points whose neighbourhoods were measured.
    density : Density or None
        Whether a kernel density value would mean anything.
    topology : Topology or None
        Components and loops; only where asked for.
    """

    dimension: float | None
    interval: Interval | None
    estimators: dict[str, MeasuredDimension]
    per_class: dict[str, MeasuredDimension] = field(default_factory=dict)
    k_f: float | None = None
    k_f_pair: tuple[str, ...] | None = None
    n_conflicts: int | None = None
    scale_profile: tuple[DimensionAtScale, ...] = ()
    pointwise: Pointwise | None = None
    spectrum: tuple[float, ...] = ()
    pca95: int | None = None
    participation_ratio: float | None = None
    n_duplicates: int = 0
    constant_columns: tuple[str, ...] = ()
    scale_ratio: float | None = None
    widest_column: str | None = None
    n_used: int = 0
    density: Density | None = None
    topology: Topology | None = None


@dataclass(frozen=True)
class CurvePoint:
    """One training run in a subspace.

    Attributes
    ----------
    d : int
        Trained numbers.
    """

    d: int
    seed: int
    score: float | None
    train_score: float | None = None
    lr: float | None = None


@dataclass(frozen=True)
class Message:
    """A compressed model: its length and how well it still works.

    Attributes
    ----------
    d, levels : int
        Numbers, and values each of them can take.
    score : float or None
        On the validation data.
    bound : float or None
        Upper bound on the test error that holds with probability 0.95 (classification only).
    """

    d: int
    levels: int
    bytes: int
    score: float | None
    bound: float | None = None


@dataclass(frozen=True)
class Layer:
    """Dimension of what one layer of the trained model puts out.

    Attributes
    ----------
    name : str
        In the model; ``input`` for the rows themselves.
    kind : str
        Its class.
    width : int
        Numbers it puts out for a row.
    interval : pair of float or None
        95 per cent.
    remark : str
        Why there is no dimension, or that it is only a lower bound.
    """

    name: str
    kind: str
    width: int
    dimension: Number | None
    interval: Interval | None = None
    remark: str = ""


@dataclass(frozen=True)
class LandscapePart:
    """How many numbers the model needs.

    Attributes
    ----------
    baseline_score, threshold_score : float
        Of direct training, and what counts as solved.
    d_int90, interval : float, pair
        Least number of trained numbers that reaches the threshold; None where the search found none.
    status : str
        ``found``, ``not_reached``, ``below_d_min`` (the least number tried suffices) or
        ``not_measured`` (the time ran out, or the run was interrupted).
    compression_ratio : float or None
        ``n_parameters / d_int90``.
    message_bytes : int or None
        Shortest message tried whose model still reaches the threshold.
    message_score : float or None
        Of the model in ``message_bytes``.
    bound : float or None
        Least of the messages' bounds on the test error.
    model, score_name : str
        ``score_name`` is ``accuracy`` or ``R²``.
    chance_score : float
        What a constant answer scores on the validation data.
    linear_score, linear_parameters : float, int or None
        Of a linear model on the same split.
    layer_shapes : tuple of (int, int)
        The model's weight matrices (outputs, inputs).
    layers : tuple of Layer
        Dimension of the input and of the layers' activations in the best directly trained model.
    n_layer_rows : int
        Rows these were measured on.
    """

    n_parameters: int
    baseline_score: float | None
    threshold_score: float | None
    d_int90: float | None
    interval: Interval | None
    status: str
    compression_ratio: float | None = None
    message_bytes: int | None = None
    curve: tuple[CurvePoint, ...] = ()
    messages: tuple[Message, ...] = ()
    message_score: float | None = None
    bound: float | None = None
    model: str = "mlp"
    score_name: str = "accuracy"
    n_train: int = 0
    n_val: int = 0
    chance_score: float | None = None
    linear_score: float | None = None
    linear_parameters: int | None = None
    layer_shapes: tuple[tuple[int, int], ...] = ()
    layers: tuple[Layer, ...] = ()
    n_layer_rows: int = 0

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
        """Whether direct training is barely better than a constant answer, so that no dimension means anything."""
        if self.baseline_score is None or self.chance_score is None:
            return False
        return self.baseline_score < self.chance_score + 0.1 * (1 - self.chance_score)


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

    Attributes
    ----------
    error : float
        Test error asked for.
    log10_bits : float or None
        Decimal logarithm of the bits; None where the rows alone suffice.
    interval : pair of float or None
        95 per cent, of ``log10_bits``.
    sufficient : bool
        Whether the rows alone suffice.
    dimension, margin, radius : float
        What the bits are computed from: dimension of the rows, distance between classes, largest norm of a row.
    n : int
        Rows.
    narrower_log10_bits, doubled_log10_bits : float or None
        The same with one dimension less, and with twice as many rows.
    supplied_by : str or None
        Model with the least error on validation rows.
    supplied_error : float or None
        That error.
    supplied_log10_bits : float or None
        Bits for that error, which the model has supplied; None where it made no error.
    """

    error: Number
    log10_bits: Number | None
    interval: Interval | None
    sufficient: bool
    dimension: Number
    margin: Number
    radius: Number
    n: int
    narrower_log10_bits: Number | None = None
    doubled_log10_bits: Number | None = None
    supplied_by: str | None = None
    supplied_error: Number | None = None
    supplied_log10_bits: Number | None = None

    @property
    def supplied_share(self) -> Number | None:
        """Bits supplied, as a share of those asked for."""
        if self.log10_bits is None or self.supplied_log10_bits is None:
            return None
        return float(10.0 ** (self.supplied_log10_bits - self.log10_bits))


@dataclass(frozen=True)
class Advice:
    """What to do next, and the numbers that say so.

    Attributes
    ----------
    because : dict
        The numbers cited.
    rule : str
        Which rule gave it.
    importance : float
        In [0, 1]; advice is listed from the most important down.
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
