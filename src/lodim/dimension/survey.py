"""A data set's dimension by several estimators on one neighbour graph: ``intrinsic_dimensions(X)``.

The neighbour search is the whole cost; the estimators share it. The consensus is the calibrated dimension
(:mod:`lodim.dimension.calibrated`): a map from the distances to the 64 nearest neighbours (20 or 5 where points are
few) to the dimension, learnt on simulated shapes, with an interval that covers on families it was not taught. What each
estimator of neighbour distances says by itself is read in the same way; its answer as its paper defines it stands
beside that.

The linear estimators (lpca, the spectrum) and the pair counts (corrint, fishers) are shown as they are: the first count
the directions a curved set bends into, the second saturate near ``2 log10(n)`` (Eckmann and Ruelle).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lodim.dimension.answers import (
    Answer,
    answer,
    local_of_consensus,
    percentile_interval,
    smooth,
)
from lodim.dimension.bounds import bound_of, in_blocks
from lodim.dimension.calibrated import Calibrated, calibrated_dimension, calibrated_estimate, within
from lodim.dimension.doubts import doubts_of_consensus
from lodim.dimension.methods import CONSENSUS, METHODS, default_k, fewest_points, points_needed
from lodim.dimension.scales import decimation_points, gride_points
from lodim.dimension.spectrum import components_for, covariance_spectrum, linear_dimension
from lodim.dimension.summary import DimensionSummary, Estimate, ScalePoint
from lodim.dimension.units import in_safe_unit, read_points
from lodim.neighbors import NeighborGraph, constant_columns, n_distinct
from lodim.randomness import RandomState, derive_seed, root_seed
from lodim.validation import check_choice, check_in_range, check_labels, checked, warn

DEFAULT_METHODS = ("twonn", "gride", "mle", "mada", "mom", "tle", "lpca", "fishers", "corrint")
_ALL_QUERIES, _SOME_QUERIES = 20_000, 4096
_PAIR_POINTS = 10_000
_LEAST_CLASS = 30
_SMOOTHING = 20
_LEVEL = 0.95
_FLAGS = {"unfamiliar": "unfamiliar", "scale_dependent": "changes with scale", "tied": "distances tie"}


@dataclass(frozen=True)
class _Run:
    """What every part of one survey needs; lengths of X and the graph are in ``unit``."""

    X: np.ndarray
    unit: float
    graph: NeighborGraph
    ci: float | None
    backend: str
    seed: int
    deadline: int | float | None
    warnings: list[str]

    def late(self, part: str) -> bool:
        """Whether the time is up; says so once for every part left out."""
        if self.deadline is None or time.monotonic() < self.deadline:
            return False
        self.warnings.append(f"no time left for {part}")
        return True


@checked
def intrinsic_dimensions(
    X: Any,
    methods: Sequence[str] | str = DEFAULT_METHODS,
    *,
    y: Any = None,
    n_queries: int | None = None,
    ci: float | None = 0.95,
    scales: bool = True,
    backend: str = "auto",
    random_state: RandomState = 0,
    deadline: int | float | None = None,
) -> DimensionSummary:
    """Estimate a data set's dimension by several methods on one neighbour graph.

    Parameters
    ----------
    X : array-like or Tensor, shape (n_samples, n_features)
        Finite numbers, at least 7 distinct rows (fewer is an error, all equal gives dimension 0); ``geomle`` needs
        22, ``knn`` 14, ``ph`` 12, ``abide`` 8. A repeated row counts once, in the linear spectrum too.
    methods : sequence of str, or "all"
        Names as in :class:`~lodim.geometry.IntrinsicDimension` (not ``"consensus"``, which is always there and does not
        depend on them); at least one of twonn, gride, mle, mada, mom, for local dimensions. ``"all"``: every one that
        fits (``"abide"`` only where every point is measured, others only where there are enough points; ``warnings``
        names those).
    y : array-like, shape (n_samples,), optional
        Labels: adds the consensus within each class of at least 30 distinct points.
    n_queries : int, optional
        Random points to measure at; default: all up to 20,000 points, beyond that 4,096. All points stay neighbours.
        ``lpca``, ``knn`` and ``ph`` look at all points at once; the notes of their estimates say so.
    ci : float or None
        Level of the intervals; with None the consensus alone has one, of 95 %.
    scales : bool
        Whether to decimate the data too for the dimension across scales.
    backend : str
        See :meth:`lodim.neighbors.NeighborGraph.from_data`.
    deadline : float, optional
        Value of ``time.monotonic()`` after which no further optional part is begun (the graph, the consensus with its
        interval and the spectrum always are); what was left out stands in ``warnings``.

    Raises
    ------
    ValueError
        Bad input, an unknown method, no method that votes, or too few distinct rows.

    Examples
    --------
    >>> import numpy as np
    >>> from lodim.geometry import intrinsic_dimensions
    >>> rng = np.random.default_rng(0)
    >>> plane = rng.uniform(size=(600, 2)) @ rng.normal(size=(2, 30))
    >>> round(intrinsic_dimensions(plane, random_state=0).dimension)
    2
    """
    everything = isinstance(methods, str) and methods == "all"
    methods = _check_methods(METHODS[:-1] if everything else methods)
    if ci is not None:
        check_in_range(ci, "ci", low=1e-6, high=1 - 1e-6)
    seed = root_seed(random_state)
    data = read_points(X)
    labels = None if y is None else check_labels(y, len(data))
    n = n_distinct(data)
    if n == 1:
        return _constant(data)
    warnings: list[str] = []
    if everything:
        methods = _fitting(methods, n, warnings)
    if n < (least := max(map(fewest_points, methods))):
        raise ValueError(
            f"X has {n} distinct rows of {len(data)}; the methods asked for need at least {least}"
        )
    k = max(default_k(m, n) for m in (*methods, "consensus"))
    if n_queries is not None:
        check_in_range(n_queries, "n_queries", low=1, integer=True)
    if n_queries is None and n > _ALL_QUERIES:
        n_queries = _SOME_QUERIES
    if everything and n_queries is not None and n_queries < n:
        methods = tuple(m for m in methods if m != "abide")
    source, data, unit = in_safe_unit(X, data)
    graph = NeighborGraph.from_data(source, k, backend, n_queries, random_state=derive_seed(seed, "queries"))
    run = _Run(data, unit, graph, ci, backend, seed, deadline, warnings)
    return _summarise(run, methods, labels, scales)


def _fitting(methods: tuple[str, ...], n: int, warnings: list[str]) -> tuple[str, ...]:
    """Those that ``n`` points are enough for; says which are not, unless the consensus is among them."""
    if n < fewest_points("consensus"):
        return tuple(m for m in methods if m in CONSENSUS)
    few = [m for m in methods if n < fewest_points(m)]
    if few:
        warnings.append(f"{n} distinct points are too few for {', '.join(few)}")
    return tuple(m for m in methods if m not in few)


def _check_methods(methods: Sequence[str] | str) -> tuple[str, ...]:
    methods = (methods,) if isinstance(methods, str) else tuple(dict.fromkeys(methods))
    known = tuple(m for m in METHODS if m != "consensus")
    for method in methods:
        check_choice(method, known, "methods")
    if not set(methods) & set(CONSENSUS):
        raise ValueError(
            f"methods must hold at least one of {', '.join(CONSENSUS)}; got {', '.join(methods)}"
        )
    return methods


def _summarise(
    run: _Run, methods: tuple[str, ...], labels: np.ndarray | None, scales: bool
) -> DimensionSummary:
    found = calibrated_dimension(run.graph, in_blocks(run.X), run.ci or _LEVEL)
    answers = {m: answer(m, run.graph, run.X) for m in methods if m in CONSENSUS}
    answers |= _other_answers(run, [m for m in methods if m not in answers])
    estimates = _estimates(run, {m: answers[m] for m in methods if m in answers})
    pointwise = _pointwise(run.graph, answers, found.dimension)
    points: tuple[ScalePoint, ...] = gride_points(run.graph)
    if scales and not run.late("decimation"):
        seed = derive_seed(run.seed, "decimation")
        points += decimation_points(
            run.X, run.graph, backend=run.backend, max_queries=_SOME_QUERIES, random_state=seed
        )
    per_class = {} if labels is None else _per_class(run, labels)
    repeated = run.graph.n_dropped_duplicates > 0
    spectrum = covariance_spectrum(run.X[run.graph.distinct] if repeated else run.X)
    _judge(run, found, answers)
    return DimensionSummary(
        **vars(found),
        estimates=estimates,
        per_class=per_class,
        pointwise=pointwise,
        query_idx=run.graph.query_idx,
        scales=tuple(replace(p, radius=p.radius * run.unit) for p in points),
        spectrum=_in_own_unit(spectrum, run.unit),
        participation_ratio=linear_dimension(spectrum, "participation"),
        n_components={share: components_for(spectrum, share / 100) for share in (90, 95, 99)},
        n_samples=len(run.X),
        n_features=run.X.shape[1],
        n_queries=run.graph.n_queries,
        n_duplicates=run.graph.n_dropped_duplicates,
        constant_columns=constant_columns(run.X),
        warnings=tuple(run.warnings),
    )


def _in_own_unit(spectrum: np.ndarray, unit: float) -> np.ndarray:
    """Variances in the data's own unit; of extreme units zero or infinite, beyond the range of numbers."""
    with np.errstate(over="ignore", under="ignore"):
        return spectrum * unit * unit


