"""The calibrated dimension: what a neighbour graph shows, read by what graphs of simulated shapes showed.

Estimators of neighbour distances are biased by density, boundary, curvature and the number of points, and correcting
them on one shape moves the bias to the others. Here the map from features of the graph
(:mod:`lodim.dimension.features`) to the dimension is learnt on many families of shapes of known dimension
(:mod:`lodim.dimension.world`), and so is the error that remains, from predictions for families that were left out:

1. An ensemble of small networks gives quantiles of ``log d - base``; their mean at one half is the answer.
2. A second network reads the width of those quantiles, the networks' disagreement, the distance to the simulated
   world and the gaps between estimators, and answers how far the truth lies off, learnt on left-out families.
3. One factor a level makes the interval cover that share of left-out families' sets, and at most one in twenty
   families misses twice as often as it says.

A level is nominal: it holds for shapes like those simulated. Further from the world (the distance to the fifth nearest
simulated set) than 95 % of left-out sets the answer is ``unfamiliar`` and the interval wider; beyond 50,000 points the
corrections are those of 50,000. The arrays beside this module come from :mod:`lodim.dimension.make_calibration`;
there is one set for each number of neighbours looked at (64, 20, 5), and one small network for every estimator alone,
which sees its answer and the number of points.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

from lodim.dimension.bounds import bound_of
from lodim.dimension.features import ORDERS, Features, features, order_for, scale_gap
from lodim.dimension.world import FAMILIES
from lodim.neighbors import NeighborGraph

ARRAYS = Path(__file__).resolve().parent / "calibrated_dimension.npz"
LEVELS = (0.005, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.995)  # of the quantiles learnt
FEWEST_QUERIES = 7
MOST_TIES = 0.1  # share of points as far from their second neighbour as from the first
ROW_SIZES = (8, 50_000)
CHANGE = 0.2  # in log-dimension between neighbourhoods, beyond that of simulated shapes, that is worth saying
REPORT = (
    "sets",
    "median error",
    "mean error",
    "coverage",
    "flagged",
    "coverage unflagged",
    "width unflagged",
)
_MIDDLE = LEVELS.index(0.5)
Layers = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Calibrated:
    """A dimension with its interval at ``level`` and what limits the trust in them.

    Attributes
    ----------
    level : float
        Nominal share of shapes like those simulated whose dimension the interval holds.
    unfamiliar : bool
        The data are unlike the shapes that the interval was calibrated on.
    scale_dependent : bool
        The dimension changes between neighbourhoods by more than its interval, and by a fifth at least: noise, or
        curvature between neighbours.
    bounded_by : {None, "columns", "rank", "rows"}
        The answer stands at that bound, where the interval ends too.
    tied : bool
        More than a tenth of the points are as far from their second neighbour as from the first (a lattice, rounded or
        categorical data): the interval says nothing.
    """

    dimension: float
    interval: tuple[float, float]
    level: float
    unfamiliar: bool = False
    scale_dependent: bool = False
    bounded_by: str | None = None
    tied: bool = False


@dataclass(frozen=True)
class _Machine:
    """Arrays for one number of neighbours."""

    centre: np.ndarray
    scale: np.ndarray
    networks: Layers  # of arrays whose first axis is the member
    gap: Layers  # the scale gap to expect
    residual: Layers
    residual_centre: np.ndarray
    residual_scale: np.ndarray
    widen: np.ndarray  # a factor for each of LEVELS
    axes: np.ndarray
    world: np.ndarray
    far: np.ndarray  # log of the distance, as a parabola in log queries


def _layers(arrays: dict[str, np.ndarray], prefix: str) -> Layers:
    found: Layers = []
    while f"{prefix}_weights{len(found)}" in arrays:
        i = len(found)
        found.append((arrays[f"{prefix}_weights{i}"], arrays[f"{prefix}_bias{i}"]))
    return found


@lru_cache(maxsize=1)
def _arrays() -> dict[str, np.ndarray]:
    with np.load(ARRAYS) as kept:
        return {name: kept[name].astype(np.float64) for name in kept.files if kept[name].dtype.kind == "f"}


@lru_cache(maxsize=4)
def _machine(order: int) -> _Machine:
    arrays = _arrays()
    one = {
        name: arrays[f"{order}_{name}"] for name in _Machine.__annotations__ if f"{order}_{name}" in arrays
    }
    layers = {name: _layers(arrays, f"{order}_{name}") for name in ("networks", "gap", "residual")}
    return _Machine(**one, **layers)  # type: ignore[arg-type]


def left_out_report(order: int = ORDERS[0]) -> dict[str, dict[str, float]]:
    """What was measured on each family while it was left out, at 95 %, when the arrays were made: see REPORT."""
    rows = _arrays()[f"{order}_report"].tolist()
    return {family: dict(zip(REPORT, row)) for family, row in zip(sorted(FAMILIES), rows)}


def squash(values: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Standardise, and keep within four spreads what lies far out."""
    return 4 * np.tanh((values - centre) / scale / 4)


