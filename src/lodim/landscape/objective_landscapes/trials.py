"""Training runs in random subspaces, one at a time or many as one: what a sweep over d is made of.

A :class:`Trial` says everything about a run: the number of trained dimensions, one seed for the initial weights, the
subspace and the order of the data, and the learning rate. :class:`Trainer` carries trials out: as one vectorised run,
as jobs in this process, in local processes or on Ray, or through the user's own training function; finished runs go to
a store, if one is given, and are never run twice: data, functions and their code identify a run besides its trial.
Every way gives the same runs, up to rounding.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lodim.landscape.objective_landscapes.bases import (
    direct_size,
    fixed_numbers,
    kept_outside,
    rate_factor,
    structured_projection,
)
from lodim.landscape.objective_landscapes.module import SubspaceModule
from lodim.landscape.objective_landscapes.options import RunOptions
from lodim.landscape.objective_landscapes.result import RunRecord
from lodim.landscape.objective_landscapes.structure import Grouping, group_tensors
from lodim.nets import flat_spec
from lodim.parallel import Outcome, ResultStore, run_jobs
from lodim.randomness import build_seeded
from lodim.sketch import make_projection
from lodim.training import FitResult, Recipe, Replica, Task, can_vectorize, fit, fit_replicas

__all__ = ["Setup", "Trained", "Trainer", "Trial", "as_arrays", "identity", "task_tensors", "update_hash"]


def task_tensors(task: Task | None) -> tuple[Tensor, ...]:
    """Return a task's data."""
    return () if task is None else (task.X, task.y, task.X_val, task.y_val)


def update_hash(digest: Any, tensors: Iterable[Tensor]) -> None:
    """Add the bytes of tensors, of any dtype and on any device, to a hash."""
    for tensor in tensors:
        numbers = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(numbers.view(torch.uint8).numpy().tobytes())


def as_arrays(value: Any) -> Any:
    """Return (nested) tensors as arrays, whose pickles are the same whenever their numbers are."""
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, tuple | list):
        return [as_arrays(item) for item in value]
    if isinstance(value, dict):
        return {key: as_arrays(item) for key, item in value.items()}
    return value


def identity(function: Callable[..., Any]) -> str:
    """Return name and code of a function: a changed body is another one, changed callees and closures go unnoticed."""
    code = getattr(function, "__code__", None)
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    return name if code is None else f"{name}:{_code(code)}"


