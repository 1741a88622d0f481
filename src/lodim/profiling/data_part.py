"""The first half of a profile: how many dimensions the data has, and how sharp its labels are.

X is measured as it comes: distances are Euclidean in its own units. (Tables read by :mod:`lodim.datasets` arrive with
standardised columns and images in [0, 1]; an array is the caller's.) What is too large for the time allowed is
sampled: first the points whose neighbourhoods are measured, then the rows themselves, and the notes say so.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from lodim.dimension.bounds import rank_of
from lodim.dimension.methods import CONSENSUS
from lodim.dimension.spectrum import components_for, covariance_spectrum, linear_dimension
from lodim.geometry import LabelSharpness, intrinsic_dimensions
from lodim.geometry.dataset_properties.label_sharpness import count_conflicts
from lodim.neighbors import first_occurrences
from lodim.profiling.inputs import column_spreads
from lodim.profiling.parts import DataPart, DimensionAtScale, MeasuredDimension, Pointwise, Steps
from lodim.profiling.steps import (
    ALONE,
    CROSSING,
    FEWEST_ROWS,
    WIDE,
    TableColumns,
    alike_rows,
    correspondence_inertia,
    of_numbers,
    rounding_noise,
    table_columns,
)
from lodim.randomness import derive_seed

RATE = (
    2e10  # multiply-adds a second that a laptop sustains in these searches; only steers how much is sampled
)
_LEAST_ROWS, _SOME_QUERIES = 1000, 4096
_SHARPNESS_POINTS, _SHARPNESS_PARTS = 1000, 4
_SURROGATE_ROWS, _SURROGATE_VALUES = 2000, 2_000_000
LEVEL = 0.95
_BINS = 30


@dataclass(frozen=True)
class Sample:
    """How much of the data is measured: rows kept, and rows among them whose neighbourhoods are measured."""

    n_rows: int
    n_queries: int


def expected_seconds(n_rows: int, n_queries: int, n_features: int) -> float:
    """Return a rough cost of the data part: searches (whole, thinned out, by class), counts of pairs, spectra."""
    rank = min(n_rows, n_features)
    search = (n_queries + 2.0 * min(n_queries, _SOME_QUERIES)) * n_rows * (n_features + 60.0)
    pairs = n_queries * n_rows * (n_features + 150.0)
    spectra = 2 * (n_rows * n_features * rank + 6.0 * rank**3)
    return (search + pairs + spectra) / RATE


def plan_sample(n_samples: int, n_features: int, seconds: int | float) -> Sample:
    """Return how many rows and query points fit into ``seconds``: first fewer points to measure at, then fewer rows."""
    cost = lambda rows, queries: expected_seconds(rows, queries, n_features)  # noqa: E731
    return Sample(*fewer_rows(cost, seconds, n_samples, n_samples, _SOME_QUERIES))


def fewer_rows(
    cost: Callable[[int, int], float], most: int | float, rows: int, queries: int, least_queries: int
) -> tuple[int, int]:
    """Return rows and queries whose cost is at most ``most``: first fewer queries, then fewer rows, 1,000 at least."""
    while cost(rows, queries) > most and queries > least_queries:
        queries = max(least_queries, int(0.8 * queries))
    while cost(rows, min(rows, queries)) > most and rows > _LEAST_ROWS:
        rows = max(_LEAST_ROWS, int(0.8 * rows))
    return rows, min(rows, queries)


def measure_data(
    X: Float[np.ndarray, "n_samples n_features"],
    labels: np.ndarray | None,
    names: Sequence[str],
    *,
    seed: int,
    deadline: int | float,
    seconds: int | float,
    origins: Sequence[str] | None = None,
    kinds: Mapping[str, str] | None = None,
    images: bool = False,
) -> tuple[DataPart, list[str]]:
    """Measure the data's dimension and the sharpness of its labels, which are class names.

    ``origins`` and ``kinds`` are those of a :class:`~lodim.datasets.Dataset`: no table has more dimensions than
    columns, however many they were encoded into. Past ``deadline``, a value of ``time.monotonic()``, optional parts are
    left out. All rows equal is a ValueError.
    """
    spread, varying = column_spreads(X)
    if not varying.any():
        raise ValueError(f"all {len(X):,} rows of X are equal: there is nothing to measure")
    ends, twins = spread[varying], first_occurrences(X)
    codes = None if labels is None else np.unique(labels, return_inverse=True)[1]
    n_conflicts = None if codes is None else count_conflicts(twins, codes)
    part = DataPart(
        dimension=None,
        interval=None,
        estimators={},
        n_conflicts=n_conflicts,
        best_score=_best_score(twins, codes) if n_conflicts and codes is not None else None,
        n_duplicates=int((twins != np.arange(len(X))).sum()),
        constant_columns=tuple(str(names[j]) for j in np.flatnonzero(~varying).tolist()),
        scale_ratio=finite(ends.max() / ends.min()) if len(ends) > 1 else None,
        widest_column=str(names[int(np.argmax(spread))]),
        level=LEVEL,
    )
    columns = table_columns(X, varying, origins, kinds)
    return _Measured(X, labels, part, columns, varying, images, seed, deadline, seconds).answer()


@dataclass(frozen=True)
class _Measured:
    """What the measuring of one data set needs; ``part`` holds what was counted before."""

    X: np.ndarray
    labels: np.ndarray | None
    part: DataPart
    columns: TableColumns
    varying: np.ndarray
    images: bool
    seed: int
    deadline: int | float
    seconds: int | float

    def answer(self) -> tuple[DataPart, list[str]]:
        n_distinct = len(self.X) - self.part.n_duplicates
        in_steps = self.columns.category.all() or self._alike() < ALONE
        if n_distinct < FEWEST_ROWS or (in_steps and not self.images):
            return self._without_dimension(covariance_spectrum(self.X)), []
        return self._with_dimension()

    def _alike(self) -> float:
        return math.inf if self.images else alike_rows(self.X, self.columns, self.varying)

    def _with_dimension(self) -> tuple[DataPart, list[str]]:
        rows, n_queries, notes = self._sample()
        found: Any = intrinsic_dimensions(
            self.X[rows],
            y=None if self.labels is None else self.labels[rows],
            n_queries=n_queries,
            ci=LEVEL,
            random_state=derive_seed(self.seed, "dimension"),
            deadline=self.deadline,
        )
        nearest = min((s.radius for s in found.scales if s.kind == "gride"), default=math.inf)
        noise = 0.0 if self.images else rounding_noise(self.X, of_numbers(self.columns, self.varying))
        low = finite(found.interval[0]) or 0.0
        mixed = self._alike() < CROSSING  # neighbours are of other categories, as on no simulated shape
        beyond = mixed and low > self.columns.n_varying  # categories far apart, not a dimension
        if not self.images and (found.tied or beyond or noise > WIDE * nearest):
            return self._without_dimension(found.spectrum), notes
        notes += [sentence for text in found.warnings if (sentence := _note(text))]
        k_f, pair, holds = _sharpness(self.X, self.labels, self.seed)
        part = replace(
            self.part,
            **_of_spectrum(found.spectrum),
            **_bounded(found, self.columns.n_varying),
            estimators={key: _estimate(e, self.columns.n_varying) for key, e in found.estimates.items()},
            per_class=_classes(
                found.per_class, None if self.labels is None else self.labels[rows], self.columns.n_varying
            ),
            k_f=k_f,
            k_f_pair=pair,
            k_f_pair_holds=holds,
            scale_profile=tuple(
                DimensionAtScale(
                    s.kind, 2 * s.n1, float(s.radius), int(s.n_used), finite(s.dimension), finite(s.se)
                )
                for s in found.scales
            ),
            pointwise=_histogram(found.pointwise),
            n_used=int(found.n_queries),
            unfamiliar=found.unfamiliar or mixed,
            scale_dependent=found.scale_dependent,
            tied=found.tied,
        )
        if mixed:
            notes.append(
                "Categories stand as 0/1 columns beside numbers: the dimension hangs on how far apart that puts rows."
            )
            return part, notes
        if self.columns.n_varying < len(self.columns.origins):  # corners of categories, which are no bend
            return part, notes
        return replace(part, independent=self._independent(part)), notes

    def _sample(self) -> tuple[Any, int | None, list[str]]:
        """Rows to measure on, points among them to measure at (None for all), and what is said of both."""
        n, notes = len(self.X), []
        sample = plan_sample(n, self.X.shape[1], self.seconds)
        rows: Any = slice(None)
        if sample.n_rows < n:
            rng = np.random.default_rng(derive_seed(self.seed, "rows"))
            rows = np.sort(rng.choice(n, sample.n_rows, replace=False))
            notes.append(f"The dimension was measured on {sample.n_rows:,} of {n:,} rows, drawn at random.")
        if sample.n_queries == sample.n_rows:
            return rows, None, notes
        notes.append(f"Neighbourhoods were measured around {sample.n_queries:,} of them, drawn at random.")
        return rows, sample.n_queries, notes

    def _without_dimension(self, spectrum: np.ndarray) -> DataPart:
        """What is true of values in steps: how many rows differ, and what bounds any dimension."""
        of_spectrum = _of_spectrum(spectrum)
        rank = rank_of(self.X)
        n_distinct, columns = len(self.X) - self.part.n_duplicates, self.columns
        components = None
        if columns.category.all():
            components = components_for(correspondence_inertia(self.X, columns, self.varying), 0.95)
        most = min(columns.n_varying, rank, n_distinct - 1)
        few = n_distinct < FEWEST_ROWS
        steps = Steps(n_distinct, columns.n_varying, columns.n_categories, most, rank, few, components)
        return replace(self.part, **of_spectrum, interval=(None, float(most)), tied=True, steps=steps)

    def _independent(self, part: DataPart) -> MeasuredDimension | None:
        """The dimension that the data would have if its principal components were independent of one another.

        Their scores are permuted, each by itself: variances and the shape of every component stay, and what bends them
        into one another goes. Measured where there are more components than dimensions, on 2,000 rows at most.
        """
        high = (part.interval or (None, None))[1]
        if high is None or part.pca95 is None or part.pca95 <= high or time.monotonic() > self.deadline:
            return None
        rng = np.random.default_rng(derive_seed(self.seed, "independent"))
        rows = rng.permutation(len(self.X))[
            : min(_SURROGATE_ROWS, max(300, _SURROGATE_VALUES // self.X.shape[1]))
        ]
        centred = self.X[rows].astype(np.float64)
        centred -= centred.mean(0)
        left, size, _ = np.linalg.svd(centred, full_matrices=False)
        scores = rng.permuted(left * size, axis=0)

        def measured(Z: np.ndarray) -> Any:
            seed = derive_seed(self.seed, "independent dimension")
            return intrinsic_dimensions(Z, CONSENSUS, ci=LEVEL, scales=False, random_state=seed)

        apart = measured(scores)
        as_is = high if len(rows) == len(self.X) else measured(self.X[rows]).interval[1]
        if not apart.interval[0] > as_is:
            return None
        return MeasuredDimension(finite(apart.dimension), finite_interval(apart.interval), n=len(rows))


def _best_score(twins: np.ndarray, codes: np.ndarray) -> float:
    """Share of the rows that a function of the columns can get right: the commonest label of every row's equals."""
    pairs, counts = np.unique(np.stack([twins, codes], 1), axis=0, return_counts=True)
    best = np.zeros(len(twins), dtype=np.int64)
    np.maximum.at(best, pairs[:, 0], counts)
    return float(best.sum() / len(twins))


