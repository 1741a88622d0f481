r"""The learning rate over a run: :func:`schedule_at`, warm-up, and :class:`Plateau`.

Apart from the plateau, which follows the loss, a schedule is a pure function of the step, so that every way of
training (one module, many replicas, a resumed run) follows the same one. One-cycle (L. N. Smith, arXiv 1708.07120), in
torch's parametrisation: a half-cosine from :math:`\eta/25` up to :math:`\eta` over the first 30 % of the steps and one
down to :math:`\eta / 250000` over the rest, while the momentum (Adam's :math:`\beta_1`) goes 0.95, 0.85, 0.95.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from lodim.validation import check_choice, check_in_range, checked

__all__ = ["SCHEDULES", "Plateau", "Rates", "Schedule", "schedule_at"]

SCHEDULES = ("onecycle", "cosine", "constant")
MOMENTUM = 0.9
_START, _END, _RISE = 1 / 25, 1 / 25 / 1e4, 0.3
_MOMENTUM_HIGH, _MOMENTUM_LOW = 0.95, 0.85


@checked
def schedule_at(schedule: str, step: int, total: int) -> tuple[float, float]:
    """Return the factor of the learning rate and the momentum (Adam's beta1) at a step, the first of ``total`` being 0.

    The schedule is ``"onecycle"``, ``"cosine"`` or ``"constant"``.
    """
    check_choice(schedule, SCHEDULES, "schedule")
    if schedule == "constant":
        return 1.0, MOMENTUM
    if total < 1:
        raise ValueError(f"total must be at least 1, got {total}")
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


@checked
@dataclass(frozen=True)
class Plateau:
    """Lower the rate where the loss no longer falls, as torch's ``ReduceLROnPlateau`` does.

    Attributes
    ----------
    factor : float
        What the rate is multiplied with.
    patience : int
        Epochs without a mean loss that is lower, by a ten-thousandth of its size, before that happens.
    floor : float
        Smallest share of the full rate.
    """

    factor: float = 0.1
    patience: int = 10
    floor: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 < check_in_range(self.factor, "factor") < 1:
            raise ValueError(f"factor must lie between 0 and 1, got {self.factor}")
        check_in_range(self.patience, "patience", low=0, integer=True)
        check_in_range(self.floor, "floor", low=0.0, high=1.0)


Schedule = str | Plateau | Callable[[int], float]


class Rates:
    """The rate of one run, step after step, as a share of its full rate.

    It rises linearly in ``warmup`` steps, before the schedule begins; ``total`` is None where nobody knows.
    """

    def __init__(self, schedule: Schedule, warmup: int, total: int | None) -> None:
        if schedule in ("onecycle", "cosine") and total is None:
            raise ValueError(
                f"the schedule {schedule!r} must know how many steps there will be, and these data do not say how "
                "many batches they have; give steps=, or epoch_steps="
            )
        schedule = Plateau() if schedule == "plateau" else schedule
        self.schedule, self.warmup, self.total = schedule, warmup, total
        self._plateau: Any = None
        if isinstance(schedule, Plateau):  # torch's rule, on an optimiser that moves nothing
            nothing = torch.optim.SGD([torch.zeros(())], lr=1.0)
            self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                nothing, factor=schedule.factor, patience=schedule.patience, min_lr=schedule.floor
            )

    def at(self, step: int) -> tuple[float, float | None]:
        """Return the share at a step, and the momentum where the schedule sets it."""
        if step < self.warmup:
            return (step + 1) / self.warmup, None
        if self._plateau is not None:
            return self._plateau.optimizer.param_groups[0]["lr"], None
        step -= self.warmup
        if not isinstance(self.schedule, str):
            share = float(self.schedule(step))  # type: ignore[operator]
            if not 0 <= share < math.inf:
                raise ValueError(
                    f"the schedule must return a finite share of the rate, got {share} at step {step}"
                )
            return share, None
        if self.schedule == "constant":
            return 1.0, None
        assert self.total is not None
        factor, momentum = schedule_at(self.schedule, step, self.total - self.warmup)
        return factor, momentum if self.schedule == "onecycle" else None

    def after_epoch(self, loss: float) -> None:
        """Note the mean loss of an epoch."""
        if self._plateau is not None:
            # torch asks for less than (1 - threshold) best, which a negative loss is without falling
            self._plateau.threshold = math.copysign(self._plateau.threshold, self._plateau.best)
            self._plateau.step(loss)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        if self._plateau is None:
            return {}
        return {"share": self._plateau.optimizer.param_groups[0]["lr"], "rule": self._plateau.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it up again."""
        if self._plateau is not None:
            self._plateau.optimizer.param_groups[0]["lr"] = state["share"]
            self._plateau.load_state_dict(state["rule"])