def _other_answers(run: _Run, methods: list[str]) -> dict[str, Answer]:
    """Methods that do not vote; those that count pairs look at 10,000 points at most."""
    found: dict[str, Answer] = {}
    for method in methods:
        if run.late(f"the estimator {method!r}"):
            continue
        X, note = run.X, ""
        if method == "fishers" and run.graph.n_ref > _PAIR_POINTS:
            rng = np.random.default_rng(derive_seed(run.seed, "pairs"))
            X = X[np.sort(rng.choice(run.graph.distinct, _PAIR_POINTS, replace=False))]
            note = f"on {_PAIR_POINTS} random points"
        result = answer(method, run.graph, X, seed=derive_seed(run.seed, "subsamples"))
        notes = "; ".join(text for text in (result.note, note) if text)
        found[method] = Answer(**{**vars(result), "note": notes})
    return found


def _estimates(run: _Run, answers: dict[str, Answer]) -> dict[str, Estimate]:
    """The estimators' rows; one bound, looked for as far as the widest of their intervals reaches, serves all."""
    graph, level = run.graph, run.ci or _LEVEL
    alone = {
        m: calibrated_estimate(m, a.dimension, graph.n_ref, graph.n_queries, level)
        for m, a in answers.items()
    }
    known = {m: found for m, found in alone.items() if found is not None}
    if known:
        most = bound_of(graph, in_blocks(run.X), max(high for _, (_, high) in known.values())).most
        known = {m: within(*found, most) for m, found in known.items()}
    return {m: _estimate(run, m, a, known.get(m)) for m, a in answers.items()}


