"""Training runs in random subspaces, one at a time or many as one: what a sweep over d is made of.

A :class:`Trial` says everything about a run: the number of trained dimensions, one seed for the initial weights, the
subspace and the order of the data, and the learning rate. :class:`Trainer` carries trials out in groups: trials that
are trained as one, or a single trial each. Which trials form a group follows from the model and the trials alone;
groups run in this process, in local processes or on Ray, with the same results to the bit, as long as each process
computes with as many threads. Finished groups go to a store, if one is given, and are never run twice: an answer read
from there is that of a fresh run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from lodim.identity import UnidentifiableError, content_hash
from lodim.landscape.objective_landscapes.bases import (
    direct_size,
    fixed_numbers,
    kept_outside,
    rate_factor,
    refuse_shared,
    structured_projection,
    to_array,
)
from lodim.landscape.objective_landscapes.module import SubspaceModule
from lodim.landscape.objective_landscapes.options import RunOptions
from lodim.landscape.objective_landscapes.result import RunRecord
from lodim.landscape.objective_landscapes.structure import Grouping
from lodim.nets import FlatSpec, flat_spec
from lodim.parallel import Outcome, ResultStore, run_jobs
from lodim.randomness import build_seeded
from lodim.sketch import make_projection
from lodim.training import FitResult, Recipe, Replica, Task, can_vectorize, fit, fit_replicas
from lodim.training.descent import Progress
from lodim.training.replicas import replicas_at_once
from lodim.training.threads import SMALL, threads_for

__all__ = ["Setup", "Trained", "Trainer", "Trial", "content_of"]


def content_of(**parts: Any) -> str:
    """Return one hash of the named parts that stored runs are made from; TypeError naming one that has none."""
    found = {}
    for name, part in parts.items():
        try:
            found[name] = content_hash(part)
        except UnidentifiableError as error:
            raise TypeError(
                f"cache_dir keeps runs under what they are made from, but {name} cannot be told: {error}; give "
                f"another {name}, or leave cache_dir out"
            ) from error
    return content_hash(found)


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


@dataclass(frozen=True, eq=False)
class Setup:
    """What all runs share; it makes the runs of a group of trials, here or in another process.

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
        first = next(model.parameters())
        with threads_for(sum(p.numel() for p in model.parameters()), first.device):
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

    def one(self, trials: Sequence[Trial]) -> list[Trained | None]:
        """Make the run of a trial, the only one in its group; None if the deadline cut it off."""
        (trial,) = trials
        module, started = self.module(trial), time.monotonic()
        if self.fit_fn is None:
            assert self.task is not None
            result = fit(
                module,
                self.task,
                self.recipe,
                lr=trial.lr,
                random_state=trial.seed,
                early_stop_score=self.early_stop_score,
                deadline=self._deadline(started),
                score_on=self.score_on,
            )
            if result.stopped == "deadline":
                return [None]
            record = _record(trial, result, _trained_size(module))
        else:
            record = self._by_user(module, trial, started)
        v = to_array(module.theta_d) if isinstance(module, SubspaceModule) else None
        kept = kept_outside(_base(module) if isinstance(module, SubspaceModule) else module)
        return [Trained(record, v, {name: to_array(b) for name, b in kept.items()})]

    def together(self, trials: Sequence[Trial], progress: Progress | None = None) -> list[Trained | None]:
        """Make the runs of a group as one vectorised run; None for those that the deadline cut off."""
        assert self.task is not None
        device = self.task.device
        model = build_seeded(self.make_model, 0).to(device)
        spec = flat_spec(model)
        found: list[Trained | None] = []
        with threads_for(spec.numel, device):
            replicas = [self._replica(trial, spec) for trial in trials]
            results = fit_replicas(
                model,
                spec,
                replicas,
                self.task,
                self.recipe,
                early_stop_score=self.early_stop_score,
                deadline=self._deadline(time.monotonic()),
                score_on=self.score_on,
                progress=progress,
                chunk_size=len(trials),
            )
        for trial, replica, (result, v) in zip(trials, replicas, results, strict=True):
            record = _record(trial, result, spec.numel if trial.d is None else trial.d)
            weights = spec.unflatten(replica.theta0 + v) if trial.d is None else {}
            kept = {name: to_array(w) for name, w in weights.items()}
            trained = Trained(record, None if trial.d is None else to_array(v), kept)
            found.append(None if result.stopped == "deadline" else trained)
        return found

    def _replica(self, trial: Trial, spec: FlatSpec) -> Replica:
        assert self.task is not None
        device, P = self.task.device, None
        theta0 = spec.flatten(build_seeded(self.make_model, trial.seed)).to(device)
        if trial.d is not None:
            build = partial(
                make_projection,
                self.projection,
                spec.numel,
                seed=trial.seed,
                scale=self.scale,
                device=device,
            )
            P = structured_projection(self.said, 1.0, spec, trial.d, build)
        v0 = torch.zeros(spec.numel if trial.d is None else trial.d, dtype=theta0.dtype, device=device)
        return Replica(theta0, P, v0, trial.lr, trial.seed)

    def _deadline(self, now: float) -> float | None:
        """The deadline on this machine's clock of ``time.monotonic()``, which says ``now``."""
        return None if self.wall_deadline is None else now + self.wall_deadline - time.time()

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


class _WholeGroups(ResultStore):
    """Keeps the groups that no deadline cut."""

    def keep(self, digest: str, value: Any) -> None:
        if None not in value:
            super().keep(digest, value)


