"""How to train (:class:`Recipe`, :class:`DescentRecipe`), and what came of it (:class:`FitResult`,
:class:`DescentResult`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from lodim.results import Result
from lodim.training.schedules import SCHEDULES, Plateau, Schedule, schedule_at
from lodim.validation import check_choice, check_in_range, checked

__all__ = ["DescentRecipe", "DescentResult", "EpochRecord", "FitResult", "Recipe", "Watch", "schedule_at"]

ADAM_BETA2, ADAM_EPS = 0.999, 1e-8
_LARGEST = 3e38


@checked
@dataclass(frozen=True)
class Recipe:
    """How to train, apart from the learning rate and the seed.

    Attributes
    ----------
    epochs : int
        Passes over the training set.
    batch_size : int
        The last batch of an epoch may be smaller.
    optimizer : {"adam", "sgd"}
        SGD has momentum 0.9.
    schedule : {"onecycle", "cosine", "constant"}
        Of the learning rate, per step; see :func:`schedule_at`.
    weight_decay : float
        Coefficient w of the penalty ``w/2 ||.||^2`` added to the loss.
    penalty : {"theta", "v"}
        What the penalty acts on when weights are produced from fewer numbers: the weights, or those numbers.
        Directly trained weights are penalised themselves in both cases.
    grad_clip : float, optional
        Largest Euclidean norm of the gradient of a run's trained numbers.
    patience : int, optional
        Stop after this many epochs without a better score, and return to the best.
    """

    epochs: int = 30
    batch_size: int = 128
    optimizer: str = "adam"
    schedule: str = "onecycle"
    weight_decay: float = 0.0
    penalty: str = "theta"
    grad_clip: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        check_in_range(self.epochs, "epochs", low=1, integer=True)
        check_in_range(self.batch_size, "batch_size", low=1, integer=True)
        check_choice(self.optimizer, ("adam", "sgd"), "optimizer")
        check_choice(self.schedule, SCHEDULES, "schedule")
        check_in_range(self.weight_decay, "weight_decay", low=0.0)
        check_choice(self.penalty, ("theta", "v"), "penalty")
        if self.grad_clip is not None and check_in_range(self.grad_clip, "grad_clip", low=0.0) == 0:
            raise ValueError("grad_clip must be positive; None switches clipping off")
        if self.patience is not None:
            check_in_range(self.patience, "patience", low=1, integer=True)

    def n_steps(self, n_samples: int) -> int:
        """Number of steps in the whole budget, for a training set of that size."""
        return int(self.epochs) * math.ceil(n_samples / self.batch_size)


@checked
@dataclass(frozen=True)
class DescentRecipe:
    """How to descend; what a checkpoint must agree with.

    Attributes
    ----------
    steps, epochs : int
        One of them: steps in all, or epochs in all.
    lr : float
        Highest learning rate. A parameter group with an ``lr`` (or ``share``) of its own moves in proportion.
    batch_size : int
        Of tensors and data sets; loaders have their own.
    optimizer : {"adam", "sgd"} or callable
        SGD has momentum 0.9. A callable makes one of groups and a rate, as torch's classes do:
        ``functools.partial(torch.optim.AdamW, weight_decay=0.1)``.
    schedule : {"constant", "cosine", "onecycle", "plateau"}, Plateau or callable
        See :func:`schedule_at`. A callable turns a step (from 0, after the warm-up) into a share of the rate.
    warmup : int
        Steps over which the rate first rises linearly.
    grad_clip : float, optional
        Largest Euclidean norm of a player's gradient.
    autocast : torch.dtype, optional
        ``torch.bfloat16`` computes the loss in mixed precision.
    patience : int, optional
        Stop after this many epochs without a better score, and return to the best.
    epoch_steps : int, optional
        Length of an epoch: how often scores are taken, callbacks called and checkpoints written. A pass over the data
        unless given; a hundredth of ``steps`` where passes have no end, or none that is known beforehand.
    skip_nonfinite : bool
        Leave out steps whose loss or gradient is not finite, and give up after 20 in a row. Looking costs a
        synchronisation with the device in every step, and sparse gradients cannot be looked at. What the forward has
        changed (running statistics) stays changed.
    """

    steps: int | None = None
    epochs: int | None = None
    lr: float | int = 1e-3
    batch_size: int = 128
    optimizer: str | Callable[..., torch.optim.Optimizer] = "adam"
    schedule: Schedule = "constant"
    warmup: int = 0
    grad_clip: float | int | None = None
    autocast: torch.dtype | None = None
    patience: int | None = None
    epoch_steps: int | None = None
    skip_nonfinite: bool = True

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(
                f"give steps or epochs, one of them; got steps={self.steps}, epochs={self.epochs}"
            )
        check_lr(self.lr)
        for name, low in {
            "steps": 0,
            "epochs": 1,
            "batch_size": 1,
            "warmup": 0,
            "patience": 1,
            "epoch_steps": 1,
        }.items():
            if getattr(self, name) is not None:
                check_in_range(getattr(self, name), name, low=low, integer=True)
        check_optimizer(self.optimizer)
        if not callable(self.schedule) and not isinstance(self.schedule, Plateau):
            check_choice(self.schedule, (*SCHEDULES, "plateau"), "schedule")
        if self.schedule == "onecycle" and self.warmup:
            raise ValueError('the schedule "onecycle" rises by itself; leave warmup at 0')
        if self.grad_clip is not None and check_in_range(self.grad_clip, "grad_clip", low=0.0) == 0:
            raise ValueError("grad_clip must be positive; None switches clipping off")
        check_autocast(self.autocast)


def check_lr(lr: float | int) -> float:
    """Return a learning rate that one can train with."""
    if not 0 < check_in_range(lr, "lr", low=0.0) < _LARGEST:
        raise ValueError(f"lr must be positive and finite in single precision, got {lr}")
    return float(lr)


def check_optimizer(make: Any) -> None:
    """Refuse what is neither a name nor makes an optimiser."""
    if isinstance(make, torch.optim.Optimizer):
        raise TypeError(
            "optimizer must be what makes one, e.g. torch.optim.AdamW without parameters, not an instance"
        )
    if not callable(make):
        check_choice(make, ("adam", "sgd"), "optimizer")


def ended(stopped: str) -> str:
    """Return what a result says of an end that was not the planned one."""
    return "" if stopped == "budget" else f", stopped by {stopped}"


def check_autocast(dtype: torch.dtype | None) -> None:
    """Refuse precisions that need their losses scaled."""
    if dtype not in (None, torch.bfloat16):
        raise ValueError(f"autocast must be None or torch.bfloat16 (no loss scaling is done), got {dtype}")


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: its number (from 1), mean training loss, and score if it was taken (else NaN)."""

    epoch: int
    loss: float
    score: float


