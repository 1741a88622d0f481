"""Randomness that is passed in, never global.

Every public entrance takes ``random_state`` (an int, a ``numpy.random.Generator`` or None). What happens inside
is keyed: the seed of a part is a function of the root seed and of the part's *name*, never of the order in which
parts run, so any number of workers gives the same answer.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

RandomState = int | np.integer | np.random.Generator | None
__all__ = [
    "RandomState",
    "as_generator",
    "build_seeded",
    "derive_seed",
    "forked_torch_rng",
    "root_seed",
    "torch_draws",
    "torch_generator",
]

T = TypeVar("T")

_global_rng = threading.RLock()  # torch has one global generator a process, whatever the number of threads


def _new_lock() -> None:
    global _global_rng
    _global_rng = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)  # the thread that held it is not in the child


def as_generator(random_state: RandomState = None) -> np.random.Generator:
    """Turn a seed, a generator or None into a ``numpy.random.Generator``.

    Parameters
    ----------
    random_state : int, numpy.random.Generator or None
        None draws fresh entropy; a generator is returned as it is (and advances when used).

    Raises
    ------
    TypeError
        For anything else (a legacy ``RandomState`` included).
    """
    if random_state is None:
        return np.random.default_rng()
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        if random_state < 0:
            raise ValueError(f"random_state must be at least 0, got {random_state}")
        return np.random.default_rng(random_state)
    if isinstance(random_state, np.random.Generator):
        return random_state
    raise TypeError(
        f"random_state must be an int, a numpy.random.Generator or None, got {type(random_state).__name__}"
    )


def root_seed(random_state: RandomState = None) -> int:
    """One 32-bit root seed: the int itself, or a draw from the generator (or from fresh entropy)."""
    generator = as_generator(random_state)
    return int(random_state) if isinstance(random_state, int | np.integer) else int(generator.integers(2**31))


def derive_seed(seed: int | np.integer, *key: object) -> int:
    """Return a 31-bit seed that depends on the root seed and on a key, the same on every machine.

    Parameters
    ----------
    seed : int
        Root seed.
    *key : object
        What the seed is for, e.g. ``derive_seed(0, "projection", d, replica)``; compared by ``repr``, a NumPy number as
        the plain one.
    """
    key = tuple(part.item() if isinstance(part, np.generic) else part for part in key)
    digest = hashlib.blake2b(repr((int(seed), key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 33


def torch_generator(seed: int | np.integer) -> Any:
    """Return a CPU ``torch.Generator`` with this seed (always CPU, so CPU and GPU runs agree)."""
    import torch

    return torch.Generator().manual_seed(int(seed))


def torch_draws(generator: Any) -> Any:
    """Return the generator of torch to draw from: the one given, a new one of a seed (int, NumPy generator), or None.

    None is torch's global one.
    """
    import torch

    given = generator is None or isinstance(generator, torch.Generator)
    return generator if given else torch_generator(root_seed(generator))


@contextmanager
def forked_torch_rng(seed: int | np.integer, device: Any = None) -> Iterator[None]:
    """Run a block under a seeded global torch generator and restore its former state afterwards.

    For code we do not own (a user's model factory, ``nn.Module`` initialisers, dropout) that draws from the global one.
    Threads that want it wait for each other: only one at a time can draw from its own seed.

    Parameters
    ----------
    device : torch.device, optional
        Whose generator is seeded and restored as well, if it is a GPU.
    """
    import torch

    cuda = [device] if device is not None and device.type == "cuda" else []
    with _global_rng, torch.random.fork_rng(devices=cuda):
        torch.random.default_generator.manual_seed(int(seed))
        for gpu in cuda:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(int(seed))
        yield


def build_seeded(factory: Callable[[], T], seed: int | np.integer) -> T:
    """Call ``factory()`` (e.g. a model's constructor) with its random draws fixed by ``seed``.

    Parameters
    ----------
    factory : callable
        Takes no arguments.
    """
    with forked_torch_rng(seed):
        return factory()
