"""Where a descent's batches come from: tensors, data sets, loaders, iterables that never end, or nothing."""

from __future__ import annotations

import functools
import itertools
import math
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, TensorDataset

from lodim.identity import UnidentifiableError, code_hash
from lodim.randomness import derive_seed, torch_generator
from lodim.training.order import epoch_order
from lodim.training.origin import told

__all__ = ["Batches"]

_FUNCTIONS = (types.FunctionType, functools.partial)
_TOLD = (bool, int, float, str, bytes, range, type(None), np.generic, np.ndarray, Tensor, Dataset, Sampler)


class Batches:
    """Passes over data. Tensors and data sets are shuffled anew in every pass; everything else comes as it is.

    The data are as :func:`~lodim.training.descend` takes them. Tensors and data sets are cut by ``batch_size`` and
    ``seed``, and each process takes every ``world``-th row of their batches. ``length``, the batches in a pass, is None
    if nobody knows it or the pass has no end. The caller counts ``passes``, the whole ones made, and ``used``, the
    batches of the present one used up.
    """

    def __init__(
        self, data: Any, batch_size: int, seed: int, device: torch.device, rank: int = 0, world: int = 1
    ) -> None:
        self.seed, self.device, self.rank, self.world = seed, device, rank, world
        self.batch_size, self.passes, self.used, self.n = batch_size, 0, 0, 0
        self._start: list[Tensor] = []
        data = data.tensors if type(data) is TensorDataset else data  # heirs may change what a row is
        self._fields = getattr(data, "_fields", ())  # of a named tuple
        rows = _as_tensors(data)
        if rows is not None or (isinstance(data, Dataset) and not isinstance(data, IterableDataset)):
            self.data = data if rows is None else rows
            self.n = _length(self.data)
            self.length: int | None = math.ceil(self.n / batch_size)
            if self.n == 0:
                raise ValueError("the data have no rows; there is nothing to descend on")
            return
        self.data = DataLoader(data, batch_size=batch_size) if isinstance(data, IterableDataset) else data
        if self.data is not None and not isinstance(self.data, Iterable):
            raise TypeError(
                "data must be tensors, a Dataset, a DataLoader, an iterable of batches or None, got "
                f"{type(data).__name__}"
            )
        self.length = None if self.data is None else _count_or_none(self.data)

    @property
    def identity(self) -> dict[str, str]:
        """What a checkpoint must agree with, by names."""
        if isinstance(self.data, dict):
            return {f"data[{name!r}]": told(rows) for name, rows in self.data.items()}
        if isinstance(self.data, tuple):
            fields = [f"{name} of the data" for name in self._fields]
            names = fields or [f"data[{i}]" for i in range(len(self.data))]
            return {name: told(rows) for name, rows in zip(names, self.data, strict=True)}
        try:
            return {"data": told(_describe(self.data))}
        except UnidentifiableError:  # a list of batches whose contents nobody can tell
            return {"data": told((type(self.data).__qualname__, self.length))}

    @property
    def at_end(self) -> bool:
        """Whether the present pass is known to be over."""
        return self.length is not None and self.used >= self.length

    def __iter__(self) -> Iterator[tuple[tuple[Any, ...], int]]:
        """Yield the rest of the present pass: arguments of the loss, and their number of samples."""
        if self.data is None:
            return itertools.repeat(((), 1))
        return self._of_rows() if self.n else self._of_loader()

    def _of_rows(self) -> Iterator[tuple[tuple[Any, ...], int]]:
        order, rows = epoch_order(self.n, self.seed, self.passes), self.data
        first = next(iter(rows.values())) if isinstance(rows, dict) else rows[0]
        if not isinstance(rows, Dataset):
            order = order.to(first.device)
        # every process has at least one row to run its forward with; one too many counts for nothing
        parts = order.split(self.batch_size)[self.used :]
        mine = parts if self.world == 1 else [part[self.rank :: self.world] for part in parts]
        chosen = [(part, len(part)) if len(part) else (order[:1], 0) for part in mine]
        if isinstance(rows, Dataset):
            # a generator of its own: torch's global one must stand the same whether a pass was resumed or not
            generator = torch_generator(derive_seed(self.seed, "loader", self.passes))
            loader = DataLoader(rows, batch_sampler=[p.tolist() for p, _ in chosen], generator=generator)
            for batch, (_, n) in zip(loader, chosen, strict=True):
                yield _arguments(_to(batch, self.device)), n
        elif isinstance(rows, dict):
            for part, n in chosen:
                yield ({k: v[part].to(self.device) for k, v in rows.items()},), n
        else:
            here = all(t.device == self.device for t in rows)
            for part, n in chosen:
                yield tuple([t[part] if here else t[part].to(self.device) for t in rows]), n

    def _of_loader(self) -> Iterator[tuple[tuple[Any, ...], int]]:
        now = torch.get_rng_state()
        if (
            self.passes
            and getattr(self.data, "persistent_workers", False)
            and getattr(self.data, "_iterator", None) is None
        ):
            # a resumed run: the workers draw a seed when they start, and in later passes no more
            states = [g.get_state() for g in self._generators()]
            iter(self.data)
            for generator, state in zip(self._generators(), states, strict=True):
                generator.set_state(state)
        if self.used:  # a resumed pass: draw the same order again, and drop what was used
            for generator, state in zip(self._generators(), self._start, strict=True):
                generator.set_state(state.cpu())
        else:
            self._start = [g.get_state() for g in self._generators()]
        batches = iter(self.data)
        if self.used:
            next(itertools.islice(batches, self.used - 1, self.used), None)
            torch.set_rng_state(now)
        for batch in batches:
            yield _arguments(_to(batch, self.device)), _count(batch)

    def _generators(self) -> list[torch.Generator]:
        """Torch's global generator, and those that the loader and its samplers have."""
        holders = [self.data, getattr(self.data, "sampler", None), getattr(self.data, "batch_sampler", None)]
        holders.append(getattr(holders[-1], "sampler", None))
        own = {id(g): g for h in holders if isinstance(g := getattr(h, "generator", None), torch.Generator)}
        return [torch.default_generator, *own.values()]

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the data."""
        now = [g.get_state() for g in self._generators()[1:]]
        return {"passes": self.passes, "used": self.used, "start": self._start, "now": now}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.passes, self.used, self._start = state["passes"], state["used"], state["start"]
        for generator, now in zip(self._generators()[1:], state["now"], strict=True):
            generator.set_state(now.cpu())


def _as_tensors(data: Any) -> tuple[Tensor, ...] | dict[str, Tensor] | None:
    """Data that are rows of tensors (or arrays): one, a tuple or a dict of them; None for anything else."""
    kinds = (Tensor, np.ndarray)
    if isinstance(data, kinds):
        return (_as_tensor(data),)
    if isinstance(data, tuple) and data and all(isinstance(v, kinds) for v in data):
        return tuple(map(_as_tensor, data))
    if isinstance(data, dict) and data and all(isinstance(v, kinds) for v in data.values()):
        return {k: _as_tensor(v) for k, v in data.items()}
    return None


def _as_tensor(rows: Tensor | np.ndarray) -> Tensor:
    """Share an array's memory, but copy a read-only one (a memory map, say), which torch takes with a warning only."""
    return torch.as_tensor(np.require(rows, requirements="W") if isinstance(rows, np.ndarray) else rows)


