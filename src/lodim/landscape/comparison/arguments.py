"""What a comparison is given, checked: data, methods, budgets, and where to train."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from lodim.landscape.comparison.ways import WAYS, Way
from lodim.training import Task
from lodim.validation import check_choice, check_in_range

__all__ = ["as_task", "check_budgets", "choose_ways", "place"]


def as_task(data: Any) -> Task:
    """Return the data as a task.

    Parameters
    ----------
    data : Task, or (X, y, X_val, y_val)

    Raises
    ------
    TypeError
        Something else.
    """
    if isinstance(data, Task):
        return data
    arrays = list(data) if isinstance(data, tuple | list) else None
    if arrays is None or len(arrays) != 4:
        got = type(data).__name__ if arrays is None else f"{len(arrays)} of them"
        raise TypeError(
            f"data must be a Task, or four arrays (X, y, X_val, y_val), got {got}; gather what a loader or a "
            "generator yields into arrays first, since every way passes over the same data many times"
        )
    return Task.from_arrays(*arrays)


def place(task: Task, model: nn.Module | Callable[[], nn.Module], device: torch.device | str | None) -> Task:
    """Return the task where training is to be, in the precision of a given model.

    Parameters
    ----------
    device : torch.device, optional
        By default where a given model is; else the task stays where it is.
    """
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    if first is None:
        return task.to(device or task.device)
    return task.to(device or first.device, first.dtype)


def check_budgets(budget_bytes: Any) -> tuple[int, ...]:
    """Return the budgets in increasing order.

    Parameters
    ----------
    budget_bytes : int or sequence of int

    Raises
    ------
    TypeError
        Not whole numbers.
    ValueError
        None, or one below 1.
    """
    single = isinstance(budget_bytes, str) or not isinstance(budget_bytes, Iterable)
    values: list[Any] = [budget_bytes] if single else list(budget_bytes)
    if not values:
        raise ValueError("budget_bytes must name at least one budget")
    return tuple(sorted({int(check_in_range(v, "budget_bytes", low=1, integer=True)) for v in values}))


def choose_ways(methods: Any) -> Mapping[str, Way]:
    """Return the ways by name.

    Parameters
    ----------
    methods : str, sequence of str or mapping of str to Way, optional
        By default all whose libraries are installed.

    Raises
    ------
    TypeError
        Neither names nor ways.
    ValueError
        An unknown name, or none.
    """
    if methods is None:
        return {name: way for name, way in WAYS.items() if way.available()}
    if isinstance(methods, str):
        methods = [methods]
    if not isinstance(methods, Mapping | Sequence) or isinstance(methods, np.ndarray):
        raise TypeError(
            f"methods must be names of ways or a mapping of names to ways, got {methods!r}; budgets go into "
            "budget_bytes"
        )
    if not methods:
        raise ValueError("methods must name at least one way; leave it out for all")
    if isinstance(methods, Mapping):
        for name, way in methods.items():
            if not isinstance(way, Way):
                raise TypeError(f"methods[{name!r}] must be a Way, got {type(way).__name__}")
        return dict(methods)
    unnamed = [name for name in methods if not isinstance(name, str)]
    if unnamed:
        raise TypeError(
            f"methods must hold names of ways, got {unnamed[0]!r}; budgets go into budget_bytes, ways of your own into "
            "a mapping of names to ways"
        )
    return {check_choice(name, tuple(WAYS), "methods"): WAYS[name] for name in methods}