def _of_spectrum(spectrum: np.ndarray) -> dict[str, Any]:
    return {
        "spectrum": _shares(spectrum),
        "pca95": int(components_for(spectrum, 0.95)) or None,
        "participation_ratio": finite(linear_dimension(spectrum, "participation")),
    }


def _bounded(found: Any, n_columns: int) -> dict[str, Any]:
    """The dimension and its interval, at most the columns that the user's table has."""
    value, by = finite(found.dimension), found.bounded_by
    if value is not None and value >= n_columns:
        value, by = float(n_columns), "columns"
    return {"dimension": value, "interval": _at_most(n_columns, found.interval), "bounded_by": by}


def _at_most(n_columns: int, ends: Any) -> tuple[float | None, float | None] | None:
    if ends is None:
        return None
    low, high = (finite(min(end, n_columns)) for end in ends)
    return low, high


def finite(x: Any) -> float | None:
    """Return a finite number as a float, anything else as None."""
    return float(x) if x is not None and math.isfinite(x) else None


def finite_interval(ends: Any) -> tuple[float | None, float | None] | None:
    """Return an interval with its infinite ends as None."""
    return None if ends is None else (finite(ends[0]), finite(ends[1]))


def _estimate(e: Any, n_columns: int) -> MeasuredDimension:
    corrected = finite(e.calibrated)
    if corrected is None:
        return MeasuredDimension(
            finite(e.dimension), finite_interval(e.interval), None, None, str(e.note or "")
        )
    bounded = min(corrected, float(n_columns))
    return MeasuredDimension(
        finite(e.dimension), _at_most(n_columns, e.interval), bounded, None, str(e.note or "")
    )