@dataclass(frozen=True)
class FitResult(Result):
    """What became of one training run.

    Attributes
    ----------
    score : float
        On the set asked for (``score_on``): accuracy or R^2. NaN if the run diverged.
    train_score : float
        On the training set.
    loss : float
        Mean training loss of the last epoch, without penalty.
    steps : int
        Steps of the optimiser taken.
    lr : float
        Highest learning rate.
    seconds : float
        Wall time; a replica's share of it in a vectorised run.
    stopped : {"budget", "early_stop", "patience", "deadline", "diverged"}
    history : tuple of EpochRecord
    """

    score: float
    train_score: float
    loss: float
    steps: int
    lr: float
    seconds: float
    stopped: str
    history: tuple[EpochRecord, ...] = ()

    def to_frame(self) -> Any:
        """Return the history as a data frame: epoch, loss, score."""
        import pandas as pd

        return pd.DataFrame([vars(record) for record in self.history], columns=["epoch", "loss", "score"])

    def plot(self, ax: Any = None) -> Any:
        """Draw loss and score over the epochs, and return the axes."""
        from lodim.plots import COLORS, new_axes

        ax, frame = new_axes(ax), self.to_frame()
        ax.plot(frame.epoch, frame.loss, color=COLORS[0], label="training loss")
        scored = frame.dropna(subset="score")
        if len(scored):
            ax.plot(scored.epoch, scored.score, color=COLORS[1], label="score")
        ax.set(xlabel="epoch")
        ax.legend()
        return ax

    def __str__(self) -> str:
        return (
            f"score {self.score:.4f} (training {self.train_score:.4f}) after {self.steps} steps at lr {self.lr:.3g} "
            f"in {self.seconds:.1f} s{ended(self.stopped)}"
        )


