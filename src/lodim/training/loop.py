"""Training one module: :func:`fit`.

One plain loop with minibatches, a scheduled rate, and reasons to stop. The order of the data and every random draw in
the module's forward (dropout) follow from the seed, so a run that was interrupted and resumed from its checkpoint
ends with the same bits as one that was not.
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.randomness import derive_seed
from lodim.training.order import epoch_order
from lodim.training.recipe import ADAM_BETA2, ADAM_EPS, EpochRecord, FitResult, Recipe, Watch, schedule_at
from lodim.training.task import Task
from lodim.training.threads import threads_for
from lodim.validation import ConvergenceWarning, check_choice, check_in_range, warn

__all__ = ["Progress", "fit", "fit_rng"]

Progress = Callable[[float, str], Any]
_EVALUATION_BATCH = 2048


def fit(
    model: nn.Module,
    task: Task,
    recipe: Recipe = Recipe(),  # noqa: B008 (frozen)
    *,
    lr: float,
    seed: int = 0,
    early_stop_score: float | None = None,
    deadline: float | None = None,
    score_on: str = "val",
    progress: Progress | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    autocast: torch.dtype | None = None,
    record_scores: bool = False,
    on_step: Callable[[], Any] | None = None,
) -> FitResult:
    """Train a module's parameters in place.

    Parameters
    ----------
    model : nn.Module
        Its parameters that require a gradient are trained; the data follow it to its device.
    task : Task
    recipe : Recipe
    lr : float
        Highest learning rate, of all trained parameters; where a module has groups with rates of their own
        (``module.param_groups(1.0)``), of the first group, the others in proportion.
    seed : int
        Of the order of the data and of random layers.
    early_stop_score : float, optional
        The run ends after the first epoch whose score reaches it.
    deadline : float, optional
        A value of ``time.monotonic()``; the run ends before the first step past it.
    score_on : {"val", "train"}
        Which set the score is taken on.
    progress : callable, optional
        ``progress(done, text)`` after every epoch, ``done`` in [0, 1].
    checkpoint : path, optional
        Written after every epoch. If it exists, the run goes on from it, and ends with the same bits. It is a file
        of tensors and plain data; delete it to start again.
    autocast : torch.dtype, optional
        ``torch.bfloat16`` computes the forward in mixed precision.
    record_scores : bool
        Take the score after every epoch even if nothing depends on it.
    on_step : callable, optional
        Called without arguments after every step of the optimiser. What it keeps survives in a checkpoint only where
        it is part of the module's ``state_dict``.

    Returns
    -------
    FitResult

    Raises
    ------
    ValueError
        Nothing to train, a checkpoint of another run, or arguments out of range.
    """
    check_choice(score_on, ("val", "train"), "score_on")
    if not check_in_range(lr, "lr", low=0.0) > 0 or math.isinf(lr):
        raise ValueError(f"lr must be positive and finite, got {lr}")
    if autocast not in (None, torch.bfloat16):
        raise ValueError(f"autocast must be None or torch.bfloat16 (no loss scaling is done), got {autocast}")
    run = _Run.start(model, task, recipe, float(lr), int(seed), autocast)
    run.on_step = on_step
    watch = run.watch = Watch(recipe.patience, early_stop_score)
    was_training, path = model.training, None if checkpoint is None else Path(checkpoint)
    with fit_rng(seed, run.device), threads_for(sum(p.numel() for p in model.parameters()), run.device):
        try:
            if path is not None and path.exists():
                run.load(path)
            while run.stopped is None:
                loss = run.one_epoch(deadline)
                if run.stopped is None:
                    scored = watch.wants_score or record_scores
                    score = run.score(score_on) if scored and math.isfinite(loss) else math.nan
                    run.close_epoch(loss, score)
                    if path is not None:
                        run.save(path)
                if progress is not None:
                    progress(run.share_done, f"epoch {run.epoch}, loss {loss:.4g}")
            return run.result(score_on)
        finally:
            model.train(was_training)


@dataclass
class _Run:
    """The state of one run between epochs."""

    model: nn.Module
    task: Task
    recipe: Recipe
    lr: float
    seed: int
    autocast: torch.dtype | None
    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    device: torch.device
    watch: Watch = field(default_factory=lambda: Watch(None, None))
    on_step: Callable[[], Any] | None = None
    epoch: int = 0
    steps: int = 0
    stopped: str | None = None
    best_state: dict[str, Any] | None = None
    earlier_seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def start(
        cls, model: nn.Module, task: Task, recipe: Recipe, lr: float, seed: int, autocast: torch.dtype | None
    ) -> _Run:
        parameters = [p for p in model.parameters() if p.requires_grad]
        if not parameters:
            raise ValueError("the model has no parameter that requires a gradient: nothing to train")
        device, dtype = parameters[0].device, parameters[0].dtype
        optimizer = _make_optimizer(recipe.optimizer, _groups(model, parameters), lr)
        return cls(model, task.to(device, dtype), recipe, lr, seed, autocast, parameters, optimizer, device)

    @property
    def share_done(self) -> float:
        return 1.0 if self.stopped else self.epoch / self.recipe.epochs

    def _outputs(self, x: Tensor) -> Tensor:
        if self.autocast is None:
            return self.model(x)
        with torch.autocast(self.device.type, dtype=self.autocast):
            return self.model(x).float()

    def one_epoch(self, deadline: float | None) -> float:
        """Pass once over the data; return the mean loss. Sets ``stopped`` at the deadline."""
        self.model.train()
        task, size = self.task, self.recipe.batch_size
        order = epoch_order(task.n_train, self.seed, self.epoch).to(self.device)
        total, seen = torch.zeros((), dtype=torch.float64, device=self.device), 0
        for indices in order.split(size):
            if deadline is not None and time.monotonic() >= deadline:
                self.stopped = "deadline"
                break
            total += self._step(task.X[indices], task.y[indices]).double() * len(indices)
            seen += len(indices)
        return float(total) / seen if seen else math.nan

    def _step(self, x: Tensor, y: Tensor) -> Float[Tensor, ""]:
        recipe = self.recipe
        factor, momentum = schedule_at(recipe.schedule, self.steps, recipe.n_steps(self.task.n_train))
        _set_rate(self.optimizer, self.lr * factor, momentum)
        self.optimizer.zero_grad(set_to_none=True)
        data_loss = loss = self.task.loss(self._outputs(x), y)
        if recipe.weight_decay:
            loss = loss + recipe.weight_decay / 2 * _squared_norm(self.model, self.parameters, recipe.penalty)
        loss.backward()
        if recipe.grad_clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, recipe.grad_clip)
        self.optimizer.step()
        if self.on_step is not None:
            self.on_step()
        self.steps += 1
        return data_loss.detach()

    def close_epoch(self, loss: float, score: float) -> None:
        self.epoch += 1
        before = self.watch.best
        self.stopped = self.watch.after_epoch(loss, score)
        if self.recipe.patience is not None and self.watch.best > before:
            self.best_state = copy.deepcopy(self.model.state_dict())
        if self.stopped is None and self.epoch == self.recipe.epochs:
            self.stopped = "budget"

    @torch.no_grad()
    def score(self, which: str) -> float:
        self.model.eval()
        task = self.task
        X, y = (task.X, task.y) if which == "train" else (task.X_val, task.y_val)
        output = torch.cat([self._outputs(part) for part in X.split(_EVALUATION_BATCH)])
        return float(task.score(output, y))

    def result(self, score_on: str) -> FitResult:
        assert self.stopped is not None
        if self.best_state is not None and self.stopped in ("patience", "budget", "deadline"):
            self.model.load_state_dict(self.best_state)
        history = tuple(self.watch.history)
        loss = history[-1].loss if history else math.nan
        train = math.nan if self.stopped == "diverged" else self.score("train")
        score = train if score_on == "train" or self.stopped == "diverged" else self.score("val")
        stopped = self.stopped if math.isfinite(train) else "diverged"
        if stopped == "diverged":
            warn(
                f"training diverged in epoch {self.epoch} at lr={self.lr:.3g}; use a smaller learning rate",
                ConvergenceWarning,
                stacklevel=4,
            )
        seconds = self.earlier_seconds + time.monotonic() - self.started
        return FitResult(score, train, loss, self.steps, self.lr, seconds, stopped, history)

    def _key(self) -> str:
        """What must agree for a checkpoint to belong to this run."""
        task = self.task
        sums = [float(t.double().sum()) for t in (task.X, task.y)]
        parts = (asdict(self.recipe), self.lr, self.seed, str(self.autocast), tuple(task.X.shape), sums)
        return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()

    def save(self, path: Path) -> None:
        """Write the checkpoint so that a kill leaves the former one or the new one, never half of one."""
        content = {
            "key": self._key(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "steps": self.steps,
            "stopped": self.stopped,
            "history": [vars(record) for record in self.watch.history],
            "best": self.watch.best,
            "since_best": self.watch.since_best,
            "best_state": self.best_state,
            "rng": torch.get_rng_state(),
            "rng_device": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "seconds": self.earlier_seconds + time.monotonic() - self.started,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                torch.save(content, file)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)

    def load(self, path: Path) -> None:
        content = torch.load(path, map_location=self.device, weights_only=True)
        if content["key"] != self._key():
            raise ValueError(
                f"the checkpoint {path.name} belongs to another run (recipe, lr, seed or data differ); delete it or "
                "give another path"
            )
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.epoch, self.steps, self.stopped = content["epoch"], content["steps"], content["stopped"]
        self.watch.history = [EpochRecord(**record) for record in content["history"]]
        self.watch.best, self.watch.since_best = content["best"], content["since_best"]
        self.best_state, self.earlier_seconds = content["best_state"], content["seconds"]
        torch.set_rng_state(content["rng"].cpu())
        if content["rng_device"] is not None:
            torch.cuda.set_rng_state(content["rng_device"].cpu(), self.device)


@contextmanager
def fit_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Run a block with torch's generators (CPU's and the device's) seeded, and restore them afterwards.

    Parameters
    ----------
    seed : int
    device : torch.device
    """
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        key = derive_seed(int(seed), "layers")
        torch.random.default_generator.manual_seed(key)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(key)
        yield


def _groups(model: nn.Module, parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    """Groups with their share of the rate: a model's own (``param_groups``), the first of which has the rate itself."""
    own: Any = getattr(model, "param_groups", None)
    if own is None:
        return [{"params": parameters, "share": 1.0}]
    groups = own(1.0)
    return [{"params": g["params"], "share": g["lr"] / groups[0]["lr"]} for g in groups]


def _make_optimizer(name: str, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    fused = all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])
    if name == "adam":
        return torch.optim.Adam(groups, lr=lr, betas=(0.9, ADAM_BETA2), eps=ADAM_EPS, fused=fused)
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, fused=fused)


def _set_rate(optimizer: torch.optim.Optimizer, lr: float, momentum: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * group["share"]
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum


def _squared_norm(model: nn.Module, parameters: list[nn.Parameter], penalty: str) -> Float[Tensor, ""]:
    """Of the weights, or of the numbers they are produced from where the model has such (``l2_penalty``)."""
    own: Any = getattr(model, "l2_penalty", None)
    if own is not None:
        return own(penalty)
    return torch.stack([p.square().sum() for p in parameters]).sum()
