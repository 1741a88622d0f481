r"""Averages of weights over a run: :class:`ExponentialMovingAverage`.

After a step with b samples :math:`\bar\theta \leftarrow \beta\bar\theta + (1 - \beta)\theta`, where the half-life H is
counted in samples, so that it means the same for every batch size, and is shorter at the start, where the weights are
still far from anything worth keeping: with n samples seen before,

.. math:: \beta = 2^{-b / \min(H,\ 0.05\, n)} .

The first step thus sets the average to the weights themselves. Source: T. Karras and others, arXiv 2206.00364 (the
rule of its public training code).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lodim.validation import check_in_range, checked

__all__ = ["ExponentialMovingAverage"]

_RAMP = 0.05  # of the samples seen


@checked
class ExponentialMovingAverage:
    """An average of a module's parameters, to be handed to :func:`~lodim.training.descend` or updated by hand.

    All parameters are averaged, frozen ones too, in float32 at least, since small steps vanish in shorter formats. A
    module's buffers (running statistics) are not averaged. ``half_life`` and ``seen`` count samples.
    """

    def __init__(self, parameters: nn.Module | Iterable[Tensor], half_life: float | int) -> None:
        if not check_in_range(half_life, "half_life", low=0.0) > 0:
            raise ValueError(f"half_life must be positive, got {half_life}")
        tensors = parameters.parameters() if isinstance(parameters, nn.Module) else parameters
        tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
        if odd := [p for p in tensors if not isinstance(p, Tensor)]:
            raise TypeError(f"parameters must be a module or tensors, got {type(odd[0]).__name__}")
        self.half_life, self.seen, self.parameters = float(half_life), 0, tensors
        self.averages = [_wide(p.detach()).clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, n_samples: int = 1) -> None:
        """Take in the present parameters after a step with so many samples."""
        half_life = min(self.half_life, _RAMP * self.seen)
        beta = 0.5 ** (n_samples / half_life) if half_life > 0 else 0.0
        self.seen += n_samples
        pairs = list(zip(self.averages, [_wide(p.detach()) for p in self.parameters], strict=True))
        floating = [(a, p) for a, p in pairs if a.is_floating_point() or a.is_complex()]
        if floating:
            get_ema_multi_avg_fn(beta)(*map(list, zip(*floating, strict=True)), self.seen)
        for average, p in pairs:
            if not average.is_floating_point() and not average.is_complex():
                average.copy_(p)

    @contextmanager
    def average_parameters(self) -> Iterator[None]:
        """Inside the block the parameters are their averages; afterwards they are what they were."""
        former = [p.detach().clone() for p in self.parameters]
        self._write(self.averages)
        try:
            yield
        finally:
            self._write(former)

    @torch.no_grad()
    def _write(self, values: list[Tensor]) -> None:
        for p, value in zip(self.parameters, values, strict=True):
            p.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages and the samples seen."""
        return {"averages": self.averages, "seen": self.seen, "half_life": self.half_life}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up saved averages; those of another half-life, or of other parameters, are a ValueError."""
        if state["half_life"] != self.half_life:
            raise ValueError(f"saved with half_life={state['half_life']}, but this has {self.half_life}")
        shapes = [[tuple(a.shape) for a in averages] for averages in (state["averages"], self.averages)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"saved averages have shapes {shapes[0]}, but these parameters {shapes[1]}")
        self.seen = state["seen"]
        for average, saved in zip(self.averages, state["averages"], strict=True):
            average.copy_(saved)


def _wide(p: Tensor) -> Tensor:
    return p.float() if p.dtype in (torch.bfloat16, torch.float16) else p
