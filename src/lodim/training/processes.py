"""One process, or several that descend together (``accelerate``): each on its rows of a batch, with one gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lodim.validation import require

__all__ = ["Processes"]


class Processes:
    """What processes tell one another by ``accelerate.Accelerator``; nothing where there is but one process (None).

    Gradients are averaged here and not by ``DistributedDataParallel``, which sees only losses that are computed by its
    own forward; a loss here is any function.
    """

    def __init__(self, accelerator: Any) -> None:
        self.accelerator = accelerator
        self.rank: int = 0 if accelerator is None else accelerator.process_index
        self.count: int = 1 if accelerator is None else accelerator.num_processes
        self._utils: Any = None if self.count == 1 else require("accelerate", "accelerate").utils

    @torch.no_grad()
    def share(self, tensors: list[Tensor]) -> None:
        """Give all processes the first one's values."""
        if self.count > 1:
            for tensor in tensors:
                tensor.copy_(self._utils.broadcast(tensor.detach().clone()))

    @torch.no_grad()
    def average(self, parameters: list[Tensor], loss: Tensor, n: int) -> Tensor:
        """Average gradients and loss over all samples, of which this process had n; return the loss."""
        if self.count == 1:
            return loss
        for p in parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        own = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([*(g.reshape(-1) for g in own), loss.detach().reshape(1)])
        # no rows, no part: a factor 0 would leave NaN
        flat = flat * n if n else torch.zeros_like(flat)
        flat = self._utils.reduce(torch.cat([flat, flat.new_full((1,), n)]), "sum")
        flat = flat[:-1] / flat[-1]
        for g, mean in zip(own, flat[:-1].split([g.numel() for g in own]), strict=True):
            g.copy_(mean.view_as(g))
        return flat[-1]

    def numbers(self, n: int, device: torch.device) -> list[int]:
        """Return every process's whole number."""
        return [n] if self.count == 1 else self._utils.gather(torch.tensor([n], device=device)).tolist()

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, in their order."""
        return [value] if self.count == 1 else self._utils.gather_object([value])

    def wait(self) -> None:
        """Go on when all have come so far."""
        if self.count > 1:
            self.accelerator.wait_for_everyone()