def run_layers(layers: Layers, x: Float[np.ndarray, "*sets inputs"]) -> Float[np.ndarray, "*sets outputs"]:
    """Apply a network with ``x * sigmoid(x)`` between its layers, or every member of an ensemble of them."""
    for i, (weights, bias) in enumerate(layers):
        x = np.matmul(x[..., None, :], weights)[..., 0, :] + bias
        if i < len(layers) - 1:
            x = x / (1 + np.exp(-np.clip(x, -60, 60)))
    return x


@dataclass(frozen=True)
class _Reading:
    """Quantiles of log d at :data:`LEVELS`, the distance to the world, and how odd the change with scale is."""

    quantiles: np.ndarray
    near: float
    odd_gap: float


def _read(machine: _Machine, seen: Features) -> _Reading:
    z = squash(seen.values, machine.centre, machine.scale)
    members = np.sort(
        run_layers(machine.networks, np.broadcast_to(z, (len(machine.networks[0][0]), len(z)))), -1
    )
    first = members.mean(0)
    near = float(np.partition(np.square(machine.world - z @ machine.axes).sum(1), 4)[4] ** 0.5)
    odd_gap = float(scale_gap(seen.values, seen.order) - run_layers(machine.gap, z[:3])[0])
    inputs = residual_inputs(first, members[:, _MIDDLE], near, odd_gap, seen.values)
    u = squash(inputs, machine.residual_centre, machine.residual_scale)
    return _Reading(
        seen.base + spread_out(first, run_layers(machine.residual, u), machine.widen), near, odd_gap
    )


def residual_inputs(
    first: Float[np.ndarray, " levels"],
    medians: Float[np.ndarray, " members"],
    near: float,
    odd_gap: float,
    values: Float[np.ndarray, " n_features"],
) -> Float[np.ndarray, " inputs"]:
    """What the width of an interval is read from."""
    outer, inner = first[_MIDDLE + 4] - first[_MIDDLE - 4], first[_MIDDLE + 1] - first[_MIDDLE - 1]
    return np.array(
        [
            math.log(max(outer, 1e-6)),
            math.log(max(inner, 1e-6)),
            (first[_MIDDLE + 4] - first[_MIDDLE]) / max(outer, 1e-6),
            math.log(float(medians.std()) + 1e-4),
            math.log(near + 1e-3),
            first[_MIDDLE],
            abs(first[_MIDDLE]),
            odd_gap,
            abs(odd_gap),
            *values[:7],
        ]
    )


def spread_out(first: np.ndarray, logs: np.ndarray, widen: np.ndarray) -> np.ndarray:
    """Move the quantiles away from the median by the exponentials of ``logs`` (one for each other level)."""
    gaps = np.abs(first - first[_MIDDLE]) + 1e-3
    factors = np.exp(np.clip(np.insert(logs, _MIDDLE, 0.0), -3, 3)) * widen
    below = np.maximum.accumulate((gaps * factors)[_MIDDLE - 1 :: -1])[::-1]
    above = np.maximum.accumulate((gaps * factors)[_MIDDLE + 1 :])
    return first[_MIDDLE] + np.concatenate([-below, [0.0], above])


