"""How many threads a training run deserves.

A step of a small network is a chain of kernels that last microseconds. Waking a second thread for each costs more than
it saves, and much more where other programs compete for the cores (a profile of the digits on two busy cores took 39 s
of processor time with two threads, 15 s with one): threads that wait for one another burn what the others need.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 100_000  # parameters; kernels of larger networks are long enough to share


@contextmanager
def threads_for(n_parameters: int, device: torch.device) -> Iterator[None]:
    """Compute with one thread inside the block if one network is small and on the CPU; restore the number after."""
    before = torch.get_num_threads()
    if device.type != "cpu" or n_parameters > SMALL or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