def _code(code: CodeType) -> str:
    constants = [_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return repr((code.co_code.hex(), code.co_names, constants))


MakeModel = Callable[[], nn.Module]


@dataclass(frozen=True)
class Trial:
    """One run to be made, with d trained numbers (factors of ``said`` and direct ones counted), or None for all.

    The seed is that of the initial weights, the subspace and the order of the data; ``multiplier`` is the factor
    of ``lr`` on that of direct training, apart from the scaling with d.
    """

    d: int | None
    seed: int
    lr: float
    multiplier: float = 1.0


@dataclass(frozen=True, eq=False)
class Trained:
    """One finished run.

    ``v`` holds the trained numbers (None for direct training), ``buffers`` the module's buffers and its directly
    trained parameters, in direct training all of them; ``error`` is the traceback of a run that failed.
    """

    record: RunRecord
    v: np.ndarray | None = None
    buffers: dict[str, np.ndarray] = field(default_factory=dict)
    error: str | None = None


class DeadlinePassedError(Exception):
    """The deadline came before the run had ended, so it has no score."""


@dataclass(frozen=True, eq=False)
class Setup:
    """What all runs share; called with a trial, it makes the run. It travels to other processes.

    Arguments are those of :class:`~lodim.landscape.LandscapeDimension`, ``train`` and ``val`` those of its
    ``fit``. Runs end as soon as they reach ``early_stop_score``, or at ``wall_deadline``, a value of
    ``time.time()``, which machines share.
    """

    make_model: MakeModel
    task: Task | None
    recipe: Recipe
    fit_fn: Callable[..., Any] | None = None
    score_fn: Callable[..., float] | None = None
    train: Any = None
    val: Any = None
    projection: str = "cyclic"
    scale: str = "column"
    score_on: str = "val"
    said: Grouping = None
    train_directly: tuple[str, ...] = ()
    early_stop_score: float | None = None
    wall_deadline: float | None = None

    def module(self, trial: Trial) -> nn.Module:
        """Return the untrained module of a trial."""
        model = build_seeded(self.make_model, trial.seed)
        if self.task is not None:
            model = model.to(self.task.device)
        if trial.d is None:
            return model
        return SubspaceModule(
            model,
            trial.d - direct_size(model, self.train_directly),
            projection=self.projection,
            seed=trial.seed,
            scale=self.scale,
            penalty=self.recipe.penalty,
            train_directly=self.train_directly,
            said=self.said,
        )

    def __call__(self, trial: Trial) -> Trained:
        """Make the run of a trial."""
        module, started = self.module(trial), time.monotonic()
        if self.fit_fn is None:
            assert self.task is not None
            left = None if self.wall_deadline is None else self.wall_deadline - time.time()
            result = fit(
                module,
                self.task,
                self.recipe,
                lr=trial.lr,
                seed=trial.seed,
                early_stop_score=self.early_stop_score,
                deadline=None if left is None else started + left,
                score_on=self.score_on,
            )
            if result.stopped == "deadline":
                raise DeadlinePassedError
            record = _record(trial, result, _trained_size(module))
        else:
            record = self._by_user(module, trial, started)
        v = module.theta_d.detach().cpu().numpy().copy() if isinstance(module, SubspaceModule) else None
        kept = kept_outside(_base(module) if isinstance(module, SubspaceModule) else module)
        return Trained(record, v, {name: b.detach().cpu().numpy().copy() for name, b in kept.items()})

    def _by_user(self, module: nn.Module, trial: Trial, started: float) -> RunRecord:
        assert self.fit_fn is not None
        assert self.score_fn is not None
        returned = self.fit_fn(module, self.train, lr=trial.lr, seed=trial.seed)
        steps = returned if isinstance(returned, int) else getattr(returned, "steps", 0)
        train_score = float(self.score_fn(module, self.train))
        score = train_score if self.score_on == "train" else float(self.score_fn(module, self.val))
        return RunRecord(
            d=_trained_size(module),
            seed=trial.seed,
            score=score,
            train_score=train_score,
            steps=int(steps),
            lr=trial.lr,
            multiplier=trial.multiplier,
            seconds=time.monotonic() - started,
            stopped="budget" if math.isfinite(score) else "diverged",
        )


def _base(module: SubspaceModule) -> nn.Module:
    """The wrapped network."""
    return module.module


def _trained_size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _record(trial: Trial, result: FitResult, d: int) -> RunRecord:
    return RunRecord(
        d=d,
        seed=trial.seed,
        score=float(result.score),
        train_score=float(result.train_score),
        steps=int(result.steps),
        lr=trial.lr,
        multiplier=trial.multiplier,
        seconds=float(result.seconds),
        stopped=result.stopped,
    )


class Trainer:
    """Carries trials out, as ``run`` says.

    Of the model's D trainable numbers, ``n_direct`` are trained as they are; ``fixed``, with the factors of
    ``said``, are no directions. ``vectorized``: the trials of a call are trained as one, by default wherever the
    module allows it and neither processes nor Ray are asked for.
    """

    def __init__(self, job: Setup, run: RunOptions):
        self.job = job
        self.model = build_seeded(job.make_model, 0)
        self.spec = flat_spec(self.model)
        self.D = self.spec.numel
        self.n_direct, self.fixed = fixed_numbers(self.model, self.spec, job.train_directly, job.said)
        self.n_jobs, self.ray = run.n_jobs, run.ray
        self.store = None if run.cache_dir is None else ResultStore(run.cache_dir)
        self.vectorized = self._choose(run.vectorize)
        self.config = "" if self.store is None else self._fingerprint()

    def _choose(self, vectorize: bool | str) -> bool:
        if vectorize is False:
            return False
        if self.job.fit_fn is not None:
            reason = "a fit_fn of your own trains one module at a time"
        elif self.n_jobs != 1 or self.ray is not None:
            reason = "n_jobs and ray spread runs over processes instead"
        elif self.n_direct:
            reason = "replicas hold no parameters outside the subspace (train_directly)"
        else:
            answer = can_vectorize(self.model)
            reason = "" if answer else answer.reason
        if reason and vectorize is True:
            raise ValueError(f"vectorize=True is not possible: {reason}")
        return not reason

    def _fingerprint(self) -> str:
        """Hash of everything besides the trial that changes a run's result."""
        from joblib import hash as content_hash

        job = self.job
        digest = hashlib.blake2b(digest_size=16)
        update_hash(digest, (self.spec.flatten(self.model), *task_tensors(job.task)))
        functions = [identity(f) for f in (job.fit_fn, job.score_fn) if f is not None]
        parts = (repr(self.model), self.spec.layout_hash, job.recipe, job.projection, job.scale, job.score_on)
        if self.fixed:
            groups = group_tensors(job.said, self.spec.names) if job.said else ()
            parts += (groups, job.train_directly)  # type: ignore[assignment]
        digest.update(repr((parts, functions)).encode())
        if job.fit_fn is not None:
            digest.update(content_hash(as_arrays((job.train, job.val))).encode())
        return digest.hexdigest()

    def stretch(self, d: int) -> float:
        """Return the factor of the learning rate with d trained numbers, ``fixed`` among them."""
        return rate_factor(self.job.scale, self.D - self.n_direct, d - self.fixed)

    def key(self, trial: Trial, early_stop_score: float | None) -> tuple[object, ...]:
        """What identifies a run in the store."""
        return (trial.d, trial.seed, trial.lr, early_stop_score, self.config)

    def run(
        self,
        trials: Sequence[Trial],
        on_trained: Callable[[int, Trained, bool], None],
        *,
        deadline: float | None = None,
        early_stop_score: float | None = None,
        progress: Callable[[float, str], Any] | None = None,
    ) -> None:
        """Carry trials out, reporting each as it ends; what the deadline cuts off is not reported.

        ``on_trained(index, trained, cached)`` hears of each, a run that failed having a NaN score and its traceback.
        Runs in a subspace end as soon as they reach ``early_stop_score``; the deadline is a value of
        ``time.monotonic()``; ``progress(done, text)`` hears the share of this call that is done.
        """
        if self.vectorized:
            self._as_one(trials, on_trained, deadline, early_stop_score, progress)
        else:
            self._as_jobs(trials, on_trained, deadline, early_stop_score, progress)

    def _as_jobs(
        self,
        trials: Sequence[Trial],
        on_trained: Callable[[int, Trained, bool], None],
        deadline: float | None,
        early_stop_score: float | None,
        progress: Callable[[float, str], Any] | None,
    ) -> None:
        wall = None if deadline is None else time.time() + deadline - time.monotonic()
        job = replace(self.job, early_stop_score=early_stop_score, wall_deadline=wall)
        ended = 0

        def report(index: int, outcome: Outcome[Trained]) -> None:
            nonlocal ended
            ended += 1
            if progress is not None:
                progress(ended / len(trials), f"{ended} of {len(trials)} runs")
            if outcome.error is None:
                assert outcome.value is not None
                on_trained(index, outcome.value, outcome.cached)
            elif DeadlinePassedError.__name__ not in outcome.error:
                on_trained(index, self._failed(trials[index], outcome.error), False)

        run_jobs(
            job,
            trials,
            n_jobs=self.n_jobs,
            ray=self.ray,
            store=self.store,
            key=lambda trial: self.key(trial, early_stop_score),
            on_done=report,
        )

    def _failed(self, trial: Trial, error: str) -> Trained:
        nan, d = math.nan, self.D if trial.d is None else trial.d
        record = RunRecord(d, trial.seed, nan, nan, 0, trial.lr, trial.multiplier, 0.0, "failed")
        return Trained(record, error=error)

    def _as_one(
        self,
        trials: Sequence[Trial],
        on_trained: Callable[[int, Trained, bool], None],
        deadline: float | None,
        early_stop_score: float | None,
        progress: Callable[[float, str], Any] | None,
    ) -> None:
        lacking = []
        for index, trial in enumerate(trials):
            found = None if self.store is None else self.store.get(self.key(trial, early_stop_score))
            if found is None or found.value is None:
                lacking.append(index)
            else:
                on_trained(index, found.value, True)

        def report(position: int, result: FitResult, v: Tensor) -> None:
            if result.stopped == "deadline":
                return
            trial = trials[lacking[position]]
            record = _record(trial, result, self.D if trial.d is None else trial.d)
            weights = self.spec.unflatten(replicas[position].theta0 + v) if trial.d is None else {}
            kept = {name: w.detach().cpu().numpy().copy() for name, w in weights.items()}
            trained = Trained(record, None if trial.d is None else v.detach().cpu().numpy().copy(), kept)
            if self.store is not None:
                self.store.put(self.key(trial, early_stop_score), trained)
            on_trained(lacking[position], trained, False)

        if lacking:
            assert self.job.task is not None
            replicas = self._replicas([trials[index] for index in lacking])
            fit_replicas(
                self.model.to(self.job.task.device),
                self.spec,
                replicas,
                self.job.task,
                self.job.recipe,
                early_stop_score=early_stop_score,
                deadline=deadline,
                score_on=self.job.score_on,
                progress=progress,
                callback=report,
            )

    def _replicas(self, trials: Sequence[Trial]) -> list[Replica]:
        assert self.job.task is not None
        device, job = self.job.task.device, self.job
        origins = {
            s: self.spec.flatten(build_seeded(job.make_model, s)).to(device) for s in {t.seed for t in trials}
        }
        replicas = []
        for t in trials:
            theta0 = origins[t.seed]
            P = None
            if t.d is not None:
                build = partial(
                    make_projection, job.projection, self.D, seed=t.seed, scale=job.scale, device=device
                )
                P = structured_projection(job.said, 1.0, self.spec, t.d, build)
            v0 = torch.zeros(self.D if t.d is None else t.d, dtype=theta0.dtype, device=device)
            replicas.append(Replica(theta0, P, v0, t.lr, t.seed))
        return replicas

    def rebuild(self, trained: Trained) -> Any:
        """Return the trained module of a run: a SubspaceModule, or the network itself where all of it was trained."""
        record, d = trained.record, None if trained.v is None else trained.record.d
        module = network = self.job.module(Trial(d, record.seed, record.lr))
        with torch.no_grad():
            if isinstance(module, SubspaceModule):
                network = _base(module)
                module.theta_d.copy_(torch.as_tensor(trained.v))
            for name, value in trained.buffers.items():
                kept_outside(network)[name].copy_(torch.as_tensor(value))
        return module
