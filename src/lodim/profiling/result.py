"""The answer as data: :class:`Profile` and its parts, which are exactly the documented JSON and nothing more.

Because a profile holds plain numbers only, ``Profile.from_json(p.to_json())`` equals ``p`` and draws the same report.
What was not computed, and what is infinite, is None (null in JSON); ``status`` says which.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lodim.profiling.extras import Density, Difficulty, Interval, Layer, Topology
from lodim.results import Result

SCHEMA = 1


@dataclass(frozen=True)
class Estimate:
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
class ScalePoint:
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
    estimators: dict[str, Estimate]
    per_class: dict[str, Estimate] = field(default_factory=dict)
    k_f: float | None = None
    k_f_pair: tuple[str, ...] | None = None
    n_conflicts: int | None = None
    scale_profile: tuple[ScalePoint, ...] = ()
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
class Profile(Result):
    """How many dimensions a problem needs: the answer of :func:`lodim.profile`.

    Print it, or open :meth:`to_html`; :attr:`verdict` is the answer in two sentences, :meth:`to_json` the same
    figures for machines (the schema is in ``lodim/profiling/schema.json``).

    Attributes
    ----------
    schema : int
        Version of the JSON's layout.
    landscape : LandscapePart or None
        None when no model was asked for.
    seconds : float
        Wall time.
    kind : str or None
        ``classification`` or ``regression``, None without labels.
    notes : tuple of str
        What was done to the data and what had to be left out.
    budget : float
        Seconds that were allowed.
    complete : bool
        False if the run was interrupted.
    timings : dict of str to float
        Seconds of each part.
    difficulty : Difficulty or None
        Bits of assumptions that a classification asks for.
    """

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
    difficulty: Difficulty | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON as plain data, the verdict with it."""
        plain = super().to_dict()
        return {
            "schema": plain.pop("schema"),
            "source": plain.pop("source"),
            "verdict": self.verdict,
            **plain,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Profile:
        """Rebuild a profile from :meth:`to_dict`'s data.

        Raises
        ------
        ValueError
            If the data follows another version of the schema.
        """
        if data.get("schema") != SCHEMA:
            raise ValueError(f"expected a profile of schema {SCHEMA}, got schema {data.get('schema')!r}")
        return super().from_dict(data)

    @cached_property
    def verdict(self) -> str:
        """The answer in one to three sentences."""
        from lodim.profiling.text import verdict

        return verdict(self)

    def __str__(self) -> str:
        from lodim.profiling.text import full_text

        return full_text(self)

    def to_html(self, path: str | Path | None = None) -> str:
        """Return the report as one self-contained HTML page, and write it to ``path`` if one is given."""
        from lodim.profiling.report import render

        page = render(self)
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def _repr_html_(self) -> str:
        from lodim.profiling.report import render_fragment

        return render_fragment(self)

    def plot(self) -> Any:
        """Draw the main figures with matplotlib and return the figure.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from lodim.profiling.figures import draw

        return draw(self)

    def save_json(self, path: str | Path) -> None:
        """Write :meth:`to_json`'s text to a file."""
        Path(path).write_text(self.to_json() + "\n", encoding="utf-8")

    @classmethod
    def load_json(cls, path: str | Path) -> Profile:
        """Read a profile that :meth:`save_json` wrote."""
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