class Trainer:
    """Carries trials out, as ``run`` says.

    Of the model's D trainable numbers, ``n_direct`` are trained as they are; ``fixed``, with the factors of
    ``said``, are no directions. ``as_one``: whether many trials could be trained as one, which decides how many are
    asked for at a time; ``vectorized``: whether they are.
    """

    def __init__(self, job: Setup, run: RunOptions):
        self.job = job
        self.model = build_seeded(job.make_model, 0)
        refuse_shared(self.model, build_seeded(job.make_model, 0))
        self.spec = flat_spec(self.model)
        self.D = self.spec.numel
        self.n_direct, self.fixed = fixed_numbers(self.model, self.spec, job.train_directly, job.said)
        self.n_jobs, self.ray = run.n_jobs, run.ray
        reason = self._why_one_by_one()
        if reason and run.vectorize is True:
            raise ValueError(f"vectorize=True is not possible: {reason}")
        self.as_one = not reason
        self.vectorized = self.as_one and run.vectorize is not False
        self.most_groups = 0  # of one call
        self.store = None if run.cache_dir is None else _WholeGroups(run.cache_dir)
        self.content = "" if self.store is None else self._content()

    def _why_one_by_one(self) -> str:
        if self.job.fit_fn is not None:
            return "a fit_fn of your own trains one module at a time"
        if self.n_direct:
            return "replicas hold no parameters outside the subspace (train_directly)"
        answer = can_vectorize(self.model)
        return "" if answer else answer.reason

    def _content(self) -> str:
        """Hash of everything besides the trials that changes a run's result."""
        own = {f.name: getattr(self.job, f.name) for f in fields(self.job)}
        device = None if self.job.task is None else self.job.task.device.type
        made = {"the model that make_model makes": self.model, "device": device, "vectorize": self.vectorized}
        return content_of(**own, **made)

    def stretch(self, d: int) -> float:
        """Return the factor of the learning rate with d trained numbers, ``fixed`` among them."""
        return rate_factor(self.job.scale, self.D - self.n_direct, d - self.fixed)

    @property
    def remarks(self) -> list[str]:
        """What is to be known of runs that were made in other processes."""
        if self.n_jobs == 1 and self.ray is None:
            return []
        found, threads = [], torch.get_num_threads()
        if self.vectorized and self.most_groups == 1:
            found.append(
                "n_jobs and ray had nothing to spread: runs of this model are trained as one; vectorize=False spreads "
                "them one by one"
            )
        on_cpu = self.job.task is not None and self.job.task.device.type == "cpu"
        if self.most_groups > 1 and on_cpu and self.D > SMALL and threads > 1:
            found.append(
                f"other processes compute with one thread each and this one with {threads}, so the runs are those of "
                "n_jobs=1 up to rounding; torch.set_num_threads(1) makes them the same"
            )
        return found

    def _groups(self, trials: Sequence[Trial]) -> Iterator[list[int]]:
        """Indices of the trials that are trained as one, the same whoever trains them."""
        if not self.vectorized:
            yield from ([index] for index in range(len(trials)))
            return
        assert self.job.task is not None
        size = replicas_at_once(self.model, self.D, self.job.task.device)
        order = sorted(range(len(trials)), key=lambda i: (trials[i].d is None, trials[i].d or 0))
        yield from (order[start : start + size] for start in range(0, len(order), size))

    def run(
        self,
        trials: Sequence[Trial],
        on_trained: Callable[[int, Trained, bool], None],
        *,
        deadline: float | None = None,
        early_stop_score: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Carry trials out, reporting each as its group ends; what the deadline cuts off is not reported.

        ``on_trained(index, trained, cached)`` hears of each, a run that failed having a NaN score and its traceback.
        Runs in a subspace end as soon as they reach ``early_stop_score``; the deadline is a value of
        ``time.monotonic()``; ``progress(done, text)`` hears the share of this call that is done.
        """
        wall = None if deadline is None else time.time() + deadline - time.monotonic()
        job = replace(self.job, early_stop_score=early_stop_score, wall_deadline=wall)
        groups = list(self._groups(trials))
        self.most_groups = max(self.most_groups, len(groups))
        here, ended = self.ray is None and (self.n_jobs == 1 or len(groups) == 1), 0

        def report(position: int, outcome: Outcome[list[Trained | None]]) -> None:
            nonlocal ended
            group, runs = groups[position], outcome.value
            if runs is None:
                runs = [self._failed(trials[index], outcome.error or "") for index in group]
            ended += len(group)
            for index, trained in zip(group, runs, strict=True):
                if trained is not None:
                    on_trained(index, trained, outcome.cached)
            if progress is not None:
                progress(ended / len(trials), f"{ended} of {len(trials)} runs")

        def told(group: Sequence[Trial]) -> list[Trained | None]:
            """Train a group in this process, where every epoch can be told of."""
            before, share = ended / len(trials), len(group) / len(trials)
            tell = progress and (lambda done, text: progress(before + share * done, text))
            return job.together(group, tell)

        run_jobs(
            job.one if not self.vectorized else told if here else job.together,
            [tuple(trials[index] for index in group) for group in groups],
            n_jobs=1 if here else self.n_jobs,
            ray=self.ray,
            store=self.store,
            key=lambda group: content_hash(group, early_stop_score, self.content),
            on_done=report,
        )

    def _failed(self, trial: Trial, error: str) -> Trained:
        nan, d = math.nan, self.D if trial.d is None else trial.d
        record = RunRecord(d, trial.seed, nan, nan, 0, trial.lr, trial.multiplier, 0.0, "failed")
        return Trained(record, error=error)

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