def _classes(
    found: dict[str, Any], labels: np.ndarray | None, n_columns: int
) -> dict[str, MeasuredDimension]:
    if labels is None:
        return {}
    sizes = dict(zip(*np.unique(labels, return_counts=True)))
    out = {}
    for name, e in found.items():
        value = finite(e.dimension)
        remark = str(e.note) if value is None else str(e.note).partition(", ")[2]  # flags, behind the rows
        bounded = None if value is None else min(value, float(n_columns))
        out[str(name)] = MeasuredDimension(
            bounded, _at_most(n_columns, e.interval), None, int(sizes[name]), remark
        )
    return out


def _sharpness(
    X: np.ndarray, labels: np.ndarray | None, seed: int
) -> tuple[float | None, tuple[str, ...] | None, bool]:
    """K_F on 1,000 points balanced over classes (as in the paper, for comparison), and the classes of its pair.

    Whether they are the closest in each of four parts of the rows too, with as many rows of every class (of more rows
    the nearest two lie closer): were all classes equally close, the pair would change from part to part.
    """
    if labels is None or len(np.unique(labels)) > _SHARPNESS_POINTS // 2:
        return None, None, False
    codes, counts = np.unique(labels, return_inverse=True, return_counts=True)[1:]
    k_f, pair = _closest(X, labels, derive_seed(seed, "sharpness"))
    if pair is None:
        return None, None, False
    rng = np.random.default_rng(derive_seed(seed, "sharpness parts"))
    shuffled = rng.permutation(len(X))
    share = int(counts.min()) // _SHARPNESS_PARTS
    of_class = [shuffled[codes[shuffled] == c][: share * _SHARPNESS_PARTS] for c in range(len(counts))]
    parts = [
        np.concatenate([rows[i::_SHARPNESS_PARTS] for rows in of_class]) for i in range(_SHARPNESS_PARTS)
    ]
    holds = (
        len(counts) > 2
        and share > 0
        and all(
            _closest(X[rows], labels[rows], derive_seed(seed, "sharpness", i))[1] == pair
            for i, rows in enumerate(parts)
        )
    )
    return k_f, pair, holds


