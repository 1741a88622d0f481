"""What identifies a training run besides its trial: data, functions and their code, for the store of finished runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import CodeType
from typing import Any

import torch
from torch import Tensor

from lodim.training import Task

__all__ = ["as_arrays", "identity", "task_tensors", "update_hash"]


def task_tensors(task: Task | None) -> tuple[Tensor, ...]:
    """Return a task's data."""
    return () if task is None else (task.X, task.y, task.X_val, task.y_val)


def update_hash(digest: Any, tensors: Iterable[Tensor]) -> None:
    """Add the bytes of tensors, of any dtype and on any device, to a hash."""
    for tensor in tensors:
        numbers = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(numbers.view(torch.uint8).numpy().tobytes())


def as_arrays(value: Any) -> Any:
    """Return (nested) tensors as arrays, whose pickles are the same whenever their numbers are."""
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, tuple | list):
        return [as_arrays(item) for item in value]
    if isinstance(value, dict):
        return {key: as_arrays(item) for key, item in value.items()}
    return value


def identity(function: Callable[..., Any]) -> str:
    """Return name and code of a function: a changed body is another one, changed callees and closures go unnoticed."""
    code = getattr(function, "__code__", None)
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    return name if code is None else f"{name}:{_code(code)}"


def _code(code: CodeType) -> str:
    constants = [_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return repr((code.co_code.hex(), code.co_names, constants))
