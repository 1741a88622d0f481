r"""How to train (:class:`Recipe`), the schedule of the learning rate, and what came of it (:class:`FitResult`).

The schedule is a pure function of the step, so that every way of training (one module, many replicas, a resumed run)
follows the same one. One-cycle (L. N. Smith, arXiv 1708.07120), in torch's parametrisation: a half-cosine from
:math:`\eta/25` up to :math:`\eta` over the first 30 % of the steps and one down to :math:`\eta / 250000` over the rest,
while the momentum (Adam's :math:`\beta_1`) goes 0.95, 0.85, 0.95.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from lodim.results import Result
from lodim.validation import check_choice, check_in_range

__all__ = ["EpochRecord", "FitResult", "Recipe", "Watch", "schedule_at"]

MOMENTUM = 0.9
ADAM_BETA2, ADAM_EPS = 0.999, 1e-8
_START, _END, _RISE = 1 / 25, 1 / 25 / 1e4, 0.3
_MOMENTUM_HIGH, _MOMENTUM_LOW = 0.95, 0.85


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
        check_choice(self.schedule, ("onecycle", "cosine", "constant"), "schedule")
        check_in_range(self.weight_decay, "weight_decay", low=0.0)
        check_choice(self.penalty, ("theta", "v"), "penalty")
        if self.grad_clip is not None and check_in_range(self.grad_clip, "grad_clip", low=0.0) == 0:
            raise ValueError("grad_clip must be positive; None switches clipping off")
        if self.patience is not None:
            check_in_range(self.patience, "patience", low=1, integer=True)

    def n_steps(self, n_samples: int) -> int:
        """Number of steps in the whole budget.

        Parameters
        ----------
        n_samples : int
            Size of the training set.
        """
        return int(self.epochs) * math.ceil(n_samples / self.batch_size)


def schedule_at(schedule: str, step: int, total: int) -> tuple[float, float]:
    """Return the factor of the learning rate and the momentum (Adam's beta1) at a step.

    Parameters
    ----------
    schedule : {"onecycle", "cosine", "constant"}
    step : int
        From 0.
    total : int
        Steps in the whole budget.

    Returns
    -------
    factor, momentum : float
    """
    check_choice(schedule, ("onecycle", "cosine", "constant"), "schedule")
    if schedule == "constant":
        return 1.0, MOMENTUM
    if schedule == "cosine":
        return _half_cosine(1.0, 0.0, step / total), MOMENTUM
    top = _RISE * total - 1  # the step at which the rate is highest
    if top > 0 and step <= top:
        share = step / top
        return _half_cosine(_START, 1.0, share), _half_cosine(_MOMENTUM_HIGH, _MOMENTUM_LOW, share)
    top = max(top, 0.0)
    share = (step - top) / max(total - 1 - top, 1.0)
    return _half_cosine(1.0, _END, share), _half_cosine(_MOMENTUM_LOW, _MOMENTUM_HIGH, share)


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


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
        """Draw loss and score over the epochs, and return the axes.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        """
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
            f"in {self.seconds:.1f} s, stopped by {self.stopped}"
        )


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
