"""How a measurement searches and runs, and what its arguments mean: the score's name and floor, the least d."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from lodim.landscape.crossing import ESTIMATORS
from lodim.training import Task
from lodim.validation import check_choice, check_in_range, checked

__all__ = ["RunOptions", "SearchOptions", "floor_score", "least_d", "majority_score", "score_name"]


class _Options:
    """Shows what differs from the defaults."""

    def __repr__(self) -> str:
        given = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        usual = {f.name: f.default for f in fields(self)}  # type: ignore[arg-type]
        shown = ", ".join(f"{k}={v!r}" for k, v in given.items() if repr(v) != repr(usual[k]))
        return f"{type(self).__name__}({shown})"


@checked
@dataclass(frozen=True, repr=False)
class SearchOptions(_Options):
    """Which sizes and learning rates are tried, and how the least size is read off the runs.

    Attributes
    ----------
    sizes : {"bracket", "grid"} or sequence of int
        Doubling and bisection, a fixed grid of about six d a decade, or your own list of d.
    n_seeds : int
        Runs at the two d that bracket the crossing (at every d where runs are vectorised and cheap).
    d_min, d_max : int
        Least (1: whatever is possible) and largest d; ``d_max=None`` means D.
    d0 : int
        Where doubling starts.
    resolution : float
        The bracket's ends are at most this factor apart.
    lr_grid : sequence of float
        Multipliers of the learning rate to choose from; where the choice is the largest (or least), larger (or smaller)
        ones are tried too, up to three steps. The largest stays unless another gains more than the noise of the scores:
        see :mod:`lodim.landscape.objective_landscapes.size_search`. One number fixes it.
    estimator : {"isotonic", "first_crossing", "success_probability"}
        How the crossing is read off the runs, see :mod:`lodim.landscape.crossing`.
    ci : float
        Nominal coverage of the interval.
    """

    sizes: str | Sequence[int] | np.ndarray = "bracket"
    n_seeds: int = 3
    d_min: int = 1
    d_max: int | None = None
    d0: int = 10
    resolution: float | int = 1.1
    lr_grid: Sequence[float | int] = (1.0, 3.0, 10.0)
    estimator: str = "isotonic"
    ci: float | int = 0.95
    n_bootstrap: int = 1000

    def check(self) -> None:
        """Raise ValueError or TypeError for an option out of range."""
        for name in ("d_min", "d0", "n_seeds", "n_bootstrap"):
            check_in_range(getattr(self, name), name, low=1, integer=True)
        if self.d_max is not None:
            check_in_range(self.d_max, "d_max", low=1, integer=True)
        if check_in_range(self.ci, "ci", low=0.0, high=1.0) == 0:
            raise ValueError("ci must be above 0")
        check_choice(self.estimator, ESTIMATORS, "estimator")
        if isinstance(self.sizes, str):
            check_choice(self.sizes, ("bracket", "grid"), "search (sizes)")
        elif (
            len(self.sizes) == 0
            or min(check_in_range(d, "search (sizes)", integer=True) for d in self.sizes) < 1
        ):
            raise ValueError(
                "search (sizes) must be 'bracket', 'grid' or a list of at least one d, each at least 1"
            )
        if not self.resolution > 1:
            raise ValueError(f"resolution must be above 1, got {self.resolution}")
        if len(self.lr_grid) == 0 or not min(self.lr_grid) > 0:
            raise ValueError(f"lr_grid must hold positive multipliers, got {self.lr_grid}")


@checked
@dataclass(frozen=True, repr=False)
class RunOptions(_Options):
    """Where and how long runs are made.

    Attributes
    ----------
    vectorize : {"auto", True, False}
        Whether the runs of a wave are trained as one: the same runs, with the same scores up to rounding.
    early_stop : bool
        End a run as soon as its score reaches the threshold (after any epoch). Cheaper, but scores above the
        threshold are then cut short, so the crossing is read from less. A ``fit_fn`` of your own is not stopped.
    n_jobs : int
        Local processes. The answer is that of one, to the bit: which runs are made, and which are trained as one, does
        not depend on it. So it spreads what is left: runs that cannot be trained as one (or shall not be, with
        ``vectorize=False``), and groups of them where networks are large. Other processes compute with one thread each:
        networks of more than 100,000 weights, and a ``fit_fn`` of your own, give the same up to rounding unless this
        process does so too (``torch.set_num_threads(1)``).
    ray : str, optional
        Address of a Ray cluster, see :func:`lodim.parallel.run_jobs`; the answer is that of ``n_jobs``, where its
        machines round alike.
    cache_dir : path, optional
        Finished runs are kept there and not made again; a search that finds its runs there gives the answer of one that
        makes them, to the bit. What identifies a run is all that it is made from: d, seed, learning rate, recipe and
        data; the model's code and weights; your own functions with their arguments, defaults, closures and whatever
        they call (a list that a ``fit_fn`` appends to counts too); and the runs it was trained as one with.
    max_runs : int, optional
        Runs for the whole of ``fit``, at most a third of them for the baseline. What is left out depends on the number
        only, so the same seed gives the same answer on any machine.
    time_budget : float, optional
        Seconds for the whole of ``fit``. Without ``max_runs``, waves are planned from the measured cost of a run;
        running ones are cut off in either case, and the answer then says how far it got, which depends on the machine
        and the day. Your own ``fit_fn`` cannot be cut off, only not started.
    progress : callable, optional
        ``progress(done, text)`` with ``done`` in [0, 1].
    """

    vectorize: bool | str = "auto"
    early_stop: bool = False
    n_jobs: int = 1
    ray: str | None = None
    cache_dir: str | os.PathLike[str] | None = None
    max_runs: int | None = None
    time_budget: float | int | None = None
    progress: Callable[[float, str], Any] | None = None

    def check(self) -> None:
        """Raise ValueError or TypeError for an option out of range."""
        check_choice(self.vectorize, ("auto", True, False), "vectorize")
        if check_in_range(self.n_jobs, "n_jobs", integer=True) == 0:
            raise ValueError("n_jobs must be a number of processes, or negative (-1: one a core), got 0")
        if self.max_runs is not None:
            check_in_range(self.max_runs, "max_runs", low=1, integer=True)
        if self.time_budget is not None and not self.time_budget > 0:
            raise ValueError(f"time_budget must be positive seconds, got {self.time_budget}")


def score_name(task: Task | None, score_on: str) -> str:
    """Return what the built-in score is called; a user's own has no task."""
    if task is None:
        return "score"
    name = {None: "accuracy" if task.kind == "classification" else "R^2", "auc": "AUC", "r2": "R^2"}.get(
        task.score_by, "accuracy"
    )
    return f"training {name}" if score_on == "train" else name


