"""One measurement under way: the baseline, the learning rate, the search, and the clock they share.

:class:`Sweep` keeps every finished run from the moment it ends, so that an interruption or a spent time budget leaves
an answer that says how far it got.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lodim.landscape.objective_landscapes.options import Floor, RunOptions, SearchOptions
from lodim.landscape.objective_landscapes.result import RunRecord
from lodim.landscape.objective_landscapes.size_search import (
    Cells,
    bracket_of,
    bracket_waves,
    choose_multiplier,
    grid_sizes,
    grid_waves,
    next_beyond,
)
from lodim.landscape.objective_landscapes.trials import Trained, Trainer, Trial
from lodim.randomness import derive_seed
from lodim.sketch import KINDS
from lodim.sketch.base import SCALES
from lodim.validation import check_choice, check_in_range

__all__ = ["Settings", "Sweep"]

_SMALL = 50_000  # up to this many weights, many runs at once cost about as much as a few
_LOOKAHEAD = 4
_EXTENSIONS = 3  # how often the grid of learning rates is extended beyond its ends


@dataclass(frozen=True)
class Settings:
    """What a sweep is asked for; see :class:`~lodim.landscape.LandscapeDimension`."""

    search: SearchOptions  # with the least and the largest d that are possible
    run: RunOptions
    threshold: float
    baseline: str | float | int
    score_floor: Floor
    greater_is_better: bool
    lr: float
    projection: str
    scale: str
    score_name: str
    seed: int
    trivial_score: float = math.nan  # of always answering the most frequent class

    def __post_init__(self) -> None:
        if check_in_range(self.threshold, "threshold", low=0.0, high=1.0) == 0:
            raise ValueError("threshold must be above 0")
        check_choice(self.projection, KINDS, "projection")
        check_choice(self.scale, SCALES, "scale")
        if not isinstance(self.baseline, str) or self.baseline != "own":
            check_in_range(self.baseline, "baseline")
        if self.search.d_max is None or self.search.d_min > self.search.d_max:
            raise ValueError(f"d_min={self.search.d_min} is more than d_max={self.search.d_max}")
        if not self.lr > 0:
            raise ValueError(f"lr must be positive, got {self.lr}")


class OutOfTimeError(Exception):
    """The time budget, or the number of runs, leaves no room for another one."""


class Sweep:
    """Runs a baseline and a search for the least d, and remembers everything.

    ``direct`` and ``runs`` are the runs of direct training and in subspaces, ``direct_multiplier`` and
    ``multiplier`` their learning rates' factors.
    """

    def __init__(self, settings: Settings, trainer: Trainer):
        self.settings, self.trainer = settings, trainer
        self.direct: list[Trained] = []
        self.runs: list[Trained] = []
        self.notes: list[str] = []
        self.grid = sorted(float(g) for g in settings.search.lr_grid)
        self.multiplier = self.direct_multiplier = self.grid[-1]  # rates too small are the common mistake
        self.tuned = len(self.grid) == 1
        self.started = time.monotonic()
        budget = settings.run.time_budget
        self.deadline = None if budget is None else self.started + budget
        self.floor = 0.0 if callable(settings.score_floor) else settings.score_floor
        self.cost = self.latency = 0.0  # seconds: of a run among others, and of one from start to end
        self.waves = 0
        self.finished: float | None = None

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return (self.finished or time.monotonic()) - self.started

    @property
    def sign(self) -> float:
        """Turns scores so that larger is better."""
        return 1.0 if self.settings.greater_is_better else -1.0

    def run(self) -> None:
        """Measure baseline and curve, as far as the budget goes."""
        try:
            if self.settings.baseline == "own":
                self._measure_baseline()
            self._count_from_floor()
            self._search()
        except OutOfTimeError:
            run = self.settings.run
            late = self.deadline is not None and time.monotonic() >= self.deadline
            if late or run.max_runs is None:
                self.notes.append(f"the time budget of {run.time_budget:g} s ended the search early")
            else:
                self.notes.append(f"the search ended with the {run.max_runs} runs that were planned")
            if not self.tuned:
                self.notes.append("the learning rate was not chosen: only one multiplier was tried")
        finally:
            self.finished = time.monotonic()
            self.notes += self.trainer.remarks

    # Baseline and threshold

    @property
    def direct_records(self) -> list[RunRecord]:
        """The direct runs at the chosen learning rate; none if the baseline was given."""
        return [t.record for t in self.direct if t.record.multiplier == self.direct_multiplier]

    @property
    def best_direct(self) -> Trained | None:
        """The direct run with the best score, the only one whose weights are kept; None before one has ended well."""
        ended = [t for t in self.direct if math.isfinite(t.record.score)]
        return max(ended, key=lambda t: self.sign * t.record.score, default=None)

    @property
    def baseline_scores(self) -> list[float]:
        """Their finite scores."""
        return [r.score for r in self.direct_records if math.isfinite(r.score)]

    @property
    def baseline_score(self) -> float:
        """The baseline: given, or the mean of the direct runs (NaN before the first has ended)."""
        if self.settings.baseline != "own":
            return float(self.settings.baseline)
        scores = self.baseline_scores
        return float(np.mean(scores)) if scores else math.nan

    @property
    def threshold_score(self) -> float:
        """The score to be reached."""
        s, base = self.settings, self.baseline_score
        if s.greater_is_better:
            return self.floor + s.threshold * (base - self.floor)
        return base / s.threshold

    @property
    def threshold_se(self) -> float:
        """Standard error of the threshold: the baseline was measured too."""
        scores = self.baseline_scores
        if self.settings.baseline != "own" or len(scores) < 2:
            return 0.0
        share = self.settings.threshold
        slope = share if self.settings.greater_is_better else 1 / share
        return float(slope * np.std(scores, ddof=1) / math.sqrt(len(scores)))

    def _measure_baseline(self) -> None:
        """Train all weights directly: one learning rate of the grid is chosen, and repeated with other seeds."""
        s = self.settings
        at_once = s.search.n_seeds if self.trainer.as_one else 1

        def trial(g: float, r: int) -> Trial:
            return Trial(None, derive_seed(s.seed, "direct", r), s.lr * g, g)

        def measure(multipliers: Sequence[float]) -> dict[float, Cells]:
            self._run_direct([trial(g, r) for r in range(at_once) for g in multipliers])
            tried = {g: [t for t in self.direct if t.record.multiplier == g] for g in multipliers}
            return {g: self._cells(runs) for g, runs in tried.items() if runs}

        if self.deadline is not None and s.run.max_runs is None:  # one run alone, to learn what a run costs
            self._run([trial(self.direct_multiplier, 0)], self.direct)
        self.direct_multiplier = self._best_multiplier(measure, self.direct_multiplier, "of direct training")
        if not any(math.isfinite(t.record.score) for t in self.direct):
            self._raise_without_baseline()
        self._run_direct([trial(self.direct_multiplier, r) for r in range(s.search.n_seeds)])

    def _count_from_floor(self) -> None:
        """Settle the score of knowing nothing, and check that the baseline says more than it."""
        s = self.settings
        if callable(s.score_floor):
            self.floor = float(s.score_floor())
        if s.baseline != "own":
            return
        if s.greater_is_better and self.baseline_score <= self.floor:
            raise ValueError(
                f"direct training scores {self.baseline_score:.3g}, not above score_floor={self.floor:g}: the model "
                "does not learn this task, so it has no dimension to measure. Check lr and the recipe, or give a "
                "baseline"
            )
        if s.trivial_score >= self.threshold_score:
            self.notes.append(
                f"always answering the majority class scores {s.trivial_score:.3g}, which reaches the threshold "
                f"{self.threshold_score:.3g}: the dimension says nothing; use score_floor='majority'"
            )
        if not s.greater_is_better and self.baseline_score <= 0:
            raise ValueError(
                f"greater_is_better=False needs positive losses, but direct training scores {self.baseline_score:.3g}"
            )

    def _run_direct(self, trials: Sequence[Trial]) -> None:
        """Make the direct runs not made yet, for at most a third of what is left."""
        done = {(t.record.seed, t.record.multiplier) for t in self.direct}
        lacking = [t for t in trials if (t.seed, t.multiplier) not in done]
        if lacking and not self._broke(0.3):
            self._run(lacking, self.direct, share=0.3)
        best = self.best_direct
        self.direct = [t if t is best or not t.buffers else replace(t, buffers={}) for t in self.direct]

    def _best_multiplier(
        self, measure: Callable[[Sequence[float]], dict[float, Cells]], first: float, what: str
    ) -> float:
        """Choose from the grid, and beyond its end while the choice lies there; ``first`` stays if none beats noise."""
        scores = measure([first, *(g for g in self.grid if g != first)])
        if not scores:
            raise OutOfTimeError
        best = choose_multiplier(scores, first)
        for _ in range(_EXTENSIONS if len(self.grid) > 1 else 0):
            new = next_beyond(scores, best)
            if new is None:
                break
            found = measure([new])
            if not found:
                break  # no time left for it
            scores |= found
            best = choose_multiplier(scores, first)
        if len(scores) > 1 and best in (min(scores), max(scores)):
            self.notes.append(
                f"the best learning-rate multiplier {what}, {best:g}, is the last one tried; another lr_grid may do "
                "better"
            )
        return best

    def _raise_without_baseline(self) -> None:
        errors = [t.error for t in self.direct if t.error]
        if errors:
            raise RuntimeError(f"direct training failed, so there is no baseline:\n{errors[0]}")
        if any(t.record.stopped == "diverged" for t in self.direct):
            raise ValueError(
                f"direct training diverged at every learning rate ({self.settings.lr:g} times {self.grid}); "
                "give a smaller lr"
            )
        raise OutOfTimeError

    def _cells(self, runs: Sequence[Trained]) -> Cells:
        """Scores by dimension and seed, turned so that larger is better."""
        return {(t.record.d, t.record.seed): self.sign * t.record.score for t in runs}

    # Learning rate and search

    def _trial(self, d: int, replicate: int, multiplier: float) -> Trial:
        s = self.settings
        seed = derive_seed(s.seed, "run", int(d), int(replicate))
        return Trial(int(d), seed, s.lr * multiplier * self.trainer.stretch(int(d)), multiplier)

    def scores(self, multiplier: float) -> dict[int, list[float]]:
        """Scores by d of the runs made with one multiplier."""
        found: dict[int, list[float]] = {}
        for t in self.runs:
            if t.record.multiplier == multiplier:
                found.setdefault(t.record.d, []).append(t.record.score)
        return found

    def _plan(self) -> Any:
        s = self.settings.search
        assert s.d_max is not None
        if not isinstance(s.sizes, str) or s.sizes == "grid":  # sizes of one's own may be an array
            own = grid_sizes(s.d_min, s.d_max) if isinstance(s.sizes, str) else s.sizes
            sizes = sorted(int(d) for d in own)
            return grid_waves(sizes, s.n_seeds, self.scores(self.multiplier))
        task = self.trainer.job.task
        cheap = self.trainer.D <= _SMALL or (task is not None and task.device.type == "cuda")
        wide = self.trainer.as_one and cheap
        return bracket_waves(
            self.threshold_score,
            d_min=s.d_min,
            d_max=s.d_max,
            d0=min(max(s.d0, s.d_min), s.d_max),
            resolution=float(s.resolution),
            n_seeds=s.n_seeds,
            scan_seeds=s.n_seeds if wide else 1,
            lookahead=_LOOKAHEAD if wide else 1,
            greater_is_better=self.settings.greater_is_better,
            known=self.scores(self.multiplier),
        )

    def _search(self) -> None:
        plan = self._plan()
        wave = next(plan, None)
        while wave is not None:
            scores = self._run([self._trial(d, r, self.multiplier) for d, r in wave], self.runs, certify=True)
            try:
                wave = plan.send(scores)
            except StopIteration:
                wave = None
            if not self.tuned:
                known = self.scores(self.multiplier)
                low, high = bracket_of(
                    known, self.threshold_score, greater_is_better=self.settings.greater_is_better
                )
                if (high is not None or wave is None) and self._tune(
                    [d for d in (low, high) if d is not None]
                ):
                    plan = self._plan()
                    wave = next(plan, None)

    def _tune(self, sizes: Sequence[int]) -> bool:
        """Choose the multiplier at the first bracketing sizes; True if it changed."""
        known, before = self.scores(self.multiplier), self.multiplier

        def measure(multipliers: Sequence[float]) -> dict[float, Cells]:
            new = [g for g in multipliers if g != before]
            trials = [self._trial(d, r, g) for d in sizes for r in range(len(known[d])) for g in new]
            if trials:
                self._run(trials, self.runs, share=0.5, certify=True)
            near = [t for t in self.runs if t.record.d in sizes]
            cells = {g: self._cells([t for t in near if t.record.multiplier == g]) for g in multipliers}
            return {g: found for g, found in cells.items() if {d for d, _ in found} == set(sizes)}

        self.multiplier = self._best_multiplier(measure, before, "in subspaces")
        self.tuned = True
        return self.multiplier != before

    # Waves and the clock

    @property
    def _left(self) -> float:
        """How many more runs there is room for: as many as were planned, else as the clock allows."""
        if self.settings.run.max_runs is not None:
            return float(self.settings.run.max_runs - len(self.direct) - len(self.runs))
        if self.deadline is None or self.cost == 0:
            return math.inf
        left = self.deadline - time.monotonic()
        return left / self.cost if left >= self.latency else 0.0

    def _broke(self, share: float) -> bool:
        """Whether that share of what is left does not pay for one run."""
        return share * self._left < 1

    def _affordable(self, trials: Sequence[Trial], share: float) -> list[int]:
        """Indices of the trials there is room for: first seeds before second ones, spread over the sizes."""
        left = self._left
        if left < 1:
            raise OutOfTimeError
        n = max(int(share * left), 1) if math.isfinite(left) else len(trials)
        return list(range(len(trials))) if n >= len(trials) else list(_spread(trials, n))

    def _run(
        self, trials: Sequence[Trial], keep: list[Trained], *, share: float = 1.0, certify: bool = False
    ) -> list[float | None]:
        """Carry out the trials there is room for; returns a score a trial, None where it was not made."""
        chosen = self._affordable(trials, share)
        scores: list[float | None] = [None] * len(trials)
        fresh: list[float] = []
        wave_started = time.monotonic()
        if self.deadline is not None and wave_started >= self.deadline:
            raise OutOfTimeError

        def report(position: int, trained: Trained, cached: bool) -> None:
            keep.append(trained)
            scores[chosen[position]] = trained.record.score
            if not cached:
                fresh.append(trained.record.seconds)

        certificate = certify and self.settings.run.early_stop and self.settings.greater_is_better
        self.trainer.run(
            [trials[i] for i in chosen],
            report,
            deadline=self.deadline,
            early_stop_score=self.threshold_score if certificate else None,
            progress=self._progress(sorted({t.d or self.trainer.D for t in trials})),
        )
        keep.sort(key=lambda t: (t.record.multiplier, t.record.d, _order(trials, t)))
        self.waves += 1
        if fresh:
            self.cost = (time.monotonic() - wave_started) / len(fresh)
            self.latency = max(float(np.mean(fresh)), 1e-9)
        if all(s is None for s in scores):
            raise OutOfTimeError
        return scores

    def _progress(self, sizes: Sequence[int]) -> Callable[[float, str], Any] | None:
        progress = self.settings.run.progress
        if progress is None:
            return None
        where = f"d = {sizes[0]:,}" + (f" .. {sizes[-1]:,}" if len(sizes) > 1 else "")
        step = 0.12 if self.trainer.vectorized else 0.06

        def tell(done: float, text: str) -> None:
            guess = 1 - (1 - step) ** (self.waves + done)  # how many waves there will be is not known
            if self.settings.run.time_budget is not None:
                guess = max(guess, min(self.seconds / self.settings.run.time_budget, 1.0))
            progress(guess, f"{where}: {text}")

        return tell


def _order(trials: Sequence[Trial], trained: Trained) -> int:
    """Place of a run among the trials of its wave, so that results do not depend on who finished first."""
    keys = [(t.seed, t.multiplier) for t in trials]
    key = (trained.record.seed, trained.record.multiplier)
    return keys.index(key) if key in keys else -1


def _spread(trials: Sequence[Trial], n: int) -> Iterator[int]:
    """Indices of n trials: round by round one of each (d, multiplier), the sizes of the last round evenly spread."""
    rounds: list[list[int]] = []
    seen: dict[tuple[Any, float], int] = {}
    for index, t in enumerate(trials):
        level = seen.get((t.d, t.multiplier), 0)
        seen[(t.d, t.multiplier)] = level + 1
        if level == len(rounds):
            rounds.append([])
        rounds[level].append(index)
    for indices in rounds:
        if n >= len(indices):
            yield from indices
        elif n > 0:
            yield from (indices[int((i + 0.5) * len(indices) / n)] for i in range(n))
        n -= len(indices)