def _estimate(
    run: _Run, method: str, result: Answer, alone: tuple[float, tuple[float, float]] | None
) -> Estimate:
    interval, se, note = None, result.se, result.note
    calibrated = None
    if alone is not None:
        calibrated, own = alone
        interval = own if run.ci is not None else None
    if run.ci is not None and result.resampled is not None and not run.late(f"the resamples of {method!r}"):
        seed = derive_seed(run.seed, "bootstrap", method)
        draws, resampled = percentile_interval(result.resampled, run.graph.n_queries, run.ci, seed)
        if resampled is not None:
            se = float(draws.std(ddof=1)) if se is None else se
        interval = resampled if alone is None else interval
    if not math.isfinite(result.dimension):
        note = "; ".join(text for text in (note, "no finite dimension: distances tie") if text)
    return Estimate(result.dimension, interval, se, note, calibrated)


def _pointwise(graph: NeighborGraph, answers: dict[str, Answer], value: float) -> np.ndarray:
    """Local dimensions, smoothed over neighbours and scaled so that they agree with the consensus as a whole."""
    chosen = answers.get("mle") or next(a for m in CONSENSUS if (a := answers.get(m)) is not None)
    local = smooth(graph, chosen.pointwise, min(_SMOOTHING, graph.k))  # type: ignore[arg-type]
    return local_of_consensus(replace(chosen, pointwise=local), value)


def _per_class(run: _Run, labels: np.ndarray) -> dict[str, Estimate]:
    found: dict[str, Estimate] = {}
    for label in np.unique(labels):
        if run.late("the remaining classes"):
            break
        rows = np.flatnonzero(labels == label)
        part = run.X[rows]
        n = n_distinct(part)
        if n < _LEAST_CLASS:
            found[str(label)] = Estimate(
                math.nan, note=f"only {n} distinct points, {_LEAST_CLASS} are needed"
            )
            continue
        k = default_k("consensus", n)
        seed = derive_seed(run.seed, "class", str(label))
        graph = NeighborGraph.from_data(part, k, run.backend, _SOME_QUERIES, random_state=seed)
        of_class = calibrated_dimension(graph, in_blocks(part), run.ci or _LEVEL)
        doubts = (f"n={len(rows)}", *(text for name, text in _FLAGS.items() if getattr(of_class, name)))
        found[str(label)] = Estimate(
            of_class.dimension, of_class.interval, note=", ".join(doubts), calibrated=of_class.dimension
        )
    return found


def _judge(run: _Run, found: Calibrated, answers: dict[str, Answer]) -> None:
    """Add what the reader should know before relying on the consensus."""
    n, value = run.graph.n_ref, found.dimension
    run.warnings.extend(doubts_of_consensus(found))
    if n < points_needed(value):
        limit = 2 * math.log10(n)
        run.warnings.append(
            f"{n} points are few for dimension {value:.1f}: pair counts cannot show more than {limit:.1f} "
            "(2 log10 n), and neighbour estimates lean on the calibration"
        )
    repeated = run.graph.n_dropped_duplicates / len(run.X)
    if repeated > 0.05:
        run.warnings.append(f"{repeated:.0%} of the rows repeat another row; they were dropped")
    if not run.graph.exact:
        run.warnings.append(f"approximate neighbours, recall {run.graph.recall:.3f}")
    if (fishers := answers.get("fishers")) is not None and fishers.saturated:
        run.warnings.append("FisherS found all pairs separable: its value is a lower bound")


def _constant(X: np.ndarray) -> DimensionSummary:
    """One point, however often it is repeated."""
    text = "all rows are equal: the dimension of one point is 0"
    warn(text, stacklevel=4)
    return DimensionSummary(
        dimension=0.0,
        interval=(0.0, 0.0),
        estimates={},
        per_class={},
        pointwise=np.zeros(1),
        query_idx=np.zeros(1, dtype=np.int64),
        scales=(),
        spectrum=np.zeros(min(X.shape)),
        participation_ratio=0.0,
        n_components={90: 0, 95: 0, 99: 0},
        n_samples=len(X),
        n_features=X.shape[1],
        n_queries=1,
        n_duplicates=len(X) - 1,
        constant_columns=tuple(range(X.shape[1])),
        warnings=(text,),
    )