@dataclass(frozen=True)
class DescentResult(Result):
    """What became of one descent.

    Attributes
    ----------
    losses : ndarray, shape (steps, players)
        Of every step; NaN where a player did not move, or the loss was not finite.
    steps : int
        Skipped ones are counted.
    skipped : int
        Steps in which a player did not move since its loss or gradient was not finite.
    seconds : float
        Wall time, that before a resumption included.
    stopped : {"budget", "early_stop", "patience", "exhausted", "diverged", "deadline", "callback", "interrupted"}
        "exhausted": the data came to an end that does not begin again. After the last three a checkpoint goes on.
    history : tuple of EpochRecord
        Mean loss of the first player, and the score.
    """

    losses: Float[np.ndarray, "steps players"]
    steps: int
    skipped: int
    seconds: float
    stopped: str
    history: tuple[EpochRecord, ...] = ()

    @property
    def loss(self) -> float:
        """The first player's mean loss of the last epoch, NaN if none was finished."""
        return self.history[-1].loss if self.history else math.nan

    def to_frame(self) -> Any:
        """Return the losses as a data frame: step, and a column a player."""
        import pandas as pd

        names = [f"loss {i}" for i in range(self.losses.shape[1])] if self.losses.shape[1] > 1 else ["loss"]
        return pd.DataFrame(self.losses, columns=names).rename_axis("step").reset_index()

    def plot(self, ax: Any = None) -> Any:
        """Draw the losses over the steps, and return the axes."""
        from lodim.plots import COLORS, new_axes

        ax = new_axes(ax)
        for i, name in enumerate(self.to_frame().columns[1:]):
            ax.plot(self.losses[:, i], color=COLORS[i % len(COLORS)], label=name)
        ax.set(xlabel="step", ylabel="loss")
        ax.legend()
        return ax

    def __str__(self) -> str:
        skipped = f", {self.skipped} of them skipped" if self.skipped else ""
        steps = f"{self.steps} steps{skipped} in {self.seconds:.1f} s"
        return f"loss {self.loss:.4g} after {steps}{ended(self.stopped)}"


@dataclass
class Watch:
    """Follows one run from epoch to epoch and says when to stop, and why."""

    patience: int | None
    early_stop_score: float | None
    history: list[EpochRecord] = field(default_factory=list)
    best: float = -math.inf
    since_best: int = 0

    @property
    def wants_score(self) -> bool:
        """Whether the score must be taken after every epoch."""
        return self.patience is not None or self.early_stop_score is not None

    def after_epoch(self, loss: float, score: float = math.nan) -> str | None:
        """Note an epoch; return the reason to stop, or None to go on."""
        self.history.append(EpochRecord(len(self.history) + 1, loss, score))
        if not math.isfinite(loss):
            return "diverged"
        if self.early_stop_score is not None and score >= self.early_stop_score:
            return "early_stop"
        improved = score > self.best
        self.since_best = 0 if improved else self.since_best + 1
        self.best = score if improved else self.best
        if self.patience is not None and self.since_best >= self.patience:
            return "patience"
        return None