def majority_score(task: Task | None, score_on: str = "val") -> float:
    """Return the score of always answering the training set's most frequent class; NaN where that is no answer."""
    if task is None or task.kind != "classification":
        return math.nan
    if task.score_by == "auc":
        return 0.5
    answer = torch.bincount(task.y).argmax()
    return float(((task.y if score_on == "train" else task.y_val) == answer).double().mean())


Floor = float | Callable[[], float]  # what is only known once the baseline is


def floor_score(score_floor: float | int | str | Callable[[], float], trivial: float) -> Floor:
    """Return the score of knowing nothing; "majority" stands for ``trivial``, which may be NaN."""
    if callable(score_floor):
        return score_floor
    if isinstance(score_floor, str):
        if score_floor != "majority":
            raise ValueError(f"score_floor must be a number or 'majority', got {score_floor!r}")
        if math.isnan(trivial):
            raise ValueError(
                "score_floor='majority' needs a classification with the built-in training; give a number instead"
            )
        return trivial
    return float(check_in_range(score_floor, "score_floor"))


def least_d(search: SearchOptions, fixed: int) -> int:
    """Return the least d to be tried, above the ``fixed`` numbers that are no directions."""
    wanted = [search.d_min] if search.d_min > 1 else []
    wanted += [] if isinstance(search.sizes, str) else list(search.sizes)
    if fixed and wanted and min(wanted) <= fixed:
        raise ValueError(
            f"d={min(wanted)} leaves no direction: m={fixed} of the d numbers are factors of said, or are trained "
            f"directly; use at least {fixed + 1}"
        )
    return max(int(search.d_min), fixed + 1)