def at_level(quantiles: Float[np.ndarray, " levels"], level: float) -> tuple[float, float]:
    """Ends of the central interval of this level: linear in normal scores between the quantiles learnt, and beyond."""
    scores = np.array([NormalDist().inv_cdf(p) for p in LEVELS])
    ends = []
    for p in ((1 - level) / 2, (1 + level) / 2):
        score = NormalDist().inv_cdf(p)
        inside = float(np.interp(score, scores, quantiles))
        edge = 0 if score < scores[0] else -1
        if abs(score) > scores[-1]:
            inside += (quantiles[edge] - quantiles[_MIDDLE]) * (score / scores[edge] - 1)
        ends.append(inside)
    return ends[0], ends[1]


def ties(graph: NeighborGraph) -> float:
    """Share of points as far from their second neighbour as from the first."""
    if graph.k < 2:
        return 0.0
    return float(np.isclose(graph.dist[:, 0], graph.dist[:, 1], rtol=1e-9, atol=0).mean())


def _depends_on_scale(reading: _Reading) -> bool:
    """Whether the dimension between the farthest neighbours lies outside the interval of 95 %, and a fifth off."""
    low, high = at_level(reading.quantiles, 0.95)
    far = reading.quantiles[_MIDDLE] + reading.odd_gap
    return abs(reading.odd_gap) > CHANGE and not low <= far <= high


def within(
    value: float, interval: tuple[float, float], most: int | float
) -> tuple[float, tuple[float, float]]:
    """A dimension and its interval, at most ``most``: above it both end there, with the same arm below."""
    low, high = interval
    return min(value, float(most)), (low * min(1.0, most / value), min(high, float(most)))


def calibrated_dimension(
    graph: NeighborGraph, blocks: Iterable[np.ndarray] | None = None, level: float = 0.95
) -> Calibrated:
    """The calibrated dimension of the points of a graph, with its interval and flags.

    ``blocks`` of the rows, if given, bound it by their rank. At a bound the interval is one-sided: it ends there, and
    begins as far below as it would begin below the answer without a bound. Where distances tie so that no estimator is
    finite, only the bound is known. A graph of fewer than 5 neighbours or 7 queries is a ValueError.
    """
    order = order_for(graph.n_ref, graph.k)
    if not order or graph.n_queries < FEWEST_QUERIES:
        raise ValueError(
            f"the consensus needs {ORDERS[-1]} neighbours of {FEWEST_QUERIES} points or more, "
            f"the graph has {graph.k} of {graph.n_queries}"
        )
    seen = features(graph.dist, graph.n_ref, order)
    if seen is None:
        bound = bound_of(graph, blocks)
        return Calibrated(
            float(bound.most), (0.0, float(bound.most)), level, bounded_by=bound.name, tied=True
        )
    machine = _machine(order)
    reading = _read(machine, seen)
    value = math.exp(reading.quantiles[_MIDDLE])
    low, high = np.exp(at_level(reading.quantiles, level)).tolist()
    bound = bound_of(graph, blocks, high)
    return Calibrated(
        *within(value, (low, high), bound.most),
        level,
        unfamiliar=bool(math.log(reading.near) > np.polyval(machine.far, math.log(graph.n_queries))),
        scale_dependent=_depends_on_scale(reading),
        bounded_by=bound.name if value >= bound.most else None,
        tied=ties(graph) > MOST_TIES,
    )


def calibrated_estimate(
    method: str, raw: float, n: int, n_queries: int, level: float = 0.95
) -> tuple[float, tuple[float, float]] | None:
    """What one estimator's answer at its own k says by itself: the dimension and its interval on simulated shapes.

    None for estimators that were not simulated and answers that are not finite.
    """
    arrays = _arrays()
    if f"{method}_centre" not in arrays or not 0 < raw < math.inf:
        return None
    inputs = np.log([raw, np.clip(n, *ROW_SIZES), np.clip(n_queries, *ROW_SIZES)])
    z = squash(inputs, arrays[f"{method}_centre"], arrays[f"{method}_scale"])
    quantiles = np.sort(run_layers(_layers(arrays, method), z))
    quantiles = math.log(raw) + spread_out(quantiles, np.zeros(len(LEVELS) - 1), arrays[f"{method}_widen"])
    value = math.exp(quantiles[_MIDDLE])
    low, high = at_level(quantiles, level)
    return value, (math.exp(low), math.exp(high))
