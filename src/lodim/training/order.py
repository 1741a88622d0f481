"""The order in which samples are visited: one permutation an epoch, a pure function of the seed."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from lodim.randomness import derive_seed, torch_generator

__all__ = ["epoch_order"]


def epoch_order(n_samples: int, seed: int, epoch: int) -> Int[Tensor, " n"]:
    """Return the permutation of one epoch, on the CPU.

    Each epoch (from 0) has a key of its own, so that a resumed run needs no generator's state.
    """
    return torch.randperm(n_samples, generator=torch_generator(derive_seed(seed, "order", epoch)))
