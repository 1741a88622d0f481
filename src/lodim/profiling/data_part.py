"""The first half of a profile: how many dimensions the data has, and how sharp its labels are.

X is measured as it comes: distances are Euclidean in its own units. (Tables read by :mod:`lodim.datasets` arrive with
standardised columns and images in [0, 1]; an array is the caller's.) What is too large for the time allowed is
sampled: first the points whose neighbourhoods are measured, then the rows themselves, and the notes say so.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from lodim.geometry import LabelSharpness, intrinsic_dimensions
from lodim.geometry.dataset_properties.label_sharpness import count_conflicts
from lodim.neighbors import first_occurrences
from lodim.profiling.parts import DataPart, DimensionAtScale, MeasuredDimension, Pointwise
from lodim.randomness import derive_seed

RATE = (
    2e10  # multiply-adds a second that a laptop sustains in these searches; only steers how much is sampled
)
_LEAST_ROWS, _SOME_QUERIES = 1000, 4096
_SHARPNESS_POINTS = 1000
_BINS = 30


@dataclass(frozen=True)
class Sample:
    """How much of the data is measured: rows kept, and rows among them whose neighbourhoods are measured."""

    n_rows: int
    n_queries: int


def expected_seconds(n_rows: int, n_queries: int, n_features: int) -> float:
    """Return a rough cost of the data part: neighbour searches (whole, thinned out, by class) and spectrum."""
    rank = min(n_rows, n_features)
    search = (n_queries + 2.0 * min(n_queries, _SOME_QUERIES)) * n_rows * (n_features + 60.0)
    spectrum = n_rows * n_features * rank + 6.0 * rank**3
    return (search + spectrum) / RATE


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
) -> tuple[DataPart, list[str]]:
    """Measure the data's dimension and the sharpness of its labels, which are class names.

    Past ``deadline``, a value of ``time.monotonic()``, optional parts are left out. All rows equal is a ValueError.
    """
    sample = plan_sample(len(X), X.shape[1], seconds)
    notes: list[str] = []
    spread = X.std(0, dtype=np.float64)
    if not spread.any():
        raise ValueError(f"all {len(X):,} rows of X are equal: there is nothing to measure")
    twins = first_occurrences(X)
    rows: Any = slice(None)
    if sample.n_rows < len(X):
        rows = np.sort(
            np.random.default_rng(derive_seed(seed, "rows")).choice(len(X), sample.n_rows, replace=False)
        )
        notes.append(f"The dimension was measured on {sample.n_rows:,} of {len(X):,} rows, drawn at random.")
    if sample.n_queries < sample.n_rows:
        notes.append(f"Neighbourhoods were measured around {sample.n_queries:,} of them, drawn at random.")
    found = intrinsic_dimensions(
        X[rows],
        y=None if labels is None else labels[rows],
        n_queries=sample.n_queries if sample.n_queries < sample.n_rows else None,
        random_state=derive_seed(seed, "dimension"),
        deadline=deadline,
    )
    notes += [sentence for text in found.warnings if (sentence := _note(text))]
    k_f, pair = _sharpness(X, labels, seed)
    varying = spread > 1e-12 * max(1.0, float(np.abs(X).max()))
    ends = spread[varying]
    part = DataPart(
        dimension=finite(found.dimension),
        interval=finite_interval(found.interval),
        estimators={key: _estimate(e) for key, e in found.estimates.items()},
        per_class=_classes(found.per_class, None if labels is None else labels[rows]),
        k_f=k_f,
        k_f_pair=pair,
        n_conflicts=None
        if labels is None
        else count_conflicts(twins, np.unique(labels, return_inverse=True)[1]),
        scale_profile=tuple(
            DimensionAtScale(
                s.kind, 2 * s.n1, float(s.radius), int(s.n_used), finite(s.dimension), finite(s.se)
            )
            for s in found.scales
        ),
        pointwise=_histogram(found.pointwise),
        spectrum=_shares(found.spectrum),
        pca95=int(found.n_components[95]) or None,
        participation_ratio=finite(found.participation_ratio),
        n_duplicates=int((twins != np.arange(len(X))).sum()),
        constant_columns=tuple(str(names[j]) for j in np.flatnonzero(~varying).tolist()),
        scale_ratio=finite(ends.max() / ends.min()) if len(ends) > 1 else None,
        widest_column=str(names[int(np.argmax(spread))]),
        n_used=int(found.n_queries),
    )
    return part, notes


def finite(x: Any) -> float | None:
    """Return a finite number as a float, anything else as None."""
    return float(x) if x is not None and math.isfinite(x) else None


def finite_interval(ends: Any) -> tuple[float | None, float | None] | None:
    """Return an interval with its infinite ends as None."""
    return None if ends is None else (finite(ends[0]), finite(ends[1]))


def _estimate(e: Any, n: int | None = None) -> MeasuredDimension:
    return MeasuredDimension(
        finite(e.dimension), finite_interval(e.interval), finite(e.calibrated), n, str(e.note or "")
    )


def _classes(found: dict[str, Any], labels: np.ndarray | None) -> dict[str, MeasuredDimension]:
    if labels is None:
        return {}
    sizes = dict(zip(*np.unique(labels, return_counts=True)))
    out = {}
    for name, e in found.items():
        remark = "" if math.isfinite(e.dimension) else str(e.note)
        out[str(name)] = MeasuredDimension(
            finite(e.dimension), finite_interval(e.interval), None, int(sizes[name]), remark
        )
    return out


def _sharpness(
    X: np.ndarray, labels: np.ndarray | None, seed: int
) -> tuple[float | None, tuple[str, ...] | None]:
    """K_F on 1,000 points balanced over classes (as in the paper, for comparison), and the classes of its pair."""
    if labels is None or len(np.unique(labels)) > _SHARPNESS_POINTS // 2:
        return None, None
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # label conflicts are counted and reported by the profile itself
        measure = LabelSharpness(_SHARPNESS_POINTS, random_state=derive_seed(seed, "sharpness"))
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
    said = ("points are few for", "the estimators disagree", "rows repeat another row", "rows are equal")
    if any(words in text for words in said):
        return ""
    return text[:1].upper() + text[1:].rstrip(".") + "."