def _closest(X: np.ndarray, labels: np.ndarray, seed: int) -> tuple[float | None, tuple[str, ...] | None]:
    with warnings.catch_warnings():
        # label conflicts are counted and reported by the profile itself
        warnings.simplefilter("ignore", UserWarning)
        measure = LabelSharpness(_SHARPNESS_POINTS, random_state=seed)
        try:
            measure.fit(X, labels)
        except ValueError:  # every pair of points of different classes coincides: K_F is not defined
            return None, None
    return finite(measure.k_f_), tuple(sorted(str(labels[i]) for i in measure.pair_))


def _histogram(local: np.ndarray) -> Pointwise | None:
    values = local[np.isfinite(local)]
    if len(values) < 20:
        return None
    high = float(np.quantile(values, 0.995))
    edges = np.linspace(0.0, max(high, 1e-9), _BINS + 1)
    first = max(0, int(np.searchsorted(edges, values.min(), "right")) - 1)
    counts, edges = np.histogram(np.minimum(values, high), bins=edges[first:])
    quantiles = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
    return Pointwise(
        tuple(map(float, edges)), tuple(map(int, counts)), tuple(map(float, quantiles)), len(values)
    )


def _shares(spectrum: np.ndarray, most: int = 400) -> tuple[float, ...]:
    """Cumulative shares of the variance up to 99.9 per cent, at most ``most`` of them."""
    total = float(spectrum.sum())
    if total <= 0:
        return ()
    shares = np.cumsum(spectrum) / total
    last = min(int(np.searchsorted(shares, 0.999)) + 1, most, len(shares))
    return tuple(float(min(s, 1.0)) for s in shares[:last])


def _note(text: str) -> str:
    """A warning of the estimators as a note; what the advice says better is left to it."""
    said = (
        "points are few for",
        "the estimators disagree",
        "rows repeat another row",
        "rows are equal",
        "many distances tie",
        "unlike the shapes",
        "size of the neighbourhoods",
    )
    if any(words in text for words in said):
        return ""
    return text[:1].upper() + text[1:].rstrip(".") + "."
