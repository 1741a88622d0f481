r"""Every way of spending few numbers, on one task at equal bytes: :func:`compare`.

**Problem.** A model of D weights can be kept in few bytes in many ways: as d numbers that move it along a random
subspace, as a low-rank update, as a layer that shares its weights, as codes of few bits, as a few weights of every
group. Their papers compare each with the whole model; which one spends a given number of bytes best?

Every way starts at the same origin (a pre-trained model that everybody has, or one that a seed makes again), is trained
on the same data for the same number of epochs, is written down as it would be stored, and is scored as rebuilt from
that. Bytes are those of what has to be kept, given the program and the origin: trained numbers in half precision, codes
with their scales and codebooks, indices of the kept weights, eight bytes for a seed. Running statistics that training
moves are kept in single precision, in every way that does not fold them into its weights.

Each setting of each way has its own multiplier of the learning rate (low-rank updates of large rank want a smaller
one), chosen on a fifth of the training data held out; the validation data only score. Dense training, the reference,
chooses in the same way.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from lodim.identity import content_hash
from lodim.landscape.comparison.bench import (
    SINGLE_BYTES,
    DoesNotFitError,
    Origin,
    Stored,
    Workbench,
    moving_buffers,
    store,
)
from lodim.landscape.comparison.result import Comparison, Spending
from lodim.landscape.comparison.ways import WAYS, Way
from lodim.landscape.objective_landscapes.bases import refuse_shared
from lodim.landscape.objective_landscapes.size_search import next_beyond
from lodim.landscape.objective_landscapes.trials import content_of
from lodim.parallel import Outcome, ResultStore, run_jobs
from lodim.randomness import RandomState, as_generator, build_seeded, derive_seed, root_seed
from lodim.training import Recipe, Task
from lodim.validation import check_choice, check_in_range, checked

__all__ = ["compare"]

DENSE = "dense"
HELD_OUT = 0.2
STEPS_BEYOND = 4  # multipliers tried past an end of the grid, while the best one lies at that end


@checked
def compare(
    model: nn.Module | Callable[[], nn.Module],
    data: Task | Iterable[Any],
    methods: str | Sequence[str] | Mapping[str, Way] | None = None,
    budget_bytes: int | Sequence[int] = (300, 1000, 3000, 10_000),
    *,
    recipe: Recipe | None = None,
    lr: float | int = 1e-3,
    lr_grid: Sequence[float | int] = (1.0, 3.0, 10.0),
    tune: str = "setting",
    n_seeds: int = 3,
    ci: float = 0.95,
    device: torch.device | str | None = None,
    n_jobs: int = 1,
    ray: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Callable[[float, str], Any] | None = None,
    random_state: RandomState = 0,
) -> Comparison:
    """Train one model in every way at equal bytes.

    Parameters
    ----------
    model : nn.Module or callable
        A pre-trained model, which is then the origin that everybody has; or ``model() -> nn.Module`` with a random
        initialisation, a new module at each call, which a seed makes again.
    data : Task, or (X, y, X_val, y_val)
    methods : str, or sequence of str, optional
        Names in :data:`~lodim.landscape.WAYS`, by default all whose libraries are installed; or a mapping of names to
        ways of your own (:class:`~lodim.landscape.comparison.ways.Way`). A way that does not apply to the model is
        named in the result's ``failed``, with the reason.
    budget_bytes : int or sequence of int
        Of everything that is kept.
    recipe : Recipe, optional
        Of every training; fine-tuning of codes takes a share of its epochs.
    lr : float
        Learning rate that suits direct training.
    lr_grid : sequence of float
        Multipliers to choose from; one number fixes it. While the best is the largest or the least, the next beyond
        it is tried too, so that no way is judged by a grid that suits another.
    tune : {"setting", "way"}
        Choose for every setting of every way, or once for a way, at its middle budget, which is cheaper.
    n_seeds : int
        Runs at every way and budget.
    ci : float
        Nominal coverage of the intervals over seeds.
    device : torch.device, optional
        Where to train; by default where a given model is, or else where the data are.
    n_jobs, ray
        See :func:`lodim.parallel.run_jobs`.
    cache_dir : path, optional
        Finished runs are kept there and not made again. A run is found only for the same data, model (code and
        weights), recipe, settings and way, with the code, arguments, closures and globals of your own functions: what
        such a function appends to counts too.
    progress : callable, optional
        ``progress(done, text)`` with ``done`` in [0, 1].

    Raises
    ------
    TypeError
        A model, data, methods or budgets of another kind; with ``cache_dir``, a model or a way whose content cannot be
        told, such as one that holds an open file.
    ValueError
        Unknown method, a budget below one byte, or no method that fits any budget.
    ImportError
        A method was named whose library is not installed.
    JobsInterrupted
        On Ctrl-C; what was finished is in ``cache_dir``, if one was given.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from lodim.nets import mlp
    >>> X, y = load_digits(return_X_y=True)
    >>> found = compare(
    ...     lambda: mlp([64, 64, 64, 10]),
    ...     (X[:1400] / 16, y[:1400], X[1400:] / 16, y[1400:]),
    ...     methods=["subspace", "bits"],
    ...     budget_bytes=[300, 4000],
    ... )  # doctest: +SKIP
    >>> print(found)  # doctest: +SKIP
    """
    ways, budgets = choose_ways(methods), check_budgets(budget_bytes)
    check_in_range(n_seeds, "n_seeds", low=1, integer=True)
    grid = tuple(dict.fromkeys(float(check_in_range(g, "lr_grid", low=0.0)) for g in lr_grid))
    if not grid or min(grid) <= 0:
        raise ValueError(f"lr_grid must hold positive multipliers, got {lr_grid}")
    check_choice(tune, ("setting", "way"), "tune")
    task = _place(as_task(data), model, device)
    if not isinstance(model, nn.Module):
        refuse_shared(build_seeded(model, 0), build_seeded(model, 0))
    race = _Race(model, task, recipe or Recipe(), float(lr), root_seed(random_state), ways)
    runner = _Runner(race, n_jobs, ray, None if cache_dir is None else ResultStore(cache_dir), progress)
    if cache_dir is not None:
        race.tell_contents()
    plans, too_small = _plans(race, budgets, runner.failed)
    rates = _choose_rates(runner, plans, grid, each=tune == "setting")
    dense = runner.run([_Job(DENSE, None, 0, s, rates[DENSE, None]) for s in range(n_seeds)])
    race.dense_states = {job.seed: ran.state for job, ran in dense if ran.state is not None}
    done = runner.run(
        [
            _Job(way, setting, budget, seed, rates[way, setting])
            for way, chosen in plans.items()
            for budget, setting in chosen.items()
            for seed in range(n_seeds)
            if (way, setting) in rates
        ]
    )
    spendings, failed = tuple(ran.spending for _, ran in done), runner.failed
    tried = {s.way for s in spendings}
    return Comparison(
        spendings=spendings,
        dense=tuple(ran.spending.score for _, ran in dense),
        dense_bytes=dense[0][1].spending.n_bytes if dense else 0,
        score_name="accuracy" if task.kind == "classification" else "R²",
        too_small=too_small,
        failed={way: why for way, why in failed.items() if way not in tried},
        notes=tuple(f"{way}: some runs failed ({why})" for way, why in failed.items() if way in tried),
        ci=float(ci),
    )


# What is given


def as_task(data: Any) -> Task:
    """Return the data, a task or ``(X, y, X_val, y_val)``, as a task; TypeError for something else."""
    if isinstance(data, Task):
        return data
    arrays = list(data) if isinstance(data, tuple | list) else None
    if arrays is None or len(arrays) != 4:
        got = type(data).__name__ if arrays is None else f"{len(arrays)} of them"
        raise TypeError(
            f"data must be a Task, or four arrays (X, y, X_val, y_val), got {got}; gather what a loader or a "
            "generator yields into arrays first, since every way passes over the same data many times"
        )
    return Task.from_arrays(*arrays)


def _place(task: Task, model: Any, device: torch.device | str | None) -> Task:
    """The task where training is to be (by default where a given model is), in the precision of a given model."""
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return task.to(device or task.device) if first is None else task.to(device or first.device, first.dtype)


def check_budgets(budget_bytes: Any) -> tuple[int, ...]:
    """Return the budgets, one or several whole numbers from 1 on, in increasing order."""
    single = isinstance(budget_bytes, str) or not isinstance(budget_bytes, Iterable)
    values: list[Any] = [budget_bytes] if single else list(budget_bytes)
    if not values:
        raise ValueError("budget_bytes must name at least one budget")
    return tuple(sorted({int(check_in_range(v, "budget_bytes", low=1, integer=True)) for v in values}))


def choose_ways(methods: Any) -> Mapping[str, Way]:
    """Return the ways by name: those named, those given, or by default all whose libraries are installed."""
    if methods is None:
        return {name: way for name, way in WAYS.items() if way.available()}
    if isinstance(methods, str):
        methods = [methods]
    if not isinstance(methods, Mapping | Sequence) or isinstance(methods, np.ndarray):
        raise TypeError(
            f"methods must be names of ways or a mapping of names to ways, got {methods!r}; budgets go into "
            "budget_bytes"
        )
    if not methods:
        raise ValueError("methods must name at least one way; leave it out for all")
    if isinstance(methods, Mapping):
        for name, way in methods.items():
            if not isinstance(way, Way):
                raise TypeError(f"methods[{name!r}] must be a Way, got {type(way).__name__}")
        return dict(methods)
    unnamed = [name for name in methods if not isinstance(name, str)]
    if unnamed:
        raise TypeError(
            f"methods must hold names of ways, got {unnamed[0]!r}; budgets go into budget_bytes, ways of your own into "
            "a mapping of names to ways"
        )
    return {check_choice(name, tuple(WAYS), "methods"): WAYS[name] for name in methods}


# Runs


@dataclass(frozen=True)
class _Job:
    """One training: a way with a setting, at a seed; ``held_out`` where a learning rate is to be chosen."""

    way: str
    setting: Any
    budget: int
    seed: int
    multiplier: float
    held_out: bool = False


@dataclass(frozen=True, eq=False)
class _Ran:
    spending: Spending
    state: dict[str, torch.Tensor] | None = None


@dataclass(eq=False)
class _Race:
    """What all runs share; called with a job, it runs it."""

    model: nn.Module | Callable[[], nn.Module]
    task: Task
    recipe: Recipe
    lr: float
    seed: int
    ways: Mapping[str, Way]
    dense_states: dict[int, dict[str, torch.Tensor]] | None = None
    contents: dict[str, str] = field(default_factory=dict)
    dense_contents: dict[int, str] = field(default_factory=dict)

    @cached_property
    def moving(self) -> tuple[str, ...]:
        """Names of the buffers that training moves."""
        return moving_buffers(Origin(self.model, self.seed, self.task.device).make(), self.task.X)

    def origin(self, seed: int) -> Origin:
        """Where the trainings of a seed start."""
        return Origin(self.model, seed, self.task.device, self.moving)

    def __call__(self, job: _Job) -> _Ran:
        started, seed = time.monotonic(), derive_seed(self.seed, "run", job.seed)
        task = _hold_out(self.task, self.seed) if job.held_out else self.task
        state = None if job.held_out or self.dense_states is None else self.dense_states.get(job.seed)
        bench = Workbench(self.origin(seed), task, self.recipe, self.lr, job.multiplier, seed, state)
        spend = _dense if job.way == DENSE else self.ways[job.way].spend
        stored = spend(bench, job.setting)
        if job.budget and stored.n_bytes > job.budget:
            raise RuntimeError(
                f"{stored.setting} was to fit {job.budget} bytes and takes {stored.n_bytes}: its plan is wrong"
            )
        score, train_score = bench.scores(stored.module)
        spending = Spending(
            way=job.way,
            setting=stored.setting,
            budget=job.budget,
            n_bytes=stored.n_bytes,
            n_numbers=stored.n_numbers,
            seed=job.seed,
            score=score,
            train_score=train_score,
            lr=self.lr * job.multiplier,
            seconds=time.monotonic() - started,
        )
        keep = job.way == DENSE and not job.held_out
        return _Ran(spending, stored.module.state_dict() if keep else None)

    def tell_contents(self) -> None:
        """Hash what runs are made from besides the job, by way; TypeError where that cannot be told."""
        made, device = Origin(self.model, self.seed).make(), self.task.device.type
        parts = {
            "model": self.model,
            "made": made,
            "data": self.task,
            "device": device,
            "recipe": self.recipe,
        }
        common = content_of(**parts, lr=self.lr, seed=self.seed)
        spends = {name: {f"the way {name!r}": way.spend} for name, way in self.ways.items()}
        self.contents = {name: content_of(common=common, **spend) for name, spend in spends.items()}
        self.contents[DENSE] = common

    def key(self, job: _Job) -> str:
        """Identify a run in the store."""
        start = None
        if self.dense_states and job.way != DENSE and not job.held_out:  # some ways start from it
            if job.seed not in self.dense_contents:
                self.dense_contents[job.seed] = content_hash(self.dense_states.get(job.seed))
            start = self.dense_contents[job.seed]
        return content_hash(job, self.contents[job.way], start)


def _hold_out(task: Task, seed: int) -> Task:
    """The training data alone, a fifth of them for choosing."""
    order = torch.from_numpy(as_generator(derive_seed(seed, "held out")).permutation(task.n_train))
    cut = round((1 - HELD_OUT) * task.n_train)
    learn, judge = order[:cut].to(task.device), order[cut:].to(task.device)
    return replace(task, X=task.X[learn], y=task.y[learn], X_val=task.X[judge], y_val=task.y[judge])


def _dense(bench: Workbench, _: None) -> Stored:
    """The reference: every weight trained freely, and kept in single precision."""
    module = bench.origin.make()
    bench.train(module)
    n = sum(p.numel() for p in module.parameters())
    return store(module, SINGLE_BYTES * n, n, "all weights, single precision", bench.origin)


@dataclass(eq=False)
class _Runner:
    """Runs waves of jobs, keeps count for the progress, and remembers what failed."""

    race: _Race
    n_jobs: int
    ray: str | None
    store: ResultStore | None
    progress: Callable[[float, str], Any] | None
    failed: dict[str, str] = field(default_factory=dict)

    def run(self, jobs: Sequence[_Job]) -> list[tuple[_Job, _Ran]]:
        """Return the jobs that ended well, with what they found."""
        n_done = 0

        def report(index: int, outcome: Outcome[_Ran]) -> None:
            nonlocal n_done
            n_done += 1
            way = jobs[index].way
            if outcome.error is not None:
                self.failed[way] = outcome.error.strip().splitlines()[-1]
            if self.progress is not None:
                self.progress(n_done / len(jobs), f"{way}, run {n_done} of {len(jobs)}")

        options: dict[str, Any] = {"n_jobs": self.n_jobs, "ray": self.ray, "store": self.store}
        outcomes = run_jobs(self.race, jobs, **options, key=self.race.key, on_done=report)
        return [(job, o.value) for job, o in zip(jobs, outcomes, strict=True) if o.value is not None]


def _plans(
    race: _Race, budgets: Sequence[int], failed: dict[str, str]
) -> tuple[dict[str, dict[int, Any]], dict[str, int]]:
    """Settings by way and by the least budget that allows them, and the least bytes of the ways that do not fit."""
    origin, too_small = race.origin(race.seed), {}
    plans: dict[str, dict[int, Any]] = {name: {} for name in race.ways}
    for name, way in race.ways.items():
        for budget in budgets:
            try:
                setting = way.plan(origin, budget)
            except DoesNotFitError as error:
                too_small[name] = error.least
            except (ValueError, TypeError, NotImplementedError) as error:  # not made for such a model
                failed[name] = f"{type(error).__name__}: {error}"
                break
            else:
                if setting not in plans[name].values():
                    plans[name][budget] = setting
    if not any(plans.values()):
        why = [f"{way} needs {least} bytes" for way, least in too_small.items()]
        why += [f"{way} does not apply ({reason})" for way, reason in failed.items()]
        raise ValueError(
            f"no method fits any budget of {list(budgets)} bytes (budget_bytes): {'; '.join(why)}"
        )
    return plans, too_small


# The learning rate


def _choose_rates(
    runner: _Runner, plans: Mapping[str, Mapping[int, Any]], grid: tuple[float, ...], *, each: bool
) -> dict[tuple[str, Any], float]:
    """The multiplier of each way and setting, chosen on held-out training data."""
    judged: dict[tuple[str, Any], tuple[str, Any]] = {(DENSE, None): (DENSE, None)}  # -> whose runs decide
    for way, chosen in plans.items():
        settings = [chosen[budget] for budget in sorted(chosen)]
        for setting in settings:
            judged[way, setting] = (way, setting if each else settings[len(settings) // 2])
    if len(grid) == 1:
        return dict.fromkeys(judged, grid[0])
    scores: dict[tuple[str, Any], dict[float, float]] = {case: {} for case in judged.values()}
    wanted: dict[tuple[str, Any], tuple[float, ...]] = dict.fromkeys(scores, grid)
    for _ in range(1 + STEPS_BEYOND):
        for case, multipliers in wanted.items():
            scores[case] |= dict.fromkeys(multipliers, -math.inf)  # unless the run ends, with a score
        jobs = [_Job(*case, 0, 0, g, held_out=True) for case, tried in wanted.items() for g in tried]
        for job, ran in runner.run(jobs):
            if not math.isnan(ran.spending.score):
                scores[job.way, job.setting][job.multiplier] = ran.spending.score
        wanted = {case: _beyond(tried) for case, tried in scores.items()}
        if not any(wanted.values()):
            break
    best = {
        c: max(tried, key=tried.__getitem__) for c, tried in scores.items() if max(tried.values()) > -math.inf
    }
    if (DENSE, None) not in best:
        raise RuntimeError(
            f"direct training failed at every learning rate: {runner.failed.get(DENSE, 'it diverged')}"
        )
    return {case: best[decided] for case, decided in judged.items() if decided in best}


def _beyond(tried: Mapping[float, float]) -> tuple[float, ...]:
    """The next multiplier, if none has a better score than the largest tried, or all have a worse than the least."""
    least, most, best = min(tried), max(tried), max(tried.values())
    end = None
    if best > -math.inf and tried[most] == best:  # a tie too: rates much too small all stay at chance
        end = most
    elif all(tried[g] < tried[least] for g in tried if g != least):
        end = least
    new = None if end is None else next_beyond(tried, end)
    return () if new is None else (new,)
