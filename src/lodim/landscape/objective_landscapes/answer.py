"""From the runs of a sweep to its result: the crossing with its interval, what went wrong, and the model to keep."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

from lodim.landscape.crossing import Crossing, find_crossing
from lodim.landscape.objective_landscapes.result import LandscapeResult, RunRecord
from lodim.landscape.objective_landscapes.sweep import Sweep
from lodim.landscape.objective_landscapes.trials import Trained
from lodim.randomness import derive_seed

__all__ = ["choose_direct", "choose_run", "summarise"]

_STATUS = {"found": "found", "not_reached": "not_reached", "below_min": "below_d_min"}


def summarise(sweep: Sweep) -> LandscapeResult:
    """Return what is known so far of a sweep, finished or under way."""
    s, notes = sweep.settings, list(sweep.notes)
    curve = tuple(t.record for t in sweep.runs)
    kept = [r for r in curve if r.multiplier == sweep.multiplier]
    errors = [t.error for t in (*sweep.direct, *sweep.runs) if t.error]
    if errors:
        notes.append(f"{len(errors)} runs failed, the first with: {errors[0].strip().splitlines()[-1]}")
    status, how, bound, d_int100 = "not_measured", "", math.nan, math.nan
    value, interval = math.nan, (0.0, math.inf)
    if any(math.isfinite(r.score) for r in kept):
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            crossing = _crossing(sweep, kept, sweep.threshold_score)
            d_int100 = _whole(_crossing(sweep, kept, sweep.baseline_score).value)
        notes += [str(w.message) for w in heard]
        status, how, bound = _STATUS[crossing.status], crossing.ci_method, crossing.bound
        value, interval = _whole(crossing.value), (_whole(crossing.interval[0]), _whole(crossing.interval[1]))
    return LandscapeResult(
        n_parameters=sweep.trainer.D,
        status=status,
        d_int90=value,
        interval=interval,
        bound=bound,
        d_int100=d_int100,
        baseline_score=sweep.baseline_score,
        baseline_scores=tuple(sweep.baseline_scores),
        threshold_score=sweep.threshold_score,
        threshold=s.threshold,
        score_name=s.score_name,
        greater_is_better=s.greater_is_better,
        estimator=s.search.estimator,
        ci_method=how,
        ci=s.search.ci,
        compression_ratio=sweep.trainer.D / {"found": value, "below_d_min": bound}.get(status, math.nan),
        curve=curve,
        lr_multiplier=sweep.multiplier,
        lr_direct=s.lr * sweep.direct_multiplier if s.baseline == "own" else math.nan,
        projection=s.projection,
        scale=s.scale,
        seconds=sweep.seconds,
        seed=s.seed,
        notes=tuple(dict.fromkeys(notes)),
    )


def choose_run(sweep: Sweep, d: int | None, d_int: float) -> Trained:
    """Return the best run at d, or at the least d that reaches the threshold (not below ``d_int`` if one is known)."""
    runs = [t for t in sweep.runs if math.isfinite(t.record.score)]
    if d is not None:
        at = [t for t in runs if t.record.d == d]
        if not at:
            raise ValueError(
                f"no run was made at d={d}; those tried are {sorted({t.record.d for t in runs})}"
            )
        return max(at, key=lambda t: sweep.sign * t.record.score)
    passed = [t for t in runs if sweep.sign * t.record.score >= sweep.sign * sweep.threshold_score]
    if not passed:
        raise ValueError("no run reaches the threshold; give the d of the model you want")
    candidates = [t for t in passed if t.record.d >= d_int] or passed
    least = min(t.record.d for t in candidates)
    return max((t for t in candidates if t.record.d == least), key=lambda t: sweep.sign * t.record.score)


def choose_direct(sweep: Sweep) -> Trained:
    """Return the best run of direct training; ValueError without one, or where it was stored without its weights."""
    best = sweep.best_direct
    if best is None or not best.buffers:
        raise ValueError("no directly trained model was kept: the baseline was given, or none has ended")
    return best


def _crossing(sweep: Sweep, records: Sequence[RunRecord], threshold: float) -> Crossing:
    s = sweep.settings
    return find_crossing(
        [r.d for r in records],
        [r.score for r in records],
        threshold,
        estimator=s.search.estimator,
        greater_is_better=s.greater_is_better,
        threshold_se=sweep.threshold_se,
        ci=s.search.ci,
        n_bootstrap=s.search.n_bootstrap,
        random_state=derive_seed(s.seed, "bootstrap"),
    )


def _whole(value: float) -> float:
    """The least whole number of dimensions that is enough."""
    return float(math.ceil(value - 1e-9)) if math.isfinite(value) else value
