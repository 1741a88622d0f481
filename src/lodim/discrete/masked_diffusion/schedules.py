r"""How the share of hidden tokens grows with time: :class:`PowerSchedule`, :class:`CosineSchedule`.

At time t each token is hidden by itself with probability :math:`s_t = 1 - \alpha_t`, from :math:`s_0 = 0` to
:math:`s_1 = 1`.

=========  ==================================
name       :math:`s_t`
=========  ==================================
"linear"   :math:`t`
"cosine"   :math:`\sin(\pi t / 2)`
a power    :math:`t^w`
=========  ==================================

None changes what a network without time can learn: its bound depends on the number of hidden tokens alone.

Source: K. Zheng and others, arXiv 2409.02908, section 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from lodim.validation import check_choice, check_in_range, check_kind

__all__ = ["CosineSchedule", "MaskSchedule", "PowerSchedule"]


@runtime_checkable
class MaskSchedule(Protocol):
    """What a schedule has to say, of times and shares in [0, 1]."""

    def share(self, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Return the share of tokens hidden at a time."""

    def time(self, share: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Return the time at which this share is hidden."""


@dataclass(frozen=True)
class PowerSchedule:
    """Hide a share ``t ** power``; 1, the default, is linear."""

    power: float | int = 1.0

    def __post_init__(self) -> None:
        if not 0 < check_in_range(self.power, "power", low=0) < math.inf:
            raise ValueError(f"power must be positive and finite, got {self.power}")

    def share(self, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Return the share of tokens hidden at a time."""
        return t**self.power

    def time(self, share: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Return the time at which this share is hidden."""
        return share ** (1 / self.power)


@dataclass(frozen=True)
class CosineSchedule:
    """Hide a share ``sin(pi t / 2)``: few tokens are left for the last times of sampling."""

    def share(self, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Return the share of tokens hidden at a time."""
        return torch.sin(math.pi / 2 * t)

    def time(self, share: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Return the time at which this share is hidden."""
        return torch.asin(share) * 2 / math.pi


def schedule_named(schedule: str | MaskSchedule) -> MaskSchedule:
    """Return a schedule by its name, or the one given."""
    if isinstance(schedule, str):
        names: dict[str, MaskSchedule] = {"linear": PowerSchedule(), "cosine": CosineSchedule()}
        return names[check_choice(schedule, tuple(names), "schedule")]
    check_kind(schedule, MaskSchedule, "schedule")
    ends = schedule.share(torch.tensor([0.0, 1.0], dtype=torch.float64))
    if float((ends - torch.tensor([0.0, 1.0])).abs().max()) > 1e-6:
        raise ValueError(
            f"schedule must hide nothing at time 0 and all at time 1, got shares {ends.tolist()}"
        )
    return schedule