def _describe(data: Any) -> Any:
    """What can be said of a data set, loader or sampler without reading its rows, in things that can be hashed.

    Its class, its length, and those of its attributes that are settings or numbers in memory. Others, such as caches
    and files, are its own business.
    """
    if isinstance(data, DataLoader):
        order = data.sampler if data.batch_sampler is None else data.batch_sampler
        seeds = [
            g.initial_seed()
            for holder in (data, order, getattr(order, "sampler", None))
            if isinstance(g := getattr(holder, "generator", None), torch.Generator)
        ]
        own = data.batch_size, data.drop_last, code_hash(data.collate_fn), seeds
        return "loader", *own, _describe(data.dataset), _describe(order)
    if isinstance(data, Dataset | Sampler):
        held = {name: _describe(value) for name, value in vars(data).items() if _is_told(value)}
        return code_hash(type(data)), _count_or_none(data), held
    if isinstance(data, np.memmap):
        return "on disk", data.dtype.str, data.shape
    if isinstance(data, list | tuple):
        return [_describe(part) if isinstance(part, Dataset | Sampler) else part for part in data]
    if isinstance(data, _FUNCTIONS):
        return code_hash(data)
    return data if isinstance(data, _TOLD) else (type(data).__qualname__, _count_or_none(data))


def _is_told(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(isinstance(part, _TOLD) for part in value)
    return isinstance(value, (*_TOLD, *_FUNCTIONS))


def _count_or_none(data: Any) -> int | None:
    try:
        return len(data)
    except TypeError:  # nobody knows, or there is no end
        return None


def _length(data: Any) -> int:
    if isinstance(data, Dataset):
        return len(data)  # type: ignore[arg-type]
    lengths = [len(t) for t in (data.values() if isinstance(data, dict) else data)]
    if len(set(lengths)) > 1:
        raise ValueError(f"the tensors of the data have different numbers of rows: {lengths}")
    return lengths[0]


def _arguments(batch: Any) -> tuple[Any, ...]:
    return tuple(batch) if isinstance(batch, tuple | list) and not hasattr(batch, "to") else (batch,)


def _to(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if hasattr(batch, "to"):  # packed sequences, tokenised texts, graphs
        return batch.to(device)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*[_to(part, device) for part in batch])
    if isinstance(batch, tuple | list):
        return [_to(part, device) for part in batch]
    return {k: _to(v, device) for k, v in batch.items()} if isinstance(batch, Mapping) else batch


def _count(batch: Any) -> int:
    """Rows of the first tensor found that has any; 1 without."""
    return next((len(t) for t in _all_tensors(batch) if t.ndim), 1)


def _all_tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, tuple | list | Mapping):
        for part in batch.values() if isinstance(batch, Mapping) else batch:
            yield from _all_tensors(part)
